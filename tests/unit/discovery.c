// SPDX-License-Identifier: Apache-2.0
/* ScsiScan, against tgtd; and targets that do not answer. */
#include "tests/unit/discovery_fixture.h"

static void a_scan_makes_luns_volumes(void **state)
{
    char *path = add_portal(portal_address(), NULL);
    struct access_point_row portal;
    struct volume_row row;

    (void)state;
    scan();
    access_point_of(&fixture, path, &portal);
    assert_true(portal.reachable && portal.probed);
    assert_int_equal(rows_of(&fixture, &volume_table), 4);
    row = lun_of(name_a, 1);
    assert_int_equal(row.kind, VOLUME_REMOTE);
    assert_int_equal(row.size_bytes, 8 * MIB);
    assert_int_equal(row.block_bytes, 512);
    assert_true(row.thin);
    assert_true(row.persistent);
    assert_false(row.write_protected);
    assert_string_equal(row.element_name, "array-a-lun1");
    assert_string_equal(row.access_point_id, portal.head.id);
    assert_string_equal(row.system_id, portal.system_id);
    assert_int_equal(strncmp(row.identity, "naa.", 4), 0);
    assert_string_equal(row.vendor, "IET");
    assert_true(row.product[0] != '\0' && row.last_seen_ms != 0);
    assert_string_equal(row.problem, "");
    row = lun_of(name_a, 2);
    assert_int_equal(row.size_bytes, 16 * MIB);
    assert_int_equal(row.block_bytes, 4096);
    assert_false(row.thin);
    row = lun_of(name_a, 300);
    assert_int_equal(row.size_bytes, 4 * MIB);
    assert_true(row.write_protected);
    row = lun_of(name_b, 1);
    assert_int_equal(row.size_bytes, 32 * MIB);
    assert_string_equal(row.element_name, "array-b-lun1");

    scan();
    assert_int_equal(rows_of(&fixture, &volume_table), 4);
    assert_int_equal(rows_of(&fixture, &access_point_table), 1);
    free(path);
}

static void filters_narrow_a_scan(void **state)
{
    char *path = add_portal(portal_address(), NULL);
    struct test_call *test = scan_new_call();

    (void)state;
    arg_number(test, "ConnectionType", 7);
    arg_item(test, "Initiators", "/endpoints/initiator");
    arg_item(test, "Targets", name_a);
    arg_item(test, "LogicalUnits", "2");
    arg_item(test, "LogicalUnits", "77");
    assert_done(test);
    test_call_free(test);
    assert_int_equal(rows_of(&fixture, &volume_table), 1);
    assert_int_equal(lun_of(name_a, 2).kind, VOLUME_REMOTE);

    test = scan_new_call();
    arg_item(test, "Targets", path);
    arg_item(test, "LogicalUnits", "1");
    assert_done(test);
    test_call_free(test);
    assert_int_equal(rows_of(&fixture, &volume_table), 3);

    test = scan_new_call();
    arg_item(test, "Targets", "iqn.2024-01.example:nobody");
    assert_failed(test, ERR_SCAN_NO_TARGET, NULL);
    test_call_free(test);
    test = scan_new_call();
    arg_item(test, "LogicalUnits", "77");
    assert_failed(test, ERR_SCAN_NO_LU, NULL);
    test_call_free(test);
    test = scan_new_call();
    arg_item(test, "LogicalUnits", "0"); /* tgtd's controller is no disk */
    assert_failed(test, ERR_SCAN_NO_LU, NULL);
    test_call_free(test);
    free(path);
}

