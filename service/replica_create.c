// SPDX-License-Identifier: Apache-2.0
/*
 * The methods that make replicas. All are the same three steps for one or several pairs:
 *
 *     terms     what is asked for: CopyType or SyncType, setting data, waits
 *     pairs     which source onto which target: given, or taken from a pool; each completes its terms, and everything is
 *               checked before anything is made
 *     creation  relationships; what shares layers is there at once, and for the rest, unless nothing is to flow yet, there
 *               is one job with a copy for each (what is filled by it is there at once, too)
 *
 * New hosted volumes need files, so that each body may run twice (service/hosted.h).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "service/group_states.h"
#include "service/groups.h"
#include "service/handlers.h"
#include "service/hosted.h"
#include "service/mirror_modify.h"
#include "service/mirror_records.h"
#include "service/paths.h"
#include "service/pipes.h"
#include "service/pools.h"
#include "service/replica_pairs.h"
#include "service/replica_states.h"
#include "service/settings.h"
#include "service/volumes.h"

static bool shares_layers(const struct pair *pair)
{
    return pair->terms.engine == ENGINE_LAYERS;
}

/* It is there at once, and its copy fills it. */
static bool fills(const struct pair *pair)
{
    return pair->terms.engine == ENGINE_FILL;
}

/* A clone that shares layers and is not to stay related is a volume of its own at once. */
static bool stays_related(const struct pair *pair)
{
    return !(pair->terms.temporary && pair->terms.start && shares_layers(pair));
}

static bool needs_copy(const struct pair *pair)
{
    return pair->terms.start && !shares_layers(pair);
}

static int check_name(struct call *call, const char *parameter, const char *name)
{
    if (name != NULL && (name[0] == '\0' || strlen(name) > ELEMENT_NAME_MAX)) {
        return call_fail_param(call, ERR_BAD_VALUE, parameter,
                               "%s must have 1 to %d bytes, or be left out for a name of ours.",
                               parameter, ELEMENT_NAME_MAX);
    }
    return 0;
}

/* ---- creation ---- */

/* What the relationship is before any data has moved, or at once where none has to. */
static void sync_begin(const struct replica_terms *terms, uint64_t now, struct sync_row *sync)
{
    bool inactive = terms->wait_for_copy_state == STATE_INACTIVE;

    sync->requested_copy_state = STATE_NOT_APPLICABLE;
    if (terms->start && terms->engine == ENGINE_LAYERS) {
        replica_made_now(sync, now);
        return;
    }
    sync->copy_state = inactive ? STATE_INACTIVE : STATE_INITIALIZED;
    sync->progress_status = inactive ? PROGRESS_DORMANT : PROGRESS_COMPLETED;
    if (replica_engine_mirrors(terms->engine)) {
        sync->map_state = MAP_ALL;
        sync->map_generation = 1;
        sync->revision = 1;
        if (terms->start) {
            sync->copy_state = STATE_UNSYNCHRONIZED;
            sync->when_activated_ms = now;
        }
    }
    if (terms->start && terms->engine == ENGINE_FILL) {
        replica_fills_now(sync, now);
    }
    if (terms->start) {
        if (terms->engine != ENGINE_FILL) {
            sync->progress_status = PROGRESS_INITIALIZING;
        }
        if (terms->wait_for_copy_state != 0) {
            sync->requested_copy_state = terms->wait_for_copy_state;
        }
    }
}

