// SPDX-License-Identifier: Apache-2.0
/* Memory and time of many and of large volumes; the figures are printed. */
#include "tests/unit/testing.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/random.h"
#include "block/layer_private.h"
#include "block/stack.h"

#define TIB (UINT64_C(1) << 40)

static void changed(void *arg, uint64_t first, uint64_t count, enum granule_state before)
{
    (void)arg, (void)first, (void)count, (void)before;
}

static void checkpoint(struct layer_map *map)
{
    struct map_page *page;
    while ((page = layer_map_take_dirty(map)) != NULL) {
        layer_map_written(page);
    }
}

/* Every page of every layer is mixed in every chunk: the worst that there is. */
static void maps_of_a_tebibyte_with_ten_snapshots_stay_below_96_mib(void **state)
{
    (void)state;
    static struct layer_map maps[11];
    static uint8_t bits[LAYER_BLOCK];
    struct layer_cache *cache;
    struct random random;
    uint64_t peak = 0;
    random_seed(&random, 1);
    assert_int_equal(layer_cache_new(0, &cache), 0);
    for (unsigned i = 0; i < sizeof(bits); i++) {
        bits[i] = (uint8_t)(random_below(&random, 2) | random_below(&random, 2) << 2 |
                            random_below(&random, 2) << 4 | random_below(&random, 2) << 6);
    }
    size_t before = mallinfo2().uordblks;
    for (unsigned m = 0; m < 11; m++) {
        layer_map_init(&maps[m], cache, TIB / LAYER_GRANULE, false);
        for (uint32_t p = 0; p < maps[m].n_pages; p++) {
            layer_map_loaded(&maps[m], p, bits, 1);
            peak = layer_cache_bytes(cache) > peak ? layer_cache_bytes(cache) : peak;
        }
    }
    /* And as many dirty pages as a checkpoint lets come. */
    for (uint32_t p = 0; p < 8192; p++) {
        uint64_t g = (uint64_t)p * LAYER_PAGE_GRANULES;
        if (!layer_map_known(&maps[10], p)) {
            layer_map_loaded(&maps[10], p, bits, 1);
        }
        layer_map_pin(&maps[10], g, g);
        layer_map_set(&maps[10], g, g, GRANULE_ZERO, changed, NULL);
        layer_map_unpin(&maps[10], g, g);
        peak = layer_cache_bytes(cache) > peak ? layer_cache_bytes(cache) : peak;
    }
    size_t real = mallinfo2().uordblks - before;
    print_message("mixed: %.1f MiB counted at most, %.1f MiB of malloc at the end\n",
                  (double)peak / 1048576, (double)real / 1048576);
    assert_true(peak < 96 << 20);
    assert_true(real < 96 << 20);
    for (unsigned m = 0; m < 11; m++) {
        checkpoint(&maps[m]);
        layer_map_fini(&maps[m]);
    }
    assert_int_equal(layer_cache_bytes(cache), 0);

    /* Written from one end to the other: next to nothing. */
    layer_map_init(&maps[0], cache, TIB / LAYER_GRANULE, true);
    uint64_t empty = layer_cache_bytes(cache);
    for (uint64_t g = 0; g < maps[0].n_granules; g += LAYER_PAGE_GRANULES) {
        uint64_t last = g + LAYER_PAGE_GRANULES - 1;
        last = last < maps[0].n_granules ? last : maps[0].n_granules - 1;
        layer_map_pin(&maps[0], g, last);
        layer_map_set(&maps[0], g, last, GRANULE_DATA, changed, NULL);
        layer_map_unpin(&maps[0], g, last);
    }
    checkpoint(&maps[0]);
    print_message("uniform: %.1f KiB empty, %.1f KiB written\n", (double)empty / 1024,
                  (double)layer_cache_bytes(cache) / 1024);
    assert_true(layer_cache_bytes(cache) < 1 << 20);
    layer_map_fini(&maps[0]);
    layer_cache_free(cache);
}

struct opening {
    struct loop *loop;
    struct layer **layers;
    unsigned wanted;
    unsigned n;
    unsigned closed;
};

static void opened(void *arg, struct layer *layer, const struct error *error)
{
    struct opening *opening = arg;
    if (!layer) {
        print_error("%s\n", error->detail);
    }
    opening->layers[opening->n++] = layer;
    if (opening->n == opening->wanted) {
        loop_stop(opening->loop);
    }
}

static void closed(void *arg, int status)
{
    struct opening *opening = arg;
    assert_int_equal(status, 0);
    if (++opening->closed == opening->wanted) {
        loop_stop(opening->loop);
    }
}

static void dev_closed(void *arg)
{
    closed(arg, 0);
}

static void open_all(struct opening *opening, struct layer_cache *cache, const char *folder,
                     bool create)
{
    char path[128];
    opening->n = 0;
    for (unsigned i = 0; i < opening->wanted; i++) {
        snprintf(path, sizeof(path), "%s/%u.layer", folder, i);
        struct layer_spec spec = {.path = path, .cache = cache, .size_bytes = create ? TIB : 0};
        assert_int_equal(create ? layer_create(opening->loop, &spec, opened, opening)
                                : layer_open(opening->loop, &spec, opened, opening),
                         0);
    }
    loop_run(opening->loop);
    for (unsigned i = 0; i < opening->wanted; i++) {
        assert_non_null(opening->layers[i]);
    }
}

static void close_all(struct opening *opening)
{
    opening->closed = 0;
    for (unsigned i = 0; i < opening->wanted; i++) {
        layer_unref(opening->layers[i], closed, opening);
    }
    loop_run(opening->loop);
}

