// SPDX-License-Identifier: Apache-2.0
/*
 * What went wrong, said once, where it is known.
 *
 * Thread:    any; a struct error belongs to its caller.
 * Ownership: a plain value, no pointers.
 * Errors:    error_set() returns the negative errno of the table, so that `return error_set(...)`
 *            reads well.
 *
 * One table (base/error_table.h) gives each error its code word, SMI-S ReturnValue, HTTP status,
 * errno and title.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <stddef.h>
#include <stdint.h>

enum error_code {
#define ERROR_ROW(name, word, return_value, http, err, title) ERR_##name,
#include "base/error_table.h"
#undef ERROR_ROW
    ERR_COUNT
};

/* What the table says of a code. return_value is ERROR_NO_RETURN_VALUE for errors of the protocol
 * (the method was never called). */
#define ERROR_NO_RETURN_VALUE UINT32_MAX
struct error_info {
    const char *word;
    uint32_t return_value;
    int http_status;
    int err; /* negative errno */
    const char *title;
};

struct error {
    enum error_code code;
    char detail[480];
    char parameter[96];  /* the parameter that was wrong, or "" */
    char blocked_on[96]; /* path of the object that is in the way, or "" */
    char made[96];       /* path of what was made or changed all the same, or "" */
    uint64_t size;       /* with size_not_supported: the nearest one that is, or 0 */
};

const struct error_info *error_info(enum error_code code);

/* Fills *error (which may be NULL) and returns the code's negative errno. */
int error_set(struct error *error, enum error_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, naming the parameter. */
int error_param(struct error *error, enum error_code code, const char *parameter, const char *fmt,
                ...) __attribute__((format(printf, 4, 5)));
/* The same, naming the object that holds what was wanted. */
int error_blocked(struct error *error, enum error_code code, const char *blocked_on,
                  const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
