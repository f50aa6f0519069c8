// SPDX-License-Identifier: Apache-2.0
/*
 * Control's half of the array: families and their queues, and what readers of other threads may ask.
 *
 * An operation waits in the queue of its family, goes to the family's loop, comes back, tells who asked, and lets the next
 * one go. So the operations of a family are never at the loop at the same time, and the loop's half needs no states in
 * between. What takes long (merging) is started by an operation and ends with a message of
 * its own.
 */
#include "hosting/array.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "hosting/array_private.h"

static void id_copy(array_id ret_id, const char *id)
{
    CHECK(strlen(id) <= ARRAY_ID_LEN);
    strcpy(ret_id, id);
}

/* ---- families ---- */

unsigned loop_with_fewest(const struct array *array)
{
    unsigned best = 0;

    for (unsigned i = 1; i < array->spec.n_loops; i++) {
        if (array->load[i] < array->load[best]) {
            best = i;
        }
    }
    return best;
}

/* What is on a loop counts: families, and their volumes. */
static void family_volumes(struct array *array, struct family *family, int delta)
{
    family->volumes = (unsigned)((int)family->volumes + delta);
    array->load[family->loop] = (unsigned)((int)array->load[family->loop] + delta);
}

struct family *family_get(struct array *array, const char *id, unsigned loop)
{
    struct family *family = map_get(&array->families, id);

    if (family == NULL) {
        family = calloc(1, sizeof(*family));
        CHECK(family != NULL);
        id_copy(family->id, id);
        family->loop = loop < array->spec.n_loops ? loop : loop_with_fewest(array);
        array->load[family->loop]++;
        list_init(&family->ops);
        CHECK(map_put(&array->families, id, family) == 0);
    }
    return family;
}

/* Forgotten when it has no volume and nothing to do: should it come back, any loop will do, for its
 * layers are closed. */
void family_settle(struct array *array, struct family *family)
{
    if (family->volumes == 0 && list_empty(&family->ops) && family->layers == 0) {
        map_remove(&array->families, family->id);
        array->load[family->loop]--;
        free(family);
    }
}

/* ---- operations ---- */

static void op_start(void *arg)
{
    struct op *op = arg;

    if (op->shelf->closing) {
        op_fail(op, ERR_SHUTTING_DOWN, "The service is stopping.");
    }
    if (op->error.code != ERR_NONE) {
        op_end(op);
    } else {
        op->run(op);
    }
}

/* One without run() is the owner's: a barrier. */
static void op_go(struct op *op)
{
    if (op->run == NULL) {
        op->fn.barrier(op->arg, (struct array_barrier *)op);
        return;
    }
    op->task = (struct loop_task){.fn = op_start, .arg = op};
    loop_post(op->shelf->loop, &op->task);
}

static void op_free(struct op *op)
{
    if (op->bottom != NULL) {
        op->bottom->ops->free(op->bottom);
    }
    for (size_t i = 0; i < op->n_layers; i++) {
        pool_unref(op->layers[i].pool);
    }
    free(op->layers);
    free(op->filters);
    free(op);
}

static void shelves_close(struct array *array);

/* The next step of the end: first what was asked for, then the shelves, then what they still tell. */
static void array_settle(struct array *array)
{
    if (!array->closing || array->n_ops > 0) {
        return;
    }
    if (!array->shelves_closing) {
        shelves_close(array);
    } else if (array->under_way == 0 && array->shelves_open == 0) {
        array->closing = false;
        array->close_done(array->close_arg);
    }
}

static void op_ended(void *arg)
{
    struct op *op = arg;
    struct array *array = op->array;
    struct family *family = op->family;

    CHECK(list_entry(family->ops.next, struct op, link) == op);
    if (op->finish != NULL) {
        op->finish(op);
    }
    /* Still the first in the queue: what done() asks for waits behind it, and the next one, a barrier
     * of the owner perhaps, may count on what done() did. */
    if (op->done != NULL) {
        op->done(op);
    }
    list_remove(&op->link);
    if (!op->keep) {
        op_free(op);
    }
    if (!list_empty(&family->ops)) {
        op_go(list_entry(family->ops.next, struct op, link));
    }
    family_settle(array, family);
    array->n_ops--;
    array->under_way--;
    array_settle(array);
}

