// SPDX-License-Identifier: Apache-2.0
/*
 * The fill device of a stack: see stack.h.
 *
 * A request locks its granules like any other change of the stack, looks which of them the oldest
 * layer does not have, and writes these, run by run. Reads of the stack need no correction: what
 * they find below is what has been written.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "block/stack_object.h"

enum { ZERO_GRANULES = 1 << 18, MAP_GRANULES = LAYER_PAGE_GRANULES };

struct stack_fill {
    struct blockdev base;
    struct list link;    /* of the stack's */
    struct stack *stack; /* NULL: it was closed, or needs nothing any more */
    bool whole;          /* nothing is below any more: all is there */
    struct layer *layer;
    unsigned n_ops;
    struct list spare;
    block_close_fn close_done;
    void *close_arg;
};

struct fill_op {
    struct list link; /* spare */
    struct stack_fill *fill;
    struct block_req *req;
    struct stack_op *op; /* of changes */
    struct layer_wait wait;
    uint64_t first;
    uint64_t last;
};

static struct stack_fill *fill_of(struct blockdev *dev)
{
    return container_of(dev, struct stack_fill, base);
}

static uint64_t last_granule(const struct block_req *req)
{
    return (req->offset + req->len - 1) / LAYER_GRANULE;
}

static struct fill_op *op_get(struct stack_fill *fill, struct block_req *req)
{
    struct list *link = list_pop_front(&fill->spare);
    struct fill_op *op = link ? list_entry(link, struct fill_op, link) : calloc(1, sizeof(*op));
    CHECK(op != NULL);
    list_init(&op->link);
    op->fill = fill;
    op->req = req;
    fill->n_ops++;
    return op;
}

static void fill_leave(struct stack_fill *fill)
{
    list_remove(&fill->link);
    if (list_empty(&fill->stack->fills)) {
        layer_sharing(fill->layer)->has_job = false;
    }
    fill->stack = NULL;
}

static void op_end(void *arg, int status)
{
    struct fill_op *op = arg;
    struct stack_fill *fill = op->fill;
    struct stack *stack = fill->stack;
    list_push_front(&fill->spare, &op->link);
    fill->n_ops--;
    if (fill->whole && fill->n_ops == 0) {
        fill_leave(fill);
    }
    blockdev_complete(op->req, status);
    stack_try_close(stack);
}

/* ---- changes ---- */

static void fill_step(struct fill_op *op);

static void fill_end(struct fill_op *op, int status)
{
    stack_op_unlock(op->op);
    stack_op_put(op->op);
    if (!status && op->req->flags & BLOCK_FUA) {
        op->wait = (struct layer_wait){.fn = op_end, .arg = op};
        layer_flush_wait(op->fill->layer, &op->wait);
        return;
    }
    op_end(op, status);
}

static void fill_again(void *arg)
{
    fill_step(arg);
}

static void fill_written(struct fill_op *op, int status)
{
    struct stack_op *change = op->op;
    struct stack *stack = op->fill->stack;
    stack_settle_space(change, status ? 0 : change->change.allocated_bytes);
    if (status) {
        fill_end(op, status);
        return;
    }
    if (change->change.state == GRANULE_DATA) {
        stack->stats.copied_bytes +=
            (change->change.last - change->change.first + 1) * LAYER_GRANULE;
    }
    op->first = change->change.last + 1;
    /* Through the loop: runs that end at once must not nest. */
    change->task = (struct loop_task){.fn = fill_again, .arg = op};
    loop_defer(stack->base.loop, &change->task);
}

static void fill_changed(struct layer_op *change)
{
    fill_written(change->arg, change->status);
}

/* The bytes of the granules, and zeros behind the end of the device. */
static void fill_payload(struct fill_op *op, uint64_t first, uint64_t last)
{
    struct stack_op *change = op->op;
    const struct block_req *req = op->req;
    uint64_t from = first * LAYER_GRANULE;
    uint64_t to = (last + 1) * LAYER_GRANULE;
    uint64_t end = req->offset + req->len;
    change->n_iov = 0;
    stack_op_payload(change, from, to < end ? to : end);
    if (to > end) {
        stack_op_zeros(change, to - end);
    }
    change->change.offset = from;
    change->change.io.len = to - from;
    change->change.io.iov = change->iov;
    change->change.io.n_iov = (int)change->n_iov;
}

