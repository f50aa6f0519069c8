// SPDX-License-Identifier: Apache-2.0
/*
 * An array on real loops, for its tests: control is the test's thread, the data loops have threads of their own. Volumes are
 * read and written through handles, as copies do.
 *
 * Thread:    the test's.
 * Ownership: one array per program; layers and volumes go by short names.
 * Errors:    asserted.
 */
#ifndef TESTS_UNIT_HOSTING_FIXTURE_H
#define TESTS_UNIT_HOSTING_FIXTURE_H

#include "tests/unit/testing.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "block/mem_dev.h"
#include "hosting/array.h"
#include "tests/unit/block_io.h"

enum { N_LOOPS = 2, MIB = 1 << 20, SIZE = 4 * MIB, PAGE = 4096, N_PAGES = SIZE / PAGE };

static const char *base_dir;
static char dir[64];
static struct loop *control;
static struct loop *loops[N_LOOPS];
static struct array *array;

/* ---- what the array tells ---- */

static unsigned n_changed;
static char changed_id[ARRAY_ID_LEN + 1];
static unsigned n_low;
static unsigned n_not_low;

static inline void volume_changed(void *arg, const char *volume_id)
{
    (void)arg;
    n_changed++;
    strcpy(changed_id, volume_id);
}

static inline void pool_low_space(void *arg, const char *pool_id, bool low)
{
    (void)arg;
    assert_string_equal(pool_id, "pool");
    n_low += low;
    n_not_low += !low;
}

/* ---- operations, one at a time or many ---- */

struct result {
    bool done;
    bool failed;
    struct error error;
    uint64_t pause_ns;
    char superfluous[ARRAY_ID_LEN + 1];
    unsigned order;
};

static unsigned n_done;

static inline void on_done(void *arg, const struct error *error)
{
    struct result *result = arg;

    assert_true(loop_is_current(control));
    assert_false(result->done);
    result->done = true;
    result->order = n_done++;
    result->failed = error != NULL;
    if (error != NULL) {
        result->error = *error;
    }
}

static inline void on_cut(void *arg, const struct error *error, uint64_t pause_ns)
{
    ((struct result *)arg)->pause_ns = pause_ns;
    on_done(arg, error);
}

static inline void on_merged(void *arg, const struct error *error, const char *superfluous_id)
{
    struct result *result = arg;

    if (error == NULL) {
        strcpy(result->superfluous, superfluous_id);
    }
    on_done(arg, error);
}

static inline bool is_done(void *arg)
{
    return ((struct result *)arg)->done;
}

static inline void await(struct result *result)
{
    io_wait(control, is_done, result);
}

static inline void await_ok(struct result *result)
{
    await(result);
    if (result->failed) {
        fail_msg("%s", result->error.detail);
    }
}

static inline void await_failed(struct result *result, enum error_code code)
{
    await(result);
    assert_true(result->failed);
    assert_int_equal(result->error.code, code);
}

/* ---- layers and volumes by their names ---- */

enum { CHAIN_MAX = 16 };

/* "a b c" */
static inline size_t chain_of(const char *names, struct array_layer layers[CHAIN_MAX])
{
    char text[256];
    size_t n = 0;

    snprintf(text, sizeof(text), "%s", names);
    for (char *name = strtok(text, " "); name != NULL; name = strtok(NULL, " ")) {
        layers[n] = (struct array_layer){.size_bytes = SIZE};
        strcpy(layers[n].id, name);
        strcpy(layers[n].pool_id, "pool");
        n++;
    }
    return n;
}

static inline void layers_ask(const char *family, const char *names, struct result *result)
{
    struct array_layer layers[CHAIN_MAX];
    size_t n = chain_of(names, layers);

    array_layers_create(array, family, layers, n, on_done, result);
}

static inline void layers_make(const char *family, const char *names)
{
    struct result result = {0};

    layers_ask(family, names, &result);
    await_ok(&result);
}

