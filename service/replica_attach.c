// SPDX-License-Identifier: Apache-2.0
/*
 * AttachReplica and AttachOrModifyReplica: two volumes that exist become source and target, or what relates them already is changed.
 */
#include <errno.h>
#include <string.h>

#include "service/handlers.h"
#include "service/hosted.h"
#include "service/mirror_modify.h"
#include "service/mirror_records.h"
#include "service/paths.h"
#include "service/pipes.h"
#include "service/replica_pairs.h"
#include "service/replica_states.h"
#include "service/settings.h"

/* What AttachReplica and the creating half of AttachOrModifyReplica share. */
static int attach(struct call *call, const struct replica_terms *terms, struct pair *pair)
{
    int r = pairs_complete(call, terms, NULL, pair);

    if (r == 0) {
        r = replica_check_pair(call, "SourceElement", &pair->source, "TargetElement", &pair->target,
                               NULL);
    }
    if (r == 0) {
        r = pairs_check_sharing(call, pair, 0);
    }
    if (r == 0) {
        r = pairs_make(call, NULL, pair, 1);
    }
    return r < 0 ? r : pairs_start(call, terms, pair, 1, NULL);
}

static int attach_elements(struct call *call, struct pair *pair)
{
    int r =
        path_volume(call, "SourceElement", args_text(call->args, "SourceElement"), &pair->source);

    return r < 0 ? r
                 : path_volume(call, "TargetElement", args_text(call->args, "TargetElement"),
                               &pair->target);
}

static int attach_replica(struct call *call)
{
    struct replica_terms terms;
    struct pair pair = {.source_parameter = "SourceElement", .target_parameter = "TargetElement"};
    int r =
        replica_terms_of_copy_type(call, (uint32_t)args_number(call->args, "CopyType", 0), &terms);

    if (r == 0) {
        r = attach_elements(call, &pair);
    }
    return r < 0 ? r : attach(call, &terms, &pair);
}

int method_attach_replica(struct call *call)
{
    return hosted_run(call, attach_replica);
}

/* ---- a pair that is related already ---- */

struct limits_effect {
    char sync_id[ID_SIZE];
    uint32_t priority;
    uint64_t bandwidth_limit;
};

static void limits_effect(struct control *control, void *arg)
{
    const struct limits_effect *limits = arg;

    jobs_set_limits(control_jobs(control), limits->sync_id, limits->priority,
                    limits->bandwidth_limit);
}

/* Sync and Async can be changed into each other where an operation could (Reset To Sync, Reset To Async). */
static int modify_mirror(struct call *call, const struct replica_terms *terms,
                         struct volume_row *target, struct sync_row *sync)
{
    uint32_t operation =
        terms->copy_type == COPY_ASYNC ? OPERATION_RESET_TO_ASYNC : OPERATION_RESET_TO_SYNC;
    int r = 0;

    if (sync->copy_type != terms->copy_type &&
        replica_verdict_of(sync, operation) != VERDICT_LEGAL) {
        return call_fail_param(
            call, ERR_ILLEGAL_STATE, "CopyType",
            "CopyType of /synchronizations/%s cannot be changed while CopyState is "
            "%s (%u).",
            sync->head.id, enum_text(&map_copy_state, sync->copy_state), sync->copy_state);
    }
    if (args_present(call->args, "Goal")) {
        r = setting_apply_goal(call, "Goal", terms, target);
        sync->copy_priority = terms->copy_priority;
        sync->bandwidth_limit = terms->bandwidth_limit;
    }
    if (r == 0) {
        r = mirror_reset(call, sync, terms->mode);
    }
    if (r == 0 && args_present(call->args, "Goal")) {
        r = table_update(call->db, &sync_table, sync);
        mirror_apply(call, sync);
        r = r < 0 ? call_fail_store(call, r) : 0;
    }
    return r;
}

/* Another pipe, from the next time on that the elements are opened. */
static int change_pipe(struct call *call, const struct replica_terms *terms, struct pair *pair,
                       struct sync_row *sync)
{
    if (terms->pipe_id[0] == '\0' || strcmp(terms->pipe_id, sync->pipe_id) == 0) {
        return 0;
    }
    int r = pipe_check_use(call, "ReplicationPipe", terms->pipe_id, &pair->source, &pair->target);

