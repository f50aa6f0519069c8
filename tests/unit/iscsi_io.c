// SPDX-License-Identifier: Apache-2.0
/*
 * What is read, written, zeroed and mapped is what the LUN has, within the limits that the target told; and what closing does to it.
 */
#include "tests/unit/iscsi_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/random.h"

static void round_trip(unsigned lun, const char *file, uint64_t size, uint32_t block)
{
    struct iscsi_spec spec = spec_of(TARGET, lun);
    struct watch watch;
    struct random random;
    uint8_t *written = malloc(4 * MIB);
    uint8_t *seen = malloc(4 * MIB);

    watch_open(&watch, &spec);
    assert_int_equal(watch.dev->info.size_bytes, size);
    assert_int_equal(watch.dev->info.block_bytes, block);
    random_seed(&random, 7);
    for (unsigned i = 0; i < 60; i++) {
        /* Now and then longer than one command may be. */
        uint64_t max = i % 20 == 0 ? 4 * MIB : 300 * 1024;
        uint64_t len = (1 + random_below(&random, max / block)) * block;
        uint64_t offset = random_below(&random, (size - len) / block + 1) * block;

        fill(written, len, i);
        assert_int_equal(
            io_run(watch.dev, BLOCK_WRITE, offset, len, written, i % 3 == 0 ? BLOCK_FUA : 0), 0);
        file_read(file, offset, seen, len);
        assert_memory_equal(seen, written, len);
        memset(seen, 0, len);
        assert_int_equal(io_run(watch.dev, BLOCK_READ, offset, len, seen, 0), 0);
        assert_memory_equal(seen, written, len);
    }
    assert_int_equal(io_run(watch.dev, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, size, block, seen, 0), -EINVAL);
    watch_close(&watch);
    free(written);
    free(seen);
}

static void what_is_written_is_in_the_file_512(void **state)
{
    (void)state;
    round_trip(1, "thin", 64 * MIB, 512);
}

static void what_is_written_is_in_the_file_4096(void **state)
{
    (void)state;
    round_trip(2, "big", 32 * MIB, 4096);
}

static void many_requests_at_once_keep_their_data(void **state)
{
    enum { COUNT = 400, LEN = 64 * 1024 };
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch watch;
    struct io *ios = calloc(COUNT, sizeof(*ios));
    uint8_t *data = malloc((size_t)COUNT * LEN);
    uint8_t *seen = calloc(COUNT, LEN);
    struct iscsi_dev_stats stats;

    (void)state;
    watch_open(&watch, &spec);
    fill(data, (size_t)COUNT * LEN, 1);
    for (unsigned round = 0; round < 2; round++) {
        unsigned done = 0;

        for (unsigned i = 0; i < COUNT; i++) {
            io_prepare(&ios[i], round == 0 ? BLOCK_WRITE : BLOCK_READ, (uint64_t)i * LEN, LEN,
                       (round == 0 ? data : seen) + (size_t)i * LEN);
            ios[i].counter = &done;
            blockdev_submit(watch.dev, &ios[i].req);
        }
        assert_int_equal(done, 0);
        for (unsigned i = 0; i < COUNT; i++) {
            wait_for(is_true, &ios[i].done);
            assert_int_equal(ios[i].req.status, 0);
        }
        assert_int_equal(done, COUNT);
    }
    assert_memory_equal(data, seen, (size_t)COUNT * LEN);
    iscsi_dev_stats(watch.dev, &stats);
    assert_int_equal(stats.bytes_read, (uint64_t)COUNT * LEN);
    assert_int_equal(stats.bytes_written, (uint64_t)COUNT * LEN);
    assert_int_equal(stats.logins, 1);
    watch_close(&watch);
    free(ios);
    free(data);
    free(seen);
}

