// SPDX-License-Identifier: Apache-2.0
/*
 * The address of our own portal that is shown to clients: one that can be dialled.
 *
 * Thread:    any.
 * Ownership: plain values.
 * Errors:    none: what cannot be found out is shown as it is bound.
 */
#ifndef SERVICE_ADVERTISE_H
#define SERVICE_ADVERTISE_H

#include <stddef.h>

#include "base/sockaddr.h"

/* wanted ("ADDR:PORT", port 0 that of bound) when it is given; bound, unless that is every address of the host; else the best of
 * the host's addresses. */
void advertise_address(const struct sockaddr_storage *bound, const char *wanted,
                       char ret_text[SOCKADDR_TEXT_LEN]);

/* The best of those addresses for others to dial: neither loopback nor link-local, of the family of bound before the other one (but
 * IPv4 for ::, which takes both), the first of equals. NULL when there is none. */
const struct sockaddr_storage *advertise_choose(const struct sockaddr_storage *bound,
                                                const struct sockaddr_storage *addrs, size_t n);

#endif
