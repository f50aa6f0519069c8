// SPDX-License-Identifier: Apache-2.0
/*
 * Each phase of a mirror, what leads to it and what goes wrong there, on disks that lose what was not flushed.
 */
#include "tests/unit/mirror_fixture.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "block/front_dev.h"

static void initial_copy(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {512, 4096, 5 * MIB, 8 * MIB + 4096 + 512};
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        struct mirror_bench bench;
        mirror_bench_init(&bench, i, sizes[i]);
        mirror_bench_start(&bench);
        mirror_bench_until_equal(&bench);
        mirror_bench_check_equal(&bench);
        assert_int_equal(bench.progress.copied_bytes, sizes[i]);
        assert_int_equal(bench.progress.marked_bytes, 0);
        assert_int_equal(bench.n_phases, 3);
        assert_int_equal(bench.phases[0], MIRROR_OPENING);
        assert_int_equal(bench.phases[1], MIRROR_COPYING);
        assert_int_equal(bench.phases[2], MIRROR_EQUAL);
        mirror_bench_fini(&bench);
    }
}

/* A map that knows nothing, written out in order: the next start copies nothing. */
static void next_start_copies_nothing(void **state)
{
    (void)state;
    struct mirror_bench bench;
    mirror_bench_init(&bench, 1, 6 * MIB);
    mirror_bench_start(&bench);
    mirror_bench_until_equal(&bench);
    assert_int_equal(mirror_bench_write(&bench, 3 * MIB - 512, 1024, 0), 0);
    mirror_bench_stop(&bench, false);
    bench.spec.all_differs = false;
    mirror_bench_start(&bench);
    mirror_bench_until_equal(&bench);
    assert_int_equal(bench.progress.copied_bytes, 0);
    finish_equal(&bench);
}

static void writes_go_to_both(void **state)
{
    (void)state;
    struct mirror_bench bench;
    start_equal(&bench, 2, 8 * MIB);
    assert_int_equal(mirror_bench_write(&bench, 0, 512, 0), 0);
    assert_memory_equal(bench.source->data, bench.target->data, bench.size);
    assert_int_equal(mirror_bench_write(&bench, 1 * MIB - 4096, 2 * MIB, BLOCK_FUA), 0);
    assert_memory_equal(bench.source->data, bench.target->data, bench.size);
    assert_int_equal(mirror_bench_do(&bench, BLOCK_ZERO, 4 * MIB, NULL, 1 * MIB, 0), 0);
    assert_int_equal(mirror_bench_do(&bench, BLOCK_DISCARD, 6 * MIB, NULL, 4096, 0), 0);
    static uint8_t zeros[4096], data[4096];
    assert_int_equal(mirror_bench_do(&bench, BLOCK_READ, 6 * MIB, data, sizeof(data), 0), 0);
    assert_memory_equal(data, zeros, sizeof(data));
    assert_int_equal(mirror_bench_flush(&bench), 0);
    mirror_bench_check_equal(&bench);
    assert_int_equal(bench.progress.copied_bytes, 0);
    finish_equal(&bench);
}

/* The second write into a region costs no commit, and neither side waits for the other. */
static void a_write_costs_one_mark(void **state)
{
    (void)state;
    struct mirror_bench bench;
    start_equal(&bench, 3, 8 * MIB);
    assert_int_equal(mirror_bench_write(&bench, 0, 4096, 0), 0);
    uint64_t before = layer_disk_operations(bench.map_disk);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(mirror_bench_write(&bench, i * 4096, 4096, 0), 0);
    }
    assert_int_equal(layer_disk_operations(bench.map_disk), before);
    bench.source_opener.spec.delay_ns = 3 * MS_NS;
    bench.target_opener.spec.delay_ns = 5 * MS_NS;
    uint64_t began = loop_sim_now_ns(bench.sim);
    assert_int_equal(mirror_bench_write(&bench, 0, 4096, 0), 0);
    assert_int_equal(loop_sim_now_ns(bench.sim) - began, 5 * MS_NS);
    finish_equal(&bench);
}

