// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/layer_world.h"

#include "block/fault_dev.h"
#include "block/mem_dev.h"

/* The thread sanitizer is slow, and there is one thread. */
#ifdef __SANITIZE_THREAD__
enum { SEEDS = 12 };
#else
enum { SEEDS = 60 };
#endif

static void random_operations_agree_with_a_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world *world = world_new(seed, seed % 4 * 30);
        if (seed % 3 == 0) {
            world_add_bottom(world);
        }
        for (int round = 0; round < 3; round++) {
            world_run(world, 300);
            world_check(world, false);
            world_check_space(world);
        }
        world_close(world);
        world_open(world);
        world_check(world, false);
        world_check_space(world);
        world_free(world);
    }
}

static void step(struct world *world, uint64_t ns)
{
    loop_sim_advance(world->sim, ns);
}

static int sim_do(struct world *world, struct blockdev *dev, enum block_op op, uint64_t offset,
                  void *data, uint64_t len, unsigned flags, struct io *io)
{
    io_start(io, dev, op, offset, data, len, flags);
    assert_true(loop_sim_run_until(world->sim, io_is_done, io, 100 * SEC_NS));
    return io->req.status;
}

/* On the stack of the world, and it goes well. */
#define world_do(world, op, offset, data, len, flags, io)                                          \
    assert_int_equal(sim_do(world, (world)->dev, op, offset, data, len, flags, io), 0)

/* A world that begins with len ones, as data does. */
static struct world *world_written(unsigned seed, uint8_t *data, size_t len)
{
    struct world *world = world_new(seed, 0);
    struct io io;
    memset(data, 1, len);
    world_do(world, BLOCK_WRITE, 0, data, len, 0, &io);
    return world;
}

static void discard_gives_the_space_back(void **state)
{
    (void)state;
    static uint8_t data[1 << 20];
    struct world *world = world_written(2, data, sizeof(data));
    struct io io;
    uint64_t full = layer_used_bytes(world->layers[0]);
    assert_int_equal(world->capacity_used, sizeof(data));
    world_do(world, BLOCK_DISCARD, 4096, NULL, 512 << 10, 0, &io);
    assert_int_equal(world->capacity_used, sizeof(data) - (512 << 10));
    assert_int_equal(full - layer_used_bytes(world->layers[0]), 512 << 10);
    assert_true(layer_disk_used(world->disk, "layer0") <= sizeof(data) - (512 << 10) + 8192);
    world_do(world, BLOCK_MAP, 0, NULL, sizeof(data), 0, &io);
    assert_int_equal(io.req.n_extents, 3);
    assert_int_equal(io.extents[1].kind, BLOCK_EXTENT_ZERO);
    assert_int_equal(io.extents[1].offset, 4096);
    assert_int_equal(io.extents[1].len, 512 << 10);
    assert_int_equal(io.extents[2].kind, BLOCK_EXTENT_DATA);
    world_free(world);
}

static void the_first_write_after_a_snapshot_copies_nothing(void **state)
{
    (void)state;
    static uint8_t data[64 << 10];
    struct world *world = world_written(2, data, sizeof(data));
    struct io io;
    assert_true(world_snapshot(world));
    uint64_t before = layer_disk_used(world->disk, "layer1");
    world_do(world, BLOCK_WRITE, 8192, data, 4096, BLOCK_FUA, &io);
    /* The granule and one block of the log. */
    assert_int_equal(layer_disk_used(world->disk, "layer1") - before, 8192);
    assert_int_equal(stack_stats(world->dev)->fills, 0);
    /* A part of a granule is completed from below, in one granule. */
    memset(data, 2, 512);
    world_do(world, BLOCK_WRITE, 20480 + 512, data, 512, BLOCK_FUA, &io);
    assert_int_equal(stack_stats(world->dev)->fills, 1);
    world_do(world, BLOCK_READ, 20480, data, 4096, 0, &io);
    assert_int_equal(data[0], 1);
    assert_int_equal(data[512], 2);
    assert_int_equal(data[1024], 1);
    world_free(world);
}

static uint64_t data_used(struct world *world, unsigned layer)
{
    return layer_used_bytes(world->layers[layer]);
}

static void written_zeros_take_no_data(void **state)
{
    (void)state;
    static uint8_t data[256 << 10];
    static uint8_t read[256 << 10];
    struct world *world = world_new(2, 0);
    struct io io;
    uint64_t empty = data_used(world, 0);

    /* Nothing is there: nothing comes. */
    world_do(world, BLOCK_WRITE, 0, data, sizeof(data), 0, &io);
    assert_int_equal(data_used(world, 0), empty);
    assert_int_equal(world->capacity_used, 0);

    /* Between data: whole granules of zeros, if they are more than a few. */
    memset(data, 1, 64 << 10);
    memset(data + 4096 + 512, 0, 20480); /* four whole ones */
    memset(data + 36864, 0, 12288);
    world_do(world, BLOCK_WRITE, 0, data, 64 << 10, 0, &io);
    assert_int_equal(data_used(world, 0) - empty, (64 << 10) - 4 * 4096);
    assert_int_equal(world->capacity_used, (64 << 10) - 4 * 4096);
    world_do(world, BLOCK_READ, 0, read, 64 << 10, 0, &io);
    assert_memory_equal(read, data, 64 << 10);

    /* A few over data are data, as other writes; many give the space back. */
    memset(data, 0, sizeof(data));
    world_do(world, BLOCK_WRITE, 0, data, 8192, 0, &io);
    assert_int_equal(world->capacity_used, (64 << 10) - 4 * 4096);
    world_do(world, BLOCK_WRITE, 512, data, 128 << 10, 0, &io);
    assert_int_equal(world->capacity_used, 8192); /* parts of two granules */
    world_do(world, BLOCK_READ, 0, read, sizeof(read), 0, &io);
    assert_true(mem_is_zero(read, sizeof(read)));

    /* In pieces that begin and end anywhere, up to the end of the volume. */
    struct slice slices[] = {{.data = data, .len = 512},
                             {.data = data, .len = 16384 + 1024},
                             {.data = read, .len = 2560},
                             {.data = data, .len = 16384}};
    memset(read, 9, 2560);
    io = (struct io){0};
    io.req = (struct block_req){.op = BLOCK_WRITE,
                                .offset = W_SIZE - 36864,
                                .len = 36864,
                                .slices = slices,
                                .n_slices = 4,
                                .done = io_done,
                                .arg = &io};
    blockdev_submit(world->dev, &io.req);
    assert_true(loop_sim_run_until(world->sim, io_is_done, &io, 100 * SEC_NS));
    assert_int_equal(io.req.status, 0);
    assert_int_equal(world->capacity_used, 12288);
    world_do(world, BLOCK_READ, W_SIZE - 36864, data, 36864, 0, &io);
    assert_true(mem_is_zero(data, 17920) && mem_is_zero(data + 20480, 16384));
    assert_int_equal(data[17920], 9);
    assert_int_equal(data[20479], 9);
    world_check_space(world);
    world_free(world);
}

