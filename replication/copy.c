// SPDX-License-Identifier: Apache-2.0
/*
 *       owner's loop                                    data loop
 *     copy_suspend(), ...   --- order: what is wanted --->  copier_set_goal(), copier_set_limits()
 *                           <-- order taken ---------
 *     events                <-- report: latest news --  copier's events
 *                           --- report taken ------->
 *
 * One order and one report may be under way at a time; what changes meanwhile is gathered and goes
 * with the next one. So nothing is allocated, no queue grows, and a busy owner gets the latest news
 * instead of all of them.
 *
 * Each block below belongs to the side it names; an order or report under way belongs to its
 * receiver until it is taken.
 */
#include "replication/copy.h"

#include <stdlib.h>

#include "base/check.h"
#include "replication/copier.h"

struct order {
    enum copier_goal goal;
    unsigned priority;
    uint64_t bandwidth_limit;
};

struct report {
    struct copy_progress progress;
    bool has_progress;
    bool has_checkpoint;
    bool has_ended;
    bool has_error;
    struct error error;
};

struct copy {
    /* constant */
    struct loop *owner;
    struct loop *data_loop;
    struct copy_spec spec;
    struct copy_events events;
    void *arg;

    /* the owner's */
    struct order wanted;
    bool order_due, order_out;
    bool ended, freed;

    /* the data loop's */
    bool started;
    struct copier *copier;
    struct report news;
    bool report_out;
    struct loop_task ended_task;

    /* under way */
    struct order order;
    struct report report;
    struct loop_task order_task, order_taken_task, report_task, report_taken_task;
};

/* ---- on the data loop ---- */

static void report_send(struct copy *copy)
{
    struct report *news = &copy->news;
    if (copy->report_out || !(news->has_progress || news->has_checkpoint || news->has_ended)) {
        return;
    }
    copy->report = *news;
    *news = (struct report){0};
    copy->report_out = true;
    if (copy->report.has_ended) {
        /* The last message: nothing of the copy may be touched here afterwards but for orders. */
        copier_free(copy->copier);
        copy->copier = NULL;
    }
    loop_post(copy->owner, &copy->report_task);
}

static void report_taken(void *arg)
{
    struct copy *copy = arg;
    copy->report_out = false;
    report_send(copy);
}

static void data_progress(void *arg, const struct copy_progress *progress)
{
    struct copy *copy = arg;
    copy->news.progress = *progress;
    copy->news.has_progress = true;
    report_send(copy);
}

static void data_checkpoint(void *arg, const struct copy_progress *progress)
{
    struct copy *copy = arg;
    copy->news.progress = *progress;
    copy->news.has_checkpoint = true;
    report_send(copy);
}

static void data_ended_later(void *arg)
{
    report_send(arg);
}

static void data_ended(void *arg, const struct copy_progress *progress, const struct error *error)
{
    struct copy *copy = arg;
    copy->news.progress = *progress;
    copy->news.has_ended = true;
    copy->news.has_error = error != NULL;
    if (error) {
        copy->news.error = *error;
    }
    /* Not from inside the copier, which ends with it; with a report out, its return will do. */
    if (!copy->report_out) {
        loop_defer(copy->data_loop, &copy->ended_task);
    }
}

static void order_arrived(void *arg)
{
    struct copy *copy = arg;
    static const struct copy_events events = {
        .progress = data_progress,
        .checkpoint = data_checkpoint,
        .ended = data_ended,
    };
    if (!copy->started) {
        copy->started = true;
        copy->copier = copier_new(copy->data_loop, &copy->spec, &events, copy);
    }
    if (copy->copier) {
        copier_set_limits(copy->copier, copy->order.priority, copy->order.bandwidth_limit);
        copier_set_goal(copy->copier, copy->order.goal);
    }
    loop_post(copy->owner, &copy->order_taken_task);
}

/* ---- on the owner's loop ---- */

