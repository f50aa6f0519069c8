// SPDX-License-Identifier: Apache-2.0
/*
 * A service without its HTTP face: control on a store in a directory of its own, and calls made by hand.
 *
 * Thread:    the test's; calls run on control while the test waits.
 * Ownership: fixture_stop() ends everything; test_call_free() for each call.
 * Errors:    a failure fails the test.
 */
#ifndef TESTS_UNIT_SERVICE_FIXTURE_H
#define TESTS_UNIT_SERVICE_FIXTURE_H

#include <pthread.h>

#include "service/control.h"
#include "service/services.h"
#include "store/replica.h"
#include "store/system.h"
#include "store/volume.h"

struct service_fixture {
    char dir[64];
    struct control_options options;
    struct control *control;
    struct db *reader;
};

/* Options of tests: loopback may be dialled, nobody is asked whether he is there. */
void fixture_init(struct service_fixture *fixture);
void fixture_start(struct service_fixture *fixture);
void fixture_stop(struct service_fixture *fixture);    /* may be started again */
void fixture_destroy(struct service_fixture *fixture); /* stopped or not */

struct test_call {
    struct call *call;
    struct service_fixture *fixture;
    pthread_mutex_t lock;
    pthread_cond_t answered_cond;
    bool answered;
};

struct test_call *test_call_new(struct service_fixture *fixture, const struct service *service,
                                const char *method);
struct test_call *test_delete_new(struct service_fixture *fixture, const struct service *methods,
                                  const char *id);
void test_call_free(struct test_call *test);
/* Arguments; of embedded instances as "Instance.Member" with the class from the table. */
void arg_text(struct test_call *test, const char *name, const char *text);
void arg_number(struct test_call *test, const char *name, uint64_t number);
void arg_array(struct test_call *test, const char *name);                  /* present, empty */
void arg_item(struct test_call *test, const char *name, const char *text); /* NULL: null */
void test_call_submit(struct test_call *test);
void test_call_wait(struct test_call *test);
/* Submit and wait. The ReturnValue: of the error, UINT32_MAX when the error has none. */
uint32_t test_call_run(struct test_call *test);
const char *out_of(struct test_call *test, const char *name); /* NULL: null */
size_t out_count(struct test_call *test, const char *name);
const char *out_item(struct test_call *test, const char *name, size_t i);
/* The part behind the last slash. */
const char *id_of(const char *path);

/* Checks a failed call: code, parameter and what it is blocked on (NULL: not looked at). */
#define assert_failed(test, expected, name)                                                        \
    test_assert_failed((test), (expected), (name), __FILE__, __LINE__)
void test_assert_failed(struct test_call *test, enum error_code code, const char *parameter,
                        const char *file, int line);
/* Submits, waits, checks that it is done (0), or prints why not. */
#define assert_done(test) test_assert_done((test), __FILE__, __LINE__)
void test_assert_done(struct test_call *test, const char *file, int line);

/* Runs fn in a transaction on control; its result. ret_error NULL: it must not fail. */
int fixture_do(struct service_fixture *fixture, int (*fn)(struct call *call, void *arg), void *arg,
               struct error *ret_error);

/* Rows, by id or path; the test fails when there is none. */
void volume_of(struct service_fixture *fixture, const char *path, struct volume_row *ret_row);
void access_point_of(struct service_fixture *fixture, const char *path,
                     struct access_point_row *ret_row);
bool row_exists(struct service_fixture *fixture, const struct table *table, const char *path);
uint64_t rows_of(struct service_fixture *fixture, const struct table *table);
/* A row made by hand. */
void row_insert(struct service_fixture *fixture, const struct table *table, void *row);
void row_update(struct service_fixture *fixture, const struct table *table, const void *row);

#endif
