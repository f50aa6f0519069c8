// SPDX-License-Identifier: Apache-2.0
/* AddReplicationEntity, against tgtd and the target that misbehaves. */
#include "tests/unit/discovery_fixture.h"

static void an_entity_is_a_volume_at_once(void **state)
{
    const char *url = url_of(portal_address(), name_a, 300);
    struct test_call *test = entity(url);
    struct volume_row row;
    struct access_point_row portal;
    char path[PATH_SIZE];

    (void)state;
    arg_text(test, "ReplicationEntity.ElementName", "orders");
    arg_text(test, "ReplicationEntity.InstanceID", "ignored");
    arg_text(test, "ReplicationEntity.OtherTypeDescription", "ignored");
    arg_number(test, "Persistent", 1);
    assert_done(test);
    snprintf(path, sizeof(path), "%s", out_of(test, "ReplicationEntityPath"));
    test_call_free(test);
    assert_int_equal(strncmp(path, "/volumes/", 9), 0);
    volume_of(&fixture, path, &row);
    assert_string_equal(row.element_name, "orders");
    assert_int_equal(row.size_bytes, 4 * MIB);
    assert_int_equal(row.lun, 300);
    assert_true(row.persistent);
    assert_int_equal(table_get(fixture.reader, &access_point_table, row.access_point_id, &portal),
                     0);
    assert_string_equal(portal.address, portal_address());
    assert_false(portal.registered);
    assert_true(portal.reachable);
    assert_string_equal(portal.system_id, row.system_id);

    add_again(url, path);
    assert_int_equal(rows_of(&fixture, &volume_table), 1);
    assert_int_equal(rows_of(&fixture, &access_point_table), 1);

    /* Registered now, the portal stays when the volume goes. */
    char *portal_path = add_portal(portal_address(), NULL);

    assert_string_equal(id_of(portal_path), portal.head.id);
    test = test_delete_new(&fixture, &volume_methods, id_of(path));
    assert_done(test);
    test_call_free(test);
    assert_true(row_exists(&fixture, &access_point_table, portal_path));
    free(portal_path);
}

static void a_known_lun_takes_the_name_that_is_given(void **state)
{
    const char *url = url_of(portal_address(), name_a, 1);
    struct test_call *test;
    struct volume_row row;
    char path[PATH_SIZE];

    (void)state;
    entity_added(url, path);
    test = entity(url);
    arg_text(test, "ReplicationEntity.ElementName", "orders, weekly");
    assert_done(test);
    assert_string_equal(out_of(test, "ReplicationEntityPath"), path);
    test_call_free(test);
    volume_of(&fixture, path, &row);
    assert_string_equal(row.element_name, "orders, weekly");
    /* Without a name it keeps the one it has. */
    add_again(url, path);
    volume_of(&fixture, path, &row);
    assert_string_equal(row.element_name, "orders, weekly");
}

static void an_entity_that_is_not_to_stay_goes_with_its_use(void **state)
{
    struct test_call *test = entity(url_of(portal_address(), name_a, 1));
    char transient[PATH_SIZE];
    char kept[PATH_SIZE];
    struct volume_row row;

    (void)state;
    arg_number(test, "Persistent", 0);
    assert_done(test);
    snprintf(transient, sizeof(transient), "%s", out_of(test, "ReplicationEntityPath"));
    test_call_free(test);
    volume_of(&fixture, transient, &row);
    assert_false(row.persistent);
    entity_added(url_of(portal_address(), name_b, 1), kept);
    relationship(id_of(transient), id_of(kept));
    test = test_delete_new(&fixture, &volume_methods, id_of(kept));
    assert_done(test);
    test_call_free(test);
    assert_int_equal(rows_of(&fixture, &volume_table), 0);
    assert_int_equal(rows_of(&fixture, &access_point_table), 0);
    assert_int_equal(rows_of(&fixture, &system_table), 1);

    /* Once asked for for good, it stays for good. */
    test = entity(url_of(portal_address(), name_a, 1));
    arg_number(test, "Persistent", 0);
    assert_done(test);
    test_call_free(test);
    test = entity(url_of(portal_address(), name_a, 1));
    assert_done(test);
    test_call_free(test);
    assert_true(lun_of(name_a, 1).persistent);
}

