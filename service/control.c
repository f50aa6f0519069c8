// SPDX-License-Identifier: Apache-2.0
/*
 * The batch. Calls and events that have arrived in one round of the loop share one transaction and one commit:
 *
 *     BEGIN
 *       per call: SAVEPOINT, step, render (and the Idempotency-Key record), RELEASE or ROLLBACK TO
 *     COMMIT
 *     effects, in the order in which they were asked for
 *     answers
 *
 * Invariants: an effect runs only if the call that asked for it is committed. A client's answer leaves only after the
 * commit. An event of a data loop is never lost: if its batch cannot be committed (full disk) it is held and taken again,
 * half a second later, until it can. Events of one lane are recorded in the order in which they came: while one is held, those
 * behind it are held too.
 *
 * A call whose step answers CALL_PENDING leaves the batch with what it has written so far undone; it comes
 * back through call_resume(). Meanwhile calls with the same Idempotency-Key are parked.
 */
#include "service/control.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/map.h"
#include "service/changes.h"
#include "service/exports.h"
#include "service/hosted.h"
#include "service/jobs.h"
#include "service/live.h"
#include "service/mirrors.h"
#include "service/network.h"
#include "service/undo.h"
#include "store/job.h"
#include "store/system.h"

enum {
    DATA_LOOPS_MAX = 4,
    BATCH_MAX = 256,
    EXPIRE_INTERVAL_S = 60,
    EVENT_RETRY_MS = 500,
    HOSTED_STOP_MS = 1200, /* after what copies may take: together less than an end may */
    SAY_HELD_S = 30,
};

struct effect {
    struct effect *next;
    effect_fn fn;
    _Alignas(max_align_t) unsigned char arg[];
};

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
    bool copies_hang;
    bool volumes_hang;
    bool hosted_stopped;
    struct loop_timer hosted_timer; /* found when it stopped: nothing may be freed, whatever they do afterwards */

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

static void control_run_batch(void *arg);

struct loop *control_loop(struct control *control)
{
    return control->loop;
}

struct db *control_db(struct control *control)
{
    return control->db;
}

const struct control_options *control_options(const struct control *control)
{
    return &control->options;
}

struct loop *control_data_loop(struct control *control, unsigned index)
{
    return control->data_loops[index % control->n_data_loops];
}

unsigned control_data_loops(const struct control *control)
{
    return control->n_data_loops;
}

struct jobs *control_jobs(struct control *control)
{
    return control->jobs;
}

struct network *control_network(struct control *control)
{
    return control->network;
}

struct served *control_served(struct control *control)
{
    return control->served;
}

struct mirrors *control_mirrors(struct control *control)
{
    return control->mirrors;
}

struct hosted *control_hosted(struct control *control)
{
    return control->hosted;
}

struct live *control_live(struct control *control)
{
    return control->live;
}

uint64_t control_now_ms(struct control *control)
{
    return loop_wall_ms(control->loop);
}

void control_observe(struct control *control, const struct change_observer *observer)
{
    atomic_store(&control->observer, observer);
}

struct control_stats control_stats(struct control *control)
{
    return (struct control_stats){
        .calls = atomic_load(&control->calls),
        .batches = atomic_load(&control->batches),
        .commits = atomic_load(&control->commits),
        .commit_ns = atomic_load(&control->commit_ns),
        .queued = atomic_load(&control->queued),
        .bytes_read = atomic_load(&control->bytes_read),
        .bytes_written = atomic_load(&control->bytes_written),
        .bytes_zeroed = atomic_load(&control->bytes_zeroed),
        .bytes_skipped = atomic_load(&control->bytes_skipped),
    };
}

void control_count_copied(struct control *control, uint64_t read, uint64_t written, uint64_t zeroed,
                          uint64_t skipped)
{
    atomic_fetch_add(&control->bytes_read, read);
    atomic_fetch_add(&control->bytes_written, written);
    atomic_fetch_add(&control->bytes_zeroed, zeroed);
    atomic_fetch_add(&control->bytes_skipped, skipped);
}

