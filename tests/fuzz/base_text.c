// SPDX-License-Identifier: Apache-2.0
/*
 * The parsers of base/ that read what clients write: times, durations, addresses, ranges. What they
 * accept must come back the same from its own text.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/sockaddr.h"
#include "base/timefmt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_times(const char *text)
{
    uint64_t ms;
    uint64_t back;
    char out[TIMEFMT_SIZE];
    if (timefmt_parse_time(text, &ms) == 0) {
        timefmt_rfc3339(ms, out);
        /* An offset may carry the last day of 9999 into a year of five digits. */
        CHECK(ms > 253402300799999 || (timefmt_parse_time(out, &back) == 0 && back == ms));
    }
    if (timefmt_parse_duration(text, &ms) == 0) {
        timefmt_duration(ms, out);
        CHECK(timefmt_parse_duration(out, &back) == 0 && back == ms);
    }
}

static void fuzz_addresses(const char *text)
{
    struct sockaddr_storage addr;
    struct sockaddr_storage back;
    char out[SOCKADDR_TEXT_LEN];
    if (sockaddr_parse(text, 3260, &addr) == 0) {
        sockaddr_format(&addr, out);
        CHECK(sockaddr_parse(out, -1, &back) == 0 && sockaddr_equal(&addr, &back));
        CHECK(!sockaddr_is_loopback(&addr) || !sockaddr_is_link_local(&addr));
    }
    struct cidr_list list;
    if (cidr_list_parse(text, &list) == 0) {
        sockaddr_parse("10.1.2.3:1", -1, &addr);
        cidr_list_match(&list, &addr);
        cidr_list_fini(&list);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    CHECK(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    fuzz_times(text);
    fuzz_addresses(text);
    free(text);
    return 0;
}
