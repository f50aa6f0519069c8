// SPDX-License-Identifier: Apache-2.0
/* Addresses, portals, peers, openers, reachability. */
#include "tests/unit/testing.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "service/lun_opener.h"
#include "service/network.h"
#include "service/portals.h"
#include "tests/tools/tgtd.h"
#include "tests/unit/service_fixture.h"

static struct service_fixture fixture;

static int start(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture_start(&fixture);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_destroy(&fixture);
    return 0;
}

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

/* ---- AddServiceAccessPoint ---- */

static struct test_call *add_portal(const char *access_info)
{
    struct test_call *test = test_call_new(&fixture, &replication_service, "AddServiceAccessPoint");

    arg_text(test, "ServiceAccessPoint.AccessInfo", access_info);
    return test;
}

static char *portal_added(const char *access_info)
{
    struct test_call *test = add_portal(access_info);

    assert_done(test);
    char *path = strdup(out_of(test, "ServiceAccessPointPath"));

    test_call_free(test);
    return path;
}

static void an_access_point_makes_a_system(void **state)
{
    struct test_call *test = add_portal("ISCSI://127.0.0.1");
    struct access_point_row row;
    struct system_row system;

    (void)state;
    arg_text(test, "ServiceAccessPoint.ElementName", "array one, port A");
    arg_number(test, "ServiceAccessPoint.InfoFormat", 200);
    arg_text(test, "ServiceAccessPoint.Name", "ignored");
    assert_done(test);
    access_point_of(&fixture, out_of(test, "ServiceAccessPointPath"), &row);
    assert_string_equal(row.access_info, "ISCSI://127.0.0.1");
    assert_string_equal(row.address, "127.0.0.1:3260");
    assert_string_equal(row.element_name, "array one, port A");
    assert_int_equal(row.info_format, 200);
    assert_true(row.registered);
    assert_false(row.probed); /* nothing was dialled */
    assert_int_equal(table_get(fixture.reader, &system_table, row.system_id, &system), 0);
    assert_string_equal(system.element_name, "array one, port A");
    assert_false(system.local);
    test_call_free(test);
}

static void the_same_portal_again_is_the_same_access_point(void **state)
{
    static const char *const again[] = {"localhost:3260", "127.0.0.1:3260", "iscsi://127.0.0.1",
                                        "[::ffff:127.0.0.1]:3260"};
    char *first = portal_added("127.0.0.1");
    uint64_t systems = rows_of(&fixture, &system_table);

    (void)state;
    for (size_t i = 0; i < sizeof(again) / sizeof(again[0]); i++) {
        char *path = portal_added(again[i]);

        assert_string_equal(path, first);
        free(path);
    }
    assert_int_equal(rows_of(&fixture, &system_table), systems);
    char *other = portal_added("127.0.0.1:3261");

    assert_string_not_equal(other, first);
    assert_int_equal(rows_of(&fixture, &system_table), systems + 1);
    free(other);
    free(first);
}

static void several_portals_may_belong_to_one_system(void **state)
{
    char *first = portal_added("127.0.0.1");
    struct test_call *test = add_portal("array.example");
    struct access_point_row row;
    struct access_point_row second;
    char system[PATH_SIZE];

    (void)state;
    access_point_of(&fixture, first, &row);
    snprintf(system, sizeof(system), "/systems/%s", row.system_id);
    arg_text(test, "ServiceAccessPoint.SystemName", system);
    assert_done(test);
    access_point_of(&fixture, out_of(test, "ServiceAccessPointPath"), &second);
    assert_string_equal(second.system_id, row.system_id);
    assert_string_equal(second.element_name, "array.example");
    assert_string_equal(second.address, "array.example:3260");
    assert_int_equal(rows_of(&fixture, &system_table), 2);
    test_call_free(test);

    /* A known portal cannot be given to another system in passing. */
    char *third = portal_added("127.0.0.9");

    test = add_portal("127.0.0.9");
    arg_text(test, "ServiceAccessPoint.SystemName", system);
    assert_failed(test, ERR_INVALID_PARAMETER, "ServiceAccessPoint.SystemName");
    test_call_free(test);
    free(third);
    free(first);
}

