// SPDX-License-Identifier: Apache-2.0
/* Verbs in every phase and at every request, restarts from every checkpoint, limits. */
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
#include "replication/copier.h"
#include "tests/unit/copy_testing.h"

static void bench_init(struct copy_bench *bench, uint64_t seed)
{
    uint64_t size = 2 * MIB + 1536;
    copy_bench_init(bench, seed, size, size + 2560);
    test_disk_fill(bench->source, 0, 600 * KIB, 1);
    test_disk_fill(bench->source, 700 * KIB, 64 * KIB, 2);
    test_disk_fill(bench->source, 1024 * KIB, 256 * KIB, 3);
    test_disk_fill(bench->source, 2 * MIB - 8192, 8192 + 1536, 4);
    bench->source_opener.spec.max_bytes = 64 * KIB;
    bench->source_opener.spec.max_inflight = 4;
    bench->target_opener.spec.max_inflight = 5;
    bench->target_opener.spec.block_bytes = 4096;
    bench->source_opener.spec.delay_ns = 10 * MS_NS;
    bench->source_opener.spec.delay_spread_ns = 50 * MS_NS;
    bench->target_opener.spec.delay_ns = 10 * MS_NS;
    bench->target_opener.spec.delay_spread_ns = 50 * MS_NS;
    bench->spec.checkpoint_ns = 20 * MS_NS;
    bench->spec.verify = true;
}

static unsigned requests(const struct copy_bench *bench)
{
    return bench->source->numbered + bench->target->numbered;
}

struct request_wait {
    struct copy_bench *bench;
    unsigned at;
};

static bool is_at_request(void *arg)
{
    struct request_wait *wait = arg;
    return wait->bench->ended || requests(wait->bench) >= wait->at;
}

/* False: it ended before. */
static bool until_request(struct copy_bench *bench, unsigned at)
{
    struct request_wait wait = {.bench = bench, .at = at};
    assert_true(loop_sim_run_until(bench->sim, is_at_request, &wait, 60 * SEC_NS));
    return !bench->ended;
}

/* False: it ended before, and is gone. */
static bool start_until(struct copy_bench *bench, unsigned at)
{
    bench_init(bench, at);
    copy_bench_start(bench);
    if (until_request(bench, at)) {
        return true;
    }
    copy_bench_fini(bench);
    return false;
}

static void finish_done(struct copy_bench *bench)
{
    assert_true(copy_bench_finish(bench, 60 * SEC_NS));
    assert_int_equal(bench->progress.phase, COPY_DONE);
    copy_bench_fini(bench);
}

static void expect_suspended(struct copy_bench *bench)
{
    assert_true(copy_bench_until_phase(bench, COPY_SUSPENDED, 5 * SEC_NS));
    assert_int_equal(bench->source_opener.live + bench->target_opener.live, 0);
    assert_int_equal(bench->source->outstanding + bench->target->outstanding, 0);
    assert_int_equal(bench->progress.bytes_done, bench->progress.checkpoint_bytes);
    assert_int_equal(bench->progress.bytes_per_second, 0);
}

static void suspended_and_resumed_at_every_request(void **state)
{
    (void)state;
    unsigned at = 0;
    for (;; at += TEST_STRIDE) {
        struct copy_bench bench;
        if (!start_until(&bench, at)) {
            break;
        }
        copy_suspend(bench.copy);
        loop_sim_run_until(bench.sim, is_at_request,
                           &(struct request_wait){.bench = &bench, .at = UINT32_MAX}, 2 * SEC_NS);
        if (!bench.ended) {
            expect_suspended(&bench);
            unsigned before = requests(&bench);
            loop_sim_advance(bench.sim, 100 * SEC_NS);
            assert_int_equal(requests(&bench), before);
            copy_resume(bench.copy);
            assert_true(copy_bench_finish(&bench, 60 * SEC_NS));
        }
        assert_int_equal(bench.progress.phase, COPY_DONE);
        copy_bench_fini(&bench);
    }
    assert_in_range(at, 40, 1000);
}

