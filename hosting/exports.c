// SPDX-License-Identifier: Apache-2.0
/*
 * Each export has a queue of operations, of which one is under way. Its steps are messages to the
 * loops and back:
 *
 *     put     units that go: removed from the target, then their handles closed
 *             units that come: handles opened, where their volume lives on another loop
 *             target_new(), or target_lun_add() and target_set_access()
 *             once around the loops, so that whoever logs in from now on meets it
 *     remove  target_close(), then handles closed
 *     volume  as put without its units, or as remove when it had no others (exports_volume.c)
 *     notify  handles refreshed, then target_lun_notify() (there, too)
 *
 * A step that starts several things counts them in op->pending and goes on when the last is back.
 *
 * An index from volumes to units, those of queued specs included, finds the exports of a volume.
 */
#include "hosting/exports.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "hosting/exports_private.h"

/* ---- operations ---- */

struct export_op *export_op_new(struct exports *exports, struct export *export,
                                void (*first)(struct export_op *op), array_done_fn done, void *arg)
{
    struct export_op *op = calloc(1, sizeof(*op));
    CHECK(op != NULL && loop_is_current(exports->spec.owner));
    op->exports = exports;
    op->export = export;
    op->next = first;
    op->done = done;
    op->arg = arg;
    arena_init(&op->arena);
    list_init(&op->units);
    return op;
}

static void op_run(void *arg)
{
    struct export_op *op = arg;
    op->next(op);
}

void export_op_queue(struct export_op *op)
{
    op->exports->under_way++;
    op->task = (struct loop_task){.fn = op_run, .arg = op};
    if (!op->export) {
        loop_defer(op->exports->spec.owner, &op->task);
        return;
    }
    bool first = list_empty(&op->export->ops);
    list_push_back(&op->export->ops, &op->link);
    if (first) {
        loop_defer(op->exports->spec.owner, &op->task);
    }
}

static void export_settle(struct export *export)
{
    if (export->target || !list_empty(&export->ops)) {
        return;
    }
    CHECK(list_empty(&export->units));
    pthread_mutex_lock(&export->exports->lock);
    map_remove(&export->exports->by_id, export->id);
    pthread_mutex_unlock(&export->exports->lock);
    free(export);
}

void export_op_end(struct export_op *op)
{
    struct exports *exports = op->exports;
    struct export *export = op->export;
    if (export) {
        list_remove(&op->link);
        if (!list_empty(&export->ops)) {
            struct export_op *following =
                list_entry(list_first(&export->ops), struct export_op, link);
            loop_defer(exports->spec.owner, &following->task);
        }
    }
    CHECK(list_empty(&op->units));
    if (op->done) {
        op->done(op->arg, op->error.code == ERR_NONE ? NULL : &op->error);
    }
    arena_fini(&op->arena);
    free(op);
    if (export) {
        export_settle(export);
    }
    exports->under_way--;
    exports_settle(exports);
}

void export_op_back(struct export_op *op)
{
    CHECK(op->pending > 0);
    if (--op->pending == 0) {
        op->next(op);
    }
}

void export_op_begin_step(struct export_op *op, void (*next)(struct export_op *op))
{
    op->next = next;
    op->pending = 1;
}

/* ---- closing a target ---- */

static void target_closed(void *arg, int status)
{
    struct export_op *op = arg;
    (void)status;
    list_for_each_safe(link, next, &op->export->units)
    {
        export_unit_release(list_entry(link, struct export_unit, link), op);
    }
    export_op_back(op);
}

void export_unserve(struct export_op *op)
{
    if (op->export->target) {
        op->pending++;
        target_close(export_target_take(op->export), op->grace_ns, target_closed, op);
    }
}

static void unit_removed(void *arg, int status)
{
    struct export_unit *unit = arg;
    struct export_op *op = list_entry(list_first(&unit->export->ops), struct export_op, link);
    (void)status;
    export_unit_release(unit, op);
    export_op_back(op);
}

void export_unit_unserve(struct export_unit *unit, struct export_op *op)
{
    op->pending++;
    target_lun_remove(unit->export->target, unit->number, unit_removed, unit);
}

/* ---- put ---- */

static void barrier_home(void *arg)
{
    export_op_end(arg);
}

