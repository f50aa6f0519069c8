// SPDX-License-Identifier: Apache-2.0
/*
 * How map entries get to the disk.
 *
 * Commit:      sync of the data ─▶ record with the entries ─▶ sync ─▶ flushes complete
 *              (no entries: the first sync is all). Flushes that come meanwhile share the next.
 * Log:         two halves. Epoch e fills half e % 2. When it is full, epoch e + 1 begins in the
 *              other half, which is allowed once the checkpoint that e began with has ended.
 * Checkpoint:  the pages that were dirty when the epoch began: image, sync of the data it speaks
 *              of, then each into its other slot, sync. In the background, 64 pages at a time.
 *
 * Invariants:
 *  - one record is under way at a time, so a valid record behind an invalid one means damage;
 *  - a page is written to its slot only after entries for it are durable in the log that a reader
 *    would replay, so a torn slot is always one that the log explains.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "block/layer_object.h"

enum {
    RECORD_ENTRIES_MAX = 16384,
    PENDING_MUCH = 16384,
    DIRTY_MUCH = 8192, /* pages of at most 4 KiB */
    CHECKPOINT_PAGES = 64,
};

void layer_log_add(struct layer *layer, uint64_t first, uint64_t count, enum granule_state state)
{
    struct layer_entry *last = layer->n_pending ? &layer->pending[layer->n_pending - 1] : NULL;
    while (count > 0) {
        uint32_t step = count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
        if (last && last->state == (uint32_t)state && last->first + last->count == first &&
            step <= UINT32_MAX - last->count) {
            last->count += step;
        } else {
            if (layer->n_pending == layer->pending_room) {
                layer->pending_room = layer->pending_room ? layer->pending_room * 2 : 32;
                layer->pending =
                    realloc(layer->pending, layer->pending_room * sizeof(*layer->pending));
                CHECK(layer->pending != NULL);
            }
            last = &layer->pending[layer->n_pending++];
            *last = (struct layer_entry){.first = first, .count = step, .state = (uint32_t)state};
        }
        first += step;
        count -= step;
    }
}

/* ---- checkpoint ---- */

struct layer_checkpoint {
    struct layer *layer;
    uint32_t left; /* pages to take */
    unsigned n;
    unsigned at;
    enum { TAKE, WRITE, LAST_SYNC, END } next;
    struct layer_io io;
    struct iovec iov;
    struct map_page *pages[CHECKPOINT_PAGES];
    uint8_t images[CHECKPOINT_PAGES][LAYER_BLOCK];
};

static void commit_step(struct layer *layer, int status);
static void commit_begin(struct layer *layer);
static void checkpoint_step(struct layer_checkpoint *checkpoint, int status);

static void checkpoint_io_done(struct layer_io *io)
{
    checkpoint_step(io->arg, io->status);
}

static void checkpoint_end(struct layer_checkpoint *checkpoint, int status)
{
    struct layer *layer = checkpoint->layer;
    for (unsigned i = 0; i < checkpoint->n && !status; i++) {
        layer_map_written(checkpoint->pages[i]);
    }
    free(checkpoint);
    layer->checkpoint = NULL;
    if (status) {
        log_error("layer[%s]: its map cannot be written: %s", layer->path, strerror(-status));
        layer->failed = -EIO;
    } else {
        layer->log.checkpoint_done = true;
        layer->stats.checkpoints++;
    }
    layer->busy--;
    if (layer->commit.stalled) {
        layer->commit.stalled = false;
        commit_step(layer, status ? -EIO : 0);
    }
    layer_try_close(layer);
}

static void checkpoint_take(struct layer_checkpoint *checkpoint)
{
    struct layer *layer = checkpoint->layer;
    for (unsigned i = 0; i < checkpoint->n; i++) {
        layer_map_written(checkpoint->pages[i]);
    }
    checkpoint->n = 0;
    checkpoint->at = 0;
    while (checkpoint->n < CHECKPOINT_PAGES && checkpoint->left > 0) {
        struct map_page *page = layer_map_take_dirty(&layer->map);
        CHECK(page != NULL);
        checkpoint->left--;
        uint8_t *image = checkpoint->images[checkpoint->n];
        layer_map_encode(page, image);
        layer_page_seal(image, layer->header.id, page->number, page->generation + 1);
        checkpoint->pages[checkpoint->n++] = page;
    }
}

