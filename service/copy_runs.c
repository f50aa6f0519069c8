// SPDX-License-Identifier: Apache-2.0
/*
 * The copies that run: a list on control, started and stopped by effects. What they tell goes into transactions as events
 * (copy_events.c).
 *
 * Invariant: a volume whose copy is being closed is not opened by another one before that has ended (running_conflict()).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "service/hosted.h"
#include "service/jobs_private.h"
#include "service/live.h"
#include "service/network.h"

enum {
    STOP_TIMEOUT_MS = 3000,
    START_AGAIN_MS = 500,
    CHECKPOINT_MS = 1000,
    COPIES_AT_ONCE_MAX = 64, /* that one event starts */
};

static void jobs_share_limit(struct jobs *jobs);

struct running *running_find(struct jobs *jobs, const char *copy_id)
{
    list_for_each(link, &jobs->running)
    {
        struct running *running = list_entry(link, struct running, link);

        if (strcmp(running->copy_id, copy_id) == 0) {
            return running;
        }
    }
    return NULL;
}

void copy_cancel_effect(struct control *control, void *arg)
{
    struct running *running = running_find(control_jobs(control), arg);

    if (running != NULL) {
        copy_cancel(running->copy);
    }
}

void jobs_kick_effect(struct control *control, void *arg)
{
    (void)arg;
    jobs_kick(control_jobs(control));
}

void copy_suspender_go_on(struct jobs *jobs, const char *copy_id)
{
    struct running *running = running_find(jobs, copy_id);

    if (running != NULL && running->suspender != NULL) {
        struct call *call = running->suspender;

        running->suspender = NULL;
        call_resume(call, running->suspender_step);
    }
}

void copy_stopper_go_on(struct jobs *jobs, const char *copy_id)
{
    struct running *running = running_find(jobs, copy_id);

    if (running != NULL && running->stopper != NULL) {
        struct call *call = running->stopper;

        running->stopper = NULL;
        call_resume(call, running->stopper_step);
    }
}

/* ---- running copies ---- */

static void fill_event(struct running *running, const struct copy_progress *progress,
                       struct copy_event *ret_event)
{
    *ret_event = (struct copy_event){.progress = *progress};
    memcpy(ret_event->copy_id, running->copy_id, ID_SIZE);
    memcpy(ret_event->sync_id, running->sync_id, ID_SIZE);
}

/* What readers see: the counters of all runs. */
static void running_publish(struct running *running, const struct copy_progress *progress)
{
    struct copy_progress sum = *progress;
    const struct copy_progress *last = &running->published;

    control_count_copied(running->jobs->control, progress->bytes_read - last->bytes_read,
                         progress->bytes_written - last->bytes_written,
                         progress->bytes_zeroed - last->bytes_zeroed,
                         progress->bytes_skipped - last->bytes_skipped);
    running->published = *progress;
    sum.bytes_read += running->before.bytes_read;
    sum.bytes_written += running->before.bytes_written;
    sum.bytes_zeroed += running->before.bytes_zeroed;
    sum.bytes_skipped += running->before.bytes_skipped;
    sum.attempts += running->before.attempts;
    live_put(control_live(running->jobs->control), running->copy_id, &sum);
}

static void running_progress(void *arg, const struct copy_progress *progress)
{
    struct running *running = arg;
    bool was_suspended = running->phase == COPY_SUSPENDED;
    running_publish(running, progress);
    bool freed = progress->phase == COPY_RETRY && running->phase != COPY_RETRY;

    running->phase = progress->phase;
    if (freed || progress->phase == COPY_SUSPENDED) {
        jobs_kick(running->jobs);
    }
    if (running->stopping) {
        return;
    }
    if ((progress->phase == COPY_SUSPENDED) != was_suspended) {
        struct copy_event event;

        fill_event(running, progress, &event);
        control_event_in_order(running->jobs->control, running->copy_id, copy_phase_event, &event,
                               sizeof(event));
    }
}

static void running_send(struct running *running, method_fn fn, const struct copy_progress *progress,
                         const struct error *error)
{
    struct checkpoint_event event = {.counted = running->counted};

    fill_event(running, progress, &event.event);
    if (error != NULL) {
        event.event.error = *error;
    }
    running->counted = *progress;
    control_event_in_order(running->jobs->control, running->copy_id, fn, &event, sizeof(event));
}

static void running_checkpoint(void *arg, const struct copy_progress *progress)
{
    running_send(arg, copy_checkpoint_event, progress, NULL);
}

