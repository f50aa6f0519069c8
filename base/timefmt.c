// SPDX-License-Identifier: Apache-2.0
#include "base/timefmt.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

enum { CIM_LEN = 25 };

#define SECOND_MS 1000ull
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS   (60 * MINUTE_MS)
#define DAY_MS    (24 * HOUR_MS)

/*
 * The calendar is reckoned in years that begin on 1 March: the leap day is then the last of its
 * year, and the days before a month are a linear formula. 400 years have 146097 days; 1970-01-01 is
 * day 719468 since 0000-03-01.
 */
enum { ERA_DAYS = 146097, EPOCH_DAY = 719468 };

static int64_t days_from_date(int64_t year, unsigned month, unsigned day)
{
    unsigned march_month = (month + 9) % 12; /* March is 0 */
    int64_t march_year = month <= 2 ? year - 1 : year;
    int64_t era = (march_year >= 0 ? march_year : march_year - 399) / 400;
    int64_t year_of_era = march_year - era * 400;
    int64_t day_of_year = (153 * march_month + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * ERA_DAYS + day_of_era - EPOCH_DAY;
}

static void date_from_days(uint64_t days, uint64_t *year, unsigned *month, unsigned *day)
{
    uint64_t since = days + EPOCH_DAY;
    uint64_t era = since / ERA_DAYS;
    uint64_t day_of_era = since % ERA_DAYS;
    /* Takes out the leap days, so that what is left counts years of 365. */
    uint64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year =
        (unsigned)(day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100));
    unsigned march_month = (5 * day_of_year + 2) / 153;
    *day = day_of_year - (153 * march_month + 2) / 5 + 1;
    *month = march_month < 10 ? march_month + 3 : march_month - 9;
    *year = era * 400 + year_of_era + (*month <= 2);
}

static unsigned days_in_month(unsigned year, unsigned month)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

static char *put_digits(char *at, unsigned n, unsigned value)
{
    for (unsigned i = n; i > 0; i--) {
        at[i - 1] = (char)('0' + value % 10);
        value /= 10;
    }
    return at + n;
}

/* By hand: pages of objects are full of times. */
void timefmt_rfc3339(uint64_t ms, char out[TIMEFMT_SIZE])
{
    uint64_t year;
    unsigned month;
    unsigned day;
    date_from_days(ms / DAY_MS, &year, &month, &day);
    unsigned of_day = (unsigned)(ms % DAY_MS);
    char *at = out;
    if (year > 9999) {
        at += sprintf(at, "%llu", (unsigned long long)year);
    } else {
        at = put_digits(at, 4, (unsigned)year);
    }
    *at++ = '-';
    at = put_digits(at, 2, month);
    *at++ = '-';
    at = put_digits(at, 2, day);
    *at++ = 'T';
    at = put_digits(at, 2, of_day / (unsigned)HOUR_MS);
    *at++ = ':';
    at = put_digits(at, 2, of_day / (unsigned)MINUTE_MS % 60);
    *at++ = ':';
    at = put_digits(at, 2, of_day / (unsigned)SECOND_MS % 60);
    *at++ = '.';
    at = put_digits(at, 3, of_day % 1000);
    *at++ = 'Z';
    *at = '\0';
}

void timefmt_duration(uint64_t ms, char out[TIMEFMT_SIZE])
{
    struct {
        uint64_t value;
        char unit;
    } parts[] = {{ms / DAY_MS, 'D'}, {ms / HOUR_MS % 24, 'H'}, {ms / MINUTE_MS % 60, 'M'}};
    char *at = out;
    char *end = out + TIMEFMT_SIZE;
    *at++ = 'P';
    bool time_begun = false;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (parts[i].value > 0) {
            bool begins = i > 0 && !time_begun;
            time_begun = time_begun || begins;
            at += snprintf(at, (size_t)(end - at), "%s%llu%c", begins ? "T" : "",
                           (unsigned long long)parts[i].value, parts[i].unit);
        }
    }
    unsigned rest = (unsigned)(ms % MINUTE_MS);
    if (rest == 0 && ms != 0) {
        *at = '\0';
        return;
    }
    at += snprintf(at, (size_t)(end - at), "%s%u", time_begun ? "" : "T", rest / 1000);
    if (rest % 1000 != 0) {
        at += snprintf(at, (size_t)(end - at), ".%03u", rest % 1000);
        while (at[-1] == '0') {
            at--;
        }
    }
    snprintf(at, (size_t)(end - at), "S");
}

