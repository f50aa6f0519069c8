// SPDX-License-Identifier: Apache-2.0
/*
 * The pending timers of one loop: a binary heap by due time, equal times in order of start.
 *
 * Thread:    the loop's own.
 * Ownership: timers are the caller's; the heap owns only its array of pointers.
 * Errors:    none; the array grows, and a process without memory for a pointer stops.
 */
#ifndef BASE_TIMER_HEAP_H
#define BASE_TIMER_HEAP_H

#include "base/loop.h"

struct timer_heap {
    struct loop_timer **timers;
    size_t count;
    size_t size;
    uint64_t next_sequence;
};

/* A zeroed struct timer_heap is an empty heap. */
void timer_heap_fini(struct timer_heap *heap);
/* Pending timers move to their new place. */
void timer_heap_put(struct timer_heap *heap, struct loop_timer *timer, uint64_t due_ns);
void timer_heap_remove(struct timer_heap *heap, struct loop_timer *timer);
struct loop_timer *timer_heap_first(const struct timer_heap *heap); /* NULL if none */
/* Takes the first timer if it is due at now_ns and was started before sequence_limit; NULL if not.
 */
struct loop_timer *timer_heap_take_due(struct timer_heap *heap, uint64_t now_ns,
                                       uint64_t sequence_limit);

#endif