static void running_ended(void *arg, const struct copy_progress *progress, const struct error *error)
{
    struct running *running = arg;
    method_fn fn = copy_ended_event;

    running_publish(running, progress);
    log_info("copy[%s] %s%s%s", running->copy_id, copy_phase_name(progress->phase),
             error != NULL ? ": " : "", error != NULL ? error->detail : "");
    if (progress->phase == COPY_DONE) {
        map_remove(&running->jobs->unclean, running->target_id);
    } else {
        jobs_note_unclean(running->jobs, running->target_id);
    }
    if (running->stopping) {
        fn = copy_stopped_event;
    } else if (running->jobs->stopping && progress->phase == COPY_CANCELLED) {
        fn = copy_shut_down_event;
    }
    running_send(running, fn, progress, error);
}

static const struct copy_events running_events = {
    .progress = running_progress,
    .checkpoint = running_checkpoint,
    .ended = running_ended,
};

static void jobs_stop_check(struct jobs *jobs)
{
    if (jobs->stopping && jobs->n_running == 0 && jobs->stop_done != NULL) {
        loop_fn done = jobs->stop_done;

        jobs->stop_done = NULL;
        loop_timer_stop(&jobs->stop_timer);
        done(jobs->stop_arg);
    }
}

/* After the commit that recorded its end. */
void running_gone_effect(struct control *control, void *arg)
{
    struct jobs *jobs = control_jobs(control);
    struct running *running = running_find(jobs, arg);

    if (running == NULL) {
        return;
    }
    list_remove(&running->link);
    jobs->n_running--;
    live_remove(control_live(control), running->copy_id);
    copy_free(running->copy);
    if (running->stopper != NULL) {
        call_resume(running->stopper, running->stopper_step);
    }
    if (running->suspender != NULL) {
        call_resume(running->suspender, running->suspender_step);
    }
    free(running);
    jobs_kick(jobs);
    jobs_share_limit(jobs);
    jobs_stop_check(jobs);
}

/* Do two copies use a volume in ways that must not overlap? */
static bool volumes_conflict(const char *source_a, const char *target_a, const char *source_b,
                             const char *target_b)
{
    return strcmp(target_a, target_b) == 0 || strcmp(target_a, source_b) == 0 ||
           strcmp(source_a, target_b) == 0;
}

static bool copies_conflict(const struct copy_row *a, const struct copy_row *b)
{
    return volumes_conflict(a->source_id, a->target_id, b->source_id, b->target_id);
}

static bool running_conflict(struct jobs *jobs, const struct copy_row *copy)
{
    list_for_each(link, &jobs->running)
    {
        const struct running *other = list_entry(link, struct running, link);

        if (strcmp(other->copy_id, copy->head.id) == 0 ||
            volumes_conflict(other->source_id, other->target_id, copy->source_id,
                             copy->target_id)) {
            return true;
        }
    }
    return false;
}

static unsigned least_loaded_loop(struct jobs *jobs)
{
    unsigned n = control_data_loops(jobs->control);
    unsigned best = 0;
    unsigned best_load = UINT32_MAX;

    for (unsigned i = 0; i < n; i++) {
        unsigned load = 0;

        list_for_each(link, &jobs->running)
        {
            load += list_entry(link, struct running, link)->data_loop == i;
        }
        if (load < best_load) {
            best = i;
            best_load = load;
        }
    }
    return best;
}

static unsigned loop_index(struct jobs *jobs, const struct loop *loop)
{
    unsigned i = 0;

    while (control_data_loop(jobs->control, i) != loop) {
        i++;
    }
    return i;
}

void jobs_note_unclean(struct jobs *jobs, const char *volume_id)
{
    static char yes;

    CHECK(map_put(&jobs->unclean, volume_id, &yes) == 0);
}

/* Only a target is fenced: it is ours to write, and Unsynchronized (turn_begin()), so that nobody counts on what is in it. */
static int copy_opener(struct jobs *jobs, const struct copy_row *copy, bool target,
                       struct block_opener **ret_opener, struct loop **ret_loop,
                       struct volume_row *ret_volume, struct error *error)
{
    struct db *db = control_db(jobs->control);
    const char *volume_id = target ? copy->target_id : copy->source_id;
    struct network_session session = {
        .isid = network_isid(copy->head.id, target ? 't' : 's'),
        .fence = target,
        .fence_open = target && map_get(&jobs->unclean, volume_id) != NULL,
    };
    struct sync_row sync;
    int r = table_get(db, &sync_table, copy->sync_id, &sync);

