// SPDX-License-Identifier: Apache-2.0
/*
 * EXTENDED COPY between units of this loop, and what became of it (SPC-4, 6.4, 6.17 to 6.21).
 *
 * Descriptors name units by their NAA identifier. A unit of another target may be used if the
 * initiator has a session with that target: then it has shown there that it may. The copy runs
 * within the command, a piece at a time; records of the last copies answer RECEIVE COPY STATUS.
 *
 * A piece:  the source's map ─▶ zeros: zeroed at the other end, nothing is read
 *                            └▶ data, at the same place in both units: the other's map ─▶ the same
 *                               content: it stays (volumes that share layers)
 *                            └▶ else: read, and written or zeroed
 * A map is as old as a read would be; commands that change the source meanwhile have no order anyway.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "target/scsi/scsi.h"

enum {
    HEAD_LID1 = 16,
    HEAD_LID4 = 48,
    CSCD_LEN = 32,
    SEGMENT_LEN = 28,
    MAX_CSCDS = 8,
    MAX_SEGMENTS = 64,
    MAX_LIST = 65536,
    MAX_SEGMENT_BYTES = 0x2000000,
    MAX_RECORDS = 16,
    MAP_EXTENTS = 16,
    TYPE_IDENTIFICATION = 0xe4,
    TYPE_BLOCK_TO_BLOCK = 0x02,
};

struct record {
    struct list link; /* scsi_lun.copies, newest first */
    uint32_t id;
    char port[TARGET_MAX_NAME + 20];
    bool in_progress;
    bool failed;
    uint16_t segments;
    uint64_t bytes;
};

struct segment {
    struct scsi_lun *from;
    struct scsi_lun *to;
    uint64_t from_offset;
    uint64_t to_offset;
    uint64_t len;
};

struct copy {
    struct scsi_cmd *cmd;
    struct record *record;
    struct block_req req;
    struct slice slice;
    struct scsi_lun *units[MAX_CSCDS];
    unsigned n_units;
    unsigned n_segments;
    unsigned at; /* segment */
    uint64_t done;
    uint64_t piece; /* bytes of it under way */
    unsigned n_extents;
    unsigned extent;                          /* the first that is not behind */
    struct block_extent extents[MAP_EXTENTS]; /* of the source, of this segment */
    struct block_extent other;                /* of the other end, at the piece */
    struct segment segments[MAX_SEGMENTS];
};

void scsi_copies_free(struct scsi_lun *lun)
{
    struct list *link;
    while ((link = list_pop_front(&lun->copies))) {
        free(list_entry(link, struct record, link));
    }
}

void scsi_extended_copy_parse(struct scsi_cmd *cmd)
{
    uint32_t len = get_be32(cmd->cdb + 10);
    if (len > MAX_LIST) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return;
    }
    cmd->out_len = len;
}

/* ---- reading the list ---- */

static bool has_session(const struct scsi_target *target, const struct scsi_nexus *nexus)
{
    if (target == nexus->target) {
        return true;
    }
    list_for_each(link, &target->nexuses)
    {
        if (strcasecmp(list_entry(link, struct scsi_nexus, link)->initiator, nexus->initiator) ==
            0) {
            return true;
        }
    }
    return false;
}

static struct scsi_lun *find_unit(const struct scsi_cmd *cmd, const uint8_t *id, size_t len)
{
    list_for_each(link, &cmd->target->shard->luns)
    {
        struct scsi_lun *lun = list_entry(link, struct scsi_lun, shard_link);
        uint8_t naa[16];
        if (scsi_lun_naa(lun, naa) == len && memcmp(naa, id, len) == 0 &&
            has_session(lun->target, cmd->nexus)) {
            return lun;
        }
    }
    return NULL;
}

static bool read_cscd(struct scsi_cmd *cmd, struct copy *copy, const uint8_t *d, unsigned offset)
{
    if (d[0] != TYPE_IDENTIFICATION) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_UNSUPPORTED_TARGET_DESCRIPTOR);
        return false;
    }
    struct scsi_lun *lun = NULL;
    bool null = d[1] & 0x20;
    unsigned designator_type = d[5] & 0x3f;
    if (!null) {
        if ((d[4] & 0x0f) != 1 || designator_type != 3 || (d[1] & 0x1f) != 0) {
            scsi_fail_parameter(cmd, offset + 4);
            return false;
        }
        if (d[7] > 20) {
            scsi_fail_parameter(cmd, offset + 7);
            return false;
        }
        lun = find_unit(cmd, d + 8, d[7]);
        if (!lun) {
            scsi_fail(cmd, SCSI_COPY_ABORTED, ASC_COPY_TARGET_UNREACHABLE);
            return false;
        }
        uint32_t block = get_be24(d + 29);
        if (block != 0 && block != lun->block_bytes) {
            scsi_fail_parameter(cmd, offset + 29);
            return false;
        }
        lun->users++;
    }
    copy->units[copy->n_units++] = lun;
    return true;
}

