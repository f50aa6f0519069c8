// SPDX-License-Identifier: Apache-2.0
/* Filters of volumes: what is written to a volume goes through them, whatever happens to the layers below. */
#include "tests/unit/hosting_fixture.h"

#include <stdatomic.h>

/* ---- a filter that remembers the stamp of each page that was written through it ---- */

struct tap {
    struct blockdev base;
    struct blockdev *below;
    _Atomic uint32_t stamps[2 * N_PAGES];
    atomic_uint n_writes;
    atomic_uint n_open; /* devices made and not yet closed */
    int status;         /* of the next make */
    block_close_fn close_done;
    void *close_arg;
};

struct tapped {
    struct tap *tap;
    struct block_req *req;
    struct block_req child;
};

static void tapped_done(struct block_req *child)
{
    struct tapped *tapped = child->arg;
    struct block_req *req = tapped->req;

    req->n_extents = child->n_extents;
    if (req->op == BLOCK_WRITE && child->status == 0) {
        uint32_t stamp;

        memcpy(&stamp, req->slices[0].data, sizeof(stamp));
        atomic_store(&tapped->tap->stamps[req->offset / PAGE], stamp);
        atomic_fetch_add(&tapped->tap->n_writes, 1);
    }
    int status = child->status;

    free(tapped);
    blockdev_complete_now(req, status);
}

static void tap_submit(struct blockdev *dev, struct block_req *req)
{
    struct tap *tap = container_of(dev, struct tap, base);
    struct tapped *tapped = calloc(1, sizeof(*tapped));

    assert_non_null(tapped);
    tapped->tap = tap;
    tapped->req = req;
    blockdev_pass(&tapped->child, req, tapped_done, tapped);
    blockdev_submit(tap->below, &tapped->child);
}

static void tap_idle(void *arg)
{
    struct tap *tap = arg;

    atomic_fetch_sub(&tap->n_open, 1);
    tap->close_done(tap->close_arg);
}

static void tap_close(struct blockdev *dev, block_close_fn done, void *arg)
{
    struct tap *tap = container_of(dev, struct tap, base);

    tap->close_done = done;
    tap->close_arg = arg;
    blockdev_when_idle(dev, tap_idle, tap);
}

static const struct blockdev_ops tap_ops = {
    .kind = "tap", .submit = tap_submit, .close = tap_close};

static int tap_make(void *arg, struct loop *loop, struct blockdev *below, struct blockdev **ret_dev)
{
    struct tap *tap = arg;

    assert_true(loop_is_current(loop));
    if (tap->status < 0) {
        return tap->status;
    }
    atomic_fetch_add(&tap->n_open, 1);
    tap->base = (struct blockdev){.ops = &tap_ops, .loop = loop, .info = below->info};
    tap->below = below;
    *ret_dev = &tap->base;
    return 0;
}

static void tap_refresh(void *arg, struct blockdev *dev)
{
    struct tap *tap = arg;

    assert_ptr_equal(dev, &tap->base);
    dev->info = tap->below->info;
}

static struct array_filter filter_of(struct tap *tap)
{
    return (struct array_filter){.make = tap_make, .refresh = tap_refresh, .arg = tap};
}

static void filter_add(const char *volume, const char *id, struct tap *tap)
{
    struct array_filter filter = filter_of(tap);
    struct result result = {0};

    array_volume_filter_add(array, volume, id, &filter, on_done, &result);
    await_ok(&result);
    assert_int_equal(atomic_load(&tap->n_open), 1);
}

static void filter_remove(const char *volume, const char *id, const struct tap *tap)
{
    struct result result = {0};

    array_volume_filter_remove(array, volume, id, on_done, &result);
    await_ok(&result);
    assert_int_equal(atomic_load(&tap->n_open), 0);
}

static void tapped_open_ask(const char *chain, struct array_volume_filter *filters, size_t n,
                            struct result *result)
{
    struct array_layer layers[CHAIN_MAX];
    struct array_volume volume = volume_spec("v", "f", chain, layers);

    volume.filters = filters;
    volume.n_filters = n;
    array_volume_open(array, &volume, on_done, result);
}

/* What the filter saw last is what the volume reads. */
static void tap_agrees(const struct tap *tap, const struct load *load)
{
    struct blockdev *dev = handle_of("v");

    for (unsigned page = 0; page < LOAD_PAGES; page++) {
        assert_int_equal(atomic_load(&tap->stamps[page]), load->completed[page]);
        assert_int_equal(page_read(dev, page), load->completed[page]);
    }
    io_close(dev);
}

