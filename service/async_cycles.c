// SPDX-License-Identifier: Apache-2.0
/*
 * The steps of a cycle outside of transactions: what has changed is asked, files of new layers are made, the frozen layers are opened
 * (a look, service/hosted_look.c), and the copier runs from there to the other side.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "service/async_private.h"
#include "service/live.h"
#include "service/network.h"

enum {
    CHECKPOINT_MS = 1000,
    TELL_MS = 1000,
    INTERVAL_DEFAULT_MS = 30000,
    INTERVAL_LEAST_MS = 1000
};

static struct array *array_of(const struct async_mirror *am)
{
    return hosted_array(control_hosted(am->run->control));
}

static bool hosted(const struct async_mirror *am, unsigned side)
{
    return am->volumes[side].kind == VOLUME_HOSTED;
}

bool async_is_first(const struct async_mirror *am)
{
    return !am->row.source_incomplete && !am->valid_base && !am->valid_point &&
           am->cycle.cycles == 0 && am->row.when_synced_ms == 0;
}

uint64_t async_interval_ms(const struct async_mirror *am)
{
    uint64_t ms = am->row.delta_update_interval_ms;

    ms = ms == 0 ? INTERVAL_DEFAULT_MS : ms;
    if (am->row.desired_rpo_ms != 0) {
        /* The point is so old when the next one comes: an interval and the time that a cycle takes. */
        uint64_t took = am->cycle.took_ms;
        uint64_t left = am->row.desired_rpo_ms > took ? am->row.desired_rpo_ms - took : 0;

        ms = left < ms ? left : ms;
    }
    return ms < INTERVAL_LEAST_MS ? INTERVAL_LEAST_MS : ms;
}

struct async_event async_event_of(struct async_mirror *am)
{
    struct async_event event = {.am = am, .files = am->files};

    memcpy(event.sync_id, am->row.head.id, ID_SIZE);
    return event;
}

static void event_send(struct async_mirror *am, method_fn fn, const struct async_event *event)
{
    control_event_in_order(am->run->control, am->row.head.id, fn, event, sizeof(*event));
}

/* ---- how much has changed ---- */

static void changes_answered(void *arg, const struct error *error, uint64_t bytes)
{
    struct async_mirror *am = arg;

    am->looking = false;
    am->looked_ns = loop_now_ns(control_loop(am->run->control));
    if (am->ending) {
        async_go_on(am);
        return;
    }
    am->changes_known = error == NULL;
    am->changed_bytes = bytes;
    async_publish(am);
    if (am->copy == NULL) {
        async_go_on(am);
    }
}

static void cut_answered(void *arg, const struct error *error, uint64_t bytes)
{
    struct async_mirror *am = arg;

    if (error == NULL && am->copy != NULL && am->cycle.way == CYCLE_FORWARD) {
        am->cycle_bytes = am->above_base > bytes ? am->above_base - bytes : 0;
        am->cycle_counted = true;
    }
    changes_answered(am, error, bytes);
}

static void changes_ask(struct async_mirror *am, const char *since,
                        void (*answered)(void *arg, const struct error *error, uint64_t bytes))
{
    array_volume_changes(array_of(am), am->volumes[ASYNC_SOURCE].head.id, since, answered, am);
}

/* What is above the cut, which the next answer says, is not of the cycle. */
static void cycle_answered(void *arg, const struct error *error, uint64_t bytes)
{
    struct async_mirror *am = arg;

    if (error != NULL || am->ending || am->copy == NULL || am->cycle.way != CYCLE_FORWARD) {
        am->looking = false; /* it is asked again, or that cycle is over */
        if (am->ending || am->copy == NULL) {
            async_go_on(am);
        }
        return;
    }
    am->above_base = bytes;
    changes_ask(am, am->cycle.cut_id, cut_answered);
}

