// SPDX-License-Identifier: Apache-2.0
/*
 * A target that is killed, frozen or silent, and one that comes back with another LUN.
 */
#include "tests/unit/iscsi_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

/* The loop does not run meanwhile: answers wait in the socket, and what is sent then finds nobody. */
static void answers_before_the_end_count(void **state)
{
    enum { ANSWERED = 8, COUNT = 64 };
    struct iscsi_spec spec = spec_of(FAKE, 1);
    static struct io ios[COUNT];
    static uint8_t data[COUNT][512];
    struct watch watch;
    unsigned done = 0;

    (void)state;
    watch_open(&watch, &spec);
    for (unsigned i = 0; i < COUNT; i++) {
        if (i == COUNT / 2) {
            /* Whoever has come to the ninth has answered eight. */
            for (unsigned ms = 0; fake_target_count(fake, 0x88) <= ANSWERED; ms++) {
                assert_true(ms < WAIT_S * 1000);
                usleep(1000);
            }
            fake_target_hang_up(fake);
        }
        io_prepare(&ios[i], BLOCK_READ, i * 512, 512, data[i]);
        ios[i].counter = &done;
        blockdev_submit(watch.dev, &ios[i].req);
    }
    wait_for(saw_down, &watch);
    for (unsigned i = 0; i < COUNT; i++) {
        wait_for(is_true, &ios[i].done);
        assert_true(ios[i].req.status == 0 || (ios[i].req.status == -ENOTCONN && i >= ANSWERED));
    }
    assert_int_equal(done, COUNT);
    wait_for(saw_up, &watch);
    watch_close(&watch);
}

static void a_killed_target_fails_every_request_once_and_comes_back(void **state)
{
    enum { COUNT = 200, LEN = 128 * 1024 };
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch watch;
    struct io *ios = calloc(COUNT, sizeof(*ios));
    uint8_t *data = malloc((size_t)COUNT * LEN);
    unsigned lost = 0;
    unsigned done = 0;
    struct iscsi_dev_stats stats;

    (void)state;
    watch_open(&watch, &spec);
    fill(data, (size_t)COUNT * LEN, 2);
    for (unsigned i = 0; i < COUNT; i++) {
        io_prepare(&ios[i], i % 2 ? BLOCK_WRITE : BLOCK_READ, (uint64_t)i * LEN, LEN,
                   data + (size_t)i * LEN);
        ios[i].counter = &done;
        blockdev_submit(watch.dev, &ios[i].req);
    }
    wait_for(is_true, &ios[0].done);
    tgtd_kill(tgtd);
    wait_for(saw_down, &watch);
    for (unsigned i = 0; i < COUNT; i++) {
        wait_for(is_true, &ios[i].done);
        assert_int_equal(ios[i].calls, 1);
        assert_true(ios[i].req.status == 0 || ios[i].req.status == -ENOTCONN);
        lost += ios[i].req.status != 0;
    }
    assert_int_equal(done, COUNT);
    assert_true(lost > 0);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, LEN, data, 0), -ENOTCONN);
    wait_for(saw_retry, &watch);
    assert_non_null(strstr(watch.detail, "refused"));
    assert_int_equal(watch.ups, 0);
    tgtd_restart(tgtd, false);
    wait_for(saw_up, &watch);
    assert_int_equal(watch.downs, 1);
    fill(data, LEN, 3);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, LEN, data, 0), 0);
    memset(data, 0, LEN);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, LEN, data, 0), 0);
    iscsi_dev_stats(watch.dev, &stats);
    assert_int_equal(stats.logins, 2);
    assert_int_equal(stats.link_losses, 1);
    watch_close(&watch);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(ios[i].calls, 1);
    }
    free(ios);
    free(data);
}

static void nothing_is_written_to(const char *file)
{
    static uint8_t data[64 * MIB];

    file_read(file, 0, data, sizeof(data));
    assert_true(mem_is_zero(data, sizeof(data)));
}

static void changed_after_restart(const struct tgtd_lun *lun, const char *word)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch watch;
    struct io ios[20];
    uint8_t *data = malloc(20 * 65536);
    unsigned done = 0;

    watch_open(&watch, &spec);
    fill(data, 20 * 65536, 4);
    tgtd_kill(tgtd);
    wait_for(saw_down, &watch);
    tgtd_restart(tgtd, true);
    tgtd_target(tgtd, 1, TARGET);
    unlink(tgtd_path(tgtd, "other"));
    tgtd_lun(tgtd, 1, lun);
    /* Whatever is submitted now and later must not arrive. */
    while (watch.changes == 0) {
        for (unsigned i = 0; i < ARRAY_LEN(ios); i++) {
            io_prepare(&ios[i], BLOCK_WRITE, i * 65536, 65536, data + i * 65536);
            ios[i].counter = &done;
            blockdev_submit(watch.dev, &ios[i].req);
        }
        for (unsigned i = 0; i < ARRAY_LEN(ios); i++) {
            wait_for(is_true, &ios[i].done);
            assert_true(ios[i].req.status == -ENOTCONN || ios[i].req.status == -ESTALE);
        }
        idle_ms(2);
    }
    assert_int_equal(watch.changes, 1);
    assert_int_equal(watch.ups, 0);
    assert_non_null(strstr(watch.detail, word));
    assert_non_null(strstr(iscsi_dev_last_error(watch.dev), word));
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, 65536, data, 0), -ESTALE);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, 65536, data, 0), -ESTALE);
    nothing_is_written_to("other");
    watch_close(&watch);
    unlink(tgtd_path(tgtd, "thin"));
    unlink(tgtd_path(tgtd, "big"));
    unlink(tgtd_path(tgtd, "aio"));
    unlink(tgtd_path(tgtd, "ro"));
    free(data);
}

