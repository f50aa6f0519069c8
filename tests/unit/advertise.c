// SPDX-License-Identifier: Apache-2.0
/* The address of our portal that is shown: one that somebody else can dial. */
#include "testing.h"

#include <string.h>

#include "service/advertise.h"

static struct sockaddr_storage addr(const char *text)
{
    struct sockaddr_storage parsed;
    assert_int_equal(sockaddr_parse(text, 0, &parsed), 0);
    return parsed;
}

static void assert_chosen(const char *bound_text, const char *const *texts, size_t n, int expected)
{
    struct sockaddr_storage bound = addr(bound_text);
    struct sockaddr_storage addrs[8];
    for (size_t i = 0; i < n; i++) {
        addrs[i] = addr(texts[i]);
    }
    const struct sockaddr_storage *chosen = advertise_choose(&bound, addrs, n);
    assert_int_equal(chosen == NULL ? -1 : (int)(chosen - addrs), expected);
}

static void test_the_first_that_others_can_dial(void **state)
{
    static const char *const host[] = {"127.0.0.1:0",   "[::1]:0",     "169.254.3.4:0",
                                       "[fe80::1]:0",   "[fd00::5]:0", "192.0.2.10:0",
                                       "198.51.100.1:0"};
    (void)state;
    assert_chosen("0.0.0.0:3260", host, 7, 5);
    assert_chosen("[::]:3260", host, 7, 5);
    assert_chosen("0.0.0.0:3260", host, 5, -1); /* IPv6 does not reach it */
    assert_chosen("[::]:3260", host, 5, 4);
    assert_chosen("[::]:3260", host, 4, -1);
    assert_chosen("0.0.0.0:3260", host, 0, -1);
}

static void assert_shown(const char *bound_text, const char *wanted, const char *expected)
{
    struct sockaddr_storage bound = addr(bound_text);
    char text[SOCKADDR_TEXT_LEN];
    advertise_address(&bound, wanted, text);
    assert_string_equal(text, expected);
}

static void test_what_is_asked_for_or_bound(void **state)
{
    (void)state;
    assert_shown("127.0.0.1:3260", "", "127.0.0.1:3260");
    assert_shown("192.0.2.5:3261", NULL, "192.0.2.5:3261");
    assert_shown("[2001:db8::1]:3260", NULL, "[2001:db8::1]:3260");
    assert_shown("0.0.0.0:3260", "192.0.2.7:3300", "192.0.2.7:3300");
    assert_shown("0.0.0.0:3261", "192.0.2.7:0", "192.0.2.7:3261");
    assert_shown("127.0.0.1:3261", "[2001:db8::7]:0", "[2001:db8::7]:3261");
}

static void test_every_address_is_never_shown(void **state)
{
    static const char *const any[] = {"0.0.0.0:3260", "[::]:3260"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct sockaddr_storage bound = addr(any[i]);
        struct sockaddr_storage shown;
        char text[SOCKADDR_TEXT_LEN];
        advertise_address(&bound, "", text);
        shown = addr(text);
        assert_false(sockaddr_is_any(&shown));
        assert_int_equal(sockaddr_port(&shown), 3260);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_that_others_can_dial),
        cmocka_unit_test(test_what_is_asked_for_or_bound),
        cmocka_unit_test(test_every_address_is_never_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