static void written_zeros_hide_what_is_below(void **state)
{
    (void)state;
    static uint8_t data[64 << 10];
    struct world *world = world_written(2, data, sizeof(data));
    struct io io;
    assert_true(world_snapshot(world));
    uint64_t before = world->capacity_used;
    memset(data, 0, sizeof(data));
    world_do(world, BLOCK_WRITE, 4096, data, 16384, BLOCK_FUA, &io);
    assert_int_equal(world->capacity_used, before);
    world_close(world);
    world_open(world);
    memset(data, 2, sizeof(data));
    world_do(world, BLOCK_READ, 0, data, 24576, 0, &io);
    assert_int_equal(data[4095], 1);
    assert_true(mem_is_zero(data + 4096, 16384));
    assert_int_equal(data[20480], 1);
    world_free(world);
}

static int refuse(void *arg, uint64_t bytes)
{
    uint64_t *left = arg;
    if (bytes > *left) {
        return -ENOSPC;
    }
    *left -= bytes;
    return 0;
}

static void give_back(void *arg, uint64_t bytes)
{
    *(uint64_t *)arg += bytes;
}

static void a_full_pool_refuses_and_harms_nothing(void **state)
{
    (void)state;
    static uint8_t data[16384];
    struct world *world = world_new(3, 0);
    uint64_t left = 8192;
    struct io io;
    struct blockdev *dev;
    struct stack_spec spec = {.layers = world->layers,
                              .n_layers = 1,
                              .capacity = {.reserve = refuse, .release = give_back, .arg = &left}};
    assert_int_equal(stack_open(world->loop, &spec, &dev), 0);
    memset(data, 1, sizeof(data));
    assert_int_equal(sim_do(world, dev, BLOCK_WRITE, 0, data, 8192, 0, &io), 0);
    assert_int_equal(left, 0);
    assert_int_equal(sim_do(world, dev, BLOCK_WRITE, 8192, data, 4096, 0, &io), -ENOSPC);
    /* What has its space may be written again. */
    assert_int_equal(sim_do(world, dev, BLOCK_WRITE, 0, data, 8192, 0, &io), 0);
    assert_int_equal(sim_do(world, dev, BLOCK_DISCARD, 0, NULL, 4096, 0, &io), 0);
    assert_int_equal(left, 4096);
    assert_int_equal(sim_do(world, dev, BLOCK_WRITE, 8192, data, 4096, 0, &io), 0);
    /* The file system's own word. */
    left = 1 << 20;
    layer_disk_fail(world->disk, LAYER_IO_WRITE, 1, -ENOSPC);
    assert_int_equal(sim_do(world, dev, BLOCK_WRITE, 16384, data, 4096, 0, &io), -ENOSPC);
    assert_int_equal(left, 1 << 20);
    /* And when the log has no room: the next flush makes up for it. */
    assert_int_equal(sim_do(world, dev, BLOCK_WRITE, 16384, data, 4096, 0, &io), 0);
    layer_disk_fail(world->disk, LAYER_IO_WRITE, 1, -ENOSPC);
    assert_int_equal(sim_do(world, dev, BLOCK_FLUSH, 0, NULL, 0, 0, &io), -ENOSPC);
    assert_int_equal(sim_do(world, dev, BLOCK_FLUSH, 0, NULL, 0, 0, &io), 0);
    struct world_wait wait = {0};
    blockdev_close(dev, world_closed, &wait);
    world_await(world, &wait);
    world_free(world);
}

