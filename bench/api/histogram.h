// SPDX-License-Identifier: Apache-2.0
/*
 * A histogram of durations: 128 steps to each power of two, so every figure is right to 1 %.
 *
 * Thread:    one.
 * Ownership: embedded; zeroed by its owner before use.
 * Errors:    none.
 */
#ifndef BENCH_API_HISTOGRAM_H
#define BENCH_API_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum {
    HISTOGRAM_BITS = 7,
    HISTOGRAM_STEPS = 1 << HISTOGRAM_BITS,
    HISTOGRAM_SLOTS = (64 - HISTOGRAM_BITS + 1) * HISTOGRAM_STEPS,
};

struct histogram {
    uint64_t slots[HISTOGRAM_SLOTS];
    uint64_t count;
    uint64_t max_ns;
    double sum_ns;
};

void histogram_add(struct histogram *histogram, uint64_t ns);
/* The duration that this share (0 to 1) does not exceed; 0 when there is none at all. */
uint64_t histogram_quantile(const struct histogram *histogram, double share);
/* "name":{"mean":..,"p50":..,"p90":..,"p99":..,"p999":..,"max":..}, in microseconds. */
void histogram_print_json(const struct histogram *histogram, const char *name, FILE *out);

static inline uint64_t clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#endif
