// SPDX-License-Identifier: Apache-2.0
/* A request target and the header texts: lines of the input are target, Host, Origin, Content-Type,
 * Idempotency-Key. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/access.h"
#include "api/reads.h"
#include "api/router.h"
#include "api/utf8.h"
#include "base/check.h"
#include "base/sockaddr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_target(const char *raw)
{
    struct arena arena;
    struct uri uri;
    struct route route;
    struct error error = {0};
    uint64_t wait_ms;
    arena_init(&arena);
    if (uri_parse(&arena, raw, &uri, &error) == 0) {
        struct strbuf again = STRBUF_INIT;
        CHECK(uri.n_segments <= URI_SEGMENTS_MAX && uri.n_params <= URI_PARAMS_MAX);
        for (unsigned i = 0; i < uri.n_params; i++) {
            CHECK(utf8_valid(uri.params[i].value, strlen(uri.params[i].value)));
            strbuf_puts(&again, i == 0 ? "/x?" : "&");
            uri_encode(&again, uri.params[i].name);
            strbuf_putc(&again, '=');
            uri_encode(&again, uri.params[i].value);
        }
        struct uri parsed;
        struct error again_error = {0};
        if (uri.n_params > 0 && again.len <= URI_LEN_MAX) {
            CHECK(uri_parse(&arena, strbuf_str(&again), &parsed, &again_error) == 0);
            CHECK(parsed.n_params == uri.n_params);
            CHECK(strcmp(parsed.params[0].value, uri.params[0].value) == 0);
        }
        strbuf_fini(&again);
        if (read_check_query(&uri, true, &wait_ms, &error) == 0) {
            CHECK(wait_ms <= READ_WAIT_MAX_MS);
        }
        if (route_match(&uri, &route, &error) == 0) {
            char template[100];
            CHECK(route.kind != ROUTE_NONE && route.allow != NULL);
            route_template_text(route_template(&route), template, sizeof(template));
        }
    } else {
        CHECK(error.code == ERR_BAD_REQUEST || error.code == ERR_BAD_QUERY ||
              error.code == ERR_NOT_FOUND || error.code == ERR_URI_TOO_LONG);
    }
    arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct access access;
    struct sockaddr_storage listen;
    char *text = malloc(size + 1);
    const char *lines[5] = {"", "", "", "", ""};
    unsigned n = 0;
    memcpy(text, data, size);
    text[size] = '\0';
    for (char *at = text; at != NULL && n < 5;) {
        lines[n++] = strsep(&at, "\n");
    }
    check_target(lines[0]);
    CHECK(sockaddr_parse("127.0.0.1:8080", -1, &listen) == 0);
    CHECK(access_init(&access, &listen, "0123456789abcdef", "storage.example") == 0);
    access_host_allowed(&access, lines[1], &listen);
    access_origin_allowed(&access, lines[2], &listen);
    CHECK(!access_token_matches(&access, lines[2]) || strlen(lines[2]) > 16);
    content_type_is_json(lines[3]);
    CHECK(!idempotency_key_valid(lines[4]) || strlen(lines[4]) <= IDEMPOTENCY_KEY_MAX);
    access_fini(&access);
    free(text);
    return 0;
}
