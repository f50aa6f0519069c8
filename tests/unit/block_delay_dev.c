// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/block_io.h"

#include "block/delay_dev.h"
#include "block/mem_dev.h"

enum { SIZE = 1 << 20, N = 10 };

static struct loop_sim *sim;
static struct loop *loop;
static struct blockdev *dev;
static uint8_t data[65536];
static struct io ios[N];

static void begin(const struct delay_spec *spec, uint64_t seed)
{
    struct blockdev *mem;
    assert_int_equal(loop_sim_new(0, &sim), 0);
    assert_int_equal(loop_sim_add(sim, "test", &loop), 0);
    assert_int_equal(mem_dev_new(loop, &(struct mem_dev_spec){.size_bytes = SIZE}, &mem), 0);
    assert_int_equal(delay_dev_new(mem, spec, seed, &dev), 0);
}

static void end(void)
{
    io_close(dev);
    loop_free(loop);
    loop_sim_free(sim);
}

static void every_request_waits_for_the_latency_and_none_for_another(void **state)
{
    (void)state;
    begin(&(struct delay_spec){.latency_ns = 10 * MS_NS}, 1);
    for (int i = 0; i < N; i++) {
        bool payload = i % 2 == 0;
        io_start(&ios[i], dev, payload ? BLOCK_READ : BLOCK_MAP, 0, payload ? data : NULL, 4096, 0);
    }
    loop_sim_advance(sim, 10 * MS_NS - 1);
    for (int i = 0; i < N; i++) {
        assert_false(ios[i].done);
    }
    loop_sim_advance(sim, 1);
    for (int i = 0; i < N; i++) {
        assert_true(ios[i].done);
        assert_int_equal(ios[i].req.status, 0);
    }
    end();
}

static void the_line_carries_so_many_bytes_a_second(void **state)
{
    (void)state;
    /* 64 KiB take 65.536 ms. */
    begin(&(struct delay_spec){.bytes_per_second = 1000000}, 1);
    for (int i = 0; i < N; i++) {
        io_start(&ios[i], dev, i % 2 ? BLOCK_READ : BLOCK_WRITE, 0, data, 65536, 0);
    }
    for (int i = 0; i < N; i++) {
        loop_sim_advance(sim, 65535 * 1000);
        assert_false(ios[i].done);
        loop_sim_advance(sim, 1000);
        assert_true(ios[i].done);
    }
    /* An idle line does not save up. */
    loop_sim_advance(sim, SEC_NS);
    io_start(&ios[0], dev, BLOCK_WRITE, 0, data, 65536, 0);
    loop_sim_advance(sim, 65 * MS_NS);
    assert_false(ios[0].done);
    /* What carries no payload does not wait for the line. */
    io_start(&ios[1], dev, BLOCK_FLUSH, 0, NULL, 0, 0);
    loop_sim_run_until_idle(sim);
    assert_true(ios[1].done);
    end();
}

static void jitter_lets_requests_overtake_each_other(void **state)
{
    (void)state;
    begin(&(struct delay_spec){.latency_ns = MS_NS, .jitter_ns = 10 * MS_NS}, 3);
    for (int i = 0; i < N; i++) {
        io_start(&ios[i], dev, BLOCK_WRITE, 0, data, 4096, 0);
    }
    loop_sim_advance(sim, MS_NS - 1);
    bool overtaken = false;
    for (int i = 0; i < N; i++) {
        assert_false(ios[i].done);
    }
    loop_sim_advance(sim, 10 * MS_NS + 1);
    for (int i = 0; i < N; i++) {
        assert_true(ios[i].done);
        overtaken = overtaken || (i > 0 && ios[i].order < ios[i - 1].order);
    }
    assert_true(overtaken);
    end();
}

static void a_new_setting_holds_for_new_requests(void **state)
{
    (void)state;
    begin(&(struct delay_spec){.latency_ns = SEC_NS}, 1);
    io_start(&ios[0], dev, BLOCK_WRITE, 0, data, 4096, 0);
    delay_dev_set(dev, &(struct delay_spec){0});
    io_start(&ios[1], dev, BLOCK_WRITE, 0, data, 4096, 0);
    loop_sim_run_until_idle(sim);
    assert_false(ios[0].done);
    assert_true(ios[1].done);
    end();
    assert_int_equal(ios[0].req.status, -ECANCELED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_request_waits_for_the_latency_and_none_for_another),
        cmocka_unit_test(the_line_carries_so_many_bytes_a_second),
        cmocka_unit_test(jitter_lets_requests_overtake_each_other),
        cmocka_unit_test(a_new_setting_holds_for_new_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
