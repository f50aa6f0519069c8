// SPDX-License-Identifier: Apache-2.0
/*
 * What the parts of a mirror share on its data loop: phases (mirror_core.c), the leg (mirror_leg.c), host requests
 * (mirror_dev.c), copying (mirror_copy.c). The owner's half is mirror.c.
 *
 * Thread:    the data loop.
 * Ownership: the core belongs to struct mirror, and is freed when it has ended.
 * Errors:    see mirror.h.
 */
#ifndef REPLICATION_MIRROR_PRIVATE_H
#define REPLICATION_MIRROR_PRIVATE_H

#include "base/list.h"
#include "replication/change_map.h"
#include "replication/mirror.h"
#include "replication/mirror_together.h"
#include "replication/throttle.h"
#include "replication/window.h"
#include "replication/zero_pace.h"
#include "replication/zero_scan.h"

enum { MIRROR_CHUNK_BYTES = 256 << 10, MIRROR_CHUNKS_MAX = 64, MIRROR_RUNS = 4 };

/* A range that somebody writes or copies; in order of arrival. Whoever overlaps an earlier one waits for it. */
struct mirror_lock {
    struct list link;
    struct list ready; /* blocked no longer, about to go on */
    uint64_t begin, end;
    unsigned blockers; /* earlier ones that overlap */
    unsigned waiters;  /* later ones that count this one */
    struct mirror_chunk *chunk;
};

/* A host request, or (req NULL) a flush of our own. */
struct mirror_op {
    struct mirror_lock lock;
    struct list link; /* in queue or spare */
    struct mirror_core *core;
    struct block_req *req;
    struct block_req below, leg;
    struct change_mark mark;
    uint64_t deadline_ns; /* of waiting for the leg; 0 none yet */
    unsigned outstanding;
    unsigned epoch;        /* of the leg's session */
    unsigned source_epoch; /* and of the source's */
    int below_status, leg_status;
    bool on_leg;
    bool token;   /* this flush counts */
    bool settles; /* a write with FUA that missed the leg in a restore: now like a flush */
    uint64_t gen; /* own flush: what it covers */
    struct mirror_part *part; /* mirror_restore.c */
};

/* A range of granules on its way from one side to the other. */
struct mirror_chunk {
    struct mirror_lock lock;
    struct list link; /* free */
    struct mirror_core *core;
    uint64_t offset, len;
    bool stale; /* from the leg */
    bool writing;
    bool hard;    /* host writes wait for it from the start */
    bool spoiled; /* a host write went by while it was read: not written */
    bool failed;
    bool zone; /* its maps are asked (mirror_zone.c) */
    unsigned epoch, source_epoch;
    unsigned outstanding;
    uint64_t started_ns;
    uint8_t *data;
    struct slice slices[MIRROR_RUNS];
    struct block_req reqs[MIRROR_RUNS];
    struct zero_run runs[MIRROR_RUNS];
};

/* What the maps of both sides say of a zone, and the zeros that are sent for it. */
enum { MIRROR_ZONE_EXTENTS = 256, MIRROR_ZONE_ZEROS = 8 };
struct mirror_zone {
    struct block_extent from[MIRROR_ZONE_EXTENTS], to[MIRROR_ZONE_EXTENTS];
    struct block_req zeros[MIRROR_ZONE_ZEROS];
    unsigned n_zeros;
    uint64_t sum; /* of the zeros */
};

enum leg_state { LEG_CLOSED, LEG_OPENING, LEG_OPEN, LEG_CLOSING };
enum hold { HOLD_NONE, HOLD_SPLIT, HOLD_TURN };
enum leaving { LEAVING_NO, LEAVING_DRAIN, LEAVING_FLUSH, LEAVING_CLOSE };

/* A verb that is answered later. */
struct mirror_verb {
    struct list link;
    mirror_done_fn done;
    void *arg;
};

struct mirror_core {
    struct loop *loop;
    struct mirror *mirror;
    struct mirror_spec spec;
    unsigned phase; /* enum mirror_phase */
    enum mirror_direction direction;

    struct change_map *map;
    bool map_opening, map_failed, map_closing;
    struct error map_error;

    /* What is wanted. */
    bool started, goal, ending, remove_map, has_ended;
    bool turning;     /* to FROM_LEG, once no write is under way */
    bool flip_untold; /* a restore is done, and the owner may not know it yet */
    enum leaving leaving;
    bool leave_for_split;
    struct list disconnects;   /* verbs */
    struct list marks_waiting; /* for the map */
    unsigned markings;
    bool connect_next; /* after that */
    enum mirror_direction connect_direction;
    bool split_wanted, split_flushing;
    uint64_t split_at_ns; /* its deadline */
    mirror_done_fn split_done;
    void *split_arg;
    struct mirror_member *member; /* of several that part together; NULL: alone */
    bool unflushed;               /* leaving: the leg did not take the last flush */

