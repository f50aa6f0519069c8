// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/loop.h"
#include "base/random.h"
#include "replication/window.h"

enum { INFLIGHT_MAX = 256 };

/* A path: delay_ns there and back, and a server that takes service_ns for each request, one at a
 * time. */
struct path {
    uint64_t delay_ns, service_ns, jitter_ns;
    uint64_t now_ns, free_at_ns;
    uint64_t started[INFLIGHT_MAX], due[INFLIGHT_MAX]; /* first in, first out */
    unsigned inflight;
    struct random random;
    unsigned most;
};

static void run(struct window *window, struct path *path, unsigned n_requests)
{
    path->most = 0;
    for (unsigned n = 0; n < n_requests; n++) {
        while (path->inflight < window->size) {
            uint64_t start = path->free_at_ns > path->now_ns ? path->free_at_ns : path->now_ns;
            path->free_at_ns = start + path->service_ns;
            path->started[path->inflight] = path->now_ns;
            path->due[path->inflight] =
                path->free_at_ns + path->delay_ns +
                (path->jitter_ns ? random_below(&path->random, path->jitter_ns) : 0);
            path->inflight++;
        }
        path->most = window->size > path->most ? window->size : path->most;
        path->now_ns = path->due[0] > path->now_ns ? path->due[0] : path->now_ns;
        uint64_t took_ns = path->now_ns - path->started[0];
        path->inflight--;
        for (unsigned i = 0; i < path->inflight; i++) {
            path->started[i] = path->started[i + 1];
            path->due[i] = path->due[i + 1];
        }
        window_completed(window, took_ns);
    }
}

static void stays_at_the_floor_on_a_short_path(void **state)
{
    (void)state;
    struct window window;
    struct path path = {.service_ns = MS_NS, .delay_ns = MS_NS / 10, .jitter_ns = MS_NS / 10};
    random_seed(&path.random, 1);
    window_init(&window, 8, 64);
    run(&window, &path, 1000);
    assert_in_range(path.most, 8, 12);
    run(&window, &path, 100000); /* through many new measurements: does not creep up */
    assert_in_range(path.most, 8, 16);
}

static void grows_to_what_a_long_path_holds(void **state)
{
    (void)state;
    struct window window;
    struct path path = {.service_ns = MS_NS, .delay_ns = 40 * MS_NS, .jitter_ns = MS_NS};
    random_seed(&path.random, 1);
    window_init(&window, 8, 256);
    run(&window, &path, 500);
    assert_in_range(window.size, 40, 60);
    uint64_t start_ns = path.now_ns;
    run(&window, &path, 100000);
    /* The server is idle less than 3 % of the time. */
    assert_in_range(path.now_ns - start_ns, 99000 * MS_NS, 103000 * MS_NS);
    assert_in_range(path.most, 40, 100);
}

static void follows_a_path_that_changes(void **state)
{
    (void)state;
    struct window window;
    struct path path = {.service_ns = MS_NS, .delay_ns = MS_NS};
    window_init(&window, 8, 64);
    run(&window, &path, 5000);
    path.delay_ns = 40 * MS_NS; /* longer */
    run(&window, &path, 20000);
    uint64_t start_ns = path.now_ns;
    run(&window, &path, 10000);
    assert_in_range(path.now_ns - start_ns, 9900 * MS_NS, 10500 * MS_NS);
    path.delay_ns = MS_NS; /* and short again */
    run(&window, &path, 50000);
    run(&window, &path, 1000);
    assert_in_range(path.most, 2, 16);
}

static void keeps_within_floor_and_ceiling(void **state)
{
    (void)state;
    for (unsigned floor = 0; floor < 40; floor++) {
        for (unsigned ceiling = 1; ceiling < 40; ceiling += 3) {
            struct window window;
            struct path path = {.service_ns = MS_NS, .delay_ns = 100 * MS_NS};
            window_init(&window, floor, ceiling);
            for (unsigned i = 0; i < 100; i++) {
                run(&window, &path, 100);
                assert_in_range(window.size, 1, ceiling);
            }
            window_set_floor(&window, ceiling * 2);
            run(&window, &path, 100);
            assert_in_range(window.size, 1, ceiling);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stays_at_the_floor_on_a_short_path),
        cmocka_unit_test(grows_to_what_a_long_path_holds),
        cmocka_unit_test(follows_a_path_that_changes),
        cmocka_unit_test(keeps_within_floor_and_ceiling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
