// SPDX-License-Identifier: Apache-2.0
/*
 * Exports of an array on real loops in threads of their own, met by libiscsi over TCP on loopback.
 */
#include "tests/unit/testing.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include "base/check.h"
#include "base/sockaddr.h"
#include "hosting/exports.h"

enum { N_LOOPS = 2, MIB = 1 << 20, BLOCK = 512 };

static struct loop *control;
static struct loop *loops[N_LOOPS];
static struct array *array;
static struct exports *exports;
static char dir[64];
static char portal[SOCKADDR_TEXT_LEN];

/* ---- control, from the test's thread ---- */

struct step {
    void (*fn)(struct step *step);
    const char *id;
    const struct export_spec *spec;
    const struct array_volume *volume;
    const struct array_layer *layers;
    uint64_t size_bytes;
    enum target_lun_event event;
    struct error error;
    bool failed;
    struct loop_task task;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool ended;
};

static void step_end(struct step *step)
{
    pthread_mutex_lock(&step->lock);
    step->ended = true;
    pthread_cond_signal(&step->cond);
    pthread_mutex_unlock(&step->lock);
}

static void step_done(void *arg, const struct error *error)
{
    struct step *step = arg;
    CHECK(loop_is_current(control));
    if (error) {
        step->error = *error;
        step->failed = true;
    }
    step_end(step);
}

static void step_done_plain(void *arg)
{
    step_done(arg, NULL);
}

static void step_run(void *arg)
{
    struct step *step = arg;
    step->fn(step);
}

/* Runs fn on control and waits for step_end(). */
static void on_control(struct step *step, void (*fn)(struct step *step))
{
    pthread_mutex_init(&step->lock, NULL);
    pthread_cond_init(&step->cond, NULL);
    step->fn = fn;
    step->task = (struct loop_task){.fn = step_run, .arg = step};
    loop_post(control, &step->task);
    pthread_mutex_lock(&step->lock);
    while (!step->ended) {
        pthread_cond_wait(&step->cond, &step->lock);
    }
    pthread_mutex_unlock(&step->lock);
}

/* ---- what the targets tell ---- */

static pthread_mutex_t told_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told_cond = PTHREAD_COND_INITIALIZER;
static unsigned told_sessions[2];
static char told_reservations[512];
static size_t told_len;
static unsigned told_saves;
static char told_volume[ARRAY_ID_LEN + 1];

static void sessions_changed(void *arg, const char *export_id, const struct target_session *before,
                             unsigned n_before, const struct target_session *now, unsigned n_now)
{
    (void)arg;
    (void)before;
    (void)n_before;
    (void)now;
    pthread_mutex_lock(&told_lock);
    told_sessions[strcmp(export_id, "e2") == 0] = n_now;
    pthread_cond_broadcast(&told_cond);
    pthread_mutex_unlock(&told_lock);
}

static void reservations_changed(void *arg, const char *export_id, unsigned lun,
                                 const char *volume_id, const void *bytes, size_t len,
                                 struct target_save *save)
{
    (void)arg;
    (void)export_id;
    (void)lun;
    CHECK(len <= sizeof(told_reservations));
    pthread_mutex_lock(&told_lock);
    memcpy(told_reservations, bytes, len);
    told_len = len;
    strcpy(told_volume, volume_id);
    told_saves++;
    pthread_mutex_unlock(&told_lock);
    target_save_done(save, 0);
}

static void await_sessions(unsigned which, unsigned n)
{
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 20;
    pthread_mutex_lock(&told_lock);
    while (told_sessions[which] != n) {
        assert_int_equal(pthread_cond_timedwait(&told_cond, &told_lock, &limit), 0);
    }
    pthread_mutex_unlock(&told_lock);
}

/* ---- the world ---- */

