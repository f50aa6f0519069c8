// SPDX-License-Identifier: Apache-2.0
/*
 * One function, step(), looks at what is wanted (goal, verbs), what is there (map, leg, marks), and does the next thing;
 * whatever happens only notes itself and asks for a step, but for a lost leg (mirror_leg.c). The phases are those of mirror.h.
 *
 * connected: host writes go to both sides. It becomes true when the leg is open and up, and false with the first request
 * that fails there, at once, before anything else is decided: then what was written since the last flush of both is
 * marked, for the leg may have lost it. epoch counts these losses; a request that ends in a later one than it
 * began in counts for nothing.
 *
 * Leaving (disconnect, the end of a split, the end of the mirror): writes go below only; what is under way at the leg ends;
 * both sides are flushed, or what was not is marked; the leg is closed.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/state_table.h"
#include "replication/mirror_private.h"

#define TICK_NS        (2 * SEC_NS)
#define TICK_COPY_NS   (100 * MS_NS)
#define PROGRESS_NS    (200 * MS_NS)
#define IDLE_NS        (10 * SEC_NS) /* a region that nobody writes to loses its mark */
#define FLUSH_RETRY_NS (1 * SEC_NS)
#define SPLIT_HOLD_NS  (5 * SEC_NS)
#define RATE_WINDOW_NS (2 * SEC_NS)

static const struct state_table phases = {
    .name = "mirror",
    .count = MIRROR_ENDED + 1,
    .names =
        {
            [MIRROR_TRACKING] = "tracking",
            [MIRROR_OPENING] = "opening",
            [MIRROR_COPYING] = "copying",
            [MIRROR_EQUAL] = "equal",
            [MIRROR_AWAY] = "away",
            [MIRROR_HELD] = "held",
            [MIRROR_BROKEN] = "broken",
            [MIRROR_ENDED] = "ended",
        },
#define ENDS (STATE_TO(MIRROR_TRACKING) | STATE_TO(MIRROR_BROKEN) | STATE_TO(MIRROR_ENDED))
    .moves =
        {
            [MIRROR_TRACKING] = ENDS | STATE_TO(MIRROR_OPENING),
            [MIRROR_OPENING] = ENDS | STATE_TO(MIRROR_COPYING) | STATE_TO(MIRROR_AWAY),
            [MIRROR_COPYING] = ENDS | STATE_TO(MIRROR_EQUAL) | STATE_TO(MIRROR_AWAY),
            [MIRROR_EQUAL] = ENDS | STATE_TO(MIRROR_COPYING) | STATE_TO(MIRROR_AWAY),
            [MIRROR_AWAY] = ENDS | STATE_TO(MIRROR_COPYING) | STATE_TO(MIRROR_HELD),
            [MIRROR_HELD] =
                ENDS | STATE_TO(MIRROR_AWAY) | STATE_TO(MIRROR_COPYING) | STATE_TO(MIRROR_OPENING),
            [MIRROR_BROKEN] = ENDS | STATE_TO(MIRROR_OPENING),
        },
#undef ENDS
};

const char *mirror_phase_name(enum mirror_phase phase)
{
    return state_name(&phases, phase);
}

/* ---- what is told ---- */

static void rate_update(struct mirror_core *core)
{
    uint64_t now_ns = loop_now_ns(core->loop);
    uint64_t passed_ns = now_ns - core->rated_ns;
    if (passed_ns == 0) {
        return;
    }
    uint64_t done = core->copied_bytes + core->zeroed_bytes;
    double now = (double)(done - core->rated_bytes) * (double)SEC_NS / (double)passed_ns;
    double weight = (double)passed_ns / (double)(passed_ns + RATE_WINDOW_NS);
    core->rate = core->rate == 0 ? now : core->rate + weight * (now - core->rate);
    core->rated_ns = now_ns;
    core->rated_bytes = done;
}

