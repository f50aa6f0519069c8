// SPDX-License-Identifier: Apache-2.0
/* What a unit says about itself: INQUIRY, capacity, LUNs, supported commands, power. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "target/scsi/scsi.h"

void scsi_test_unit_ready(struct scsi_cmd *cmd)
{
    scsi_good(cmd);
}

/* ---- INQUIRY ---- */

static void put_text(uint8_t *at, size_t len, const char *text, const char *preset)
{
    if (!text[0]) {
        text = preset;
    }
    size_t n = strnlen(text, len);
    memcpy(at, text, n);
    memset(at + n, ' ', len - n);
}

static size_t inquiry_standard(const struct scsi_cmd *cmd, uint8_t *d)
{
    const struct scsi_lun *lun = cmd->lun;
    d[0] = lun ? 0x00 : 0x7f; /* no unit here, and there can be none */
    d[2] = 0x06;              /* SPC-4 */
    d[3] = 0x12;              /* HiSup, format 2 */
    d[4] = 96 - 5;
    d[5] = 0x18; /* implicit ALUA (one group), third-party copy */
    d[7] = 0x02; /* command queuing */
    put_text(d + 8, 8, lun ? lun->id.vendor : "", "SMIRROR");
    put_text(d + 16, 16, lun ? lun->id.product : "", "VOLUME");
    put_text(d + 32, 4, lun ? lun->id.revision : "", "0100");
    static const uint16_t versions[] = {
        0x00a0, /* SAM-5 */
        0x0960, /* iSCSI */
        0x0460, /* SPC-4 */
        0x04c0, /* SBC-3 */
    };
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        put_be16(d + 58 + 2 * i, versions[i]);
    }
    return 96;
}

static size_t vpd_serial(const struct scsi_lun *lun, uint8_t *d)
{
    size_t len = strlen(lun->id.serial);
    memcpy(d + 4, lun->id.serial, len);
    return 4 + len;
}

static size_t designator(uint8_t *d, unsigned code_set, unsigned association_type,
                         const void *bytes, size_t len)
{
    d[0] = (uint8_t)((association_type & 0x30 ? 0x50 : 0) | code_set); /* iSCSI, where valid */
    d[1] = (uint8_t)((association_type & 0x30 ? 0x80 : 0) | association_type);
    d[3] = (uint8_t)len;
    memcpy(d + 4, bytes, len);
    return 4 + len;
}

static size_t vpd_identification(const struct scsi_lun *lun, uint8_t *d)
{
    uint8_t *at = d + 4;
    uint8_t naa[16];
    size_t naa_len = scsi_lun_naa(lun, naa);
    at += designator(at, 1, 0x03, naa, naa_len); /* binary, NAA, of the unit */
    char t10[8 + TARGET_SERIAL_LEN];
    put_text((uint8_t *)t10, 8, lun->id.vendor, "SMIRROR");
    size_t serial = strlen(lun->id.serial);
    memcpy(t10 + 8, lun->id.serial, serial);
    at += designator(at, 2, 0x01, t10, 8 + serial); /* ASCII, T10 vendor */
    /* The target port: its number and group, and its name with a null and padding to four. */
    uint8_t number[4] = {0, 0, 0, 1};
    at += designator(at, 1, 0x14, number, 4);
    at += designator(at, 1, 0x15, number, 4);
    char name[TARGET_MAX_NAME + 16] = {0};
    int len = snprintf(name, sizeof(name) - 4, "%s,t,0x0001", lun->target->name);
    size_t padded = ((size_t)len + 4) & ~(size_t)3;
    at += designator(at, 3, 0x18, name, padded);
    memset(name, 0, sizeof(name));
    len = snprintf(name, sizeof(name) - 4, "%s", lun->target->name);
    padded = ((size_t)len + 4) & ~(size_t)3;
    at += designator(at, 3, 0x28, name, padded);
    return (size_t)(at - d);
}

static size_t vpd_extended(uint8_t *d)
{
    d[5] = 0x07; /* SIMPLE, ORDERED, HEAD OF QUEUE */
    d[6] = 0x01; /* V_SUP: there may be a volatile cache */
    return 64;
}

static uint32_t optimal_blocks(const struct scsi_lun *lun)
{
    uint32_t bytes = lun->dev->info.optimal_bytes;
    return bytes ? bytes >> lun->block_shift : 0;
}

static uint32_t unmap_granularity(const struct scsi_lun *lun)
{
    uint32_t physical = lun->dev->info.physical_bytes;
    return physical > lun->block_bytes ? physical >> lun->block_shift : 1;
}