static void barrier_at_target(void *arg)
{
    struct export_op *op = arg;
    op->task = (struct loop_task){.fn = barrier_home, .arg = op};
    loop_post(op->exports->spec.owner, &op->task);
}

static void barrier_at_first(void *arg)
{
    struct export_op *op = arg;
    op->task = (struct loop_task){.fn = barrier_at_target, .arg = op};
    loop_post(op->export->loop, &op->task);
}

void export_op_end_after_barrier(struct export_op *op)
{
    op->task = (struct loop_task){.fn = barrier_at_first, .arg = op};
    loop_post(op->exports->loops[0], &op->task);
}

static int target_make(struct export_op *op)
{
    struct export *export = op->export;
    struct exports *exports = op->exports;
    struct target_lun_spec luns[TARGET_MAX_LUNS];
    size_t n = 0;
    list_for_each(link, &op->units)
    {
        luns[n++] = export_unit_spec(list_entry(link, struct export_unit, link));
    }
    struct target_spec spec = {.name = op->iqn,
                               .alias = op->alias,
                               .loop = export->loop,
                               .access = op->access,
                               .luns = luns,
                               .n_luns = n};
    struct target *target;
    int err = target_new(exports->server, &spec, &target, &op->error);
    if (err) {
        return err;
    }
    CHECK(map_put(&exports->by_name, target_name(target), export) == 0);
    pthread_mutex_lock(&exports->lock);
    export->target = target;
    pthread_mutex_unlock(&exports->lock);
    return 0;
}

static int target_change(struct export_op *op)
{
    struct target *target = op->export->target;
    if (strcmp(target_name(target), op->iqn) != 0) {
        error_param(&op->error, ERR_INVALID_PARAMETER, "iqn", "target %s cannot be renamed",
                    target_name(target));
        return -EINVAL;
    }
    struct error error;
    if (target_set_access(target, &op->access, &error)) {
        op->error = error;
    }
    list_for_each_safe(link, next, &op->units)
    {
        struct export_unit *unit = list_entry(link, struct export_unit, link);
        struct target_lun_spec spec = export_unit_spec(unit);
        if (target_lun_add(target, &spec, &error)) {
            op->error = error;
            op->pending++;
            export_unit_release(unit, op);
            op->pending--;
        }
    }
    return 0;
}

static void put_failed(struct export_op *op)
{
    export_op_end(op);
}

static void put_opened(struct export_op *op)
{
    struct export *export = op->export;
    export_op_begin_step(op, put_failed);
    list_for_each_safe(link, next, &op->units)
    {
        struct export_unit *unit = list_entry(link, struct export_unit, link);
        if (!unit->dev) {
            export_unit_free(unit);
        }
    }
    int err = 0;
    if (export->target) {
        err = target_change(op);
    } else if (!list_empty(&op->units)) {
        err = target_make(op);
    }
    if (err) {
        list_for_each_safe(link, next, &op->units)
        {
            export_unit_release(list_entry(link, struct export_unit, link), op);
        }
        export_op_back(op);
        return;
    }
    list_for_each(link, &op->units)
    {
        export_unit_forget_reservations(list_entry(link, struct export_unit, link));
    }
    list_move_all(&export->units, &op->units);
    if (op->pending > 1 || !export->target) {
        export_op_back(op);
    } else {
        export_op_end_after_barrier(op);
    }
}

static void put_removed(struct export_op *op)
{
    struct export *export = op->export;
    export_op_begin_step(op, put_opened);
    if (!export->target) {
        export->loop = NULL;
    }
    list_for_each(link, &op->units)
    {
        struct export_unit *unit = list_entry(link, struct export_unit, link);
        struct loop *loop = NULL;
        struct blockdev *dev = array_volume_device(op->exports->spec.array, unit->volume_id, &loop);
        if (!dev) {
            error_set(&op->error, ERR_INTERNAL, "volume %s of LUN %u is not open", unit->volume_id,
                      unit->number);
            continue;
        }
        if (!export->loop) {
            export->loop = loop;
        }
        if (loop == export->loop) {
            unit->dev = dev;
        } else {
            export_unit_open(unit, op, dev);
        }
    }
    export_op_back(op);
}

static bool unit_same(const struct export_unit *a, const struct export_unit *b)
{
    return strcmp(a->volume_id, b->volume_id) == 0 && a->naa == b->naa &&
           strcmp(a->serial, b->serial) == 0;
}

