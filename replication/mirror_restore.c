// SPDX-License-Identifier: Apache-2.0
/*
 * What is different while a restore runs (FROM_LEG): granules that are still stale are read from the leg, and a write that
 * covers one in part brings the rest of it over first.
 *
 * The file knows that granules are marked, not which side is right: after a crash the leg is. So nothing is promised to
 * a host that the source alone has: writes and flushes wait for a leg that is away, and a flush also waits
 * until granules of which the source is right (written on both, and the leg was lost before a flush) are on the leg again.
 * That holds until the owner has heard that the restore is done.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "replication/mirror_private.h"

/* A part of a request at one side, or a granule on its way from the leg to the source. */
struct mirror_part {
    struct mirror_op *op;
    struct block_req req;
    uint64_t at; /* of a read: up to here it is done */
    bool from_leg;
    unsigned epoch, source_epoch;
    unsigned n_slices;
    struct slice *slices;
    uint8_t granule[CHANGE_GRANULE_BYTES];
    struct slice granule_slice;
};

bool mirror_is_restoring(const struct mirror_core *core)
{
    return core->direction == MIRROR_FROM_LEG ||
           (core->flip_untold && !mirror_progress_is_taken(core->mirror));
}

bool mirror_reads_stale(const struct mirror_op *op)
{
    const struct mirror_core *core = op->core;
    return core->direction == MIRROR_FROM_LEG && !core->leaving && core->phase != MIRROR_TRACKING &&
           change_map_any_stale(core->map, op->req->offset, op->req->len);
}

static struct mirror_part *part_new(struct mirror_op *op)
{
    struct mirror_part *part = calloc(1, sizeof(*part));
    CHECK(part != NULL);
    part->op = op;
    op->part = part;
    return part;
}

static void part_free(struct mirror_op *op)
{
    free(op->part->slices);
    free(op->part);
    op->part = NULL;
}

static void part_submit(struct mirror_part *part, bool at_leg)
{
    struct mirror_core *core = part->op->core;
    part->from_leg = at_leg;
    part->epoch = core->epoch;
    part->source_epoch = core->source_epoch;
    core->leg_inflight += at_leg;
    core->below_inflight += !at_leg;
    blockdev_submit(at_leg ? core->leg : core->below, &part->req);
}

/* True: it went well. */
static bool part_back(struct mirror_part *part)
{
    struct mirror_core *core = part->op->core;
    core->leg_inflight -= part->from_leg;
    core->below_inflight -= !part->from_leg;
    if (part->req.status) {
        if (part->from_leg) {
            mirror_leg_failed(core, part->epoch, &part->req);
        } else {
            mirror_below_failed(core, &part->req);
        }
    }
    mirror_kick(core);
    return part->req.status == 0;
}

/* ---- reads ---- */

/* The slices of the request that lie in [from, to) of it. */
static void part_cut(struct mirror_part *part, uint64_t from, uint64_t to)
{
    const struct block_req *req = part->op->req;
    uint64_t at = 0;
    part->n_slices = 0;
    for (unsigned i = 0; i < req->n_slices; i++) {
        const struct slice *slice = &req->slices[i];
        uint64_t begin = from > at ? from - at : 0;
        uint64_t end = to - at < slice->len ? to - at : slice->len;
        if (to > at && begin < end) {
            part->slices[part->n_slices++] = (struct slice){
                .buffer = slice->buffer, .data = slice->data + begin, .len = end - begin};
        }
        at += slice->len;
    }
}

static void read_next(struct mirror_part *part);

static void read_done(struct block_req *child)
{
    struct mirror_part *part = child->arg;
    struct mirror_op *op = part->op;
    int status = child->status;
    bool from_leg = part->from_leg;
    if (part_back(part)) {
        part->at += child->len;
        if (part->at < op->req->offset + op->req->len) {
            read_next(part);
            return;
        }
    }
    part_free(op);
    if (status && from_leg && !op->core->dev_closing) {
        mirror_op_again(op); /* when the leg is back */
    } else {
        mirror_op_finish(op, status);
    }
}

static void read_again_later(void *arg)
{
    struct mirror_part *part = arg;
    struct mirror_op *op = part->op;
    part_free(op);
    mirror_op_again(op);
}

