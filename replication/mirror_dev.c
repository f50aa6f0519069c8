// SPDX-License-Identifier: Apache-2.0
/*
 * The device: what a host request goes through.
 *
 *     read, map    ─▶ gate ─▶ below
 *     write, zero, ─▶ gate ─▶ lock ─▶ mark ─▶ below ─┬─▶ both ended ─▶ told
 *     discard                              └─▶ leg ──┘
 *     flush        ─▶ gate ─▶ below and leg
 *
 * The gate is closed while the map is being read, while writes are held (split, turning), and while a restore has lost
 * its leg. What waits there has no lock. Locks are ranges in order of arrival; whoever overlaps an earlier one waits for
 * its end, so both sides get overlapping writes in one order, and copying never meets a write.
 *
 * The last of the two to end completes the request in its own completion: no turn of the loop is added.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "replication/mirror_private.h"

#define LEG_PATIENCE_NS (20 * SEC_NS)

struct mirror_dev {
    struct blockdev base;
    struct mirror_core *core;
    bool idle, flushed;
    block_close_fn close_done;
    void *close_arg;
};

static const struct blockdev_ops mirror_ops;

/* ---- locks ---- */

static bool overlap(const struct mirror_lock *a, const struct mirror_lock *b)
{
    return a->begin < b->end && b->begin < a->end;
}

/* Whether a later lock has to wait for it. */
static bool stands_in_the_way(struct mirror_lock *earlier)
{
    struct mirror_chunk *chunk = earlier->chunk;
    if (!chunk || chunk->writing || chunk->hard) {
        return true;
    }
    chunk->spoiled = true; /* it is read again, later */
    return false;
}

bool mirror_lock_add(struct mirror_core *core, struct mirror_lock *lock)
{
    lock->blockers = lock->waiters = 0;
    list_for_each(link, &core->locks)
    {
        struct mirror_lock *earlier = list_entry(link, struct mirror_lock, link);
        if (overlap(earlier, lock) && stands_in_the_way(earlier)) {
            earlier->waiters++;
            lock->blockers++;
        }
    }
    list_push_back(&core->locks, &lock->link);
    return lock->blockers == 0;
}

static void op_locked(struct mirror_op *op);

void mirror_lock_remove(struct mirror_core *core, struct mirror_lock *lock)
{
    struct list ready = LIST_INIT(ready);
    struct list *link = lock->link.next;
    for (; lock->waiters > 0 && link != &core->locks; link = link->next) {
        struct mirror_lock *later = list_entry(link, struct mirror_lock, link);
        if (overlap(lock, later)) {
            CHECK(later->blockers > 0);
            lock->waiters--;
            if (--later->blockers == 0) {
                list_push_back(&ready, &later->ready);
            }
        }
    }
    CHECK(lock->waiters == 0);
    list_remove(&lock->link);
    while ((link = list_pop_front(&ready)) != NULL) {
        struct mirror_lock *lucky = list_entry(link, struct mirror_lock, ready);
        if (lucky->chunk) {
            mirror_chunk_locked(lucky->chunk);
        } else {
            op_locked(container_of(lucky, struct mirror_op, lock));
        }
    }
}

struct mirror_lock *mirror_lock_find(struct mirror_core *core, uint64_t begin, uint64_t end)
{
    list_for_each(link, &core->locks)
    {
        struct mirror_lock *lock = list_entry(link, struct mirror_lock, link);
        if (lock->begin < end && begin < lock->end) {
            return lock;
        }
    }
    return NULL;
}

/* ---- requests ---- */

static bool changes(const struct block_req *req)
{
    return req->op == BLOCK_WRITE || req->op == BLOCK_ZERO || req->op == BLOCK_DISCARD;
}

static struct mirror_op *op_take(struct mirror_core *core, struct block_req *req)
{
    struct list *link = list_pop_front(&core->spare);
    struct mirror_op *op = link ? list_entry(link, struct mirror_op, link) : calloc(1, sizeof(*op));
    CHECK(op != NULL);
    list_init(&op->link);
    list_init(&op->lock.link);
    list_init(&op->lock.ready);
    op->core = core;
    op->req = req;
    op->deadline_ns = 0;
    op->lock.chunk = NULL;
    op->on_leg = op->token = op->settles = false;
    op->below_status = op->leg_status = 0;
    return op;
}

static void op_give(struct mirror_op *op)
{
    list_push_front(&op->core->spare, &op->link);
}

