// SPDX-License-Identifier: Apache-2.0
#include "api/json_out.h"

#include <string.h>

#include "api/utf8.h"
#include "base/check.h"

void json_out_string(struct strbuf *buf, const char *text)
{
    static const char replacement[] = "\xef\xbf\xbd";
    static const char digits[] = "0123456789abcdef";
    const char *end = text + strlen(text);
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

static struct json_out *json_of(struct out *out)
{
    return container_of(out, struct json_out, out);
}

/* The comma before an entry, and its name. */
static void begin_entry(struct json_out *json, const char *name)
{
    if (json->comma) {
        strbuf_putc(json->buf, ',');
    }
    json->comma = true;
    if (name != NULL) {
        json_out_string(json->buf, name);
        strbuf_putc(json->buf, ':');
    }
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
