// SPDX-License-Identifier: Apache-2.0
/*
 *     QUEUED --> OPENING --> COPYING --> FLUSHING --> [VERIFYING] --> DONE
 *        |        |  ^          |           |              |
 *        |        v  |          v           v              v
 *        |        RETRY <-------+-----------+--------------+     (and back to where it was)
 *        |          |           |           |              |
 *        +----------+-----------+-----+-----+--------------+
 *                                     v
 *                                 SUSPENDED --> OPENING
 *     any but the ends --> CANCELLED | BROKEN
 *
 * One function, step(), looks at what is wanted (goal), what is there (sides, pipeline), and does
 * the next thing. Whatever happens only notes itself and asks for a step: no order of events has to
 * be foreseen.
 *
 * Checkpoint. The pipeline's watermark W says: everything below was written. It becomes the
 * checkpoint when a flush that was submitted later has succeeded. Every loss of the target's
 * session in between (-ENOTCONN from any request, a DOWN event) and every failed flush means that
 * what lies above the checkpoint may be gone: the pipeline is drained and set back (rewind), and a
 * flush that is still under way does not count. So DONE, which needs a checkpoint at the end, is
 * never reached over a session whose cache was lost.
 *
 * A lost source only closes its gate: reads that failed wait in the pipeline, and writes go on.
 *
 * Stopping (to be suspended, cancelled, broken or done) closes both devices; a suspended copy holds
 * no session and no memory for data.
 */
#include "replication/copier.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/state_table.h"
#include "replication/pipeline.h"

#define TICK_NS           (100 * MS_NS)
#define PROGRESS_NS       (200 * MS_NS)
#define RATE_WINDOW_NS    (2 * SEC_NS)
#define CHECKPOINT_MAX_NS (2 * SEC_NS)
#define HOLD_MIN_NS       (100 * MS_NS)
#define HOLD_MAX_NS       (10 * SEC_NS)
#define SHUTDOWN_NS       (1500 * MS_NS)
#define CANCEL_NS         (10 * SEC_NS)
#define BLOCK_BYTES_MAX   (64u << 10)
enum {
    TRIES_MAX = 5, /* of a request that fails while the link is up */
    FLUSH_TRIES_MAX = 5,
};

enum side_state { SIDE_CLOSED, SIDE_OPENING, SIDE_OPEN, SIDE_CLOSING };

struct side {
    struct copier *copier;
    enum copy_side which;
    struct block_opener *opener;
    struct blockdev *dev;
    enum side_state state;
    bool up;        /* the link, as the device's events tell */
    bool cancelled; /* the open under way */
    uint64_t hold_until_ns;
    uint64_t hold_ns; /* the next hold; doubles */
    uint64_t away_since_ns;
    uint64_t successes;        /* of the pipeline, at the last look */
    enum error_code away_code; /* why it is away */
};

struct copier {
    struct loop *loop;
    struct copy_spec spec;
    struct copy_events events;
    void *arg;

    unsigned phase; /* enum copy_phase */
    enum copier_goal goal;
    uint64_t shutdown_at_ns;
    uint64_t cancel_at_ns; /* when it no longer waits for writes under way */
    bool stopping;
    enum copy_phase outcome; /* of stopping */
    bool has_failed;
    struct error error;

    struct side sides[2];
    struct pipeline *pipeline;
    struct throttle throttle;
    struct pipeline_counters counters;
    bool rewinding; /* the pipeline is to be set back to the checkpoint */
    bool verifying;
    uint64_t checkpoint;
    uint64_t flushed_ns; /* when the last checkpoint was begun */
    unsigned flush_tries;

    uint64_t attempts;
    char last_error[480];
    uint64_t last_error_ms;
    uint64_t reported_ns, rated_ns, rated_bytes;
    double rate;

    struct loop_timer tick;
    struct loop_task step_task;
    bool step_queued;
    bool ended_told;
};

