// SPDX-License-Identifier: Apache-2.0
/* ScsiScan and AddReplicationEntity, against tgtd and the target that misbehaves. */
#include "tests/unit/testing.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "service/enums.h"
#include "service/jobs.h"
#include "tests/tools/fake_target.h"
#include "tests/tools/tgtd.h"
#include "tests/unit/service_fixture.h"

enum { MIB = 1 << 20 };

static struct service_fixture fixture;
static struct tgtd *tgtd;

static const char name_a[] = "iqn.2024-01.example:array-a";
static const char name_b[] = "iqn.2024-01.example:array-b";

static int start(void **state)
{
    static const struct tgtd_lun luns[] = {
        {.lun = 1, .file = "a1", .size_bytes = 8 * MIB, .thin = true},
        {.lun = 2, .file = "a2", .size_bytes = 16 * MIB, .block_bytes = 4096},
        {.lun = 300, .file = "a300", .size_bytes = 4 * MIB, .read_only = true},
    };
    static const struct tgtd_lun lun_b = {.lun = 1, .file = "b1", .size_bytes = 32 * MIB};

    (void)state;
    fixture_init(&fixture);
    fixture_start(&fixture);
    tgtd = tgtd_start();
    tgtd_target(tgtd, 1, name_a);
    for (size_t i = 0; i < sizeof(luns) / sizeof(luns[0]); i++) {
        tgtd_lun(tgtd, 1, &luns[i]);
    }
    tgtd_target(tgtd, 2, name_b);
    tgtd_lun(tgtd, 2, &lun_b);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_destroy(&fixture);
    tgtd_stop(tgtd);
    return 0;
}

static char *add_portal(const char *access_info, const char *system)
{
    struct test_call *test = test_call_new(&fixture, &replication_service, "AddServiceAccessPoint");

    arg_text(test, "ServiceAccessPoint.AccessInfo", access_info);
    if (system != NULL) {
        arg_text(test, "ServiceAccessPoint.SystemName", system);
    }
    assert_done(test);
    char *path = strdup(out_of(test, "ServiceAccessPointPath"));

    test_call_free(test);
    return path;
}

static char *portal_address(void)
{
    static char text[64];

    snprintf(text, sizeof(text), "127.0.0.1:%u", tgtd_port(tgtd));
    return text;
}

static struct test_call *scan_new_call(void)
{
    return test_call_new(&fixture, &storage_configuration_service, "ScsiScan");
}

static void scan(void)
{
    struct test_call *test = scan_new_call();

    assert_done(test);
    assert_null(out_of(test, "Job"));
    test_call_free(test);
}

/* The volume of a LUN; kind 0 when there is none. */
static struct volume_row lun_of(const char *iqn, uint64_t lun)
{
    struct condition where[] = {WHERE_TEXT("iqn", iqn), WHERE_NUM("lun", lun), WHERE_END};
    struct volume_row row = {0};

    if (table_find(fixture.reader, &volume_table, where, &row) < 0) {
        row.kind = 0;
    }
    return row;
}

static struct test_call *entity(const char *url)
{
    struct test_call *test = test_call_new(&fixture, &replication_service, "AddReplicationEntity");

    arg_number(test, "ReplicationEntity.Type", 8);
    arg_text(test, "ReplicationEntity.EntityID", url);
    return test;
}

static const char *url_of(const char *address, const char *iqn, unsigned lun)
{
    static char urls[4][400];
    static unsigned next;
    char *url = urls[next++ % 4];

    snprintf(url, sizeof(urls[0]), "iscsi://%s/%s/%u", address, iqn, lun);
    return url;
}

static struct sync_row relationship(const char *source_id, const char *target_id)
{
    struct sync_row row = {.sync_type = SYNC_CLONE, .copy_state = STATE_SYNCHRONIZED};

    snprintf(row.source_id, sizeof(row.source_id), "%s", source_id);
    snprintf(row.target_id, sizeof(row.target_id), "%s", target_id);
    row_insert(&fixture, &sync_table, &row);
    return row;
}

/* ---- ScsiScan ---- */

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

