// SPDX-License-Identifier: Apache-2.0
/*
 * The one I/O contract: what every block device of smirror promises.
 *
 * Thread:    a device lives on one loop; submit, close and all callbacks happen there.
 * Ownership: the submitter owns the request and its slices and lends them until done() is called. A device may take slice references to keep
 *            payload longer (never beyond close).
 * Errors:    req->status is 0 or negative errno: -EIO medium or protocol error, -ENOSPC no space, -EROFS write protected,
 *            -EINVAL outside the device or not a multiple of block_bytes, -ENOTCONN the link is down (may succeed after
 *            BLOCK_EVENT_UP; a write may or may not have happened), -ESTALE the device is not what it was, -EOPNOTSUPP the device cannot
 *            do that (see info), -ECANCELED closing.
 *
 * Every request completes exactly once, through done(), on the submitting loop, never before blockdev_submit() has
 * returned. Requests are not ordered: who needs an order waits. A flush covers the requests completed before it was
 * submitted.
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
    BLOCK_ZERO,    /* the range reads as zeros afterwards, on stable terms like a write */
    BLOCK_DISCARD, /* advice: the content is not needed; afterwards it reads as anything unless info.discard_zeroes */
    BLOCK_FLUSH,
    BLOCK_MAP, /* fills extents, for a prefix of the range */
};
const char *block_op_name(enum block_op op);

enum {
    BLOCK_FUA = 1,       /* on stable storage before done() */
    BLOCK_MAY_UNMAP = 2, /* BLOCK_ZERO may give the space back */
};

enum block_extent_kind { BLOCK_EXTENT_DATA, BLOCK_EXTENT_ZERO, BLOCK_EXTENT_UNKNOWN };

struct block_extent {
    uint64_t offset;
    uint64_t len;
    enum block_extent_kind kind; /* ZERO: reads as zeros and occupies no space */
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
    struct block_extent *extents; /* MAP: room for max_extents; n_extents >= 1 on success, in order, without gaps, */
    unsigned max_extents;         /*      the first begins at offset; the last may reach beyond offset + len       */
    unsigned n_extents;
    block_done_fn done;
    void *arg;
    int status;
    /* The device's own while submitted. */
    struct blockdev *dev;
    struct block_req *next, *prev;
    struct loop_task task;
    void *dev_private[4];
};

struct block_info {
    uint64_t size_bytes;
    uint32_t block_bytes;      /* logical block: unit of offset and len */
    uint32_t physical_bytes;   /* power of two >= block_bytes */
    uint32_t optimal_bytes;    /* preferred transfer, 0 unknown */
    uint32_t max_bytes;        /* longest READ or WRITE that is passed on unsplit (longer ones are split by the device) */
    uint32_t max_inflight;     /* requests worth having in flight now (a device may change it) */
    bool read_only;
    bool can_map;
    bool can_discard;
    bool discard_zeroes;       /* discarded and unmapped ranges read as zeros (LBPRZ) */
    bool thin;
};

enum block_event {
    BLOCK_EVENT_DOWN,    /* the link is gone; outstanding requests complete with -ENOTCONN */
    BLOCK_EVENT_RETRY,   /* an attempt to get it back failed; detail says why */
    BLOCK_EVENT_UP,      /* it is back, and the device is what it was */
    BLOCK_EVENT_CHANGED, /* the device is there but not what it was (identity, size, block size): final, -ESTALE from now on */
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
    unsigned inflight; /* kept by blockdev_submit() and blockdev_complete() */
};

/* Checks the range against info (a bad one completes with -EINVAL), zero length completes with 0, hands the rest to the device. */
void blockdev_submit(struct blockdev *dev, struct block_req *req);
void blockdev_close(struct blockdev *dev, block_close_fn done, void *arg);
/* For devices: completes req, on the loop, never inside submit when later is false was asked: always through loop_defer(). */
void blockdev_complete(struct block_req *req, int status);
/* For devices that complete from an I/O event (not inside submit): calls done() at once. */
void blockdev_complete_now(struct block_req *req, int status);

#endif
