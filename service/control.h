// SPDX-License-Identifier: Apache-2.0
/*
 * Control: the one thread that owns object state and writes the records.
 *
 * Thread:    control_submit(), control_wait_job() and control_live_* from any thread; the rest on control's loop.
 * Ownership: see struct call. Effects own a copy of their argument.
 * Errors:    control_start() fills error; later failures end in the calls' answers.
 *
 * Calls are taken in batches: BEGIN; for each call SAVEPOINT, step, render, RELEASE (or ROLLBACK TO); COMMIT; then the effects,
 * then the answers. A batch whose commit fails answers store_failed to all of its calls and drops their effects.
 */
#ifndef SERVICE_CONTROL_H
#define SERVICE_CONTROL_H

#include "base/sockaddr.h"
#include "service/call.h"

struct control_options {
    const char *data_dir;
    const char *system_name;    /* ElementName of /systems/local */
    const char *initiator_name; /* IQN we log in with */
    unsigned data_loops;        /* 0: one per core, at most 4 */
    uint64_t data_linger_us;    /* loop_linger() of data loops */
    unsigned copies_at_once;    /* over all loops */
    uint64_t copy_bandwidth_limit;
    uint64_t copy_give_up_ms;   /* 0: never */
    uint64_t probe_timeout_ms;
    uint64_t reach_interval_ms; /* how often peers are asked whether they are there */
    const char *portal_allow;   /* CIDR list */
    const char *initiator_addresses; /* "ADDR,ADDR": endpoints to dial from; NULL or "": none */
    const char *iscsi;                /* ADDR:PORT of our own target; NULL or "": none */
    const char *iscsi_advertise;      /* ADDR:PORT that clients are told; NULL or "": found out. During control_start() only */
    unsigned iscsi_connections;       /* 0: as target/target.h says */
    unsigned iscsi_chap_algorithms;   /* set of TARGET_CHAP_…; 0: as target/target.h says */
    const char *own_addresses;  /* "ADDR:PORT,…": never dialled */
    const char *pool_directories; /* PATH:…, below which pools of files may be */
    uint64_t idempotency_keep_ms;
    uint64_t job_keep_ms; /* TimeBeforeRemoval of new jobs */
    uint64_t volumes_stop_ms; /* how long the end waits for volumes to be closed; 0: a little more than a second */
};

int control_start(const struct control_options *options, struct control **ret_control,
                  struct error *error);
/* Our own addresses once they are known (port 0): never dialled. */
void control_set_own_addresses(struct control *control, const char *addresses);
/* In order: no new calls, copies to a last checkpoint (bounded in time), what waits is answered shutting_down. Then
 * frees. -ETIMEDOUT: some copies hang in their devices; nothing was freed, and the process is to end now. */
int control_stop(struct control *control);

void control_submit(struct control *control, struct call *call); /* any thread */

/* Calls fn on control once the job has ended, is gone, or the time is over (whichever first); any thread. */
struct job_waiter {
    char job_id[ID_SIZE];
    uint64_t timeout_ms;
    void (*fn)(struct job_waiter *waiter);
    void *arg;
    bool timed_out; /* set before fn: the time is over, the job has not ended */
    /* control's own */
    struct loop_task task;
    struct loop_timer timer;
    struct control *control;
    struct job_waiter *next;
};
void control_wait_job(struct control *control, struct job_waiter *waiter);

/* Wakes those who wait for the job. */
void control_job_ended(struct control *control, const char *job_id);

/* For handlers: runs fn(control, copy of arg) after the commit of the batch; dropped when the call fails. */
typedef void (*effect_fn)(struct control *control, void *arg);
void control_effect(struct control *control, effect_fn fn, const void *arg, size_t arg_size);

/* For events of data loops: fn runs as an internal call, in a transaction of the next batch, with call->step_state = copy of arg. */
void control_event(struct control *control, method_fn fn, const void *arg, size_t arg_size);
/* The same, in one order with the other events of the lane (the id of a copy), also when some have to be tried again. */
void control_event_in_order(struct control *control, const char *lane, method_fn fn,
                            const void *arg, size_t arg_size);

uint64_t control_now_ms(struct control *control); /* wall clock */
struct loop *control_loop(struct control *control);
struct db *control_db(struct control *control);
const struct control_options *control_options(const struct control *control);
struct loop *control_data_loop(struct control *control, unsigned index);
unsigned control_data_loops(const struct control *control);

/* Parts that keep state of their own hang here. */
struct jobs;
struct network;
struct jobs *control_jobs(struct control *control);
struct hosted;
struct hosted *control_hosted(struct control *control);
struct mirrors;
struct mirrors *control_mirrors(struct control *control);
struct served;
struct served *control_served(struct control *control);
struct network *control_network(struct control *control);

/* Live counters of running copies, overlaid by the read path (any thread). */
struct live;
struct live *control_live(struct control *control);

/* Numbers for /metrics; any thread. */
struct control_stats {
    uint64_t calls;
    uint64_t batches;
    uint64_t commits;
    uint64_t commit_ns;
    uint64_t queued;
    /* of all copies since the start */
    uint64_t bytes_read;
    uint64_t bytes_written;
    uint64_t bytes_zeroed;
    uint64_t bytes_skipped;
};
struct control_stats control_stats(struct control *control);
void control_count_copied(struct control *control, uint64_t read, uint64_t written, uint64_t zeroed,
                          uint64_t skipped);

#endif
