// SPDX-License-Identifier: Apache-2.0
/*
 * How many zeros are worth sending at once: found from how long they take.
 *
 * Thread:    a pace belongs to its user.
 * Ownership: embedded, nothing to free.
 * Errors:    none.
 *
 * A device that only notes zeros takes as long for many as for few, and gets more and more of them. Where zeros are done by
 * writing, long commands take much longer than the shortest one took: that keeps them short, and others have their turn.
 */
#ifndef REPLICATION_ZERO_PACE_H
#define REPLICATION_ZERO_PACE_H

#include <stdint.h>

#define ZERO_PACE_LEAST (1ull << 20)
#define ZERO_PACE_MOST  (64ull << 20)

struct zero_pace {
    uint64_t max;         /* bytes at once */
    uint64_t shortest_ns; /* that any took; 0: none yet */
};

void zero_pace_init(struct zero_pace *pace, uint64_t max);
/* So many bytes, sent together, were done after took_ns. */
void zero_pace_done(struct zero_pace *pace, uint64_t bytes, uint64_t took_ns);

#endif
