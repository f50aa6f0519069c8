// SPDX-License-Identifier: Apache-2.0
/* The loop's half: layers that are open, and their files. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "hosting/array_private.h"
#include "hosting/reaper.h"

struct shelf_layer *shelf_layer(struct shelf *shelf, const char *id)
{
    return map_get(&shelf->layers, id);
}

/* Its id is in the file's header, and the id of the record. */
struct shelf_layer *shelf_layer_of(struct shelf *shelf, struct layer *layer)
{
    char id[LAYER_ID_BYTES + 1];

    memcpy(id, layer_id(layer), LAYER_ID_BYTES);
    id[LAYER_ID_BYTES] = '\0';
    struct shelf_layer *open = shelf_layer(shelf, id);

    CHECK(open != NULL && open->layer == layer);
    return open;
}

static struct layer_spec spec_of(struct op *op, const struct op_layer *layer)
{
    struct layer_spec spec = {
        .path = layer->path,
        .cache = op->shelf->cache,
        .space = op->ahead ? NULL : &layer->pool->space,
    };

    memcpy(spec.id, layer->id, strnlen(layer->id, LAYER_ID_BYTES));
    return spec;
}

/* The file is open: it stands on the shelf from now on. */
static void layer_put(struct op *op, struct op_layer *wanted, struct layer *layer)
{
    struct shelf_layer *open = calloc(1, sizeof(*open));

    CHECK(open != NULL);
    memcpy(open->id, wanted->id, sizeof(open->id));
    memcpy(open->path, wanted->path, sizeof(open->path));
    open->layer = layer;
    open->pool = wanted->pool;
    atomic_fetch_add(&open->pool->refs, 1);
    open->pool->on_loop[op->shelf->index].n_layers++;
    CHECK(map_put(&op->shelf->layers, open->id, open) == 0);
    op->shelf->restacked = true;
    wanted->open = open;
    op->n_opened++;
}

void shelf_layer_take(struct shelf *shelf, struct shelf_layer *layer)
{
    map_remove(&shelf->layers, layer->id);
    shelf->restacked = true;
    if (--layer->pool->on_loop[shelf->index].n_layers == 0) {
        atomic_store(&layer->pool->reclaimable_bytes[shelf->index], 0);
    }
}

/* ---- making ---- */

/* All or none: what was made is taken away again. */
static void one_created(struct op *op)
{
    if (--op->pending > 0) {
        return;
    }
    if (op->error.code != ERR_NONE) {
        shelf_layers_close(op, op_end);
    } else {
        op_end(op);
    }
}

static struct op_layer *wanted_of(struct op *op, const struct layer *layer)
{
    size_t i = 0;

    while (i < op->n_layers &&
           strncmp(op->layers[i].id, (const char *)layer_id(layer), LAYER_ID_BYTES) != 0) {
        i++;
    }
    CHECK(i < op->n_layers);
    return &op->layers[i];
}

static void layer_created(void *arg, struct layer *layer, const struct error *error)
{
    struct op *op = arg;

    if (error == NULL) {
        layer_put(op, wanted_of(op, layer), layer);
    } else if (op->error.code == ERR_NONE) {
        op->error = *error;
    }
    one_created(op);
}

/* From the stock: it is open, and gets its name. Should the name not outlive a crash, array_pool_sweep() gives it again. */
static void rename_spares(void *arg)
{
    struct op *op = arg;

    for (size_t i = 0; i < op->n_layers && op->renamed == 0; i++) {
        struct op_layer *layer = &op->layers[i];

        if (layer->spare) {
            layer->renamed = rename(layer->open->path, layer->path) == 0;
            op->renamed = layer->renamed ? 0 : -errno;
        }
    }
}

static void spares_renamed(void *arg)
{
    struct op *op = arg;

    if (op->renamed < 0) {
        op_fail_errno(op, op->renamed, "A layer that was made ahead could not be named");
    }
    for (size_t i = 0; i < op->n_layers; i++) {
        struct op_layer *layer = &op->layers[i];

        if (layer->renamed) {
            layer_adopt(layer->open->layer, layer->path, &layer->pool->space);
            memcpy(layer->open->path, layer->path, sizeof(layer->path));
        }
        op->n_opened += layer->spare;
    }
    one_created(op);
}

static void spares_name(struct op *op)
{
    bool any = false;

    for (size_t i = 0; i < op->n_layers; i++) {
        if (op->layers[i].spare) {
            op->layers[i].open = shelf_layer(op->shelf, op->layers[i].id);
            CHECK(op->layers[i].open != NULL);
            any = true;
        }
    }
    if (any) {
        op->pending++;
        op->work = (struct loop_work){.run = rename_spares, .done = spares_renamed, .arg = op};
        loop_work_submit(op->shelf->loop, &op->work);
    }
}

