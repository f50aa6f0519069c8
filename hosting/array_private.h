// SPDX-License-Identifier: Apache-2.0
/*
 * Inside the array only: the two halves of it, and the operations that go between them.
 *
 * Thread:    struct array, family, pool and entry: control's half (array.c, array_pool.c). struct
 *            shelf and what hangs on it: the loop's half (shelf*.c). An operation belongs to one of
 *            them at a time.
 * Ownership: an operation is freed by control after its done().
 * Errors:    op->error.
 */
#ifndef HOSTING_ARRAY_PRIVATE_H
#define HOSTING_ARRAY_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/map.h"
#include "block/front_dev.h"
#include "block/layer.h"
#include "block/space.h"
#include "block/stack_gate.h"
#include "hosting/array.h"

enum { ARRAY_DIR_SIZE = 512, ARRAY_PATH_SIZE = ARRAY_DIR_SIZE + ARRAY_ID_LEN + 8 };

enum { ARRAY_LOOPS_MAX = 16 };

typedef char array_id[ARRAY_ID_LEN + 1];

/* ---- control's half ---- */

struct pool {
    array_id id;
    char dir[ARRAY_DIR_SIZE];
    int dir_fd; /* locked */
    struct space space;
    struct array *array;
    atomic_uint refs; /* of operations, and of open layers */
    bool removed;
    loop_fn gone;
    void *gone_arg;
    struct loop_task low_task;
    atomic_bool low_posted;
    _Atomic uint64_t reclaimable_bytes[ARRAY_LOOPS_MAX];
    struct { /* of each loop, its own */
        size_t n_layers;
        uint64_t reclaimable_bytes; /* while it is added up */
    } on_loop[ARRAY_LOOPS_MAX];
};

struct family {
    array_id id;
    unsigned loop;
    unsigned volumes;
    size_t layers;   /* open ones */
    struct list ops; /* the first one is under way */
};

/* A volume for readers: found under array->lock, numbers written by its loop. */
struct entry {
    array_id id;
    struct family *family;
    struct blockdev *front;
    bool closing;
    _Atomic uint64_t size_bytes;
    _Atomic uint64_t used_bytes;
    _Atomic uint64_t shared_bytes;
    _Atomic unsigned n_layers;
};

/* A layer made ahead: open on its loop, in the stock's family there. */
struct spare {
    struct list link;
    array_id id;
    struct pool *pool;
    uint64_t size_bytes;
    unsigned loop;
    bool named; /* somebody is going to create it */
};

/* What layers are made ahead for: the kinds asked for last. */
struct spare_kind {
    struct pool *pool; /* NULL: free */
    uint64_t size_bytes;
    unsigned loop;
    unsigned asked; /* times that there was none */
    unsigned ready; /* not named */
    bool making;    /* one */
    uint64_t used;  /* when */
};

enum { SPARE_KINDS = 16 };

struct stock {
    struct list spares;
    struct spare_kind kinds[SPARE_KINDS];
    uint64_t clock;
    bool making; /* one, of some kind */
};

struct array {
    struct array_spec spec;
    struct stock stock;
    struct loop *loops[ARRAY_LOOPS_MAX];
    struct shelf *shelves[ARRAY_LOOPS_MAX];
    unsigned load[ARRAY_LOOPS_MAX]; /* families and volumes */
    struct map families;
    pthread_rwlock_t lock; /* pools and entries: changed by control, read by any thread */
    struct map pools;
    struct map entries;
    atomic_uint under_way; /* operations, queued ones too, jobs, and messages to control */
    unsigned n_ops;        /* operations */
    bool closing;
    bool shelves_closing;
    unsigned shelves_open;
    loop_fn close_done;
    void *close_arg;
};

/* loop UINT_MAX: the one with the fewest. */
struct family *family_get(struct array *array, const char *id, unsigned loop);
void family_settle(struct array *array, struct family *family);
unsigned loop_with_fewest(const struct array *array);
/* Layers for an array_stock.c. */
struct op *layers_op(struct array *array, struct family *family, const struct array_layer *layers,
                     size_t n, void (*run)(struct op *op), void (*finish)(struct op *op));
void layers_made(struct op *op);
void layers_gone(struct op *op);
void op_queue(struct op *op);

/* The stock (array_stock.c). */
struct spare *stock_find(struct array *array, const char *layer_id);
/* It is a layer like others from now on. */
void stock_take(struct array *array, struct spare *spare);
/* Removes it. */
void stock_drop(struct array *array, struct spare *spare);
/* Makes more where there are few. */
void stock_fill(struct array *array);
void stock_pool_gone(struct array *array, struct pool *pool);
void stock_free(struct array *array);
/* {dir}/{id}.spare */
void spare_path(char path[ARRAY_PATH_SIZE], const struct pool *pool, const char *layer_id);