void op_end(struct op *op)
{
    op->task = (struct loop_task){.fn = op_ended, .arg = op};
    loop_post(op->array->spec.owner, &op->task);
}

int op_fail(struct op *op, enum error_code code, const char *fmt, ...)
{
    va_list args;

    if (op->error.code != ERR_NONE) {
        return error_info(op->error.code)->err;
    }
    op->error.code = code;
    va_start(args, fmt);
    vsnprintf(op->error.detail, sizeof(op->error.detail), fmt, args);
    va_end(args);
    return error_info(code)->err;
}

int op_fail_errno(struct op *op, int err, const char *what)
{
    return op_fail(op,
                   err == -ENOSPC      ? ERR_NO_SPACE
                   : err == -ECANCELED ? ERR_SHUTTING_DOWN
                                       : ERR_INTERNAL,
                   "%s: %s.", what, strerror(-err));
}

static struct op *op_new(struct array *array, struct family *family, void (*run)(struct op *op))
{
    struct op *op = calloc(1, sizeof(*op));

    CHECK(op != NULL && loop_is_current(array->spec.owner));
    op->array = array;
    op->family = family;
    op->shelf = array->shelves[family->loop];
    op->run = run;
    return op;
}

void op_queue(struct op *op)
{
    bool first = list_empty(&op->family->ops);

    op->array->n_ops++;
    op->array->under_way++;
    list_push_back(&op->family->ops, &op->link);
    if (first) {
        op_go(op);
    }
}

static const struct error *op_error(const struct op *op)
{
    return op->error.code == ERR_NONE ? NULL : &op->error;
}

static void tell_plain(struct op *op)
{
    if (op->fn.plain != NULL) {
        op->fn.plain(op->arg, op_error(op));
    }
}

static void op_set_layers(struct op *op, const struct array_layer *layers, size_t n)
{
    op->layers = calloc(n == 0 ? 1 : n, sizeof(*op->layers));
    CHECK(op->layers != NULL);
    op->n_layers = n;
    for (size_t i = 0; i < n; i++) {
        struct op_layer *layer = &op->layers[i];

        id_copy(layer->id, layers[i].id);
        layer->size_bytes = layers[i].size_bytes;
        layer->pool = pool_ref(op->array, layers[i].pool_id);
        if (layer->pool == NULL) {
            op_fail(op, ERR_INTERNAL, "The directory of /pools/%s cannot be used.",
                    layers[i].pool_id);
            continue;
        }
        snprintf(layer->path, sizeof(layer->path), "%s/%s.layer", layer->pool->dir, layer->id);
    }
}

void array_barrier(struct array *array, const char *family, array_barrier_fn fn, void *arg)
{
    struct op *op = op_new(array, family_get(array, family, UINT_MAX), NULL);

    op->fn.barrier = fn;
    op->arg = arg;
    op_queue(op);
}

/* By a message, so that a barrier may end inside its own fn, and queues do not nest. */
void array_barrier_end(struct array_barrier *barrier)
{
    op_end((struct op *)barrier);
}

/* ---- messages ---- */

static void note_arrived(void *arg)
{
    struct note *note = arg;
    struct array *array = note->array;

    note->fn(note);
    free(note);
    array->under_way--;
    array_settle(array);
}

struct note *note_new(struct array *array, void (*fn)(struct note *note))
{
    struct note *note = calloc(1, sizeof(*note));

    CHECK(note != NULL);
    note->array = array;
    note->fn = fn;
    atomic_fetch_add(&array->under_way, 1);
    return note;
}

void note_post(struct note *note)
{
    note->task = (struct loop_task){.fn = note_arrived, .arg = note};
    loop_post(note->array->spec.owner, &note->task);
}

/* ---- layers ---- */

/* Those that were closed again, or for good. */
void layers_gone(struct op *op)
{
    for (size_t i = 0; i < op->n_layers; i++) {
        if (op->layers[i].closed) {
            op->family->layers--;
            pool_unref(op->layers[i].pool);
        }
    }
}

