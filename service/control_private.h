// SPDX-License-Identifier: Apache-2.0
/*
 * What the files of control share (control.c names them).
 *
 * Thread:    control; stop_lock and the counters excepted.
 * Ownership: everything hangs on struct control, which control_stop() frees.
 * Errors:    call->error, as handlers do.
 */
#ifndef SERVICE_CONTROL_PRIVATE_H
#define SERVICE_CONTROL_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/map.h"
#include "service/control.h"

enum {
    DATA_LOOPS_MAX = 4,
    EVENT_RETRY_MS = 500,
};

struct effect;
struct change_observer;

struct control {
    struct control_options options;
    char *data_dir;
    char *system_name;
    char *initiator_name;
    char *portal_allow;
    char *pool_directories;
    struct db *db;
    struct changes *changes; /* of the transaction */
    struct undo *undo;       /* of the call that may be taken back */
    _Atomic(const struct change_observer *) observer;
    struct loop *loop;
    struct loop *data_loops[DATA_LOOPS_MAX];
    unsigned n_data_loops;
    bool threads_running;

    struct call *queue;
    struct call **queue_tail;
    unsigned queue_len;
    bool batch_deferred;
    struct loop_task batch_task;
    struct loop_timer retry_timer;
    struct loop_timer expire_timer;

    struct call *held; /* events that could not be recorded, oldest first */
    struct call **held_tail;
    uint64_t said_held_ns; /* when that was last logged */

    struct effect *effects;
    struct effect **effects_tail;
    bool in_batch;

    struct call *deciding; /* committed, but it may be taken back; until then there is no batch */
    struct effect *deciding_effects;
    struct loop_timer undo_timer;

    struct map in_progress; /* Idempotency-Key -> struct call that has it now */
    struct call *parked;
    struct call *pending; /* calls between two steps */
    struct call *gated;   /* committed; their answers wait for effects */

    struct job_waiter *waiters;

    struct jobs *jobs;
    struct network *network;
    struct hosted *hosted;
    struct mirrors *mirrors;
    struct served *served;
    struct live *live;

    bool started;
    struct loop_task begun_task;
    bool stopping;
    struct loop_task stop_task; /* of the beginning, too */
    pthread_mutex_t stop_lock;
    pthread_cond_t stop_cond;
    bool stopped;
    bool copies_hang; /* found when it stopped: nothing may be freed, whatever they do afterwards */
    bool volumes_hang;
    bool hosted_stopped;
    struct loop_timer hosted_timer;

    atomic_uint_fast64_t calls;
    atomic_uint_fast64_t batches;
    atomic_uint_fast64_t commits;
    atomic_uint_fast64_t commit_ns;
    atomic_uint_fast64_t queued;
    atomic_uint_fast64_t bytes_read;
    atomic_uint_fast64_t bytes_written;
    atomic_uint_fast64_t bytes_zeroed;
    atomic_uint_fast64_t bytes_skipped;
};

/* control.c */
void control_threads_end(struct control *control);
void control_free(struct control *control);

/* control_queue.c */
void control_queue_push(struct control *control, struct call *call);
struct call *control_queue_pop(struct control *control);
/* There is a batch when something waits for one. */
void control_queue_defer(struct control *control);
void call_list_push(struct call **list, struct call *call);
void call_list_drop(struct call **list, struct call *call);
/* An event whose failure is the disk's: it is held. */
bool call_comes_again(const struct call *call);
void control_hold(struct control *control, struct call *call);
/* All that is held goes before what is queued: it is older. */
void control_held_retry(void *control);
void control_held_free(struct control *control);
/* Is an older event of its lane held, or has it failed in this batch? */
bool control_lane_is_held(const struct control *control, const struct call *call,
                          struct call *const *done, unsigned n_done);

/* control_effects.c. A mark is the tail as it was. */
void control_effects_drop(struct control *control, struct effect **mark);
void control_effects_run(struct control *control, struct effect *effects);
/* Those from mark on, which was made while they were gathered. */
struct effect *control_effects_split(struct effect **effects, struct effect **mark,
                                     struct control *control);

/* control_keys.c */
enum key_verdict { KEY_RUN, KEY_ANSWERED, KEY_PARKED };
/* A call that begins: has its key been seen? */
enum key_verdict control_key_check(struct control *control, struct call *call);
bool control_key_keeps(const struct call *call);
int control_key_record(struct control *control, struct call *call);
/* The call that had the key is through: those that waited for it look again. */
void control_key_release(struct control *control, const char *key);
/* Makes the answer anew, after the commit; it is then the one that is kept. */
void control_answer_again(struct control *control, struct call *call);

/* control_batch.c */
void control_call_set_up(struct control *control, struct call *call);
void control_run_batch(void *control);

/* control_answers.c: its effects have begun, or never will. */
void control_call_through(struct control *control, struct call *call);

/* control_decision.c: a timer until it can be written, and nothing else is meanwhile. */
void control_take_back(void *control);

/* control_waiters.c */
void control_waiters_release(struct control *control);

#endif