void async_changes_look(struct async_mirror *am)
{
    struct cycle_row cycle;

    if (am->cycle.way != CYCLE_FORWARD) {
        changes_ask(am, am->cycle.base_id, changes_answered);
    } else if (am->cycle_counted) {
        changes_ask(am, am->cycle.cut_id, changes_answered);
    } else {
        /* The base may have been merged with what was below it, under another name. */
        int r = cycle_find(control_db(am->run->control), am->row.head.id, &cycle);

        changes_ask(am, r == 0 ? cycle.base_id : am->cycle.base_id, cycle_answered);
    }
}

/* ---- the beginning: what hosts have changed, files, the transaction ---- */

struct begin {
    struct async_mirror *am;
    struct async_event event;
};

static void begin_files(struct begin *begin);

static void begin_answered(void *arg, const struct error *error, uint64_t bytes)
{
    struct begin *begin = arg;

    begin->am->changes_known = error == NULL;
    begin->am->changed_bytes = bytes;
    begin_files(begin);
}

static void begin_send(struct begin *begin)
{
    event_send(begin->am, async_begin_event, &begin->event);
    free(begin);
}

static void file_made(void *arg, const struct error *error)
{
    struct begin *begin = arg;
    struct async_mirror *am = begin->am;

    if (error != NULL) {
        am->files_error = *error;
    }
    if (--am->files_pending > 0) {
        return;
    }
    if (am->files_error.code == ERR_NONE) {
        begin_send(begin);
        return;
    }
    struct error kept = am->files_error;

    for (unsigned i = 0; i < ASYNC_SIDES; i++) {
        if (begin->event.files.made[i]) {
            array_layers_remove(array_of(am), begin->event.files.fresh[i].family,
                                &begin->event.files.fresh[i].layer, 1, NULL, NULL);
        }
    }
    free(begin);
    async_step_done(am, &kept);
}

void async_fresh(const struct volume_row *volume, struct hosted_fresh *ret_fresh)
{
    char id[ID_SIZE];

    store_new_id(id);
    *ret_fresh = (struct hosted_fresh){0};
    strcpy(ret_fresh->layer.id, id);
    strcpy(ret_fresh->layer.pool_id, volume->pool_id);
    ret_fresh->layer.size_bytes = volume->size_bytes;
    strcpy(ret_fresh->family, volume->family);
}

/* A volume that could not be opened takes no layer: its directory may not be the one that it had. */
bool async_is_open(const struct async_mirror *am, unsigned side, struct error *error)
{
    const struct volume_row *volume = &am->volumes[side];

    if (!hosted(am, side) || array_volume_device(array_of(am), volume->head.id, NULL) != NULL) {
        return true;
    }
    error_set(error, ERR_COPY_FAILED, "/volumes/%s cannot be used: %.200s.", volume->head.id,
              volume->problem[0] != '\0' ? volume->problem : "it is not open");
    return false;
}

static void file_make(struct begin *begin, const struct volume_row *volume,
                      struct hosted_fresh *fresh)
{
    async_fresh(volume, fresh);
    begin->am->files_pending++;
    array_layers_create(array_of(begin->am), fresh->family, &fresh->layer, 1, file_made, begin);
}

bool async_file_wanted(const struct async_mirror *am, const struct async_event *event,
                       unsigned side)
{
    if (!hosted(am, side)) {
        return false;
    }
    if (event->adopt) {
        return side == ASYNC_SOURCE;
    }
    if (event->back) {
        return side == ASYNC_TARGET || (am->valid_base && am->valid_point);
    }
    return side == ASYNC_SOURCE || !async_is_first(am);
}

static void begin_files(struct begin *begin)
{
    struct async_mirror *am = begin->am;

    /* Whether one that was away is back, only a copy finds out. */
    if (!begin->event.back && am->valid_base && am->changes_known && am->changed_bytes == 0 &&
        !am->valid_point && !am->was_away) {
        begin->event.blank = true;
        am->cycle_done = true;
        begin_send(begin);
        return;
    }
    am->files_error = (struct error){0};
    am->files_pending = 1;
    for (unsigned i = 0; i < ASYNC_SIDES; i++) {
        if (async_file_wanted(am, &begin->event, i) && async_is_open(am, i, &am->files_error)) {
            begin->event.files.made[i] = true;
            file_make(begin, &am->volumes[i], &begin->event.files.fresh[i]);
        }
    }
    file_made(begin, NULL);
}

