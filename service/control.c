// SPDX-License-Identifier: Apache-2.0
/*
 * Control itself: what hangs on it, its numbers, and how it begins. What it does then is in files of its own:
 *
 *     control_queue.c      calls and events that wait for their batch
 *     control_batch.c      the transaction they share
 *     control_effects.c    what is done after its commit
 *     control_answers.c    when answers leave
 *     control_decision.c   a call that may be taken back after its commit
 *     control_keys.c       Idempotency-Keys
 *     control_waiters.c    those who wait for the end of a job
 *     control_end.c        how it ends
 */
#include "service/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "service/changes.h"
#include "service/control_private.h"
#include "service/exports.h"
#include "service/hosted.h"
#include "service/jobs.h"
#include "service/live.h"
#include "service/mirrors.h"
#include "service/network.h"
#include "service/undo.h"
#include "store/system.h"

enum {
    EXPIRE_INTERVAL_S = 60,
};

struct loop *control_loop(struct control *control)
{
    return control->loop;
}

struct db *control_db(struct control *control)
{
    return control->db;
}

const struct control_options *control_options(const struct control *control)
{
    return &control->options;
}

struct loop *control_data_loop(struct control *control, unsigned index)
{
    return control->data_loops[index % control->n_data_loops];
}

unsigned control_data_loops(const struct control *control)
{
    return control->n_data_loops;
}

struct jobs *control_jobs(struct control *control)
{
    return control->jobs;
}

struct network *control_network(struct control *control)
{
    return control->network;
}

struct served *control_served(struct control *control)
{
    return control->served;
}

struct mirrors *control_mirrors(struct control *control)
{
    return control->mirrors;
}

struct hosted *control_hosted(struct control *control)
{
    return control->hosted;
}

struct live *control_live(struct control *control)
{
    return control->live;
}

uint64_t control_now_ms(struct control *control)
{
    return loop_wall_ms(control->loop);
}

void control_observe(struct control *control, const struct change_observer *observer)
{
    atomic_store(&control->observer, observer);
}

void control_set_own_addresses(struct control *control, const char *addresses)
{
    network_set_own_addresses(control->network, addresses);
}

void control_tell(struct control *control, const struct object_change *changes, size_t n)
{
    const struct change_observer *observer = atomic_load(&control->observer);

    if (observer != NULL) {
        observer->fn(observer->arg, changes, n);
    }
}

struct control_stats control_stats(struct control *control)
{
    return (struct control_stats){
        .calls = atomic_load(&control->calls),
        .batches = atomic_load(&control->batches),
        .commits = atomic_load(&control->commits),
        .commit_ns = atomic_load(&control->commit_ns),
        .queued = atomic_load(&control->queued),
        .bytes_read = atomic_load(&control->bytes_read),
        .bytes_written = atomic_load(&control->bytes_written),
        .bytes_zeroed = atomic_load(&control->bytes_zeroed),
        .bytes_skipped = atomic_load(&control->bytes_skipped),
    };
}

void control_count_copied(struct control *control, uint64_t read, uint64_t written, uint64_t zeroed,
                          uint64_t skipped)
{
    atomic_fetch_add(&control->bytes_read, read);
    atomic_fetch_add(&control->bytes_written, written);
    atomic_fetch_add(&control->bytes_zeroed, zeroed);
    atomic_fetch_add(&control->bytes_skipped, skipped);
}

/* ---- beginning ---- */

