// SPDX-License-Identifier: Apache-2.0
/*
 * The way to foreign LUNs: which addresses may be dialled, how a volume is opened, what a portal has to say.
 *
 * Thread:    control, unless said otherwise. Questions to the network run on a data loop and answer on control.
 * Ownership: see each function.
 * Errors:    struct error; details never contain a secret.
 *
 * Every address goes through one check (network_address_allowed()): our own listeners, link-local and metadata addresses are refused always,
 * others must be in the allow list. Names are resolved first; the address that was checked is the one that is dialled. What
 * a discovery or a login redirect hands back goes through the same check.
 */
#ifndef SERVICE_NETWORK_H
#define SERVICE_NETWORK_H

#include <sys/socket.h>

#include "replication/copy.h"
#include "service/control.h"
#include "service/remote_alias.h"
#include "service/scan.h"
#include "store/system.h"
#include "store/volume.h"

int network_new(struct control *control, struct network **ret_network, struct error *error);
void network_free(struct network *network); /* NULL is fine; after network_stop() when it ran */
/* Ends the questions that are under way (their calls stay pending and are control's to answer), then calls done on control. */
void network_stop(struct network *network, loop_fn done, void *arg);
/* "ADDR:PORT,ADDR:PORT": our own listeners; any thread. */
void network_set_own_addresses(struct network *network, const char *addresses);
/* Any thread. */
int network_address_allowed(struct network *network, const struct sockaddr *address,
                            struct error *error);

/* The same as struct iscsi_spec wants it; arg is the network. */
int network_redirect_allowed(void *arg, const struct sockaddr_storage *address,
                             struct error *error);

/* Runs a scan on one of the data loops; done comes on control, also (with scan->cancelled) when the service stops. */
void network_scan(struct network *network, struct scan *scan, scan_done_fn done, void *arg);

/* How a copy gets at a volume: an opener that resolves, checks, dials, logs in (secrets of the access point), and insists on identity,
 * size and block size of the row. What is in the session is as in struct iscsi_spec. */
struct network_session {
    uint64_t isid;
    bool fence;
    bool fence_open;
    bool holds_hosts; /* what hosts write waits for it: it is given up sooner */
    char pipe_id
        [ID_SIZE]; /* of the relationship: over all paths of that pipe; "": over one session */
    char alias
        [REMOTE_ALIAS_SIZE]; /* service/remote_alias.h; "": the session belongs to no relationship */
};
/* 40 bits that are the same for this user of sessions (its id, and a letter for which of its sides) at each start, and for no other:
 * a login of a new run ends the session, and the writes under way in it, of an old one. */
uint64_t network_isid(const char *id, char side);
int network_opener(struct network *network, struct db *db, const struct volume_row *volume,
                   const struct network_session *session, struct block_opener **ret_opener,
                   struct error *error);
/* All of spec but where it is: target, LUN, what it must be, what is in the session, and the secrets of an access point. */
struct lun_opener_spec;
int network_lun_spec(struct network *network, struct db *db, const struct volume_row *volume,
                     const struct access_point_row *secrets, const struct network_session *session,
                     struct lun_opener_spec *spec, struct error *error);
struct pipe_paths;
struct pipe_paths *network_pipe_paths(struct network *network); /* any thread */

#endif
