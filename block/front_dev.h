// SPDX-License-Identifier: Apache-2.0
/*
 * The device of a volume: passes requests to the device below, which may be replaced while the
 * volume is in use.
 *
 * Thread:    the loop of the device below.
 * Ownership: the front does not own what is below it: who made it closes that, after the front was
 *            closed or the device was replaced.
 * Errors:    those of the device below.
 *
 * info is that of the device below, except read_only, which is also true while asked for here.
 * A device has one front that listens to its events: the one that was put over it last.
 * Events of the device below go to the owner of the front. A close ends requests that wait for a
 * replacement with -ECANCELED; a replacement under way ends before the close does.
 */
#ifndef BLOCK_FRONT_DEV_H
#define BLOCK_FRONT_DEV_H

#include "block/blockdev.h"

int front_dev_new(struct blockdev *below, struct blockdev **ret_dev);

struct blockdev *front_dev_below(struct blockdev *dev);

/* New requests wait, those under way end in the device that is there; then below takes its place,
 * info is taken over, fn is called (the old device is the caller's to close), and what waited goes
 * to the new one. Never inside the call. One at a time: -EBUSY; fn may begin the next. below may be
 * the device that is there already: then this is only a barrier. */
typedef void (*front_done_fn)(void *arg);
int front_dev_replace(struct blockdev *dev, struct blockdev *below, front_done_fn fn, void *arg);

/* After the device below has grown, or lost a front that was put over it meanwhile: info is taken over again, and events. */
void front_dev_refresh(struct blockdev *dev);

/* Requests that are under way go on; new writes end with -EROFS. */
void front_dev_set_read_only(struct blockdev *dev, bool read_only);

/* The same device past read_only and the watch: for who writes on our behalf. What uses it has let go of it before the front
 * is closed; it is not closed itself. */
struct blockdev *front_dev_inner(struct blockdev *dev);

/* fn is called once, from the loop, when the next request that changes something has been passed
 * down. Replaces the one that was there; NULL takes it away. */
void front_dev_watch(struct blockdev *dev, loop_fn fn, void *arg);

#endif
