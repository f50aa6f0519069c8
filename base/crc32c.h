// SPDX-License-Identifier: Apache-2.0
/*
 * CRC32C (Castagnoli), as iSCSI digests and our files use it.
 *
 * Thread:    any.
 * Ownership: none.
 * Errors:    none.
 */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Of one piece: crc32c(0, data, len). Of several: hand the result of one on to the next. The bytes
 * "123456789" give 0xe3069283. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);
/* The same without the processor's help; for tests. */
uint32_t crc32c_table(uint32_t crc, const void *data, size_t len);

#endif