static void fill_run(struct fill_op *op, uint64_t first, uint64_t last)
{
    struct stack_op *change = op->op;
    bool data = op->req->op == BLOCK_WRITE;
    change->change.first = first;
    change->change.last = last;
    change->change.state = data ? GRANULE_DATA : GRANULE_ZERO;
    change->change.allocated_bytes = 0;
    change->change.done = fill_changed;
    change->change.arg = op;
    if (data) {
        int err = stack_reserve(change, op->fill->layer, first, last);
        if (err) {
            fill_end(op, err);
            return;
        }
        fill_payload(op, first, last);
    }
    int status = layer_change(op->fill->layer, &change->change);
    if (status != -EINPROGRESS) {
        fill_written(op, status);
    }
}

static void fill_known(void *arg, int status)
{
    struct fill_op *op = arg;
    if (status) {
        fill_end(op, status);
    } else {
        fill_step(op);
    }
}

static void fill_step(struct fill_op *op)
{
    struct layer *layer = op->fill->layer;
    op->wait = (struct layer_wait){.fn = fill_known, .arg = op};
    while (op->first <= op->last) {
        uint64_t last = op->first + ZERO_GRANULES - 1;
        uint64_t count;
        last = last < op->last ? last : op->last;
        if (!layer_want(layer, op->first, last, &op->wait)) {
            return;
        }
        if (layer_map_run(layer_map_of(layer), op->first, last, &count) == GRANULE_ABSENT) {
            fill_run(op, op->first, op->first + count - 1);
            return;
        }
        op->first += count;
    }
    fill_end(op, 0);
}

static void fill_go(struct stack_op *change)
{
    fill_step(change->arg);
}

static void change_start(struct stack_fill *fill, struct block_req *req)
{
    uint64_t end = req->offset + req->len;
    if (req->offset % LAYER_GRANULE != 0 ||
        (end % LAYER_GRANULE != 0 && end != fill->base.info.size_bytes)) {
        blockdev_complete(req, -EINVAL);
        return;
    }
    struct fill_op *op = op_get(fill, req);
    op->first = req->offset / LAYER_GRANULE;
    op->last = last_granule(req);
    op->op = stack_op_get(fill->stack);
    op->op->req = req;
    op->op->go = fill_go;
    op->op->arg = op;
    stack_op_lock(op->op, op->first, op->last);
}

/* ---- the map ---- */

static void map_step(struct fill_op *op);

static void map_known(void *arg, int status)
{
    struct fill_op *op = arg;
    if (status) {
        op_end(op, status);
    } else {
        map_step(op);
    }
}

static void map_step(struct fill_op *op)
{
    struct layer *layer = op->fill->layer;
    struct block_req *req = op->req;
    uint64_t size = op->fill->base.info.size_bytes;
    uint64_t last = op->last < op->first + MAP_GRANULES ? op->last : op->first + MAP_GRANULES - 1;
    op->wait = (struct layer_wait){.fn = map_known, .arg = op};
    if (!layer_want(layer, op->first, last, &op->wait)) {
        return;
    }
    unsigned n = 0;
    uint64_t at = req->offset;
    uint64_t count;
    for (uint64_t g = op->first; g <= last; g += count) {
        bool absent = layer_map_run(layer_map_of(layer), g, last, &count) == GRANULE_ABSENT;
        enum block_extent_kind kind = absent ? BLOCK_EXTENT_UNKNOWN : BLOCK_EXTENT_KEPT;
        uint64_t end = (g + count) * LAYER_GRANULE;
        end = end < size ? end : size;
        if (n > 0 && req->extents[n - 1].kind == kind) {
            req->extents[n - 1].len += end - at;
        } else if (n < req->max_extents) {
            req->extents[n++] = (struct block_extent){.offset = at, .len = end - at, .kind = kind};
        } else {
            break;
        }
        at = end;
    }
    req->n_extents = n;
    op_end(op, 0);
}

static void map_start(struct stack_fill *fill, struct block_req *req)
{
    struct fill_op *op = op_get(fill, req);
    op->first = req->offset / LAYER_GRANULE;
    op->last = last_granule(req);
    map_step(op);
}

/* ---- the device ---- */

