// SPDX-License-Identifier: Apache-2.0
#include "block/layer_format.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/slice.h"
#include "block/layer.h"

static const char header_magic[8] = "SMIRLAYR";
enum { VERSION = 1, RECORD_MAGIC = 0x474f4c53, PAGE_MAGIC = 0x50414d53, FLAG_DONE = 1 };

const char *granule_state_name(enum granule_state state)
{
    static const char *const names[] = {"absent", "data", "zero"};
    CHECK(state < ARRAY_LEN(names));
    return names[state];
}

/* Of len bytes, the four at crc_at counted as zero. */
static uint32_t checksum(const uint8_t *data, size_t len, size_t crc_at)
{
    static const uint8_t zero[4];
    uint32_t crc = crc32c(0, data, crc_at);
    crc = crc32c(crc, zero, sizeof(zero));
    return crc32c(crc, data + crc_at + 4, len - crc_at - 4);
}

enum {
    H_VERSION = 8,
    H_CRC = 12,
    H_GENERATION = 16,
    H_ID = 24,
    H_SIZE = 40,
    H_GRANULE = 48,
    H_LOG_HALF = 52,
    H_LOG = 56,
    H_MAP = 64,
    H_DATA = 72,
    H_END = 80,
};

void layer_header_encode(const struct layer_header *header, uint8_t block[LAYER_BLOCK])
{
    memset(block, 0, LAYER_BLOCK);
    memcpy(block, header_magic, sizeof(header_magic));
    put_le32(block + H_VERSION, VERSION);
    put_le64(block + H_GENERATION, header->generation);
    memcpy(block + H_ID, header->id, 16);
    put_le64(block + H_SIZE, header->size_bytes);
    put_le32(block + H_GRANULE, LAYER_GRANULE);
    put_le32(block + H_LOG_HALF, header->log_half_bytes);
    put_le64(block + H_LOG, LAYER_LOG_OFFSET);
    put_le64(block + H_MAP, LAYER_MAP_OFFSET);
    put_le64(block + H_DATA, LAYER_DATA_OFFSET);
    put_le32(block + H_CRC, checksum(block, LAYER_BLOCK, H_CRC));
}

int layer_header_decode(const uint8_t block[LAYER_BLOCK], struct layer_header *ret_header,
                        const char **ret_why)
{
    if (memcmp(block, header_magic, sizeof(header_magic)) != 0) {
        *ret_why = "it is not a layer file";
        return -EILSEQ;
    }
    if (get_le32(block + H_CRC) != checksum(block, LAYER_BLOCK, H_CRC)) {
        *ret_why = "the checksum of its header is wrong";
        return -EILSEQ;
    }
    if (get_le32(block + H_VERSION) != VERSION) {
        *ret_why = "its format version is not known";
        return -EILSEQ;
    }
    struct layer_header header = {
        .generation = get_le64(block + H_GENERATION),
        .size_bytes = get_le64(block + H_SIZE),
        .log_half_bytes = get_le32(block + H_LOG_HALF),
    };
    memcpy(header.id, block + H_ID, 16);
    if (get_le32(block + H_GRANULE) != LAYER_GRANULE ||
        get_le64(block + H_LOG) != LAYER_LOG_OFFSET ||
        get_le64(block + H_MAP) != LAYER_MAP_OFFSET ||
        get_le64(block + H_DATA) != LAYER_DATA_OFFSET ||
        !mem_is_zero(block + H_END, LAYER_BLOCK - H_END) || header.size_bytes == 0 ||
        header.size_bytes > LAYER_MAX_BYTES || header.size_bytes % 512 != 0 ||
        header.log_half_bytes < LAYER_LOG_HALF_MIN || header.log_half_bytes > LAYER_LOG_HALF_MAX ||
        header.log_half_bytes % LAYER_BLOCK != 0) {
        *ret_why = "its header has values that version 1 does not allow";
        return -EILSEQ;
    }
    *ret_header = header;
    return 0;
}