/* ---- effects ---- */

void control_effect(struct control *control, effect_fn fn, const void *arg, size_t arg_size)
{
    struct effect *effect = malloc(sizeof(*effect) + arg_size);

    CHECK(control->in_batch && effect != NULL);
    effect->next = NULL;
    effect->fn = fn;
    if (arg_size > 0) {
        memcpy(effect->arg, arg, arg_size);
    }
    *control->effects_tail = effect;
    control->effects_tail = &effect->next;
}

/* Forgets the effects from mark on. */
static void effects_drop(struct control *control, struct effect **mark)
{
    struct effect *next;

    for (struct effect *effect = *mark; effect != NULL; effect = next) {
        next = effect->next;
        free(effect);
    }
    *mark = NULL;
    control->effects_tail = mark;
}

static void effects_run(struct control *control, struct effect *effects)
{
    struct effect *next;

    for (struct effect *effect = effects; effect != NULL; effect = next) {
        next = effect->next;
        effect->fn(control, effect->arg);
        free(effect);
    }
}

/* Those from mark on, which was made while they were gathered. */
static struct effect *effects_split(struct effect **effects, struct effect **mark,
                                    struct control *control)
{
    struct effect **at = mark == &control->effects ? effects : mark;
    struct effect *rest = *at;

    *at = NULL;
    return rest;
}

/* ---- the queue ---- */

static void queue_push(struct control *control, struct call *call)
{
    call->next = NULL;
    *control->queue_tail = call;
    control->queue_tail = &call->next;
    control->queue_len++;
    atomic_fetch_add(&control->queued, 1);
    if (!control->batch_deferred) {
        control->batch_deferred = true;
        loop_defer(control->loop, &control->batch_task);
    }
}

static struct call *queue_pop(struct control *control)
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

static void list_push(struct call **list, struct call *call)
{
    call->next = *list;
    *list = call;
}

static void list_drop(struct call **list, struct call *call)
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
    queue_push(control, call);
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
    list_drop(&control->pending, call);
    call->step = step;
    queue_push(control, call);
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
    queue_push(control, call);
}

void control_event(struct control *control, method_fn fn, const void *arg, size_t arg_size)
{
    control_event_in_order(control, "", fn, arg, arg_size);
}

/* ---- Idempotency-Key ---- */

enum key_verdict { KEY_RUN, KEY_ANSWERED, KEY_PARKED };

static void key_reused(struct call *call)
{
    call->result = call_fail(call, ERR_IDEMPOTENCY_REUSED,
                             "This Idempotency-Key was used for another request (method, path or "
                             "body differ). Use a new key for a new request.");
    call->render(call);
}

/* A call that begins: has its key been seen? */
static enum key_verdict key_check(struct control *control, struct call *call)
{
    struct call *first = map_get(&control->in_progress, call->idempotency_key);
    struct answer answer;

    if (first != NULL) {
        if (memcmp(first->request_hash, call->request_hash, sizeof(call->request_hash)) != 0) {
            key_reused(call);
            return KEY_ANSWERED;
        }
        list_push(&control->parked, call);
        return KEY_PARKED;
    }
    strbuf_reset(&call->answer.body);
    int r = answer_get(control->db, call->idempotency_key, &answer, &call->answer.body);

    if (r == -ENOENT) {
        return KEY_RUN;
    }
    if (r < 0) {
        call->result = call_fail_store(call, r);
        call->render(call);
    } else if (memcmp(answer.request_hash, call->request_hash, sizeof(call->request_hash)) != 0) {
        strbuf_reset(&call->answer.body);
        key_reused(call);
    } else {
        call->answer.status = answer.status;
        memcpy(call->answer.location, answer.location, sizeof(call->answer.location));
    }
    return KEY_ANSWERED;
}

/* An answer that says nothing about the request, only about the state of things now (ours, the array's, the disk's), is not kept:
 * the call has changed nothing, and the same key may try again. */
