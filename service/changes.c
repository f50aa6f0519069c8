// SPDX-License-Identifier: Apache-2.0
#include "service/changes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/map.h"
#include "service/jobs.h"
#include "store/cycle.h"
#include "store/export.h"
#include "store/group.h"
#include "store/job.h"
#include "store/pipe.h"
#include "store/replica.h"
#include "store/system.h"
#include "store/volume.h"

#define NO_OBJECT COLLECTION_COUNT
enum { QUIET_MAX = 2, SHOWN_MAX = 4 };

/* When an object that shows the row of another one has changed with it. */
enum shown_when {
    SHOWN_ALWAYS,
    SHOWN_COMING, /* only that the row is there, and whose it is */
    SHOWN_LATER,  /* always, but it is told later */
};

struct row_map {
    const struct table *table;
    enum collection object;       /* whose id is that of the row */
    const char *quiet[QUIET_MAX]; /* columns whose change alone is no change */
    struct {
        const char *column; /* holds the id of the object that shows the row, or "" */
        enum collection object;
        enum shown_when when;
    } shown[SHOWN_MAX];
};

static const struct row_map row_maps[] = {
    {.table = &system_table, .object = COLLECTION_SYSTEMS},
    {.table = &access_point_table,
     .object = COLLECTION_ACCESS_POINTS,
     .quiet = {"last_seen_ms", "last_tried_ms"},
     .shown = {{"system_id", COLLECTION_SYSTEMS, SHOWN_LATER}}},
    /* Those of our own targets have the target's id there. */
    {.table = &secret_table,
     .object = NO_OBJECT,
     .shown = {{"access_point_id", COLLECTION_ACCESS_POINTS, SHOWN_ALWAYS},
               {"access_point_id", COLLECTION_EXPORTS, SHOWN_ALWAYS}}},
    {.table = &setting_table, .object = COLLECTION_SETTINGS},
    {.table = &pool_table, .object = COLLECTION_POOLS},
    {.table = &volume_table,
     .object = COLLECTION_VOLUMES,
     .quiet = {"last_seen_ms"},
     .shown = {{"pool_id", COLLECTION_POOLS, SHOWN_LATER}}},
    {.table = &layer_table, .object = NO_OBJECT},
    {.table = &export_table, .object = COLLECTION_EXPORTS},
    {.table = &export_lun_table,
     .object = NO_OBJECT,
     .shown = {{"export_id", COLLECTION_EXPORTS, SHOWN_ALWAYS}}},
    {.table = &export_initiator_table,
     .object = NO_OBJECT,
     .shown = {{"export_id", COLLECTION_EXPORTS, SHOWN_ALWAYS}}},
    {.table = &sync_table,
     .object = COLLECTION_SYNCHRONIZATIONS,
     .shown = {{"source_id", COLLECTION_VOLUMES, SHOWN_COMING},
               {"target_id", COLLECTION_VOLUMES, SHOWN_COMING},
               {"group_sync_id", COLLECTION_GROUP_SYNCHRONIZATIONS, SHOWN_ALWAYS},
               {"pipe_id", COLLECTION_PIPES, SHOWN_COMING}}},
    {.table = &endpoint_table, .object = COLLECTION_ENDPOINTS},
    {.table = &pipe_table,
     .object = COLLECTION_PIPES,
     .shown = {{"parent_id", COLLECTION_PIPES, SHOWN_ALWAYS}}},
    {.table = &group_table, .object = COLLECTION_GROUPS},
    {.table = &group_member_table,
     .object = NO_OBJECT,
     .shown = {{"group_id", COLLECTION_GROUPS, SHOWN_ALWAYS}}},
    {.table = &group_sync_table,
     .object = COLLECTION_GROUP_SYNCHRONIZATIONS,
     .shown = {{"source_group_id", COLLECTION_GROUPS, SHOWN_COMING},
               {"target_group_id", COLLECTION_GROUPS, SHOWN_COMING}}},
    {.table = &cycle_table,
     .object = NO_OBJECT,
     .quiet = {"checkpoint_bytes"},
     .shown = {{"sync_id", COLLECTION_SYNCHRONIZATIONS, SHOWN_ALWAYS}}},
    {.table = &job_table, .object = COLLECTION_JOBS},
    {.table = &copy_table,
     .object = NO_OBJECT,
     .shown = {{"job_id", COLLECTION_JOBS, SHOWN_ALWAYS},
               {"sync_id", COLLECTION_SYNCHRONIZATIONS, SHOWN_ALWAYS}}},
    {.table = &job_element_table,
     .object = NO_OBJECT,
     .shown = {{"job_id", COLLECTION_JOBS, SHOWN_ALWAYS}}},
};

