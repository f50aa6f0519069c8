// SPDX-License-Identifier: Apache-2.0
#include "service/group_states.h"

#include <string.h>

static uint32_t common(const struct sync_row *pairs, size_t n,
                       uint32_t (*value)(const struct sync_row *), uint32_t mixed, uint32_t none)
{
    for (size_t i = 1; i < n; i++) {
        if (value(&pairs[i]) != value(&pairs[0])) {
            return mixed;
        }
    }
    return n == 0 ? none : value(&pairs[0]);
}

static uint32_t copy_state(const struct sync_row *sync)
{
    return sync->copy_state;
}

static uint32_t requested_copy_state(const struct sync_row *sync)
{
    return sync->requested_copy_state;
}

static uint32_t progress_status(const struct sync_row *sync)
{
    return sync->progress_status;
}

/* Consistent: all made at the same moment. A pair alone is. One that has moved away from it since is an error; one that is yet
 * to come is not. */
static void consistency(const struct group_sync_row *group_sync, const struct sync_row *pairs,
                        size_t n, struct group_state *state)
{
    bool same = n > 0;
    bool equal = n > 0; /* synchronous targets that have all that has ended */
    bool coming = false;

    if (!group_sync->consistency) {
        state->consistency_state = CONSISTENCY_STATE_NOT_APPLICABLE;
        state->consistency_status = CONSISTENCY_STATUS_DISABLED;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        enum replica_engine engine = replica_engine_of(&pairs[i]);
        /* The target of a mirror has its moment, whatever is under way. */
        bool whole = pairs[i].copy_state == STATE_SYNCHRONIZED ||
                     pairs[i].copy_state == STATE_SKEWED ||
                     (engine == ENGINE_MIRROR && replica_mirror_target_free(pairs[i].copy_state)) ||
                     pairs[i].copy_state == STATE_SPLIT ||
                     (replica_engine_mirrors(engine) && pairs[i].moment != 0);

        equal = equal && engine == ENGINE_MIRROR && pairs[i].copy_state == STATE_SYNCHRONIZED;

        same =
            same && whole && (n == 1 || pairs[i].moment != 0) && pairs[i].moment == pairs[0].moment;
        coming = coming || !whole;
    }
    same = same || equal;
    state->consistency_state = same ? CONSISTENCY_STATE_CONSISTENT : CONSISTENCY_STATE_INCONSISTENT;
    state->consistency_status = same     ? CONSISTENCY_STATUS_COMPLETED
                                : coming ? CONSISTENCY_STATUS_IN_PROGRESS
                                         : CONSISTENCY_STATUS_ERROR;
}

struct group_state group_state_of(const struct group_sync_row *group_sync,
                                  const struct sync_row *pairs, size_t n)
{
    struct group_state state = {
        .copy_state = common(pairs, n, copy_state, STATE_MIXED, STATE_NOT_APPLICABLE),
        .requested_copy_state =
            common(pairs, n, requested_copy_state, STATE_MIXED, STATE_NOT_APPLICABLE),
        .progress_status =
            common(pairs, n, progress_status, PROGRESS_MIXED, PROGRESS_NOT_APPLICABLE),
        .sync_maintained = n > 0,
        .when_synced_ms = n > 0 ? pairs[0].when_synced_ms : 0,
        .job_id = "",
    };

    for (size_t i = 0; i < n; i++) {
        state.sync_maintained = state.sync_maintained && replica_sync_maintained(&pairs[i]);
        if (pairs[i].when_synced_ms < state.when_synced_ms) {
            state.when_synced_ms = pairs[i].when_synced_ms;
        }
        if (state.job_id[0] == '\0') {
            state.job_id = pairs[i].job_id;
        }
    }
    consistency(group_sync, pairs, n, &state);
    return state;
}

bool group_engine_consistent(enum replica_engine engine)
{
    return engine == ENGINE_LAYERS || replica_engine_mirrors(engine);
}

/* Writes to the one come by the other: held together, they would wait for each other. */
static bool chained(const struct sync_row *a, const struct sync_row *b)
{
    return strcmp(a->source_id, b->source_id) == 0 || strcmp(a->source_id, b->target_id) == 0 ||
           strcmp(a->target_id, b->source_id) == 0;
}

bool group_consistency_possible(const struct sync_row *pairs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        enum replica_engine engine = replica_engine_of(&pairs[i]);

        if (!group_engine_consistent(engine) || engine != replica_engine_of(&pairs[0])) {
            return false;
        }
        for (size_t k = 0; k < i && engine == ENGINE_MIRROR; k++) {
            if (chained(&pairs[i], &pairs[k])) {
                return false;
            }
        }
    }
    return n > 0;
}

bool group_operation_own(uint32_t operation)
{
    return operation == OPERATION_ACTIVATE_CONSISTENCY ||
           operation == OPERATION_DEACTIVATE_CONSISTENCY || operation == OPERATION_ADD_SYNC_PAIR ||
           operation == OPERATION_REMOVE_SYNC_PAIR;
}

enum operation_verdict group_verdict(const struct sync_row *pairs, size_t n, uint32_t operation,
                                     size_t *ret_pair)
{
    enum operation_verdict worst = n > 0 ? VERDICT_LEGAL : VERDICT_ILLEGAL;

    *ret_pair = 0;
    if (operation == OPERATION_ACTIVATE_CONSISTENCY) {
        return group_consistency_possible(pairs, n) ? VERDICT_LEGAL : VERDICT_NOT_SUPPORTED;
    }
    if (operation == OPERATION_REMOVE_SYNC_PAIR && n < 2) {
        return VERDICT_ILLEGAL; /* a relationship has a pair: Detach ends it */
    }
    if (group_operation_own(operation)) {
        return VERDICT_LEGAL;
    }
    for (size_t i = 0; i < n; i++) {
        enum operation_verdict verdict = replica_verdict_of(&pairs[i], operation);

        if (verdict > worst) {
            worst = verdict;
            *ret_pair = i;
        }
    }
    return worst;
}
