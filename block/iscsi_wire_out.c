// SPDX-License-Identifier: Apache-2.0
/*
 * Commands wait in one list, bursts of data in another, which goes first: data that a command announces without being asked must come
 * before the next command, and data that were asked for need no place in the target's window. What may go is staged: the headers of up to
 * BATCH_PDUS PDUs, and vectors that point to the owners' data. One sendmsg() takes them all.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "block/iscsi_wire_private.h"

static const uint8_t padding[4];

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

static void command_stage(struct iscsi_wire *wire, struct iscsi_cmd *cmd)
{
    bool write = cmd->direction == ISCSI_CMD_WRITE && cmd->len > 0;
    const struct iscsi_terms *terms = &wire->terms;
    uint32_t unasked = write ? wire_at_most(cmd->len, terms->first_burst) : 0;
    uint32_t immediate = terms->immediate_data ? wire_at_most(unasked, terms->max_send_segment) : 0;
    uint8_t flags = 1; /* simple */
    uint8_t *header;

    wire_tag_take(wire, cmd);
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
        int err = wire_burst_add(wire, cmd, immediate, unasked, PDU_NO_TAG);

        CHECK(err == 0);
    }
    cmd->pending--; /* it was in the list */
    wire->n_queued--;
}

/* One PDU of the burst. */
static void data_stage(struct iscsi_wire *wire, struct iscsi_burst *burst)
{
    struct iscsi_cmd *cmd = burst->cmd;
    uint32_t len = wire_at_most(burst->end - burst->at, wire->terms.max_send_segment);
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
        } else if (!list_empty(&wire->commands) && wire_window_is_open(wire)) {
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
            wire_cmd_settle(wire, batch->cmds[i]);
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
