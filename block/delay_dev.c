// SPDX-License-Identifier: Apache-2.0
#include "block/delay_dev.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/list.h"
#include "base/random.h"

struct delayed {
    struct list link; /* in waiting or spare; on none while below */
    struct delay_dev *delay;
    struct block_req *req;
    struct block_req child;
    struct loop_timer timer;
};

struct delay_dev {
    struct blockdev base;
    struct blockdev *child;
    struct delay_spec spec;
    struct random random;
    uint64_t line_free_ns; /* when the last byte of what was accepted has passed the line */
    struct list waiting;
    struct list spare;
    block_close_fn close_done;
    void *close_arg;
};

static struct delay_dev *of_dev(struct blockdev *dev)
{
    return container_of(dev, struct delay_dev, base);
}

static void child_done(struct block_req *child)
{
    struct delayed *delayed = child->arg;
    struct block_req *req = delayed->req;
    req->n_extents = child->n_extents;
    list_push_back(&delayed->delay->spare, &delayed->link);
    blockdev_complete_now(req, child->status);
}

static void wait_over(void *arg)
{
    struct delayed *delayed = arg;
    const struct block_req *req = delayed->req;
    list_remove(&delayed->link);
    blockdev_pass(&delayed->child, req, child_done, delayed);
    blockdev_submit(delayed->delay->child, &delayed->child);
}

/* How long a request that comes now has to wait. */
static uint64_t delay_of(struct delay_dev *delay, const struct block_req *req)
{
    const struct delay_spec *spec = &delay->spec;
    uint64_t wait_ns = spec->latency_ns;
    if (spec->jitter_ns) {
        wait_ns += random_below(&delay->random, spec->jitter_ns + 1);
    }
    if (spec->bytes_per_second && (req->op == BLOCK_READ || req->op == BLOCK_WRITE)) {
        uint64_t now_ns = loop_now_ns(delay->base.loop);
        uint64_t begin_ns = delay->line_free_ns > now_ns ? delay->line_free_ns : now_ns;
        double line_ns = (double)req->len * (double)SEC_NS / (double)spec->bytes_per_second;
        delay->line_free_ns = begin_ns + (uint64_t)line_ns;
        wait_ns += delay->line_free_ns - now_ns;
    }
    return wait_ns;
}

static void delay_submit(struct blockdev *dev, struct block_req *req)
{
    struct delay_dev *delay = of_dev(dev);
    struct list *link = list_pop_front(&delay->spare);
    struct delayed *delayed;
    if (link) {
        delayed = list_entry(link, struct delayed, link);
    } else {
        delayed = calloc(1, sizeof(*delayed));
        CHECK(delayed != NULL);
        delayed->delay = delay;
        loop_timer_init(&delayed->timer, dev->loop, wait_over, delayed);
    }
    delayed->req = req;
    list_push_back(&delay->waiting, &delayed->link);
    loop_timer_start(&delayed->timer, delay_of(delay, req));
}

static void child_event(void *arg, struct blockdev *child, enum block_event event,
                        unsigned attempts, const char *detail)
{
    struct delay_dev *delay = arg;
    delay->base.info = child->info;
    blockdev_emit(&delay->base, event, attempts, detail);
}

static void child_closed(void *arg)
{
    struct delay_dev *delay = arg;
    block_close_fn done = delay->close_done;
    void *done_arg = delay->close_arg;
    struct list *link;
    while ((link = list_pop_front(&delay->spare)) != NULL) {
        free(list_entry(link, struct delayed, link));
    }
    free(delay);
    done(done_arg);
}

static void delay_idle(void *arg)
{
    struct delay_dev *delay = arg;
    blockdev_close(delay->child, child_closed, delay);
}

static void delay_close(struct blockdev *dev, block_close_fn done, void *arg)
{
    struct delay_dev *delay = of_dev(dev);
    delay->close_done = done;
    delay->close_arg = arg;
    struct list *link;
    while ((link = list_pop_front(&delay->waiting)) != NULL) {
        struct delayed *delayed = list_entry(link, struct delayed, link);
        loop_timer_stop(&delayed->timer);
        list_push_back(&delay->spare, &delayed->link);
        blockdev_complete(delayed->req, -ECANCELED);
    }
    blockdev_when_idle(dev, delay_idle, delay);
}

static const struct blockdev_ops delay_ops = {
    .kind = "delay",
    .submit = delay_submit,
    .close = delay_close,
};

int delay_dev_new(struct blockdev *below, const struct delay_spec *spec, uint64_t seed,
                  struct blockdev **ret_dev)
{
    struct delay_dev *delay = calloc(1, sizeof(*delay));
    if (!delay) {
        return -ENOMEM;
    }
    delay->base.ops = &delay_ops;
    delay->base.loop = below->loop;
    delay->base.info = below->info;
    delay->child = below;
    delay->spec = *spec;
    random_seed(&delay->random, seed);
    list_init(&delay->waiting);
    list_init(&delay->spare);
    below->on_event = child_event;
    below->event_arg = delay;
    *ret_dev = &delay->base;
    return 0;
}

void delay_dev_set(struct blockdev *dev, const struct delay_spec *spec)
{
    CHECK(dev->ops == &delay_ops);
    of_dev(dev)->spec = *spec;
}
