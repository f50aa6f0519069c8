// SPDX-License-Identifier: Apache-2.0
/*
 * Jobs: the rows, overlaid by the live counters of the copies that run.
 *
 * PercentComplete never goes back, not even over a crash: it counts what is committed
 * (checkpoints), which is at most 2 s behind BytesDone, which may go back to the checkpoint when a
 * session is lost. It is 100 for a job that is Completed and for no other.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "replication/copy.h"
#include "service/jobs.h"
#include "service/live.h"
#include "service/view_parts.h"
#include "store/job.h"
#include "store/replica.h"

enum { RECOVERY_DO_NOT_CONTINUE = 2, RECOVERY_CONTINUE = 3 };

/* Name in the contract, and how far a phase is: a job shows the phase of the copy that is least
 * far. */
static const struct {
    const char *text;
    unsigned rank;
} phases[] = {
    [COPY_QUEUED] = {"Queued", 0},       [COPY_OPENING] = {"Opening", 1},
    [COPY_SUSPENDED] = {"Suspended", 2}, [COPY_RETRY] = {"Retry", 3},
    [COPY_COPYING] = {"Copying", 4},     [COPY_FLUSHING] = {"Flushing", 5},
    [COPY_VERIFYING] = {"Verifying", 6}, [COPY_BROKEN] = {"Broken", 7},
    [COPY_CANCELLED] = {"Cancelled", 8}, [COPY_DONE] = {"Done", 9},
};

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

uint32_t view_percent(uint64_t bytes_total, uint64_t bytes_done, bool verify, bool verifying)
{
    if (bytes_total == 0) {
        return 0;
    }
    /* In doubles: 64 bits of bytes times 100 are too many for an integer. */
    double part =
        (double)(bytes_done < bytes_total ? bytes_done : bytes_total) / (double)bytes_total;
    if (verify) {
        part = (part + (verifying ? 1 : 0)) / 2;
    }
    return part >= 0.99 ? 99 : (uint32_t)(part * 100);
}

/* What the row alone says: a copy that runs but has told nothing yet is opening its sides. */
static enum copy_phase row_phase(uint32_t state)
{
    switch (state) {
    case COPY_ROW_RUNNING:
        return COPY_OPENING;
    case COPY_ROW_SUSPENDED:
        return COPY_SUSPENDED;
    case COPY_ROW_DONE:
        return COPY_DONE;
    case COPY_ROW_CANCELLED:
        return COPY_CANCELLED;
    case COPY_ROW_BROKEN:
        return COPY_BROKEN;
    default:
        return COPY_QUEUED;
    }
}

uint32_t view_progress(struct view *view, const struct copy_row *row,
                       struct copy_progress *ret_progress)
{
    struct copy_progress live;
    bool done = row->state == COPY_ROW_DONE;
    uint64_t checkpoint_bytes = done ? row->bytes_total : row->checkpoint_bytes;

    *ret_progress = (struct copy_progress){
        .phase = row_phase(row->state),
        .bytes_total = row->bytes_total,
        .bytes_done = checkpoint_bytes,
        .checkpoint_bytes = checkpoint_bytes,
        .verifying = row->verifying,
        .bytes_read = row->bytes_read,
        .bytes_written = row->bytes_written,
        .bytes_zeroed = row->bytes_zeroed,
        .bytes_skipped = row->bytes_skipped,
        .attempts = row->attempts,
        .last_error_ms = row->last_error_ms,
    };
    memcpy(ret_progress->last_error, row->last_error, sizeof(ret_progress->last_error));
    view->moving = view->moving || row->end_ms == 0;
    if (row->end_ms == 0 && view->live != NULL && live_get(view->live, row->head.id, &live)) {
        ret_progress->phase = live.phase;
        ret_progress->verifying = live.verifying;
        if (live.verifying == row->verifying) {
            /* The row may know a checkpoint that is newer than the last live numbers. */
            ret_progress->bytes_done = larger(live.bytes_done, checkpoint_bytes);
        } else {
            ret_progress->bytes_done = live.bytes_done;
            ret_progress->checkpoint_bytes = live.checkpoint_bytes;
        }
        ret_progress->bytes_per_second = live.bytes_per_second;
        ret_progress->bandwidth_limit = live.bandwidth_limit;
        /* A row that was committed after the snapshot is newer. */
        ret_progress->bytes_read = larger(live.bytes_read, row->bytes_read);
        ret_progress->bytes_written = larger(live.bytes_written, row->bytes_written);
        ret_progress->bytes_zeroed = larger(live.bytes_zeroed, row->bytes_zeroed);
        ret_progress->bytes_skipped = larger(live.bytes_skipped, row->bytes_skipped);
        ret_progress->attempts = larger(live.attempts, row->attempts);
        if (live.last_error[0] != '\0' && live.last_error_ms >= row->last_error_ms) {
            memcpy(ret_progress->last_error, live.last_error, sizeof(live.last_error));
            ret_progress->last_error_ms = live.last_error_ms;
        }
    }
    return done
               ? 100
               : view_percent(row->bytes_total, row->checkpoint_bytes, row->verify, row->verifying);
}