static void tell(struct mirror_core *core, bool every)
{
    core->reported_ns = loop_now_ns(core->loop);
    struct mirror_progress progress = {
        .phase = core->phase,
        .direction = core->direction,
        .marked_bytes = core->map ? change_map_marked_bytes(core->map) : 0,
        .total_bytes = core->total_bytes,
        .copied_bytes = core->copied_bytes,
        .zeroed_bytes = core->zeroed_bytes,
        .written_bytes = core->written_bytes,
        .bytes_per_second = core->phase == MIRROR_COPYING ? (uint64_t)core->rate : 0,
        .attempts = core->attempts,
        .last_error_ms = core->last_error_ms,
    };
    memcpy(progress.last_error, core->last_error, sizeof(progress.last_error));
    mirror_tell_progress(core->mirror, &progress, core->has_error ? &core->error : NULL, every);
}

void mirror_report(struct mirror_core *core)
{
    tell(core, true);
}

void mirror_move(struct mirror_core *core, enum mirror_phase phase)
{
    if (core->phase == (unsigned)phase) {
        return;
    }
    state_move(&phases, &core->phase, phase, core->spec.name);
    if (phase != MIRROR_BROKEN) {
        core->has_error = false;
    }
    if (phase == MIRROR_COPYING) {
        core->total_bytes = change_map_marked_bytes(core->map);
        core->rated_ns = loop_now_ns(core->loop);
        core->rated_bytes = core->copied_bytes + core->zeroed_bytes;
        core->rate = 0;
        loop_timer_stop(&core->tick); /* a shorter one */
        mirror_tick_soon(core);
    }
    tell(core, true);
    mirror_queue_go(core);
}

void mirror_note(struct mirror_core *core, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(core->last_error, sizeof(core->last_error), fmt, args);
    va_end(args);
    core->last_error_ms = loop_wall_ms(core->loop);
}

void mirror_kick(struct mirror_core *core)
{
    if (!core->step_queued && !core->has_ended) {
        core->step_queued = true;
        loop_defer(core->loop, &core->step_task);
    }
}

static void connected(struct mirror_core *core)
{
    core->connected = true;
    core->was_connected = true;
    core->need_gen++;
    core->cursor = 0;
    mirror_zone_reset(core);
    core->copy_retry_ns = core->copy_backoff_ns = 0;
    core->flush_retry_ns = 0;
    log_info("mirror[%s] connected, %llu bytes may differ", core->spec.name,
             (unsigned long long)change_map_marked_bytes(core->map));
    mirror_move(core, MIRROR_COPYING);
    mirror_queue_go(core);
}

/* ---- leaving ---- */

static void verbs_done(struct mirror_core *core, struct list *verbs, const struct error *error)
{
    struct list *link;
    while ((link = list_pop_front(verbs)) != NULL) {
        struct mirror_verb *verb = list_entry(link, struct mirror_verb, link);
        mirror_tell_done(core->mirror, verb->done, verb->arg, error);
        free(verb);
    }
}

static void hold_end(struct mirror_core *core)
{
    if (core->hold != HOLD_NONE) {
        core->hold = HOLD_NONE;
        mirror_queue_go(core);
    }
}

static void split_end(struct mirror_core *core, const struct error *error)
{
    if (core->member) {
        mirror_member_end(core->member, error);
        core->member = NULL;
    }
    if (core->split_wanted) {
        core->split_wanted = core->split_flushing = false;
        mirror_tell_done(core->mirror, core->split_done, core->split_arg, error);
    }
    if (core->hold == HOLD_SPLIT) {
        hold_end(core);
    }
}

static void leave(struct mirror_core *core, bool for_split)
{
    core->goal = false;
    core->turning = false;
    core->leave_for_split = for_split;
    core->was_connected = false;
    if (!for_split) {
        if (core->split_wanted) {
            struct error error;
            error_set(&error, ERR_TERMINATED, "the mirror was disconnected");
            split_end(core, &error);
        }
        if (core->hold == HOLD_TURN) {
            hold_end(core);
        }
    }
    /* What a member of several has written is flushed once its hosts go on. */
    bool flush = !for_split || core->member != NULL;
    core->leaving = core->connected && flush ? LEAVING_DRAIN : LEAVING_CLOSE;
    core->unflushed = false;
    core->connected = false;
    if (for_split) {
        hold_end(core);
    }
    mirror_kick(core);
}

