// SPDX-License-Identifier: Apache-2.0
/*
 * Between the files of the wire: iscsi_wire.c has the commands, iscsi_wire_out.c sends, iscsi_wire_in.c receives.
 *
 * Thread:    the wire's.
 * Ownership: as in iscsi_wire.h.
 * Errors:    as in iscsi_wire.h.
 */
#ifndef BLOCK_ISCSI_WIRE_PRIVATE_H
#define BLOCK_ISCSI_WIRE_PRIVATE_H

#include "base/pdu.h"
#include "block/iscsi_wire.h"

enum {
    MAX_COMMANDS = 2048,
    TABLE = 2 * MAX_COMMANDS,
    BATCH_PDUS = 64,
    BATCH_IOV = 512,
    BATCH_BYTES = 512 << 10,
    BUFFER = 128 << 10,
    MAX_ECHOES = 64,
    MAX_SEGMENT = 64 << 10, /* of answers that are not data of a read */
    MAX_COLLECTED = 16 << 20,
};

/* Tags of requests of which there is one at a time; the others are smaller. */
#define PING_TAG   0xfffffff1u
#define RESET_TAG  0xfffffff2u
#define LOGOUT_TAG 0xfffffff3u
#define LAST_TAG   0xffffff00u

struct batch {
    struct iovec iov[BATCH_IOV];
    unsigned n_iov, at;
    struct iscsi_cmd *cmds[BATCH_PDUS]; /* whose PDU each is; NULL: nobody's */
    unsigned n_pdus;
    size_t bytes;
    uint8_t headers[BATCH_PDUS][PDU_BHS + PDU_DIGEST];
};

struct echo {
    uint8_t lun[8];
    uint32_t transfer_tag;
};

struct iscsi_wire {
    int fd;
    uint16_t lun;
    struct iscsi_terms terms;
    char why[160];

    struct iscsi_cmd *table[TABLE];
    unsigned n_commands;
    uint32_t next_tag;
    struct list commands;
    unsigned n_queued;
    struct list bursts;
    struct echo echoes[MAX_ECHOES];
    unsigned n_echoes;
    bool ping_wanted, pinging;
    bool reset_wanted, resetting, reset_done;
    int reset_response;
    bool logout_wanted, ended;
    bool closed;
    struct batch batch;

    struct list answered;
    /* The Data-In whose data are coming. */
    struct iscsi_cmd *reading;
    uint32_t read_at, read_left, read_padding;
    uint8_t read_header[PDU_BHS];
    size_t in_at, in_end;
    uint8_t in[BUFFER];
};

/* RFC 1982: a comes after b. */
static inline bool wire_serial_after(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0;
}

static inline uint32_t wire_at_most(uint32_t value, uint32_t limit)
{
    return value < limit ? value : limit;
}

/* iscsi_wire_why(), and -EPROTO. */
int wire_broken(struct iscsi_wire *wire, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* A tag of its own: from here on the command can be answered. */
void wire_tag_take(struct iscsi_wire *wire, struct iscsi_cmd *cmd);
/* The command that waits for an answer with this tag, or NULL. */
struct iscsi_cmd *wire_cmd(struct iscsi_wire *wire, uint32_t tag);
void wire_cmd_end(struct iscsi_wire *wire, struct iscsi_cmd *cmd, enum iscsi_cmd_result result);
/* Gives it back if it is over and nothing of it waits to be sent. */
void wire_cmd_settle(struct iscsi_wire *wire, struct iscsi_cmd *cmd);
/* Data that may be sent. -ENOSPC: the target has asked for more at a time than it may. */
int wire_burst_add(struct iscsi_wire *wire, struct iscsi_cmd *cmd, uint32_t at, uint32_t end,
                   uint32_t transfer_tag);
bool wire_window_is_open(const struct iscsi_wire *wire);

#endif
