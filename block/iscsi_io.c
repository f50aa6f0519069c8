// SPDX-License-Identifier: Apache-2.0
/*
 * Requests become commands, answers become completions.
 *
 *     submit ─▶ ready ──(all commands sent)──▶ waiting ──(all answered)──▶ done
 *                 ▲                               │
 *                 ├── method refused: zero again ─┤   (RESTART)
 *                 └── FUA without DPOFUA: sync ───┘   (SYNCING)
 *
 * A request is on exactly one of the two lists. Its commands live in slots; a slot is free, at the
 * target, in "retry" (goes out before anything new) or in "delayed" (BUSY and the like). Never more
 * commands are given to the link than the target takes: what waits, waits here, first in first out.
 *
 * Zeros, best way first: WRITE SAME with UNMAP (it must leave zeros, unmapped or written, whatever
 * the alignment), UNMAP of whole granules where LBPRZ promises zeros, WRITE SAME, WRITE. A target
 * that announces a command and then refuses it (ILLEGAL REQUEST) is not asked again in this
 * session. tgtd's aio backing does that, and with "no such LUN" (25/00) at that: for optional
 * commands any ILLEGAL REQUEST is a refusal.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/log.h"
#include "block/iscsi_dev_private.h"

enum {
    ZEROS_BYTES = 65536,
    MAX_TRIES = 12,
    MAX_BUSY_TRIES = 100,
    MAX_MAP_EXTENTS = 262144,
    SAME_MAX_BYTES = 64 << 20,
    UNMAP_MAX_BYTES = 1 << 30,
};

enum { REQ_RESTART = 1, REQ_SYNCING = 2, REQ_READY = 4 };

/* What the device keeps in a request while it has it. */
struct io_state {
    uint64_t next; /* first byte that has no command yet */
    uint64_t end;  /* ZERO, DISCARD; for READ and WRITE: bytes of the current slice that are gone */
    uint32_t outstanding; /* commands */
    int32_t error;
    uint32_t slice;
    uint32_t flags;
};
_Static_assert(sizeof(struct io_state) <= sizeof(((struct block_req *)0)->dev_private),
               "fits into the request");

static const uint8_t zeros[ZEROS_BYTES] __attribute__((aligned(4096)));

static void io_answer(struct iscsi_cmd *cmd);

static struct io_state *state_of(struct block_req *req)
{
    return (struct io_state *)req->dev_private;
}

/* --- lists of requests
 * ---------------------------------------------------------------------------------------- */

static void req_remove(struct req_list *list, struct block_req *req)
{
    if (req->prev != NULL) {
        req->prev->next = req->next;
    } else {
        list->first = req->next;
    }
    if (req->next != NULL) {
        req->next->prev = req->prev;
    } else {
        list->last = req->prev;
    }
    req->next = NULL;
    req->prev = NULL;
}

static void req_push_back(struct req_list *list, struct block_req *req)
{
    req->next = NULL;
    req->prev = list->last;
    if (list->last != NULL) {
        list->last->next = req;
    } else {
        list->first = req;
    }
    list->last = req;
}

static void req_push_front(struct req_list *list, struct block_req *req)
{
    req->prev = NULL;
    req->next = list->first;
    if (list->first != NULL) {
        list->first->prev = req;
    } else {
        list->last = req;
    }
    list->first = req;
}

static void req_to_waiting(struct iscsi_dev *dev, struct block_req *req)
{
    CHECK(state_of(req)->flags & REQ_READY);
    state_of(req)->flags &= ~(uint32_t)REQ_READY;
    req_remove(&dev->ready, req);
    req_push_back(&dev->waiting, req);
}

static void req_to_ready_front(struct iscsi_dev *dev, struct block_req *req)
{
    CHECK(!(state_of(req)->flags & REQ_READY));
    state_of(req)->flags |= REQ_READY;
    req_remove(&dev->waiting, req);
    req_push_front(&dev->ready, req);
}

/* --- from requests to commands
 * -------------------------------------------------------------------------------- */

static bool wants_sync(const struct iscsi_dev *dev, const struct block_req *req)
{
    return (req->flags & BLOCK_FUA) &&
           ((req->op == BLOCK_WRITE && !dev->mode.dpofua) || req->op == BLOCK_ZERO) &&
           !dev->refuses_sync;
}

/* Sets the slice position of a READ or WRITE behind len bytes. */
static void slices_advance(struct block_req *req, uint64_t len)
{
    struct io_state *state = state_of(req);

    while (len > 0) {
        uint64_t left = req->slices[state->slice].len - state->end;

        if (len < left) {
            state->end += len;
            return;
        }
        len -= left;
        state->slice++;
        state->end = 0;
    }
}

/* Points the slot's iovecs at the next bytes of the request: whole blocks, at most max. Returns how
 * many bytes. */
