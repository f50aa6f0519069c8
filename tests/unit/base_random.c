// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include <string.h>

#include "base/random.h"

static void a_seed_repeats_its_numbers(void **state)
{
    (void)state;
    struct random a;
    struct random b;
    struct random c;
    random_seed(&a, 42);
    random_seed(&b, 42);
    random_seed(&c, 43);
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t value = random_u64(&a);
        assert_int_equal(value, random_u64(&b));
        same += value == random_u64(&c);
    }
    assert_int_equal(same, 0);
}

/* The first numbers of splitmix64 from 1234567, as published with it, become the state. */
static void seeding_is_splitmix64(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 1234567);
    assert_true(random.state[0] == 6457827717110365317u);
    assert_true(random.state[1] == 3203168211198807973u);
    assert_true(random.state[2] == 9817491932198370423u);
    assert_true(random.state[3] == 4593380528125082431u);
}

/* The first numbers of xoshiro256** from the state 1, 2, 3, 4, as published with its reference. */
static void the_generator_is_xoshiro256(void **state)
{
    (void)state;
    struct random random = {.state = {1, 2, 3, 4}};
    assert_true(random_u64(&random) == 11520);
    assert_true(random_u64(&random) == 0);
    assert_true(random_u64(&random) == 1509978240);
    assert_true(random_u64(&random) == 1215971899390074240);
}

static void below_stays_below_and_reaches_everything(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 1);
    for (uint64_t bound = 1; bound <= 20; bound++) {
        unsigned seen[20] = {0};
        for (int i = 0; i < 20000; i++) {
            uint64_t value = random_below(&random, bound);
            assert_true(value < bound);
            seen[value]++;
        }
        for (uint64_t value = 0; value < bound; value++) {
            assert_in_range(seen[value], 20000 / bound * 8 / 10, 20000 / bound * 12 / 10);
        }
    }
    assert_false(random_chance(&random, 0, 10));
    assert_true(random_chance(&random, 10, 10));
}

static void ids_are_hexadecimal_of_the_asked_length_and_differ(void **state)
{
    (void)state;
    char before[130] = "";
    for (size_t digits = 0; digits <= 128; digits++) {
        char id[130];
        memset(id, 'Z', sizeof(id));
        random_id_hex(id, digits);
        assert_int_equal(strlen(id), digits);
        assert_int_equal(strspn(id, "0123456789abcdef"), digits);
        assert_int_equal(id[digits + 1], 'Z');
        if (digits > 12) {
            assert_memory_not_equal(id, before, digits - 1);
        }
        memcpy(before, id, sizeof(id));
    }
}

static void fill_writes_exactly_what_was_asked(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 9);
    for (size_t len = 0; len < 40; len++) {
        uint8_t data[64] = {0};
        random_fill(&random, data, len);
        for (size_t i = len; i < sizeof(data); i++) {
            assert_int_equal(data[i], 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_repeats_its_numbers),
        cmocka_unit_test(seeding_is_splitmix64),
        cmocka_unit_test(the_generator_is_xoshiro256),
        cmocka_unit_test(below_stays_below_and_reaches_everything),
        cmocka_unit_test(ids_are_hexadecimal_of_the_asked_length_and_differ),
        cmocka_unit_test(fill_writes_exactly_what_was_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
