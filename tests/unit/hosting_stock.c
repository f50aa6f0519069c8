// SPDX-License-Identifier: Apache-2.0
/* Layers made ahead: named, created, given back, left over of a crash, and gone with their pool. */
#include "tests/unit/hosting_fixture.h"

static char family[] = "f";

/* How many files of the directory end so. */
static unsigned files(const char *suffix)
{
    DIR *open = opendir(dir);
    const struct dirent *file;
    unsigned n = 0;

    assert_non_null(open);
    while ((file = readdir(open)) != NULL) {
        size_t len = strlen(file->d_name);

        n += len > strlen(suffix) && strcmp(file->d_name + len - strlen(suffix), suffix) == 0;
    }
    closedir(open);
    return n;
}

static bool spares_are(void *arg)
{
    return files(".spare") == *(unsigned *)arg;
}

static void wait_spares(unsigned n)
{
    io_wait(control, spares_are, &n);
}

static void path_of(char path[400], const char *id, const char *suffix)
{
    snprintf(path, 400, "%s/%s%s", dir, id, suffix);
}

static bool has(const char *id, const char *suffix)
{
    char path[400];
    struct stat stat_now;

    path_of(path, id, suffix);
    return stat(path, &stat_now) == 0;
}

/* As a call does: an id, then the layer. */
static void make(const char *of, char ret_id[ARRAY_ID_LEN + 1])
{
    array_layer_name(array, of, "pool", SIZE, ret_id);
    layers_make(of, ret_id);
}

static bool one_is_ready(void *arg)
{
    char id[ARRAY_ID_LEN + 1];

    array_layer_name(array, arg, "pool", SIZE, id);
    array_layer_name_back(array, id);
    return has(id, ".spare");
}

/* Until there are some of the family's loop. */
static void stock_up(void)
{
    char id[ARRAY_ID_LEN + 1];

    for (unsigned i = 0; i < 4; i++) {

        make(family, id);
    }
    wait_spares(8);
    io_wait(control, one_is_ready, family);
}

static void layers_come_from_the_stock(void **state)
{
    (void)state;
    char ids[12][ARRAY_ID_LEN + 1];
    struct array_usage before;
    struct array_usage after;

    stock_up();
    assert_true(array_pool_usage(array, "pool", &before));
    unsigned n_layers = files(".layer");

    for (unsigned i = 0; i < 3; i++) {
        array_layer_name(array, "f", "pool", SIZE, ids[i]);
        assert_true(has(ids[i], ".spare"));
    }
    assert_string_not_equal(ids[0], ids[1]);
    layers_make("f", ids[0]);
    assert_true(has(ids[0], ".layer") && !has(ids[0], ".spare"));
    /* Counted when it is used, as other layers are. */
    assert_true(array_pool_usage(array, "pool", &after));
    assert_int_equal(after.used_bytes - before.used_bytes, 8192);

    /* A volume of it, across restarts and at the limit of files. */
    volume_open("v", "f", ids[0]);
    pages_write("v", 3, 20, 7);
    layers_make("f", ids[1]);
    volume_cut("v", ids[1]);
    pages_write("v", 5, 1, 8);
    volume_close("v");
    array_restart();
    char chain[64];

    snprintf(chain, sizeof(chain), "%s %s", ids[0], ids[1]);
    volume_open("v", "f", chain);
    pages_are("v", 3, 2, 7);
    pages_are("v", 5, 1, 8);
    assert_int_equal(files(".layer"), n_layers + 2);
}

static void what_was_named_is_given_back_or_removed(void **state)
{
    (void)state;
    char one[ARRAY_ID_LEN + 1];
    char other[ARRAY_ID_LEN + 1];
    struct result removed = {0};

    stock_up();
    array_layer_name(array, "f", "pool", SIZE, one);
    array_layer_name_back(array, one);
    array_layer_name(array, "f", "pool", SIZE, other);
    assert_string_equal(one, other);
    layers_make("f", other);
    wait_spares(8); /* another one was made */
    remove_ask("f", other, &removed);
    await_ok(&removed);
    assert_false(has(other, ".layer"));

    /* Faster than they are made. */
    for (unsigned i = 0; i < 30; i++) {
        make("f", other);
    }
    wait_spares(8);

    /* Another size has none. */
    array_layer_name(array, "f", "pool", 2 * SIZE, other);
    assert_false(has(other, ".spare"));
    array_layer_name_back(array, other);
}

static void all_or_none_with_layers_of_the_stock(void **state)
{
    (void)state;
    char id[ARRAY_ID_LEN + 1];
    char names[64];
    char path[400];
    struct result result = {0};

    stock_up();
    layers_make("f", "a");
    array_layer_name(array, "f", "pool", SIZE, id);
    snprintf(names, sizeof(names), "%s a", id);
    layers_ask("f", names, &result);
    await(&result);
    assert_true(result.failed); /* a is there already */

    /* Somebody has removed the file. */
    array_layer_name(array, "f", "pool", SIZE, id);
    path_of(path, id, ".spare");
    assert_int_equal(unlink(path), 0);
    snprintf(names, sizeof(names), "b %s", id);
    result = (struct result){0};
    layers_ask("f", names, &result);
    await(&result);
    assert_true(result.failed);
    assert_false(file_is_there("b"));
    make("f", id);
}

static bool is_known(void *arg, const char *layer_id)
{
    return strcmp(layer_id, arg) == 0;
}

static void a_name_that_a_crash_has_taken_is_given_again(void **state)
{
    (void)state;
    char id[ARRAY_ID_LEN + 1];
    char from[400];
    char to[400];

    stock_up();
    make("f", id);
    volume_open("v", "f", id);
    pages_write("v", 3, 2, 7);
    volume_close("v");
    array_end();
    path_of(from, id, ".layer");
    path_of(to, id, ".spare");
    assert_int_equal(rename(from, to), 0);
    array_start();
    /* The others of the stock go, and the layers that no record knows. */
    assert_int_equal(array_pool_sweep(array, "pool", is_known, id), 4);
    assert_int_equal(files(".spare"), 0);
    assert_int_equal(files(".layer"), 1);
    volume_open("v", "f", id);
    pages_are("v", 3, 2, 7);
}

static void the_stock_goes_with_its_pool(void **state)
{
    (void)state;
    struct array_layer layer = {.pool_id = "other", .size_bytes = SIZE};
    char path[80];
    struct stat stat_now;
    struct error error;

    snprintf(path, sizeof(path), "%s-other", dir);
    assert_int_equal(array_pool_add(array, "other", path, 0, &error), 0);
    for (unsigned i = 0; i < 4; i++) {
        struct result result = {0};

        array_layer_name(array, "g", "other", SIZE, layer.id);
        array_layers_create(array, "g", &layer, 1, on_done, &result);
        await_ok(&result);
        result = (struct result){0};
        array_layers_remove(array, "g", &layer, 1, on_done, &result);
        await_ok(&result);
    }
    /* Some are being made now. */
    bool gone = false;

    array_pool_remove(array, "other", io_flag, &gone);
    io_wait(control, io_flag_is_set, &gone);
    assert_int_not_equal(stat(path, &stat_now), 0);
}

static int run_all(const char *where)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(layers_come_from_the_stock, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_named_is_given_back_or_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(all_or_none_with_layers_of_the_stock, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_that_a_crash_has_taken_is_given_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_stock_goes_with_its_pool, setup, teardown),
    };

    base_dir = where;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return run_all("/dev/shm") + run_all("/tmp");
}