static void a_lost_leg_is_caught_up(void **state)
{
    (void)state;
    struct mirror_bench bench;
    start_equal(&bench, 4, 16 * MIB);
    test_opener_link_down(&bench.target_opener, 2 * SEC_NS);
    assert_int_equal(mirror_bench_write(&bench, 512, 512, 0), 0);
    assert_int_equal(mirror_bench_write(&bench, 5 * MIB, 8192, 0), 0);
    assert_int_equal(mirror_bench_flush(&bench), 0);
    assert_true(mirror_bench_until(&bench, MIRROR_AWAY, SEC_NS));
    assert_int_equal(mirror_bench_write(&bench, 9 * MIB - 4096, 8192, BLOCK_FUA), 0);
    mirror_bench_until_equal(&bench);
    assert_int_equal(bench.progress.copied_bytes, 4096 + 8192 + 8192);
    finish_equal(&bench);
}

/* The leg had said yes, and has lost it. */
static void what_the_leg_had_not_flushed_is_copied(void **state)
{
    (void)state;
    struct mirror_bench bench;
    start_equal(&bench, 5, 4 * MIB);
    assert_int_equal(mirror_bench_write(&bench, 4096, 4096, 0), 0);
    assert_int_equal(mirror_bench_flush(&bench), 0);
    assert_int_equal(mirror_bench_write(&bench, 1 * MIB + 512, 4096, 0), 0);
    test_opener_link_down(&bench.target_opener, 100 * MS_NS);
    assert_memory_not_equal(bench.source->data, bench.target->data, bench.size);
    assert_true(mirror_bench_until(&bench, MIRROR_AWAY, SEC_NS));
    mirror_bench_until_equal(&bench);
    assert_int_equal(bench.progress.copied_bytes, 8192);
    finish_equal(&bench);
}

/* And with no event: the next request finds out. */
static void a_silent_loss_is_found(void **state)
{
    (void)state;
    static const enum block_op ops[] = {BLOCK_WRITE, BLOCK_FLUSH};
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
        struct mirror_bench bench;
        start_equal(&bench, 6, 4 * MIB);
        assert_int_equal(mirror_bench_write(&bench, 4096, 4096, 0), 0);
        test_opener_fault(&bench.target_opener, (struct test_fault){.ops = TEST_OP(ops[i]),
                                                                    .first = 1,
                                                                    .count = 1,
                                                                    .action = TEST_SILENT});
        if (ops[i] == BLOCK_WRITE) {
            assert_int_equal(mirror_bench_write(&bench, 2 * MIB, 4096, 0), 0);
        } else {
            assert_int_equal(mirror_bench_flush(&bench), 0);
        }
        assert_true(mirror_bench_until(&bench, MIRROR_AWAY, SEC_NS));
        finish_equal(&bench);
    }
}

static void back_by_hand(void **state)
{
    (void)state;
    struct mirror_bench bench;
    mirror_bench_init(&bench, 7, 4 * MIB);
    mirror_bench_make_equal(&bench);
    bench.spec.recover_by_hand = true;
    mirror_bench_start(&bench);
    mirror_bench_until_equal(&bench);
    test_opener_link_down(&bench.target_opener, SEC_NS);
    assert_int_equal(mirror_bench_write(&bench, 0, 4096, 0), 0);
    assert_true(mirror_bench_until(&bench, MIRROR_HELD, 10 * SEC_NS));
    loop_sim_advance(bench.sim, 60 * SEC_NS);
    assert_int_equal(bench.progress.phase, MIRROR_HELD);
    assert_int_equal(bench.progress.copied_bytes, 0);
    assert_int_equal(bench.progress.marked_bytes, 4096);
    /* Away again, and back. */
    test_opener_link_down(&bench.target_opener, SEC_NS);
    assert_true(mirror_bench_until(&bench, MIRROR_AWAY, 10 * SEC_NS));
    assert_true(mirror_bench_until(&bench, MIRROR_HELD, 10 * SEC_NS));
    mirror_connect(bench.mirror, MIRROR_TO_LEG);
    finish_equal(&bench);
}

