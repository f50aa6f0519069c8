// SPDX-License-Identifier: Apache-2.0
/*
 * Replicas of groups: CreateGroupReplica, CreateGroupReplicaFromElements, AddElementsToGroupSynchronized.
 *
 * Both say which volumes (sources), onto which (targets, or how many), and what it is called (parts). From there it is as with a list
 * (replica_pairs.c): pairs are made up and checked, then made, with one job for those that have to be copied; besides them a
 * group of the targets and the relationship of the groups.
 */
#include "service/group_parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "service/group_states.h"
#include "service/groups.h"
#include "service/handlers.h"
#include "service/hosted.h"
#include "service/paths.h"
#include "service/replica_pairs.h"
#include "service/volumes.h"

/* ---- what is asked for ---- */

static int check_role(struct call *call, const char *parameter, const struct group_row *group,
                      uint32_t wanted)
{
    if (group->reserved_as == wanted || group->reserved_as == GROUP_ANY_ROLE) {
        return 0;
    }
    return call_fail_param(call, ERR_BAD_VALUE, parameter,
                           "/groups/%s is reserved: %s (ReservedAs).", group->head.id,
                           enum_text(&map_reserved_as, group->reserved_as));
}

static int common_parts(struct call *call, struct group_parts *parts)
{
    int r = pairs_terms(call, &parts->terms);

    parts->name = args_text(call->args, "RelationshipName");
    parts->consistency = (uint32_t)args_number(call->args, "Consistency", 0);
    return r < 0 ? r : group_check_name(call, "RelationshipName", parts->name);
}

static int exactly_one(struct call *call, const char *first, const char *second)
{
    bool one = args_present(call->args, first);
    bool other = args_present(call->args, second);

    if (one && other) {
        return call_fail_param(call, ERR_BAD_VALUE, second, "Give %s or %s, not both.", first,
                               second);
    }
    if (!one && !other) {
        return call_fail_param(call, ERR_MISSING_PARAMETER, first, "Give %s or %s.", first, second);
    }
    return 0;
}

static int source_parts(struct call *call, struct group_parts *parts)
{
    const char *element = args_text(call->args, "SourceElement");
    int r = exactly_one(call, "SourceGroup", "SourceElement");

    if (r < 0) {
        return r;
    }
    if (element != NULL) {
        parts->source_parameter = "SourceElement";
        parts->one_source = true;
        parts->sources = arena_alloc(&call->arena, sizeof(*parts->sources));
        parts->n_sources = 1;
        return path_volume(call, "SourceElement", element, parts->sources);
    }
    parts->source_parameter = "SourceGroup";
    r = path_group(call, "SourceGroup", args_text(call->args, "SourceGroup"), &parts->source_group);
    if (r == 0) {
        r = check_role(call, "SourceGroup", &parts->source_group, GROUP_SOURCE_ONLY);
    }
    if (r == 0) {
        r = group_members(call, parts->source_group.head.id, &parts->sources, &parts->n_sources);
    }
    if (r == 0 && parts->n_sources == 0) {
        return call_fail_param(call, ERR_BAD_VALUE, "SourceGroup",
                               "/groups/%s has no members; add some first (AddMembers).",
                               parts->source_group.head.id);
    }
    return r;
}

static int target_group_parts(struct call *call, const char *path, struct group_parts *parts)
{
    int r = path_group(call, "TargetGroup", path, &parts->target_group);

    if (r == 0 && strcmp(parts->target_group.head.id, parts->source_group.head.id) == 0) {
        r = call_fail_param(call, ERR_BAD_VALUE, "TargetGroup",
                            "Source and target are the same group, %s.", path);
    }
    if (r == 0) {
        r = check_role(call, "TargetGroup", &parts->target_group, GROUP_TARGET_ONLY);
    }
    return r < 0 ? r
                 : group_members(call, parts->target_group.head.id, &parts->targets,
                                 &parts->n_targets);
}

