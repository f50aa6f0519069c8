// SPDX-License-Identifier: Apache-2.0
#include "api/event_query.h"

#include <string.h>

static int add_class(struct event_filter *filter, const char *name, size_t len, struct error *error)
{
    uint32_t found = 0;
    for (unsigned i = 0; i < COLLECTION_COUNT; i++) {
        const char *class_name = view_collections[i].class_name;
        if (strlen(class_name) == len && memcmp(class_name, name, len) == 0) {
            found |= 1u << i;
        }
    }
    if (found == 0) {
        return error_param(error, ERR_BAD_QUERY, "class", "There are no objects of class '%.*s'.",
                           (int)(len < 60 ? len : 60), name);
    }
    filter->collections |= found;
    return 0;
}

/* "/volumes" or "/volumes/3f2a"; the object need not be there (yet). */
static int add_path(struct event_filter *filter, const char *path, size_t len, struct error *error)
{
    char collection[32];
    const char *slash = len > 1 ? memchr(path + 1, '/', len - 1) : NULL;
    size_t name_len = slash != NULL ? (size_t)(slash - path) - 1 : len > 0 ? len - 1 : 0;
    size_t id_len = slash != NULL ? len - name_len - 2 : 0;
    bool good = len > 0 && path[0] == '/' && name_len < sizeof(collection) &&
                (slash == NULL || (id_len > 0 && memchr(slash + 1, '/', id_len) == NULL));
    if (filter->n_paths == EVENT_PATHS_MAX) {
        return error_param(error, ERR_BAD_QUERY, "path", "There are more than %d paths.",
                           EVENT_PATHS_MAX);
    }
    if (good) {
        memcpy(collection, path + 1, name_len);
        collection[name_len] = '\0';
        good = view_collection_find(collection, &filter->paths[filter->n_paths].collection) == 0;
    }
    if (!good || id_len >= ID_SIZE) {
        return error_param(error, ERR_BAD_QUERY, "path",
                           "'%.*s' is not the path of a list or an object, like /volumes or "
                           "/jobs/7be1c3d20f44.",
                           (int)(len < 60 ? len : 60), path);
    }
    if (id_len > 0) {
        memcpy(filter->paths[filter->n_paths].id, slash + 1, id_len);
    }
    filter->paths[filter->n_paths].id[id_len] = '\0';
    filter->n_paths++;
    return 0;
}

int event_query_parse(const struct uri *uri, struct event_filter *ret_filter, struct error *error)
{
    struct event_filter filter = {0};
    int err = 0;
    for (unsigned i = 0; i < uri->n_params && err == 0; i++) {
        const struct uri_param *param = &uri->params[i];
        bool is_class = strcmp(param->name, "class") == 0;
        if (!is_class && strcmp(param->name, "path") != 0) {
            return error_param(error, ERR_BAD_QUERY, param->name,
                               "%.80s is not a query parameter of this resource.", param->name);
        }
        for (const char *at = param->value; err == 0;) {
            size_t len = strcspn(at, ",");
            err = is_class ? add_class(&filter, at, len, error) : add_path(&filter, at, len, error);
            if (at[len] == '\0') {
                break;
            }
            at += len + 1;
        }
    }
    if (err == 0) {
        *ret_filter = filter;
    }
    return err;
}