static void left(struct mirror_core *core)
{
    core->leaving = LEAVING_NO;
    core->direction = MIRROR_TO_LEG;
    core->flip_untold = false;
    change_map_turn(core->map, false);
    core->hold_until_ns = 0;
    mirror_move(core, MIRROR_TRACKING);
    if (core->leave_for_split) {
        struct error error;
        error_set(&error, ERR_ILLEGAL_STATE, "the target could not be flushed: %.400s",
                  core->last_error);
        split_end(core, core->unflushed ? &error : NULL);
    }
    verbs_done(core, &core->disconnects, NULL);
    mirror_queue_go(core);
    if (core->connect_next && !core->ending) {
        core->connect_next = false;
        mirror_core_connect(core, core->connect_direction);
    }
    mirror_kick(core);
}

static void step_leaving(struct mirror_core *core)
{
    switch (core->leaving) {
    case LEAVING_NO:
        break;
    case LEAVING_DRAIN:
        if (core->leg_inflight > 0 || core->n_both > 0 || core->n_chunks > 0) {
            break; /* each of them asks for a step */
        }
        core->leaving = LEAVING_FLUSH;
        core->need_gen++;
        core->flush_failed = false;
        __attribute__((fallthrough));
    case LEAVING_FLUSH:
        if (core->leg_state == LEG_OPEN && core->leg_up && !core->leg_bad && core->below &&
            core->have_gen < core->need_gen && !core->flush_failed) {
            mirror_flush(core);
            break;
        }
        if (core->flush) {
            break;
        }
        if (core->have_gen < core->need_gen) {
            change_map_lost(core->map, false);
            core->unflushed = true;
        }
        core->leaving = LEAVING_CLOSE;
        __attribute__((fallthrough));
    case LEAVING_CLOSE:
        if (core->leg_inflight > 0 || core->n_both > 0 || core->n_chunks > 0) {
            break;
        }
        if (core->leg_state != LEG_CLOSED) {
            mirror_leg_close(core);
            break;
        }
        left(core);
        break;
    }
}

/* ---- the split ---- */

bool mirror_core_is_equal(const struct mirror_core *core)
{
    return core->connected && core->phase == MIRROR_EQUAL && mirror_copy_is_done(core);
}

bool mirror_core_is_flushed(struct mirror_core *core)
{
    if (!mirror_core_is_equal(core)) {
        core->split_flushing = false;
        return false;
    }
    if (!core->split_flushing) {
        core->split_flushing = true;
        core->need_gen++;
    }
    if (core->have_gen < core->need_gen) {
        mirror_flush(core);
        return false;
    }
    return true;
}

void mirror_core_hold(struct mirror_core *core)
{
    if (core->hold == HOLD_NONE) {
        core->hold = HOLD_SPLIT;
    }
}

void mirror_core_part(struct mirror_core *core, const struct error *error)
{
    struct error lost;
    if (!error && !mirror_core_is_equal(core)) {
        error_set(&lost, ERR_ILLEGAL_STATE, "the target was lost in that moment: %.400s",
                  core->last_error);
        error = &lost;
    }
    if (error) {
        split_end(core, error);
    } else {
        leave(core, true);
    }
}

static void step_split(struct mirror_core *core)
{
    uint64_t now_ns = loop_now_ns(core->loop);
    if (core->member) {
        mirror_member_step(core->member);
        return;
    }
    if (now_ns >= core->split_at_ns) {
        struct error error;
        error_set(&error, ERR_TIMEOUT, "the two sides were not equal in time; %llu bytes differ",
                  (unsigned long long)change_map_marked_bytes(core->map));
        split_end(core, &error);
        return;
    }
    mirror_tick_soon(core);
    if (core->phase != MIRROR_EQUAL || !mirror_copy_is_done(core)) {
        core->split_flushing = false;
        if (core->hold == HOLD_SPLIT) {
            hold_end(core);
        }
        return;
    }
    if (core->hold == HOLD_NONE) {
        core->hold = HOLD_SPLIT;
        if (core->split_at_ns > now_ns + SPLIT_HOLD_NS) {
            core->split_at_ns = now_ns + SPLIT_HOLD_NS;
        }
    }
    if (core->n_writes > 0) {
        return;
    }
    if (!core->split_flushing) {
        core->split_flushing = true;
        core->need_gen++;
    }
    if (core->have_gen < core->need_gen) {
        mirror_flush(core);
    } else {
        change_map_tidy(core->map, 0);
        leave(core, true);
    }
}

/* ---- the end ---- */

