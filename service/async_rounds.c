// SPDX-License-Identifier: Apache-2.0
/*
 * Rounds: the cycles of asynchronous mirrors that are pairs of a consistent relationship of groups begin with one group cut of all of them and end in one
 * transaction. So the points of all targets are of one moment at any time, also after a crash.
 *
 *     all rest, the time has come ─▶ what has changed ─▶ files ─▶ cut of all, rows of all ─▶ each copies … the last has copied ─▶ rows of all
 *          ▲                                                                                     └─ one of them has landed meanwhile ┐
 *          └───────── another round for all: from their points to a new cut ◀────────────────────────────────────────────────────────┘
 *
 * Whoever is ready looks whether all others are. A member that does not flow (suspended, broken, its target away) holds the others.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "service/async_private.h"
#include "store/group.h"

static struct array *array_of(const struct async_round *round)
{
    return hosted_array(control_hosted(round->control));
}

bool async_is_copied(const struct async_mirror *am)
{
    return am->copied_id[0] != '\0' && am->cycle.way == CYCLE_FORWARD &&
           strcmp(am->copied_id, am->cycle.cut_id) == 0;
}

/* ---- who is ready ---- */

static bool is_idle(const struct mirror_run *run)
{
    const struct async_mirror *am = run->state;

    return am != NULL && !run->again && !run->gone && !am->busy && am->copy == NULL &&
           am->applied == NULL && async_flows(am) && !am->row.source_incomplete &&
           (!run->splitting || am->parted != NULL);
}

static bool is_ready(struct async_mirror *am, const char *group_id)
{
    return async_rows_read(am) == 0 && strcmp(am->group_id, group_id) == 0 && !am->reversed &&
           (am->cycle.way == CYCLE_RESTS || async_is_copied(am));
}

/* Those that have begun to run, from memory: most questions end here. */
static bool all_idle(const struct async_mirror *am)
{
    struct control *control = am->run->control;

    for (struct mirror_run *run = mirror_run_next(control, NULL); run != NULL;
         run = mirror_run_next(control, run)) {
        const struct async_mirror *other = run->state;

        if (run->driver == &mirror_async_driver && other != NULL &&
            strcmp(other->group_id, am->group_id) == 0 && !is_idle(run)) {
            return false;
        }
    }
    return true;
}

/* All members, in order; NULL: not all are ready. */
static struct async_round *gather(struct async_mirror *am)
{
    struct control *control = am->run->control;
    const struct condition where[] = {WHERE_TEXT("group_sync_id", am->group_id), WHERE_END};
    struct sync_row *pairs = NULL;
    struct async_round *round = NULL;
    size_t n = 0;
    bool ready = all_idle(am) &&
                 table_load(control_db(control), &sync_table, where, (void **)&pairs, &n) == 0;

    if (ready) {
        round = calloc(1, sizeof(*round) + n * sizeof(round->parts[0]));
        CHECK(round != NULL);
        round->control = control;
        strcpy(round->group_id, am->group_id);
    }
    for (size_t i = 0; i < n && ready; i++) {
        struct mirror_run *run = mirror_run_find(control, pairs[i].head.id);

        if (replica_engine_of(&pairs[i]) != ENGINE_ASYNC) {
            continue; /* it was made synchronous by itself */
        }

        ready = run != NULL && run->driver == &mirror_async_driver && is_idle(run) &&
                is_ready(run->state, round->group_id);
        if (ready) {
            round->parts[round->n] = async_event_of(run->state);
            round->parts[round->n++].files = (struct async_files){0};
        }
    }
    free(pairs);
    if (!ready) {
        free(round);
        round = NULL;
    }
    return round;
}

/* ---- its end, whichever ---- */

void async_round_failed(struct async_round *round)
{
    struct error other = round->error;

    other.code = ERR_IN_USE; /* only the one who cannot stops */
    for (size_t i = 0; i < round->n; i++) {
        struct async_event *part = &round->parts[i];

        for (unsigned side = 0; side < ASYNC_SIDES; side++) {
            if (part->files.made[side]) {
                array_layers_remove(array_of(round), part->files.fresh[side].family,
                                    &part->files.fresh[side].layer, 1, NULL, NULL);
            }
        }
    }
    for (size_t i = 0; i < round->n; i++) {
        struct async_mirror *am = round->parts[i].am;

        am->cycle_done = false;
        async_step_done(am, am == round->culprit ? &round->error : &other);
    }
    free(round);
}

/* ---- the beginning ---- */

static void begin_send(struct async_round *round)
{
    control_event(round->control, async_round_begin_event, &round, sizeof(round));
}

struct file {
    struct async_round *round;
    struct async_mirror *am;
};

