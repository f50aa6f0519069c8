// SPDX-License-Identifier: Apache-2.0
/*
 * Calls of ReplicationServiceCapabilities over a real store, and rows to ask about.
 *
 * Thread:    the test's.
 * Ownership: one call at a time, which the next one, or the end of the test, frees.
 * Errors:    a failure fails the test.
 */
#ifndef TESTS_UNIT_CAPABILITIES_FIXTURE_H
#define TESTS_UNIT_CAPABILITIES_FIXTURE_H

#include "tests/unit/testing.h"

#include "service/call.h"
#include "tests/unit/store_fixture.h"

extern struct fixture fixture;
extern struct call *call;

int setup(void **state);
int teardown(void **state);

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* ---- calls ---- */

/* A call of that method without arguments; the one before is forgotten. */
void begin(const char *method);
void give(const char *name, uint64_t number);
void give_path(const char *name, const char *path);
void done(void);
void refused(enum error_code code, const char *parameter);
/* "2 3": the numbers of an out parameter. */
void assert_numbers(const char *name, const char *wanted);
uint64_t out_of(const char *name);

/* ---- what there is ---- */

/* Mirrors; snapshots of hosted volumes; clones of and onto anything. */
bool is_made(uint32_t type);
void add_volume(const char *id, const char *system, uint64_t size_bytes, bool read_only);
void add_system(const char *id);
void add_access_point(const char *id, const char *system);
void add_sync(const char *id, const char *source, const char *target, uint32_t copy_state,
              uint32_t copy_type);

#endif