static int insert_sync(struct call *call, struct pair *pair)
{
    const struct replica_terms *terms = &pair->terms;
    uint64_t now = control_now_ms(call->control);
    struct sync_row sync = {
        .sync_type = terms->sync_type,
        .mode = terms->mode,
        .copy_type = terms->copy_type,
        .replica_type = terms->replica_type,
        .remote = terms->remote,
        .temporary = terms->temporary,
        .created_target = pair->allocate,
        .copy_priority = terms->copy_priority,
        .copy_methodology = terms->copy_methodology,
        .copy_recovery_mode = terms->copy_recovery_mode,
        .failed_copy_stops_host_io = terms->failed_copy_stops_host_io,
        .delta_update_interval_ms = terms->delta_update_interval_ms,
        .delta_update_blocks = terms->delta_update_blocks,
        .desired_rpo_ms = terms->desired_rpo_ms,
        .read_only = terms->read_only,
        .bandwidth_limit = terms->bandwidth_limit,
        .verify = terms->verify,
        .copied_bytes = pair->source.size_bytes,
        .when_established_ms = now,
    };

    sync_begin(terms, now, &sync);
    memcpy(sync.pipe_id, terms->pipe_id, sizeof(sync.pipe_id));
    strcpy(sync.source_id, pair->source.head.id);
    strcpy(sync.target_id, pair->target.head.id);
    if (pair->group_sync_id != NULL) {
        memcpy(sync.group_sync_id, pair->group_sync_id, strlen(pair->group_sync_id) + 1);
    }
    int r = table_insert(call->db, &sync_table, &sync);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    pair->sync = sync;
    return 0;
}

/* What keeps them equal begins, and guards their targets. */
static int start_mirrors(struct call *call, struct pair *pairs, size_t n)
{
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i++) {
        if (replica_engine_mirrors(pairs[i].terms.engine)) {
            r = mirror_guard_volumes(call, &pairs[i].sync);
            mirror_apply(call, &pairs[i].sync);
        }
    }
    return r;
}

/* One job for those pairs that have to be copied. */
static int start_copies(struct call *call, const struct replica_terms *terms, struct pair *pairs,
                        size_t n, const char *element_name)
{
    struct job_new wanted = {
        .name = call->method->name,
        .owner = call->service->name,
        .element_name = element_name != NULL ? element_name : "",
        .copy_priority = terms->copy_priority,
        .bandwidth_limit = terms->bandwidth_limit,
        .wait_for_copy_state = terms->wait_for_copy_state,
        .continue_on_error = terms->continue_on_error,
    };
    struct job_row job;
    size_t n_copies = 0;
    int r;

    for (size_t i = 0; i < n; i++) {
        n_copies += needs_copy(&pairs[i]);
    }
    if (n_copies == 0) {
        return start_mirrors(call, pairs, n);
    }
    r = job_create(call, &wanted, &job);
    for (size_t i = 0; i < n && r == 0; i++) {
        if (!needs_copy(&pairs[i])) {
            continue;
        }
        r = job_add_copy(call, &job, (uint32_t)i, &pairs[i].sync, &pairs[i].source,
                         &pairs[i].target);
        if (r == 0) {
            r = table_update(call->db, &sync_table, &pairs[i].sync);
            r = r < 0 ? call_fail_store(call, r) : 0;
        }
    }
    /* Targets first: clients take the first volume for what was made. */
    for (size_t i = 0; i < n && r == 0; i++) {
        if (needs_copy(&pairs[i])) {
            r = job_add_element(call, &job, "volumes", pairs[i].target.head.id,
                                pairs[i].allocate ? ELEMENT_EFFECT_CREATE
                                                  : ELEMENT_EFFECT_INTEGRITY);
        }
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        if (needs_copy(&pairs[i])) {
            r = job_add_element(call, &job, "volumes", pairs[i].source.head.id,
                                ELEMENT_EFFECT_PERFORMANCE);
        }
    }
    if (r == 0) {
        r = start_mirrors(call, pairs, n);
    }
    if (r == 0) {
        r = job_review(call, job.head.id);
    }
    return r < 0 ? r : job_started(call, &job);
}

/* The pool for a target that is to be made; *ret NULL: any that has a free LUN. */
static int pool_for(struct call *call, const struct pair *pair, const struct pool_row *pool,
                    struct pool_row *ret_row, const struct pool_row **ret)
{
    *ret = pool;
    if (pool != NULL || (pair->source.kind == VOLUME_REMOTE && !pair->terms.pool_of_source)) {
        return 0;
    }
    int r = table_get(call->db, &pool_table, pair->source.pool_id, ret_row);

    if (r == -ENOENT) {
        return call_fail_param(
            call, ERR_BAD_VALUE, "ReplicationSettingData.TargetElementResourcePool",
            "/volumes/%s is in no pool that a target could be taken from.", pair->source.head.id);
    }
    *ret = ret_row;
    return r < 0 ? call_fail_store(call, r) : 0;
}

