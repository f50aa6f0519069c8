// SPDX-License-Identifier: Apache-2.0
/*
 * What is done to hosted volumes, as changes of rows. Each function here is: rows in the call's transaction, and the effects
 * that follow the commit in the order in which they are asked for (docs/design/hosted.md).
 */
#include "service/hosted.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/exports.h"
#include "service/groups.h"
#include "service/hosted_private.h"
#include "service/mirror_records.h"
#include "service/volumes.h"
#include "store/cycle.h"
#include "store/job.h"
#include "store/system.h"

static int volume_store(struct call *call, const struct volume_row *volume)
{
    int r = table_update(call->db, &volume_table, volume);

    return r < 0 ? call_fail_store(call, r) : 0;
}

/* ---- layers ---- */

int layer_children(struct db *db, const char *layer_id, uint64_t *ret_n)
{
    struct condition where[] = {WHERE_TEXT("parent_id", layer_id), WHERE_END};

    return table_count(db, &layer_table, where, ret_n);
}

int hosted_chain(struct call *call, const char *top_layer_id, struct array_layer **ret_layers,
                 size_t *ret_n, struct layer_row *ret_oldest)
{
    struct layer_row *rows;
    size_t n;
    int r = layer_chain(call->db, top_layer_id, &rows, &n);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    struct array_layer *layers = arena_alloc(&call->arena, n * sizeof(*layers));

    for (size_t i = 0; i < n; i++) {
        memset(&layers[i], 0, sizeof(layers[i]));
        strcpy(layers[i].id, rows[i].head.id);
        strcpy(layers[i].pool_id, rows[i].pool_id);
        layers[i].size_bytes = rows[i].size_bytes;
    }
    *ret_oldest = n > 0 ? rows[0] : (struct layer_row){0};
    free(rows);
    *ret_layers = layers;
    *ret_n = n;
    return 0;
}

/* A new, oldest layer: what it does not have yet is in the LUN. */
static int layer_above_lun(struct call *call, const struct volume_row *source,
                           struct layer_row *layer)
{
    strcpy(layer->bottom_volume_id, source->head.id);
    layer->bottom_bytes =
        source->size_bytes < layer->size_bytes ? source->size_bytes : layer->size_bytes;
    int r = table_update(call->db, &layer_table, layer);

    return r < 0 ? call_fail_store(call, r) : 0;
}

int hosted_check_depth(struct call *call, const struct volume_row *volume)
{
    struct layer_row *rows;
    size_t n;
    int r = layer_chain(call->db, volume->top_layer_id, &rows, &n);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    free(rows);
    if (n >= HOSTED_MAX_LAYERS) {
        return call_fail(call, ERR_LIMIT_REACHED,
                         "/volumes/%s has %zu points in time below it, as many as a volume may "
                         "have. Delete some of its snapshots or clones first.",
                         volume->head.id, n - 1);
    }
    return 0;
}

struct dropped {
    struct array_layer *layers;
    size_t n;
    size_t room;
    char mergeable[ID_SIZE]; /* the layer that was left with one user, or "" */
};

/* A layer that its volume has left: its row goes, and upwards every one that nobody uses any more. */
static int layers_drop(struct call *call, const char *layer_id, struct dropped *dropped)
{
    char id[ID_SIZE];

    strcpy(id, layer_id);
    while (id[0] != '\0') {
        struct condition tops[] = {WHERE_TEXT("top_layer_id", id), WHERE_END};
        struct layer_row row;
        uint64_t users = 0;
        uint64_t n_tops = 0;
        int r = layer_children(call->db, id, &users);
        int pinned = 0;

        if (r == 0) {
            r = table_count(call->db, &volume_table, tops, &n_tops);
        }
        if (r == 0) {
            pinned = cycle_pins(call->db, id);
            r = pinned < 0 ? pinned : 0;
        }
        if (r < 0) {
            return call_fail_store(call, r);
        }
        if (users + n_tops > 0 || pinned) {
            if (users == 1 && n_tops == 0 && !pinned) {
                strcpy(dropped->mergeable, id);
            }
            return 0;
        }
        r = table_get(call->db, &layer_table, id, &row);
        if (r == 0) {
            r = table_delete(call->db, &layer_table, id);
        }
        if (r < 0) {
            return call_fail_store(call, r);
        }
        if (dropped->n == dropped->room) {
            size_t room = dropped->room * 2 + 4;
            struct array_layer *layers = arena_alloc(&call->arena, room * sizeof(*layers));

            if (dropped->n > 0) {
                memcpy(layers, dropped->layers, dropped->n * sizeof(*layers));
            }
            dropped->layers = layers;
            dropped->room = room;
        }
        struct array_layer *layer = &dropped->layers[dropped->n++];

        memset(layer, 0, sizeof(*layer));
        strcpy(layer->id, row.head.id);
        strcpy(layer->pool_id, row.pool_id);
        layer->size_bytes = row.size_bytes;
        strcpy(id, row.parent_id);
    }
    return 0;
}

