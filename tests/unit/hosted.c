// SPDX-License-Identifier: Apache-2.0
/*
 * Hosted volumes in a whole service: calls that run twice, what is left of calls that fail or are not committed, merges,
 * restarts with what a crash leaves, ends of the service at bad moments.
 */
#include "tests/unit/testing.h"

#include <dirent.h>
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "tests/unit/block_io.h"
#include "tests/unit/hosted_fixture.h"

enum { PAGE = 4096, N_PAGES = 256, SIZE = N_PAGES * PAGE, WAIT_MS = 30000 };

static struct service_fixture fixture;

static int setup(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture_start(&fixture);
    hosted_io_begin();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hosted_io_end();
    fixture_destroy(&fixture);
    return 0;
}

static void restart(void)
{
    fixture_stop(&fixture);
    fixture_start(&fixture);
}

static void wait_until(bool (*so)(void *arg), void *arg)
{
    for (int i = 0; i < WAIT_MS / 5; i++) {
        if (so(arg)) {
            return;
        }
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    fail_msg("it did not become so within %d ms", WAIT_MS);
}

/* ---- volumes ---- */

struct id {
    char text[ID_SIZE];
};

static struct id volume_create(const char *name)
{
    struct hosted_ask ask = {.change = HOSTED_CREATE, .size_bytes = SIZE};
    struct id id;

    strcpy(ask.name, name);
    hosted_do(&fixture, &ask);
    assert_int_equal(ask.runs, 2);
    strcpy(id.text, ask.ret_id);
    return id;
}

static struct hosted_ask ask_of(enum hosted_change what, const struct id *id)
{
    struct hosted_ask ask = {.change = what};

    strcpy(ask.id, id->text);
    return ask;
}

static struct id volume_derive(const struct id *source, bool watched)
{
    struct hosted_ask ask = ask_of(HOSTED_DERIVE, source);
    struct id id;

    ask.watched = watched;
    hosted_do(&fixture, &ask);
    assert_int_equal(ask.runs, 2);
    strcpy(id.text, ask.ret_id);
    return id;
}

static void volume_delete(const struct id *id)
{
    struct hosted_ask ask = ask_of(HOSTED_DELETE, id);

    hosted_do(&fixture, &ask);
    assert_int_equal(ask.runs, 1);
}

static void refresh(const struct id *source, const struct id *target)
{
    struct hosted_ask ask = ask_of(HOSTED_REFRESH, source);

    strcpy(ask.other_id, target->text);
    hosted_do(&fixture, &ask);
}

static struct id restore(const struct id *source, const struct id *replica)
{
    struct hosted_ask ask = ask_of(HOSTED_RESTORE, source);
    struct id id;

    strcpy(ask.other_id, replica->text);
    hosted_do(&fixture, &ask);
    strcpy(id.text, ask.ret_id);
    return id;
}

static struct volume_row row_of(const struct id *id)
{
    struct volume_row row;

    volume_of(&fixture, id->text, &row);
    return row;
}

/* Pages [first, first + n) become full of the byte. */
static void fill(const struct id *id, unsigned first, unsigned n, uint8_t byte)
{
    static uint8_t bytes[SIZE];
    struct blockdev *dev = hosted_connect(&fixture, id->text);

    assert_non_null(dev);
    memset(bytes, byte, (size_t)n * PAGE);
    assert_int_equal(
        io_do(dev, BLOCK_WRITE, (uint64_t)first * PAGE, bytes, (uint64_t)n * PAGE, BLOCK_FUA), 0);
    hosted_disconnect(dev);
}

static void is_full(const struct id *id, unsigned first, unsigned n, uint8_t byte)
{
    static uint8_t bytes[SIZE];
    struct blockdev *dev = hosted_connect(&fixture, id->text);

    assert_non_null(dev);
    assert_int_equal(io_do(dev, BLOCK_READ, (uint64_t)first * PAGE, bytes, (uint64_t)n * PAGE, 0),
                     0);
    for (unsigned i = 0; i < n * PAGE; i++) {
        assert_int_equal(bytes[i], byte);
    }
    hosted_disconnect(dev);
}

/* ---- calls of clients ---- */

static struct test_call *delete_of(const struct id *id)
{
    struct test_call *test =
        test_call_new(&fixture, &storage_configuration_service, "ReturnToStoragePool");
    char path[PATH_SIZE];

    snprintf(path, sizeof(path), "/volumes/%s", id->text);
    arg_text(test, "TheElement", path);
    return test;
}

static struct test_call *snapshot_of(const struct id *id)
{
    struct test_call *test = test_call_new(&fixture, &replication_service, "CreateElementReplica");
    char path[PATH_SIZE];

    snprintf(path, sizeof(path), "/volumes/%s", id->text);
    arg_number(test, "SyncType", 7);
    arg_text(test, "SourceElement", path);
    return test;
}

/* ---- files ---- */

static void pool_path(char path[160], const char *name)
{
    struct pool_row pool;

    assert_int_equal(table_get(fixture.reader, &pool_table, "default", &pool), 0);
    assert_int_equal(hosted_pool_dir(fixture.control, &pool, path, 100), 0);
    snprintf(path + strlen(path), 60, "/%s", name);
}

static unsigned files(void)
{
    char path[160];
    unsigned n = 0;
    const struct dirent *file;

    pool_path(path, "");
    DIR *dir = opendir(path);

    assert_non_null(dir);
    while ((file = readdir(dir)) != NULL) {
        n += strstr(file->d_name, ".layer") != NULL;
    }
    closedir(dir);
    return n;
}

static bool files_are_those_of_the_records(void *arg)
{
    (void)arg;
    return files() == rows_of(&fixture, &layer_table);
}

static void await_files(void)
{
    wait_until(files_are_those_of_the_records, NULL);
}

static bool layers_are(void *arg)
{
    return rows_of(&fixture, &layer_table) == *(unsigned *)arg && files() == *(unsigned *)arg;
}

static void await_layers(unsigned n)
{
    wait_until(layers_are, &n);
}

/* ---- calls ---- */

static int refuse(struct call *call, struct hosted_ask *ask)
{
    return ask->runs == 2 ? call_fail(call, ERR_LIMIT_REACHED, "Not this time.") : 0;
}

/* The first run was fine, the files were made, and then it cannot be. */
static void test_leftovers_of_a_refusal(void **state)
{
    (void)state;
    struct hosted_ask ask = {.change = HOSTED_CREATE, .size_bytes = SIZE, .after = refuse};
    struct error error;

    assert_true(hosted_try(&fixture, &ask, &error) < 0);
    assert_int_equal(error.code, ERR_LIMIT_REACHED);
    assert_int_equal(ask.runs, 2);
    assert_int_equal(rows_of(&fixture, &layer_table), 0);
    assert_int_equal(rows_of(&fixture, &volume_table), 0);
    await_layers(0);
}

static int refuse_at_once(struct call *call, struct hosted_ask *ask)
{
    (void)ask;
    return call_fail(call, ERR_LIMIT_REACHED, "Never.");
}

static void test_a_refusal_makes_no_file(void **state)
{
    (void)state;
    struct hosted_ask ask = {.change = HOSTED_CREATE, .size_bytes = SIZE, .after = refuse_at_once};
    struct error error;

    assert_true(hosted_try(&fixture, &ask, &error) < 0);
    assert_int_equal(ask.runs, 1);
    assert_int_equal(files(), 0);
}

static int grow_now(struct call *call, void *arg)
{
    const struct id *id = arg;
    struct volume_row volume;
    int r = table_get(call->db, &volume_table, id->text, &volume);

    return r < 0 ? call_fail_store(call, r) : hosted_grow(call, &volume, volume.size_bytes + SIZE);
}

/* A cut and a growth at the same time, in either order: neither is lost. */
static void test_cut_and_growth(void **state)
{
    (void)state;
    struct id source = volume_create("source");

    fill(&source, 0, 2, 1);
    for (unsigned i = 0; i < 2; i++) {
        struct test_call *snapshot = snapshot_of(&source);

        if (i == 0) {
            test_call_submit(snapshot);
        }
        fixture_do(&fixture, grow_now, &source, NULL);
        if (i == 1) {
            test_call_submit(snapshot);
        }
        test_call_wait(snapshot);
        assert_true(snapshot->call->result >= 0);
        test_call_free(snapshot);
    }
    assert_int_equal(row_of(&source).size_bytes, 3 * SIZE);
    struct id clone = volume_derive(&source, false);

    assert_int_equal(row_of(&clone).size_bytes, 3 * SIZE);
    is_full(&clone, 0, 2, 1);
    fill(&source, N_PAGES, 1, 2);
    restart();
    is_full(&source, N_PAGES, 1, 2);
    is_full(&clone, N_PAGES, 1, 0);
    await_files();
}

/* ---- a commit that fails ---- */

static struct rlimit old_limit;

/* From here on the write-ahead log does not grow. */
static int disk_is_full(struct call *call, struct hosted_ask *ask)
{
    char path[128];
    struct stat status;

    (void)call;
    if (ask->runs == 2) {
        snprintf(path, sizeof(path), "%s/smirror.db-wal", fixture.dir);
        assert_int_equal(stat(path, &status), 0);
        struct rlimit small = {.rlim_cur = (rlim_t)status.st_size, .rlim_max = old_limit.rlim_max};

        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    }
    return 0;
}

static void fails_at_commit(struct hosted_ask *ask)
{
    struct error error;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
    void (*old_handler)(int) = signal(SIGXFSZ, SIG_IGN);

    ask->after = disk_is_full;
    assert_true(hosted_try(&fixture, ask, &error) < 0);
    assert_true(error.code == ERR_NO_SPACE || error.code == ERR_STORE_FAILED);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old_limit), 0);
    signal(SIGXFSZ, old_handler);
}

