// SPDX-License-Identifier: Apache-2.0
/*
 * Systems (ourselves and peers), the portals by which peers are reached, and the CHAP secrets for
 * them.
 *
 * Thread, Ownership, Errors: as in store/table.h.
 */
#ifndef STORE_SYSTEM_H
#define STORE_SYSTEM_H

#include "store/table.h"

#define SYSTEM_LOCAL "local"

struct system_row {
    struct row_head head; /* "local" or an id */
    char element_name[NAME_SIZE];
    bool local;
    uint64_t created_ms;
};
extern const struct table system_table;

struct access_point_row {
    struct row_head head;
    char system_id[ID_SIZE];
    char element_name[NAME_SIZE];
    char access_info[NAME_SIZE]; /* as given: "127.0.0.1:3260" */
    char address[NAME_SIZE];     /* normalised HOST:PORT */
    uint32_t info_format;
    bool registered; /* by AddServiceAccessPoint; false: came with a replication entity */
    uint64_t created_ms;
    /* what was seen last */
    bool reachable;
    bool probed;
    uint64_t last_seen_ms;
    uint64_t last_tried_ms;
    char last_error[NAME_SIZE];
};
extern const struct table access_point_table;

struct secret_row {
    struct row_head head;
    char access_point_id[ID_SIZE]; /* "" when no association was made */
    char remote_id[NAME_SIZE];     /* the CHAP user name */
    char secret[NAME_SIZE];
    char algorithm[32];
    char protocol[32]; /* "CHAP" or "CHAP-Mutual" */
    uint64_t created_ms;
};
extern const struct table secret_table;

/* StorageSetting instances that TargetSettingGoal refers to. "default" is there from the start. */
struct setting_row {
    struct row_head head;
    char element_name[NAME_SIZE];
    /* Both with the numbers of StorageSetting, which are one more than the capabilities'. */
    uint32_t replication_priority;    /* 0 N/A, 1 Not Managed, 2 Low, 3 Same, 4 High */
    uint32_t initial_synchronization; /* 0 N/A, 1 Not Managed, 2 Start, 3 Do Not Start */
    uint64_t bandwidth_limit;         /* bytes per second, 0 none */
    bool verify;
    uint64_t created_ms;
};
extern const struct table setting_table;

#endif
