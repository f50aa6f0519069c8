// SPDX-License-Identifier: Apache-2.0
/*
 * What the copier itself costs: processor time per MiB between two devices in memory, beside the
 * same reads and writes without a copier.
 *
 *     copy_cost [MIB]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/log.h"
#include "base/random.h"
#include "block/mem_dev.h"
#include "replication/copy.h"

#define MIB   (1ull << 20)
#define CHUNK (256u << 10)

static double cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

struct opener {
    struct block_opener base;
    struct mem_disk *disk;
    bool no_map;
    struct loop *loop;
    struct loop_task task;
    block_opened_fn done;
    void *arg;
};

static struct blockdev *dev_new(struct loop *loop, struct mem_disk *disk, bool no_map)
{
    struct blockdev *dev;
    struct mem_dev_spec spec = {.disk = disk, .no_map = no_map};
    CHECK(mem_dev_new(loop, &spec, &dev) == 0);
    return dev;
}

static void open_later(void *arg)
{
    struct opener *opener = arg;
    opener->done(opener->arg, dev_new(opener->loop, opener->disk, opener->no_map), NULL);
}

static void opener_open(struct block_opener *base, struct loop *loop, block_opened_fn done,
                        void *arg)
{
    struct opener *opener = container_of(base, struct opener, base);
    opener->loop = loop;
    opener->done = done;
    opener->arg = arg;
    opener->task = (struct loop_task){.fn = open_later, .arg = opener};
    loop_defer(loop, &opener->task);
}

static void opener_cancel(struct block_opener *base)
{
    (void)base;
}

static void opener_free(struct block_opener *base)
{
    (void)base;
}

static const struct block_opener_ops opener_ops = {
    .open = opener_open,
    .cancel = opener_cancel,
    .free = opener_free,
};

static struct copy_progress last;

static void on_progress(void *arg, const struct copy_progress *progress)
{
    (void)arg;
    (void)progress;
}

static void on_ended(void *arg, const struct copy_progress *progress, const struct error *error)
{
    last = *progress;
    CHECK(!error && progress->phase == COPY_DONE);
    loop_stop(arg);
}

static double copied_us(struct loop *loop, struct mem_disk *source, struct mem_disk *target,
                        uint64_t size, bool no_map)
{
    struct opener openers[2] = {
        {.base = {.ops = &opener_ops}, .disk = source, .no_map = no_map},
        {.base = {.ops = &opener_ops}, .disk = target, .no_map = no_map},
    };
    struct copy_spec spec = {
        .name = "cost",
        .source = &openers[0].base,
        .target = &openers[1].base,
        .bytes_total = size,
    };
    struct copy_events events = {
        .progress = on_progress, .checkpoint = on_progress, .ended = on_ended};
    double start_us = cpu_us();
    struct copy *copy = copy_start(loop, loop, &spec, &events, loop);
    loop_run(loop);
    double took_us = cpu_us() - start_us;
    copy_free(copy);
    return took_us;
}

/* The same reads and writes, one after the other. */
struct plain {
    struct loop *loop;
    struct blockdev *source, *target;
    uint64_t at, size;
    struct block_req req;
    struct slice slice;
    unsigned closed;
};

static void plain_next(struct plain *plain);

static void plain_closed(void *arg)
{
    struct plain *plain = arg;
    if (++plain->closed == 2) {
        loop_stop(plain->loop);
    }
}

static void plain_written(struct block_req *req)
{
    struct plain *plain = req->arg;
    CHECK(req->status == 0);
    plain->at += CHUNK;
    plain_next(plain);
}

static void plain_submit(struct plain *plain, struct blockdev *dev, enum block_op op,
                         block_done_fn done)
{
    plain->req = (struct block_req){
        .op = op,
        .offset = plain->at,
        .len = CHUNK,
        .slices = &plain->slice,
        .n_slices = 1,
        .done = done,
        .arg = plain,
    };
    blockdev_submit(dev, &plain->req);
}

static void plain_read(struct block_req *req)
{
    struct plain *plain = req->arg;
    plain_submit(plain, plain->target, BLOCK_WRITE, plain_written);
}

static void plain_next(struct plain *plain)
{
    if (plain->at < plain->size) {
        plain_submit(plain, plain->source, BLOCK_READ, plain_read);
        return;
    }
    blockdev_close(plain->source, plain_closed, plain);
    blockdev_close(plain->target, plain_closed, plain);
}

static double plain_us(struct loop *loop, struct mem_disk *source, struct mem_disk *target,
                       uint64_t size)
{
    static uint8_t buffer[CHUNK];
    struct plain plain = {
        .loop = loop,
        .source = dev_new(loop, source, true),
        .target = dev_new(loop, target, true),
        .size = size,
        .slice = {.data = buffer, .len = CHUNK},
    };
    double start_us = cpu_us();
    plain_next(&plain);
    loop_run(loop);
    return cpu_us() - start_us;
}

int main(int argc, char **argv)
{
    uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 0) : 128;
    uint64_t size = mib * MIB;
    struct loop *loop;
    struct mem_disk *full, *scattered, *target;
    struct random random;
    static uint8_t data[MIB];
    log_set_level(LOG_ERROR);
    CHECK(mib > 0 && loop_new("cost", &loop) == 0);
    CHECK(mem_disk_new(size, 0, &full) == 0 && mem_disk_new(size, 0, &scattered) == 0 &&
          mem_disk_new(size, 0, &target) == 0);
    random_seed(&random, 1);
    random_fill(&random, data, sizeof(data));
    for (uint64_t at = 0; at < size; at += MIB) {
        mem_disk_poke(full, at, data, MIB);
        mem_disk_poke(target, at, data, MIB);
    }
    for (uint64_t at = 0; at + (64 << 10) <= size; at += 640 << 10) {
        mem_disk_poke(scattered, at, data, 64 << 10);
    }
    plain_us(loop, full, target, size); /* warm */
    double plain = 1e18, copied = 1e18;
    for (unsigned i = 0; i < 5; i++) { /* in turn, the best of each */
        double us = plain_us(loop, full, target, size);
        plain = us < plain ? us : plain;
        us = copied_us(loop, full, target, size, true);
        copied = us < copied ? us : copied;
    }
    printf("full, %llu MiB: %.1f us of CPU a MiB, reads and writes alone %.1f\n",
           (unsigned long long)mib, copied / (double)mib, plain / (double)mib);
    CHECK(last.bytes_read == size && last.bytes_written == size);
    double us = copied_us(loop, scattered, target, size, false);
    printf("10 %% in 64 KiB extents, on a full target: %.1f us of CPU a MiB\n", us / (double)mib);
    CHECK(last.bytes_read <= size * 15 / 100 + MIB);
    us = copied_us(loop, scattered, target, size, false);
    printf("the same again, only the data to write: %.1f us of CPU a MiB\n", us / (double)mib);
    mem_disk_free(full);
    mem_disk_free(scattered);
    mem_disk_free(target);
    loop_free(loop);
    return 0;
}
