// SPDX-License-Identifier: Apache-2.0
/*
 * The loop's half: volumes that are open. Each is a stack of layers behind a front; the front is what others have, and
 * stays while the stack may be replaced.
 */
#include "block/stack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "block/late_dev.h"
#include "hosting/array_private.h"

enum { USAGE_INTERVAL_MS = 1000, BOTTOM_BLOCK_BYTES = 512 };

struct shelf_volume *shelf_volume(struct shelf *shelf, const char *id)
{
    return map_get(&shelf->volumes, id);
}

/* The volume of the operation; an operation that comes after a failed open fails too. */
static struct shelf_volume *volume_of(struct op *op)
{
    struct shelf_volume *volume = shelf_volume(op->shelf, op->volume_id);

    if (volume == NULL) {
        op_fail(op, ERR_INTERNAL, "Volume %s is not open.", op->volume_id);
        op_end(op);
    }
    return volume;
}

/* ---- what readers are told ---- */

void shelf_usage_refresh(struct shelf_volume *volume)
{
    unsigned n = stack_layers(volume->stack);
    uint64_t own = 0;
    uint64_t shared = 0;

    for (unsigned i = 0; i < n; i++) {
        struct layer *layer = stack_layer(volume->stack, i);
        unsigned looks = volume->shelf->looks > 0 ? shelf_layer_of(volume->shelf, layer)->looks : 0;

        if (layer_stacks(layer) > 1 + looks) {
            shared += layer_used_bytes(layer);
        } else {
            own += layer_used_bytes(layer);
        }
    }
    atomic_store(&volume->entry->size_bytes, volume->front->info.size_bytes);
    atomic_store(&volume->entry->used_bytes, own);
    atomic_store(&volume->entry->shared_bytes, shared);
    atomic_store(&volume->entry->n_layers, n);
}

static void neighbours_look(struct shelf *shelf, struct blockdev *stack)
{
    unsigned n = stack_layers(stack);
    struct shelf_layer *above = NULL;

    for (unsigned i = n; i-- > 0;) {
        struct shelf_layer *layer = shelf_layer_of(shelf, stack_layer(stack, i));

        if (above == NULL || (layer->above != NULL && layer->above != above)) {
            layer->keeps = true;
        }
        layer->above = above;
        above = layer;
    }
}

static void neighbours_find(struct shelf *shelf)
{
    struct map_entry *e;

    shelf->restacked = false;
    for (e = map_first(&shelf->layers); e != NULL; e = map_next(&shelf->layers, e)) {
        struct shelf_layer *layer = e->value;

        layer->above = NULL;
        layer->keeps = false;
    }
    for (e = map_first(&shelf->volumes); e != NULL; e = map_next(&shelf->volumes, e)) {
        const struct shelf_volume *volume = e->value;

        neighbours_look(shelf, volume->stack);
    }
}

/* What is in a layer and in the only one above it will be there once when they are merged. */
static void reclaimable_refresh(struct shelf *shelf)
{
    struct map_entry *e;

    if (shelf->restacked) {
        neighbours_find(shelf);
    }
    for (e = map_first(&shelf->layers); e != NULL; e = map_next(&shelf->layers, e)) {
        const struct shelf_layer *layer = e->value;

        layer->pool->on_loop[shelf->index].reclaimable_bytes = 0;
    }
    for (e = map_first(&shelf->layers); e != NULL; e = map_next(&shelf->layers, e)) {
        const struct shelf_layer *layer = e->value;

        if (!layer->keeps && layer->above != NULL) {
            uint64_t own = layer_used_bytes(layer->layer);
            uint64_t above = layer_used_bytes(layer->above->layer);

            layer->pool->on_loop[shelf->index].reclaimable_bytes += own < above ? own : above;
        }
    }
    /* Readers see whole sums only. */
    for (e = map_first(&shelf->layers); e != NULL; e = map_next(&shelf->layers, e)) {
        struct pool *pool = ((const struct shelf_layer *)e->value)->pool;

        atomic_store(&pool->reclaimable_bytes[shelf->index],
                     pool->on_loop[shelf->index].reclaimable_bytes);
    }
}