static void world_make(struct step *step)
{
    struct array_spec array_spec = {.owner = control, .loops = loops, .n_loops = N_LOOPS};
    struct exports_spec spec = {.owner = control,
                                .loops = loops,
                                .n_loops = N_LOOPS,
                                .chap_algorithms = TARGET_CHAP_ALL,
                                .hold = true,
                                .events = {.sessions_changed = sessions_changed,
                                           .reservations_changed = reservations_changed}};
    struct sockaddr_storage addr;
    struct sockaddr_storage bound;
    CHECK(array_new(&array_spec, &array) == 0);
    CHECK(array_pool_add(array, "p", dir, 0, &step->error) == 0);
    spec.array = array;
    CHECK(exports_new(&spec, &exports) == 0);
    CHECK(sockaddr_parse("127.0.0.1:0", 0, &addr) == 0);
    CHECK(exports_listen(exports, &addr, &bound, &step->error) == 0);
    sockaddr_format(&bound, portal);
    exports_accept(exports);
    step_end(step);
}

static void layers_make(struct step *step)
{
    array_layers_create(array, step->id, step->layers, 1, step_done, step);
}

static void volume_open(struct step *step)
{
    array_volume_open(array, step->volume, step_done, step);
}

/* A volume of a family of its own: so volumes live on different loops in turn. */
static void volume_make(const char *id)
{
    struct array_layer layer = {.size_bytes = MIB};
    struct array_volume volume = {.size_bytes = MIB, .layers = &layer, .n_layers = 1};
    snprintf(layer.id, sizeof(layer.id), "l%s", id);
    strcpy(layer.pool_id, "p");
    strcpy(volume.id, id);
    strcpy(volume.family, layer.id);
    struct step make = {.id = volume.family, .layers = &layer};
    struct step open = {.volume = &volume};
    on_control(&make, layers_make);
    assert_false(make.failed);
    on_control(&open, volume_open);
    assert_false(open.failed);
}

