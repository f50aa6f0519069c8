// SPDX-License-Identifier: Apache-2.0
/*
 * Several replicas made in one call, the same three steps for one pair or many:
 *
 *     terms     what is asked for: CopyType or SyncType, setting data, waits
 *     pairs     which source onto which target: given, or taken from a pool; each completes its terms, and everything is
 *               checked before anything is made
 *     creation  relationships; what shares layers is there at once, and for the rest, unless nothing is to flow yet, there
 *               is one job with a copy for each (what is filled by it is there at once, too)
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "service/hosted.h"
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

/* ---- what is asked for ---- */

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

int pairs_terms(struct call *call, struct replica_terms *terms)
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

int pairs_refuse_with_targets(struct call *call, const char *given, const char *name)
{
    if (args_present(call->args, name)) {
        return call_fail_param(
            call, ERR_BAD_VALUE, name,
            "%s is for targets that are chosen here; with %s it must be left out.", name, given);
    }
    return 0;
}

int pairs_check_supplier(struct call *call, const struct replica_terms *terms, bool targets_given,
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

int pairs_pool(struct call *call, struct pool_row *ret_pool, const struct pool_row **ret)
{
    const char *path = args_text(call->args, "TargetPool");

    *ret = NULL;
    if (path == NULL) {
        return 0;
    }
    *ret = ret_pool;
    return path_pool(call, "TargetPool", path, ret_pool);
}

/* ---- checks ---- */

/* A9, A10; a target that is allocated is known only then. */
static int check_pipe(struct call *call, const struct pair *pair)
{
    return pair->terms.pipe_id[0] == '\0'
               ? 0
               : pipe_check_use(call, pair->terms.pipe_parameter, pair->terms.pipe_id,
                                &pair->source, &pair->target);
}

int pairs_complete(struct call *call, const struct replica_terms *terms,
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
int pairs_check_sharing(struct call *call, const struct pair *pairs, size_t i)
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
    return r == 0 && fills(pair) ? replica_check_still(call, &pair->source) : r;
}

int pairs_check(struct call *call, const struct replica_terms *terms, const struct pool_row *pool,
                struct pair *pairs, size_t n)
{
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i++) {
        r = pairs_complete(call, terms, pool, &pairs[i]);
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
            r = pairs_check_sharing(call, pairs, i);
        }
    }
    return r;
}

int pairs_check_same_target_twice(struct call *call, const struct pair *pairs, size_t n)
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
int pairs_cut_together(struct call *call, const char *parameter, const struct pair *pairs, size_t n)
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

/* The volumes of a list that are not to be taken from a pool for others. */
struct taken {
    const struct volume_row **volumes;
    size_t n;
};

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

/* Takes the targets that are to be allocated, then makes everything. All pairs are checked by then. */
int pairs_make(struct call *call, const struct pool_row *pool, struct pair *pairs, size_t n)
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

int pairs_create(struct call *call, const struct pool_row *pool, struct pair *pairs, size_t n)
{
    int r = pairs_make(call, pool, pairs, n);

    return r < 0 ? r : check_taken(call, pairs, n);
}

/* ---- what flows ---- */

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

int pairs_start(struct call *call, const struct replica_terms *terms, struct pair *pairs, size_t n,
                const char *element_name)
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