/* The volumes of a list that are not to be taken from a pool for others. */
struct taken {
    const struct volume_row **volumes;
    size_t n;
};

/* A target that is copied onto, or will be. */
static int target_for_copy(struct call *call, const struct pool_row *pool, struct pair *pair,
                           struct taken *taken)
{
    char base[NAME_SIZE + 16];
    struct pool_row row;
    const struct pool_row *from;
    int r = pool_for(call, pair, pool, &row, &from);

    if (r < 0) {
        return r;
    }
    if (from != NULL && from->kind == POOL_FILE) {
        snprintf(base, sizeof(base), "%.230s-replica", pair->source.element_name);
        uint64_t size_bytes = (pair->source.size_bytes + HOSTED_PHYSICAL_BYTES - 1) /
                              HOSTED_PHYSICAL_BYTES * HOSTED_PHYSICAL_BYTES;

        return hosted_create(call, from, size_bytes, pair->element_name, base, &pair->target);
    }
    r = pool_take(call, "TargetPool", from, &pair->source, pair->element_name, taken->volumes,
                  taken->n, &pair->target);
    if (r == 0) {
        taken->volumes[taken->n++] = &pair->target;
    }
    return r;
}

static int target_of_layers(struct call *call, struct pair *pair)
{
    bool watched = pair->terms.sync_type == SYNC_SNAPSHOT;
    int r = 0;

    if (pair->allocate) {
        r = hosted_derive(call, &pair->source, pair->element_name, watched, !pair->terms.start,
                          &pair->target);
    } else if (pair->terms.start) {
        r = hosted_refresh(call, &pair->source, &pair->target, watched);
    }
    if (r == 0 && pair->terms.read_only != 0) {
        r = hosted_set_read_only(call, &pair->target, true);
    }
    return r;
}

static int target_to_fill(struct call *call, const struct pool_row *pool, struct pair *pair)
{
    struct pool_row row;

    if (!pair->allocate) {
        return pair->terms.start ? hosted_take(call, &pair->source, &pair->target) : 0;
    }
    int r = hosted_pool(call, "TargetPool", pool, NULL, &row);

    return r < 0 ? r
                 : hosted_create_filled(call, &row, &pair->source, pair->element_name,
                                        !pair->terms.start, &pair->target);
}

static int make_target(struct call *call, const struct pool_row *pool, struct pair *pair,
                       struct taken *taken)
{
    if (shares_layers(pair)) {
        return target_of_layers(call, pair);
    }
    if (fills(pair)) {
        return target_to_fill(call, pool, pair);
    }
    if (pair->allocate) {
        return target_for_copy(call, pool, pair, taken);
    }
    if (pair->target.pool_id[0] != '\0' && !pair->target.allocated) {
        pair->target.allocated = true;
        int r = table_update(call->db, &volume_table, &pair->target);

        return r < 0 ? call_fail_store(call, r) : 0;
    }
    return 0;
}

static int apply_setting(struct call *call, struct pair *pair)
{
    if (values_param(call->args, "TargetSettingGoal") != NULL) {
        return setting_apply_reference(call, "TargetSettingGoal", &pair->target);
    }
    if (values_param(call->args, "Goal") != NULL) {
        return setting_apply_goal(call, "Goal", &pair->terms, &pair->target);
    }
    return 0;
}

/* A9, A10; a target that is allocated is known only then. */
static int check_pipe(struct call *call, const struct pair *pair)
{
    return pair->terms.pipe_id[0] == '\0'
               ? 0
               : pipe_check_use(call, pair->terms.pipe_parameter, pair->terms.pipe_id,
                                &pair->source, &pair->target);
}