static void read_next(struct mirror_part *part)
{
    struct mirror_op *op = part->op;
    struct mirror_core *core = op->core;
    const struct block_req *req = op->req;
    uint64_t end;
    bool stale = change_map_stale_run(core->map, part->at, req->offset + req->len, &end) &&
                 core->direction == MIRROR_FROM_LEG;
    if (stale && !core->connected) {
        part->req.task = (struct loop_task){.fn = read_again_later, .arg = part};
        loop_defer(core->loop, &part->req.task);
        return;
    }
    part_cut(part, part->at - req->offset, end - req->offset);
    part->req = (struct block_req){.op = BLOCK_READ,
                                   .offset = part->at,
                                   .len = end - part->at,
                                   .slices = part->slices,
                                   .n_slices = part->n_slices,
                                   .done = read_done,
                                   .arg = part};
    part_submit(part, stale);
}

void mirror_restore_read(struct mirror_op *op)
{
    struct mirror_part *part = part_new(op);
    part->slices = calloc(op->req->n_slices, sizeof(struct slice));
    CHECK(part->slices != NULL);
    part->at = op->req->offset;
    read_next(part);
}

void mirror_restore_map(struct mirror_op *op)
{
    struct block_req *req = op->req;
    req->extents[0] =
        (struct block_extent){.offset = req->offset, .len = req->len, .kind = BLOCK_EXTENT_UNKNOWN};
    req->n_extents = 1;
    mirror_op_refuse(op, 0);
}

void mirror_restore_map_cut(struct mirror_op *op)
{
    struct block_req *req = op->req;
    uint64_t end = req->offset + req->len;
    for (unsigned i = 0; i < req->n_extents; i++) {
        struct block_extent *extent = &req->extents[i];
        if (extent->len >= end - extent->offset) {
            extent->len = end - extent->offset;
            req->n_extents = i + 1;
        }
    }
}

/* ---- writes ---- */

static bool is_stale(const struct mirror_core *core, uint64_t granule)
{
    uint64_t end;
    return change_map_stale_run(core->map, granule, granule + 1, &end);
}

/* The next granule that is stale and not wholly covered. */
static bool partial_granule(const struct mirror_op *op, uint64_t *ret_granule)
{
    const struct mirror_core *core = op->core;
    uint64_t begin = op->req->offset;
    uint64_t end = begin + op->req->len;
    uint64_t first = begin - begin % CHANGE_GRANULE_BYTES;
    uint64_t last = end - end % CHANGE_GRANULE_BYTES;

    uint64_t first_end = first + CHANGE_GRANULE_BYTES < core->spec.size_bytes
                             ? first + CHANGE_GRANULE_BYTES
                             : core->spec.size_bytes;
    if ((begin > first || end < first_end) && is_stale(core, first)) {
        *ret_granule = first;
        return true;
    }
    if (end > last && last > first && end < core->spec.size_bytes && is_stale(core, last)) {
        *ret_granule = last;
        return true;
    }
    return false;
}

static void fetch_written(struct block_req *child)
{
    struct mirror_part *part = child->arg;
    struct mirror_op *op = part->op;
    struct mirror_core *core = op->core;
    int status = child->status;
    uint64_t offset = child->offset;
    uint64_t len = child->len;
    unsigned epoch = part->epoch;
    unsigned source_epoch = part->source_epoch;
    bool well = part_back(part);
    part_free(op);
    if (!well) {
        mirror_write_unfetched(op, status);
        return;
    }
    if (core->connected && epoch == core->epoch && source_epoch == core->source_epoch) {
        change_map_copied(core->map, offset, len);
        core->need_gen++;
    }
    if (mirror_restore_fetch(op)) {
        mirror_write_fetched(op);
    }
}

static void fetch_read(struct block_req *child)
{
    struct mirror_part *part = child->arg;
    struct mirror_op *op = part->op;
    if (!part_back(part)) {
        part_free(op);
        mirror_write_unfetched(op, 0);
        return;
    }
    part->req.op = BLOCK_WRITE;
    part->req.done = fetch_written;
    part_submit(part, false);
}

bool mirror_restore_fetch(struct mirror_op *op)
{
    struct mirror_core *core = op->core;
    uint64_t granule;
    if (!core->connected || !partial_granule(op, &granule)) {
        return true;
    }
    struct mirror_part *part = part_new(op);
    uint64_t left = core->spec.size_bytes - granule;
    uint64_t len = left < CHANGE_GRANULE_BYTES ? left : CHANGE_GRANULE_BYTES;
    part->granule_slice = (struct slice){.data = part->granule, .len = len};
    part->req = (struct block_req){.op = BLOCK_READ,
                                   .offset = granule,
                                   .len = len,
                                   .slices = &part->granule_slice,
                                   .n_slices = 1,
                                   .done = fetch_read,
                                   .arg = part};
    part_submit(part, true);
    return false;
}
