// SPDX-License-Identifier: Apache-2.0
/*
 * The log of a change map: granules that are marked, behind the marks of regions in the same file.
 *
 *     block    head, then 255 entries of 16 bytes
 *     head     0 generation, random    8 number of the block    12 CRC32C of that, begun with that of the id
 *     entry    0 first granule         8 how many               12 CRC32C of generation, place in the log, and that
 *
 * A region's mark says: anything in it may differ. An entry says: these granules may. Once all marked granules of a
 * region are in the log, and it is idle, the mark may go. Entries are appended by commits, together with marks, never
 * changed, and forgotten all at once, when both sides are equal: block 0 gets another generation. An entry
 * that outlives its granule's difference only makes a copy too many. The log ends at the first entry that is not whole.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/random.h"
#include "replication/change_map_private.h"

uint64_t change_log_offset(const struct change_map *map)
{
    return (2 + map->n_blocks) * BLOCK_BYTES;
}

static uint32_t head_crc(const struct change_map *map, const uint8_t *block)
{
    return crc32c(crc32c(0, map->id, ID_BYTES), block, 12);
}

static uint32_t entry_crc(uint64_t generation, uint64_t place, const uint8_t *entry)
{
    uint8_t seed[16];
    put_le64(seed, generation);
    put_le64(seed + 8, place);
    return crc32c(crc32c(0, seed, sizeof(seed)), entry, 12);
}

static uint8_t *image_block(struct change_map *map, unsigned n)
{
    return map->log_image + (size_t)n * BLOCK_BYTES;
}

static void block_begin(struct change_map *map, unsigned n)
{
    uint8_t *block = image_block(map, n);
    memset(block, 0, BLOCK_BYTES);
    put_le64(block, map->log_generation);
    put_le32(block + 8, (uint32_t)(map->log_at + n));
    put_le32(block + 12, head_crc(map, block));
}

void change_log_begin(struct change_map *map)
{
    map->log_generation = random_unpredictable_u64() | 1;
    map->log_at = 0;
    map->log_n = 0;
    map->log_is_full = false;
    block_begin(map, 0);
    map->log_dirty = true;
}

static bool has_room(const struct change_map *map)
{
    unsigned block = map->log_n / LOG_ENTRIES;
    return block < LOG_COMMIT_BLOCKS && map->log_at + block < map->log_blocks;
}

static bool append(struct change_map *map, uint64_t granule, uint32_t count)
{
    if (!has_room(map)) {
        return false;
    }
    unsigned block = map->log_n / LOG_ENTRIES;
    unsigned at = map->log_n % LOG_ENTRIES;
    if (at == 0) {
        block_begin(map, block);
    }
    uint8_t *entry = image_block(map, block) + (at + 1) * LOG_ENTRY_BYTES;
    put_le64(entry, granule);
    put_le32(entry + 8, count);
    put_le32(entry + 12,
             entry_crc(map->log_generation, (map->log_at + block) * LOG_ENTRIES + at, entry));
    map->log_n++;
    map->log_dirty = true;
    return true;
}

static bool test(const struct granules *set, unsigned granule)
{
    return set->words[granule / 64] >> granule % 64 & 1;
}

/* False: the image is full; what was appended counts. */
static bool region_append(struct change_map *map, struct region *region)
{
    struct granules set = change_map_unlogged(map, region);
    if (region->log_generation != map->log_generation) {
        region->log_generation = map->log_generation;
        region->logged = region->logging = (struct granules){0};
    }
    for (unsigned i = 0; i < REGION_GRANULES;) {
        unsigned end = i;
        while (end < REGION_GRANULES && test(&set, end)) {
            end++;
        }
        if (end == i) {
            i++;
            continue;
        }
        if (!append(map, region->index * REGION_GRANULES + i, end - i)) {
            return false;
        }
        for (; i < end; i++) {
            region->logging.words[i / 64] |= UINT64_C(1) << i % 64;
        }
    }
    return true;
}

