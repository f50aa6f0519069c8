// SPDX-License-Identifier: Apache-2.0
/*
 * Replication pipes: pairs of endpoints of two systems, and what goes through them.
 *
 * Thread:    control.
 * Ownership: plain values.
 * Errors:    call->error; pipe_opener() struct error.
 *
 * A pipe is named when a replica is made. From then on both elements, as far as they are LUNs of other systems, are opened over all of
 * its pairs at once (block/multi_dev.h): for an element of system S by the endpoint that each pair has at S, from the other endpoint of
 * the pair where that is an address of ours. What goes through a pipe shares its bandwidth limit.
 */
#ifndef SERVICE_PIPES_H
#define SERVICE_PIPES_H

#include "block/opener.h"
#include "service/network.h"
#include "store/pipe.h"
#include "store/replica.h"

enum {
    PIPE_PAIRS_MAX = 8,      /* MaximumPortsPerConnection: pairs of a pipe */
    PIPES_PER_PORT_MAX = 64, /* MaximumConnectionsPerPort: pairs that an endpoint is in */
    PIPES_PER_PEER_MAX = 16, /* MaximumPeerConnections: pipes between two systems */
    PIPE_SESSIONS_MAX = 4,   /* of a pair */
};
enum { PIPE_DIGEST_NONE = 2, PIPE_DIGEST_CRC32C = 3, PIPE_DIGEST_PREFERRED = 4 };
enum { PIPE_BIDIRECTIONAL = 2, PIPE_UNIDIRECTIONAL = 3 };

/* A ReplicationPipe that is to be used: 5 for what is no pipe or a part of one. */
int pipe_take(struct call *call, const char *parameter, const char *path, char ret_id[ID_SIZE]);
/* May data go from source to target through it (A9, A10)? 5 and the parameter if not. */
int pipe_check_use(struct call *call, const char *parameter, const char *pipe_id,
                   const struct volume_row *source, const struct volume_row *target);
/* 4 illegal_state when data would go against the direction of the relationship's pipe: operations that copy back. */
int pipe_check_back(struct call *call, const struct sync_row *sync);
/* Does a pipe need the access point (its portal, its secrets)? 409, blocked on the pipe. */
int pipe_check_access_point(struct call *call, const char *access_point_id);
/* The same as a number. */
int pipe_count_users(struct db *db, const char *access_point_id, uint64_t *ret_n);

/* How to get at a LUN through session->pipe_id. */
int pipe_opener(struct network *network, struct db *db, const struct volume_row *volume,
                const struct network_session *session, struct block_opener **ret_opener,
                struct error *error);

#endif
