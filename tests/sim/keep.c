// SPDX-License-Identifier: Apache-2.0
/*
 * A LUN that hosts write to through us, and snapshots whose oldest layer has that LUN below it: what is overwritten is kept first. Random
 * writes, cuts, fills of a copier and reads, each with delays; the power of the layers' disk is cut anywhere (the LUN, on another machine, has all
 * that it was sent). What a snapshot has read once, it reads always.
 *
 *     sim_keep [FIRST [COUNT]]   (tests/sim/seeds.h)
 */
#include "tests/unit/block_io.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "block/delay_dev.h"
#include "block/keep_dev.h"
#include "block/mem_dev.h"
#include "block/stack.h"
#include "tests/sim/seeds.h"
#include "tests/unit/layer_disk.h"

enum {
    STEPS = 160,
    BLOCK = 512,
    SIZE = 256 << 10,
    LUN_SIZE = SIZE - 5 * BLOCK, /* ends inside a granule */
    BLOCKS = SIZE / BLOCK,
    SNAPSHOTS = 4,
    WRITES = 6,
    MOST = 24, /* blocks of a write */
};

struct waiting {
    bool done;
    int status;
    struct layer *layer;
};

static struct loop_sim *sim;
static struct loop *loop;
static struct layer_disk *disk;
static struct layer_cache *cache;
static struct mem_disk *lun;
static unsigned serial;

static char names[SNAPSHOTS + 1][16]; /* of the volume's chain, oldest first */
static unsigned n_names;
static char tops[SNAPSHOTS][16];

static struct layer *layers[SNAPSHOTS + 1];
static struct blockdev *bottoms[SNAPSHOTS + 1];
static struct blockdev *volume;
static struct blockdev *snapshots[SNAPSHOTS];
static unsigned n_snapshots;
static struct blockdev *keep;

/* What each snapshot has read of each block; 0: not yet. */
static uint32_t pinned[SNAPSHOTS][BLOCKS];
/* Written and ended, and what may be in a cut besides. */
static uint32_t written[BLOCKS];
static uint32_t last_stamp;

static bool is_over(void *arg)
{
    return ((struct waiting *)arg)->done;
}

static void await(struct waiting *wait)
{
    CHECK(loop_sim_run_until(sim, is_over, wait, 100 * SEC_NS));
}

static void over(void *arg)
{
    ((struct waiting *)arg)->done = true;
}

static void opened(void *arg, struct layer *layer, const struct error *error)
{
    struct waiting *wait = arg;

    wait->done = true;
    wait->layer = layer;
    wait->status = error == NULL ? 0 : -EIO;
}

static void snapped(void *arg, int status, uint64_t pause_ns)
{
    (void)pause_ns;
    ((struct waiting *)arg)->status = status;
    over(arg);
}

static void close_dev(struct blockdev **dev)
{
    struct waiting wait = {0};

    if (*dev != NULL) {
        blockdev_close(*dev, over, &wait);
        await(&wait);
        *dev = NULL;
    }
}

static void put_away(void *arg, int status)
{
    ((struct waiting *)arg)->status = status;
    over(arg);
}

static void layer_put(struct layer *layer)
{
    struct waiting wait = {0};

    layer_unref(layer, put_away, &wait);
    await(&wait);
}

static struct layer *layer_get(const char *name, bool create)
{
    struct waiting wait = {0};
    struct layer_spec spec = {.path = name,
                              .cache = cache,
                              .backend = layer_disk_backend(disk),
                              .size_bytes = create ? SIZE : 0,
                              .log_half_bytes = 8192};

    memcpy(spec.id, name, strlen(name));
    assert_int_equal(create ? layer_create(loop, &spec, opened, &wait)
                            : layer_open(loop, &spec, opened, &wait),
                     0);
    await(&wait);
    return wait.layer;
}

