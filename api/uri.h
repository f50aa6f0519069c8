// SPDX-License-Identifier: Apache-2.0
/*
 * The request target as it came over the wire, taken apart: path segments and query parameters,
 * percent-decoded.
 *
 * Thread:    any.
 * Ownership: texts live in the arena that was given.
 * Errors:    not_found for a path that no resource can have, bad_request, bad_query, uri_too_long.
 *
 * Both forms of RFC 9112 3.2 that name a resource are taken: "/path?query" and
 * "http://host/path?query".
 *
 * The decoded form never decides where a segment ends: "%2F" is a character of its segment.
 */
#ifndef API_URI_H
#define API_URI_H

#include "base/arena.h"
#include "base/error.h"

enum {
    URI_LEN_MAX = 4096,
    URI_SEGMENTS_MAX = 3, /* the deepest path is /volumes/{id}/{Method} */
    URI_PARAMS_MAX = 16,
};

struct uri_param {
    const char *name;
    const char *value;
};

struct uri {
    const char *segments[URI_SEGMENTS_MAX];
    unsigned n_segments;
    struct uri_param params[URI_PARAMS_MAX];
    unsigned n_params;
};

/* The host and port of the absolute form; NULL: the target is in another form. */
const char *uri_authority(struct arena *arena, const char *raw);
int uri_parse(struct arena *arena, const char *raw, struct uri *ret_uri, struct error *error);

struct strbuf;
/* Adds text so that it can stand in a query: everything but unreserved characters and '/' is
 * percent-encoded. */
void uri_encode(struct strbuf *buf, const char *text);

#endif
