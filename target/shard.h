// SPDX-License-Identifier: Apache-2.0
/*
 * What the target has on one data loop: memory for payload, and the logical units by identity.
 *
 * Thread:    the data loop's own; made and freed while it does not run, or by message.
 * Ownership: buffers come from fixed pools and go back to them; tables of slices are made on first
 *            use and kept.
 * Errors:    an empty pool is not an error: who gets nothing waits (shard_wait_data()).
 */
#ifndef TARGET_SHARD_H
#define TARGET_SHARD_H

#include "base/list.h"
#include "base/loop.h"
#include "base/slice.h"
#include "target/target.h"

enum {
    SHARD_RECV_BUFFER = 256 * 1024,
    SHARD_SMALL = 4096,
    SHARD_MEDIUM = 64 * 1024,
    SHARD_LARGE = 256 * 1024,
    SLICES_INLINE = 4,
    SLICES_TABLE = 320,
};

/* A few slices inside, many in a table of the shard's. */
struct slices {
    struct slice *items;
    unsigned count;
    unsigned max;
    struct slice inside[SLICES_INLINE];
};

struct shard_table {
    struct shard_table *next_free;
    struct slice items[SLICES_TABLE];
};

struct target_server;

struct shard {
    struct target_server *server;
    struct loop *loop;
    struct buffer_pool *recv_pool;
    struct buffer_pool *small_pool;
    struct buffer_pool *medium_pool;
    struct buffer_pool *large_pool;
    struct shard_table *free_tables;
    struct list waiting; /* of struct shard_waiter: for read buffers */
    struct loop_task wake_task;
    bool wake_posted;
    /* Write data that tasks have been allowed to ask for, and the tasks that wait until they may:
     * whole commands are promised or none of them, so that what was begun can be finished. */
    uint64_t promised;
    uint64_t promise_limit;
    struct list promise_waiting; /* struct task.promise_link */
    struct list luns;            /* struct scsi_lun.shard_link: targets of EXTENDED COPY */
};

struct shard_waiter {
    struct list link;
    loop_fn fn; /* tries again; may wait again */
    void *arg;
};

int shard_init(struct shard *shard, struct target_server *server, struct loop *loop,
               const struct target_limits *limits);
void shard_fini(struct shard *shard);

static inline void slices_init(struct slices *slices)
{
    slices->items = slices->inside;
    slices->count = 0;
    slices->max = SLICES_INLINE;
}

/* Room for one more; false: the table is full. */
bool slices_reserve(struct shard *shard, struct slices *slices);
/* Drops the references and gives the table back. */
void slices_clear(struct shard *shard, struct slices *slices);
/* Bytes at offset, copied over the borders of slices; the caller knows the length. */
void slices_read(const struct slices *slices, size_t offset, void *out, size_t len);
void slices_write(const struct slices *slices, size_t offset, const void *data, size_t len);

/* Appends len bytes of buffers, all or none. False: none now (or more than ever can be). */
bool shard_data_get(struct shard *shard, struct slices *slices, size_t len);
void shard_wait_data(struct shard *shard, struct shard_waiter *waiter);
/* Call after slices of the data pools were dropped. */
void shard_data_returned(struct shard *shard);

#endif
