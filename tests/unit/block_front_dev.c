// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/block_io.h"

#include "block/fault_dev.h"
#include "block/front_dev.h"
#include "block/mem_dev.h"

enum { SIZE = 1 << 20, N = 16, BLOCK = 4096 };

/* The front over a fault device over memory, so that the test decides when requests end. */
static struct loop_sim *sim;
static struct loop *loop;
static struct blockdev *mem[2];
static struct blockdev *fault[2];
static struct blockdev *front;
static uint8_t data[BLOCK];
static struct io ios[N];

static void below_make(int i, uint64_t size)
{
    assert_int_equal(mem_dev_new(loop, &(struct mem_dev_spec){.size_bytes = size}, &mem[i]), 0);
    assert_int_equal(fault_dev_new(mem[i], 1, &fault[i]), 0);
}

static int setup(void **state)
{
    (void)state;
    assert_int_equal(loop_sim_new(0, &sim), 0);
    assert_int_equal(loop_sim_add(sim, "test", &loop), 0);
    below_make(0, SIZE);
    below_make(1, SIZE * 2);
    assert_int_equal(front_dev_new(fault[0], &front), 0);
    memset(data, 1, sizeof(data));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (front) {
        io_close(front);
    }
    io_close(fault[0]);
    io_close(fault[1]);
    loop_free(loop);
    loop_sim_free(sim);
    return 0;
}

static void start_n(unsigned first, unsigned n, enum block_op op)
{
    bool payload = op == BLOCK_READ || op == BLOCK_WRITE;
    for (unsigned i = first; i < first + n; i++) {
        io_start(&ios[i], front, op, (uint64_t)i * BLOCK, payload ? data : NULL, BLOCK, 0);
    }
    loop_sim_run_until_idle(sim);
}

static void expect(unsigned first, unsigned n, bool done, int status)
{
    for (unsigned i = first; i < first + n; i++) {
        assert_int_equal(ios[i].done, done);
        if (done) {
            assert_int_equal(ios[i].req.status, status);
        }
    }
}

static bool byte_is(int i, uint64_t offset, uint8_t value)
{
    uint8_t seen;
    mem_disk_peek(mem_dev_disk(mem[i]), offset, &seen, 1);
    return seen == value;
}

static unsigned rule_hold(int i, unsigned count)
{
    return fault_dev_add(fault[i], &(struct fault_rule){.action = FAULT_HOLD, .count = count});
}

static void everything_passes_with_its_answer(void **state)
{
    (void)state;
    assert_ptr_equal(front_dev_below(front), fault[0]);
    assert_int_equal(front->info.size_bytes, SIZE);
    start_n(0, N, BLOCK_WRITE);
    expect(0, N, true, 0);
    struct io map;
    io_start(&map, front, BLOCK_MAP, 0, NULL, SIZE, 0);
    loop_sim_run_until_idle(sim);
    assert_int_equal(map.req.n_extents, 2);
    assert_int_equal(map.extents[0].len, N * BLOCK);
    fault_dev_add(fault[0], &(struct fault_rule){.action = FAULT_FAIL, .status = -ENOSPC});
    start_n(0, N, BLOCK_DISCARD);
    expect(0, N, true, -ENOSPC);
}

static void a_replacement_waits_for_what_is_below_and_holds_what_comes(void **state)
{
    (void)state;
    bool replaced = false;
    rule_hold(0, 2);
    start_n(0, 2, BLOCK_WRITE);
    assert_int_equal(front_dev_replace(front, fault[1], io_flag, &replaced), 0);
    assert_int_equal(front_dev_replace(front, fault[1], io_flag, &replaced), -EBUSY);
    start_n(2, 3, BLOCK_WRITE);
    assert_int_equal(fault_dev_seen(fault[0], BLOCK_WRITE), 2);
    assert_int_equal(fault_dev_seen(fault[1], BLOCK_WRITE), 0);
    fault_dev_release(fault[0], 1);
    loop_sim_run_until_idle(sim);
    assert_false(replaced);
    expect(0, 1, true, 0);
    fault_dev_release(fault[0], 1);
    loop_sim_run_until_idle(sim);
    assert_true(replaced);
    expect(0, 5, true, 0);
    assert_ptr_equal(front_dev_below(front), fault[1]);
    assert_int_equal(front->info.size_bytes, 2 * SIZE);
    assert_true(byte_is(0, BLOCK, 1) && byte_is(0, 2 * BLOCK, 0));
    assert_true(byte_is(1, BLOCK, 0) && byte_is(1, 2 * BLOCK, 1));
    /* The one before has no tie to the front any more. */
    fault_dev_link(fault[0], BLOCK_EVENT_CHANGED, 0, "");
    io_close(fault[0]);
    below_make(0, SIZE);
    assert_int_equal(io_do(front, BLOCK_READ, SIZE, data, BLOCK, 0), 0);
}

