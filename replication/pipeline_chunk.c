// SPDX-License-Identifier: Apache-2.0
/*
 * A chunk: a buffer in hand, from the read through the scan to the last write (or the comparison).
 *
 *     start -> [READ_TARGET ->] READ -> scan -> WRITE, run by run -> slot done
 *                  |             |                 |
 *                  +-------------+-----------------+--> retry, with back-off: the same step again
 *
 * All requests of a step are awaited before it is repeated or given up.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "replication/pipeline_private.h"

static void chunk_release(struct chunk *chunk)
{
    struct pipeline *pl = chunk->pl;
    pl->chunks_used--;
    list_push_front(&pl->chunks_free, &chunk->link);
}

static void chunk_finish(struct chunk *chunk)
{
    struct pipeline *pl = chunk->pl;
    window_completed(&pl->window, loop_now_ns(pl->loop) - chunk->started_ns);
    chunk_release(chunk);
    pipeline_price_end(pl, chunk->len);
    slot_done(pl, chunk->seq);
}

/* One of the chunk's requests failed; the others may still be out. */
static void chunk_failed(struct chunk *chunk, enum copy_side side, const struct block_req *req)
{
    if (!chunk->failed) {
        chunk->failed = true;
        chunk->due_ns = 0;
        chunk->again = true;
    }
    if (!chunk->counted && req->status != -ENOTCONN) {
        chunk->counted = true; /* a lost link is not the range's fault */
        chunk->tries++;
    }
    uint64_t due_ns = 0;
    if (pipeline_failed(chunk->pl, side, req, chunk->tries, &due_ns)) {
        chunk->due_ns = due_ns > chunk->due_ns ? due_ns : chunk->due_ns;
    } else {
        chunk->again = false;
    }
}

/* All of the chunk's requests are back, and one of them had failed. */
static void chunk_settle_failure(struct chunk *chunk)
{
    chunk->failed = false;
    chunk->counted = false;
    if (chunk->again) {
        list_push_back(&chunk->pl->chunks_retry, &chunk->link);
    } else {
        chunk_release(chunk);
    }
}

static void chunk_io(struct chunk *chunk, struct io *io, enum copy_side side, enum block_op op,
                     uint8_t *data, uint64_t offset, uint64_t len, block_done_fn done)
{
    io->slice = (struct slice){.data = data, .len = len};
    io->req = (struct block_req){
        .op = op,
        .offset = offset,
        .len = len,
        .done = done,
        .arg = chunk,
    };
    if (op == BLOCK_ZERO) {
        io->req.flags = BLOCK_MAY_UNMAP;
    } else {
        io->req.slices = &io->slice;
        io->req.n_slices = 1;
    }
    chunk->waiting++;
    pipeline_submit(chunk->pl, side, &io->req);
}

static void chunk_write_done(struct block_req *req)
{
    struct chunk *chunk = req->arg;
    struct pipeline *pl = chunk->pl;
    pipeline_completed(pl, COPY_TARGET, req);
    chunk->waiting--;
    if (req->status == 0) {
        uint64_t *counter =
            req->op == BLOCK_ZERO ? &pl->counters->bytes_zeroed : &pl->counters->bytes_written;
        *counter += req->len;
    } else if (req->op == BLOCK_ZERO && req->status == -EOPNOTSUPP) {
        /* From now on as data. */
        pl->zero_unsupported = true;
        chunk->failed = true;
        chunk->again = true;
        chunk->due_ns = 0;
    } else {
        chunk_failed(chunk, COPY_TARGET, req);
    }
    if (chunk->waiting == 0) {
        if (chunk->failed) {
            if (chunk->next_run < chunk->n_runs) {
                list_remove(&chunk->link); /* it was about to go on */
            }
            chunk_settle_failure(chunk);
        } else if (chunk->next_run == chunk->n_runs) {
            chunk_finish(chunk);
        }
    }
    pipeline_pump(pl);
}

static void chunk_write_next(struct chunk *chunk)
{
    struct zero_run *run = &chunk->runs[chunk->next_run];
    struct io *io = &chunk->ios[chunk->next_run];
    chunk->next_run++;
    chunk_io(chunk, io, COPY_TARGET, run->zero ? BLOCK_ZERO : BLOCK_WRITE,
             chunk->data + run->offset, chunk->offset + run->offset, run->len, chunk_write_done);
}

static void chunk_begin_write(struct chunk *chunk)
{
    struct pipeline *pl = chunk->pl;
    chunk->step = CHUNK_WRITE;
    chunk->next_run = 0;
    for (unsigned i = 0; i < chunk->n_runs && pl->zero_unsupported; i++) {
        chunk->runs[i].zero = false; /* the buffer has the zeros */
    }
    list_push_back(&pl->to_write, &chunk->link);
}

