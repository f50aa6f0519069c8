// SPDX-License-Identifier: Apache-2.0
/*
 * UTF-8 as RFC 3629 allows it: no overlong forms, no surrogates, nothing above U+10FFFF.
 *
 * Thread:    any.
 * Ownership: none.
 * Errors:    0 for bytes that are not a character.
 */
#ifndef API_UTF8_H
#define API_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the character that text begins with (1 to 4), 0 when it is none within len. */
size_t utf8_char(const char *text, size_t len);
bool utf8_valid(const char *text, size_t len);

#endif
