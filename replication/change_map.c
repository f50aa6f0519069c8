// SPDX-License-Identifier: Apache-2.0
/*
 * The sets in memory. A region's life:
 *
 *     (nothing) ──begin──▶ marking ──committed──▶ in use ──end──▶ idle, oldest first ──tidy──▶ (nothing)
 *                                                   ▲  │            │ ▲
 *                                                   └──┼───begin────┘ │ copied
 *                                                      └──end, differs──▶ marked
 *
 * and beside it, of each granule: fresh ──flush begins──▶ settling ──flushed──▶ (nothing); a loss makes both dirty.
 * A region has a struct while it has any of that, except one that is marked as a whole and was not touched yet.
 *
 * Of the marks there are two sets: want is what the next commit writes, durable is what is on the disk for sure.
 * A mark that is taken back is not durable from that moment, so that the next write waits for a commit.
 */
#include "replication/change_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "replication/change_map_private.h"

enum {
    AHEAD = 7,       /* regions marked at once with one that follows a marked one */
    TIDY_LOOK = 128, /* regions looked at that cannot go yet */
};

/* ---- granules ---- */

static bool granules_empty(const struct granules *set)
{
    return !(set->words[0] | set->words[1] | set->words[2] | set->words[3]);
}

static unsigned granules_count(const struct granules *set)
{
    unsigned n = 0;
    for (unsigned i = 0; i < REGION_WORDS; i++) {
        n += (unsigned)__builtin_popcountll(set->words[i]);
    }
    return n;
}

static void granules_add(struct granules *set, const struct granules *other)
{
    for (unsigned i = 0; i < REGION_WORDS; i++) {
        set->words[i] |= other->words[i];
    }
}

static void granules_take(struct granules *set, const struct granules *other)
{
    for (unsigned i = 0; i < REGION_WORDS; i++) {
        set->words[i] &= ~other->words[i];
    }
}

static void granules_clear(struct granules *set)
{
    *set = (struct granules){0};
}

static bool granules_test(const struct granules *set, unsigned granule)
{
    return set->words[granule / 64] >> granule % 64 & 1;
}

/* [first, end) of one region. */
static struct granules granules_range(unsigned first, unsigned end)
{
    struct granules set;
    for (unsigned i = 0; i < REGION_WORDS; i++) {
        unsigned low = i * 64;
        unsigned from = first > low ? first - low : 0;
        unsigned to = end > low ? end - low : 0;
        from = from < 64 ? from : 64;
        to = to < 64 ? to : 64;
        uint64_t below_to = to == 64 ? UINT64_MAX : (UINT64_C(1) << to) - 1;
        uint64_t below_from = from == 64 ? UINT64_MAX : (UINT64_C(1) << from) - 1;
        set.words[i] = to > from ? below_to & ~below_from : 0;
    }
    return set;
}

/* ---- regions ---- */

static unsigned region_granules(const struct change_map *map, uint64_t index)
{
    uint64_t left = map->n_granules - index * REGION_GRANULES;
    return left < REGION_GRANULES ? (unsigned)left : REGION_GRANULES;
}

static bool has_marks(const struct region *region)
{
    return !granules_empty(&region->dirty) || !granules_empty(&region->stale);
}

struct granules change_map_unlogged(const struct change_map *map, const struct region *region)
{
    struct granules set = region->dirty;
    granules_add(&set, &region->stale);
    if (region->log_generation == map->log_generation && map->log_generation != 0) {
        granules_take(&set, &region->logged);
        granules_take(&set, &region->logging);
    }
    return set;
}

/* A region that is marked as a whole is not worth entries. */
static bool wants_log(const struct change_map *map, const struct region *region)
{
    struct granules set = change_map_unlogged(map, region);
    return !granules_empty(&set) &&
           granules_count(&region->dirty) + granules_count(&region->stale) < REGION_GRANULES;
}

static bool is_logged(const struct change_map *map, const struct region *region)
{
    if (!has_marks(region)) {
        return true;
    }
    struct granules set = region->dirty;
    granules_add(&set, &region->stale);
    if (region->log_generation == map->log_generation && map->log_generation != 0) {
        granules_take(&set, &region->logged);
    }
    return granules_empty(&set);
}

