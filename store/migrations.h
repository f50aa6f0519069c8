// SPDX-License-Identifier: Apache-2.0
/*
 * Inside store/ (and its tests): the steps that bring a file from one schema version to the next.
 *
 * Thread:    that of the writer.
 * Ownership: the steps are constants.
 * Errors:    as in store/store.h; error says which step failed.
 */
#ifndef STORE_MIGRATIONS_H
#define STORE_MIGRATIONS_H

#include <stddef.h>

#include "store/store.h"

/* steps[n] brings version n to version n + 1: SQL texts separated by ';', without transaction
 * commands. A step that has been released never changes; a change of the schema is a new step at
 * the end (store/schema.c). */
extern const char *const schema_steps[];
extern const size_t schema_version; /* the number of steps */

/* Brings the file from the version it has to n_steps, each step with its version number in one
 * transaction. A newer version is refused. */
int migrations_run(struct db *db, const char *const *steps, size_t n_steps, struct error *error);

/* "smir": tells our files from other SQLite files (PRAGMA application_id). */
#define STORE_APPLICATION_ID 0x736d6972

#endif