static void resumed_while_still_draining(void **state)
{
    (void)state;
    for (unsigned at = 0; at < 80; at += TEST_STRIDE) {
        for (uint64_t later_ns = 0; later_ns < 120 * MS_NS;
             later_ns += (TEST_STRIDE == 1 ? 20 : 50) * MS_NS) {
            struct copy_bench bench;
            bench_init(&bench, at);
            copy_bench_start(&bench);
            if (until_request(&bench, at)) {
                copy_suspend(bench.copy);
                loop_sim_advance(bench.sim, later_ns);
                copy_resume(bench.copy);
                assert_true(copy_bench_finish(&bench, 60 * SEC_NS));
            }
            assert_int_equal(bench.progress.phase, COPY_DONE);
            copy_bench_fini(&bench);
        }
    }
}

static void suspend_saves_what_was_read(void **state)
{
    (void)state;
    struct copy_bench bench;
    bench_init(&bench, 1);
    bench.spec.checkpoint_ns = 0; /* 2 s: longer than the copy takes */
    copy_bench_start(&bench);
    assert_true(copy_bench_until_phase(&bench, COPY_COPYING, SEC_NS));
    loop_sim_advance(bench.sim, 100 * MS_NS);
    copy_suspend(bench.copy);
    expect_suspended(&bench);
    assert_int_equal(bench.n_checkpoints, 1);
    assert_in_range(bench.progress.checkpoint_bytes, 64 * KIB, 2 * MIB - 1);
    /* Idempotent; and what is suspended while suspended stays so. */
    copy_suspend(bench.copy);
    loop_sim_advance(bench.sim, SEC_NS);
    assert_int_equal(bench.progress.phase, COPY_SUSPENDED);
    uint64_t read = bench.progress.bytes_read;
    assert_in_range(read, 64 * KIB, bench.progress.checkpoint_bytes);
    copy_resume(bench.copy);
    copy_resume(bench.copy);
    finish_done(&bench);
}

static void cancelled_at_every_request(void **state)
{
    (void)state;
    for (unsigned at = 0;; at += TEST_STRIDE) {
        struct copy_bench bench;
        if (!start_until(&bench, at)) {
            break;
        }
        copy_cancel(bench.copy);
        uint64_t start_ns = loop_sim_now_ns(bench.sim);
        assert_true(copy_bench_finish(&bench, SEC_NS));
        /* What is under way at the target is waited for, nothing else is. */
        assert_in_range(loop_sim_now_ns(bench.sim) - start_ns, 0, 200 * MS_NS);
        assert_true(bench.progress.phase == COPY_CANCELLED || bench.progress.phase == COPY_DONE);
        copy_bench_fini(&bench);
    }
}

static void shut_down_at_every_request_goes_on_from_there(void **state)
{
    (void)state;
    for (unsigned at = 0;; at += TEST_STRIDE) {
        struct copy_bench bench;
        if (!start_until(&bench, at)) {
            break;
        }
        copy_shutdown(bench.copy);
        assert_true(copy_bench_finish(&bench, 2 * SEC_NS));
        if (bench.progress.phase != COPY_DONE) {
            assert_int_equal(bench.progress.phase, COPY_CANCELLED);
            assert_int_equal(bench.progress.bytes_done, bench.progress.checkpoint_bytes);
            bench.spec.checkpoint_bytes = bench.progress.checkpoint_bytes;
            bench.spec.verifying = bench.progress.verifying;
            copy_bench_end(&bench);
            test_disk_lose(bench.target, NULL);
            copy_bench_run_done(&bench);
        }
        copy_bench_fini(&bench);
    }
}

static void shutdown_does_not_wait_for_a_target_that_hangs(void **state)
{
    (void)state;
    struct copy_bench bench;
    bench_init(&bench, 1);
    bench.target_opener.spec.delay_ns = 3600 * SEC_NS;
    copy_bench_start(&bench);
    assert_true(copy_bench_until_phase(&bench, COPY_COPYING, SEC_NS));
    loop_sim_advance(bench.sim, 50 * MS_NS);
    copy_shutdown(bench.copy);
    assert_true(copy_bench_finish(&bench, 2 * SEC_NS));
    assert_int_equal(bench.progress.phase, COPY_CANCELLED);
    copy_bench_fini(&bench);
}

