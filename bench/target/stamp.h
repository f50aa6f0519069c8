// SPDX-License-Identifier: Apache-2.0
/*
 * What is in the sectors of a LUN under load: which sector it is and how often it was written, in
 * front of noise that is the same for a place within 4 KiB.
 *
 * Thread:    any.
 * Ownership: none.
 * Errors:    stamp_check() and stamp_compare() answer false.
 */
#ifndef BENCH_TARGET_STAMP_H
#define BENCH_TARGET_STAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STAMP_SECTOR = 512, STAMP_BLOCK = 4096 };

/* The noise, before the first use of a buffer. len is a multiple of STAMP_BLOCK. */
void stamp_prepare(uint8_t *data, size_t len);
/* The stamps of one STAMP_BLOCK of the LUN, of prepared memory. */
void stamp_put(uint8_t *data, uint64_t block, uint32_t sequence);
/* The stamps only: right place, right sequence. */
bool stamp_check(const uint8_t *data, uint64_t block, uint32_t sequence);
/* Every byte. */
bool stamp_compare(const uint8_t *data, uint64_t block, uint32_t sequence);

#endif
