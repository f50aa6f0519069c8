// SPDX-License-Identifier: Apache-2.0
/*
 * The capabilities that are properties: instances of CIM_ReplicationServiceCapabilities,
 * StorageConfigurationCapabilities and StorageReplicationCapabilities.
 *
 * An action that is in both lists may or may not make a job; one that never makes a job is in the
 * synchronous list only.
 */
#include <string.h>

#include "base/check.h"
#include "service/capabilities_parts.h"
#include "service/pipes.h"
#include "service/replica.h"
#include "service/services.h"
#include "service/view_maps.h"
#include "service/view_parts.h"

enum { ACTIONS_MAX = 32, INITIALLY_SYNCHRONIZED = 4, RETURNS_JOB = 4096 };

/* A list of numbers under way. */
struct numbers {
    uint32_t items[ACTIONS_MAX];
    size_t n;
};

static void numbers_add(struct numbers *numbers, uint32_t number)
{
    CHECK(numbers->n < ACTIONS_MAX);
    numbers->items[numbers->n++] = number;
}

static void out_numbers(struct out *out, const char *name, const struct enum_map *map,
                        const struct numbers *numbers)
{
    view_enums(out, name, map, numbers->items, numbers->n);
}

/* ReplicationServiceCapabilities */

/* The actions have the names of methods. What only reads never makes a job, whatever its return
 * values allow. */
static void replication_actions(struct out *out)
{
    struct numbers with_job = {.n = 0};
    struct numbers all = {.n = 0};

    for (size_t i = 0; i < map_replication_action.n_values; i++) {
        const struct enum_value *action = &map_replication_action.values[i];
        const struct method *method = service_method(&replication_service, action->text);
        if (method == NULL || method->handler == NULL) {
            continue;
        }
        if (!method->read_only && enum_has(method->return_values, RETURNS_JOB)) {
            numbers_add(&with_job, action->number);
        }
        numbers_add(&all, action->number);
    }
    out_numbers(out, "SupportedAsynchronousActions", &map_replication_action, &with_job);
    out_numbers(out, "SupportedSynchronousActions", &map_replication_action, &all);
}

void capabilities_replication(struct out *out)
{
    /* LUNs, also those that AddReplicationEntity has brought. */
    static const uint32_t objects[] = {2, 4};
    struct numbers types = {.n = 0};

    out_text(out, "InstanceID", INSTANCE_ID "replication");
    out_text(out, "ElementName", "Replication capabilities");
    for (size_t i = 0; i < map_replication_type.n_values; i++) {
        struct replication_kind kind;
        replication_kind_of(map_replication_type.values[i].number, &kind);
        if (replication_kind_supported(&kind)) {
            numbers_add(&types, kind.number);
        }
    }
    out_numbers(out, "SupportedReplicationTypes", &map_replication_type, &types);
    view_enums(out, "SupportedStorageObjects", &map_storage_object, objects, ARRAY_LEN(objects));
    replication_actions(out);
}

/* StorageConfigurationCapabilities */

struct configuration_action {
    uint32_t number;
    const char *method;
    bool may_make_job;
};
static const struct configuration_action configuration_actions[] = {
    {2, "CreateOrModifyStoragePool", false},
    {3, "DeleteStoragePool", false},
    {4, "CreateOrModifyStoragePool", false},
    {5, "CreateOrModifyElementFromStoragePool", false},
    {6, "ReturnToStoragePool", false},
    {7, "CreateOrModifyElementFromStoragePool", false},
    {8, "CreateReplica", true},
    {9, "ModifySynchronization", true},
    {10, "AttachOrModifyReplica", true},
    {11, "ScsiScan", false},
};

static bool has_handler(const char *name)
{
    const struct method *method = service_method(&storage_configuration_service, name);

    return method != NULL && method->handler != NULL;
}

static void configuration_capabilities(struct out *out)
{
    /* From LUNs; a new set of LUNs may be larger or smaller. */
    static const uint32_t pool_features[] = {2, 6, 7};
    static const uint32_t copy_types[] = {COPY_UNSYNC_ASSOC, COPY_UNSYNC_UNASSOC};
    struct numbers with_job = {.n = 0};
    struct numbers all = {.n = 0};

    for (size_t i = 0; i < ARRAY_LEN(configuration_actions); i++) {
        const struct configuration_action *action = &configuration_actions[i];
        if (has_handler(action->method)) {
            numbers_add(&all, action->number);
            if (action->may_make_job) {
                numbers_add(&with_job, action->number);
            }
        }
    }
    out_begin_object(out, "StorageConfigurationCapabilities");
    out_text(out, "class", "StorageConfigurationCapabilities");
    out_text(out, "InstanceID", INSTANCE_ID "configuration");
    out_text(out, "ElementName", "Storage configuration capabilities");
    out_numbers(out, "SupportedAsynchronousActions", &map_configuration_action, &with_job);
    out_numbers(out, "SupportedSynchronousActions", &map_configuration_action, &all);
    view_enums(out, "SupportedStoragePoolFeatures", &map_pool_feature, pool_features,
               ARRAY_LEN(pool_features));
    view_enums(out, "SupportedCopyTypes", &map_copy_type, copy_types, ARRAY_LEN(copy_types));
    out_enum(out, "InitialReplicationState", &map_initial_replication_state,
             INITIALLY_SYNCHRONIZED);
    out_end_object(out);
}

