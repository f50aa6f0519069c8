// SPDX-License-Identifier: Apache-2.0
/*
 * One moment for several stacks, on whatever loops they are.
 *
 * Thread:    a gate: any. What takes a stack: the loop of the stack.
 * Ownership: the gate is its owner's, and stays until all stacks have left it.
 * Errors:    stack_gate_enter(): -EBUSY; nothing else fails.
 *
 * The changes of all stacks that have entered are counted. OPEN: they go on. HELD: those that come wait, and when the last of those
 * counted has ended, the gate is CUT, by whoever ended it: that is the moment. VOID: it will have none. No loop has to run for the
 * moment to come but one that has a change under way, and none waits for a message: a loop finds out with its next change that it
 * came (go_on), pushes what it has to, and lets its stacks leave. So a change that waits, waits for changes of others, not for loops
 * that have none.
 *
 * A change that was issued after the end of another one is never before the moment when that one is after it.
 */
#ifndef BLOCK_STACK_GATE_H
#define BLOCK_STACK_GATE_H

#include <stdatomic.h>

#include "base/loop.h"
#include "block/blockdev.h"

enum stack_gate_state { STACK_GATE_OPEN, STACK_GATE_HELD, STACK_GATE_CUT, STACK_GATE_VOID };

struct stack_gate {
    atomic_int state;
    atomic_uint under_way;    /* changes, of all stacks */
    _Atomic uint64_t held_ns; /* when they began to wait */
    /* It has become CUT. On any loop of the stacks and inside their requests, so it only sends messages; others may know already. */
    void (*cut)(struct stack_gate *gate);
};

enum stack_gate_state stack_gate_state(const struct stack_gate *gate);
/* No change is under way now. */
bool stack_gate_is_quiet(const struct stack_gate *gate);
/* OPEN becomes HELD, and CUT at once when it is quiet. All stacks have entered. */
void stack_gate_hold(struct stack_gate *gate, uint64_t now_ns);
/* OPEN or HELD becomes VOID. False: it was decided before. */
bool stack_gate_void(struct stack_gate *gate);

/* go_on: called, perhaps at the beginning of a change, when the gate was found CUT or VOID; all stacks of the loop should leave then.
 * -EBUSY: the stack is held already, or goes. */
int stack_gate_enter(struct blockdev *dev, struct stack_gate *gate, loop_fn go_on, void *arg);
/* Has changes under way, while it is in. */
bool stack_gate_is_busy(const struct blockdev *dev);
/* Those that come go on from now on. True: some have waited. */
bool stack_gate_leave(struct blockdev *dev);
/* After all of the loop have left: so do those that waited. */
void stack_gate_resume(struct blockdev *dev);

#endif
