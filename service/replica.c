// SPDX-License-Identifier: Apache-2.0
#include "service/replica.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/timefmt.h"
#include "service/classes.h"
#include "service/hosted.h"
#include "service/mirror_records.h"
#include "service/paths.h"
#include "service/pipes.h"
#include "service/setting_defaults.h"
#include "service/volumes.h"

/* ---- terms ---- */

static struct replica_terms default_terms(void)
{
    return (struct replica_terms){
        .sync_type = SYNC_CLONE,
        .mode = MODE_SYNCHRONOUS,
        .copy_type = COPY_UNSYNC_UNASSOC,
        .replica_type = REPLICA_FULL_COPY,
        .engine = ENGINE_COPY,
        .copy_methodology = METHODOLOGY_FULL_COPY,
        .copy_recovery_mode = 2,
        .start = true,
        .unequal_lists = UNEQUAL_ERROR,
        .unequal_groups = UNEQUAL_ERROR,
    };
}

/* parameter: what has said so. */
static int mirror_terms(struct call *call, const char *parameter, uint32_t mode,
                        struct replica_terms *ret_terms)
{
    struct replica_terms terms = default_terms();

    if (!replica_type_supported(SYNC_MIRROR, mode, false)) {
        return call_fail_param(call, ERR_NOT_SUPPORTED, parameter,
                               "%s mirrors (SyncType 6, Mode %u) are not supported by this version; "
                               "Snapshot (7) of a hosted volume and Clone (8) are.",
                               enum_text(&map_mode, mode), mode);
    }
    terms.sync_type = SYNC_MIRROR;
    terms.mode = mode;
    terms.copy_type = mode == MODE_ASYNCHRONOUS ? COPY_ASYNC : COPY_SYNC;
    terms.engine = mode == MODE_ASYNCHRONOUS ? ENGINE_ASYNC : ENGINE_MIRROR;
    *ret_terms = terms;
    return 0;
}

int replica_terms_of_copy_type(struct call *call, uint32_t copy_type,
                               struct replica_terms *ret_terms)
{
    struct replica_terms terms = default_terms();

    if (copy_type == COPY_ASYNC || copy_type == COPY_SYNC) {
        return mirror_terms(call, "CopyType",
                            copy_type == COPY_ASYNC ? MODE_ASYNCHRONOUS : MODE_SYNCHRONOUS,
                            ret_terms);
    }
    terms.of_copy_type = true;
    terms.copy_type = copy_type;
    terms.mode = copy_type == COPY_UNSYNC_ASSOC ? MODE_ASYNCHRONOUS : MODE_SYNCHRONOUS;
    terms.temporary = copy_type == COPY_UNSYNC_UNASSOC;
    *ret_terms = terms;
    return 0;
}

int replica_terms_of_sync_type(struct call *call, uint32_t sync_type, uint32_t mode,
                               struct replica_terms *ret_terms)
{
    struct replica_terms terms = default_terms();

    if (sync_type == SYNC_MIRROR) {
        bool any = replica_type_supported(SYNC_MIRROR, MODE_SYNCHRONOUS, false) ||
                   replica_type_supported(SYNC_MIRROR, MODE_ASYNCHRONOUS, false);

        return mirror_terms(call, any ? "Mode" : "SyncType", mode == 0 ? MODE_SYNCHRONOUS : mode,
                            ret_terms);
    }
    terms.sync_type = sync_type;
    if (sync_type == SYNC_SNAPSHOT) {
        terms.engine = ENGINE_LAYERS;
        terms.copy_type = COPY_UNSYNC_ASSOC;
        terms.replica_type = REPLICA_AFTER_DELTA;
    }
    if (mode != 0) {
        terms.mode = mode;
    }
    *ret_terms = terms;
    return 0;
}

static int not_honoured(struct call *call, const char *parameter, const char *property,
                        const char *what)
{
    char name[96];

    snprintf(name, sizeof(name), "%s.%s", parameter, property);
    return call_fail_param(call, ERR_NOT_SUPPORTED, name, "%s: %s", name, what);
}

