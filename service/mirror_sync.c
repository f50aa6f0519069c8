// SPDX-License-Identifier: Apache-2.0
/*
 * Synchronous mirrors: a filter on the source (replication/mirror.h), and while the target is its hosts' another one on that, which
 * only tracks what they change.
 *
 * apply() goes through the steps below in their order; each is passed over when there is nothing to do, so a row can be
 * applied again at any time:
 *
 *     what is of an older map goes · disconnect · the filter on the source · the one on the target · who may not write ·
 *     what changed on the target is marked on the source's side · connect · who may write
 *
 * So the target is writable only while nothing of ours writes to it and its changes are tracked, and what was tracked is marked
 * before anything flows again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "service/exports.h"
#include "service/hosted.h"
#include "service/mirror_merge.h"
#include "service/mirrors.h"

enum { TELL_MS = 1000 };

struct sync_mirror;
struct sync_together;

/* A mirror and its place on a volume. */
struct side {
    struct sync_mirror *owner; /* NULL: it goes */
    struct control *control;
    char volume_id[ID_SIZE];
    char filter_id[ID_SIZE];
    char path[512];
    uint32_t generation;
    bool tracker;
    bool in_place; /* its filter was asked for */
    struct mirror *mirror;
    struct mirror_progress progress;
    bool known;
    uint64_t told_ns;
    enum mirror_phase told_phase;
    /* its end */
    bool remove_map;
    loop_fn ended;
    void *ended_arg;
};

enum step {
    STEP_OLD_TRACKER,
    STEP_OLD,
    STEP_DISCONNECT,
    STEP_SOURCE,
    STEP_TRACKER,
    STEP_GUARD_TARGET,
    STEP_GUARD_SOURCE,
    STEP_UNTRACK,
    STEP_MERGE,
    STEP_CONNECT,
    STEP_FREE_SOURCE,
    STEP_DONE,
};

struct guard_known {
    char volume_id[ID_SIZE];
    bool guarded;
};

struct sync_mirror {
    struct mirror_run *run;
    struct side *source;
    struct side *tracker;
    struct guard_known known[2];
    struct sync_row row;          /* what is applied */
    struct volume_row volumes[2]; /* source and target, of that */
    enum step step;
    struct error error;
    array_done_fn done;
    void *done_arg;
    /* a split */
    bool guard;
    uint64_t timeout_ms;
    struct sync_together *together;
    /* an end */
    loop_fn ended;
    void *ended_arg;
    bool forget;
};

static void steps_go_on(struct sync_mirror *sm);
static void step_done(void *arg, const struct error *error);

static struct sync_mirror *state_of(struct mirror_run *run)
{
    struct sync_mirror *sm = run->state;

    if (sm == NULL) {
        sm = calloc(1, sizeof(*sm));
        CHECK(sm != NULL);
        sm->run = run;
        run->state = sm;
    }
    return sm;
}

static struct array *array_of(const struct sync_mirror *sm)
{
    return hosted_array(control_hosted(sm->run->control));
}

/* ---- a side ---- */

static void side_progress(void *arg, const struct mirror_progress *progress,
                          const struct error *error)
{
    struct side *side = arg;
    uint64_t now = loop_now_ns(control_loop(side->control));
    bool changed = !side->known || progress->phase != side->told_phase || error != NULL;

    side->progress = *progress;
    side->known = true;
    if (side->tracker || side->owner == NULL || side->owner->source != side) {
        return;
    }
    if (progress->phase == MIRROR_COPYING || progress->phase == MIRROR_EQUAL) {
        mirror_map_kept(side->owner->run);
    }
    if (changed || now - side->told_ns >= TELL_MS * MS_NS) {
        side->told_ns = now;
        side->told_phase = progress->phase;
        mirror_told(side->owner->run, progress, error);
    } else {
        mirror_numbers(side->owner->run, progress);
    }
}

static void side_gone(struct side *side)
{
    loop_fn ended = side->ended;
    void *arg = side->ended_arg;

    if (side->mirror != NULL) {
        mirror_free(side->mirror);
    }
    free(side);
    if (ended != NULL) {
        ended(arg);
    }
}

