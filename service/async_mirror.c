// SPDX-License-Identifier: Apache-2.0
/*
 * Asynchronous mirrors: what a mirror's row wants and where its cycle is (store/cycle.h) say what is to be done next; one thing at
 * a time.
 *
 *     a copy runs ── it is not wanted any more: cancelled ─▶ …
 *     not to flow:  look closed ▶ the target lands on its point, if its hosts may write ▶ who may write ▶ applied
 *     to flow:      who may write ▶ applied ▶ resting: wait for the time ▶ begin ▶ look ▶ copy ▶ done ▶ resting …
 *
 * So a start after a crash, or a volume that was away, needs nothing of its own: the row is read, and what it says goes on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "service/async_private.h"
#include "service/exports.h"
#include "service/live.h"
#include "service/mirror_records.h"
#include "store/group.h"

enum { LOOK_MS = 500, LOOK_BLOCKS_MS = 200, AGAIN_MS = 1000, HINDERED_MS = 1500, ANSWER_MS = 5000 };

static void go_on_timer(void *arg)
{
    async_go_on(arg);
}

static void part_timeout(void *arg);

static struct async_mirror *state_of(struct mirror_run *run)
{
    struct async_mirror *am = run->state;

    if (am == NULL) {
        am = calloc(1, sizeof(*am));
        CHECK(am != NULL);
        am->run = run;
        am->row = run->want;
        am->guarded[ASYNC_SOURCE] = am->guarded[ASYNC_TARGET] = -1;
        loop_timer_init(&am->timer, control_loop(run->control), go_on_timer, am);
        loop_timer_init(&am->part_timer, control_loop(run->control), part_timeout, am);
        run->state = am;
    }
    return am;
}

static struct array *array_of(const struct async_mirror *am)
{
    return hosted_array(control_hosted(am->run->control));
}

static uint64_t now_ns(const struct async_mirror *am)
{
    return loop_now_ns(control_loop(am->run->control));
}

static void again_in(struct async_mirror *am, uint64_t ms)
{
    loop_timer_start(&am->timer, ms * MS_NS);
}

/* Who is told may apply another row, or end am, before the call is back: it is the last thing of a
 * decision, and what is left to be decided is asked for before it. */
static void applied(struct async_mirror *am, const struct error *error)
{
    array_done_fn done = am->applied;

    if (done != NULL) {
        am->applied = NULL;
        done(am->applied_arg, error);
    }
}

void async_break(struct async_mirror *am, const struct error *error)
{
    struct mirror_progress progress = {.phase = MIRROR_BROKEN};

    log_warning("async[%s] %s", am->row.head.id, error->detail);
    if (am->cycle.way == CYCLE_UNDO) {
        am->undo_failed = true;
        async_go_on(am);
        return;
    }
    memcpy(progress.last_error, error->detail,
           strnlen(error->detail, sizeof(progress.last_error) - 1));
    progress.last_error_ms = control_now_ms(am->run->control);
    am->broken = true;
    async_publish(am);
    mirror_told(am->run, &progress, error);
    async_go_on(am);
}

/* What goes on by itself when there is room again. Until the source is whole nobody has anything of a mirror that is broken. */
bool async_waits_for_room(struct async_mirror *am, const struct error *error)
{
    struct mirror_progress progress = {.phase = MIRROR_COPYING};

    if (!am->row.source_incomplete || error->code != ERR_NO_SPACE) {
        return false;
    }
    progress.total_bytes = am->progress.bytes_total;
    progress.marked_bytes = am->progress.bytes_total - am->progress.bytes_done;
    memcpy(progress.last_error, error->detail,
           strnlen(error->detail, sizeof(progress.last_error) - 1));
    progress.last_error_ms = control_now_ms(am->run->control);
    mirror_numbers(am->run, &progress);
    again_in(am, AGAIN_MS);
    return true;
}

/* It is tried again and again; who looks is told so when that has been in vain for a while. */
static void hindered(struct async_mirror *am, const struct error *error)
{
    struct mirror_progress progress = {.phase = MIRROR_AWAY};

    if (am->hindered_ns == 0) {
        am->hindered_ns = now_ns(am);
    }
    if (!am->flow || am->hindered_told || error->code == ERR_IN_USE ||
        error->code == ERR_CONFLICT || error->code == ERR_TIMEOUT ||
        now_ns(am) - am->hindered_ns < HINDERED_MS * MS_NS) {
        return;
    }
    am->hindered_told = am->was_away = true;
    am->equal = false;
    memcpy(progress.last_error, error->detail,
           strnlen(error->detail, sizeof(progress.last_error) - 1));
    progress.last_error_ms = control_now_ms(am->run->control);
    mirror_told(am->run, &progress, NULL);
}