static int expire_event(struct call *call)
{
    struct control *control = call->control;
    uint64_t now = control_now_ms(control);
    uint64_t keep = control->options.idempotency_keep_ms;
    int r = answer_expire(call->db, now > keep ? now - keep : 0);

    if (r == 0) {
        r = jobs_expire(call, now);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

static void expire_tick(void *arg)
{
    struct control *control = arg;

    control_event(control, expire_event, NULL, 0);
    loop_timer_start(&control->expire_timer, EXPIRE_INTERVAL_S * SEC_NS);
}

void control_threads_end(struct control *control)
{
    for (unsigned i = 0; i < control->n_data_loops; i++) {
        loop_thread_join(control->data_loops[i]);
    }
    loop_thread_join(control->loop);
    control->threads_running = false;
}

void control_free(struct control *control)
{
    network_free(control->network);
    jobs_free(control->jobs);
    served_free(control->served);
    mirrors_free(control->mirrors);
    hosted_free(control->hosted);
    live_free(control->live);
    for (unsigned i = 0; i < control->n_data_loops; i++) {
        loop_free(control->data_loops[i]);
    }
    if (control->loop != NULL) {
        loop_timer_stop(&control->retry_timer);
        loop_timer_stop(&control->expire_timer);
        loop_timer_stop(&control->undo_timer);
        loop_free(control->loop);
    }
    control_held_free(control);
    map_fini(&control->in_progress);
    db_close(control->db);
    undo_free(control->undo);
    changes_free(control->changes);
    pthread_cond_destroy(&control->stop_cond);
    pthread_mutex_destroy(&control->stop_lock);
    free(control->data_dir);
    free(control->system_name);
    free(control->initiator_name);
    free(control->portal_allow);
    free(control->pool_directories);
    free(control);
}

static unsigned data_loop_count(unsigned wanted)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = wanted != 0 ? wanted : (unsigned)(cores < 1 ? 1 : cores);

    return n > DATA_LOOPS_MAX ? DATA_LOOPS_MAX : n;
}

/* The name of /systems/local is what the options say. */
static int local_system_name(struct control *control)
{
    struct system_row local;
    int r = table_get(control->db, &system_table, SYSTEM_LOCAL, &local);

    if (r < 0 || strlen(control->system_name) >= sizeof(local.element_name) ||
        strcmp(local.element_name, control->system_name) == 0) {
        return r;
    }
    strcpy(local.element_name, control->system_name);
    return table_update(control->db, &system_table, &local);
}

static void control_started(void *arg)
{
    struct control *control = arg;

    pthread_mutex_lock(&control->stop_lock);
    control->started = true;
    pthread_cond_signal(&control->stop_cond);
    pthread_mutex_unlock(&control->stop_lock);
}

/* Behind what the start has found out: who asks once we are ready is told of it. Only tried, for a
 * full disk must not keep us from starting. */
static int begun_event(struct call *call)
{
    struct control *control = call->control;

    if (control->begun_task.fn == NULL) {
        control->begun_task = (struct loop_task){.fn = control_started, .arg = control};
        loop_defer(control->loop, &control->begun_task); /* after the commit of this batch */
    }
    return 0;
}

static void control_begun(void *arg)
{
    struct control *control = arg;

    mirrors_begin(control->mirrors);
    served_begin(control->served);
    jobs_begin(control->jobs);
    control_event_in_order(control, "start", begun_event, NULL, 0);
}

/* Volumes of our own first: copies may need them. */
static void control_begin(void *arg)
{
    struct control *control = arg;
    int r = mirrors_load(control->mirrors);

    if (r < 0) {
        log_error("mirrors: the records cannot be read: %s", strerror(-r));
    }
    hosted_start(control->hosted, control_begun, control);
}

int control_start(const struct control_options *options, struct control **ret_control,
                  struct error *error)
{
    struct control *control = calloc(1, sizeof(*control));
    int r;

    CHECK(control != NULL);
    control->options = *options;
    control->data_dir = strdup(options->data_dir);
    control->system_name = strdup(options->system_name);
    control->initiator_name = strdup(options->initiator_name);
    control->portal_allow = strdup(options->portal_allow);
    CHECK(control->data_dir != NULL && control->system_name != NULL &&
          control->initiator_name != NULL && control->portal_allow != NULL);
    control->pool_directories =
        strdup(options->pool_directories != NULL ? options->pool_directories : "");
    CHECK(control->pool_directories != NULL);
    control->options.pool_directories = control->pool_directories;
    control->options.data_dir = control->data_dir;
    control->options.system_name = control->system_name;
    control->options.initiator_name = control->initiator_name;
    control->options.portal_allow = control->portal_allow;
    control->queue_tail = &control->queue;
    control->effects_tail = &control->effects;
    control->held_tail = &control->held;
    control->batch_task = (struct loop_task){.fn = control_run_batch, .arg = control};
    map_init(&control->in_progress);
    pthread_mutex_init(&control->stop_lock, NULL);
    pthread_cond_init(&control->stop_cond, NULL);

    r = hosted_check_records(options->data_dir, error);
    if (r == 0) {
        r = store_open(options->data_dir, &control->db, error);
    }
    if (r < 0) {
        goto failed;
    }
    r = local_system_name(control);
    if (r < 0) {
        error_set(error, ERR_STORE_FAILED, "The records could not be read: %s", strerror(-r));
        goto failed;
    }
    control->changes = changes_new();
    control->undo = undo_new(changes_watch(control->changes));
    db_watch(control->db, undo_watch(control->undo));
    control->live = live_new();
    r = loop_new("control", &control->loop);
    if (r < 0) {
        error_set(error, ERR_INTERNAL, "No event loop: %s", strerror(-r));
        goto failed;
    }
    loop_timer_init(&control->retry_timer, control->loop, control_held_retry, control);
    loop_timer_init(&control->expire_timer, control->loop, expire_tick, control);
    loop_timer_init(&control->undo_timer, control->loop, control_take_back, control);
    for (unsigned i = 0; i < data_loop_count(options->data_loops); i++) {
        char name[16];

        snprintf(name, sizeof(name), "data%u", i);
        r = loop_new(name, &control->data_loops[i]);
        if (r < 0) {
            error_set(error, ERR_INTERNAL, "No event loop: %s", strerror(-r));
            goto failed;
        }
        loop_linger(control->data_loops[i], options->data_linger_us * 1000);
        control->n_data_loops++;
    }
    r = network_new(control, &control->network, error);
    if (r < 0) {
        goto failed;
    }
    r = hosted_new(control, &control->hosted);
    if (r < 0) {
        error_set(error, ERR_INTERNAL, "Volumes cannot be served: %s", strerror(-r));
        goto failed;
    }
    r = mirrors_new(control, &control->mirrors);
    if (r < 0) {
        error_set(error, ERR_NO_MEMORY, "Out of memory.");
        goto failed;
    }
    r = jobs_new(control, &control->jobs, error);
    if (r < 0) {
        goto failed;
    }
    r = served_new(control, &control->served, error);
    if (r < 0) {
        goto failed;
    }
    loop_timer_start(&control->expire_timer, SEC_NS);
    for (unsigned i = 0; i < control->n_data_loops; i++) {
        CHECK(loop_thread_start(control->data_loops[i]) == 0);
    }
    control->stop_task = (struct loop_task){.fn = control_begin, .arg = control};
    loop_post(control->loop, &control->stop_task);
    CHECK(loop_thread_start(control->loop) == 0);
    control->threads_running = true;
    pthread_mutex_lock(&control->stop_lock);
    while (!control->started) {
        pthread_cond_wait(&control->stop_cond, &control->stop_lock);
    }
    pthread_mutex_unlock(&control->stop_lock);
    *ret_control = control;
    return 0;

failed:
    control_free(control);
    return r;
}
