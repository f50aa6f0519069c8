// SPDX-License-Identifier: Apache-2.0
/*
 * Pools of files: making, changing and deleting them (the rest of the methods is in pools.c).
 *
 * Thread:    control, inside a call of CreateOrModifyStoragePool or DeleteStoragePool.
 * Ownership: rows are values.
 * Errors:    call->error, as handlers do.
 */
#ifndef SERVICE_FILE_POOLS_H
#define SERVICE_FILE_POOLS_H

#include "service/call.h"
#include "store/volume.h"

/* Do the parameters of a new pool ask for one of files (Goal or Size, no InExtents)? */
bool file_pool_wanted(const struct call *call);
int file_pool_create(struct call *call, struct pool_row *pool);
int file_pool_modify(struct call *call, struct pool_row *pool);
int file_pool_delete(struct call *call, const struct pool_row *pool);
/* The bytes that it manages. */
uint64_t file_pool_size(struct call *call, const struct pool_row *pool);

#endif