static void bad_access_points_are_refused(void **state)
{
    static const struct {
        const char *member;
        const char *text;
        enum error_code code;
        const char *parameter;
    } cases[] = {
        {"AccessInfo", "", ERR_INVALID_PARAMETER, "ServiceAccessPoint.AccessInfo"},
        {"AccessInfo", "a b", ERR_INVALID_PARAMETER, "ServiceAccessPoint.AccessInfo"},
        {"AccessInfo", "me:secret@array", ERR_INVALID_PARAMETER, "ServiceAccessPoint.AccessInfo"},
        {"AccessInfo", "169.254.169.254", ERR_ADDRESS_NOT_ALLOWED, "ServiceAccessPoint.AccessInfo"},
        {"AccessInfo", "[::ffff:169.254.169.254]", ERR_ADDRESS_NOT_ALLOWED,
         "ServiceAccessPoint.AccessInfo"},
        {"AccessInfo", "0.0.0.0", ERR_ADDRESS_NOT_ALLOWED, "ServiceAccessPoint.AccessInfo"},
        {"AccessInfo", "localhost:8080", ERR_ADDRESS_NOT_ALLOWED, "ServiceAccessPoint.AccessInfo"},
        {"AccessInfo", "192.0.2.1", ERR_ADDRESS_NOT_ALLOWED, "ServiceAccessPoint.AccessInfo"},
        {"ElementName", "", ERR_INVALID_PARAMETER, "ServiceAccessPoint.ElementName"},
        {"SystemName", "/systems/local", ERR_INVALID_PARAMETER, "ServiceAccessPoint.SystemName"},
        {"SystemName", "/systems/none", ERR_NO_SUCH_OBJECT, "ServiceAccessPoint.SystemName"},
        {"SystemName", "array one", ERR_NO_SUCH_OBJECT, "ServiceAccessPoint.SystemName"},
    };
    struct test_call *test;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char name[64];

        test = add_portal("127.0.0.1");
        snprintf(name, sizeof(name), "ServiceAccessPoint.%s", cases[i].member);
        arg_text(test, name, cases[i].text);
        assert_failed(test, cases[i].code, cases[i].parameter);
        assert_null(strstr(test->call->error.detail, "secret"));
        test_call_free(test);
    }
    test = add_portal("127.0.0.1");
    arg_text(test, "InstanceNamespace", "root/x");
    assert_failed(test, ERR_INVALID_PARAMETER, "InstanceNamespace");
    test_call_free(test);
    test = test_call_new(&fixture, &replication_service, "AddServiceAccessPoint");
    arg_text(test, "ServiceAccessPoint.ElementName", "x");
    assert_failed(test, ERR_MISSING_PARAMETER, "ServiceAccessPoint.AccessInfo");
    test_call_free(test);
    char *too_long = calloc(1, 400);

    memset(too_long, 'x', 399);
    test = add_portal("127.0.0.1");
    arg_text(test, "ServiceAccessPoint.ElementName", too_long);
    assert_failed(test, ERR_INVALID_PARAMETER, "ServiceAccessPoint.ElementName");
    test_call_free(test);
    free(too_long);
    assert_int_equal(rows_of(&fixture, &access_point_table), 0);
    assert_int_equal(rows_of(&fixture, &system_table), 1);
}