static inline void remove_ask(const char *family, const char *names, struct result *result)
{
    struct array_layer layers[CHAIN_MAX];
    size_t n = chain_of(names, layers);

    array_layers_remove(array, family, layers, n, on_done, result);
}

static inline struct array_volume volume_spec(const char *id, const char *family, const char *names,
                                              struct array_layer layers[CHAIN_MAX])
{
    struct array_volume volume = {.size_bytes = SIZE, .layers = layers};

    strcpy(volume.id, id);
    strcpy(volume.family, family);
    volume.n_layers = chain_of(names, layers);
    return volume;
}

static inline void open_ask(const char *id, const char *family, const char *names,
                            struct result *result)
{
    struct array_layer layers[CHAIN_MAX];
    struct array_volume volume = volume_spec(id, family, names, layers);

    array_volume_open(array, &volume, on_done, result);
}

static inline void volume_open(const char *id, const char *family, const char *names)
{
    struct result result = {0};

    open_ask(id, family, names, &result);
    await_ok(&result);
}

static inline void replace_ask(const char *id, const char *family, const char *names,
                               struct result *result)
{
    struct array_layer layers[CHAIN_MAX];
    struct array_volume volume = volume_spec(id, family, names, layers);

    array_volume_replace(array, &volume, on_done, result);
}

static inline void volume_close(const char *id)
{
    struct result result = {0};

    array_volume_close(array, id, on_done, &result);
    await_ok(&result);
}

static inline void cut_ask(const char *id, const char *name, struct result *result)
{
    struct array_layer layer[CHAIN_MAX];

    chain_of(name, layer);
    array_volume_cut(array, id, layer, on_cut, result);
}

static inline void volume_cut(const char *id, const char *name)
{
    struct result result = {0};

    cut_ask(id, name, &result);
    await_ok(&result);
}

static inline void finish_ask(const char *family, const char *name, struct result *result)
{
    struct array_layer layer[CHAIN_MAX];

    chain_of(name, layer);
    array_merge_finish(array, family, layer, on_done, result);
}

static inline bool file_is_there(const char *name)
{
    char path[128];
    struct stat stat_now;

    snprintf(path, sizeof(path), "%s/%s.layer", dir, name);
    return stat(path, &stat_now) == 0;
}

/* ---- handles ---- */

struct opened {
    struct blockdev *dev;
    bool done;
};

static inline void handle_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct opened *opened = arg;

    assert_null(error);
    opened->dev = dev;
    opened->done = true;
}

static inline bool handle_is_open(void *arg)
{
    return ((struct opened *)arg)->done;
}

static inline struct blockdev *handle_of(const char *id)
{
    struct block_opener *opener = array_volume_opener(array, id);
    struct opened opened = {0};

    opener->ops->open(opener, control, handle_opened, &opened);
    io_wait(control, handle_is_open, &opened);
    opener->ops->free(opener);
    return opened.dev;
}

/* A page is full of its number and a stamp. */
static inline void page_fill(uint32_t *page, unsigned number, uint32_t stamp)
{
    for (unsigned i = 0; i < PAGE / 8; i++) {
        page[2 * i] = stamp;
        page[2 * i + 1] = stamp == 0 ? 0 : number;
    }
}

static inline void page_write(struct blockdev *dev, unsigned number, uint32_t stamp)
{
    static uint32_t page[PAGE / 4];

    page_fill(page, number, stamp);
    assert_int_equal(io_do(dev, BLOCK_WRITE, (uint64_t)number * PAGE, page, PAGE, 0), 0);
}

static inline uint32_t page_read(struct blockdev *dev, unsigned number)
{
    static uint32_t page[PAGE / 4];
    static uint32_t expected[PAGE / 4];

    assert_int_equal(io_do(dev, BLOCK_READ, (uint64_t)number * PAGE, page, PAGE, 0), 0);
    page_fill(expected, number, page[0]);
    assert_memory_equal(page, expected, PAGE);
    return page[0];
}