static void test_a_commit_that_fails(void **state)
{
    (void)state;
    struct hosted_ask create = {.change = HOSTED_CREATE, .size_bytes = SIZE};
    struct id source = volume_create("source");
    struct id replica = volume_derive(&source, false);
    char top[ID_SIZE];

    fill(&source, 0, 1, 1);
    strcpy(top, row_of(&source).top_layer_id);
    unsigned n = (unsigned)rows_of(&fixture, &layer_table);

    fails_at_commit(&create);
    await_layers(n);
    struct hosted_ask derive = ask_of(HOSTED_DERIVE, &source);

    fails_at_commit(&derive);
    struct hosted_ask restored = ask_of(HOSTED_RESTORE, &source);

    strcpy(restored.other_id, replica.text);
    fails_at_commit(&restored);
    await_layers(n);
    /* Nothing of it was done to the volume. */
    assert_string_equal(row_of(&source).top_layer_id, top);
    is_full(&source, 0, 1, 1);
    fill(&source, 1, 1, 2);
    volume_delete(&replica);
    restart();
    is_full(&source, 0, 1, 1);
    is_full(&source, 1, 1, 2);
}

static struct test_call *pool_create_call(void)
{
    struct test_call *test =
        test_call_new(&fixture, &storage_configuration_service, "CreateOrModifyStoragePool");

