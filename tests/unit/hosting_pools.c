// SPDX-License-Identifier: Apache-2.0
/*
 * Pools, what volumes occupy, who reads that on other threads, and what is new in a volume.
 */
#include "tests/unit/hosting_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- pools ---- */

static bool low_was_told(void *arg)
{
    (void)arg;
    return n_low > 0;
}

static bool end_of_low_was_told(void *arg)
{
    (void)arg;
    return n_not_low > 0;
}

static void test_capacity_and_low_space(void **state)
{
    (void)state;
    static uint8_t page[PAGE] = {1};
    struct array_usage usage;
    struct result removed = {0};

    layers_make("f", "a");
    layers_make("g", "b");
    array_pool_set_capacity(array, "pool", 2 * MIB);
    volume_open("v", "f", "a");
    volume_open("w", "g", "b"); /* on the other loop, of the same pool */
    struct blockdev *devs[] = {handle_of("v"), handle_of("w")};
    unsigned n = 0;
    int r = 0;

    while (r == 0) {
        assert_true(n < 1000);
        r = io_do(devs[n % 2], BLOCK_WRITE, (uint64_t)(n / 2) * PAGE, page, PAGE, 0);
        n++;
    }
    assert_int_equal(r, -ENOSPC);
    assert_true(n > 350 && n <= 512);
    io_wait(control, low_was_told, NULL);
    assert_int_equal(n_low, 1);
    assert_true(array_pool_usage(array, "pool", &usage));
    assert_int_equal(usage.capacity_bytes, 2 * MIB);
    assert_true(usage.available_bytes < 64 * 1024);
    /* What is there may be written again, discarding gives it back. */
    assert_int_equal(io_do(devs[0], BLOCK_WRITE, 0, page, PAGE, 0), 0);
    assert_int_equal(io_do(devs[0], BLOCK_DISCARD, 0, NULL, SIZE, 0), 0);
    io_wait(control, end_of_low_was_told, NULL);
    assert_int_equal(n_not_low, 1);
    assert_int_equal(io_do(devs[1], BLOCK_WRITE, MIB * 3, page, PAGE, 0), 0);
    io_close(devs[0]);
    io_close(devs[1]);
    volume_close("w");
    remove_ask("g", "b", &removed);
    await_ok(&removed);
    struct array_usage after;

    assert_true(array_pool_usage(array, "pool", &after));
    assert_true(after.used_bytes < MIB / 2);
}

static bool is_known(void *arg, const char *layer_id)
{
    (*(unsigned *)arg)++;
    return strcmp(layer_id, "known") == 0;
}

static void file_make(const char *name)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    close(open(path, O_CREAT | O_WRONLY, 0600));
}

static void test_sweep(void **state)
{
    (void)state;
    unsigned asked = 0;

    file_make("known.layer");
    file_make("orphan.layer");
    file_make("note.txt");
    file_make(".layer");
    file_make("a-name-that-is-much-too-long-for-a-layer.layer");
    assert_int_equal(array_pool_sweep(array, "pool", is_known, &asked), 1);
    assert_int_equal(asked, 2);
    assert_true(file_is_there("known"));
    assert_false(file_is_there("orphan"));
    assert_true(file_is_there("a-name-that-is-much-too-long-for-a-layer"));
    assert_int_equal(array_pool_sweep(array, "none", is_known, &asked), 0);
}

struct wanted_usage {
    uint64_t reclaimable_bytes;
};

static bool reclaimable_is(void *arg)
{
    const struct wanted_usage *wanted = arg;
    struct array_usage usage;

    assert_true(array_pool_usage(array, "pool", &usage));
    return usage.reclaimable_bytes / PAGE == wanted->reclaimable_bytes / PAGE;
}

