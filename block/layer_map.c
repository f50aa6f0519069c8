// SPDX-License-Identifier: Apache-2.0
#include "block/layer_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum {
    MAP_SEGMENT_PAGES = 512,
    TAG = 1,       /* in place of a pointer */
    TAG_STATE = 2, /* times granule_state; 3: unknown */
    TAG_UNKNOWN = TAG | 3 * TAG_STATE,
    TAG_MASK = 7,
    TAG_GENERATION_SHIFT = 3,
    MALLOC_HEAD = 16,
    CACHE_DEFAULT = 48 << 20,
    FLOOR_PER_BYTES = 16 << 10,
    FLOOR_MIN = 16,
    FLOOR_MAX = 1024,
};

static uintptr_t tag_of(enum granule_state state)
{
    return TAG | (uintptr_t)state * TAG_STATE;
}

static enum granule_state state_of(uintptr_t tag)
{
    return (enum granule_state)((tag & TAG_MASK) / TAG_STATE);
}

static bool is_tag(uintptr_t value)
{
    return value & TAG;
}

int layer_cache_new(uint64_t limit_bytes, struct layer_cache **ret_cache)
{
    struct layer_cache *cache = calloc(1, sizeof(*cache));
    if (!cache) {
        return -ENOMEM;
    }
    list_init(&cache->clean);
    cache->limit_bytes = limit_bytes ? limit_bytes : CACHE_DEFAULT;
    cache->floor = cache->limit_bytes / FLOOR_PER_BYTES;
    cache->floor = cache->floor < FLOOR_MIN   ? FLOOR_MIN
                   : cache->floor > FLOOR_MAX ? FLOOR_MAX
                                              : cache->floor;
    *ret_cache = cache;
    return 0;
}

void layer_cache_free(struct layer_cache *cache)
{
    if (cache) {
        CHECK(cache->bytes == 0);
        free(cache);
    }
}

uint64_t layer_cache_bytes(const struct layer_cache *cache)
{
    return cache->bytes;
}

static void *cache_alloc(struct layer_cache *cache, size_t size)
{
    void *memory = calloc(1, size);
    CHECK(memory != NULL);
    cache->bytes += size + MALLOC_HEAD;
    return memory;
}

static void cache_free(struct layer_cache *cache, void *memory, size_t size)
{
    if (memory) {
        cache->bytes -= size + MALLOC_HEAD;
        free(memory);
    }
}

static uint32_t pages_of(uint64_t n_granules)
{
    return (uint32_t)((n_granules + LAYER_PAGE_GRANULES - 1) / LAYER_PAGE_GRANULES);
}

static uint32_t segments_of(uint32_t n_pages)
{
    return (n_pages + MAP_SEGMENT_PAGES - 1) / MAP_SEGMENT_PAGES;
}

void layer_map_init(struct layer_map *map, struct layer_cache *cache, uint64_t n_granules,
                    bool fresh)
{
    *map = (struct layer_map){
        .cache = cache,
        .n_granules = n_granules,
        .n_pages = pages_of(n_granules),
        .n_segments = segments_of(pages_of(n_granules)),
        .initial = fresh ? tag_of(GRANULE_ABSENT) : TAG_UNKNOWN,
    };
    list_init(&map->dirty);
    map->segments = cache_alloc(cache, map->n_segments * sizeof(*map->segments));
}

static uintptr_t entry_of(const struct layer_map *map, uint32_t page)
{
    const uintptr_t *segment = map->segments[page / MAP_SEGMENT_PAGES];
    return segment ? segment[page % MAP_SEGMENT_PAGES] : map->initial;
}

static uintptr_t *entry_place(struct layer_map *map, uint32_t page)
{
    uintptr_t **segment = &map->segments[page / MAP_SEGMENT_PAGES];
    if (!*segment) {
        *segment = cache_alloc(map->cache, MAP_SEGMENT_PAGES * sizeof(**segment));
        for (unsigned i = 0; i < MAP_SEGMENT_PAGES; i++) {
            (*segment)[i] = map->initial;
        }
    }
    return &(*segment)[page % MAP_SEGMENT_PAGES];
}

static void chunk_make_uniform(struct map_page *page, unsigned index, enum granule_state state)
{
    if (!is_tag(page->chunks[index])) {
        cache_free(page->map->cache, (void *)page->chunks[index], LAYER_CHUNK_BYTES);
    }
    page->chunks[index] = tag_of(state);
}