/* On the lists of idle and of unlogged regions or not, and in the set of marked ones or not. */
static void region_place(struct change_map *map, struct region *region)
{
    bool marks = has_marks(region);
    bool idle =
        region->users == 0 && bitmap_test(&map->want, region->index) && is_logged(map, region);
    bool unlogged = marks && wants_log(map, region);
    if (unlogged && list_empty(&region->unlogged_link)) {
        list_push_back(&map->unlogged, &region->unlogged_link);
    }
    if (marks) {
        bitmap_set(&map->marked, region->index);
    } else {
        bitmap_clear(&map->marked, region->index);
    }
    if (idle && list_empty(&region->idle)) {
        if (region->used_ns == 0) {
            list_push_front(&map->idle, &region->idle);
        } else {
            list_push_back(&map->idle, &region->idle);
        }
        map->n_idle++;
    } else if (!idle && !list_empty(&region->idle)) {
        list_remove(&region->idle);
        map->n_idle--;
    }
}

/* Frees it if there is nothing that it knows. */
static void region_release(struct change_map *map, struct region *region)
{
    if (region->users > 0 || has_marks(region) || bitmap_test(&map->want, region->index) ||
        !list_empty(&region->fresh_link) || !list_empty(&region->settling_link)) {
        return;
    }
    CHECK(list_empty(&region->idle) && list_empty(&region->marking));
    list_remove(&region->unlogged_link);
    map->regions[region->index] = NULL;
    free(region);
}

static struct region *region_get(struct change_map *map, uint64_t index)
{
    struct region *region = map->regions[index];
    if (region) {
        return region;
    }
    region = calloc(1, sizeof(*region));
    CHECK(region != NULL);
    region->index = index;
    list_init(&region->idle);
    list_init(&region->marking);
    list_init(&region->fresh_link);
    list_init(&region->settling_link);
    list_init(&region->unlogged_link);
    if (bitmap_clear(&map->whole, index)) {
        struct granules all = granules_range(0, region_granules(map, index));
        *(map->whole_stale ? &region->stale : &region->dirty) = all;
    }
    map->regions[index] = region;
    return region;
}

static void region_set_dirty(struct change_map *map, struct region *region,
                             const struct granules *set, bool stale)
{
    struct granules *to = stale ? &region->stale : &region->dirty;
    struct granules *from = stale ? &region->dirty : &region->stale;
    uint64_t *n_to = stale ? &map->n_stale : &map->n_dirty;
    uint64_t *n_from = stale ? &map->n_dirty : &map->n_stale;
    *n_to -= granules_count(to);
    *n_from -= granules_count(from);
    granules_add(to, set);
    granules_take(from, set);
    *n_to += granules_count(to);
    *n_from += granules_count(from);
}

static void region_set_same(struct change_map *map, struct region *region,
                            const struct granules *set)
{
    if (!has_marks(region)) {
        return;
    }
    map->n_dirty -= granules_count(&region->dirty);
    map->n_stale -= granules_count(&region->stale);
    granules_take(&region->dirty, set);
    granules_take(&region->stale, set);
    map->n_dirty += granules_count(&region->dirty);
    map->n_stale += granules_count(&region->stale);
}

static void region_set_fresh(struct change_map *map, struct region *region,
                             const struct granules *set)
{
    granules_add(&region->fresh, set);
    if (list_empty(&region->fresh_link)) {
        list_push_back(&map->fresh, &region->fresh_link);
    }
}

/* ---- marks ---- */

/* The commit that will have it on the disk. */
static void region_want(struct change_map *map, struct region *region)
{
    if (region->commit == 0) {
        change_map_want(map, region->index, true);
        region->commit = map->commits + 1;
        list_push_back(&map->marking, &region->marking);
        map->urgent = true;
    }
}

/* Who writes a region after its neighbour will write the next ones too. */
static void want_ahead(struct change_map *map, uint64_t index)
{
    if (index == 0 || !bitmap_test(&map->want, index - 1)) {
        return;
    }
    for (uint64_t i = index + 1; i <= index + AHEAD && i < map->n_regions; i++) {
        if (!bitmap_test(&map->want, i)) {
            struct region *region = region_get(map, i);
            region->used_ns = loop_now_ns(map->loop);
            region_want(map, region);
            region_place(map, region);
        }
    }
}

struct span {
    uint64_t first, end; /* regions */
};

static struct span span_of(const struct change_map *map, uint64_t offset, uint64_t len)
{
    CHECK(len > 0 && offset < map->size_bytes && len <= map->size_bytes - offset);
    return (struct span){.first = offset / CHANGE_REGION_BYTES,
                         .end = (offset + len - 1) / CHANGE_REGION_BYTES + 1};
}

