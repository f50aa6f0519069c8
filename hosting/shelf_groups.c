// SPDX-License-Identifier: Apache-2.0
/* Several volumes cut at one moment: the loops' half (see array_groups.c). A part of a group is what it has on one loop. */
#include "block/stack.h"

#include <string.h>

#include "base/atomic_range.h"
#include "base/check.h"
#include "hosting/array_private.h"

enum {
    TRIES_MAX = 64,
    CHOOSE_NS =
        5000000, /* for a moment without changes, or half of the deadline; then without more ado */
    LOOKS_MAX = 2048,
    LOOK_NS = 50000, /* without letting others of the loop have their turn */
};

static void part_told(void *arg);

void shelf_group_decided(struct group *group)
{
    for (unsigned i = 0; i < ARRAY_LOOPS_MAX; i++) {
        struct group_part *part = &group->parts[i];

        if (part->n_volumes > 0) {
            part->verdict_task = (struct loop_task){.fn = part_told, .arg = part};
            loop_post(part->shelf->loop, &part->verdict_task);
        }
    }
}

static void group_void(struct group *group, const struct error *error)
{
    if (stack_gate_void(&group->gate)) {
        group->error = *error;
        shelf_group_decided(group);
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

/* ---- what was decided ---- */

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

static void part_flush(struct group_part *part)
{
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

/* Nothing of the part is used any more after its last step. */
static void part_end(struct group_part *part)
{
    struct group *group = part->group;

    if (!part->began || !part->told || !part->left || part->choosing) {
        return;
    }
    if (stack_gate_state(&group->gate) == STACK_GATE_CUT) {
        if (atomic_fetch_sub(&group->to_cut, 1) == 1) {
            group_all_cut(group);
        }
        part_flush(part);
    } else if (atomic_fetch_sub(&group->to_end, 1) == 1) {
        group_all_voided(group);
    }
}

/* CUT or VOID. What need not be before the changes that wait is left to part_end(). */
static void part_go_on(void *arg)
{
    struct group_part *part = arg;
    struct group *group = part->group;
    bool cut = stack_gate_state(&group->gate) == STACK_GATE_CUT;
    bool waited = false;

    if (part->left) {
        return;
    }
    part->left = true;
    loop_timer_stop(&part->timer);
    part->shelf->restacked |= cut;
    part_each(part, volume)
    {
        volume->n_frozen = cut ? stack_layers(volume->stack) : 0;
        for (struct group_layer *layer = volume->layers; cut && layer != NULL;
             layer = layer->next) {
            CHECK(stack_push(volume->stack, layer->open->layer) == 0);
            layer->open->users++;
        }
        if (volume->entered && stack_gate_leave(volume->stack)) {
            waited = true;
        }
    }
    part_each(part, volume)
    {
        if (volume->entered) {
            stack_gate_resume(volume->stack);
        }
    }
    if (waited) {
        atomic_raise(&group->released_ns, loop_now_ns(part->shelf->loop));
    }
}

static void part_told(void *arg)
{
    struct group_part *part = arg;

    part->told = true;
    if (part->began) {
        part_go_on(part);
    }
    part_end(part);
}

/* ---- entering ---- */

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

/* Some are not held in time. */
static void part_late(void *arg)
{
    struct group_part *part = arg;
    struct group *group = part->group;
    enum stack_gate_state state = stack_gate_state(&group->gate);
    uint64_t now_ns = loop_now_ns(part->shelf->loop);
    uint64_t due_ns = atomic_load(&group->entered_ns) + group->deadline_ms * MS_NS;
    struct error error = {0};

    if (state == STACK_GATE_OPEN) {
        loop_timer_start(&part->timer, group->deadline_ms * MS_NS / 4);
        return;
    }
    if (state == STACK_GATE_HELD && now_ns < due_ns) {
        loop_timer_start(&part->timer, due_ns - now_ns);
        return;
    }
    part_each(part, volume)
    {
        if (stack_gate_is_busy(volume->stack)) {
            error_set(
                &error, ERR_TIMEOUT,
                "What is being written to volume %s does not end within %u ms, so the volumes "
                "could not be cut together.",
                volume->id, group->deadline_ms);
            group_void(group, &error);
            return;
        }
    }
}

static void part_choose(void *arg);

void shelf_group_begin(void *arg)
{
    struct group_part *part = arg;
    struct group *group = part->group;
    struct loop *loop = part->shelf->loop;
    struct error error = {0};

    part->began = true;
    loop_timer_init(&part->timer, loop, part_late, part);
    if (stack_gate_state(&group->gate) == STACK_GATE_VOID) {
        part->left = true;
        part_end(part);
        return;
    }
    part_each(part, volume)
    {
        if (error.code == ERR_NONE) {
            volume_check(part, volume, &error);
        }
    }
    part_each(part, volume)
    {
        if (error.code == ERR_NONE &&
            stack_gate_enter(volume->stack, &group->gate, part_go_on, part) < 0) {
            error_set(&error, ERR_INTERNAL, "Volume %s cannot be cut now.", volume->id);
        }
        volume->entered = error.code == ERR_NONE;
    }
    if (error.code != ERR_NONE) {
        group_void(group, &error);
        return;
    }
    loop_timer_start(&part->timer, group->deadline_ms * MS_NS);
    if (atomic_fetch_sub(&group->to_enter, 1) == 1) {
        part->choosing = true;
        atomic_store(&group->entered_ns, loop_now_ns(loop));
        part_choose(part);
    }
}

/* ---- the moment ---- */

/* Is there a moment without changes soon? Those of this loop do not end while it looks. */
static bool quiet_soon(const struct group_part *part)
{
    const struct stack_gate *gate = &part->group->gate;
    uint64_t until_ns = loop_now_ns(part->shelf->loop) + LOOK_NS;

    part_each(part, volume)
    {
        if (stack_gate_is_busy(volume->stack)) {
            return false;
        }
    }
    for (unsigned i = 0; i < LOOKS_MAX && !stack_gate_is_quiet(gate); i++) {
        if (loop_now_ns(part->shelf->loop) >= until_ns) {
            break;
        }
    }
    return stack_gate_is_quiet(gate);
}

/*
 * All have entered. Holding when nothing is under way makes nobody wait: a loop may have been put off its processor in the middle of a change,
 * and then the others would wait until it has it back.
 */
static void part_choose(void *arg)
{
    struct group_part *part = arg;
    struct group *group = part->group;
    struct loop *loop = part->shelf->loop;
    uint64_t half_ns = group->deadline_ms * MS_NS / 2;
    uint64_t until_ns =
        atomic_load(&group->entered_ns) + (half_ns < CHOOSE_NS ? half_ns : CHOOSE_NS);

    part->tries++;
    if (!quiet_soon(part) && part->tries < TRIES_MAX && loop_now_ns(loop) < until_ns) {
        part->task = (struct loop_task){.fn = part_choose, .arg = part};
        loop_post(loop, &part->task);
        return;
    }
    stack_gate_hold(&group->gate, loop_now_ns(loop));
    part->choosing = false;
    if (stack_gate_state(&group->gate) != STACK_GATE_HELD) {
        part_go_on(part);
    }
    part_end(part);
}