static bool key_keeps(const struct call *call)
{
    int status = error_info(call->error.code)->http_status;

    return status < 500 || call->error.code == ERR_NOT_SUPPORTED;
}

static int key_record(struct control *control, struct call *call)
{
    struct answer answer = {.status = call->answer.status, .created_ms = control_now_ms(control)};

    memcpy(answer.location, call->answer.location, sizeof(answer.location));
    memcpy(answer.request_hash, call->request_hash, sizeof(answer.request_hash));
    return answer_put(control->db, call->idempotency_key, &answer, strbuf_str(&call->answer.body),
                      call->answer.body.len);
}

/* The call that had the key is through: those that waited for it look again. */
static void key_release(struct control *control, const char *key)
{
    map_remove(&control->in_progress, key);
    for (struct call **at = &control->parked; *at != NULL;) {
        struct call *call = *at;

        if (strcmp(call->idempotency_key, key) == 0) {
            *at = call->next;
            queue_push(control, call);
        } else {
            at = &call->next;
        }
    }
}

/* ---- one call of the batch ---- */

static void call_set_up(struct control *control, struct call *call)
{
    call->db = control->db;
    call->error = (struct error){0};
    call->return_value = 0;
    call->gates = 0;
    call->decide = NULL;
    call->taken_back = NULL;
    call->cuts = NULL;
    call->batch = NULL;
    call->undo = false;
    call->location[0] = '\0';
    if (!call->internal) {
        call->outs = values_new(&call->arena, call->method->params, call->method->n_params);
    }
}

/* Makes its answer from error or outs, in a savepoint of its own when there is something to keep. */
static int call_render(struct control *control, struct call *call)
{
    int r = 0;

    if (call->internal) {
        return 0;
    }
    strbuf_reset(&call->answer.body);
    call->render(call);
    if (call->idempotency_key[0] != '\0' && key_keeps(call)) {
        r = key_record(control, call);
    }
    return r;
}

/* True when the call is through (well or not), false when it is parked or pending. */
static bool call_run(struct control *control, struct call *call)
{
    struct effect **mark = control->effects_tail;

    if (!call->started) {
        if (call->idempotency_key[0] != '\0') {
            switch (key_check(control, call)) {
            case KEY_ANSWERED:
                return true;
            case KEY_PARKED:
                return false;
            case KEY_RUN:
                break;
            }
            CHECK(map_put(&control->in_progress, call->idempotency_key, call) == 0);
        }
        call->started = true;
        call->step = call->method->handler;
        atomic_fetch_add(&control->calls, 1);
    }
    call_set_up(control, call);
    int r = db_savepoint(control->db);

    if (r < 0) {
        call->result = call_fail_store(call, r);
        call_render(control, call);
        return true;
    }
    if (call->step == NULL) {
        call->result = call_fail(call, ERR_NOT_SUPPORTED, "%s is not supported by this version.",
                                 call->method->name);
    } else {
        call->result = call->step(call);
    }
    if (call->result == CALL_PENDING) {
        /* Nothing of it is to be committed, so what it asked for need not wait. */
        struct effect *effects = *mark;

        if (call->undo) {
            effects_drop(control, mark);
            effects = NULL;
        }
        *mark = NULL;
        control->effects_tail = mark;
        db_rollback_to(control->db);
        list_push(&control->pending, call);
        effects_run(control, effects);
        return false;
    }
    if (call->result < 0) {
        CHECK(call->error.code != ERR_NONE);
        effects_drop(control, mark);
        db_rollback_to(control->db);
        r = db_savepoint(control->db);
        if (r < 0) {
            call_render(control, call);
            return true;
        }
    }
    r = call_render(control, call);
    if (r < 0) {
        /* The answer could not be kept, so the call did not happen. */
        effects_drop(control, mark);
        db_rollback_to(control->db);
        call->result = call_fail_store(call, r);
        if (!call->internal) {
            strbuf_reset(&call->answer.body);
            call->render(call);
        }
        return true;
    }
    r = db_release(control->db);
    if (r < 0) {
        effects_drop(control, mark);
        call->result = call_fail_store(call, r);
        if (!call->internal) {
            strbuf_reset(&call->answer.body);
            call->render(call);
        }
    }
    return true;
}

