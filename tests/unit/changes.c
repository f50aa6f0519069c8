// SPDX-License-Identifier: Apache-2.0
/*
 * What is new since a cut, and the copier on it: a target that has the older cut becomes the newer one, nothing but what was changed is read or
 * written; and back again, with the content of the older cut where the newer one differs.
 */
#include "tests/unit/layer_world.h"

#include "replication/copy.h"

#ifdef __SANITIZE_THREAD__
enum { SEEDS = 4 };
#else
enum { SEEDS = 24 };
#endif

enum {
    WINDOWS = 4,
    WINDOW_GRANULES = 96,
    WINDOW_BYTES = WINDOW_GRANULES * LAYER_GRANULE,
    ROUNDS = 7,
    CUTS_KEPT = 4,
};

static const uint64_t windows[WINDOWS] = {0, (4 << 20) - WINDOW_BYTES / 2, 40 << 20,
                                          W_SIZE - WINDOW_BYTES};

struct content {
    uint8_t bytes[WINDOWS][WINDOW_BYTES];
};

struct changed {
    bool granule[WINDOWS][WINDOW_GRANULES];
};

struct rig {
    struct world *world;
    struct loop *owner;
    struct mem_disk *disk;
    struct content now;  /* what the volume has */
    struct content base; /* what the target has: the last cut that was copied */
    struct changed since;
};

/* ---- openers ---- */

struct dev_opener {
    struct block_opener base;
    struct blockdev *dev;
    block_opened_fn done;
    void *arg;
    struct loop_task task;
};

static void dev_open_now(void *arg)
{
    struct dev_opener *opener = arg;
    opener->done(opener->arg, opener->dev, NULL);
}

static void dev_open(struct block_opener *base, struct loop *loop, block_opened_fn done, void *arg)
{
    struct dev_opener *opener = container_of(base, struct dev_opener, base);
    opener->done = done;
    opener->arg = arg;
    opener->task = (struct loop_task){.fn = dev_open_now, .arg = opener};
    loop_defer(loop, &opener->task);
}

static void dev_cancel(struct block_opener *base)
{
    (void)base;
}

static void dev_free(struct block_opener *base)
{
    free(container_of(base, struct dev_opener, base));
}

static struct block_opener *opener_of(struct blockdev *dev)
{
    static const struct block_opener_ops ops = {dev_open, dev_cancel, dev_free};
    struct dev_opener *opener = calloc(1, sizeof(*opener));
    assert_non_null(opener);
    opener->base.ops = &ops;
    opener->dev = dev;
    return &opener->base;
}

/* ---- the volume ---- */

static void wait_for(struct rig *rig, struct blockdev *dev, enum block_op op, uint64_t offset,
                     void *data, uint64_t len)
{
    struct io io;
    io_start(&io, dev, op, offset, data, len, 0);
    W_EXPECT(rig->world, loop_sim_run_until(rig->world->sim, io_is_done, &io, 100 * SEC_NS));
    W_EXPECT(rig->world, io.req.status == 0);
}

static void mark(struct rig *rig, unsigned w, uint64_t begin, uint64_t len)
{
    for (uint64_t g = begin / LAYER_GRANULE; g <= (begin + len - 1) / LAYER_GRANULE; g++) {
        rig->since.granule[w][g] = true;
    }
}

/* Writes, zeros, discards of blocks, of a granule or less, and of many granules. */
static void change(struct rig *rig)
{
    struct random *random = &rig->world->random;
    static uint8_t data[WINDOW_BYTES];
    unsigned w = (unsigned)random_below(random, WINDOWS);
    uint64_t begin = random_below(random, WINDOW_BYTES / 512) * 512;
    uint64_t most = random_chance(random, 1, 3) ? 24 * LAYER_GRANULE : 2 * LAYER_GRANULE;
    uint64_t len = (1 + random_below(random, most / 512)) * 512;
    enum block_op op = random_chance(random, 2, 3)   ? BLOCK_WRITE
                       : random_chance(random, 1, 2) ? BLOCK_ZERO
                                                     : BLOCK_DISCARD;
    if (random_chance(random, 1, 2)) {
        begin = begin / LAYER_GRANULE * LAYER_GRANULE;
        len = (len + LAYER_GRANULE - 1) / LAYER_GRANULE * LAYER_GRANULE;
    }
    len = len < WINDOW_BYTES - begin ? len : WINDOW_BYTES - begin;
    memset(data, op == BLOCK_WRITE ? 1 + (int)random_below(random, 255) : 0, len);
    memcpy(rig->now.bytes[w] + begin, data, len);
    mark(rig, w, begin, len);
    wait_for(rig, rig->world->dev, op, windows[w] + begin, op == BLOCK_WRITE ? data : NULL, len);
}