static void slices_of_any_shape_are_put_together(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch watch;
    struct io *io = malloc(sizeof(*io));
    struct random random;
    uint8_t *data = malloc(MIB);
    uint8_t *seen = malloc(MIB);

    (void)state;
    watch_open(&watch, &spec);
    random_seed(&random, 3);
    for (unsigned round = 0; round < 10; round++) {
        uint64_t total = 0;
        unsigned n = 0;

        fill(data, MIB, round);
        /* Lengths that know nothing of blocks, some of them zero. */
        while (n < 299 && total < 600000) {
            uint64_t len = random_below(&random, round < 5 ? 4000 : 40);

            io->slices[n++].len = len;
            total += len;
        }
        if (total % 512 != 0) {
            io->slices[n++].len = 512 - total % 512;
            total += 512 - total % 512;
        }
        for (unsigned pass = 0; pass < 2; pass++) {
            uint8_t *at = pass == 0 ? data : seen;
            struct slice slices[300];

            memcpy(slices, io->slices, sizeof(slices));
            io_prepare(io, pass == 0 ? BLOCK_WRITE : BLOCK_READ, MIB, total, NULL);
            memcpy(io->slices, slices, sizeof(slices));
            for (unsigned i = 0; i < n; i++) {
                io->slices[i].buffer = NULL;
                io->slices[i].data = at;
                at += io->slices[i].len;
            }
            io->req.slices = io->slices;
            io->req.n_slices = n;
            blockdev_submit(watch.dev, &io->req);
            wait_for(is_true, &io->done);
            assert_int_equal(io->req.status, 0);
        }
        assert_memory_equal(data, seen, total);
        file_read("thin", MIB, seen, total);
        assert_memory_equal(data, seen, total);
    }
    watch_close(&watch);
    free(io);
    free(data);
    free(seen);
}

static void a_write_protected_lun_is_read_only(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 4);
    struct watch watch;
    uint8_t block[512] = {1};

    (void)state;
    watch_open(&watch, &spec);
    assert_true(watch.dev->info.read_only);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, 512, block, 0), -EROFS);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, 512, block, 0), 0);
    watch_close(&watch);
}

static void header_digests_protect_the_session(void **state)
{
    struct iscsi_spec spec = spec_of("iqn.2026-01.test:digest", 1);
    struct watch watch;
    uint8_t data[8192];
    uint8_t seen[8192];

    (void)state;
    tgtd_target(tgtd, 5, "iqn.2026-01.test:digest");
    tgtd_option(tgtd, 5, "HeaderDigest", "CRC32C,None");
    tgtd_lun(tgtd, 5, &(struct tgtd_lun){.lun = 1, .file = "digest", .size_bytes = MIB});
    spec.header_digest = ISCSI_DIGEST_REQUIRE;
    watch_open(&watch, &spec);
    fill(data, sizeof(data), 5);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 4096, sizeof(data), data, 0), 0);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 4096, sizeof(seen), seen, 0), 0);
    assert_memory_equal(data, seen, sizeof(data));
    watch_close(&watch);
}

static void a_required_header_digest_is_not_given_up(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);

    (void)state;
    spec.header_digest = ISCSI_DIGEST_REQUIRE; /* the fake target says None */
    assert_int_equal(probe_answer(&spec).error.code, ERR_REMOTE_ERROR);
    spec.header_digest = ISCSI_DIGEST_PREFER;
    assert_int_equal(probe_answer(&spec).error.code, ERR_NONE);
}

/* ---- zeros and maps ---- */

static void zeroing_gives_the_space_back(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch watch;
    uint8_t *data = malloc(8 * MIB);
    uint64_t before;
    unsigned i;

    (void)state;
    watch_open(&watch, &spec);
    fill(data, 8 * MIB, 11);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, 8 * MIB, data, 0), 0);
    before = file_blocks("thin");
    assert_int_equal(io_run(watch.dev, BLOCK_ZERO, MIB, 6 * MIB, NULL, BLOCK_MAY_UNMAP), 0);
    assert_true(file_blocks("thin") + 5 * MIB / 512 < before);
    memset(data, 1, 8 * MIB);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, MIB, 6 * MIB, data, 0), 0);
    assert_true(mem_is_zero(data, 6 * MIB));
    /* Without leave the space stays. */
    fill(data, 8 * MIB, 12);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, 8 * MIB, data, 0), 0);
    before = file_blocks("thin");
    assert_int_equal(io_run(watch.dev, BLOCK_ZERO, 512, 4 * MIB, NULL, BLOCK_FUA), 0);
    assert_true(file_blocks("thin") + 64 > before);
    memset(data, 1, 8 * MIB);
    file_read("thin", 512, data, 4 * MIB);
    assert_true(mem_is_zero(data, 4 * MIB));
    /* And nothing beyond. */
    file_read("thin", 512 + 4 * MIB, data, 512);
    for (i = 0; i < 512 && data[i] == 0; i++) {
        ;
    }
    assert_true(i < 512);
    assert_int_equal(io_run(watch.dev, BLOCK_DISCARD, 0, 8 * MIB, NULL, 0), 0);
    assert_true(watch.dev->info.discard_zeroes);
    file_read("thin", 0, data, 8 * MIB);
    assert_true(mem_is_zero(data, 8 * MIB));
    watch_close(&watch);
    free(data);
}

