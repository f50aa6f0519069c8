// SPDX-License-Identifier: Apache-2.0
/*
 * One LUN over several sessions: requests go to the session with the fewest bytes in flight, and move to the others when one is lost.
 *
 * Thread:    the loop on which it is opened; multi_opener_new() and free anywhere.
 * Ownership: the opener takes the openers of the paths and references to meters and limit; they live as long as it or a device of
 *            it. One device at a time.
 * Errors:    as block/blockdev.h. DOWN, RETRY, UP and CHANGED are those of the LUN: DOWN when no path is left (or the LUN says that it
 *            may have lost what was not flushed), UP when the first is back, CHANGED when all lead to another LUN. Opening fails when
 *            every path has failed once, with the error that may heal, if there is one.
 *
 * A path whose LUN is another one than the first path's is refused, and looked at again every ten seconds.
 */
#ifndef BLOCK_MULTI_DEV_H
#define BLOCK_MULTI_DEV_H

#include "block/opener.h"
#include "block/path_meter.h"

enum { MULTI_MAX_PATHS = 32, MULTI_NAME_SIZE = 80, MULTI_LUN_SIZE = 512 };

/* What a path's device can do beyond block/blockdev.h; each may be NULL. */
struct multi_ops {
    /* What tells its LUN from others; "" when nothing does, and then there is one path only. */
    void (*lun)(const struct blockdev *dev, char *text, size_t size);
    /* Ends what sessions that are gone may have under way at the LUN; nothing is outstanding at dev. UP follows when it is done, DOWN
     * or RETRY when the link was lost before. NULL: cannot. */
    void (*fence)(struct blockdev *dev);
    /* The LUN was reset, by the fence of another path: what it says of that is no news. */
    void (*fenced)(struct blockdev *dev);
    /* In a DOWN event: has the LUN said that it was reset, so that what was not flushed may be lost? */
    bool (*was_reset)(const struct blockdev *dev);
};

struct multi_path_spec {
    struct block_opener *opener;
    struct path_meter *meter; /* or NULL */
};

struct multi_spec {
    char name[MULTI_NAME_SIZE]; /* for the log */
    const struct multi_ops *ops;
    struct multi_path_spec paths[MULTI_MAX_PATHS];
    unsigned n_paths;
    struct path_limit *limit; /* of READ and WRITE, or NULL */
    /* A write of a lost session is sent again, once that session has been fenced off; without it, it ends with -ENOTCONN. Only for a
     * LUN that may be reset (struct iscsi_spec). fence_open: fenced before the open is done, too; so is every open but the first. */
    bool fence;
    bool fence_open;
};

/* NULL: no memory; the openers are still the caller's. */
struct block_opener *multi_opener_new(const struct multi_spec *spec);

#endif
