// SPDX-License-Identifier: Apache-2.0
#include "service/mirror_records.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "service/hosted.h"
#include "service/jobs_private.h"
#include "service/live.h"
#include "service/replica.h"
#include "service/volumes.h"
#include "store/cycle.h"

static int store(struct call *call, const struct sync_row *sync)
{
    int r = table_update(call->db, &sync_table, sync);

    return r < 0 ? call_fail_store(call, r) : 0;
}

/* ---- numbers ---- */

static uint32_t percent_of(const struct mirror_progress *progress, uint64_t size_bytes)
{
    uint64_t marked = progress->marked_bytes < size_bytes ? progress->marked_bytes : size_bytes;

    if (progress->phase == MIRROR_EQUAL || size_bytes == 0) {
        return 100;
    }
    uint32_t percent = (uint32_t)((size_bytes - marked) / (size_bytes / 100 + 1));

    return percent > 99 ? 99 : percent;
}

static enum copy_phase copy_phase_of(enum mirror_phase phase)
{
    switch (phase) {
    case MIRROR_OPENING:
        return COPY_OPENING;
    case MIRROR_COPYING:
        return COPY_COPYING;
    case MIRROR_EQUAL:
        return COPY_DONE;
    case MIRROR_AWAY:
        return COPY_RETRY;
    case MIRROR_BROKEN:
        return COPY_BROKEN;
    default:
        return COPY_SUSPENDED;
    }
}

static void numbers_of(const struct mirror_progress *progress, uint64_t total,
                       struct copy_progress *ret_numbers)
{
    uint64_t marked = progress->marked_bytes < total ? progress->marked_bytes : total;

    *ret_numbers = (struct copy_progress){
        .phase = copy_phase_of(progress->phase),
        .bytes_total = total,
        .bytes_done = total - marked,
        .checkpoint_bytes = total - marked,
        .bytes_read = progress->copied_bytes,
        .bytes_written = progress->copied_bytes,
        .bytes_zeroed = progress->zeroed_bytes,
        .bytes_per_second = progress->bytes_per_second,
        .attempts = progress->attempts,
        .last_error_ms = progress->last_error_ms,
    };
    memcpy(ret_numbers->last_error, progress->last_error, sizeof(ret_numbers->last_error));
}

void mirror_publish(struct control *control, const struct sync_row *sync,
                    const struct mirror_progress *progress)
{
    struct copy_progress numbers;
    struct copy_row copy;

    numbers_of(progress, sync->copied_bytes, &numbers);
    live_put(control_live(control), sync->head.id, &numbers);
    if (sync_running_copy(control_db(control), sync->head.id, &copy) == 0) {
        numbers_of(progress, copy.bytes_total, &numbers);
        live_put(control_live(control), copy.head.id, &numbers);
    }
}

static void quiet_effect(struct control *control, void *arg)
{
    live_remove(control_live(control), arg);
}

/* ---- jobs ---- */

int mirror_job_end(struct call *call, struct sync_row *sync, uint32_t copy_state,
                   const struct error *error)
{
    struct copy_row copy;
    int r = sync_running_copy(call->db, sync->head.id, &copy);

    if (r < 0) {
        return r == -ENOENT ? 0 : call_fail_store(call, r);
    }
    copy.state = copy_state;
    if (copy_row_active(copy_state)) {
        r = table_update(call->db, &copy_table, &copy);
        return r < 0 ? call_fail_store(call, r) : job_review(call, copy.job_id);
    }
    copy.end_ms = control_now_ms(call->control);
    if (copy_state == COPY_ROW_DONE) {
        copy.checkpoint_bytes = copy.bytes_total;
    }
    if (error != NULL && error->code != ERR_NONE) {
        snprintf(copy.last_error, sizeof(copy.last_error), "%s: %.400s",
                 error_info(error->code)->word, error->detail);
        copy.last_error_ms = copy.end_ms;
    }
    sync->job_id[0] = '\0';
    control_effect(call->control, quiet_effect, copy.head.id, sizeof(copy.head.id));
    r = table_update(call->db, &copy_table, &copy);
    if (r == 0) {
        r = table_update(call->db, &sync_table, sync);
        r = r == -ENOENT ? 0 : r; /* it is gone itself */
    }
    return r < 0 ? call_fail_store(call, r) : job_review(call, copy.job_id);
}

