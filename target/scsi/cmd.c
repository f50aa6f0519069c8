// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "target/scsi/scsi.h"

void scsi_cmd_init(struct scsi_cmd *cmd, struct scsi_target *target)
{
    cmd->target = target;
    cmd->lun = NULL;
    cmd->op = NULL;
    cmd->out_len = cmd->in_len = 0;
    slices_init(&cmd->out);
    slices_init(&cmd->in);
    cmd->status = SCSI_GOOD;
    cmd->ended = cmd->running = cmd->aborted = cmd->entered = false;
    cmd->lba = cmd->n_blocks = 0;
    cmd->effect = SCSI_NO_MEDIUM;
    list_init(&cmd->link);
    list_init(&cmd->waiter.link);
    memset(&cmd->req, 0, sizeof(cmd->req));
    cmd->position = cmd->end = 0;
    cmd->sibling = NULL;
    cmd->more = NULL;
}

void scsi_cmd_release(struct scsi_cmd *cmd)
{
    struct shard *shard = cmd->target->shard;
    slices_clear(shard, &cmd->out);
    if (cmd->in.count > 0) {
        slices_clear(shard, &cmd->in);
        shard_data_returned(shard);
    }
    free(cmd->more);
    cmd->more = NULL;
    if (cmd->lun) {
        struct scsi_lun *lun = cmd->lun;
        cmd->lun = NULL;
        scsi_lun_unuse(lun);
    }
}

/* ---- how commands end ---- */

static void finish(struct scsi_cmd *cmd)
{
    cmd->ended = true;
    if (!cmd->running) {
        return; /* within scsi_start(), or before: the transport sees it */
    }
    cmd->running = false;
    if (cmd->entered) {
        scsi_leave(cmd);
    }
    cmd->done(cmd);
}

void scsi_end(struct scsi_cmd *cmd, enum scsi_status status)
{
    cmd->status = (uint8_t)status;
    finish(cmd);
}

void scsi_good(struct scsi_cmd *cmd)
{
    scsi_end(cmd, SCSI_GOOD);
}

void scsi_fail(struct scsi_cmd *cmd, enum scsi_key key, enum scsi_asc asc)
{
    cmd->sense = (struct scsi_sense){.key = (uint8_t)key, .asc = (uint16_t)asc};
    scsi_end(cmd, SCSI_CHECK_CONDITION);
}

void scsi_fail_field(struct scsi_cmd *cmd, unsigned byte, unsigned bit)
{
    cmd->sense = (struct scsi_sense){
        .key = SCSI_ILLEGAL_REQUEST,
        .asc = ASC_INVALID_FIELD_IN_CDB,
        .has_field = true,
        .field_in_cdb = true,
        .field_byte = (uint16_t)byte,
        .field_bit = (uint8_t)bit,
    };
    scsi_end(cmd, SCSI_CHECK_CONDITION);
}

void scsi_fail_parameter(struct scsi_cmd *cmd, unsigned byte)
{
    cmd->sense = (struct scsi_sense){
        .key = SCSI_ILLEGAL_REQUEST,
        .asc = ASC_INVALID_FIELD_IN_PARAMETERS,
        .has_field = true,
        .field_byte = (uint16_t)byte,
        .field_bit = 8,
    };
    scsi_end(cmd, SCSI_CHECK_CONDITION);
}

void scsi_fail_errno(struct scsi_cmd *cmd, int err, bool write)
{
    switch (err) {
    case -ENOSPC:
        /* Of a thin unit: SBC-3, 4.7.3.6. */
        scsi_fail(cmd, SCSI_DATA_PROTECT, ASC_SPACE_ALLOCATION_FAILED);
        break;
    case -EROFS:
        scsi_fail(cmd, SCSI_DATA_PROTECT, ASC_WRITE_PROTECTED);
        break;
    case -EINVAL:
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE);
        break;
    case -ENOTCONN:
    case -ECANCELED:
    case -ESTALE:
        scsi_fail(cmd, SCSI_NOT_READY, ASC_UNIT_NOT_ACCESSIBLE);
        break;
    case -EILSEQ:
        scsi_fail(cmd, SCSI_MISCOMPARE, ASC_MISCOMPARE);
        break;
    default:
        scsi_fail(cmd, SCSI_MEDIUM_ERROR, write ? ASC_WRITE_ERROR : ASC_READ_ERROR);
        break;
    }
}

