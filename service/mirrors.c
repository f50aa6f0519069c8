// SPDX-License-Identifier: Apache-2.0
#include "service/mirrors.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "service/hosted.h"
#include "service/live.h"
#include "service/mirror_records.h"

enum { SPLIT_KEPT_MS = 5000 };

struct mirrors {
    struct control *control;
    struct list runs;
    bool stopping;
    unsigned ending; /* of a stop */
    loop_fn stop_done;
    void *stop_arg;
};

/* A call whose answer waits until a row is so. */
struct gate {
    struct list link;
    struct call *call;
    bool current; /* the driver works on it now */
};

static const struct mirror_driver *driver_of(const struct sync_row *sync)
{
    switch (replica_engine_of(sync)) {
    case ENGINE_MIRROR:
        return &mirror_sync_driver;
    case ENGINE_ASYNC:
        return &mirror_async_driver;
    default:
        return NULL;
    }
}

struct mirror_run *mirror_run_find(struct control *control, const char *sync_id)
{
    list_for_each(link, &control_mirrors(control)->runs)
    {
        struct mirror_run *run = list_entry(link, struct mirror_run, link);

        if (strcmp(run->want.head.id, sync_id) == 0 && !run->gone) {
            return run;
        }
    }
    return NULL;
}

static void split_forgotten(void *arg);

bool mirror_run_busy(struct control *control, const char *sync_id)
{
    const struct mirror_run *run = mirror_run_find(control, sync_id);

    return run != NULL && (run->applying || run->splitting || run->again);
}

static struct mirror_run *run_new(struct mirrors *mirrors, const struct sync_row *sync)
{
    struct mirror_run *run = calloc(1, sizeof(*run));

    CHECK(run != NULL);
    run->mirrors = mirrors;
    run->control = mirrors->control;
    run->want = *sync;
    run->revision = sync->revision;
    run->driver = driver_of(sync);
    CHECK(run->driver != NULL);
    loop_timer_init(&run->split_timer, control_loop(mirrors->control), split_forgotten, run);
    list_init(&run->gates);
    list_push_back(&mirrors->runs, &run->link);
    return run;
}

/* ---- following the row ---- */

static void run_go_on(struct mirror_run *run);

static void gates_open(struct mirror_run *run, const struct error *error)
{
    list_for_each_safe(link, following, &run->gates)
    {
        struct gate *gate = list_entry(link, struct gate, link);

        if (gate->current || run->ending) {
            list_remove(&gate->link);
            call_gate_open(gate->call, error);
            free(gate);
        }
    }
}

static void run_ended(void *arg)
{
    struct mirror_run *run = arg;
    struct mirrors *mirrors = run->mirrors;

    run->ending = true;
    gates_open(run, NULL);
    loop_timer_stop(&run->split_timer);
    live_remove(control_live(run->control), run->want.head.id);
    list_remove(&run->link);
    free(run);
    if (mirrors->stopping && list_empty(&mirrors->runs) && mirrors->stop_done != NULL) {
        loop_fn done = mirrors->stop_done;

        mirrors->stop_done = NULL;
        done(mirrors->stop_arg);
    }
}

static void run_applied(void *arg, const struct error *error)
{
    struct mirror_run *run = arg;

    if (error != NULL) {
        log_warning("mirror[%s] %s", run->want.head.id, error->detail);
    }
    run->applying = false;
    gates_open(run, error);
    run_go_on(run);
}

/* The engine of before is gone. */
static void run_switched(void *arg)
{
    struct mirror_run *run = arg;

    run->applying = false;
    run->state = NULL;
    run->driver = driver_of(&run->want);
    run_go_on(run);
}

