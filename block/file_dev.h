// SPDX-License-Identifier: Apache-2.0
/*
 * A regular file as a block device.
 *
 * Thread:    one loop; the file is touched by worker threads, except reads that the page cache
 *            answers at once.
 * Ownership: the receiver of the device closes it. The file is locked while it is open: one writer
 *            or many readers.
 * Errors:    struct error for opening: no_such_object, in_use, no_space, invalid_parameter,
 *            internal. Requests: -EIO, -ENOSPC, -EROFS.
 *
 * Holes of the file are extents that read as zeros; zeroing and discarding make holes where the
 * file system can. A write is on stable storage after FLUSH or with FUA, as fdatasync(2) means it.
 */
#ifndef BLOCK_FILE_DEV_H
#define BLOCK_FILE_DEV_H

#include "base/error.h"
#include "block/blockdev.h"

struct file_dev_spec {
    const char *path;
    /* With create: the size of the new file, which must not exist; without: 0, or the size that it
     * must have. */
    uint64_t size_bytes;
    uint32_t block_bytes;    /* 0: 512 */
    uint32_t physical_bytes; /* 0: 4096 */
    uint32_t max_inflight;   /* 0: 32 */
    bool create;
    bool read_only;
};

/* dev is NULL and *error tells why, or error is NULL. */
typedef void (*file_open_fn)(void *arg, struct blockdev *dev, const struct error *error);

/* fn is called from the loop later. -ENOMEM: it will not be. There is no cancelling. */
int file_dev_open(struct loop *loop, const struct file_dev_spec *spec, file_open_fn fn, void *arg);

struct file_dev_stats {
    uint64_t reads_cached; /* answered on the loop */
    uint64_t reads_worker;
};
const struct file_dev_stats *file_dev_stats(const struct blockdev *dev);

#endif