    if (r == 0) {
        memcpy(session.pipe_id, sync.pipe_id, sizeof(session.pipe_id));
    }
    bool related = r == 0;
    if (r == 0 || r == -ENOENT) {
        r = table_get(db, &volume_table, volume_id, ret_volume);
    }
    if (r == 0 && related) {
        remote_alias_format(session.alias, &sync, ret_volume);
    }
    if (r == -ENOENT) {
        return error_set(error, ERR_COPY_FAILED, "The record of /volumes/%s is gone.", volume_id);
    }
    if (r < 0) {
        return error_set(error, ERR_STORE_FAILED, "The record of /volumes/%s cannot be read (%s).",
                         volume_id, strerror(-r));
    }
    if (ret_volume->kind == VOLUME_HOSTED) {
        struct layer_row oldest;
        int filling = target ? copy_fills(db, copy, &oldest) : 0;

        if (filling < 0) {
            return error_set(error, ERR_STORE_FAILED,
                             "The records of /volumes/%s cannot be read (%s).", volume_id,
                             strerror(-filling));
        }
        *ret_opener = filling ? hosted_fill_opener(jobs->control, volume_id, oldest.bottom_bytes,
                                                   ret_loop)
                              : hosted_opener(jobs->control, volume_id, ret_loop);
        return *ret_opener != NULL
                   ? 0
                   : error_set(error, ERR_COPY_FAILED, "/volumes/%s cannot be used: %.200s.",
                               volume_id,
                               ret_volume->problem[0] != '\0' ? ret_volume->problem
                                                              : "it is not open");
    }
    return network_opener(control_network(jobs->control), db, ret_volume, &session, ret_opener,
                          error);
}

static void copy_start_failed(struct jobs *jobs, const struct copy_row *copy,
                              const struct error *error)
{
    struct checkpoint_event event = {.event.error = *error};

    memcpy(event.event.copy_id, copy->head.id, ID_SIZE);
    memcpy(event.event.sync_id, copy->sync_id, ID_SIZE);
    event.event.progress.phase = COPY_BROKEN;
    event.event.progress.bytes_total = copy->bytes_total;
    event.event.progress.checkpoint_bytes = copy->checkpoint_bytes;
    event.event.progress.verifying = copy->verifying;
    control_event_in_order(jobs->control, copy->head.id, copy_ended_event, &event, sizeof(event));
}

static void start_again_later(struct control *control, void *arg)
{
    struct jobs *jobs = control_jobs(control);

    (void)arg;
    if (!jobs->stopping && !loop_timer_pending(&jobs->start_timer)) {
        loop_timer_start(&jobs->start_timer, START_AGAIN_MS * MS_NS);
    }
}

/* It takes its place in the queue again. */
static int copy_not_started_event(struct call *call)
{
    const char *copy_id = call->step_state;
    struct copy_row copy;
    int r = table_get(call->db, &copy_table, copy_id, &copy);

    if (r == 0 && copy.state == COPY_ROW_RUNNING &&
        running_find(control_jobs(call->control), copy_id) == NULL) {
        copy.state = COPY_ROW_QUEUED;
        r = table_update(call->db, &copy_table, &copy);
        control_effect(call->control, start_again_later, NULL, 0);
    }
    return event_result(call, r);
}

/* The records could not be read just now: that says nothing about the copy. */
static void start_delayed(struct jobs *jobs, const char *copy_id, const char *why)
{
    char id[ID_SIZE];

    snprintf(id, sizeof(id), "%s", copy_id);
    log_warning("copy[%s] cannot be started yet: %s", id, why);
    control_event_in_order(jobs->control, id, copy_not_started_event, id, sizeof(id));
}

static void start_failed(struct jobs *jobs, const struct copy_row *copy, const struct error *error)
{
    if (error->code == ERR_STORE_FAILED) {
        start_delayed(jobs, copy->head.id, error->detail);
    } else {
        copy_start_failed(jobs, copy, error);
    }
}

