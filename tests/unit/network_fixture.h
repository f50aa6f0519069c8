// SPDX-License-Identifier: Apache-2.0
/*
 * A service with no face of its own, to which portals and secrets are added by calls.
 *
 * Thread:    the test's.
 * Ownership: WITH_SERVICE() starts and ends the service; paths are the caller's to free.
 * Errors:    a failure fails the test.
 */
#ifndef TESTS_UNIT_NETWORK_FIXTURE_H
#define TESTS_UNIT_NETWORK_FIXTURE_H

#include "tests/unit/testing.h"

#include <string.h>

#include "tests/unit/service_fixture.h"

static const char target_name[] = "iqn.2024-01.example:t1";

static struct service_fixture fixture;

static inline int start(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture_start(&fixture);
    return 0;
}

static inline int stop(void **state)
{
    (void)state;
    fixture_destroy(&fixture);
    return 0;
}

#define WITH_SERVICE(test) cmocka_unit_test_setup_teardown(test, start, stop)

static inline struct test_call *add_portal(const char *access_info)
{
    struct test_call *test = test_call_new(&fixture, &replication_service, "AddServiceAccessPoint");

    arg_text(test, "ServiceAccessPoint.AccessInfo", access_info);
    return test;
}

static inline char *portal_added(const char *access_info)
{
    struct test_call *test = add_portal(access_info);

    assert_done(test);
    char *path = strdup(out_of(test, "ServiceAccessPointPath"));

    test_call_free(test);
    return path;
}

static inline struct test_call *add_secret(const char *path, const char *protocol, const char *user,
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

static inline void secret_added(const char *path, const char *protocol, const char *user,
                                const char *secret)
{
    struct test_call *test = add_secret(path, protocol, user, secret);

    assert_done(test);
    assert_null(out_of(test, "SharedSecretPath"));
    test_call_free(test);
}

#endif