static void map_closed(void *arg)
{
    struct mirror_core *core = arg;
    core->map = NULL;
    mirror_kick(core);
}

static void core_ended(struct mirror_core *core)
{
    struct mirror *mirror = core->mirror;
    core->has_ended = true;
    mirror_move(core, MIRROR_ENDED);
    struct error error = core->map_error;
    bool failed = core->map_failed;
    mirror_core_free(core);
    mirror_tell_ended(mirror, failed ? &error : NULL);
}

/* The leg is closed. */
static void step_end(struct mirror_core *core)
{
    if (core->dev || core->map_opening || core->flush || core->n_chunks > 0 || core->markings > 0 ||
        core->step_queued) {
        return;
    }
    if (!core->map) {
        core_ended(core);
    } else if (!core->map_closing) {
        core->map_closing = true;
        change_map_close(core->map, core->remove_map, map_closed, core);
    }
}

/* ---- step ---- */

static void step_turning(struct mirror_core *core)
{
    if (core->n_writes > 0) {
        return;
    }
    core->turning = false;
    change_map_turn(core->map, true);
    core->direction = MIRROR_FROM_LEG;
    hold_end(core);
}

static void step_connected(struct mirror_core *core)
{
    if (!core->below) {
        return;
    }
    if (!mirror_copy_is_done(core)) {
        mirror_move(core, MIRROR_COPYING);
        mirror_copy_pump(core);
        return;
    }
    if (core->phase == MIRROR_COPYING && core->have_gen < core->need_gen) {
        mirror_flush(core);
        return;
    }
    if (core->phase == MIRROR_COPYING) {
        core->backoff_ns = MIRROR_BACKOFF_MIN_NS;
        mirror_copy_rest(core);
        change_map_forget_log(core->map);
        change_map_tidy(core->map, SEC_NS);
        if (core->direction == MIRROR_FROM_LEG) {
            core->direction = MIRROR_TO_LEG;
            core->flip_untold = true;
            change_map_turn(core->map, false);
        }
        log_info("mirror[%s] both sides are equal", core->spec.name);
        mirror_move(core, MIRROR_EQUAL);
    }
}

static void step_tidy(struct mirror_core *core)
{
    if (core->tidy_wanted && core->connected && core->below && !core->flush) {
        core->tidy_wanted = false;
        core->need_gen++;
        mirror_flush(core);
    }
}

static void step_goal(struct mirror_core *core)
{
    if (core->turning) {
        step_turning(core);
        if (core->turning) {
            return;
        }
    }
    if (core->connected) {
        step_connected(core);
        step_tidy(core);
        return;
    }
    if (core->leg_state == LEG_OPEN && core->leg_bad) {
        mirror_leg_close(core);
    } else if (core->leg_state == LEG_CLOSED) {
        mirror_leg_open(core);
    } else if (mirror_leg_is_usable(core)) {
        if (core->phase == MIRROR_AWAY && core->was_connected && core->spec.recover_by_hand) {
            log_info("mirror[%s] the leg is back, and waits for a Resume", core->spec.name);
            mirror_move(core, MIRROR_HELD);
        } else if (core->phase != MIRROR_HELD) {
            connected(core);
            mirror_kick(core);
        }
    } else if (core->leg_state == LEG_OPEN && core->leg_up) {
        mirror_tick_soon(core); /* left alone for a while */
    }
}

static void step(void *arg)
{
    struct mirror_core *core = arg;
    core->step_queued = false;
    if (core->dev) {
        mirror_dev_step(core);
    }
    if (!core->map && (core->map_opening || !core->map_failed) && !core->map_closing) {
        return;
    }
    if (core->map_failed || core->map_closing) {
        if (core->ending) {
            if (core->leg_state != LEG_CLOSED) {
                mirror_leg_close(core);
            } else {
                step_end(core);
            }
        }
        return;
    }
    if (core->split_wanted && !core->leaving) {
        step_split(core);
    }
    if (core->leaving) {
        step_leaving(core);
    } else if (core->goal) {
        step_goal(core);
    } else if (core->leg_state == LEG_OPEN || core->leg_state == LEG_OPENING) {
        mirror_leg_close(core); /* broken */
    } else if (core->ending && core->leg_state == LEG_CLOSED) {
        step_end(core);
    }
}

