// SPDX-License-Identifier: Apache-2.0
/*
 * Portals and LUNs as texts, which addresses are allowed, and what names lead to.
 */
#include "tests/unit/network_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "service/network.h"
#include "service/portals.h"

/* ---- text ---- */

static void portals_have_one_normal_form(void **state)
{
    static const struct {
        const char *text;
        const char *address; /* NULL: no portal */
        uint32_t format;
    } cases[] = {
        {"192.0.2.1", "192.0.2.1:3260", 3},
        {"192.0.2.1:3261", "192.0.2.1:3261", 3},
        {"iscsi://192.0.2.1", "192.0.2.1:3260", 200},
        {"ISCSI://192.0.2.1:3260", "192.0.2.1:3260", 200},
        {"[2001:DB8::1]:860", "[2001:db8::1]:860", 4},
        {"2001:db8::1", "[2001:db8::1]:3260", 4},
        {"[2001:db8:0:0::1]", "[2001:db8::1]:3260", 4},
        {"[::ffff:192.0.2.1]:3260", "192.0.2.1:3260", 3},
        {"localhost", "127.0.0.1:3260", 2},
        {"LocalHost:1", "127.0.0.1:1", 2},
        {"array", "array:3260", 2},
        {"Array.Example.", "array.example:3260", 201},
        {"array_1.example:65535", "array_1.example:65535", 201},
        {"127.1", "127.1:3260", 201}, /* a name as far as we know; looked up before it is checked */
        {"", NULL, 0},
        {":3260", NULL, 0},
        {"array:", NULL, 0},
        {"array:0", NULL, 0},
        {"array:65536", NULL, 0},
        {"array:-1", NULL, 0},
        {"array:3260x", NULL, 0},
        {"ar ray", NULL, 0},
        {"array/", NULL, 0},
        {"iscsi://", NULL, 0},
        {"iscsi://array/", NULL, 0},
        {"iscsi://array/iqn.2001-04.com.example:x/1", NULL, 0},
        {"http://array", NULL, 0},
        {"user@array", NULL, 0},
        {"iscsi://user%secret@array", NULL, 0},
        {"..", NULL, 0},
        {"a..b", NULL, 0},
        {".a", NULL, 0},
        {"[::1", NULL, 0},
        {"[array]:3260", NULL, 0},
        {"ar\xc3\xa4y", NULL, 0},
        {"array\n", NULL, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct portal portal = {0};
        const char *why = NULL;
        int r = portal_parse(cases[i].text, &portal, &why);

        if ((r == 0) != (cases[i].address != NULL) ||
            (r == 0 && (strcmp(portal.address, cases[i].address) != 0 ||
                        portal.info_format != cases[i].format))) {
            fail_msg("%s: %d %s %u", cases[i].text, r, portal.address, portal.info_format);
        }
        if (r < 0) {
            assert_non_null(why);
            assert_null(strstr(why, "secret"));
        }
    }
}

static void lun_urls_are_parsed_strictly(void **state)
{
    static const struct {
        const char *text;
        const char *address;
        const char *target;
        uint64_t lun;
    } cases[] = {
        {"iscsi://192.0.2.1/iqn.2001-04.com.example:a/0", "192.0.2.1:3260",
         "iqn.2001-04.com.example:a", 0},
        {"iscsi://[::1]:3261/eui.02004567A425678D/255", "[::1]:3261", "eui.02004567A425678D", 255},
        {"iSCSI://array.example/naa.52004567BA64678D/16383", "array.example:3260",
         "naa.52004567BA64678D", 16383},
        {"iscsi://array/iqn.2001-04.com.example:\xc3\xa4/1", "array:3260",
         "iqn.2001-04.com.example:\xc3\xa4", 1},
        {"iscsi://array/iqn.2001-04.com.example:a/16384", "array:3260", "iqn.2001-04.com.example:a",
         16384}, /* a flat field of a small number */
        {"192.0.2.1/iqn.x/1", NULL, NULL, 0},
        {"iscsi://array/iqn.x", NULL, NULL, 0},
        {"iscsi://array/iqn.x/", NULL, NULL, 0},
        {"iscsi://array/iqn.x/1/", NULL, NULL, 0},
        {"iscsi://array/iqn.x/1/2", NULL, NULL, 0},
        {"iscsi://array//1", NULL, NULL, 0},
        {"iscsi:///iqn.x/1", NULL, NULL, 0},
        {"iscsi://array/iqn./1", NULL, NULL, 0},
        {"iscsi://array/disk/1", NULL, NULL, 0},
        {"iscsi://array/iqn.x%20y/1", NULL, NULL, 0},
        {"iscsi://array/iqn.x y/1", NULL, NULL, 0},
        {"iscsi://array/iqn.x/01", NULL, NULL, 0},
        {"iscsi://array/iqn.x/+1", NULL, NULL, 0},
        {"iscsi://array/iqn.x/0x1", NULL, NULL, 0},
        {"iscsi://array/iqn.x/65536", NULL, NULL, 0},
        {"iscsi://array/iqn.x/16641", NULL, NULL, 0}, /* is called 257 */
        {"iscsi://array/iqn.x/1?a=b", NULL, NULL, 0},
        {"iscsi://array/iqn.x/1#a", NULL, NULL, 0},
        {"iscsi://me%secret@array/iqn.x/1", NULL, NULL, 0},
        {"iscsi://me:secret@array/iqn.x/1", NULL, NULL, 0},
        {"iscsi://array/iqn.x@secret/1", NULL, NULL, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct lun_url url;
        const char *why = NULL;
        int r = lun_url_parse(cases[i].text, &url, &why);

        if ((r == 0) != (cases[i].address != NULL) ||
            (r == 0 && (strcmp(url.portal.address, cases[i].address) != 0 ||
                        strcmp(url.target, cases[i].target) != 0 || url.lun != cases[i].lun))) {
            fail_msg("%s: %d", cases[i].text, r);
        }
        if (r < 0) {
            assert_non_null(why);
            assert_null(strstr(why, "secret"));
        }
    }
}

static void too_long_texts_are_refused(void **state)
{
    char text[1024];
    struct lun_url url;
    struct portal portal;
    const char *why;

    (void)state;
    memset(text, 'a', sizeof(text));
    text[300] = '\0';
    assert_int_equal(portal_parse(text, &portal, &why), -EINVAL);
    snprintf(text, sizeof(text), "iscsi://array/iqn.%0*d/1", 219, 0); /* 223 bytes */
    assert_int_equal(lun_url_parse(text, &url, &why), 0);
    snprintf(text, sizeof(text), "iscsi://array/iqn.%0*d/1", 220, 0);
    assert_int_equal(lun_url_parse(text, &url, &why), -EINVAL);
}

/* Every number has one field and every field that can be dialled has one number. */
static void lun_numbers_and_fields_agree(void **state)
{
    unsigned n = 0;

    (void)state;
    for (unsigned field = 0; field <= 0xffff; field++) {
        uint64_t lun;
        char text[24];
        uint64_t parsed;

        if (lun_number((uint16_t)field, &lun) == 0) {
            n++;
            assert_int_equal(lun_field(lun), field);
            snprintf(text, sizeof(text), "%llu", (unsigned long long)lun);
            assert_int_equal(lun_number_parse(text, &parsed), 0);
            assert_int_equal(parsed, lun);
        }
    }
    assert_int_equal(n, 0x10000 - 0x3f00); /* all but those with a bus number */
    assert_int_equal(lun_field(255), 255);
    assert_int_equal(lun_field(256), 0x4100);
}

/* ---- the address policy ---- */

static int allowed(struct service_fixture *of, const char *text, struct error *ret_error)
{
    struct sockaddr_storage address;

    *ret_error = (struct error){0};
    if (sockaddr_parse(text, 3260, &address) < 0) {
        fail_msg("%s is no address", text);
    }
    return network_address_allowed(control_network(of->control), (struct sockaddr *)&address,
                                   ret_error);
}

static void address_policy(void **state)
{
    static const struct {
        const char *address;
        bool allowed;
        const char *because;
    } cases[] = {
        {"192.0.2.1:3260", true, NULL},
        {"192.0.2.255:1", true, NULL},
        {"[::ffff:192.0.2.1]:3260", true, NULL},
        {"[2001:db8::1]:3260", true, NULL},
        {"127.0.0.1:3260", true, NULL},
        {"127.0.0.2:8080", true, NULL}, /* not where we listen */
        {"[64:ff9b::192.0.2.1]:3260", true, NULL},
        {"192.0.3.1:3260", false, "portal-allow"},
        {"[2001:db9::1]:3260", false, "portal-allow"},
        {"[::1]:3260", false, "portal-allow"},
        {"[::ffff:192.0.3.1]:3260", false, "portal-allow"},
        {"0.0.0.0:3260", false, "never"},
        {"0.1.2.3:3260", false, "never"},
        {"[::]:3260", false, "never"},
        {"[::ffff:0.0.0.0]:3260", false, "never"},
        {"224.0.0.1:3260", false, "multicast"},
        {"255.255.255.255:3260", false, "multicast"},
        {"[ff02::1]:3260", false, "multicast"},
        {"169.254.1.1:3260", false, "link-local"},
        {"[::ffff:169.254.1.1]:3260", false, "link-local"},
        {"[64:ff9b::169.254.1.1]:3260", false, "link-local"},
        {"[fe80::1]:3260", false, "link-local"},
        {"169.254.169.254:80", false, "metadata"},
        {"[::ffff:169.254.169.254]:80", false, "metadata"},
        {"[fd00:ec2::254]:80", false, "metadata"},
        {"100.100.100.200:80", false, "metadata"},
        {"192.0.2.1:0", false, "port"},
        {"127.0.0.1:8080", false, "listens"},
        {"[::ffff:127.0.0.1]:8080", false, "listens"},
        {"[64:ff9b::127.0.0.1]:8080", false, "listens"},
    };

    (void)state;
    fixture_init(&fixture);
    fixture.options.portal_allow =
        "192.0.2.0/24,2001:db8::/32, 127.0.0.0/8, 169.254.0.0/16, 0.0.0.0/32, fe80::/10, "
        "224.0.0.0/4, 100.64.0.0/10, fd00::/8, ::/128";
    fixture_start(&fixture);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error error;
        int r = allowed(&fixture, cases[i].address, &error);

        if ((r == 0) != cases[i].allowed) {
            fail_msg("%s: %s", cases[i].address, error.detail);
        }
        if (r < 0) {
            assert_int_equal(error.code, ERR_ADDRESS_NOT_ALLOWED);
            if (strstr(error.detail, cases[i].because) == NULL) {
                fail_msg("%s: %s", cases[i].address, error.detail);
            }
        }
    }
    struct sockaddr other = {.sa_family = AF_UNIX};

    assert_true(network_address_allowed(control_network(fixture.control), &other, NULL) < 0);
    fixture_destroy(&fixture);
}

static void own_listener_on_all_addresses_is_this_port_of_this_machine(void **state)
{
    struct error error;

    (void)state;
    fixture_init(&fixture);
    fixture.options.portal_allow = "0.0.0.0/0,::/0";
    fixture.options.own_addresses = NULL;
    fixture_start(&fixture);
    assert_int_equal(allowed(&fixture, "127.0.0.1:8080", &error), 0);
    control_set_own_addresses(fixture.control, "0.0.0.0:8080,[::1]:3260");
    assert_true(allowed(&fixture, "127.0.0.1:8080", &error) < 0);
    assert_true(allowed(&fixture, "127.9.9.9:8080", &error) < 0);
    assert_true(allowed(&fixture, "[::1]:8080", &error) < 0);
    assert_int_equal(allowed(&fixture, "127.0.0.1:8081", &error), 0);
    assert_int_equal(allowed(&fixture, "192.0.2.1:8080", &error), 0); /* another machine's */
    assert_true(allowed(&fixture, "[::1]:3260", &error) < 0);
    assert_int_equal(allowed(&fixture, "127.0.0.1:3260", &error), 0);
    control_set_own_addresses(fixture.control, "[::]:9000");
    assert_true(allowed(&fixture, "127.0.0.1:9000", &error) < 0);
    assert_int_equal(allowed(&fixture, "127.0.0.1:8080", &error), 0);
    fixture_destroy(&fixture);
}

static void nothing_is_allowed_by_an_empty_list(void **state)
{
    struct error error;

    (void)state;
    fixture_init(&fixture);
    fixture.options.portal_allow = "";
    fixture_start(&fixture);
    assert_true(allowed(&fixture, "192.0.2.1:3260", &error) < 0);
    assert_true(allowed(&fixture, "127.0.0.1:3260", &error) < 0);
    fixture_destroy(&fixture);
}

static void a_bad_list_keeps_the_service_from_starting(void **state)
{
    struct control *control;
    struct error error;

    (void)state;
    fixture_init(&fixture);
    fixture.options.portal_allow = "10.0.0.1/8";
    assert_true(control_start(&fixture.options, &control, &error) < 0);
    assert_non_null(strstr(error.detail, "portal-allow"));
    fixture_destroy(&fixture);
}

/* ---- lookups ---- */

struct looked_up {
    struct loop *loop;
    struct portal_lookup *lookup;
    unsigned calls;
    unsigned n;
    struct sockaddr_storage addresses[ISCSI_MAX_PORTALS];
    struct error error;
};

static void looked_up(void *arg, const struct sockaddr_storage *addresses, unsigned n_addresses,
                      const struct error *error)
{
    struct looked_up *result = arg;

    result->calls++;
    result->n = n_addresses;
    if (error != NULL) {
        assert_int_equal(n_addresses, 0);
        result->error = *error;
    } else {
        memcpy(result->addresses, addresses, n_addresses * sizeof(*addresses));
    }
    loop_stop(result->loop);
}

static void look_up(struct looked_up *result, const char *const *names, unsigned n)
{
    char addresses[ISCSI_MAX_PORTALS][PORTAL_ADDRESS_SIZE];

    memset(result, 0, sizeof(*result));
    for (unsigned i = 0; i < n; i++) {
        snprintf(addresses[i], sizeof(addresses[i]), "%s", names[i]);
    }
    assert_int_equal(loop_new("test", &result->loop), 0);
    portal_lookup_start(result->loop, control_network(fixture.control),
                        (const char(*)[PORTAL_ADDRESS_SIZE])addresses, n, 20000, looked_up, result);
    assert_int_equal(result->calls, 0); /* never inside the start */
    loop_run(result->loop);
    assert_int_equal(result->calls, 1);
    loop_free(result->loop);
}

/* What the system's resolver makes of a name is checked, not the name. */
static void names_that_lead_to_refused_addresses_are_refused(void **state)
{
    static const char *const refused[] = {
        "169.254.43518:3260", /* inet_aton forms of 169.254.169.254 */
        "2852039166:3260",    "0xa9fea9fe:80",  "0:3260",
        "0x0:3260",           "010.0.0.1:3260", /* octal 8.0.0.1: not in the list */
        "127.1:8080",                           /* where we listen */
        "2130706433:8080",
    };
    struct looked_up result;

    (void)state;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        look_up(&result, &refused[i], 1);
        if (result.n != 0 || result.error.code != ERR_ADDRESS_NOT_ALLOWED) {
            fail_msg("%s: %u, %s", refused[i], result.n, result.error.detail);
        }
    }
}

