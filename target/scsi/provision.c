// SPDX-License-Identifier: Apache-2.0
/* Blocks that need no data: UNMAP, WRITE SAME, GET LBA STATUS. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "target/scsi/scsi.h"

static struct scsi_cmd *of_req(struct block_req *req)
{
    return container_of(req, struct scsi_cmd, req);
}

/* ---- UNMAP ---- */

enum { UNMAP_HEAD = 8, UNMAP_DESCRIPTOR = 16 };

void scsi_unmap_parse(struct scsi_cmd *cmd)
{
    cmd->out_len = get_be16(cmd->cdb + 7);
    /* Ordering against others goes by the whole unit: the ranges come with the data. */
    cmd->lba = 0;
    cmd->n_blocks = cmd->lun->n_blocks;
    if (cmd->cdb[1] & 1) {
        scsi_fail_field(cmd, 1, 0); /* ANCHOR */
    }
}

static void unmap_next(struct scsi_cmd *cmd);

static void unmap_done(struct block_req *req)
{
    struct scsi_cmd *cmd = of_req(req);
    if (req->status) {
        scsi_fail_errno(cmd, req->status, true);
        return;
    }
    unmap_next(cmd);
}

static void unmap_next(struct scsi_cmd *cmd)
{
    struct scsi_lun *lun = cmd->lun;
    while (cmd->position < cmd->end) {
        uint8_t d[UNMAP_DESCRIPTOR];
        slices_read(&cmd->out, cmd->position, d, sizeof(d));
        cmd->position += UNMAP_DESCRIPTOR;
        uint64_t n = get_be32(d + 8);
        if (n == 0) {
            continue;
        }
        if (cmd->aborted) {
            scsi_end(cmd, SCSI_TASK_ABORTED);
            return;
        }
        cmd->req.op = lun->dev->info.can_discard ? BLOCK_DISCARD : BLOCK_ZERO;
        cmd->req.flags = BLOCK_MAY_UNMAP;
        cmd->req.offset = get_be64(d) << lun->block_shift;
        cmd->req.len = n << lun->block_shift;
        cmd->req.done = unmap_done;
        blockdev_submit(lun->dev, &cmd->req);
        return;
    }
    scsi_good(cmd);
}

void scsi_unmap(struct scsi_cmd *cmd)
{
    struct scsi_lun *lun = cmd->lun;
    if (cmd->out_len == 0) {
        scsi_good(cmd);
        return;
    }
    if (cmd->out_len < UNMAP_HEAD) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return;
    }
    uint8_t head[UNMAP_HEAD];
    slices_read(&cmd->out, 0, head, sizeof(head));
    size_t list = get_be16(head + 2);
    size_t room = cmd->out_len - UNMAP_HEAD;
    if (list > room) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return;
    }
    list -= list % UNMAP_DESCRIPTOR; /* what is not a whole descriptor does not count */
    if (list / UNMAP_DESCRIPTOR > SCSI_MAX_UNMAP_DESCRIPTORS) {
        scsi_fail_parameter(cmd, 2);
        return;
    }
    for (size_t at = UNMAP_HEAD; at < UNMAP_HEAD + list; at += UNMAP_DESCRIPTOR) {
        uint8_t d[UNMAP_DESCRIPTOR];
        slices_read(&cmd->out, at, d, sizeof(d));
        uint64_t lba = get_be64(d);
        if (lba > lun->n_blocks || get_be32(d + 8) > lun->n_blocks - lba) {
            scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE);
            return;
        }
    }
    cmd->position = UNMAP_HEAD;
    cmd->end = UNMAP_HEAD + list;
    unmap_next(cmd);
}

/* ---- WRITE SAME ---- */

enum { SAME_ANCHOR = 0x10, SAME_UNMAP = 0x08, SAME_NDOB = 0x01 };

static bool has_ndob(const struct scsi_cmd *cmd)
{
    return cmd->cdb[0] == 0x93 && (cmd->cdb[1] & SAME_NDOB);
}