/* Takes the targets that are to be allocated, then makes everything. All pairs are checked by then. */
static int create_pairs(struct call *call, const struct pool_row *pool, struct pair *pairs,
                        size_t n)
{
    struct taken taken = {.volumes = arena_alloc(&call->arena, 2 * n * sizeof(*taken.volumes))};
    int r = 0;

    /* The list's sources, and targets that the client named, are not to be taken for others. */
    for (size_t i = 0; i < n; i++) {
        taken.volumes[taken.n++] = &pairs[i].source;
        if (!pairs[i].allocate) {
            taken.volumes[taken.n++] = &pairs[i].target;
        }
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        r = make_target(call, pool, &pairs[i], &taken);
        if (r == 0 && pairs[i].allocate) {
            r = check_pipe(call, &pairs[i]);
        }
        if (r == 0) {
            r = apply_setting(call, &pairs[i]);
        }
        if (r == 0 && stays_related(&pairs[i])) {
            r = insert_sync(call, &pairs[i]);
        }
    }
    return r;
}

/* Now that its elements are known. */
static int complete_terms(struct call *call, const struct replica_terms *terms,
                          const struct pool_row *pool, struct pair *pair)
{
    struct replica_ends ends = {
        .source = &pair->source,
        .target = pair->allocate ? NULL : &pair->target,
        .pool = pool,
        .source_parameter = pair->source_parameter,
        .target_parameter = pair->target_parameter,
    };

    pair->terms = *terms;
    int r = replica_terms_complete(call, &ends, &pair->terms);

    return r < 0 || pair->allocate ? r : check_pipe(call, pair);
}

/* Among those of a list that are checked so far: how many share the layers of this one's source, itself included. */
static int check_sharing(struct call *call, const struct pair *pairs, size_t i)
{
    size_t n = 0;

    for (size_t k = 0; k <= i; k++) {
        n += shares_layers(&pairs[k]) && stays_related(&pairs[k]) &&
             strcmp(pairs[k].source.head.id, pairs[i].source.head.id) == 0;
    }
    return n == 0 || !shares_layers(&pairs[i])
               ? 0
               : replica_check_limit(call, pairs[i].source_parameter, &pairs[i].source, n);
}

/* ---- StorageConfigurationService ---- */

static int create_replica(struct call *call)
{
    struct replica_terms terms;
    struct pool_row pool;
    struct pair pair = {
        .allocate = true,
        .element_name = args_text(call->args, "ElementName"),
        .source_parameter = "SourceElement",
    };
    const char *pool_path = args_text(call->args, "TargetPool");
    int r =
        replica_terms_of_copy_type(call, (uint32_t)args_number(call->args, "CopyType", 0), &terms);

    if (r == 0) {
        r = replica_terms_setting(call, "TargetSettingGoal", &terms);
    }
    if (r == 0) {
        r = path_volume(call, "SourceElement", args_text(call->args, "SourceElement"),
                        &pair.source);
    }
    if (r == 0 && pool_path != NULL) {
        r = path_pool(call, "TargetPool", pool_path, &pool);
    }
    if (r == 0) {
        r = check_name(call, "ElementName", pair.element_name);
    }
    if (r == 0) {
        r = complete_terms(call, &terms, pool_path != NULL ? &pool : NULL, &pair);
    }
    if (r == 0) {
        r = replica_check_source(call, "SourceElement", &pair.source);
    }
    if (r == 0) {
        r = check_sharing(call, &pair, 0);
    }
    if (r == 0) {
        r = create_pairs(call, pool_path != NULL ? &pool : NULL, &pair, 1);
    }
    if (r < 0) {
        return r;
    }
    outs_path(call->outs, "TargetElement", "/volumes/%s", pair.target.head.id);
    return start_copies(call, &terms, &pair, 1, pair.element_name);
}

int method_create_replica(struct call *call)
{
    return hosted_run(call, create_replica);
}