    arg_text(test, "ElementName", "other");
    arg_text(test, "Goal.Directory", "other");
    return test;
}

/* The array had the pool already: its directory is free again. */
static void test_a_pool_that_is_not_committed(void **state)
{
    (void)state;
    struct test_call *test = pool_create_call();
    struct hosted_ask nothing = {.runs = 2};

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
    void (*old_handler)(int) = signal(SIGXFSZ, SIG_IGN);

    fixture_stop(&fixture);
    fixture_start(&fixture); /* a small log */
    volume_create("any");
    disk_is_full(NULL, &nothing);
    test_call_run(test);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old_limit), 0);
    signal(SIGXFSZ, old_handler);
    assert_true(test->call->result < 0);
    assert_true(test->call->error.code == ERR_NO_SPACE ||
                test->call->error.code == ERR_STORE_FAILED);
    test_call_free(test);
    test = pool_create_call();
    assert_done(test);
    test_call_free(test);
}

/* ---- two calls in one batch ---- */

static sem_t control_is_held;
static sem_t control_may_go_on;

static int hold(struct call *call, void *arg)
{
    (void)call;
    (void)arg;
    sem_post(&control_is_held);
    sem_wait(&control_may_go_on);
    return 0;
}

static void *hold_thread(void *arg)
{
    fixture_do(&fixture, hold, NULL, NULL);
    return arg;
}