static size_t vpd_limits(const struct scsi_lun *lun, uint8_t *d)
{
    uint32_t max = lun->target->max_transfer >> lun->block_shift;
    uint32_t granularity = unmap_granularity(lun);
    d[4] = 0x01; /* WSNZ */
    d[5] = max / 2 < 255 ? (uint8_t)(max / 2) : 255;
    put_be16(d + 6, granularity > 65535 ? 65535 : granularity);
    put_be32(d + 8, max);
    put_be32(d + 12, optimal_blocks(lun));
    if (lun->id.thin) {
        put_be32(d + 20, 0xffffffff);
        put_be32(d + 24, SCSI_MAX_UNMAP_DESCRIPTORS);
        put_be32(d + 28, granularity);
        put_be32(d + 32, 0x80000000u); /* aligned to 0 */
    }
    put_be64(d + 36, SCSI_MAX_WRITE_SAME_BYTES >> lun->block_shift);
    return 64;
}

static size_t vpd_characteristics(uint8_t *d)
{
    put_be16(d + 4, 1); /* does not rotate */
    d[7] = 0x40;        /* WABEREQ: erased blocks can be read */
    return 64;
}

static size_t vpd_provisioning(const struct scsi_lun *lun, uint8_t *d)
{
    d[4] = 0; /* no threshold sets */
    /* Unmapped blocks read as zeros only if the device below says so. */
    d[5] = (uint8_t)(lun->id.thin ? 0xe0 | (lun->dev->info.discard_zeroes ? 0x04 : 0) : 0);
    d[6] = lun->id.thin ? 2 : 0;
    return 8;
}

void scsi_inquiry_parse(struct scsi_cmd *cmd)
{
    if (!(cmd->cdb[1] & 1) && cmd->cdb[2] != 0) {
        scsi_fail_field(cmd, 2, 7);
    }
}

static const uint8_t vpd_pages[] = {0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2};

void scsi_inquiry(struct scsi_cmd *cmd)
{
    uint8_t d[2048] = {0};
    size_t len;
    size_t alloc = get_be16(cmd->cdb + 3);
    if (!(cmd->cdb[1] & 1)) {
        len = inquiry_standard(cmd, d);
        scsi_reply(cmd, d, len, alloc);
        return;
    }
    const struct scsi_lun *lun = cmd->lun;
    if (!lun) {
        scsi_fail_field(cmd, 2, 7);
        return;
    }
    switch (cmd->cdb[2]) {
    case 0x00:
        memcpy(d + 4, vpd_pages, sizeof(vpd_pages));
        len = 4 + sizeof(vpd_pages);
        break;
    case 0x80:
        len = vpd_serial(lun, d);
        break;
    case 0x83:
        len = vpd_identification(lun, d);
        break;
    case 0x86:
        len = vpd_extended(d);
        break;
    case 0xb0:
        len = vpd_limits(lun, d);
        break;
    case 0xb1:
        len = vpd_characteristics(d);
        break;
    case 0xb2:
        len = vpd_provisioning(lun, d);
        break;
    default:
        scsi_fail_field(cmd, 2, 7);
        return;
    }
    d[1] = cmd->cdb[2];
    put_be16(d + 2, (uint32_t)len - 4);
    scsi_reply(cmd, d, len, alloc);
}

/* ---- REQUEST SENSE, REPORT LUNS ---- */

void scsi_request_sense(struct scsi_cmd *cmd)
{
    struct scsi_cmd pretended = {.lun = cmd->lun};
    struct scsi_lun shown = {0};
    if (cmd->lun) {
        shown.n_blocks = cmd->lun->n_blocks;
        shown.sanitize_done = cmd->lun->sanitize_done;
        if (cmd->lun->sanitizing) {
            pretended.sense.key = SCSI_NOT_READY;
            pretended.sense.asc = ASC_NOT_READY_SANITIZE;
        }
    } else {
        pretended.sense.key = SCSI_ILLEGAL_REQUEST;
        pretended.sense.asc = ASC_NO_SUCH_UNIT;
    }
    shown.d_sense = cmd->cdb[1] & 1; /* DESC decides here, not the mode page */
    pretended.lun = &shown;
    uint8_t sense[SCSI_SENSE_MAX];
    size_t len = scsi_sense_encode(&pretended, sense);
    scsi_reply(cmd, sense, len, cmd->cdb[4]);
}

