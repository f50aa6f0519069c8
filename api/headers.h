// SPDX-License-Identifier: Apache-2.0
/*
 * The request headers that we look at, each at most once.
 *
 * Thread:    that of the connection.
 * Ownership: texts belong to the connection.
 * Errors:    bad_request for a header that is there twice.
 */
#ifndef API_HEADERS_H
#define API_HEADERS_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct headers {
    const char *host;
    const char *origin;
    const char *authorization;
    const char *content_type;
    const char *content_length;
    const char *transfer_encoding;
    const char *idempotency_key;
    const char *expect;
};

int headers_read(struct MHD_Connection *connection, struct headers *ret_headers,
                 struct error *error);
/* Whether a body follows, and its announced length: UINT64_MAX when there is none (chunked). */
bool headers_body(const struct headers *headers, uint64_t *ret_len);

#endif