static void run_go_on(struct mirror_run *run)
{
    const struct mirror_driver *wanted = driver_of(&run->want);

    if (run->applying || run->splitting || run->ending) {
        return;
    }
    if (run->gone || run->mirrors->stopping) {
        run->ending = true;
        run->driver->end(run, run->forget, run_ended, run);
        return;
    }
    if (!run->again) {
        return;
    }
    if (wanted != run->driver) {
        run->applying = true;
        run->driver->end(run, true, run_switched, run);
        return;
    }
    run->again = false;
    run->applying = true;
    list_for_each(link, &run->gates)
    {
        list_entry(link, struct gate, link)->current = true;
    }
    run->driver->apply(run, run_applied, run);
}

static void split_settled(struct mirror_run *run)
{
    loop_timer_stop(&run->split_timer);
    run->split = false;
    run->splitting = false;
}

/* The operation that has parted the sides did not come to its end: as the row says, then. */
static void split_forgotten(void *arg)
{
    struct mirror_run *run = arg;

    split_settled(run);
    run->again = true;
    run_go_on(run);
}

struct apply {
    struct sync_row sync;
    struct call *call;
    bool gone;
};

static void apply_effect(struct control *control, void *arg)
{
    const struct apply *apply = arg;
    struct mirrors *mirrors = control_mirrors(control);
    struct mirror_run *run = mirror_run_find(control, apply->sync.head.id);

    if (run == NULL && (apply->gone || mirrors->stopping)) {
        if (apply->call != NULL) {
            call_gate_open(apply->call, NULL);
        }
        return;
    }
    if (run == NULL) {
        run = run_new(mirrors, &apply->sync);
    }
    run->want = apply->sync;
    run->again = true;
    if (run->split) {
        split_settled(run);
    }
    run->gone = apply->gone;
    run->forget = apply->gone;
    if (apply->call != NULL) {
        struct gate *gate = calloc(1, sizeof(*gate));

        CHECK(gate != NULL);
        gate->call = apply->call;
        list_push_back(&run->gates, &gate->link);
    }
    run_go_on(run);
}

static void apply_ask(struct call *call, const struct sync_row *sync, bool gone)
{
    struct apply apply = {.sync = *sync, .gone = gone};

    if (!call->internal) {
        apply.call = call;
        call_gate(call);
    }
    control_effect(call->control, apply_effect, &apply, sizeof(apply));
}

void mirror_apply(struct call *call, const struct sync_row *sync)
{
    apply_ask(call, sync, false);
}

void mirror_remove(struct call *call, const struct sync_row *sync)
{
    apply_ask(call, sync, true);
}

/* ---- splitting before a commit ---- */

struct split {
    struct mirror_run *run;
    unsigned *pending; /* with others: the last one goes on */
    struct call *call;
    method_fn step;
    struct error *ret_error;
};

static void split_done(void *arg, const struct error *error)
{
    struct split *split = arg;
    struct mirror_run *run = split->run;

    *split->ret_error = error != NULL ? *error : (struct error){0};
    if (error != NULL || run->again || run->gone || run->mirrors->stopping) {
        run->splitting = false;
    } else {
        run->split = true;
        loop_timer_start(&run->split_timer, SPLIT_KEPT_MS * MS_NS);
    }
    if (--*split->pending == 0) {
        if (!run->mirrors->stopping) {
            call_resume(split->call, split->step);
        }
        free(split->pending);
    }
    free(split);
    run_go_on(run);
}

int mirror_split_together(struct call *call, const struct mirror_part *parts, size_t n, bool guard,
                          uint64_t timeout_ms, method_fn step)
{
    unsigned *pending = malloc(sizeof(*pending));

    CHECK(pending != NULL && n > 0);
    *pending = (unsigned)n;
    for (size_t i = 0; i < n; i++) {
        const struct mirror_run *run = mirror_run_find(call->control, parts[i].sync->head.id);

        if (run == NULL || run->applying || run->splitting || run->ending) {
            free(pending);
            return call_fail(call, ERR_IN_USE,
                             "Another operation on /synchronizations/%s is under way; ask again.",
                             parts[i].sync->head.id);
        }
    }
    for (size_t i = 0; i < n; i++) {
        mirror_run_find(call->control, parts[i].sync->head.id)->splitting = true;
    }
    for (size_t i = 0; i < n; i++) {
        struct mirror_run *run = mirror_run_find(call->control, parts[i].sync->head.id);
        struct split *split = calloc(1, sizeof(*split));

        CHECK(split != NULL);
        *split = (struct split){run, pending, call, step, parts[i].ret_error};
        run->driver->split(run, guard, timeout_ms, split_done, split);
    }
    return CALL_PENDING;
}