static const struct state_table phases = {
    .name = "copy",
    .count = COPY_BROKEN + 1,
    .names =
        {
            [COPY_QUEUED] = "queued",
            [COPY_OPENING] = "opening",
            [COPY_COPYING] = "copying",
            [COPY_RETRY] = "retry",
            [COPY_FLUSHING] = "flushing",
            [COPY_VERIFYING] = "verifying",
            [COPY_SUSPENDED] = "suspended",
            [COPY_DONE] = "done",
            [COPY_CANCELLED] = "cancelled",
            [COPY_BROKEN] = "broken",
        },
#define ENDS (STATE_TO(COPY_SUSPENDED) | STATE_TO(COPY_CANCELLED) | STATE_TO(COPY_BROKEN))
    .moves =
        {
            [COPY_QUEUED] = ENDS | STATE_TO(COPY_OPENING),
            [COPY_OPENING] = ENDS | STATE_TO(COPY_RETRY) | STATE_TO(COPY_COPYING) |
                             STATE_TO(COPY_FLUSHING) | STATE_TO(COPY_VERIFYING),
            [COPY_COPYING] = ENDS | STATE_TO(COPY_RETRY) | STATE_TO(COPY_FLUSHING),
            [COPY_RETRY] = ENDS | STATE_TO(COPY_OPENING) | STATE_TO(COPY_COPYING) |
                           STATE_TO(COPY_FLUSHING) | STATE_TO(COPY_VERIFYING),
            [COPY_FLUSHING] = ENDS | STATE_TO(COPY_RETRY) | STATE_TO(COPY_COPYING) |
                              STATE_TO(COPY_VERIFYING) | STATE_TO(COPY_DONE),
            [COPY_VERIFYING] = ENDS | STATE_TO(COPY_RETRY) | STATE_TO(COPY_DONE),
            [COPY_SUSPENDED] =
                STATE_TO(COPY_OPENING) | STATE_TO(COPY_CANCELLED) | STATE_TO(COPY_BROKEN),
        },
#undef ENDS
};

bool copier_may_move(enum copy_phase from, enum copy_phase to)
{
    return state_may_move(&phases, from, to);
}

const char *copy_phase_name(enum copy_phase phase)
{
    return state_name(&phases, phase);
}

static const char *side_name(const struct side *side)
{
    return side->which == COPY_SOURCE ? "source" : "target";
}

static bool has_ended(const struct copier *copier)
{
    return copier->phase == COPY_DONE || copier->phase == COPY_CANCELLED ||
           copier->phase == COPY_BROKEN;
}

static bool side_usable(const struct side *side)
{
    return side->state == SIDE_OPEN && side->up &&
           loop_now_ns(side->copier->loop) >= side->hold_until_ns;
}

/* ---- what is told ---- */

static uint64_t bytes_done(const struct copier *copier)
{
    uint64_t done = copier->checkpoint;
    if (copier->pipeline && !copier->rewinding) {
        uint64_t watermark = pipeline_watermark(copier->pipeline);
        done = watermark > done ? watermark : done;
    }
    return done;
}

static struct copy_progress snapshot(const struct copier *copier)
{
    struct copy_progress progress = {
        .phase = copier->phase,
        .bytes_total = copier->spec.bytes_total,
        .bytes_done = bytes_done(copier),
        .checkpoint_bytes = copier->checkpoint,
        .verifying = copier->verifying,
        .bytes_read = copier->counters.bytes_read,
        .bytes_written = copier->counters.bytes_written,
        .bytes_zeroed = copier->counters.bytes_zeroed,
        .bytes_skipped = copier->counters.bytes_skipped,
        .bytes_per_second = (uint64_t)copier->rate,
        .bandwidth_limit = copier->spec.bandwidth_limit,
        .attempts = copier->attempts,
        .last_error_ms = copier->last_error_ms,
    };
    memcpy(progress.last_error, copier->last_error, sizeof(progress.last_error));
    return progress;
}

static void report(struct copier *copier)
{
    copier->reported_ns = loop_now_ns(copier->loop);
    struct copy_progress progress = snapshot(copier);
    copier->events.progress(copier->arg, &progress);
}

static void report_checkpoint(struct copier *copier)
{
    struct copy_progress progress = snapshot(copier);
    copier->events.checkpoint(copier->arg, &progress);
}

static void rate_restart(struct copier *copier)
{
    copier->rated_ns = loop_now_ns(copier->loop);
    copier->rated_bytes = bytes_done(copier);
    copier->rate = 0;
}

static void rate_update(struct copier *copier)
{
    uint64_t now_ns = loop_now_ns(copier->loop);
    uint64_t passed_ns = now_ns - copier->rated_ns;
    uint64_t done = bytes_done(copier);
    if (passed_ns == 0) {
        return;
    }
    double moved = done > copier->rated_bytes ? (double)(done - copier->rated_bytes) : 0;
    double now = moved * (double)SEC_NS / (double)passed_ns;
    double weight = (double)passed_ns / (double)(passed_ns + RATE_WINDOW_NS);
    copier->rate = copier->rate == 0 ? now : copier->rate + weight * (now - copier->rate);
    copier->rated_ns = now_ns;
    copier->rated_bytes = done;
}

