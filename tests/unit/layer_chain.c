// SPDX-License-Identifier: Apache-2.0
/* Long chains of snapshots on real files: what a write after a snapshot moves, and how fast reads
 * are through 250 of them. The figures are printed. */
#include "tests/unit/testing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/random.h"
#include "block/stack.h"

enum { CHAIN = 250, SIZE = 256 << 20, GRANULE = LAYER_GRANULE };

struct chain {
    struct loop *loop;
    struct layer_cache *cache;
    char folder[64];
    struct layer *layers[CHAIN + 1];
    unsigned n;
    struct blockdev *dev;
    unsigned left;
    int status;
    uint64_t pause_ns;
};

static void answered(struct chain *chain, int status)
{
    chain->status = status ? status : chain->status;
    if (--chain->left == 0) {
        loop_stop(chain->loop);
    }
}

static void await(struct chain *chain, unsigned n)
{
    chain->left = n;
    chain->status = 0;
    loop_run(chain->loop);
    assert_int_equal(chain->status, 0);
}

static void opened(void *arg, struct layer *layer, const struct error *error)
{
    struct chain *chain = arg;
    if (error) {
        print_error("%s\n", error->detail);
    }
    chain->layers[chain->n] = layer;
    answered(chain, layer ? 0 : -EIO);
}

static void done(void *arg, int status)
{
    answered(arg, status);
}

static void closed(void *arg)
{
    answered(arg, 0);
}

static void snapped(void *arg, int status, uint64_t pause_ns)
{
    struct chain *chain = arg;
    chain->pause_ns = pause_ns > chain->pause_ns ? pause_ns : chain->pause_ns;
    answered(chain, status);
}

static void req_done(struct block_req *req)
{
    answered(req->arg, req->status);
}

static void path_of(const struct chain *chain, unsigned i, char path[128])
{
    snprintf(path, 128, "%s/%u.layer", chain->folder, i);
}

static void add_layer(struct chain *chain)
{
    char path[128];
    path_of(chain, chain->n, path);
    struct layer_spec spec = {.path = path, .cache = chain->cache, .size_bytes = SIZE};
    assert_int_equal(layer_create(chain->loop, &spec, opened, chain), 0);
    await(chain, 1);
    chain->n++;
}

static void chain_new(struct chain *chain, const char *under)
{
    *chain = (struct chain){0};
    snprintf(chain->folder, sizeof(chain->folder), "%s/layer_chain.XXXXXX", under);
    assert_non_null(mkdtemp(chain->folder));
    assert_int_equal(loop_new("chain", &chain->loop), 0);
    assert_int_equal(layer_cache_new(0, &chain->cache), 0);
    add_layer(chain);
    struct stack_spec spec = {.layers = chain->layers, .n_layers = 1};
    assert_int_equal(stack_open(chain->loop, &spec, &chain->dev), 0);
}

static void snapshot(struct chain *chain)
{
    add_layer(chain);
    assert_int_equal(stack_snapshot(chain->dev, chain->layers[chain->n - 1], snapped, chain), 0);
    await(chain, 1);
}

static void request(struct chain *chain, enum block_op op, uint64_t offset, void *data, size_t len,
                    unsigned flags)
{
    struct slice slice = {.data = data, .len = len};
    struct block_req req = {.op = op,
                            .flags = flags,
                            .offset = offset,
                            .len = len,
                            .slices = &slice,
                            .n_slices = 1,
                            .done = req_done,
                            .arg = chain};
    blockdev_submit(chain->dev, &req);
    await(chain, 1);
}

static void chain_free(struct chain *chain)
{
    char path[128];
    blockdev_close(chain->dev, closed, chain);
    await(chain, 1);
    for (unsigned i = 0; i < chain->n; i++) {
        layer_unref(chain->layers[i], done, chain);
        await(chain, 1);
        path_of(chain, i, path);
        unlink(path);
    }
    assert_int_equal(rmdir(chain->folder), 0);
    layer_cache_free(chain->cache);
    loop_free(chain->loop);
}

/* What the process has sent to disks; false where nobody tells. */
static bool written_bytes(uint64_t *ret_bytes)
{
    char line[128];
    bool found = false;
    FILE *file = fopen("/proc/self/io", "re");
    while (file && !found && fgets(line, sizeof(line), file)) {
        found = sscanf(line, "write_bytes: %" SCNu64, ret_bytes) == 1;
    }
    if (file) {
        fclose(file);
    }
    return found;
}