/* What AttachReplica and the creating half of AttachOrModifyReplica share. */
static int attach(struct call *call, const struct replica_terms *terms, struct pair *pair)
{
    int r = complete_terms(call, terms, NULL, pair);

    if (r == 0) {
        r = replica_check_pair(call, "SourceElement", &pair->source, "TargetElement", &pair->target,
                               NULL);
    }
    if (r == 0) {
        r = check_sharing(call, pair, 0);
    }
    if (r == 0) {
        r = create_pairs(call, NULL, pair, 1);
    }
    return r < 0 ? r : start_copies(call, terms, pair, 1, NULL);
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
        return call_fail_param(call, ERR_ILLEGAL_STATE, "CopyType",
                               "CopyType of /synchronizations/%s cannot be changed while CopyState is "
                               "%s (%u).",
                               sync->head.id, enum_text(&map_copy_state, sync->copy_state),
                               sync->copy_state);
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

/* ---- ReplicationService ---- */

/* Groups that a new target becomes a member of; only CreateElementReplica takes them. */
static int target_collections(struct call *call, struct group_row **ret_groups, size_t *ret_n)
{
    const struct value *paths = values_get(call->args, "Collections");
    struct group_row *groups = arena_alloc(&call->arena, (paths->n_items + 1) * sizeof(*groups));
    int r = 0;

    for (size_t i = 0; i < paths->n_items && r == 0; i++) {
        r = paths->items[i].present
                ? path_group(call, "Collections", paths->items[i].text, &groups[i])
                : call_fail_param(call, ERR_MISSING_PARAMETER, "Collections",
                                  "Collections[%zu] is null; each entry must name a group.", i);
    }
    *ret_groups = groups;
    *ret_n = paths->n_items;
    return r;
}

static int join_collections(struct call *call, const struct group_row *groups, size_t n,
                            const char *volume_id)
{
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i++) {
        r = group_add(call, "Collections", groups[i].head.id, volume_id);
    }
    return r;
}

/* Parameters that only have one right value so far. */
static int refuse_collections(struct call *call)
{
    static const char *const names[] = {"ConnectivityCollection", "Collections"};
    bool taken = strcmp(call->method->name, "CreateElementReplica") == 0;

    for (size_t i = 0; i < ARRAY_LEN(names) - taken; i++) {
        if (args_present(call->args, names[i])) {
            return call_fail_param(call, ERR_NO_SUCH_OBJECT, names[i],
                                   "There are no collections; leave %s out.", names[i]);
        }
    }
    return 0;
}

static int service_terms(struct call *call, struct replica_terms *terms)
{
    int r = replica_terms_of_sync_type(call, (uint32_t)args_number(call->args, "SyncType", 0),
                                       (uint32_t)args_number(call->args, "Mode", 0), terms);

    if (r == 0) {
        r = replica_terms_setting(call, "TargetSettingGoal", terms);
    }
    if (r == 0) {
        r = replica_terms_setting_data(call, "ReplicationSettingData", terms);
    }
    if (r == 0) {
        r = replica_terms_wait(call, 0, terms);
    }
    return r < 0 ? r : refuse_collections(call);
}

/* Rules G10, L8: with targets given, nothing may say how to make them. */
static int refuse_with_targets(struct call *call, const char *given, const char *name)
{
    if (args_present(call->args, name)) {
        return call_fail_param(
            call, ERR_BAD_VALUE, name,
            "%s is for targets that are chosen here; with %s it must be left out.", name, given);
    }
    return 0;
}

static int check_supplier(struct call *call, const struct replica_terms *terms, bool targets_given,
                          const char *parameter)
{
    if (terms->client_must_supply && !targets_given) {
        return call_fail_param(
            call, ERR_MISSING_PARAMETER, parameter,
            "TargetElementSupplier 1 and 5 say that targets that exist are named; "
            "%s is missing.",
            parameter);
    }
    if (terms->must_create && targets_given) {
        return call_fail_param(call, ERR_BAD_VALUE, parameter,
                               "TargetElementSupplier 2 says that targets are created; %s must be "
                               "left out.",
                               parameter);
    }
    return 0;
}

static int optional_pool(struct call *call, struct pool_row *ret_pool, const struct pool_row **ret)
{
    const char *path = args_text(call->args, "TargetPool");

    *ret = NULL;
    if (path == NULL) {
        return 0;
    }
    *ret = ret_pool;
    return path_pool(call, "TargetPool", path, ret_pool);
}

