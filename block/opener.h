// SPDX-License-Identifier: Apache-2.0
/*
 * How to get at a device, later and on its loop: what a copy is given instead of a device.
 *
 * Thread:    open and cancel on the loop given; free anywhere, when no open is under way.
 * Ownership: who takes an opener frees it. The device that it opens is the taker's to close.
 * Errors:    handed to the callback.
 */
#ifndef BLOCK_OPENER_H
#define BLOCK_OPENER_H

#include "base/error.h"
#include "base/loop.h"
#include "block/blockdev.h"

/* done is called once, on the loop, never inside open(). cancel makes an open that is under way
 * end soon (done is still called). */
struct block_opener;
typedef void (*block_opened_fn)(void *arg, struct blockdev *dev, const struct error *error);
struct block_opener_ops {
    void (*open)(struct block_opener *opener, struct loop *loop, block_opened_fn done, void *arg);
    void (*cancel)(struct block_opener *opener);
    void (*free)(struct block_opener *opener);
};
struct block_opener {
    const struct block_opener_ops *ops;
};

#endif