static void what_the_leg_refuses_breaks_it(void **state)
{
    (void)state;
    static const struct {
        int status;
        enum error_code code;
        enum block_op op;
    } cases[] = {
        {-EIO, ERR_REMOTE_ERROR, BLOCK_WRITE},     {-ENOSPC, ERR_NO_SPACE, BLOCK_WRITE},
        {-ESTALE, ERR_LUN_CHANGED, BLOCK_ZERO},    {-EIO, ERR_REMOTE_ERROR, BLOCK_FLUSH},
        {-EROFS, ERR_REMOTE_ERROR, BLOCK_DISCARD},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct mirror_bench bench;
        start_equal(&bench, 8 + i, 4 * MIB);
        assert_int_equal(mirror_bench_write(&bench, 512, 512, 0), 0);
        test_opener_fault(&bench.target_opener, (struct test_fault){.ops = TEST_OP(cases[i].op),
                                                                    .first = 1,
                                                                    .count = 1,
                                                                    .action = TEST_FAIL,
                                                                    .status = cases[i].status});
        if (cases[i].op == BLOCK_WRITE) {
            assert_int_equal(mirror_bench_write(&bench, 1 * MIB, 4096, 0), 0);
        } else {
            assert_int_equal(mirror_bench_do(&bench, cases[i].op, 0, NULL,
                                             cases[i].op == BLOCK_FLUSH ? 0 : 4096, 0),
                             0);
        }
        assert_true(mirror_bench_until(&bench, MIRROR_BROKEN, SEC_NS));
        assert_true(bench.has_error);
        assert_int_equal(bench.error.code, cases[i].code);
        loop_sim_advance(bench.sim, 60 * SEC_NS);
        assert_int_equal(bench.progress.phase, MIRROR_BROKEN);
        assert_int_equal(bench.target_opener.live, 0);
        assert_int_equal(mirror_bench_write(&bench, 3 * MIB, 4096, 0), 0);
        mirror_connect(bench.mirror, MIRROR_TO_LEG);
        finish_equal(&bench);
    }
}

static void a_leg_that_does_not_fit(void **state)
{
    (void)state;
    struct mirror_bench bench;
    mirror_bench_init(&bench, 20, 4 * MIB);
    bench.target_opener.spec.size = 3 * MIB;
    mirror_bench_start(&bench);
    assert_true(mirror_bench_until(&bench, MIRROR_BROKEN, SEC_NS));
    assert_int_equal(bench.error.code, ERR_TARGET_TOO_SMALL);
    bench.target_opener.spec.size = 0;
    bench.target_opener.spec.block_bytes = 4096;
    mirror_connect(bench.mirror, MIRROR_TO_LEG);
    loop_sim_advance(bench.sim, SEC_NS);
    assert_int_equal(bench.progress.phase, MIRROR_BROKEN);
    assert_int_equal(bench.error.code, ERR_INCOMPATIBLE);
    bench.target_opener.spec.block_bytes = 512;
    bench.target_opener.fail_opens = 5;
    mirror_connect(bench.mirror, MIRROR_TO_LEG);
    assert_true(mirror_bench_until(&bench, MIRROR_AWAY, SEC_NS));
    mirror_bench_until_equal(&bench);
    mirror_bench_check_equal(&bench);
    mirror_bench_fini(&bench);
}

static void host_io_stops_if_wanted(void **state)
{
    (void)state;
    struct mirror_bench bench;
    mirror_bench_init(&bench, 21, 4 * MIB);
    mirror_bench_make_equal(&bench);
    bench.spec.stop_host_io = true;
    mirror_bench_start(&bench);
    mirror_bench_until_equal(&bench);
    test_opener_link_down(&bench.target_opener, SEC_NS);
    assert_true(mirror_bench_until(&bench, MIRROR_AWAY, SEC_NS));
    assert_int_equal(mirror_bench_write(&bench, 0, 4096, 0), -EIO);
    mirror_bench_until_equal(&bench);
    assert_int_equal(mirror_bench_write(&bench, 0, 4096, 0), 0);
    test_opener_fault(&bench.target_opener, (struct test_fault){.ops = TEST_OP(BLOCK_WRITE),
                                                                .first = 1,
                                                                .count = 1,
                                                                .action = TEST_LINK_DOWN,
                                                                .down_ns = SEC_NS});
    assert_int_equal(mirror_bench_write(&bench, 0, 4096, 0), -EIO);
    mirror_set_recovery(bench.mirror, false, false);
    loop_sim_run_until_idle(bench.sim);
    assert_int_equal(mirror_bench_write(&bench, 4096, 4096, 0), 0);
    finish_equal(&bench);
}

