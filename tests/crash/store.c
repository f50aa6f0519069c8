// SPDX-License-Identifier: Apache-2.0
/*
 * A child process commits numbered transactions and reports each one through a pipe, after its
 * commit has returned. It is killed at a random moment. Then every reported transaction must be
 * there, at most one more, and each one whole.
 *
 * Transaction n: volume "vN" is added, "last" becomes n, volume "v(N - KEPT)" goes, and within a
 * savepoint that is rolled back a volume is added that must never be seen.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "store/db.h"
#include "tests/unit/store_fixture.h"

#define ROUNDS 40
#define KEPT   50

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000;
}

/* In the child: anything unexpected ends it with a status that the parent does not take for a kill.
 * */
static void must(bool good, int line)
{
    if (!good) {
        fprintf(stderr, "child: line %d\n", line);
        _exit(3);
    }
}
#define MUST(expression) must(expression, __LINE__)

static void add_volume(struct db *db, uint64_t number)
{
    struct volume_row row = {.kind = VOLUME_REMOTE, .size_bytes = number};
    snprintf(row.head.id, sizeof(row.head.id), "v%llu", (unsigned long long)number);
    TEXT_SET(row.system_id, SYSTEM_LOCAL);
    memset(row.element_name, 'a' + (int)(number % 26), 200); /* some bulk */
    MUST(table_insert(db, &volume_table, &row) == 0);
}

static void commit_number(struct db *db, uint64_t number)
{
    char text[32];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
    MUST(db_begin(db) == 0);
    MUST(db_savepoint(db) == 0);
    add_volume(db, number);
    MUST(db_release(db) == 0);
    MUST(db_savepoint(db) == 0);
    add_volume(db, 1000000000 + number);
    db_rollback_to(db);
    if (number > KEPT) {
        char id[ID_SIZE];
        snprintf(id, sizeof(id), "v%llu", (unsigned long long)number - KEPT);
        MUST(table_delete(db, &volume_table, id) == 0);
    }
    MUST(meta_set(db, "last", text) == 0);
    MUST(db_commit(db) == 0);
}

static uint64_t last_number(struct db *db)
{
    char text[32];
    int err = meta_get(db, "last", text, sizeof(text));
    if (err == -ENOENT) {
        return 0;
    }
    assert_int_equal(err, 0);
    return strtoull(text, NULL, 10);
}

static _Noreturn void child_main(const char *dir, uint64_t next, int pipe_fd)
{
    struct db *db;
    struct error error = {0};
    if (store_open(dir, &db, &error) < 0) {
        fprintf(stderr, "child: %s\n", error.detail);
        _exit(4);
    }
    for (uint64_t number = next;; number++) {
        commit_number(db, number);
        MUST(write(pipe_fd, &number, sizeof(number)) == sizeof(number));
    }
}

/* Reads reports until the pipe is empty (closed: until its end) or the moment has come. */
static uint64_t read_reports(int pipe_fd, uint64_t last, uint64_t until_us)
{
    for (;;) {
        uint64_t now = now_us();
        struct pollfd poll_fd = {.fd = pipe_fd, .events = POLLIN};
        if (now >= until_us || poll(&poll_fd, 1, (int)((until_us - now + 999) / 1000)) <= 0) {
            return last;
        }
        uint64_t number;
        ssize_t n = read(pipe_fd, &number, sizeof(number));
        if (n == 0) {
            return last;
        }
        assert_int_equal(n, sizeof(number));
        assert_int_equal(number, last + 1);
        last = number;
    }
}

/* Starts a child and kills it after delay_us, counted from its first report or, if at_start, from
 * the fork. */
static uint64_t run_and_kill(const char *dir, uint64_t last, uint64_t delay_us, bool at_start)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(fds[0]);
        child_main(dir, last + 1, fds[1]);
    }
    close(fds[1]);
    if (!at_start) {
        uint64_t first = last;
        for (int i = 0; i < 3000 && first == last; i++) {
            last = read_reports(fds[0], last, now_us() + 10000);
        }
        assert_true(last > first);
    }
    last = read_reports(fds[0], last, now_us() + delay_us);
    assert_int_equal(kill(child, SIGKILL), 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    last = read_reports(fds[0], last, UINT64_MAX / 2);
    close(fds[0]);
    return last;
}

struct expected {
    uint64_t next;
    uint64_t last;
};

static int check_volume(void *arg, const void *row)
{
    struct expected *expected = arg;
    const struct volume_row *volume = row;
    char name[NAME_SIZE] = {0};
    memset(name, 'a' + (int)(expected->next % 26), 200);
    assert_int_equal(volume->size_bytes, expected->next);
    assert_string_equal(volume->element_name, name);
    expected->next++;
    return 0;
}

/* Returns the number of the last transaction that is there. */
static uint64_t check_file(const char *dir, uint64_t reported)
{
    struct db *db;
    struct error error = {0};
    if (store_open(dir, &db, &error) < 0) {
        fail_msg("after the crash: %s", error.detail);
    }
    uint64_t last = last_number(db);
    if (last < reported || last > reported + 1) {
        fail_msg("%llu were reported, the file has %llu", (unsigned long long)reported,
                 (unsigned long long)last);
    }
    struct expected expected = {.next = last > KEPT ? last - KEPT + 1 : 1, .last = last};
    assert_int_equal(table_each(db, &volume_table, NULL, 0, 0, check_volume, &expected), 0);
    assert_int_equal(expected.next, last + 1);
    int64_t good;
    assert_int_equal(
        db_number(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check", &good), 0);
    assert_int_equal(good, 1);
    assert_int_equal(db_number(db, "SELECT count(*) FROM pragma_foreign_key_check", &good), 0);
    assert_int_equal(good, 0);
    db_close(db);
    return last;
}

static void test_every_reported_commit_survives_a_kill_and_at_most_one_more(void **state)
{
    (void)state;
    struct fixture fixture;
    struct random random;
    uint64_t seed = random_unpredictable_u64();
    uint64_t last = 0;
    uint64_t more = 0;
    printf("seed %llu\n", (unsigned long long)seed);
    random_seed(&random, seed);
    fixture_init(&fixture);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t reported = run_and_kill(fixture.dir, last, random_below(&random, 60000), false);
        last = check_file(fixture.dir, reported);
        more += last - reported;
    }
    printf("%d kills, %llu commits, %llu of them unreported\n", ROUNDS, (unsigned long long)last,
           (unsigned long long)more);
    fixture_fini(&fixture);
}

static void test_a_kill_while_the_file_is_made_leaves_nothing_that_hinders(void **state)
{
    (void)state;
    struct random random;
    uint64_t seed = random_unpredictable_u64();
    printf("seed %llu\n", (unsigned long long)seed);
    random_seed(&random, seed);
    for (int round = 0; round < ROUNDS; round++) {
        struct fixture fixture;
        fixture_init(&fixture);
        uint64_t reported = run_and_kill(fixture.dir, 0, random_below(&random, 20000), true);
        check_file(fixture.dir, reported);
        fixture_fini(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_reported_commit_survives_a_kill_and_at_most_one_more),
        cmocka_unit_test(test_a_kill_while_the_file_is_made_leaves_nothing_that_hinders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
