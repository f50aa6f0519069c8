// SPDX-License-Identifier: Apache-2.0
/* Calls whose cuts are of one moment, in a whole service: all of it, or nothing, whatever comes at the same time. */
#include "tests/unit/testing.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "block/front_dev.h"
#include "block/stack.h"
#include "service/changes.h"
#include "store/export.h"
#include "tests/unit/block_io.h"
#include "tests/unit/hosted_fixture.h"

enum { PAGE = 4096, SIZE = 64 * PAGE, N = 4, WAIT_MS = 20000 };

static struct service_fixture fixture;
static struct id {
    char text[ID_SIZE];
} ids[N];

static void path_set(char path[PATH_SIZE], const char *id)
{
    snprintf(path, PATH_SIZE, "/volumes/%.*s", ID_LEN, id);
}

static void page_write(const char *id, unsigned page, uint8_t byte)
{
    static uint8_t bytes[PAGE];
    struct blockdev *dev = hosted_connect(&fixture, id);

    memset(bytes, byte, PAGE);
    assert_int_equal(io_do(dev, BLOCK_WRITE, (uint64_t)page * PAGE, bytes, PAGE, 0), 0);
    hosted_disconnect(dev);
}

static uint8_t page_read(const char *id, unsigned page)
{
    static uint8_t bytes[PAGE];
    struct blockdev *dev = hosted_connect(&fixture, id);

    assert_non_null(dev);
    assert_int_equal(io_do(dev, BLOCK_READ, (uint64_t)page * PAGE, bytes, PAGE, 0), 0);
    hosted_disconnect(dev);
    return bytes[0];
}

static void create(const char *name, char ret_id[ID_SIZE])
{
    struct hosted_ask ask = {.change = HOSTED_CREATE, .size_bytes = SIZE};

    strcpy(ask.name, name);
    hosted_do(&fixture, &ask);
    strcpy(ret_id, ask.ret_id);
}

