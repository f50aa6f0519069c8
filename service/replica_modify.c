// SPDX-License-Identifier: Apache-2.0
/*
 * Operations on relationships. replica_states.c says what is legal in which state; here is what each one does.
 *
 * An operation that must stop or suspend a copy first has two halves: sync_copy_stop() answers CALL_PENDING and the
 * call comes back, in a transaction of its own, when the copy rests. It then looks at the relationship afresh: the copy
 * may have been quicker.
 *
 * What shares the layers of its source (replica_engine_of()) is changed at once, without a job; what is filled from its source is
 * there at once, with a job that fills it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "service/group_modify.h"
#include "service/handlers.h"
#include "service/hosted.h"
#include "service/mirror_modify.h"
#include "service/mirrors.h"
#include "service/pipes.h"
#include "service/paths.h"
#include "service/pools.h"
#include "service/replica_operations.h"
#include "service/replica_states.h"
#include "service/volumes.h"

static const char *operation_text(const struct modification *mod)
{
    return mod->legacy != 0 ? enum_text(&map_legacy_operation, mod->legacy)
                            : enum_text(&map_operation, mod->operation);
}

static void legacy_legal_text(const struct sync_row *sync, char *out, size_t size)
{
    size_t len = 0;

    snprintf(out, size, "none");
    for (size_t i = 0; i < map_legacy_operation.n_values; i++) {
        uint32_t number = map_legacy_operation.values[i].number;

        if (replica_verdict_of(sync, replica_legacy_operation(number)) == VERDICT_LEGAL &&
            len < size) {
            len += (size_t)snprintf(out + len, size - len, "%s%s (%u)", len == 0 ? "" : ", ",
                                    enum_text(&map_legacy_operation, number), number);
        }
    }
}

static int refuse_state(struct call *call, const struct modification *mod, bool with_force)
{
    char legal[320];
    const struct sync_row *sync = &mod->sync;

    if (mod->legacy != 0) {
        legacy_legal_text(sync, legal, sizeof(legal));
    } else {
        replica_legal_text(sync, legal, sizeof(legal));
    }
    return call_fail_param(call, ERR_ILLEGAL_STATE, "Operation",
                           "%s (%u) is not possible while CopyState is %s (%u)%s%s. Legal now: %s.",
                           operation_text(mod), mod->legacy != 0 ? mod->legacy : mod->operation,
                           enum_text(&map_copy_state, sync->copy_state), sync->copy_state,
                           sync->source_incomplete ? " and a Restore has left the source incomplete"
                                                   : "",
                           with_force ? ", unless Force is true" : "", legal);
}

static int store_sync(struct call *call, const struct sync_row *sync)
{
    int r = table_update(call->db, &sync_table, sync);

    return r < 0 ? call_fail_store(call, r) : 0;
}

static int reload(struct call *call, struct modification *mod)
{
    int r = table_get(call->db, &sync_table, mod->sync.head.id, &mod->sync);

    if (r == -ENOENT) {
        return call_fail_param(
            call, ERR_ILLEGAL_STATE, "Operation",
            "The relationship ended by itself before the operation could be done.");
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

static int volumes_of(struct call *call, const struct sync_row *sync, struct volume_row *ret_source,
                      struct volume_row *ret_target)
{
    int r = table_get(call->db, &volume_table, sync->source_id, ret_source);

    if (r == 0) {
        r = table_get(call->db, &volume_table, sync->target_id, ret_target);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

/* What is given back is what was copied; the target may be larger. *ret_target's size becomes that. */
static int check_restore(struct call *call, const struct modification *mod,
                         const struct volume_row *source, struct volume_row *target)
{
    const struct sync_row *sync = &mod->sync;

    if (source->size_bytes > sync->copied_bytes && !mod->force) {
        return call_fail_param(
            call, ERR_INCOMPATIBLE, "Operation",
            "/volumes/%s has grown since it was copied (%llu bytes then, %llu now); "
            "Restore gives back the first %llu only. With Force it does so and "
            "leaves the rest as it is.",
            source->head.id, (unsigned long long)sync->copied_bytes,
            (unsigned long long)source->size_bytes, (unsigned long long)sync->copied_bytes);
    }
    if (target->size_bytes > sync->copied_bytes) {
        target->size_bytes = sync->copied_bytes;
    }
    return replica_check_pair(call, "Synchronization", target, "Synchronization", source, sync);
}

