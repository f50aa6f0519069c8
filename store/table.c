// SPDX-License-Identifier: Apache-2.0
/*
 * SQL from column descriptions.
 *
 * A text is made once for each connection, table, kind of statement and set of filter columns. Its
 * short key, such as "#each volumes pool_id allocated", finds it again without making it.
 *
 * Column positions: a SELECT gives seq, id, then the columns of the table; an INSERT binds id, then
 * the columns.
 */
#include "store/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "store/table_sql.h"

#define MAX_CONDITIONS 8
#define MAX_COLUMNS    64
#define KEY_SIZE       320
#define HEAD_COLUMNS   2 /* seq, id */

/* What a text is made from. */
struct query {
    const struct table *table;
    const struct condition *where; /* NULL: none */
    const struct table_relation *relation;
};

/* Texts */

static void add_where(const struct query *query, struct strbuf *sql)
{
    const char *glue = " WHERE ";
    for (const struct condition *c = query->where; c != NULL && c->column != NULL; c++) {
        strbuf_printf(sql, "%s%s = ?", glue, c->column);
        glue = " AND ";
    }
}

void table_select(const struct table *table, struct strbuf *sql)
{
    strbuf_puts(sql, "SELECT seq, id");
    for (size_t i = 0; i < table->n_columns; i++) {
        strbuf_printf(sql, ", %s", table->columns[i].name);
    }
    strbuf_printf(sql, " FROM %s", table->name);
}

static void build_get(const void *arg, struct strbuf *sql)
{
    const struct query *query = arg;
    table_select(query->table, sql);
    strbuf_puts(sql, " WHERE id = ?");
}

static void build_each(const void *arg, struct strbuf *sql)
{
    const struct query *query = arg;
    table_select(query->table, sql);
    add_where(query, sql);
    bool first = query->where == NULL || query->where->column == NULL;
    strbuf_printf(sql, "%s seq > ? ORDER BY seq LIMIT ?", first ? " WHERE" : " AND");
}

/* CROSS JOIN: the rows first, then the index of the other table for each of them. */
static void build_related(const void *arg, struct strbuf *sql)
{
    const struct query *query = arg;
    bool first = query->where == NULL || query->where->column == NULL;
    strbuf_printf(sql, "SELECT a.seq, b.id FROM (SELECT seq, id FROM %s", query->table->name);
    add_where(query, sql);
    strbuf_printf(sql, "%s seq > ? ORDER BY seq LIMIT ?) AS a", first ? " WHERE" : " AND");
    strbuf_printf(sql, " CROSS JOIN %s AS b ON b.%s = a.id ORDER BY a.seq, b.seq",
                  query->relation->table->name, query->relation->column);
}

static void build_count(const void *arg, struct strbuf *sql)
{
    const struct query *query = arg;
    strbuf_printf(sql, "SELECT count(*) FROM %s", query->table->name);
    add_where(query, sql);
}

static void build_insert(const void *arg, struct strbuf *sql)
{
    const struct table *table = ((const struct query *)arg)->table;
    strbuf_printf(sql, "INSERT INTO %s (id", table->name);
    for (size_t i = 0; i < table->n_columns; i++) {
        strbuf_printf(sql, ", %s", table->columns[i].name);
    }
    strbuf_puts(sql, ") VALUES (?");
    for (size_t i = 0; i < table->n_columns; i++) {
        strbuf_puts(sql, ", ?");
    }
    strbuf_putc(sql, ')');
}

static void build_update(const void *arg, struct strbuf *sql)
{
    const struct table *table = ((const struct query *)arg)->table;
    strbuf_printf(sql, "UPDATE %s SET ", table->name);
    for (size_t i = 0; i < table->n_columns; i++) {
        strbuf_printf(sql, "%s%s = ?", i > 0 ? ", " : "", table->columns[i].name);
    }
    strbuf_puts(sql, " WHERE id = ?");
}

static void build_delete(const void *arg, struct strbuf *sql)
{
    strbuf_printf(sql, "DELETE FROM %s WHERE id = ?", ((const struct query *)arg)->table->name);
}

/* Statements */

static enum column_type type_of(const struct table *table, const char *column)
{
    if (strcmp(column, "id") == 0) {
        return COLUMN_TEXT;
    }
    if (strcmp(column, "seq") == 0) {
        return COLUMN_U64;
    }
    for (size_t i = 0; i < table->n_columns; i++) {
        if (strcmp(table->columns[i].name, column) == 0) {
            return table->columns[i].type;
        }
    }
    CHECK(!"a filter names a column of its table");
}

/* Keys are made for every lookup. */
static void add_key(char key[KEY_SIZE], size_t *len, const char *word)
{
    size_t word_len = strlen(word);
    CHECK(*len + word_len + 2 <= KEY_SIZE);
    memcpy(key + *len, word, word_len);
    key[*len + word_len] = ' ';
    *len += word_len + 1;
    key[*len] = '\0';
}