static int target_parts(struct call *call, struct group_parts *parts)
{
    const char *path = args_text(call->args, "TargetGroup");
    bool counted = args_present(call->args, "TargetElementCount");
    uint64_t count = args_number(call->args, "TargetElementCount", 0);

    parts->target_parameter = "TargetGroup";
    if (counted && path != NULL) {
        return call_fail_param(
            call, ERR_BAD_VALUE, "TargetElementCount",
            "TargetElementCount is for a group that is made; with TargetGroup it "
            "must be left out.");
    }
    if (counted && !parts->one_source) {
        return call_fail_param(
            call, ERR_BAD_VALUE, "TargetElementCount",
            "TargetElementCount is for one SourceElement with several targets; a "
            "group has one for each of its members.");
    }
    if (counted && (count == 0 || count > PAIRS_MAX)) {
        return call_fail_param(call, ERR_BAD_VALUE, "TargetElementCount",
                               "TargetElementCount is 1 to %d, or left out.", PAIRS_MAX);
    }
    parts->n_wanted = (size_t)count;
    return path == NULL ? 0 : target_group_parts(call, path, parts);
}

/* ---- pairs ---- */

/* How many pairs: rule G8. */
static int count_pairs(struct call *call, const struct group_parts *parts, size_t *ret_n)
{
    size_t n_sources = parts->n_sources;
    size_t n_targets = parts->n_targets;

    if (n_targets == 0) {
        *ret_n = parts->one_source ? (parts->n_wanted > 0 ? parts->n_wanted : 1) : n_sources;
        return 0;
    }
    bool larger_source =
        parts->terms.unequal_groups == UNEQUAL_SOURCE_LARGER && n_sources > n_targets;
    bool larger_target =
        parts->terms.unequal_groups == UNEQUAL_TARGET_LARGER && n_sources < n_targets;

    if (parts->one_source) {
        *ret_n = n_targets;
    } else if (n_sources == n_targets || larger_target) {
        *ret_n = n_sources;
    } else if (larger_source) {
        *ret_n = n_targets;
    } else {
        return call_fail_param(
            call, ERR_BAD_VALUE, parts->target_parameter,
            "There are %zu targets for %zu sources; "
            "ReplicationSettingData.UnequalGroupsAction can allow more sources (3) "
            "or more targets (4).",
            n_targets, n_sources);
    }
    return 0;
}

static const char *name_of_target(struct call *call, const struct group_parts *parts,
                                  const char *name, size_t i)
{
    if (parts->target_names != NULL) {
        const struct value *names = parts->target_names;
        bool given =
            i < names->n_items && names->items[i].present && names->items[i].text[0] != '\0';

        return given ? names->items[i].text : NULL;
    }
    return arena_printf(&call->arena, "%s_%zu", name, i + 1);
}

static struct pair *pairs_of(struct call *call, const struct group_parts *parts,
                             const struct group_sync_row *group_sync, size_t n)
{
    struct pair *pairs = arena_alloc(&call->arena, n * sizeof(*pairs));

    for (size_t i = 0; i < n; i++) {
        pairs[i].group_sync_id = group_sync->head.id;
        pairs[i].source = parts->sources[parts->one_source ? 0 : i];
        pairs[i].allocate = parts->n_targets == 0;
        snprintf(pairs[i].source_parameter, sizeof(pairs[i].source_parameter), "%s",
                 parts->source_parameter);
        snprintf(pairs[i].target_parameter, sizeof(pairs[i].target_parameter), "%s",
                 parts->target_parameter);
        if (pairs[i].allocate) {
            pairs[i].element_name = name_of_target(call, parts, group_sync->relationship_name, i);
        } else {
            pairs[i].target = parts->targets[i];
        }
    }
    return pairs;
}

/* An asynchronous mirror whose cycles can begin with those of others. */
static bool pair_in_rounds(const struct pair *pair)
{
    return pair->terms.engine == ENGINE_ASYNC && pair->source.kind == VOLUME_HOSTED;
}

/* Is its target, of a synchronous mirror, parted at one moment with those before it? Not if writes to one source come by another mirror. */
static bool pair_parts_with(const struct pair *pairs, size_t i)
{
    const struct pair *pair = &pairs[i];

    for (size_t k = 0; k < i; k++) {
        if (strcmp(pairs[k].source.head.id, pair->source.head.id) == 0 ||
            (!pairs[k].allocate && strcmp(pairs[k].target.head.id, pair->source.head.id) == 0) ||
            (!pair->allocate && strcmp(pair->target.head.id, pairs[k].source.head.id) == 0)) {
            return false;
        }
    }
    return pair->terms.engine == ENGINE_MIRROR;
}

