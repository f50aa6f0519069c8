// SPDX-License-Identifier: Apache-2.0
/*
 * Several volumes cut at one moment: control's half. The loops' half is in shelf_groups.c.
 *
 *     control      a barrier in the queue of each family ──────────▶ all reached
 *     each loop    checks what is its, its stacks enter the gate (block/stack_gate.h)
 *     the last     looks for a moment without changes, holds the gate; cut, mostly at once ───▶ the other loops
 *     each loop    with its next change, or the message: pushes, lets go ────────────────────▶ control: decided
 *                  flushes what is frozen ───────────────────────────────────────────────────▶ control: done, the barriers end
 *
 * Whoever finds that it cannot be (a member not open, not held in time) makes the gate void. Then all is released, control is told, and the
 * barriers end. Exactly one of the two is decided.
 */
#include <stdlib.h>
#include <string.h>

#include "base/atomic_range.h"
#include "base/check.h"
#include "hosting/array_private.h"

enum { QUEUES = 10 }; /* times the deadline */

struct group_family {
    struct group *group;
    struct family *family;
    struct array_barrier *barrier; /* reached */
};

static void group_free(struct group *group)
{
    free(group->families);
    free(group->volumes);
    free(group->layers);
    free(group);
}

/* Nothing comes any more: the barriers that were reached end. The others end as they are reached. */
static void barriers_end(struct group *group)
{
    group->over = true;
    for (size_t i = 0; i < group->n_families; i++) {
        struct array_barrier *barrier = group->families[i].barrier;

        if (barrier != NULL) {
            group->families[i].barrier = NULL;
            group->n_ended++;
            array_barrier_end(barrier);
        }
    }
    if (group->n_ended == group->n_families) {
        group_free(group);
    }
}

static void group_decided(struct group *group)
{
    bool cut = stack_gate_state(&group->gate) == STACK_GATE_CUT;

    group->decided(group->arg, cut ? NULL : &group->error,
                   cut ? atomic_load(&group->released_ns) - atomic_load(&group->gate.held_ns) : 0);
}

/* ---- what the loops tell ---- */

static void cut_arrived(struct note *note)
{
    group_decided(note->group);
}

static void voided_arrived(struct note *note)
{
    group_decided(note->group);
    barriers_end(note->group);
}

static void flushed_arrived(struct note *note)
{
    struct group *group = note->group;
    int status = atomic_load(&group->flush_status);

    if (status < 0) {
        error_set(&group->error, ERR_INTERNAL, "What was cut could not be flushed: %s.",
                  strerror(-status));
    }
    group->done(group->arg, status < 0 ? &group->error : NULL);
    barriers_end(group);
}

static void group_tell(struct group *group, void (*fn)(struct note *note))
{
    struct note *note = note_new(group->array, fn);

    note->group = group;
    note_post(note);
}

void group_all_cut(struct group *group)
{
    group_tell(group, cut_arrived);
}

void group_all_voided(struct group *group)
{
    group_tell(group, voided_arrived);
}

void group_all_flushed(struct group *group)
{
    group_tell(group, flushed_arrived);
}

/* ---- the queues ---- */

static void parts_begin(struct group *group)
{
    for (size_t i = 0; i < group->n_volumes; i++) {
        group->parts[group->volumes[i].loop].n_volumes++;
    }
    unsigned n_parts = 0;

    for (unsigned i = 0; i < group->array->spec.n_loops; i++) {
        n_parts += group->parts[i].n_volumes > 0;
    }
    atomic_store(&group->to_enter, n_parts);
    atomic_store(&group->to_cut, n_parts);
    atomic_store(&group->to_end, n_parts);
    for (unsigned i = 0; i < group->array->spec.n_loops; i++) {
        group->parts[i].group = group;
        group->parts[i].shelf = group->array->shelves[i];
    }
    /* The first one may decide before the last one has begun. */
    for (unsigned i = 0; i < group->array->spec.n_loops; i++) {
        struct group_part *part = &group->parts[i];

        if (part->n_volumes > 0) {
            part->task = (struct loop_task){.fn = shelf_group_begin, .arg = part};
            loop_post(part->shelf->loop, &part->task);
        }
    }
}

