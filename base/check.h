// SPDX-License-Identifier: Apache-2.0
/*
 * CHECK(): our own invariants; stays on in release builds.
 *
 * Thread:    any.
 * Ownership: none.
 * Errors:    a failed check logs place and expression and aborts. Nothing that a peer, a disk, a
 *            file or a client sends may reach one.
 */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#include <stddef.h>

_Noreturn void check_failed(const char *file, int line, const char *expression);

#define CHECK(expression) ((expression) ? (void)0 : check_failed(__FILE__, __LINE__, #expression))

#define ARRAY_LEN(array)                (sizeof(array) / sizeof((array)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#endif
