// SPDX-License-Identifier: Apache-2.0
/*
 * Reading and writing blocks. Read data is sent from the buffers that the device filled; write data
 * goes to the device in the buffers it was received in.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "target/scsi/scsi.h"

enum { CDB_FUA = 0x08 };

void scsi_range_decode(struct scsi_cmd *cmd)
{
    const uint8_t *cdb = cmd->cdb;
    switch (scsi_cdb_len(cdb[0])) {
    case 6:
        cmd->lba = get_be24(cdb + 1) & 0x1fffff;
        cmd->n_blocks = cdb[4] ? cdb[4] : 256;
        break;
    case 10:
        cmd->lba = get_be32(cdb + 2);
        cmd->n_blocks = get_be16(cdb + 7);
        break;
    case 12:
        cmd->lba = get_be32(cdb + 2);
        cmd->n_blocks = get_be32(cdb + 6);
        break;
    default:
        cmd->lba = get_be64(cdb + 2);
        cmd->n_blocks = get_be32(cdb + 10);
        break;
    }
}

/* The byte of the transfer length, for sense data. */
static unsigned length_field(const struct scsi_cmd *cmd)
{
    switch (scsi_cdb_len(cmd->cdb[0])) {
    case 6:
        return 4;
    case 10:
        return 7;
    case 12:
        return 6;
    default:
        return 10;
    }
}

void scsi_rw_parse(struct scsi_cmd *cmd)
{
    scsi_range_decode(cmd);
    if (!scsi_check_range(cmd) ||
        !scsi_check_transfer(cmd, cmd->n_blocks << cmd->lun->block_shift, length_field(cmd))) {
        return;
    }
    if (cmd->op->flags & OP_TAKES_DATA) {
        cmd->out_len = (uint32_t)(cmd->n_blocks << cmd->lun->block_shift);
    }
}

static struct scsi_cmd *of_req(struct block_req *req)
{
    return container_of(req, struct scsi_cmd, req);
}

static void submit(struct scsi_cmd *cmd, enum block_op op, unsigned flags, struct slices *slices,
                   uint64_t len, block_done_fn done)
{
    struct block_req *req = &cmd->req;
    req->op = op;
    req->flags = flags;
    req->offset = cmd->lba << cmd->lun->block_shift;
    req->len = len;
    req->slices = slices ? slices->items : NULL;
    req->n_slices = slices ? slices->count : 0;
    req->done = done;
    blockdev_submit(cmd->lun->dev, req);
}

static uint64_t range_bytes(const struct scsi_cmd *cmd)
{
    return cmd->n_blocks << cmd->lun->block_shift;
}

static bool is_fua(const struct scsi_cmd *cmd)
{
    bool six = scsi_cdb_len(cmd->cdb[0]) == 6;
    return !cmd->lun->wce || (!six && (cmd->cdb[1] & CDB_FUA));
}

/* ---- READ ---- */

static void read_done(struct block_req *req)
{
    struct scsi_cmd *cmd = of_req(req);
    if (req->status) {
        scsi_fail_errno(cmd, req->status, false);
        return;
    }
    cmd->in_len = (uint32_t)range_bytes(cmd);
    scsi_good(cmd);
}

static void read_submit(struct scsi_cmd *cmd)
{
    submit(cmd, BLOCK_READ, is_fua(cmd) ? BLOCK_FUA : 0, &cmd->in, range_bytes(cmd), read_done);
}

void scsi_read(struct scsi_cmd *cmd)
{
    if (cmd->n_blocks == 0) {
        scsi_good(cmd);
        return;
    }
    scsi_get_in(cmd, range_bytes(cmd), read_submit);
}

/* ---- WRITE ---- */

static void write_done(struct block_req *req)
{
    struct scsi_cmd *cmd = of_req(req);
    if (req->status) {
        scsi_fail_errno(cmd, req->status, true);
    } else {
        scsi_good(cmd);
    }
}

/* The initiator may have announced less than the CDB says: whole blocks of that. */
static uint64_t whole_blocks(struct scsi_cmd *cmd)
{
    uint64_t len = 0;
    for (unsigned i = 0; i < cmd->out.count; i++) {
        len += cmd->out.items[i].len;
    }
    uint64_t whole = len & ~(uint64_t)(cmd->lun->block_bytes - 1);
    for (uint64_t extra = len - whole; extra > 0;) {
        struct slice *last = &cmd->out.items[cmd->out.count - 1];
        size_t part = last->len < extra ? last->len : (size_t)extra;
        last->len -= part;
        extra -= part;
        if (last->len == 0) {
            slice_unref(last);
            cmd->out.count--;
        }
    }
    return whole;
}

