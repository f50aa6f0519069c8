// SPDX-License-Identifier: Apache-2.0
/*
 * One operation on one relationship, for those that do it to several in one call (group_modify.c).
 *
 * Thread:    control, in a body of hosted_run().
 * Ownership: plain values.
 * Errors:    call->error, as handlers do.
 */
#ifndef SERVICE_REPLICA_OPERATIONS_H
#define SERVICE_REPLICA_OPERATIONS_H

#include "service/mirror_modify.h"
#include "service/replica.h"

struct modification {
    uint32_t operation;
    uint32_t legacy; /* the number that ModifySynchronization was given, 0: not that method */
    bool force;
    struct replica_terms terms;
    struct sync_row sync;
    struct mirror_operation mirror; /* of a mirror: what it keeps while both sides are parted */
    method_fn
        again; /* then, instead of what one alone does; the state of the step is the caller's */
};

/* What the call says beside the operation: setting data, WaitForCopyState. operation, force and sync are set. */
int modification_prepare(struct call *call, struct modification *mod);
/* Checked, and done in the call's transaction. CALL_PENDING only when its copy has to be stopped first, see group_modify.c. */
int modification_do(struct call *call, struct modification *mod);
/* ?dryRun of what is no mirror. */
int modification_refuse_dry_run(struct call *call);

#endif