static void info_format_must_be_what_access_info_is(void **state)
{
    static const struct {
        const char *access_info;
        uint32_t fits[2];
    } cases[] = {
        {"127.0.0.1", {3, 3}}, {"[::1]:3260", {4, 4}},      {"iscsi://127.0.0.1", {200, 200}},
        {"array", {2, 2}},     {"array.example", {2, 201}},
    };
    static const uint32_t formats[] = {2, 3, 4, 200, 201};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t j = 0; j < sizeof(formats) / sizeof(formats[0]); j++) {
            struct test_call *test = add_portal(cases[i].access_info);

            arg_number(test, "ServiceAccessPoint.InfoFormat", formats[j]);
            if (formats[j] == cases[i].fits[0] || formats[j] == cases[i].fits[1]) {
                assert_done(test);
            } else {
                assert_failed(test, ERR_INVALID_PARAMETER, "ServiceAccessPoint.InfoFormat");
            }
            test_call_free(test);
        }
    }
}

/* ---- AddSharedSecret ---- */

static struct test_call *add_secret(const char *path, const char *protocol, const char *user,
                                    const char *secret)
{
    struct test_call *test = test_call_new(&fixture, &replication_service, "AddSharedSecret");

    arg_text(test, "SharedSecret.RemoteID", user);
    arg_text(test, "SharedSecret.Secret", secret);
    if (protocol != NULL) {
        arg_text(test, "SharedSecret.Protocol", protocol);
    }
    if (path != NULL) {
        arg_text(test, "ServiceAccessPoint", path);
    }
    return test;
}

static void secret_added(const char *path, const char *protocol, const char *user,
                         const char *secret)
{
    struct test_call *test = add_secret(path, protocol, user, secret);

    assert_done(test);
    assert_null(out_of(test, "SharedSecretPath"));
    test_call_free(test);
}

static void a_second_secret_replaces_the_first(void **state)
{
    char *path = portal_added("127.0.0.1");
    struct access_point_row row;
    struct iscsi_chap chap;
    struct iscsi_chap mutual;
    struct error error;

    (void)state;
    access_point_of(&fixture, path, &row);
    secret_added(path, NULL, "one", "first secret");
    secret_added(path, "chap", "two", "second secret");
    secret_added(path, "CHAP-Mutual", "three", "third secret");
    secret_added(NULL, "CHAP", "nobody", "unused secret");
    assert_int_equal(rows_of(&fixture, &secret_table), 3);
    assert_int_equal(portal_credentials(fixture.reader, &row, &chap, &mutual, &error), 0);
    assert_string_equal(chap.user, "two");
    assert_string_equal(chap.secret, "second secret");
    assert_string_equal(mutual.user, "three");
    assert_string_equal(mutual.secret, "third secret");
    free(path);
}

static void another_portal_of_the_system_lends_its_secrets(void **state)
{
    char *path = portal_added("127.0.0.1");
    struct access_point_row row;
    struct access_point_row sibling = {.address = "127.0.0.7:3260"};
    struct iscsi_chap chap;
    struct iscsi_chap mutual;
    struct error error;

    (void)state;
    access_point_of(&fixture, path, &row);
    memcpy(sibling.system_id, row.system_id, sizeof(sibling.system_id));
    row_insert(&fixture, &access_point_table, &sibling);
    secret_added(path, NULL, "one", "first secret");
    assert_int_equal(portal_credentials(fixture.reader, &sibling, &chap, &mutual, &error), 0);
    assert_string_equal(chap.user, "one");
    char other[PATH_SIZE];

    snprintf(other, sizeof(other), "/accesspoints/%s", sibling.head.id);
    secret_added(other, NULL, "own", "other secret");
    assert_int_equal(portal_credentials(fixture.reader, &sibling, &chap, &mutual, &error), 0);
    assert_string_equal(chap.user, "own");
    free(path);
}

static void mutual_chap_needs_chap(void **state)
{
    char *path = portal_added("127.0.0.1");
    struct access_point_row row;
    struct iscsi_chap chap;
    struct iscsi_chap mutual;
    struct error error;

    (void)state;
    access_point_of(&fixture, path, &row);
    secret_added(path, "CHAP-Mutual", "three", "third secret");
    assert_true(portal_credentials(fixture.reader, &row, &chap, &mutual, &error) < 0);
    assert_null(strstr(error.detail, "third"));
    free(path);
}