/* ---- copies ---- */

struct run {
    struct copy_progress progress;
    bool ended;
};

static void run_news(void *arg, const struct copy_progress *progress)
{
    ((struct run *)arg)->progress = *progress;
}

static void run_ended(void *arg, const struct copy_progress *progress, const struct error *error)
{
    struct run *run = arg;
    assert_null(error);
    run->progress = *progress;
    run->ended = true;
}

static bool run_is_over(void *arg)
{
    return ((struct run *)arg)->ended;
}

static const struct copy_events run_events = {
    .progress = run_news,
    .checkpoint = run_news,
    .ended = run_ended,
};

static struct blockdev *changes_open(struct rig *rig, unsigned n, unsigned new_from, bool old)
{
    struct blockdev *dev;
    struct stack_spec spec = {.layers = rig->world->layers,
                              .n_layers = n,
                              .read_only = true,
                              .new_from = new_from,
                              .old_content = old};
    assert_int_equal(stack_open(rig->world->loop, &spec, &dev), 0);
    assert_true(dev->info.changes);
    return dev;
}

/* Changes go on at the source if busy. cut_after: stops after so many steps of the loop, 0 never. */
static struct copy_progress copy_run(struct rig *rig, struct blockdev *source, bool verify,
                                     bool busy, unsigned cut_after)
{
    struct mem_dev_spec spec = {.disk = rig->disk, .max_inflight = 8};
    struct copy_spec wanted = {
        .name = "changes", .bytes_total = W_SIZE, .verify = verify, .checkpoint_ns = SEC_NS};
    struct blockdev *target;
    struct run run = {0};
    assert_int_equal(mem_dev_new(rig->world->loop, &spec, &target), 0);
    wanted.source = opener_of(source);
    wanted.target = opener_of(target);
    struct copy *copy = copy_start(rig->owner, rig->world->loop, &wanted, &run_events, &run);
    for (unsigned i = 0; busy && i < 40 && !run.ended; i++) {
        change(rig);
    }
    for (unsigned i = 0; i < cut_after && !run.ended; i++) {
        loop_sim_step(rig->world->sim);
    }
    if (cut_after > 0) {
        copy_cancel(copy);
    }
    W_EXPECT(rig->world, loop_sim_run_until(rig->world->sim, run_is_over, &run, 600 * SEC_NS));
    copy_free(copy);
    loop_sim_run_until_idle(rig->world->sim);
    if (cut_after == 0) {
        W_EXPECT(rig->world, run.progress.phase == COPY_DONE);
    }
    return run.progress;
}

static void target_is(struct rig *rig, const struct content *content)
{
    static uint8_t data[WINDOW_BYTES];
    for (unsigned w = 0; w < WINDOWS; w++) {
        mem_disk_peek(rig->disk, windows[w], data, WINDOW_BYTES);
        W_EXPECT(rig->world, memcmp(data, content->bytes[w], WINDOW_BYTES) == 0);
    }
}

static uint64_t changed_bytes(const struct changed *changed)
{
    uint64_t n = 0;
    for (unsigned w = 0; w < WINDOWS; w++) {
        for (unsigned g = 0; g < WINDOW_GRANULES; g++) {
            n += changed->granule[w][g];
        }
    }
    return n * LAYER_GRANULE;
}