/* A session of its own, each at another distance. */
static struct blockdev *session(void)
{
    struct blockdev *mem;
    struct blockdev *dev;
    struct mem_dev_spec spec = {.disk = lun};
    struct delay_spec delay = {.latency_ns = 20000, .jitter_ns = 200000};

    CHECK(mem_dev_new(loop, &spec, &mem) == 0);
    CHECK(delay_dev_new(mem, &delay, random_u64(&sim_random), &dev) == 0);
    return dev;
}

static struct blockdev *stack_over(struct layer *const *chain, unsigned n, struct blockdev *bottom)
{
    struct stack_spec spec = {.layers = chain, .n_layers = n, .bottom = bottom};
    struct blockdev *dev;

    CHECK(stack_open(loop, &spec, &dev) == 0);
    return dev;
}

static void snapshot_open(unsigned i)
{
    struct layer *chain[SNAPSHOTS + 2];
    struct waiting wait = {0};

    memcpy(chain, layers, (i + 1) * sizeof(*chain));
    chain[i + 1] = layer_get(tops[i], false);
    bottoms[i + 1] = session();
    snapshots[i] = stack_over(chain, i + 2, bottoms[i + 1]);
    (void)wait;
    layer_unref(chain[i + 1], NULL, NULL); /* the stack has it */
}

static void world_open(void)
{
    struct blockdev *fill;

    for (unsigned i = 0; i < n_names; i++) {
        layers[i] = layer_get(names[i], false);
        CHECK(layers[i] != NULL);
    }
    bottoms[0] = session();
    volume = stack_over(layers, n_names, bottoms[0]);
    for (unsigned i = 0; i < n_snapshots; i++) {
        snapshot_open(i);
    }
    CHECK(stack_fill_open(volume, LUN_SIZE, &fill) == 0);
    CHECK(keep_dev_new(session(), fill, &keep) == 0);
}

static void world_close(void)
{
    close_dev(&keep);
    for (unsigned i = 0; i < n_snapshots; i++) {
        close_dev(&snapshots[i]);
        close_dev(&bottoms[i + 1]);
    }
    close_dev(&volume);
    close_dev(&bottoms[0]);
    for (unsigned i = 0; i < n_names; i++) {
        layer_put(layers[i]);
    }
}

/* ---- writes: to the volume and to the LUN, as a mirror does ---- */

struct write {
    struct io io[2];
    unsigned under_way;
    unsigned first;
    unsigned n;
    uint32_t stamp;
    uint32_t data[MOST * BLOCK / 4];
};

static struct write writes[WRITES];

static void write_done(struct block_req *req)
{
    struct write *write = req->arg;

    CHECK(req->status == 0 || layer_disk_is_cut(disk));
    if (--write->under_way > 0 || layer_disk_is_cut(disk)) {
        return;
    }
    for (unsigned i = 0; i < write->n; i++) {
        if (written[write->first + i] < write->stamp) {
            written[write->first + i] = write->stamp;
        }
    }
}

static bool overlaps(unsigned first, unsigned n)
{
    for (unsigned i = 0; i < WRITES; i++) {
        if (writes[i].under_way > 0 && first < writes[i].first + writes[i].n &&
            writes[i].first < first + n) {
            return true;
        }
    }
    return false;
}

static void write_begin(void)
{
    unsigned w = 0;
    unsigned first = (unsigned)below(LUN_SIZE / BLOCK - MOST);
    unsigned n = 1 + (unsigned)below(MOST);

    first = chance(1, 8) ? LUN_SIZE / BLOCK - n : first;
    while (w < WRITES && writes[w].under_way > 0) {
        w++;
    }
    if (w == WRITES || overlaps(first, n) || layer_disk_is_cut(disk)) {
        return;
    }
    struct write *write = &writes[w];

    write->first = first;
    write->n = n;
    write->stamp = ++last_stamp;
    write->under_way = 2;
    for (unsigned i = 0; i < n * BLOCK / 4; i++) {
        write->data[i] = write->stamp;
    }
    for (unsigned side = 0; side < 2; side++) {
        struct io *io = &write->io[side];

        io->slice = (struct slice){.data = (void *)write->data, .len = (size_t)n * BLOCK};
        io->req = (struct block_req){.op = BLOCK_WRITE,
                                     .offset = (uint64_t)first * BLOCK,
                                     .len = (uint64_t)n * BLOCK,
                                     .slices = &io->slice,
                                     .n_slices = 1,
                                     .done = write_done,
                                     .arg = write};
        blockdev_submit(side == 0 ? volume : keep, &io->req);
    }
}

