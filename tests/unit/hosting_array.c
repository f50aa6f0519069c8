// SPDX-License-Identifier: Apache-2.0
/*
 * Layers and volumes: made, cut, replaced, merged, grown and closed under load, and what goes wrong there.
 */
#include "tests/unit/hosting_fixture.h"

#include <sys/resource.h>

#include "base/random.h"

static void test_content_stays(void **state)
{
    (void)state;
    layers_make("f", "a");
    volume_open("v", "f", "a");
    pages_write("v", 3, 2, 7);
    volume_close("v");
    assert_null(array_volume_device(array, "v", NULL));
    volume_open("v", "f", "a");
    pages_are("v", 3, 2, 7);
    pages_are("v", 5, 1, 0);
    array_restart();
    volume_open("v", "f", "a");
    pages_are("v", 3, 2, 7);
}

static void test_all_layers_or_none(void **state)
{
    (void)state;
    struct result result = {0};

    layers_make("f", "a");
    layers_ask("f", "b c a", &result); /* a is there already */
    await(&result);
    assert_true(result.failed);
    assert_false(file_is_there("b"));
    assert_false(file_is_there("c"));
    assert_true(file_is_there("a"));
    layers_make("f", "b c");
}

/* No descriptor is left for anybody. The limit that was. */
static struct rlimit files_exhaust(void)
{
    struct rlimit before;
    int next = open("/dev/null", O_RDONLY);