static void bad_secrets_are_refused(void **state)
{
    char *path = portal_added("127.0.0.1");
    char too_long[300];
    struct test_call *test;

    (void)state;
    memset(too_long, 's', sizeof(too_long) - 1);
    too_long[sizeof(too_long) - 1] = '\0';
    static const struct {
        const char *member;
        const char *text;
        enum error_code code;
    } cases[] = {
        {"RemoteID", "", ERR_INVALID_PARAMETER},   {"Secret", "", ERR_INVALID_PARAMETER},
        {"RemoteID", NULL, ERR_INVALID_PARAMETER}, /* too long */
        {"Secret", NULL, ERR_INVALID_PARAMETER},   {"Protocol", "Kerberos", ERR_BAD_VALUE},
        {"Protocol", "", ERR_BAD_VALUE},           {"Algorithm", "SHA-256", ERR_BAD_VALUE},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char name[64];

        snprintf(name, sizeof(name), "SharedSecret.%s", cases[i].member);
        test = add_secret(path, "CHAP", "user", "open sesame");
        arg_text(test, name, cases[i].text == NULL ? too_long : cases[i].text);
        assert_failed(test, cases[i].code, name);
        assert_null(strstr(test->call->error.detail, "sesame"));
        assert_null(strstr(test->call->error.detail, "ssss"));
        test_call_free(test);
    }
    test = test_call_new(&fixture, &replication_service, "AddSharedSecret");
    arg_text(test, "SharedSecret.Secret", "open sesame");
    assert_failed(test, ERR_MISSING_PARAMETER, "SharedSecret.RemoteID");
    test_call_free(test);
    test = test_call_new(&fixture, &replication_service, "AddSharedSecret");
    arg_text(test, "SharedSecret.RemoteID", "user");
    assert_failed(test, ERR_MISSING_PARAMETER, "SharedSecret.Secret");
    test_call_free(test);
    test = add_secret("/accesspoints/none", "CHAP", "user", "open sesame");
    assert_failed(test, ERR_NO_SUCH_OBJECT, "ServiceAccessPoint");
    test_call_free(test);
    test = add_secret("/systems/local", "CHAP", "user", "open sesame");
    assert_failed(test, ERR_WRONG_CLASS, "ServiceAccessPoint");
    test_call_free(test);
    test = add_secret(path, "CHAP", "user", "open sesame");
    arg_text(test, "InstanceNamespace", "root");
    assert_failed(test, ERR_INVALID_PARAMETER, "InstanceNamespace");
    test_call_free(test);
    assert_int_equal(rows_of(&fixture, &secret_table), 0);

    secret_added(path, "CHAP", "user", "the same secret");
    test = add_secret(path, "CHAP-Mutual", "array", "the same secret");
    assert_failed(test, ERR_INVALID_PARAMETER, "SharedSecret.Secret");
    test_call_free(test);
    free(path);
}

/* ---- lists and deletion ---- */

static struct test_call *peers(uint64_t options)
{
    struct test_call *test = test_call_new(&fixture, &replication_service, "GetPeerSystems");

    if (options != 0) {
        arg_number(test, "Options", options);
    }
    assert_done(test);
    return test;
}

