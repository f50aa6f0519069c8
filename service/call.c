// SPDX-License-Identifier: Apache-2.0
#include "service/call.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

struct call *call_new(void)
{
    struct call *call = calloc(1, sizeof(*call));

    CHECK(call != NULL);
    arena_init(&call->arena);
    strbuf_init(&call->answer.body);
    return call;
}

void call_free(struct call *call)
{
    if (call == NULL) {
        return;
    }
    strbuf_fini(&call->answer.body);
    arena_fini(&call->arena);
    free(call);
}

static int call_set(struct call *call, enum error_code code, const char *parameter,
                    const char *blocked_on, const char *fmt, va_list args)
{
    char detail[sizeof(call->error.detail)];

    vsnprintf(detail, sizeof(detail), fmt, args);
    if (blocked_on != NULL) {
        return error_blocked(&call->error, code, blocked_on, "%s", detail);
    }
    if (parameter != NULL) {
        return error_param(&call->error, code, parameter, "%s", detail);
    }
    return error_set(&call->error, code, "%s", detail);
}

int call_fail(struct call *call, enum error_code code, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    int r = call_set(call, code, NULL, NULL, fmt, args);

    va_end(args);
    return r;
}

int call_fail_param(struct call *call, enum error_code code, const char *parameter, const char *fmt,
                    ...)
{
    va_list args;

    va_start(args, fmt);
    int r = call_set(call, code, parameter, NULL, fmt, args);

    va_end(args);
    return r;
}

int call_fail_blocked(struct call *call, enum error_code code, const char *blocked_on,
                      const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    int r = call_set(call, code, NULL, blocked_on, fmt, args);

    va_end(args);
    return r;
}

int call_fail_store(struct call *call, int err)
{
    if (err == -ENOSPC) {
        return call_fail(call, ERR_NO_SPACE,
                         "The disk that holds the records is full. Nothing was changed; free some "
                         "space in the data directory and try again.");
    }
    return call_fail(call, ERR_STORE_FAILED, "The records could not be read or written (%s).",
                     strerror(-err));
}
