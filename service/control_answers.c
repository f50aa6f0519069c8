// SPDX-License-Identifier: Apache-2.0
/*
 * When an answer leaves: after the commit, and after the effects of the call that it waits for (its gates). What goes wrong in one of
 * those becomes the answer.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "service/control_private.h"
#include "service/hosted.h"

/* After the commit (or its failure): hand the call back. */
static void call_finish(struct control *control, struct call *call)
{
    if (call->internal) {
        if (call_comes_again(call)) {
            control_hold(control, call);
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
        control_key_release(control, call->idempotency_key);
    }
    call->answered(call);
}

void control_call_through(struct control *control, struct call *call)
{
    hosted_call_end(call, call->committed);
    if (call->gates > 0) {
        call->gated = true;
        call_list_push(&control->gated, call);
    } else {
        call_finish(control, call);
    }
}

void call_gate(struct call *call)
{
    call->gates++;
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
            control_answer_again(control, call);
        }
    }
    call->gates--;
    if (call->gates == 0 && call->gated) {
        call->gated = false;
        call_list_drop(&control->gated, call);
        call_finish(control, call);
    }
}
