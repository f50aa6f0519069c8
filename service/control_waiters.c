// SPDX-License-Identifier: Apache-2.0
/* Those who wait for the end of a job (control_wait_job()). */
#include <string.h>

#include "service/control_private.h"
#include "service/jobs.h"

static void waiter_fire(struct control *control, struct job_waiter *waiter)
{
    for (struct job_waiter **at = &control->waiters; *at != NULL; at = &(*at)->next) {
        if (*at == waiter) {
            *at = waiter->next;
            break;
        }
    }
    loop_timer_stop(&waiter->timer);
    waiter->fn(waiter);
}

static void waiter_timeout(void *arg)
{
    struct job_waiter *waiter = arg;

    waiter->timed_out = true;
    waiter_fire(waiter->control, waiter);
}

static void waiter_arrived(void *arg)
{
    struct job_waiter *waiter = arg;
    struct control *control = waiter->control;
    struct job_row job;

    loop_timer_init(&waiter->timer, control->loop, waiter_timeout, waiter);
    if (control->stopping || table_get(control->db, &job_table, waiter->job_id, &job) < 0 ||
        job_state_ended(job.state)) {
        waiter->fn(waiter);
        return;
    }
    waiter->next = control->waiters;
    control->waiters = waiter;
    loop_timer_start(&waiter->timer, waiter->timeout_ms * MS_NS);
}

void control_wait_job(struct control *control, struct job_waiter *waiter)
{
    waiter->control = control;
    waiter->timed_out = false;
    waiter->task = (struct loop_task){.fn = waiter_arrived, .arg = waiter};
    loop_post(control->loop, &waiter->task);
}

void control_waiters_release(struct control *control)
{
    while (control->waiters != NULL) {
        waiter_fire(control, control->waiters);
    }
}

void control_job_ended(struct control *control, const char *job_id)
{
    struct job_waiter *next;

    for (struct job_waiter *waiter = control->waiters; waiter != NULL; waiter = next) {
        next = waiter->next;
        if (strcmp(waiter->job_id, job_id) == 0) {
            waiter_fire(control, waiter);
        }
    }
}
