// SPDX-License-Identifier: Apache-2.0
/*
 * A device over another one that is further away: latency, jitter, and a line of limited bandwidth.
 *
 * Thread:    one loop, that of the device below.
 * Ownership: owns the device below and closes it; listens to its events and passes them on.
 * Errors:    creation returns negative errno; requests end as below.
 *
 * Real loops count in milliseconds and round up; the simulated loop is exact.
 */
#ifndef BLOCK_DELAY_DEV_H
#define BLOCK_DELAY_DEV_H

#include "block/blockdev.h"

struct delay_spec {
    uint64_t latency_ns; /* of every request, before the device below sees it */
    uint64_t jitter_ns;  /* up to so much more, at random: requests overtake each other */
    /* What READ and WRITE carry shares one line of this many bytes a second; 0: no limit. */
    uint64_t bytes_per_second;
};

int delay_dev_new(struct blockdev *below, const struct delay_spec *spec, uint64_t seed,
                  struct blockdev **ret_dev);
/* For the requests that come from now on. */
void delay_dev_set(struct blockdev *dev, const struct delay_spec *spec);

#endif
