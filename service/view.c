// SPDX-License-Identifier: Apache-2.0
/*
 * Lists and objects of all kinds.
 *
 * A page is one walk over the table in order of seq, from the cursor on, with one row more than
 * asked for to know whether there is a next page. What an object shows of other tables is looked up
 * by index, object by object; the relationships of volumes with one query for the whole page
 * (view_related()); what most objects share (the addresses of portals) is kept for the length of the
 * list.
 *
 * Lasting: what is shown comes from the records, but for live counters and the time of day in what
 * has not ended. Whoever shows one of those sets view->moving.
 */
#include "service/view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/jobs.h"
#include "service/services.h"
#include "service/view_filter.h"
#include "service/view_parts.h"
#include "store/job.h"

const struct view_collection view_collections[COLLECTION_COUNT] = {
    [COLLECTION_SYSTEMS] = {"systems", "ComputerSystem", NULL, false},
    [COLLECTION_POOLS] = {"pools", "StoragePool", NULL, false},
    [COLLECTION_VOLUMES] = {"volumes", "StorageVolume", &volume_methods, true},
    [COLLECTION_GROUPS] = {"groups", "ReplicationGroup", NULL, false},
    [COLLECTION_SYNCHRONIZATIONS] = {"synchronizations", "StorageSynchronized", NULL, false},
    [COLLECTION_GROUP_SYNCHRONIZATIONS] = {"groupsynchronizations", "GroupSynchronized", NULL,
                                           false},
    [COLLECTION_PIPES] = {"pipes", "NetworkPipe", &pipe_methods, true},
    [COLLECTION_ENDPOINTS] = {"endpoints", "iSCSIProtocolEndpoint", NULL, false},
    [COLLECTION_ACCESS_POINTS] = {"accesspoints", "RemoteServiceAccessPoint", &access_point_methods,
                                  true},
    [COLLECTION_EXPORTS] = {"exports", "SCSIProtocolController", NULL, false},
    [COLLECTION_SETTINGS] = {"settings", "StorageSetting", &setting_methods, true},
    [COLLECTION_JOBS] = {"jobs", "ConcreteJob", &job_methods, true},
    [COLLECTION_SERVICES] = {"services", "Service", NULL, false},
};

static const struct view_kind *const kinds[COLLECTION_COUNT] = {
    [COLLECTION_SYSTEMS] = &view_systems,
    [COLLECTION_POOLS] = &view_pools,
    [COLLECTION_VOLUMES] = &view_volumes,
    [COLLECTION_GROUPS] = &view_groups,
    [COLLECTION_SYNCHRONIZATIONS] = &view_synchronizations,
    [COLLECTION_GROUP_SYNCHRONIZATIONS] = &view_group_synchronizations,
    [COLLECTION_PIPES] = &view_pipes,
    [COLLECTION_ENDPOINTS] = &view_endpoints,
    [COLLECTION_ACCESS_POINTS] = &view_access_points,
    [COLLECTION_EXPORTS] = &view_exports,
    [COLLECTION_SETTINGS] = &view_settings,
    [COLLECTION_JOBS] = &view_jobs,
    [COLLECTION_SERVICES] = &view_services,
};

const struct view_kind *view_kind_of(enum collection collection)
{
    return kinds[collection];
}

int view_collection_find(const char *path, enum collection *ret_collection)
{
    for (size_t i = 0; i < COLLECTION_COUNT; i++) {
        if (strcmp(view_collections[i].path, path) == 0) {
            *ret_collection = (enum collection)i;
            return 0;
        }
    }
    return -ENOENT;
}

static void view_init(struct view *view, struct db *db, struct control *control)
{
    view->db = db;
    view->control = control;
    view->live = control_live(control);
    view->now_ms = control_now_ms(control);
    view->moving = false;
    view->as_source = (struct related){0};
    view->as_target = (struct related){0};
    map_init(&view->portals);
}

static void view_fini(struct view *view)
{
    for (struct map_entry *entry = map_first(&view->portals); entry != NULL;
         entry = map_next(&view->portals, entry)) {
        free(entry->value);
    }
    map_fini(&view->portals);
    free(view->as_source.items);
    free(view->as_target.items);
}