static int setup(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture_start(&fixture);
    hosted_io_begin();
    for (unsigned i = 0; i < N; i++) {
        char name[16];

        snprintf(name, sizeof(name), "v%u", i);
        create(name, ids[i].text);
        page_write(ids[i].text, 0, (uint8_t)(10 + i));
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hosted_io_end();
    fixture_destroy(&fixture);
    return 0;
}

static void wait_until(bool (*so)(void *arg), void *arg)
{
    for (int i = 0; i < WAIT_MS / 2; i++) {
        if (so(arg)) {
            return;
        }
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    fail_msg("it did not become so within %d ms", WAIT_MS);
}

/* Snapshots of all, onto target (of the last one) when it is given. */
static struct test_call *list_call(const char *key)
{
    struct test_call *test = test_call_new(&fixture, &replication_service, "CreateListReplica");
    char path[PATH_SIZE];

    arg_number(test, "SyncType", 7);
    arg_number(test, "Consistency", 3);
    for (unsigned i = 0; i < N; i++) {
        path_set(path, ids[i].text);
        arg_item(test, "SourceElements", path);
    }
    if (key != NULL) {
        strcpy(test->call->idempotency_key, key);
    }
    return test;
}

static void await_call(struct test_call *test)
{
    test_call_wait(test);
    if (test->call->result < 0) {
        fail_msg("%s", test->call->error.detail);
    }
}

/* ---- in the way of a round ---- */

struct barrier_ask {
    char family[ID_SIZE];
    struct array_barrier *barrier;
};

static void barrier_reached(void *arg, struct array_barrier *barrier)
{
    ((struct barrier_ask *)arg)->barrier = barrier;
}

static int barrier_begin(struct call *call, void *arg)
{
    struct barrier_ask *ask = arg;

    array_barrier(hosted_array(control_hosted(call->control)), ask->family, barrier_reached, ask);
    return 0;
}

/* Batches may be waiting: only a message gets through. */
static void barrier_end(void *arg)
{
    array_barrier_end(((struct barrier_ask *)arg)->barrier);
}

static struct barrier_ask barrier_on(const char *id)
{
    struct barrier_ask ask = {0};
    struct volume_row row;

    volume_of(&fixture, id, &row);
    strcpy(ask.family, row.family);
    return ask;
}

/* Its stack is held by somebody else: a round cannot have it. */
struct grip {
    const char *id;
    struct blockdev *front;
    struct loop *loop;
    struct loop_task task;
    bool take;
    atomic_bool done;
};

static void gripped(void *arg)
{
    atomic_store(&((struct grip *)arg)->done, true);
}

static void grip_turn(void *arg)
{
    struct grip *grip = arg;
    struct blockdev *stack = front_dev_below(grip->front);

    if (grip->take) {
        assert_int_equal(stack_hold(stack, gripped, grip), 0);
    } else {
        stack_release(stack);
        atomic_store(&grip->done, true);
    }
}

static int grip_find(struct call *call, void *arg)
{
    struct grip *grip = arg;

    grip->front =
        array_volume_device(hosted_array(control_hosted(call->control)), grip->id, &grip->loop);
    return 0;
}

static bool grip_is_done(void *arg)
{
    return atomic_load(&((struct grip *)arg)->done);
}

static void grip_do(struct grip *grip, bool take)
{
    grip->take = take;
    atomic_store(&grip->done, false);
    grip->task = (struct loop_task){.fn = grip_turn, .arg = grip};
    loop_post(grip->loop, &grip->task);
    wait_until(grip_is_done, grip);
}

static void grip_begin(struct grip *grip, const char *id)
{
    grip->id = id;
    fixture_do(&fixture, grip_find, grip, NULL);
    grip_do(grip, true);
}

/* ---- what the records and the directory hold ---- */

struct rows {
    const struct table *table;
    void *rows;
    size_t n;
};

static struct rows rows_load(const struct table *table)
{
    struct rows rows = {.table = table};

    assert_int_equal(table_load(fixture.reader, table, NULL, &rows.rows, &rows.n), 0);
    return rows;
}

/* But for seq, which a row that comes back gets anew. */
static void rows_unchanged(struct rows *before)
{
    char now[4096];

    assert_int_equal(rows_of(&fixture, before->table), before->n);
    for (size_t i = 0; i < before->n; i++) {
        const char *row = (const char *)before->rows + i * before->table->row_size;
        const struct row_head *head = (const void *)row;

        assert_true(before->table->row_size <= sizeof(now));
        assert_int_equal(table_get(fixture.reader, before->table, head->id, now), 0);
        assert_memory_equal(now + sizeof(head->seq), row + sizeof(head->seq),
                            before->table->row_size - sizeof(head->seq));
    }
    free(before->rows);
}

static unsigned files(void)
{
    char path[160];
    struct pool_row pool;
    unsigned n = 0;
    const struct dirent *file;

    assert_int_equal(table_get(fixture.reader, &pool_table, "default", &pool), 0);
    assert_int_equal(hosted_pool_dir(fixture.control, &pool, path, sizeof(path)), 0);
    DIR *dir = opendir(path);

    assert_non_null(dir);
    while ((file = readdir(dir)) != NULL) {
        n += strstr(file->d_name, ".layer") != NULL;
    }
    closedir(dir);
    return n;
}

static bool files_are(void *arg)
{
    return files() == *(unsigned *)arg;
}

/* ---- tests ---- */

/* Volumes that are told to have come or gone. */
static void count_told(void *arg, const struct object_change *changes, size_t n)
{
    unsigned *told = arg;

    for (size_t i = 0; i < n; i++) {
        *told += changes[i].collection == COLLECTION_VOLUMES && changes[i].kind != CHANGE_CHANGED;
    }
}

static int nothing(struct call *call, void *arg)
{
    (void)call;
    (void)arg;
    return 0;
}

static void observe(const struct change_observer *observer)
{
    control_observe(fixture.control, observer);
    fixture_do(&fixture, nothing, NULL, NULL); /* the one before is not called any more */
}

static void test_all_at_one_moment(void **state)
{
    (void)state;
    unsigned told = 0;
    const struct change_observer observer = {count_told, &told};
    struct test_call *first = list_call("key");
    struct test_call *again = list_call("key");
    struct strbuf kept = STRBUF_INIT;
    struct answer answer;

    observe(&observer);
    assert_done(first);
    observe(NULL);
    assert_int_equal(told, N);
    assert_int_equal(out_count(first, "Synchronizations"), N);
    assert_in_range(values_get(first->call->outs, "BarrierMicroseconds")->number, 1, 10000000);
    for (unsigned i = 0; i < N; i++) {
        page_write(ids[i].text, 0, 99);
        assert_int_equal(page_read(id_of(out_item(first, "TargetElements", i)), 0), 10 + i);
    }
    /* The same request again: the same answer, to the last byte. */
    test_call_run(again);
    assert_string_equal(strbuf_str(&again->call->answer.body),
                        strbuf_str(&first->call->answer.body));
    assert_int_equal(answer_get(fixture.reader, "key", &answer, &kept), 0);
    assert_string_equal(strbuf_str(&kept), strbuf_str(&first->call->answer.body));
    strbuf_fini(&kept);
    test_call_free(first);
    test_call_free(again);
}

/* One cannot be held: nothing has happened, what was to be overwritten is what it was, and who came behind is served. */
static void test_nothing_of_a_round_that_is_void(void **state)
{
    (void)state;
    static const struct table *const tables[] = {&volume_table, &layer_table, &sync_table,
                                                 &export_table};
    struct rows before[4];
    struct grip grip;
    char target[ID_SIZE];
    char path[PATH_SIZE];
    unsigned n_files;
    struct strbuf kept = STRBUF_INIT;
    struct answer answer;

    create("target", target);
    page_write(target, 1, 77);
    n_files = files();
    for (unsigned i = 0; i < 4; i++) {
        before[i] = rows_load(tables[i]);
    }
    grip_begin(&grip, ids[2].text);
    for (unsigned round = 0; round < 2; round++) {
        struct test_call *test = list_call("key");

        if (round == 1) { /* onto volumes that have something */
            for (unsigned i = 0; i < N; i++) {
                path_set(path, target);
                arg_item(test, "TargetElements", path);
            }
            test_call_free(test);
            test = test_call_new(&fixture, &replication_service, "CreateListReplica");
            arg_number(test, "SyncType", 8);
            arg_number(test, "Consistency", 3);
            path_set(path, ids[2].text);
            arg_item(test, "SourceElements", path);
            path_set(path, target);
            arg_item(test, "TargetElements", path);
        }
        assert_failed(test, ERR_INTERNAL, NULL);
        assert_non_null(strstr(test->call->error.detail, "Nothing was made"));
        test_call_free(test);
    }
    assert_int_equal(answer_get(fixture.reader, "key", &answer, &kept), -ENOENT);
    strbuf_fini(&kept);
    for (unsigned i = 0; i < 4; i++) {
        rows_unchanged(&before[i]);
    }
    wait_until(files_are, &n_files);
    assert_int_equal(page_read(target, 1), 77);
    grip_do(&grip, false);
    for (unsigned i = 0; i < N; i++) {
        page_write(ids[i].text, 0, (uint8_t)(20 + i));
    }
    struct test_call *test = list_call("key");

    assert_done(test);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(page_read(id_of(out_item(test, "TargetElements", i)), 0), 20 + i);
    }
    test_call_free(test);
}

/* It is committed and waits for the barrier, or the files were made before that came, and it is through. */
struct committed {
    struct test_call *call;
    uint64_t n_before;
};

static bool is_committed(void *arg)
{
    const struct committed *committed = arg;

    pthread_mutex_lock(&committed->call->lock);
    bool answered = committed->call->answered;
    pthread_mutex_unlock(&committed->call->lock);
    return answered || rows_of(&fixture, &volume_table) > committed->n_before;
}

/* What comes while it is decided is done after it, on what is left. */
static void test_others_wait_for_the_verdict(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        struct barrier_ask barrier = barrier_on(ids[1].text);
        uint64_t n_before = rows_of(&fixture, &volume_table);
        struct test_call *group = list_call(NULL);
        struct test_call *grow = test_call_new(&fixture, &storage_configuration_service,
                                               "CreateOrModifyElementFromStoragePool");
        struct loop_task task = {.fn = barrier_end, .arg = &barrier};
        struct grip grip;
        char path[PATH_SIZE];
        struct volume_row row;

        path_set(path, ids[0].text);
        arg_text(grow, "TheElement", path);
        arg_number(grow, "Size", SIZE * (2 + round));
        if (round == 1) {
            grip_begin(&grip, ids[3].text);
        }
        /* Behind its files, and before its round. */
        test_call_submit(group);
        fixture_do(&fixture, barrier_begin, &barrier, NULL);
        wait_until(is_committed, &(struct committed){.call = group, .n_before = n_before});
        test_call_submit(grow);
        loop_post(control_loop(fixture.control), &task);
        test_call_wait(group);
        await_call(grow);
        assert_int_equal(group->call->result < 0, round == 1);
        volume_of(&fixture, ids[0].text, &row);
        assert_int_equal(row.size_bytes, SIZE * (2 + round));
        assert_int_equal(rows_of(&fixture, &volume_table), n_before + (round == 1 ? 0 : N));
        if (round == 1) {
            grip_do(&grip, false);
        }
        test_call_free(group);
        test_call_free(grow);
    }
    page_write(ids[0].text, SIZE / PAGE, 5);
    assert_int_equal(page_read(ids[0].text, SIZE / PAGE), 5);
}

