// SPDX-License-Identifier: Apache-2.0
/*
 * What the unit tests of mirrors share above mirror_testing.h: how most of them begin and end, writes of hosts that are under way, holes.
 *
 * Thread:    the simulation's.
 * Ownership: the bench has everything.
 * Errors:    a failure fails the test.
 */
#ifndef TESTS_UNIT_MIRROR_FIXTURE_H
#define TESTS_UNIT_MIRROR_FIXTURE_H

#include "tests/unit/testing.h"

#include <string.h>

#include "tests/unit/mirror_testing.h"

static inline void start_equal(struct mirror_bench *bench, uint64_t seed, uint64_t size)
{
    mirror_bench_init(bench, seed, size);
    mirror_bench_make_equal(bench);
    mirror_bench_start(bench);
    mirror_bench_until_equal(bench);
}

static inline void finish_equal(struct mirror_bench *bench)
{
    mirror_bench_until_equal(bench);
    assert_int_equal(mirror_bench_flush(bench), 0);
    mirror_bench_check_equal(bench);
    mirror_bench_fini(bench);
}

struct racer {
    struct block_req req;
    struct slice slice;
    uint8_t data[16384];
    unsigned *left;
};

static inline void racer_done(struct block_req *req)
{
    struct racer *racer = req->arg;
    assert_int_equal(req->status, 0);
    (*racer->left)--;
}

static inline bool none_left(void *arg)
{
    return *(unsigned *)arg == 0;
}

static inline void racer_start(struct mirror_bench *bench, struct racer *racer, uint64_t offset,
                               uint64_t len, unsigned flags, unsigned *left)
{
    racer->left = left;
    racer->slice = (struct slice){.data = racer->data, .len = len};
    racer->req = (struct block_req){.op = BLOCK_WRITE,
                                    .flags = flags,
                                    .offset = offset,
                                    .len = len,
                                    .slices = &racer->slice,
                                    .n_slices = 1,
                                    .done = racer_done,
                                    .arg = racer};
    blockdev_submit(bench->dev, &racer->req);
}

static inline void flag_set(void *arg)
{
    *(bool *)arg = true;
}

static inline bool flag_is_set(void *arg)
{
    return *(bool *)arg;
}

static inline void make_hole(struct test_disk *disk, uint64_t offset, uint64_t len)
{
    memset(disk->data + offset, 0, len);
    memset(disk->stable + offset, 0, len);
    memset(disk->mapped + offset / TEST_PAGE, 0, len / TEST_PAGE);
    memset(disk->stable_mapped + offset / TEST_PAGE, 0, len / TEST_PAGE);
}

/* Of 16 MiB: both have a hole at 2, 2 MiB long, the source one at 6, 4 MiB long, and the target one at 12, 1 MiB long. */
static inline void make_holes(struct mirror_bench *bench)
{
    make_hole(bench->source, 2 * MIB, 2 * MIB);
    make_hole(bench->target, 2 * MIB, 2 * MIB);
    make_hole(bench->source, 6 * MIB, 4 * MIB);
    make_hole(bench->target, 12 * MIB, 1 * MIB);
}

#endif
