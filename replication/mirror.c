// SPDX-License-Identifier: Apache-2.0
/*
 *       owner's loop                                    data loop
 *     mirror_connect(), ...   ─── struct order ───▶  mirror_core_*()
 *                             ◀── the same, taken ──
 *     events, done()          ◀── struct news ──────  mirror_tell_*()
 *                             ─── (a count) ───────▶
 *
 * Orders and news are rare: each is allocated, and freed by the owner. Changes of phase and answers are all told, in
 * order; of mere progress one message at most is under way. Who has ended is told so when all orders are back.
 */
#include "replication/mirror.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/check.h"
#include "replication/mirror_private.h"

struct mirror {
    /* constant */
    struct loop *owner;
    struct loop *data_loop;
    struct mirror_events events;
    void *arg;

    /* the owner's */
    unsigned orders_out;
    bool ended, freed;
    struct news *ended_news;

    /* the data loop's */
    struct mirror_core *core; /* NULL: ended */
    uint64_t progress_sent;

    /* written by the owner, read by the data loop */
    _Atomic uint64_t progress_taken;
};

/* ---- news ---- */

struct news {
    struct loop_task task;
    struct mirror *mirror;
    bool has_progress, has_error, has_ended;
    struct mirror_progress progress;
    mirror_done_fn done;
    void *arg;
    struct error error;
};

static void end_told(struct mirror *mirror)
{
    struct news *news = mirror->ended_news;
    struct error error = news->error;
    bool has_error = news->has_error;
    mirror->ended_news = NULL;
    mirror->ended = true;
    free(news);
    /* The owner may free the mirror in there. */
    mirror->events.ended(mirror->arg, has_error ? &error : NULL);
}

static void news_arrived(void *arg)
{
    struct news *news = arg;
    struct mirror *mirror = news->mirror;
    const struct error *error = news->has_error ? &news->error : NULL;
    if (news->has_ended) {
        mirror->ended_news = news;
        if (mirror->orders_out == 0) {
            end_told(mirror);
        }
        return;
    }
    if (news->done) {
        news->done(news->arg, error);
    } else {
        mirror->events.progress(mirror->arg, &news->progress, error);
        atomic_fetch_add(&mirror->progress_taken, 1);
    }
    free(news);
}

static void news_send(struct mirror *mirror, struct news news, const struct error *error)
{
    struct news *copy = malloc(sizeof(*copy));
    CHECK(copy != NULL);
    *copy = news;
    copy->mirror = mirror;
    copy->task = (struct loop_task){.fn = news_arrived, .arg = copy};
    if (error) {
        copy->has_error = true;
        copy->error = *error;
    }
    loop_post(mirror->owner, &copy->task);
}

void mirror_tell_progress(struct mirror *mirror, const struct mirror_progress *progress,
                          const struct error *error, bool every)
{
    if (!every && atomic_load(&mirror->progress_taken) != mirror->progress_sent) {
        return;
    }
    mirror->progress_sent++;
    news_send(mirror, (struct news){.has_progress = true, .progress = *progress}, error);
}

bool mirror_progress_is_taken(const struct mirror *mirror)
{
    return atomic_load(&mirror->progress_taken) == mirror->progress_sent;
}

void mirror_tell_done(struct mirror *mirror, mirror_done_fn done, void *arg,
                      const struct error *error)
{
    if (done) {
        news_send(mirror, (struct news){.done = done, .arg = arg}, error);
    }
}

void mirror_tell_ended(struct mirror *mirror, const struct error *error)
{
    mirror->core = NULL;
    news_send(mirror, (struct news){.has_ended = true}, error);
}

/* ---- orders ---- */

enum verb {
    VERB_START,
    VERB_CONNECT,
    VERB_DISCONNECT,
    VERB_SPLIT,
    VERB_MARK,
    VERB_SET_LEG,
    VERB_LOOK,
    VERB_SET_LIMITS,
    VERB_SET_RECOVERY,
    VERB_END,
};

struct order {
    struct loop_task task;
    struct mirror *mirror;
    enum verb verb;
    enum mirror_direction direction;
    uint64_t timeout_ms, offset, len, bandwidth_limit;
    unsigned priority;
    bool by_hand, stop_host_io, remove_map;
    struct block_opener *leg;
    struct mirror_member *member; /* of a split */
    mirror_done_fn done;
    void *arg;
};

static void release(struct mirror *mirror)
{
    if (mirror->freed && mirror->orders_out == 0) {
        free(mirror);
    }
}

static void order_taken(void *arg)
{
    struct order *order = arg;
    struct mirror *mirror = order->mirror;
    mirror->orders_out--;
    free(order);
    if (mirror->ended_news && mirror->orders_out == 0) {
        end_told(mirror);
    } else {
        release(mirror);
    }
}

static void order_for_none(struct mirror *mirror, const struct order *order)
{
    struct error error;
    error_set(&error, ERR_TERMINATED, "the mirror has ended");
    if (order->member) {
        mirror_member_absent(order->member, &error);
    }
    mirror_tell_done(mirror, order->done, order->arg, &error);
    if (order->leg) {
        order->leg->ops->free(order->leg);
    }
}

