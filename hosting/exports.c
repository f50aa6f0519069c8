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
 *     volume  as put without its units, or as remove when it had no others
 *     notify  handles refreshed, then target_lun_notify()
 *
 * A step that starts several things counts them in op->pending and goes on when the last is back.
 *
 * An index from volumes to units, those of queued specs included, finds the exports of a volume.
 */
#include "hosting/exports.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "block/handle_dev.h"

struct users { /* of a volume */
    struct list units;
};

struct unit {
    struct list link; /* export.units, or op.units until it is served */
    struct list user_link;
    struct users *users;
    struct export *export;
    unsigned number;
    char volume_id[ARRAY_ID_LEN + 1];
    bool read_only;
    uint64_t naa;
    char serial[TARGET_SERIAL_LEN + 1];
    void *reservations; /* until it is served */
    size_t reservations_len;
    struct blockdev *dev;
    bool handle; /* dev is a handle of ours */
};

struct export
{
    struct exports *exports;
    char id[ARRAY_ID_LEN + 1];
    struct list ops; /* the first is under way */
    struct list units;
    struct target *target; /* NULL: not served. Changed under exports->lock */
    struct loop *loop;     /* of the target */
    bool marked;           /* while exports are gathered */

    /* Under exports->lock. */
    struct target_session *sessions; /* one allocation */
    unsigned n_sessions;
    unsigned n_aliases;
};

struct op {
    struct list link;
    struct exports *exports;
    struct export *export; /* NULL: refused */
    struct loop_task task;
    void (*next)(struct op *op);
    unsigned pending;
    struct arena arena;
    const char *iqn;
    const char *alias;
    struct target_access access;
    struct list units;
    uint64_t grace_ns;
    char volume_id[ARRAY_ID_LEN + 1];
    enum target_lun_event event;
    struct error error;
    array_done_fn done;
    void *arg;
};

/* To the loop of the target and back, for a handle. */
struct errand {
    struct loop_task task;
    struct loop *owner;
    struct loop *loop;
    struct unit *unit;
    struct op *op; /* NULL: the exports are closing */
    struct exports *exports;
    struct blockdev *dev;
    void (*back)(struct errand *errand);
    struct error error;
};

struct exports {
    struct exports_spec spec;
    struct loop *loops[16];
    struct target_server *server;
    struct map by_id;
    struct map by_name; /* those with a target */
    struct map volumes; /* volume id → struct users */
    unsigned under_way; /* operations */
    bool closing;
    bool server_closing;
    unsigned handles_closing;
    uint64_t grace_ns;
    loop_fn close_done;
    void *close_arg;

    pthread_mutex_t lock;
    struct target_stats gone; /* of targets that are no more */
    unsigned n_aliases;       /* sessions that have one */
};

/* ---- units ---- */

static struct unit *unit_new(struct export *export, const struct export_lun *lun)
{
    struct exports *exports = export->exports;
    struct unit *unit = calloc(1, sizeof(*unit));
    CHECK(unit != NULL);
    unit->export = export;
    unit->number = lun->number;
    strcpy(unit->volume_id, lun->volume_id);
    strcpy(unit->serial, lun->serial);
    unit->read_only = lun->read_only;
    unit->naa = lun->naa;
    if (lun->reservations_len > 0) {
        unit->reservations = malloc(lun->reservations_len);
        CHECK(unit->reservations != NULL);
        memcpy(unit->reservations, lun->reservations, lun->reservations_len);
        unit->reservations_len = lun->reservations_len;
    }
    unit->users = map_get(&exports->volumes, unit->volume_id);
    if (!unit->users) {
        unit->users = calloc(1, sizeof(*unit->users));
        CHECK(unit->users != NULL);
        list_init(&unit->users->units);
        pthread_mutex_lock(&exports->lock);
        CHECK(map_put(&exports->volumes, unit->volume_id, unit->users) == 0);
        pthread_mutex_unlock(&exports->lock);
    }
    pthread_mutex_lock(&exports->lock);
    list_push_back(&unit->users->units, &unit->user_link);
    pthread_mutex_unlock(&exports->lock);
    list_init(&unit->link);
    return unit;
}