void scsi_write_same_parse(struct scsi_cmd *cmd)
{
    scsi_range_decode(cmd);
    bool unmap = cmd->cdb[1] & SAME_UNMAP;
    if (cmd->cdb[1] & SAME_ANCHOR) {
        scsi_fail_field(cmd, 1, 4);
        return;
    }
    if (unmap && !cmd->lun->id.thin) {
        scsi_fail_field(cmd, 1, 3);
        return;
    }
    unsigned field = cmd->cdb[0] == 0x41 ? 7 : 10;
    if (cmd->n_blocks == 0 || /* WSNZ: zero does not mean "to the end" here */
        cmd->n_blocks << cmd->lun->block_shift > SCSI_MAX_WRITE_SAME_BYTES) {
        scsi_fail_field(cmd, field, 8);
        return;
    }
    if (!scsi_check_range(cmd)) {
        return;
    }
    cmd->out_len = has_ndob(cmd) ? 0 : cmd->lun->block_bytes;
}

static void same_next(struct scsi_cmd *cmd);

static void same_done(struct block_req *req)
{
    struct scsi_cmd *cmd = of_req(req);
    if (req->status) {
        scsi_fail_errno(cmd, req->status, true);
        return;
    }
    same_next(cmd);
}

/* Writes the pattern, which fills the buffer in cmd->in, again and again. */
static void same_next(struct scsi_cmd *cmd)
{
    struct scsi_lun *lun = cmd->lun;
    if (cmd->position == cmd->end) {
        slices_clear(cmd->target->shard, &cmd->in);
        shard_data_returned(cmd->target->shard);
        scsi_good(cmd);
        return;
    }
    if (cmd->aborted) {
        scsi_end(cmd, SCSI_TASK_ABORTED);
        return;
    }
    uint64_t left = cmd->end - cmd->position;
    struct slice *whole = &cmd->in.items[0];
    cmd->part[0] = *whole;
    cmd->part[0].len = left < whole->len ? (size_t)left : whole->len;
    cmd->req.op = BLOCK_WRITE;
    cmd->req.flags = lun->wce ? 0 : BLOCK_FUA;
    cmd->req.offset = cmd->position;
    cmd->req.len = cmd->part[0].len;
    cmd->req.slices = cmd->part;
    cmd->req.n_slices = 1;
    cmd->req.done = same_done;
    cmd->position += cmd->part[0].len;
    blockdev_submit(lun->dev, &cmd->req);
}

static void same_pattern(struct scsi_cmd *cmd)
{
    struct slice *buffer = &cmd->in.items[0];
    size_t block = cmd->lun->block_bytes;
    slices_read(&cmd->out, 0, buffer->data, block);
    for (size_t at = block; at < buffer->len; at += block) {
        memcpy(buffer->data + at, buffer->data, block);
    }
    same_next(cmd);
}

static void same_zero_done(struct block_req *req)
{
    struct scsi_cmd *cmd = of_req(req);
    if (req->status) {
        scsi_fail_errno(cmd, req->status, true);
    } else {
        scsi_good(cmd);
    }
}

static bool out_is_zero(const struct scsi_cmd *cmd)
{
    for (unsigned i = 0; i < cmd->out.count; i++) {
        if (!mem_is_zero(cmd->out.items[i].data, cmd->out.items[i].len)) {
            return false;
        }
    }
    return true;
}

void scsi_write_same(struct scsi_cmd *cmd)
{
    struct scsi_lun *lun = cmd->lun;
    uint64_t offset = cmd->lba << lun->block_shift;
    uint64_t len = cmd->n_blocks << lun->block_shift;
    if (has_ndob(cmd) || out_is_zero(cmd)) {
        cmd->req.op = BLOCK_ZERO;
        cmd->req.flags =
            (cmd->cdb[1] & SAME_UNMAP ? BLOCK_MAY_UNMAP : 0) | (lun->wce ? 0 : BLOCK_FUA);
        cmd->req.offset = offset;
        cmd->req.len = len;
        cmd->req.done = same_zero_done;
        blockdev_submit(lun->dev, &cmd->req);
        return;
    }
    /* Unmapped blocks read as zeros, so another pattern is written even with UNMAP. */
    cmd->position = offset;
    cmd->end = offset + len;
    scsi_get_in(cmd, len < SHARD_LARGE ? (size_t)len : SHARD_LARGE, same_pattern);
}

/* ---- GET LBA STATUS ---- */

/* A device answers for a part of what it is asked; initiators want whole runs, and as many as they have
 * room for. */
enum { STATUS_EXTENTS = 64, STATUS_ROUNDS = 64 };

struct lba_status {
    struct block_extent extents[STATUS_EXTENTS];
    unsigned n;
    unsigned rounds;
};

void scsi_lba_status_parse(struct scsi_cmd *cmd)
{
    cmd->lba = get_be64(cmd->cdb + 2);
    if (cmd->lba >= cmd->lun->n_blocks) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE);
    }
}

