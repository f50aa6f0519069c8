// SPDX-License-Identifier: Apache-2.0
/*
 * The records of a job change only in transactions: of the call that makes it, of the events that its copies send, of
 * the calls that steer it. What runs is a list of struct running on control, started and stopped by effects.
 *
 *     copy row:  QUEUED ──(kick)──▶ RUNNING ◀──▶ SUSPENDED
 *                   ▲                  │  └──▶ DONE | BROKEN
 *                   └── restart ◀──────┴─────▶ CANCELLED
 *
 * Invariants: a row that is RUNNING or SUSPENDED when the service starts becomes QUEUED and goes on from its checkpoint;
 * a volume whose copy is being closed is not opened by another one before that has ended (running_conflict()).
 */
#include "service/jobs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/list.h"
#include "base/log.h"
#include "service/classes.h"
#include "service/handlers.h"
#include "service/live.h"
#include "service/network.h"
#include "service/replica_states.h"
#include "service/volumes.h"

enum {
    STOP_TIMEOUT_MS = 3000,
    CHECKPOINT_MS = 1000,
};
/* Ended jobs are kept a week: a client that asks late still learns what became of its request. */
static const uint64_t job_purge_ms = 7ull * 24 * 3600 * 1000;

struct running {
    struct list link;
    struct jobs *jobs;
    struct copy *copy;
    char copy_id[ID_SIZE];
    char sync_id[ID_SIZE];
    char source_id[ID_SIZE];
    char target_id[ID_SIZE];
    uint32_t priority;        /* as its job wants it */
    uint64_t bandwidth_limit; /* as its job wants it, 0 none */
    unsigned data_loop;
    enum copy_phase phase;
    bool began;     /* the first data has been asked for: recorded as Unsynchronized */
    bool stopping;  /* cancelled by an operation: what its end means is the waiting call's business */
    struct call *stopper;
    method_fn stopper_step;
    struct call *suspender; /* waits for it to rest */
    method_fn suspender_step;
    struct copy_progress published; /* the last numbers of this run */
    struct copy_progress counted; /* what the row has been told of this run's counters */
    struct copy_progress before;  /* the sums of earlier runs */
};

struct jobs {
    struct control *control;
    struct list running;
    unsigned n_running;
    bool stopping;
    loop_fn stop_done;
    void *stop_arg;
    struct loop_timer stop_timer;
};

bool job_state_ended(uint32_t state)
{
    return state >= JOB_COMPLETED && state <= JOB_EXCEPTION;
}

bool copy_row_active(uint32_t state)
{
    return state == COPY_ROW_QUEUED || state == COPY_ROW_RUNNING || state == COPY_ROW_SUSPENDED;
}

static struct running *running_find(struct jobs *jobs, const char *copy_id)
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

/* ---- making a job ---- */

int job_create(struct call *call, const struct job_new *wanted, struct job_row *ret_job)
{
    uint64_t now = control_now_ms(call->control);
    struct job_row job = {
        .state = JOB_NEW,
        .time_submitted_ms = now,
        .last_change_ms = now,
        .time_before_removal_ms = control_options(call->control)->job_keep_ms,
        .copy_priority = wanted->copy_priority,
        .bandwidth_limit = wanted->bandwidth_limit,
        .wait_for_copy_state = wanted->wait_for_copy_state,
        .operation = wanted->operation,
        .continue_on_error = wanted->continue_on_error,
    };

    snprintf(job.name, sizeof(job.name), "%s", wanted->name);
    snprintf(job.owner, sizeof(job.owner), "%s", wanted->owner);
    snprintf(job.element_name, sizeof(job.element_name), "%s", wanted->element_name);
    int r = table_insert(call->db, &job_table, &job);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    *ret_job = job;
    return 0;
}

int job_add_copy(struct call *call, const struct job_row *job, uint32_t position,
                 struct sync_row *sync, const struct volume_row *from, const struct volume_row *to)
{
    struct copy_row copy = {
        .position = position,
        .state = COPY_ROW_QUEUED,
        .bytes_total = from->size_bytes < to->size_bytes ? from->size_bytes : to->size_bytes,
        .verify = sync->verify,
    };

    strcpy(copy.job_id, job->head.id);
    strcpy(copy.sync_id, sync->head.id);
    strcpy(copy.source_id, from->head.id);
    strcpy(copy.target_id, to->head.id);
    strcpy(sync->job_id, job->head.id);
    int r = table_insert(call->db, &copy_table, &copy);

    return r < 0 ? call_fail_store(call, r) : 0;
}

int job_add_element(struct call *call, const struct job_row *job, const char *collection,
                    const char *id, uint32_t effect)
{
    struct job_element_row element = {.effect = effect};

    strcpy(element.job_id, job->head.id);
    snprintf(element.element, sizeof(element.element), "/%s/%s", collection, id);
    int r = table_insert(call->db, &job_element_table, &element);

    return r < 0 ? call_fail_store(call, r) : 0;
}

static void jobs_kick(struct jobs *jobs);
static void jobs_share_limit(struct jobs *jobs);

static void jobs_kick_effect(struct control *control, void *arg)
{
    (void)arg;
    jobs_kick(control_jobs(control));
}

