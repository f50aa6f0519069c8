// SPDX-License-Identifier: Apache-2.0
/*
 *              watermark                                            next
 *     =============|#####|.zz.|wwww|rrrr|####|zzzz|zzzz|rrrr|rrrr|----|-------------
 *        done        ring of slots, in order of offset                planned next
 *
 *     map of the source --+                      +-- not zero: WRITE, piece by piece --+
 *                         +-- plan --> READ --> scan                                   +--> done
 *     map of the target --+     |                +-- zero, merged with neighbours --> ZERO
 *                               +-- zero there, zero here already: skipped
 *
 * The range ahead is cut into slots, in order of offset. A slot that has to be read gets a chunk (buffer and
 * requests) for as long as it is in hand; the read's callback scans for zeros and starts the writes. Slots end in any
 * order; the watermark is the offset of the oldest one that is not done.
 *
 * Bounds: the number of chunks in hand (struct window, found from latency, between a floor given by the
 * priority and what the buffers hold), each device's info.max_inflight, the bytes of ZERO under way, and the ring.
 *
 * Zeros: ranges that the source's map calls zero and chunks that turn out to be zero wait as slots
 * for their neighbours, so that a long run becomes one command. The target is never believed to be
 * zero, except where its own map says so.
 *
 * Every slot begins and ends at a multiple of the larger block size (and of GRAIN), but for the last: where
 * the source ends inside a block of the target, that block is read from the target first, so that
 * the bytes behind the source's end stay what they were.
 *
 * Comparing (verify) is the same walk: a chunk has two buffers, one read from each side; what both
 * maps call zero is skipped.
 */
#include "replication/pipeline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/list.h"
#include "replication/copy_map.h"
#include "replication/window.h"
#include "replication/zero_scan.h"

enum {
    SLOTS = 1024, /* power of two */
    CHUNKS_MAX = 64,
    RUNS_MAX = 8,
    ZERO_OPS = 32,
    PLAN_BUDGET = 64, /* slots planned at a time, before others have their turn on the loop */
};
#define GRAIN            4096u
#define CHUNK_MIN        (64u << 10)
#define CHUNK_DEFAULT    (256u << 10)
#define CHUNK_MAX        (1u << 20)
#define BUFFERS_MAX      (32u << 20)
/* A run of zeros that is not worth a command of its own; also the gap that is read along. */
#define ZERO_RUN_MIN     (32u << 10)
#define ZERO_MERGE       (8ull << 20) /* long enough not to wait for neighbours */
#define ZERO_MAX_FIRST   (16ull << 20)
#define ZERO_MAX_LEAST   (1ull << 20)
#define ZERO_MAX_MOST    (64ull << 20)
#define ZERO_INFLIGHT    (64ull << 20)
#define ZERO_SLOW_NS     (500 * MS_NS)
#define ZERO_FAST_NS     (50 * MS_NS)
#define PRICE_DEFAULT_PS 1000u
#define PRICE_WINDOW     (8u << 20)

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
    CHUNK_READ,        /* in verify: both sides */
    CHUNK_WRITE,
};

