// SPDX-License-Identifier: Apache-2.0
/*
 * One HTTP request, from its first line to the end of its answer.
 *
 * Thread:    that of its connection. While it is suspended control has the call or the waiter, and
 * nothing else touches the request. Ownership: made when the request line has been read, freed by
 * request_done(). Errors:    become problems.
 *
 *     HEADERS ─▶ BODY ─▶ (dispatch) ─▶ ANSWERED
 *        │                 │   ▲
 *        │ no use to       ▼   │ resumed
 *        │ read on     CALLING, JOB_WAIT, READINESS (suspended)
 *        └───────────────────────▶ ANSWERED
 *
 * The checks, in their order, the first that fails gives the answer: the form of the headers and
 * where the body ends (400, 501; the connection is closed), client certificate (401), Host and Origin
 * (400, 403), token (401), path (404, 414, 400), verb (405), content coding and type (415), announced
 * size (413), Idempotency-Key (400); after the body: size (413), JSON (400), names, types and
 * values (400). The body of a request that has failed is read and thrown away, up to a limit: a
 * client that is still sending would not see the answer otherwise.
 */
#ifndef API_REQUEST_H
#define API_REQUEST_H

#include <microhttpd.h>

#include "api/edge.h"

enum {
    REQUEST_BODY_MAX = 1 << 20,
    REQUEST_DRAIN_MAX = 16 << 20, /* beyond that the connection is cut */
};

struct request;

/* NULL when there is no memory. */
struct request *request_new(struct edge *edge, const char *raw_uri);
/* What libmicrohttpd calls again and again until there is an answer. */
enum MHD_Result request_step(struct request *request, struct MHD_Connection *connection,
                             const char *verb, const char *version, const char *upload,
                             size_t *upload_size);
void request_done(struct request *request);

#endif
