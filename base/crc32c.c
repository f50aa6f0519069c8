// SPDX-License-Identifier: Apache-2.0
/*
 * The hardware instruction answers after three cycles but can begin one every cycle, so long data
 * runs as three streams over neighbouring blocks. A stream's state is carried over the blocks
 * behind it by one multiplication with x^(8n) in the field, for which the state is cut into bytes
 * and looked up (shift_table).
 */
#include "base/crc32c.h"

#include <pthread.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* reversed: bit 31 is x^0 */

/* table[k][b]: the state after byte b and k bytes of zero. */
static uint32_t table[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

/* STREAM_BYTES of zeros after a state whose byte i is b: shift_table[i][b]. */
enum { STREAM_BYTES = 1024 };
static uint32_t shift_table[4][256];

static void tables_make(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t state = b;
        for (int bit = 0; bit < 8; bit++) {
            state = (state >> 1) ^ (state & 1 ? POLYNOMIAL : 0);
        }
        table[0][b] = state;
    }
    for (uint32_t b = 0; b < 256; b++) {
        for (int k = 1; k < 8; k++) {
            uint32_t before = table[k - 1][b];
            table[k][b] = (before >> 8) ^ table[0][before & 0xff];
        }
    }
    /* The map is linear: the images of the 32 single bits give all others. */
    uint32_t image[32];
    for (int bit = 0; bit < 32; bit++) {
        uint32_t state = UINT32_C(1) << bit;
        for (int i = 0; i < STREAM_BYTES; i++) {
            state = (state >> 8) ^ table[0][state & 0xff];
        }
        image[bit] = state;
    }
    for (int i = 0; i < 4; i++) {
        for (uint32_t b = 0; b < 256; b++) {
            uint32_t sum = 0;
            for (int bit = 0; bit < 8; bit++) {
                sum ^= b >> bit & 1 ? image[i * 8 + bit] : 0;
            }
            shift_table[i][b] = sum;
        }
    }
}

static uint64_t load64(const uint8_t *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof(word));
    return word;
}

uint32_t crc32c_table(uint32_t crc, const void *data, size_t len)
{
    pthread_once(&tables_once, tables_make);
    const uint8_t *at = data;
    uint32_t state = ~crc;
    for (; len >= 8; at += 8, len -= 8) {
        state ^=
            (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
        state = table[7][state & 0xff] ^ table[6][state >> 8 & 0xff] ^
                table[5][state >> 16 & 0xff] ^ table[4][state >> 24] ^ table[3][at[4]] ^
                table[2][at[5]] ^ table[1][at[6]] ^ table[0][at[7]];
    }
    for (; len > 0; at++, len--) {
        state = (state >> 8) ^ table[0][(state ^ *at) & 0xff];
    }
    return ~state;
}

#if defined(__x86_64__)

static uint32_t shift_stream(uint32_t state)
{
    return shift_table[0][state & 0xff] ^ shift_table[1][state >> 8 & 0xff] ^
           shift_table[2][state >> 16 & 0xff] ^ shift_table[3][state >> 24];
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *at,
                                                               size_t len)
{
    uint64_t state = (uint32_t)~crc;
    if (len >= 3 * STREAM_BYTES) {
        pthread_once(&tables_once, tables_make);
    }
    while (len >= 3 * STREAM_BYTES) {
        uint64_t second = 0;
        uint64_t third = 0;
        for (int i = 0; i < STREAM_BYTES; i += 8) {
            state = __builtin_ia32_crc32di(state, load64(at + i));
            second = __builtin_ia32_crc32di(second, load64(at + STREAM_BYTES + i));
            third = __builtin_ia32_crc32di(third, load64(at + 2 * STREAM_BYTES + i));
        }
        state = shift_stream((uint32_t)state) ^ second;
        state = shift_stream((uint32_t)state) ^ third;
        at += 3 * STREAM_BYTES;
        len -= 3 * STREAM_BYTES;
    }
    for (; len >= 8; at += 8, len -= 8) {
        state = __builtin_ia32_crc32di(state, load64(at));
    }
    for (; len > 0; at++, len--) {
        state = __builtin_ia32_crc32qi((uint32_t)state, *at);
    }
    return ~(uint32_t)state;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    return __builtin_cpu_supports("sse4.2") ? crc32c_sse42(crc, data, len)
                                            : crc32c_table(crc, data, len);
}

#else

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    return crc32c_table(crc, data, len);
}

#endif
