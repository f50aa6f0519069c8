// SPDX-License-Identifier: Apache-2.0
/*
 * What one commit of SQLite costs on a disk, with the settings of smirror's store (WAL,
 * synchronous=FULL): the floor under everything that is to last.
 *
 *     bench_commit FILE SECONDS [ROWS]
 *
 * One transaction after the other, each with ROWS (1) rows of 200 bytes and an index; prints JSON.
 * FILE is made and removed.
 */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/api/histogram.h"

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

static void insert_row(sqlite3 *db, sqlite3_stmt *insert, uint64_t number)
{
    char text[200];
    memset(text, 'x', sizeof(text));
    /* As scattered as random names are. */
    sqlite3_bind_int64(insert, 1, (int64_t)(number * 0x9e3779b97f4a7c15u >> 1));
    sqlite3_bind_text(insert, 2, text, (int)sizeof(text), SQLITE_TRANSIENT);
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
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 0;
    unsigned long rows = argc > 3 ? strtoul(argv[3], NULL, 10) : 1;
    if (argc < 3 || argc > 4 || seconds <= 0 || rows == 0) {
        fprintf(stderr, "usage: bench_commit FILE SECONDS [ROWS]\n");
        return 2;
    }
    sqlite3 *db;
    sqlite3_stmt *insert;
    remove_files(argv[1]);
    must(db, sqlite3_open(argv[1], &db), argv[1]);
    run(db, "PRAGMA journal_mode=WAL");
    run(db, "PRAGMA synchronous=FULL");
    run(db, "CREATE TABLE rows (seq INTEGER PRIMARY KEY, name INTEGER NOT NULL UNIQUE, text TEXT)");
    must(db,
         sqlite3_prepare_v2(db, "INSERT INTO rows (name, text) VALUES (?, ?)", -1, &insert, NULL),
         "prepare");

    uint64_t number = 0;
    uint64_t began = clock_ns();
    uint64_t end = began + (uint64_t)(seconds * 1e9);
    uint64_t now = began;
    while (now < end) {
        run(db, "BEGIN IMMEDIATE");
        for (unsigned long i = 0; i < rows; i++) {
            insert_row(db, insert, ++number);
        }
        run(db, "COMMIT");
        uint64_t after = clock_ns();
        histogram_add(&latencies, after - now);
        now = after;
    }
    sqlite3_finalize(insert);
    sqlite3_close(db);
    remove_files(argv[1]);

    printf("{\"rows\":%lu,\"commits\":%" PRIu64 ",\"rate\":%.1f,", rows, latencies.count,
           (double)latencies.count * 1e9 / (double)(now - began));
    histogram_print_json(&latencies, "latency_us", stdout);
    printf("}\n");
    return 0;
}