void scsi_write(struct scsi_cmd *cmd)
{
    uint64_t whole = whole_blocks(cmd);
    if (whole == 0) {
        scsi_good(cmd);
        return;
    }
    submit(cmd, BLOCK_WRITE, is_fua(cmd) ? BLOCK_FUA : 0, &cmd->out, whole, write_done);
}

/* ---- comparing ---- */

/* Compares data-out (or, again and again, the one block of it) with what was read: where the first
 * difference is, or len. */
static size_t compare(const struct scsi_cmd *cmd, size_t len, bool one_block)
{
    unsigned i = 0;
    unsigned j = 0;
    size_t a = 0;
    size_t b = 0;
    size_t block = cmd->lun->block_bytes;
    for (size_t at = 0; at < len;) {
        if (one_block && at % block == 0) {
            i = 0;
            a = 0;
        }
        while (a == cmd->out.items[i].len) {
            i++;
            a = 0;
        }
        while (b == cmd->in.items[j].len) {
            j++;
            b = 0;
        }
        size_t part = cmd->out.items[i].len - a;
        size_t other = cmd->in.items[j].len - b;
        part = part < other ? part : other;
        part = part < len - at ? part : len - at;
        if (one_block && part > block - at % block) {
            part = block - at % block;
        }
        const uint8_t *p = cmd->out.items[i].data + a;
        const uint8_t *q = cmd->in.items[j].data + b;
        if (memcmp(p, q, part) != 0) {
            size_t same = 0;
            while (p[same] == q[same]) {
                same++;
            }
            return at + same;
        }
        a += part;
        b += part;
        at += part;
    }
    return len;
}

static void drop_in(struct scsi_cmd *cmd)
{
    slices_clear(cmd->target->shard, &cmd->in);
    shard_data_returned(cmd->target->shard);
}

static void miscompare(struct scsi_cmd *cmd, size_t where)
{
    drop_in(cmd);
    cmd->sense = (struct scsi_sense){.key = SCSI_MISCOMPARE,
                                     .asc = ASC_MISCOMPARE,
                                     .has_information = true,
                                     .information = where};
    scsi_end(cmd, SCSI_CHECK_CONDITION);
}

/* ---- VERIFY, WRITE AND VERIFY ---- */

static void verify_done(struct block_req *req)
{
    struct scsi_cmd *cmd = of_req(req);
    if (req->status) {
        scsi_fail_errno(cmd, req->status, false);
        return;
    }
    unsigned bytchk = cmd->cdb[1] >> 1 & 3;
    size_t len = range_bytes(cmd);
    size_t same = bytchk ? compare(cmd, len, bytchk == 3) : len;
    if (same < len) {
        miscompare(cmd, same);
        return;
    }
    drop_in(cmd);
    scsi_good(cmd);
}

static void verify_submit(struct scsi_cmd *cmd)
{
    submit(cmd, BLOCK_READ, 0, &cmd->in, range_bytes(cmd), verify_done);
}

void scsi_verify_parse(struct scsi_cmd *cmd)
{
    scsi_range_decode(cmd);
    unsigned bytchk = cmd->cdb[1] >> 1 & 3;
    if (bytchk == 2) {
        scsi_fail_field(cmd, 1, 2);
        return;
    }
    if (!scsi_check_range(cmd)) {
        return;
    }
    if (bytchk == 0) {
        return;
    }
    if (!scsi_check_transfer(cmd, range_bytes(cmd), length_field(cmd))) {
        return;
    }
    cmd->out_len =
        bytchk == 3 && cmd->n_blocks > 0 ? cmd->lun->block_bytes : (uint32_t)range_bytes(cmd);
}

void scsi_verify(struct scsi_cmd *cmd)
{
    unsigned bytchk = cmd->cdb[1] >> 1 & 3;
    if (cmd->n_blocks == 0 || bytchk == 0) {
        /* Nothing to compare with: the medium below looks after itself. */
        scsi_good(cmd);
        return;
    }
    scsi_get_in(cmd, range_bytes(cmd), verify_submit);
}

void scsi_write_verify_parse(struct scsi_cmd *cmd)
{
    if ((cmd->cdb[1] >> 1 & 3) > 1) {
        scsi_fail_field(cmd, 1, 2);
        return;
    }
    scsi_rw_parse(cmd);
}

static void write_verify_written(struct block_req *req)
{
    struct scsi_cmd *cmd = of_req(req);
    if (req->status) {
        scsi_fail_errno(cmd, req->status, true);
        return;
    }
    scsi_get_in(cmd, range_bytes(cmd), verify_submit);
}