static void side_ended(void *arg, const struct error *error)
{
    struct side *side = arg;

    if (error != NULL) {
        log_warning("mirror[%s] on volume %s: %s", side->filter_id, side->volume_id, error->detail);
    }
    side_gone(side);
}

static const struct mirror_events side_events = {.progress = side_progress, .ended = side_ended};

static int side_make(void *arg, struct loop *loop, struct blockdev *below,
                     struct blockdev **ret_dev)
{
    struct side *side = arg;

    (void)loop;
    return mirror_make_dev(side->mirror, below, ret_dev);
}

/* at_open: it begins by itself, before anybody is served; else STEP_CONNECT does that. */
static struct side *side_new(struct sync_mirror *sm, const struct sync_row *row, bool tracker,
                             const struct volume_row *volume, struct loop *loop, bool at_open)
{
    struct side *side = calloc(1, sizeof(*side));
    bool from_leg = !tracker && row->source_incomplete;
    struct mirror_spec spec = {
        .size_bytes = volume->size_bytes,
        .direction = from_leg ? MIRROR_FROM_LEG : MIRROR_TO_LEG,
        .connect = at_open && !tracker && replica_mirror_connected(row),
        .recover_by_hand = row->copy_recovery_mode == 3,
        .stop_host_io = !tracker && row->failed_copy_stops_host_io,
        .priority = row->copy_priority,
        .bandwidth_limit = row->bandwidth_limit,
    };

    CHECK(side != NULL);
    side->owner = sm;
    side->control = sm->run->control;
    side->tracker = tracker;
    side->generation = row->map_generation;
    strcpy(side->volume_id, volume->head.id);
    strcpy(side->filter_id, row->head.id);
    int r = mirror_map_path(side->control, volume->head.id, row, tracker ? "t" : "", side->path,
                            sizeof(side->path));

    if (r < 0) {
        log_error("mirror[%s] has no place for its map: %s", row->head.id, strerror(-r));
        free(side);
        return NULL;
    }
    strcpy(spec.map_path, side->path);
    /* What hosts changed on the target is to be known before anything flows; on the way back nobody may read before that, either. */
    if (at_open && !tracker && row->target_tracked && replica_mirror_connected(row)) {
        spec.connect = from_leg;
        spec.all_differs = from_leg;
    }
    spec.all_differs = spec.all_differs || (!tracker && row->map_state == MAP_ALL);
    if (!tracker && row->map_state == MAP_KEPT && access(side->path, F_OK) < 0) {
        log_error("mirror[%s] its map %s is gone; everything is copied", row->head.id, side->path);
        spec.all_differs = true;
    }
    snprintf(spec.name, sizeof(spec.name), "%s %.12s>%.12s%s", row->head.id, row->source_id,
             row->target_id, tracker ? " target" : "");
    spec.leg =
        mirror_leg_opener(side->control, row->head.id, tracker ? row->source_id : row->target_id);
    side->mirror = mirror_new(control_loop(side->control), loop, &spec, &side_events, side);
    return side;
}

/* ---- the end of a side: disconnected, then its filter goes, then the mirror ---- */

static void side_out(void *arg, const struct error *error)
{
    struct side *side = arg;

    (void)error; /* its volume may be gone, and the device with it */
    mirror_end(side->mirror, side->remove_map);
}

static void side_disconnected(void *arg, const struct error *error)
{
    struct side *side = arg;

    (void)error;
    if (side->in_place) {
        array_volume_filter_remove(hosted_array(control_hosted(side->control)), side->volume_id,
                                   side->filter_id, side_out, side);
    } else {
        side_out(side, NULL);
    }
}

static void side_end(struct side *side, bool remove_map, loop_fn ended, void *arg)
{
    side->owner = NULL;
    side->remove_map = remove_map;
    side->ended = ended;
    side->ended_arg = arg;
    mirror_disconnect(side->mirror, side_disconnected, side);
}

/* The same of one that has no leg: its filter goes before what is asked of the volume next (a growth, say). */
static void side_end_first(struct side *side, loop_fn ended, void *arg)
{
    side->owner = NULL;
    side->remove_map = true;
    side->ended = ended;
    side->ended_arg = arg;
    side_disconnected(side, NULL);
}