/* What is merged must have left the stacks of those that do not have both: first the files go. */
static void dropped_ask(struct call *call, const char *volume_id, const char *family,
                        const struct dropped *dropped)
{
    if (volume_id[0] != '\0' || dropped->n > 0) {
        hosted_effect_remove(call, volume_id, family, dropped->layers, dropped->n);
    }
    if (dropped->mergeable[0] != '\0') {
        hosted_effect_merge(call, dropped->mergeable, family);
    }
}

/* ---- pools ---- */

int hosted_pool(struct call *call, const char *parameter, const struct pool_row *pool,
                const struct volume_row *source, struct pool_row *ret_pool)
{
    int r = 0;

    if (pool != NULL) {
        *ret_pool = *pool;
    } else {
        bool hosted = source != NULL && source->kind == VOLUME_HOSTED;

        r = table_get(call->db, &pool_table, hosted ? source->pool_id : "default", ret_pool);
    }
    if (r == -ENOENT) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, parameter,
                               "There is no /pools/default any more; name a pool.");
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    if (ret_pool->kind != POOL_FILE) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, parameter,
                               "/pools/%s is made of LUNs of another system; volumes are made in "
                               "pools of files, such as /pools/default.",
                               ret_pool->head.id);
    }
    return 0;
}

bool hosted_can_share(const struct volume_row *source, const struct pool_row *pool)
{
    return source->kind == VOLUME_HOSTED && pool->kind == POOL_FILE && !source->offline &&
           strcmp(source->pool_id, pool->head.id) == 0;
}

/* ---- a volume's row ---- */

/* What initiators know it by: a target of its own, LUN 0, and a name of type 3 (locally assigned) of the array and the id. */
static int volume_identify(struct call *call, struct volume_row *volume)
{
    char array_id[NAME_SIZE] = "";
    uint32_t hash = 2166136261u;
    int r = meta_get(call->db, "array_id", array_id, sizeof(array_id));

    if (r < 0 && r != -ENOENT) {
        return call_fail_store(call, r);
    }
    for (const char *c = array_id; *c != '\0'; c++) {
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    }
    store_new_id(volume->head.id);
    snprintf(volume->iqn, sizeof(volume->iqn), "iqn.2026-11.io.smirror:%s", volume->head.id);
    snprintf(volume->identity, sizeof(volume->identity), "naa.3%03x%s", (hash >> 8) & 0xfffu,
             volume->head.id);
    strcpy(volume->serial, volume->head.id);
    strcpy(volume->vendor, "SMIRROR");
    strcpy(volume->product, "VOLUME");
    return 0;
}

static int volume_insert(struct call *call, const struct pool_row *pool, uint64_t size_bytes,
                         const char *element_name, const char *base, struct volume_row *volume)
{
    int r = 0;

    volume->kind = VOLUME_HOSTED;
    volume->allocated = true;
    volume->thin = true;
    volume->persistent = true;
    volume->size_bytes = size_bytes;
    volume->block_bytes = HOSTED_BLOCK_BYTES;
    volume->physical_bytes = HOSTED_PHYSICAL_BYTES;
    volume->created_ms = control_now_ms(call->control);
    strcpy(volume->system_id, SYSTEM_LOCAL);
    strcpy(volume->pool_id, pool->head.id);
    if (element_name != NULL) {
        text_cut(element_name, volume->element_name, sizeof(volume->element_name));
    } else {
        r = volume_unique_name(call, base != NULL ? base : "volume", true, volume->element_name);
        if (r < 0) {
            return r;
        }
    }
    r = volume_identify(call, volume);
    if (r < 0) {
        return r;
    }
    r = table_insert(call->db, &volume_table, volume);
    return r < 0 ? call_fail_store(call, r) : exports_volume_created(call, volume);
}