static void test_usage(void **state)
{
    (void)state;
    struct array_volume_usage usage;
    struct array_usage pool;
    struct result removed = {0};

    layers_make("f", "a b c d");
    volume_open("v", "f", "a");
    pages_write("v", 0, 100, 1);
    volume_cut("v", "b");
    volume_open("w", "f", "a c");
    pages_write("v", 0, 10, 2);
    volume_cut("v", "d"); /* b has one above it: it can go */
    assert_true(array_volume_usage(array, "v", &usage));
    assert_int_equal(usage.size_bytes, SIZE);
    assert_int_equal(usage.n_layers, 3);
    assert_true(usage.shared_bytes >= 100 * PAGE && usage.shared_bytes < 120 * PAGE);
    assert_true(usage.used_bytes >= 10 * PAGE && usage.used_bytes < 40 * PAGE);
    assert_true(array_pool_usage(array, "pool", &pool));
    assert_true(pool.used_bytes >= 110 * PAGE);
    assert_false(array_volume_usage(array, "x", &usage));
    assert_false(array_pool_usage(array, "x", &pool));
    /* d has its header only: that much is there twice. */
    struct wanted_usage wanted = {.reclaimable_bytes = 2 * PAGE};

    io_wait(control, reclaimable_is, &wanted);
    volume_close("v");
    volume_close("w");
    remove_ask("f", "a b c d", &removed);
    await_ok(&removed);
    assert_true(array_pool_usage(array, "pool", &pool));
    assert_int_equal(pool.used_bytes, 0);
    assert_int_equal(pool.reclaimable_bytes, 0);
}

/* ---- a look at what is new ---- */

static enum block_extent_kind kind_of(struct blockdev *dev, unsigned page)
{
    struct io io;

    io_start(&io, dev, BLOCK_MAP, (uint64_t)page * PAGE, NULL, PAGE, 0);
    io_wait(control, io_is_done, &io);
    assert_int_equal(io.req.status, 0);
    return io.extents[0].kind;
}

static struct blockdev *look_open(const char *id, const char *names, size_t new_from, bool old)
{
    struct array_layer layers[CHAIN_MAX];
    struct array_volume look = volume_spec(id, "f", names, layers);
    struct result result = {0};

    look.size_bytes = 0;
    look.read_only = true;
    look.frozen = true;
    look.new_from = new_from;
    look.old_content = old;
    array_volume_open(array, &look, on_done, &result);
    await_ok(&result);
    return handle_of(id);
}

struct changes {
    struct result result;
    uint64_t bytes;
};

static void on_changes(void *arg, const struct error *error, uint64_t bytes)
{
    struct changes *changes = arg;

    changes->bytes = error != NULL ? UINT64_MAX : bytes;
    on_done(&changes->result, error);
}

static void changes_are(const char *id, const char *layer, uint64_t least, uint64_t most)
{
    struct changes changes = {0};

    array_volume_changes(array, id, layer, on_changes, &changes);
    await(&changes.result);
    assert_in_range(changes.bytes, least, most);
}

/* It follows the merges below it, does not count as one who shares, and hosts go on meanwhile. */
static void test_look_at_changes(void **state)
{
    (void)state;
    struct array_volume_usage before;
    struct array_volume_usage after;
    struct result merged = {0};
    struct result finished = {0};

    chain_written("a b c d", (const struct pages[]){{0, 100}, {0, 10}, {5, 20}});
    assert_true(array_volume_usage(array, "v", &before));
    changes_are("v", "d", 0, 0);
    changes_are("v", "c", 0, 0);
    changes_are("v", "b", 20 * PAGE, 30 * PAGE);
    changes_are("v", "a", 30 * PAGE, 50 * PAGE);
    changes_are("v", "x", UINT64_MAX, UINT64_MAX);
    struct blockdev *now = look_open("now", "a b c", 2, false);
    struct blockdev *old = look_open("old", "a b c", 2, true);

    assert_true(now->info.changes && now->info.read_only);
    pages_write("v", 0, 30, 4);
    assert_true(array_volume_usage(array, "v", &after));
    assert_true(after.used_bytes >= before.used_bytes);
    array_merge(array, "v", "a", "b", on_merged, &merged);
    await_ok(&merged);
    assert_string_equal(merged.superfluous, "b");
    finish_ask("f", "b", &finished);
    await_ok(&finished);
    assert_false(file_is_there("b"));
    for (unsigned i = 0; i < 40; i++) {
        bool is_new = i >= 5 && i < 25;

        assert_int_equal(kind_of(now, i) != BLOCK_EXTENT_KEPT, is_new);
        assert_int_equal(kind_of(old, i) != BLOCK_EXTENT_KEPT, is_new);
        assert_int_equal(page_read(now, i), is_new ? 3 : i < 10 ? 2 : 1);
        assert_int_equal(page_read(old, i), i < 10 ? 2 : 1);
    }
    io_close(now);
    io_close(old);
    volume_close("now");
    volume_close("old");
    assert_true(file_is_there("c"));
    pages_are("v", 0, 30, 4);
}