static void bad_scans_are_refused(void **state)
{
    struct test_call *test = scan_new_call();

    (void)state;
    assert_failed(test, ERR_SCAN_NO_TARGET, NULL); /* no portal is known */
    assert_non_null(strstr(test->call->error.detail, "AddServiceAccessPoint"));
    test_call_free(test);
    char *path = add_portal(portal_address(), NULL);
    static const struct {
        const char *name;
        const char *item;
        enum error_code code;
        const char *parameter;
    } cases[] = {
        {"Initiators", "/endpoints/other", ERR_SCAN_INITIATOR, "Initiators"},
        {"Initiators", NULL, ERR_SCAN_INITIATOR, "Initiators"},
        {"Targets", NULL, ERR_INVALID_PARAMETER, "Targets[0]"},
        {"Targets", "", ERR_INVALID_PARAMETER, "Targets[0]"},
        {"Targets", "disk1", ERR_INVALID_PARAMETER, "Targets[0]"},
        {"Targets", "/accesspoints/none", ERR_NO_SUCH_OBJECT, "Targets[0]"},
        {"Targets", "/systems/local", ERR_WRONG_CLASS, "Targets[0]"},
        {"LogicalUnits", NULL, ERR_INVALID_PARAMETER, "LogicalUnits[0]"},
        {"LogicalUnits", "", ERR_INVALID_PARAMETER, "LogicalUnits[0]"},
        {"LogicalUnits", "-1", ERR_INVALID_PARAMETER, "LogicalUnits[0]"},
        {"LogicalUnits", "0x1", ERR_INVALID_PARAMETER, "LogicalUnits[0]"},
        {"LogicalUnits", "99999", ERR_INVALID_PARAMETER, "LogicalUnits[0]"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        test = scan_new_call();
        arg_item(test, cases[i].name, cases[i].item);
        assert_failed(test, cases[i].code, cases[i].parameter);
        test_call_free(test);
    }
    static const struct {
        const char *name;
        enum error_code code;
    } empty[] = {
        {"Initiators", ERR_SCAN_INITIATOR},
        {"Targets", ERR_INVALID_PARAMETER},
        {"LogicalUnits", ERR_INVALID_PARAMETER},
    };
    for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
        test = scan_new_call();
        arg_array(test, empty[i].name);
        assert_failed(test, empty[i].code, empty[i].name);
        test_call_free(test);
    }
    test = scan_new_call();
    arg_number(test, "ConnectionType", 2);
    assert_failed(test, ERR_SCAN_CONNECTION_TYPE, "ConnectionType");
    test_call_free(test);
    test = scan_new_call();
    arg_text(test, "OtherConnectionType", "string");
    assert_failed(test, ERR_INVALID_PARAMETER, "OtherConnectionType");
    test_call_free(test);
    test = scan_new_call();
    arg_text(test, "Job", "/jobs/1");
    assert_failed(test, ERR_INVALID_PARAMETER, "Job");
    test_call_free(test);
    assert_int_equal(rows_of(&fixture, &volume_table), 0);
    free(path);
}

static bool portal_was_tried(void *arg)
{
    struct access_point_row row;

    access_point_of(&fixture, arg, &row);
    return row.probed;
}

static void unreachable_portals_are_named(void **state)
{
    char *dead = add_portal("127.0.0.1:1", NULL);
    char *unknown = add_portal("no-such-array.invalid", NULL);
    struct test_call *test = scan_new_call();
    struct access_point_row row;

    (void)state;
    assert_failed(test, ERR_REMOTE_UNREACHABLE, NULL);
    assert_non_null(strstr(test->call->error.detail, "127.0.0.1:1"));
    assert_non_null(strstr(test->call->error.detail, "no-such-array.invalid"));
    test_call_free(test);
    /* The call failed and changed nothing; what was seen is recorded by itself. */
    wait_until(portal_was_tried, dead);
    access_point_of(&fixture, dead, &row);
    assert_false(row.reachable);
    assert_true(row.last_error[0] != '\0');

    /* One of three is enough. */
    char *path = add_portal(portal_address(), NULL);

    scan();
    assert_int_equal(rows_of(&fixture, &volume_table), 4);
    access_point_of(&fixture, unknown, &row);
    assert_true(row.probed && !row.reachable && row.last_error[0] != '\0');
    free(dead);
    free(unknown);
    free(path);
}

