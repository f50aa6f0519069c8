// SPDX-License-Identifier: Apache-2.0
/*
 * Cycles as transactions. Each says where the mirror is from now on, so that a start after a crash at any point goes on from the row
 * (store/cycle.h):
 *
 *     begin ─▶ way FORWARD or BACK, the cuts of both sides ─▶ checkpoint … ─▶ done ─▶ RESTS, the cut is the base
 *                 └── land: the target is its point again, RESTS
 *
 * What is checked comes before what is written: an event may not fail once it has begun to write.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "service/async_private.h"
#include "service/groups.h"
#include "service/jobs_private.h"
#include "service/mirror_records.h"
#include "service/volumes.h"

/* ---- how it ends ---- */

struct step_end {
    struct async_mirror *am;
    bool failed;
    struct error error;
};

static void step_end_effect(struct control *control, void *arg)
{
    const struct step_end *end = arg;

    (void)control;
    async_step_done(end->am, end->failed ? &end->error : NULL);
}

static void remove_files_effect(struct control *control, void *arg)
{
    const struct hosted_fresh *fresh = arg;

    array_layers_remove(hosted_array(control_hosted(control)), fresh->family, &fresh->layer, 1,
                        NULL, NULL);
}

static void files_give_back(struct call *call, const struct async_files *files)
{
    for (unsigned i = 0; i < ASYNC_SIDES; i++) {
        if (files->made[i]) {
            control_effect(call->control, remove_files_effect, &files->fresh[i],
                           sizeof(files->fresh[i]));
        }
    }
}

static void step_ends(struct call *call, struct async_mirror *am)
{
    struct step_end end = {.am = am};

    control_effect(call->control, step_end_effect, &end, sizeof(end));
}

/* Nothing was written. */
static int step_fails(struct call *call, const struct async_event *event)
{
    struct step_end end = {.am = event->am, .failed = true, .error = call->error};

    files_give_back(call, &event->files);
    control_effect(call->control, step_end_effect, &end, sizeof(end));
    call->error = (struct error){0};
    return 0;
}

/* What the store cannot take now comes again by itself. */
static bool comes_again(const struct call *call)
{
    return call->error.code == ERR_STORE_FAILED || call->error.code == ERR_NO_SPACE;
}

/* A check has failed; nothing was written. */
static int step_refused(struct call *call, const struct async_event *event, int r)
{
    return comes_again(call) ? r : step_fails(call, event);
}

/* ---- rows ---- */

struct rows {
    struct sync_row sync;
    struct volume_row volumes[ASYNC_SIDES];
    struct cycle_row cycle;
    bool has_cycle;
    bool gone; /* the relationship is */
};

/* 0, -ENOENT when the relationship or a volume is gone, or what the store says. */
static int rows_read(struct call *call, const struct async_event *event, struct rows *rows)
{
    const char *sync_id = event->sync_id;
    int r = table_get(call->db, &sync_table, sync_id, &rows->sync);

    rows->gone = r == -ENOENT;
    if (r == -ENOENT && event->am->ending) {
        rows->sync = event->am->row; /* its end leaves the target whole */
        r = 0;
    }
    if (r == 0) {
        r = table_get(call->db, &volume_table, rows->sync.source_id, &rows->volumes[ASYNC_SOURCE]);
    }
    if (r == 0) {
        r = table_get(call->db, &volume_table, rows->sync.target_id, &rows->volumes[ASYNC_TARGET]);
    }
    if (r == 0) {
        r = cycle_find(call->db, sync_id, &rows->cycle);
        rows->has_cycle = r == 0;
        if (r == -ENOENT) {
            rows->cycle = (struct cycle_row){0};
            strcpy(rows->cycle.sync_id, sync_id);
            r = 0;
        }
    }
    return r;
}

static int cycle_store(struct call *call, struct rows *rows)
{
    int r = rows->has_cycle ? table_update(call->db, &cycle_table, &rows->cycle)
                            : table_insert(call->db, &cycle_table, &rows->cycle);

    rows->has_cycle = true;
    return r < 0 ? call_fail_store(call, r) : 0;
}