static int volume_create(struct call *call, const struct pool_row *pool, uint64_t size_bytes,
                         const char *element_name, const char *base, const struct volume_row *below,
                         bool offline, struct volume_row *ret_volume)
{
    struct layer_row layer;
    int r = hosted_layer_new(call, pool->head.id, "", "", size_bytes, &layer);

    if (r == 0 && below != NULL) {
        r = layer_above_lun(call, below, &layer);
    }
    if (r < 0) {
        return r;
    }
    *ret_volume = (struct volume_row){.offline = offline};
    strcpy(ret_volume->family, layer.family);
    strcpy(ret_volume->top_layer_id, layer.head.id);
    r = volume_insert(call, pool, size_bytes, element_name, base, ret_volume);
    return r < 0 ? r : hosted_effect_open(call, ret_volume);
}

int hosted_create(struct call *call, const struct pool_row *pool, uint64_t size_bytes,
                  const char *element_name, const char *base, struct volume_row *ret_volume)
{
    return volume_create(call, pool, size_bytes, element_name, base, NULL, false, ret_volume);
}

int hosted_create_filled(struct call *call, const struct pool_row *pool,
                         const struct volume_row *source, const char *element_name, bool offline,
                         struct volume_row *ret_volume)
{
    char base[NAME_SIZE + 16];
    uint64_t size_bytes = (source->size_bytes + HOSTED_PHYSICAL_BYTES - 1) / HOSTED_PHYSICAL_BYTES *
                          HOSTED_PHYSICAL_BYTES;

    snprintf(base, sizeof(base), "%.230s-replica", source->element_name);
    return volume_create(call, pool, size_bytes, element_name, base, offline ? NULL : source,
                         offline, ret_volume);
}

/* ---- cuts ---- */

/* A layer whose file is there gets its row; without one it is asked for (hosted_run()). */
static int layer_for(struct call *call, const struct hosted_fresh *fresh, const char *pool_id,
                     const char *family, const char *parent_id, uint64_t size_bytes,
                     struct layer_row *ret_layer)
{
    if (fresh == NULL) {
        return hosted_layer_new(call, pool_id, family, parent_id, size_bytes, ret_layer);
    }
    CHECK(strcmp(fresh->layer.pool_id, pool_id) == 0 && strcmp(fresh->family, family) == 0 &&
          fresh->layer.size_bytes == size_bytes);
    *ret_layer = (struct layer_row){.size_bytes = size_bytes};
    strcpy(ret_layer->head.id, fresh->layer.id);
    strcpy(ret_layer->pool_id, pool_id);
    strcpy(ret_layer->family, family);
    strcpy(ret_layer->parent_id, parent_id);
    int r = table_insert(call->db, &layer_table, ret_layer);

    return r < 0 ? call_fail_store(call, r) : 0;
}

/* The volume's top is frozen, a new one takes its place. */
static int cut_now(struct call *call, const struct volume_row *volume,
                   const struct hosted_fresh *fresh, char ret_frozen_id[ID_SIZE])
{
    struct volume_row now;
    struct layer_row layer;
    int r = table_get(call->db, &volume_table, volume->head.id, &now);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    r = hosted_check_depth(call, &now);
    if (r == 0) {
        r = layer_for(call, fresh, now.pool_id, now.family, now.top_layer_id, now.size_bytes,
                      &layer);
    }
    if (r < 0) {
        return r;
    }
    strcpy(ret_frozen_id, now.top_layer_id);
    strcpy(now.top_layer_id, layer.head.id);
    hosted_effect_cut(call, now.head.id, &layer);
    r = hosted_merge_below(call, ret_frozen_id);
    return r < 0 ? r : volume_store(call, &now);
}

static int volume_cut(struct call *call, const struct volume_row *volume,
                      char ret_frozen_id[ID_SIZE])
{
    return cut_now(call, volume, NULL, ret_frozen_id);
}

int hosted_cut(struct call *call, const struct volume_row *volume, const struct hosted_fresh *fresh,
               char ret_frozen_id[ID_SIZE])
{
    return cut_now(call, volume, fresh, ret_frozen_id);
}