/* Their operations do not end: nothing was held. */
static void queues_late(void *arg)
{
    struct group *group = arg;
    size_t i = 0;

    while (group->families[i].barrier != NULL) {
        i++;
    }
    for (size_t v = 0; v < group->n_volumes; v++) {
        if (group->volumes[v].family == group->families[i].family &&
            group->error.code == ERR_NONE) {
            error_set(&group->error, ERR_CONFLICT,
                      "Volume %s is busy with another operation for more than %u ms.",
                      group->volumes[v].id, QUEUES * group->deadline_ms);
        }
    }
    stack_gate_void(&group->gate);
    group_decided(group);
    barriers_end(group);
}

/* By whichever loop ended the last change. */
static void gate_cut(struct stack_gate *gate)
{
    struct group *group = container_of(gate, struct group, gate);

    atomic_raise(&group->released_ns, loop_now_ns(group->array->spec.owner));
    shelf_group_decided(group);
}

static void queue_reached(void *arg, struct array_barrier *barrier)
{
    struct group_family *family = arg;
    struct group *group = family->group;

    if (group->over) {
        group->n_ended++;
        array_barrier_end(barrier);
        if (group->n_ended == group->n_families) {
            group_free(group);
        }
        return;
    }
    family->barrier = barrier;
    group->n_reached++;
    if (group->n_reached == group->n_families) {
        loop_timer_stop(&group->timer);
        parts_begin(group);
    }
}

/* ---- beginning ---- */

static struct group_volume *volume_put(struct group *group, const char *volume_id,
                                       struct entry *entry)
{
    for (size_t i = 0; i < group->n_volumes; i++) {
        if (strcmp(group->volumes[i].id, volume_id) == 0) {
            return &group->volumes[i];
        }
    }
    struct group_volume *volume = &group->volumes[group->n_volumes++];
    size_t i = 0;

    strcpy(volume->id, volume_id);
    volume->group = group;
    volume->family = entry->family;
    volume->loop = entry->family->loop;
    while (i < group->n_families && group->families[i].family != entry->family) {
        i++;
    }
    if (i == group->n_families) {
        group->families[i] = (struct group_family){.group = group, .family = entry->family};
        group->n_families++;
    }
    return volume;
}

static void not_begun(void *arg)
{
    struct group *group = arg;

    group_decided(group);
    group_free(group);
}

void array_group_cut(struct array *array, const struct array_group_member *members, size_t n,
                     unsigned deadline_ms, array_cut_fn decided, array_done_fn done, void *arg)
{
    struct group *group = calloc(1, sizeof(*group));

    CHECK(group != NULL && n > 0 && loop_is_current(array->spec.owner));
    group->array = array;
    group->gate.cut = gate_cut;
    group->deadline_ms = deadline_ms;
    group->decided = decided;
    group->done = done;
    group->arg = arg;
    group->families = calloc(n, sizeof(*group->families));
    group->volumes = calloc(n, sizeof(*group->volumes));
    group->layers = calloc(n, sizeof(*group->layers));
    CHECK(group->families != NULL && group->volumes != NULL && group->layers != NULL);
    for (size_t i = 0; i < n; i++) {
        struct entry *entry = entry_find(array, members[i].volume_id);
        struct group_layer *layer = &group->layers[i];

        if (entry == NULL || entry->closing) {
            error_set(&group->error, ERR_INTERNAL, "Volume %s is not open.", members[i].volume_id);
            stack_gate_void(&group->gate);
            group->task = (struct loop_task){.fn = not_begun, .arg = group};
            loop_defer(array->spec.owner, &group->task);
            return;
        }
        struct group_volume *volume = volume_put(group, members[i].volume_id, entry);
        struct group_layer **last = &volume->layers;

        strcpy(layer->id, members[i].layer_id);
        while (*last != NULL) {
            last = &(*last)->next;
        }
        *last = layer;
    }
    loop_timer_init(&group->timer, array->spec.owner, queues_late, group);
    loop_timer_start(&group->timer, (uint64_t)QUEUES * deadline_ms * MS_NS);
    for (size_t i = 0; i < group->n_families; i++) {
        array_barrier(array, group->families[i].family->id, queue_reached, &group->families[i]);
    }
}
