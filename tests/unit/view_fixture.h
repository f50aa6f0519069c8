// SPDX-License-Identifier: Apache-2.0
/*
 * What the tests of views stand on: a real store, rows to put there, and what is shown as JSON.
 *
 * The functions of control and of what is open that views call are replaced (ld --wrap): a control of its own would start to work on the
 * jobs that stand in the records.
 *
 * Thread:    the test's.
 * Ownership: cJSON_Delete() what is returned.
 * Errors:    a failure fails the test.
 */
#ifndef TESTS_UNIT_VIEW_FIXTURE_H
#define TESTS_UNIT_VIEW_FIXTURE_H

#include "tests/unit/testing.h"

#include <cjson/cJSON.h>

#include "service/jobs.h"
#include "service/view.h"
#include "tests/unit/store_fixture.h"

enum { MIB = 1 << 20 };
static const uint64_t now_ms = 1750000000000;

extern struct fixture fixture;
extern struct live *live;
extern bool lasting; /* the last object */

int setup(void **state);
int teardown(void **state);

/* ---- rows ---- */

void insert(const struct table *table, void *row);
void add_system(const char *id);
void add_access_point(const char *id, const char *system, const char *address, bool probed,
                      bool reachable);
struct volume_row volume_of(const char *id);
void add_volume(const char *id);
void add_peer(void);
struct sync_row sync_of(const char *id, const char *source, const char *target);
void add_sync(const char *id, const char *source, const char *target);
struct job_row job_of(const char *id, uint32_t state);
struct copy_row copy_of(const char *id, const char *job, uint32_t state);

/* ---- objects and lists as JSON ---- */

cJSON *object(enum collection collection, const char *id);
int list_error(enum collection collection, const struct view_query *query, struct error *error);
cJSON *list(enum collection collection, const struct view_query *query, struct view_page *ret_page);
const cJSON *member(const cJSON *json, const char *name);
const char *text_of(const cJSON *json, const char *name);
/* Small ones only: cJSON has doubles. */
uint64_t number_of(const cJSON *json, const char *name);
bool bool_of(const cJSON *json, const char *name);
void assert_null_member(const cJSON *json, const char *name);
/* "2 6": an array of numbers. */
void assert_numbers(const cJSON *json, const char *name, const char *wanted);
/* "a b": the last parts of an array of paths. */
void assert_ids(const cJSON *array, const char *wanted);
/* The ids that a list gives for one filter. */
void assert_filtered(enum collection collection, const char *name, const char *value,
                     const char *wanted);

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

#endif