/* Never inside a completion of a device: may be called in submit. */
void mirror_op_refuse(struct mirror_op *op, int status)
{
    struct block_req *req = op->req;
    op_give(op);
    blockdev_complete(req, status);
}

static void op_write_end(struct mirror_op *op);
static void op_flush_end(struct mirror_op *op);

static void op_side_done(struct mirror_op *op)
{
    CHECK(op->outstanding > 0);
    if (--op->outstanding > 0) {
        return;
    }
    if (op->req && changes(op->req) && !op->settles) {
        op_write_end(op);
    } else {
        op_flush_end(op);
    }
}

static void below_done(struct block_req *child)
{
    struct mirror_op *op = child->arg;
    op->below_status = child->status;
    op_side_done(op);
}

static void leg_done(struct block_req *child)
{
    struct mirror_op *op = child->arg;
    struct mirror_core *core = op->core;
    core->leg_inflight--;
    op->leg_status = child->status;
    if (child->status) {
        mirror_leg_failed(core, op->epoch, child); /* at once: what else it has lost is marked */
    }
    if (core->leaving) {
        mirror_kick(core);
    }
    op_side_done(op);
}

static void child_init(struct mirror_op *op, struct block_req *child, block_done_fn done)
{
    const struct block_req *req = op->req;
    *child = (struct block_req){.op = req->op,
                                .flags = req->flags,
                                .offset = req->offset,
                                .len = req->len,
                                .slices = req->slices,
                                .n_slices = req->n_slices,
                                .done = done,
                                .arg = op};
}

/* What is discarded may read as anything afterwards; here it has to be the same on both sides. */
static void discard_as_zero(struct block_req *child, const struct blockdev *dev)
{
    if (child->op == BLOCK_DISCARD && !(dev->info.can_discard && dev->info.discard_zeroes)) {
        child->op = BLOCK_ZERO;
        child->flags |= BLOCK_MAY_UNMAP;
    }
}

static void op_unlock(struct mirror_op *op);
static void op_begin(struct mirror_op *op);
static enum mirror_gate gate_of(const struct mirror_core *core, const struct block_req *req);

static void op_send(struct mirror_op *op)
{
    struct mirror_core *core = op->core;
    if (gate_of(core, op->req) != MIRROR_GATE_OPEN) {
        /* While it waited for its marks the leg was lost, or writes are held. */
        change_map_end(core->map, op->req->offset, op->req->len, CHANGE_NOTHING);
        op_unlock(op);
        op_begin(op);
        return;
    }
    op->on_leg = core->connected;
    op->source_epoch = core->source_epoch;
    op->epoch = core->epoch;
    op->outstanding = 1 + op->on_leg;
    child_init(op, &op->below, below_done);
    discard_as_zero(&op->below, core->below);
    if (op->on_leg) {
        child_init(op, &op->leg, leg_done);
        discard_as_zero(&op->leg, core->leg);
        core->leg_inflight++;
        core->n_both++;
        core->written_bytes += op->req->op == BLOCK_WRITE ? op->req->len : 0;
        blockdev_submit(core->leg, &op->leg);
    }
    blockdev_submit(core->below, &op->below);
}

static void op_unlock(struct mirror_op *op)
{
    struct mirror_core *core = op->core;
    core->n_writes--;
    mirror_lock_remove(core, &op->lock);
    if (core->hold != HOLD_NONE && core->n_writes == 0) {
        mirror_kick(core);
    }
}

static enum change_end how_it_ended(const struct mirror_op *op)
{
    const struct block_req *req = op->req;
    if (op->below_status || op->source_epoch != op->core->source_epoch) {
        return CHANGE_FAILED;
    }
    if (!op->on_leg || op->leg_status || op->epoch != op->core->epoch) {
        return CHANGE_DIFFERS;
    }
    return req->flags & BLOCK_FUA && req->op != BLOCK_DISCARD ? CHANGE_DURABLE : CHANGE_SAME;
}