static void put_start(struct export_op *op)
{
    struct export *export = op->export;
    export_op_begin_step(op, put_removed);
    if (list_empty(&op->units)) {
        export_unserve(op);
        export_op_back(op);
        return;
    }
    list_for_each_safe(link, next, &export->units)
    {
        struct export_unit *unit = list_entry(link, struct export_unit, link);
        struct export_unit *wanted = export_unit_find(&op->units, unit->number);
        if (!wanted || !unit_same(unit, wanted)) {
            export_unit_unserve(unit, op);
            continue;
        }
        if (unit->read_only != wanted->read_only) {
            unit->read_only = wanted->read_only;
            target_lun_notify(export->target, unit->number,
                              unit->read_only ? TARGET_LUN_READ_ONLY : TARGET_LUN_WRITABLE);
        }
        export_unit_free(wanted);
    }
    export_op_back(op);
}

static void refused_start(struct export_op *op)
{
    export_op_end(op);
}

static const char *keep(struct export_op *op, const char *text)
{
    return text ? arena_strdup(&op->arena, text) : NULL;
}

static void access_keep(struct export_op *op, const struct target_access *access)
{
    size_t n = access->n_initiators;
    struct target_initiator *rows = arena_alloc(&op->arena, (n + 1) * sizeof(*rows));
    for (size_t i = 0; i < n; i++) {
        const struct target_initiator *from = &access->initiators[i];
        rows[i] = (struct target_initiator){.name = keep(op, from->name),
                                            .chap_user = keep(op, from->chap_user),
                                            .chap_secret = keep(op, from->chap_secret),
                                            .mutual_user = keep(op, from->mutual_user),
                                            .mutual_secret = keep(op, from->mutual_secret)};
    }
    op->access = (struct target_access){.initiators = rows, .n_initiators = n};
}

static struct export *export_get(struct exports *exports, const char *id)
{
    struct export *export = map_get(&exports->by_id, id);
    if (!export) {
        export = calloc(1, sizeof(*export));
        CHECK(export != NULL && strlen(id) <= ARRAY_ID_LEN);
        export->exports = exports;
        strcpy(export->id, id);
        list_init(&export->ops);
        list_init(&export->units);
        pthread_mutex_lock(&exports->lock);
        CHECK(map_put(&exports->by_id, id, export) == 0);
        pthread_mutex_unlock(&exports->lock);
    }
    return export;
}

void export_put(struct exports *exports, const struct export_spec *spec, array_done_fn done,
                void *arg)
{
    if (exports->closing) {
        struct export_op *op = export_op_new(exports, NULL, refused_start, done, arg);
        error_set(&op->error, ERR_SHUTTING_DOWN, "The service is stopping.");
        export_op_queue(op);
        return;
    }
    struct export_op *op =
        export_op_new(exports, export_get(exports, spec->id), put_start, done, arg);
    op->iqn = keep(op, spec->iqn);
    op->alias = spec->alias[0] ? keep(op, spec->alias) : NULL;
    op->grace_ns = 3 * SEC_NS;
    access_keep(op, &spec->access);
    CHECK(spec->n_luns <= TARGET_MAX_LUNS);
    for (size_t i = 0; i < spec->n_luns; i++) {
        CHECK(!export_unit_find(&op->units, spec->luns[i].number));
        struct export_unit *unit = export_unit_new(op->export, &spec->luns[i]);
        list_push_back(&op->units, &unit->link);
    }
    export_op_queue(op);
}

/* ---- remove ---- */

static void remove_start(struct export_op *op)
{
    export_op_begin_step(op, export_op_end);
    export_unserve(op);
    export_op_back(op);
}

void export_remove(struct exports *exports, const char *export_id, uint64_t grace_ns,
                   array_done_fn done, void *arg)
{
    struct export *export = map_get(&exports->by_id, export_id);
    struct export_op *op = export && !exports->server_closing
                               ? export_op_new(exports, export, remove_start, done, arg)
                               : export_op_new(exports, NULL, refused_start, done, arg);
    op->grace_ns = grace_ns;
    export_op_queue(op);
}

/* ---- what the targets tell ---- */

