// SPDX-License-Identifier: Apache-2.0
/*
 * Out: commands wait in one list, bursts of data in another, which goes first: data that a command announces without being asked must
 * come before the next command, and data that were asked for need no place in the target's window. What may go is staged: the headers of
 * up to BATCH_PDUS PDUs, and vectors that point to the owners' data. One sendmsg() takes them all.
 *
 *     queued ─▶ staged ─▶ with the kernel ─┬─▶ given back
 *                              answered ───┘
 *
 * In: one recvmsg() fills the buffer, which holds many answers; of a Data-In that is larger than what has come, the rest goes where it
 * belongs at once, with the buffer behind it for what follows.
 *
 * Tags count up. The table finds a command by the tag's low bits and compares the whole tag, so an answer to a command of long ago meets
 * nobody.
 */
#include "block/iscsi_wire.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/pdu.h"

enum {
    MAX_COMMANDS = 2048,
    TABLE = 2 * MAX_COMMANDS,
    BATCH_PDUS = 64,
    BATCH_IOV = 512,
    BATCH_BYTES = 512 << 10,
    BUFFER = 128 << 10,
    /* Of answers that are not data of a read. */
    MAX_SEGMENT = 64 << 10,
    MAX_ECHOES = 64,
    /* One pull, so that one session does not keep the loop for itself. */
    PULL_BYTES = 1 << 20,
    PULL_CALLS = 16,
    MAX_COLLECTED = 16 << 20,
};

/* Tags of requests of which there is one at a time; the others are smaller. */
#define PING_TAG   0xfffffff1u
#define RESET_TAG  0xfffffff2u
#define LOGOUT_TAG 0xfffffff3u
#define LAST_TAG   0xffffff00u

enum { ASYNC_LOGOUT = 1, ASYNC_NEGOTIATE = 4 };

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

static const uint8_t padding[4];

