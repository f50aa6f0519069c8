// SPDX-License-Identifier: Apache-2.0
/*
 * The records of a job change only in transactions: of the call that makes it, of the events that its copies send
 * (copy_events.c, job_review.c), of the calls that steer it. What runs is in copy_runs.c.
 *
 * Invariant: a row that is RUNNING or SUSPENDED when the service starts becomes QUEUED and goes on from its checkpoint.
 */
#include "service/jobs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "service/classes.h"
#include "service/handlers.h"
#include "service/jobs_private.h"
#include "service/replica_states.h"

/* Ended jobs are kept a week: a client that asks late still learns what became of its request. */
static const uint64_t job_purge_ms = 7ull * 24 * 3600 * 1000;

bool job_state_ended(uint32_t state)
{
    return state >= JOB_COMPLETED && state <= JOB_EXCEPTION;
}

bool copy_row_active(uint32_t state)
{
    return state == COPY_ROW_QUEUED || state == COPY_ROW_RUNNING || state == COPY_ROW_SUSPENDED;
}

/* ---- making a job ---- */

uint32_t job_urgency(uint32_t copy_priority)
{
    return copy_priority == 0 ? 2 : copy_priority;
}

struct job_batch {
    struct job_row job;
    bool there;
    bool started;
    uint32_t n_copies;
};

void job_batch_begin(struct call *call)
{
    call->batch = arena_alloc(&call->arena, sizeof(*call->batch));
}

bool job_batch_has(const struct call *call, const char *job_id)
{
    return call->batch != NULL && call->batch->there &&
           strcmp(call->batch->job.head.id, job_id) == 0;
}

int job_batch_end(struct call *call)
{
    struct job_batch *batch = call->batch;
    int r;

    call->batch = NULL;
    if (!batch->there) {
        return 0;
    }
    r = job_review(call, batch->job.head.id);
    if (r == 0) {
        r = table_get(call->db, &job_table, batch->job.head.id, &batch->job);
        r = r < 0 ? call_fail_store(call, r) : 0;
    }
    return r < 0 || !batch->started ? r : job_started(call, &batch->job);
}

int job_create(struct call *call, const struct job_new *wanted, struct job_row *ret_job)
{
    if (call->batch != NULL && call->batch->there) {
        *ret_job = call->batch->job;
        return 0;
    }

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
    if (call->batch != NULL) {
        call->batch->job = job;
        call->batch->there = true;
    }
    return 0;
}

int job_add_copy(struct call *call, const struct job_row *job, uint32_t position,
                 struct sync_row *sync, const struct volume_row *from, const struct volume_row *to)
{
    struct copy_row copy = {
        .position = position,
        .state = COPY_ROW_QUEUED,
        .urgency = job_urgency(job->copy_priority),
        .bytes_total = from->size_bytes < to->size_bytes ? from->size_bytes : to->size_bytes,
        .verify = sync->verify,
        .mirrored = replica_is_mirror(sync),
    };

    if (call->batch != NULL) {
        copy.position = call->batch->n_copies++;
    }
    if (copy.mirrored) {
        copy.state = COPY_ROW_RUNNING; /* by the mirror itself */
    }
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

int job_started(struct call *call, const struct job_row *job)
{
    if (call->batch != NULL) {
        if (!call->batch->there) {
            call->batch->job = *job;
            call->batch->there = true;
        }
        call->batch->started = true;
        return 0;
    }
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

/* ---- methods of a job ---- */

static int job_of_call(struct call *call, struct job_row *ret_job)
{
    int r = table_get(call->db, &job_table, call->object_id, ret_job);

    if (r == -ENOENT) {
        return call_fail(call, ERR_NOT_FOUND, "There is no job /jobs/%s.", call->object_id);
    }
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
    if (!job->suspend_wanted && job->state == JOB_SUSPENDED) {
        return call_fail(call, ERR_JOB_TRANSITION,
                         "The copies of the job were suspended by an operation on their relationship; "
                         "Resume (16) of ModifyReplicaSynchronization goes on with them.");
    }
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
    for (size_t i = 0; i < n; i++) {
        if (wanted == 3 && copies[i].mirrored) {
            free(copies);
            return call_fail_param(call, ERR_NOT_SUPPORTED, "RequestedState",
                                   "The job is of a mirror; Suspend (22) of "
                                   "ModifyReplicaSynchronization stops its data.");
        }
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
int jobs_recover_event(struct call *call)
{
    int r = 0;

    for (uint32_t state = COPY_ROW_QUEUED; state <= COPY_ROW_SUSPENDED && r == 0; state++) {
        struct condition where[] = {WHERE_NUM("state", state), WHERE_END};
        struct copy_row *copies = NULL;
        size_t n = 0;

        r = table_load(call->db, &copy_table, where, (void **)&copies, &n);
        for (size_t i = 0; i < n && r == 0; i++) {
            struct sync_row sync;

            if (copies[i].mirrored) {
                continue; /* the mirror goes on by itself */
            }
            /* Whether one that is queued has run before is not recorded. */
            jobs_note_unclean(control_jobs(call->control), copies[i].target_id);
            if (state == COPY_ROW_QUEUED) {
                continue;
            }
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