/* Puts the copy into a phase, as far as one can from outside. */
static void reach(struct copy_bench *bench, enum copy_phase phase)
{
    switch (phase) {
    case COPY_RETRY:
        copy_bench_start(bench);
        assert_true(copy_bench_until_phase(bench, COPY_COPYING, SEC_NS));
        test_opener_link_down(&bench->target_opener, 10 * SEC_NS);
        break;
    case COPY_SUSPENDED:
        bench->spec.start_suspended = true;
        copy_bench_start(bench);
        break;
    case COPY_OPENING:
        bench->source_opener.open_delay_ns = SEC_NS;
        copy_bench_start(bench);
        break;
    default:
        copy_bench_start(bench);
        break;
    }
    assert_true(phase == COPY_QUEUED || copy_bench_until_phase(bench, phase, 10 * SEC_NS));
}

static void every_verb_in_every_phase(void **state)
{
    (void)state;
    enum verb { SUSPEND, RESUME, CANCEL, SHUTDOWN, VERBS };
    static void (*const verbs[VERBS])(struct copy *) = {copy_suspend, copy_resume, copy_cancel,
                                                        copy_shutdown};
    for (unsigned phase = COPY_QUEUED; phase <= COPY_BROKEN; phase++) {
        for (unsigned verb = 0; verb < VERBS; verb++) {
            struct copy_bench bench;
            bench_init(&bench, phase);
            if (phase == COPY_CANCELLED) {
                reach(&bench, COPY_COPYING);
                copy_cancel(bench.copy);
                assert_true(copy_bench_until_phase(&bench, phase, SEC_NS));
            } else if (phase == COPY_BROKEN) {
                bench.source_opener.fail_opens = 1;
                bench.source_opener.open_error = ERR_LUN_CHANGED;
                reach(&bench, phase);
            } else {
                reach(&bench, phase);
            }
            bool had_ended = bench.ended;
            verbs[verb](bench.copy);
            loop_sim_advance(bench.sim, 60 * SEC_NS);
            if (had_ended) {
                assert_int_equal(bench.progress.phase, phase);
            } else {
                static const enum copy_phase expected[VERBS] = {COPY_SUSPENDED, COPY_DONE,
                                                                COPY_CANCELLED, COPY_CANCELLED};
                assert_int_equal(bench.progress.phase, expected[verb]);
            }
            copy_bench_fini(&bench);
        }
    }
}

static void a_start_suspended_opens_nothing(void **state)
{
    (void)state;
    struct copy_bench bench;
    bench_init(&bench, 1);
    bench.spec.start_suspended = true;
    copy_bench_start(&bench);
    loop_sim_advance(bench.sim, 10 * SEC_NS);
    assert_int_equal(bench.progress.phase, COPY_SUSPENDED);
    assert_int_equal(bench.source_opener.opens + bench.target_opener.opens, 0);
    copy_resume(bench.copy);
    finish_done(&bench);
}

static void suspend_while_the_target_is_away_keeps_the_checkpoint(void **state)
{
    (void)state;
    struct copy_bench bench;
    bench_init(&bench, 1);
    reach(&bench, COPY_RETRY);
    copy_suspend(bench.copy);
    expect_suspended(&bench);
    copy_resume(bench.copy);
    finish_done(&bench);
}

static void suspend_while_an_open_hangs(void **state)
{
    (void)state;
    struct copy_bench bench;
    bench_init(&bench, 1);
    bench.target_opener.open_delay_ns = 3600 * SEC_NS;
    copy_bench_start(&bench);
    assert_true(copy_bench_until_phase(&bench, COPY_OPENING, SEC_NS));
    copy_suspend(bench.copy);
    assert_true(copy_bench_until_phase(&bench, COPY_SUSPENDED, SEC_NS));
    bench.target_opener.open_delay_ns = 0;
    copy_resume(bench.copy);
    finish_done(&bench);
}

/* ---- restarts ---- */

/* The service was killed at some moment: the target has what was flushed, the record says the last
 * checkpoint, or an older one. */