static void disconnected_by_order(void **state)
{
    (void)state;
    struct mirror_bench bench;
    start_equal(&bench, 22, 8 * MIB);
    assert_int_equal(mirror_bench_write(&bench, 0, 8192, 0), 0);
    mirror_disconnect(bench.mirror, mirror_bench_done, &bench);
    assert_true(mirror_bench_until_done(&bench, 1, SEC_NS));
    assert_false(bench.done_failed);
    assert_true(mirror_bench_until(&bench, MIRROR_TRACKING, 0));
    assert_int_equal(bench.target_opener.live, 0);
    mirror_bench_check_equal(&bench);
    assert_int_equal(bench.progress.marked_bytes, 0);
    assert_int_equal(mirror_bench_write(&bench, 1 * MIB, 4096, 0), 0);
    assert_int_equal(mirror_bench_write(&bench, 1 * MIB, 4096, 0), 0);
    assert_int_equal(mirror_bench_write(&bench, 2 * MIB + 512, 512, 0), 0);
    /* A second time is nothing new; to connect meanwhile waits for it. */
    mirror_disconnect(bench.mirror, mirror_bench_done, &bench);
    mirror_connect(bench.mirror, MIRROR_TO_LEG);
    assert_true(mirror_bench_until_done(&bench, 2, SEC_NS));
    mirror_bench_until_equal(&bench);
    assert_int_equal(bench.progress.copied_bytes, 8192);
    finish_equal(&bench);
}

static void disconnected_while_writing(void **state)
{
    (void)state;
    struct mirror_bench bench;
    mirror_bench_init(&bench, 23, 8 * MIB);
    bench.target_opener.spec.delay_ns = 20 * MS_NS;
    mirror_bench_start(&bench);
    assert_true(mirror_bench_until(&bench, MIRROR_COPYING, SEC_NS));
    loop_sim_advance(bench.sim, 30 * MS_NS);
    mirror_disconnect(bench.mirror, mirror_bench_done, &bench);
    assert_int_equal(mirror_bench_write(&bench, 0, 2 * MIB, 0), 0);
    assert_true(mirror_bench_until_done(&bench, 1, SEC_NS));
    assert_int_equal(bench.target_opener.live, 0);
    mirror_connect(bench.mirror, MIRROR_TO_LEG);
    finish_equal(&bench);
}

static void split_when_equal(void **state)
{
    (void)state;
    struct mirror_bench bench;
    mirror_bench_init(&bench, 24, 8 * MIB);
    mirror_bench_start(&bench);
    mirror_split(bench.mirror, 60000, mirror_bench_done, &bench);
    assert_int_equal(mirror_bench_write(&bench, 0, 512, 0), 0);
    assert_true(mirror_bench_until_done(&bench, 1, 60 * SEC_NS));
    assert_false(bench.done_failed);
    mirror_bench_check_equal(&bench);
    assert_int_equal(bench.target_opener.live, 0);
    assert_int_equal(mirror_bench_write(&bench, 4096, 512, 0), 0);
    assert_true(mirror_bench_until(&bench, MIRROR_TRACKING, 0));
    mirror_connect(bench.mirror, MIRROR_TO_LEG);
    mirror_bench_until_equal(&bench);
    assert_int_equal(bench.progress.copied_bytes, 8 * MIB + 4096);
    finish_equal(&bench);
}

