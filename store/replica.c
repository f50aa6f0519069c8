// SPDX-License-Identifier: Apache-2.0
#include "store/replica.h"

#include "base/check.h"

static const struct column sync_columns[] = {
    COLUMN(struct sync_row, TEXT, source_id),
    COLUMN(struct sync_row, TEXT, target_id),
    COLUMN(struct sync_row, U32, sync_type),
    COLUMN(struct sync_row, U32, mode),
    COLUMN(struct sync_row, U32, copy_type),
    COLUMN(struct sync_row, U32, replica_type),
    COLUMN(struct sync_row, BOOL, remote),
    COLUMN(struct sync_row, U32, copy_state),
    COLUMN(struct sync_row, U32, requested_copy_state),
    COLUMN(struct sync_row, U32, progress_status),
    COLUMN(struct sync_row, BOOL, temporary),
    COLUMN(struct sync_row, BOOL, created_target),
    COLUMN(struct sync_row, TEXT, job_id),
    COLUMN(struct sync_row, U32, copy_priority),
    COLUMN(struct sync_row, U32, copy_methodology),
    COLUMN(struct sync_row, U32, copy_recovery_mode),
    COLUMN(struct sync_row, BOOL, failed_copy_stops_host_io),
    COLUMN(struct sync_row, U32, read_only),
    COLUMN(struct sync_row, U64, bandwidth_limit),
    COLUMN(struct sync_row, BOOL, verify),
    COLUMN(struct sync_row, U64, copied_bytes),
    COLUMN(struct sync_row, BOOL, source_incomplete),
    COLUMN(struct sync_row, U32, percent_synced),
    COLUMN(struct sync_row, U64, when_established_ms),
    COLUMN(struct sync_row, U64, when_activated_ms),
    COLUMN(struct sync_row, U64, when_synced_ms),
    COLUMN(struct sync_row, U64, when_synchronized_ms),
    COLUMN(struct sync_row, U64, when_suspended_ms),
    COLUMN(struct sync_row, U64, when_deactivated_ms),
    COLUMN(struct sync_row, TEXT, pipe_id),
    COLUMN(struct sync_row, TEXT, group_sync_id),
    COLUMN(struct sync_row, U64, moment),
    COLUMN(struct sync_row, U32, map_state),
    COLUMN(struct sync_row, U32, map_generation),
    COLUMN(struct sync_row, U32, revision),
    COLUMN(struct sync_row, BOOL, target_tracked),
    COLUMN(struct sync_row, U64, delta_update_interval_ms),
    COLUMN(struct sync_row, U64, delta_update_blocks),
    COLUMN(struct sync_row, U64, desired_rpo_ms),
    COLUMN(struct sync_row, TEXT, problem),
};
const struct table sync_table = {"synchronizations", sizeof(struct sync_row), sync_columns,
                                 ARRAY_LEN(sync_columns)};

int sync_find_pair(struct db *db, const char *source_id, const char *target_id,
                   struct sync_row *ret_row)
{
    const struct condition pair[] = {WHERE_TEXT("source_id", source_id),
                                     WHERE_TEXT("target_id", target_id), WHERE_END};
    return table_find(db, &sync_table, pair, ret_row);
}