static void a_replacement_without_requests_is_told_later(void **state)
{
    (void)state;
    bool replaced = false;
    assert_int_equal(front_dev_replace(front, fault[1], io_flag, &replaced), 0);
    assert_false(replaced);
    io_start(&ios[0], front, BLOCK_WRITE, 0, data, BLOCK, 0);
    loop_sim_run_until_idle(sim);
    assert_true(replaced);
    assert_true(byte_is(1, 0, 1) && byte_is(0, 0, 0));
}

static void the_device_that_is_there_makes_a_barrier(void **state)
{
    (void)state;
    bool over = false;
    rule_hold(0, 1);
    start_n(0, 1, BLOCK_WRITE);
    assert_int_equal(front_dev_replace(front, fault[0], io_flag, &over), 0);
    start_n(1, 1, BLOCK_WRITE);
    expect(1, 1, false, 0);
    fault_dev_release(fault[0], 1);
    loop_sim_run_until_idle(sim);
    assert_true(over);
    expect(0, 2, true, 0);
    assert_ptr_equal(front_dev_below(front), fault[0]);
    /* Its events still arrive. */
    mem[0]->info.max_inflight = 3;
    fault_dev_link(fault[0], BLOCK_EVENT_UP, 0, "");
    blockdev_emit(mem[0], BLOCK_EVENT_UP, 0, "");
    assert_int_equal(front->info.max_inflight, 3);
}

static void what_waited_is_checked_against_the_new_device(void **state)
{
    (void)state;
    bool replaced = false;
    assert_int_equal(front_dev_replace(front, fault[1], io_flag, &replaced), 0);
    loop_sim_run_until_idle(sim);
    replaced = false;
    assert_int_equal(front_dev_replace(front, fault[0], io_flag, &replaced), 0);
    io_start(&ios[0], front, BLOCK_WRITE, SIZE, data, BLOCK, 0);
    io_start(&ios[1], front, BLOCK_WRITE, SIZE - BLOCK, data, BLOCK, 0);
    loop_sim_run_until_idle(sim);
    assert_true(replaced);
    expect(0, 1, true, -EINVAL);
    expect(1, 1, true, 0);
}

static void replace_again(void *arg)
{
    assert_int_equal(front_dev_replace(front, fault[0], io_flag, arg), 0);
}

static void the_callback_may_begin_the_next_replacement(void **state)
{
    (void)state;
    bool second = false;
    assert_int_equal(front_dev_replace(front, fault[1], replace_again, &second), 0);
    io_start(&ios[0], front, BLOCK_WRITE, 0, data, BLOCK, 0);
    loop_sim_run_until_idle(sim);
    assert_true(second);
    expect(0, 1, true, 0);
    assert_true(byte_is(0, 0, 1) && byte_is(1, 0, 0));
}

static void a_close_drains_what_is_below(void **state)
{
    (void)state;
    bool closed = false;
    rule_hold(0, 2);
    start_n(0, 2, BLOCK_WRITE);
    blockdev_close(front, io_flag, &closed);
    front = NULL;
    loop_sim_run_until_idle(sim);
    assert_false(closed);
    fault_dev_release(fault[0], 2);
    loop_sim_run_until_idle(sim);
    assert_true(closed);
    expect(0, 2, true, 0);
}

static void a_close_while_replacing_ends_what_waits_and_comes_after_the_swap(void **state)
{
    (void)state;
    bool closed = false;
    bool replaced = false;
    rule_hold(0, 1);
    start_n(0, 1, BLOCK_WRITE);
    assert_int_equal(front_dev_replace(front, fault[1], io_flag, &replaced), 0);
    start_n(1, 3, BLOCK_WRITE);
    blockdev_close(front, io_flag, &closed);
    front = NULL;
    loop_sim_run_until_idle(sim);
    expect(1, 3, true, -ECANCELED);
    assert_false(closed || replaced);
    fault_dev_release(fault[0], 1);
    loop_sim_run_until_idle(sim);
    assert_true(closed && replaced);
    expect(0, 1, true, 0);
    assert_int_equal(fault_dev_seen(fault[1], BLOCK_WRITE), 0);
}