    if (r < 0) {
        return r;
    }
    memcpy(sync->pipe_id, terms->pipe_id, sizeof(sync->pipe_id));
    r = table_update(call->db, &sync_table, sync);
    return r < 0 ? call_fail_store(call, r) : 0;
}

/* A11, A12: the pair is related already. */
static int modify_attached(struct call *call, const struct replica_terms *terms, struct pair *pair,
                           struct sync_row *sync)
{
    struct volume_row *target = &pair->target;
    struct limits_effect limits;
    struct copy_row copy;
    struct job_row job;

    if (replica_is_mirror(sync) && terms->sync_type == SYNC_MIRROR) {
        int changed = change_pipe(call, terms, pair, sync);

        return changed < 0 ? changed : modify_mirror(call, terms, target, sync);
    }
    if (sync->copy_type != terms->copy_type) {
        return call_fail_param(call, ERR_BAD_VALUE, "CopyType",
                               "/synchronizations/%s has CopyType %u (%s); only 2 and 3 can be "
                               "changed into each other.",
                               sync->head.id, sync->copy_type,
                               enum_text(&map_copy_type, sync->copy_type));
    }
    int r = change_pipe(call, terms, pair, sync);

    if (r < 0 || !args_present(call->args, "Goal")) {
        return r;
    }
    r = setting_apply_goal(call, "Goal", terms, target);

    if (r < 0) {
        return r;
    }
    if ((sync->copy_priority == terms->copy_priority &&
         sync->bandwidth_limit == terms->bandwidth_limit && sync->verify == terms->verify)) {
        return 0;
    }
    sync->copy_priority = terms->copy_priority;
    sync->bandwidth_limit = terms->bandwidth_limit;
    sync->verify = terms->verify;
    r = table_update(call->db, &sync_table, sync);
    if (r == 0 && sync_running_copy(call->db, sync->head.id, &copy) == 0 &&
        table_get(call->db, &job_table, copy.job_id, &job) == 0) {
        job.copy_priority = terms->copy_priority;
        job.bandwidth_limit = terms->bandwidth_limit;
        copy.urgency = job_urgency(terms->copy_priority);
        r = table_update(call->db, &job_table, &job);
        if (r == 0) {
            r = table_update(call->db, &copy_table, &copy);
        }
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    memcpy(limits.sync_id, sync->head.id, ID_SIZE);
    limits.priority = terms->copy_priority;
    limits.bandwidth_limit = terms->bandwidth_limit;
    control_effect(call->control, limits_effect, &limits, sizeof(limits));
    return 0;
}

static int attach_or_modify_replica(struct call *call)
{
    struct replica_terms terms;
    struct pair pair = {.source_parameter = "SourceElement", .target_parameter = "TargetElement"};
    struct sync_row sync;
    uint32_t copy_type = (uint32_t)args_number(call->args, "CopyType", 0);
    int r;

    if (args_present(call->args, "ReplicationPipe") && copy_type >= COPY_UNSYNC_ASSOC) {
        return call_fail_param(call, ERR_BAD_VALUE, "CopyType",
                               "CopyType %u (%s) makes a copy, not a remote mirror; it takes no "
                               "ReplicationPipe.",
                               copy_type, enum_text(&map_copy_type, copy_type));
    }
    r = replica_terms_of_copy_type(call, copy_type, &terms);
    if (r == 0) {
        r = replica_terms_goal(call, "Goal", &terms);
    }
    if (r == 0) {
        r = attach_elements(call, &pair);
    }
    if (r == 0) {
        r = replica_terms_pipe(call, "ReplicationPipe", args_text(call->args, "ReplicationPipe"),
                               &terms);
    }
    if (r < 0) {
        return r;
    }
    r = sync_find_pair(call->db, pair.source.head.id, pair.target.head.id, &sync);
    if (r == -ENOENT) {
        return attach(call, &terms, &pair);
    }
    return r < 0 ? call_fail_store(call, r) : modify_attached(call, &terms, &pair, &sync);
}

int method_attach_or_modify_replica(struct call *call)
{
    return hosted_run(call, attach_or_modify_replica);
}
