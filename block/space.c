// SPDX-License-Identifier: Apache-2.0
#include "block/space.h"

#include <errno.h>

#include "base/check.h"

void space_init(struct space *space, uint64_t capacity_bytes)
{
    atomic_init(&space->used_bytes, 0);
    atomic_init(&space->capacity_bytes, capacity_bytes ? capacity_bytes : UINT64_MAX);
    atomic_init(&space->low_bytes, 0);
    atomic_init(&space->low, false);
    atomic_init(&space->refused, 0);
    space->low_fn = NULL;
    space->low_arg = NULL;
}

uint64_t space_used(const struct space *space)
{
    return atomic_load(&space->used_bytes);
}

uint64_t space_capacity(const struct space *space)
{
    return atomic_load(&space->capacity_bytes);
}

uint64_t space_left(const struct space *space)
{
    uint64_t used = space_used(space);
    uint64_t capacity = space_capacity(space);
    return used < capacity ? capacity - used : 0;
}

bool space_is_low(const struct space *space)
{
    return atomic_load(&space->low);
}

uint64_t space_refused(const struct space *space)
{
    return atomic_load(&space->refused);
}

/* After every change. Whoever moved the flag looks once more: another thread may have changed the
 * count between our look and our move, and found the flag as it was. */
static void look(struct space *space)
{
    for (;;) {
        bool before = atomic_load(&space->low);
        uint64_t low_bytes = atomic_load(&space->low_bytes);
        uint64_t threshold = before ? low_bytes + low_bytes / 8 : low_bytes;
        bool now = space_left(space) < threshold;
        if (now == before) {
            return;
        }
        if (atomic_compare_exchange_strong(&space->low, &before, now) && space->low_fn) {
            space->low_fn(space->low_arg, now);
        }
    }
}

void space_watch(struct space *space, uint64_t low_bytes, space_low_fn fn, void *arg)
{
    space->low_fn = fn;
    space->low_arg = arg;
    space_set_low(space, low_bytes);
}

void space_set_low(struct space *space, uint64_t low_bytes)
{
    atomic_store(&space->low_bytes, low_bytes);
    look(space);
}

void space_set_capacity(struct space *space, uint64_t capacity_bytes)
{
    atomic_store(&space->capacity_bytes, capacity_bytes ? capacity_bytes : UINT64_MAX);
    look(space);
}

int space_take(struct space *space, uint64_t bytes)
{
    uint64_t used = atomic_load(&space->used_bytes);
    do {
        uint64_t capacity = atomic_load(&space->capacity_bytes);
        if (used > capacity || bytes > capacity - used) {
            atomic_fetch_add(&space->refused, 1);
            return -ENOSPC;
        }
    } while (!atomic_compare_exchange_weak(&space->used_bytes, &used, used + bytes));
    look(space);
    return 0;
}

void space_add(struct space *space, uint64_t bytes)
{
    if (bytes > 0) {
        atomic_fetch_add(&space->used_bytes, bytes);
        look(space);
    }
}

void space_give(struct space *space, uint64_t bytes)
{
    if (bytes > 0) {
        uint64_t before = atomic_fetch_sub(&space->used_bytes, bytes);
        CHECK(before >= bytes);
        look(space);
    }
}
