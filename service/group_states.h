// SPDX-License-Identifier: Apache-2.0
/*
 * What a relationship of groups is: the sum of its pairs (smis.md 4.4), and what may be done to it.
 *
 * Thread:    any; pure functions.
 * Ownership: none.
 * Errors:    none.
 *
 * A state that all pairs share is that of the group, else it is 14 Mixed. An operation on the group is one on each pair, legal
 * when it is legal for each; besides there are those that only groups have.
 */
#ifndef SERVICE_GROUP_STATES_H
#define SERVICE_GROUP_STATES_H

#include "service/replica_states.h"
#include "store/group.h"

enum { CONSISTENCY_NONE = 2, CONSISTENCY_SEQUENTIAL = 3 }; /* parameter Consistency */
enum { CONSISTENCY_TYPE_SEQUENTIAL = 2 };                  /* property ConsistencyType */
enum consistency_state {
    CONSISTENCY_STATE_NOT_APPLICABLE = 2,
    CONSISTENCY_STATE_CONSISTENT = 3,
    CONSISTENCY_STATE_INCONSISTENT = 4,
};
enum consistency_status {
    CONSISTENCY_STATUS_COMPLETED = 2,
    CONSISTENCY_STATUS_IN_PROGRESS = 3,
    CONSISTENCY_STATUS_DISABLED = 4,
    CONSISTENCY_STATUS_ERROR = 5,
};

struct group_state {
    uint32_t copy_state;
    uint32_t requested_copy_state;
    uint32_t progress_status;
    bool sync_maintained;
    uint32_t consistency_state;
    uint32_t consistency_status;
    uint64_t when_synced_ms; /* the oldest of them; 0 while one has none */
    const char *job_id;      /* that works on it, or "" */
};
struct group_state group_state_of(const struct group_sync_row *group_sync,
                                  const struct sync_row *pairs, size_t n);

/* Can relationships of that engine be of one moment with others, if their sources are hosted? */
bool group_engine_consistent(enum replica_engine engine);
/* Can all of the pairs be? Synchronous mirrors only with sources of their own, none of which is the target of another pair. */
bool group_consistency_possible(const struct sync_row *pairs, size_t n);
/* Is it an operation on the relationship itself, not on its pairs? */
bool group_operation_own(uint32_t operation);
/* The worst that any pair gets. *ret_pair: which. */
enum operation_verdict group_verdict(const struct sync_row *pairs, size_t n, uint32_t operation,
                                     size_t *ret_pair);

#endif
