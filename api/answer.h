// SPDX-License-Identifier: Apache-2.0
/*
 * The one place that turns an error into a problem (RFC 9457), and what a call came to into its
 * answer.
 *
 * Thread:    any; answer_render_call() on control, inside the savepoint of the call.
 * Ownership: writes to buffers of the caller's.
 * Errors:    latched in the buffer.
 */
#ifndef API_ANSWER_H
#define API_ANSWER_H

#include "base/error.h"
#include "base/strbuf.h"
#include "service/call.h"

#define ANSWER_JSON    "application/json"
#define ANSWER_PROBLEM "application/problem+json"

/* Adds the problem to body; returns its HTTP status. Only the answer of a method (of_method) has a
 * ReturnValue. */
int answer_problem(const struct error *error, bool of_method, struct strbuf *body);

/* For call->render. */
void answer_render_call(struct call *call);
/* For call->render_outs. */
void answer_render_outs(struct call *call, struct strbuf *text);

#endif