/* It is taken back when the disk takes it, and nothing else is done before. Nobody is told of what was never there. */
static void test_taken_back_when_the_disk_is_full(void **state)
{
    (void)state;
    struct barrier_ask barrier = barrier_on(ids[1].text);
    struct loop_task task = {.fn = barrier_end, .arg = &barrier};
    uint64_t n_before = rows_of(&fixture, &volume_table);
    struct test_call *group = list_call(NULL);
    struct rlimit old_limit;
    struct stat status;
    struct grip grip;
    char path[128];
    unsigned told = 0;
    const struct change_observer observer = {count_told, &told};

    observe(&observer);
    grip_begin(&grip, ids[3].text);
    test_call_submit(group);
    fixture_do(&fixture, barrier_begin, &barrier, NULL);
    wait_until(is_committed, &(struct committed){.call = group, .n_before = n_before});
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
    void (*old_handler)(int) = signal(SIGXFSZ, SIG_IGN);

    snprintf(path, sizeof(path), "%s/smirror.db-wal", fixture.dir);
    assert_int_equal(stat(path, &status), 0);
    struct rlimit small = {.rlim_cur = (rlim_t)status.st_size, .rlim_max = old_limit.rlim_max};

    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    loop_post(control_loop(fixture.control), &task);
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL); /* it is tried, and fails */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old_limit), 0);
    signal(SIGXFSZ, old_handler);
    test_call_wait(group);
    assert_true(group->call->result < 0);
    assert_int_equal(rows_of(&fixture, &volume_table), n_before);
    observe(NULL);
    assert_int_equal(told, 0);
    grip_do(&grip, false);
    test_call_free(group);
}

