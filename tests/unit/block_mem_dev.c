// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/block_io.h"

#include "base/random.h"
#include "block/mem_dev.h"

enum { SIZE = 256 << 10 };

static struct loop_sim *sim;
static struct loop *loop;

static int setup(void **state)
{
    (void)state;
    assert_int_equal(loop_sim_new(0, &sim), 0);
    assert_int_equal(loop_sim_add(sim, "test", &loop), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    loop_free(loop);
    loop_sim_free(sim);
    return 0;
}

static struct blockdev *open_dev(const struct mem_dev_spec *spec)
{
    struct blockdev *dev;
    assert_int_equal(mem_dev_new(loop, spec, &dev), 0);
    return dev;
}

static void random_operations_agree_with_a_model(void **state)
{
    (void)state;
    static uint8_t model[SIZE];
    static uint8_t data[SIZE];
    struct blockdev *dev = open_dev(&(struct mem_dev_spec){.size_bytes = SIZE});
    struct random random;
    random_seed(&random, 8);
    memset(model, 0, SIZE);
    for (int step = 0; step < 5000; step++) {
        uint64_t offset = random_below(&random, SIZE / 512) * 512;
        uint64_t most = (SIZE - offset) / 512;
        uint64_t len = random_below(&random, most < 40 ? most + 1 : 40) * 512;
        switch (random_below(&random, 5)) {
        case 0:
        case 1:
            random_fill(&random, data, len);
            memcpy(model + offset, data, len);
            assert_int_equal(io_do(dev, BLOCK_WRITE, offset, data, len, 0), 0);
            break;
        case 2:
            memset(model + offset, 0, len);
            assert_int_equal(io_do(dev, BLOCK_ZERO, offset, NULL, len,
                                   random_chance(&random, 1, 2) ? BLOCK_MAY_UNMAP : 0),
                             0);
            break;
        case 3:
            memset(model + offset, 0, len);
            assert_int_equal(io_do(dev, BLOCK_DISCARD, offset, NULL, len, 0), 0);
            break;
        default:
            memset(data, 0xcc, len);
            assert_int_equal(io_do(dev, BLOCK_READ, offset, data, len, 0), 0);
            assert_memory_equal(data, model + offset, len);
        }
    }
    mem_disk_peek(mem_dev_disk(dev), 0, data, SIZE);
    assert_memory_equal(data, model, SIZE);
    io_close(dev);
}

static void the_map_tells_data_from_holes(void **state)
{
    (void)state;
    static uint8_t data[8192];
    struct blockdev *dev = open_dev(&(struct mem_dev_spec){.size_bytes = SIZE});
    memset(data, 1, sizeof(data));
    assert_int_equal(io_do(dev, BLOCK_WRITE, 8192, data, 8192, 0), 0);
    assert_int_equal(io_do(dev, BLOCK_WRITE, 32768 + 512, data, 512, 0), 0);
    struct io io;
    io_start(&io, dev, BLOCK_MAP, 512, NULL, SIZE - 512, 0);
    io_wait(loop, io_is_done, &io);
    static const struct block_extent expected[] = {
        {512, 7680, BLOCK_EXTENT_ZERO},           {8192, 8192, BLOCK_EXTENT_DATA},
        {16384, 16384, BLOCK_EXTENT_ZERO},        {32768, 4096, BLOCK_EXTENT_DATA},
        {36864, SIZE - 36864, BLOCK_EXTENT_ZERO},
    };
    assert_int_equal(io.req.n_extents, 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(io.extents[i].offset, expected[i].offset);
        assert_int_equal(io.extents[i].len, expected[i].len);
        assert_int_equal(io.extents[i].kind, expected[i].kind);
    }
    /* Too little room: a prefix. */
    io_start(&io, dev, BLOCK_FLUSH, 0, NULL, 0, 0);
    io_wait(loop, io_is_done, &io);
    io.req = (struct block_req){.op = BLOCK_MAP,
                                .len = SIZE,
                                .extents = io.extents,
                                .max_extents = 1,
                                .done = io_done,
                                .arg = &io};
    io.done = false;
    blockdev_submit(dev, &io.req);
    io_wait(loop, io_is_done, &io);
    assert_int_equal(io.req.n_extents, 1);
    assert_int_equal(io.extents[0].len, 8192);
    io_close(dev);
}

static void space_is_counted_given_back_and_limited(void **state)
{
    (void)state;
    static uint8_t data[16384];
    struct blockdev *dev =
        open_dev(&(struct mem_dev_spec){.size_bytes = SIZE, .capacity_bytes = 16384});
    struct mem_disk *disk = mem_dev_disk(dev);
    assert_int_equal(io_do(dev, BLOCK_WRITE, 0, data, 16384, 0), 0);
    assert_int_equal(mem_disk_allocated_bytes(disk), 16384);
    assert_int_equal(io_do(dev, BLOCK_WRITE, 65536, data, 512, 0), -ENOSPC);
    assert_int_equal(io_do(dev, BLOCK_WRITE, 512, data, 512, 0), 0);
    assert_int_equal(io_do(dev, BLOCK_ZERO, 0, NULL, 8192, 0), 0);
    assert_int_equal(mem_disk_allocated_bytes(disk), 16384);
    assert_int_equal(io_do(dev, BLOCK_ZERO, 512, NULL, 8192, BLOCK_MAY_UNMAP), 0);
    assert_int_equal(mem_disk_allocated_bytes(disk), 12288);
    assert_int_equal(io_do(dev, BLOCK_WRITE, 65536, data, 512, 0), 0);
    io_close(dev);
}

static void rubbish_is_what_discard_leaves_if_asked(void **state)
{
    (void)state;
    static uint8_t data[4096];
    struct blockdev *dev =
        open_dev(&(struct mem_dev_spec){.size_bytes = SIZE, .discard_garbage = true});
    assert_false(dev->info.discard_zeroes);
    memset(data, 7, sizeof(data));
    assert_int_equal(io_do(dev, BLOCK_WRITE, 0, data, 4096, 0), 0);
    assert_int_equal(io_do(dev, BLOCK_DISCARD, 0, NULL, 4096, 0), 0);
    assert_int_equal(io_do(dev, BLOCK_READ, 0, data, 4096, 0), 0);
    assert_int_not_equal(data[0], 0);
    assert_int_not_equal(data[0], 7);
    io_close(dev);
}

static void counters_tell_requests_and_bytes(void **state)
{
    (void)state;
    static uint8_t data[4096];
    struct blockdev *dev = open_dev(&(struct mem_dev_spec){.size_bytes = SIZE});
    const struct mem_dev_stats *stats = mem_dev_stats(dev);
    io_do(dev, BLOCK_WRITE, 0, data, 4096, 0);
    io_do(dev, BLOCK_WRITE, 0, data, 512, 0);
    io_do(dev, BLOCK_READ, 0, data, 1024, 0);
    io_do(dev, BLOCK_ZERO, 0, NULL, 65536, 0);
    io_do(dev, BLOCK_FLUSH, 0, NULL, 0, 0);
    io_do(dev, BLOCK_READ, SIZE, data, 1024, 0);
    assert_int_equal(stats->requests[BLOCK_WRITE], 2);
    assert_int_equal(stats->bytes[BLOCK_WRITE], 4608);
    assert_int_equal(stats->requests[BLOCK_READ], 1);
    assert_int_equal(stats->bytes[BLOCK_READ], 1024);
    assert_int_equal(stats->bytes[BLOCK_ZERO], 65536);
    assert_int_equal(stats->requests[BLOCK_FLUSH], 1);
    io_close(dev);
}

/*
 * Each block carries the number of the write that made it; after the cut every block must be what
 * was last flushed or something younger.
 */
static void a_power_cut_keeps_what_was_flushed_and_tears_nothing(void **state)
{
    (void)state;
    enum { BLOCKS = 64 };
    struct random random;
    struct mem_disk *disk;
    unsigned lost = 0;
    unsigned kept = 0;
    random_seed(&random, 77);
    assert_int_equal(mem_disk_new(BLOCKS * 512, 0, &disk), 0);
    uint32_t newest[BLOCKS] = {0};
    uint32_t stable[BLOCKS] = {0};
    uint32_t number = 0;
    for (int round = 0; round < 300; round++) {
        struct blockdev *dev =
            open_dev(&(struct mem_dev_spec){.disk = disk, .volatile_cache = true});
        for (int step = 0; step < 30; step++) {
            uint64_t block = random_below(&random, BLOCKS);
            uint32_t data[128];
            unsigned choice = (unsigned)random_below(&random, 10);
            if (choice == 0) {
                assert_int_equal(io_do(dev, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
                memcpy(stable, newest, sizeof(stable));
            } else if (choice < 3) {
                unsigned flags = choice == 1 ? BLOCK_FUA | BLOCK_MAY_UNMAP : BLOCK_MAY_UNMAP;
                uint64_t first = block / 8 * 8;
                assert_int_equal(io_do(dev, BLOCK_ZERO, first * 512, NULL, 4096, flags), 0);
                for (uint64_t i = first; i < first + 8; i++) {
                    newest[i] = 0;
                    if (choice == 1) {
                        stable[i] = 0;
                    }
                }
            } else {
                bool fua = choice == 3;
                number++;
                for (int i = 0; i < 128; i++) {
                    data[i] = number;
                }
                assert_int_equal(
                    io_do(dev, BLOCK_WRITE, block * 512, data, 512, fua ? BLOCK_FUA : 0), 0);
                newest[block] = number;
                if (fua) {
                    stable[block] = number;
                }
            }
        }
        io_close(dev);
        mem_disk_power_cut(disk, &random, 512);
        for (uint64_t block = 0; block < BLOCKS; block++) {
            uint32_t data[128];
            mem_disk_peek(disk, block * 512, data, 512);
            for (int i = 1; i < 128; i++) {
                assert_int_equal(data[i], data[0]);
            }
            assert_true(data[0] == newest[block] || data[0] == stable[block]);
            lost += data[0] != newest[block];
            kept += data[0] != stable[block];
            newest[block] = data[0];
            stable[block] = data[0];
        }
    }
    /* Both happen, or the test proves nothing. */
    assert_true(lost > 100);
    assert_true(kept > 100);
    mem_disk_free(disk);
}

static void specs_that_contradict_themselves_are_refused(void **state)
{
    (void)state;
    struct blockdev *dev;
    struct mem_disk *disk;
    assert_int_equal(mem_dev_new(loop, &(struct mem_dev_spec){.size_bytes = 0}, &dev), -EINVAL);
    assert_int_equal(mem_dev_new(loop, &(struct mem_dev_spec){.size_bytes = 1000}, &dev), -EINVAL);
    assert_int_equal(
        mem_dev_new(loop, &(struct mem_dev_spec){.size_bytes = 6000, .block_bytes = 600}, &dev),
        -EINVAL);
    assert_int_equal(mem_disk_new(0, 0, &disk), -EINVAL);
}

static void a_huge_device_costs_only_what_is_written(void **state)
{
    (void)state;
    uint8_t data[512] = {5};
    uint64_t size = 1ull << 40;
    struct blockdev *dev = open_dev(&(struct mem_dev_spec){.size_bytes = size});
    assert_int_equal(io_do(dev, BLOCK_WRITE, size - 512, data, 512, 0), 0);
    assert_int_equal(mem_disk_allocated_bytes(mem_dev_disk(dev)), 4096);
    io_close(dev);
}

#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(random_operations_agree_with_a_model),
        CLAIM(the_map_tells_data_from_holes),
        CLAIM(space_is_counted_given_back_and_limited),
        CLAIM(rubbish_is_what_discard_leaves_if_asked),
        CLAIM(counters_tell_requests_and_bytes),
        CLAIM(a_power_cut_keeps_what_was_flushed_and_tears_nothing),
        CLAIM(specs_that_contradict_themselves_are_refused),
        CLAIM(a_huge_device_costs_only_what_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
