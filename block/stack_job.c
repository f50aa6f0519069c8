// SPDX-License-Identifier: Apache-2.0
/*
 * What is done with a stack besides I/O: snapshot, growing, background jobs, removing a layer or
 * what is below the oldest one.
 *
 * A job walks over the source and copies what the destination needs, in pieces, each under the
 * lock of its granules like any other change. Where the destination is to be filled only where it
 * is absent, that is looked at again under the lock: should a host have been faster, the walk goes
 * back to that place. A scrub walks over what the file occupies, and looks at the file again under
 * the lock. Every piece leaves all reads as they were, so a job may stop anywhere.
 */
#include "block/stack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "block/stack_object.h"

enum {
    PIECE_GRANULES = 16,
    ZERO_PIECE_GRANULES = 1 << 18,
    SCAN_RUNS = 1024, /* between two looks at the loop */
    SCRUB_COUNTS = 32,
    DEFAULT_INFLIGHT = 4,
};

/* ---- snapshot ---- */

struct stack_snapshot {
    struct stack *stack;
    struct layer *layer;
    struct layer *frozen;
    uint64_t pause_ns;
    stack_snapshot_fn fn;
    void *arg;
};

static void snapshot_end(struct stack_snapshot *snapshot, int status)
{
    struct stack *stack = snapshot->stack;
    stack->snapshot = NULL;
    snapshot->fn(snapshot->arg, status, snapshot->pause_ns);
    free(snapshot);
    stack_try_close(stack);
}

static void snapshot_frozen(void *arg, int status)
{
    snapshot_end(arg, status);
}

static void snapshot_held(void *arg)
{
    struct stack_snapshot *snapshot = arg;
    struct blockdev *dev = &snapshot->stack->base;
    snapshot->frozen = stack_top(snapshot->stack);
    int err = stack_push(dev, snapshot->layer);
    snapshot->pause_ns = stack_release(dev);
    if (err) {
        snapshot_end(snapshot, err);
    } else {
        layer_flush(snapshot->frozen, snapshot_frozen, snapshot);
    }
}

static void snapshot_flushed(void *arg, int status)
{
    struct stack_snapshot *snapshot = arg;
    if (!status) {
        status = stack_hold(&snapshot->stack->base, snapshot_held, snapshot);
    }
    if (status) {
        snapshot_end(snapshot, status);
    }
}

int stack_snapshot(struct blockdev *dev, struct layer *layer, stack_snapshot_fn fn, void *arg)
{
    struct stack *stack = stack_of(dev);
    CHECK(loop_is_current(dev->loop));
    if (stack->snapshot || stack->hold.held || stack->gate.at || dev->closing) {
        return -EBUSY;
    }
    if (stack->n_layers == STACK_MAX_LAYERS) {
        return -ENOSPC;
    }
    if (layer_size_bytes(layer) != dev->info.size_bytes) {
        return -EINVAL;
    }
    struct stack_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    if (!snapshot) {
        return -ENOMEM;
    }
    snapshot->stack = stack;
    snapshot->layer = layer;
    snapshot->fn = fn;
    snapshot->arg = arg;
    stack->snapshot = snapshot;
    layer_flush(stack_top(stack), snapshot_flushed, snapshot);
    return 0;
}

/* ---- growing ---- */

struct stack_growth {
    struct stack *stack;
    uint64_t size_bytes;
    layer_done_fn fn;
    void *arg;
};

static void growth_done(void *arg, int status)
{
    struct stack_growth *growth = arg;
    if (!status) {
        growth->stack->base.info.size_bytes = growth->size_bytes;
    }
    growth->stack->snapshot = NULL;
    growth->fn(growth->arg, status);
    stack_try_close(growth->stack);
    free(growth);
}

int stack_grow(struct blockdev *dev, uint64_t size_bytes, layer_done_fn fn, void *arg)
{
    struct stack *stack = stack_of(dev);
    CHECK(loop_is_current(dev->loop));
    if (stack->snapshot || stack->hold.held || stack->gate.at || dev->closing) {
        return -EBUSY;
    }
    if (size_bytes % dev->info.block_bytes != 0) {
        return -EINVAL;
    }
    struct stack_growth *growth = calloc(1, sizeof(*growth));
    if (!growth) {
        return -ENOMEM;
    }
    *growth = (struct stack_growth){.stack = stack, .size_bytes = size_bytes, .fn = fn, .arg = arg};
    int err = layer_grow(stack_top(stack), size_bytes, growth_done, growth);
    if (err) {
        free(growth);
        return err;
    }
    /* Neither a snapshot nor a close while the sizes differ. */
    stack->snapshot = (struct stack_snapshot *)growth;
    return 0;
}

