// SPDX-License-Identifier: Apache-2.0
/*
 * The full feature phase of a session (RFC 7143): commands go out, answers come in. Begins where the login has ended.
 *
 * Thread:    one; nothing is called back: the caller pushes, pulls, and takes what was answered.
 * Ownership: the descriptor is the wire's, from iscsi_wire_new() on. A command is lent from iscsi_wire_send() until
 *            iscsi_wire_answered() gives it back; iscsi_wire_free() forgets the others. A command comes back only when none of its
 *            data waits to be sent, whenever the answer came.
 * Errors:    push and pull: -errno of the connection, -ECONNRESET for its end, -ESHUTDOWN for a target that asks for the session's end,
 *            -EPROTO for one that breaks the rules; iscsi_wire_why() says which. The wire is of no use afterwards; when push
 *            has failed, pull still takes what came before.
 */
#ifndef BLOCK_ISCSI_WIRE_H
#define BLOCK_ISCSI_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/list.h"
#include "block/iscsi_pages.h"

enum iscsi_cmd_direction { ISCSI_CMD_NONE, ISCSI_CMD_READ, ISCSI_CMD_WRITE };

enum iscsi_cmd_result {
    ISCSI_CMD_GOOD,
    ISCSI_CMD_CHECK, /* see sense */
    ISCSI_CMD_BUSY,
    ISCSI_CMD_FULL, /* TASK SET FULL */
    ISCSI_CMD_CONFLICT,
    ISCSI_CMD_ABORTED,
    ISCSI_CMD_REJECTED, /* the target refused the PDU, or answered with a status that nobody knows */
};

enum { ISCSI_CMD_MAX_IOV = 64, ISCSI_CMD_MAX_BURSTS = 2 };

/* Data of a command that may be sent: what needs no request, or what one R2T asked for. */
struct iscsi_burst {
    struct list entry;
    struct iscsi_cmd *cmd;
    uint32_t at, end;
    uint32_t transfer_tag;
    uint32_t data_sn;
    bool pending;
};

struct iscsi_cmd {
    uint8_t cdb[16];
    uint8_t cdb_len;
    enum iscsi_cmd_direction direction;
    uint32_t len; /* bytes of data, one way or the other */
    /* Where the data come from or go to. NULL with ISCSI_CMD_READ: they are collected, see data. */
    struct iovec *iov;
    unsigned n_iov;
    void (*fn)(struct iscsi_cmd *cmd); /* the link calls it */
    void *arg;
    /* The answer. */
    enum iscsi_cmd_result result;
    struct iscsi_sense sense;
    uint32_t missing;    /* bytes that were not transferred, as the target says or as it was seen */
    const uint8_t *data; /* until fn returns */
    size_t data_len;
    /* The wire's and the link's own. */
    struct list entry; /* to be sent, or answered */
    struct list link_entry;
    uint64_t sent_ns;
    uint32_t tag;
    uint32_t moved;   /* bytes that came, or that were sent or are about to be */
    unsigned pending; /* PDUs and bursts that the kernel does not have yet */
    bool answered;
    uint8_t *collected; /* from malloc() */
    struct iscsi_burst bursts[ISCSI_CMD_MAX_BURSTS];
};

struct iscsi_wire;

/* fd: connected, logged in, does not block. NULL: no memory, and the descriptor is the caller's still. */
struct iscsi_wire *iscsi_wire_new(int fd, uint16_t lun, const struct iscsi_terms *terms);
void iscsi_wire_free(struct iscsi_wire *wire);

/* -ENOMEM. Only what iscsi_wire_room() allows is sent with the next push; more of it waits. */
int iscsi_wire_send(struct iscsi_wire *wire, struct iscsi_cmd *cmd);
/* One at a time, each: see iscsi_wire_pinging(), iscsi_wire_reset_answer(). */
void iscsi_wire_ping(struct iscsi_wire *wire);
void iscsi_wire_reset_lun(struct iscsi_wire *wire);
/* Nothing is sent after it. */
void iscsi_wire_logout(struct iscsi_wire *wire);

/* Gives the kernel what it takes. */
int iscsi_wire_push(struct iscsi_wire *wire);
/* True: it took all that may be sent now. */
bool iscsi_wire_is_pushed(const struct iscsi_wire *wire);
/* Takes what is there, a bounded amount. */
int iscsi_wire_pull(struct iscsi_wire *wire);
/* The next command that is over, or NULL. It is the caller's again, who frees what was collected. */
struct iscsi_cmd *iscsi_wire_answered(struct iscsi_wire *wire);
bool iscsi_wire_pinging(const struct iscsi_wire *wire);
/* Once per reset. *ret_response: RFC 7143 11.6.1, 0 when it is done; -1: the request was rejected. */
bool iscsi_wire_reset_answer(struct iscsi_wire *wire, int *ret_response);

/* How many commands more the target takes now. */
unsigned iscsi_wire_room(const struct iscsi_wire *wire);
bool iscsi_wire_is_closed(const struct iscsi_wire *wire); /* by the target */
const char *iscsi_wire_why(const struct iscsi_wire *wire);

#endif
