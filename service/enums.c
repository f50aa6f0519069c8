// SPDX-License-Identifier: Apache-2.0
#include "service/enums.h"

#include "base/check.h"

#define MAP(var, map_name)                                                                         \
    const struct enum_map map_##var = {map_name, values_##var, ARRAY_LEN(values_##var)}

static const struct enum_value values_sync_type[] = {
    {6, "Mirror"},
    {7, "Snapshot"},
    {8, "Clone"},
};
MAP(sync_type, "SyncType");

static const struct enum_value values_mode[] = {
    {2, "Synchronous"},
    {3, "Asynchronous"},
};
MAP(mode, "Mode");

static const struct enum_value values_copy_type[] = {
    {2, "Async"},
    {3, "Sync"},
    {4, "UnSyncAssoc"},
    {5, "UnSyncUnAssoc"},
};
MAP(copy_type, "CopyType");

static const struct enum_value values_replica_type[] = {
    {0, "Not Specified"},
    {2, "Full Copy"},
    {3, "Before Delta"},
    {4, "After Delta"},
    {5, "Log"},
};
MAP(replica_type, "ReplicaType");

static const struct enum_value values_copy_state[] = {
    {2, "Initialized"},
    {3, "Unsynchronized"},
    {4, "Synchronized"},
    {5, "Broken"},
    {6, "Fractured"},
    {7, "Split"},
    {8, "Inactive"},
    {9, "Suspended"},
    {10, "Failedover"},
    {11, "Prepared"},
    {12, "Aborted"},
    {13, "Skewed"},
    {14, "Mixed"},
    {15, "Not Applicable"},
    {16, "Partitioned"},
    {17, "Invalid"},
};
MAP(copy_state, "CopyState");

static const struct enum_value values_progress_status[] = {
    {0, "Unknown"},
    {2, "Completed"},
    {3, "Dormant"},
    {4, "Initializing"},
    {5, "Preparing"},
    {6, "Synchronizing"},
    {7, "Resyncing"},
    {8, "Restoring"},
    {9, "Fracturing"},
    {10, "Splitting"},
    {11, "Failing over"},
    {12, "Failing back"},
    {13, "Aborting"},
    {14, "Mixed"},
    {15, "Not Applicable"},
    {16, "Suspending"},
    {17, "Requires fracture"},
    {18, "Requires resync"},
    {19, "Requires activate"},
    {20, "Pending"},
    {21, "Detaching"},
    {22, "Requires detach"},
    {23, "Terminating"},
    {24, "Requires split"},
    {25, "Requires resume"},
};
MAP(progress_status, "ProgressStatus");

static const struct enum_value values_sync_state[] = {
    {0, "Unknown"},
    {2, "Initialized"},
    {3, "PrepareInProgress"},
    {4, "Prepared"},
    {5, "ResyncInProgress"},
    {6, "Synchronized"},
    {7, "Fracture In Progress"},
    {8, "QuiesceInProgress"},
    {9, "Quiesced"},
    {10, "Restore In Progress"},
    {11, "Idle"},
    {12, "Broken"},
    {13, "Fractured"},
    {14, "Frozen"},
    {15, "Copy In Progress"},
};
MAP(sync_state, "SyncState");

static const struct enum_value values_copy_priority[] = {
    {0, "Not Managed"},
    {1, "Low"},
    {2, "Same"},
    {3, "High"},
    {4, "Urgent"},
};
MAP(copy_priority, "CopyPriority");

static const struct enum_value values_copy_methodology[] = {
    {0, "Not Specified"},
    {1, "Other"},
    {2, "Implementation decides"},
    {3, "Full-Copy"},
    {4, "Incremental-Copy"},
    {5, "Differential-Copy"},
    {6, "Copy-On-Write"},
    {7, "Copy-On-Access"},
    {8, "Delta-Update"},
    {9, "Snap-And-Clone"},
    {10, "Copy-before-Activation"},
};
MAP(copy_methodology, "CopyMethodology");

static const struct enum_value values_desired_copy_methodology[] = {
    {1, "Other"},
    {2, "Implementation decides"},
    {3, "Full-Copy"},
    {4, "Incremental-Copy"},
    {5, "Differential-Copy"},
    {6, "Copy-On-Write"},
    {7, "Copy-On-Access"},
    {8, "Delta-Update"},
    {9, "Snap-And-Clone"},
    {10, "Copy-before-Activation"},
};
MAP(desired_copy_methodology, "DesiredCopyMethodology");

static const struct enum_value values_read_only[] = {
    {2, "SystemElement"},
    {3, "SyncedElement"},
    {4, "Both"},
};
MAP(read_only, "ElementSide");

static const struct enum_value values_copy_recovery_mode[] = {
    {0, "Unknown"},
    {2, "Automatic"},
    {3, "Manual"},
};
MAP(copy_recovery_mode, "CopyRecoveryMode");

