// SPDX-License-Identifier: Apache-2.0
/*
 * What a copy does when things go wrong, at every request: either it ends DONE and equal (on stable
 * storage: the bench compares), or BROKEN with the right error. Never a wrong DONE.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "tests/unit/copy_testing.h"

/* A disk with all that a copy meets: runs, gaps, zeros that the map knows and zeros that it does
 * not, an odd end; small transfers, so that there are many requests. */
static void bench_init(struct copy_bench *bench, uint64_t seed, bool cached)
{
    uint64_t size = 2 * MIB + 1536;
    copy_bench_init(bench, seed, size, size + 2560);
    test_disk_fill(bench->source, 0, 600 * KIB, 1);
    test_disk_fill(bench->source, 700 * KIB, 64 * KIB, 2);
    test_disk_fill(bench->source, 1024 * KIB, 256 * KIB, 3);
    memset(bench->source->data + 1100 * KIB, 0, 80 * KIB); /* mapped zeros */
    memset(bench->source->stable + 1100 * KIB, 0, 80 * KIB);
    test_disk_fill(bench->source, 2 * MIB - 8192, 8192 + 1536, 4);
    bench->source_opener.spec.max_bytes = 64 * KIB;
    bench->target_opener.spec.max_bytes = 64 * KIB;
    bench->source_opener.spec.max_inflight = 4;
    bench->target_opener.spec.max_inflight = 5;
    bench->source_opener.spec.map_extents = 2;
    bench->target_opener.spec.block_bytes = 4096;
    bench->source_opener.spec.delay_ns = 10 * MS_NS;
    bench->source_opener.spec.delay_spread_ns = 50 * MS_NS;
    bench->target_opener.spec.delay_ns = 10 * MS_NS;
    bench->target_opener.spec.delay_spread_ns = 50 * MS_NS;
    bench->target_opener.spec.volatile_cache = cached;
    bench->spec.checkpoint_ns = 20 * MS_NS;
}

/* Runs the same copy again and again, with the fault at the first, second, … request of these
 * kinds, until there are no more. Answers how many there were. */
typedef void (*expect_fn)(struct copy_bench *bench, unsigned at);

static unsigned at_every_request(bool on_target, struct test_fault fault, bool verify,
                                 expect_fn expect)
{
    for (unsigned at = 1;; at += TEST_STRIDE) {
        struct copy_bench bench;
        bench_init(&bench, at, true);
        bench.spec.verify = verify;
        fault.first = at;
        struct test_opener *opener = on_target ? &bench.target_opener : &bench.source_opener;
        test_opener_fault(opener, fault);
        copy_bench_start(&bench);
        assert_true(copy_bench_finish(&bench, 600 * SEC_NS));
        bool hit = opener->faults[0].count != fault.count || fault.count == UINT32_MAX;
        bool reached = opener->faults[0].seen >= at;
        if (!hit || !reached) {
            assert_int_equal(bench.progress.phase, COPY_DONE);
            copy_bench_fini(&bench);
            return at - 1;
        }
        expect(&bench, at);
        copy_bench_fini(&bench);
    }
}

static void expect_done(struct copy_bench *bench, unsigned at)
{
    if (bench->progress.phase != COPY_DONE) {
        print_error("at request %u: %s: %s\n", at, copy_phase_name(bench->progress.phase),
                    bench->error.detail);
    }
    assert_int_equal(bench->progress.phase, COPY_DONE); /* and equal: the bench has compared */
}

static void expect_copy_failed(struct copy_bench *bench, unsigned at)
{
    (void)at;
    assert_int_equal(bench->progress.phase, COPY_BROKEN);
    assert_int_equal(bench->error.code, ERR_COPY_FAILED);
    assert_non_null(strstr(bench->error.detail, "Input/output error"));
}

static void expect_no_space(struct copy_bench *bench, unsigned at)
{
    (void)at;
    assert_int_equal(bench->progress.phase, COPY_BROKEN);
    assert_int_equal(bench->error.code, ERR_NO_SPACE);
}

static void expect_lun_changed(struct copy_bench *bench, unsigned at)
{
    (void)at;
    assert_int_equal(bench->progress.phase, COPY_BROKEN);
    assert_int_equal(bench->error.code, ERR_LUN_CHANGED);
}

#define MANY(n) assert_in_range(n, 4, 10000)

