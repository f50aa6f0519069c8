// SPDX-License-Identifier: Apache-2.0
/* Effects: what a call asks for that may be done only once the call is committed. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/control_private.h"

struct effect {
    struct effect *next;
    effect_fn fn;
    _Alignas(max_align_t) unsigned char arg[];
};

void control_effect(struct control *control, effect_fn fn, const void *arg, size_t arg_size)
{
    struct effect *effect = malloc(sizeof(*effect) + arg_size);

    CHECK(control->in_batch && effect != NULL);
    effect->next = NULL;
    effect->fn = fn;
    if (arg_size > 0) {
        memcpy(effect->arg, arg, arg_size);
    }
    *control->effects_tail = effect;
    control->effects_tail = &effect->next;
}

/* Forgets the effects from mark on. */
void control_effects_drop(struct control *control, struct effect **mark)
{
    struct effect *next;

    for (struct effect *effect = *mark; effect != NULL; effect = next) {
        next = effect->next;
        free(effect);
    }
    *mark = NULL;
    control->effects_tail = mark;
}

void control_effects_run(struct control *control, struct effect *effects)
{
    struct effect *next;

    for (struct effect *effect = effects; effect != NULL; effect = next) {
        next = effect->next;
        effect->fn(control, effect->arg);
        free(effect);
    }
}

struct effect *control_effects_split(struct effect **effects, struct effect **mark,
                                     struct control *control)
{
    struct effect **at = mark == &control->effects ? effects : mark;
    struct effect *rest = *at;

    *at = NULL;
    return rest;
}
