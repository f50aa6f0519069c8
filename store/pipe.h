// SPDX-License-Identifier: Apache-2.0
/*
 * Replication pipes (NetworkPipe), and the endpoints that they connect (ProtocolEndpoint).
 *
 * Thread, Ownership, Errors: as in store/table.h.
 */
#ifndef STORE_PIPE_H
#define STORE_PIPE_H

#include "store/table.h"

enum endpoint_kind {
    ENDPOINT_PORT = 1,    /* an initiator port of ours; it dials from any address */
    ENDPOINT_ADDRESS = 2, /* the same with an address of ours that it dials from */
    ENDPOINT_PORTAL = 3,  /* of a peer; has the id of its access point */
};

struct endpoint_row {
    struct row_head head;
    char system_id[ID_SIZE];
    uint32_t kind;
    char element_name[NAME_SIZE];
    char address[NAME_SIZE]; /* of ours: a number, "" any; of a peer: HOST:PORT */
    uint64_t created_ms;
};
extern const struct table endpoint_table;
#define ENDPOINT_INITIATOR "initiator"

/* A pipe with one pair of endpoints, or the parent of several such pipes. */
struct pipe_row {
    struct row_head head;
    char element_name[NAME_SIZE];
    char source_system_id[ID_SIZE];
    char target_system_id[ID_SIZE];
    char parent_id[ID_SIZE];          /* "": none */
    uint32_t position;                /* among the children of its parent */
    char source_endpoint_id[ID_SIZE]; /* "": it has children */
    char target_endpoint_id[ID_SIZE];
    bool bidirectional;
    uint64_t bandwidth_limit; /* bytes per second, 0 none */
    uint32_t sessions_per_pair;
    uint32_t header_digest; /* 2 none, 3 CRC32C, 4 CRC32C when the target can */
    uint32_t data_digest;
    char secret_access_point_id[ID_SIZE]; /* whose secrets prove us; "": each portal's own */
    uint64_t created_ms;
};
extern const struct table pipe_table;

#endif