static void order_send(struct copy *copy)
{
    if (copy->order_due && !copy->order_out && !copy->ended) {
        copy->order_due = false;
        copy->order_out = true;
        copy->order = copy->wanted;
        loop_post(copy->data_loop, &copy->order_task);
    }
}

static void release(struct copy *copy)
{
    if (!copy->freed || copy->order_out) {
        return;
    }
    if (copy->spec.source) {
        copy->spec.source->ops->free(copy->spec.source);
    }
    if (copy->spec.target) {
        copy->spec.target->ops->free(copy->spec.target);
    }
    free(copy);
}

static void order_taken(void *arg)
{
    struct copy *copy = arg;
    copy->order_out = false;
    order_send(copy);
    release(copy);
}

static void report_arrived(void *arg)
{
    struct copy *copy = arg;
    const struct report *report = &copy->report;
    if (report->has_checkpoint) {
        copy->events.checkpoint(copy->arg, &report->progress);
    }
    if (report->has_progress) {
        copy->events.progress(copy->arg, &report->progress);
    }
    if (report->has_ended) {
        copy->ended = true;
        /* The owner may free the copy in there. */
        copy->events.ended(copy->arg, &report->progress, report->has_error ? &report->error : NULL);
        return;
    }
    loop_post(copy->data_loop, &copy->report_taken_task);
}

static void order_goal(struct copy *copy, enum copier_goal goal)
{
    CHECK(loop_is_current(copy->owner));
    if (copy->wanted.goal == COPIER_CANCEL ||
        (copy->wanted.goal == COPIER_SHUTDOWN && goal != COPIER_CANCEL)) {
        return;
    }
    copy->wanted.goal = goal;
    copy->order_due = true;
    order_send(copy);
}

struct copy *copy_start(struct loop *owner, struct loop *data_loop, const struct copy_spec *spec,
                        const struct copy_events *events, void *arg)
{
    struct copy *copy = calloc(1, sizeof(*copy));
    CHECK(copy);
    copy->owner = owner;
    copy->data_loop = data_loop;
    copy->spec = *spec;
    copy->spec.name[sizeof(copy->spec.name) - 1] = '\0';
    copy->events = *events;
    copy->arg = arg;
    copy->wanted = (struct order){
        .goal = spec->start_suspended ? COPIER_SUSPEND : COPIER_RUN,
        .priority = spec->priority,
        .bandwidth_limit = spec->bandwidth_limit,
    };
    copy->order_task = (struct loop_task){.fn = order_arrived, .arg = copy};
    copy->order_taken_task = (struct loop_task){.fn = order_taken, .arg = copy};
    copy->ended_task = (struct loop_task){.fn = data_ended_later, .arg = copy};
    copy->report_task = (struct loop_task){.fn = report_arrived, .arg = copy};
    copy->report_taken_task = (struct loop_task){.fn = report_taken, .arg = copy};
    copy->order_due = true;
    order_send(copy);
    return copy;
}

void copy_suspend(struct copy *copy)
{
    order_goal(copy, COPIER_SUSPEND);
}

void copy_resume(struct copy *copy)
{
    order_goal(copy, COPIER_RUN);
}

void copy_cancel(struct copy *copy)
{
    order_goal(copy, COPIER_CANCEL);
}

void copy_shutdown(struct copy *copy)
{
    order_goal(copy, COPIER_SHUTDOWN);
}

void copy_set_limits(struct copy *copy, unsigned priority, uint64_t bandwidth_limit)
{
    CHECK(loop_is_current(copy->owner));
    copy->wanted.priority = priority;
    copy->wanted.bandwidth_limit = bandwidth_limit;
    copy->order_due = true;
    order_send(copy);
}

void copy_free(struct copy *copy)
{
    if (!copy) {
        return;
    }
    CHECK(loop_is_current(copy->owner) && copy->ended && !copy->freed);
    copy->freed = true;
    release(copy);
}
