// SPDX-License-Identifier: Apache-2.0
#include "service/method.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "service/services.h"

const char *param_type_name(enum param_type type)
{
    switch (type) {
    case PARAM_STRING:
        return "string";
    case PARAM_BOOL:
        return "boolean";
    case PARAM_U8:
        return "uint8";
    case PARAM_U16:
        return "uint16";
    case PARAM_U32:
        return "uint32";
    case PARAM_U64:
        return "uint64";
    case PARAM_DATETIME:
        return "datetime";
    case PARAM_REF:
        return "ref";
    case PARAM_INSTANCE:
        return "instance";
    }
    return "unknown";
}

const char *enum_text(const struct enum_map *map, uint32_t number)
{
    for (size_t i = 0; i < map->n_values; i++) {
        if (map->values[i].number == number) {
            return map->values[i].text;
        }
    }
    return "Unknown";
}

bool enum_has(const struct enum_map *map, uint32_t number)
{
    for (size_t i = 0; i < map->n_values; i++) {
        if (map->values[i].number == number) {
            return true;
        }
    }
    return false;
}

/* The next letter that counts, lower case; 0 at the end. */
static char enum_letter(const char **text)
{
    while (**text == ' ' || **text == '-' || **text == '_') {
        (*text)++;
    }
    return **text == '\0' ? '\0' : (char)tolower((unsigned char)*(*text)++);
}

static bool enum_text_equal(const char *a, const char *b)
{
    char x;
    char y;

    do {
        x = enum_letter(&a);
        y = enum_letter(&b);
        if (x != y) {
            return false;
        }
    } while (x != '\0');
    return true;
}

int enum_number(const struct enum_map *map, const char *text, uint32_t *ret_number)
{
    for (size_t i = 0; i < map->n_values; i++) {
        if (enum_text_equal(map->values[i].text, text)) {
            *ret_number = map->values[i].number;
            return 0;
        }
    }
    return -ENOENT;
}

struct values *values_new(struct arena *arena, const struct param *params, size_t n_params)
{
    struct values *values = arena_alloc(arena, sizeof(*values));

    values->params = params;
    values->n_params = n_params;
    values->values = arena_alloc(arena, (n_params == 0 ? 1 : n_params) * sizeof(struct value));
    values->arena = arena;
    return values;
}

const struct param *values_param(const struct values *values, const char *name)
{
    for (size_t i = 0; i < values->n_params; i++) {
        if (strcmp(values->params[i].name, name) == 0) {
            return &values->params[i];
        }
    }
    return NULL;
}

struct value *values_get(const struct values *values, const char *name)
{
    const struct param *param = values_param(values, name);

    CHECK(param != NULL);
    return &values->values[param - values->params];
}

bool args_present(const struct values *values, const char *name)
{
    return values_get(values, name)->present;
}

const char *args_text(const struct values *values, const char *name)
{
    const struct value *value = values_get(values, name);

    return value->present ? value->text : NULL;
}

uint64_t args_number(const struct values *values, const char *name, uint64_t absent)
{
    const struct value *value = values_get(values, name);

    return value->present ? value->number : absent;
}

bool args_bool(const struct values *values, const char *name, bool absent)
{
    return args_number(values, name, absent) != 0;
}

const struct values *args_instance(const struct values *values, const char *name)
{
    const struct value *value = values_get(values, name);

    return value->present ? value->instance : NULL;
}

void outs_text(struct values *values, const char *name, const char *text)
{
    struct value *value = values_get(values, name);

    value->present = text != NULL;
    value->text = text == NULL ? NULL : arena_strdup(values->arena, text);
}

void outs_number(struct values *values, const char *name, uint64_t number)
{
    struct value *value = values_get(values, name);

    value->present = true;
    value->number = number;
}

void outs_path(struct values *values, const char *name, const char *fmt, ...)
{
    char path[1024];
    va_list args;

    va_start(args, fmt);
    vsnprintf(path, sizeof(path), fmt, args);
    va_end(args);
    outs_text(values, name, path);
}

/* A new last item. The array grows by powers of two; old ones stay in the arena. */
static struct value *outs_append(struct values *values, const char *name)
{
    struct value *value = values_get(values, name);
    size_t n = value->n_items;

    value->present = true;
    if ((n & (n - 1)) == 0) {
        struct value *items = arena_alloc(values->arena, (n == 0 ? 1 : n * 2) * sizeof(*items));

        if (n > 0) {
            memcpy(items, value->items, n * sizeof(*items));
        }
        value->items = items;
    }
    value->n_items++;
    value->items[n].present = true;
    return &value->items[n];
}

void outs_add_text(struct values *values, const char *name, const char *text)
{
    outs_append(values, name)->text = arena_strdup(values->arena, text);
}

void outs_add_number(struct values *values, const char *name, uint64_t number)
{
    outs_append(values, name)->number = number;
}

void outs_array(struct values *values, const char *name)
{
    values_get(values, name)->present = true;
}

void outs_instance(struct values *values, const char *name, struct values *instance)
{
    struct value *value = values_get(values, name);

    value->present = true;
    value->instance = instance;
}

void outs_add_instance(struct values *values, const char *name, struct values *instance)
{
    outs_append(values, name)->instance = instance;
}

static const struct service *const services[] = {
    &storage_configuration_service,
    &controller_configuration_service,
    &replication_service,
    &replication_service_capabilities,
};

const struct service *const *service_all(size_t *ret_n)
{
    *ret_n = ARRAY_LEN(services);
    return services;
}

const struct service *service_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(services); i++) {
        if (strcmp(services[i]->name, name) == 0) {
            return services[i];
        }
    }
    return NULL;
}

const struct method *service_method(const struct service *service, const char *name)
{
    for (size_t i = 0; i < service->n_methods; i++) {
        if (strcmp(service->methods[i].name, name) == 0) {
            return &service->methods[i];
        }
    }
    return NULL;
}