/* It runs now, has failed for good, or is queued again (an event is on the way). */
static void running_start(struct jobs *jobs, const struct copy_row *copy, const struct job_row *job)
{
    const struct control_options *options = control_options(jobs->control);
    struct copy_spec spec = {
        .bytes_total = copy->bytes_total,
        .checkpoint_bytes = copy->checkpoint_bytes,
        .verifying = copy->verifying,
        .verify = copy->verify,
        .priority = job->copy_priority,
        .bandwidth_limit = job->bandwidth_limit,
        .give_up_ns = options->copy_give_up_ms * MS_NS,
        .checkpoint_ns = CHECKPOINT_MS * MS_NS,
    };
    struct volume_row source;
    struct volume_row target;
    struct loop *loop = NULL;
    struct error error = {0};

    if (copy_opener(jobs, copy, false, &spec.source, &loop, &source, &error) < 0) {
        start_failed(jobs, copy, &error);
        return;
    }
    if (copy_opener(jobs, copy, true, &spec.target, &loop, &target, &error) < 0) {
        spec.source->ops->free(spec.source);
        start_failed(jobs, copy, &error);
        return;
    }
    snprintf(spec.name, sizeof(spec.name), "%s %.12s>%.12s", copy->head.id, copy->source_id,
             copy->target_id);
    struct running *running = calloc(1, sizeof(*running));

    CHECK(running != NULL);
    running->jobs = jobs;
    running->before.bytes_read = copy->bytes_read;
    running->before.bytes_written = copy->bytes_written;
    running->before.bytes_zeroed = copy->bytes_zeroed;
    running->before.bytes_skipped = copy->bytes_skipped;
    running->before.attempts = copy->attempts;
    memcpy(running->copy_id, copy->head.id, ID_SIZE);
    memcpy(running->sync_id, copy->sync_id, ID_SIZE);
    memcpy(running->source_id, copy->source_id, ID_SIZE);
    memcpy(running->target_id, copy->target_id, ID_SIZE);
    /* A hosted volume is nearest on its own loop. */
    running->data_loop = loop != NULL ? loop_index(jobs, loop) : least_loaded_loop(jobs);
    running->phase = COPY_QUEUED;
    list_push_back(&jobs->running, &running->link);
    jobs->n_running++;
    running->copy = copy_start(control_loop(jobs->control),
                               control_data_loop(jobs->control, running->data_loop), &spec,
                               &running_events, running);
    running->priority = spec.priority;
    running->bandwidth_limit = spec.bandwidth_limit;
    jobs_share_limit(jobs);
}

/* A copy that rests or waits for its array takes no turn from the others. */
static unsigned turns_taken(const struct jobs *jobs)
{
    unsigned n = 0;

    list_for_each(link, &jobs->running)
    {
        const struct running *running = list_entry(link, struct running, link);

        n += running->phase != COPY_SUSPENDED && running->phase != COPY_RETRY;
    }
    return n;
}

static void running_start_effect(struct control *control, void *arg)
{
    struct jobs *jobs = control_jobs(control);
    struct copy_row copy;
    struct job_row job;

    if (jobs->stopping || running_find(jobs, arg) != NULL) {
        return; /* a stop: the row says that it is to go on at the next start */
    }
    int r = table_get(control_db(control), &copy_table, arg, &copy);

    if (r == 0 && copy.state == COPY_ROW_RUNNING) {
        r = table_get(control_db(control), &job_table, copy.job_id, &job);
        if (r == 0) {
            running_start(jobs, &copy, &job);
        }
    }
    if (r < 0 && r != -ENOENT) {
        start_delayed(jobs, arg, strerror(-r));
    }
}

struct turn_walk {
    struct jobs *jobs;
    struct call *call;
    unsigned room;
    struct copy_row next[COPIES_AT_ONCE_MAX];
    unsigned n;
};

/* A hosted volume that was just made, or at start: jobs_kick() follows when it is open, or has its problem. */
static int volume_is_awaited(struct call *call, const char *volume_id)
{
    struct volume_row volume;
    struct loop *loop;
    int r = table_get(call->db, &volume_table, volume_id, &volume);

    if (r < 0) {
        return r == -ENOENT ? 0 : r;
    }
    return volume.kind == VOLUME_HOSTED && volume.problem[0] == '\0' &&
           array_volume_device(hosted_array(control_hosted(call->control)), volume_id, &loop) ==
               NULL;
}

static int turn_row(void *arg, const void *row)
{
    struct turn_walk *walk = arg;
    const struct copy_row *copy = row;
    struct job_row job;

    if (running_conflict(walk->jobs, copy)) {
        return 0;
    }
    int r = table_get(walk->call->db, &job_table, copy->job_id, &job);

    if (r < 0 || job.suspend_wanted || job.end_wanted != 0) {
        return r == -ENOENT || r >= 0 ? 0 : r;
    }
    for (unsigned i = 0; i < walk->n; i++) {
        if (copies_conflict(&walk->next[i], copy)) {
            return 0;
        }
    }
    r = volume_is_awaited(walk->call, copy->source_id);
    if (r == 0) {
        r = volume_is_awaited(walk->call, copy->target_id);
    }
    if (r != 0) {
        return r < 0 ? r : 0;
    }
    walk->next[walk->n++] = *copy;
    return walk->n >= walk->room || walk->n == COPIES_AT_ONCE_MAX ? 1 : 0;
}

