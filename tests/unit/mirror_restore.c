// SPDX-License-Identifier: Apache-2.0
/*
 * Restores: hosts see the leg's content at once, what they write is on both, and nothing is promised that only one side has.
 */
#include "tests/unit/mirror_fixture.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

/* Source and target went different ways; the target is to be restored. */
static void start_restore(struct mirror_bench *bench, uint64_t seed, uint64_t size,
                          uint8_t **ret_was)
{
    start_equal(bench, seed, size);
    mirror_disconnect(bench->mirror, mirror_bench_done, bench);
    assert_true(mirror_bench_until_done(bench, 1, SEC_NS));
    for (uint64_t at = 0; at + 8192 <= size; at += 300 * 1024) {
        assert_int_equal(mirror_bench_write(bench, at, 8192, 0), 0);
    }
    *ret_was = malloc(size);
    assert_non_null(*ret_was);
    memcpy(*ret_was, bench->target->data, size);
    bench->target_opener.spec.delay_ns = MS_NS;
    bench->spec.direction = MIRROR_FROM_LEG; /* as it is recorded */
    mirror_connect(bench->mirror, MIRROR_FROM_LEG);
    assert_true(mirror_bench_until(bench, MIRROR_OPENING, SEC_NS));
}

/* It copies, and does not come to its end by itself. */
static void start_slow_restore(struct mirror_bench *bench, uint64_t seed, uint64_t size,
                               uint8_t **ret_was)
{
    start_restore(bench, seed, size, ret_was);
    mirror_set_limits(bench->mirror, 1, 1 * KIB);
    assert_true(mirror_bench_until(bench, MIRROR_COPYING, SEC_NS));
}

static int read_and_compare(struct mirror_bench *bench, const uint8_t *model, uint64_t offset,
                            uint64_t len)
{
    uint8_t *data = malloc(len);
    assert_non_null(data);
    memset(data, 0x5a, len);
    int status = mirror_bench_do(bench, BLOCK_READ, offset, data, len, 0);
    if (status == 0) {
        assert_memory_equal(data, model + offset, len);
    }
    free(data);
    return status;
}

static int write_both_ways(struct mirror_bench *bench, uint8_t *model, uint64_t offset,
                           uint64_t len, unsigned flags)
{
    uint8_t *data = malloc(len);
    assert_non_null(data);
    random_fill(&bench->random, data, len);
    int status = mirror_bench_do(bench, BLOCK_WRITE, offset, data, len, flags);
    if (status == 0) {
        memcpy(model + offset, data, len);
    }
    free(data);
    return status;
}

static void finish_restore(struct mirror_bench *bench, uint8_t *model)
{
    mirror_bench_until_equal(bench);
    assert_int_equal(bench->progress.direction, MIRROR_TO_LEG);
    assert_int_equal(mirror_bench_flush(bench), 0);
    mirror_bench_check_equal(bench);
    assert_memory_equal(bench->source->data, model, bench->size);
    mirror_bench_fini(bench);
    free(model);
}

static void restored(void **state)
{
    (void)state;
    struct mirror_bench bench;
    uint8_t *model;
    start_restore(&bench, 40, 8 * MIB, &model);
    mirror_set_limits(bench.mirror, 3, 10 * KIB);
    /* At once, before anything is copied. */
    assert_int_equal(read_and_compare(&bench, model, 0, 8 * MIB), 0);
    assert_true(mirror_bench_until(&bench, MIRROR_COPYING, SEC_NS));
    assert_int_equal(bench.progress.direction, MIRROR_FROM_LEG);
    mirror_set_limits(bench.mirror, 3, 0);
    finish_restore(&bench, model);
}

