// SPDX-License-Identifier: Apache-2.0
#include "service/view_filter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/paths.h"

/* The kinds of identity (block/iscsi_dev.h) in the order in which they are preferred. */
static const char *const identity_prefixes[IDENTITY_KINDS] = {"naa.", "eui.", "t10.", "serial."};

static const struct view_filter *find_filter(const struct view_kind *kind, const char *name)
{
    for (size_t i = 0; i < kind->n_filters; i++) {
        if (strcmp(kind->filters[i].name, name) == 0) {
            return &kind->filters[i];
        }
    }
    return NULL;
}

static int unknown_filter(enum collection collection, const struct view_kind *kind,
                          const char *name, struct error *error)
{
    char allowed[256] = "limit and cursor";

    for (size_t i = 0; i < kind->n_filters; i++) {
        size_t len = strlen(allowed);
        snprintf(allowed + len, sizeof(allowed) - len, "%s %s", i == 0 ? "; filters:" : ",",
                 kind->filters[i].name);
    }
    return error_param(error, ERR_BAD_QUERY, name, "/%s has no filter %.60s. It takes %s.",
                       view_collections[collection].path, name, allowed);
}

static void add_number(struct view_where *where, const char *column, uint64_t number)
{
    where->conditions[where->n++] = WHERE_NUM(column, number);
}

static int add_path(struct view_where *where, const struct view_filter *filter, const char *value,
                    struct error *error)
{
    char collection[32];
    /* A service's name is longer than any id. */
    const char *slash = strrchr(value, '/');
    size_t len = slash == NULL ? 0 : (size_t)(slash - value);

    if (strcmp(filter->collection, "services") == 0) {
        if (len == strlen("/services") && strncmp(value, "/services", len) == 0) {
            where->conditions[where->n++] = WHERE_TEXT(filter->column, slash + 1);
            return 0;
        }
    } else if (path_split(value, collection, sizeof(collection), where->ids[where->n]) == 0 &&
               strcmp(collection, filter->collection) == 0) {
        where->conditions[where->n] = WHERE_TEXT(filter->column, where->ids[where->n]);
        where->n++;
        return 0;
    }
    return error_param(error, ERR_BAD_QUERY, filter->name,
                       "%s is a path like /%s/{id}, not \"%.100s\".", filter->name,
                       filter->collection, value);
}

static int add_enum(struct view_where *where, const struct view_filter *filter, const char *value,
                    struct error *error)
{
    uint32_t number;
    char *end;

    if (value[0] >= '0' && value[0] <= '9') {
        unsigned long given = strtoul(value, &end, 10);
        if (*end == '\0' && given <= UINT32_MAX && enum_has(filter->map, (uint32_t)given)) {
            add_number(where, filter->column, given);
            return 0;
        }
    } else if (enum_number(filter->map, value, &number) == 0) {
        add_number(where, filter->column, number);
        return 0;
    }
    return error_param(error, ERR_BAD_QUERY, filter->name,
                       "\"%.60s\" is no %s; take a number or a name out of x-enums %s in "
                       "/openapi.yaml.",
                       value, filter->name, filter->map->name);
}

static int add_bool(struct view_where *where, const struct view_filter *filter, const char *value,
                    struct error *error)
{
    if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0) {
        return error_param(error, ERR_BAD_QUERY, filter->name,
                           "%s is true or false, not \"%.60s\".", filter->name, value);
    }
    add_number(where, filter->column, value[0] == 't');
    return 0;
}

static int add_word(struct view_where *where, const struct view_filter *filter, const char *value,
                    struct error *error)
{
    char allowed[96] = "";

    for (size_t i = 0; i < filter->n_words; i++) {
        size_t len = strlen(allowed);
        if (strcmp(filter->words[i].text, value) == 0) {
            add_number(where, filter->column, filter->words[i].number);
            return 0;
        }
        snprintf(allowed + len, sizeof(allowed) - len, "%s%s", i == 0 ? "" : ", ",
                 filter->words[i].text);
    }
    return error_param(error, ERR_BAD_QUERY, filter->name, "%s is one of: %s; not \"%.60s\".",
                       filter->name, allowed, value);
}

static void add_identity(struct view_where *where, const struct view_filter *filter,
                         const char *value)
{
    where->by_identity = true;
    where->identity = where->n;
    for (unsigned i = 0; i < IDENTITY_KINDS; i++) {
        int len = snprintf(where->identities[i], sizeof(where->identities[i]), "%s%s",
                           identity_prefixes[i], value);
        where->nothing = where->nothing || len >= (int)sizeof(where->identities[i]);
    }
    where->conditions[where->n++] = WHERE_TEXT(filter->column, where->identities[0]);
}

static int add_filter(struct view_where *where, const struct view_filter *filter, const char *value,
                      struct error *error)
{
    switch (filter->kind) {
    case FILTER_TEXT:
        where->conditions[where->n++] = WHERE_TEXT(filter->column, value);
        return 0;
    case FILTER_PATH:
        return add_path(where, filter, value, error);
    case FILTER_ENUM:
        return add_enum(where, filter, value, error);
    case FILTER_BOOL:
        return add_bool(where, filter, value, error);
    case FILTER_WORD:
        return add_word(where, filter, value, error);
    case FILTER_IDENTITY:
        add_identity(where, filter, value);
        return 0;
    }
    CHECK(!"a kind of filter");
}

int view_where_init(struct view_where *where, enum collection collection,
                    const struct view_kind *kind, const struct view_query *query,
                    struct error *error)
{
    memset(where, 0, sizeof(*where));
    CHECK(query->n_filters <= VIEW_FILTERS_MAX);
    for (unsigned i = 0; i < query->n_filters; i++) {
        const char *name = query->filters[i].name;
        const struct view_filter *filter = find_filter(kind, name);

        if (filter == NULL) {
            return unknown_filter(collection, kind, name, error);
        }
        for (unsigned k = 0; k < i; k++) {
            if (strcmp(query->filters[k].name, name) == 0) {
                return error_param(error, ERR_BAD_QUERY, name, "%s is given twice.", name);
            }
        }
        int r = add_filter(where, filter, query->filters[i].value, error);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}
