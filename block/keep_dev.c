// SPDX-License-Identifier: Apache-2.0
/*
 *     change ─▶ all of it known to be kept? ─────────────────────────────────────────────▶ below
 *                  └▶ map of the fill device ─▶ read below, fill ─▶ … ─▶ flush, known ───┘
 *
 * Two changes of one granule may both read and fill it. The first fill decides, later ones change nothing, and it has what was there before any change
 * was submitted: whoever submits one has seen a fill end.
 */
#include "block/keep_dev.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/list.h"

enum {
    GRANULE = 4096,
    PIECE = 256 << 10,
    EXTENTS = 16,
    PAGE_GRANULES = 1 << 15,
    PAGE_WORDS = PAGE_GRANULES / 64
};

struct keep_op {
    struct list link; /* spare */
    struct keep_dev *keep;
    struct block_req *req;
    struct block_req child;
    struct slice slice;
    struct block_extent extents[EXTENTS];
    uint64_t at;  /* kept until here, rounded to granules */
    uint64_t end; /* of the range, rounded up, or of the fill device */
    uint8_t *bytes;
};

struct keep_dev {
    struct blockdev base;
    struct blockdev *below;
    struct blockdev *fill;
    uint64_t size_bytes; /* of what is filled: what is behind it is nobody's bottom */
    uint64_t **known;    /* pages of bits: granules that are kept for good */
    size_t n_pages;
    struct list spare;
    struct keep_stats stats;
    block_close_fn close_done;
    void *close_arg;
};

static const struct blockdev_ops keep_ops;

static struct keep_dev *of_dev(const struct blockdev *dev)
{
    CHECK(dev->ops == &keep_ops);
    return container_of(dev, struct keep_dev, base);
}

const struct keep_stats *keep_dev_stats(const struct blockdev *dev)
{
    return &of_dev(dev)->stats;
}

/* ---- what is known ---- */

static bool is_known(const struct keep_dev *keep, uint64_t begin, uint64_t end)
{
    for (uint64_t g = begin / GRANULE; g * GRANULE < end; g++) {
        const uint64_t *page = keep->known[g / PAGE_GRANULES];

        if (page == NULL || !(page[g % PAGE_GRANULES / 64] >> (g % 64) & 1)) {
            return false;
        }
    }
    return true;
}

static void known_set(struct keep_dev *keep, uint64_t begin, uint64_t end)
{
    for (uint64_t g = begin / GRANULE; g * GRANULE < end; g++) {
        uint64_t **page = &keep->known[g / PAGE_GRANULES];

        if (*page == NULL) {
            *page = calloc(PAGE_WORDS, sizeof(**page));
            CHECK(*page != NULL);
        }
        (*page)[g % PAGE_GRANULES / 64] |= UINT64_C(1) << (g % 64);
    }
}

/* ---- a change ---- */

static void op_end(struct keep_op *op, int status)
{
    struct block_req *req = op->req;

    req->n_extents = op->child.n_extents;
    list_push_front(&op->keep->spare, &op->link);
    blockdev_complete_now(req, status);
}

static void passed(struct block_req *child)
{
    op_end(child->arg, child->status);
}

static void pass(struct keep_op *op)
{
    const struct block_req *req = op->req;

    blockdev_pass(&op->child, req, passed, op);
    blockdev_submit(op->keep->below, &op->child);
}

static void child_go(struct keep_op *op, struct blockdev *dev, enum block_op what, uint64_t len,
                     block_done_fn done)
{
    op->slice = (struct slice){.data = op->bytes, .len = (size_t)len};
    op->child = (struct block_req){
        .op = what,
        .offset = what == BLOCK_FLUSH ? 0 : op->at,
        .len = what == BLOCK_FLUSH ? 0 : len,
        .slices = &op->slice,
        .n_slices = what == BLOCK_READ || what == BLOCK_WRITE ? 1 : 0,
        .extents = op->extents,
        .max_extents = EXTENTS,
        .done = done,
        .arg = op,
    };
    blockdev_submit(dev, &op->child);
}

static uint64_t range_begin(const struct keep_op *op)
{
    return op->req->offset / GRANULE * GRANULE;
}

static void flushed(struct block_req *child)
{
    struct keep_op *op = child->arg;

    if (child->status < 0) {
        op_end(op, child->status);
        return;
    }
    known_set(op->keep, range_begin(op), op->end);
    pass(op);
}

static void keep_next(struct keep_op *op);

static void filled(struct block_req *child)
{
    struct keep_op *op = child->arg;

    if (child->status < 0) {
        op_end(op, child->status);
        return;
    }
    op->keep->stats.kept_bytes += child->len;
    op->at += child->len;
    keep_next(op);
}

static void was_read(struct block_req *child)
{
    struct keep_op *op = child->arg;

    if (child->status < 0) {
        op_end(op, child->status);
    } else {
        child_go(op, op->keep->fill, BLOCK_WRITE, child->len, filled);
    }
}