/* ---- jobs ---- */

struct stack_job {
    struct stack *stack;
    struct stack_job_spec spec;
    struct layer *source; /* NULL: of a scrub */
    struct layer *target;
    uint64_t granules;
    uint64_t at;      /* next granule to look at */
    uint64_t run_end; /* granules up to there are worth a look: scrub */
    uint64_t find_from;
    uint64_t n_changes;
    unsigned counts;
    struct layer_io io;
    uint64_t copied_bytes;
    unsigned inflight;
    bool waiting; /* for a map page or the file */
    bool posted;  /* its turn will come */
    bool stopped;
    bool flushing;
    int status;
    struct layer_wait wait;
    struct loop_task task;
};

struct job_piece {
    struct stack_job *job;
    struct stack_op *op;
    struct layer_io io;
    struct iovec iov;
    enum granule_state state;
    bool reclaiming;
    uint8_t *data; /* PIECE_GRANULES, or NULL */
};

const char *stack_job_kind_name(enum stack_job_kind kind)
{
    static const char *const names[] = {"merge up", "merge down", "scrub"};
    CHECK(kind < ARRAY_LEN(names));
    return names[kind];
}

static void job_walk(struct stack_job *job);

static void job_end(struct stack_job *job, int status)
{
    struct stack *stack = job->stack;
    stack->job = NULL;
    layer_sharing(job->target)->has_job = false;
    layer_sharing(job->target)->overwritten_by = NULL;
    /* First the references, so that done() may remove the source and hear when it is closed. */
    if (job->source) {
        layer_unref(job->source, NULL, NULL);
    }
    layer_unref(job->target, NULL, NULL);
    job->spec.done(job->spec.arg, status);
    free(job);
    stack_try_close(stack);
}

static void job_flushed(void *arg, int status)
{
    job_end(arg, status);
}

static void job_turn(void *arg)
{
    struct stack_job *job = arg;
    job->posted = false;
    job_walk(job);
}

/* Later, from the loop. */
static void job_continue(struct stack_job *job)
{
    if (!job->posted) {
        job->posted = true;
        job->task = (struct loop_task){.fn = job_turn, .arg = job};
        loop_defer(job->stack->base.loop, &job->task);
    }
}

static void piece_end(struct job_piece *piece, int status)
{
    struct stack_job *job = piece->job;
    struct stack_op *op = piece->op;
    stack_settle_space(op, status ? 0 : op->change.allocated_bytes);
    if (!status && op->change.state == GRANULE_DATA) {
        uint64_t bytes = (op->last - op->first + 1) * LAYER_GRANULE;
        job->copied_bytes += bytes;
        job->stack->stats.copied_bytes += bytes;
    }
    stack_op_unlock(op);
    stack_op_put(op);
    free(piece->data);
    free(piece);
    job->status = job->status ? job->status : status;
    job->inflight--;
    job_continue(job);
}

static void piece_changed(struct layer_op *change)
{
    piece_end(change->arg, change->status);
}

static void piece_write(struct job_piece *piece)
{
    struct stack_job *job = piece->job;
    struct stack_op *op = piece->op;
    op->change = (struct layer_op){
        .first = op->first,
        .last = op->last,
        .state = piece->state,
        .offset = op->first * LAYER_GRANULE,
        .io = {.len = (op->last - op->first + 1) * LAYER_GRANULE, .iov = &piece->iov, .n_iov = 1},
        .done = piece_changed,
        .arg = piece};
    if (piece->state == GRANULE_DATA) {
        int err = stack_reserve(op, job->target, op->first, op->last);
        if (err) {
            piece_end(piece, err);
            return;
        }
    }
    int status = layer_change(job->target, &op->change);
    if (status != -EINPROGRESS) {
        piece_end(piece, status);
    }
}

