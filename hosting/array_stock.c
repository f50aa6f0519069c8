// SPDX-License-Identifier: Apache-2.0
/*
 * Layers made ahead. A new file has to be on the disk, with its name, before a record speaks of it: a sync of the file and one of the
 * directory, which a call would wait for. So where layers of a size are asked for again and again, some are kept ready.
 *
 *     {id}.spare: made, synced, open ──named: its id is handed out──▶ created: renamed to {id}.layer, a layer like others
 *                                        └──named back──▶ ready again
 *
 * One is made at a time, so that calls find a worker, and a journal that is not full of syncs.
 *
 * The name needs no sync: a start finds the file by its id under either name (array_pool_sweep()). Files of the stock count in no
 * pool's space, and those that are left of the last life are removed at start. What is in the stock belongs to a family of its own on each
 * loop.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "hosting/array_private.h"

enum {
    ASKED_OFTEN = 4, /* times that a layer of a kind was missing, before some are made ahead */
    ENOUGH = 8,
};

struct spare *stock_find(struct array *array, const char *layer_id)
{
    list_for_each(link, &array->stock.spares)
    {
        struct spare *spare = list_entry(link, struct spare, link);

        if (strcmp(spare->id, layer_id) == 0) {
            return spare;
        }
    }
    return NULL;
}

static struct family *family_of(struct array *array, unsigned loop)
{
    char id[ARRAY_ID_LEN + 1];

    snprintf(id, sizeof(id), "stock %u", loop);
    return family_get(array, id, loop);
}

/* An operation on a layer of the stock; the caller names it. */
static struct op *stock_op(struct array *array, struct pool *pool, uint64_t size_bytes,
                           unsigned loop, void (*run)(struct op *op), void (*finish)(struct op *op))
{
    struct op *op = layers_op(array, family_of(array, loop), NULL, 0, run, finish);

    op->ahead = true;
    op->n_layers = 1; /* there is room for one always */
    op->layers[0].pool = pool;
    op->layers[0].size_bytes = size_bytes;
    pool->refs++;
    return op;
}

static void op_name(struct op *op, const char *layer_id)
{
    struct op_layer *layer = &op->layers[0];

    strcpy(layer->id, layer_id);
    spare_path(layer->path, layer->pool, layer_id);
}

/* Pool: also one that was removed meanwhile. */
static void file_remove(struct array *array, struct pool *pool, unsigned loop, const char *layer_id)
{
    struct op *op = stock_op(array, pool, 0, loop, shelf_layers_remove, layers_gone);

    op_name(op, layer_id);
    op_queue(op);
}

/* ---- kinds ---- */

static struct spare_kind *kind_find(struct array *array, const struct pool *pool,
                                    uint64_t size_bytes, unsigned loop)
{
    for (unsigned i = 0; i < SPARE_KINDS; i++) {
        struct spare_kind *kind = &array->stock.kinds[i];

        if (kind->pool == pool && kind->size_bytes == size_bytes && kind->loop == loop) {
            return kind;
        }
    }
    return NULL;
}

static bool is_of(const struct spare *spare, const struct spare_kind *kind)
{
    return spare->pool == kind->pool && spare->size_bytes == kind->size_bytes &&
           spare->loop == kind->loop;
}

/* A spare that was named stays, and goes when it is given back. */
static void kind_end(struct array *array, struct spare_kind *kind)
{
    list_for_each_safe(link, next, &array->stock.spares)
    {
        struct spare *spare = list_entry(link, struct spare, link);

        if (is_of(spare, kind) && !spare->named) {
            stock_drop(array, spare);
        }
    }
    *kind = (struct spare_kind){0};
}

/* Of what was asked for longest ago another kind is made. */
static struct spare_kind *kind_new(struct array *array, struct pool *pool, uint64_t size_bytes,
                                   unsigned loop)
{
    struct spare_kind *oldest = NULL;

    for (unsigned i = 0; i < SPARE_KINDS; i++) {
        struct spare_kind *kind = &array->stock.kinds[i];

        if (!kind->making && (oldest == NULL || kind->used < oldest->used)) {
            oldest = kind;
        }
    }
    if (oldest != NULL) {
        kind_end(array, oldest);
        oldest->pool = pool;
        oldest->size_bytes = size_bytes;
        oldest->loop = loop;
    }
    return oldest;
}

/* ---- making and handing out ---- */