static void unit_free(struct unit *unit)
{
    struct exports *exports = unit->export->exports;
    list_remove(&unit->link);
    pthread_mutex_lock(&exports->lock);
    list_remove(&unit->user_link);
    if (list_empty(&unit->users->units)) {
        map_remove(&exports->volumes, unit->volume_id);
        free(unit->users);
    }
    pthread_mutex_unlock(&exports->lock);
    free(unit->reservations);
    free(unit);
}

static struct unit *unit_find(const struct list *units, unsigned number)
{
    list_for_each(link, units)
    {
        struct unit *unit = list_entry(link, struct unit, link);
        if (unit->number == number) {
            return unit;
        }
    }
    return NULL;
}

static struct target_lun_spec unit_spec(const struct unit *unit)
{
    struct target_lun_spec spec = {
        .number = unit->number,
        .dev = unit->dev,
        .naa = unit->naa,
        .read_only = unit->read_only,
        .thin = true,
        .reservations = unit->reservations,
        .reservations_len = unit->reservations_len,
    };
    strcpy(spec.serial, unit->serial);
    return spec;
}

/* It is served: what was kept is the target's now. */
static void unit_forget_reservations(struct unit *unit)
{
    free(unit->reservations);
    unit->reservations = NULL;
    unit->reservations_len = 0;
}

/* ---- operations ---- */

static void exports_settle(struct exports *exports);

static struct op *op_new(struct exports *exports, struct export *export,
                         void (*first)(struct op *op), array_done_fn done, void *arg)
{
    struct op *op = calloc(1, sizeof(*op));
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
    struct op *op = arg;
    op->next(op);
}

static void op_queue(struct op *op)
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