/* Of one moment, where that is wanted, or nothing is said and it can be. *ret_cut: now, not with Activate. */
static int decide_consistency(struct call *call, struct group_parts *parts,
                              const struct pair *pairs, size_t n, bool *ret_cut)
{
    bool possible = true;
    bool asked = parts->consistency == CONSISTENCY_SEQUENTIAL;

    for (size_t i = 0; i < n; i++) {
        if (pairs[i].terms.engine == ENGINE_LAYERS) {
            continue;
        }
        possible = false;
        if (asked && !pair_in_rounds(&pairs[i]) && !pair_parts_with(pairs, i)) {
            return call_fail_param(call, ERR_NOT_SUPPORTED, "Consistency",
                                   "/volumes/%s does not get a replica that can be of one moment "
                                   "with others: snapshots and clones that share its data can, "
                                   "mirrors of hosted volumes, and of these synchronous ones when "
                                   "each has a source of its own that is no other one's target.",
                                   pairs[i].source.head.id);
        }
    }
    parts->consistent = asked || (parts->consistency == 0 && possible);
    /* Mirrors are cut by their rounds, or when they are parted. */
    *ret_cut =
        parts->terms.start && ((parts->consistent && parts->terms.sync_type != SYNC_MIRROR) ||
                               parts->terms.consistent_point_in_time);
    return 0;
}

/* ---- making it ---- */