/* A step that could not be done is tried again, unless it says that it never can. */
void async_step_done(struct async_mirror *am, const struct error *error)
{
    CHECK(am->busy);
    am->busy = false;
    am->files = (struct async_files){0};
    am->cycle_done = am->cycle_done && error == NULL;
    if (error == NULL) {
        async_go_on(am);
        return;
    }
    if (am->ending) {
        log_warning("async[%s] %s", am->row.head.id, error->detail);
        async_go_on(am);
    } else if (async_waits_for_room(am, error)) {
        return;
    } else if (am->flow && (error->code == ERR_NO_SPACE || error->code == ERR_LIMIT_REACHED)) {
        async_break(am, error);
    } else {
        if (am->tried_again_ns == 0 || now_ns(am) - am->tried_again_ns > 30 * SEC_NS) {
            log_warning("async[%s] %s", am->row.head.id, error->detail);
            am->tried_again_ns = now_ns(am);
        }
        hindered(am, error);
        again_in(am, AGAIN_MS);
        if (!am->flow && now_ns(am) - am->hindered_ns >= ANSWER_MS * MS_NS) {
            applied(am, error); /* it goes on, and nobody waits for it any longer */
        }
    }
}

/* ---- what is read before each decision ---- */

/* Members of a consistent relationship of groups have their cycles together. */
static int group_read(struct async_mirror *am)
{
    struct db *db = control_db(am->run->control);
    struct group_sync_row group_sync;
    struct sync_row sync;
    int r = table_get(db, &sync_table, am->row.head.id, &sync);

    am->group_id[0] = '\0';
    if (r == 0 && sync.group_sync_id[0] != '\0') {
        r = table_get(db, &group_sync_table, sync.group_sync_id, &group_sync);
        if (r == 0 && group_sync.consistency) {
            strcpy(am->group_id, sync.group_sync_id);
        }
    }
    return r == -ENOENT ? 0 : r;
}

/* 1: the source has grown since its base. What a LUN of another system has beyond that nobody knows. */
static int grown_since(struct db *db, const struct volume_row *source, const char *base_id)
{
    struct layer_row base;
    int r = table_get(db, &layer_table, base_id, &base);

    return r < 0 ? r : base.size_bytes < source->size_bytes;
}

int async_rows_read(struct async_mirror *am)
{
    struct db *db = control_db(am->run->control);
    int r = table_get(db, &volume_table, am->row.source_id, &am->volumes[ASYNC_SOURCE]);

    if (r == 0) {
        r = table_get(db, &volume_table, am->row.target_id, &am->volumes[ASYNC_TARGET]);
    }
    if (r == 0) {
        r = cycle_find(db, am->row.head.id, &am->cycle);
        if (r == -ENOENT) {
            am->cycle = (struct cycle_row){0};
            r = 0;
        }
    }
    if (r == 0) {
        r = group_read(am);
    }
    if (r < 0) {
        return r;
    }
    const struct volume_row *source = &am->volumes[ASYNC_SOURCE];
    const struct volume_row *target = &am->volumes[ASYNC_TARGET];
    int base = source->kind == VOLUME_HOSTED
                   ? hosted_chain_has(db, source->top_layer_id, am->cycle.base_id)
                   : 0;
    int point = target->kind == VOLUME_HOSTED
                    ? hosted_chain_has(db, target->top_layer_id, am->cycle.point_id)
                    : 0;

    if (base > 0 && target->kind != VOLUME_HOSTED) {
        int grown = grown_since(db, source, am->cycle.base_id);
        base = grown == 1 ? 0 : grown < 0 ? grown : base;
    }
    /* Only while its hosts have not been let in yet is the new source what the base is. */
    int reversed = target->kind == VOLUME_HOSTED && base == 0 && source->guarded &&
                           am->row.map_state == MAP_EQUAL
                       ? hosted_chain_has(db, target->top_layer_id, am->cycle.base_id)
                       : 0;

    am->reversed = reversed > 0;
    am->valid_base = base > 0;
    am->valid_point = point > 0;
    return base < 0 ? base : point < 0 ? point : 0;
}

/* ---- who may write ---- */

struct guarding {
    struct async_mirror *am;
    unsigned side;
    bool guarded;
};

static void guard_told(void *arg, const struct error *error)
{
    (void)error; /* nobody may be logged in */
    async_step_done(arg, NULL);
}

