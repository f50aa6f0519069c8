// SPDX-License-Identifier: Apache-2.0
/*
 * ReplicationService: its methods as tables, in the order of their signatures.
 */
#include "base/check.h"
#include "service/classes.h"
#include "service/enums.h"
#include "service/handlers.h"
#include "service/param_macros.h"
#include "service/services.h"

static const struct param create_group[] = {
    P_STRING("GroupName"),
    P_REFS("Members", "LogicalElement"),
    P_BOOL("Persistent"),
    P_BOOL("DeleteOnEmptyElement"),
    P_BOOL("DeleteOnUnassociated"),
    P_REF("ServiceAccessPoint", "ServiceAccessPoint"),
    P_OUT_REF("ReplicationGroup", "ReplicationGroup"),
    P_INSTANCE("ReplicationSettingData", ReplicationSettingData),
    P_ENUM("ReservedAs", reserved_as),
};

static const struct param delete_group[] = {
    P_REF_R("ReplicationGroup", "ReplicationGroup"),
    P_REF("ServiceAccessPoint", "ServiceAccessPoint"),
    P_BOOL("RemoveElements"),
    P_INSTANCE("ReplicationSettingData", ReplicationSettingData),
};

static const struct param add_members[] = {
    P_REFS_R("Members", "LogicalElement"),
    P_REF_R("ReplicationGroup", "ReplicationGroup"),
    P_REF("ServiceAccessPoint", "ServiceAccessPoint"),
    P_INSTANCE("ReplicationSettingData", ReplicationSettingData),
};

static const struct param remove_members[] = {
    P_REFS_R("Members", "LogicalElement"),
    P_BOOL("DeleteOnEmptyElement"),
    P_REF_R("ReplicationGroup", "ReplicationGroup"),
    P_REF("ServiceAccessPoint", "ServiceAccessPoint"),
    P_INSTANCE("ReplicationSettingData", ReplicationSettingData),
};

static const struct param create_element_replica[] = {
    P_STRING("ElementName"),
    P_ENUM_R("SyncType", sync_type),
    P_ENUM("Mode", mode),
    P_REF_R("SourceElement", "LogicalElement"),
    P_REF("SourceAccessPoint", "ServiceAccessPoint"),
    P_INOUT_REF("TargetElement", "LogicalElement"),
    P_REF("TargetAccessPoint", "ServiceAccessPoint"),
    P_INSTANCE("ReplicationSettingData", ReplicationSettingData),
    P_OUT_JOB,
    P_OUT_REF("Synchronization", "Synchronized"),
    P_REF("TargetSettingGoal", "SettingData"),
    P_REF("TargetPool", "ResourcePool"),
    P_ENUM("WaitForCopyState", copy_state),
    P_REF("ConnectivityCollection", "ConnectivityCollection"),
    P_REFS("Collections", "Collection"),
};

static const struct param create_group_replica[] = {
    P_STRING("RelationshipName"),
    P_ENUM_R("SyncType", sync_type),
    P_ENUM("Mode", mode),
    P_REF("SourceGroup", "ReplicationGroup"),
    P_REF("SourceElement", "LogicalElement"),
    P_REF("SourceAccessPoint", "ServiceAccessPoint"),
    P_INOUT_REF("TargetGroup", "ReplicationGroup"),
    P_U64("TargetElementCount"),
    P_REF("TargetAccessPoint", "ServiceAccessPoint"),
    P_ENUM("Consistency", consistency),
    P_INSTANCE("ReplicationSettingData", ReplicationSettingData),
    P_OUT_JOB,
    P_OUT_REF("Synchronization", "Synchronized"),
    P_REF("TargetSettingGoal", "SettingData"),
    P_REF("TargetPool", "ResourcePool"),
    P_ENUM("WaitForCopyState", copy_state),
    P_REF("ConnectivityCollection", "ConnectivityCollection"),
    P_REFS("Collections", "Collection"),
    P_OUT_U64("BarrierMicroseconds"),
};