static int begin_job(struct call *call, const struct modification *mod, struct job_row *ret_job)
{
    const struct sync_row *sync = &mod->sync;
    struct job_new wanted = {
        .name = call->method->name,
        .owner = call->service->name,
        .element_name = "",
        .copy_priority = sync->copy_priority,
        .bandwidth_limit = sync->bandwidth_limit,
        .wait_for_copy_state = mod->terms.wait_for_copy_state,
        .operation = mod->operation,
        .continue_on_error = mod->terms.continue_on_error,
    };

    return job_create(call, &wanted, ret_job);
}

/* A copy from one side to the other. */
static int begin_copy(struct call *call, struct modification *mod, const struct volume_row *from,
                      const struct volume_row *to)
{
    struct sync_row *sync = &mod->sync;
    struct job_row job;
    int r = begin_job(call, mod, &job);

    if (r == 0) {
        r = job_add_copy(call, &job, 0, sync, from, to);
    }
    if (r == 0) {
        sync->requested_copy_state = mod->terms.wait_for_copy_state != 0
                                         ? mod->terms.wait_for_copy_state
                                         : STATE_NOT_APPLICABLE;
        sync->percent_synced = 0;
        r = store_sync(call, sync);
    }
    if (r == 0) {
        r = job_add_element(call, &job, "volumes", to->head.id, ELEMENT_EFFECT_INTEGRITY);
    }
    if (r == 0) {
        r = job_add_element(call, &job, "volumes", from->head.id, ELEMENT_EFFECT_PERFORMANCE);
    }
    return r < 0 ? r : job_started(call, &job);
}

/* Activate, Resync and Restore. */
static int start_copy(struct call *call, struct modification *mod, bool restore)
{
    struct sync_row *sync = &mod->sync;
    struct volume_row source;
    struct volume_row target;
    int r = volumes_of(call, sync, &source, &target);

    if (r < 0) {
        return r;
    }
    if (restore) {
        r = check_restore(call, mod, &source, &target);
        return r < 0 ? r : begin_copy(call, mod, &target, &source);
    }
    r = replica_check_pair(call, "Synchronization", &source, "Synchronization", &target, sync);
    sync->copied_bytes = source.size_bytes;
    return r < 0 ? r : begin_copy(call, mod, &source, &target);
}

/* ---- what is filled from its source ---- */

/* Activate and Resync: what is missing yet, of the source as it was taken; where nothing is, the target takes the source anew. */
static int start_filling(struct call *call, struct modification *mod)
{
    struct sync_row *sync = &mod->sync;
    struct volume_row source;
    struct volume_row target;
    struct layer_row oldest;
    int r = volumes_of(call, sync, &source, &target);

    if (r < 0) {
        return r;
    }
    r = hosted_filling(call->db, &target, &oldest);
    if (r < 0) {
        return call_fail_store(call, r);
    }
    if (r == 1) {
        r = replica_check_source(call, "Synchronization", &source);
        source.size_bytes = oldest.bottom_bytes;
    } else {
        r = replica_check_pair(call, "Synchronization", &source, "Synchronization", &target, sync);
        if (r == 0) {
            r = hosted_take(call, &source, &target);
        }
        sync->copied_bytes = source.size_bytes;
    }
    if (r < 0) {
        return r;
    }
    replica_fills_now(sync, control_now_ms(call->control));
    return begin_copy(call, mod, &source, &target);
}

/* ---- what shares layers ---- */

/* Activate and Resync: the target takes what the source reads now, and is as large. */
static int take_moment(struct call *call, struct modification *mod)
{
    struct sync_row *sync = &mod->sync;
    struct volume_row source;
    struct volume_row target;
    int r = volumes_of(call, sync, &source, &target);

    if (r == 0) {
        r = replica_check_source(call, "Synchronization", &source);
    }
    if (r == 0) {
        r = replica_check_idle(call, "Synchronization", &target);
    }
    if (r == 0 && target.size_bytes < source.size_bytes) {
        r = hosted_grow(call, &target, source.size_bytes);
    }
    if (r == 0) {
        r = hosted_refresh(call, &source, &target, sync->sync_type == SYNC_SNAPSHOT);
    }
    if (r < 0) {
        return r;
    }
    if (sync->temporary) {
        return sync_remove(call, sync);
    }
    replica_made_now(sync, control_now_ms(call->control));
    sync->copied_bytes = source.size_bytes;
    return store_sync(call, sync);
}

