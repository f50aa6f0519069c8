// SPDX-License-Identifier: Apache-2.0
/*
 * Jobs where the records or the devices do not do as they should: events that cannot be recorded, records that cannot be
 * read when a copy is to start, copies that do not end when the service does.
 *
 * Reads fail through table_get() (ld --wrap); writes because the disk is full (RLIMIT_FSIZE).
 */
#include "tests/unit/testing.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "service/enums.h"
#include "service/jobs.h"
#include "tests/tools/fake_target.h"
#include "tests/tools/tgtd.h"
#include "tests/unit/service_fixture.h"

enum { MIB = 1 << 20, WAIT_MS = 30000 };

static struct service_fixture fixture;
static struct tgtd *tgtd;
static const char target_name[] = "iqn.2024-01.example:faulty";
static uint64_t bytes_before; /* read by the copies before the last one */

/* ---- reads that fail ---- */

static atomic_int volume_reads_to_fail;
static atomic_int volume_reads_failed;

int __real_table_get(struct db *db, const struct table *table, const char *id, void *ret_row);
int __wrap_table_get(struct db *db, const struct table *table, const char *id, void *ret_row);
int __wrap_table_get(struct db *db, const struct table *table, const char *id, void *ret_row)
{
    if (table == &volume_table && atomic_load(&volume_reads_to_fail) > 0) {
        atomic_fetch_sub(&volume_reads_to_fail, 1);
        atomic_fetch_add(&volume_reads_failed, 1);
        return -EBUSY;
    }
    return __real_table_get(db, table, id, ret_row);
}

/* ---- the service ---- */

static int start(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture.options.volumes_stop_ms = 0; /* a test is about an end in time */
    fixture_start(&fixture);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_destroy(&fixture);
    return 0;
}

static int start_with_luns(void **state)
{
    static const struct tgtd_lun luns[] = {
        {.lun = 1, .file = "one", .size_bytes = 8 * MIB},
        {.lun = 2, .file = "two", .size_bytes = 8 * MIB},
        {.lun = 3, .file = "small", .size_bytes = FAKE_BYTES},
    };

    tgtd = tgtd_start();
    tgtd_target(tgtd, 1, target_name);
    tgtd_lun(tgtd, 1, &luns[0]);
    tgtd_lun(tgtd, 1, &luns[1]);
    tgtd_lun(tgtd, 1, &luns[2]);
    return start(state);
}

