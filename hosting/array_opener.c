// SPDX-License-Identifier: Apache-2.0
/*
 * A volume as a copy gets at it: through a handle, on whatever loop the copy runs; or what is below it, to be filled from
 * there, on the volume's own loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "block/handle_dev.h"
#include "block/keep_dev.h"
#include "hosting/array_private.h"

struct volume_opener {
    struct block_opener base;
    struct blockdev *dev;
};

static void opener_open(struct block_opener *opener, struct loop *loop, block_opened_fn done,
                        void *arg)
{
    struct volume_opener *self = container_of(opener, struct volume_opener, base);

    handle_dev_open(loop, self->dev, done, arg);
}

/* A handle opens at once. */
static void opener_cancel(struct block_opener *opener)
{
    (void)opener;
}

static void opener_free(struct block_opener *opener)
{
    free(container_of(opener, struct volume_opener, base));
}

static const struct block_opener_ops opener_ops = {
    .open = opener_open,
    .cancel = opener_cancel,
    .free = opener_free,
};

static struct block_opener *opener_of(struct blockdev *dev)
{
    struct volume_opener *opener = calloc(1, sizeof(*opener));

    CHECK(opener != NULL);
    opener->base.ops = &opener_ops;
    opener->dev = dev;
    return &opener->base;
}

struct block_opener *array_volume_opener(struct array *array, const char *volume_id)
{
    struct blockdev *front = array_volume_device(array, volume_id, NULL);

    CHECK(front != NULL);
    return opener_of(front);
}

struct block_opener *array_leg_opener(struct array *array, const char *volume_id)
{
    struct blockdev *front = array_volume_device(array, volume_id, NULL);

    CHECK(front != NULL);
    return opener_of(front_dev_inner(front));
}

/* ---- filling ---- */

struct fill_opener {
    struct block_opener base;
    struct shelf *shelf;
    array_id volume_id;
    uint64_t size_bytes;
    block_opened_fn done;
    void *arg;
    struct loop_task task;
};

static void fill_open_now(void *arg)
{
    struct fill_opener *self = arg;
    struct shelf_volume *volume = shelf_volume(self->shelf, self->volume_id);
    struct blockdev *dev = NULL;
    struct error error;
    int r = volume == NULL ? -ENOENT : stack_fill_open(volume->stack, self->size_bytes, &dev);

    if (r < 0) {
        error_set(&error, ERR_CONFLICT, "Volume %s cannot be filled now: %s.", self->volume_id,
                  strerror(-r));
    }
    self->done(self->arg, dev, r < 0 ? &error : NULL);
}

static void fill_open(struct block_opener *opener, struct loop *loop, block_opened_fn done,
                      void *arg)
{
    struct fill_opener *self = container_of(opener, struct fill_opener, base);

    CHECK(loop == self->shelf->loop);
    self->done = done;
    self->arg = arg;
    self->task = (struct loop_task){.fn = fill_open_now, .arg = self};
    loop_defer(loop, &self->task);
}

static void fill_free(struct block_opener *opener)
{
    free(container_of(opener, struct fill_opener, base));
}

static const struct block_opener_ops fill_ops = {
    .open = fill_open,
    .cancel = opener_cancel,
    .free = fill_free,
};

struct block_opener *array_fill_opener(struct array *array, const char *volume_id,
                                       uint64_t size_bytes)
{
    struct fill_opener *opener = calloc(1, sizeof(*opener));
    struct loop *loop;

    CHECK(opener != NULL && array_volume_device(array, volume_id, &loop) != NULL);
    opener->base.ops = &fill_ops;
    opener->size_bytes = size_bytes;
    strcpy(opener->volume_id, volume_id);
    for (unsigned i = 0; i < array->spec.n_loops; i++) {
        opener->shelf = array->loops[i] == loop ? array->shelves[i] : opener->shelf;
    }
    return &opener->base;
}

/* ---- writing to what is below ---- */

struct keep_opener {
    struct block_opener base;
    struct array *array;
    array_id volume_id;
    struct block_opener *inner;
    struct loop *loop;
    block_opened_fn done;
    void *arg;
    struct error error;
};

static void keep_given_up(void *arg)
{
    struct keep_opener *self = arg;

    self->done(self->arg, NULL, &self->error);
}

static struct shelf *shelf_on(const struct array *array, const struct loop *loop)
{
    unsigned i = 0;

    while (array->loops[i] != loop) {
        i++;
    }
    return array->shelves[i];
}

static void keep_inner_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct keep_opener *self = arg;
    const struct shelf_volume *volume =
        shelf_volume(shelf_on(self->array, self->loop), self->volume_id);
    struct blockdev *fill = NULL;
    struct blockdev *keep = NULL;

    if (error != NULL || (volume != NULL && volume->bottom == NULL)) {
        self->done(self->arg, dev, error);
        return;
    }
    int r = volume == NULL ? -ENOENT
                           : stack_fill_open(volume->stack, volume->bottom->info.size_bytes, &fill);

    if (r == 0) {
        r = keep_dev_new(dev, fill, &keep);
        CHECK(r == 0);
        self->done(self->arg, keep, NULL);
        return;
    }
    error_set(&self->error, ERR_REMOTE_UNREACHABLE,
              "What is overwritten below volume %s cannot be kept now: %s.", self->volume_id,
              strerror(-r));
    blockdev_close(dev, keep_given_up, self);
}

static void keep_open(struct block_opener *opener, struct loop *loop, block_opened_fn done,
                      void *arg)
{
    struct keep_opener *self = container_of(opener, struct keep_opener, base);

    self->loop = loop;
    self->done = done;
    self->arg = arg;
    self->inner->ops->open(self->inner, loop, keep_inner_opened, self);
}

static void keep_cancel(struct block_opener *opener)
{
    struct keep_opener *self = container_of(opener, struct keep_opener, base);

    self->inner->ops->cancel(self->inner);
}

static void keep_free(struct block_opener *opener)
{
    struct keep_opener *self = container_of(opener, struct keep_opener, base);

    self->inner->ops->free(self->inner);
    free(self);
}

static const struct block_opener_ops keep_ops = {
    .open = keep_open,
    .cancel = keep_cancel,
    .free = keep_free,
};

struct block_opener *array_keep_opener(struct array *array, const char *volume_id,
                                       struct block_opener *inner)
{
    struct keep_opener *opener = calloc(1, sizeof(*opener));

    CHECK(opener != NULL && strlen(volume_id) <= ARRAY_ID_LEN);
    opener->base.ops = &keep_ops;
    opener->array = array;
    strcpy(opener->volume_id, volume_id);
    opener->inner = inner;
    return &opener->base;
}