static void a_split_in_vain(void **state)
{
    (void)state;
    struct mirror_bench bench;
    start_equal(&bench, 25, 8 * MIB);
    test_opener_link_down(&bench.target_opener, 5 * SEC_NS);
    assert_true(mirror_bench_until(&bench, MIRROR_AWAY, SEC_NS));
    mirror_split(bench.mirror, 1000, mirror_bench_done, &bench);
    mirror_split(bench.mirror, 1000, mirror_bench_done, &bench);
    assert_true(mirror_bench_until_done(&bench, 1, 0));
    assert_int_equal(bench.done_error.code, ERR_ILLEGAL_STATE);
    assert_true(mirror_bench_until_done(&bench, 2, 2 * SEC_NS));
    assert_int_equal(bench.done_error.code, ERR_TIMEOUT);
    mirror_bench_until_equal(&bench);
    /* Writes that do not come back hold it up. */
    bench.source_opener.spec.delay_ns = 3 * SEC_NS;
    mirror_split(bench.mirror, 1000, mirror_bench_done, &bench);
    assert_int_equal(mirror_bench_write(&bench, 0, 512, 0), 0);
    assert_true(mirror_bench_until_done(&bench, 3, 10 * SEC_NS));
    assert_int_equal(bench.done_error.code, ERR_TIMEOUT);
    assert_true(mirror_bench_until(&bench, MIRROR_EQUAL, 0));
    bench.source_opener.spec.delay_ns = 0;
    finish_equal(&bench);
}

static void marked_from_outside(void **state)
{
    (void)state;
    struct mirror_bench bench;
    start_equal(&bench, 26, 8 * MIB);
    memset(bench.target->data + 3 * MIB, 1, 4096);
    memset(bench.target->stable + 3 * MIB, 1, 4096);
    mirror_mark(bench.mirror, 3 * MIB, 512, mirror_bench_done, &bench);
    assert_true(mirror_bench_until_done(&bench, 1, SEC_NS));
    assert_false(bench.done_failed);
    assert_true(mirror_bench_until(&bench, MIRROR_COPYING, SEC_NS));
    mirror_bench_until_equal(&bench);
    assert_int_equal(bench.progress.copied_bytes, 4096);
    mirror_mark(bench.mirror, 9 * MIB, 512, mirror_bench_done, &bench);
    assert_true(mirror_bench_until_done(&bench, 2, SEC_NS));
    assert_true(bench.done_failed);
    mirror_disconnect(bench.mirror, NULL, NULL);
    mirror_mark(bench.mirror, 0, 0, mirror_bench_done, &bench);
    assert_true(mirror_bench_until_done(&bench, 3, SEC_NS));
    assert_false(bench.done_failed);
    mirror_bench_crash(&bench, true);
    mirror_bench_start(&bench);
    mirror_bench_until_equal(&bench);
    assert_int_equal(bench.progress.copied_bytes, 8 * MIB);
    finish_equal(&bench);
}

/* Rule 1. */
static void no_mark_no_write(void **state)
{
    (void)state;
    struct mirror_bench bench;
    start_equal(&bench, 27, 8 * MIB);
    static const enum layer_io_op ops[] = {LAYER_IO_WRITE, LAYER_IO_SYNC};
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
        layer_disk_fail(bench.map_disk, ops[i], 1, i ? -EIO : -ENOSPC);
        uint64_t before = bench.source->requests[BLOCK_WRITE] + bench.target->requests[BLOCK_WRITE];
        assert_int_not_equal(mirror_bench_write(&bench, i * 2 * MIB, 4096, 0), 0);
        assert_int_equal(bench.source->requests[BLOCK_WRITE] + bench.target->requests[BLOCK_WRITE],
                         before);
        assert_int_equal(mirror_bench_write(&bench, i * 2 * MIB, 4096, 0), 0);
    }
    finish_equal(&bench);
}

static void a_damaged_map_is_refused(void **state)
{
    (void)state;
    struct mirror_bench bench;
    start_equal(&bench, 28, 4 * MIB);
    mirror_bench_stop(&bench, false);
    uint8_t rubbish[8192];
    memset(rubbish, 7, sizeof(rubbish));
    layer_disk_poke(bench.map_disk, MIRROR_MAP, 0, rubbish, sizeof(rubbish));
    mirror_bench_start(&bench);
    assert_int_equal(mirror_bench_write(&bench, 0, 4096, 0), -EIO);
    assert_int_equal(mirror_bench_do(&bench, BLOCK_READ, 0, rubbish, 4096, 0), -EIO);
    assert_true(mirror_bench_until(&bench, MIRROR_BROKEN, SEC_NS));
    mirror_connect(bench.mirror, MIRROR_TO_LEG);
    mirror_bench_stop(&bench, false);
    assert_true(bench.ended_with_error);
    mirror_bench_fini(&bench);
}

