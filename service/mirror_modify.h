// SPDX-License-Identifier: Apache-2.0
/*
 * Operations on mirrors: what each one does once its verdict is known (replica_states.h).
 *
 * Thread:    control, in a body of hosted_run().
 * Ownership: plain values.
 * Errors:    call->error, as handlers do.
 */
#ifndef SERVICE_MIRROR_MODIFY_H
#define SERVICE_MIRROR_MODIFY_H

#include "service/call.h"
#include "service/replica_states.h"

enum { MIRROR_SPLIT_TIMEOUT_MS = 10000 }; /* that both sides may take to be of one moment */

/* An operation on one relationship; zeroed but for the first three. */
struct mirror_operation {
    struct sync_row sync;
    uint32_t operation;
    bool force;
    /* Both sides were to be parted first: how that ended. */
    bool parted;
    struct error parted_error;
    /* For ?dryRun. */
    bool looked;
    struct values *told; /* an instance of DryRun */
};

/*
 * Does it: rows, the job when data is to flow (return value 4096), and what follows the commit. CALL_PENDING: both sides are being
 * parted at a moment when they are equal; again is called then, has to look at the relationship and its verdict afresh, and calls
 * this again with the same operation.
 */
int mirror_operate(struct call *call, struct mirror_operation *op, method_fn again);

/* Reset To Sync, Reset To Async, and CopyType 3 and 2 of a pair that is there. The row is stored. */
int mirror_reset(struct call *call, struct sync_row *sync, uint32_t mode);

/* ?dryRun: op->told is what the operation would move, and why. Nothing changes. CALL_PENDING: it is looked how much differs now, and
 * again is called then. */
int mirror_dry_run(struct call *call, struct mirror_operation *op, method_fn again);

#endif
