// SPDX-License-Identifier: Apache-2.0
/*
 *            pos                                             frontier
 *     ........|===cell===|==cell==>    |====cell====>   |.........
 *              known      known  asked  known   asked    not asked yet
 *
 * The range ahead of the reader is cut into cells, in order. A cell asks for its range and goes on
 * from where the answer ended until it is known or its table is full.
 *
 * Targets differ. Some fill whatever room the answer has, and walk their whole file for it: they
 * are asked once, for all that is left, with a large table that grows while answers come back full.
 * Others tell a few extents, or one, however much room there is: they are asked at many places at
 * the same time. The number of cells that ask at a time (walkers) doubles with every answer that
 * stopped short although there was room, and halves with every full one. How long a cell is follows
 * from the answers, too: about four of them, and no more than its table holds. While there is one
 * walker its cell takes all that is left, and is cut once the answer has come.
 *
 * Asking has a price, the time in which questions were outstanding, and a gain, the zeros (and what
 * a target keeps) that need not be read. Where the price is clearly higher (many tiny extents, a slow answer), nothing is
 * asked for a stretch, which counts as data then, and after it the question is put again; the
 * stretch doubles each time. And the reader's patience with one answer is limited: after that it
 * goes on without. None of that holds for a device that is changes (block_info): its map says what is to
 * be copied at all, so it is asked to the end and waited for.
 *
 * Invariants: cells are in order and do not overlap; what lies between two cells, or before the
 * frontier and in no cell, counts as data. In a cell [start, filled) is known, [filled, end) not
 * yet.
 */
#include "replication/copy_map.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/list.h"

enum {
    CELLS = 16,
    TABLE_SMALL = 1024, /* extents: with several walkers */
    TABLE_FIRST = 4096, /* with one, */
    TABLE_MOST = 65536, /* in steps of */
    TABLE_GROWTH = 4,
    ASKS_PER_CELL = 4,
    JUDGE_MIN_ANSWERS = 3,
    JUDGE_WINDOW_ANSWERS = 64,
};
#define CELL_MIN_BYTES     (1ull << 20)
#define SLEEP_MIN_BYTES    (64ull << 20)
#define SLEEP_MAX_BYTES    (1ull << 30)
#define WAKE_EARLY_BYTES   (16ull << 20) /* so that the answer is there when the reader comes */
#define JUDGE_MIN_BUSY_NS  (50 * MS_NS)
#define PATIENCE_NS        (250 * MS_NS)
#define IMPATIENT_BYTES    (1ull << 20) /* read before it is asked again whether the answer came */
#define PRICE_LIMIT_FACTOR 2            /* give up above so many times the gain */

struct cell {
    struct list link;
    struct copy_map *map;
    uint64_t start, filled, end;
    unsigned n_extents;
    bool asking;
    bool stale; /* an answer is outstanding that nobody wants */
    struct block_req req;
    unsigned table_size;
    struct block_extent *extents; /* grows only, and not with every question */
};

struct copy_map {
    struct blockdev *dev;
    uint64_t limit;
    uint64_t gap;
    struct copy_map_cb cb;
    void *arg;

    bool usable;   /* the device can map */
    bool open;     /* gate */
    bool sleeping; /* asks again when the reader comes near the frontier */
    uint64_t pos;
    uint64_t frontier;
    struct list cells; /* in order */
    struct list free;
    unsigned outstanding;
    unsigned walkers;
    unsigned table_one; /* extents to ask for while there is one walker */
    uint64_t heard_ns;  /* last answer, or question after a silence of ours */

    /* Where the last peek ended, so that a walk does not begin at the front each time. */
    struct cell *look;
    unsigned look_index;

    /* What answers look like; 0: none yet. */
    uint64_t bytes_per_answer;
    uint64_t bytes_per_extent;