static const struct enum_value values_operation[] = {
    {2, "Abort"},
    {3, "Activate Consistency"},
    {4, "Activate"},
    {5, "AddSyncPair"},
    {6, "Deactivate Consistency"},
    {7, "Deactivate"},
    {8, "Detach"},
    {9, "Dissolve"},
    {10, "Failover"},
    {11, "Failback"},
    {12, "Fracture"},
    {13, "RemoveSyncPair"},
    {14, "Resync Replica"},
    {15, "Restore from Replica"},
    {16, "Resume"},
    {17, "Reset To Sync"},
    {18, "Reset To Async"},
    {19, "Return To ResourcePool"},
    {20, "Reverse Roles"},
    {21, "Split"},
    {22, "Suspend"},
    {23, "Unprepare"},
    {24, "Prepare"},
};
MAP(operation, "Operation");

static const struct enum_value values_list_operation[] = {
    {2, "Abort"},
    {4, "Activate"},
    {7, "Deactivate"},
    {8, "Detach"},
    {9, "Dissolve"},
    {10, "Failover"},
    {11, "Failback"},
    {12, "Fracture"},
    {14, "Resync Replica"},
    {15, "Restore from Replica"},
    {16, "Resume"},
    {17, "Reset To Sync"},
    {18, "Reset To Async"},
    {19, "Return To ResourcePool"},
    {20, "Reverse Roles"},
    {21, "Split"},
    {22, "Suspend"},
    {23, "Unprepare"},
    {24, "Prepare"},
};
MAP(list_operation, "ListOperation");

static const struct enum_value values_legacy_operation[] = {
    {2, "Detach"},
    {3, "Fracture"},
    {4, "Resync Replica"},
    {5, "Restore from Replica"},
    {6, "Prepare"},
    {7, "Unprepare"},
    {8, "Quiesce"},
    {9, "Unquiesce"},
    {10, "Reset To Sync"},
    {11, "Reset To Async"},
    {12, "Start Copy"},
    {13, "Stop Copy"},
};
MAP(legacy_operation, "LegacyOperation");

static const struct enum_value values_consistency[] = {
    {2, "No Consistency"},
    {3, "Sequential Consistency"},
};
MAP(consistency, "Consistency");

static const struct enum_value values_default_consistency[] = {
    {0, "No default consistency"},
    {2, "Sequentially Consistent"},
};
MAP(default_consistency, "DefaultConsistency");

static const struct enum_value values_consistency_type[] = {
    {2, "Sequentially Consistent"},
};
MAP(consistency_type, "ConsistencyType");

static const struct enum_value values_replication_type[] = {
    {2, "Synchronous Mirror Local"},
    {3, "Asynchronous Mirror Local"},
    {4, "Synchronous Mirror Remote"},
    {5, "Asynchronous Mirror Remote"},
    {6, "Synchronous Snapshot Local"},
    {7, "Asynchronous Snapshot Local"},
    {8, "Synchronous Snapshot Remote"},
    {9, "Asynchronous Snapshot Remote"},
    {10, "Synchronous Clone Local"},
    {11, "Asynchronous Clone Local"},
    {12, "Synchronous Clone Remote"},
    {13, "Asynchronous Clone Remote"},
};
MAP(replication_type, "ReplicationType");

static const struct enum_value values_job_state[] = {
    {2, "New"},
    {3, "Starting"},
    {4, "Running"},
    {5, "Suspended"},
    {6, "Shutting Down"},
    {7, "Completed"},
    {8, "Terminated"},
    {9, "Killed"},
    {10, "Exception"},
    {11, "Service"},
    {12, "Query Pending"},
};
MAP(job_state, "JobState");

static const struct enum_value values_job_requested_state[] = {
    {2, "Start"},
    {3, "Suspend"},
    {4, "Terminate"},
    {5, "Kill"},
    {6, "Service"},
};
MAP(job_requested_state, "JobRequestedState");

static const struct enum_value values_operational_status[] = {
    {0, "Unknown"},
    {1, "Other"},
    {2, "OK"},
    {3, "Degraded"},
    {4, "Stressed"},
    {5, "Predictive Failure"},
    {6, "Error"},
    {7, "Non-Recoverable Error"},
    {8, "Starting"},
    {9, "Stopping"},
    {10, "Stopped"},
    {11, "In Service"},
    {12, "No Contact"},
    {13, "Lost Communication"},
    {14, "Aborted"},
    {15, "Dormant"},
    {16, "Supporting Entity in Error"},
    {17, "Completed"},
    {18, "Power Mode"},
    {19, "Relocating"},
};
MAP(operational_status, "OperationalStatus");

static const struct enum_value values_health_state[] = {
    {0, "Unknown"},
    {5, "OK"},
    {10, "Degraded/Warning"},
    {15, "Minor failure"},
    {20, "Major failure"},
    {25, "Critical failure"},
    {30, "Non-recoverable error"},
};
MAP(health_state, "HealthState");

static const struct enum_value values_recovery_action[] = {
    {0, "Unknown"},
    {1, "Other"},
    {2, "Do Not Continue"},
    {3, "Continue With Next Job"},
    {4, "Re-run Job"},
    {5, "Run Recovery Job"},
};
MAP(recovery_action, "RecoveryAction");