static int job_elements(struct call *call, const struct job_row *job, const struct sync_row *sync,
                        bool from_target)
{
    const char *to = from_target ? sync->source_id : sync->target_id;
    const char *from = from_target ? sync->target_id : sync->source_id;
    int r = job_add_element(call, job, "volumes", to, ELEMENT_EFFECT_INTEGRITY);

    return r < 0 ? r : job_add_element(call, job, "volumes", from, ELEMENT_EFFECT_PERFORMANCE);
}

/* The job that rests goes on, or a new one begins. */
static int job_for(struct call *call, struct sync_row *sync, uint32_t operation, uint32_t wait,
                   bool from_target, struct job_row *ret_job)
{
    struct volume_row from;
    struct volume_row to;
    struct copy_row copy;
    struct job_new wanted = {
        .name = call->method->name,
        .owner = call->service->name,
        .element_name = "",
        .copy_priority = sync->copy_priority,
        .bandwidth_limit = sync->bandwidth_limit,
        .wait_for_copy_state = wait,
        .operation = operation,
    };
    int r = sync_running_copy(call->db, sync->head.id, &copy);

    if (r == 0) {
        copy.state = COPY_ROW_RUNNING;
        r = table_update(call->db, &copy_table, &copy);
        if (r == 0) {
            r = table_get(call->db, &job_table, copy.job_id, ret_job);
        }
        if (r == 0 && !job_state_ended(ret_job->state)) {
            return job_review(call, copy.job_id);
        }
        if (r == 0) {
            r = mirror_job_end(call, sync, COPY_ROW_CANCELLED, NULL);
        }
    } else if (r == -ENOENT) {
        r = 0;
    }
    if (r == 0) {
        r = table_get(call->db, &volume_table, sync->source_id, from_target ? &to : &from);
    }
    if (r == 0) {
        r = table_get(call->db, &volume_table, sync->target_id, from_target ? &from : &to);
    }
    if (r < 0) {
        return call->error.code != ERR_NONE ? r : call_fail_store(call, r);
    }
    r = job_create(call, &wanted, ret_job);
    if (r == 0) {
        r = job_add_copy(call, ret_job, 0, sync, &from, &to);
    }
    return r < 0 ? r : job_elements(call, ret_job, sync, from_target);
}

int mirror_flows(struct call *call, struct sync_row *sync, uint32_t progress_status,
                 bool from_target)
{
    bool waits = values_param(call->args, "WaitForCopyState") != NULL;
    uint32_t wait = waits ? (uint32_t)args_number(call->args, "WaitForCopyState", 0) : 0;
    uint32_t operation = (uint32_t)args_number(call->args, "Operation", 0);
    struct job_row job;

    if (strcmp(call->method->name, "ModifySynchronization") == 0) {
        operation = replica_legacy_operation(operation);
    }
    sync->revision++;
    if (replica_engine_of(sync) == ENGINE_MIRROR) {
        sync->moment = 0; /* its target has been of one with others */
    }
    sync->copy_state = STATE_UNSYNCHRONIZED;
    sync->progress_status = progress_status;
    sync->requested_copy_state = wait != 0 ? wait : STATE_NOT_APPLICABLE;
    sync->source_incomplete = from_target;
    sync->when_activated_ms = control_now_ms(call->control);
    sync->percent_synced = 0;
    sync->problem[0] = '\0';
    int r = job_for(call, sync, operation, wait, from_target, &job);

    if (r == 0) {
        r = store(call, sync);
    }
    if (r == 0) {
        r = job_review(call, job.head.id);
    }
    return r < 0 ? r : job_started(call, &job);
}

