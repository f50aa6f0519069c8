// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/layer_world.h"

static void random_operations_agree_with_a_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct world *world = world_new(seed, seed % 4 * 30);
        for (int round = 0; round < 3; round++) {
            world_run(world, 300);
            world_check(world, false);
        }
        world_close(world);
        world_open(world);
        world_check(world, false);
        world_free(world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