static const struct enum_value values_element_effect[] = {
    {0, "Unknown"},
    {1, "Other"},
    {2, "Exclusive Use"},
    {3, "Performance Impact"},
    {4, "Element Integrity"},
    {5, "Create"},
};
MAP(element_effect, "ElementEffects");

static const struct enum_value values_usage[] = {
    {1, "Other"},
    {2, "Unrestricted"},
    {3, "Reserved for ComputerSystem"},
    {4, "Reserved by Replication Services"},
    {5, "Reserved by Migration Services"},
    {6, "Local Replica Source"},
    {7, "Remote Replica Source"},
    {8, "Local Replica Target"},
    {9, "Remote Replica Target"},
    {10, "Local Replica Source or Target"},
    {11, "Remote Replica Source or Target"},
    {12, "Delta Replica Target"},
    {13, "Element Component"},
    {14, "Reserved as Unrestricted Pool Contributor"},
    {15, "Composite Volume Member"},
    {16, "Composite LogicalDisk Member"},
    {17, "Reserved for Sparing"},
    {18, "In use as Unrestricted Pool Contributor"},
    {19, "Reserved to be a Delta Replication Pool contributor"},
    {20, "Reserved to be a Local Replication Pool contributor"},
    {21, "Reserved to be a Remote Replication Pool contributor"},
    {22, "In use as a Delta Replication Pool contributor"},
    {23, "In use as a Local Replication Pool contributor"},
    {24, "In use as a Remote Replication Pool contributor"},
};
MAP(usage, "VolumeUsage");

static const struct enum_value values_pool_usage[] = {
    {1, "Other"},
    {2, "Unrestricted"},
    {3, "Reserved for ComputerSystem"},
    {4, "Reserved as a Delta Replica Container"},
    {5, "Reserved for Migration Services"},
    {6, "Reserved for Local Replication Services"},
    {7, "Reserved for Remote Replication Services"},
    {8, "Reserved for Sparing"},
};
MAP(pool_usage, "PoolUsage");

static const struct enum_value values_name_format[] = {
    {0, "Unknown"},
    {1, "Other"},
    {2, "VPD83NAA6"},
    {3, "VPD83NAA5"},
    {4, "VPD83Type2"},
    {5, "VPD83Type1"},
    {6, "VPD83Type0"},
    {7, "SNVM"},
    {8, "NodeWWN"},
    {9, "NAA"},
    {10, "EUI64"},
    {11, "T10VID"},
};
MAP(name_format, "VolumeNameFormat");

static const struct enum_value values_name_namespace[] = {
    {0, "Unknown"},
    {1, "Other"},
    {2, "VPD83Type3"},
    {3, "VPD83Type2"},
    {4, "VPD83Type1"},
    {5, "VPD80"},
    {6, "NodeWWN"},
    {7, "SNVM"},
};
MAP(name_namespace, "VolumeNameNamespace");

static const struct enum_value values_extent_status[] = {
    {0, "Other"},
    {1, "Unknown"},
    {2, "None/Not Applicable"},
    {3, "Broken"},
    {4, "Data Lost"},
    {5, "Dynamic Reconfig"},
    {6, "Exposed"},
    {7, "Fractionally Exposed"},
    {8, "Partially Exposed"},
    {9, "Protection Disabled"},
    {10, "Readying"},
    {11, "Rebuild"},
    {12, "Recalculate"},
    {13, "Spare in Use"},
    {14, "Verify In Progress"},
    {15, "In-Band Access Granted"},
    {16, "Imported"},
    {17, "Exported"},
    {18, "Relocating"},
};
MAP(extent_status, "ExtentStatus");

static const struct enum_value values_info_format[] = {
    {2, "Host Name"},
    {3, "IPv4 Address"},
    {4, "IPv6 Address"},
    {200, "URL"},
    {201, "FQDN"},
};
MAP(info_format, "InfoFormat");

static const struct enum_value values_connection_type[] = {
    {1, "Other"},
    {2, "Fibre Channel"},
    {3, "Parallel SCSI"},
    {4, "SSA"},
    {5, "IEEE 1394"},
    {6, "RDMA"},
    {7, "iSCSI"},
    {8, "SAS"},
    {9, "ADT"},
};
MAP(connection_type, "ConnectionType");

static const struct enum_value values_entity_type[] = {
    {0, "Unknown"},
    {1, "Other"},
    {2, "StoragePool"},
    {3, "StorageExtent"},
    {4, "StorageVolume"},
    {5, "LogicalDisk"},
    {6, "Filesystem"},
    {7, "WWN"},
    {8, "URI"},
    {9, "Objectpath"},
    {10, "Encoded in EntityID"},
    {11, "Embedded Instance"},
};
MAP(entity_type, "EntityType");

static const struct enum_value values_local_or_remote[] = {
    {2, "Local"},
    {3, "Remote"},
};
MAP(local_or_remote, "LocalOrRemote");

