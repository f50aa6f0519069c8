// SPDX-License-Identifier: Apache-2.0
/* The file, its transactions, its readers, and what happens when the disk is full. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "store/db.h"
#include "tests/unit/store_fixture.h"

static int add_system(struct db *db, const char *id)
{
    struct system_row row = {0};
    TEXT_SET(row.head.id, id);
    return table_insert(db, &system_table, &row);
}

static bool has_system(struct db *db, const char *id)
{
    struct system_row row;
    int err = table_get(db, &system_table, id, &row);
    assert_true(err == 0 || err == -ENOENT);
    return err == 0;
}

static int64_t number(struct db *db, const char *sql)
{
    int64_t value;
    assert_int_equal(db_number(db, sql, &value), 0);
    return value;
}

static unsigned mode_of(const struct fixture *fixture, const char *name)
{
    struct stat st;
    assert_int_equal(stat(fixture_path(fixture, name), &st), 0);
    return st.st_mode & 0777;
}

static void write_file(const struct fixture *fixture, const char *name, const void *data,
                       size_t len)
{
    int fd = open(fixture_path(fixture, name), O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    close(fd);
}

/* Opening */

static void test_all_files_are_private_whatever_the_umask(void **state)
{
    (void)state;
    struct fixture fixture;
    mode_t old = umask(0);
    fixture_init(&fixture);
    fixture_open(&fixture);
    assert_int_equal(add_system(fixture.db, "a"), 0);
    assert_int_equal(mode_of(&fixture, "smirror.db"), 0600);
    assert_int_equal(mode_of(&fixture, "smirror.db-wal"), 0600);
    assert_int_equal(mode_of(&fixture, "smirror.db-shm"), 0600);
    fixture_close(&fixture);
    assert_int_equal(chmod(fixture_path(&fixture, "smirror.db"), 0644), 0);
    fixture_open(&fixture);
    assert_int_equal(add_system(fixture.db, "b"), 0);
    assert_int_equal(mode_of(&fixture, "smirror.db"), 0600);
    assert_int_equal(mode_of(&fixture, "smirror.db-wal"), 0600);
    umask(old);
    fixture_fini(&fixture);
}

static void test_a_commit_is_on_disk_and_references_are_checked(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(number(fixture->db, "PRAGMA synchronous"), 2);
    assert_int_equal(number(fixture->db, "PRAGMA foreign_keys"), 1);
    assert_int_equal(number(fixture->db, "SELECT journal_mode = 'wal' FROM pragma_journal_mode"),
                     1);
}

static void test_what_was_written_is_there_after_closing_and_opening(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(add_system(fixture->db, "a"), 0);
    fixture_close(fixture);
    fixture_open(fixture);
    assert_true(has_system(fixture->db, "a"));
    fixture_close(fixture);
    fixture_open(fixture);
    assert_true(has_system(fixture->db, "a"));
}

static void test_there_is_one_writer_in_this_process_and_in_others(void **state)
{
    struct fixture *fixture = *state;
    struct error error = {0};
    struct db *db = NULL;
    assert_int_equal(store_open(fixture->dir, &db, &error), -EBUSY);
    assert_int_equal(error.code, ERR_CONFLICT);
    assert_null(db);

    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(store_open(fixture->dir, &db, NULL) == -EBUSY ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);

    fixture_close(fixture);
    fixture_open(fixture); /* free again */
}

static void test_a_directory_that_is_not_there_is_refused(void **state)
{
    (void)state;
    struct error error = {0};
    struct db *db = NULL;
    assert_int_equal(store_open("/nowhere/at/all", &db, &error), -ENOENT);
    assert_non_null(strstr(error.detail, "/nowhere/at/all"));
    assert_int_equal(store_reader_open("/nowhere/at/all", &db, &error), -ENOENT);
    char *longer = malloc(5000);
    assert_non_null(longer);
    memset(longer, 'x', 4999);
    longer[4999] = '\0';
    assert_int_equal(store_open(longer, &db, &error), -ENAMETOOLONG);
    free(longer);
    assert_null(db);
}