static bool event_again(const struct call *call)
{
    return call->internal && call->result < 0 &&
           (call->error.code == ERR_STORE_FAILED || call->error.code == ERR_NO_SPACE);
}

/* ---- events that wait for the disk ---- */

static void held_push(struct control *control, struct call *call)
{
    call->next = NULL;
    *control->held_tail = call;
    control->held_tail = &call->next;
}

/* All that is held goes before what is queued: it is older. */
static void held_to_queue(struct control *control)
{
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
    if (!control->batch_deferred) {
        control->batch_deferred = true;
        loop_defer(control->loop, &control->batch_task);
    }
}

static void held_free(struct control *control)
{
    struct call *next;

    for (struct call *call = control->held; call != NULL; call = next) {
        next = call->next;
        call_free(call);
    }
    control->held = NULL;
    control->held_tail = &control->held;
}

/* Is an older event of its lane held, or has it failed in this batch? */
static bool lane_is_held(const struct control *control, const struct call *call,
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
        if (event_again(done[i]) && strcmp(done[i]->lane, call->lane) == 0) {
            return true;
        }
    }
    return false;
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

/* After the commit (or its failure): hand the call back. */
static void call_finish(struct control *control, struct call *call)
{
    if (call->internal) {
        if (event_again(call)) {
            held_push(control, call);
            if (!loop_timer_pending(&control->retry_timer)) {
                say_held(control, call);
                loop_timer_start(&control->retry_timer, EVENT_RETRY_MS * MS_NS);
            }
            return;
        }
        if (call->result < 0) {
            log_error("control: an event failed: %s", call->error.detail);
        }
        call_free(call);
        return;
    }
    if (call->idempotency_key[0] != '\0' &&
        map_get(&control->in_progress, call->idempotency_key) == call) {
        key_release(control, call->idempotency_key);
    }
    call->answered(call);
}

void call_gate(struct call *call)
{
    call->gates++;
}

static void events_retry(void *arg)
{
    held_to_queue(arg);
}

static void batch_defer(struct control *control)
{
    if (control->queue != NULL && !control->batch_deferred) {
        control->batch_deferred = true;
        loop_defer(control->loop, &control->batch_task);
    }
}

/* Its effects have begun, or never will. */
static void call_through(struct control *control, struct call *call)
{
    hosted_call_end(call, call->committed);
    if (call->gates > 0) {
        call->gated = true;
        list_push(&control->gated, call);
    } else {
        call_finish(control, call);
    }
}

/* ---- a call that may be taken back ---- */

void call_decide(struct call *call, void (*decide)(struct call *call))
{
    CHECK(call->control->in_batch);
    call->decide = decide;
    undo_begin(call->control->undo);
}

struct kept_answer {
    char key[sizeof(((struct call *)0)->idempotency_key)];
    int status;
    char location[PATH_SIZE];
    size_t len;
    char body[];
};

/* The answer that is kept for an Idempotency-Key is the one that was given. */
static int answer_again_event(struct call *call)
{
    const struct kept_answer *kept = call->step_state;
    struct strbuf old = {0};
    struct answer answer;
    int r = answer_get(call->db, kept->key, &answer, &old);

    strbuf_fini(&old);
    answer.status = kept->status;
    memcpy(answer.location, kept->location, sizeof(answer.location));
    if (r == 0) {
        r = answer_forget(call->db, kept->key);
    }
    if (r == 0) {
        r = answer_put(call->db, kept->key, &answer, kept->body, kept->len);
    }
    return r < 0 && r != -ENOENT ? call_fail_store(call, r) : 0;
}