static const struct param create_group_replica_from_elements[] = {
    P_STRING("RelationshipName"),
    P_ENUM_R("SyncType", sync_type),
    P_ENUM("Mode", mode),
    P_INOUT_REF("SourceGroup", "ReplicationGroup"),
    P_REFS_R("SourceElements", "LogicalElement"),
    P_INOUT_STRING("SourceGroupName"),
    P_REF("SourceAccessPoint", "ServiceAccessPoint"),
    P_INOUT_REF("TargetGroup", "ReplicationGroup"),
    P_INOUT_STRING("TargetGroupName"),
    P_REFS("TargetElements", "LogicalElement"),
    P_STRINGS("TargetElementNames"),
    P_REF("TargetAccessPoint", "ServiceAccessPoint"),
    P_ENUM("Consistency", consistency),
    P_INSTANCE("ReplicationSettingData", ReplicationSettingData),
    P_OUT_JOB,
    P_OUT_REF("Synchronization", "Synchronized"),
    P_REF("TargetSettingGoal", "SettingData"),
    P_REF("TargetPool", "ResourcePool"),
    P_REFS("TargetPools", "ResourcePool"),
    P_ENUM("WaitForCopyState", copy_state),
    P_REF("ConnectivityCollection", "ConnectivityCollection"),
    P_REFS("Collections", "Collection"),
    P_OUT_U64("BarrierMicroseconds"),
};

static const struct param add_elements_to_group_synchronized[] = {
    P_REF_R("Synchronized", "Synchronized"),
    P_REFS_R("SourceElements", "LogicalElement"),
    P_REFS("TargetElements", "LogicalElement"),
    P_REF("SourceAccessPoint", "ServiceAccessPoint"),
    P_REF("TargetAccessPoint", "ServiceAccessPoint"),
    P_ENUM("Consistency", consistency),
    P_INSTANCE("ReplicationSettingData", ReplicationSettingData),
    P_OUT_JOB,
    P_OUT_REFS("Synchronizations", "Synchronized"),
    P_ENUM("WaitForCopyState", copy_state),
};

static const struct param create_group_replica_from_synchronizations[] = {
    P_STRING("RelationshipName"),
    P_REFS_R("ElementSynchronizations", "Synchronized"),
    P_INOUT_STRING("SourceGroupName"),
    P_INOUT_REF("SourceGroup", "ReplicationGroup"),
    P_REF("SourceAccessPoint", "ServiceAccessPoint"),
    P_INOUT_STRING("TargetGroupName"),
    P_INOUT_REF("TargetGroup", "ReplicationGroup"),
    P_REF("TargetAccessPoint", "ServiceAccessPoint"),
    P_ENUM("Consistency", consistency),
    P_INSTANCE("ReplicationSettingData", ReplicationSettingData),
    P_OUT_JOB,
    P_OUT_REF("GroupSynchronization", "Synchronized"),
    P_ENUM("WaitForCopyState", copy_state),
};

static const struct param create_list_replica[] = {
    P_STRINGS("ElementNames"),
    P_ENUM_R("SyncType", sync_type),
    P_ENUM("Mode", mode),
    P_REFS_R("SourceElements", "LogicalElement"),
    P_REF("SourceAccessPoint", "ServiceAccessPoint"),
    P_INOUT_REFS("TargetElements", "LogicalElement"),
    P_REF("TargetAccessPoint", "ServiceAccessPoint"),
    P_INSTANCE("ReplicationSettingData", ReplicationSettingData),
    P_OUT_JOB,
    P_OUT_REFS("Synchronizations", "Synchronized"),
    P_REF("TargetSettingGoal", "SettingData"),
    P_REF("TargetPool", "ResourcePool"),
    P_ENUM("WaitForCopyState", copy_state),
    P_REF("ConnectivityCollection", "ConnectivityCollection"),
    P_ENUM("Consistency", consistency),
    P_REFS("Collections", "Collection"),
    P_OUT_U64("BarrierMicroseconds"), /* ours */
};