/* Refuses the file, and not a byte of it changes. */
static void check_refused(const struct fixture *fixture, const char *word)
{
    struct error error = {0};
    struct db *db = NULL;
    char *before = malloc(1 << 20);
    char *after = malloc(1 << 20);
    assert_true(before != NULL && after != NULL);
    FILE *file = fopen(fixture_path(fixture, "smirror.db"), "rb");
    size_t len = fread(before, 1, 1 << 20, file);
    fclose(file);

    assert_int_equal(store_open(fixture->dir, &db, &error), -EIO);
    assert_int_equal(error.code, ERR_STORE_FAILED);
    if (strstr(error.detail, word) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", word, error.detail);
    }
    assert_int_equal(store_reader_open(fixture->dir, &db, NULL), -EIO);
    assert_null(db);

    file = fopen(fixture_path(fixture, "smirror.db"), "rb");
    assert_int_equal(fread(after, 1, 1 << 20, file), len);
    fclose(file);
    assert_memory_equal(before, after, len);
    free(before);
    free(after);
}

static void test_a_file_that_is_no_database_is_refused_and_left_alone(void **state)
{
    (void)state;
    struct fixture fixture;
    char text[5000];
    memset(text, 'a', sizeof(text));
    fixture_init(&fixture);
    write_file(&fixture, "smirror.db", text, sizeof(text));
    check_refused(&fixture, "not a database");
    fixture_fini(&fixture);
}

static void test_a_database_of_another_program_is_refused_and_left_alone(void **state)
{
    (void)state;
    struct fixture fixture;
    sqlite3 *raw;
    fixture_init(&fixture);
    assert_int_equal(sqlite3_open(fixture_path(&fixture, "smirror.db"), &raw), SQLITE_OK);
    assert_int_equal(sqlite3_exec(raw, "CREATE TABLE volumes (a)", NULL, NULL, NULL), SQLITE_OK);
    check_refused(&fixture, "not a file of smirror");
    assert_int_equal(sqlite3_exec(raw, "PRAGMA application_id = 17", NULL, NULL, NULL), SQLITE_OK);
    check_refused(&fixture, "not a file of smirror");
    sqlite3_close(raw);
    fixture_fini(&fixture);
}

static void test_an_empty_file_counts_as_none(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    write_file(&fixture, "smirror.db", "", 0);
    fixture_open(&fixture);
    assert_true(has_system(fixture.db, SYSTEM_LOCAL));
    fixture_fini(&fixture);
}

static void test_a_damaged_file_is_refused_with_a_clear_error(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(db_begin(fixture->db), 0);
    for (int i = 0; i < 2000; i++) {
        char id[ID_SIZE];
        snprintf(id, sizeof(id), "s%d", i);
        assert_int_equal(add_system(fixture->db, id), 0);
    }
    assert_int_equal(db_commit(fixture->db), 0);
    fixture_close(fixture);

    /* A page in the middle of the data is not what it was. */
    int fd = open(fixture_path(fixture, "smirror.db"), O_RDWR);
    struct stat st;
    char page[4096];
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(st.st_size > 64 * 4096);
    off_t at = st.st_size / 8192 * 4096;
    char saved[4096];
    assert_int_equal(pread(fd, saved, sizeof(saved), at), sizeof(saved));
    memset(page, 0xa5, sizeof(page));
    assert_int_equal(pwrite(fd, page, sizeof(page), at), sizeof(page));

    struct error error = {0};
    struct db *db = NULL;
    assert_int_equal(store_open(fixture->dir, &db, &error), -EIO);
    assert_non_null(strstr(error.detail, "damaged"));
    assert_null(db);

    assert_int_equal(pwrite(fd, saved, sizeof(saved), at), sizeof(saved));
    close(fd);
    fixture_open(fixture);
}

/* Transactions */

static void test_a_transaction_that_is_rolled_back_leaves_nothing(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(db_begin(fixture->db), 0);
    assert_int_equal(add_system(fixture->db, "a"), 0);
    assert_true(has_system(fixture->db, "a"));
    db_rollback(fixture->db);
    assert_false(has_system(fixture->db, "a"));
    assert_int_equal(db_begin(fixture->db), 0);
    assert_int_equal(add_system(fixture->db, "b"), 0);
    fixture_close(fixture); /* closes in the middle */
    fixture_open(fixture);
    assert_false(has_system(fixture->db, "b"));
}

