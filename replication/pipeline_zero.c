// SPDX-License-Identifier: Apache-2.0
/*
 * Zeros: slots that wait (SLOT_ZERO) are joined with their neighbours into commands.
 *
 * A short run waits until what lies beside it is decided; a long one, or one that nothing can join
 * any more, goes at once. A device that refuses ZERO gets zeros written.
 */
#include <errno.h>

#include "base/check.h"
#include "replication/pipeline_private.h"

enum { ZERO_INFLIGHT = 4 }; /* times the longest command */

static void zero_op_submit(struct zero_op *op);

static void zero_op_release(struct zero_op *op)
{
    struct pipeline *pl = op->pl;
    pl->zeros_used--;
    pl->zero_bytes -= op->len;
    list_push_front(&pl->zeros_free, &op->link);
}

static void zero_op_done(struct block_req *req)
{
    struct zero_op *op = req->arg;
    struct pipeline *pl = op->pl;
    pipeline_completed(pl, COPY_TARGET, req);
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
            zero_pace_done(&pl->zero_pace, op->len, loop_now_ns(pl->loop) - op->started_ns);
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
        if (pipeline_failed(pl, COPY_TARGET, req, op->tries, &op->due_ns)) {
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
    pipeline_submit(pl, COPY_TARGET, &op->io.req);
}

void zero_pump_retries(struct pipeline *pl)
{
    if (list_empty(&pl->zeros_retry)) {
        return;
    }
    uint64_t now_ns = loop_now_ns(pl->loop);
    list_for_each_safe(link, following, &pl->zeros_retry)
    {
        struct zero_op *op = list_entry(link, struct zero_op, link);
        if (op->due_ns <= now_ns && pipeline_has_room(pl, COPY_TARGET)) {
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
    while (seq < end &&
           (op->n_slots == 0 || op->len + slot_of(pl, seq)->len <= pl->zero_pace.max)) {
        op->len += slot_of(pl, seq)->len;
        op->n_slots++;
        slot_set_state(pl, slot_of(pl, seq), SLOT_ZEROING);
        seq++;
    }
    pl->zeros_used++;
    pl->zero_bytes += op->len;
    zero_op_submit(op);
    return seq;
}

static bool zero_may_start(const struct pipeline *pl)
{
    return !list_empty(&pl->zeros_free) && pipeline_has_room(pl, COPY_TARGET) &&
           (pl->zeros_used == 0 || pl->zero_bytes < ZERO_INFLIGHT * pl->zero_pace.max);
}

/* Could the slot still become a neighbour of a run of zeros? */
static bool zero_undecided(struct pipeline *pl, uint64_t seq)
{
    return slot_of(pl, seq)->state == SLOT_READING;
}

void zero_pump(struct pipeline *pl)
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
        if (force || !waits || len >= pl->zero_pace.max) {
            while (seq < end && zero_may_start(pl)) {
                seq = zero_start(pl, seq, end);
            }
        }
        seq = end;
    }
}

void zero_drop_all(struct pipeline *pl)
{
    struct list *link;
    while ((link = list_pop_front(&pl->zeros_retry)) != NULL) {
        zero_op_release(list_entry(link, struct zero_op, link));
    }
}
