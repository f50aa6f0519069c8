// SPDX-License-Identifier: Apache-2.0
#include "service/volumes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/exports.h"
#include "service/groups.h"
#include "service/handlers.h"
#include "service/hosted.h"
#include "service/jobs.h"
#include "service/pipes.h"
#include "service/portals.h"
#include "service/replica.h"

int text_take(struct call *call, const char *parameter, const char *text, char *ret_text,
              size_t size)
{
    size_t len = strlen(text);

    if (len == 0) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, parameter,
                               "%s is empty; give a text, or leave it out.", parameter);
    }
    if (len >= size) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, parameter,
                               "%s has %zu bytes, but at most %zu are kept.", parameter, len,
                               size - 1);
    }
    memcpy(ret_text, text, len + 1);
    return 0;
}

void text_cut(const char *text, char *ret_text, size_t size)
{
    size_t len = strnlen(text, size - 1);

    while (len > 0 && text[len] != '\0' && ((unsigned char)text[len] & 0xc0) == 0x80) {
        len--;
    }
    memcpy(ret_text, text, len);
    ret_text[len] = '\0';
}

/* ---- names ---- */

static void name_make(const char *base, bool numbered, uint64_t n, char ret_name[NAME_SIZE])
{
    /* Room for the number; not in the middle of a UTF-8 sequence. */
    size_t len = strnlen(base, NAME_SIZE - 1 - 21);

    while (len > 0 && base[len] != '\0' && ((unsigned char)base[len] & 0xc0) == 0x80) {
        len--;
    }
    memset(ret_name, 0, NAME_SIZE);
    if (n == 1 && !numbered) {
        snprintf(ret_name, NAME_SIZE, "%.*s", (int)len, base);
    } else {
        snprintf(ret_name, NAME_SIZE, "%.*s-%" PRIu64, (int)len, base, n);
    }
}

/* 1: taken, 0: free. */
static int name_taken(struct call *call, const char *name)
{
    struct condition where[] = {WHERE_TEXT("element_name", name), WHERE_END};
    uint64_t count = 0;
    int r = table_count(call->db, &volume_table, where, &count);

    return r < 0 ? call_fail_store(call, r) : count > 0;
}

int volume_unique_name(struct call *call, const char *base, bool numbered, char ret_name[NAME_SIZE])
{
    uint64_t taken = 0;
    uint64_t n = 1;
    int r;

    /* Doubling, then halving: thousands of replicas of one source are no thousands of questions. */
    for (;; n *= 2) {
        name_make(base, numbered, n, ret_name);
        r = name_taken(call, ret_name);
        if (r <= 0) {
            break;
        }
        taken = n;
    }
    while (r >= 0 && taken + 1 < n) {
        uint64_t middle = taken + (n - taken) / 2;
        char name[NAME_SIZE];

        name_make(base, numbered, middle, name);
        r = name_taken(call, name);
        if (r == 0) {
            n = middle;
            memcpy(ret_name, name, sizeof(name));
        } else {
            taken = middle;
        }
    }
    return r < 0 ? r : 0;
}

static void system_name_base(const char *iqn, uint64_t lun, char *ret_base, size_t size)
{
    const char *colon = strrchr(iqn, ':');

    snprintf(ret_base, size, "%s-lun%" PRIu64, colon != NULL && colon[1] != '\0' ? colon + 1 : iqn,
             lun);
}

int volume_system_name(struct call *call, const char *iqn, uint64_t lun, char ret_name[NAME_SIZE])
{
    char base[NAME_SIZE + 32];

    system_name_base(iqn, lun, base, sizeof(base));
    return volume_unique_name(call, base, false, ret_name);
}

bool volume_has_system_name(const struct volume_row *volume)
{
    char base[NAME_SIZE + 32];

    system_name_base(volume->iqn, volume->lun, base, sizeof(base));
    size_t len = strlen(base);
    const char *rest = volume->element_name + len;

    return strncmp(volume->element_name, base, len) == 0 &&
           (rest[0] == '\0' ||
            (rest[0] == '-' && rest[1 + strspn(rest + 1, "0123456789")] == '\0'));
}

/* ---- relationships ---- */