static void guard_set(void *arg, struct array_barrier *barrier)
{
    struct guarding *guarding = arg;
    struct async_mirror *am = guarding->am;

    array_barrier_end(barrier);
    exports_notify_volume(am->run->control, am->volumes[guarding->side].head.id,
                          guarding->guarded ? TARGET_LUN_READ_ONLY : TARGET_LUN_WRITABLE,
                          guard_told, am);
    free(guarding);
}

/* True: it is on its way. */
static bool guard(struct async_mirror *am, unsigned side)
{
    const struct volume_row *volume = &am->volumes[side];
    bool guarded = volume->guarded || (side == ASYNC_SOURCE && am->part_guard);

    if (volume->kind != VOLUME_HOSTED || am->guarded[side] == guarded ||
        !array_volume_is_there(array_of(am), volume->head.id)) {
        return false;
    }
    struct guarding *guarding = calloc(1, sizeof(*guarding));

    CHECK(guarding != NULL);
    *guarding = (struct guarding){am, side, guarded};
    am->guarded[side] = guarded;
    am->busy = true;
    array_volume_set_read_only(array_of(am), volume->head.id, guarded || volume->write_protected);
    array_barrier(array_of(am), volume->family, guard_set, guarding);
    return true;
}

static bool guards(struct async_mirror *am)
{
    return guard(am, ASYNC_TARGET) || guard(am, ASYNC_SOURCE);
}

/* ---- who waits ---- */

/* Hosts of the source go on, whatever is under way: a cycle whose target is away does not stop them. */
static void source_released(struct async_mirror *am)
{
    struct volume_row source;

    am->part_guard = false;
    if (am->guarded[ASYNC_SOURCE] != true ||
        table_get(control_db(am->run->control), &volume_table, am->row.source_id, &source) < 0 ||
        source.guarded) {
        return;
    }
    am->guarded[ASYNC_SOURCE] = false;
    if (array_volume_is_there(array_of(am), source.head.id)) {
        array_volume_set_read_only(array_of(am), source.head.id, source.write_protected);
        exports_notify_volume(am->run->control, source.head.id, TARGET_LUN_WRITABLE, NULL, NULL);
    }
}

static void parted(struct async_mirror *am, const struct error *error)
{
    array_done_fn done = am->parted;

    loop_timer_stop(&am->part_timer);
    am->parted = NULL;
    am->part_cut = false;
    if (error != NULL) {
        source_released(am);
    } else {
        am->flow = false; /* until the row that follows is applied */
    }
    done(am->parted_arg, error);
}

static void part_timeout(void *arg)
{
    struct async_mirror *am = arg;
    struct error error = {0};

    if (am->parted != NULL) {
        error_set(&error, ERR_TIMEOUT,
                  "The last cycle of the mirror has not come to its end in time; it goes on.");
        again_in(am, 0);
        parted(am, &error);
    }
}

static void over(struct async_mirror *am)
{
    loop_fn ended = am->ended;
    void *arg = am->ended_arg;

    loop_timer_stop(&am->timer);
    loop_timer_stop(&am->part_timer);
    live_lag_remove(control_live(am->run->control), am->row.head.id);
    am->run->state = NULL;
    free(am);
    ended(arg);
}

/* ---- the decision ---- */

/* What is over keeps nobody from writing. True: it is on its way. At the end of the service the rows are as they were. */
static bool unguards(struct async_mirror *am)
{
    struct db *db = control_db(am->run->control);
    const char *ids[] = {am->row.source_id, am->row.target_id};

    am->part_guard = false;
    for (unsigned side = 0; side < ARRAY_LEN(ids); side++) {
        unsigned at = side == 0 ? ASYNC_SOURCE : ASYNC_TARGET;

        if (table_get(db, &volume_table, ids[side], &am->volumes[at]) == 0 && guard(am, at)) {
            return true;
        }
    }
    return false;
}

static void end_go_on(struct async_mirror *am)
{
    if (am->looking) {
        return; /* its answer comes here again */
    }
    if (am->look_open) {
        async_look_close(am);
    } else if (am->forget && !am->left_whole) {
        am->left_whole = true;
        if (async_rows_read(am) == 0 && am->cycle.way == CYCLE_FORWARD && am->valid_point) {
            async_land(am);
        } else {
            end_go_on(am);
        }
    } else if (am->forget) {
        am->forget = false;
        async_forget(am);
    } else if (!unguards(am)) {
        over(am);
    }
}

/* Hosts of the target may write to it: it has to be a point, and what they change to be told from it. */
static bool lands(const struct async_mirror *am)
{
    bool hosted = am->volumes[ASYNC_TARGET].kind == VOLUME_HOSTED;

    return replica_mirror_target_free(am->row.copy_state) &&
           (am->cycle.way == CYCLE_FORWARD || am->cycle.way == CYCLE_UNDO ||
            (am->cycle.way == CYCLE_RESTS &&
             (hosted ? am->cycle.cycles > 0 && !am->valid_point : am->cycle.base_id[0] != '\0')));
}