static int make_target_group(struct call *call, struct group_parts *parts, const char *name)
{
    int r = 0;

    if (parts->terms.consistent_point_in_time) {
        parts->target_group.consistent_point_in_time = true;
    }
    if (parts->target_group.head.id[0] == '\0') {
        parts->target_group.persistent = true;
        parts->target_group.delete_on_empty = true; /* nobody has asked for it by itself */
        return group_insert(call,
                            parts->target_group_name != NULL ? parts->target_group_name : name,
                            &parts->target_group);
    }
    if (parts->target_group.consistent_point_in_time) {
        r = table_update(call->db, &group_table, &parts->target_group);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

int group_parts_insert(struct call *call, const struct group_parts *parts,
                       struct group_sync_row *group_sync)
{
    group_sync->consistency = parts->consistent;
    group_sync->when_established_ms = control_now_ms(call->control);
    if (parts->one_source) {
        snprintf(group_sync->system_element, sizeof(group_sync->system_element), "/volumes/%s",
                 parts->sources[0].head.id);
    } else {
        memcpy(group_sync->source_group_id, parts->source_group.head.id, ID_SIZE);
        snprintf(group_sync->system_element, sizeof(group_sync->system_element), "/groups/%s",
                 parts->source_group.head.id);
    }
    memcpy(group_sync->target_group_id, parts->target_group.head.id, ID_SIZE);
    snprintf(group_sync->synced_element, sizeof(group_sync->synced_element), "/groups/%s",
             parts->target_group.head.id);
    int r = table_insert(call->db, &group_sync_table, group_sync);

    if (r == -EEXIST) {
        return call_fail_param(call, ERR_IN_USE, parts->target_parameter,
                               "%s and %s are in a relationship already.",
                               group_sync->system_element, group_sync->synced_element);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

static int fill_group(struct call *call, const char *parameter, const char *name,
                      const struct volume_row *members, size_t n, struct group_row *group)
{
    int r = 0;

    if (group->head.id[0] == '\0') {
        group->persistent = true;
        group->delete_on_empty = true;
        r = group_insert(call, name, group);
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        r = group_add(call, parameter, group->head.id, members[i].head.id);
    }
    return r;
}

int group_parts_fill(struct call *call, struct group_parts *parts,
                     const struct group_sync_row *group_sync)
{
    int r = fill_group(call, parts->source_parameter, parts->source_group_name, parts->sources,
                       parts->n_sources, &parts->source_group);

    if (r == 0 && parts->n_targets > 0) {
        r = fill_group(call, parts->target_parameter,
                       parts->target_group_name != NULL ? parts->target_group_name
                                                        : group_sync->relationship_name,
                       parts->targets, parts->n_targets, &parts->target_group);
    }
    return r;
}

/* All pairs were made at the first moment of the relationship. */
static int note_moment(struct call *call, struct pair *pairs, size_t n)
{
    uint64_t now = control_now_ms(call->control);

    for (size_t i = 0; i < n; i++) {
        replica_made_now(&pairs[i].sync, now);
        pairs[i].sync.moment = 1;
        int r = table_update(call->db, &sync_table, &pairs[i].sync);

        if (r < 0) {
            return call_fail_store(call, r);
        }
    }
    return 0;
}

static int check_parts(struct call *call, const struct group_parts *parts)
{
    int r =
        pairs_check_supplier(call, &parts->terms, parts->n_targets > 0, parts->target_parameter);

    if (r == 0 && parts->n_targets > 0) {
        r = pairs_refuse_with_targets(call, parts->target_parameter, "TargetSettingGoal");
    }
    if (r == 0 && parts->n_targets > 0) {
        r = pairs_refuse_with_targets(call, parts->target_parameter, "TargetPool");
    }
    return r;
}

void group_parts_name(const struct group_parts *parts, struct group_sync_row *group_sync)
{
    store_new_id(group_sync->head.id);
    if (parts->name != NULL) {
        text_cut(parts->name, group_sync->relationship_name, sizeof(group_sync->relationship_name));
    } else {
        snprintf(group_sync->relationship_name, sizeof(group_sync->relationship_name),
                 "relationship-%s", group_sync->head.id);
    }
}

static void made_outs(struct call *call, const struct group_parts *parts,
                      const struct group_sync_row *group_sync)
{
    outs_path(call->outs, "TargetGroup", "/groups/%s", parts->target_group.head.id);
    outs_path(call->outs, "Synchronization", "/groupsynchronizations/%s", group_sync->head.id);
    if (parts->elements) {
        outs_path(call->outs, "SourceGroup", "/groups/%s", parts->source_group.head.id);
        outs_text(call->outs, "SourceGroupName", parts->source_group.element_name);
        outs_text(call->outs, "TargetGroupName", parts->target_group.element_name);
    }
}

/* Rows, all in one transaction. */
static int make_rows(struct call *call, struct group_parts *parts, const struct pool_row *pool,
                     struct group_sync_row *group_sync, struct pair *pairs, size_t n)
{
    int r = parts->elements ? group_parts_fill(call, parts, group_sync) : 0;

    if (r == 0) {
        r = make_target_group(call, parts, group_sync->relationship_name);
    }
    if (r == 0) {
        r = group_parts_insert(call, parts, group_sync);
    }
    if (r == 0) {
        r = pairs_create(call, pool, pairs, n);
    }
    for (size_t i = 0; i < n && r == 0 && parts->n_targets == 0; i++) {
        r = group_add(call, parts->target_parameter, parts->target_group.head.id,
                      pairs[i].target.head.id);
    }
    return r;
}

/* Checked, made, and started. */
static int group_make(struct call *call, struct group_parts *parts)
{
    struct pool_row pool_row;
    const struct pool_row *pool = NULL;
    struct group_sync_row group_sync = {.sync_type = parts->terms.sync_type,
                                        .mode = parts->terms.mode};
    bool cut = false;
    size_t n = 0;
    int r = check_parts(call, parts);

    if (r == 0) {
        r = count_pairs(call, parts, &n);
    }
    if (r == 0) {
        r = pairs_pool(call, &pool_row, &pool);
    }
    if (r < 0) {
        return r;
    }
    group_parts_name(parts, &group_sync);
    struct pair *pairs = pairs_of(call, parts, &group_sync, n);

    r = pairs_check_same_target_twice(call, pairs, n);
    if (r == 0) {
        r = pairs_check(call, &parts->terms, pool, pairs, n);
    }
    if (r == 0) {
        r = decide_consistency(call, parts, pairs, n, &cut);
    }
    if (r == 0 && cut) {
        group_sync.moments = 1;
        r = pairs_cut_together(call, "Consistency", pairs, n);
    }
    if (r == 0) {
        r = make_rows(call, parts, pool, &group_sync, pairs, n);
    }
    if (r == 0 && cut) {
        r = note_moment(call, pairs, n);
        group_note_barrier(call, &group_sync, 1);
    }
    if (r < 0) {
        return r;
    }
    made_outs(call, parts, &group_sync);
    return pairs_start(call, &parts->terms, pairs, n, parts->name);
}

/* ---- the methods ---- */

static int create_group_replica(struct call *call)
{
    struct group_parts *parts = arena_alloc(&call->arena, sizeof(*parts));

    int r = common_parts(call, parts);

    if (r == 0) {
        r = source_parts(call, parts);
    }
    if (r == 0) {
        r = target_parts(call, parts);
    }
    return r < 0 ? r : group_make(call, parts);
}

int method_create_group_replica(struct call *call)
{
    return hosted_run(call, create_group_replica);
}

/* The volumes of an array parameter; once: each may be named once. */
static int elements_of(struct call *call, const char *name, bool once,
                       struct volume_row **ret_volumes, size_t *ret_n)
{
    const struct value *value = values_get(call->args, name);
    struct volume_row *volumes = arena_alloc(&call->arena, (value->n_items + 1) * sizeof(*volumes));

    if (value->n_items > PAIRS_MAX) {
        return call_fail_param(call, ERR_BAD_VALUE, name, "A group has at most %d members.",
                               PAIRS_MAX);
    }
    for (size_t i = 0; i < value->n_items; i++) {
        char parameter[48];

        snprintf(parameter, sizeof(parameter), "%s[%zu]", name, i);
        if (!value->items[i].present) {
            return call_fail_param(call, ERR_MISSING_PARAMETER, parameter,
                                   "%s is null; each entry must name a volume.", parameter);
        }
        int r = path_volume(call, parameter, value->items[i].text, &volumes[i]);

        for (size_t k = 0; once && k < i && r == 0; k++) {
            if (strcmp(volumes[k].head.id, volumes[i].head.id) == 0) {
                r = call_fail_param(call, ERR_BAD_VALUE, parameter,
                                    "/volumes/%s is named twice; a group has it once.",
                                    volumes[i].head.id);
            }
        }
        if (r < 0) {
            return r;
        }
    }
    *ret_volumes = volumes;
    *ret_n = value->n_items;
    return 0;
}

static int group_of_elements(struct call *call, const char *parameter, const char *name_parameter,
                             uint32_t role, struct group_row *group)
{
    const char *path = args_text(call->args, parameter);
    const char *name = args_text(call->args, name_parameter);
    struct volume_row *members;
    size_t n = 0;

    if (path == NULL) {
        return group_check_name(call, name_parameter, name);
    }
    if (name != NULL) {
        return call_fail_param(call, ERR_BAD_VALUE, name_parameter,
                               "%s is for a group that is made; with %s it must be left out.",
                               name_parameter, parameter);
    }
    int r = path_group(call, parameter, path, group);

    if (r == 0) {
        r = check_role(call, parameter, group, role);
    }
    if (r == 0) {
        r = group_members(call, group->head.id, &members, &n);
    }
    if (r == 0 && n > 0) {
        r = call_fail_param(
            call, ERR_BAD_VALUE, parameter,
            "%s has members; it must be empty, the elements become its members. For a "
            "group as it is there is CreateGroupReplica.",
            path);
    }
    return r;
}

int group_parts_groups(struct call *call, struct group_parts *parts)
{
    int r = group_of_elements(call, "SourceGroup", "SourceGroupName", GROUP_SOURCE_ONLY,
                              &parts->source_group);

    if (r == 0) {
        r = group_of_elements(call, "TargetGroup", "TargetGroupName", GROUP_TARGET_ONLY,
                              &parts->target_group);
    }
    parts->source_group_name = args_text(call->args, "SourceGroupName");
    parts->target_group_name = args_text(call->args, "TargetGroupName");
    return r;
}

static int target_names(struct call *call, struct group_parts *parts)
{
    const struct value *names = values_get(call->args, "TargetElementNames");

    if (!names->present) {
        return 0;
    }
    if (parts->n_targets > 0) {
        return call_fail_param(call, ERR_BAD_VALUE, "TargetElementNames",
                               "TargetElementNames is for targets that are chosen here; with "
                               "TargetElements it must be left out.");
    }
    if (names->n_items > parts->n_sources) {
        return call_fail_param(call, ERR_BAD_VALUE, "TargetElementNames",
                               "There are %zu names for %zu sources.", names->n_items,
                               parts->n_sources);
    }
    for (size_t i = 0; i < names->n_items; i++) {
        if (names->items[i].present && strlen(names->items[i].text) > ELEMENT_NAME_MAX) {
            return call_fail_param(call, ERR_BAD_VALUE, "TargetElementNames",
                                   "A name has at most %d bytes.", ELEMENT_NAME_MAX);
        }
    }
    parts->target_names = names;
    return 0;
}

static int refuse_target_pools(struct call *call, const struct group_parts *parts)
{
    if (!args_present(call->args, "TargetPools")) {
        return 0;
    }
    if (args_present(call->args, "TargetPool") || parts->n_targets > 0) {
        return call_fail_param(call, ERR_BAD_VALUE, "TargetPools",
                               "TargetPools does not go with TargetPool or TargetElements.");
    }
    const struct value *pools = values_get(call->args, "TargetPools");

    for (size_t i = 0; i < pools->n_items; i++) {
        char parameter[48];
        struct pool_row pool;

        snprintf(parameter, sizeof(parameter), "TargetPools[%zu]", i);
        if (!pools->items[i].present) {
            return call_fail_param(call, ERR_MISSING_PARAMETER, parameter, "%s is null.",
                                   parameter);
        }
        int r = path_pool(call, parameter, pools->items[i].text, &pool);

        if (r < 0) {
            return r;
        }
    }
    return call_fail_param(call, ERR_NOT_SUPPORTED, "TargetPools",
                           "All targets come from one pool; name it in TargetPool.");
}

static int create_group_replica_from_elements(struct call *call)
{
    struct group_parts *parts = arena_alloc(&call->arena, sizeof(*parts));

    parts->source_parameter = "SourceElements";
    parts->target_parameter = "TargetElements";
    parts->elements = true;
    int r = common_parts(call, parts);

    if (r == 0) {
        r = elements_of(call, "SourceElements", true, &parts->sources, &parts->n_sources);
    }
    if (r == 0 && parts->n_sources == 0) {
        r = call_fail_param(call, ERR_BAD_VALUE, "SourceElements",
                            "SourceElements must name at least one volume.");
    }
    if (r == 0) {
        r = group_parts_groups(call, parts);
    }
    if (r == 0 && args_present(call->args, "TargetElements")) {
        r = elements_of(call, "TargetElements", true, &parts->targets, &parts->n_targets);
        if (r == 0 && parts->n_targets == 0) {
            r = call_fail_param(call, ERR_BAD_VALUE, "TargetElements",
                                "TargetElements is empty; name volumes, or leave it out.");
        }
    }
    if (r == 0) {
        r = refuse_target_pools(call, parts);
    }
    if (r == 0) {
        r = target_names(call, parts);
    }
    return r < 0 ? r : group_make(call, parts);
}

int method_create_group_replica_from_elements(struct call *call)
{
    return hosted_run(call, create_group_replica_from_elements);
}

/* ---- more pairs ---- */

/* Rule of Pairing: by position. Sources and targets as many, or targets are made. */
static int added_parts(struct call *call, const struct group_sync_row *group_sync,
                       struct group_parts *parts)
{
    const char *source = NULL;
    int r = elements_of(call, "SourceElements", group_sync->source_group_id[0] != '\0',
                        &parts->sources, &parts->n_sources);

    parts->source_parameter = "SourceElements";
    parts->target_parameter = "TargetElements";
    if (r == 0 && parts->n_sources == 0) {
        r = call_fail_param(call, ERR_BAD_VALUE, "SourceElements",
                            "SourceElements must name at least one volume.");
    }
    for (size_t i = 0; i < parts->n_sources && r == 0; i++) {
        source = arena_printf(&call->arena, "/volumes/%s", parts->sources[i].head.id);
        if (group_sync->source_group_id[0] == '\0' &&
            strcmp(source, group_sync->system_element) != 0) {
            r = call_fail_param(call, ERR_BAD_VALUE,
                                arena_printf(&call->arena, "SourceElements[%zu]", i),
                                "The relationship has one source, %s.", group_sync->system_element);
        }
    }
    if (r == 0 && args_present(call->args, "TargetElements")) {
        r = elements_of(call, "TargetElements", true, &parts->targets, &parts->n_targets);
        if (r == 0 && parts->n_targets != parts->n_sources) {
            r = call_fail_param(call, ERR_BAD_VALUE, "TargetElements",
                                "There are %zu targets for %zu sources.", parts->n_targets,
                                parts->n_sources);
        }
    }
    return r;
}

static int check_added_consistency(struct call *call, const struct group_sync_row *group_sync,
                                   const struct pair *pairs, size_t n)
{
    uint32_t wanted = group_sync->consistency ? CONSISTENCY_SEQUENTIAL : CONSISTENCY_NONE;

    if (args_number(call->args, "Consistency", wanted) != wanted) {
        return call_fail_param(
            call, ERR_BAD_VALUE, "Consistency",
            "ConsistencyEnabled of the relationship is %s; Activate and Deactivate "
            "Consistency change that.",
            group_sync->consistency ? "true" : "false");
    }
    for (size_t i = 0; i < n && group_sync->consistency; i++) {
        if (pairs[i].terms.engine != ENGINE_LAYERS && pairs[i].terms.engine != ENGINE_MIRROR &&
            !pair_in_rounds(&pairs[i])) {
            return call_fail_param(call, ERR_NOT_SUPPORTED, pairs[i].source_parameter,
                                   "The relationship is consistent, and /volumes/%s does not get a "
                                   "replica that can be of one moment with others.",
                                   pairs[i].source.head.id);
        }
    }
    return 0;
}

static int add_rows(struct call *call, const struct group_sync_row *group_sync, struct pair *pairs,
                    size_t n)
{
    int r = pairs_create(call, NULL, pairs, n);

    for (size_t i = 0; i < n && r == 0; i++) {
        if (group_sync->source_group_id[0] != '\0') {
            r = group_add(call, "SourceElements", group_sync->source_group_id,
                          pairs[i].source.head.id);
        }
        if (r == 0) {
            r = group_add(call, "TargetElements", group_sync->target_group_id,
                          pairs[i].target.head.id);
        }
        outs_add_text(call->outs, "Synchronizations", path_of_sync(call, &pairs[i].sync));
    }
    return r < 0 ? r : group_check_moment(call, "SourceElements", group_sync);
}

static int add_elements(struct call *call)
{
    struct group_parts *parts = arena_alloc(&call->arena, sizeof(*parts));
    struct group_sync_row group_sync;
    struct sync_row *before;
    size_t n_before;
    int r =
        path_group_sync(call, "Synchronized", args_text(call->args, "Synchronized"), &group_sync);

    if (r == 0) {
        r = group_sync_pairs(call, group_sync.head.id, &before, &n_before);
    }
    if (r == 0) {
        r = replica_terms_of_sync_type(call, group_sync.sync_type, group_sync.mode, &parts->terms);
    }
    if (r == 0) {
        r = replica_terms_setting_data(call, "ReplicationSettingData", &parts->terms);
    }
    if (r == 0) {
        r = replica_terms_wait(call, 0, &parts->terms);
    }
    if (r == 0) {
        r = added_parts(call, &group_sync, parts);
    }
    if (r == 0) {
        r = pairs_check_supplier(call, &parts->terms, parts->n_targets > 0, "TargetElements");
    }
    if (r < 0) {
        return r;
    }
    struct pair *pairs = pairs_of(call, parts, &group_sync, parts->n_sources);

    for (size_t i = 0; i < parts->n_sources; i++) {
        pairs[i].element_name =
            arena_printf(&call->arena, "%s_%zu", group_sync.relationship_name, n_before + i + 1);
    }
    r = pairs_check_same_target_twice(call, pairs, parts->n_sources);
    if (r == 0) {
        r = pairs_check(call, &parts->terms, NULL, pairs, parts->n_sources);
    }
    if (r == 0) {
        r = check_added_consistency(call, &group_sync, pairs, parts->n_sources);
    }
    if (r == 0) {
        r = add_rows(call, &group_sync, pairs, parts->n_sources);
    }
    return r < 0 ? r : pairs_start(call, &parts->terms, pairs, parts->n_sources, NULL);
}

int method_add_elements_to_group_synchronized(struct call *call)
{
    return hosted_run(call, add_elements);
}
