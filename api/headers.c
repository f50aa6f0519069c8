// SPDX-License-Identifier: Apache-2.0
#include "api/headers.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *name;
    size_t offset;
} known[] = {
    {"Host", offsetof(struct headers, host)},
    {"Origin", offsetof(struct headers, origin)},
    {"Authorization", offsetof(struct headers, authorization)},
    {"Content-Type", offsetof(struct headers, content_type)},
    {"Content-Length", offsetof(struct headers, content_length)},
    {"Transfer-Encoding", offsetof(struct headers, transfer_encoding)},
    {"Idempotency-Key", offsetof(struct headers, idempotency_key)},
    {"Content-Encoding", offsetof(struct headers, content_encoding)},
    {"Expect", offsetof(struct headers, expect)},
    {"Last-Event-ID", offsetof(struct headers, last_event_id)},
};

struct reading {
    struct arena *arena;
    struct headers headers;
    const char *twice;
    bool blank; /* between a name and its colon */
};

/* libmicrohttpd takes away the blanks before a value, not those after it (RFC 9110 5.5). */
static const char *trimmed(struct arena *arena, const char *value)
{
    size_t len = strlen(value);
    size_t kept = len;
    while (kept > 0 && (value[kept - 1] == ' ' || value[kept - 1] == '\t')) {
        kept--;
    }
    return kept == len ? value : arena_strndup(arena, value, kept);
}

static enum MHD_Result take(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct reading *reading = cls;
    size_t len = strlen(name);
    (void)kind;
    if (len > 0 && (name[len - 1] == ' ' || name[len - 1] == '\t')) {
        reading->blank = true;
        return MHD_NO;
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcasecmp(known[i].name, name) == 0) {
            const char **slot = (const char **)((char *)&reading->headers + known[i].offset);
            if (*slot != NULL) {
                reading->twice = known[i].name;
                return MHD_NO;
            }
            bool as_is = slot == &reading->headers.transfer_encoding;
            *slot = value == NULL ? "" : as_is ? value : trimmed(reading->arena, value);
        }
    }
    return MHD_YES;
}

/* RFC 9112 6: where the body ends has to be beyond doubt, for us and for whoever stands between us and
 * the client. */
static int check_framing(const struct headers *headers, struct error *error)
{
    const char *coding = headers->transfer_encoding;
    if (coding == NULL) {
        return 0;
    }
    if (headers->content_length != NULL) {
        return error_set(error, ERR_BAD_REQUEST,
                         "A request has Content-Length or Transfer-Encoding, not both.");
    }
    /* Not trimmed: libmicrohttpd has to have taken it for chunked as well. */
    if (strcasecmp(coding, "chunked") != 0) {
        return error_set(error, ERR_UNKNOWN_CODING,
                         "The Transfer-Encoding '%.40s' is not known; it has to be chunked.",
                         coding);
    }
    return 0;
}

int headers_read(struct MHD_Connection *connection, struct arena *arena,
                 struct headers *ret_headers, struct error *error)
{
    struct reading reading = {.arena = arena};
    MHD_get_connection_values(connection, MHD_HEADER_KIND, take, &reading);
    *ret_headers = reading.headers;
    if (reading.blank) {
        return error_set(error, ERR_BAD_REQUEST,
                         "There is a blank between the name of a header and its colon.");
    }
    if (reading.twice != NULL) {
        return error_set(error, ERR_BAD_REQUEST, "The header %s is there twice.", reading.twice);
    }
    return check_framing(&reading.headers, error);
}

bool headers_body(const struct headers *headers, uint64_t *ret_len)
{
    *ret_len = UINT64_MAX;
    if (headers->transfer_encoding != NULL) {
        return true;
    }
    if (headers->content_length == NULL) {
        return false;
    }
    /* libmicrohttpd has refused what is not a number. */
    *ret_len = strtoull(headers->content_length, NULL, 10);
    return *ret_len > 0;
}
