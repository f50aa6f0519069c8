// SPDX-License-Identifier: Apache-2.0
/*
 * A service that looks for LUNs at tgtd, with two targets, and at the target that misbehaves.
 *
 * Thread:    the test's.
 * Ownership: WITH_SERVICE() starts and ends the service and tgtd; paths are the caller's to free.
 * Errors:    a failure fails the test.
 */
#ifndef TESTS_UNIT_DISCOVERY_FIXTURE_H
#define TESTS_UNIT_DISCOVERY_FIXTURE_H

#include "tests/unit/testing.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "service/enums.h"
#include "tests/tools/fake_target.h"
#include "tests/tools/tgtd.h"
#include "tests/unit/service_fixture.h"

enum { MIB = 1 << 20 };

static struct service_fixture fixture;
static struct tgtd *tgtd;

static const char name_a[] = "iqn.2024-01.example:array-a";
static const char name_b[] = "iqn.2024-01.example:array-b";
static const char fake_name[] = "iqn.2026-01.test:fake";

static inline int start(void **state)
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

static inline int stop(void **state)
{
    (void)state;
    fixture_destroy(&fixture);
    tgtd_stop(tgtd);
    return 0;
}

#define WITH_SERVICE(test) cmocka_unit_test_setup_teardown(test, start, stop)

static inline char *add_portal(const char *access_info, const char *system)
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

static inline char *portal_address(void)
{
    static char text[64];

    snprintf(text, sizeof(text), "127.0.0.1:%u", tgtd_port(tgtd));
    return text;
}

static inline struct test_call *scan_new_call(void)
{
    return test_call_new(&fixture, &storage_configuration_service, "ScsiScan");
}

static inline void scan(void)
{
    struct test_call *test = scan_new_call();

    assert_done(test);
    assert_null(out_of(test, "Job"));
    test_call_free(test);
}

/* The volume of a LUN; kind 0 when there is none. */
static inline struct volume_row lun_of(const char *iqn, uint64_t lun)
{
    struct condition where[] = {WHERE_TEXT("iqn", iqn), WHERE_NUM("lun", lun), WHERE_END};
    struct volume_row row = {0};

    if (table_find(fixture.reader, &volume_table, where, &row) < 0) {
        row.kind = 0;
    }
    return row;
}

static inline struct test_call *entity(const char *url)
{
    struct test_call *test = test_call_new(&fixture, &replication_service, "AddReplicationEntity");

    arg_number(test, "ReplicationEntity.Type", 8);
    arg_text(test, "ReplicationEntity.EntityID", url);
    return test;
}

static inline void entity_added(const char *url, char ret_path[PATH_SIZE])
{
    struct test_call *test = entity(url);

    assert_done(test);
    snprintf(ret_path, PATH_SIZE, "%s", out_of(test, "ReplicationEntityPath"));
    test_call_free(test);
}

static inline const char *url_of(const char *address, const char *iqn, unsigned lun)
{
    static char urls[4][400];
    static unsigned next;
    char *url = urls[next++ % 4];

    snprintf(url, sizeof(urls[0]), "iscsi://%s/%s/%u", address, iqn, lun);
    return url;
}

static inline struct sync_row relationship(const char *source_id, const char *target_id)
{
    struct sync_row row = {.sync_type = SYNC_CLONE, .copy_state = STATE_SYNCHRONIZED};

    snprintf(row.source_id, sizeof(row.source_id), "%s", source_id);
    snprintf(row.target_id, sizeof(row.target_id), "%s", target_id);
    row_insert(&fixture, &sync_table, &row);
    return row;
}

static inline void wait_until(bool (*so)(void *arg), void *arg)
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

static inline struct fake_target *fake_started(char *ret_text, size_t size)
{
    struct fake_target *fake = fake_target_start();
    struct sockaddr_storage address;
    char text[SOCKADDR_TEXT_LEN];

    fake_target_address(fake, &address);
    sockaddr_format(&address, text);
    snprintf(ret_text, size, "%s", text);
    return fake;
}

static inline void add_again(const char *url, const char *path)
{
    struct test_call *test = entity(url);

    assert_done(test);
    assert_string_equal(out_of(test, "ReplicationEntityPath"), path);
    test_call_free(test);
}

#endif