static int check_interval(struct call *call, const char *parameter,
                          const struct setting_property *property, const char *text)
{
    uint64_t ms;

    if (timefmt_parse_duration(text, &ms) < 0) {
        char name[96];

        snprintf(name, sizeof(name), "%s.%s", parameter, property->name);
        return call_fail_param(call, ERR_BAD_VALUE, name,
                               "%s is no interval; write PT30S or 00000000000030.000000:000.",
                               name);
    }
    return ms == 0 || property->honours == SETTING_ANY
               ? 0
               : not_honoured(call, parameter, property->name, property->what);
}

int replica_check_setting_data(struct call *call, const char *parameter, uint32_t sync_type,
                               uint32_t mode, bool remote)
{
    const struct values *setting = args_instance(call->args, parameter);
    int r = 0;

    for (size_t i = 0; setting != NULL && i < setting_properties_count() && r == 0; i++) {
        const struct setting_property *property = setting_property_at(sync_type, mode, remote, i);

        CHECK(property != NULL);
        if (!args_present(setting, property->name)) {
            continue;
        }
        if (values_param(setting, property->name)->type == PARAM_DATETIME) {
            r = check_interval(call, parameter, property, args_text(setting, property->name));
        } else if (!setting_property_honours(property, args_number(setting, property->name, 0),
                                             false)) {
            r = not_honoured(call, parameter, property->name, property->what);
        }
    }
    return r;
}

/* The records hold 63 bits; a limit above that is no limit that could be told from it. */
static uint64_t limit_of(uint64_t bandwidth_limit)
{
    return bandwidth_limit > INT64_MAX ? INT64_MAX : bandwidth_limit;
}

/* 0: not given. What is no interval is refused by replica_check_setting_data(). */
static uint64_t interval_of(const struct values *setting, const char *name)
{
    const char *text = args_text(setting, name);
    uint64_t ms;

    return text == NULL || timefmt_parse_duration(text, &ms) < 0 ? 0 : limit_of(ms);
}

int replica_terms_pipe(struct call *call, const char *parameter, const char *path,
                       struct replica_terms *terms)
{
    terms->pipe_parameter = parameter;
    return path == NULL ? 0 : pipe_take(call, parameter, path, terms->pipe_id);
}

int replica_terms_setting_data(struct call *call, const char *parameter,
                               struct replica_terms *terms)
{
    const struct values *setting = args_instance(call->args, parameter);

    if (setting == NULL) {
        return 0;
    }
    uint64_t supplier = args_number(setting, "TargetElementSupplier", 4);

    terms->client_must_supply = supplier == 1 || supplier == 5;
    terms->must_create = supplier == 2;
    terms->desired_methodology = (uint32_t)args_number(setting, "DesiredCopyMethodology", 0);
    terms->read_only = (uint32_t)args_number(setting, "ReadOnly", 0);
    terms->pool_of_source = args_number(setting, "TargetElementResourcePool", 2) == 3;
    terms->copy_priority = (uint32_t)args_number(setting, "CopyPriority", 0);
    terms->bandwidth_limit = limit_of(args_number(setting, "BandwidthLimit", 0));
    terms->verify = args_bool(setting, "Verify", false);
    terms->copy_recovery_mode = args_number(setting, "CopyRecoveryMode", 4) == 3 ? 3 : 2;
    terms->failed_copy_stops_host_io = args_bool(setting, "FailedCopyStopsHostIO", false);
    terms->delta_update_interval_ms = interval_of(setting, "DeltaUpdateInterval");
    terms->delta_update_blocks = limit_of(args_number(setting, "DeltaUpdateBlocks", 0));
    terms->desired_rpo_ms = interval_of(setting, "DesiredRPO");
    terms->continue_on_error =
        args_number(setting, "OnGroupOrListError", ON_ERROR_STOP) == ON_ERROR_CONTINUE;
    terms->unequal_lists = (uint32_t)args_number(setting, "UnequalListsAction", UNEQUAL_ERROR);
    terms->unequal_groups = (uint32_t)args_number(setting, "UnequalGroupsAction", UNEQUAL_ERROR);
    terms->consistent_point_in_time = args_bool(setting, "ConsistentPointInTime", false);
    if (args_present(setting, "ReplicationPipe")) {
        return replica_terms_pipe(call, "ReplicationSettingData.ReplicationPipe",
                                  args_text(setting, "ReplicationPipe"), terms);
    }
    return 0;
}

