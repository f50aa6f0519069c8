// SPDX-License-Identifier: Apache-2.0
/*
 * Records as tables of columns: one description drives insert, get, update, list and count.
 *
 * Thread:    that of the struct db.
 * Ownership: rows are plain structs of fixed size; text is in char arrays and is never cut: too long
 *            is -ENAMETOOLONG.
 * Errors:    as in store/store.h.
 *
 * Every table has `seq INTEGER PRIMARY KEY AUTOINCREMENT` (order of creation) and `id TEXT UNIQUE`;
 * a row struct begins with struct row_head.
 */
#ifndef STORE_TABLE_H
#define STORE_TABLE_H

#include "store/store.h"

struct row_head {
    int64_t seq; /* set by insert */
    char id[ID_SIZE];
};

enum column_type { COLUMN_TEXT, COLUMN_U32, COLUMN_U64, COLUMN_BOOL };

struct column {
    const char *name;
    enum column_type type;
    size_t offset;
    size_t size; /* of the member */
};

struct table {
    const char *name;
    size_t row_size;
    const struct column *columns; /* without seq and id */
    size_t n_columns;
};

/* clang-format off */
#define COLUMN(row_type, kind, member)                                                             \
    {                                                                                              \
        #member, COLUMN_##kind, offsetof(row_type, member), sizeof(((row_type *)0)->member)        \
    }
/* clang-format on */

/* An equality filter: column = value. Lists of them end with WHERE_END; a list that is NULL lets
 * all rows through. The kind of value must be that of the column, and a text may not be NULL. */
struct condition {
    const char *column; /* "id", "seq" or a column's name; NULL ends a list */
    enum column_type type;
    const char *text;
    uint64_t number;
};
#define WHERE_TEXT(col, value)                                                                     \
    ((struct condition){.column = (col), .type = COLUMN_TEXT, .text = (value)})
#define WHERE_NUM(col, value)                                                                      \
    ((struct condition){.column = (col), .type = COLUMN_U64, .number = (value)})
#define WHERE_END ((struct condition){0})

/*
 * Changes. A text that is too long for its member (no terminating zero) is -ENAMETOOLONG, a number
 * above 2^63-1 -ERANGE; then nothing has changed. A reference to a row that does not exist is
 * -ENOENT.
 */
/* Sets head.seq, and head.id where it is ""; both stay as they are when it fails. */
int table_insert(struct db *db, const struct table *table, void *row);
/* All columns, by id; -ENOENT when there is no such row. */
int table_update(struct db *db, const struct table *table, const void *row);
/* -ENOENT when there is no such row, -EBUSY when rows of another table still refer to it. */
int table_delete(struct db *db, const struct table *table, const char *id);

int table_get(struct db *db, const struct table *table, const char *id, void *ret_row);
/* First row that fits, in order of seq; -ENOENT when none. */
int table_find(struct db *db, const struct table *table, const struct condition *where,
               void *ret_row);
/* Calls fn for each row with seq > after_seq, in order, at most limit (0: all). fn returns 0 to go
 * on, anything else ends the walk and is returned. fn may not change the table; it may walk and
 * read whatever it likes. */
typedef int (*table_row_fn)(void *arg, const void *row);
int table_each(struct db *db, const struct table *table, const struct condition *where,
               int64_t after_seq, uint64_t limit, table_row_fn fn, void *arg);
/* The rows of another table that refer to those of table_each() by their id, ids only, in order of
 * both; seq is that of the row of the walk. One query, whatever the number of rows. */
struct table_relation {
    const struct table *table;
    const char *column; /* which holds the id */
};
typedef int (*table_related_fn)(void *arg, int64_t seq, const char *id);
int table_each_related(struct db *db, const struct table *table, const struct condition *where,
                       int64_t after_seq, uint64_t limit, const struct table_relation *relation,
                       table_related_fn fn, void *arg);
int table_count(struct db *db, const struct table *table, const struct condition *where,
                uint64_t *ret_count);
/* All rows into a malloc()ed array that the caller frees (NULL when there are none); for walks that
 * change the table. */
int table_load(struct db *db, const struct table *table, const struct condition *where,
               void **ret_rows, size_t *ret_n);

#endif
