// SPDX-License-Identifier: Apache-2.0
#include "api/answer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/json_out.h"
#include "service/view.h"

enum { RETURN_JOB_STARTED = 4096 };

int answer_problem(const struct error *error, bool of_method, struct strbuf *body)
{
    const struct error_info *info = error_info(error->code);
    char type[96];
    struct json_out json;
    json_out_init(&json, body);
    snprintf(type, sizeof(type), "urn:smirror:problem:%s", info->word);

    out_begin_object(&json.out, NULL);
    out_text(&json.out, "type", type);
    out_text(&json.out, "title", info->title);
    out_number(&json.out, "status", (uint64_t)info->http_status);
    out_text(&json.out, "detail", error->detail[0] != '\0' ? error->detail : info->title);
    if (of_method && info->return_value != ERROR_NO_RETURN_VALUE) {
        out_number(&json.out, "ReturnValue", info->return_value);
    }
    out_text(&json.out, "Code", info->word);
    if (error->parameter[0] != '\0') {
        out_text(&json.out, "Parameter", error->parameter);
    }
    if (error->blocked_on[0] != '\0') {
        out_text(&json.out, "BlockedOn", error->blocked_on);
    }
    if (error->made[0] != '\0') {
        out_text(&json.out, "Made", error->made);
    }
    if (error->size != 0) {
        out_number(&json.out, "Size", error->size);
    }
    out_end_object(&json.out);
    return info->http_status;
}

/* Whole objects, as the records of the call show them. One that cannot be shown fails the answer. */
static void render_objects(const struct call *call, const struct param *param,
                           const struct value *value, struct json_out *json)
{
    if (!value->present) {
        out_null(&json->out, param->name);
        return;
    }
    out_begin_array(&json->out, param->name);
    for (size_t i = 0; i < value->n_items; i++) {
        if (view_path(call->db, call->control, value->items[i].text, &json->out) != 0) {
            json->buf->err = -EIO;
        }
    }
    out_end_array(&json->out);
}

/* ReturnValue and the out parameters, in the order of the table. */
static void render_result(const struct call *call, uint32_t return_value, bool with_job,
                          struct strbuf *body)
{
    static const struct value absent;
    struct json_out json;
    json_out_init(&json, body);
    out_begin_object(&json.out, NULL);
    out_number(&json.out, "ReturnValue", return_value);
    bool has_job = false;
    for (size_t i = 0; i < call->method->n_params; i++) {
        const struct param *param = &call->method->params[i];
        has_job = has_job || strcmp(param->name, "Job") == 0;
        const struct value *value = call->outs != NULL ? &call->outs->values[i] : &absent;
        bool objects = param->type == PARAM_INSTANCE && param->array && param->class == NULL;
        if ((param->direction & PARAM_OUT) == 0 || (!with_job && strcmp(param->name, "Job") == 0)) {
            continue;
        }
        if (objects) {
            render_objects(call, param, value, &json);
        } else {
            out_value(&json.out, param, value);
        }
    }
    if (with_job && !has_job) {
        /* Clients look at Job in every answer; a job's own methods name the job itself while it
         * changes. */
        out_text(&json.out, "Job", call->location[0] != '\0' ? call->location : NULL);
    }
    out_end_object(&json.out);
}

void answer_render_outs(struct call *call, struct strbuf *text)
{
    render_result(call, 0, false, text);
}

void answer_render_call(struct call *call)
{
    struct call_answer *answer = &call->answer;
    strbuf_reset(&answer->body);
    answer->location[0] = '\0';
    if (call->error.code != ERR_NONE) {
        answer->status = answer_problem(&call->error, true, &answer->body);
    } else if (strcmp(call->method->name, "DeleteInstance") == 0) {
        answer->status = 204;
    } else {
        answer->status = call->return_value == RETURN_JOB_STARTED ? 202 : 200;
        snprintf(answer->location, sizeof(answer->location), "%s", call->location);
        render_result(call, call->return_value, true, &answer->body);
    }
    if (strbuf_error(&answer->body) != 0) {
        /* Never half an answer: the sender makes a problem of an empty body with this status. */
        strbuf_reset(&answer->body);
        answer->location[0] = '\0';
        answer->status = error_info(ERR_NO_MEMORY)->http_status;
    }
}