static void answer_again(struct control *control, struct call *call)
{
    strbuf_reset(&call->answer.body);
    call->render(call);
    if (call->idempotency_key[0] == '\0') {
        return;
    }
    size_t len = call->answer.body.len;
    struct kept_answer *kept = arena_alloc(&call->arena, sizeof(*kept) + len);

    memcpy(kept->key, call->idempotency_key, sizeof(kept->key));
    kept->status = call->answer.status;
    memcpy(kept->location, call->answer.location, sizeof(kept->location));
    kept->len = len;
    memcpy(kept->body, strbuf_str(&call->answer.body), len);
    control_event(control, answer_again_event, kept, sizeof(*kept) + len);
}

/* What the call has made or changed all the same: its first reference that came out. */
static void name_made(const struct call *call, struct error *error)
{
    for (size_t i = 0; i < call->method->n_params && error->made[0] == '\0'; i++) {
        const struct param *param = &call->method->params[i];
        const struct value *value = call->outs != NULL ? &call->outs->values[i] : NULL;

        if (param->type != PARAM_REF || (param->direction & PARAM_OUT) == 0 || value == NULL ||
            !value->present || strcmp(param->name, "Job") == 0) {
            continue;
        }
        if (param->array && value->n_items > 0 && value->items[0].present) {
            snprintf(error->made, sizeof(error->made), "%s", value->items[0].text);
        } else if (!param->array) {
            snprintf(error->made, sizeof(error->made), "%s", value->text);
        }
    }
}

void call_gate_open(struct call *call, const struct error *error)
{
    struct control *control = call->control;

    CHECK(loop_is_current(control->loop) && call->gates > 0);
    if (error != NULL && call->internal) {
        log_warning("control: after an event: %s", error->detail);
    } else if (error != NULL && call->error.code == ERR_NONE) {
        call->error = *error;
        call->result = error_info(error->code)->err;
        name_made(call, &call->error);
        call->location[0] = '\0';
        if (error->code == ERR_SHUTTING_DOWN) {
            /* The next start does what is missing, so what is kept is true. */
            strbuf_reset(&call->answer.body);
            call->render(call);
        } else {
            answer_again(control, call);
        }
    }
    call->gates--;
    if (call->gates == 0 && call->gated) {
        call->gated = false;
        list_drop(&control->gated, call);
        call_finish(control, call);
    }
}

static void decided(struct control *control)
{
    struct call *call = control->deciding;

    control->deciding = NULL;
    /* What was taken back was never there for anybody. */
    changes_commit(control->changes, atomic_load(&control->observer));
    undo_end(control->undo);
    if (call->internal && call->result < 0) {
        call->taken_back(call);
        call->result = 0; /* who has asked for it tries again */
    }
    call_through(control, call);
    batch_defer(control);
}

/* Until it can be written, and nothing else is meanwhile. */
static void take_back(void *arg)
{
    struct control *control = arg;
    struct call *call = control->deciding;
    size_t before = changes_count(control->changes);
    int r = db_begin(control->db);

    if (r == 0) {
        r = undo_run(control->undo, control->db);
        if (r == 0 && call->idempotency_key[0] != '\0') {
            r = answer_forget(control->db, call->idempotency_key);
        }
        if (r == 0) {
            r = db_commit(control->db);
        } else {
            db_rollback(control->db);
        }
    }
    if (r < 0) {
        changes_truncate(control->changes, before);
        log_error("control: what was not cut could not be taken back, trying again: %s",
                  strerror(-r));
        loop_timer_start(&control->undo_timer, EVENT_RETRY_MS * MS_NS);
        return;
    }
    if (!call->internal) {
        strbuf_reset(&call->answer.body);
        call->render(call);
    }
    decided(control);
}

void call_decided(struct call *call, const struct error *error)
{
    struct control *control = call->control;
    struct effect *effects = control->deciding_effects;

    CHECK(loop_is_current(control->loop) && control->deciding == call);
    control->deciding_effects = NULL;
    if (error == NULL) {
        if (!call->internal) {
            answer_again(control, call);
        }
        effects_run(control, effects);
        decided(control);
        return;
    }
    effects_drop(control, &effects);
    control->effects_tail = &control->effects;
    call->error = *error;
    call->result = error_info(error->code)->err;
    call->committed = false;
    call->location[0] = '\0';
    call->gates = 0;
    take_back(control);
}

