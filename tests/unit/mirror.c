// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "block/front_dev.h"
#include "tests/unit/mirror_testing.h"

static void start_equal(struct mirror_bench *bench, uint64_t seed, uint64_t size)
{
    mirror_bench_init(bench, seed, size);
    mirror_bench_make_equal(bench);
    mirror_bench_start(bench);
    mirror_bench_until_equal(bench);
}

static void finish_equal(struct mirror_bench *bench)
{
    mirror_bench_until_equal(bench);
    assert_int_equal(mirror_bench_flush(bench), 0);
    mirror_bench_check_equal(bench);
    mirror_bench_fini(bench);
}

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

struct racer {
    struct block_req req;
    struct slice slice;
    uint8_t data[16384];
    unsigned *left;
};

static void racer_done(struct block_req *req)
{
    struct racer *racer = req->arg;
    assert_int_equal(req->status, 0);
    (*racer->left)--;
}

static bool none_left(void *arg)
{
    return *(unsigned *)arg == 0;
}

static void racer_start(struct mirror_bench *bench, struct racer *racer, uint64_t offset,
                        uint64_t len, unsigned flags, unsigned *left)
{
    racer->left = left;
    racer->slice = (struct slice){.data = racer->data, .len = len};
    racer->req = (struct block_req){.op = BLOCK_WRITE,
                                    .flags = flags,
                                    .offset = offset,
                                    .len = len,
                                    .slices = &racer->slice,
                                    .n_slices = 1,
                                    .done = racer_done,
                                    .arg = racer};
    blockdev_submit(bench->dev, &racer->req);
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
    start_restore(&bench, 70, 4 * MIB, &model);
    mirror_set_limits(bench.mirror, 1, 1 * KIB);
    assert_true(mirror_bench_until(&bench, MIRROR_COPYING, SEC_NS));
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
        start_restore(&bench, 75, 8192, &model);
        mirror_set_limits(bench.mirror, 1, 1 * KIB);
        assert_true(mirror_bench_until(&bench, MIRROR_COPYING, SEC_NS));
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
    start_restore(&bench, 73, 4 * MIB, &model);
    mirror_set_limits(bench.mirror, 1, 1 * KIB);
    assert_true(mirror_bench_until(&bench, MIRROR_COPYING, SEC_NS));
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
    start_restore(&bench, 71, 4 * MIB, &model);
    mirror_set_limits(bench.mirror, 1, 1 * KIB);
    assert_true(mirror_bench_until(&bench, MIRROR_COPYING, SEC_NS));
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

static void flag_set(void *arg)
{
    *(bool *)arg = true;
}

static bool flag_is_set(void *arg)
{
    return *(bool *)arg;
}

static void make_hole(struct test_disk *disk, uint64_t offset, uint64_t len)
{
    memset(disk->data + offset, 0, len);
    memset(disk->stable + offset, 0, len);
    memset(disk->mapped + offset / TEST_PAGE, 0, len / TEST_PAGE);
    memset(disk->stable_mapped + offset / TEST_PAGE, 0, len / TEST_PAGE);
}

/* Of 16 MiB: both have a hole at 2, 2 MiB long, the source one at 6, 4 MiB long, and the target one at 12, 1 MiB long. */
static void make_holes(struct mirror_bench *bench)
{
    make_hole(bench->source, 2 * MIB, 2 * MIB);
    make_hole(bench->target, 2 * MIB, 2 * MIB);
    make_hole(bench->source, 6 * MIB, 4 * MIB);
    make_hole(bench->target, 12 * MIB, 1 * MIB);
}

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
        cmocka_unit_test(restored),
        cmocka_unit_test(restored_while_in_use),
        cmocka_unit_test(a_restore_whose_leg_goes_away),
        cmocka_unit_test(a_restore_whose_leg_is_back_before_a_write_ends),
        cmocka_unit_test(a_restore_whose_leg_takes_promises_with_it),
        cmocka_unit_test(a_restore_that_breaks),
        cmocka_unit_test(a_restore_after_a_crash),
        cmocka_unit_test(a_restore_whose_source_forgets),
        cmocka_unit_test(a_restore_given_up),
        cmocka_unit_test(zeros_are_neither_read_nor_sent_twice),
        cmocka_unit_test(a_write_while_maps_are_asked),
        cmocka_unit_test(a_write_while_zeros_are_sent),
        cmocka_unit_test(a_source_that_loses_its_zeros),
        cmocka_unit_test(what_goes_wrong_with_maps_and_zeros),
        cmocka_unit_test(restored_by_maps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
