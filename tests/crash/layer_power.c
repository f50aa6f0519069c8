// SPDX-License-Identifier: Apache-2.0
/*
 * Cuts the power at every write, hole and sync of seeded sequences of requests, snapshots, merges
 * and restarts, and looks at what is left: flushed blocks are there, every other block is old or
 * new, of the volume and of each snapshot; and what was seen once stays.
 */
#include "tests/unit/layer_world.h"

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

/* False: the sequence ended before its n-th operation. */
static bool cut_and_look(uint64_t seed, uint64_t n)
{
    struct world *world = world_new(seed, seed % 3 * 40);
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
    for (uint64_t seed = 1000; seed < 1003; seed++) {
        uint64_t n = 1;
        while (cut_and_look(seed, n)) {
            n++;
        }
        assert_true(n > 50);
    }
    print_message("%" PRIu64 " power cuts\n", cuts);
}

static void anywhere_in_many_sequences(void **state)
{
    (void)state;
    const char *wish = getenv("LAYER_POWER_SEEDS");
    uint64_t count = wish ? strtoull(wish, NULL, 10) : 300;
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
        cmocka_unit_test(every_write_of_a_sequence),
        cmocka_unit_test(anywhere_in_many_sequences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