static void peer_systems(void **state)
{
    char *a = portal_added("127.0.0.1");
    char *b = portal_added("127.0.0.2");
    struct access_point_row row_a;
    struct access_point_row row_a2 = {.address = "127.0.0.3:3260"};
    struct test_call *test;

    (void)state;
    access_point_of(&fixture, a, &row_a);
    memcpy(row_a2.system_id, row_a.system_id, sizeof(row_a2.system_id));
    row_insert(&fixture, &access_point_table, &row_a2);

    test = peers(0);
    assert_int_equal(out_count(test, "Systems"), 2);
    assert_null(out_of(test, "LocalAccessPoints"));
    assert_false(values_get(test->call->outs, "RemoteAccessPoints")->present);
    test_call_free(test);
    test = peers(2);
    assert_int_equal(out_count(test, "Systems"), 0);
    test_call_free(test);
    test = peers(3);
    assert_int_equal(out_count(test, "Systems"), 0);
    assert_int_equal(out_count(test, "LocalAccessPoints"), 0);
    assert_int_equal(out_count(test, "RemoteAccessPoints"), 0);
    test_call_free(test);

    row_a.probed = true;
    row_a.reachable = true;
    row_update(&fixture, &access_point_table, &row_a);
    test = peers(2);
    assert_int_equal(out_count(test, "Systems"), 1);
    assert_string_equal(id_of(out_item(test, "Systems", 0)), row_a.system_id);
    test_call_free(test);
    test = peers(3);
    assert_int_equal(out_count(test, "Systems"), 2);
    assert_int_equal(out_count(test, "LocalAccessPoints"), 2);
    assert_int_equal(out_count(test, "RemoteAccessPoints"), 2);
    assert_string_equal(out_item(test, "LocalAccessPoints", 1), "/endpoints/initiator");
    assert_string_equal(out_item(test, "RemoteAccessPoints", 0), a);
    assert_string_equal(id_of(out_item(test, "RemoteAccessPoints", 1)), row_a2.head.id);
    assert_string_equal(id_of(out_item(test, "Systems", 1)), row_a.system_id);
    test_call_free(test);

    test = test_call_new(&fixture, &replication_service, "GetServiceAccessPoints");
    char system[PATH_SIZE];

    snprintf(system, sizeof(system), "/systems/%s", row_a.system_id);
    arg_text(test, "System", system);
    assert_done(test);
    assert_int_equal(out_count(test, "ServiceAccessPoints"), 2);
    assert_string_equal(out_item(test, "ServiceAccessPoints", 0), a);
    test_call_free(test);
    test = test_call_new(&fixture, &replication_service, "GetServiceAccessPoints");
    arg_text(test, "System", "/systems/local");
    assert_done(test);
    assert_int_equal(out_count(test, "ServiceAccessPoints"), 1);
    assert_string_equal(out_item(test, "ServiceAccessPoints", 0), "/endpoints/initiator");
    test_call_free(test);
    test = test_call_new(&fixture, &replication_service, "GetServiceAccessPoints");
    arg_text(test, "System", a);
    assert_failed(test, ERR_WRONG_CLASS, "System");
    test_call_free(test);
    free(a);
    free(b);
}

static void an_access_point_takes_its_secrets_and_at_last_its_system_along(void **state)
{
    char *path = portal_added("127.0.0.1");
    struct access_point_row row;
    struct access_point_row sibling = {.address = "127.0.0.7:3260"};
    struct test_call *test;

    (void)state;
    access_point_of(&fixture, path, &row);
    memcpy(sibling.system_id, row.system_id, sizeof(sibling.system_id));
    row_insert(&fixture, &access_point_table, &sibling);
    secret_added(path, NULL, "one", "first secret");
    secret_added(path, "CHAP-Mutual", "one", "second secret");
    secret_added(NULL, "CHAP", "nobody", "unused secret");

    test = test_delete_new(&fixture, &access_point_methods, row.head.id);
    assert_done(test);
    test_call_free(test);
    assert_false(row_exists(&fixture, &access_point_table, path));
    assert_true(row_exists(&fixture, &system_table, row.system_id));
    assert_int_equal(rows_of(&fixture, &secret_table), 1);

    test = test_delete_new(&fixture, &access_point_methods, sibling.head.id);
    assert_done(test);
    test_call_free(test);
    assert_false(row_exists(&fixture, &system_table, row.system_id));

    test = test_delete_new(&fixture, &access_point_methods, sibling.head.id);
    assert_failed(test, ERR_NOT_FOUND, NULL);
    test_call_free(test);
    free(path);
}