int job_started(struct call *call, const struct job_row *job)
{
    if (call->render_outs != NULL) {
        struct strbuf text;

        strbuf_init(&text);
        call->render_outs(call, &text);
        int r = strbuf_error(&text) < 0 ? -ENOMEM
                                        : job_set_out(call->db, job->head.id, strbuf_str(&text));

        strbuf_fini(&text);
        if (r < 0) {
            return call_fail_store(call, r);
        }
    }
    outs_path(call->outs, "Job", "/jobs/%s", job->head.id);
    snprintf(call->location, sizeof(call->location), "/jobs/%s", job->head.id);
    call->return_value = 4096;
    control_effect(call->control, jobs_kick_effect, NULL, 0);
    return 0;
}

/* ---- what a job says of itself ---- */

static void job_waiters_effect(struct control *control, void *arg)
{
    control_job_ended(control, arg);
}

static int job_end(struct call *call, struct job_row *job, uint32_t state, uint32_t status,
                   enum error_code code, const char *text)
{
    uint64_t now = control_now_ms(call->control);

    log_info("job[%s] %s: %s", job->head.id, job->name, enum_text(&map_job_state, state));
    job->state = state;
    job->operational_status_2 = status;
    job->end_ms = now;
    job->last_change_ms = now;
    if (job->start_ms == 0) {
        job->start_ms = now;
    }
    if (state == JOB_COMPLETED) {
        job->percent_complete = 100;
    }
    if (code != ERR_NONE) {
        const struct error_info *info = error_info(code);

        job->error_code = info->return_value;
        snprintf(job->error_word, sizeof(job->error_word), "%s", info->word);
        snprintf(job->error_text, sizeof(job->error_text), "%s", text);
    }
    int r = table_update(call->db, &job_table, job);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    control_effect(call->control, job_waiters_effect, job->head.id, sizeof(job->head.id));
    return 0;
}

static enum error_code error_code_of_word(const char *word)
{
    for (int code = 0; code < ERR_COUNT; code++) {
        if (strcmp(error_info(code)->word, word) == 0) {
            return code;
        }
    }
    return ERR_INTERNAL;
}