/* StorageSetting counts from 1 Not Managed, CopyPriority from 0. */
static uint32_t priority_of_setting(uint64_t replication_priority)
{
    return replication_priority == 0 ? 0 : (uint32_t)replication_priority - 1;
}

int replica_terms_goal(struct call *call, const char *parameter, struct replica_terms *terms)
{
    static const char *const taken[] = {
        "InstanceID",          "ElementName",       "ConfigurationName",
        "ChangeableType",      "PersistentReplica", "InitialSynchronization",
        "ReplicationPriority", "BandwidthLimit",    "Verify",
        "CompressionRate"};
    const struct values *goal = args_instance(call->args, parameter);

    if (goal == NULL) {
        return 0;
    }
    for (size_t i = 0; i < goal->n_params; i++) {
        bool known = false;

        for (size_t k = 0; k < ARRAY_LEN(taken); k++) {
            known = known || strcmp(taken[k], goal->params[i].name) == 0;
        }
        if (!known && goal->values[i].present && goal->values[i].number != 0) {
            return not_honoured(call, parameter, goal->params[i].name,
                                "the LUN of another system is what it is; this cannot be set from "
                                "here.");
        }
    }
    if (args_number(goal, "CompressionRate", 1) > 1 &&
        args_number(goal, "CompressionRate", 1) != 5) {
        return not_honoured(call, parameter, "CompressionRate", "there is no compression.");
    }
    if (args_present(goal, "ReplicationPriority")) {
        terms->copy_priority = priority_of_setting(args_number(goal, "ReplicationPriority", 0));
    }
    if (args_present(goal, "BandwidthLimit")) {
        terms->bandwidth_limit = limit_of(args_number(goal, "BandwidthLimit", 0));
    }
    if (args_present(goal, "Verify")) {
        terms->verify = args_bool(goal, "Verify", false);
    }
    if (args_number(goal, "InitialSynchronization", 0) == 3) {
        terms->start = false;
    }
    return 0;
}

int replica_terms_setting(struct call *call, const char *parameter, struct replica_terms *terms)
{
    const char *path = args_text(call->args, parameter);
    struct setting_row setting;

    if (path == NULL) {
        return 0;
    }
    int r = path_setting(call, parameter, path, &setting);

    if (r < 0) {
        return r;
    }
    terms->copy_priority = priority_of_setting(setting.replication_priority);
    terms->bandwidth_limit = setting.bandwidth_limit;
    terms->verify = setting.verify;
    if (setting.initial_synchronization == 3) {
        terms->start = false;
    }
    return 0;
}

int replica_terms_wait(struct call *call, uint32_t operation, struct replica_terms *terms)
{
    uint32_t state = (uint32_t)args_number(call->args, "WaitForCopyState", 0);

    if (!args_present(call->args, "WaitForCopyState")) {
        return 0;
    }
    if (!replica_wait_state_allowed(terms->sync_type, terms->engine, operation, state)) {
        char allowed[160] = "";
        size_t len = 0;

        for (const uint32_t *s = replica_wait_states(terms->sync_type, terms->engine, operation);
             *s != 0 && len < sizeof(allowed); s++) {
            len += (size_t)snprintf(allowed + len, sizeof(allowed) - len, "%s%u %s",
                                    len == 0 ? "" : ", ", *s, enum_text(&map_copy_state, *s));
        }
        return call_fail_param(call, ERR_BAD_VALUE, "WaitForCopyState",
                               "CopyState %u (%s) cannot be waited for here; %s%s.", state,
                               enum_text(&map_copy_state, state),
                               allowed[0] == '\0' ? "leave WaitForCopyState out" : "there are ",
                               allowed);
    }
    terms->wait_for_copy_state = state;
    if (operation == 0 && (state == STATE_INITIALIZED || state == STATE_INACTIVE)) {
        terms->start = false;
    }
    return 0;
}

