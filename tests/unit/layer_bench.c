// SPDX-License-Identifier: Apache-2.0
/*
 * Figures of layers on real files: test_layer_bench DIRECTORY [seconds per line].
 */
#undef NDEBUG
#include <assert.h>

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/random.h"
#include "block/layer_private.h"
#include "block/stack.h"

enum { DEPTH = 32, SIZE = 256 << 20, LAYERS = 250, MOST = 1 << 20 };

struct slot {
    struct block_req req;
    struct slice slice;
    struct bench *bench;
    uint64_t began_ns;
    uint8_t *data;
};

struct bench {
    struct loop *loop;
    struct layer_cache *cache;
    struct blockdev *dev;
    struct layer *layers[LAYERS];
    unsigned n_layers;
    char folder[PATH_MAX];
    struct random random;
    enum block_op op;
    unsigned flags;
    unsigned flush_every;
    unsigned depth;
    unsigned bytes;
    unsigned running;
    uint64_t until_ns;
    uint64_t count;
    uint64_t stop_count;
    uint64_t lat[100000];
    struct slot slots[DEPTH];
    bool waiting;
};

static void next(struct slot *slot);

static void slot_done(struct block_req *req)
{
    struct slot *slot = req->arg;
    struct bench *bench = slot->bench;
    uint64_t now_ns = loop_now_ns(bench->loop);
    assert(req->status == 0);
    if (bench->count < 100000) {
        bench->lat[bench->count] = now_ns - slot->began_ns;
    }
    bench->count += req->op != BLOCK_FLUSH;
    if (now_ns < bench->until_ns && (!bench->stop_count || bench->count < bench->stop_count)) {
        next(slot);
    } else if (--bench->running == 0) {
        loop_stop(bench->loop);
    }
}

static void next(struct slot *slot)
{
    struct bench *bench = slot->bench;
    slot->slice = (struct slice){.data = slot->data, .len = bench->bytes};
    slot->began_ns = loop_now_ns(bench->loop);
    bool flush = bench->flush_every &&
                 bench->count % bench->flush_every == bench->flush_every - 1 &&
                 slot->req.op != BLOCK_FLUSH;
    slot->req = (struct block_req){
        .op = flush ? BLOCK_FLUSH : bench->op,
        .flags = bench->flags,
        .offset = flush ? 0 : random_below(&bench->random, SIZE / bench->bytes) * bench->bytes,
        .len = flush ? 0 : bench->bytes,
        .slices = &slot->slice,
        .n_slices = 1,
        .done = slot_done,
        .arg = slot};
    blockdev_submit(bench->dev, &slot->req);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t cpu_ns(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * SEC_NS +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

static void line(struct bench *bench, const char *what, enum block_op op, unsigned flags,
                 unsigned flush_every, unsigned depth, double seconds)
{
    bench->op = op;
    bench->flags = flags;
    bench->flush_every = flush_every;
    bench->count = 0;
    bench->running = depth;
    uint64_t began_ns = loop_now_ns(bench->loop);
    uint64_t cpu = cpu_ns();
    bench->until_ns = began_ns + (uint64_t)(seconds * (double)SEC_NS);
    for (unsigned i = 0; i < depth; i++) {
        bench->slots[i].bench = bench;
        next(&bench->slots[i]);
    }
    loop_run(bench->loop);
    double took = (double)(loop_now_ns(bench->loop) - began_ns) / (double)SEC_NS;
    uint64_t n = bench->count < 100000 ? bench->count : 100000;
    qsort(bench->lat, n, sizeof(bench->lat[0]), by_value);
    printf("%-34s %9.0f /s  p50 %7.1f us  p99 %8.1f us  cpu %5.1f us\n", what,
           (double)bench->count / took, (double)bench->lat[n / 2] / 1000,
           (double)bench->lat[n * 99 / 100] / 1000,
           (double)(cpu_ns() - cpu) / 1000 / (double)bench->count);
    fflush(stdout);
}

static void opened(void *arg, struct layer *layer, const struct error *error)
{
    struct bench *bench = arg;
    if (error) {
        fprintf(stderr, "%s\n", error->detail);
        exit(1);
    }
    bench->layers[bench->n_layers++] = layer;
    loop_stop(bench->loop);
}

static void snapped(void *arg, int status, uint64_t pause_ns)
{
    struct bench *bench = arg;
    assert(status == 0);
    bench->lat[bench->n_layers] = pause_ns;
    loop_stop(bench->loop);
}

static void closed(void *arg)
{
    loop_stop(((struct bench *)arg)->loop);
}

static void layer_add(struct bench *bench)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof(path), "%s/bench%u.layer", bench->folder, bench->n_layers);
    unlink(path);
    struct layer_spec spec = {.path = path, .cache = bench->cache, .size_bytes = SIZE};
    layer_create(bench->loop, &spec, opened, bench);
    loop_run(bench->loop);
    unlink(path);
}

