// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/block_io.h"

#include "base/random.h"
#include "block/fault_dev.h"
#include "block/mem_dev.h"

enum { SIZE = 1 << 20, N = 20 };

static struct loop_sim *sim;
static struct loop *loop;
static struct blockdev *mem;
static struct blockdev *dev;
static uint8_t data[4096];
static struct io ios[N];

static int setup_seed(uint64_t seed)
{
    assert_int_equal(loop_sim_new(0, &sim), 0);
    assert_int_equal(loop_sim_add(sim, "test", &loop), 0);
    assert_int_equal(mem_dev_new(loop, &(struct mem_dev_spec){.size_bytes = SIZE}, &mem), 0);
    assert_int_equal(fault_dev_new(mem, seed, &dev), 0);
    memset(data, 1, sizeof(data));
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return setup_seed(1);
}

static int teardown(void **state)
{
    (void)state;
    io_close(dev);
    loop_free(loop);
    loop_sim_free(sim);
    return 0;
}

static void start_all(enum block_op op)
{
    bool payload = op == BLOCK_READ || op == BLOCK_WRITE;
    for (int i = 0; i < N; i++) {
        io_start(&ios[i], dev, op, (uint64_t)i * 4096, payload ? data : NULL, 4096, 0);
    }
    loop_sim_run_until_idle(sim);
}

static void without_rules_everything_passes(void **state)
{
    (void)state;
    start_all(BLOCK_WRITE);
    for (int i = 0; i < N; i++) {
        assert_true(ios[i].done);
        assert_int_equal(ios[i].req.status, 0);
    }
    struct io map;
    io_start(&map, dev, BLOCK_MAP, 0, NULL, SIZE, 0);
    loop_sim_run_until_idle(sim);
    assert_int_equal(map.req.n_extents, 2);
    assert_int_equal(map.extents[0].len, N * 4096);
    assert_int_equal(fault_dev_seen(dev, BLOCK_WRITE), N);
    assert_int_equal(fault_dev_seen(dev, BLOCK_READ), 0);
}

static void skip_and_count_choose_the_requests_that_are_hit(void **state)
{
    (void)state;
    unsigned rule = fault_dev_add(dev, &(struct fault_rule){.action = FAULT_FAIL,
                                                            .ops = FAULT_OP(BLOCK_WRITE),
                                                            .skip = 3,
                                                            .count = 2,
                                                            .status = -ENOSPC});
    start_all(BLOCK_READ);
    assert_int_equal(fault_dev_hits(dev, rule), 0);
    start_all(BLOCK_WRITE);
    for (int i = 0; i < N; i++) {
        assert_int_equal(ios[i].req.status, i == 3 || i == 4 ? -ENOSPC : 0);
    }
    assert_int_equal(fault_dev_hits(dev, rule), 2);
    /* The device below never saw them. */
    assert_int_equal(mem_dev_stats(mem)->requests[BLOCK_WRITE], N - 2);
}

static void a_range_chooses_what_touches_it(void **state)
{
    (void)state;
    fault_dev_add(dev, &(struct fault_rule){.action = FAULT_FAIL, .offset = 8191, .len = 2});
    start_all(BLOCK_READ);
    for (int i = 0; i < N; i++) {
        assert_int_equal(ios[i].req.status, i == 1 || i == 2 ? -EIO : 0);
    }
}

static void the_first_rule_that_applies_decides(void **state)
{
    (void)state;
    unsigned first =
        fault_dev_add(dev, &(struct fault_rule){.action = FAULT_FAIL, .count = 1, .status = -EIO});
    unsigned second =
        fault_dev_add(dev, &(struct fault_rule){.action = FAULT_FAIL, .status = -ENOSPC});
    start_all(BLOCK_READ);
    assert_int_equal(ios[0].req.status, -EIO);
    assert_int_equal(ios[1].req.status, -ENOSPC);
    fault_dev_remove(dev, second);
    start_all(BLOCK_READ);
    assert_int_equal(ios[0].req.status, 0);
    assert_int_equal(fault_dev_hits(dev, first), 1);
}

static void failing_after_does_the_work_first(void **state)
{
    (void)state;
    fault_dev_add(dev, &(struct fault_rule){.action = FAULT_FAIL_AFTER, .status = -ENOTCONN});
    start_all(BLOCK_WRITE);
    assert_int_equal(ios[0].req.status, -ENOTCONN);
    uint8_t seen[4096];
    mem_disk_peek(mem_dev_disk(mem), 0, seen, 4096);
    assert_memory_equal(seen, data, 4096);
}

static void held_requests_go_on_when_released_or_fail_when_told(void **state)
{
    (void)state;
    fault_dev_add(dev, &(struct fault_rule){.action = FAULT_HOLD, .skip = 1, .count = 4});
    start_all(BLOCK_WRITE);
    assert_int_equal(fault_dev_held(dev), 4);
    for (int i = 0; i < N; i++) {
        assert_int_equal(ios[i].done, i < 1 || i > 4);
    }
    assert_int_equal(fault_dev_release(dev, 1), 1);
    loop_sim_run_until_idle(sim);
    assert_true(ios[1].done);
    assert_false(ios[2].done);
    assert_int_equal(fault_dev_fail_held(dev, 2, -EIO), 2);
    loop_sim_run_until_idle(sim);
    assert_int_equal(ios[2].req.status, -EIO);
    assert_int_equal(ios[3].req.status, -EIO);
    assert_int_equal(fault_dev_release(dev, 100), 1);
    loop_sim_run_until_idle(sim);
    assert_int_equal(ios[4].req.status, 0);
    assert_int_equal(fault_dev_held(dev), 0);
}