static int broken(struct iscsi_wire *wire, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static int broken(struct iscsi_wire *wire, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(wire->why, sizeof(wire->why), fmt, args);
    va_end(args);
    return -EPROTO;
}

/* RFC 1982: a comes after b. */
static bool serial_after(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0;
}

/* --- commands ------------------------------------------------------------------------------------------------- */

static struct iscsi_cmd **place_of(struct iscsi_wire *wire, uint32_t tag)
{
    return &wire->table[tag % TABLE];
}

static struct iscsi_cmd *cmd_of(struct iscsi_wire *wire, uint32_t tag)
{
    struct iscsi_cmd *cmd = *place_of(wire, tag);

    return cmd != NULL && cmd->tag == tag && !cmd->answered ? cmd : NULL;
}

static uint32_t tag_take(struct iscsi_wire *wire)
{
    do {
        wire->next_tag = wire->next_tag < LAST_TAG ? wire->next_tag + 1 : 1;
    } while (*place_of(wire, wire->next_tag) != NULL);
    return wire->next_tag;
}

int iscsi_wire_send(struct iscsi_wire *wire, struct iscsi_cmd *cmd)
{
    if (wire->n_commands >= MAX_COMMANDS) {
        return -ENOMEM;
    }
    CHECK(cmd->n_iov <= ISCSI_CMD_MAX_IOV && cmd->cdb_len <= sizeof(cmd->cdb));
    cmd->moved = 0;
    cmd->pending = 1;
    cmd->answered = false;
    cmd->collected = NULL;
    cmd->data = NULL;
    cmd->data_len = 0;
    cmd->missing = 0;
    memset(&cmd->sense, 0, sizeof(cmd->sense));
    for (unsigned i = 0; i < ISCSI_CMD_MAX_BURSTS; i++) {
        cmd->bursts[i].pending = false;
    }
    wire->n_commands++;
    wire->n_queued++;
    list_push_back(&wire->commands, &cmd->entry);
    return 0;
}

/* Over, and nothing of it waits to be sent. */
static void cmd_settle(struct iscsi_wire *wire, struct iscsi_cmd *cmd)
{
    if (cmd->answered && cmd->pending == 0) {
        *place_of(wire, cmd->tag) = NULL;
        wire->n_commands--;
        list_push_back(&wire->answered, &cmd->entry);
    }
}

static void cmd_end(struct iscsi_wire *wire, struct iscsi_cmd *cmd, enum iscsi_cmd_result result)
{
    cmd->answered = true;
    cmd->result = result;
    if (cmd->collected != NULL && result == ISCSI_CMD_GOOD) {
        cmd->data = cmd->collected;
        cmd->data_len = cmd->moved;
    }
    cmd_settle(wire, cmd);
}

/* Data that may be sent. -ENOSPC: the target has asked for more at a time than it may. */
static int burst_add(struct iscsi_wire *wire, struct iscsi_cmd *cmd, uint32_t at, uint32_t end,
                     uint32_t transfer_tag)
{
    for (unsigned i = 0; i < ISCSI_CMD_MAX_BURSTS; i++) {
        struct iscsi_burst *burst = &cmd->bursts[i];

        if (!burst->pending) {
            *burst = (struct iscsi_burst){
                .cmd = cmd, .at = at, .end = end, .transfer_tag = transfer_tag, .pending = true};
            cmd->pending++;
            cmd->moved = cmd->moved > end ? cmd->moved : end;
            list_push_back(&wire->bursts, &burst->entry);
            return 0;
        }
    }
    return -ENOSPC;
}

/* --- out ------------------------------------------------------------------------------------------------------ */

static uint8_t *pdu_stage(struct iscsi_wire *wire, struct iscsi_cmd *cmd, enum pdu_opcode opcode,
                          uint8_t flags, uint32_t tag)
{
    struct batch *batch = &wire->batch;
    uint8_t *header = batch->headers[batch->n_pdus];

    pdu_init(header, opcode, flags, 0);
    put_be32(header + PDU_F_ITT, tag);
    put_be32(header + PDU_F_EXP_STAT_SN, wire->terms.exp_stat_sn);
    batch->cmds[batch->n_pdus++] = cmd;
    if (cmd != NULL) {
        cmd->pending++;
    }
    return header;
}

static void piece_stage(struct batch *batch, const void *data, size_t len)
{
    batch->iov[batch->n_iov++] = (struct iovec){(void *)(uintptr_t)data, len};
    batch->bytes += len;
}

/* The header is complete; len bytes of cmd from at on follow it. */
static void pdu_finish(struct iscsi_wire *wire, uint8_t *header, const struct iscsi_cmd *cmd,
                       uint32_t at, uint32_t len)
{
    size_t header_len = PDU_BHS;
    uint32_t left = len;

    put_be24(header + PDU_F_DATA_LEN, len);
    if (wire->terms.header_digest) {
        put_le32(header + PDU_BHS, crc32c(0, header, PDU_BHS));
        header_len += PDU_DIGEST;
    }
    piece_stage(&wire->batch, header, header_len);
    for (unsigned i = 0; left > 0; i++) {
        size_t piece;

        CHECK(i < cmd->n_iov);
        if (cmd->iov[i].iov_len <= at) {
            at -= (uint32_t)cmd->iov[i].iov_len;
            continue;
        }
        piece = cmd->iov[i].iov_len - at < left ? cmd->iov[i].iov_len - at : left;
        piece_stage(&wire->batch, (const uint8_t *)cmd->iov[i].iov_base + at, piece);
        left -= (uint32_t)piece;
        at = 0;
    }
    if (pdu_pad(len) > 0) {
        piece_stage(&wire->batch, padding, pdu_pad(len));
    }
}

static uint32_t at_most(uint32_t value, uint32_t limit)
{
    return value < limit ? value : limit;
}

static void command_stage(struct iscsi_wire *wire, struct iscsi_cmd *cmd)
{
    bool write = cmd->direction == ISCSI_CMD_WRITE && cmd->len > 0;
    const struct iscsi_terms *terms = &wire->terms;
    uint32_t unasked = write ? at_most(cmd->len, terms->first_burst) : 0;
    uint32_t immediate = terms->immediate_data ? at_most(unasked, terms->max_send_segment) : 0;
    uint8_t flags = 1; /* simple */
    uint8_t *header;

    /* From here on it can be answered. */
    cmd->tag = tag_take(wire);
    *place_of(wire, cmd->tag) = cmd;
    unasked = terms->initial_r2t ? immediate : unasked;
    flags |= cmd->direction == ISCSI_CMD_READ ? PDU_CMD_READ : write ? PDU_CMD_WRITE : 0;
    flags |= unasked > immediate ? 0 : PDU_FINAL;
    header = pdu_stage(wire, cmd, PDU_SCSI_COMMAND, flags, cmd->tag);
    put_be16(header + PDU_F_LUN, wire->lun);
    put_be32(header + 20, cmd->direction == ISCSI_CMD_NONE ? 0 : cmd->len);
    put_be32(header + PDU_F_CMD_SN, wire->terms.cmd_sn++);
    memcpy(header + 32, cmd->cdb, cmd->cdb_len);
    cmd->moved = write ? immediate : 0;
    pdu_finish(wire, header, cmd, 0, immediate);
    if (unasked > immediate) {
        int err = burst_add(wire, cmd, immediate, unasked, PDU_NO_TAG);

        CHECK(err == 0);
    }
    cmd->pending--; /* it was in the list */
    wire->n_queued--;
}

/* One PDU of the burst. */
static void data_stage(struct iscsi_wire *wire, struct iscsi_burst *burst)
{
    struct iscsi_cmd *cmd = burst->cmd;
    uint32_t len = at_most(burst->end - burst->at, wire->terms.max_send_segment);
    bool last = len == burst->end - burst->at;
    uint8_t *header = pdu_stage(wire, cmd, PDU_DATA_OUT, last ? PDU_FINAL : 0, cmd->tag);

    put_be16(header + PDU_F_LUN, wire->lun);
    put_be32(header + PDU_F_TTT, burst->transfer_tag);
    put_be32(header + PDU_F_DATA_SN, burst->data_sn++);
    put_be32(header + PDU_F_OFFSET, burst->at);
    pdu_finish(wire, header, cmd, burst->at, len);
    burst->at += len;
    if (last) {
        burst->pending = false;
        cmd->pending--;
        list_remove(&burst->entry);
    }
}

/* Immediate requests: they need no place in the window. */
static uint8_t *request_stage(struct iscsi_wire *wire, enum pdu_opcode opcode, uint8_t flags,
                              uint32_t tag)
{
    uint8_t *header = pdu_stage(wire, NULL, opcode, flags, tag);

    header[PDU_F_OPCODE] |= PDU_IMMEDIATE;
    put_be32(header + PDU_F_CMD_SN, wire->terms.cmd_sn);
    return header;
}

static bool requests_stage(struct iscsi_wire *wire)
{
    uint8_t *header;

    if (wire->n_echoes > 0) {
        const struct echo *echo = &wire->echoes[--wire->n_echoes];

        header = request_stage(wire, PDU_NOP_OUT, PDU_FINAL, PDU_NO_TAG);
        memcpy(header + PDU_F_LUN, echo->lun, sizeof(echo->lun));
        put_be32(header + PDU_F_TTT, echo->transfer_tag);
    } else if (wire->ping_wanted) {
        wire->ping_wanted = false;
        header = request_stage(wire, PDU_NOP_OUT, PDU_FINAL, PING_TAG);
        put_be32(header + PDU_F_TTT, PDU_NO_TAG);
    } else if (wire->reset_wanted) {
        wire->reset_wanted = false;
        header = request_stage(wire, PDU_TASK_REQUEST, PDU_FINAL | 5 /* LOGICAL UNIT RESET */,
                               RESET_TAG);
        put_be16(header + PDU_F_LUN, wire->lun);
        put_be32(header + 20, PDU_NO_TAG);
    } else if (wire->logout_wanted) {
        wire->logout_wanted = false;
        wire->ended = true;
        header = request_stage(wire, PDU_LOGOUT_REQUEST, PDU_FINAL, LOGOUT_TAG);
    } else {
        return false;
    }
    pdu_finish(wire, header, NULL, 0, 0);
    return true;
}

static bool window_is_open(const struct iscsi_wire *wire)
{
    return !serial_after(wire->terms.cmd_sn, wire->terms.max_cmd_sn);
}

/* False: nothing may be sent. */
static bool batch_fill(struct iscsi_wire *wire)
{
    struct batch *batch = &wire->batch;

    /* A header, a command's vectors, and padding, at most. */
    while (!wire->ended && batch->n_pdus < BATCH_PDUS && batch->bytes < BATCH_BYTES &&
           batch->n_iov + ISCSI_CMD_MAX_IOV + 2 <= BATCH_IOV) {
        if (requests_stage(wire)) {
            continue;
        }
        if (!list_empty(&wire->bursts)) {
            data_stage(wire, list_entry(list_first(&wire->bursts), struct iscsi_burst, entry));
        } else if (!list_empty(&wire->commands) && window_is_open(wire)) {
            command_stage(wire,
                          list_entry(list_pop_front(&wire->commands), struct iscsi_cmd, entry));
        } else {
            break;
        }
    }
    return batch->n_iov > 0;
}

static void batch_sent(struct iscsi_wire *wire)
{
    struct batch *batch = &wire->batch;

    for (unsigned i = 0; i < batch->n_pdus; i++) {
        if (batch->cmds[i] != NULL) {
            batch->cmds[i]->pending--;
            cmd_settle(wire, batch->cmds[i]);
        }
    }
    batch->n_pdus = 0;
    batch->n_iov = 0;
    batch->at = 0;
    batch->bytes = 0;
}

/* The kernel took so many bytes. */
static void batch_advance(struct batch *batch, size_t len)
{
    while (batch->at < batch->n_iov && len >= batch->iov[batch->at].iov_len) {
        len -= batch->iov[batch->at++].iov_len;
    }
    if (len > 0) {
        batch->iov[batch->at].iov_base = (uint8_t *)batch->iov[batch->at].iov_base + len;
        batch->iov[batch->at].iov_len -= len;
    }
}

int iscsi_wire_push(struct iscsi_wire *wire)
{
    struct batch *batch = &wire->batch;

    while (batch->n_iov > 0 || batch_fill(wire)) {
        struct msghdr message = {.msg_iov = batch->iov + batch->at,
                                 .msg_iovlen = batch->n_iov - batch->at};
        ssize_t n = sendmsg(wire->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno == EAGAIN ? 0 : -errno;
        }
        batch_advance(batch, (size_t)n);
        if (batch->at == batch->n_iov) {
            batch_sent(wire);
        }
    }
    return 0;
}

bool iscsi_wire_is_pushed(const struct iscsi_wire *wire)
{
    return wire->batch.n_iov == 0;
}

void iscsi_wire_ping(struct iscsi_wire *wire)
{
    CHECK(!wire->pinging);
    wire->ping_wanted = true;
    wire->pinging = true;
}

void iscsi_wire_reset_lun(struct iscsi_wire *wire)
{
    CHECK(!wire->resetting);
    wire->reset_wanted = true;
    wire->resetting = true;
}

void iscsi_wire_logout(struct iscsi_wire *wire)
{
    wire->logout_wanted = true;
}

/* --- in ------------------------------------------------------------------------------------------------------- */

static void numbers_take(struct iscsi_wire *wire, const uint8_t *header, bool with_status)
{
    uint32_t exp = get_be32(header + PDU_F_EXP_CMD_SN);
    uint32_t max = get_be32(header + PDU_F_MAX_CMD_SN);
    uint32_t stat = get_be32(header + PDU_F_STAT_SN);

    /* RFC 7143 4.2.2.1: a pair that contradicts itself is left aside, and none goes back. */
    if (!serial_after(exp - 1, max) && serial_after(max, wire->terms.max_cmd_sn)) {
        wire->terms.max_cmd_sn = max;
    }
    if (with_status && !serial_after(wire->terms.exp_stat_sn, stat)) {
        wire->terms.exp_stat_sn = stat + 1;
    }
}

static enum iscsi_cmd_result result_of(uint8_t response, uint8_t status)
{
    if (response != 0) {
        return ISCSI_CMD_REJECTED;
    }
    switch (status) {
    case 0x00:
    case 0x04: /* CONDITION MET */
        return ISCSI_CMD_GOOD;
    case 0x02:
        return ISCSI_CMD_CHECK;
    case 0x08:
        return ISCSI_CMD_BUSY;
    case 0x18:
        return ISCSI_CMD_CONFLICT;
    case 0x28:
        return ISCSI_CMD_FULL;
    case 0x30: /* ACA ACTIVE */
    case 0x40:
        return ISCSI_CMD_ABORTED;
    default:
        return ISCSI_CMD_REJECTED;
    }
}

/* The status of a command, in a response or with the last of its data. */
static void status_take(struct iscsi_wire *wire, struct iscsi_cmd *cmd, const uint8_t *header)
{
    enum iscsi_cmd_result result =
        result_of(pdu_opcode(header) == PDU_DATA_IN ? 0 : header[2], header[3]);

    if (header[PDU_F_FLAGS] & (PDU_RSP_OVERFLOW | PDU_RSP_UNDERFLOW)) {
        cmd->missing = get_be32(header + PDU_F_RESIDUAL);
    }
    /* Data that never came, or were never asked for, whatever the target says. */
    if (cmd->iov != NULL && cmd->len - cmd->moved > cmd->missing &&
        cmd->direction != ISCSI_CMD_NONE) {
        cmd->missing = cmd->len - cmd->moved;
    }
    cmd_end(wire, cmd, result);
}

static int response_take(struct iscsi_wire *wire, const uint8_t *header, const uint8_t *data,
                         uint32_t len)
{
    struct iscsi_cmd *cmd = cmd_of(wire, pdu_itt(header));

    if (cmd == NULL) {
        return 0; /* a second answer to a command that is over */
    }
    /* The data segment begins with the length of the sense data. */
    if (header[3] == 0x02 && len > 2) {
        iscsi_sense_parse(data + 2, at_most(get_be16(data), len - 2), &cmd->sense);
    }
    status_take(wire, cmd, header);
    return 0;
}

static int r2t_take(struct iscsi_wire *wire, const uint8_t *header)
{
    struct iscsi_cmd *cmd = cmd_of(wire, pdu_itt(header));
    uint32_t at = get_be32(header + PDU_F_OFFSET);
    uint32_t len = get_be32(header + PDU_F_RESIDUAL);

    if (cmd == NULL) {
        return 0; /* answered already */
    }
    if (cmd->direction != ISCSI_CMD_WRITE) {
        return broken(wire, "a request for data of a command that has none");
    }
    if (len == 0 || at > cmd->len || len > cmd->len - at || len > wire->terms.max_burst) {
        return broken(wire, "a request for %u bytes from %u on of %u", len, at, cmd->len);
    }
    /* In order, as agreed on: bytes that were left out would pass for written. */
    if (at > cmd->moved) {
        return broken(wire, "a request for data at %u, where %u were asked for", at, cmd->moved);
    }
    if (burst_add(wire, cmd, at, at + len, get_be32(header + PDU_F_TTT)) != 0) {
        return broken(wire, "more requests for data at a time than agreed on");
    }
    return 0;
}

static int nop_in_take(struct iscsi_wire *wire, const uint8_t *header)
{
    uint32_t transfer_tag = get_be32(header + PDU_F_TTT);

    if (pdu_itt(header) == PING_TAG) {
        wire->pinging = false;
    }
    if (transfer_tag == PDU_NO_TAG) {
        return 0;
    }
    if (wire->n_echoes == MAX_ECHOES) {
        return broken(wire, "pings without end");
    }
    memcpy(wire->echoes[wire->n_echoes].lun, header + PDU_F_LUN, 8);
    wire->echoes[wire->n_echoes++].transfer_tag = transfer_tag;
    return 0;
}

static int reject_take(struct iscsi_wire *wire, const uint8_t *data, uint32_t len)
{
    struct iscsi_cmd *cmd;

    if (len < PDU_BHS) {
        return broken(wire, "it rejects it does not say what");
    }
    switch (pdu_opcode(data)) {
    case PDU_SCSI_COMMAND:
        cmd = cmd_of(wire, pdu_itt(data));
        if (cmd == NULL) {
            return broken(wire, "it rejects a command that is none");
        }
        cmd_end(wire, cmd, ISCSI_CMD_REJECTED);
        return 0;
    case PDU_TASK_REQUEST:
        if (wire->resetting) {
            wire->resetting = false;
            wire->reset_done = true;
            wire->reset_response = -1;
        }
        return 0;
    case PDU_NOP_OUT:
        wire->pinging = false; /* it lives */
        return 0;
    case PDU_DATA_OUT: /* the command is answered with a status yet (RFC 7143 7.3) */
        return 0;
    default:
        return broken(wire, "it rejects %s", pdu_opcode_name(pdu_opcode(data)));
    }
}

/* A PDU with all its data, which is not one of data that were read. */
static int pdu_take(struct iscsi_wire *wire, const uint8_t *header, const uint8_t *data,
                    uint32_t len)
{
    unsigned opcode = pdu_opcode(header);

    switch (opcode) {
    case PDU_SCSI_RESPONSE:
        numbers_take(wire, header, true);
        return response_take(wire, header, data, len);
    case PDU_R2T:
        numbers_take(wire, header, false);
        return r2t_take(wire, header);
    case PDU_NOP_IN:
        numbers_take(wire, header, pdu_itt(header) != PDU_NO_TAG);
        return nop_in_take(wire, header);
    case PDU_TASK_RESPONSE:
        numbers_take(wire, header, true);
        if (!wire->resetting || pdu_itt(header) != RESET_TAG) {
            return broken(wire, "an answer to no reset");
        }
        wire->resetting = false;
        wire->reset_done = true;
        wire->reset_response = header[2];
        return 0;
    case PDU_LOGOUT_RESPONSE:
        numbers_take(wire, header, true);
        return 0;
    case PDU_REJECT:
        numbers_take(wire, header, true);
        return reject_take(wire, data, len);
    case PDU_ASYNC:
        numbers_take(wire, header, true);
        /* That it is about to drop the connection shows when it does. */
        return header[36] == ASYNC_LOGOUT || header[36] == ASYNC_NEGOTIATE ? -ESHUTDOWN : 0;
    default:
        return broken(wire, "a PDU that no target sends here (%02xh)", opcode);
    }
}

static int data_in_begin(struct iscsi_wire *wire, const uint8_t *header)
{
    struct iscsi_cmd *cmd = cmd_of(wire, pdu_itt(header));
    uint32_t at = get_be32(header + PDU_F_OFFSET);
    uint32_t len = pdu_data_len(header);
    bool with_status = header[PDU_F_FLAGS] & PDU_DATA_IN_STATUS;

    numbers_take(wire, header, with_status);
    if (cmd == NULL || cmd->direction != ISCSI_CMD_READ) {
        return broken(wire, "data of no command");
    }
    /* In order, as agreed on: bytes that were left out would pass for read. */
    if (at != cmd->moved || len > cmd->len - at) {
        return broken(wire, "%u bytes of data at %u, where %u of %u have come", len, at, cmd->moved,
                      cmd->len);
    }
    if (cmd->iov == NULL && cmd->collected == NULL) {
        if (cmd->len > MAX_COLLECTED || (cmd->collected = malloc(cmd->len + 1)) == NULL) {
            return -ENOMEM;
        }
    }
    wire->reading = cmd;
    wire->read_at = at;
    wire->read_left = len;
    wire->read_padding = pdu_pad(len);
    memcpy(wire->read_header, header, PDU_BHS);
    return 0;
}

/* Where the next data go, at most n vectors. */
static unsigned data_in_places(const struct iscsi_wire *wire, struct iovec *iov, unsigned n)
{
    const struct iscsi_cmd *cmd = wire->reading;
    uint32_t at = wire->read_at;
    uint32_t left = wire->read_left;
    unsigned count = 0;

    if (cmd->iov == NULL) {
        iov[0] = (struct iovec){cmd->collected + at, left};
        return 1;
    }
    for (unsigned i = 0; i < cmd->n_iov && left > 0 && count < n; i++) {
        size_t piece;

        if (cmd->iov[i].iov_len <= at) {
            at -= (uint32_t)cmd->iov[i].iov_len;
            continue;
        }
        piece = cmd->iov[i].iov_len - at < left ? cmd->iov[i].iov_len - at : left;
        iov[count++] = (struct iovec){(uint8_t *)cmd->iov[i].iov_base + at, piece};
        left -= (uint32_t)piece;
        at = 0;
    }
    return count;
}

static void data_in_advance(struct iscsi_wire *wire, uint32_t len)
{
    wire->read_at += len;
    wire->read_left -= len;
    wire->reading->moved += len;
}

static uint32_t in_len(const struct iscsi_wire *wire)
{
    return (uint32_t)(wire->in_end - wire->in_at);
}

/* What has come of the data, and of their padding. True: all of it. */
static bool data_in_take(struct iscsi_wire *wire)
{
    struct iscsi_cmd *cmd = wire->reading;
    uint32_t skipped;

    while (wire->read_left > 0 && in_len(wire) > 0) {
        struct iovec place;
        unsigned n = data_in_places(wire, &place, 1);
        uint32_t len;

        CHECK(n == 1);
        len = at_most((uint32_t)place.iov_len, in_len(wire));
        memcpy(place.iov_base, wire->in + wire->in_at, len);
        wire->in_at += len;
        data_in_advance(wire, len);
    }
    skipped = wire->read_left == 0 ? at_most(wire->read_padding, in_len(wire)) : 0;
    wire->in_at += skipped;
    wire->read_padding -= skipped;
    if (wire->read_left > 0 || wire->read_padding > 0) {
        return false;
    }
    wire->reading = NULL;
    if (wire->read_header[PDU_F_FLAGS] & PDU_DATA_IN_STATUS) {
        status_take(wire, cmd, wire->read_header);
    }
    return true;
}

/* Works through the buffer as far as whole PDUs are there. */
static int buffer_take(struct iscsi_wire *wire)
{
    size_t digest = wire->terms.header_digest ? PDU_DIGEST : 0;

    for (;;) {
        const uint8_t *header = wire->in + wire->in_at;
        size_t header_len;
        uint32_t len;
        int err;

        if (wire->reading != NULL) {
            if (!data_in_take(wire)) {
                return 0;
            }
            continue;
        }
        if (in_len(wire) < PDU_BHS) {
            return 0;
        }
        header_len = PDU_BHS + pdu_ahs_len(header);
        if (in_len(wire) < header_len + digest) {
            return 0;
        }
        if (digest > 0 && get_le32(header + header_len) != crc32c(0, header, header_len)) {
            return broken(wire, "a header whose digest is wrong");
        }
        len = pdu_data_len(header);
        if (pdu_opcode(header) == PDU_DATA_IN) {
            err = data_in_begin(wire, header);
            wire->in_at += header_len + digest;
        } else {
            size_t whole = header_len + digest + len + pdu_pad(len);

            if (len > MAX_SEGMENT) {
                return broken(wire, "%u bytes with %s", len, pdu_opcode_name(pdu_opcode(header)));
            }
            if (in_len(wire) < whole) {
                return 0;
            }
            err = pdu_take(wire, header, header + header_len + digest, len);
            wire->in_at += whole;
        }
        if (err != 0) {
            return err;
        }
    }
}

/* Returns as recvmsg() does. *ret_all: it might have taken so many. */
static ssize_t receive(struct iscsi_wire *wire, size_t *ret_all)
{
    struct iovec iov[ISCSI_CMD_MAX_IOV + 1];
    struct msghdr message = {.msg_iov = iov};
    uint32_t direct = 0;
    ssize_t n;

    if (wire->in_at > 0) {
        memmove(wire->in, wire->in + wire->in_at, in_len(wire));
        wire->in_end -= wire->in_at;
        wire->in_at = 0;
    }
    if (wire->reading != NULL && wire->read_left > 0) {
        message.msg_iovlen = data_in_places(wire, iov, ISCSI_CMD_MAX_IOV);
        for (unsigned i = 0; i < message.msg_iovlen; i++) {
            direct += (uint32_t)iov[i].iov_len;
        }
    }
    iov[message.msg_iovlen++] = (struct iovec){wire->in + wire->in_end, BUFFER - wire->in_end};
    *ret_all = direct + BUFFER - wire->in_end;
    n = recvmsg(wire->fd, &message, MSG_DONTWAIT);
    if (n > 0) {
        uint32_t placed = at_most((uint32_t)n, direct);

        if (placed > 0) {
            data_in_advance(wire, placed);
        }
        wire->in_end += (size_t)n - placed;
    }
    return n;
}

int iscsi_wire_pull(struct iscsi_wire *wire)
{
    size_t total = 0;

    for (unsigned i = 0; i < PULL_CALLS && total < PULL_BYTES; i++) {
        size_t all;
        ssize_t n = receive(wire, &all);
        int err;

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno == EAGAIN ? 0 : -errno;
        }
        if (n == 0) {
            wire->closed = true;
            return -ECONNRESET;
        }
        err = buffer_take(wire);
        if (err != 0) {
            return err;
        }
        if ((size_t)n < all) {
            return 0;
        }
        total += (size_t)n;
    }
    return 0;
}