static void op_write_end(struct mirror_op *op)
{
    struct mirror_core *core = op->core;
    struct block_req *req = op->req;
    enum change_end how = how_it_ended(op);
    int status = op->below_status;
    if (!status && op->source_epoch != core->source_epoch) {
        status = -EIO; /* it was there, and is lost */
    }
    bool missed = !op->on_leg || op->leg_status != 0;
    change_map_end(core->map, req->offset, req->len, how);
    core->n_both -= op->on_leg;
    if (core->leaving) {
        mirror_kick(core);
    }
    if (op->below_status) {
        mirror_below_failed(core, &op->below);
    }
    if ((how == CHANGE_DIFFERS || how == CHANGE_FAILED) && core->connected) {
        mirror_kick(core);
    }
    if (!status && missed && core->spec.stop_host_io && core->phase != MIRROR_TRACKING &&
        !core->leaving) {
        status = -EIO;
    }
    /* A crash now would bring back what the leg has: it ends as a flush does, when the leg is back. */
    bool settles = !status && missed && mirror_is_restoring(core) && req->flags & BLOCK_FUA;
    mirror_tick_soon(core);
    op_unlock(op);
    if (settles) {
        op->settles = true;
        op_begin(op);
        return;
    }
    op_give(op);
    blockdev_complete_now(req, status);
}

/* ---- the gate ---- */

enum mirror_gate mirror_gate_leg(const struct mirror_core *core)
{
    return core->phase == MIRROR_HELD || core->phase == MIRROR_BROKEN ? MIRROR_GATE_FAIL
                                                                      : MIRROR_GATE_LEG;
}

static enum mirror_gate gate_of(const struct mirror_core *core, const struct block_req *req)
{
    if (core->map_failed) {
        return MIRROR_GATE_FAIL;
    }
    if (!core->map || core->map_closing) {
        return core->map_closing ? MIRROR_GATE_FAIL : MIRROR_GATE_WAIT;
    }
    if (core->hold == HOLD_TURN || (changes(req) && core->hold != HOLD_NONE)) {
        return MIRROR_GATE_WAIT;
    }
    if (core->leaving || core->phase == MIRROR_TRACKING) {
        return MIRROR_GATE_OPEN;
    }
    if (mirror_is_restoring(core)) {
        /* Without the leg nothing can be promised; of what the source alone has, no flush. */
        bool stuck = req->op == BLOCK_FLUSH ? change_map_dirty_bytes(core->map) > 0 : false;
        bool stale = !changes(req) && req->op != BLOCK_FLUSH &&
                     change_map_any_stale(core->map, req->offset, req->len);
        bool needs = changes(req) || req->op == BLOCK_FLUSH || (stale && req->op == BLOCK_READ);
        return (needs && !core->connected) || stuck ? mirror_gate_leg(core) : MIRROR_GATE_OPEN;
    }
    if (changes(req) && !core->connected && core->spec.stop_host_io) {
        return core->phase == MIRROR_OPENING ? MIRROR_GATE_LEG : MIRROR_GATE_FAIL;
    }
    return MIRROR_GATE_OPEN;
}

static void marked(struct change_mark *mark, int status)
{
    struct mirror_op *op = container_of(mark, struct mirror_op, mark);
    if (status) {
        op_unlock(op);
        mirror_op_refuse(op, status);
    } else {
        op_send(op);
    }
}

/* Nothing that overlaps is before it. */
static void op_locked(struct mirror_op *op)
{
    struct mirror_core *core = op->core;
    if (gate_of(core, op->req) != MIRROR_GATE_OPEN) {
        op_unlock(op);
        op_begin(op);
    } else if (!mirror_is_restoring(core) || mirror_restore_fetch(op)) {
        mirror_write_fetched(op);
    }
}

void mirror_write_unfetched(struct mirror_op *op, int status)
{
    op_unlock(op);
    if (status) {
        mirror_op_refuse(op, status);
    } else {
        op_begin(op);
    }
}

void mirror_write_fetched(struct mirror_op *op)
{
    struct mirror_core *core = op->core;
    op->mark.done = marked;
    int rc = change_map_begin(core->map, &op->mark, op->req->offset, op->req->len);
    if (rc == 1) {
        op_send(op);
        return;
    }
    /* It was a new region. */
    if (change_map_tidy(core->map, UINT64_MAX) && core->connected) {
        core->tidy_wanted = true;
        mirror_kick(core);
    }
    if (rc < 0) {
        op_unlock(op);
        mirror_op_refuse(op, rc);
    }
}

void mirror_op_finish(struct mirror_op *op, int status)
{
    struct block_req *req = op->req;
    op_give(op);
    blockdev_complete_now(req, status);
}

static void pass_done(struct block_req *child)
{
    struct mirror_op *op = child->arg;
    op->req->n_extents = child->n_extents;
    if (child->op == BLOCK_MAP && op->core->direction == MIRROR_FROM_LEG) {
        mirror_restore_map_cut(op);
    }
    mirror_op_finish(op, child->status);
}