/* The end of the service in the middle: what is found afterwards is whole, and can be used. */
static void test_end_in_the_middle(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 4; round++) {
        struct test_call *group = list_call(NULL);
        uint64_t n_before = rows_of(&fixture, &volume_table);

        test_call_submit(group);
        nanosleep(&(struct timespec){.tv_nsec = (long)(2000000 * round)}, NULL);
        fixture_stop(&fixture);
        test_call_wait(group);
        bool made = group->call->result >= 0;

        fixture_start(&fixture);
        assert_int_equal(rows_of(&fixture, &volume_table), n_before + (made ? N : 0));
        for (unsigned i = 0; i < N; i++) {
            assert_int_equal(page_read(ids[i].text, 0), 10 + i);
        }
        test_call_free(group);
    }
}

/* Consistency that cannot be is refused, and nothing is made. */
static void test_refused(void **state)
{
    (void)state;
    struct test_call *test = list_call(NULL);
    uint64_t n = rows_of(&fixture, &volume_table);

    arg_number(test, "SyncType", 8);
    arg_number(test, "ReplicationSettingData.DesiredCopyMethodology", 3); /* a full copy */
    assert_failed(test, ERR_NOT_SUPPORTED, "Consistency");
    assert_int_equal(rows_of(&fixture, &volume_table), n);
    test_call_free(test);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_all_at_one_moment),           TEST(test_nothing_of_a_round_that_is_void),
        TEST(test_others_wait_for_the_verdict), TEST(test_taken_back_when_the_disk_is_full),
        TEST(test_end_in_the_middle),           TEST(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
