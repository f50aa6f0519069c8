// SPDX-License-Identifier: Apache-2.0
#include "service/out.h"

#include <string.h>

#include "base/check.h"
#include "base/timefmt.h"

void out_begin_object(struct out *out, const char *name)
{
    out->ops->begin_object(out, name);
}

void out_end_object(struct out *out)
{
    out->ops->end_object(out);
}

void out_begin_array(struct out *out, const char *name)
{
    out->ops->begin_array(out, name);
}

void out_end_array(struct out *out)
{
    out->ops->end_array(out);
}

void out_text(struct out *out, const char *name, const char *text)
{
    out->ops->text(out, name, text);
}

void out_number(struct out *out, const char *name, uint64_t number)
{
    out->ops->number(out, name, number);
}

void out_bool(struct out *out, const char *name, bool value)
{
    out->ops->boolean(out, name, value);
}

void out_null(struct out *out, const char *name)
{
    out->ops->text(out, name, NULL);
}

void out_raw(struct out *out, const char *name, const char *rendered)
{
    out->ops->raw(out, name, rendered);
}

void out_text_or_null(struct out *out, const char *name, const char *text)
{
    out_text(out, name, text[0] == '\0' ? NULL : text);
}

/* Names are written thousands of times for a page: nothing of printf here. */
const char *out_companion(const char *name, char ret_companion[OUT_COMPANION_SIZE])
{
    size_t len = strlen(name);

    CHECK(len + sizeof("Text") <= OUT_COMPANION_SIZE);
    memcpy(ret_companion, name, len);
    memcpy(ret_companion + len, "Text", sizeof("Text"));
    return ret_companion;
}

void out_enum(struct out *out, const char *name, const struct enum_map *map, uint32_t number)
{
    char companion[OUT_COMPANION_SIZE];

    out_number(out, name, number);
    out_text(out, out_companion(name, companion), enum_text(map, number));
}

void out_ref(struct out *out, const char *name, const char *collection, const char *id)
{
    char path[128];
    size_t collection_len = strlen(collection);
    size_t id_len = strlen(id);

    if (id_len == 0) {
        out_null(out, name);
        return;
    }
    CHECK(collection_len + id_len + sizeof("//") <= sizeof(path));
    path[0] = '/';
    memcpy(path + 1, collection, collection_len);
    path[1 + collection_len] = '/';
    memcpy(path + 2 + collection_len, id, id_len + 1);
    out_text(out, name, path);
}

void out_time(struct out *out, const char *name, uint64_t ms)
{
    char text[TIMEFMT_SIZE];

    if (ms == 0) {
        out_null(out, name);
        return;
    }
    timefmt_rfc3339(ms, text);
    out_text(out, name, text);
}

void out_interval(struct out *out, const char *name, uint64_t ms)
{
    char text[TIMEFMT_SIZE];

    timefmt_duration(ms, text);
    out_text(out, name, text);
}

static void out_single(struct out *out, const char *name, const struct param *param,
                       const struct value *value);

/* All properties. An instance that can be sent back as it is has no companions; one that only comes out has. */
static void out_instance(struct out *out, const char *name, const struct param *param,
                         const struct values *instance)
{
    out_begin_object(out, name);
    out_text(out, "class", param->class_name);
    for (size_t i = 0; i < instance->n_params; i++) {
        const struct param *property = &instance->params[i];

        if (property->direction == PARAM_OUT) {
            out_value(out, property, &instance->values[i]);
        } else {
            CHECK(!property->array);
            out_single(out, property->name, property, &instance->values[i]);
        }
    }
    out_end_object(out);
}

static void out_single(struct out *out, const char *name, const struct param *param,
                       const struct value *value)
{
    if (!value->present) {
        out_null(out, name);
        return;
    }
    switch (param->type) {
    case PARAM_STRING:
    case PARAM_DATETIME:
    case PARAM_REF:
        out_text(out, name, value->text);
        break;
    case PARAM_BOOL:
        out_bool(out, name, value->number != 0);
        break;
    case PARAM_U8:
    case PARAM_U16:
    case PARAM_U32:
    case PARAM_U64:
        out_number(out, name, value->number);
        break;
    case PARAM_INSTANCE:
        out_instance(out, name, param, value->instance);
        break;
    }
}

/* The companions of an enumeration: its names beside its numbers. */
static void out_value_names(struct out *out, const struct param *param, const struct value *value)
{
    char companion[OUT_COMPANION_SIZE];

    out_companion(param->name, companion);
    if (!value->present) {
        out_null(out, companion);
    } else if (param->array) {
        out_begin_array(out, companion);
        for (size_t i = 0; i < value->n_items; i++) {
            out_text(out, NULL, enum_text(param->map, (uint32_t)value->items[i].number));
        }
        out_end_array(out);
    } else {
        out_text(out, companion, enum_text(param->map, (uint32_t)value->number));
    }
}

void out_value(struct out *out, const struct param *param, const struct value *value)
{
    if (param->array && value->present) {
        out_begin_array(out, param->name);
        for (size_t i = 0; i < value->n_items; i++) {
            out_single(out, NULL, param, &value->items[i]);
        }
        out_end_array(out);
    } else {
        out_single(out, param->name, param, value);
    }
    if (param->map != NULL) {
        out_value_names(out, param, value);
    }
}