void mirror_op_again(struct mirror_op *op)
{
    op_begin(op);
}

/* Reads and map queries. */
static void op_pass(struct mirror_op *op)
{
    child_init(op, &op->below, pass_done);
    op->below.extents = op->req->extents;
    op->below.max_extents = op->req->max_extents;
    blockdev_submit(op->core->below, &op->below);
}

static void op_flush(struct mirror_op *op)
{
    struct mirror_core *core = op->core;
    op->on_leg = core->connected || (!op->req && core->leg_state == LEG_OPEN);
    op->source_epoch = core->source_epoch;
    op->epoch = core->epoch;
    op->outstanding = 1 + op->on_leg;
    op->token = op->on_leg && change_map_flush_begin(core->map);
    op->below = (struct block_req){.op = BLOCK_FLUSH, .done = below_done, .arg = op};
    if (op->on_leg) {
        op->leg = (struct block_req){.op = BLOCK_FLUSH, .done = leg_done, .arg = op};
        core->leg_inflight++;
        blockdev_submit(core->leg, &op->leg);
    }
    blockdev_submit(core->below, &op->below);
}

static void op_begin(struct mirror_op *op)
{
    static const struct block_req settling = {.op = BLOCK_FLUSH};
    struct mirror_core *core = op->core;
    struct block_req *req = op->req;
    enum mirror_gate gate = gate_of(core, op->settles ? &settling : req);
    uint64_t now_ns = gate == MIRROR_GATE_LEG ? loop_now_ns(core->loop) : 0;
    if (gate == MIRROR_GATE_LEG && op->deadline_ns == 0) {
        op->deadline_ns = now_ns + LEG_PATIENCE_NS;
        mirror_tick_soon(core);
    }
    if (gate == MIRROR_GATE_FAIL || (gate == MIRROR_GATE_LEG && now_ns >= op->deadline_ns)) {
        mirror_op_refuse(op, -EIO);
    } else if (gate != MIRROR_GATE_OPEN && core->dev_closing) {
        mirror_op_refuse(op, -ECANCELED);
    } else if (gate != MIRROR_GATE_OPEN) {
        list_push_back(&core->queue, &op->link);
    } else if (req->op == BLOCK_FLUSH || op->settles) {
        op_flush(op);
    } else if (!changes(req)) {
        if (mirror_reads_stale(op)) {
            (req->op == BLOCK_MAP ? mirror_restore_map : mirror_restore_read)(op);
        } else {
            op_pass(op);
        }
    } else {
        core->n_writes++;
        op->lock.begin = req->offset;
        op->lock.end = req->offset + req->len;
        if (core->direction == MIRROR_FROM_LEG) { /* parts of granules are fetched under it */
            op->lock.begin -= op->lock.begin % CHANGE_GRANULE_BYTES;
            op->lock.end += -op->lock.end % CHANGE_GRANULE_BYTES;
        }
        if (mirror_lock_add(core, &op->lock)) {
            op_locked(op);
        }
    }
}

void mirror_queue_go(struct mirror_core *core)
{
    if (list_empty(&core->queue)) {
        return;
    }
    struct list waiting = LIST_INIT(waiting);
    struct list *link;
    list_move_all(&waiting, &core->queue);
    while ((link = list_pop_front(&waiting)) != NULL) {
        op_begin(list_entry(link, struct mirror_op, link));
    }
}

/* ---- flushes ---- */

static void op_flush_end(struct mirror_op *op)
{
    struct mirror_core *core = op->core;
    struct block_req *req = op->req;
    int status = op->below_status;
    bool both = op->on_leg && !status && !op->leg_status && op->epoch == core->epoch &&
                op->source_epoch == core->source_epoch;
    bool token = op->token;
    uint64_t gen = op->gen;
    if (token) {
        change_map_flush_end(core->map, both);
    }
    if (status) {
        mirror_below_failed(core, &op->below);
    }
    bool missed = !status && req && !both && !core->leaving;
    if (missed && op->on_leg && core->spec.stop_host_io) {
        status = -EIO;
    } else if (missed && mirror_is_restoring(core)) {
        if (core->flush_waits) {
            mirror_kick(core);
        }
        op_begin(op); /* when the leg is back */
        return;
    }
    op_give(op);
    if (!req) {
        core->below_inflight--;
        core->flush = NULL;
        mirror_flushed(core, gen, both && token);
    } else {
        if (core->flush_waits) {
            mirror_kick(core);
        }
        blockdev_complete_now(req, status);
    }
}