int mirror_split_first(struct call *call, const struct sync_row *sync, bool guard,
                       uint64_t timeout_ms, struct error *ret_error, method_fn step)
{
    const struct mirror_part part = {sync, ret_error};

    return mirror_split_together(call, &part, 1, guard, timeout_ms, step);
}

/* ---- several at one moment ---- */

struct split_at_once {
    struct call *call;
    method_fn step;
    struct mirror_moment *ret_moment;
    bool guard;
    size_t n;
    struct mirror_run *runs[];
};

static void moment_failed(struct mirror_moment *moment, const struct mirror_run *run,
                          enum error_code code, const char *detail)
{
    error_set(&moment->error, code, "%s", detail);
    memcpy(moment->culprit_id, run->want.head.id, ID_SIZE);
}

static void at_once_done(void *arg, const struct mirror_parting *parting)
{
    struct split_at_once *split = arg;
    struct mirror_moment *moment = split->ret_moment;
    bool stopping = split->runs[0]->mirrors->stopping;

    *moment = (struct mirror_moment){.pause_us = (parting->pause_ns + 999) / 1000};
    if (parting->error != NULL) {
        moment_failed(moment, split->runs[parting->culprit], parting->error->code,
                      parting->error->detail);
    }
    for (size_t i = 0; i < split->n && moment->error.code == ERR_NONE; i++) {
        if (split->runs[i]->again || split->runs[i]->gone) {
            moment_failed(moment, split->runs[i], ERR_CONFLICT,
                          "another operation on it came in between");
        }
    }
    for (size_t i = 0; i < split->n; i++) {
        struct mirror_run *run = split->runs[i];

        run->split = moment->error.code == ERR_NONE && !stopping;
        run->splitting = run->split;
        if (run->split) {
            loop_timer_start(&run->split_timer, SPLIT_KEPT_MS * MS_NS);
        } else {
            run->again = run->again || split->guard || parting->parted;
        }
    }
    if (!stopping) {
        call_resume(split->call, split->step);
    }
    for (size_t i = 0; i < split->n; i++) {
        run_go_on(split->runs[i]);
    }
    free(split);
}

int mirror_split_at_once(struct call *call, const struct sync_row *const *syncs, size_t n,
                         bool guard, struct mirror_moment *ret_moment, method_fn step)
{
    struct split_at_once *split = calloc(1, sizeof(*split) + n * sizeof(split->runs[0]));

    CHECK(split != NULL && n > 0);
    *split = (struct split_at_once){call, step, ret_moment, guard, n};
    for (size_t i = 0; i < n; i++) {
        struct mirror_run *run = mirror_run_find(call->control, syncs[i]->head.id);

        if (run == NULL || run->applying || run->splitting || run->ending || run->again ||
            run->driver->split_at_once == NULL) {
            free(split);
            return call_fail(call, ERR_IN_USE,
                             "Another operation on /synchronizations/%s is under way; ask again.",
                             syncs[i]->head.id);
        }
        split->runs[i] = run;
    }
    for (size_t i = 0; i < n; i++) {
        split->runs[i]->splitting = true;
    }
    split->runs[0]->driver->split_at_once(split->runs, n, guard, at_once_done, split);
    return CALL_PENDING;
}

bool mirror_is_parted(struct control *control, const char *sync_id)
{
    const struct mirror_run *run = mirror_run_find(control, sync_id);

    return run != NULL && run->split && !run->again;
}

