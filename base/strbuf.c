// SPDX-License-Identifier: Apache-2.0
#include "base/strbuf.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

void strbuf_init(struct strbuf *buf)
{
    *buf = (struct strbuf)STRBUF_INIT;
}

void strbuf_fini(struct strbuf *buf)
{
    free(buf->data);
    strbuf_init(buf);
}

void strbuf_reset(struct strbuf *buf)
{
    buf->len = 0;
    buf->err = 0;
    if (buf->data) {
        buf->data[0] = '\0';
    }
}

/* Makes room for len more bytes and the final '\0'. */
static int reserve(struct strbuf *buf, size_t len)
{
    if (buf->err) {
        return buf->err;
    }
    if (len >= SIZE_MAX / 2 - buf->len) {
        return buf->err = -EOVERFLOW;
    }
    size_t need = buf->len + len + 1;
    if (need <= buf->size) {
        return 0;
    }
    size_t size = buf->size ? buf->size : 64;
    while (size < need) {
        size *= 2;
    }
    char *data = realloc(buf->data, size);
    if (!data) {
        return buf->err = -ENOMEM;
    }
    buf->data = data;
    buf->size = size;
    return 0;
}

void strbuf_add(struct strbuf *buf, const void *data, size_t len)
{
    if (len == 0 || reserve(buf, len)) {
        return;
    }
    memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

char *strbuf_room(struct strbuf *buf, size_t len)
{
    return reserve(buf, len) == 0 ? buf->data + buf->len : NULL;
}

void strbuf_puts(struct strbuf *buf, const char *text)
{
    strbuf_add(buf, text, strlen(text));
}

void strbuf_putc(struct strbuf *buf, char c)
{
    strbuf_add(buf, &c, 1);
}

void strbuf_vprintf(struct strbuf *buf, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    size_t room = buf->size > buf->len ? buf->size - buf->len : 0;
    int len = vsnprintf(room ? buf->data + buf->len : NULL, room, fmt, args);
    if (len < 0 && !buf->err) {
        buf->err = -EOVERFLOW;
    }
    if (len > 0 && reserve(buf, (size_t)len) == 0) {
        if ((size_t)len >= room) {
            vsnprintf(buf->data + buf->len, (size_t)len + 1, fmt, again);
        }
        buf->len += (size_t)len;
    }
    if (buf->data) {
        buf->data[buf->len] = '\0';
    }
    va_end(again);
}

void strbuf_printf(struct strbuf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    strbuf_vprintf(buf, fmt, args);
    va_end(args);
}

void strbuf_truncate(struct strbuf *buf, size_t len)
{
    CHECK(len <= buf->len);
    buf->len = len;
    if (buf->data) {
        buf->data[len] = '\0';
    }
}

const char *strbuf_str(const struct strbuf *buf)
{
    return buf->data ? buf->data : "";
}

int strbuf_error(const struct strbuf *buf)
{
    return buf->err;
}

char *strbuf_steal(struct strbuf *buf)
{
    char *text = NULL;
    if (!buf->err && reserve(buf, 0) == 0) {
        buf->data[buf->len] = '\0';
        text = buf->data;
        buf->data = NULL;
    }
    strbuf_fini(buf);
    return text;
}
