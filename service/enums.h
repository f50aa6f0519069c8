// SPDX-License-Identifier: Apache-2.0
/*
 * The enumerations of SMI-S that we take or show, by the numbers that CIM gives them.
 *
 * Thread:    constant.
 * Ownership: constant.
 * Errors:    none.
 *
 * Map names are those of x-enums in openapi.yaml.
 */
#ifndef SERVICE_ENUMS_H
#define SERVICE_ENUMS_H

#include "service/method.h"

enum sync_type { SYNC_MIRROR = 6, SYNC_SNAPSHOT = 7, SYNC_CLONE = 8 };
enum sync_mode { MODE_SYNCHRONOUS = 2, MODE_ASYNCHRONOUS = 3 };
enum copy_type { COPY_ASYNC = 2, COPY_SYNC = 3, COPY_UNSYNC_ASSOC = 4, COPY_UNSYNC_UNASSOC = 5 };
enum replica_type { REPLICA_FULL_COPY = 2, REPLICA_AFTER_DELTA = 4 };
enum copy_state {
    STATE_INITIALIZED = 2,
    STATE_UNSYNCHRONIZED = 3,
    STATE_SYNCHRONIZED = 4,
    STATE_BROKEN = 5,
    STATE_FRACTURED = 6,
    STATE_SPLIT = 7,
    STATE_INACTIVE = 8,
    STATE_SUSPENDED = 9,
    STATE_FAILEDOVER = 10,
    STATE_PREPARED = 11,
    STATE_ABORTED = 12,
    STATE_SKEWED = 13,
    STATE_MIXED = 14,
    STATE_NOT_APPLICABLE = 15,
    STATE_PARTITIONED = 16,
    STATE_INVALID = 17,
};
enum progress_status {
    PROGRESS_COMPLETED = 2,
    PROGRESS_DORMANT = 3,
    PROGRESS_INITIALIZING = 4,
    PROGRESS_PREPARING = 5,
    PROGRESS_SYNCHRONIZING = 6,
    PROGRESS_RESYNCING = 7,
    PROGRESS_RESTORING = 8,
    PROGRESS_FRACTURING = 9,
    PROGRESS_SPLITTING = 10,
    PROGRESS_FAILING_OVER = 11,
    PROGRESS_FAILING_BACK = 12,
    PROGRESS_ABORTING = 13,
    PROGRESS_MIXED = 14,
    PROGRESS_NOT_APPLICABLE = 15,
    PROGRESS_SUSPENDING = 16,
    PROGRESS_DETACHING = 21,
    PROGRESS_TERMINATING = 23,
    PROGRESS_REQUIRES_RESUME = 25,
};
enum sync_operation {
    OPERATION_ABORT = 2,
    OPERATION_ACTIVATE_CONSISTENCY = 3,
    OPERATION_ACTIVATE = 4,
    OPERATION_ADD_SYNC_PAIR = 5,
    OPERATION_DEACTIVATE_CONSISTENCY = 6,
    OPERATION_DEACTIVATE = 7,
    OPERATION_DETACH = 8,
    OPERATION_DISSOLVE = 9,
    OPERATION_FAILOVER = 10,
    OPERATION_FAILBACK = 11,
    OPERATION_FRACTURE = 12,
    OPERATION_REMOVE_SYNC_PAIR = 13,
    OPERATION_RESYNC = 14,
    OPERATION_RESTORE = 15,
    OPERATION_RESUME = 16,
    OPERATION_RESET_TO_SYNC = 17,
    OPERATION_RESET_TO_ASYNC = 18,
    OPERATION_RETURN_TO_POOL = 19,
    OPERATION_REVERSE_ROLES = 20,
    OPERATION_SPLIT = 21,
    OPERATION_SUSPEND = 22,
    OPERATION_UNPREPARE = 23,
    OPERATION_PREPARE = 24,
    OPERATION_COUNT = 25
};
enum job_state {
    JOB_NEW = 2,
    JOB_STARTING = 3,
    JOB_RUNNING = 4,
    JOB_SUSPENDED = 5,
    JOB_SHUTTING_DOWN = 6,
    JOB_COMPLETED = 7,
    JOB_TERMINATED = 8,
    JOB_KILLED = 9,
    JOB_EXCEPTION = 10,
};
enum copy_methodology {
    METHODOLOGY_ANY = 2, /* the implementation decides */
    METHODOLOGY_FULL_COPY = 3,
    METHODOLOGY_INCREMENTAL_COPY = 4,
    METHODOLOGY_COPY_ON_WRITE = 6,
    METHODOLOGY_COPY_ON_ACCESS = 7,
    METHODOLOGY_DELTA_UPDATE = 8,
};
enum { ELEMENT_EFFECT_PERFORMANCE = 3, ELEMENT_EFFECT_INTEGRITY = 4, ELEMENT_EFFECT_CREATE = 5 };
enum { ON_ERROR_CONTINUE = 2, ON_ERROR_STOP = 3 };
enum { UNEQUAL_ERROR = 2, UNEQUAL_SOURCE_LARGER = 3, UNEQUAL_TARGET_LARGER = 4 };

