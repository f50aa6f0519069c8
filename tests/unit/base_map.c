// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "base/random.h"

enum { N_KEYS = 500 };

static void random_operations_agree_with_a_model(void **state)
{
    (void)state;
    static int values[N_KEYS];
    int *model[N_KEYS] = {NULL};
    size_t count = 0;
    struct map map;
    struct random random;
    map_init(&map);
    random_seed(&random, 3);
    for (int step = 0; step < 100000; step++) {
        size_t index = random_below(&random, N_KEYS);
        char key[32];
        snprintf(key, sizeof(key), "key-%zu-%zu", index, index * index);
        switch (random_below(&random, 3)) {
        case 0:
            count += model[index] == NULL;
            model[index] = &values[random_below(&random, N_KEYS)];
            assert_int_equal(map_put(&map, key, model[index]), 0);
            break;
        case 1:
            assert_ptr_equal(map_remove(&map, key), model[index]);
            count -= model[index] != NULL;
            model[index] = NULL;
            break;
        default:
            assert_ptr_equal(map_get(&map, key), model[index]);
        }
        assert_int_equal(map_count(&map), count);
    }
    map_fini(&map);
}

static void walking_follows_the_order_of_first_put(void **state)
{
    (void)state;
    struct map map;
    map_init(&map);
    assert_null(map_first(&map));
    assert_null(map_get(&map, "a"));
    assert_null(map_remove(&map, "a"));
    char key[16];
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof(key), "%d", i);
        assert_int_equal(map_put(&map, key, &map), 0);
    }
    assert_int_equal(map_put(&map, "5", &key), 0);
    assert_ptr_equal(map_get(&map, "5"), &key);
    assert_ptr_equal(map_remove(&map, "7"), &map);
    int expected = 0;
    for (struct map_entry *e = map_first(&map); e; e = map_next(&map, e)) {
        expected += expected == 7;
        snprintf(key, sizeof(key), "%d", expected++);
        assert_string_equal(e->key, key);
    }
    assert_int_equal(expected, 100);
    map_fini(&map);
    assert_int_equal(map_count(&map), 0);
}

static void keys_are_copied_and_may_be_empty_or_long(void **state)
{
    (void)state;
    struct map map;
    map_init(&map);
    char key[301];
    for (size_t len = 0; len <= 300; len++) {
        memset(key, 'k', len);
        key[len] = '\0';
        assert_int_equal(map_put(&map, key, &key[len]), 0);
    }
    for (size_t len = 0; len <= 300; len++) {
        memset(key, 'k', len);
        key[len] = '\0';
        assert_ptr_equal(map_get(&map, key), &key[len]);
    }
    map_fini(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_a_model),
        cmocka_unit_test(walking_follows_the_order_of_first_put),
        cmocka_unit_test(keys_are_copied_and_may_be_empty_or_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
