// SPDX-License-Identifier: Apache-2.0
/* A LUN over several paths, rule by rule; tests/sim/paths.c has all of it at once. */
#include "tests/unit/paths_world.h"

#include <stdio.h>

#include "base/log.h"

static int setup(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    world_begin(7);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_end();
    return 0;
}

static uint8_t data[16][BLOCKS * BLOCK];
static struct io ios[16];

static void start_write(unsigned i, uint64_t block, uint64_t n, uint64_t stamp)
{
    for (uint64_t k = 0; k < n; k++) {
        memcpy(data[i] + k * BLOCK, &stamp, 8);
    }
    io_start(&ios[i], multi, BLOCK_WRITE, block * BLOCK, data[i], n * BLOCK, 0);
}

static void start_read(unsigned i, uint64_t block, uint64_t n)
{
    io_start(&ios[i], multi, BLOCK_READ, block * BLOCK, data[i], n * BLOCK, 0);
}

static void requests_go_over_all_paths_and_prefer_the_least_loaded(void **state)
{
    (void)state;
    world_open();
    assert_int_equal(multi->info.size_bytes, BLOCKS * BLOCK);
    assert_false(multi->info.can_map); /* one of the paths cannot */
    nexuses[1]->hold = true;
    for (unsigned i = 0; i < 12; i++) {
        start_write(i, i * 4, i == 0 ? 4 : 1, 100 + i);
        pass_ms(0);
    }
    assert_int_equal(multi->info.max_inflight, 12);
    pass_ms(10);
    unsigned done = 0;
    for (unsigned i = 0; i < 12; i++) {
        done += ios[i].done;
    }
    /* Path 1 keeps what it was given first; the others did the rest. */
    assert_true(done >= 8 && done < 12);
    assert_true(nexuses[0]->n_requests > 0 && nexuses[2]->n_requests > 0);
    assert_true(nexuses[1]->n_requests <= 4);
    nexuses[1]->hold = false;
    pass_ms(10);
    for (unsigned i = 0; i < 12; i++) {
        assert_true(ios[i].done);
        assert_int_equal(ios[i].req.status, 0);
        assert_int_equal(target.now[i * 4], 100 + i);
    }
    struct path_stats stats;
    uint64_t written = 0;
    for (unsigned i = 0; i < PATHS; i++) {
        path_meter_read(meters[i], loop_now_ns(loop), &stats);
        assert_int_equal(stats.sessions, 1);
        assert_int_equal(stats.bytes_inflight, 0);
        written += stats.bytes_written;
    }
    assert_int_equal(written, 15 * BLOCK);
}

static void reads_of_a_lost_path_go_over_another_at_once(void **state)
{
    (void)state;
    target.latency_ns = 5 * MS_NS;
    world_open();
    for (unsigned i = 0; i < 6; i++) {
        start_read(i, i, 1);
    }
    pass_ms(0);
    nexus_lose(nexuses[0], false, "cut");
    nexus_lose(nexuses[1], false, "cut");
    pass_ms(20);
    for (unsigned i = 0; i < 6; i++) {
        assert_true(ios[i].done);
        assert_int_equal(ios[i].req.status, 0);
    }
    assert_int_equal(target.n_fences, 0);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 0);
}

static void a_write_of_a_lost_path_is_sent_again_after_the_fence_and_not_before(void **state)
{
    (void)state;
    target.ghostly = true;
    target.latency_ns = MS_NS;
    world_open();
    for (unsigned i = 0; i < PATHS; i++) {
        nexuses[i]->hold = true;
        start_write(i, i, 1, 10 + i);
        pass_ms(0);
    }
    nexus_lose(nexuses[1], false, "cut");
    pass_ms(100);
    assert_false(ios[1].done);
    assert_int_equal(target.n_fences, 0); /* what flies over the others is waited for */
    start_read(3, 8, 1);
    nexuses[0]->hold = nexuses[2]->hold = false;
    pass_ms(FENCE_MS - 10);
    assert_true(ios[0].done && ios[2].done);
    assert_false(ios[1].done);
    assert_false(ios[3].done); /* nothing else is at the LUN when it is reset */
    pass_ms(100);
    assert_int_equal(target.n_fences, 1);
    assert_true(ios[1].done && ios[3].done);
    assert_int_equal(ios[1].req.status, 0);
    assert_int_equal(target.now[1], 11);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 0);
}

static void without_a_fence_the_fate_of_a_write_is_told(void **state)
{
    (void)state;
    spec.fence = false;
    world_open();
    for (unsigned i = 0; i < PATHS; i++) {
        nexuses[i]->hold = true;
        start_write(i, i, 1, 10 + i);
        pass_ms(0);
    }
    nexus_lose(nexuses[0], false, "cut");
    nexuses[1]->hold = nexuses[2]->hold = false;
    pass_ms(10);
    assert_int_equal(ios[0].req.status, -ENOTCONN);
    assert_int_equal(ios[1].req.status, 0);
    assert_int_equal(target.n_fences, 0);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 0);
}