void scsi_report_luns(struct scsi_cmd *cmd)
{
    uint8_t d[8 + 8 * TARGET_MAX_LUNS] = {0};
    uint32_t alloc = get_be32(cmd->cdb + 6);
    uint8_t select = cmd->cdb[2];
    if (alloc < 16) {
        scsi_fail_field(cmd, 6, 8);
        return;
    }
    if (select > 2) {
        scsi_fail_field(cmd, 2, 8);
        return;
    }
    uint32_t len = 0;
    for (unsigned i = 0; i < TARGET_MAX_LUNS && select != 1; i++) {
        if (cmd->target->luns[i]) {
            d[8 + len + 1] = (uint8_t)i;
            len += 8;
        }
        cmd->nexus->attentions[i] =
            (uint16_t)(cmd->nexus->attentions[i] & ~(1u << UA_LUNS_CHANGED));
    }
    put_be32(d, len);
    scsi_reply(cmd, d, 8 + len, alloc);
}

/* ---- READ CAPACITY ---- */

void scsi_read_capacity10(struct scsi_cmd *cmd)
{
    uint8_t d[8];
    uint64_t last = cmd->lun->n_blocks - 1;
    put_be32(d, last > 0xffffffff ? 0xffffffff : (uint32_t)last);
    put_be32(d + 4, cmd->lun->block_bytes);
    scsi_reply(cmd, d, sizeof(d), sizeof(d));
}

void scsi_read_capacity16(struct scsi_cmd *cmd)
{
    const struct scsi_lun *lun = cmd->lun;
    uint8_t d[32] = {0};
    put_be64(d, lun->n_blocks - 1);
    put_be32(d + 8, lun->block_bytes);
    uint32_t ratio = lun->dev->info.physical_bytes >> lun->block_shift;
    d[13] = ratio > 1 ? (uint8_t)__builtin_ctz(ratio) & 0x0f : 0;
    if (lun->id.thin) {
        d[14] = (uint8_t)(0x80 | (lun->dev->info.discard_zeroes ? 0x40 : 0));
    }
    scsi_reply(cmd, d, sizeof(d), get_be32(cmd->cdb + 10));
}

/* ---- START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL ---- */

void scsi_start_stop_parse(struct scsi_cmd *cmd)
{
    if ((cmd->cdb[4] >> 4) == 0 && (cmd->cdb[4] & 2)) {
        scsi_fail_field(cmd, 4, 1); /* LOEJ: the medium cannot be ejected */
    }
}

static void stopped_flushed(struct block_req *req)
{
    struct scsi_cmd *cmd = container_of(req, struct scsi_cmd, req);
    if (req->status) {
        scsi_fail_errno(cmd, req->status, true);
        return;
    }
    cmd->lun->stopped = true;
    scsi_good(cmd);
}

void scsi_start_stop(struct scsi_cmd *cmd)
{
    uint8_t condition = cmd->cdb[4] >> 4;
    if (condition != 0) {
        scsi_good(cmd); /* there are no power conditions to go to */
        return;
    }
    if (cmd->cdb[4] & 1) {
        cmd->lun->stopped = false;
        scsi_good(cmd);
        return;
    }
    if (scsi_lun_write_protected(cmd->lun) || (cmd->cdb[4] & 4)) { /* NO_FLUSH */
        cmd->lun->stopped = true;
        scsi_good(cmd);
        return;
    }
    cmd->req.op = BLOCK_FLUSH;
    cmd->req.done = stopped_flushed;
    blockdev_submit(cmd->lun->dev, &cmd->req);
}

void scsi_prevent(struct scsi_cmd *cmd)
{
    scsi_good(cmd); /* nothing can be removed anyway */
}

/* ---- REPORT TARGET PORT GROUPS ---- */

void scsi_report_tpg(struct scsi_cmd *cmd)
{
    uint8_t d[32] = {0};
    size_t head = (cmd->cdb[1] >> 5) == 1 ? 8 : 4;
    uint8_t *group = d + head;
    group[0] = 0x00; /* active/optimized */
    group[1] = 0x81; /* T_SUP, AO_SUP */
    group[3] = 1;
    group[7] = 1;
    group[11] = 1;
    put_be32(d, (uint32_t)(head + 12 - 4));
    if (head == 8) {
        d[4] = 0x10; /* extended header */
    }
    scsi_reply(cmd, d, head + 12, get_be32(cmd->cdb + 6));
}