static uint64_t slices_take(struct io_cmd *slot, struct block_req *req, uint64_t max,
                            uint32_t block_bytes)
{
    struct io_state *state = state_of(req);
    uint32_t slice = state->slice;
    uint64_t gone = state->end;
    uint64_t total = 0;
    uint64_t excess;

    slot->n_iov = 0;
    while (total < max && slot->n_iov < IO_MAX_IOV && slice < req->n_slices) {
        uint64_t len = req->slices[slice].len - gone;

        if (len > max - total) {
            len = max - total;
        }
        if (len > 0) {
            slot->iov[slot->n_iov].iov_base = req->slices[slice].data + gone;
            slot->iov[slot->n_iov].iov_len = len;
            slot->n_iov++;
            total += len;
        }
        slice++;
        gone = 0;
    }
    excess = total % block_bytes;
    total -= excess;
    while (excess > 0) {
        struct iovec *last = &slot->iov[slot->n_iov - 1];

        if (last->iov_len > excess) {
            last->iov_len -= excess;
            break;
        }
        excess -= last->iov_len;
        slot->n_iov--;
    }
    slices_advance(req, total);
    return total;
}

static void zeros_take(struct io_cmd *slot, uint64_t len)
{
    slot->n_iov = 0;
    while (len > 0) {
        size_t piece = len < ZEROS_BYTES ? len : ZEROS_BYTES;

        CHECK(slot->n_iov < IO_MAX_IOV);
        slot->iov[slot->n_iov].iov_base = (void *)(uintptr_t)zeros;
        slot->iov[slot->n_iov].iov_len = piece;
        slot->n_iov++;
        len -= piece;
    }
}

static uint64_t at_most(uint64_t value, uint64_t limit)
{
    return value < limit ? value : limit;
}

static uint64_t limit_or(uint64_t limit, uint64_t otherwise)
{
    return limit != 0 && limit < otherwise ? limit : otherwise;
}

static uint32_t unmap_granule(const struct iscsi_dev *dev)
{
    return dev->lun.unmap_granularity_blocks != 0 ? dev->lun.unmap_granularity_blocks : 1;
}

/* Blocks from lba to the next granule's beginning. */
static uint64_t to_granule(const struct iscsi_dev *dev, uint64_t lba)
{
    uint64_t granule = unmap_granule(dev);
    uint64_t shift = dev->lun.unmap_alignment_blocks % granule;
    uint64_t rest = (lba + granule - shift) % granule;

    return rest != 0 ? granule - rest : 0;
}

static uint64_t unmap_max_blocks(const struct iscsi_dev *dev)
{
    uint64_t max = limit_or(dev->lun.max_unmap_blocks, UNMAP_MAX_BYTES / dev->lun.block_bytes);
    uint64_t granule = unmap_granule(dev);

    return max > granule ? max / granule * granule : granule;
}

/* Which command does the next piece of a ZERO or DISCARD, and how long it is. */
static enum io_kind piece_choose(const struct iscsi_dev *dev, const struct block_req *req,
                                 uint64_t lba, uint64_t blocks, uint64_t *ret_blocks)
{
    const struct iscsi_lun_info *lun = &dev->lun;
    bool unmap = req->op == BLOCK_DISCARD ||
                 ((req->flags & BLOCK_MAY_UNMAP) && dev->base.info.discard_zeroes);
    uint64_t same_max = limit_or(lun->max_write_same_blocks, SAME_MAX_BYTES / lun->block_bytes);
    uint64_t same_unmap_max =
        limit_or(lun->max_write_same_blocks, UNMAP_MAX_BYTES / lun->block_bytes);
    bool can_unmap = unmap && lun->lbpu && !dev->refuses_unmap;

    if (unmap && lun->lbpws && !dev->refuses_same_unmap && req->op == BLOCK_ZERO) {
        *ret_blocks = at_most(blocks, same_unmap_max);
        return IO_SAME_UNMAP;
    }
    if (req->op == BLOCK_DISCARD) {
        if (can_unmap) {
            *ret_blocks = at_most(blocks, unmap_max_blocks(dev));
            return IO_UNMAP;
        }
        *ret_blocks = at_most(blocks, same_unmap_max);
        return IO_SAME_UNMAP;
    }
    if (can_unmap) {
        uint64_t head = to_granule(dev, lba);
        uint64_t whole = blocks > head ? (blocks - head) / unmap_granule(dev) : 0;

        if (whole > 0 && head == 0) {
            *ret_blocks = at_most(whole * unmap_granule(dev), unmap_max_blocks(dev));
            return IO_UNMAP;
        }
        if (whole > 0) {
            blocks = head;
        }
    }
    if (!dev->refuses_same) {
        *ret_blocks = at_most(blocks, same_max);
        return IO_SAME;
    }
    *ret_blocks = at_most(blocks, dev->max_blocks);
    return IO_WRITE;
}

static void part_add(struct io_cmd *slot, struct block_req *req, uint64_t lba, uint64_t blocks)
{
    slot->parts[slot->n_parts++] =
        (struct io_part){.req = req, .lba = lba, .blocks = (uint32_t)blocks};
    state_of(req)->outstanding++;
}

