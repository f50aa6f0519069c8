// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/group_states.h"
#include "service/groups.h"
#include "service/handlers.h"
#include "service/paths.h"
#include "service/replica.h"
#include "service/replica_states.h"

enum { RELATIONSHIP_OF_GROUPS = 3 };

struct relationship_walk {
    struct call *call;
    uint32_t locality; /* 0: any */
};

static int add_relationship(void *arg, const void *row)
{
    struct relationship_walk *walk = arg;
    const struct sync_row *sync = row;

    if (walk->locality == 0 || (walk->locality == 3) == sync->remote) {
        outs_add_text(walk->call->outs, "Synchronizations", path_of_sync(walk->call, sync));
    }
    return 0;
}

/* Remote: one of its pairs is. */
static int add_group_relationship(struct relationship_walk *walk,
                                  const struct group_sync_row *group_sync)
{
    struct call *call = walk->call;
    uint64_t copy_state = args_number(call->args, "CopyState", 0);
    struct sync_row *pairs;
    bool remote = false;
    size_t n;
    int r = group_sync_pairs(call, group_sync->head.id, &pairs, &n);

    for (size_t i = 0; i < n && r == 0; i++) {
        remote = remote || pairs[i].remote;
    }
    if (r < 0 || (walk->locality != 0 && (walk->locality == 3) != remote) ||
        (copy_state != 0 && group_state_of(group_sync, pairs, n).copy_state != copy_state)) {
        return r;
    }
    outs_add_text(call->outs, "Synchronizations",
                  arena_printf(&call->arena, "/groupsynchronizations/%s", group_sync->head.id));
    return 0;
}

static int group_relationships(struct relationship_walk *walk)
{
    struct call *call = walk->call;
    uint64_t sync_type = args_number(call->args, "SyncType", 0);
    uint64_t mode = args_number(call->args, "Mode", 0);
    struct group_sync_row *rows = NULL;
    size_t n = 0;
    int r = table_load(call->db, &group_sync_table, NULL, (void **)&rows, &n);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        if ((sync_type == 0 || rows[i].sync_type == sync_type) &&
            (mode == 0 || rows[i].mode == mode)) {
            r = add_group_relationship(walk, &rows[i]);
        }
    }
    free(rows);
    return r;
}

int method_get_replication_relationships(struct call *call)
{
    static const struct {
        const char *parameter;
        const char *column;
    } filters[] = {{"SyncType", "sync_type"}, {"Mode", "mode"}, {"CopyState", "copy_state"}};
    struct condition where[ARRAY_LEN(filters) + 1];
    struct relationship_walk walk = {
        .call = call,
        .locality = (uint32_t)args_number(call->args, "Locality", 0),
    };
    size_t n = 0;
    uint64_t type = args_number(call->args, "Type", 0);

    outs_array(call->outs, "Synchronizations");
    if (type == RELATIONSHIP_OF_GROUPS) {
        return group_relationships(&walk);
    }
    for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
        if (args_present(call->args, filters[i].parameter)) {
            where[n++] =
                WHERE_NUM(filters[i].column, args_number(call->args, filters[i].parameter, 0));
        }
    }
    where[n] = WHERE_END;
    int r = table_each(call->db, &sync_table, where, 0, 0, add_relationship, &walk);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    return type == 0 ? group_relationships(&walk) : 0;
}

/* ---- candidates ---- */

static int in_relationship(struct call *call, const char *volume_id, bool *ret_is)
{
    static const char *const columns[] = {"source_id", "target_id"};

    *ret_is = false;
    for (size_t i = 0; i < ARRAY_LEN(columns) && !*ret_is; i++) {
        struct condition where[] = {WHERE_TEXT(columns[i], volume_id), WHERE_END};
        uint64_t n;
        int r = table_count(call->db, &sync_table, where, &n);

        if (r < 0) {
            return call_fail_store(call, r);
        }
        *ret_is = n > 0;
    }
    return 0;
}

static int by_size(const void *a, const void *b)
{
    const struct volume_row *x = a;
    const struct volume_row *y = b;

    if (x->size_bytes != y->size_bytes) {
        return x->size_bytes < y->size_bytes ? -1 : 1;
    }
    return x->head.seq < y->head.seq ? -1 : 1;
}

