// SPDX-License-Identifier: Apache-2.0
/*
 * Copying that asks the maps of both sides and does not read zeros.
 */
#include "tests/unit/mirror_fixture.h"

#include <errno.h>

#include "base/check.h"
#include "base/log.h"

static void zeros_are_neither_read_nor_sent_twice(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        struct mirror_bench bench;
        mirror_bench_init(&bench, 130 + i, 16 * MIB + i % 2 * 512);
        make_holes(&bench);
        bool source_maps = i < 6;
        bool target_maps = i < 4;
        bench.source_opener.spec.can_map = source_maps;
        bench.target_opener.spec.can_map = target_maps;
        bench.source_opener.spec.map_extents = i % 3; /* no limit, 1, 2 */
        mirror_bench_start(&bench);
        mirror_bench_until_equal(&bench);
        mirror_bench_check_equal(&bench);
        assert_int_equal(bench.progress.copied_bytes, bench.size - 6 * MIB);
        assert_int_equal(bench.progress.zeroed_bytes, 6 * MIB);
        assert_int_equal(bench.source->bytes[BLOCK_READ],
                         source_maps ? bench.size - 6 * MIB : bench.size);
        assert_int_equal(bench.target->bytes[BLOCK_ZERO], target_maps ? 4 * MIB : 6 * MIB);
        assert_true(!source_maps || bench.target->requests[BLOCK_ZERO] <= 4);
        assert_false(bench.target->mapped[7 * MIB / TEST_PAGE]);
        mirror_bench_fini(&bench);
    }
}

/* The answer is older than the write; it is not waited for, and not believed. */
static void a_write_while_maps_are_asked(void **state)
{
    (void)state;
    struct mirror_bench bench;
    mirror_bench_init(&bench, 140, 16 * MIB);
    make_holes(&bench);
    bench.target_opener.spec.map_early = bench.source_opener.spec.map_early = true;
    bench.target_opener.spec.map_delay_ns = 300 * MS_NS;
    mirror_bench_start(&bench);
    assert_true(mirror_bench_until(&bench, MIRROR_COPYING, SEC_NS));
    for (unsigned i = 0; i < 20; i++) {
        uint64_t began = loop_sim_now_ns(bench.sim);
        assert_int_equal(mirror_bench_write(&bench, 2 * MIB + i * 64 * KIB, 4096, 0), 0);
        assert_int_equal(mirror_bench_write(&bench, 6 * MIB + i * 64 * KIB, 512, 0), 0);
        assert_true(loop_sim_now_ns(bench.sim) - began < 50 * MS_NS);
        loop_sim_advance(bench.sim, 60 * MS_NS);
    }
    finish_equal(&bench);
}

/* Zeros that are on their way do not overtake it. */
static void a_write_while_zeros_are_sent(void **state)
{
    (void)state;
    struct mirror_bench bench;
    mirror_bench_init(&bench, 141, 16 * MIB);
    make_holes(&bench);
    make_hole(bench.source, 0, 16 * MIB);
    mirror_bench_start(&bench);
    assert_true(mirror_bench_until(&bench, MIRROR_OPENING, SEC_NS));
    bench.target_opener.spec.delay_ns = 100 * MS_NS;
    assert_true(mirror_bench_until(&bench, MIRROR_COPYING, SEC_NS));
    loop_sim_advance(bench.sim, 150 * MS_NS);       /* the maps are known */
    assert_int_equal(bench.target->outstanding, 2); /* the holes are cut out */
    bench.target_opener.spec.delay_ns = MS_NS;
    uint64_t began = loop_sim_now_ns(bench.sim);
    assert_int_equal(mirror_bench_write(&bench, 15 * MIB, 512, 0), 0); /* beyond the batch */
    assert_int_equal(loop_sim_now_ns(bench.sim) - began, 1 * MS_NS);
    assert_int_equal(mirror_bench_write(&bench, 64 * KIB, 512, 0), 0);
    assert_int_equal(loop_sim_now_ns(bench.sim) - began, 51 * MS_NS);
    finish_equal(&bench);
}

/* The zeros of the source had not been flushed, and it loses them after it has told of them. */
static void a_source_that_loses_its_zeros(void **state)
{
    (void)state;
    struct mirror_bench bench;
    mirror_bench_init(&bench, 142, 2 * MIB);
    make_hole(bench.target, 0, 2 * MIB);
    bench.spec.connect = false;
    bench.target_opener.spec.map_delay_ns = 300 * MS_NS;
    mirror_bench_start(&bench);
    assert_int_equal(mirror_bench_do(&bench, BLOCK_ZERO, 0, NULL, 2 * MIB, BLOCK_MAY_UNMAP), 0);
    mirror_connect(bench.mirror, MIRROR_TO_LEG);
    assert_true(mirror_bench_until(&bench, MIRROR_COPYING, SEC_NS));
    loop_sim_advance(bench.sim, 100 * MS_NS);
    test_opener_link_down(&bench.source_opener, 10 * MS_NS);
    assert_false(bench.source->data[0] == 0 && bench.source->data[1] == 0);
    finish_equal(&bench);
}

static void what_goes_wrong_with_maps_and_zeros(void **state)
{
    (void)state;
    static const struct {
        bool source;
        enum block_op op;
        enum test_fault_action action;
        int status;
        bool breaks;
    } cases[] = {
        {true, BLOCK_MAP, TEST_FAIL, -EIO, false},
        {false, BLOCK_MAP, TEST_FAIL, -EIO, false},
        {false, BLOCK_MAP, TEST_FAIL, -EOPNOTSUPP, false},
        {true, BLOCK_MAP, TEST_LINK_DOWN, 0, false},
        {false, BLOCK_MAP, TEST_LINK_DOWN, 0, false},
        {false, BLOCK_MAP, TEST_SILENT, 0, false},
        {false, BLOCK_ZERO, TEST_FAIL, -EOPNOTSUPP, false},
        {false, BLOCK_ZERO, TEST_FAIL, -EIO, true},
        {false, BLOCK_ZERO, TEST_FAIL, -ENOSPC, true},
        {false, BLOCK_ZERO, TEST_LINK_DOWN, 0, false},
        {false, BLOCK_ZERO, TEST_SILENT, 0, false},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct mirror_bench bench;
        mirror_bench_init(&bench, 150 + i, 16 * MIB);
        make_holes(&bench);
        bool unsupported = cases[i].status == -EOPNOTSUPP;
        test_opener_fault(cases[i].source ? &bench.source_opener : &bench.target_opener,
                          (struct test_fault){.ops = TEST_OP(cases[i].op),
                                              .first = 1,
                                              .count = unsupported ? UINT32_MAX : 1,
                                              .action = cases[i].action,
                                              .status = cases[i].status,
                                              .down_ns = 100 * MS_NS});
        mirror_bench_start(&bench);
        if (cases[i].breaks) {
            assert_true(mirror_bench_until(&bench, MIRROR_BROKEN, 10 * SEC_NS));
            mirror_connect(bench.mirror, MIRROR_TO_LEG);
        }
        finish_equal(&bench);
    }
}

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeros_are_neither_read_nor_sent_twice),
        cmocka_unit_test(a_write_while_maps_are_asked),
        cmocka_unit_test(a_write_while_zeros_are_sent),
        cmocka_unit_test(a_source_that_loses_its_zeros),
        cmocka_unit_test(what_goes_wrong_with_maps_and_zeros),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