int mirror_job_terminated(struct call *call, struct copy_row *copy)
{
    struct sync_row sync;
    int r = table_get(call->db, &sync_table, copy->sync_id, &sync);

    control_effect(call->control, quiet_effect, copy->head.id, sizeof(copy->head.id));
    if (r < 0) {
        return r == -ENOENT ? 0 : call_fail_store(call, r);
    }
    sync.job_id[0] = '\0';
    if (replica_mirror_connected(&sync) || sync.copy_state == STATE_SUSPENDED) {
        sync.copy_state = STATE_ABORTED;
        sync.requested_copy_state = STATE_NOT_APPLICABLE;
        sync.progress_status = PROGRESS_COMPLETED;
        sync.revision++;
        mirror_apply(call, &sync);
    }
    r = table_update(call->db, &sync_table, &sync);
    return r < 0 ? call_fail_store(call, r) : mirror_guard_volumes(call, &sync);
}

/* ---- what mirrors tell ---- */

static int told_copying(struct call *call, const struct mirror_event *event, struct sync_row *sync)
{
    struct copy_row copy;

    if (sync->copy_state != STATE_UNSYNCHRONIZED) {
        sync->copy_state = STATE_UNSYNCHRONIZED;
        sync->progress_status = sync->source_incomplete ? PROGRESS_RESTORING : PROGRESS_RESYNCING;
    } else if (sync->progress_status == PROGRESS_INITIALIZING) {
        sync->progress_status = PROGRESS_SYNCHRONIZING;
    }
    sync->problem[0] = '\0';
    if (sync->requested_copy_state == STATE_UNSYNCHRONIZED) {
        sync->requested_copy_state = STATE_NOT_APPLICABLE; /* reached */
    }
    int r = store(call, sync);

    if (r < 0 || sync_running_copy(call->db, sync->head.id, &copy) < 0) {
        return r;
    }
    uint64_t marked = event->progress.marked_bytes;
    uint64_t done = marked < copy.bytes_total ? copy.bytes_total - marked : 0;

    if (copy.checkpoint_bytes == 0 && event->progress.total_bytes != 0 &&
        event->progress.total_bytes < copy.bytes_total) {
        copy.bytes_total = event->progress.total_bytes; /* so much differed */
        done = marked < copy.bytes_total ? copy.bytes_total - marked : 0;
    }
    copy.checkpoint_bytes = done > copy.checkpoint_bytes ? done : copy.checkpoint_bytes;
    copy.bytes_read = event->progress.copied_bytes;
    copy.bytes_zeroed = event->progress.zeroed_bytes;
    copy.bytes_written = copy.bytes_read;
    r = table_update(call->db, &copy_table, &copy);
    return r < 0 ? call_fail_store(call, r) : job_review(call, copy.job_id);
}

static int told_equal(struct call *call, struct sync_row *sync)
{
    uint64_t now = control_now_ms(call->control);

    if (sync->copy_state != STATE_SYNCHRONIZED || sync->job_id[0] != '\0') {
        sync->when_synced_ms = now;
        sync->when_synchronized_ms = now;
    }
    sync->copy_state = STATE_SYNCHRONIZED;
    sync->requested_copy_state = STATE_NOT_APPLICABLE;
    sync->progress_status = PROGRESS_COMPLETED;
    sync->source_incomplete = false;
    sync->percent_synced = 100;
    sync->problem[0] = '\0';
    int r = store(call, sync);

    return r < 0 ? r : mirror_job_end(call, sync, COPY_ROW_DONE, NULL);
}

