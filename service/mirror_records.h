// SPDX-License-Identifier: Apache-2.0
/*
 * Mirrors as records: their jobs, and what they tell, in transactions.
 *
 * Thread:    control.
 * Ownership: rows are values.
 * Errors:    call->error, as handlers do.
 *
 * The job of a mirror has a row in copies like others (mirrored): it is done when both sides are equal. A mirror that goes on by
 * itself after its target was away has no job.
 */
#ifndef SERVICE_MIRROR_RECORDS_H
#define SERVICE_MIRROR_RECORDS_H

#include "service/jobs.h"
#include "service/mirrors.h"

/* As it travels into a transaction. */
struct mirror_event {
    char sync_id[ID_SIZE];
    uint32_t
        revision; /* of the row, or of its map (mirror_map_kept_event, mirror_target_merged_event) */
    struct mirror_progress progress;
    struct error error;
};
int mirror_told_event(struct call *call);
int mirror_map_kept_event(struct call *call);
int mirror_target_merged_event(struct call *call);

/* What readers see of it from now on. */
void mirror_publish(struct control *control, const struct sync_row *sync,
                    const struct mirror_progress *progress);

/* Data begins to flow, with progress_status, for a job of the call: the row becomes that and is stored; the caller then applies it. */
int mirror_flows(struct call *call, struct sync_row *sync, uint32_t progress_status,
                 bool from_target);
/* Does a job of it run or rest now? It ends as copy_state says (enum copy_row_state), and is looked at again. */
int mirror_job_end(struct call *call, struct sync_row *sync, uint32_t copy_state,
                   const struct error *error);
/* Somebody has ended its job: the mirror rests as Aborted. */
int mirror_job_terminated(struct call *call, struct copy_row *copy);

/* Who may write to which side follows from the state: the rows of both volumes. */
int mirror_guard_volumes(struct call *call, const struct sync_row *sync);
/* Hosts of the source wait, whatever the state says, until the next mirror_guard_volumes(). */
int mirror_guard_source(struct call *call, const struct sync_row *sync);

/* The relationship is gone: both sides are volumes like others. */
int mirror_ended(struct call *call, const struct sync_row *sync);

/* A call waits, before it changes anything: CALL_PENDING, and step runs with *ret_error when both sides are equal and parted, or could
 * not be. */
int mirror_split_first(struct call *call, const struct sync_row *sync, bool guard,
                       uint64_t timeout_ms, struct error *ret_error, method_fn step);
/* The same for several: all are asked before one of them begins, and step runs when the last one has ended. */
struct mirror_part {
    const struct sync_row *sync;
    struct error *ret_error; /* alive until step runs */
};
int mirror_split_together(struct call *call, const struct mirror_part *parts, size_t n, bool guard,
                          uint64_t timeout_ms, method_fn step);

/*
 * Of synchronous ones: all at one moment, or none; then step runs, at once if it has to. The operation has to come to its commit while
 * mirror_is_parted() for all of them, or says why not.
 */
struct mirror_moment {
    struct error error;       /* ERR_NONE: all are parted, and every target is flushed */
    char culprit_id[ID_SIZE]; /* whose error that is */
    uint64_t pause_us;        /* how long writes waited */
};
int mirror_split_at_once(struct call *call, const struct sync_row *const *syncs, size_t n,
                         bool guard, struct mirror_moment *ret_moment, method_fn step);
/* It was parted for an operation, and nothing else has happened to it since. */
bool mirror_is_parted(struct control *control, const char *sync_id);

/* The content of the volume is to be another one, or its size: in_use while a mirror of it is connected; else all of it is marked, in a
 * map of another generation. */
int mirror_content_changes(struct call *call, const char *parameter,
                           const struct volume_row *volume);

#endif
