// SPDX-License-Identifier: Apache-2.0
/*
 * ReplicationServiceCapabilities: groups and lists. States and operations are those of the pairs (service/replica_states.h), and what
 * only groups have (service/group_states.h).
 */
#include <string.h>

#include "base/check.h"
#include "service/capabilities_parts.h"
#include "service/group_states.h"
#include "service/groups.h"
#include "service/handlers.h"
#include "service/paths.h"

/* Pairs of any kind may be added and taken out; those that can be of one moment with others may be. */
static bool own_taken(const struct replication_query *query, uint32_t operation)
{
    bool consistent = false;

    for (size_t i = 0; i < query->n_engines; i++) {
        consistent = consistent || group_engine_consistent(query->engines[i]);
    }
    return operation == OPERATION_ADD_SYNC_PAIR || operation == OPERATION_REMOVE_SYNC_PAIR ||
           consistent;
}

/* In 14 Mixed: whatever is legal in some states, for it may be legal in those that its pairs are in. */
static bool group_operation_taken(const struct replication_query *query, uint32_t copy_state,
                                  uint32_t operation, bool *ret_force)
{
    *ret_force = false;
    return group_operation_own(operation)
               ? own_taken(query, operation)
               : capability_operation_taken(query, copy_state == STATE_MIXED ? 0 : copy_state,
                                            operation, ret_force);
}

int method_get_supported_group_operations(struct call *call)
{
    struct replication_kind kind;
    struct replication_query query;
    int r = capability_kind_and_query(call, &kind, &query);

    if (r == 0) {
        capability_operations(call, "SupportedGroupOperations", &query,
                              (uint32_t)args_number(call->args, "CopyState", 0),
                              group_operation_taken);
    }
    return r;
}

/* Of relationships and of those of groups, the same: what only groups have is reserved in lists. */
int method_get_supported_list_operations(struct call *call)
{
    struct replication_kind kind;
    struct replication_query query;
    int r = capability_kind_and_query(call, &kind, &query);

    if (r == 0) {
        uint32_t copy_state = (uint32_t)args_number(call->args, "CopyState", 0);

        capability_operations(call, "SupportedListOperations", &query,
                              copy_state == STATE_MIXED ? 0 : copy_state,
                              capability_operation_taken);
    }
    return r;
}

int method_get_supported_group_copy_states(struct call *call)
{
    struct replication_kind kind;
    struct replication_query query;
    uint32_t operation = (uint32_t)args_number(call->args, "Operation", 0);
    bool force;
    int r = capability_kind_and_query(call, &kind, &query);

    if (r < 0) {
        return r;
    }
    if (operation != 0 && !group_operation_taken(&query, 0, operation, &force)) {
        return call_fail_param(call, ERR_NOT_SUPPORTED, "Operation",
                               "%s is no operation of groups of this kind; "
                               "GetSupportedGroupOperations lists those.",
                               enum_text(&map_operation, operation));
    }
    outs_array(call->outs, "SupportedCopyStates");
    for (uint32_t state = STATE_INITIALIZED; state <= STATE_INVALID; state++) {
        bool possible = state == STATE_MIXED || capability_state_possible(&query, state);

        if (possible &&
            (operation == 0 || group_operation_taken(&query, state, operation, &force))) {
            outs_add_number(call->outs, "SupportedCopyStates", state);
        }
    }
    return 0;
}

int method_get_supported_group_features(struct call *call)
{
    static const uint32_t features[] = {
        2,  /* SourceElement with several targets */
        3,  /* members to members */
        5,  /* CreateGroup without Members; targets are made into an empty group */
        13, /* Persistent false */
        14, /* GroupName */
        15, /* TargetElementCount */
        23, /* in several groups */
        24, /* nobody asks how LUNs are provisioned */
        38, /* without a TargetGroup one is made */
        56, /* RelationshipName */
    };
    /* Not among them: 4, not all that can be in groups can be consistent; 10, a group may have several relationships; 11 and 12, what is
     * in a relationship stays in its groups; 16, nothing detaches by itself. */
    struct replication_kind kind;
    int r = capability_kind(call, &kind);

    if (r == 0) {
        capability_add(call, "GroupFeatures", features, ARRAY_LEN(features));
    }
    return r;
}

int capability_operations_of_group(struct call *call, const char *path)
{
    struct values *outs = call->outs;
    struct group_sync_row group_sync;
    struct sync_row *pairs;
    size_t n;
    size_t pair;
    int r = path_group_sync(call, "Synchronization", path, &group_sync);

    if (r == 0) {
        r = group_sync_pairs(call, group_sync.head.id, &pairs, &n);
    }
    if (r < 0) {
        return r;
    }
    capability_operations_begin(outs, "SupportedOperations");
    for (uint32_t operation = 2; operation < OPERATION_COUNT; operation++) {
        enum operation_verdict verdict = group_verdict(pairs, n, operation, &pair);

        if (operation == OPERATION_ACTIVATE_CONSISTENCY &&
            !group_sources_hosted(call->db, pairs, n)) {
            continue;
        }

        if (verdict == VERDICT_LEGAL || verdict == VERDICT_NEEDS_FORCE) {
            capability_operations_add(outs, "SupportedOperations", operation,
                                      verdict == VERDICT_NEEDS_FORCE);
        }
    }
    return 0;
}