/* It is known what to do when the target is back: nothing is to be done now. */
static int told_away(struct call *call, const struct mirror_event *event, struct sync_row *sync)
{
    struct copy_row copy;

    sync->copy_state = STATE_PARTITIONED;
    sync->progress_status = PROGRESS_DORMANT;
    text_cut(event->progress.last_error, sync->problem, sizeof(sync->problem));
    int r = store(call, sync);

    if (r < 0 || sync_running_copy(call->db, sync->head.id, &copy) < 0) {
        return r;
    }
    copy.attempts = event->progress.attempts;
    memcpy(copy.last_error, event->progress.last_error, sizeof(copy.last_error));
    copy.last_error_ms = event->progress.last_error_ms;
    r = table_update(call->db, &copy_table, &copy);
    return r < 0 ? call_fail_store(call, r) : 0;
}

/* It tries nothing any more. Where only the target is whole it is not parted from that: what is missing cannot be read, then. */
static int rest_now(struct call *call, struct sync_row *sync)
{
    sync->revision += !sync->source_incomplete;
    int r = store(call, sync);

    if (r == 0 && !sync->source_incomplete) {
        r = mirror_guard_volumes(call, sync);
    }
    if (r == 0 && !sync->source_incomplete) {
        mirror_apply(call, sync);
    }
    return r;
}

static int told_held(struct call *call, struct sync_row *sync)
{
    sync->copy_state = STATE_SUSPENDED;
    sync->progress_status = PROGRESS_REQUIRES_RESUME;
    sync->when_suspended_ms = control_now_ms(call->control);
    int r = rest_now(call, sync);

    return r < 0 ? r : mirror_job_end(call, sync, COPY_ROW_SUSPENDED, NULL);
}

/* A LUN that was found to be another one is not to be used again before somebody has looked. */
static int note_changed(struct call *call, const struct mirror_event *event,
                        const struct sync_row *sync)
{
    struct volume_row target;

    if (event->error.code != ERR_LUN_CHANGED) {
        return 0;
    }
    int r = table_get(call->db, &volume_table, sync->target_id, &target);

    if (r == 0 && target.problem[0] == '\0') {
        text_cut(event->error.detail, target.problem, sizeof(target.problem));
        r = table_update(call->db, &volume_table, &target);
    }
    return r < 0 && r != -ENOENT ? call_fail_store(call, r) : 0;
}

static int told_broken(struct call *call, const struct mirror_event *event, struct sync_row *sync)
{
    sync->copy_state = STATE_BROKEN;
    sync->requested_copy_state = STATE_NOT_APPLICABLE;
    sync->progress_status = PROGRESS_NOT_APPLICABLE;
    text_cut(event->error.code != ERR_NONE ? event->error.detail : event->progress.last_error,
             sync->problem, sizeof(sync->problem));
    int r = rest_now(call, sync);

    if (r == 0) {
        r = note_changed(call, event, sync);
    }
    return r < 0 ? r : mirror_job_end(call, sync, COPY_ROW_BROKEN, &event->error);
}

static int told(struct call *call, const struct mirror_event *event, struct sync_row *sync)
{
    switch (event->progress.phase) {
    case MIRROR_OPENING:
        if (sync->copy_state != STATE_SYNCHRONIZED) {
            return 0;
        }
        return told_copying(call, event, sync); /* not known to be equal */
    case MIRROR_COPYING:
        return told_copying(call, event, sync);
    case MIRROR_EQUAL:
        return told_equal(call, sync);
    case MIRROR_AWAY:
        return told_away(call, event, sync);
    case MIRROR_HELD:
        return told_held(call, sync);
    case MIRROR_BROKEN:
        return told_broken(call, event, sync);
    case MIRROR_TRACKING:
    case MIRROR_ENDED:
        return 0;
    }
    return 0;
}

int mirror_told_event(struct call *call)
{
    const struct mirror_event *event = call->step_state;
    struct sync_row sync;
    int r = table_get(call->db, &sync_table, event->sync_id, &sync);

    if (r < 0 || event->revision != sync.revision || !replica_mirror_connected(&sync)) {
        return event_result(call, r);
    }
    sync.percent_synced = percent_of(&event->progress, sync.copied_bytes);
    return event_result(call, told(call, event, &sync));
}

