// SPDX-License-Identifier: Apache-2.0
/*
 * What every simulation has: runs from seeds, each of which can be run again, and the random numbers of the current one.
 *
 *     sim_NAME                 as many seeds as it has time for, from 1
 *     sim_NAME FIRST [COUNT]   these; one alone is logged in full
 *
 * SMIRROR_SIM_SEED and SMIRROR_SIM_COUNT do the same as FIRST and COUNT. A seed that fails is told, with how it is run again, however it
 * ends: by a failed CHECK, by an assertion of cmocka in what is shared with unit tests, or by a sanitizer.
 *
 *     int main(int argc, char **argv)
 *     {
 *         return sim_main(argc, argv, &(struct sim){.name = "copy", .seeds = SIM_SEEDS(500, 500, 80), .run = run});
 *     }
 *
 * Thread:    the simulation's, the only one.
 * Ownership: none.
 * Errors:    a seed that fails ends the program by SIGABRT.
 */
#ifndef TESTS_SIM_SEEDS_H
#define TESTS_SIM_SEEDS_H

#include "base/random.h"

/* By how much slower the program is made. */
#if defined(__SANITIZE_ADDRESS__)
#define SIM_SEEDS(plain, asan, tsan) (asan)
#elif defined(__SANITIZE_THREAD__)
#define SIM_SEEDS(plain, asan, tsan) (tsan)
#else
#define SIM_SEEDS(plain, asan, tsan) (plain)
#endif

struct sim {
    const char *name; /* the program is sim_NAME */
    uint64_t seeds;   /* when it is not told how many */
    void (*run)(uint64_t seed);
    /* All count of them passed: looks whether enough has happened, says what; may be NULL. */
    void (*passed)(uint64_t count);
};

int sim_main(int argc, char **argv, const struct sim *sim);

/* Seeded with the seed before each run. */
extern struct random sim_random;

static inline uint64_t below(uint64_t bound)
{
    return random_below(&sim_random, bound);
}

static inline bool chance(uint64_t numerator, uint64_t denominator)
{
    return random_chance(&sim_random, numerator, denominator);
}

static inline uint64_t pick(const uint64_t *values, unsigned n)
{
    return values[below(n)];
}

#define PICK(...)                                                                                  \
    pick((const uint64_t[]){__VA_ARGS__},                                                          \
         sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

#endif
