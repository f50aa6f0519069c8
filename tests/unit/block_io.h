// SPDX-License-Identifier: Apache-2.0
/*
 * Block requests for tests: start one and look later, or do one and wait, on a real or a simulated
 * loop.
 *
 * Thread:    the loop's.
 * Ownership: struct io is the test's and must outlive its request.
 * Errors:    the status of the request.
 */
#ifndef TESTS_UNIT_BLOCK_IO_H
#define TESTS_UNIT_BLOCK_IO_H

#include "tests/unit/testing.h"

#include <errno.h>
#include <string.h>

#include "base/loop_sim.h"
#include "block/blockdev.h"

struct io {
    struct block_req req;
    struct slice slice;
    struct block_extent extents[64];
    bool done;
    unsigned order; /* the how-manieth to complete */
};

static unsigned io_completed;

static inline void io_done(struct block_req *req)
{
    struct io *io = req->arg;
    assert_false(io->done);
    io->done = true;
    io->order = io_completed++;
}

static inline void io_start(struct io *io, struct blockdev *dev, enum block_op op, uint64_t offset,
                            void *data, uint64_t len, unsigned flags)
{
    *io = (struct io){0};
    io->slice = (struct slice){.data = data, .len = (size_t)len};
    io->req = (struct block_req){.op = op,
                                 .flags = flags,
                                 .offset = offset,
                                 .len = len,
                                 .slices = data ? &io->slice : NULL,
                                 .n_slices = data != NULL,
                                 .extents = io->extents,
                                 .max_extents = 64,
                                 .done = io_done,
                                 .arg = io};
    blockdev_submit(dev, &io->req);
    assert_false(io->done);
}

static inline bool io_is_done(void *arg)
{
    return ((struct io *)arg)->done;
}

struct io_stop {
    struct loop_timer timer;
    struct loop *loop;
    bool (*done)(void *arg);
    void *arg;
};

static inline void io_stop_check(void *arg)
{
    struct io_stop *stop = arg;
    if (stop->done(stop->arg)) {
        loop_stop(stop->loop);
    } else {
        loop_timer_start(&stop->timer, 0);
    }
}

/* Lets the loop run until done(arg). */
static inline void io_wait(struct loop *loop, bool (*done)(void *arg), void *arg)
{
    struct io_stop stop = {.loop = loop, .done = done, .arg = arg};
    loop_timer_init(&stop.timer, loop, io_stop_check, &stop);
    loop_timer_start(&stop.timer, 0);
    loop_run(loop);
}

static inline int io_do(struct blockdev *dev, enum block_op op, uint64_t offset, void *data,
                        uint64_t len, unsigned flags)
{
    struct io io;
    io_start(&io, dev, op, offset, data, len, flags);
    io_wait(dev->loop, io_is_done, &io);
    return io.req.status;
}

static inline void io_flag(void *arg)
{
    *(bool *)arg = true;
}

static inline bool io_flag_is_set(void *arg)
{
    return *(bool *)arg;
}

static inline void io_close(struct blockdev *dev)
{
    bool closed = false;
    struct loop *loop = dev->loop;
    blockdev_close(dev, io_flag, &closed);
    assert_false(closed);
    io_wait(loop, io_flag_is_set, &closed);
}

#endif