extern const struct enum_map map_sync_type;
extern const struct enum_map map_mode;
extern const struct enum_map map_copy_type;
extern const struct enum_map map_replica_type;
extern const struct enum_map map_copy_state;
extern const struct enum_map map_progress_status;
extern const struct enum_map map_sync_state;
extern const struct enum_map map_copy_priority;
extern const struct enum_map map_copy_methodology;
extern const struct enum_map map_desired_copy_methodology; /* without 0 Not Specified */
extern const struct enum_map map_read_only;
extern const struct enum_map map_copy_recovery_mode;
extern const struct enum_map map_operation;
extern const struct enum_map map_list_operation;
extern const struct enum_map map_legacy_operation; /* ModifySynchronization */
extern const struct enum_map map_consistency;
extern const struct enum_map map_default_consistency;
extern const struct enum_map map_consistency_type;
extern const struct enum_map map_replication_type;
extern const struct enum_map map_job_state;
extern const struct enum_map map_job_requested_state;
extern const struct enum_map map_operational_status;
extern const struct enum_map map_health_state;
extern const struct enum_map map_recovery_action;
extern const struct enum_map map_element_effect;
extern const struct enum_map map_usage;
extern const struct enum_map map_pool_usage;
extern const struct enum_map map_name_format;
extern const struct enum_map map_name_namespace;
extern const struct enum_map map_extent_status;
extern const struct enum_map map_info_format;
extern const struct enum_map map_connection_type;
extern const struct enum_map map_device_access;
extern const struct enum_map map_entity_type;
extern const struct enum_map map_local_or_remote;
extern const struct enum_map map_locality;
extern const struct enum_map map_relationship_type;
extern const struct enum_map map_peer_options;
extern const struct enum_map map_wait_method;
extern const struct enum_map map_supported_method; /* GetSynchronizationSupported */
extern const struct enum_map map_maximum_component;
extern const struct enum_map map_setting_property;
extern const struct enum_map map_feature;
extern const struct enum_map map_group_feature;
extern const struct enum_map map_list_feature;
extern const struct enum_map map_thin_feature;
extern const struct enum_map map_connection_feature;
extern const struct enum_map map_name_feature;
extern const struct enum_map map_name_element_type;
extern const struct enum_map map_element_type;
extern const struct enum_map map_service_controlling;
extern const struct enum_map map_element_role;
extern const struct enum_map map_group_persistency;
extern const struct enum_map map_reserved_as;
extern const struct enum_map map_consistency_state;
extern const struct enum_map map_consistency_status;
extern const struct enum_map map_pairing;
extern const struct enum_map map_unequal_groups_action;
extern const struct enum_map map_unequal_lists_action;
extern const struct enum_map map_target_supplier;
extern const struct enum_map map_thin_policy;
extern const struct enum_map map_on_error;
extern const struct enum_map map_setting_recovery_mode; /* with 4 Implementation decides */
extern const struct enum_map map_compression_policy;
extern const struct enum_map map_target_decides; /* TargetElementGoal, TargetElementResourcePool */
extern const struct enum_map map_initial_synchronization;
extern const struct enum_map map_replication_priority; /* StorageSetting */
extern const struct enum_map map_setting_data_changeable_type; /* ReplicationSettingData */
extern const struct enum_map map_parity_layout;
extern const struct enum_map map_pipe_digest;
extern const struct enum_map map_directionality; /* NetworkPipe */
extern const struct enum_map map_use_replication_buffer;
extern const struct enum_map map_thin_pool_type;
extern const struct enum_map map_compression_rate;
extern const struct enum_map map_error_type;
extern const struct enum_map map_perceived_severity;
extern const struct enum_map map_cim_status_code;
/* Return values: B plus what the method adds (smis.md 1.0). */
extern const struct enum_map map_returns_k;  /* 2 Unknown, no 6 */
extern const struct enum_map map_returns_k6;
extern const struct enum_map map_returns_k6j;
extern const struct enum_map map_returns_k6j_size; /* with 4097 Size Not Supported */
extern const struct enum_map map_returns_k67_property;
extern const struct enum_map map_returns_k67_information;
extern const struct enum_map map_returns_k67_default;
extern const struct enum_map map_returns_k67_name;
extern const struct enum_map map_returns_k67_relationship;
extern const struct enum_map map_returns_k67_group;
extern const struct enum_map map_returns_k678_member;
extern const struct enum_map map_returns_u6;
extern const struct enum_map map_returns_u6j;
extern const struct enum_map map_returns_pipe; /* 4096 Busy, no 6 */
extern const struct enum_map map_returns_scan;
extern const struct enum_map map_returns_expose;
extern const struct enum_map map_returns_hide;
extern const struct enum_map map_returns_job_change;
extern const struct enum_map map_returns_get_errors;

/* The replication type of a kind of relationship: 2 + 4 (s - 6) + 2 r + (m - 2). */
uint32_t replication_type(uint32_t sync_type, uint32_t mode, bool remote);

#endif
