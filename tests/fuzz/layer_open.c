// SPDX-License-Identifier: Apache-2.0
/*
 * The opener behind foreign bytes: header, log and map pages from the fuzzer, sealed with right
 * checksums on demand so that what is behind them is reached; then reads, writes, a flush, a
 * second life.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/loop_sim.h"
#include "block/layer_format.h"
#include "block/stack.h"
#include "tests/unit/layer_disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SIZE = 128 << 20, HALF = 2 * LAYER_BLOCK };

struct fuzz {
    struct loop_sim *sim;
    struct layer *layer;
    bool done;
};

static void opened(void *arg, struct layer *layer, const struct error *error)
{
    struct fuzz *fuzz = arg;
    (void)error;
    fuzz->layer = layer;
    fuzz->done = true;
}

static bool is_done(void *arg)
{
    return ((struct fuzz *)arg)->done;
}

static void closed(void *arg)
{
    ((struct fuzz *)arg)->done = true;
}

static void unreferenced(void *arg, int status)
{
    (void)status;
    ((struct fuzz *)arg)->done = true;
}

static void answered(struct block_req *req)
{
    ((struct fuzz *)req->arg)->done = true;
}

static void await(struct fuzz *fuzz)
{
    if (!loop_sim_run_until(fuzz->sim, is_done, fuzz, 1000 * SEC_NS)) {
        abort();
    }
    fuzz->done = false;
}

static void request(struct fuzz *fuzz, struct blockdev *dev, enum block_op op, uint64_t offset,
                    uint64_t len)
{
    static uint8_t data[64 << 10];
    struct slice slice = {.data = data, .len = (size_t)len};
    struct block_req req = {.op = op,
                            .offset = offset,
                            .len = len,
                            .slices = &slice,
                            .n_slices = op == BLOCK_READ || op == BLOCK_WRITE,
                            .done = answered,
                            .arg = fuzz};
    blockdev_submit(dev, &req);
    await(fuzz);
}

/* Where blocks of the input go: header, the log, slots of the first and the third page. */
static const uint64_t places[] = {
    0,
    LAYER_BLOCK,
    LAYER_LOG_OFFSET,
    LAYER_LOG_OFFSET + LAYER_BLOCK,
    LAYER_LOG_OFFSET + 2 * LAYER_BLOCK,
    LAYER_LOG_OFFSET + 3 * LAYER_BLOCK,
    LAYER_MAP_OFFSET,
    LAYER_MAP_OFFSET + LAYER_BLOCK,
    LAYER_MAP_OFFSET + 4 * LAYER_BLOCK,
    LAYER_MAP_OFFSET + 5 * LAYER_BLOCK,
};

/* Each piece of input: a byte that says where and how, a length, bytes that change a good block. */
static void apply(struct layer_disk *disk, const uint8_t *data, size_t size)
{
    while (size >= 4) {
        uint64_t place = places[data[0] % (sizeof(places) / sizeof(places[0]))];
        bool seal = data[0] & 0x80;
        size_t at = (data[1] | data[2] << 8) % LAYER_BLOCK;
        size_t len = data[3] % 64;
        uint8_t block[LAYER_BLOCK];
        data += 4;
        size -= 4;
        len = len < size ? len : size;
        len = len < LAYER_BLOCK - at ? len : LAYER_BLOCK - at;
        layer_disk_peek(disk, "l", place, block, sizeof(block));
        memcpy(block + at, data, len);
        data += len;
        size -= len;
        if (seal) {
            size_t crc_at = place < LAYER_LOG_OFFSET ? 12 : 4;
            memset(block + crc_at, 0, 4);
            uint32_t crc = crc32c(0, block, sizeof(block));
            for (int i = 0; i < 4; i++) {
                block[crc_at + (size_t)i] = (uint8_t)(crc >> (8 * i));
            }
        }
        layer_disk_poke(disk, "l", place, block, sizeof(block));
    }
}

static void live(struct fuzz *fuzz, struct loop *loop, const struct layer_spec *spec, bool create)
{
    if (create ? layer_create(loop, spec, opened, fuzz) : layer_open(loop, spec, opened, fuzz)) {
        abort();
    }
    await(fuzz);
    if (!fuzz->layer) {
        return;
    }
    struct blockdev *dev;
    struct stack_spec stack = {.layers = &fuzz->layer, .n_layers = 1};
    if (stack_open(loop, &stack, &dev)) {
        abort();
    }
    uint64_t end = dev->info.size_bytes;
    request(fuzz, dev, BLOCK_READ, 0, 512);
    request(fuzz, dev, BLOCK_WRITE, end - 512, 512);
    for (unsigned i = 0; i < 3 && end >= SIZE; i++) {
        request(fuzz, dev, BLOCK_WRITE, (uint64_t)i * (60 << 20) / 2, 64 << 10);
        request(fuzz, dev, BLOCK_FLUSH, 0, 0);
    }
    struct stack_job *job;
    struct stack_job_spec scrub = {.kind = STACK_SCRUB, .done = unreferenced, .arg = fuzz};
    if (stack_job_start(dev, &scrub, &job)) {
        abort();
    }
    await(fuzz);
    blockdev_close(dev, closed, fuzz);
    await(fuzz);
    layer_unref(fuzz->layer, unreferenced, fuzz);
    await(fuzz);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz fuzz = {0};
    struct loop *loop;
    struct layer_cache *cache;
    struct layer_disk *disk = layer_disk_new(1, 0);
    if (loop_sim_new(0, &fuzz.sim) || loop_sim_add(fuzz.sim, "fuzz", &loop) ||
        layer_cache_new(0, &cache)) {
        abort();
    }
    log_set_level(LOG_ERROR);
    struct layer_spec spec = {.path = "l",
                              .cache = cache,
                              .backend = layer_disk_backend(disk),
                              .size_bytes = SIZE,
                              .log_half_bytes = HALF};
    live(&fuzz, loop, &spec, true);
    apply(disk, data, size);
    spec.size_bytes = 0;
    live(&fuzz, loop, &spec, false);
    live(&fuzz, loop, &spec, false);
    if (layer_cache_bytes(cache) != 0) {
        abort();
    }
    layer_cache_free(cache);
    loop_free(loop);
    loop_sim_free(fuzz.sim);
    layer_disk_free(disk);
    return 0;
}