/* The rows that are shown from now on. */
static void view_walk(struct view *view, const struct condition *where, int64_t after_seq,
                      uint64_t limit)
{
    view->walk = (struct view_walk){.where = where, .after_seq = after_seq, .limit = limit};
    view->as_source.loaded = false;
    view->as_target.loaded = false;
}

/* One object */

static int row_object(struct view *view, const struct view_kind *kind, const char *id,
                      struct out *out)
{
    const struct condition where[] = {WHERE_TEXT("id", id), WHERE_END};
    void *row = malloc(kind->table->row_size);

    if (row == NULL) {
        return -ENOMEM;
    }
    view_walk(view, where, 0, 1);
    int r = table_get(view->db, kind->table, id, row);
    if (r == 0) {
        r = kind->row(view, row, out);
    }
    free(row);
    return r;
}

static int item_object(struct view *view, const struct view_kind *kind, const char *id,
                       struct out *out)
{
    for (size_t i = 0; i < kind->n_items; i++) {
        if (strcmp(kind->item_id(i), id) == 0) {
            kind->item(view, i, out);
            return 0;
        }
    }
    return -ENOENT;
}

int view_object(struct db *db, struct control *control, enum collection collection, const char *id,
                struct out *out, bool *ret_lasting)
{
    const struct view_kind *kind = kinds[collection];
    struct view view;

    view_init(&view, db, control);
    int r =
        kind->table != NULL ? row_object(&view, kind, id, out) : item_object(&view, kind, id, out);
    *ret_lasting = !view.moving;
    view_fini(&view);
    return r;
}

int view_path(struct db *db, struct control *control, const char *path, struct out *out)
{
    const char *slash = path[0] == '/' ? strchr(path + 1, '/') : NULL;
    enum collection collection;
    char name[32];
    bool lasting;

    if (slash == NULL || (size_t)(slash - path) > sizeof(name)) {
        return -ENOENT;
    }
    memcpy(name, path + 1, (size_t)(slash - path) - 1);
    name[slash - path - 1] = '\0';
    int r = view_collection_find(name, &collection);

    return r < 0 ? r : view_object(db, control, collection, slash + 1, out, &lasting);
}

/* Lists */

struct lister {
    struct view *view;
    const struct view_kind *kind;
    struct out *out;
    uint64_t limit;
    uint64_t n;
    struct view_page *page;
};

/* The row after the last of the page only says that there are more. */
static int list_row(void *arg, const void *row)
{
    struct lister *lister = arg;
    const struct row_head *head = row;

    if (lister->n == lister->limit) {
        lister->page->more = true;
        return 1;
    }
    lister->n++;
    lister->page->last_seq = head->seq;
    return lister->kind->row(lister->view, row, lister->out);
}

static int list_rows(struct lister *lister, const struct view_where *where, int64_t after_seq)
{
    const struct table *table = lister->kind->table;
    int r = table_count(lister->view->db, table, where->conditions, &lister->page->total);

    if (r < 0 || lister->page->total == 0) {
        return r;
    }
    view_walk(lister->view, where->conditions, after_seq, lister->limit);
    r = table_each(lister->view->db, table, where->conditions, after_seq, lister->limit + 1,
                   list_row, lister);
    return r < 0 ? r : 0;
}

static int keep_row(void *arg, const void *row)
{
    memcpy(arg, row, view_volumes.table->row_size);
    return 0;
}

/* The first row after that seq in any of the walks. */
static int next_by_identity(struct lister *lister, struct view_where *where, int64_t after_seq,
                            void *ret_row)
{
    size_t row_size = lister->kind->table->row_size;
    struct row_head *best = ret_row;
    struct row_head *row = malloc(row_size);
    int r = row == NULL ? -ENOMEM : 0;

    best->seq = INT64_MAX;
    for (unsigned i = 0; r >= 0 && i < IDENTITY_KINDS; i++) {
        where->conditions[where->identity].text = where->identities[i];
        row->seq = INT64_MAX;
        r = table_each(lister->view->db, lister->kind->table, where->conditions, after_seq, 1,
                       keep_row, row);
        if (r >= 0 && row->seq < best->seq) {
            memcpy(best, row, row_size);
        }
    }
    free(row);
    return r < 0 ? r : best->seq == INT64_MAX ? -ENOENT : 0;
}

