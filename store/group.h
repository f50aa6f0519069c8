// SPDX-License-Identifier: Apache-2.0
/*
 * Replication groups, their members in order, and the relationships between groups (GroupSynchronized).
 *
 * Thread, Ownership, Errors: as in store/table.h.
 */
#ifndef STORE_GROUP_H
#define STORE_GROUP_H

#include "store/table.h"

struct group_row {
    struct row_head head;
    char element_name[NAME_SIZE];
    bool persistent;
    bool delete_on_empty;
    bool delete_on_unassociated;
    bool consistent_point_in_time; /* its members were made at one moment */
    uint32_t reserved_as;          /* 2 Source Only, 3 Target Only, 4 Source or Target */
    uint64_t created_ms;
};
extern const struct table group_table;

/* In order of seq; it goes with its group. */
struct group_member_row {
    struct row_head head;
    char group_id[ID_SIZE];
    char volume_id[ID_SIZE]; /* once in a group */
};
extern const struct table group_member_table;

/* Its pairs are the synchronizations with its id as group_sync_id. */
struct group_sync_row {
    struct row_head head;
    char relationship_name[NAME_SIZE];
    char system_element
        [PATH_SIZE]; /* "/groups/{id}", or "/volumes/{id}" of one source with many targets */
    char synced_element[PATH_SIZE]; /* "/groups/{id}" */
    char source_group_id[ID_SIZE];  /* the same as ids; "" is no group */
    char target_group_id[ID_SIZE];
    uint32_t sync_type;
    uint32_t mode;
    bool consistency; /* ConsistencyEnabled */
    uint64_t moments; /* how often its pairs were cut together: the number of the last time */
    uint64_t barrier_microseconds; /* how long writes were held then */
    uint64_t when_established_ms;
};
extern const struct table group_sync_table;

int group_member_find(struct db *db, const char *group_id, const char *volume_id,
                      struct group_member_row *ret_row);

#endif
