// SPDX-License-Identifier: Apache-2.0
/*
 *     CLOSED ──a read waits──▶ OPENING ──▶ OPEN ──it became another one──▶ CLOSING ──▶ CLOSED
 *        ▲  after a back-off      │         │ ▲
 *        └────────────────────────┘  down   ▼ │ up
 *                                          (reads wait)
 *
 * Every read has a deadline from when it came. It waits until the device below is usable, goes
 * there, and waits again when it comes back with a lost link. A device that says so without having
 * told of a loss is left alone for a back-off, too.
 */
#include "block/late_dev.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/list.h"
#include "base/log.h"

enum { HOLD_MS = 20000, NAME_BYTES = 80, BELOW_BLOCK_MAX = 64 << 10 };
#define BACKOFF_MIN_NS (100 * MS_NS)
#define BACKOFF_MAX_NS (10 * SEC_NS)

enum late_state { LATE_CLOSED, LATE_OPENING, LATE_OPEN, LATE_CLOSING };

struct late_read {
    struct list link; /* in waiting or spare; on none while below */
    struct late_dev *late;
    struct block_req *req;
    struct block_req child;
    uint64_t deadline_ns;
    uint8_t *bounce; /* of whole blocks, where theirs are larger, or NULL */
    struct slice bounce_slice;
};

struct late_dev {
    struct blockdev base;
    struct block_opener *opener;
    char name[NAME_BYTES];
    uint64_t hold_ns;
    enum late_state state;
    struct blockdev *below;
    bool up;    /* worth asking, when it is open */
    bool stale; /* the last look found another one */
    bool told;  /* that it is away, in the log */
    bool cancelled;
    uint64_t backoff_ns;
    struct loop_timer backoff_timer;
    struct loop_timer deadline_timer;
    struct list waiting;
    struct list spare;
    bool ending; /* nothing is opened any more */
    bool idle;   /* closing, and nothing of ours is under way */
    block_close_fn close_done;
    void *close_arg;
};

static const struct blockdev_ops late_ops;

static struct late_dev *of_dev(struct blockdev *dev)
{
    CHECK(dev->ops == &late_ops);
    return container_of(dev, struct late_dev, base);
}

static bool is_usable(const struct late_dev *late)
{
    return late->state == LATE_OPEN && late->up;
}

static void late_end(struct late_dev *late);
static void late_open(struct late_dev *late);

/* ---- reads ---- */

static void read_free(struct late_read *read)
{
    free(read->bounce);
    read->bounce = NULL;
    list_push_back(&read->late->spare, &read->link);
}

/* From the list of those that wait. */
static void read_fail(struct late_read *read, int status)
{
    struct block_req *req = read->req;
    list_remove(&read->link);
    read_free(read);
    blockdev_complete(req, status);
}

static void waiting_fail(struct late_dev *late, int status)
{
    list_for_each_safe(link, following, &late->waiting)
    {
        read_fail(list_entry(link, struct late_read, link), status);
    }
    loop_timer_stop(&late->deadline_timer);
}

static void deadline_reached(void *arg)
{
    struct late_dev *late = arg;
    uint64_t now_ns = loop_now_ns(late->base.loop);
    uint64_t next_ns = UINT64_MAX;
    list_for_each_safe(link, following, &late->waiting)
    {
        struct late_read *read = list_entry(link, struct late_read, link);
        if (read->deadline_ns <= now_ns) {
            read_fail(read, -ENOTCONN);
        } else if (read->deadline_ns < next_ns) {
            next_ns = read->deadline_ns;
        }
    }
    if (next_ns != UINT64_MAX) {
        loop_timer_start(&late->deadline_timer, next_ns - now_ns);
    }
}

static void read_wait(struct late_read *read)
{
    struct late_dev *late = read->late;
    list_push_back(&late->waiting, &read->link);
    if (late->stale || read->deadline_ns <= loop_now_ns(late->base.loop) || late->ending) {
        read_fail(read, late->stale ? -ESTALE : -ENOTCONN);
    } else if (!loop_timer_pending(&late->deadline_timer)) {
        loop_timer_start(&late->deadline_timer, read->deadline_ns - loop_now_ns(late->base.loop));
    }
    late_open(late);
}