static void with_all_paths_lost_it_is_down_and_the_first_that_is_back_fences(void **state)
{
    (void)state;
    world_open();
    nexuses[0]->hold = true;
    start_write(0, 0, 1, 1);
    for (unsigned i = 0; i < PATHS; i++) {
        nexus_lose(nexuses[i], false, "cut");
    }
    pass_ms(1);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 1);
    assert_int_equal(ios[0].req.status, -ENOTCONN);
    start_read(1, 0, 1);
    pass_ms(0);
    assert_int_equal(ios[1].req.status, -ENOTCONN);
    nexus_back(nexuses[2]);
    pass_ms(FENCE_MS - 10);
    assert_int_equal(events[BLOCK_EVENT_UP], 0);
    pass_ms(20);
    assert_int_equal(events[BLOCK_EVENT_UP], 1);
    assert_int_equal(target.n_fences, 1);
    start_read(1, 0, 1);
    pass_ms(1);
    assert_int_equal(ios[1].req.status, 0);
    /* The others take part again without another fence. */
    nexus_back(nexuses[0]);
    unsigned before = nexuses[0]->n_requests;
    for (unsigned i = 0; i < 8; i++) {
        start_read(i, i, 1);
    }
    pass_ms(5);
    assert_true(nexuses[0]->n_requests > before);
    assert_int_equal(target.n_fences, 1);
}

static void a_reset_that_we_did_not_ask_for_is_a_lost_link(void **state)
{
    (void)state;
    world_open();
    nexus_lose(nexuses[1], true, "power on, reset");
    pass_ms(1);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 1);
    pass_ms(FENCE_MS + 10);
    assert_int_equal(events[BLOCK_EVENT_UP], 1);
}

static void a_session_that_is_younger_than_a_write_cannot_answer_for_it(void **state)
{
    (void)state;
    world_open();
    start_write(0, 0, 1, 1);
    pass_ms(1);
    assert_true(ios[0].done);
    /* What flushes over the witness takes its time: meanwhile the young ones are not used. */
    nexuses[2]->hold = true;
    for (unsigned i = 0; i < 2; i++) {
        nexus_lose(nexuses[i], false, "cut");
        nexus_back(nexuses[i]);
        nexuses[i]->n_requests = 0;
    }
    unsigned before = nexuses[2]->n_requests;
    start_read(1, 0, 1);
    pass_ms(10);
    assert_int_equal(nexuses[2]->n_requests, before + 2);
    assert_int_equal(nexuses[0]->n_requests + nexuses[1]->n_requests, 0);
    nexuses[2]->hold = false;
    pass_ms(10);
    for (unsigned i = 2; i < 8; i++) {
        start_read(i, i, 1);
    }
    pass_ms(10);
    assert_true(nexuses[0]->n_requests > 0 && nexuses[1]->n_requests > 0);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 0);
    /* The same again, and the witness is lost before it could say anything. */
    start_write(0, 0, 1, 2);
    pass_ms(1);
    nexuses[2]->hold = true;
    for (unsigned i = 0; i < 2; i++) {
        nexus_lose(nexuses[i], false, "cut");
        nexus_back(nexuses[i]);
    }
    pass_ms(10);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 0);
    nexus_lose(nexuses[2], false, "no answer");
    pass_ms(1);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 1);
    pass_ms(FENCE_MS + 10);
    assert_int_equal(events[BLOCK_EVENT_UP], 1);
}

static void a_path_to_another_lun_is_refused_and_looked_at_again(void **state)
{
    struct path_stats stats;
    (void)state;
    snprintf(openers[0].lun, sizeof(openers[0].lun), "naa.2");
    openers[0].fails = ERR_REMOTE_UNREACHABLE;
    world_open();
    assert_non_null(multi);
    openers[0].fails = ERR_NONE;
    pass_ms(500);
    path_meter_read(meters[0], 0, &stats);
    assert_int_equal(stats.sessions, 0);
    assert_non_null(strstr(stats.last_error, "another LUN"));
    unsigned opens = openers[0].opens;
    snprintf(openers[0].lun, sizeof(openers[0].lun), "naa.1");
    pass_ms(9000);
    assert_int_equal(openers[0].opens, opens);
    pass_ms(2000);
    path_meter_read(meters[0], 0, &stats);
    assert_int_equal(stats.sessions, 1);
}

static void a_lun_without_a_name_has_one_path(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PATHS; i++) {
        openers[i].lun[0] = '\0';
    }
    world_open();
    pass_ms(100);
    unsigned up = 0;
    for (unsigned i = 0; i < PATHS; i++) {
        struct path_stats stats;
        path_meter_read(meters[i], 0, &stats);
        up += stats.sessions;
    }
    assert_int_equal(up, 1);
}

