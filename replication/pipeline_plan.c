// SPDX-License-Identifier: Apache-2.0
/*
 * What comes next: a look at both maps cuts a slot that is read, zeroed or skipped.
 *
 * What a target keeps (it is being filled), and what a source keeps (it is the changes since a cut), is skipped; the second also when
 * verifying, for what has not changed was not copied now.
 */
#include "replication/pipeline_private.h"

enum { PLAN_BUDGET = 64 }; /* slots at a time, before others have their turn on the loop */

/* A target that is filled is asked first what it has. */
static bool skips_kept(const struct pipeline *pl)
{
    return pl->dev[COPY_TARGET]->info.keeps && !pl->verify;
}

/* The end of the range that begins at offset and is zero in the map of that side, or offset itself.
 * */
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
        if (answer == COPY_MAP_WAIT || (answer == COPY_MAP_KEPT && side == COPY_SOURCE) ||
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
    if (!pl->verify) {
        pl->counters->bytes_skipped += slot_of(pl, seq)->len; /* counted by the copy already */
    }
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
    end = min_u64(end, pl->next + round_down(pl->zero_pace.max, pl->grain));
    slot_push(pl, data_end(pl, COPY_TARGET, pl->next, end) - pl->next, SLOT_ZERO);
    return true;
}

/* Where the target begins to keep what it has, as far as that is known and worth it. */
static uint64_t kept_begin(struct pipeline *pl, uint64_t limit)
{
    uint64_t at = pl->next;
    while (at < limit) {
        uint64_t end;
        enum copy_map_answer answer = copy_map_peek(pl->map[COPY_TARGET], at, &end);
        if (answer == COPY_MAP_WAIT) {
            break;
        }
        if (answer == COPY_MAP_KEPT && end - at >= ZERO_RUN_MIN && at > pl->next) {
            return round_up(at, pl->grain);
        }
        at = end;
    }
    return limit;
}

/* Both sides are read, whatever they are, up to what need not be looked at. */
static uint64_t compare_end(struct pipeline *pl, uint64_t limit)
{
    uint64_t at = pl->next;
    while (at < limit) {
        uint64_t end;
        enum copy_map_answer answer = copy_map_peek(pl->map[COPY_SOURCE], at, &end);
        if (at > pl->next && (answer == COPY_MAP_WAIT || answer == COPY_MAP_KEPT)) {
            break;
        }
        at = end;
    }
    return min_u64(round_up(min_u64(at, limit), pl->grain), limit);
}

static bool plan_read(struct pipeline *pl)
{
    bool in_body = pl->next < pl->body_end;
    uint64_t target_block = pl->dev[COPY_TARGET]->info.block_bytes;
    uint64_t limit = in_body ? min_u64(pl->next + pl->chunk_bytes, pl->body_end) : pl->total;
    limit = in_body && skips_kept(pl) ? min_u64(kept_begin(pl, limit), limit) : limit;
    uint64_t target_end = in_body ? 0 : round_up(pl->total, target_block);
    bool padded = target_end > pl->total;
    enum chunk_step step = padded && !pl->verify ? CHUNK_READ_TARGET : CHUNK_READ;

    if (!chunk_may_start(pl, step)) {
        return false;
    }
    uint64_t end = limit;
    if (in_body && pl->compare && !pl->verify) {
        end = compare_end(pl, limit);
    } else if (in_body) {
        end = data_end(pl, COPY_SOURCE, pl->next, limit);
    }
    uint64_t len = end - pl->next;
    uint64_t now_ns = loop_now_ns(pl->loop);
    if (!throttle_take(pl->throttle, len, now_ns)) {
        loop_timer_start(&pl->throttle_timer, throttle_wait_ns(pl->throttle, now_ns));
        return false;
    }
    uint64_t known = 0;
    bool target_zero = !pl->verify && in_body &&
                       copy_map_peek(pl->map[COPY_TARGET], pl->next, &known) == COPY_MAP_ZERO &&
                       known >= end;
    chunk_start(pl, step, len, padded ? target_end - pl->next : len, target_zero);
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
    enum copy_map_answer answer;
    if (skips_kept(pl)) {
        answer = copy_map_peek(pl->map[COPY_TARGET], pl->next, &end);
        if (answer == COPY_MAP_WAIT) {
            return false;
        }
        end = round_down(min_u64(end, pl->body_end), pl->grain);
        if (answer == COPY_MAP_KEPT && end > pl->next) {
            return plan_skip(pl, end);
        }
    }
    answer = copy_map_peek(pl->map[COPY_SOURCE], pl->next, &end);
    if (answer == COPY_MAP_WAIT) {
        return false;
    }
    if (answer == COPY_MAP_KEPT) {
        end = round_down(min_u64(end, pl->body_end), pl->grain);
        return end > pl->next ? plan_skip(pl, end) : plan_read(pl);
    }
    if (answer == COPY_MAP_DATA) {
        return plan_read(pl);
    }
    end = zero_end(pl, COPY_SOURCE, pl->next);
    if (end == pl->next || zeros_too_short(pl, COPY_SOURCE, pl->next)) {
        return plan_read(pl);
    }
    if (pl->verify || pl->compare) {
        uint64_t known;
        if (copy_map_peek(pl->map[COPY_TARGET], pl->next, &known) == COPY_MAP_WAIT) {
            return false;
        }
        end = min_u64(end, zero_end(pl, COPY_TARGET, pl->next));
        return end > pl->next ? plan_skip(pl, end) : plan_read(pl);
    }
    return plan_zero(pl, end);
}

void plan_pump(struct pipeline *pl)
{
    for (unsigned i = 0; i < PLAN_BUDGET; i++) {
        if (!plan_next(pl)) {
            return;
        }
    }
    pipeline_pump_later(pl);
}
