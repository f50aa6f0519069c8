// SPDX-License-Identifier: Apache-2.0
#include "service/view_maps.h"

#include "base/check.h"

#define MAP(var, map_name)                                                                         \
    const struct enum_map map_##var = {map_name, values_##var, ARRAY_LEN(values_##var)}

static const struct enum_value values_enabled_state[] = {
    {0, "Unknown"},
    {1, "Other"},
    {2, "Enabled"},
    {3, "Disabled"},
    {4, "Shutting Down"},
    {5, "Not Applicable"},
    {6, "Enabled but Offline"},
    {7, "In Test"},
    {8, "Deferred"},
    {9, "Quiesce"},
    {10, "Starting"},
};
MAP(enabled_state, "EnabledState");

static const struct enum_value values_requested_state[] = {
    {2, "Enabled"}, {3, "Disabled"}, {4, "Shut Down"},       {5, "No Change"},
    {6, "Offline"}, {7, "Test"},     {8, "Deferred"},        {9, "Quiesce"},
    {10, "Reboot"}, {11, "Reset"},   {12, "Not Applicable"},
};
MAP(requested_state, "RequestedState");

static const struct enum_value values_enabled_default[] = {
    {2, "Enabled"},    {3, "Disabled"}, {5, "Not Applicable"}, {6, "Enabled but Offline"},
    {7, "No Default"}, {9, "Quiesce"},
};
MAP(enabled_default, "EnabledDefault");

static const struct enum_value values_dedicated[] = {{15, "Block Server"}};
MAP(dedicated, "Dedicated");

static const struct enum_value values_endpoint_role[] = {{2, "Initiator"}, {3, "Target"}};
MAP(endpoint_role, "EndpointRole");

static const struct enum_value values_aggregation_behavior[] = {
    {2, "No Lower-Level Composition"},
    {3, "Combined In Parallel"},
};
MAP(aggregation_behavior, "AggregationBehavior");

static const struct enum_value values_source_or_sink[] = {
    {2, "Source"},
    {3, "Sink"},
    {4, "Not Applicable"},
};
MAP(source_or_sink, "SourceOrSink");

static const struct enum_value values_protocol_if_type[] = {
    {1, "Other"}, {4096, "IPv4"}, {4097, "IPv6"}, {4098, "IPv4/v6"}, {4110, "UDP"}, {4111, "TCP"},
};
MAP(protocol_if_type, "ProtocolIFType");

static const struct enum_value values_setting_changeable_type[] = {
    {0, "Fixed - Not Changeable"},
    {1, "Changeable - Transient"},
    {2, "Changeable - Persistent"},
};
MAP(setting_changeable_type, "StorageSettingChangeableType");

static const struct enum_value values_replication_action[] = {
    {2, "CreateElementReplica"},
    {3, "CreateGroupReplica"},
    {4, "CreateSynchronizationAspect"},
    {5, "ModifyReplicaSynchronization"},
    {6, "ModifyListSynchronization"},
    {7, "ModifySettingsDefineState"},
    {8, "GetAvailableTargetElements"},
    {9, "GetPeerSystems"},
    {10, "GetReplicationRelationships"},
    {11, "GetServiceAccessPoints"},
    {12, "CreateGroup"},
    {13, "DeleteGroup"},
    {14, "AddMembers"},
    {15, "RemoveMembers"},
    {16, "AddReplicationEntity"},
    {17, "AddServiceAccessPoint"},
    {18, "AddSharedSecret"},
    {19, "CreateListReplica"},
    {20, "CreateGroupReplicaFromElements"},
    {21, "GetReplicationRelationshipInstances"},
    {22, "ModifyListSettingsDefineState"},
    {23, "CreateRemoteReplicationCollection"},
    {24, "AddToRemoteReplicationCollection"},
    {25, "RemoveFromRemoteReplicationCollection"},
    {26, "GetSynchronizationAspects"},
    {27, "GetSynchronizationAspectInstances"},
    {28, "CreateGroupReplicaFromElementSynchronizations"},
    {29, "AddElementsToGroupSynchronized"},
    {30, "ConfirmTargetData"},
};
MAP(replication_action, "ReplicationAction");

static const struct enum_value values_storage_object[] = {
    {2, "StorageVolume"},
    {3, "LogicalDisk"},
    {4, "ReplicationEntity"},
};
MAP(storage_object, "StorageObject");

static const struct enum_value values_configuration_action[] = {
    {2, "Storage Pool Creation"},
    {3, "Storage Pool Deletion"},
    {4, "Storage Pool Modification"},
    {5, "Storage Element Creation"},
    {6, "Storage Element Return"},
    {7, "Storage Element Modification"},
    {8, "Replica Creation"},
    {9, "Replica Modification"},
    {10, "Replica Attachment"},
    {11, "SCSI Scan"},
    {12, "Storage Element from Element Creation"},
    {13, "Storage Element from Element Modification"},
    {14, "Element Usage Modification"},
    {15, "StoragePool Usage Modification"},
};
MAP(configuration_action, "ConfigurationAction");

static const struct enum_value values_pool_feature[] = {
    {2, "InExtents"},
    {3, "Single InPool"},
    {4, "Multiple InPools"},
    {5, "Storage Pool QoS Change"},
    {6, "Storage Pool Capacity Expansion"},
    {7, "Storage Pool Capacity Reduction"},
};
MAP(pool_feature, "PoolFeature");

static const struct enum_value values_synchronization_type[] = {
    {2, "Async"},         {3, "Sync"}, {4, "UnSyncAssoc-Full"}, {5, "UnSyncAssoc-Delta"},
    {6, "UnSyncUnAssoc"},
};
MAP(synchronization_type, "SynchronizationType");

static const struct enum_value values_copy_services_action[] = {
    {2, "Local Replica Creation"},
    {3, "Remote Replica Creation"},
    {4, "Local Replica Modification"},
    {5, "Remote Replica Modification"},
    {6, "Local Replica Attachment"},
    {7, "Remote Replica Attachment"},
    {8, "Buffer Creation"},
    {9, "Network Pipe Creation"},
};
MAP(copy_services_action, "CopyServicesAction");

static const struct enum_value values_initial_replication_state[] = {
    {2, "Initialized"},
    {3, "Prepared"},
    {4, "Synchronized"},
    {5, "Idle"},
};
MAP(initial_replication_state, "InitialReplicationState");

static const struct enum_map *const maps[] = {
    &map_enabled_state,
    &map_requested_state,
    &map_enabled_default,
    &map_dedicated,
    &map_endpoint_role,
    &map_aggregation_behavior,
    &map_source_or_sink,
    &map_protocol_if_type,
    &map_setting_changeable_type,
    &map_replication_action,
    &map_storage_object,
    &map_configuration_action,
    &map_pool_feature,
    &map_synchronization_type,
    &map_copy_services_action,
    &map_initial_replication_state,
};

const struct enum_map *const *view_maps_all(size_t *ret_n)
{
    *ret_n = ARRAY_LEN(maps);
    return maps;
}
