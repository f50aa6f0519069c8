// SPDX-License-Identifier: Apache-2.0
#include "store/volume.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "store/table_sql.h"

static const struct column volume_columns[] = {
    COLUMN(struct volume_row, U32, kind),
    COLUMN(struct volume_row, TEXT, element_name),
    COLUMN(struct volume_row, TEXT, system_id),
    COLUMN(struct volume_row, TEXT, pool_id),
    COLUMN(struct volume_row, BOOL, allocated),
    COLUMN(struct volume_row, TEXT, access_point_id),
    COLUMN(struct volume_row, TEXT, iqn),
    COLUMN(struct volume_row, U64, lun),
    COLUMN(struct volume_row, U64, size_bytes),
    COLUMN(struct volume_row, U32, block_bytes),
    COLUMN(struct volume_row, U32, physical_bytes),
    COLUMN(struct volume_row, TEXT, identity),
    COLUMN(struct volume_row, TEXT, vendor),
    COLUMN(struct volume_row, TEXT, product),
    COLUMN(struct volume_row, TEXT, revision),
    COLUMN(struct volume_row, TEXT, serial),
    COLUMN(struct volume_row, BOOL, thin),
    COLUMN(struct volume_row, BOOL, write_protected),
    COLUMN(struct volume_row, BOOL, persistent),
    COLUMN(struct volume_row, TEXT, setting_id),
    COLUMN(struct volume_row, TEXT, problem),
    COLUMN(struct volume_row, TEXT, family),
    COLUMN(struct volume_row, TEXT, top_layer_id),
    COLUMN(struct volume_row, BOOL, watched),
    COLUMN(struct volume_row, BOOL, offline),
    COLUMN(struct volume_row, BOOL, guarded),
    COLUMN(struct volume_row, U64, created_ms),
    COLUMN(struct volume_row, U64, last_seen_ms),
};
const struct table volume_table = {"volumes", sizeof(struct volume_row), volume_columns,
                                   ARRAY_LEN(volume_columns)};

static const struct column pool_columns[] = {
    COLUMN(struct pool_row, U32, kind),
    COLUMN(struct pool_row, TEXT, element_name),
    COLUMN(struct pool_row, TEXT, system_id),
    COLUMN(struct pool_row, TEXT, path),
    COLUMN(struct pool_row, U64, capacity_bytes),
    COLUMN(struct pool_row, U64, created_ms),
};
const struct table pool_table = {"pools", sizeof(struct pool_row), pool_columns,
                                 ARRAY_LEN(pool_columns)};

static const struct column layer_columns[] = {
    COLUMN(struct layer_row, TEXT, pool_id),
    COLUMN(struct layer_row, TEXT, parent_id),
    COLUMN(struct layer_row, TEXT, family),
    COLUMN(struct layer_row, U64, size_bytes),
    COLUMN(struct layer_row, TEXT, bottom_volume_id),
    COLUMN(struct layer_row, U64, bottom_bytes),
};
const struct table layer_table = {"layers", sizeof(struct layer_row), layer_columns,
                                  ARRAY_LEN(layer_columns)};

int layer_chain(struct db *db, const char *top_layer_id, struct layer_row **ret_rows, size_t *ret_n)
{
    struct layer_row *rows = NULL;
    size_t room = 0;
    size_t n = 0;
    struct layer_row row;

    for (const char *id = top_layer_id; id[0] != '\0'; id = row.parent_id) {
        int err = table_get(db, &layer_table, id, &row);

        if (err == 0 && n == room) {
            struct layer_row *more = realloc(rows, (room + 16) * 2 * sizeof(*rows));

            err = more == NULL ? -ENOMEM : 0;
            if (more != NULL) {
                rows = more;
                room = (room + 16) * 2;
            }
        }
        if (err < 0) {
            free(rows);
            return err == -ENOENT ? -EIO : err; /* the records contradict themselves */
        }
        rows[n++] = row;
    }
    for (size_t i = 0; i < n / 2; i++) {
        struct layer_row swap = rows[i];

        rows[i] = rows[n - 1 - i];
        rows[n - 1 - i] = swap;
    }
    *ret_rows = rows;
    *ret_n = n;
    return 0;
}

/* The terms on allocated and pool_id are those of the index volumes_free, which has the rows in the
 * order wanted. */
static void build_find_free(const void *arg, struct strbuf *sql)
{
    (void)arg;
    table_select(&volume_table, sql);
    strbuf_puts(sql,
                " WHERE size_bytes >= ?1 AND block_bytes = ?2 AND id <> ?3"
                "   AND allocated = 0 AND pool_id <> ''"
                "   AND (?4 = '' OR pool_id = ?4)"
                "   AND write_protected = 0 AND problem = ''"
                "   AND EXISTS (SELECT 1 FROM pools WHERE pools.id = volumes.pool_id"
                "                                     AND pools.kind = ?5)"
                "   AND NOT EXISTS (SELECT 1 FROM synchronizations WHERE source_id = volumes.id)"
                "   AND NOT EXISTS (SELECT 1 FROM synchronizations WHERE target_id = volumes.id)"
                " ORDER BY size_bytes, seq LIMIT 1");
}

int volume_find_free(struct db *db, const char *pool_id, uint64_t size_bytes, uint32_t block_bytes,
                     const char *not_volume_id, struct volume_row *ret_row)
{
    struct statement *statement;
    int err = statement_get(db, "#find_free volumes", build_find_free, NULL, &statement);
    if (err < 0) {
        return err;
    }
    statement_bind_u64(statement, 1, size_bytes);
    statement_bind_i64(statement, 2, block_bytes);
    statement_bind_text(statement, 3, not_volume_id);
    statement_bind_text(statement, 4, pool_id);
    statement_bind_i64(statement, 5, POOL_REMOTE);
    err = statement_step(statement);
    if (err > 0) {
        err = table_row_read(&volume_table, statement, ret_row);
    } else if (err == 0 || err == -ERANGE) {
        err = -ENOENT; /* no volume is larger than a column can say */
    }
    statement_done(statement);
    return err;
}

int pool_capacity(struct db *db, const char *pool_id, uint64_t *ret_total, uint64_t *ret_free)
{
    struct statement *statement;
    int err = statement_sql(db,
                            "SELECT coalesce(sum(size_bytes), 0),"
                            "       coalesce(sum(size_bytes) FILTER (WHERE allocated = 0), 0)"
                            "  FROM volumes WHERE pool_id = ?",
                            &statement);
    if (err < 0) {
        return err;
    }
    statement_bind_text(statement, 1, pool_id);
    err = statement_step(statement);
    if (err > 0) {
        *ret_total = (uint64_t)statement_i64(statement, 0);
        *ret_free = (uint64_t)statement_i64(statement, 1);
        err = 0;
    }
    statement_done(statement);
    return err;
}