static bool page_is_clean(const struct map_page *page)
{
    return !page->dirty && !page->writing && page->pins == 0;
}

/* Off whatever list it is on. */
static void page_unlink(struct map_page *page)
{
    if (page->cached) {
        page->cached = false;
        page->map->cache->n_clean--;
    }
    list_remove(&page->link);
}

static void page_cache(struct map_page *page)
{
    page_unlink(page);
    page->cached = true;
    page->map->cache->n_clean++;
    list_push_back(&page->map->cache->clean, &page->link);
}

/* value: what stands for the page from now on. */
static void page_drop(struct map_page *page, uintptr_t value)
{
    for (unsigned i = 0; i < LAYER_PAGE_CHUNKS; i++) {
        chunk_make_uniform(page, i, GRANULE_ABSENT);
    }
    *entry_place(page->map, page->number) = value;
    page_unlink(page);
    cache_free(page->map->cache, page, sizeof(*page));
}

void layer_map_fini(struct layer_map *map)
{
    for (uint32_t s = 0; s < map->n_segments; s++) {
        uintptr_t *segment = map->segments[s];
        for (unsigned i = 0; segment && i < MAP_SEGMENT_PAGES; i++) {
            if (!is_tag(segment[i])) {
                page_drop((struct map_page *)segment[i], TAG_UNKNOWN);
            }
        }
        cache_free(map->cache, segment, MAP_SEGMENT_PAGES * sizeof(*segment));
    }
    cache_free(map->cache, map->segments, map->n_segments * sizeof(*map->segments));
    map->segments = NULL;
}

void layer_map_grow(struct layer_map *map, uint64_t n_granules)
{
    uint32_t n_pages = pages_of(n_granules);
    uint32_t n_segments = segments_of(n_pages);
    uintptr_t **segments = cache_alloc(map->cache, n_segments * sizeof(*segments));
    memcpy(segments, map->segments, map->n_segments * sizeof(*segments));
    cache_free(map->cache, map->segments, map->n_segments * sizeof(*segments));
    map->segments = segments;
    map->n_segments = n_segments;
    map->n_pages = n_pages;
    map->n_granules = n_granules;
}

bool layer_map_known(const struct layer_map *map, uint32_t page)
{
    CHECK(page < map->n_pages);
    return (entry_of(map, page) & TAG_MASK) != TAG_UNKNOWN;
}

/* Where the page belongs now; it may become a tag or be forgotten, others too. */
static void page_settle(struct map_page *page)
{
    struct layer_cache *cache = page->map->cache;
    page_unlink(page);
    if (page->dirty) {
        list_push_back(&page->map->dirty, &page->link);
    } else if (page_is_clean(page)) {
        bool uniform = is_tag(page->chunks[0]);
        for (unsigned i = 1; i < LAYER_PAGE_CHUNKS && uniform; i++) {
            uniform = page->chunks[i] == page->chunks[0];
        }
        if (uniform) {
            page_drop(page, page->chunks[0] | page->generation << TAG_GENERATION_SHIFT);
        } else {
            page_cache(page);
        }
    }
    while (cache->bytes > cache->limit_bytes && cache->n_clean > cache->floor) {
        page_drop(list_entry(cache->clean.next, struct map_page, link), TAG_UNKNOWN);
    }
}

static struct map_page *page_new(struct layer_map *map, uint32_t number)
{
    struct map_page *page = cache_alloc(map->cache, sizeof(*page));
    list_init(&page->link);
    page->map = map;
    page->number = number;
    *entry_place(map, number) = (uintptr_t)page;
    return page;
}

/* A known page; in the cache it is the one used last. */
static struct map_page *page_present(struct layer_map *map, uint32_t number)
{
    uintptr_t value = entry_of(map, number);
    if (!is_tag(value)) {
        return (struct map_page *)value;
    }
    CHECK((value & TAG_MASK) != TAG_UNKNOWN);
    struct map_page *page = page_new(map, number);
    page->generation = value >> TAG_GENERATION_SHIFT;
    for (unsigned i = 0; i < LAYER_PAGE_CHUNKS; i++) {
        page->chunks[i] = value & TAG_MASK;
    }
    return page;
}

static bool bits_uniform(const uint8_t *bits)
{
    return (bits[0] == 0 || bits[0] == 0x55 || bits[0] == 0xaa) &&
           memcmp(bits, bits + 1, LAYER_CHUNK_BYTES - 1) == 0;
}