static bool is_durable(const struct change_map *map, const struct change_mark *mark)
{
    struct span span = span_of(map, mark->offset, mark->len);
    return bitmap_count_range(&map->durable, span.first, span.end - span.first) ==
           span.end - span.first;
}

int change_map_begin(struct change_map *map, struct change_mark *mark, uint64_t offset,
                     uint64_t len)
{
    struct span span = span_of(map, offset, len);
    bool durable = true;
    uint64_t commit = 0;
    mark->offset = offset;
    mark->len = len;
    mark->counted = true;
    for (uint64_t i = span.first; i < span.end; i++) {
        struct region *region = region_get(map, i);
        region->users++;
        if (!bitmap_test(&map->durable, i)) {
            durable = false;
            region_want(map, region);
            want_ahead(map, i);
            commit = region->commit > commit ? region->commit : commit;
        }
        if (!list_empty(&region->idle)) {
            list_remove(&region->idle);
            map->n_idle--;
        }
    }
    if (durable) {
        return 1;
    }
    change_map_commit(map);
    if (is_durable(map, mark)) {
        return 1;
    }
    if (commit > map->commits || (commit == map->commits && map->committing)) {
        mark->commit = commit;
        list_push_back(&map->marks, &mark->link);
        return 0;
    }
    change_map_end(map, offset, len, CHANGE_NOTHING);
    return -EIO;
}

/* A part of a write, in one region. */
static void region_end(struct change_map *map, struct region *region, uint64_t begin, uint64_t end,
                       enum change_end how)
{
    uint64_t base = region->index * CHANGE_REGION_BYTES;
    unsigned first = (unsigned)((begin - base) / CHANGE_GRANULE_BYTES);
    unsigned last = (unsigned)((end - base + CHANGE_GRANULE_BYTES - 1) / CHANGE_GRANULE_BYTES);
    struct granules touched = granules_range(first, last);
    if (how == CHANGE_DIFFERS || how == CHANGE_FAILED || how == CHANGE_MARK) {
        if (how == CHANGE_FAILED) {
            granules_take(&touched, &region->stale);
        }
        region_set_dirty(map, region, &touched, how == CHANGE_MARK && map->whole_stale);
        return;
    }
    if (has_marks(region)) {
        unsigned full_first =
            (unsigned)((begin - base + CHANGE_GRANULE_BYTES - 1) / CHANGE_GRANULE_BYTES);
        unsigned full_last =
            end == map->size_bytes ? last : (unsigned)((end - base) / CHANGE_GRANULE_BYTES);
        if (full_first < full_last) {
            struct granules full = granules_range(full_first, full_last);
            region_set_same(map, region, &full);
        }
    }
    if (how == CHANGE_SAME) {
        region_set_fresh(map, region, &touched);
    }
}

/* used_ns 0: not by a write. */
static void range_end(struct change_map *map, uint64_t offset, uint64_t len, enum change_end how,
                      uint64_t used_ns)
{
    struct span span = span_of(map, offset, len);
    for (uint64_t i = span.first; i < span.end; i++) {
        struct region *region = map->regions[i];
        CHECK(region && region->users > 0);
        uint64_t base = i * CHANGE_REGION_BYTES;
        uint64_t begin = offset > base ? offset : base;
        uint64_t end =
            offset + len < base + CHANGE_REGION_BYTES ? offset + len : base + CHANGE_REGION_BYTES;
        region->users--;
        region->used_ns = used_ns ? used_ns : region->used_ns;
        if (how != CHANGE_NOTHING) {
            region_end(map, region, begin, end, how);
        }
        region_place(map, region);
        region_release(map, region);
    }
}

void change_map_end(struct change_map *map, uint64_t offset, uint64_t len, enum change_end how)
{
    uint64_t now_ns = loop_now_ns(map->loop);
    range_end(map, offset, len, how, now_ns ? now_ns : 1);
}

int change_map_mark_all(struct change_map *map, struct change_mark *mark)
{
    for (uint64_t i = 0; i < map->n_regions; i++) {
        struct region *region = map->regions[i];
        change_map_want(map, i, true);
        if (region) {
            struct granules all = granules_range(0, region_granules(map, i));
            region_set_dirty(map, region, &all, map->whole_stale);
            region_place(map, region);
        } else if (bitmap_set(&map->whole, i)) {
            *(map->whole_stale ? &map->n_stale : &map->n_dirty) += region_granules(map, i);
            bitmap_set(&map->marked, i);
        }
    }
    if (bitmap_count(&map->durable) == map->n_regions) {
        return 1;
    }
    map->urgent = true;
    mark->commit = map->commits + 1;
    mark->counted = false;
    change_map_commit(map);
    if (bitmap_count(&map->durable) == map->n_regions) {
        return 1;
    }
    if (mark->commit > map->commits || map->committing) {
        list_push_back(&map->marks, &mark->link);
        return 0;
    }
    return -EIO;
}