/* Both sides lose at random what was not flushed. */
static void after_a_crash(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct mirror_bench bench;
        start_equal(&bench, 100 + seed, 8 * MIB);
        for (unsigned i = 0; i < 20; i++) {
            uint64_t at = random_below(&bench.random, 8 * MIB / 512 - 16) * 512;
            assert_int_equal(mirror_bench_write(&bench, at, 8192, i % 7 ? 0 : BLOCK_FUA), 0);
            if (i % 8 == 5) {
                assert_int_equal(mirror_bench_flush(&bench), 0);
            }
        }
        mirror_bench_crash(&bench, true);
        mirror_bench_start(&bench);
        finish_equal(&bench);
    }
}

/* Many writes at once over each other, on sides that take their time: one order on both. */
static void overlapping_writes(void **state)
{
    (void)state;
    static struct racer racers[200];
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct mirror_bench bench;
        mirror_bench_init(&bench, seed, 2 * MIB);
        bench.spec.all_differs = seed % 2;
        if (!bench.spec.all_differs) {
            mirror_bench_make_equal(&bench);
        }
        bench.source_opener.spec.delay_spread_ns = 5 * MS_NS;
        bench.target_opener.spec.delay_spread_ns = 5 * MS_NS;
        mirror_bench_start(&bench);
        assert_true(mirror_bench_until(&bench, MIRROR_COPYING, SEC_NS));
        unsigned left = ARRAY_LEN(racers);
        for (unsigned i = 0; i < ARRAY_LEN(racers); i++) {
            struct racer *racer = &racers[i];
            uint64_t len = (1 + random_below(&bench.random, 32)) * 512;
            memset(racer->data, (int)i + 1, sizeof(racer->data));
            racer_start(&bench, racer, random_below(&bench.random, 64) * 512, len, 0, &left);
        }
        assert_true(loop_sim_run_until(bench.sim, none_left, &left, 60 * SEC_NS));
        finish_equal(&bench);
    }
}

static void limited_bandwidth(void **state)
{
    (void)state;
    struct mirror_bench bench;
    mirror_bench_init(&bench, 29, 10 * MIB);
    bench.spec.bandwidth_limit = 1 * MIB;
    mirror_bench_start(&bench);
    uint64_t began = loop_sim_now_ns(bench.sim);
    loop_sim_advance(bench.sim, 5 * SEC_NS);
    assert_in_range(bench.progress.copied_bytes, 4 * MIB, 6 * MIB);
    assert_in_range(bench.progress.bytes_per_second, MIB * 7 / 10, MIB * 13 / 10);
    mirror_set_limits(bench.mirror, 4, 0);
    mirror_bench_until_equal(&bench);
    assert_in_range(loop_sim_now_ns(bench.sim) - began, 5 * SEC_NS, 6 * SEC_NS);
    finish_equal(&bench);
}

/* A host that writes one block again and again neither waits for ever nor keeps the copying from its end. */
static void copying_under_a_busy_host(void **state)
{
    (void)state;
    struct mirror_bench bench;
    mirror_bench_init(&bench, 30, 4 * MIB);
    bench.source_opener.spec.delay_ns = 2 * MS_NS;
    bench.target_opener.spec.delay_ns = 2 * MS_NS;
    mirror_bench_start(&bench);
    unsigned writes = 0;
    while (bench.n_phases == 0 || bench.progress.phase != MIRROR_EQUAL) {
        uint64_t began = loop_sim_now_ns(bench.sim);
        assert_int_equal(mirror_bench_write(&bench, 512, 512, 0), 0);
        assert_true(writes == 0 || loop_sim_now_ns(bench.sim) - began <= 10 * MS_NS);
        assert_true(++writes < 1000);
    }
    finish_equal(&bench);
}

static void a_source_that_cannot_be_read(void **state)
{
    (void)state;
    struct mirror_bench bench;
    mirror_bench_init(&bench, 31, 4 * MIB);
    test_opener_fault(&bench.source_opener, (struct test_fault){.ops = TEST_OP(BLOCK_READ),
                                                                .first = 3,
                                                                .count = 20,
                                                                .action = TEST_FAIL,
                                                                .status = -EIO});
    mirror_bench_start(&bench);
    loop_sim_advance(bench.sim, SEC_NS);
    assert_int_equal(bench.progress.phase, MIRROR_COPYING);
    assert_non_null(strstr(bench.progress.last_error, "source"));
    finish_equal(&bench);
}