static const struct enum_value values_locality[] = {
    {2, "Local only"},
    {3, "Remote only"},
};
MAP(locality, "Locality");

static const struct enum_value values_relationship_type[] = {
    {2, "StorageSynchronized"},
    {3, "GroupSynchronized"},
};
MAP(relationship_type, "RelationshipType");

static const struct enum_value values_peer_options[] = {
    {2, "Only systems currently reachable"},
    {3, "Include access points for systems currently reachable"},
};
MAP(peer_options, "PeerOptions");

static const struct enum_value values_wait_method[] = {
    {2, "CreateElementReplica"},
    {3, "CreateGroupReplica"},
    {4, "ModifyReplicaSynchronization"},
    {5, "ModifyListSynchronization"},
    {6, "ModifySettingsDefineState"},
    {7, "CreateListReplica"},
    {8, "CreateGroupReplicaFromElements"},
    {9, "ModifyListSettingsDefineState"},
    {10, "CreateGroupReplicaFromElementSynchronizations"},
    {11, "AddElementsToGroupSynchronized"},
};
MAP(wait_method, "WaitMethod");

static const struct enum_value values_supported_method[] = {
    {2, "CreateElementReplica"},
    {3, "CreateGroupReplica"},
    {4, "CreateSynchronizationAspect"},
};
MAP(supported_method, "SupportMethod");

static const struct enum_value values_maximum_component[] = {
    {2, "Number of groups"},
    {3, "Number of elements per source group"},
    {4, "Number of elements per target group"},
    {5, "Number of target elements per source element"},
    {6, "Number of total source elements"},
    {7, "Number of total target elements"},
    {8, "Number of peer systems"},
    {9, "Number of hops in multi-hop copy"},
    {10, "Maximum number of tokens supported"},
    {11, "Current number of tokens in-use"},
    {12, "Optimal token size"},
};
MAP(maximum_component, "MaximumComponent");

static const struct enum_value values_setting_property[] = {
    {2, "ConsistentPointInTime"},
    {3, "DesiredCopyMethodology"},
    {4, "Multihop"},
    {5, "OnGroupOrListError"},
    {6, "UnequalGroupsAction"},
    {7, "TargetElementSupplier"},
    {8, "ThinProvisioningPolicy"},
    {9, "Pairing"},
    {10, "FailedCopyStopsHostIO"},
    {11, "CopyRecoveryMode"},
    {12, "UnequalListsAction"},
    {13, "DeltaUpdateInterval"},
    {14, "DeltaUpdateBlocks"},
    {15, "ReadOnly"},
    {16, "StorageCompressionPolicy"},
    {17, "TargetElementResourcePool"},
    {18, "TargetElementGoal"},
    {19, "RRCSoftwareCompressionEnabled"},
    {20, "RRCHardwareCompressionEnabled"},
    {21, "AutoDelete"},
    {23, "TimeBeforeRemoval"},
    {24, "ConsistencyExempt"},
    {25, "ConsistentAsyncCopy"},
    {26, "RPO"},
    {27, "Skew"},
};
MAP(setting_property, "SettingProperty");

static const struct enum_value values_feature[] = {
    {2, "Replication groups"},
    {3, "Multi-hop element replication"},
    {4, "Multi-hop elements must have same SyncType"},
    {5, "Multi-hop requires advance notice"},
    {6, "Requires full discovery of target ComputerSystem"},
    {7, "Service suspends source I/O when necessary"},
    {8, "Targets allocated from Any storage pool"},
    {9, "Targets allocated from Shared storage pool"},
    {10, "Targets allocated from Exclusive storage pool"},
    {11, "Targets allocated from Multiple storage pools"},
    {12, "Targets require reserved elements"},
    {13, "Target is associated to SynchronizationAspect"},
    {14, "Source is associated to SynchronizationAspect"},
    {15, "Error recovery from Broken state Automatic"},
    {16, "Target must remain associated to source"},
    {17, "Remote resource requires remote CIMOM"},
    {18, "Synchronized clone target detaches automatically"},
    {19, "Reverse Roles operation requires Read Only source"},
    {20, "Reverse Roles operation requires subsequent resync"},
    {21, "Restore operation requires subsequent fracture"},
    {22, "Resync operation requires subsequent activate"},
    {23, "Copy operation requires offline source"},
    {24, "Adjustable CopyPriority"},
    {25, "Source requires reserved element"},
    {26, "Supports undiscovered resources"},
    {27, "Restore operation requires subsequent detach"},
    {28, "Target element can be added to collections"},
    {29, "Reverse Roles operation requires Synchronized state"},
    {30, "Reverse Roles operation requires Fractured state"},
    {31, "Reverse Roles operation requires Split state"},
    {32, "Reverse Roles operation requires FailedOver state"},
    {33, "Reverse Roles operation requires Suspended state"},
    {34, "Provider can manage remote source"},
    {35, "Provider can manage remote target"},
    {36, "Supports temporary ReplicationEntity"},
    {37, "Supports persistent ReplicationEntity"},
    {38, "ReplicationEntity supports embedded instance"},
    {39, "TargetElement shall not be supplied"},
    {40, "TargetPool shall not be supplied"},
    {41, "TargetGoal shall not be supplied"},
    {42, "Provider can create remote elements"},
    {43, "Creating remote elements requires TargetPool"},
    {44, "Local targets allocated from sources resource pool"},
    {45, "Supports SynchronizationAspect"},
    {46, "Accepts foreign object paths"},
    {47, "Failover operation requires subsequent fracture"},
    {48, "Failover operation requires subsequent split"},
    {49, "Restore operation requires subsequent resume"},
    {50, "GetPeerSystems can return access points"},
    {51, "Client can supply target ElementName"},
    {52, "Reverse Roles operation does not change CopyState"},
    {53, "Failover operation requires subsequent failback"},
    {54, "Planned Failover operation requires fractured state"},
    {55, "Target element requires resource pool reserved for replication"},
};
MAP(feature, "Feature");

