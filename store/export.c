// SPDX-License-Identifier: Apache-2.0
#include "store/export.h"

#include <errno.h>

#include "base/check.h"
#include "store/db.h"

static const struct column export_columns[] = {
    COLUMN(struct export_row, TEXT, element_name),  COLUMN(struct export_row, TEXT, iqn),
    COLUMN(struct export_row, TEXT, own_volume_id), COLUMN(struct export_row, BOOL, all_initiators),
    COLUMN(struct export_row, U64, created_ms),
};
const struct table export_table = {"exports", sizeof(struct export_row), export_columns,
                                   ARRAY_LEN(export_columns)};

static const struct column export_lun_columns[] = {
    COLUMN(struct export_lun_row, TEXT, export_id),
    COLUMN(struct export_lun_row, U32, number),
    COLUMN(struct export_lun_row, TEXT, volume_id),
    COLUMN(struct export_lun_row, BOOL, read_only),
};
const struct table export_lun_table = {"export_luns", sizeof(struct export_lun_row),
                                       export_lun_columns, ARRAY_LEN(export_lun_columns)};

static const struct column export_initiator_columns[] = {
    COLUMN(struct export_initiator_row, TEXT, export_id),
    COLUMN(struct export_initiator_row, TEXT, initiator),
};
const struct table export_initiator_table = {
    "export_initiators", sizeof(struct export_initiator_row), export_initiator_columns,
    ARRAY_LEN(export_initiator_columns)};

static int reservation_delete(struct db *db, const char *export_id, uint32_t number)
{
    struct statement *statement;
    int err = statement_sql(db, "DELETE FROM reservations WHERE export_id = ? AND number = ?",
                            &statement);
    if (err < 0) {
        return err;
    }
    statement_bind_text(statement, 1, export_id);
    statement_bind_i64(statement, 2, number);
    return statement_run(statement, -EIO, NULL);
}

int reservation_put(struct db *db, const char *export_id, uint32_t number, const void *bytes,
                    size_t len)
{
    struct statement *statement;
    if (len == 0) {
        return reservation_delete(db, export_id, number);
    }
    int err =
        statement_sql(db,
                      "INSERT INTO reservations (export_id, number, bytes) VALUES (?, ?, ?)"
                      "  ON CONFLICT (export_id, number) DO UPDATE SET bytes = excluded.bytes",
                      &statement);
    if (err < 0) {
        return err;
    }
    statement_bind_text(statement, 1, export_id);
    statement_bind_i64(statement, 2, number);
    statement_bind_blob(statement, 3, bytes, len);
    return statement_run(statement, -ENOENT, NULL);
}

int reservation_get(struct db *db, const char *export_id, uint32_t number, struct strbuf *ret_bytes)
{
    struct statement *statement;
    size_t len;
    int err = statement_sql(db, "SELECT bytes FROM reservations WHERE export_id = ? AND number = ?",
                            &statement);
    if (err < 0) {
        return err;
    }
    statement_bind_text(statement, 1, export_id);
    statement_bind_i64(statement, 2, number);
    err = statement_step(statement);
    if (err == 1) {
        const void *bytes = statement_blob(statement, 0, &len);
        strbuf_add(ret_bytes, bytes, len);
        err = strbuf_error(ret_bytes);
    } else if (err == 0) {
        err = -ENOENT;
    }
    statement_done(statement);
    return err;
}