static void op_end(struct op *op)
{
    struct exports *exports = op->exports;
    struct export *export = op->export;
    if (export) {
        list_remove(&op->link);
        if (!list_empty(&export->ops)) {
            struct op *following = list_entry(list_first(&export->ops), struct op, link);
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

/* One of the things that the step waits for is back. */
static void op_back(struct op *op)
{
    CHECK(op->pending > 0);
    if (--op->pending == 0) {
        op->next(op);
    }
}

/* A step: starts with one pending, so that what comes back at once does not end it. */
static void op_begin_step(struct op *op, void (*next)(struct op *op))
{
    op->next = next;
    op->pending = 1;
}

/* ---- handles ---- */

static void errand_arrived(void *arg)
{
    struct errand *errand = arg;
    errand->back(errand);
    free(errand);
}

static void errand_return(struct errand *errand)
{
    errand->task = (struct loop_task){.fn = errand_arrived, .arg = errand};
    loop_post(errand->owner, &errand->task);
}

static void errand_send(struct unit *unit, struct op *op, struct blockdev *dev, loop_fn there,
                        void (*back)(struct errand *errand))
{
    struct export *export = unit->export;
    struct errand *errand = calloc(1, sizeof(*errand));
    CHECK(errand != NULL);
    errand->owner = export->exports->spec.owner;
    errand->loop = export->loop;
    errand->unit = unit;
    errand->op = op;
    errand->exports = export->exports;
    errand->dev = dev;
    errand->back = back;
    errand->task = (struct loop_task){.fn = there, .arg = errand};
    if (op) {
        op->pending++;
    }
    loop_post(errand->loop, &errand->task);
}

static void handle_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct errand *errand = arg;
    errand->dev = dev;
    if (error) {
        errand->error = *error;
    }
    errand_return(errand);
}

static void handle_open_there(void *arg)
{
    struct errand *errand = arg;
    handle_dev_open(errand->loop, errand->dev, handle_opened, errand);
}

static void handle_open_back(struct errand *errand)
{
    struct op *op = errand->op;
    errand->unit->dev = errand->dev;
    errand->unit->handle = errand->dev != NULL;
    if (!errand->dev && op->error.code == ERR_NONE) {
        op->error = errand->error;
    }
    op_back(op);
}

static void errand_there_done(void *arg)
{
    errand_return(arg);
}

static void handle_close_there(void *arg)
{
    struct errand *errand = arg;
    blockdev_close(errand->dev, errand_there_done, errand);
}

static void handle_close_back(struct errand *errand)
{
    unit_free(errand->unit);
    if (errand->op) {
        op_back(errand->op);
    } else {
        errand->exports->handles_closing--;
        exports_settle(errand->exports);
    }
}

/* The target has let go of its device. */
static void unit_release(struct unit *unit, struct op *op)
{
    list_remove(&unit->link);
    if (unit->handle) {
        errand_send(unit, op, unit->dev, handle_close_there, handle_close_back);
    } else {
        unit_free(unit);
    }
}

/* ---- closing a target ---- */

static void stats_add(struct target_stats *sum, const struct target_stats *one)
{
    sum->sessions += one->sessions;
    sum->logins += one->logins;
    sum->login_failures += one->login_failures;
    sum->commands += one->commands;
    sum->reads += one->reads;
    sum->read_bytes += one->read_bytes;
    sum->writes += one->writes;
    sum->write_bytes += one->write_bytes;
    sum->check_conditions += one->check_conditions;
    sum->reservation_conflicts += one->reservation_conflicts;
    sum->task_management += one->task_management;
    sum->aborted_tasks += one->aborted_tasks;
    sum->digest_errors += one->digest_errors;
    sum->protocol_errors += one->protocol_errors;
}

/* From now on nobody else meets the target. */
static struct target *target_take(struct export *export)
{
    struct exports *exports = export->exports;
    struct target *target = export->target;
    struct target_stats stats;
    pthread_mutex_lock(&exports->lock);
    target_stats(target, &stats);
    stats.sessions = 0;
    stats_add(&exports->gone, &stats);
    export->target = NULL;
    free(export->sessions);
    export->sessions = NULL;
    export->n_sessions = 0;
    exports->n_aliases -= export->n_aliases;
    export->n_aliases = 0;
    pthread_mutex_unlock(&exports->lock);
    map_remove(&exports->by_name, target_name(target));
    return target;
}

static void target_closed(void *arg, int status)
{
    struct op *op = arg;
    (void)status;
    list_for_each_safe(link, next, &op->export->units)
    {
        unit_release(list_entry(link, struct unit, link), op);
    }
    op_back(op);
}

/* Counts in op->pending; the units go too. */
static void export_unserve(struct op *op)
{
    if (op->export->target) {
        op->pending++;
        target_close(target_take(op->export), op->grace_ns, target_closed, op);
    }
}

static void unit_removed(void *arg, int status)
{
    struct unit *unit = arg;
    struct op *op = list_entry(list_first(&unit->export->ops), struct op, link);
    (void)status;
    unit_release(unit, op);
    op_back(op);
}

static void unit_unserve(struct unit *unit, struct op *op)
{
    op->pending++;
    target_lun_remove(unit->export->target, unit->number, unit_removed, unit);
}

/* ---- put ---- */

static void barrier_home(void *arg)
{
    op_end(arg);
}

static void barrier_at_target(void *arg)
{
    struct op *op = arg;
    op->task = (struct loop_task){.fn = barrier_home, .arg = op};
    loop_post(op->exports->spec.owner, &op->task);
}

static void barrier_at_first(void *arg)
{
    struct op *op = arg;
    op->task = (struct loop_task){.fn = barrier_at_target, .arg = op};
    loop_post(op->export->loop, &op->task);
}

/* Behind all messages that were sent to the target. */
static void op_end_after_barrier(struct op *op)
{
    op->task = (struct loop_task){.fn = barrier_at_first, .arg = op};
    loop_post(op->exports->loops[0], &op->task);
}

static int target_make(struct op *op)
{
    struct export *export = op->export;
    struct exports *exports = op->exports;
    struct target_lun_spec luns[TARGET_MAX_LUNS];
    size_t n = 0;
    list_for_each(link, &op->units)
    {
        luns[n++] = unit_spec(list_entry(link, struct unit, link));
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

static int target_change(struct op *op)
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
        struct unit *unit = list_entry(link, struct unit, link);
        struct target_lun_spec spec = unit_spec(unit);
        if (target_lun_add(target, &spec, &error)) {
            op->error = error;
            op->pending++;
            unit_release(unit, op);
            op->pending--;
        }
    }
    return 0;
}

static void put_failed(struct op *op)
{
    op_end(op);
}

static void put_opened(struct op *op)
{
    struct export *export = op->export;
    op_begin_step(op, put_failed);
    list_for_each_safe(link, next, &op->units)
    {
        struct unit *unit = list_entry(link, struct unit, link);
        if (!unit->dev) {
            unit_free(unit);
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
            unit_release(list_entry(link, struct unit, link), op);
        }
        op_back(op);
        return;
    }
    list_for_each(link, &op->units)
    {
        unit_forget_reservations(list_entry(link, struct unit, link));
    }
    list_move_all(&export->units, &op->units);
    if (op->pending > 1 || !export->target) {
        op_back(op);
    } else {
        op_end_after_barrier(op);
    }
}

static void put_removed(struct op *op)
{
    struct export *export = op->export;
    op_begin_step(op, put_opened);
    if (!export->target) {
        export->loop = NULL;
    }
    list_for_each(link, &op->units)
    {
        struct unit *unit = list_entry(link, struct unit, link);
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
            errand_send(unit, op, dev, handle_open_there, handle_open_back);
        }
    }
    op_back(op);
}

static bool unit_same(const struct unit *a, const struct unit *b)
{
    return strcmp(a->volume_id, b->volume_id) == 0 && a->naa == b->naa &&
           strcmp(a->serial, b->serial) == 0;
}

static void put_start(struct op *op)
{
    struct export *export = op->export;
    op_begin_step(op, put_removed);
    if (list_empty(&op->units)) {
        export_unserve(op);
        op_back(op);
        return;
    }
    list_for_each_safe(link, next, &export->units)
    {
        struct unit *unit = list_entry(link, struct unit, link);
        struct unit *wanted = unit_find(&op->units, unit->number);
        if (!wanted || !unit_same(unit, wanted)) {
            unit_unserve(unit, op);
            continue;
        }
        if (unit->read_only != wanted->read_only) {
            unit->read_only = wanted->read_only;
            target_lun_notify(export->target, unit->number,
                              unit->read_only ? TARGET_LUN_READ_ONLY : TARGET_LUN_WRITABLE);
        }
        unit_free(wanted);
    }
    op_back(op);
}

static void refused_start(struct op *op)
{
    op_end(op);
}

static const char *keep(struct op *op, const char *text)
{
    return text ? arena_strdup(&op->arena, text) : NULL;
}

static void access_keep(struct op *op, const struct target_access *access)
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
        struct op *op = op_new(exports, NULL, refused_start, done, arg);
        error_set(&op->error, ERR_SHUTTING_DOWN, "The service is stopping.");
        op_queue(op);
        return;
    }
    struct op *op = op_new(exports, export_get(exports, spec->id), put_start, done, arg);
    op->iqn = keep(op, spec->iqn);
    op->alias = spec->alias[0] ? keep(op, spec->alias) : NULL;
    op->grace_ns = 3 * SEC_NS;
    access_keep(op, &spec->access);
    CHECK(spec->n_luns <= TARGET_MAX_LUNS);
    for (size_t i = 0; i < spec->n_luns; i++) {
        CHECK(!unit_find(&op->units, spec->luns[i].number));
        struct unit *unit = unit_new(op->export, &spec->luns[i]);
        list_push_back(&op->units, &unit->link);
    }
    op_queue(op);
}