static void snapshot(struct bench *bench)
{
    layer_add(bench);
    stack_snapshot(bench->dev, bench->layers[bench->n_layers - 1], snapped, bench);
    loop_run(bench->loop);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    if (argc < 2) {
        fprintf(stderr, "usage: %s DIRECTORY [seconds]\n", argv[0]);
        return 2;
    }
    double seconds = argc > 2 ? atof(argv[2]) : 1;
    snprintf(bench.folder, sizeof(bench.folder), "%s", argv[1]);
    random_seed(&bench.random, 1);
    assert(loop_new("bench", &bench.loop) == 0);
    assert(layer_cache_new(0, &bench.cache) == 0);
    for (unsigned i = 0; i < DEPTH; i++) {
        bench.slots[i].data = aligned_alloc(4096, MOST);
        random_fill(&bench.random, bench.slots[i].data, MOST);
    }
    bench.bytes = 4096;
    layer_add(&bench);
    struct stack_spec spec = {.layers = bench.layers, .n_layers = 1};
    assert(stack_open(bench.loop, &spec, &bench.dev) == 0);
    line(&bench, "write, new, QD32", BLOCK_WRITE, 0, 0, 32, seconds);
    line(&bench, "write, new, QD32, flush every 32", BLOCK_WRITE, 0, 32, 32, seconds);
    line(&bench, "write, FUA, QD1", BLOCK_WRITE, BLOCK_FUA, 0, 1, seconds);
    line(&bench, "write, FUA, QD32", BLOCK_WRITE, BLOCK_FUA, 0, 32, seconds);
    line(&bench, "write, QD1", BLOCK_WRITE, 0, 0, 1, seconds);
    line(&bench, "read, QD1", BLOCK_READ, 0, 0, 1, seconds);
    line(&bench, "read, QD32", BLOCK_READ, 0, 0, 32, seconds);
    bench.bytes = MOST;
    snapshot(&bench);
    line(&bench, "write, 1 MiB, new, QD1", BLOCK_WRITE, 0, 0, 1, seconds);
    for (unsigned at = 0; at < MOST; at += 8192) {
        memset(bench.slots[0].data + at, 0, 4096);
    }
    snapshot(&bench);
    line(&bench, "half of it zeros, new", BLOCK_WRITE, 0, 0, 1, seconds);
    bench.bytes = 4096;
    while (bench.n_layers < LAYERS) {
        snapshot(&bench);
        bench.stop_count = 64;
        if (bench.n_layers == LAYERS) {
            printf("%u snapshots, pause of the last %.1f us\n", LAYERS - 1,
                   (double)bench.lat[bench.n_layers] / 1000);
        }
        bench.op = BLOCK_WRITE;
        bench.flags = 0;
        bench.flush_every = 0;
        bench.count = 0;
        bench.running = 1;
        bench.until_ns = UINT64_MAX;
        next(&bench.slots[0]);
        loop_run(bench.loop);
    }
    bench.stop_count = 0;
    line(&bench, "read, 250 layers, QD1", BLOCK_READ, 0, 0, 1, seconds);
    line(&bench, "read, 250 layers, QD32", BLOCK_READ, 0, 0, 32, seconds);
    const struct stack_stats *stats = stack_stats(bench.dev);
    printf("resolved: %" PRIu64 " hits, %" PRIu64 " misses, %" PRIu64 " KiB\n", stats->resolve_hits,
           stats->resolve_misses, stack_memory_bytes(bench.dev) / 1024);
    blockdev_close(bench.dev, closed, &bench);
    loop_run(bench.loop);
    return 0;
}