void async_cycle_begin(struct async_mirror *am, bool back)
{
    struct begin *begin = calloc(1, sizeof(*begin));

    CHECK(begin != NULL);
    begin->am = am;
    begin->event = async_event_of(am);
    begin->event.files = (struct async_files){0};
    begin->event.back = back;
    begin->event.asked_ms = control_now_ms(am->run->control);
    begin->event.adopt = am->reversed && !back && hosted(am, ASYNC_SOURCE);
    am->cycle_done = begin->event.adopt;
    am->busy = true;
    am->begun_ns = loop_now_ns(control_loop(am->run->control));
    if (am->valid_base && !back) {
        array_volume_changes(array_of(am), am->volumes[ASYNC_SOURCE].head.id, am->cycle.base_id,
                             begin_answered, begin);
    } else {
        am->changes_known = false;
        begin_files(begin);
    }
}

/* ---- the target for its hosts ---- */

struct landing {
    struct async_mirror *am;
    struct async_event event;
};

static void landing_made(void *arg, const struct error *error)
{
    struct landing *landing = arg;
    struct async_mirror *am = landing->am;

    if (error != NULL) {
        free(landing);
        async_step_done(am, error);
        return;
    }
    event_send(am, async_land_event, &landing->event);
    free(landing);
}

void async_land(struct async_mirror *am)
{
    struct landing *landing = calloc(1, sizeof(*landing));
    const struct volume_row *target = &am->volumes[ASYNC_TARGET];
    struct error error = {0};
    char id[ID_SIZE];

    CHECK(landing != NULL);
    landing->am = am;
    landing->event = async_event_of(am);
    landing->event.files = (struct async_files){0};
    am->busy = true;
    if (!hosted(am, ASYNC_TARGET)) {
        landing->event.torn = am->cycle.way != CYCLE_RESTS && !am->undone;
        landing_made(landing, NULL);
        return;
    }
    if (!async_is_open(am, ASYNC_TARGET, &error)) {
        landing_made(landing, &error);
        return;
    }
    struct hosted_fresh *fresh = &landing->event.files.fresh[ASYNC_TARGET];

    store_new_id(id);
    strcpy(fresh->layer.id, id);
    strcpy(fresh->layer.pool_id, target->pool_id);
    fresh->layer.size_bytes = target->size_bytes;
    strcpy(fresh->family, target->family);
    landing->event.files.made[ASYNC_TARGET] = true;
    array_layers_create(array_of(am), fresh->family, &fresh->layer, 1, landing_made, landing);
}

static void send_plain(struct async_mirror *am, method_fn fn)
{
    struct async_event event = async_event_of(am);

    event.files = (struct async_files){0};
    am->busy = true;
    event_send(am, fn, &event);
}

void async_forget(struct async_mirror *am)
{
    send_plain(am, async_forget_event);
}

void async_undo(struct async_mirror *am)
{
    send_plain(am, async_undo_event);
}

void async_abandon(struct async_mirror *am)
{
    send_plain(am, async_abandon_event);
}

/* ---- the frozen layers ---- */

/* What is asked of the array for the cut goes before: the other side is ready when its queue is. */
static void other_side_ready(void *arg, struct array_barrier *barrier)
{
    array_barrier_end(barrier);
    async_step_done(arg, NULL);
}

static void look_opened(void *arg, const struct error *error)
{
    struct async_mirror *am = arg;
    unsigned other = am->cycle.way == CYCLE_BACK ? ASYNC_SOURCE : ASYNC_TARGET;

    if (error != NULL && am->cycle.way == CYCLE_UNDO) {
        log_warning("async[%s] %s", am->row.head.id, error->detail);
        am->look_open = false;
        am->undo_failed = true; /* without the source nobody knows what it was */
        async_step_done(am, NULL);
    } else if (error != NULL) {
        am->look_open = false;
        async_step_done(am, error);
    } else if (hosted(am, other)) {
        array_barrier(array_of(am), am->volumes[other].family, other_side_ready, am);
    } else {
        async_step_done(am, NULL);
    }
}

