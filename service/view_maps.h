// SPDX-License-Identifier: Apache-2.0
/*
 * The enumerations that only come out: properties of services, systems and endpoints.
 *
 * Thread:    constant.
 * Ownership: constant.
 * Errors:    none.
 *
 * Map names are those of x-enums in openapi.yaml; what a client can also send is in
 * service/enums.h.
 */
#ifndef SERVICE_VIEW_MAPS_H
#define SERVICE_VIEW_MAPS_H

#include "service/method.h"

extern const struct enum_map map_enabled_state;
extern const struct enum_map map_requested_state;
extern const struct enum_map map_enabled_default;
extern const struct enum_map map_dedicated;
extern const struct enum_map map_endpoint_role;
extern const struct enum_map map_protocol_if_type;
extern const struct enum_map map_aggregation_behavior; /* NetworkPipe */
extern const struct enum_map map_source_or_sink;       /* EndpointOfNetworkPipe */
extern const struct enum_map map_setting_changeable_type; /* StorageSetting */
extern const struct enum_map map_replication_action;      /* E15, ReplicationServiceCapabilities */
extern const struct enum_map map_storage_object;
extern const struct enum_map map_configuration_action; /* StorageConfigurationCapabilities */
extern const struct enum_map map_pool_feature;
extern const struct enum_map map_synchronization_type; /* StorageReplicationCapabilities */
extern const struct enum_map map_copy_services_action;
extern const struct enum_map map_initial_replication_state;

/* For the test that compares them with the contract. */
const struct enum_map *const *view_maps_all(size_t *ret_n);

#endif