static void an_error_that_passes_is_tried_again(void **state)
{
    (void)state;
    static const enum block_op ops[] = {BLOCK_READ, BLOCK_WRITE, BLOCK_ZERO, BLOCK_FLUSH,
                                        BLOCK_MAP};
    for (unsigned side = 0; side < 2; side++) {
        for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
            for (unsigned count = 1; count <= 3; count += 2) {
                unsigned n = at_every_request(
                    side == 1,
                    (struct test_fault){.ops = TEST_OP(ops[i]), .count = count, .status = -EIO},
                    true, expect_done);
                bool used = side == 1 || ops[i] == BLOCK_READ || ops[i] == BLOCK_MAP;
                assert_int_equal(n > 0, used);
            }
        }
    }
}

static void an_error_that_stays_breaks_the_copy(void **state)
{
    (void)state;
    struct test_fault fault = {.count = UINT32_MAX, .status = -EIO};
    /* Every request from the n-th on fails: from the first few is enough. */
    static const enum block_op ops[] = {BLOCK_READ, BLOCK_WRITE, BLOCK_ZERO, BLOCK_FLUSH};
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
        for (unsigned at = 1; at <= 3; at++) {
            for (unsigned side = ops[i] == BLOCK_READ ? 0 : 1; side < 2; side++) {
                struct copy_bench bench;
                bench_init(&bench, at, true);
                bench.spec.verify = true;
                bench.target_opener.spec.can_map = false;
                fault.ops = TEST_OP(ops[i]);
                fault.first = at;
                test_opener_fault(side == 1 ? &bench.target_opener : &bench.source_opener, fault);
                copy_bench_start(&bench);
                assert_true(copy_bench_finish(&bench, 600 * SEC_NS));
                if (ops[i] == BLOCK_FLUSH && bench.progress.phase == COPY_DONE) {
                    assert_in_range(bench.target_opener.faults[0].seen, 1, at - 1);
                } else {
                    expect_copy_failed(&bench, at);
                    assert_non_null(strstr(bench.error.detail, ops[i] == BLOCK_FLUSH ? "flushing"
                                                               : side == 0           ? "source"
                                                                                     : "target"));
                }
                copy_bench_fini(&bench);
            }
        }
    }
}

static void a_map_that_always_fails_is_done_without(void **state)
{
    (void)state;
    for (unsigned side = 0; side < 2; side++) {
        for (unsigned i = 0; i < 2; i++) {
            struct copy_bench bench;
            bench_init(&bench, i, true);
            test_opener_fault(side ? &bench.target_opener : &bench.source_opener,
                              (struct test_fault){.ops = TEST_OP(BLOCK_MAP),
                                                  .first = 1,
                                                  .count = UINT32_MAX,
                                                  .status = i ? -EIO : -EOPNOTSUPP});
            copy_bench_run_done(&bench);
            copy_bench_fini(&bench);
        }
    }
}

static void zeros_are_written_where_the_command_is_refused(void **state)
{
    (void)state;
    for (unsigned mapped = 0; mapped < 2; mapped++) {
        for (unsigned at = 1; at < 6; at++) {
            struct copy_bench bench;
            bench_init(&bench, at, true);
            bench.source_opener.spec.can_map = mapped;
            test_opener_fault(&bench.target_opener, (struct test_fault){.ops = TEST_OP(BLOCK_ZERO),
                                                                        .first = at,
                                                                        .count = UINT32_MAX,
                                                                        .status = -EOPNOTSUPP});
            copy_bench_run_done(&bench);
            copy_bench_fini(&bench);
        }
    }
}

static void a_full_target_breaks_the_copy_at_once(void **state)
{
    (void)state;
    MANY(at_every_request(
        true,
        (struct test_fault){.ops = TEST_OP(BLOCK_WRITE), .count = UINT32_MAX, .status = -ENOSPC},
        false, expect_no_space));
    assert_in_range(
        at_every_request(
            true, (struct test_fault){.ops = TEST_OP(BLOCK_FLUSH), .count = 1, .status = -ENOSPC},
            false, expect_no_space),
        1, 1000);
}