static void the_space_of_a_pool_is_shared_and_kept(void **state)
{
    (void)state;
    static uint8_t data[64 << 10];
    struct world *world = world_new(3, 0);
    struct io io;
    uint64_t empty = space_used(&world->space);
    assert_int_equal(empty, 8192); /* the header */
    memset(data, 1, sizeof(data));
    space_set_capacity(&world->space, empty + (16 << 10));
    world_do(world, BLOCK_WRITE, 0, data, 12 << 10, 0, &io);
    assert_true(world_snapshot(world)); /* headers and logs are not refused */
    space_set_capacity(&world->space, space_used(&world->space) + (8 << 10));
    assert_int_equal(sim_do(world, world->dev, BLOCK_WRITE, 0, data, 12 << 10, 0, &io), -ENOSPC);
    assert_int_equal(space_refused(&world->space), 1);
    world_do(world, BLOCK_WRITE, 4096, data, 8192, 0, &io);
    assert_int_equal(space_left(&world->space), 0);
    /* What has its space may be written again, zeros need none, discarding gives it back. */
    world_do(world, BLOCK_WRITE, 4096, data, 8192, 0, &io);
    world_do(world, BLOCK_ZERO, 32768, NULL, 8192, 0, &io);
    world_do(world, BLOCK_DISCARD, 4096, NULL, 4096, 0, &io);
    assert_int_equal(space_left(&world->space), 4096);
    /* A write that fails keeps nothing. */
    layer_disk_fail(world->disk, LAYER_IO_WRITE, 1, -EIO);
    assert_int_equal(sim_do(world, world->dev, BLOCK_WRITE, 4096, data, 4096, 0, &io), -EIO);
    assert_int_equal(space_left(&world->space), 4096);
    /* A new life counts the same. */
    world_do(world, BLOCK_FLUSH, 0, NULL, 0, 0, &io);
    uint64_t used = space_used(&world->space);
    world_close(world);
    assert_int_equal(space_used(&world->space), 0);
    world_open(world);
    assert_int_equal(space_used(&world->space), used);
    world_do(world, BLOCK_READ, 4096, data, 4096, 0, &io);
    world_check_space(world);
    world_free(world);
}

static void a_scrub_finds_what_a_crash_has_left(void **state)
{
    (void)state;
    static uint8_t data[2 << 20];
    bool leaked = false;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct world *world = world_new(seed, 20);
        struct world_wait wait = {0};
        struct stack_job *job;
        struct io io;
        memset(data, 1, sizeof(data));
        world_do(world, BLOCK_WRITE, 0, data, 8192, BLOCK_FUA, &io);
        world_do(world, BLOCK_WRITE, 61 << 20, data, 8192, BLOCK_FUA, &io);
        uint64_t used = layer_used_bytes(world->layers[0]);
        /* Written, not flushed, and the power goes: whatever the disk has kept means nothing. */
        world_do(world, BLOCK_WRITE, 4 << 20, data, sizeof(data), 0, &io);
        world_do(world, BLOCK_WRITE, 40960, data, 4096, 0, &io);
        layer_disk_cut_at(world->disk, 1);
        assert_int_not_equal(sim_do(world, world->dev, BLOCK_FLUSH, 0, NULL, 0, 0, &io), 0);
        world_close(world);
        layer_disk_power_on(world->disk);
        world_open(world);
        uint64_t after = space_used(&world->space);
        leaked |= after > used;
        struct stack_job_spec spec = {.kind = STACK_SCRUB, .done = world_done, .arg = &wait};
        assert_int_equal(stack_job_start(world->dev, &spec, &job), 0);
        /* A host writes into the same place meanwhile. */
        memset(data, 0x66, 65536);
        world_do(world, BLOCK_WRITE, (4 << 20) + 65536, data, 65536, 0, &io);
        world_await(world, &wait);
        assert_int_equal(wait.status, 0);
        world_do(world, BLOCK_FLUSH, 0, NULL, 0, 0, &io);
        /* And a few blocks of log and map. */
        assert_in_range(space_used(&world->space), used + 65536, used + 65536 + 4 * LAYER_BLOCK);
        world_check_space(world);
        world_do(world, BLOCK_READ, 4 << 20, data, 196608, 0, &io);
        assert_true(mem_is_zero(data, 65536));
        assert_int_equal(data[65536], 0x66);
        assert_int_equal(data[131071], 0x66);
        assert_true(mem_is_zero(data + 131072, 65536));
        world_free(world);
    }
    assert_true(leaked);
}

/* Nor after one that found no room: data that was written in place before may be lost, and there is no map entry that is written again. */
static void after_a_failed_sync_no_flush_succeeds(void **state)
{
    (void)state;
    static const int statuses[] = {-EIO, -ENOSPC};
    uint8_t data[4096] = {1};
    struct io io;
    log_set_level(LOG_ERROR);
    for (unsigned i = 0; i < 2; i++) {
        struct world *world = world_new(3, 0);
        world_do(world, BLOCK_WRITE, 0, data, 4096, BLOCK_FUA, &io);
        world_do(world, BLOCK_WRITE, 0, data, 4096, 0, &io);
        layer_disk_fail(world->disk, LAYER_IO_SYNC, 1, statuses[i]);
        assert_int_equal(sim_do(world, world->dev, BLOCK_FLUSH, 0, NULL, 0, 0, &io), statuses[i]);
        assert_int_equal(sim_do(world, world->dev, BLOCK_FLUSH, 0, NULL, 0, 0, &io), -EIO);
        layer_disk_cut_at(world->disk, 1); /* the world expects errors at its end now */
        assert_int_not_equal(sim_do(world, world->dev, BLOCK_WRITE, 0, data, 4096, BLOCK_FUA, &io),
                             0);
        world_free(world);
    }
}

static void flushes_at_once_share_their_syncs(void **state)
{
    (void)state;
    static uint8_t data[32][4096];
    static struct io ios[32];
    struct world *world = world_new(4, 0);
    for (unsigned i = 0; i < 32; i++) {
        data[i][0] = 1;
        io_start(&ios[i], world->dev, BLOCK_WRITE, (uint64_t)i * 3 * 4096, data[i], 4096,
                 BLOCK_FUA);
    }
    step(world, SEC_NS);
    for (unsigned i = 0; i < 32; i++) {
        assert_true(ios[i].done && ios[i].req.status == 0);
    }
    assert_true(layer_stats(world->layers[0])->commits <= 2);
    assert_true(layer_stats(world->layers[0])->syncs <= 4);
    world_free(world);
}

