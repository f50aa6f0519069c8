// SPDX-License-Identifier: Apache-2.0
#include "testing.h"

#include <string.h>

#include "api/access.h"
#include "base/sockaddr.h"

static void init(struct access *access, const char *listen)
{
    struct sockaddr_storage addr;
    assert_int_equal(sockaddr_parse(listen, -1, &addr), 0);
    assert_int_equal(access_init(access, &addr, "0123456789abcdef", "storage.example, San.Example"),
                     0);
}

static void a_host_has_to_be_one_of_ours(void **state)
{
    static const struct {
        const char *host;
        bool loopback; /* listening at 127.0.0.1:8080 */
        bool any;      /* listening at 0.0.0.0:8080, reached at 192.0.2.7 */
    } cases[] = {
        {"127.0.0.1:8080", true, true},
        {"127.0.0.1", true, true},
        {"127.9.9.9:1", true, true},
        {"[::1]:8080", true, true},
        {"localhost:8080", true, true},
        {"LOCALHOST", true, true},
        {"localhost.", true, true},
        {"storage.example", true, true},
        {"STORAGE.EXAMPLE:443", true, true},
        {"san.example", true, true},
        {"192.0.2.7:8080", false, true},
        {"192.0.2.8:8080", false, false},
        {"0.0.0.0:8080", false, true},
        {"evil.example", false, false},
        {"storage.example.evil.example", false, false},
        {"xstorage.example", false, false},
        {"localhost.evil.example", false, false},
        {"127.0.0.1.evil.example", false, false},
        {"", false, false},
        {":8080", false, false},
        {"127.0.0.1:port", false, false},
        {"127.0.0.1 evil", false, false},
        {"127.0.0.1@evil.example", false, false},
        {"2130706433", false, false},
    };
    struct access loopback;
    struct access any;
    struct sockaddr_storage near;
    (void)state;
    init(&loopback, "127.0.0.1:8080");
    init(&any, "0.0.0.0:8080");
    assert_int_equal(sockaddr_parse("192.0.2.7:8080", -1, &near), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (access_host_allowed(&loopback, cases[i].host, NULL) != cases[i].loopback ||
            access_host_allowed(&any, cases[i].host, &near) != cases[i].any) {
            fail_msg("Host: %s", cases[i].host);
        }
    }
    access_fini(&loopback);
    access_fini(&any);
}

static void an_origin_passes_the_same_test(void **state)
{
    static const struct {
        const char *origin;
        bool allowed;
    } cases[] = {
        {"http://127.0.0.1:8080", true},
        {"https://localhost", true},
        {"HTTP://localhost:3000", true},
        {"https://storage.example:8443", true},
        {"null", false},
        {"", false},
        {"http://evil.example", false},
        {"file://localhost", false},
        {"localhost", false},
        {"http://localhost/path", false},
        {"https://evil.example@localhost", false},
    };
    struct access access;
    (void)state;
    init(&access, "127.0.0.1:8080");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (access_origin_allowed(&access, cases[i].origin, NULL) != cases[i].allowed) {
            fail_msg("Origin: %s", cases[i].origin);
        }
    }
    access_fini(&access);
}

static void only_the_token_opens(void **state)
{
    static const struct {
        const char *authorization;
        bool matches;
    } cases[] = {
        {"Bearer 0123456789abcdef", true},
        {"bearer  0123456789abcdef", true},
        {NULL, false},
        {"", false},
        {"Bearer", false},
        {"Bearer ", false},
        {"Bearer 0123456789abcdee", false},
        {"Bearer 0123456789abcde", false},
        {"Bearer 0123456789abcdef0", false},
        {"Bearer 0123456789ABCDEF", false},
        {"Basic 0123456789abcdef", false},
        {"0123456789abcdef", false},
        {"Bearer 0123456789abcdef ", false},
    };
    struct access access;
    (void)state;
    init(&access, "127.0.0.1:8080");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(access_token_matches(&access, cases[i].authorization), cases[i].matches);
    }
    access_fini(&access);
}

static void an_empty_token_opens_nothing(void **state)
{
    struct access access;
    struct sockaddr_storage addr;
    (void)state;
    assert_int_equal(sockaddr_parse("127.0.0.1:1", -1, &addr), 0);
    assert_int_equal(access_init(&access, &addr, "", NULL), 0);
    assert_false(access_token_matches(&access, "Bearer "));
    access_fini(&access);
}

static void content_types_are_told_apart(void **state)
{
    static const struct {
        const char *text;
        bool json;
    } cases[] = {
        {"application/json", true},
        {"Application/JSON", true},
        {" application/json ", true},
        {"application/json;charset=utf-8", true},
        {"application/json ; charset=\"UTF-8\"", true},
        {"application/json; version=1.0", true},
        {"application/json; charset=utf-16", false},
        {"application/json; charset=", false},
        {"application/jsonx", false},
        {"application/json-patch+json", false},
        {"text/json", false},
        {"text/plain", false},
        {"application/x-www-form-urlencoded", false},
        {"", false},
        {"json", false},
        {"application/json, text/plain", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (content_type_is_json(cases[i].text) != cases[i].json) {
            fail_msg("Content-Type: %s", cases[i].text);
        }
    }
}

static void keys_are_visible_ascii(void **state)
{
    char key[300];
    (void)state;
    assert_true(idempotency_key_valid("a"));
    assert_true(idempotency_key_valid("3f2a77c0-d1e4-4c1b-9d3e-01aa5b7c0c11"));
    assert_true(idempotency_key_valid("!~\"quoted\""));
    assert_false(idempotency_key_valid(""));
    assert_false(idempotency_key_valid("a b"));
    assert_false(idempotency_key_valid("\xc3\xbc"));
    assert_false(idempotency_key_valid("a\x7f"));
    memset(key, 'k', sizeof(key));
    key[255] = '\0';
    assert_true(idempotency_key_valid(key));
    key[255] = 'k';
    key[256] = '\0';
    assert_false(idempotency_key_valid(key));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_has_to_be_one_of_ours),
        cmocka_unit_test(an_origin_passes_the_same_test),
        cmocka_unit_test(only_the_token_opens),
        cmocka_unit_test(an_empty_token_opens_nothing),
        cmocka_unit_test(content_types_are_told_apart),
        cmocka_unit_test(keys_are_visible_ascii),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