/* A name may be an identity of each kind, so this merges the walks; names are all but unique, lists
 * are short. */
static int list_by_identity(struct lister *lister, struct view_where *where, int64_t after_seq)
{
    struct row_head *row;
    int r = 0;

    for (unsigned i = 0; i < IDENTITY_KINDS; i++) {
        uint64_t n = 0;
        where->conditions[where->identity].text = where->identities[i];
        r = table_count(lister->view->db, lister->kind->table, where->conditions, &n);
        if (r < 0) {
            return r;
        }
        lister->page->total += n;
    }
    row = malloc(lister->kind->table->row_size);
    if (row == NULL) {
        return -ENOMEM;
    }
    while (r == 0) {
        r = next_by_identity(lister, where, after_seq, row);
        if (r == 0) {
            const struct condition this_one[] = {WHERE_TEXT("id", row->id), WHERE_END};
            after_seq = row->seq;
            view_walk(lister->view, this_one, 0, 1);
            r = list_row(lister, row);
        }
    }
    free(row);
    return r < 0 && r != -ENOENT ? r : 0;
}

static bool item_matches(const struct view_kind *kind, size_t index, const struct view_where *where)
{
    for (unsigned i = 0; i < where->n; i++) {
        const struct condition *condition = &where->conditions[i];
        CHECK(condition->type == COLUMN_TEXT);
        if (strcmp(kind->item_column(index, condition->column), condition->text) != 0) {
            return false;
        }
    }
    return true;
}

/* Items have the seq 1, 2, 3, … */
static void list_items(struct lister *lister, const struct view_where *where, int64_t after_seq)
{
    for (size_t i = 0; i < lister->kind->n_items; i++) {
        if (!item_matches(lister->kind, i, where)) {
            continue;
        }
        lister->page->total++;
        if ((int64_t)i + 1 <= after_seq) {
            continue;
        }
        if (lister->n == lister->limit) {
            lister->page->more = true;
            continue;
        }
        lister->n++;
        lister->page->last_seq = (int64_t)i + 1;
        lister->kind->item(lister->view, i, lister->out);
    }
}

static int list_error(int r, struct error *error)
{
    if (r == -ENOMEM) {
        return error_set(error, ERR_NO_MEMORY, "There is not enough memory for this list.");
    }
    return error_set(error, ERR_STORE_FAILED, "The records could not be read (%s).", strerror(-r));
}

int view_list(struct db *db, struct control *control, enum collection collection,
              const struct view_query *query, struct out *out, struct view_page *ret_page,
              struct error *error)
{
    const struct view_kind *kind = kinds[collection];
    struct view_page page = {.last_seq = query->after_seq};
    struct view_where where;
    struct view view;
    uint64_t limit = query->limit == 0 ? VIEW_LIMIT_DEFAULT : query->limit;
    int r = view_where_init(&where, collection, kind, query, error);

    if (r < 0) {
        return r;
    }
    view_init(&view, db, control);
    struct lister lister = {.view = &view,
                            .kind = kind,
                            .out = out,
                            .limit = limit < VIEW_LIMIT_MAX ? limit : VIEW_LIMIT_MAX,
                            .page = &page};
    if (where.nothing) {
        r = 0;
    } else if (kind->table == NULL) {
        list_items(&lister, &where, query->after_seq);
    } else if (where.by_identity) {
        r = list_by_identity(&lister, &where, query->after_seq);
    } else {
        r = list_rows(&lister, &where, query->after_seq);
    }
    page.lasting = !view.moving;
    view_fini(&view);
    if (r < 0) {
        return list_error(r, error);
    }
    *ret_page = page;
    return 0;
}

int view_job_ended(struct db *db, const char *job_id, bool *ret_ended)
{
    struct job_row job;
    int r = table_get(db, &job_table, job_id, &job);

    if (r == 0) {
        *ret_ended = job_state_ended(job.state);
    }
    return r;
}