void mirror_flush(struct mirror_core *core)
{
    if (core->flush || !core->below) {
        return;
    }
    uint64_t now_ns = loop_now_ns(core->loop);
    if (now_ns < core->flush_retry_ns) {
        mirror_tick_soon(core);
        return;
    }
    core->flush_waits = change_map_flush_busy(core->map);
    if (core->flush_waits) {
        return; /* the host's ends first */
    }
    struct mirror_op *op = op_take(core, NULL);
    op->gen = core->need_gen;
    core->flush = op;
    core->below_inflight++;
    op_flush(op);
}

/* ---- the device ---- */

static void mirror_submit(struct blockdev *base, struct block_req *req)
{
    struct mirror_dev *dev = container_of(base, struct mirror_dev, base);
    op_begin(op_take(dev->core, req));
}

static void below_event(void *arg, struct blockdev *below, enum block_event event,
                        unsigned attempts, const char *detail)
{
    struct mirror_dev *dev = arg;
    struct mirror_core *core = dev->core;
    (void)below;
    if (event == BLOCK_EVENT_DOWN) {
        mirror_below_lost(core);
    }
    mirror_kick(core);
    blockdev_emit(&dev->base, event, attempts, detail);
}

static void dev_idle(void *arg)
{
    struct mirror_dev *dev = arg;
    dev->idle = true;
    mirror_kick(dev->core);
}

/* Closing: what waits is ended; the rest comes back by itself; a last flush, so that the map is clean. */
static void mirror_close(struct blockdev *base, block_close_fn done, void *arg)
{
    struct mirror_dev *dev = container_of(base, struct mirror_dev, base);
    struct mirror_core *core = dev->core;
    core->dev_closing = true;
    dev->close_done = done;
    dev->close_arg = arg;
    struct list *link;
    while ((link = list_pop_front(&core->queue)) != NULL) {
        mirror_op_refuse(list_entry(link, struct mirror_op, link), -ECANCELED);
    }
    blockdev_when_idle(base, dev_idle, dev);
}

static void dev_closed(struct mirror_dev *dev)
{
    struct mirror_core *core = dev->core;
    block_close_fn done = dev->close_done;
    void *arg = dev->close_arg;
    if (core->below->on_event == below_event && core->below->event_arg == dev) {
        core->below->on_event = NULL;
    }
    core->below = NULL;
    core->dev = NULL;
    free(dev);
    mirror_kick(core);
    done(arg);
}

void mirror_dev_step(struct mirror_core *core)
{
    struct mirror_dev *dev = core->dev;
    if (!dev->idle) {
        return;
    }
    core->below_closing = true; /* no copying */
    if (core->n_chunks > 0 || core->flush) {
        return;
    }
    if (core->connected && !dev->flushed) {
        dev->flushed = true;
        core->flush_retry_ns = 0;
        core->need_gen++;
        mirror_flush(core);
        if (core->flush) {
            return;
        }
    }
    if (core->below_inflight == 0) {
        dev_closed(dev);
    }
}

static const struct blockdev_ops mirror_ops = {
    .kind = "mirror",
    .submit = mirror_submit,
    .close = mirror_close,
};

int mirror_make_dev(struct mirror *mirror, struct blockdev *below, struct blockdev **ret_dev)
{
    struct mirror_core *core = mirror_core_of(mirror);
    CHECK(core && loop_is_current(core->loop) && below->loop == core->loop && !core->dev);
    if (below->info.size_bytes != core->spec.size_bytes ||
        CHANGE_GRANULE_BYTES % below->info.block_bytes != 0) {
        return -EINVAL;
    }
    struct mirror_dev *dev = calloc(1, sizeof(*dev));
    if (!dev) {
        return -ENOMEM;
    }
    dev->base.ops = &mirror_ops;
    dev->base.loop = core->loop;
    dev->base.info = below->info;
    dev->core = core;
    below->on_event = below_event;
    below->event_arg = dev;
    core->below = below;
    core->below_closing = core->dev_closing = false;
    core->dev = dev;
    *ret_dev = &dev->base;
    mirror_kick(core);
    return 0;
}

void mirror_ops_free(struct mirror_core *core)
{
    struct list *link;
    while ((link = list_pop_front(&core->spare)) != NULL) {
        free(list_entry(link, struct mirror_op, link));
    }
}
