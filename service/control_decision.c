// SPDX-License-Identifier: Apache-2.0
/*
 * A call that may be taken back after its commit (call_decide(), call.h). Until it is decided there is no other batch, so that what
 * it wrote can be undone row by row; nobody has been told of it.
 */
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "service/changes.h"
#include "service/control_private.h"
#include "service/undo.h"

void call_decide(struct call *call, void (*decide)(struct call *call))
{
    CHECK(call->control->in_batch);
    call->decide = decide;
    undo_begin(call->control->undo);
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
    control_call_through(control, call);
    control_queue_defer(control);
}

void control_take_back(void *arg)
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
            control_answer_again(control, call);
        }
        control_effects_run(control, effects);
        decided(control);
        return;
    }
    control_effects_drop(control, &effects);
    control->effects_tail = &control->effects;
    call->error = *error;
    call->result = error_info(error->code)->err;
    call->committed = false;
    call->location[0] = '\0';
    call->gates = 0;
    control_take_back(control);
}
