// SPDX-License-Identifier: Apache-2.0
/*
 * Mirrors at run time: what moves the data of a relationship of SyncType 6 is made what its row says, and what it tells becomes
 * state.
 *
 * Thread:    control.
 * Ownership: a struct mirror_run is owned by struct mirrors until its driver's end() has called back.
 * Errors:    array_done_fn gets a struct error, or NULL when all went well.
 *
 * Records first: an operation writes the row that is wanted and calls mirror_apply(); after the commit the driver is told, and the
 * answer of the call waits until it is so. After a start it is told the same, so whatever was interrupted goes on. A mirror is
 * applied to one row at a time; of several that come meanwhile, the last counts.
 *
 *     operation ──▶ row ──commit──▶ mirror_apply() ──▶ driver.apply()     engine
 *     row, job ◀── event ◀── mirror_told() ◀──────────────────────────────┘
 */
#ifndef SERVICE_MIRRORS_H
#define SERVICE_MIRRORS_H

#include "base/list.h"
#include "hosting/array.h"
#include "replication/mirror.h"
#include "service/control.h"
#include "service/replica_states.h"
#include "store/replica.h"
#include "store/volume.h"

struct mirrors;
struct mirror_run;

/* What an operation would move, at most; UINT64_MAX: nobody knows. */
struct mirror_would {
    uint64_t bytes;
    uint64_t discarded; /* of the side that is overwritten */
    const char *reason; /* of struct DryRun */
};

/* What moves data: one for each engine. */
struct mirror_driver {
    const char *name;
    /* Makes it what run->want says: connected (or trying to) when replica_mirror_connected(), and not writing to the target any more when
     * not; what hosts may write to is settled. done comes once, perhaps inside the call. */
    void (*apply)(struct mirror_run *run, array_done_fn done, void *arg);
    /* Of a connected one: until both sides are equal and nothing is written any more; timeout when that takes longer, and then it is
     * connected still. guard: hosts of the source may only read from the beginning. */
    void (*split)(struct mirror_run *run, bool guard, uint64_t timeout_ms, array_done_fn done,
                  void *arg);
    /* Of several of the same driver: at one moment, all of them or none (replication/mirror.h, mirror_part_together()); done comes once, later.
     * Whose guard or connection may be another one afterwards is applied again by the caller. NULL: it has no such thing. */
    void (*split_at_once)(struct mirror_run *const *runs, size_t n, bool guard,
                          mirror_together_fn done, void *arg);
    /* The volume is to be opened: what is to stand between it and its layers. False: nothing. */
    bool (*filter)(struct mirror_run *run, const struct volume_row *volume,
                   struct array_filter *ret_filter);
    /* Nothing of it is left when done is called; forget: its files neither. */
    void (*end)(struct mirror_run *run, bool forget, loop_fn done, void *arg);
    /* Looks how much differs now; then would_move() knows. done may come inside the call. */
    void (*look)(struct mirror_run *run, loop_fn done, void *arg);
    /* To the target, or back. false: it does not run. */
    bool (*would_move)(const struct mirror_run *run, bool back, struct mirror_would *ret_would);
};
extern const struct mirror_driver mirror_sync_driver;
extern const struct mirror_driver mirror_async_driver;

struct mirror_run {
    struct list link;
    struct mirrors *mirrors;
    struct control *control;
    struct sync_row want; /* as it was committed last */
    const struct mirror_driver *driver;
    void *state;       /* the driver's */
    uint32_t revision; /* what is told is of this one: set by the driver before it connects */
    /* mirrors.c's own */
    bool applying;
    bool again;
    bool splitting;
    bool split; /* and parted: until the operation has said what comes */
    struct loop_timer split_timer;
    bool ending;
    bool gone;
    bool forget;
    struct list gates;
};

/* From drivers: what a mirror told. Becomes CopyState, progress of the job, and what readers see. */
void mirror_told(struct mirror_run *run, const struct mirror_progress *progress,
                 const struct error *error);
/* The same for readers alone: nothing has happened. */
void mirror_numbers(struct mirror_run *run, const struct mirror_progress *progress);
/* From drivers: the map is there, and says what differs. */
void mirror_map_kept(struct mirror_run *run);
/* From drivers: what hosts changed on the target is in the map of the source. */
void mirror_target_merged(struct mirror_run *run);

/* ---- in a transaction ---- */

/* The row was stored: the driver follows, and the answer waits. */
void mirror_apply(struct call *call, const struct sync_row *sync);
/* The relationship is gone; its maps go. */
void mirror_remove(struct call *call, const struct sync_row *sync);

/* ---- at run time ---- */

/* NULL: none runs. */
struct mirror_run *mirror_run_find(struct control *control, const char *sync_id);
/* One after the other, from NULL to NULL. */
struct mirror_run *mirror_run_next(struct control *control, const struct mirror_run *run);
/* It is being made what its row says, or parted: what is asked of its volumes now would not come after that. */
bool mirror_run_busy(struct control *control, const char *sync_id);
/* For hosted volumes that are opened: what stands between them and their layers, to be free()d. */
size_t mirrors_filters(struct control *control, const struct volume_row *volume,
                       struct array_volume_filter **ret_filters);

int mirrors_new(struct control *control, struct mirrors **ret_mirrors);
void mirrors_free(struct mirrors *mirrors);
/* Before volumes are opened: reads which mirrors there are. */
int mirrors_load(struct mirrors *mirrors);
/* Once they are open: files of maps that nobody has are removed, and mirrors go on. */
void mirrors_begin(struct mirrors *mirrors);
/* Hosts are logged out: all legs are closed when done is called. */
void mirrors_stop(struct mirrors *mirrors, loop_fn done, void *arg);

/* How a mirror gets at its target: the records are asked at each open. */
struct block_opener *mirror_leg_opener(struct control *control, const char *sync_id,
                                       const char *volume_id);

/* "{pool directory of the volume}/{sync id}.{generation}{kind}.map"; kind "" or "t". -ENOENT when the volume is not hosted. */
int mirror_map_path(struct control *control, const char *volume_id, const struct sync_row *sync,
                    const char *kind, char *ret_path, size_t size);

#endif