/* StorageReplicationCapabilities: one for each kind of copy. */

enum { COPY_ACTIONS_MAX = 7 };

struct copy_services {
    const char *instance_id;
    const char *name;
    uint32_t synchronization_type; /* not the number of the CopyType */
    uint32_t copy_type;
    uint32_t sync_type;
    bool shares;                             /* can be made of shared layers */
    bool copies;                             /* can be made by a job */
    uint32_t max_per_source;                 /* 0: no limit */
    uint32_t with_job[COPY_ACTIONS_MAX + 1]; /* creation, modification, attachment; ended by 0 */
    uint32_t all[COPY_ACTIONS_MAX + 1];
};
/* With InitialSynchronization 3 there is no job for a full copy either. */
static const struct copy_services copy_services[] = {
    {INSTANCE_ID "copy-type-4",
     "Full copies that stay related",
     4,
     COPY_UNSYNC_ASSOC,
     SYNC_CLONE,
     false,
     true,
     0,
     {2, 3, 4, 5, 7},
     {2, 3, 4, 5, 7, 9}},
    {INSTANCE_ID "copy-type-4-delta",
     "Snapshots",
     5,
     COPY_UNSYNC_ASSOC,
     SYNC_SNAPSHOT,
     true,
     false,
     REPLICA_MAX_SHARING,
     {0},
     {2, 4, 6}},
    {INSTANCE_ID "copy-type-5",
     "Clones",
     6,
     COPY_UNSYNC_UNASSOC,
     SYNC_CLONE,
     true,
     true,
     0,
     {2, 3, 4, 5, 6, 7},
     {2, 3, 4, 5, 6, 7, 9}},
};

static bool legacy_possible(const struct copy_services *services, uint32_t operation)
{
    return (services->copies &&
            replica_verdict(services->sync_type, ENGINE_COPY, STATE_SYNCHRONIZED, operation,
                            services->copy_type) != VERDICT_NOT_SUPPORTED) ||
           (services->shares &&
            replica_verdict(services->sync_type, ENGINE_LAYERS, STATE_SYNCHRONIZED, operation,
                            services->copy_type) != VERDICT_NOT_SUPPORTED);
}

static void legacy_supported(struct out *out, const struct copy_services *services)
{
    struct numbers operations = {.n = 0};

    for (size_t i = 0; i < map_legacy_operation.n_values; i++) {
        uint32_t number = map_legacy_operation.values[i].number;

        if (legacy_possible(services, replica_legacy_operation(number))) {
            numbers_add(&operations, number);
        }
    }
    out_numbers(out, "SupportedModifyOperations", &map_legacy_operation, &operations);
}

static void copy_actions(struct out *out, const char *name, const uint32_t *actions)
{
    struct numbers numbers = {.n = 0};

    for (; *actions != 0; actions++) {
        numbers_add(&numbers, *actions);
    }
    out_numbers(out, name, &map_copy_services_action, &numbers);
}

static void replication_capabilities(struct out *out, const struct copy_services *services)
{
    out_begin_object(out, NULL);
    out_text(out, "class", "StorageReplicationCapabilities");
    out_text(out, "InstanceID", services->instance_id);
    out_text(out, "ElementName", services->name);
    out_enum(out, "SupportedSynchronizationType", &map_synchronization_type,
             services->synchronization_type);
    copy_actions(out, "SupportedAsynchronousActions", services->with_job);
    copy_actions(out, "SupportedSynchronousActions", services->all);
    legacy_supported(out, services);
    out_enum(out, "InitialReplicationState", &map_initial_replication_state,
             INITIALLY_SYNCHRONIZED);
    out_number(out, "MaximumReplicasPerSource", services->max_per_source);
    out_bool(out, "BidirectionalConnectionsSupported", true);
    out_number(out, "MaximumPortsPerConnection", PIPE_PAIRS_MAX);
    out_number(out, "MaximumConnectionsPerPort", PIPES_PER_PORT_MAX);
    out_number(out, "MaximumPeerConnections", PIPES_PER_PEER_MAX);
    out_end_object(out);
}

void capabilities_configuration(struct out *out)
{
    configuration_capabilities(out);
    out_begin_array(out, "StorageReplicationCapabilities");
    for (size_t i = 0; i < ARRAY_LEN(copy_services); i++) {
        replication_capabilities(out, &copy_services[i]);
    }
    out_end_array(out);
}