/* Checks that need all rows: everything is known to be right before anything is made. */
static int check_elements(struct call *call, const struct pair *pair)
{
    int r;

    if (pair->allocate) {
        r = replica_check_source(call, pair->source_parameter, &pair->source);
    } else if (pair->terms.engine == ENGINE_MIRROR) {
        r = replica_check_mirror(call, pair->source_parameter, &pair->source,
                                 pair->target_parameter, &pair->target);
    } else {
        r = replica_check_pair(call, pair->source_parameter, &pair->source, pair->target_parameter,
                               &pair->target, NULL);
    }
    return r == 0 && fills(pair)
               ? replica_check_still(call, &pair->source)
               : r;
}

static int check_pairs(struct call *call, const struct replica_terms *terms,
                       const struct pool_row *pool, struct pair *pairs, size_t n)
{
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i++) {
        r = complete_terms(call, terms, pool, &pairs[i]);
        if (r == 0) {
            r = replica_check_access_point(call, "SourceAccessPoint", &pairs[i].source);
        }
        if (r == 0 && !pairs[i].allocate) {
            r = replica_check_access_point(call, "TargetAccessPoint", &pairs[i].target);
        }
        if (r == 0) {
            r = check_elements(call, &pairs[i]);
        }
        if (r == 0) {
            r = check_sharing(call, pairs, i);
        }
    }
    return r;
}

/* A pool is named, and so is the access point: they must belong together (the target is known only then). */
static int check_taken(struct call *call, struct pair *pairs, size_t n)
{
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i++) {
        if (pairs[i].allocate) {
            r = replica_check_access_point(call, "TargetAccessPoint", &pairs[i].target);
        }
    }
    return r;
}

static int create_element_replica(struct call *call)
{
    struct replica_terms terms;
    struct pool_row pool_row;
    const struct pool_row *pool = NULL;
    const char *target = args_text(call->args, "TargetElement");
    struct group_row *groups = NULL;
    size_t n_groups = 0;
    struct pair pair = {
        .allocate = target == NULL,
        .element_name = args_text(call->args, "ElementName"),
        .source_parameter = "SourceElement",
        .target_parameter = "TargetElement",
    };
    int r = service_terms(call, &terms);

    if (r == 0 && target != NULL) {
        r = refuse_with_targets(call, "TargetElement", "TargetSettingGoal");
    }
    if (r == 0 && target != NULL) {
        r = refuse_with_targets(call, "TargetElement", "TargetPool");
    }
    if (r == 0) {
        r = check_supplier(call, &terms, target != NULL, "TargetElement");
    }
    if (r == 0) {
        r = check_name(call, "ElementName", pair.element_name);
    }
    if (r == 0) {
        r = path_volume(call, "SourceElement", args_text(call->args, "SourceElement"),
                        &pair.source);
    }
    if (r == 0 && target != NULL) {
        r = path_volume(call, "TargetElement", target, &pair.target);
    }
    if (r == 0) {
        r = optional_pool(call, &pool_row, &pool);
    }
    if (r == 0) {
        r = target_collections(call, &groups, &n_groups);
    }
    if (r == 0) {
        r = check_pairs(call, &terms, pool, &pair, 1);
    }
    if (r == 0) {
        r = create_pairs(call, pool, &pair, 1);
    }
    if (r == 0) {
        r = check_taken(call, &pair, 1);
    }
    if (r == 0) {
        r = join_collections(call, groups, n_groups, pair.target.head.id);
    }
    if (r < 0) {
        return r;
    }
    outs_path(call->outs, "TargetElement", "/volumes/%s", pair.target.head.id);
    outs_path(call->outs, "Synchronization", "/synchronizations/%s", pair.sync.head.id);
    return start_copies(call, &terms, &pair, 1, pair.element_name);
}

int method_create_element_replica(struct call *call)
{
    return hosted_run(call, create_element_replica);
}