void layers_made(struct op *op)
{
    op->family->layers += op->n_opened;
    layers_gone(op);
}

struct op *layers_op(struct array *array, struct family *family, const struct array_layer *layers,
                     size_t n, void (*run)(struct op *op), void (*finish)(struct op *op))
{
    struct op *op = op_new(array, family, run);

    op_set_layers(op, layers, n);
    op->finish = finish;
    op->done = tell_plain;
    return op;
}

static void layers_op_queue(struct op *op, array_done_fn done, void *arg)
{
    op->fn.plain = done;
    op->arg = arg;
    op_queue(op);
}

static void layers_created(struct op *op)
{
    layers_made(op);
    stock_fill(op->array);
}

void array_layers_create(struct array *array, const char *family, const struct array_layer *layers,
                         size_t n, array_done_fn done, void *arg)
{
    const struct spare *first = n > 0 ? stock_find(array, layers[0].id) : NULL;
    struct family *of = family_get(array, family, first != NULL ? first->loop : UINT_MAX);
    struct op *op = layers_op(array, of, layers, n, shelf_layers_create, layers_created);

    for (size_t i = 0; i < n; i++) {
        struct spare *spare = stock_find(array, layers[i].id);

        if (spare != NULL && spare->loop == of->loop) {
            op->layers[i].spare = true;
            stock_take(array, spare);
        } else if (spare != NULL) {
            stock_drop(array, spare);
        }
    }
    layers_op_queue(op, done, arg);
}

void array_layers_remove(struct array *array, const char *family, const struct array_layer *layers,
                         size_t n, array_done_fn done, void *arg)
{
    struct family *of = family_get(array, family, UINT_MAX);

    layers_op_queue(layers_op(array, of, layers, n, shelf_layers_remove, layers_gone), done, arg);
}

/* ---- volumes ---- */

struct entry *entry_find(struct array *array, const char *volume_id)
{
    return map_get(&array->entries, volume_id);
}

/* A volume that is being closed may be opened again, in another family: the new one is found then. */
static void entry_add(struct array *array, struct entry *entry)
{
    pthread_rwlock_wrlock(&array->lock);
    CHECK(map_put(&array->entries, entry->id, entry) == 0);
    pthread_rwlock_unlock(&array->lock);
}

static void entry_drop(struct array *array, struct entry *entry)
{
    pthread_rwlock_wrlock(&array->lock);
    if (map_get(&array->entries, entry->id) == entry) {
        map_remove(&array->entries, entry->id);
    }
    pthread_rwlock_unlock(&array->lock);
    family_volumes(array, entry->family, -1);
    free(entry);
}

static void volume_opened(struct op *op)
{
    op->family->layers += op->n_opened;
    if (op->error.code != ERR_NONE) {
        entry_drop(op->array, op->entry);
    } else {
        op->entry->front = op->volume->front;
    }
}

static void op_set_filters(struct op *op, const struct array_volume_filter *filters, size_t n)
{
    op->filters = calloc(n == 0 ? 1 : n, sizeof(*op->filters));
    CHECK(op->filters != NULL);
    op->n_filters = n;
    for (size_t i = 0; i < n; i++) {
        op->filters[i] = filters[i];
    }
}

static void op_set_volume(struct op *op, const struct array_volume *volume)
{
    id_copy(op->volume_id, volume->id);
    op_set_layers(op, volume->layers, volume->n_layers);
    op->size_bytes = volume->size_bytes;
    op->read_only = volume->read_only;
    op->watch = volume->watch;
    op->frozen = volume->frozen;
    op->new_from = volume->new_from;
    op->old_content = volume->old_content;
    op->bottom = volume->bottom;
    op->bottom_bytes = volume->bottom_bytes;
}

