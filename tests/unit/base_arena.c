// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include <string.h>

#include "base/arena.h"
#include "base/random.h"

static void memory_is_zeroed_aligned_and_does_not_overlap(void **state)
{
    (void)state;
    struct arena arena;
    struct random random;
    uint8_t *pieces[500];
    size_t sizes[500];
    random_seed(&random, 2);
    arena_init(&arena);
    for (size_t i = 0; i < 500; i++) {
        sizes[i] = random_below(&random, i % 50 == 0 ? 40000 : 200);
        pieces[i] = arena_alloc(&arena, sizes[i]);
        assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
        for (size_t k = 0; k < sizes[i]; k++) {
            assert_int_equal(pieces[i][k], 0);
        }
        memset(pieces[i], (int)(i % 255 + 1), sizes[i]);
    }
    for (size_t i = 0; i < 500; i++) {
        for (size_t k = 0; k < sizes[i]; k++) {
            assert_int_equal(pieces[i][k], i % 255 + 1);
        }
    }
    arena_fini(&arena);
}

static void text_is_copied_whole(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena);
    assert_string_equal(arena_strdup(&arena, "hello"), "hello");
    assert_string_equal(arena_strdup(&arena, ""), "");
    assert_string_equal(arena_strndup(&arena, "hello", 2), "he");
    assert_string_equal(arena_printf(&arena, "%s-%d", "x", 5), "x-5");
    assert_int_equal(strlen(arena_printf(&arena, "%20000d", 1)), 20000);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_aligned_and_does_not_overlap),
        cmocka_unit_test(text_is_copied_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
