// SPDX-License-Identifier: Apache-2.0
/*
 * A run of n granules covers exactly one granule whose number is n - 1 modulo n, so only those are
 * looked at, and what surrounds one that is zero. Data that is not zero costs one look at its first
 * bytes per `shortest` bytes instead of one per granule.
 */
#include "replication/zero_scan.h"

#include "base/check.h"
#include "base/slice.h"

static void add_run(struct zero_run *runs, unsigned *n_runs, size_t offset, size_t end, bool zero)
{
    if (offset < end) {
        runs[(*n_runs)++] = (struct zero_run){.offset = offset, .len = end - offset, .zero = zero};
    }
}

unsigned zero_scan(const void *data, size_t len, size_t granule, size_t shortest,
                   struct zero_run *runs, unsigned max_runs)
{
    CHECK(max_runs >= 1 && granule > 0 && shortest >= granule && shortest % granule == 0);
    const uint8_t *bytes = data;
    unsigned n_runs = 0;
    size_t data_start = 0;
    size_t probe = shortest - granule;

    /* A buffer that is all zeros is one run, however short. */
    if (len > 0 && bytes[0] == 0 && mem_is_zero(data, len)) {
        runs[0] = (struct zero_run){.len = len, .zero = true};
        return 1;
    }
    while (probe < len && n_runs + 3 <= max_runs) {
        size_t probe_end = probe + granule < len ? probe + granule : len;
        if (!mem_is_zero(bytes + probe, probe_end - probe)) {
            probe += shortest;
            continue;
        }
        size_t start = probe;
        while (start > data_start && mem_is_zero(bytes + start - granule, granule)) {
            start -= granule;
        }
        size_t end = probe_end;
        while (end < len) {
            size_t next = end + granule < len ? end + granule : len;
            if (!mem_is_zero(bytes + end, next - end)) {
                break;
            }
            end = next;
        }
        if (end - start >= shortest) {
            add_run(runs, &n_runs, data_start, start, false);
            add_run(runs, &n_runs, start, end, true);
            data_start = end;
        }
        while (probe < end) {
            probe += shortest;
        }
    }
    add_run(runs, &n_runs, data_start, len, false);
    return n_runs;
}