bool identity_is_worldwide(const char *identity)
{
    static const char *const prefixes[] = {"naa.5", "naa.6", "eui."};

    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        size_t len = strlen(prefixes[i]);

        if (strncmp(identity, prefixes[i], len) == 0) {
            return strncmp(identity + len, "000000", 6) != 0;
        }
    }
    return false;
}

bool volume_same_lun(const struct volume_row *a, const struct volume_row *b)
{
    if (strcmp(a->head.id, b->head.id) == 0) {
        return true;
    }
    return a->identity[0] != '\0' && strcmp(a->identity, b->identity) == 0 &&
           (identity_is_worldwide(a->identity) || strcmp(a->system_id, b->system_id) == 0 ||
            (strcmp(a->iqn, b->iqn) == 0 && a->lun == b->lun));
}

struct alias_walk {
    const struct volume_row *volume;
    table_row_fn fn;
    void *arg;
};

static int alias_row(void *arg, const void *row)
{
    const struct alias_walk *walk = arg;
    const struct volume_row *other = row;

    if (strcmp(other->head.id, walk->volume->head.id) == 0 ||
        !volume_same_lun(walk->volume, other)) {
        return 0;
    }
    return walk->fn(walk->arg, other);
}

int volume_each_alias(struct db *db, const struct volume_row *volume, table_row_fn fn, void *arg)
{
    struct alias_walk walk = {.volume = volume, .fn = fn, .arg = arg};
    struct condition where[] = {WHERE_TEXT("identity", volume->identity), WHERE_END};

    return volume->identity[0] == '\0' ? 0
                                       : table_each(db, &volume_table, where, 0, 0, alias_row, &walk);
}

int volume_relationship(struct db *db, const char *volume_id, struct sync_row *ret_sync)
{
    struct condition as_target[] = {WHERE_TEXT("target_id", volume_id), WHERE_END};
    struct condition as_source[] = {WHERE_TEXT("source_id", volume_id), WHERE_END};
    int r = table_find(db, &sync_table, as_target, ret_sync);

    return r == -ENOENT ? table_find(db, &sync_table, as_source, ret_sync) : r;
}

/* What is not filled yet cannot be without its source, and what was made of it not without it. */
static int filling_at_rest(struct call *call, const char *volume_id, const struct sync_row *sync,
                           enum error_code code)
{
    char other_id[ID_SIZE];
    char path[PATH_SIZE];
    struct volume_row target;
    struct layer_row oldest;

    if (replica_engine_of(sync) != ENGINE_FILL) {
        return 0;
    }
    int r = table_get(call->db, &volume_table, sync->target_id, &target);

    if (r == 0) {
        r = hosted_filling(call->db, &target, &oldest);
    }
    if (r <= 0) {
        return r < 0 && r != -ENOENT ? call_fail_store(call, r) : 0;
    }
    if (strcmp(sync->source_id, volume_id) == 0) {
        snprintf(path, sizeof(path), "/synchronizations/%s", sync->head.id);
        return call_fail_blocked(call, code, path,
                                 "/volumes/%s is still filled from /volumes/%s, and what it has not got "
                                 "yet is nowhere else. Wait until %s is Synchronized (Resync goes on "
                                 "where it has stopped), or return the clone to its pool.",
                                 sync->target_id, volume_id, path);
    }
    r = hosted_fill_others(call, &target, other_id);
    if (r != 1) {
        return r;
    }
    snprintf(path, sizeof(path), "/volumes/%s", other_id);
    return call_fail_blocked(call, code, path,
                             "%s was made of /volumes/%s before that was filled from its source, and "
                             "gets its data with it. Wait until it is filled (Resync goes on where it "
                             "has stopped), or delete %s first.",
                             path, volume_id, path);
}

