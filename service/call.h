// SPDX-License-Identifier: Apache-2.0
/*
 * A call on its way through control: what came in, what goes out, and what its handler may use.
 *
 * Thread:    made by an http thread, handed over with control_submit(), then control's until answered() is called (on
 *            control), which hands it back.
 * Ownership: the maker allocates and frees it (call_new, call_free).
 * Errors:    error.code is ERR_NONE on success.
 */
#ifndef SERVICE_CALL_H
#define SERVICE_CALL_H

#include "base/arena.h"
#include "base/error.h"
#include "base/loop.h"
#include "base/strbuf.h"
#include "service/method.h"
#include "store/job.h"
#include "store/store.h"

struct control;

/* The answer as it goes over the wire; kept for Idempotency-Key. */
struct call_answer {
    int status;
    char location[PATH_SIZE];
    struct strbuf body;
};

struct call {
    /* Set by the maker. */
    const struct service *service;
    const struct method *method;
    char object_id[ID_SIZE]; /* methods of an object: {id} of the path */
    struct values *args;     /* values for method->params; NULL when a call has no parameters */
    bool dry_run; /* ?dryRun: what it would do is told, and nothing is changed */
    char idempotency_key[256]; /* "" none */
    uint8_t request_hash[32];
    /* On control, inside the savepoint: fills *answer from return_value, outs, error. */
    void (*render)(struct call *call);
    /* On control: ReturnValue 0 and the out parameters without Job, as the job will show them when it is done. May be NULL. */
    void (*render_outs)(struct call *call, struct strbuf *text);
    /* On control, after the commit. */
    void (*answered)(struct call *call);
    void *maker;

    /* For handlers. */
    struct arena arena;
    struct control *control;
    struct db *db;
    struct values *outs; /* values for method->params */
    uint32_t return_value;
    struct error error;
    char location[PATH_SIZE]; /* of the job or object made, or "" */

    struct call_answer answer;

    /* Control's own. */
    method_fn step; /* what runs next: the handler, later what call_resume() was given */
    void *step_state;
    struct hosted_plan *plan; /* of hosted_run() */
    char made_pool_id[ID_SIZE]; /* the array has it already: it goes when the call is not committed */
    void (*decide)(struct call *call); /* NULL: it holds when it is committed */
    void (*taken_back)(struct call *call); /* of an internal one: it was, with error */
    struct hosted_cuts *cuts;          /* of hosted_cuts_together() */
    struct job_batch *batch;  /* of job_batch_begin() */
    unsigned gates;           /* effects that its answer waits for */
    bool undo;                /* with CALL_PENDING: the effects it asked for are dropped */
    bool gated;
    bool committed;
    bool internal; /* not from a client: nobody waits for an answer */
    const char *lane; /* of an internal one; "" none */
    bool started;
    int result;
    struct call *next;
    struct loop_task task;
};

struct call *call_new(void);
void call_free(struct call *call);

/* Called on control when a pending call can go on: step runs in the next batch. */
void call_resume(struct call *call, method_fn step);

/* In a handler: the answer waits, after the commit, for one effect more. The effect gets the call as part of its argument and ends
 * with call_gate_open(), on control. error (or NULL) then becomes the answer, also the one that is kept for an Idempotency-Key: what was
 * committed stays, so the effect's owner records what became of it. A call that fails has no gates. */
void call_gate(struct call *call);
void call_gate_open(struct call *call, const struct error *error);

/*
 * In a handler, before it writes anything: what it commits holds only if something goes well that can be begun after the commit only. decide(call)
 * is called then, before the effects of the call; nothing else is committed until call_decided(). Without an error the effects run and the answer
 * is made anew (what decides may set outs). With one all that the call wrote is taken back, its effects are dropped, and it fails with that error.
 */
void call_decide(struct call *call, void (*decide)(struct call *call));
void call_decided(struct call *call, const struct error *error);

/* Shorthands of handlers: fill call->error and return its errno. */
int call_fail(struct call *call, enum error_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int call_fail_param(struct call *call, enum error_code code, const char *parameter, const char *fmt,
                    ...) __attribute__((format(printf, 4, 5)));
int call_fail_blocked(struct call *call, enum error_code code, const char *blocked_on,
                      const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* What store said: -ENOSPC no_space, the rest store_failed. */
int call_fail_store(struct call *call, int err);

#endif