static void a_portal_with_volumes_stays(void **state)
{
    char *path = portal_added("127.0.0.1");
    struct access_point_row row;
    struct volume_row volume = {.kind = VOLUME_REMOTE, .iqn = "iqn.x", .persistent = true};
    char volume_path[PATH_SIZE];

    (void)state;
    access_point_of(&fixture, path, &row);
    memcpy(volume.system_id, row.system_id, sizeof(volume.system_id));
    memcpy(volume.access_point_id, row.head.id, sizeof(volume.access_point_id));
    row_insert(&fixture, &volume_table, &volume);
    struct test_call *test = test_delete_new(&fixture, &access_point_methods, row.head.id);

    assert_failed(test, ERR_CONFLICT, NULL);
    snprintf(volume_path, sizeof(volume_path), "/volumes/%s", volume.head.id);
    assert_string_equal(test->call->error.blocked_on, volume_path);
    assert_true(row_exists(&fixture, &access_point_table, path));
    test_call_free(test);
    free(path);
}

/* ---- reachability ---- */

static const char target_name[] = "iqn.2024-01.example:t1";

static void wait_reachable(const char *path, bool reachable, struct access_point_row *ret_row)
{
    for (unsigned i = 0; i < 400; i++) {
        struct timespec pause = {.tv_nsec = 25000000};

        access_point_of(&fixture, path, ret_row);
        if (ret_row->probed && ret_row->reachable == reachable) {
            return;
        }
        nanosleep(&pause, NULL);
    }
    fail_msg("%s is not seen as it is", path);
}

static void peers_are_asked_and_only_news_is_recorded(void **state)
{
    struct tgtd *tgtd = tgtd_start();
    char text[64];
    struct access_point_row row;

    (void)state;
    tgtd_target(tgtd, 1, target_name); /* tgtd hangs up when it has none */
    fixture_init(&fixture);
    fixture.options.reach_interval_ms = 50;
    fixture_start(&fixture);
    snprintf(text, sizeof(text), "127.0.0.1:%u", tgtd_port(tgtd));
    char *path = portal_added(text);
    char *nobody = portal_added("127.0.0.1:1");
    char *name = portal_added("no-such-array.invalid");

    wait_reachable(path, true, &row);
    assert_string_equal(row.last_error, "");
    assert_true(row.last_seen_ms != 0);
    wait_reachable(nobody, false, &row);
    assert_true(row.last_error[0] != '\0');
    assert_int_equal(row.last_seen_ms, 0);
    wait_reachable(name, false, &row);

    /* Ten rounds of the same: no commit. */
    struct control_stats before = control_stats(fixture.control);
    struct timespec pause = {.tv_nsec = 500000000};

    nanosleep(&pause, NULL);
    struct control_stats after = control_stats(fixture.control);

    assert_true(after.commits - before.commits <= 1); /* an expiry may fall in between */

    tgtd_kill(tgtd);
    wait_reachable(path, false, &row);
    assert_true(row.last_error[0] != '\0');
    assert_true(row.last_seen_ms != 0);
    tgtd_restart(tgtd, false);
    wait_reachable(path, true, &row);
    assert_string_equal(row.last_error, "");
    free(path);
    free(nobody);
    free(name);
    fixture_destroy(&fixture);
    tgtd_stop(tgtd);
}

/* ---- openers ---- */

struct opened {
    struct loop *loop;
    unsigned calls;
    struct blockdev *dev;
    struct error error;
};

static void opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct opened *result = arg;

    result->calls++;
    result->dev = dev;
    if (error != NULL) {
        result->error = *error;
    }
    loop_stop(result->loop);
}

static void closed(void *arg)
{
    loop_stop(arg);
}