static void bad_entities_are_refused(void **state)
{
    struct test_call *test;
    static const char *const urls[] = {
        "iscsi://127.0.0.1/iqn.x",
        "http://127.0.0.1/iqn.x/1",
        "iscsi://me%open-sesame@127.0.0.1/iqn.2024-01.example:x/1",
        "iscsi://me:open-sesame@127.0.0.1/iqn.2024-01.example:x/1",
        "",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        test = entity(urls[i]);
        assert_failed(test, ERR_INVALID_PARAMETER, "ReplicationEntity.EntityID");
        assert_null(strstr(test->call->error.detail, "sesame"));
        test_call_free(test);
    }
    test = entity(url_of("169.254.169.254:80", name_a, 1));
    assert_failed(test, ERR_ADDRESS_NOT_ALLOWED, "ReplicationEntity.EntityID");
    test_call_free(test);
    test = entity(url_of("127.0.0.1:8080", name_a, 1));
    assert_failed(test, ERR_ADDRESS_NOT_ALLOWED, "ReplicationEntity.EntityID");
    test_call_free(test);
    test = entity(url_of("127.0.0.1:1", name_a, 1));
    assert_failed(test, ERR_REMOTE_UNREACHABLE, "ReplicationEntity.EntityID");
    test_call_free(test);
    test = entity(url_of(portal_address(), "iqn.2024-01.example:nobody", 1));
    assert_failed(test, ERR_NO_SUCH_OBJECT, "ReplicationEntity.EntityID");
    test_call_free(test);
    test = entity(url_of(portal_address(), name_a, 77));
    assert_failed(test, ERR_NO_SUCH_OBJECT, "ReplicationEntity.EntityID");
    test_call_free(test);
    test = entity(url_of(portal_address(), name_a, 0));
    assert_failed(test, ERR_INCOMPATIBLE, "ReplicationEntity.EntityID");
    test_call_free(test);
    test = entity(url_of(portal_address(), name_a, 1));
    arg_number(test, "ReplicationEntity.Type", 7);
    assert_failed(test, ERR_NOT_SUPPORTED, "ReplicationEntity.Type");
    test_call_free(test);
    test = entity(url_of(portal_address(), name_a, 1));
    arg_text(test, "ReplicationEntity.ElementName", "");
    assert_failed(test, ERR_INVALID_PARAMETER, "ReplicationEntity.ElementName");
    test_call_free(test);
    test = entity(url_of(portal_address(), name_a, 1));
    arg_text(test, "InstanceNamespace", "root");
    assert_failed(test, ERR_INVALID_PARAMETER, "InstanceNamespace");
    test_call_free(test);
    test = test_call_new(&fixture, &replication_service, "AddReplicationEntity");
    arg_number(test, "ReplicationEntity.Type", 8);
    assert_failed(test, ERR_MISSING_PARAMETER, "ReplicationEntity.EntityID");
    test_call_free(test);
    test = test_call_new(&fixture, &replication_service, "AddReplicationEntity");
    arg_text(test, "ReplicationEntity.EntityID", url_of(portal_address(), name_a, 1));
    assert_failed(test, ERR_MISSING_PARAMETER, "ReplicationEntity.Type");
    test_call_free(test);
    assert_int_equal(rows_of(&fixture, &volume_table), 0);
    assert_int_equal(rows_of(&fixture, &access_point_table), 0);
    assert_int_equal(rows_of(&fixture, &system_table), 1);
}

static void many_at_once_make_one_volume(void **state)
{
    enum { CALLS = 24 };
    struct test_call *tests[CALLS];
    const char *path = NULL;

    (void)state;
    for (unsigned i = 0; i < CALLS; i++) {
        tests[i] = entity(url_of(portal_address(), i % 3 == 0 ? name_b : name_a, 1));
        test_call_submit(tests[i]);
    }
    for (unsigned i = 0; i < CALLS; i++) {
        test_call_wait(tests[i]);
        assert_int_equal(tests[i]->call->result, 0);
    }
    for (unsigned i = 1; i < CALLS; i++) {
        if (i % 3 != 0) {
            path = path == NULL ? out_of(tests[i], "ReplicationEntityPath") : path;
            assert_string_equal(out_of(tests[i], "ReplicationEntityPath"), path);
        }
    }
    for (unsigned i = 0; i < CALLS; i++) {
        test_call_free(tests[i]);
    }
    assert_int_equal(rows_of(&fixture, &volume_table), 2);
    assert_int_equal(rows_of(&fixture, &access_point_table), 1);
    assert_int_equal(rows_of(&fixture, &system_table), 2);
}

static void an_idempotency_key_asks_the_network_once(void **state)
{
    struct test_call *tests[2];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        tests[i] = entity(url_of(portal_address(), name_a, 1));
        strcpy(tests[i]->call->idempotency_key, "once");
        test_call_submit(tests[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
        test_call_wait(tests[i]);
        assert_int_equal(tests[i]->call->answer.status, 200);
    }
    assert_int_equal(control_stats(fixture.control).calls, 1);
    for (unsigned i = 0; i < 2; i++) {
        test_call_free(tests[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVICE(an_entity_is_a_volume_at_once),
        WITH_SERVICE(a_known_lun_takes_the_name_that_is_given),
        WITH_SERVICE(an_entity_that_is_not_to_stay_goes_with_its_use),
        WITH_SERVICE(bad_entities_are_refused),
        WITH_SERVICE(many_at_once_make_one_volume),
        WITH_SERVICE(an_idempotency_key_asks_the_network_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
