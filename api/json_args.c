// SPDX-License-Identifier: Apache-2.0
#include "api/json_args.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/utf8.h"
#include "base/strbuf.h"
#include "base/timefmt.h"

enum { NAME_MAX_LEN = 96 };

struct bind {
    struct arena *arena;
    struct error *error;
};

static int bind_object(struct bind *bind, const char *prefix, const cJSON *object,
                       const struct class_info *class, struct values *values);

static void member_path(char out[NAME_MAX_LEN], const char *prefix, const char *name)
{
    /* Names come from outside: cut before a character that does not fit whole. */
    int written = snprintf(out, NAME_MAX_LEN, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", name);
    if (written >= NAME_MAX_LEN) {
        size_t len = NAME_MAX_LEN - 1;
        while (len > 0 && !utf8_valid(out, len)) {
            len--;
        }
        out[len] = '\0';
    }
}

/* "uint16", "string", "reference", … for people. */
static const char *wanted(const struct param *param)
{
    switch (param->type) {
    case PARAM_STRING:
        return "a string";
    case PARAM_BOOL:
        return "true or false";
    case PARAM_U8:
        return "a whole number from 0 to 255";
    case PARAM_U16:
        return param->map != NULL ? "a number or a name of the enumeration"
                                  : "a whole number from 0 to 65535";
    case PARAM_U32:
        return "a whole number from 0 to 4294967295";
    case PARAM_U64:
        return "a whole number from 0 to 18446744073709551615, as number or string of digits";
    case PARAM_DATETIME:
        return "a time (RFC 3339), an interval (ISO 8601, like PT30S) or a CIM datetime, as string";
    case PARAM_REF:
        return "the path of an object, as string that begins with '/'";
    case PARAM_INSTANCE:
        return "an object";
    }
    return "something else";
}

static int wrong_type(struct bind *bind, const char *path, const struct param *param,
                      const cJSON *item)
{
    return error_param(bind->error, ERR_WRONG_TYPE, path, "%s has to be %s, not %s.", path,
                       wanted(param), json_kind(item));
}

static int bad_value(struct bind *bind, const char *path, const struct param *param)
{
    return error_param(bind->error, ERR_BAD_VALUE, path, "%s has to be %s.", path, wanted(param));
}

/* Only digits. False for anything else, and for what does not fit. */
static bool digits_to_number(const char *text, uint64_t max, uint64_t *ret_number)
{
    uint64_t number = 0;
    if (*text == '\0') {
        return false;
    }
    for (const char *p = text; *p != '\0'; p++) {
        if (*p < '0' || *p > '9') {
            return false;
        }
        uint64_t digit = (uint64_t)(*p - '0');
        if (number > (UINT64_MAX - digit) / 10) {
            return false;
        }
        number = number * 10 + digit;
    }
    if (number > max) {
        return false;
    }
    *ret_number = number;
    return true;
}

static uint64_t type_max(enum param_type type)
{
    switch (type) {
    case PARAM_U8:
        return UINT8_MAX;
    case PARAM_U16:
        return UINT16_MAX;
    case PARAM_U32:
        return UINT32_MAX;
    default:
        return UINT64_MAX;
    }
}

/* "2 Low, 3 Same, 4 High" */
static int bad_enumeration(struct bind *bind, const char *path, const struct enum_map *map)
{
    char list[320];
    size_t len = 0;
    list[0] = '\0';
    for (size_t i = 0; i < map->n_values && len < sizeof(list); i++) {
        len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%" PRIu32 " %s",
                                i > 0 ? ", " : "", map->values[i].number, map->values[i].text);
    }
    return error_param(bind->error, ERR_BAD_VALUE, path, "%s has to be one of: %s%s", path, list,
                       len < sizeof(list) ? "." : " …");
}

static int bind_number(struct bind *bind, const char *path, const struct param *param,
                       const cJSON *item, struct value *value)
{
    const char *digits = json_number_text(item);
    if (digits == NULL && json_is_string(item)) {
        if (param->map != NULL) {
            uint32_t number;
            if (enum_number(param->map, item->valuestring, &number) != 0) {
                return bad_enumeration(bind, path, param->map);
            }
            value->number = number;
            return 0;
        }
        if (param->type == PARAM_U64) {
            return digits_to_number(item->valuestring, UINT64_MAX, &value->number)
                       ? 0
                       : bad_value(bind, path, param);
        }
    }
    if (digits == NULL) {
        return wrong_type(bind, path, param, item);
    }
    if (strpbrk(digits, ".eE") != NULL) {
        return error_param(bind->error, ERR_WRONG_TYPE, path,
                           "%s has to be %s, without fraction or exponent.", path, wanted(param));
    }
    if (!digits_to_number(digits, type_max(param->type), &value->number)) {
        return param->map != NULL ? bad_enumeration(bind, path, param->map)
                                  : bad_value(bind, path, param);
    }
    if (param->map != NULL && !enum_has(param->map, (uint32_t)value->number)) {
        return bad_enumeration(bind, path, param->map);
    }
    return 0;
}