static void move(struct copier *copier, enum copy_phase phase)
{
    if (copier->phase == (unsigned)phase) {
        return;
    }
    state_move(&phases, &copier->phase, phase, copier->spec.name);
    if (phase == COPY_COPYING || phase == COPY_VERIFYING) {
        rate_restart(copier);
    }
    if (!has_ended(copier)) {
        report(copier);
    }
}

static void note_error(struct copier *copier, const char *text)
{
    snprintf(copier->last_error, sizeof(copier->last_error), "%s", text);
    copier->last_error_ms = loop_wall_ms(copier->loop);
}

/* ---- asking for a step ---- */

static void kick(struct copier *copier)
{
    if (!copier->step_queued && !copier->ended_told) {
        copier->step_queued = true;
        loop_defer(copier->loop, &copier->step_task);
    }
}

__attribute__((format(printf, 3, 4))) static void fail(struct copier *copier, enum error_code code,
                                                       const char *fmt, ...)
{
    if (copier->has_failed) {
        return;
    }
    char text[sizeof(copier->error.detail)];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    copier->has_failed = true;
    error_set(&copier->error, code, "%s", text);
    note_error(copier, text);
    if (copier->pipeline) {
        pipeline_set_mode(copier->pipeline, PIPELINE_DROP);
    }
    kick(copier);
}

/* The target may have lost what was not flushed. */
static void rewind_wanted(struct copier *copier)
{
    if (copier->pipeline && !copier->stopping) {
        copier->rewinding = true;
        pipeline_set_mode(copier->pipeline, PIPELINE_DROP);
        kick(copier);
    }
}

/* ---- sides ---- */

static void side_away(struct side *side, enum error_code code, const char *text)
{
    struct copier *copier = side->copier;
    if (side->away_since_ns == 0) {
        side->away_since_ns = loop_now_ns(copier->loop);
        side->successes = copier->pipeline ? pipeline_successes(copier->pipeline, side->which) : 0;
        log_warning("copy[%s] %s is away: %s", copier->spec.name, side_name(side), text);
    }
    side->away_code = code;
    note_error(copier, text);
    if (copier->pipeline) {
        pipeline_gate(copier->pipeline, side->which, false);
    }
}

static void side_back(struct side *side)
{
    if (side->away_since_ns != 0) {
        log_info("copy[%s] %s is back", side->copier->spec.name, side_name(side));
    }
    side->away_since_ns = 0;
    side->hold_until_ns = 0;
    side->hold_ns = HOLD_MIN_NS;
}

/* Leaves the side alone for a while, longer each time. */
static void side_hold(struct side *side)
{
    uint64_t now_ns = loop_now_ns(side->copier->loop);
    if (now_ns < side->hold_until_ns) {
        return; /* one of many requests that failed together */
    }
    side->copier->attempts++;
    side->hold_until_ns = now_ns + side->hold_ns;
    side->hold_ns = side->hold_ns * 2 < HOLD_MAX_NS ? side->hold_ns * 2 : HOLD_MAX_NS;
}

static void side_event(void *arg, struct blockdev *dev, enum block_event event, unsigned attempts,
                       const char *detail)
{
    struct side *side = arg;
    struct copier *copier = side->copier;
    (void)dev;
    (void)attempts;
    char text[400];
    snprintf(text, sizeof(text), "%s: %s", side_name(side), detail ? detail : "link lost");
    switch (event) {
    case BLOCK_EVENT_DOWN:
        side->up = false;
        side_away(side, ERR_REMOTE_UNREACHABLE, text);
        if (side->which == COPY_TARGET) {
            rewind_wanted(copier);
        }
        break;
    case BLOCK_EVENT_RETRY:
        copier->attempts++;
        side_away(side, ERR_REMOTE_UNREACHABLE, text);
        break;
    case BLOCK_EVENT_UP:
        side->up = true;
        side_back(side);
        break;
    case BLOCK_EVENT_CHANGED:
        fail(copier, ERR_LUN_CHANGED, "%s", text);
        break;
    }
    kick(copier);
}