/* What begins at op->at: kept already, or to be read. */
static void mapped(struct block_req *child)
{
    struct keep_op *op = child->arg;
    const struct block_extent *extent = &op->extents[0];

    if (child->status < 0) {
        op_end(op, child->status);
        return;
    }
    uint64_t end = extent->offset + extent->len;

    end = end < op->end ? end : op->end;
    if (extent->kind == BLOCK_EXTENT_KEPT) {
        op->at = end;
        keep_next(op);
        return;
    }
    uint64_t len = end - op->at < PIECE ? end - op->at : PIECE;

    if (op->bytes == NULL) {
        op->bytes = malloc(PIECE);
        CHECK(op->bytes != NULL);
    }
    child_go(op, op->keep->below, BLOCK_READ, len, was_read);
}

static void keep_next(struct keep_op *op)
{
    struct keep_dev *keep = op->keep;

    if (op->at < op->end) {
        child_go(op, keep->fill, BLOCK_MAP, op->end - op->at, mapped);
        return;
    }
    keep->stats.flushes++;
    child_go(op, keep->fill, BLOCK_FLUSH, 0, flushed);
}

static void change_start(struct keep_op *op)
{
    const struct block_req *req = op->req;
    uint64_t end = (req->offset + req->len + GRANULE - 1) / GRANULE * GRANULE;

    op->at = range_begin(op);
    op->end = end < op->keep->size_bytes ? end : op->keep->size_bytes;
    if (op->at >= op->end || is_known(op->keep, op->at, op->end)) {
        pass(op);
    } else {
        keep_next(op);
    }
}

static void keep_submit(struct blockdev *dev, struct block_req *req)
{
    struct keep_dev *keep = of_dev(dev);
    struct list *link = list_pop_front(&keep->spare);
    struct keep_op *op = link ? list_entry(link, struct keep_op, link) : calloc(1, sizeof(*op));

    CHECK(op != NULL);
    list_init(&op->link);
    op->keep = keep;
    op->req = req;
    if (req->op == BLOCK_WRITE || req->op == BLOCK_ZERO) {
        change_start(op);
    } else {
        pass(op);
    }
}

/* ---- beginning and end ---- */

static void below_event(void *arg, struct blockdev *below, enum block_event event,
                        unsigned attempts, const char *detail)
{
    struct keep_dev *keep = arg;

    keep->base.info = below->info;
    keep->base.info.can_discard = false;
    blockdev_emit(&keep->base, event, attempts, detail);
}

static void below_closed(void *arg)
{
    struct keep_dev *keep = arg;
    block_close_fn done = keep->close_done;
    void *done_arg = keep->close_arg;
    struct list *link;

    while ((link = list_pop_front(&keep->spare)) != NULL) {
        struct keep_op *op = list_entry(link, struct keep_op, link);

        free(op->bytes);
        free(op);
    }
    for (size_t i = 0; i < keep->n_pages; i++) {
        free(keep->known[i]);
    }
    free(keep->known);
    free(keep);
    done(done_arg);
}

static void fill_closed(void *arg)
{
    struct keep_dev *keep = arg;

    blockdev_close(keep->below, below_closed, keep);
}

static void keep_idle(void *arg)
{
    struct keep_dev *keep = arg;

    blockdev_close(keep->fill, fill_closed, keep);
}

static void keep_close(struct blockdev *dev, block_close_fn done, void *arg)
{
    struct keep_dev *keep = of_dev(dev);

    keep->close_done = done;
    keep->close_arg = arg;
    blockdev_when_idle(dev, keep_idle, keep);
}

static const struct blockdev_ops keep_ops = {
    .kind = "keep",
    .submit = keep_submit,
    .close = keep_close,
};

int keep_dev_new(struct blockdev *below, struct blockdev *fill, struct blockdev **ret_dev)
{
    struct keep_dev *keep = calloc(1, sizeof(*keep));
    uint64_t size_bytes = fill->info.size_bytes;

    CHECK(below->loop == fill->loop);
    if (keep == NULL) {
        return -ENOMEM;
    }
    size_bytes = size_bytes < below->info.size_bytes ? size_bytes : below->info.size_bytes;
    keep->n_pages = (size_t)(size_bytes / GRANULE / PAGE_GRANULES + 1);
    keep->known = calloc(keep->n_pages, sizeof(*keep->known));
    if (keep->known == NULL) {
        free(keep);
        return -ENOMEM;
    }
    keep->base.ops = &keep_ops;
    keep->base.loop = below->loop;
    keep->base.info = below->info;
    keep->base.info.can_discard = false;
    keep->size_bytes = size_bytes;
    keep->below = below;
    keep->fill = fill;
    list_init(&keep->spare);
    below->on_event = below_event;
    below->event_arg = keep;
    *ret_dev = &keep->base;
    return 0;
}