static bool has_control_character(const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        /* C1 controls are 0xc2 0x80 to 0xc2 0x9f. */
        if (*p < 0x20 || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0)) {
            return true;
        }
    }
    return false;
}

static int bind_text(struct bind *bind, const char *path, const struct param *param,
                     const cJSON *item, struct value *value)
{
    uint64_t ms;
    if (!json_is_string(item)) {
        return wrong_type(bind, path, param, item);
    }
    const char *text = item->valuestring;
    if (strlen(text) > JSON_TEXT_MAX) {
        return error_param(bind->error, ERR_BAD_VALUE, path, "%s is longer than %d bytes.", path,
                           JSON_TEXT_MAX);
    }
    if (has_control_character(text)) {
        return error_param(bind->error, ERR_BAD_VALUE, path,
                           "%s may not contain control characters.", path);
    }
    if (param->type == PARAM_REF && text[0] != '/') {
        return bad_value(bind, path, param);
    }
    if (param->type == PARAM_DATETIME && timefmt_parse_time(text, &ms) != 0 &&
        timefmt_parse_duration(text, &ms) != 0) {
        return bad_value(bind, path, param);
    }
    value->text = arena_strdup(bind->arena, text);
    return 0;
}

static int bind_instance(struct bind *bind, const char *path, const struct param *param,
                         const cJSON *item, struct value *value)
{
    struct values *values = values_new(bind->arena, param->class->params, param->class->n_params);
    int err;
    if (cJSON_IsObject(item)) {
        err = bind_object(bind, path, item, param->class, values);
    } else if (json_is_string(item)) {
        struct json_doc doc;
        size_t len = strlen(item->valuestring);
        struct error cause = {0};
        if (len == 0 || json_doc_parse(&doc, item->valuestring, len, &cause) != 0) {
            return error_param(bind->error, ERR_BAD_VALUE, path,
                               "%s is a string, and so has to hold a JSON object. %.200s", path,
                               cause.detail);
        }
        err = bind_object(bind, path, doc.root, param->class, values);
        json_doc_free(&doc);
    } else {
        return wrong_type(bind, path, param, item);
    }
    if (err == 0) {
        value->instance = values;
    }
    return err;
}

static int bind_single(struct bind *bind, const char *path, const struct param *param,
                       const cJSON *item, struct value *value)
{
    int err = 0;
    switch (param->type) {
    case PARAM_STRING:
    case PARAM_DATETIME:
    case PARAM_REF:
        err = bind_text(bind, path, param, item, value);
        break;
    case PARAM_BOOL:
        if (!cJSON_IsBool(item)) {
            return wrong_type(bind, path, param, item);
        }
        value->number = cJSON_IsTrue(item) ? 1 : 0;
        break;
    case PARAM_U8:
    case PARAM_U16:
    case PARAM_U32:
    case PARAM_U64:
        err = bind_number(bind, path, param, item, value);
        break;
    case PARAM_INSTANCE:
        err = bind_instance(bind, path, param, item, value);
        break;
    }
    if (err == 0) {
        value->present = true;
    }
    return err;
}

static int bind_array(struct bind *bind, const char *path, const struct param *param,
                      const cJSON *array, struct value *value)
{
    if (!cJSON_IsArray(array)) {
        return error_param(bind->error, ERR_WRONG_TYPE, path, "%s has to be an array, not %s.",
                           path, json_kind(array));
    }
    size_t n = (size_t)cJSON_GetArraySize(array);
    struct value *items = arena_alloc(bind->arena, (n > 0 ? n : 1) * sizeof(*items));
    size_t i = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, array)
    {
        if (!cJSON_IsNull(item)) {
            char item_path[NAME_MAX_LEN + 24];
            snprintf(item_path, sizeof(item_path), "%s[%zu]", path, i);
            int err = bind_single(bind, item_path, param, item, &items[i]);
            if (err != 0) {
                return err;
            }
        }
        i++;
    }
    value->items = items;
    value->n_items = n;
    value->present = true;
    return 0;
}

