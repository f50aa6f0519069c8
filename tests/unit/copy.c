// SPDX-License-Identifier: Apache-2.0
/* What a copy does when nothing goes wrong: equality, and how little is moved for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "replication/copier.h"
#include "tests/unit/copy_testing.h"

/* Data in runs of run bytes, one every step bytes. */
#define LARGE (TEST_STRIDE == 1 ? 64 * MIB : 24 * MIB)

static void fill_runs(struct test_disk *disk, uint64_t run, uint64_t step, uint64_t seed)
{
    for (uint64_t at = 0; at < disk->size; at += step) {
        test_disk_fill(disk, at, run < disk->size - at ? run : disk->size - at, seed + at);
    }
}

static void both_take(struct copy_bench *bench, uint64_t delay_ns, uint64_t bytes_per_second)
{
    struct test_dev_spec *specs[] = {&bench->source_opener.spec, &bench->target_opener.spec};
    for (unsigned i = 0; i < ARRAY_LEN(specs); i++) {
        specs[i]->delay_ns = delay_ns;
        specs[i]->bytes_per_second = bytes_per_second;
    }
}

/* ---- equality ---- */

static void full_disk_is_copied(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, 8 * MIB, 8 * MIB);
    test_disk_fill(bench.source, 0, 8 * MIB, 42);
    copy_bench_run_done(&bench);
    assert_int_equal(bench.progress.bytes_done, 8 * MIB);
    assert_int_equal(bench.progress.checkpoint_bytes, 8 * MIB);
    assert_int_equal(bench.progress.bytes_read, 8 * MIB);
    assert_int_equal(bench.progress.bytes_written, 8 * MIB);
    assert_int_equal(bench.target->requests[BLOCK_WRITE], 32);
    assert_true(bench.phases_seen[COPY_DONE]);
    copy_bench_fini(&bench);
}

static void sparse_disk_is_copied(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, 8 * MIB, 8 * MIB);
    fill_runs(bench.source, 64 * KIB, 640 * KIB, 1);
    copy_bench_run_done(&bench);
    copy_bench_fini(&bench);
}

static void empty_disk_is_zeroed_on_a_target_full_of_rubbish(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, 8 * MIB, 8 * MIB);
    copy_bench_run_done(&bench);
    assert_int_equal(bench.progress.bytes_read, 0);
    assert_int_equal(bench.progress.bytes_written, 0);
    assert_int_equal(bench.progress.bytes_zeroed, 8 * MIB);
    assert_in_range(bench.target->requests[BLOCK_ZERO], 1, 8);
    for (unsigned page = 0; page < 8 * MIB / TEST_PAGE; page++) {
        assert_int_equal(bench.target->mapped[page], 0);
    }
    copy_bench_fini(&bench);
}

static void nothing_is_copied_of_a_source_without_bytes(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, 4096, 8192);
    bench.spec.bytes_total = 0;
    copy_bench_start(&bench);
    assert_true(copy_bench_finish(&bench, SEC_NS * 10));
    assert_int_equal(bench.progress.phase, COPY_DONE);
    assert_int_equal(bench.target->requests[BLOCK_WRITE] + bench.target->requests[BLOCK_ZERO], 0);
    copy_bench_fini(&bench);
}

static void every_size_and_every_pair_of_block_sizes(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {
        512,       1024,          4096,          4096 + 512,    8192, 256 * KIB, 256 * KIB + 512,
        300 * KIB, 1 * MIB - 512, 1 * MIB + 512, 2 * MIB + 3584};
    static const uint32_t blocks[] = {512, 4096, 16384};
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i += TEST_STRIDE == 1 ? 1 : 5) {
        for (unsigned s = 0; s < ARRAY_LEN(blocks); s++) {
            for (unsigned t = 0; t < ARRAY_LEN(blocks); t++) {
                for (unsigned sparse = 0; sparse < 3; sparse++) {
                    if (sizes[i] % blocks[s] != 0) {
                        continue;
                    }
                    uint64_t target_size =
                        (sizes[i] + blocks[t] - 1) / blocks[t] * blocks[t] + (i % 2) * blocks[t];
                    struct copy_bench bench;
                    copy_bench_init(&bench, i, sizes[i], target_size);
                    if (sparse == 0) {
                        test_disk_fill(bench.source, 0, sizes[i], 7);
                    } else if (sparse == 1) {
                        fill_runs(bench.source, 512, 48 * KIB, 7);
                    }
                    bench.source_opener.spec.block_bytes = blocks[s];
                    bench.target_opener.spec.block_bytes = blocks[t];
                    bench.spec.verify = true;
                    copy_bench_run_done(&bench);
                    copy_bench_fini(&bench);
                }
            }
        }
    }
}