void array_volume_open(struct array *array, const struct array_volume *volume, array_done_fn done,
                       void *arg)
{
    struct family *family = family_get(array, volume->family, UINT_MAX);
    struct op *op = op_new(array, family, shelf_volume_open);
    struct entry *entry = calloc(1, sizeof(*entry));
    const struct entry *before = entry_find(array, volume->id);

    CHECK(entry != NULL && (before == NULL || before->closing));
    op_set_volume(op, volume);
    op_set_filters(op, volume->filters, volume->n_filters);
    id_copy(entry->id, volume->id);
    entry->family = family;
    family_volumes(array, family, +1);
    entry_add(array, entry);
    op->entry = entry;
    op->finish = volume_opened;
    op->done = tell_plain;
    op->fn.plain = done;
    op->arg = arg;
    op_queue(op);
}

/* An operation on a volume; one that is not open fails on its loop, after what is before it in the
 * queue. */
static struct op *volume_op(struct array *array, const char *volume_id, void (*run)(struct op *op),
                            array_done_fn done, void *arg)
{
    struct entry *entry = entry_find(array, volume_id);

    if (entry == NULL) {
        return NULL;
    }
    struct op *op = op_new(array, entry->family, run);

    id_copy(op->volume_id, volume_id);
    op->entry = entry;
    op->done = tell_plain;
    op->fn.plain = done;
    op->arg = arg;
    return op;
}

static void not_open(const char *volume_id, array_done_fn done, void *arg)
{
    struct error error = {0};

    error_set(&error, ERR_INTERNAL, "Volume %s is not open.", volume_id);
    if (done != NULL) {
        done(arg, &error);
    }
}

static void volume_closed(struct op *op)
{
    if (op->error.code == ERR_NONE) {
        entry_drop(op->array, op->entry);
    }
}

void array_volume_close(struct array *array, const char *volume_id, array_done_fn done, void *arg)
{
    struct op *op = volume_op(array, volume_id, shelf_volume_close, done, arg);

    if (op == NULL) {
        not_open(volume_id, done, arg);
        return;
    }
    op->entry->front = NULL;
    op->entry->closing = true;
    op->finish = volume_closed;
    op_queue(op);
}

static void volume_replaced(struct op *op)
{
    op->family->layers += op->n_opened;
}

void array_volume_replace(struct array *array, const struct array_volume *volume,
                          array_done_fn done, void *arg)
{
    struct op *op = volume_op(array, volume->id, shelf_volume_replace, done, arg);

    if (op == NULL) {
        if (volume->bottom != NULL) {
            volume->bottom->ops->free(volume->bottom);
        }
        not_open(volume->id, done, arg);
        return;
    }
    op_set_volume(op, volume);
    op->finish = volume_replaced;
    op_queue(op);
}

void array_volume_grow(struct array *array, const char *volume_id, uint64_t size_bytes,
                       array_done_fn done, void *arg)
{
    struct op *op = volume_op(array, volume_id, shelf_volume_grow, done, arg);

    if (op == NULL) {
        not_open(volume_id, done, arg);
        return;
    }
    op->size_bytes = size_bytes;
    op_queue(op);
}

void array_volume_set_read_only(struct array *array, const char *volume_id, bool read_only)
{
    struct op *op = volume_op(array, volume_id, shelf_volume_read_only, NULL, NULL);

    if (op != NULL) {
        op->read_only = read_only;
        op_queue(op);
    }
}

void array_volume_watch(struct array *array, const char *volume_id, bool watch)
{
    struct op *op = volume_op(array, volume_id, shelf_volume_watch, NULL, NULL);

    if (op != NULL) {
        op->watch = watch;
        op_queue(op);
    }
}

static void filter_op(struct array *array, const char *volume_id,
                      const struct array_volume_filter *filter, void (*run)(struct op *op),
                      array_done_fn done, void *arg)
{
    struct op *op = volume_op(array, volume_id, run, done, arg);

    if (op == NULL) {
        not_open(volume_id, done, arg);
        return;
    }
    op_set_filters(op, filter, 1);
    op_queue(op);
}

void array_volume_filter_add(struct array *array, const char *volume_id, const char *filter_id,
                             const struct array_filter *filter, array_done_fn done, void *arg)
{
    struct array_volume_filter wanted = {.filter = *filter};

    id_copy(wanted.id, filter_id);
    filter_op(array, volume_id, &wanted, shelf_filter_add, done, arg);
}

