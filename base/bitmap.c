// SPDX-License-Identifier: Apache-2.0
#include "base/bitmap.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"

enum { WORD_BITS = 64 };

int bitmap_init(struct bitmap *bitmap, uint64_t n_bits)
{
    uint64_t n_words = n_bits / WORD_BITS + (n_bits % WORD_BITS != 0);
    uint64_t *words = calloc(n_words ? n_words : 1, sizeof(*words));
    if (!words) {
        return -ENOMEM;
    }
    *bitmap = (struct bitmap){.words = words, .n_bits = n_bits};
    return 0;
}

void bitmap_fini(struct bitmap *bitmap)
{
    free(bitmap->words);
    *bitmap = (struct bitmap){0};
}

bool bitmap_test(const struct bitmap *bitmap, uint64_t bit)
{
    CHECK(bit < bitmap->n_bits);
    return bitmap->words[bit / WORD_BITS] >> bit % WORD_BITS & 1;
}

bool bitmap_set(struct bitmap *bitmap, uint64_t bit)
{
    return bitmap_set_range(bitmap, bit, 1) == 1;
}

bool bitmap_clear(struct bitmap *bitmap, uint64_t bit)
{
    return bitmap_clear_range(bitmap, bit, 1) == 1;
}

/* Walks [first, first + count) word by word: which word, and which of its bits. */
struct word_walk {
    uint64_t bit;
    uint64_t end;
    uint64_t index;
    uint64_t mask;
};

static struct word_walk word_walk_begin(const struct bitmap *bitmap, uint64_t first, uint64_t count)
{
    CHECK(first <= bitmap->n_bits && count <= bitmap->n_bits - first);
    return (struct word_walk){.bit = first, .end = first + count};
}

static bool word_walk_next(struct word_walk *walk)
{
    if (walk->bit == walk->end) {
        return false;
    }
    unsigned low = walk->bit % WORD_BITS;
    uint64_t left = walk->end - walk->bit;
    uint64_t n = left < WORD_BITS - low ? left : WORD_BITS - low;
    walk->index = walk->bit / WORD_BITS;
    walk->mask = (n == WORD_BITS ? UINT64_MAX : (1ull << n) - 1) << low;
    walk->bit += n;
    return true;
}

uint64_t bitmap_set_range(struct bitmap *bitmap, uint64_t first, uint64_t count)
{
    uint64_t changed = 0;
    struct word_walk walk = word_walk_begin(bitmap, first, count);
    while (word_walk_next(&walk)) {
        uint64_t *word = &bitmap->words[walk.index];
        changed += (uint64_t)__builtin_popcountll(walk.mask & ~*word);
        *word |= walk.mask;
    }
    bitmap->n_set += changed;
    return changed;
}

uint64_t bitmap_clear_range(struct bitmap *bitmap, uint64_t first, uint64_t count)
{
    uint64_t changed = 0;
    struct word_walk walk = word_walk_begin(bitmap, first, count);
    while (word_walk_next(&walk)) {
        uint64_t *word = &bitmap->words[walk.index];
        changed += (uint64_t)__builtin_popcountll(walk.mask & *word);
        *word &= ~walk.mask;
    }
    bitmap->n_set -= changed;
    return changed;
}

uint64_t bitmap_count(const struct bitmap *bitmap)
{
    return bitmap->n_set;
}

uint64_t bitmap_count_range(const struct bitmap *bitmap, uint64_t first, uint64_t count)
{
    uint64_t sum = 0;
    struct word_walk walk = word_walk_begin(bitmap, first, count);
    while (word_walk_next(&walk)) {
        sum += (uint64_t)__builtin_popcountll(bitmap->words[walk.index] & walk.mask);
    }
    return sum;
}

/* flip: all ones looks for clear bits. */
static uint64_t find_next(const struct bitmap *bitmap, uint64_t from, uint64_t flip)
{
    CHECK(from <= bitmap->n_bits);
    struct word_walk walk = word_walk_begin(bitmap, from, bitmap->n_bits - from);
    while (word_walk_next(&walk)) {
        uint64_t found = (bitmap->words[walk.index] ^ flip) & walk.mask;
        if (found) {
            return walk.index * WORD_BITS + (uint64_t)__builtin_ctzll(found);
        }
    }
    return bitmap->n_bits;
}

uint64_t bitmap_next_set(const struct bitmap *bitmap, uint64_t from)
{
    return find_next(bitmap, from, 0);
}

uint64_t bitmap_next_clear(const struct bitmap *bitmap, uint64_t from)
{
    return find_next(bitmap, from, UINT64_MAX);
}