    /* The leg. */
    enum leg_state leg_state;
    struct block_opener *next_leg; /* takes its place when it is closed */
    struct blockdev *leg;
    bool leg_up; /* as its events tell */
    bool leg_cancelled;
    bool leg_bad;          /* to be closed before it is used again */
    bool connected;        /* writes go there */
    bool was_connected;    /* since the last order to connect */
    unsigned epoch;        /* counts losses */
    unsigned source_epoch; /* the same of the source */
    unsigned leg_inflight;
    uint64_t hold_until_ns, backoff_ns;
    uint64_t attempts;
    char last_error[480];
    uint64_t last_error_ms;
    struct error error; /* of BROKEN */
    bool has_error;

    /* The device. */
    struct mirror_dev *dev;
    struct blockdev *below;  /* NULL: no device */
    bool dev_closing;        /* nothing waits for the gate any more */
    bool below_closing;      /* nothing of ours goes there any more */
    unsigned below_inflight; /* of ours: copying, own flushes */
    struct list locks;
    struct list queue; /* host requests that wait for the gate */
    struct list spare;
    unsigned n_writes; /* host writes that hold a lock */
    unsigned n_both;   /* those that went to both sides, and have not ended on both */
    enum hold hold;
    bool below_zero_unsupported, leg_zero_unsupported;
    bool below_map_unusable, leg_map_unusable;

    /* Flushes of our own. */
    struct mirror_op *flush; /* under way */
    uint64_t need_gen, have_gen;
    bool flush_failed;
    bool flush_waits; /* for one of the host's to end */
    uint64_t flush_retry_ns;
    bool tidy_wanted; /* flush, and take marks back */

    /* Copying. */
    struct mirror_chunk *chunks;
    uint8_t *buffers;
    struct list chunks_free;
    unsigned n_chunks; /* in hand */
    uint64_t cursor;
    uint64_t spoiled_at;
    unsigned spoils;
    struct mirror_zone *zone; /* with the buffers */
    bool zone_busy;
    uint64_t zone_bytes;                     /* the next one is not longer */
    uint64_t plain_begin, plain_end;         /* what is marked here is read, not asked about */
    uint64_t plain_bytes;                    /* so far at least, after an answer without zeros */
    struct zero_pace zero_pace;              /* of a batch */
    uint64_t copy_retry_ns, copy_backoff_ns; /* after the source could not be read */
    struct window window;
    struct throttle throttle;
    struct loop_timer copy_timer;
    bool pumping;

    uint64_t total_bytes, copied_bytes, zeroed_bytes, written_bytes;
    uint64_t rated_ns, rated_bytes;
    double rate;

    struct loop_timer tick;
    uint64_t reported_ns;
    struct loop_task step_task;
    bool step_queued;
};

/* ---- mirror_core.c ---- */

struct mirror_core *mirror_core_new(struct loop *loop, struct mirror *mirror,
                                    const struct mirror_spec *spec);
void mirror_core_free(struct mirror_core *core);
void mirror_core_start(struct mirror_core *core);
void mirror_core_connect(struct mirror_core *core, enum mirror_direction direction);
void mirror_core_disconnect(struct mirror_core *core, mirror_done_fn done, void *arg);
/* member: of several (mirror_together.h); NULL: alone. */
void mirror_core_split(struct mirror_core *core, struct mirror_member *member, uint64_t timeout_ms,
                       mirror_done_fn done, void *arg);
/* Nothing differs but what is on its way. */
bool mirror_core_is_equal(const struct mirror_core *core);
/* So it is, and both were flushed since that was asked first; or they are being flushed, and a step comes. */
bool mirror_core_is_flushed(struct mirror_core *core);
/* Writes wait until mirror_core_part(), which parts the two sides, or (error) lets go with that. */
void mirror_core_hold(struct mirror_core *core);
void mirror_core_part(struct mirror_core *core, const struct error *error);
void mirror_core_set_limits(struct mirror_core *core, unsigned priority, uint64_t bandwidth_limit);
void mirror_core_end(struct mirror_core *core, bool remove_map);