void scsi_write_verify(struct scsi_cmd *cmd)
{
    cmd->n_blocks = whole_blocks(cmd) >> cmd->lun->block_shift;
    if (cmd->n_blocks == 0) {
        scsi_good(cmd);
        return;
    }
    submit(cmd, BLOCK_WRITE, BLOCK_FUA, &cmd->out, range_bytes(cmd), write_verify_written);
}

/* ---- PRE-FETCH, SYNCHRONIZE CACHE ---- */

void scsi_prefetch(struct scsi_cmd *cmd)
{
    /* All of it "fits into the cache", or will come as soon: the cache is the device's own. */
    scsi_end(cmd, SCSI_CONDITION_MET);
}

void scsi_sync_parse(struct scsi_cmd *cmd)
{
    scsi_range_decode(cmd);
    scsi_check_range(cmd);
}

void scsi_sync(struct scsi_cmd *cmd)
{
    /* With IMMED too: an answer before the flush would promise what nobody can keep after a crash,
     * and waiting is allowed. */
    cmd->lba = 0;
    submit(cmd, BLOCK_FLUSH, 0, NULL, 0, write_done);
}

/* ---- COMPARE AND WRITE ---- */

void scsi_compare_write_parse(struct scsi_cmd *cmd)
{
    cmd->lba = get_be64(cmd->cdb + 2);
    cmd->n_blocks = cmd->cdb[13];
    if (!scsi_check_range(cmd) || !scsi_check_transfer(cmd, range_bytes(cmd), 13)) {
        return;
    }
    cmd->out_len = (uint32_t)(2 * range_bytes(cmd));
}

static void compare_write_read(struct block_req *req)
{
    struct scsi_cmd *cmd = of_req(req);
    size_t len = range_bytes(cmd);
    if (req->status) {
        scsi_fail_errno(cmd, req->status, false);
        return;
    }
    if (cmd->aborted) {
        scsi_end(cmd, SCSI_TASK_ABORTED);
        return;
    }
    size_t same = compare(cmd, len, false);
    if (same < len) {
        miscompare(cmd, same);
        return;
    }
    /* The second half replaces what was read, in the buffers of the read. */
    size_t at = 0;
    for (unsigned i = 0; i < cmd->in.count; i++) {
        slices_read(&cmd->out, len + at, cmd->in.items[i].data, cmd->in.items[i].len);
        at += cmd->in.items[i].len;
    }
    submit(cmd, BLOCK_WRITE, is_fua(cmd) ? BLOCK_FUA : 0, &cmd->in, len, write_done);
}

static void compare_write_submit(struct scsi_cmd *cmd)
{
    submit(cmd, BLOCK_READ, 0, &cmd->in, range_bytes(cmd), compare_write_read);
}

void scsi_compare_write(struct scsi_cmd *cmd)
{
    if (cmd->n_blocks == 0) {
        scsi_good(cmd);
        return;
    }
    scsi_get_in(cmd, range_bytes(cmd), compare_write_submit);
}

/* ---- ORWRITE ---- */

void scsi_orwrite_parse(struct scsi_cmd *cmd)
{
    scsi_rw_parse(cmd);
}

static void orwrite_read(struct block_req *req)
{
    struct scsi_cmd *cmd = of_req(req);
    if (req->status) {
        scsi_fail_errno(cmd, req->status, false);
        return;
    }
    if (cmd->aborted) {
        scsi_end(cmd, SCSI_TASK_ABORTED);
        return;
    }
    unsigned i = 0;
    size_t a = 0;
    for (unsigned j = 0; j < cmd->in.count; j++) {
        for (size_t b = 0; b < cmd->in.items[j].len; b++) {
            while (a == cmd->out.items[i].len) {
                i++;
                a = 0;
            }
            cmd->in.items[j].data[b] |= cmd->out.items[i].data[a++];
        }
    }
    submit(cmd, BLOCK_WRITE, is_fua(cmd) ? BLOCK_FUA : 0, &cmd->in, range_bytes(cmd), write_done);
}

static void orwrite_submit(struct scsi_cmd *cmd)
{
    submit(cmd, BLOCK_READ, 0, &cmd->in, range_bytes(cmd), orwrite_read);
}

void scsi_orwrite(struct scsi_cmd *cmd)
{
    if (cmd->n_blocks == 0) {
        scsi_good(cmd);
        return;
    }
    scsi_get_in(cmd, range_bytes(cmd), orwrite_submit);
}