/* More pieces of the same kind into one UNMAP, also of the requests behind. */
static void unmap_fill(struct iscsi_dev *dev, struct io_cmd *slot)
{
    uint32_t block_bytes = dev->lun.block_bytes;
    unsigned max_parts = (unsigned)at_most(
        dev->lun.max_unmap_descriptors != 0 ? dev->lun.max_unmap_descriptors : 1, IO_MAX_PARTS);
    uint64_t room = unmap_max_blocks(dev) - slot->parts[0].blocks;

    while (slot->n_parts < max_parts && dev->ready.first != NULL) {
        struct block_req *req = dev->ready.first;
        struct io_state *state = state_of(req);
        uint64_t blocks;

        if ((req->op != BLOCK_ZERO && req->op != BLOCK_DISCARD) || (state->flags & REQ_SYNCING) ||
            state->error != 0 ||
            piece_choose(dev, req, state->next / block_bytes,
                         (state->end - state->next) / block_bytes, &blocks) != IO_UNMAP ||
            blocks > room) {
            break;
        }
        part_add(slot, req, state->next / block_bytes, blocks);
        room -= blocks;
        state->next += blocks * block_bytes;
        if (state->next == state->end) {
            req_to_waiting(dev, req);
        }
    }
}

static void slot_free(struct iscsi_dev *dev, struct io_cmd *slot)
{
    list_push_back(&dev->free, &slot->entry);
}

static struct io_cmd *slot_take(struct iscsi_dev *dev)
{
    struct io_cmd *slot = list_entry(list_pop_front(&dev->free), struct io_cmd, entry);

    slot->n_parts = 0;
    slot->n_iov = 0;
    slot->tries = 0;
    return slot;
}

/* The next command of the request at the head of ready. */
static void slot_fill(struct iscsi_dev *dev, struct io_cmd *slot, struct block_req *req)
{
    struct io_state *state = state_of(req);
    uint32_t block_bytes = dev->lun.block_bytes;
    uint64_t lba = state->next / block_bytes;
    uint64_t blocks;
    uint64_t bytes;

    if (req->op == BLOCK_FLUSH || (state->flags & REQ_SYNCING)) {
        slot->kind = IO_SYNC;
        lba = req->op == BLOCK_FLUSH ? 0 : req->offset / block_bytes;
        blocks = req->op == BLOCK_FLUSH ? 0 : req->len / block_bytes;
        if (blocks > UINT32_MAX) {
            lba = 0;
            blocks = 0; /* to the end */
        }
        part_add(slot, req, lba, blocks);
        req_to_waiting(dev, req);
        return;
    }
    switch (req->op) {
    case BLOCK_READ:
    case BLOCK_WRITE:
        slot->kind = req->op == BLOCK_READ ? IO_READ : IO_WRITE;
        bytes = slices_take(
            slot, req,
            at_most(req->offset + req->len - state->next, (uint64_t)dev->max_blocks * block_bytes),
            block_bytes);
        if (bytes == 0) { /* one block in more pieces than there are iovecs */
            state->error = -EINVAL;
            state->next = req->offset + req->len;
        } else {
            part_add(slot, req, lba, bytes / block_bytes);
            state->next += bytes;
        }
        if (state->next == req->offset + req->len) {
            req_to_waiting(dev, req);
        }
        break;
    case BLOCK_MAP:
        slot->kind = IO_MAP;
        part_add(slot, req, lba, 0);
        req_to_waiting(dev, req);
        break;
    default:
        slot->kind = piece_choose(dev, req, lba, (state->end - state->next) / block_bytes, &blocks);
        if (slot->kind == IO_WRITE) {
            zeros_take(slot, blocks * block_bytes);
        }
        part_add(slot, req, lba, blocks);
        state->next += blocks * block_bytes;
        if (state->next == state->end) {
            req_to_waiting(dev, req);
        }
        if (slot->kind == IO_UNMAP) {
            unmap_fill(dev, slot);
        }
        break;
    }
}

/* --- from commands to bytes
 * ----------------------------------------------------------------------------------- */

static void rw_encode(const struct iscsi_dev *dev, struct io_cmd *slot)
{
    struct iscsi_cmd *cmd = &slot->cmd;
    const struct io_part *part = &slot->parts[0];
    bool write = slot->kind == IO_WRITE;
    uint8_t fua =
        write && (part->req->flags & BLOCK_FUA) && dev->mode.dpofua && part->req->op == BLOCK_WRITE
            ? 0x08
            : 0;

    if (dev->refuses_rw16 && part->lba + part->blocks <= UINT32_MAX) {
        cmd->cdb[0] = write ? 0x2a : 0x28;
        cmd->cdb[1] = fua;
        put_be32(cmd->cdb + 2, (uint32_t)part->lba);
        put_be16(cmd->cdb + 7, (uint16_t)part->blocks);
        cmd->cdb_len = 10;
    } else {
        cmd->cdb[0] = write ? 0x8a : 0x88;
        cmd->cdb[1] = fua;
        put_be64(cmd->cdb + 2, part->lba);
        put_be32(cmd->cdb + 10, part->blocks);
        cmd->cdb_len = 16;
    }
    cmd->direction = write ? ISCSI_CMD_WRITE : ISCSI_CMD_READ;
    cmd->len = part->blocks * dev->lun.block_bytes;
}

