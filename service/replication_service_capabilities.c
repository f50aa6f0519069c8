// SPDX-License-Identifier: Apache-2.0
/*
 * ReplicationServiceCapabilities: its methods as tables, in the order of their signatures.
 */
#include "base/check.h"
#include "service/classes.h"
#include "service/enums.h"
#include "service/handlers.h"
#include "service/param_macros.h"
#include "service/services.h"

#define REPLICATION_TYPE P_ENUM_R("ReplicationType", replication_type)
#define SETTING_DATA     P_INSTANCE("ReplicationSettingData", ReplicationSettingData)
#define OPERATION_OUTS                                                                             \
    P_OUT_ENUMS("ServiceControlling", service_controlling), P_OUT_BOOLS("RequiresForce"),          \
        P_OUT_BOOLS("UpdatesSynchronizedPath")

static const struct param convert_sync_type[] = {
    P_ENUM_R("SyncType", sync_type),
    P_ENUM("Mode", mode),
    P_ENUM_R("LocalOrRemote", local_or_remote),
    P_OUT_ENUM("SupportedReplicationTypes", replication_type),
};
static const struct param convert_replication_type[] = {
    REPLICATION_TYPE,
    P_OUT_ENUM("SyncType", sync_type),
    P_OUT_ENUM("Mode", mode),
    P_OUT_ENUM("LocalOrRemote", local_or_remote),
};
static const struct param supported_copy_states[] = {
    REPLICATION_TYPE,
    P_OUT_ENUMS("SupportedCopyStates", copy_state),
    P_OUT_BOOLS("HostAccessible"),
    SETTING_DATA,
    P_ENUM("Operation", operation),
};
static const struct param supported_wait_states[] = {
    REPLICATION_TYPE,
    P_ENUM_R("MethodName", wait_method),
    P_OUT_ENUMS("SupportedCopyStates", copy_state),
    SETTING_DATA,
    P_ENUM("Operation", operation),
};
static const struct param supported_features[] = {
    REPLICATION_TYPE,
    P_OUT_ENUMS("Features", feature),
    SETTING_DATA,
};
static const struct param supported_consistency[] = {
    REPLICATION_TYPE,
    P_OUT_ENUMS("SupportedConsistency", consistency_type),
    SETTING_DATA,
};
static const struct param supported_operations[] = {
    REPLICATION_TYPE,
    P_OUT_ENUMS("SupportedOperations", operation),
    SETTING_DATA,
    P_ENUM("CopyState", copy_state),
    OPERATION_OUTS,
};
static const struct param supported_group_copy_states[] = {
    REPLICATION_TYPE,
    P_OUT_ENUMS("SupportedCopyStates", copy_state),
    SETTING_DATA,
    P_ENUM("Operation", operation),
};
static const struct param supported_group_features[] = {
    REPLICATION_TYPE,
    P_OUT_ENUMS("GroupFeatures", group_feature),
    SETTING_DATA,
};
static const struct param supported_group_operations[] = {
    REPLICATION_TYPE,
    P_OUT_ENUMS("SupportedGroupOperations", operation),
    SETTING_DATA,
    P_ENUM("CopyState", copy_state),
    OPERATION_OUTS,
};
static const struct param supported_list_operations[] = {
    REPLICATION_TYPE,
    P_ENUM("SynchronizationType", relationship_type),
    P_OUT_ENUMS("SupportedListOperations", list_operation),
    SETTING_DATA,
    P_ENUM("CopyState", copy_state),
    OPERATION_OUTS,
};
static const struct param supported_thin_features[] = {
    REPLICATION_TYPE,
    P_OUT_ENUMS("SupportedThinProvisioningFeatures", thin_feature),
    SETTING_DATA,
};
static const struct param supported_maximum[] = {
    REPLICATION_TYPE,
    P_ENUM_R("Component", maximum_component),
    P_OUT_U64("MaxValue"),
    SETTING_DATA,
};
static const struct param default_consistency[] = {
    REPLICATION_TYPE,
    P_OUT_ENUM("DefaultConsistency", default_consistency),
    SETTING_DATA,
};
static const struct param default_group_persistency[] = {
    P_OUT_ENUM("DefaultGroupPersistency", group_persistency),
};
static const struct param supported_setting_data[] = {
    REPLICATION_TYPE,
    P_ENUM_R("PropertyName", setting_property),
    P_OUT_U64S("SupportedValues"),
    SETTING_DATA,
};
static const struct param default_setting_data[] = {
    REPLICATION_TYPE,
    P_OUT_INSTANCE("DefaultInstance", ReplicationSettingData),
};
static const struct param supported_connection_features[] = {
    P_REF_R("connection", "ServiceAccessPoint"),
    P_OUT_ENUMS("SupportedConnectionFeatures", connection_feature),
};
static const struct param synchronization_supported[] = {
    P_REF_R("LocalElement", "ManagedElement"),
    P_REF_R("OtherElement", "ManagedElement"),
    P_REF("OtherElementAccessPoint", "ServiceAccessPoint"),
    P_ENUM("MethodName", supported_method),
    SETTING_DATA,
    P_OUT_ENUMS("SyncTypes", sync_type),
    P_OUT_ENUMS("Modes", mode),
    P_OUT_ENUMS("LocalElementRole", element_role),
};
static const struct param element_name_capabilities[] = {
    P_ENUM_R("ElementType", name_element_type),
    P_OUT_ENUMS("SupportedFeatures", name_feature),
    P_OUT_U16("MaxElementNameLen"),
    P_OUT_STRING("ElementNameMask"),
};
static const struct param supported_list_features[] = {
    REPLICATION_TYPE,
    P_OUT_ENUMS("GroupFeatures", list_feature),
    SETTING_DATA,
};
static const struct param operations_for_synchronization[] = {
    P_REF_R("Synchronization", "Synchronized"),
    SETTING_DATA,
    P_OUT_ENUMS("SupportedOperations", operation),
    OPERATION_OUTS,
};
static const struct param types_for_system[] = {
    P_REF_R("System", "ComputerSystem"),
    SETTING_DATA,
    P_OUT_ENUMS("SupportedReplicationTypes", replication_type),
};