    assert_true(next >= 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    close(next);
    struct rlimit none = {.rlim_cur = (rlim_t)next, .rlim_max = before.rlim_max};

    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    return before;
}

static void test_no_more_files(void **state)
{
    (void)state;
    struct result created = {0};
    struct result opened = {0};

    layers_make("f", "a");
    volume_open("v", "f", "a");
    pages_write("v", 3, 2, 7);
    volume_close("v");
    array_restart();
    struct rlimit before = files_exhaust();

    layers_ask("g", "b c", &created);
    open_ask("v", "f", "a", &opened);
    await(&created);
    await(&opened);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(created.failed && opened.failed);
    assert_int_equal(created.error.code, ERR_LIMIT_REACHED);
    assert_int_equal(opened.error.code, ERR_LIMIT_REACHED);
    assert_false(file_is_there("b"));
    assert_false(file_is_there("c"));
    /* And then nothing has been lost. */
    layers_make("g", "b c");
    volume_open("v", "f", "a");
    pages_are("v", 3, 2, 7);
}

static void test_cut_under_writes(void **state)
{
    (void)state;
    uint32_t before[LOAD_PAGES];
    uint32_t after[LOAD_PAGES];
    char base[] = "a";

    layers_make("f", "a");
    volume_open("v", "f", base);
    struct load *load = load_start("v");

    for (unsigned i = 0; i < 8; i++) {
        struct result result = {0};
        char top[8];
        char snapshot[8];
        char chain[64] = "a";

        snprintf(top, sizeof(top), "t%u", i);
        snprintf(snapshot, sizeof(snapshot), "s%u", i);
        layers_make("f", top);
        layers_make("f", snapshot);
        memcpy(before, load->completed, sizeof(before));
        cut_ask("v", top, &result);
        await_ok(&result);
        memcpy(after, load->submitted, sizeof(after));
        for (unsigned j = 0; j < i; j++) {
            size_t len = strlen(chain);

            snprintf(chain + len, sizeof(chain) - len, " t%u", j);
        }
        size_t len = strlen(chain);

        snprintf(chain + len, sizeof(chain) - len, " %s", snapshot);
        volume_open(snapshot, "f", chain);
        struct blockdev *dev = handle_of(snapshot);

        for (unsigned page = 0; page < LOAD_PAGES; page++) {
            uint32_t stamp = page_read(dev, page);

            /* All that was acknowledged before, nothing that was written after. */
            assert_true(stamp >= before[page]);
            assert_true(stamp <= after[page]);
            before[page] = stamp;
        }
        /* It does not change any more. */
        for (unsigned page = 0; page < LOAD_PAGES; page++) {
            assert_int_equal(page_read(dev, page), before[page]);
        }
        io_close(dev);
        volume_close(snapshot);
    }
    load_end(load);
    struct blockdev *dev = handle_of("v");

    for (unsigned page = 0; page < LOAD_PAGES; page++) {
        assert_int_equal(page_read(dev, page), load->completed[page]);
    }
    io_close(dev);
    free(load);
}

/* Requests go on all the time; those that come while the content changes are in the new one. */
static void test_replace_under_load(void **state)
{
    (void)state;
    layers_make("f", "a n0 n1 n2 n3");
    layers_make("f", "t");
    volume_open("v", "f", "a");
    pages_write("v", LOAD_PAGES, 4, 5);
    volume_cut("v", "t");
    struct load *load = load_start("v");

    for (unsigned i = 0; i < 4; i++) {
        struct result result = {0};
        char chain[16];

        snprintf(chain, sizeof(chain), "a n%u", i);

        replace_ask("v", "f", chain, &result);
        await_ok(&result);
        load->n_completed = 0;
        io_wait(control, load_has_rounds, load);
        load_pause(load);
        struct blockdev *dev = handle_of("v");

        for (unsigned page = 0; page < LOAD_PAGES; page++) {
            assert_int_equal(page_read(dev, page), load->completed[page]);
        }
        io_close(dev);
        load_go_on(load);
        pages_are("v", LOAD_PAGES, 4, 5);
    }
    load_end(load);
    free(load);
    /* What was left is not in use. */
    struct result result = {0};

    remove_ask("f", "t n0 n1 n2", &result);
    await_ok(&result);
    assert_false(file_is_there("n2"));
    assert_true(file_is_there("n3"));
}

/* v: a b c, w: a b d. b goes up or down, a goes into b. */
static void shared_make(unsigned in_a, unsigned in_b)
{
    layers_make("f", "a b c d");
    volume_open("v", "f", "a");
    pages_write("v", 0, in_a, 1);
    volume_cut("v", "b");
    pages_write("v", 0, in_b, 2);
    pages_write("v", 100, 1, 2);
    volume_cut("v", "c");
    volume_open("w", "f", "a b d");
    pages_write("v", 200, 1, 3);
    pages_write("w", 200, 1, 4);
}

static void shared_check(unsigned in_a, unsigned in_b)
{
    const char *const ids[] = {"v", "w"};

    for (unsigned i = 0; i < 2; i++) {
        pages_are(ids[i], 0, in_b, 2);
        pages_are(ids[i], in_b, in_a - in_b, 1);
        pages_are(ids[i], 100, 1, 2);
        pages_are(ids[i], 200, 1, 3 + i);
    }
}

static void merge_shared(unsigned in_a, unsigned in_b, const char *goes, const char *v_chain,
                         const char *w_chain)
{
    struct result result = {0};
    struct result finished = {0};

    shared_make(in_a, in_b);
    array_merge(array, "w", "a", "b", on_merged, &result);
    await_ok(&result);
    assert_string_equal(result.superfluous, goes);
    shared_check(in_a, in_b);
    finish_ask("f", goes, &finished);
    await_ok(&finished);
    assert_false(file_is_there(goes));
    shared_check(in_a, in_b);
    array_restart();
    volume_open("v", "f", v_chain);
    volume_open("w", "f", w_chain);
    shared_check(in_a, in_b);
}

static void test_merge_down(void **state)
{
    (void)state;
    merge_shared(60, 3, "b", "a c", "a d");
}

static void test_merge_up(void **state)
{
    (void)state;
    merge_shared(20, 19, "a", "b c", "b d");
}

/* Both pairs of a chain at once: while the second is merged, the first is to leave the same stack. */
static void test_finish_while_next_merge_runs(void **state)
{
    (void)state;
    struct result first = {0};
    struct result second = {0};
    struct result finished = {0};

    chain_written("a b c d", (const struct pages[]){{0, 400}, {0, 300}, {0, 200}});
    array_merge(array, "v", "a", "b", on_merged, &first);
    await_ok(&first);
    assert_string_equal(first.superfluous, "b");
    array_merge(array, "v", "c", "d", on_merged, &second);
    finish_ask("f", "b", &finished);
    await_ok(&finished);
    await(&second);
    if (second.failed) {
        assert_int_equal(second.error.code, ERR_SHUTTING_DOWN);
    }
    assert_false(file_is_there("b"));
    pages_are("v", 0, 200, 3);
    pages_are("v", 200, 100, 2);
    pages_are("v", 300, 100, 1);
    second = (struct result){0};
    array_merge(array, "v", "c", "d", on_merged, &second);
    await_ok(&second);
    assert_string_equal(second.superfluous, "c");
    pages_are("v", 0, 200, 3);
}

static void test_close_while_merging(void **state)
{
    (void)state;
    struct result merged = {0};
    struct result closed = {0};

    shared_make(60, 3);
    array_merge(array, "v", "a", "b", on_merged, &merged);
    array_volume_close(array, "v", on_done, &closed);
    await(&merged);
    await_ok(&closed);
    assert_true(!merged.failed || merged.error.code == ERR_SHUTTING_DOWN);
    volume_open("v", "f", "a b c");
    shared_check(60, 3);

    /* The array closes with a merge under way. */
    merged = (struct result){0};
    array_merge(array, "v", "a", "b", on_merged, &merged);
    array_restart();
    assert_true(merged.done);
    volume_open("v", "f", "a b c");
    volume_open("w", "f", "a b d");
    shared_check(60, 3);
}

static void test_cut_and_replace_while_merging(void **state)
{
    (void)state;
    struct result merged = {0};
    struct result replaced = {0};
    struct result finished = {0};

    layers_make("f", "a b c n");
    volume_open("v", "f", "a");
    pages_write("v", 0, 300, 1);
    volume_cut("v", "b");
    pages_write("v", 0, 10, 2);
    array_merge(array, "v", "a", "b", on_merged, &merged); /* up, into what is written to */
    volume_cut("v", "c");
    pages_write("v", 0, 1, 3);
    await_ok(&merged);
    assert_string_equal(merged.superfluous, "a");
    finish_ask("f", "a", &finished);
    await_ok(&finished);
    pages_are("v", 0, 1, 3);
    pages_are("v", 1, 9, 2);
    pages_are("v", 10, 290, 1);
    merged = (struct result){0};
    array_merge(array, "v", "b", "c", on_merged, &merged);
    replace_ask("v", "f", "b n", &replaced);
    await_ok(&replaced);
    await(&merged);
    pages_are("v", 0, 10, 2);
    pages_are("v", 10, 290, 1);
}

/* Fails as soon as it has begun, again and again: the end comes right behind the beginning. */
static void test_merges_that_fail(void **state)
{
    (void)state;
    struct array_usage usage;

    layers_make("f", "a b");
    volume_open("v", "f", "a");
    pages_write("v", 0, 50, 1);
    volume_cut("v", "b");
    assert_true(array_pool_usage(array, "pool", &usage));
    array_pool_set_capacity(array, "pool", usage.used_bytes);
    for (unsigned i = 0; i < 200; i++) {
        struct result merged = {0};

        array_merge(array, "v", "a", "b", on_merged, &merged);
        await_failed(&merged, ERR_NO_SPACE);
    }
    pages_are("v", 0, 50, 1);
    array_pool_set_capacity(array, "pool", 0);
    struct result merged = {0};

    array_merge(array, "v", "a", "b", on_merged, &merged);
    await_ok(&merged);
}

/* ---- order ---- */

struct barrier_seen {
    struct array_barrier *barrier;
    bool reached;
    bool ended;
    const struct result *before;
};

static void on_barrier(void *arg, struct array_barrier *barrier)
{
    struct barrier_seen *seen = arg;

    assert_true(seen->before == NULL || seen->before->done);
    seen->barrier = barrier;
    seen->reached = true;
}

static bool is_reached(void *arg)
{
    return ((struct barrier_seen *)arg)->reached;
}

static void damage(const char *name)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s.layer", dir, name);
    FILE *file = fopen(path, "r+");
    static const char noise[8192] = {1, 2, 3};

