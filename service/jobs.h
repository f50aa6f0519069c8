// SPDX-License-Identifier: Apache-2.0
/*
 * Jobs: what was promised with 4096, and the copies that keep the promise.
 *
 * Thread:    control.
 * Ownership: rows are values; running copies are kept in struct jobs until they have ended.
 * Errors:    call->error, as handlers do.
 *
 * A copy belongs to a relationship and was started by a job. The job ends when each of its relationships has
 * reached the state that was waited for (without WaitForCopyState: the end of the copy); copies go on by themselves when
 * that was an early state. Rows are changed in the transaction of a call or an event, running copies only in effects.
 *
 *     job:  2 New ──▶ 4 Running ◀──▶ 5 Suspended
 *              │          │  └──▶ 6 Shutting Down ──▶ 8 Terminated, 9 Killed
 *              └──────────┴──▶ 7 Completed, 10 Exception
 */
#ifndef SERVICE_JOBS_H
#define SERVICE_JOBS_H

#include "service/control.h"
#include "service/enums.h"
#include "store/job.h"
#include "store/replica.h"
#include "store/volume.h"

bool job_state_ended(uint32_t state);

/* copy_row.state */
enum copy_row_state {
    COPY_ROW_QUEUED = 1, /* waits for its turn, also again after a restart */
    COPY_ROW_RUNNING = 2,
    COPY_ROW_SUSPENDED = 3,
    COPY_ROW_DONE = 4,
    COPY_ROW_CANCELLED = 5,
    COPY_ROW_BROKEN = 6,
};
bool copy_row_active(uint32_t state); /* queued, running or suspended */

int jobs_new(struct control *control, struct jobs **ret_jobs, struct error *error);
/* Copies that a stop or a crash has interrupted go on. */
void jobs_begin(struct jobs *jobs);
void jobs_free(struct jobs *jobs);
/* Brings all copies to a last checkpoint, then calls done; bounded in time. */
void jobs_stop(struct jobs *jobs, loop_fn done, void *arg);
/* Copies that have not come to their end yet. */
unsigned jobs_running(const struct jobs *jobs);
/* The stop did not wait for all of them: what they use must live to the end of the process. */
bool jobs_stop_timed_out(const struct jobs *jobs);
/* Removes jobs that ended long ago; in a transaction. 0 or what the store said. */
int jobs_expire(struct call *call, uint64_t now_ms);

struct job_new {
    const char *name;         /* the method */
    const char *owner;        /* the service */
    const char *element_name; /* what the client called it, or "" */
    uint32_t copy_priority;
    uint64_t bandwidth_limit;
    uint32_t wait_for_copy_state; /* 0: none */
    uint32_t operation;           /* 0: a creation */
    bool continue_on_error;
};
/* A job in state New; it starts after the commit. */
int job_create(struct call *call, const struct job_new *wanted, struct job_row *ret_job);
/* Of a CopyPriority: 0 Not Managed counts as 2 Same. */
uint32_t job_urgency(uint32_t copy_priority);
/* A copy for it: all of from onto to (the other way round for Restore). Sets sync->job_id; the caller updates the row. */
int job_add_copy(struct call *call, const struct job_row *job, uint32_t position,
                 struct sync_row *sync, const struct volume_row *from, const struct volume_row *to);
int job_add_element(struct call *call, const struct job_row *job, const char *collection, const char *id,
                    uint32_t effect);
/* The last step: out parameter Job, ReturnValue 4096, Location; what the job will show as JobOutParameters is taken from
 * call->outs. */
int job_started(struct call *call, const struct job_row *job);

/*
 * For a call that does to several relationships what is done to one elsewhere, in one step: from here on its jobs are one (the first that
 * is created or gone on with); job_batch_end() is its last step, and does nothing when there is no job.
 */
void job_batch_begin(struct call *call);
int job_batch_end(struct call *call);
/* Not to be reviewed yet: more copies may come. */
bool job_batch_has(const struct call *call, const char *job_id);

/* The relationship goes, and with it volumes that were registered for it only (Persistent false). */
int sync_remove(struct call *call, const struct sync_row *sync);
/* The copy that works on the relationship now: -ENOENT when none. */
int sync_running_copy(struct db *db, const char *sync_id, struct copy_row *ret_copy);

/*
 * What operations do to the copy of a relationship. CALL_PENDING: it is under way, and the call comes back with step once
 * the copy rests (suspended at a checkpoint; stopped: devices closed, row and relationship recorded). 0: nothing runs; the
 * copy's row has been changed in the call's transaction.
 */
int sync_copy_suspend(struct call *call, struct copy_row *copy, method_fn step);
int sync_copy_resume(struct call *call, struct copy_row *copy);
int sync_copy_stop(struct call *call, const char *sync_id, method_fn step);
/* After a copy of it was stopped: the job sees what became of it. */
int job_review(struct call *call, const char *job_id);

/* Starts copies that can run now, soon: one has ended, or a volume was opened; on control. */
void jobs_kick(struct jobs *jobs);

/* Of the running copy of a relationship, if there is one; in effects. */
void jobs_set_limits(struct jobs *jobs, const char *sync_id, uint32_t priority,
                     uint64_t bandwidth_limit);

#endif