/* verb is "#get" and so on. *ret_next is the first parameter after those of the conditions, which
 * are bound here. */
static int statement_for_query(struct db *db, const char *verb, statement_build_fn build,
                               const struct query *query, struct statement **ret_statement,
                               int *ret_next)
{
    const struct table *table = query->table;
    const struct condition *where = query->where;
    char key[KEY_SIZE];
    size_t len = 0;
    int n = 0;
    add_key(key, &len, verb);
    add_key(key, &len, table->name);
    if (query->relation != NULL) {
        add_key(key, &len, query->relation->table->name);
        add_key(key, &len, query->relation->column);
    }
    for (const struct condition *c = where; c != NULL && c->column != NULL; c++) {
        bool is_text = c->type == COLUMN_TEXT;
        CHECK(n < MAX_CONDITIONS);
        CHECK(is_text == (type_of(table, c->column) == COLUMN_TEXT));
        CHECK(!is_text || c->text != NULL);
        add_key(key, &len, c->column);
        n++;
    }

    int err = statement_get(db, key, build, query, ret_statement);
    if (err < 0) {
        return err;
    }
    for (int i = 0; i < n; i++) {
        if (where[i].type == COLUMN_TEXT) {
            statement_bind_text(*ret_statement, i + 1, where[i].text);
        } else {
            /* No column holds a negative number: what is too large for a column fits no row. */
            bool fits = where[i].number <= INT64_MAX;
            statement_bind_i64(*ret_statement, i + 1, fits ? (int64_t)where[i].number : -1);
        }
    }
    if (ret_next != NULL) {
        *ret_next = n + 1;
    }
    return 0;
}

static int statement_for(struct db *db, const char *verb, statement_build_fn build,
                         const struct table *table, const struct condition *where,
                         struct statement **ret_statement, int *ret_next)
{
    struct query query = {.table = table, .where = where};
    return statement_for_query(db, verb, build, &query, ret_statement, ret_next);
}

/* Rows in */

static int check_row(const struct table *table, const void *row)
{
    const struct row_head *head = row;
    if (strnlen(head->id, sizeof(head->id)) == sizeof(head->id)) {
        return -ENAMETOOLONG;
    }
    for (size_t i = 0; i < table->n_columns; i++) {
        const struct column *column = &table->columns[i];
        const char *member = (const char *)row + column->offset;
        if (column->type == COLUMN_TEXT && strnlen(member, column->size) == column->size) {
            return -ENAMETOOLONG;
        }
    }
    return 0;
}

/* Members are read with memcpy: the offset alone does not tell the compiler what lies there. */
static void bind_column(struct statement *statement, int parameter, const struct column *column,
                        const void *row)
{
    const char *member = (const char *)row + column->offset;
    uint32_t u32;
    uint64_t u64;
    bool flag;
    switch (column->type) {
    case COLUMN_TEXT:
        statement_bind_text(statement, parameter, member);
        break;
    case COLUMN_U32:
        memcpy(&u32, member, sizeof(u32));
        statement_bind_i64(statement, parameter, u32);
        break;
    case COLUMN_U64:
        memcpy(&u64, member, sizeof(u64));
        statement_bind_u64(statement, parameter, u64);
        break;
    case COLUMN_BOOL:
        memcpy(&flag, member, sizeof(flag));
        statement_bind_i64(statement, parameter, flag ? 1 : 0);
        break;
    }
}

/* Binds all columns from parameter first on; returns the next. */
static int bind_columns(struct statement *statement, int first, const struct table *table,
                        const void *row)
{
    for (size_t i = 0; i < table->n_columns; i++) {
        bind_column(statement, first + (int)i, &table->columns[i], row);
    }
    return first + (int)table->n_columns;
}

/* What the row is now, for a watcher, malloc()ed; NULL when there is none, and *ret_err 0 or why. */
static void *row_before(struct db *db, const struct table *table, const char *id, int *ret_err)
{
    *ret_err = 0;
    if (db_watcher(db) == NULL) {
        return NULL;
    }
    void *row = malloc(table->row_size);
    *ret_err = row == NULL ? -ENOMEM : table_get(db, table, id, row);
    if (*ret_err < 0) {
        free(row);
        row = NULL;
    }
    return row;
}

static void tell(struct db *db, const struct table *table, const void *before, const void *after)
{
    const struct db_watch *watch = db_watcher(db);
    if (watch != NULL) {
        watch->row(watch->arg, table, before, after);
    }
}