static void unmap_encode(struct io_cmd *slot)
{
    struct iscsi_cmd *cmd = &slot->cmd;
    uint32_t len = 8 + 16 * slot->n_parts;
    uint8_t *at = slot->parameters + 8;

    memset(slot->parameters, 0, len);
    put_be16(slot->parameters, (uint16_t)(len - 2));
    put_be16(slot->parameters + 2, (uint16_t)(len - 8));
    for (unsigned i = 0; i < slot->n_parts; i++, at += 16) {
        put_be64(at, slot->parts[i].lba);
        put_be32(at + 8, slot->parts[i].blocks);
    }
    cmd->cdb[0] = 0x42;
    put_be16(cmd->cdb + 7, (uint16_t)len);
    cmd->cdb_len = 10;
    cmd->direction = ISCSI_CMD_WRITE;
    cmd->len = len;
    slot->iov[0] = (struct iovec){.iov_base = slot->parameters, .iov_len = len};
    slot->n_iov = 1;
}

static void same_encode(const struct iscsi_dev *dev, struct io_cmd *slot)
{
    struct iscsi_cmd *cmd = &slot->cmd;

    cmd->cdb[0] = 0x93;
    cmd->cdb[1] = slot->kind == IO_SAME_UNMAP ? 0x08 : 0;
    put_be64(cmd->cdb + 2, slot->parts[0].lba);
    put_be32(cmd->cdb + 10, slot->parts[0].blocks);
    cmd->cdb_len = 16;
    cmd->direction = ISCSI_CMD_WRITE;
    cmd->len = dev->lun.block_bytes;
    zeros_take(slot, cmd->len);
}

static void sync_encode(const struct iscsi_dev *dev, struct io_cmd *slot)
{
    struct iscsi_cmd *cmd = &slot->cmd;
    const struct io_part *part = &slot->parts[0];

    if (dev->refuses_sync16) {
        bool fits = part->lba <= UINT32_MAX && part->blocks <= UINT16_MAX;

        cmd->cdb[0] = 0x35;
        put_be32(cmd->cdb + 2, fits ? (uint32_t)part->lba : 0);
        put_be16(cmd->cdb + 7, fits ? (uint16_t)part->blocks : 0);
        cmd->cdb_len = 10;
    } else {
        cmd->cdb[0] = 0x91;
        put_be64(cmd->cdb + 2, part->lba);
        put_be32(cmd->cdb + 10, part->blocks);
        cmd->cdb_len = 16;
    }
    cmd->direction = ISCSI_CMD_NONE;
}

static void map_encode(struct io_cmd *slot)
{
    struct iscsi_cmd *cmd = &slot->cmd;

    /* Room for whole descriptors only: half a one at the end would be taken for a whole one by
     * many. */
    cmd->cdb[0] = 0x9e;
    cmd->cdb[1] = 0x12;
    put_be64(cmd->cdb + 2, slot->parts[0].lba);
    cmd->len = 8 + 16 * (uint32_t)at_most(slot->parts[0].req->max_extents, MAX_MAP_EXTENTS);
    put_be32(cmd->cdb + 10, cmd->len);
    cmd->cdb_len = 16;
    cmd->direction = ISCSI_CMD_READ;
}

static void slot_send(struct iscsi_dev *dev, struct io_cmd *slot)
{
    struct iscsi_cmd *cmd = &slot->cmd;

    memset(cmd, 0, sizeof(*cmd));
    cmd->fn = io_answer;
    cmd->arg = slot;
    switch (slot->kind) {
    case IO_READ:
    case IO_WRITE:
        rw_encode(dev, slot);
        break;
    case IO_UNMAP:
        unmap_encode(slot);
        break;
    case IO_SAME:
    case IO_SAME_UNMAP:
        same_encode(dev, slot);
        break;
    case IO_SYNC:
        sync_encode(dev, slot);
        break;
    case IO_MAP:
        map_encode(slot);
        break;
    }
    if (slot->n_iov > 0) {
        cmd->iov = slot->iov;
        cmd->n_iov = slot->n_iov;
    }
    dev->stats.commands++;
    if (iscsi_link_send(dev->link, cmd) != 0) {
        /* No memory for a small struct: later there may be. */
        slot->due_ns = loop_now_ns(dev->base.loop) + 100 * MS_NS;
        list_push_back(&dev->delayed, &slot->entry);
        if (!loop_timer_pending(&dev->delay)) {
            loop_timer_start(&dev->delay, 100 * MS_NS);
        }
        return;
    }
    dev->n_sent++;
}

