// SPDX-License-Identifier: Apache-2.0
/*
 * Pools of remote LUNs (docs/decisions.md 5, 6). A pool is a set: a volume's pool_id says that it
 * is a member, allocated that it holds a replica. Both change here only, and where a replica is
 * made onto a member that the client named.
 */
#include "service/pools.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/control.h"
#include "service/file_pools.h"
#include "service/handlers.h"
#include "service/hosted.h"
#include "service/paths.h"
#include "service/volumes.h"

enum { EXTENTS_MAX = 100000 };

static int load_members(struct call *call, const char *pool_id, struct volume_row **ret_rows,
                        size_t *ret_n)
{
    struct condition where[] = {WHERE_TEXT("pool_id", pool_id), WHERE_END};
    void *rows = NULL;
    int r = table_load(call->db, &volume_table, where, &rows, ret_n);

    *ret_rows = rows;
    return r < 0 ? call_fail_store(call, r) : 0;
}

static int store_volume(struct call *call, const struct volume_row *volume)
{
    int r = table_update(call->db, &volume_table, volume);

    return r < 0 ? call_fail_store(call, r) : 0;
}

/* ---- CreateOrModifyStoragePool ---- */

static int refuse_unsupported(struct call *call, const char *parameter)
{
    if (!args_present(call->args, parameter)) {
        return 0;
    }
    return call_fail_param(call, ERR_NOT_SUPPORTED, parameter,
                           "%s is not supported: a pool is a set of LUNs of another system, given "
                           "as InExtents. Leave %s out.",
                           parameter, parameter);
}

/* What makes a LUN that is not in the pool yet unfit for it. */
static int check_new_member(struct call *call, const char *parameter,
                            const struct volume_row *volume)
{
    struct sync_row sync;
    char blocked_on[PATH_SIZE];

    if (volume->pool_id[0] != '\0') {
        snprintf(blocked_on, sizeof(blocked_on), "/pools/%s", volume->pool_id);
        return call_fail_blocked(call, ERR_IN_USE, blocked_on,
                                 "%s: /volumes/%s is in %s, and a LUN is in one pool at most. Take "
                                 "it out there first.",
                                 parameter, volume->head.id, blocked_on);
    }
    int r = volume_relationship(call->db, volume->head.id, &sync);

    if (r == 0) {
        snprintf(blocked_on, sizeof(blocked_on), "/synchronizations/%s", sync.head.id);
        return call_fail_blocked(call, ERR_IN_USE, blocked_on,
                                 "%s: /volumes/%s is part of %s. A pool takes LUNs that may be "
                                 "overwritten; end the relationship first (Detach).",
                                 parameter, volume->head.id, blocked_on);
    }
    return r == -ENOENT ? 0 : call_fail_store(call, r);
}

/* The volumes that InExtents names, as far as they can be in one pool together: pool_id is "" for a
 * new pool. */
static int load_extents(struct call *call, const char *pool_id, const struct volume_row **ret_rows,
                        size_t *ret_n)
{
    const struct value *extents = values_get(call->args, "InExtents");

    if (extents->n_items == 0 || extents->n_items > EXTENTS_MAX) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, "InExtents",
                               "InExtents must name from 1 to %d LUNs (/volumes/{id}); "
                               "DeleteStoragePool dissolves a pool.",
                               EXTENTS_MAX);
    }
    struct volume_row *rows = arena_alloc(&call->arena, extents->n_items * sizeof(*rows));

    for (size_t i = 0; i < extents->n_items; i++) {
        char parameter[48];
        struct volume_row *volume = &rows[i];

        snprintf(parameter, sizeof(parameter), "InExtents[%zu]", i);
        if (!extents->items[i].present) {
            return call_fail_param(call, ERR_INVALID_PARAMETER, parameter,
                                   "%s is null; it must be the path of a LUN (/volumes/{id}).",
                                   parameter);
        }
        int r = path_volume(call, parameter, extents->items[i].text, volume);

        if (r < 0) {
            return r;
        }
        if (volume->kind != VOLUME_REMOTE) {
            return call_fail_param(call, ERR_INVALID_PARAMETER, parameter,
                                   "%s: /volumes/%s is not a LUN of another system; only those can "
                                   "be put into a pool.",
                                   parameter, volume->head.id);
        }
        if (strcmp(volume->system_id, rows[0].system_id) != 0) {
            return call_fail_param(call, ERR_INVALID_PARAMETER, parameter,
                                   "%s: /volumes/%s belongs to /systems/%s and InExtents[0] to "
                                   "/systems/%s; all LUNs of a pool belong to one system. Make a "
                                   "pool for each system.",
                                   parameter, volume->head.id, volume->system_id,
                                   rows[0].system_id);
        }
        if (pool_id[0] == '\0' || strcmp(volume->pool_id, pool_id) != 0) {
            r = check_new_member(call, parameter, volume);
            if (r < 0) {
                return r;
            }
        }
    }
    *ret_rows = rows;
    *ret_n = extents->n_items;
    return 0;
}

