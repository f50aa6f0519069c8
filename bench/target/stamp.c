// SPDX-License-Identifier: Apache-2.0
#include "stamp.h"

#include <string.h>

struct stamp {
    uint64_t sector;
    uint32_t sequence;
    uint32_t magic;
};
#define MAGIC 0x726d6c53u

static const uint8_t *noise(void)
{
    static uint8_t bytes[STAMP_BLOCK];
    if (bytes[0] == 0) {
        uint64_t x = 0x9e3779b97f4a7c15u;
        for (size_t i = 0; i < sizeof(bytes); i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            bytes[i] = (uint8_t)(x >> 32) | 1;
        }
    }
    return bytes;
}

void stamp_prepare(uint8_t *data, size_t len)
{
    for (size_t at = 0; at < len; at += STAMP_BLOCK) {
        memcpy(data + at, noise(), STAMP_BLOCK);
    }
}

static struct stamp stamp_of(uint64_t block, unsigned sector, uint32_t sequence)
{
    return (struct stamp){.sector = block * (STAMP_BLOCK / STAMP_SECTOR) + sector,
                          .sequence = sequence,
                          .magic = MAGIC};
}

void stamp_put(uint8_t *data, uint64_t block, uint32_t sequence)
{
    for (unsigned i = 0; i < STAMP_BLOCK / STAMP_SECTOR; i++) {
        struct stamp stamp = stamp_of(block, i, sequence);
        memcpy(data + (size_t)i * STAMP_SECTOR, &stamp, sizeof(stamp));
    }
}

bool stamp_check(const uint8_t *data, uint64_t block, uint32_t sequence)
{
    for (unsigned i = 0; i < STAMP_BLOCK / STAMP_SECTOR; i++) {
        struct stamp stamp = stamp_of(block, i, sequence);
        if (memcmp(data + (size_t)i * STAMP_SECTOR, &stamp, sizeof(stamp)) != 0) {
            return false;
        }
    }
    return true;
}

bool stamp_compare(const uint8_t *data, uint64_t block, uint32_t sequence)
{
    for (unsigned i = 0; i < STAMP_BLOCK / STAMP_SECTOR; i++) {
        size_t at = (size_t)i * STAMP_SECTOR + sizeof(struct stamp);
        if (memcmp(data + at, noise() + at, STAMP_SECTOR - sizeof(struct stamp)) != 0) {
            return false;
        }
    }
    return stamp_check(data, block, sequence);
}