/* ---- flushes of our own ---- */

void mirror_flushed(struct mirror_core *core, uint64_t gen, bool flushed)
{
    if (flushed) {
        core->have_gen = gen;
        change_map_tidy(core->map, IDLE_NS);
    } else {
        core->flush_failed = true;
        core->flush_retry_ns = loop_now_ns(core->loop) + FLUSH_RETRY_NS;
        mirror_tick_soon(core);
    }
    mirror_kick(core);
}

/* ---- time ---- */

void mirror_tick_soon(struct mirror_core *core)
{
    if (!loop_timer_pending(&core->tick) && !core->has_ended) {
        bool busy = core->phase == MIRROR_COPYING || core->phase == MIRROR_AWAY ||
                    core->phase == MIRROR_OPENING || core->split_wanted;
        loop_timer_start(&core->tick, busy ? TICK_COPY_NS : TICK_NS);
    }
}

static void tick(void *arg)
{
    struct mirror_core *core = arg;
    if (!core->map || core->map_closing) {
        return;
    }
    if (!core->connected) {
        change_map_log(core->map);
    }
    bool more = change_map_tidy(core->map, IDLE_NS);
    if (more && core->connected) {
        core->tidy_wanted = true;
    }
    if (core->phase == MIRROR_COPYING) {
        rate_update(core);
        if (loop_now_ns(core->loop) - core->reported_ns >= PROGRESS_NS) {
            tell(core, false);
        }
        mirror_copy_pump(core);
    }
    mirror_queue_go(core);
    if (core->phase == MIRROR_COPYING || core->phase == MIRROR_AWAY || core->split_wanted ||
        change_map_is_busy(core->map) || !list_empty(&core->queue)) {
        mirror_tick_soon(core);
    }
    mirror_kick(core);
}

/* ---- verbs ---- */

void mirror_core_connect(struct mirror_core *core, enum mirror_direction direction)
{
    if (core->ending || core->map_failed) {
        return;
    }
    if (core->leaving) {
        core->connect_next = true;
        core->connect_direction = direction;
        return;
    }
    if (core->phase != MIRROR_TRACKING && core->phase != MIRROR_HELD &&
        core->phase != MIRROR_BROKEN) {
        return;
    }
    core->goal = true;
    core->was_connected = false;
    core->attempts = 0;
    core->hold_until_ns = 0;
    core->backoff_ns = MIRROR_BACKOFF_MIN_NS;
    if (direction == MIRROR_FROM_LEG && core->direction == MIRROR_FROM_LEG) {
        /* It goes on: of what hosts have written since, the source stays right. */
    } else if (direction == MIRROR_FROM_LEG) {
        core->turning = true;
        core->hold = HOLD_TURN;
    } else {
        core->direction = MIRROR_TO_LEG;
        if (core->map) {
            change_map_turn(core->map, false);
        }
    }
    mirror_move(core, MIRROR_OPENING);
    mirror_kick(core);
}

static struct mirror_verb *verb_new(mirror_done_fn done, void *arg)
{
    struct mirror_verb *verb = calloc(1, sizeof(*verb));
    CHECK(verb != NULL);
    verb->done = done;
    verb->arg = arg;
    return verb;
}

void mirror_core_disconnect(struct mirror_core *core, mirror_done_fn done, void *arg)
{
    list_push_back(&core->disconnects, &verb_new(done, arg)->link);
    core->connect_next = false;
    if (!core->map || core->map_failed) {
        core->goal = false;
        verbs_done(core, &core->disconnects, NULL);
        if (core->phase != MIRROR_TRACKING) {
            mirror_move(core, MIRROR_TRACKING);
        }
        mirror_kick(core);
    } else if (!core->leaving) {
        leave(core, false);
    }
}

