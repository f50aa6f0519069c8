// SPDX-License-Identifier: Apache-2.0
/*
 * Copying: walks over what is marked, some chunks at a time.
 *
 * The maps of both sides are asked first where much is marked: see mirror_zone.c. The rest:
 *
 *     marked granules ─▶ lock ─▶ read ─▶ scan for zeros ─▶ write ─▶ same, not flushed
 *                                  │                         │
 *                                  └── failed, or overtaken by a host write: marked as before
 *
 * A chunk holds the lock of its range, so the marks of the range are taken away when it has ended, by whoever has the lock;
 * what it copied counts as written and not flushed, so a loss marks it again. A host write does not wait for a chunk
 * that is being read: the chunk is spoiled and its range is read again later; after some of that, or when hosts
 * have the locks of all that is left, the next chunk there is a hard one: it gets in line, and writes wait for it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "replication/mirror_private.h"

enum { SPOILS_MAX = 3, ZERO_SHORTEST = 64 << 10, HARD_BYTES = 64 << 10 };
#define RETRY_MIN_NS (500 * MS_NS)
#define RETRY_MAX_NS (10 * SEC_NS)

/* 1 low, 2 same, 3 high, 4 urgent; 0, not managed, is like 2. */
static unsigned window_floor(unsigned priority)
{
    static const unsigned floors[] = {8, 4, 8, 16, 32};
    return floors[priority < 5 ? priority : 4];
}

void mirror_copy_set_limits(struct mirror_core *core)
{
    window_set_floor(&core->window, window_floor(core->spec.priority));
    throttle_set(&core->throttle, core->spec.bandwidth_limit, loop_now_ns(core->loop));
    mirror_copy_pump(core);
}

static void copy_timer_due(void *arg)
{
    mirror_copy_pump(arg);
}

void mirror_copy_init(struct mirror_core *core)
{
    window_init(&core->window, window_floor(core->spec.priority), MIRROR_CHUNKS_MAX);
    core->throttle = (struct throttle){.rate = core->spec.bandwidth_limit};
    core->spoiled_at = UINT64_MAX;
    loop_timer_init(&core->copy_timer, core->loop, copy_timer_due, core);
}

static bool buffers_take(struct mirror_core *core)
{
    if (core->chunks) {
        return true;
    }
    size_t bytes = (size_t)MIRROR_CHUNKS_MAX * MIRROR_CHUNK_BYTES;
    uint8_t *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) {
        return false;
    }
    core->chunks = calloc(MIRROR_CHUNKS_MAX, sizeof(struct mirror_chunk));
    core->zone = calloc(1, sizeof(*core->zone));
    if (!core->chunks || !core->zone) {
        munmap(data, bytes);
        free(core->chunks);
        free(core->zone);
        core->chunks = NULL;
        core->zone = NULL;
        return false;
    }
    core->buffers = data;
    for (unsigned i = 0; i < MIRROR_CHUNKS_MAX; i++) {
        struct mirror_chunk *chunk = &core->chunks[i];
        chunk->core = core;
        chunk->data = data + (size_t)i * MIRROR_CHUNK_BYTES;
        list_init(&chunk->lock.link);
        list_init(&chunk->lock.ready);
        chunk->lock.chunk = chunk;
        list_push_back(&core->chunks_free, &chunk->link);
    }
    return true;
}

void mirror_copy_rest(struct mirror_core *core)
{
    loop_timer_stop(&core->copy_timer);
    if (core->chunks && core->n_chunks == 0) {
        munmap(core->buffers, (size_t)MIRROR_CHUNKS_MAX * MIRROR_CHUNK_BYTES);
        free(core->chunks);
        free(core->zone);
        core->chunks = NULL;
        core->zone = NULL;
        core->buffers = NULL;
        list_init(&core->chunks_free);
    }
}

bool mirror_copy_is_done(const struct mirror_core *core)
{
    return core->n_chunks == 0 && change_map_marked_bytes(core->map) == 0;
}

/* ---- a chunk ---- */