static void lba_status_reply(struct scsi_cmd *cmd, const struct block_extent *extents, unsigned n)
{
    struct scsi_lun *lun = cmd->lun;
    uint8_t d[8 + 16 * STATUS_EXTENTS] = {0};
    uint64_t at = cmd->lba << lun->block_shift;
    unsigned count = 0;
    for (unsigned i = 0; i < n; i++) {
        uint64_t end = extents[i].offset + extents[i].len;
        if (end <= at) {
            continue;
        }
        /* To whole blocks; a block that is mapped in part is mapped. */
        uint64_t blocks = (end - at) >> lun->block_shift;
        if (blocks == 0) {
            continue;
        }
        uint8_t status = extents[i].kind == BLOCK_EXTENT_ZERO ? 1 : 0;
        while (blocks > 0 && count < STATUS_EXTENTS) {
            uint32_t part = blocks > 0xffffffff ? 0xffffffff : (uint32_t)blocks;
            uint8_t *out = d + 8 + 16 * count++;
            put_be64(out, at >> lun->block_shift);
            put_be32(out + 8, part);
            out[12] = status;
            at += (uint64_t)part << lun->block_shift;
            blocks -= part;
        }
    }
    put_be32(d, 4 + 16 * count);
    scsi_reply(cmd, d, 8 + 16 * count, get_be32(cmd->cdb + 10));
}

static void lba_status_ask(struct scsi_cmd *cmd, uint64_t offset);

/* What came is joined with what was there. */
static void lba_status_join(struct lba_status *status, unsigned n_new)
{
    const struct block_extent *more = status->extents + status->n;
    for (unsigned i = 0; i < n_new; i++) {
        struct block_extent *last = status->n > 0 ? &status->extents[status->n - 1] : NULL;
        bool zero = more[i].kind == BLOCK_EXTENT_ZERO;
        if (last && (last->kind == BLOCK_EXTENT_ZERO) == zero &&
            last->offset + last->len == more[i].offset) {
            last->len += more[i].len;
        } else {
            status->extents[status->n++] = more[i];
        }
    }
}

static void lba_status_done(struct block_req *req)
{
    struct scsi_cmd *cmd = of_req(req);
    struct scsi_lun *lun = cmd->lun;
    struct lba_status *status = cmd->more;
    if (req->status) {
        scsi_fail_errno(cmd, req->status, false);
        return;
    }
    lba_status_join(status, req->n_extents);
    const struct block_extent *last = &status->extents[status->n - 1];
    uint64_t end = last->offset + last->len;
    uint64_t room = get_be32(cmd->cdb + 10);
    if (end < lun->n_blocks << lun->block_shift && status->n < STATUS_EXTENTS / 2 &&
        8 + 16 * (uint64_t)status->n <= room && ++status->rounds < STATUS_ROUNDS) {
        lba_status_ask(cmd, end);
        return;
    }
    lba_status_reply(cmd, status->extents, status->n);
}

static void lba_status_ask(struct scsi_cmd *cmd, uint64_t offset)
{
    struct scsi_lun *lun = cmd->lun;
    struct lba_status *status = cmd->more;
    uint64_t len = (lun->n_blocks << lun->block_shift) - offset;
    cmd->req.op = BLOCK_MAP;
    cmd->req.flags = 0;
    cmd->req.offset = offset;
    cmd->req.len = len < (UINT64_C(1) << 30) ? len : UINT64_C(1) << 30;
    cmd->req.extents = status->extents + status->n;
    cmd->req.max_extents = STATUS_EXTENTS - status->n;
    cmd->req.done = lba_status_done;
    blockdev_submit(lun->dev, &cmd->req);
}

void scsi_lba_status(struct scsi_cmd *cmd)
{
    struct scsi_lun *lun = cmd->lun;
    uint64_t offset = cmd->lba << lun->block_shift;
    uint64_t len = (lun->n_blocks << lun->block_shift) - offset;
    if (!lun->dev->info.can_map) {
        struct block_extent all = {.offset = offset, .len = len, .kind = BLOCK_EXTENT_DATA};
        lba_status_reply(cmd, &all, 1);
        return;
    }
    struct lba_status *status = malloc(sizeof(*status));
    if (!status) {
        scsi_end(cmd, SCSI_BUSY);
        return;
    }
    status->n = 0;
    status->rounds = 0;
    cmd->more = status;
    lba_status_ask(cmd, offset);
}