/* Snapshots of one volume, its end in between: the first are there or fail as a whole, and those behind fail. */
static void test_one_batch(void **state)
{
    (void)state;
    struct id source = volume_create("source");
    struct test_call *calls[8];
    pthread_t holder;
    unsigned n_done = 0;

    fill(&source, 0, 4, 7);
    sem_init(&control_is_held, 0, 0);
    sem_init(&control_may_go_on, 0, 0);
    assert_int_equal(pthread_create(&holder, NULL, hold_thread, NULL), 0);
    sem_wait(&control_is_held);
    for (unsigned i = 0; i < 8; i++) {
        calls[i] = i == 5 ? delete_of(&source) : snapshot_of(&source);
        test_call_submit(calls[i]);
    }
    sem_post(&control_may_go_on);
    pthread_join(holder, NULL);
    for (unsigned i = 0; i < 8; i++) {
        test_call_wait(calls[i]);
        if (i != 5 && calls[i]->call->result >= 0) {
            struct id id;

            strcpy(id.text, id_of(out_of(calls[i], "TargetElement")));
            is_full(&id, 0, 4, 7);
            n_done++;
        }
        test_call_free(calls[i]);
    }
    struct volume_row row;
    bool gone = table_get(fixture.reader, &volume_table, source.text, &row) == -ENOENT;

    assert_true(gone ? n_done == 0 : n_done == 7);
    await_files();
    restart();
    await_files();
}

/* ---- merging ---- */

static void test_deleted_snapshots_are_merged(void **state)
{
    (void)state;
    struct id source = volume_create("source");
    struct id snapshots[6];

    for (unsigned i = 0; i < 6; i++) {
        fill(&source, i * 40, 40, (uint8_t)(i + 1));
        snapshots[i] = volume_derive(&source, false);
    }
    assert_int_equal(rows_of(&fixture, &layer_table), 13);
    /* One after the other, without waiting: the next merge is asked for while the one before ends. */
    for (unsigned i = 0; i < 6; i++) {
        volume_delete(&snapshots[(i * 5) % 6]);
    }
    await_layers(1);
    for (unsigned i = 0; i < 6; i++) {
        is_full(&source, i * 40, 40, (uint8_t)(i + 1));
    }
    restart();
    for (unsigned i = 0; i < 6; i++) {
        is_full(&source, i * 40, 40, (uint8_t)(i + 1));
    }
}

/* What only a small top could take waits for the next cut, and the small one goes down: the large one is never copied. */
static void test_a_large_base_stays(void **state)
{
    (void)state;
    struct hosted_ask create = {.change = HOSTED_CREATE, .size_bytes = 128 * (uint64_t)SIZE};
    struct id source;
    char base[ID_SIZE];

    hosted_do(&fixture, &create);
    strcpy(source.text, create.ret_id);
    strcpy(base, row_of(&source).top_layer_id);
    for (unsigned i = 0; i < 70; i++) {
        fill(&source, i * N_PAGES, N_PAGES, 1);
    }
    struct id snapshot = volume_derive(&source, false);

    for (unsigned round = 0; round < 3; round++) {
        fill(&source, 10 * round, 20, (uint8_t)(2 + round));
        volume_delete(&snapshot);
        snapshot = volume_derive(&source, false);
        await_layers(3); /* the base, and the two that are written to */
        assert_true(row_exists(&fixture, &layer_table, base));
        is_full(&snapshot, 10 * round, 20, (uint8_t)(2 + round));
        is_full(&snapshot, 10 * round + 20, 100, 1);
    }
    volume_delete(&snapshot);
    restart();
    is_full(&source, 10, 10, 3);
    is_full(&source, 20, 20, 4);
    is_full(&source, 40, 100, 1);
    assert_true(row_exists(&fixture, &layer_table, base));
}

/* What was mergeable and not merged when the service ended is found at the next start. */
static void test_merges_after_a_restart(void **state)
{
    (void)state;
    struct id source = volume_create("source");
    struct id first = volume_derive(&source, false);

    fill(&source, 0, N_PAGES, 1);
    struct id second = volume_derive(&source, false);

    fill(&source, 0, N_PAGES / 2, 2);
    volume_delete(&first);
    volume_delete(&second);
    restart();
    await_layers(1);
    is_full(&source, 0, N_PAGES / 2, 2);
    is_full(&source, N_PAGES / 2, N_PAGES / 2, 1);
}