static void larger_target_keeps_what_lies_behind(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, 2 * MIB, 3 * MIB);
    test_disk_fill(bench.source, 0, 2 * MIB, 3);
    bench.target_opener.spec.block_bytes = 4096;
    copy_bench_run_done(&bench); /* checks the bytes behind */
    copy_bench_fini(&bench);
}

static void transfer_size_follows_the_devices(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, 4 * MIB, 4 * MIB);
    test_disk_fill(bench.source, 0, 4 * MIB, 3);
    bench.source_opener.spec.max_bytes = 100 * 1000; /* not a multiple of anything */
    copy_bench_run_done(&bench);
    assert_int_equal(bench.source->requests[BLOCK_READ], (4 * MIB + 98303) / 98304);
    test_disk_forget_counts(bench.source);
    bench.source_opener.spec.max_bytes = 1 * MIB;
    bench.target_opener.spec.optimal_bytes = 512 * KIB;
    copy_bench_run_done(&bench);
    assert_int_equal(bench.source->requests[BLOCK_READ], 8);
    copy_bench_fini(&bench);
}

/* ---- little is moved ---- */

static void reads_only_what_the_map_calls_data(void **state)
{
    (void)state;
    static const unsigned answers[] = {0, 1, 2, 7};
    static const uint64_t runs[] = {64 * KIB, 1 * MIB};
    for (unsigned i = 0; i < ARRAY_LEN(answers); i += TEST_STRIDE) {
        for (unsigned r = 0; r < ARRAY_LEN(runs); r++) {
            struct copy_bench bench;
            copy_bench_init(&bench, 0, 40 * MIB, 40 * MIB);
            bench.source_opener.spec.map_extents = answers[i];
            bench.target_opener.spec.can_map = false;
            both_take(&bench, MS_NS / 2, 1000 * MIB);
            fill_runs(bench.source, runs[r], runs[r] * 10, 9);
            copy_bench_run_done(&bench);
            assert_int_equal(bench.progress.bytes_read, 4 * MIB);
            assert_int_equal(bench.progress.bytes_zeroed, 36 * MIB);
            copy_bench_fini(&bench);
        }
    }
}

static void target_is_left_alone_where_its_map_says_zero(void **state)
{
    (void)state;
    for (unsigned answer = 0; answer < 2; answer++) {
        struct copy_bench bench;
        copy_bench_init(&bench, 0, 8 * MIB, 8 * MIB);
        test_disk_clear(bench.target);
        bench.target_opener.spec.map_extents = answer;
        test_disk_fill(bench.target, 1 * MIB, 64 * KIB, 4); /* rubbish in one place */
        fill_runs(bench.source, 64 * KIB, 2 * MIB, 9);
        copy_bench_run_done(&bench);
        assert_int_equal(bench.progress.bytes_written, 256 * KIB);
        assert_int_equal(bench.progress.bytes_zeroed, 64 * KIB);
        assert_int_equal(bench.progress.bytes_skipped, 8 * MIB - 256 * KIB - 64 * KIB);
        copy_bench_fini(&bench);
    }
}