static bool all_written(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < WRITES; i++) {
        if (writes[i].under_way > 0) {
            return false;
        }
    }
    return true;
}

/* ---- cuts and reads ---- */

static bool read_of(struct blockdev *dev, uint32_t *values, bool running)
{
    static uint32_t data[SIZE / 4];
    struct io io;

    io_start(&io, dev, BLOCK_READ, 0, data, SIZE, 0);
    if (running) { /* while others write */
        for (unsigned i = 0; i < 6; i++) {
            write_begin();
            loop_sim_advance(sim, 40000);
        }
    }
    CHECK(loop_sim_run_until(sim, io_is_done, &io, 100 * SEC_NS));
    if (io.req.status != 0) {
        CHECK(layer_disk_is_cut(disk));
        return false;
    }
    for (unsigned b = 0; b < BLOCKS; b++) {
        values[b] = data[b * BLOCK / 4];
        for (unsigned i = 1; i < BLOCK / 4; i++) {
            CHECK(data[b * BLOCK / 4 + i] == values[b]);
        }
    }
    return true;
}

/* The first look pins what the writes that were under way at the cut left open. */
static void snapshot_check(unsigned i, bool running)
{
    static uint32_t values[BLOCKS];

    if (!read_of(snapshots[i], values, running)) {
        return;
    }
    for (unsigned b = 0; b < BLOCKS; b++) {
        if (values[b] != pinned[i][b]) {
            fprintf(stderr, "snapshot %u, block %u: %u, not %u\n", i, b, values[b], pinned[i][b]);
            CHECK(!"what was read once is read always");
        }
    }
}

static void cut(void)
{
    char top[16];
    struct waiting wait = {0};

    if (n_snapshots == SNAPSHOTS || layer_disk_is_cut(disk)) {
        return;
    }
    /* So that the moment is known to the block; writes of partial granules are under way in other places of this test. */
    CHECK(loop_sim_run_until(sim, all_written, NULL, 100 * SEC_NS));
    snprintf(top, sizeof(top), "t%u", serial);
    snprintf(tops[n_snapshots], sizeof(tops[0]), "s%u", serial++);
    struct layer *made = layer_get(top, true);
    struct layer *own = made == NULL ? NULL : layer_get(tops[n_snapshots], true);

    if (own == NULL) {
        CHECK(layer_disk_is_cut(disk));
        if (made != NULL) {
            layer_put(made);
        }
        return;
    }
    layer_put(own);
    memcpy(pinned[n_snapshots], written, sizeof(written));
    CHECK(stack_snapshot(volume, made, snapped, &wait) == 0);
    await(&wait);
    if (wait.status != 0) { /* not answered: it does not exist */
        CHECK(layer_disk_is_cut(disk));
        layer_put(made);
        return;
    }
    strcpy(names[n_names], top);
    layers[n_names++] = made;
    if (!layer_disk_is_cut(disk)) {
        snapshot_open(n_snapshots);
        n_snapshots++;
    }
}

/* ---- lives ---- */

