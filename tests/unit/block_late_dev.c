// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/block_io.h"

#include "base/log.h"
#include "base/random.h"
#include "block/fault_dev.h"
#include "block/late_dev.h"
#include "block/mem_dev.h"

enum { SIZE = 1 << 20, N = 16, HOLD_MS = 5000 };

static struct loop_sim *sim;
static struct loop *loop;
static struct mem_disk *disk;
static struct blockdev *late;
static struct blockdev *fault; /* what was opened last, while it is open */
static uint8_t content[SIZE];
static uint8_t data[N][4096];
static struct io ios[N];

/* Opens a fault device over memory, when it is told to. */
static struct {
    struct block_opener base;
    block_opened_fn done;
    void *arg;
    bool answers; /* by itself */
    struct error error;
    uint32_t block_bytes;
    unsigned opens;
    unsigned cancels;
    unsigned frees;
    struct loop_task task;
} opener;

static void opener_answer(void *arg)
{
    (void)arg;
    block_opened_fn done = opener.done;
    opener.done = NULL;
    if (opener.error.code != ERR_NONE) {
        done(opener.arg, NULL, &opener.error);
        return;
    }
    struct blockdev *mem;
    struct mem_dev_spec spec = {.disk = disk, .block_bytes = opener.block_bytes};
    assert_int_equal(mem_dev_new(loop, &spec, &mem), 0);
    assert_int_equal(fault_dev_new(mem, 1, &fault), 0);
    done(opener.arg, fault, NULL);
}

static void opener_open(struct block_opener *base, struct loop *on, block_opened_fn done, void *arg)
{
    assert_ptr_equal(base, &opener.base);
    assert_ptr_equal(on, loop);
    assert_null(opener.done);
    opener.opens++;
    opener.done = done;
    opener.arg = arg;
    if (opener.answers) {
        opener.task = (struct loop_task){.fn = opener_answer};
        loop_defer(loop, &opener.task);
    }
}

static void opener_cancel(struct block_opener *base)
{
    (void)base;
    opener.cancels++;
    error_set(&opener.error, ERR_TERMINATED, "given up");
    opener.task = (struct loop_task){.fn = opener_answer};
    loop_defer(loop, &opener.task);
}

static void opener_free(struct block_opener *base)
{
    (void)base;
    opener.frees++;
}

static const struct block_opener_ops opener_ops = {
    .open = opener_open, .cancel = opener_cancel, .free = opener_free};

