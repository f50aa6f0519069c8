// SPDX-License-Identifier: Apache-2.0
#include "api/metrics.h"

#include <inttypes.h>

#include "base/check.h"

static const int statuses[METRICS_STATUSES - 1] = {
    200, 202, 204, 400, 401, 403, 404, 405, 409, 413, 414,
    415, 422, 500, 501, 502, 503, 504, 507, 408, 431,
};

static const uint64_t bucket_limits_ns[METRICS_BUCKETS] = {
    250000,    500000,    1000000,    2500000,    5000000,     10000000,     25000000,
    100000000, 500000000, 1000000000, 5000000000, 30000000000, 300000000000,
};

void metrics_count(struct metrics *metrics, unsigned template, int status, uint64_t ns)
{
    CHECK(template <ROUTE_TEMPLATES);
    unsigned index = 0;
    while (index < METRICS_STATUSES - 1 && statuses[index] != status) {
        index++;
    }
    unsigned bucket = 0;
    while (bucket < METRICS_BUCKETS && ns > bucket_limits_ns[bucket]) {
        bucket++;
    }
    atomic_fetch_add_explicit(&metrics->requests[template][index], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&metrics->buckets[template][bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&metrics->seconds_ns[template], ns, memory_order_relaxed);
}

void metrics_print_head(struct strbuf *buf, const char *name, const char *type, const char *help)
{
    strbuf_printf(buf, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_print_value(struct strbuf *buf, const char *name, const char *type, const char *help,
                         double value)
{
    metrics_print_head(buf, name, type, help);
    strbuf_printf(buf, "%s %.17g\n", name, value);
}

static uint64_t load(_Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void print_requests(struct metrics *metrics, struct strbuf *buf)
{
    static const char name[] = "smirror_http_requests_total";
    metrics_print_head(buf, name, "counter", "Requests answered, by route and status.");
    for (unsigned template = 0; template <ROUTE_TEMPLATES; template ++) {
        char route[64];
        route_template_text(template, route, sizeof(route));
        for (unsigned i = 0; i < METRICS_STATUSES; i++) {
            uint64_t count = load(&metrics->requests[template][i]);
            if (count > 0 && i < METRICS_STATUSES - 1) {
                strbuf_printf(buf, "%s{route=\"%s\",status=\"%d\"} %" PRIu64 "\n", name, route,
                              statuses[i], count);
            } else if (count > 0) {
                strbuf_printf(buf, "%s{route=\"%s\",status=\"other\"} %" PRIu64 "\n", name, route,
                              count);
            }
        }
    }
}

static void print_durations(struct metrics *metrics, struct strbuf *buf)
{
    static const char name[] = "smirror_http_request_duration_seconds";
    metrics_print_head(buf, name, "histogram",
                       "Time from the request line to the end of the answer, by route.");
    for (unsigned template = 0; template <ROUTE_TEMPLATES; template ++) {
        char route[64];
        uint64_t counts[METRICS_BUCKETS + 1];
        uint64_t total = 0;
        for (unsigned i = 0; i <= METRICS_BUCKETS; i++) {
            counts[i] = load(&metrics->buckets[template][i]);
            total += counts[i];
        }
        if (total == 0) {
            continue;
        }
        route_template_text(template, route, sizeof(route));
        uint64_t below = 0;
        for (unsigned i = 0; i < METRICS_BUCKETS; i++) {
            below += counts[i];
            strbuf_printf(buf, "%s_bucket{route=\"%s\",le=\"%g\"} %" PRIu64 "\n", name, route,
                          (double)bucket_limits_ns[i] / 1e9, below);
        }
        strbuf_printf(buf, "%s_bucket{route=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name, route, total);
        strbuf_printf(buf, "%s_sum{route=\"%s\"} %.9f\n", name, route,
                      (double)load(&metrics->seconds_ns[template]) / 1e9);
        strbuf_printf(buf, "%s_count{route=\"%s\"} %" PRIu64 "\n", name, route, total);
    }
}

void metrics_print(struct metrics *metrics, struct strbuf *buf)
{
    print_requests(metrics, buf);
    print_durations(metrics, buf);
    metrics_print_value(buf, "smirror_http_requests_in_flight", "gauge",
                        "Requests that have begun and not ended.",
                        (double)load(&metrics->in_flight));
    metrics_print_value(buf, "smirror_http_requests_waiting", "gauge",
                        "Requests that wait for control or for the end of a job.",
                        (double)load(&metrics->waiting));
}
