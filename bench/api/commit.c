// SPDX-License-Identifier: Apache-2.0
/*
 * What one commit of SQLite costs on a disk, with the settings of smirror's store (WAL,
 * synchronous=FULL): the floor under everything that is to last.
 *
 *     bench_commit FILE SECONDS [INDEXES]
 *
 * One transaction after the other, each with one row of 200 bytes in a table with so many indexes
 * (6, as a relationship has), whose keys are scattered as random ids are. Prints JSON. FILE is made
 * and removed.
 */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/api/histogram.h"

enum { INDEXES_MAX = 32 };

static void must(sqlite3 *db, int rc, const char *what)
{
    if (rc != SQLITE_OK && rc != SQLITE_DONE) {
        fprintf(stderr, "bench_commit: %s: %s\n", what, sqlite3_errmsg(db));
        exit(1);
    }
}

static void run(sqlite3 *db, const char *sql)
{
    must(db, sqlite3_exec(db, sql, NULL, NULL, NULL), sql);
}

/* CREATE TABLE with the columns k0, k1, …, or the INSERT for it. */
static void make_sql(char *sql, size_t size, bool create, unsigned indexes)
{
    size_t len = 0;
    len += (size_t)snprintf(sql, size,
                            create ? "CREATE TABLE rows (seq INTEGER PRIMARY KEY, text TEXT"
                                   : "INSERT INTO rows VALUES (NULL, ?");
    for (unsigned i = 0; i < indexes; i++) {
        len += (size_t)snprintf(sql + len, size - len, create ? ", k%u INTEGER UNIQUE" : ", ?", i);
    }
    snprintf(sql + len, size - len, ")");
}

static void insert_row(sqlite3 *db, sqlite3_stmt *insert, unsigned indexes, uint64_t number)
{
    char text[200];
    memset(text, 'x', sizeof(text));
    sqlite3_bind_text(insert, 1, text, (int)sizeof(text), SQLITE_TRANSIENT);
    for (unsigned i = 0; i < indexes; i++) {
        uint64_t key = number * indexes + i + 1;
        sqlite3_bind_int64(insert, (int)i + 2, (int64_t)(key * 0x9e3779b97f4a7c15u >> 1));
    }
    must(db, sqlite3_step(insert), "insert");
    sqlite3_reset(insert);
}

static void remove_files(const char *path)
{
    static const char *const endings[] = {"", "-wal", "-shm"};
    for (unsigned i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        char name[4096];
        snprintf(name, sizeof(name), "%s%s", path, endings[i]);
        unlink(name);
    }
}

int main(int argc, char **argv)
{
    static struct histogram latencies;
    char sql[1024];
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 0;
    unsigned long indexes = argc > 3 ? strtoul(argv[3], NULL, 10) : 6;
    if (argc < 3 || argc > 4 || seconds <= 0 || indexes > INDEXES_MAX) {
        fprintf(stderr, "usage: bench_commit FILE SECONDS [INDEXES]\n");
        return 2;
    }
    sqlite3 *db = NULL;
    sqlite3_stmt *insert = NULL;
    remove_files(argv[1]);
    must(db, sqlite3_open(argv[1], &db), argv[1]);
    run(db, "PRAGMA journal_mode=WAL");
    run(db, "PRAGMA synchronous=FULL");
    make_sql(sql, sizeof(sql), true, (unsigned)indexes);
    run(db, sql);
    make_sql(sql, sizeof(sql), false, (unsigned)indexes);
    must(db, sqlite3_prepare_v2(db, sql, -1, &insert, NULL), sql);

    uint64_t number = 0;
    uint64_t began = clock_ns();
    uint64_t end = began + (uint64_t)(seconds * 1e9);
    uint64_t now = began;
    while (now < end) {
        run(db, "BEGIN IMMEDIATE");
        insert_row(db, insert, (unsigned)indexes, number++);
        run(db, "COMMIT");
        uint64_t after = clock_ns();
        histogram_add(&latencies, after - now);
        now = after;
    }
    sqlite3_finalize(insert);
    sqlite3_close(db);
    remove_files(argv[1]);

    printf("{\"indexes\":%lu,\"requests\":%" PRIu64 ",\"rate\":%.1f,", indexes, latencies.count,
           (double)latencies.count * 1e9 / (double)(now - began));
    histogram_print_json(&latencies, "latency_us", stdout);
    printf("}\n");
    return 0;
}
