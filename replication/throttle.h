// SPDX-License-Identifier: Apache-2.0
/*
 * A bandwidth limit: says when the next bytes may move.
 *
 * Thread:    a throttle belongs to its user; time is handed in, so that virtual time works.
 * Ownership: embedded, nothing to free.
 * Errors:    none.
 *
 * A request of any length is let through once the earlier ones are paid for: large requests under a
 * small limit are late, never refused. An idle throttle saves up THROTTLE_BURST_NS of its rate.
 */
#ifndef REPLICATION_THROTTLE_H
#define REPLICATION_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

#define THROTTLE_BURST_NS 50000000ull

struct throttle {
    uint64_t rate;       /* bytes per second, 0 none */
    uint64_t free_at_ns; /* when what was taken so far is paid for */
};

/* Earlier debt is forgotten: a new limit counts from now. */
void throttle_set(struct throttle *throttle, uint64_t rate, uint64_t now_ns);
/* Takes len bytes and answers true, or answers false: not before throttle_wait_ns(). */
bool throttle_take(struct throttle *throttle, uint64_t len, uint64_t now_ns);
uint64_t throttle_wait_ns(const struct throttle *throttle, uint64_t now_ns);

#endif
