// SPDX-License-Identifier: Apache-2.0
#include "store/group.h"

#include "base/check.h"

static const struct column group_columns[] = {
    COLUMN(struct group_row, TEXT, element_name),
    COLUMN(struct group_row, BOOL, persistent),
    COLUMN(struct group_row, BOOL, delete_on_empty),
    COLUMN(struct group_row, BOOL, delete_on_unassociated),
    COLUMN(struct group_row, BOOL, consistent_point_in_time),
    COLUMN(struct group_row, U32, reserved_as),
    COLUMN(struct group_row, U64, created_ms),
};
const struct table group_table = {"replication_groups", sizeof(struct group_row), group_columns,
                                  ARRAY_LEN(group_columns)};

static const struct column group_member_columns[] = {
    COLUMN(struct group_member_row, TEXT, group_id),
    COLUMN(struct group_member_row, TEXT, volume_id),
};
const struct table group_member_table = {"group_members", sizeof(struct group_member_row),
                                         group_member_columns, ARRAY_LEN(group_member_columns)};

static const struct column group_sync_columns[] = {
    COLUMN(struct group_sync_row, TEXT, relationship_name),
    COLUMN(struct group_sync_row, TEXT, system_element),
    COLUMN(struct group_sync_row, TEXT, synced_element),
    COLUMN(struct group_sync_row, TEXT, source_group_id),
    COLUMN(struct group_sync_row, TEXT, target_group_id),
    COLUMN(struct group_sync_row, U32, sync_type),
    COLUMN(struct group_sync_row, U32, mode),
    COLUMN(struct group_sync_row, BOOL, consistency),
    COLUMN(struct group_sync_row, U64, moments),
    COLUMN(struct group_sync_row, U64, barrier_microseconds),
    COLUMN(struct group_sync_row, U64, when_established_ms),
};
const struct table group_sync_table = {"group_synchronizations", sizeof(struct group_sync_row),
                                       group_sync_columns, ARRAY_LEN(group_sync_columns)};

int group_member_find(struct db *db, const char *group_id, const char *volume_id,
                      struct group_member_row *ret_row)
{
    const struct condition member[] = {WHERE_TEXT("group_id", group_id),
                                       WHERE_TEXT("volume_id", volume_id), WHERE_END};

    return table_find(db, &group_member_table, member, ret_row);
}
