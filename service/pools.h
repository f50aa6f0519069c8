// SPDX-License-Identifier: Apache-2.0
/*
 * Pools of remote LUNs: taking a free one for a replica, and giving it back.
 *
 * Thread:    control, inside a call.
 * Ownership: rows are values.
 * Errors:    call->error, as handlers do.
 */
#ifndef SERVICE_POOLS_H
#define SERVICE_POOLS_H

#include "service/call.h"
#include "store/volume.h"

/* The LUN for a replica of source: the smallest free one that fits, of pool or, when that is NULL,
 * of any pool. It is marked allocated and named element_name, or "{name of source}-replica-{n}"
 * when that is NULL; both in the call's transaction. Volumes in already (n_already of them: targets
 * that the same call has taken or was given) are passed over. invalid_parameter (of parameter) when
 * the pool is not one of remote LUNs, no_space when nothing fits. */
int pool_take(struct call *call, const char *parameter, const struct pool_row *pool,
              const struct volume_row *source, const char *element_name,
              const struct volume_row *const *already, size_t n_already,
              struct volume_row *ret_volume);

/* The LUN is free again, with a name of ours; its data is not touched. Its relationships are the
 * caller's to end. Does nothing to a volume that was not taken from a pool. */
int pool_give_back(struct call *call, struct volume_row *volume);

#endif