void change_log_prepare(struct change_map *map)
{
    if (map->log_wanted && !list_empty(&map->unlogged) && map->log_generation == 0) {
        change_log_begin(map);
    }
    struct list *link;
    while (map->log_wanted && !map->log_is_full && (link = list_first(&map->unlogged)) != NULL) {
        struct region *region = list_entry(link, struct region, unlogged_link);
        list_remove(link);
        list_push_back(&map->logging, link);
        if (!region_append(map, region)) {
            break; /* the rest with the next commit, which finds it unlogged */
        }
    }
    map->log_wanted = false;
    map->log_writing = map->log_dirty;
    map->log_dirty = false;
}

bool change_log_blocks(const struct change_map *map, uint64_t *ret_first, uint64_t *ret_n)
{
    *ret_first = map->log_at;
    *ret_n = map->log_n == 0 ? 1 : (map->log_n + LOG_ENTRIES - 1) / LOG_ENTRIES;
    return map->log_writing;
}

void change_log_committed(struct change_map *map, int status)
{
    struct list *link;
    while ((link = list_pop_front(&map->logging)) != NULL) {
        struct region *region = list_entry(link, struct region, unlogged_link);
        for (unsigned i = 0; i < REGION_WORDS && !status; i++) {
            region->logged.words[i] |= region->logging.words[i];
        }
        region->logging = (struct granules){0};
        change_map_place(map, region);
    }
    if (!map->log_writing) {
        return;
    }
    map->log_writing = false;
    if (status) {
        map->log_dirty = true; /* the same again, with the next one */
        return;
    }
    unsigned full = map->log_n / LOG_ENTRIES;
    memmove(map->log_image, image_block(map, full), full < LOG_COMMIT_BLOCKS ? BLOCK_BYTES : 0);
    map->log_at += full;
    map->log_n %= LOG_ENTRIES;
    map->log_is_full = map->log_at >= map->log_blocks;
    if (!list_empty(&map->unlogged) && full > 0 && !map->log_is_full) {
        map->log_wanted = map->lazy = true; /* there is more */
    }
}

bool change_log_load(struct change_map *map, uint64_t index, const uint8_t *block, bool stale)
{
    uint64_t generation = get_le64(block);
    if (generation == 0 || get_le32(block + 8) != index ||
        get_le32(block + 12) != head_crc(map, block) ||
        (index > 0 && generation != map->log_generation)) {
        return false;
    }
    map->log_generation = generation;
    map->log_at = index;
    memcpy(map->log_image, block, BLOCK_BYTES);
    for (map->log_n = 0; map->log_n < LOG_ENTRIES; map->log_n++) {
        const uint8_t *entry = block + (map->log_n + 1) * LOG_ENTRY_BYTES;
        uint64_t granule = get_le64(entry);
        uint32_t count = get_le32(entry + 8);
        if (get_le32(entry + 12) !=
                entry_crc(generation, index * LOG_ENTRIES + map->log_n, entry) ||
            count == 0 || granule >= map->n_granules || count > map->n_granules - granule ||
            granule % REGION_GRANULES + count > REGION_GRANULES) {
            break;
        }
        struct granules set = {0};
        for (uint32_t i = 0; i < count; i++) {
            unsigned at = (unsigned)(granule % REGION_GRANULES) + i;
            set.words[at / 64] |= UINT64_C(1) << at % 64;
        }
        change_map_add_granules(map, granule / REGION_GRANULES, &set, stale);
    }
    /* What is behind the end is not looked at again. */
    memset(map->log_image + (map->log_n + 1) * LOG_ENTRY_BYTES, 0,
           BLOCK_BYTES - (map->log_n + 1) * LOG_ENTRY_BYTES);
    if (map->log_n < LOG_ENTRIES) {
        return false;
    }
    map->log_at = index + 1;
    map->log_n = 0;
    map->log_is_full = map->log_at >= map->log_blocks;
    return true;
}