static void close_front(void *arg)
{
    blockdev_close(front, io_flag, arg);
    front = NULL;
}

static void the_callback_may_close(void **state)
{
    (void)state;
    bool closed = false;
    assert_int_equal(front_dev_replace(front, fault[1], close_front, &closed), 0);
    io_start(&ios[0], front, BLOCK_WRITE, 0, data, BLOCK, 0);
    loop_sim_run_until_idle(sim);
    assert_true(closed);
    expect(0, 1, true, -ECANCELED);
}

static void read_only_refuses_new_writes_and_keeps_those_under_way(void **state)
{
    (void)state;
    rule_hold(0, 1);
    start_n(0, 1, BLOCK_WRITE);
    front_dev_set_read_only(front, true);
    assert_true(front->info.read_only);
    start_n(1, 1, BLOCK_WRITE);
    start_n(2, 1, BLOCK_ZERO);
    start_n(3, 1, BLOCK_READ);
    fault_dev_release(fault[0], 1);
    loop_sim_run_until_idle(sim);
    expect(0, 1, true, 0);
    expect(1, 2, true, -EROFS);
    expect(3, 1, true, 0);
    /* It stays so over a replacement and an event from below, and goes when told. */
    bool replaced = false;
    assert_int_equal(front_dev_replace(front, fault[1], io_flag, &replaced), 0);
    loop_sim_run_until_idle(sim);
    fault_dev_link(fault[1], BLOCK_EVENT_UP, 0, "");
    assert_true(front->info.read_only);
    front_dev_set_read_only(front, false);
    start_n(0, 1, BLOCK_WRITE);
    expect(0, 1, true, 0);
}

static void a_device_that_is_read_only_itself_stays_so(void **state)
{
    (void)state;
    fault[0]->info.read_only = true;
    front_dev_refresh(front);
    front_dev_set_read_only(front, false);
    start_n(0, 1, BLOCK_WRITE);
    expect(0, 1, true, -EROFS);
    fault[0]->info.read_only = false;
}

static void a_refresh_takes_the_size_over(void **state)
{
    (void)state;
    fault[0]->info.size_bytes = SIZE - BLOCK;
    io_start(&ios[0], front, BLOCK_READ, SIZE - BLOCK, data, BLOCK, 0);
    front_dev_refresh(front);
    assert_int_equal(front->info.size_bytes, SIZE - BLOCK);
    loop_sim_run_until_idle(sim);
    expect(0, 1, true, -EINVAL);
}

static void count(void *arg)
{
    ++*(unsigned *)arg;
}

static void a_watch_tells_the_first_change_once(void **state)
{
    (void)state;
    unsigned seen = 0;
    front_dev_watch(front, count, &seen);
    start_n(0, 2, BLOCK_READ);
    io_start(&ios[2], front, BLOCK_FLUSH, 0, NULL, 0, 0);
    loop_sim_run_until_idle(sim);
    assert_int_equal(seen, 0);
    static const enum block_op changes[] = {BLOCK_WRITE, BLOCK_ZERO, BLOCK_DISCARD};
    for (unsigned i = 0; i < 3; i++) {
        front_dev_watch(front, count, &seen);
        start_n(0, N, changes[i]);
        assert_int_equal(seen, i + 1);
    }
    start_n(0, N, BLOCK_WRITE);
    assert_int_equal(seen, 3);
}

static void a_watch_that_was_taken_away_or_replaced_is_silent(void **state)
{
    (void)state;
    unsigned old = 0;
    unsigned current = 0;
    front_dev_watch(front, count, &old);
    io_start(&ios[0], front, BLOCK_WRITE, 0, data, BLOCK, 0);
    front_dev_watch(front, count, &current);
    loop_sim_run_until_idle(sim);
    assert_int_equal(old + current, 0);
    start_n(0, 1, BLOCK_WRITE);
    assert_int_equal(current, 1);
    front_dev_watch(front, count, &current);
    io_start(&ios[0], front, BLOCK_WRITE, 0, data, BLOCK, 0);
    front_dev_watch(front, NULL, NULL);
    loop_sim_run_until_idle(sim);
    assert_int_equal(old, 0);
    assert_int_equal(current, 1);
}

