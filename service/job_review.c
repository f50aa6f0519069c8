// SPDX-License-Identifier: Apache-2.0
/*
 * What a job says of itself, looked at again after every event of its copies.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "service/jobs_private.h"
#include "service/mirror_records.h"
#include "service/replica_states.h"

int job_load_copies(struct call *call, const struct job_row *job, struct copy_row **ret_copies,
                           size_t *ret_n)
{
    struct condition where[] = {WHERE_TEXT("job_id", job->head.id), WHERE_END};
    int r = table_load(call->db, &copy_table, where, (void **)ret_copies, ret_n);

    return r < 0 ? call_fail_store(call, r) : 0;
}

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

enum error_code error_code_of_word(const char *word)
{
    for (int code = 0; code < ERR_COUNT; code++) {
        if (strcmp(error_info(code)->word, word) == 0) {
            return code;
        }
    }
    return ERR_INTERNAL;
}

/* A queued copy is dropped: its relationship rests as Aborted. */
int copy_drop_queued(struct call *call, struct copy_row *copy)
{
    struct sync_row sync;

    copy->state = COPY_ROW_CANCELLED;
    copy->end_ms = control_now_ms(call->control);
    int r = table_update(call->db, &copy_table, copy);

    if (r == 0 && copy->mirrored) {
        return mirror_job_terminated(call, copy);
    }
    if (r == 0 && (r = table_get(call->db, &sync_table, copy->sync_id, &sync)) == 0) {
        /* What had not begun leaves a finished relationship as it was. */
        if (sync.copy_state == STATE_INITIALIZED || sync.copy_state == STATE_UNSYNCHRONIZED ||
            sync.copy_state == STATE_SUSPENDED) {
            sync.copy_state = STATE_ABORTED;
        }
        sync.progress_status = PROGRESS_COMPLETED;
        sync.requested_copy_state = STATE_NOT_APPLICABLE;
        sync.job_id[0] = '\0';
        r = table_update(call->db, &sync_table, &sync);
    } else if (r == -ENOENT) {
        r = 0;
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

/* Stops all that the job still has under way. */
int job_cancel_copies(struct call *call, struct copy_row *copies, size_t n)
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
    /* What does not run rests in the state of before, or of another job: that says nothing about this one. */
    if (*ret_reached || job->wait_for_copy_state == 0 || copy->state != COPY_ROW_RUNNING) {
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
    size_t failed; /* broken or stopped */
    size_t broken;
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
            sum.broken += copies[i].state == COPY_ROW_BROKEN;
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
    int r;

    if (job_batch_has(call, job_id)) {
        return 0;
    }
    r = table_get(call->db, &job_table, job_id, &job);
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
    if (sum.broken > 0 && !job.continue_on_error && sum.active > 0) {
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
        /* A copy that an operation has stopped takes nothing from the others of its list. */
        bool degraded = sum.reached > 0 && (job.continue_on_error || sum.broken == 0);

        r = job_end_failed(call, &job, sum.first_failed, degraded);
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
