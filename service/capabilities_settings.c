// SPDX-License-Identifier: Apache-2.0
/* ReplicationServiceCapabilities: values of ReplicationSettingData, rules for names. */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "service/capabilities_parts.h"
#include "service/classes.h"
#include "service/groups.h"
#include "service/handlers.h"
#include "service/setting_defaults.h"
#include "service/volumes.h"

static const struct setting_property *find_number(const struct replication_kind *kind,
                                                  uint32_t number)
{
    for (size_t i = 0; i < setting_properties_count(); i++) {
        const struct setting_property *property =
            setting_property_at(kind->sync_type, kind->mode, kind->remote, i);

        if (property->number == number) {
            return property;
        }
    }
    return NULL;
}

static enum param_type property_type(const char *name)
{
    for (size_t i = 0; i < class_ReplicationSettingData.n_params; i++) {
        if (strcmp(class_ReplicationSettingData.params[i].name, name) == 0) {
            return class_ReplicationSettingData.params[i].type;
        }
    }
    CHECK(!"a property of the class");
}

int method_get_supported_setting_data(struct call *call)
{
    struct replication_kind kind;
    uint32_t number;
    int r = capability_kind(call, &kind);

    if (r == 0) {
        r = capability_number(call, "PropertyName", &number);
    }
    if (r < 0) {
        return r;
    }
    const struct setting_property *property = find_number(&kind, number);
    CHECK(property != NULL || !enum_has(&map_setting_property, number));
    if (property == NULL || property->honours == SETTING_NOTHING) {
        return call_fail_param(call, ERR_PROPERTY_UNSUPPORTED, "PropertyName",
                               "%s has no effect on this kind of replication; leave it out.",
                               enum_text(&map_setting_property, number));
    }
    outs_array(call->outs, "SupportedValues");
    for (size_t i = 0; i < property->n_values; i++) {
        outs_add_number(call->outs, "SupportedValues", property->values[i]);
    }
    if (property->honours == SETTING_ANY && property_type(property->name) == PARAM_BOOL) {
        outs_add_number(call->outs, "SupportedValues", 2); /* false */
        outs_add_number(call->outs, "SupportedValues", 3); /* true */
    }
    return 0;
}

int method_get_default_setting_data(struct call *call)
{
    const struct class_info *class = &class_ReplicationSettingData;
    struct replication_kind kind;
    int r = capability_kind(call, &kind);

    if (r < 0) {
        return r;
    }
    struct values *instance = values_new(&call->arena, class->params, class->n_params);
    for (size_t i = 0; i < setting_properties_count(); i++) {
        const struct setting_property *property =
            setting_property_at(kind.sync_type, kind.mode, kind.remote, i);

        if (property->has_default) {
            outs_number(instance, property->name, property->initial);
        }
    }
    outs_path(instance, "InstanceID", "smirror:replication-type-%u", kind.number);
    outs_path(instance, "ElementName", "Default of %s",
              enum_text(&map_replication_type, kind.number));
    outs_instance(call->outs, "DefaultInstance", instance);
    return 0;
}

int method_get_element_name_capabilities(struct call *call)
{
    enum { GROUP = 2, GROUP_RELATIONSHIP = 4, REPLICATION_ENTITY = 6, ON_CREATION = 2 };
    static const uint32_t features[] = {ON_CREATION};
    uint32_t type;
    int r = capability_number(call, "ElementType", &type);

    if (r < 0) {
        return r;
    }
    if (type != REPLICATION_ENTITY && type != GROUP && type != GROUP_RELATIONSHIP) {
        return call_fail_param(call, ERR_NOT_SUPPORTED, "ElementType",
                               "A %s has no name in this version; groups (2), their relationships "
                               "(4) and a ReplicationEntity (6) have.",
                               enum_text(&map_name_element_type, type));
    }
    capability_add(call, "SupportedFeatures", features, ARRAY_LEN(features));
    /* In bytes of UTF-8, as the records have room for. */
    if (type != REPLICATION_ENTITY) {
        outs_number(call->outs, "MaxElementNameLen", GROUP_NAME_MAX);
        outs_path(call->outs, "ElementNameMask", "^.{1,%d}$", GROUP_NAME_MAX);
        return 0;
    }
    outs_number(call->outs, "MaxElementNameLen", ELEMENT_NAME_MAX);
    outs_path(call->outs, "ElementNameMask", "^.{1,%d}$", NAME_SIZE - 1);
    return 0;
}