void mirror_chunk_end(struct mirror_chunk *chunk)
{
    struct mirror_core *core = chunk->core;
    core->n_chunks--;
    core->zone_busy = core->zone_busy && !chunk->zone;
    list_push_front(&core->chunks_free, &chunk->link);
    mirror_lock_remove(core, &chunk->lock);
    if (core->direction == MIRROR_FROM_LEG) {
        mirror_queue_go(core); /* flushes */
    }
    mirror_copy_pump(core);
    if (core->n_chunks == 0) {
        mirror_kick(core);
    }
}

/* The source of it could not be read, or the source of the mirror not written: later. */
static void later(struct mirror_core *core)
{
    uint64_t now_ns = loop_now_ns(core->loop);
    if (now_ns < core->copy_retry_ns) {
        return;
    }
    core->copy_backoff_ns = core->copy_backoff_ns == 0                 ? RETRY_MIN_NS
                            : core->copy_backoff_ns * 2 < RETRY_MAX_NS ? core->copy_backoff_ns * 2
                                                                       : RETRY_MAX_NS;
    core->copy_retry_ns = now_ns + core->copy_backoff_ns;
    loop_timer_start(&core->copy_timer, core->copy_backoff_ns);
}

static void request_failed(struct mirror_chunk *chunk, bool at_leg, const struct block_req *req)
{
    struct mirror_core *core = chunk->core;
    chunk->failed = true;
    if (req->op == BLOCK_ZERO && req->status == -EOPNOTSUPP) {
        *(at_leg ? &core->leg_zero_unsupported : &core->below_zero_unsupported) = true;
    } else if (req->op == BLOCK_MAP && req->status != -ENOTCONN && req->status != -ECANCELED &&
               req->status != -ESTALE) {
        *(at_leg ? &core->leg_map_unusable : &core->below_map_unusable) = true;
    } else if (at_leg) {
        mirror_leg_failed(core, chunk->epoch, req);
    } else {
        mirror_below_failed(core, req);
        later(core);
    }
}

void mirror_chunk_submit(struct mirror_chunk *chunk, struct block_req *req, bool at_leg)
{
    struct mirror_core *core = chunk->core;
    chunk->outstanding++;
    core->leg_inflight += at_leg;
    core->below_inflight += !at_leg;
    blockdev_submit(at_leg ? core->leg : core->below, req);
}

void mirror_chunk_back(struct mirror_chunk *chunk, const struct block_req *req, bool at_leg)
{
    struct mirror_core *core = chunk->core;
    chunk->outstanding--;
    core->leg_inflight -= at_leg;
    core->below_inflight -= !at_leg;
    if (req->status) {
        request_failed(chunk, at_leg, req);
    }
    if (core->leaving) {
        mirror_kick(core);
    }
}

bool mirror_chunk_counts(const struct mirror_chunk *chunk)
{
    const struct mirror_core *core = chunk->core;
    return chunk->epoch == core->epoch && chunk->source_epoch == core->source_epoch;
}

static void chunk_written(struct mirror_chunk *chunk)
{
    struct mirror_core *core = chunk->core;
    if (!chunk->failed && mirror_chunk_counts(chunk)) {
        change_map_copied(core->map, chunk->offset, chunk->len);
        core->need_gen++;
        core->copy_backoff_ns = 0;
        window_completed(&core->window, loop_now_ns(core->loop) - chunk->started_ns);
    }
    mirror_chunk_end(chunk);
}

static void write_done(struct block_req *req)
{
    struct mirror_chunk *chunk = req->arg;
    struct mirror_core *core = chunk->core;
    mirror_chunk_back(chunk, req, !chunk->stale);
    if (req->status == 0) {
        *(req->op == BLOCK_ZERO ? &core->zeroed_bytes : &core->copied_bytes) += req->len;
    }
    if (chunk->outstanding == 0) {
        chunk_written(chunk);
    }
}