struct pool *pool_find(struct array *array, const char *pool_id);
/* It stays as long as somebody has it, even when it was removed meanwhile. On control. NULL: there is none. */
struct pool *pool_ref(struct array *array, const char *pool_id);
void pool_unref(struct pool *pool);
void pool_free(struct pool *pool);

/* ---- operations ---- */

struct op_layer {
    array_id id;
    struct pool *pool;
    char path[ARRAY_PATH_SIZE];
    uint64_t size_bytes;
    struct shelf_layer *open; /* the loop's */
    bool closed;              /* it was open and is not any more: its pool is free of it */
    bool in_use;              /* it was to be removed */
    bool spare;               /* made ahead */
    bool renamed;             /* and has its name now */
};

struct op {
    struct list link; /* of its family */
    struct array *array;
    struct shelf *shelf;
    struct family *family;
    struct loop_task task;
    void (*run)(struct op *op);    /* on the loop; op_end() */
    void (*finish)(struct op *op); /* on control, before done(); may be NULL */
    void (*done)(struct op *op);   /* tells the one who asked */
    struct error error;

    array_id volume_id;
    uint64_t size_bytes;
    bool read_only;
    bool watch;
    bool frozen;
    size_t new_from;
    bool old_content;
    struct op_layer *layers;
    size_t n_layers;
    struct block_opener *bottom;
    uint64_t bottom_bytes;
    struct array_volume_filter *filters;
    size_t n_filters;
    struct entry *entry;

    array_id lower_id; /* merge */
    array_id upper_id;
    const char *superfluous; /* one of both */
    uint64_t pause_ns;
    bool keep; /* a job goes on with it */
    struct loop_task job_task;
    struct error job_error; /* the loop's until job_end(), when error may be control's already */

    union {
        array_done_fn plain;
        array_cut_fn cut;
        array_merge_fn merge;
        array_changes_fn changes;
        array_barrier_fn barrier;
    } fn;
    void *arg;

    /* The loop's while it runs. */
    size_t at;
    unsigned pending;
    size_t n_opened; /* layers that were not open before */
    bool remove_all; /* files of layers that are not open, too */
    bool ahead;      /* layers for the stock */
    int renamed;     /* 0, or why a spare has no new name */
    void (*next)(struct op *op);
    void (*then)(struct op *op);
    struct blockdev *stack;
    struct blockdev *bottom_dev;
    struct shelf_volume *volume;
    struct shelf_filter *filter;
    struct loop_work work;
};