static void restarted_from_every_checkpoint(void **state)
{
    (void)state;
    unsigned n_restarts = 0;
    for (unsigned at = 1;; at++) {
        struct copy_bench bench;
        bench_init(&bench, at);
        bench.spec.verify = false;
        copy_bench_start(&bench);
        struct request_wait wait = {.bench = &bench};
        bool more = true;
        /* Runs until the at-th checkpoint has been told. */
        while (more && bench.n_checkpoints < at) {
            wait.at = requests(&bench) + 1;
            more = loop_sim_run_until(bench.sim, is_at_request, &wait, 60 * SEC_NS) && !bench.ended;
        }
        if (bench.ended) {
            copy_bench_fini(&bench);
            break;
        }
        uint64_t checkpoint = bench.checkpoints[at - 1];
        copy_cancel(bench.copy);
        assert_true(copy_bench_finish(&bench, SEC_NS));
        copy_bench_end(&bench);
        test_disk_lose(bench.target, NULL);
        test_disk_forget_counts(bench.target);
        test_disk_forget_counts(bench.source);
        bench.spec.checkpoint_bytes = checkpoint;
        copy_bench_run_done(&bench);
        /* Not a byte below the checkpoint is touched (but for the grain it lies in). */
        uint64_t rest = bench.spec.bytes_total - checkpoint + 4096;
        assert_in_range(bench.progress.bytes_read, 0, rest);
        assert_in_range(bench.target->bytes[BLOCK_WRITE] + bench.target->bytes[BLOCK_ZERO], 0,
                        rest + 4096);
        copy_bench_fini(&bench);
        n_restarts++;
    }
    assert_in_range(n_restarts, 3, 1000);
}

static void restarted_within_the_verification(void **state)
{
    (void)state;
    struct copy_bench bench;
    bench_init(&bench, 1);
    copy_bench_run_done(&bench);
    bench.spec.checkpoint_bytes = 1 * MIB;
    bench.spec.verifying = true;
    test_disk_forget_counts(bench.target);
    copy_bench_run_done(&bench);
    assert_int_equal(bench.target->bytes[BLOCK_WRITE] + bench.target->bytes[BLOCK_ZERO], 0);
    assert_in_range(bench.target->bytes[BLOCK_READ], 1, 1 * MIB + 8192);
    copy_bench_fini(&bench);
}

static void restarted_at_the_end(void **state)
{
    (void)state;
    struct copy_bench bench;
    bench_init(&bench, 1);
    bench.spec.verify = false;
    copy_bench_run_done(&bench);
    bench.spec.checkpoint_bytes = bench.spec.bytes_total;
    test_disk_forget_counts(bench.target);
    copy_bench_run_done(&bench);
    assert_int_equal(bench.target->bytes[BLOCK_WRITE] + bench.target->bytes[BLOCK_ZERO], 0);
    copy_bench_fini(&bench);
}

/* ---- limits ---- */

static void bandwidth_is_limited(void **state)
{
    (void)state;
    static const uint64_t limits[] = {512 * KIB, 4 * MIB, 32 * MIB};
    for (unsigned i = TEST_STRIDE == 1 ? 0 : 1; i < ARRAY_LEN(limits); i++) {
        struct copy_bench bench;
        copy_bench_init(&bench, i, 32 * MIB, 32 * MIB);
        test_disk_fill(bench.source, 0, 32 * MIB, 3);
        bench.spec.bandwidth_limit = limits[i];
        uint64_t took_ms = copy_bench_run_done(&bench) / MS_NS;
        uint64_t expected_ms = 32 * MIB * 1000 / limits[i];
        assert_in_range(took_ms, expected_ms - expected_ms / 50 - 60,
                        expected_ms + expected_ms / 50 + 60);
        copy_bench_fini(&bench);
    }
}

static void bandwidth_limit_changes_while_it_runs(void **state)
{
    (void)state;
    struct copy_bench bench;
    copy_bench_init(&bench, 1, 32 * MIB, 32 * MIB);
    test_disk_fill(bench.source, 0, 32 * MIB, 3);
    bench.spec.bandwidth_limit = 1; /* one byte a second: as good as stopped */
    copy_bench_start(&bench);
    assert_true(copy_bench_until_phase(&bench, COPY_COPYING, SEC_NS));
    loop_sim_advance(bench.sim, 100 * SEC_NS);
    assert_in_range(bench.progress.bytes_done, 0, 256 * KIB);
    copy_set_limits(bench.copy, 0, 4 * MIB);
    loop_sim_advance(bench.sim, 4 * SEC_NS);
    assert_in_range(bench.progress.bytes_done, 15 * MIB, 17 * MIB);
    copy_set_limits(bench.copy, 0, 0);
    uint64_t start_ns = loop_sim_now_ns(bench.sim);
    assert_true(copy_bench_finish(&bench, 10 * SEC_NS));
    assert_in_range(loop_sim_now_ns(bench.sim) - start_ns, 0, 200 * MS_NS);
    copy_bench_fini(&bench);
}

