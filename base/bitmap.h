// SPDX-License-Identifier: Apache-2.0
/*
 * A fixed number of bits, with ranges, search and count.
 *
 * Thread:    the owner of the bitmap.
 * Ownership: bitmap_init() allocates, bitmap_fini() frees.
 * Errors:    bitmap_init() returns -ENOMEM; positions outside are our own bugs and CHECKed.
 */
#ifndef BASE_BITMAP_H
#define BASE_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bitmap {
    uint64_t *words;
    uint64_t n_bits;
    uint64_t n_set;
};

int bitmap_init(struct bitmap *bitmap, uint64_t n_bits); /* all clear */
void bitmap_fini(struct bitmap *bitmap);

bool bitmap_test(const struct bitmap *bitmap, uint64_t bit);
/* True if the bit was another before. */
bool bitmap_set(struct bitmap *bitmap, uint64_t bit);
bool bitmap_clear(struct bitmap *bitmap, uint64_t bit);
/* How many bits changed. */
uint64_t bitmap_set_range(struct bitmap *bitmap, uint64_t first, uint64_t count);
uint64_t bitmap_clear_range(struct bitmap *bitmap, uint64_t first, uint64_t count);

uint64_t bitmap_count(const struct bitmap *bitmap); /* of set bits; costs nothing */
uint64_t bitmap_count_range(const struct bitmap *bitmap, uint64_t first, uint64_t count);
/* The first set (clear) bit at from or later; n_bits if there is none. */
uint64_t bitmap_next_set(const struct bitmap *bitmap, uint64_t from);
uint64_t bitmap_next_clear(const struct bitmap *bitmap, uint64_t from);

#endif
