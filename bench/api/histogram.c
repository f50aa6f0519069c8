// SPDX-License-Identifier: Apache-2.0
#include "bench/api/histogram.h"

/* Values below HISTOGRAM_STEPS have a slot each; above, the power of two chooses a row of slots and
 * the bits after the highest one the slot within it. */
static unsigned slot_of(uint64_t ns)
{
    if (ns < HISTOGRAM_STEPS) {
        return (unsigned)ns;
    }
    unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - HISTOGRAM_BITS;
    return (shift + 1) * HISTOGRAM_STEPS + (unsigned)((ns >> shift) - HISTOGRAM_STEPS);
}

/* The highest value that falls into a slot. */
static uint64_t slot_end(unsigned slot)
{
    if (slot < HISTOGRAM_STEPS) {
        return slot;
    }
    unsigned shift = slot / HISTOGRAM_STEPS - 1;
    uint64_t first = (uint64_t)(slot % HISTOGRAM_STEPS + HISTOGRAM_STEPS) << shift;
    return first + ((uint64_t)1 << shift) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t ns)
{
    histogram->slots[slot_of(ns)]++;
    histogram->count++;
    histogram->sum_ns += (double)ns;
    if (ns > histogram->max_ns) {
        histogram->max_ns = ns;
    }
}

uint64_t histogram_quantile(const struct histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)histogram->count + 0.999999);
    uint64_t seen = 0;
    for (unsigned slot = 0; slot < HISTOGRAM_SLOTS; slot++) {
        seen += histogram->slots[slot];
        if (seen > 0 && seen >= wanted) {
            uint64_t end = slot_end(slot);
            return end < histogram->max_ns ? end : histogram->max_ns;
        }
    }
    return 0;
}

void histogram_print_json(const struct histogram *histogram, const char *name, FILE *out)
{
    static const struct {
        const char *name;
        double share;
    } quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};

    fprintf(out, "\"%s\":{\"mean\":%.1f", name,
            histogram->count > 0 ? histogram->sum_ns / (double)histogram->count / 1e3 : 0.0);
    for (unsigned i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        fprintf(out, ",\"%s\":%.1f", quantiles[i].name,
                (double)histogram_quantile(histogram, quantiles[i].share) / 1e3);
    }
    fprintf(out, ",\"max\":%.1f}", (double)histogram->max_ns / 1e3);
}
