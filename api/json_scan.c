// SPDX-License-Identifier: Apache-2.0
#include "api/json_scan.h"

#include <string.h>

#include "api/utf8.h"

struct scan {
    const char *text;
    const char *at;
    const char *end;
    struct strbuf *out;
    unsigned depth;
    unsigned values;
    struct error *error;
};

static int fail(struct scan *scan, const char *what)
{
    unsigned line = 1;
    const char *begin = scan->text;
    for (const char *p = scan->text; p < scan->at; p++) {
        if (*p == '\n') {
            line++;
            begin = p + 1;
        }
    }
    return error_set(scan->error, ERR_BAD_JSON, "Line %u, byte %zu: %s.", line,
                     (size_t)(scan->at - begin) + 1, what);
}

static void skip_blanks(struct scan *scan)
{
    while (scan->at < scan->end &&
           (*scan->at == ' ' || *scan->at == '\t' || *scan->at == '\n' || *scan->at == '\r')) {
        scan->at++;
    }
}

static bool take(struct scan *scan, char c)
{
    if (scan->at < scan->end && *scan->at == c) {
        scan->at++;
        strbuf_putc(scan->out, c);
        return true;
    }
    return false;
}

static bool is_digit(struct scan *scan)
{
    return scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9';
}

static void skip_digits(struct scan *scan)
{
    while (is_digit(scan)) {
        scan->at++;
    }
}

static int scan_number(struct scan *scan)
{
    const char *begin = scan->at;
    if (*scan->at == '-') {
        scan->at++;
    }
    if (!is_digit(scan)) {
        return fail(scan, "a digit is missing");
    }
    if (*scan->at == '0') {
        scan->at++;
        if (is_digit(scan)) {
            return fail(scan, "a number has a leading zero");
        }
    }
    skip_digits(scan);
    if (scan->at < scan->end && *scan->at == '.') {
        scan->at++;
        if (!is_digit(scan)) {
            return fail(scan, "a digit is missing after the point");
        }
        skip_digits(scan);
    }
    if (scan->at < scan->end && (*scan->at == 'e' || *scan->at == 'E')) {
        scan->at++;
        if (scan->at < scan->end && (*scan->at == '+' || *scan->at == '-')) {
            scan->at++;
        }
        if (!is_digit(scan)) {
            return fail(scan, "a digit is missing in the exponent");
        }
        skip_digits(scan);
    }
    strbuf_putc(scan->out, '"');
    strbuf_putc(scan->out, JSON_NUMBER_MARK);
    strbuf_add(scan->out, begin, (size_t)(scan->at - begin));
    strbuf_putc(scan->out, '"');
    return 0;
}

/* Four hexadecimal digits; -1 when they are not. */
static int hex4(const char *at, const char *end)
{
    if (end - at < 4) {
        return -1;
    }
    int value = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

/* At the backslash; steps over the escape. */
static int scan_escape(struct scan *scan)
{
    const char *at = scan->at + 1;
    if (at == scan->end || *at == '\0' || strchr("\"\\/bfnrtu", *at) == NULL) {
        return fail(scan, "this escape is not known");
    }
    if (*at != 'u') {
        scan->at += 2;
        return 0;
    }
    int unit = hex4(at + 1, scan->end);
    if (unit < 0) {
        return fail(scan, "\\u wants four hexadecimal digits");
    }
    if (unit == 0) {
        return fail(scan, "a string contains \\u0000");
    }
    if (unit >= 0xdc00 && unit <= 0xdfff) {
        return fail(scan, "half of a surrogate pair");
    }
    scan->at += 6;
    if (unit >= 0xd800 && unit <= 0xdbff) {
        int second = scan->end - scan->at >= 6 && scan->at[0] == '\\' && scan->at[1] == 'u'
                         ? hex4(scan->at + 2, scan->end)
                         : -1;
        if (second < 0xdc00 || second > 0xdfff) {
            return fail(scan, "half of a surrogate pair");
        }
        scan->at += 6;
    }
    return 0;
}

static int scan_string(struct scan *scan)
{
    const char *begin = scan->at;
    scan->at++;
    for (;;) {
        if (scan->at == scan->end) {
            return fail(scan, "a string does not end");
        }
        unsigned char c = (unsigned char)*scan->at;
        if (c == '"') {
            scan->at++;
            break;
        }
        if (c == '\\') {
            int err = scan_escape(scan);
            if (err != 0) {
                return err;
            }
            continue;
        }
        if (c < 0x20) {
            return fail(scan, "a string contains a control character");
        }
        size_t size = utf8_char(scan->at, (size_t)(scan->end - scan->at));
        if (size == 0) {
            return fail(scan, "a string is not valid UTF-8");
        }
        scan->at += size;
    }
    strbuf_add(scan->out, begin, (size_t)(scan->at - begin));
    return 0;
}

static int scan_word(struct scan *scan, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(scan->end - scan->at) < len || memcmp(scan->at, word, len) != 0) {
        return fail(scan, "a value was expected here");
    }
    scan->at += len;
    strbuf_add(scan->out, word, len);
    return 0;
}