/* A target of another system has what a cycle has overwritten; the source still knows what that was. */
static bool is_to_undo(const struct async_mirror *am)
{
    return replica_mirror_target_free(am->row.copy_state) && am->valid_base && !am->undone &&
           !am->undo_failed && am->volumes[ASYNC_TARGET].kind != VOLUME_HOSTED &&
           (am->cycle.way == CYCLE_FORWARD || am->cycle.way == CYCLE_UNDO);
}

static void undo_go_on(struct async_mirror *am)
{
    if (am->cycle.way == CYCLE_FORWARD && am->look_open) {
        async_look_close(am);
    } else if (am->cycle.way == CYCLE_FORWARD) {
        async_undo(am);
    } else if (!am->look_open) {
        async_cycle_look(am);
    } else {
        async_copy_start(am);
    }
}

/* Hosts of the target go on where they were: what was cut there for the way back is not what it is to be the next time. */
static bool is_way_back_over(const struct async_mirror *am)
{
    return replica_mirror_target_free(am->row.copy_state) && am->cycle.way == CYCLE_BACK;
}

static void halt_go_on(struct async_mirror *am)
{
    if (is_to_undo(am)) {
        undo_go_on(am);
    } else if (am->look_open) {
        async_look_close(am);
    } else if (is_way_back_over(am)) {
        async_abandon(am);
    } else if (lands(am)) {
        async_land(am);
    } else if (!guards(am)) {
        applied(am, NULL);
    }
}

/* The beginning of the next cycle; 0: now. */
static uint64_t wait_ms(const struct async_mirror *am)
{
    uint64_t interval = async_interval_ms(am) * MS_NS;
    uint64_t passed = now_ns(am) - am->begun_ns;

    if (am->begun_ns == 0 || am->cycle.cycles == 0 || am->parted != NULL || !am->equal ||
        passed >= interval) {
        return 0;
    }
    if (am->row.delta_update_blocks != 0 && am->changes_known &&
        am->changed_bytes / am->volumes[ASYNC_SOURCE].block_bytes >= am->row.delta_update_blocks) {
        return 0;
    }
    return (interval - passed) / MS_NS + 1;
}

static void tell_equal(struct async_mirror *am)
{
    struct mirror_progress progress = {.phase = MIRROR_EQUAL};

    am->equal = true;
    am->row.source_incomplete = false;
    mirror_told(am->run, &progress, NULL);
}

/* The way back, and what follows reversed roles, is each one's own: it is of the moment of the point, or hosts cannot write meanwhile. */
static bool in_rounds(const struct async_mirror *am)
{
    return am->group_id[0] != '\0' && !am->row.source_incomplete && !am->reversed;
}

/* Between two cycles. */
static void rest_go_on(struct async_mirror *am)
{
    uint64_t wait = am->row.source_incomplete ? 0 : wait_ms(am);
    uint64_t look = am->row.delta_update_blocks != 0 ? LOOK_BLOCKS_MS : LOOK_MS;

    if (wait == 0 && in_rounds(am)) {
        if (!async_round_go_on(am)) {
            again_in(am, LOOK_MS);
        }
    } else if (wait == 0) {
        am->part_cut = am->parted != NULL;
        async_cycle_begin(am, am->row.source_incomplete);
    } else {
        again_in(am, wait < look ? wait : look);
    }
}

static void flow_go_on(struct async_mirror *am)
{
    bool back = am->row.source_incomplete;
    unsigned from = am->cycle.way == CYCLE_BACK ? ASYNC_TARGET : ASYNC_SOURCE;

    if (guards(am)) {
        return;
    }
    if (am->applied != NULL) {
        again_in(am, 0);
        applied(am, NULL);
        return;
    }
    if (am->cycle.way == CYCLE_RESTS) {
        rest_go_on(am);
    } else if (am->cycle.way == CYCLE_UNDO || (am->cycle.way == CYCLE_BACK) != back) {
        if (am->look_open) {
            async_look_close(am);
        } else {
            async_abandon(am);
        }
    } else if (async_is_copied(am)) {
        if (!in_rounds(am)) {
            async_cycle_finish(am);
        } else if (!async_round_go_on(am)) {
            again_in(am, LOOK_MS);
        }
    } else if (am->volumes[from].kind == VOLUME_HOSTED && !am->look_open) {
        async_cycle_look(am);
    } else {
        async_copy_start(am);
        if (am->copy != NULL) {
            again_in(am, LOOK_BLOCKS_MS); /* what hosts change meanwhile */
        }
    }
}