static void piece_read_end(struct job_piece *piece, int status)
{
    if (status) {
        piece_end(piece, status);
        return;
    }
    piece_write(piece);
}

static void piece_layer_read(struct layer_io *io)
{
    piece_read_end(io->arg, io->status);
}

static void piece_read(struct job_piece *piece)
{
    struct stack_job *job = piece->job;
    struct stack_op *op = piece->op;
    uint64_t offset = op->first * LAYER_GRANULE;
    uint64_t len = (op->last - op->first + 1) * LAYER_GRANULE;
    piece->data = aligned_alloc(LAYER_GRANULE, (size_t)len);
    CHECK(piece->data != NULL);
    piece->iov = (struct iovec){.iov_base = piece->data, .iov_len = (size_t)len};
    piece->io = (struct layer_io){.op = LAYER_IO_READ,
                                  .offset = offset,
                                  .len = len,
                                  .iov = &piece->iov,
                                  .n_iov = 1,
                                  .done = piece_layer_read,
                                  .arg = piece};
    int status = layer_read(job->source, &piece->io);
    if (status != -EINPROGRESS) {
        piece_read_end(piece, status);
    }
}

/* ---- scrub ---- */

static void scrub_step(struct job_piece *piece, int status);

static void scrub_io_done(struct layer_io *io)
{
    scrub_step(io->arg, io->status);
}

/* Find, reclaim, find, …, until the range of the piece occupies nothing. The lock keeps everybody
 * else out of it. */
static void scrub_step(struct job_piece *piece, int status)
{
    struct stack_job *job = piece->job;
    struct stack_op *op = piece->op;
    while (!status) {
        uint64_t first;
        uint64_t last;
        if (piece->reclaiming) {
            job->copied_bytes += piece->io.len;
            job->stack->stats.reclaimed_bytes += piece->io.len;
            layer_account(job->target, -(int64_t)piece->io.len);
            op->at += piece->io.len / LAYER_GRANULE;
        } else if (piece->io.done && layer_found(&piece->io, &first, &last)) {
            piece->reclaiming = true;
            op->at = first;
            status = layer_reclaim(job->target, &piece->io, first, last);
            continue;
        } else if (piece->io.done) {
            break;
        }
        if (op->at > op->last) {
            break;
        }
        piece->reclaiming = false;
        piece->io = (struct layer_io){.done = scrub_io_done, .arg = piece};
        status = layer_find(job->target, &piece->io, op->at, op->last);
    }
    if (status != -EINPROGRESS) {
        piece_end(piece, status);
    }
}

/* The next run that the file has. */
static void scrub_found(struct stack_job *job, int status)
{
    uint64_t last;
    if (status) {
        job->status = status;
    } else if (job->at < job->find_from) {
        job->run_end = job->at; /* a piece went back meanwhile */
    } else if (layer_found(&job->io, &job->at, &last)) {
        job->run_end = last + 1;
    } else {
        job->at = job->granules;
    }
}

static void scrub_find_done(struct layer_io *io)
{
    struct stack_job *job = io->arg;
    job->waiting = false;
    scrub_found(job, io->status);
    job_walk(job);
}

/* True: job->at is a granule that occupies space, or the end. */
static bool scrub_look(struct stack_job *job)
{
    if (job->at < job->run_end) {
        return true;
    }
    job->find_from = job->at;
    job->io = (struct layer_io){.done = scrub_find_done, .arg = job};
    int status = layer_find(job->target, &job->io, job->at, job->granules - 1);
    if (status == -EINPROGRESS) {
        job->waiting = true;
        return false;
    }
    scrub_found(job, status);
    return true;
}

static void scrub_count_done(struct layer_io *io)
{
    struct stack_job *job = io->arg;
    job->waiting = false;
    job->status = io->status;
    if (!io->status && layer_counted(job->target, io, job->n_changes)) {
        job->counts = SCRUB_COUNTS;
    }
    job_walk(job);
}

/* At last what the file occupies, as the file system says: a host may have written where a crash
 * had left something. Under load it is tried a few times; what is wrong then is too much, and right
 * after the next open. True: done. */