static void test_a_savepoint_that_is_rolled_back_takes_only_its_own_changes(void **state)
{
    struct fixture *fixture = *state;
    struct db *db = fixture->db;
    assert_int_equal(db_begin(db), 0);

    assert_int_equal(db_savepoint(db), 0);
    assert_int_equal(add_system(db, "first"), 0);
    assert_int_equal(db_release(db), 0);

    assert_int_equal(db_savepoint(db), 0);
    assert_int_equal(add_system(db, "second"), 0);
    assert_int_equal(db_savepoint(db), 0);
    assert_int_equal(add_system(db, "inner, released"), 0);
    assert_int_equal(db_release(db), 0);
    db_rollback_to(db);

    assert_int_equal(db_savepoint(db), 0);
    assert_int_equal(add_system(db, "third"), 0);
    assert_int_equal(db_savepoint(db), 0);
    assert_int_equal(add_system(db, "inner, undone"), 0);
    assert_int_equal(add_system(db, "third"), -EEXIST);
    db_rollback_to(db);
    assert_int_equal(add_system(db, "third again"), 0);
    assert_int_equal(db_release(db), 0);

    assert_int_equal(db_commit(db), 0);
    assert_true(has_system(db, "first"));
    assert_false(has_system(db, "second"));
    assert_false(has_system(db, "inner, released"));
    assert_true(has_system(db, "third"));
    assert_false(has_system(db, "inner, undone"));
    assert_true(has_system(db, "third again"));
}

static void test_commits_are_counted_and_timed(void **state)
{
    struct fixture *fixture = *state;
    struct db_stats before = db_stats(fixture->db);
    for (int i = 0; i < 3; i++) {
        char id[ID_SIZE];
        snprintf(id, sizeof(id), "s%d", i);
        assert_int_equal(db_begin(fixture->db), 0);
        assert_int_equal(add_system(fixture->db, id), 0);
        assert_int_equal(db_commit(fixture->db), 0);
    }
    assert_int_equal(db_begin(fixture->db), 0);
    db_rollback(fixture->db);
    struct db_stats after = db_stats(fixture->db);
    assert_int_equal(after.commits, before.commits + 3);
    assert_true(after.commit_ns > before.commit_ns);
}

/* Readers */

static void test_a_reader_cannot_write(void **state)
{
    struct fixture *fixture = *state;
    struct db *reader = fixture_reader(fixture);
    struct system_row row;
    assert_int_equal(table_get(reader, &system_table, SYSTEM_LOCAL, &row), 0);
    assert_int_equal(add_system(reader, "a"), -EROFS);
    assert_int_equal(table_update(reader, &system_table, &row), -EROFS);
    assert_int_equal(table_delete(reader, &system_table, SYSTEM_LOCAL), -EROFS);
    assert_int_equal(meta_set(reader, "a", "b"), -EROFS);
    assert_true(has_system(reader, SYSTEM_LOCAL));
    db_close(reader);
}

static void test_a_reader_sees_what_was_committed_and_nothing_else(void **state)
{
    struct fixture *fixture = *state;
    struct db *reader = fixture_reader(fixture);
    assert_int_equal(db_begin(fixture->db), 0);
    assert_int_equal(add_system(fixture->db, "a"), 0);
    assert_false(has_system(reader, "a"));
    assert_int_equal(db_commit(fixture->db), 0);
    assert_true(has_system(reader, "a"));
    db_close(reader);
}

static void test_a_readers_snapshot_stays_while_the_writer_goes_on(void **state)
{
    struct fixture *fixture = *state;
    struct db *reader = fixture_reader(fixture);
    assert_int_equal(add_system(fixture->db, "b"), 0);
    assert_int_equal(db_read_begin(reader), 0);
    assert_false(has_system(reader, "a"));
    assert_int_equal(add_system(fixture->db, "a"), 0);
    assert_int_equal(table_delete(fixture->db, &system_table, "b"), 0);
    assert_false(has_system(reader, "a"));
    assert_true(has_system(reader, "b"));
    db_read_end(reader);
    assert_true(has_system(reader, "a"));
    assert_false(has_system(reader, "b"));
    db_close(reader);
}

