// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/block_io.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/random.h"
#include "block/file_dev.h"

enum { SIZE = 1 << 20 };

static struct loop_sim *sim;
static struct loop *loop;
static char folder[64];
static char path[128];

static int setup_on(bool simulated)
{
    if (simulated) {
        assert_int_equal(loop_sim_new(5, &sim), 0);
        assert_int_equal(loop_sim_add(sim, "test", &loop), 0);
    } else {
        sim = NULL;
        assert_int_equal(loop_new("test", &loop), 0);
    }
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof(folder), "%.40s/file_dev.XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/volume", folder);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return setup_on(false);
}

static int sim_setup(void **state)
{
    (void)state;
    return setup_on(true);
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    rmdir(folder);
    loop_free(loop);
    loop_sim_free(sim);
    return 0;
}

struct opened {
    struct blockdev *dev;
    struct error error;
    bool done;
};

static void opened_done(void *arg, struct blockdev *dev, const struct error *error)
{
    struct opened *opened = arg;
    opened->dev = dev;
    if (error) {
        opened->error = *error;
    }
    assert_true((dev == NULL) == (error != NULL));
    opened->done = true;
}

static bool opened_is_done(void *arg)
{
    return ((struct opened *)arg)->done;
}

static enum error_code try_open(const struct file_dev_spec *spec, struct blockdev **ret_dev)
{
    struct opened opened = {0};
    assert_int_equal(file_dev_open(loop, spec, opened_done, &opened), 0);
    assert_false(opened.done);
    io_wait(loop, opened_is_done, &opened);
    if (opened.dev) {
        *ret_dev = opened.dev;
        return ERR_NONE;
    }
    assert_non_null(strstr(opened.error.detail, spec->path));
    return opened.error.code;
}

static struct blockdev *create(void)
{
    struct blockdev *dev = NULL;
    assert_int_equal(
        try_open(&(struct file_dev_spec){.path = path, .size_bytes = SIZE, .create = true}, &dev),
        ERR_NONE);
    return dev;
}