/* Exactly n digits at *text, which moves on. */
static bool take_digits(const char **text, unsigned n, unsigned *ret_value)
{
    unsigned value = 0;
    for (unsigned i = 0; i < n; i++) {
        char c = (*text)[i];
        if (c < '0' || c > '9') {
            return false;
        }
        value = value * 10 + (unsigned)(c - '0');
    }
    *text += n;
    *ret_value = value;
    return true;
}

static bool take_char(const char **text, char wanted)
{
    if (**text != wanted) {
        return false;
    }
    (*text)++;
    return true;
}

struct moment {
    unsigned year, month, day, hour, minute, second, millisecond;
    int offset_minutes; /* east of UTC */
};

static int moment_to_ms(const struct moment *m, uint64_t *ret_ms)
{
    /* A leap second (60) becomes the first of the next minute. */
    if (m->month < 1 || m->month > 12 || m->day < 1 || m->day > days_in_month(m->year, m->month) ||
        m->hour > 23 || m->minute > 59 || m->second > 60) {
        return -EINVAL;
    }
    int64_t minutes = (days_from_date(m->year, m->month, m->day) * 24 + m->hour) * 60 + m->minute -
                      m->offset_minutes;
    int64_t ms = (minutes * 60 + m->second) * 1000 + m->millisecond;
    if (ms < 0) {
        return -ERANGE;
    }
    *ret_ms = (uint64_t)ms;
    return 0;
}

static bool parse_cim_time(const char *text, struct moment *m)
{
    unsigned microseconds;
    unsigned offset;
    if (!take_digits(&text, 4, &m->year) || !take_digits(&text, 2, &m->month) ||
        !take_digits(&text, 2, &m->day) || !take_digits(&text, 2, &m->hour) ||
        !take_digits(&text, 2, &m->minute) || !take_digits(&text, 2, &m->second) ||
        !take_char(&text, '.') || !take_digits(&text, 6, &microseconds)) {
        return false;
    }
    bool west = *text == '-';
    if (!take_char(&text, west ? '-' : '+') || !take_digits(&text, 3, &offset)) {
        return false;
    }
    m->millisecond = microseconds / 1000;
    m->offset_minutes = west ? -(int)offset : (int)offset;
    return true;
}

static bool parse_rfc3339(const char *text, struct moment *m)
{
    if (!take_digits(&text, 4, &m->year) || !take_char(&text, '-') ||
        !take_digits(&text, 2, &m->month) || !take_char(&text, '-') ||
        !take_digits(&text, 2, &m->day) ||
        !(take_char(&text, 'T') || take_char(&text, 't') || take_char(&text, ' ')) ||
        !take_digits(&text, 2, &m->hour) || !take_char(&text, ':') ||
        !take_digits(&text, 2, &m->minute) || !take_char(&text, ':') ||
        !take_digits(&text, 2, &m->second)) {
        return false;
    }
    if (take_char(&text, '.')) {
        unsigned digit;
        unsigned weight = 100;
        if (!take_digits(&text, 1, &digit)) {
            return false;
        }
        do {
            m->millisecond += digit * weight;
            weight /= 10;
        } while (take_digits(&text, 1, &digit));
    }
    if (take_char(&text, 'Z') || take_char(&text, 'z')) {
        return *text == '\0';
    }
    bool west = *text == '-';
    unsigned hours;
    unsigned minutes;
    if (!take_char(&text, west ? '-' : '+') || !take_digits(&text, 2, &hours) ||
        !take_char(&text, ':') || !take_digits(&text, 2, &minutes) || hours > 23 || minutes > 59) {
        return false;
    }
    int offset = (int)(hours * 60 + minutes);
    m->offset_minutes = west ? -offset : offset;
    return *text == '\0';
}

int timefmt_parse_time(const char *text, uint64_t *ret_ms)
{
    struct moment moment = {0};
    bool is_cim = strlen(text) == CIM_LEN && text[14] == '.';
    if (!(is_cim ? parse_cim_time(text, &moment) : parse_rfc3339(text, &moment))) {
        return -EINVAL;
    }
    return moment_to_ms(&moment, ret_ms);
}

static int parse_cim_interval(const char *text, uint64_t *ret_ms)
{
    unsigned days;
    unsigned hours;
    unsigned minutes;
    unsigned seconds;
    unsigned microseconds;
    if (!take_digits(&text, 8, &days) || !take_digits(&text, 2, &hours) ||
        !take_digits(&text, 2, &minutes) || !take_digits(&text, 2, &seconds) ||
        !take_char(&text, '.') || !take_digits(&text, 6, &microseconds) ||
        strcmp(text, ":000") != 0 || hours > 23 || minutes > 59 || seconds > 59) {
        return -EINVAL;
    }
    *ret_ms = days * DAY_MS + hours * HOUR_MS + minutes * MINUTE_MS + seconds * SECOND_MS +
              (microseconds + 999) / 1000;
    return 0;
}