/* Leaves it alone for a while, longer each time. */
static void back_off(struct late_dev *late)
{
    if (late->ending || loop_timer_pending(&late->backoff_timer)) {
        return;
    }
    loop_timer_start(&late->backoff_timer, late->backoff_ns);
    late->backoff_ns =
        late->backoff_ns * 2 < BACKOFF_MAX_NS ? late->backoff_ns * 2 : BACKOFF_MAX_NS;
}

static void tell_away(struct late_dev *late, const char *why)
{
    if (!late->told) {
        log_warning("%s is away: %s", late->name, why);
    }
    late->told = true;
}

static void tell_back(struct late_dev *late)
{
    if (late->told) {
        log_info("%s is back", late->name);
    }
    late->told = false;
    late->backoff_ns = BACKOFF_MIN_NS;
}

static void bounce_out(struct late_read *read)
{
    const struct block_req *req = read->req;
    const uint8_t *from = read->bounce + (req->offset - read->child.offset);
    for (unsigned i = 0; i < req->n_slices; i++) {
        memcpy(req->slices[i].data, from, req->slices[i].len);
        from += req->slices[i].len;
    }
}

static void child_done(struct block_req *child)
{
    struct late_read *read = child->arg;
    struct late_dev *late = read->late;
    struct block_req *req = read->req;
    int status = child->status;
    if (status == -ENOTCONN && !late->base.closing) {
        if (late->state == LATE_OPEN && late->up) {
            late->up = false;
            tell_away(late, "its link is lost");
            back_off(late);
        }
        free(read->bounce);
        read->bounce = NULL;
        read_wait(read);
        return;
    }
    if (!status) {
        tell_back(late);
        if (read->bounce) {
            bounce_out(read);
        }
    }
    read_free(read);
    blockdev_complete(req, status);
}

static void read_go(struct late_read *read)
{
    struct late_dev *late = read->late;
    const struct block_req *req = read->req;
    uint64_t block = late->below->info.block_bytes;
    uint64_t begin = req->offset / block * block;
    uint64_t end = (req->offset + req->len + block - 1) / block * block;
    read->child = (struct block_req){.op = BLOCK_READ,
                                     .flags = req->flags,
                                     .offset = begin,
                                     .len = end - begin,
                                     .slices = req->slices,
                                     .n_slices = req->n_slices,
                                     .done = child_done,
                                     .arg = read};
    if (end - begin != req->len) {
        read->bounce = malloc(end - begin);
        CHECK(read->bounce != NULL);
        read->bounce_slice = (struct slice){.data = read->bounce, .len = end - begin};
        read->child.slices = &read->bounce_slice;
        read->child.n_slices = 1;
    }
    blockdev_submit(late->below, &read->child);
}

static void waiting_go(struct late_dev *late)
{
    struct list *link;
    loop_timer_stop(&late->deadline_timer);
    while (is_usable(late) && (link = list_pop_front(&late->waiting)) != NULL) {
        read_go(list_entry(link, struct late_read, link));
    }
    deadline_reached(late);
}

static void read_start(struct late_dev *late, struct block_req *req)
{
    struct list *link = list_pop_front(&late->spare);
    struct late_read *read =
        link ? list_entry(link, struct late_read, link) : calloc(1, sizeof(*read));
    CHECK(read != NULL);
    list_init(&read->link);
    read->late = late;
    read->req = req;
    read->deadline_ns = loop_now_ns(late->base.loop) + late->hold_ns;
    if (is_usable(late)) {
        read_go(read);
    } else {
        read_wait(read);
    }
}

/* ---- the map ---- */

static void map_unknown(struct block_req *req)
{
    req->extents[0] =
        (struct block_extent){.offset = req->offset, .len = req->len, .kind = BLOCK_EXTENT_UNKNOWN};
    req->n_extents = 1;
}