    /* Price and gain. */
    uint64_t ps_per_byte;
    uint64_t busy_since_ns;
    uint64_t busy_ns;
    uint64_t covered_bytes;
    uint64_t gained_bytes;
    unsigned answers;
    uint64_t sleep_bytes;

    struct cell pool[CELLS];
};

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static struct cell *cell_of(struct list *link)
{
    return list_entry(link, struct cell, link);
}

int copy_map_new(struct blockdev *dev, uint64_t limit, uint64_t gap, const struct copy_map_cb *cb,
                 void *arg, struct copy_map **ret_map)
{
    struct copy_map *map = calloc(1, sizeof(*map));
    if (!map) {
        return -ENOMEM;
    }
    uint64_t block = dev->info.block_bytes;
    map->dev = dev;
    map->limit = min_u64((limit + block - 1) / block * block, dev->info.size_bytes);
    map->gap = gap;
    map->cb = *cb;
    map->arg = arg;
    map->usable = dev->info.can_map;
    map->walkers = 1;
    map->table_one = TABLE_FIRST;
    map->ps_per_byte = 1000;
    map->sleep_bytes = SLEEP_MIN_BYTES;
    list_init(&map->cells);
    list_init(&map->free);
    for (unsigned i = 0; i < CELLS; i++) {
        map->pool[i].map = map;
        list_push_back(&map->free, &map->pool[i].link);
    }
    *ret_map = map;
    return 0;
}

void copy_map_free(struct copy_map *map)
{
    if (!map) {
        return;
    }
    CHECK(map->outstanding == 0);
    for (unsigned i = 0; i < CELLS; i++) {
        free(map->pool[i].extents);
    }
    free(map);
}

unsigned copy_map_outstanding(const struct copy_map *map)
{
    return map->outstanding;
}

void copy_map_gate(struct copy_map *map, bool open)
{
    map->open = open;
}

void copy_map_set_price(struct copy_map *map, uint64_t ps_per_byte)
{
    map->ps_per_byte = ps_per_byte;
}

/* The last few places of a table are not worth a question. */
static bool is_full(const struct cell *cell)
{
    return cell->n_extents >= cell->table_size - cell->table_size / 8;
}

static void drop(struct cell *cell)
{
    struct copy_map *map = cell->map;
    list_remove(&cell->link);
    if (map->look == cell) {
        map->look = NULL;
    }
    if (cell->asking) {
        cell->stale = true;
    } else {
        list_push_front(&map->free, &cell->link);
    }
}

static void forget_price(struct copy_map *map)
{
    map->answers = 0;
    map->busy_ns = 0;
    map->covered_bytes = 0;
    map->gained_bytes = 0;
    map->busy_since_ns = loop_now_ns(map->dev->loop);
}

void copy_map_restart(struct copy_map *map, uint64_t offset)
{
    list_for_each_safe(link, following, &map->cells)
    {
        drop(cell_of(link));
    }
    map->pos = offset;
    map->frontier = offset;
    map->sleeping = false;
    forget_price(map);
}

/* The questions were not worth it: keeps what is known without a hole from here on, and lets the
 * reader go without for a while. */
static void sleep_for(struct copy_map *map, uint64_t bytes)
{
    uint64_t known = map->pos;
    bool hole = false;
    list_for_each_safe(link, following, &map->cells)
    {
        struct cell *cell = cell_of(link);
        if (hole || cell->asking || cell->filled == cell->start) {
            hole = true;
            drop(cell);
            continue;
        }
        hole = cell->filled < cell->end;
        cell->end = cell->filled;
        known = max_u64(known, cell->end);
    }
    map->sleeping = true;
    map->frontier = bytes < map->limit - min_u64(known, map->limit) ? known + bytes : map->limit;
    forget_price(map);
}

