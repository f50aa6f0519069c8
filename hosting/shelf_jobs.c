// SPDX-License-Identifier: Apache-2.0
/* The loop's half: merging layers, and letting go of what is below the oldest one. */
#include "block/stack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "hosting/array_private.h"

enum { MERGE_UP_ANYWAY = 64 << 20 };

static int index_of(struct blockdev *stack, const struct layer *layer)
{
    for (unsigned i = 0; i < stack_layers(stack); i++) {
        if (stack_layer(stack, i) == layer) {
            return (int)i;
        }
    }
    return -1;
}

/* ---- the job of a volume ---- */

static void job_done(void *arg, int status)
{
    struct op *op = arg;
    struct shelf_volume *volume = op->volume;
    struct op *after = volume->after_job;

    volume->job = NULL;
    volume->job_op = NULL;
    volume->after_job = NULL;
    if (status < 0) {
        error_set(&op->job_error,
                  status == -ENOSPC      ? ERR_NO_SPACE
                  : status == -ECANCELED ? ERR_SHUTTING_DOWN
                                         : ERR_INTERNAL,
                  "The layers could not be copied: %s.", strerror(-status));
    }
    shelf_usage_refresh(volume);
    op->volume = NULL;
    job_end(op);
    if (after != NULL) {
        after->next(after);
    }
}

static void job_start(struct op *op, const struct stack_job_spec *wanted)
{
    struct shelf_volume *volume = op->volume;
    struct stack_job_spec spec = *wanted;
    struct stack_job *job;

    spec.done = job_done;
    spec.arg = op;
    int r = stack_job_start(volume->stack, &spec, &job);

    if (r < 0) {
        op_fail_errno(op, r, "The layers cannot be copied now");
    } else {
        op->keep = true;
        volume->job = job;
        volume->job_op = op;
    }
    op_end(op);
}

void shelf_job_stop(struct op *op, void (*next)(struct op *op))
{
    struct shelf_volume *volume = op->volume;

    if (volume->job == NULL) {
        next(op);
        return;
    }
    CHECK(volume->after_job == NULL);
    op->next = next;
    volume->after_job = op;
    stack_job_stop(volume->job);
}

/* ---- merging ---- */

void shelf_merge(struct op *op)
{
    struct shelf_volume *volume = shelf_volume(op->shelf, op->volume_id);
    struct shelf_layer *lower = shelf_layer(op->shelf, op->lower_id);
    struct shelf_layer *upper = shelf_layer(op->shelf, op->upper_id);
    int at = volume != NULL && lower != NULL && upper != NULL
                 ? index_of(volume->stack, lower->layer)
                 : -1;
    int n = volume != NULL ? (int)stack_layers(volume->stack) : 0;

    op->volume = volume;
    if (at < 0 || at + 1 >= n || stack_layer(volume->stack, (unsigned)at + 1) != upper->layer) {
        op_fail(op, ERR_CONFLICT, "Layers %s and %s are not neighbours in volume %s.", op->lower_id,
                op->upper_id, op->volume_id);
        op_end(op);
        return;
    }
    /* What is written to stays; what is larger too, for the smaller one has no place for its end. */
    bool up = at + 2 == n || layer_size_bytes(upper->layer) > layer_size_bytes(lower->layer) ||
              upper->users < lower->users ||
              layer_used_bytes(lower->layer) <= layer_used_bytes(upper->layer);

    if (at + 2 == n && layer_used_bytes(lower->layer) > MERGE_UP_ANYWAY &&
        layer_used_bytes(lower->layer) > layer_used_bytes(upper->layer)) {
        op_fail(op, ERR_IN_USE, "Layer %s is written to, and %s is too large to be copied.",
                op->upper_id, op->lower_id);
        op_end(op);
        return;
    }
    op->superfluous = up ? op->lower_id : op->upper_id;
    job_start(op, &(struct stack_job_spec){.kind = up ? STACK_MERGE_UP : STACK_MERGE_DOWN,
                                           .index = (unsigned)(up ? at : at + 1)});
}