static int setup(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    assert_int_equal(loop_sim_new(0, &sim), 0);
    assert_int_equal(loop_sim_add(sim, "test", &loop), 0);
    assert_int_equal(mem_disk_new(SIZE, 0, &disk), 0);
    for (unsigned i = 0; i < SIZE / 2; i++) {
        content[i] = (uint8_t)(i / 512 * 7 + i);
    }
    mem_disk_poke(disk, 0, content, SIZE / 2);
    memset(&opener, 0, sizeof(opener));
    opener.base.ops = &opener_ops;
    opener.answers = true;
    opener.block_bytes = 512;
    fault = NULL;
    struct late_spec spec = {.name = "bottom",
                             .opener = &opener.base,
                             .size_bytes = SIZE,
                             .block_bytes = 512,
                             .hold_ms = HOLD_MS};
    assert_int_equal(late_dev_new(loop, &spec, &late), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (late) {
        io_close(late);
    }
    assert_int_equal(opener.frees, 1);
    mem_disk_free(disk);
    loop_free(loop);
    loop_sim_free(sim);
    return 0;
}

static void read_at(unsigned i, uint64_t offset, uint64_t len)
{
    memset(data[i], 0xee, sizeof(data[i]));
    io_start(&ios[i], late, BLOCK_READ, offset, data[i], len, 0);
}

static void expect_content(unsigned i)
{
    assert_true(ios[i].done);
    assert_int_equal(ios[i].req.status, 0);
    assert_memory_equal(data[i], content + ios[i].req.offset, ios[i].req.len);
}

static void pass_ms(uint64_t ms)
{
    loop_sim_advance(sim, ms * MS_NS);
    loop_sim_run_until_idle(sim);
}

static void it_is_opened_when_it_is_first_read(void **state)
{
    (void)state;
    pass_ms(60000);
    assert_int_equal(opener.opens, 0);
    assert_int_equal(late->info.size_bytes, SIZE);
    assert_true(late->info.read_only);
    opener.answers = false;
    for (unsigned i = 0; i < 4; i++) {
        read_at(i, i * 4096, 4096);
    }
    loop_sim_run_until_idle(sim);
    assert_int_equal(opener.opens, 1);
    assert_false(ios[0].done);
    opener_answer(NULL);
    loop_sim_run_until_idle(sim);
    for (unsigned i = 0; i < 4; i++) {
        expect_content(i);
    }
    read_at(0, 8192, 512);
    loop_sim_run_until_idle(sim);
    expect_content(0);
    assert_int_equal(opener.opens, 1);
}

static void writes_are_refused_and_a_flush_has_nothing_to_do(void **state)
{
    (void)state;
    assert_int_equal(io_do(late, BLOCK_WRITE, 0, data[0], 512, 0), -EROFS);
    assert_int_equal(io_do(late, BLOCK_ZERO, 0, NULL, 512, 0), -EROFS);
    assert_int_equal(io_do(late, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
    assert_int_equal(opener.opens, 0);
}

static void who_waits_too_long_gets_an_error_and_tries_get_rarer(void **state)
{
    (void)state;
    error_set(&opener.error, ERR_REMOTE_UNREACHABLE, "nobody is there");
    read_at(0, 0, 512);
    pass_ms(HOLD_MS / 2);
    read_at(1, 0, 512);
    pass_ms(HOLD_MS / 2 - 1);
    assert_false(ios[0].done);
    pass_ms(1);
    assert_true(ios[0].done);
    assert_int_equal(ios[0].req.status, -ENOTCONN);
    assert_false(ios[1].done);
    pass_ms(HOLD_MS / 2);
    assert_int_equal(ios[1].req.status, -ENOTCONN);
    /* 0, 100, 300, 700, 1500, 3100, 6300 ms. */
    assert_int_equal(opener.opens, 7);
    /* Nobody waits: nobody asks. */
    pass_ms(60000);
    assert_true(opener.opens <= 8);
    opener.error.code = ERR_NONE;
    read_at(0, 512, 512);
    loop_sim_run_until_idle(sim);
    expect_content(0);
}

static void a_lost_link_is_waited_for(void **state)
{
    (void)state;
    read_at(0, 0, 512);
    loop_sim_run_until_idle(sim);
    fault_dev_add(fault, &(struct fault_rule){.action = FAULT_HOLD, .count = 3});
    for (unsigned i = 0; i < 3; i++) {
        read_at(i, i * 4096, 4096);
    }
    loop_sim_run_until_idle(sim);
    fault_dev_link(fault, BLOCK_EVENT_DOWN, 0, "cut");
    fault_dev_fail_held(fault, 3, -ENOTCONN);
    read_at(3, 16384, 4096);
    pass_ms(HOLD_MS - 1);
    for (unsigned i = 0; i < 4; i++) {
        assert_false(ios[i].done);
    }
    /* Its map is not known now. */
    struct io map;
    io_start(&map, late, BLOCK_MAP, 4096, NULL, 8192, 0);
    loop_sim_run_until_idle(sim);
    assert_int_equal(map.req.status, 0);
    assert_int_equal(map.extents[0].kind, BLOCK_EXTENT_UNKNOWN);
    assert_int_equal(map.extents[0].offset, 4096);
    assert_int_equal(map.extents[0].len, 8192);
    fault_dev_link(fault, BLOCK_EVENT_UP, 1, NULL);
    loop_sim_run_until_idle(sim);
    for (unsigned i = 0; i < 4; i++) {
        expect_content(i);
    }
    assert_int_equal(opener.opens, 1);
}

static void a_link_that_is_lost_without_a_word_is_left_alone_for_a_while(void **state)
{
    (void)state;
    read_at(0, 0, 512);
    loop_sim_run_until_idle(sim);
    fault_dev_add(fault,
                  &(struct fault_rule){.action = FAULT_FAIL, .count = 3, .status = -ENOTCONN});
    read_at(0, 4096, 4096);
    loop_sim_run_until_idle(sim);
    assert_int_equal(fault_dev_seen(fault, BLOCK_READ), 2);
    pass_ms(100);
    assert_int_equal(fault_dev_seen(fault, BLOCK_READ), 3);
    pass_ms(200);
    assert_int_equal(fault_dev_seen(fault, BLOCK_READ), 4);
    pass_ms(400);
    expect_content(0);
}

static void another_lun_is_stale_until_it_is_the_old_one_again(void **state)
{
    (void)state;
    error_set(&opener.error, ERR_LUN_CHANGED, "it is another one");
    read_at(0, 0, 512);
    loop_sim_run_until_idle(sim);
    assert_int_equal(ios[0].req.status, -ESTALE);
    read_at(0, 0, 512);
    loop_sim_run_until_idle(sim);
    assert_int_equal(ios[0].req.status, -ESTALE);
    opener.error.code = ERR_NONE;
    pass_ms(60000);
    read_at(0, 0, 512); /* asks for a look, and does not wait for it */
    loop_sim_run_until_idle(sim);
    read_at(0, 0, 512);
    loop_sim_run_until_idle(sim);
    expect_content(0);
    /* The device below finds it out by itself. */
    fault_dev_link(fault, BLOCK_EVENT_DOWN, 0, "cut");
    read_at(1, 0, 512);
    loop_sim_run_until_idle(sim);
    fault_dev_link(fault, BLOCK_EVENT_CHANGED, 1, "the disk was swapped");
    loop_sim_run_until_idle(sim);
    assert_int_equal(ios[1].req.status, -ESTALE);
    pass_ms(100);
    read_at(1, 0, 512);
    loop_sim_run_until_idle(sim);
    read_at(2, 0, 512);
    loop_sim_run_until_idle(sim);
    expect_content(2);
}

static void a_smaller_device_is_stale(void **state)
{
    (void)state;
    struct mem_disk *large = disk;
    assert_int_equal(mem_disk_new(SIZE / 2, 0, &disk), 0);
    read_at(0, 0, 512);
    loop_sim_run_until_idle(sim);
    assert_int_equal(ios[0].req.status, -ESTALE);
    mem_disk_free(disk);
    disk = large;
}

static void larger_blocks_below_are_read_whole(void **state)
{
    (void)state;
    opener.block_bytes = 4096;
    read_at(0, 512, 512);
    read_at(1, 4096 + 1024, 4096 - 512);
    read_at(2, 8192, 4096);
    loop_sim_run_until_idle(sim);
    for (unsigned i = 0; i < 3; i++) {
        expect_content(i);
    }
    struct io map;
    io_start(&map, late, BLOCK_MAP, 512, NULL, SIZE - 1024, 0);
    loop_sim_run_until_idle(sim);
    assert_int_equal(map.req.status, 0);
    assert_int_equal(map.extents[0].offset, 512);
    assert_int_equal(map.extents[0].kind, BLOCK_EXTENT_DATA);
    assert_int_equal(map.extents[0].len, SIZE / 2 - 512);
    assert_int_equal(map.extents[1].kind, BLOCK_EXTENT_ZERO);
}

static void giving_up_ends_what_waits(void **state)
{
    (void)state;
    error_set(&opener.error, ERR_REMOTE_UNREACHABLE, "nobody is there");
    read_at(0, 0, 512);
    loop_sim_run_until_idle(sim);
    late_dev_give_up(late);
    read_at(1, 0, 512);
    loop_sim_run_until_idle(sim);
    assert_int_equal(ios[0].req.status, -ENOTCONN);
    assert_int_equal(ios[1].req.status, -ENOTCONN);
}

static void a_close_does_not_wait_for_the_open(void **state)
{
    (void)state;
    bool closed = false;
    opener.answers = false;
    read_at(0, 0, 512);
    loop_sim_run_until_idle(sim);
    blockdev_close(late, io_flag, &closed);
    late = NULL;
    loop_sim_run_until_idle(sim);
    assert_true(closed);
    assert_int_equal(opener.cancels, 1);
    assert_int_equal(ios[0].req.status, -ECANCELED);
}

/* Whatever comes and goes: every read ends, with what is there or an error, and in its time. */
static void every_read_ends(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct random random;
        bool used[N] = {false};
        uint64_t began[N];
        random_seed(&random, seed);
        if (!late) {
            setup(NULL);
        }
        for (unsigned round = 0; round < 300; round++) {
            unsigned i = (unsigned)random_below(&random, N);
            unsigned dice = (unsigned)random_below(&random, 20);
            bool there = fault && opener.opens > 0 && !opener.done;
            if (!used[i]) {
                uint64_t offset = random_below(&random, SIZE / 512 - 8) * 512;
                began[i] = loop_sim_now_ns(sim);
                read_at(i, offset, (1 + random_below(&random, 8)) * 512);
                used[i] = true;
            }
            if (dice == 0) {
                error_set(&opener.error, ERR_REMOTE_UNREACHABLE, "nobody is there");
            } else if (dice < 4) {
                opener.error.code = ERR_NONE;
            } else if (dice == 4 && there) {
                fault_dev_add(fault, &(struct fault_rule){
                                         .action = FAULT_FAIL, .count = 2, .status = -ENOTCONN});
            } else if (dice == 5) {
                pass_ms(random_below(&random, HOLD_MS));
            } else {
                pass_ms(random_below(&random, 20));
            }
            for (unsigned k = 0; k < N; k++) {
                if (used[k] && ios[k].done) {
                    assert_true(ios[k].req.status == 0 || ios[k].req.status == -ENOTCONN);
                    if (ios[k].req.status == 0) {
                        expect_content(k);
                    }
                    used[k] = false;
                } else if (used[k]) {
                    assert_true(loop_sim_now_ns(sim) - began[k] <= HOLD_MS * MS_NS);
                }
            }
        }
        teardown(NULL);
        late = NULL;
    }
    setup(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_is_opened_when_it_is_first_read),
        TEST(writes_are_refused_and_a_flush_has_nothing_to_do),
        TEST(who_waits_too_long_gets_an_error_and_tries_get_rarer),
        TEST(a_lost_link_is_waited_for),
        TEST(a_link_that_is_lost_without_a_word_is_left_alone_for_a_while),
        TEST(another_lun_is_stale_until_it_is_the_old_one_again),
        TEST(a_smaller_device_is_stale),
        TEST(larger_blocks_below_are_read_whole),
        TEST(giving_up_ends_what_waits),
        TEST(a_close_does_not_wait_for_the_open),
        TEST(every_read_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