static void judge(struct copy_map *map)
{
    if (map->dev->info.changes || map->answers < JUDGE_MIN_ANSWERS ||
        map->busy_ns < JUDGE_MIN_BUSY_NS) {
        return;
    }
    double price = 1000.0 * (double)map->busy_ns;
    double gain = (double)map->gained_bytes * (double)map->ps_per_byte;
    /* A question that costs next to nothing beside the reading may also be in vain. */
    double small_change = 0.02 * (double)map->covered_bytes * (double)map->ps_per_byte;
    if (price > PRICE_LIMIT_FACTOR * gain + small_change) {
        sleep_for(map, map->sleep_bytes);
        map->sleep_bytes = min_u64(map->sleep_bytes * 2, SLEEP_MAX_BYTES);
        return;
    }
    if (map->answers >= JUDGE_WINDOW_ANSWERS) {
        map->answers /= 2;
        map->busy_ns /= 2;
        map->covered_bytes /= 2;
        map->gained_bytes /= 2;
        map->sleep_bytes = SLEEP_MIN_BYTES;
    }
}

static void count_busy(struct copy_map *map)
{
    uint64_t now_ns = loop_now_ns(map->dev->loop);
    map->busy_ns += now_ns - map->busy_since_ns;
    map->busy_since_ns = now_ns;
}

static uint64_t smooth(uint64_t average, uint64_t value)
{
    return average == 0 ? value : average / 2 + value / 2;
}

