// SPDX-License-Identifier: Apache-2.0
/*
 * The request headers that we look at, each at most once.
 *
 * Thread:    that of the connection.
 * Ownership: texts belong to the connection or to the arena.
 * Errors:    bad_request, unsupported_transfer_encoding: after them nobody can tell where the request
 * ends, so its connection cannot go on.
 */
#ifndef API_HEADERS_H
#define API_HEADERS_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

struct headers {
    const char *host;
    const char *origin;
    const char *authorization;
    const char *content_type;
    const char *content_encoding;
    const char *content_length;
    const char *transfer_encoding;
    const char *idempotency_key;
    const char *expect;
    const char *last_event_id;
};

int headers_read(struct MHD_Connection *connection, struct arena *arena,
                 struct headers *ret_headers, struct error *error);
/* Whether a body follows, and its announced length: UINT64_MAX when there is none (chunked). */
bool headers_body(const struct headers *headers, uint64_t *ret_len);

#endif
