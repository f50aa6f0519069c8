// SPDX-License-Identifier: Apache-2.0
/*
 * The least and the greatest of what several threads have seen.
 *
 * Thread:    any.
 * Ownership: none.
 * Errors:    none.
 */
#ifndef BASE_ATOMIC_RANGE_H
#define BASE_ATOMIC_RANGE_H

#include <stdatomic.h>
#include <stdint.h>

static inline void atomic_lower(_Atomic uint64_t *at, uint64_t value)
{
    uint64_t seen = atomic_load(at);

    while (value < seen && !atomic_compare_exchange_weak(at, &seen, value)) {
    }
}

static inline void atomic_raise(_Atomic uint64_t *at, uint64_t value)
{
    uint64_t seen = atomic_load(at);

    while (value > seen && !atomic_compare_exchange_weak(at, &seen, value)) {
    }
}

#endif
