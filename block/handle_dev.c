// SPDX-License-Identifier: Apache-2.0
/*
 * Every request gets a struct errand, which holds the request for the device below:
 *
 *     loop of the handle            loop of the device
 *     submit ── errand_go ────────▶ blockdev_submit(below)
 *     done   ◀─ errand_back ─────── child_done
 *
 * On one loop both messages are left out. Errands are kept for the next request, so nothing is
 * allocated once there are as many as requests at a time. What asks for info (open, refresh) goes
 * the same way and is counted, for a close waits for it.
 */
#include "block/handle_dev.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/list.h"

struct errand {
    struct list link; /* in spare; on none while under way */
    struct handle_dev *handle;
    struct block_req *req;
    struct block_req child;
    struct slice *slices; /* without buffers */
    unsigned max_slices;
    struct loop_task task;
};

/* Asks the device for its info. */
struct inquiry {
    struct handle_dev *handle;
    struct block_info info;
    handle_opened_fn opened; /* of an open, else NULL */
    loop_fn refreshed;       /* of a refresh, or NULL */
    void *arg;
    struct loop_task task;
};

struct handle_dev {
    struct blockdev base;
    struct blockdev *below;
    struct list spare;
    unsigned n_inquiries;
    bool close_waits; /* for inquiries */
    block_close_fn close_done;
    void *close_arg;
};

static const struct blockdev_ops handle_ops;

static struct handle_dev *of_dev(struct blockdev *dev)
{
    CHECK(dev->ops == &handle_ops);
    return container_of(dev, struct handle_dev, base);
}

/* ---- requests ---- */

static void errand_back(void *arg)
{
    struct errand *errand = arg;
    struct block_req *req = errand->req;
    int status = errand->child.status;
    req->n_extents = errand->child.n_extents;
    list_push_front(&errand->handle->spare, &errand->link);
    blockdev_complete_now(req, status);
}

static void child_done(struct block_req *child)
{
    struct errand *errand = child->arg;
    struct loop *home = errand->handle->base.loop;
    if (home == errand->handle->below->loop) {
        errand_back(errand);
    } else {
        errand->task = (struct loop_task){.fn = errand_back, .arg = errand};
        loop_post(home, &errand->task);
    }
}

static void errand_go(void *arg)
{
    struct errand *errand = arg;
    blockdev_submit(errand->handle->below, &errand->child);
}

/* The slices of req for another thread: counts of their buffers are not atomic. */
static bool slices_lend(struct errand *errand, const struct block_req *req)
{
    if (req->n_slices > errand->max_slices) {
        struct slice *slices = realloc(errand->slices, req->n_slices * sizeof(*slices));
        if (!slices) {
            return false;
        }
        errand->slices = slices;
        errand->max_slices = req->n_slices;
    }
    for (unsigned i = 0; i < req->n_slices; i++) {
        errand->slices[i] = (struct slice){.data = req->slices[i].data, .len = req->slices[i].len};
    }
    return true;
}

static struct errand *errand_take(struct handle_dev *handle)
{
    struct list *link = list_pop_front(&handle->spare);
    if (link) {
        return list_entry(link, struct errand, link);
    }
    struct errand *errand = calloc(1, sizeof(*errand));
    if (errand) {
        list_init(&errand->link);
        errand->handle = handle;
    }
    return errand;
}

static void handle_submit(struct blockdev *dev, struct block_req *req)
{
    struct handle_dev *handle = of_dev(dev);
    bool same = dev->loop == handle->below->loop;
    struct errand *errand = errand_take(handle);
    if (!errand || (!same && !slices_lend(errand, req))) {
        if (errand) {
            list_push_front(&handle->spare, &errand->link);
        }
        blockdev_complete(req, -EIO);
        return;
    }
    errand->req = req;
    blockdev_pass(&errand->child, req, child_done, errand);
    errand->child.slices = same ? req->slices : errand->slices;
    if (same) {
        errand_go(errand);
    } else {
        errand->task = (struct loop_task){.fn = errand_go, .arg = errand};
        loop_post(handle->below->loop, &errand->task);
    }
}

/* ---- info ---- */

static void handle_idle(void *arg);

static void inquiry_back(void *arg)
{
    struct inquiry *inquiry = arg;
    struct handle_dev *handle = inquiry->handle;
    struct inquiry was = *inquiry;
    free(inquiry);
    handle->base.info = was.info;
    handle->n_inquiries--;
    if (handle->n_inquiries == 0 && handle->close_waits) {
        handle->close_waits = false;
        blockdev_when_idle(&handle->base, handle_idle, handle);
    }
    if (was.opened) {
        was.opened(was.arg, &handle->base, NULL);
    } else if (was.refreshed) {
        was.refreshed(was.arg);
    }
}

static void inquiry_there(void *arg)
{
    struct inquiry *inquiry = arg;
    inquiry->info = inquiry->handle->below->info;
    inquiry->task = (struct loop_task){.fn = inquiry_back, .arg = inquiry};
    loop_post(inquiry->handle->base.loop, &inquiry->task);
}

static void inquire(struct handle_dev *handle, handle_opened_fn opened, loop_fn refreshed,
                    void *arg)
{
    struct inquiry *inquiry = calloc(1, sizeof(*inquiry));
    CHECK(inquiry != NULL);
    *inquiry = (struct inquiry){.handle = handle,
                                .opened = opened,
                                .refreshed = refreshed,
                                .arg = arg,
                                .task = {.fn = inquiry_there, .arg = inquiry}};
    handle->n_inquiries++;
    loop_post(handle->below->loop, &inquiry->task);
}

void handle_dev_refresh(struct blockdev *dev, loop_fn fn, void *arg)
{
    CHECK(loop_is_current(dev->loop) && !dev->closing);
    inquire(of_dev(dev), NULL, fn, arg);
}

/* ---- beginning and end ---- */

static void handle_idle(void *arg)
{
    struct handle_dev *handle = arg;
    block_close_fn done = handle->close_done;
    void *done_arg = handle->close_arg;
    struct list *link;
    while ((link = list_pop_front(&handle->spare)) != NULL) {
        struct errand *errand = list_entry(link, struct errand, link);
        free(errand->slices);
        free(errand);
    }
    free(handle);
    done(done_arg);
}

static void handle_close(struct blockdev *dev, block_close_fn done, void *arg)
{
    struct handle_dev *handle = of_dev(dev);
    handle->close_done = done;
    handle->close_arg = arg;
    if (handle->n_inquiries) {
        handle->close_waits = true;
    } else {
        blockdev_when_idle(dev, handle_idle, handle);
    }
}

static const struct blockdev_ops handle_ops = {
    .kind = "handle",
    .submit = handle_submit,
    .close = handle_close,
};

void handle_dev_open(struct loop *loop, struct blockdev *below, handle_opened_fn fn, void *arg)
{
    CHECK(loop_is_current(loop) && fn != NULL);
    struct handle_dev *handle = calloc(1, sizeof(*handle));
    CHECK(handle != NULL);
    handle->base.ops = &handle_ops;
    handle->base.loop = loop;
    handle->below = below;
    list_init(&handle->spare);
    inquire(handle, fn, NULL, arg);
}