enum {
    R_CRC = 4,
    R_EPOCH = 8,
    R_SEQUENCE = 16,
    R_ID = 24,
    R_ENTRIES = 40,
    R_FLAGS = 44,
    R_END = 48,
};

size_t layer_record_bytes(uint32_t n_entries)
{
    size_t len = LAYER_RECORD_HEAD + (size_t)n_entries * LAYER_ENTRY_BYTES;
    return (len + LAYER_BLOCK - 1) / LAYER_BLOCK * LAYER_BLOCK;
}

void layer_record_encode(const struct layer_record *record, const uint8_t id[16],
                         const struct layer_entry *entries, uint8_t *out)
{
    size_t len = layer_record_bytes(record->n_entries);
    memset(out, 0, len);
    put_le32(out, RECORD_MAGIC);
    put_le64(out + R_EPOCH, record->epoch);
    put_le64(out + R_SEQUENCE, record->sequence);
    memcpy(out + R_ID, id, 16);
    put_le32(out + R_ENTRIES, record->n_entries);
    put_le32(out + R_FLAGS, record->checkpoint_done ? FLAG_DONE : 0);
    uint8_t *at = out + LAYER_RECORD_HEAD;
    for (uint32_t i = 0; i < record->n_entries; i++, at += LAYER_ENTRY_BYTES) {
        put_le64(at, entries[i].first);
        put_le32(at + 8, entries[i].count);
        put_le32(at + 12, entries[i].state);
    }
    put_le32(out + R_CRC, checksum(out, len, R_CRC));
}

struct layer_entry layer_record_entry(const uint8_t *data, uint32_t index)
{
    const uint8_t *at = data + LAYER_RECORD_HEAD + (size_t)index * LAYER_ENTRY_BYTES;
    return (struct layer_entry){
        .first = get_le64(at), .count = get_le32(at + 8), .state = get_le32(at + 12)};
}

int layer_record_decode(const uint8_t *data, size_t len, const uint8_t id[16], uint64_t n_granules,
                        struct layer_record *ret_record)
{
    if (len < LAYER_BLOCK || get_le32(data) != RECORD_MAGIC || memcmp(data + R_ID, id, 16) != 0) {
        return -EILSEQ;
    }
    struct layer_record record = {
        .epoch = get_le64(data + R_EPOCH),
        .sequence = get_le64(data + R_SEQUENCE),
        .checkpoint_done = get_le32(data + R_FLAGS) & FLAG_DONE,
        .n_entries = get_le32(data + R_ENTRIES),
    };
    size_t bytes = layer_record_bytes(record.n_entries);
    if (bytes > len || get_le32(data + R_CRC) != checksum(data, bytes, R_CRC) ||
        record.epoch == 0 || record.epoch == UINT64_MAX || get_le32(data + R_FLAGS) > FLAG_DONE ||
        !mem_is_zero(data + R_END, LAYER_RECORD_HEAD - R_END)) {
        return -EILSEQ;
    }
    for (uint32_t i = 0; i < record.n_entries; i++) {
        struct layer_entry entry = layer_record_entry(data, i);
        if (entry.count == 0 || entry.state > GRANULE_ZERO || entry.first >= n_granules ||
            entry.count > n_granules - entry.first) {
            return -EILSEQ;
        }
    }
    *ret_record = record;
    return 0;
}

struct chain {
    uint64_t epoch; /* 0: no record */
    uint64_t next_sequence;
    size_t len;
    bool done;
};

static void chain_follow(const uint8_t *half, size_t half_bytes, unsigned which,
                         const uint8_t id[16], uint64_t n_granules, struct chain *chain)
{
    struct layer_record record;
    *chain = (struct chain){0};
    while (layer_record_decode(half + chain->len, half_bytes - chain->len, id, n_granules,
                               &record) == 0 &&
           record.epoch % 2 == which && record.sequence == chain->next_sequence &&
           (chain->epoch == 0 || record.epoch == chain->epoch)) {
        chain->epoch = record.epoch;
        chain->next_sequence++;
        chain->len += layer_record_bytes(record.n_entries);
        chain->done |= record.checkpoint_done;
    }
}