static int setup(void **state)
{
    (void)state;
    static const char *const names[] = {"data0", "data1"};
    snprintf(dir, sizeof(dir), "/tmp/exports.XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(loop_new("control", &control), 0);
    for (unsigned i = 0; i < N_LOOPS; i++) {
        assert_int_equal(loop_new(names[i], &loops[i]), 0);
        assert_int_equal(loop_thread_start(loops[i]), 0);
    }
    assert_int_equal(loop_thread_start(control), 0);
    struct step step = {0};
    on_control(&step, world_make);
    volume_make("v1");
    volume_make("v2");
    volume_make("v3");
    memset(told_sessions, 0, sizeof(told_sessions));
    told_saves = 0;
    return 0;
}

static void world_close_exports(struct step *step)
{
    exports_close(exports, SEC_NS / 2, step_done_plain, step);
}

static void world_close_array(struct step *step)
{
    exports_free(exports);
    array_close(array, step_done_plain, step);
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    struct step first = {0};
    struct step second = {0};
    on_control(&first, world_close_exports);
    on_control(&second, world_close_array);
    loop_thread_join(control);
    for (unsigned i = 0; i < N_LOOPS; i++) {
        loop_thread_join(loops[i]);
    }
    array_free(array);
    loop_free(control);
    for (unsigned i = 0; i < N_LOOPS; i++) {
        loop_free(loops[i]);
    }
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

/* ---- exports ---- */

#define IQN1 "iqn.2026-11.io.smirror:one"
#define IQN2 "iqn.2026-11.io.smirror:two"

static const struct target_initiator everybody = {0};

static struct export_lun lun_of(unsigned number, const char *volume_id)
{
    struct export_lun lun = {.number = number, .naa = 0x3000000000000000u + (unsigned)volume_id[1]};
    strcpy(lun.volume_id, volume_id);
    strcpy(lun.serial, volume_id);
    return lun;
}

static struct export_spec spec_of(const char *id, const struct export_lun *luns, size_t n)
{
    struct export_spec spec = {
        .access = {.initiators = &everybody, .n_initiators = 1}, .luns = luns, .n_luns = n};
    strcpy(spec.id, id);
    strcpy(spec.iqn, strcmp(id, "e2") == 0 ? IQN2 : IQN1);
    return spec;
}

static void put_it(struct step *step)
{
    export_put(exports, step->spec, step_done, step);
}

static void put_ok(const struct export_spec *spec)
{
    struct step step = {.spec = spec};
    on_control(&step, put_it);
    if (step.failed) {
        fail_msg("%s", step.error.detail);
    }
}

static void remove_it(struct step *step)
{
    export_remove(exports, step->id, SEC_NS / 2, step_done, step);
}

static void remove_volume_it(struct step *step)
{
    exports_volume_remove(exports, step->id, SEC_NS / 2, step_done, step);
}

static void close_volume_it(struct step *step)
{
    array_volume_close(array, step->id, step_done, step);
}

static void ok(void (*fn)(struct step *step), const char *id)
{
    struct step step = {.id = id};
    on_control(&step, fn);
    assert_false(step.failed);
}

/* ---- initiators ---- */

static struct iscsi_context *login_as(const char *initiator, const char *target, const char *user,
                                      const char *secret)
{
    struct iscsi_context *iscsi = iscsi_create_context(initiator);
    assert_non_null(iscsi);
    iscsi_set_targetname(iscsi, target);
    iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_timeout(iscsi, 20);
    iscsi_set_noautoreconnect(iscsi, 1);
    if (user) {
        iscsi_set_initiator_username_pwd(iscsi, user, secret);
    }
    if (iscsi_connect_sync(iscsi, portal) != 0 || iscsi_login_sync(iscsi) != 0) {
        iscsi_destroy_context(iscsi);
        return NULL;
    }
    return iscsi;
}

static struct iscsi_context *login(const char *target)
{
    return login_as("iqn.2026-11.test:host", target, NULL, NULL);
}

static void logout(struct iscsi_context *iscsi)
{
    iscsi_logout_sync(iscsi);
    iscsi_destroy_context(iscsi);
}

/* The status of the command; unit attentions are passed over unless attention wants one of them. */
static int status_of(struct scsi_task *task)
{
    assert_non_null(task);
    int status = task->status;
    scsi_free_scsi_task(task);
    return status;
}

static void ready(struct iscsi_context *iscsi, int lun)
{
    for (int i = 0; i < 4; i++) {
        if (status_of(iscsi_testunitready_sync(iscsi, lun)) == SCSI_STATUS_GOOD) {
            return;
        }
    }
    fail_msg("LUN %d does not become ready", lun);
}

static int write_block(struct iscsi_context *iscsi, int lun, uint64_t lba, uint8_t value)
{
    unsigned char data[BLOCK];
    memset(data, value, sizeof(data));
    return status_of(iscsi_write16_sync(iscsi, lun, lba, data, BLOCK, BLOCK, 0, 0, 0, 0, 0));
}

static int read_block(struct iscsi_context *iscsi, int lun, uint64_t lba)
{
    struct scsi_task *task = iscsi_read16_sync(iscsi, lun, lba, BLOCK, BLOCK, 0, 0, 0, 0, 0);
    assert_non_null(task);
    int value = task->status == SCSI_STATUS_GOOD && task->datain.size == BLOCK
                    ? task->datain.data[BLOCK - 1]
                    : -1;
    scsi_free_scsi_task(task);
    return value;
}

static struct iscsi_context *put_and_login(const struct export_spec *spec)
{
    put_ok(spec);
    struct iscsi_context *iscsi = login(IQN1);
    assert_non_null(iscsi);
    return iscsi;
}

/* ---- tests ---- */

static void a_volume_is_there_when_the_put_is_done(void **state)
{
    (void)state;
    struct export_lun lun = lun_of(0, "v1");
    struct export_spec spec = spec_of("e1", &lun, 1);
    struct iscsi_context *iscsi = put_and_login(&spec);
    ready(iscsi, 0);
    assert_int_equal(write_block(iscsi, 0, 7, 0x5a), SCSI_STATUS_GOOD);
    assert_int_equal(read_block(iscsi, 0, 7), 0x5a);
    await_sessions(0, 1);
    logout(iscsi);
    await_sessions(0, 0);
    ok(remove_it, "e1");
    assert_null(login(IQN1));
}

static void volumes_of_other_loops_are_units_too(void **state)
{
    (void)state;
    struct loop *homes[2];
    array_volume_device(array, "v1", &homes[0]);
    array_volume_device(array, "v2", &homes[1]);
    assert_ptr_not_equal(homes[0], homes[1]);
    struct export_lun luns[] = {lun_of(0, "v1"), lun_of(3, "v2"), lun_of(200, "v3")};
    struct export_spec spec = spec_of("e1", luns, 3);
    struct export_spec other = spec_of("e2", &luns[1], 1);
    put_ok(&spec);
    put_ok(&other);
    struct iscsi_context *iscsi = login(IQN1);
    struct iscsi_context *direct = login(IQN2);
    assert_non_null(iscsi);
    assert_non_null(direct);
    static const int numbers[] = {0, 3, 200};
    for (int i = 0; i < 3; i++) {
        ready(iscsi, numbers[i]);
        assert_int_equal(write_block(iscsi, numbers[i], 9, (uint8_t)(0x10 + i)), SCSI_STATUS_GOOD);
    }
    ready(direct, 3);
    assert_int_equal(read_block(direct, 3, 9), 0x11);
    assert_int_equal(write_block(direct, 3, 9, 0x77), SCSI_STATUS_GOOD);
    assert_int_equal(read_block(iscsi, 3, 9), 0x77);
    logout(direct);
    logout(iscsi);
}

static void a_put_changes_what_is_there(void **state)
{
    (void)state;
    struct export_lun luns[] = {lun_of(0, "v1"), lun_of(1, "v2")};
    struct export_spec spec = spec_of("e1", luns, 2);
    struct iscsi_context *iscsi = put_and_login(&spec);
    ready(iscsi, 0);
    ready(iscsi, 1);
    assert_int_equal(write_block(iscsi, 1, 0, 2), SCSI_STATUS_GOOD);
    /* LUN 0 write protected, LUN 1 another volume, LUN 2 new. */
    struct export_lun after[] = {lun_of(0, "v1"), lun_of(1, "v3"), lun_of(2, "v2")};
    after[0].read_only = true;
    spec = spec_of("e1", after, 3);
    put_ok(&spec);
    for (int i = 0; i < 3; i++) {
        ready(iscsi, i);
    }
    assert_int_equal(write_block(iscsi, 0, 0, 1), SCSI_STATUS_CHECK_CONDITION);
    assert_int_equal(read_block(iscsi, 1, 0), 0);
    assert_int_equal(read_block(iscsi, 2, 0), 2);
    /* Writable again, LUN 1 and 2 gone; the session stays. */
    spec = spec_of("e1", luns, 1);
    put_ok(&spec);
    ready(iscsi, 0);
    assert_int_equal(write_block(iscsi, 0, 0, 1), SCSI_STATUS_GOOD);
    assert_int_equal(status_of(iscsi_testunitready_sync(iscsi, 1)), SCSI_STATUS_CHECK_CONDITION);
    logout(iscsi);
}

static void initiators_and_secrets_decide_who_comes_in(void **state)
{
    (void)state;
    static const struct target_initiator rows[] = {
        {.name = "iqn.2026-11.test:host"},
        {.name = "iqn.2026-11.test:chap", .chap_user = "user", .chap_secret = "a-secret-of-16-b"},
    };
    struct export_lun lun = lun_of(0, "v1");
    struct export_spec spec = spec_of("e1", &lun, 1);
    spec.access = (struct target_access){.initiators = rows, .n_initiators = 2};
    struct iscsi_context *iscsi = put_and_login(&spec);
    assert_null(login_as("iqn.2026-11.test:other", IQN1, NULL, NULL));
    assert_null(login_as("iqn.2026-11.test:chap", IQN1, NULL, NULL));
    assert_null(login_as("iqn.2026-11.test:chap", IQN1, "user", "a-secret-of-16-x"));
    struct iscsi_context *chap =
        login_as("iqn.2026-11.test:chap", IQN1, "user", "a-secret-of-16-b");
    assert_non_null(chap);
    await_sessions(0, 2);
    /* Who is no longer let in is logged out. */
    spec.access = (struct target_access){.initiators = &rows[1], .n_initiators = 1};
    put_ok(&spec);
    assert_null(login(IQN1));
    iscsi_destroy_context(iscsi);
    await_sessions(0, 1);
    logout(chap);
}

static void a_volume_that_goes_leaves_all_its_targets(void **state)
{
    (void)state;
    struct export_lun luns[] = {lun_of(0, "v1"), lun_of(1, "v2")};
    struct export_spec both = spec_of("e1", luns, 2);
    struct export_spec alone = spec_of("e2", &luns[1], 1);
    put_ok(&both);
    put_ok(&alone);
    struct iscsi_context *iscsi = login(IQN1);
    struct iscsi_context *only = login(IQN2);
    assert_non_null(iscsi);
    assert_non_null(only);
    await_sessions(0, 1);
    await_sessions(1, 1);
    ready(iscsi, 0);
    ready(iscsi, 1);
    ok(remove_volume_it, "v2");
    ok(close_volume_it, "v2");
    assert_int_equal(status_of(iscsi_testunitready_sync(iscsi, 1)), SCSI_STATUS_CHECK_CONDITION);
    ready(iscsi, 0);
    assert_int_equal(write_block(iscsi, 0, 0, 1), SCSI_STATUS_GOOD);
    iscsi_destroy_context(only);
    assert_null(login(IQN2));
    logout(iscsi);
    /* A volume that nobody exports goes at once. */
    ok(remove_volume_it, "v3");
    ok(close_volume_it, "v3");
}

static void grow_it(struct step *step)
{
    array_volume_grow(array, step->id, step->size_bytes, step_done, step);
}

static void notify_it(struct step *step)
{
    exports_volume_notify(exports, step->id, step->event, step_done, step);
}

static uint64_t last_lba(struct iscsi_context *iscsi, int lun)
{
    struct scsi_task *task = iscsi_readcapacity16_sync(iscsi, lun);
    assert_non_null(task);
    struct scsi_readcapacity16 *rc = scsi_datain_unmarshall(task);
    uint64_t lba = task->status == SCSI_STATUS_GOOD && rc ? rc->returned_lba : 0;
    scsi_free_scsi_task(task);
    return lba;
}

static void growth_is_seen_through_handles_and_without(void **state)
{
    (void)state;
    struct export_lun luns[] = {lun_of(0, "v1"), lun_of(1, "v2")};
    struct export_spec spec = spec_of("e1", luns, 2);
    struct iscsi_context *iscsi = put_and_login(&spec);
    for (int i = 0; i < 2; i++) {
        struct step grow = {.id = luns[i].volume_id, .size_bytes = 2 * MIB};
        struct step notify = {.id = luns[i].volume_id, .event = TARGET_LUN_RESIZED};
        ready(iscsi, i);
        assert_int_equal(last_lba(iscsi, i), MIB / BLOCK - 1);
        on_control(&grow, grow_it);
        assert_false(grow.failed);
        on_control(&notify, notify_it);
    }
    for (int i = 0; i < 2; i++) {
        struct scsi_task *task = iscsi_testunitready_sync(iscsi, i);
        assert_int_equal(task->status, SCSI_STATUS_CHECK_CONDITION);
        assert_int_equal(task->sense.key, SCSI_SENSE_UNIT_ATTENTION);
        assert_int_equal(task->sense.ascq, 0x2a09);
        scsi_free_scsi_task(task);
        assert_int_equal(last_lba(iscsi, i), 2 * MIB / BLOCK - 1);
        assert_int_equal(write_block(iscsi, i, 2 * MIB / BLOCK - 1, 3), SCSI_STATUS_GOOD);
    }
    logout(iscsi);
}

static void what_does_not_work_is_said_and_harms_nothing(void **state)
{
    (void)state;
    struct export_lun luns[] = {lun_of(0, "v1"), lun_of(1, "none")};
    struct export_spec spec = spec_of("e1", luns, 2);
    struct step put = {.spec = &spec};
    on_control(&put, put_it);
    assert_true(put.failed);
    assert_non_null(strstr(put.error.detail, "none"));
    struct iscsi_context *iscsi = login(IQN1);
    assert_non_null(iscsi);
    ready(iscsi, 0);
    /* A name that another one has. */
    struct export_spec same = spec_of("e2", luns, 1);
    strcpy(same.iqn, IQN1);
    struct step taken = {.spec = &same};
    on_control(&taken, put_it);
    assert_true(taken.failed);
    assert_int_equal(taken.error.code, ERR_IN_USE);
    ready(iscsi, 0);
    logout(iscsi);
    ok(remove_it, "e2");
    ok(remove_it, "never");
}

struct heard {
    unsigned n;
    char name[TARGET_MAX_NAME + 1];
};

static void hear_session(void *arg, const struct target_session *session)
{
    struct heard *heard = arg;
    heard->n++;
    strcpy(heard->name, session->initiator);
}

struct asked {
    struct step step;
    unsigned sessions;
    char export_id[ARRAY_ID_LEN + 1];
    char initiator[TARGET_MAX_NAME + 1];
};

static void ask_sessions(struct step *step)
{
    struct asked *asked = (struct asked *)step;
    asked->sessions =
        exports_volume_sessions(exports, step->id, asked->export_id, asked->initiator);
    step_end(step);
}

static void who_is_logged_in_can_be_asked(void **state)
{
    (void)state;
    struct export_lun lun = lun_of(0, "v1");
    struct export_spec spec = spec_of("e1", &lun, 1);
    struct iscsi_context *iscsi = put_and_login(&spec);
    await_sessions(0, 1);
    struct heard heard = {0};
    exports_each_session(exports, "e1", hear_session, &heard);
    assert_int_equal(heard.n, 1);
    assert_string_equal(heard.name, "iqn.2026-11.test:host");
    struct asked asked = {.step = {.id = "v1"}};
    on_control(&asked.step, ask_sessions);
    assert_int_equal(asked.sessions, 1);
    assert_string_equal(asked.export_id, "e1");
    assert_string_equal(asked.initiator, "iqn.2026-11.test:host");
    ready(iscsi, 0);
    assert_int_equal(write_block(iscsi, 0, 0, 1), SCSI_STATUS_GOOD);
    struct exports_stats stats;
    exports_stats(exports, &stats);
    assert_int_equal(stats.targets, 1);
    assert_int_equal(stats.sum.sessions, 1);
    assert_int_equal(stats.sum.write_bytes, BLOCK);
    assert_int_equal(stats.server.accepted, 1);
    logout(iscsi);
    ok(remove_it, "e1");
    exports_stats(exports, &stats);
    assert_int_equal(stats.targets + stats.sum.sessions, 0);
    assert_int_equal(stats.sum.write_bytes, BLOCK);
}

static int registered(struct iscsi_context *iscsi, uint64_t key)
{
    struct scsi_task *task =
        iscsi_persistent_reserve_in_sync(iscsi, 0, SCSI_PERSISTENT_RESERVE_READ_KEYS, 1024);
    assert_non_null(task);
    struct scsi_persistent_reserve_in_read_keys *keys = scsi_datain_unmarshall(task);
    int found = 0;
    for (int i = 0; keys && i < keys->num_keys; i++) {
        found |= keys->keys[i] == key;
    }
    scsi_free_scsi_task(task);
    return found;
}

static void reservations_that_were_kept_come_back(void **state)
{
    (void)state;
    struct export_lun lun = lun_of(0, "v1");
    struct export_spec spec = spec_of("e1", &lun, 1);
    struct iscsi_context *iscsi = put_and_login(&spec);
    ready(iscsi, 0);
    struct scsi_persistent_reserve_out_basic basic = {.service_action_reservation_key = 0x1234,
                                                      .aptpl = 1};
    assert_int_equal(status_of(iscsi_persistent_reserve_out_sync(
                         iscsi, 0, SCSI_PERSISTENT_RESERVE_REGISTER, 0, 0, &basic)),
                     SCSI_STATUS_GOOD);
    assert_int_equal(told_saves, 1);
    assert_string_equal(told_volume, "v1");
    assert_true(told_len > 0);
    logout(iscsi);
    ok(remove_it, "e1");
    iscsi = put_and_login(&spec);
    ready(iscsi, 0);
    assert_false(registered(iscsi, 0x1234));
    logout(iscsi);
    ok(remove_it, "e1");
    lun.reservations = told_reservations;
    lun.reservations_len = told_len;
    iscsi = put_and_login(&spec);
    ready(iscsi, 0);
    assert_true(registered(iscsi, 0x1234));
    logout(iscsi);
}

static void many_puts_and_removals_at_once_end_in_their_order(void **state)
{
    (void)state;
    enum { N = 20 };
    struct export_lun luns[] = {lun_of(0, "v1"), lun_of(1, "v2"), lun_of(2, "v3")};
    struct step steps[N];
    struct export_spec specs[N];
    for (unsigned i = 0; i < N; i++) {
        specs[i] = spec_of("e1", &luns[i % 3], 1 + i % (3 - i % 3));
        steps[i] = (struct step){.id = "e1", .spec = &specs[i]};
        steps[i].fn = i % 5 == 4 ? remove_it : i % 7 == 6 ? notify_it : put_it;
        steps[i].id = i % 7 == 6 ? "v2" : "e1";
        pthread_mutex_init(&steps[i].lock, NULL);
        pthread_cond_init(&steps[i].cond, NULL);
        steps[i].task = (struct loop_task){.fn = step_run, .arg = &steps[i]};
        loop_post(control, &steps[i].task);
    }
    struct export_spec last = spec_of("e1", luns, 3);
    put_ok(&last);
    for (unsigned i = 0; i < N; i++) {
        pthread_mutex_lock(&steps[i].lock);
        assert_true(steps[i].ended);
        assert_false(steps[i].failed);
        pthread_mutex_unlock(&steps[i].lock);
    }
    struct iscsi_context *iscsi = login(IQN1);
    assert_non_null(iscsi);
    for (int i = 0; i < 3; i++) {
        ready(iscsi, i);
    }
    logout(iscsi);
}

static void the_end_comes_with_sessions_logged_in(void **state)
{
    (void)state;
    struct export_lun luns[] = {lun_of(0, "v1"), lun_of(1, "v2")};
    struct export_spec spec = spec_of("e1", luns, 2);
    struct iscsi_context *iscsi = put_and_login(&spec);
    ready(iscsi, 1);
    await_sessions(0, 1);
    /* teardown() closes while it is there. */
    *state = iscsi;
}

static int teardown_with_session(void **state)
{
    struct iscsi_context *iscsi = *state;
    int r = teardown(NULL);
    iscsi_destroy_context(iscsi);
    return r;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_volume_is_there_when_the_put_is_done),
        TEST(volumes_of_other_loops_are_units_too),
        TEST(a_put_changes_what_is_there),
        TEST(initiators_and_secrets_decide_who_comes_in),
        TEST(a_volume_that_goes_leaves_all_its_targets),
        TEST(growth_is_seen_through_handles_and_without),
        TEST(what_does_not_work_is_said_and_harms_nothing),
        TEST(who_is_logged_in_can_be_asked),
        TEST(reservations_that_were_kept_come_back),
        TEST(many_puts_and_removals_at_once_end_in_their_order),
        cmocka_unit_test_setup_teardown(the_end_comes_with_sessions_logged_in, setup,
                                        teardown_with_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
