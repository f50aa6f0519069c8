// SPDX-License-Identifier: Apache-2.0
/*
 * The operations that only relationships of groups have: AddSyncPair, RemoveSyncPair, Activate and Deactivate Consistency.
 *
 * Thread:    control, in a body of hosted_run().
 * Ownership: none.
 * Errors:    call->error, as handlers do.
 */
#ifndef SERVICE_GROUP_PAIRS_H
#define SERVICE_GROUP_PAIRS_H

#include "service/call.h"
#include "store/group.h"
#include "store/replica.h"

/* operation: as group_operation_own() says. pairs: those that it has. Done at once. */
int group_pairs_modify(struct call *call, struct group_sync_row *group_sync,
                       const struct sync_row *pairs, size_t n, uint32_t operation);

#endif
