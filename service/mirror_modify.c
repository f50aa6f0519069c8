// SPDX-License-Identifier: Apache-2.0
#include "service/mirror_modify.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "service/classes.h"
#include "service/hosted.h"
#include "service/jobs.h"
#include "service/mirror_records.h"
#include "service/replica.h"
#include "service/volumes.h"

/* How long hosts' writes may take to come to the target before a split is given up. */
enum { SPLIT_TIMEOUT_MS = MIRROR_SPLIT_TIMEOUT_MS };

static int store(struct call *call, const struct sync_row *sync)
{
    int r = table_update(call->db, &sync_table, sync);

    return r < 0 ? call_fail_store(call, r) : 0;
}

struct sides {
    struct volume_row source;
    struct volume_row target;
};

static int sides_of(struct call *call, const struct sync_row *sync, struct sides *ret_sides)
{
    int r = table_get(call->db, &volume_table, sync->source_id, &ret_sides->source);

    if (r == 0) {
        r = table_get(call->db, &volume_table, sync->target_id, &ret_sides->target);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

/* ---- shared ---- */

/* What hosts did with a target of another system nobody has tracked. */
static void anything_differs(struct sync_row *sync)
{
    sync->map_state = MAP_ALL;
    sync->map_generation++;
}

static int leave_target(struct call *call, struct sync_row *sync, const struct sides *sides)
{
    struct volume_row target;

    if (!replica_mirror_target_free(sync->copy_state)) {
        return 0;
    }
    if (sides->target.kind == VOLUME_REMOTE) {
        anything_differs(sync);
        return 0;
    }
    int r = table_get(call->db, &volume_table, sync->target_id, &target);

    return r < 0 ? call_fail_store(call, r) : hosted_unwatch(call, &target);
}

/* It rests in that state from now on. */
static int rest(struct call *call, struct sync_row *sync, uint32_t copy_state,
                uint32_t progress_status, uint32_t copy_row_state)
{
    int r = mirror_job_end(call, sync, copy_row_state, NULL);

    sync->copy_state = copy_state;
    sync->progress_status = progress_status;
    sync->requested_copy_state = STATE_NOT_APPLICABLE;
    sync->problem[0] = '\0'; /* of what it does no more */
    sync->revision++;
    if (r == 0) {
        r = store(call, sync);
    }
    if (r == 0) {
        r = mirror_guard_volumes(call, sync);
    }
    if (r == 0) {
        mirror_apply(call, sync);
    }
    return r;
}

static int flow(struct call *call, struct sync_row *sync, uint32_t progress_status,
                bool from_target)
{
    int r = mirror_flows(call, sync, progress_status, from_target);

    if (r == 0) {
        r = mirror_guard_volumes(call, sync);
    }
    if (r == 0) {
        mirror_apply(call, sync);
    }
    return r;
}

/* What the side has now is kept beside it, before the other one is copied over it. */
static int keep(struct call *call, const struct volume_row *volume, const char *why)
{
    char base[NAME_SIZE + 24];
    char name[NAME_SIZE];
    struct volume_row kept;

    if (volume->kind != VOLUME_HOSTED) {
        return 0;
    }
    snprintf(base, sizeof(base), "%.220s-before-%s", volume->element_name, why);
    int r = volume_unique_name(call, base, true, name);

    return r < 0 ? r : hosted_derive(call, volume, name, false, false, &kept);
}

static int check_sides(struct call *call, const struct sync_row *sync, const struct sides *sides)
{
    struct volume_row target = sides->target;

    target.guarded = false;
    return replica_check_pair(call, "Synchronization", &sides->source, "Synchronization", &target,
                              sync);
}

/* Both may have grown while they were parted. */
static int check_size(struct call *call, const struct sync_row *sync)
{
    struct sides sides;
    int r = sides_of(call, sync, &sides);

    if (r == 0 && sides.target.size_bytes < sides.source.size_bytes) {
        r = call_fail_param(call, ERR_TARGET_TOO_SMALL, "Synchronization",
                            "/volumes/%s has %llu bytes, the source %llu; the target must not be "
                            "smaller. Make it as large first.",
                            sides.target.head.id, (unsigned long long)sides.target.size_bytes,
                            (unsigned long long)sides.source.size_bytes);
    }
    return r;
}

/* ---- data flows ---- */

static int activate(struct call *call, struct sync_row *sync)
{
    struct sides sides;
    int r = sides_of(call, sync, &sides);

    if (r == 0) {
        r = check_sides(call, sync, &sides);
    }
    sync->copied_bytes = sides.source.size_bytes;
    return r < 0 ? r : flow(call, sync, PROGRESS_SYNCHRONIZING, false);
}

static int resume(struct call *call, struct sync_row *sync)
{
    bool back = sync->source_incomplete;
    int r = check_size(call, sync);

    return r < 0 ? r : flow(call, sync, back ? PROGRESS_RESTORING : PROGRESS_SYNCHRONIZING, back);
}

static int resync(struct call *call, struct mirror_operation *op)
{
    struct sync_row *sync = &op->sync;
    struct sides sides;
    int r = sides_of(call, sync, &sides);

    if (r == 0) {
        r = check_sides(call, sync, &sides);
    }
    if (r == 0 && replica_mirror_target_free(sync->copy_state) && !sides.target.watched) {
        r = keep(call, &sides.target, "resync"); /* its hosts have changed it */
    }
    if (r == 0) {
        r = leave_target(call, sync, &sides);
    }
    if (r < 0) {
        return r;
    }
    sync->copied_bytes = sides.source.size_bytes;
    return flow(call, sync, PROGRESS_RESYNCING, false);
}

/* Restore and Failback: what the source has is given up, and kept. */
static int give_back(struct call *call, struct mirror_operation *op)
{
    struct sync_row *sync = &op->sync;
    bool failback = op->operation == OPERATION_FAILBACK;
    struct sides sides;
    int r = sides_of(call, sync, &sides);

    if (r == 0 && sync->source_incomplete) {
        r = replica_check_back(call, "Synchronization", sync, &sides.source, &sides.target);
    } else if (r == 0) {
        r = check_sides(call, sync, &sides);
    }
    if (r == 0 && !sync->source_incomplete) {
        r = keep(call, &sides.source, failback ? "failback" : "restore");
    }
    if (r == 0) {
        r = leave_target(call, sync, &sides);
    }
    if (r < 0) {
        return r;
    }
    sync->copied_bytes = sides.source.size_bytes;
    return flow(call, sync, failback ? PROGRESS_FAILING_BACK : PROGRESS_RESTORING, true);
}

/* ---- parting ---- */

/* Before an operation that needs both sides equal and at rest. */
static int part(struct call *call, struct mirror_operation *op, bool guard, method_fn again)
{
    if (!op->parted) {
        op->parted = true;
        int r =
            mirror_split_first(call, &op->sync, guard, SPLIT_TIMEOUT_MS, &op->parted_error, again);

        if (r != CALL_PENDING) {
            op->parted = false;
        }
        return r;
    }
    if (op->parted_error.code == ERR_NONE) {
        return 0;
    }
    return call_fail(call, op->parted_error.code == ERR_TIMEOUT ? ERR_TIMEOUT : ERR_ILLEGAL_STATE,
                     "Both sides could not be brought to one moment: %.300s",
                     op->parted_error.detail);
}

static int part_hosts(struct call *call, struct sync_row *sync, uint32_t copy_state)
{
    struct sides sides;
    int r = sides_of(call, sync, &sides);

    if (r == 0 && sides.target.kind == VOLUME_HOSTED) {
        sync->target_tracked = true;
        r = hosted_watch(call, &sides.target);
    }
    if (r == 0) {
        r = rest(call, sync, copy_state, PROGRESS_COMPLETED, COPY_ROW_CANCELLED);
    }
    return r;
}

static int failover(struct call *call, struct mirror_operation *op, method_fn again)
{
    struct sync_row *sync = &op->sync;
    bool free_before = replica_mirror_target_free(sync->copy_state);
    int r = sync->copy_state == STATE_SYNCHRONIZED ? part(call, op, true, again) : 0;

    if (r != 0) {
        return r;
    }
    /* What was on its way back is on the target, too. */
    sync->source_incomplete = false;
    return free_before ? rest(call, sync, STATE_FAILEDOVER, PROGRESS_COMPLETED, COPY_ROW_CANCELLED)
                       : part_hosts(call, sync, STATE_FAILEDOVER);
}

/* ---- roles ---- */

static int check_reverse(struct call *call, const struct sync_row *sync, const struct sides *sides)
{
    if (sides->target.kind != VOLUME_HOSTED) {
        return call_fail_param(call, ERR_NOT_SUPPORTED, "Operation",
                               "/volumes/%s is a LUN of another system, whose hosts write past "
                               "smirror: it cannot be the source of a mirror. Failover (10) and "
                               "Failback (11) can use it for a while.",
                               sides->target.head.id);
    }
    struct volume_row source = sides->source;

    return replica_check_pair(call, "Synchronization", &sides->target, "Synchronization", &source,
                              sync);
}

static int reverse_roles(struct call *call, struct mirror_operation *op, method_fn again)
{
    struct sync_row *sync = &op->sync;
    struct sides sides;
    char source_id[ID_SIZE];
    int r = sides_of(call, sync, &sides);

    if (r == 0) {
        r = check_reverse(call, sync, &sides);
    }
    if (r == 0) {
        r = part(call, op, true, again);
    }
    if (r != 0) {
        return r;
    }
    /* Nothing differs, and nothing is written to either side until the new source is served. */
    strcpy(source_id, sync->source_id);
    strcpy(sync->source_id, sync->target_id);
    strcpy(sync->target_id, source_id);
    sync->map_state = MAP_EQUAL;
    sync->map_generation++;
    sync->copied_bytes = sides.target.size_bytes;
    if (values_param(call->outs, "UpdatedSynchronization") != NULL) {
        outs_path(call->outs, "UpdatedSynchronization", "/synchronizations/%s", sync->head.id);
    }
    r = flow(call, sync, PROGRESS_RESYNCING, false);
    if (r == 0 && sides.source.kind == VOLUME_HOSTED && replica_engine_of(sync) == ENGINE_ASYNC) {
        r = mirror_guard_source(call, sync); /* what they write has to be above the first cut */
    }
    return r;
}

static int check_reset(struct call *call, const struct sync_row *sync, uint32_t mode)
{
    enum replica_engine engine = mode == MODE_ASYNCHRONOUS ? ENGINE_ASYNC : ENGINE_MIRROR;

    if (!replica_engine_possible(SYNC_MIRROR, mode, sync->remote, engine)) {
        return call_fail_param(call, ERR_NOT_SUPPORTED, "Operation",
                               "Asynchronous mirrors are not made by this version.");
    }
    if (engine == ENGINE_MIRROR) {
        struct volume_row source;
        int got = table_get(call->db, &volume_table, sync->source_id, &source);

        if (got < 0) {
            return call_fail_store(call, got);
        }
        if (source.kind != VOLUME_HOSTED) {
            return call_fail_param(call, ERR_NOT_SUPPORTED, "Operation",
                                   "/volumes/%s is a LUN of another system, whose hosts write past "
                                   "smirror: their writes cannot be mirrored as they come.",
                                   source.head.id);
        }
    }
    return 0;
}

int mirror_reset(struct call *call, struct sync_row *sync, uint32_t mode)
{
    enum replica_engine engine = mode == MODE_ASYNCHRONOUS ? ENGINE_ASYNC : ENGINE_MIRROR;

    if (sync->mode == mode) {
        return 0;
    }
    int r = check_reset(call, sync, mode);

    if (r < 0) {
        return r;
    }
    sync->mode = mode;
    sync->moment = 0;
    sync->copy_type = mode == MODE_ASYNCHRONOUS ? COPY_ASYNC : COPY_SYNC;
    sync->copy_methodology = replica_methodology(engine);
    sync->revision++;
    anything_differs(sync);
    if (engine == ENGINE_MIRROR && sync->copy_state == STATE_SYNCHRONIZED) {
        sync->copy_state = STATE_UNSYNCHRONIZED; /* what came after the last cycle is missing */
        sync->progress_status = PROGRESS_RESYNCING;
    }
    r = store(call, sync);
    if (r == 0) {
        mirror_apply(call, sync);
    }
    return r;
}

/* The mode that it has: only what else the call says. */
static int reset(struct call *call, struct sync_row *sync, uint32_t mode)
{
    if (sync->mode != mode || !args_present(call->args, "ReplicationSettingData")) {
        return mirror_reset(call, sync, mode);
    }
    int r = store(call, sync);

    if (r == 0) {
        mirror_apply(call, sync);
    }
    return r;
}

/* ---- all ---- */

static int prepare(struct call *call, struct sync_row *sync)
{
    struct sides sides;
    int r = sides_of(call, sync, &sides);

    if (r == 0) {
        r = leave_target(call, sync, &sides);
    }
    if (r < 0) {
        return r;
    }
    return rest(call, sync, STATE_PREPARED, PROGRESS_COMPLETED, COPY_ROW_CANCELLED);
}

static int split(struct call *call, struct mirror_operation *op, method_fn again)
{
    int r = part(call, op, false, again);

    return r != 0 ? r : part_hosts(call, &op->sync, STATE_SPLIT);
}

int mirror_operate(struct call *call, struct mirror_operation *op, method_fn again)
{
    struct sync_row *sync = &op->sync;
    uint64_t now = control_now_ms(call->control);

    switch (op->operation) {
    case OPERATION_ABORT:
        return rest(call, sync, STATE_ABORTED, PROGRESS_COMPLETED, COPY_ROW_CANCELLED);
    case OPERATION_ACTIVATE:
        return activate(call, sync);
    case OPERATION_DEACTIVATE:
        sync->when_deactivated_ms = now;
        return rest(call, sync, STATE_INACTIVE, PROGRESS_DORMANT, COPY_ROW_CANCELLED);
    case OPERATION_DETACH:
    case OPERATION_DISSOLVE:
        return sync_remove(call, sync);
    case OPERATION_FAILOVER:
        return failover(call, op, again);
    case OPERATION_FAILBACK:
    case OPERATION_RESTORE:
        return give_back(call, op);
    case OPERATION_FRACTURE:
        return part_hosts(call, sync, STATE_FRACTURED);
    case OPERATION_RESYNC:
        return resync(call, op);
    case OPERATION_RESUME:
        return resume(call, sync);
    case OPERATION_RESET_TO_SYNC:
        return reset(call, sync, MODE_SYNCHRONOUS);
    case OPERATION_RESET_TO_ASYNC:
        return reset(call, sync, MODE_ASYNCHRONOUS);
    case OPERATION_REVERSE_ROLES:
        return reverse_roles(call, op, again);
    case OPERATION_SPLIT:
        return split(call, op, again);
    case OPERATION_SUSPEND:
        sync->when_suspended_ms = now;
        return rest(call, sync, STATE_SUSPENDED, PROGRESS_DORMANT, COPY_ROW_SUSPENDED);
    default:
        CHECK(op->operation == OPERATION_PREPARE || op->operation == OPERATION_UNPREPARE);
        return prepare(call, sync);
    }
}

/* ---- ?dryRun ---- */

struct looking {
    struct call *call;
    method_fn again;
    bool asking; /* the call is not pending yet */
    bool over;
};

static void looked(void *arg)
{
    struct looking *looking = arg;

    looking->over = true;
    if (!looking->asking) {
        call_resume(looking->call, looking->again);
    }
}

static uint32_t state_after(const struct mirror_operation *op)
{
    switch (op->operation) {
    case OPERATION_ABORT:
        return STATE_ABORTED;
    case OPERATION_DEACTIVATE:
        return STATE_INACTIVE;
    case OPERATION_DETACH:
    case OPERATION_DISSOLVE:
        return STATE_NOT_APPLICABLE;
    case OPERATION_FAILOVER:
        return STATE_FAILEDOVER;
    case OPERATION_FRACTURE:
        return STATE_FRACTURED;
    case OPERATION_SPLIT:
        return STATE_SPLIT;
    case OPERATION_SUSPEND:
        return STATE_SUSPENDED;
    case OPERATION_PREPARE:
    case OPERATION_UNPREPARE:
        return STATE_PREPARED;
    case OPERATION_RESET_TO_SYNC:
    case OPERATION_RESET_TO_ASYNC:
        return op->sync.copy_state;
    default:
        return STATE_SYNCHRONIZED;
    }
}

/* Does data flow after the operation, and *ret_back: from the target? */
static bool flows_after(const struct mirror_operation *op, bool *ret_back)
{
    *ret_back = op->operation == OPERATION_RESTORE || op->operation == OPERATION_FAILBACK ||
                (op->operation == OPERATION_RESUME && op->sync.source_incomplete);
    return *ret_back || op->operation == OPERATION_ACTIVATE || op->operation == OPERATION_RESYNC ||
           op->operation == OPERATION_RESUME;
}

/* What the operation itself would refuse. */
static int check_operation(struct call *call, const struct mirror_operation *op)
{
    const struct sync_row *sync = &op->sync;
    struct sides sides;
    int r = sides_of(call, sync, &sides);

    if (r < 0) {
        return r;
    }
    switch (op->operation) {
    case OPERATION_ACTIVATE:
    case OPERATION_FAILBACK:
    case OPERATION_RESTORE:
    case OPERATION_RESYNC:
        return check_sides(call, sync, &sides);
    case OPERATION_RESUME:
        return check_size(call, sync);
    case OPERATION_REVERSE_ROLES:
        return check_reverse(call, sync, &sides);
    case OPERATION_RESET_TO_SYNC:
        return sync->mode == MODE_SYNCHRONOUS ? 0 : check_reset(call, sync, MODE_SYNCHRONOUS);
    case OPERATION_RESET_TO_ASYNC:
        return sync->mode == MODE_ASYNCHRONOUS ? 0 : check_reset(call, sync, MODE_ASYNCHRONOUS);
    default:
        return 0;
    }
}

static int tell_flow(struct call *call, const struct mirror_operation *op, struct values *told,
                     bool back)
{
    const struct sync_row *sync = &op->sync;
    struct mirror_run *run = mirror_run_find(call->control, sync->head.id);
    struct mirror_would would = {.bytes = UINT64_MAX, .discarded = UINT64_MAX, .reason = "Full"};
    struct sides sides;
    int r = sides_of(call, sync, &sides);

    if (r < 0) {
        return r;
    }
    uint64_t size = sides.source.size_bytes;

    if (run != NULL) {
        run->driver->would_move(run, back, &would);
    }
    if (replica_engine_of(sync) == ENGINE_MIRROR && sides.target.kind == VOLUME_REMOTE &&
        replica_mirror_target_free(sync->copy_state)) {
        would.bytes = UINT64_MAX; /* nobody has tracked its hosts */
        would.reason = "Full";
        would.discarded = back ? would.discarded : UINT64_MAX;
    }
    outs_number(told, "Overwritten", back ? 2 : 3);
    outs_number(told, "BytesToCopy", would.bytes < size ? would.bytes : size);
    outs_text(told, "Reason", would.reason);
    if (would.discarded != UINT64_MAX) {
        outs_number(told, "BytesDiscarded", would.discarded < size ? would.discarded : size);
    }
    return 0;
}

/* A last cycle goes before it. */
static bool flows_before(const struct mirror_operation *op)
{
    return replica_engine_of(&op->sync) == ENGINE_ASYNC &&
           (op->operation == OPERATION_SPLIT ||
            (op->sync.copy_state == STATE_SYNCHRONIZED &&
             (op->operation == OPERATION_FAILOVER || op->operation == OPERATION_REVERSE_ROLES)));
}

int mirror_dry_run(struct call *call, struct mirror_operation *op, method_fn again)
{
    struct mirror_run *run = mirror_run_find(call->control, op->sync.head.id);
    bool back;
    int r = check_operation(call, op);

    if (r < 0) {
        return r;
    }
    if (!op->looked && run != NULL && run->driver->look != NULL) {
        struct looking *looking = arena_alloc(&call->arena, sizeof(*looking));

        *looking = (struct looking){call, again, true, false};
        op->looked = true;
        run->driver->look(run, looked, looking);
        looking->asking = false;
        if (!looking->over) {
            return CALL_PENDING;
        }
    }
    struct values *told = values_new(&call->arena, class_DryRun.params, class_DryRun.n_params);

    outs_path(told, "Synchronization", "/synchronizations/%s", op->sync.head.id);
    outs_number(told, "CopyState", state_after(op));
    if (flows_after(op, &back) || flows_before(op)) {
        r = tell_flow(call, op, told, back);
    } else {
        outs_number(told, "BytesToCopy", 0);
        outs_number(told, "BytesDiscarded", 0);
    }
    op->told = told;
    return r;
}
