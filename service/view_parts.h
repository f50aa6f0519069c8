// SPDX-License-Identifier: Apache-2.0
/*
 * Inside the views only: what view.c knows of each kind of object, and what the kinds share.
 *
 * Thread:    that of the reader.
 * Ownership: a struct view lives for one view_object() or view_list().
 * Errors:    0 or what store/ said.
 */
#ifndef SERVICE_VIEW_PARTS_H
#define SERVICE_VIEW_PARTS_H

#include "base/map.h"
#include "service/enums.h"
#include "service/view.h"
#include "store/table.h"

/* CIM's InstanceID is "organisation:local name". */
#define INSTANCE_ID "smirror:"

/* The rows that are shown, as table_each() walks them. */
struct view_walk {
    const struct condition *where;
    int64_t after_seq;
    uint64_t limit;
};

/* What refers to the rows of a walk, read with one query when the first of them is shown. */
struct related {
    bool loaded;
    struct {
        int64_t seq; /* of the row */
        char id[ID_SIZE];
    } * items;
    size_t n;
    size_t size;
    size_t at; /* rows come in order of seq */
};

/* One answer under way, with what is looked up once for all of its objects. */
struct view {
    struct db *db;
    struct control *control;
    struct live *live;
    uint64_t now_ms;
    bool moving;        /* something was shown that changes while the records stay as they are */
    struct map portals; /* id of an access point -> its address, malloc()ed */
    struct view_walk walk;
    struct related as_source; /* relationships of the volumes that are shown */
    struct related as_target;
};

/* How the value of a filter becomes one of a column. */
enum filter_kind {
    FILTER_TEXT,
    FILTER_PATH,     /* collection: "/volumes/3f2a" becomes "3f2a" */
    FILTER_ENUM,     /* map: by number or name */
    FILTER_BOOL,     /* "true", "false" */
    FILTER_WORD,     /* words: a property that is a word where the column is a number */
    FILTER_IDENTITY, /* Name of a volume: its identity without the kind in front */
};
struct view_filter {
    const char *name; /* of the property */
    const char *column;
    enum filter_kind kind;
    const char *collection;
    const struct enum_map *map;
    const struct enum_value *words;
    size_t n_words;
};

/* A kind of object: rows of a table, or a few items that are derived. */
struct view_kind {
    const struct table *table; /* NULL: derived */
    int (*row)(struct view *view, const void *row, struct out *out);
    size_t n_items;
    const char *(*item_id)(size_t index);
    void (*item)(struct view *view, size_t index, struct out *out);
    const char *(*item_column)(size_t index, const char *column); /* for filters */
    const struct view_filter *filters;
    size_t n_filters;
};

const struct view_kind *view_kind_of(enum collection collection);

extern const struct view_kind view_systems;
extern const struct view_kind view_access_points;
extern const struct view_kind view_endpoints;
extern const struct view_kind view_pipes;
extern const struct view_kind view_pools;
extern const struct view_kind view_volumes;
extern const struct view_kind view_synchronizations;
extern const struct view_kind view_groups;
extern const struct view_kind view_group_synchronizations;
extern const struct view_kind view_exports;
extern const struct view_kind view_settings;
extern const struct view_kind view_jobs;
extern const struct view_kind view_services;

/* What all kinds share (view_common.c). */

/* "self" and "class" of /collection/id. */
void view_head(struct out *out, enum collection collection, const char *id);
void view_instance_id(struct out *out, const char *name, const char *id);
/* name: the numbers, nameText: their names */
void view_enums(struct out *out, const char *name, const struct enum_map *map,
                const uint32_t *numbers, size_t n);
/* An enumeration whose 0 means that there is no value. */
void view_enum_or_null(struct out *out, const char *name, const struct enum_map *map,
                       uint32_t number);
/* OperationalStatus (second may be 0: none) and HealthState. */
enum { STATUS_UNKNOWN = 0, STATUS_OK = 2, STATUS_DEGRADED = 3, STATUS_ERROR = 6 };
enum { STATUS_NO_CONTACT = 12, STATUS_COMPLETED = 17 };
enum { HEALTH_UNKNOWN = 0, HEALTH_OK = 5, HEALTH_DEGRADED = 10, HEALTH_MAJOR_FAILURE = 20 };
void view_status(struct out *out, uint32_t first, uint32_t second, uint32_t health);

/* Ids that are gathered before they are written. */
struct id_list {
    char (*ids)[ID_SIZE];
    size_t n;
    size_t size;
};
int id_list_add(struct id_list *list, const char *id); /* -ENOMEM */
void id_list_fini(struct id_list *list);
/* The paths /collection/id, without the brackets of an array. */
void view_paths(struct out *out, const char *collection, const struct id_list *list);

/* Adds the ids of the rows of relation that refer to the row of the walk that has this seq. */
int view_related(struct view *view, struct related *related, const struct table *table,
                 const struct table_relation *relation, int64_t seq, struct id_list *list);

/* Of a relationship: what was committed, or further where a copy is running (view_replica.c). */
struct sync_row;
int view_sync_percent(struct view *view, const struct sync_row *sync, uint32_t *ret_percent);

/* Progress of a copy as readers see it: the row, overlaid by the live counters (view_job.c).
 */
struct copy_row;
struct copy_progress;
/* *ret_progress and how many of 100 parts of its work are durably done (99 at most before the end).
 */
uint32_t view_progress(struct view *view, const struct copy_row *row,
                       struct copy_progress *ret_progress);
/* Parts of 100 of a piece of work, the verification pass counted as its second half. Never 100. */
uint32_t view_percent(uint64_t bytes_total, uint64_t bytes_done, bool verify, bool verifying);

#endif
