// SPDX-License-Identifier: Apache-2.0
/*
 * SANITIZE: every block gone, in the background. Meanwhile all commands that touch the medium are
 * told NOT READY with the progress. A failure is remembered until EXIT FAILURE MODE.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "target/scsi/scsi.h"

enum {
    ACTION_OVERWRITE = 1,
    ACTION_EXIT = 0x1f,
    CDB_IMMED_BIT = 0x80,
    ERASE_STEP = 64 << 20,
};

struct scsi_sanitize {
    struct scsi_lun *lun;
    struct scsi_cmd *cmd; /* waits for the end; NULL: IMMED */
    struct block_req req;
    struct slice slice;
    struct slices pattern; /* OVERWRITE: a buffer full of it */
    bool overwrite;
    bool invert;
    unsigned passes;
    uint64_t position;
    uint64_t total;
    bool flushing;
};

void scsi_sanitize_parse(struct scsi_cmd *cmd)
{
    uint32_t len = get_be16(cmd->cdb + 7);
    if (cmd->op->action != ACTION_OVERWRITE) {
        if (len != 0) {
            scsi_fail_field(cmd, 7, 8);
        }
        return;
    }
    if (len < 5 || len > 4 + cmd->lun->block_bytes) {
        scsi_fail_field(cmd, 7, 8);
        return;
    }
    cmd->out_len = len;
}

void scsi_sanitize_fini(struct scsi_lun *lun)
{
    CHECK(!lun->sanitize);
}

bool scsi_sanitize_detach(struct scsi_cmd *cmd)
{
    struct scsi_sanitize *job = cmd->lun ? cmd->lun->sanitize : NULL;
    if (!job || job->cmd != cmd) {
        return false;
    }
    job->cmd = NULL;
    return true;
}

static void sanitize_end(struct scsi_sanitize *job, int err)
{
    struct scsi_lun *lun = job->lun;
    struct scsi_cmd *cmd = job->cmd;
    slices_clear(lun->target->shard, &job->pattern);
    shard_data_returned(lun->target->shard);
    lun->sanitizing = false;
    lun->sanitize = NULL;
    lun->sanitize_failed = err != 0;
    if (err) {
        log_warning("target[%s] LUN %u: sanitize failed: %s", lun->target->name, lun->number,
                    strerror(-err));
    }
    free(job);
    if (cmd && err) {
        scsi_fail_errno(cmd, err, true);
    } else if (cmd) {
        scsi_good(cmd);
    }
    scsi_lun_unuse(lun);
}

static void sanitize_step(struct scsi_sanitize *job);

static void sanitize_done(struct block_req *req)
{
    struct scsi_sanitize *job = container_of(req, struct scsi_sanitize, req);
    if (req->status || job->flushing || job->lun->removed) {
        sanitize_end(job, req->status ? req->status : job->flushing ? 0 : -ECANCELED);
        return;
    }
    sanitize_step(job);
}

static void sanitize_step(struct scsi_sanitize *job)
{
    struct scsi_lun *lun = job->lun;
    struct block_req *req = &job->req;
    req->done = sanitize_done;
    req->flags = 0;
    if (job->position == job->total && job->passes > 1) {
        job->passes--;
        job->position = 0;
        if (job->invert) {
            struct slice *s = &job->pattern.items[0];
            for (size_t i = 0; i < s->len; i++) {
                s->data[i] = (uint8_t)~s->data[i];
            }
        }
    }
    if (job->position == job->total) {
        job->flushing = true;
        req->op = BLOCK_FLUSH;
        req->offset = req->len = 0;
        req->n_slices = 0;
        blockdev_submit(lun->dev, req);
        return;
    }
    uint64_t left = job->total - job->position;
    req->offset = job->position;
    if (job->overwrite) {
        job->slice = job->pattern.items[0];
        job->slice.len = left < job->slice.len ? (size_t)left : job->slice.len;
        req->op = BLOCK_WRITE;
        req->slices = &job->slice;
        req->n_slices = 1;
        req->len = job->slice.len;
    } else {
        req->op = BLOCK_ZERO;
        req->flags = BLOCK_MAY_UNMAP;
        req->len = left < ERASE_STEP ? left : ERASE_STEP;
    }
    job->position += req->len;
    lun->sanitize_done = job->position >> lun->block_shift;
    blockdev_submit(lun->dev, req);
}

/* The overwrite's parameters; false: ended. */
static bool overwrite_prepare(struct scsi_cmd *cmd, struct scsi_sanitize *job)
{
    uint8_t head[4];
    slices_read(&cmd->out, 0, head, sizeof(head));
    size_t len = get_be16(head + 2);
    job->invert = head[0] & 0x80;
    job->passes = head[0] & 0x1f;
    if (job->passes == 0) {
        scsi_fail_parameter(cmd, 0);
        return false;
    }
    if (len == 0 || len != cmd->out_len - 4) {
        scsi_fail_parameter(cmd, 2);
        return false;
    }
    if (!shard_data_get(cmd->target->shard, &job->pattern, SHARD_LARGE)) {
        scsi_end(cmd, SCSI_BUSY);
        return false;
    }
    /* The pattern begins anew in every block. */
    uint8_t *data = job->pattern.items[0].data;
    size_t block = cmd->lun->block_bytes;
    for (size_t at = 0; at < block; at += len) {
        size_t part = len < block - at ? len : block - at;
        slices_read(&cmd->out, 4, data + at, part);
    }
    for (size_t at = block; at < SHARD_LARGE; at += block) {
        memcpy(data + at, data, block);
    }
    return true;
}

void scsi_sanitize(struct scsi_cmd *cmd)
{
    struct scsi_lun *lun = cmd->lun;
    if (cmd->op->action == ACTION_EXIT) {
        if (lun->sanitizing) {
            scsi_fail(cmd, SCSI_NOT_READY, ASC_NOT_READY_SANITIZE);
            return;
        }
        lun->sanitize_failed = false;
        scsi_good(cmd);
        return;
    }
    struct scsi_sanitize *job = calloc(1, sizeof(*job));
    if (!job) {
        scsi_end(cmd, SCSI_BUSY);
        return;
    }
    job->lun = lun;
    job->overwrite = cmd->op->action == ACTION_OVERWRITE;
    slices_init(&job->pattern);
    if (job->overwrite && !overwrite_prepare(cmd, job)) {
        free(job);
        return;
    }
    job->total = lun->n_blocks << lun->block_shift;
    lun->sanitizing = true;
    lun->sanitize = job;
    lun->sanitize_done = 0;
    lun->users++;
    bool immediate = cmd->cdb[1] & CDB_IMMED_BIT;
    job->cmd = immediate ? NULL : cmd;
    sanitize_step(job);
    if (immediate) {
        scsi_good(cmd);
    }
}
