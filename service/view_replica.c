// SPDX-License-Identifier: Apache-2.0
/* Relationships, and the settings of their targets. */
#include <errno.h>

#include "base/check.h"
#include "replication/copy.h"
#include "service/live.h"
#include "service/replica_states.h"
#include "service/view_maps.h"
#include "service/view_parts.h"
#include "store/cycle.h"
#include "store/job.h"
#include "store/pipe.h"
#include "store/replica.h"
#include "store/system.h"

/* Of a mirror: what is the same on both sides now; 100 only when all is. */
static int mirror_percent(struct view *view, const struct sync_row *sync, uint32_t *ret_percent)
{
    struct copy_progress live;

    view->moving = view->moving || sync->copy_state != STATE_SYNCHRONIZED;
    if (sync->copy_state != STATE_SYNCHRONIZED && view->live != NULL &&
        live_get(view->live, sync->head.id, &live)) {
        uint32_t percent = view_percent(live.bytes_total, live.bytes_done, false, false);

        *ret_percent = percent > 99 ? 99 : percent;
    }
    return 0;
}

/* What was committed, or further where a copy is running: bytes, not checkpoints, so that it moves.
 */
int view_sync_percent(struct view *view, const struct sync_row *sync, uint32_t *ret_percent)
{
    const struct condition where[] = {WHERE_TEXT("sync_id", sync->head.id),
                                      WHERE_TEXT("job_id", sync->job_id), WHERE_END};
    struct copy_progress progress;
    struct copy_row copy;

    *ret_percent = sync->percent_synced <= 100 ? sync->percent_synced : 100;
    if (replica_mirror_connected(sync)) {
        return mirror_percent(view, sync, ret_percent);
    }
    if (sync->job_id[0] == '\0') {
        return 0;
    }
    int r = table_find(view->db, &copy_table, where, &copy);
    if (r < 0) {
        return r == -ENOENT ? 0 : r;
    }
    view_progress(view, &copy, &progress);
    uint32_t live =
        view_percent(progress.bytes_total, progress.bytes_done, copy.verify, progress.verifying);
    *ret_percent = live > *ret_percent ? live : *ret_percent;
    return 0;
}

static void sync_kind(const struct sync_row *sync, struct out *out)
{
    out_ref(out, "SystemElement", "volumes", sync->source_id);
    out_ref(out, "SyncedElement", "volumes", sync->target_id);
    out_enum(out, "SyncType", &map_sync_type, sync->sync_type);
    out_enum(out, "Mode", &map_mode, sync->mode);
    out_enum(out, "CopyType", &map_copy_type, sync->copy_type);
    out_enum(out, "ReplicaType", &map_replica_type, sync->replica_type);
    out_enum(out, "ReplicationType", &map_replication_type,
             replication_type(sync->sync_type, sync->mode, sync->remote));
}

static void sync_state(const struct sync_row *sync, uint32_t percent, struct out *out)
{
    out_enum(out, "CopyState", &map_copy_state, sync->copy_state);
    out_enum(out, "RequestedCopyState", &map_copy_state, sync->requested_copy_state);
    out_enum(out, "ProgressStatus", &map_progress_status, sync->progress_status);
    out_enum(out, "SyncState", &map_sync_state,
             replica_sync_state(sync->copy_state, sync->progress_status));
    out_bool(out, "SyncMaintained", replica_sync_maintained(sync));
    out_number(out, "PercentSynced", percent);
    out_time(out, "WhenSynced", sync->when_synced_ms);
    out_time(out, "WhenEstablished", sync->when_established_ms);
    out_time(out, "WhenActivated", sync->when_activated_ms);
    out_time(out, "WhenDeactivated", sync->when_deactivated_ms);
    out_time(out, "WhenSynchronized", sync->when_synchronized_ms);
    out_time(out, "WhenSuspended", sync->when_suspended_ms);
}

static void sync_settings(const struct sync_row *sync, struct out *out)
{
    out_enum(out, "CopyPriority", &map_copy_priority, sync->copy_priority);
    out_enum(out, "CopyMethodology", &map_copy_methodology, sync->copy_methodology);
    out_enum(out, "CopyRecoveryMode", &map_copy_recovery_mode, sync->copy_recovery_mode);
    out_bool(out, "FailedCopyStopsHostIO", sync->failed_copy_stops_host_io);
    /* Both elements are volumes that we know. */
    view_enum_or_null(out, "UndiscoveredElement", &map_read_only, 0);
    view_enum_or_null(out, "ReadOnly", &map_read_only, sync->read_only);
    out_number(out, "BandwidthLimit", sync->bandwidth_limit);
    out_bool(out, "Verify", sync->verify);
}

/* The pipe that it goes through, and the limit that it shares there. */
static int sync_pipe(struct view *view, const struct sync_row *sync, struct out *out)
{
    struct pipe_row pipe = {.bandwidth_limit = 0};
    int r = sync->pipe_id[0] == '\0' ? 0 : table_get(view->db, &pipe_table, sync->pipe_id, &pipe);

    if (r < 0 && r != -ENOENT) {
        return r;
    }
    out_ref(out, "ReplicationPipe", "pipes", sync->pipe_id);
    out_number(out, "PipeBandwidthLimit", pipe.bandwidth_limit);
    return 0;
}

static void sync_operations(const struct sync_row *sync, struct out *out)
{
    uint32_t legal[OPERATION_COUNT];
    size_t n = 0;

    for (uint32_t operation = 2; operation < OPERATION_COUNT; operation++) {
        if (replica_verdict_of(sync, operation) ==
            VERDICT_LEGAL) {
            legal[n++] = operation;
        }
    }
    view_enums(out, "LegalOperations", &map_operation, legal, n);
}

