// SPDX-License-Identifier: Apache-2.0
/* What the views of all kinds share. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/view_parts.h"

void view_head(struct out *out, enum collection collection, const char *id)
{
    const struct view_collection *where = &view_collections[collection];

    out_ref(out, "self", where->path, id);
    out_text(out, "class", where->class_name);
}

void view_instance_id(struct out *out, const char *name, const char *id)
{
    char text[ID_SIZE + sizeof(INSTANCE_ID)];

    snprintf(text, sizeof(text), INSTANCE_ID "%s", id);
    out_text(out, name, text);
}

void view_enums(struct out *out, const char *name, const struct enum_map *map,
                const uint32_t *numbers, size_t n)
{
    char companion[OUT_COMPANION_SIZE];

    out_begin_array(out, name);
    for (size_t i = 0; i < n; i++) {
        out_number(out, NULL, numbers[i]);
    }
    out_end_array(out);
    out_begin_array(out, out_companion(name, companion));
    for (size_t i = 0; i < n; i++) {
        out_text(out, NULL, enum_text(map, numbers[i]));
    }
    out_end_array(out);
}

void view_enum_or_null(struct out *out, const char *name, const struct enum_map *map,
                       uint32_t number)
{
    char companion[OUT_COMPANION_SIZE];

    if (number != 0) {
        out_enum(out, name, map, number);
        return;
    }
    out_null(out, name);
    out_null(out, out_companion(name, companion));
}

void view_status(struct out *out, uint32_t first, uint32_t second, uint32_t health)
{
    const uint32_t status[] = {first, second};

    view_enums(out, "OperationalStatus", &map_operational_status, status, second == 0 ? 1 : 2);
    out_enum(out, "HealthState", &map_health_state, health);
}

int id_list_add(struct id_list *list, const char *id)
{
    if (list->n == list->size) {
        size_t size = list->size == 0 ? 8 : list->size * 2;
        void *ids = realloc(list->ids, size * sizeof(*list->ids));
        if (ids == NULL) {
            return -ENOMEM;
        }
        list->ids = ids;
        list->size = size;
    }
    snprintf(list->ids[list->n], sizeof(list->ids[0]), "%s", id);
    list->n++;
    return 0;
}

void id_list_fini(struct id_list *list)
{
    free(list->ids);
    *list = (struct id_list){0};
}

static int related_add(void *arg, int64_t seq, const char *id)
{
    struct related *related = arg;

    if (related->n == related->size) {
        size_t size = related->size == 0 ? 32 : related->size * 2;
        void *items = realloc(related->items, size * sizeof(*related->items));
        if (items == NULL) {
            return -ENOMEM;
        }
        related->items = items;
        related->size = size;
    }
    related->items[related->n].seq = seq;
    snprintf(related->items[related->n].id, ID_SIZE, "%s", id);
    related->n++;
    return 0;
}

int view_related(struct view *view, struct related *related, const struct table *table,
                 const struct table_relation *relation, int64_t seq, struct id_list *list)
{
    const struct view_walk *walk = &view->walk;
    int r = 0;

    if (!related->loaded) {
        related->n = 0;
        related->at = 0;
        r = table_each_related(view->db, table, walk->where, walk->after_seq, walk->limit, relation,
                               related_add, related);
        related->loaded = r == 0;
    }
    while (r == 0 && related->at < related->n && related->items[related->at].seq <= seq) {
        if (related->items[related->at].seq == seq) {
            r = id_list_add(list, related->items[related->at].id);
        }
        related->at++;
    }
    return r;
}

void view_paths(struct out *out, const char *collection, const struct id_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        out_ref(out, NULL, collection, list->ids[i]);
    }
}
