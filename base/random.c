// SPDX-License-Identifier: Apache-2.0
#include "base/random.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/check.h"

static uint64_t rotate_left(uint64_t x, unsigned bits)
{
    return (x << bits) | (x >> (64 - bits));
}

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void random_seed(struct random *random, uint64_t seed)
{
    for (size_t i = 0; i < ARRAY_LEN(random->state); i++) {
        random->state[i] = splitmix64(&seed);
    }
}

uint64_t random_u64(struct random *random)
{
    uint64_t *s = random->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t random_below(struct random *random, uint64_t bound)
{
    CHECK(bound > 0);
    /* The values below 2^64 mod bound would favour small results. */
    uint64_t unfair = (0 - bound) % bound;
    uint64_t value;
    do {
        value = random_u64(random);
    } while (value < unfair);
    return value % bound;
}

bool random_chance(struct random *random, uint64_t numerator, uint64_t denominator)
{
    return random_below(random, denominator) < numerator;
}

void random_fill(struct random *random, void *data, size_t len)
{
    uint8_t *out = data;
    while (len > 0) {
        uint64_t value = random_u64(random);
        size_t n = len < sizeof(value) ? len : sizeof(value);
        memcpy(out, &value, n);
        out += n;
        len -= n;
    }
}

void random_bytes(void *data, size_t len)
{
    uint8_t *out = data;
    while (len > 0) {
        ssize_t n = getrandom(out, len, 0);
        if (n < 0) {
            CHECK(errno == EINTR);
            continue;
        }
        out += n;
        len -= (size_t)n;
    }
}

uint64_t random_unpredictable_u64(void)
{
    uint64_t value;
    random_bytes(&value, sizeof(value));
    return value;
}

void random_id_hex(char *out, size_t digits)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t bytes[32];
    for (size_t i = 0; i < digits; i++) {
        if (i % (2 * sizeof(bytes)) == 0) {
            random_bytes(bytes, sizeof(bytes));
        }
        uint8_t byte = bytes[i / 2 % sizeof(bytes)];
        out[i] = hex[i % 2 ? byte & 15 : byte >> 4];
    }
    out[digits] = '\0';
}