/* Granule by granule, not as the copier asks. */
static void map_is(struct rig *rig, struct blockdev *dev, const struct changed *changed)
{
    for (unsigned w = 0; w < WINDOWS; w++) {
        for (unsigned g = 0; g < WINDOW_GRANULES; g++) {
            struct io io;
            io_start(&io, dev, BLOCK_MAP, windows[w] + g * LAYER_GRANULE, NULL, LAYER_GRANULE, 0);
            W_EXPECT(rig->world,
                     loop_sim_run_until(rig->world->sim, io_is_done, &io, 100 * SEC_NS));
            W_EXPECT(rig->world, io.req.status == 0);
            W_EXPECT(rig->world,
                     (io.extents[0].kind == BLOCK_EXTENT_KEPT) == !changed->granule[w][g]);
        }
    }
}

/* The cut that is the base now is merged with what is below it, either way. */
static void merge_below_base(struct rig *rig)
{
    struct world *world = rig->world;
    bool up = random_chance(&world->random, 1, 2);
    struct world_wait wait = {0};
    struct stack_job *job;
    struct stack_job_spec spec = {.kind = up ? STACK_MERGE_UP : STACK_MERGE_DOWN,
                                  .index = up ? 0 : 1,
                                  .done = world_done,
                                  .arg = &wait};
    assert_int_equal(stack_job_start(world->dev, &spec, &job), 0);
    world_await(world, &wait);
    assert_int_equal(wait.status, 0);
    struct layer *layer = world->layers[spec.index];
    world_forget(world, spec.index, spec.index);
    assert_int_equal(stack_remove(world->dev, spec.index, NULL, NULL), 0);
    wait = (struct world_wait){0};
    layer_unref(layer, world_done, &wait);
    world_await(world, &wait);
}

static void cycle(struct rig *rig, bool first)
{
    struct world *world = rig->world;
    struct random *random = &world->random;
    struct content cut = rig->now;
    struct changed changed = rig->since;
    unsigned base_layers = world->n_layers - (first ? 0 : 1);

    assert_true(world_snapshot(world));
    rig->since = (struct changed){0};
    unsigned n = world->n_layers - 1; /* all but the new top */
    if (first) {
        struct blockdev *whole;
        struct stack_spec spec = {.layers = world->layers, .n_layers = n, .read_only = true};
        assert_int_equal(stack_open(world->loop, &spec, &whole), 0);
        copy_run(rig, whole, false, true, 0);
        target_is(rig, &cut);
        rig->base = cut;
        return;
    }
    W_EXPECT(world, base_layers < n + 1);
    struct blockdev *dev = changes_open(rig, n, base_layers, false);
    map_is(rig, dev, &changed);
    if (random_chance(random, 1, 3)) {
        /* It was not to be: what it has overwritten comes back. */
        copy_run(rig, dev, false, false, 200 + (unsigned)random_below(random, 2000));
        dev = changes_open(rig, n, base_layers, true);
        map_is(rig, dev, &changed);
        struct copy_progress back = copy_run(rig, dev, true, true, 0);
        W_EXPECT(world, back.bytes_written + back.bytes_zeroed <= changed_bytes(&changed));
        target_is(rig, &rig->base);
        dev = changes_open(rig, n, base_layers, false);
    }
    struct copy_progress copied = copy_run(rig, dev, random_chance(random, 1, 3), true, 0);
    W_EXPECT(world, copied.bytes_written + copied.bytes_zeroed <= changed_bytes(&changed));
    W_EXPECT(world, copied.bytes_skipped >= W_SIZE - changed_bytes(&changed));
    target_is(rig, &cut);
    rig->base = cut;
    while (world->n_layers > CUTS_KEPT) {
        merge_below_base(rig);
    }
}

static void a_cycle_moves_what_was_changed_and_nothing_else(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct rig *rig = calloc(1, sizeof(*rig));
        assert_non_null(rig);
        rig->world = world_new(seed, seed % 3 * 20);
        assert_int_equal(loop_sim_add(rig->world->sim, "owner", &rig->owner), 0);
        assert_int_equal(mem_disk_new(W_SIZE, 0, &rig->disk), 0);
        for (unsigned round = 0; round < ROUNDS; round++) {
            for (unsigned i = 0; i < 30; i++) {
                change(rig);
            }
            cycle(rig, round == 0);
        }
        mem_disk_free(rig->disk);
        loop_free(rig->owner);
        world_free(rig->world);
        free(rig);
    }
}