static bool read_segment(struct scsi_cmd *cmd, struct copy *copy, const uint8_t *d, unsigned offset)
{
    if (d[0] != TYPE_BLOCK_TO_BLOCK) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_UNSUPPORTED_SEGMENT_DESCRIPTOR);
        return false;
    }
    if (get_be16(d + 2) != SEGMENT_LEN - 4) {
        scsi_fail_parameter(cmd, offset + 2);
        return false;
    }
    unsigned from = get_be16(d + 4);
    unsigned to = get_be16(d + 6);
    if (from >= copy->n_units || to >= copy->n_units || !copy->units[from] || !copy->units[to]) {
        scsi_fail(cmd, SCSI_COPY_ABORTED, ASC_COPY_TARGET_UNREACHABLE);
        return false;
    }
    struct segment *segment = &copy->segments[copy->n_segments++];
    segment->from = copy->units[from];
    segment->to = copy->units[to];
    const struct scsi_lun *counted = d[1] & 0x02 ? segment->to : segment->from; /* DC */
    segment->len = (uint64_t)get_be16(d + 10) << counted->block_shift;
    uint64_t from_lba = get_be64(d + 12);
    uint64_t to_lba = get_be64(d + 20);
    uint64_t from_blocks = segment->len >> segment->from->block_shift;
    uint64_t to_blocks = segment->len >> segment->to->block_shift;
    if (from_lba > segment->from->n_blocks || from_blocks > segment->from->n_blocks - from_lba ||
        to_lba > segment->to->n_blocks || to_blocks > segment->to->n_blocks - to_lba) {
        scsi_fail(cmd, SCSI_COPY_ABORTED, ASC_NONE);
        return false;
    }
    if (from_blocks << segment->from->block_shift != segment->len ||
        to_blocks << segment->to->block_shift != segment->len) {
        scsi_fail_parameter(cmd, offset + 10);
        return false;
    }
    segment->from_offset = from_lba << segment->from->block_shift;
    segment->to_offset = to_lba << segment->to->block_shift;
    if (segment->len > 0 && scsi_lun_write_protected(segment->to)) {
        scsi_fail(cmd, SCSI_DATA_PROTECT, ASC_WRITE_PROTECTED);
        return false;
    }
    if (!scsi_reserve_allows(segment->from, cmd->nexus, false) ||
        !scsi_reserve_allows(segment->to, cmd->nexus, true)) {
        scsi_end(cmd, SCSI_RESERVATION_CONFLICT);
        return false;
    }
    return true;
}

/* Header and lengths; false: ended. */
static bool read_head(struct scsi_cmd *cmd, const uint8_t *p, size_t *ret_head, size_t *ret_cscds,
                      size_t *ret_segments, uint32_t *ret_id)
{
    bool lid4 = cmd->op->action == 1;
    size_t head = lid4 ? HEAD_LID4 : HEAD_LID1;
    if (cmd->out_len < head) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return false;
    }
    size_t cscds;
    size_t segments;
    size_t inline_len;
    if (lid4) {
        if (p[0] != 1) {
            scsi_fail_parameter(cmd, 0);
            return false;
        }
        *ret_id = get_be32(p + 20);
        cscds = get_be16(p + 42);
        segments = get_be16(p + 44);
        inline_len = get_be16(p + 46);
    } else {
        *ret_id = p[0];
        cscds = get_be16(p + 2);
        segments = get_be32(p + 8);
        inline_len = get_be32(p + 12);
    }
    if (cscds % CSCD_LEN != 0 || segments > MAX_LIST || inline_len != 0) {
        if (inline_len != 0) {
            scsi_fail_parameter(cmd, lid4 ? 46 : 12);
        } else {
            scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        }
        return false;
    }
    if (cscds / CSCD_LEN > MAX_CSCDS) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_TOO_MANY_TARGETS);
        return false;
    }
    if (head + cscds + segments > cmd->out_len) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return false;
    }
    *ret_head = head;
    *ret_cscds = cscds;
    *ret_segments = segments;
    return true;
}

