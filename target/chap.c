// SPDX-License-Identifier: Apache-2.0
#include "target/chap.h"

#include <ctype.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "target/target.h"

/* Strongest first. */
static const struct {
    unsigned algorithm;
    unsigned policy;
    gnutls_digest_algorithm_t digest;
    size_t len;
} algorithms[] = {
    {CHAP_SHA3_256, TARGET_CHAP_SHA3_256, GNUTLS_DIG_SHA3_256, 32},
    {CHAP_SHA256, TARGET_CHAP_SHA256, GNUTLS_DIG_SHA256, 32},
    {CHAP_SHA1, TARGET_CHAP_SHA1, GNUTLS_DIG_SHA1, 20},
    {CHAP_MD5, TARGET_CHAP_MD5, GNUTLS_DIG_MD5, 16},
};

static bool list_has(const char *list, unsigned number)
{
    for (const char *at = list; *at;) {
        char *end;
        unsigned long value = strtoul(at, &end, 10);
        if (end != at && (*end == ',' || *end == '\0') && value == number) {
            return true;
        }
        at += strcspn(at, ",");
        at += *at == ',';
    }
    return false;
}

unsigned chap_choose(const char *list, unsigned policy)
{
    for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
        if ((policy & algorithms[i].policy) && list_has(list, algorithms[i].algorithm)) {
            return algorithms[i].algorithm;
        }
    }
    return 0;
}

size_t chap_response_len(unsigned algorithm)
{
    for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
        if (algorithms[i].algorithm == algorithm) {
            return algorithms[i].len;
        }
    }
    return 0;
}

int chap_response(unsigned algorithm, uint8_t id, const char *secret, const uint8_t *challenge,
                  size_t challenge_len, uint8_t ret_response[CHAP_MAX_RESPONSE])
{
    for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
        if (algorithms[i].algorithm != algorithm) {
            continue;
        }
        gnutls_hash_hd_t hash;
        if (gnutls_hash_init(&hash, algorithms[i].digest) < 0) {
            return -EOPNOTSUPP;
        }
        int err = gnutls_hash(hash, &id, 1);
        err |= gnutls_hash(hash, secret, strlen(secret));
        err |= gnutls_hash(hash, challenge, challenge_len);
        gnutls_hash_deinit(hash, ret_response);
        return err < 0 ? -EOPNOTSUPP : 0;
    }
    return -EOPNOTSUPP;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static int decode_hex(const char *text, uint8_t *out, size_t size, size_t *ret_len)
{
    size_t digits = strlen(text);
    size_t len = (digits + 1) / 2;
    if (digits == 0 || len > size) {
        return -EINVAL;
    }
    /* An odd number of digits has a silent zero in front. */
    unsigned byte = 0;
    for (size_t i = 0; i < digits; i++) {
        int digit = hex_digit(text[i]);
        if (digit < 0) {
            return -EINVAL;
        }
        byte = byte << 4 | (unsigned)digit;
        if ((digits - i) % 2 == 1) {
            out[len - 1 - (digits - i - 1) / 2] = (uint8_t)byte;
        }
    }
    *ret_len = len;
    return 0;
}

static int decode_base64(const char *text, uint8_t *out, size_t size, size_t *ret_len)
{
    size_t len = 0;
    uint32_t bits = 0;
    unsigned n_bits = 0;
    size_t i = 0;
    for (; text[i] && text[i] != '='; i++) {
        int digit = base64_digit(text[i]);
        if (digit < 0) {
            return -EINVAL;
        }
        bits = bits << 6 | (uint32_t)digit;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            if (len == size) {
                return -EINVAL;
            }
            out[len++] = (uint8_t)(bits >> n_bits);
        }
    }
    size_t padding = strlen(text + i);
    if (padding > 2 || strspn(text + i, "=") != padding || len == 0) {
        return -EINVAL;
    }
    *ret_len = len;
    return 0;
}

int chap_decode(const char *text, uint8_t *out, size_t size, size_t *ret_len)
{
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        return decode_hex(text + 2, out, size, ret_len);
    }
    if (text[0] == '0' && (text[1] == 'b' || text[1] == 'B')) {
        return decode_base64(text + 2, out, size, ret_len);
    }
    return -EINVAL;
}

void chap_encode(const uint8_t *data, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    *out++ = '0';
    *out++ = 'x';
    for (size_t i = 0; i < len; i++) {
        *out++ = digits[data[i] >> 4];
        *out++ = digits[data[i] & 15];
    }
    *out = '\0';
}

bool chap_equal(const uint8_t *a, const uint8_t *b, size_t len)
{
    return gnutls_memcmp(a, b, len) == 0;
}