int table_insert(struct db *db, const struct table *table, void *row)
{
    struct row_head *head = row;
    int err = check_row(table, row);
    if (err < 0) {
        return err;
    }
    char id[ID_SIZE] = {0}; /* a row that is read back is the same to the last byte */
    if (head->id[0] != '\0') {
        memcpy(id, head->id, sizeof(id));
    } else {
        store_new_id(id);
    }
    struct statement *statement;
    err = statement_for(db, "#insert", build_insert, table, NULL, &statement, NULL);
    if (err < 0) {
        return err;
    }
    statement_bind_text(statement, 1, id);
    bind_columns(statement, 2, table, row);
    err = statement_run(statement, -ENOENT, NULL);
    if (err < 0) {
        return err;
    }
    memcpy(head->id, id, sizeof(id));
    head->seq = db_last_insert_seq(db);
    tell(db, table, NULL, row);
    return 0;
}

int table_update(struct db *db, const struct table *table, const void *row)
{
    const struct row_head *head = row;
    int err = check_row(table, row);
    if (err < 0) {
        return err;
    }
    void *before = row_before(db, table, head->id, &err);
    struct statement *statement;
    if (err == 0) {
        err = statement_for(db, "#update", build_update, table, NULL, &statement, NULL);
    }
    if (err < 0) {
        free(before);
        return err;
    }
    int next = bind_columns(statement, 1, table, row);
    statement_bind_text(statement, next, head->id);
    int64_t changes;
    err = statement_run(statement, -ENOENT, &changes);
    if (err == 0 && changes == 0) {
        err = -ENOENT;
    }
    if (err == 0) {
        tell(db, table, before, row);
    }
    free(before);
    return err;
}

int table_delete(struct db *db, const struct table *table, const char *id)
{
    struct statement *statement;
    int err;
    void *before = row_before(db, table, id, &err);
    if (err == 0) {
        err = statement_for(db, "#delete", build_delete, table, NULL, &statement, NULL);
    }
    if (err < 0) {
        free(before);
        return err;
    }
    statement_bind_text(statement, 1, id);
    int64_t changes;
    err = statement_run(statement, -EBUSY, &changes);
    if (err == 0 && changes == 0) {
        err = -ENOENT;
    }
    if (err == 0) {
        tell(db, table, before, NULL);
    }
    free(before);
    return err;
}

/* Rows out */

/* A value as SQLite lends it until the next step. */
struct lent {
    const char *text;
    size_t len;
    int64_t number;
};

/* False when the member has no room for it. */
static bool lend_text(struct statement *statement, int position, size_t size, struct lent *ret)
{
    ret->text = statement_text(statement, position, &ret->len);
    return ret->text != NULL && ret->len < size;
}

static bool lend(struct statement *statement, int position, const struct column *column,
                 struct lent *ret)
{
    if (column->type == COLUMN_TEXT) {
        return lend_text(statement, position, column->size, ret);
    }
    ret->number = statement_i64(statement, position);
    switch (column->type) {
    case COLUMN_U32:
        return (uint64_t)ret->number <= UINT32_MAX;
    case COLUMN_BOOL:
        return (uint64_t)ret->number <= 1;
    default:
        return ret->number >= 0;
    }
}

static void read_column(const struct lent *lent, const struct column *column, void *row)
{
    char *member = (char *)row + column->offset;
    uint32_t u32 = (uint32_t)lent->number;
    bool flag = lent->number != 0;
    switch (column->type) {
    case COLUMN_TEXT:
        memcpy(member, lent->text, lent->len + 1);
        break;
    case COLUMN_U32:
        memcpy(member, &u32, sizeof(u32));
        break;
    case COLUMN_BOOL:
        memcpy(member, &flag, sizeof(flag));
        break;
    case COLUMN_U64:
        memcpy(member, &lent->number, sizeof(lent->number));
        break;
    }
}

/* Looks first and writes then, so that a row that somebody else has edited leaves *ret_row alone.
 */
int table_row_read(const struct table *table, struct statement *statement, void *ret_row)
{
    struct row_head *head = ret_row;
    struct lent id;
    struct lent values[MAX_COLUMNS] = {0};
    const char *wrong = lend_text(statement, 1, ID_SIZE, &id) ? NULL : "id";
    CHECK(table->n_columns <= MAX_COLUMNS);
    for (size_t i = 0; i < table->n_columns && wrong == NULL; i++) {
        if (!lend(statement, (int)i + HEAD_COLUMNS, &table->columns[i], &values[i])) {
            wrong = table->columns[i].name;
        }
    }
    if (wrong != NULL) {
        log_error("store: %s: row %lld: %s is out of range", table->name,
                  (long long)statement_i64(statement, 0), wrong);
        return -EIO;
    }
    memset(ret_row, 0, table->row_size);
    head->seq = statement_i64(statement, 0);
    memcpy(head->id, id.text, id.len + 1);
    for (size_t i = 0; i < table->n_columns; i++) {
        read_column(&values[i], &table->columns[i], ret_row);
    }
    return 0;
}

