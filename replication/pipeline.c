// SPDX-License-Identifier: Apache-2.0
/*
 *              watermark                                            next
 *     =============|#####|.zz.|wwww|rrrr|####|zzzz|zzzz|rrrr|rrrr|----|-------------
 *        done        ring of slots, in order of offset                planned next
 *
 *     map of the source --+                      +-- not zero: WRITE, piece by piece --+
 *                         +-- plan --> READ --> scan                                   +--> done
 *     map of the target --+     |                +-- zero, merged with neighbours --> ZERO
 *                               +-- zero there, zero here already, or kept here: skipped
 *
 * The range ahead is cut into slots, in order of offset. A slot that has to be read gets a chunk
 * (buffer and requests) for as long as it is in hand; the read's callback scans for zeros and
 * starts the writes. Slots end in any order; the watermark is the offset of the oldest one that is
 * not done.
 *
 * Bounds: the number of chunks in hand (struct window, found from latency, between a floor given by
 * the priority and what the buffers hold), each device's info.max_inflight, the bytes of ZERO under
 * way, and the ring.
 *
 * Zeros: ranges that the source's map calls zero and chunks that turn out to be zero wait as slots
 * for their neighbours, so that a long run becomes one command. The target is never believed to be
 * zero, except where its own map says so.
 *
 * Every slot begins and ends at a multiple of the larger block size (and of GRAIN), but for the
 * last: where the source ends inside a block of the target, that block is read from the target
 * first, so that the bytes behind the source's end stay what they were.
 *
 * Comparing (verify) is the same walk: a chunk has two buffers, one read from each side; what both
 * maps call zero is skipped.
 */
#include "replication/pipeline.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/check.h"
#include "replication/pipeline_private.h"

enum { CHUNKS_MAX = 64 };
#define GRAIN         4096u
#define CHUNK_DEFAULT (256u << 10)
#define CHUNK_MAX     (1u << 20)
#define BUFFERS_MAX   (32u << 20)
#define PRICE_WINDOW  (8u << 20)

bool pipeline_has_room(const struct pipeline *pl, enum copy_side side)
{
    const struct blockdev *dev = pl->dev[side];
    unsigned max = dev->info.max_inflight ? dev->info.max_inflight : 1;
    unsigned reserved = side == COPY_TARGET && pl->flush_wanted ? 1 : 0;
    return pl->open[side] && dev->inflight + reserved < max;
}

void pipeline_submit(struct pipeline *pl, enum copy_side side, struct block_req *req)
{
    pl->inflight++;
    blockdev_submit(pl->dev[side], req);
}

void pipeline_completed(struct pipeline *pl, enum copy_side side, const struct block_req *req)
{
    pl->inflight--;
    pl->successes[side] += req->status == 0;
    pl->settled = false;
}

/* ---- the ring ---- */

void slot_set_state(struct pipeline *pl, struct slot *slot, enum slot_state state)
{
    pl->n_zero_slots -= slot->state == SLOT_ZERO;
    pl->n_zero_slots += state == SLOT_ZERO;
    slot->state = state;
}

void slot_done(struct pipeline *pl, uint64_t seq)
{
    slot_set_state(pl, slot_of(pl, seq), SLOT_DONE);
    while (pl->tail < pl->head && slot_of(pl, pl->tail)->state == SLOT_DONE) {
        pl->tail++;
    }
    pl->watermark = pl->tail < pl->head ? slot_of(pl, pl->tail)->offset : pl->next;
}

uint64_t slot_push(struct pipeline *pl, uint64_t len, enum slot_state state)
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

bool pipeline_failed(struct pipeline *pl, enum copy_side side, const struct block_req *req,
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

void pipeline_price_begin(struct pipeline *pl)
{
    if (pl->chunks_used == 0) {
        pl->busy_since_ns = loop_now_ns(pl->loop);
    }
}

void pipeline_price_end(struct pipeline *pl, uint64_t len)
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

/* ---- flush ---- */

static void flush_done(struct block_req *req)
{
    struct pipeline *pl = req->arg;
    pipeline_completed(pl, COPY_TARGET, req);
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
    pipeline_submit(pl, COPY_TARGET, &pl->flush_req);
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
            chunk_pump_retries(pl);
            zero_pump_retries(pl);
        }
        chunk_pump_writes(pl);
        zero_pump(pl);
        if (pl->mode == PIPELINE_RUN) {
            copy_map_pump(pl->map[COPY_SOURCE]);
            copy_map_pump(pl->map[COPY_TARGET]);
            plan_pump(pl);
            zero_pump(pl); /* nothing may come after the slots just planned */
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

void pipeline_pump_later(struct pipeline *pl)
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
    chunk_drop_all(pl);
    zero_drop_all(pl);
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

/* The transfer size: what the devices like best, what they pass on unsplit, and what caches like.
 * */
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
    pl->compare = spec->compare;
    pl->total = spec->bytes_total;
    pl->grain = GRAIN;
    pl->grain = source->block_bytes > pl->grain ? source->block_bytes : pl->grain;
    pl->grain = target->block_bytes > pl->grain ? target->block_bytes : pl->grain;
    pl->body_end = round_down(pl->total, pl->grain);
    pl->chunk_bytes = choose_chunk(source, target, pl->grain);
    pl->shortest_zero = (uint32_t)round_up(ZERO_RUN_MIN, pl->grain);
    zero_pace_init(&pl->zero_pace, ZERO_PACE_LEAST);
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
    if (copy_map_new(spec->source, pl->total, ZERO_RUN_MIN, &source_cb, pl, &pl->map[COPY_SOURCE]) <
            0 ||
        copy_map_new(spec->target, pl->total, ZERO_RUN_MIN, &target_cb, pl, &pl->map[COPY_TARGET]) <
            0) {
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