static bool scrub_count(struct stack_job *job)
{
    while (job->counts < SCRUB_COUNTS && !job->status) {
        job->counts++;
        job->io = (struct layer_io){.done = scrub_count_done, .arg = job};
        int status = layer_count(job->target, &job->io, &job->n_changes);
        if (status == -EINPROGRESS) {
            job->waiting = true;
            return false;
        }
        job->status = status;
        if (!status && layer_counted(job->target, &job->io, job->n_changes)) {
            job->counts = SCRUB_COUNTS;
        }
    }
    return true;
}

/* ---- pieces ---- */

static void piece_known(void *arg, int status);

static bool has_data(struct layer *layer, uint64_t first, uint64_t last)
{
    return layer_missing_bytes(layer, first, last) < (last - first + 1) * LAYER_GRANULE;
}

static void piece_go(struct stack_op *op)
{
    struct job_piece *piece = op->arg;
    struct stack_job *job = piece->job;
    op->wait = (struct layer_wait){.fn = piece_known, .arg = piece};
    if (!layer_want(job->target, op->first, op->last, &op->wait)) {
        return;
    }
    op->change.state = GRANULE_ABSENT;
    op->change.allocated_bytes = 0;
    if (job->spec.kind == STACK_SCRUB) {
        if (has_data(job->target, op->first, op->last)) {
            job->at = job->at < op->first ? job->at : op->first; /* a host was faster */
            job->run_end = job->at;
            piece_end(piece, 0);
        } else {
            op->at = op->first;
            scrub_step(piece, 0);
        }
        return;
    }
    if (job->spec.kind != STACK_MERGE_DOWN &&
        !layer_map_absent(layer_map_of(job->target), op->first, op->last)) {
        job->at = job->at < op->first ? job->at : op->first;
        job->run_end = job->at;
        piece_end(piece, 0);
        return;
    }
    if (piece->state == GRANULE_DATA) {
        piece_read(piece);
    } else {
        piece_write(piece);
    }
}

static void piece_known(void *arg, int status)
{
    struct job_piece *piece = arg;
    if (status) {
        piece_end(piece, status);
    } else {
        piece_go(piece->op);
    }
}

static void piece_start(struct stack_job *job, uint64_t first, uint64_t last,
                        enum granule_state state)
{
    struct job_piece *piece = calloc(1, sizeof(*piece));
    CHECK(piece != NULL);
    piece->job = job;
    piece->state = state;
    piece->op = stack_op_get(job->stack);
    piece->op->go = piece_go;
    piece->op->arg = piece;
    job->inflight++;
    stack_op_lock(piece->op, first, last);
}

static void job_known(void *arg, int status)
{
    struct stack_job *job = arg;
    job->waiting = false;
    job->status = job->status ? job->status : status;
    job_walk(job);
}

static bool job_wants(struct stack_job *job, struct layer *layer)
{
    uint64_t n = layer_granules(layer);
    uint64_t last = (job->at / LAYER_PAGE_GRANULES + 1) * LAYER_PAGE_GRANULES - 1;
    last = last < n ? last : n - 1;
    job->wait = (struct layer_wait){.fn = job_known, .arg = job};
    if (layer_want(layer, job->at, last, &job->wait)) {
        return true;
    }
    job->waiting = true;
    return false;
}

