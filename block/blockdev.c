// SPDX-License-Identifier: Apache-2.0
#include "block/blockdev.h"

#include <errno.h>

#include "base/check.h"

const char *block_op_name(enum block_op op)
{
    static const char *const names[] = {
        [BLOCK_READ] = "read",       [BLOCK_WRITE] = "write", [BLOCK_ZERO] = "zero",
        [BLOCK_DISCARD] = "discard", [BLOCK_FLUSH] = "flush", [BLOCK_MAP] = "map",
    };
    CHECK(op < ARRAY_LEN(names));
    return names[op];
}

const char *block_extent_kind_name(enum block_extent_kind kind)
{
    static const char *const names[] = {
        [BLOCK_EXTENT_DATA] = "data",
        [BLOCK_EXTENT_ZERO] = "zero",
        [BLOCK_EXTENT_UNKNOWN] = "unknown",
        [BLOCK_EXTENT_KEPT] = "kept",
    };
    CHECK(kind < ARRAY_LEN(names));
    return names[kind];
}

const char *block_event_name(enum block_event event)
{
    static const char *const names[] = {
        [BLOCK_EVENT_DOWN] = "down",
        [BLOCK_EVENT_RETRY] = "retry",
        [BLOCK_EVENT_UP] = "up",
        [BLOCK_EVENT_CHANGED] = "changed",
    };
    CHECK(event < ARRAY_LEN(names));
    return names[event];
}

static uint64_t slices_bytes(const struct block_req *req)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < req->n_slices; i++) {
        sum += req->slices[i].len;
    }
    return sum;
}

/* 0 if the device may see the request. */
static int refuse(const struct blockdev *dev, const struct block_req *req)
{
    const struct block_info *info = &dev->info;
    switch (req->op) {
    case BLOCK_READ:
    case BLOCK_WRITE:
        CHECK(slices_bytes(req) == req->len);
        break;
    case BLOCK_MAP:
        CHECK(req->extents != NULL && req->max_extents > 0);
        break;
    case BLOCK_ZERO:
    case BLOCK_DISCARD:
        break;
    case BLOCK_FLUSH:
        return 0;
    default:
        CHECK(!"a block operation");
    }
    if (req->offset % info->block_bytes != 0 || req->len % info->block_bytes != 0 ||
        req->offset > info->size_bytes || req->len > info->size_bytes - req->offset) {
        return -EINVAL;
    }
    if ((req->op == BLOCK_MAP && !info->can_map) ||
        (req->op == BLOCK_DISCARD && !info->can_discard)) {
        return -EOPNOTSUPP;
    }
    if (info->read_only && req->op != BLOCK_READ && req->op != BLOCK_MAP) {
        return -EROFS;
    }
    return 0;
}

void blockdev_submit(struct blockdev *dev, struct block_req *req)
{
    CHECK(loop_is_current(dev->loop));
    CHECK(!dev->closing);
    CHECK(req->dev == NULL);
    CHECK(req->done != NULL);
    req->dev = dev;
    req->status = -EINPROGRESS;
    req->n_extents = 0;
    req->task.fn = NULL;
    dev->inflight++;

    int err = refuse(dev, req);
    if (err || (req->len == 0 && req->op != BLOCK_FLUSH && req->op != BLOCK_MAP)) {
        blockdev_complete(req, err);
        return;
    }
    if (req->len == 0 && req->op == BLOCK_MAP) {
        /* An answer without extents would be none: nothing can be said of an empty range. */
        blockdev_complete(req, -EINVAL);
        return;
    }
    dev->submitting++;
    dev->ops->submit(dev, req);
    dev->submitting--;
}

void blockdev_pass(struct block_req *child, const struct block_req *req, block_done_fn done,
                   void *arg)
{
    *child = (struct block_req){
        .op = req->op,
        .flags = req->flags,
        .offset = req->offset,
        .len = req->len,
        .slices = req->slices,
        .n_slices = req->n_slices,
        .extents = req->extents,
        .max_extents = req->max_extents,
        .done = done,
        .arg = arg,
    };
}

static void idle_reached(struct blockdev *dev)
{
    if (dev->idle_wanted && dev->inflight == 0) {
        dev->idle_wanted = false;
        loop_defer(dev->loop, &dev->idle_task);
    }
}

static void finish(struct block_req *req)
{
    struct blockdev *dev = req->dev;
    CHECK(dev->inflight > 0);
    dev->inflight--;
    req->dev = NULL;
    req->task.fn = NULL;
    idle_reached(dev);
    req->done(req);
}

static void complete_deferred(void *arg)
{
    finish(arg);
}

static void settle(struct block_req *req, int status)
{
    /* Exactly once: not submitted has no device, completed but not yet told has the task's fn. */
    CHECK(req->dev != NULL && req->task.fn == NULL);
    CHECK(loop_is_current(req->dev->loop));
    CHECK(status <= 0 && status != -EINPROGRESS);
    CHECK(status != 0 || req->op != BLOCK_MAP || req->n_extents > 0);
    req->status = status;
}

void blockdev_complete(struct block_req *req, int status)
{
    settle(req, status);
    req->task.fn = complete_deferred;
    req->task.arg = req;
    loop_defer(req->dev->loop, &req->task);
}

void blockdev_complete_now(struct block_req *req, int status)
{
    settle(req, status);
    CHECK(req->dev->submitting == 0);
    finish(req);
}

void blockdev_close(struct blockdev *dev, block_close_fn done, void *arg)
{
    CHECK(loop_is_current(dev->loop));
    CHECK(!dev->closing);
    dev->closing = true;
    dev->on_event = NULL;
    dev->ops->close(dev, done, arg);
}

void blockdev_when_idle(struct blockdev *dev, loop_fn fn, void *arg)
{
    CHECK(dev->idle_task.fn == NULL);
    dev->idle_task.fn = fn;
    dev->idle_task.arg = arg;
    dev->idle_wanted = true;
    idle_reached(dev);
}

void blockdev_emit(struct blockdev *dev, enum block_event event, unsigned attempts,
                   const char *detail)
{
    CHECK(loop_is_current(dev->loop));
    if (dev->on_event) {
        dev->on_event(dev->event_arg, dev, event, attempts, detail);
    }
}