static void filled(struct op *op)
{
    struct array *array = op->array;
    struct pool *pool = op->layers[0].pool;
    struct spare_kind *kind = kind_find(array, pool, op->layers[0].size_bytes, op->shelf->index);

    layers_made(op);
    array->stock.making = false;
    if (kind != NULL) {
        kind->making = false;
    }
    if (op->error.code != ERR_NONE) {
        if (kind != NULL) {
            kind->asked = 0;
        }
        log_warning("pool[%s] no layers could be made ahead: %s", pool->id, op->error.detail);
        return;
    }
    if (array->closing) {
        return;
    }
    if (kind == NULL) {
        file_remove(array, pool, op->shelf->index, op->layers[0].id);
    } else {
        struct spare *spare = calloc(1, sizeof(*spare));

        CHECK(spare != NULL);
        strcpy(spare->id, op->layers[0].id);
        spare->pool = pool;
        spare->size_bytes = kind->size_bytes;
        spare->loop = kind->loop;
        list_push_back(&array->stock.spares, &spare->link);
        kind->ready++;
    }
    stock_fill(array);
}

/* The one that has the fewest. */
static struct spare_kind *kind_needed(struct array *array)
{
    struct spare_kind *needed = NULL;

    for (unsigned i = 0; i < SPARE_KINDS; i++) {
        struct spare_kind *kind = &array->stock.kinds[i];

        if (kind->pool != NULL && kind->asked >= ASKED_OFTEN && kind->ready < ENOUGH &&
            (needed == NULL || kind->ready < needed->ready)) {
            needed = kind;
        }
    }
    return needed;
}

void stock_fill(struct array *array)
{
    struct spare_kind *kind = kind_needed(array);
    char id[ARRAY_ID_LEN + 1];

    if (kind == NULL || array->stock.making || array->closing) {
        return;
    }
    struct op *op =
        stock_op(array, kind->pool, kind->size_bytes, kind->loop, shelf_layers_create, filled);

    array->spec.new_layer_id(id);
    op_name(op, id);
    kind->making = true;
    array->stock.making = true;
    op_queue(op);
}

void array_layer_name(struct array *array, const char *family, const char *pool_id,
                      uint64_t size_bytes, char ret_id[ARRAY_ID_LEN + 1])
{
    const struct family *of = family[0] != '\0' ? map_get(&array->families, family) : NULL;
    unsigned loop = of != NULL ? of->loop : loop_with_fewest(array);
    struct pool *pool = pool_find(array, pool_id);
    struct spare_kind *kind = pool != NULL ? kind_find(array, pool, size_bytes, loop) : NULL;

    if (pool != NULL && kind == NULL) {
        kind = kind_new(array, pool, size_bytes, loop);
    }
    if (kind != NULL) {
        kind->used = ++array->stock.clock;
        list_for_each(link, &array->stock.spares)
        {
            struct spare *spare = list_entry(link, struct spare, link);

            if (is_of(spare, kind) && !spare->named) {
                spare->named = true;
                kind->ready--;
                strcpy(ret_id, spare->id);
                return;
            }
        }
        kind->asked++;
    }
    array->spec.new_layer_id(ret_id);
}

void array_layer_name_back(struct array *array, const char *layer_id)
{
    struct spare *spare = stock_find(array, layer_id);

    if (spare == NULL) {
        return;
    }
    struct spare_kind *kind = kind_find(array, spare->pool, spare->size_bytes, spare->loop);

    if (kind != NULL) {
        spare->named = false;
        kind->ready++;
    } else {
        stock_drop(array, spare);
    }
}

static void spare_forget(struct array *array, struct spare *spare)
{
    struct spare_kind *kind = kind_find(array, spare->pool, spare->size_bytes, spare->loop);

    if (kind != NULL && !spare->named) {
        kind->ready--;
    }
    list_remove(&spare->link);
    free(spare);
}

void stock_take(struct array *array, struct spare *spare)
{
    struct family *family = family_of(array, spare->loop);

    family->layers--;
    spare_forget(array, spare);
    family_settle(array, family);
}

void stock_drop(struct array *array, struct spare *spare)
{
    file_remove(array, spare->pool, spare->loop, spare->id);
    spare_forget(array, spare);
}

void stock_pool_gone(struct array *array, struct pool *pool)
{
    for (unsigned i = 0; i < SPARE_KINDS; i++) {
        if (array->stock.kinds[i].pool == pool) {
            kind_end(array, &array->stock.kinds[i]);
        }
    }
    list_for_each_safe(link, next, &array->stock.spares)
    {
        struct spare *spare = list_entry(link, struct spare, link);

        if (spare->pool == pool) {
            stock_drop(array, spare);
        }
    }
}

void stock_free(struct array *array)
{
    struct list *link;

    while ((link = list_pop_front(&array->stock.spares)) != NULL) {
        free(list_entry(link, struct spare, link));
    }
}
