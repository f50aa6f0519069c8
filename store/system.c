// SPDX-License-Identifier: Apache-2.0
#include "store/system.h"

#include "base/check.h"

static const struct column system_columns[] = {
    COLUMN(struct system_row, TEXT, element_name),
    COLUMN(struct system_row, BOOL, local),
    COLUMN(struct system_row, U64, created_ms),
};
const struct table system_table = {"systems", sizeof(struct system_row), system_columns,
                                   ARRAY_LEN(system_columns)};

static const struct column access_point_columns[] = {
    COLUMN(struct access_point_row, TEXT, system_id),
    COLUMN(struct access_point_row, TEXT, element_name),
    COLUMN(struct access_point_row, TEXT, access_info),
    COLUMN(struct access_point_row, TEXT, address),
    COLUMN(struct access_point_row, U32, info_format),
    COLUMN(struct access_point_row, BOOL, registered),
    COLUMN(struct access_point_row, U64, created_ms),
    COLUMN(struct access_point_row, BOOL, reachable),
    COLUMN(struct access_point_row, BOOL, probed),
    COLUMN(struct access_point_row, U64, last_seen_ms),
    COLUMN(struct access_point_row, U64, last_tried_ms),
    COLUMN(struct access_point_row, TEXT, last_error),
};
const struct table access_point_table = {"access_points", sizeof(struct access_point_row),
                                         access_point_columns, ARRAY_LEN(access_point_columns)};

static const struct column secret_columns[] = {
    COLUMN(struct secret_row, TEXT, access_point_id), COLUMN(struct secret_row, TEXT, remote_id),
    COLUMN(struct secret_row, TEXT, secret),          COLUMN(struct secret_row, TEXT, algorithm),
    COLUMN(struct secret_row, TEXT, protocol),        COLUMN(struct secret_row, U64, created_ms),
};
const struct table secret_table = {"secrets", sizeof(struct secret_row), secret_columns,
                                   ARRAY_LEN(secret_columns)};

static const struct column setting_columns[] = {
    COLUMN(struct setting_row, TEXT, element_name),
    COLUMN(struct setting_row, U32, replication_priority),
    COLUMN(struct setting_row, U32, initial_synchronization),
    COLUMN(struct setting_row, U64, bandwidth_limit),
    COLUMN(struct setting_row, BOOL, verify),
    COLUMN(struct setting_row, U64, created_ms),
};
const struct table setting_table = {"settings", sizeof(struct setting_row), setting_columns,
                                    ARRAY_LEN(setting_columns)};