/* A snapshot that nobody has written to stays Synchronized, whatever is merged below it and whenever the service ends. */
static void test_a_watched_top_takes_nothing(void **state)
{
    (void)state;
    struct id source = volume_create("source");

    fill(&source, 0, 10, 1);
    struct id snapshot = volume_derive(&source, true);
    struct id other = volume_derive(&source, false);
    struct id kept = restore(&source, &other); /* the source leaves the snapshot's layers */

    volume_delete(&kept);
    volume_delete(&other);
    restart();
    restart();
    assert_true(row_of(&snapshot).watched);
    is_full(&snapshot, 0, 10, 1);
    is_full(&source, 0, 10, 1);
    /* Once it is written to it may. */
    fill(&snapshot, 5, 1, 2);
    volume_delete(&source);
    await_layers(1);
    assert_false(row_of(&snapshot).watched);
    is_full(&snapshot, 0, 5, 1);
    is_full(&snapshot, 5, 1, 2);
}

/* ---- families ---- */

/* source belongs to another family than its replica by now: it comes over, what it had stays behind. */
static void test_restore_over_families(void **state)
{
    (void)state;
    struct id others[3]; /* so that families are on both loops */
    struct id source = volume_create("source");
    struct id stranger = volume_create("stranger");

    for (unsigned i = 0; i < 3; i++) {
        others[i] = volume_create("other");
    }
    fill(&source, 0, 8, 1);
    fill(&stranger, 0, 8, 2);
    struct id replica = volume_derive(&source, false);

    for (unsigned i = 0; i < 3; i++) {
        refresh(i == 0 ? &stranger : &others[i], &source);
        assert_string_not_equal(row_of(&source).family, row_of(&replica).family);
        is_full(&source, 0, 8, i == 0 ? 2 : 0);
        struct id kept = restore(&source, &replica);

        assert_string_equal(row_of(&source).family, row_of(&replica).family);
        is_full(&source, 0, 8, 1);
        is_full(&kept, 0, 8, i == 0 ? 2 : 0);
        is_full(&replica, 0, 8, 1);
        fill(&source, 20, 1, 3);
        is_full(&replica, 20, 1, 0);
    }
    restart();
    is_full(&source, 0, 8, 1);
    is_full(&replica, 0, 8, 1);
    is_full(&stranger, 0, 8, 2);
    await_files();
}

/* ---- what a crash leaves ---- */

static void test_orphans_are_swept(void **state)
{
    (void)state;
    struct id source = volume_create("source");
    char path[160];

    fill(&source, 0, 1, 1);
    pool_path(path, "0123456789ab.layer");
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(files(), 2);
    restart();
    assert_int_equal(files(), 1);
    is_full(&source, 0, 1, 1);
}

/* Recorded, but the crash came before anything of it was done. */
static void test_recorded_and_not_done(void **state)
{
    (void)state;
    struct id source = volume_create("source");
    struct volume_row volume;
    struct layer_row layer;

    fill(&source, 0, 1, 1);
    volume = row_of(&source);
    assert_int_equal(table_get(fixture.reader, &layer_table, volume.top_layer_id, &layer), 0);
    layer.size_bytes = 2 * SIZE;
    volume.size_bytes = 2 * SIZE;
    row_update(&fixture, &layer_table, &layer);
    row_update(&fixture, &volume_table, &volume);
    restart();
    fill(&source, 2 * N_PAGES - 1, 1, 2);
    is_full(&source, 0, 1, 1);
}

/* ---- damage ---- */

static bool has_problem(void *arg)
{
    return row_of(arg).problem[0] != '\0';
}

static int nothing(struct call *call, void *arg)
{
    (void)call;
    (void)arg;
    return 0;
}