static void restored_while_in_use(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct mirror_bench bench;
        uint8_t *model;
        start_restore(&bench, 50 + seed, 4 * MIB + seed % 2 * 512, &model);
        mirror_set_limits(bench.mirror, 1, 100 * KIB);
        for (unsigned i = 0; i < 100; i++) {
            uint64_t at =
                random_below(&bench.random, 20) * 300 * KIB + random_below(&bench.random, 24) * 512;
            uint64_t len = (1 + random_below(&bench.random, 20)) * 512;
            at = at + len <= bench.size ? at : bench.size - len;
            if (i % 2) {
                unsigned flags = i % 10 == 1 ? BLOCK_FUA : 0;
                assert_int_equal(write_both_ways(&bench, model, at, len, flags), 0);
            } else if (i % 20 == 0) {
                assert_int_equal(mirror_bench_flush(&bench), 0);
            } else if (i % 14 == 0) {
                assert_int_equal(mirror_bench_do(&bench, BLOCK_ZERO, at, NULL, len, 0), 0);
                memset(model + at, 0, len);
            }
            at = at > 8192 ? at - 8192 : 0;
            len = bench.size - at < 32768 ? bench.size - at : 32768;
            assert_int_equal(read_and_compare(&bench, model, at, len), 0);
        }
        mirror_set_limits(bench.mirror, 0, 0);
        finish_restore(&bench, model);
    }
}

static void a_restore_whose_leg_goes_away(void **state)
{
    (void)state;
    struct mirror_bench bench;
    uint8_t *model;
    start_slow_restore(&bench, 70, 4 * MIB, &model);
    assert_int_equal(write_both_ways(&bench, model, 2 * MIB, 4096, 0), 0);
    /* Back in time: nobody has seen anything. */
    test_opener_link_down(&bench.target_opener, 5 * SEC_NS);
    assert_int_equal(read_and_compare(&bench, model, 0, 4 * MIB), 0);
    test_opener_link_down(&bench.target_opener, 5 * SEC_NS);
    assert_int_equal(write_both_ways(&bench, model, 900 * KIB, 1024, 0), 0);
    test_opener_link_down(&bench.target_opener, 5 * SEC_NS);
    assert_int_equal(mirror_bench_flush(&bench), 0);
    /* Too late. */
    test_opener_link_down(&bench.target_opener, 60 * SEC_NS);
    assert_int_equal(read_and_compare(&bench, model, 0, 4 * MIB), -EIO);
    assert_int_equal(read_and_compare(&bench, model, 2 * MIB, 4096), 0); /* here as well */
    assert_int_equal(write_both_ways(&bench, model, 2 * MIB, 4096, 0), -EIO);
    assert_true(mirror_bench_until(&bench, MIRROR_COPYING, 60 * SEC_NS));
    mirror_set_limits(bench.mirror, 0, 0);
    finish_restore(&bench, model);
}

/* What a host wrote while the leg was lost and came back is not overwritten by what the leg has. */
static void a_restore_whose_leg_is_back_before_a_write_ends(void **state)
{
    (void)state;
    for (unsigned flags = 0; flags <= BLOCK_FUA; flags += BLOCK_FUA) {
        struct mirror_bench bench;
        uint8_t *model;
        static struct racer racer;
        start_slow_restore(&bench, 75, 8192, &model);
        /* The granules are just being read there; the limit lets that happen again after 8 s. */
        bench.source_opener.spec.delay_ns = 10 * SEC_NS;
        bench.target_opener.spec.delay_ns = 10 * SEC_NS;
        random_fill(&bench.random, racer.data, 8192);
        memcpy(model, racer.data, 8192);
        unsigned left = 1;
        racer_start(&bench, &racer, 0, 8192, flags, &left);
        loop_sim_advance(bench.sim, SEC_NS);
        bench.target_opener.spec.delay_ns = MS_NS;
        test_opener_link_down(&bench.target_opener, SEC_NS);
        loop_sim_advance(bench.sim, 3 * SEC_NS);
        bench.source_opener.spec.delay_ns = 0;
        assert_int_equal(bench.progress.phase, MIRROR_COPYING);
        assert_int_equal(left, 1);
        assert_true(loop_sim_run_until(bench.sim, none_left, &left, 60 * SEC_NS));
        assert_int_equal(read_and_compare(&bench, model, 0, 8192), 0);
        finish_restore(&bench, model);
    }
}