void array_volume_filter_remove(struct array *array, const char *volume_id, const char *filter_id,
                                array_done_fn done, void *arg)
{
    struct array_volume_filter wanted = {0};

    id_copy(wanted.id, filter_id);
    filter_op(array, volume_id, &wanted, shelf_filter_remove, done, arg);
}

bool array_volume_is_there(struct array *array, const char *volume_id)
{
    const struct entry *entry = entry_find(array, volume_id);

    return entry != NULL && !entry->closing;
}

struct blockdev *array_volume_device(struct array *array, const char *volume_id,
                                     struct loop **ret_loop)
{
    struct entry *entry = entry_find(array, volume_id);

    if (entry == NULL || entry->front == NULL || entry->closing) {
        return NULL;
    }
    if (ret_loop != NULL) {
        *ret_loop = array->loops[entry->family->loop];
    }
    return entry->front;
}

struct loop *array_family_loop(struct array *array, const char *family)
{
    return array->loops[family_get(array, family, UINT_MAX)->loop];
}

bool array_volume_usage(struct array *array, const char *volume_id,
                        struct array_volume_usage *ret_usage)
{
    bool found = false;

    pthread_rwlock_rdlock(&array->lock);
    struct entry *entry = map_get(&array->entries, volume_id);

    if (entry != NULL) {
        *ret_usage = (struct array_volume_usage){
            .size_bytes = atomic_load(&entry->size_bytes),
            .used_bytes = atomic_load(&entry->used_bytes),
            .shared_bytes = atomic_load(&entry->shared_bytes),
            .n_layers = atomic_load(&entry->n_layers),
        };
        found = true;
    }
    pthread_rwlock_unlock(&array->lock);
    return found;
}

static void tell_cut(struct op *op)
{
    op->fn.cut(op->arg, op_error(op), op->pause_ns);
}

void array_volume_cut(struct array *array, const char *volume_id, const struct array_layer *layer,
                      array_cut_fn done, void *arg)
{
    struct op *op = volume_op(array, volume_id, shelf_volume_cut, NULL, arg);

    if (op == NULL) {
        struct error error = {0};

        error_set(&error, ERR_INTERNAL, "Volume %s is not open.", volume_id);
        done(arg, &error, 0);
        return;
    }
    op_set_layers(op, layer, 1);
    op->done = tell_cut;
    op->fn.cut = done;
    op_queue(op);
}

static void tell_changes(struct op *op)
{
    op->fn.changes(op->arg, op_error(op), op->size_bytes);
}

void array_volume_changes(struct array *array, const char *volume_id, const char *layer_id,
                          array_changes_fn done, void *arg)
{
    struct op *op = volume_op(array, volume_id, shelf_volume_changes, NULL, arg);

    if (op == NULL) {
        struct error error = {0};

        error_set(&error, ERR_INTERNAL, "Volume %s is not open.", volume_id);
        done(arg, &error, 0);
        return;
    }
    id_copy(op->lower_id, layer_id);
    op->done = tell_changes;
    op->fn.changes = done;
    op_queue(op);
}

/* ---- jobs ---- */

/* The operation only starts the job (done is not called then, unless it could not); job_arrived() is the end. */
static void job_started(struct op *op)
{
    if (op->keep) {
        atomic_fetch_add(&op->array->under_way, 1);
    }
}

static void tell_merge(struct op *op)
{
    if (!op->keep) {
        op->fn.merge(op->arg, op_error(op), op->superfluous);
    }
}

static void tell_job(struct op *op)
{
    if (!op->keep) {
        op->fn.plain(op->arg, op_error(op));
    }
}

static void job_arrived(void *arg)
{
    struct op *op = arg;
    struct array *array = op->array;

    op->keep = false;
    op->error = op->job_error;
    op->done(op);
    op_free(op);
    array->under_way--;
    array_settle(array);
}