static void usage_tick(void *arg)
{
    struct shelf *shelf = arg;

    for (struct map_entry *e = map_first(&shelf->volumes); e; e = map_next(&shelf->volumes, e)) {
        shelf_usage_refresh(e->value);
    }
    reclaimable_refresh(shelf);
    loop_timer_start(&shelf->usage_timer, USAGE_INTERVAL_MS * MS_NS);
}

/* ---- watching for the first change ---- */

static void changed_arrived(struct note *note)
{
    struct array *array = note->array;

    if (array->spec.events.volume_changed != NULL) {
        array->spec.events.volume_changed(array->spec.events_arg, note->id);
    }
}

static void volume_changed(void *arg)
{
    struct shelf_volume *volume = arg;
    struct note *note = note_new(volume->shelf->array, changed_arrived);

    memcpy(note->id, volume->id, sizeof(note->id));
    note_post(note);
}

/* What a restart finds in the top layer was written before. */
static void volume_watch(struct shelf_volume *volume, bool watch)
{
    const struct layer *top = stack_layer(volume->stack, stack_layers(volume->stack) - 1);

    if (watch && !layer_is_blank(top)) {
        volume_changed(volume);
        watch = false;
    }
    front_dev_watch(volume->front, watch ? volume_changed : NULL, volume);
}

/* ---- a stack for an operation ---- */

static void users_count(struct shelf *shelf, struct blockdev *stack, bool frozen, int delta)
{
    shelf->restacked = true;
    shelf->looks = (unsigned)((int)shelf->looks + (frozen ? delta : 0));
    for (unsigned i = 0; i < stack_layers(stack); i++) {
        struct shelf_layer *layer = shelf_layer_of(shelf, stack_layer(stack, i));

        layer->users = (unsigned)((int)layer->users + delta);
        layer->looks = (unsigned)((int)layer->looks + (frozen ? delta : 0));
    }
}

static void bottom_closed(void *arg)
{
    struct op *op = arg;

    op->bottom_dev = NULL;
    op->next(op);
}

/* Makes the stack of the operation's layers; op->next is called with it, or with op->error. */
static void stack_make(struct op *op)
{
    struct layer *layers[STACK_MAX_LAYERS];
    struct stack_spec spec = {
        .layers = layers,
        .n_layers = (unsigned)op->n_layers,
        .bottom = op->bottom_dev,
        .read_only = op->frozen,
        .new_from = (unsigned)op->new_from,
        .old_content = op->old_content,
    };

    if (op->n_layers == 0 || op->n_layers > STACK_MAX_LAYERS) {
        op_fail(op, ERR_INTERNAL, "A volume of %zu layers cannot be opened.", op->n_layers);
    } else {
        for (size_t i = 0; i < op->n_layers; i++) {
            layers[i] = op->layers[i].open->layer;
        }
        int r = stack_open(op->shelf->loop, &spec, &op->stack);

        if (r < 0) {
            op_fail_errno(op, r, "The layers do not make a volume");
        } else {
            users_count(op->shelf, op->stack, op->frozen, +1);
        }
    }
    if (op->stack == NULL && op->bottom_dev != NULL) {
        blockdev_close(op->bottom_dev, bottom_closed, op);
    } else {
        op->next(op);
    }
}

/* It need not be there now. */
static void bottom_make(struct op *op)
{
    char name[ARRAY_ID_LEN + 40];

    snprintf(name, sizeof(name), "volume[%s] what is below it", op->volume_id);
    struct late_spec spec = {.name = name,
                             .opener = op->bottom,
                             .size_bytes = op->bottom_bytes,
                             .block_bytes = BOTTOM_BLOCK_BYTES};

    CHECK(late_dev_new(op->shelf->loop, &spec, &op->bottom_dev) == 0);
    op->bottom = NULL;
}

static void layers_ready(struct op *op)
{
    op->next = op->then;
    if (op->error.code != ERR_NONE) {
        op->next(op);
    } else {
        if (op->bottom != NULL) {
            bottom_make(op);
        }
        stack_make(op);
    }
}

static void stack_for(struct op *op, void (*then)(struct op *op))
{
    op->then = then;
    shelf_layers_open(op, layers_ready);
}

/* ---- opening ---- */

static void volume_unmake(struct op *op);