static void a_lun_with_another_name_is_not_written(void **state)
{
    (void)state;
    changed_after_restart(&(struct tgtd_lun){.lun = 1,
                                             .file = "other",
                                             .size_bytes = 64 * MIB,
                                             .thin = true,
                                             .scsi_id = "SMIRROR 0001234"},
                          "another one");
}

static void a_lun_with_other_blocks_is_not_written(void **state)
{
    (void)state;
    changed_after_restart(
        &(struct tgtd_lun){.lun = 1, .file = "other", .size_bytes = 64 * MIB, .block_bytes = 4096},
        "blocks of 4096");
}

/* Opened, and then tgtd is another one, with LUN 1 only. */
static void open_and_restart(struct watch *watch, const struct iscsi_spec *spec)
{
    watch_open(watch, spec);
    tgtd_kill(tgtd);
    wait_for(saw_down, watch);
    tgtd_restart(tgtd, true);
    tgtd_target(tgtd, 1, TARGET);
    tgtd_lun(tgtd, 1,
             &(struct tgtd_lun){.lun = 1, .file = "thin", .size_bytes = 64 * MIB, .thin = true});
}

/* LUN 2 with another size than it had. */
static void big_lun(uint64_t size_bytes)
{
    tgtd_lun(
        tgtd, 1,
        &(struct tgtd_lun){.lun = 2, .file = "big", .size_bytes = size_bytes, .block_bytes = 4096});
}

static void a_lun_that_has_shrunk_is_not_written(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 2);
    struct watch watch;

    (void)state;
    open_and_restart(&watch, &spec);
    big_lun(31 * MIB);
    wait_for(saw_change, &watch);
    assert_non_null(strstr(watch.detail, "shrunk"));
    watch_close(&watch);
}

static void a_lun_that_grew_is_the_same(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 2);
    struct watch watch;

    (void)state;
    open_and_restart(&watch, &spec);
    big_lun(40 * MIB);
    wait_for(saw_up, &watch);
    assert_int_equal(watch.dev->info.size_bytes, 32 * MIB);
    watch_close(&watch);
}

static void a_lun_that_is_gone_is_awaited(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 2);
    struct watch watch;
    struct tgtd_lun lun = {.lun = 2, .file = "big", .size_bytes = 32 * MIB, .block_bytes = 4096};

    (void)state;
    open_and_restart(&watch, &spec);
    watch.retries = 0;
    wait_for(saw_retry, &watch);
    watch.retries = 0;
    wait_for(saw_retry, &watch);
    assert_non_null(strstr(watch.detail, "no LUN 2"));
    tgtd_lun(tgtd, 1, &lun);
    wait_for(saw_up, &watch);
    assert_int_equal(watch.changes, 0);
    watch_close(&watch);
}

static void a_lun_removed_under_the_session_is_a_loss(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    uint8_t block[512];

    (void)state;
    watch_open(&watch, &spec);
    fake_target_fault(
        fake, &(struct fake_fault){.opcode = 0x88, .count = 1, .status = 2, .key = 5, .asc = 0x25});
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, 512, block, 0), -ENOTCONN);
    assert_int_equal(watch.downs, 1);
    wait_for(saw_up, &watch);
    watch_close(&watch);
}

static void a_frozen_target_is_noticed_within_the_deadline(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch watch;
    struct io io;
    uint8_t block[4096];
    uint64_t began;

    (void)state;
    spec.stall_timeout_ms = 500;
    watch_open(&watch, &spec);
    /* With a request outstanding … */
    tgtd_freeze(tgtd);
    began = loop_now_ns(loop);
    io_prepare(&io, BLOCK_READ, 0, sizeof(block), block);
    blockdev_submit(watch.dev, &io.req);
    wait_for(is_true, &io.done);
    assert_int_equal(io.req.status, -ENOTCONN);
    assert_int_equal(watch.downs, 1);
    assert_true(loop_now_ns(loop) - began < 2 * SEC_NS);
    assert_true(loop_now_ns(loop) - began >= 490 * MS_NS);
    assert_non_null(strstr(watch.detail, "not answered"));
    tgtd_thaw(tgtd);
    wait_for(saw_up, &watch);
    /* … and without. */
    watch.downs = watch.ups = 0;
    tgtd_freeze(tgtd);
    began = loop_now_ns(loop);
    wait_for(saw_down, &watch);
    assert_true(loop_now_ns(loop) - began < 3 * SEC_NS);
    tgtd_thaw(tgtd);
    wait_for(saw_up, &watch);
    /* An idle session of a live target stays. */
    watch.downs = 0;
    idle_ms(1500);
    assert_int_equal(watch.downs, 0);
    watch_close(&watch);
}