/* TargetPools as ids, for comparing. */
static int wanted_pools(struct call *call, struct pool_row **ret_pools, size_t *ret_n)
{
    const struct value *paths = values_get(call->args, "TargetPools");
    struct pool_row *pools = arena_alloc(&call->arena, (paths->n_items + 1) * sizeof(*pools));

    for (size_t i = 0; i < paths->n_items; i++) {
        char parameter[48];

        snprintf(parameter, sizeof(parameter), "TargetPools[%zu]", i);
        if (!paths->items[i].present) {
            return call_fail_param(call, ERR_MISSING_PARAMETER, parameter, "%s is null.",
                                   parameter);
        }
        int r = path_pool(call, parameter, paths->items[i].text, &pools[i]);

        if (r < 0) {
            return r;
        }
    }
    *ret_pools = pools;
    *ret_n = paths->n_items;
    return 0;
}

/* A LUN of another system that is free in its pool, or a hosted volume; for shared layers, one beside the source. */
static bool suits_terms(const struct volume_row *volume, const struct volume_row *source,
                        const struct replica_terms *terms)
{
    bool must_share = terms->sync_type == SYNC_SNAPSHOT ||
                      terms->desired_methodology == METHODOLOGY_COPY_ON_WRITE;

    if (terms->desired_methodology == METHODOLOGY_COPY_ON_ACCESS) {
        return volume->kind == VOLUME_HOSTED && source->kind == VOLUME_REMOTE;
    }
    if (volume->kind != VOLUME_HOSTED) {
        return !must_share && !volume->allocated;
    }
    return !must_share || replica_can_share(source, volume->pool_id);
}

static bool is_candidate(const struct volume_row *volume, const struct volume_row *source,
                         const struct replica_terms *terms,
                         const struct access_point_row *access_point, bool any_pool,
                         const struct pool_row *pools, size_t n_pools)
{
    bool in_pool = any_pool;

    for (size_t i = 0; i < n_pools; i++) {
        in_pool = in_pool || strcmp(volume->pool_id, pools[i].head.id) == 0;
    }
    return in_pool && strcmp(volume->head.id, source->head.id) != 0 &&
           volume->size_bytes >= source->size_bytes && !volume->write_protected &&
           suits_terms(volume, source, terms) && volume->problem[0] == '\0' &&
           (access_point == NULL || strcmp(volume->system_id, access_point->system_id) == 0);
}

int method_get_available_target_elements(struct call *call)
{
    struct replica_terms terms;
    struct volume_row source;
    struct access_point_row access_point_row;
    const struct access_point_row *access_point = NULL;
    const char *access_point_path = args_text(call->args, "TargetAccessPoint");
    uint64_t max = args_number(call->args, "MaxElementCount", UINT64_MAX);
    struct pool_row *pools = NULL;
    size_t n_pools = 0;
    struct volume_row *volumes = NULL;
    size_t n = 0;
    uint64_t found = 0;
    int r = replica_terms_of_sync_type(call, (uint32_t)args_number(call->args, "SyncType", 0),
                                       (uint32_t)args_number(call->args, "Mode", 0), &terms);

    if (r == 0) {
        r = path_volume(call, "SourceElement", args_text(call->args, "SourceElement"), &source);
    }
    if (r == 0) {
        r = replica_terms_setting(call, "TargetSettingGoal", &terms);
    }
    if (r == 0) {
        r = replica_terms_setting_data(call, "ReplicationSettingData", &terms);
    }
    if (r == 0) {
        struct replica_ends ends = {.source = &source, .source_parameter = "SourceElement"};

        r = replica_terms_complete(call, &ends, &terms);
    }
    if (r == 0 && access_point_path != NULL) {
        r = path_access_point(call, "TargetAccessPoint", access_point_path, &access_point_row);
        access_point = &access_point_row;
    }
    if (r == 0 && max == 0) {
        r = call_fail_param(call, ERR_BAD_VALUE, "MaxElementCount",
                            "MaxElementCount must be at least 1, or left out.");
    }
    if (r == 0) {
        r = wanted_pools(call, &pools, &n_pools);
    }
    if (r < 0) {
        return r;
    }
    r = table_load(call->db, &volume_table, NULL, (void **)&volumes, &n);
    if (r < 0) {
        return call_fail_store(call, r);
    }
    qsort(volumes, n, sizeof(*volumes), by_size);
    outs_array(call->outs, "Candidates");
    for (size_t i = 0; i < n && r == 0 && found < max; i++) {
        bool related;

        if (is_candidate(&volumes[i], &source, &terms, access_point,
                         !args_present(call->args, "TargetPools"), pools, n_pools)) {
            r = in_relationship(call, volumes[i].head.id, &related);
            if (r == 0 && !related) {
                outs_add_text(call->outs, "Candidates",
                              arena_printf(&call->arena, "/volumes/%s", volumes[i].head.id));
                found++;
            }
        }
    }
    free(volumes);
    return r;
}