static int scan_value(struct scan *scan);

/* What object and array have in common: entries, commas, an end. */
static int scan_entries(struct scan *scan, char end, int (*entry)(struct scan *scan))
{
    if (scan->depth == JSON_DEPTH_MAX) {
        return fail(scan, "values are nested too deeply");
    }
    scan->depth++;
    strbuf_putc(scan->out, *scan->at++);
    skip_blanks(scan);
    if (!take(scan, end)) {
        for (;;) {
            int err = entry(scan);
            if (err != 0) {
                return err;
            }
            skip_blanks(scan);
            if (take(scan, end)) {
                break;
            }
            if (!take(scan, ',')) {
                return fail(scan, end == '}' ? "',' or '}' was expected here"
                                             : "',' or ']' was expected here");
            }
            skip_blanks(scan);
        }
    }
    scan->depth--;
    return 0;
}

static int scan_member(struct scan *scan)
{
    if (scan->at == scan->end || *scan->at != '"') {
        return fail(scan, "the name of a member was expected here");
    }
    int err = scan_string(scan);
    if (err != 0) {
        return err;
    }
    skip_blanks(scan);
    if (!take(scan, ':')) {
        return fail(scan, "':' was expected here");
    }
    skip_blanks(scan);
    return scan_value(scan);
}

static int scan_value(struct scan *scan)
{
    if (++scan->values > JSON_VALUES_MAX) {
        return fail(scan, "there are too many values");
    }
    if (scan->at == scan->end) {
        return fail(scan, "a value was expected here");
    }
    switch (*scan->at) {
    case '{':
        return scan_entries(scan, '}', scan_member);
    case '[':
        return scan_entries(scan, ']', scan_value);
    case '"':
        return scan_string(scan);
    case 't':
        return scan_word(scan, "true");
    case 'f':
        return scan_word(scan, "false");
    case 'n':
        return scan_word(scan, "null");
    case '-':
        return scan_number(scan);
    default:
        return is_digit(scan) ? scan_number(scan) : fail(scan, "a value was expected here");
    }
}

int json_scan(const char *text, size_t len, struct strbuf *out, struct error *error)
{
    struct scan scan = {.text = text, .at = text, .end = text + len, .out = out, .error = error};
    skip_blanks(&scan);
    int err = scan_value(&scan);
    if (err != 0) {
        return err;
    }
    skip_blanks(&scan);
    if (scan.at != scan.end) {
        return fail(&scan, "something follows the value");
    }
    return strbuf_error(out) == 0
               ? 0
               : error_set(error, ERR_NO_MEMORY, "There is not enough memory for the body.");
}

int json_doc_parse(struct json_doc *doc, const char *text, size_t len, struct error *error)
{
    *doc = (struct json_doc){0};
    strbuf_init(&doc->canonical);
    int err = len > 0 ? json_scan(text, len, &doc->canonical, error)
                      : json_scan("{}", 2, &doc->canonical, error);
    if (err == 0) {
        doc->root = cJSON_ParseWithLength(doc->canonical.data, doc->canonical.len);
        if (doc->root == NULL) {
            /* Only memory can be the reason: the scan has admitted nothing that cJSON refuses. */
            err = error_set(error, ERR_NO_MEMORY, "There is not enough memory for the body.");
        } else if (!cJSON_IsObject(doc->root)) {
            err = error_set(error, ERR_BAD_JSON, "The body has to be a JSON object, not %s.",
                            json_kind(doc->root));
        }
    }
    if (err != 0) {
        json_doc_free(doc);
    }
    return err;
}

void json_doc_free(struct json_doc *doc)
{
    cJSON_Delete(doc->root);
    strbuf_fini(&doc->canonical);
    *doc = (struct json_doc){0};
}

const char *json_number_text(const cJSON *item)
{
    return cJSON_IsString(item) && item->valuestring[0] == JSON_NUMBER_MARK ? item->valuestring + 1
                                                                            : NULL;
}

bool json_is_string(const cJSON *item)
{
    return cJSON_IsString(item) && item->valuestring[0] != JSON_NUMBER_MARK;
}

const char *json_kind(const cJSON *item)
{
    if (json_number_text(item) != NULL) {
        return "a number";
    }
    if (cJSON_IsString(item)) {
        return "a string";
    }
    if (cJSON_IsBool(item)) {
        return "true or false";
    }
    if (cJSON_IsArray(item)) {
        return "an array";
    }
    if (cJSON_IsObject(item)) {
        return "an object";
    }
    return "null";
}