static int list_counts(struct call *call, const struct replica_terms *terms, size_t *ret_n)
{
    const struct value *sources = values_get(call->args, "SourceElements");
    const struct value *targets = values_get(call->args, "TargetElements");
    const struct value *names = values_get(call->args, "ElementNames");
    size_t n = sources->n_items;

    if (n == 0) {
        return call_fail_param(call, ERR_BAD_VALUE, "SourceElements",
                               "SourceElements must name at least one volume.");
    }
    if (n > PAIRS_MAX) {
        return call_fail_param(call, ERR_BAD_VALUE, "SourceElements",
                               "A list has at most %d elements.", PAIRS_MAX);
    }
    if (names->present && names->n_items > n) {
        return call_fail_param(call, ERR_BAD_VALUE, "ElementNames",
                               "There are %zu names for %zu sources.", names->n_items, n);
    }
    if (targets->present && targets->n_items != n) {
        bool allowed = targets->n_items > 0 &&
                       ((terms->unequal_lists == UNEQUAL_SOURCE_LARGER && n > targets->n_items) ||
                        (terms->unequal_lists == UNEQUAL_TARGET_LARGER && n < targets->n_items));

        if (!allowed) {
            return call_fail_param(
                call, ERR_BAD_VALUE, "TargetElements",
                "There are %zu targets for %zu sources; "
                "ReplicationSettingData.UnequalListsAction can allow more sources "
                "(3) or more targets (4).",
                targets->n_items, n);
        }
        n = n < targets->n_items ? n : targets->n_items;
    }
    *ret_n = n;
    return 0;
}

/* The i-th entry, or NULL. */
static const char *item_text(const struct value *value, size_t i)
{
    return value->present && i < value->n_items && value->items[i].present ? value->items[i].text
                                                                           : NULL;
}

static int list_pair(struct call *call, size_t i, struct pair *pair)
{
    const char *source = item_text(values_get(call->args, "SourceElements"), i);
    const struct value *targets = values_get(call->args, "TargetElements");
    const char *name = item_text(values_get(call->args, "ElementNames"), i);
    int r;

    snprintf(pair->source_parameter, sizeof(pair->source_parameter), "SourceElements[%zu]", i);
    snprintf(pair->target_parameter, sizeof(pair->target_parameter), "TargetElements[%zu]", i);
    if (source == NULL) {
        return call_fail_param(call, ERR_MISSING_PARAMETER, pair->source_parameter,
                               "%s is null; each entry must name a volume.",
                               pair->source_parameter);
    }
    r = path_volume(call, pair->source_parameter, source, &pair->source);
    if (r < 0) {
        return r;
    }
    pair->allocate = !targets->present;
    if (targets->present) {
        const char *target = item_text(targets, i);

        if (target == NULL) {
            return call_fail_param(call, ERR_MISSING_PARAMETER, pair->target_parameter,
                                   "%s is null; each entry must name a volume.",
                                   pair->target_parameter);
        }
        return path_volume(call, pair->target_parameter, target, &pair->target);
    }
    if (name != NULL && name[0] != '\0') {
        char parameter[48];

        snprintf(parameter, sizeof(parameter), "ElementNames[%zu]", i);
        pair->element_name = name;
        return check_name(call, parameter, name);
    }
    return 0;
}

static int check_same_target_twice(struct call *call, const struct pair *pairs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n && !pairs[i].allocate; k++) {
            if (k != i && volume_same_lun(&pairs[i].target, &pairs[k].source)) {
                return call_fail_param(call, ERR_BAD_VALUE, pairs[i].target_parameter,
                                       "/volumes/%s is a source and a target of the same list.",
                                       pairs[i].target.head.id);
            }
            if (k < i && volume_same_lun(&pairs[i].target, &pairs[k].target)) {
                return call_fail_param(call, ERR_BAD_VALUE, pairs[i].target_parameter,
                                       "/volumes/%s is named twice as a target.",
                                       pairs[i].target.head.id);
            }
        }
    }
    return 0;
}

/* All of them at one moment, which only what shares layers can be made at. */
static int cut_together(struct call *call, const char *parameter, const struct pair *pairs,
                        size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!shares_layers(&pairs[i]) || !pairs[i].terms.start) {
            return call_fail_param(
                call, ERR_NOT_SUPPORTED, parameter,
                "%s is not of one moment with others: only snapshots and clones that share the "
                "data of "
                "hosted volumes, made at once, can be. Leave %s out, or make it 2.",
                pairs[i].source_parameter, parameter);
        }
    }
    hosted_cuts_together(call);
    return 0;
}

