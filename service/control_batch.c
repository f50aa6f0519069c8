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
 * commit. Events whose batch cannot be committed are held (control_queue.c).
 *
 * A call whose step answers CALL_PENDING leaves the batch with what it has written so far undone; it comes
 * back through call_resume(). Meanwhile calls with the same Idempotency-Key are parked (control_keys.c).
 */
#include "base/check.h"
#include "service/changes.h"
#include "service/control_private.h"
#include "service/undo.h"

enum {
    BATCH_MAX = 256,
};

void control_call_set_up(struct control *control, struct call *call)
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
    if (call->idempotency_key[0] != '\0' && control_key_keeps(call)) {
        r = control_key_record(control, call);
    }
    return r;
}

/* True when the call is through (well or not), false when it is parked or pending. */
static bool call_run(struct control *control, struct call *call)
{
    struct effect **mark = control->effects_tail;

    if (!call->started) {
        if (call->idempotency_key[0] != '\0') {
            switch (control_key_check(control, call)) {
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
    control_call_set_up(control, call);
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
            control_effects_drop(control, mark);
            effects = NULL;
        }
        *mark = NULL;
        control->effects_tail = mark;
        db_rollback_to(control->db);
        call_list_push(&control->pending, call);
        control_effects_run(control, effects);
        return false;
    }
    if (call->result < 0) {
        CHECK(call->error.code != ERR_NONE);
        control_effects_drop(control, mark);
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
        control_effects_drop(control, mark);
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
        control_effects_drop(control, mark);
        call->result = call_fail_store(call, r);
        if (!call->internal) {
            strbuf_reset(&call->answer.body);
            call->render(call);
        }
    }
    return true;
}

void control_run_batch(void *arg)
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
    for (unsigned i = 0;
         i < BATCH_MAX && deciding == NULL && (call = control_queue_pop(control)) != NULL; i++) {
        struct effect **mark = control->effects_tail;
        bool through;

        if (r < 0) {
            control_call_set_up(control, call);
            through = true;
        } else if (control_lane_is_held(control, call, done, n_done)) {
            control_call_set_up(control, call);
            call->result =
                call_fail(call, ERR_STORE_FAILED, "An earlier event is not recorded yet.");
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
        control_effects_drop(control, &effects);
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
        control->deciding_effects = control_effects_split(&effects, decided_mark, control);
    }
    control_effects_run(control, effects);
    for (unsigned i = 0; i < n_done; i++) {
        control_call_through(control, done[i]);
    }
    if (control->deciding != NULL) {
        deciding->decide(deciding);
    } else {
        undo_end(control->undo);
        control_queue_defer(control);
    }
}