/* ---- the batch ---- */

static void control_run_batch(void *arg)
{
    struct control *control = arg;
    struct call *done[BATCH_MAX];
    unsigned n_done = 0;
    struct call *call;
    struct call *deciding = NULL;
    struct effect **decided_mark = NULL;

    control->batch_deferred = false;
    if (control->deciding != NULL) {
        return;
    }
    int r = db_begin(control->db);

    control->in_batch = true;
    for (unsigned i = 0; i < BATCH_MAX && deciding == NULL && (call = queue_pop(control)) != NULL;
         i++) {
        struct effect **mark = control->effects_tail;
        bool through;

        if (r < 0) {
            call_set_up(control, call);
            through = true;
        } else if (lane_is_held(control, call, done, n_done)) {
            call_set_up(control, call);
            call->result = call_fail(call, ERR_STORE_FAILED, "An earlier event is not recorded yet.");
            through = true;
        } else {
            through = call_run(control, call);
        }
        if (through) {
            done[n_done++] = call;
        }
        if (through && call->result >= 0 && call->decide != NULL) {
            deciding = call; /* the last one of this batch */
            decided_mark = mark;
        } else {
            undo_end(control->undo);
        }
    }
    control->in_batch = false;
    if (r == 0 && n_done > 0) {
        r = db_commit(control->db);
    } else if (r == 0) {
        db_rollback(control->db); /* all of them are to come back, and what they wrote is undone */
    }
    struct effect *effects = control->effects;

    bool undecided = r == 0 && deciding != NULL;

    if (r == 0 && n_done > 0 && !undecided) {
        changes_commit(control->changes, atomic_load(&control->observer));
    }
    if (!undecided) {
        changes_drop(control->changes);
    }
    control->effects = NULL;
    control->effects_tail = &control->effects;
    if (r < 0) {
        effects_drop(control, &effects);
        control->effects_tail = &control->effects;
        for (unsigned i = 0; i < n_done; i++) {
            done[i]->result = call_fail_store(done[i], r);
            if (!done[i]->internal) {
                strbuf_reset(&done[i]->answer.body);
                done[i]->location[0] = '\0';
                done[i]->render(done[i]);
            }
        }
    }
    for (unsigned i = 0; i < n_done; i++) {
        done[i]->committed = done[i]->result >= 0;
        if (!done[i]->committed) {
            done[i]->gates = 0;
        }
    }
    struct db_stats stats = db_stats(control->db);

    atomic_fetch_add(&control->batches, 1);
    atomic_store(&control->commits, stats.commits);
    atomic_store(&control->commit_ns, stats.commit_ns);
    if (deciding != NULL && deciding->committed) {
        n_done--;
        control->deciding = deciding;
        control->deciding_effects = effects_split(&effects, decided_mark, control);
    }
    effects_run(control, effects);
    for (unsigned i = 0; i < n_done; i++) {
        call_through(control, done[i]);
    }
    if (control->deciding != NULL) {
        deciding->decide(deciding);
    } else {
        undo_end(control->undo);
        batch_defer(control);
    }
}

/* ---- waiting for jobs ---- */

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

/* ---- beginning and end ---- */