static bool heals(enum error_code code)
{
    switch (code) {
    case ERR_LUN_CHANGED:
    case ERR_ADDRESS_NOT_ALLOWED:
    case ERR_TARGET_TOO_SMALL:
    case ERR_INVALID_PARAMETER:
    case ERR_NOT_SUPPORTED:
        return false;
    default:
        return true;
    }
}

static void side_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct side *side = arg;
    struct copier *copier = side->copier;
    CHECK(side->state == SIDE_OPENING);
    side->state = SIDE_CLOSED;
    side->cancelled = false;
    if (dev) {
        side->dev = dev;
        side->state = SIDE_OPEN;
        side->up = true;
        dev->on_event = side_event;
        dev->event_arg = side;
        side_back(side);
    } else if (!copier->stopping) {
        char text[sizeof(copier->last_error)];
        snprintf(text, sizeof(text), "%s: %.440s", side_name(side), error->detail);
        if (!heals(error->code)) {
            fail(copier, error->code, "%s", text);
        } else {
            side_away(side, error->code, text);
            side_hold(side);
        }
    }
    kick(copier);
}

static void side_open(struct side *side)
{
    if (side->state == SIDE_CLOSED && loop_now_ns(side->copier->loop) >= side->hold_until_ns) {
        side->state = SIDE_OPENING;
        side->opener->ops->open(side->opener, side->copier->loop, side_opened, side);
    }
}

static void side_closed(void *arg)
{
    struct side *side = arg;
    side->state = SIDE_CLOSED;
    side->dev = NULL;
    kick(side->copier);
}

static void side_close(struct side *side)
{
    if (side->state == SIDE_OPENING && !side->cancelled) {
        side->cancelled = true;
        if (side->opener->ops->cancel) {
            side->opener->ops->cancel(side->opener);
        }
    } else if (side->state == SIDE_OPEN) {
        side->state = SIDE_CLOSING;
        blockdev_close(side->dev, side_closed, side);
    }
}

static void give_up_if_away_too_long(struct side *side)
{
    struct copier *copier = side->copier;
    uint64_t limit_ns = copier->spec.give_up_ns;
    if (limit_ns > 0 && side->away_since_ns > 0 && !side_usable(side) &&
        loop_now_ns(copier->loop) - side->away_since_ns >= limit_ns) {
        char text[400];
        snprintf(text, sizeof(text), "%.399s", copier->last_error);
        fail(copier, side->away_code, "gave up after %llu s: %s",
             (unsigned long long)(limit_ns / SEC_NS), text);
    }
}

/* ---- the pipeline's callbacks ---- */

static const char *verb(enum block_op op)
{
    switch (op) {
    case BLOCK_READ:
        return "reading";
    case BLOCK_WRITE:
        return "writing";
    case BLOCK_ZERO:
        return "zeroing";
    case BLOCK_FLUSH:
        return "flushing";
    default:
        return "asking the map of";
    }
}

static void request_text(const struct side *side, const struct pipeline_failure *failure,
                         char *text, size_t size)
{
    if (failure->op == BLOCK_FLUSH) {
        snprintf(text, size, "flushing the target: %s", strerror(-failure->status));
    } else {
        snprintf(text, size, "%s %llu bytes at offset %llu of the %s: %s", verb(failure->op),
                 (unsigned long long)failure->len, (unsigned long long)failure->offset,
                 side_name(side), strerror(-failure->status));
    }
}

/* What every failure means that is no matter of one request. True: dealt with. */
static bool session_failed(struct side *side, int status, const char *text)
{
    struct copier *copier = side->copier;
    switch (status) {
    case -ENOTCONN:
        if (side->up) {
            /* The device has not said so, or not yet: asks again by and by. */
            side_away(side, ERR_REMOTE_UNREACHABLE, text);
            side_hold(side);
        }
        if (side->which == COPY_TARGET) {
            rewind_wanted(copier);
        }
        kick(copier);
        return true;
    case -ESTALE:
        fail(copier, ERR_LUN_CHANGED, "the %s is not the LUN that it was", side_name(side));
        return true;
    default:
        return false;
    }
}