static void random_operations_agree_with_a_model_and_survive_reopening(void **state)
{
    (void)state;
    static uint8_t model[SIZE];
    static uint8_t data[SIZE];
    struct blockdev *dev = create();
    assert_int_equal(dev->info.size_bytes, SIZE);
    struct random random;
    random_seed(&random, 17);
    memset(model, 0, SIZE);
    for (int step = 0; step < 1500; step++) {
        uint64_t offset = random_below(&random, SIZE / 512) * 512;
        uint64_t most = (SIZE - offset) / 512;
        uint64_t len = random_below(&random, most < 200 ? most + 1 : 200) * 512;
        unsigned flags = random_chance(&random, 1, 8) ? BLOCK_FUA : 0;
        switch (random_below(&random, 6)) {
        case 0:
        case 1:
            random_fill(&random, data, len);
            memcpy(model + offset, data, len);
            assert_int_equal(io_do(dev, BLOCK_WRITE, offset, data, len, flags), 0);
            break;
        case 2:
            memset(model + offset, 0, len);
            flags |= random_chance(&random, 1, 2) ? BLOCK_MAY_UNMAP : 0;
            assert_int_equal(io_do(dev, BLOCK_ZERO, offset, NULL, len, flags), 0);
            break;
        case 3:
            if (dev->info.can_discard) {
                assert_true(dev->info.discard_zeroes);
                memset(model + offset, 0, len);
                assert_int_equal(io_do(dev, BLOCK_DISCARD, offset, NULL, len, 0), 0);
            }
            break;
        case 4:
            if (random_chance(&random, 1, 10)) {
                assert_int_equal(io_do(dev, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
            }
            break;
        default:
            memset(data, 0xcc, len);
            assert_int_equal(io_do(dev, BLOCK_READ, offset, data, len, 0), 0);
            assert_memory_equal(data, model + offset, len);
        }
    }
    io_close(dev);
    assert_int_equal(try_open(&(struct file_dev_spec){.path = path}, &dev), ERR_NONE);
    assert_int_equal(io_do(dev, BLOCK_READ, 0, data, SIZE, 0), 0);
    assert_memory_equal(data, model, SIZE);
    io_close(dev);
}

static void every_extent_that_is_called_zero_reads_as_zeros(void **state)
{
    (void)state;
    static uint8_t data[SIZE];
    struct blockdev *dev = create();
    struct random random;
    random_seed(&random, 23);
    for (int round = 0; round < 50; round++) {
        memset(data, 0xaa, 65536);
        uint64_t offset = random_below(&random, (SIZE - 65536) / 512) * 512;
        uint64_t len = (1 + random_below(&random, 128)) * 512;
        enum block_op op = random_chance(&random, 1, 2) ? BLOCK_WRITE : BLOCK_ZERO;
        assert_int_equal(
            io_do(dev, op, offset, op == BLOCK_WRITE ? data : NULL, len, BLOCK_MAY_UNMAP), 0);
        /* The whole map, request by request. */
        uint64_t at = 0;
        while (at < SIZE) {
            struct io io;
            io_start(&io, dev, BLOCK_MAP, at, NULL, SIZE - at, 0);
            io_wait(loop, io_is_done, &io);
            assert_int_equal(io.req.status, 0);
            for (unsigned i = 0; i < io.req.n_extents; i++) {
                const struct block_extent *extent = &io.extents[i];
                assert_int_equal(extent->offset, at);
                assert_true(extent->len > 0 && extent->len % 512 == 0);
                assert_true(extent->len <= SIZE - at);
                if (extent->kind == BLOCK_EXTENT_ZERO) {
                    assert_int_equal(io_do(dev, BLOCK_READ, at, data, extent->len, 0), 0);
                    assert_true(mem_is_zero(data, extent->len));
                }
                at += extent->len;
            }
        }
    }
    io_close(dev);
}

static void an_empty_file_is_one_hole_and_takes_no_space(void **state)
{
    (void)state;
    struct blockdev *dev = create();
    struct io io;
    io_start(&io, dev, BLOCK_MAP, 0, NULL, SIZE, 0);
    io_wait(loop, io_is_done, &io);
    assert_int_equal(io.req.n_extents, 1);
    assert_int_equal(io.extents[0].kind, BLOCK_EXTENT_ZERO);
    assert_int_equal(io.extents[0].len, SIZE);
    io_close(dev);
}

static void many_slices_make_one_transfer(void **state)
{
    (void)state;
    enum { PIECES = 300 };
    static uint8_t data[PIECES * 512];
    static uint8_t back[PIECES * 512];
    struct slice slices[PIECES];
    struct blockdev *dev = create();
    struct random random;
    random_seed(&random, 1);
    random_fill(&random, data, sizeof(data));
    for (int pass = 0; pass < 2; pass++) {
        uint8_t *memory = pass == 0 ? data : back;
        /* Pieces of unequal length, some of them empty. */
        size_t at = 0;
        for (int i = 0; i < PIECES; i++) {
            size_t left = sizeof(data) - at;
            size_t len = i == PIECES - 1 ? left : random_below(&random, 900);
            len = len < left ? len : left;
            slices[i] = (struct slice){.data = memory + at, .len = len};
            at += len;
        }
        struct io io = {0};
        io.req = (struct block_req){.op = pass == 0 ? BLOCK_WRITE : BLOCK_READ,
                                    .offset = 1024,
                                    .len = sizeof(data),
                                    .slices = slices,
                                    .n_slices = PIECES,
                                    .done = io_done,
                                    .arg = &io};
        blockdev_submit(dev, &io.req);
        io_wait(loop, io_is_done, &io);
        assert_int_equal(io.req.status, 0);
    }
    assert_memory_equal(data, back, sizeof(data));
    io_close(dev);
}

static bool all_done(void *arg)
{
    struct io *ios = arg;
    for (int i = 0; i < 64; i++) {
        if (!ios[i].done) {
            return false;
        }
    }
    return true;
}

static void many_requests_at_once_all_complete(void **state)
{
    (void)state;
    static uint8_t data[64][4096];
    static uint8_t back[64][4096];
    static struct io ios[64];
    struct blockdev *dev = create();
    for (int i = 0; i < 64; i++) {
        memset(data[i], i + 1, 4096);
        io_start(&ios[i], dev, BLOCK_WRITE, (uint64_t)i * 4096, data[i], 4096, 0);
    }
    io_wait(loop, all_done, ios);
    for (int i = 0; i < 64; i++) {
        io_start(&ios[i], dev, BLOCK_READ, (uint64_t)i * 4096, back[i], 4096, 0);
    }
    io_wait(loop, all_done, ios);
    assert_memory_equal(data, back, sizeof(data));
    const struct file_dev_stats *stats = file_dev_stats(dev);
    assert_int_equal(stats->reads_cached + stats->reads_worker, 64);
    io_close(dev);
}

static void a_file_is_open_for_one_writer_or_many_readers(void **state)
{
    (void)state;
    struct blockdev *dev = create();
    struct blockdev *other = NULL;
    struct file_dev_spec read_only = {.path = path, .read_only = true};
    assert_int_equal(try_open(&(struct file_dev_spec){.path = path}, &other), ERR_IN_USE);
    assert_int_equal(try_open(&read_only, &other), ERR_IN_USE);
    io_close(dev);
    assert_int_equal(try_open(&read_only, &dev), ERR_NONE);
    assert_int_equal(try_open(&read_only, &other), ERR_NONE);
    uint8_t data[512];
    assert_int_equal(io_do(other, BLOCK_READ, 0, data, 512, 0), 0);
    assert_int_equal(io_do(other, BLOCK_WRITE, 0, data, 512, 0), -EROFS);
    assert_false(other->info.can_discard);
    io_close(dev);
    io_close(other);
}

static void what_cannot_be_opened_says_why_and_leaves_nothing_behind(void **state)
{
    (void)state;
    struct blockdev *dev = NULL;
    struct stat st;
    assert_int_equal(try_open(&(struct file_dev_spec){.path = path}, &dev), ERR_NO_SUCH_OBJECT);
    assert_int_equal(
        try_open(&(struct file_dev_spec){.path = path, .size_bytes = 1000, .create = true}, &dev),
        ERR_INVALID_PARAMETER);
    assert_int_equal(stat(path, &st), -1);
    assert_int_equal(try_open(&(struct file_dev_spec){.path = path, .create = true}, &dev),
                     ERR_INVALID_PARAMETER);
    assert_int_equal(stat(path, &st), -1);
    dev = create();
    io_close(dev);
    assert_int_equal(
        try_open(&(struct file_dev_spec){.path = path, .size_bytes = SIZE, .create = true}, &dev),
        ERR_IN_USE);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(
        try_open(&(struct file_dev_spec){.path = path, .size_bytes = SIZE + 512}, &dev),
        ERR_INVALID_PARAMETER);
    assert_int_equal(try_open(&(struct file_dev_spec){.path = folder, .read_only = true}, &dev),
                     ERR_INVALID_PARAMETER);
}

static void a_file_that_shrank_gives_an_io_error(void **state)
{
    (void)state;
    uint8_t data[4096];
    struct blockdev *dev = create();
    assert_int_equal(truncate(path, 4096), 0);
    assert_int_equal(io_do(dev, BLOCK_READ, 0, data, 4096, 0), 0);
    assert_int_equal(io_do(dev, BLOCK_READ, 8192, data, 4096, 0), -EIO);
    io_close(dev);
}

#define ON_BOTH(claim)                                                                             \
    {"real: " #claim, claim, setup, teardown, NULL},                                               \
    {                                                                                              \
        "simulated: " #claim, claim, sim_setup, teardown, NULL                                     \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(random_operations_agree_with_a_model_and_survive_reopening),
        ON_BOTH(every_extent_that_is_called_zero_reads_as_zeros),
        ON_BOTH(an_empty_file_is_one_hole_and_takes_no_space),
        ON_BOTH(many_slices_make_one_transfer),
        ON_BOTH(many_requests_at_once_all_complete),
        ON_BOTH(a_file_is_open_for_one_writer_or_many_readers),
        ON_BOTH(what_cannot_be_opened_says_why_and_leaves_nothing_behind),
        ON_BOTH(a_file_that_shrank_gives_an_io_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
