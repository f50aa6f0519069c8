// SPDX-License-Identifier: Apache-2.0
/*
 * StorageConfigurationService: its methods as tables, in the order of their signatures.
 */
#include "service/services.h"

#include "base/check.h"
#include "service/classes.h"
#include "service/enums.h"
#include "service/handlers.h"
#include "service/param_macros.h"

static const struct param create_replica[] = {
    P_STRING("ElementName"),
    P_OUT_JOB,
    P_REF_R("SourceElement", "LogicalElement"),
    P_OUT_REF("TargetElement", "LogicalElement"),
    P_REF("TargetSettingGoal", "StorageSetting"),
    P_REF("TargetPool", "StoragePool"),
    P_ENUM_R("CopyType", copy_type),
};

static const struct param modify_synchronization[] = {
    P_ENUM_R("Operation", legacy_operation),
    P_OUT_JOB,
    P_REF_R("Synchronization", "StorageSynchronized"),
};

static const struct param attach_replica[] = {
    P_OUT_JOB,
    P_REF_R("SourceElement", "ManagedElement"),
    P_REF_R("TargetElement", "ManagedElement"),
    P_ENUM_R("CopyType", copy_type),
};

static const struct param attach_or_modify_replica[] = {
    P_OUT_JOB,
    P_REF_R("SourceElement", "ManagedElement"),
    P_REF_R("TargetElement", "ManagedElement"),
    P_ENUM_R("CopyType", copy_type),
    P_INSTANCE("Goal", StorageSetting),
    P_REF("ReplicationPipe", "NetworkPipe"),
};

static const struct param return_to_storage_pool[] = {
    P_OUT_JOB,
    P_REF_R("TheElement", "LogicalElement"),
};

static const struct param create_or_modify_storage_pool[] = {
    P_STRING("ElementName"),
    P_OUT_JOB,
    P_INSTANCE("Goal", StoragePoolSetting),
    P_INOUT_U64("Size"),
    P_STRINGS("InPools"),
    P_STRINGS("InExtents"),
    P_INOUT_REF("Pool", "StoragePool"),
};

static const struct param create_or_modify_element[] = {
    P_STRING("ElementName"),
    P_ENUM("ElementType", element_type),
    P_OUT_JOB,
    P_REF("Goal", "ManagedElement"),
    P_INOUT_U64("Size"),
    P_REF("InPool", "StoragePool"),
    P_INOUT_REF("TheElement", "LogicalElement"),
};

static const struct param delete_storage_pool[] = {
    P_OUT_JOB,
    P_REF_R("Pool", "StoragePool"),
};

static const struct param scsi_scan[] = {
    P_INOUT_REF("Job", "ConcreteJob"),
    P_ENUM("ConnectionType", connection_type),
    P_STRING("OtherConnectionType"),
    P_REFS("Initiators", "SCSIProtocolEndpoint"),
    P_STRINGS("Targets"),
    P_STRINGS("LogicalUnits"),
};

static const struct param create_or_modify_replication_pipe[] = {
    P_STRING("PipeElementName"),
    P_REF_R("SourceSystem", "ComputerSystem"),
    P_REF_R("TargetSystem", "ComputerSystem"),
    P_REFS("SourceEndpoint", "ProtocolEndpoint"),
    P_REFS("TargetEndpoint", "ProtocolEndpoint"),
    P_INSTANCE("Goal", ReplicationPipeSetting),
    P_INOUT_REF("ReplicationPipe", "NetworkPipe"),
};

static const struct method methods[] = {
    METHOD("CreateReplica", create_replica, method_create_replica, returns_k6j),
    METHOD("AttachReplica", attach_replica, method_attach_replica, returns_u6j),
    METHOD("AttachOrModifyReplica", attach_or_modify_replica, method_attach_or_modify_replica,
           returns_u6j),
    METHOD("ModifySynchronization", modify_synchronization, method_modify_synchronization,
           returns_u6j),
    METHOD("ReturnToStoragePool", return_to_storage_pool, method_return_to_storage_pool,
           returns_k6j),
    METHOD("CreateOrModifyStoragePool", create_or_modify_storage_pool,
           method_create_or_modify_storage_pool, returns_k6j_size),
    METHOD("DeleteStoragePool", delete_storage_pool, method_delete_storage_pool, returns_k6j),
    METHOD("CreateOrModifyElementFromStoragePool", create_or_modify_element,
           method_create_or_modify_element_from_storage_pool, returns_k6j_size),
    METHOD("CreateOrModifyReplicationPipe", create_or_modify_replication_pipe,
           method_create_or_modify_replication_pipe, returns_pipe),
    METHOD("ScsiScan", scsi_scan, method_scsi_scan, returns_scan),
    METHOD_NOT_SUPPORTED("CreateReplicationBuffer"),
    METHOD_NOT_SUPPORTED("CreateOrModifyElementFromElements"),
    METHOD_NOT_SUPPORTED("RequestUsageChange"),
    METHOD_NOT_SUPPORTED("GetElementsBasedOnUsage"),
    METHOD_NOT_SUPPORTED("AssignStorageResourceAffinity"),
    METHOD_NOT_SUPPORTED("ReturnElementsToStoragePool"),
    METHOD_NOT_SUPPORTED("CreateElementsFromStoragePools"),
    METHOD_NOT_SUPPORTED("RequestStateChange"),
    METHOD_NOT_SUPPORTED("StartService"),
    METHOD_NOT_SUPPORTED("StopService"),
};

const struct service storage_configuration_service = {
    .name = "StorageConfigurationService",
    .class_name = "StorageConfigurationService",
    .methods = methods,
    .n_methods = ARRAY_LEN(methods),
};