static void a_target_that_refuses_unmap_gets_zeros_written(void **state)
{
    struct iscsi_spec spec =
        spec_of(TARGET, 3); /* announces UNMAP and WRITE SAME and does neither */
    struct watch watch;
    uint8_t *data = malloc(4 * MIB);

    (void)state;
    watch_open(&watch, &spec);
    fill(data, 4 * MIB, 13);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, 4 * MIB, data, 0), 0);
    assert_int_equal(io_run(watch.dev, BLOCK_ZERO, 512, 3 * MIB, NULL, BLOCK_MAY_UNMAP), 0);
    assert_int_equal(io_run(watch.dev, BLOCK_ZERO, 512, MIB, NULL, BLOCK_FUA), 0);
    file_read("aio", 512, data, 3 * MIB);
    assert_true(mem_is_zero(data, 3 * MIB));
    assert_int_equal(watch.downs, 0);
    assert_false(watch.dev->info.can_discard);
    watch_close(&watch);
    /* Advice that nobody takes. */
    watch_open(&watch, &spec);
    assert_true(watch.dev->info.can_discard);
    assert_int_equal(io_run(watch.dev, BLOCK_DISCARD, 0, MIB, NULL, 0), -EOPNOTSUPP);
    assert_false(watch.dev->info.can_discard);
    watch_close(&watch);
    free(data);
}

static void the_map_tells_data_from_holes(void **state)
{
    struct iscsi_spec spec = spec_of("iqn.2026-01.test:map", 1);
    struct watch watch;
    static struct block_extent extents[64][4096];
    static struct io ios[64];
    uint8_t data[65536];
    unsigned done = 0;
    uint64_t at = 0;
    unsigned n_data = 0;

    (void)state;
    tgtd_target(tgtd, 6, "iqn.2026-01.test:map");
    tgtd_lun(tgtd, 6,
             &(struct tgtd_lun){.lun = 1, .file = "map", .size_bytes = 64 * MIB, .thin = true});
    fill(data, sizeof(data), 1);
    for (unsigned i = 0; i < 16; i++) {
        file_write("map", i * 4 * MIB + MIB, data, sizeof(data));
    }
    watch_open(&watch, &spec);
    assert_true(watch.dev->info.can_map);
    /* All in one question … */
    io_prepare(&ios[0], BLOCK_MAP, 0, 64 * MIB, NULL);
    ios[0].req.extents = extents[0];
    ios[0].req.max_extents = 4096;
    blockdev_submit(watch.dev, &ios[0].req);
    wait_for(is_true, &ios[0].done);
    assert_int_equal(ios[0].req.status, 0);
    assert_int_equal(ios[0].req.n_extents, 33);
    for (unsigned i = 0; i < 33; i++) {
        assert_int_equal(extents[0][i].offset, at);
        at += extents[0][i].len;
        if (extents[0][i].kind == BLOCK_EXTENT_DATA) {
            assert_int_equal(extents[0][i].offset, n_data * 4 * MIB + MIB);
            assert_int_equal(extents[0][i].len, sizeof(data));
            n_data++;
        } else {
            assert_int_equal(extents[0][i].kind, BLOCK_EXTENT_ZERO);
        }
    }
    assert_int_equal(at, 64 * MIB);
    assert_int_equal(n_data, 16);
    /* … and in many at a time, with room for a few only. */
    for (unsigned i = 0; i < 64; i++) {
        io_prepare(&ios[i], BLOCK_MAP, i * MIB, MIB, NULL);
        ios[i].req.extents = extents[i];
        ios[i].req.max_extents = 2;
        ios[i].counter = &done;
        blockdev_submit(watch.dev, &ios[i].req);
    }
    for (unsigned i = 0; i < 64; i++) {
        wait_for(is_true, &ios[i].done);
        assert_int_equal(ios[i].req.status, 0);
        assert_int_equal(extents[i][0].offset, i * MIB);
        assert_int_equal(extents[i][0].kind, i % 4 == 1 ? BLOCK_EXTENT_DATA : BLOCK_EXTENT_ZERO);
        assert_int_equal(extents[i][0].len, i % 4 == 1 ? sizeof(data) : MIB);
        assert_int_equal(ios[i].req.n_extents, i % 4 == 1 ? 2 : 1);
    }
    assert_int_equal(done, 64);
    watch_close(&watch);
}