static const struct enum_value values_group_feature[] = {
    {2, "One-to-many replication"},
    {3, "Many-to-many groups"},
    {4, "Consistency enabled for all groups"},
    {5, "Empty replication groups allowed"},
    {6, "Source group must have more than one element"},
    {7, "Composite Groups"},
    {8, "Multihop element replication"},
    {9, "Multi-hop elements must have same SyncType"},
    {10, "Group can only have one single relationship active"},
    {11, "Source element can be removed from group"},
    {12, "Target element can be removed from group"},
    {13, "Group can be temporary"},
    {14, "Group is nameable"},
    {15, "Supports target element count"},
    {16, "Synchronized clone target detaches automatically"},
    {17, "Reverse Roles operation requires Read Only source"},
    {18, "Reverse Roles operation requires subsequent resync"},
    {19, "Restore operation requires subsequent fracture"},
    {20, "Resync operation requires subsequent activate"},
    {21, "Copy operation requires offline source"},
    {22, "Restore operation requires subsequent detach"},
    {23, "Element can be member of multiple groups"},
    {24, "Elements of group can be mix of thin and thick"},
    {25, "TokenizedClone ConsistentPointInTime"},
    {26, "Target elements can be added to collections"},
    {27, "Reverse Roles operation requires Synchronized state"},
    {28, "Reverse Roles operation requires Fractured state"},
    {29, "Reverse Roles operation requires Split state"},
    {30, "Reverse Roles operation requires FailedOver state"},
    {31, "Reverse Roles operation requires Suspended state"},
    {32, "Provider can manage remote source group"},
    {33, "Provider can manage remote target group"},
    {34, "TargetGroup shall not be supplied"},
    {35, "TargetPool shall not be supplied"},
    {36, "TargetSettingGoal shall not be supplied"},
    {37, "Provider can create remote target group"},
    {38, "Provider can create local target group"},
    {39, "Provider must create remote group"},
    {40, "Creating remote elements requires TargetPool"},
    {41, "Target group shall be supplied"},
    {42, "CreateGroupReplica only accepts empty groups"},
    {43, "One replication group per storage pool"},
    {44, "Supports ConsistencyExempt when adding to group"},
    {45, "Add or Remove to group requires Fractured state"},
    {46, "Add or Remove to group requires Split state"},
    {47, "Add or Remove to group requires Suspended state"},
    {48, "Add or Remove to group requires FailedOver state"},
    {49, "Supports SynchronizationAspect of replication group"},
    {50, "No element level StorageSynchronized"},
    {51, "Accepts foreign object paths"},
    {52, "Failover operation requires subsequent fracture"},
    {53, "Failover operation requires subsequent split"},
    {54, "Restore operation requires subsequent resume"},
    {55, "One consistent async per RemoteReplicationCollection"},
    {56, "Client can supply RelationshipName"},
    {57, "Implementation decides group member order"},
    {58, "Reverse Roles operation does not change CopyState"},
    {59, "Failover operation requires subsequent failback"},
    {60, "Planned Failover operation requires split state"},
    {61, "Planned Failover operation requires fractured state"},
    {62, "Target element requires resource pool reserved for replication"},
    {63, "AddSyncPair requires Synchronized mirror pair"},
    {64, "Provider can create remote elements using TargetPools"},
};
MAP(group_feature, "GroupFeature");

static const struct enum_value values_list_feature[] = {
    {2, "List is supported"},
    {3, "Sequential consistency"},
    {4, "No consistency"},
    {5, "Consistent list requires same ElementNames"},
    {6, "Target element can be added to collections"},
};
MAP(list_feature, "ListFeature");

static const struct enum_value values_thin_feature[] = {
    {1, "Thin provisioning is not supported"},
    {2, "Zeros written in unused allocated blocks of target"},
    {3, "Unused allocated blocks of target are not initialized"},
};
MAP(thin_feature, "ThinProvisioningFeature");

static const struct enum_value values_connection_feature[] = {
    {2, "Unidirectional to ServiceAccessPoint"},
    {3, "Unidirectional from ServiceAccessPoint"},
};
MAP(connection_feature, "ConnectionFeature");