int mirror_map_kept_event(struct call *call)
{
    const struct mirror_event *event = call->step_state;
    struct sync_row sync;
    int r = table_get(call->db, &sync_table, event->sync_id, &sync);

    if (r < 0 || event->revision != sync.map_generation || sync.map_state == MAP_KEPT) {
        return event_result(call, r);
    }
    sync.map_state = MAP_KEPT;
    return event_result(call, store(call, &sync));
}

int mirror_target_merged_event(struct call *call)
{
    const struct mirror_event *event = call->step_state;
    struct sync_row sync;
    int r = table_get(call->db, &sync_table, event->sync_id, &sync);

    if (r < 0 || event->revision != sync.map_generation || !sync.target_tracked ||
        replica_mirror_target_free(sync.copy_state)) {
        return event_result(call, r);
    }
    sync.target_tracked = false;
    return event_result(call, store(call, &sync));
}

/* ---- volumes ---- */

static int guard(struct call *call, const char *volume_id, bool guarded)
{
    struct volume_row volume;
    int r = table_get(call->db, &volume_table, volume_id, &volume);

    if (r == 0 && volume.kind == VOLUME_HOSTED && volume.guarded != guarded) {
        volume.guarded = guarded;
        r = table_update(call->db, &volume_table, &volume);
    }
    return r < 0 && r != -ENOENT ? call_fail_store(call, r) : 0;
}

int mirror_guard_source(struct call *call, const struct sync_row *sync)
{
    return guard(call, sync->source_id, true);
}

/* Is the target of cycles to be put onto its point before its hosts may write to it (service/async_mirror.c)? 1, 0 or an error. */
static int is_to_land(struct call *call, const struct sync_row *sync)
{
    struct cycle_row cycle;
    struct volume_row target;

    if (replica_engine_of(sync) != ENGINE_ASYNC || !replica_mirror_target_free(sync->copy_state)) {
        return 0;
    }
    int r = cycle_find(call->db, sync->head.id, &cycle);

    if (r == 0) {
        r = table_get(call->db, &volume_table, sync->target_id, &target);
    }
    if (r == 0 && target.kind == VOLUME_HOSTED && cycle.way == CYCLE_RESTS && cycle.cycles > 0) {
        r = hosted_chain_has(call->db, target.top_layer_id, cycle.point_id);
        r = r < 0 ? r : r == 0;
    } else if (r == 0) {
        r = target.kind == VOLUME_HOSTED && cycle.way == CYCLE_FORWARD;
    }
    return r == -ENOENT ? 0 : r < 0 ? call_fail_store(call, r) : r;
}

static int guard_both(struct call *call, const struct sync_row *sync, bool target_guarded)
{
    /* A source may be the target of another one; then that one says. */
    struct condition where[] = {WHERE_TEXT("target_id", sync->source_id),
                                WHERE_NUM("sync_type", SYNC_MIRROR), WHERE_END};
    struct sync_row before;
    int r = table_find(call->db, &sync_table, where, &before);

    if (r == -ENOENT) {
        /* What is on its way back by cycles is not served from the target meanwhile. */
        bool incomplete = sync->source_incomplete && replica_engine_of(sync) == ENGINE_ASYNC;

        r = guard(call, sync->source_id, sync->copy_state == STATE_FAILEDOVER || incomplete);
    } else if (r < 0) {
        return call_fail_store(call, r);
    }
    return r < 0 ? r : guard(call, sync->target_id, target_guarded);
}

int mirror_guard_volumes(struct call *call, const struct sync_row *sync)
{
    int lands = is_to_land(call, sync);

    return lands < 0
               ? lands
               : guard_both(call, sync, lands || !replica_mirror_target_free(sync->copy_state));
}