/* At which rate it goes on: the one that was measured, but no more than the limit allows. Only what is read counts against that;
 * where half of the LUN was empty so far, the copy advances twice as fast. */
static double expected_rate(const struct copy_progress *progress)
{
    double rate = (double)progress->bytes_per_second;
    double done = (double)progress->bytes_done;
    double read = (double)progress->bytes_read;

    if (progress->verifying) {
        done += (double)progress->bytes_total;
    }
    if (progress->bandwidth_limit == 0 || read == 0) {
        return rate;
    }
    double allowed = (double)progress->bandwidth_limit * (read < done ? done / read : 1);

    return rate < allowed ? rate : allowed;
}

/* When the copy ends at its rate, 0 when that cannot be told. */
static uint64_t estimated_end(const struct view *view, const struct copy_row *row,
                              const struct copy_progress *progress)
{
    uint64_t left = progress->bytes_total - progress->bytes_done;
    bool moving = progress->phase == COPY_COPYING || progress->phase == COPY_VERIFYING ||
                  progress->phase == COPY_FLUSHING;

    if (!moving || progress->bytes_per_second == 0 ||
        progress->bytes_done > progress->bytes_total) {
        return 0;
    }
    if (row->verify && !progress->verifying) {
        left += progress->bytes_total;
    }
    double wait_ms = (double)left / expected_rate(progress) * 1000;
    /* A thousand years are no estimate. */
    return wait_ms > 3e13 ? 0 : view->now_ms + (uint64_t)wait_ms;
}

/* The copies of a job and their sums. */
struct copies {
    struct view *view;
    struct copy_row *rows;
    struct copy_progress *progress;
    uint32_t *percent;
    uint64_t *end_ms;
    size_t n;
    size_t size;
    struct copy_progress sum;
    double work;      /* parts of the whole that are durably done, weighted by size */
    bool end_unknown; /* of a copy that has not ended */
    uint64_t last_end_ms;
};

static int copies_grow(struct copies *copies)
{
    size_t size = copies->size == 0 ? 4 : copies->size * 2;
    void *grown[] = {realloc(copies->rows, size * sizeof(*copies->rows)),
                     realloc(copies->progress, size * sizeof(*copies->progress)),
                     realloc(copies->percent, size * sizeof(*copies->percent)),
                     realloc(copies->end_ms, size * sizeof(*copies->end_ms))};

    copies->rows = grown[0] != NULL ? grown[0] : copies->rows;
    copies->progress = grown[1] != NULL ? grown[1] : copies->progress;
    copies->percent = grown[2] != NULL ? grown[2] : copies->percent;
    copies->end_ms = grown[3] != NULL ? grown[3] : copies->end_ms;
    for (size_t i = 0; i < ARRAY_LEN(grown); i++) {
        if (grown[i] == NULL) {
            return -ENOMEM;
        }
    }
    copies->size = size;
    return 0;
}

static void copies_sum(struct copies *copies, const struct copy_row *row,
                       const struct copy_progress *progress, uint32_t percent, uint64_t end_ms)
{
    struct copy_progress *sum = &copies->sum;
    bool ended = phases[progress->phase].rank >= phases[COPY_BROKEN].rank;

    if (copies->n == 0 || phases[progress->phase].rank < phases[sum->phase].rank) {
        sum->phase = progress->phase;
    }
    sum->bytes_total += progress->bytes_total;
    sum->bytes_done += progress->bytes_done;
    sum->checkpoint_bytes += progress->checkpoint_bytes;
    sum->bytes_read += progress->bytes_read;
    sum->bytes_written += progress->bytes_written;
    sum->bytes_zeroed += progress->bytes_zeroed;
    sum->bytes_skipped += progress->bytes_skipped;
    sum->bytes_per_second += progress->bytes_per_second;
    sum->attempts += progress->attempts;
    if (progress->last_error_ms > sum->last_error_ms) {
        sum->last_error_ms = progress->last_error_ms;
        memcpy(sum->last_error, progress->last_error, sizeof(sum->last_error));
    }
    copies->work += (double)percent / 100 * (double)row->bytes_total;
    copies->end_unknown = copies->end_unknown || (!ended && end_ms == 0);
    copies->last_end_ms = larger(copies->last_end_ms, end_ms);
}