void job_end(struct op *op)
{
    op->job_task = (struct loop_task){.fn = job_arrived, .arg = op};
    loop_post(op->array->spec.owner, &op->job_task);
}

void array_merge(struct array *array, const char *volume_id, const char *lower_id,
                 const char *upper_id, array_merge_fn done, void *arg)
{
    struct op *op = volume_op(array, volume_id, shelf_merge, NULL, arg);

    if (op == NULL) {
        struct error error = {0};

        error_set(&error, ERR_INTERNAL, "Volume %s is not open.", volume_id);
        done(arg, &error, NULL);
        return;
    }
    id_copy(op->lower_id, lower_id);
    id_copy(op->upper_id, upper_id);
    op->finish = job_started;
    op->done = tell_merge;
    op->fn.merge = done;
    op_queue(op);
}

void array_scrub(struct array *array, const char *volume_id, array_done_fn done, void *arg)
{
    struct op *op = volume_op(array, volume_id, shelf_scrub, done, arg);

    if (op == NULL) {
        not_open(volume_id, done, arg);
        return;
    }
    op->finish = job_started;
    op->done = tell_job;
    op_queue(op);
}

void array_merge_finish(struct array *array, const char *family,
                        const struct array_layer *superfluous, array_done_fn done, void *arg)
{
    struct family *of = family_get(array, family, UINT_MAX);

    layers_op_queue(layers_op(array, of, superfluous, 1, shelf_merge_finish, layers_gone), done,
                    arg);
}

void array_bottom_drop(struct array *array, const char *family, const char *layer_id,
                       array_done_fn done, void *arg)
{
    struct op *op = op_new(array, family_get(array, family, UINT_MAX), shelf_bottoms_drop);

    id_copy(op->lower_id, layer_id);
    op->done = tell_plain;
    op->fn.plain = done;
    op->arg = arg;
    op_queue(op);
}

/* ---- beginning and end ---- */

int array_new(const struct array_spec *spec, struct array **ret_array)
{
    struct array *array = calloc(1, sizeof(*array));
    int r = 0;

    CHECK(array != NULL && spec->n_loops > 0 && spec->n_loops <= ARRAY_LEN(array->loops));
    array->spec = *spec;
    list_init(&array->stock.spares);
    map_init(&array->families);
    map_init(&array->pools);
    map_init(&array->entries);
    pthread_rwlock_init(&array->lock, NULL);
    for (unsigned i = 0; i < spec->n_loops && r == 0; i++) {
        array->loops[i] = spec->loops[i];
        r = shelf_new(array, i, &array->shelves[i]);
    }
    if (r < 0) {
        array_free(array);
        return r;
    }
    *ret_array = array;
    return 0;
}

void shelf_closed(struct array *array)
{
    array->shelves_open--;
    array_settle(array);
}

static void shelves_close(struct array *array)
{
    array->shelves_closing = true;
    array->shelves_open = array->spec.n_loops;
    for (unsigned i = 0; i < array->spec.n_loops; i++) {
        struct shelf *shelf = array->shelves[i];

        shelf->task = (struct loop_task){.fn = shelf_close, .arg = shelf};
        loop_post(shelf->loop, &shelf->task);
    }
}

void array_close(struct array *array, loop_fn done, void *arg)
{
    array->close_done = done;
    array->close_arg = arg;
    array->closing = true;
    array_settle(array);
}

void array_free(struct array *array)
{
    if (array == NULL) {
        return;
    }
    for (unsigned i = 0; i < array->spec.n_loops; i++) {
        shelf_free(array->shelves[i]);
    }
    for (struct map_entry *e = map_first(&array->entries); e; e = map_next(&array->entries, e)) {
        free(e->value);
    }
    for (struct map_entry *e = map_first(&array->families); e; e = map_next(&array->families, e)) {
        free(e->value);
    }
    for (struct map_entry *e = map_first(&array->pools); e; e = map_next(&array->pools, e)) {
        pool_free(e->value);
    }
    stock_free(array);
    map_fini(&array->entries);
    map_fini(&array->families);
    map_fini(&array->pools);
    pthread_rwlock_destroy(&array->lock);
    free(array);
}
