// SPDX-License-Identifier: Apache-2.0
#include "base/slice.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/loop.h"

enum { BUFFER_ALIGN = 4096 };

struct buffer_pool {
    size_t size;
    unsigned count;
    unsigned made;      /* buffers whose memory was allocated */
    unsigned available; /* count less the ones in use */
    struct buffer *free_list;
    struct buffer *buffers;

    struct loop *waiters_loop;
    struct loop_task *waiters_first;
    struct loop_task **waiters_end;
};

int buffer_pool_new(size_t size, unsigned count, struct buffer_pool **ret_pool)
{
    if (size == 0 || count == 0 || size > SIZE_MAX - BUFFER_ALIGN) {
        return -EINVAL;
    }
    struct buffer_pool *pool = calloc(1, sizeof(*pool));
    if (!pool) {
        return -ENOMEM;
    }
    pool->buffers = calloc(count, sizeof(*pool->buffers));
    if (!pool->buffers) {
        free(pool);
        return -ENOMEM;
    }
    pool->size = size;
    pool->count = count;
    pool->available = count;
    pool->waiters_end = &pool->waiters_first;
    *ret_pool = pool;
    return 0;
}

void buffer_pool_free(struct buffer_pool *pool)
{
    if (!pool) {
        return;
    }
    CHECK(pool->available == pool->count);
    CHECK(pool->waiters_first == NULL);
    for (unsigned i = 0; i < pool->made; i++) {
        free(pool->buffers[i].data);
    }
    free(pool->buffers);
    free(pool);
}

struct buffer *buffer_pool_get(struct buffer_pool *pool)
{
    struct buffer *buffer = pool->free_list;
    if (buffer) {
        pool->free_list = buffer->next_free;
    } else if (pool->made < pool->count) {
        size_t rounded = (pool->size + BUFFER_ALIGN - 1) / BUFFER_ALIGN * BUFFER_ALIGN;
        buffer = &pool->buffers[pool->made];
        buffer->data = aligned_alloc(BUFFER_ALIGN, rounded);
        if (!buffer->data) {
            return NULL;
        }
        buffer->size = pool->size;
        buffer->pool = pool;
        pool->made++;
    } else {
        return NULL;
    }
    buffer->next_free = NULL;
    buffer->refs = 1;
    pool->available--;
    return buffer;
}

unsigned buffer_pool_available(const struct buffer_pool *pool)
{
    return pool->available;
}

void buffer_pool_wait(struct buffer_pool *pool, struct loop *loop, struct loop_task *task)
{
    if (pool->available > 0) {
        loop_defer(loop, task);
        return;
    }
    CHECK(!pool->waiters_first || pool->waiters_loop == loop);
    pool->waiters_loop = loop;
    task->next = NULL;
    *pool->waiters_end = task;
    pool->waiters_end = &task->next;
}

bool buffer_pool_wait_cancel(struct buffer_pool *pool, struct loop_task *task)
{
    for (struct loop_task **at = &pool->waiters_first; *at; at = &(*at)->next) {
        if (*at == task) {
            *at = task->next;
            if (!*at) {
                pool->waiters_end = at;
            }
            task->next = NULL;
            return true;
        }
    }
    return false;
}

void buffer_ref(struct buffer *buffer)
{
    CHECK(buffer->refs > 0);
    buffer->refs++;
}

void buffer_unref(struct buffer *buffer)
{
    if (!buffer) {
        return;
    }
    CHECK(buffer->refs > 0);
    if (--buffer->refs > 0) {
        return;
    }
    struct buffer_pool *pool = buffer->pool;
    buffer->next_free = pool->free_list;
    pool->free_list = buffer;
    pool->available++;
    struct loop_task *waiter = pool->waiters_first;
    if (waiter) {
        pool->waiters_first = waiter->next;
        if (!pool->waiters_first) {
            pool->waiters_end = &pool->waiters_first;
        }
        loop_defer(pool->waiters_loop, waiter);
    }
}

struct slice slice_of(struct buffer *buffer, size_t offset, size_t len)
{
    CHECK(offset <= buffer->size && len <= buffer->size - offset);
    buffer_ref(buffer);
    return (struct slice){.buffer = buffer, .data = buffer->data + offset, .len = len};
}

void slice_unref(struct slice *slice)
{
    buffer_unref(slice->buffer);
    *slice = (struct slice){0};
}

/*
 * 256 bytes per step in vectors of 32; the compiler makes AVX2 of it where the function's target
 * allows and pairs of SSE2 registers elsewhere.
 */
typedef uint64_t vec32 __attribute__((vector_size(32), aligned(1), may_alias));
enum { ZERO_STEP = 256 };

__attribute__((always_inline)) static inline size_t zero_steps(const uint8_t *data, size_t len)
{
    size_t done = 0;
    while (len - done >= ZERO_STEP) {
        const vec32 *v = (const vec32 *)(data + done);
        vec32 sum = (v[0] | v[1] | v[2] | v[3]) | (v[4] | v[5] | v[6] | v[7]);
        if ((sum[0] | sum[1] | sum[2] | sum[3]) != 0) {
            break;
        }
        done += ZERO_STEP;
    }
    return done;
}

static size_t zero_steps_plain(const uint8_t *data, size_t len)
{
    return zero_steps(data, len);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static size_t zero_steps_avx2(const uint8_t *data, size_t len)
{
    return zero_steps(data, len);
}
#endif

bool mem_is_zero(const void *memory, size_t len)
{
    const uint8_t *data = memory;
    uint64_t word;
    if (len >= sizeof(word)) {
        memcpy(&word, data, sizeof(word));
        if (word != 0) {
            return false;
        }
    }
    if (len >= ZERO_STEP) {
        size_t done;
#if defined(__x86_64__)
        done = __builtin_cpu_supports("avx2") ? zero_steps_avx2(data, len)
                                              : zero_steps_plain(data, len);
#else
        done = zero_steps_plain(data, len);
#endif
        data += done;
        len -= done;
        if (len >= ZERO_STEP) {
            return false;
        }
    }
    for (; len >= sizeof(word); data += sizeof(word), len -= sizeof(word)) {
        memcpy(&word, data, sizeof(word));
        if (word != 0) {
            return false;
        }
    }
    for (; len > 0; data++, len--) {
        if (*data != 0) {
            return false;
        }
    }
    return true;
}