static void life(void)
{
    uint64_t at = below(600);

    world_open();
    layer_disk_cut_at(disk, at);
    for (unsigned step = 0; step < STEPS && !layer_disk_is_cut(disk); step++) {
        switch (below(12)) {
        case 0:
            cut();
            break;
        case 1:
        case 2:
            if (n_snapshots > 0) {
                snapshot_check((unsigned)below(n_snapshots), true);
            }
            break;
        default:
            write_begin();
            loop_sim_advance(sim, below(300000));
            break;
        }
    }
    CHECK(loop_sim_run_until(sim, all_written, NULL, 100 * SEC_NS));
    for (unsigned i = 0; i < n_snapshots; i++) {
        snapshot_check(i, false);
    }
    world_close();
}

static void lun_is_newest(void)
{
    uint32_t word;

    for (unsigned b = 0; b < LUN_SIZE / BLOCK; b++) {
        mem_disk_peek(lun, (uint64_t)b * BLOCK, &word, sizeof(word));
        CHECK(word == written[b]);
    }
}

/* After a cut of the power each block is what was sent last, on both sides or on one: a mirror copies it again. Here it is written anew. */
static void write_all_anew(void)
{
    static uint32_t values[BLOCKS];

    layer_disk_cut_at(disk, 0);
    world_open();
    for (unsigned i = 0; i < n_snapshots; i++) {
        snapshot_check(i, false);
    }
    CHECK(read_of(volume, values, false));
    for (unsigned first = 0; first < LUN_SIZE / BLOCK; first += MOST) {
        unsigned n = LUN_SIZE / BLOCK - first < MOST ? LUN_SIZE / BLOCK - first : MOST;
        struct io io;
        static uint32_t data[MOST * BLOCK / 4];

        for (unsigned i = 0; i < n * BLOCK / 4; i++) {
            data[i] = values[first + i / (BLOCK / 4)];
        }
        io_start(&io, keep, BLOCK_WRITE, (uint64_t)first * BLOCK, data, (uint64_t)n * BLOCK, 0);
        CHECK(loop_sim_run_until(sim, io_is_done, &io, 100 * SEC_NS));
        CHECK(io.req.status == 0);
        memcpy(written + first, values + first, n * sizeof(*written));
    }
    for (unsigned i = 0; i < n_snapshots; i++) {
        snapshot_check(i, false);
    }
    world_close();
}

static unsigned n_cut;
static unsigned n_taken;

static void run(uint64_t seed)
{
    uint32_t word;

    CHECK(loop_sim_new(seed, &sim) == 0);
    CHECK(loop_sim_add(sim, "keep", &loop) == 0);
    disk = layer_disk_new(seed * 3 + 1, 40);
    CHECK(layer_cache_new(1 << 20, &cache) == 0);
    CHECK(mem_disk_new(LUN_SIZE, 0, &lun) == 0);
    memset(written, 0, sizeof(written));
    memset(writes, 0, sizeof(writes));
    n_snapshots = 0;
    serial = 0;
    last_stamp = BLOCKS + 1;
    for (unsigned b = 0; b < LUN_SIZE / BLOCK; b++) { /* every block is another one */
        word = written[b] = b + 1;
        for (unsigned i = 0; i < BLOCK / 4; i++) {
            mem_disk_poke(lun, (uint64_t)b * BLOCK + i * 4, &word, sizeof(word));
        }
    }
    strcpy(names[0], "t");
    n_names = 1;
    layer_put(layer_get("t", true));
    for (unsigned i = 0; i < 3; i++) {
        life();
        if (layer_disk_is_cut(disk)) {
            n_cut++;
            layer_disk_power_on(disk);
            write_all_anew();
        }
        lun_is_newest();
    }
    n_taken += n_snapshots;
    layer_cache_free(cache);
    mem_disk_free(lun);
    layer_disk_free(disk);
    loop_free(loop);
    loop_sim_free(sim);
}

static void passed(uint64_t count)
{
    CHECK(count < 20 || (n_cut > count / 4 && n_taken > count));
}

int main(int argc, char **argv)
{
    return sim_main(argc, argv,
                    &(struct sim){.name = "keep", .seeds = 120, .run = run, .passed = passed});
}