    assert_non_null(file);
    assert_int_equal(fwrite(noise, sizeof(noise), 1, file), 1);
    fclose(file);
}

/* Who asked has heard of all that was before a barrier when it is reached, and the rest waits. */
static void test_barriers(void **state)
{
    (void)state;
    struct result made = {0};
    struct result opened = {0};
    struct result failed = {0};
    struct result behind = {0};
    struct barrier_seen first = {.before = &opened};
    struct barrier_seen second = {.before = &failed};

    layers_ask("f", "a", &made);
    open_ask("v", "f", "a", &opened);
    array_barrier(array, "f", on_barrier, &first);
    open_ask("w", "f", "a missing", &failed);
    array_barrier(array, "f", on_barrier, &second);
    layers_ask("f", "b", &behind);
    io_wait(control, is_reached, &first);
    assert_false(made.failed);
    assert_false(opened.failed);
    pages_write("v", 0, 10, 1); /* time passes */
    assert_false(failed.done);
    array_barrier_end(first.barrier);
    io_wait(control, is_reached, &second);
    assert_true(failed.failed);
    assert_false(behind.done);
    array_barrier_end(second.barrier);
    await_ok(&behind);
    assert_null(array_volume_device(array, "w", NULL));
}

struct chained {
    struct result result;
    unsigned depth;
};