static int expire_event(struct call *call)
{
    struct control *control = call->control;
    uint64_t now = control_now_ms(control);
    uint64_t keep = control->options.idempotency_keep_ms;
    int r = answer_expire(call->db, now > keep ? now - keep : 0);

    if (r == 0) {
        r = jobs_expire(call, now);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

static void expire_tick(void *arg)
{
    struct control *control = arg;

    control_event(control, expire_event, NULL, 0);
    loop_timer_start(&control->expire_timer, EXPIRE_INTERVAL_S * SEC_NS);
}

static void control_threads_end(struct control *control)
{
    for (unsigned i = 0; i < control->n_data_loops; i++) {
        loop_thread_join(control->data_loops[i]);
    }
    loop_thread_join(control->loop);
    control->threads_running = false;
}

static void control_free(struct control *control)
{
    network_free(control->network);
    jobs_free(control->jobs);
    served_free(control->served);
    mirrors_free(control->mirrors);
    hosted_free(control->hosted);
    live_free(control->live);
    for (unsigned i = 0; i < control->n_data_loops; i++) {
        loop_free(control->data_loops[i]);
    }
    if (control->loop != NULL) {
        loop_timer_stop(&control->retry_timer);
        loop_timer_stop(&control->expire_timer);
        loop_timer_stop(&control->undo_timer);
        loop_free(control->loop);
    }
    held_free(control);
    map_fini(&control->in_progress);
    db_close(control->db);
    undo_free(control->undo);
    changes_free(control->changes);
    pthread_cond_destroy(&control->stop_cond);
    pthread_mutex_destroy(&control->stop_lock);
    free(control->data_dir);
    free(control->system_name);
    free(control->initiator_name);
    free(control->portal_allow);
    free(control->pool_directories);
    free(control);
}

static unsigned data_loop_count(unsigned wanted)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = wanted != 0 ? wanted : (unsigned)(cores < 1 ? 1 : cores);

    return n > DATA_LOOPS_MAX ? DATA_LOOPS_MAX : n;
}

/* The name of /systems/local is what the options say. */
static int local_system_name(struct control *control)
{
    struct system_row local;
    int r = table_get(control->db, &system_table, SYSTEM_LOCAL, &local);

    if (r < 0 || strlen(control->system_name) >= sizeof(local.element_name) ||
        strcmp(local.element_name, control->system_name) == 0) {
        return r;
    }
    strcpy(local.element_name, control->system_name);
    return table_update(control->db, &system_table, &local);
}

static void control_started(void *arg)
{
    struct control *control = arg;

    pthread_mutex_lock(&control->stop_lock);
    control->started = true;
    pthread_cond_signal(&control->stop_cond);
    pthread_mutex_unlock(&control->stop_lock);
}

/* Behind what the start has found out: who asks once we are ready is told of it. Only tried, for a
 * full disk must not keep us from starting. */
static int begun_event(struct call *call)
{
    struct control *control = call->control;

    if (control->begun_task.fn == NULL) {
        control->begun_task = (struct loop_task){.fn = control_started, .arg = control};
        loop_defer(control->loop, &control->begun_task); /* after the commit of this batch */
    }
    return 0;
}

static void control_begun(void *arg)
{
    struct control *control = arg;

    mirrors_begin(control->mirrors);
    served_begin(control->served);
    jobs_begin(control->jobs);
    control_event_in_order(control, "start", begun_event, NULL, 0);
}

/* Volumes of our own first: copies may need them. */
static void control_begin(void *arg)
{
    struct control *control = arg;
    int r = mirrors_load(control->mirrors);

    if (r < 0) {
        log_error("mirrors: the records cannot be read: %s", strerror(-r));
    }
    hosted_start(control->hosted, control_begun, control);
}

int control_start(const struct control_options *options, struct control **ret_control,
                  struct error *error)
{
    struct control *control = calloc(1, sizeof(*control));
    int r;

    CHECK(control != NULL);
    control->options = *options;
    control->data_dir = strdup(options->data_dir);
    control->system_name = strdup(options->system_name);
    control->initiator_name = strdup(options->initiator_name);
    control->portal_allow = strdup(options->portal_allow);
    CHECK(control->data_dir != NULL && control->system_name != NULL &&
          control->initiator_name != NULL && control->portal_allow != NULL);
    control->pool_directories =
        strdup(options->pool_directories != NULL ? options->pool_directories : "");
    CHECK(control->pool_directories != NULL);
    control->options.pool_directories = control->pool_directories;
    control->options.data_dir = control->data_dir;
    control->options.system_name = control->system_name;
    control->options.initiator_name = control->initiator_name;
    control->options.portal_allow = control->portal_allow;
    control->queue_tail = &control->queue;
    control->effects_tail = &control->effects;
    control->held_tail = &control->held;
    control->batch_task = (struct loop_task){.fn = control_run_batch, .arg = control};
    map_init(&control->in_progress);
    pthread_mutex_init(&control->stop_lock, NULL);
    pthread_cond_init(&control->stop_cond, NULL);

    r = store_open(options->data_dir, &control->db, error);
    if (r < 0) {
        goto failed;
    }
    r = local_system_name(control);
    if (r < 0) {
        error_set(error, ERR_STORE_FAILED, "The records could not be read: %s", strerror(-r));
        goto failed;
    }
    control->changes = changes_new();
    control->undo = undo_new(changes_watch(control->changes));
    db_watch(control->db, undo_watch(control->undo));
    control->live = live_new();
    r = loop_new("control", &control->loop);
    if (r < 0) {
        error_set(error, ERR_INTERNAL, "No event loop: %s", strerror(-r));
        goto failed;
    }
    loop_timer_init(&control->retry_timer, control->loop, events_retry, control);
    loop_timer_init(&control->expire_timer, control->loop, expire_tick, control);
    loop_timer_init(&control->undo_timer, control->loop, take_back, control);
    for (unsigned i = 0; i < data_loop_count(options->data_loops); i++) {
        char name[16];

        snprintf(name, sizeof(name), "data%u", i);
        r = loop_new(name, &control->data_loops[i]);
        if (r < 0) {
            error_set(error, ERR_INTERNAL, "No event loop: %s", strerror(-r));
            goto failed;
        }
        control->n_data_loops++;
    }
    r = network_new(control, &control->network, error);
    if (r < 0) {
        goto failed;
    }
    r = hosted_new(control, &control->hosted);
    if (r < 0) {
        error_set(error, ERR_INTERNAL, "Volumes cannot be served: %s", strerror(-r));
        goto failed;
    }
    r = mirrors_new(control, &control->mirrors);
    if (r < 0) {
        error_set(error, ERR_NO_MEMORY, "Out of memory.");
        goto failed;
    }
    r = jobs_new(control, &control->jobs, error);
    if (r < 0) {
        goto failed;
    }
    r = served_new(control, &control->served, error);
    if (r < 0) {
        goto failed;
    }
    loop_timer_start(&control->expire_timer, SEC_NS);
    for (unsigned i = 0; i < control->n_data_loops; i++) {
        CHECK(loop_thread_start(control->data_loops[i]) == 0);
    }
    control->stop_task = (struct loop_task){.fn = control_begin, .arg = control};
    loop_post(control->loop, &control->stop_task);
    CHECK(loop_thread_start(control->loop) == 0);
    control->threads_running = true;
    pthread_mutex_lock(&control->stop_lock);
    while (!control->started) {
        pthread_cond_wait(&control->stop_cond, &control->stop_lock);
    }
    pthread_mutex_unlock(&control->stop_lock);
    *ret_control = control;
    return 0;

failed:
    control_free(control);
    return r;
}

/* Control's part of the end: nothing new, what waits is answered, copies come to a checkpoint. */
static void calls_refuse(struct control *control, struct call **list)
{
    struct call *next;

    for (struct call *call = *list; call != NULL; call = next) {
        next = call->next;
        if (call->internal) {
            call_free(call);
            continue;
        }
        call_set_up(control, call);
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
    control->copies_hang = jobs_running(control->jobs) > 0 ||
                           jobs_stop_timed_out(control->jobs) || control->volumes_hang;
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
    held_to_queue(control);
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
    while (control->waiters != NULL) {
        waiter_fire(control, control->waiters);
    }
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

void control_set_own_addresses(struct control *control, const char *addresses)
{
    network_set_own_addresses(control->network, addresses);
}
