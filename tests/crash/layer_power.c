// SPDX-License-Identifier: Apache-2.0
/*
 * Cuts the power at every write, hole and sync of seeded sequences of requests, snapshots, merges
 * and restarts, and looks at what is left: flushed blocks are there, every other block is old or
 * new, of the volume and of each snapshot; and what was seen once stays.
 */
#include "tests/unit/layer_world.h"

/* The thread sanitizer is slow, and there is one thread; under the other one every third cut finds
 * what a wrong access is, and the release build makes all of them. */
#if defined(__SANITIZE_THREAD__)
enum { SEEDS_EACH = 1, SEQUENCES = 1, STRIDE = 24, SEEDS = 5 };
#elif defined(__SANITIZE_ADDRESS__)
enum { SEEDS_EACH = 1, SEQUENCES = 1, STRIDE = 3, SEEDS = 50 };
#else
enum { SEEDS_EACH = 2, SEQUENCES = 2, STRIDE = 1, SEEDS = 150 };
#endif

static uint64_t cuts;

static void recover(struct world *world)
{
    world_open(world);
    for (unsigned i = 0; i < W_INFLIGHT; i++) {
        world->ops[i].used = false;
    }
    world_check(world, true);
    if (random_chance(&world->random, 1, 3) && world_scrub(world)) {
        world_check(world, false);
    }
}

static void snapshot(struct world *world)
{
    world_snapshot(world);
}

static void merge_up(struct world *world)
{
    world_merge(world, STACK_MERGE_UP, 1);
}

static void merge_up_the_oldest(struct world *world)
{
    world_merge(world, STACK_MERGE_UP, 0);
}

static void merge_down(struct world *world)
{
    world_merge(world, STACK_MERGE_DOWN, 1);
}

static void grow(struct world *world)
{
    world_grow(world);
}

static void grow_far_and_merge_down(struct world *world)
{
    if (world_grow(world) && world_grow(world) && world_grow(world) && world_snapshot(world)) {
        world_merge(world, STACK_MERGE_DOWN, 2); /* the layer below becomes larger */
    }
}

static void hydrate(struct world *world)
{
    world_hydrate(world);
}

static void scrub(struct world *world)
{
    world_scrub(world);
}

static void erase(struct world *world)
{
    world_drain(world);
    world_erase(world);
    world_drain(world);
    world_requests(world, 10);
}

struct operation {
    const char *name;
    void (*go)(struct world *world);
    bool bottom;
};

static const struct operation operations[] = {
    {"snapshot", snapshot, false},
    {"merge up", merge_up, false},
    {"merge up of the oldest", merge_up_the_oldest, false},
    {"merge up of the oldest above a device", merge_up_the_oldest, true},
    {"merge down", merge_down, false},
    {"merge down above a device", merge_down, true},
    {"grow", grow, false},
    {"grow far and merge down", grow_far_and_merge_down, false},
    {"hydrate", hydrate, true},
    {"scrub", scrub, false},
    {"erase", erase, false},
    {"erase above a device", erase, true},
};

/* False: the operation ended before its n-th write. */
static bool cut_operation(const struct operation *operation, uint64_t seed, uint64_t n)
{
    struct world *world = world_new(seed, seed % 3 * 40);
    if (operation->bottom) {
        world_add_bottom(world);
    }
    for (unsigned i = 0; i < 2; i++) {
        world_requests(world, 30);
        world_snapshot(world);
    }
    world_requests(world, 30);
    layer_disk_cut_at(world->disk, n);
    operation->go(world);
    bool was_cut = layer_disk_is_cut(world->disk);
    if (was_cut) {
        cuts++;
        world_close(world);
        layer_disk_power_on(world->disk);
        recover(world);
        /* The rest of it, and all is as if nothing had been. */
        if (world->merged) {
            world_merge(world, world->merge_kind, world->merge_index);
        }
        if (world->bottom) {
            world_hydrate(world);
        }
    }
    layer_disk_cut_at(world->disk, 0);
    world_requests(world, 30);
    world_check(world, false);
    world_close(world);
    world_open(world);
    world_check(world, false);
    world_free(world);
    return was_cut;
}

static void every_write_of_each_operation(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    for (unsigned i = 0; i < ARRAY_LEN(operations); i++) {
        uint64_t before = cuts;
        for (uint64_t seed = 1; seed <= SEEDS_EACH; seed++) {
            uint64_t n = 1;
            while (cut_operation(&operations[i], seed, n)) {
                n += 1 + STRIDE / 4;
            }
        }
        print_message("%s: %" PRIu64 " power cuts\n", operations[i].name, cuts - before);
        assert_true(cuts > before);
    }
}

/* False: the sequence ended before its n-th operation. */
static bool cut_and_look(uint64_t seed, uint64_t n)
{
    struct world *world = world_new(seed, seed % 3 * 40);
    if (seed % 4 == 0) {
        world_add_bottom(world);
    }
    layer_disk_cut_at(world->disk, n);
    world_run(world, 160);
    bool was_cut = layer_disk_is_cut(world->disk);
    for (int again = 0; layer_disk_is_cut(world->disk) && again < 3; again++) {
        cuts++;
        if (world->dev) {
            world_close(world);
        }
        layer_disk_power_on(world->disk);
        recover(world);
        if (again < 2) {
            /* In the middle of the next life too: unfinished checkpoints, half a log. */
            layer_disk_cut_at(world->disk, 1 + random_below(&world->random, 60));
            if (world->merged) {
                world_merge(world, world->merge_kind, world->merge_index);
            }
            world_run(world, 60);
        }
    }
    if (!layer_disk_is_cut(world->disk) && world->dev) {
        layer_disk_cut_at(world->disk, 0);
        world_run(world, 40);
        world_check(world, false);
        world_close(world);
        world_open(world);
        world_check(world, false);
    }
    world_free(world);
    return was_cut;
}

static void every_write_of_a_sequence(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    for (uint64_t seed = 1000; seed < 1000 + SEQUENCES; seed++) {
        uint64_t n = 1;
        while (cut_and_look(seed, n)) {
            n += STRIDE;
        }
        assert_true(n > 50);
    }
    print_message("%" PRIu64 " power cuts\n", cuts);
}

static void anywhere_in_many_sequences(void **state)
{
    (void)state;
    const char *wish = getenv("LAYER_POWER_SEEDS");
    uint64_t count = wish ? strtoull(wish, NULL, 10) : SEEDS;
    for (uint64_t seed = 1; seed <= count; seed++) {
        struct random random;
        random_seed(&random, seed);
        cut_and_look(seed, 1 + random_below(&random, 200));
    }
    print_message("%" PRIu64 " power cuts\n", cuts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_write_of_each_operation),
        cmocka_unit_test(every_write_of_a_sequence),
        cmocka_unit_test(anywhere_in_many_sequences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