/* Under way there when it went away: nobody has seen anything, and what was promised holds. */
static void a_restore_whose_leg_takes_promises_with_it(void **state)
{
    (void)state;
    struct mirror_bench bench;
    uint8_t *model;
    start_slow_restore(&bench, 73, 4 * MIB, &model);
    struct test_fault fault = {.ops = TEST_OP(BLOCK_WRITE),
                               .first = 1,
                               .count = 1,
                               .action = TEST_LINK_DOWN,
                               .down_ns = 5 * SEC_NS};
    test_opener_fault(&bench.target_opener, fault);
    assert_int_equal(write_both_ways(&bench, model, 2 * MIB, 4096, BLOCK_FUA), 0);
    assert_memory_equal(bench.target->stable + 2 * MIB, model + 2 * MIB, 4096);
    assert_int_equal(write_both_ways(&bench, model, 3 * MIB, 4096, 0), 0);
    fault.ops = TEST_OP(BLOCK_FLUSH);
    test_opener_fault(&bench.target_opener, fault);
    assert_int_equal(mirror_bench_flush(&bench), 0);
    assert_memory_equal(bench.target->stable + 3 * MIB, model + 3 * MIB, 4096);
    /* For too long. */
    fault.ops = TEST_OP(BLOCK_WRITE);
    fault.down_ns = 60 * SEC_NS;
    test_opener_fault(&bench.target_opener, fault);
    assert_int_equal(write_both_ways(&bench, model, 2 * MIB, 4096, BLOCK_FUA), -EIO);
    assert_true(mirror_bench_until(&bench, MIRROR_COPYING, 60 * SEC_NS));
    mirror_bench_flush(&bench);
    assert_int_equal(write_both_ways(&bench, model, 2 * MIB, 4096, 0), 0);
    mirror_set_limits(bench.mirror, 0, 0);
    finish_restore(&bench, model);
}

static void a_restore_that_breaks(void **state)
{
    (void)state;
    struct mirror_bench bench;
    uint8_t *model;
    start_slow_restore(&bench, 71, 4 * MIB, &model);
    test_opener_fault(&bench.target_opener, (struct test_fault){.ops = TEST_OP(BLOCK_READ),
                                                                .first = 1,
                                                                .count = 1,
                                                                .action = TEST_FAIL,
                                                                .status = -EIO});
    assert_int_equal(read_and_compare(&bench, model, 900 * KIB, 4096), -EIO);
    assert_true(mirror_bench_until(&bench, MIRROR_BROKEN, SEC_NS));
    assert_int_equal(read_and_compare(&bench, model, 900 * KIB, 4096), -EIO);
    assert_int_equal(write_both_ways(&bench, model, 0, 4096, 0), -EIO);
    mirror_connect(bench.mirror, MIRROR_FROM_LEG);
    mirror_set_limits(bench.mirror, 0, 0);
    finish_restore(&bench, model);
}

static void a_restore_after_a_crash(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct mirror_bench bench;
        uint8_t *model;
        start_restore(&bench, 80 + seed, 4 * MIB, &model);
        mirror_set_limits(bench.mirror, 1, 1 * MIB);
        assert_true(mirror_bench_until(&bench, MIRROR_COPYING, SEC_NS));
        for (unsigned i = 0; i < 10; i++) {
            uint64_t at = random_below(&bench.random, 8000) * 512;
            assert_int_equal(write_both_ways(&bench, model, at, 2048, 0), 0);
        }
        if (seed % 3 == 0) {
            test_opener_link_down(&bench.target_opener, SEC_NS);
        }
        assert_int_equal(mirror_bench_flush(&bench), 0);
        loop_sim_advance(bench.sim, random_below(&bench.random, 500) * MS_NS);
        mirror_bench_crash(&bench, true);
        mirror_bench_start(&bench);
        assert_int_equal(read_and_compare(&bench, model, 0, 4 * MIB), 0);
        finish_restore(&bench, model);
    }
}

/* The source loses what was restored and not flushed: it comes from the leg again. */
static void a_restore_whose_source_forgets(void **state)
{
    (void)state;
    struct mirror_bench bench;
    uint8_t *model;
    start_restore(&bench, 110, 4 * MIB, &model);
    mirror_set_limits(bench.mirror, 1, 10 * KIB);
    loop_sim_advance(bench.sim, 2 * SEC_NS);
    assert_true(bench.progress.copied_bytes > 8192);
    test_opener_link_down(&bench.target_opener, 100 * MS_NS);
    loop_sim_advance(bench.sim, 10 * MS_NS);
    test_opener_link_down(&bench.source_opener, 10 * MS_NS);
    loop_sim_advance(bench.sim, SEC_NS);
    assert_int_equal(read_and_compare(&bench, model, 0, 4 * MIB), 0);
    mirror_set_limits(bench.mirror, 0, 0);
    finish_restore(&bench, model);
}