/* ---- placing a side on a volume that is open ---- */

static void side_placed(void *arg, const struct error *error)
{
    struct side *side = arg;
    struct sync_mirror *sm = side->owner;

    if (error != NULL) {
        side->in_place = false;
        if (side->tracker) {
            sm->tracker = NULL;
        } else {
            sm->source = NULL;
        }
        struct error kept = *error;

        side_end(side, false, NULL, NULL);
        step_done(sm, &kept);
        return;
    }
    step_done(sm, NULL);
}

static struct side *place(struct sync_mirror *sm, bool tracker, const struct volume_row *volume)
{
    struct loop *loop;
    struct error error = {0};

    if (array_volume_device(array_of(sm), volume->head.id, &loop) == NULL) {
        error_set(&error, ERR_COPY_FAILED, "/volumes/%s cannot be used: %.200s.", volume->head.id,
                  volume->problem[0] != '\0' ? volume->problem : "it is not open");
        step_done(sm, &error);
        return NULL;
    }
    struct side *side = side_new(sm, &sm->row, tracker, volume, loop, false);

    if (side == NULL) {
        error_set(&error, ERR_INTERNAL, "There is no place for the map of the mirror.");
        step_done(sm, &error);
        return NULL;
    }
    struct array_filter filter = {.make = side_make, .arg = side};

    side->in_place = true;
    if (tracker) {
        sm->tracker = side;
    } else {
        sm->source = side;
    }
    array_volume_filter_add(array_of(sm), side->volume_id, side->filter_id, &filter, side_placed,
                            side);
    return side;
}

/* The volume may be on its way to be open: its queue is waited for. */
struct place_later {
    struct sync_mirror *sm;
    bool tracker;
};

static void place_awaited(void *arg, struct array_barrier *barrier)
{
    struct place_later *later = arg;
    struct sync_mirror *sm = later->sm;
    bool tracker = later->tracker;

    array_barrier_end(barrier);
    free(later);
    /* It may have come with the open. */
    if (tracker ? sm->tracker != NULL : sm->source != NULL) {
        step_done(sm, NULL);
    } else {
        place(sm, tracker, &sm->volumes[tracker]);
    }
}

static void place_soon(struct sync_mirror *sm, bool tracker)
{
    struct place_later *later = calloc(1, sizeof(*later));

    CHECK(later != NULL);
    *later = (struct place_later){sm, tracker};
    array_barrier(array_of(sm), sm->volumes[tracker].family, place_awaited, later);
}

/* ---- who may write ---- */

static struct guard_known *guard_of(struct sync_mirror *sm, const char *volume_id)
{
    for (size_t i = 0; i < ARRAY_LEN(sm->known); i++) {
        if (strcmp(sm->known[i].volume_id, volume_id) == 0) {
            return &sm->known[i];
        }
    }
    return NULL;
}

struct guarding {
    struct sync_mirror *sm;
    char volume_id[ID_SIZE];
    bool guarded;
    array_done_fn then;
};

static void guard_told(void *arg, const struct error *error)
{
    struct guarding *guarding = arg;
    struct sync_mirror *sm = guarding->sm;
    array_done_fn then = guarding->then;

    (void)error; /* nobody may be logged in */
    free(guarding);
    then(sm, NULL);
}

/* What was asked of the array before is done. */
static void guard_set(void *arg, struct array_barrier *barrier)
{
    struct guarding *guarding = arg;

    array_barrier_end(barrier);
    exports_notify_volume(guarding->sm->run->control, guarding->volume_id,
                          guarding->guarded ? TARGET_LUN_READ_ONLY : TARGET_LUN_WRITABLE,
                          guard_told, guarding);
}

