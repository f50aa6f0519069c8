// SPDX-License-Identifier: Apache-2.0
/*
 * A device to read from that may be away: what it is is known before, it is opened when it is first
 * read, and opened again when it was lost.
 *
 * Thread:    the loop given.
 * Ownership: the opener and the device that it opens are the late device's.
 * Errors:    -ENOTCONN when a read has waited for its time and the device below is not there;
 *            -ESTALE when it is not what it was (it is looked at again, by and by); the others are
 *            those of the device below.
 *
 * A read that finds nobody, or whose link is lost under way, waits; it is asked again when the
 * device below is back. Tries to open follow one another after 100 ms, doubling to 10 s, as long
 * as somebody waits. The map is unknown while the device is away. The blocks below may be larger
 * than those told here. Writes are refused.
 */
#ifndef BLOCK_LATE_DEV_H
#define BLOCK_LATE_DEV_H

#include "block/opener.h"

struct late_spec {
    const char *name; /* for the log; copied, cut at 79 bytes */
    struct block_opener *opener;
    uint64_t size_bytes; /* a device below that is smaller is not what it was */
    uint32_t block_bytes;
    uint32_t hold_ms; /* how long a read waits; 0: 20000 */
};

int late_dev_new(struct loop *loop, const struct late_spec *spec, struct blockdev **ret_dev);

/* What waits ends now, and from now on nothing waits: the device is about to be closed. */
void late_dev_give_up(struct blockdev *dev);

#endif
