// SPDX-License-Identifier: Apache-2.0
/*
 * Counters are atomic and relaxed: each is true by itself. The rate is the sum of the last two whole seconds, out of a ring of four.
 *
 * The limit is one number, the time at which all that was taken is paid for; who takes moves it by compare and exchange, so that loops
 * never wait for each other.
 */
#include "block/path_meter.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"

#define BURST_NS (50 * MS_NS)
enum { RING = 4 };

/* ---- limit ---- */

struct path_limit {
    atomic_uint refs;
    atomic_uint_least64_t rate;
    atomic_uint_least64_t free_at_ns;
};

int path_limit_new(uint64_t bytes_per_second, struct path_limit **ret_limit)
{
    struct path_limit *limit = calloc(1, sizeof(*limit));

    if (limit == NULL) {
        return -ENOMEM;
    }
    limit->refs = 1;
    limit->rate = bytes_per_second;
    *ret_limit = limit;
    return 0;
}

struct path_limit *path_limit_ref(struct path_limit *limit)
{
    if (limit != NULL) {
        atomic_fetch_add(&limit->refs, 1);
    }
    return limit;
}

void path_limit_unref(struct path_limit *limit)
{
    if (limit != NULL && atomic_fetch_sub(&limit->refs, 1) == 1) {
        free(limit);
    }
}

void path_limit_set(struct path_limit *limit, uint64_t bytes_per_second)
{
    if (atomic_exchange(&limit->rate, bytes_per_second) != bytes_per_second) {
        atomic_store(&limit->free_at_ns, 0);
    }
}

uint64_t path_limit_rate(const struct path_limit *limit)
{
    return atomic_load(&limit->rate);
}

bool path_limit_take(struct path_limit *limit, uint64_t len, uint64_t now_ns)
{
    __extension__ typedef unsigned __int128 u128;
    uint64_t rate = atomic_load(&limit->rate);
    uint64_t free_at_ns = atomic_load(&limit->free_at_ns);
    uint64_t next_ns;

    if (rate == 0) {
        return true;
    }
    u128 price_ns = (u128)len * SEC_NS / rate;

    do {
        if (free_at_ns > now_ns) {
            return false;
        }
        uint64_t from_ns = now_ns - free_at_ns > BURST_NS ? now_ns - BURST_NS : free_at_ns;

        next_ns = price_ns > UINT64_MAX - from_ns ? UINT64_MAX : from_ns + (uint64_t)price_ns;
    } while (!atomic_compare_exchange_weak(&limit->free_at_ns, &free_at_ns, next_ns));
    return true;
}

uint64_t path_limit_wait_ns(const struct path_limit *limit, uint64_t now_ns)
{
    uint64_t free_at_ns = atomic_load(&limit->free_at_ns);

    return atomic_load(&limit->rate) == 0 || free_at_ns <= now_ns ? 0 : free_at_ns - now_ns;
}

/* ---- counters ---- */

struct second {
    atomic_uint_least64_t number;
    atomic_uint_least64_t bytes;
};

struct path_meter {
    atomic_uint refs;
    atomic_int users;
    atomic_int sessions;
    atomic_int_least64_t bytes_inflight;
    atomic_uint_least64_t moved[2]; /* read, written */
    atomic_uint_least64_t losses;
    struct second ring[RING];
    pthread_mutex_t lock; /* the rest */
    char last_error[256];
    uint64_t last_error_ms;
};

int path_meter_new(struct path_meter **ret_meter)
{
    struct path_meter *meter = calloc(1, sizeof(*meter));

    if (meter == NULL) {
        return -ENOMEM;
    }
    meter->refs = 1;
    pthread_mutex_init(&meter->lock, NULL);
    *ret_meter = meter;
    return 0;
}

struct path_meter *path_meter_ref(struct path_meter *meter)
{
    if (meter != NULL) {
        atomic_fetch_add(&meter->refs, 1);
    }
    return meter;
}

void path_meter_unref(struct path_meter *meter)
{
    if (meter != NULL && atomic_fetch_sub(&meter->refs, 1) == 1) {
        pthread_mutex_destroy(&meter->lock);
        free(meter);
    }
}

void path_meter_users(struct path_meter *meter, int change)
{
    atomic_fetch_add_explicit(&meter->users, change, memory_order_relaxed);
}

void path_meter_sessions(struct path_meter *meter, int change)
{
    atomic_fetch_add_explicit(&meter->sessions, change, memory_order_relaxed);
}

void path_meter_inflight(struct path_meter *meter, int64_t change)
{
    atomic_fetch_add_explicit(&meter->bytes_inflight, change, memory_order_relaxed);
}

void path_meter_moved(struct path_meter *meter, bool written, uint64_t bytes, uint64_t now_ns)
{
    uint64_t number = now_ns / SEC_NS;
    struct second *second = &meter->ring[number % RING];

    atomic_fetch_add_explicit(&meter->moved[written], bytes, memory_order_relaxed);
    if (atomic_exchange_explicit(&second->number, number, memory_order_relaxed) != number) {
        atomic_store_explicit(&second->bytes, 0, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&second->bytes, bytes, memory_order_relaxed);
}

void path_meter_error(struct path_meter *meter, bool lost, const char *text, uint64_t wall_ms)
{
    if (lost) {
        atomic_fetch_add_explicit(&meter->losses, 1, memory_order_relaxed);
    }
    pthread_mutex_lock(&meter->lock);
    snprintf(meter->last_error, sizeof(meter->last_error), "%s", text);
    meter->last_error_ms = wall_ms;
    pthread_mutex_unlock(&meter->lock);
}

void path_meter_read(struct path_meter *meter, uint64_t now_ns, struct path_stats *ret_stats)
{
    uint64_t now = now_ns / SEC_NS;
    int users = atomic_load(&meter->users);
    int sessions = atomic_load(&meter->sessions);
    int64_t bytes_inflight = atomic_load(&meter->bytes_inflight);
    struct path_stats stats = {
        .users = users > 0 ? (unsigned)users : 0,
        .sessions = sessions > 0 ? (unsigned)sessions : 0,
        .bytes_inflight = bytes_inflight > 0 ? (uint64_t)bytes_inflight : 0,
        .bytes_read = atomic_load(&meter->moved[0]),
        .bytes_written = atomic_load(&meter->moved[1]),
        .losses = atomic_load(&meter->losses),
    };

    for (unsigned i = 0; i < RING; i++) {
        uint64_t number = atomic_load(&meter->ring[i].number);

        if (number != 0 && number < now && now - number <= 2) {
            stats.bytes_per_second += atomic_load(&meter->ring[i].bytes) / 2;
        }
    }
    pthread_mutex_lock(&meter->lock);
    memcpy(stats.last_error, meter->last_error, sizeof(stats.last_error));
    stats.last_error_ms = meter->last_error_ms;
    pthread_mutex_unlock(&meter->lock);
    *ret_stats = stats;
}
