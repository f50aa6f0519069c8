// SPDX-License-Identifier: Apache-2.0
/*
 * Replicas made in one call, one or several: what the methods for elements and lists (replica_create.c), for pairs that exist
 * (replica_attach.c) and for groups (group_replica.c) share.
 *
 * Thread:    control, in a body of hosted_run().
 * Ownership: pairs are the caller's, in the call's arena.
 * Errors:    call->error, as handlers do.
 */
#ifndef SERVICE_REPLICA_PAIRS_H
#define SERVICE_REPLICA_PAIRS_H

#include "service/replica.h"
#include "store/volume.h"

enum { PAIRS_MAX = 1024 };

struct pair {
    struct replica_terms terms;
    struct volume_row source;
    struct volume_row target;
    bool allocate;            /* the target is to be taken from a pool */
    const char *element_name; /* for it; NULL: ours */
    char source_parameter[48];
    char target_parameter[48];
    const char *group_sync_id; /* the relationship of groups that it is a pair of, or NULL */
    struct sync_row sync;      /* head.id "": there is no relationship */
};

/* What SyncType, Mode, settings, WaitForCopyState and collections of the call say. */
int pairs_terms(struct call *call, struct replica_terms *ret_terms);
/* Rules G10, L8: with targets given (by the parameter given), nothing may say how to make them. */
int pairs_refuse_with_targets(struct call *call, const char *given, const char *name);
/* TargetElementSupplier against what the parameter gave. */
int pairs_check_supplier(struct call *call, const struct replica_terms *terms, bool targets_given,
                         const char *parameter);
/* TargetPool, or NULL. */
int pairs_pool(struct call *call, struct pool_row *ret_row, const struct pool_row **ret_pool);
int pairs_check_same_target_twice(struct call *call, const struct pair *pairs, size_t n);
/* Everything is checked before anything is made. The engine of each is known after the check. */
int pairs_check(struct call *call, const struct replica_terms *terms, const struct pool_row *pool,
                struct pair *pairs, size_t n);
/* Before pairs_create(): they are made at one moment (hosted_cuts_together()). not_supported, of parameter, when not all can be. */
int pairs_cut_together(struct call *call, const char *parameter, const struct pair *pairs,
                       size_t n);
int pairs_create(struct call *call, const struct pool_row *pool, struct pair *pairs, size_t n);
/* Their parts, for methods that ask for one pair and no access points: its terms, now that its elements are known; how many share the
 * layers of the source of the i-th among those that are checked so far; taking the targets that are to be allocated, and making everything. */
int pairs_complete(struct call *call, const struct replica_terms *terms,
                   const struct pool_row *pool, struct pair *pair);
int pairs_check_sharing(struct call *call, const struct pair *pairs, size_t i);
int pairs_make(struct call *call, const struct pool_row *pool, struct pair *pairs, size_t n);
/* One job for those that have to be copied; the last step. */
int pairs_start(struct call *call, const struct replica_terms *terms, struct pair *pairs, size_t n,
                const char *element_name);

#endif
