// SPDX-License-Identifier: Apache-2.0
/*
 * Idempotency-Keys: whose request comes a second time gets the answer of the first. While a call has the key, others with it are
 * parked; its answer is kept in the transaction of the call.
 */
#include <errno.h>
#include <string.h>

#include "service/control_private.h"
#include "store/job.h"

static void key_reused(struct call *call)
{
    call->result = call_fail(call, ERR_IDEMPOTENCY_REUSED,
                             "This Idempotency-Key was used for another request (method, path or "
                             "body differ). Use a new key for a new request.");
    call->render(call);
}

enum key_verdict control_key_check(struct control *control, struct call *call)
{
    struct call *first = map_get(&control->in_progress, call->idempotency_key);
    struct answer answer;

    if (first != NULL) {
        if (memcmp(first->request_hash, call->request_hash, sizeof(call->request_hash)) != 0) {
            key_reused(call);
            return KEY_ANSWERED;
        }
        call_list_push(&control->parked, call);
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
bool control_key_keeps(const struct call *call)
{
    int status = error_info(call->error.code)->http_status;

    return status < 500 || call->error.code == ERR_NOT_SUPPORTED;
}

int control_key_record(struct control *control, struct call *call)
{
    struct answer answer = {.status = call->answer.status, .created_ms = control_now_ms(control)};

    memcpy(answer.location, call->answer.location, sizeof(answer.location));
    memcpy(answer.request_hash, call->request_hash, sizeof(answer.request_hash));
    return answer_put(control->db, call->idempotency_key, &answer, strbuf_str(&call->answer.body),
                      call->answer.body.len);
}

void control_key_release(struct control *control, const char *key)
{
    map_remove(&control->in_progress, key);
    for (struct call **at = &control->parked; *at != NULL;) {
        struct call *call = *at;

        if (strcmp(call->idempotency_key, key) == 0) {
            *at = call->next;
            control_queue_push(control, call);
        } else {
            at = &call->next;
        }
    }
}

/* ---- an answer that becomes another one after the commit ---- */

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

void control_answer_again(struct control *control, struct call *call)
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