void change_map_committed(struct change_map *map, uint64_t commit, int status)
{
    list_for_each_safe(link, following, &map->marking)
    {
        struct region *region = list_entry(link, struct region, marking);
        if (region->commit <= commit) {
            region->commit = 0;
            list_remove(&region->marking);
        }
    }
    struct list ended = LIST_INIT(ended);
    list_for_each_safe(link, following, &map->marks)
    {
        if (list_entry(link, struct change_mark, link)->commit <= commit) {
            list_remove(link);
            list_push_back(&ended, link);
        }
    }
    struct list *link;
    while ((link = list_pop_front(&ended)) != NULL) {
        struct change_mark *mark = list_entry(link, struct change_mark, link);
        int result = status;
        if (mark->counted && !is_durable(map, mark)) {
            result = result ? result : -EIO;
        }
        if (mark->counted && result) {
            change_map_end(map, mark->offset, mark->len, CHANGE_NOTHING);
        }
        mark->done(mark, result);
    }
}

/* ---- flushes, losses ---- */

bool change_map_flush_begin(struct change_map *map)
{
    if (map->settling_busy) {
        return false;
    }
    map->settling_busy = true;
    struct list *link;
    while ((link = list_pop_front(&map->fresh)) != NULL) {
        struct region *region = list_entry(link, struct region, fresh_link);
        region->settling = region->fresh;
        granules_clear(&region->fresh);
        list_push_back(&map->settling, &region->settling_link);
    }
    return true;
}

void change_map_flush_end(struct change_map *map, bool flushed)
{
    CHECK(map->settling_busy);
    map->settling_busy = false;
    struct list *link;
    while ((link = list_pop_front(&map->settling)) != NULL) {
        struct region *region = list_entry(link, struct region, settling_link);
        if (!flushed) {
            region_set_fresh(map, region, &region->settling);
        }
        granules_clear(&region->settling);
        region_release(map, region);
    }
}

void change_map_lost(struct change_map *map, bool of_source)
{
    bool stale = of_source && map->whole_stale;
    struct list *link;
    if (stale && map->n_dirty > 0) {
        change_map_turn(map, true);
    }
    while ((link = list_pop_front(&map->settling)) != NULL) {
        struct region *region = list_entry(link, struct region, settling_link);
        region_set_fresh(map, region, &region->settling);
        granules_clear(&region->settling);
    }
    while ((link = list_pop_front(&map->fresh)) != NULL) {
        struct region *region = list_entry(link, struct region, fresh_link);
        /* What is stale besides was copied only in part: the leg is right still. */
        granules_take(&region->fresh, &region->stale);
        region_set_dirty(map, region, &region->fresh, stale);
        granules_clear(&region->fresh);
        region_place(map, region);
        region_release(map, region);
    }
}

bool change_map_flush_busy(const struct change_map *map)
{
    return map->settling_busy;
}

bool change_map_has_recent(const struct change_map *map)
{
    return !list_empty(&map->fresh) || !list_empty(&map->settling);
}

/* ---- copying ---- */

enum kind { KIND_SAME, KIND_DIRTY, KIND_STALE };

static enum kind kind_of(const struct change_map *map, uint64_t granule)
{
    uint64_t index = granule / REGION_GRANULES;
    const struct region *region = map->regions[index];
    if (!region) {
        return !bitmap_test(&map->whole, index) ? KIND_SAME
               : map->whole_stale               ? KIND_STALE
                                                : KIND_DIRTY;
    }
    unsigned at = (unsigned)(granule % REGION_GRANULES);
    return granules_test(&region->dirty, at)   ? KIND_DIRTY
           : granules_test(&region->stale, at) ? KIND_STALE
                                               : KIND_SAME;
}

