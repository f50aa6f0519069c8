// SPDX-License-Identifier: Apache-2.0
/* Hosted volumes from the start of the service to its end, and what they tell by themselves. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "service/exports.h"
#include "service/hosted_private.h"
#include "service/mirrors.h"
#include "service/replica.h"

void hosted_busy(struct hosted *hosted, int delta)
{
    hosted->busy = (unsigned)((int)hosted->busy + delta);
    if (hosted->busy == 0 && hosted->idle != NULL) {
        loop_fn idle = hosted->idle;

        hosted->idle = NULL;
        idle(hosted->idle_arg);
    }
}

struct array *hosted_array(struct hosted *hosted)
{
    return hosted->array;
}

/* ---- what volumes tell ---- */

/* A snapshot that hosts have written to is not what its source was: Skewed. */
static int changed_event(struct call *call)
{
    const char *volume_id = call->step_state;
    struct volume_row volume;
    int r = table_get(call->db, &volume_table, volume_id, &volume);

    if (r < 0 || !volume.watched) {
        return r < 0 && r != -ENOENT ? call_fail_store(call, r) : 0;
    }
    volume.watched = false;
    r = table_update(call->db, &volume_table, &volume);
    if (r < 0) {
        return call_fail_store(call, r);
    }
    r = hosted_merge_below(call, volume.top_layer_id);
    return r < 0 ? r : replica_target_changed(call, volume_id);
}

static void volume_changed(void *arg, const char *volume_id)
{
    struct hosted *hosted = arg;

    control_event(hosted->control, changed_event, volume_id, strlen(volume_id) + 1);
}

static int tell_low_space(void *arg, const void *row)
{
    const struct hosted *hosted = arg;
    const struct volume_row *volume = row;

    if (!volume->offline) {
        exports_notify_volume(hosted->control, volume->head.id, TARGET_LUN_LOW_SPACE, NULL, NULL);
    }
    return 0;
}

/* Hosts hear of it with their next command (soft threshold reached). */
static void pool_tell_low_space(struct hosted *hosted, const char *pool_id)
{
    struct condition where[] = {WHERE_TEXT("pool_id", pool_id), WHERE_END};
    int r =
        table_each(control_db(hosted->control), &volume_table, where, 0, 0, tell_low_space, hosted);

    if (r < 0) {
        log_warning("pool[%s] its volumes are not known: %s", pool_id, strerror(-r));
    }
}

static void pool_low_space(void *arg, const char *pool_id, bool low)
{
    struct hosted *hosted = arg;

    if (low) {
        log_warning("pool[%s] runs out of space", pool_id);
        pool_tell_low_space(hosted, pool_id);
    } else {
        log_info("pool[%s] has space again", pool_id);
    }
}

/* ---- pools ---- */