/* A clone that is filled beside its hosts: what they wrote stays, and nothing is read twice. */
static void a_target_that_keeps_what_it_has_gets_the_rest(void **state)
{
    (void)state;
    static const struct {
        uint64_t offset, len;
    } kept[] = {{2 * MIB, MIB},
                {5 * MIB + 8192, 4096},
                {9 * MIB + 4096, 300 * KIB},
                {16 * MIB - 4096, 4096}};
    enum { SIZE = 16 * MIB, KEPT = MIB + 4096 + 300 * KIB + 4096 };
    struct copy_bench bench;
    copy_bench_init(&bench, 0, SIZE, SIZE);
    fill_runs(bench.source, 1 * MIB, 2 * MIB, 7);
    test_disk_fill(bench.source, 9 * MIB, MIB, 3);
    test_disk_clear(bench.target);
    for (unsigned i = 0; i < 4; i++) {
        test_disk_fill(bench.target, kept[i].offset, kept[i].len, 100 + i);
    }
    uint8_t *expected = malloc(SIZE);
    memcpy(expected, bench.source->data, SIZE);
    for (unsigned i = 0; i < 4; i++) {
        memcpy(expected + kept[i].offset, bench.target->data + kept[i].offset, kept[i].len);
    }
    bench.target_opener.spec.keeps = true;
    bench.target_opener.spec.volatile_cache = false;
    bench.source_opener.spec.bytes_per_second = 8 * MIB;
    bench.check_stable = false;
    copy_bench_start(&bench);
    while (bench.progress.bytes_done < 11 * MIB) {
        loop_sim_advance(bench.sim, MS_NS);
    }
    copy_cancel(bench.copy);
    assert_true(copy_bench_finish(&bench, 60 * SEC_NS));
    assert_int_equal(bench.progress.phase, COPY_CANCELLED);
    uint64_t read = bench.progress.bytes_read;
    assert_true(read > 4 * MIB && bench.progress.bytes_skipped > MIB);
    copy_bench_end(&bench);
    /* Again, from the beginning: what is there is not read again, but what was not written. */
    copy_bench_start(&bench);
    assert_true(copy_bench_finish(&bench, 60 * SEC_NS));
    assert_int_equal(bench.progress.phase, COPY_DONE);
    assert_memory_equal(bench.target->stable, expected, SIZE);
    read += bench.progress.bytes_read;
    assert_in_range(read, 7 * MIB, 9 * MIB - 300 * KIB + 64 * KIB + 4 * MIB);
    assert_true(bench.progress.bytes_skipped > 5 * MIB);
    free(expected);
    copy_bench_fini(&bench);
}

static void zeros_that_were_read_become_few_commands(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, LARGE, LARGE);
    bench.source_opener.spec.can_map = false;
    bench.target_opener.spec.can_map = false;
    test_disk_fill(bench.source, 20 * MIB + 4096, 4096, 5);
    copy_bench_run_done(&bench);
    assert_int_equal(bench.progress.bytes_read, LARGE);
    assert_in_range(bench.progress.bytes_written, 4096, 128 * KIB);
    assert_in_range(bench.target->requests[BLOCK_ZERO], 2, 12);
    copy_bench_fini(&bench);
}

static void zeros_inside_a_chunk_are_not_written(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, 4 * MIB, 4 * MIB);
    bench.source_opener.spec.can_map = false;
    bench.target_opener.spec.can_map = false;
    fill_runs(bench.source, 64 * KIB, 128 * KIB, 6);
    copy_bench_run_done(&bench);
    assert_int_equal(bench.progress.bytes_written, 2 * MIB);
    assert_int_equal(bench.progress.bytes_zeroed, 2 * MIB);
    /* Short runs are not worth it. */
    test_disk_forget_counts(bench.target);
    fill_runs(bench.source, 16 * KIB, 32 * KIB, 6);
    copy_bench_run_done(&bench);
    assert_in_range(bench.target->requests[BLOCK_WRITE], 1, 16 * 3);
    copy_bench_fini(&bench);
}

static void read_zeros_are_skipped_where_the_target_is_unmapped(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, 8 * MIB, 8 * MIB);
    test_disk_clear(bench.target);
    bench.source_opener.spec.can_map = false;
    bench.source_opener.spec.delay_ns = MS_NS; /* so that the target's map is there first */
    fill_runs(bench.source, 64 * KIB, 2 * MIB, 9);
    copy_bench_run_done(&bench);
    assert_int_equal(bench.progress.bytes_written, 256 * KIB);
    assert_in_range(bench.progress.bytes_zeroed, 0, 3 * MIB);
    assert_in_range(bench.progress.bytes_skipped, 4 * MIB, 8 * MIB);
    copy_bench_fini(&bench);
}

