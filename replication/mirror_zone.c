// SPDX-License-Identifier: Apache-2.0
/*
 * A zone: a long run of marked granules, of which the maps of both sides are asked instead of reading it.
 *
 *                                                   ┌─ zeros on both ───────────▶ same, nothing is sent
 *     marked granules ─▶ lock ─▶ both maps, at once ┼─ zeros on the side that is right ─▶ zero, long ─▶ same
 *                                  │                └─ else ─────────▶ left, and read by and by (plain)
 *                                  └── failed, or overtaken by a host write: marked as before
 *
 * What is believed was asked under the lock, in this session of both sides; what is found the same, or zeroed, counts as
 * written and not flushed. Until the zeros are sent a host write spoils the zone and does not wait. Then it waits for one batch: how much that is
 * follows from how long the device takes, and the lock is cut to what the batch needs.
 *
 * One zone at a time. Answers without zeros let more and more be read before the next question.
 */
#include <errno.h>

#include "base/check.h"
#include "replication/mirror_private.h"

enum { RUN_LEAST = 128 << 10, SPOILED_BYTES = 1 << 20 };
#define ZONE_LEAST  (512ull << 10)
#define ZONE_MOST   (1ull << 30)
#define PLAIN_LEAST (1ull << 20)
#define PLAIN_MOST  (64ull << 20)
#define ZERO_FIRST  (4ull << 20)
#define MAP_SLOW_NS (10 * MS_NS)

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

void mirror_zone_reset(struct mirror_core *core)
{
    core->leg_map_unusable = core->below_map_unusable = false;
    core->plain_begin = core->plain_end = core->plain_bytes = 0;
    core->zone_bytes = ZONE_MOST;
    zero_pace_init(&core->zero_pace, ZERO_FIRST);
}

static bool can_map(const struct mirror_core *core, bool leg)
{
    return leg ? core->leg->info.can_map && !core->leg_map_unusable
               : core->below->info.can_map && !core->below_map_unusable;
}

/* Of its kind, and nobody has a lock there. */
static uint64_t free_len(const struct mirror_core *core, const struct change_run *run, uint64_t max)
{
    struct change_run longer;
    if (!change_map_next(core->map, run->offset, max, false, &longer) ||
        longer.offset != run->offset || longer.stale != run->stale) {
        return 0;
    }
    uint64_t end = longer.offset + longer.len;
    list_for_each(link, &core->locks)
    {
        const struct mirror_lock *lock = list_entry(link, struct mirror_lock, link);
        if (lock->begin < end && run->offset < lock->end) {
            end = max_u64(lock->begin, run->offset);
            end -= end % CHANGE_GRANULE_BYTES;
        }
    }
    return end > run->offset ? end - run->offset : 0;
}

enum mirror_zone_use mirror_zone_use(const struct mirror_core *core, struct change_run *run)
{
    bool plain = run->offset >= core->plain_begin && run->offset < core->plain_end;
    if (plain || !can_map(core, run->stale)) {
        return MIRROR_ZONE_NO;
    }
    uint64_t len = free_len(core, run, core->zone_busy ? ZONE_LEAST : core->zone_bytes);
    if (len < ZONE_LEAST) {
        return MIRROR_ZONE_NO;
    }
    if (core->zone_busy) {
        return MIRROR_ZONE_WAIT;
    }
    run->len = len;
    return MIRROR_ZONE_YES;
}

static void plain(struct mirror_core *core, uint64_t begin, uint64_t end)
{
    core->plain_begin = begin;
    core->plain_end = end;
}

/* ---- zeros ---- */

static void zeroed(struct block_req *req)
{
    struct mirror_chunk *chunk = req->arg;
    struct mirror_core *core = chunk->core;
    struct mirror_zone *zone = core->zone;
    mirror_chunk_back(chunk, req, !chunk->stale);
    core->zeroed_bytes += req->status == 0 ? req->len : 0;
    if (chunk->outstanding > 0) {
        return;
    }
    if (!chunk->failed && mirror_chunk_counts(chunk)) {
        for (unsigned i = 0; i < zone->n_zeros; i++) {
            change_map_copied(core->map, zone->zeros[i].offset, zone->zeros[i].len);
        }
        core->need_gen++;
        core->copy_backoff_ns = 0;
        /* Those who write meanwhile wait for one batch. */
        zero_pace_done(&core->zero_pace, zone->sum, loop_now_ns(core->loop) - chunk->started_ns);
    }
    mirror_chunk_end(chunk);
}

static void zero_all(struct mirror_chunk *chunk)
{
    struct mirror_core *core = chunk->core;
    struct mirror_zone *zone = core->zone;
    chunk->writing = true;
    chunk->started_ns = loop_now_ns(core->loop);
    for (unsigned i = 0; i < zone->n_zeros; i++) {
        struct block_req *req = &zone->zeros[i];
        req->op = BLOCK_ZERO;
        req->flags = BLOCK_MAY_UNMAP;
        req->done = zeroed;
        req->arg = chunk;
        mirror_chunk_submit(chunk, req, !chunk->stale);
    }
}

/* ---- answers ---- */

struct answer {
    const struct block_req *req;
    unsigned index;
};