/* The first row of the statement into *ret_row, -ENOENT without one; gives the statement back. */
static int read_one(const struct table *table, struct statement *statement, void *ret_row)
{
    int err = statement_step(statement);
    if (err > 0) {
        err = table_row_read(table, statement, ret_row);
    } else if (err == 0) {
        err = -ENOENT;
    }
    statement_done(statement);
    return err;
}

int table_get(struct db *db, const struct table *table, const char *id, void *ret_row)
{
    struct statement *statement;
    int err = statement_for(db, "#get", build_get, table, NULL, &statement, NULL);
    if (err < 0) {
        return err;
    }
    statement_bind_text(statement, 1, id);
    return read_one(table, statement, ret_row);
}

static void bind_page(struct statement *statement, int next, int64_t after_seq, uint64_t limit)
{
    bool limited = limit > 0 && limit <= INT64_MAX;
    statement_bind_i64(statement, next, after_seq);
    statement_bind_i64(statement, next + 1, limited ? (int64_t)limit : -1);
}

static int statement_each(struct db *db, const struct table *table, const struct condition *where,
                          int64_t after_seq, uint64_t limit, struct statement **ret_statement)
{
    int next;
    int err = statement_for(db, "#each", build_each, table, where, ret_statement, &next);
    if (err < 0) {
        return err;
    }
    bind_page(*ret_statement, next, after_seq, limit);
    return 0;
}

int table_find(struct db *db, const struct table *table, const struct condition *where,
               void *ret_row)
{
    struct statement *statement;
    int err = statement_each(db, table, where, 0, 1, &statement);
    if (err < 0) {
        return err;
    }
    return read_one(table, statement, ret_row);
}

int table_each(struct db *db, const struct table *table, const struct condition *where,
               int64_t after_seq, uint64_t limit, table_row_fn fn, void *arg)
{
    struct statement *statement;
    int err = statement_each(db, table, where, after_seq, limit, &statement);
    if (err < 0) {
        return err;
    }
    void *row = malloc(table->row_size);
    if (row == NULL) {
        statement_done(statement);
        return -ENOMEM;
    }
    while ((err = statement_step(statement)) > 0) {
        err = table_row_read(table, statement, row);
        if (err == 0) {
            err = fn(arg, row);
        }
        if (err != 0) {
            break;
        }
    }
    free(row);
    statement_done(statement);
    return err;
}

int table_each_related(struct db *db, const struct table *table, const struct condition *where,
                       int64_t after_seq, uint64_t limit, const struct table_relation *relation,
                       table_related_fn fn, void *arg)
{
    struct query query = {.table = table, .where = where, .relation = relation};
    struct statement *statement;
    int next;
    int err = statement_for_query(db, "#related", build_related, &query, &statement, &next);
    if (err < 0) {
        return err;
    }
    bind_page(statement, next, after_seq, limit);
    while ((err = statement_step(statement)) > 0) {
        struct lent id;
        err = lend_text(statement, 1, ID_SIZE, &id) ? fn(arg, statement_i64(statement, 0), id.text)
                                                    : -EIO;
        if (err != 0) {
            break;
        }
    }
    statement_done(statement);
    return err;
}

int table_count(struct db *db, const struct table *table, const struct condition *where,
                uint64_t *ret_count)
{
    struct statement *statement;
    int err = statement_for(db, "#count", build_count, table, where, &statement, NULL);
    if (err < 0) {
        return err;
    }
    err = statement_step(statement);
    if (err > 0) {
        *ret_count = (uint64_t)statement_i64(statement, 0);
        err = 0;
    }
    statement_done(statement);
    return err;
}

struct load {
    const struct table *table;
    char *rows;
    size_t n;
    size_t size; /* in rows */
};

static int load_row(void *arg, const void *row)
{
    struct load *load = arg;
    size_t row_size = load->table->row_size;
    if (load->n == load->size) {
        size_t size = load->size > 0 ? load->size * 2 : 16;
        char *rows = realloc(load->rows, size * row_size);
        if (rows == NULL) {
            return -ENOMEM;
        }
        load->rows = rows;
        load->size = size;
    }
    memcpy(load->rows + load->n * row_size, row, row_size);
    load->n++;
    return 0;
}

int table_load(struct db *db, const struct table *table, const struct condition *where,
               void **ret_rows, size_t *ret_n)
{
    struct load load = {.table = table};
    int err = table_each(db, table, where, 0, 0, load_row, &load);
    if (err < 0) {
        free(load.rows);
        return err;
    }
    *ret_rows = load.rows;
    *ret_n = load.n;
    return 0;
}
