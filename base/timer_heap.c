// SPDX-License-Identifier: Apache-2.0
#include "base/timer_heap.h"

#include <stdlib.h>

#include "base/check.h"

static bool before(const struct loop_timer *a, const struct loop_timer *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->sequence < b->sequence;
}

static void place(struct timer_heap *heap, size_t index, struct loop_timer *timer)
{
    heap->timers[index] = timer;
    timer->heap_index = index;
}

static void sift_up(struct timer_heap *heap, size_t index)
{
    struct loop_timer *timer = heap->timers[index];
    while (index > 0) {
        size_t parent = (index - 1) / 2;
        if (!before(timer, heap->timers[parent])) {
            break;
        }
        place(heap, index, heap->timers[parent]);
        index = parent;
    }
    place(heap, index, timer);
}

static void sift_down(struct timer_heap *heap, size_t index)
{
    struct loop_timer *timer = heap->timers[index];
    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= heap->count) {
            break;
        }
        if (child + 1 < heap->count && before(heap->timers[child + 1], heap->timers[child])) {
            child++;
        }
        if (!before(heap->timers[child], timer)) {
            break;
        }
        place(heap, index, heap->timers[child]);
        index = child;
    }
    place(heap, index, timer);
}

void timer_heap_fini(struct timer_heap *heap)
{
    CHECK(heap->count == 0);
    free(heap->timers);
    *heap = (struct timer_heap){0};
}

void timer_heap_put(struct timer_heap *heap, struct loop_timer *timer, uint64_t due_ns)
{
    if (timer->heap_index != SIZE_MAX) {
        timer_heap_remove(heap, timer);
    }
    if (heap->count == heap->size) {
        size_t size = heap->size ? heap->size * 2 : 64;
        struct loop_timer **timers = realloc(heap->timers, size * sizeof(struct loop_timer *));
        CHECK(timers != NULL);
        heap->timers = timers;
        heap->size = size;
    }
    timer->due_ns = due_ns;
    timer->sequence = heap->next_sequence++;
    place(heap, heap->count++, timer);
    sift_up(heap, heap->count - 1);
}

void timer_heap_remove(struct timer_heap *heap, struct loop_timer *timer)
{
    size_t index = timer->heap_index;
    CHECK(index < heap->count && heap->timers[index] == timer);
    timer->heap_index = SIZE_MAX;
    struct loop_timer *last = heap->timers[--heap->count];
    if (last == timer) {
        return;
    }
    place(heap, index, last);
    sift_up(heap, index);
    sift_down(heap, last->heap_index);
}

struct loop_timer *timer_heap_first(const struct timer_heap *heap)
{
    return heap->count ? heap->timers[0] : NULL;
}

struct loop_timer *timer_heap_take_due(struct timer_heap *heap, uint64_t now_ns,
                                       uint64_t sequence_limit)
{
    struct loop_timer *first = timer_heap_first(heap);
    if (!first || first->due_ns > now_ns || first->sequence >= sequence_limit) {
        return NULL;
    }
    timer_heap_remove(heap, first);
    return first;
}