/* Nothing was made: what is taken away again is what came from the stock. */
static void spares_only(struct op *op)
{
    for (size_t i = 0; i < op->n_layers; i++) {
        if (op->layers[i].spare) {
            op->n_opened++;
        } else {
            op->layers[i].id[0] = '\0';
        }
    }
}

/* All at once: the file system syncs them together. */
void shelf_layers_create(struct op *op)
{
    for (size_t i = 0; i < op->n_layers; i++) {
        if (!op->layers[i].spare && shelf_layer(op->shelf, op->layers[i].id) != NULL) {
            op_fail(op, ERR_IN_USE, "Layer %s is there already.", op->layers[i].id);
            spares_only(op);
            shelf_layers_close(op, op_end);
            return;
        }
    }
    op->pending = 1;
    spares_name(op);
    for (size_t i = 0; i < op->n_layers; i++) {
        struct layer_spec spec = spec_of(op, &op->layers[i]);

        if (op->layers[i].spare) {
            continue;
        }
        spec.size_bytes = op->layers[i].size_bytes;
        int r = layer_create(op->shelf->loop, &spec, layer_created, op);

        if (r < 0) {
            op_fail_errno(op, r, "A layer could not be made");
        } else {
            op->pending++;
        }
    }
    one_created(op);
}

/* ---- opening ---- */

static void open_next(struct op *op);

static void layer_opened(void *arg, struct layer *layer, const struct error *error)
{
    struct op *op = arg;

    if (error != NULL) {
        op->error = *error;
        op->next(op);
        return;
    }
    layer_put(op, &op->layers[op->at], layer);
    op->at++;
    open_next(op);
}

static void open_next(struct op *op)
{
    for (; op->at < op->n_layers; op->at++) {
        struct op_layer *wanted = &op->layers[op->at];

        wanted->open = shelf_layer(op->shelf, wanted->id);
        if (wanted->open == NULL) {
            struct layer_spec spec = spec_of(op, wanted);
            int r = layer_open(op->shelf->loop, &spec, layer_opened, op);

            if (r == 0) {
                return;
            }
            op_fail_errno(op, r, "A layer could not be opened");
            break;
        }
    }
    op->next(op);
}

void shelf_layers_open(struct op *op, void (*next)(struct op *op))
{
    op->next = next;
    op->at = 0;
    open_next(op);
}

/* ---- closing, removing ---- */

static void remove_files(void *arg)
{
    struct op *op = arg;

    for (size_t i = 0; i < op->n_layers; i++) {
        const struct op_layer *layer = &op->layers[i];
        int r = 0;

        if (!layer->in_use && (layer->closed || op->remove_all)) {
            r = reaper_unlink(layer->path);
        }
        if (r < 0 && r != -ENOENT) {
            log_warning("layer[%s] %s could not be removed: %s", layer->id, layer->path,
                        strerror(-r));
        }
    }
}

static void files_removed(void *arg)
{
    struct op *op = arg;

    op->next(op);
}

static void closed_all(struct op *op)
{
    op->work = (struct loop_work){.run = remove_files, .done = files_removed, .arg = op};
    loop_work_submit(op->shelf->loop, &op->work);
}

static void one_closed(void *arg, int status)
{
    struct op *op = arg;

    (void)status; /* its content is not wanted any more */
    if (--op->pending == 0) {
        closed_all(op);
    }
}

void shelf_layers_close(struct op *op, void (*next)(struct op *op))
{
    op->next = next;
    op->pending = 1;
    for (size_t i = 0; i < op->n_layers; i++) {
        struct shelf_layer *open = shelf_layer(op->shelf, op->layers[i].id);

        if (open != NULL && open->users > 0) {
            /* A volume did not get what the records say and reads what it had: the next start removes the file. */
            op->layers[i].in_use = true;
            op_fail(op, ERR_CONFLICT, "Layer %s is in use and stays.", open->id);
        } else if (open != NULL) {
            shelf_layer_take(op->shelf, open);
            memcpy(op->layers[i].path, open->path, sizeof(open->path));
            op->layers[i].closed = true;
            op->pending++;
            layer_unref(open->layer, one_closed, op);
            free(open);
        }
    }
    one_closed(op, 0);
}

void shelf_layers_remove(struct op *op)
{
    op->remove_all = true;
    shelf_layers_close(op, op_end);
}