static void delayed_requests_take_their_time(void **state)
{
    (void)state;
    fault_dev_add(dev,
                  &(struct fault_rule){.action = FAULT_DELAY, .count = 1, .delay_ns = 5 * MS_NS});
    start_all(BLOCK_WRITE);
    assert_false(ios[0].done);
    assert_true(ios[1].done);
    loop_sim_advance(sim, 5 * MS_NS - 1);
    assert_false(ios[0].done);
    loop_sim_advance(sim, 1);
    assert_true(ios[0].done);
}

static unsigned chance_pattern(uint64_t seed)
{
    unsigned pattern = 0;
    setup_seed(seed);
    unsigned rule = fault_dev_add(
        dev,
        &(struct fault_rule){.action = FAULT_FAIL, .chance_numerator = 1, .chance_denominator = 4});
    start_all(BLOCK_READ);
    for (int i = 0; i < N; i++) {
        pattern |= (unsigned)(ios[i].req.status != 0) << i;
    }
    assert_int_equal(fault_dev_hits(dev, rule), __builtin_popcount(pattern));
    teardown(NULL);
    return pattern;
}

static void chance_follows_the_seed(void **state)
{
    (void)state;
    unsigned hits = 0;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        unsigned pattern = chance_pattern(seed);
        assert_int_equal(pattern, chance_pattern(seed));
        assert_int_not_equal(pattern, chance_pattern(seed + 1000));
        hits += (unsigned)__builtin_popcount(pattern);
    }
    assert_in_range(hits, 200, 300);
}

struct heard {
    char text[64];
    unsigned attempts;
};

static void hear(void *arg, struct blockdev *from, enum block_event event, unsigned attempts,
                 const char *detail)
{
    struct heard *heard = arg;
    assert_ptr_equal(from, dev);
    (void)detail;
    strcat(heard->text, block_event_name(event));
    strcat(heard->text, " ");
    heard->attempts = attempts;
}

static void a_lost_link_fails_everything_until_it_is_back(void **state)
{
    (void)state;
    struct heard heard = {""};
    dev->on_event = hear;
    dev->event_arg = &heard;
    fault_dev_add(dev, &(struct fault_rule){.action = FAULT_HOLD, .count = 1});
    fault_dev_add(dev, &(struct fault_rule){.action = FAULT_DELAY, .count = 1, .delay_ns = SEC_NS});
    /* One held, one delayed, one below. */
    for (int i = 0; i < 3; i++) {
        io_start(&ios[i], dev, BLOCK_WRITE, 0, data, 4096, 0);
    }
    fault_dev_link(dev, BLOCK_EVENT_DOWN, 0, "gone");
    for (int i = 0; i < 3; i++) {
        assert_false(ios[i].done);
    }
    loop_sim_run_until_idle(sim);
    for (int i = 0; i < 3; i++) {
        assert_true(ios[i].done);
        assert_int_equal(ios[i].req.status, -ENOTCONN);
    }
    fault_dev_link(dev, BLOCK_EVENT_RETRY, 7, "refused");
    start_all(BLOCK_READ);
    assert_int_equal(ios[0].req.status, -ENOTCONN);
    assert_int_equal(heard.attempts, 7);
    fault_dev_link(dev, BLOCK_EVENT_UP, 0, "back");
    start_all(BLOCK_READ);
    assert_int_equal(ios[0].req.status, 0);
    fault_dev_link(dev, BLOCK_EVENT_CHANGED, 0, "another LUN");
    fault_dev_link(dev, BLOCK_EVENT_UP, 0, "back");
    start_all(BLOCK_READ);
    assert_int_equal(ios[0].req.status, -ESTALE);
    assert_string_equal(heard.text, "down retry up changed up ");
}

static void events_from_below_are_passed_on(void **state)
{
    (void)state;
    struct heard heard = {""};
    dev->on_event = hear;
    dev->event_arg = &heard;
    mem->info.max_inflight = 3;
    blockdev_emit(mem, BLOCK_EVENT_UP, 0, "");
    assert_string_equal(heard.text, "up ");
    assert_int_equal(dev->info.max_inflight, 3);
}

static void closing_cancels_what_is_held_or_delayed(void **state)
{
    (void)state;
    fault_dev_add(dev, &(struct fault_rule){.action = FAULT_HOLD, .count = 1});
    fault_dev_add(dev, &(struct fault_rule){.action = FAULT_DELAY, .count = 1, .delay_ns = SEC_NS});
    for (int i = 0; i < 3; i++) {
        io_start(&ios[i], dev, BLOCK_WRITE, 0, data, 4096, 0);
    }
    io_close(dev);
    assert_int_equal(ios[0].req.status, -ECANCELED);
    assert_int_equal(ios[1].req.status, -ECANCELED);
    assert_int_equal(ios[2].req.status, 0);
    assert_int_equal(mem_dev_new(loop, &(struct mem_dev_spec){.size_bytes = SIZE}, &dev), 0);
}

#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(without_rules_everything_passes),
        CLAIM(skip_and_count_choose_the_requests_that_are_hit),
        CLAIM(a_range_chooses_what_touches_it),
        CLAIM(the_first_rule_that_applies_decides),
        CLAIM(failing_after_does_the_work_first),
        CLAIM(held_requests_go_on_when_released_or_fail_when_told),
        CLAIM(delayed_requests_take_their_time),
        cmocka_unit_test(chance_follows_the_seed),
        CLAIM(a_lost_link_fails_everything_until_it_is_back),
        CLAIM(events_from_below_are_passed_on),
        CLAIM(closing_cancels_what_is_held_or_delayed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