struct mirror_run *mirror_run_next(struct control *control, const struct mirror_run *run)
{
    struct list *runs = &control_mirrors(control)->runs;
    struct list *link = run == NULL ? runs->next : run->link.next;

    return link == runs ? NULL : list_entry(link, struct mirror_run, link);
}

/* ---- what drivers tell ---- */

void mirror_numbers(struct mirror_run *run, const struct mirror_progress *progress)
{
    mirror_publish(run->control, &run->want, progress);
}

/* Until this is on the disk, the mirror holds back what only the source has (replication/mirror.h); so it does not wait for a
 * batch. */
static void restored(struct mirror_run *run)
{
    struct db *db = control_db(run->control);
    struct sync_row sync;
    int r = table_get(db, &sync_table, run->want.head.id, &sync);

    run->want.source_incomplete = false;
    if (r == 0 && sync.source_incomplete && sync.revision == run->revision) {
        sync.source_incomplete = false;
        r = table_update(db, &sync_table, &sync);
    }
    if (r < 0 && r != -ENOENT) {
        log_error("mirror[%s] that it was restored cannot be recorded: %s", run->want.head.id,
                  strerror(-r));
    }
}

void mirror_told(struct mirror_run *run, const struct mirror_progress *progress,
                 const struct error *error)
{
    struct mirror_event event = {.revision = run->revision, .progress = *progress};

    if (progress->phase == MIRROR_EQUAL && progress->direction == MIRROR_TO_LEG &&
        run->want.source_incomplete && run->want.revision == run->revision) {
        restored(run);
    }
    mirror_numbers(run, progress);
    memcpy(event.sync_id, run->want.head.id, ID_SIZE);
    if (error != NULL) {
        event.error = *error;
    }
    control_event_in_order(run->control, event.sync_id, mirror_told_event, &event, sizeof(event));
}

static void tell_map(struct mirror_run *run, method_fn fn)
{
    struct mirror_event event = {.revision = run->want.map_generation};

    memcpy(event.sync_id, run->want.head.id, ID_SIZE);
    control_event_in_order(run->control, event.sync_id, fn, &event, sizeof(event));
}

void mirror_map_kept(struct mirror_run *run)
{
    tell_map(run, mirror_map_kept_event);
}

void mirror_target_merged(struct mirror_run *run)
{
    tell_map(run, mirror_target_merged_event);
}

/* ---- volumes that are opened ---- */

size_t mirrors_filters(struct control *control, const struct volume_row *volume,
                       struct array_volume_filter **ret_filters)
{
    struct array_volume_filter *filters = NULL;
    size_t n = 0;

    list_for_each(link, &control_mirrors(control)->runs)
    {
        struct mirror_run *run = list_entry(link, struct mirror_run, link);
        bool concerned = strcmp(run->want.source_id, volume->head.id) == 0 ||
                         strcmp(run->want.target_id, volume->head.id) == 0;
        struct array_volume_filter filter = {0};

        if (!concerned || run->ending || run->gone || run->mirrors->stopping ||
            !run->driver->filter(run, volume, &filter.filter)) {
            continue;
        }
        filters = realloc(filters, (n + 1) * sizeof(*filters));
        CHECK(filters != NULL);
        memcpy(filter.id, run->want.head.id, sizeof(filter.id));
        filters[n++] = filter;
    }
    *ret_filters = filters;
    return n;
}

/* ---- maps ---- */

static int map_dir(struct control *control, const char *volume_id, char *ret_dir, size_t size)
{
    struct db *db = control_db(control);
    struct volume_row volume;
    struct pool_row pool;
    int r = table_get(db, &volume_table, volume_id, &volume);

    if (r == 0) {
        r = volume.kind != VOLUME_HOSTED ? -ENOENT
                                         : table_get(db, &pool_table, volume.pool_id, &pool);
    }
    return r < 0 ? r : hosted_pool_dir(control, &pool, ret_dir, size);
}

