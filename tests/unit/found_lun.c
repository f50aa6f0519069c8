// SPDX-License-Identifier: Apache-2.0
/* LUNs that are found again: the same, another one, smaller, behind another portal. */
#include "tests/unit/discovery_fixture.h"

static bool has_problem(void *arg)
{
    struct volume_row row;

    volume_of(&fixture, arg, &row);
    return row.problem[0] != '\0';
}

/* What a volume refuses as source and as target. */
static void assert_not_usable(const char *path, const char *other)
{
    for (int as_target = 0; as_target <= 1; as_target++) {
        struct test_call *test =
            test_call_new(&fixture, &replication_service, "CreateElementReplica");

        arg_number(test, "SyncType", SYNC_CLONE);
        arg_text(test, "SourceElement", as_target ? other : path);
        arg_text(test, "TargetElement", as_target ? path : other);
        assert_failed(test, ERR_LUN_CHANGED, as_target ? "TargetElement" : "SourceElement");
        test_call_free(test);
    }
}

static void a_scan_makes_no_volume_another_lun(void **state)
{
    char address[SOCKADDR_TEXT_LEN];
    struct fake_target *fake = fake_started(address, sizeof(address));
    const char *url = url_of(address, fake_name, 0);
    struct test_call *test;
    struct volume_row before;
    struct volume_row row;
    char other[PATH_SIZE];
    char path[PATH_SIZE];

    (void)state;
    entity_added(url_of(portal_address(), name_a, 1), other);
    entity_added(url, path);
    volume_of(&fixture, path, &before);

    /* Nothing uses it, and another LUN is there now: also the second scan says so. */
    fake_target_identity(fake, 55);
    for (int i = 0; i < 2; i++) {
        test = scan_new_call();
        arg_item(test, "Targets", fake_name);
        assert_done(test);
        test_call_free(test);
        volume_of(&fixture, path, &row);
        assert_string_equal(row.identity, before.identity);
        assert_non_null(strstr(row.problem, "another LUN"));
    }
    assert_not_usable(path, other);

    /* The right one is back. */
    fake_target_identity(fake, 1);
    scan();
    volume_of(&fixture, path, &row);
    assert_string_equal(row.problem, "");

    /* The new one is meant. */
    fake_target_identity(fake, 55);
    scan();
    assert_not_usable(path, other);
    add_again(url, path);
    volume_of(&fixture, path, &row);
    assert_string_equal(row.problem, "");
    assert_string_not_equal(row.identity, before.identity);

    /* Or: forgotten, and found again. */
    fake_target_identity(fake, 56);
    scan();
    assert_not_usable(path, other);
    test = test_delete_new(&fixture, &volume_methods, id_of(path));
    assert_done(test);
    test_call_free(test);
    scan();
    assert_string_equal(lun_of(fake_name, 0).problem, "");
    assert_int_equal(lun_of(fake_name, 0).kind, VOLUME_REMOTE);
    fake_target_stop(fake);
}

static void an_unused_lun_that_is_named_again_is_taken_as_what_it_is_now(void **state)
{
    char address[SOCKADDR_TEXT_LEN];
    struct fake_target *fake = fake_started(address, sizeof(address));
    const char *url = url_of(address, fake_name, 0);
    struct volume_row row;
    char path[PATH_SIZE];
    char identity[NAME_SIZE];

    (void)state;
    entity_added(url, path);
    volume_of(&fixture, path, &row);
    assert_int_equal(row.size_bytes, FAKE_BYTES);
    memcpy(identity, row.identity, sizeof(identity));

    fake_target_blocks(fake, FAKE_BYTES / 512 / 2);
    fake_target_identity(fake, 77);
    add_again(url, path);
    volume_of(&fixture, path, &row);
    assert_int_equal(row.size_bytes, FAKE_BYTES / 2);
    assert_string_not_equal(row.identity, identity);
    assert_string_equal(row.problem, "");
    fake_target_stop(fake);
}