int hosted_pool_dir(struct control *control, const struct pool_row *pool, char *ret_dir,
                    size_t size)
{
    int n = pool->path[0] == '/'
                ? snprintf(ret_dir, size, "%s", pool->path)
                : snprintf(ret_dir, size, "%s/%s", control_options(control)->data_dir, pool->path);

    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int hosted_check_records(const char *data_dir, struct error *error)
{
    char dir[PATH_MAX];

    /* The pool that is there from the beginning (store/schema.c). */
    snprintf(dir, sizeof(dir), "%s/pools/default", data_dir);
    if (store_is_there(data_dir) || !array_dir_has_layers(dir)) {
        return 0;
    }
    return error_set(error, ERR_STORE_FAILED,
                     "%s has volumes, but their records, %s/smirror.db, are gone. Put them back "
                     "(with smirror.db-wal), or move the directory away to begin anew.",
                     dir, data_dir);
}

static bool layer_is_known(void *arg, const char *layer_id)
{
    struct layer_row row;

    /* One that cannot be looked up is kept. */
    return table_get(arg, &layer_table, layer_id, &row) != -ENOENT;
}

static int pool_start(void *arg, const void *row)
{
    struct hosted *hosted = arg;
    const struct pool_row *pool = row;
    char dir[PATH_MAX];
    struct error error = {0};

    if (pool->kind != POOL_FILE) {
        return 0;
    }
    int r = hosted_pool_dir(hosted->control, pool, dir, sizeof(dir));

    if (r == 0) {
        r = array_pool_add(hosted->array, pool->head.id, dir, pool->capacity_bytes, &error);
    }
    if (r < 0) {
        log_error("pool[%s] cannot be used: %s", pool->head.id, error.detail);
    } else {
        array_pool_sweep(hosted->array, pool->head.id, layer_is_known, control_db(hosted->control));
    }
    return 0;
}

/* ---- start ---- */

static int volume_start(void *arg, const void *row)
{
    struct hosted *hosted = arg;
    const struct volume_row *volume = row;
    struct db *db = control_db(hosted->control);
    struct error error = {0};
    struct layer_row *chain;
    size_t n;
    int r = layer_chain(db, volume->top_layer_id, &chain, &n);

    if (r < 0) {
        error_set(&error, ERR_STORE_FAILED, "The records of its layers contradict themselves.");
        hosted_trouble(hosted->control, volume->head.id, &error);
        return 0;
    }
    struct array_layer *layers = calloc(n == 0 ? 1 : n, sizeof(*layers));

    CHECK(layers != NULL);
    for (size_t i = 0; i < n; i++) {
        strcpy(layers[i].id, chain[i].head.id);
        strcpy(layers[i].pool_id, chain[i].pool_id);
        layers[i].size_bytes = chain[i].size_bytes;
    }
    if (!array_pool_is_there(hosted->array, volume->pool_id)) {
        error_set(&error, ERR_INTERNAL, "The directory of /pools/%s cannot be used.",
                  volume->pool_id);
        hosted_trouble(hosted->control, volume->head.id, &error);
    } else {
        if (volume->problem[0] != '\0') {
            hosted_trouble(hosted->control, volume->head.id, NULL);
        }
        hosted_open_now(hosted, volume, layers, n, n > 0 ? &chain[0] : &(struct layer_row){0});
    }
    free(layers);
    free(chain);
    return 0;
}

void hosted_start(struct hosted *hosted, loop_fn done, void *arg)
{
    struct db *db = control_db(hosted->control);
    struct condition hosted_only[] = {WHERE_NUM("kind", VOLUME_HOSTED), WHERE_END};

    hosted->idle = done;
    hosted->idle_arg = arg;
    hosted_busy(hosted, +1);
    int r = table_each(db, &pool_table, NULL, 0, 0, pool_start, hosted);

    if (r == 0) {
        r = table_each(db, &volume_table, hosted_only, 0, 0, volume_start, hosted);
    }
    if (r < 0) {
        log_error("hosted volumes: the records cannot be read: %s", strerror(-r));
    }
    hosted_merge_scan(hosted);
    hosted_scrub_begin(hosted);
    hosted_busy(hosted, -1);
}

/* ---- end ---- */

struct stop {
    struct hosted *hosted;
    void (*withdraw)(struct control *control, loop_fn done, void *arg);
    loop_fn done;
    void *arg;
};

static void stop_closed(void *arg)
{
    struct stop *stop = arg;
    loop_fn done = stop->done;
    void *done_arg = stop->arg;

    hosted_scrub_clean(stop->hosted);
    free(stop);
    done(done_arg);
}

static void stop_parted(void *arg)
{
    struct stop *stop = arg;

    array_close(stop->hosted->array, stop_closed, stop);
}

/* Nobody writes any more: mirrors write out what they know, and close their legs. */
static void stop_withdrawn(void *arg)
{
    struct stop *stop = arg;

    mirrors_stop(control_mirrors(stop->hosted->control), stop_parted, stop);
}

static void stop_idle(void *arg)
{
    struct stop *stop = arg;

    if (stop->withdraw != NULL) {
        stop->withdraw(stop->hosted->control, stop_withdrawn, stop);
    } else {
        stop_withdrawn(stop);
    }
}

void hosted_stop(struct hosted *hosted,
                 void (*withdraw)(struct control *control, loop_fn done, void *arg), loop_fn done,
                 void *arg)
{
    struct stop *stop = calloc(1, sizeof(*stop));

    CHECK(stop != NULL);
    *stop = (struct stop){hosted, withdraw, done, arg};
    hosted->stopping = true;
    loop_timer_stop(&hosted->merge_timer);
    hosted->idle = stop_idle;
    hosted->idle_arg = stop;
    hosted_busy(hosted, 0);
}

static void new_layer_id(char ret_id[ARRAY_ID_LEN + 1])
{
    char id[ID_SIZE];

    store_new_id(id);
    strcpy(ret_id, id);
}

int hosted_new(struct control *control, struct hosted **ret_hosted)
{
    struct hosted *hosted = calloc(1, sizeof(*hosted));
    struct loop *loops[16];
    unsigned n = control_data_loops(control);

    CHECK(hosted != NULL && n <= ARRAY_LEN(loops));
    for (unsigned i = 0; i < n; i++) {
        loops[i] = control_data_loop(control, i);
    }
    hosted->control = control;
    list_init(&hosted->plans);
    map_init(&hosted->merges);
    list_init(&hosted->merges_running);
    struct array_spec spec = {
        .owner = control_loop(control),
        .loops = loops,
        .n_loops = n,
        .new_layer_id = new_layer_id,
        .events = {.volume_changed = volume_changed, .pool_low_space = pool_low_space},
        .events_arg = hosted,
    };
    int r = array_new(&spec, &hosted->array);

    if (r < 0) {
        hosted_merge_fini(hosted);
        free(hosted);
        return r;
    }
    *ret_hosted = hosted;
    return 0;
}

void hosted_free(struct hosted *hosted)
{
    if (hosted != NULL) {
        hosted_merge_fini(hosted);
        array_free(hosted->array);
        free(hosted);
    }
}

/* ---- copies ---- */

struct block_opener *hosted_opener(struct control *control, const char *volume_id,
                                   struct loop **ret_loop)
{
    struct array *array = control_hosted(control)->array;

    return array_volume_device(array, volume_id, ret_loop) == NULL
               ? NULL
               : array_volume_opener(array, volume_id);
}