/* ---- what the elements decide ---- */

bool replica_can_share(const struct volume_row *source, const char *pool_id)
{
    return source->kind == VOLUME_HOSTED && strcmp(source->pool_id, pool_id) == 0;
}

/* The pool that the target is of, or will be; "" one of remote LUNs that is chosen later, or none. */
static const char *target_pool_id(const struct replica_ends *ends)
{
    if (ends->target != NULL) {
        return ends->target->kind == VOLUME_HOSTED ? ends->target->pool_id : "";
    }
    if (ends->pool != NULL) {
        return ends->pool->head.id;
    }
    return ends->source->kind == VOLUME_HOSTED ? ends->source->pool_id : "";
}

static bool target_is_remote(const struct replica_ends *ends)
{
    if (ends->target != NULL) {
        return ends->target->kind == VOLUME_REMOTE;
    }
    return ends->pool != NULL ? ends->pool->kind == POOL_REMOTE
                              : ends->source->kind == VOLUME_REMOTE;
}

/* A snapshot was asked for by its name, and these elements cannot share layers. */
static int refuse_snapshot(struct call *call, const struct replica_ends *ends)
{
    const char *target_parameter = ends->target != NULL ? ends->target_parameter : "TargetPool";

    if (ends->source->kind == VOLUME_REMOTE) {
        return call_fail_param(call, ERR_NOT_SUPPORTED, ends->source_parameter,
                               "/volumes/%s is a LUN of another system, whose hosts write past "
                               "smirror: no moment of it can be held. Make a Clone (SyncType 8) of "
                               "it, in a pool of files, and snapshots of that.",
                               ends->source->head.id);
    }
    if (target_is_remote(ends)) {
        return call_fail_param(
            call, ERR_NOT_SUPPORTED, target_parameter,
            "A snapshot shares the layers of its source and is hosted beside it, "
            "in /pools/%s. A Clone (SyncType 8) can be a LUN of another system.",
            ends->source->pool_id);
    }
    return call_fail_param(
        call, ends->target != NULL ? ERR_INCOMPATIBLE : ERR_BAD_VALUE, target_parameter,
        "A snapshot shares the layers of its source and must be of the same pool, "
        "/pools/%s; leave %s out, or make a Clone (SyncType 8).",
        ends->source->pool_id, target_parameter);
}

/* A LUN of another system whose clone is hosted, to be used at once. */
static int choose_filling(struct call *call, const struct replica_ends *ends,
                          struct replica_terms *terms)
{
    bool hosted = ends->target != NULL ? ends->target->kind == VOLUME_HOSTED
                                       : ends->pool == NULL || ends->pool->kind == POOL_FILE;

    if (ends->source->kind != VOLUME_REMOTE || !hosted || terms->pool_of_source) {
        return not_honoured(call, "ReplicationSettingData", "DesiredCopyMethodology",
                            "only a clone of a LUN of another system into a pool of files, such as "
                            "/pools/default, can be used at once and filled while it is (7).");
    }
    if (terms->verify) {
        return not_honoured(call, "ReplicationSettingData", "Verify",
                            "what is filled while hosts write to it (7) cannot be compared with "
                            "its source.");
    }
    terms->engine = ENGINE_FILL;
    return 0;
}