/* NULL: everything is copied. */
static const char *base_of(const struct async_mirror *am)
{
    const struct cycle_row *cycle = &am->cycle;

    if (cycle->way != CYCLE_BACK) {
        return cycle->base_id[0] != '\0' ? cycle->base_id : NULL;
    }
    return cycle->base_id[0] != '\0' && cycle->point_id[0] != '\0' ? cycle->point_id : NULL;
}

void async_cycle_look(struct async_mirror *am)
{
    struct error error = {0};

    snprintf(am->look_id, sizeof(am->look_id), "%.20sl", am->row.head.id);
    am->busy = true;
    am->look_open = true;
    int r = hosted_look_open(am->run->control, am->look_id, am->cycle.cut_id, base_of(am),
                             am->cycle.way == CYCLE_UNDO, look_opened, am);

    if (r < 0) {
        error_set(&error, ERR_INTERNAL, "The layers of the cycle cannot be opened: %s.",
                  strerror(-r));
        look_opened(am, &error);
    }
}

static void look_closed(void *arg, const struct error *error)
{
    async_step_done(arg, error);
}

void async_look_close(struct async_mirror *am)
{
    am->busy = true;
    am->look_open = false;
    array_volume_close(array_of(am), am->look_id, look_closed, am);
}

/* ---- the copy ---- */

void async_publish(struct async_mirror *am)
{
    uint64_t moved = am->progress.bytes_written + am->progress.bytes_zeroed;
    bool forward = am->copy != NULL && am->cycle.way == CYCLE_FORWARD;
    uint64_t left = forward && am->cycle_bytes > moved ? am->cycle_bytes - moved : 0;
    struct live_lag lag = {
        .known = am->changes_known && async_flows(am), /* else nobody looks */
        .lag_bytes = (am->changes_known ? am->changed_bytes : 0) + left,
        .interval_ms = async_interval_ms(am),
        .cycling = am->copy != NULL,
        .bytes_read = am->progress.bytes_read,
        .bytes_moved = moved,
    };

    live_lag_put(control_live(am->run->control), am->row.head.id, &lag);
}

static struct mirror_progress progress_of(const struct async_mirror *am, enum mirror_phase phase)
{
    struct mirror_progress progress = {
        .phase = phase,
        .total_bytes = am->progress.bytes_total,
        .marked_bytes = am->progress.bytes_total - am->progress.bytes_done,
        .copied_bytes = am->progress.bytes_written + am->progress.bytes_zeroed,
        .zeroed_bytes = am->progress.bytes_zeroed,
        .bytes_per_second = am->progress.bytes_per_second,
        .attempts = am->progress.attempts,
        .last_error_ms = am->progress.last_error_ms,
    };

    memcpy(progress.last_error, am->progress.last_error, sizeof(progress.last_error));
    return progress;
}

static void tell(struct async_mirror *am, enum mirror_phase phase)
{
    struct mirror_progress progress = progress_of(am, phase);

    am->told_ns = loop_now_ns(control_loop(am->run->control));
    mirror_told(am->run, &progress, NULL);
}

static void tell_copying(struct async_mirror *am)
{
    struct mirror_progress progress = progress_of(am, MIRROR_COPYING);

    if (loop_now_ns(control_loop(am->run->control)) - am->told_ns >= TELL_MS * MS_NS) {
        tell(am, MIRROR_COPYING);
    } else {
        mirror_numbers(am->run, &progress);
    }
}

/* A cycle of a mirror that is Synchronized is nobody's business. */
static bool is_told(const struct async_mirror *am)
{
    return !am->equal;
}

void async_is_back(struct async_mirror *am)
{
    am->away = am->was_away = false;
    am->broken = am->row.copy_recovery_mode == 3;
    tell(am, am->broken ? MIRROR_HELD : MIRROR_COPYING);
}