/* True: under way, and then(sm) comes. */
static bool guard(struct sync_mirror *sm, const struct volume_row *volume, bool guarded,
                  array_done_fn then)
{
    struct guard_known *known = guard_of(sm, volume->head.id);

    if (volume->kind != VOLUME_HOSTED || (known != NULL && known->guarded == guarded) ||
        !array_volume_is_there(array_of(sm), volume->head.id)) {
        return false;
    }
    if (known == NULL) {
        known = &sm->known[strcmp(volume->head.id, sm->row.target_id) == 0];
        strcpy(known->volume_id, volume->head.id);
    }
    known->guarded = guarded;
    struct guarding *guarding = calloc(1, sizeof(*guarding));

    CHECK(guarding != NULL);
    guarding->sm = sm;
    guarding->guarded = guarded;
    guarding->then = then;
    strcpy(guarding->volume_id, volume->head.id);
    array_volume_set_read_only(array_of(sm), volume->head.id, guarded || volume->write_protected);
    array_barrier(array_of(sm), volume->family, guard_set, guarding);
    return true;
}

/* ---- what hosts changed on the target, marked on the source's side ---- */

static void merged(void *arg, const struct error *error)
{
    struct sync_mirror *sm = arg;

    if (error == NULL) {
        sm->row.target_tracked = false;
        mirror_target_merged(sm->run);
    }
    step_done(sm, error);
}

static void merge(struct sync_mirror *sm)
{
    struct mirror_merge_spec spec = {
        .mirror = sm->source->mirror,
        .size_bytes = sm->volumes[1].size_bytes,
        .owner = control_loop(sm->run->control),
    };

    strcpy(spec.name, sm->row.head.id);
    array_volume_device(array_of(sm), sm->volumes[0].head.id, &spec.loop);
    if (spec.loop == NULL) {
        spec.loop = control_data_loop(sm->run->control, 0);
    }
    if (mirror_map_path(sm->run->control, sm->row.target_id, &sm->row, "t", spec.path,
                        sizeof(spec.path)) < 0) {
        spec.path[0] = '\0';
    }
    mirror_merge(&spec, merged, sm);
}

/* ---- the steps ---- */

static void step_ended(void *arg)
{
    step_done(arg, NULL);
}

static bool target_is_free(const struct sync_mirror *sm)
{
    return sm->volumes[1].kind == VOLUME_HOSTED && replica_mirror_target_free(sm->row.copy_state);
}

/* Another mirror of the source may have let its hosts in since the steps began: an older row must not shut them out again. */
static void source_again(struct sync_mirror *sm)
{
    struct volume_row now;

    if (table_get(control_db(sm->run->control), &volume_table, sm->row.source_id, &now) == 0) {
        sm->volumes[0] = now;
    }
}

/* True: under way, step_done() comes. */
static bool step_run(struct sync_mirror *sm)
{
    struct side *side;

    switch (sm->step) {
    case STEP_OLD:
        side = sm->source;
        if (side == NULL || side->generation == sm->row.map_generation) {
            return false;
        }
        sm->source = NULL;
        if (replica_mirror_connected(&sm->row)) {
            side_end(side, true, step_ended, sm);
        } else {
            side_end_first(side, step_ended, sm);
        }
        return true;
    case STEP_OLD_TRACKER:
        side = sm->tracker;
        if (side == NULL || side->generation == sm->row.map_generation) {
            return false;
        }
        sm->tracker = NULL;
        side_end_first(side, step_ended, sm);
        return true;
    case STEP_DISCONNECT:
        if (sm->source == NULL) {
            return false;
        }
        mirror_set_recovery(sm->source->mirror, sm->row.copy_recovery_mode == 3,
                            sm->row.failed_copy_stops_host_io);
        mirror_set_limits(sm->source->mirror, sm->row.copy_priority, sm->row.bandwidth_limit);
        if (replica_mirror_connected(&sm->row)) {
            return false;
        }
        mirror_disconnect(sm->source->mirror, step_done, sm);
        return true;
    case STEP_SOURCE:
        if (sm->source != NULL) {
            return false;
        }
        place_soon(sm, false);
        return true;
    case STEP_TRACKER:
        if (sm->tracker != NULL || !target_is_free(sm)) {
            return false;
        }
        place_soon(sm, true);
        return true;
    case STEP_GUARD_TARGET:
        return guard(sm, &sm->volumes[1], !replica_mirror_target_free(sm->row.copy_state),
                     step_done);
    case STEP_GUARD_SOURCE:
        source_again(sm);
        return sm->volumes[0].guarded && guard(sm, &sm->volumes[0], true, step_done);
    case STEP_FREE_SOURCE: /* now that what comes from the target is read there */
        source_again(sm);
        return !sm->volumes[0].guarded && guard(sm, &sm->volumes[0], false, step_done);
    case STEP_UNTRACK:
        side = sm->tracker;
        if (side == NULL || target_is_free(sm)) {
            return false;
        }
        sm->tracker = NULL;
        side_end(side, false, step_ended, sm);
        return true;
    case STEP_MERGE:
        if (!sm->row.target_tracked || target_is_free(sm)) {
            return false;
        }
        merge(sm);
        return true;
    case STEP_CONNECT:
        if (replica_mirror_connected(&sm->row) && sm->row.copy_state != STATE_SUSPENDED &&
            sm->row.copy_state != STATE_BROKEN) {
            sm->run->revision = sm->row.revision;
            mirror_connect(sm->source->mirror,
                           sm->row.source_incomplete ? MIRROR_FROM_LEG : MIRROR_TO_LEG);
        }
        return false;
    case STEP_DONE:
        break;
    }
    return false;
}