static int by_id(const void *a, const void *b)
{
    const struct volume_row *const *x = a;
    const struct volume_row *const *y = b;

    return strcmp((*x)->head.id, (*y)->head.id);
}

/* Pointers to the rows, sorted by id; refuses one that is there twice. */
static int sort_extents(struct call *call, const struct volume_row *rows, size_t n,
                        const struct volume_row ***ret_sorted)
{
    const struct volume_row **sorted = arena_alloc(&call->arena, n * sizeof(*sorted));

    for (size_t i = 0; i < n; i++) {
        sorted[i] = &rows[i];
    }
    qsort(sorted, n, sizeof(*sorted), by_id);
    for (size_t i = 1; i < n; i++) {
        if (by_id(&sorted[i - 1], &sorted[i]) == 0) {
            const struct volume_row *later = sorted[i] > sorted[i - 1] ? sorted[i] : sorted[i - 1];
            char parameter[48];

            snprintf(parameter, sizeof(parameter), "InExtents[%zu]", (size_t)(later - rows));
            return call_fail_param(call, ERR_INVALID_PARAMETER, parameter,
                                   "%s: /volumes/%s is there twice; name each LUN once.", parameter,
                                   later->head.id);
        }
    }
    *ret_sorted = sorted;
    return 0;
}

static int members_replace(struct call *call, const struct pool_row *pool)
{
    const struct volume_row *wanted;
    const struct volume_row **sorted = NULL;
    struct volume_row *members = NULL;
    size_t n_wanted;
    size_t n_members = 0;
    int r = load_extents(call, pool->head.id, &wanted, &n_wanted);

    if (r == 0 && strcmp(wanted[0].system_id, pool->system_id) != 0) {
        r = call_fail_param(call, ERR_INVALID_PARAMETER, "InExtents",
                            "/pools/%s is of LUNs of /systems/%s; those given belong to "
                            "/systems/%s. Make another pool for them.",
                            pool->head.id, pool->system_id, wanted[0].system_id);
    }
    if (r == 0) {
        r = sort_extents(call, wanted, n_wanted, &sorted);
    }
    if (r == 0) {
        r = load_members(call, pool->head.id, &members, &n_members);
    }
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < n_members && r == 0; i++) {
        const struct volume_row *member = &members[i];

        if (bsearch(&member, sorted, n_wanted, sizeof(*sorted), by_id) != NULL) {
            continue;
        }
        if (member->allocated) {
            char blocked_on[PATH_SIZE];

            snprintf(blocked_on, sizeof(blocked_on), "/volumes/%s", member->head.id);
            r = call_fail_blocked(call, ERR_IN_USE, blocked_on,
                                  "%s holds a replica and cannot be taken out of the pool. Return "
                                  "it first (ReturnToStoragePool), or name it in InExtents.",
                                  blocked_on);
        } else {
            members[i].pool_id[0] = '\0';
            r = store_volume(call, member);
            if (r == 0) {
                r = volume_forget_if_unused(call, member->head.id);
            }
        }
    }
    free(members);
    for (size_t i = 0; i < n_wanted && r == 0; i++) {
        if (wanted[i].pool_id[0] == '\0') {
            struct volume_row volume = wanted[i];

            memcpy(volume.pool_id, pool->head.id, sizeof(volume.pool_id));
            volume.allocated = false;
            r = store_volume(call, &volume);
        }
    }
    return r;
}