static void on_chained(void *arg, const struct error *error)
{
    struct chained *chained = arg;
    struct array_layer layers[CHAIN_MAX];

    assert_null(error);
    if (++chained->depth == 5) {
        on_done(&chained->result, NULL);
        return;
    }
    char name[8];

    snprintf(name, sizeof(name), "l%u", chained->depth);
    chain_of(name, layers);
    array_layers_create(array, "f", layers, 1, on_chained, chained);
}

/* done() may ask for the next one, alone in its queue or not. */
static void test_done_asks_for_more(void **state)
{
    (void)state;
    struct chained chained = {0};

    on_chained(&chained, NULL);
    await_ok(&chained.result);
    struct result result = {0};

    chained = (struct chained){0};
    remove_ask("f", "l1 l2 l3 l4", &result);
    on_chained(&chained, NULL);
    struct result other = {0};

    layers_ask("f", "x", &other);
    await_ok(&result);
    await_ok(&chained.result);
    await_ok(&other);
    assert_true(other.order < chained.result.order);
}

/* It leaves one family and comes up in another one, while requests of the first are still queued. */
static void test_volume_moves(void **state)
{
    (void)state;
    struct result closed = {0};
    struct result opened = {0};
    struct barrier_seen seen = {0};

    layers_make("f", "a");
    layers_make("g", "b");
    volume_open("v", "f", "a");
    pages_write("v", 0, 5, 1);
    array_volume_close(array, "v", on_done, &closed);
    array_barrier(array, "g", on_barrier, &seen);
    open_ask("v", "g", "b", &opened);
    assert_null(array_volume_device(array, "v", NULL));
    await_ok(&closed);
    assert_true(array_volume_is_there(array, "v"));
    io_wait(control, is_reached, &seen);
    array_barrier_end(seen.barrier);
    await_ok(&opened);
    pages_are("v", 0, 5, 0);
    volume_close("v");
    volume_open("v", "f", "a");
    pages_are("v", 0, 5, 1);
}

/* ---- what can go wrong ---- */

static void test_damaged_layer(void **state)
{
    (void)state;
    struct result opened = {0};
    struct result other = {0};
    struct result removed = {0};

    layers_make("f", "a b c");
    volume_open("v", "f", "a b");
    pages_write("v", 0, 1, 1);
    array_restart();
    damage("b");
    open_ask("v", "f", "a b", &opened);
    open_ask("w", "f", "a c", &other);
    await_failed(&opened, ERR_INVALID_PARAMETER);
    await_ok(&other);
    assert_false(array_volume_is_there(array, "v"));
    remove_ask("f", "b", &removed);
    await_ok(&removed);
    assert_false(file_is_there("b"));
    /* Nothing is open of it: whatever is asked of it says so. */
    struct result result[5] = {0};

    cut_ask("v", "c", &result[0]);
    array_volume_grow(array, "v", 2 * SIZE, on_done, &result[1]);
    array_volume_close(array, "v", on_done, &result[2]);
    array_merge(array, "v", "a", "b", on_merged, &result[3]);
    replace_ask("v", "f", "a c", &result[4]);
    for (unsigned i = 0; i < 5; i++) {
        await_failed(&result[i], ERR_INTERNAL);
    }
}

