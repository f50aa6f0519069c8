// SPDX-License-Identifier: Apache-2.0
/*
 * What hosts changed on the target while it was theirs, marked on the source's side.
 *
 * Thread:    control.
 * Ownership: the spec is copied; the mirror stays until done().
 * Errors:    struct error, to done(): it is not all marked. A map that cannot be read marks everything, and is no error.
 */
#ifndef SERVICE_MIRROR_MERGE_H
#define SERVICE_MIRROR_MERGE_H

#include "hosting/array.h"
#include "replication/mirror.h"
#include "store/store.h"

struct mirror_merge_spec {
    char name[ID_SIZE];    /* the relationship, for logs */
    struct mirror *mirror; /* of the source */
    char path[512];        /* the map of the target; "": it has no place */
    uint64_t size_bytes;
    struct loop *owner;
    struct loop *loop; /* reads it */
};

/* done: all is marked and durable, and the map is removed. It may come inside the call. */
void mirror_merge(const struct mirror_merge_spec *spec, array_done_fn done, void *arg);

#endif
