// SPDX-License-Identifier: Apache-2.0
/*
 * The records: one SQLite file (WAL), its schema and migrations, transactions.
 *
 * Thread:    a struct db belongs to one thread. store_open() gives the only writer,
 *            store_reader_open() any number of readers.
 * Ownership: rows are plain values that the caller owns. db_close() frees statements.
 * Errors:    0 or negative errno: -ENOENT no such row, -EEXIST unique constraint, -EBUSY the row is
 *            referred to, -ENAMETOOLONG and -ERANGE a value that no column holds, -ENOSPC disk full,
 *            -EROFS a reader was asked to write, -EIO the rest. What SQLite said is logged where it
 *            happened.
 *
 * Each record type has a header of its own with a row struct and a table of columns (store/table.h)
 * from which all SQL is made. Knows no JSON, no HTTP, no iSCSI.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define ID_LEN    12 /* random hexadecimal digits */
#define ID_SIZE   24 /* room: also "local", "default" */
#define NAME_SIZE 260
#define PATH_SIZE 64

struct db;

/* Opens DIR/smirror.db (mode 0600), creating or migrating it. Refused, with the file left as it is:
 * a newer schema than ours, a file that smirror did not write, a damaged one (all -EIO); a second
 * writer, of this or another process (-EBUSY). */
int store_open(const char *dir, struct db **ret_db, struct error *error);
/* Are there records in DIR that store_open() would go on with? */
bool store_is_there(const char *dir);
/* Needs a file that store_open() has brought to our schema (else -ENOENT, -EIO); the writer may
 * come and go meanwhile. */
int store_reader_open(const char *dir, struct db **ret_db, struct error *error);
/* NULL is allowed. An open transaction is rolled back. */
void db_close(struct db *db);

/*
 * Transactions. Begin, savepoint and their ends are called in pairs, also after failures in
 * between; anything else is a programming error and stops the process. Outside of a transaction
 * each change is one by itself.
 *
 * A full or failing disk may end a transaction before its time. Then all that follows in it fails
 * with the same error, and db_commit() too: nothing of it was done.
 */
int db_begin(struct db *db);
/* Ends the transaction also when it fails: then nothing of it was done. */
int db_commit(struct db *db);
void db_rollback(struct db *db);
/* Whether the disk takes a commit: of one page, with what is in it already. Outside of a transaction. */
int db_try_commit(struct db *db);
/* Savepoints may be nested. Release keeps what was done since the last one, rollback undoes it. */
int db_savepoint(struct db *db);
int db_release(struct db *db);
void db_rollback_to(struct db *db);
/* Readers: all that is read in between is one snapshot, that of the first read. */
int db_read_begin(struct db *db);
void db_read_end(struct db *db);
/* Between the two: the number of the snapshot. The same number of the same reader means that
 * nobody has changed anything in between. */
int db_read_version(struct db *db, uint64_t *ret_version);

/* Who is told of the rows that change (store/table.h): row() with before NULL for a new one and after NULL for one that goes;
 * rows that go with their object (CASCADE) are not told. mark() at a savepoint; undo() with that mark when it is rolled
 * back. What the end of the transaction means is the caller's business. The watcher outlives the db. */
struct table;
struct db_watch {
    void (*row)(void *arg, const struct table *table, const void *before, const void *after);
    size_t (*mark)(void *arg);
    void (*undo)(void *arg, size_t mark);
    void *arg;
};
void db_watch(struct db *db, const struct db_watch *watch); /* NULL: nobody */

/* Commits so far and the total time in them, for /metrics. */
struct db_stats {
    uint64_t commits;
    uint64_t commit_ns;
};
struct db_stats db_stats(const struct db *db);

/* A fresh id (ID_LEN hexadecimal digits). */
void store_new_id(char ret_id[ID_SIZE]);

#endif