static void file_made(void *arg, const struct error *error)
{
    struct file *file = arg;
    struct async_round *round = file->round;

    if (error != NULL) {
        round->error = *error;
        round->culprit = file->am;
    }
    free(file);
    if (--round->pending > 0) {
        return;
    }
    if (round->error.code != ERR_NONE) {
        async_round_failed(round);
    } else {
        begin_send(round);
    }
}

static struct file *file_of(struct async_round *round, struct async_mirror *am)
{
    struct file *file = calloc(1, sizeof(*file));

    CHECK(file != NULL);
    *file = (struct file){round, am};
    round->pending++;
    return file;
}

static void make_files(struct async_round *round)
{
    struct file *first = file_of(round, round->parts[0].am);

    for (size_t i = 0; i < round->n; i++) {
        struct async_event *part = &round->parts[i];

        for (unsigned side = 0; side < ASYNC_SIDES; side++) {
            struct hosted_fresh *fresh = &part->files.fresh[side];

            if (async_file_wanted(part->am, part, side) &&
                !async_is_open(part->am, side, &round->error)) {
                round->culprit = part->am;
            } else if (async_file_wanted(part->am, part, side)) {
                part->files.made[side] = true;
                async_fresh(&part->am->volumes[side], fresh);
                array_layers_create(array_of(round), fresh->family, &fresh->layer, 1, file_made,
                                    file_of(round, part->am));
            }
        }
    }
    file_made(first, NULL);
}

/* Nothing has changed anywhere since the point: it is of now, too. */
static bool is_blank(const struct async_mirror *am)
{
    return am->cycle.way == CYCLE_RESTS && am->valid_base && !am->valid_point &&
           am->changes_known && am->changed_bytes == 0 && !am->was_away;
}

static void changes_known(struct async_round *round)
{
    if (--round->pending > 0) {
        return;
    }
    round->blank = true;
    for (size_t i = 0; i < round->n; i++) {
        round->blank = round->blank && is_blank(round->parts[i].am);
    }
    if (!round->blank) {
        make_files(round);
        return;
    }
    for (size_t i = 0; i < round->n; i++) {
        round->parts[i].am->cycle_done = true;
    }
    begin_send(round);
}

static void changes_answered(void *arg, const struct error *error, uint64_t bytes)
{
    struct file *file = arg;
    struct async_round *round = file->round;

    file->am->changes_known = error == NULL;
    file->am->changed_bytes = bytes;
    free(file);
    changes_known(round);
}

static void round_begin(struct async_round *round)
{
    uint64_t now_ns = loop_now_ns(control_loop(round->control));
    uint64_t asked_ms = control_now_ms(round->control);

    store_new_id(round->round_id);
    round->pending = 1;
    for (size_t i = 0; i < round->n; i++) {
        struct async_mirror *am = round->parts[i].am;

        am->busy = true;
        am->begun_ns = now_ns;
        am->part_cut = am->parted != NULL;
        am->changes_known = false;
        round->parts[i].asked_ms = asked_ms;
    }
    for (size_t i = 0; i < round->n; i++) {
        struct async_mirror *am = round->parts[i].am;

        if (am->valid_base) {
            array_volume_changes(array_of(round), am->volumes[ASYNC_SOURCE].head.id,
                                 am->cycle.base_id, changes_answered, file_of(round, am));
        }
    }
    changes_known(round);
}

/* ---- the end ---- */

static void round_done(struct async_round *round)
{
    for (size_t i = 0; i < round->n; i++) {
        struct async_event *part = &round->parts[i];
        struct async_mirror *am = part->am;

        part->progress = am->progress;
        part->counted = am->told;
        part->took_ms = am->took_ms;
        am->told = am->progress;
        am->busy = true;
        am->cycle_done = true;
    }
    control_event(round->control, async_round_done_event, &round, sizeof(round));
}

/* ---- what is next ---- */

static bool is_over(const struct async_round *round)
{
    const struct async_mirror *first = round->parts[0].am;

    for (size_t i = 0; i < round->n; i++) {
        const struct async_mirror *am = round->parts[i].am;

        if (!async_is_copied(am) || am->cycle.round_id[0] == '\0' ||
            strcmp(am->cycle.round_id, first->cycle.round_id) != 0) {
            return false;
        }
    }
    return true;
}

/* The looks of a round that comes to nothing are closed first. True: they are on their way. */
static bool closes_looks(const struct async_round *round)
{
    bool closing = false;

    for (size_t i = 0; i < round->n; i++) {
        if (round->parts[i].am->look_open) {
            async_look_close(round->parts[i].am);
            closing = true;
        }
    }
    return closing;
}

bool async_round_go_on(struct async_mirror *am)
{
    struct async_round *round = gather(am);

    if (round == NULL) {
        return false;
    }
    if (is_over(round)) {
        round_done(round);
    } else if (closes_looks(round)) {
        free(round);
    } else {
        round_begin(round);
    }
    return true;
}
