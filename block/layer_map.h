// SPDX-License-Identifier: Apache-2.0
/*
 * The map of a layer in memory: two bits per granule where chunks of 4 MiB are mixed, nothing
 * where pages of 60 MiB are uniform.
 *
 * Thread:    the layer's loop.
 * Ownership: a map belongs to its layer; the memory is counted in a cache that layers share.
 * Errors:    none; running out of memory stops the process.
 *
 * A page is unknown (its file has it), uniform (a tag instead of a pointer), or present. Present
 * pages that agree with the file may be forgotten, the longest unused first, when the cache is
 * over its limit; pinned and dirty ones may not.
 */
#ifndef BLOCK_LAYER_MAP_H
#define BLOCK_LAYER_MAP_H

#include "base/list.h"
#include "block/layer.h"
#include "block/layer_format.h"

struct layer_cache {
    struct list clean; /* pages that may be forgotten, longest unused first */
    uint64_t n_clean;
    uint64_t floor; /* so many stay whatever they cost: a request needs two per layer at once */
    uint64_t bytes;
    uint64_t limit_bytes;
};

struct map_page {
    struct list link; /* cache->clean, map->dirty, or alone while pinned or being written */
    struct layer_map *map;
    uint32_t number;
    uint32_t pins;
    uint64_t generation; /* of the version in the file */
    bool dirty;
    bool writing;
    bool cached;                         /* link is on cache->clean */
    uintptr_t chunks[LAYER_PAGE_CHUNKS]; /* tag of a uniform chunk, or pointer to its bits */
};

struct layer_map {
    struct layer_cache *cache;
    uint64_t n_granules;
    uint32_t n_pages;
    uint32_t n_segments;
    uintptr_t **segments; /* of MAP_SEGMENT_PAGES: tag or pointer; NULL: all initial */
    uintptr_t initial;
    struct list dirty;
    uint32_t n_dirty;
};

/* fresh: a new file, where everything is absent; otherwise all pages are unknown. */
void layer_map_init(struct layer_map *map, struct layer_cache *cache, uint64_t n_granules,
                    bool fresh);
void layer_map_fini(struct layer_map *map);
/* What is new is absent in the file too. */
void layer_map_grow(struct layer_map *map, uint64_t n_granules);

bool layer_map_known(const struct layer_map *map, uint32_t page);
/* The page has been read: bits as in a map slot, or NULL: all absent. */
void layer_map_loaded(struct layer_map *map, uint32_t page, const uint8_t *bits,
                      uint64_t generation);

/* State of first, and how many granules from there to last have it. The pages must be known. */
enum granule_state layer_map_run(struct layer_map *map, uint64_t first, uint64_t last,
                                 uint64_t *ret_count);
/* Bits of a chunk of a known page; NULL: uniform, *ret_uniform. */
const uint8_t *layer_map_chunk(struct layer_map *map, uint64_t chunk,
                               enum granule_state *ret_uniform);
/* Whether all granules of a known range are absent. */
bool layer_map_absent(struct layer_map *map, uint64_t first, uint64_t last);
/* Where at is the first granule of a page: the first one from there on that is not known to be in an
 * absent page. */
uint64_t layer_map_skip_absent(const struct layer_map *map, uint64_t at);

/* Pages of the range stay known until unpinned; they must be known. */
void layer_map_pin(struct layer_map *map, uint64_t first, uint64_t last);
void layer_map_unpin(struct layer_map *map, uint64_t first, uint64_t last);
/* Changes a pinned range. changed(arg, …) is called for each run that was in another state. */
typedef void (*layer_map_changed_fn)(void *arg, uint64_t first, uint64_t count,
                                     enum granule_state before);
void layer_map_set(struct layer_map *map, uint64_t first, uint64_t last, enum granule_state state,
                   layer_map_changed_fn changed, void *arg);

/* Takes the next dirty page to be written: no longer dirty, kept until layer_map_written(), which
 * counts the generation. */
struct map_page *layer_map_take_dirty(struct layer_map *map);
void layer_map_encode(const struct map_page *page, uint8_t block[LAYER_BLOCK]);
void layer_map_written(struct map_page *page);

#endif