static const struct row_map *map_of(const struct table *table)
{
    for (size_t i = 0; i < ARRAY_LEN(row_maps); i++) {
        if (row_maps[i].table == table) {
            return &row_maps[i];
        }
    }
    return NULL;
}

bool changes_knows(const struct table *table)
{
    return map_of(table) != NULL;
}

/* ---- what has changed in the transaction, change by change ---- */

struct changes {
    struct object_change *items;
    size_t n;
    size_t size;
    struct db_watch watch;
};

static void add(struct changes *changes, enum collection object, const char *id,
                enum change_kind kind, bool later)
{
    if (object == NO_OBJECT || id[0] == '\0') {
        return;
    }
    if (changes->n == changes->size) {
        changes->size = changes->size > 0 ? changes->size * 2 : 64;
        changes->items = realloc(changes->items, changes->size * sizeof(*changes->items));
        CHECK(changes->items != NULL);
    }
    struct object_change *item = &changes->items[changes->n++];

    *item = (struct object_change){.collection = object, .kind = kind, .later = later};
    snprintf(item->id, sizeof(item->id), "%s", id);
}

static bool column_same(const struct column *column, const void *before, const void *after)
{
    const char *a = (const char *)before + column->offset;
    const char *b = (const char *)after + column->offset;

    return column->type == COLUMN_TEXT ? strncmp(a, b, column->size) == 0
                                       : memcmp(a, b, column->size) == 0;
}

static bool is_quiet(const struct row_map *map, const char *column)
{
    for (size_t i = 0; i < QUIET_MAX && map->quiet[i] != NULL; i++) {
        if (strcmp(map->quiet[i], column) == 0) {
            return true;
        }
    }
    return false;
}

static bool row_same(const struct row_map *map, const void *before, const void *after)
{
    for (size_t i = 0; i < map->table->n_columns; i++) {
        const struct column *column = &map->table->columns[i];

        if (!column_same(column, before, after) && !is_quiet(map, column->name)) {
            return false;
        }
    }
    return true;
}

static const struct column *column_of(const struct table *table, const char *name)
{
    for (size_t i = 0; i < table->n_columns; i++) {
        if (strcmp(table->columns[i].name, name) == 0) {
            return &table->columns[i];
        }
    }
    CHECK(!"a column of the map is one of its table");
}

/* The objects that show the row, before and after when that has changed. */
static void add_shown(struct changes *changes, const struct row_map *map, const void *before,
                      const void *after)
{
    for (size_t i = 0; i < SHOWN_MAX && map->shown[i].column != NULL; i++) {
        const struct column *column = column_of(map->table, map->shown[i].column);
        bool later = map->shown[i].when == SHOWN_LATER;
        bool stays = before != NULL && after != NULL && column_same(column, before, after);

        if (stays && map->shown[i].when == SHOWN_COMING) {
            continue;
        }
        if (before != NULL && !stays) {
            add(changes, map->shown[i].object, (const char *)before + column->offset,
                CHANGE_CHANGED, later);
        }
        if (after != NULL) {
            add(changes, map->shown[i].object, (const char *)after + column->offset, CHANGE_CHANGED,
                later);
        }
    }
}

static void row_changed(void *arg, const struct table *table, const void *before, const void *after)
{
    struct changes *changes = arg;
    const struct row_map *map = map_of(table);
    const struct row_head *head = after != NULL ? after : before;

    if (map == NULL || (before != NULL && after != NULL && row_same(map, before, after))) {
        return;
    }
    add(changes, map->object, head->id,
        before == NULL  ? CHANGE_CREATED
        : after == NULL ? CHANGE_DELETED
                        : CHANGE_CHANGED,
        false);
    add_shown(changes, map, before, after);
}

