// SPDX-License-Identifier: Apache-2.0
/*
 * Operations on relationships of groups.
 *
 * Thread:    control, in a body of hosted_run().
 * Ownership: none.
 * Errors:    call->error, as handlers do.
 */
#ifndef SERVICE_GROUP_MODIFY_H
#define SERVICE_GROUP_MODIFY_H

#include "service/call.h"

/* ModifyReplicaSynchronization of a GroupSynchronized. */
int group_modify(struct call *call);

#endif