static int pool_default_name(struct call *call, struct pool_row *pool)
{
    struct system_row system;
    int r = table_get(call->db, &system_table, pool->system_id, &system);
    uint64_t count = 1;

    if (r < 0) {
        return call_fail_store(call, r);
    }
    for (uint64_t n = 1; count > 0; n++) {
        snprintf(pool->element_name, sizeof(pool->element_name), "%.200s-pool-%llu",
                 system.element_name, (unsigned long long)n);
        struct condition where[] = {WHERE_TEXT("element_name", pool->element_name), WHERE_END};

        r = table_count(call->db, &pool_table, where, &count);
        if (r < 0) {
            return call_fail_store(call, r);
        }
    }
    return 0;
}

static int pool_create(struct call *call, struct pool_row *pool)
{
    const struct volume_row *wanted;
    size_t n_wanted;

    if (file_pool_wanted(call)) {
        return file_pool_create(call, pool);
    }

    if (!args_present(call->args, "InExtents")) {
        return call_fail_param(call, ERR_MISSING_PARAMETER, "InExtents",
                               "A new pool needs InExtents, the paths of the LUNs that it is made "
                               "of (/volumes/{id}), or, for a pool of files, a Size or a Goal "
                               "with a Directory. To change a pool, name it as Pool.");
    }
    int r = load_extents(call, "", &wanted, &n_wanted);

    if (r < 0) {
        return r;
    }
    pool->kind = POOL_REMOTE;
    pool->created_ms = control_now_ms(call->control);
    memcpy(pool->system_id, wanted[0].system_id, sizeof(pool->system_id));
    if (pool->element_name[0] == '\0') {
        r = pool_default_name(call, pool);
        if (r < 0) {
            return r;
        }
    }
    r = table_insert(call->db, &pool_table, pool);
    return r < 0 ? call_fail_store(call, r) : members_replace(call, pool);
}

static int pool_modify(struct call *call, const char *element_name, struct pool_row *pool)
{
    if (element_name[0] != '\0') {
        memcpy(pool->element_name, element_name, sizeof(pool->element_name));
        int r = table_update(call->db, &pool_table, pool);

        if (r < 0) {
            return call_fail_store(call, r);
        }
    }
    if (pool->kind == POOL_FILE) {
        return file_pool_modify(call, pool);
    }
    int r = refuse_unsupported(call, "Goal");

    if (r == 0) {
        r = refuse_unsupported(call, "Size");
    }
    if (r < 0 || !args_present(call->args, "InExtents")) {
        return r;
    }
    return members_replace(call, pool);
}

int method_create_or_modify_storage_pool(struct call *call)
{
    const char *path = args_text(call->args, "Pool");
    const char *name = args_text(call->args, "ElementName");
    char element_name[NAME_SIZE] = "";
    struct pool_row pool = {0};
    uint64_t total;
    uint64_t available;
    int r = refuse_unsupported(call, "InPools");

    if (r == 0 && args_present(call->args, "InExtents")) {
        r = refuse_unsupported(call, "Goal");
    }
    if (r == 0 && args_present(call->args, "InExtents")) {
        r = refuse_unsupported(call, "Size");
    }
    if (r == 0 && name != NULL) {
        r = text_take(call, "ElementName", name, element_name, ELEMENT_NAME_MAX + 1);
    }
    if (r < 0) {
        return r;
    }
    if (path == NULL) {
        memcpy(pool.element_name, element_name, sizeof(pool.element_name));
        r = pool_create(call, &pool);
    } else {
        r = path_pool(call, "Pool", path, &pool);
        if (r == 0) {
            r = pool_modify(call, element_name, &pool);
        }
    }
    if (r < 0) {
        return r;
    }
    if (pool.kind == POOL_FILE) {
        total = file_pool_size(call, &pool);
    } else {
        r = pool_capacity(call->db, pool.head.id, &total, &available);
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    outs_number(call->outs, "Size", total);
    outs_path(call->outs, "Pool", "/pools/%s", pool.head.id);
    return 0;
}

/* ---- DeleteStoragePool ---- */

int method_delete_storage_pool(struct call *call)
{
    struct pool_row pool;
    struct volume_row *members = NULL;
    size_t n = 0;
    int r = path_pool(call, "Pool", args_text(call->args, "Pool"), &pool);

    if (r == 0 && pool.kind == POOL_FILE) {
        return file_pool_delete(call, &pool);
    }
    if (r == 0) {
        r = load_members(call, pool.head.id, &members, &n);
    }
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        if (members[i].allocated) {
            char blocked_on[PATH_SIZE];

            snprintf(blocked_on, sizeof(blocked_on), "/volumes/%s", members[i].head.id);
            r = call_fail_blocked(call, ERR_IN_USE, blocked_on,
                                  "%s of this pool holds a replica. Return it first "
                                  "(ReturnToStoragePool), and the others that do, then delete the "
                                  "pool.",
                                  blocked_on);
        }
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        members[i].pool_id[0] = '\0';
        r = store_volume(call, &members[i]);
    }
    if (r == 0) {
        r = table_delete(call->db, &pool_table, pool.head.id);
        r = r < 0 ? call_fail_store(call, r) : 0;
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        r = volume_forget_if_unused(call, members[i].head.id);
    }
    free(members);
    return r;
}