int hosted_derive(struct call *call, const struct volume_row *source, const char *element_name,
                  bool watched, bool offline, struct volume_row *ret_volume)
{
    char frozen_id[ID_SIZE] = "";
    char base[NAME_SIZE + 16];
    struct pool_row pool;
    struct layer_row layer;
    int r = table_get(call->db, &pool_table, source->pool_id, &pool);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    if (!offline) {
        r = volume_cut(call, source, frozen_id);
    }
    if (r == 0) {
        r = hosted_layer_new(call, source->pool_id, source->family, frozen_id, source->size_bytes,
                             &layer);
    }
    if (r < 0) {
        return r;
    }
    *ret_volume = (struct volume_row){.watched = watched && !offline, .offline = offline};
    strcpy(ret_volume->family, source->family);
    strcpy(ret_volume->top_layer_id, layer.head.id);
    snprintf(base, sizeof(base), "%.230s-replica", source->element_name);
    r = volume_insert(call, &pool, source->size_bytes, element_name, base, ret_volume);
    return r < 0 ? r : hosted_effect_open(call, ret_volume);
}

/* The volume goes onto a new layer above parent_id, or above a LUN; what only it had is dropped. */
static int put_onto(struct call *call, struct volume_row *volume, const char *family,
                    const char *parent_id, const struct volume_row *below,
                    const struct hosted_fresh *fresh, bool keep_old)
{
    char old[ID_SIZE];
    struct layer_row layer;
    struct dropped dropped = {0};
    char old_family[ID_SIZE];
    bool was_offline = volume->offline;
    int r = layer_for(call, fresh, volume->pool_id, family, parent_id, volume->size_bytes, &layer);

    if (r == 0 && below != NULL) {
        r = layer_above_lun(call, below, &layer);
    }
    if (r < 0) {
        return r;
    }
    strcpy(old, volume->top_layer_id);
    strcpy(old_family, volume->family);
    strcpy(volume->top_layer_id, layer.head.id);
    memmove(volume->family, family, strlen(family) + 1); /* often its own */
    volume->offline = parent_id[0] == '\0' && below == NULL;
    volume->problem[0] = '\0';
    r = volume_store(call, volume);
    if (r == 0) {
        r = hosted_effect_replace(call, volume, old_family, was_offline);
    }
    if (r == 0 && !keep_old) {
        r = layers_drop(call, old, &dropped);
        if (r == 0) {
            dropped_ask(call, "", old_family, &dropped);
        }
    }
    return r;
}

static int volume_onto(struct call *call, struct volume_row *volume, const char *family,
                       const char *parent_id, const struct volume_row *below, bool keep_old)
{
    int r = mirror_content_changes(call, "", volume);

    return r < 0 ? r : put_onto(call, volume, family, parent_id, below, NULL, keep_old);
}

int hosted_refresh(struct call *call, const struct volume_row *source, struct volume_row *target,
                   bool watched)
{
    char frozen_id[ID_SIZE];
    int r = 0;

    if (strcmp(source->family, target->family) != 0) {
        /* It moves to the source's loop: whoever is logged in would lose it. */
        r = exports_volume_in_use(call, target->head.id);
    }
    if (r == 0) {
        r = volume_cut(call, source, frozen_id);
    }
    if (r == 0) {
        target->watched = watched;
        r = volume_onto(call, target, source->family, frozen_id, NULL, false);
    }
    return r;
}

int hosted_restore(struct call *call, struct volume_row *source, struct volume_row *replica,
                   const char *kept_name, struct volume_row *ret_kept)
{
    char frozen_id[ID_SIZE];
    char old[ID_SIZE];
    char old_family[ID_SIZE];
    char base[NAME_SIZE + 24];
    struct pool_row pool;
    int r = table_get(call->db, &pool_table, source->pool_id, &pool);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    if (replica->size_bytes > source->size_bytes) {
        return call_fail(call, ERR_TARGET_TOO_SMALL,
                         "/volumes/%s has %llu bytes, its replica %llu; the volume to be restored "
                         "must not be smaller.",
                         source->head.id, (unsigned long long)source->size_bytes,
                         (unsigned long long)replica->size_bytes);
    }
    if (strcmp(source->family, replica->family) != 0) {
        /* It moves to the replica's loop: whoever is logged in would lose it. */
        r = exports_volume_in_use(call, source->head.id);
    }
    if (r == 0) {
        r = volume_cut(call, replica, frozen_id);
    }
    if (r < 0) {
        return r;
    }
    r = table_get(call->db, &volume_table, replica->head.id, replica);
    if (r < 0) {
        return call_fail_store(call, r);
    }
    if (replica->watched) {
        hosted_effect_watch(call, replica->head.id, true);
    }
    strcpy(old, source->top_layer_id);
    strcpy(old_family, source->family);
    r = volume_onto(call, source, replica->family, frozen_id, NULL, true);
    if (r < 0) {
        return r;
    }
    *ret_kept = (struct volume_row){0};
    strcpy(ret_kept->family, old_family);
    strcpy(ret_kept->top_layer_id, old);
    snprintf(base, sizeof(base), "%.220s-before-restore", source->element_name);
    r = volume_insert(call, &pool, source->size_bytes, kept_name, base, ret_kept);
    return r < 0 ? r : hosted_effect_open(call, ret_kept);
}