static inline void pages_write(const char *id, unsigned first, unsigned n, uint32_t stamp)
{
    struct blockdev *dev = handle_of(id);

    for (unsigned i = 0; i < n; i++) {
        page_write(dev, first + i, stamp);
    }
    io_close(dev);
}

static inline void pages_are(const char *id, unsigned first, unsigned n, uint32_t stamp)
{
    struct blockdev *dev = handle_of(id);

    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(page_read(dev, first + i), stamp);
    }
    io_close(dev);
}

struct pages {
    unsigned first, n;
};

/* Volume v on the first of the layers; pages are written, and the next layer comes on top, until there is none. */
static inline void chain_written(const char *names, const struct pages *written)
{
    struct array_layer layers[CHAIN_MAX];
    size_t n = chain_of(names, layers);

    layers_make("f", names);
    volume_open("v", "f", layers[0].id);
    for (size_t i = 1; i < n; i++) {
        pages_write("v", written[i - 1].first, written[i - 1].n, (uint32_t)i);
        volume_cut("v", layers[i].id);
    }
}

/* ---- a host that writes all the time ---- */

enum { IN_FLIGHT = 16, LOAD_PAGES = 64 };

struct write {
    struct load *load;
    struct block_req req;
    struct slice slice;
    unsigned page;
    uint32_t stamp;
    uint32_t bytes[PAGE / 4];
};

/* Pages in turn, with rising stamps, never two writes of a page at a time. */
struct load {
    struct blockdev *dev;
    struct write writes[IN_FLIGHT];
    uint32_t completed[LOAD_PAGES]; /* the last stamp that was acknowledged */
    uint32_t submitted[LOAD_PAGES];
    bool busy[LOAD_PAGES];
    unsigned next;
    uint32_t stamp;
    unsigned n_completed;
    unsigned under_way;
    bool stop;
};

static inline void write_submit(struct write *write);

static inline void write_done(struct block_req *req)
{
    struct write *write = req->arg;
    struct load *load = write->load;

    assert_int_equal(req->status, 0);
    load->completed[write->page] = write->stamp;
    load->busy[write->page] = false;
    load->n_completed++;
    load->under_way--;
    if (!load->stop) {
        write_submit(write);
    }
}

static inline void write_submit(struct write *write)
{
    struct load *load = write->load;

    do {
        write->page = load->next;
        load->next = (load->next + 1) % LOAD_PAGES;
    } while (load->busy[write->page]);
    load->busy[write->page] = true;
    write->stamp = ++load->stamp;
    load->submitted[write->page] = write->stamp;
    page_fill(write->bytes, write->page, write->stamp);
    write->slice = (struct slice){.data = (void *)write->bytes, .len = PAGE};
    write->req = (struct block_req){.op = BLOCK_WRITE,
                                    .offset = (uint64_t)write->page * PAGE,
                                    .len = PAGE,
                                    .slices = &write->slice,
                                    .n_slices = 1,
                                    .done = write_done,
                                    .arg = write};
    load->under_way++;
    blockdev_submit(load->dev, &write->req);
}

/* Each page has been written since n_completed was 0. */
static inline bool load_has_rounds(void *arg)
{
    return ((struct load *)arg)->n_completed >= 4 * LOAD_PAGES;
}

static inline void load_go_on(struct load *load)
{
    load->stop = false;
    load->n_completed = 0;
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        write_submit(&load->writes[i]);
    }
    io_wait(control, load_has_rounds, load);
}

static inline struct load *load_start(const char *id)
{
    struct load *load = calloc(1, sizeof(*load));

    assert_non_null(load);
    load->dev = handle_of(id);
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        load->writes[i].load = load;
    }
    load_go_on(load);
    return load;
}

static inline bool load_is_idle(void *arg)
{
    return ((struct load *)arg)->under_way == 0;
}

static inline void load_pause(struct load *load)
{
    load->stop = true;
    io_wait(control, load_is_idle, load);
}

static inline void load_end(struct load *load)
{
    load_pause(load);
    io_close(load->dev);
}

/* ---- beginning and end ---- */

