// SPDX-License-Identifier: Apache-2.0
/*
 * Memory that is given back all at once: what one call needs until it is answered.
 *
 * Thread:    an arena belongs to one thread at a time.
 * Ownership: everything allocated lives until arena_fini().
 * Errors:    out of memory aborts (a call's memory is bounded by the size limits of the request).
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena_block;
struct arena {
    struct arena_block *blocks;
    size_t used; /* of the newest block */
};

void arena_init(struct arena *arena);
void arena_fini(struct arena *arena);
void *arena_alloc(struct arena *arena, size_t size); /* zeroed, aligned for any type */
char *arena_strdup(struct arena *arena, const char *text);
char *arena_strndup(struct arena *arena, const char *text, size_t len);
char *arena_printf(struct arena *arena, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