static void order_arrived(void *arg)
{
    struct order *order = arg;
    struct mirror *mirror = order->mirror;
    struct mirror_core *core = mirror->core;
    if (!core) {
        order_for_none(mirror, order);
    } else {
        switch (order->verb) {
        case VERB_START:
            mirror_core_start(core);
            break;
        case VERB_CONNECT:
            mirror_core_connect(core, order->direction);
            break;
        case VERB_DISCONNECT:
            mirror_core_disconnect(core, order->done, order->arg);
            break;
        case VERB_SPLIT:
            mirror_core_split(core, order->member, order->timeout_ms, order->done, order->arg);
            break;
        case VERB_MARK:
            mirror_core_mark(core, order->offset, order->len, order->done, order->arg);
            break;
        case VERB_SET_LEG:
            mirror_core_set_leg(core, order->leg);
            break;
        case VERB_SET_LIMITS:
            mirror_core_set_limits(core, order->priority, order->bandwidth_limit);
            break;
        case VERB_LOOK:
            mirror_report(core);
            mirror_tell_done(mirror, order->done, order->arg, NULL);
            break;
        case VERB_SET_RECOVERY:
            core->spec.recover_by_hand = order->by_hand;
            core->spec.stop_host_io = order->stop_host_io;
            mirror_queue_go(core);
            break;
        case VERB_END:
            mirror_core_end(core, order->remove_map);
            break;
        }
    }
    order->task.fn = order_taken;
    loop_post(mirror->owner, &order->task);
}

static void order_send(struct mirror *mirror, struct order order)
{
    CHECK(loop_is_current(mirror->owner) && !mirror->ended);
    struct order *copy = malloc(sizeof(*copy));
    CHECK(copy != NULL);
    *copy = order;
    copy->mirror = mirror;
    copy->task = (struct loop_task){.fn = order_arrived, .arg = copy};
    mirror->orders_out++;
    loop_post(mirror->data_loop, &copy->task);
}

struct mirror *mirror_new(struct loop *owner, struct loop *data_loop,
                          const struct mirror_spec *spec, const struct mirror_events *events,
                          void *arg)
{
    CHECK(loop_is_current(owner));
    struct mirror *mirror = calloc(1, sizeof(*mirror));
    CHECK(mirror != NULL);
    mirror->owner = owner;
    mirror->data_loop = data_loop;
    mirror->events = *events;
    mirror->arg = arg;
    mirror->core = mirror_core_new(data_loop, mirror, spec);
    order_send(mirror, (struct order){.verb = VERB_START});
    return mirror;
}

void mirror_connect(struct mirror *mirror, enum mirror_direction direction)
{
    order_send(mirror, (struct order){.verb = VERB_CONNECT, .direction = direction});
}

void mirror_disconnect(struct mirror *mirror, mirror_done_fn done, void *arg)
{
    order_send(mirror, (struct order){.verb = VERB_DISCONNECT, .done = done, .arg = arg});
}

void mirror_split(struct mirror *mirror, uint64_t timeout_ms, mirror_done_fn done, void *arg)
{
    order_send(mirror, (struct order){
                           .verb = VERB_SPLIT, .timeout_ms = timeout_ms, .done = done, .arg = arg});
}

void mirror_begin_member(struct mirror *mirror, struct mirror_member *member, uint64_t timeout_ms,
                         mirror_done_fn done)
{
    order_send(mirror, (struct order){.verb = VERB_SPLIT,
                                      .member = member,
                                      .timeout_ms = timeout_ms,
                                      .done = done,
                                      .arg = member});
}

void mirror_mark(struct mirror *mirror, uint64_t offset, uint64_t len, mirror_done_fn done,
                 void *arg)
{
    order_send(
        mirror,
        (struct order){.verb = VERB_MARK, .offset = offset, .len = len, .done = done, .arg = arg});
}

void mirror_set_leg(struct mirror *mirror, struct block_opener *leg)
{
    order_send(mirror, (struct order){.verb = VERB_SET_LEG, .leg = leg});
}

void mirror_set_limits(struct mirror *mirror, unsigned priority, uint64_t bandwidth_limit)
{
    order_send(mirror, (struct order){.verb = VERB_SET_LIMITS,
                                      .priority = priority,
                                      .bandwidth_limit = bandwidth_limit});
}

void mirror_look(struct mirror *mirror, mirror_done_fn done, void *arg)
{
    order_send(mirror, (struct order){.verb = VERB_LOOK, .done = done, .arg = arg});
}

void mirror_set_recovery(struct mirror *mirror, bool recover_by_hand, bool stop_host_io)
{
    order_send(mirror, (struct order){.verb = VERB_SET_RECOVERY,
                                      .by_hand = recover_by_hand,
                                      .stop_host_io = stop_host_io});
}

void mirror_end(struct mirror *mirror, bool remove_map)
{
    order_send(mirror, (struct order){.verb = VERB_END, .remove_map = remove_map});
}

void mirror_free(struct mirror *mirror)
{
    if (!mirror) {
        return;
    }
    CHECK(loop_is_current(mirror->owner) && mirror->ended && !mirror->freed);
    mirror->freed = true;
    release(mirror);
}

struct loop *mirror_data_loop(const struct mirror *mirror)
{
    return mirror->data_loop;
}

struct mirror_core *mirror_core_of(struct mirror *mirror)
{
    return mirror->core;
}