static void a_used_lun_is_not_replaced(void **state)
{
    char address[SOCKADDR_TEXT_LEN];
    struct fake_target *fake = fake_started(address, sizeof(address));
    const char *url = url_of(address, fake_name, 0);
    struct test_call *test;
    struct volume_row before;
    struct volume_row row;
    char other[PATH_SIZE];
    char path[PATH_SIZE];

    (void)state;
    entity_added(url_of(portal_address(), name_a, 1), other);
    entity_added(url, path);
    volume_of(&fixture, path, &before);
    relationship(id_of(path), id_of(other));

    /* Larger is the same. */
    fake_target_blocks(fake, FAKE_BYTES / 512 * 2);
    add_again(url, path);
    volume_of(&fixture, path, &row);
    assert_int_equal(row.size_bytes, FAKE_BYTES * 2);
    assert_string_equal(row.problem, "");

    /* Smaller is not. */
    fake_target_blocks(fake, FAKE_BYTES / 512);
    test = entity(url);
    assert_failed(test, ERR_LUN_CHANGED, "ReplicationEntity.EntityID");
    test_call_free(test);
    wait_until(has_problem, path);
    volume_of(&fixture, path, &row);
    assert_int_equal(row.size_bytes, FAKE_BYTES * 2);
    assert_non_null(strstr(row.problem, "shrunk"));
    fake_target_blocks(fake, FAKE_BYTES / 512 * 2);
    add_again(url, path);
    volume_of(&fixture, path, &row);
    assert_string_equal(row.problem, "");

    /* Another one is not. */
    fake_target_identity(fake, 99);
    test = entity(url);
    assert_failed(test, ERR_LUN_CHANGED, "ReplicationEntity.EntityID");
    test_call_free(test);
    wait_until(has_problem, path);
    volume_of(&fixture, path, &row);
    assert_string_equal(row.identity, before.identity);
    assert_non_null(strstr(row.problem, "another LUN"));
    fake_target_identity(fake, 1);
    add_again(url, path);
    volume_of(&fixture, path, &row);
    assert_string_equal(row.problem, "");
    fake_target_stop(fake);
}

static void a_member_of_a_pool_is_not_replaced_by_a_scan(void **state)
{
    char *path = add_portal(portal_address(), NULL);
    struct tgtd_lun smaller = {.lun = 1, .file = "small", .size_bytes = 4 * MIB};
    struct test_call *test;
    struct volume_row row;
    char volume[PATH_SIZE];

    (void)state;
    scan();
    row = lun_of(name_a, 1);
    snprintf(volume, sizeof(volume), "/volumes/%s", row.head.id);
    test = test_call_new(&fixture, &storage_configuration_service, "CreateOrModifyStoragePool");
    arg_item(test, "InExtents", volume);
    assert_done(test);
    test_call_free(test);
    tgtd_lun_remove(tgtd, 1, 1);
    tgtd_lun(tgtd, 1, &smaller);
    tgtd_lun_remove(tgtd, 2, 1);
    smaller.file = "small2";
    tgtd_lun(tgtd, 2, &smaller);
    scan();
    row = lun_of(name_a, 1);
    assert_int_equal(row.size_bytes, 8 * MIB);
    assert_non_null(strstr(row.problem, "shrunk"));
    row = lun_of(name_b, 1); /* in no pool */
    assert_int_equal(row.size_bytes, 4 * MIB);
    assert_string_equal(row.problem, "");
    free(path);
}

static void one_lun_behind_two_portals_is_one_volume(void **state)
{
    char address[SOCKADDR_TEXT_LEN];
    struct fake_target *fake = fake_started(address, sizeof(address));
    char path[PATH_SIZE];
    char other[SOCKADDR_TEXT_LEN];

    (void)state;
    entity_added(url_of(address, fake_name, 0), path);
    snprintf(other, sizeof(other), "127.2%s", strrchr(address, ':'));
    add_again(url_of(other, fake_name, 0), path);
    assert_int_equal(rows_of(&fixture, &volume_table), 1);
    assert_int_equal(rows_of(&fixture, &access_point_table), 1);
    assert_int_equal(rows_of(&fixture, &system_table), 2);
    fake_target_stop(fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVICE(a_scan_makes_no_volume_another_lun),
        WITH_SERVICE(an_unused_lun_that_is_named_again_is_taken_as_what_it_is_now),
        WITH_SERVICE(a_used_lun_is_not_replaced),
        WITH_SERVICE(a_member_of_a_pool_is_not_replaced_by_a_scan),
        WITH_SERVICE(one_lun_behind_two_portals_is_one_volume),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
