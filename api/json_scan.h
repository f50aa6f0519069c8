// SPDX-License-Identifier: Apache-2.0
/*
 * JSON text from outside, checked strictly (RFC 8259) and made fit for cJSON.
 *
 * Thread:    any.
 * Ownership: a document owns its tree; json_doc_free().
 * Errors:    bad_json with the place, no_memory.
 *
 * cJSON keeps numbers as doubles, takes much that is not JSON and nests a thousand levels deep. So
 * the text is scanned first: grammar, UTF-8, escapes, depth and number of values. The scan also
 * rewrites the text without blanks and with every number as a string: the byte JSON_NUMBER_MARK,
 * which no valid UTF-8 has, and the digits as they came. Nothing passes through a double. The
 * rewritten text is what Idempotency-Key compares.
 */
#ifndef API_JSON_SCAN_H
#define API_JSON_SCAN_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/strbuf.h"

enum {
    JSON_DEPTH_MAX = 16,
    JSON_VALUES_MAX = 65536,
};
#define JSON_NUMBER_MARK '\xff'

/* Appends the rewritten text. The text has to be one value with nothing but blanks around it. */
int json_scan(const char *text, size_t len, struct strbuf *out, struct error *error);

struct json_doc {
    struct strbuf canonical;
    cJSON *root;
};
/* The root has to be an object. An empty text is {}. */
int json_doc_parse(struct json_doc *doc, const char *text, size_t len, struct error *error);
void json_doc_free(struct json_doc *doc);

/* The digits of a number item, NULL for any other. */
const char *json_number_text(const cJSON *item);
/* True for a string that was a string. */
bool json_is_string(const cJSON *item);
/* "a number", "a string", … */
const char *json_kind(const cJSON *item);

#endif