static void small_gaps_are_read_along(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, 4 * MIB, 4 * MIB);
    fill_runs(bench.source, 12 * KIB, 16 * KIB, 6);
    copy_bench_run_done(&bench);
    assert_in_range(bench.source->requests[BLOCK_READ], 16, 18);
    copy_bench_fini(&bench);
}

static void map_that_costs_more_than_reading_is_given_up(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, LARGE, LARGE);
    fill_runs(bench.source, 4 * KIB, 40 * KIB, 6);
    bench.source_opener.spec.map_extents = 1;
    bench.source_opener.spec.map_delay_ns = 20 * MS_NS;
    bench.source_opener.spec.delay_ns = MS_NS / 10;
    bench.source_opener.spec.bytes_per_second = 1000 * MIB;
    bench.target_opener.spec.bytes_per_second = 1000 * MIB;
    uint64_t took_ns = copy_bench_run_done(&bench);
    /* Asking everywhere would take 3,276 questions of 20 ms, 4 at a time: 16 s. */
    assert_in_range(took_ns, 0, 3 * SEC_NS);
    copy_bench_fini(&bench);
}

static void map_that_never_answers_does_not_stop_the_copy(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, 16 * MIB, 16 * MIB);
    test_disk_fill(bench.source, 0, 16 * MIB, 6);
    bench.source_opener.spec.map_delay_ns = 3600 * SEC_NS;
    bench.target_opener.spec.map_delay_ns = 3600 * SEC_NS;
    uint64_t took_ns = copy_bench_run_done(&bench);
    assert_in_range(took_ns, 0, 30 * SEC_NS);
    copy_bench_fini(&bench);
}

static void unknown_counts_as_data(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, 4 * MIB, 4 * MIB);
    fill_runs(bench.source, 64 * KIB, 1 * MIB, 6);
    bench.source_opener.spec.map_unknown = true;
    bench.target_opener.spec.map_unknown = true;
    copy_bench_run_done(&bench);
    assert_int_equal(bench.progress.bytes_read, 256 * KIB);
    copy_bench_fini(&bench);
}

/* ---- bounds ---- */

/* The test device CHECKs that no more is in flight than it asked for; here: that it is used. */
static void requests_in_flight_are_bounded_and_used(void **state)
{
    (void)state;
    static const uint32_t bounds[] = {1, 2, 3, 64};
    unsigned step = TEST_STRIDE == 1 ? 1 : 3;
    for (unsigned s = 0; s < ARRAY_LEN(bounds); s += step) {
        for (unsigned t = 0; t < ARRAY_LEN(bounds); t += step) {
            struct copy_bench bench;
            copy_bench_init(&bench, 0, 8 * MIB, 8 * MIB);
            fill_runs(bench.source, 600 * KIB, 700 * KIB, 3);
            bench.source_opener.spec.max_inflight = bounds[s];
            bench.target_opener.spec.max_inflight = bounds[t];
            both_take(&bench, 5 * MS_NS, 0);
            bench.spec.verify = true;
            copy_bench_run_done(&bench);
            if (bounds[s] < 64 && bounds[t] == 64) {
                assert_int_equal(bench.source->most_outstanding, bounds[s]);
            }
            copy_bench_fini(&bench);
        }
    }
}

static void window_grows_over_a_long_path(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, LARGE, LARGE);
    test_disk_fill(bench.source, 0, LARGE, 3);
    bench.source_opener.spec.max_inflight = 64;
    bench.target_opener.spec.max_inflight = 64;
    both_take(&bench, 20 * MS_NS, 0);
    uint64_t took_ns = copy_bench_run_done(&bench);
    assert_in_range(bench.source->most_outstanding, 32, 64);
    /* 256 chunks, 40 ms each: 10.2 s one by one, 1.3 s with the floor of 8. */
    assert_in_range(took_ns, 0, 700 * MS_NS);
    copy_bench_fini(&bench);
}

