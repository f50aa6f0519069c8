// SPDX-License-Identifier: Apache-2.0
/*
 * Answers that are not GOOD: retried, told, or a reason to look at the LUN again.
 */
#include "tests/unit/iscsi_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* Its cache may be gone, and nobody but the device sees it. */
static void a_reset_in_the_middle_of_a_session_is_a_lost_link(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    struct io io;
    uint8_t data[512] = {0};

    (void)state;
    watch_open(&watch, &spec);
    fake_target_fault(
        fake, &(struct fake_fault){.opcode = 0x8a, .count = 1, .status = 2, .key = 6, .asc = 0x29});
    io_prepare(&io, BLOCK_WRITE, 0, sizeof(data), data);
    blockdev_submit(watch.dev, &io.req);
    wait_for(is_true, &io.done);
    assert_int_equal(io.req.status, -ENOTCONN);
    wait_for(saw_down, &watch);
    wait_for(saw_up, &watch);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, sizeof(data), data, 0), 0);
    watch_close(&watch);
}

static void passing_troubles_are_retried(void **state)
{
    static const struct fake_fault faults[] = {
        {.opcode = 0x100, .count = 3, .status = 2, .key = 6, .asc = 0x38, .ascq = 7},
        {.opcode = 0x100, .count = 2, .status = 2, .key = 6, .asc = 0x2a, .ascq = 9},
        {.opcode = 0x100, .count = 1, .status = 2, .key = 6, .asc = 0x3f, .ascq = 3},
        {.opcode = 0x100, .count = 1, .status = 2, .key = 6, .asc = 0x3f, .ascq = 0x0e},
        {.opcode = 0x100, .count = 3, .status = 8},
        {.opcode = 0x100, .count = 3, .status = 0x28},
        {.opcode = 0x100, .count = 3, .status = 0x40},
        {.opcode = 0x100, .count = 3, .status = 2, .key = 0x0b},
        {.opcode = 0x100, .count = 2, .status = 2, .key = 2, .asc = 4, .ascq = 1},
    };
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    uint8_t *data = malloc(200 * 1024);

    (void)state;
    watch_open(&watch, &spec);
    for (unsigned i = 0; i < ARRAY_LEN(faults); i++) {
        struct iscsi_dev_stats before, after;

        /* 200 KiB go in 25 PDUs: the answer comes while most of them still wait to be sent. */
        for (unsigned pass = 0; pass < 2; pass++) {
            iscsi_dev_stats(watch.dev, &before);
            fake_target_fault(fake, &faults[i]);
            fill(data, 200 * 1024, i * 2 + pass);
            assert_int_equal(
                io_run(watch.dev, pass ? BLOCK_READ : BLOCK_WRITE, 512, 200 * 1024, data, 0), 0);
            assert_memory_equal(data, fake_target_data(fake) + 512, 200 * 1024);
            iscsi_dev_stats(watch.dev, &after);
            assert_int_equal(after.retries - before.retries, faults[i].count);
        }
    }
    assert_int_equal(watch.downs, 0);
    assert_int_equal(fake_target_logins(fake), 1);
    watch_close(&watch);
    free(data);
}

/* What was in the memory before would pass for what is on the LUN. */
static void good_without_the_data_is_a_failure(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    uint8_t data[4096];

    (void)state;
    watch_open(&watch, &spec);
    fake_target_fault(fake, &(struct fake_fault){.opcode = 0x88, .count = 1, .status = 0});
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, sizeof(data), data, 0), -EIO);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, sizeof(data), data, 0), 0);
    assert_int_equal(watch.downs, 0);
    watch_close(&watch);
}