/* A synchronous one sees every write of the source's hosts. */
static int check_mirror(struct call *call, const struct replica_ends *ends,
                        const struct replica_terms *terms)
{
    if (ends->source->kind == VOLUME_REMOTE && terms->engine == ENGINE_MIRROR) {
        return call_fail_param(call, ERR_NOT_SUPPORTED, ends->source_parameter,
                               "/volumes/%s is a LUN of another system, whose hosts write past "
                               "smirror: their writes cannot be mirrored as they come. Make a Clone "
                               "(SyncType 8) of it in a pool of files, and let its hosts use that.",
                               ends->source->head.id);
    }
    return 0;
}

/* Shared layers, or a copy. */
static int choose_engine(struct call *call, const struct replica_ends *ends,
                         struct replica_terms *terms)
{
    bool can_share = replica_can_share(ends->source, target_pool_id(ends));

    if (terms->sync_type == SYNC_MIRROR) {
        return check_mirror(call, ends, terms);
    }
    if (terms->of_copy_type && terms->copy_type == COPY_UNSYNC_ASSOC && can_share) {
        terms->sync_type = SYNC_SNAPSHOT;
        terms->mode = MODE_SYNCHRONOUS;
        terms->replica_type = REPLICA_AFTER_DELTA;
    }
    if (terms->sync_type == SYNC_SNAPSHOT && !can_share) {
        return refuse_snapshot(call, ends);
    }
    if (terms->desired_methodology == METHODOLOGY_COPY_ON_ACCESS) {
        return choose_filling(call, ends, terms);
    }
    if (terms->desired_methodology == METHODOLOGY_COPY_ON_WRITE && !can_share) {
        return not_honoured(
            call, "ReplicationSettingData", "DesiredCopyMethodology",
            "only a hosted volume in the pool of its source can share its data (6).");
    }
    terms->engine = can_share && terms->desired_methodology != METHODOLOGY_FULL_COPY ? ENGINE_LAYERS
                                                                                     : ENGINE_COPY;
    return 0;
}

int replica_terms_complete(struct call *call, const struct replica_ends *ends,
                           struct replica_terms *terms)
{
    bool has_setting_data = values_param(call->args, "ReplicationSettingData") != NULL;
    int r = choose_engine(call, ends, terms);

    terms->remote = ends->source->kind == VOLUME_REMOTE || target_is_remote(ends);
    if (r == 0 && has_setting_data) {
        r = replica_check_setting_data(call, "ReplicationSettingData", terms->sync_type,
                                       terms->mode, terms->remote);
    }
    if (r == 0 && terms->read_only != 0 && terms->engine != ENGINE_LAYERS) {
        r = not_honoured(
            call, "ReplicationSettingData", "ReadOnly",
            "a target that is copied onto must be writable; one that shares the data of "
            "its source (DesiredCopyMethodology 6) can be read-only.");
    }
    if (r == 0 && terms->consistent_point_in_time && terms->engine != ENGINE_LAYERS) {
        r = not_honoured(call, "ReplicationSettingData", "ConsistentPointInTime",
                         "hosts may write to what is copied meanwhile; only what shares the data of its "
                         "source (DesiredCopyMethodology 6) is of one moment.");
    }
    terms->copy_methodology = replica_methodology(terms->engine);
    return r;
}

/* ---- who may be copied onto whom ---- */

int replica_check_access_point(struct call *call, const char *parameter,
                               const struct volume_row *volume)
{
    const char *path = args_text(call->args, parameter);
    struct access_point_row access_point;

    if (path == NULL) {
        return 0;
    }
    int r = path_access_point(call, parameter, path, &access_point);

    if (r < 0) {
        return r;
    }
    if (strcmp(access_point.system_id, volume->system_id) != 0) {
        return call_fail_param(call, ERR_BAD_VALUE, parameter,
                               "%s belongs to /systems/%s, the volume /volumes/%s to /systems/%s.",
                               path, access_point.system_id, volume->head.id, volume->system_id);
    }
    return 0;
}

