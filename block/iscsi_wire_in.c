// SPDX-License-Identifier: Apache-2.0
/*
 * One recvmsg() fills the buffer, which holds many answers; of a Data-In that is larger than what has come, the rest goes where it belongs
 * at once, with the buffer behind it for what follows.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "block/iscsi_wire_private.h"

enum {
    /* One pull, so that one session does not keep the loop for itself. */
    PULL_BYTES = 1 << 20,
    PULL_CALLS = 16,
};
enum { ASYNC_LOGOUT = 1, ASYNC_NEGOTIATE = 4 };

static void numbers_take(struct iscsi_wire *wire, const uint8_t *header, bool with_status)
{
    uint32_t exp = get_be32(header + PDU_F_EXP_CMD_SN);
    uint32_t max = get_be32(header + PDU_F_MAX_CMD_SN);
    uint32_t stat = get_be32(header + PDU_F_STAT_SN);

    /* RFC 7143 4.2.2.1: a pair that contradicts itself is left aside, and none goes back. */
    if (!wire_serial_after(exp - 1, max) && wire_serial_after(max, wire->terms.max_cmd_sn)) {
        wire->terms.max_cmd_sn = max;
    }
    if (with_status && !wire_serial_after(wire->terms.exp_stat_sn, stat)) {
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
    wire_cmd_end(wire, cmd, result);
}

static int response_take(struct iscsi_wire *wire, const uint8_t *header, const uint8_t *data,
                         uint32_t len)
{
    struct iscsi_cmd *cmd = wire_cmd(wire, pdu_itt(header));

    if (cmd == NULL) {
        return 0; /* a second answer to a command that is over */
    }
    /* The data segment begins with the length of the sense data. */
    if (header[3] == 0x02 && len > 2) {
        iscsi_sense_parse(data + 2, wire_at_most(get_be16(data), len - 2), &cmd->sense);
    }
    status_take(wire, cmd, header);
    return 0;
}

static int r2t_take(struct iscsi_wire *wire, const uint8_t *header)
{
    struct iscsi_cmd *cmd = wire_cmd(wire, pdu_itt(header));
    uint32_t at = get_be32(header + PDU_F_OFFSET);
    uint32_t len = get_be32(header + PDU_F_RESIDUAL);

    if (cmd == NULL) {
        return 0; /* answered already */
    }
    if (cmd->direction != ISCSI_CMD_WRITE) {
        return wire_broken(wire, "a request for data of a command that has none");
    }
    if (len == 0 || at > cmd->len || len > cmd->len - at || len > wire->terms.max_burst) {
        return wire_broken(wire, "a request for %u bytes from %u on of %u", len, at, cmd->len);
    }
    /* In order, as agreed on: bytes that were left out would pass for written. */
    if (at > cmd->moved) {
        return wire_broken(wire, "a request for data at %u, where %u were asked for", at,
                           cmd->moved);
    }
    if (wire_burst_add(wire, cmd, at, at + len, get_be32(header + PDU_F_TTT)) != 0) {
        return wire_broken(wire, "more requests for data at a time than agreed on");
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
        return wire_broken(wire, "pings without end");
    }
    memcpy(wire->echoes[wire->n_echoes].lun, header + PDU_F_LUN, 8);
    wire->echoes[wire->n_echoes++].transfer_tag = transfer_tag;
    return 0;
}

static int reject_take(struct iscsi_wire *wire, const uint8_t *data, uint32_t len)
{
    struct iscsi_cmd *cmd;

    if (len < PDU_BHS) {
        return wire_broken(wire, "it rejects it does not say what");
    }
    switch (pdu_opcode(data)) {
    case PDU_SCSI_COMMAND:
        cmd = wire_cmd(wire, pdu_itt(data));
        if (cmd == NULL) {
            return wire_broken(wire, "it rejects a command that is none");
        }
        wire_cmd_end(wire, cmd, ISCSI_CMD_REJECTED);
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
        return wire_broken(wire, "it rejects %s", pdu_opcode_name(pdu_opcode(data)));
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
            return wire_broken(wire, "an answer to no reset");
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
        return wire_broken(wire, "a PDU that no target sends here (%02xh)", opcode);
    }
}

static int data_in_begin(struct iscsi_wire *wire, const uint8_t *header)
{
    struct iscsi_cmd *cmd = wire_cmd(wire, pdu_itt(header));
    uint32_t at = get_be32(header + PDU_F_OFFSET);
    uint32_t len = pdu_data_len(header);
    bool with_status = header[PDU_F_FLAGS] & PDU_DATA_IN_STATUS;

    numbers_take(wire, header, with_status);
    if (cmd == NULL || cmd->direction != ISCSI_CMD_READ) {
        return wire_broken(wire, "data of no command");
    }
    /* In order, as agreed on: bytes that were left out would pass for read. */
    if (at != cmd->moved || len > cmd->len - at) {
        return wire_broken(wire, "%u bytes of data at %u, where %u of %u have come", len, at,
                           cmd->moved, cmd->len);
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
        len = wire_at_most((uint32_t)place.iov_len, in_len(wire));
        memcpy(place.iov_base, wire->in + wire->in_at, len);
        wire->in_at += len;
        data_in_advance(wire, len);
    }
    skipped = wire->read_left == 0 ? wire_at_most(wire->read_padding, in_len(wire)) : 0;
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
            return wire_broken(wire, "a header whose digest is wrong");
        }
        len = pdu_data_len(header);
        if (pdu_opcode(header) == PDU_DATA_IN) {
            err = data_in_begin(wire, header);
            wire->in_at += header_len + digest;
        } else {
            size_t whole = header_len + digest + len + pdu_pad(len);

            if (len > MAX_SEGMENT) {
                return wire_broken(wire, "%u bytes with %s", len,
                                   pdu_opcode_name(pdu_opcode(header)));
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
        uint32_t placed = wire_at_most((uint32_t)n, direct);

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