static bool tap_has_seen_more(void *arg)
{
    return atomic_load(&((struct tap *)arg)->n_writes) >= 2 * LOAD_PAGES;
}

/* The load is really going through it. */
static void tap_await(struct tap *tap)
{
    atomic_store(&tap->n_writes, 0);
    io_wait(control, tap_has_seen_more, tap);
}

/* ---- tests ---- */

static struct tap taps[3];

static int taps_setup(void **state)
{
    memset(taps, 0, sizeof(taps));
    return setup(state);
}

/* Layers are cut, replaced and merged below two filters that come and go, while a host writes. */
static void test_all_that_is_written(void **state)
{
    (void)state;
    struct result merged = {0};
    struct result replaced = {0};

    layers_make("f", "a b c d");
    volume_open("v", "f", "a");
    struct load *load = load_start("v");

    filter_add("v", "one", &taps[0]);
    tap_await(&taps[0]);
    volume_cut("v", "b");
    filter_add("v", "two", &taps[1]);
    tap_await(&taps[1]);
    volume_cut("v", "c");
    array_merge(array, "v", "a", "b", on_merged, &merged);
    await_ok(&merged);
    tap_await(&taps[0]);
    load_pause(load);
    tap_agrees(&taps[0], load);
    tap_agrees(&taps[1], load);
    load_go_on(load);
    filter_remove("v", "one", &taps[0]);
    tap_await(&taps[1]);
    volume_cut("v", "d");
    filter_add("v", "one", &taps[0]);
    tap_await(&taps[0]);
    filter_remove("v", "one", &taps[0]);
    replace_ask("v", "f", "a b c d", &replaced); /* the same content, another stack */
    await_ok(&replaced);
    tap_await(&taps[1]);
    load_pause(load);
    tap_agrees(&taps[1], load);
    filter_remove("v", "two", &taps[1]);
    load_go_on(load);
    unsigned n_seen = atomic_load(&taps[1].n_writes);

    load_end(load);
    assert_int_equal(atomic_load(&taps[1].n_writes), n_seen);
    free(load);
}

/* From the first request on, through several; they end with the volume, or with the array. */
static void test_there_from_the_open(void **state)
{
    (void)state;
    struct array_volume_filter filters[] = {{.id = "low", .filter = filter_of(&taps[0])},
                                            {.id = "high", .filter = filter_of(&taps[1])}};

    layers_make("f", "a");
    for (unsigned round = 0; round < 3; round++) {
        struct result result = {0};

        tapped_open_ask("a", filters, 2, &result);
        await_ok(&result);
        pages_write("v", 0, 4, 7 + round);
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(atomic_load(&taps[i].n_writes), 4 * (round + 1));
            assert_int_equal(atomic_load(&taps[i].stamps[3]), 7 + round);
        }
        if (round == 0) {
            volume_close("v");
        } else if (round == 1) {
            array_restart();
        }
        assert_int_equal(atomic_load(&taps[0].n_open), round == 2);
    }
    filter_remove("v", "low", &taps[0]);
    pages_write("v", 0, 1, 20);
    assert_int_equal(atomic_load(&taps[0].stamps[0]), 9);
    assert_int_equal(atomic_load(&taps[1].stamps[0]), 20);
    filter_add("v", "low", &taps[0]); /* above "high" now */
    pages_write("v", 0, 1, 21);
    assert_int_equal(atomic_load(&taps[0].stamps[0]), 21);
    assert_int_equal(atomic_load(&taps[1].stamps[0]), 21);
}