static unsigned io_limit(const struct iscsi_dev *dev)
{
    unsigned limit = dev->limit;

    if (iscsi_link_window(dev->link) < limit) {
        limit = iscsi_link_window(dev->link);
    }
    return limit > 0 ? limit : 1;
}

static void req_settle(struct iscsi_dev *dev, struct block_req *req);

void iscsi_io_pump(struct iscsi_dev *dev)
{
    unsigned limit;

    if (dev->state != ISCSI_DEV_UP) {
        return;
    }
    limit = io_limit(dev);
    dev->base.info.max_inflight = limit;
    /* One waits at the link for a window that is closed: it goes as soon as that opens, and fails if it never does. */
    while (dev->n_sent < limit && (iscsi_link_room(dev->link) > 0 || dev->n_sent == 0)) {
        struct list *entry = list_pop_front(&dev->retry);

        if (entry != NULL) {
            dev->stats.retries++;
            slot_send(dev, list_entry(entry, struct io_cmd, entry));
        } else if (dev->ready.first != NULL && !list_empty(&dev->free)) {
            struct block_req *req = dev->ready.first;
            struct io_cmd *slot = slot_take(dev);

            slot_fill(dev, slot, req);
            if (slot->n_parts == 0) {
                slot_free(dev, slot);
                if (state_of(req)->outstanding == 0) {
                    req_settle(dev, req);
                }
            } else {
                slot_send(dev, slot);
            }
        } else {
            break;
        }
    }
}

/* Where the commands of a request begin and end. False: there is nothing to do. */
static bool req_begin(const struct iscsi_dev *dev, struct block_req *req)
{
    struct io_state *state = state_of(req);
    uint32_t block_bytes = dev->lun.block_bytes;

    state->next = req->offset;
    if (req->op == BLOCK_ZERO) {
        state->end = req->offset + req->len;
    } else if (req->op == BLOCK_DISCARD) {
        /* Whole granules; advice may be ignored at the edges. */
        uint64_t lba = req->offset / block_bytes;
        uint64_t blocks = req->len / block_bytes;
        uint64_t head = to_granule(dev, lba);
        uint64_t whole = blocks > head ? (blocks - head) / unmap_granule(dev) : 0;

        state->next = (lba + head) * block_bytes;
        state->end = state->next + whole * unmap_granule(dev) * block_bytes;
        return whole > 0;
    }
    return true;
}

void iscsi_io_submit(struct iscsi_dev *dev, struct block_req *req)
{
    struct io_state *state = state_of(req);

    memset(state, 0, sizeof(*state));
    if (!req_begin(dev, req) || (req->op == BLOCK_FLUSH && dev->refuses_sync)) {
        blockdev_complete(req, 0);
        return;
    }
    state->flags = REQ_READY;
    req_push_back(&dev->ready, req);
    iscsi_io_pump(dev);
}

/* --- from answers to completions
 * ------------------------------------------------------------------------------ */

/* All that was sent has been answered, and nothing is to be sent: what now? May call done(). */
static void req_settle(struct iscsi_dev *dev, struct block_req *req)
{
    struct io_state *state = state_of(req);

    if (state->flags & REQ_READY) {
        CHECK(state->error != 0);
        req_to_waiting(dev, req);
    }
    if (state->error == 0 && (state->flags & REQ_RESTART)) {
        state->flags &= ~(uint32_t)REQ_RESTART;
        req_begin(dev, req);
        req_to_ready_front(dev, req);
        return;
    }
    if (state->error == 0 && !(state->flags & REQ_SYNCING) && wants_sync(dev, req)) {
        state->flags |= REQ_SYNCING;
        req_to_ready_front(dev, req);
        return;
    }
    req_remove(&dev->waiting, req);
    if (dev->base.submitting > 0) {
        blockdev_complete(req, state->error);
    } else {
        blockdev_complete_now(req, state->error);
    }
}

static void part_done(struct iscsi_dev *dev, struct block_req *req, int status, bool restart)
{
    struct io_state *state = state_of(req);

    CHECK(state->outstanding > 0);
    state->outstanding--;
    if (status != 0 && state->error == 0) {
        state->error = status;
    }
    if (restart) {
        state->flags |= REQ_RESTART;
        /* What was not sent yet is done by the restart. */
        if ((state->flags & REQ_READY)) {
            req_to_waiting(dev, req);
        }
    }
    if (state->outstanding == 0 && (state->error != 0 || !(state->flags & REQ_READY))) {
        req_settle(dev, req);
    }
}

/* The slot is free; its parts are over. */
static void slot_end(struct iscsi_dev *dev, struct io_cmd *slot, int status, bool restart)
{
    struct io_part parts[IO_MAX_PARTS];
    unsigned n = slot->n_parts;

    memcpy(parts, slot->parts, n * sizeof(parts[0]));
    slot_free(dev, slot);
    for (unsigned i = 0; i < n; i++) {
        /* done() may close the device; then every request has been completed. */
        if (dev->state == ISCSI_DEV_CLOSED) {
            return;
        }
        part_done(dev, parts[i].req, status, restart);
    }
}