/* The directory could not be used at start: whatever needs it fails, the rest goes on. */
static void test_pool_that_is_not_there(void **state)
{
    (void)state;
    struct array_layer layers[CHAIN_MAX];
    struct array_volume volume = volume_spec("v", "f", "a", layers);
    struct result result[5] = {0};

    strcpy(layers[0].pool_id, "other");
    array_layers_create(array, "f", layers, 1, on_done, &result[0]);
    array_volume_open(array, &volume, on_done, &result[1]);
    array_merge_finish(array, "f", layers, on_done, &result[2]);
    array_layers_remove(array, "f", layers, 1, on_done, &result[3]);
    for (unsigned i = 0; i < 4; i++) {
        await_failed(&result[i], ERR_INTERNAL);
    }
    layers_make("f", "b");
    volume_open("v", "f", "b");
    array_volume_replace(array, &volume, on_done, &result[4]);
    await_failed(&result[4], ERR_INTERNAL);
    pages_write("v", 0, 1, 1);
}

/* A volume that could not be given other content reads what it had: its layers are not taken away. */
static void test_layers_in_use_stay(void **state)
{
    (void)state;
    struct result replaced = {0};
    struct result removed = {0};

    layers_make("f", "a b x");
    volume_open("v", "f", "a b");
    pages_write("v", 0, 1, 1);
    replace_ask("v", "f", "a missing", &replaced);
    remove_ask("f", "b x", &removed);
    await(&replaced);
    assert_true(replaced.failed);
    await_failed(&removed, ERR_CONFLICT);
    assert_true(file_is_there("b"));
    assert_false(file_is_there("x"));
    pages_are("v", 0, 1, 1);
    volume_close("v");
    removed = (struct result){0};
    remove_ask("f", "a b", &removed);
    await_ok(&removed);
    assert_false(file_is_there("b"));
}

/* The records say that there is a new top, but there cannot be: what is frozen for others must not change. */
static void test_cut_that_cannot_be(void **state)
{
    (void)state;
    struct array_layer layer[CHAIN_MAX];
    struct result made = {0};
    struct result result = {0};
    static uint8_t page[PAGE];

    layers_make("f", "a n");
    volume_open("v", "f", "a");
    pages_write("v", 0, 1, 1);
    chain_of("large", layer);
    layer[0].size_bytes = 2 * SIZE;
    array_layers_create(array, "f", layer, 1, on_done, &made);
    await_ok(&made);
    cut_ask("v", "large", &result);
    await_failed(&result, ERR_INTERNAL);
    struct blockdev *dev = handle_of("v");

    assert_int_equal(io_do(dev, BLOCK_WRITE, 0, page, PAGE, 0), -EROFS);
    assert_int_equal(page_read(dev, 0), 1);
    io_close(dev);
    result = (struct result){0};
    replace_ask("v", "f", "a n", &result);
    await_ok(&result);
    pages_write("v", 0, 1, 2);
}

/* All of it is asked for and nothing waited for. */
static void test_close_with_full_queues(void **state)
{
    (void)state;
    struct result results[40] = {0};
    struct result opened[40] = {0};

    for (unsigned i = 0; i < 40; i++) {
        char name[8];

        snprintf(name, sizeof(name), "l%u", i);
        layers_ask(name, name, &results[i]);
        open_ask(name, name, name, &opened[i]);
    }
    array_restart();
    for (unsigned i = 0; i < 40; i++) {
        assert_true(results[i].done && !results[i].failed);
        assert_true(opened[i].done && !opened[i].failed);
    }
}

