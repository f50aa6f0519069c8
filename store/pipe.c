// SPDX-License-Identifier: Apache-2.0
#include "store/pipe.h"

#include "base/check.h"

static const struct column endpoint_columns[] = {
    COLUMN(struct endpoint_row, TEXT, system_id),    COLUMN(struct endpoint_row, U32, kind),
    COLUMN(struct endpoint_row, TEXT, element_name), COLUMN(struct endpoint_row, TEXT, address),
    COLUMN(struct endpoint_row, U64, created_ms),
};
const struct table endpoint_table = {"endpoints", sizeof(struct endpoint_row), endpoint_columns,
                                     ARRAY_LEN(endpoint_columns)};

static const struct column pipe_columns[] = {
    COLUMN(struct pipe_row, TEXT, element_name),
    COLUMN(struct pipe_row, TEXT, source_system_id),
    COLUMN(struct pipe_row, TEXT, target_system_id),
    COLUMN(struct pipe_row, TEXT, parent_id),
    COLUMN(struct pipe_row, U32, position),
    COLUMN(struct pipe_row, TEXT, source_endpoint_id),
    COLUMN(struct pipe_row, TEXT, target_endpoint_id),
    COLUMN(struct pipe_row, BOOL, bidirectional),
    COLUMN(struct pipe_row, U64, bandwidth_limit),
    COLUMN(struct pipe_row, U32, sessions_per_pair),
    COLUMN(struct pipe_row, U32, header_digest),
    COLUMN(struct pipe_row, U32, data_digest),
    COLUMN(struct pipe_row, TEXT, secret_access_point_id),
    COLUMN(struct pipe_row, U64, created_ms),
};
const struct table pipe_table = {"pipes", sizeof(struct pipe_row), pipe_columns,
                                 ARRAY_LEN(pipe_columns)};
