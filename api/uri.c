// SPDX-License-Identifier: Apache-2.0
#include "api/uri.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "api/utf8.h"
#include "base/check.h"
#include "base/strbuf.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

/* NULL when a percent sign is not followed by two digits, or when what comes out is not plain text.
 */
static const char *decode(struct arena *arena, const char *text, size_t len, bool plus_is_blank)
{
    char *out = arena_alloc(arena, len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '+' && plus_is_blank) {
            c = ' ';
        } else if (c == '%') {
            if (len - i < 3) {
                return NULL;
            }
            int high = hex_digit(text[i + 1]);
            int low = hex_digit(text[i + 2]);
            if (high < 0 || low < 0) {
                return NULL;
            }
            c = (char)(high * 16 + low);
            i += 2;
        }
        if ((unsigned char)c < 0x20 || c == 0x7f) {
            return NULL;
        }
        out[n++] = c;
    }
    if (!utf8_valid(out, n)) {
        return NULL;
    }
    return out;
}

static int parse_path(struct arena *arena, const char *path, size_t len, struct uri *uri,
                      struct error *error)
{
    if (len == 0 || path[0] != '/') {
        return error_set(error, ERR_BAD_REQUEST, "The request target has to begin with '/'.");
    }
    const char *end = path + len;
    const char *at = path + 1;
    while (at < end) {
        const char *slash = memchr(at, '/', (size_t)(end - at));
        const char *stop = slash != NULL ? slash : end;
        if (uri->n_segments == URI_SEGMENTS_MAX || stop == at || stop + 1 == end) {
            return error_set(error, ERR_NOT_FOUND, "There is nothing at this path.");
        }
        const char *segment = decode(arena, at, (size_t)(stop - at), false);
        if (segment == NULL) {
            return error_set(error, ERR_BAD_REQUEST,
                             "The path is not percent-encoded UTF-8 without control characters.");
        }
        uri->segments[uri->n_segments++] = segment;
        at = stop + 1;
    }
    return 0;
}

static int parse_query(struct arena *arena, const char *query, struct uri *uri, struct error *error)
{
    while (*query != '\0') {
        size_t len = strcspn(query, "&");
        if (len > 0) {
            const char *equals = memchr(query, '=', len);
            size_t name_len = equals != NULL ? (size_t)(equals - query) : len;
            const char *name = decode(arena, query, name_len, true);
            const char *value =
                equals != NULL ? decode(arena, equals + 1, len - name_len - 1, true) : "";
            if (name == NULL || value == NULL) {
                return error_set(
                    error, ERR_BAD_QUERY,
                    "The query is not percent-encoded UTF-8 without control characters.");
            }
            if (uri->n_params == URI_PARAMS_MAX) {
                return error_set(error, ERR_BAD_QUERY, "The query has more than %d parameters.",
                                 URI_PARAMS_MAX);
            }
            for (unsigned i = 0; i < uri->n_params; i++) {
                if (strcmp(uri->params[i].name, name) == 0) {
                    return error_param(error, ERR_BAD_QUERY, name,
                                       "The query parameter %.60s is given twice.", name);
                }
            }
            uri->params[uri->n_params++] = (struct uri_param){name, value};
        }
        query += len;
        if (*query == '&') {
            query++;
        }
    }
    return 0;
}

/* Where the authority of the absolute form begins; NULL: it is another form. */
static const char *after_scheme(const char *raw)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        size_t len = strlen(schemes[i]);
        if (strncasecmp(raw, schemes[i], len) == 0) {
            return raw + len;
        }
    }
    return NULL;
}

const char *uri_authority(struct arena *arena, const char *raw)
{
    const char *authority = after_scheme(raw);
    return authority != NULL ? arena_strndup(arena, authority, strcspn(authority, "/?#")) : NULL;
}

int uri_parse(struct arena *arena, const char *raw, struct uri *ret_uri, struct error *error)
{
    struct uri uri = {0};
    if (strlen(raw) > URI_LEN_MAX) {
        return error_set(error, ERR_URI_TOO_LONG, "A request target has at most %d bytes.",
                         URI_LEN_MAX);
    }
    if (strchr(raw, ' ') != NULL) {
        return error_set(error, ERR_BAD_REQUEST,
                         "There is a blank in the request target; it has to be written as %%20.");
    }
    const char *authority = after_scheme(raw);
    if (authority != NULL) {
        raw = authority + strcspn(authority, "/?#");
    }
    size_t path_len = strcspn(raw, "?#");
    int err = authority != NULL && path_len == 0 ? 0 /* http://host is http://host/ */
                                                 : parse_path(arena, raw, path_len, &uri, error);
    if (err == 0 && raw[path_len] == '?') {
        err = parse_query(arena, raw + path_len + 1, &uri, error);
    }
    if (err == 0) {
        *ret_uri = uri;
    }
    return err;
}

void uri_encode(struct strbuf *buf, const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     strchr("-._~/", c) != NULL;
        if (plain) {
            strbuf_putc(buf, (char)c);
        } else {
            strbuf_putc(buf, '%');
            strbuf_putc(buf, digits[c >> 4]);
            strbuf_putc(buf, digits[c & 15]);
        }
    }
}