static int check_usable(struct call *call, const char *parameter, const struct volume_row *volume)
{
    if (volume->problem[0] != '\0' && volume->kind == VOLUME_HOSTED) {
        return call_fail_param(call, ERR_ILLEGAL_STATE, parameter,
                               "/volumes/%s cannot be used: %.250s Put that right and start the "
                               "service again, or return the volume to its pool.",
                               volume->head.id, volume->problem);
    }
    if (volume->problem[0] != '\0') {
        return call_fail_param(
            call, ERR_LUN_CHANGED, parameter,
            "/volumes/%s cannot be used: %.250s. Put the LUN right, then look at it "
            "again with ScsiScan; if what is there now is meant, name it with "
            "AddReplicationEntity.",
            volume->head.id, volume->problem);
    }
    return 0;
}

static int in_use(struct call *call, const struct sync_row *sync, const char *what,
                  const struct volume_row *volume)
{
    char path[PATH_SIZE];

    snprintf(path, sizeof(path), "/synchronizations/%s", sync->head.id);
    return call_fail_blocked(call, ERR_IN_USE, path,
                             "/volumes/%s is %s in %s. End that relationship first (Detach).",
                             volume->head.id, what, path);
}

struct busy_check {
    const char *except_id;
    bool only_moving;
    bool as_source; /* what is asked is whether the volume can be copied from */
    bool may_share; /* what shares its layers, or mirrors it, takes nothing from it */
    bool may_fill; /* what is being filled reads as what it will be */
    const char *filled_id; /* a volume that is filled from it does not count: what is overwritten is kept for it */
    struct sync_row found;
};

/* Its target is no moment of the source now; its source is one, unless it is being restored. */
static bool mirror_moves(const struct sync_row *sync, bool as_source)
{
    bool whole = sync->copy_state == STATE_SYNCHRONIZED || sync->copy_state == STATE_FRACTURED ||
                 sync->copy_state == STATE_SPLIT || sync->copy_state == STATE_FAILEDOVER;

    return as_source ? !whole || sync->source_incomplete
                     : replica_mirror_connected(sync) || sync->source_incomplete;
}

static int busy_row(void *arg, const void *row)
{
    struct busy_check *check = arg;
    const struct sync_row *sync = row;

    if (check->except_id != NULL && strcmp(sync->head.id, check->except_id) == 0) {
        return 0;
    }
    if (check->only_moving && (replica_is_mirror(sync) ? !mirror_moves(sync, check->as_source)
                                                      : sync->job_id[0] == '\0')) {
        return 0;
    }
    if (check->may_fill && replica_engine_of(sync) == ENGINE_FILL) {
        return 0;
    }
    if (check->filled_id != NULL && replica_engine_of(sync) == ENGINE_FILL &&
        strcmp(sync->target_id, check->filled_id) == 0) {
        return 0;
    }
    if (check->may_share &&
        (replica_is_mirror(sync) || replica_engine_of(sync) == ENGINE_LAYERS)) {
        return 0;
    }
    check->found = *sync;
    return 1;
}

struct alias_check {
    struct call *call;
    const char *column;
    struct busy_check *check;
};

static int busy_alias(void *arg, const void *row)
{
    struct alias_check *alias = arg;
    const struct volume_row *volume = row;
    struct condition where[] = {WHERE_TEXT(alias->column, volume->head.id), WHERE_END};

    return table_each(alias->call->db, &sync_table, where, 0, 0, busy_row, alias->check);
}

/* Under this record of the LUN or another one. 1: found, 0: none. */
static int find_busy(struct call *call, const char *column, const struct volume_row *volume,
                     struct busy_check *check)
{
    struct alias_check alias = {.call = call, .column = column, .check = check};
    int r = busy_alias(&alias, volume);

    if (r == 0) {
        r = volume_each_alias(call->db, volume, busy_alias, &alias);
    }
    return r < 0 ? call_fail_store(call, r) : r;
}