/* The top of each volume, one after the other: what is below was a top once, and merging looks at both. */
void shelf_scrub(struct op *op)
{
    struct shelf_volume *volume = shelf_volume(op->shelf, op->volume_id);

    op->volume = volume;
    if (volume == NULL) {
        op_fail(op, ERR_INTERNAL, "Volume %s is not open.", op->volume_id);
        op_end(op);
        return;
    }
    job_start(op, &(struct stack_job_spec){.kind = STACK_SCRUB,
                                           .index = stack_layers(volume->stack) - 1});
}

static void one_removed(void *arg, int status)
{
    struct op *op = arg;

    (void)status; /* of a flush of what is going */
    if (--op->pending == 0) {
        op->remove_all = true;
        shelf_layers_close(op, op_end);
    }
}

/* Only volumes of its family have a layer. */
static int place_of(const struct op *op, const struct shelf_volume *volume,
                    const struct shelf_layer *layer)
{
    return volume->entry->family == op->family ? index_of(volume->stack, layer->layer) : -1;
}

void shelf_merge_finish(struct op *op)
{
    struct shelf_layer *layer = shelf_layer(op->shelf, op->layers[0].id);
    struct map_entry *e;

    /* A stack that a job works on cannot lose a layer. The job is begun anew by who wanted it. */
    for (e = map_first(&op->shelf->volumes); layer != NULL && e != NULL;
         e = map_next(&op->shelf->volumes, e)) {
        struct shelf_volume *volume = e->value;

        if (volume->job != NULL && place_of(op, volume, layer) >= 0) {
            op->volume = volume;
            shelf_job_stop(op, shelf_merge_finish);
            return;
        }
    }
    op->shelf->restacked = true;
    op->pending = 1;
    for (e = map_first(&op->shelf->volumes); layer != NULL && e != NULL;
         e = map_next(&op->shelf->volumes, e)) {
        struct shelf_volume *volume = e->value;
        int at = place_of(op, volume, layer);

        if (at >= 0) {
            op->pending++;
            int r = stack_remove(volume->stack, (unsigned)at, one_removed, op);

            CHECK(r == 0);
            layer->users--;
        }
    }
    one_removed(op, 0);
}

/* ---- what is below the oldest ---- */

static void bottom_gone(void *arg)
{
    struct op *op = arg;

    if (--op->pending == 0) {
        op_end(op);
    }
}

struct bottom_drop {
    struct op *op;
    struct blockdev *bottom;
};

static void bottom_dropped(void *arg, int status)
{
    struct bottom_drop *drop = arg;
    struct op *op = drop->op;
    struct blockdev *bottom = drop->bottom;

    (void)status;
    free(drop);
    blockdev_close(bottom, bottom_gone, op);
}

static bool is_above_bottom(const struct shelf_volume *volume, const struct shelf_layer *oldest)
{
    return oldest != NULL && volume->bottom != NULL &&
           stack_layer(volume->stack, 0) == oldest->layer;
}

/* The oldest layer is whole: no volume that begins with it needs what was below. */
void shelf_bottoms_drop(struct op *op)
{
    const struct shelf_layer *oldest = shelf_layer(op->shelf, op->lower_id);
    struct map_entry *e;

    op->pending = 1;
    for (e = map_first(&op->shelf->volumes); e != NULL; e = map_next(&op->shelf->volumes, e)) {
        struct shelf_volume *volume = e->value;

        if (!is_above_bottom(volume, oldest)) {
            continue;
        }
        struct bottom_drop *drop = calloc(1, sizeof(*drop));

        CHECK(drop != NULL);
        drop->op = op;
        drop->bottom = volume->bottom;
        op->pending++;
        CHECK(stack_drop_bottom(volume->stack, bottom_dropped, drop) == 0);
        volume->bottom = NULL;
    }
    bottom_gone(op);
}