static bool copier_request_failed(void *arg, const struct pipeline_failure *failure,
                                  uint64_t *ret_delay_ns)
{
    struct copier *copier = arg;
    struct side *side = &copier->sides[failure->side];
    char text[300];
    request_text(side, failure, text, sizeof(text));
    *ret_delay_ns = 0;
    if (session_failed(side, failure->status, text)) {
        return failure->status == -ENOTCONN && side->which == COPY_SOURCE;
    }
    bool in_vain = false;
    switch (failure->status) {
    case -ENOSPC:
        fail(copier, ERR_NO_SPACE, "%s", text);
        return false;
    case -EROFS:
    case -EINVAL:
    case -EOPNOTSUPP:
        in_vain = true;
        break;
    default:
        break;
    }
    if (in_vain || failure->tries >= TRIES_MAX) {
        fail(copier, ERR_COPY_FAILED, "%s (%u tries)", text, failure->tries);
        return false;
    }
    note_error(copier, text);
    *ret_delay_ns = HOLD_MIN_NS << (failure->tries - 1);
    return true;
}

static void copier_flushed(void *arg, uint64_t watermark, int status)
{
    struct copier *copier = arg;
    struct side *target = &copier->sides[COPY_TARGET];
    if (copier->rewinding || copier->stopping || copier->has_failed) {
        return;
    }
    if (status == 0) {
        copier->flush_tries = 0;
        copier->checkpoint = watermark;
        report_checkpoint(copier);
    } else {
        struct pipeline_failure failure = {.op = BLOCK_FLUSH, .status = status};
        char text[300];
        request_text(target, &failure, text, sizeof(text));
        copier->flush_tries++;
        if (session_failed(target, status, text)) {
            return;
        }
        if (status == -ENOSPC) {
            fail(copier, ERR_NO_SPACE, "%s", text);
        } else if (status == -EOPNOTSUPP || status == -EROFS ||
                   copier->flush_tries >= FLUSH_TRIES_MAX) {
            fail(copier, ERR_COPY_FAILED, "%s (%u tries)", text, copier->flush_tries);
        } else {
            /* What a failed flush leaves of the cache nobody knows. */
            side_away(target, ERR_COPY_FAILED, text);
            side_hold(target);
            rewind_wanted(copier);
        }
    }
    kick(copier);
}

static void copier_mismatch(void *arg, uint64_t offset)
{
    struct copier *copier = arg;
    fail(copier, ERR_VERIFY_MISMATCH,
         "the target differs from the source at byte %llu: something else has written to one of "
         "them",
         (unsigned long long)offset);
}

static void copier_settled(void *arg)
{
    kick(arg);
}

static const struct pipeline_cb pipeline_callbacks = {
    .failed = copier_request_failed,
    .flushed = copier_flushed,
    .mismatch = copier_mismatch,
    .settled = copier_settled,
};

/* ---- steps ---- */

static bool is_block_size(uint32_t bytes)
{
    return bytes > 0 && bytes <= BLOCK_BYTES_MAX && (bytes & (bytes - 1)) == 0;
}

/* Both sides are open: are they what can be copied? */
static bool suitable(struct copier *copier)
{
    const struct block_info *source = &copier->sides[COPY_SOURCE].dev->info;
    const struct block_info *target = &copier->sides[COPY_TARGET].dev->info;
    unsigned long long total = copier->spec.bytes_total;
    if (!is_block_size(source->block_bytes) || !is_block_size(target->block_bytes)) {
        fail(copier, ERR_INCOMPATIBLE, "block sizes of %u and %u bytes cannot be copied",
             source->block_bytes, target->block_bytes);
    } else if (source->size_bytes < total || total % source->block_bytes != 0) {
        fail(copier, ERR_LUN_CHANGED, "the source has %llu bytes in blocks of %u, not %llu",
             (unsigned long long)source->size_bytes, source->block_bytes, total);
    } else if (target->size_bytes < total) {
        fail(copier, ERR_TARGET_TOO_SMALL, "the target has %llu bytes, the source %llu",
             (unsigned long long)target->size_bytes, total);
    } else if (target->read_only) {
        fail(copier, ERR_INCOMPATIBLE, "the target is write protected");
    } else {
        return true;
    }
    return false;
}

static void prepare(struct copier *copier)
{
    if (!suitable(copier)) {
        return;
    }
    struct pipeline_spec spec = {
        .source = copier->sides[COPY_SOURCE].dev,
        .target = copier->sides[COPY_TARGET].dev,
        .bytes_total = copier->spec.bytes_total,
        .compare = copier->spec.compare,
        .priority = copier->spec.priority,
        .throttle = &copier->throttle,
        .counters = &copier->counters,
    };
    if (pipeline_new(&spec, &pipeline_callbacks, copier, &copier->pipeline) < 0) {
        fail(copier, ERR_NO_MEMORY, "no memory for the buffers of a copy");
        return;
    }
    throttle_set(&copier->throttle, copier->spec.bandwidth_limit, loop_now_ns(copier->loop));
    pipeline_restart(copier->pipeline, copier->checkpoint, copier->verifying);
    copier->rewinding = false;
    copier->flushed_ns = loop_now_ns(copier->loop);
}

