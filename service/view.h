// SPDX-License-Identifier: Apache-2.0
/*
 * What a GET sees: each collection's objects as properties, lists with paging and filters.
 *
 * Thread:    any, each with its own read-only struct db; the caller brackets with db_read_begin/end.
 * Ownership: nothing is kept.
 * Errors:    -ENOENT no such object; bad_query for a filter or cursor that is not known.
 */
#ifndef SERVICE_VIEW_H
#define SERVICE_VIEW_H

#include "service/control.h"
#include "service/out.h"

enum collection {
    COLLECTION_SYSTEMS,
    COLLECTION_POOLS,
    COLLECTION_VOLUMES,
    COLLECTION_GROUPS,
    COLLECTION_SYNCHRONIZATIONS,
    COLLECTION_GROUP_SYNCHRONIZATIONS,
    COLLECTION_PIPES,
    COLLECTION_ENDPOINTS,
    COLLECTION_ACCESS_POINTS,
    COLLECTION_EXPORTS,
    COLLECTION_SETTINGS,
    COLLECTION_JOBS,
    COLLECTION_SERVICES,
    COLLECTION_COUNT
};

struct view_collection {
    const char *path;                     /* "volumes" */
    const char *class_name;               /* "StorageVolume" */
    const struct service *object_methods; /* POST /{path}/{id}/{Method}, or NULL */
    bool can_delete; /* DELETE /{path}/{id}: the method "DeleteInstance" of object_methods */
};
extern const struct view_collection view_collections[COLLECTION_COUNT];
/* -ENOENT */
int view_collection_find(const char *path, enum collection *ret_collection);

/* One object, as {…}. *ret_lasting: as long as the records stay as they are, it is the same. */
int view_object(struct db *db, struct control *control, enum collection collection, const char *id,
                struct out *out, bool *ret_lasting);

/* The same by its path; -ENOENT also for what is no path of an object. */
int view_path(struct db *db, struct control *control, const char *path, struct out *out);

enum { VIEW_FILTERS_MAX = 8, VIEW_LIMIT_DEFAULT = 100, VIEW_LIMIT_MAX = 1000 };
struct view_query {
    uint64_t limit;
    int64_t after_seq; /* cursor */
    struct {
        const char *name; /* property, as in the answer */
        const char *value;
    } filters[VIEW_FILTERS_MAX];
    unsigned n_filters;
};
struct view_page {
    uint64_t total; /* of the filtered list */
    int64_t last_seq;
    bool more;
    bool lasting; /* as long as the records stay as they are, the page is the same */
};
/* The members, each as {…} into the array that the caller has begun. */
int view_list(struct db *db, struct control *control, enum collection collection,
              const struct view_query *query, struct out *out, struct view_page *ret_page,
              struct error *error);

/* True when the job has ended (or is gone: -ENOENT). */
int view_job_ended(struct db *db, const char *job_id, bool *ret_ended);

#endif