static void checkpoint_step(struct layer_checkpoint *checkpoint, int status)
{
    struct layer *layer = checkpoint->layer;
    while (status == 0) {
        struct layer_io *io = &checkpoint->io;
        *io = (struct layer_io){.done = checkpoint_io_done, .arg = checkpoint};
        switch (checkpoint->next) {
        case TAKE:
            checkpoint_take(checkpoint);
            io->op = LAYER_IO_SYNC;
            layer->stats.syncs++;
            checkpoint->next = checkpoint->n ? WRITE : END;
            break;
        case WRITE:
            if (checkpoint->at == checkpoint->n) {
                checkpoint->next = checkpoint->left ? TAKE : LAST_SYNC;
                continue;
            }
            struct map_page *page = checkpoint->pages[checkpoint->at];
            checkpoint->iov = (struct iovec){.iov_base = checkpoint->images[checkpoint->at],
                                             .iov_len = LAYER_BLOCK};
            io->op = LAYER_IO_WRITE;
            io->offset = layer_slot_offset(page->number, (page->generation + 1) % 2);
            io->len = LAYER_BLOCK;
            io->iov = &checkpoint->iov;
            io->n_iov = 1;
            if (page->generation < 2) {
                layer_account(layer, LAYER_BLOCK); /* a slot that was never written */
            }
            checkpoint->at++;
            break;
        case LAST_SYNC:
            io->op = LAYER_IO_SYNC;
            layer->stats.syncs++;
            checkpoint->next = END;
            break;
        case END:
            checkpoint_end(checkpoint, 0);
            return;
        }
        status = layer_file_submit(layer->file, io);
    }
    if (status != -EINPROGRESS) {
        checkpoint_end(checkpoint, status);
    }
}

static void checkpoint_start(struct layer *layer, uint32_t n_pages)
{
    struct layer_checkpoint *checkpoint = calloc(1, sizeof(*checkpoint));
    CHECK(checkpoint != NULL && !layer->checkpoint && n_pages <= layer->map.n_dirty);
    checkpoint->layer = layer;
    checkpoint->left = n_pages;
    layer->checkpoint = checkpoint;
    layer->busy++;
    checkpoint_step(checkpoint, 0);
}

/* ---- commit ---- */

static void commit_task(void *arg)
{
    struct layer *layer = arg;
    layer->commit_posted = false;
    layer->busy--;
    commit_begin(layer);
    layer_try_close(layer);
}

/* At the end of the round, so that all flushes of this round are one. */
static void commit_post(struct layer *layer)
{
    if (!layer->commit_posted && !layer->commit.running) {
        layer->commit_posted = true;
        layer->busy++;
        layer->commit_task = (struct loop_task){.fn = commit_task, .arg = layer};
        loop_defer(layer->loop, &layer->commit_task);
    }
}

static bool much(const struct layer *layer)
{
    return layer->n_pending >= PENDING_MUCH && !layer->failed;
}

void layer_commit_if_much(struct layer *layer)
{
    if (much(layer)) {
        commit_post(layer);
    }
}

static void commit_give_back(struct layer *layer)
{
    struct layer_commit *commit = &layer->commit;
    size_t n = commit->n_entries - commit->written;
    size_t room = n + layer->n_pending;
    if (n == 0) {
        return;
    }
    struct layer_entry *entries = calloc(room, sizeof(*entries));
    CHECK(entries != NULL);
    memcpy(entries, commit->entries + commit->written, n * sizeof(*entries));
    if (layer->n_pending > 0) {
        memcpy(entries + n, layer->pending, layer->n_pending * sizeof(*entries));
    }
    free(layer->pending);
    layer->pending = entries;
    layer->n_pending = layer->pending_room = room;
}

static void commit_end(struct layer *layer, int status)
{
    struct layer_commit *commit = &layer->commit;
    free(commit->record);
    commit->record = NULL;
    if (status == -ENOSPC && commit->io.op == LAYER_IO_WRITE) {
        /* The log found no room on the file system. Nothing is lost: the next flush tries again. (A sync that found none may have lost
         * what was written before.) */
        commit_give_back(layer);
    } else if (status) {
        log_error("layer[%s]: a flush failed: %s", layer->path, strerror(-status));
        layer->failed = -EIO;
    }
    uint32_t n_dirty = layer->commit_dirty;
    struct list waits = LIST_INIT(waits);
    list_move_all(&waits, &commit->waits);
    commit->running = false;
    if (!layer->log.checkpoint_done && !layer->checkpoint && !layer->failed && !status) {
        checkpoint_start(layer, n_dirty < layer->map.n_dirty ? n_dirty : layer->map.n_dirty);
    }
    if (!list_empty(&layer->flush_waits) || (much(layer) && !status)) {
        commit_post(layer);
    }
    layer_waits_call(&waits, status);
    layer->busy--;
    layer_try_close(layer);
}

static void commit_io_done(struct layer_io *io)
{
    commit_step(io->arg, io->status);
}

static int commit_io(struct layer *layer, enum layer_io_op op, uint64_t offset, uint64_t len)
{
    struct layer_commit *commit = &layer->commit;
    commit->iov = (struct iovec){.iov_base = commit->record, .iov_len = (size_t)len};
    commit->io = (struct layer_io){.op = op,
                                   .offset = offset,
                                   .len = len,
                                   .iov = &commit->iov,
                                   .n_iov = 1,
                                   .done = commit_io_done,
                                   .arg = layer};
    if (op == LAYER_IO_SYNC) {
        layer->stats.syncs++;
    }
    return layer_file_submit(layer->file, &commit->io);
}

