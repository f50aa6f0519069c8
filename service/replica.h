// SPDX-License-Identifier: Apache-2.0
/*
 * What the methods that make and change replicas share: the terms of a replica, and who may be copied onto whom.
 *
 * Thread:    control.
 * Ownership: plain values; texts belong to the call.
 * Errors:    call->error.
 */
#ifndef SERVICE_REPLICA_H
#define SERVICE_REPLICA_H

#include "service/jobs.h"
#include "service/replica_states.h"
#include "store/system.h"

/* How a replica is to be made: of CopyType or SyncType and Mode, setting data, goals and waits. */
struct replica_terms {
    bool
        of_copy_type; /* StorageConfigurationService: SyncType and Mode follow from CopyType and the elements */
    uint32_t sync_type;
    uint32_t mode;
    uint32_t copy_type;
    uint32_t replica_type;
    bool temporary;
    enum replica_engine engine;
    bool remote;                  /* an element is a LUN of another system */
    uint32_t desired_methodology; /* 0: not said */
    uint32_t copy_methodology;
    uint32_t read_only; /* 0: none */
    uint32_t copy_priority;
    uint32_t copy_recovery_mode;
    bool failed_copy_stops_host_io;
    uint64_t delta_update_interval_ms; /* asynchronous mirrors; 0: not said */
    uint64_t delta_update_blocks;
    uint64_t desired_rpo_ms;
    uint64_t bandwidth_limit;
    bool verify;
    bool start;                   /* false: associated only, Activate starts */
    uint32_t wait_for_copy_state; /* 0: none */
    bool continue_on_error;
    uint32_t unequal_lists;
    uint32_t unequal_groups;
    bool consistent_point_in_time;
    bool pool_of_source;
    bool client_must_supply;
    bool must_create;
    char pipe_id[ID_SIZE]; /* "" none */
    const char *pipe_parameter;
};

/* Both ends of a replica to be made, and what the call names them. */
struct replica_ends {
    const struct volume_row *source;
    const struct volume_row *target; /* NULL: to be made, or taken from a pool */
    const struct pool_row *pool;     /* for it; NULL: none is named */
    const char *source_parameter;
    const char *target_parameter;
};

/* The terms that CopyType (StorageConfigurationService) or SyncType and Mode (ReplicationService) say; the rest are defaults.
 * What this version does not make is 1 Not Supported. */
int replica_terms_of_copy_type(struct call *call, uint32_t copy_type,
                               struct replica_terms *ret_terms);
int replica_terms_of_sync_type(struct call *call, uint32_t sync_type, uint32_t mode,
                               struct replica_terms *ret_terms);
/* An embedded ReplicationSettingData, a StorageSetting, and a StorageSetting by reference. parameter is the parameter's
 * name. */
int replica_terms_setting_data(struct call *call, const char *parameter,
                               struct replica_terms *terms);
int replica_terms_goal(struct call *call, const char *parameter, struct replica_terms *terms);
/* A ReplicationPipe; whether it suits the elements is pipe_check_use(). */
int replica_terms_pipe(struct call *call, const char *parameter, const char *path,
                       struct replica_terms *terms);
int replica_terms_setting(struct call *call, const char *parameter, struct replica_terms *terms);
/* A value of the ReplicationSettingData that replicas of that type cannot honour is 1 Not Supported and names the
 * property. */
int replica_check_setting_data(struct call *call, const char *parameter, uint32_t sync_type,
                               uint32_t mode, bool remote);
/* Once the elements are known: what makes the replica (engine), and what follows from that. Refuses what cannot be made of
 * these elements, and setting data that cannot be honoured for them. */
int replica_terms_complete(struct call *call, const struct replica_ends *ends,
                           struct replica_terms *terms);
/* Can the target share what the source has: hosted both, in one pool? pool_id is that of the target. */
bool replica_can_share(const struct volume_row *source, const char *pool_id);
/* WaitForCopyState of a creation (operation 0) or an operation: rule W3. */
int replica_terms_wait(struct call *call, uint32_t operation, struct replica_terms *terms);

/* SourceAccessPoint, TargetAccessPoint: NULL, or one of the system that has the volume (G19). */
int replica_check_access_point(struct call *call, const char *parameter,
                               const struct volume_row *volume);
/* As many replicas that share its layers as a volume may have; 0 in capabilities would be no limit. */
enum { REPLICA_MAX_SHARING = 250 };
/* limit_reached when source would have more of them, with n_more. */
int replica_check_limit(struct call *call, const char *parameter, const struct volume_row *source,
                        size_t n_more);

/* May the content of the volume be replaced in an instant: does no copy read or write it now? */
int replica_check_idle(struct call *call, const char *parameter, const struct volume_row *volume);
/* The relationship is at rest with a target that has just taken what the source has. */
void replica_made_now(struct sync_row *sync, uint64_t now_ms);
/* The target can be used as of now, and is filled by a copy that was asked for. */
void replica_fills_now(struct sync_row *sync, uint64_t now_ms);
/* The content of the volume is another one: the snapshot that it was is Skewed. In a transaction. */
int replica_target_changed(struct call *call, const char *volume_id);
/* The relationship is gone: its target is a volume like others, served and writable. */
int replica_ended(struct call *call, const struct sync_row *sync);

/* May source be read now (not while it is written as a target)? */
int replica_check_source(struct call *call, const char *parameter, const struct volume_row *source);
/* May source be copied onto target (A4, A13, A14, C10)? except: the relationship that is theirs already, or NULL. */
int replica_check_pair(struct call *call, const char *source_parameter,
                       const struct volume_row *source, const char *target_parameter,
                       const struct volume_row *target, const struct sync_row *except);

/* The same for a new synchronous mirror, which may go onto the LUN that source is being filled from: what it overwrites is kept. */
int replica_check_mirror(struct call *call, const char *source_parameter,
                         const struct volume_row *source, const char *target_parameter,
                         const struct volume_row *target);
/* May what has begun to bring the source back from its target be begun again? */
int replica_check_back(struct call *call, const char *parameter, const struct sync_row *sync,
                       const struct volume_row *source, const struct volume_row *target);
/* Does nothing of ours write to source now, so that a volume can be filled from it? */
int replica_check_still(struct call *call, const struct volume_row *source);

#endif