static void stop(struct copier *copier, enum copy_phase outcome)
{
    copier->stopping = true;
    copier->outcome = outcome;
    if (copier->pipeline) {
        pipeline_set_mode(copier->pipeline, PIPELINE_DROP);
    }
}

/* Stopped: both sides closed, nothing outstanding. */
static void stopped(struct copier *copier)
{
    if (copier->pipeline) {
        CHECK(pipeline_outstanding(copier->pipeline) == 0);
        pipeline_free(copier->pipeline);
        copier->pipeline = NULL;
    }
    loop_timer_stop(&copier->tick);
    copier->stopping = false;
    copier->rewinding = false;
    copier->rate = 0;
    for (unsigned i = 0; i < ARRAY_LEN(copier->sides); i++) {
        copier->sides[i].away_since_ns = 0;
        copier->sides[i].hold_until_ns = 0;
        copier->sides[i].hold_ns = HOLD_MIN_NS;
    }
    if (copier->outcome == COPY_DONE && copier->phase != COPY_VERIFYING) {
        move(copier, COPY_FLUSHING); /* if the other side was away in the end */
    }
    move(copier, copier->outcome);
    if (!has_ended(copier)) {
        kick(copier); /* may have been resumed in the meantime */
        return;
    }
    log_info("copy[%s] %s at %llu of %llu bytes%s%s", copier->spec.name,
             state_name(&phases, copier->phase), (unsigned long long)copier->checkpoint,
             (unsigned long long)copier->spec.bytes_total, copier->has_failed ? ": " : "",
             copier->has_failed ? copier->error.detail : "");
}

/* The last call. Nothing of ours may be under way: the owner frees the copier. */
static void tell_ended(struct copier *copier)
{
    if (copier->ended_told || copier->step_queued) {
        return;
    }
    copier->ended_told = true;
    struct copy_progress progress = snapshot(copier);
    copier->events.ended(copier->arg, &progress,
                         copier->phase == COPY_BROKEN ? &copier->error : NULL);
}

static void step_stopping(struct copier *copier)
{
    bool closed = true;
    for (unsigned i = 0; i < ARRAY_LEN(copier->sides); i++) {
        side_close(&copier->sides[i]);
        closed = closed && copier->sides[i].state == SIDE_CLOSED;
    }
    if (closed) {
        stopped(copier);
    }
}

static void begin_flush(struct copier *copier)
{
    copier->flushed_ns = loop_now_ns(copier->loop);
    pipeline_flush(copier->pipeline);
    pipeline_pump(copier->pipeline);
}

/* Nothing is written while the sides are compared: the watermark is the checkpoint. */
static void verified(struct copier *copier)
{
    copier->flushed_ns = loop_now_ns(copier->loop);
    copier->checkpoint = pipeline_watermark(copier->pipeline);
    report_checkpoint(copier);
}

/* To be suspended or shut down: true once what could be saved is saved. */
static bool drained(struct copier *copier)
{
    struct pipeline *pipeline = copier->pipeline;
    if (!pipeline || (copier->rewinding && pipeline_inflight(pipeline) == 0)) {
        return true;
    }
    if (copier->rewinding) {
        return false;
    }
    pipeline_set_mode(pipeline, PIPELINE_DRAIN);
    pipeline_pump(pipeline);
    if (pipeline_inflight(pipeline) > 0) {
        return false;
    }
    if (pipeline_watermark(pipeline) <= copier->checkpoint) {
        return true;
    }
    if (copier->verifying) {
        verified(copier);
        return true;
    }
    if (!side_usable(&copier->sides[COPY_TARGET])) {
        return true;
    }
    if (!pipeline_flushing(pipeline)) {
        begin_flush(copier);
    }
    return false;
}

/* Nothing new is sent, and what is under way at the target is waited for: a write that comes home late must not
 * land in what the LUN is used for next. A lost link ends the wait (all complete), and so does its time. */