struct chunk {
    struct list link; /* free, to_write or retry */
    struct pipeline *pl;
    uint8_t *data;
    uint8_t *other; /* verify: the target's */
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
    bool failed;  /* one of them */
    bool counted; /* in tries */
    bool again;   /* and shall be repeated */
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
    uint64_t zero_bytes; /* under way */
    uint64_t zero_max;
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

static void pump_later(struct pipeline *pl);

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t round_down(uint64_t value, uint64_t grain)
{
    return value & ~(grain - 1);
}

static uint64_t round_up(uint64_t value, uint64_t grain)
{
    return round_down(value + grain - 1, grain);
}

static struct slot *slot_of(struct pipeline *pl, uint64_t seq)
{
    return &pl->slots[seq & (SLOTS - 1)];
}

/* May one more request go to that side? */
static bool has_room(const struct pipeline *pl, enum copy_side side)
{
    const struct blockdev *dev = pl->dev[side];
    unsigned max = dev->info.max_inflight ? dev->info.max_inflight : 1;
    unsigned reserved = side == COPY_TARGET && pl->flush_wanted ? 1 : 0;
    return pl->open[side] && dev->inflight + reserved < max;
}

static void submit(struct pipeline *pl, enum copy_side side, struct block_req *req)
{
    pl->inflight++;
    blockdev_submit(pl->dev[side], req);
}

static void completed(struct pipeline *pl, enum copy_side side, const struct block_req *req)
{
    pl->inflight--;
    pl->successes[side] += req->status == 0;
    pl->settled = false;
}

/* ---- the ring ---- */

static void set_state(struct pipeline *pl, struct slot *slot, enum slot_state state)
{
    pl->n_zero_slots -= slot->state == SLOT_ZERO;
    pl->n_zero_slots += state == SLOT_ZERO;
    slot->state = state;
}

static void slot_done(struct pipeline *pl, uint64_t seq)
{
    set_state(pl, slot_of(pl, seq), SLOT_DONE);
    while (pl->tail < pl->head && slot_of(pl, pl->tail)->state == SLOT_DONE) {
        pl->tail++;
    }
    pl->watermark = pl->tail < pl->head ? slot_of(pl, pl->tail)->offset : pl->next;
}

static uint64_t slot_push(struct pipeline *pl, uint64_t len, enum slot_state state)
{
    uint64_t seq = pl->head++;
    struct slot *slot = slot_of(pl, seq);
    *slot = (struct slot){.offset = pl->next, .len = len, .state = state};
    pl->n_zero_slots += state == SLOT_ZERO;
    pl->next += len;
    copy_map_advance(pl->map[COPY_SOURCE], pl->next);
    copy_map_advance(pl->map[COPY_TARGET], pl->next);
    return seq;
}

/* ---- failures ---- */

/* True: to be tried again at *ret_due_ns. */
static bool failed(struct pipeline *pl, enum copy_side side, const struct block_req *req,
                   unsigned tries, uint64_t *ret_due_ns)
{
    if (pl->mode == PIPELINE_DROP) {
        return false;
    }
    struct pipeline_failure failure = {
        .side = side,
        .op = req->op,
        .offset = req->offset,
        .len = req->len,
        .status = req->status,
        .tries = tries,
    };
    uint64_t delay_ns = 0;
    if (!pl->cb.failed(pl->arg, &failure, &delay_ns)) {
        return false;
    }
    *ret_due_ns = loop_now_ns(pl->loop) + delay_ns;
    return true;
}

/* ---- price of reading, for the maps to compare with ---- */

static void price_begin(struct pipeline *pl)
{
    if (pl->chunks_used == 0) {
        pl->busy_since_ns = loop_now_ns(pl->loop);
    }
}

static void price_end(struct pipeline *pl, uint64_t len)
{
    pl->busy_bytes += len;
    if (pl->chunks_used > 0 && pl->busy_bytes < PRICE_WINDOW) {
        return;
    }
    uint64_t now_ns = loop_now_ns(pl->loop);
    pl->busy_ns += now_ns - pl->busy_since_ns;
    pl->busy_since_ns = now_ns;
    if (pl->busy_bytes < PRICE_WINDOW) {
        return;
    }
    uint64_t price = pl->busy_ns / (pl->busy_bytes / 1000);
    if (pl->throttle->rate > 0 && price < 1000 * SEC_NS / pl->throttle->rate) {
        price = 1000 * SEC_NS / pl->throttle->rate;
    }
    copy_map_set_price(pl->map[COPY_SOURCE], price);
    /* A command to zero a range costs less than its data. */
    copy_map_set_price(pl->map[COPY_TARGET], price / 8);
    pl->busy_ns = 0;
    pl->busy_bytes = 0;
}

/* ---- chunks ---- */

static void chunk_release(struct chunk *chunk)
{
    struct pipeline *pl = chunk->pl;
    pl->chunks_used--;
    list_push_front(&pl->chunks_free, &chunk->link);
}

static void chunk_finish(struct chunk *chunk)
{
    struct pipeline *pl = chunk->pl;
    window_completed(&pl->window, loop_now_ns(pl->loop) - chunk->started_ns);
    chunk_release(chunk);
    price_end(pl, chunk->len);
    slot_done(pl, chunk->seq);
}

/* One of the chunk's requests failed; the others may still be out. */
static void chunk_failed(struct chunk *chunk, enum copy_side side, const struct block_req *req)
{
    if (!chunk->failed) {
        chunk->failed = true;
        chunk->due_ns = 0;
        chunk->again = true;
    }
    if (!chunk->counted && req->status != -ENOTCONN) {
        chunk->counted = true; /* a lost link is not the range's fault */
        chunk->tries++;
    }
    uint64_t due_ns = 0;
    if (failed(chunk->pl, side, req, chunk->tries, &due_ns)) {
        chunk->due_ns = due_ns > chunk->due_ns ? due_ns : chunk->due_ns;
    } else {
        chunk->again = false;
    }
}

/* All of the chunk's requests are back, and one of them had failed. */
static void chunk_settle_failure(struct chunk *chunk)
{
    chunk->failed = false;
    chunk->counted = false;
    if (chunk->again) {
        list_push_back(&chunk->pl->chunks_retry, &chunk->link);
    } else {
        chunk_release(chunk);
    }
}

static void chunk_io(struct chunk *chunk, struct io *io, enum copy_side side, enum block_op op,
                     uint8_t *data, uint64_t offset, uint64_t len, block_done_fn done)
{
    io->slice = (struct slice){.data = data, .len = len};
    io->req = (struct block_req){
        .op = op,
        .offset = offset,
        .len = len,
        .done = done,
        .arg = chunk,
    };
    if (op == BLOCK_ZERO) {
        io->req.flags = BLOCK_MAY_UNMAP;
    } else {
        io->req.slices = &io->slice;
        io->req.n_slices = 1;
    }
    chunk->waiting++;
    submit(chunk->pl, side, &io->req);
}

static void chunk_write_done(struct block_req *req)
{
    struct chunk *chunk = req->arg;
    struct pipeline *pl = chunk->pl;
    completed(pl, COPY_TARGET, req);
    chunk->waiting--;
    if (req->status == 0) {
        uint64_t *counter =
            req->op == BLOCK_ZERO ? &pl->counters->bytes_zeroed : &pl->counters->bytes_written;
        *counter += req->len;
    } else if (req->op == BLOCK_ZERO && req->status == -EOPNOTSUPP) {
        /* From now on as data: the chunk's buffer has the zeros. */
        pl->zero_unsupported = true;
        chunk->failed = true;
        chunk->again = true;
        chunk->due_ns = 0;
    } else {
        chunk_failed(chunk, COPY_TARGET, req);
    }
    if (chunk->waiting == 0) {
        if (chunk->failed) {
            if (chunk->next_run < chunk->n_runs) {
                list_remove(&chunk->link); /* it was about to go on */
            }
            chunk_settle_failure(chunk);
        } else if (chunk->next_run == chunk->n_runs) {
            chunk_finish(chunk);
        }
    }
    pipeline_pump(pl);
}

/* Submits the chunk's next piece. True: it was the last. */
static bool chunk_write_next(struct chunk *chunk)
{
    struct zero_run *run = &chunk->runs[chunk->next_run];
    struct io *io = &chunk->ios[chunk->next_run];
    chunk->next_run++;
    chunk_io(chunk, io, COPY_TARGET, run->zero ? BLOCK_ZERO : BLOCK_WRITE,
             chunk->data + run->offset, chunk->offset + run->offset, run->len, chunk_write_done);
    return chunk->next_run == chunk->n_runs;
}

static void chunk_begin_write(struct chunk *chunk)
{
    struct pipeline *pl = chunk->pl;
    chunk->step = CHUNK_WRITE;
    chunk->next_run = 0;
    if (pl->zero_unsupported) {
        /* A command refused on the way: all of it as one write. */
        chunk->n_runs = 1;
        chunk->runs[0] = (struct zero_run){.len = chunk->target_len};
    }
    list_push_back(&pl->to_write, &chunk->link);
}

/* What was read is in the buffer: finds the zeros. */
static void chunk_scan(struct chunk *chunk)
{
    struct pipeline *pl = chunk->pl;
    struct slot *slot = slot_of(pl, chunk->seq);
    if (chunk->offset >= pl->body_end) {
        chunk->n_runs = 1;
        chunk->runs[0] = (struct zero_run){.len = chunk->target_len};
    } else {
        chunk->n_runs = zero_scan(chunk->data, chunk->len, pl->grain, pl->shortest_zero,
                                  chunk->runs, RUNS_MAX);
    }
    if (chunk->n_runs == 1 && chunk->runs[0].zero && !pl->zero_unsupported) {
        uint64_t seq = chunk->seq;
        bool skip = chunk->target_zero;
        if (skip) {
            pl->counters->bytes_skipped += chunk->len;
            chunk_finish(chunk);
            return;
        }
        chunk_release(chunk);
        price_end(pl, chunk->len);
        set_state(pl, slot_of(pl, seq), SLOT_ZERO);
        return;
    }
    if (chunk->target_zero && !pl->zero_unsupported) {
        /* The zeros are there already. */
        unsigned kept = 0;
        for (unsigned i = 0; i < chunk->n_runs; i++) {
            if (chunk->runs[i].zero) {
                pl->counters->bytes_skipped += chunk->runs[i].len;
            } else {
                chunk->runs[kept++] = chunk->runs[i];
            }
        }
        chunk->n_runs = kept;
    }
    set_state(pl, slot, SLOT_WRITING);
    chunk_begin_write(chunk);
}

static void chunk_compare(struct chunk *chunk)
{
    struct pipeline *pl = chunk->pl;
    if (memcmp(chunk->data, chunk->other, chunk->len) == 0) {
        chunk_finish(chunk);
        return;
    }
    uint64_t at = 0;
    while (chunk->data[at] == chunk->other[at]) {
        at++;
    }
    uint64_t offset = chunk->offset + at;
    chunk_release(chunk);
    pl->cb.mismatch(pl->arg, offset);
}

static void chunk_read_done(struct block_req *req);

static void chunk_begin_read(struct chunk *chunk)
{
    struct pipeline *pl = chunk->pl;
    if (chunk->target_len > chunk->len && !pl->verify && chunk->step == CHUNK_READ_TARGET) {
        chunk_io(chunk, &chunk->ios[1], COPY_TARGET, BLOCK_READ, chunk->data, chunk->offset,
                 chunk->target_len, chunk_read_done);
        return;
    }
    chunk->step = CHUNK_READ;
    chunk_io(chunk, &chunk->ios[0], COPY_SOURCE, BLOCK_READ, chunk->data, chunk->offset,
             chunk->len, chunk_read_done);
    if (pl->verify) {
        chunk_io(chunk, &chunk->ios[1], COPY_TARGET, BLOCK_READ, chunk->other, chunk->offset,
                 chunk->target_len, chunk_read_done);
    }
}

static void chunk_read_done(struct block_req *req)
{
    struct chunk *chunk = req->arg;
    struct pipeline *pl = chunk->pl;
    enum copy_side side = req == &chunk->ios[0].req ? COPY_SOURCE : COPY_TARGET;
    completed(pl, side, req);
    chunk->waiting--;
    if (req->status != 0) {
        chunk_failed(chunk, side, req);
    } else if (side == COPY_SOURCE) {
        pl->counters->bytes_read += req->len;
    }
    if (chunk->waiting == 0) {
        if (chunk->failed) {
            chunk_settle_failure(chunk);
        } else if (pl->mode == PIPELINE_DROP) {
            chunk_release(chunk);
        } else if (chunk->step == CHUNK_READ_TARGET) {
            chunk->step = CHUNK_READ;
            chunk->due_ns = 0;
            list_push_front(&pl->chunks_retry, &chunk->link); /* as soon as the source has room */
        } else if (pl->verify) {
            chunk_compare(chunk);
        } else {
            chunk_scan(chunk);
        }
    }
    pipeline_pump(pl);
}

static bool chunk_read_has_room(const struct pipeline *pl, enum chunk_step step)
{
    if (pl->verify) {
        return has_room(pl, COPY_SOURCE) && has_room(pl, COPY_TARGET);
    }
    return has_room(pl, step == CHUNK_READ_TARGET ? COPY_TARGET : COPY_SOURCE);
}

static void pump_chunk_retries(struct pipeline *pl)
{
    if (list_empty(&pl->chunks_retry)) {
        return;
    }
    uint64_t now_ns = loop_now_ns(pl->loop);
    list_for_each_safe(link, following, &pl->chunks_retry) {
        struct chunk *chunk = list_entry(link, struct chunk, link);
        if (chunk->due_ns > now_ns) {
            continue;
        }
        if (chunk->step == CHUNK_WRITE) {
            list_remove(link);
            chunk_begin_write(chunk);
        } else if (chunk_read_has_room(pl, chunk->step)) {
            list_remove(link);
            chunk_begin_read(chunk);
        }
    }
}

static void pump_writes(struct pipeline *pl)
{
    struct list *first;
    while ((first = list_first(&pl->to_write)) != NULL && has_room(pl, COPY_TARGET)) {
        struct chunk *chunk = list_entry(first, struct chunk, link);
        if (chunk->failed) {
            /* Another piece of it has failed and the rest is still out: that one's end decides. */
            CHECK(chunk->waiting > 0);
            list_remove(first);
            chunk->next_run = chunk->n_runs;
            continue;
        }
        /* Off the list first: nobody may find it there once it can be completed. */
        if (chunk->next_run + 1 == chunk->n_runs) {
            list_remove(first);
        }
        chunk_write_next(chunk);
    }
}

/* ---- zeros ---- */

static void zero_op_submit(struct zero_op *op);

static void zero_op_release(struct zero_op *op)
{
    struct pipeline *pl = op->pl;
    pl->zeros_used--;
    pl->zero_bytes -= op->len;
    list_push_front(&pl->zeros_free, &op->link);
}

/* The longest command follows from how long commands take. */
static void zero_adapt(struct pipeline *pl, const struct zero_op *op)
{
    uint64_t took_ns = loop_now_ns(pl->loop) - op->started_ns;
    if (took_ns > ZERO_SLOW_NS && pl->zero_max > ZERO_MAX_LEAST) {
        pl->zero_max /= 2;
    } else if (took_ns < ZERO_FAST_NS && op->len >= pl->zero_max / 2 &&
               pl->zero_max < ZERO_MAX_MOST) {
        pl->zero_max *= 2;
    }
}

static void zero_op_done(struct block_req *req)
{
    struct zero_op *op = req->arg;
    struct pipeline *pl = op->pl;
    completed(pl, COPY_TARGET, req);
    if (req->status == 0 && req->op == BLOCK_WRITE) {
        pl->counters->bytes_written += req->len;
        op->written += req->len;
        if (op->written < op->len) {
            op->due_ns = 0;
            list_push_front(&pl->zeros_retry, &op->link);
            pipeline_pump(pl);
            return;
        }
    }
    if (req->status == 0) {
        if (req->op == BLOCK_ZERO) {
            pl->counters->bytes_zeroed += op->len;
            zero_adapt(pl, op);
        }
        for (unsigned i = 0; i < op->n_slots; i++) {
            slot_done(pl, op->first_seq + i);
        }
        zero_op_release(op);
    } else if (req->op == BLOCK_ZERO && req->status == -EOPNOTSUPP) {
        pl->zero_unsupported = true;
        op->due_ns = 0;
        list_push_back(&pl->zeros_retry, &op->link);
    } else {
        op->tries += req->status != -ENOTCONN;
        if (failed(pl, COPY_TARGET, req, op->tries, &op->due_ns)) {
            list_push_back(&pl->zeros_retry, &op->link);
        } else {
            zero_op_release(op);
        }
    }
    pipeline_pump(pl);
}

static void zero_op_submit(struct zero_op *op)
{
    struct pipeline *pl = op->pl;
    op->started_ns = loop_now_ns(pl->loop);
    op->io.req = (struct block_req){
        .op = BLOCK_ZERO,
        .flags = BLOCK_MAY_UNMAP,
        .offset = op->offset,
        .len = op->len,
        .done = zero_op_done,
        .arg = op,
    };
    if (pl->zero_unsupported) {
        uint64_t len = min_u64(op->len - op->written, pl->chunk_bytes);
        op->io.slice = (struct slice){.data = pl->zeros, .len = len};
        op->io.req.op = BLOCK_WRITE;
        op->io.req.flags = 0;
        op->io.req.offset = op->offset + op->written;
        op->io.req.len = len;
        op->io.req.slices = &op->io.slice;
        op->io.req.n_slices = 1;
    }
    submit(pl, COPY_TARGET, &op->io.req);
}

static void pump_zero_retries(struct pipeline *pl)
{
    if (list_empty(&pl->zeros_retry)) {
        return;
    }
    uint64_t now_ns = loop_now_ns(pl->loop);
    list_for_each_safe(link, following, &pl->zeros_retry) {
        struct zero_op *op = list_entry(link, struct zero_op, link);
        if (op->due_ns <= now_ns && has_room(pl, COPY_TARGET)) {
            list_remove(link);
            zero_op_submit(op);
        }
    }
}

/* Starts one command for the slots [seq, end), or as many of them as one command may take. */
static uint64_t zero_start(struct pipeline *pl, uint64_t seq, uint64_t end)
{
    struct zero_op *op = list_entry(list_pop_front(&pl->zeros_free), struct zero_op, link);
    op->first_seq = seq;
    op->n_slots = 0;
    op->offset = slot_of(pl, seq)->offset;
    op->len = 0;
    op->written = 0;
    op->tries = 0;
    while (seq < end && (op->n_slots == 0 || op->len + slot_of(pl, seq)->len <= pl->zero_max)) {
        op->len += slot_of(pl, seq)->len;
        op->n_slots++;
        set_state(pl, slot_of(pl, seq), SLOT_ZEROING);
        seq++;
    }
    pl->zeros_used++;
    pl->zero_bytes += op->len;
    zero_op_submit(op);
    return seq;
}

static bool zero_may_start(const struct pipeline *pl)
{
    return !list_empty(&pl->zeros_free) && has_room(pl, COPY_TARGET) &&
           (pl->zeros_used == 0 || pl->zero_bytes < ZERO_INFLIGHT);
}

/* Could the slot still become a neighbour of a run of zeros? */
static bool zero_undecided(struct pipeline *pl, uint64_t seq)
{
    return slot_of(pl, seq)->state == SLOT_READING;
}

static void pump_zeros(struct pipeline *pl)
{
    if (pl->n_zero_slots == 0 || !zero_may_start(pl)) {
        return;
    }
    bool force = pl->chunks_used == 0 || pl->mode == PIPELINE_DRAIN;
    unsigned left = pl->n_zero_slots;
    uint64_t seq = pl->tail;
    while (left > 0 && zero_may_start(pl)) {
        while (slot_of(pl, seq)->state != SLOT_ZERO) {
            seq++;
        }
        uint64_t end = seq;
        uint64_t len = 0;
        while (end < pl->head && slot_of(pl, end)->state == SLOT_ZERO) {
            len += slot_of(pl, end)->len;
            end++;
        }
        CHECK(end - seq <= left);
        left -= (unsigned)(end - seq);
        bool last = end == pl->head && pl->next < pl->total;
        bool waits = (seq > pl->tail && zero_undecided(pl, seq - 1)) ||
                     (end < pl->head ? zero_undecided(pl, end) : last);
        if (force || !waits || len >= ZERO_MERGE) {
            while (seq < end && zero_may_start(pl)) {
                seq = zero_start(pl, seq, end);
            }
        }
        seq = end;
    }
}

/* ---- planning ---- */

/* The end of the range that begins at offset and is zero in the map of that side, or offset itself. */
static uint64_t zero_end(struct pipeline *pl, enum copy_side side, uint64_t offset)
{
    uint64_t end = offset;
    while (offset < pl->body_end && copy_map_peek(pl->map[side], offset, &end) == COPY_MAP_ZERO) {
        offset = end;
    }
    return round_down(min_u64(offset, pl->body_end), pl->grain);
}

/* Zeros at offset that are not worth a command: a short run with data behind it. */
static bool zeros_too_short(struct pipeline *pl, enum copy_side side, uint64_t offset)
{
    uint64_t at = offset;
    uint64_t end;
    enum copy_map_answer answer;
    while ((answer = copy_map_peek(pl->map[side], at, &end)) == COPY_MAP_ZERO) {
        at = end;
        if (at - offset >= ZERO_RUN_MIN || at >= pl->body_end) {
            return false;
        }
    }
    return answer == COPY_MAP_DATA;
}

/* The end of a range from offset that has to be treated as data, at most limit: zeros too short for
 * a command are taken along. offset itself is data or counts as such. */
static uint64_t data_end(struct pipeline *pl, enum copy_side side, uint64_t offset, uint64_t limit)
{
    uint64_t at = min_u64(offset + pl->grain, limit);
    while (at < limit) {
        uint64_t end;
        enum copy_map_answer answer = copy_map_peek(pl->map[side], at, &end);
        if (answer == COPY_MAP_WAIT ||
            (answer == COPY_MAP_ZERO && !zeros_too_short(pl, side, at))) {
            break;
        }
        at = end;
    }
    return min_u64(round_up(min_u64(at, limit), pl->grain), limit);
}

static bool plan_skip(struct pipeline *pl, uint64_t end)
{
    uint64_t seq = slot_push(pl, end - pl->next, SLOT_DONE);
    pl->counters->bytes_skipped += slot_of(pl, seq)->len;
    slot_done(pl, seq);
    return true;
}

/* The source is zero from next up to end. False: the target's map has to be waited for. */
static bool plan_zero(struct pipeline *pl, uint64_t end)
{
    uint64_t known;
    enum copy_map_answer answer = copy_map_peek(pl->map[COPY_TARGET], pl->next, &known);
    if (answer == COPY_MAP_WAIT) {
        return false;
    }
    if (answer == COPY_MAP_ZERO) {
        uint64_t there = min_u64(zero_end(pl, COPY_TARGET, pl->next), end);
        if (there > pl->next) {
            return plan_skip(pl, there);
        }
    }
    end = min_u64(end, pl->next + round_down(pl->zero_max, pl->grain));
    slot_push(pl, data_end(pl, COPY_TARGET, pl->next, end) - pl->next, SLOT_ZERO);
    return true;
}

static bool plan_read(struct pipeline *pl)
{
    bool in_body = pl->next < pl->body_end;
    uint64_t target_block = pl->dev[COPY_TARGET]->info.block_bytes;
    uint64_t limit = in_body ? min_u64(pl->next + pl->chunk_bytes, pl->body_end) : pl->total;
    uint64_t target_end = in_body ? 0 : round_up(pl->total, target_block);
    bool padded = target_end > pl->total;
    enum chunk_step step = padded && !pl->verify ? CHUNK_READ_TARGET : CHUNK_READ;

    if (pl->chunks_used >= pl->window.size || list_empty(&pl->chunks_free) ||
        !chunk_read_has_room(pl, step)) {
        return false;
    }
    uint64_t end = in_body ? data_end(pl, COPY_SOURCE, pl->next, limit) : limit;
    uint64_t len = end - pl->next;
    uint64_t now_ns = loop_now_ns(pl->loop);
    if (!throttle_take(pl->throttle, len, now_ns)) {
        loop_timer_start(&pl->throttle_timer, throttle_wait_ns(pl->throttle, now_ns));
        return false;
    }
    struct chunk *chunk = list_entry(list_pop_front(&pl->chunks_free), struct chunk, link);
    price_begin(pl);
    pl->chunks_used++;
    uint64_t known = 0;
    chunk->target_zero =
        !pl->verify && in_body &&
        copy_map_peek(pl->map[COPY_TARGET], pl->next, &known) == COPY_MAP_ZERO && known >= end;
    chunk->offset = pl->next;
    chunk->len = len;
    chunk->target_len = padded ? target_end - pl->next : len;
    chunk->step = step;
    chunk->tries = 0;
    chunk->failed = false;
    chunk->started_ns = now_ns;
    chunk->seq = slot_push(pl, len, SLOT_READING);
    chunk_begin_read(chunk);
    return true;
}

/* Cuts the next slot. False: not now. */
static bool plan_next(struct pipeline *pl)
{
    if (pl->next >= pl->total || pl->head - pl->tail == SLOTS) {
        return false;
    }
    if (pl->next >= pl->body_end) {
        return plan_read(pl);
    }
    uint64_t end;
    enum copy_map_answer answer = copy_map_peek(pl->map[COPY_SOURCE], pl->next, &end);
    if (answer == COPY_MAP_WAIT) {
        return false;
    }
    if (answer == COPY_MAP_DATA) {
        return plan_read(pl);
    }
    end = zero_end(pl, COPY_SOURCE, pl->next);
    if (end == pl->next || zeros_too_short(pl, COPY_SOURCE, pl->next)) {
        return plan_read(pl);
    }
    if (pl->verify) {
        uint64_t known;
        if (copy_map_peek(pl->map[COPY_TARGET], pl->next, &known) == COPY_MAP_WAIT) {
            return false;
        }
        end = min_u64(end, zero_end(pl, COPY_TARGET, pl->next));
        return end > pl->next ? plan_skip(pl, end) : plan_read(pl);
    }
    return plan_zero(pl, end);
}

static void pump_plan(struct pipeline *pl)
{
    for (unsigned i = 0; i < PLAN_BUDGET; i++) {
        if (!plan_next(pl)) {
            return;
        }
    }
    pump_later(pl);
}

/* ---- flush ---- */

static void flush_done(struct block_req *req)
{
    struct pipeline *pl = req->arg;
    completed(pl, COPY_TARGET, req);
    pl->flush_inflight = false;
    if (pl->mode != PIPELINE_DROP) {
        pl->cb.flushed(pl->arg, pl->flush_watermark, req->status);
    }
    pipeline_pump(pl);
}

static void pump_flush(struct pipeline *pl)
{
    const struct blockdev *dev = pl->dev[COPY_TARGET];
    unsigned max = dev->info.max_inflight ? dev->info.max_inflight : 1;
    if (!pl->flush_wanted || !pl->open[COPY_TARGET] || dev->inflight >= max) {
        return;
    }
    pl->flush_wanted = false;
    pl->flush_inflight = true;
    pl->flush_watermark = pl->watermark;
    pl->flush_req = (struct block_req){.op = BLOCK_FLUSH, .done = flush_done, .arg = pl};
    submit(pl, COPY_TARGET, &pl->flush_req);
}

void pipeline_flush(struct pipeline *pl)
{
    CHECK(!pipeline_flushing(pl));
    pl->flush_wanted = true;
}

bool pipeline_flushing(const struct pipeline *pl)
{
    return pl->flush_wanted || pl->flush_inflight;
}

/* ---- the pump ---- */

void pipeline_pump(struct pipeline *pl)
{
    if (pl->pumping) {
        pl->pump_again = true;
        return;
    }
    pl->pumping = true;
    do {
        pl->pump_again = false;
        if (pl->mode == PIPELINE_DROP) {
            break;
        }
        pump_flush(pl);
        if (pl->mode == PIPELINE_RUN) {
            pump_chunk_retries(pl);
            pump_zero_retries(pl);
        }
        pump_writes(pl);
        pump_zeros(pl);
        if (pl->mode == PIPELINE_RUN) {
            copy_map_pump(pl->map[COPY_SOURCE]);
            copy_map_pump(pl->map[COPY_TARGET]);
            pump_plan(pl);
            pump_zeros(pl); /* nothing may come after the slots just planned */
        }
    } while (pl->pump_again);
    pl->pumping = false;
    if (!pl->settled && (pl->inflight == 0 || pipeline_complete(pl))) {
        pl->settled = true;
        pl->cb.settled(pl->arg);
    }
}

static void pump_task(void *arg)
{
    struct pipeline *pl = arg;
    pl->pump_queued = false;
    pipeline_pump(pl);
}

static void pump_later(struct pipeline *pl)
{
    if (!pl->pump_queued) {
        pl->pump_queued = true;
        loop_defer(pl->loop, &pl->pump_task);
    }
}

static void throttle_due(void *arg)
{
    pipeline_pump(arg);
}

static void map_wake(void *arg)
{
    pipeline_pump(arg);
}

static void map_failed(struct pipeline *pl, enum copy_side side, int status)
{
    if (pl->mode == PIPELINE_DROP) {
        return;
    }
    struct pipeline_failure failure = {
        .side = side,
        .op = BLOCK_MAP,
        .offset = pl->next,
        .status = status,
        .tries = 1,
    };
    uint64_t delay_ns;
    pl->cb.failed(pl->arg, &failure, &delay_ns);
}

static void source_map_failed(void *arg, int status)
{
    map_failed(arg, COPY_SOURCE, status);
}

static void target_map_failed(void *arg, int status)
{
    map_failed(arg, COPY_TARGET, status);
}

/* ---- the rest of the interface ---- */

void pipeline_restart(struct pipeline *pl, uint64_t offset, bool verify)
{
    CHECK(pl->inflight == 0);
    struct list *link;
    while ((link = list_pop_front(&pl->to_write)) != NULL ||
           (link = list_pop_front(&pl->chunks_retry)) != NULL) {
        chunk_release(list_entry(link, struct chunk, link));
    }
    while ((link = list_pop_front(&pl->zeros_retry)) != NULL) {
        zero_op_release(list_entry(link, struct zero_op, link));
    }
    CHECK(pl->chunks_used == 0 && pl->zeros_used == 0 && pl->zero_bytes == 0);
    pl->head = pl->tail = 0;
    pl->n_zero_slots = 0;
    pl->next = pl->watermark = offset;
    pl->verify = verify;
    pl->flush_wanted = false;
    pl->settled = false;
    copy_map_restart(pl->map[COPY_SOURCE], offset);
    copy_map_restart(pl->map[COPY_TARGET], offset);
}

void pipeline_set_mode(struct pipeline *pl, enum pipeline_mode mode)
{
    if (pl->mode == mode) {
        return;
    }
    pl->mode = mode;
    pl->settled = false;
    if (mode != PIPELINE_RUN) {
        loop_timer_stop(&pl->throttle_timer);
    }
}

void pipeline_gate(struct pipeline *pl, enum copy_side side, bool open)
{
    pl->open[side] = open;
    copy_map_gate(pl->map[side], open);
}

/* 1 low, 2 same, 3 high, 4 urgent; 0, not managed, is like 2. */
static unsigned window_floor(unsigned priority)
{
    static const unsigned floors[] = {8, 4, 8, 16, 32};
    return floors[priority < 5 ? priority : 4];
}

void pipeline_set_priority(struct pipeline *pl, unsigned priority)
{
    window_set_floor(&pl->window, window_floor(priority));
}

uint64_t pipeline_watermark(const struct pipeline *pl)
{
    return pl->watermark;
}

bool pipeline_complete(const struct pipeline *pl)
{
    return pl->watermark >= pl->total;
}

unsigned pipeline_inflight(const struct pipeline *pl)
{
    return pl->inflight;
}

unsigned pipeline_outstanding(const struct pipeline *pl)
{
    return pl->inflight + copy_map_outstanding(pl->map[COPY_SOURCE]) +
           copy_map_outstanding(pl->map[COPY_TARGET]);
}

uint64_t pipeline_successes(const struct pipeline *pl, enum copy_side side)
{
    return pl->successes[side];
}

/* The transfer size: what the devices like best, what they pass on unsplit, and what caches like. */
static uint32_t choose_chunk(const struct block_info *source, const struct block_info *target,
                             uint32_t grain)
{
    uint64_t chunk = CHUNK_DEFAULT;
    const struct block_info *infos[] = {source, target};
    for (unsigned i = 0; i < ARRAY_LEN(infos); i++) {
        if (infos[i]->optimal_bytes > chunk) {
            chunk = min_u64(infos[i]->optimal_bytes, CHUNK_MAX);
        }
    }
    for (unsigned i = 0; i < ARRAY_LEN(infos); i++) {
        if (infos[i]->max_bytes > 0) {
            chunk = min_u64(chunk, infos[i]->max_bytes);
        }
    }
    chunk = round_down(chunk, grain);
    return chunk < grain ? grain : (uint32_t)chunk;
}

static unsigned choose_count(const struct block_info *source, const struct block_info *target,
                             uint32_t chunk_bytes)
{
    uint64_t count = (uint64_t)source->max_inflight + target->max_inflight;
    count = min_u64(count, CHUNKS_MAX);
    count = min_u64(count, BUFFERS_MAX / 2 / chunk_bytes);
    return count < 2 ? 2 : (unsigned)count;
}

int pipeline_new(const struct pipeline_spec *spec, const struct pipeline_cb *cb, void *arg,
                 struct pipeline **ret_pipeline)
{
    const struct block_info *source = &spec->source->info;
    const struct block_info *target = &spec->target->info;
    struct pipeline *pl = calloc(1, sizeof(*pl));
    if (!pl) {
        return -ENOMEM;
    }
    pl->dev[COPY_SOURCE] = spec->source;
    pl->dev[COPY_TARGET] = spec->target;
    pl->loop = spec->source->loop;
    pl->cb = *cb;
    pl->arg = arg;
    pl->throttle = spec->throttle;
    pl->counters = spec->counters;
    pl->mode = PIPELINE_DROP;
    pl->total = spec->bytes_total;
    pl->grain = GRAIN;
    pl->grain = source->block_bytes > pl->grain ? source->block_bytes : pl->grain;
    pl->grain = target->block_bytes > pl->grain ? target->block_bytes : pl->grain;
    pl->body_end = round_down(pl->total, pl->grain);
    pl->chunk_bytes = choose_chunk(source, target, pl->grain);
    pl->shortest_zero = (uint32_t)round_up(ZERO_RUN_MIN, pl->grain);
    pl->zero_max = ZERO_MAX_FIRST;
    pl->n_chunks = choose_count(source, target, pl->chunk_bytes);
    window_init(&pl->window, window_floor(spec->priority), pl->n_chunks);
    list_init(&pl->chunks_free);
    list_init(&pl->to_write);
    list_init(&pl->chunks_retry);
    list_init(&pl->zeros_free);
    list_init(&pl->zeros_retry);
    pl->pump_task = (struct loop_task){.fn = pump_task, .arg = pl};
    loop_timer_init(&pl->throttle_timer, pl->loop, throttle_due, pl);