static void chunk_write(struct mirror_chunk *chunk)
{
    struct mirror_core *core = chunk->core;
    bool at_leg = !chunk->stale;
    bool no_zero = at_leg ? core->leg_zero_unsupported : core->below_zero_unsupported;
    unsigned n = zero_scan(chunk->data, chunk->len, CHANGE_GRANULE_BYTES, ZERO_SHORTEST,
                           chunk->runs, MIRROR_RUNS);
    chunk->writing = true;
    chunk->outstanding = 1; /* until all are submitted */
    for (unsigned i = 0; i < n; i++) {
        struct zero_run *run = &chunk->runs[i];
        bool zero = run->zero && !no_zero;
        chunk->slices[i] = (struct slice){.data = chunk->data + run->offset, .len = run->len};
        chunk->reqs[i] = (struct block_req){.op = zero ? BLOCK_ZERO : BLOCK_WRITE,
                                            .flags = zero ? BLOCK_MAY_UNMAP : 0,
                                            .offset = chunk->offset + run->offset,
                                            .len = run->len,
                                            .slices = zero ? NULL : &chunk->slices[i],
                                            .n_slices = !zero,
                                            .done = write_done,
                                            .arg = chunk};
        mirror_chunk_submit(chunk, &chunk->reqs[i], at_leg);
    }
    chunk->outstanding--;
}

static void read_done(struct block_req *req)
{
    struct mirror_chunk *chunk = req->arg;
    struct mirror_core *core = chunk->core;
    mirror_chunk_back(chunk, req, chunk->stale);
    if (chunk->failed) {
        mirror_chunk_end(chunk);
    } else if (chunk->spoiled) {
        core->spoils = core->spoiled_at == chunk->offset ? core->spoils + 1 : 1;
        core->spoiled_at = chunk->offset;
        mirror_chunk_end(chunk);
    } else if (!core->connected || chunk->epoch != core->epoch) {
        mirror_chunk_end(chunk);
    } else {
        chunk_write(chunk);
    }
}

/* The writes that it waited for have changed what is marked, and which side is right. False: nothing is left. */
static bool look_again(struct mirror_chunk *chunk)
{
    uint64_t end = chunk->offset + chunk->len;
    struct change_run run;
    if (!change_map_next(chunk->core->map, chunk->offset, chunk->len, false, &run) ||
        run.offset >= end) {
        return false;
    }
    chunk->offset = run.offset;
    chunk->len = run.len < end - run.offset ? run.len : end - run.offset;
    chunk->stale = run.stale;
    return true;
}

void mirror_chunk_locked(struct mirror_chunk *chunk)
{
    struct mirror_core *core = chunk->core;
    if (!core->connected || chunk->epoch != core->epoch || core->below_closing ||
        (chunk->hard && !look_again(chunk))) {
        mirror_chunk_end(chunk);
        return;
    }
    chunk->started_ns = loop_now_ns(core->loop);
    if (chunk->zone) {
        mirror_zone_locked(chunk);
        return;
    }
    chunk->slices[0] = (struct slice){.data = chunk->data, .len = chunk->len};
    chunk->reqs[0] = (struct block_req){.op = BLOCK_READ,
                                        .offset = chunk->offset,
                                        .len = chunk->len,
                                        .slices = &chunk->slices[0],
                                        .n_slices = 1,
                                        .done = read_done,
                                        .arg = chunk};
    mirror_chunk_submit(chunk, &chunk->reqs[0], chunk->stale);
}

static void chunk_start(struct mirror_core *core, const struct change_run *run, bool hard,
                        bool zone)
{
    struct mirror_chunk *chunk =
        list_entry(list_pop_front(&core->chunks_free), struct mirror_chunk, link);
    core->n_chunks++;
    chunk->offset = run->offset;
    chunk->len = run->len;
    chunk->stale = run->stale;
    chunk->writing = chunk->spoiled = chunk->failed = false;
    chunk->zone = zone;
    core->zone_busy |= zone;
    chunk->hard = hard || (!zone && core->spoiled_at == run->offset && core->spoils >= SPOILS_MAX);
    chunk->epoch = core->epoch;
    chunk->source_epoch = core->source_epoch;
    chunk->outstanding = 0;
    chunk->lock.begin = run->offset;
    chunk->lock.end = run->offset + run->len;
    if (mirror_lock_add(core, &chunk->lock)) {
        mirror_chunk_locked(chunk);
    }
}

