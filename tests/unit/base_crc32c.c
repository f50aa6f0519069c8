// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include <string.h>

#include "base/crc32c.h"
#include "base/random.h"

/* Bit by bit from the definition: reflected polynomial 0x1edc6f41. */
static uint32_t by_definition(const uint8_t *data, size_t len)
{
    uint32_t state = UINT32_MAX;
    for (size_t i = 0; i < len; i++) {
        state ^= data[i];
        for (int bit = 0; bit < 8; bit++) {
            state = state & 1 ? (state >> 1) ^ 0x82f63b78u : state >> 1;
        }
    }
    return ~state;
}

static void known_vectors_give_known_sums(void **state)
{
    (void)state;
    uint8_t data[32];
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(crc32c(0, "", 0), 0);
    /* RFC 7143 (and RFC 3720 B.4) */
    memset(data, 0, 32);
    assert_int_equal(crc32c(0, data, 32), 0x8a9136aau);
    memset(data, 0xff, 32);
    assert_int_equal(crc32c(0, data, 32), 0x62a8ab43u);
    for (uint8_t i = 0; i < 32; i++) {
        data[i] = i;
    }
    assert_int_equal(crc32c(0, data, 32), 0x46dd794eu);
    for (uint8_t i = 0; i < 32; i++) {
        data[i] = 31 - i;
    }
    assert_int_equal(crc32c(0, data, 32), 0x113fdb5cu);
}

static void every_length_and_alignment_agrees_with_the_definition(void **state)
{
    (void)state;
    static uint8_t data[20000];
    struct random random;
    random_seed(&random, 5);
    random_fill(&random, data, sizeof(data));
    for (size_t len = 0; len < 300; len++) {
        for (size_t offset = 0; offset < 9; offset++) {
            uint32_t expected = by_definition(data + offset, len);
            assert_int_equal(crc32c(0, data + offset, len), expected);
            assert_int_equal(crc32c_table(0, data + offset, len), expected);
        }
    }
    for (int i = 0; i < 300; i++) {
        size_t offset = random_below(&random, 100);
        size_t len = random_below(&random, sizeof(data) - offset);
        uint32_t expected = by_definition(data + offset, len);
        assert_int_equal(crc32c(0, data + offset, len), expected);
        assert_int_equal(crc32c_table(0, data + offset, len), expected);
    }
}

static void pieces_give_the_sum_of_the_whole(void **state)
{
    (void)state;
    static uint8_t data[10000];
    struct random random;
    random_seed(&random, 6);
    random_fill(&random, data, sizeof(data));
    uint32_t whole = crc32c(0, data, sizeof(data));
    for (int i = 0; i < 200; i++) {
        uint32_t sum = 0;
        uint32_t sum_table = 0;
        for (size_t at = 0; at < sizeof(data);) {
            size_t left = sizeof(data) - at;
            size_t len = 1 + random_below(&random, left < 5000 ? left : 5000);
            sum = crc32c(sum, data + at, len);
            sum_table = crc32c_table(sum_table, data + at, len);
            at += len;
        }
        assert_int_equal(sum, whole);
        assert_int_equal(sum_table, whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_vectors_give_known_sums),
        cmocka_unit_test(every_length_and_alignment_agrees_with_the_definition),
        cmocka_unit_test(pieces_give_the_sum_of_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