static int open_volume(const struct volume_row *volume, struct error *ret_error)
{
    struct opened result = {0};
    struct block_opener *opener;
    int r = network_opener(control_network(fixture.control), fixture.reader, volume,
                           &(struct network_session){.isid = 7}, &opener, ret_error);

    if (r < 0) {
        return r;
    }
    assert_int_equal(loop_new("test", &result.loop), 0);
    opener->ops->open(opener, result.loop, opened, &result);
    assert_int_equal(result.calls, 0);
    loop_run(result.loop);
    assert_int_equal(result.calls, 1);
    if (result.dev != NULL) {
        assert_int_equal(result.dev->info.size_bytes, volume->size_bytes);
        blockdev_close(result.dev, closed, result.loop);
        loop_run(result.loop);
        r = 0;
    } else {
        *ret_error = result.error;
        r = error_info(result.error.code)->err;
    }
    opener->ops->free(opener);
    loop_free(result.loop);
    return r;
}

static void tgtd_volume(struct tgtd *tgtd, struct volume_row *ret_volume,
                        struct access_point_row *ret_portal)
{
    char text[64];
    struct tgtd_lun lun = {.lun = 1, .file = "a", .size_bytes = 8 << 20};

    tgtd_target(tgtd, 1, target_name);
    tgtd_lun(tgtd, 1, &lun);
    snprintf(text, sizeof(text), "127.0.0.1:%u", tgtd_port(tgtd));
    char *path = portal_added(text);

    access_point_of(&fixture, path, ret_portal);
    free(path);
    *ret_volume = (struct volume_row){
        .kind = VOLUME_REMOTE, .lun = 1, .size_bytes = 8 << 20, .block_bytes = 512};
    snprintf(ret_volume->iqn, sizeof(ret_volume->iqn), "%s", target_name);
    memcpy(ret_volume->system_id, ret_portal->system_id, sizeof(ret_volume->system_id));
    memcpy(ret_volume->access_point_id, ret_portal->head.id, sizeof(ret_volume->access_point_id));
}

static void openers_open_what_the_record_describes(void **state)
{
    struct tgtd *tgtd = tgtd_start();
    struct volume_row volume;
    struct access_point_row portal;
    struct error error;

    (void)state;
    tgtd_volume(tgtd, &volume, &portal);
    assert_int_equal(open_volume(&volume, &error), 0);

    volume.size_bytes *= 2;
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_LUN_CHANGED);
    volume.size_bytes /= 2;
    strcpy(volume.identity, "naa.5000000000000001");
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_LUN_CHANGED);
    volume.identity[0] = '\0';
    volume.lun = 5;
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_SCAN_NO_LU);
    volume.lun = 1;

    /* Its own portal is dead, another of the system leads there; an address that may not be dialled is passed over. */
    struct access_point_row own = {.address = "127.0.0.1:1"};
    struct access_point_row refused = {.address = "169.254.1.1:3260"};

    memcpy(own.system_id, portal.system_id, sizeof(own.system_id));
    memcpy(refused.system_id, portal.system_id, sizeof(refused.system_id));
    row_insert(&fixture, &access_point_table, &refused);
    row_insert(&fixture, &access_point_table, &own);
    memcpy(volume.access_point_id, own.head.id, sizeof(volume.access_point_id));
    assert_int_equal(open_volume(&volume, &error), 0);

    /* Nothing else is left than what may not be dialled. */
    struct system_row system = {.element_name = "alone"};

    row_insert(&fixture, &system_table, &system);
    memcpy(refused.system_id, system.head.id, sizeof(refused.system_id));
    row_update(&fixture, &access_point_table, &refused);
    memcpy(volume.system_id, system.head.id, sizeof(volume.system_id));
    memcpy(volume.access_point_id, refused.head.id, sizeof(volume.access_point_id));
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_ADDRESS_NOT_ALLOWED);

    strcpy(volume.access_point_id, "gone");
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_REMOTE_UNREACHABLE);
    volume.kind = VOLUME_HOSTED;
    assert_true(open_volume(&volume, &error) < 0);
    tgtd_stop(tgtd);
}