/* A decimal number: its whole part, and its fraction in billionths. */
static int take_amount(const char **text, uint64_t *ret_whole, uint64_t *ret_billionths,
                       bool *ret_fraction)
{
    const char *at = *text;
    if (*at < '0' || *at > '9') {
        return -EINVAL;
    }
    uint64_t whole = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(*at - '0'), &whole)) {
            return -ERANGE;
        }
    }
    uint64_t billionths = 0;
    bool fraction = *at == '.' || *at == ',';
    if (fraction) {
        at++;
        if (*at < '0' || *at > '9') {
            return -EINVAL;
        }
        uint64_t weight = 100000000;
        for (; *at >= '0' && *at <= '9'; at++) {
            billionths += (uint64_t)(*at - '0') * weight;
            if (weight == 0 && *at != '0' && billionths % 10 == 0) {
                billionths++; /* digits too small to count must still not vanish */
            }
            weight /= 10;
        }
    }
    *text = at;
    *ret_whole = whole;
    *ret_billionths = billionths;
    *ret_fraction = fraction;
    return 0;
}

static int add_amount(uint64_t *sum, uint64_t whole, uint64_t billionths, uint64_t unit_ms)
{
    uint64_t ms;
    /* unit_ms is at most a week: the product stays below 2^63. */
    uint64_t part = (billionths * unit_ms + 999999999) / 1000000000;
    if (__builtin_mul_overflow(whole, unit_ms, &ms) || __builtin_add_overflow(ms, part, &ms) ||
        __builtin_add_overflow(*sum, ms, sum)) {
        return -ERANGE;
    }
    return 0;
}

static int parse_iso_duration(const char *text, uint64_t *ret_ms)
{
    static const struct {
        char letter;
        bool time;
        uint64_t unit_ms;
    } units[] = {
        {'W', false, 7 * DAY_MS}, {'D', false, DAY_MS},   {'H', true, HOUR_MS},
        {'M', true, MINUTE_MS},   {'S', true, SECOND_MS},
    };
    uint64_t sum = 0;
    size_t next_unit = 0;
    bool in_time = false;
    bool ended = false; /* only the last number may have a fraction */
    text++;
    if (*text == '\0') {
        return -EINVAL;
    }
    while (*text != '\0') {
        if (!in_time && take_char(&text, 'T')) {
            in_time = true;
        }
        uint64_t whole;
        uint64_t billionths;
        bool fraction;
        int err = ended ? -EINVAL : take_amount(&text, &whole, &billionths, &fraction);
        if (err) {
            return err;
        }
        while (next_unit < ARRAY_LEN(units) &&
               (units[next_unit].letter != *text || units[next_unit].time != in_time)) {
            next_unit++;
        }
        if (next_unit == ARRAY_LEN(units)) {
            return -EINVAL;
        }
        err = add_amount(&sum, whole, billionths, units[next_unit].unit_ms);
        if (err) {
            return err;
        }
        ended = fraction;
        next_unit++;
        text++;
    }
    *ret_ms = sum;
    return 0;
}

static int parse_short_duration(const char *text, uint64_t *ret_ms)
{
    static const struct {
        const char *word;
        uint64_t unit_ms;
    } units[] = {
        {"ms", 1}, {"s", SECOND_MS}, {"m", MINUTE_MS}, {"h", HOUR_MS}, {"d", DAY_MS},
    };
    uint64_t whole;
    uint64_t billionths;
    bool fraction;
    int err = take_amount(&text, &whole, &billionths, &fraction);
    if (err) {
        return err;
    }
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (strcmp(text, units[i].word) == 0) {
            uint64_t sum = 0;
            err = add_amount(&sum, whole, billionths, units[i].unit_ms);
            if (!err) {
                *ret_ms = sum;
            }
            return err;
        }
    }
    return -EINVAL;
}

int timefmt_parse_duration(const char *text, uint64_t *ret_ms)
{
    if (text[0] == 'P') {
        return parse_iso_duration(text, ret_ms);
    }
    if (strlen(text) == CIM_LEN && text[14] == '.') {
        return parse_cim_interval(text, ret_ms);
    }
    return parse_short_duration(text, ret_ms);
}