static void names_that_lead_to_refused_addresses_are_not_dialled(void **state)
{
    char *path =
        add_portal("169.254.43518", NULL); /* the metadata service, as inet_aton reads it */
    struct test_call *test = scan_new_call();

    (void)state;
    assert_failed(test, ERR_ADDRESS_NOT_ALLOWED, NULL);
    test_call_free(test);
    test = entity("iscsi://2852039166:80/iqn.2024-01.example:x/0");
    assert_failed(test, ERR_ADDRESS_NOT_ALLOWED, "ReplicationEntity.EntityID");
    test_call_free(test);
    free(path);
}

static void secrets_open_what_is_closed(void **state)
{
    char *path = add_portal(portal_address(), NULL);
    struct test_call *test = scan_new_call();

    (void)state;
    tgtd_account(tgtd, 1, "smirror", "correct horse battery", false);
    tgtd_account(tgtd, 1, "array", "another staple here", true);
    arg_item(test, "Targets", name_a);
    assert_failed(test, ERR_REMOTE_REFUSED, NULL);
    test_call_free(test);
    scan(); /* the other target is open */
    assert_int_equal(rows_of(&fixture, &volume_table), 1);

    for (int i = 0; i < 2; i++) {
        test = test_call_new(&fixture, &replication_service, "AddSharedSecret");
        arg_text(test, "ServiceAccessPoint", path);
        arg_text(test, "SharedSecret.RemoteID", i == 0 ? "smirror" : "array");
        arg_text(test, "SharedSecret.Secret",
                 i == 0 ? "correct horse battery" : "another staple here");
        arg_text(test, "SharedSecret.Protocol", i == 0 ? "CHAP" : "CHAP-Mutual");
        assert_done(test);
        test_call_free(test);
        test = scan_new_call();
        arg_item(test, "Targets", name_a);
        assert_done(test);
        test_call_free(test);
        assert_int_equal(rows_of(&fixture, &volume_table), 4);
    }
    /* With a mutual secret, who does not prove himself is refused: name_b knows no accounts. */
    test = scan_new_call();
    arg_item(test, "Targets", name_b);
    assert_failed(test, ERR_REMOTE_REFUSED, NULL);
    test_call_free(test);
    assert_string_equal(lun_of(name_b, 1).problem, ""); /* not asked is not gone */
    free(path);
}

static void what_is_gone_has_a_problem_until_it_is_back(void **state)
{
    char *path = add_portal(portal_address(), NULL);
    struct tgtd_lun lun = {.lun = 1, .file = "a1", .size_bytes = 8 * MIB};
    struct test_call *test;

    (void)state;
    scan();
    tgtd_lun_remove(tgtd, 1, 1);
    tgtd_target_remove(tgtd, 2);
    /* A scan that does not look there says nothing. */
    test = scan_new_call();
    arg_item(test, "LogicalUnits", "2");
    assert_done(test);
    test_call_free(test);
    assert_string_equal(lun_of(name_a, 1).problem, "");
    assert_string_equal(lun_of(name_b, 1).problem, "");
    test = scan_new_call();
    arg_item(test, "Targets", name_a);
    assert_done(test);
    test_call_free(test);
    assert_string_not_equal(lun_of(name_a, 1).problem, "");
    assert_string_equal(lun_of(name_a, 2).problem, "");
    assert_string_equal(lun_of(name_b, 1).problem, "");
    scan();
    assert_string_not_equal(lun_of(name_b, 1).problem, "");
    assert_int_equal(rows_of(&fixture, &volume_table), 4);

    tgtd_lun(tgtd, 1, &lun);
    scan();
    assert_string_equal(lun_of(name_a, 1).problem, "");
    free(path);
}

static void several_portals_of_one_system_give_each_lun_once(void **state)
{
    char *path = add_portal(portal_address(), NULL);
    struct access_point_row row;
    char text[64];

    (void)state;
    access_point_of(&fixture, path, &row);
    snprintf(text, sizeof(text), "/systems/%s", row.system_id);
    char second[64];

    snprintf(second, sizeof(second), "127.1:%u", tgtd_port(tgtd)); /* the same by another name */
    char *other = add_portal(second, text);

    scan();
    assert_int_equal(rows_of(&fixture, &volume_table), 4);
    assert_int_equal(rows_of(&fixture, &access_point_table), 2);
    free(path);
    free(other);
}