/* The next record; -EINPROGRESS also if it must wait for the checkpoint. */
static int commit_record(struct layer *layer)
{
    struct layer_commit *commit = &layer->commit;
    struct layer_log *log = &layer->log;
    size_t half = layer->header.log_half_bytes;
    size_t most = (half - LAYER_RECORD_HEAD) / LAYER_ENTRY_BYTES;
    size_t n = commit->n_entries - commit->written;
    n = n < RECORD_ENTRIES_MAX ? n : RECORD_ENTRIES_MAX;
    n = n < most ? n : most;
    size_t bytes = layer_record_bytes((uint32_t)n);
    bool full = bytes > half - log->tail;
    bool early = layer->map.n_dirty > DIRTY_MUCH && log->checkpoint_done && log->sequence > 0;
    if (full || early) {
        if (!log->checkpoint_done) {
            commit->stalled = true;
            if (!layer->checkpoint) {
                checkpoint_start(layer, layer->replayed_dirty < layer->map.n_dirty
                                            ? layer->replayed_dirty
                                            : layer->map.n_dirty);
            }
            return -EINPROGRESS;
        }
        log->epoch++;
        log->sequence = 0;
        log->tail = 0;
        log->checkpoint_done = false;
    }
    struct layer_record record = {
        .epoch = log->epoch,
        .sequence = log->sequence,
        .checkpoint_done = log->checkpoint_done,
        .n_entries = (uint32_t)n,
    };
    free(commit->record);
    commit->record = malloc(bytes);
    CHECK(commit->record != NULL);
    layer_record_encode(&record, layer->header.id, commit->entries + commit->written,
                        commit->record);
    commit->taking = n;
    return commit_io(layer, LAYER_IO_WRITE, LAYER_LOG_OFFSET + log->epoch % 2 * half + log->tail,
                     bytes);
}

static void log_account(struct layer *layer)
{
    uint64_t *written = &layer->log_written[layer->log.epoch % 2];
    if (layer->log.tail > *written) {
        layer_account(layer, (int64_t)(layer->log.tail - *written));
        *written = layer->log.tail;
    }
}

enum { COMMIT_DATA, COMMIT_RECORD, COMMIT_SYNC, COMMIT_NEXT };

static void commit_step(struct layer *layer, int status)
{
    struct layer_commit *commit = &layer->commit;
    while (status == 0) {
        switch (commit->step) {
        case COMMIT_DATA:
            layer->unsynced = false;
            commit->step = COMMIT_RECORD;
            status = commit_io(layer, LAYER_IO_SYNC, 0, 0);
            break;
        case COMMIT_RECORD:
            if (commit->written == commit->n_entries) {
                commit_end(layer, 0);
                return;
            }
            status = commit_record(layer);
            if (!commit->stalled) {
                commit->step = COMMIT_SYNC;
            } else if (layer->checkpoint == NULL) {
                CHECK(!"a checkpoint to wait for");
            }
            break;
        case COMMIT_SYNC:
            commit->step = COMMIT_NEXT;
            status = commit_io(layer, LAYER_IO_SYNC, 0, 0);
            break;
        default:
            layer->log.tail += layer_record_bytes((uint32_t)commit->taking);
            log_account(layer);
            layer->log.sequence++;
            commit->written += commit->taking;
            layer->stats.commits++;
            commit->step = COMMIT_RECORD;
        }
    }
    if (status != -EINPROGRESS) {
        commit_end(layer, status);
    }
}

static void commit_begin(struct layer *layer)
{
    struct layer_commit *commit = &layer->commit;
    if (commit->running || (list_empty(&layer->flush_waits) && !much(layer))) {
        return;
    }
    if (layer->failed || (!layer->unsynced && layer->n_pending == 0)) {
        layer_waits_call(&layer->flush_waits, layer->failed);
        return;
    }
    commit->running = true;
    layer->busy++;
    list_move_all(&commit->waits, &layer->flush_waits);
    struct layer_entry *entries = commit->entries;
    size_t room = commit->room;
    commit->entries = layer->pending;
    commit->room = layer->pending_room;
    commit->n_entries = layer->n_pending;
    commit->written = 0;
    layer->pending = entries;
    layer->pending_room = room;
    layer->n_pending = 0;
    layer->commit_dirty = layer->map.n_dirty;
    commit->step = COMMIT_DATA;
    commit_step(layer, 0);
}

void layer_flush_wait(struct layer *layer, struct layer_wait *wait)
{
    list_push_back(&layer->flush_waits, &wait->link);
    commit_post(layer);
}

bool layer_is_dirty(const struct layer *layer)
{
    return layer->unsynced || layer->n_pending > 0 || layer->commit.running || layer->failed;
}

struct flush_call {
    struct layer_wait wait;
    layer_done_fn fn;
    void *arg;
};

static void flush_called(void *arg, int status)
{
    struct flush_call *call = arg;
    call->fn(call->arg, status);
    free(call);
}

void layer_flush(struct layer *layer, layer_done_fn fn, void *arg)
{
    struct flush_call *call = calloc(1, sizeof(*call));
    CHECK(call != NULL);
    call->fn = fn;
    call->arg = arg;
    call->wait = (struct layer_wait){.fn = flush_called, .arg = call};
    layer_flush_wait(layer, &call->wait);
}