/* ---- readers of other threads ---- */

static atomic_bool readers_stop;

static void *reader(void *arg)
{
    struct array_volume_usage volume;
    struct array_usage pool;
    unsigned *n = arg;

    while (!atomic_load(&readers_stop)) {
        array_pool_usage(array, "pool", &pool);
        *n += array_volume_usage(array, "v", &volume) && volume.n_layers > 0;
        array_volume_usage(array, "w", &volume);
    }
    return NULL;
}

static void test_readers(void **state)
{
    (void)state;
    pthread_t threads[2];
    unsigned n[2] = {0};

    layers_make("f", "a b c");
    layers_make("g", "d");
    atomic_store(&readers_stop, false);
    volume_open("v", "f", "a");
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, reader, &n[i]), 0);
    }
    for (unsigned i = 0; i < 40; i++) {
        struct result result = {0};

        volume_open("w", i % 2 == 0 ? "g" : "f", i % 2 == 0 ? "d" : "c");
        pages_write("w", i, 1, i + 1);
        replace_ask("v", "f", i % 2 == 0 ? "a b" : "a", &result);
        await_ok(&result);
        volume_close("w");
    }
    atomic_store(&readers_stop, true);
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_true(n[i] > 0);
    }
}

/* ---- the first change ---- */

static bool was_changed(void *arg)
{
    (void)arg;
    return n_changed > 0;
}

static void test_first_change(void **state)
{
    (void)state;
    struct array_layer layers[CHAIN_MAX];
    struct array_volume volume = volume_spec("v", "f", "a", layers);
    struct result result = {0};
    struct blockdev *dev;

    layers_make("f", "a b");
    volume.watch = true;
    array_volume_open(array, &volume, on_done, &result);
    await_ok(&result);
    pages_are("v", 0, 1, 0);
    assert_int_equal(n_changed, 0);
    pages_write("v", 0, 3, 1);
    io_wait(control, was_changed, NULL);
    assert_string_equal(changed_id, "v");
    assert_int_equal(n_changed, 1); /* once */

    /* A restart finds it. */
    dev = handle_of("v");
    assert_int_equal(io_do(dev, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
    io_close(dev);
    array_restart();
    n_changed = 0;
    result = (struct result){0};
    array_volume_open(array, &volume, on_done, &result);
    await_ok(&result);
    io_wait(control, was_changed, NULL);

    /* New content, and a new watch. */
    n_changed = 0;
    result = (struct result){0};
    volume = volume_spec("v", "f", "a b", layers);
    volume.watch = true;
    array_volume_replace(array, &volume, on_done, &result);
    await_ok(&result);
    pages_are("v", 0, 3, 1);
    assert_int_equal(n_changed, 0);
    array_volume_watch(array, "v", false);
    pages_write("v", 0, 1, 2);
    array_volume_watch(array, "v", true); /* b has something now */
    io_wait(control, was_changed, NULL);
    assert_int_equal(n_changed, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_capacity_and_low_space), TEST(test_sweep),   TEST(test_usage),
        TEST(test_look_at_changes),        TEST(test_readers), TEST(test_first_change),
    };

    return run_twice(tests, ARRAY_LEN(tests));
}