static bool settled(struct copier *copier)
{
    uint64_t now = loop_now_ns(copier->loop);

    if (copier->cancel_at_ns == 0) {
        copier->cancel_at_ns = now + CANCEL_NS;
        if (copier->pipeline) {
            pipeline_set_mode(copier->pipeline, PIPELINE_DROP);
        }
    }
    return !copier->pipeline || pipeline_inflight(copier->pipeline) == 0 ||
           now >= copier->cancel_at_ns;
}

static void decide_to_stop(struct copier *copier)
{
    if (copier->stopping && copier->outcome != COPY_SUSPENDED) {
        return; /* it is over, and how is known */
    }
    if (copier->has_failed) {
        if (copier->stopping || settled(copier)) {
            stop(copier, COPY_BROKEN);
        }
        return;
    }
    switch (copier->goal) {
    case COPIER_RUN:
        break;
    case COPIER_CANCEL:
        if (copier->stopping || settled(copier)) {
            stop(copier, COPY_CANCELLED);
        }
        break;
    case COPIER_SHUTDOWN:
        if (copier->stopping || drained(copier) ||
            loop_now_ns(copier->loop) >= copier->shutdown_at_ns) {
            stop(copier, COPY_CANCELLED);
        }
        break;
    case COPIER_SUSPEND:
        if (!copier->stopping && copier->phase != COPY_SUSPENDED && drained(copier)) {
            stop(copier, COPY_SUSPENDED);
        }
        break;
    }
}

static void update_gates(struct copier *copier)
{
    for (unsigned i = 0; i < ARRAY_LEN(copier->sides); i++) {
        struct side *side = &copier->sides[i];
        bool usable = side_usable(side);
        if (usable && side->away_since_ns != 0 &&
            pipeline_successes(copier->pipeline, side->which) != side->successes) {
            side_back(side);
        }
        pipeline_gate(copier->pipeline, side->which, usable);
    }
}

static enum copy_phase phase_now(const struct copier *copier)
{
    bool ready = copier->pipeline != NULL;
    bool away = false;
    for (unsigned i = 0; i < ARRAY_LEN(copier->sides); i++) {
        const struct side *side = &copier->sides[i];
        if (!side_usable(side)) {
            ready = false;
            away = away || side->away_since_ns != 0;
        }
    }
    if (!ready) {
        return away || copier->pipeline ? COPY_RETRY : COPY_OPENING;
    }
    if (copier->verifying) {
        return COPY_VERIFYING;
    }
    return pipeline_complete(copier->pipeline) && !copier->rewinding ? COPY_FLUSHING : COPY_COPYING;
}

static void finish_pass(struct copier *copier)
{
    struct pipeline *pipeline = copier->pipeline;
    uint64_t total = copier->spec.bytes_total;
    if (pipeline_flushing(pipeline) || pipeline_inflight(pipeline) > 0) {
        return;
    }
    if (copier->verifying) {
        verified(copier);
        stop(copier, COPY_DONE);
    } else if (copier->checkpoint < total) {
        begin_flush(copier);
    } else if (copier->spec.verify) {
        copier->verifying = true;
        copier->checkpoint = 0;
        report_checkpoint(copier);
        pipeline_restart(pipeline, 0, true);
        kick(copier);
    } else {
        stop(copier, COPY_DONE);
    }
}

static bool checkpoint_due(const struct copier *copier)
{
    uint64_t every_ns = copier->spec.checkpoint_ns;
    if (every_ns == 0 || every_ns > CHECKPOINT_MAX_NS) {
        every_ns = CHECKPOINT_MAX_NS;
    }
    /* The flush takes its time, too. */
    return loop_now_ns(copier->loop) - copier->flushed_ns >= every_ns / 2 &&
           pipeline_watermark(copier->pipeline) > copier->checkpoint;
}

