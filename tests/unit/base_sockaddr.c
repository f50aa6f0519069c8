// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/sockaddr.h"

static void addresses_are_parsed_and_formatted(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int default_port;
        const char *expected;
    } table[] = {
        {"127.0.0.1:3260", -1, "127.0.0.1:3260"},
        {"127.0.0.1:0", -1, "127.0.0.1:0"},
        {"127.0.0.1:65535", -1, "127.0.0.1:65535"},
        {"10.0.0.1", 3260, "10.0.0.1:3260"},
        {"10.0.0.1:1", 3260, "10.0.0.1:1"},
        {"localhost:80", -1, "127.0.0.1:80"},
        {"[::1]:3260", -1, "[::1]:3260"},
        {"[2001:db8::5]", 3260, "[2001:db8::5]:3260"},
        {"2001:db8::5", 3260, "[2001:db8::5]:3260"},
        {"[::ffff:10.1.2.3]:5", -1, "[::ffff:10.1.2.3]:5"},
        {"[fe80::1%lo]:5", -1, "[fe80::1%lo]:5"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct sockaddr_storage addr;
        char text[SOCKADDR_TEXT_LEN];
        assert_int_equal(sockaddr_parse(table[i].text, table[i].default_port, &addr), 0);
        sockaddr_format(&addr, text);
        assert_string_equal(text, table[i].expected);
    }
}

static void what_is_not_an_address_is_refused(void **state)
{
    (void)state;
    static const char *const table[] = {
        "",
        ":",
        ":80",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:99999999999",
        "127.0.0.1:-1",
        "127.0.0.1:+1",
        "127.0.0.1: 1",
        "127.0.0.1:1 ",
        "127.0.0.1:0x10",
        " 127.0.0.1:1",
        "127.1:1",
        "0x7f.0.0.1:1",
        "2130706433:1",
        "127.0.0.1.5:1",
        "256.0.0.1:1",
        "example.org:1",
        "[127.0.0.1]:1",
        "[::1]",
        "[::1",
        "[::1]1",
        "[::1]:",
        "::1:3260",
        "[::g]:1",
        "[::1%nowhere99]:1",
        "[[::1]]:1",
        "user@127.0.0.1:1",
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct sockaddr_storage addr;
        if (sockaddr_parse(table[i], -1, &addr) != -EINVAL) {
            fail_msg("accepted: '%s'", table[i]);
        }
    }
}

static void names_are_split_from_ports(void **state)
{
    (void)state;
    char host[SOCKADDR_HOST_LEN];
    uint16_t port;
    assert_int_equal(sockaddr_split("san.example.org:3261", -1, host, &port), 0);
    assert_string_equal(host, "san.example.org");
    assert_int_equal(port, 3261);
    assert_int_equal(sockaddr_split("san", 3260, host, &port), 0);
    assert_string_equal(host, "san");
    assert_int_equal(port, 3260);
    char longest[300];
    memset(longest, 'a', sizeof(longest));
    longest[255] = '\0';
    assert_int_equal(sockaddr_split(longest, 1, host, &port), 0);
    memset(longest, 'a', 256);
    longest[256] = '\0';
    assert_int_equal(sockaddr_split(longest, 1, host, &port), -EINVAL);
    assert_int_equal(sockaddr_split("a b", 1, host, &port), -EINVAL);
    assert_int_equal(sockaddr_split("a/b", 1, host, &port), -EINVAL);
}

enum {
    LOOPBACK = 1,
    ANY = 2,
    MULTICAST = 4,
    LINK_LOCAL = 8,
    METADATA = 16,
};

static void kinds_of_addresses_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        int kinds;
    } table[] = {
        {"127.0.0.1", LOOPBACK},
        {"127.255.255.255", LOOPBACK},
        {"126.255.255.255", 0},
        {"128.0.0.0", 0},
        {"::1", LOOPBACK},
        {"::2", 0},
        {"::ffff:127.0.0.1", LOOPBACK},
        {"64:ff9b::127.0.0.1", LOOPBACK},
        {"0.0.0.0", ANY},
        {"0.1.2.3", ANY},
        {"::", ANY},
        {"::ffff:0.0.0.0", ANY},
        {"224.0.0.1", MULTICAST},
        {"239.255.255.255", MULTICAST},
        {"255.255.255.255", MULTICAST},
        {"223.255.255.255", 0},
        {"ff02::1", MULTICAST},
        {"169.254.0.0", LINK_LOCAL},
        {"169.254.169.254", LINK_LOCAL | METADATA},
        {"169.253.255.255", 0},
        {"169.255.0.0", 0},
        {"::ffff:169.254.169.254", LINK_LOCAL | METADATA},
        {"64:ff9b::a9fe:a9fe", LINK_LOCAL | METADATA},
        {"fe80::1", LINK_LOCAL},
        {"febf:ffff::1", LINK_LOCAL},
        {"fec0::1", 0},
        {"fe7f::1", 0},
        {"fd00:ec2::254", METADATA},
        {"fd00:ec2::255", 0},
        {"100.100.100.200", METADATA},
        {"10.0.0.1", 0},
        {"2001:db8::1", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct sockaddr_storage addr;
        assert_int_equal(sockaddr_parse_host(table[i].host, 1, &addr), 0);
        int kinds = (sockaddr_is_loopback(&addr) ? LOOPBACK : 0) |
                    (sockaddr_is_any(&addr) ? ANY : 0) |
                    (sockaddr_is_multicast(&addr) ? MULTICAST : 0) |
                    (sockaddr_is_link_local(&addr) ? LINK_LOCAL : 0) |
                    (sockaddr_is_metadata(&addr) ? METADATA : 0);
        if (kinds != table[i].kinds) {
            fail_msg("%s: kinds %d, expected %d", table[i].host, kinds, table[i].kinds);
        }
    }
}