bool async_flows(const struct async_mirror *am)
{
    return am->flow && !am->broken && !am->ending;
}

/* A cycle has ended, or there was nothing to do. */
static void cycle_ended(struct async_mirror *am)
{
    am->cycle_done = false;
    am->hindered_ns = 0;
    am->hindered_told = false;
    if (am->flow && am->was_away && am->row.copy_recovery_mode == 3) {
        async_is_back(am);
    } else if (am->flow && !am->equal) {
        am->was_away = false;
        tell_equal(am);
    }
    if (am->parted != NULL && am->part_cut) {
        parted(am, NULL);
    }
}

void async_go_on(struct async_mirror *am)
{
    loop_timer_stop(&am->timer);
    if (am->busy) {
        return;
    }
    if (am->copy != NULL) {
        bool wanted =
            am->cycle.way == CYCLE_UNDO
                ? !am->flow && !am->ending
                : async_flows(am) && (am->cycle.way == CYCLE_BACK) == am->row.source_incomplete;

        if (!wanted && !am->cancelling) {
            am->cancelling = true;
            copy_cancel(am->copy);
        } else if (!am->cancelling) {
            again_in(am, LOOK_MS);
            if (!am->looking && am->cycle.way == CYCLE_FORWARD && am->valid_base) {
                am->looking = true;
                async_changes_look(am);
            }
        }
        return;
    }
    if (am->cycle_done) {
        /* Who waits for its end may count on what hosts can write to then. */
        if (async_flows(am) && async_rows_read(am) == 0 && guards(am)) {
            return; /* it comes here again */
        }
        again_in(am, 0);
        cycle_ended(am);
        return;
    }
    if (am->ending) {
        end_go_on(am);
        return;
    }
    int r = async_rows_read(am);

    if (r < 0) {
        log_warning("async[%s] its records cannot be read: %s", am->row.head.id, strerror(-r));
        again_in(am, AGAIN_MS);
    } else if (!async_flows(am)) {
        halt_go_on(am);
    } else if (am->cycle.way == CYCLE_RESTS && am->valid_base && !am->looking &&
               now_ns(am) - am->looked_ns > LOOK_BLOCKS_MS * MS_NS) {
        am->looking = true;
        async_changes_look(am);
        flow_go_on(am);
    } else {
        flow_go_on(am);
    }
}

/* ---- the driver ---- */

static void async_apply(struct mirror_run *run, array_done_fn done, void *arg)
{
    struct async_mirror *am = state_of(run);

    am->row = run->want;
    run->revision = run->want.revision;
    am->applied = done;
    am->applied_arg = arg;
    am->broken = false;
    am->away = false;
    am->was_away = am->row.copy_state == STATE_PARTITIONED;
    am->undone = am->undo_failed = false;
    am->part_guard = false;
    am->hindered_ns = 0;
    am->hindered_told = false;
    am->flow = replica_mirror_connected(&am->row);
    am->equal = am->row.copy_state == STATE_SYNCHRONIZED;
    if (am->copy != NULL) {
        copy_set_limits(am->copy, am->row.copy_priority, am->row.bandwidth_limit);
    }
    async_publish(am);
    async_go_on(am);
}

static void async_split(struct mirror_run *run, bool guarded, uint64_t timeout_ms,
                        array_done_fn done, void *arg)
{
    struct async_mirror *am = state_of(run);

    am->parted = done;
    am->parted_arg = arg;
    am->part_guard = guarded;
    am->part_cut = false;
    loop_timer_start(&am->part_timer, timeout_ms * MS_NS);
    async_go_on(am);
}

static bool async_filter(struct mirror_run *run, const struct volume_row *volume,
                         struct array_filter *ret_filter)
{
    (void)run;
    (void)volume;
    (void)ret_filter;
    return false;
}

static void async_end(struct mirror_run *run, bool forget, loop_fn done, void *arg)
{
    struct async_mirror *am = state_of(run);

    am->ending = true;
    am->forget = forget;
    am->ended = done;
    am->ended_arg = arg;
    if (am->copy != NULL && !am->cancelling && !forget) {
        am->cancelling = true;
        copy_shutdown(am->copy);
    }
    async_go_on(am);
}

const struct mirror_driver mirror_async_driver = {
    .name = "async",
    .apply = async_apply,
    .split = async_split,
    .filter = async_filter,
    .end = async_end,
    .look = async_look,
    .would_move = async_would_move,
};