int mirror_map_path(struct control *control, const char *volume_id, const struct sync_row *sync,
                    const char *kind, char *ret_path, size_t size)
{
    char dir[PATH_MAX];
    int r = map_dir(control, volume_id, dir, sizeof(dir));

    if (r < 0) {
        return r;
    }
    int n =
        snprintf(ret_path, size, "%s/%s.%u%s.map", dir, sync->head.id, sync->map_generation, kind);

    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* Is it the map of a mirror that is there, of its generation? */
static bool map_is_known(struct mirrors *mirrors, const char *name)
{
    list_for_each(link, &mirrors->runs)
    {
        const struct sync_row *sync = &list_entry(link, struct mirror_run, link)->want;
        char wanted[2][ID_SIZE + 32];

        snprintf(wanted[0], sizeof(wanted[0]), "%s.%u.map", sync->head.id, sync->map_generation);
        snprintf(wanted[1], sizeof(wanted[1]), "%s.%ut.map", sync->head.id, sync->map_generation);
        if (strcmp(name, wanted[0]) == 0 || strcmp(name, wanted[1]) == 0) {
            return true;
        }
    }
    return false;
}

static int sweep_pool(void *arg, const void *row)
{
    struct mirrors *mirrors = arg;
    const struct pool_row *pool = row;
    const struct dirent *file;
    char path[PATH_MAX];

    if (pool->kind != POOL_FILE ||
        hosted_pool_dir(mirrors->control, pool, path, sizeof(path)) < 0) {
        return 0;
    }
    DIR *dir = opendir(path);

    while (dir != NULL && (file = readdir(dir)) != NULL) {
        size_t len = strlen(file->d_name);

        if (len > 4 && strcmp(file->d_name + len - 4, ".map") == 0 &&
            !map_is_known(mirrors, file->d_name) && unlinkat(dirfd(dir), file->d_name, 0) == 0) {
            log_info("pool[%s] the map %s belongs to nothing and was removed", pool->head.id,
                     file->d_name);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return 0;
}

/* ---- beginning and end ---- */

int mirrors_new(struct control *control, struct mirrors **ret_mirrors)
{
    struct mirrors *mirrors = calloc(1, sizeof(*mirrors));

    if (mirrors == NULL) {
        return -ENOMEM;
    }
    mirrors->control = control;
    list_init(&mirrors->runs);
    *ret_mirrors = mirrors;
    return 0;
}

void mirrors_free(struct mirrors *mirrors)
{
    if (mirrors != NULL) {
        CHECK(list_empty(&mirrors->runs));
        free(mirrors);
    }
}

static int load_row(void *arg, const void *row)
{
    const struct sync_row *sync = row;

    if (driver_of(sync) != NULL) {
        run_new(arg, sync);
    }
    return 0;
}

int mirrors_load(struct mirrors *mirrors)
{
    struct condition where[] = {WHERE_NUM("sync_type", SYNC_MIRROR), WHERE_END};
    struct db *db = control_db(mirrors->control);
    int r = table_each(db, &sync_table, where, 0, 0, load_row, mirrors);

    return r < 0 ? r : table_each(db, &pool_table, NULL, 0, 0, sweep_pool, mirrors);
}

void mirrors_begin(struct mirrors *mirrors)
{
    list_for_each_safe(link, following, &mirrors->runs)
    {
        struct mirror_run *run = list_entry(link, struct mirror_run, link);

        run->again = true;
        run_go_on(run);
    }
}

void mirrors_stop(struct mirrors *mirrors, loop_fn done, void *arg)
{
    mirrors->stopping = true;
    if (list_empty(&mirrors->runs)) {
        done(arg);
        return;
    }
    mirrors->stop_done = done;
    mirrors->stop_arg = arg;
    list_for_each_safe(link, following, &mirrors->runs)
    {
        struct mirror_run *run = list_entry(link, struct mirror_run, link);

        if (run->split) {
            split_settled(run); /* the operation does not come any more */
        }
        run_go_on(run);
    }
}
