// SPDX-License-Identifier: Apache-2.0
/* Several volumes cut at one moment: the loops' half (see array_groups.c). A part of a group is what it has on one loop. */
#include "block/stack.h"

#include <string.h>

#include "base/atomic_range.h"
#include "base/check.h"
#include "hosting/array_private.h"

static void part_cut(void *arg);
static void part_void(void *arg);

/* Once in a group's life. error: why not. */
static void group_decide(struct group *group, int verdict, const struct error *error)
{
    int undecided = GROUP_UNDECIDED;

    if (!atomic_compare_exchange_strong(&group->verdict, &undecided, verdict)) {
        return;
    }
    if (error != NULL) {
        group->error = *error;
    }
    for (unsigned i = 0; i < ARRAY_LOOPS_MAX; i++) {
        struct group_part *part = &group->parts[i];

        if (part->n_volumes > 0) {
            part->verdict_task =
                (struct loop_task){.fn = verdict == GROUP_CUT ? part_cut : part_void, .arg = part};
            loop_post(part->shelf->loop, &part->verdict_task);
        }
    }
}

static struct group_volume *volume_next(const struct group_part *part, struct group_volume *volume)
{
    struct group *group = part->group;
    struct group_volume *end = group->volumes + group->n_volumes;

    volume = volume == NULL ? group->volumes : volume + 1;
    while (volume < end && group->array->shelves[volume->loop] != part->shelf) {
        volume++;
    }
    return volume < end ? volume : NULL;
}

#define part_each(part, volume)                                                                    \
    for (struct group_volume *volume = volume_next(part, NULL); volume != NULL;                    \
         volume = volume_next(part, volume))

/* ---- holding ---- */

static void volume_held(void *arg)
{
    struct group_volume *volume = arg;
    struct group_part *part = &volume->group->parts[volume->loop];

    if (!volume->asked) {
        return; /* released meanwhile */
    }
    volume->held = true;
    if (++part->n_held == part->n_volumes && atomic_fetch_sub(&part->group->to_hold, 1) == 1) {
        group_decide(part->group, GROUP_CUT, NULL);
    }
}

static void part_late(void *arg)
{
    struct group_part *part = arg;
    struct error error = {0};

    part_each(part, volume)
    {
        if (!volume->held && error.code == ERR_NONE) {
            error_set(
                &error, ERR_TIMEOUT,
                "What is being written to volume %s does not end within %u ms, so the volumes "
                "could not be cut together.",
                volume->id, part->group->deadline_ms);
        }
    }
    if (error.code != ERR_NONE) {
        group_decide(part->group, GROUP_VOID, &error);
    }
}

/* Whatever could make a push fail is found before anything is held. */
static int volume_check(const struct group_part *part, struct group_volume *volume,
                        struct error *error)
{
    const struct shelf_volume *open = shelf_volume(part->shelf, volume->id);
    unsigned n = 0;

    if (part->shelf->closing) {
        return error_set(error, ERR_SHUTTING_DOWN, "The service is stopping.");
    }
    if (open == NULL || open->stack->info.read_only) {
        return error_set(error, ERR_INTERNAL, "Volume %s is not open, or cannot be written.",
                         volume->id);
    }
    volume->stack = open->stack;
    for (struct group_layer *layer = volume->layers; layer != NULL; layer = layer->next) {
        layer->open = shelf_layer(part->shelf, layer->id);
        n++;
        if (layer->open == NULL ||
            layer_size_bytes(layer->open->layer) != open->stack->info.size_bytes) {
            return error_set(error, ERR_INTERNAL,
                             "Layer %s is not open, or does not fit volume %s.", layer->id,
                             volume->id);
        }
    }
    if (stack_layers(open->stack) + n > STACK_MAX_LAYERS) {
        return error_set(error, ERR_LIMIT_REACHED, "Volume %s has too many points in time.",
                         volume->id);
    }
    return 0;
}

static void part_over(void *arg)
{
    struct group *group = ((struct group_part *)arg)->group;

    if (atomic_fetch_sub(&group->to_end, 1) == 1) {
        group_all_voided(group);
    }
}

/* stack_hold() may still have something to tell in this round of the loop. */
static void part_over_soon(struct group_part *part)
{
    part->task = (struct loop_task){.fn = part_over, .arg = part};
    loop_defer(part->shelf->loop, &part->task);
}

void shelf_group_hold(void *arg)
{
    struct group_part *part = arg;
    struct group *group = part->group;
    struct loop *loop = part->shelf->loop;
    struct error error = {0};

    part->began = true;
    if (part->voided) {
        part_over_soon(part);
        return;
    }
    loop_timer_init(&part->timer, loop, part_late, part);
    part_each(part, volume)
    {
        if (error.code == ERR_NONE) {
            volume_check(part, volume, &error);
        }
    }
    atomic_lower(&group->held_ns, loop_now_ns(loop));
    part_each(part, volume)
    {
        if (error.code == ERR_NONE && stack_hold(volume->stack, volume_held, volume) < 0) {
            error_set(&error, ERR_INTERNAL, "Volume %s cannot be cut now.", volume->id);
        }
        volume->asked = error.code == ERR_NONE;
    }
    if (error.code != ERR_NONE) {
        group_decide(group, GROUP_VOID, &error);
    } else {
        loop_timer_start(&part->timer, group->deadline_ms * MS_NS);
    }
}

/* ---- what was decided ---- */

static void part_void(void *arg)
{
    struct group_part *part = arg;

    part->voided = true;
    if (!part->began) {
        return; /* shelf_group_hold() comes */
    }
    loop_timer_stop(&part->timer);
    part_each(part, volume)
    {
        if (volume->asked) {
            volume->asked = false;
            stack_release(volume->stack);
        }
    }
    part_over_soon(part);
}

static void part_flushed(void *arg, int status)
{
    struct group_part *part = arg;
    int none = 0;

    if (status < 0) {
        atomic_compare_exchange_strong(&part->group->flush_status, &none, status);
    }
    if (--part->n_flushing > 0) {
        return;
    }
    part_each(part, volume)
    {
        shelf_usage_refresh(shelf_volume(part->shelf, volume->id));
    }
    if (atomic_fetch_sub(&part->group->to_end, 1) == 1) {
        group_all_flushed(part->group);
    }
}

/* All loops have held all: each may let go as soon as its own are pushed. */
static void part_cut(void *arg)
{
    struct group_part *part = arg;
    struct group *group = part->group;

    loop_timer_stop(&part->timer);
    part->shelf->restacked = true;
    part_each(part, volume)
    {
        volume->n_frozen = stack_layers(volume->stack);
        for (struct group_layer *layer = volume->layers; layer != NULL; layer = layer->next) {
            CHECK(stack_push(volume->stack, layer->open->layer) == 0);
            layer->open->users++;
        }
        stack_release(volume->stack);
    }
    atomic_raise(&group->released_ns, loop_now_ns(part->shelf->loop));
    if (atomic_fetch_sub(&group->to_cut, 1) == 1) {
        group_all_cut(group);
    }
    part->n_flushing = 1;
    part_each(part, volume)
    {
        /* Those below, too: the flush of an earlier cut may have failed. */
        for (unsigned i = 0; i < volume->n_frozen; i++) {
            part->n_flushing++;
            layer_flush(stack_layer(volume->stack, i), part_flushed, part);
        }
    }
    part_flushed(part, 0);
}