static void steps_go_on(struct sync_mirror *sm)
{
    while (sm->step < STEP_DONE && sm->error.code == ERR_NONE) {
        bool under_way = step_run(sm);

        if (under_way) {
            return;
        }
        sm->step++;
    }
    array_done_fn done = sm->done;

    sm->done = NULL;
    done(sm->done_arg, sm->error.code != ERR_NONE ? &sm->error : NULL);
}

static void step_done(void *arg, const struct error *error)
{
    struct sync_mirror *sm = arg;

    if (error != NULL) {
        sm->error = *error;
    }
    sm->step++;
    steps_go_on(sm);
}

static int read_volumes(struct sync_mirror *sm)
{
    struct db *db = control_db(sm->run->control);
    int r = table_get(db, &volume_table, sm->row.source_id, &sm->volumes[0]);
    int t = table_get(db, &volume_table, sm->row.target_id, &sm->volumes[1]);

    return r < 0 ? r : t;
}

static void sync_apply(struct mirror_run *run, array_done_fn done, void *arg)
{
    struct sync_mirror *sm = state_of(run);
    struct error error;

    sm->row = run->want;
    if (read_volumes(sm) < 0) {
        error_set(&error, ERR_STORE_FAILED, "The volumes of the mirror cannot be read.");
        done(arg, &error);
        return;
    }
    sm->done = done;
    sm->done_arg = arg;
    sm->error = (struct error){0};
    sm->step = STEP_OLD_TRACKER;
    steps_go_on(sm);
}

/* ---- splitting ---- */

static void split_ended(void *arg, const struct error *error)
{
    struct sync_mirror *sm = arg;
    array_done_fn done = sm->done;

    sm->done = NULL;
    if (error != NULL && sm->guard) {
        /* Hosts may write again, whenever that is done. */
        struct guard_known *known = guard_of(sm, sm->row.source_id);

        known->guarded = false;
        array_volume_set_read_only(array_of(sm), sm->row.source_id, false);
        exports_notify_volume(sm->run->control, sm->row.source_id, TARGET_LUN_WRITABLE, NULL, NULL);
    }
    done(sm->done_arg, error);
}

static void split_guarded(void *arg, const struct error *error)
{
    struct sync_mirror *sm = arg;

    (void)error;
    mirror_split(sm->source->mirror, sm->timeout_ms, split_ended, sm);
}

static void sync_split(struct mirror_run *run, bool guard_source, uint64_t timeout_ms,
                       array_done_fn done, void *arg)
{
    struct sync_mirror *sm = state_of(run);
    struct error error;

    sm->row = run->want;
    if (sm->source == NULL || read_volumes(sm) < 0) {
        error_set(&error, ERR_CONFLICT, "The mirror does not run.");
        done(arg, &error);
        return;
    }
    sm->done = done;
    sm->done_arg = arg;
    sm->guard = guard_source;
    sm->timeout_ms = timeout_ms;
    if (!guard_source || !guard(sm, &sm->volumes[0], true, split_guarded)) {
        split_guarded(sm, NULL);
    }
}