static void a_failed_write_below_is_no_difference(void **state)
{
    (void)state;
    struct mirror_bench bench;
    start_equal(&bench, 32, 4 * MIB);
    test_opener_fault(&bench.source_opener, (struct test_fault){.ops = TEST_OP(BLOCK_WRITE),
                                                                .first = 1,
                                                                .count = 1,
                                                                .action = TEST_FAIL,
                                                                .status = -ENOSPC});
    assert_int_equal(mirror_bench_write(&bench, 8192, 4096, 0), -ENOSPC);
    assert_memory_not_equal(bench.source->data, bench.target->data, bench.size);
    assert_true(mirror_bench_until(&bench, MIRROR_COPYING, SEC_NS));
    finish_equal(&bench);
}

static void ends_in_every_phase(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 200; n++) {
        struct mirror_bench bench;
        mirror_bench_init(&bench, n, 2 * MIB);
        bench.target_opener.fail_opens = n % 3;
        bench.target_opener.spec.delay_ns = MS_NS;
        mirror_bench_start(&bench);
        for (unsigned i = 0; i < n; i++) {
            loop_sim_step(bench.sim);
        }
        if (n % 2) {
            mirror_disconnect(bench.mirror, mirror_bench_done, &bench);
        }
        if (n % 5 == 0) {
            mirror_split(bench.mirror, 100000, mirror_bench_done, &bench);
        }
        mirror_bench_stop(&bench, n % 4 == 0);
        assert_int_equal(bench.n_done, n % 2 + (n % 5 == 0));
        mirror_bench_fini(&bench);
    }
}

static void another_leg(void **state)
{
    (void)state;
    struct mirror_bench bench;
    start_equal(&bench, 33, 2 * MIB);
    struct test_opener other;
    test_opener_init(&other, bench.loop, bench.target, &bench.target_opener.spec, &bench.random);
    mirror_disconnect(bench.mirror, NULL, NULL);
    mirror_set_leg(bench.mirror, &other.base);
    assert_true(mirror_bench_until(&bench, MIRROR_TRACKING, SEC_NS));
    assert_true(bench.target_opener.freed);
    assert_int_equal(mirror_bench_write(&bench, 0, 4096, 0), 0);
    mirror_connect(bench.mirror, MIRROR_TO_LEG);
    mirror_bench_until_equal(&bench);
    assert_int_equal(other.opens, 1);
    assert_int_equal(mirror_bench_flush(&bench), 0);
    mirror_bench_check_equal(&bench);
    mirror_bench_stop(&bench, true);
    assert_true(other.freed);
    mirror_bench_fini(&bench);
}

/* Granules, as far as the log has come; also through a crash of ours in the middle of it. */
static void an_outage_costs_what_was_changed(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++) {
        struct mirror_bench bench;
        static bool changed[16 * MIB / 4096];
        memset(changed, 0, sizeof(changed));
        start_equal(&bench, 120 + seed, 16 * MIB);
        test_opener_link_down(&bench.target_opener, 60 * SEC_NS);
        uint64_t n = 0;
        for (unsigned i = 0; i < 300; i++) {
            uint64_t at = random_below(&bench.random, 16 * MIB / 512 - 16) * 512;
            assert_int_equal(mirror_bench_write(&bench, at, 4096, 0), 0);
            for (uint64_t g = at / 4096; g <= (at + 4095) / 4096; g++) {
                n += !changed[g];
                changed[g] = true;
            }
        }
        if (seed % 3 > 0) {
            assert_int_equal(mirror_bench_flush(&bench), 0);
            loop_sim_advance(bench.sim, 20 * SEC_NS); /* logged, and no region in use */
        }
        if (seed % 3 == 2) { /* except this one */
            assert_int_equal(mirror_bench_write(&bench, 5 * MIB, 4096, BLOCK_FUA), 0);
            n += !changed[5 * MIB / 4096];
        }
        if (seed % 3 > 0) {
            mirror_bench_crash(&bench, false);
            mirror_bench_start(&bench);
        }
        mirror_bench_until_equal(&bench);
        assert_in_range(bench.progress.copied_bytes, n * 4096,
                        n * 4096 + (seed % 3 == 2 ? MIB : 0));
        finish_equal(&bench);
    }
}