/* Starts a piece at job->at, or steps over what needs none. */
static void job_look(struct stack_job *job)
{
    struct stack *stack = job->stack;
    enum granule_state from = GRANULE_DATA;
    uint64_t last = (job->at / LAYER_PAGE_GRANULES + 1) * LAYER_PAGE_GRANULES - 1;
    uint64_t count;
    last = last < job->granules ? last : job->granules - 1;
    if (job->spec.kind == STACK_SCRUB) {
        last = last < job->run_end ? last : job->run_end - 1;
        from = layer_map_run(layer_map_of(job->target), job->at, last, &count);
        uint64_t first = job->at;
        job->at += count;
        if (from != GRANULE_DATA) {
            piece_start(job, first, first + count - 1, from);
        }
        return;
    }
    from = layer_map_run(layer_map_of(job->source), job->at, last, &count);
    last = job->at + count - 1;
    bool oldest = job->target == stack->layers[0] && !stack->bottom;
    if (from == GRANULE_ABSENT || (from == GRANULE_ZERO && job->spec.kind == STACK_MERGE_UP &&
                                   job->source == stack->layers[0] && !stack->bottom)) {
        job->at = last + 1;
        if (job->at < job->granules) {
            job->at = layer_map_skip_absent(layer_map_of(job->source), job->at);
            job->at = job->at < job->granules ? job->at : job->granules;
        }
        return;
    }
    enum granule_state to = layer_map_run(layer_map_of(job->target), job->at, last, &count);
    last = job->at + count - 1;
    if (from == GRANULE_ZERO && job->spec.kind == STACK_MERGE_DOWN && oldest) {
        from = GRANULE_ABSENT;
    }
    if ((job->spec.kind != STACK_MERGE_DOWN && to != GRANULE_ABSENT) ||
        (from == to && from != GRANULE_DATA)) {
        job->at = last + 1;
        return;
    }
    uint64_t most = from == GRANULE_DATA ? PIECE_GRANULES : ZERO_PIECE_GRANULES;
    uint64_t first = job->at;
    last = last < first + most ? last : first + most - 1;
    job->at = last + 1;
    piece_start(job, first, last, from);
}

static void job_walk(struct stack_job *job)
{
    if (job->waiting || job->flushing) {
        return;
    }
    if (job->stopped && !job->status) {
        job->status = -ECANCELED;
    }
    for (unsigned runs = 0; !job->status && job->at < job->granules; runs++) {
        if (job->inflight >= job->spec.max_inflight) {
            return;
        }
        if (runs == SCAN_RUNS) {
            job_continue(job);
            return;
        }
        if (job->spec.kind == STACK_SCRUB && !scrub_look(job)) {
            return;
        }
        if (job->status || job->at >= job->granules) {
            continue;
        }
        if ((job->source && !job_wants(job, job->source)) || !job_wants(job, job->target)) {
            return;
        }
        job_look(job);
    }
    if (job->inflight > 0 || job->posted) {
        return;
    }
    if (job->status) {
        job_end(job, job->status);
        return;
    }
    if (job->spec.kind == STACK_SCRUB) {
        if (scrub_count(job)) {
            job_end(job, job->status);
        }
        return;
    }
    job->flushing = true;
    layer_flush(job->target, job_flushed, job);
}

static void job_grown(void *arg, int status)
{
    struct stack_job *job = arg;
    job->waiting = false;
    job->status = job->status ? job->status : status;
    job_walk(job);
}

/* Every stack has the layers below one of its own in the same order, so who has upper has lower
 * right below it: more stacks with lower than with upper means that one has lower alone. */
static bool is_read_alone(struct layer *lower, struct layer *upper)
{
    return layer_sharing(lower)->stacks > layer_sharing(upper)->stacks;
}

int stack_job_start(struct blockdev *dev, const struct stack_job_spec *spec,
                    struct stack_job **ret_job)
{
    struct stack *stack = stack_of(dev);
    CHECK(loop_is_current(dev->loop));
    if (stack->job || dev->closing) {
        return -EBUSY;
    }
    unsigned source = spec->index;
    unsigned target = 0;
    switch (spec->kind) {
    case STACK_MERGE_UP:
        target = source + 1;
        break;
    case STACK_MERGE_DOWN:
        /* The top is still written to. */
        if (source == 0 || source + 1 >= stack->n_layers) {
            return -EINVAL;
        }
        target = source - 1;
        if (spec->target_shared || is_read_alone(stack->layers[target], stack->layers[source])) {
            return -EPERM;
        }
        break;
    case STACK_SCRUB:
        target = source;
        break;
    default:
        return -EINVAL;
    }
    if (source >= stack->n_layers || target >= stack->n_layers) {
        return -EINVAL;
    }
    /* Of another stack, or a fill device. */
    if (layer_sharing(stack->layers[target])->has_job ||
        layer_sharing(stack->layers[source])->has_job) {
        return -EBUSY;
    }
    struct stack_job *job = calloc(1, sizeof(*job));
    if (!job) {
        return -ENOMEM;
    }
    job->stack = stack;
    job->spec = *spec;
    job->spec.max_inflight = spec->max_inflight ? spec->max_inflight : DEFAULT_INFLIGHT;
    job->target = stack->layers[target];
    layer_ref(job->target);
    uint64_t size = layer_size_bytes(job->target);
    if (spec->kind == STACK_SCRUB) {
        job->granules = layer_granules(job->target);
    } else {
        job->source = stack->layers[source];
        layer_ref(job->source);
        size = layer_size_bytes(job->source);
        job->granules = layer_granules(job->source);
    }
    layer_sharing(job->target)->has_job = true;
    if (spec->kind == STACK_MERGE_DOWN) {
        layer_sharing(job->target)->overwritten_by = job->source;
    }
    stack->job = job;
    *ret_job = job;
    if (layer_size_bytes(job->target) < size) {
        /* It was frozen before the volume grew. */
        job->waiting = true;
        int err = layer_grow(job->target, size, job_grown, job);
        if (err) {
            job->status = err;
            job->waiting = false;
            job_continue(job);
        }
    } else {
        job_continue(job);
    }
    return 0;
}

