// SPDX-License-Identifier: Apache-2.0
/*
 * A handle: a device that passes requests to a device that somebody else owns, on this loop or on
 * another one.
 *
 * Thread:    handle_dev_open() and the handle belong to loop; the device below stays on its own.
 * Ownership: closing a handle does not close the device; the device must live until the handle's
 *            close has called back.
 * Errors:    those of the device below.
 *
 * Between loops each request is a message there and one back. Slices are lent without their buffers
 * (counts are not atomic): the memory stays the submitter's until done(). info is a copy, taken on
 * the device's loop when the handle is opened and again with each handle_dev_refresh().
 */
#ifndef BLOCK_HANDLE_DEV_H
#define BLOCK_HANDLE_DEV_H

#include "base/error.h"
#include "block/blockdev.h"

/* fn is called later, on loop. */
typedef void (*handle_opened_fn)(void *arg, struct blockdev *dev, const struct error *error);
void handle_dev_open(struct loop *loop, struct blockdev *below, handle_opened_fn fn, void *arg);
/* After the device below has changed its size or read_only. fn may be NULL. */
void handle_dev_refresh(struct blockdev *dev, loop_fn fn, void *arg);

#endif