static int copies_row(void *arg, const void *row)
{
    struct copies *copies = arg;
    struct copy_progress progress;

    if (copies->n == copies->size && copies_grow(copies) < 0) {
        return -ENOMEM;
    }
    uint32_t percent = view_progress(copies->view, row, &progress);
    uint64_t end_ms = estimated_end(copies->view, row, &progress);
    copies_sum(copies, row, &progress, percent, end_ms);
    memcpy(&copies->rows[copies->n], row, sizeof(struct copy_row));
    copies->progress[copies->n] = progress;
    copies->percent[copies->n] = percent;
    copies->end_ms[copies->n] = end_ms;
    copies->n++;
    return 0;
}

static int copies_load(struct copies *copies, struct view *view, const char *job_id)
{
    const struct condition where[] = {WHERE_TEXT("job_id", job_id), WHERE_END};

    *copies = (struct copies){.view = view};
    return table_each(view->db, &copy_table, where, 0, 0, copies_row, copies);
}

static void copies_fini(struct copies *copies)
{
    free(copies->rows);
    free(copies->progress);
    free(copies->percent);
    free(copies->end_ms);
}

/* Phase to LastErrorTime, which a job and each of its copies have in common. */
static void job_counters(struct out *out, const struct copy_progress *progress, uint32_t percent,
                         uint64_t end_ms)
{
    out_text(out, "Phase", phases[progress->phase].text);
    out_number(out, "PercentComplete", percent);
    out_number(out, "BytesTotal", progress->bytes_total);
    out_number(out, "BytesDone", progress->bytes_done);
    out_number(out, "BytesRead", progress->bytes_read);
    out_number(out, "BytesWritten", progress->bytes_written);
    out_number(out, "BytesZeroed", progress->bytes_zeroed);
    out_number(out, "BytesSkipped", progress->bytes_skipped);
    out_number(out, "BytesPerSecond", progress->bytes_per_second);
    out_time(out, "EstimatedEnd", end_ms);
    out_number(out, "CheckpointBytes", progress->checkpoint_bytes);
    out_number(out, "Attempts", progress->attempts);
    out_text_or_null(out, "LastError", progress->last_error);
    out_time(out, "LastErrorTime", progress->last_error_ms);
}

static int job_copies(struct view *view, const struct copies *copies, struct out *out)
{
    int r = 0;

    out_begin_array(out, "Copies");
    for (size_t i = 0; r == 0 && i < copies->n; i++) {
        const struct copy_row *copy = &copies->rows[i];
        const struct condition where[] = {WHERE_TEXT("id", copy->sync_id), WHERE_END};
        uint64_t there = 0;

        r = table_count(view->db, &sync_table, where, &there);
        out_begin_object(out, NULL);
        out_ref(out, "Synchronization", "synchronizations", there > 0 ? copy->sync_id : "");
        out_ref(out, "SourceElement", "volumes", copy->source_id);
        out_ref(out, "TargetElement", "volumes", copy->target_id);
        job_counters(out, &copies->progress[i], copies->percent[i], copies->end_ms[i]);
        out_end_object(out);
    }
    out_end_array(out);
    return r;
}

static int element_row(void *arg, const void *row)
{
    const struct job_element_row *element = row;
    struct out *out = arg;

    out_begin_object(out, NULL);
    out_text(out, "Element", element->element);
    view_enums(out, "ElementEffects", &map_element_effect, &element->effect, 1);
    out_end_object(out);
    return 0;
}

static int job_elements(struct view *view, const struct job_row *job, struct out *out)
{
    const struct condition where[] = {WHERE_TEXT("job_id", job->head.id), WHERE_END};

    out_begin_array(out, "AffectedElements");
    int r = table_each(view->db, &job_element_table, where, 0, 0, element_row, out);
    out_end_array(out);
    return r;
}

static void job_status(const struct job_row *job, struct out *out)
{
    uint32_t second = job->operational_status_2;

    if (!job_state_ended(job->state)) {
        view_status(out, STATUS_OK, 0, HEALTH_OK);
        return;
    }
    if (second == 0) {
        second = job->state == JOB_COMPLETED ? STATUS_OK : STATUS_ERROR;
    }
    view_status(out, STATUS_COMPLETED, second,
                second == STATUS_OK         ? HEALTH_OK
                : second == STATUS_DEGRADED ? HEALTH_DEGRADED
                                            : HEALTH_MAJOR_FAILURE);
}

