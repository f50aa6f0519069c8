// SPDX-License-Identifier: Apache-2.0
/*
 * Between the files of the pipeline: pipeline.c (ring, pump, interface), pipeline_plan.c (what
 * comes next), pipeline_chunk.c (what has to be read), pipeline_zero.c (what has to be zeroed).
 *
 * Thread:    the devices' loop.
 * Ownership: everything is the pipeline's and allocated with it.
 * Errors:    as replication/pipeline.h.
 */
#ifndef REPLICATION_PIPELINE_PRIVATE_H
#define REPLICATION_PIPELINE_PRIVATE_H

#include "base/list.h"
#include "replication/copy_map.h"
#include "replication/pipeline.h"
#include "replication/window.h"
#include "replication/zero_pace.h"
#include "replication/zero_scan.h"

enum {
    SLOTS = 1024, /* power of two */
    RUNS_MAX = 8,
    ZERO_OPS = 32,
};
/* A run of zeros that is not worth a command of its own; also the gap that is read along. */
#define ZERO_RUN_MIN (32u << 10)

enum slot_state {
    SLOT_READING,
    SLOT_WRITING,
    SLOT_ZERO, /* waits for neighbours, or for a command to be free */
    SLOT_ZEROING,
    SLOT_DONE,
};

struct slot {
    uint64_t offset;
    uint64_t len;
    enum slot_state state;
};

struct io {
    struct block_req req;
    struct slice slice;
};

enum chunk_step {
    CHUNK_READ_TARGET, /* the block around the source's end */
    CHUNK_READ,        /* in verify and compare: both sides */
    CHUNK_WRITE,
};

struct chunk {
    struct list link; /* free, to_write or retry */
    struct pipeline *pl;
    uint8_t *data;
    uint8_t *other; /* verify, compare: the target's */
    uint64_t seq;   /* of its slot */
    uint64_t offset;
    uint64_t len;        /* of the source */
    uint64_t target_len; /* longer for the padded last block */
    bool target_zero;    /* the target's map calls the whole range zero */
    enum chunk_step step;
    unsigned tries;
    uint64_t due_ns;
    uint64_t started_ns;
    unsigned waiting; /* requests outstanding */
    bool failed;      /* one of them */
    bool counted;     /* in tries */
    bool again;       /* and shall be repeated */
    unsigned n_runs, next_run;
    struct zero_run runs[RUNS_MAX];
    struct io ios[RUNS_MAX];
};

struct zero_op {
    struct list link; /* free or retry */
    struct pipeline *pl;
    uint64_t first_seq;
    unsigned n_slots;
    uint64_t offset;
    uint64_t len;
    uint64_t written; /* where zeros have to be written as data */
    unsigned tries;
    uint64_t due_ns;
    uint64_t started_ns;
    struct io io;
};

struct pipeline {
    struct blockdev *dev[2];
    struct loop *loop;
    struct pipeline_cb cb;
    void *arg;
    struct throttle *throttle;
    struct pipeline_counters *counters;

    uint64_t total;
    uint64_t body_end; /* total, rounded down to the grain */
    uint32_t grain;
    uint32_t chunk_bytes;
    uint32_t shortest_zero;

    enum pipeline_mode mode;
    bool compare; /* both sides are read in copying, too */
    bool verify;
    bool open[2];
    uint64_t next; /* planned up to here */
    uint64_t watermark;
    uint64_t head, tail; /* of the ring: sequence numbers */
    struct copy_map *map[2];

    unsigned n_chunks;
    unsigned chunks_used;
    size_t buffers_bytes;
    uint8_t *buffers;
    uint8_t *zeros; /* one chunk of them, where ZERO is not supported */
    struct chunk *chunks;
    struct list chunks_free; /* last in, first out: the buffers in use stay in the cache */
    struct list to_write;
    struct list chunks_retry;
    struct window window;

    struct list zeros_free;
    struct list zeros_retry;
    unsigned n_zero_slots; /* in SLOT_ZERO */
    unsigned zeros_used;
    uint64_t zero_bytes;        /* under way */
    struct zero_pace zero_pace; /* of a command */
    bool zero_unsupported;

    unsigned inflight;
    uint64_t successes[2];
    bool flush_wanted, flush_inflight;
    uint64_t flush_watermark;
    struct block_req flush_req;

    uint64_t busy_since_ns, busy_ns, busy_bytes; /* price of reading */
    struct loop_timer throttle_timer;
    struct loop_task pump_task;
    bool pump_queued;
    bool pumping, pump_again;
    bool settled; /* reported, and nothing happened since */

    struct zero_op zero_ops[ZERO_OPS];
    struct slot slots[SLOTS];
};

/* ---- pipeline.c ---- */

/* May one more request go to that side? */
bool pipeline_has_room(const struct pipeline *pl, enum copy_side side);
void pipeline_submit(struct pipeline *pl, enum copy_side side, struct block_req *req);
void pipeline_completed(struct pipeline *pl, enum copy_side side, const struct block_req *req);
/* A request failed. True: to be tried again at *ret_due_ns. */
bool pipeline_failed(struct pipeline *pl, enum copy_side side, const struct block_req *req,
                     unsigned tries, uint64_t *ret_due_ns);
void pipeline_pump_later(struct pipeline *pl);
/* What reading costs, for the maps to compare with: around the time in which chunks are in hand. */
void pipeline_price_begin(struct pipeline *pl);
void pipeline_price_end(struct pipeline *pl, uint64_t len);

/* The ring: a slot from next on; answers its sequence number. */
uint64_t slot_push(struct pipeline *pl, uint64_t len, enum slot_state state);
void slot_set_state(struct pipeline *pl, struct slot *slot, enum slot_state state);
void slot_done(struct pipeline *pl, uint64_t seq);

/* ---- pipeline_plan.c ---- */

/* Cuts slots from next on, as many as may be begun now. */
void plan_pump(struct pipeline *pl);

/* ---- pipeline_chunk.c ---- */

/* Is there a buffer, and room for the first request? */
bool chunk_may_start(const struct pipeline *pl, enum chunk_step step);
/* Reads [next, next + len); the last block of the target may reach farther. */
void chunk_start(struct pipeline *pl, enum chunk_step step, uint64_t len, uint64_t target_len,
                 bool target_zero);
void chunk_pump_retries(struct pipeline *pl);
void chunk_pump_writes(struct pipeline *pl);
/* Gives up all chunks that wait; none may be in flight. */
void chunk_drop_all(struct pipeline *pl);

/* ---- pipeline_zero.c ---- */

void zero_pump(struct pipeline *pl);
void zero_pump_retries(struct pipeline *pl);
void zero_drop_all(struct pipeline *pl);

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* grain is a power of two. */
static inline uint64_t round_down(uint64_t value, uint64_t grain)
{
    return value & ~(grain - 1);
}

static inline uint64_t round_up(uint64_t value, uint64_t grain)
{
    return round_down(value + grain - 1, grain);
}

static inline struct slot *slot_of(struct pipeline *pl, uint64_t seq)
{
    return &pl->slots[seq & (SLOTS - 1)];
}

#endif