static unsigned events[BLOCK_EVENT_CHANGED + 1];

static void front_event(void *arg, struct blockdev *dev, enum block_event event, unsigned attempts,
                        const char *detail)
{
    (void)dev;
    (void)attempts;
    (void)detail;
    assert_ptr_equal(arg, events);
    events[event]++;
}

/* A mirror is put below a front that is in use, and taken away again; what happens below is told to the front's owner. */
static void between_front_and_below(void **state)
{
    (void)state;
    struct mirror_bench bench;
    struct blockdev *front;
    mirror_bench_init(&bench, 34, 4 * MIB);
    mirror_bench_make_equal(&bench);
    memset(events, 0, sizeof(events));
    mirror_bench_open_below(&bench);
    assert_int_equal(front_dev_new(bench.below, &front), 0);
    front->on_event = front_event;
    front->event_arg = events;
    mirror_bench_start(&bench);
    bool swapped = false;
    assert_int_equal(front_dev_replace(front, bench.dev, flag_set, &swapped), 0);
    assert_true(loop_sim_run_until(bench.sim, flag_is_set, &swapped, SEC_NS));
    mirror_bench_until_equal(&bench);
    assert_int_equal(mirror_bench_write(&bench, 0, 4096, 0), 0);
    test_opener_link_down(&bench.source_opener, 10 * MS_NS);
    loop_sim_advance(bench.sim, SEC_NS);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 1);
    assert_int_equal(events[BLOCK_EVENT_UP], 1);
    /* The source had lost the write, the leg had not. */
    mirror_bench_check_equal(&bench);
    assert_int_equal(bench.progress.copied_bytes, 4096);

    swapped = false;
    assert_int_equal(front_dev_replace(front, bench.below, flag_set, &swapped), 0);
    assert_true(loop_sim_run_until(bench.sim, flag_is_set, &swapped, SEC_NS));
    bool closed = false;
    blockdev_close(bench.dev, flag_set, &closed);
    bench.dev = NULL;
    assert_true(loop_sim_run_until(bench.sim, flag_is_set, &closed, SEC_NS));
    test_opener_link_down(&bench.source_opener, 10 * MS_NS);
    loop_sim_advance(bench.sim, SEC_NS);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 2);
    closed = false;
    blockdev_close(front, flag_set, &closed);
    assert_true(loop_sim_run_until(bench.sim, flag_is_set, &closed, SEC_NS));
    mirror_bench_fini(&bench);
}

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(initial_copy),
        cmocka_unit_test(next_start_copies_nothing),
        cmocka_unit_test(writes_go_to_both),
        cmocka_unit_test(a_write_costs_one_mark),
        cmocka_unit_test(a_lost_leg_is_caught_up),
        cmocka_unit_test(what_the_leg_had_not_flushed_is_copied),
        cmocka_unit_test(a_silent_loss_is_found),
        cmocka_unit_test(back_by_hand),
        cmocka_unit_test(what_the_leg_refuses_breaks_it),
        cmocka_unit_test(a_leg_that_does_not_fit),
        cmocka_unit_test(host_io_stops_if_wanted),
        cmocka_unit_test(disconnected_by_order),
        cmocka_unit_test(disconnected_while_writing),
        cmocka_unit_test(split_when_equal),
        cmocka_unit_test(a_split_in_vain),
        cmocka_unit_test(marked_from_outside),
        cmocka_unit_test(no_mark_no_write),
        cmocka_unit_test(a_damaged_map_is_refused),
        cmocka_unit_test(after_a_crash),
        cmocka_unit_test(overlapping_writes),
        cmocka_unit_test(limited_bandwidth),
        cmocka_unit_test(copying_under_a_busy_host),
        cmocka_unit_test(a_source_that_cannot_be_read),
        cmocka_unit_test(a_failed_write_below_is_no_difference),
        cmocka_unit_test(ends_in_every_phase),
        cmocka_unit_test(another_leg),
        cmocka_unit_test(between_front_and_below),
        cmocka_unit_test(an_outage_costs_what_was_changed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
