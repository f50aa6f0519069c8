// SPDX-License-Identifier: Apache-2.0
#include "api/headers.h"

#include <stddef.h>
#include <stdlib.h>
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
    {"Expect", offsetof(struct headers, expect)},
};

struct reading {
    struct headers headers;
    const char *twice;
};

static enum MHD_Result take(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct reading *reading = cls;
    (void)kind;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcasecmp(known[i].name, name) == 0) {
            const char **slot = (const char **)((char *)&reading->headers + known[i].offset);
            if (*slot != NULL) {
                reading->twice = known[i].name;
                return MHD_NO;
            }
            *slot = value != NULL ? value : "";
        }
    }
    return MHD_YES;
}

int headers_read(struct MHD_Connection *connection, struct headers *ret_headers,
                 struct error *error)
{
    struct reading reading = {0};
    MHD_get_connection_values(connection, MHD_HEADER_KIND, take, &reading);
    *ret_headers = reading.headers;
    if (reading.twice != NULL) {
        return error_set(error, ERR_BAD_REQUEST, "The header %s is there twice.", reading.twice);
    }
    return 0;
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