/* ---- several at one moment ---- */

/* How long they may take to be equal and flushed; nobody's writes wait for that. */
enum { EQUAL_TIMEOUT_MS = 5000 };

struct sync_together {
    size_t n;
    size_t pending; /* guards, and the caller */
    mirror_together_fn done;
    void *arg;
    size_t culprit; /* of a refusal */
    struct loop_task task;
    struct sync_mirror *mirrors[];
};

static void refusal_told(void *arg)
{
    struct sync_together *together = arg;
    struct error error;
    struct mirror_parting parting = {.error = &error, .culprit = together->culprit};

    error_set(&error, ERR_CONFLICT, "it does not run");
    together->done(together->arg, &parting);
    free(together);
}

static void together_refused(struct sync_together *together, const struct sync_mirror *sm,
                             size_t culprit)
{
    together->culprit = culprit;
    together->task = (struct loop_task){.fn = refusal_told, .arg = together};
    loop_defer(control_loop(sm->run->control), &together->task);
}

static void together_done(void *arg, const struct mirror_parting *parting)
{
    struct sync_together *together = arg;

    together->done(together->arg, parting);
    free(together);
}

/* Hosts may not write any more where they should not. */
static void together_guarded(struct sync_together *together)
{
    if (--together->pending > 0) {
        return;
    }
    struct mirror **mirrors = calloc(together->n, sizeof(struct mirror *));

    CHECK(mirrors != NULL);
    for (size_t i = 0; i < together->n; i++) {
        if (together->mirrors[i]->source == NULL) {
            free(mirrors);
            together_refused(together, together->mirrors[i], i);
            return;
        }
        mirrors[i] = together->mirrors[i]->source->mirror;
    }
    mirror_part_together(mirrors, together->n, EQUAL_TIMEOUT_MS, ARRAY_GROUP_DEADLINE_MS,
                         together_done, together);
    free(mirrors);
}

static void one_guarded(void *arg, const struct error *error)
{
    const struct sync_mirror *sm = arg;

    (void)error;
    together_guarded(sm->together);
}

static void sync_split_at_once(struct mirror_run *const *runs, size_t n, bool guard_sources,
                               mirror_together_fn done, void *arg)
{
    struct sync_together *together =
        calloc(1, sizeof(*together) + n * sizeof(struct sync_mirror *));

    CHECK(together != NULL);
    *together = (struct sync_together){.n = n, .pending = 1, .done = done, .arg = arg};
    for (size_t i = 0; i < n; i++) {
        struct sync_mirror *sm = state_of(runs[i]);

        together->mirrors[i] = sm;
        sm->row = runs[i]->want;
        sm->together = together;
        if (sm->source == NULL || read_volumes(sm) < 0) {
            together_refused(together, sm, i);
            return;
        }
    }
    for (size_t i = 0; i < n && guard_sources; i++) {
        together->pending++;
        if (!guard(together->mirrors[i], &together->mirrors[i]->volumes[0], true, one_guarded)) {
            together->pending--;
        }
    }
    together_guarded(together);
}

/* ---- volumes that are opened ---- */

static bool sync_filter(struct mirror_run *run, const struct volume_row *volume,
                        struct array_filter *ret_filter)
{
    struct sync_mirror *sm = state_of(run);
    bool tracker = strcmp(run->want.target_id, volume->head.id) == 0;
    struct side **side = tracker ? &sm->tracker : &sm->source;

    if (tracker && !replica_mirror_target_free(run->want.copy_state)) {
        return false;
    }
    if (*side != NULL) {
        /* Of a content that is gone. */
        side_end(*side, true, NULL, NULL);
        *side = NULL;
    }
    *side = side_new(sm, &run->want, tracker, volume,
                     array_family_loop(array_of(sm), volume->family), true);
    if (*side == NULL) {
        return false;
    }
    if (!tracker) {
        run->revision = run->want.revision;
    }
    (*side)->in_place = true;
    *ret_filter = (struct array_filter){.make = side_make, .arg = *side};
    return true;
}