/* ---- taking and giving back ---- */

/* What is free, for those who find nothing. */
struct free_summary {
    const struct volume_row *source;
    uint64_t n_free;
    uint64_t n_other_block_size;
    uint64_t largest;
};

static int summarize(void *arg, const void *row)
{
    const struct volume_row *volume = row;
    struct free_summary *summary = arg;

    if (volume->pool_id[0] == '\0' || volume->write_protected || volume->problem[0] != '\0') {
        return 0;
    }
    if (volume->block_bytes != summary->source->block_bytes) {
        summary->n_other_block_size++;
        return 0;
    }
    summary->n_free++;
    if (volume->size_bytes > summary->largest) {
        summary->largest = volume->size_bytes;
    }
    return 0;
}

static int nothing_fits(struct call *call, const char *parameter, const struct pool_row *pool,
                        const struct volume_row *source)
{
    struct free_summary summary = {.source = source};
    struct condition where[3] = {WHERE_NUM("allocated", 0)};
    char where_text[PATH_SIZE + 8];

    if (pool != NULL) {
        where[1] = WHERE_TEXT("pool_id", pool->head.id);
        snprintf(where_text, sizeof(where_text), "/pools/%s", pool->head.id);
    } else {
        snprintf(where_text, sizeof(where_text), "any pool");
    }
    int r = table_each(call->db, &volume_table, where, 0, 0, summarize, &summary);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    return call_fail_param(
        call, ERR_NO_SPACE, parameter,
        "No LUN of %s is free and has %llu bytes or more in blocks of %u. Free with such blocks: "
        "%llu, the largest of %llu bytes; with other blocks: %llu. Add LUNs to the pool "
        "(CreateOrModifyStoragePool), return replicas, or name a TargetElement.",
        where_text, (unsigned long long)source->size_bytes, source->block_bytes,
        (unsigned long long)summary.n_free, (unsigned long long)summary.largest,
        (unsigned long long)summary.n_other_block_size);
}

static bool is_among(const struct volume_row *volume, const struct volume_row *const *others,
                     size_t n_others)
{
    for (size_t i = 0; i < n_others; i++) {
        if (volume_same_lun(others[i], volume)) {
            return true;
        }
    }
    return false;
}

static int alias_seen(void *arg, const void *row)
{
    (void)arg;
    (void)row;
    return 1;
}

static bool has_aliases(struct call *call, const struct volume_row *volume)
{
    return volume_each_alias(call->db, volume, alias_seen, NULL) != 0;
}

struct find_fitting {
    struct call *call;
    const struct volume_row *source;
    const struct volume_row *const *already;
    size_t n_already;
    bool found;
    struct volume_row best;
};

static int alias_related(void *arg, const void *row)
{
    const struct volume_row *alias = row;
    struct sync_row sync;
    int r = volume_relationship(arg, alias->head.id, &sync);

    return r == -ENOENT ? 0 : r == 0 ? 1 : r;
}

static int consider(void *arg, const void *row)
{
    const struct volume_row *volume = row;
    struct find_fitting *find = arg;
    struct sync_row sync;

    if (volume->pool_id[0] == '\0' || volume->size_bytes < find->source->size_bytes ||
        volume->block_bytes != find->source->block_bytes || volume->write_protected ||
        volume->problem[0] != '\0' || volume->kind != VOLUME_REMOTE ||
        volume_same_lun(volume, find->source) ||
        (find->found && volume->size_bytes >= find->best.size_bytes) ||
        is_among(volume, find->already, find->n_already)) {
        return 0;
    }
    int r = volume_relationship(find->call->db, volume->head.id, &sync);

    if (r == -ENOENT &&
        volume_each_alias(find->call->db, volume, alias_related, find->call->db) == 0) {
        find->found = true;
        find->best = *volume;
        return 0;
    }
    return r == -ENOENT ? 0 : r;
}

