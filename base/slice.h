// SPDX-License-Identifier: Apache-2.0
/*
 * Reference-counted memory for payload: one received buffer feeds several devices without a copy.
 *
 * Thread:    a buffer and its slices belong to one loop; counts are not atomic.
 * Ownership: a slice holds a reference to its buffer; slice_unref() drops it. The last one returns
 *            the buffer to its pool.
 * Errors:    buffer_pool_get() answers NULL when the pool is empty: buffer_pool_wait() says when to
 *            ask again.
 */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer_pool;
struct loop;
struct loop_task;

struct buffer {
    uint8_t *data; /* aligned to 4096 */
    size_t size;
    unsigned refs;
    struct buffer_pool *pool;
    struct buffer *next_free;
};

struct slice {
    struct buffer *buffer; /* NULL: memory that the submitter keeps alive by itself */
    uint8_t *data;
    size_t len;
};

/* count buffers of size bytes, allocated on first use and kept. */
int buffer_pool_new(size_t size, unsigned count, struct buffer_pool **ret_pool);
/* All buffers must be back. */
void buffer_pool_free(struct buffer_pool *pool);
struct buffer *buffer_pool_get(struct buffer_pool *pool); /* one reference, or NULL */
unsigned buffer_pool_available(const struct buffer_pool *pool);
/* One buffer that comes back wakes one waiter, first come first served, through loop_defer(loop,
 * task). The task asks with buffer_pool_get() again; should another have been faster, it waits
 * again. At once if the pool is not empty. */
void buffer_pool_wait(struct buffer_pool *pool, struct loop *loop, struct loop_task *task);
/* True: the task was waiting and will not run. False: it was not, or it is already on its way. */
bool buffer_pool_wait_cancel(struct buffer_pool *pool, struct loop_task *task);

void buffer_ref(struct buffer *buffer);
void buffer_unref(struct buffer *buffer);

/* A slice over len bytes at offset of buffer, with a reference of its own. */
struct slice slice_of(struct buffer *buffer, size_t offset, size_t len);
void slice_unref(struct slice *slice);

/* True if all bytes are zero (also for len 0). Data that is not zero usually tells within its first
 * bytes. */
bool mem_is_zero(const void *data, size_t len);

#endif