static bool read_list(struct scsi_cmd *cmd, struct copy *copy, const uint8_t *p, size_t head,
                      size_t cscds, size_t segments)
{
    for (size_t at = head; at < head + cscds; at += CSCD_LEN) {
        if (!read_cscd(cmd, copy, p + at, (unsigned)at)) {
            return false;
        }
    }
    size_t end = head + cscds + segments;
    size_t at = head + cscds;
    while (at < end) {
        if (copy->n_segments == MAX_SEGMENTS) {
            scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_TOO_MANY_SEGMENTS);
            return false;
        }
        if (end - at < SEGMENT_LEN && end - at >= 1 && p[at] == TYPE_BLOCK_TO_BLOCK) {
            scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
            return false;
        }
        if (!read_segment(cmd, copy, p + at, (unsigned)at)) {
            return false;
        }
        at += SEGMENT_LEN;
    }
    return true;
}

/* ---- copying ---- */

static void copy_free(struct copy *copy)
{
    for (unsigned i = 0; i < copy->n_units; i++) {
        if (copy->units[i]) {
            scsi_lun_unuse(copy->units[i]);
        }
    }
    free(copy);
}

static void copy_end(struct copy *copy, int err, bool write)
{
    struct scsi_cmd *cmd = copy->cmd;
    struct record *record = copy->record;
    record->in_progress = false;
    record->failed = err != 0;
    copy_free(copy);
    slices_clear(cmd->target->shard, &cmd->in);
    shard_data_returned(cmd->target->shard);
    if (cmd->aborted) {
        scsi_end(cmd, SCSI_TASK_ABORTED);
    } else if (err == -ENOSPC || err == -EROFS) {
        scsi_fail_errno(cmd, err, write);
    } else if (err) {
        scsi_fail(cmd, SCSI_COPY_ABORTED, ASC_THIRD_PARTY_FAILURE);
    } else {
        scsi_good(cmd);
    }
}

static void copy_step(struct copy *copy);

static void copy_written(struct block_req *req)
{
    struct copy *copy = container_of(req, struct copy, req);
    if (req->status) {
        copy_end(copy, req->status, true);
        return;
    }
    copy->done += copy->piece;
    copy->record->bytes += copy->piece;
    copy_step(copy);
}

static void copy_submit(struct copy *copy, bool source, enum block_op op, unsigned flags,
                        block_done_fn done)
{
    const struct segment *segment = &copy->segments[copy->at];
    struct block_req *req = &copy->req;
    bool payload = op == BLOCK_READ || op == BLOCK_WRITE;
    req->op = op;
    req->flags = flags;
    req->offset = (source ? segment->from_offset : segment->to_offset) + copy->done;
    req->len = op == BLOCK_FLUSH ? 0 : copy->piece;
    req->slices = payload ? &copy->slice : NULL;
    req->n_slices = payload;
    req->done = done;
    blockdev_submit(source ? segment->from->dev : segment->to->dev, req);
}

static void copy_write(struct copy *copy, bool zero)
{
    bool cached = copy->segments[copy->at].to->wce;
    unsigned flags = (zero ? BLOCK_MAY_UNMAP : 0) | (cached ? 0 : BLOCK_FUA);
    copy_submit(copy, false, zero ? BLOCK_ZERO : BLOCK_WRITE, flags, copy_written);
}

static void copy_read(struct block_req *req)
{
    struct copy *copy = container_of(req, struct copy, req);
    if (req->status) {
        copy_end(copy, req->status, false);
        return;
    }
    copy_write(copy, mem_is_zero(copy->slice.data, copy->slice.len));
}

static void copy_data(struct copy *copy)
{
    const struct slice *buffer = &copy->cmd->in.items[0];
    copy->piece = copy->piece < buffer->len ? copy->piece : buffer->len;
    copy->slice = *buffer;
    copy->slice.len = (size_t)copy->piece;
    copy_submit(copy, true, BLOCK_READ, 0, copy_read);
}