static void a_write_that_waits_is_seen_when_it_goes_down(void **state)
{
    (void)state;
    unsigned seen = 0;
    bool replaced = false;
    rule_hold(0, 1);
    start_n(0, 1, BLOCK_WRITE);
    assert_int_equal(front_dev_replace(front, fault[1], io_flag, &replaced), 0);
    front_dev_watch(front, count, &seen);
    start_n(1, 1, BLOCK_WRITE);
    assert_int_equal(seen, 0);
    fault_dev_release(fault[0], 1);
    loop_sim_run_until_idle(sim);
    assert_int_equal(seen, 1);
    /* A refused write changes nothing. */
    front_dev_watch(front, count, &seen);
    front_dev_set_read_only(front, true);
    start_n(1, 1, BLOCK_WRITE);
    assert_int_equal(seen, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static void the_inner_side_knows_no_write_protection_and_is_not_watched(void **state)
{
    (void)state;
    struct blockdev *inner = front_dev_inner(front);
    bool changed = false;
    bool replaced = false;
    struct io io;
    front_dev_set_read_only(front, true);
    front_dev_watch(front, io_flag, &changed);
    assert_int_equal(io_do(front, BLOCK_WRITE, 0, data, BLOCK, 0), -EROFS);
    assert_int_equal(io_do(inner, BLOCK_WRITE, 0, data, BLOCK, 0), 0);
    assert_true(byte_is(0, 0, 1));
    rule_hold(0, 1);
    io_start(&io, inner, BLOCK_WRITE, BLOCK, data, BLOCK, 0);
    assert_int_equal(front_dev_replace(front, fault[1], io_flag, &replaced), 0);
    loop_sim_run_until_idle(sim);
    assert_false(replaced);
    fault_dev_release(fault[0], 1);
    loop_sim_run_until_idle(sim);
    assert_true(replaced && io.done);
    assert_int_equal(io_do(inner, BLOCK_WRITE, 2 * BLOCK, data, BLOCK, 0), 0);
    assert_true(byte_is(1, 2 * BLOCK, 1));
    assert_false(changed);
    assert_int_equal(inner->info.size_bytes, 2 * SIZE);
}

static unsigned n_events;

static void event_seen(void *arg, struct blockdev *dev, enum block_event event, unsigned attempts,
                       const char *detail)
{
    (void)arg, (void)dev, (void)event, (void)attempts, (void)detail;
    n_events++;
}

static void the_front_that_was_put_over_it_last_hears_of_events(void **state)
{
    (void)state;
    struct blockdev *second;
    front->on_event = event_seen;
    assert_int_equal(front_dev_new(fault[0], &second), 0);
    fault_dev_link(fault[0], BLOCK_EVENT_DOWN, 1, "");
    assert_int_equal(n_events, 0);
    io_close(second);
    front_dev_refresh(front);
    fault_dev_link(fault[0], BLOCK_EVENT_UP, 1, "");
    assert_int_equal(n_events, 1);
    assert_int_equal(front_dev_new(fault[0], &second), 0);
    io_close(front);
    second->on_event = event_seen;
    fault_dev_link(fault[0], BLOCK_EVENT_DOWN, 1, "");
    assert_int_equal(n_events, 2);
    fault_dev_link(fault[0], BLOCK_EVENT_UP, 1, "");
    front = second;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(everything_passes_with_its_answer),
        TEST(a_replacement_waits_for_what_is_below_and_holds_what_comes),
        TEST(a_replacement_without_requests_is_told_later),
        TEST(the_device_that_is_there_makes_a_barrier),
        TEST(what_waited_is_checked_against_the_new_device),
        TEST(the_callback_may_begin_the_next_replacement),
        TEST(a_close_drains_what_is_below),
        TEST(a_close_while_replacing_ends_what_waits_and_comes_after_the_swap),
        TEST(the_callback_may_close),
        TEST(read_only_refuses_new_writes_and_keeps_those_under_way),
        TEST(a_device_that_is_read_only_itself_stays_so),
        TEST(a_refresh_takes_the_size_over),
        TEST(a_watch_tells_the_first_change_once),
        TEST(a_watch_that_was_taken_away_or_replaced_is_silent),
        TEST(a_write_that_waits_is_seen_when_it_goes_down),
        TEST(the_inner_side_knows_no_write_protection_and_is_not_watched),
        TEST(the_front_that_was_put_over_it_last_hears_of_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