/* The "class" of an instance may be said; then it must be right. */
static int check_class(struct bind *bind, const char *prefix, const cJSON *item,
                       const struct class_info *class)
{
    static const char cim[] = "CIM_";
    char path[NAME_MAX_LEN];
    member_path(path, prefix, "class");
    if (cJSON_IsNull(item)) {
        return 0;
    }
    if (!json_is_string(item)) {
        return error_param(bind->error, ERR_WRONG_TYPE, path, "%s has to be a string, not %s.",
                           path, json_kind(item));
    }
    const char *name = item->valuestring;
    if (strncmp(name, cim, sizeof(cim) - 1) == 0) {
        name += sizeof(cim) - 1;
    }
    if (strcmp(name, class->name) != 0) {
        return error_param(bind->error, ERR_BAD_VALUE, path, "%s has to be %s.", path, class->name);
    }
    return 0;
}

static int unknown_member(struct bind *bind, const char *prefix, const char *name,
                          const struct values *values)
{
    char path[NAME_MAX_LEN];
    char list[256];
    size_t len = 0;
    list[0] = '\0';
    member_path(path, prefix, name);
    for (size_t i = 0; i < values->n_params; i++) {
        const struct param *param = &values->params[i];
        if (strcasecmp(param->name, name) == 0) {
            return error_param(bind->error, ERR_UNKNOWN_MEMBER, path,
                               "There is no %s; it is spelled %s.", path, param->name);
        }
        if ((param->direction & PARAM_IN) != 0 && len < sizeof(list)) {
            len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", len > 0 ? ", " : "",
                                    param->name);
        }
    }
    if (len == 0) {
        return error_param(bind->error, ERR_UNKNOWN_MEMBER, path,
                           "There is no %s; nothing can be given here.", path);
    }
    return error_param(bind->error, ERR_UNKNOWN_MEMBER, path,
                       "There is no %s; what can be given: %s%s", path, list,
                       len < sizeof(list) ? "." : " …");
}

/* Every member has to be in the table, once, and not be an output; ret_items[i] is what was given
 * for params[i]. */
static int match_names(struct bind *bind, const char *prefix, const cJSON *object,
                       const struct class_info *class, const struct values *values,
                       const cJSON **ret_items)
{
    bool has_class = false;
    const cJSON *item;
    cJSON_ArrayForEach(item, object)
    {
        char path[NAME_MAX_LEN];
        const struct param *param = values_param(values, item->string);
        bool twice;
        member_path(path, prefix, item->string);
        if (param != NULL) {
            const cJSON **slot = &ret_items[param - values->params];
            twice = *slot != NULL;
            *slot = item;
        } else if (class != NULL && strcmp(item->string, "class") == 0) {
            twice = has_class;
            has_class = true;
            int err = check_class(bind, prefix, item, class);
            if (err != 0) {
                return err;
            }
        } else {
            return unknown_member(bind, prefix, item->string, values);
        }
        if (twice) {
            return error_param(bind->error, ERR_BAD_JSON, path, "%s is given twice.", path);
        }
        if (param != NULL && (param->direction & PARAM_IN) == 0 && !cJSON_IsNull(item)) {
            return error_param(bind->error, ERR_OUT_PARAMETER, path,
                               "%s is an output; leave it out.", path);
        }
    }
    return 0;
}

/* class is NULL for the parameters of a method. */
static int bind_object(struct bind *bind, const char *prefix, const cJSON *object,
                       const struct class_info *class, struct values *values)
{
    size_t n = values->n_params;
    const cJSON **items = arena_alloc(bind->arena, (n > 0 ? n : 1) * sizeof(*items));
    int err = match_names(bind, prefix, object, class, values, items);
    for (size_t i = 0; err == 0 && i < n; i++) {
        const struct param *param = &values->params[i];
        if (items[i] != NULL && !cJSON_IsNull(items[i])) {
            char path[NAME_MAX_LEN];
            member_path(path, prefix, param->name);
            err = param->array ? bind_array(bind, path, param, items[i], &values->values[i])
                               : bind_single(bind, path, param, items[i], &values->values[i]);
        }
    }
    for (size_t i = 0; err == 0 && i < n; i++) {
        const struct param *param = &values->params[i];
        if (param->required && (param->direction & PARAM_IN) != 0 && !values->values[i].present) {
            char path[NAME_MAX_LEN];
            member_path(path, prefix, param->name);
            err = error_param(bind->error, ERR_MISSING_PARAMETER, path, "%s is required: %s%s.",
                              path, param->array ? "an array, each entry " : "", wanted(param));
        }
    }
    return err;
}

int json_args(const struct json_doc *doc, struct arena *arena, const struct param *params,
              size_t n_params, struct values **ret_values, struct error *error)
{
    struct bind bind = {.arena = arena, .error = error};
    struct values *values = values_new(arena, params, n_params);
    int err = bind_object(&bind, "", doc->root, NULL, values);
    if (err == 0) {
        *ret_values = values;
    }
    return err;
}