/* Here, and not earlier: what the filters see is of its final size. */
static void open_front(struct op *op)
{
    struct shelf_volume *volume = op->volume;
    struct blockdev *below = shelf_filters_make(op);

    if (op->error.code != ERR_NONE) {
        volume_unmake(op);
        return;
    }
    CHECK(front_dev_new(below, &volume->front) == 0);
    CHECK(map_put(&op->shelf->volumes, volume->id, volume) == 0);
    front_dev_set_read_only(volume->front, op->read_only);
    volume_watch(volume, op->watch);
    shelf_usage_refresh(volume);
    if (op->shelf->usage_timer.loop == NULL) {
        loop_timer_init(&op->shelf->usage_timer, op->shelf->loop, usage_tick, op->shelf);
        loop_timer_start(&op->shelf->usage_timer, USAGE_INTERVAL_MS * MS_NS);
    }
    op_end(op);
}

static void grown_at_open(void *arg, int status)
{
    struct op *op = arg;

    if (status < 0) {
        log_warning("volume[%s] could not be made larger: %s", op->volume_id, strerror(-status));
    }
    open_front(op);
}

static void open_made(struct op *op)
{
    if (op->error.code != ERR_NONE) {
        op_end(op);
        return;
    }
    struct shelf_volume *volume = calloc(1, sizeof(*volume));

    CHECK(volume != NULL);
    memcpy(volume->id, op->volume_id, sizeof(volume->id));
    volume->shelf = op->shelf;
    volume->entry = op->entry;
    volume->stack = op->stack;
    volume->bottom = op->bottom_dev;
    op->volume = volume;
    /* Growing is recorded first: a crash before it was done is made good here. */
    if (volume->stack->info.size_bytes >= op->size_bytes ||
        stack_grow(volume->stack, op->size_bytes, grown_at_open, op) < 0) {
        open_front(op);
    }
}

void shelf_volume_open(struct op *op)
{
    stack_for(op, open_made);
}

/* ---- closing ---- */

static void close_bottom_done(void *arg)
{
    struct op *op = arg;

    free(op->volume);
    op->volume = NULL;
    op->then(op);
}

static void close_stack_done(void *arg)
{
    struct op *op = arg;

    if (op->volume->bottom != NULL) {
        blockdev_close(op->volume->bottom, close_bottom_done, op);
    } else {
        close_bottom_done(op);
    }
}

static void close_filters_done(struct op *op)
{
    blockdev_close(op->volume->stack, close_stack_done, op);
}

static void close_front_done(void *arg)
{
    struct op *op = arg;

    op->volume->front = NULL;
    shelf_filters_close(op, close_filters_done);
}

static void volume_close(struct op *op)
{
    struct shelf_volume *volume = op->volume;

    map_remove(&op->shelf->volumes, volume->id);
    users_count(op->shelf, volume->stack, volume->frozen, -1);
    if (volume->bottom != NULL) {
        late_dev_give_up(volume->bottom);
    }
    blockdev_close(volume->front, close_front_done, op);
}

/* One that was not opened, for a filter could not be made. */
static void volume_unmake(struct op *op)
{
    users_count(op->shelf, op->volume->stack, op->frozen, -1);
    op->then = op_end;
    shelf_filters_close(op, close_filters_done);
}

void shelf_volume_close(struct op *op)
{
    op->volume = volume_of(op);
    if (op->volume != NULL) {
        op->then = op_end;
        shelf_job_stop(op, volume_close);
    }
}

/* ---- other content ---- */

static void replace_old_bottom_closed(void *arg)
{
    op_end(arg);
}

static void replace_old_closed(void *arg)
{
    struct op *op = arg;

    if (op->bottom_dev != NULL) {
        blockdev_close(op->bottom_dev, replace_old_bottom_closed, op);
    } else {
        op_end(op);
    }
}

static void replace_done(void *arg)
{
    struct op *op = arg;
    struct shelf_volume *volume = op->volume;
    struct blockdev *old = volume->stack;
    struct blockdev *old_bottom = volume->bottom;

    volume->stack = op->stack;
    volume->bottom = op->bottom_dev;
    op->bottom_dev = old_bottom;
    shelf_info_refresh(volume);
    users_count(op->shelf, old, volume->frozen, -1);
    front_dev_set_read_only(volume->front, op->read_only);
    volume_watch(volume, op->watch);
    shelf_usage_refresh(volume);
    blockdev_close(old, replace_old_closed, op);
}