static void copy_news(void *arg, const struct copy_progress *progress)
{
    struct async_mirror *am = arg;
    bool away = progress->phase == COPY_RETRY;
    bool back =
        am->was_away && (progress->phase == COPY_COPYING || progress->phase == COPY_FLUSHING);

    am->progress = *progress;
    async_publish(am);
    if (am->cycle.way == CYCLE_UNDO && away && !am->cancelling) {
        am->cancelling = true; /* who asked is not kept waiting for a target that is away */
        copy_cancel(am->copy);
    }
    if (am->cancelling || !am->flow) {
        return;
    }
    if (away && !am->away) {
        am->away = am->was_away = true;
        am->equal = false;
        tell(am, MIRROR_AWAY);
    } else if (back) {
        async_is_back(am);
        async_go_on(am);
    } else if (!am->away && progress->phase == COPY_COPYING && is_told(am)) {
        tell_copying(am);
    }
}

static void copy_checkpoint(void *arg, const struct copy_progress *progress)
{
    struct async_mirror *am = arg;
    struct async_event event = async_event_of(am);

    am->progress = *progress;
    event.progress = *progress;
    event.counted = am->told;
    am->told = *progress;
    event_send(am, async_checkpoint_event, &event);
}

struct finish {
    struct async_mirror *am;
    struct async_event event;
};

static void finish_made(void *arg, const struct error *error)
{
    struct finish *finish = arg;
    struct async_mirror *am = finish->am;

    if (error != NULL) {
        free(finish);
        am->cycle_done = false;
        async_step_done(am, error);
        return;
    }
    event_send(am, async_done_event, &finish->event);
    free(finish);
}

/* A copy back has a cut of the source at its end: from there on changes count again. */
void async_cycle_finish(struct async_mirror *am)
{
    struct finish *finish = calloc(1, sizeof(*finish));
    const struct volume_row *source = &am->volumes[ASYNC_SOURCE];

    CHECK(finish != NULL);
    finish->am = am;
    finish->event = async_event_of(am);
    finish->event.files = (struct async_files){0};
    finish->event.progress = am->progress;
    finish->event.counted = am->told;
    finish->event.took_ms = am->took_ms;
    am->told = am->progress;
    am->busy = true;
    am->cycle_done = true;
    if (am->cycle.way != CYCLE_BACK || !hosted(am, ASYNC_SOURCE)) {
        finish_made(finish, NULL);
        return;
    }
    struct hosted_fresh *fresh = &finish->event.files.fresh[ASYNC_SOURCE];
    char id[ID_SIZE];

    store_new_id(id);
    strcpy(fresh->layer.id, id);
    strcpy(fresh->layer.pool_id, source->pool_id);
    fresh->layer.size_bytes = source->size_bytes;
    strcpy(fresh->family, source->family);
    finish->event.files.made[ASYNC_SOURCE] = true;
    array_layers_create(array_of(am), fresh->family, &fresh->layer, 1, finish_made, finish);
}

/* With others it waits for them. */
static void copied(struct async_mirror *am)
{
    uint64_t now_ns = loop_now_ns(control_loop(am->run->control));

    am->took_ms = am->begun_ns != 0 ? (now_ns - am->begun_ns) / MS_NS : 0;
    if (am->group_id[0] != '\0' && am->cycle.way == CYCLE_FORWARD) {
        strcpy(am->copied_id, am->cycle.cut_id);
        copy_checkpoint(am, &am->progress);
        async_go_on(am);
    } else {
        async_cycle_finish(am);
    }
}

static void copy_over(void *arg, const struct copy_progress *progress, const struct error *error)
{
    struct async_mirror *am = arg;
    struct error kept = error != NULL ? *error : (struct error){0};
    struct copy_progress last = *progress; /* both are the copy's */

    am->progress = last;
    copy_free(am->copy);
    am->copy = NULL;
    async_publish(am);
    am->cancelling = false;
    am->clean = last.phase == COPY_DONE;
    log_debug("async[%s] cycle %s, %llu bytes", am->row.head.id, copy_phase_name(last.phase),
              (unsigned long long)(last.bytes_written + last.bytes_zeroed));
    if (am->cycle.way == CYCLE_UNDO) {
        am->undone = last.phase == COPY_DONE;
        am->undo_failed = !am->undone;
        async_go_on(am);
    } else if (last.phase == COPY_DONE) {
        copied(am);
    } else if (last.phase == COPY_BROKEN && !async_waits_for_room(am, &kept)) {
        async_break(am, &kept);
    } else if (last.phase == COPY_BROKEN) {
        copy_checkpoint(am, &last);
    } else {
        copy_checkpoint(am, &last);
        async_go_on(am);
    }
}

