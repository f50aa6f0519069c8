// SPDX-License-Identifier: Apache-2.0
/* Rendered answers: found while their version holds, the oldest out first, never more than allowed. */
#include "testing.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "api/read_cache.h"
#include "base/random.h"

static struct rendered *make(const char *text, size_t repeated)
{
    struct strbuf body = STRBUF_INIT;
    for (size_t i = 0; i < repeated; i++) {
        strbuf_puts(&body, text);
    }
    struct rendered *rendered = rendered_new(&body, "</next>");
    assert_non_null(rendered);
    return rendered;
}

static void put(struct read_cache *cache, uint64_t version, const char *key, const char *text,
                size_t repeated)
{
    struct rendered *rendered = make(text, repeated);
    read_cache_put(cache, version, key, rendered);
    rendered_unref(rendered);
}

static bool has(struct read_cache *cache, uint64_t version, const char *key)
{
    struct rendered *rendered = read_cache_get(cache, version, key);
    rendered_unref(rendered);
    return rendered != NULL;
}

static void an_answer_is_found_as_it_was_put(void **state)
{
    struct read_cache cache;
    (void)state;
    read_cache_init(&cache, 1 << 20);
    assert_false(has(&cache, 1, "volumes/a"));
    put(&cache, 1, "volumes/a", "one", 1);
    put(&cache, 1, "volumes/b", "two", 2);
    struct rendered *rendered = read_cache_get(&cache, 1, "volumes/b");
    assert_string_equal(rendered->body, "twotwo");
    assert_int_equal(rendered->len, 6);
    assert_string_equal(rendered->link, "</next>");
    rendered_unref(rendered);
    put(&cache, 1, "volumes/b", "three", 1);
    rendered = read_cache_get(&cache, 1, "volumes/b");
    assert_string_equal(rendered->body, "three");
    read_cache_fini(&cache);
    assert_string_equal(rendered->body, "three"); /* who has it may go on */
    rendered_unref(rendered);
}

static void another_version_finds_nothing_and_the_old_one_does_not_come_back(void **state)
{
    struct read_cache cache;
    (void)state;
    read_cache_init(&cache, 1 << 20);
    put(&cache, 1, "volumes/a", "one", 1);
    put(&cache, 1, "volumes/b", "one", 1);
    assert_false(has(&cache, 2, "volumes/a"));
    assert_false(has(&cache, 1, "volumes/a"));
    assert_false(has(&cache, 1, "volumes/b"));
    assert_int_equal(cache.bytes, 0);
    put(&cache, 1, "volumes/a", "one", 1);
    put(&cache, 2, "volumes/b", "two", 1);
    assert_false(has(&cache, 2, "volumes/a"));
    assert_true(has(&cache, 2, "volumes/b"));
    read_cache_fini(&cache);
}

static void the_least_recently_used_goes_first(void **state)
{
    struct read_cache cache;
    char key[16];
    (void)state;
    read_cache_init(&cache, 64 << 10);
    for (unsigned i = 0; i < 4; i++) {
        snprintf(key, sizeof(key), "k%u", i);
        put(&cache, 1, key, "x", 15 << 10);
        assert_true(has(&cache, 1, "k0"));
    }
    put(&cache, 1, "k4", "x", 15 << 10);
    assert_true(has(&cache, 1, "k0") && has(&cache, 1, "k2") && has(&cache, 1, "k3"));
    assert_true(has(&cache, 1, "k4"));
    assert_false(has(&cache, 1, "k1"));
    assert_int_equal(map_count(&cache.answers), 4);
    read_cache_fini(&cache);
}

static void what_is_too_large_is_not_kept_and_takes_nothing_out(void **state)
{
    struct read_cache cache;
    (void)state;
    read_cache_init(&cache, 64 << 10);
    put(&cache, 1, "small", "x", 100);
    put(&cache, 1, "large", "x", 17 << 10);
    assert_false(has(&cache, 1, "large"));
    assert_true(has(&cache, 1, "small"));
    put(&cache, 1, "small", "x", 17 << 10); /* the old answer may not stay in its place */
    assert_false(has(&cache, 1, "small"));
    read_cache_fini(&cache);
    read_cache_init(&cache, 0);
    put(&cache, 1, "small", "x", 1);
    assert_false(has(&cache, 1, "small"));
    read_cache_fini(&cache);
}

static void the_bytes_are_bounded_and_counted_whatever_comes(void **state)
{
    enum { MAX = 100000, KEYS = 300 };
    struct random random;
    struct read_cache cache;
    char key[16];
    size_t found = 0;
    (void)state;
    random_seed(&random, 7);
    read_cache_init(&cache, MAX);
    for (unsigned i = 0; i < 30000; i++) {
        uint64_t version = i / 10000;
        snprintf(key, sizeof(key), "k%u", (unsigned)random_below(&random, KEYS));
        struct rendered *rendered = read_cache_get(&cache, version, key);
        if (rendered != NULL) {
            assert_memory_equal(rendered->body, key, strlen(key));
            found++;
        } else {
            put(&cache, version, key, key, 1 + random_below(&random, 1000));
        }
        rendered_unref(rendered);
        assert_true(cache.bytes <= MAX);
        assert_true(map_count(&cache.answers) * 50 <= cache.bytes);
    }
    assert_true(found > 1000);
    read_cache_fini(&cache);
    assert_int_equal(cache.bytes, 0);
}

static void a_body_that_failed_gives_no_answer(void **state)
{
    struct strbuf body = STRBUF_INIT;
    (void)state;
    strbuf_puts(&body, "x");
    strbuf_add(&body, "x", SIZE_MAX / 2);
    assert_null(rendered_new(&body, ""));
    strbuf_fini(&body);
}

static void *use_and_drop(void *arg)
{
    for (unsigned i = 0; i < 20000; i++) {
        struct rendered *rendered = rendered_ref(arg);
        assert_int_equal(rendered->body[0], 'x');
        rendered_unref(rendered);
    }
    rendered_unref(arg);
    return NULL;
}

/* Under the sanitizers this shows a double free, a leak or a race. */
static void the_last_user_of_any_thread_frees(void **state)
{
    pthread_t threads[4];
    struct rendered *rendered = make("x", 10);
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, use_and_drop, rendered_ref(rendered)),
                         0);
    }
    rendered_unref(rendered);
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_found_as_it_was_put),
        cmocka_unit_test(another_version_finds_nothing_and_the_old_one_does_not_come_back),
        cmocka_unit_test(the_least_recently_used_goes_first),
        cmocka_unit_test(what_is_too_large_is_not_kept_and_takes_nothing_out),
        cmocka_unit_test(the_bytes_are_bounded_and_counted_whatever_comes),
        cmocka_unit_test(a_body_that_failed_gives_no_answer),
        cmocka_unit_test(the_last_user_of_any_thread_frees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