static bool listed(const char *list_text, const char *host)
{
    struct cidr_list list;
    struct sockaddr_storage addr;
    assert_int_equal(cidr_list_parse(list_text, &list), 0);
    assert_int_equal(sockaddr_parse_host(host, 0, &addr), 0);
    bool match = cidr_list_match(&list, &addr);
    cidr_list_fini(&list);
    return match;
}

static void ranges_match_what_lies_in_them(void **state)
{
    (void)state;
    assert_true(listed("10.0.0.0/8", "10.255.0.1"));
    assert_false(listed("10.0.0.0/8", "11.0.0.0"));
    assert_true(listed("10.0.0.0/8", "::ffff:10.0.0.1"));
    assert_true(listed("192.168.1.128/25", "192.168.1.200"));
    assert_false(listed("192.168.1.128/25", "192.168.1.127"));
    assert_true(listed("10.1.2.3", "10.1.2.3"));
    assert_false(listed("10.1.2.3", "10.1.2.4"));
    assert_true(listed("0.0.0.0/0", "8.8.8.8"));
    assert_false(listed("0.0.0.0/0", "2001:db8::1"));
    assert_true(listed("::/0", "2001:db8::1"));
    assert_false(listed("::/0", "8.8.8.8"));
    assert_false(listed("::/0", "::ffff:8.8.8.8"));
    assert_true(listed("::ffff:8.8.0.0/112", "8.8.8.8"));
    assert_true(listed("2001:db8::/33", "2001:db8:7fff::1"));
    assert_false(listed("2001:db8::/33", "2001:db8:8000::1"));
    assert_true(listed(" 10.0.0.0/8 ,\tfd00::/8,", "fd12::1"));
    assert_false(listed("", "10.0.0.1"));
    assert_false(listed(" , ", "10.0.0.1"));
}

static void bad_ranges_are_refused(void **state)
{
    (void)state;
    static const char *const table[] = {
        "10.0.0.0/33", "10.0.0.0/",   "10.0.0.0/-1",    "10.0.0.1/8", "10.0.0.0/8/8",
        "10.0.0/8",    "::/129",      "2001:db8::1/32", "host/8",     "10.0.0.0/8 x",
        "/8",          "10.0.0.0/ 8", "10.0.0.0/0008",
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct cidr_list list;
        if (cidr_list_parse(table[i], &list) != -EINVAL) {
            fail_msg("accepted: '%s'", table[i]);
        }
    }
}

static void equality_looks_through_notation_but_not_ports(void **state)
{
    (void)state;
    struct sockaddr_storage a;
    struct sockaddr_storage b;
    assert_int_equal(sockaddr_parse("10.0.0.1:5", -1, &a), 0);
    assert_int_equal(sockaddr_parse("[::ffff:10.0.0.1]:5", -1, &b), 0);
    assert_true(sockaddr_equal(&a, &b));
    assert_int_equal(sockaddr_port(&b), 5);
    assert_true(sockaddr_len(&a) < sockaddr_len(&b));
    assert_int_equal(sockaddr_parse("10.0.0.1:6", -1, &b), 0);
    assert_false(sockaddr_equal(&a, &b));
}

static void resolving_a_number_needs_no_name_server(void **state)
{
    (void)state;
    struct sockaddr_storage addrs[4];
    size_t count = 0;
    assert_int_equal(sockaddr_resolve("127.0.0.1", 3260, addrs, 4, &count), 0);
    assert_int_equal(count, 1);
    char text[SOCKADDR_TEXT_LEN];
    sockaddr_format(&addrs[0], text);
    assert_string_equal(text, "127.0.0.1:3260");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_parsed_and_formatted),
        cmocka_unit_test(what_is_not_an_address_is_refused),
        cmocka_unit_test(names_are_split_from_ports),
        cmocka_unit_test(kinds_of_addresses_are_told_apart),
        cmocka_unit_test(ranges_match_what_lies_in_them),
        cmocka_unit_test(bad_ranges_are_refused),
        cmocka_unit_test(equality_looks_through_notation_but_not_ports),
        cmocka_unit_test(resolving_a_number_needs_no_name_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