/* Recorded as running, and its relationship as Unsynchronized, before anything is read or written: whatever happens then,
 * the records have not promised more than is there. */
static int turn_begin(struct call *call, struct copy_row *copy)
{
    int r = copy_began(call, copy);

    if (r == 0) {
        control_effect(call->control, running_start_effect, copy->head.id, sizeof(copy->head.id));
    }
    return r;
}

static int jobs_kick_event(struct call *call)
{
    struct jobs *jobs = control_jobs(call->control);
    unsigned at_once = control_options(call->control)->copies_at_once;
    unsigned taken = turns_taken(jobs);
    struct turn_walk *walk = arena_alloc(&call->arena, sizeof(*walk));
    int r = 0;

    jobs->kicked = false;
    if (jobs->stopping || taken >= at_once) {
        return 0;
    }
    walk->jobs = jobs;
    walk->call = call;
    walk->room = at_once - taken;
    for (uint32_t urgency = 4; urgency >= 1 && r == 0; urgency--) {
        struct condition where[] = {WHERE_NUM("state", COPY_ROW_QUEUED),
                                    WHERE_NUM("urgency", urgency), WHERE_END};

        r = table_each(call->db, &copy_table, where, 0, 0, turn_row, walk);
    }
    r = r > 0 ? 0 : r;
    for (unsigned i = 0; i < walk->n && r == 0; i++) {
        r = turn_begin(call, &walk->next[i]);
    }
    return event_result(call, r);
}

void jobs_kick(struct jobs *jobs)
{
    if (!jobs->kicked && !jobs->stopping) {
        jobs->kicked = true;
        control_event(jobs->control, jobs_kick_event, NULL, 0);
    }
}

/* The limit of the service is for all copies together: each gets an equal share, or less if its job wants less. */
static void jobs_share_limit(struct jobs *jobs)
{
    uint64_t all = control_options(jobs->control)->copy_bandwidth_limit;
    uint64_t share = jobs->n_running == 0 ? all : all / jobs->n_running;

    list_for_each(link, &jobs->running)
    {
        struct running *running = list_entry(link, struct running, link);
        uint64_t limit = running->bandwidth_limit;

        if (all != 0 && (limit == 0 || limit > share)) {
            limit = share == 0 ? 1 : share;
        }
        copy_set_limits(running->copy, running->priority, limit);
    }
}

/* ---- what operations do to a copy ---- */

int sync_running_copy(struct db *db, const char *sync_id, struct copy_row *ret_copy)
{
    for (uint32_t state = COPY_ROW_QUEUED; state <= COPY_ROW_SUSPENDED; state++) {
        struct condition where[] = {WHERE_TEXT("sync_id", sync_id), WHERE_NUM("state", state),
                                    WHERE_END};
        int r = table_find(db, &copy_table, where, ret_copy);

        if (r != -ENOENT) {
            return r;
        }
    }
    return -ENOENT;
}

void copy_suspend_effect(struct control *control, void *arg)
{
    struct running *running = running_find(control_jobs(control), arg);

    if (running != NULL) {
        copy_suspend(running->copy);
    }
}

static int copy_busy(struct call *call, const struct copy_row *copy)
{
    char path[PATH_SIZE];

    snprintf(path, sizeof(path), "/jobs/%s", copy->job_id);
    return call_fail_blocked(call, ERR_IN_USE, path,
                             "Another operation is stopping this copy now; ask again.");
}

void copy_resume_effect(struct control *control, void *arg)
{
    struct running *running = running_find(control_jobs(control), arg);

    if (running != NULL) {
        if (running->suspender != NULL) {
            struct call *call = running->suspender;

            running->suspender = NULL; /* overtaken: it finds that the copy runs */
            call_resume(call, running->suspender_step);
        }
        copy_resume(running->copy);
    }
    jobs_kick(control_jobs(control));
}