/* A queued copy is dropped: its relationship rests as Aborted. */
static int copy_drop_queued(struct call *call, struct copy_row *copy)
{
    struct sync_row sync;

    copy->state = COPY_ROW_CANCELLED;
    copy->end_ms = control_now_ms(call->control);
    int r = table_update(call->db, &copy_table, copy);

    if (r == 0 && (r = table_get(call->db, &sync_table, copy->sync_id, &sync)) == 0) {
        sync.copy_state = STATE_ABORTED;
        sync.progress_status = PROGRESS_COMPLETED;
        sync.requested_copy_state = STATE_NOT_APPLICABLE;
        sync.job_id[0] = '\0';
        r = table_update(call->db, &sync_table, &sync);
    } else if (r == -ENOENT) {
        r = 0;
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

static void copy_cancel_effect(struct control *control, void *arg)
{
    struct running *running = running_find(control_jobs(control), arg);

    if (running != NULL) {
        copy_cancel(running->copy);
    }
}

/* Stops all that the job still has under way. */
static int job_cancel_copies(struct call *call, struct copy_row *copies, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct running *running = running_find(control_jobs(call->control), copies[i].head.id);

        if (running != NULL) {
            control_effect(call->control, copy_cancel_effect, copies[i].head.id,
                           sizeof(copies[i].head.id));
        } else if (copy_row_active(copies[i].state)) {
            int r = copy_drop_queued(call, &copies[i]);

            if (r < 0) {
                return r;
            }
        }
    }
    return 0;
}

/* Has the copy's relationship come as far as the job was to wait for? */
static int copy_reached(struct call *call, const struct job_row *job, const struct copy_row *copy,
                        bool *ret_reached)
{
    struct sync_row sync;

    *ret_reached = copy->state == COPY_ROW_DONE;
    /* What has not begun rests in the state of before, which says nothing about this job. */
    if (*ret_reached || job->wait_for_copy_state == 0 || copy->state == COPY_ROW_QUEUED) {
        return 0;
    }
    int r = table_get(call->db, &sync_table, copy->sync_id, &sync);

    if (r == 0) {
        *ret_reached = replica_wait_reached(job->wait_for_copy_state, sync.copy_state);
    }
    return r == 0 || r == -ENOENT ? 0 : call_fail_store(call, r);
}

struct job_sum {
    size_t active;
    size_t suspended;
    size_t running;
    size_t failed;
    size_t reached;
    const struct copy_row *first_failed;
};

static int job_sum(struct call *call, const struct job_row *job, const struct copy_row *copies,
                   size_t n, struct job_sum *ret_sum)
{
    struct job_sum sum = {0};

    for (size_t i = 0; i < n; i++) {
        bool reached;
        int r = copy_reached(call, job, &copies[i], &reached);

        if (r < 0) {
            return r;
        }
        sum.reached += reached;
        sum.active += copy_row_active(copies[i].state);
        sum.suspended += copies[i].state == COPY_ROW_SUSPENDED;
        sum.running += copies[i].state == COPY_ROW_RUNNING;
        if (copies[i].state == COPY_ROW_BROKEN || copies[i].state == COPY_ROW_CANCELLED) {
            sum.failed++;
            if (sum.first_failed == NULL || (sum.first_failed->state == COPY_ROW_CANCELLED &&
                                             copies[i].state == COPY_ROW_BROKEN)) {
                sum.first_failed = &copies[i];
            }
        }
    }
    *ret_sum = sum;
    return 0;
}

static int job_end_failed(struct call *call, struct job_row *job, const struct copy_row *copy,
                          bool degraded)
{
    char text[sizeof(job->error_text)];
    enum error_code code = ERR_TERMINATED;

    if (copy->state == COPY_ROW_BROKEN) {
        /* "word: text" as copy_ended_event() wrote it */
        const char *colon = strchr(copy->last_error, ':');
        char word[48] = "";

        if (colon != NULL && (size_t)(colon - copy->last_error) < sizeof(word)) {
            memcpy(word, copy->last_error, (size_t)(colon - copy->last_error));
        }
        code = error_code_of_word(word);
        snprintf(text, sizeof(text), "%s", copy->last_error);
    } else {
        snprintf(text, sizeof(text), "The copy to /volumes/%s was stopped before its end.",
                 copy->target_id);
    }
    return job_end(call, job, degraded ? JOB_COMPLETED : JOB_EXCEPTION, degraded ? 3 : 6, code,
                   text);
}

int job_review(struct call *call, const char *job_id)
{
    struct job_row job;
    struct copy_row *copies = NULL;
    size_t n = 0;
    struct job_sum sum;
    struct condition where[] = {WHERE_TEXT("job_id", job_id), WHERE_END};
    int r = table_get(call->db, &job_table, job_id, &job);

    if (r == -ENOENT || (r == 0 && job_state_ended(job.state))) {
        return 0;
    }
    if (r == 0) {
        r = table_load(call->db, &copy_table, where, (void **)&copies, &n);
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    r = job_sum(call, &job, copies, n, &sum);
    if (r < 0) {
        goto out;
    }
    if (job.end_wanted != 0) {
        if (sum.active == 0) {
            r = job_end(call, &job, job.end_wanted, 6, ERR_TERMINATED,
                        "The job was ended by RequestStateChange.");
        }
        goto out;
    }
    if (sum.failed > 0 && !job.continue_on_error && sum.active > 0) {
        /* Stop: what is not through is not begun or ends now; this is looked at again then. */
        r = job_cancel_copies(call, copies, n);
        if (r == 0) {
            r = job_sum(call, &job, copies, n, &sum);
        }
        if (r < 0) {
            goto out;
        }
    }
    if (sum.reached == n) {
        r = job_end(call, &job, JOB_COMPLETED, 2, ERR_NONE, "");
    } else if (sum.failed > 0 && sum.failed + sum.reached == n) {
        r = job_end_failed(call, &job, sum.first_failed, job.continue_on_error && sum.reached > 0);
    } else {
        uint32_t state = job.state;

        if (job.suspend_wanted) {
            if (sum.running == 0) {
                state = JOB_SUSPENDED;
            }
        } else if (sum.suspended > 0 && sum.running == 0) {
            state = JOB_SUSPENDED;
        } else if (sum.running > 0 || state == JOB_SUSPENDED) {
            state = JOB_RUNNING;
        }
        if (state != job.state) {
            job.state = state;
            job.last_change_ms = control_now_ms(call->control);
            if (job.start_ms == 0 && state == JOB_RUNNING) {
                job.start_ms = job.last_change_ms;
            }
            r = table_update(call->db, &job_table, &job);
            if (r < 0) {
                r = call_fail_store(call, r);
            }
        }
    }
out:
    free(copies);
    return r;
}

/* ---- events of copies ---- */

struct copy_event {
    char copy_id[ID_SIZE];
    char sync_id[ID_SIZE];
    struct copy_progress progress;
    struct error error;
};

static void copy_row_progress(struct copy_row *row, const struct copy_progress *progress)
{
    row->checkpoint_bytes = progress->checkpoint_bytes;
    row->verifying = progress->verifying;
}

static int event_rows(struct call *call, const struct copy_event *event, struct copy_row *ret_copy,
                      struct sync_row *ret_sync, bool *ret_have_sync)
{
    int r = table_get(call->db, &copy_table, event->copy_id, ret_copy);

    if (r < 0) {
        return r;
    }
    r = table_get(call->db, &sync_table, event->sync_id, ret_sync);
    *ret_have_sync = r == 0;
    return r == -ENOENT ? 0 : r;
}

static int event_result(struct call *call, int r)
{
    if (r == 0 || r == -ENOENT) {
        return 0;
    }
    return call->error.code != ERR_NONE ? r : call_fail_store(call, r);
}

/* The counters of a row are the sums over all runs; a run's own begin at zero. */
static void copy_row_add(struct copy_row *row, const struct copy_progress *from,
                         const struct copy_progress *to)
{
    row->bytes_read += to->bytes_read - from->bytes_read;
    row->bytes_written += to->bytes_written - from->bytes_written;
    row->bytes_zeroed += to->bytes_zeroed - from->bytes_zeroed;
    row->bytes_skipped += to->bytes_skipped - from->bytes_skipped;
    row->attempts += to->attempts - from->attempts;
    if (to->last_error[0] != '\0' && to->last_error_ms >= row->last_error_ms) {
        snprintf(row->last_error, sizeof(row->last_error), "%s", to->last_error);
        row->last_error_ms = to->last_error_ms;
    }
}

/* From the target back to the source? */
static bool restoring(const struct sync_row *sync, const struct copy_row *copy)
{
    return strcmp(copy->target_id, sync->source_id) == 0;
}

static uint32_t progress_of_operation(uint32_t operation)
{
    switch (operation) {
    case OPERATION_RESYNC:
        return PROGRESS_RESYNCING;
    default:
        return PROGRESS_SYNCHRONIZING;
    }
}

static void suspender_effect(struct control *control, void *arg)
{
    struct running *running = running_find(control_jobs(control), arg);

    if (running != NULL && running->suspender != NULL) {
        struct call *call = running->suspender;

        running->suspender = NULL;
        call_resume(call, running->suspender_step);
    }
}

/* Running, suspended, or running again. */
static int copy_phase_event(struct call *call)
{
    const struct copy_event *event = call->step_state;
    bool suspended = event->progress.phase == COPY_SUSPENDED;
    struct copy_row copy;
    struct sync_row sync;
    struct job_row job;
    bool have_sync;
    uint64_t now = control_now_ms(call->control);
    int r = event_rows(call, event, &copy, &sync, &have_sync);

    if (r < 0 || !copy_row_active(copy.state)) {
        return event_result(call, r);
    }
    if (suspended) {
        control_effect(call->control, suspender_effect, event->copy_id, sizeof(event->copy_id));
    }
    copy.state = suspended ? COPY_ROW_SUSPENDED : COPY_ROW_RUNNING;
    copy_row_progress(&copy, &event->progress);
    r = table_update(call->db, &copy_table, &copy);
    if (r == 0 && have_sync) {
        r = table_get(call->db, &job_table, copy.job_id, &job);
    }
    if (r == 0 && have_sync) {
        bool job_suspends = job.suspend_wanted;

        if (suspended) {
            /* A job that is suspended leaves the relationship what it is; Suspend of the relationship itself does not. */
            sync.copy_state = job_suspends ? sync.copy_state : STATE_SUSPENDED;
            sync.progress_status = PROGRESS_DORMANT;
            sync.when_suspended_ms = job_suspends ? sync.when_suspended_ms : now;
        } else {
            if (sync.copy_state != STATE_UNSYNCHRONIZED) {
                sync.when_activated_ms = now;
            }
            sync.copy_state = STATE_UNSYNCHRONIZED;
            sync.progress_status = restoring(&sync, &copy) ? PROGRESS_RESTORING
                                                           : progress_of_operation(job.operation);
            sync.source_incomplete = sync.source_incomplete || restoring(&sync, &copy);
            if (sync.requested_copy_state == STATE_UNSYNCHRONIZED) {
                sync.requested_copy_state = STATE_NOT_APPLICABLE; /* reached */
            }
        }
        r = table_update(call->db, &sync_table, &sync);
    }
    if (r == 0) {
        r = job_review(call, copy.job_id);
    }
    return event_result(call, r);
}

struct checkpoint_event {
    struct copy_event event;
    struct copy_progress counted; /* what the row knows already of this run */
};

static int copy_checkpoint_event(struct call *call)
{
    const struct checkpoint_event *checkpoint = call->step_state;
    struct copy_row copy;
    int r = table_get(call->db, &copy_table, checkpoint->event.copy_id, &copy);

    if (r == 0 && copy_row_active(copy.state)) {
        copy_row_progress(&copy, &checkpoint->event.progress);
        copy_row_add(&copy, &checkpoint->counted, &checkpoint->event.progress);
        r = table_update(call->db, &copy_table, &copy);
    }
    return event_result(call, r);
}

static void running_gone_effect(struct control *control, void *arg);

int sync_remove(struct call *call, const struct sync_row *sync)
{
    int r = table_delete(call->db, &sync_table, sync->head.id);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    r = volume_forget_if_unused(call, sync->source_id);
    return r < 0 ? r : volume_forget_if_unused(call, sync->target_id);
}

static int sync_ended(struct call *call, const struct copy_event *event, struct sync_row *sync)
{
    uint64_t now = control_now_ms(call->control);

    sync->job_id[0] = '\0';
    sync->requested_copy_state = STATE_NOT_APPLICABLE;
    sync->progress_status = PROGRESS_COMPLETED;
    if (event->progress.phase == COPY_DONE) {
        if (sync->temporary) {
            return sync_remove(call, sync);
        }
        /* Whichever way it went, both sides are whole now. */
        sync->source_incomplete = false;
        sync->copy_state = STATE_SYNCHRONIZED;
        sync->percent_synced = 100;
        sync->when_synced_ms = now;
        sync->when_synchronized_ms = now;
    } else if (event->progress.phase == COPY_BROKEN) {
        sync->copy_state = STATE_BROKEN;
        sync->progress_status = PROGRESS_NOT_APPLICABLE;
    } else {
        sync->copy_state = STATE_ABORTED;
    }
    return table_update(call->db, &sync_table, sync);
}

/* A LUN that was found to be another one is not to be used again before somebody has looked (ScsiScan). The copier's
 * text begins with the side. */
static int volume_note_changed(struct call *call, const struct copy_row *copy,
                               const struct error *error)
{
    const char *detail = strncmp(error->detail, "the ", 4) == 0 ? error->detail + 4 : error->detail;
    const char *id = strncmp(detail, "source", 6) == 0   ? copy->source_id
                     : strncmp(detail, "target", 6) == 0 ? copy->target_id
                                                         : NULL;
    struct volume_row volume;

    if (error->code != ERR_LUN_CHANGED || id == NULL) {
        return 0;
    }
    int r = table_get(call->db, &volume_table, id, &volume);

    if (r == 0 && volume.problem[0] == '\0') {
        text_cut(detail, volume.problem, sizeof(volume.problem));
        r = table_update(call->db, &volume_table, &volume);
    }
    return r == -ENOENT ? 0 : r;
}

static int copy_ended_event(struct call *call)
{
    const struct checkpoint_event *ended = call->step_state;
    const struct copy_event *event = &ended->event;
    struct copy_row copy;
    struct sync_row sync;
    bool have_sync;
    int r = event_rows(call, event, &copy, &sync, &have_sync);

    if (r < 0 && r != -ENOENT) {
        return event_result(call, r);
    }
    control_effect(call->control, running_gone_effect, event->copy_id, sizeof(event->copy_id));
    if (r == -ENOENT || !copy_row_active(copy.state)) {
        return 0;
    }
    copy_row_progress(&copy, &event->progress);
    copy_row_add(&copy, &ended->counted, &event->progress);
    copy.end_ms = control_now_ms(call->control);
    switch (event->progress.phase) {
    case COPY_DONE:
        copy.state = COPY_ROW_DONE;
        break;
    case COPY_BROKEN:
        copy.state = COPY_ROW_BROKEN;
        snprintf(copy.last_error, sizeof(copy.last_error), "%s: %.400s",
                 error_info(event->error.code)->word, event->error.detail);
        copy.last_error_ms = copy.end_ms;
        break;
    default:
        copy.state = COPY_ROW_CANCELLED;
        break;
    }
    r = table_update(call->db, &copy_table, &copy);
    if (r == 0 && copy.state == COPY_ROW_BROKEN) {
        r = volume_note_changed(call, &copy, &event->error);
    }
    if (r == 0 && have_sync) {
        r = sync_ended(call, event, &sync);
    }
    if (r == 0) {
        r = job_review(call, copy.job_id);
    }
    return event_result(call, r);
}

/* The service stops: the row keeps its state and its last checkpoint, and goes on at the next start. */
static int copy_shut_down_event(struct call *call)
{
    const struct checkpoint_event *ended = call->step_state;

    control_effect(call->control, running_gone_effect, ended->event.copy_id,
                   sizeof(ended->event.copy_id));
    return copy_checkpoint_event(call);
}

/* A copy that an operation has stopped: the operation's call decides what its end means. */
static int copy_stopped_event(struct call *call)
{
    const struct checkpoint_event *ended = call->step_state;
    struct copy_row copy;
    int r = table_get(call->db, &copy_table, ended->event.copy_id, &copy);

    if (r == 0 && ended->event.progress.phase == COPY_DONE) {
        /* It was quicker: then it has ended as it should, and the operation finds that. */
        r = copy_ended_event(call);
        if (r < 0) {
            return r;
        }
    } else if (r == 0) {
        copy_row_progress(&copy, &ended->event.progress);
        copy_row_add(&copy, &ended->counted, &ended->event.progress);
        copy.state = COPY_ROW_CANCELLED;
        copy.end_ms = control_now_ms(call->control);
        r = table_update(call->db, &copy_table, &copy);
        if (r == 0) {
            struct sync_row sync;

            r = table_get(call->db, &sync_table, copy.sync_id, &sync);
            if (r == 0) {
                r = sync_ended(call, &ended->event, &sync);
            }
        }
        if (r == 0 || r == -ENOENT) {
            r = job_review(call, copy.job_id);
        }
    }
    control_effect(call->control, running_gone_effect, ended->event.copy_id,
                   sizeof(ended->event.copy_id));
    return event_result(call, r);
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
    bool moving = progress->phase == COPY_COPYING || progress->phase == COPY_FLUSHING ||
                  progress->phase == COPY_VERIFYING;

    running_publish(running, progress);
    running->phase = progress->phase;
    if (running->stopping) {
        return;
    }
    if ((progress->phase == COPY_SUSPENDED && !was_suspended) ||
        (progress->phase != COPY_SUSPENDED && was_suspended) || (moving && !running->began)) {
        struct copy_event event;

        running->began = running->began || moving;
        fill_event(running, progress, &event);
        control_event(running->jobs->control, copy_phase_event, &event, sizeof(event));
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
    control_event(running->jobs->control, fn, &event, sizeof(event));
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
static void running_gone_effect(struct control *control, void *arg)
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

/* Does another running copy use one of the volumes in a way that this one must not overlap? */
static bool running_conflict(struct jobs *jobs, const struct copy_row *copy)
{
    list_for_each(link, &jobs->running)
    {
        const struct running *other = list_entry(link, struct running, link);

        if (strcmp(other->copy_id, copy->head.id) == 0 ||
            strcmp(other->target_id, copy->target_id) == 0 ||
            strcmp(other->target_id, copy->source_id) == 0 ||
            strcmp(other->source_id, copy->target_id) == 0) {
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

/* 40 bits that are the same for this copy's side at each start, and for no other: so that a login of a new run ends the
 * session (and the writes under way in it) of an old one. */
static uint64_t copy_isid(const char *copy_id, bool target)
{
    uint64_t hash = 0xcbf29ce484222325ull;

    for (const char *c = copy_id; *c != '\0'; c++) {
        hash = (hash ^ (unsigned char)*c) * 0x100000001b3ull;
    }
    hash = (hash ^ (target ? 't' : 's')) * 0x100000001b3ull;
    hash = (hash ^ (hash >> 40)) & 0xffffffffffull;
    return hash == 0 ? 1 : hash;
}

static int copy_opener(struct jobs *jobs, const char *volume_id, uint64_t isid,
                       struct block_opener **ret_opener, struct volume_row *ret_volume,
                       struct error *error)
{
    struct db *db = control_db(jobs->control);
    int r = table_get(db, &volume_table, volume_id, ret_volume);

    if (r < 0) {
        return error_set(error, ERR_COPY_FAILED, "The record of /volumes/%s is gone.", volume_id);
    }
    return network_opener(control_network(jobs->control), db, ret_volume, isid, ret_opener, error);
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
    control_event(jobs->control, copy_ended_event, &event, sizeof(event));
}

/* True when it runs now, or has failed for good (its event is on the way). */
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
    struct error error = {0};

    if (copy_opener(jobs, copy->source_id, copy_isid(copy->head.id, false), &spec.source, &source,
                    &error) < 0) {
        copy_start_failed(jobs, copy, &error);
        return;
    }
    if (copy_opener(jobs, copy->target_id, copy_isid(copy->head.id, true), &spec.target, &target,
                    &error) < 0) {
        spec.source->ops->free(spec.source);
        copy_start_failed(jobs, copy, &error);
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
    running->data_loop = least_loaded_loop(jobs);
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

static int urgency(const struct job_row *job)
{
    return job->copy_priority == 0 ? 2 : (int)job->copy_priority;
}

/* Starts what waits, most urgent first, oldest first, as far as there is room. */
static void jobs_kick(struct jobs *jobs)
{
    struct db *db = control_db(jobs->control);
    unsigned room = control_options(jobs->control)->copies_at_once;
    struct condition where[] = {WHERE_NUM("state", COPY_ROW_QUEUED), WHERE_END};
    struct copy_row *copies = NULL;
    size_t n = 0;

    if (jobs->stopping || jobs->n_running >= room) {
        return;
    }
    if (table_load(db, &copy_table, where, (void **)&copies, &n) < 0) {
        return;
    }
    for (int level = 4; level >= 1 && jobs->n_running < room; level--) {
        for (size_t i = 0; i < n && jobs->n_running < room; i++) {
            struct job_row job;

            if (copies[i].state == COPY_ROW_QUEUED &&
                table_get(db, &job_table, copies[i].job_id, &job) == 0 && urgency(&job) == level &&
                !job.suspend_wanted && job.end_wanted == 0 &&
                !running_conflict(jobs, &copies[i])) {
                running_start(jobs, &copies[i], &job);
                copies[i].state = COPY_ROW_RUNNING;
            }
        }
    }
    free(copies);
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

static void copy_suspend_effect(struct control *control, void *arg)
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

static void copy_resume_effect(struct control *control, void *arg)
{
    struct running *running = running_find(control_jobs(control), arg);

    if (running != NULL) {
        copy_resume(running->copy);
    }
    jobs_kick(control_jobs(control));
}

int sync_copy_suspend(struct call *call, struct copy_row *copy, method_fn step)
{
    struct running *running = running_find(control_jobs(call->control), copy->head.id);

    if (running == NULL) {
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

/* ---- methods of a job ---- */

static int job_of_call(struct call *call, struct job_row *ret_job)
{
    int r = table_get(call->db, &job_table, call->object_id, ret_job);

    if (r == -ENOENT) {
        return call_fail(call, ERR_NOT_FOUND, "There is no job /jobs/%s.", call->object_id);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

static int job_load_copies(struct call *call, const struct job_row *job, struct copy_row **ret_copies,
                           size_t *ret_n)
{
    struct condition where[] = {WHERE_TEXT("job_id", job->head.id), WHERE_END};
    int r = table_load(call->db, &copy_table, where, (void **)ret_copies, ret_n);

    return r < 0 ? call_fail_store(call, r) : 0;
}

static int job_transition_started(struct call *call, const struct job_row *job)
{
    snprintf(call->location, sizeof(call->location), "/jobs/%s", job->head.id);
    call->return_value = 4096;
    return 0;
}

static int job_suspend(struct call *call, struct job_row *job, struct copy_row *copies, size_t n)
{
    if (job->suspend_wanted) {
        return job->state == JOB_SUSPENDED ? 0 : job_transition_started(call, job);
    }
    job->suspend_wanted = true;
    int r = table_update(call->db, &job_table, job);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    for (size_t i = 0; i < n; i++) {
        control_effect(call->control, copy_suspend_effect, copies[i].head.id,
                       sizeof(copies[i].head.id));
    }
    r = job_review(call, job->head.id);
    if (r < 0) {
        return r;
    }
    r = job_of_call(call, job);
    if (r < 0) {
        return r;
    }
    return job->state == JOB_SUSPENDED ? 0 : job_transition_started(call, job);
}

static int job_resume(struct call *call, struct job_row *job, struct copy_row *copies, size_t n)
{
    if (!job->suspend_wanted) {
        return 0; /* it runs, or waits for its turn */
    }
    job->suspend_wanted = false;
    job->state = job->start_ms == 0 ? JOB_NEW : JOB_RUNNING;
    job->last_change_ms = control_now_ms(call->control);
    int r = table_update(call->db, &job_table, job);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    for (size_t i = 0; i < n; i++) {
        control_effect(call->control, copy_resume_effect, copies[i].head.id,
                       sizeof(copies[i].head.id));
    }
    control_effect(call->control, jobs_kick_effect, NULL, 0);
    return 0;
}

static int job_terminate(struct call *call, struct job_row *job, struct copy_row *copies, size_t n,
                         uint32_t end)
{
    job->end_wanted = end;
    job->state = JOB_SHUTTING_DOWN;
    job->last_change_ms = control_now_ms(call->control);
    int r = table_update(call->db, &job_table, job);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    r = job_cancel_copies(call, copies, n);
    if (r == 0) {
        r = job_review(call, job->head.id);
    }
    if (r == 0) {
        r = job_of_call(call, job);
    }
    if (r < 0) {
        return r;
    }
    return job_state_ended(job->state) ? 0 : job_transition_started(call, job);
}

int method_job_request_state_change(struct call *call)
{
    struct job_row job;
    struct copy_row *copies;
    size_t n;
    uint64_t wanted = args_number(call->args, "RequestedState", 0);
    int r = job_of_call(call, &job);

    if (r < 0) {
        return r;
    }
    if (args_present(call->args, "TimeoutPeriod")) {
        return call_fail_param(call, ERR_JOB_TIMEOUT_PARAM, "TimeoutPeriod",
                               "A timeout for the transition is not supported; leave TimeoutPeriod "
                               "out and wait with GET /jobs/%s?wait=30s.",
                               job.head.id);
    }
    if (wanted == 6) {
        return call_fail_param(call, ERR_NOT_SUPPORTED, "RequestedState",
                               "Service (6) is not supported; there are Start (2), Suspend (3), "
                               "Terminate (4) and Kill (5).");
    }
    if (job_state_ended(job.state) || job.end_wanted != 0) {
        return call_fail(call, ERR_JOB_TRANSITION, "The job is %s; it cannot be changed any more.",
                         enum_text(&map_job_state, job.state));
    }
    r = job_load_copies(call, &job, &copies, &n);
    if (r < 0) {
        return r;
    }
    switch (wanted) {
    case 2:
        r = job_resume(call, &job, copies, n);
        break;
    case 3:
        r = job_suspend(call, &job, copies, n);
        break;
    case 4:
        r = job_terminate(call, &job, copies, n, JOB_TERMINATED);
        break;
    default:
        r = job_terminate(call, &job, copies, n, JOB_KILLED);
        break;
    }
    free(copies);
    return r;
}

int method_job_get_errors(struct call *call)
{
    struct job_row job;
    int r = job_of_call(call, &job);

    if (r < 0) {
        return r;
    }
    outs_array(call->outs, "Errors");
    if (job.error_code != 0) {
        enum error_code code = error_code_of_word(job.error_word);
        struct values *error = values_new(&call->arena, class_Error.params, class_Error.n_params);

        outs_number(error, "ErrorType", code == ERR_REMOTE_UNREACHABLE ? 2 : 4);
        outs_text(error, "MessageID", job.error_word);
        outs_text(error, "Message", job.error_text);
        outs_number(error, "PerceivedSeverity", 5);
        outs_number(error, "CIMStatusCode", 1);
        outs_path(error, "ErrorSource", "/jobs/%s", job.head.id);
        outs_add_instance(call->outs, "Errors", error);
    }
    return 0;
}

int method_delete_job(struct call *call)
{
    struct job_row job;
    struct copy_row *copies;
    size_t n;
    bool active = false;
    int r = job_of_call(call, &job);

    if (r == 0) {
        r = job_load_copies(call, &job, &copies, &n);
    }
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < n; i++) {
        active = active || copy_row_active(copies[i].state);
    }
    free(copies);
    if (!job_state_ended(job.state) || active) {
        return call_fail(call, ERR_CONFLICT,
                         "The job %s; end it first with RequestStateChange (Terminate).",
                         job_state_ended(job.state) ? "still has a copy under way"
                                                    : "has not ended");
    }
    r = table_delete(call->db, &job_table, job.head.id);
    return r < 0 ? call_fail_store(call, r) : 0;
}

/* ---- beginning and end ---- */

enum { EXPIRE_AT_ONCE = 256 };

struct expire_walk {
    uint64_t now_ms;
    char ids[EXPIRE_AT_ONCE][ID_SIZE];
    size_t n;
};

static int expire_look(void *arg, const void *row)
{
    struct expire_walk *walk = arg;
    const struct job_row *job = row;
    uint64_t keep = job->time_before_removal_ms;

    if (!job->delete_on_completion && keep < job_purge_ms) {
        keep = job_purge_ms;
    }
    if (job_state_ended(job->state) && job->end_ms + keep < walk->now_ms) {
        memcpy(walk->ids[walk->n++], job->head.id, ID_SIZE);
    }
    return walk->n == EXPIRE_AT_ONCE ? 1 : 0;
}

int jobs_expire(struct call *call, uint64_t now_ms)
{
    struct expire_walk *walk = arena_alloc(&call->arena, sizeof(*walk));

    walk->now_ms = now_ms;
    int r = table_each(call->db, &job_table, NULL, 0, 0, expire_look, walk);

    r = r > 0 ? 0 : r;
    for (size_t i = 0; r == 0 && i < walk->n; i++) {
        bool active = false;

        for (uint32_t state = COPY_ROW_QUEUED; state <= COPY_ROW_SUSPENDED && r == 0; state++) {
            struct condition where[] = {WHERE_TEXT("job_id", walk->ids[i]),
                                        WHERE_NUM("state", state), WHERE_END};
            uint64_t count = 0;

            r = table_count(call->db, &copy_table, where, &count);
            active = active || count > 0;
        }
        if (r == 0 && !active) {
            r = table_delete(call->db, &job_table, walk->ids[i]);
        }
    }
    return r;
}

/* What was being ended is ended; what had got its copies' end but not its own gets it. */
static int jobs_recover_state(struct call *call, uint32_t state)
{
    struct condition where[] = {WHERE_NUM("state", state), WHERE_END};
    struct job_row *jobs = NULL;
    size_t n = 0;
    int r = table_load(call->db, &job_table, where, (void **)&jobs, &n);

    for (size_t i = 0; i < n && r == 0; i++) {
        if (jobs[i].end_wanted != 0) {
            struct copy_row *copies = NULL;
            size_t n_copies = 0;

            r = job_load_copies(call, &jobs[i], &copies, &n_copies);
            if (r == 0) {
                r = job_cancel_copies(call, copies, n_copies);
            }
            free(copies);
        }
        if (r == 0) {
            r = job_review(call, jobs[i].head.id);
        }
    }
    free(jobs);
    return r;
}

/* First event after the start: what ran when the service ended is queued again. */
static int jobs_recover_event(struct call *call)
{
    int r = 0;

    for (uint32_t state = COPY_ROW_RUNNING; state <= COPY_ROW_SUSPENDED && r == 0; state++) {
        struct condition where[] = {WHERE_NUM("state", state), WHERE_END};
        struct copy_row *copies = NULL;
        size_t n = 0;

        r = table_load(call->db, &copy_table, where, (void **)&copies, &n);
        for (size_t i = 0; i < n && r == 0; i++) {
            struct sync_row sync;

            r = table_get(call->db, &sync_table, copies[i].sync_id, &sync);
            if (r == 0 && sync.copy_state == STATE_SUSPENDED) {
                continue; /* suspended by an operation: stays so until Resume */
            }
            if (r == 0 || r == -ENOENT) {
                copies[i].state = COPY_ROW_QUEUED;
                r = table_update(call->db, &copy_table, &copies[i]);
            }
        }
        free(copies);
    }
    for (uint32_t state = JOB_NEW; state <= JOB_SHUTTING_DOWN && r == 0; state++) {
        r = jobs_recover_state(call, state);
    }
    if (r == 0) {
        control_effect(call->control, jobs_kick_effect, NULL, 0);
    }
    return event_result(call, r);
}

static void jobs_stop_timeout(void *arg)
{
    struct jobs *jobs = arg;
    loop_fn done = jobs->stop_done;

    log_warning("jobs: %u copies did not come to an end in time; they go on from their last checkpoint",
                jobs->n_running);
    jobs->stop_done = NULL;
    if (done != NULL) {
        done(jobs->stop_arg);
    }
}

int jobs_new(struct control *control, struct jobs **ret_jobs, struct error *error)
{
    struct jobs *jobs = calloc(1, sizeof(*jobs));

    if (jobs == NULL) {
        return error_set(error, ERR_NO_MEMORY, "Out of memory.");
    }
    jobs->control = control;
    list_init(&jobs->running);
    loop_timer_init(&jobs->stop_timer, control_loop(control), jobs_stop_timeout, jobs);
    control_event(control, jobs_recover_event, NULL, 0);
    *ret_jobs = jobs;
    return 0;
}

void jobs_free(struct jobs *jobs)
{
    if (jobs == NULL) {
        return;
    }
    loop_timer_stop(&jobs->stop_timer);
    free(jobs);
}

unsigned jobs_running(const struct jobs *jobs)
{
    return jobs->n_running;
}

void jobs_stop(struct jobs *jobs, loop_fn done, void *arg)
{
    jobs->stopping = true;
    jobs->stop_done = done;
    jobs->stop_arg = arg;
    list_for_each(link, &jobs->running)
    {
        copy_shutdown(list_entry(link, struct running, link)->copy);
    }
    loop_timer_start(&jobs->stop_timer, STOP_TIMEOUT_MS * MS_NS);
    jobs_stop_check(jobs);
}
