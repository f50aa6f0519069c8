// SPDX-License-Identifier: Apache-2.0
/*
 * What waits for its batch: calls from http threads, and events in their lanes.
 *
 * An event of a data loop is never lost: if it cannot be recorded (full disk) it is held and taken again, half a second later, until it
 * can. Events of one lane are recorded in the order in which they came: while one is held, those behind it are held too.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "service/control_private.h"

enum {
    SAY_HELD_S = 30,
};

void control_queue_defer(struct control *control)
{
    if (control->queue != NULL && !control->batch_deferred) {
        control->batch_deferred = true;
        loop_defer(control->loop, &control->batch_task);
    }
}

void control_queue_push(struct control *control, struct call *call)
{
    call->next = NULL;
    *control->queue_tail = call;
    control->queue_tail = &call->next;
    control->queue_len++;
    atomic_fetch_add(&control->queued, 1);
    control_queue_defer(control);
}

struct call *control_queue_pop(struct control *control)
{
    struct call *call = control->queue;

    if (call != NULL) {
        control->queue = call->next;
        if (control->queue == NULL) {
            control->queue_tail = &control->queue;
        }
        control->queue_len--;
        atomic_fetch_sub(&control->queued, 1);
        call->next = NULL;
    }
    return call;
}

void call_list_push(struct call **list, struct call *call)
{
    call->next = *list;
    *list = call;
}

void call_list_drop(struct call **list, struct call *call)
{
    for (struct call **at = list; *at != NULL; at = &(*at)->next) {
        if (*at == call) {
            *at = call->next;
            call->next = NULL;
            return;
        }
    }
    CHECK(!"call is in its list");
}

static void call_arrived(void *arg)
{
    struct call *call = arg;
    struct control *control = call->control;

    if (control->stopping) {
        call_fail(call, ERR_SHUTTING_DOWN,
                  "The service is stopping; try again when it is back. Nothing was changed.");
        call->result = -ESHUTDOWN;
        call->render(call);
        call->answered(call);
        return;
    }
    control_queue_push(control, call);
}

void control_submit(struct control *control, struct call *call)
{
    call->control = control;
    call->task = (struct loop_task){.fn = call_arrived, .arg = call};
    loop_post(control->loop, &call->task);
}

void call_resume(struct call *call, method_fn step)
{
    struct control *control = call->control;

    CHECK(loop_is_current(control->loop));
    call_list_drop(&control->pending, call);
    call->step = step;
    control_queue_push(control, call);
}

void control_event_in_order(struct control *control, const char *lane, method_fn fn,
                            const void *arg, size_t arg_size)
{
    struct call *call = call_new();

    CHECK(loop_is_current(control->loop));
    call->control = control;
    call->internal = true;
    call->started = true;
    call->step = fn;
    call->lane = arena_strdup(&call->arena, lane);
    call->step_state = arena_alloc(&call->arena, arg_size == 0 ? 1 : arg_size);
    if (arg_size > 0) {
        memcpy(call->step_state, arg, arg_size);
    }
    control_queue_push(control, call);
}

void control_event(struct control *control, method_fn fn, const void *arg, size_t arg_size)
{
    control_event_in_order(control, "", fn, arg, arg_size);
}

/* ---- events that wait for the disk ---- */

bool call_comes_again(const struct call *call)
{
    return call->internal && call->result < 0 &&
           (call->error.code == ERR_STORE_FAILED || call->error.code == ERR_NO_SPACE);
}

/* A disk may stay full for days: said at first, and then every half minute. */
static void say_held(struct control *control, const struct call *call)
{
    uint64_t now_ns = loop_now_ns(control->loop);

    if (control->said_held_ns == 0 || now_ns - control->said_held_ns >= SAY_HELD_S * SEC_NS) {
        control->said_held_ns = now_ns;
        log_error("control: an event could not be recorded, trying again: %s", call->error.detail);
    }
}

void control_hold(struct control *control, struct call *call)
{
    call->next = NULL;
    *control->held_tail = call;
    control->held_tail = &call->next;
    if (!loop_timer_pending(&control->retry_timer)) {
        say_held(control, call);
        loop_timer_start(&control->retry_timer, EVENT_RETRY_MS * MS_NS);
    }
}

void control_held_retry(void *arg)
{
    struct control *control = arg;

    if (control->held == NULL) {
        return;
    }
    if (control->queue == NULL) {
        control->queue_tail = control->held_tail;
    }
    for (struct call *call = control->held; call != NULL; call = call->next) {
        call->result = 0;
        control->queue_len++;
        atomic_fetch_add(&control->queued, 1);
    }
    *control->held_tail = control->queue;
    control->queue = control->held;
    control->held = NULL;
    control->held_tail = &control->held;
    control_queue_defer(control);
}

void control_held_free(struct control *control)
{
    struct call *next;

    for (struct call *call = control->held; call != NULL; call = next) {
        next = call->next;
        call_free(call);
    }
    control->held = NULL;
    control->held_tail = &control->held;
}

bool control_lane_is_held(const struct control *control, const struct call *call,
                          struct call *const *done, unsigned n_done)
{
    if (call->lane == NULL || call->lane[0] == '\0') {
        return false;
    }
    for (const struct call *other = control->held; other != NULL; other = other->next) {
        if (strcmp(other->lane, call->lane) == 0) {
            return true;
        }
    }
    for (unsigned i = 0; i < n_done; i++) {
        if (call_comes_again(done[i]) && strcmp(done[i]->lane, call->lane) == 0) {
            return true;
        }
    }
    return false;
}
