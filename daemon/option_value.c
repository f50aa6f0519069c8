// SPDX-License-Identifier: Apache-2.0
/* From the text of an option to its value. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "base/sockaddr.h"
#include "base/timefmt.h"
#include "daemon/option_table.h"
#include "target/target.h"

int option_wrong(char message[OPTIONS_MESSAGE_SIZE], const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, OPTIONS_MESSAGE_SIZE, fmt, args);
    va_end(args);
    return -EINVAL;
}

static bool is_iqn(const char *text)
{
    size_t len = strlen(text);
    if (len > 223 || (strncmp(text, "iqn.", 4) != 0 && strncmp(text, "eui.", 4) != 0 &&
                      strncmp(text, "naa.", 4) != 0)) {
        return false;
    }
    for (const char *p = text; *p != '\0'; p++) {
        if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) &&
            strchr(".:-", *p) == NULL) {
            return false;
        }
    }
    return len > 4;
}

static bool is_names(const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && strchr(".-_, \t", *p) == NULL) {
            return false;
        }
    }
    return true;
}

static bool parse_count(const char *text, uint64_t *ret_number, const char **ret_rest)
{
    char *rest;
    if (!isdigit((unsigned char)*text)) {
        return false;
    }
    errno = 0;
    unsigned long long number = strtoull(text, &rest, 10);
    *ret_number = number;
    *ret_rest = rest;
    return errno == 0;
}

static bool parse_rate(const char *text, uint64_t *ret_rate)
{
    static const char suffixes[] = "kmgt";
    const char *rest;
    if (!parse_count(text, ret_rate, &rest)) {
        return false;
    }
    if (*rest == '\0') {
        return true;
    }
    const char *suffix = strchr(suffixes, tolower((unsigned char)*rest));
    if (suffix == NULL || rest[1] != '\0') {
        return false;
    }
    unsigned shift = 10 * (unsigned)(suffix - suffixes + 1);
    if (*ret_rate > UINT64_MAX >> shift) {
        return false;
    }
    *ret_rate <<= shift;
    return true;
}

static bool parse_duration(const char *text, uint64_t *ret_ms)
{
    if (strcmp(text, "0") == 0) {
        *ret_ms = 0;
        return true;
    }
    return timefmt_parse_duration(text, ret_ms) == 0;
}

static int set_text(const struct option_row *row, const char *text, const char *source,
                    char **member, char message[OPTIONS_MESSAGE_SIZE])
{
    struct sockaddr_storage addr;
    struct cidr_list ranges;
    /* An empty text is the default of most: nothing. */
    bool given = text[0] != '\0';
    switch (row->type) {
    case TYPE_ADDRESS:
        if ((given || row->fallback[0] != '\0') && sockaddr_parse(text, -1, &addr) != 0) {
            return option_wrong(
                message,
                "%s: '%s' is not an address; ADDR:PORT is wanted, like 127.0.0.1:8080 or "
                "[::1]:8080.",
                source, text);
        }
        break;
    case TYPE_NAMES:
        if (!is_names(text)) {
            return option_wrong(
                message, "%s: host names separated by commas are wanted, without ports.", source);
        }
        break;
    case TYPE_RANGES:
        if (cidr_list_parse(text, &ranges) != 0) {
            return option_wrong(
                message, "%s: address ranges separated by commas are wanted, like 10.0.0.0/8.",
                source);
        }
        cidr_list_fini(&ranges);
        break;
    case TYPE_IQN:
        if (given && !is_iqn(text)) {
            return option_wrong(
                message,
                "%s: '%.100s' is not an iSCSI name; iqn.YYYY-MM.DOMAIN:NAME is wanted, in "
                "small letters.",
                source, text);
        }
        break;
    default:
        break;
    }
    *member = strdup(text);
    CHECK(*member != NULL);
    return 0;
}

static int set_number(const struct option_row *row, const char *text, const char *source,
                      uint64_t *member, char message[OPTIONS_MESSAGE_SIZE])
{
    const char *rest = "";
    uint64_t number = 0;
    if (row->type == TYPE_RATE) {
        if (!parse_rate(text, &number)) {
            return option_wrong(
                message, "%s: '%.60s' is not a number of bytes; like 52428800 or 50M is wanted.",
                source, text);
        }
    } else if (row->type == TYPE_DURATION) {
        if (!parse_duration(text, &number)) {
            return option_wrong(message,
                                "%s: '%.60s' is not a duration; like 500ms, 30s, 5m, 2h is wanted.",
                                source, text);
        }
        if (number < row->min || number > row->max) {
            char low[TIMEFMT_SIZE];
            char high[TIMEFMT_SIZE];
            timefmt_duration(row->min, low);
            timefmt_duration(row->max, high);
            return option_wrong(message, "%s: the duration has to be from %s to %s.", source, low,
                                high);
        }
    } else if (!parse_count(text, &number, &rest) || *rest != '\0' || number < row->min ||
               number > row->max) {
        return option_wrong(message, "%s: '%.60s' is not a number from %" PRIu64 " to %" PRIu64 ".",
                            source, text, row->min, row->max);
    }
    *member = number;
    return 0;
}

bool option_is_text(enum option_type type)
{
    return type != TYPE_LEVEL && type != TYPE_CHAP && type != TYPE_COUNT && type != TYPE_RATE &&
           type != TYPE_DURATION;
}

/* Names between commas, as a set. */
static int set_chap(const char *text, const char *source, uint64_t *member, char *message)
{
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = {{"md5", TARGET_CHAP_MD5},
                 {"sha1", TARGET_CHAP_SHA1},
                 {"sha256", TARGET_CHAP_SHA256},
                 {"sha3-256", TARGET_CHAP_SHA3_256}};
    *member = 0;
    while (*text != '\0') {
        size_t len = strcspn(text, ",");
        unsigned bit = 0;
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            if (strlen(names[i].name) == len && strncasecmp(text, names[i].name, len) == 0) {
                bit = names[i].bit;
            }
        }
        if (bit == 0) {
            return option_wrong(message,
                                "%s: '%.*s' is not one of sha3-256, sha256, sha1, md5 (separated "
                                "by commas).",
                                source, len > 60 ? 60 : (int)len, text);
        }
        *member |= bit;
        text += len;
        text += *text == ',';
        text += strspn(text, " ");
    }
    return *member != 0 ? 0
                        : option_wrong(message, "%s: at least one algorithm is wanted.", source);
}

int option_set(const struct option_row *row, const char *text, const char *source,
               struct options *options, char message[OPTIONS_MESSAGE_SIZE])
{
    void *member = (char *)options + row->offset;
    if (option_is_text(row->type)) {
        return set_text(row, text, source, member, message);
    }
    if (row->type == TYPE_CHAP) {
        return set_chap(text, source, member, message);
    }
    if (row->type != TYPE_LEVEL) {
        return set_number(row, text, source, member, message);
    }
    if (log_level_parse(text, member) != 0) {
        return option_wrong(message, "%s: '%.60s' is not one of error, warning, info, debug.",
                            source, text);
    }
    return 0;
}
