// SPDX-License-Identifier: Apache-2.0
/*
 * io_uring for the transfers of layer files that the page cache cannot do at once.
 *
 * Thread:    the loop's; one ring per loop, shared by its files.
 * Ownership: layer_uring_get() takes a reference, layer_uring_put() gives it back.
 * Errors:    NULL where the kernel, the container or the build has no io_uring: worker threads do
 *            the work then.
 */
#ifndef BLOCK_LAYER_URING_H
#define BLOCK_LAYER_URING_H

#include "block/layer_io.h"

struct layer_uring;

struct layer_uring *layer_uring_get(struct loop *loop);
void layer_uring_put(struct layer_uring *uring);
/* READ or WRITE. True: fn(io, result) comes later, with the bytes transferred or negative errno.
 * False: there is no room now. */
typedef void (*layer_uring_fn)(struct layer_io *io, int result);
bool layer_uring_submit(struct layer_uring *uring, int fd, struct layer_io *io, layer_uring_fn fn);

#endif
