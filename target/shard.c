// SPDX-License-Identifier: Apache-2.0
#include "target/shard.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static void wake_waiters(void *arg)
{
    struct shard *shard = arg;
    shard->wake_posted = false;
    struct list again;
    list_init(&again);
    list_move_all(&again, &shard->waiting);
    struct list *link;
    while ((link = list_pop_front(&again))) {
        struct shard_waiter *waiter = list_entry(link, struct shard_waiter, link);
        waiter->fn(waiter->arg);
        if (!list_empty(&shard->waiting)) {
            /* The first that could not go on stays in front: large ones are not starved. */
            list_move_all(&shard->waiting, &again);
            return;
        }
    }
}

int shard_init(struct shard *shard, struct target_server *server, struct loop *loop,
               const struct target_limits *limits)
{
    memset(shard, 0, sizeof(*shard));
    shard->server = server;
    shard->loop = loop;
    list_init(&shard->waiting);
    list_init(&shard->luns);
    list_init(&shard->promise_waiting);
    shard->promise_limit = limits->receive_bytes / 4 * 3;
    shard->wake_task = (struct loop_task){.fn = wake_waiters, .arg = shard};
    /* A quarter each for small and medium reads, half for large ones. */
    size_t data = limits->data_bytes;
    int err = buffer_pool_new(SHARD_RECV_BUFFER,
                              (unsigned)(limits->receive_bytes / SHARD_RECV_BUFFER + 1),
                              &shard->recv_pool);
    err = err ? err
              : buffer_pool_new(SHARD_SMALL, (unsigned)(data / 4 / SHARD_SMALL + 1),
                                &shard->small_pool);
    err = err ? err
              : buffer_pool_new(SHARD_MEDIUM, (unsigned)(data / 4 / SHARD_MEDIUM + 1),
                                &shard->medium_pool);
    err = err ? err
              : buffer_pool_new(SHARD_LARGE, (unsigned)(data / 2 / SHARD_LARGE + 1),
                                &shard->large_pool);
    if (err) {
        shard_fini(shard);
    }
    return err;
}

void shard_fini(struct shard *shard)
{
    buffer_pool_free(shard->recv_pool);
    buffer_pool_free(shard->small_pool);
    buffer_pool_free(shard->medium_pool);
    buffer_pool_free(shard->large_pool);
    while (shard->free_tables) {
        struct shard_table *table = shard->free_tables;
        shard->free_tables = table->next_free;
        free(table);
    }
}

bool slices_reserve(struct shard *shard, struct slices *slices)
{
    if (slices->count < slices->max) {
        return true;
    }
    if (slices->max == SLICES_TABLE) {
        return false;
    }
    struct shard_table *table = shard->free_tables;
    if (table) {
        shard->free_tables = table->next_free;
    } else {
        table = malloc(sizeof(*table));
        if (!table) {
            return false;
        }
    }
    memcpy(table->items, slices->items, slices->count * sizeof(slices->items[0]));
    slices->items = table->items;
    slices->max = SLICES_TABLE;
    return true;
}

void slices_clear(struct shard *shard, struct slices *slices)
{
    for (unsigned i = 0; i < slices->count; i++) {
        slice_unref(&slices->items[i]);
    }
    if (slices->items != slices->inside) {
        struct shard_table *table = container_of(slices->items, struct shard_table, items);
        table->next_free = shard->free_tables;
        shard->free_tables = table;
    }
    slices_init(slices);
}

static void slices_copy(const struct slices *slices, size_t offset, uint8_t *bytes, size_t len,
                        bool out)
{
    for (unsigned i = 0; i < slices->count && len > 0; i++) {
        const struct slice *slice = &slices->items[i];
        if (offset >= slice->len) {
            offset -= slice->len;
            continue;
        }
        size_t part = slice->len - offset < len ? slice->len - offset : len;
        if (out) {
            memcpy(bytes, slice->data + offset, part);
        } else {
            memcpy(slice->data + offset, bytes, part);
        }
        bytes += part;
        len -= part;
        offset = 0;
    }
    CHECK(len == 0);
}

void slices_read(const struct slices *slices, size_t offset, void *out, size_t len)
{
    slices_copy(slices, offset, out, len, true);
}

void slices_write(const struct slices *slices, size_t offset, const void *data, size_t len)
{
    slices_copy(slices, offset, (uint8_t *)data, len, false);
}

static bool get_one(struct shard *shard, struct slices *slices, struct buffer_pool *pool,
                    size_t len)
{
    if (!slices_reserve(shard, slices)) {
        return false;
    }
    struct buffer *buffer = buffer_pool_get(pool);
    if (!buffer) {
        return false;
    }
    slices->items[slices->count++] =
        (struct slice){.buffer = buffer, .data = buffer->data, .len = len};
    return true;
}

bool shard_data_get(struct shard *shard, struct slices *slices, size_t len)
{
    if (len <= SHARD_SMALL && get_one(shard, slices, shard->small_pool, len)) {
        return true;
    }
    if (len <= SHARD_MEDIUM && get_one(shard, slices, shard->medium_pool, len)) {
        return true;
    }
    size_t need = (len + SHARD_LARGE - 1) / SHARD_LARGE;
    if (need > buffer_pool_available(shard->large_pool)) {
        return false;
    }
    unsigned before = slices->count;
    while (len > 0) {
        size_t part = len < SHARD_LARGE ? len : SHARD_LARGE;
        if (!get_one(shard, slices, shard->large_pool, part)) {
            while (slices->count > before) {
                slice_unref(&slices->items[--slices->count]);
            }
            return false;
        }
        len -= part;
    }
    return true;
}

void shard_wait_data(struct shard *shard, struct shard_waiter *waiter)
{
    list_push_back(&shard->waiting, &waiter->link);
}

void shard_data_returned(struct shard *shard)
{
    if (!list_empty(&shard->waiting) && !shard->wake_posted) {
        shard->wake_posted = true;
        loop_defer(shard->loop, &shard->wake_task);
    }
}