/* Given up in the middle: what is marked stays marked, and may go either way. */
static void a_restore_given_up(void **state)
{
    (void)state;
    struct mirror_bench bench;
    uint8_t *model;
    start_restore(&bench, 111, 4 * MIB, &model);
    mirror_set_limits(bench.mirror, 1, 20 * KIB);
    loop_sim_advance(bench.sim, SEC_NS);
    mirror_disconnect(bench.mirror, mirror_bench_done, &bench);
    assert_true(mirror_bench_until_done(&bench, 2, SEC_NS));
    assert_true(bench.progress.marked_bytes > 0);
    assert_int_equal(mirror_bench_write(&bench, 0, 512, 0), 0);
    free(model);
    bench.spec.direction = MIRROR_TO_LEG;
    mirror_set_limits(bench.mirror, 0, 0);
    mirror_connect(bench.mirror, MIRROR_TO_LEG);
    finish_equal(&bench);
}

static void map_answered(struct block_req *req)
{
    *(bool *)req->arg = true;
}

static unsigned ask_map(struct mirror_bench *bench, uint64_t offset, uint64_t len,
                        struct block_extent extents[8])
{
    bool answered = false;
    struct block_req req = {.op = BLOCK_MAP,
                            .offset = offset,
                            .len = len,
                            .extents = extents,
                            .max_extents = 8,
                            .done = map_answered,
                            .arg = &answered};
    blockdev_submit(bench->dev, &req);
    assert_true(loop_sim_run_until(bench->sim, flag_is_set, &answered, SEC_NS));
    assert_int_equal(req.status, 0);
    return req.n_extents;
}

/* The leg is right: its holes come back. And what a host is told of the map meanwhile is true of what it reads. */
static void restored_by_maps(void **state)
{
    (void)state;
    struct mirror_bench bench;
    mirror_bench_init(&bench, 170, 16 * MIB);
    make_holes(&bench);
    bench.spec.connect = false;
    bench.target_opener.spec.map_delay_ns = 200 * MS_NS;
    mirror_bench_start(&bench);
    uint8_t *model = malloc(bench.size);
    assert_non_null(model);
    memcpy(model, bench.target->data, bench.size);
    bench.spec.direction = MIRROR_FROM_LEG;
    mirror_connect(bench.mirror, MIRROR_FROM_LEG);
    assert_true(mirror_bench_until(&bench, MIRROR_COPYING, SEC_NS));
    struct block_extent extents[8];
    assert_int_equal(ask_map(&bench, 6 * MIB, MIB, extents), 1);
    assert_int_equal(extents[0].kind, BLOCK_EXTENT_UNKNOWN); /* a hole of the source's */
    /* This granule is the same on both now; not what follows it. */
    assert_int_equal(mirror_bench_do(&bench, BLOCK_ZERO, 6 * MIB, NULL, 4096, 0), 0);
    memset(model + 6 * MIB, 0, 4096);
    assert_int_equal(ask_map(&bench, 6 * MIB, 4096, extents), 1);
    assert_int_equal(extents[0].kind, BLOCK_EXTENT_ZERO);
    assert_int_equal(extents[0].len, 4096);
    assert_int_equal(read_and_compare(&bench, model, 0, bench.size), 0);
    mirror_bench_until_equal(&bench);
    assert_false(bench.source->mapped[12 * MIB / TEST_PAGE]);
    assert_true(bench.source->requests[BLOCK_ZERO] > 0);
    assert_true(bench.progress.zeroed_bytes >= 3 * MIB);
    finish_restore(&bench, model);
}

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restored),
        cmocka_unit_test(restored_while_in_use),
        cmocka_unit_test(a_restore_whose_leg_goes_away),
        cmocka_unit_test(a_restore_whose_leg_is_back_before_a_write_ends),
        cmocka_unit_test(a_restore_whose_leg_takes_promises_with_it),
        cmocka_unit_test(a_restore_that_breaks),
        cmocka_unit_test(a_restore_after_a_crash),
        cmocka_unit_test(a_restore_whose_source_forgets),
        cmocka_unit_test(a_restore_given_up),
        cmocka_unit_test(restored_by_maps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