static void assert_extent(const struct io *io, unsigned index, uint64_t offset, uint64_t len,
                          enum block_extent_kind kind)
{
    assert_true(index < io->req.n_extents);
    assert_int_equal(io->extents[index].offset, offset);
    assert_int_equal(io->extents[index].len, len);
    assert_int_equal(io->extents[index].kind, kind);
}

static void close_dev(struct world *world, struct blockdev *dev)
{
    struct world_wait wait = {0};
    blockdev_close(dev, world_closed, &wait);
    world_await(world, &wait);
}

static void a_clone_of_a_device_is_filled_beside_its_host(void **state)
{
    (void)state;
    static uint8_t data[W_SIZE / 8];
    struct world *world = world_new(5, 30);
    struct mem_dev_spec mem = {.size_bytes = sizeof(data) - 512};
    struct blockdev *dev;
    struct io io;
    assert_int_equal(mem_dev_new(world->loop, &mem, &world->bottom), 0);
    for (unsigned i = 0; i < 1 << 20; i++) {
        data[i] = (uint8_t)(i / 512 + 1);
    }
    mem_disk_poke(mem_dev_disk(world->bottom), 0, data, 1 << 20);
    mem_disk_poke(mem_dev_disk(world->bottom), sizeof(data) - 1024, data, 512);
    dev = world_stack(world, 1);
    const struct mem_dev_stats *stats = mem_dev_stats(world->bottom);
    /* Whole granules and discards skip the fill, parts do not. */
    memset(data, 0x77, 8192);
    assert_int_equal(sim_do(world, dev, BLOCK_WRITE, 4096, data, 8192, 0, &io), 0);
    assert_int_equal(sim_do(world, dev, BLOCK_DISCARD, 16384, NULL, 8192, 0, &io), 0);
    assert_int_equal(stats->requests[BLOCK_READ], 0);
    assert_int_equal(sim_do(world, dev, BLOCK_WRITE, 40960, data, 512, 0, &io), 0);
    assert_int_equal(stats->requests[BLOCK_READ], 1);
    struct blockdev *fill;
    assert_int_equal(stack_fill_open(dev, mem.size_bytes, &fill), 0);
    assert_int_equal(fill->info.size_bytes, mem.size_bytes);
    /* What is there is kept. */
    assert_int_equal(sim_do(world, fill, BLOCK_MAP, 0, NULL, 65536, 0, &io), 0);
    assert_extent(&io, 0, 0, 4096, BLOCK_EXTENT_UNKNOWN);
    assert_extent(&io, 1, 4096, 8192, BLOCK_EXTENT_KEPT);
    assert_extent(&io, 2, 12288, 4096, BLOCK_EXTENT_UNKNOWN);
    assert_extent(&io, 3, 16384, 8192, BLOCK_EXTENT_KEPT);
    /* Parts of granules are not for it, but at its end. */
    assert_int_equal(sim_do(world, fill, BLOCK_WRITE, 512, data, 4096, 0, &io), -EINVAL);
    assert_int_equal(sim_do(world, fill, BLOCK_WRITE, 0, data, 512, 0, &io), -EINVAL);
    assert_int_equal(sim_do(world, fill, BLOCK_READ, 0, data, 4096, 0, &io), -EOPNOTSUPP);
    /* A host writes on meanwhile. */
    static uint8_t copied[64 << 10];
    unsigned written = 0;
    for (uint64_t at = 0; at < mem.size_bytes; at += sizeof(copied)) {
        uint64_t left = mem.size_bytes - at;
        uint64_t len = left < sizeof(copied) ? left : sizeof(copied);
        mem_disk_peek(mem_dev_disk(world->bottom), at, copied, len);
        if (written < 40) {
            memset(data, 0x99, 512);
            assert_int_equal(
                sim_do(world, dev, BLOCK_WRITE, (100 + written * 37) * 512, data, 512, 0, &io), 0);
            written++;
        }
        enum block_op op = mem_is_zero(copied, len) ? BLOCK_ZERO : BLOCK_WRITE;
        assert_int_equal(
            sim_do(world, fill, op, at, op == BLOCK_WRITE ? copied : NULL, len, 0, &io), 0);
    }
    assert_int_equal(sim_do(world, fill, BLOCK_FLUSH, 0, NULL, 0, 0, &io), 0);
    assert_int_equal(stack_stats(dev)->copied_bytes % 4096, 0);
    struct world_wait wait = {0};
    assert_int_equal(stack_drop_bottom(dev, world_done, &wait), 0);
    world_await(world, &wait);
    /* Who keeps what he overwrites may go on asking for it: it is all there. */
    assert_int_equal(sim_do(world, fill, BLOCK_ZERO, 0, NULL, 65536, 0, &io), 0);
    assert_int_equal(sim_do(world, fill, BLOCK_MAP, 0, NULL, 65536, 0, &io), 0);
    assert_extent(&io, 0, 0, 65536, BLOCK_EXTENT_KEPT);
    assert_false(layer_sharing(world->layers[0])->has_job);
    close_dev(world, fill);
    assert_int_equal(sim_do(world, dev, BLOCK_READ, 0, data, sizeof(data), 0, &io), 0);
    for (unsigned b = 0; b < sizeof(data) / 512; b++) {
        uint8_t expected = b < (1 << 20) / 512 ? (uint8_t)(b + 1) : 0;
        expected = b == sizeof(data) / 512 - 2 ? 1 : expected;
        expected = b >= 8 && b < 24 ? 0x77 : b >= 32 && b < 48 ? 0 : expected;
        expected = b == 80 ? 0x77 : expected;
        for (unsigned i = 0; i < written; i++) {
            expected = b == 100 + i * 37 ? 0x99 : expected;
        }
        assert_int_equal(data[b * 512], expected);
        assert_int_equal(data[b * 512 + 511], expected);
    }
    /* Zeros of the bottom took no space. */
    assert_true(layer_used_bytes(world->layers[0]) < 2 << 20);
    wait = (struct world_wait){0};
    blockdev_close(dev, world_closed, &wait);
    world_await(world, &wait);
    wait = (struct world_wait){0};
    blockdev_close(world->bottom, world_closed, &wait);
    world_await(world, &wait);
    world->bottom = NULL;
    world_free(world);
}

