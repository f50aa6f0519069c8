// SPDX-License-Identifier: Apache-2.0
#include "api/json_out.h"

#include <string.h>

#include "api/utf8.h"
#include "base/check.h"

/*
 * Most texts are plain: ASCII without anything to escape. They are recognized eight bytes at a time;
 * a byte that is not plain sets the high bit of some byte of the sum below (borrows and carries can
 * only come out of a byte that is not plain itself, so that "none" is exact).
 */
#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

static uint64_t below(uint64_t word, unsigned char limit)
{
    return (word - EACH(limit)) & ~word;
}

static bool plain_word(uint64_t word)
{
    uint64_t found = below(word, 0x20) | below(word ^ EACH('"'), 1) | below(word ^ EACH('\\'), 1) |
                     (word + EACH(1)) | word; /* 0x7f and above */
    return (found & EACH(0x80)) == 0;
}

static bool plain_byte(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static bool plain_text(const char *text, size_t len)
{
    uint64_t word;
    for (; len >= sizeof(word); text += sizeof(word), len -= sizeof(word)) {
        memcpy(&word, text, sizeof(word));
        if (!plain_word(word)) {
            return false;
        }
    }
    for (; len > 0; text++, len--) {
        if (!plain_byte((unsigned char)*text)) {
            return false;
        }
    }
    return true;
}

static void add_quoted(struct strbuf *buf, const char *text, size_t len)
{
    char *at = strbuf_room(buf, len + 2);
    if (at != NULL) {
        at[0] = '"';
        memcpy(at + 1, text, len);
        at[len + 1] = '"';
        strbuf_wrote(buf, len + 2);
    }
}

static void add_escaped(struct strbuf *buf, const char *text, size_t len)
{
    static const char replacement[] = "\xef\xbf\xbd";
    static const char digits[] = "0123456789abcdef";
    const char *end = text + len;
    const char *kept = text; /* from here on everything can be added as it is */
    const char *at = text;
    strbuf_putc(buf, '"');
    while (at < end) {
        unsigned char c = (unsigned char)*at;
        size_t size = utf8_char(at, (size_t)(end - at));
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f && size > 0) {
            at += size;
            continue;
        }
        strbuf_add(buf, kept, (size_t)(at - kept));
        if (size == 0) {
            strbuf_puts(buf, replacement);
        } else if (c == '"' || c == '\\') {
            strbuf_putc(buf, '\\');
            strbuf_putc(buf, (char)c);
        } else if (c == '\n') {
            strbuf_puts(buf, "\\n");
        } else if (c == '\r') {
            strbuf_puts(buf, "\\r");
        } else if (c == '\t') {
            strbuf_puts(buf, "\\t");
        } else {
            strbuf_puts(buf, "\\u00");
            strbuf_putc(buf, digits[c >> 4]);
            strbuf_putc(buf, digits[c & 15]);
        }
        at++;
        kept = at;
    }
    strbuf_add(buf, kept, (size_t)(at - kept));
    strbuf_putc(buf, '"');
}

void json_out_string(struct strbuf *buf, const char *text)
{
    size_t len = strlen(text);
    if (plain_text(text, len)) {
        add_quoted(buf, text, len);
    } else {
        add_escaped(buf, text, len);
    }
}

static struct json_out *json_of(struct out *out)
{
    return container_of(out, struct json_out, out);
}

/* The comma before an entry, and its name; names are ours and need no escapes. */
static void begin_entry(struct json_out *json, const char *name)
{
    size_t len = name != NULL ? strlen(name) : 0;
    char *begun = strbuf_room(json->buf, len + 4);
    char *at = begun;
    if (at == NULL) {
        return;
    }
    if (json->comma) {
        *at++ = ',';
    }
    json->comma = true;
    if (name != NULL) {
        *at++ = '"';
        memcpy(at, name, len);
        at += len;
        *at++ = '"';
        *at++ = ':';
    }
    strbuf_wrote(json->buf, (size_t)(at - begun));
}

static void begin(struct out *out, const char *name, char bracket)
{
    struct json_out *json = json_of(out);
    begin_entry(json, name);
    strbuf_putc(json->buf, bracket);
    json->comma = false;
}

static void end(struct out *out, char bracket)
{
    struct json_out *json = json_of(out);
    strbuf_putc(json->buf, bracket);
    json->comma = true;
}

static void begin_object(struct out *out, const char *name)
{
    begin(out, name, '{');
}

static void end_object(struct out *out)
{
    end(out, '}');
}

static void begin_array(struct out *out, const char *name)
{
    begin(out, name, '[');
}

static void end_array(struct out *out)
{
    end(out, ']');
}

static void text_entry(struct out *out, const char *name, const char *text)
{
    struct json_out *json = json_of(out);
    begin_entry(json, name);
    if (text != NULL) {
        json_out_string(json->buf, text);
    } else {
        strbuf_puts(json->buf, "null");
    }
}

static void number_entry(struct out *out, const char *name, uint64_t number)
{
    char digits[20];
    size_t at = sizeof(digits);
    struct json_out *json = json_of(out);
    begin_entry(json, name);
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    strbuf_add(json->buf, digits + at, sizeof(digits) - at);
}

static void boolean_entry(struct out *out, const char *name, bool value)
{
    struct json_out *json = json_of(out);
    begin_entry(json, name);
    strbuf_puts(json->buf, value ? "true" : "false");
}

static void raw_entry(struct out *out, const char *name, const char *rendered)
{
    struct json_out *json = json_of(out);
    begin_entry(json, name);
    strbuf_puts(json->buf, rendered != NULL && rendered[0] != '\0' ? rendered : "null");
}

static const struct out_ops json_out_ops = {
    .begin_object = begin_object,
    .end_object = end_object,
    .begin_array = begin_array,
    .end_array = end_array,
    .text = text_entry,
    .number = number_entry,
    .boolean = boolean_entry,
    .raw = raw_entry,
};

void json_out_init(struct json_out *json, struct strbuf *buf)
{
    *json = (struct json_out){.out = {.ops = &json_out_ops}, .buf = buf};
}
