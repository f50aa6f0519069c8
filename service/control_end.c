// SPDX-License-Identifier: Apache-2.0
/*
 * The end of control, in order: nothing new, what waits is answered, copies come to a checkpoint, volumes are closed, the last events
 * are committed. Each of these is bounded in time; what hangs is left to the end of the process.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "service/control_private.h"
#include "service/exports.h"
#include "service/hosted.h"
#include "service/jobs.h"
#include "service/network.h"

enum {
    HOSTED_STOP_MS = 1200, /* after what copies may take: together less than an end may */
};

static void calls_refuse(struct control *control, struct call **list)
{
    struct call *next;

    for (struct call *call = *list; call != NULL; call = next) {
        next = call->next;
        if (call->internal) {
            call_free(call);
            continue;
        }
        control_call_set_up(control, call);
        call->result = call_fail(call, ERR_SHUTTING_DOWN,
                                 "The service is stopping; try again when it is back.");
        strbuf_reset(&call->answer.body);
        call->render(call);
        call->answered(call);
    }
    *list = NULL;
}

static void control_all_stopped(void *arg)
{
    struct control *control = arg;

    pthread_mutex_lock(&control->stop_lock);
    control->copies_hang = jobs_running(control->jobs) > 0 || jobs_stop_timed_out(control->jobs) ||
                           control->volumes_hang;
    control->stopped = true;
    pthread_cond_signal(&control->stop_cond);
    pthread_mutex_unlock(&control->stop_lock);
}

/* Those that volumes hang in are not answered any more: the process ends. */
static void calls_forget_hanging(struct control *control)
{
    for (struct call **at = &control->pending; *at != NULL;) {
        if ((*at)->plan != NULL) {
            *at = (*at)->next;
        } else {
            at = &(*at)->next;
        }
    }
}

static void control_hosted_stopped(void *arg)
{
    struct control *control = arg;

    if (control->hosted_stopped) {
        return; /* too late */
    }
    control->hosted_stopped = true;
    loop_timer_stop(&control->hosted_timer);
    /* What the last checkpoints brought is committed now. What still cannot be is given up: its copies go on from the
     * checkpoint before. */
    control_held_retry(control);
    do {
        control_run_batch(control);
    } while (control->queue != NULL && control->deciding == NULL);
    if (control->deciding != NULL && !control->volumes_hang) {
        /* It could not be taken back: the next start finds it as if it had been cut now. */
        control->deciding->next = control->queue;
        control->queue = control->deciding;
    }
    calls_refuse(control, &control->queue);
    control->queue_tail = &control->queue;
    calls_refuse(control, &control->pending);
    calls_refuse(control, &control->parked);
    loop_timer_stop(&control->retry_timer);
    loop_timer_stop(&control->expire_timer);
    loop_timer_stop(&control->undo_timer);
    network_stop(control->network, control_all_stopped, control);
}

static void control_hosted_timeout(void *arg)
{
    struct control *control = arg;

    log_warning("volumes: not all could be closed in time; what was flushed is there");
    control->volumes_hang = true;
    calls_forget_hanging(control);
    control_hosted_stopped(control);
}

static void control_jobs_stopped(void *arg)
{
    struct control *control = arg;

    if (control->queue != NULL) {
        /* What came before the end began may change volumes: it is done first. */
        control->stop_task = (struct loop_task){.fn = control_jobs_stopped, .arg = control};
        loop_defer(control->loop, &control->stop_task);
        return;
    }
    loop_timer_init(&control->hosted_timer, control->loop, control_hosted_timeout, control);
    uint64_t stop_ms = control->options.volumes_stop_ms;

    loop_timer_start(&control->hosted_timer, (stop_ms != 0 ? stop_ms : HOSTED_STOP_MS) * MS_NS);
    hosted_stop(control->hosted, served_stop, control_hosted_stopped, control);
}

static void control_stop_begin(void *arg)
{
    struct control *control = arg;

    control->stopping = true;
    control_waiters_release(control);
    jobs_stop(control->jobs, control_jobs_stopped, control);
}

int control_stop(struct control *control)
{
    control->stop_task = (struct loop_task){.fn = control_stop_begin, .arg = control};
    loop_post(control->loop, &control->stop_task);
    pthread_mutex_lock(&control->stop_lock);
    while (!control->stopped) {
        pthread_cond_wait(&control->stop_cond, &control->stop_lock);
    }
    bool copies_hang = control->copies_hang;
    pthread_mutex_unlock(&control->stop_lock);
    if (copies_hang) {
        return -ETIMEDOUT;
    }
    control_threads_end(control);
    control_free(control);
    return 0;
}
