// SPDX-License-Identifier: Apache-2.0
/*
 * Finds the long runs of zeros in a buffer.
 *
 * Thread:    any.
 * Ownership: none.
 * Errors:    none.
 *
 * A run shorter than `shortest` is not worth a command of its own and counts as data.
 */
#ifndef REPLICATION_ZERO_SCAN_H
#define REPLICATION_ZERO_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct zero_run {
    size_t offset;
    size_t len;
    bool zero;
};

/* Cuts data into runs that alternate between data and zeros and cover all of it: at least one, at
 * most max_runs (what would be more stays data). The borders are multiples of granule, which is a
 * power of two; shortest is a multiple of it. max_runs >= 1. Answers their number. */
unsigned zero_scan(const void *data, size_t len, size_t granule, size_t shortest,
                   struct zero_run *runs, unsigned max_runs);

#endif