void layer_map_loaded(struct layer_map *map, uint32_t number, const uint8_t *bits,
                      uint64_t generation)
{
    if (layer_map_known(map, number)) {
        return;
    }
    if (!bits) {
        *entry_place(map, number) = tag_of(GRANULE_ABSENT) | generation << TAG_GENERATION_SHIFT;
        return;
    }
    struct map_page *page = page_new(map, number);
    page->generation = generation;
    for (unsigned i = 0; i < LAYER_PAGE_CHUNKS; i++, bits += LAYER_CHUNK_BYTES) {
        if (bits_uniform(bits)) {
            page->chunks[i] = tag_of(bits[0] & 3);
        } else {
            uint8_t *copy = cache_alloc(map->cache, LAYER_CHUNK_BYTES);
            memcpy(copy, bits, LAYER_CHUNK_BYTES);
            page->chunks[i] = (uintptr_t)copy;
        }
    }
    page_settle(page);
}

const uint8_t *layer_map_chunk(struct layer_map *map, uint64_t chunk,
                               enum granule_state *ret_uniform)
{
    uintptr_t value = entry_of(map, (uint32_t)(chunk / LAYER_PAGE_CHUNKS));
    if (!is_tag(value)) {
        struct map_page *page = (struct map_page *)value;
        if (page->cached) {
            page_cache(page);
        }
        value = page->chunks[chunk % LAYER_PAGE_CHUNKS];
        if (!is_tag(value)) {
            return (const uint8_t *)value;
        }
    }
    CHECK((value & TAG_MASK) != TAG_UNKNOWN);
    *ret_uniform = state_of(value);
    return NULL;
}

static enum granule_state bits_get(const uint8_t *bits, unsigned index)
{
    return (enum granule_state)(bits[index / 4] >> (index % 4 * 2) & 3);
}

enum granule_state layer_map_run(struct layer_map *map, uint64_t first, uint64_t last,
                                 uint64_t *ret_count)
{
    enum granule_state state = GRANULE_ABSENT;
    uint64_t at = first;
    CHECK(first <= last && last < map->n_granules);
    while (at <= last) {
        enum granule_state here = GRANULE_ABSENT;
        uint64_t chunk = at / LAYER_CHUNK_GRANULES;
        uint64_t page = at / LAYER_PAGE_GRANULES;
        uint64_t end = is_tag(entry_of(map, (uint32_t)page)) ? (page + 1) * LAYER_PAGE_GRANULES
                                                             : (chunk + 1) * LAYER_CHUNK_GRANULES;
        end = end < last + 1 ? end : last + 1;
        const uint8_t *bits = layer_map_chunk(map, chunk, &here);
        if (bits) {
            here = bits_get(bits, (unsigned)(at % LAYER_CHUNK_GRANULES));
        }
        if (at == first) {
            state = here;
        } else if (here != state) {
            break;
        }
        if (!bits) {
            at = end;
            continue;
        }
        uint8_t whole = (uint8_t)(state * 0x55);
        while (at < end) {
            unsigned index = (unsigned)(at % LAYER_CHUNK_GRANULES);
            if (index % 4 == 0 && end - at >= 4 && bits[index / 4] == whole) {
                at += 4;
            } else if (bits_get(bits, index) == state) {
                at++;
            } else {
                break;
            }
        }
        if (at < end) {
            break;
        }
    }
    *ret_count = at - first;
    return state;
}

bool layer_map_absent(struct layer_map *map, uint64_t first, uint64_t last)
{
    uint64_t count;
    return layer_map_run(map, first, last, &count) == GRANULE_ABSENT && count == last - first + 1;
}

uint64_t layer_map_skip_absent(const struct layer_map *map, uint64_t at)
{
    if (at % LAYER_PAGE_GRANULES != 0) {
        return at;
    }
    uint64_t page = at / LAYER_PAGE_GRANULES;
    while (page < map->n_pages) {
        uintptr_t value = entry_of(map, (uint32_t)page);
        if (!is_tag(value) || (value & TAG_MASK) != tag_of(GRANULE_ABSENT)) {
            break;
        }
        bool whole = !map->segments[page / MAP_SEGMENT_PAGES];
        page = whole ? (page / MAP_SEGMENT_PAGES + 1) * MAP_SEGMENT_PAGES : page + 1;
    }
    uint64_t found = page * LAYER_PAGE_GRANULES;
    return found < map->n_granules ? found : map->n_granules;
}