size_t changes_count(const struct changes *changes)
{
    return changes->n;
}

void changes_truncate(struct changes *changes, size_t n)
{
    changes->n = n < changes->n ? n : changes->n;
}

static size_t changes_mark(void *arg)
{
    return changes_count(arg);
}

static void changes_undo(void *arg, size_t mark)
{
    changes_truncate(arg, mark);
}

struct changes *changes_new(void)
{
    struct changes *changes = calloc(1, sizeof(*changes));

    CHECK(changes != NULL);
    changes->watch = (struct db_watch){row_changed, changes_mark, changes_undo, changes};
    return changes;
}

void changes_free(struct changes *changes)
{
    if (changes != NULL) {
        free(changes->items);
        free(changes);
    }
}

const struct db_watch *changes_watch(struct changes *changes)
{
    return &changes->watch;
}

/* ---- what the transaction has changed, object by object ---- */

/* What two changes of an object come to. False: to nothing, it was never there for anybody. */
static bool combine(struct object_change *first, const struct object_change *second)
{
    if (second->kind == CHANGE_DELETED) {
        if (first->kind == CHANGE_CREATED) {
            return false;
        }
        first->kind = CHANGE_DELETED;
    } else if (second->kind == CHANGE_CREATED && first->kind == CHANGE_DELETED) {
        first->kind = CHANGE_CHANGED;
    } else if (second->kind == CHANGE_CREATED) {
        first->kind = CHANGE_CREATED; /* something that shows in it came before itself */
    }
    first->later = first->later && second->later;
    return true;
}

/* In place; returns how many are left. */
static size_t merge(struct object_change *items, size_t n)
{
    struct map first;
    size_t left = 0;

    map_init(&first);
    for (size_t i = 0; i < n; i++) {
        char key[ID_SIZE + 8];

        snprintf(key, sizeof(key), "%u/%s", (unsigned)items[i].collection, items[i].id);
        struct object_change *known = map_get(&first, key);

        if (known == NULL) {
            items[left] = items[i];
            CHECK(map_put(&first, key, &items[left]) == 0);
            left++;
        } else if (!combine(known, &items[i])) {
            known->id[0] = '\0';
            map_remove(&first, key);
        }
    }
    map_fini(&first);
    n = left;
    left = 0;
    for (size_t i = 0; i < n; i++) {
        if (items[i].id[0] != '\0') {
            items[left++] = items[i];
        }
    }
    return left;
}

void changes_commit(struct changes *changes, const struct change_observer *observer)
{
    if (observer != NULL && changes->n > 0) {
        size_t n = merge(changes->items, changes->n);

        if (n > 0) {
            observer->fn(observer->arg, changes->items, n);
        }
    }
    changes->n = 0;
}

void changes_drop(struct changes *changes)
{
    changes->n = 0;
}

/* ---- live counters ---- */

struct running {
    change_running_fn fn;
    void *arg;
};

static int running_copy(void *arg, const void *row)
{
    const struct running *running = arg;
    const struct copy_row *copy = row;

    running->fn(running->arg, COLLECTION_JOBS, copy->job_id);
    running->fn(running->arg, COLLECTION_SYNCHRONIZATIONS, copy->sync_id);
    return 0;
}

/* How far an asynchronous mirror is behind moves all the time. */
static int running_cycle(void *arg, const void *row)
{
    const struct running *running = arg;
    const struct cycle_row *cycle = row;

    running->fn(running->arg, COLLECTION_SYNCHRONIZATIONS, cycle->sync_id);
    return 0;
}

int changes_running(struct db *db, change_running_fn fn, void *arg)
{
    const struct condition where[] = {WHERE_NUM("state", COPY_ROW_RUNNING), WHERE_END};
    struct running running = {fn, arg};

    int r = table_each(db, &copy_table, where, 0, 0, running_copy, &running);

    return r < 0 ? r : table_each(db, &cycle_table, NULL, 0, 0, running_cycle, &running);
}