static void when_every_path_leads_elsewhere_it_has_changed(void **state)
{
    (void)state;
    world_open();
    nexuses[0]->hold = true;
    start_read(0, 0, 1);
    pass_ms(0);
    for (unsigned i = 0; i < PATHS; i++) {
        nexuses[i]->up = false;
        openers[i].fails = ERR_LUN_CHANGED;
        blockdev_emit(&nexuses[i]->base, BLOCK_EVENT_CHANGED, 1, "another LUN");
    }
    pass_ms(10);
    assert_int_equal(events[BLOCK_EVENT_CHANGED], 1);
    assert_true(ios[0].done);
    start_read(1, 0, 1);
    pass_ms(0);
    assert_int_equal(ios[1].req.status, -ESTALE);
}

static void an_open_without_any_path_fails_with_what_may_heal(void **state)
{
    (void)state;
    openers[0].fails = ERR_LUN_CHANGED;
    openers[1].fails = ERR_REMOTE_REFUSED;
    openers[2].fails = ERR_LUN_CHANGED;
    world_open();
    pass_ms(10);
    assert_true(open_told);
    assert_null(multi);
    assert_int_equal(open_error.code, ERR_REMOTE_REFUSED);
    /* It can be tried again. */
    openers[1].fails = ERR_NONE;
    world_open();
    pass_ms(10);
    assert_non_null(multi);
}

static void an_open_can_be_given_up(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PATHS; i++) {
        openers[i].silent = true;
    }
    world_open();
    pass_ms(1000);
    assert_false(open_told);
    multi_opener->ops->cancel(multi_opener);
    pass_ms(1);
    assert_true(open_told);
    assert_int_equal(open_error.code, ERR_TERMINATED);
}

static void an_open_after_an_unclean_end_fences_first(void **state)
{
    (void)state;
    spec.fence_open = true;
    world_open();
    assert_false(open_told);
    pass_ms(FENCE_MS + 10);
    assert_non_null(multi);
    assert_int_equal(target.n_fences, 1);
}

static void a_path_that_was_away_is_dialled_until_it_is_there(void **state)
{
    (void)state;
    openers[2].fails = ERR_REMOTE_UNREACHABLE;
    world_open();
    assert_non_null(multi);
    pass_ms(2000);
    assert_true(openers[2].opens >= 4 && openers[2].opens < 8);
    openers[2].fails = ERR_NONE;
    pass_ms(3000);
    assert_non_null(nexuses[2]);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 0);
}

static void the_limit_is_shared_and_kept(void **state)
{
    (void)state;
    struct path_limit *limit;
    uint64_t bytes = 0;

    assert_int_equal(path_limit_new(100 * BLOCK, &limit), 0);
    spec.limit = limit;
    spec.n_paths = 2;
    world_open();
    uint64_t began_ns = loop_now_ns(loop);
    ios[0].done = true;
    while (loop_now_ns(loop) - began_ns < 4 * SEC_NS) {
        for (unsigned i = 0; i < 4; i++) {
            if (i == 0 || ios[i].done || bytes == 0) {
                if (i > 0 || ios[0].done) {
                    start_read(i, i * 4, 4);
                    bytes += 4 * BLOCK;
                }
            }
        }
        pass_ms(1);
    }
    pass_ms(1000);
    /* 4 seconds of 100 blocks, the burst, and what waited at the end. */
    assert_in_range(bytes / BLOCK, 380, 440);
    /* However little is under way, all paths have their share. */
    for (unsigned i = 0; i < 2; i++) {
        assert_true(nexuses[i]->n_requests > bytes / (4 * BLOCK) / 4);
    }
    path_limit_unref(limit);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(requests_go_over_all_paths_and_prefer_the_least_loaded),
        TEST(reads_of_a_lost_path_go_over_another_at_once),
        TEST(a_write_of_a_lost_path_is_sent_again_after_the_fence_and_not_before),
        TEST(without_a_fence_the_fate_of_a_write_is_told),
        TEST(with_all_paths_lost_it_is_down_and_the_first_that_is_back_fences),
        TEST(a_reset_that_we_did_not_ask_for_is_a_lost_link),
        TEST(a_session_that_is_younger_than_a_write_cannot_answer_for_it),
        TEST(a_path_to_another_lun_is_refused_and_looked_at_again),
        TEST(a_lun_without_a_name_has_one_path),
        TEST(when_every_path_leads_elsewhere_it_has_changed),
        TEST(an_open_without_any_path_fails_with_what_may_heal),
        TEST(an_open_can_be_given_up),
        TEST(an_open_after_an_unclean_end_fences_first),
        TEST(a_path_that_was_away_is_dialled_until_it_is_there),
        TEST(the_limit_is_shared_and_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