static void a_unit_attention_that_does_not_end_is_not_asked_for_all_the_time(void **state)
{
    static const struct fake_fault capacity_changed = {
        .opcode = 0x100, .count = 1000000, .status = 2, .key = 6, .asc = 0x2a, .ascq = 9};
    static const struct fake_fault none = {.count = 0};
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct iscsi_dev_stats stats;
    struct watch watch;
    uint8_t data[4096];
    struct io io;

    (void)state;
    watch_open(&watch, &spec);
    fake_target_fault(fake, &capacity_changed);
    io_prepare(&io, BLOCK_READ, 0, sizeof(data), data);
    blockdev_submit(watch.dev, &io.req);
    wait_for(is_true, &io.done);
    iscsi_dev_stats(watch.dev, &stats);
    assert_in_range(stats.retries, 4, 20);
    assert_int_equal(io.req.status, -ENOTCONN);
    fake_target_fault(fake, &none);
    wait_for(saw_up, &watch);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, sizeof(data), data, 0), 0);
    watch_close(&watch);
}

static void a_lun_that_lets_in_and_refuses_everything_is_dialled_less_and_less_often(void **state)
{
    static const struct fake_fault reset = {
        .opcode = 0x100, .count = 1000000, .status = 2, .key = 6, .asc = 0x29};
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    uint8_t data[4096];
    uint64_t away_ns = 0;

    (void)state;
    spec.backoff_max_ms = 10000;
    watch_open(&watch, &spec);
    fake_target_fault(fake, &reset);
    for (unsigned i = 0; i < 6; i++) {
        watch.ups = 0;
        assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, sizeof(data), data, 0), -ENOTCONN);
        wait_for(saw_up, &watch);
        away_ns = loop_now_ns(loop) - watch.down_ns;
    }
    /* The pause doubles from 20 ms, less a quarter. */
    assert_true(away_ns >= (20u << 5) * MS_NS * 3 / 4);
    watch_close(&watch);
}

static void lasting_troubles_have_their_status(void **state)
{
    static const struct {
        struct fake_fault fault;
        enum block_op op;
        int status;
        const char *word;
    } cases[] = {
        {{.status = 2, .key = 3, .asc = 0x11}, BLOCK_READ, -EIO, "MEDIUM ERROR"},
        {{.status = 2, .key = 4, .asc = 0x44}, BLOCK_WRITE, -EIO, "HARDWARE ERROR"},
        {{.status = 2, .key = 7, .asc = 0x27, .ascq = 7}, BLOCK_WRITE, -ENOSPC, "no space"},
        {{.status = 2, .key = 7, .asc = 0x27}, BLOCK_WRITE, -EROFS, "write protected"},
        {{.status = 0x18}, BLOCK_WRITE, -EBUSY, "RESERVATION CONFLICT"},
        {{.status = 0x18}, BLOCK_READ, -EBUSY, "RESERVATION CONFLICT"},
        {{.status = 2, .key = 5, .asc = 0x24}, BLOCK_READ, -EIO, "invalid field"},
    };
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    uint8_t *data = calloc(1, 200 * 1024);

    (void)state;
    watch_open(&watch, &spec);
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct fake_fault fault = cases[i].fault;

        fault.opcode = 0x100;
        fault.count = 1;
        fake_target_fault(fake, &fault);
        assert_int_equal(io_run(watch.dev, cases[i].op, 0, 200 * 1024, data, 0), cases[i].status);
        assert_non_null(strstr(iscsi_dev_last_error(watch.dev), cases[i].word));
        assert_int_equal(io_run(watch.dev, cases[i].op, 0, 200 * 1024, data, 0), 0);
    }
    assert_int_equal(watch.downs, 0);
    watch_close(&watch);
    free(data);
}

static void io_done_free(struct block_req *req)
{
    struct io *io = req->arg;

    free(io->slices[0].data);
    io->slices[0].data = NULL;
    io_done(req);
}

