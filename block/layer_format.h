// SPDX-License-Identifier: Apache-2.0
/*
 * The bytes of a layer file: header, log records, map pages (docs/layer-format.md).
 *
 * Thread:    any; pure functions.
 * Ownership: none.
 * Errors:    0, or -EILSEQ for bytes that are not what they should be; reasons as text.
 */
#ifndef BLOCK_LAYER_FORMAT_H
#define BLOCK_LAYER_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LAYER_BLOCK = 4096, /* header slots, map slots, the unit of log records */
    LAYER_CHUNK_GRANULES = 1024,
    LAYER_CHUNK_BYTES = LAYER_CHUNK_GRANULES / 4,
    LAYER_PAGE_CHUNKS = 15,
    LAYER_PAGE_GRANULES = LAYER_PAGE_CHUNKS * LAYER_CHUNK_GRANULES,
    LAYER_PAGE_HEAD = 256,
    LAYER_RECORD_HEAD = 64,
    LAYER_ENTRY_BYTES = 16,
    LAYER_LOG_HALF_MIN = 2 * LAYER_BLOCK,
    LAYER_LOG_HALF_MAX = 4 << 20,
};
#define LAYER_LOG_OFFSET  UINT64_C(0x10000)
#define LAYER_MAP_OFFSET  UINT64_C(0x1000000)
#define LAYER_DATA_OFFSET UINT64_C(0x400000000)

enum granule_state {
    GRANULE_ABSENT = 0,
    GRANULE_DATA = 1,
    GRANULE_ZERO = 2,
};
const char *granule_state_name(enum granule_state state);

struct layer_header {
    uint64_t generation;
    uint8_t id[16];
    uint64_t size_bytes;
    uint32_t log_half_bytes;
};

void layer_header_encode(const struct layer_header *header, uint8_t block[LAYER_BLOCK]);
/* -EILSEQ and *ret_why for anything but a valid header of version 1. */
int layer_header_decode(const uint8_t block[LAYER_BLOCK], struct layer_header *ret_header,
                        const char **ret_why);

/* count granules from first on are in state now. */
struct layer_entry {
    uint64_t first;
    uint32_t count;
    uint32_t state;
};

struct layer_record {
    uint64_t epoch;
    uint64_t sequence; /* within the epoch */
    bool checkpoint_done;
    uint32_t n_entries;
};

/* With padding to whole blocks. */
size_t layer_record_bytes(uint32_t n_entries);
void layer_record_encode(const struct layer_record *record, const uint8_t id[16],
                         const struct layer_entry *entries, uint8_t *out);
/* -EILSEQ: no record of this layer begins here. Its entries stay within a volume of
 * n_granules. */
int layer_record_decode(const uint8_t *data, size_t len, const uint8_t id[16], uint64_t n_granules,
                        struct layer_record *ret_record);
struct layer_entry layer_record_entry(const uint8_t *data, uint32_t index);

/* What the two halves of a log say. */
struct layer_log {
    uint64_t epoch;          /* of the next record */
    uint64_t sequence;       /* of the next record; 0: the half is new */
    size_t tail;             /* where it goes in its half, epoch % 2 */
    const uint8_t *order[2]; /* halves to replay, older first; NULL: none */
    size_t len[2];
    bool checkpoint_done; /* false: slots of pages in this log may be half written */
};
/* halves: 2 * half_bytes. -EILSEQ: valid records lie behind an invalid one. */
int layer_log_scan(const uint8_t *halves, size_t half_bytes, const uint8_t id[16],
                   uint64_t n_granules, struct layer_log *ret_log, const char **ret_why);

/* Pages of the map: generation g of a page is in its slot g % 2; generation 0 is a page of zeros
 * that was never written. */
enum layer_slot { LAYER_SLOT_EMPTY, LAYER_SLOT_VALID, LAYER_SLOT_BAD };
uint64_t layer_slot_offset(uint64_t page, unsigned slot);
/* Fills in the head of a page whose bits begin at LAYER_PAGE_HEAD. */
void layer_page_seal(uint8_t block[LAYER_BLOCK], const uint8_t id[16], uint64_t page,
                     uint64_t generation);
enum layer_slot layer_page_check(const uint8_t block[LAYER_BLOCK], const uint8_t id[16],
                                 uint64_t page, uint64_t *ret_generation);

#endif
