// SPDX-License-Identifier: Apache-2.0
/*
 * One iSCSI session: dial, log in, send commands, notice the end. The only place that knows
 * libiscsi.
 *
 * Thread:    one loop; all callbacks come there, none inside a call of this header.
 * Ownership: the spec and the commands are the caller's; a command is lent from iscsi_link_send()
 * to its fn. When the link goes down or is closed, commands without an answer are forgotten: their
 * fn is not called, their memory is the caller's again at once. Errors:    down() is called once,
 * with the reason, for a dial that failed and for a session that ended; the link is then closed
 *            already, except for iscsi_link_close(), which must be called in any case.
 */
#ifndef BLOCK_ISCSI_LINK_H
#define BLOCK_ISCSI_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/list.h"
#include "base/loop.h"
#include "block/iscsi_dev.h"
#include "block/iscsi_pages.h"

struct iscsi_link;

enum iscsi_cmd_direction { ISCSI_CMD_NONE, ISCSI_CMD_READ, ISCSI_CMD_WRITE };

enum iscsi_cmd_result {
    ISCSI_CMD_GOOD,
    ISCSI_CMD_CHECK, /* see sense */
    ISCSI_CMD_BUSY,
    ISCSI_CMD_FULL, /* TASK SET FULL */
    ISCSI_CMD_CONFLICT,
    ISCSI_CMD_ABORTED,
    ISCSI_CMD_REJECTED, /* the target refused the PDU, or answered with a status that nobody knows
                         */
};

struct iscsi_cmd {
    uint8_t cdb[16];
    uint8_t cdb_len;
    enum iscsi_cmd_direction direction;
    uint32_t len; /* bytes of data, one way or the other */
    /* Where the data come from or go to. NULL with ISCSI_CMD_READ: the link collects them, see
     * data. */
    struct iovec *iov;
    unsigned n_iov;
    void (*fn)(struct iscsi_cmd *cmd);
    void *arg;
    /* The answer. */
    enum iscsi_cmd_result result;
    struct iscsi_sense sense;
    uint32_t missing;    /* bytes that were not transferred, as the target says */
    const uint8_t *data; /* until fn returns */
    size_t data_len;
    /* The link's own. */
    struct list link_entry;
    struct iscsi_link *link;
    void *task;
    uint64_t sent_ns;
};

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
/* How many more commands the target takes now (its command window, as far as it is known), and in
 * all. */
unsigned iscsi_link_room(const struct iscsi_link *link);
unsigned iscsi_link_window(const struct iscsi_link *link);
/* Where it leads, after redirects. */
const struct sockaddr_storage *iscsi_link_address(const struct iscsi_link *link);

#endif
