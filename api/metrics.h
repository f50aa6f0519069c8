// SPDX-License-Identifier: Apache-2.0
/*
 * Counters of requests, and the Prometheus text.
 *
 * Thread:    any; counters are atomic.
 * Ownership: a struct metrics is embedded in the server.
 * Errors:    latched in the buffer.
 */
#ifndef API_METRICS_H
#define API_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "api/router.h"
#include "base/strbuf.h"

enum {
    METRICS_STATUSES = 22, /* those that we answer with, and one for the rest */
    METRICS_BUCKETS = 13,
};

struct metrics {
    _Atomic uint64_t requests[ROUTE_TEMPLATES][METRICS_STATUSES];
    _Atomic uint64_t buckets[ROUTE_TEMPLATES][METRICS_BUCKETS + 1]; /* the last: longer */
    _Atomic uint64_t seconds_ns[ROUTE_TEMPLATES];
    _Atomic uint64_t in_flight;
    _Atomic uint64_t waiting; /* connections suspended until control answers */
};

void metrics_count(struct metrics *metrics, unsigned template, int status, uint64_t ns);
void metrics_print(struct metrics *metrics, struct strbuf *buf);

/* One metric without labels: type is "counter" or "gauge". */
void metrics_print_value(struct strbuf *buf, const char *name, const char *type, const char *help,
                         double value);
/* # HELP and # TYPE. */
void metrics_print_head(struct strbuf *buf, const char *name, const char *type, const char *help);

#endif