/* A volume is not opened without what is to see its writes; one that is open stays what it was. */
static void test_one_that_cannot_be_made(void **state)
{
    (void)state;
    struct array_volume_filter filters[] = {{.id = "one", .filter = filter_of(&taps[0])},
                                            {.id = "two", .filter = filter_of(&taps[1])},
                                            {.id = "three", .filter = filter_of(&taps[2])}};
    struct array_filter filter = filter_of(&taps[1]);
    struct result opened = {0};
    struct result again = {0};
    struct result added = {0};
    struct result twice = {0};
    struct result removed = {0};
    struct result not_there = {0};

    layers_make("f", "a");
    taps[1].status = -EMFILE;
    tapped_open_ask("a", filters, 3, &opened);
    await_failed(&opened, ERR_INTERNAL);
    assert_false(array_volume_is_there(array, "v"));
    assert_int_equal(atomic_load(&taps[0].n_open), 0);

    tapped_open_ask("a", filters, 1, &again);
    await_ok(&again);
    array_volume_filter_add(array, "v", "two", &filter, on_done, &added);
    await_failed(&added, ERR_INTERNAL);
    taps[1].status = 0;
    array_volume_filter_add(array, "v", "one", &filter, on_done, &twice);
    await_failed(&twice, ERR_CONFLICT);
    array_volume_filter_remove(array, "v", "two", on_done, &removed);
    await_failed(&removed, ERR_INTERNAL);
    array_volume_filter_add(array, "w", "two", &filter, on_done, &not_there);
    await_failed(&not_there, ERR_INTERNAL);
    pages_write("v", 0, 1, 7);
    pages_are("v", 0, 1, 7);
    assert_int_equal(atomic_load(&taps[0].stamps[0]), 7);
    assert_int_equal(atomic_load(&taps[1].n_writes), 0);
}

static void test_grow_below_filters(void **state)
{
    (void)state;
    struct array_filter filter = filter_of(&taps[2]);
    struct result grown = {0};
    struct result refused = {0};
    struct result added = {0};

    layers_make("f", "a");
    volume_open("v", "f", "a");
    filter_add("v", "one", &taps[0]);
    filter_add("v", "two", &taps[1]);
    array_volume_grow(array, "v", 2 * SIZE, on_done, &grown);
    await_ok(&grown);
    pages_write("v", 2 * N_PAGES - 1, 1, 7);
    pages_are("v", 2 * N_PAGES - 1, 1, 7);
    assert_int_equal(atomic_load(&taps[1].stamps[2 * N_PAGES - 1]), 7);

    filter.refresh = NULL;
    array_volume_filter_add(array, "v", "three", &filter, on_done, &added);
    await_ok(&added);
    array_volume_grow(array, "v", 3 * SIZE, on_done, &refused);
    await_failed(&refused, ERR_CONFLICT);
    pages_are("v", 2 * N_PAGES - 1, 1, 7);
}

static struct blockdev *leg_of(const char *id)
{
    struct block_opener *opener = array_leg_opener(array, id);
    struct opened opened = {0};

    opener->ops->open(opener, control, handle_opened, &opened);
    io_wait(control, handle_is_open, &opened);
    opener->ops->free(opener);
    return opened.dev;
}

/* Hosts may only read a mirror's target; the mirror writes to it all the same, unwatched, and through its filters. */
static void test_leg_of_a_mirror(void **state)
{
    (void)state;
    struct array_layer layers[CHAIN_MAX];
    struct array_volume volume = volume_spec("v", "f", "a", layers);
    struct result opened = {0};
    struct result replaced = {0};
    uint32_t page[PAGE / 4];

    layers_make("f", "a b");
    volume.read_only = true;
    volume.watch = true;
    array_volume_open(array, &volume, on_done, &opened);
    await_ok(&opened);
    filter_add("v", "one", &taps[0]);

    struct blockdev *leg = leg_of("v");
    struct blockdev *host = handle_of("v");

    assert_true(host->info.read_only);
    assert_false(leg->info.read_only);
    page_write(leg, 1, 7);
    volume_cut("v", "b");
    page_write(leg, 2, 8);
    assert_int_equal(page_read(host, 1), 7);
    assert_int_equal(page_read(host, 2), 8);
    page_fill(page, 1, 9);
    assert_int_equal(io_do(host, BLOCK_WRITE, PAGE, page, PAGE, 0), -EROFS);
    assert_int_equal(atomic_load(&taps[0].stamps[1]), 7);
    assert_int_equal(n_changed, 0);
    volume = volume_spec("v", "f", "a b", layers);
    array_volume_replace(array, &volume, on_done, &replaced); /* and is writable to hosts */
    await_ok(&replaced);
    page_write(leg, 1, 10);
    assert_int_equal(page_read(host, 1), 10);
    io_close(leg);
    io_close(host);
    pages_write("v", 3, 1, 11);
    assert_int_equal(atomic_load(&taps[0].stamps[3]), 11);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, taps_setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_all_that_is_written),     TEST(test_there_from_the_open),
        TEST(test_one_that_cannot_be_made), TEST(test_grow_below_filters),
        TEST(test_leg_of_a_mirror),
    };

    base_dir = "/dev/shm";
    return cmocka_run_group_tests_name("filters", tests, NULL, NULL);
}
