// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include <string.h>

#include "base/bitmap.h"
#include "base/random.h"

static void ranges_at_word_edges_are_exact(void **state)
{
    (void)state;
    struct bitmap map;
    for (uint64_t first = 0; first <= 130; first++) {
        for (uint64_t count = 0; first + count <= 192; count++) {
            assert_int_equal(bitmap_init(&map, 192), 0);
            assert_int_equal(bitmap_set_range(&map, first, count), count);
            assert_int_equal(bitmap_set_range(&map, first, count), 0);
            assert_int_equal(bitmap_count(&map), count);
            assert_int_equal(bitmap_next_set(&map, 0), count ? first : 192);
            if (count) {
                assert_int_equal(bitmap_next_clear(&map, first), first + count);
            }
            assert_int_equal(bitmap_clear_range(&map, 0, 192), count);
            assert_int_equal(bitmap_next_set(&map, 0), 192);
            bitmap_fini(&map);
        }
    }
}

static void random_operations_agree_with_a_model(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {1, 63, 64, 65, 1000, 4096};
    for (size_t s = 0; s < 6; s++) {
        uint64_t n = sizes[s];
        struct bitmap map;
        struct random random;
        bool model[4096] = {false};
        random_seed(&random, n);
        assert_int_equal(bitmap_init(&map, n), 0);
        for (int step = 0; step < 3000; step++) {
            uint64_t first = random_below(&random, n);
            uint64_t count = random_below(&random, n - first + 1);
            bool set = random_chance(&random, 1, 2);
            uint64_t changed = 0;
            for (uint64_t i = first; i < first + count; i++) {
                changed += model[i] != set;
                model[i] = set;
            }
            assert_int_equal(set ? bitmap_set_range(&map, first, count)
                                 : bitmap_clear_range(&map, first, count),
                             changed);
            uint64_t bit = random_below(&random, n);
            assert_int_equal(bitmap_test(&map, bit), model[bit]);
            assert_int_equal(bitmap_set(&map, bit), !model[bit]);
            model[bit] = true;
            uint64_t set_at = first;
            while (set_at < n && !model[set_at]) {
                set_at++;
            }
            uint64_t clear_at = first;
            while (clear_at < n && model[clear_at]) {
                clear_at++;
            }
            assert_int_equal(bitmap_next_set(&map, first), set_at);
            assert_int_equal(bitmap_next_clear(&map, first), clear_at);
            uint64_t sum = 0;
            uint64_t in_range = 0;
            for (uint64_t i = 0; i < n; i++) {
                sum += model[i];
                in_range += model[i] && i >= first && i < first + count;
            }
            assert_int_equal(bitmap_count(&map), sum);
            assert_int_equal(bitmap_count_range(&map, first, count), in_range);
        }
        bitmap_fini(&map);
    }
}

static void an_empty_bitmap_has_nothing_to_find(void **state)
{
    (void)state;
    struct bitmap map;
    assert_int_equal(bitmap_init(&map, 0), 0);
    assert_int_equal(bitmap_next_set(&map, 0), 0);
    assert_int_equal(bitmap_next_clear(&map, 0), 0);
    bitmap_fini(&map);
}

static void test_beyond_the_end(void *arg)
{
    bitmap_test(arg, 10);
}

static void set_beyond_the_end(void *arg)
{
    bitmap_set_range(arg, 5, 6);
}

static void bits_outside_are_a_failed_check(void **state)
{
    (void)state;
    struct bitmap map;
    assert_int_equal(bitmap_init(&map, 10), 0);
    assert_true(dies(test_beyond_the_end, &map));
    assert_true(dies(set_beyond_the_end, &map));
    bitmap_fini(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_at_word_edges_are_exact),
        cmocka_unit_test(random_operations_agree_with_a_model),
        cmocka_unit_test(an_empty_bitmap_has_nothing_to_find),
        cmocka_unit_test(bits_outside_are_a_failed_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