/* ---- the end ---- */

static void end_done(struct sync_mirror *sm)
{
    loop_fn ended = sm->ended;
    void *arg = sm->ended_arg;

    sm->run->state = NULL;
    free(sm);
    ended(arg);
}

static void end_free_source(void *arg, const struct error *error)
{
    (void)error;
    end_done(arg);
}

/* Hosts may write to what is no part of it any more. */
static void end_free_target(void *arg, const struct error *error)
{
    struct sync_mirror *sm = arg;

    (void)error;
    if (!sm->forget || !guard(sm, &sm->volumes[0], sm->volumes[0].guarded, end_free_source)) {
        end_done(sm);
    }
}

static void end_sides(void *arg)
{
    struct sync_mirror *sm = arg;
    char path[512];
    struct side *side = sm->source != NULL ? sm->source : sm->tracker;

    if (side != NULL) {
        if (side == sm->source) {
            sm->source = NULL;
        } else {
            sm->tracker = NULL;
        }
        side_end(side, sm->forget, end_sides, sm);
        return;
    }
    if (sm->forget && sm->row.target_tracked &&
        mirror_map_path(sm->run->control, sm->row.target_id, &sm->row, "t", path, sizeof(path)) ==
            0) {
        unlink(path);
    }
    if (!sm->forget || !guard(sm, &sm->volumes[1], sm->volumes[1].guarded, end_free_target)) {
        end_free_target(sm, NULL);
    }
}

static void sync_end(struct mirror_run *run, bool forget, loop_fn done, void *arg)
{
    struct sync_mirror *sm = state_of(run);

    sm->row = run->want;
    sm->ended = done;
    sm->ended_arg = arg;
    sm->forget = forget;
    memset(sm->volumes, 0, sizeof(sm->volumes));
    if (read_volumes(sm) < 0) {
        log_debug("mirror[%s] a volume of it is gone", sm->row.head.id);
    }
    end_sides(sm);
}

struct look {
    struct side *source;
    struct sync_mirror *sm;
    loop_fn done;
    void *arg;
};

static void look_ended(void *arg, const struct error *error)
{
    struct look *look = arg;
    loop_fn done = look->done;
    void *done_arg = look->arg;

    (void)error;
    free(look);
    done(done_arg);
}

static void look_at_target(void *arg, const struct error *error)
{
    struct look *look = arg;

    /* It may be on its end meanwhile. */
    if (look->source->owner == look->sm && look->sm->tracker != NULL) {
        mirror_look(look->sm->tracker->mirror, look_ended, look);
    } else {
        look_ended(look, error);
    }
}

static void sync_look(struct mirror_run *run, loop_fn done, void *arg)
{
    struct sync_mirror *sm = state_of(run);

    if (sm->source == NULL) {
        done(arg);
        return;
    }
    struct look *look = calloc(1, sizeof(*look));

    CHECK(look != NULL);
    *look = (struct look){sm->source, sm, done, arg};
    mirror_look(sm->source->mirror, look_at_target, look);
}

static bool sync_would_move(const struct mirror_run *run, bool back, struct mirror_would *ret_would)
{
    const struct sync_mirror *sm = run->state;

    if (sm == NULL || sm->source == NULL || !sm->source->known) {
        return false;
    }
    uint64_t source_bytes = sm->source->progress.marked_bytes;
    uint64_t target_bytes =
        sm->tracker != NULL && sm->tracker->known ? sm->tracker->progress.marked_bytes : 0;
    bool all = run->want.map_state == MAP_ALL;

    *ret_would = (struct mirror_would){
        .bytes = all ? UINT64_MAX : source_bytes + target_bytes,
        .discarded = back ? source_bytes : target_bytes,
        .reason = all ? "Full" : "Map",
    };
    return true;
}

const struct mirror_driver mirror_sync_driver = {
    .name = "mirror",
    .apply = sync_apply,
    .split = sync_split,
    .split_at_once = sync_split_at_once,
    .filter = sync_filter,
    .end = sync_end,
    .look = sync_look,
    .would_move = sync_would_move,
};