int volume_filling_stop(struct call *call, const char *volume_id, enum error_code code,
                        method_fn again)
{
    struct condition where[] = {WHERE_TEXT("target_id", volume_id),
                                WHERE_NUM("copy_methodology", METHODOLOGY_COPY_ON_ACCESS),
                                WHERE_END};
    struct sync_row sync;
    struct volume_row volume;
    struct layer_row oldest;
    int r = table_find(call->db, &sync_table, where, &sync);

    if (r == 0) {
        r = table_get(call->db, &volume_table, volume_id, &volume);
    }
    if (r == 0) {
        r = hosted_filling(call->db, &volume, &oldest);
    }
    if (r <= 0) {
        return r < 0 && r != -ENOENT ? call_fail_store(call, r) : 0;
    }
    /* What would refuse it anyway comes before anything is stopped. */
    r = filling_at_rest(call, volume_id, &sync, code);
    if (r == 0) {
        r = exports_volume_in_use(call, volume_id);
    }
    return r < 0 ? r : sync_copy_stop(call, sync.head.id, again);
}

static int relationships_at_rest(struct call *call, const char *volume_id, const char *column,
                                 enum error_code code)
{
    struct condition where[] = {WHERE_TEXT(column, volume_id), WHERE_END};
    void *rows = NULL;
    size_t n = 0;
    int r = table_load(call->db, &sync_table, where, &rows, &n);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        const struct sync_row *sync = (const struct sync_row *)rows + i;
        struct copy_row copy;

        r = filling_at_rest(call, volume_id, sync, code);
        if (r == 0 && (replica_mirror_connected(sync) || sync->source_incomplete) &&
            replica_is_mirror(sync)) {
            char blocked_on[PATH_SIZE];

            snprintf(blocked_on, sizeof(blocked_on), "/synchronizations/%s", sync->head.id);
            r = call_fail_blocked(call, code, blocked_on,
                                  "/volumes/%s is %s the mirror %s. End that first (Detach), or split "
                                  "it (Fracture, Split, Suspend).",
                                  volume_id, column[0] == 't' ? "the target of" : "the source of",
                                  blocked_on);
        }
        if (r < 0) {
            break;
        }
        if (replica_is_mirror(sync)) {
            continue;
        }

        r = sync_running_copy(call->db, sync->head.id, &copy);
        if (r == 0) {
            char blocked_on[PATH_SIZE];

            snprintf(blocked_on, sizeof(blocked_on), "/jobs/%s", copy.job_id);
            r = call_fail_blocked(call, code, blocked_on,
                                  "/volumes/%s is %s a copy that is under way. Wait for %s, or "
                                  "terminate it (RequestStateChange, 4), and try again.",
                                  volume_id, column[0] == 't' ? "the target of" : "the source of",
                                  blocked_on);
        } else {
            r = r == -ENOENT ? 0 : call_fail_store(call, r);
        }
    }
    free(rows);
    return r;
}

static int relationships_end(struct call *call, const char *volume_id, const char *column)
{
    struct condition where[] = {WHERE_TEXT(column, volume_id), WHERE_END};
    struct sync_row sync;
    int r;

    while ((r = table_find(call->db, &sync_table, where, &sync)) == 0) {
        const char *partner =
            strcmp(sync.source_id, volume_id) == 0 ? sync.target_id : sync.source_id;

        r = table_delete(call->db, &sync_table, sync.head.id);
        if (r < 0) {
            break;
        }
        r = group_pair_gone(call, &sync);
        if (r < 0) {
            return r;
        }
        /* The volume itself goes; a target of it stays. */
        if (strcmp(sync.target_id, volume_id) != 0 || replica_is_mirror(&sync)) {
            r = replica_ended(call, &sync);
            if (r < 0) {
                return r;
            }
        }
        r = volume_forget_if_unused(call, partner);
        if (r < 0) {
            return r;
        }
    }
    return r == -ENOENT ? 0 : call_fail_store(call, r);
}

int volume_end_relationships(struct call *call, const char *volume_id, enum error_code code)
{
    int r = relationships_at_rest(call, volume_id, "target_id", code);

    if (r == 0) {
        r = relationships_at_rest(call, volume_id, "source_id", code);
    }
    if (r == 0) {
        r = relationships_end(call, volume_id, "target_id");
    }
    if (r == 0) {
        r = relationships_end(call, volume_id, "source_id");
    }
    return r;
}

/* ---- the end of a record ---- */