static int stop_with_luns(void **state)
{
    stop(state);
    tgtd_stop(tgtd);
    return 0;
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

static void add_lun(const char *address, unsigned lun, char path[PATH_SIZE])
{
    struct test_call *test = test_call_new(&fixture, &replication_service, "AddReplicationEntity");
    char url[200];

    snprintf(url, sizeof(url), "iscsi://%s/%s/%u", address, target_name, lun);
    arg_number(test, "ReplicationEntity.Type", 8);
    arg_text(test, "ReplicationEntity.EntityID", url);
    assert_done(test);
    snprintf(path, PATH_SIZE, "%s", out_of(test, "ReplicationEntityPath"));
    test_call_free(test);
}

static const char *tgtd_portal(void)
{
    static char text[32];

    snprintf(text, sizeof(text), "127.0.0.1:%u", tgtd_port(tgtd));
    return text;
}

static void create_replica_of(const char *source, const char *target, uint64_t bandwidth_limit,
                              char job[PATH_SIZE], char synchronization[PATH_SIZE])
{
    struct test_call *test = test_call_new(&fixture, &replication_service, "CreateElementReplica");

    arg_number(test, "SyncType", SYNC_CLONE);
    arg_text(test, "SourceElement", source);
    arg_text(test, "TargetElement", target);
    if (bandwidth_limit != 0) {
        arg_number(test, "ReplicationSettingData.BandwidthLimit", bandwidth_limit);
    }
    bytes_before = control_stats(fixture.control).bytes_read;
    assert_int_equal(test_call_run(test), 4096);
    snprintf(job, PATH_SIZE, "%s", out_of(test, "Job"));
    snprintf(synchronization, PATH_SIZE, "%s", out_of(test, "Synchronization"));
    test_call_free(test);
}

static void create_replica(uint64_t bandwidth_limit, char job[PATH_SIZE],
                           char synchronization[PATH_SIZE])
{
    char source[PATH_SIZE];
    char target[PATH_SIZE];

    add_lun(tgtd_portal(), 1, source);
    add_lun(tgtd_portal(), 2, target);
    create_replica_of(source, target, bandwidth_limit, job, synchronization);
}

static void modify(const char *synchronization, uint32_t operation, uint32_t expected)
{
    struct test_call *test =
        test_call_new(&fixture, &replication_service, "ModifyReplicaSynchronization");

    arg_number(test, "Operation", operation);
    arg_text(test, "Synchronization", synchronization);
    assert_int_equal(test_call_run(test), expected);
    test_call_free(test);
}

static void assert_completed(const char *job)
{
    struct job_row row;

    assert_int_equal(table_get(fixture.reader, &job_table, id_of(job), &row), 0);
    assert_int_equal(row.state, JOB_COMPLETED);
    assert_int_equal(row.error_code, 0);
}

static bool job_has_ended(void *arg)
{
    struct job_row row;

    assert_int_equal(table_get(fixture.reader, &job_table, id_of(arg), &row), 0);
    return job_state_ended(row.state);
}

static bool copy_is_moving(void *arg)
{
    (void)arg;
    return control_stats(fixture.control).bytes_read > bytes_before;
}

/* ---- events ---- */

enum { RECORDED_MAX = 64 };

static struct {
    pthread_mutex_t lock;
    int numbers[RECORDED_MAX]; /* in the order of their commits */
    unsigned n;
    atomic_int runs[RECORDED_MAX];
    atomic_int failing; /* the event of this number fails by itself, once */
} events = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void event_is_recorded(struct control *control, void *arg)
{
    (void)control;
    pthread_mutex_lock(&events.lock);
    events.numbers[events.n++] = *(int *)arg;
    pthread_mutex_unlock(&events.lock);
}

static int numbered_event(struct call *call)
{
    int number = *(int *)call->step_state;
    struct volume_row row = {.kind = VOLUME_REMOTE, .size_bytes = MIB, .block_bytes = 512};

    atomic_fetch_add(&events.runs[number], 1);
    strcpy(row.system_id, SYSTEM_LOCAL);
    memset(row.element_name, 'x', sizeof(row.element_name) - 1);
    int r = table_insert(call->db, &volume_table, &row);

    if (r == 0 && atomic_load(&events.failing) == number) {
        atomic_store(&events.failing, 0);
        r = -EIO;
    }
    control_effect(call->control, event_is_recorded, &number, sizeof(number));
    return r < 0 ? call_fail_store(call, r) : 0;
}

struct sending {
    const char *lane;
    int numbers[4];
};

/* What is sent at once is taken in one batch. */
static int send_events(struct call *call, void *arg)
{
    const struct sending *sending = arg;

    for (int i = 0; i < 4 && sending->numbers[i] != 0; i++) {
        control_event_in_order(call->control, sending->lane, numbered_event, &sending->numbers[i],
                               sizeof(int));
    }
    return 0;
}

/* The call itself is in the batch that may fail. */
static void send_all(const char *lane, int a, int b, int c)
{
    struct sending sending = {.lane = lane, .numbers = {a, b, c}};
    struct error error;

    fixture_do(&fixture, send_events, &sending, &error);
}

static bool are_recorded(void *arg)
{
    pthread_mutex_lock(&events.lock);
    bool so = events.n >= *(unsigned *)arg;
    pthread_mutex_unlock(&events.lock);
    return so;
}

static unsigned place_of(int number)
{
    for (unsigned i = 0; i < events.n; i++) {
        if (events.numbers[i] == number) {
            return i;
        }
    }
    fail_msg("event %d is not recorded", number);
    return 0;
}

static void events_forget(void)
{
    events.n = 0;
    memset(events.runs, 0, sizeof(events.runs));
}

static bool has_run(void *arg)
{
    return atomic_load(&events.runs[*(int *)arg]) > 0;
}

static void an_event_that_fails_holds_those_behind_it(void **state)
{
    unsigned all = 5;

    (void)state;
    events_forget();
    atomic_store(&events.failing, 1);
    send_all("copy", 1, 2, 0);
    send_all("copy", 3, 0, 0);
    send_all("other", 4, 5, 0);
    wait_until(are_recorded, &all);
    assert_int_equal(events.n, all);
    assert_true(place_of(1) < place_of(2));
    assert_true(place_of(2) < place_of(3));
    assert_int_equal(atomic_load(&events.runs[1]), 2);
    assert_int_equal(atomic_load(&events.runs[2]), 1);
    /* Those of another copy do not wait. */
    assert_true(place_of(4) < place_of(1));
    assert_true(place_of(5) < place_of(1));
}

static void a_full_disk_does_not_change_the_order_of_events(void **state)
{
    char wal[128];
    struct stat status;
    struct rlimit old;
    unsigned all = 6;
    int first = 1;

    (void)state;
    events_forget();
    snprintf(wal, sizeof(wal), "%s/smirror.db-wal", fixture.dir);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    void (*old_handler)(int) = signal(SIGXFSZ, SIG_IGN);

    send_all("begin", 10, 0, 0);
    unsigned one = 1;
    wait_until(are_recorded, &one);
    assert_int_equal(stat(wal, &status), 0);
    struct rlimit small = {.rlim_cur = (rlim_t)status.st_size, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    send_all("copy", 1, 2, 0);
    wait_until(has_run, &first);
    send_all("copy", 3, 0, 0);
    assert_int_equal(events.n, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    /* There is room again before the first ones are tried again. */
    send_all("copy", 4, 5, 0);
    wait_until(are_recorded, &all);
    signal(SIGXFSZ, old_handler);
    assert_int_equal(events.n, all);
    for (int i = 1; i <= 5; i++) {
        assert_int_equal(place_of(i), i);
    }
    assert_true(atomic_load(&events.runs[1]) >= 2);
}

static void what_the_disk_does_not_take_does_not_hinder_the_stop(void **state)
{
    char wal[128];
    struct stat status;
    struct rlimit old;
    int first = 1;

    (void)state;
    events_forget();
    snprintf(wal, sizeof(wal), "%s/smirror.db-wal", fixture.dir);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    void (*old_handler)(int) = signal(SIGXFSZ, SIG_IGN);

    assert_int_equal(stat(wal, &status), 0);
    struct rlimit small = {.rlim_cur = (rlim_t)status.st_size, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    send_all("copy", 1, 2, 3);
    wait_until(has_run, &first);
    fixture_stop(&fixture);
    assert_int_equal(events.n, 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, old_handler);
}

/* ---- starting a copy ---- */

static void a_record_that_cannot_be_read_delays_a_copy(void **state)
{
    char job[PATH_SIZE];
    char synchronization[PATH_SIZE];

    (void)state;
    fixture_stop(&fixture);
    fixture.options.copies_at_once = 0; /* it waits for its turn */
    fixture_start(&fixture);
    create_replica(0, job, synchronization);
    fixture_stop(&fixture);

    fixture.options.copies_at_once = 2;
    atomic_store(&volume_reads_failed, 0);
    atomic_store(&volume_reads_to_fail, 3);
    fixture_start(&fixture);
    wait_until(job_has_ended, job);
    assert_int_equal(atomic_load(&volume_reads_failed), 3);
    assert_completed(job);
}

/* ---- what an older session left behind ---- */

static void a_target_is_reset_where_a_copy_did_not_come_to_its_end(void **state)
{
    struct fake_target *fake = fake_target_start();
    struct sockaddr_storage address;
    char portal[SOCKADDR_TEXT_LEN];
    char source[PATH_SIZE];
    char target[PATH_SIZE];
    char job[PATH_SIZE];
    char synchronization[PATH_SIZE];

    (void)state;
    fake_target_address(fake, &address);
    sockaddr_format(&address, portal);
    add_lun(tgtd_portal(), 3, source);
    add_lun(portal, 1, target);

    /* From the beginning to the end: nobody is disturbed. */
    create_replica_of(source, target, 0, job, synchronization);
    wait_until(job_has_ended, job);
    assert_completed(job);
    assert_int_equal(fake_target_resets(fake), 0);
    modify(synchronization, OPERATION_DETACH, 0);

    /* Taken up again by the next process. */
    create_replica_of(source, target, FAKE_BYTES / 4, job, synchronization);
    wait_until(copy_is_moving, NULL);
    assert_int_equal(fake_target_resets(fake), 0);
    fixture_stop(&fixture);
    fixture_start(&fixture);
    wait_until(job_has_ended, job);
    assert_completed(job);
    assert_int_equal(fake_target_resets(fake), 1);
    modify(synchronization, OPERATION_DETACH, 0);

    /* Stopped in the middle; then another copy. */
    create_replica_of(source, target, FAKE_BYTES / 4, job, synchronization);
    wait_until(copy_is_moving, NULL);
    modify(synchronization, OPERATION_ABORT, 0);
    assert_int_equal(fake_target_resets(fake), 1);
    modify(synchronization, OPERATION_DETACH, 0);
    create_replica_of(source, target, 0, job, synchronization);
    wait_until(job_has_ended, job);
    assert_completed(job);
    assert_int_equal(fake_target_resets(fake), 2);
    fake_target_stop(fake);
}

/* ---- stopping ---- */

struct blocked_loop {
    struct loop_task task;
    sem_t blocked;
    sem_t go_on;
};

static void loop_block(void *arg)
{
    struct blocked_loop *blocked = arg;

    sem_post(&blocked->blocked);
    sem_wait(&blocked->go_on);
}

static atomic_uint copies_left;

static void look_for_copies(void *arg)
{
    (void)arg;
    atomic_store(&copies_left, jobs_running(control_jobs(fixture.control)));
}

static bool no_copy_is_left(void *arg)
{
    static struct loop_task task = {.fn = look_for_copies};

    (void)arg;
    if (atomic_load(&copies_left) != 0) {
        atomic_store(&copies_left, UINT32_MAX);
        loop_post(control_loop(fixture.control), &task);
        while (atomic_load(&copies_left) == UINT32_MAX) {
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        }
    }
    return atomic_load(&copies_left) == 0;
}

/* The data loops hang, so nothing ends in time. What waits is answered; what ends afterwards meets nobody. */
static void a_copy_that_ends_after_the_stop_finds_no_caller(void **state)
{
    char job[PATH_SIZE];
    char synchronization[PATH_SIZE];
    static struct blocked_loop blocked[4]; /* the loops outlive the test */

    (void)state;
    assert_in_range(fixture.options.data_loops, 1, 4);
    create_replica(MIB, job, synchronization);
    wait_until(copy_is_moving, NULL);
    for (unsigned i = 0; i < fixture.options.data_loops; i++) {
        sem_init(&blocked[i].blocked, 0, 0);
        sem_init(&blocked[i].go_on, 0, 0);
        blocked[i].task = (struct loop_task){.fn = loop_block, .arg = &blocked[i]};
        loop_post(control_data_loop(fixture.control, i), &blocked[i].task);
        sem_wait(&blocked[i].blocked);
    }
    struct test_call *abort_call =
        test_call_new(&fixture, &replication_service, "ModifyReplicaSynchronization");

    arg_number(abort_call, "Operation", OPERATION_ABORT);
    arg_text(abort_call, "Synchronization", synchronization);
    test_call_submit(abort_call);
    /* One more call: the abort is under way when it is answered. */
    fixture_do(&fixture, send_events, &(struct sending){.lane = ""}, NULL);

    assert_int_equal(control_stop(fixture.control), -ETIMEDOUT);
    test_call_wait(abort_call);
    assert_int_equal(abort_call->call->error.code, ERR_SHUTTING_DOWN);
    test_call_free(abort_call);

    atomic_store(&copies_left, 1);
    for (unsigned i = 0; i < fixture.options.data_loops; i++) {
        sem_post(&blocked[i].go_on);
    }
    wait_until(no_copy_is_left, NULL);
    /* The service is not to be freed now: the process is to end. */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_event_that_fails_holds_those_behind_it, start, stop),
        cmocka_unit_test_setup_teardown(a_full_disk_does_not_change_the_order_of_events, start,
                                        stop),
        cmocka_unit_test_setup_teardown(what_the_disk_does_not_take_does_not_hinder_the_stop, start,
                                        stop),
        cmocka_unit_test_setup_teardown(a_record_that_cannot_be_read_delays_a_copy, start_with_luns,
                                        stop_with_luns),
        cmocka_unit_test_setup_teardown(a_target_is_reset_where_a_copy_did_not_come_to_its_end,
                                        start_with_luns, stop_with_luns),
        cmocka_unit_test_setup_teardown(a_copy_that_ends_after_the_stop_finds_no_caller,
                                        start_with_luns, NULL), /* last: it leaves a service */
    };

    int r = cmocka_run_group_tests(tests, NULL, NULL);

    tgtd_stop(tgtd);
    return r;
}
