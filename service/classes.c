// SPDX-License-Identifier: Apache-2.0
#include "service/classes.h"

#include "base/check.h"
#include "service/enums.h"
#include "service/param_macros.h"
#include "service/view_maps.h"

#define CLASS(c) const struct class_info class_##c = {#c, params_##c, ARRAY_LEN(params_##c)}
static const struct param params_ReplicationSettingData[] = {
    P_STRING("InstanceID"),
    P_STRING("ElementName"),
    P_STRING("ConfigurationName"),
    P_ENUM("ChangeableType", setting_data_changeable_type),
    P_ENUM("Pairing", pairing),
    P_ENUM("UnequalGroupsAction", unequal_groups_action),
    P_ENUM("UnequalListsAction", unequal_lists_action),
    P_ENUM("DesiredCopyMethodology", desired_copy_methodology),
    P_ENUM("TargetElementSupplier", target_supplier),
    P_ENUM("ThinProvisioningPolicy", thin_policy),
    P_BOOL("ConsistentPointInTime"),
    P_DATETIME("DeltaUpdateInterval"),
    P_U64("DeltaUpdateBlocks"),
    P_U16("Multihop"),
    P_ENUM("OnGroupOrListError", on_error),
    P_ENUM("CopyPriority", copy_priority),
    P_ENUM("CopyRecoveryMode", setting_recovery_mode),
    P_BOOL("FailedCopyStopsHostIO"),
    P_ENUM("ReadOnly", read_only),
    P_ENUM("StorageCompressionPolicy", compression_policy),
    P_BOOL("AutoDelete"),
    P_DATETIME("TimeBeforeRemoval"),
    P_BOOL("RRCHardwareCompressionEnabled"),
    P_BOOL("RRCSoftwareCompressionEnabled"),
    P_ENUM("TargetElementGoal", target_decides),
    P_ENUM("TargetElementResourcePool", target_decides),
    P_BOOL("ConsistencyExempt"),
    P_BOOL("ConsistentAsyncCopy"),
    P_DATETIME("DesiredRPO"),
    P_U64("MaximumSkew"),
    /* ours */
    P_U64("BandwidthLimit"),
    P_BOOL("Verify"),
    P_REF("ReplicationPipe", "NetworkPipe"),
};
CLASS(ReplicationSettingData);

static const struct param params_StorageSetting[] = {
    P_STRING("InstanceID"),
    P_STRING("ElementName"),
    P_ENUM("ChangeableType", setting_changeable_type),
    P_BOOL("NoSinglePointOfFailure"),
    P_U16("DataRedundancyMin"),
    P_U16("DataRedundancyGoal"),
    P_U16("DataRedundancyMax"),
    P_U16("PackageRedundancyMin"),
    P_U16("PackageRedundancyGoal"),
    P_U16("PackageRedundancyMax"),
    P_U8("DeltaReservationMin"),
    P_U8("DeltaReservationGoal"),
    P_U8("DeltaReservationMax"),
    P_U16("ExtentStripeLength"),
    P_U16("ExtentStripeLengthMin"),
    P_U16("ExtentStripeLengthMax"),
    P_ENUM("ParityLayout", parity_layout),
    P_U64("UserDataStripeDepth"),
    P_U64("UserDataStripeDepthMin"),
    P_U64("UserDataStripeDepthMax"),
    P_BOOL("IncrementalDeltas"),
    P_BOOL("PersistentReplica"),
    P_ENUM("UseReplicationBuffer", use_replication_buffer),
    P_ENUM("InitialSynchronization", initial_synchronization),
    P_ENUM("ReplicationPriority", replication_priority),
    P_U64("SpaceLimit"),
    P_U16("SpaceLimitWarningThreshold"),
    P_U16("LowSpaceWarningThreshold"),
    P_ENUM("StorageExtentInitialUsage", usage),
    P_ENUM("StoragePoolInitialUsage", pool_usage),
    P_U64("ThinProvisionedInitialReserve"),
    P_ENUM("ThinProvisionedPoolType", thin_pool_type),
    P_BOOL("CompressedElement"),
    P_ENUM("CompressionRate", compression_rate),
    /* ours */
    P_U64("BandwidthLimit"),
    P_BOOL("Verify"),
};
CLASS(StorageSetting);

/* Ours: what a pool of files is to be. */
static const struct param params_StoragePoolSetting[] = {
    P_STRING("Directory"),
    P_U64("SpaceLimit"),
};
CLASS(StoragePoolSetting);

/* Ours: how the sessions of a pipe are to be. */
static const struct param params_ReplicationPipeSetting[] = {
    P_U64("BandwidthLimit"),
    P_U16("SessionsPerPair"),
    P_ENUM("HeaderDigest", pipe_digest),
    P_ENUM("DataDigest", pipe_digest),
    P_ENUM("Directionality", directionality),
    P_REF("SecretAccessPoint", "RemoteServiceAccessPoint"),
};
CLASS(ReplicationPipeSetting);

static const struct param params_ServiceAccessPoint[] = {
    P_STRING("Name"),         P_STRING("ElementName"),
    P_STRING_R("AccessInfo"), P_ENUM("InfoFormat", info_format),
    P_STRING("SystemName"),
};
CLASS(ServiceAccessPoint);

static const struct param params_SharedSecret[] = {
    P_STRING_R("RemoteID"),
    P_STRING_R("Secret"),
    P_STRING("Algorithm"),
    P_STRING("Protocol"),
};
CLASS(SharedSecret);

static const struct param params_ReplicationEntity[] = {
    P_STRING("InstanceID"),           P_STRING("ElementName"), P_ENUM_R("Type", entity_type),
    P_STRING("OtherTypeDescription"), P_STRING_R("EntityID"),
};
CLASS(ReplicationEntity);

static const struct param params_Error[] = {
    P_OUT_ENUM("ErrorType", error_type),
    P_OUT_ENUM("PerceivedSeverity", perceived_severity),
    P_OUT_ENUM("CIMStatusCode", cim_status_code),
    P_OUT_STRING("MessageID"),
    P_OUT_STRING("Message"),
    P_OUT_REF("ErrorSource", "ManagedElement"),
};
CLASS(Error);

static const struct param params_DryRun[] = {
    P_OUT_REF("Synchronization", "Synchronized"),
    P_OUT_ENUM("CopyState", copy_state),
    P_OUT_ENUM("Overwritten", read_only),
    P_OUT_U64("BytesToCopy"),
    P_OUT_U64("BytesDiscarded"),
    P_OUT_STRING("Reason"),
};
CLASS(DryRun);
