// SPDX-License-Identifier: Apache-2.0
/*
 * How many requests are worth having in flight: found from their latency.
 *
 * Thread:    a window belongs to its user.
 * Ownership: embedded, nothing to free.
 * Errors:    none.
 *
 * The shortest time a request ever took is what it takes on an idle path. Of `size` requests that
 * each take `now` instead of `shortest`, size * (1 - shortest / now) stand in a queue. A short
 * queue keeps the path busy, a longer one only costs memory, cache and the patience of others: the
 * window grows below `low` requests queued and shrinks above `high`. On a fast path that is the
 * floor, on a long one the bandwidth-delay product and a little more.
 */
#ifndef REPLICATION_WINDOW_H
#define REPLICATION_WINDOW_H

#include <stdint.h>

struct window {
    unsigned size;
    unsigned floor;
    unsigned ceiling;
    uint64_t shortest_ns; /* 0: none yet */
    uint64_t latency_ns;  /* smoothed */
    unsigned completions; /* since the last adjustment */
    unsigned rounds;      /* adjustments since shortest_ns was taken */
    unsigned resume_size; /* while shortest_ns is taken anew; else 0 */
};

void window_init(struct window *window, unsigned floor, unsigned ceiling);
void window_set_floor(struct window *window, unsigned floor);
/* One request took took_ns, while the window was full or not. */
void window_completed(struct window *window, uint64_t took_ns);

#endif