/* The target has these zeros already. */
static void chunk_skip_zeros(struct chunk *chunk)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < chunk->n_runs; i++) {
        if (chunk->runs[i].zero) {
            chunk->pl->counters->bytes_skipped += chunk->runs[i].len;
        } else {
            chunk->runs[kept++] = chunk->runs[i];
        }
    }
    chunk->n_runs = kept;
}

/* What was read is in the buffer: finds the zeros. */
static void chunk_scan(struct chunk *chunk)
{
    struct pipeline *pl = chunk->pl;
    struct slot *slot = slot_of(pl, chunk->seq);
    if (chunk->offset >= pl->body_end) {
        chunk->n_runs = 1;
        chunk->runs[0] = (struct zero_run){.len = chunk->target_len};
    } else {
        chunk->n_runs =
            zero_scan(chunk->data, chunk->len, pl->grain, pl->shortest_zero, chunk->runs, RUNS_MAX);
    }
    bool all_zero = chunk->n_runs == 1 && chunk->runs[0].zero;
    if (all_zero && chunk->target_zero) {
        pl->counters->bytes_skipped += chunk->len;
        chunk_finish(chunk);
        return;
    }
    if (all_zero && !pl->zero_unsupported) {
        chunk_release(chunk);
        pipeline_price_end(pl, chunk->len);
        slot_set_state(pl, slot, SLOT_ZERO);
        return;
    }
    if (chunk->target_zero) {
        chunk_skip_zeros(chunk);
    }
    slot_set_state(pl, slot, SLOT_WRITING);
    chunk_begin_write(chunk);
}

static void chunk_compare(struct chunk *chunk)
{
    struct pipeline *pl = chunk->pl;
    if (memcmp(chunk->data, chunk->other, chunk->len) == 0) {
        chunk_finish(chunk);
        return;
    }
    uint64_t at = 0;
    while (chunk->data[at] == chunk->other[at]) {
        at++;
    }
    uint64_t offset = chunk->offset + at;
    chunk_release(chunk);
    pl->cb.mismatch(pl->arg, offset);
}

/* Appends a range that is to be written; the last run takes what is too much for the table. */
static void chunk_add_run(struct chunk *chunk, uint64_t begin, uint64_t end)
{
    struct zero_run *last = &chunk->runs[RUNS_MAX - 1];
    if (chunk->n_runs == RUNS_MAX) {
        last->len = end - last->offset;
        last->zero = false;
        return;
    }
    struct zero_run *run = &chunk->runs[chunk->n_runs++];
    *run = (struct zero_run){.offset = begin, .len = end - begin};
    run->zero = run->len >= chunk->pl->shortest_zero && chunk->data[begin] == 0 &&
                memcmp(chunk->data + begin, chunk->data + begin + 1, run->len - 1) == 0;
}

/* Compare: what differs, grain by grain, is written. */
static void chunk_write_differences(struct chunk *chunk)
{
    struct pipeline *pl = chunk->pl;
    uint64_t written = 0;
    uint64_t begin = 0;
    bool differs = false;
    chunk->n_runs = 0;
    for (uint64_t at = 0; at <= chunk->len; at += pl->grain) {
        bool now = at < chunk->len && memcmp(chunk->data + at, chunk->other + at, pl->grain) != 0;
        if (now && !differs) {
            begin = at;
        } else if (!now && differs) {
            chunk_add_run(chunk, begin, at);
        }
        differs = now;
    }
    for (unsigned i = 0; i < chunk->n_runs; i++) {
        written += chunk->runs[i].len;
    }
    pl->counters->bytes_skipped += chunk->len - written;
    if (chunk->n_runs == 0) {
        chunk_finish(chunk);
        return;
    }
    slot_set_state(pl, slot_of(pl, chunk->seq), SLOT_WRITING);
    chunk_begin_write(chunk);
}

/* What is smaller than a grain, at the end, is written in any case. */
static bool chunk_reads_both(const struct pipeline *pl, uint64_t offset)
{
    return pl->verify || (pl->compare && offset < pl->body_end);
}

static void chunk_read_done(struct block_req *req);

static void chunk_begin_read(struct chunk *chunk)
{
    struct pipeline *pl = chunk->pl;
    if (chunk->step == CHUNK_READ_TARGET) {
        chunk_io(chunk, &chunk->ios[1], COPY_TARGET, BLOCK_READ, chunk->data, chunk->offset,
                 chunk->target_len, chunk_read_done);
        return;
    }
    chunk_io(chunk, &chunk->ios[0], COPY_SOURCE, BLOCK_READ, chunk->data, chunk->offset, chunk->len,
             chunk_read_done);
    if (chunk_reads_both(pl, chunk->offset)) {
        chunk_io(chunk, &chunk->ios[1], COPY_TARGET, BLOCK_READ, chunk->other, chunk->offset,
                 chunk->target_len, chunk_read_done);
    }
}