/* What is told of whole blocks, from where it was asked. */
static void map_done(struct block_req *child)
{
    struct late_read *read = child->arg;
    struct block_req *req = read->req;
    struct block_extent *first = &req->extents[0];
    uint64_t before = req->offset - child->offset;
    req->n_extents = child->n_extents;
    if (child->status || first->len <= before) {
        map_unknown(req);
    } else {
        first->offset += before;
        first->len -= before;
    }
    read_free(read);
    blockdev_complete(req, 0);
}

static void map_start(struct late_dev *late, struct block_req *req)
{
    if (!is_usable(late) || !late->below->info.can_map) {
        map_unknown(req);
        blockdev_complete(req, 0);
        return;
    }
    struct list *link = list_pop_front(&late->spare);
    struct late_read *read =
        link ? list_entry(link, struct late_read, link) : calloc(1, sizeof(*read));
    CHECK(read != NULL);
    list_init(&read->link);
    uint64_t block = late->below->info.block_bytes;
    uint64_t begin = req->offset / block * block;
    uint64_t end = (req->offset + req->len + block - 1) / block * block;
    read->late = late;
    read->req = req;
    read->child = (struct block_req){.op = BLOCK_MAP,
                                     .offset = begin,
                                     .len = end - begin,
                                     .extents = req->extents,
                                     .max_extents = req->max_extents,
                                     .done = map_done,
                                     .arg = read};
    blockdev_submit(late->below, &read->child);
}

static void late_submit(struct blockdev *dev, struct block_req *req)
{
    struct late_dev *late = of_dev(dev);
    switch (req->op) {
    case BLOCK_READ:
        read_start(late, req);
        break;
    case BLOCK_MAP:
        map_start(late, req);
        break;
    default: /* a flush; changes do not come here */
        blockdev_complete(req, 0);
        break;
    }
}

/* ---- the device below ---- */

static void below_closed(void *arg)
{
    struct late_dev *late = arg;
    late->below = NULL;
    late->state = LATE_CLOSED;
    if (late->idle) {
        late_end(late);
    } else {
        back_off(late);
    }
}

static void below_is_another(struct late_dev *late, const char *why)
{
    tell_away(late, why);
    late->stale = true;
    waiting_fail(late, -ESTALE);
}

static void below_close(struct late_dev *late)
{
    late->up = false;
    late->state = LATE_CLOSING;
    loop_timer_stop(&late->backoff_timer);
    blockdev_close(late->below, below_closed, late);
}

static void below_event(void *arg, struct blockdev *below, enum block_event event,
                        unsigned attempts, const char *detail)
{
    struct late_dev *late = arg;
    (void)below;
    (void)attempts;
    switch (event) {
    case BLOCK_EVENT_DOWN:
        late->up = false;
        tell_away(late, detail ? detail : "its link is lost");
        break;
    case BLOCK_EVENT_RETRY:
        break;
    case BLOCK_EVENT_UP:
        late->up = true;
        loop_timer_stop(&late->backoff_timer);
        tell_back(late);
        waiting_go(late);
        break;
    case BLOCK_EVENT_CHANGED:
        below_is_another(late, detail ? detail : "it is not what it was");
        below_close(late);
        break;
    }
}

static bool is_what_it_was(const struct late_dev *late, const struct block_info *info)
{
    return info->size_bytes >= late->base.info.size_bytes && info->block_bytes > 0 &&
           info->block_bytes <= BELOW_BLOCK_MAX && info->size_bytes % info->block_bytes == 0;
}

