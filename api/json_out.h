// SPDX-License-Identifier: Apache-2.0
/*
 * The sink of views that writes JSON (service/out.h).
 *
 * Thread:    any; a writer belongs to its user.
 * Ownership: writes to a buffer of the caller's.
 * Errors:    latched in the buffer.
 */
#ifndef API_JSON_OUT_H
#define API_JSON_OUT_H

#include "base/strbuf.h"
#include "service/out.h"

struct json_out {
    struct out out;
    struct strbuf *buf;
    bool comma; /* something stands before the next entry */
};

/* For one value; buf may hold something already. */
void json_out_init(struct json_out *json, struct strbuf *buf);

/* Adds text as a JSON string; bytes that are not UTF-8 become U+FFFD. */
void json_out_string(struct strbuf *buf, const char *text);

#endif