static void what_was_filled_is_read_without_the_bottom_by_all(void **state)
{
    (void)state;
    static uint8_t data[64 << 10];
    struct world *world = world_new(7, 30);
    struct mem_dev_spec mem = {.size_bytes = 8 << 20};
    struct blockdev *mem_dev;
    struct io io;
    assert_int_equal(mem_dev_new(world->loop, &mem, &mem_dev), 0);
    assert_int_equal(fault_dev_new(mem_dev, 1, &world->bottom), 0);
    close_dev(world, world->dev);
    world->dev = world_stack(world, 1);
    for (unsigned i = 0; i < 5; i++) {
        assert_true(world_snapshot(world));
    }
    memset(data, 7, sizeof(data));
    mem_disk_poke(mem_dev_disk(mem_dev), 0, data, sizeof(data));
    /* A snapshot with as many layers as are resolved; it has learnt that nothing is there. */
    struct blockdev *snapshot = world_stack(world, 5);
    memset(data, 0, sizeof(data));
    assert_int_equal(sim_do(world, snapshot, BLOCK_READ, 0, data, sizeof(data), 0, &io), 0);
    assert_int_equal(data[0], 7);
    struct blockdev *fill;
    struct blockdev *second;
    assert_int_equal(stack_fill_open(world->dev, mem.size_bytes, &fill), 0);
    assert_int_equal(stack_fill_open(snapshot, mem.size_bytes, &second), -EBUSY);
    assert_int_equal(stack_fill_open(world->dev, mem.size_bytes, &second), 0);
    close_dev(world, second);
    assert_int_equal(sim_do(world, fill, BLOCK_WRITE, 0, data, 32 << 10, 0, &io), 0);
    assert_int_equal(sim_do(world, fill, BLOCK_ZERO, 64 << 10, NULL, 4 << 20, 0, &io), 0);
    struct fault_rule rule = {
        .action = FAULT_FAIL, .ops = FAULT_OP(BLOCK_READ), .count = 100, .status = -EIO};
    fault_dev_add(world->bottom, &rule);
    struct blockdev *readers[] = {snapshot, world->dev};
    for (unsigned i = 0; i < 2; i++) {
        memset(data, 0, sizeof(data));
        assert_int_equal(sim_do(world, readers[i], BLOCK_READ, 0, data, 32 << 10, 0, &io), 0);
        assert_true(data[0] == 7 && data[(32 << 10) - 1] == 7);
        assert_int_equal(sim_do(world, readers[i], BLOCK_READ, 64 << 10, data, 4096, 0, &io), 0);
        assert_int_equal(data[0], 0);
        assert_int_equal(sim_do(world, readers[i], BLOCK_READ, 32 << 10, data, 4096, 0, &io), -EIO);
    }
    fault_dev_clear(world->bottom);
    /* Other layers merge meanwhile, the oldest does not. */
    struct world_wait wait = {0};
    struct stack_job *job;
    struct stack_job_spec spec = {
        .kind = STACK_MERGE_UP, .index = 0, .done = world_done, .arg = &wait};
    assert_int_equal(stack_job_start(world->dev, &spec, &job), -EBUSY);
    spec.kind = STACK_MERGE_DOWN;
    spec.index = 1;
    assert_int_not_equal(stack_job_start(world->dev, &spec, &job), 0);
    spec.kind = STACK_MERGE_UP;
    assert_int_equal(stack_job_start(world->dev, &spec, &job), 0);
    world_await(world, &wait);
    assert_int_equal(wait.status, 0);
    /* A stack that is closed leaves its fill device without anything to do. */
    static uint8_t more[64 << 10];
    struct io last;
    io_start(&last, fill, BLOCK_WRITE, 32 << 10, data, 32 << 10, 0);
    close_dev(world, world->dev);
    assert_true(last.done);
    assert_int_equal(sim_do(world, fill, BLOCK_WRITE, 0, more, 4096, 0, &io), -ESTALE);
    assert_int_equal(stack_fill_open(snapshot, mem.size_bytes, &second), 0);
    close_dev(world, second);
    close_dev(world, fill);
    close_dev(world, snapshot);
    world->dev = world_stack(world, world->n_layers);
    world_free(world);
}

