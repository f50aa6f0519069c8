// SPDX-License-Identifier: Apache-2.0
/*
 * What the files of jobs share: jobs.c (records and methods), job_review.c (what a job says of itself), copy_events.c (what
 * copies tell, in transactions), copy_runs.c (the copies that run).
 *
 * Thread:    control.
 * Ownership: struct running is owned by struct jobs until running_gone_effect().
 * Errors:    call->error, as handlers do.
 */
#ifndef SERVICE_JOBS_PRIVATE_H
#define SERVICE_JOBS_PRIVATE_H

#include "base/list.h"
#include "base/map.h"
#include "replication/copy.h"
#include "service/jobs.h"

struct running {
    struct list link;
    struct jobs *jobs;
    struct copy *copy;
    char copy_id[ID_SIZE];
    char sync_id[ID_SIZE];
    char source_id[ID_SIZE];
    char target_id[ID_SIZE];
    uint32_t priority;        /* as its job wants it */
    uint64_t bandwidth_limit; /* as its job wants it, 0 none */
    unsigned data_loop;
    enum copy_phase phase;
    bool stopping;  /* cancelled by an operation: what its end means is the waiting call's business */
    struct call *stopper;
    method_fn stopper_step;
    struct call *suspender; /* waits for it to rest */
    method_fn suspender_step;
    struct copy_progress published; /* the last numbers of this run */
    struct copy_progress counted; /* what the row has been told of this run's counters */
    struct copy_progress before;  /* the sums of earlier runs */
};

struct jobs {
    struct control *control;
    struct list running;
    unsigned n_running;
    bool kicked; /* a look for what waits is on its way */
    bool stopping;
    loop_fn stop_done;
    void *stop_arg;
    struct map unclean; /* volumes that a copy was written to without coming to its end: writes of its session may be under way */
    struct loop_timer stop_timer;
    bool stop_timed_out;
    struct loop_timer start_timer; /* a copy could not be started because of the records */
};

/* What a copy tells, as it travels into a transaction. */
struct copy_event {
    char copy_id[ID_SIZE];
    char sync_id[ID_SIZE];
    struct copy_progress progress;
    struct error error;
};

struct checkpoint_event {
    struct copy_event event;
    struct copy_progress counted; /* what the row knows already of this run */
};

/* copy_runs.c */
struct running *running_find(struct jobs *jobs, const char *copy_id);
/* Starts what waits, most urgent first, oldest first, as far as there is room. */
void jobs_kick_effect(struct control *control, void *arg);
/* The volume is a LUN that an older session of ours may still write to: the next copy onto it ends that first. */
void jobs_note_unclean(struct jobs *jobs, const char *volume_id);
void copy_cancel_effect(struct control *control, void *arg);
void copy_suspend_effect(struct control *control, void *arg);
void copy_resume_effect(struct control *control, void *arg);
/* After the commit that recorded its end. */
void running_gone_effect(struct control *control, void *arg);
/* The call that waits for the copy to rest, or to have stopped, goes on: in the same batch as the event that told, so that what was done
 * and its answer are committed together. */
void copy_suspender_go_on(struct jobs *jobs, const char *copy_id);
void copy_stopper_go_on(struct jobs *jobs, const char *copy_id);

/* copy_events.c; call->step_state: struct copy_event for the first, struct checkpoint_event for the rest */
/* In a transaction: the row runs, its relationship is Unsynchronized. */
int copy_began(struct call *call, struct copy_row *copy);
int copy_phase_event(struct call *call);
/* 1: what the copy writes only goes where its target has nothing yet; 0: not; or what the store said. */
int copy_fills(struct db *db, const struct copy_row *copy, struct layer_row *ret_oldest);
int copy_checkpoint_event(struct call *call);
int copy_ended_event(struct call *call);
int copy_shut_down_event(struct call *call);
int copy_stopped_event(struct call *call);
/* What an event's handler answers: a row that is gone is no failure. */
int event_result(struct call *call, int r);

/* job_review.c */
int job_load_copies(struct call *call, const struct job_row *job, struct copy_row **ret_copies,
                    size_t *ret_n);
/* Stops all that the job still has under way: what runs after the commit, what is queued at once. */
int job_cancel_copies(struct call *call, struct copy_row *copies, size_t n);
/* A queued copy is dropped: its relationship rests as Aborted. */
int copy_drop_queued(struct call *call, struct copy_row *copy);
enum error_code error_code_of_word(const char *word);

/* jobs.c */
int jobs_recover_event(struct call *call);

#endif