/* Records are written one at a time, each after the one before it is on the disk. So behind the
 * end of a chain there are only older epochs. */
static bool chain_is_broken(const uint8_t *half, size_t half_bytes, const uint8_t id[16],
                            uint64_t n_granules, const struct chain *chain, uint64_t latest)
{
    struct layer_record record;
    for (size_t at = chain->len; at < half_bytes; at += LAYER_BLOCK) {
        if (get_le32(half + at) == RECORD_MAGIC &&
            layer_record_decode(half + at, half_bytes - at, id, n_granules, &record) == 0 &&
            (record.epoch == chain->epoch || record.epoch > latest)) {
            return true;
        }
    }
    return false;
}

int layer_log_scan(const uint8_t *halves, size_t half_bytes, const uint8_t id[16],
                   uint64_t n_granules, struct layer_log *ret_log, const char **ret_why)
{
    struct chain chains[2];
    for (unsigned i = 0; i < 2; i++) {
        chain_follow(halves + i * half_bytes, half_bytes, i, id, n_granules, &chains[i]);
    }
    unsigned newer = chains[1].epoch > chains[0].epoch;
    uint64_t latest = chains[newer].epoch;
    for (unsigned i = 0; i < 2; i++) {
        if (chain_is_broken(halves + i * half_bytes, half_bytes, id, n_granules, &chains[i],
                            latest)) {
            *ret_why = "its log is damaged";
            return -EILSEQ;
        }
    }
    struct layer_log log = {.epoch = 1};
    if (latest > 0) {
        const struct chain *new = &chains[newer];
        const struct chain *old = &chains[!newer];
        if (old->epoch && old->epoch != latest - 1) {
            *ret_why = "the halves of its log do not follow each other";
            return -EILSEQ;
        }
        log.epoch = latest;
        log.sequence = new->next_sequence;
        log.tail = new->len;
        log.checkpoint_done = new->done;
        if (old->epoch) {
            log.order[0] = halves + !newer * half_bytes;
            log.len[0] = old->len;
        }
        log.order[1] = halves + newer * half_bytes;
        log.len[1] = new->len;
    }
    *ret_log = log;
    return 0;
}

uint64_t layer_slot_offset(uint64_t page, unsigned slot)
{
    return LAYER_MAP_OFFSET + (page * 2 + slot) * LAYER_BLOCK;
}

enum { P_CRC = 4, P_GENERATION = 8, P_PAGE = 16, P_ID = 24, P_END = 40 };

void layer_page_seal(uint8_t block[LAYER_BLOCK], const uint8_t id[16], uint64_t page,
                     uint64_t generation)
{
    memset(block, 0, LAYER_PAGE_HEAD);
    put_le32(block, PAGE_MAGIC);
    put_le64(block + P_GENERATION, generation);
    put_le64(block + P_PAGE, page);
    memcpy(block + P_ID, id, 16);
    put_le32(block + P_CRC, checksum(block, LAYER_BLOCK, P_CRC));
}

enum layer_slot layer_page_check(const uint8_t block[LAYER_BLOCK], const uint8_t id[16],
                                 uint64_t page, uint64_t *ret_generation)
{
    if (mem_is_zero(block, LAYER_BLOCK)) {
        return LAYER_SLOT_EMPTY;
    }
    if (get_le32(block) != PAGE_MAGIC ||
        get_le32(block + P_CRC) != checksum(block, LAYER_BLOCK, P_CRC) ||
        get_le64(block + P_PAGE) != page || get_le64(block + P_GENERATION) == 0 ||
        memcmp(block + P_ID, id, 16) != 0 || !mem_is_zero(block + P_END, LAYER_PAGE_HEAD - P_END)) {
        return LAYER_SLOT_BAD;
    }
    for (size_t i = LAYER_PAGE_HEAD; i < LAYER_BLOCK; i++) {
        if (block[i] & (block[i] >> 1) & 0x55) {
            return LAYER_SLOT_BAD; /* state 3 */
        }
    }
    *ret_generation = get_le64(block + P_GENERATION);
    return LAYER_SLOT_VALID;
}
