// SPDX-License-Identifier: Apache-2.0
/* Services: their methods as their tables say, and what they support. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "service/capabilities_parts.h"
#include "service/services.h"
#include "service/view_maps.h"
#include "service/view_parts.h"

enum { ENABLED = 2, REQUESTED_NOT_APPLICABLE = 12, ENABLED_BY_DEFAULT = 2 };

static const struct service *service_at(size_t index)
{
    size_t n;
    const struct service *const *services = service_all(&n);

    CHECK(index < n);
    return services[index];
}

static const char *service_id(size_t index)
{
    return service_at(index)->name;
}

/* The values of an enumeration, by number. */
static void out_map(struct out *out, const char *name, const struct enum_map *map)
{
    char number[16];

    out_begin_object(out, name);
    for (size_t i = 0; i < map->n_values; i++) {
        snprintf(number, sizeof(number), "%u", map->values[i].number);
        out_text(out, number, map->values[i].text);
    }
    out_end_object(out);
}

static void parameter_type(struct out *out, const struct param *param)
{
    char type[96];
    bool classed = param->type == PARAM_REF || param->type == PARAM_INSTANCE;

    snprintf(type, sizeof(type), "%s%s%s", param_type_name(param->type), classed ? ":" : "",
             classed ? param->class_name : "");
    out_text(out, "Type", type);
}

static void parameter(struct out *out, const struct param *param)
{
    static const char *const directions[] = {
        [PARAM_IN] = "in", [PARAM_OUT] = "out", [PARAM_INOUT] = "inout"};

    out_begin_object(out, NULL);
    out_text(out, "Name", param->name);
    parameter_type(out, param);
    out_text(out, "Direction", directions[param->direction]);
    out_bool(out, "Required", param->required);
    out_bool(out, "Array", param->array);
    if (param->map != NULL) {
        out_text(out, "Enum", param->map->name);
        out_map(out, "Values", param->map);
    } else {
        out_null(out, "Enum");
        out_null(out, "Values");
    }
    out_end_object(out);
}

static void methods(struct out *out, const struct service *service)
{
    char path[160];

    out_begin_array(out, "Methods");
    for (size_t i = 0; i < service->n_methods; i++) {
        const struct method *method = &service->methods[i];
        out_begin_object(out, NULL);
        out_text(out, "Name", method->name);
        snprintf(path, sizeof(path), "/services/%s/%s", service->name, method->name);
        out_text(out, "Path", path);
        out_bool(out, "Supported", method->handler != NULL);
        out_begin_array(out, "Parameters");
        for (size_t k = 0; k < method->n_params; k++) {
            parameter(out, &method->params[k]);
        }
        out_end_array(out);
        out_map(out, "ReturnValues", method->return_values);
        out_end_object(out);
    }
    out_end_array(out);
}

/* A service is there as long as we answer. */
static void service_state(struct out *out)
{
    out_ref(out, "System", "systems", "local");
    out_enum(out, "EnabledState", &map_enabled_state, ENABLED);
    out_enum(out, "RequestedState", &map_requested_state, REQUESTED_NOT_APPLICABLE);
    out_enum(out, "EnabledDefault", &map_enabled_default, ENABLED_BY_DEFAULT);
    view_status(out, STATUS_OK, 0, HEALTH_OK);
}

static void service_item(struct view *view, size_t index, struct out *out)
{
    const struct service *service = service_at(index);

    (void)view;
    out_begin_object(out, NULL);
    out_ref(out, "self", view_collections[COLLECTION_SERVICES].path, service->name);
    out_text(out, "class", service->class_name);
    out_text(out, "Name", service->name);
    if (service == &replication_service_capabilities) {
        capabilities_replication(out);
    } else if (service == &replication_service) {
        out_text(out, "ElementName", "Replication");
        service_state(out);
        out_ref(out, "ReplicationServiceCapabilities", view_collections[COLLECTION_SERVICES].path,
                replication_service_capabilities.name);
    } else if (service == &controller_configuration_service) {
        out_text(out, "ElementName", "Controller configuration");
        service_state(out);
    } else {
        out_text(out, "ElementName", "Storage configuration");
        service_state(out);
        capabilities_configuration(out);
    }
    methods(out, service);
    out_end_object(out);
}

enum { SERVICES = 4 };
const struct view_kind view_services = {
    .n_items = SERVICES,
    .item_id = service_id,
    .item = service_item,
};
