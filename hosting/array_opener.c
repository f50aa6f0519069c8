// SPDX-License-Identifier: Apache-2.0
/* A volume as a copy gets at it: through a handle, on whatever loop the copy runs. */
#include <stdlib.h>

#include "base/check.h"
#include "block/handle_dev.h"
#include "hosting/array_private.h"

struct volume_opener {
    struct block_opener base;
    struct blockdev *front;
};

static void opener_open(struct block_opener *opener, struct loop *loop, block_opened_fn done,
                        void *arg)
{
    struct volume_opener *self = container_of(opener, struct volume_opener, base);

    handle_dev_open(loop, self->front, done, arg);
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

struct block_opener *array_volume_opener(struct array *array, const char *volume_id)
{
    struct blockdev *front = array_volume_device(array, volume_id, NULL);
    struct volume_opener *opener = calloc(1, sizeof(*opener));

    CHECK(front != NULL && opener != NULL);
    opener->base.ops = &opener_ops;
    opener->front = front;
    return &opener->base;
}
