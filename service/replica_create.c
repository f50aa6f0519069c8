// SPDX-License-Identifier: Apache-2.0
/*
 * The methods that make replicas of volumes, one or a list: what they say is turned into pairs (replica_pairs.h), which are checked and
 * made there. New hosted volumes need files, so that each body may run twice (service/hosted.h).
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "service/group_states.h"
#include "service/groups.h"
#include "service/handlers.h"
#include "service/hosted.h"
#include "service/paths.h"
#include "service/pools.h"
#include "service/replica_pairs.h"
#include "service/volumes.h"

static int check_name(struct call *call, const char *parameter, const char *name)
{
    if (name != NULL && (name[0] == '\0' || strlen(name) > ELEMENT_NAME_MAX)) {
        return call_fail_param(call, ERR_BAD_VALUE, parameter,
                               "%s must have 1 to %d bytes, or be left out for a name of ours.",
                               parameter, ELEMENT_NAME_MAX);
    }
    return 0;
}

/* ---- one, by CopyType ---- */

static int create_replica(struct call *call)
{
    struct replica_terms terms;
    struct pool_row pool;
    struct pair pair = {
        .allocate = true,
        .element_name = args_text(call->args, "ElementName"),
        .source_parameter = "SourceElement",
    };
    const char *pool_path = args_text(call->args, "TargetPool");
    int r =
        replica_terms_of_copy_type(call, (uint32_t)args_number(call->args, "CopyType", 0), &terms);

    if (r == 0) {
        r = replica_terms_setting(call, "TargetSettingGoal", &terms);
    }
    if (r == 0) {
        r = path_volume(call, "SourceElement", args_text(call->args, "SourceElement"),
                        &pair.source);
    }
    if (r == 0 && pool_path != NULL) {
        r = path_pool(call, "TargetPool", pool_path, &pool);
    }
    if (r == 0) {
        r = check_name(call, "ElementName", pair.element_name);
    }
    if (r == 0) {
        r = pairs_complete(call, &terms, pool_path != NULL ? &pool : NULL, &pair);
    }
    if (r == 0) {
        r = replica_check_source(call, "SourceElement", &pair.source);
    }
    if (r == 0) {
        r = pairs_check_sharing(call, &pair, 0);
    }
    if (r == 0) {
        r = pairs_make(call, pool_path != NULL ? &pool : NULL, &pair, 1);
    }
    if (r < 0) {
        return r;
    }
    outs_path(call->outs, "TargetElement", "/volumes/%s", pair.target.head.id);
    return pairs_start(call, &terms, &pair, 1, pair.element_name);
}

int method_create_replica(struct call *call)
{
    return hosted_run(call, create_replica);
}

/* ---- one, by SyncType ---- */

/* Groups that a new target becomes a member of; only CreateElementReplica takes them. */
static int target_collections(struct call *call, struct group_row **ret_groups, size_t *ret_n)
{
    const struct value *paths = values_get(call->args, "Collections");
    struct group_row *groups = arena_alloc(&call->arena, (paths->n_items + 1) * sizeof(*groups));
    int r = 0;

    for (size_t i = 0; i < paths->n_items && r == 0; i++) {
        r = paths->items[i].present
                ? path_group(call, "Collections", paths->items[i].text, &groups[i])
                : call_fail_param(call, ERR_MISSING_PARAMETER, "Collections",
                                  "Collections[%zu] is null; each entry must name a group.", i);
    }
    *ret_groups = groups;
    *ret_n = paths->n_items;
    return r;
}

static int join_collections(struct call *call, const struct group_row *groups, size_t n,
                            const char *volume_id)
{
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i++) {
        r = group_add(call, "Collections", groups[i].head.id, volume_id);
    }
    return r;
}

static int create_element_replica(struct call *call)
{
    struct replica_terms terms;
    struct pool_row pool_row;
    const struct pool_row *pool = NULL;
    const char *target = args_text(call->args, "TargetElement");
    struct group_row *groups = NULL;
    size_t n_groups = 0;
    struct pair pair = {
        .allocate = target == NULL,
        .element_name = args_text(call->args, "ElementName"),
        .source_parameter = "SourceElement",
        .target_parameter = "TargetElement",
    };
    int r = pairs_terms(call, &terms);

    if (r == 0 && target != NULL) {
        r = pairs_refuse_with_targets(call, "TargetElement", "TargetSettingGoal");
    }
    if (r == 0 && target != NULL) {
        r = pairs_refuse_with_targets(call, "TargetElement", "TargetPool");
    }
    if (r == 0) {
        r = pairs_check_supplier(call, &terms, target != NULL, "TargetElement");
    }
    if (r == 0) {
        r = check_name(call, "ElementName", pair.element_name);
    }
    if (r == 0) {
        r = path_volume(call, "SourceElement", args_text(call->args, "SourceElement"),
                        &pair.source);
    }
    if (r == 0 && target != NULL) {
        r = path_volume(call, "TargetElement", target, &pair.target);
    }
    if (r == 0) {
        r = pairs_pool(call, &pool_row, &pool);
    }
    if (r == 0) {
        r = target_collections(call, &groups, &n_groups);
    }
    if (r == 0) {
        r = pairs_check(call, &terms, pool, &pair, 1);
    }
    if (r == 0) {
        r = pairs_create(call, pool, &pair, 1);
    }
    if (r == 0) {
        r = join_collections(call, groups, n_groups, pair.target.head.id);
    }
    if (r < 0) {
        return r;
    }
    outs_path(call->outs, "TargetElement", "/volumes/%s", pair.target.head.id);
    outs_path(call->outs, "Synchronization", "/synchronizations/%s", pair.sync.head.id);
    return pairs_start(call, &terms, &pair, 1, pair.element_name);
}