static const struct param modify_replica_synchronization[] = {
    P_ENUM_R("Operation", operation),
    P_REF_R("Synchronization", "Synchronized"),
    P_INSTANCE("ReplicationSettingData", ReplicationSettingData),
    P_REFS("SyncPair", "Synchronized"),
    P_OUT_JOB,
    P_OUT_REF("SettingsState", "SettingsDefineState"),
    P_BOOL("Force"),
    P_ENUM("WaitForCopyState", copy_state),
    P_OUT_REF("UpdatedSynchronization", "Synchronized"),
    P_OUT_U64("BarrierMicroseconds"),
    P_OUT_INSTANCE("DryRun", DryRun),
    P_OUT_INSTANCES("DryRuns", DryRun),
};

static const struct param modify_list_synchronization[] = {
    P_ENUM_R("Operation", list_operation),
    P_REFS_R("Synchronization", "Synchronized"),
    P_INSTANCE("ReplicationSettingData", ReplicationSettingData),
    P_OUT_JOB,
    P_OUT_REFS("SettingsState", "SettingsDefineState"),
    P_BOOL("Force"),
    P_ENUM("WaitForCopyState", copy_state),
    P_OUT_REFS("UpdatedSynchronizations", "Synchronized"),
    P_OUT_U64("BarrierMicroseconds"),
    P_OUT_INSTANCE("DryRun", DryRun),
    P_OUT_INSTANCES("DryRuns", DryRun),
};

static const struct param get_available_target_elements[] = {
    P_REF_R("SourceElement", "LogicalElement"),
    P_ENUM_R("SyncType", sync_type),
    P_ENUM("Mode", mode),
    P_INSTANCE("ReplicationSettingData", ReplicationSettingData),
    P_REF("TargetAccessPoint", "ServiceAccessPoint"),
    P_REF("TargetSettingGoal", "SettingData"),
    P_REFS("TargetPools", "ResourcePool"),
    P_OUT_JOB,
    P_OUT_REFS("Candidates", "LogicalElement"),
    P_U16("MaxElementCount"),
};

static const struct param get_peer_systems[] = {
    P_ENUM("Options", peer_options),
    P_OUT_JOB,
    P_OUT_REFS("Systems", "ComputerSystem"),
    P_OUT_REFS("LocalAccessPoints", "ServiceAccessPoint"),
    P_OUT_REFS("RemoteAccessPoints", "ServiceAccessPoint"),
};

static const struct param get_replication_relationships[] = {
    P_ENUM("Type", relationship_type),
    P_ENUM("SyncType", sync_type),
    P_ENUM("Mode", mode),
    P_ENUM("Locality", locality),
    P_ENUM("CopyState", copy_state),
    P_OUT_JOB,
    P_OUT_REFS("Synchronizations", "Synchronized"),
    P_INSTANCE("ReplicationSettingData", ReplicationSettingData),
};

static const struct param get_replication_relationship_instances[] = {
    P_ENUM("Type", relationship_type),
    P_ENUM("SyncType", sync_type),
    P_ENUM("Mode", mode),
    P_ENUM("Locality", locality),
    P_ENUM("CopyState", copy_state),
    P_OUT_JOB,
    P_OUT_OBJECTS("Synchronizations", "Synchronized"),
    P_INSTANCE("ReplicationSettingData", ReplicationSettingData),
};

static const struct param get_service_access_points[] = {
    P_REF_R("System", "ComputerSystem"),
    P_OUT_JOB,
    P_OUT_REFS("ServiceAccessPoints", "ServiceAccessPoint"),
};

static const struct param add_replication_entity[] = {
    P_INSTANCE_R("ReplicationEntity", ReplicationEntity),
    P_BOOL("Persistent"),
    P_STRING("InstanceNamespace"),
    P_OUT_REF("ReplicationEntityPath", "ReplicationEntity"),
};