/* ---- remove ---- */

static void remove_start(struct op *op)
{
    op_begin_step(op, op_end);
    export_unserve(op);
    op_back(op);
}

void export_remove(struct exports *exports, const char *export_id, uint64_t grace_ns,
                   array_done_fn done, void *arg)
{
    struct export *export = map_get(&exports->by_id, export_id);
    struct op *op = export && !exports->server_closing
                        ? op_new(exports, export, remove_start, done, arg)
                        : op_new(exports, NULL, refused_start, done, arg);
    op->grace_ns = grace_ns;
    op_queue(op);
}

/* ---- the exports of a volume ---- */

/* Waits for operations of several exports. */
struct gather {
    unsigned pending;
    array_done_fn done;
    void *arg;
    struct error error;
    struct loop_task task;
};

static void gather_end(void *arg)
{
    struct gather *gather = arg;
    if (gather->done) {
        gather->done(gather->arg, gather->error.code == ERR_NONE ? NULL : &gather->error);
    }
    free(gather);
}

static void gather_back(void *arg, const struct error *error)
{
    struct gather *gather = arg;
    if (error) {
        gather->error = *error;
    }
    if (--gather->pending == 0) {
        gather_end(gather);
    }
}

static void volume_start(struct op *op)
{
    struct export *export = op->export;
    bool others = false;
    op_begin_step(op, op_end);
    list_for_each(link, &export->units)
    {
        others |= strcmp(list_entry(link, struct unit, link)->volume_id, op->volume_id) != 0;
    }
    if (!others) {
        export_unserve(op);
    } else {
        list_for_each_safe(link, next, &export->units)
        {
            struct unit *unit = list_entry(link, struct unit, link);
            if (strcmp(unit->volume_id, op->volume_id) == 0) {
                unit_unserve(unit, op);
            }
        }
    }
    op_back(op);
}

