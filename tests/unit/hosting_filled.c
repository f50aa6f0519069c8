// SPDX-License-Identifier: Apache-2.0
/*
 * Volumes that are filled from what is below them, while they are used.
 */
#include "tests/unit/hosting_fixture.h"

#include <stdatomic.h>

#include "replication/copy.h"

static void filled_open(const char *id, const char *names)
{
    struct array_layer layers[CHAIN_MAX];
    struct array_volume volume = volume_spec(id, "f", names, layers);
    struct result result = {0};

    volume.bottom = below_opener();
    volume.bottom_bytes = SIZE;
    array_volume_open(array, &volume, on_done, &result);
    await_ok(&result);
}

struct filling {
    struct copy *copy;
    bool written; /* something of it, for good */
    bool ended;
    enum copy_phase phase;
    uint64_t bytes_read;
};

static void fill_progress(void *arg, const struct copy_progress *progress)
{
    ((struct filling *)arg)->written = progress->checkpoint_bytes > 0;
}

static bool fill_has_written(void *arg)
{
    return ((struct filling *)arg)->written;
}

static void fill_ended(void *arg, const struct copy_progress *progress, const struct error *error)
{
    struct filling *filling = arg;

    assert_null(error);
    filling->ended = true;
    filling->phase = progress->phase;
    filling->bytes_read += progress->bytes_read;
}

static bool fill_has_ended(void *arg)
{
    return ((struct filling *)arg)->ended;
}

static void fill_start(struct filling *filling, const char *id, uint64_t bandwidth_limit)
{
    static const struct copy_events events = {
        .progress = fill_progress, .checkpoint = fill_progress, .ended = fill_ended};
    struct loop *loop;
    struct copy_spec spec = {
        .name = "below>v",
        .source = below_opener(),
        .target = array_fill_opener(array, id, SIZE),
        .bytes_total = SIZE,
        .bandwidth_limit = bandwidth_limit,
        .checkpoint_ns = 50 * MS_NS,
    };

    assert_non_null(array_volume_device(array, id, &loop));
    filling->ended = false;
    filling->copy = copy_start(control, loop, &spec, &events, filling);
}

static void fill_await(struct filling *filling)
{
    io_wait(control, fill_has_ended, filling);
    copy_free(filling->copy);
}

static void below_make(uint32_t stamp)
{
    static uint32_t page[PAGE / 4];

    assert_int_equal(mem_disk_new(SIZE, 0, &below_disk), 0);
    for (unsigned i = 0; i < N_PAGES; i++) {
        page_fill(page, i, stamp);
        mem_disk_poke(below_disk, (uint64_t)i * PAGE, page, PAGE);
    }
    atomic_store(&below_is_away, false);
}

static void bottom_drop(const char *layer)
{
    struct result result = {0};

    array_bottom_drop(array, "f", layer, on_done, &result);
    await_ok(&result);
}

/* Used at once, snapshotted, written to, filled by a copier meanwhile; then nothing is needed from below. */
static void test_filled_while_it_is_used(void **state)
{
    (void)state;
    struct filling filling = {0};

    below_make(7);
    layers_make("f", "a b s");
    filled_open("v", "a");
    pages_are("v", 0, 4, 7);
    pages_write("v", 2 * LOAD_PAGES, 10, 8);
    fill_start(&filling, "v", 4 * MIB);
    struct load *load = load_start("v");

    volume_cut("v", "b"); /* "a" is frozen, and filled on */
    filled_open("s", "a s");
    fill_await(&filling);
    assert_int_equal(filling.phase, COPY_DONE);
    assert_in_range(filling.bytes_read, MIB, SIZE);
    atomic_store(&below_is_away, true);
    bottom_drop("a");
    load_end(load);
    for (unsigned round = 0; round < 2; round++) {
        struct blockdev *dev = handle_of("v");

        for (unsigned page = 0; page < LOAD_PAGES; page++) {
            assert_int_equal(page_read(dev, page), load->completed[page]);
        }
        io_close(dev);
        pages_are("v", LOAD_PAGES, LOAD_PAGES, 7);
        pages_are("v", 2 * LOAD_PAGES, 10, 8);
        pages_are("v", 2 * LOAD_PAGES + 10, N_PAGES - 2 * LOAD_PAGES - 10, 7);
        pages_are("s", 2 * LOAD_PAGES, 10, 8);
        pages_are("s", 2 * LOAD_PAGES + 10, N_PAGES - 2 * LOAD_PAGES - 10, 7);
        array_restart();
        volume_open("v", "f", "a b");
        volume_open("s", "f", "a s");
    }
    free(load);
    mem_disk_free(below_disk);
}

/* What is below is away from the beginning: what is there is read, the rest is waited for; a copy that was stopped reads on. */
static void test_filled_from_what_comes_late(void **state)
{
    (void)state;
    struct filling filling = {0};

    below_make(7);
    layers_make("f", "a");
    atomic_store(&below_is_away, true);
    filled_open("v", "a");
    pages_write("v", 0, 4, 8);
    pages_are("v", 0, 4, 8);

    struct blockdev *dev = handle_of("v");
    static uint32_t page[PAGE / 4];
    static uint32_t expected[PAGE / 4];
    struct io io;

    io_start(&io, dev, BLOCK_READ, 5 * PAGE, page, PAGE, 0);
    atomic_store(&below_is_away, false);
    io_wait(control, io_is_done, &io);
    assert_int_equal(io.req.status, 0);
    page_fill(expected, 5, 7);
    assert_memory_equal(page, expected, PAGE);
    io_close(dev);

    fill_start(&filling, "v", MIB);
    io_wait(control, fill_has_written, &filling);
    copy_cancel(filling.copy);
    io_wait(control, fill_has_ended, &filling);
    copy_free(filling.copy);
    assert_int_equal(filling.phase, COPY_CANCELLED);
    assert_true(filling.bytes_read > 0);
    array_restart();
    filled_open("v", "a");
    fill_start(&filling, "v", 0);
    fill_await(&filling);
    assert_int_equal(filling.phase, COPY_DONE);
    /* Beside what was under way when it was stopped. */
    assert_in_range(filling.bytes_read, SIZE - 4 * PAGE - PAGE, SIZE + 2 * MIB);
    atomic_store(&below_is_away, true);
    bottom_drop("a");
    pages_are("v", 0, 4, 8);
    pages_are("v", 4, N_PAGES - 4, 7);
    mem_disk_free(below_disk);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_filled_while_it_is_used),
        TEST(test_filled_from_what_comes_late),
    };

    return run_twice(tests, ARRAY_LEN(tests));
}
