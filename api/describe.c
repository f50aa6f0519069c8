// SPDX-License-Identifier: Apache-2.0
#include "api/describe.h"

#include <inttypes.h>
#include <stdio.h>

static void describe_map(struct out *out, const char *name, const struct enum_map *map)
{
    if (map == NULL) {
        out_null(out, name);
        return;
    }
    out_begin_object(out, name);
    for (size_t i = 0; i < map->n_values; i++) {
        char number[16];
        snprintf(number, sizeof(number), "%" PRIu32, map->values[i].number);
        out_text(out, number, map->values[i].text);
    }
    out_end_object(out);
}

static void describe_param(struct out *out, const struct param *param)
{
    static const char *const directions[] = {
        [PARAM_IN] = "in", [PARAM_OUT] = "out", [PARAM_INOUT] = "inout"};
    char type[96];
    bool has_class = param->type == PARAM_REF || param->type == PARAM_INSTANCE;
    snprintf(type, sizeof(type), "%s%s%s", param_type_name(param->type), has_class ? ":" : "",
             has_class ? param->class_name : "");
    out_begin_object(out, NULL);
    out_text(out, "Name", param->name);
    out_text(out, "Type", type);
    out_text(out, "Direction", directions[param->direction]);
    out_bool(out, "Required", param->required);
    out_bool(out, "Array", param->array);
    out_text(out, "Enum", param->map != NULL ? param->map->name : NULL);
    describe_map(out, "Values", param->map);
    out_end_object(out);
}

void describe_methods(struct out *out, const char *name, const struct service *service)
{
    out_begin_array(out, name);
    for (size_t i = 0; i < service->n_methods; i++) {
        const struct method *method = &service->methods[i];
        char path[160];
        snprintf(path, sizeof(path), "/services/%s/%s", service->name, method->name);
        out_begin_object(out, NULL);
        out_text(out, "Name", method->name);
        out_text(out, "Path", path);
        out_bool(out, "Supported", method->handler != NULL);
        out_begin_array(out, "Parameters");
        for (size_t j = 0; j < method->n_params; j++) {
            describe_param(out, &method->params[j]);
        }
        out_end_array(out);
        describe_map(out, "ReturnValues", method->return_values);
        out_end_object(out);
    }
    out_end_array(out);
}
