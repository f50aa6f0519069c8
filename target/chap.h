// SPDX-License-Identifier: Apache-2.0
/*
 * CHAP as iSCSI uses it (RFC 7143, 12.1.3; RFC 1994): responses, and binary values as text.
 *
 * Thread:    any.
 * Ownership: plain values.
 * Errors:    -EINVAL for text that is no binary value or too long; -EOPNOTSUPP for an algorithm that
 *            the crypto library refuses (MD5 under FIPS, say).
 */
#ifndef TARGET_CHAP_H
#define TARGET_CHAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CHAP_MAX_RESPONSE = 32,
    CHAP_MAX_CHALLENGE = 1024,
    CHAP_CHALLENGE = 32, /* of ours */
};

/* Numbers of CHAP_A. */
enum chap_algorithm {
    CHAP_MD5 = 5,
    CHAP_SHA1 = 6,
    CHAP_SHA256 = 7,
    CHAP_SHA3_256 = 8,
};

/* The strongest of the offered list ("8,7,5") that policy (TARGET_CHAP_…) allows; 0 if none. */
unsigned chap_choose(const char *list, unsigned policy);
size_t chap_response_len(unsigned algorithm);
int chap_response(unsigned algorithm, uint8_t id, const char *secret, const uint8_t *challenge,
                  size_t challenge_len, uint8_t ret_response[CHAP_MAX_RESPONSE]);

/* "0x…" or "0b…" (base64). */
int chap_decode(const char *text, uint8_t *out, size_t size, size_t *ret_len);
/* "0x…"; out has 2 * len + 3 bytes. */
void chap_encode(const uint8_t *data, size_t len, char *out);
/* In constant time. */
bool chap_equal(const uint8_t *a, const uint8_t *b, size_t len);

#endif