static void the_map_of_the_bottom_shines_through(void **state)
{
    (void)state;
    static uint8_t data[64 << 10];
    enum { BELOW = 8 << 20 };
    struct world *world = world_new(5, 30);
    struct mem_dev_spec mem = {.size_bytes = BELOW - 512};
    struct blockdev *mem_dev;
    struct io io;
    assert_int_equal(mem_dev_new(world->loop, &mem, &mem_dev), 0);
    assert_int_equal(fault_dev_new(mem_dev, 1, &world->bottom), 0);
    memset(data, 1, sizeof(data));
    mem_disk_poke(mem_dev_disk(mem_dev), 1 << 20, data, sizeof(data));
    struct blockdev *dev = world_stack(world, 1);
    assert_int_equal(sim_do(world, dev, BLOCK_WRITE, 4096, data, 8192, 0, &io), 0);
    /* From the beginning, query by query, and no further than what the bottom has. */
    assert_int_equal(sim_do(world, dev, BLOCK_MAP, 0, NULL, W_SIZE, 0, &io), 0);
    assert_int_equal(io.req.n_extents, 1);
    assert_extent(&io, 0, 0, 4096, BLOCK_EXTENT_ZERO);
    assert_int_equal(sim_do(world, dev, BLOCK_MAP, 4096, NULL, W_SIZE - 4096, 0, &io), 0);
    assert_int_equal(io.req.n_extents, 1);
    assert_extent(&io, 0, 4096, 8192, BLOCK_EXTENT_DATA);
    assert_int_equal(sim_do(world, dev, BLOCK_MAP, 12288, NULL, W_SIZE - 12288, 0, &io), 0);
    assert_int_equal(io.req.n_extents, 3);
    assert_extent(&io, 0, 12288, (1 << 20) - 12288, BLOCK_EXTENT_ZERO);
    assert_extent(&io, 1, 1 << 20, sizeof(data), BLOCK_EXTENT_DATA);
    assert_extent(&io, 2, (1 << 20) + sizeof(data), BELOW - 512 - (1 << 20) - sizeof(data),
                  BLOCK_EXTENT_ZERO);
    assert_int_equal(sim_do(world, dev, BLOCK_MAP, BELOW - 512, NULL, 8192, 0, &io), 0);
    assert_extent(&io, 0, BELOW - 512, 8704, BLOCK_EXTENT_ZERO);
    /* It cannot tell now: nothing is known, and nothing is wrong. */
    struct fault_rule rule = {
        .action = FAULT_FAIL, .ops = FAULT_OP(BLOCK_MAP), .count = 1, .status = -ENOTCONN};
    fault_dev_add(world->bottom, &rule);
    assert_int_equal(sim_do(world, dev, BLOCK_MAP, 1 << 20, NULL, 4096, 0, &io), 0);
    assert_extent(&io, 0, 1 << 20, 4096, BLOCK_EXTENT_UNKNOWN);
    assert_int_equal(sim_do(world, dev, BLOCK_MAP, 1 << 20, NULL, 4096, 0, &io), 0);
    assert_extent(&io, 0, 1 << 20, 4096, BLOCK_EXTENT_DATA);
    world->bottom->info.can_map = false;
    assert_int_equal(sim_do(world, dev, BLOCK_MAP, 1 << 20, NULL, 4096, 0, &io), 0);
    assert_extent(&io, 0, 1 << 20, 4096, BLOCK_EXTENT_UNKNOWN);
    struct world_wait wait = {0};
    blockdev_close(dev, world_closed, &wait);
    world_await(world, &wait);
    wait = (struct world_wait){0};
    blockdev_close(world->bottom, world_closed, &wait);
    world_await(world, &wait);
    world->bottom = NULL;
    world_free(world);
}

static void a_merge_never_overwrites_what_others_read(void **state)
{
    (void)state;
    struct world *world = world_new(4, 100);
    struct world_wait wait = {0};
    struct stack_job *job;
    struct stack_job_spec spec = {
        .kind = STACK_MERGE_DOWN, .index = 1, .done = world_done, .arg = &wait};
    assert_true(world_snapshot(world));
    assert_true(world_snapshot(world));
    /* A snapshot without the layer above is open. */
    struct blockdev *below = world_stack(world, 1);
    assert_int_equal(stack_job_start(world->dev, &spec, &job), -EPERM);
    close_dev(world, below);
    /* Or it is not, but there. */
    spec.target_shared = true;
    assert_int_equal(stack_job_start(world->dev, &spec, &job), -EPERM);
    spec.target_shared = false;
    /* One with both layers sees the same before and after. */
    struct blockdev *both = world_stack(world, 2);
    assert_int_equal(stack_job_start(world->dev, &spec, &job), 0);
    struct stack_spec alone = {.layers = world->layers, .n_layers = 1};
    assert_int_equal(stack_open(world->loop, &alone, &below), -EBUSY);
    struct layer *fork[2] = {world->layers[0], world->layers[2]};
    struct stack_spec forked = {.layers = fork, .n_layers = 2};
    assert_int_equal(stack_open(world->loop, &forked, &below), -EBUSY);
    struct blockdev *more = world_stack(world, 2);
    struct stack_job_spec scrub = {.kind = STACK_SCRUB, .done = world_done, .arg = &wait};
    assert_int_equal(stack_job_start(more, &scrub, &job), -EBUSY);
    struct stack_job *other;
    assert_int_equal(stack_job_start(more, &spec, &other), -EINVAL); /* its top */
    world_await(world, &wait);
    assert_int_equal(wait.status, 0);
    below = world_stack(world, 1);
    close_dev(world, below);
    close_dev(world, more);
    close_dev(world, both);
    world_free(world);
}

