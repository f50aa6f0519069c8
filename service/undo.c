// SPDX-License-Identifier: Apache-2.0
#include "service/undo.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "store/table.h"

struct change {
    const struct table *table;
    void *before; /* NULL: it was not there */
    void *after;  /* NULL: it is not there */
};

/* A mark is two: how much is kept here, and the next watcher's below it. */
enum { MARK_BITS = 32 };

struct undo {
    struct db_watch watch;
    const struct db_watch *next;
    bool keeping;
    bool running; /* its own changes are not kept */
    struct change *changes;
    size_t n;
    size_t room;
};

static void *row_copy(const struct table *table, const void *row)
{
    void *copy = row == NULL ? NULL : malloc(table->row_size);

    CHECK(row == NULL || copy != NULL);
    return row == NULL ? NULL : memcpy(copy, row, table->row_size);
}

static void forget_from(struct undo *undo, size_t n)
{
    while (undo->n > n) {
        undo->n--;
        free(undo->changes[undo->n].before);
        free(undo->changes[undo->n].after);
    }
}

static void row_changed(void *arg, const struct table *table, const void *before, const void *after)
{
    struct undo *undo = arg;

    if (undo->keeping && !undo->running) {
        if (undo->n == undo->room) {
            undo->room = 2 * undo->room + 16;
            undo->changes = realloc(undo->changes, undo->room * sizeof(*undo->changes));
            CHECK(undo->changes != NULL);
        }
        undo->changes[undo->n++] = (struct change){
            .table = table, .before = row_copy(table, before), .after = row_copy(table, after)};
    }
    undo->next->row(undo->next->arg, table, before, after);
}

static size_t mark_set(void *arg)
{
    const struct undo *undo = arg;
    size_t next = undo->next->mark(undo->next->arg);

    CHECK(next >> MARK_BITS == 0 && undo->n >> MARK_BITS == 0);
    return undo->n << MARK_BITS | next;
}

static void mark_undo(void *arg, size_t mark)
{
    struct undo *undo = arg;

    if (!undo->running) {
        forget_from(undo, mark >> MARK_BITS);
    }
    undo->next->undo(undo->next->arg, mark & (((size_t)1 << MARK_BITS) - 1));
}

struct undo *undo_new(const struct db_watch *next)
{
    struct undo *undo = calloc(1, sizeof(*undo));

    CHECK(undo != NULL);
    undo->next = next;
    undo->watch =
        (struct db_watch){.row = row_changed, .mark = mark_set, .undo = mark_undo, .arg = undo};
    return undo;
}

void undo_free(struct undo *undo)
{
    if (undo != NULL) {
        forget_from(undo, 0);
        free(undo->changes);
        free(undo);
    }
}

const struct db_watch *undo_watch(struct undo *undo)
{
    return &undo->watch;
}

void undo_begin(struct undo *undo)
{
    forget_from(undo, 0);
    undo->keeping = true;
}

void undo_end(struct undo *undo)
{
    forget_from(undo, 0);
    undo->keeping = false;
}

static int change_undo(struct db *db, const struct change *change)
{
    const struct row_head *after = change->after;

    if (change->before == NULL) {
        return table_delete(db, change->table, after->id);
    }
    if (after == NULL) {
        struct row_head *row = row_copy(change->table, change->before);
        int r = table_insert(db, change->table, row);

        free(row);
        return r;
    }
    return table_update(db, change->table, change->before);
}

int undo_run(struct undo *undo, struct db *db)
{
    int r = 0;

    undo->running = true;
    for (size_t i = undo->n; i-- > 0 && r == 0;) {
        r = change_undo(db, &undo->changes[i]);
    }
    undo->running = false;
    return r;
}