static void step_running(struct copier *copier)
{
    struct side *source = &copier->sides[COPY_SOURCE];
    struct side *target = &copier->sides[COPY_TARGET];
    side_open(source);
    side_open(target);
    if (!copier->pipeline && source->state == SIDE_OPEN && target->state == SIDE_OPEN) {
        prepare(copier);
        if (copier->has_failed) {
            return;
        }
    }
    struct pipeline *pipeline = copier->pipeline;
    if (!pipeline) {
        move(copier, phase_now(copier));
        return;
    }
    if (copier->rewinding && pipeline_inflight(pipeline) == 0) {
        copier->rewinding = false;
        pipeline_restart(pipeline, copier->checkpoint, copier->verifying);
        copier->rated_bytes = copier->checkpoint;
    }
    update_gates(copier);
    move(copier, phase_now(copier));
    if (copier->rewinding) {
        return;
    }
    if (copier->goal != COPIER_RUN) {
        pipeline_pump(pipeline); /* draining */
        return;
    }
    pipeline_set_mode(pipeline, PIPELINE_RUN);
    if (pipeline_complete(pipeline)) {
        if (side_usable(target)) {
            finish_pass(copier);
        }
    } else if (checkpoint_due(copier) && !pipeline_flushing(pipeline)) {
        if (copier->verifying) {
            verified(copier);
        } else if (side_usable(target)) {
            begin_flush(copier);
        }
    }
    pipeline_pump(pipeline);
}

static void step(struct copier *copier)
{
    if (!has_ended(copier)) {
        decide_to_stop(copier);
        bool idle = copier->phase == COPY_SUSPENDED && copier->goal == COPIER_SUSPEND;
        if (!copier->stopping && !idle) {
            if (!loop_timer_pending(&copier->tick)) {
                loop_timer_start(&copier->tick, TICK_NS);
            }
            step_running(copier);
        }
        if (copier->stopping) {
            step_stopping(copier);
        }
    }
    if (has_ended(copier)) {
        tell_ended(copier);
    }
}

static void step_task(void *arg)
{
    struct copier *copier = arg;
    copier->step_queued = false;
    step(copier);
}

static void tick(void *arg)
{
    struct copier *copier = arg;
    loop_timer_start(&copier->tick, TICK_NS);
    if (!copier->stopping) {
        give_up_if_away_too_long(&copier->sides[COPY_SOURCE]);
        give_up_if_away_too_long(&copier->sides[COPY_TARGET]);
        if (loop_now_ns(copier->loop) - copier->reported_ns >= PROGRESS_NS) {
            rate_update(copier);
            report(copier);
        }
    }
    kick(copier);
}

/* ---- the rest of the interface ---- */

void copier_set_goal(struct copier *copier, enum copier_goal goal)
{
    if (has_ended(copier) || copier->goal == COPIER_CANCEL ||
        (copier->goal == COPIER_SHUTDOWN && goal != COPIER_CANCEL)) {
        return;
    }
    if (copier->goal != goal && goal == COPIER_SHUTDOWN) {
        copier->shutdown_at_ns = loop_now_ns(copier->loop) + SHUTDOWN_NS;
    }
    copier->goal = goal;
    kick(copier);
}

void copier_set_limits(struct copier *copier, unsigned priority, uint64_t bandwidth_limit)
{
    copier->spec.priority = priority;
    if (copier->spec.bandwidth_limit != bandwidth_limit) {
        copier->spec.bandwidth_limit = bandwidth_limit;
        throttle_set(&copier->throttle, bandwidth_limit, loop_now_ns(copier->loop));
    }
    if (copier->pipeline) {
        pipeline_set_priority(copier->pipeline, priority);
        pipeline_pump(copier->pipeline);
    }
}

struct copier *copier_new(struct loop *loop, const struct copy_spec *spec,
                          const struct copy_events *events, void *arg)
{
    struct copier *copier = calloc(1, sizeof(*copier));
    CHECK(copier);
    copier->loop = loop;
    copier->spec = *spec;
    copier->events = *events;
    copier->arg = arg;
    copier->phase = COPY_QUEUED;
    copier->goal = spec->start_suspended ? COPIER_SUSPEND : COPIER_RUN;
    copier->verifying = spec->verifying;
    copier->checkpoint =
        spec->checkpoint_bytes < spec->bytes_total ? spec->checkpoint_bytes : spec->bytes_total;
    for (unsigned i = 0; i < ARRAY_LEN(copier->sides); i++) {
        copier->sides[i] = (struct side){
            .copier = copier,
            .which = i == 0 ? COPY_SOURCE : COPY_TARGET,
            .opener = i == 0 ? spec->source : spec->target,
            .hold_ns = HOLD_MIN_NS,
        };
    }
    copier->step_task = (struct loop_task){.fn = step_task, .arg = copier};
    loop_timer_init(&copier->tick, loop, tick, copier);
    kick(copier);
    return copier;
}

void copier_free(struct copier *copier)
{
    if (copier) {
        CHECK(copier->ended_told && !copier->step_queued && !loop_timer_pending(&copier->tick));
        free(copier);
    }
}
