// SPDX-License-Identifier: Apache-2.0
/*
 * Random numbers: seeded ones that repeat (tests, simulation, back-off jitter), and unpredictable
 * ones (ids, challenges).
 *
 * Thread:    any; a struct random belongs to its user.
 * Ownership: none.
 * Errors:    none; a kernel without getrandom(2) stops the process.
 */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* xoshiro256**, seeded through splitmix64: the same seed gives the same numbers everywhere. */
struct random {
    uint64_t state[4];
};

void random_seed(struct random *random, uint64_t seed);
uint64_t random_u64(struct random *random);
/* Uniform in [0, bound); bound > 0. */
uint64_t random_below(struct random *random, uint64_t bound);
/* True in numerator of denominator cases. */
bool random_chance(struct random *random, uint64_t numerator, uint64_t denominator);
void random_fill(struct random *random, void *data, size_t len);

/* From the kernel, unpredictable. */
void random_bytes(void *data, size_t len);
uint64_t random_unpredictable_u64(void);
/* Writes digits lower-case hexadecimal digits and '\0'. */
void random_id_hex(char *out, size_t digits);

#endif