/* A portal that came with a LUN goes with the last one. */
static int portal_forget_if_unused(struct call *call, const char *access_point_id)
{
    struct condition where[] = {WHERE_TEXT("access_point_id", access_point_id), WHERE_END};
    struct access_point_row row;
    uint64_t n_volumes = 0;
    uint64_t n_secrets = 0;
    uint64_t n_pipes = 0;
    int r = table_get(call->db, &access_point_table, access_point_id, &row);

    if (r == -ENOENT || (r == 0 && row.registered)) {
        return 0;
    }
    if (r == 0) {
        r = table_count(call->db, &volume_table, where, &n_volumes);
    }
    if (r == 0) {
        r = table_count(call->db, &secret_table, where, &n_secrets);
    }
    if (r == 0) {
        r = pipe_count_users(call->db, access_point_id, &n_pipes);
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    if (n_volumes == 0 && n_secrets == 0 && n_pipes == 0) {
        /* Others of its system may have LUNs that can be reached by it. */
        struct condition of_system[] = {WHERE_TEXT("system_id", row.system_id), WHERE_END};

        r = table_count(call->db, &volume_table, of_system, &n_volumes);
        if (r < 0) {
            return call_fail_store(call, r);
        }
        return n_volumes == 0 ? portal_forget(call, &row) : 0;
    }
    return 0;
}

int volume_forget(struct call *call, const struct volume_row *volume)
{
    int r = group_volume_leaves(call, volume->head.id);

    if (r < 0) {
        return r;
    }
    r = table_delete(call->db, &volume_table, volume->head.id);
    if (r < 0) {
        return call_fail_store(call, r);
    }
    return portal_forget_if_unused(call, volume->access_point_id);
}

int volume_forget_if_unused(struct call *call, const char *volume_id)
{
    struct volume_row volume;
    struct sync_row sync;
    int r = table_get(call->db, &volume_table, volume_id, &volume);

    if (r == -ENOENT) {
        return 0;
    }
    if (r == 0) {
        if (volume.persistent || volume.pool_id[0] != '\0') {
            return 0;
        }
        r = volume_relationship(call->db, volume_id, &sync);
    }
    if (r == -ENOENT) {
        return volume_forget(call, &volume);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

static int collect_transient(void *arg, const void *row)
{
    const struct volume_row *volume = row;
    struct strbuf *ids = arg;

    if (!volume->persistent) {
        strbuf_add(ids, volume->head.id, ID_SIZE);
    }
    return 0;
}

int volumes_forget_unused(struct call *call)
{
    struct strbuf ids = STRBUF_INIT;
    int r = table_each(call->db, &volume_table, NULL, 0, 0, collect_transient, &ids);

    if (r == 0) {
        r = strbuf_error(&ids);
    }
    if (r < 0) {
        r = call_fail_store(call, r);
    }
    for (size_t at = 0; r == 0 && at < ids.len; at += ID_SIZE) {
        r = volume_forget_if_unused(call, ids.data + at);
    }
    strbuf_fini(&ids);
    return r;
}

/* ---- DELETE /volumes/{id} ---- */

int method_delete_volume(struct call *call)
{
    struct volume_row volume;
    int r = table_get(call->db, &volume_table, call->object_id, &volume);

    if (r == -ENOENT) {
        return call_fail(call, ERR_NOT_FOUND,
                         "There is no /volumes/%s. GET /volumes lists what there is.",
                         call->object_id);
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    if (volume.kind == VOLUME_HOSTED) {
        r = volume_filling_stop(call, volume.head.id, ERR_CONFLICT, method_delete_volume);
        if (r != 0) {
            return r;
        }
        r = volume_end_relationships(call, volume.head.id, ERR_CONFLICT);
        return r < 0 ? r : hosted_delete(call, &volume);
    }
    if (volume.pool_id[0] != '\0') {
        char blocked_on[PATH_SIZE];

        snprintf(blocked_on, sizeof(blocked_on), "/pools/%s", volume.pool_id);
        return call_fail_blocked(call, ERR_CONFLICT, blocked_on,
                                 "/volumes/%s is in %s. Take it out of the pool first "
                                 "(CreateOrModifyStoragePool with the other LUNs as InExtents, or "
                                 "DeleteStoragePool).",
                                 volume.head.id, blocked_on);
    }
    r = volume_end_relationships(call, volume.head.id, ERR_CONFLICT);
    return r < 0 ? r : volume_forget(call, &volume);
}
