// SPDX-License-Identifier: Apache-2.0
/*
 * What the sessions of one path have in common, over all devices and loops that use it: counters that can be read at any time, and
 * a bandwidth limit that several paths may share.
 *
 * Thread:    any; nothing here waits (the text of the last error has a lock of its own, taken when something goes wrong).
 * Ownership: counted references; _new gives the first one.
 * Errors:    -ENOMEM.
 */
#ifndef BLOCK_PATH_METER_H
#define BLOCK_PATH_METER_H

#include <stdbool.h>
#include <stdint.h>

/* A limit lets a request of any length through once the earlier ones are paid for, and saves up a twentieth of a second. */
struct path_limit;
int path_limit_new(uint64_t bytes_per_second, struct path_limit **ret_limit); /* 0: none */
struct path_limit *path_limit_ref(struct path_limit *limit);
void path_limit_unref(struct path_limit *limit); /* NULL is fine */
/* Counts from now on. */
void path_limit_set(struct path_limit *limit, uint64_t bytes_per_second);
uint64_t path_limit_rate(const struct path_limit *limit);
/* Takes len bytes and answers true, or false: not before path_limit_wait_ns(). */
bool path_limit_take(struct path_limit *limit, uint64_t len, uint64_t now_ns);
uint64_t path_limit_wait_ns(const struct path_limit *limit, uint64_t now_ns);

struct path_stats {
    unsigned users;    /* sessions that are wanted now */
    unsigned sessions; /* of them: up */
    uint64_t bytes_inflight;
    uint64_t bytes_read; /* since the meter was made */
    uint64_t bytes_written;
    uint64_t bytes_per_second; /* both ways, over the last seconds */
    uint64_t losses;           /* sessions that were lost */
    char last_error[256];      /* "" none yet */
    uint64_t last_error_ms;    /* wall clock */
};

struct path_meter;
int path_meter_new(struct path_meter **ret_meter);
struct path_meter *path_meter_ref(struct path_meter *meter);
void path_meter_unref(struct path_meter *meter); /* NULL is fine */
void path_meter_users(struct path_meter *meter, int change);
void path_meter_sessions(struct path_meter *meter, int change);
void path_meter_inflight(struct path_meter *meter, int64_t change);
void path_meter_moved(struct path_meter *meter, bool written, uint64_t bytes, uint64_t now_ns);
void path_meter_error(struct path_meter *meter, bool lost, const char *text, uint64_t wall_ms);
/* now_ns: of CLOCK_MONOTONIC, as loop_now_ns() of real loops. */
void path_meter_read(struct path_meter *meter, uint64_t now_ns, struct path_stats *ret_stats);

#endif