static uint64_t next_marked(const struct change_map *map, uint64_t granule, bool dirty_only)
{
    while (granule < map->n_granules) {
        uint64_t index = bitmap_next_set(&map->marked, granule / REGION_GRANULES);
        if (index >= map->n_regions) {
            break;
        }
        uint64_t base = index * REGION_GRANULES;
        const struct region *region = map->regions[index];
        granule = granule > base ? granule : base;
        if (!region && dirty_only && map->whole_stale) {
            granule = base + REGION_GRANULES;
            continue;
        }
        if (!region) {
            return granule;
        }
        unsigned at = (unsigned)(granule - base);
        for (unsigned word = at / 64; word < REGION_WORDS; word++) {
            uint64_t bits =
                region->dirty.words[word] | (dirty_only ? 0 : region->stale.words[word]);
            bits &= word == at / 64 ? UINT64_MAX << at % 64 : UINT64_MAX;
            if (bits) {
                return base + word * 64 + (unsigned)__builtin_ctzll(bits);
            }
        }
        granule = base + REGION_GRANULES;
    }
    return map->n_granules;
}

static uint64_t end_of_granule(const struct change_map *map, uint64_t granule)
{
    uint64_t end = (granule + 1) * CHANGE_GRANULE_BYTES;
    return end < map->size_bytes ? end : map->size_bytes;
}

bool change_map_next(const struct change_map *map, uint64_t from, uint64_t max, bool dirty_only,
                     struct change_run *ret_run)
{
    uint64_t granule = next_marked(map, from / CHANGE_GRANULE_BYTES, dirty_only);
    if (granule >= map->n_granules) {
        return false;
    }
    enum kind kind = kind_of(map, granule);
    CHECK(kind != KIND_SAME);
    uint64_t end = granule;
    uint64_t most = max > CHANGE_GRANULE_BYTES ? max / CHANGE_GRANULE_BYTES : 1;
    uint64_t limit = most < map->n_granules - granule ? granule + most : map->n_granules;
    while (end < limit && kind_of(map, end) == kind) {
        /* A region that nobody has touched is of one kind. */
        bool whole = end % REGION_GRANULES == 0 && !map->regions[end / REGION_GRANULES];
        end += whole ? REGION_GRANULES : 1;
    }
    end = end < limit ? end : limit;
    uint64_t offset = granule * CHANGE_GRANULE_BYTES;
    *ret_run = (struct change_run){.offset = offset,
                                   .len = end_of_granule(map, end - 1) - offset,
                                   .stale = kind == KIND_STALE};
    return true;
}

void change_map_copied(struct change_map *map, uint64_t offset, uint64_t len)
{
    struct span span = span_of(map, offset, len);
    for (uint64_t i = span.first; i < span.end; i++) {
        region_get(map, i)->users++;
    }
    range_end(map, offset, len, CHANGE_SAME, 0);
}

bool change_map_stale_run(const struct change_map *map, uint64_t offset, uint64_t limit,
                          uint64_t *ret_end)
{
    uint64_t granule = offset / CHANGE_GRANULE_BYTES;
    bool stale = kind_of(map, granule) == KIND_STALE;
    uint64_t end = end_of_granule(map, granule);
    while (end < limit && (kind_of(map, end / CHANGE_GRANULE_BYTES) == KIND_STALE) == stale) {
        end = end_of_granule(map, end / CHANGE_GRANULE_BYTES);
    }
    *ret_end = end < limit ? end : limit;
    return stale;
}

bool change_map_any_stale(const struct change_map *map, uint64_t offset, uint64_t len)
{
    uint64_t end;
    return map->n_stale > 0 &&
           (change_map_stale_run(map, offset, offset + len, &end) || end < offset + len);
}

void change_map_turn(struct change_map *map, bool stale)
{
    map->whole_stale = stale;
    for (uint64_t i = bitmap_next_set(&map->marked, 0); i < map->n_regions;
         i = bitmap_next_set(&map->marked, i + 1)) {
        struct region *region = map->regions[i];
        if (region) {
            struct granules set = region->dirty;
            granules_add(&set, &region->stale);
            region_set_dirty(map, region, &set, stale);
        }
    }
    uint64_t all = map->n_dirty + map->n_stale;
    map->n_dirty = stale ? 0 : all;
    map->n_stale = stale ? all : 0;
}

static uint64_t bytes_of(const struct change_map *map, uint64_t granules)
{
    uint64_t bytes = granules * CHANGE_GRANULE_BYTES;
    return bytes < map->size_bytes ? bytes : map->size_bytes;
}

uint64_t change_map_marked_bytes(const struct change_map *map)
{
    return bytes_of(map, map->n_dirty + map->n_stale);
}

uint64_t change_map_dirty_bytes(const struct change_map *map)
{
    return bytes_of(map, map->n_dirty);
}

uint64_t change_map_stale_bytes(const struct change_map *map)
{
    return bytes_of(map, map->n_stale);
}

/* ---- the log ---- */