static const struct copy_events copy_callbacks = {
    .progress = copy_news,
    .checkpoint = copy_checkpoint,
    .ended = copy_over,
};

/* A side as it is now: what is written to, or a LUN of another system that is read. */
static int side_opener(struct async_mirror *am, unsigned side, bool written,
                       struct block_opener **ret_opener, struct error *error)
{
    const struct volume_row *volume = &am->volumes[side];
    struct network_session session = {
        .isid = network_isid(am->row.head.id, written ? 'T' : 'S'),
        .fence = written,
        .fence_open = written && !am->clean,
    };

    memcpy(session.pipe_id, am->row.pipe_id, sizeof(session.pipe_id));
    if (!hosted(am, side)) {
        remote_alias_format(session.alias, &am->row, volume);
        return network_opener(control_network(am->run->control), control_db(am->run->control),
                              volume, &session, ret_opener, error);
    }
    if (!async_is_open(am, side, error)) {
        return -1;
    }
    *ret_opener = array_leg_opener(array_of(am), volume->head.id);
    return 0;
}

void async_copy_start(struct async_mirror *am)
{
    struct control *control = am->run->control;
    bool back = am->cycle.way == CYCLE_BACK;
    unsigned from = back ? ASYNC_TARGET : ASYNC_SOURCE;
    unsigned to = back ? ASYNC_SOURCE : ASYNC_TARGET;
    struct copy_spec spec = {
        .bytes_total = am->volumes[ASYNC_SOURCE].size_bytes, /* a target may be larger */
        .checkpoint_bytes = am->cycle.checkpoint_bytes,
        .compare = base_of(am) == NULL && !async_is_first(am),
        .verify = false,
        .priority = am->row.copy_priority,
        .bandwidth_limit = am->row.bandwidth_limit,
        .checkpoint_ns = CHECKPOINT_MS * MS_NS,
        .give_up_ns = am->cycle.way == CYCLE_UNDO ? SEC_NS : 0,
    };
    struct loop *loop = control_data_loop(control, 0);
    struct error error = {0};

    if (am->volumes[ASYNC_TARGET].size_bytes < spec.bytes_total) {
        error_set(&error, ERR_TARGET_TOO_SMALL, "/volumes/%s is smaller than /volumes/%s.",
                  am->volumes[ASYNC_TARGET].head.id, am->volumes[ASYNC_SOURCE].head.id);
        async_break(am, &error);
        return;
    }
    if (side_opener(am, to, true, &spec.target, &error) < 0) {
        async_break(am, &error);
        return;
    }
    if (hosted(am, from)) {
        CHECK(array_volume_device(array_of(am), am->look_id, &loop) != NULL);
        spec.source = array_volume_opener(array_of(am), am->look_id);
    } else if (side_opener(am, from, false, &spec.source, &error) < 0) {
        spec.target->ops->free(spec.target);
        async_break(am, &error);
        return;
    }
    snprintf(spec.name, sizeof(spec.name), "%s %.12s>%.12s", am->row.head.id,
             am->volumes[from].head.id, am->volumes[to].head.id);
    am->progress = (struct copy_progress){.bytes_total = spec.bytes_total,
                                          .checkpoint_bytes = spec.checkpoint_bytes};
    am->told = am->progress;
    am->away = false;
    am->hindered_ns = 0;
    am->hindered_told = false;
    am->cycle_bytes = base_of(am) != NULL ? am->changed_bytes : spec.bytes_total;
    am->cycle_counted = false;
    am->changed_bytes = 0; /* above the cut, but for what the next look finds */
    am->copy = copy_start(control_loop(control), loop, &spec, &copy_callbacks, am);
}
