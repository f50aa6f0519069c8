// SPDX-License-Identifier: Apache-2.0
/*
 * The file under a layer, asynchronous: real files (layer_file.c), or a disk that tests can cut the
 * power of.
 *
 * Thread:    the layer's loop.
 * Ownership: struct layer_io and what it points to are lent from submit until done.
 * Errors:    0, -EIO, -ENOSPC.
 */
#ifndef BLOCK_LAYER_IO_H
#define BLOCK_LAYER_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/loop.h"

enum layer_io_op {
    LAYER_IO_READ,
    LAYER_IO_WRITE,
    LAYER_IO_PUNCH,  /* the range reads as zeros and occupies nothing */
    LAYER_IO_SYNC,   /* everything completed before is on the disk */
    LAYER_IO_EXTEND, /* the file is at least offset + len bytes long */
    LAYER_IO_FIND,   /* the first run in the range that may occupy space */
    LAYER_IO_COUNT,  /* found_len: what the file occupies */
};
const char *layer_io_op_name(enum layer_io_op op);

struct layer_io {
    enum layer_io_op op;
    uint64_t offset;
    uint64_t len;
    uint64_t found_offset;   /* FIND */
    uint64_t found_len;      /* FIND: 0 for none; COUNT */
    const struct iovec *iov; /* READ and WRITE: len bytes in all */
    int n_iov;
    void (*done)(struct layer_io *io);
    void *arg;
    int status;
    /* The file's own while submitted. */
    struct layer_file *file;
    struct layer_io *next;
    struct loop_task task;
    struct loop_work work;
};

struct layer_file_ops {
    int (*submit)(struct layer_file *file, struct layer_io *io);
    void (*close)(struct layer_file *file, loop_fn fn, void *arg);
    void (*renamed)(struct layer_file *file, const char *path); /* or NULL: names do not matter */
};

struct layer_file {
    const struct layer_file_ops *ops;
    struct loop *loop;
    uint64_t size_bytes; /* at open */
    uint64_t used_bytes; /* at open */
};

/* The result if it was there at once (done is not called then), or -EINPROGRESS. */
int layer_file_submit(struct layer_file *file, struct layer_io *io);
/* Somebody has given the file another name, as long as the old one. */
void layer_file_renamed(struct layer_file *file, const char *path);
/* Nothing may be under way. fn comes later. */
void layer_file_close(struct layer_file *file, loop_fn fn, void *arg);

typedef void (*layer_file_open_fn)(void *arg, struct layer_file *file, const struct error *error);

struct layer_backend {
    /* fn comes later; -ENOMEM: never. create: the file must not exist, has size_bytes when fn is
     * called, and survives a crash (with its name) after the first SYNC. */
    int (*open)(const struct layer_backend *backend, struct loop *loop, const char *path,
                bool create, uint64_t size_bytes, layer_file_open_fn fn, void *arg);
    void (*remove)(const struct layer_backend *backend, const char *path);
};

extern const struct layer_backend layer_backend_files;

#endif