static void a_small_command_window_is_kept_and_learned(void **state)
{
    enum { COUNT = 200 };
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    static struct io ios[COUNT];
    static uint8_t data[COUNT][4096];
    unsigned done = 0;

    (void)state;
    fake_target_window(fake, 4);
    watch_open(&watch, &spec);
    assert_int_equal(watch.dev->info.max_inflight, 64);
    for (unsigned i = 0; i < COUNT; i++) {
        memset(data[i], (int)i, sizeof(data[i]));
        io_prepare(&ios[i], BLOCK_WRITE, i * sizeof(data[0]), sizeof(data[0]), data[i]);
        ios[i].counter = &done;
        blockdev_submit(watch.dev, &ios[i].req);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        wait_for(is_true, &ios[i].done);
        assert_int_equal(ios[i].req.status, 0);
    }
    assert_memory_equal(data, fake_target_data(fake), sizeof(data));
    assert_in_range(watch.dev->info.max_inflight, 1, 8);
    watch_close(&watch);
}

static bool window_is_used_up(void *arg)
{
    return *(unsigned *)arg == 64;
}

static bool all_hundred(void *arg)
{
    return *(unsigned *)arg == 100;
}

static void hundred_reads(struct blockdev *dev, struct io ios[100], unsigned *counter)
{
    static uint8_t data[100][512];

    for (unsigned i = 0; i < 100; i++) {
        io_prepare(&ios[i], BLOCK_READ, i * 512, 512, data[i]);
        ios[i].counter = counter;
        blockdev_submit(dev, &ios[i].req);
    }
}

/* It may open again with a PDU that answers no command. */
static void a_closed_command_window_is_waited_for(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    static struct io ios[100];
    unsigned done = 0;

    (void)state;
    spec.stall_timeout_ms = 3000;
    watch_open(&watch, &spec);
    fake_target_window(fake, 0);
    hundred_reads(watch.dev, ios, &done);
    wait_for(window_is_used_up, &done);
    fake_target_window(fake, 8);
    wait_for(all_hundred, &done);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(ios[i].req.status, 0);
    }
    assert_int_equal(watch.downs, 0);
    watch_close(&watch);
}

/* One that never does is a target that does not answer. */
static void a_command_window_that_stays_closed_ends_the_session(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    static struct io ios[100];
    unsigned done = 0;

    (void)state;
    spec.command_timeout_ms = 300;
    watch_open(&watch, &spec);
    fake_target_window(fake, 0);
    hundred_reads(watch.dev, ios, &done);
    wait_for(saw_down, &watch);
    assert_non_null(strstr(watch.detail, "has not answered a command (88)"));
    fake_target_window(fake, 64);
    wait_for(all_hundred, &done);
    watch_close(&watch);
}

static void task_set_full_reduces_what_is_in_flight(void **state)
{
    enum { COUNT = 64 };
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    static struct io ios[COUNT];
    static uint8_t data[COUNT][512];

    (void)state;
    watch_open(&watch, &spec);
    fake_target_fault(
        fake, &(struct fake_fault){.opcode = 0x88, .skip = 10, .count = 30, .status = 0x28});
    for (unsigned i = 0; i < COUNT; i++) {
        io_prepare(&ios[i], BLOCK_READ, i * 512, 512, data[i]);
        blockdev_submit(watch.dev, &ios[i].req);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        wait_for(is_true, &ios[i].done);
        assert_int_equal(ios[i].req.status, 0);
    }
    assert_in_range(watch.dev->info.max_inflight, 1, 40);
    watch_close(&watch);
}