/* The volume is not served and says why; everything else is, and whatever is done with it ends well or with an error. */
static void test_damaged_layers(void **state)
{
    (void)state;
    struct id source = volume_create("source");
    struct id other = volume_create("other");
    struct error error;

    fill(&source, 0, 4, 1);
    fill(&other, 0, 4, 9);
    struct id snapshot = volume_derive(&source, false);
    struct id clone = volume_derive(&source, false);
    char top[ID_SIZE];

    strcpy(top, row_of(&source).top_layer_id);
    fixture_stop(&fixture);
    fixture_start(&fixture); /* so that the reader sees it all */
    char path[160];

    pool_path(path, "");
    fixture_stop(&fixture);
    snprintf(path + strlen(path), 40, "%s.layer", top);
    FILE *file = fopen(path, "r+");
    static const char noise[8192] = {1, 2, 3};

    assert_non_null(file);
    assert_int_equal(fwrite(noise, sizeof(noise), 1, file), 1);
    fclose(file);
    fixture_start(&fixture);
    wait_until(has_problem, &source);
    assert_null(hosted_connect(&fixture, source.text));
    is_full(&snapshot, 0, 4, 1);
    is_full(&clone, 0, 4, 1);
    is_full(&other, 0, 4, 9);
    /* Cut: it is recorded, and the answer says that it is not well. */
    struct hosted_ask derive = ask_of(HOSTED_DERIVE, &source);

    assert_true(hosted_try(&fixture, &derive, &error) < 0);
    /* A refresh from it: the target's content is gone from the records, its files stay as long as it reads them. */
    struct hosted_ask refreshed = ask_of(HOSTED_REFRESH, &source);

    strcpy(refreshed.other_id, clone.text);
    assert_true(hosted_try(&fixture, &refreshed, &error) < 0);
    /* New content makes it whole. */
    struct hosted_ask restored = ask_of(HOSTED_RESTORE, &source);

    strcpy(restored.other_id, snapshot.text);
    hosted_try(&fixture, &restored, &error); /* what was kept is as it was: it may say so */
    is_full(&source, 0, 4, 1);
    fill(&source, 4, 1, 2);
    assert_int_equal(row_of(&source).problem[0], '\0');
    restart();
    is_full(&source, 0, 4, 1);
    is_full(&source, 4, 1, 2);
    is_full(&snapshot, 0, 4, 1);
    is_full(&other, 0, 4, 9);
    volume_delete(&clone);
    volume_delete(&snapshot);
}

/* What was committed could not be done: the answer says so and names what was made, and is the one that is kept. */
static void test_a_key_of_a_call_that_ended_badly(void **state)
{
    (void)state;
    struct id source = volume_create("source");
    struct answer answer;
    struct strbuf body = STRBUF_INIT;
    char path[160];

    pool_path(path, "");
    snprintf(path + strlen(path), 40, "%s.layer", row_of(&source).top_layer_id);
    fixture_stop(&fixture);
    assert_int_equal(truncate(path, 100), 0);
    fixture_start(&fixture);
    wait_until(has_problem, &source);
    struct volume_row row = row_of(&source);

    row.problem[0] = '\0'; /* as if it had not been noticed yet */
    row_update(&fixture, &volume_table, &row);
    int status = 0;
    for (unsigned i = 0; i < 2; i++) {
        struct test_call *test = snapshot_of(&source);
        uint64_t n = rows_of(&fixture, &volume_table);

        strcpy(test->call->idempotency_key, "same");
        test_call_submit(test);
        test_call_wait(test);
        assert_true(test->call->answer.status >= 400);
        if (i == 0) {
            status = test->call->answer.status;
            assert_memory_equal(test->call->error.made, "/volumes/", strlen("/volumes/"));
        }
        assert_int_equal(test->call->answer.status, status);
        assert_int_equal(rows_of(&fixture, &volume_table), n + 1 - i);
        test_call_free(test);
        fixture_do(&fixture, nothing, NULL, NULL); /* behind the event that keeps the answer */
        assert_int_equal(answer_get(fixture.reader, "same", &answer, &body), 0);
        assert_int_equal(answer.status, status);
    }
    strbuf_fini(&body);
}