static void a_changed_lun_breaks_the_copy_at_once(void **state)
{
    (void)state;
    for (unsigned side = 0; side < 2; side++) {
        MANY(at_every_request(
            side == 1,
            (struct test_fault){.ops = TEST_ALL_OPS, .count = UINT32_MAX, .status = -ESTALE}, true,
            expect_lun_changed));
    }
    for (unsigned side = 0; side < 2; side++) {
        struct copy_bench bench;
        bench_init(&bench, side, true);
        copy_bench_start(&bench);
        assert_true(copy_bench_until_phase(&bench, COPY_COPYING, SEC_NS));
        loop_sim_advance(bench.sim, 100 * MS_NS);
        test_opener_changed(side ? &bench.target_opener : &bench.source_opener);
        assert_true(copy_bench_finish(&bench, SEC_NS));
        expect_lun_changed(&bench, 0);
        copy_bench_fini(&bench);
    }
}

static void a_write_protected_target_breaks_the_copy_at_once(void **state)
{
    (void)state;
    struct copy_bench bench;
    bench_init(&bench, 1, true);
    test_opener_fault(&bench.target_opener, (struct test_fault){.ops = TEST_OP(BLOCK_WRITE),
                                                                .first = 3,
                                                                .count = UINT32_MAX,
                                                                .status = -EROFS});
    copy_bench_start(&bench);
    assert_true(copy_bench_finish(&bench, SEC_NS));
    assert_int_equal(bench.error.code, ERR_COPY_FAILED);
    copy_bench_fini(&bench);
}

/* ---- links ---- */

static void a_link_lost_at_any_request_is_survived(void **state)
{
    (void)state;
    static const uint64_t downs_ns[] = {1, 70 * MS_NS, 3000 * MS_NS};
    for (unsigned side = 0; side < 2; side++) {
        for (unsigned i = 0; i < ARRAY_LEN(downs_ns); i++) {
            MANY(at_every_request(side == 1,
                                  (struct test_fault){.ops = TEST_ALL_OPS,
                                                      .count = 1,
                                                      .action = TEST_LINK_DOWN,
                                                      .down_ns = downs_ns[i]},
                                  true, expect_done));
        }
    }
}

static void a_session_lost_without_a_word_is_survived(void **state)
{
    (void)state;
    for (unsigned side = 0; side < 2; side++) {
        MANY(at_every_request(
            side == 1, (struct test_fault){.ops = TEST_ALL_OPS, .count = 1, .action = TEST_SILENT},
            true, expect_done));
    }
}

static void both_links_lost_one_after_the_other(void **state)
{
    (void)state;
    for (unsigned at = 1; at < 60; at += TEST_STRIDE) {
        struct copy_bench bench;
        bench_init(&bench, at, true);
        struct test_fault fault = {.ops = TEST_ALL_OPS,
                                   .first = at,
                                   .count = 3,
                                   .action = TEST_LINK_DOWN,
                                   .down_ns = 100 * MS_NS};
        test_opener_fault(&bench.source_opener, fault);
        fault.first = 60 - at;
        test_opener_fault(&bench.target_opener, fault);
        copy_bench_run_done(&bench);
        copy_bench_fini(&bench);
    }
}

/* No request is there to fail: only the event says that the cache may be gone. */
static void a_target_lost_while_nothing_is_in_flight_is_written_again(void **state)
{
    (void)state;
    for (uint64_t later_ns = 0; later_ns < SEC_NS; later_ns += 37 * MS_NS * TEST_STRIDE) {
        struct copy_bench bench;
        copy_bench_init(&bench, later_ns, 4 * MIB, 4 * MIB);
        test_disk_fill(bench.source, 0, 4 * MIB, 1);
        bench.spec.bandwidth_limit = 2 * MIB; /* 125 ms for each chunk, most of it idle */
        copy_bench_start(&bench);
        assert_true(copy_bench_until_phase(&bench, COPY_COPYING, SEC_NS));
        loop_sim_advance(bench.sim, 500 * MS_NS + later_ns);
        test_opener_link_down(&bench.target_opener, 1);
        assert_true(copy_bench_finish(&bench, 60 * SEC_NS));
        assert_int_equal(bench.progress.phase, COPY_DONE);
        copy_bench_fini(&bench);
    }
}