/* A target may answer a write while most of its data still wait to be sent. Whoever owns the data frees them then. */
static void early_answers_to_writes_leave_nothing_behind(void **state)
{
    enum { COUNT = 48, LEN = 256 * 1024 };
    static const uint8_t answers[] = {0x18, 0x08, 0x00};
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct io *ios = calloc(COUNT, sizeof(*ios));

    (void)state;
    for (unsigned round = 0; round < ARRAY_LEN(answers); round++) {
        struct watch watch;
        unsigned refused = 0;

        watch_open(&watch, &spec);
        /* What waits in the socket's buffer is about ten of these. */
        fake_target_fault(fake,
                          &(struct fake_fault){
                              .opcode = 0x8a, .count = 1, .ahead = 30, .status = answers[round]});
        for (unsigned i = 0; i < COUNT; i++) {
            uint8_t *data = malloc(LEN);

            fill(data, LEN, i % 4);
            io_prepare(&ios[i], BLOCK_WRITE, (i % 4) * LEN, LEN, data);
            ios[i].req.done = io_done_free;
            blockdev_submit(watch.dev, &ios[i].req);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            wait_for(is_true, &ios[i].done);
            assert_int_equal(ios[i].calls, 1);
            refused += ios[i].req.status == -EBUSY;
        }
        if (answers[round] != 0) {
            assert_true((refused > 1) == (answers[round] == 0x18));
            assert_int_equal(watch.downs, 0);
        } /* else: "good" for data that it has not got: the session need not survive that */
        watch_close(&watch);
    }
    free(ios);
}

static void after_a_reset_the_lun_is_looked_at_before_more_is_written(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    struct io ios[40];
    uint8_t data[4096];
    unsigned writes;

    (void)state;
    watch_open(&watch, &spec);
    memset(data, 0x77, sizeof(data));
    memset(fake_target_data(fake), 0, FAKE_BYTES);
    /* It becomes another LUN, and the first write meets the unit attention that says so. */
    fake_target_identity(fake, 2);
    fake_target_fault(
        fake, &(struct fake_fault){
                  .opcode = 0x8a, .count = 1, .status = 2, .key = 6, .asc = 0x3f, .ascq = 3});
    io_prepare(&ios[0], BLOCK_WRITE, 0, sizeof(data), data);
    blockdev_submit(watch.dev, &ios[0].req);
    wait_for(is_true, &ios[0].done);
    assert_int_equal(ios[0].req.status, -ESTALE);
    wait_for(saw_change, &watch);
    writes = fake_target_count(fake, 0x8a);
    for (unsigned i = 0; i < ARRAY_LEN(ios); i++) {
        io_prepare(&ios[i], BLOCK_WRITE, i * sizeof(data), sizeof(data), data);
        blockdev_submit(watch.dev, &ios[i].req);
    }
    for (unsigned i = 0; i < ARRAY_LEN(ios); i++) {
        wait_for(is_true, &ios[i].done);
        assert_int_equal(ios[i].req.status, -ESTALE);
    }
    assert_int_equal(fake_target_count(fake, 0x8a), writes);
    assert_true(mem_is_zero(fake_target_data(fake), FAKE_BYTES));
    watch_close(&watch);
}

static void a_capacity_that_shrank_is_found_out(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    uint8_t block[512];

    (void)state;
    watch_open(&watch, &spec);
    fake_target_blocks(fake, 1024); /* without a unit attention: a read beyond the new end */
    assert_int_equal(io_run(watch.dev, BLOCK_READ, FAKE_BYTES - 512, 512, block, 0), -ESTALE);
    wait_for(saw_change, &watch);
    assert_non_null(strstr(watch.detail, "shrunk"));
    watch_close(&watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_FAKE(a_reset_in_the_middle_of_a_session_is_a_lost_link),
        TEST_FAKE(passing_troubles_are_retried),
        TEST_FAKE(good_without_the_data_is_a_failure),
        TEST_FAKE(a_unit_attention_that_does_not_end_is_not_asked_for_all_the_time),
        TEST_FAKE(a_lun_that_lets_in_and_refuses_everything_is_dialled_less_and_less_often),
        TEST_FAKE(lasting_troubles_have_their_status),
        TEST_FAKE(early_answers_to_writes_leave_nothing_behind),
        TEST_FAKE(after_a_reset_the_lun_is_looked_at_before_more_is_written),
        TEST_FAKE(a_capacity_that_shrank_is_found_out),
    };

    return cmocka_run_group_tests(tests, iscsi_setup, iscsi_teardown);
}