static void openers_prove_themselves_and_insist_on_proof(void **state)
{
    struct tgtd *tgtd = tgtd_start();
    struct volume_row volume;
    struct access_point_row portal;
    struct error error;
    char path[PATH_SIZE];

    (void)state;
    tgtd_volume(tgtd, &volume, &portal);
    tgtd_account(tgtd, 1, "smirror", "correct horse battery", false);
    snprintf(path, sizeof(path), "/accesspoints/%s", portal.head.id);
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_REMOTE_REFUSED);
    secret_added(path, NULL, "smirror", "wrong horse battery");
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_REMOTE_REFUSED);
    assert_null(strstr(error.detail, "horse"));
    secret_added(path, NULL, "smirror", "correct horse battery");
    assert_int_equal(open_volume(&volume, &error), 0);

    /* Now the target has to prove itself, and cannot. */
    secret_added(path, "CHAP-Mutual", "array", "another staple here");
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_REMOTE_REFUSED);
    tgtd_account(tgtd, 1, "array", "another staple here", true);
    assert_int_equal(open_volume(&volume, &error), 0);
    secret_added(path, "CHAP-Mutual", "array", "a different staple");
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_REMOTE_REFUSED);
    assert_null(strstr(error.detail, "staple"));
    tgtd_stop(tgtd);
}

static void a_cancelled_open_still_answers_once(void **state)
{
    struct tgtd *tgtd = tgtd_start();
    struct volume_row volume;
    struct access_point_row portal;
    struct error error;
    struct block_opener *opener;

    (void)state;
    tgtd_volume(tgtd, &volume, &portal);
    tgtd_freeze(tgtd);
    for (unsigned when = 0; when < 2; when++) {
        struct opened result = {0};
        struct loop_timer timer;

        assert_int_equal(network_opener(control_network(fixture.control), fixture.reader, &volume,
                                        &(struct network_session){.isid = 7}, &opener, &error),
                         0);
        assert_int_equal(loop_new("test", &result.loop), 0);
        opener->ops->open(opener, result.loop, opened, &result);
        if (when == 1) { /* while it logs in */
            loop_timer_init(&timer, result.loop, stop_loop, result.loop);
            loop_timer_start(&timer, 100 * MS_NS);
            loop_run(result.loop);
            assert_int_equal(result.calls, 0);
        }
        opener->ops->cancel(opener);
        opener->ops->cancel(opener);
        assert_int_equal(result.calls, 0);
        loop_run(result.loop);
        assert_int_equal(result.calls, 1);
        assert_null(result.dev);
        opener->ops->cancel(opener); /* nothing to do */
        opener->ops->free(opener);
        loop_free(result.loop);
    }
    tgtd_thaw(tgtd);
    tgtd_stop(tgtd);
}

#define WITH_SERVICE(test) cmocka_unit_test_setup_teardown(test, start, stop)

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
        WITH_SERVICE(an_access_point_makes_a_system),
        WITH_SERVICE(the_same_portal_again_is_the_same_access_point),
        WITH_SERVICE(several_portals_may_belong_to_one_system),
        WITH_SERVICE(bad_access_points_are_refused),
        WITH_SERVICE(info_format_must_be_what_access_info_is),
        WITH_SERVICE(a_second_secret_replaces_the_first),
        WITH_SERVICE(another_portal_of_the_system_lends_its_secrets),
        WITH_SERVICE(mutual_chap_needs_chap),
        WITH_SERVICE(bad_secrets_are_refused),
        WITH_SERVICE(peer_systems),
        WITH_SERVICE(an_access_point_takes_its_secrets_and_at_last_its_system_along),
        WITH_SERVICE(a_portal_with_volumes_stays),
        cmocka_unit_test(peers_are_asked_and_only_news_is_recorded),
        WITH_SERVICE(openers_open_what_the_record_describes),
        WITH_SERVICE(openers_prove_themselves_and_insist_on_proof),
        WITH_SERVICE(a_cancelled_open_still_answers_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