static void flush_start(struct stack_fill *fill, struct block_req *req)
{
    struct fill_op *op = op_get(fill, req);
    op->wait = (struct layer_wait){.fn = op_end, .arg = op};
    layer_flush_wait(fill->layer, &op->wait);
}

static void whole_submit(struct block_req *req)
{
    if (req->op == BLOCK_MAP) {
        req->extents[0] = (struct block_extent){
            .offset = req->offset, .len = req->len, .kind = BLOCK_EXTENT_KEPT};
        req->n_extents = 1;
    }
    blockdev_complete(req, req->op == BLOCK_READ || req->op == BLOCK_DISCARD ? -EOPNOTSUPP : 0);
}

static void fill_submit(struct blockdev *dev, struct block_req *req)
{
    struct stack_fill *fill = fill_of(dev);
    if (fill->whole) {
        whole_submit(req);
        return;
    }
    if (!fill->stack || fill->stack->closing) {
        blockdev_complete(req, -ESTALE);
        return;
    }
    switch (req->op) {
    case BLOCK_WRITE:
    case BLOCK_ZERO:
        change_start(fill, req);
        break;
    case BLOCK_FLUSH:
        flush_start(fill, req);
        break;
    case BLOCK_MAP:
        map_start(fill, req);
        break;
    default:
        blockdev_complete(req, -EOPNOTSUPP);
        break;
    }
}

void stack_fill_whole(struct stack *stack)
{
    list_for_each_safe(link, next, &stack->fills)
    {
        struct stack_fill *fill = list_entry(link, struct stack_fill, link);
        fill->whole = true;
        if (fill->n_ops == 0) {
            fill_leave(fill);
        }
    }
}

bool stack_fill_detach(struct stack *stack)
{
    list_for_each(link, &stack->fills)
    {
        if (list_entry(link, struct stack_fill, link)->n_ops > 0) {
            return false;
        }
    }
    while (!list_empty(&stack->fills)) {
        fill_leave(list_entry(stack->fills.next, struct stack_fill, link));
    }
    return true;
}

static void fill_idle(void *arg)
{
    struct stack_fill *fill = arg;
    block_close_fn done = fill->close_done;
    void *done_arg = fill->close_arg;
    struct list *link;
    if (fill->stack) {
        fill_leave(fill);
    }
    layer_unref(fill->layer, NULL, NULL);
    while ((link = list_pop_front(&fill->spare)) != NULL) {
        free(list_entry(link, struct fill_op, link));
    }
    free(fill);
    done(done_arg);
}

static void fill_close(struct blockdev *dev, block_close_fn done, void *arg)
{
    struct stack_fill *fill = fill_of(dev);
    fill->close_done = done;
    fill->close_arg = arg;
    blockdev_when_idle(dev, fill_idle, fill);
}

static const struct blockdev_ops fill_ops = {
    .kind = "fill",
    .submit = fill_submit,
    .close = fill_close,
};

int stack_fill_open(struct blockdev *dev, uint64_t size_bytes, struct blockdev **ret_dev)
{
    struct stack *stack = stack_of(dev);
    struct layer *oldest = stack->layers[0];
    CHECK(loop_is_current(dev->loop));
    if (!stack->bottom || size_bytes == 0 || size_bytes > layer_size_bytes(oldest)) {
        return -EINVAL;
    }
    if (dev->closing || stack_job_has(stack, oldest) ||
        (layer_sharing(oldest)->has_job && list_empty(&stack->fills))) {
        return -EBUSY;
    }
    struct stack_fill *fill = calloc(1, sizeof(*fill));
    if (!fill) {
        return -ENOMEM;
    }
    fill->base.ops = &fill_ops;
    fill->base.loop = dev->loop;
    fill->base.info = (struct block_info){
        .size_bytes = size_bytes,
        .block_bytes = 512,
        .physical_bytes = LAYER_GRANULE,
        .optimal_bytes = 64 << 10,
        .max_bytes = UINT32_MAX,
        .max_inflight = 64,
        .can_map = true,
        .thin = true,
        .keeps = true,
    };
    list_init(&fill->spare);
    fill->stack = stack;
    fill->layer = oldest;
    layer_ref(oldest);
    layer_sharing(oldest)->has_job = true;
    list_push_back(&stack->fills, &fill->link);
    *ret_dev = &fill->base;
    return 0;
}