static const struct enum_value values_name_feature[] = {
    {2, "ElementName can be supplied during creation"},
    {3, "ElementName can be modified with InvokeMethod"},
    {4, "ElementName can be modified with intrinsic method"},
};
MAP(name_feature, "ElementNameFeature");

static const struct enum_value values_name_element_type[] = {
    {2, "ReplicationGroup"},
    {3, "StorageSynchronized"},
    {4, "GroupSynchronized"},
    {5, "SynchronizationAspect"},
    {6, "ReplicationEntity"},
};
MAP(name_element_type, "NamedElementType");

/* Of CreateOrModifyElementFromStoragePool. */
static const struct enum_value values_element_type[] = {
    {2, "StorageVolume"},
    {3, "StorageExtent"},
    {4, "LogicalDisk"},
    {5, "ThinlyProvisionedStorageVolume"},
    {6, "ThinlyProvisionedLogicalDisk"},
    {7, "FullyProvisionedStorageVolume"},
    {8, "FullyProvisionedLogicalDisk"},
};
MAP(element_type, "ElementType");

static const struct enum_value values_service_controlling[] = {
    {2, "Source Only"},
    {3, "Target Only"},
    {4, "Source or Target"},
    {5, "Both Source and Target"},
};
MAP(service_controlling, "ServiceControlling");

static const struct enum_value values_element_role[] = {
    {2, "SystemElement"},
    {3, "SyncedElement"},
};
MAP(element_role, "ElementRole");

static const struct enum_value values_group_persistency[] = {
    {0, "No default persistency"},
    {2, "Persistent"},
    {3, "Not Persistent"},
};
MAP(group_persistency, "DefaultGroupPersistency");

static const struct enum_value values_pairing[] = {
    {2, "Instrumentation decides"},
    {3, "Exact order"},
    {4, "Optimum"},
};
MAP(pairing, "Pairing");

static const struct enum_value values_unequal_groups_action[] = {
    {2, "Return an error"},
    {3, "Allow source group to be larger"},
    {4, "Allow target group to be larger"},
};
MAP(unequal_groups_action, "UnequalGroupsAction");

static const struct enum_value values_unequal_lists_action[] = {
    {2, "Return an error"},
    {3, "Allow source list to be larger"},
    {4, "Allow target list to be larger"},
};
MAP(unequal_lists_action, "UnequalListsAction");

static const struct enum_value values_target_supplier[] = {
    {1, "Use existing"},
    {2, "Create new"},
    {3, "Use and create"},
    {4, "Instrumentation decides"},
    {5, "Client must supply"},
};
MAP(target_supplier, "TargetElementSupplier");

static const struct enum_value values_thin_policy[] = {
    {2, "Copy thin source to thin target"},
    {3, "Copy thin source to full target"},
    {4, "Copy full source to thin target"},
    {5, "Provisioning of target same as source"},
    {6, "Target pool decides provisioning of target element"},
    {7, "Implementation decides provisioning of target"},
};
MAP(thin_policy, "ThinProvisioningPolicy");

static const struct enum_value values_on_error[] = {
    {2, "Continue"},
    {3, "Stop"},
};
MAP(on_error, "OnGroupOrListError");

static const struct enum_value values_setting_recovery_mode[] = {
    {0, "Unknown"},
    {2, "Automatic"},
    {3, "Manual"},
    {4, "Implementation decides"},
};
MAP(setting_recovery_mode, "DesiredCopyRecoveryMode");

static const struct enum_value values_compression_policy[] = {
    {2, "Compressed source to compressed target"},
    {3, "Compressed source to uncompressed target"},
    {4, "Uncompressed source to compressed target"},
    {5, "Compression of target same as source"},
    {6, "Target pool decides compression of target element"},
    {7, "Implementation decides compression of target"},
};
MAP(compression_policy, "StorageCompressionPolicy");

static const struct enum_value values_target_decides[] = {
    {2, "Implementation decides"},
    {3, "Same as source"},
};
MAP(target_decides, "TargetElementChoice");

static const struct enum_value values_initial_synchronization[] = {
    {0, "Not Applicable"},
    {1, "Not Managed"},
    {2, "Start"},
    {3, "Do Not Start"},
};
MAP(initial_synchronization, "InitialSynchronization");

static const struct enum_value values_replication_priority[] = {
    {0, "Not Applicable"},
    {1, "Not Managed"},
    {2, "Low"},
    {3, "Same"},
    {4, "High"},
};
MAP(replication_priority, "ReplicationPriority");

static const struct enum_value values_setting_data_changeable_type[] = {
    {0, "Not Changeable - Persistent"},
    {1, "Changeable - Transient"},
    {2, "Changeable - Persistent"},
    {3, "Not Changeable - Transient"},
};
MAP(setting_data_changeable_type, "SettingDataChangeableType");

static const struct enum_value values_parity_layout[] = {
    {1, "Non-rotated Parity"},
    {2, "Rotated Parity"},
};
MAP(parity_layout, "ParityLayout");