/* Queues an operation on each export that has the volume, or will have. */
static void volume_ops(struct exports *exports, const char *volume_id, struct gather *gather,
                       void (*first)(struct op *op), uint64_t grace_ns, enum target_lun_event event)
{
    struct users *users = map_get(&exports->volumes, volume_id);
    if (!users || exports->server_closing) {
        return;
    }
    list_for_each(link, &users->units)
    {
        struct export *export = list_entry(link, struct unit, user_link)->export;
        if (export->marked) {
            continue;
        }
        export->marked = true;
        struct op *op = op_new(exports, export, first, gather_back, gather);
        gather->pending++;
        strcpy(op->volume_id, volume_id);
        op->grace_ns = grace_ns;
        op->event = event;
        op_queue(op);
    }
    list_for_each(link, &users->units)
    {
        list_entry(link, struct unit, user_link)->export->marked = false;
    }
}

/* The same, and done when all of them are. */
static void volume_gather(struct exports *exports, const char *volume_id,
                          void (*first)(struct op *op), uint64_t grace_ns,
                          enum target_lun_event event, array_done_fn done, void *arg)
{
    struct gather *gather = calloc(1, sizeof(*gather));
    CHECK(gather != NULL && strlen(volume_id) <= ARRAY_ID_LEN);
    gather->done = done;
    gather->arg = arg;
    volume_ops(exports, volume_id, gather, first, grace_ns, event);
    if (gather->pending == 0) {
        gather->task = (struct loop_task){.fn = gather_end, .arg = gather};
        loop_defer(exports->spec.owner, &gather->task);
    }
}

void exports_volume_remove(struct exports *exports, const char *volume_id, uint64_t grace_ns,
                           array_done_fn done, void *arg)
{
    volume_gather(exports, volume_id, volume_start, grace_ns, 0, done, arg);
}

static void handle_refresh_there(void *arg)
{
    struct errand *errand = arg;
    handle_dev_refresh(errand->dev, errand_there_done, errand);
}

static void handle_refresh_back(struct errand *errand)
{
    struct unit *unit = errand->unit;
    target_lun_notify(unit->export->target, unit->number, errand->op->event);
    op_back(errand->op);
}

static void notify_end(struct op *op)
{
    if (op->export->target) {
        op_end_after_barrier(op);
    } else {
        op_end(op);
    }
}

static void notify_start(struct op *op)
{
    bool protection = op->event == TARGET_LUN_READ_ONLY || op->event == TARGET_LUN_WRITABLE;
    op_begin_step(op, notify_end);
    list_for_each(link, &op->export->units)
    {
        struct unit *unit = list_entry(link, struct unit, link);
        if (strcmp(unit->volume_id, op->volume_id) != 0 || (protection && unit->read_only)) {
            continue;
        }
        if (unit->handle) {
            errand_send(unit, op, unit->dev, handle_refresh_there, handle_refresh_back);
        } else {
            target_lun_notify(op->export->target, unit->number, op->event);
        }
    }
    op_back(op);
}

void exports_volume_notify(struct exports *exports, const char *volume_id,
                           enum target_lun_event event, array_done_fn done, void *arg)
{
    volume_gather(exports, volume_id, notify_start, 0, event, done, arg);
}

unsigned exports_volume_sessions(struct exports *exports, const char *volume_id,
                                 char ret_export_id[ARRAY_ID_LEN + 1],
                                 char ret_initiator[TARGET_MAX_NAME + 1])
{
    struct users *users = map_get(&exports->volumes, volume_id);
    unsigned n = 0;
    if (!users) {
        return 0;
    }
    list_for_each(link, &users->units)
    {
        struct export *export = list_entry(link, struct unit, user_link)->export;
        if (export->marked || !export->target || export->n_sessions == 0) {
            continue;
        }
        export->marked = true;
        n += export->n_sessions;
        if (ret_export_id) {
            strcpy(ret_export_id, export->id);
        }
        if (ret_initiator) {
            strcpy(ret_initiator, export->sessions[0].initiator);
        }
    }
    list_for_each(link, &users->units)
    {
        list_entry(link, struct unit, user_link)->export->marked = false;
    }
    return n;
}