void layer_map_pin(struct layer_map *map, uint64_t first, uint64_t last)
{
    for (uint64_t p = first / LAYER_PAGE_GRANULES; p <= last / LAYER_PAGE_GRANULES; p++) {
        struct map_page *page = page_present(map, (uint32_t)p);
        page->pins++;
        if (page->cached) {
            page_unlink(page);
        }
    }
}

void layer_map_unpin(struct layer_map *map, uint64_t first, uint64_t last)
{
    for (uint64_t p = first / LAYER_PAGE_GRANULES; p <= last / LAYER_PAGE_GRANULES; p++) {
        struct map_page *page = (struct map_page *)entry_of(map, (uint32_t)p);
        CHECK(!is_tag((uintptr_t)page) && page->pins > 0);
        if (--page->pins == 0 && page_is_clean(page)) {
            page_settle(page);
        }
    }
}

static void page_dirty(struct map_page *page)
{
    if (!page->dirty) {
        page->dirty = true;
        page->map->n_dirty++;
        page_unlink(page);
        list_push_back(&page->map->dirty, &page->link);
    }
}

static void chunk_set(struct map_page *page, unsigned index, unsigned from, unsigned count,
                      enum granule_state state)
{
    if (count == LAYER_CHUNK_GRANULES) {
        chunk_make_uniform(page, index, state);
        return;
    }
    uint8_t *bits;
    if (is_tag(page->chunks[index])) {
        bits = cache_alloc(page->map->cache, LAYER_CHUNK_BYTES);
        memset(bits, (int)state_of(page->chunks[index]) * 0x55, LAYER_CHUNK_BYTES);
        page->chunks[index] = (uintptr_t)bits;
    }
    bits = (uint8_t *)page->chunks[index];
    for (unsigned i = from; i < from + count;) {
        if (i % 4 == 0 && from + count - i >= 4) {
            bits[i / 4] = (uint8_t)(state * 0x55);
            i += 4;
        } else {
            unsigned shift = i % 4 * 2;
            bits[i / 4] = (uint8_t)((bits[i / 4] & ~(3u << shift)) | (unsigned)state << shift);
            i++;
        }
    }
    if (bits_uniform(bits)) {
        chunk_make_uniform(page, index, state);
    }
}

void layer_map_set(struct layer_map *map, uint64_t first, uint64_t last, enum granule_state state,
                   layer_map_changed_fn changed, void *arg)
{
    uint64_t count;
    for (uint64_t at = first; at <= last; at += count) {
        enum granule_state before = layer_map_run(map, at, last, &count);
        if (before == state) {
            continue;
        }
        for (uint64_t g = at; g < at + count;) {
            uint64_t chunk = g / LAYER_CHUNK_GRANULES;
            uint64_t end = (chunk + 1) * LAYER_CHUNK_GRANULES;
            end = end < at + count ? end : at + count;
            struct map_page *page =
                (struct map_page *)entry_of(map, (uint32_t)(chunk / LAYER_PAGE_CHUNKS));
            CHECK(!is_tag((uintptr_t)page) && page->pins > 0);
            unsigned from = (unsigned)(g % LAYER_CHUNK_GRANULES);
            unsigned n = (unsigned)(end - g);
            chunk_set(page, (unsigned)(chunk % LAYER_PAGE_CHUNKS), from, n, state);
            page_dirty(page);
            g = end;
        }
        changed(arg, at, count, before);
    }
}

struct map_page *layer_map_take_dirty(struct layer_map *map)
{
    struct list *link = list_pop_front(&map->dirty);
    if (!link) {
        return NULL;
    }
    struct map_page *page = list_entry(link, struct map_page, link);
    page->dirty = false;
    page->writing = true;
    map->n_dirty--;
    return page;
}

void layer_map_encode(const struct map_page *page, uint8_t block[LAYER_BLOCK])
{
    uint8_t *bits = block + LAYER_PAGE_HEAD;
    for (unsigned i = 0; i < LAYER_PAGE_CHUNKS; i++, bits += LAYER_CHUNK_BYTES) {
        if (is_tag(page->chunks[i])) {
            memset(bits, (int)state_of(page->chunks[i]) * 0x55, LAYER_CHUNK_BYTES);
        } else {
            memcpy(bits, (const void *)page->chunks[i], LAYER_CHUNK_BYTES);
        }
    }
}

void layer_map_written(struct map_page *page)
{
    page->writing = false;
    page->generation++;
    if (page_is_clean(page)) {
        page_settle(page);
    }
}