static void unmap_keeps_to_the_limits(void **state)
{
    enum { COUNT = 10 };
    struct iscsi_spec spec =
        spec_of(FAKE, 1); /* 2000 blocks, 4 descriptors a command, granules of 8 */
    struct watch watch;
    static struct io ios[COUNT];
    uint8_t *data = fake_target_data(fake);

    (void)state;
    watch_open(&watch, &spec);
    assert_true(watch.dev->info.can_discard);
    memset(data, 0x55, FAKE_BYTES);
    /* All of it: 2048 blocks in two commands. */
    assert_int_equal(io_run(watch.dev, BLOCK_DISCARD, 0, FAKE_BYTES, NULL, 0), 0);
    assert_int_equal(fake_target_count(fake, 0x42), 2);
    assert_true(mem_is_zero(data, FAKE_BYTES));
    /* Ten scattered ones, while one command may be out: four, four, two. */
    memset(data, 0x55, FAKE_BYTES);
    for (unsigned i = 0; i < COUNT; i++) {
        io_prepare(&ios[i], BLOCK_DISCARD, i * 65536, 8192, NULL);
        blockdev_submit(watch.dev, &ios[i].req);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        wait_for(is_true, &ios[i].done);
        assert_int_equal(ios[i].req.status, 0);
        assert_true(mem_is_zero(data + i * 65536, 8192));
        assert_int_equal(data[i * 65536 + 8192], 0x55);
    }
    /* Less than a granule: nothing to do. Edges stay. */
    memset(data, 0x55, FAKE_BYTES);
    assert_int_equal(io_run(watch.dev, BLOCK_DISCARD, 512, 4096, NULL, 0), 0);
    assert_int_equal(data[4096], 0x55);
    assert_int_equal(io_run(watch.dev, BLOCK_DISCARD, 512, 8192, NULL, 0), 0);
    assert_int_equal(data[4095], 0x55);
    assert_true(mem_is_zero(data + 4096, 4096));
    assert_int_equal(data[8192], 0x55);
    /* Zeros have no edges. */
    memset(data, 0x55, FAKE_BYTES);
    assert_int_equal(io_run(watch.dev, BLOCK_ZERO, 512, 9216, NULL, BLOCK_MAY_UNMAP), 0);
    assert_int_equal(data[511], 0x55);
    assert_true(mem_is_zero(data + 512, 9216));
    assert_int_equal(data[512 + 9216], 0x55);
    /* UNMAP refused, WRITE SAME refused: written, and all of it. */
    memset(data, 0x55, FAKE_BYTES);
    fake_target_fault(fake, &(struct fake_fault){
                                .opcode = 0x42, .count = 100, .status = 2, .key = 5, .asc = 0x20});
    assert_int_equal(io_run(watch.dev, BLOCK_ZERO, 512, 600 * 1024, NULL, BLOCK_MAY_UNMAP), 0);
    assert_true(mem_is_zero(data + 512, 600 * 1024));
    assert_int_equal(data[512 + 600 * 1024], 0x55);
    memset(data, 0x55, FAKE_BYTES);
    fake_target_fault(fake, &(struct fake_fault){
                                .opcode = 0x93, .count = 100, .status = 2, .key = 5, .asc = 0x20});
    assert_int_equal(io_run(watch.dev, BLOCK_ZERO, 512, 200 * 1024, NULL, 0), 0);
    assert_true(mem_is_zero(data + 512, 200 * 1024));
    assert_int_equal(data[512 + 200 * 1024], 0x55);
    watch_close(&watch);
}

static void refused_commands_find_another_way(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    struct block_extent extent;
    struct io io;
    uint8_t data[4096];

    (void)state;
    watch_open(&watch, &spec);
    fake_target_fault(
        fake, &(struct fake_fault){.opcode = 0x91, .count = 1, .status = 2, .key = 5, .asc = 0x20});
    assert_int_equal(io_run(watch.dev, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
    assert_int_equal(fake_target_count(fake, 0x35), 1);
    fake_target_fault(
        fake, &(struct fake_fault){.opcode = 0x35, .count = 1, .status = 2, .key = 5, .asc = 0x20});
    assert_int_equal(io_run(watch.dev, BLOCK_FLUSH, 0, 0, NULL, 0),
                     0); /* no cache that is told of */
    fake_target_fault(
        fake, &(struct fake_fault){.opcode = 0x88, .count = 1, .status = 2, .key = 5, .asc = 0x20});
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, sizeof(data), data, 0), 0);
    fill(data, sizeof(data), 1);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 8192, sizeof(data), data, 0), 0);
    assert_memory_equal(data, fake_target_data(fake) + 8192, sizeof(data));
    assert_int_equal(fake_target_count(fake, 0x28), 1);
    assert_int_equal(fake_target_count(fake, 0x2a), 1);

    assert_true(watch.dev->info.can_map);
    fake_target_fault(fake, &(struct fake_fault){
                                .opcode = 0x9e12, .count = 1, .status = 2, .key = 5, .asc = 0x20});
    io_prepare(&io, BLOCK_MAP, 0, MIB, NULL);
    io.req.extents = &extent;
    io.req.max_extents = 1;
    blockdev_submit(watch.dev, &io.req);
    wait_for(is_true, &io.done);
    assert_int_equal(io.req.status, -EOPNOTSUPP);
    assert_false(watch.dev->info.can_map);
    watch_close(&watch);
}