struct region *change_map_region(struct change_map *map, uint64_t index)
{
    return region_get(map, index);
}

void change_map_place(struct change_map *map, struct region *region)
{
    region_place(map, region);
    region_release(map, region);
}

/* From the log, which so has them. */
void change_map_add_granules(struct change_map *map, uint64_t index, const struct granules *set,
                             bool stale)
{
    struct region *region = region_get(map, index);
    region_set_dirty(map, region, set, stale);
    if (region->log_generation != map->log_generation) {
        region->log_generation = map->log_generation;
        granules_clear(&region->logged);
    }
    granules_add(&region->logged, set);
    region_place(map, region);
}

void change_map_log(struct change_map *map)
{
    if (!list_empty(&map->unlogged) && !map->log_is_full) {
        map->log_wanted = map->lazy = true;
        change_map_commit(map);
    }
}

void change_map_forget_log(struct change_map *map)
{
    bool has_entries = map->log_generation != 0 && (map->log_at > 0 || map->log_n > 0);
    map->log_forget = has_entries && map->log_writing;
    if (has_entries && map->n_dirty + map->n_stale == 0 && !map->log_writing) {
        change_log_begin(map);
        map->lazy = true;
        change_map_commit(map);
    }
}

bool change_map_is_busy(const struct change_map *map)
{
    return map->n_idle > 0 || (!list_empty(&map->unlogged) && !map->log_is_full);
}

/* ---- housekeeping ---- */

bool change_map_tidy(struct change_map *map, uint64_t idle_ns)
{
    uint64_t now_ns = loop_now_ns(map->loop);
    uint64_t most = CHANGE_ACTIVE_MAX - CHANGE_ACTIVE_MAX / 8;
    bool full = map->n_idle > CHANGE_ACTIVE_MAX;
    bool cleared = false;
    unsigned kept = 0;
    list_for_each_safe(link, following, &map->idle)
    {
        struct region *region = list_entry(link, struct region, idle);
        bool old =
            idle_ns != UINT64_MAX && (region->used_ns == 0 || now_ns - region->used_ns >= idle_ns);
        if ((!old && !(full && map->n_idle > most)) || kept >= TIDY_LOOK) {
            break;
        }
        if (region->commit != 0 || !list_empty(&region->fresh_link) ||
            !list_empty(&region->settling_link)) {
            kept++;
            continue;
        }
        change_map_want(map, region->index, false);
        bitmap_clear(&map->durable, region->index);
        region_place(map, region);
        region_release(map, region);
        cleared = true;
    }
    if (cleared) {
        map->lazy = true;
        change_map_commit(map);
    }
    return kept > 0;
}

uint64_t change_map_regions(const struct change_map *map)
{
    return bitmap_count(&map->want);
}

uint64_t change_map_commits(const struct change_map *map)
{
    return map->commits;
}

bool change_map_is_marked(const struct change_map *map, uint64_t offset)
{
    return bitmap_test(&map->durable, offset / CHANGE_REGION_BYTES);
}

/* ---- beginning and end ---- */

int change_map_init_sets(struct change_map *map)
{
    map->regions = calloc(map->n_regions, sizeof(struct region *));
    if (!map->regions || bitmap_init(&map->want, map->n_regions) < 0 ||
        bitmap_init(&map->durable, map->n_regions) < 0 ||
        bitmap_init(&map->marked, map->n_regions) < 0 ||
        bitmap_init(&map->whole, map->n_regions) < 0) {
        return -ENOMEM;
    }
    return 0;
}

void change_map_load_regions(struct change_map *map, bool stale)
{
    map->whole_stale = stale;
    for (uint64_t i = bitmap_next_set(&map->want, 0); i < map->n_regions;
         i = bitmap_next_set(&map->want, i + 1)) {
        bitmap_set(&map->marked, i);
        bitmap_set(&map->whole, i);
        *(stale ? &map->n_stale : &map->n_dirty) += region_granules(map, i);
    }
}

void change_map_free(struct change_map *map)
{
    if (map->regions) {
        for (uint64_t i = 0; i < map->n_regions; i++) {
            free(map->regions[i]);
        }
    }
    free(map->regions);
    bitmap_fini(&map->want);
    bitmap_fini(&map->durable);
    bitmap_fini(&map->marked);
    bitmap_fini(&map->whole);
    bitmap_fini(&map->block_dirty);
    bitmap_fini(&map->block_writing);
    free(map->image);
    free(map->log_image);
    free(map->path);
    free(map);
}