static void test_readers_come_before_and_after_the_writer_and_stay(void **state)
{
    struct fixture *fixture = *state;
    struct db *early = fixture_reader(fixture);
    assert_int_equal(add_system(fixture->db, "a"), 0);
    fixture_close(fixture);
    struct db *late = fixture_reader(fixture); /* no writer, no WAL perhaps */
    assert_true(has_system(early, "a"));
    assert_true(has_system(late, "a"));
    fixture_open(fixture);
    assert_int_equal(add_system(fixture->db, "b"), 0);
    assert_true(has_system(early, "b"));
    assert_true(has_system(late, "b"));
    db_close(early);
    db_close(late);
    assert_int_equal(add_system(fixture->db, "c"), 0);

    struct fixture empty;
    struct db *none = NULL;
    struct error error = {0};
    fixture_init(&empty);
    assert_int_equal(store_reader_open(empty.dir, &none, &error), -ENOENT);
    assert_null(none);
    fixture_fini(&empty);
}

/* Two names always have the same value: a reader that mixes two commits would see them differ. */
struct watch {
    struct fixture *fixture;
    atomic_bool stop;
    atomic_uint reads;
    atomic_uint wrong;
};

static void *watch_pair(void *arg)
{
    struct watch *watch = arg;
    struct db *reader;
    if (store_reader_open(watch->fixture->dir, &reader, NULL) < 0) {
        atomic_fetch_add(&watch->wrong, 1);
        return NULL;
    }
    while (!atomic_load(&watch->stop)) {
        char a[32];
        char b[32];
        bool good = db_read_begin(reader) == 0 && meta_get(reader, "a", a, sizeof(a)) == 0 &&
                    meta_get(reader, "b", b, sizeof(b)) == 0 && strcmp(a, b) == 0;
        db_read_end(reader);
        atomic_fetch_add(good ? &watch->reads : &watch->wrong, 1);
    }
    db_close(reader);
    return NULL;
}

static void test_readers_in_other_threads_see_whole_transactions(void **state)
{
    struct watch watch = {.fixture = *state};
    struct db *db = watch.fixture->db;
    pthread_t threads[3];
    assert_int_equal(meta_set(db, "a", "0"), 0);
    assert_int_equal(meta_set(db, "b", "0"), 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, watch_pair, &watch), 0);
    }
    for (unsigned i = 0; i < 300 || atomic_load(&watch.reads) < 300; i++) {
        char value[32];
        snprintf(value, sizeof(value), "%u", i);
        assert_int_equal(db_begin(db), 0);
        assert_int_equal(meta_set(db, "a", value), 0);
        assert_int_equal(meta_set(db, "b", value), 0);
        assert_int_equal(db_commit(db), 0);
        assert_int_equal(atomic_load(&watch.wrong), 0);
    }
    atomic_store(&watch.stop, true);
    for (size_t i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&watch.wrong), 0);
}

/* Full disks */

/* One savepoint for each call, as in a batch of control. The error of the commit, else the first.
 * */
static int fill_until_full(struct db *db, int n_calls)
{
    char *text = malloc(256 << 10);
    assert_non_null(text);
    memset(text, 'x', (256 << 10) - 1);
    text[(256 << 10) - 1] = '\0';
    int failed = 0;
    assert_int_equal(db_begin(db), 0);
    for (int i = 0; i < n_calls; i++) {
        char key[16];
        snprintf(key, sizeof(key), "k%d", i);
        int err = db_savepoint(db);
        if (err == 0) {
            err = meta_set(db, key, text);
            if (err == 0) {
                err = db_release(db);
            } else {
                db_rollback_to(db);
            }
        }
        if (err < 0 && failed == 0) {
            failed = err;
        }
    }
    int err = db_commit(db);
    free(text);
    return err < 0 ? err : failed;
}