static void fua_reaches_the_disk_one_way_or_the_other(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1); /* no DPOFUA */
    struct watch watch;
    uint8_t data[4096] = {1};

    (void)state;
    watch_open(&watch, &spec);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, sizeof(data), data, 0), 0);
    assert_int_equal(fake_target_count(fake, 0x91), 0);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, sizeof(data), data, BLOCK_FUA), 0);
    assert_int_equal(fake_target_count(fake, 0x91), 1);
    assert_int_equal(io_run(watch.dev, BLOCK_ZERO, 0, sizeof(data), NULL, BLOCK_FUA), 0);
    assert_int_equal(fake_target_count(fake, 0x91), 2);
    watch_close(&watch);
}

static void closing_with_requests_outstanding_completes_them(void **state)
{
    enum { COUNT = 100, LEN = 65536 };
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct io *ios = calloc(COUNT, sizeof(*ios));
    uint8_t *data = calloc(COUNT, LEN);

    (void)state;
    for (unsigned round = 0; round < 12; round++) {
        struct watch watch;

        watch_open(&watch, &spec);
        for (unsigned i = 0; i < COUNT; i++) {
            io_prepare(&ios[i], round % 2 ? BLOCK_READ : BLOCK_WRITE, (uint64_t)i * LEN, LEN,
                       data + (size_t)i * LEN);
            blockdev_submit(watch.dev, &ios[i].req);
        }
        if (round > 2) {
            wait_for(is_true, &ios[round * 8].done);
        } else if (round > 0) {
            idle_ms(round);
        }
        watch_close(&watch);
        for (unsigned i = 0; i < COUNT; i++) {
            assert_int_equal(ios[i].calls, 1);
            assert_true(ios[i].req.status == 0 || ios[i].req.status == -ECANCELED);
        }
    }
    free(ios);
    free(data);
}

static void close_inside_done(struct block_req *req)
{
    struct watch *watch = req->arg;

    watch->attempts++;
    if (watch->attempts == 1) {
        blockdev_close(watch->dev, closed, watch);
    }
}

static void closing_inside_a_completion_is_safe(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch watch;
    struct io ios[30];
    static uint8_t data[30][4096];

    (void)state;
    watch_open(&watch, &spec);
    for (unsigned i = 0; i < ARRAY_LEN(ios); i++) {
        io_prepare(&ios[i], BLOCK_READ, i * 4096, 4096, data[i]);
        ios[i].req.done = close_inside_done;
        ios[i].req.arg = &watch;
        blockdev_submit(watch.dev, &ios[i].req);
    }
    wait_for(is_true, &watch.closed);
    assert_int_equal(watch.attempts, ARRAY_LEN(ios));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_in_the_file_512),
        cmocka_unit_test(what_is_written_is_in_the_file_4096),
        cmocka_unit_test(many_requests_at_once_keep_their_data),
        cmocka_unit_test(slices_of_any_shape_are_put_together),
        cmocka_unit_test(a_write_protected_lun_is_read_only),
        TEST_FRESH(header_digests_protect_the_session),
        TEST_FAKE(a_required_header_digest_is_not_given_up),
        cmocka_unit_test(zeroing_gives_the_space_back),
        cmocka_unit_test(a_target_that_refuses_unmap_gets_zeros_written),
        TEST_FRESH(the_map_tells_data_from_holes),
        TEST_FAKE(a_small_command_window_is_kept_and_learned),
        TEST_FAKE(a_closed_command_window_is_waited_for),
        TEST_FAKE(a_command_window_that_stays_closed_ends_the_session),
        TEST_FAKE(task_set_full_reduces_what_is_in_flight),
        TEST_FAKE(unmap_keeps_to_the_limits),
        TEST_FAKE(refused_commands_find_another_way),
        TEST_FAKE(fua_reaches_the_disk_one_way_or_the_other),
        cmocka_unit_test(closing_with_requests_outstanding_completes_them),
        cmocka_unit_test(closing_inside_a_completion_is_safe),
    };

    return cmocka_run_group_tests(tests, iscsi_setup, iscsi_teardown);
}