static void priority_scales_the_window(void **state)
{
    (void)state;
    static const unsigned priorities[] = {1, 2, 3, 4};
    unsigned last = 0;
    for (unsigned i = 0; i < ARRAY_LEN(priorities); i += TEST_STRIDE == 1 ? 1 : 3) {
        struct copy_bench bench;
        copy_bench_init(&bench, i, 32 * MIB, 32 * MIB);
        test_disk_fill(bench.source, 0, 32 * MIB, 3);
        bench.source_opener.spec.max_inflight = 64;
        bench.target_opener.spec.max_inflight = 64;
        bench.source_opener.spec.bytes_per_second = 100 * MIB;
        bench.spec.priority = priorities[i];
        copy_bench_run_done(&bench);
        assert_in_range(bench.source->most_outstanding, last + 1, 64);
        last = bench.source->most_outstanding;
        copy_bench_fini(&bench);
    }
}

/* Four copies behind one line of 100 MiB/s; answers what each had done after a while. */
static void share(const unsigned priorities[4], uint64_t done[4])
{
    static struct copy_bench benches[4];
    uint64_t line_free_at_ns = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (i == 0) {
            copy_bench_init(&benches[0], 0, 64 * MIB, 64 * MIB);
        } else {
            copy_bench_init_beside(&benches[i], &benches[0], i, 64 * MIB, 64 * MIB);
        }
        struct copy_bench *bench = &benches[i];
        test_disk_fill(bench->source, 0, 64 * MIB, i);
        bench->source_opener.spec.max_inflight = 64;
        bench->source_opener.spec.bytes_per_second = 100 * MIB;
        bench->source_opener.spec.line_free_at_ns = &line_free_at_ns;
        bench->spec.priority = priorities[i];
        copy_bench_start(bench);
    }
    loop_sim_advance(benches[0].sim, 1000 * MS_NS);
    for (unsigned i = 4; i-- > 0;) {
        done[i] = benches[i].progress.bytes_read;
        copy_bench_fini(&benches[i]);
    }
}

static void copies_share_a_line_fairly(void **state)
{
    (void)state;
    uint64_t done[4];
    if (TEST_STRIDE != 1) {
        skip(); /* half a gigabyte of disks, for a question of timing */
    }
    share((const unsigned[]){0, 2, 0, 2}, done);
    for (unsigned i = 0; i < 4; i++) {
        /* 25 each if it were exact: who comes late takes the others' queue for the path. */
        assert_in_range(done[i], 15 * MIB, 40 * MIB);
    }
    share((const unsigned[]){1, 2, 3, 4}, done);
    for (unsigned i = 1; i < 4; i++) {
        assert_true(done[i] > done[i - 1] + done[i - 1] / 2);
    }
}

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(suspended_and_resumed_at_every_request),
        cmocka_unit_test(resumed_while_still_draining),
        cmocka_unit_test(suspend_saves_what_was_read),
        cmocka_unit_test(cancelled_at_every_request),
        cmocka_unit_test(shut_down_at_every_request_goes_on_from_there),
        cmocka_unit_test(shutdown_does_not_wait_for_a_target_that_hangs),
        cmocka_unit_test(every_verb_in_every_phase),
        cmocka_unit_test(a_start_suspended_opens_nothing),
        cmocka_unit_test(suspend_while_the_target_is_away_keeps_the_checkpoint),
        cmocka_unit_test(suspend_while_an_open_hangs),
        cmocka_unit_test(restarted_from_every_checkpoint),
        cmocka_unit_test(restarted_within_the_verification),
        cmocka_unit_test(restarted_at_the_end),
        cmocka_unit_test(bandwidth_is_limited),
        cmocka_unit_test(bandwidth_limit_changes_while_it_runs),
        cmocka_unit_test(priority_scales_the_window),
        cmocka_unit_test(copies_share_a_line_fairly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