static void chunk_read_done(struct block_req *req)
{
    struct chunk *chunk = req->arg;
    struct pipeline *pl = chunk->pl;
    enum copy_side side = req == &chunk->ios[0].req ? COPY_SOURCE : COPY_TARGET;
    pipeline_completed(pl, side, req);
    chunk->waiting--;
    if (req->status != 0) {
        chunk_failed(chunk, side, req);
    } else if (side == COPY_SOURCE) {
        pl->counters->bytes_read += req->len;
    }
    if (chunk->waiting == 0) {
        if (chunk->failed) {
            chunk_settle_failure(chunk);
        } else if (pl->mode == PIPELINE_DROP) {
            chunk_release(chunk);
        } else if (chunk->step == CHUNK_READ_TARGET) {
            chunk->step = CHUNK_READ;
            chunk->due_ns = 0;
            list_push_front(&pl->chunks_retry, &chunk->link); /* as soon as the source has room */
        } else if (pl->verify) {
            chunk_compare(chunk);
        } else if (chunk_reads_both(pl, chunk->offset)) {
            chunk_write_differences(chunk);
        } else {
            chunk_scan(chunk);
        }
    }
    pipeline_pump(pl);
}

static bool chunk_read_has_room(const struct pipeline *pl, enum chunk_step step)
{
    if (pl->verify || pl->compare) {
        return pipeline_has_room(pl, COPY_SOURCE) && pipeline_has_room(pl, COPY_TARGET);
    }
    return pipeline_has_room(pl, step == CHUNK_READ_TARGET ? COPY_TARGET : COPY_SOURCE);
}

bool chunk_may_start(const struct pipeline *pl, enum chunk_step step)
{
    return pl->chunks_used < pl->window.size && !list_empty(&pl->chunks_free) &&
           chunk_read_has_room(pl, step);
}

void chunk_start(struct pipeline *pl, enum chunk_step step, uint64_t len, uint64_t target_len,
                 bool target_zero)
{
    struct chunk *chunk = list_entry(list_pop_front(&pl->chunks_free), struct chunk, link);
    pipeline_price_begin(pl);
    pl->chunks_used++;
    chunk->offset = pl->next;
    chunk->len = len;
    chunk->target_len = target_len;
    chunk->target_zero = target_zero;
    chunk->step = step;
    chunk->tries = 0;
    chunk->failed = false;
    chunk->counted = false;
    chunk->started_ns = loop_now_ns(pl->loop);
    chunk->seq = slot_push(pl, len, SLOT_READING);
    chunk_begin_read(chunk);
}

void chunk_drop_all(struct pipeline *pl)
{
    struct list *link;
    while ((link = list_pop_front(&pl->to_write)) != NULL ||
           (link = list_pop_front(&pl->chunks_retry)) != NULL) {
        chunk_release(list_entry(link, struct chunk, link));
    }
}

void chunk_pump_retries(struct pipeline *pl)
{
    if (list_empty(&pl->chunks_retry)) {
        return;
    }
    uint64_t now_ns = loop_now_ns(pl->loop);
    list_for_each_safe(link, following, &pl->chunks_retry)
    {
        struct chunk *chunk = list_entry(link, struct chunk, link);
        if (chunk->due_ns > now_ns) {
            continue;
        }
        if (chunk->step == CHUNK_WRITE) {
            list_remove(link);
            chunk_begin_write(chunk);
        } else if (chunk_read_has_room(pl, chunk->step)) {
            list_remove(link);
            chunk_begin_read(chunk);
        }
    }
}

void chunk_pump_writes(struct pipeline *pl)
{
    struct list *first;
    while ((first = list_first(&pl->to_write)) != NULL && pipeline_has_room(pl, COPY_TARGET)) {
        struct chunk *chunk = list_entry(first, struct chunk, link);
        if (chunk->failed) {
            /* Another piece of it has failed and the rest is still out: that one's end decides. */
            CHECK(chunk->waiting > 0);
            list_remove(first);
            chunk->next_run = chunk->n_runs;
            continue;
        }
        /* Off the list first: nobody may find it there once it can be completed. */
        if (chunk->next_run + 1 == chunk->n_runs) {
            list_remove(first);
        }
        chunk_write_next(chunk);
    }
}