size_t scsi_sense_encode(const struct scsi_cmd *cmd, uint8_t out[SCSI_SENSE_MAX])
{
    const struct scsi_sense *sense = &cmd->sense;
    memset(out, 0, SCSI_SENSE_MAX);
    uint8_t specific[3] = {0};
    if (sense->has_field) {
        specific[0] = (uint8_t)(0x80 | (sense->field_in_cdb ? 0x40 : 0));
        if (sense->field_bit < 8) {
            specific[0] = (uint8_t)(specific[0] | 0x08 | sense->field_bit);
        }
        put_be16(specific + 1, sense->field_byte);
    } else if (sense->asc == ASC_NOT_READY_SANITIZE && cmd->lun) {
        specific[0] = 0x80; /* progress */
        put_be16(specific + 1, (uint32_t)(cmd->lun->sanitize_done * 65535 /
                                          (cmd->lun->n_blocks ? cmd->lun->n_blocks : 1)));
    }
    if (cmd->lun && cmd->lun->d_sense) {
        out[0] = 0x72;
        out[1] = sense->key;
        put_be16(out + 2, sense->asc);
        uint8_t *at = out + 8;
        if (sense->has_information) {
            at[0] = 0x00;
            at[1] = 0x0a;
            at[2] = 0x80;
            put_be64(at + 4, sense->information);
            at += 12;
        }
        if (specific[0]) {
            at[0] = 0x02;
            at[1] = 0x06;
            memcpy(at + 4, specific, 3);
            at += 8;
        }
        out[7] = (uint8_t)(at - out - 8);
        return (size_t)(at - out);
    }
    out[0] = 0x70;
    if (sense->has_information && sense->information <= UINT32_MAX) {
        out[0] = 0xf0;
        put_be32(out + 3, (uint32_t)sense->information);
    }
    out[2] = sense->key;
    out[7] = 10;
    put_be16(out + 12, sense->asc);
    memcpy(out + 15, specific, 3);
    return 18;
}

/* ---- data ---- */

void scsi_reply(struct scsi_cmd *cmd, const void *data, size_t len, size_t alloc_len)
{
    if (len > alloc_len) {
        len = alloc_len;
    }
    if (len > 0) {
        if (!shard_data_get(cmd->target->shard, &cmd->in, len)) {
            scsi_end(cmd, SCSI_BUSY);
            return;
        }
        slices_write(&cmd->in, 0, data, len);
    }
    cmd->in_len = (uint32_t)len;
    scsi_good(cmd);
}

const uint8_t *scsi_parameters(struct scsi_cmd *cmd)
{
    static const uint8_t nothing[1];
    if (cmd->out_len == 0) {
        return nothing;
    }
    if (cmd->out.count == 1) {
        return cmd->out.items[0].data;
    }
    uint8_t *copy = malloc(cmd->out_len);
    if (!copy) {
        scsi_end(cmd, SCSI_BUSY);
        return NULL;
    }
    slices_read(&cmd->out, 0, copy, cmd->out_len);
    CHECK(cmd->more == NULL);
    cmd->more = copy;
    return copy;
}

/* An aborted command that waited for buffers: one with a record of its own cleans up itself. */
static void abort_waiting(struct scsi_cmd *cmd)
{
    if (cmd->sibling) {
        cmd->wait_then(cmd);
    } else {
        scsi_end(cmd, SCSI_TASK_ABORTED);
    }
}

static void try_in(void *arg)
{
    struct scsi_cmd *cmd = arg;
    if (cmd->aborted) {
        abort_waiting(cmd);
        return;
    }
    if (shard_data_get(cmd->target->shard, &cmd->in, cmd->wait_len)) {
        cmd->wait_then(cmd);
        return;
    }
    shard_wait_data(cmd->target->shard, &cmd->waiter);
}

void scsi_get_in(struct scsi_cmd *cmd, size_t len, void (*fn)(struct scsi_cmd *cmd))
{
    cmd->waiter.fn = try_in;
    cmd->waiter.arg = cmd;
    cmd->wait_len = len;
    cmd->wait_then = fn;
    if (!list_empty(&cmd->target->shard->waiting)) {
        shard_wait_data(cmd->target->shard, &cmd->waiter);
        return;
    }
    try_in(cmd);
}

bool scsi_check_range(struct scsi_cmd *cmd)
{
    struct scsi_lun *lun = cmd->lun;
    if (cmd->lba > lun->n_blocks || cmd->n_blocks > lun->n_blocks - cmd->lba) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE);
        cmd->sense.has_information = true;
        cmd->sense.information = cmd->lba;
        return false;
    }
    return true;
}

bool scsi_check_transfer(struct scsi_cmd *cmd, uint64_t bytes, unsigned field)
{
    if (bytes > cmd->target->accept_transfer) {
        scsi_fail_field(cmd, field, 8);
        return false;
    }
    return true;
}

/* ---- how commands begin ---- */

static const uint16_t attentions[UA_COUNT] = {
    [UA_POWER_ON] = 0x2900,
    [UA_RESET] = 0x2903,
    [UA_NEXUS_LOST] = 0x2907,
    [UA_COMMANDS_CLEARED] = 0x2f00,
    [UA_MODE_CHANGED] = 0x2a01,
    [UA_RESERVATIONS_PREEMPTED] = 0x2a03,
    [UA_RESERVATIONS_RELEASED] = 0x2a04,
    [UA_REGISTRATIONS_PREEMPTED] = 0x2a05,
    [UA_CAPACITY_CHANGED] = 0x2a09,
    [UA_INQUIRY_CHANGED] = 0x3f03,
    [UA_LUNS_CHANGED] = 0x3f0e,
    [UA_LOW_SPACE] = 0x3807,
};