static const struct enum_value values_use_replication_buffer[] = {
    {0, "Not Applicable"},
    {1, "Not Managed"},
    {2, "Use Buffer"},
    {3, "Do Not Use Buffer"},
};
MAP(use_replication_buffer, "UseReplicationBuffer");

static const struct enum_value values_thin_pool_type[] = {
    {7, "ThinlyProvisionedAllocatedStoragePool"},
    {8, "ThinlyProvisionedQuotaStoragePool"},
    {9, "ThinlyProvisionedLimitlessStoragePool"},
};
MAP(thin_pool_type, "ThinProvisionedPoolType");

static const struct enum_value values_compression_rate[] = {
    {1, "None"},
    {2, "High"},
    {3, "Medium"},
    {4, "Low"},
    {5, "Implementation decides"},
};
MAP(compression_rate, "CompressionRate");

static const struct enum_value values_error_type[] = {
    {0, "Unknown"},
    {1, "Other"},
    {2, "Communications Error"},
    {3, "Quality of Service Error"},
    {4, "Software Error"},
    {5, "Hardware Error"},
    {6, "Environmental Error"},
    {7, "Security Error"},
    {8, "Oversubscription Error"},
    {9, "Unavailable Resource Error"},
    {10, "Unsupported Operation Error"},
};
MAP(error_type, "ErrorType");

static const struct enum_value values_perceived_severity[] = {
    {0, "Unknown"},
    {1, "Other"},
    {2, "Information"},
    {3, "Degraded/Warning"},
    {4, "Minor"},
    {5, "Major"},
    {6, "Critical"},
    {7, "Fatal/NonRecoverable"},
};
MAP(perceived_severity, "PerceivedSeverity");

static const struct enum_value values_cim_status_code[] = {
    {1, "CIM_ERR_FAILED"},
    {2, "CIM_ERR_ACCESS_DENIED"},
    {4, "CIM_ERR_INVALID_PARAMETER"},
    {6, "CIM_ERR_NOT_FOUND"},
    {7, "CIM_ERR_NOT_SUPPORTED"},
    {27, "CIM_ERR_SERVER_LIMITS_EXCEEDED"},
    {28, "CIM_ERR_SERVER_IS_SHUTTING_DOWN"},
};
MAP(cim_status_code, "CIMStatusCode");

static const struct enum_value values_consistency_state[] = {
    {0, "Unknown"},
    {1, "Other"},
    {2, "Not Applicable"},
    {3, "Consistent"},
    {4, "Inconsistent"},
};
MAP(consistency_state, "ConsistencyState");

static const struct enum_value values_consistency_status[] = {
    {0, "Unknown"},
    {1, "Other"},
    {2, "Completed"},
    {3, "Consistency-in-progress"},
    {4, "Consistency disabled"},
    {5, "Consistency-error"},
};
MAP(consistency_status, "ConsistencyStatus");

static const struct enum_value values_reserved_as[] = {
    {2, "Source Only"},
    {3, "Target Only"},
    {4, "Source or Target"},
};
MAP(reserved_as, "ReservedAs");

