// SPDX-License-Identifier: Apache-2.0
#include "replication/zero_pace.h"

#include "base/loop.h"

#define SLOW_NS (10 * MS_NS)
#define FAST_NS (3 * MS_NS)

void zero_pace_init(struct zero_pace *pace, uint64_t max)
{
    *pace = (struct zero_pace){.max = max};
}

void zero_pace_done(struct zero_pace *pace, uint64_t bytes, uint64_t took_ns)
{
    if (pace->shortest_ns == 0 || took_ns < pace->shortest_ns) {
        pace->shortest_ns = took_ns;
    }
    if (bytes < pace->max / 2) {
        return; /* says nothing about long ones */
    }
    uint64_t more_ns = took_ns - pace->shortest_ns;
    if (more_ns > SLOW_NS && pace->max > ZERO_PACE_LEAST) {
        pace->max /= 2;
    } else if (more_ns < FAST_NS && pace->max < ZERO_PACE_MOST) {
        pace->max *= 2;
    }
}