int mirror_ended(struct call *call, const struct sync_row *sync)
{
    struct sync_row ended = *sync;
    int r = mirror_job_end(call, &ended, COPY_ROW_CANCELLED, NULL);

    ended.copy_state = STATE_FRACTURED;
    ended.source_incomplete = false;
    if (r == 0) {
        r = guard_both(call, &ended, false);
    }
    if (r == 0 && sync->target_tracked) {
        struct volume_row target;

        r = table_get(call->db, &volume_table, sync->target_id, &target);
        r = r == 0 ? hosted_unwatch(call, &target) : r == -ENOENT ? 0 : call_fail_store(call, r);
    }
    mirror_remove(call, sync);
    return r;
}

struct content_walk {
    struct call *call;
    struct sync_row found[8];
    size_t n;
};

static int content_row(void *arg, const void *row)
{
    struct content_walk *walk = arg;
    const struct sync_row *sync = row;

    if (replica_is_mirror(sync) && walk->n < ARRAY_LEN(walk->found)) {
        walk->found[walk->n++] = *sync;
    }
    return 0;
}

static int mirrors_of(struct call *call, const char *volume_id, struct content_walk *walk)
{
    struct condition as_source[] = {WHERE_TEXT("source_id", volume_id), WHERE_END};
    struct condition as_target[] = {WHERE_TEXT("target_id", volume_id), WHERE_END};
    int r = table_each(call->db, &sync_table, as_source, 0, 0, content_row, walk);

    if (r == 0) {
        r = table_each(call->db, &sync_table, as_target, 0, 0, content_row, walk);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

/* What there is to do, in order, to make both sides larger. */
static int refuse_growth(struct call *call, const struct sync_row *sync,
                         const struct volume_row *volume, const char *path)
{
    struct volume_row target;
    int r = table_get(call->db, &volume_table, sync->target_id, &target);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    call_fail_blocked(call, ERR_IN_USE, path,
                      "/volumes/%s does not become larger while the mirror %s keeps it equal. Suspend "
                      "that (22), make /volumes/%s larger%s, then /volumes/%s, and Resume it (16).%s",
                      volume->head.id, path, target.head.id,
                      target.kind == VOLUME_HOSTED ? "" : " at its system (and ScsiScan)",
                      sync->source_id,
                      replica_engine_of(sync) == ENGINE_MIRROR ? " All of it is copied then." : "");
    return -EBUSY;
}

int mirror_content_changes(struct call *call, const char *parameter,
                           const struct volume_row *volume)
{
    struct content_walk walk = {.call = call};
    int r = mirrors_of(call, volume->head.id, &walk);

    for (size_t i = 0; i < walk.n && r == 0; i++) {
        struct sync_row *sync = &walk.found[i];
        char path[PATH_SIZE];

        snprintf(path, sizeof(path), "/synchronizations/%s", sync->head.id);
        bool connected = replica_mirror_connected(sync) || sync->source_incomplete;

        if (connected && strcmp(parameter, "Size") == 0) {
            r = refuse_growth(call, sync, volume, path);
            snprintf(call->error.parameter, sizeof(call->error.parameter), "%s", parameter);
            return r;
        }
        if (connected) {
            call_fail_blocked(
                call, ERR_IN_USE, path,
                "/volumes/%s is kept equal by the mirror %s. Split it first (Fracture, "
                "Split or Suspend), or end it (Detach).",
                volume->head.id, path);
            snprintf(call->error.parameter, sizeof(call->error.parameter), "%s", parameter);
            return -EBUSY;
        }
        if (mirror_run_busy(call->control, sync->head.id)) {
            return call_fail_blocked(call, ERR_IN_USE, path,
                                     "Another operation on %s is under way; ask again.", path);
        }
        sync->map_state = MAP_ALL;
        sync->map_generation++;
        if (replica_engine_of(sync) == ENGINE_MIRROR &&
            strcmp(sync->target_id, volume->head.id) == 0) {
            sync->moment = 0;
        }
        r = store(call, sync);
        if (r == 0) {
            mirror_apply(call, sync);
        }
    }
    return r;
}