static void slot_retry(struct iscsi_dev *dev, struct io_cmd *slot, unsigned pause_ms)
{
    if (pause_ms == 0) {
        list_push_back(&dev->retry, &slot->entry);
        return;
    }
    slot->due_ns = loop_now_ns(dev->base.loop) + pause_ms * MS_NS;
    list_push_back(&dev->delayed, &slot->entry);
    if (!loop_timer_pending(&dev->delay) || dev->delay.due_ns > slot->due_ns) {
        loop_timer_start(&dev->delay, pause_ms * MS_NS);
    }
}

static void io_delay_over(void *arg)
{
    struct iscsi_dev *dev = arg;
    uint64_t now = loop_now_ns(dev->base.loop);
    uint64_t next = UINT64_MAX;

    list_for_each_safe(entry, following, &dev->delayed)
    {
        struct io_cmd *slot = list_entry(entry, struct io_cmd, entry);

        if (slot->due_ns <= now) {
            list_remove(entry);
            list_push_back(&dev->retry, entry);
        } else if (slot->due_ns < next) {
            next = slot->due_ns;
        }
    }
    if (next != UINT64_MAX) {
        loop_timer_start(&dev->delay, next - now);
    }
    iscsi_io_pump(dev);
}

static void slot_describe(const struct iscsi_dev *dev, const struct io_cmd *slot, char *text,
                          size_t size)
{
    static const char *const names[] = {
        [IO_READ] = "READ",
        [IO_WRITE] = "WRITE",
        [IO_UNMAP] = "UNMAP",
        [IO_SAME] = "WRITE SAME",
        [IO_SAME_UNMAP] = "WRITE SAME with UNMAP",
        [IO_SYNC] = "SYNCHRONIZE CACHE",
        [IO_MAP] = "GET LBA STATUS",
    };

    snprintf(text, size, "%s at byte %llu, %u blocks", names[slot->kind],
             (unsigned long long)(slot->parts[0].lba * dev->lun.block_bytes),
             slot->parts[0].blocks);
}

/* The target does not do this command. True: the device knows another way, and the slot is settled.
 */
static bool slot_refused(struct iscsi_dev *dev, struct io_cmd *slot)
{
    switch (slot->kind) {
    case IO_READ:
    case IO_WRITE:
        if (slot->cmd.sense.asc != 0x20 || slot->cmd.cdb_len != 16 ||
            slot->parts[0].lba + slot->parts[0].blocks > UINT32_MAX) {
            return false;
        }
        dev->refuses_rw16 = true;
        slot_retry(dev, slot, 0);
        return true;
    case IO_UNMAP:
        dev->refuses_unmap = true;
        if (!dev->lun.lbpws || dev->refuses_same_unmap) {
            dev->base.info.can_discard = false;
        }
        break;
    case IO_SAME_UNMAP:
        dev->refuses_same_unmap = true;
        if (!dev->lun.lbpu || dev->refuses_unmap) {
            dev->base.info.can_discard = false;
        }
        break;
    case IO_SAME:
        dev->refuses_same = true;
        break;
    case IO_SYNC:
        if (!dev->refuses_sync16) {
            dev->refuses_sync16 = true;
            slot_retry(dev, slot, 0);
            return true;
        }
        if (slot->cmd.cdb[0] == 0x91) { /* sent before the first refusal came */
            slot_retry(dev, slot, 0);
            return true;
        }
        if (dev->mode.has_caching && dev->mode.wce) {
            return false; /* there is a cache, and it cannot be flushed */
        }
        dev->refuses_sync = true;
        slot_end(dev, slot, 0, false);
        return true;
    case IO_MAP:
        dev->base.info.can_map = false;
        slot_end(dev, slot, -EOPNOTSUPP, false);
        return true;
    }
    log_info("iscsi[%s] the target refuses %s: another way from now on", dev->name,
             slot->kind == IO_UNMAP  ? "UNMAP"
             : slot->kind == IO_SAME ? "WRITE SAME"
                                     : "WRITE SAME with UNMAP");
    return false;
}

/* An unmap or write same was refused: its requests begin again, or end where there is no other way.
 */
static void slot_restart(struct iscsi_dev *dev, struct io_cmd *slot)
{
    struct io_part parts[IO_MAX_PARTS];
    unsigned n = slot->n_parts;

    memcpy(parts, slot->parts, n * sizeof(parts[0]));
    slot_free(dev, slot);
    for (unsigned i = 0; i < n && dev->state != ISCSI_DEV_CLOSED; i++) {
        bool lost = parts[i].req->op == BLOCK_DISCARD && !dev->base.info.can_discard;

        part_done(dev, parts[i].req, lost ? -EOPNOTSUPP : 0, !lost);
    }
}