static void sizes_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0, 511, 4097, LAYER_MAX_BYTES + 512, UINT64_MAX};
    struct world *world = world_new(1, 0);
    struct world_wait wait = {0};
    struct layer_spec spec = {
        .path = "x", .cache = world->cache, .backend = layer_disk_backend(world->disk)};
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        spec.size_bytes = sizes[i];
        assert_int_equal(layer_create(world->loop, &spec, world_opened, &wait), -EINVAL);
    }
    spec.size_bytes = 4096;
    spec.log_half_bytes = 4096;
    assert_int_equal(layer_create(world->loop, &spec, world_opened, &wait), -EINVAL);
    loop_sim_run_until_idle(world->sim);
    assert_false(wait.done);
    /* The largest that there is, to its last block. */
    uint8_t data[4096] = {7};
    struct io io;
    struct blockdev *dev;
    spec.size_bytes = LAYER_MAX_BYTES;
    spec.log_half_bytes = 0;
    assert_int_equal(layer_create(world->loop, &spec, world_opened, &wait), 0);
    world_await(world, &wait);
    struct stack_spec stack = {.layers = &wait.layer, .n_layers = 1};
    assert_int_equal(stack_open(world->loop, &stack, &dev), 0);
    assert_int_equal(
        sim_do(world, dev, BLOCK_WRITE, LAYER_MAX_BYTES - 512, data, 512, BLOCK_FUA, &io), 0);
    memset(data, 0, sizeof(data));
    assert_int_equal(sim_do(world, dev, BLOCK_READ, LAYER_MAX_BYTES - 512, data, 512, 0, &io), 0);
    assert_int_equal(data[0], 7);
    assert_int_equal(stack_grow(dev, LAYER_MAX_BYTES + 512, world_done, &wait), -EINVAL);
    close_dev(world, dev);
    struct layer *layer = wait.layer;
    wait = (struct world_wait){0};
    layer_unref(layer, world_done, &wait);
    world_await(world, &wait);
    world_free(world);
}

static void a_clone_shares_layers_and_goes_its_own_way(void **state)
{
    (void)state;
    struct world *world = world_new(6, 30);
    struct world_wait wait;
    struct io io;
    uint8_t data[4096];
    world_run(world, 100);
    world_drain(world);
    assert_true(world_snapshot(world));
    unsigned n = world->n_layers;
    struct layer *top = world_layer(world, "clone", true, &wait);
    struct layer *layers[W_LAYERS];
    memcpy(layers, world->layers, sizeof(layers));
    layers[n - 1] = top;
    struct stack_spec spec = {.layers = layers, .n_layers = n};
    struct blockdev *clone;
    assert_int_equal(stack_open(world->loop, &spec, &clone), 0);
    memset(data, 0x5c, sizeof(data));
    assert_int_equal(sim_do(world, clone, BLOCK_WRITE, 0, data, 4096, BLOCK_FUA, &io), 0);
    assert_int_equal(sim_do(world, clone, BLOCK_ZERO, 8192, NULL, 4096, 0, &io), 0);
    world_check(world, false); /* the original and its snapshots saw nothing */
    memset(data, 0, sizeof(data));
    assert_int_equal(sim_do(world, clone, BLOCK_READ, 0, data, 4096, 0, &io), 0);
    assert_int_equal(data[4095], 0x5c);
    world_requests(world, 60);
    world_check(world, false);
    assert_int_equal(sim_do(world, clone, BLOCK_READ, 0, data, 4096, 0, &io), 0);
    assert_int_equal(data[17], 0x5c);
    wait = (struct world_wait){0};
    blockdev_close(clone, world_closed, &wait);
    world_await(world, &wait);
    wait = (struct world_wait){0};
    layer_unref(top, world_done, &wait);
    world_await(world, &wait);
    world_free(world);
}

static void growing_adds_zeros_and_survives(void **state)
{
    (void)state;
    struct world *world = world_new(8, 30);
    struct world_wait wait = {0};
    struct io io;
    uint8_t data[8192];
    world_run(world, 80);
    world_check(world, false);
    unsigned below = world->n_layers - 1;
    assert_int_equal(stack_grow(world->dev, W_SIZE - 512, world_done, &wait), -EINVAL);
    world->grow_to = (uint64_t)5 * W_SIZE;
    assert_int_equal(stack_grow(world->dev, world->grow_to, world_done, &wait), 0);
    world_await(world, &wait);
    assert_int_equal(wait.status, 0);
    assert_int_equal(world->dev->info.size_bytes, (uint64_t)5 * W_SIZE);
    world_do(world, BLOCK_READ, W_SIZE, data, 8192, 0, &io);
    assert_true(mem_is_zero(data, 8192));
    memset(data, 3, sizeof(data));
    world_do(world, BLOCK_WRITE, (uint64_t)4 * W_SIZE, data, 8192, BLOCK_FUA, &io);
    world_close(world);
    world_open(world);
    assert_int_equal(layer_size_bytes(world->layers[below]), (uint64_t)5 * W_SIZE);
    world_do(world, BLOCK_READ, (uint64_t)4 * W_SIZE, data, 8192, 0, &io);
    assert_int_equal(data[8191], 3);
    world_check(world, false);
    world_free(world);
}

static void held(void *arg)
{
    ((struct world_wait *)arg)->done = true;
}

static void the_barrier_holds_writes_and_not_reads(void **state)
{
    (void)state;
    uint8_t data[4096] = {9};
    uint8_t seen[4096];
    struct world *world = world_new(9, 100);
    struct world_wait wait = {0};
    struct io before;
    struct io during;
    struct io read;
    io_start(&before, world->dev, BLOCK_WRITE, 0, data, 4096, 0);
    assert_int_equal(stack_hold(world->dev, held, &wait), 0);
    assert_int_equal(stack_hold(world->dev, held, &wait), -EBUSY);
    io_start(&during, world->dev, BLOCK_WRITE, 4096, data, 4096, 0);
    world_await(world, &wait);
    assert_true(before.done);
    step(world, SEC_NS);
    assert_false(during.done);
    assert_int_equal(sim_do(world, world->dev, BLOCK_READ, 0, seen, 4096, 0, &read), 0);
    assert_int_equal(seen[0], 9);
    assert_true(stack_release(world->dev) >= SEC_NS);
    step(world, SEC_NS);
    assert_true(during.done && during.req.status == 0);
    world_free(world);
}

struct damage {
    const char *what;
    uint64_t offset;
    size_t len;
    bool both; /* header slots */
};