/* The piece ends where that extent does, if blocks of both units do. */
static bool piece_cut(struct copy *copy, uint64_t offset, const struct block_extent *extent)
{
    const struct segment *segment = &copy->segments[copy->at];
    uint32_t block = segment->from->block_bytes > segment->to->block_bytes
                         ? segment->from->block_bytes
                         : segment->to->block_bytes;
    uint64_t len = extent->offset + extent->len - offset;
    if (len < copy->piece) {
        len -= len % block;
        copy->piece = len > 0 ? len : block;
        return len > 0;
    }
    return true;
}

static void copy_compared(struct block_req *req)
{
    struct copy *copy = container_of(req, struct copy, req);
    const struct segment *segment = &copy->segments[copy->at];
    const struct block_extent *ours = &copy->extents[copy->extent];
    bool same = !req->status && copy->other.kind == BLOCK_EXTENT_DATA &&
                copy->other.content == ours->content;
    if (req->status || !piece_cut(copy, req->offset, &copy->other) || !same) {
        copy_data(copy);
    } else if (segment->to->wce) {
        copy_written(req);
    } else {
        copy_submit(copy, false, BLOCK_FLUSH, 0, copy_written);
    }
}

static void copy_piece(struct copy *copy)
{
    const struct segment *segment = &copy->segments[copy->at];
    const struct block_extent *extent = &copy->extents[copy->extent];
    bool whole = piece_cut(copy, segment->from_offset + copy->done, extent);
    if (whole && extent->kind == BLOCK_EXTENT_ZERO) {
        copy_write(copy, true);
    } else if (whole && extent->content != 0 && segment->from != segment->to &&
               segment->from_offset == segment->to_offset && segment->to->dev->info.can_map) {
        copy->req.extents = &copy->other;
        copy->req.max_extents = 1;
        copy_submit(copy, false, BLOCK_MAP, BLOCK_CONTENTS, copy_compared);
    } else {
        copy_data(copy);
    }
}

static void copy_mapped(struct block_req *req)
{
    struct copy *copy = container_of(req, struct copy, req);
    copy->n_extents = req->n_extents;
    if (req->status) {
        copy->extents[0] = (struct block_extent){
            .offset = req->offset, .len = req->len, .kind = BLOCK_EXTENT_UNKNOWN};
        copy->n_extents = 1;
    }
    copy->extent = 0;
    copy_piece(copy);
}

static void copy_step(struct copy *copy)
{
    while (copy->at < copy->n_segments && copy->done == copy->segments[copy->at].len) {
        copy->at++;
        copy->record->segments++;
        copy->done = 0;
        copy->n_extents = 0;
    }
    if (copy->at == copy->n_segments || copy->cmd->aborted) {
        copy_end(copy, 0, false);
        return;
    }
    const struct segment *segment = &copy->segments[copy->at];
    uint64_t offset = segment->from_offset + copy->done;
    copy->piece = segment->len - copy->done;
    while (copy->extent < copy->n_extents &&
           copy->extents[copy->extent].offset + copy->extents[copy->extent].len <= offset) {
        copy->extent++;
    }
    if (copy->extent < copy->n_extents) {
        copy_piece(copy);
    } else if (segment->from->dev->info.can_map) {
        copy->req.extents = copy->extents;
        copy->req.max_extents = MAP_EXTENTS;
        copy_submit(copy, true, BLOCK_MAP, BLOCK_CONTENTS, copy_mapped);
    } else {
        copy_data(copy);
    }
}

static void copy_begin(struct scsi_cmd *cmd)
{
    struct copy *copy = (struct copy *)cmd->sibling;
    cmd->sibling = NULL;
    copy_step(copy);
}

static struct record *record_new(struct scsi_cmd *cmd, uint32_t id)
{
    struct scsi_lun *lun = cmd->lun;
    struct record *record = NULL;
    if (lun->n_copies >= MAX_RECORDS) {
        /* The oldest that has ended gives way. */
        for (struct list *link = lun->copies.prev; link != &lun->copies; link = link->prev) {
            struct record *old = list_entry(link, struct record, link);
            if (!old->in_progress) {
                list_remove(link);
                record = old;
                break;
            }
        }
        if (!record) {
            return NULL;
        }
    } else {
        record = malloc(sizeof(*record));
        if (!record) {
            return NULL;
        }
        lun->n_copies++;
    }
    memset(record, 0, sizeof(*record));
    record->id = id;
    record->in_progress = true;
    memcpy(record->port, cmd->nexus->port, sizeof(record->port));
    list_push_front(&lun->copies, &record->link);
    return record;
}