bool stack_job_has(const struct stack *stack, const struct layer *layer)
{
    return stack->job && (stack->job->source == layer || stack->job->target == layer);
}

void stack_job_stop(struct stack_job *job)
{
    job->stopped = true;
    if (!job->flushing) {
        job_continue(job);
    }
}

void stack_job_progress(const struct stack_job *job, uint64_t *ret_done_bytes,
                        uint64_t *ret_total_bytes, uint64_t *ret_copied_bytes)
{
    *ret_done_bytes = job->at * LAYER_GRANULE;
    *ret_total_bytes = job->granules * LAYER_GRANULE;
    *ret_copied_bytes = job->copied_bytes;
}

/* ---- removing ---- */

int stack_remove(struct blockdev *dev, unsigned index, layer_done_fn fn, void *arg)
{
    struct stack *stack = stack_of(dev);
    CHECK(loop_is_current(dev->loop));
    if (index + 1 >= stack->n_layers) {
        return -EINVAL;
    }
    if (stack->job || stack->snapshot || dev->closing || (!list_empty(&stack->fills) && index == 0)) {
        return -EBUSY;
    }
    struct layer *layer = stack->layers[index];
    stack_resolved_forget(stack);
    layer_sharing(layer)->stacks--;
    stack->by_number[stack->numbers[index]] = NULL;
    stack->n_layers--;
    stack->n_read -= index < stack->n_read;
    stack->new_from -= index < stack->new_from;
    for (unsigned i = index; i < stack->n_layers; i++) {
        stack->layers[i] = stack->layers[i + 1];
        stack->numbers[i] = stack->numbers[i + 1];
    }
    layer_unref(layer, fn, arg);
    return 0;
}

struct stack_bottom_drop {
    struct stack *stack;
    layer_done_fn fn;
    void *arg;
    struct loop_task task;
};

static void bottom_dropped(void *arg)
{
    struct stack_bottom_drop *drop = arg;
    drop->fn(drop->arg, 0);
    free(drop);
}

void stack_bottom_read_done(struct stack *stack)
{
    CHECK(stack->bottom_reads > 0);
    stack->bottom_reads--;
    struct stack_bottom_drop *drop = stack->bottom_drop;
    if (drop && stack->bottom_reads == 0) {
        stack->bottom_drop = NULL;
        drop->task = (struct loop_task){.fn = bottom_dropped, .arg = drop};
        loop_defer(stack->base.loop, &drop->task);
    }
}

int stack_drop_bottom(struct blockdev *dev, layer_done_fn fn, void *arg)
{
    struct stack *stack = stack_of(dev);
    CHECK(loop_is_current(dev->loop));
    if (!stack->bottom) {
        return -EINVAL;
    }
    if (dev->closing) {
        return -EBUSY;
    }
    struct stack_bottom_drop *drop = calloc(1, sizeof(*drop));
    if (!drop) {
        return -ENOMEM;
    }
    *drop = (struct stack_bottom_drop){.stack = stack, .fn = fn, .arg = arg};
    stack->bottom = NULL;
    stack_fill_whole(stack);
    stack_resolved_forget(stack);
    stack->bottom_drop = drop;
    stack->bottom_reads++;
    stack_bottom_read_done(stack);
    return 0;
}