static void losses_are_told_while_they_last(void **state)
{
    (void)state;
    for (unsigned side = 0; side < 2; side++) {
        struct copy_bench bench;
        bench_init(&bench, 1, true);
        copy_bench_start(&bench);
        assert_true(copy_bench_until_phase(&bench, COPY_COPYING, SEC_NS));
        loop_sim_advance(bench.sim, 200 * MS_NS);
        test_opener_link_down(side ? &bench.target_opener : &bench.source_opener, 5 * SEC_NS);
        loop_sim_advance(bench.sim, SEC_NS);
        assert_int_equal(bench.progress.phase, COPY_RETRY);
        assert_non_null(strstr(bench.progress.last_error, side ? "target" : "source"));
        assert_non_null(strstr(bench.progress.last_error, "connection lost"));
        loop_sim_advance(bench.sim, 5 * SEC_NS);
        assert_true(copy_bench_finish(&bench, 10 * SEC_NS));
        assert_int_equal(bench.progress.phase, COPY_DONE);
        assert_in_range(bench.progress.attempts, 2, 3);
        copy_bench_fini(&bench);
    }
}

static void giving_up_on_a_lost_link_is_a_policy(void **state)
{
    (void)state;
    for (unsigned side = 0; side < 2; side++) {
        struct copy_bench bench;
        bench_init(&bench, 1, true);
        bench.spec.give_up_ns = 20 * SEC_NS;
        copy_bench_start(&bench);
        assert_true(copy_bench_until_phase(&bench, COPY_COPYING, SEC_NS));
        test_opener_link_down(side ? &bench.target_opener : &bench.source_opener, 3600 * SEC_NS);
        uint64_t start_ns = loop_sim_now_ns(bench.sim);
        assert_true(copy_bench_finish(&bench, 60 * SEC_NS));
        assert_int_equal(bench.progress.phase, COPY_BROKEN);
        assert_int_equal(bench.error.code, ERR_REMOTE_UNREACHABLE);
        assert_in_range(loop_sim_now_ns(bench.sim) - start_ns, 20 * SEC_NS, 21 * SEC_NS);
        copy_bench_fini(&bench);
    }
}

static void what_was_written_since_the_checkpoint_is_written_again_and_no_more(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 1, 64 * MIB, 64 * MIB);
    test_disk_fill(bench.source, 0, 64 * MIB, 1);
    bench.source_opener.spec.bytes_per_second = 10 * MIB;
    copy_bench_start(&bench);
    assert_true(copy_bench_until_phase(&bench, COPY_COPYING, SEC_NS));
    loop_sim_advance(bench.sim, 3500 * MS_NS);
    uint64_t checkpoint = bench.progress.checkpoint_bytes;
    uint64_t written = bench.progress.bytes_written;
    assert_in_range(checkpoint, 20 * MIB, 35 * MIB);
    test_opener_link_down(&bench.target_opener, SEC_NS);
    loop_sim_advance(bench.sim, 500 * MS_NS);
    assert_int_equal(bench.progress.bytes_done, checkpoint);
    assert_true(copy_bench_finish(&bench, 60 * SEC_NS));
    assert_int_equal(bench.progress.phase, COPY_DONE);
    assert_in_range(bench.progress.bytes_written - 64 * MIB, 0, written - checkpoint + 4 * MIB);
    /* A lost source costs nothing twice but what was in flight. */
    copy_bench_end(&bench);
    copy_bench_start(&bench);
    assert_true(copy_bench_until_phase(&bench, COPY_COPYING, SEC_NS));
    loop_sim_advance(bench.sim, 3500 * MS_NS);
    test_opener_link_down(&bench.source_opener, SEC_NS);
    assert_true(copy_bench_finish(&bench, 60 * SEC_NS));
    assert_int_equal(bench.progress.bytes_written, 64 * MIB);
    copy_bench_fini(&bench);
}

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_that_passes_is_tried_again),
        cmocka_unit_test(an_error_that_stays_breaks_the_copy),
        cmocka_unit_test(a_map_that_always_fails_is_done_without),
        cmocka_unit_test(zeros_are_written_where_the_command_is_refused),
        cmocka_unit_test(a_full_target_breaks_the_copy_at_once),
        cmocka_unit_test(a_changed_lun_breaks_the_copy_at_once),
        cmocka_unit_test(a_write_protected_target_breaks_the_copy_at_once),
        cmocka_unit_test(a_link_lost_at_any_request_is_survived),
        cmocka_unit_test(a_session_lost_without_a_word_is_survived),
        cmocka_unit_test(both_links_lost_one_after_the_other),
        cmocka_unit_test(a_target_lost_while_nothing_is_in_flight_is_written_again),
        cmocka_unit_test(losses_are_told_while_they_last),
        cmocka_unit_test(giving_up_on_a_lost_link_is_a_policy),
        cmocka_unit_test(what_was_written_since_the_checkpoint_is_written_again_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