/* A job without copies is as far as its state says. */
static enum copy_phase job_phase(const struct job_row *job, const struct copies *copies)
{
    if (copies->n > 0) {
        return copies->sum.phase;
    }
    switch (job->state) {
    case JOB_COMPLETED:
        return COPY_DONE;
    case JOB_TERMINATED:
    case JOB_KILLED:
        return COPY_CANCELLED;
    case JOB_EXCEPTION:
        return COPY_BROKEN;
    case JOB_SUSPENDED:
        return COPY_SUSPENDED;
    default:
        return COPY_QUEUED;
    }
}

static uint32_t job_percent(const struct job_row *job, const struct copies *copies)
{
    uint64_t total = copies->sum.bytes_total;
    uint32_t percent = total == 0 ? 0 : (uint32_t)(copies->work / (double)total * 100);

    if (job->state == JOB_COMPLETED) {
        return 100;
    }
    percent = job->percent_complete > percent ? job->percent_complete : percent;
    return percent < 99 ? percent : 99;
}

static void job_progress(const struct job_row *job, const struct copies *copies, struct out *out)
{
    struct copy_progress sum = copies->sum;
    bool told = !job_state_ended(job->state) && !copies->end_unknown;

    sum.phase = job_phase(job, copies);
    job_counters(out, &sum, job_percent(job, copies), told ? copies->last_end_ms : 0);
}

static void job_times(struct view *view, const struct job_row *job, struct out *out)
{
    uint64_t until_ms = job->end_ms != 0 ? job->end_ms : view->now_ms;
    bool started = job->start_ms != 0 && until_ms > job->start_ms;

    view->moving = view->moving || (job->end_ms == 0 && job->start_ms != 0);
    out_time(out, "TimeSubmitted", job->time_submitted_ms);
    out_time(out, "StartTime", job->start_ms);
    out_time(out, "TimeOfLastStateChange", job->last_change_ms);
    out_interval(out, "ElapsedTime", started ? until_ms - job->start_ms : 0);
    out_interval(out, "TimeBeforeRemoval", job->time_before_removal_ms);
}

static int job_outs(struct view *view, const struct job_row *job, struct out *out)
{
    struct strbuf text = STRBUF_INIT;
    int r = job_state_ended(job->state) ? job_get_out(view->db, job->head.id, &text) : 0;

    if (r == 0 && text.len > 0) {
        out_raw(out, "JobOutParameters", strbuf_str(&text));
    } else {
        out_null(out, "JobOutParameters");
    }
    strbuf_fini(&text);
    return r;
}

static int job_properties(struct view *view, const struct job_row *job, const struct copies *copies,
                          struct out *out)
{
    view_head(out, COLLECTION_JOBS, job->head.id);
    view_instance_id(out, "InstanceID", job->head.id);
    out_text(out, "Name", job->name);
    out_text(out, "ElementName", job->element_name);
    out_ref(out, "Owner", "services", job->owner);
    out_enum(out, "JobState", &map_job_state, job->state);
    job_status(job, out);
    job_progress(job, copies, out);
    out_number(out, "ErrorCode", job->error_code);
    out_text_or_null(out, "ErrorCodeText", job->error_word);
    out_text_or_null(out, "ErrorDescription", job->error_text);
    out_enum(out, "RecoveryAction", &map_recovery_action,
             job->continue_on_error ? RECOVERY_CONTINUE : RECOVERY_DO_NOT_CONTINUE);
    job_times(view, job, out);
    out_bool(out, "DeleteOnCompletion", job->delete_on_completion);
    out_enum(out, "CopyPriority", &map_copy_priority, job->copy_priority);
    out_number(out, "BandwidthLimit", job->bandwidth_limit);
    int r = job_elements(view, job, out);
    r = r < 0 ? r : job_copies(view, copies, out);
    return r < 0 ? r : job_outs(view, job, out);
}

static int job_object(struct view *view, const void *row, struct out *out)
{
    const struct job_row *job = row;
    struct copies copies;
    int r = copies_load(&copies, view, job->head.id);

    if (r == 0) {
        out_begin_object(out, NULL);
        r = job_properties(view, job, &copies, out);
        out_end_object(out);
    }
    copies_fini(&copies);
    return r;
}

static const struct view_filter job_filters[] = {
    {.name = "JobState", .column = "state", .kind = FILTER_ENUM, .map = &map_job_state},
    {.name = "Name", .column = "name", .kind = FILTER_TEXT},
    {.name = "Owner", .column = "owner", .kind = FILTER_PATH, .collection = "services"},
};
const struct view_kind view_jobs = {
    .table = &job_table,
    .row = job_object,
    .filters = job_filters,
    .n_filters = ARRAY_LEN(job_filters),
};