/* False: the answer does not go so far. */
static bool look(struct answer *answer, uint64_t at, bool *ret_zero, uint64_t *end)
{
    const struct block_req *req = answer->req;
    while (answer->index < req->n_extents) {
        const struct block_extent *extent = &req->extents[answer->index];
        if (at < extent->offset) {
            return false;
        }
        if (at - extent->offset < extent->len) {
            *ret_zero = extent->kind == BLOCK_EXTENT_ZERO;
            *end = min_u64(*end, extent->offset + extent->len);
            return true;
        }
        answer->index++;
    }
    return false;
}

/* Zeros where it is read from, in whole granules. Returns where it ends: there is no room for more. */
static uint64_t take_zeros(struct mirror_chunk *chunk, uint64_t begin, uint64_t end, bool both)
{
    struct mirror_core *core = chunk->core;
    struct mirror_zone *zone = core->zone;
    bool no_zero = chunk->stale ? core->below_zero_unsupported : core->leg_zero_unsupported;
    uint64_t from = begin + -begin % CHANGE_GRANULE_BYTES;
    uint64_t to = end == core->spec.size_bytes ? end : end - end % CHANGE_GRANULE_BYTES;
    if (from >= to || to - from < RUN_LEAST || (!both && no_zero)) {
        return end;
    }
    if (both) {
        change_map_copied(core->map, from, to - from);
        core->zeroed_bytes += to - from;
        core->need_gen++;
        return end;
    }
    if (zone->n_zeros == MIRROR_ZONE_ZEROS || zone->sum >= core->zero_pace.max) {
        return from;
    }
    uint64_t len = min_u64(to - from, core->zero_pace.max - zone->sum);
    zone->zeros[zone->n_zeros++] = (struct block_req){.offset = from, .len = len};
    zone->sum += len;
    return from + len == to ? end : from + len;
}

/* Up to where the zone is dealt with. */
static uint64_t take_answers(struct mirror_chunk *chunk)
{
    struct answer from = {.req = &chunk->reqs[0]};
    struct answer to = {.req = &chunk->reqs[1]};
    bool asked_to = chunk->reqs[1].max_extents > 0;
    uint64_t end = chunk->offset + chunk->len;
    uint64_t at = chunk->offset;
    while (at < end) {
        uint64_t until = end;
        bool from_zero;
        bool to_zero = false;
        if (!look(&from, at, &from_zero, &until) ||
            (asked_to && !look(&to, at, &to_zero, &until))) {
            break;
        }
        uint64_t taken = from_zero ? take_zeros(chunk, at, until, to_zero) : until;
        at = taken;
        if (taken < until) {
            break;
        }
    }
    return at;
}

static void zone_known(struct mirror_chunk *chunk)
{
    struct mirror_core *core = chunk->core;
    uint64_t before = core->zeroed_bytes;
    core->zone->n_zeros = 0;
    core->zone->sum = 0;
    uint64_t end = take_answers(chunk);
    bool gain = core->zone->n_zeros > 0 || core->zeroed_bytes != before;
    core->zone_bytes = min_u64(max_u64((end - chunk->offset) * 2, ZONE_LEAST), ZONE_MOST);
    uint64_t most =
        loop_now_ns(core->loop) - chunk->started_ns > MAP_SLOW_NS ? ZONE_MOST : PLAIN_MOST;
    core->plain_bytes = gain ? 0 : min_u64(max_u64(core->plain_bytes * 2, PLAIN_LEAST), most);
    plain(core, chunk->offset, max_u64(end, chunk->offset + core->plain_bytes));
    if (core->zone->n_zeros == 0) {
        mirror_chunk_end(chunk);
        return;
    }
    CHECK(chunk->lock.waiters == 0 && !chunk->spoiled); /* or it could not be cut */
    chunk->len = end - chunk->offset;
    chunk->lock.end = end;
    zero_all(chunk);
}

static void asked(struct block_req *req)
{
    struct mirror_chunk *chunk = req->arg;
    struct mirror_core *core = chunk->core;
    mirror_chunk_back(chunk, req, (req == &chunk->reqs[0]) == chunk->stale);
    if (chunk->outstanding > 0) {
        return;
    }
    if (chunk->failed || !core->connected || core->below_closing || !mirror_chunk_counts(chunk)) {
        mirror_chunk_end(chunk);
    } else if (chunk->spoiled) {
        core->zone_bytes = max_u64(core->zone_bytes / 4, ZONE_LEAST);
        plain(core, chunk->offset, chunk->offset + SPOILED_BYTES);
        mirror_chunk_end(chunk);
    } else {
        zone_known(chunk);
    }
}

static void ask(struct mirror_chunk *chunk, unsigned i, struct block_extent *extents, bool at_leg)
{
    chunk->reqs[i] = (struct block_req){.op = BLOCK_MAP,
                                        .offset = chunk->offset,
                                        .len = chunk->len,
                                        .extents = extents,
                                        .max_extents = MIRROR_ZONE_EXTENTS,
                                        .done = asked,
                                        .arg = chunk};
    mirror_chunk_submit(chunk, &chunk->reqs[i], at_leg);
}

void mirror_zone_locked(struct mirror_chunk *chunk)
{
    struct mirror_core *core = chunk->core;
    chunk->reqs[1] = (struct block_req){.op = BLOCK_MAP};
    ask(chunk, 0, core->zone->from, chunk->stale);
    if (can_map(core, !chunk->stale)) {
        ask(chunk, 1, core->zone->to, !chunk->stale);
    }
}