static const struct param add_service_access_point[] = {
    P_INSTANCE_R("ServiceAccessPoint", ServiceAccessPoint),
    P_STRING("InstanceNamespace"),
    P_OUT_REF("ServiceAccessPointPath", "ServiceAccessPoint"),
};

static const struct param add_shared_secret[] = {
    P_INSTANCE_R("SharedSecret", SharedSecret),
    P_REF("ServiceAccessPoint", "ServiceAccessPoint"),
    P_STRING("InstanceNamespace"),
    P_OUT_REF("SharedSecretPath", "SharedSecret"),
};

static const struct method methods[] = {
    METHOD("CreateElementReplica", create_element_replica, method_create_element_replica,
           returns_k6j),
    METHOD("CreateListReplica", create_list_replica, method_create_list_replica, returns_k6j),
    METHOD("CreateGroupReplica", create_group_replica, method_create_group_replica, returns_k6j),
    METHOD("CreateGroupReplicaFromElements", create_group_replica_from_elements,
           method_create_group_replica_from_elements, returns_k6j),
    METHOD("CreateGroupReplicaFromElementSynchronizations", create_group_replica_from_synchronizations,
           method_create_group_replica_from_synchronizations, returns_k6j),
    METHOD("AddElementsToGroupSynchronized", add_elements_to_group_synchronized,
           method_add_elements_to_group_synchronized, returns_k6j),
    METHOD("ModifyReplicaSynchronization", modify_replica_synchronization,
           method_modify_replica_synchronization, returns_u6j),
    METHOD("CreateGroup", create_group, method_create_group, returns_k67_name),
    METHOD("DeleteGroup", delete_group, method_delete_group, returns_k67_relationship),
    METHOD("AddMembers", add_members, method_add_members, returns_k67_group),
    METHOD("RemoveMembers", remove_members, method_remove_members, returns_k678_member),
    METHOD("ModifyListSynchronization", modify_list_synchronization,
           method_modify_list_synchronization, returns_u6j),
    METHOD_READ("GetAvailableTargetElements", get_available_target_elements,
                method_get_available_target_elements, returns_u6j),
    METHOD_READ("GetPeerSystems", get_peer_systems, method_get_peer_systems, returns_u6j),
    METHOD_READ("GetReplicationRelationships", get_replication_relationships,
                method_get_replication_relationships, returns_u6j),
    METHOD_READ("GetReplicationRelationshipInstances", get_replication_relationship_instances,
                method_get_replication_relationships, returns_u6j),
    METHOD_READ("GetServiceAccessPoints", get_service_access_points,
                method_get_service_access_points, returns_u6j),
    METHOD("AddReplicationEntity", add_replication_entity, method_add_replication_entity,
           returns_u6),
    METHOD("AddServiceAccessPoint", add_service_access_point, method_add_service_access_point,
           returns_u6),
    METHOD("AddSharedSecret", add_shared_secret, method_add_shared_secret, returns_u6),
    METHOD_NOT_SUPPORTED("CreateSynchronizationAspect"),
    METHOD_NOT_SUPPORTED("ModifySettingsDefineState"),
    METHOD_NOT_SUPPORTED("ModifyListSettingsDefineState"),
    METHOD_NOT_SUPPORTED("AddToRemoteReplicationCollection"),
    METHOD_NOT_SUPPORTED("CreateRemoteReplicationCollection"),
    METHOD_NOT_SUPPORTED("RemoveFromRemoteReplicationCollection"),
    METHOD_NOT_SUPPORTED("ConfirmTargetData"),
    METHOD_NOT_SUPPORTED("GetSynchronizationAspectInstances"),
    METHOD_NOT_SUPPORTED("GetSynchronizationAspects"),
    METHOD_NOT_SUPPORTED("RequestStateChange"),
    METHOD_NOT_SUPPORTED("StartService"),
    METHOD_NOT_SUPPORTED("StopService"),
};

const struct service replication_service = {
    .name = "ReplicationService",
    .class_name = "ReplicationService",
    .methods = methods,
    .n_methods = ARRAY_LEN(methods),
};