struct iscsi_cmd *iscsi_wire_answered(struct iscsi_wire *wire)
{
    struct list *entry = list_pop_front(&wire->answered);

    return entry != NULL ? list_entry(entry, struct iscsi_cmd, entry) : NULL;
}

bool iscsi_wire_pinging(const struct iscsi_wire *wire)
{
    return wire->pinging;
}

bool iscsi_wire_reset_answer(struct iscsi_wire *wire, int *ret_response)
{
    bool done = wire->reset_done;

    wire->reset_done = false;
    *ret_response = wire->reset_response;
    return done;
}

/* --- all together --------------------------------------------------------------------------------------------- */

unsigned iscsi_wire_room(const struct iscsi_wire *wire)
{
    unsigned room = window_is_open(wire) ? wire->terms.max_cmd_sn - wire->terms.cmd_sn + 1 : 0;

    room = room > wire->n_queued ? room - wire->n_queued : 0;
    return room < MAX_COMMANDS - wire->n_commands ? room : MAX_COMMANDS - wire->n_commands;
}

bool iscsi_wire_is_closed(const struct iscsi_wire *wire)
{
    return wire->closed;
}

const char *iscsi_wire_why(const struct iscsi_wire *wire)
{
    return wire->why;
}

struct iscsi_wire *iscsi_wire_new(int fd, uint16_t lun, const struct iscsi_terms *terms)
{
    struct iscsi_wire *wire = calloc(1, sizeof(*wire));

    if (wire == NULL) {
        return NULL;
    }
    wire->fd = fd;
    wire->lun = lun;
    wire->terms = *terms;
    list_init(&wire->commands);
    list_init(&wire->bursts);
    list_init(&wire->answered);
    return wire;
}

void iscsi_wire_free(struct iscsi_wire *wire)
{
    struct iscsi_cmd *cmd;

    if (wire == NULL) {
        return;
    }
    close(wire->fd);
    while ((cmd = iscsi_wire_answered(wire)) != NULL) {
        free(cmd->collected);
    }
    for (unsigned i = 0; i < TABLE; i++) {
        if (wire->table[i] != NULL) {
            free(wire->table[i]->collected);
        }
    }
    free(wire);
}