/* From the loop: done with it. */
void op_end(struct op *op);
/* From the loop: the job that it started has ended. */
void job_end(struct op *op);
int op_fail(struct op *op, enum error_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int op_fail_errno(struct op *op, int err, const char *what);

/* A message from the loop to control that is not the end of an operation. */
struct note {
    struct loop_task task;
    struct array *array;
    void (*fn)(struct note *note);
    array_id id;
    struct op *op;
    struct group *group;
    uint64_t numbers[3];
};
struct note *note_new(struct array *array, void (*fn)(struct note *note));
void note_post(struct note *note);

/* ---- several volumes cut together (array_groups.c, shelf_groups.c) ---- */

struct group_layer {
    array_id id;
    struct group_layer *next; /* the next to be pushed on the same volume */
    struct shelf_layer *open;
};

struct group_volume {
    array_id id;
    struct group *group;
    struct family *family;
    unsigned loop;
    struct group_layer *layers;
    struct blockdev *stack; /* from here on the loop's */
    unsigned n_frozen;      /* of its layers, when it was cut */
    bool entered;           /* the gate */
};

/* What is on one loop; it belongs to that loop, but for n_volumes and the tasks. */
struct group_part {
    struct group *group;
    struct shelf *shelf;
    unsigned n_volumes;
    struct loop_task task;
    struct loop_task verdict_task;
    struct loop_timer timer;
    unsigned n_flushing;
    /* It ends when the three have come and none is still to come: its turn, the verdict, and its stacks' leaving. */
    bool began;
    bool told;
    bool left;
    bool choosing; /* the moment, for all */
    unsigned tries;
};

struct group {
    struct array *array;
    unsigned deadline_ms;
    array_cut_fn decided;
    array_done_fn done;
    void *arg;

    struct group_family *families;
    size_t n_families;
    size_t n_reached;
    size_t n_ended; /* barriers */
    bool over;
    struct loop_timer timer; /* for the queues */
    struct loop_task task;

    struct group_volume *volumes;
    size_t n_volumes;
    struct group_layer *layers;
    struct group_part parts[ARRAY_LOOPS_MAX];
    struct stack_gate gate;
    atomic_uint to_enter; /* parts */
    _Atomic uint64_t entered_ns; /* the last: the deadline counts from here */
    atomic_uint to_cut;
    atomic_uint to_end;
    _Atomic uint64_t released_ns; /* the last change that waited, or the moment */
    atomic_int flush_status;
    struct error error; /* of who decided */
};

struct entry *entry_find(struct array *array, const char *volume_id);
/* From the loops, once each. */
void group_all_cut(struct group *group);
void group_all_voided(struct group *group);
void group_all_flushed(struct group *group);
void shelf_group_begin(void *arg);
/* CUT or VOID: all loops are told. */
void shelf_group_decided(struct group *group);

/* ---- the loop's half ---- */

struct shelf_layer {
    array_id id;
    struct layer *layer;
    struct pool *pool;
    char path[ARRAY_PATH_SIZE];
    unsigned users; /* volumes on the shelf that have it, */
    unsigned looks; /* and those of them that only look at frozen layers */
    /* For the space that merging will give back. */
    struct shelf_layer *above; /* the only one found right above it */
    bool keeps;                /* written to, or with several above it */
};

/*
 * With filters each has a front of its own below it (a joint), so that any of them can be taken out and the stack be replaced:
 *
 *     front ─▶ filter ─▶ joint ─▶ filter ─▶ joint ─▶ stack
 *
 * Without, the front is right above the stack.
 */
struct shelf_filter {
    array_id id;
    struct array_filter ops;
    struct blockdev *dev;
    struct blockdev *joint;
    struct shelf_filter *lower;
};

struct shelf_volume {
    array_id id;
    struct shelf *shelf;
    struct entry *entry;
    struct blockdev *front;
    struct shelf_filter *filters; /* the highest */
    struct blockdev *stack;
    struct blockdev *bottom;
    bool frozen;
    struct stack_job *job;
    struct op *job_op;    /* it outlives its place in the family's queue */
    struct op *after_job; /* waits for the job to stop */
};

struct shelf {
    struct array *array;
    struct loop *loop;
    unsigned index;
    struct layer_cache *cache;
    struct map layers;
    struct map volumes;
    struct loop_timer usage_timer;
    struct loop_task task;
    unsigned looks; /* volumes that only look at frozen layers */
    bool restacked; /* which layer is above which is to be found again */
    bool closing;
    unsigned pending;
};

int shelf_new(struct array *array, unsigned index, struct shelf **ret_shelf);
/* On control, once closed. */
void shelf_free(struct shelf *shelf);
/* On the loop: closes everything, then posts shelf_closed() to control. */
void shelf_close(void *arg);
void shelf_closed(struct array *array);

/* Layers (shelf_layers.c). */
void shelf_layers_create(struct op *op);
void shelf_layers_remove(struct op *op);
/* Opens those that are not open, then calls next(op), with op->error when one could not be. */
void shelf_layers_open(struct op *op, void (*next)(struct op *op));
/* Closes those that are open and removes their files, then calls next(op). Those in use stay: op->error. */
void shelf_layers_close(struct op *op, void (*next)(struct op *op));
struct shelf_layer *shelf_layer(struct shelf *shelf, const char *id);
struct shelf_layer *shelf_layer_of(struct shelf *shelf, struct layer *layer);
/* It does not stand on the shelf any more; the caller frees it. */
void shelf_layer_take(struct shelf *shelf, struct shelf_layer *layer);

/* Volumes (shelf.c). */
void shelf_volume_open(struct op *op);
void shelf_volume_close(struct op *op);
void shelf_volume_replace(struct op *op);
void shelf_volume_grow(struct op *op);
void shelf_volume_cut(struct op *op);
void shelf_volume_changes(struct op *op); /* above lower_id: size_bytes */
void shelf_volume_read_only(struct op *op);
void shelf_volume_watch(struct op *op);
struct shelf_volume *shelf_volume(struct shelf *shelf, const char *id);
void shelf_usage_refresh(struct shelf_volume *volume);

/* Filters (shelf_filters.c). */
/* Over the stack, before there is a front. What is to be above is told; op->error when one could not be made (those that were
 * are there still). */
struct blockdev *shelf_filters_make(struct op *op);
/* After the front is closed: closes all, then calls next(op). */
void shelf_filters_close(struct op *op, void (*next)(struct op *op));
void shelf_filter_add(struct op *op);
void shelf_filter_remove(struct op *op);
/* What is right above the stack: the front, or the lowest joint. */
struct blockdev *shelf_base(const struct shelf_volume *volume);
/* The stack's info has changed: takes it over, from below. */
void shelf_info_refresh(struct shelf_volume *volume);
/* False: a filter would not know of a new size. */
bool shelf_can_grow(const struct shelf_volume *volume);

/* Jobs (shelf_jobs.c). */
void shelf_merge(struct op *op);
void shelf_merge_finish(struct op *op);
void shelf_scrub(struct op *op);
void shelf_bottoms_drop(struct op *op);
/* Stops the job of the volume, if there is one, then calls next(op). */
void shelf_job_stop(struct op *op, void (*next)(struct op *op));

#endif