/* The source takes what the replica reads now, its own changes included; what the source had is kept beside it. */
static int give_back(struct call *call, struct modification *mod)
{
    struct sync_row *sync = &mod->sync;
    uint64_t activated_ms = sync->when_activated_ms;
    struct volume_row source;
    struct volume_row target;
    struct volume_row kept;
    int r = volumes_of(call, sync, &source, &target);

    if (r == 0) {
        r = replica_check_idle(call, "Synchronization", &source);
    }
    if (r == 0) {
        r = replica_check_source(call, "Synchronization", &target);
    }
    if (r == 0 && sync->sync_type == SYNC_SNAPSHOT && !target.watched) {
        /* Both are equal now; the next change makes it Skewed again. */
        target.watched = true;
        r = table_update(call->db, &volume_table, &target);
        r = r < 0 ? call_fail_store(call, r) : 0;
    }
    if (r == 0) {
        r = hosted_restore(call, &source, &target, NULL, &kept);
    }
    if (r == 0) {
        r = replica_target_changed(call, source.head.id);
    }
    if (r == 0) {
        r = hosted_unwatch(call, &source);
    }
    if (r < 0) {
        return r;
    }
    replica_made_now(sync, control_now_ms(call->control));
    sync->when_activated_ms = activated_ms;
    return store_sync(call, sync);
}

static int deactivate(struct call *call, struct modification *mod)
{
    struct sync_row *sync = &mod->sync;
    struct volume_row source;
    struct volume_row target;
    int r = volumes_of(call, sync, &source, &target);

    if (r == 0) {
        r = replica_check_idle(call, "Synchronization", &target);
    }
    if (r == 0) {
        r = hosted_blank(call, &target);
    }
    if (r < 0) {
        return r;
    }
    sync->copy_state = STATE_INACTIVE;
    sync->progress_status = PROGRESS_DORMANT;
    sync->percent_synced = 0;
    sync->when_deactivated_ms = control_now_ms(call->control);
    return store_sync(call, sync);
}

/* ---- ends ---- */

