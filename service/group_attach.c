// SPDX-License-Identifier: Apache-2.0
/* CreateGroupReplicaFromElementSynchronizations: groups, and a relationship of them, around pairs that are there. */
#include "service/group_parts.h"

#include <stdio.h>
#include <string.h>

#include "service/enums.h"
#include "service/group_states.h"
#include "service/groups.h"
#include "service/handlers.h"
#include "service/paths.h"

struct found {
    struct sync_row *pairs;
    struct volume_row *sources;
    struct volume_row *targets;
    size_t n;
};

static int check_found(struct call *call, const struct found *found, size_t i,
                       const char *parameter)
{
    const struct sync_row *pair = &found->pairs[i];

    if (pair->group_sync_id[0] != '\0') {
        return call_fail_blocked(
            call, ERR_IN_USE,
            arena_printf(&call->arena, "/groupsynchronizations/%s", pair->group_sync_id),
            "/synchronizations/%s is a pair of another relationship; take it out of that first "
            "(RemoveSyncPair).",
            pair->head.id);
    }
    if (pair->sync_type != found->pairs[0].sync_type || pair->mode != found->pairs[0].mode) {
        return call_fail_param(
            call, ERR_BAD_VALUE, parameter,
            "All pairs of a relationship have the same SyncType and Mode; that of "
            "/synchronizations/%s differs from the first.",
            pair->head.id);
    }
    for (size_t k = 0; k < i; k++) {
        if (strcmp(found->pairs[k].source_id, pair->source_id) == 0) {
            return call_fail_param(call, ERR_BAD_VALUE, parameter,
                                   "/volumes/%s is the source of two of them; a group has it once.",
                                   pair->source_id);
        }
    }
    return 0;
}

static int find_pairs(struct call *call, struct found *found)
{
    const struct value *value = values_get(call->args, "ElementSynchronizations");
    int r = 0;

    if (value->n_items == 0 || value->n_items > PAIRS_MAX) {
        return call_fail_param(call, ERR_BAD_VALUE, "ElementSynchronizations",
                               "ElementSynchronizations names 1 to %d pairs.", PAIRS_MAX);
    }
    found->pairs = arena_alloc(&call->arena, value->n_items * sizeof(*found->pairs));
    found->sources = arena_alloc(&call->arena, value->n_items * sizeof(*found->sources));
    found->targets = arena_alloc(&call->arena, value->n_items * sizeof(*found->targets));
    found->n = value->n_items;
    for (size_t i = 0; i < found->n && r == 0; i++) {
        const char *parameter = arena_printf(&call->arena, "ElementSynchronizations[%zu]", i);

        if (!value->items[i].present) {
            return call_fail_param(call, ERR_MISSING_PARAMETER, parameter, "%s is null.",
                                   parameter);
        }
        r = path_synchronization(call, parameter, value->items[i].text, &found->pairs[i]);
        if (r == 0) {
            r = check_found(call, found, i, parameter);
        }
        if (r == 0) {
            r = table_get(call->db, &volume_table, found->pairs[i].source_id, &found->sources[i]);
            if (r == 0) {
                r = table_get(call->db, &volume_table, found->pairs[i].target_id,
                              &found->targets[i]);
            }
            r = r < 0 ? call_fail_store(call, r) : 0;
        }
        if (r == 0) {
            r = replica_check_access_point(call, "SourceAccessPoint", &found->sources[i]);
        }
        if (r == 0) {
            r = replica_check_access_point(call, "TargetAccessPoint", &found->targets[i]);
        }
    }
    return r;
}

/* They are what they are: nothing is started that could be waited for. */
static int check_found_state(struct call *call, const struct found *found)
{
    uint32_t wanted = (uint32_t)args_number(call->args, "WaitForCopyState", 0);

    for (size_t i = 0; i < found->n && wanted != 0; i++) {
        if (!replica_wait_reached(wanted, found->pairs[i].copy_state)) {
            return call_fail_param(
                call, ERR_NOT_SUPPORTED, "WaitForCopyState",
                "/synchronizations/%s is %s; this method starts nothing that could "
                "be waited for.",
                found->pairs[i].head.id, enum_text(&map_copy_state, found->pairs[i].copy_state));
        }
    }
    return 0;
}

static int found_consistency(struct call *call, const struct found *found,
                             struct group_parts *parts)
{
    bool possible = group_consistency_possible(found->pairs, found->n) &&
                    group_sources_hosted(call->db, found->pairs, found->n);

    parts->consistency = (uint32_t)args_number(call->args, "Consistency", 0);
    /* Nothing said: what GetDefaultConsistency tells, and mirrors have none. */
    parts->consistent =
        possible && (parts->consistency == CONSISTENCY_SEQUENTIAL ||
                     (parts->consistency == 0 && found->pairs[0].sync_type != SYNC_MIRROR));
    if (parts->consistency == CONSISTENCY_SEQUENTIAL && !possible) {
        return call_fail_param(
            call, ERR_NOT_SUPPORTED, "Consistency",
            "Not all pairs can be of one moment: those that share the data of their sources can, "
            "mirrors of hosted volumes, and of these synchronous ones when each has a source of "
            "its own that is no other one's target.");
    }
    return 0;
}

static int group_found(struct call *call, struct group_parts *parts, struct found *found)
{
    struct group_sync_row group_sync = {.sync_type = found->pairs[0].sync_type,
                                        .mode = found->pairs[0].mode};

    group_parts_name(parts, &group_sync);
    parts->sources = found->sources;
    parts->targets = found->targets;
    parts->n_sources = found->n;
    parts->n_targets = found->n;
    int r = group_parts_fill(call, parts, &group_sync);

    if (r == 0) {
        r = group_parts_insert(call, parts, &group_sync);
    }
    for (size_t i = 0; i < found->n && r == 0; i++) {
        memcpy(found->pairs[i].group_sync_id, group_sync.head.id, ID_SIZE);
        found->pairs[i].moment = 0;
        r = table_update(call->db, &sync_table, &found->pairs[i]);
        r = r < 0 ? call_fail_store(call, r) : 0;
    }
    if (r < 0) {
        return r;
    }
    outs_path(call->outs, "SourceGroup", "/groups/%s", parts->source_group.head.id);
    outs_path(call->outs, "TargetGroup", "/groups/%s", parts->target_group.head.id);
    outs_text(call->outs, "SourceGroupName", parts->source_group.element_name);
    outs_text(call->outs, "TargetGroupName", parts->target_group.element_name);
    outs_path(call->outs, "GroupSynchronization", "/groupsynchronizations/%s", group_sync.head.id);
    return 0;
}

int method_create_group_replica_from_synchronizations(struct call *call)
{
    struct group_parts *parts = arena_alloc(&call->arena, sizeof(*parts));
    struct found found = {.n = 0};
    int r = find_pairs(call, &found);

    parts->source_parameter = "ElementSynchronizations";
    parts->target_parameter = "ElementSynchronizations";
    parts->name = args_text(call->args, "RelationshipName");
    if (r == 0) {
        r = group_check_name(call, "RelationshipName", parts->name);
    }
    if (r == 0) {
        r = group_parts_groups(call, parts);
    }
    if (r == 0 && parts->source_group.head.id[0] != '\0' &&
        strcmp(parts->source_group.head.id, parts->target_group.head.id) == 0) {
        r = call_fail_param(call, ERR_BAD_VALUE, "TargetGroup",
                            "Source and target are the same group.");
    }
    if (r == 0) {
        r = check_found_state(call, &found);
    }
    if (r == 0) {
        r = found_consistency(call, &found, parts);
    }
    return r < 0 ? r : group_found(call, parts, &found);
}
