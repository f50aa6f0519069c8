// SPDX-License-Identifier: Apache-2.0
/*
 * A change counts itself, then looks at the state; who holds sets the state, then looks at the count. So either the change sees that it has
 * to wait, or the holder sees the change.
 */
#include "block/stack_gate.h"

#include <errno.h>

#include "base/check.h"
#include "block/stack_object.h"

enum {
    LOOKS_MAX = 4096,
    LOOK_NS = 100000, /* after the hold: it rarely takes longer, and sleeping does */
};

enum stack_gate_state stack_gate_state(const struct stack_gate *gate)
{
    return (enum stack_gate_state)atomic_load(&gate->state);
}

bool stack_gate_is_quiet(const struct stack_gate *gate)
{
    return atomic_load(&gate->under_way) == 0;
}

/* Nothing is under way, and what comes sees that it is held. */
static void gate_cut(struct stack_gate *gate)
{
    int held = STACK_GATE_HELD;

    if (atomic_compare_exchange_strong(&gate->state, &held, STACK_GATE_CUT)) {
        gate->cut(gate);
    }
}

void stack_gate_hold(struct stack_gate *gate, uint64_t now_ns)
{
    int open = STACK_GATE_OPEN;

    atomic_store(&gate->held_ns, now_ns);
    if (atomic_compare_exchange_strong(&gate->state, &open, STACK_GATE_HELD) &&
        stack_gate_is_quiet(gate)) {
        gate_cut(gate);
    }
}

bool stack_gate_void(struct stack_gate *gate)
{
    int state = atomic_load(&gate->state);

    while (state == STACK_GATE_OPEN || state == STACK_GATE_HELD) {
        if (atomic_compare_exchange_weak(&gate->state, &state, STACK_GATE_VOID)) {
            return true;
        }
    }
    return false;
}

int stack_gate_enter(struct blockdev *dev, struct stack_gate *gate, loop_fn go_on, void *arg)
{
    struct stack *stack = stack_of(dev);
    unsigned n = 0;

    CHECK(loop_is_current(dev->loop));
    if (stack->gate.at != NULL || stack->hold.held || stack->snapshot || dev->closing) {
        return -EBUSY;
    }
    list_for_each(link, &stack->active)
    {
        n++;
    }
    list_for_each(link, &stack->waiting)
    {
        n++;
    }
    atomic_fetch_add(&gate->under_way, n);
    stack->gate = (struct stack_gate_place){.at = gate, .go_on = go_on, .arg = arg};
    return 0;
}

bool stack_gate_is_busy(const struct blockdev *dev)
{
    const struct stack *stack = stack_of(dev);

    return !list_empty(&stack->active) || !list_empty(&stack->waiting);
}

/* The one who ends the last change may be about to: he is awake, or this loop would not have been let in. */
static void gate_look(struct stack *stack)
{
    struct stack_gate *gate = stack->gate.at;
    enum stack_gate_state state = stack_gate_state(gate);

    if (state == STACK_GATE_HELD) {
        uint64_t until_ns = atomic_load(&gate->held_ns) + LOOK_NS;

        stack->gate.waited = true;
        for (unsigned i = 0; state == STACK_GATE_HELD && i < LOOKS_MAX; i++) {
            if (loop_now_ns(stack->base.loop) >= until_ns) {
                break;
            }
            state = stack_gate_state(gate);
        }
    }
    if (state == STACK_GATE_CUT || state == STACK_GATE_VOID) {
        stack->gate.go_on(stack->gate.arg);
    }
}

bool stack_gate_pass(struct stack *stack)
{
    struct stack_gate *gate = stack->gate.at;

    if (gate == NULL) {
        return true;
    }
    gate_look(stack);
    if (stack->gate.at == NULL) {
        return true; /* it has left */
    }
    atomic_fetch_add(&gate->under_way, 1);
    if (stack_gate_state(gate) == STACK_GATE_OPEN) {
        return true;
    }
    stack->gate.waited = true;
    stack_gate_passed(stack);
    return false;
}

void stack_gate_passed(struct stack *stack)
{
    struct stack_gate *gate = stack->gate.at;

    if (gate != NULL && atomic_fetch_sub(&gate->under_way, 1) == 1 &&
        stack_gate_state(gate) == STACK_GATE_HELD) {
        gate_cut(gate);
    }
}

bool stack_gate_leave(struct blockdev *dev)
{
    struct stack *stack = stack_of(dev);
    bool waited = stack->gate.waited;

    CHECK(stack->gate.at != NULL && loop_is_current(dev->loop));
    stack->gate = (struct stack_gate_place){0};
    return waited;
}

void stack_gate_resume(struct blockdev *dev)
{
    struct stack *stack = stack_of(dev);

    stack_held_go_on(stack);
    stack_try_close(stack);
}