static void check_nothing_of_the_batch_is_there(struct db *db)
{
    assert_int_equal(number(db, "SELECT count(*) FROM meta WHERE key LIKE 'k%'"), 0);
    assert_true(has_system(db, "before"));
    assert_int_equal(add_system(db, "after"), 0);
}

static off_t size_of(const struct fixture *fixture, const char *name)
{
    struct stat st;
    assert_int_equal(stat(fixture_path(fixture, name), &st), 0);
    return st.st_size;
}

static void check_full_disk(struct fixture *fixture, off_t room, int n_calls)
{
    struct rlimit old;
    assert_int_equal(add_system(fixture->db, "before"), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    void (*old_handler)(int) = signal(SIGXFSZ, SIG_IGN);
    struct rlimit small = {.rlim_cur = (rlim_t)(size_of(fixture, "smirror.db-wal") + room),
                           .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int err = fill_until_full(fixture->db, n_calls);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, old_handler);
    assert_int_equal(err, -ENOSPC);

    check_nothing_of_the_batch_is_there(fixture->db);
    fixture_close(fixture);
    fixture_open(fixture);
    assert_true(has_system(fixture->db, "after"));
    assert_int_equal(number(fixture->db, "SELECT count(*) FROM meta WHERE key LIKE 'k%'"), 0);
    assert_int_equal(number(fixture->db, "SELECT integrity_check = 'ok' FROM "
                                         "pragma_integrity_check"),
                     1);
}

/* Little data: it is in memory until the commit. */
static void test_a_disk_that_is_full_at_commit_leaves_the_state_before(void **state)
{
    check_full_disk(*state, 100 << 10, 1);
}

/* Much data: SQLite writes some of it early, fails, and ends the transaction by itself. */
static void test_a_disk_that_fills_up_before_the_commit_leaves_the_state_before(void **state)
{
    check_full_disk(*state, 1 << 20, 64);
}

/* Here statements fail one by one and the rest of the transaction may go on: the caller decides. */
static void test_a_file_that_may_not_grow_refuses_single_calls_with_enospc(void **state)
{
    struct fixture *fixture = *state;
    struct db *db = fixture->db;
    char text[20000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(add_system(db, "before"), 0);
    char pragma[64];
    snprintf(pragma, sizeof(pragma), "PRAGMA max_page_count = %d",
             (int)number(db, "PRAGMA page_count") + 2);
    assert_int_equal(db_exec(db, pragma), 0);

    assert_int_equal(db_begin(db), 0);
    int failed = meta_set(db, "k", text);
    assert_int_equal(failed, -ENOSPC);
    int err = db_commit(db);
    assert_true(err == 0 || err == -ENOSPC);
    check_nothing_of_the_batch_is_there(db);
    assert_int_equal(db_exec(db, "PRAGMA max_page_count = 1000000"), 0);
    assert_int_equal(meta_set(db, "k", text), 0);
}

/* SQLite has ended the transaction by itself: nothing of what follows may be committed alone. */
static void test_after_a_lost_transaction_all_fails_until_its_end(void **state)
{
    struct fixture *fixture = *state;
    struct db *db = fixture->db;
    struct system_row row;
    assert_int_equal(db_begin(db), 0);
    assert_int_equal(add_system(db, "before"), 0);
    /* A conflict clause that ends the transaction stands for the disk that fails. */
    assert_int_equal(
        db_exec(db, "INSERT OR ROLLBACK INTO systems (id, element_name, local, created_ms) "
                    "VALUES ('local', '', 0, 0)"),
        -EEXIST);
    assert_int_equal(add_system(db, "after"), -EEXIST);
    assert_int_equal(table_get(db, &system_table, SYSTEM_LOCAL, &row), -EEXIST);
    assert_int_equal(db_savepoint(db), -EEXIST);
    assert_int_equal(db_commit(db), -EEXIST);
    assert_false(has_system(db, "before"));
    assert_false(has_system(db, "after"));
    assert_int_equal(db_begin(db), 0);
    assert_int_equal(add_system(db, "next"), 0);
    assert_int_equal(db_commit(db), 0);
    assert_true(has_system(db, "next"));
}

static uint64_t version_of(struct db *reader)
{
    uint64_t version;
    assert_int_equal(db_read_begin(reader), 0);
    assert_int_equal(db_read_version(reader, &version), 0);
    db_read_end(reader);
    return version;
}

static void
test_a_snapshot_has_a_new_number_when_and_only_when_something_was_committed(void **state)
{
    struct fixture *fixture = *state;
    struct db *reader = fixture_reader(fixture);
    uint64_t first = version_of(reader);
    uint64_t held;
    assert_int_equal(version_of(reader), first);

    assert_int_equal(db_begin(fixture->db), 0);
    assert_int_equal(add_system(fixture->db, "a"), 0);
    assert_int_equal(version_of(reader), first);
    db_rollback(fixture->db);
    assert_int_equal(version_of(reader), first);

    assert_int_equal(add_system(fixture->db, "b"), 0);
    uint64_t second = version_of(reader);
    assert_int_not_equal(second, first);

    /* The number is asked for first, and what is read after it is of that snapshot. */
    assert_int_equal(db_read_begin(reader), 0);
    assert_int_equal(db_read_version(reader, &held), 0);
    assert_int_equal(held, second);
    assert_int_equal(add_system(fixture->db, "c"), 0);
    assert_false(has_system(reader, "c"));
    assert_int_equal(db_read_version(reader, &held), 0);
    assert_int_equal(held, second);
    db_read_end(reader);
    assert_int_not_equal(version_of(reader), second);
    db_close(reader);
}

static void test_the_number_of_a_snapshot_changes_with_every_commit_of_any_writer(void **state)
{
    struct fixture *fixture = *state;
    struct db *reader = fixture_reader(fixture);
    uint64_t last = version_of(reader);
    for (unsigned i = 0; i < 3000; i++) { /* over checkpoints, which begin the WAL anew */
        char id[ID_SIZE];
        snprintf(id, sizeof(id), "s%u", i);
        if (i % 1000 == 500) {
            fixture_close(fixture);
            fixture_open(fixture);
        }
        assert_int_equal(add_system(fixture->db, id), 0);
        uint64_t now = version_of(reader);
        assert_int_not_equal(now, last);
        assert_true(has_system(reader, id));
        assert_int_equal(version_of(reader), now);
        last = now;
    }
    db_close(reader);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_files_are_private_whatever_the_umask),
        T(test_a_commit_is_on_disk_and_references_are_checked),
        T(test_what_was_written_is_there_after_closing_and_opening),
        T(test_there_is_one_writer_in_this_process_and_in_others),
        cmocka_unit_test(test_a_directory_that_is_not_there_is_refused),
        cmocka_unit_test(test_a_file_that_is_no_database_is_refused_and_left_alone),
        cmocka_unit_test(test_a_database_of_another_program_is_refused_and_left_alone),
        cmocka_unit_test(test_an_empty_file_counts_as_none),
        T(test_a_damaged_file_is_refused_with_a_clear_error),
        T(test_a_transaction_that_is_rolled_back_leaves_nothing),
        T(test_a_savepoint_that_is_rolled_back_takes_only_its_own_changes),
        T(test_commits_are_counted_and_timed),
        T(test_a_reader_cannot_write),
        T(test_a_reader_sees_what_was_committed_and_nothing_else),
        T(test_a_readers_snapshot_stays_while_the_writer_goes_on),
        T(test_a_snapshot_has_a_new_number_when_and_only_when_something_was_committed),
        T(test_the_number_of_a_snapshot_changes_with_every_commit_of_any_writer),
        T(test_readers_come_before_and_after_the_writer_and_stay),
        T(test_readers_in_other_threads_see_whole_transactions),
        T(test_a_disk_that_is_full_at_commit_leaves_the_state_before),
        T(test_a_disk_that_fills_up_before_the_commit_leaves_the_state_before),
        T(test_a_file_that_may_not_grow_refuses_single_calls_with_enospc),
        T(test_after_a_lost_transaction_all_fails_until_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