static void slot_mapped(struct iscsi_dev *dev, struct io_cmd *slot)
{
    struct block_req *req = slot->parts[0].req;
    uint32_t block_bytes = dev->lun.block_bytes;
    int n = iscsi_lba_status_parse(slot->cmd.data, slot->cmd.data_len, req->offset / block_bytes,
                                   (req->offset + req->len) / block_bytes, block_bytes,
                                   dev->base.info.discard_zeroes, req->extents, req->max_extents);

    if (n < 0) {
        log_warning("iscsi[%s] the target's LBA status makes no sense: not asked again", dev->name);
        dev->base.info.can_map = false;
        req->extents[0] = (struct block_extent){
            .offset = req->offset, .len = req->len, .kind = BLOCK_EXTENT_UNKNOWN};
        n = 1;
    }
    req->n_extents = (unsigned)n;
    slot_end(dev, slot, 0, false);
}

static void slot_good(struct iscsi_dev *dev, struct io_cmd *slot)
{
    const struct io_part *part = &slot->parts[0];
    uint64_t bytes = (uint64_t)part->blocks * dev->lun.block_bytes;
    char text[128];

    dev->fruitful = true;
    if (dev->limit < dev->n_slots && ++dev->good_since_full >= 64) {
        dev->good_since_full = 0;
        dev->limit++;
    }
    if (slot->kind == IO_MAP) {
        slot_mapped(dev, slot);
        return;
    }
    if ((slot->kind == IO_READ || slot->kind == IO_WRITE) && slot->cmd.missing != 0) {
        slot_describe(dev, slot, text, sizeof(text));
        iscsi_dev_note_error(dev, "%s: the target left out %u bytes", text, slot->cmd.missing);
        slot_end(dev, slot, -EIO, false);
        return;
    }
    if (slot->kind == IO_READ) {
        dev->stats.bytes_read += bytes;
    } else if (slot->kind == IO_WRITE) {
        dev->stats.bytes_written += bytes;
    }
    slot_end(dev, slot, 0, false);
}

static void slot_give_up(struct iscsi_dev *dev, struct io_cmd *slot, int status, const char *why)
{
    char text[128];

    slot_describe(dev, slot, text, sizeof(text));
    iscsi_dev_note_error(dev, "%s: %s", text, why);
    slot_end(dev, slot, status, false);
}

/* The LUN does not answer as itself any more: only a new login can tell what it is. */
static void slot_lost(struct iscsi_dev *dev, struct io_cmd *slot, const char *why)
{
    char text[128];
    struct error error;

    slot_describe(dev, slot, text, sizeof(text));
    error_set(&error, ERR_REMOTE_ERROR, "%s: %s", text, why);
    list_push_back(&dev->retry, &slot->entry);
    iscsi_dev_drop_link(dev, &error);
}

static void slot_check(struct iscsi_dev *dev, struct io_cmd *slot)
{
    const struct iscsi_sense *sense = &slot->cmd.sense;
    bool write = slot->kind != IO_READ && slot->kind != IO_MAP;
    unsigned code = ((unsigned)sense->asc << 8) | sense->ascq;
    char text[128];

    iscsi_sense_format(sense, text, sizeof(text));
    if (!sense->valid) {
        if (++slot->tries < MAX_TRIES) {
            slot_retry(dev, slot, 10u << (slot->tries < 6 ? slot->tries : 6));
        } else {
            slot_give_up(dev, slot, -EIO, text);
        }
        return;
    }
    switch (sense->key) {
    case SENSE_NONE:
    case SENSE_RECOVERED:
        slot_good(dev, slot);
        return;
    case SENSE_UNIT_ATTENTION:
        iscsi_dev_note_error(dev, "%s", text);
        if (sense->asc == 0x29 || ++slot->tries >= MAX_TRIES) {
            /* Power on or reset in the middle of a session (a login takes its own away): what was written
             * and not flushed may be gone. For who counts on it that is a lost link. */
            dev->was_reset = sense->asc == 0x29;
            slot_lost(dev, slot, text);
            return;
        }
        /* A few come one behind the other; one that does not end is asked less and less often. */
        slot_retry(dev, slot,
                   slot->tries <= 4 ? 0 : 1u << (slot->tries < 11 ? slot->tries - 4 : 7));
        if (code == 0x2a09 || code == 0x3f03 || code == 0x3f0e) {
            if (slot->tries == 1) {
                log_info("iscsi[%s] %s: looking at the LUN again", dev->name, text);
            }
            iscsi_dev_verify(dev);
        }
        return;
    case SENSE_ILLEGAL_REQUEST:
        if (code == 0x2100 && slot->tries++ == 0) {
            /* Beyond the end, although inside what it said it was. */
            slot_retry(dev, slot, 0);
            iscsi_dev_verify(dev);
            return;
        }
        if (slot->kind == IO_UNMAP || slot->kind == IO_SAME || slot->kind == IO_SAME_UNMAP) {
            slot_refused(dev, slot);
            slot_restart(dev, slot);
            return;
        }
        if (slot_refused(dev, slot)) {
            return;
        }
        if (sense->asc == 0x25) {
            slot_lost(dev, slot, text);
            return;
        }
        slot_give_up(dev, slot, -EIO, text);
        return;
    case SENSE_NOT_READY:
        if (++slot->tries < MAX_TRIES) {
            slot_retry(dev, slot, 20u << (slot->tries < 5 ? slot->tries : 5));
        } else {
            slot_lost(dev, slot, text);
        }
        return;
    case SENSE_ABORTED_COMMAND:
        if (++slot->tries < MAX_TRIES) {
            slot_retry(dev, slot, 1u << (slot->tries < 9 ? slot->tries : 9));
        } else {
            slot_give_up(dev, slot, -EIO, text);
        }
        return;
    case SENSE_DATA_PROTECT:
        slot_give_up(dev, slot, code == 0x2707 ? -ENOSPC : write ? -EROFS : -EIO, text);
        return;
    default:
        slot_give_up(dev, slot, -EIO, text);
        return;
    }
}