static uint64_t mul_u64(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

/* With several walkers. */
static uint64_t cell_bytes(const struct copy_map *map)
{
    uint64_t by_answers = mul_u64(map->bytes_per_answer, ASKS_PER_CELL);
    uint64_t by_table = mul_u64(map->bytes_per_extent, TABLE_SMALL / 2);
    uint64_t bytes = max_u64(min_u64(by_answers, by_table), CELL_MIN_BYTES);
    return bytes / CELL_MIN_BYTES * CELL_MIN_BYTES;
}

/* What the answer says of the target's habits. */
static void learn(struct cell *cell, uint64_t reach)
{
    struct copy_map *map = cell->map;
    const struct block_req *req = &cell->req;
    uint64_t len = reach - req->offset;
    map->bytes_per_answer = smooth(map->bytes_per_answer, len);
    map->bytes_per_extent = smooth(map->bytes_per_extent, len / req->n_extents + 1);
    if (req->n_extents == req->max_extents) {
        map->walkers = map->walkers > 1 ? map->walkers / 2 : 1;
        if (map->table_one <= TABLE_MOST / TABLE_GROWTH && req->max_extents >= map->table_one / 2) {
            map->table_one *= TABLE_GROWTH;
        }
    } else if (reach < req->offset + req->len && map->walkers < CELLS) {
        map->walkers *= 2;
    }
}

/* Appends the answer to the cell's table, in place. False: the answer makes no sense. */
static bool take_answer(struct cell *cell)
{
    struct copy_map *map = cell->map;
    struct block_req *req = &cell->req;
    uint64_t at = cell->filled;
    uint64_t reach = at;
    if (req->n_extents == 0 || req->n_extents > req->max_extents) {
        return false;
    }
    for (unsigned i = 0; i < req->n_extents; i++) {
        struct block_extent extent = req->extents[i];
        if (extent.offset != reach || extent.len == 0 || extent.len > UINT64_MAX - reach) {
            return false;
        }
        reach += extent.len;
        uint64_t end = min_u64(reach, cell->end);
        if (end <= at) {
            continue; /* beyond what was asked */
        }
        if (extent.kind == BLOCK_EXTENT_UNKNOWN) {
            extent.kind = BLOCK_EXTENT_DATA;
        }
        if (extent.kind != BLOCK_EXTENT_DATA && end - at >= map->gap) {
            map->gained_bytes += end - at;
        }
        struct block_extent *last =
            cell->n_extents > 0 ? &cell->extents[cell->n_extents - 1] : NULL;
        if (last && last->kind == extent.kind) {
            last->len += end - at;
        } else {
            cell->extents[cell->n_extents++] =
                (struct block_extent){.offset = at, .len = end - at, .kind = extent.kind};
        }
        at = end;
    }
    map->covered_bytes += at - cell->filled;
    learn(cell, reach);
    cell->filled = at;
    map->answers++;
    return true;
}

/* The last cell may have taken more than its share, before it was known what answers look like. */
static void cut_last(struct cell *cell)
{
    struct copy_map *map = cell->map;
    if (map->cells.prev != &cell->link || cell->filled == cell->end) {
        return;
    }
    if (is_full(cell)) {
        cell->end = cell->filled;
    } else if (map->walkers > 1) {
        uint64_t share = cell_bytes(map);
        share = share < cell->end - cell->start ? cell->start + share : cell->end;
        cell->end = max_u64(cell->filled, share);
    }
    map->frontier = cell->end;
}

static void ask_done(struct block_req *req)
{
    struct cell *cell = req->arg;
    struct copy_map *map = cell->map;
    count_busy(map);
    map->outstanding--;
    map->heard_ns = map->busy_since_ns;
    cell->asking = false;
    if (cell->stale) {
        cell->stale = false;
        list_push_front(&map->free, &cell->link);
    } else if (req->status == -ENOTCONN || req->status == -ESTALE) {
        map->cb.failed(map->arg, req->status);
    } else if (req->status == -EOPNOTSUPP) {
        map->usable = false;
        sleep_for(map, map->limit);
    } else if (req->status != 0 || !take_answer(cell)) {
        sleep_for(map, SLEEP_MAX_BYTES);
    } else {
        cut_last(cell);
        judge(map);
    }
    map->cb.wake(map->arg);
}

static void ask(struct cell *cell)
{
    struct copy_map *map = cell->map;
    if (map->outstanding == 0) {
        map->busy_since_ns = loop_now_ns(map->dev->loop);
        map->heard_ns = map->busy_since_ns;
    }
    cell->asking = true;
    map->outstanding++;
    cell->req = (struct block_req){
        .op = BLOCK_MAP,
        .offset = cell->filled,
        .len = cell->end - cell->filled,
        .extents = cell->extents + cell->n_extents,
        .max_extents = cell->table_size - cell->n_extents,
        .done = ask_done,
        .arg = cell,
    };
    blockdev_submit(map->dev, &cell->req);
}

static bool may_ask(const struct copy_map *map)
{
    const struct blockdev *dev = map->dev;
    unsigned max_inflight = dev->info.max_inflight ? dev->info.max_inflight : 1;
    unsigned share = max_inflight / 4 ? max_inflight / 4 : 1;
    return map->open && map->usable && map->outstanding < share &&
           map->outstanding < map->walkers && dev->inflight < max_inflight;
}

static bool table_reserve(struct cell *cell, unsigned size)
{
    if (cell->table_size >= size) {
        return true;
    }
    struct block_extent *extents = realloc(cell->extents, size * sizeof(*extents));
    if (extents) {
        cell->extents = extents;
        cell->table_size = size;
    }
    return cell->table_size > 0;
}

/* A new cell at the frontier. */
static bool ask_beyond(struct copy_map *map)
{
    struct cell *cell = cell_of(list_first(&map->free));
    if (!table_reserve(cell, map->walkers > 1 ? TABLE_SMALL : map->table_one)) {
        return false;
    }
    uint64_t left = map->limit - map->frontier;
    list_remove(&cell->link);
    cell->start = cell->filled = map->frontier;
    cell->end = map->frontier + (map->walkers > 1 ? min_u64(left, cell_bytes(map)) : left);
    cell->n_extents = 0;
    list_push_back(&map->cells, &cell->link);
    map->frontier = cell->end;
    ask(cell);
    return true;
}

void copy_map_pump(struct copy_map *map)
{
    if (map->sleeping && map->pos + WAKE_EARLY_BYTES >= map->frontier && map->usable) {
        map->sleeping = false;
        forget_price(map);
    }
    if (!may_ask(map)) {
        return;
    }
    list_for_each(link, &map->cells)
    {
        struct cell *cell = cell_of(link);
        if (!cell->asking && cell->filled < cell->end && !is_full(cell)) {
            ask(cell);
            if (!may_ask(map)) {
                return;
            }
        }
    }
    while (!map->sleeping && map->frontier < map->limit && may_ask(map) &&
           !list_empty(&map->free) && ask_beyond(map)) {
    }
}

void copy_map_advance(struct copy_map *map, uint64_t offset)
{
    map->pos = offset;
    struct list *first;
    while ((first = list_first(&map->cells)) != NULL) {
        struct cell *cell = cell_of(first);
        if (cell->end <= offset) {
            drop(cell);
            continue;
        }
        if (!cell->asking && is_full(cell) && cell->filled <= offset) {
            /* The table was full and has been read: goes on from here. */
            cell->start = cell->filled;
            cell->n_extents = 0;
            if (map->look == cell) {
                map->look = NULL;
            }
        }
        break;
    }
    map->frontier = max_u64(map->frontier, min_u64(offset, map->limit));
}

static enum copy_map_answer not_known(const struct copy_map *map, uint64_t offset,
                                      uint64_t *ret_end)
{
    if (!map->dev->info.changes && map->outstanding > 0 &&
        loop_now_ns(map->dev->loop) - map->heard_ns > PATIENCE_NS) {
        *ret_end = offset + IMPATIENT_BYTES;
        return COPY_MAP_DATA;
    }
    return COPY_MAP_WAIT;
}

static bool covers(const struct block_extent *extent, uint64_t offset)
{
    return offset >= extent->offset && offset - extent->offset < extent->len;
}

/* offset is in the known part of the cell. */
static unsigned find_extent(const struct copy_map *map, const struct cell *cell, uint64_t offset)
{
    if (map->look == cell) {
        for (unsigned i = map->look_index; i < cell->n_extents && i <= map->look_index + 1; i++) {
            if (covers(&cell->extents[i], offset)) {
                return i;
            }
        }
    }
    unsigned low = 0;
    unsigned high = cell->n_extents;
    while (high - low > 1) {
        unsigned middle = low + (high - low) / 2;
        if (cell->extents[middle].offset <= offset) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static enum copy_map_answer peek_cell(struct copy_map *map, struct cell *cell, uint64_t offset,
                                      uint64_t *ret_end)
{
    if (offset >= cell->filled) {
        return not_known(map, offset, ret_end);
    }
    unsigned i = find_extent(map, cell, offset);
    CHECK(i < cell->n_extents && covers(&cell->extents[i], offset));
    map->look = cell;
    map->look_index = i;
    *ret_end = cell->extents[i].offset + cell->extents[i].len;
    switch (cell->extents[i].kind) {
    case BLOCK_EXTENT_ZERO:
        return COPY_MAP_ZERO;
    case BLOCK_EXTENT_KEPT:
        return COPY_MAP_KEPT;
    default:
        return COPY_MAP_DATA;
    }
}

enum copy_map_answer copy_map_peek(struct copy_map *map, uint64_t offset, uint64_t *ret_end)
{
    if (!map->usable && list_empty(&map->cells)) {
        *ret_end = UINT64_MAX;
        return COPY_MAP_DATA;
    }
    list_for_each(link, &map->cells)
    {
        struct cell *cell = cell_of(link);
        if (offset < cell->start) {
            *ret_end = cell->start;
            return COPY_MAP_DATA;
        }
        if (offset < cell->end) {
            return peek_cell(map, cell, offset, ret_end);
        }
    }
    if (offset < map->frontier) {
        *ret_end = map->frontier;
        return COPY_MAP_DATA;
    }
    if (offset >= map->limit) {
        *ret_end = UINT64_MAX;
        return COPY_MAP_DATA;
    }
    return not_known(map, offset, ret_end);
}