static void window_stays_small_on_a_short_path(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, LARGE, LARGE);
    test_disk_fill(bench.source, 0, LARGE, 3);
    bench.source_opener.spec.max_inflight = 64;
    bench.target_opener.spec.max_inflight = 64;
    both_take(&bench, MS_NS / 20, 1000 * MIB);
    copy_bench_run_done(&bench);
    assert_in_range(bench.source->most_outstanding + bench.target->most_outstanding, 4, 20);
    copy_bench_fini(&bench);
}

/* ---- verification ---- */

static void verification_passes_on_what_was_copied(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, 8 * MIB, 8 * MIB);
    fill_runs(bench.source, 300 * KIB, 1 * MIB, 3);
    bench.spec.verify = true;
    bench.source_opener.spec.delay_ns = MS_NS;
    copy_bench_run_done(&bench);
    assert_true(bench.phases_seen[COPY_VERIFYING]);
    assert_true(bench.progress.verifying);
    assert_int_equal(bench.progress.bytes_read, 2 * 8 * 300 * KIB);
    assert_int_equal(bench.progress.checkpoint_bytes, 8 * MIB);
    copy_bench_fini(&bench);
}

static void verification_names_the_first_byte_that_differs(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, 8 * MIB, 8 * MIB);
    test_disk_fill(bench.source, 0, 8 * MIB, 3);
    memcpy(bench.target->data, bench.source->data, 8 * MIB);
    memcpy(bench.target->stable, bench.source->data, 8 * MIB);
    bench.target->data[5000001] ^= 1;
    bench.spec.verify = true;
    bench.spec.verifying = true;
    bench.check_stable = false;
    copy_bench_start(&bench);
    assert_true(copy_bench_finish(&bench, SEC_NS * 100));
    assert_int_equal(bench.progress.phase, COPY_BROKEN);
    assert_int_equal(bench.error.code, ERR_VERIFY_MISMATCH);
    assert_non_null(strstr(bench.error.detail, "5000001"));
    assert_int_equal(bench.target->bytes[BLOCK_WRITE], 0);
    copy_bench_fini(&bench);
}

/* ---- what does not suit ---- */

static void expect_broken(struct copy_bench *bench, enum error_code code)
{
    copy_bench_start(bench);
    assert_true(copy_bench_finish(bench, SEC_NS * 100));
    assert_int_equal(bench->progress.phase, COPY_BROKEN);
    assert_int_equal(bench->error.code, code);
    assert_int_equal(bench->target->bytes[BLOCK_WRITE] + bench->target->bytes[BLOCK_ZERO], 0);
    copy_bench_fini(bench);
}

static void what_does_not_suit_ends_before_the_first_write(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, 1 * MIB, 1 * MIB);
    bench.target_opener.spec.size = 512 * KIB;
    expect_broken(&bench, ERR_TARGET_TOO_SMALL);

    copy_bench_init(&bench, 0, 1 * MIB, 1 * MIB);
    bench.target_opener.spec.read_only = true;
    expect_broken(&bench, ERR_INCOMPATIBLE);

    copy_bench_init(&bench, 0, 1 * MIB, 1 * MIB);
    bench.source_opener.spec.size = 512 * KIB;
    expect_broken(&bench, ERR_LUN_CHANGED);

    copy_bench_init(&bench, 0, 1 * MIB, 1 * MIB);
    bench.source_opener.spec.block_bytes = 520;
    expect_broken(&bench, ERR_INCOMPATIBLE);
}

static void opens_that_cannot_heal_end_it_and_others_are_tried_again(void **state)
{
    (void)state;
    static const enum error_code final[] = {ERR_LUN_CHANGED, ERR_ADDRESS_NOT_ALLOWED,
                                            ERR_TARGET_TOO_SMALL};
    struct copy_bench bench;
    for (unsigned i = 0; i < ARRAY_LEN(final); i++) {
        copy_bench_init(&bench, 0, 1 * MIB, 1 * MIB);
        bench.source_opener.fail_opens = 1;
        bench.source_opener.open_error = final[i];
        expect_broken(&bench, final[i]);
    }
    copy_bench_init(&bench, 0, 1 * MIB, 1 * MIB);
    test_disk_fill(bench.source, 0, 1 * MIB, 3);
    bench.source_opener.fail_opens = 5;
    bench.target_opener.fail_opens = 3;
    bench.target_opener.open_error = ERR_INCOMPATIBLE; /* it is there, but not ready yet */
    uint64_t took_ns = copy_bench_run_done(&bench);
    assert_true(bench.phases_seen[COPY_RETRY]);
    assert_int_equal(bench.progress.attempts, 8);
    assert_non_null(strstr(bench.progress.last_error, "told to fail"));
    assert_true(bench.progress.last_error_ms > 0);
    /* 100 + 200 + 400 + 800 + 1600 ms */
    assert_in_range(took_ns, 3100 * MS_NS, 4000 * MS_NS);
    copy_bench_fini(&bench);
}