/* volume_find_free() knows nothing of the call's other targets: when it comes with one of them, all
 * are looked at. */
static int find_fitting(struct call *call, const struct pool_row *pool,
                        const struct volume_row *source, const struct volume_row *const *already,
                        size_t n_already, struct volume_row *ret_volume)
{
    struct find_fitting find = {
        .call = call, .source = source, .already = already, .n_already = n_already};
    struct condition where[3] = {WHERE_NUM("allocated", 0)};
    int r = volume_find_free(call->db, pool == NULL ? "" : pool->head.id, source->size_bytes,
                             source->block_bytes, source->head.id, ret_volume);

    if (r < 0 || (!is_among(ret_volume, already, n_already) &&
                  !volume_same_lun(ret_volume, source) && !has_aliases(call, ret_volume))) {
        return r;
    }
    if (pool != NULL) {
        where[1] = WHERE_TEXT("pool_id", pool->head.id);
    }
    r = table_each(call->db, &volume_table, where, 0, 0, consider, &find);
    if (r == 0 && !find.found) {
        r = -ENOENT;
    }
    if (r == 0) {
        *ret_volume = find.best;
    }
    return r;
}

int pool_take(struct call *call, const char *parameter, const struct pool_row *pool,
              const struct volume_row *source, const char *element_name,
              const struct volume_row *const *already, size_t n_already,
              struct volume_row *ret_volume)
{
    struct volume_row volume;
    int r;

    if (pool != NULL && pool->kind != POOL_REMOTE) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, parameter,
                               "/pools/%s is not a pool of LUNs of another system, and only those "
                               "can give a target.",
                               pool->head.id);
    }
    r = find_fitting(call, pool, source, already, n_already, &volume);
    if (r == -ENOENT) {
        return nothing_fits(call, parameter, pool, source);
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    if (element_name != NULL) {
        r = text_take(call, "ElementName", element_name, volume.element_name,
                      sizeof(volume.element_name));
    } else {
        char base[NAME_SIZE];

        snprintf(base, sizeof(base), "%.*s-replica", NAME_SIZE - 40, source->element_name);
        r = volume_unique_name(call, base, true, volume.element_name);
    }
    if (r == 0) {
        volume.allocated = true;
        r = store_volume(call, &volume);
    }
    if (r == 0) {
        *ret_volume = volume;
    }
    return r;
}

int pool_give_back(struct call *call, struct volume_row *volume)
{
    if (volume->kind == VOLUME_HOSTED) {
        return hosted_delete(call, volume);
    }
    if (volume->pool_id[0] == '\0' || !volume->allocated) {
        return 0;
    }
    if (!volume_has_system_name(volume)) {
        int r = volume_system_name(call, volume->iqn, volume->lun, volume->element_name);

        if (r < 0) {
            return r;
        }
    }
    volume->allocated = false;
    return store_volume(call, volume);
}

int method_return_to_storage_pool(struct call *call)
{
    struct volume_row volume;
    int r = path_volume(call, "TheElement", args_text(call->args, "TheElement"), &volume);

    if (r < 0) {
        return r;
    }
    if (volume.pool_id[0] == '\0') {
        return call_fail_param(call, ERR_NOT_FROM_A_POOL, "TheElement",
                               "/volumes/%s is in no pool, so there is nothing to return it to. "
                               "DELETE /volumes/%s forgets the LUN; its data stays.",
                               volume.head.id, volume.head.id);
    }
    if (!volume.allocated) {
        return call_fail_param(call, ERR_ILLEGAL_STATE, "TheElement",
                               "/volumes/%s holds no replica: it is free in /pools/%s already.",
                               volume.head.id, volume.pool_id);
    }
    r = volume_filling_stop(call, volume.head.id, ERR_IN_USE, method_return_to_storage_pool);
    if (r != 0) {
        return r;
    }
    r = volume_end_relationships(call, volume.head.id, ERR_IN_USE);
    return r < 0 ? r : pool_give_back(call, &volume);
}