    /* Two buffers a chunk, for the comparison, and one of zeros. Pages are touched on first use. */
    pl->buffers_bytes = ((size_t)pl->n_chunks * 2 + 1) * pl->chunk_bytes;
    pl->buffers = mmap(NULL, pl->buffers_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pl->buffers == MAP_FAILED) {
        pl->buffers = NULL;
        goto fail;
    }
    pl->zeros = pl->buffers + (size_t)pl->n_chunks * 2 * pl->chunk_bytes;
    pl->chunks = calloc(pl->n_chunks, sizeof(*pl->chunks));
    if (!pl->chunks) {
        goto fail;
    }
    for (unsigned i = 0; i < pl->n_chunks; i++) {
        struct chunk *chunk = &pl->chunks[i];
        chunk->pl = pl;
        chunk->data = pl->buffers + (size_t)i * pl->chunk_bytes;
        chunk->other = pl->buffers + ((size_t)pl->n_chunks + i) * pl->chunk_bytes;
        list_push_back(&pl->chunks_free, &chunk->link);
    }
    for (unsigned i = 0; i < ZERO_OPS; i++) {
        pl->zero_ops[i].pl = pl;
        list_push_back(&pl->zeros_free, &pl->zero_ops[i].link);
    }
    struct copy_map_cb source_cb = {.wake = map_wake, .failed = source_map_failed};
    struct copy_map_cb target_cb = {.wake = map_wake, .failed = target_map_failed};
    if (copy_map_new(spec->source, pl->total, ZERO_RUN_MIN, &source_cb, pl,
                     &pl->map[COPY_SOURCE]) < 0 ||
        copy_map_new(spec->target, pl->total, ZERO_RUN_MIN, &target_cb, pl,
                     &pl->map[COPY_TARGET]) < 0) {
        goto fail;
    }
    *ret_pipeline = pl;
    return 0;

fail:
    pipeline_free(pl);
    return -ENOMEM;
}

void pipeline_free(struct pipeline *pl)
{
    if (!pl) {
        return;
    }
    CHECK(pl->inflight == 0 && !pl->pump_queued);
    loop_timer_stop(&pl->throttle_timer);
    copy_map_free(pl->map[COPY_SOURCE]);
    copy_map_free(pl->map[COPY_TARGET]);
    free(pl->chunks);
    if (pl->buffers) {
        munmap(pl->buffers, pl->buffers_bytes);
    }
    free(pl);
}