void scsi_read_defects(struct scsi_cmd *cmd)
{
    bool ten = cmd->cdb[0] == 0x37;
    uint8_t d[8] = {0};
    d[1] = ten ? cmd->cdb[2] & 0x1f : cmd->cdb[1] & 0x1f; /* lists and format as asked; empty */
    scsi_reply(cmd, d, ten ? 4 : 8, ten ? get_be16(cmd->cdb + 7) : get_be32(cmd->cdb + 6));
}

/* ---- REPORT SUPPORTED OPERATION CODES ---- */

enum { TIMEOUTS_LEN = 12 };

static bool op_is_offered(const struct scsi_cmd *cmd, const struct scsi_op *op)
{
    return !(op->flags & OP_THIN) || cmd->lun->id.thin;
}

static size_t put_timeouts(uint8_t *d)
{
    memset(d, 0, TIMEOUTS_LEN);
    put_be16(d, TIMEOUTS_LEN - 2);
    return TIMEOUTS_LEN;
}

static void report_all(struct scsi_cmd *cmd, bool timeouts)
{
    uint8_t d[4 + 128 * (8 + TIMEOUTS_LEN)];
    size_t len = 4;
    for (size_t i = 0; i < scsi_ops_len && i < 128; i++) {
        const struct scsi_op *op = &scsi_ops[i];
        if (!op_is_offered(cmd, op)) {
            continue;
        }
        uint8_t *at = d + len;
        memset(at, 0, 8);
        at[0] = op->opcode;
        if (op->flags & OP_HAS_ACTION) {
            put_be16(at + 2, op->action);
            at[5] |= 0x01;
        }
        at[5] = (uint8_t)(at[5] | (timeouts ? 0x02 : 0));
        put_be16(at + 6, op->cdb_len);
        len += 8;
        if (timeouts) {
            len += put_timeouts(d + len);
        }
    }
    put_be32(d, (uint32_t)len - 4);
    scsi_reply(cmd, d, len, get_be32(cmd->cdb + 6));
}

static void report_one(struct scsi_cmd *cmd, unsigned options, bool timeouts)
{
    uint8_t opcode = cmd->cdb[3];
    unsigned action = get_be16(cmd->cdb + 4);
    const struct scsi_op *any = scsi_op_find(opcode, 0x100);
    bool has_actions = any && (any->flags & OP_HAS_ACTION);
    if (any && ((options == 1 && has_actions) || (options == 2 && !has_actions))) {
        scsi_fail_field(cmd, 2, 2);
        return;
    }
    const struct scsi_op *op = NULL;
    if (action < 32 || !has_actions) {
        op = scsi_op_find(opcode, has_actions ? action : 0);
    }
    if (options == 3 && !has_actions && action != 0) {
        op = NULL;
    }
    uint8_t d[4 + 16 + TIMEOUTS_LEN] = {0};
    size_t len = 4;
    if (!op || !op_is_offered(cmd, op)) {
        d[1] = 0x01; /* not supported */
    } else {
        d[1] = (uint8_t)(0x03 | (timeouts ? 0x80 : 0));
        put_be16(d + 2, op->cdb_len);
        memcpy(d + 4, op->usage, op->cdb_len);
        d[4] = op->opcode;
        if (op->flags & OP_HAS_ACTION) {
            d[5] = (uint8_t)((d[5] & 0xe0) | op->action);
        }
        len += op->cdb_len;
        if (timeouts) {
            len += put_timeouts(d + len);
        }
    }
    scsi_reply(cmd, d, len, get_be32(cmd->cdb + 6));
}

void scsi_report_opcodes_parse(struct scsi_cmd *cmd)
{
    if ((cmd->cdb[2] & 7) > 3) {
        scsi_fail_field(cmd, 2, 2);
    }
}

void scsi_report_opcodes(struct scsi_cmd *cmd)
{
    unsigned options = cmd->cdb[2] & 7;
    bool timeouts = cmd->cdb[2] & 0x80;
    if (options == 0) {
        report_all(cmd, timeouts);
    } else {
        report_one(cmd, options, timeouts);
    }
}

void scsi_report_tmfs(struct scsi_cmd *cmd)
{
    uint8_t d[16] = {0};
    size_t len = cmd->cdb[2] & 0x80 ? 16 : 4;
    d[0] = 0x80 | 0x40 | 0x10 | 0x08; /* ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LU RESET */
    d[3] = (uint8_t)(len - 4);
    scsi_reply(cmd, d, len, get_be32(cmd->cdb + 6));
}