static void giving_up_is_a_policy(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, 1 * MIB, 1 * MIB);
    bench.source_opener.fail_opens = UINT32_MAX;
    bench.spec.give_up_ns = 30 * SEC_NS;
    uint64_t start_ns = loop_sim_now_ns(bench.sim);
    copy_bench_start(&bench);
    assert_true(copy_bench_finish(&bench, SEC_NS * 100));
    assert_int_equal(bench.progress.phase, COPY_BROKEN);
    assert_int_equal(bench.error.code, ERR_REMOTE_UNREACHABLE);
    assert_in_range(loop_sim_now_ns(bench.sim) - start_ns, 30 * SEC_NS, 31 * SEC_NS);
    copy_bench_fini(&bench);

    copy_bench_init(&bench, 0, 1 * MIB, 1 * MIB);
    bench.source_opener.fail_opens = UINT32_MAX;
    copy_bench_start(&bench);
    assert_false(copy_bench_finish(&bench, SEC_NS * 3600));
    assert_in_range(bench.progress.attempts, 350, 380); /* every 10 s */
    copy_bench_fini(&bench);
}

/* ---- progress ---- */

static void progress_is_seldom_and_checkpoints_are_in_time(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, 64 * MIB, 64 * MIB);
    test_disk_fill(bench.source, 0, 64 * MIB, 3);
    bench.source_opener.spec.bytes_per_second = 6400 * KIB;
    copy_bench_start(&bench); /* takes 10 s */
    assert_true(copy_bench_until_phase(&bench, COPY_COPYING, SEC_NS));
    loop_sim_advance(bench.sim, 5 * SEC_NS);
    assert_in_range(bench.n_progress, 20, 30);
    assert_in_range(bench.n_checkpoints, 4, 6);
    assert_in_range(bench.progress.bytes_per_second, 6000 * KIB, 6800 * KIB);
    assert_in_range(bench.progress.bytes_done - bench.progress.checkpoint_bytes, 0, 2 * 6400 * KIB);
    assert_true(copy_bench_finish(&bench, 60 * SEC_NS));
    assert_in_range(bench.n_checkpoints, 9, 13);
    copy_bench_fini(&bench);
}

static void moves_of_the_state_table(void **state)
{
    (void)state;
    for (unsigned from = COPY_QUEUED; from <= COPY_BROKEN; from++) {
        bool is_end = from == COPY_DONE || from == COPY_CANCELLED || from == COPY_BROKEN;
        assert_true(strlen(copy_phase_name(from)) > 0);
        for (unsigned to = COPY_QUEUED; to <= COPY_BROKEN; to++) {
            bool may = copier_may_move(from, to);
            if (is_end || to == COPY_QUEUED || from == to) {
                assert_false(may);
            } else if (to == COPY_CANCELLED || to == COPY_BROKEN) {
                assert_true(may);
            } else if (to == COPY_DONE) {
                assert_int_equal(may, from == COPY_FLUSHING || from == COPY_VERIFYING);
            } else if (to == COPY_SUSPENDED) {
                assert_true(may);
            } else if (from == COPY_SUSPENDED || from == COPY_QUEUED) {
                assert_int_equal(may, to == COPY_OPENING);
            }
        }
    }
}

/* ---- only what differs ---- */