static void replace_failed_closed(void *arg)
{
    op_end(arg);
}

static void replace_ready(struct op *op)
{
    if (op->volume->bottom != NULL) {
        late_dev_give_up(op->volume->bottom); /* nobody waits for what goes */
    }
    int r = front_dev_replace(shelf_base(op->volume), op->stack, replace_done, op);

    if (r < 0) {
        op_fail_errno(op, r, "The content could not be replaced");
        users_count(op->shelf, op->stack, op->frozen, -1);
        blockdev_close(op->stack, replace_failed_closed, op);
    }
}

static void replace_made(struct op *op)
{
    if (op->error.code != ERR_NONE) {
        op_end(op);
        return;
    }
    shelf_job_stop(op, replace_ready);
}

void shelf_volume_replace(struct op *op)
{
    op->volume = volume_of(op);
    if (op->volume != NULL) {
        stack_for(op, replace_made);
    }
}

/* ---- size, write protection, watching ---- */

static void grown(void *arg, int status)
{
    struct op *op = arg;

    if (status < 0) {
        op_fail_errno(op, status, "The volume could not be made larger");
    }
    shelf_info_refresh(op->volume);
    shelf_usage_refresh(op->volume);
    op_end(op);
}

void shelf_volume_grow(struct op *op)
{
    op->volume = volume_of(op);
    if (op->volume != NULL && !shelf_can_grow(op->volume)) {
        op_fail(op, ERR_CONFLICT, "Volume %s cannot grow now: not all that sees its writes can.",
                op->volume_id);
        op_end(op);
    } else if (op->volume != NULL) {
        int r = stack_grow(op->volume->stack, op->size_bytes, grown, op);

        if (r < 0) {
            grown(op, r);
        }
    }
}

void shelf_volume_read_only(struct op *op)
{
    op->volume = volume_of(op);
    if (op->volume != NULL) {
        front_dev_set_read_only(op->volume->front, op->read_only);
        op_end(op);
    }
}

void shelf_volume_watch(struct op *op)
{
    op->volume = volume_of(op);
    if (op->volume != NULL) {
        volume_watch(op->volume, op->watch);
        op_end(op);
    }
}

/* ---- cut ---- */

static void cut_end(struct op *op)
{
    op->shelf->restacked = true;
    shelf_usage_refresh(op->volume);
    op_end(op);
}

/* What is written from now on would be written to what others read as frozen: by hosts, filters and legs. */
static void volume_freeze(struct shelf_volume *volume)
{
    volume->stack->info.read_only = true;
    shelf_info_refresh(volume);
}

static void cut_impossible(struct op *op, int err)
{
    op_fail_errno(op, err, "The new layer could not be put on top; nothing can be written");
    volume_freeze(op->volume);
    cut_end(op);
}

/* The records say that the new layer is on top, so it has to be, whatever became of the flush. */
static void cut_held(void *arg)
{
    struct op *op = arg;
    struct shelf_layer *layer = shelf_layer(op->shelf, op->layers[0].id);
    int r = stack_push(op->volume->stack, layer->layer);

    if (r < 0) {
        /* Before those that wait are let go. */
        volume_freeze(op->volume);
    } else {
        layer->users++;
    }
    op->pause_ns = stack_release(op->volume->stack);
    if (r < 0) {
        cut_impossible(op, r);
    } else {
        cut_end(op);
    }
}

static void cut_done(void *arg, int status, uint64_t pause_ns)
{
    struct op *op = arg;
    struct shelf_layer *layer = shelf_layer(op->shelf, op->layers[0].id);
    unsigned n = stack_layers(op->volume->stack);

    op->pause_ns = pause_ns;
    if (stack_layer(op->volume->stack, n - 1) == layer->layer) {
        layer->users++;
        if (status < 0) {
            op_fail_errno(op, status, "What was cut could not be flushed");
        }
        cut_end(op);
        return;
    }
    op_fail_errno(op, status, "The volume could not be cut");
    int r = stack_hold(op->volume->stack, cut_held, op);

    if (r < 0) {
        cut_impossible(op, r);
    }
}

