// SPDX-License-Identifier: Apache-2.0
/*
 * The stack's own structures, for stack*.c only.
 *
 * Thread:    the stack's loop.
 * Ownership: operations and parts come from free lists of the stack and go back there.
 * Errors:    as block/blockdev.h.
 */
#ifndef BLOCK_STACK_OBJECT_H
#define BLOCK_STACK_OBJECT_H

#include "block/layer_private.h"
#include "block/stack.h"
#include "block/stack_gate.h"

enum {
    STACK_IOV = 16,
    /* What a granule resolves to; STACK_LAYER + n is data of the layer with number n. */
    STACK_ABSENT = 0,
    STACK_ZERO = 1,
    STACK_LAYER = 2,
    STACK_RESOLVE_FROM = 4, /* layers; fewer are asked in turn */
    STACK_RESOLVE_SLOTS = 8192,
    STACK_READ_BYTES =
        16 << 20, /* longer reads are done in steps: map pages of all layers at once */
};

struct stack;
struct stack_read;

/* One contiguous piece of a read, or one layer's part of a flush. */
struct stack_part {
    struct stack_part *next_spare;
    struct stack_read *read;
    struct layer *layer;
    struct layer_io io;
    struct layer_wait wait;
    struct block_req req; /* to the bottom */
    struct iovec iov[STACK_IOV];
    struct slice slices[STACK_IOV];
};

/* A read of the stack as it is now into memory: of a request, to fill a granule, for a job. */
struct stack_read {
    struct stack *stack;
    uint64_t offset;
    uint64_t len;
    const struct slice *slices;
    unsigned n_slices;
    void (*done)(struct stack_read *read); /* perhaps inside start */
    void *arg;
    int status;
    unsigned parts;
    uint64_t at; /* where the next step begins */
    const struct slice *slice;
    size_t slice_begin;
    struct layer_wait wait;
};

/* A change: of a request or a job. While it is active no other overlaps its granules. */
struct stack_op {
    struct stack *stack;
    struct list link; /* active, waiting or held; free list */
    struct block_req *req;
    uint64_t first;
    uint64_t last;
    void (*go)(struct stack_op *op); /* when it has become active */
    void *arg;
    struct loop_task task;

    struct layer *layer;
    struct layer_wait wait;
    struct layer_op change;
    struct stack_read read;
    struct slice fill_slices[2];
    uint64_t at; /* first byte not yet done */
    uint64_t piece_end;
    uint64_t reserved_bytes;
    bool filled;
    int status;
    unsigned n_iov;
    struct iovec *iov;
    unsigned iov_room;
    uint8_t *fill; /* two granules */
};

struct stack_resolved {
    uint64_t chunk;
    uint8_t code[LAYER_CHUNK_GRANULES];
};

struct stack_hold {
    bool held;
    bool told;
    uint64_t since_ns;
    stack_held_fn fn;
    void *arg;
    struct loop_task task;
    bool posted;
};

struct stack_gate_place {
    struct stack_gate *at; /* NULL: the stack is in none */
    loop_fn go_on;
    void *arg;
    bool waited;
};

struct stack {
    struct blockdev base;
    struct layer *layers[STACK_MAX_LAYERS]; /* oldest first */
    uint8_t numbers[STACK_MAX_LAYERS];      /* of each, for resolved codes */
    struct layer *by_number[STACK_MAX_LAYERS];
    unsigned n_layers;
    unsigned n_read;   /* what is read is in the oldest so many of them: all, but for old content */
    unsigned new_from; /* 0: the map tells content, not changes */
    struct blockdev *bottom;
    unsigned bottom_reads;
    struct stack_capacity capacity;

    struct list active;
    struct list waiting;
    struct list held_ops;
    struct stack_hold hold;
    struct stack_gate_place gate;
    struct stack_snapshot *snapshot;
    struct stack_job *job;
    struct list fills; /* fill devices */
    struct stack_bottom_drop *bottom_drop;

    struct stack_resolved **resolved;
    unsigned n_resolved;
    unsigned resolved_hand;

    struct list spare_ops;
    struct stack_part *spare_parts;
    struct stack_stats stats;

    bool closing;
    unsigned closing_layers;
    block_close_fn close_done;
    void *close_arg;
};

struct stack *stack_of(const struct blockdev *dev);
struct layer *stack_top(const struct stack *stack);

/* stack_read.c */
void stack_read_start(struct stack_read *read);
/* True: the map pages of all layers are known for the granules. False: wait->fn comes. */
bool stack_known(struct stack *stack, uint64_t first, uint64_t last, struct layer_wait *wait);
unsigned stack_resolve(struct stack *stack, uint64_t first, uint64_t last, uint64_t *ret_count);
void stack_resolved_set(struct stack *stack, uint64_t first, uint64_t last, unsigned code);
void stack_resolved_forget(struct stack *stack);
struct stack_part *stack_part_get(struct stack *stack);
void stack_part_put(struct stack *stack, struct stack_part *part);

/* stack.c */
struct stack_op *stack_op_get(struct stack *stack);
void stack_op_put(struct stack_op *op);
/* go(op) is called when nothing overlaps and no barrier holds; perhaps at once. */
void stack_op_lock(struct stack_op *op, uint64_t first, uint64_t last);
void stack_op_unlock(struct stack_op *op);
int stack_reserve(struct stack_op *op, struct layer *layer, uint64_t first, uint64_t last);
void stack_settle_space(struct stack_op *op, int64_t allocated_bytes);
unsigned stack_code(const struct stack *stack, const struct layer *layer);
/* What an operation writes: bytes [begin, end) of its request, which are [begin, end) of the volume. */
void stack_op_payload(struct stack_op *op, uint64_t begin, uint64_t end);
void stack_op_zeros(struct stack_op *op, uint64_t len); /* at most a granule */
void stack_try_close(struct stack *stack);
/* Locks again, in their order, what waited for the barrier or a gate. */
void stack_held_go_on(struct stack *stack);

/* stack_gate.c */
/* A change comes. False: it waits, until stack_held_go_on(). */
bool stack_gate_pass(struct stack *stack);
/* One has ended. */
void stack_gate_passed(struct stack *stack);

/* stack_fill.c */
/* False: a request of the fill device is under way, and calls stack_try_close() at its end. */
bool stack_fill_detach(struct stack *stack);
/* Nothing is below any more: fill devices do nothing from now on, and hold no layer back from merging. */
void stack_fill_whole(struct stack *stack);

/* stack_job.c */
/* Does the job of the stack read or write the layer? */
bool stack_job_has(const struct stack *stack, const struct layer *layer);
void stack_bottom_read_done(struct stack *stack);

#endif
