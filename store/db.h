// SPDX-License-Identifier: Apache-2.0
/*
 * Inside store/ only: prepared statements and the translation of SQLite's results.
 *
 * Thread:    that of the struct db.
 * Ownership: statement_sql() and statement_get() lend a statement until statement_done() or
 *            statement_run(). Bound text and blobs are not copied: they must live that long.
 * Errors:    as in store/store.h. A bind that failed is remembered and reported by the first step.
 */
#ifndef STORE_DB_H
#define STORE_DB_H

#include "base/strbuf.h"
#include "store/store.h"

struct statement;

/* A statement for a fixed SQL text, prepared once for each connection. */
int statement_sql(struct db *db, const char *sql, struct statement **ret_statement);
/* The same for a text that is made: key stands for it in the cache, build is called on the first
 * use only. Keys begin with '#', so that they never meet an SQL text. */
typedef void (*statement_build_fn)(const void *arg, struct strbuf *sql);
int statement_get(struct db *db, const char *key, statement_build_fn build, const void *arg,
                  struct statement **ret_statement);

/* Parameters count from 1. */
void statement_bind_text(struct statement *statement, int parameter, const char *text);
void statement_bind_i64(struct statement *statement, int parameter, int64_t value);
void statement_bind_u64(struct statement *statement, int parameter, uint64_t value); /* -ERANGE */
void statement_bind_blob(struct statement *statement, int parameter, const void *data, size_t len);

/* 1: a row is there; 0: no more; negative errno. */
int statement_step(struct statement *statement);
/* Columns count from 0. Text is valid until the next step, lengths are without the terminating
 * zero. NULL: out of memory (or, for a blob, empty); no column of ours is SQL's NULL. */
int64_t statement_i64(struct statement *statement, int column);
const char *statement_text(struct statement *statement, int column, size_t *ret_len);
const void *statement_blob(struct statement *statement, int column, size_t *ret_len);
void statement_done(struct statement *statement);

/* For a change: binds are done, runs to the end, gives the statement back. A violated foreign key
 * becomes foreign_key_err, for only the caller knows what it means. ret_changes (may be NULL): rows
 * changed. */
int statement_run(struct statement *statement, int foreign_key_err, int64_t *ret_changes);

/* Whom to tell of changed rows, or NULL. */
const struct db_watch *db_watcher(const struct db *db);

/* The seq of the last row that was inserted. */
int64_t db_last_insert_seq(struct db *db);

/* Runs SQL texts separated by ';' without caching them. */
int db_exec(struct db *db, const char *sql);
/* The first column of the first row, as a number; 0 when there is none. */
int db_number(struct db *db, const char *sql, int64_t *ret_value);
/* What SQLite said last, for the error text at open. */
const char *db_message(struct db *db);

#endif
