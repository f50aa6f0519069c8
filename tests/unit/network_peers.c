// SPDX-License-Identifier: Apache-2.0
/*
 * Access points, their secrets and systems: added, refused, listed, deleted, and asked whether they are there.
 */
#include "tests/unit/network_fixture.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "service/portals.h"
#include "tests/tools/tgtd.h"

/* ---- AddServiceAccessPoint ---- */

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

/* What a session to the portal proves itself with, and insists on. */
struct proof {
    struct iscsi_chap chap;
    struct iscsi_chap mutual;
};

static struct proof proof_for(const struct access_point_row *row)
{
    struct proof proof;
    struct error error;

    assert_int_equal(portal_credentials(fixture.reader, row, &proof.chap, &proof.mutual, &error),
                     0);
    return proof;
}

static char *portal_and_row(struct access_point_row *ret_row)
{
    char *path = portal_added("127.0.0.1");

    access_point_of(&fixture, path, ret_row);
    return path;
}

/* Another portal of the same system. */
static struct access_point_row sibling_of(const struct access_point_row *row, const char *address)
{
    struct access_point_row sibling = {0};

    strcpy(sibling.address, address);
    memcpy(sibling.system_id, row->system_id, sizeof(sibling.system_id));
    row_insert(&fixture, &access_point_table, &sibling);
    return sibling;
}

static void a_second_secret_replaces_the_first(void **state)
{
    struct access_point_row row;
    char *path = portal_and_row(&row);

    (void)state;
    secret_added(path, NULL, "one", "first secret");
    secret_added(path, "chap", "two", "second secret");
    secret_added(path, "CHAP-Mutual", "three", "third secret");
    secret_added(NULL, "CHAP", "nobody", "unused secret");
    assert_int_equal(rows_of(&fixture, &secret_table), 3);
    struct proof proof = proof_for(&row);

    assert_string_equal(proof.chap.user, "two");
    assert_string_equal(proof.chap.secret, "second secret");
    assert_string_equal(proof.mutual.user, "three");
    assert_string_equal(proof.mutual.secret, "third secret");
    free(path);
}

static void another_portal_of_the_system_lends_its_secrets(void **state)
{
    struct access_point_row row;
    char *path = portal_and_row(&row);
    struct access_point_row sibling = sibling_of(&row, "127.0.0.7:3260");

    (void)state;
    secret_added(path, NULL, "one", "first secret");
    assert_string_equal(proof_for(&sibling).chap.user, "one");
    char other[PATH_SIZE];

    snprintf(other, sizeof(other), "/accesspoints/%s", sibling.head.id);
    secret_added(other, NULL, "own", "other secret");
    assert_string_equal(proof_for(&sibling).chap.user, "own");
    free(path);
}

static void mutual_chap_needs_chap(void **state)
{
    struct access_point_row row;
    char *path = portal_and_row(&row);
    struct proof proof;
    struct error error;

    (void)state;
    secret_added(path, "CHAP-Mutual", "three", "third secret");
    assert_true(portal_credentials(fixture.reader, &row, &proof.chap, &proof.mutual, &error) < 0);
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
    struct test_call *test;

    (void)state;
    access_point_of(&fixture, a, &row_a);
    struct access_point_row row_a2 = sibling_of(&row_a, "127.0.0.3:3260");

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
    struct access_point_row row;
    char *path = portal_and_row(&row);
    struct access_point_row sibling = sibling_of(&row, "127.0.0.7:3260");
    struct test_call *test;

    (void)state;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
