// SPDX-License-Identifier: Apache-2.0
/*
 * Which objects a transaction has changed: what control gathers while it writes, and tells after the commit.
 *
 * Thread:    control; the observer is called there and may not block. changes_running(): any, with a reader of its own.
 * Ownership: the list given to an observer is borrowed for the call.
 * Errors:    a change that there is no memory for ends the process, like every allocation of control's.
 *
 * The map from rows to objects is a table in changes.c; every table of store/ is in it.
 */
#ifndef SERVICE_CHANGES_H
#define SERVICE_CHANGES_H

#include "service/view.h"
#include "store/table.h"

enum change_kind { CHANGE_CREATED, CHANGE_CHANGED, CHANGE_DELETED };

struct object_change {
    enum collection collection;
    char id[ID_SIZE];
    enum change_kind kind;
    bool later; /* shown of others, often or at a cost: once a second is enough */
};

struct change_observer {
    void (*fn)(void *arg, const struct object_change *changes, size_t n);
    void *arg;
};
/* From the next commit on, fn is called after every commit that has changed something, each object once, in the order of the
 * first changes. NULL: nobody; then it may still be called once. Any thread. (service/control.c) */
void control_observe(struct control *control, const struct change_observer *observer);

/* What has changed without a commit: who is logged in, say. On control. */
void control_tell(struct control *control, const struct object_change *changes, size_t n);

struct changes;
struct changes *changes_new(void);
void changes_free(struct changes *changes);
/* For db_watch(). */
const struct db_watch *changes_watch(struct changes *changes);
/* The transaction has ended: what it has changed is told (NULL: nobody) and forgotten. */
void changes_commit(struct changes *changes, const struct change_observer *observer);
void changes_drop(struct changes *changes);
/* How many there are, and back to as many: of a transaction that goes on where another one has stopped. */
size_t changes_count(const struct changes *changes);
void changes_truncate(struct changes *changes, size_t n);

/* Is every row of the table said to belong to objects, or to none? For tests. */
bool changes_knows(const struct table *table);

/* The objects that show live counters now: jobs and relationships of running copies, asynchronous mirrors. fn is called for each, some perhaps twice.
 * 0 or what store/ said. */
typedef void (*change_running_fn)(void *arg, enum collection collection, const char *id);
int changes_running(struct db *db, change_running_fn fn, void *arg);

#endif