static const struct method methods[] = {
    METHOD_READ("ConvertSyncTypeToReplicationType", convert_sync_type, method_convert_sync_type,
                returns_k6),
    METHOD_READ("ConvertReplicationTypeToSyncType", convert_replication_type,
                method_convert_replication_type, returns_k6),
    METHOD_READ("GetSupportedCopyStates", supported_copy_states, method_get_supported_copy_states,
                returns_k6),
    METHOD_READ("GetSupportedWaitForCopyStates", supported_wait_states,
                method_get_supported_wait_states, returns_k6),
    METHOD_READ("GetSupportedFeatures", supported_features, method_get_supported_features,
                returns_k6),
    METHOD_READ("GetSupportedConsistency", supported_consistency, method_get_supported_consistency,
                returns_k6),
    METHOD_READ("GetSupportedOperations", supported_operations, method_get_supported_operations,
                returns_k6),
    METHOD_READ("GetSupportedListOperations", supported_list_operations,
                method_get_supported_list_operations, returns_k6),
    METHOD_READ("GetSupportedGroupCopyStates", supported_group_copy_states,
                method_get_supported_group_copy_states, returns_k6),
    METHOD_READ("GetSupportedGroupFeatures", supported_group_features,
                method_get_supported_group_features, returns_k6),
    METHOD_READ("GetSupportedGroupOperations", supported_group_operations,
                method_get_supported_group_operations, returns_k6),
    METHOD_READ("GetSupportedThinProvisioningFeatures", supported_thin_features,
                method_get_supported_thin_features, returns_k6),
    METHOD_READ("GetSupportedMaximum", supported_maximum, method_get_supported_maximum,
                returns_k67_information),
    METHOD_READ("GetDefaultConsistency", default_consistency, method_get_default_consistency,
                returns_k6),
    METHOD_READ("GetDefaultGroupPersistency", default_group_persistency,
                method_get_default_group_persistency, returns_k6),
    METHOD_READ("GetSupportedReplicationSettingData", supported_setting_data,
                method_get_supported_setting_data, returns_k67_property),
    METHOD_READ("GetDefaultReplicationSettingData", default_setting_data,
                method_get_default_setting_data, returns_k67_default),
    METHOD_READ("GetSupportedConnectionFeatures", supported_connection_features,
                method_get_supported_connection_features, returns_k6),
    METHOD_READ("GetSynchronizationSupported", synchronization_supported,
                method_get_synchronization_supported, returns_k6),
    METHOD_READ("GetElementNameCapabilities", element_name_capabilities,
                method_get_element_name_capabilities, returns_k6),
    METHOD_READ("GetSupportedListFeatures", supported_list_features,
                method_get_supported_list_features, returns_k6),
    METHOD_READ("GetSupportedOperationsForSynchronization", operations_for_synchronization,
                method_get_operations_for_synchronization, returns_k6),
    METHOD_READ("GetSupportedReplicationTypesForSystem", types_for_system,
                method_get_types_for_system, returns_k6),
    METHOD_NOT_SUPPORTED("GetSupportedSettingsDefineStateOperations"),
    METHOD_NOT_SUPPORTED("GetSupportedStorageCompressionFeatures"),
    METHOD_NOT_SUPPORTED("GetSupportedTokenizedReplicationType"),
};

const struct service replication_service_capabilities = {
    .name = "ReplicationServiceCapabilities",
    .class_name = "ReplicationServiceCapabilities",
    .methods = methods,
    .n_methods = ARRAY_LEN(methods),
};