/* ---- growing ---- */

static void test_grow(void **state)
{
    (void)state;
    struct result grown = {0};
    struct array_layer layers[CHAIN_MAX];
    struct result opened = {0};

    layers_make("f", "a");
    layers_make("g", "b");
    volume_open("v", "f", "a");
    pages_write("v", N_PAGES - 1, 1, 1);
    array_volume_grow(array, "v", 2 * SIZE, on_done, &grown);
    await_ok(&grown);
    assert_int_equal(array_volume_device(array, "v", NULL)->info.size_bytes, 2 * SIZE);
    pages_are("v", N_PAGES - 1, 1, 1);
    pages_are("v", N_PAGES, 1, 0);
    pages_write("v", 2 * N_PAGES - 1, 1, 2);

    /* It was recorded, but a crash came before it was done. */
    struct array_volume volume = volume_spec("w", "g", "b", layers);

    volume.size_bytes = 3 * SIZE;
    array_volume_open(array, &volume, on_done, &opened);
    await_ok(&opened);
    pages_write("w", 3 * N_PAGES - 1, 1, 2);
}

/* ---- many at once ---- */

/* Cuts, volumes above what is frozen, merges, ends: in any order, with a host that writes; each volume reads what it should. */
static void test_random_chains(void **state)
{
    (void)state;
    struct random random;
    char chain[256] = "a";

    random_seed(&random, 20261121);
    layers_make("f", "a");
    volume_open("v", "f", "a");
    struct load *load = load_start("v");
    unsigned n_layers = 1;
    unsigned made = 0;

    for (unsigned i = 0; i < 60; i++) {
        struct array_layer layers[CHAIN_MAX];

        if (n_layers < 8 && random_below(&random, 2) == 0) {
            char name[8];
            size_t len = strlen(chain);

            snprintf(name, sizeof(name), "n%u", made++);
            layers_make("f", name);
            volume_cut("v", name);
            snprintf(chain + len, sizeof(chain) - len, " %s ", name);
            n_layers++;
        } else if (n_layers > 1) {
            struct result merged = {0};
            struct result finished = {0};
            unsigned at = (unsigned)random_below(&random, n_layers - 1);

            chain_of(chain, layers);
            array_merge(array, "v", layers[at].id, layers[at + 1].id, on_merged, &merged);
            await_ok(&merged);
            finish_ask("f", merged.superfluous, &finished);
            await_ok(&finished);
            chain[0] = '\0';
            for (unsigned j = 0; j < n_layers; j++) {
                if (strcmp(layers[j].id, merged.superfluous) != 0) {
                    strcat(chain, layers[j].id);
                    strcat(chain, " ");
                }
            }
            n_layers--;
        }
        load->n_completed = 0;
        io_wait(control, load_has_rounds, load);
    }
    load_end(load);
    array_restart();
    volume_open("v", "f", chain);
    struct blockdev *dev = handle_of("v");

    for (unsigned page = 0; page < LOAD_PAGES; page++) {
        assert_int_equal(page_read(dev, page), load->completed[page]);
    }
    io_close(dev);
    free(load);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_content_stays),
        TEST(test_all_layers_or_none),
        TEST(test_no_more_files),
        TEST(test_cut_under_writes),
        TEST(test_replace_under_load),
        TEST(test_merge_down),
        TEST(test_merge_up),
        TEST(test_finish_while_next_merge_runs),
        TEST(test_close_while_merging),
        TEST(test_cut_and_replace_while_merging),
        TEST(test_merges_that_fail),
        TEST(test_barriers),
        TEST(test_done_asks_for_more),
        TEST(test_volume_moves),
        TEST(test_damaged_layer),
        TEST(test_pool_that_is_not_there),
        TEST(test_layers_in_use_stay),
        TEST(test_cut_that_cannot_be),
        TEST(test_close_with_full_queues),
        TEST(test_grow),
        TEST(test_random_chains),
    };

    return run_twice(tests, ARRAY_LEN(tests));
}