int hosted_go_back(struct call *call, struct volume_row *volume, const struct hosted_fresh *fresh,
                   const char *layer_id)
{
    return put_onto(call, volume, volume->family, layer_id, NULL, fresh, false);
}

int hosted_let_go(struct call *call, const char *layer_id)
{
    struct dropped dropped = {0};
    struct layer_row layer;

    if (layer_id[0] == '\0') {
        return 0;
    }
    int r = table_get(call->db, &layer_table, layer_id, &layer);

    if (r < 0) {
        return r == -ENOENT ? 0 : call_fail_store(call, r);
    }
    r = layers_drop(call, layer_id, &dropped);
    if (r == 0) {
        dropped_ask(call, "", layer.family, &dropped);
    }
    return r;
}

int hosted_blank(struct call *call, struct volume_row *volume)
{
    volume->watched = false;
    return volume_onto(call, volume, volume->family, "", NULL, false);
}

int hosted_take(struct call *call, const struct volume_row *source, struct volume_row *target)
{
    target->watched = false;
    return volume_onto(call, target, target->family, "", source, false);
}

/* ---- the rest ---- */

int hosted_show(struct call *call, struct volume_row *volume)
{
    if (!volume->offline) {
        return 0;
    }
    volume->offline = false;
    hosted_effect_serve(call, volume);
    return volume_store(call, volume);
}

int hosted_watch(struct call *call, struct volume_row *volume)
{
    volume->watched = true;
    hosted_effect_watch(call, volume->head.id, true);
    return volume_store(call, volume);
}

int hosted_unwatch(struct call *call, struct volume_row *volume)
{
    if (!volume->watched) {
        return 0;
    }
    volume->watched = false;
    hosted_effect_watch(call, volume->head.id, false);
    int r = volume_store(call, volume);

    return r < 0 ? r : hosted_merge_below(call, volume->top_layer_id);
}

int hosted_set_read_only(struct call *call, struct volume_row *volume, bool read_only)
{
    if (volume->write_protected == read_only) {
        return 0;
    }
    volume->write_protected = read_only;
    hosted_effect_read_only(call, volume);
    return volume_store(call, volume);
}

int hosted_grow(struct call *call, struct volume_row *volume, uint64_t size_bytes)
{
    struct layer_row layer;
    int r = mirror_content_changes(call, "Size", volume);

    if (r < 0) {
        return r;
    }
    r = table_get(call->db, &layer_table, volume->top_layer_id, &layer);
    if (r == 0) {
        layer.size_bytes = size_bytes;
        r = table_update(call->db, &layer_table, &layer);
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    volume->size_bytes = size_bytes;
    hosted_effect_grow(call, volume->head.id, size_bytes);
    return volume_store(call, volume);
}

int hosted_delete(struct call *call, const struct volume_row *volume)
{
    struct dropped dropped = {0};
    int r = exports_volume_in_use(call, volume->head.id);

    if (r == 0) {
        r = exports_volume_deleted(call, volume->head.id);
    }
    if (r == 0) {
        r = group_volume_leaves(call, volume->head.id);
    }
    if (r < 0) {
        return r;
    }
    r = table_delete(call->db, &volume_table, volume->head.id);
    if (r < 0) {
        return call_fail_store(call, r);
    }
    r = layers_drop(call, volume->top_layer_id, &dropped);
    if (r == 0) {
        dropped_ask(call, volume->head.id, volume->family, &dropped);
    }
    return r;
}