static void io_answer(struct iscsi_cmd *cmd)
{
    struct io_cmd *slot = cmd->arg;
    struct iscsi_dev *dev = slot->dev;

    CHECK(dev->n_sent > 0);
    dev->n_sent--;
    switch (cmd->result) {
    case ISCSI_CMD_GOOD:
        slot_good(dev, slot);
        break;
    case ISCSI_CMD_CHECK:
        slot_check(dev, slot);
        break;
    case ISCSI_CMD_FULL:
        dev->limit = dev->n_sent > 0 ? dev->n_sent : 1;
        dev->good_since_full = 0;
        /* fall through */
    case ISCSI_CMD_BUSY:
        iscsi_dev_note_error(dev, "%s", cmd->result == ISCSI_CMD_FULL ? "TASK SET FULL" : "BUSY");
        if (++slot->tries < MAX_BUSY_TRIES) {
            slot_retry(dev, slot, 5u << (slot->tries < 7 ? slot->tries : 7));
        } else {
            slot_give_up(dev, slot, -EIO, "the target is busy all the time");
        }
        break;
    case ISCSI_CMD_CONFLICT:
        slot_give_up(dev, slot, -EBUSY, "RESERVATION CONFLICT: reserved by another initiator");
        break;
    case ISCSI_CMD_ABORTED:
        if (++slot->tries < MAX_TRIES) {
            slot_retry(dev, slot, 1u << (slot->tries < 9 ? slot->tries : 9));
        } else {
            slot_give_up(dev, slot, -EIO, "the target aborts the command again and again");
        }
        break;
    case ISCSI_CMD_REJECTED:
        slot_give_up(dev, slot, -EIO, "the target rejected the command");
        break;
    }
    iscsi_io_pump(dev);
}

/* --- all together
 * --------------------------------------------------------------------------------------------- */

static void slots_free_all(struct iscsi_dev *dev)
{
    list_init(&dev->free);
    list_init(&dev->retry);
    list_init(&dev->delayed);
    for (unsigned i = 0; i < dev->n_slots; i++) {
        list_push_back(&dev->free, &dev->slots[i].entry);
    }
    dev->n_sent = 0;
}

void iscsi_io_fail_all(struct iscsi_dev *dev, int status)
{
    struct req_list lists[] = {dev->waiting, dev->ready};

    CHECK(dev->link == NULL);
    loop_timer_stop(&dev->delay);
    slots_free_all(dev);
    dev->waiting = (struct req_list){NULL, NULL};
    dev->ready = (struct req_list){NULL, NULL};
    for (unsigned i = 0; i < ARRAY_LEN(lists); i++) {
        struct block_req *req = lists[i].first;

        while (req != NULL) {
            struct block_req *next = req->next;

            blockdev_complete(req, status);
            req = next;
        }
    }
}

void iscsi_io_reset(struct iscsi_dev *dev)
{
    dev->limit = dev->n_slots;
    dev->good_since_full = 0;
    dev->refuses_unmap = false;
    dev->refuses_same_unmap = false;
    dev->refuses_same = false;
    dev->refuses_rw16 = false;
    dev->refuses_sync16 = false;
    dev->refuses_sync = false;
    dev->base.info.max_inflight = dev->n_slots;
}

int iscsi_io_init(struct iscsi_dev *dev)
{
    loop_timer_init(&dev->delay, dev->base.loop, io_delay_over, dev);
    dev->slots = calloc(dev->n_slots, sizeof(*dev->slots));
    if (dev->slots == NULL) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < dev->n_slots; i++) {
        dev->slots[i].dev = dev;
    }
    slots_free_all(dev);
    iscsi_io_reset(dev);
    return 0;
}

void iscsi_io_fini(struct iscsi_dev *dev)
{
    free(dev->slots);
    dev->slots = NULL;
}
