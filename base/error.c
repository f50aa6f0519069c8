// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

static const struct error_info error_table[ERR_COUNT] = {
#define ERROR_ROW(name, code_word, value, http, errno_value, text)                                 \
    [ERR_##name] = {.word = (code_word),                                                           \
                    .return_value = (value),                                                       \
                    .http_status = (http),                                                         \
                    .err = (errno_value),                                                          \
                    .title = (text)},
#include "base/error_table.h"
#undef ERROR_ROW
};

const struct error_info *error_info(enum error_code code)
{
    CHECK(code < ERR_COUNT);
    return &error_table[code];
}

/* Removes a UTF-8 sequence that a full buffer cut in two: the text goes into JSON. */
static void trim_cut_sequence(char *text, size_t len)
{
    size_t start = len;
    while (start > 0 && len - start < 4 && ((unsigned char)text[start - 1] & 0xc0) == 0x80) {
        start--;
    }
    if (start == 0) {
        return;
    }
    unsigned char lead = (unsigned char)text[start - 1];
    size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (len - (start - 1) < want) {
        text[start - 1] = '\0';
    }
}

static void copy_text(char *out, size_t size, const char *text)
{
    size_t len = strnlen(text, size - 1);
    memcpy(out, text, len);
    out[len] = '\0';
    trim_cut_sequence(out, len);
}

static int error_fill(struct error *error, enum error_code code, const char *parameter,
                      const char *blocked_on, const char *fmt, va_list args)
{
    const struct error_info *info = error_info(code);
    if (error) {
        error->code = code;
        int len = vsnprintf(error->detail, sizeof(error->detail), fmt, args);
        if (len < 0) {
            error->detail[0] = '\0';
        } else if ((size_t)len >= sizeof(error->detail)) {
            trim_cut_sequence(error->detail, sizeof(error->detail) - 1);
        }
        copy_text(error->parameter, sizeof(error->parameter), parameter);
        copy_text(error->blocked_on, sizeof(error->blocked_on), blocked_on);
    }
    return info->err;
}

int error_set(struct error *error, enum error_code code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int err = error_fill(error, code, "", "", fmt, args);
    va_end(args);
    return err;
}

int error_param(struct error *error, enum error_code code, const char *parameter, const char *fmt,
                ...)
{
    va_list args;
    va_start(args, fmt);
    int err = error_fill(error, code, parameter, "", fmt, args);
    va_end(args);
    return err;
}

int error_blocked(struct error *error, enum error_code code, const char *blocked_on,
                  const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int err = error_fill(error, code, "", blocked_on, fmt, args);
    va_end(args);
    return err;
}