static void below_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct late_dev *late = arg;
    late->state = LATE_CLOSED;
    late->cancelled = false;
    if (dev) {
        late->state = LATE_OPEN;
        late->below = dev;
        if (late->idle) {
            below_close(late);
        } else if (!is_what_it_was(late, &dev->info)) {
            below_is_another(late, "it is smaller than it was");
            below_close(late);
        } else {
            late->up = true;
            late->stale = false;
            dev->on_event = below_event;
            dev->event_arg = late;
            tell_back(late);
            waiting_go(late);
        }
        return;
    }
    if (late->idle) {
        late_end(late);
        return;
    }
    if (error->code == ERR_LUN_CHANGED) {
        below_is_another(late, error->detail);
    } else {
        late->stale = false;
        tell_away(late, error->detail);
    }
    back_off(late);
}

/* Unless it is there, or on its way, or to be left alone for now. */
static void late_open(struct late_dev *late)
{
    if (late->state == LATE_CLOSED && !late->ending && !loop_timer_pending(&late->backoff_timer)) {
        late->state = LATE_OPENING;
        late->opener->ops->open(late->opener, late->base.loop, below_opened, late);
    }
}

static void backoff_over(void *arg)
{
    struct late_dev *late = arg;
    if (late->state == LATE_OPEN) {
        late->up = true;
        waiting_go(late);
    } else if (!list_empty(&late->waiting)) {
        late_open(late);
    }
}

/* ---- beginning and end ---- */

static void late_end(struct late_dev *late)
{
    block_close_fn done = late->close_done;
    void *done_arg = late->close_arg;
    struct list *link;
    while ((link = list_pop_front(&late->spare)) != NULL) {
        free(list_entry(link, struct late_read, link));
    }
    if (late->opener->ops->free) {
        late->opener->ops->free(late->opener);
    }
    free(late);
    done(done_arg);
}

static void late_idle(void *arg)
{
    struct late_dev *late = arg;
    late->idle = true;
    switch (late->state) {
    case LATE_CLOSED:
        late_end(late);
        break;
    case LATE_OPEN:
        below_close(late);
        break;
    case LATE_OPENING:
        if (!late->cancelled && late->opener->ops->cancel) {
            late->cancelled = true;
            late->opener->ops->cancel(late->opener);
        }
        break;
    case LATE_CLOSING:
        break; /* its end is ours */
    }
}

void late_dev_give_up(struct blockdev *dev)
{
    struct late_dev *late = of_dev(dev);
    CHECK(loop_is_current(dev->loop));
    late->ending = true;
    loop_timer_stop(&late->backoff_timer);
    waiting_fail(late, -ENOTCONN);
}

static void late_close(struct blockdev *dev, block_close_fn done, void *arg)
{
    struct late_dev *late = of_dev(dev);
    late->close_done = done;
    late->close_arg = arg;
    late->ending = true;
    loop_timer_stop(&late->backoff_timer);
    waiting_fail(late, -ECANCELED);
    blockdev_when_idle(dev, late_idle, late);
}

static const struct blockdev_ops late_ops = {
    .kind = "late",
    .submit = late_submit,
    .close = late_close,
};

int late_dev_new(struct loop *loop, const struct late_spec *spec, struct blockdev **ret_dev)
{
    struct late_dev *late = calloc(1, sizeof(*late));
    if (!late) {
        return -ENOMEM;
    }
    late->base.ops = &late_ops;
    late->base.loop = loop;
    late->base.info = (struct block_info){
        .size_bytes = spec->size_bytes,
        .block_bytes = spec->block_bytes,
        .physical_bytes = spec->block_bytes,
        .max_bytes = UINT32_MAX,
        .max_inflight = 64,
        .read_only = true,
        .can_map = true,
    };
    snprintf(late->name, sizeof(late->name), "%s", spec->name);
    late->opener = spec->opener;
    late->hold_ns = (spec->hold_ms ? spec->hold_ms : HOLD_MS) * MS_NS;
    late->backoff_ns = BACKOFF_MIN_NS;
    loop_timer_init(&late->backoff_timer, loop, backoff_over, late);
    loop_timer_init(&late->deadline_timer, loop, deadline_reached, late);
    list_init(&late->waiting);
    list_init(&late->spare);
    *ret_dev = &late->base;
    return 0;
}