static void reservations_changed(void *arg, struct target *target, unsigned lun, const void *bytes,
                                 size_t len, struct target_save *save)
{
    struct exports *exports = arg;
    struct export *export = map_get(&exports->by_name, target_name(target));
    struct export_unit *unit =
        export && export->target == target ? export_unit_find(&export->units, lun) : NULL;
    if (!unit) {
        /* It is going away: there is nothing left to keep them for. */
        target_save_done(save, -ECANCELED);
        return;
    }
    exports->spec.events.reservations_changed(exports->spec.events_arg, export->id, lun,
                                              unit->volume_id, bytes, len, save);
}

/* ---- beginning and end ---- */

int exports_new(const struct exports_spec *spec, struct exports **ret_exports)
{
    struct exports *exports = calloc(1, sizeof(*exports));
    if (!exports) {
        return -ENOMEM;
    }
    CHECK(spec->n_loops > 0 && spec->n_loops <= ARRAY_LEN(exports->loops));
    exports->spec = *spec;
    memcpy(exports->loops, spec->loops, spec->n_loops * sizeof(exports->loops[0]));
    exports->spec.loops = exports->loops;
    map_init(&exports->by_id);
    map_init(&exports->by_name);
    map_init(&exports->volumes);
    pthread_mutex_init(&exports->lock, NULL);
    struct target_server_spec server = {
        .owner = spec->owner,
        .loops = exports->loops,
        .n_loops = spec->n_loops,
        .limits = spec->limits,
        .chap_algorithms = spec->chap_algorithms,
        .hold = spec->hold,
        .events = {.reservations_changed =
                       spec->events.reservations_changed ? reservations_changed : NULL,
                   .sessions_changed = exports_sessions_changed},
        .events_arg = exports,
    };
    int err = target_server_new(&server, &exports->server);
    if (err) {
        exports_free(exports);
        return err;
    }
    *ret_exports = exports;
    return 0;
}

int exports_listen(struct exports *exports, const struct sockaddr_storage *addr,
                   struct sockaddr_storage *ret_addr, struct error *error)
{
    return target_listen(exports->server, addr, ret_addr, error);
}

void exports_accept(struct exports *exports)
{
    target_accept(exports->server);
}

static void server_closed(void *arg, int status)
{
    struct exports *exports = arg;
    (void)status;
    struct map_entry *next;
    exports->handles_closing = 1;
    for (struct map_entry *e = map_first(&exports->by_id); e; e = next) {
        struct export *export = e->value;
        next = map_next(&exports->by_id, e);
        list_for_each_safe(link, following, &export->units)
        {
            struct export_unit *unit = list_entry(link, struct export_unit, link);
            exports->handles_closing += unit->handle;
            export_unit_release(unit, NULL);
        }
    }
    exports->handles_closing--;
    exports_settle(exports);
}

void exports_settle(struct exports *exports)
{
    if (!exports->closing || exports->under_way > 0 || exports->handles_closing > 0) {
        return;
    }
    if (!exports->server_closing) {
        exports->server_closing = true;
        for (struct map_entry *e = map_first(&exports->by_id); e;
             e = map_next(&exports->by_id, e)) {
            struct export *export = e->value;
            if (export->target) {
                export_target_take(export);
            }
        }
        exports->handles_closing = 1; /* nothing settles before server_closed() */
        target_server_close(exports->server, exports->grace_ns, server_closed, exports);
        return;
    }
    if (exports->close_done) {
        loop_fn done = exports->close_done;
        exports->close_done = NULL;
        done(exports->close_arg);
    }
}

void exports_close(struct exports *exports, uint64_t grace_ns, loop_fn done, void *arg)
{
    CHECK(!exports->closing && loop_is_current(exports->spec.owner));
    exports->closing = true;
    exports->grace_ns = grace_ns;
    exports->close_done = done;
    exports->close_arg = arg;
    exports_settle(exports);
}

void exports_free(struct exports *exports)
{
    if (!exports) {
        return;
    }
    for (struct map_entry *e = map_first(&exports->by_id); e; e = map_next(&exports->by_id, e)) {
        struct export *export = e->value;
        CHECK(!export->target && list_empty(&export->units) && list_empty(&export->ops));
        free(export);
    }
    CHECK(map_count(&exports->volumes) == 0);
    target_server_free(exports->server);
    map_fini(&exports->by_id);
    map_fini(&exports->by_name);
    map_fini(&exports->volumes);
    pthread_mutex_destroy(&exports->lock);
    free(exports);
}
