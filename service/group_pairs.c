// SPDX-License-Identifier: Apache-2.0
/* A pair that comes becomes one of the relationship, and its elements members of the groups; one that goes stays as it is, alone. */
#include "service/group_pairs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "service/enums.h"
#include "service/group_states.h"
#include "service/groups.h"
#include "service/paths.h"

static int sync_pairs_of(struct call *call, struct sync_row **ret_pairs, size_t *ret_n)
{
    const struct value *value = values_get(call->args, "SyncPair");
    struct sync_row *pairs = arena_alloc(&call->arena, (value->n_items + 1) * sizeof(*pairs));

    if (value->n_items == 0) {
        return call_fail_param(call, ERR_MISSING_PARAMETER, "SyncPair",
                               "SyncPair names the pairs, StorageSynchronized.");
    }
    for (size_t i = 0; i < value->n_items; i++) {
        char parameter[48];

        snprintf(parameter, sizeof(parameter), "SyncPair[%zu]", i);
        if (!value->items[i].present) {
            return call_fail_param(call, ERR_MISSING_PARAMETER, parameter, "%s is null.",
                                   parameter);
        }
        int r = path_synchronization(call, parameter, value->items[i].text, &pairs[i]);

        for (size_t k = 0; k < i && r == 0; k++) {
            if (strcmp(pairs[k].head.id, pairs[i].head.id) == 0) {
                r = call_fail_param(call, ERR_BAD_VALUE, parameter, "%s is named twice.",
                                    value->items[i].text);
            }
        }
        if (r < 0) {
            return r;
        }
    }
    *ret_pairs = pairs;
    *ret_n = value->n_items;
    return 0;
}

static int store_pair(struct call *call, struct sync_row *pair, const char *group_sync_id)
{
    memcpy(pair->group_sync_id, group_sync_id, strlen(group_sync_id) + 1);
    pair->moment = 0;
    int r = table_update(call->db, &sync_table, pair);

    return r < 0 ? call_fail_store(call, r) : 0;
}

static int check_added(struct call *call, const struct group_sync_row *group_sync, size_t i,
                       const struct sync_row *pair)
{
    const char *source = arena_printf(&call->arena, "/volumes/%s", pair->source_id);
    const char *parameter = arena_printf(&call->arena, "SyncPair[%zu]", i);

    if (pair->group_sync_id[0] != '\0' && strcmp(pair->group_sync_id, group_sync->head.id) != 0) {
        return call_fail_blocked(
            call, ERR_IN_USE,
            arena_printf(&call->arena, "/groupsynchronizations/%s", pair->group_sync_id),
            "%s is a pair of another relationship; take it out of that first (RemoveSyncPair).",
            path_of_sync(call, pair));
    }
    if (pair->sync_type != group_sync->sync_type || pair->mode != group_sync->mode) {
        return call_fail_param(call, ERR_BAD_VALUE, parameter,
                               "%s has another SyncType or Mode than the relationship.",
                               path_of_sync(call, pair));
    }
    if (group_sync->consistency && (!group_engine_consistent(replica_engine_of(pair)) ||
                                    !group_sources_hosted(call->db, pair, 1))) {
        return call_fail_param(call, ERR_BAD_VALUE, parameter,
                               "%s cannot be of one moment with others, and the relationship is "
                               "consistent (ConsistencyEnabled).",
                               path_of_sync(call, pair));
    }
    if (group_sync->source_group_id[0] == '\0' && strcmp(group_sync->system_element, source) != 0) {
        return call_fail_param(call, ERR_BAD_VALUE, parameter,
                               "The relationship has one source, %s; that of %s is %s.",
                               group_sync->system_element, path_of_sync(call, pair), source);
    }
    return 0;
}

/* Its elements become members of the groups. */
static int add_sync_pairs(struct call *call, const struct group_sync_row *group_sync)
{
    struct sync_row *added;
    size_t n;
    int r = sync_pairs_of(call, &added, &n);

    for (size_t i = 0; i < n && r == 0; i++) {
        r = check_added(call, group_sync, i, &added[i]);
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        if (added[i].group_sync_id[0] != '\0') {
            continue;
        }
        if (group_sync->source_group_id[0] != '\0') {
            r = group_add(call, "SyncPair", group_sync->source_group_id, added[i].source_id);
        }
        if (r == 0) {
            r = group_add(call, "SyncPair", group_sync->target_group_id, added[i].target_id);
        }
        if (r == 0) {
            r = store_pair(call, &added[i], group_sync->head.id);
        }
    }
    return r < 0 ? r : group_check_moment(call, "SyncPair", group_sync);
}

static int leave_group(struct call *call, const char *group_id, const char *volume_id)
{
    struct group_member_row member;
    int r =
        group_id[0] == '\0' ? -ENOENT : group_member_find(call->db, group_id, volume_id, &member);

    if (r < 0) {
        return r == -ENOENT ? 0 : call_fail_store(call, r);
    }
    return group_remove(call, &member, false);
}

/* The pair stays, and its elements leave the groups. */
static int remove_sync_pairs(struct call *call, const struct group_sync_row *group_sync,
                             size_t n_pairs)
{
    struct sync_row *removed;
    size_t n;
    int r = sync_pairs_of(call, &removed, &n);

    for (size_t i = 0; i < n && r == 0; i++) {
        if (strcmp(removed[i].group_sync_id, group_sync->head.id) != 0) {
            r = call_fail_param(call, ERR_BAD_VALUE, arena_printf(&call->arena, "SyncPair[%zu]", i),
                                "%s is no pair of /groupsynchronizations/%s.",
                                path_of_sync(call, &removed[i]), group_sync->head.id);
        }
    }
    if (r == 0 && n >= n_pairs) {
        r = call_fail_param(call, ERR_ILLEGAL_STATE, "SyncPair",
                            "A relationship keeps one pair at least; Detach (8) ends it.");
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        r = store_pair(call, &removed[i], "");
        if (r == 0) {
            r = leave_group(call, group_sync->source_group_id, removed[i].source_id);
        }
        if (r == 0) {
            r = leave_group(call, group_sync->target_group_id, removed[i].target_id);
        }
    }
    return r;
}

static int set_consistency(struct call *call, struct group_sync_row *group_sync,
                           const struct sync_row *pairs, size_t n, bool consistency)
{
    if (group_sync->consistency == consistency) {
        return 0;
    }
    if (consistency &&
        (!group_consistency_possible(pairs, n) || !group_sources_hosted(call->db, pairs, n))) {
        return call_fail_param(call, ERR_NOT_SUPPORTED, "Operation",
                               "Not all pairs can be of one moment.");
    }
    group_sync->consistency = consistency;
    int r = table_update(call->db, &group_sync_table, group_sync);

    return r < 0 ? call_fail_store(call, r) : 0;
}

int group_pairs_modify(struct call *call, struct group_sync_row *group_sync,
                       const struct sync_row *pairs, size_t n, uint32_t operation)
{
    if (args_present(call->args, "WaitForCopyState")) {
        return call_fail_param(call, ERR_BAD_VALUE, "WaitForCopyState",
                               "%s is done at once; leave WaitForCopyState out.",
                               enum_text(&map_operation, operation));
    }
    switch (operation) {
    case OPERATION_ADD_SYNC_PAIR:
        return add_sync_pairs(call, group_sync);
    case OPERATION_REMOVE_SYNC_PAIR:
        return remove_sync_pairs(call, group_sync, n);
    default:
        return set_consistency(call, group_sync, pairs, n,
                               operation == OPERATION_ACTIVATE_CONSISTENCY);
    }
}