static int create_list_replica(struct call *call)
{
    struct replica_terms terms;
    struct pool_row pool_row;
    const struct pool_row *pool = NULL;
    bool targets_given = args_present(call->args, "TargetElements");
    size_t n = 0;
    int r = service_terms(call, &terms);

    if (r == 0 && targets_given) {
        static const char *const names[] = {"TargetSettingGoal", "TargetPool", "ElementNames"};

        for (size_t i = 0; i < ARRAY_LEN(names) && r == 0; i++) {
            r = refuse_with_targets(call, "TargetElements", names[i]);
        }
    }
    if (r == 0) {
        r = check_supplier(call, &terms, targets_given, "TargetElements");
    }
    if (r == 0) {
        r = list_counts(call, &terms, &n);
    }
    if (r < 0) {
        return r;
    }
    struct pair *pairs = arena_alloc(&call->arena, n * sizeof(*pairs));

    for (size_t i = 0; i < n && r == 0; i++) {
        r = list_pair(call, i, &pairs[i]);
    }
    if (r == 0) {
        r = check_same_target_twice(call, pairs, n);
    }
    if (r == 0) {
        r = optional_pool(call, &pool_row, &pool);
    }
    if (r == 0) {
        r = check_pairs(call, &terms, pool, pairs, n);
    }
    if (r == 0 &&
        args_number(call->args, "Consistency", CONSISTENCY_NONE) == CONSISTENCY_SEQUENTIAL) {
        r = cut_together(call, "Consistency", pairs, n);
    } else if (r == 0 && terms.consistent_point_in_time && terms.start) {
        r = cut_together(call, "ReplicationSettingData.ConsistentPointInTime", pairs, n);
    }
    if (r == 0) {
        r = create_pairs(call, pool, pairs, n);
    }
    if (r == 0) {
        r = check_taken(call, pairs, n);
    }
    if (r < 0) {
        return r;
    }
    values_get(call->outs, "TargetElements")->n_items = 0;
    for (size_t i = 0; i < n; i++) {
        outs_add_text(call->outs, "TargetElements",
                      arena_printf(&call->arena, "/volumes/%s", pairs[i].target.head.id));
        outs_add_text(call->outs, "Synchronizations",
                      arena_printf(&call->arena, "/synchronizations/%s", pairs[i].sync.head.id));
    }
    return start_copies(call, &terms, pairs, n, NULL);
}

int method_create_list_replica(struct call *call)
{
    return hosted_run(call, create_list_replica);
}

/* ---- for groups ---- */

int pairs_terms(struct call *call, struct replica_terms *ret_terms)
{
    return service_terms(call, ret_terms);
}

int pairs_refuse_with_targets(struct call *call, const char *given, const char *name)
{
    return refuse_with_targets(call, given, name);
}

int pairs_check_supplier(struct call *call, const struct replica_terms *terms, bool targets_given,
                         const char *parameter)
{
    return check_supplier(call, terms, targets_given, parameter);
}

int pairs_pool(struct call *call, struct pool_row *ret_row, const struct pool_row **ret_pool)
{
    return optional_pool(call, ret_row, ret_pool);
}

int pairs_check_same_target_twice(struct call *call, const struct pair *pairs, size_t n)
{
    return check_same_target_twice(call, pairs, n);
}

int pairs_check(struct call *call, const struct replica_terms *terms, const struct pool_row *pool,
                struct pair *pairs, size_t n)
{
    return check_pairs(call, terms, pool, pairs, n);
}

int pairs_create(struct call *call, const struct pool_row *pool, struct pair *pairs, size_t n)
{
    int r = create_pairs(call, pool, pairs, n);

    return r < 0 ? r : check_taken(call, pairs, n);
}

int pairs_start(struct call *call, const struct replica_terms *terms, struct pair *pairs, size_t n,
                const char *element_name)
{
    return start_copies(call, terms, pairs, n, element_name);
}

int pairs_cut_together(struct call *call, const char *parameter, const struct pair *pairs, size_t n)
{
    return cut_together(call, parameter, pairs, n);
}