int method_create_element_replica(struct call *call)
{
    return hosted_run(call, create_element_replica);
}

/* ---- a list ---- */

static int list_counts(struct call *call, const struct replica_terms *terms, size_t *ret_n)
{
    const struct value *sources = values_get(call->args, "SourceElements");
    const struct value *targets = values_get(call->args, "TargetElements");
    const struct value *names = values_get(call->args, "ElementNames");
    size_t n = sources->n_items;

    if (n == 0) {
        return call_fail_param(call, ERR_BAD_VALUE, "SourceElements",
                               "SourceElements must name at least one volume.");
    }
    if (n > PAIRS_MAX) {
        return call_fail_param(call, ERR_BAD_VALUE, "SourceElements",
                               "A list has at most %d elements.", PAIRS_MAX);
    }
    if (names->present && names->n_items > n) {
        return call_fail_param(call, ERR_BAD_VALUE, "ElementNames",
                               "There are %zu names for %zu sources.", names->n_items, n);
    }
    if (targets->present && targets->n_items != n) {
        bool allowed = targets->n_items > 0 &&
                       ((terms->unequal_lists == UNEQUAL_SOURCE_LARGER && n > targets->n_items) ||
                        (terms->unequal_lists == UNEQUAL_TARGET_LARGER && n < targets->n_items));

        if (!allowed) {
            return call_fail_param(
                call, ERR_BAD_VALUE, "TargetElements",
                "There are %zu targets for %zu sources; "
                "ReplicationSettingData.UnequalListsAction can allow more sources "
                "(3) or more targets (4).",
                targets->n_items, n);
        }
        n = n < targets->n_items ? n : targets->n_items;
    }
    *ret_n = n;
    return 0;
}

/* The i-th entry, or NULL. */
static const char *item_text(const struct value *value, size_t i)
{
    return value->present && i < value->n_items && value->items[i].present ? value->items[i].text
                                                                           : NULL;
}

static int list_pair(struct call *call, size_t i, struct pair *pair)
{
    const char *source = item_text(values_get(call->args, "SourceElements"), i);
    const struct value *targets = values_get(call->args, "TargetElements");
    const char *name = item_text(values_get(call->args, "ElementNames"), i);
    int r;

    snprintf(pair->source_parameter, sizeof(pair->source_parameter), "SourceElements[%zu]", i);
    snprintf(pair->target_parameter, sizeof(pair->target_parameter), "TargetElements[%zu]", i);
    if (source == NULL) {
        return call_fail_param(call, ERR_MISSING_PARAMETER, pair->source_parameter,
                               "%s is null; each entry must name a volume.",
                               pair->source_parameter);
    }
    r = path_volume(call, pair->source_parameter, source, &pair->source);
    if (r < 0) {
        return r;
    }
    pair->allocate = !targets->present;
    if (targets->present) {
        const char *target = item_text(targets, i);

        if (target == NULL) {
            return call_fail_param(call, ERR_MISSING_PARAMETER, pair->target_parameter,
                                   "%s is null; each entry must name a volume.",
                                   pair->target_parameter);
        }
        return path_volume(call, pair->target_parameter, target, &pair->target);
    }
    if (name != NULL && name[0] != '\0') {
        char parameter[48];

        snprintf(parameter, sizeof(parameter), "ElementNames[%zu]", i);
        pair->element_name = name;
        return check_name(call, parameter, name);
    }
    return 0;
}

static int create_list_replica(struct call *call)
{
    struct replica_terms terms;
    struct pool_row pool_row;
    const struct pool_row *pool = NULL;
    bool targets_given = args_present(call->args, "TargetElements");
    size_t n = 0;
    int r = pairs_terms(call, &terms);

    if (r == 0 && targets_given) {
        static const char *const names[] = {"TargetSettingGoal", "TargetPool", "ElementNames"};

        for (size_t i = 0; i < ARRAY_LEN(names) && r == 0; i++) {
            r = pairs_refuse_with_targets(call, "TargetElements", names[i]);
        }
    }
    if (r == 0) {
        r = pairs_check_supplier(call, &terms, targets_given, "TargetElements");
    }
    if (r == 0) {
        r = list_counts(call, &terms, &n);
    }
    if (r < 0) {
        return r;
    }
    struct pair *pairs = arena_alloc(&call->arena, n * sizeof(*pairs));

    for (size_t i = 0; i < n && r == 0; i++) {
        r = list_pair(call, i, &pairs[i]);
    }
    if (r == 0) {
        r = pairs_check_same_target_twice(call, pairs, n);
    }
    if (r == 0) {
        r = pairs_pool(call, &pool_row, &pool);
    }
    if (r == 0) {
        r = pairs_check(call, &terms, pool, pairs, n);
    }
    if (r == 0 &&
        args_number(call->args, "Consistency", CONSISTENCY_NONE) == CONSISTENCY_SEQUENTIAL) {
        r = pairs_cut_together(call, "Consistency", pairs, n);
    } else if (r == 0 && terms.consistent_point_in_time && terms.start) {
        r = pairs_cut_together(call, "ReplicationSettingData.ConsistentPointInTime", pairs, n);
    }
    if (r == 0) {
        r = pairs_create(call, pool, pairs, n);
    }
    if (r < 0) {
        return r;
    }
    values_get(call->outs, "TargetElements")->n_items = 0;
    for (size_t i = 0; i < n; i++) {
        outs_add_text(call->outs, "TargetElements",
                      arena_printf(&call->arena, "/volumes/%s", pairs[i].target.head.id));
        outs_add_text(call->outs, "Synchronizations", path_of_sync(call, &pairs[i].sync));
    }
    return pairs_start(call, &terms, pairs, n, NULL);
}

int method_create_list_replica(struct call *call)
{
    return hosted_run(call, create_list_replica);
}