static bool take_attention(struct scsi_cmd *cmd)
{
    uint16_t *set = &cmd->nexus->attentions[cmd->lun_number];
    if (*set == 0) {
        return false;
    }
    unsigned ua = (unsigned)__builtin_ctz(*set);
    *set = (uint16_t)(*set & ~(1u << ua));
    scsi_fail(cmd, SCSI_UNIT_ATTENTION, (enum scsi_asc)attentions[ua]);
    return true;
}

static bool fields_are_known(struct scsi_cmd *cmd)
{
    const struct scsi_op *op = cmd->op;
    for (unsigned i = 1; i < op->cdb_len; i++) {
        uint8_t wrong = (uint8_t)(cmd->cdb[i] & ~op->usage[i]);
        if (i == 1 && (op->flags & OP_HAS_ACTION)) {
            wrong &= 0xe0;
        }
        if (wrong) {
            scsi_fail_field(cmd, i, 31u - (unsigned)__builtin_clz(wrong));
            return false;
        }
    }
    return true;
}

void scsi_start(struct scsi_cmd *cmd)
{
    struct scsi_target *target = cmd->target;
    struct scsi_lun *lun = cmd->lun_number >= 0 && cmd->lun_number < TARGET_MAX_LUNS
                               ? target->luns[cmd->lun_number]
                               : NULL;
    const struct scsi_op *op = scsi_op_find(cmd->cdb[0], cmd->cdb[1] & 0x1f);
    cmd->op = op;
    if (lun) {
        cmd->lun = lun;
        lun->users++;
    } else if (!op || !(op->flags & OP_ANY_UNIT)) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_NO_SUCH_UNIT);
        return;
    }
    if (lun && !(op && op->flags & OP_NO_ATTENTION) && take_attention(cmd)) {
        return;
    }
    if (!op) {
        /* An opcode with other service actions is known; its field is wrong then. */
        if (scsi_op_find(cmd->cdb[0], 0x100)) {
            scsi_fail_field(cmd, 1, 4);
        } else {
            scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_INVALID_OPCODE);
        }
        return;
    }
    cmd->effect = op->effect;
    if (!fields_are_known(cmd)) {
        return;
    }
    if (!lun) {
        if (op->parse) {
            op->parse(cmd);
        }
        return;
    }
    if ((op->flags & OP_THIN) && !lun->id.thin) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_INVALID_OPCODE);
        return;
    }
    if (scsi_reserved_against(cmd)) {
        scsi_end(cmd, SCSI_RESERVATION_CONFLICT);
        return;
    }
    if (lun->sanitizing && (op->flags & OP_MOVES_STATE)) {
        scsi_fail(cmd, SCSI_NOT_READY, ASC_NOT_READY_SANITIZE);
        return;
    }
    if (!(op->flags & OP_NOT_READY_TOO)) {
        if (lun->sanitizing || lun->sanitize_failed) {
            scsi_fail(cmd, SCSI_NOT_READY,
                      lun->sanitizing ? ASC_NOT_READY_SANITIZE : ASC_UNIT_NOT_ACCESSIBLE);
            return;
        }
        if (lun->stopped) {
            scsi_fail(cmd, SCSI_NOT_READY, ASC_NOT_READY_MANUAL);
            return;
        }
    }
    if ((op->flags & OP_CHANGES_MEDIUM) && scsi_lun_write_protected(lun)) {
        scsi_fail(cmd, SCSI_DATA_PROTECT, ASC_WRITE_PROTECTED);
        return;
    }
    if (op->parse) {
        op->parse(cmd);
    }
    if ((op->flags & OP_EXACT) && !cmd->ended && cmd->expected_out != cmd->out_len) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_INVALID_FIELD_IN_CDB);
    }
}

void scsi_execute(struct scsi_cmd *cmd)
{
    CHECK(!cmd->ended && !cmd->running);
    cmd->running = true;
    size_t have = 0;
    for (unsigned i = 0; i < cmd->out.count; i++) {
        have += cmd->out.items[i].len;
    }
    if (have < cmd->out_len && cmd->op->execute != scsi_write &&
        cmd->op->execute != scsi_write_verify) {
        /* The initiator meant to send less than the command takes. Only writes make sense in part.
         */
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_INVALID_FIELD_IN_CDB);
        return;
    }
    if (cmd->lun && cmd->effect != SCSI_NO_MEDIUM) {
        scsi_enter(cmd);
    } else {
        cmd->op->execute(cmd);
    }
}

void scsi_abort(struct scsi_cmd *cmd)
{
    cmd->aborted = true;
    if (!cmd->running) {
        return;
    }
    if (scsi_queue_cancel(cmd)) {
        scsi_end(cmd, SCSI_TASK_ABORTED);
        return;
    }
    if (scsi_sanitize_detach(cmd)) {
        scsi_end(cmd, SCSI_TASK_ABORTED);
        return;
    }
    if (!list_empty(&cmd->waiter.link)) {
        list_remove(&cmd->waiter.link);
        abort_waiting(cmd);
    }
}
