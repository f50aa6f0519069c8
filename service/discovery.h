// SPDX-License-Identifier: Apache-2.0
/*
 * A call that asks the network between its two halves.
 *
 * Thread:    control; the scan belongs to a data loop in between.
 * Ownership: in the call's arena, call->step_state; the scan is freed by the second half.
 * Errors:    call->error, as handlers do.
 */
#ifndef SERVICE_DISCOVERY_H
#define SERVICE_DISCOVERY_H

#include "service/call.h"
#include "service/scan.h"

struct discovery {
    struct scan *scan;
    method_fn second_half;
};

/* CALL_PENDING: the scan begins with the commit. */
int discovery_ask(struct call *call, struct discovery *discovery);
/* With its secrets. */
int discovery_add_portal(struct call *call, struct scan *scan, const struct access_point_row *row,
                         bool all_targets);

#endif