/* ---- what the targets tell ---- */

static void sessions_changed(void *arg, struct target *target,
                             const struct target_session *sessions, unsigned n_sessions)
{
    struct exports *exports = arg;
    struct export *export = map_get(&exports->by_name, target_name(target));
    if (!export || export->target != target) {
        return;
    }
    size_t len = n_sessions * sizeof(*sessions);
    unsigned n_aliases = 0;
    for (unsigned i = 0; i < n_sessions; i++) {
        len += strlen(sessions[i].initiator) + strlen(sessions[i].alias) + 2;
        n_aliases += sessions[i].alias[0] != '\0';
    }
    struct target_session *copy = malloc(len + 1);
    CHECK(copy != NULL);
    char *text = (char *)(copy + n_sessions);
    for (unsigned i = 0; i < n_sessions; i++) {
        copy[i].initiator = text;
        text = stpcpy(text, sessions[i].initiator) + 1;
        copy[i].alias = text;
        text = stpcpy(text, sessions[i].alias) + 1;
    }
    struct target_session *before = export->sessions;
    unsigned n_before = export->n_sessions;
    pthread_mutex_lock(&exports->lock);
    export->sessions = copy;
    export->n_sessions = n_sessions;
    exports->n_aliases += n_aliases - export->n_aliases;
    export->n_aliases = n_aliases;
    pthread_mutex_unlock(&exports->lock);
    if (exports->spec.events.sessions_changed) {
        exports->spec.events.sessions_changed(exports->spec.events_arg, export->id, before,
                                              n_before, copy, n_sessions);
    }
    free(before);
}

static void reservations_changed(void *arg, struct target *target, unsigned lun, const void *bytes,
                                 size_t len, struct target_save *save)
{
    struct exports *exports = arg;
    struct export *export = map_get(&exports->by_name, target_name(target));
    struct unit *unit = export && export->target == target ? unit_find(&export->units, lun) : NULL;
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
                   .sessions_changed = sessions_changed},
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
            struct unit *unit = list_entry(link, struct unit, link);
            exports->handles_closing += unit->handle;
            unit_release(unit, NULL);
        }
    }
    exports->handles_closing--;
    exports_settle(exports);
}

/* The next step of the end. */
static void exports_settle(struct exports *exports)
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
                target_take(export);
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

/* ---- numbers ---- */

unsigned export_sessions(struct exports *exports, const char *export_id)
{
    struct export *export = map_get(&exports->by_id, export_id);
    return export ? export->n_sessions : 0;
}

void exports_each_session(struct exports *exports, const char *export_id, export_session_fn fn,
                          void *arg)
{
    pthread_mutex_lock(&exports->lock);
    struct export *export = map_get(&exports->by_id, export_id);
    for (unsigned i = 0; export && i < export->n_sessions; i++) {
        fn(arg, &export->sessions[i]);
    }
    pthread_mutex_unlock(&exports->lock);
}

void exports_each_alias(struct exports *exports, const char *volume_id, export_alias_fn fn,
                        void *arg)
{
    pthread_mutex_lock(&exports->lock);
    struct users *users = exports->n_aliases > 0 ? map_get(&exports->volumes, volume_id) : NULL;
    if (users) {
        list_for_each(link, &users->units)
        {
            const struct unit *unit = list_entry(link, struct unit, user_link);
            const struct export *export = unit->export;
            for (unsigned i = 0; i < export->n_sessions; i++) {
                if (export->sessions[i].alias[0] != '\0') {
                    fn(arg, unit->number, &export->sessions[i]);
                }
            }
        }
    }
    pthread_mutex_unlock(&exports->lock);
}

void exports_stats(struct exports *exports, struct exports_stats *ret_stats)
{
    struct exports_stats stats = {0};
    struct target_stats one;
    pthread_mutex_lock(&exports->lock);
    stats.sum = exports->gone;
    for (struct map_entry *e = map_first(&exports->by_id); e; e = map_next(&exports->by_id, e)) {
        const struct export *export = e->value;
        if (export->target) {
            target_stats(export->target, &one);
            stats_add(&stats.sum, &one);
            stats.targets++;
        }
    }
    pthread_mutex_unlock(&exports->lock);
    target_server_stats(exports->server, &stats.server);
    *ret_stats = stats;
}