void mirror_core_split(struct mirror_core *core, struct mirror_member *member, uint64_t timeout_ms,
                       mirror_done_fn done, void *arg)
{
    struct error error;
    if (!core->goal || core->leaving || core->split_wanted || core->ending) {
        error_set(&error, ERR_ILLEGAL_STATE, "the mirror is %s", mirror_phase_name(core->phase));
        if (member) {
            mirror_member_absent(member, &error);
        }
        mirror_tell_done(core->mirror, done, arg, &error);
        return;
    }
    if (member && !mirror_member_begin(member, core, &error)) {
        mirror_tell_done(core->mirror, done, arg, &error);
        return;
    }
    core->member = member;
    core->split_wanted = true;
    core->split_flushing = false;
    core->split_done = done;
    core->split_arg = arg;
    core->split_at_ns = loop_now_ns(core->loop) + timeout_ms * MS_NS;
    loop_timer_stop(&core->tick);
    mirror_tick_soon(core);
    mirror_kick(core);
}

void mirror_core_set_limits(struct mirror_core *core, unsigned priority, uint64_t bandwidth_limit)
{
    core->spec.priority = priority;
    core->spec.bandwidth_limit = bandwidth_limit;
    mirror_copy_set_limits(core);
}

void mirror_core_end(struct mirror_core *core, bool remove_map)
{
    struct error error;
    if (core->ending) {
        return;
    }
    core->ending = true;
    core->remove_map = remove_map;
    core->connect_next = false;
    if (core->split_wanted) {
        error_set(&error, ERR_TERMINATED, "the mirror ends");
        split_end(core, &error);
    }
    if (core->map && !core->leaving) {
        leave(core, false);
    }
    mirror_kick(core);
}

/* ---- beginning and end ---- */

static void map_opened(void *arg, struct change_map *map, const struct error *error)
{
    struct mirror_core *core = arg;
    core->map_opening = false;
    if (map) {
        core->map = map;
        mirror_marks_begin(core);
        if (core->ending) {
            leave(core, false);
        }
    } else {
        core->map_failed = true;
        core->map_error = *error;
        core->error = *error;
        core->has_error = true;
        core->goal = false;
        mirror_note(core, "%.470s", error->detail);
        log_error("mirror[%s] %s", core->spec.name, error->detail);
        mirror_move(core, MIRROR_BROKEN);
        mirror_marks_fail(core, error);
    }
    mirror_queue_go(core);
    mirror_kick(core);
}

void mirror_core_start(struct mirror_core *core)
{
    struct change_map_spec spec = {
        .files = core->spec.map_files,
        .path = core->spec.map_path,
        .size_bytes = core->spec.size_bytes,
        .all_differs = core->spec.all_differs,
        .stale = core->direction == MIRROR_FROM_LEG,
    };
    core->map_opening = true;
    int rc = change_map_open(core->loop, &spec, map_opened, core);
    if (rc < 0) {
        struct error error;
        error_set(&error, ERR_NO_MEMORY, "%s", core->spec.map_path);
        map_opened(core, NULL, &error);
        return;
    }
    if (core->spec.connect) {
        core->goal = true;
        mirror_move(core, MIRROR_OPENING);
    }
}

struct mirror_core *mirror_core_new(struct loop *loop, struct mirror *mirror,
                                    const struct mirror_spec *spec)
{
    struct mirror_core *core = calloc(1, sizeof(*core));
    CHECK(core != NULL);
    core->loop = loop;
    core->mirror = mirror;
    core->spec = *spec;
    core->spec.name[sizeof(core->spec.name) - 1] = '\0';
    core->spec.map_path[sizeof(core->spec.map_path) - 1] = '\0';
    core->phase = MIRROR_TRACKING;
    core->direction = spec->connect ? spec->direction : MIRROR_TO_LEG;
    core->backoff_ns = MIRROR_BACKOFF_MIN_NS;
    list_init(&core->disconnects);
    list_init(&core->marks_waiting);
    list_init(&core->locks);
    list_init(&core->queue);
    list_init(&core->spare);
    list_init(&core->chunks_free);
    core->step_task = (struct loop_task){.fn = step, .arg = core};
    loop_timer_init(&core->tick, loop, tick, core);
    mirror_copy_init(core);
    return core;
}

void mirror_core_free(struct mirror_core *core)
{
    CHECK(core->leg_state == LEG_CLOSED && !core->dev && !core->step_queued);
    CHECK(list_empty(&core->locks) && list_empty(&core->queue) && !core->flush);
    loop_timer_stop(&core->tick);
    loop_timer_stop(&core->copy_timer);
    mirror_copy_rest(core);
    mirror_ops_free(core);
    mirror_leg_free(core);
    free(core);
}
