// SPDX-License-Identifier: Apache-2.0
/*
 * The one I/O contract: what every block device of smirror promises.
 *
 * Thread:    a device lives on one loop; submit, close and all callbacks happen there.
 * Ownership: the submitter owns the request and its slices and lends them until done() is called. A
 *            device may take slice references to keep payload longer (never beyond close).
 * Errors:    req->status is 0 or negative errno:
 *              -EIO         medium or protocol error
 *              -ENOSPC      no space
 *              -EROFS       write protected
 *              -EINVAL      outside the device or not a multiple of block_bytes
 *              -EOPNOTSUPP  the device cannot do that (see info)
 *              -ENOTCONN    the link is down; may succeed after BLOCK_EVENT_UP, and a write may or
 *                           may not have happened
 *              -ESTALE      the device is not what it was
 *              -ECANCELED   the device is closing
 *
 * Every request completes exactly once, through done(), on the device's loop, never before
 * blockdev_submit() has returned. Requests are not ordered: who needs an order waits. A flush
 * covers the requests completed before it was submitted.
 */
#ifndef BLOCK_BLOCKDEV_H
#define BLOCK_BLOCKDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/slice.h"

enum block_op {
    BLOCK_READ,    /* fills slices */
    BLOCK_WRITE,   /* from slices */
    BLOCK_ZERO,    /* a write of zeros, with the same promises */
    BLOCK_DISCARD, /* afterwards reads as anything, or as zeros if info.discard_zeroes */
    BLOCK_FLUSH,
    BLOCK_MAP, /* fills extents, for a prefix of the range */
};
#define BLOCK_OP_COUNT (BLOCK_MAP + 1)
const char *block_op_name(enum block_op op);

enum {
    BLOCK_FUA = 1,       /* on stable storage before done() */
    BLOCK_MAY_UNMAP = 2, /* BLOCK_ZERO may give the space back */
    BLOCK_CONTENTS = 4,  /* BLOCK_MAP: extents of data end where content does */
};

enum block_extent_kind {
    BLOCK_EXTENT_DATA,
    BLOCK_EXTENT_ZERO, /* reads as zeros and occupies no space */
    BLOCK_EXTENT_UNKNOWN,
    /* Of devices that are filled: stays as it is, whatever is written. Of devices that are changes:
     * has not changed, need not be copied. */
    BLOCK_EXTENT_KEPT,
};
const char *block_extent_kind_name(enum block_extent_kind kind);

struct block_extent {
    uint64_t offset;
    uint64_t len;
    enum block_extent_kind kind;
    /* Not 0: what two devices call the same content has the same bytes at the same offsets. Only with
     * BLOCK_CONTENTS, and as it was when the device answered. */
    uint64_t content;
};

struct block_req;
typedef void (*block_done_fn)(struct block_req *req);

struct block_req {
    enum block_op op;
    unsigned flags;
    uint64_t offset; /* bytes */
    uint64_t len;    /* bytes; for READ and WRITE the sum of the slices */
    struct slice *slices;
    unsigned n_slices;
    /* MAP: room for max_extents; the device fills n_extents >= 1, in order and without gaps. The
     * first begins at offset, the last may end before or beyond offset + len. */
    struct block_extent *extents;
    unsigned max_extents;
    unsigned n_extents;
    block_done_fn done;
    void *arg;
    int status;
    /* The device's own while submitted. Zero before the first submit; done() may free the request
     * or submit it again. */
    struct blockdev *dev;
    struct block_req *next, *prev;
    struct loop_task task;
    void *dev_private[4];
};

struct block_info {
    uint64_t size_bytes;
    uint32_t block_bytes;    /* logical block: unit of offset and len */
    uint32_t physical_bytes; /* power of two >= block_bytes */
    uint32_t optimal_bytes;  /* preferred transfer, 0 unknown */
    uint32_t max_bytes;      /* READ and WRITE beyond this are split by the device; never 0 */
    uint32_t max_inflight;   /* requests worth having in flight now (a device may change it) */
    bool read_only;
    bool can_map;
    bool can_discard;
    bool discard_zeroes; /* discarded and unmapped ranges read as zeros (LBPRZ) */
    bool thin;
    bool keeps;   /* a fill device: a write changes only what the map does not call kept */
    bool changes; /* to be copied from: only what its map does not call kept is new */
};

enum block_event {
    BLOCK_EVENT_DOWN,    /* the link is gone; outstanding requests complete with -ENOTCONN */
    BLOCK_EVENT_RETRY,   /* an attempt to get it back failed; detail says why */
    BLOCK_EVENT_UP,      /* it is back, and the device is what it was */
    BLOCK_EVENT_CHANGED, /* it is back, but not what it was (identity, size, block size): final,
                            -ESTALE from now on */
};
const char *block_event_name(enum block_event event);
/* attempts: tries since the link was last up. detail: one sentence. */
typedef void (*block_event_fn)(void *arg, struct blockdev *dev, enum block_event event,
                               unsigned attempts, const char *detail);

typedef void (*block_close_fn)(void *arg);

struct blockdev_ops {
    const char *kind; /* "mem", "file", "iscsi", … */
    void (*submit)(struct blockdev *dev, struct block_req *req);
    /* Fails what is outstanding with -ECANCELED or completes it, then frees dev and calls done. */
    void (*close)(struct blockdev *dev, block_close_fn done, void *arg);
};

struct blockdev {
    const struct blockdev_ops *ops;
    struct loop *loop;
    struct block_info info;
    block_event_fn on_event; /* owner's, may be NULL */
    void *event_arg;

    /* Kept by blockdev.c. */
    unsigned inflight; /* submitted, done() not yet called */
    unsigned submitting;
    bool closing;
    bool idle_wanted;
    struct loop_task idle_task;
};

/* Checks the request against info (-EINVAL, -EROFS, -EOPNOTSUPP), completes one of length zero, and
 * hands the rest to the device. Not after blockdev_close(). */
void blockdev_submit(struct blockdev *dev, struct block_req *req);
/* Drains, then calls done. Outstanding requests complete before that, perhaps with -ECANCELED. */
void blockdev_close(struct blockdev *dev, block_close_fn done, void *arg);

/* For devices. */

/* child: what req asks for, to be submitted to a device below, with the same slices and extents. n_extents is req's only
 * once it is copied back. */
void blockdev_pass(struct block_req *child, const struct block_req *req, block_done_fn done,
                   void *arg);

/* Completes req through loop_defer(): allowed anywhere, inside submit too. */
void blockdev_complete(struct block_req *req, int status);
/* Calls done() before it returns: for I/O events and timers, never inside submit. */
void blockdev_complete_now(struct block_req *req, int status);
/* Calls fn(arg) from the loop once no request is outstanding; for close, so once per device. fn may
 * free dev. */
void blockdev_when_idle(struct blockdev *dev, loop_fn fn, void *arg);
/* Calls the owner's on_event, if there is one. */
void blockdev_emit(struct blockdev *dev, enum block_event event, unsigned attempts,
                   const char *detail);

#endif
