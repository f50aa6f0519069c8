// SPDX-License-Identifier: Apache-2.0
/*
 * A buffer of text or bytes that grows.
 *
 * Thread:    any; a buffer belongs to its user.
 * Ownership: strbuf_fini() frees; strbuf_steal() hands the memory to the caller, who free()s it.
 * Errors:    latched: the first failure (-ENOMEM, -EOVERFLOW) makes all later additions do nothing;
 *            ask strbuf_error() once, at the end.
 */
#ifndef BASE_STRBUF_H
#define BASE_STRBUF_H

#include <stdarg.h>
#include <stddef.h>

struct strbuf {
    char *data; /* ends with '\0' beyond len; NULL while nothing was added */
    size_t len;
    size_t size;
    int err;
};

#define STRBUF_INIT                                                                                \
    {                                                                                              \
        0                                                                                          \
    }

void strbuf_init(struct strbuf *buf);
void strbuf_fini(struct strbuf *buf);
void strbuf_reset(struct strbuf *buf); /* empty again, memory kept, error forgotten */

void strbuf_add(struct strbuf *buf, const void *data, size_t len);
void strbuf_puts(struct strbuf *buf, const char *text);
void strbuf_putc(struct strbuf *buf, char c);
void strbuf_printf(struct strbuf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void strbuf_vprintf(struct strbuf *buf, const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));
/* Room for len bytes at the end, to be written by hand; NULL after an error. strbuf_wrote() adds what
 * was written there, no more than was asked for. */
char *strbuf_room(struct strbuf *buf, size_t len);
static inline void strbuf_wrote(struct strbuf *buf, size_t len)
{
    buf->len += len;
    buf->data[buf->len] = '\0';
}
/* Cuts back to len bytes; no more than there are. */
void strbuf_truncate(struct strbuf *buf, size_t len);

const char *strbuf_str(const struct strbuf *buf); /* never NULL */
int strbuf_error(const struct strbuf *buf);
/* The text, to be freed by the caller, and an empty buffer; NULL after an error. */
char *strbuf_steal(struct strbuf *buf);

#endif