/* The first write after a snapshot: what the layer has of it afterwards, and what went to the disk; 0 where nobody tells. */
static uint64_t first_write(struct chain *chain, uint64_t offset, void *data, size_t len,
                            uint64_t *ret_to_disk)
{
    uint64_t before = 0;
    uint64_t after = 0;
    snapshot(chain);
    bool told = written_bytes(&before);
    request(chain, BLOCK_WRITE, offset, data, len, BLOCK_FUA);
    told = told && written_bytes(&after);
    *ret_to_disk = told ? after - before : 0;
    return layer_used_bytes(chain->layers[chain->n - 1]);
}

static void the_first_write_after_a_snapshot_moves_two_granules_at_most(void **state)
{
    (void)state;
    static uint8_t data[4 << 20];
    static const struct {
        uint64_t offset;
        unsigned len;
        unsigned granules;
    } writes[] = {{1 << 20, 4096, 1}, {1 << 20 | 512, 512, 1}, {2 << 20 | 2048, 4096, 2}};
    struct chain chain;
    chain_new(&chain, "/var/tmp");
    memset(data, 1, sizeof(data));
    request(&chain, BLOCK_WRITE, 0, data, sizeof(data), BLOCK_FUA);
    for (unsigned i = 0; i < ARRAY_LEN(writes); i++) {
        uint64_t to_disk = UINT64_MAX;
        /* The kernel counts a page again that it has begun to write back by itself meanwhile: the least of some is meant. */
        for (unsigned n = 0; n < 5 && to_disk > writes[i].granules * GRANULE + 4096; n++) {
            uint64_t told;
            uint64_t moved = first_write(&chain, writes[i].offset, data, writes[i].len, &told);
            to_disk = told < to_disk ? told : to_disk;
            /* The header is from its creation; then granules and one block of the log. */
            assert_int_equal(moved, 8192 + writes[i].granules * GRANULE + 4096);
        }
        print_message("%u bytes at %" PRIu64 ": %" PRIu64 " bytes to the disk, with the log\n",
                      writes[i].len, writes[i].offset, to_disk);
        assert_true(to_disk <= writes[i].granules * GRANULE + 4096);
    }
    chain_free(&chain);
}

/* Mean of random reads one after the other, best of three. */
static uint64_t read_ns(struct chain *chain, unsigned n_reads)
{
    static uint8_t data[GRANULE];
    struct random random;
    uint64_t best = UINT64_MAX;
    for (unsigned round = 0; round < 3; round++) {
        random_seed(&random, 7);
        uint64_t began = loop_now_ns(chain->loop);
        for (unsigned i = 0; i < n_reads; i++) {
            uint64_t block = random_below(&random, CHAIN * 16);
            data[0] = 0;
            request(chain, BLOCK_READ, block * GRANULE, data, GRANULE, 0);
            assert_int_equal(data[0], 1 + block % 200);
        }
        uint64_t took = loop_now_ns(chain->loop) - began;
        best = took < best ? took : best;
    }
    return best / n_reads;
}

static void reads_through_250_snapshots_stay_fast(void **state)
{
    (void)state;
    static uint8_t data[GRANULE];
    struct chain chain;
    struct random random;
    const unsigned n_reads = 4000;
    chain_new(&chain, access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    for (unsigned block = 0; block < CHAIN * 16; block++) {
        memset(data, (int)(1 + block % 200), sizeof(data));
        request(&chain, BLOCK_WRITE, (uint64_t)block * GRANULE, data, sizeof(data), 0);
    }
    uint64_t one = read_ns(&chain, n_reads);
    random_seed(&random, 3);
    for (unsigned i = 0; i < CHAIN; i++) {
        snapshot(&chain);
        /* Each layer has some of all chunks. */
        for (unsigned w = 0; w < 16; w++) {
            uint64_t block = random_below(&random, CHAIN * 16);
            memset(data, (int)(1 + block % 200), sizeof(data));
            request(&chain, BLOCK_WRITE, block * GRANULE, data, sizeof(data), 0);
        }
    }
    assert_int_equal(stack_layers(chain.dev), CHAIN + 1);
    uint64_t many = read_ns(&chain, n_reads);
    const struct stack_stats *stats = stack_stats(chain.dev);
    print_message("4 KiB read: 1 layer %" PRIu64 " ns, %u layers %" PRIu64
                  " ns; looked at layers %" PRIu64
                  " times in %u reads; longest pause of a snapshot %" PRIu64 " ns\n",
                  one, CHAIN + 1, many, stats->resolve_misses, 3 * n_reads, chain.pause_ns);
    /* All layers are asked once per chunk of 4 MiB, whatever is read. */
    assert_true(stats->resolve_misses <= CHAIN * 16 / 1024 + 1);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(many < 10 * one);
#endif
    chain_free(&chain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_write_after_a_snapshot_moves_two_granules_at_most),
        cmocka_unit_test(reads_through_250_snapshots_stay_fast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