static bool hosted(const struct rows *rows, unsigned side)
{
    return rows->volumes[side].kind == VOLUME_HOSTED;
}

static bool fits(const struct hosted_fresh *fresh, const struct volume_row *volume)
{
    return strcmp(fresh->layer.pool_id, volume->pool_id) == 0 &&
           strcmp(fresh->family, volume->family) == 0 &&
           fresh->layer.size_bytes == volume->size_bytes;
}

/* The files are for the volumes as they are now, and there is room in their chains. */
static int check_files(struct call *call, const struct async_event *event, const struct rows *rows)
{
    for (unsigned i = 0; i < ASYNC_SIDES; i++) {
        if (!event->files.made[i]) {
            continue;
        }
        if (!hosted(rows, i) || rows->volumes[i].offline ||
            !fits(&event->files.fresh[i], &rows->volumes[i])) {
            return call_fail(call, ERR_CONFLICT, "/volumes/%s has changed meanwhile.",
                             rows->volumes[i].head.id);
        }
        int r = hosted_check_depth(call, &rows->volumes[i]);

        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* What the event is about, checked before anything is written. */
static int rows_check(struct call *call, const struct async_event *event, struct rows *rows)
{
    int r = rows_read(call, event, rows);

    if (r == -ENOENT) {
        return call_fail(call, ERR_CONFLICT, "The relationship is gone.");
    }
    return r < 0 ? call_fail_store(call, r) : check_files(call, event, rows);
}

static int is_below(struct call *call, const struct volume_row *volume, const char *layer_id)
{
    if (volume->kind != VOLUME_HOSTED || layer_id[0] == '\0') {
        return 0;
    }
    return hosted_chain_has(call->db, volume->top_layer_id, layer_id);
}

/* ---- begin ---- */

/* A layer that is not counted on any more, but to be let go only when the row was stored. */
struct left {
    char ids[4][ID_SIZE];
    unsigned n;
};

static void leave(struct left *left, char member[ID_SIZE])
{
    if (member[0] != '\0') {
        strcpy(left->ids[left->n++], member);
        member[0] = '\0';
    }
}

static int let_go(struct call *call, const struct left *left)
{
    int r = 0;

    for (unsigned i = 0; i < left->n && r == 0; i++) {
        r = hosted_let_go(call, left->ids[i]);
    }
    return r;
}

/* Synchronous mirrors of a volume do not see that its layers are other ones: to them anything may differ now. */
struct others {
    struct call *call;
    struct sync_row rows[16];
    size_t n;
};

static int other_row(void *arg, const void *row)
{
    struct others *others = arg;
    const struct sync_row *sync = row;

    if (replica_engine_of(sync) == ENGINE_MIRROR && others->n < ARRAY_LEN(others->rows)) {
        others->rows[others->n++] = *sync;
    }
    return 0;
}

static int others_differ(struct call *call, const char *volume_id)
{
    struct condition where[] = {WHERE_TEXT("source_id", volume_id), WHERE_END};
    struct others others = {.call = call};
    int r = table_each(call->db, &sync_table, where, 0, 0, other_row, &others);

    for (size_t i = 0; i < others.n && r == 0; i++) {
        struct sync_row *sync = &others.rows[i];

        sync->map_state = MAP_ALL;
        sync->map_generation++;
        sync->revision++;
        if (sync->copy_state == STATE_SYNCHRONIZED) {
            sync->copy_state = STATE_UNSYNCHRONIZED;
            sync->progress_status = PROGRESS_RESYNCING;
        }
        r = table_update(call->db, &sync_table, sync);
        if (r == 0) {
            mirror_apply(call, sync);
        }
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

static int go_back(struct call *call, struct volume_row *volume, const struct hosted_fresh *fresh,
                   const char *layer_id)
{
    int r = hosted_go_back(call, volume, fresh, layer_id);

    return r < 0 ? r : others_differ(call, volume->head.id);
}

/* What the target had is kept below what the cycle fills. */
static int target_cut(struct call *call, const struct async_event *event, struct rows *rows,
                      bool valid_point)
{
    struct volume_row *target = &rows->volumes[ASYNC_TARGET];
    const struct hosted_fresh *fresh = &event->files.fresh[ASYNC_TARGET];

    if (!event->files.made[ASYNC_TARGET]) {
        return 0;
    }
    if (valid_point) {
        return go_back(call, target, fresh, rows->cycle.point_id);
    }
    return hosted_cut(call, target, fresh, rows->cycle.point_id);
}

static int begin_forward(struct call *call, const struct async_event *event, struct rows *rows)
{
    struct left left = {0};
    int base = is_below(call, &rows->volumes[ASYNC_SOURCE], rows->cycle.base_id);
    int point = is_below(call, &rows->volumes[ASYNC_TARGET], rows->cycle.point_id);

    if (base < 0 || point < 0) {
        return call_fail_store(call, base < 0 ? base : point);
    }
    if (!base) {
        leave(&left, rows->cycle.base_id);
    }
    if (!point) {
        leave(&left, rows->cycle.point_id);
    }
    leave(&left, rows->cycle.cut_id); /* of a round that has come to nothing */
    int r = target_cut(call, event, rows, point);

    if (r == 0 && event->files.made[ASYNC_SOURCE]) {
        r = hosted_cut(call, &rows->volumes[ASYNC_SOURCE], &event->files.fresh[ASYNC_SOURCE],
                       rows->cycle.cut_id);
    }
    rows->cycle.way = CYCLE_FORWARD;
    if (r == 0) {
        r = cycle_store(call, rows);
    }
    return r < 0 ? r : let_go(call, &left);
}

static int begin_back(struct call *call, const struct async_event *event, struct rows *rows)
{
    struct volume_row *source = &rows->volumes[ASYNC_SOURCE];
    struct left left = {0};
    int base = is_below(call, source, rows->cycle.base_id);
    int point = is_below(call, &rows->volumes[ASYNC_TARGET], rows->cycle.point_id);
    int r;

    if (base < 0 || point < 0) {
        return call_fail_store(call, base < 0 ? base : point);
    }
    if (base && point && event->files.made[ASYNC_SOURCE]) {
        r = go_back(call, source, &event->files.fresh[ASYNC_SOURCE], rows->cycle.base_id);
    } else {
        leave(&left, rows->cycle.base_id);
        r = 0;
    }
    if (r == 0 && event->files.made[ASYNC_TARGET]) {
        r = hosted_cut(call, &rows->volumes[ASYNC_TARGET], &event->files.fresh[ASYNC_TARGET],
                       rows->cycle.cut_id);
    }
    rows->cycle.way = CYCLE_BACK;
    if (r == 0) {
        r = cycle_store(call, rows);
    }
    return r < 0 ? r : let_go(call, &left);
}

/* The new source is cut where it is; what its target has above the base, if anything, goes with the first cycle. */
static int adopt(struct call *call, const struct async_event *event, struct rows *rows)
{
    struct left left = {0};

    leave(&left, rows->cycle.point_id);
    leave(&left, rows->cycle.cut_id);
    strcpy(rows->cycle.point_id, rows->cycle.base_id);
    rows->cycle.way = CYCLE_RESTS;
    int r = hosted_cut(call, &rows->volumes[ASYNC_SOURCE], &event->files.fresh[ASYNC_SOURCE],
                       rows->cycle.base_id);

    if (r == 0) {
        r = cycle_store(call, rows);
    }
    return r < 0 ? r : let_go(call, &left);
}

/* After Reverse Roles hosts wait for the first cut of the new source: what they write is above it. */
static int let_hosts_in(struct call *call, const struct rows *rows)
{
    return rows->volumes[ASYNC_SOURCE].guarded && !rows->gone
               ? mirror_guard_volumes(call, &rows->sync)
               : 0;
}

int async_begin_event(struct call *call)
{
    const struct async_event *event = call->step_state;
    struct rows rows;
    int r = rows_check(call, event, &rows);

    if (r == 0 && event->adopt && !rows.volumes[ASYNC_SOURCE].guarded) {
        r = call_fail(call, ERR_CONFLICT, "Hosts may have written to /volumes/%s meanwhile.",
                      rows.volumes[ASYNC_SOURCE].head.id);
    }
    if (r < 0) {
        return step_refused(call, event, r);
    }
    if (event->blank) {
        rows.cycle.point_ms = event->asked_ms;
        r = cycle_store(call, &rows);
    } else if (event->adopt) {
        r = adopt(call, event, &rows);
    } else {
        rows.cycle.checkpoint_bytes = 0;
        rows.cycle.round_id[0] = '\0';
        rows.cycle.cut_ms = control_now_ms(call->control);
        r = event->back ? begin_back(call, event, &rows) : begin_forward(call, event, &rows);
    }
    if (r == 0 && !event->back) {
        r = let_hosts_in(call, &rows);
    }
    if (r == 0) {
        step_ends(call, event->am);
    }
    return r;
}

/* ---- on the way ---- */

int async_checkpoint_event(struct call *call)
{
    const struct async_event *event = call->step_state;
    struct cycle_row cycle;
    int r = cycle_find(call->db, event->sync_id, &cycle);

    if (r == 0 && cycle.way != CYCLE_RESTS) {
        cycle.checkpoint_bytes = event->progress.checkpoint_bytes;
        cycle.moved_bytes += event->progress.bytes_written - event->counted.bytes_written +
                             event->progress.bytes_zeroed - event->counted.bytes_zeroed;
        r = table_update(call->db, &cycle_table, &cycle);
    }
    return r < 0 && r != -ENOENT ? call_fail_store(call, r) : 0;
}

/* ---- done ---- */

static void close_look_effect(struct control *control, void *arg)
{
    struct async_mirror *am = *(struct async_mirror **)arg;

    if (am->look_open) {
        am->look_open = false;
        array_volume_close(hosted_array(control_hosted(control)), am->look_id, NULL, NULL);
    }
}

/* Alone it has left the moment that it had in common with others. */
static int leave_moment(struct call *call, struct rows *rows)
{
    if (rows->sync.moment == 0 || rows->gone) {
        return 0;
    }
    rows->sync.moment = 0;
    int r = table_update(call->db, &sync_table, &rows->sync);

    return r < 0 ? call_fail_store(call, r) : 0;
}

/* The source is whole, and cut: what its hosts write from now on is above the base. */
static int given_back(struct call *call, struct rows *rows)
{
    if (rows->gone || !rows->sync.source_incomplete) {
        return 0;
    }
    rows->sync.source_incomplete = false;
    int r = table_update(call->db, &sync_table, &rows->sync);

    return r < 0 ? call_fail_store(call, r) : mirror_guard_volumes(call, &rows->sync);
}

static int done(struct call *call, const struct async_event *event, struct rows *rows, bool alone)
{
    struct left left = {0};
    struct cycle_row *cycle = &rows->cycle;
    struct async_mirror *am = event->am;
    bool back = cycle->way == CYCLE_BACK;
    int r = 0;

    control_effect(call->control, close_look_effect, &am, sizeof(am));
    leave(&left, cycle->base_id);
    leave(&left, cycle->point_id);
    if (cycle->way == CYCLE_FORWARD) {
        strcpy(cycle->base_id, cycle->cut_id);
        r = alone ? leave_moment(call, rows) : 0;
    } else {
        /* The target may have been written to until its hosts were stopped: what was copied is the point. */
        strcpy(cycle->point_id, cycle->cut_id);
        if (event->files.made[ASYNC_SOURCE]) {
            r = hosted_cut(call, &rows->volumes[ASYNC_SOURCE], &event->files.fresh[ASYNC_SOURCE],
                           cycle->base_id);
        }
    }
    cycle->cut_id[0] = '\0';
    if (cycle->point_ms != 0 && cycle->way == CYCLE_FORWARD) {
        cycle_history_add(cycle->history, control_now_ms(call->control) - cycle->point_ms);
    }
    cycle->way = CYCLE_RESTS;
    cycle->point_ms = cycle->cut_ms;
    cycle->took_ms = event->took_ms;
    cycle->cycles++;
    cycle->checkpoint_bytes = 0;
    cycle->moved_bytes += event->progress.bytes_written - event->counted.bytes_written +
                          event->progress.bytes_zeroed - event->counted.bytes_zeroed;
    if (r == 0) {
        r = cycle_store(call, rows);
    }
    if (r == 0) {
        r = let_go(call, &left);
    }
    if (r == 0 && back) {
        r = given_back(call, rows);
    }
    if (r == 0) {
        step_ends(call, am);
    }
    return r;
}

int async_done_event(struct call *call)
{
    const struct async_event *event = call->step_state;
    struct rows rows;
    int r = rows_check(call, event, &rows);

    if (r < 0) {
        return step_refused(call, event, r);
    }
    return done(call, event, &rows, true);
}

/* ---- with others ---- */

static void round_failed_effect(struct control *control, void *arg)
{
    (void)control;
    async_round_failed(*(struct async_round **)arg);
}

static void round_free_effect(struct control *control, void *arg)
{
    (void)control;
    free(*(struct async_round **)arg);
}

static int round_failed_event(struct call *call)
{
    struct async_round *round = *(struct async_round **)call->step_state;

    control_effect(call->control, round_failed_effect, &round, sizeof(round));
    return 0;
}

/* The rows were taken back: not all could be held. */
static void round_taken_back(struct call *call)
{
    struct async_round *round = *(struct async_round **)call->step_state;

    round->error = call->error;
    async_round_failed(round);
}

/* Everything that can be wrong, before anything is written. */
static int round_check(struct call *call, struct async_round *round)
{
    for (size_t i = 0; i < round->n; i++) {
        struct rows rows;
        int r = rows_check(call, &round->parts[i], &rows);

        round->culprit = round->parts[i].am;
        if (r < 0) {
            return r;
        }
    }
    round->culprit = NULL;
    return 0;
}

static int round_each(struct call *call, struct async_round *round,
                      int (*fn)(struct call *call, struct async_round *round,
                                const struct async_event *event, struct rows *rows))
{
    int r = 0;

    /* What is read comes after what was written for the others: one volume may be in several pairs. */
    for (size_t i = 0; i < round->n && r == 0; i++) {
        struct rows rows;

        r = rows_read(call, &round->parts[i], &rows);
        r = r < 0 ? call_fail_store(call, r) : fn(call, round, &round->parts[i], &rows);
    }
    return r;
}

static int begin_one(struct call *call, struct async_round *round, const struct async_event *event,
                     struct rows *rows)
{
    int r;

    if (round->blank) {
        rows->cycle.point_ms = event->asked_ms;
        r = cycle_store(call, rows);
    } else {
        rows->cycle.checkpoint_bytes = 0;
        rows->cycle.cut_ms = round->cut_ms;
        strcpy(rows->cycle.round_id, round->round_id);
        r = begin_forward(call, event, rows);
    }
    if (r == 0) {
        r = let_hosts_in(call, rows);
    }
    if (r == 0) {
        step_ends(call, event->am);
    }
    return r;
}

/* All points are of one moment now, if they were not before. */
static int round_moment(struct call *call, const struct async_round *round)
{
    struct group_sync_row group_sync;
    struct sync_row *pairs;
    size_t n;
    bool same = true;
    int r = table_get(call->db, &group_sync_table, round->group_id, &group_sync);

    if (r < 0) {
        return r == -ENOENT ? 0 : call_fail_store(call, r);
    }
    r = group_sync_pairs(call, round->group_id, &pairs, &n);
    for (size_t i = 0; i < n && r == 0; i++) {
        same = same && pairs[i].moment != 0 && pairs[i].moment == pairs[0].moment;
    }
    if (r < 0 || same) {
        return r;
    }
    group_sync.moments++;
    r = table_update(call->db, &group_sync_table, &group_sync);
    for (size_t i = 0; i < round->n && r == 0; i++) {
        struct sync_row pair;

        r = table_get(call->db, &sync_table, round->parts[i].sync_id, &pair);
        if (r == 0 && strcmp(pair.group_sync_id, round->group_id) == 0) {
            pair.moment = group_sync.moments;
            r = table_update(call->db, &sync_table, &pair);
        }
        r = r == -ENOENT ? 0 : r;
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

static int round_begin(struct call *call)
{
    struct async_round *round = *(struct async_round **)call->step_state;
    struct group_sync_row group_sync;
    int r = round_check(call, round);

    if (r < 0) {
        return r;
    }
    round->cut_ms = control_now_ms(call->control);
    if (!round->blank) {
        call->taken_back = round_taken_back;
        hosted_cuts_together(call);
    }
    r = round_each(call, round, begin_one);
    if (r == 0 && round->blank) {
        r = round_moment(call, round);
    } else if (r == 0 &&
               table_get(call->db, &group_sync_table, round->group_id, &group_sync) == 0) {
        group_note_barrier(call, &group_sync, 1);
    }
    if (r == 0) {
        control_effect(call->control, round_free_effect, &round, sizeof(round));
    }
    return r;
}

/* Trouble is the round's. */
static int round_result(struct call *call, struct async_round *round, int r)
{
    if (r < 0 && !comes_again(call)) {
        round->error = call->error;
        control_event(call->control, round_failed_event, &round, sizeof(round));
    }
    return r;
}

int async_round_begin_event(struct call *call)
{
    struct async_round *round = *(struct async_round **)call->step_state;

    return round_result(call, round, hosted_run(call, round_begin));
}

static int done_one(struct call *call, struct async_round *round, const struct async_event *event,
                    struct rows *rows)
{
    (void)round;
    return done(call, event, rows, false);
}

int async_round_done_event(struct call *call)
{
    struct async_round *round = *(struct async_round **)call->step_state;
    int r = round_check(call, round);

    if (r == 0) {
        r = round_each(call, round, done_one);
    }
    if (r == 0) {
        r = round_moment(call, round);
    }
    if (r == 0) {
        control_effect(call->control, round_free_effect, &round, sizeof(round));
    }
    return round_result(call, round, r);
}

/* ---- the target for its hosts ---- */

/* Its hosts get it all the same, and can know it. */
static int target_torn(struct call *call, struct rows *rows)
{
    bool first = rows->cycle.point_ms == 0;

    rows->cycle.point_ms = 0;
    if (rows->gone) {
        return 0;
    }
    text_cut(first ? "The target was left in the middle of the first copy: it is no moment of the "
                     "source."
                   : "The target was left in the middle of a cycle, and what that had overwritten "
                     "could not be written back: it is no moment of the source.",
             rows->sync.problem, sizeof(rows->sync.problem));
    int r = table_update(call->db, &sync_table, &rows->sync);

    return r < 0 ? call_fail_store(call, r) : 0;
}

/* What it has from now on is above its point. */
static int land(struct call *call, const struct async_event *event, struct rows *rows,
                struct left *left)
{
    struct volume_row *target = &rows->volumes[ASYNC_TARGET];
    struct cycle_row *cycle = &rows->cycle;
    bool interrupted = cycle->way == CYCLE_FORWARD;
    int point = is_below(call, target, cycle->point_id);

    if (point < 0) {
        return call_fail_store(call, point);
    }
    if (cycle->way != CYCLE_RESTS) {
        leave(left, cycle->cut_id);
        cycle->way = CYCLE_RESTS;
        cycle->checkpoint_bytes = 0;
    }
    if (!event->files.made[ASYNC_TARGET]) {
        leave(left, cycle->base_id); /* nobody tells what its hosts will change */
        return event->torn ? target_torn(call, rows) : 0;
    }
    if (point && interrupted) {
        return go_back(call, target, &event->files.fresh[ASYNC_TARGET], cycle->point_id);
    }
    if (!point) {
        leave(left, cycle->point_id);
        if (!interrupted) {
            return hosted_cut(call, target, &event->files.fresh[ASYNC_TARGET], cycle->point_id);
        }
    }
    files_give_back(call, &event->files); /* it has landed before, or has no point yet */
    return point ? 0 : target_torn(call, rows);
}

int async_land_event(struct call *call)
{
    const struct async_event *event = call->step_state;
    struct left left = {0};
    struct rows rows;
    int r = rows_check(call, event, &rows);

    if (r < 0) {
        return step_refused(call, event, r);
    }
    r = land(call, event, &rows, &left);
    if (r == 0) {
        r = cycle_store(call, &rows);
    }
    if (r == 0) {
        r = let_go(call, &left);
    }
    if (r == 0 && !rows.gone) {
        r = mirror_guard_volumes(call, &rows.sync); /* its hosts have waited for this */
    }
    if (r == 0) {
        step_ends(call, event->am);
    }
    return r;
}

/* What the cycle has overwritten is to be what it was. */
int async_undo_event(struct call *call)
{
    const struct async_event *event = call->step_state;
    struct cycle_row cycle;
    int r = cycle_find(call->db, event->sync_id, &cycle);

    if (r == 0 && cycle.way == CYCLE_FORWARD) {
        cycle.way = CYCLE_UNDO;
        cycle.checkpoint_bytes = 0;
        r = table_update(call->db, &cycle_table, &cycle);
    }
    if (r < 0 && r != -ENOENT) {
        return call_fail_store(call, r);
    }
    step_ends(call, event->am);
    return 0;
}

int async_abandon_event(struct call *call)
{
    const struct async_event *event = call->step_state;
    struct left left = {0};
    struct cycle_row cycle;
    int r = cycle_find(call->db, event->sync_id, &cycle);

    if (r == 0) {
        leave(&left, cycle.cut_id);
        if (cycle.way == CYCLE_UNDO) {
            leave(&left, cycle.base_id); /* the target is neither the one nor the other */
        }
        cycle.way = CYCLE_RESTS;
        cycle.checkpoint_bytes = 0;
        r = table_update(call->db, &cycle_table, &cycle);
    }
    if (r < 0 && r != -ENOENT) {
        return call_fail_store(call, r);
    }
    r = let_go(call, &left);
    if (r == 0) {
        step_ends(call, event->am);
    }
    return r;
}

/* ---- the end ---- */

static int cycle_forget(struct call *call, struct cycle_row *cycle)
{
    struct left left = {0};
    int r = table_delete(call->db, &cycle_table, cycle->head.id);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    leave(&left, cycle->base_id);
    leave(&left, cycle->cut_id);
    leave(&left, cycle->point_id);
    return let_go(call, &left);
}

int async_forget_event(struct call *call)
{
    const struct async_event *event = call->step_state;
    struct cycle_row cycle;
    int r = cycle_find(call->db, event->sync_id, &cycle);

    if (r < 0 && r != -ENOENT) {
        return call_fail_store(call, r);
    }
    r = r == 0 ? cycle_forget(call, &cycle) : 0;
    if (r == 0) {
        step_ends(call, event->am);
    }
    return r;
}

int async_sweep_event(struct call *call)
{
    void *rows = NULL;
    size_t n = 0;
    int r = table_load(call->db, &cycle_table, NULL, &rows, &n);

    for (size_t i = 0; i < n && r == 0; i++) {
        struct cycle_row *cycle = (struct cycle_row *)rows + i;
        struct sync_row sync;

        r = table_get(call->db, &sync_table, cycle->sync_id, &sync);
        if (r == -ENOENT) {
            r = cycle_forget(call, cycle);
        }
    }
    free(rows);
    return r < 0 && call->error.code == ERR_NONE ? call_fail_store(call, r) : r;
}
