// SPDX-License-Identifier: Apache-2.0
/* Replication groups, and the relationships between them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "service/group_states.h"
#include "service/groups.h"
#include "service/view_maps.h"
#include "service/view_parts.h"
#include "store/group.h"
#include "store/replica.h"

/* ---- groups ---- */

static int add_member(void *arg, const void *row)
{
    const struct group_member_row *member = row;

    return id_list_add(arg, member->volume_id);
}

static int add_group_sync(void *arg, const void *row)
{
    return id_list_add(arg, ((const struct row_head *)row)->id);
}

static int group_syncs(struct view *view, const char *group_id, const char *column,
                       const char *name, struct out *out)
{
    const struct condition where[] = {WHERE_TEXT(column, group_id), WHERE_END};
    struct id_list list = {0};
    int r = table_each(view->db, &group_sync_table, where, 0, 0, add_group_sync, &list);

    out_begin_array(out, name);
    view_paths(out, "groupsynchronizations", &list);
    out_end_array(out);
    id_list_fini(&list);
    return r;
}

static int group_object(struct view *view, const void *row, struct out *out)
{
    const struct group_row *group = row;
    const struct condition where[] = {WHERE_TEXT("group_id", group->head.id), WHERE_END};
    struct id_list members = {0};
    int r = table_each(view->db, &group_member_table, where, 0, 0, add_member, &members);

    out_begin_object(out, NULL);
    view_head(out, COLLECTION_GROUPS, group->head.id);
    view_instance_id(out, "InstanceID", group->head.id);
    out_text(out, "ElementName", group->element_name);
    out_ref(out, "System", "systems", "local");
    out_bool(out, "Persistent", group->persistent);
    out_bool(out, "DeleteOnEmptyElement", group->delete_on_empty);
    out_bool(out, "DeleteOnUnassociated", group->delete_on_unassociated);
    out_bool(out, "ConsistentPointInTime", group->consistent_point_in_time);
    out_enum(out, "ReservedAs", &map_reserved_as, group->reserved_as);
    out_time(out, "CreationTime", group->created_ms);
    out_begin_array(out, "Members");
    view_paths(out, "volumes", &members);
    out_end_array(out);
    id_list_fini(&members);
    if (r == 0) {
        r = group_syncs(view, group->head.id, "source_group_id", "AsSource", out);
    }
    if (r == 0) {
        r = group_syncs(view, group->head.id, "target_group_id", "AsTarget", out);
    }
    out_end_object(out);
    return r;
}

static const struct view_filter group_filters[] = {
    {.name = "ElementName", .column = "element_name", .kind = FILTER_TEXT},
};
const struct view_kind view_groups = {
    .table = &group_table,
    .row = group_object,
    .filters = group_filters,
    .n_filters = ARRAY_LEN(group_filters),
};

/* ---- relationships ---- */

/* The mean of the pairs. */
static int group_percent(struct view *view, const struct sync_row *pairs, size_t n,
                         uint32_t *ret_percent)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t percent;
        int r = view_sync_percent(view, &pairs[i], &percent);

        if (r < 0) {
            return r;
        }
        sum += percent;
    }
    *ret_percent = n == 0 ? 0 : (uint32_t)(sum / n);
    return 0;
}

static void group_sync_state(const struct group_sync_row *group_sync,
                             const struct group_state *state, uint32_t percent, struct out *out)
{
    out_enum(out, "CopyState", &map_copy_state, state->copy_state);
    out_enum(out, "RequestedCopyState", &map_copy_state, state->requested_copy_state);
    out_enum(out, "ProgressStatus", &map_progress_status, state->progress_status);
    out_bool(out, "SyncMaintained", state->sync_maintained);
    out_number(out, "PercentSynced", percent);
    out_bool(out, "ConsistencyEnabled", group_sync->consistency);
    view_enum_or_null(out, "ConsistencyType", &map_consistency_type,
                      group_sync->consistency ? CONSISTENCY_TYPE_SEQUENTIAL : 0);
    out_enum(out, "ConsistencyState", &map_consistency_state, state->consistency_state);
    out_enum(out, "ConsistencyStatus", &map_consistency_status, state->consistency_status);
    out_time(out, "WhenSynced", state->when_synced_ms);
    out_time(out, "WhenEstablished", group_sync->when_established_ms);
    if (group_sync->moments > 0) {
        out_number(out, "BarrierMicroseconds", group_sync->barrier_microseconds);
    } else {
        out_null(out, "BarrierMicroseconds");
    }
    out_ref(out, "Job", "jobs", state->job_id);
}

static void group_operations(struct db *db, const struct sync_row *pairs, size_t n, struct out *out)
{
    uint32_t legal[OPERATION_COUNT];
    size_t n_legal = 0;
    size_t pair;

    for (uint32_t operation = 2; operation < OPERATION_COUNT; operation++) {
        bool possible =
            operation != OPERATION_ACTIVATE_CONSISTENCY || group_sources_hosted(db, pairs, n);

        if (possible && group_verdict(pairs, n, operation, &pair) == VERDICT_LEGAL) {
            legal[n_legal++] = operation;
        }
    }
    view_enums(out, "LegalOperations", &map_operation, legal, n_legal);
}

static int group_sync_object(struct view *view, const void *row, struct out *out)
{
    const struct group_sync_row *group_sync = row;
    const struct condition where[] = {WHERE_TEXT("group_sync_id", group_sync->head.id), WHERE_END};
    struct sync_row *pairs = NULL;
    size_t n = 0;
    uint32_t percent = 0;
    int r = table_load(view->db, &sync_table, where, (void **)&pairs, &n);

    if (r == 0) {
        r = group_percent(view, pairs, n, &percent);
    }
    if (r < 0) {
        free(pairs);
        return r;
    }
    struct group_state state = group_state_of(group_sync, pairs, n);

    out_begin_object(out, NULL);
    view_head(out, COLLECTION_GROUP_SYNCHRONIZATIONS, group_sync->head.id);
    out_text(out, "RelationshipName", group_sync->relationship_name);
    out_text(out, "SystemElement", group_sync->system_element);
    out_text(out, "SyncedElement", group_sync->synced_element);
    out_enum(out, "SyncType", &map_sync_type, group_sync->sync_type);
    out_enum(out, "Mode", &map_mode, group_sync->mode);
    group_sync_state(group_sync, &state, percent, out);
    out_begin_array(out, "Synchronizations");
    for (size_t i = 0; i < n; i++) {
        out_ref(out, NULL, "synchronizations", pairs[i].head.id);
    }
    out_end_array(out);
    group_operations(view->db, pairs, n, out);
    out_end_object(out);
    free(pairs);
    return 0;
}

/* Whole paths: a source is a group or a volume. */
static const struct view_filter group_sync_filters[] = {
    {.name = "SystemElement", .column = "system_element", .kind = FILTER_TEXT},
    {.name = "SyncedElement", .column = "synced_element", .kind = FILTER_TEXT},
    {.name = "RelationshipName", .column = "relationship_name", .kind = FILTER_TEXT},
    {.name = "SyncType", .column = "sync_type", .kind = FILTER_ENUM, .map = &map_sync_type},
    {.name = "Mode", .column = "mode", .kind = FILTER_ENUM, .map = &map_mode},
};
const struct view_kind view_group_synchronizations = {
    .table = &group_sync_table,
    .row = group_sync_object,
    .filters = group_sync_filters,
    .n_filters = ARRAY_LEN(group_sync_filters),
};