static void damaged_files_are_refused(void **state)
{
    (void)state;
    static uint8_t data[1 << 20];
    static const struct damage damages[] = {
        {"magic", 0, 8, true},
        {"version", 8, 4, true},
        {"size", 40, 8, true},
        {"reserved", 200, 1, true},
        {"first record of the log", LAYER_LOG_OFFSET + 12288, 1, false},
    };
    log_set_level(LOG_ERROR);
    for (unsigned d = 0; d < ARRAY_LEN(damages); d++) {
        struct world *world = world_new(1, 0); /* halves of three blocks */
        struct io io;
        memset(data, 1, sizeof(data));
        world_do(world, BLOCK_WRITE, 0, data, 4096, BLOCK_FUA, &io);
        world_do(world, BLOCK_WRITE, 8192, data, 4096, BLOCK_FUA, &io);
        world_close(world);
        for (unsigned slot = 0; slot <= damages[d].both; slot++) {
            uint8_t byte;
            uint64_t at = damages[d].offset + slot * 4096;
            layer_disk_peek(world->disk, "layer0", at, &byte, 1);
            byte ^= 0x10;
            layer_disk_poke(world->disk, "layer0", at, &byte, 1);
        }
        struct world_wait wait;
        world->layers[0] = world_layer(world, "layer0", false, &wait);
        if (damages[d].both) {
            assert_null(world->layers[0]);
            assert_int_equal(wait.error.code, ERR_INVALID_PARAMETER);
            assert_true(strstr(wait.error.detail, "layer0: ") == wait.error.detail);
            struct layer *fresh = world_layer(world, "other", true, &wait);
            world->layers[0] = fresh;
            world->dev = world_stack(world, 1);
        } else {
            assert_non_null(world->layers[0]);
            world->dev = world_stack(world, 1);
            assert_int_equal(sim_do(world, world->dev, BLOCK_READ, 0, data, 4096, 0, &io), -EIO);
            assert_int_equal(sim_do(world, world->dev, BLOCK_WRITE, 0, data, 512, 0, &io), -EIO);
            assert_int_equal(sim_do(world, world->dev, BLOCK_READ, 0, data, 4096, 0, &io), -EIO);
        }
        world_free(world);
    }
    struct world *world = world_new(1, 0);
    struct world_wait wait;
    world_close(world);
    layer_disk_set_size(world->disk, "layer0", 4096);
    assert_null(world_layer(world, "layer0", false, &wait));
    layer_disk_set_size(world->disk, "layer0", LAYER_DATA_OFFSET + W_SIZE - 1);
    assert_null(world_layer(world, "layer0", false, &wait));
    assert_non_null(strstr(wait.error.detail, "cut short"));
    assert_null(world_layer(world, "absent", false, &wait));
    assert_int_equal(wait.error.code, ERR_NO_SUCH_OBJECT);
    world->layers[0] = world_layer(world, "other", true, &wait);
    world->dev = world_stack(world, 1);
    world_free(world);
}

static void a_damaged_map_page_is_no_data(void **state)
{
    (void)state;
    static uint8_t data[4096] = {1};
    struct world *world = world_new(2, 0);
    struct io io;
    log_set_level(LOG_ERROR);
    /* Enough records for checkpoints of page 0; then only page 1, until the log knows no other. */
    for (unsigned i = 0; i < 60; i++) {
        uint64_t offset = i < 20 ? i * 8192 : (61 << 20) + i * 8192;
        world_do(world, BLOCK_WRITE, offset, data, 4096, BLOCK_FUA, &io);
    }
    assert_true(layer_stats(world->layers[0])->checkpoints > 3);
    world_close(world);
    for (unsigned slot = 0; slot < 2; slot++) {
        uint8_t byte;
        layer_disk_peek(world->disk, "layer0", layer_slot_offset(0, slot) + 300, &byte, 1);
        byte ^= 0x11;
        layer_disk_poke(world->disk, "layer0", layer_slot_offset(0, slot) + 300, &byte, 1);
    }
    world_open(world);
    assert_int_equal(sim_do(world, world->dev, BLOCK_READ, 0, data, 4096, 0, &io), -EIO);
    assert_int_equal(sim_do(world, world->dev, BLOCK_WRITE, 0, data, 4096, 0, &io), -EIO);
    world_do(world, BLOCK_READ, 61 << 20, data, 4096, 0, &io);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_a_model),
        cmocka_unit_test(discard_gives_the_space_back),
        cmocka_unit_test(written_zeros_take_no_data),
        cmocka_unit_test(written_zeros_hide_what_is_below),
        cmocka_unit_test(the_first_write_after_a_snapshot_copies_nothing),
        cmocka_unit_test(a_full_pool_refuses_and_harms_nothing),
        cmocka_unit_test(the_space_of_a_pool_is_shared_and_kept),
        cmocka_unit_test(a_scrub_finds_what_a_crash_has_left),
        cmocka_unit_test(after_a_failed_sync_no_flush_succeeds),
        cmocka_unit_test(flushes_at_once_share_their_syncs),
        cmocka_unit_test(a_clone_of_a_device_is_filled_beside_its_host),
        cmocka_unit_test(what_was_filled_is_read_without_the_bottom_by_all),
        cmocka_unit_test(the_map_of_the_bottom_shines_through),
        cmocka_unit_test(a_merge_never_overwrites_what_others_read),
        cmocka_unit_test(sizes_that_cannot_be_are_refused),
        cmocka_unit_test(a_clone_shares_layers_and_goes_its_own_way),
        cmocka_unit_test(growing_adds_zeros_and_survives),
        cmocka_unit_test(the_barrier_holds_writes_and_not_reads),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(a_damaged_map_page_is_no_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