int replica_check_limit(struct call *call, const char *parameter, const struct volume_row *source,
                        size_t n_more)
{
    struct condition where[] = {WHERE_TEXT("source_id", source->head.id),
                                WHERE_NUM("copy_methodology", METHODOLOGY_COPY_ON_WRITE),
                                WHERE_END};
    uint64_t n;
    int r = table_count(call->db, &sync_table, where, &n);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    if (n + n_more > REPLICA_MAX_SHARING) {
        return call_fail_param(call, ERR_LIMIT_REACHED, parameter,
                               "/volumes/%s has %llu replicas that share its data, and %d is the "
                               "limit. Return some to their pool, or detach them.",
                               source->head.id, (unsigned long long)n, REPLICA_MAX_SHARING);
    }
    return 0;
}

int replica_check_idle(struct call *call, const char *parameter, const struct volume_row *volume)
{
    struct busy_check check = {.only_moving = true};
    int r = check_usable(call, parameter, volume);

    if (r == 0) {
        r = find_busy(call, "target_id", volume, &check);
        if (r == 1) {
            return in_use(call, &check.found, "still being written as the target", volume);
        }
    }
    if (r == 0) {
        r = find_busy(call, "source_id", volume, &check);
    }
    return r == 1 ? in_use(call, &check.found, "still being copied as the source", volume) : r;
}

void replica_made_now(struct sync_row *sync, uint64_t now_ms)
{
    sync->copy_state = STATE_SYNCHRONIZED;
    sync->requested_copy_state = STATE_NOT_APPLICABLE;
    sync->progress_status = PROGRESS_COMPLETED;
    sync->percent_synced = 100;
    sync->moment = 0; /* a moment of its own */
    sync->when_activated_ms = now_ms;
    sync->when_synced_ms = now_ms;
    sync->when_synchronized_ms = now_ms;
}

void replica_fills_now(struct sync_row *sync, uint64_t now_ms)
{
    sync->copy_state = STATE_UNSYNCHRONIZED;
    sync->requested_copy_state = STATE_NOT_APPLICABLE;
    sync->progress_status = PROGRESS_SYNCHRONIZING;
    sync->percent_synced = 0;
    sync->when_activated_ms = now_ms;
}

int replica_ended(struct call *call, const struct sync_row *sync)
{
    struct volume_row target;

    if (replica_engine_of(sync) == ENGINE_COPY) {
        return 0;
    }
    if (replica_is_mirror(sync)) {
        return mirror_ended(call, sync);
    }
    int r = table_get(call->db, &volume_table, sync->target_id, &target);

    if (r < 0) {
        return r == -ENOENT ? 0 : call_fail_store(call, r);
    }
    r = hosted_unwatch(call, &target);
    if (r == 0 && sync->read_only != 0) {
        r = hosted_set_read_only(call, &target, false);
    }
    return r < 0 ? r : hosted_show(call, &target);
}

int replica_target_changed(struct call *call, const char *volume_id)
{
    /* A volume is the target of one relationship at most. */
    struct condition where[] = {WHERE_TEXT("target_id", volume_id), WHERE_END};
    struct sync_row sync;
    int r = table_find(call->db, &sync_table, where, &sync);

    if (r == 0 && sync.sync_type == SYNC_SNAPSHOT && sync.copy_state == STATE_SYNCHRONIZED) {
        sync.copy_state = STATE_SKEWED;
        r = table_update(call->db, &sync_table, &sync);
    }
    return r < 0 && r != -ENOENT ? call_fail_store(call, r) : 0;
}

/* 1: a mirror brings it back from its target, and until that is done only both together are whole. */
static int find_restoring(struct call *call, const struct volume_row *source,
                          struct sync_row *ret_sync)
{
    struct condition where[] = {WHERE_TEXT("source_id", source->head.id),
                                WHERE_NUM("sync_type", SYNC_MIRROR),
                                WHERE_NUM("source_incomplete", true), WHERE_END};
    int r = table_find(call->db, &sync_table, where, ret_sync);

    return r == 0 ? 1 : r == -ENOENT ? 0 : call_fail_store(call, r);
}

