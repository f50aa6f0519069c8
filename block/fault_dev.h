// SPDX-License-Identifier: Apache-2.0
/*
 * A device over another one that goes wrong as told: fails, holds, delays requests, loses its link.
 *
 * Thread:    one loop, that of the device below.
 * Ownership: owns the device below and closes it; listens to its events and passes them on.
 * Errors:    creation returns negative errno; requests end as the rules say, else as below.
 *
 * Rules are asked in the order in which they were added; the first that applies decides. A rule
 * counts every request that it matches: the first skip pass, the next count are hit (0: all that
 * follow), the rest pass again.
 */
#ifndef BLOCK_FAULT_DEV_H
#define BLOCK_FAULT_DEV_H

#include "block/blockdev.h"

enum fault_action {
    FAULT_FAIL,       /* the device below never sees it */
    FAULT_FAIL_AFTER, /* done below, reported as failed: "may or may not have happened" */
    FAULT_HOLD,       /* until released or failed */
    FAULT_DELAY,      /* goes on after delay_ns */
};
const char *fault_action_name(enum fault_action action);

#define FAULT_OP(op) (1u << (op))

struct fault_rule {
    enum fault_action action;
    unsigned ops; /* set of FAULT_OP(); 0: all */
    uint64_t offset;
    uint64_t len; /* only requests that touch this range; 0: all */
    uint64_t skip;
    uint64_t count;
    /* With a chance of numerator in denominator; 0 in 0: always. Those that chance spares are not
     * counted. */
    uint32_t chance_numerator;
    uint32_t chance_denominator;
    int status; /* for FAIL and FAIL_AFTER; 0: -EIO */
    uint64_t delay_ns;
};

int fault_dev_new(struct blockdev *below, uint64_t seed, struct blockdev **ret_dev);

/* Returns the rule's number. */
unsigned fault_dev_add(struct blockdev *dev, const struct fault_rule *rule);
void fault_dev_remove(struct blockdev *dev, unsigned number);
void fault_dev_clear(struct blockdev *dev); /* all rules */
uint64_t fault_dev_hits(const struct blockdev *dev, unsigned number);
uint64_t fault_dev_seen(const struct blockdev *dev, enum block_op op); /* requests that came in */

unsigned fault_dev_held(const struct blockdev *dev);
/* The held requests, oldest first, go on; fault_dev_fail_held() ends them instead. At most max; how
 * many it were. */
unsigned fault_dev_release(struct blockdev *dev, unsigned max);
unsigned fault_dev_fail_held(struct blockdev *dev, unsigned max, int status);

/* Plays a link that comes and goes, and tells the owner. From DOWN to UP every request ends with
 * -ENOTCONN, also those that are held, delayed or below (these were done). From CHANGED on all end
 * with -ESTALE. */
void fault_dev_link(struct blockdev *dev, enum block_event event, unsigned attempts,
                    const char *detail);

#endif