/* Something happened: looks what comes next, later. */
void mirror_kick(struct mirror_core *core);
void mirror_note(struct mirror_core *core, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The one place that changes the phase; it is told at once. */
void mirror_move(struct mirror_core *core, enum mirror_phase phase);
/* Reports what changed, at once. */
void mirror_report(struct mirror_core *core);
/* Regular work is needed. */
void mirror_tick_soon(struct mirror_core *core);

/* ---- mirror_leg.c ---- */

#define MIRROR_BACKOFF_MIN_NS (100 * MS_NS)

/* Unless it is to be left alone for a while. */
void mirror_leg_open(struct mirror_core *core);
/* Or gives up opening it. */
void mirror_leg_close(struct mirror_core *core);
/* It is open and up, and nothing says to leave it alone for a while. */
bool mirror_leg_is_usable(const struct mirror_core *core);
void mirror_leg_free(struct mirror_core *core);
void mirror_core_set_leg(struct mirror_core *core, struct block_opener *leg);
/* A request at the leg failed, in the session epoch. */
void mirror_leg_failed(struct mirror_core *core, unsigned epoch, const struct block_req *req);
/* The source may have lost what was not flushed. */
void mirror_below_lost(struct mirror_core *core);
/* A request below failed. */
void mirror_below_failed(struct mirror_core *core, const struct block_req *req);

/* ---- mirror_mark.c ---- */

void mirror_core_mark(struct mirror_core *core, uint64_t offset, uint64_t len, mirror_done_fn done,
                      void *arg);
/* The map is open: those that waited for it go on; or it never will be. */
void mirror_marks_begin(struct mirror_core *core);
void mirror_marks_fail(struct mirror_core *core, const struct error *error);

/* ---- mirror_dev.c ---- */

/* What waited for the gate (the map, a hold, the leg) tries again, or ends. */
void mirror_queue_go(struct mirror_core *core);
/* False: it overlaps, and goes on later (mirror_chunk_locked(), or as a write). */
bool mirror_lock_add(struct mirror_core *core, struct mirror_lock *lock);
void mirror_lock_remove(struct mirror_core *core, struct mirror_lock *lock);
/* The first lock that overlaps, or NULL. */
struct mirror_lock *mirror_lock_find(struct mirror_core *core, uint64_t begin, uint64_t end);
/* Flushes both sides, so that have_gen reaches what need_gen is now; does nothing when one is under way. */
void mirror_flush(struct mirror_core *core);
void mirror_flushed(struct mirror_core *core, uint64_t gen, bool flushed);
void mirror_dev_step(struct mirror_core *core);
void mirror_ops_free(struct mirror_core *core);

enum mirror_gate { MIRROR_GATE_OPEN, MIRROR_GATE_WAIT, MIRROR_GATE_LEG, MIRROR_GATE_FAIL };
/* A request that needs the leg for now: goes on when it is there, or fails in the end. */
enum mirror_gate mirror_gate_leg(const struct mirror_core *core);
/* A read or map query of stale granules, or one that failed there, begins again. */
void mirror_op_again(struct mirror_op *op);
/* Ends an op that holds no lock, later. */
void mirror_op_refuse(struct mirror_op *op, int status);
/* Ends it now. */
void mirror_op_finish(struct mirror_op *op, int status);

/* ---- mirror_restore.c ---- */

/* A restore is under way: the leg is right where granules are stale, and nothing may be promised without it. */
bool mirror_is_restoring(const struct mirror_core *core);
bool mirror_reads_stale(const struct mirror_op *op);
/* Reads run by run, from where it is right. */
void mirror_restore_read(struct mirror_op *op);
void mirror_restore_map(struct mirror_op *op);
/* What is behind the range may be stale. */
void mirror_restore_map_cut(struct mirror_op *op);
/* The granules that a write covers in part are brought over first: true if that is not needed (any more), else mirror_write_fetched()
 * or mirror_write_unfetched() is called. */
bool mirror_restore_fetch(struct mirror_op *op);
void mirror_write_fetched(struct mirror_op *op);
void mirror_write_unfetched(struct mirror_op *op, int status);

/* ---- mirror_copy.c ---- */

void mirror_copy_init(struct mirror_core *core);
void mirror_copy_pump(struct mirror_core *core);
void mirror_chunk_locked(struct mirror_chunk *chunk);
void mirror_copy_set_limits(struct mirror_core *core);
/* Gives the buffers back, when nothing is in hand. */
void mirror_copy_rest(struct mirror_core *core);
/* Nothing is marked and nothing in hand. */
bool mirror_copy_is_done(const struct mirror_core *core);
void mirror_chunk_submit(struct mirror_chunk *chunk, struct block_req *req, bool at_leg);
void mirror_chunk_back(struct mirror_chunk *chunk, const struct block_req *req, bool at_leg);
/* It was begun in this session of both sides. */
bool mirror_chunk_counts(const struct mirror_chunk *chunk);
void mirror_chunk_end(struct mirror_chunk *chunk);

/* ---- mirror_zone.c ---- */

enum mirror_zone_use { MIRROR_ZONE_NO, MIRROR_ZONE_YES, MIRROR_ZONE_WAIT };
/* Whether maps are asked about what follows run, which is made as long as that is. WAIT: they are being asked. */
enum mirror_zone_use mirror_zone_use(const struct mirror_core *core, struct change_run *run);
void mirror_zone_locked(struct mirror_chunk *chunk);
/* A new session of the leg. */
void mirror_zone_reset(struct mirror_core *core);

/* ---- mirror.c ---- */

struct loop *mirror_data_loop(const struct mirror *mirror);
/* done(member, error): it has parted, or could not. */
void mirror_begin_member(struct mirror *mirror, struct mirror_member *member, uint64_t timeout_ms,
                         mirror_done_fn done);

struct mirror_core *mirror_core_of(struct mirror *mirror);
void mirror_tell_progress(struct mirror *mirror, const struct mirror_progress *progress,
                          const struct error *error, bool every);
/* All that was told has been heard. */
bool mirror_progress_is_taken(const struct mirror *mirror);
void mirror_tell_done(struct mirror *mirror, mirror_done_fn done, void *arg,
                      const struct error *error);
void mirror_tell_ended(struct mirror *mirror, const struct error *error);

#endif