static void lookup_gives_checked_numbers_in_order(void **state)
{
    static const char *const mixed[] = {"127.0.0.3:1", "169.254.1.1:2", "127.1:3", "127.0.0.2:4"};
    static const char *const expected[] = {"127.0.0.3:1", "127.0.0.1:3", "127.0.0.2:4"};
    struct looked_up result;

    (void)state;
    look_up(&result, mixed, 4);
    assert_int_equal(result.n, 3);
    for (unsigned i = 0; i < 3; i++) {
        char text[SOCKADDR_TEXT_LEN];

        sockaddr_format(&result.addresses[i], text);
        assert_string_equal(text, expected[i]);
    }
}

static void unknown_names_are_unreachable(void **state)
{
    static const char *const names[] = {"no-such-array.invalid:3260"};
    struct looked_up result;

    (void)state;
    look_up(&result, names, 1);
    assert_int_equal(result.n, 0);
    assert_true(result.error.code == ERR_REMOTE_UNREACHABLE || result.error.code == ERR_TIMEOUT);
    assert_non_null(strstr(result.error.detail, "no-such-array.invalid"));
}

static void stop_loop(void *arg)
{
    loop_stop(arg);
}

static void a_cancelled_lookup_is_not_heard_of_again(void **state)
{
    static const char addresses[][PORTAL_ADDRESS_SIZE] = {"127.1:3260", "no-such-array.invalid:1"};
    struct looked_up result;
    struct loop_timer timer;

    (void)state;
    for (unsigned delay_ms = 0; delay_ms < 12; delay_ms += 3) {
        memset(&result, 0, sizeof(result));
        assert_int_equal(loop_new("test", &result.loop), 0);
        struct portal_lookup *lookup =
            portal_lookup_start(result.loop, control_network(fixture.control), addresses,
                                delay_ms % 2 == 0 ? 2 : 1, 20000, looked_up, &result);
        struct timespec pause = {.tv_nsec = delay_ms * 1000000};

        nanosleep(&pause, NULL);
        portal_lookup_cancel(lookup);
        loop_timer_init(&timer, result.loop, stop_loop, result.loop);
        loop_timer_start(&timer, 20 * MS_NS);
        loop_run(result.loop);
        assert_int_equal(result.calls, 0);
        loop_free(result.loop);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(portals_have_one_normal_form),
        cmocka_unit_test(lun_urls_are_parsed_strictly),
        cmocka_unit_test(too_long_texts_are_refused),
        cmocka_unit_test(lun_numbers_and_fields_agree),
        cmocka_unit_test(address_policy),
        cmocka_unit_test(own_listener_on_all_addresses_is_this_port_of_this_machine),
        cmocka_unit_test(nothing_is_allowed_by_an_empty_list),
        cmocka_unit_test(a_bad_list_keeps_the_service_from_starting),
        WITH_SERVICE(names_that_lead_to_refused_addresses_are_refused),
        WITH_SERVICE(lookup_gives_checked_numbers_in_order),
        WITH_SERVICE(unknown_names_are_unreachable),
        WITH_SERVICE(a_cancelled_lookup_is_not_heard_of_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
