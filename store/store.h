// SPDX-License-Identifier: Apache-2.0
/*
 * The records: one SQLite file (WAL), its schema and migrations, transactions.
 *
 * Thread:    a struct db belongs to one thread. store_open() gives the only writer; store_reader_open() any number of readers.
 * Ownership: rows are plain values that the caller owns. db_close() frees statements.
 * Errors:    0 or negative errno (-ENOENT no such row, -EEXIST unique constraint, -ENOSPC disk full, -EIO the rest);
 *            what SQLite said is logged where it happened.
 *
 * Each record type has a header of its own with a row struct and a table of columns (store/table.h) from which all SQL is made.
 * Knows no JSON, no HTTP, no iSCSI.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define ID_LEN   12 /* random hexadecimal digits */
#define ID_SIZE  24 /* room: also "local", "default" */
#define NAME_SIZE 260
#define PATH_SIZE 64

struct db;

/* Opens DIR/smirror.db (mode 0600), creating or migrating it. A newer schema than ours is refused. */
int store_open(const char *dir, struct db **ret_db, struct error *error);
int store_reader_open(const char *dir, struct db **ret_db, struct error *error);
void db_close(struct db *db);

/* Transactions. Readers use read_begin/read_end around what must be one snapshot. */
int db_begin(struct db *db);
int db_commit(struct db *db);
void db_rollback(struct db *db);
int db_savepoint(struct db *db);
int db_release(struct db *db);       /* keeps what was done since db_savepoint() */
void db_rollback_to(struct db *db);  /* and releases */
int db_read_begin(struct db *db);
void db_read_end(struct db *db);

/* Commits so far and the total time in them, for /metrics. */
struct db_stats {
    uint64_t commits;
    uint64_t commit_ns;
};
struct db_stats db_stats(const struct db *db);

/* A fresh id (ID_LEN hexadecimal digits). */
void store_new_id(char ret_id[ID_SIZE]);

#endif