/* ---- what comes next ---- */

/* The next run that nobody has the lock of. */
static bool find_run(struct mirror_core *core, bool urgent, struct change_run *ret_run)
{
    uint64_t from = urgent ? 0 : core->cursor;
    bool wrapped = from == 0;
    for (;;) {
        if (!change_map_next(core->map, from, MIRROR_CHUNK_BYTES, urgent, ret_run) ||
            (wrapped && !urgent && core->cursor > 0 && ret_run->offset >= core->cursor)) {
            if (wrapped) {
                return false;
            }
            wrapped = true;
            from = 0;
            continue;
        }
        struct mirror_lock *lock =
            mirror_lock_find(core, ret_run->offset, ret_run->offset + ret_run->len);
        if (!lock) {
            core->cursor = ret_run->offset + ret_run->len;
            return true;
        }
        if (lock->begin > ret_run->offset) {
            uint64_t len = lock->begin - ret_run->offset;
            len -= len % CHANGE_GRANULE_BYTES;
            if (len > 0 && !mirror_lock_find(core, ret_run->offset, ret_run->offset + len)) {
                ret_run->len = len;
                core->cursor = ret_run->offset + len;
                return true;
            }
        }
        from = (lock->end + CHANGE_GRANULE_BYTES - 1) / CHANGE_GRANULE_BYTES * CHANGE_GRANULE_BYTES;
        if (from >= core->spec.size_bytes) {
            if (wrapped) {
                return false;
            }
            wrapped = true;
            from = 0;
        }
    }
}

static bool dev_has_room(const struct blockdev *dev)
{
    unsigned max = dev->info.max_inflight ? dev->info.max_inflight : 1;
    return dev->inflight < max;
}

static bool may_start(const struct mirror_core *core)
{
    unsigned most = core->window.size;
    if (core->spec.priority == 1 && core->n_writes > 0) {
        most = 1; /* low: hosts first */
    }
    return core->connected && !core->leaving && core->below && !core->below_closing &&
           core->n_chunks < most && dev_has_room(core->leg) &&
           (core->n_chunks == 0 || dev_has_room(core->below));
}

static void pump(struct mirror_core *core)
{
    uint64_t now_ns = loop_now_ns(core->loop);
    while (may_start(core) && now_ns >= core->copy_retry_ns) {
        struct change_run run;
        /* In a restore flushes wait for what the source alone has. */
        bool urgent = core->direction == MIRROR_FROM_LEG && change_map_dirty_bytes(core->map) > 0;
        uint64_t wait_ns = throttle_wait_ns(&core->throttle, now_ns);
        if (wait_ns > 0 && !urgent) {
            if (!loop_timer_pending(&core->copy_timer)) {
                loop_timer_start(&core->copy_timer, wait_ns);
            }
            return;
        }
        bool hard = false;
        enum mirror_zone_use zone = MIRROR_ZONE_NO;
        uint64_t cursor = core->cursor;
        if (!buffers_take(core)) {
            return;
        }
        if (!find_run(core, urgent, &run)) {
            /* Hosts write whatever is left, all the time: gets in line. */
            if (core->n_chunks > 0 || !change_map_next(core->map, 0, HARD_BYTES, urgent, &run)) {
                return;
            }
            hard = true;
        } else if (!urgent) {
            zone = mirror_zone_use(core, &run);
        }
        if (zone == MIRROR_ZONE_WAIT) {
            core->cursor = cursor;
            return;
        }
        if (zone == MIRROR_ZONE_YES) {
            core->cursor = run.offset;
        } else if (wait_ns == 0) {
            throttle_take(&core->throttle, run.len, now_ns);
        }
        chunk_start(core, &run, hard, zone == MIRROR_ZONE_YES);
    }
}

void mirror_copy_pump(struct mirror_core *core)
{
    if (core->pumping || !core->map || change_map_marked_bytes(core->map) == 0) {
        return;
    }
    core->pumping = true;
    pump(core);
    core->pumping = false;
}
