// SPDX-License-Identifier: Apache-2.0
#include "api/utf8.h"

#include <stdint.h>

size_t utf8_char(const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;
    if (len == 0) {
        return 0;
    }
    if (p[0] < 0x80) {
        return 1;
    }
    size_t size = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || len < size) {
        return 0;
    }
    /* The second byte carries the limits: overlong forms, surrogates, the end of Unicode. */
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    if (p[0] == 0xe0) {
        low = 0xa0;
    } else if (p[0] == 0xed) {
        high = 0x9f;
    } else if (p[0] == 0xf0) {
        low = 0x90;
    } else if (p[0] == 0xf4) {
        high = 0x8f;
    }
    if (p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < size; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return size;
}

bool utf8_valid(const char *text, size_t len)
{
    while (len > 0) {
        size_t size = utf8_char(text, len);
        if (size == 0) {
            return false;
        }
        text += size;
        len -= size;
    }
    return true;
}