int sync_copy_suspend(struct call *call, struct copy_row *copy, method_fn step)
{
    struct running *running = running_find(control_jobs(call->control), copy->head.id);

    if (running == NULL || copy->state == COPY_ROW_SUSPENDED) {
        /* Nothing moves, or its job is suspended and it rests already. */
        copy->state = COPY_ROW_SUSPENDED;
        int r = table_update(call->db, &copy_table, copy);

        return r < 0 ? call_fail_store(call, r) : 0;
    }
    if (running->stopping || running->suspender != NULL) {
        return copy_busy(call, copy);
    }
    running->suspender = call;
    running->suspender_step = step;
    copy_suspend(running->copy);
    return CALL_PENDING;
}

int sync_copy_resume(struct call *call, struct copy_row *copy)
{
    int r = 0;

    if (running_find(control_jobs(call->control), copy->head.id) == NULL) {
        copy->state = COPY_ROW_QUEUED;
        r = table_update(call->db, &copy_table, copy);
    }
    control_effect(call->control, copy_resume_effect, copy->head.id, sizeof(copy->head.id));
    return r < 0 ? call_fail_store(call, r) : 0;
}

int sync_copy_stop(struct call *call, const char *sync_id, method_fn step)
{
    struct copy_row copy;
    int r = sync_running_copy(call->db, sync_id, &copy);

    if (r == -ENOENT) {
        return 0;
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    struct running *running = running_find(control_jobs(call->control), copy.head.id);

    if (running == NULL) {
        r = copy_drop_queued(call, &copy);
        return r < 0 ? r : job_review(call, copy.job_id);
    }
    if (running->stopping) {
        return copy_busy(call, &copy);
    }
    running->stopping = true;
    running->stopper = call;
    running->stopper_step = step;
    copy_cancel(running->copy);
    return CALL_PENDING;
}

void jobs_set_limits(struct jobs *jobs, const char *sync_id, uint32_t priority,
                     uint64_t bandwidth_limit)
{
    list_for_each(link, &jobs->running)
    {
        struct running *running = list_entry(link, struct running, link);

        if (strcmp(running->sync_id, sync_id) == 0) {
            running->priority = priority;
            running->bandwidth_limit = bandwidth_limit;
        }
    }
    jobs_share_limit(jobs);
}

/* ---- beginning and end ---- */

static void jobs_stop_timeout(void *arg)
{
    struct jobs *jobs = arg;
    loop_fn done = jobs->stop_done;

    log_warning("jobs: %u copies did not come to an end in time; they go on from their last checkpoint",
                jobs->n_running);
    jobs->stop_timed_out = true;
    jobs->stop_done = NULL;
    /* The calls that wait for them are answered now, and belong to their makers again. */
    list_for_each(link, &jobs->running)
    {
        struct running *running = list_entry(link, struct running, link);

        running->stopper = NULL;
        running->suspender = NULL;
    }
    if (done != NULL) {
        done(jobs->stop_arg);
    }
}

static void jobs_start_again(void *arg)
{
    jobs_kick(arg);
}

int jobs_new(struct control *control, struct jobs **ret_jobs, struct error *error)
{
    struct jobs *jobs = calloc(1, sizeof(*jobs));

    if (jobs == NULL) {
        return error_set(error, ERR_NO_MEMORY, "Out of memory.");
    }
    jobs->control = control;
    list_init(&jobs->running);
    map_init(&jobs->unclean);
    loop_timer_init(&jobs->stop_timer, control_loop(control), jobs_stop_timeout, jobs);
    loop_timer_init(&jobs->start_timer, control_loop(control), jobs_start_again, jobs);
    *ret_jobs = jobs;
    return 0;
}

void jobs_begin(struct jobs *jobs)
{
    control_event(jobs->control, jobs_recover_event, NULL, 0);
}

void jobs_free(struct jobs *jobs)
{
    if (jobs == NULL) {
        return;
    }
    loop_timer_stop(&jobs->stop_timer);
    loop_timer_stop(&jobs->start_timer);
    map_fini(&jobs->unclean);
    free(jobs);
}

bool jobs_stop_timed_out(const struct jobs *jobs)
{
    return jobs->stop_timed_out;
}

unsigned jobs_running(const struct jobs *jobs)
{
    return jobs->n_running;
}

void jobs_stop(struct jobs *jobs, loop_fn done, void *arg)
{
    jobs->stopping = true;
    loop_timer_stop(&jobs->start_timer);
    jobs->stop_done = done;
    jobs->stop_arg = arg;
    list_for_each(link, &jobs->running)
    {
        copy_shutdown(list_entry(link, struct running, link)->copy);
    }
    loop_timer_start(&jobs->stop_timer, STOP_TIMEOUT_MS * MS_NS);
    jobs_stop_check(jobs);
}