/* Changes that alternate with what was not changed are not worth asking for; they are asked for all the same. */
static void many_small_changes_are_not_taken_as_one_large(void **state)
{
    (void)state;
    enum { GRANULES = W_SIZE / LAYER_GRANULE };
    static uint8_t data[LAYER_GRANULE];
    struct rig *rig = calloc(1, sizeof(*rig));
    assert_non_null(rig);
    rig->world = world_new(5, 0);
    assert_int_equal(loop_sim_add(rig->world->sim, "owner", &rig->owner), 0);
    assert_int_equal(mem_disk_new(W_SIZE, 0, &rig->disk), 0);
    assert_true(world_snapshot(rig->world));
    memset(data, 7, sizeof(data));
    for (unsigned g = 0; g < GRANULES; g += 2) {
        wait_for(rig, rig->world->dev, BLOCK_WRITE, (uint64_t)g * LAYER_GRANULE, data,
                 sizeof(data));
    }
    assert_true(world_snapshot(rig->world));
    struct copy_progress copied = copy_run(rig, changes_open(rig, 2, 1, false), false, false, 0);
    assert_int_equal(copied.bytes_written, W_SIZE / 2);
    assert_int_equal(copied.bytes_read, W_SIZE / 2);
    mem_disk_free(rig->disk);
    loop_free(rig->owner);
    world_free(rig->world);
    free(rig);
}

/* What was added to the volume is new, whoever wrote to it. */
static void a_grown_volume_is_copied_to_its_end(void **state)
{
    (void)state;
    enum { MORE = 8 << 20 };
    struct rig *rig = calloc(1, sizeof(*rig));
    struct world_wait wait = {0};
    struct io io;
    assert_non_null(rig);
    rig->world = world_new(7, 0);
    struct world *world = rig->world;
    assert_true(world_snapshot(world));
    world->grow_to = W_SIZE + MORE;
    assert_int_equal(stack_grow(world->dev, world->grow_to, world_done, &wait), 0);
    world_await(world, &wait);
    world->size = world->grow_to;
    assert_true(world_snapshot(world));
    struct blockdev *dev = changes_open(rig, 2, 1, false);
    io_start(&io, dev, BLOCK_MAP, W_SIZE - MORE, NULL, 2 * MORE, 0);
    assert_true(loop_sim_run_until(world->sim, io_is_done, &io, 100 * SEC_NS));
    assert_int_equal(io.req.n_extents, 2);
    assert_int_equal(io.extents[0].kind, BLOCK_EXTENT_KEPT);
    assert_int_equal(io.extents[0].len, MORE);
    assert_int_equal(io.extents[1].kind, BLOCK_EXTENT_ZERO);
    assert_int_equal(io.extents[1].len, MORE);
    wait = (struct world_wait){0};
    blockdev_close(dev, world_closed, &wait);
    world_await(world, &wait);
    world_free(world);
    free(rig);
}

static void what_cannot_be_changes_is_refused(void **state)
{
    (void)state;
    struct world *world = world_new(3, 0);
    struct blockdev *dev;
    struct stack_spec spec = {.layers = world->layers, .n_layers = 1, .read_only = true};
    assert_true(world_snapshot(world));
    spec.new_from = 1;
    assert_int_equal(stack_open(world->loop, &spec, &dev), -EINVAL);
    spec.n_layers = 2;
    spec.read_only = false;
    assert_int_equal(stack_open(world->loop, &spec, &dev), -EINVAL);
    spec = (struct stack_spec){
        .layers = world->layers, .n_layers = 2, .read_only = true, .old_content = true};
    assert_int_equal(stack_open(world->loop, &spec, &dev), -EINVAL);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cycle_moves_what_was_changed_and_nothing_else),
        cmocka_unit_test(many_small_changes_are_not_taken_as_one_large),
        cmocka_unit_test(a_grown_volume_is_copied_to_its_end),
        cmocka_unit_test(what_cannot_be_changes_is_refused),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
