// SPDX-License-Identifier: Apache-2.0
/*
 * What the tests of store/ share: a data directory of their own, an open writer, and rows filled by
 * column type.
 *
 * Thread:    that of the test.
 * Ownership: fixture_fini() closes and removes everything.
 * Errors:    a failure fails the test.
 */
#ifndef TESTS_STORE_FIXTURE_H
#define TESTS_STORE_FIXTURE_H

#include <stddef.h>

#include "store/pipe.h"
#include "store/cycle.h"
#include "store/export.h"
#include "store/group.h"
#include "store/job.h"
#include "store/replica.h"
#include "store/system.h"
#include "store/table.h"
#include "store/volume.h"

struct fixture {
    char dir[64];
    struct db *db;
};

/* For cmocka: *state is a struct fixture with an open writer. */
int fixture_setup(void **state);
int fixture_teardown(void **state);

void fixture_init(struct fixture *fixture);
void fixture_fini(struct fixture *fixture);
void fixture_open(struct fixture *fixture);
void fixture_close(struct fixture *fixture);
struct db *fixture_reader(struct fixture *fixture);
/* DIR/name, valid until the next call. */
const char *fixture_path(const struct fixture *fixture, const char *name);

/* Every struct table, those that others refer to first. */
extern const struct table *const fixture_tables[];
extern const size_t fixture_n_tables;

#define ROW_MAX 4096 /* no row is larger */

/* The longest texts (all 'x', ids too, so that references hold), the largest numbers, true. */
void row_fill_max(const struct table *table, void *row);
/* Empty texts and zeros, but for references that may not be empty, which are "e" like the row's own
 * id. */
void row_fill_min(const struct table *table, void *row);
/* Does the column refer to a row that must exist? */
bool column_is_reference(const struct table *table, const struct column *column);

/* Puts text into a member, which must be large enough. */
void text_set(char *member, size_t size, const char *text);
#define TEXT_SET(member, text) text_set(member, sizeof(member), text)

#endif
