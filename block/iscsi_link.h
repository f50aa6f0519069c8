// SPDX-License-Identifier: Apache-2.0
/*
 * One iSCSI session: a login (iscsi_login.h), then commands (iscsi_wire.h) on the loop, and its end noticed.
 *
 * Thread:    one loop; all callbacks come there, none inside a call of this header.
 * Ownership: the spec and the commands are the caller's; a command is lent from iscsi_link_send() to its fn. When the link goes down or is
 *            closed, commands without an answer are forgotten: their fn is not called, their memory is the caller's again at once.
 * Errors:    down() is called once, with the reason, for a dial that failed and for a session that ended; the link is then closed
 *            already, except for iscsi_link_close(), which must be called in any case.
 */
#ifndef BLOCK_ISCSI_LINK_H
#define BLOCK_ISCSI_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "block/iscsi_dev.h"
#include "block/iscsi_pages.h"
#include "block/iscsi_wire.h"

struct iscsi_link;

struct iscsi_link_events {
    void (*up)(void *arg);
    void (*down)(void *arg, const struct error *error);
    /* The answer to iscsi_link_discover(); the targets are the link's, until it is closed. */
    void (*found)(void *arg, const struct iscsi_found_target *targets, unsigned n_targets);
    /* The answer to iscsi_link_reset_lun(): the response of RFC 7143 11.6.1, 0 when it is done; -1: the
     * request was rejected. NULL: nobody wants to know. */
    void (*reset)(void *arg, int response);
};

/* Begins to dial. NULL: out of memory. discovery: a session that can only be asked for targets. */
struct iscsi_link *iscsi_link_dial(struct loop *loop, const struct iscsi_spec *spec,
                                   const struct sockaddr_storage *address, bool discovery,
                                   const struct iscsi_link_events *events, void *arg);
/* Another owner takes the link over, with a spec that says the same. */
void iscsi_link_own(struct iscsi_link *link, const struct iscsi_spec *spec,
                    const struct iscsi_link_events *events, void *arg);
/* In any state, also from a callback of the link. Logs out if the session is up and idle. */
void iscsi_link_close(struct iscsi_link *link);

/* Only between up() and down(). Sent at the end of the loop's round, together with what else came.
 * -ENOMEM. */
int iscsi_link_send(struct iscsi_link *link, struct iscsi_cmd *cmd);
int iscsi_link_discover(struct iscsi_link *link);
/* LOGICAL UNIT RESET of the spec's LUN; with no command outstanding. -ENOMEM. */
int iscsi_link_reset_lun(struct iscsi_link *link);
/* How many more commands the target takes now (its command window), and in all, at the most. */
unsigned iscsi_link_room(const struct iscsi_link *link);
unsigned iscsi_link_window(const struct iscsi_link *link);
/* Where it leads, after redirects. */
const struct sockaddr_storage *iscsi_link_address(const struct iscsi_link *link);

#endif