static void wait_until(bool (*so)(void *arg), void *arg)
{
    for (unsigned i = 0; i < 400; i++) {
        struct timespec pause = {.tv_nsec = 10000000};

        if (so(arg)) {
            return;
        }
        nanosleep(&pause, NULL);
    }
    fail_msg("it did not become so");
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

/* ---- LUNs that change ---- */

static const char fake_name[] = "iqn.2026-01.test:fake";

static struct fake_target *fake_started(char *ret_text, size_t size)
{
    struct fake_target *fake = fake_target_start();
    struct sockaddr_storage address;
    char text[SOCKADDR_TEXT_LEN];

    fake_target_address(fake, &address);
    sockaddr_format(&address, text);
    snprintf(ret_text, size, "%s", text);
    return fake;
}

static void add_again(const char *url, const char *path)
{
    struct test_call *test = entity(url);

    assert_done(test);
    assert_string_equal(out_of(test, "ReplicationEntityPath"), path);
    test_call_free(test);
}

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
    struct test_call *test = entity(url_of(portal_address(), name_a, 1));
    struct volume_row before;
    struct volume_row row;
    char other[PATH_SIZE];
    char path[PATH_SIZE];

    (void)state;
    assert_done(test);
    snprintf(other, sizeof(other), "%s", out_of(test, "ReplicationEntityPath"));
    test_call_free(test);
    test = entity(url);
    assert_done(test);
    snprintf(path, sizeof(path), "%s", out_of(test, "ReplicationEntityPath"));
    test_call_free(test);
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
    struct test_call *test = entity(url);
    struct volume_row row;
    char path[PATH_SIZE];
    char identity[NAME_SIZE];

    (void)state;
    assert_done(test);
    snprintf(path, sizeof(path), "%s", out_of(test, "ReplicationEntityPath"));
    test_call_free(test);
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
    struct test_call *test = entity(url_of(portal_address(), name_a, 1));
    struct volume_row before;
    struct volume_row row;
    char other[PATH_SIZE];
    char path[PATH_SIZE];

    (void)state;
    assert_done(test);
    snprintf(other, sizeof(other), "%s", out_of(test, "ReplicationEntityPath"));
    test_call_free(test);
    test = entity(url);
    assert_done(test);
    snprintf(path, sizeof(path), "%s", out_of(test, "ReplicationEntityPath"));
    test_call_free(test);
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
    struct test_call *test = entity(url_of(address, fake_name, 0));
    char path[PATH_SIZE];
    char other[SOCKADDR_TEXT_LEN];

    (void)state;
    assert_done(test);
    snprintf(path, sizeof(path), "%s", out_of(test, "ReplicationEntityPath"));
    test_call_free(test);
    snprintf(other, sizeof(other), "127.2%s", strrchr(address, ':'));
    add_again(url_of(other, fake_name, 0), path);
    assert_int_equal(rows_of(&fixture, &volume_table), 1);
    assert_int_equal(rows_of(&fixture, &access_point_table), 1);
    assert_int_equal(rows_of(&fixture, &system_table), 2);
    fake_target_stop(fake);
}

/* ---- AddReplicationEntity ---- */

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
    struct test_call *test = entity(url);
    struct volume_row row;
    char path[PATH_SIZE];

    (void)state;
    assert_done(test);
    snprintf(path, sizeof(path), "%s", out_of(test, "ReplicationEntityPath"));
    test_call_free(test);
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
    test = entity(url_of(portal_address(), name_b, 1));
    assert_done(test);
    snprintf(kept, sizeof(kept), "%s", out_of(test, "ReplicationEntityPath"));
    test_call_free(test);
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

#define WITH_SERVICE(test) cmocka_unit_test_setup_teardown(test, start, stop)

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
        WITH_SERVICE(a_scan_makes_no_volume_another_lun),
        WITH_SERVICE(an_unused_lun_that_is_named_again_is_taken_as_what_it_is_now),
        WITH_SERVICE(a_known_lun_takes_the_name_that_is_given),
        WITH_SERVICE(a_used_lun_is_not_replaced),
        WITH_SERVICE(a_member_of_a_pool_is_not_replaced_by_a_scan),
        WITH_SERVICE(one_lun_behind_two_portals_is_one_volume),
        WITH_SERVICE(an_entity_is_a_volume_at_once),
        WITH_SERVICE(an_entity_that_is_not_to_stay_goes_with_its_use),
        WITH_SERVICE(bad_entities_are_refused),
        WITH_SERVICE(many_at_once_make_one_volume),
        WITH_SERVICE(an_idempotency_key_asks_the_network_once),
        WITH_SERVICE(silence_ends_in_timeout),
        WITH_SERVICE(stopping_does_not_wait_for_the_network),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