void shelf_volume_cut(struct op *op)
{
    struct shelf_layer *layer = shelf_layer(op->shelf, op->layers[0].id);

    op->volume = volume_of(op);
    if (op->volume == NULL) {
        return;
    }
    if (layer == NULL) {
        op_fail(op, ERR_INTERNAL, "Layer %s is not open.", op->layers[0].id);
        op_end(op);
        return;
    }
    int r = stack_snapshot(op->volume->stack, layer->layer, cut_done, op);

    if (r < 0) {
        cut_impossible(op, r);
    }
}

/* ---- how much is above a layer ---- */

void shelf_volume_changes(struct op *op)
{
    bool found = false;

    op->volume = volume_of(op);
    if (op->volume == NULL) {
        return;
    }
    op->size_bytes = 0;
    for (unsigned i = stack_layers(op->volume->stack); i-- > 0 && !found;) {
        struct layer *layer = stack_layer(op->volume->stack, i);

        found = strcmp(shelf_layer_of(op->shelf, layer)->id, op->lower_id) == 0;
        if (!found && !layer_is_blank(layer)) {
            op->size_bytes += layer_used_bytes(layer) - 2 * LAYER_GRANULE;
        }
    }
    if (!found) {
        op_fail(op, ERR_NO_SUCH_OBJECT, "Layer %s is not below volume %s.", op->lower_id,
                op->volume_id);
    }
    op_end(op);
}

/* ---- beginning and end ---- */

int shelf_new(struct array *array, unsigned index, struct shelf **ret_shelf)
{
    struct shelf *shelf = calloc(1, sizeof(*shelf));

    CHECK(shelf != NULL);
    shelf->array = array;
    shelf->index = index;
    shelf->loop = array->loops[index];
    map_init(&shelf->layers);
    map_init(&shelf->volumes);
    int r = layer_cache_new(array->spec.map_bytes, &shelf->cache);

    if (r < 0) {
        free(shelf);
        return r;
    }
    /* Set up by the loop itself, with the first volume: here it may run already. */
    *ret_shelf = shelf;
    return 0;
}

void shelf_free(struct shelf *shelf)
{
    if (shelf == NULL) {
        return;
    }
    layer_cache_free(shelf->cache);
    map_fini(&shelf->layers);
    map_fini(&shelf->volumes);
    free(shelf);
}

static void shelf_closed_note(struct note *note)
{
    shelf_closed(note->array);
}

static void shelf_layer_closed(void *arg, int status)
{
    struct shelf *shelf = arg;

    (void)status;
    if (--shelf->pending == 0) {
        note_post(note_new(shelf->array, shelf_closed_note));
    }
}

static void shelf_volume_gone(struct op *op)
{
    struct shelf *shelf = op->shelf;

    free(op);
    if (--shelf->pending > 0) {
        return;
    }
    shelf->pending = 1;
    for (struct map_entry *e = map_first(&shelf->layers), *next; e != NULL; e = next) {
        struct shelf_layer *layer = e->value;

        next = map_next(&shelf->layers, e);
        shelf_layer_take(shelf, layer);
        shelf->pending++;
        layer_unref(layer->layer, shelf_layer_closed, shelf);
        free(layer);
    }
    shelf_layer_closed(shelf, 0);
}

void shelf_close(void *arg)
{
    struct shelf *shelf = arg;

    shelf->closing = true;
    if (shelf->usage_timer.loop != NULL) {
        loop_timer_stop(&shelf->usage_timer);
    }
    shelf->pending = 1;
    for (struct map_entry *e = map_first(&shelf->volumes), *next; e != NULL; e = next) {
        struct op *op = calloc(1, sizeof(*op));

        CHECK(op != NULL);
        next = map_next(&shelf->volumes, e);
        op->array = shelf->array;
        op->shelf = shelf;
        op->volume = e->value;
        op->then = shelf_volume_gone;
        shelf->pending++;
        shelf_job_stop(op, volume_close);
    }
    struct op *last = calloc(1, sizeof(*last));

    CHECK(last != NULL);
    last->shelf = shelf;
    shelf_volume_gone(last);
}
