// SPDX-License-Identifier: Apache-2.0
/*
 * A device over another one that keeps what it overwrites: before a granule below is changed, what it had is on the stable storage of
 * a fill device (block/stack.h). So stacks whose oldest layer is filled, and that have the device below as their bottom, go on reading what
 * was there.
 *
 * Thread:    the loop of both.
 * Ownership: owns both, closes both; passes on the events of the device below.
 * Errors:    requests as below; those of the fill device end a change before it is submitted (-ENOSPC, -ESTALE).
 *
 * Only the first change of a granule costs something: a read below, unless it is kept already, and a flush of the layer. Everybody who changes
 * the device below has to go through this device. Discards are not taken: they would have to be kept like all changes.
 */
#ifndef BLOCK_KEEP_DEV_H
#define BLOCK_KEEP_DEV_H

#include "block/blockdev.h"

int keep_dev_new(struct blockdev *below, struct blockdev *fill, struct blockdev **ret_dev);

struct keep_stats {
    uint64_t kept_bytes; /* read below and given to the fill device */
    uint64_t flushes;
};
const struct keep_stats *keep_dev_stats(const struct blockdev *dev);

#endif
