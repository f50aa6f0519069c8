// SPDX-License-Identifier: Apache-2.0
/*
 * Points in time and durations as text: RFC 3339, ISO 8601, and the 25 characters of a CIM
 * datetime.
 *
 * Thread:    any.
 * Ownership: plain values; points are milliseconds since 1970 UTC, durations are milliseconds.
 * Errors:    -EINVAL for text of another form, -ERANGE for a value that does not fit.
 */
#ifndef BASE_TIMEFMT_H
#define BASE_TIMEFMT_H

#include <stdint.h>

enum { TIMEFMT_SIZE = 64 }; /* room for every text written here */

/* "2025-01-02T03:04:05.678Z". */
void timefmt_rfc3339(uint64_t ms, char out[TIMEFMT_SIZE]);
/* "P1DT2H", "PT30S", "PT0.5S", "PT0S". */
void timefmt_duration(uint64_t ms, char out[TIMEFMT_SIZE]);

/* RFC 3339 with any offset, or CIM "yyyymmddhhmmss.mmmmmmsutc". Parts of milliseconds are dropped.
 */
int timefmt_parse_time(const char *text, uint64_t *ret_ms);
/*
 * ISO 8601 ("P2W", "P1DT2H3M4.5S"; no years or months, whose length varies), short ("500ms", "30s",
 * "5m", "2h", "1d"), or CIM "ddddddddhhmmss.mmmmmm:000". Parts of milliseconds are rounded up: a
 * wait that is not zero stays so.
 */
int timefmt_parse_duration(const char *text, uint64_t *ret_ms);

#endif