/* Each with a snapshot; where so many files may not be open, with fewer. */
static void thousands_of_volumes_open_at_once(void **state)
{
    (void)state;
    char folder[64] = "/dev/shm/layer_scale.XXXXXX";
    struct rlimit limit;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    unsigned volumes = 500;
#else
    unsigned volumes = 5000;
#endif
    struct layer_cache *cache;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max; /* as the service does */
    setrlimit(RLIMIT_NOFILE, &limit);
    if (!mkdtemp(folder)) {
        strcpy(folder, "/tmp/layer_scale.XXXXXX");
        assert_non_null(mkdtemp(folder));
        volumes = 200;
    }
    struct opening opening = {.wanted = 2 * volumes};
    opening.layers = calloc(opening.wanted, sizeof(struct layer *));
    struct blockdev **devs = calloc(volumes, sizeof(struct blockdev *));
    assert_int_equal(loop_new("scale", &opening.loop), 0);
    assert_int_equal(layer_cache_new(0, &cache), 0);
    open_all(&opening, cache, folder, true);
    close_all(&opening);

    size_t before = mallinfo2().uordblks;
    uint64_t began_ns = loop_now_ns(opening.loop);
    open_all(&opening, cache, folder, false);
    for (unsigned i = 0; i < volumes; i++) {
        struct stack_spec spec = {.layers = &opening.layers[2 * i], .n_layers = 2};
        assert_int_equal(stack_open(opening.loop, &spec, &devs[i]), 0);
    }
    double took_ms = (double)(loop_now_ns(opening.loop) - began_ns) / MS_NS;
    double kib = (double)(mallinfo2().uordblks - before) / 1024;
    print_message("%u volumes of 1 TiB with a snapshot: open in %.0f ms, %.1f KiB each, %u files\n",
                  volumes, took_ms, kib / volumes, layer_files_open());
    assert_true(kib < 200 << 10);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(took_ms < 1000);
#endif
    opening.closed = opening.wanted - volumes;
    for (unsigned i = 0; i < volumes; i++) {
        blockdev_close(devs[i], dev_closed, &opening);
    }
    loop_run(opening.loop);
    close_all(&opening);
    for (unsigned i = 0; i < opening.wanted; i++) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%u.layer", folder, i);
        unlink(path);
    }
    rmdir(folder);
    free(devs);
    free(opening.layers);
    layer_cache_free(cache);
    loop_free(opening.loop);
}

static void slot_done(struct block_req *req)
{
    struct opening *opening = req->arg;
    assert_int_equal(req->status, 0);
    if (++opening->closed == opening->wanted) {
        loop_stop(opening->loop);
    }
}

/* On a disk where there is one, so that transfers leave the loop. */
static void real_files_keep_what_was_written(bool no_uring)
{
    enum { WRITES = 64 };
    static uint8_t data[WRITES][12288];
    static struct block_req reqs[WRITES];
    static struct slice slices[WRITES][2];
    char path[] = "/var/tmp/layer_real.XXXXXX";
    struct layer *layers[1];
    struct opening opening = {.wanted = 1, .layers = layers};
    struct layer_cache *cache;
    struct blockdev *dev;
    setenv("SMIRROR_NO_URING", no_uring ? "1" : "0", 1);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    assert_int_equal(loop_new("real", &opening.loop), 0);
    assert_int_equal(layer_cache_new(0, &cache), 0);
    struct layer_spec spec = {.path = path, .cache = cache, .size_bytes = 64 << 20};
    for (unsigned life = 0; life < 2; life++) {
        opening.n = 0;
        opening.wanted = 1;
        assert_int_equal(life ? layer_open(opening.loop, &spec, opened, &opening)
                              : layer_create(opening.loop, &spec, opened, &opening),
                         0);
        loop_run(opening.loop);
        assert_non_null(layers[0]);
        struct stack_spec stack = {.layers = layers, .n_layers = 1};
        assert_int_equal(stack_open(opening.loop, &stack, &dev), 0);
        opening.closed = 0;
        opening.wanted = WRITES;
        for (unsigned i = 0; i < WRITES; i++) {
            memset(data[i], life ? 0xee : (int)i + 1, sizeof(data[i]));
            slices[i][0] = (struct slice){.data = data[i], .len = 1024};
            slices[i][1] = (struct slice){.data = data[i] + 1024, .len = 11264};
            reqs[i] = (struct block_req){.op = life ? BLOCK_READ : BLOCK_WRITE,
                                         .flags = life || i % 2 ? 0 : BLOCK_FUA,
                                         .offset = i * 40960 + i % 3 * 512,
                                         .len = sizeof(data[i]),
                                         .slices = slices[i],
                                         .n_slices = 2,
                                         .done = slot_done,
                                         .arg = &opening};
            blockdev_submit(dev, &reqs[i]);
        }
        loop_run(opening.loop);
        for (unsigned i = 0; i < WRITES; i++) {
            assert_int_equal(data[i][0], i + 1);
            assert_int_equal(data[i][12287], i + 1);
        }
        opening.wanted = 1;
        opening.closed = 0;
        blockdev_close(dev, dev_closed, &opening);
        loop_run(opening.loop);
        close_all(&opening);
    }
    unlink(path);
    layer_cache_free(cache);
    loop_free(opening.loop);
    unsetenv("SMIRROR_NO_URING");
}

static void real_files_with_io_uring_if_there_is_one(void **state)
{
    (void)state;
    real_files_keep_what_was_written(false);
}

static void real_files_with_worker_threads(void **state)
{
    (void)state;
    real_files_keep_what_was_written(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_of_a_tebibyte_with_ten_snapshots_stay_below_96_mib),
        cmocka_unit_test(thousands_of_volumes_open_at_once),
        cmocka_unit_test(real_files_with_io_uring_if_there_is_one),
        cmocka_unit_test(real_files_with_worker_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