static void a_silent_command_does_not_hang_for_ever(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    uint8_t block[512];

    (void)state;
    spec.stall_timeout_ms = 300;
    watch_open(&watch, &spec);
    /* The target stays silent to this one, and NOPs are answered: the link is alive, the command is not. */
    fake_target_fault(fake, &(struct fake_fault){.opcode = 0x88, .count = 1, .silent = true});
    {
        struct io io;

        io_prepare(&io, BLOCK_READ, 0, 512, block);
        blockdev_submit(watch.dev, &io.req);
        idle_ms(1000);
        assert_false(io.done);
        assert_int_equal(watch.downs, 0);
        watch_close(&watch);
        assert_true(io.done);
        assert_int_equal(io.req.status, -ECANCELED);
        assert_int_equal(io.calls, 1);
    }
    /* Who cannot wait so long says so. */
    spec.command_timeout_ms = 700;
    watch_open(&watch, &spec);
    fake_target_fault(fake, &(struct fake_fault){.opcode = 0x88, .count = 1, .silent = true});
    {
        struct io io;

        io_prepare(&io, BLOCK_READ, 0, 512, block);
        blockdev_submit(watch.dev, &io.req);
        wait_for(is_true, &io.done);
        assert_int_equal(io.req.status, -ENOTCONN);
        assert_non_null(strstr(watch.detail, "has not answered a command (88) for 700 ms"));
        watch_close(&watch);
    }
}

static void a_logout_request_leads_to_a_new_login(void **state)
{
    static const uint8_t events[] = {1, 2, 4};
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    uint8_t block[512];

    (void)state;
    watch_open(&watch, &spec);
    for (unsigned i = 0; i < ARRAY_LEN(events); i++) {
        int status;

        watch.ups = watch.downs = 0;
        fake_target_async(fake, events[i]);
        status = io_run(watch.dev, BLOCK_READ, 0, 512, block, 0);
        assert_true(status == 0 || status == -ENOTCONN);
        if (events[i] == 2) { /* "will drop the connection": this one says so and does not */
            idle_ms(20);
            assert_int_equal(watch.downs, 0);
            continue;
        }
        wait_for(saw_down, &watch);
        wait_for(saw_up, &watch);
        assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, 512, block, 0), 0);
    }
    watch_close(&watch);
}

static void close_inside_event(void *arg, struct blockdev *dev, enum block_event event,
                               unsigned attempts, const char *detail)
{
    (void)attempts;
    (void)detail;
    assert_int_equal(event, BLOCK_EVENT_DOWN);
    blockdev_close(dev, closed, arg);
}

static void closing_while_the_link_is_down_is_safe(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch watch;
    struct io io;
    uint8_t block[512];

    (void)state;
    /* In the back-off, and in the middle of a dial that nobody answers. */
    for (unsigned round = 0; round < 3; round++) {
        watch_open(&watch, &spec);
        if (round == 2) {
            io_prepare(&io, BLOCK_READ, 0, 512, block);
            watch.dev->on_event = close_inside_event;
            tgtd_freeze(tgtd);
            blockdev_submit(watch.dev, &io.req);
            idle_ms(5);
            tgtd_kill(tgtd);
            wait_for(is_true, &watch.closed);
            assert_true(io.done);
            tgtd_restart(tgtd, false);
            continue;
        }
        tgtd_kill(tgtd);
        wait_for(saw_down, &watch);
        if (round == 1) {
            tgtd_restart(tgtd, false);
            tgtd_freeze(tgtd);
            idle_ms(150);
        }
        watch_close(&watch);
        if (round == 1) {
            tgtd_thaw(tgtd);
        }
        tgtd_restart(tgtd, false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_FAKE(answers_before_the_end_count),
        cmocka_unit_test(a_killed_target_fails_every_request_once_and_comes_back),
        TEST_FRESH(a_lun_with_another_name_is_not_written),
        TEST_FRESH(a_lun_with_other_blocks_is_not_written),
        TEST_FRESH(a_lun_that_has_shrunk_is_not_written),
        TEST_FRESH(a_lun_that_grew_is_the_same),
        TEST_FRESH(a_lun_that_is_gone_is_awaited),
        TEST_FAKE(a_lun_removed_under_the_session_is_a_loss),
        cmocka_unit_test(a_frozen_target_is_noticed_within_the_deadline),
        TEST_FAKE(a_silent_command_does_not_hang_for_ever),
        TEST_FAKE(a_logout_request_leads_to_a_new_login),
        cmocka_unit_test(closing_while_the_link_is_down_is_safe),
    };

    return cmocka_run_group_tests(tests, iscsi_setup, iscsi_teardown);
}