static void interval_or_null(struct out *out, const char *name, uint64_t ms)
{
    if (ms == 0) {
        out_null(out, name);
    } else {
        out_interval(out, name, ms);
    }
}

/* How far the target of an asynchronous mirror is behind. */
static int sync_lag(struct view *view, const struct sync_row *sync, struct out *out)
{
    bool asynchronous = replica_engine_of(sync) == ENGINE_ASYNC;
    struct cycle_row cycle = {0};
    struct live_lag lag = {0};
    int r = asynchronous ? cycle_find(view->db, sync->head.id, &cycle) : -ENOENT;

    if (r < 0 && r != -ENOENT) {
        return r;
    }
    if (!asynchronous) {
        static const char *const names[] = {"LagBytes",       "LagSeconds", "LastConsistentPoint",
                                            "AchievedRPO50",  "AchievedRPO99",
                                            "UpdateInterval", "Cycles",     "CycleBytes"};

        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
            out_null(out, names[i]);
        }
        return 0;
    }
    view->moving = true;
    if (replica_mirror_target_free(sync->copy_state) && cycle.way != CYCLE_RESTS) {
        cycle.point_ms = 0; /* what an interrupted cycle has begun is being undone */
    }
    bool known = view->live != NULL && live_lag_get(view->live, sync->head.id, &lag);

    if (known && lag.known) {
        out_number(out, "LagBytes", lag.lag_bytes);
    } else {
        out_null(out, "LagBytes");
    }
    if (cycle.point_ms != 0) {
        out_number(out, "LagSeconds",
                   view->now_ms > cycle.point_ms ? (view->now_ms - cycle.point_ms) / 1000 : 0);
    } else {
        out_null(out, "LagSeconds");
    }
    out_time(out, "LastConsistentPoint", cycle.point_ms);
    interval_or_null(out, "AchievedRPO50", cycle_history_percentile(cycle.history, 50));
    interval_or_null(out, "AchievedRPO99", cycle_history_percentile(cycle.history, 99));
    interval_or_null(out, "UpdateInterval", known ? lag.interval_ms : 0);
    out_number(out, "Cycles", cycle.cycles);
    out_number(out, "CycleBytes", cycle.moved_bytes);
    return 0;
}

static int sync_object(struct view *view, const void *row, struct out *out)
{
    const struct sync_row *sync = row;
    uint32_t percent;
    int r = view_sync_percent(view, sync, &percent);

    if (r < 0) {
        return r;
    }
    out_begin_object(out, NULL);
    view_head(out, COLLECTION_SYNCHRONIZATIONS, sync->head.id);
    sync_kind(sync, out);
    sync_state(sync, percent, out);
    sync_settings(sync, out);
    r = sync_lag(view, sync, out);
    if (r < 0) {
        return r;
    }
    out_text_or_null(out, "Problem", sync->problem);
    r = sync_pipe(view, sync, out);
    if (r < 0) {
        return r;
    }
    out_ref(out, "Job", "jobs", sync->job_id);
    out_ref(out, "GroupSynchronized", "groupsynchronizations", sync->group_sync_id);
    sync_operations(sync, out);
    out_end_object(out);
    return 0;
}

static const struct view_filter sync_filters[] = {
    {.name = "SystemElement", .column = "source_id", .kind = FILTER_PATH, .collection = "volumes"},
    {.name = "SyncedElement", .column = "target_id", .kind = FILTER_PATH, .collection = "volumes"},
    {.name = "SyncType", .column = "sync_type", .kind = FILTER_ENUM, .map = &map_sync_type},
    {.name = "Mode", .column = "mode", .kind = FILTER_ENUM, .map = &map_mode},
    {.name = "CopyType", .column = "copy_type", .kind = FILTER_ENUM, .map = &map_copy_type},
    {.name = "CopyState", .column = "copy_state", .kind = FILTER_ENUM, .map = &map_copy_state},
    {.name = "Job", .column = "job_id", .kind = FILTER_PATH, .collection = "jobs"},
    {.name = "ReplicationPipe", .column = "pipe_id", .kind = FILTER_PATH, .collection = "pipes"},
};
const struct view_kind view_synchronizations = {
    .table = &sync_table,
    .row = sync_object,
    .filters = sync_filters,
    .n_filters = ARRAY_LEN(sync_filters),
};

/* Settings */

enum { SETTING_FIXED = 0 };

static int setting_object(struct view *view, const void *row, struct out *out)
{
    const struct setting_row *setting = row;

    (void)view;
    out_begin_object(out, NULL);
    view_head(out, COLLECTION_SETTINGS, setting->head.id);
    view_instance_id(out, "InstanceID", setting->head.id);
    out_text(out, "ElementName", setting->element_name);
    out_enum(out, "ChangeableType", &map_setting_changeable_type, SETTING_FIXED);
    out_enum(out, "InitialSynchronization", &map_initial_synchronization,
             setting->initial_synchronization);
    out_enum(out, "ReplicationPriority", &map_replication_priority, setting->replication_priority);
    out_number(out, "BandwidthLimit", setting->bandwidth_limit);
    out_bool(out, "Verify", setting->verify);
    out_end_object(out);
    return 0;
}

static const struct view_filter setting_filters[] = {
    {.name = "ElementName", .column = "element_name", .kind = FILTER_TEXT},
};
const struct view_kind view_settings = {
    .table = &setting_table,
    .row = setting_object,
    .filters = setting_filters,
    .n_filters = ARRAY_LEN(setting_filters),
};
