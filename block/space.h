// SPDX-License-Identifier: Apache-2.0
/*
 * The space of a pool: what its layers occupy, how much they may, and whether it runs low.
 *
 * Thread:    any, after space_init() and space_watch(); atomics, no locks. The watcher is called on
 *            the thread whose change crossed the threshold: it posts a message and returns.
 * Ownership: the caller's memory; outlives the layers that were opened with it.
 * Errors:    -ENOSPC.
 *
 * An open layer counts itself: what its file occupied at open, and every block since. When its
 * last reference goes, so does its part; who keeps such a file counts it with space_add().
 * Data is refused beyond the capacity. Headers, logs and map pages are counted and not refused, so
 * that used may be a little more than the capacity.
 */
#ifndef BLOCK_SPACE_H
#define BLOCK_SPACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* low: fewer than low_bytes are left now; false: it is over. Called once for each crossing. */
typedef void (*space_low_fn)(void *arg, bool low);

struct space {
    _Atomic uint64_t used_bytes;
    _Atomic uint64_t capacity_bytes;
    _Atomic uint64_t low_bytes;
    atomic_bool low;
    atomic_ullong refused; /* times that space_take() said no */
    space_low_fn low_fn;
    void *low_arg;
};

/* capacity_bytes 0: no limit but the file system's. */
void space_init(struct space *space, uint64_t capacity_bytes);
/* Before the space is used. fn may be NULL: space_is_low() tells too. */
void space_watch(struct space *space, uint64_t low_bytes, space_low_fn fn, void *arg);
void space_set_capacity(struct space *space, uint64_t capacity_bytes);
void space_set_low(struct space *space, uint64_t low_bytes);

uint64_t space_used(const struct space *space);
uint64_t space_capacity(const struct space *space); /* UINT64_MAX: no limit */
uint64_t space_left(const struct space *space);
/* Left is less than low_bytes; again false when it is an eighth more than that. */
bool space_is_low(const struct space *space);
uint64_t space_refused(const struct space *space);

/* bytes more are about to be occupied: 0, or -ENOSPC and nothing has changed. */
int space_take(struct space *space, uint64_t bytes);
/* The same for what is there already, or must be. */
void space_add(struct space *space, uint64_t bytes);
void space_give(struct space *space, uint64_t bytes);

#endif
