// SPDX-License-Identifier: Apache-2.0
/*
 * The loop's half: filters, devices of others between a volume's front and its stack. See struct shelf_filter.
 *
 * Adding: the new joint is put over what is below the front, the filter over the joint; then the front is moved onto the filter, when what is
 * under way has ended. Removing is the same backwards: what is above the filter is moved onto what is below its joint.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "hosting/array_private.h"

static struct shelf_filter *filter_find(const struct shelf_volume *volume, const char *id)
{
    struct shelf_filter *filter = volume->filters;

    while (filter != NULL && strcmp(filter->id, id) != 0) {
        filter = filter->lower;
    }
    return filter;
}

struct blockdev *shelf_base(const struct shelf_volume *volume)
{
    struct blockdev *base = volume->front;

    for (const struct shelf_filter *filter = volume->filters; filter != NULL;
         filter = filter->lower) {
        base = filter->joint;
    }
    return base;
}

static void filters_refresh(struct shelf_filter *filter)
{
    if (filter != NULL) {
        filters_refresh(filter->lower);
        front_dev_refresh(filter->joint);
        if (filter->ops.refresh != NULL) {
            filter->ops.refresh(filter->ops.arg, filter->dev);
        }
    }
}

void shelf_info_refresh(struct shelf_volume *volume)
{
    filters_refresh(volume->filters);
    front_dev_refresh(volume->front);
}

bool shelf_can_grow(const struct shelf_volume *volume)
{
    const struct shelf_filter *filter = volume->filters;

    while (filter != NULL && filter->ops.refresh != NULL) {
        filter = filter->lower;
    }
    return filter == NULL;
}

/* Its joint is there whether it could be made or not. */
static struct shelf_filter *filter_make(struct op *op, const struct array_volume_filter *wanted,
                                        struct blockdev *below)
{
    struct shelf_filter *filter = calloc(1, sizeof(*filter));

    CHECK(filter != NULL);
    memcpy(filter->id, wanted->id, sizeof(filter->id));
    filter->ops = wanted->filter;
    CHECK(front_dev_new(below, &filter->joint) == 0);
    int r = filter->ops.make(filter->ops.arg, op->shelf->loop, filter->joint, &filter->dev);

    if (r < 0) {
        filter->dev = NULL;
        op_fail_errno(op, r, "What is to see all writes of the volume could not be made");
    }
    return filter;
}

/* ---- with the volume ---- */

struct blockdev *shelf_filters_make(struct op *op)
{
    struct shelf_volume *volume = op->volume;
    struct blockdev *below = volume->stack;

    for (size_t i = 0; i < op->n_filters && op->error.code == ERR_NONE; i++) {
        struct shelf_filter *filter = filter_make(op, &op->filters[i], below);

        filter->lower = volume->filters;
        volume->filters = filter;
        below = filter->dev;
    }
    return below;
}

static void filters_close(struct op *op);

static void highest_joint_closed(void *arg)
{
    struct op *op = arg;
    struct shelf_filter *filter = op->volume->filters;

    op->volume->filters = filter->lower;
    free(filter);
    filters_close(op);
}

static void highest_closed(void *arg)
{
    struct op *op = arg;

    blockdev_close(op->volume->filters->joint, highest_joint_closed, op);
}

static void filters_close(struct op *op)
{
    struct shelf_filter *filter = op->volume->filters;

    if (filter == NULL) {
        op->next(op);
    } else if (filter->dev != NULL) {
        blockdev_close(filter->dev, highest_closed, op);
    } else {
        highest_closed(op);
    }
}

void shelf_filters_close(struct op *op, void (*next)(struct op *op))
{
    op->next = next;
    filters_close(op);
}

/* ---- one of an open volume ---- */

static void one_joint_closed(void *arg)
{
    struct op *op = arg;

    front_dev_refresh(op->volume->front);
    free(op->filter);
    op_end(op);
}

static void one_closed(void *arg)
{
    struct op *op = arg;

    blockdev_close(op->filter->joint, one_joint_closed, op);
}

static void added(void *arg)
{
    struct op *op = arg;
    struct shelf_filter *filter = op->filter;

    filter->lower = op->volume->filters;
    op->volume->filters = filter;
    op_end(op);
}

void shelf_filter_add(struct op *op)
{
    const struct array_volume_filter *wanted = &op->filters[0];

    op->volume = shelf_volume(op->shelf, op->volume_id);
    if (op->volume == NULL) {
        op_fail(op, ERR_INTERNAL, "Volume %s is not open.", op->volume_id);
        op_end(op);
    } else if (filter_find(op->volume, wanted->id) != NULL) {
        op_fail(op, ERR_CONFLICT, "Volume %s has %s already.", op->volume_id, wanted->id);
        op_end(op);
    } else {
        op->filter = filter_make(op, wanted, front_dev_below(op->volume->front));
        if (op->error.code != ERR_NONE) {
            one_closed(op);
        } else {
            CHECK(front_dev_replace(op->volume->front, op->filter->dev, added, op) == 0);
        }
    }
}

/* Nothing of anybody's goes through it any more. */
static void removed(void *arg)
{
    struct op *op = arg;
    struct shelf_filter **place = &op->volume->filters;

    while (*place != op->filter) {
        place = &(*place)->lower;
    }
    *place = op->filter->lower;
    blockdev_close(op->filter->dev, one_closed, op);
}

static struct blockdev *above(const struct shelf_volume *volume, const struct shelf_filter *filter)
{
    struct blockdev *dev = volume->front;

    for (const struct shelf_filter *higher = volume->filters; higher != filter;
         higher = higher->lower) {
        dev = higher->joint;
    }
    return dev;
}

void shelf_filter_remove(struct op *op)
{
    op->volume = shelf_volume(op->shelf, op->volume_id);
    op->filter = op->volume == NULL ? NULL : filter_find(op->volume, op->filters[0].id);
    if (op->filter == NULL) {
        op_fail(op, ERR_INTERNAL, "Volume %s is not open, or has no %s.", op->volume_id,
                op->filters[0].id);
        op_end(op);
        return;
    }
    CHECK(front_dev_replace(above(op->volume, op->filter), front_dev_below(op->filter->joint),
                            removed, op) == 0);
}