static struct record *record_find(const struct scsi_cmd *cmd, uint32_t id)
{
    list_for_each(link, &cmd->lun->copies)
    {
        struct record *record = list_entry(link, struct record, link);
        if (record->id == id && strcasecmp(record->port, cmd->nexus->port) == 0) {
            return record;
        }
    }
    return NULL;
}

void scsi_extended_copy(struct scsi_cmd *cmd)
{
    if (cmd->out_len == 0) {
        scsi_good(cmd);
        return;
    }
    const uint8_t *p = scsi_parameters(cmd);
    size_t head;
    size_t cscds;
    size_t segments;
    uint32_t id;
    if (!p || !read_head(cmd, p, &head, &cscds, &segments, &id)) {
        return;
    }
    struct record *same = record_find(cmd, id);
    if (same && same->in_progress) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_OPERATION_IN_PROGRESS);
        return;
    }
    struct copy *copy = calloc(1, sizeof(*copy));
    if (!copy) {
        scsi_end(cmd, SCSI_BUSY);
        return;
    }
    copy->cmd = cmd;
    if (!read_list(cmd, copy, p, head, cscds, segments)) {
        copy_free(copy);
        return;
    }
    if (copy->n_segments == 0) {
        copy_free(copy);
        scsi_good(cmd);
        return;
    }
    copy->record = record_new(cmd, id);
    if (!copy->record) {
        copy_free(copy);
        scsi_end(cmd, SCSI_BUSY);
        return;
    }
    cmd->sibling = copy;
    scsi_get_in(cmd, SHARD_LARGE, copy_begin);
}

/* ---- RECEIVE COPY RESULTS ---- */

static void copy_status(struct scsi_cmd *cmd, const struct record *record, bool lid4)
{
    uint8_t d[32] = {0};
    size_t len = lid4 ? 32 : 12;
    uint8_t status = record->in_progress ? 0x00 : record->failed ? 0x02 : 0x01;
    uint64_t count = record->bytes;
    put_be32(d, (uint32_t)len - 4);
    if (lid4) {
        d[4] = cmd->cdb[1] & 0x1f;
        d[5] = record->in_progress ? 0x11 : record->failed ? 0x02 : 0x01;
        put_be16(d + 22, record->segments);
        put_be64(d + 24, count);
    } else {
        d[4] = status;
        put_be16(d + 5, record->segments);
        uint8_t units = 0;
        while (count > 0xffffffff) {
            count >>= 10;
            units++;
        }
        d[7] = units;
        put_be32(d + 8, (uint32_t)count);
    }
    scsi_reply(cmd, d, len, get_be32(cmd->cdb + 10));
}

static void operating_parameters(struct scsi_cmd *cmd)
{
    uint8_t d[46] = {0};
    put_be32(d, sizeof(d) - 4);
    d[4] = 0x01; /* SNLID */
    put_be16(d + 8, MAX_CSCDS);
    put_be16(d + 10, MAX_SEGMENTS);
    put_be32(d + 12, MAX_LIST);
    put_be32(d + 16, MAX_SEGMENT_BYTES);
    put_be16(d + 34, 16); /* concurrent copies */
    d[36] = 16;
    d[37] = (uint8_t)cmd->lun->block_shift;
    d[38] = 0;
    d[39] = 0;
    d[43] = 2;
    d[44] = TYPE_BLOCK_TO_BLOCK;
    d[45] = TYPE_IDENTIFICATION;
    scsi_reply(cmd, d, sizeof(d), get_be32(cmd->cdb + 10));
}

void scsi_copy_results(struct scsi_cmd *cmd)
{
    uint8_t action = cmd->op->action;
    if (action == 3) {
        operating_parameters(cmd);
        return;
    }
    bool lid4 = action == 5;
    const struct record *record = record_find(cmd, lid4 ? get_be32(cmd->cdb + 2) : cmd->cdb[2]);
    if (!record) {
        scsi_fail_field(cmd, 2, 8);
        return;
    }
    if (action == 4) {
        uint8_t d[60] = {0}; /* nothing is held after the command's own sense data */
        put_be32(d, 0);
        scsi_reply(cmd, d, 4, get_be32(cmd->cdb + 10));
        return;
    }
    copy_status(cmd, record, lid4);
}
