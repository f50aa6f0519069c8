// SPDX-License-Identifier: Apache-2.0
/*
 * Replication relationships (StorageSynchronized).
 *
 * Thread, Ownership, Errors: as in store/table.h.
 */
#ifndef STORE_REPLICA_H
#define STORE_REPLICA_H

#include "store/table.h"

struct sync_row {
    struct row_head head;
    char source_id[ID_SIZE]; /* volumes; the pair is unique */
    char target_id[ID_SIZE];
    uint32_t sync_type;
    uint32_t mode;
    uint32_t copy_type;
    uint32_t replica_type;
    bool remote; /* an element is on another system: the replication type says so */
    uint32_t copy_state;
    uint32_t requested_copy_state;
    uint32_t progress_status;
    bool temporary;       /* goes when its copy is done (StorageConfigurationService, CopyType 5) */
    bool created_target;  /* the target was taken from a pool for this relationship */
    char job_id[ID_SIZE]; /* the job that works on it now, or "" */
    uint32_t copy_priority;
    uint32_t copy_methodology;
    uint32_t copy_recovery_mode;
    bool failed_copy_stops_host_io;
    uint32_t read_only; /* 0: none */
    uint64_t bandwidth_limit;
    bool verify;
    uint64_t copied_bytes; /* how much of the source the copy was made of: its size then */
    bool
        source_incomplete; /* a Restore has begun and not come to its end: only the target is whole */
    uint32_t percent_synced;
    uint64_t when_established_ms; /* 0: never */
    uint64_t when_activated_ms;
    uint64_t when_synced_ms;
    uint64_t when_synchronized_ms;
    uint64_t when_suspended_ms;
    uint64_t when_deactivated_ms;
    char pipe_id[ID_SIZE];       /* the pipe that it goes through (store/pipe.h), or "" */
    char group_sync_id[ID_SIZE]; /* the relationship of groups (store/group.h) that it is a pair of, or "" */
    uint64_t moment; /* the number of the moment that all pairs of it were made at together; 0: of none */
    /* mirrors only */
    uint32_t map_state;      /* enum map_state: what the change map of this generation says */
    uint32_t map_generation; /* of the file names of its maps: a new one begins afresh */
    uint32_t revision;   /* counts operations: what is told of before one means nothing after it */
    bool target_tracked; /* what hosts have changed on the target is in a map of its own */
    uint64_t delta_update_interval_ms; /* asynchronous: 0 none */
    uint64_t delta_update_blocks;
    uint64_t desired_rpo_ms;
    char problem[480]; /* "" or why the target cannot be kept equal now */
};
extern const struct table sync_table;

/* What is known of the difference between the two sides when the file of the map is not there. */
enum map_state {
    MAP_NONE = 0,  /* no mirror */
    MAP_ALL = 1,   /* anything may differ: the file, there or not, is to say so */
    MAP_KEPT = 2,  /* the file knows */
    MAP_EQUAL = 3, /* nothing differs yet: an empty one */
};

int sync_find_pair(struct db *db, const char *source_id, const char *target_id,
                   struct sync_row *ret_row);

#endif