static void comparing_writes_what_differs_and_nothing_else(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 0, 8 * MIB, 8 * MIB);
    bench.spec.compare = true;
    test_disk_fill(bench.source, 0, 6 * MIB, 42);
    test_disk_fill(bench.target, 0, 8 * MIB, 7);
    copy_bench_run_done(&bench);
    assert_int_equal(bench.progress.bytes_read, 8 * MIB);
    test_disk_forget_counts(bench.target);
    copy_bench_run_done(&bench);
    assert_int_equal(bench.target->bytes[BLOCK_WRITE] + bench.target->bytes[BLOCK_ZERO], 0);
    assert_int_equal(bench.progress.bytes_skipped, 8 * MIB);
    /* Three pages in two chunks, and a long run that becomes zeros. */
    test_disk_fill(bench.source, 3 * TEST_PAGE, TEST_PAGE, 1);
    test_disk_fill(bench.source, 9 * TEST_PAGE, TEST_PAGE, 2);
    test_disk_fill(bench.source, 5 * MIB + 512, 512, 3);
    test_disk_fill(bench.target, 7 * MIB, 128 * KIB, 4);
    test_disk_forget_counts(bench.target);
    copy_bench_run_done(&bench);
    assert_int_equal(bench.progress.bytes_written, 3 * TEST_PAGE);
    assert_int_equal(bench.progress.bytes_zeroed, 128 * KIB);
    assert_int_equal(bench.progress.bytes_skipped, 8 * MIB - 3 * TEST_PAGE - 128 * KIB);
    copy_bench_fini(&bench);
}

static void comparing_goes_on_after_a_lost_link(void **state)
{
    (void)state;
    for (unsigned n = 1; n < 60; n += TEST_STRIDE) {
        struct copy_bench bench;
        copy_bench_init(&bench, n, 4 * MIB + 512, 4 * MIB + 512);
        bench.spec.compare = true;
        test_disk_fill(bench.source, 0, 4 * MIB + 512, 42);
        test_opener_fault(n % 2 ? &bench.source_opener : &bench.target_opener,
                          (struct test_fault){.ops = TEST_ALL_OPS,
                                              .first = n / 2 + 1,
                                              .count = 1,
                                              .action = TEST_LINK_DOWN,
                                              .down_ns = SEC_NS});
        copy_bench_run_done(&bench);
        copy_bench_fini(&bench);
    }
}

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_disk_is_copied),
        cmocka_unit_test(sparse_disk_is_copied),
        cmocka_unit_test(empty_disk_is_zeroed_on_a_target_full_of_rubbish),
        cmocka_unit_test(nothing_is_copied_of_a_source_without_bytes),
        cmocka_unit_test(every_size_and_every_pair_of_block_sizes),
        cmocka_unit_test(larger_target_keeps_what_lies_behind),
        cmocka_unit_test(transfer_size_follows_the_devices),
        cmocka_unit_test(reads_only_what_the_map_calls_data),
        cmocka_unit_test(target_is_left_alone_where_its_map_says_zero),
        cmocka_unit_test(a_target_that_keeps_what_it_has_gets_the_rest),
        cmocka_unit_test(zeros_that_were_read_become_few_commands),
        cmocka_unit_test(zeros_inside_a_chunk_are_not_written),
        cmocka_unit_test(read_zeros_are_skipped_where_the_target_is_unmapped),
        cmocka_unit_test(small_gaps_are_read_along),
        cmocka_unit_test(map_that_costs_more_than_reading_is_given_up),
        cmocka_unit_test(map_that_never_answers_does_not_stop_the_copy),
        cmocka_unit_test(unknown_counts_as_data),
        cmocka_unit_test(requests_in_flight_are_bounded_and_used),
        cmocka_unit_test(window_grows_over_a_long_path),
        cmocka_unit_test(window_stays_small_on_a_short_path),
        cmocka_unit_test(verification_passes_on_what_was_copied),
        cmocka_unit_test(verification_names_the_first_byte_that_differs),
        cmocka_unit_test(what_does_not_suit_ends_before_the_first_write),
        cmocka_unit_test(opens_that_cannot_heal_end_it_and_others_are_tried_again),
        cmocka_unit_test(giving_up_is_a_policy),
        cmocka_unit_test(progress_is_seldom_and_checkpoints_are_in_time),
        cmocka_unit_test(moves_of_the_state_table),
        cmocka_unit_test(comparing_writes_what_differs_and_nothing_else),
        cmocka_unit_test(comparing_goes_on_after_a_lost_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