int replica_check_source(struct call *call, const char *parameter, const struct volume_row *source)
{
    struct busy_check check = {.only_moving = true, .may_fill = true, .as_source = true};
    int r = check_usable(call, parameter, source);

    if (r == 0 && source->offline) {
        return call_fail_param(call, ERR_ILLEGAL_STATE, parameter,
                               "/volumes/%s is a replica that holds nothing now; Activate its "
                               "relationship first.",
                               source->head.id);
    }
    if (r == 0) {
        r = find_busy(call, "target_id", source, &check);
    }
    if (r == 0) {
        r = find_restoring(call, source, &check.found);
    }
    return r == 1 ? in_use(call, &check.found, "still being written as the target", source) : r;
}

static int check_pair(struct call *call, const char *source_parameter,
                      const struct volume_row *source, const char *target_parameter,
                      const struct volume_row *target, const struct sync_row *except,
                      const char *filled_id)
{
    const char *except_id = except != NULL ? except->head.id : NULL;
    struct busy_check check = {.except_id = except_id};
    int r;

    if (strcmp(source->head.id, target->head.id) == 0) {
        return call_fail_param(call, ERR_BAD_VALUE, target_parameter,
                               "Source and target are the same volume, /volumes/%s.",
                               source->head.id);
    }
    if (volume_same_lun(source, target)) {
        return call_fail_param(call, ERR_BAD_VALUE, target_parameter,
                               "/volumes/%s and /volumes/%s are two ways to the same LUN (%.100s).",
                               source->head.id, target->head.id, source->identity);
    }
    r = check_usable(call, target_parameter, target);
    if (r < 0) {
        return r;
    }
    r = find_busy(call, "target_id", target, &check);
    if (r == 1) {
        return in_use(call, &check.found, "the target", target);
    }
    if (r == 0) {
        check.filled_id = filled_id;
        check.may_share = except != NULL && replica_is_mirror(except);
        r = find_busy(call, "source_id", target, &check);
        if (r == 1) {
            return in_use(call, &check.found, "the source", target);
        }
    }
    if (r == 0) {
        r = replica_check_source(call, source_parameter, source);
    }
    if (r < 0) {
        return r;
    }
    if (target->write_protected) {
        return call_fail_param(call, ERR_INCOMPATIBLE, target_parameter,
                               "/volumes/%s is write protected by its system.", target->head.id);
    }
    if (target->size_bytes < source->size_bytes) {
        return call_fail_param(
            call, ERR_TARGET_TOO_SMALL, target_parameter,
            "/volumes/%s has %llu bytes, the source %llu; the target must not be "
            "smaller.",
            target->head.id, (unsigned long long)target->size_bytes,
            (unsigned long long)source->size_bytes);
    }
    return 0;
}

int replica_check_mirror(struct call *call, const char *source_parameter,
                         const struct volume_row *source, const char *target_parameter,
                         const struct volume_row *target)
{
    return check_pair(call, source_parameter, source, target_parameter, target, NULL,
                      source->head.id);
}

int replica_check_pair(struct call *call, const char *source_parameter,
                       const struct volume_row *source, const char *target_parameter,
                       const struct volume_row *target, const struct sync_row *except)
{
    bool mirror = except != NULL && replica_engine_of(except) == ENGINE_MIRROR;

    return check_pair(call, source_parameter, source, target_parameter, target, except,
                      mirror ? source->head.id : NULL);
}

int replica_check_back(struct call *call, const char *parameter, const struct sync_row *sync,
                       const struct volume_row *source, const struct volume_row *target)
{
    struct busy_check check = {.except_id = sync->head.id, .only_moving = true};
    int r = check_usable(call, parameter, source);

    if (r == 0) {
        r = check_usable(call, parameter, target);
    }
    if (r == 0) {
        r = find_busy(call, "target_id", source, &check);
    }
    return r == 1 ? in_use(call, &check.found, "being written as the target", source) : r;
}

int replica_check_still(struct call *call, const struct volume_row *source)
{
    struct busy_check check = {.only_moving = true};
    int r = find_busy(call, "target_id", source, &check);

    return r == 1 ? in_use(call, &check.found, "being written as the target", source) : r;
}