static const struct enum_value values_returns_k[] = {
    {0, "Completed with No Error"},
    {1, "Not Supported"},
    {2, "Unknown"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
};
MAP(returns_k, "ReturnsK");

static const struct enum_value values_returns_k6[] = {
    {0, "Completed with No Error"},
    {1, "Not Supported"},
    {2, "Unknown"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {6, "In Use"},
};
MAP(returns_k6, "ReturnsK6");

static const struct enum_value values_returns_k6j[] = {
    {0, "Job Completed with No Error"},
    {1, "Not Supported"},
    {2, "Unknown"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {6, "In Use"},
    {4096, "Method Parameters Checked - Job Started"},
};
MAP(returns_k6j, "ReturnsK6J");

static const struct enum_value values_returns_k6j_size[] = {
    {0, "Job Completed with No Error"},
    {1, "Not Supported"},
    {2, "Unknown"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {6, "In Use"},
    {4096, "Method Parameters Checked - Job Started"},
    {4097, "Size Not Supported"},
};
MAP(returns_k6j_size, "ReturnsK6JSize");

static const struct enum_value values_returns_k67_property[] = {
    {0, "Completed with No Error"},
    {1, "Not Supported"},
    {2, "Unknown"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {6, "In Use"},
    {7, "Property Is Not Supported"},
};
MAP(returns_k67_property, "ReturnsK67Property");

static const struct enum_value values_returns_k67_information[] = {
    {0, "Completed with No Error"},
    {1, "Not Supported"},
    {2, "Unknown"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {6, "In Use"},
    {7, "Information is not available"},
};
MAP(returns_k67_information, "ReturnsK67Information");

static const struct enum_value values_returns_k67_default[] = {
    {0, "Completed with No Error"},
    {1, "Not Supported"},
    {2, "Unknown"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {6, "In Use"},
    {7, "No default ReplicationSettingData"},
};
MAP(returns_k67_default, "ReturnsK67Default");

static const struct enum_value values_returns_k67_name[] = {
    {0, "Completed with No Error"},
    {1, "Not Supported"},
    {2, "Unknown"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {6, "In Use"},
    {7, "Groups are not nameable"},
};
MAP(returns_k67_name, "ReturnsK67Name");

static const struct enum_value values_returns_k67_relationship[] = {
    {0, "Completed with No Error"},
    {1, "Not Supported"},
    {2, "Unknown"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {6, "In Use"},
    {7, "One or more elements in a replication relationship"},
};
MAP(returns_k67_relationship, "ReturnsK67Relationship");

static const struct enum_value values_returns_k67_group[] = {
    {0, "Completed with No Error"},
    {1, "Not Supported"},
    {2, "Unknown"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {6, "In Use"},
    {7, "Group does not exist"},
};
MAP(returns_k67_group, "ReturnsK67Group");

static const struct enum_value values_returns_k678_member[] = {
    {0, "Completed with No Error"},
    {1, "Not Supported"},
    {2, "Unknown"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {6, "In Use"},
    {7, "Group does not exist"},
    {8, "Member not in group"},
};
MAP(returns_k678_member, "ReturnsK678Member");

static const struct enum_value values_returns_u6[] = {
    {0, "Completed with No Error"},
    {1, "Not Supported"},
    {2, "Unspecified Error"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {6, "In Use"},
};
MAP(returns_u6, "ReturnsU6");

static const struct enum_value values_returns_u6j[] = {
    {0, "Job Completed with No Error"},
    {1, "Not Supported"},
    {2, "Unspecified Error"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {6, "In Use"},
    {4096, "Method Parameters Checked - Job Started"},
};
MAP(returns_u6j, "ReturnsU6J");

static const struct enum_value values_returns_pipe[] = {
    {0, "Completed with No Error"},
    {1, "Not Supported"},
    {2, "Unspecified Error"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {4096, "Busy"},
};
MAP(returns_pipe, "ReturnsPipe");

/* 2 and 3 as iSCSIConnectionSettings has them; 4 is ours. */
static const struct enum_value values_pipe_digest[] = {
    {2, "No Digest"},
    {3, "CRC32C"},
    {4, "CRC32C Preferred"},
};
MAP(pipe_digest, "PipeDigest");

static const struct enum_value values_directionality[] = {
    {2, "Bi-Directional"},
    {3, "Unidirectional"},
};
MAP(directionality, "Directionality");

static const struct enum_value values_device_access[] = {
    {0, "No Access"},
    {2, "Read Write"},
    {3, "Read-Only"},
};
MAP(device_access, "DeviceAccess");

static const struct enum_value values_returns_scan[] = {
    {0, "Job Completed with No Error"},
    {1, "Not Supported"},
    {2, "Unknown"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {4096, "Invalid connection type"},
    {4097, "Invalid Initiator"},
    {4098, "No matching target found"},
    {4099, "No matching LUs found"},
    {4100, "Prohibited by name binding configuration"},
};
MAP(returns_scan, "ReturnsScan");

static const struct enum_value values_returns_expose[] = {
    {0, "Success"},
    {1, "Not Supported"},
    {2, "Unspecified Error"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {4096, "Method Parameters Checked - Job Started"},
    {4097, "Invalid logical unit ID"},
    {4098, "Invalid initiator port ID"},
    {4099, "Invalid target port ID"},
    {4100, "Invalid permission"},
    {4101, "Target/initiator combination already exposed"},
    {4102, "Requested logical unit number in use"},
    {4103, "Maximum Map Count exceeded"},
};
MAP(returns_expose, "ReturnsExpose");

static const struct enum_value values_returns_hide[] = {
    {0, "Success"},
    {1, "Not Supported"},
    {2, "Unspecified Error"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {4096, "Method Parameters Checked - Job Started"},
    {4097, "Invalid logical unit ID"},
    {4098, "Invalid initiator port ID"},
    {4099, "Invalid target port ID"},
    {4100, "Target/initiator combination not exposed"},
};
MAP(returns_hide, "ReturnsHide");

static const struct enum_value values_returns_job_change[] = {
    {0, "Completed with No Error"},
    {1, "Not Supported"},
    {2, "Unspecified Error"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {6, "In Use"},
    {4096, "Method Parameters Checked - Transition Started"},
    {4097, "Invalid State Transition"},
    {4098, "Use of Timeout Parameter Not Supported"},
    {4099, "Busy"},
};
MAP(returns_job_change, "ReturnsJobChange");

static const struct enum_value values_returns_get_errors[] = {
    {0, "Completed with No Error"},
    {1, "Not Supported"},
    {2, "Unspecified Error"},
    {3, "Timeout"},
    {4, "Failed"},
    {5, "Invalid Parameter"},
    {6, "Access Denied"},
};
MAP(returns_get_errors, "ReturnsGetErrors");

uint32_t replication_type(uint32_t sync_type, uint32_t mode, bool remote)
{
    return 2 + 4 * (sync_type - SYNC_MIRROR) + (remote ? 2 : 0) + (mode - MODE_SYNCHRONOUS);
}