static void arrays_with_the_same_names_are_told_apart(void **state)
{
    struct tgtd *twin = tgtd_start();
    struct tgtd_lun lun = {.lun = 1, .file = "a1", .size_bytes = 64 * MIB};
    char text[64];
    struct condition where[] = {WHERE_TEXT("element_name", "array-a-lun1-2"), WHERE_END};
    struct volume_row row;

    (void)state;
    tgtd_target(twin, 1, name_a);
    tgtd_lun(twin, 1, &lun);
    snprintf(text, sizeof(text), "127.0.0.1:%u", tgtd_port(twin));
    char *path = add_portal(portal_address(), NULL);
    char *twin_path = add_portal(text, NULL);

    scan();
    assert_int_equal(rows_of(&fixture, &volume_table), 5);
    assert_int_equal(table_find(fixture.reader, &volume_table, where, &row), 0);
    assert_string_equal(row.iqn, name_a);
    free(path);
    free(twin_path);
    tgtd_stop(twin);
}

/* ---- targets that do not answer ---- */

static void silence_ends_in_timeout(void **state)
{
    struct test_call *test;

    (void)state;
    fixture_stop(&fixture);
    fixture.options.probe_timeout_ms = 300;
    fixture_start(&fixture);
    tgtd_freeze(tgtd);
    test = entity(url_of(portal_address(), name_a, 1));
    assert_failed(test, ERR_TIMEOUT, "ReplicationEntity.EntityID");
    test_call_free(test);
    char *path = add_portal(portal_address(), NULL);

    test = scan_new_call();
    assert_failed(test, ERR_REMOTE_UNREACHABLE, NULL);
    test_call_free(test);
    tgtd_thaw(tgtd);
    free(path);
}

static void stopping_does_not_wait_for_the_network(void **state)
{
    struct test_call *tests[3];
    struct timespec pause = {.tv_nsec = 100000000};
    struct timespec before;
    struct timespec after;

    (void)state;
    fixture_stop(&fixture);
    fixture.options.probe_timeout_ms = 60000;
    fixture.options.reach_interval_ms = 10;
    fixture_start(&fixture);
    tgtd_freeze(tgtd);
    char *path = add_portal(portal_address(), NULL);

    tests[0] = entity(url_of(portal_address(), name_a, 1));
    tests[1] = scan_new_call();
    tests[2] = entity("iscsi://no-such-array.invalid/iqn.2024-01.example:x/1");
    for (unsigned i = 0; i < 3; i++) {
        test_call_submit(tests[i]);
    }
    nanosleep(&pause, NULL);
    clock_gettime(CLOCK_MONOTONIC, &before);
    fixture_stop(&fixture);
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_true(after.tv_sec - before.tv_sec < 3);
    for (unsigned i = 0; i < 3; i++) {
        test_call_wait(tests[i]);
        assert_true(tests[i]->call->result < 0);
        test_call_free(tests[i]);
    }
    tgtd_thaw(tgtd);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVICE(a_scan_makes_luns_volumes),
        WITH_SERVICE(filters_narrow_a_scan),
        WITH_SERVICE(bad_scans_are_refused),
        WITH_SERVICE(unreachable_portals_are_named),
        WITH_SERVICE(names_that_lead_to_refused_addresses_are_not_dialled),
        WITH_SERVICE(secrets_open_what_is_closed),
        WITH_SERVICE(what_is_gone_has_a_problem_until_it_is_back),
        WITH_SERVICE(several_portals_of_one_system_give_each_lun_once),
        WITH_SERVICE(arrays_with_the_same_names_are_told_apart),
        WITH_SERVICE(silence_ends_in_timeout),
        WITH_SERVICE(stopping_does_not_wait_for_the_network),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
