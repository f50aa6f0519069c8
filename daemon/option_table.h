// SPDX-License-Identifier: Apache-2.0
/*
 * Inside the options only: the table of rows, and how a text becomes a value of its type.
 *
 * Thread:    as daemon/options.h.
 * Ownership: rows are constant; values are copied.
 * Errors:    -EINVAL, and a sentence in message.
 */
#ifndef DAEMON_OPTION_TABLE_H
#define DAEMON_OPTION_TABLE_H

#include <stddef.h>

#include "daemon/options.h"

enum option_type {
    TYPE_TEXT,
    TYPE_PATH,
    TYPE_ADDRESS,
    TYPE_NAMES,
    TYPE_RANGES,
    TYPE_IQN,
    TYPE_LEVEL,
    TYPE_CHAP,
    TYPE_COUNT,
    TYPE_RATE,
    TYPE_DURATION,
};

struct option_row {
    const char *name;
    enum option_type type;
    const char *metavar;
    const char *fallback;      /* the default, as text */
    const char *fallback_said; /* instead, for people */
    size_t offset;
    uint64_t min, max; /* COUNT; DURATION in ms */
    const char *help;
};

enum { OPTION_ROWS = 28 };
extern const struct option_row option_rows[OPTION_ROWS];

/* Members of these types own a text. */
bool option_is_text(enum option_type type);
/* Puts text into its member of options. source names where the text came from. */
int option_set(const struct option_row *row, const char *text, const char *source,
               struct options *options, char message[OPTIONS_MESSAGE_SIZE]);
/* Fills message, returns -EINVAL. */
int option_wrong(char message[OPTIONS_MESSAGE_SIZE], const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
