// SPDX-License-Identifier: Apache-2.0
/*
 * What copies tell, recorded: each function runs as an event in a transaction of control.
 *
 *     copy row:  QUEUED ──(kick)──▶ RUNNING ◀──▶ SUSPENDED
 *                   ▲                  │  └──▶ DONE | BROKEN
 *                   └── restart ◀──────┴─────▶ CANCELLED
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "service/groups.h"
#include "service/hosted.h"
#include "service/jobs_private.h"
#include "service/replica.h"
#include "service/volumes.h"

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

int event_result(struct call *call, int r)
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

static int sync_began(struct call *call, const struct copy_row *copy, struct sync_row *sync)
{
    struct job_row job;
    int r = table_get(call->db, &job_table, copy->job_id, &job);

    if (r < 0) {
        return r;
    }
    if (sync->copy_state != STATE_UNSYNCHRONIZED) {
        sync->when_activated_ms = control_now_ms(call->control);
    }
    sync->copy_state = STATE_UNSYNCHRONIZED;
    sync->progress_status = restoring(sync, copy) ? PROGRESS_RESTORING
                                                  : progress_of_operation(job.operation);
    sync->source_incomplete = sync->source_incomplete || restoring(sync, copy);
    if (sync->requested_copy_state == STATE_UNSYNCHRONIZED) {
        sync->requested_copy_state = STATE_NOT_APPLICABLE; /* reached */
    }
    return table_update(call->db, &sync_table, sync);
}

int copy_began(struct call *call, struct copy_row *copy)
{
    struct sync_row sync;

    copy->state = COPY_ROW_RUNNING;
    int r = table_update(call->db, &copy_table, copy);

    if (r == 0) {
        r = table_get(call->db, &sync_table, copy->sync_id, &sync);
        r = r == 0 ? sync_began(call, copy, &sync) : r == -ENOENT ? 0 : r;
    }
    return r == 0 ? job_review(call, copy->job_id) : r;
}

/* Running, suspended, or running again. */
int copy_phase_event(struct call *call)
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
            r = sync_began(call, &copy, &sync);
        }
        if (r == 0) {
            r = table_update(call->db, &sync_table, &sync);
        }
    }
    if (r == 0) {
        r = job_review(call, copy.job_id);
    }
    if (r == 0 && suspended) {
        copy_suspender_go_on(control_jobs(call->control), event->copy_id);
    }
    return event_result(call, r);
}

int copy_checkpoint_event(struct call *call)
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

int sync_remove(struct call *call, const struct sync_row *sync)
{
    int r = table_delete(call->db, &sync_table, sync->head.id);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    r = group_pair_gone(call, sync);
    if (r == 0) {
        r = replica_ended(call, sync);
    }
    if (r == 0) {
        r = volume_forget_if_unused(call, sync->source_id);
    }
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

int copy_fills(struct db *db, const struct copy_row *copy, struct layer_row *ret_oldest)
{
    struct volume_row target;
    struct sync_row sync;
    int r = table_get(db, &sync_table, copy->sync_id, &sync);

    if (r == 0 && (replica_engine_of(&sync) != ENGINE_FILL || restoring(&sync, copy))) {
        return 0;
    }
    if (r == 0) {
        r = table_get(db, &volume_table, copy->target_id, &target);
    }
    if (r == 0) {
        r = hosted_filling(db, &target, ret_oldest);
    }
    return r == -ENOENT ? 0 : r;
}

static int target_filled(struct call *call, const struct copy_row *copy)
{
    struct layer_row oldest;
    int r = copy_fills(call->db, copy, &oldest);

    return r == 1 ? hosted_filled(call, copy->target_id) : r;
}

int copy_ended_event(struct call *call)
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
    if (r == 0 && copy.state == COPY_ROW_DONE) {
        r = target_filled(call, &copy);
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
int copy_shut_down_event(struct call *call)
{
    const struct checkpoint_event *ended = call->step_state;

    control_effect(call->control, running_gone_effect, ended->event.copy_id,
                   sizeof(ended->event.copy_id));
    return copy_checkpoint_event(call);
}

/* A copy that an operation has stopped: the operation's call decides what its end means. */
int copy_stopped_event(struct call *call)
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
    if (r == 0 || r == -ENOENT) {
        copy_stopper_go_on(control_jobs(call->control), ended->event.copy_id);
    }
    control_effect(call->control, running_gone_effect, ended->event.copy_id,
                   sizeof(ended->event.copy_id));
    return event_result(call, r);
}