/* The target goes, and all that it is in. */
static int return_to_pool(struct call *call, struct modification *mod)
{
    struct volume_row target;
    int r = table_get(call->db, &volume_table, mod->sync.target_id, &target);

    if (r == 0 && target.kind == VOLUME_HOSTED) {
        r = volume_end_relationships(call, target.head.id, ERR_IN_USE);
        return r < 0 ? r : hosted_delete(call, &target);
    }
    r = sync_remove(call, &mod->sync);
    if (r < 0) {
        return r;
    }
    r = table_get(call->db, &volume_table, mod->sync.target_id, &target);
    if (r == -ENOENT) {
        return 0; /* it was not to be kept, and is forgotten */
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    r = volume_end_relationships(call, target.head.id, ERR_IN_USE);
    return r < 0 ? r : pool_give_back(call, &target);
}

static int end_relationship(struct call *call, struct modification *mod)
{
    return mod->operation == OPERATION_RETURN_TO_POOL ? return_to_pool(call, mod)
                                                      : sync_remove(call, &mod->sync);
}

static int abort_done(struct call *call)
{
    struct modification *mod = call->step_state;
    int r = reload(call, mod);

    if (r == 0 && mod->sync.copy_state != STATE_ABORTED) {
        r = refuse_state(call, mod, false);
    }
    return r;
}

static int operation_abort(struct call *call, struct modification *mod)
{
    struct copy_row copy;
    int r = sync_running_copy(call->db, mod->sync.head.id, &copy);

    if (r == -ENOENT) {
        mod->sync.copy_state = STATE_ABORTED;
        mod->sync.requested_copy_state = STATE_NOT_APPLICABLE;
        return store_sync(call, &mod->sync);
    }
    return r < 0 ? call_fail_store(call, r) : sync_copy_stop(call, mod->sync.head.id, abort_done);
}

static int operation_detach(struct call *call, struct modification *mod);

static int detach_done(struct call *call)
{
    struct modification *mod = call->step_state;
    int r = reload(call, mod);

    /* Another operation may have started a copy since: then that one is stopped too. */
    return r < 0 ? r : operation_detach(call, mod);
}

static int operation_detach(struct call *call, struct modification *mod)
{
    int r = 0;

    if (mod->operation == OPERATION_RETURN_TO_POOL) {
        r = volume_filling_stop(call, mod->sync.target_id, ERR_IN_USE, detach_done);
    }
    if (r == 0) {
        r = sync_copy_stop(call, mod->sync.head.id, detach_done);
    }
    return r != 0 ? r : end_relationship(call, mod);
}

static int suspend_done(struct call *call)
{
    struct modification *mod = call->step_state;
    int r = reload(call, mod);

    if (r == 0 && mod->sync.copy_state != STATE_SUSPENDED) {
        r = refuse_state(call, mod, false);
    }
    return r;
}

static int operation_suspend(struct call *call, struct modification *mod)
{
    struct copy_row copy;
    int r = sync_running_copy(call->db, mod->sync.head.id, &copy);

    if (r < 0) {
        return r == -ENOENT ? refuse_state(call, mod, false) : call_fail_store(call, r);
    }
    r = sync_copy_suspend(call, &copy, suspend_done);
    if (r != 0) {
        return r;
    }
    mod->sync.copy_state = STATE_SUSPENDED;
    mod->sync.progress_status = PROGRESS_DORMANT;
    mod->sync.when_suspended_ms = control_now_ms(call->control);
    r = store_sync(call, &mod->sync);
    return r < 0 ? r : job_review(call, copy.job_id);
}

/* The copy goes on; its job, or where that has ended a new one, answers for it. */
static int operation_resume(struct call *call, struct modification *mod)
{
    struct copy_row copy;
    struct job_row job;
    int r = sync_running_copy(call->db, mod->sync.head.id, &copy);

    if (r == 0) {
        r = table_get(call->db, &job_table, copy.job_id, &job);
    }
    if (r < 0) {
        return r == -ENOENT ? refuse_state(call, mod, false) : call_fail_store(call, r);
    }
    if (job.suspend_wanted) {
        char path[PATH_SIZE];

        snprintf(path, sizeof(path), "/jobs/%s", job.head.id);
        return call_fail_blocked(call, ERR_IN_USE, path,
                                 "%s is suspended too; start it first (RequestStateChange, Start).",
                                 path);
    }
    if (job_state_ended(job.state)) {
        r = begin_job(call, mod, &job);
        if (r < 0) {
            return r;
        }
        strcpy(copy.job_id, job.head.id);
        strcpy(mod->sync.job_id, job.head.id);
        r = table_update(call->db, &copy_table, &copy);
        if (r < 0) {
            return call_fail_store(call, r);
        }
    }
    r = sync_copy_resume(call, &copy);
    if (r == 0) {
        mod->sync.copy_state = STATE_UNSYNCHRONIZED;
        mod->sync.progress_status = PROGRESS_SYNCHRONIZING;
        mod->sync.when_activated_ms = control_now_ms(call->control);
        r = store_sync(call, &mod->sync);
    }
    return r < 0 ? r : job_started(call, &job);
}

/* 1: it is not filled yet. */
static int target_filling(struct call *call, const struct modification *mod)
{
    struct volume_row target;
    struct layer_row oldest;

    if (replica_engine_of(&mod->sync) != ENGINE_FILL) {
        return 0;
    }
    int r = table_get(call->db, &volume_table, mod->sync.target_id, &target);

    if (r == 0) {
        r = hosted_filling(call->db, &target, &oldest);
    }
    return r < 0 ? call_fail_store(call, r) : r;
}

/* Is a copy of it queued or running, though the state alone would allow the operation? */
static int check_busy(struct call *call, const struct modification *mod)
{
    struct copy_row copy;
    char path[PATH_SIZE];
    int r;

    switch (mod->operation) {
    case OPERATION_ABORT:
    case OPERATION_SUSPEND:
    case OPERATION_RESUME:
        return 0;
    case OPERATION_RETURN_TO_POOL: /* what is being filled is there, and can go: its copy is stopped first */
        r = target_filling(call, mod);
        if (r != 0) {
            return r < 0 ? r : 0;
        }
        break;
    case OPERATION_DETACH: /* while it copies it is legal with Force only, and ends the copy */
        if (mod->sync.copy_state == STATE_UNSYNCHRONIZED) {
            return 0;
        }
        break;
    default:
        break;
    }
    r = sync_running_copy(call->db, mod->sync.head.id, &copy);
    if (r == -ENOENT) {
        return 0;
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    snprintf(path, sizeof(path), "/jobs/%s", copy.job_id);
    return call_fail_blocked(call, ERR_IN_USE, path,
                             "%s works on this relationship; wait for it or abort it.", path);
}

static int modify(struct call *call, struct modification *mod);

static int mirror_again(struct call *call)
{
    struct modification *mod = call->step_state;
    int r = reload(call, mod);

    return r < 0 ? r : modify(call, mod);
}

static int modify_mirror(struct call *call, struct modification *mod)
{
    mod->mirror.sync = mod->sync;
    mod->mirror.operation = mod->operation;
    mod->mirror.force = mod->force;
    if (call->dry_run) {
        int r = mirror_dry_run(call, &mod->mirror, mod->again != NULL ? mod->again : mirror_again);

        if (r == 0 && mod->again == NULL) {
            outs_instance(call->outs, "DryRun", mod->mirror.told);
        }
        return r;
    }
    return mirror_operate(call, &mod->mirror, mod->again != NULL ? mod->again : mirror_again);
}

static int modify(struct call *call, struct modification *mod)
{
    struct sync_row *sync = &mod->sync;
    int r;

    switch (replica_verdict_of(sync, mod->operation)) {
    case VERDICT_NOT_SUPPORTED:
        return call_fail_param(call, ERR_NOT_SUPPORTED, "Operation",
                               "%s (%u) is not supported for a %s with CopyType %u.",
                               operation_text(mod), mod->legacy != 0 ? mod->legacy : mod->operation,
                               enum_text(&map_sync_type, sync->sync_type), sync->copy_type);
    case VERDICT_ILLEGAL:
        return refuse_state(call, mod, false);
    case VERDICT_NEEDS_FORCE:
        if (!mod->force) {
            return refuse_state(call, mod, true);
        }
        break;
    case VERDICT_LEGAL:
        break;
    }
    if (mod->operation == OPERATION_RESTORE || mod->operation == OPERATION_FAILBACK ||
        mod->operation == OPERATION_REVERSE_ROLES) {
        r = pipe_check_back(call, sync);
        if (r < 0) {
            return r;
        }
    }
    if (replica_is_mirror(sync)) {
        return modify_mirror(call, mod);
    }
    r = check_busy(call, mod);
    if (r < 0) {
        return r;
    }
    if (replica_engine_of(sync) == ENGINE_LAYERS) {
        switch (mod->operation) {
        case OPERATION_ACTIVATE:
        case OPERATION_RESYNC:
            return take_moment(call, mod);
        case OPERATION_RESTORE:
            return give_back(call, mod);
        case OPERATION_DEACTIVATE:
            return deactivate(call, mod);
        default: /* Abort and the ends are the same for all */
            break;
        }
    }
    switch (mod->operation) {
    case OPERATION_ABORT:
        return operation_abort(call, mod);
    case OPERATION_ACTIVATE:
    case OPERATION_RESYNC:
        return replica_engine_of(sync) == ENGINE_FILL ? start_filling(call, mod)
                                                      : start_copy(call, mod, false);
    case OPERATION_RESTORE:
        return start_copy(call, mod, true);
    case OPERATION_SUSPEND:
        return operation_suspend(call, mod);
    case OPERATION_RESUME:
        return operation_resume(call, mod);
    default:
        CHECK(replica_operation_removes(mod->operation));
        return operation_detach(call, mod);
    }
}

static int find_synchronization(struct call *call, struct modification *mod)
{
    return path_synchronization(call, "Synchronization", args_text(call->args, "Synchronization"),
                                &mod->sync);
}

/* ReadOnly 3: for the hosts of the target, from now on. */
static int set_read_only(struct call *call, struct modification *mod)
{
    struct volume_row source;
    struct volume_row target;

    if (mod->terms.read_only == 0 || mod->terms.read_only == mod->sync.read_only) {
        return 0;
    }
    if (replica_engine_of(&mod->sync) != ENGINE_LAYERS) {
        return call_fail_param(call, ERR_NOT_SUPPORTED, "ReplicationSettingData.ReadOnly",
                               "A target that is copied onto must be writable.");
    }
    int r = volumes_of(call, &mod->sync, &source, &target);

    if (r == 0) {
        r = hosted_set_read_only(call, &target, true);
    }
    mod->sync.read_only = mod->terms.read_only;
    return r < 0 ? r : store_sync(call, &mod->sync);
}

/* Another pipe, from the next time on that the elements are opened. */
static int set_pipe(struct call *call, struct modification *mod)
{
    struct volume_row source;
    struct volume_row target;

    if (mod->terms.pipe_id[0] == '\0' || strcmp(mod->terms.pipe_id, mod->sync.pipe_id) == 0) {
        return 0;
    }
    int r = volumes_of(call, &mod->sync, &source, &target);

    if (r == 0) {
        r = pipe_check_use(call, mod->terms.pipe_parameter, mod->terms.pipe_id, &source, &target);
    }
    if (r < 0) {
        return r;
    }
    memcpy(mod->sync.pipe_id, mod->terms.pipe_id, sizeof(mod->sync.pipe_id));
    if (call->dry_run) {
        return 0;
    }
    return store_sync(call, &mod->sync);
}

/* What the setting data of the call is for: a mirror whose mode it changes has that of the new one. */
static uint32_t mode_after(const struct modification *mod)
{
    switch (replica_is_mirror(&mod->sync) ? mod->operation : 0) {
    case OPERATION_RESET_TO_SYNC:
        return MODE_SYNCHRONOUS;
    case OPERATION_RESET_TO_ASYNC:
        return MODE_ASYNCHRONOUS;
    default:
        return mod->sync.mode;
    }
}

int modification_prepare(struct call *call, struct modification *mod)
{
    int r;

    mod->terms.sync_type = mod->sync.sync_type;
    mod->terms.engine = replica_engine_of(&mod->sync);
    mod->terms.copy_priority = mod->sync.copy_priority;
    r = replica_check_setting_data(call, "ReplicationSettingData", mod->sync.sync_type,
                                   mode_after(mod), mod->sync.remote);
    if (r == 0) {
        r = replica_terms_setting_data(call, "ReplicationSettingData", &mod->terms);
    }
    if (r == 0 && replica_operation_supported(mod->sync.sync_type, replica_engine_of(&mod->sync),
                                              mod->operation)) {
        r = replica_terms_wait(call, mod->operation, &mod->terms);
    }
    if (r < 0) {
        return r;
    }
    r = set_read_only(call, mod);
    if (r == 0) {
        r = set_pipe(call, mod);
    }
    if (r < 0) {
        return r;
    }
    if (args_present(call->args, "ReplicationSettingData")) {
        mod->sync.copy_priority = mod->terms.copy_priority;
        mod->sync.bandwidth_limit = mod->terms.bandwidth_limit;
        mod->sync.verify = mod->terms.verify;
    }
    if (args_present(call->args, "ReplicationSettingData") && replica_is_mirror(&mod->sync)) {
        mod->sync.copy_recovery_mode = mod->terms.copy_recovery_mode;
        mod->sync.failed_copy_stops_host_io = mod->terms.failed_copy_stops_host_io;
        mod->sync.delta_update_interval_ms = mod->terms.delta_update_interval_ms;
        mod->sync.delta_update_blocks = mod->terms.delta_update_blocks;
        mod->sync.desired_rpo_ms = mod->terms.desired_rpo_ms;
    }
    return 0;
}

int modification_do(struct call *call, struct modification *mod)
{
    return modify(call, mod);
}

int modification_refuse_dry_run(struct call *call)
{
    return call_fail_param(call, ERR_NOT_SUPPORTED, "Synchronization",
                           "dryRun tells what operations on mirrors would move; clones and snapshots "
                           "have none, and neither have operations on groups that move nothing.");
}

static int modify_replica_synchronization(struct call *call)
{
    struct modification *mod = arena_alloc(&call->arena, sizeof(*mod));
    int r;

    if (path_is_group_sync(args_text(call->args, "Synchronization"))) {
        return group_modify(call);
    }
    call->step_state = mod;
    mod->operation = (uint32_t)args_number(call->args, "Operation", 0);
    mod->force = args_bool(call->args, "Force", false);
    r = find_synchronization(call, mod);
    if (r < 0) {
        return r;
    }
    if (args_present(call->args, "SyncPair")) {
        return call_fail_param(call, ERR_BAD_VALUE, "SyncPair",
                               "SyncPair goes with AddSyncPair and RemoveSyncPair of groups only.");
    }
    if (call->dry_run && !replica_is_mirror(&mod->sync)) {
        return modification_refuse_dry_run(call);
    }
    r = modification_prepare(call, mod);
    return r < 0 ? r : modify(call, mod);
}

int method_modify_replica_synchronization(struct call *call)
{
    return hosted_run(call, modify_replica_synchronization);
}

static int modify_synchronization(struct call *call)
{
    struct modification *mod = arena_alloc(&call->arena, sizeof(*mod));
    uint64_t number = args_number(call->args, "Operation", 0);

    call->step_state = mod;
    mod->operation = replica_legacy_operation((uint32_t)number);
    mod->legacy = (uint32_t)number;
    int r = find_synchronization(call, mod);

    return r < 0 ? r : modify(call, mod);
}

int method_modify_synchronization(struct call *call)
{
    return hosted_run(call, modify_synchronization);
}