static inline void new_layer_id(char ret_id[ARRAY_ID_LEN + 1])
{
    static unsigned n;

    snprintf(ret_id, ARRAY_ID_LEN + 1, "made%u", n++);
}

static inline void array_start(void)
{
    struct array_spec spec = {
        .owner = control,
        .loops = loops,
        .n_loops = N_LOOPS,
        .new_layer_id = new_layer_id,
        .events = {.volume_changed = volume_changed, .pool_low_space = pool_low_space},
    };
    struct error error;

    assert_int_equal(array_new(&spec, &array), 0);
    assert_int_equal(array_pool_add(array, "pool", dir, 0, &error), 0);
}

static inline void array_end(void)
{
    bool closed = false;

    array_close(array, io_flag, &closed);
    io_wait(control, io_flag_is_set, &closed);
    array_free(array);
    array = NULL;
}

static inline void array_restart(void)
{
    array_end();
    array_start();
}

static inline int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "%s/smirror-array-XXXXXX", base_dir);
    assert_non_null(mkdtemp(dir));
    n_changed = 0;
    n_low = 0;
    n_not_low = 0;
    assert_int_equal(loop_new("control", &control), 0);
    for (unsigned i = 0; i < N_LOOPS; i++) {
        assert_int_equal(loop_new("data", &loops[i]), 0);
        assert_int_equal(loop_thread_start(loops[i]), 0);
    }
    array_start();
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    array_end();
    for (unsigned i = 0; i < N_LOOPS; i++) {
        loop_thread_join(loops[i]);
        loop_free(loops[i]);
    }
    loop_free(control);
    DIR *files = opendir(dir);
    const struct dirent *file;

    while ((file = readdir(files)) != NULL) {
        unlinkat(dirfd(files), file->d_name, 0);
    }
    closedir(files);
    return rmdir(dir);
}

/* In memory (/dev/shm), and on the disk that /tmp is on. */
static inline int run_twice(const struct CMUnitTest *tests, size_t n)
{
    int failed;

    base_dir = "/dev/shm";
    failed = _cmocka_run_group_tests("in memory", tests, n, NULL, NULL);
    base_dir = "/tmp";
    return failed + _cmocka_run_group_tests("on disk", tests, n, NULL, NULL);
}

/* ---- what a volume may have below it: memory, that may be away ---- */

static struct mem_disk *below_disk;

struct below_opener {
    struct block_opener base;
    struct loop *loop;
    block_opened_fn done;
    void *arg;
    struct loop_task task;
};

static atomic_bool below_is_away;

static inline void below_open_now(void *arg)
{
    struct below_opener *opener = arg;
    struct mem_dev_spec spec = {.disk = below_disk};
    struct blockdev *dev = NULL;
    struct error error;

    if (atomic_load(&below_is_away)) {
        error_set(&error, ERR_REMOTE_UNREACHABLE, "It is away.");
    } else {
        assert_int_equal(mem_dev_new(opener->loop, &spec, &dev), 0);
    }
    opener->done(opener->arg, dev, dev == NULL ? &error : NULL);
}

static inline void below_open(struct block_opener *base, struct loop *loop, block_opened_fn done,
                              void *arg)
{
    struct below_opener *opener = container_of(base, struct below_opener, base);

    opener->loop = loop;
    opener->done = done;
    opener->arg = arg;
    opener->task = (struct loop_task){.fn = below_open_now, .arg = opener};
    loop_defer(loop, &opener->task);
}

static inline void below_cancel(struct block_opener *base)
{
    (void)base; /* it opens at once */
}

static inline void below_free(struct block_opener *base)
{
    free(container_of(base, struct below_opener, base));
}

static inline struct block_opener *below_opener(void)
{
    static const struct block_opener_ops ops = {
        .open = below_open, .cancel = below_cancel, .free = below_free};
    struct below_opener *opener = calloc(1, sizeof(*opener));

    assert_non_null(opener);
    opener->base.ops = &ops;
    return &opener->base;
}

#endif
