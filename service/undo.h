// SPDX-License-Identifier: Apache-2.0
/*
 * What a call has written, so that it can be taken back after its commit.
 *
 * Thread:    control.
 * Ownership: keeps copies of rows from undo_begin() to undo_end().
 * Errors:    undo_run() negative errno; nothing was written then that the caller's rollback does not take away.
 *
 * It stands between the store and another watcher of rows (store.h), which sees what it takes back, too. Rows that go with
 * their object (CASCADE) do not come back: what is to be undone deletes no such object.
 */
#ifndef SERVICE_UNDO_H
#define SERVICE_UNDO_H

#include "store/store.h"

struct undo;
struct undo *undo_new(const struct db_watch *next);
void undo_free(struct undo *undo);
/* For db_watch(). */
const struct db_watch *undo_watch(struct undo *undo);

/* From here on, until undo_end(), changes of rows are kept. */
void undo_begin(struct undo *undo);
/* Forgets them. */
void undo_end(struct undo *undo);
/* Inside a transaction, by which nothing else has been changed since: the rows become what they were, the last change first. What
 * was kept is kept still. */
int undo_run(struct undo *undo, struct db *db);

#endif