/* Its directory cannot be used at start: its volumes say so, nothing ends the service. */
static void test_a_pool_that_is_away(void **state)
{
    (void)state;
    struct hosted_ask create = {.change = HOSTED_CREATE, .size_bytes = SIZE};
    struct id source = volume_create("source");
    struct error error;
    char path[160];
    char away[200];

    fill(&source, 0, 4, 1);
    pool_path(path, "");
    path[strlen(path) - 1] = '\0';
    snprintf(away, sizeof(away), "%s-away", path);
    fixture_stop(&fixture);
    assert_int_equal(rename(path, away), 0);
    close(open(path, O_CREAT | O_WRONLY, 0600)); /* no directory */
    fixture_start(&fixture);
    wait_until(has_problem, &source);
    assert_true(hosted_try(&fixture, &create, &error) < 0);
    struct hosted_ask asks[] = {ask_of(HOSTED_DERIVE, &source), ask_of(HOSTED_BLANK, &source),
                                ask_of(HOSTED_GROW, &source)};

    asks[2].size_bytes = 2 * SIZE;
    for (unsigned i = 0; i < 2; i++) {
        assert_true(hosted_try(&fixture, &asks[i], &error) < 0);
    }
    fixture_stop(&fixture);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rename(away, path), 0);
    fixture_start(&fixture);
    is_full(&source, 0, 4, 1);
    assert_int_equal(row_of(&source).problem[0], '\0');
    /* A volume in a pool that is away can be deleted. */
    fixture_stop(&fixture);
    assert_int_equal(rename(path, away), 0);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    fixture_start(&fixture);
    volume_delete(&source);
    fixture_stop(&fixture);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rename(away, path), 0);
    fixture_start(&fixture);
    assert_int_equal(files(), 0);
}

/* ---- the end at bad moments ---- */

static void test_end_with_calls_under_way(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 12; round++) {
        struct id source = volume_create("source");
        struct test_call *calls[12];

        fill(&source, 0, 10, 5);
        for (unsigned i = 0; i < 12; i++) {
            calls[i] = i == 11 ? delete_of(&source) : snapshot_of(&source);
            test_call_submit(calls[i]);
        }
        /* Sooner or later in what they do. */
        nanosleep(&(struct timespec){.tv_nsec = round * 400000}, NULL);
        fixture_stop(&fixture);
        struct id made[12];
        unsigned n_made = 0;

        for (unsigned i = 0; i < 12; i++) {
            test_call_wait(calls[i]);
            if (i != 11 && calls[i]->call->result >= 0) {
                strcpy(made[n_made++].text, id_of(out_of(calls[i], "TargetElement")));
            }
            test_call_free(calls[i]);
        }
        fixture_start(&fixture);
        for (unsigned i = 0; i < n_made; i++) {
            is_full(&made[i], 0, 10, 5);
        }
        await_files();
    }
}

static void test_end_while_merging(void **state)
{
    (void)state;
    struct id source = volume_create("source");

    for (unsigned round = 0; round < 8; round++) {
        struct id snapshots[3];

        for (unsigned i = 0; i < 3; i++) {
            fill(&source, 0, N_PAGES - i * 50, (uint8_t)(1 + i + round));
            snapshots[i] = volume_derive(&source, false);
        }
        for (unsigned i = 0; i < 3; i++) {
            volume_delete(&snapshots[i]);
        }
        nanosleep(&(struct timespec){.tv_nsec = round * 1500000}, NULL);
        restart();
        is_full(&source, 0, N_PAGES - 100, (uint8_t)(3 + round));
        is_full(&source, N_PAGES - 100, 50, (uint8_t)(2 + round));
        is_full(&source, N_PAGES - 50, 50, (uint8_t)(1 + round));
    }
    await_layers(1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_leftovers_of_a_refusal),
        TEST(test_a_refusal_makes_no_file),
        TEST(test_cut_and_growth),
        TEST(test_a_commit_that_fails),
        TEST(test_a_pool_that_is_not_committed),
        TEST(test_one_batch),
        TEST(test_deleted_snapshots_are_merged),
        TEST(test_a_large_base_stays),
        TEST(test_merges_after_a_restart),
        TEST(test_a_watched_top_takes_nothing),
        TEST(test_restore_over_families),
        TEST(test_orphans_are_swept),
        TEST(test_recorded_and_not_done),
        TEST(test_damaged_layers),
        TEST(test_a_key_of_a_call_that_ended_badly),
        TEST(test_a_pool_that_is_away),
        TEST(test_end_with_calls_under_way),
        TEST(test_end_while_merging),
    };

    return cmocka_run_group_tests_name("hosted", tests, NULL, NULL);
}
