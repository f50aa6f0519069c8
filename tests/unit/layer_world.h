// SPDX-License-Identifier: Apache-2.0
/*
 * A volume under test: layers on a disk that can lose its power, a stack, and a model that knows
 * which values every block of 512 bytes may have, of the volume and of each snapshot.
 *
 * Thread:    the simulated loop's.
 * Ownership: world_new() to world_free(); buffers belong to the operations.
 * Errors:    a failed expectation ends the test and names the seed.
 *
 * Blocks are stamped with their number and a running value. A block's model is the list of values
 * that it may have after a power cut; the last one is what a read must give.
 */
#ifndef TESTS_UNIT_LAYER_WORLD_H
#define TESTS_UNIT_LAYER_WORLD_H

#include "tests/unit/block_io.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "block/layer_private.h"
#include "block/mem_dev.h"
#include "block/stack.h"
#include "tests/unit/layer_disk.h"

enum {
    W_BLOCK = 512,
    W_WINDOWS = 5, /* the last only when the volume has grown */
    W_WINDOW = 96 << 10,
    W_BLOCKS = W_WINDOWS * W_WINDOW / W_BLOCK,
    W_VALUES = 12,
    W_LAYERS = 6,
    W_INFLIGHT = 6,
    W_MOST = 24 << 10,
    W_SIZE = 64 << 20,
    W_BOTTOM = (60 << 20) + 512 * 7,
};

struct cell {
    unsigned n;
    struct {
        uint64_t value;
        uint64_t done; /* UINT64_MAX: under way */
    } v[W_VALUES];
};

struct view {
    bool lost; /* a merge overwrites it */
    struct cell cells[W_BLOCKS];
};

struct world_op {
    struct io io;
    bool used;
    unsigned first, last; /* blocks of the model */
    uint64_t value;
    uint64_t began;
    struct world *world;
    uint8_t data[W_MOST];
};

struct world {
    uint64_t seed;
    struct random random;
    struct loop_sim *sim;
    struct loop *loop;
    struct layer_disk *disk;
    struct layer_cache *cache;
    struct blockdev *dev;
    struct layer *layers[W_LAYERS];
    char names[W_LAYERS][32]; /* what the records say */
    struct view *views[W_LAYERS];
    unsigned n_layers; /* recorded */
    unsigned serial;
    uint64_t clock;
    uint64_t stamp;
    struct world_op ops[W_INFLIGHT];
    uint64_t capacity_used;
    struct space space;
    struct blockdev *bottom;
    bool merged; /* a merge was not finished: run it again */
    enum stack_job_kind merge_kind;
    unsigned merge_index;
    uint64_t size; /* of the top, and what it may be after a cut while it grows */
    uint64_t grow_to;
};

#define W_EXPECT(world, condition)                                                                 \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            print_error("seed %" PRIu64 ": %s\n", (world)->seed, #condition);                      \
            fail();                                                                                \
        }                                                                                          \
    } while (0)

static inline uint64_t world_offset(unsigned block)
{
    static const uint64_t begins[W_WINDOWS] = {0, (4 << 20) - W_WINDOW / 2,
                                               (60 << 20) - W_WINDOW / 2, W_SIZE - W_WINDOW,
                                               (120 << 20) - W_WINDOW / 2};
    unsigned per = W_WINDOW / W_BLOCK;
    return begins[block / per] + (uint64_t)(block % per) * W_BLOCK;
}

static inline void world_stamp(uint8_t *data, unsigned block, uint64_t value)
{
    uint64_t word = value ? value | (uint64_t)(block + 1) << 40 : 0;
    for (unsigned i = 0; i < W_BLOCK; i += 8) {
        memcpy(data + i, &word, 8);
    }
}

static inline bool world_read_stamp(const uint8_t *data, unsigned block, uint64_t *ret_value)
{
    uint64_t word;
    memcpy(&word, data, 8);
    for (unsigned i = 8; i < W_BLOCK; i += 8) {
        if (memcmp(data + i, &word, 8) != 0) {
            return false;
        }
    }
    *ret_value = word & ((UINT64_C(1) << 40) - 1);
    return word == 0 || word >> 40 == block + 1;
}

struct world_wait {
    bool done;
    int status;
    uint64_t pause_ns;
    struct layer *layer;
    struct error error;
};

static inline void world_done(void *arg, int status)
{
    struct world_wait *wait = arg;
    wait->done = true;
    wait->status = status;
}

static inline void world_closed(void *arg)
{
    world_done(arg, 0);
}

static inline void world_opened(void *arg, struct layer *layer, const struct error *error)
{
    struct world_wait *wait = arg;
    wait->done = true;
    wait->layer = layer;
    if (error) {
        wait->error = *error;
        wait->status = error_info(error->code)->err;
    }
}

static inline void world_snapped(void *arg, int status, uint64_t pause_ns)
{
    struct world_wait *wait = arg;
    wait->done = true;
    wait->status = status;
    wait->pause_ns = pause_ns;
}

static inline bool world_is_done(void *arg)
{
    return ((struct world_wait *)arg)->done;
}

static inline void world_await(struct world *world, struct world_wait *wait)
{
    W_EXPECT(world, loop_sim_run_until(world->sim, world_is_done, wait, 100 * SEC_NS));
}

static inline struct layer *world_layer(struct world *world, const char *name, bool create,
                                        struct world_wait *wait)
{
    struct layer_spec spec = {.path = name,
                              .cache = world->cache,
                              .backend = layer_disk_backend(world->disk),
                              .space = &world->space,
                              .size_bytes = create ? world->size : 0,
                              .log_half_bytes = 4096u * (2 + world->seed % 3)};
    memcpy(spec.id, name, strlen(name) < 16 ? strlen(name) : 16);
    *wait = (struct world_wait){0};
    assert_int_equal(create ? layer_create(world->loop, &spec, world_opened, wait)
                            : layer_open(world->loop, &spec, world_opened, wait),
                     0);
    world_await(world, wait);
    return wait->layer;
}

static inline int world_reserve(void *arg, uint64_t bytes)
{
    struct world *world = arg;
    world->capacity_used += bytes;
    return 0;
}

static inline void world_give_back(void *arg, uint64_t bytes)
{
    struct world *world = arg;
    world->capacity_used -= bytes;
}

static inline struct blockdev *world_stack(struct world *world, unsigned n)
{
    struct blockdev *dev;
    struct stack_spec spec = {.layers = world->layers, .n_layers = n, .bottom = world->bottom};
    spec.capacity =
        (struct stack_capacity){.reserve = world_reserve, .release = world_give_back, .arg = world};
    assert_int_equal(stack_open(world->loop, &spec, &dev), 0);
    return dev;
}

static inline void world_open(struct world *world)
{
    for (unsigned i = 0; i < world->n_layers; i++) {
        struct world_wait wait;
        world->layers[i] = world_layer(world, world->names[i], false, &wait);
        if (!world->layers[i]) {
            print_error("seed %" PRIu64 ": %s\n", world->seed, wait.error.detail);
            fail();
        }
    }
    uint64_t size = layer_size_bytes(world->layers[world->n_layers - 1]);
    W_EXPECT(world, size == world->size || size == world->grow_to);
    world->size = world->grow_to = size;
    world->dev = world_stack(world, world->n_layers);
}

/* How many blocks of the model a volume of that size has. */
static inline unsigned world_blocks(uint64_t size)
{
    return W_BLOCKS - (size < world_offset(W_BLOCKS - 1) + W_BLOCK ? W_WINDOW / W_BLOCK : 0);
}

static inline struct world *world_new(uint64_t seed, unsigned delay_percent)
{
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);
    world->seed = seed;
    random_seed(&world->random, seed);
    space_init(&world->space, 0);
    assert_int_equal(loop_sim_new(seed, &world->sim), 0);
    assert_int_equal(loop_sim_add(world->sim, "world", &world->loop), 0);
    world->disk = layer_disk_new(seed * 7 + 1, delay_percent);
    /* Small: map pages come and go. */
    assert_int_equal(layer_cache_new(seed % 2 ? 1 : 1 << 20, &world->cache), 0);
    world->size = world->grow_to = W_SIZE;
    struct world_wait wait;
    snprintf(world->names[0], sizeof(world->names[0]), "layer%u", world->serial++);
    world->layers[0] = world_layer(world, world->names[0], true, &wait);
    assert_non_null(world->layers[0]);
    world->views[0] = calloc(1, sizeof(struct view));
    for (unsigned b = 0; b < W_BLOCKS; b++) {
        world->views[0]->cells[b].n = 1;
    }
    world->n_layers = 1;
    world->dev = world_stack(world, 1);
    return world;
}

/* Below the oldest layer there is a device with data in every second granule; before the first
 * request. */
static inline void world_add_bottom(struct world *world)
{
    struct world_wait wait = {0};
    struct mem_dev_spec spec = {.size_bytes = W_BOTTOM, .no_map = world->seed % 2};
    blockdev_close(world->dev, world_closed, &wait);
    world_await(world, &wait);
    assert_int_equal(mem_dev_new(world->loop, &spec, &world->bottom), 0);
    for (unsigned b = 0; b < W_BLOCKS; b++) {
        uint8_t data[W_BLOCK];
        if (world_offset(b) + W_BLOCK <= W_BOTTOM && b / 8 % 2) {
            world->views[0]->cells[b].v[0].value = ++world->stamp;
            world_stamp(data, b, world->stamp);
            mem_disk_poke(mem_dev_disk(world->bottom), world_offset(b), data, W_BLOCK);
        }
    }
    world->dev = world_stack(world, 1);
}

/* Settles what a sync that began then has made sure of. */
static inline void cell_settle(struct cell *cell, uint64_t began)
{
    unsigned keep = 0;
    for (unsigned i = 1; i < cell->n; i++) {
        if (cell->v[i].done <= began) {
            keep = i;
        }
    }
    memmove(cell->v, cell->v + keep, (cell->n - keep) * sizeof(cell->v[0]));
    cell->n -= keep;
    cell->v[0].done = 0;
}

static inline void view_settle(struct view *view, uint64_t began)
{
    for (unsigned b = 0; b < W_BLOCKS; b++) {
        cell_settle(&view->cells[b], began);
    }
}

static inline void world_op_done(struct block_req *req)
{
    struct world_op *op = container_of(req, struct world_op, io.req);
    struct world *world = op->world;
    struct view *top = world->views[world->n_layers - 1];
    op->used = false;
    W_EXPECT(world, req->status == 0 || layer_disk_is_cut(world->disk));
    if (req->status) {
        return; /* may or may not have happened, for ever */
    }
    uint64_t now = ++world->clock;
    if (req->op == BLOCK_FLUSH) {
        for (unsigned i = 0; i < world->n_layers; i++) {
            view_settle(world->views[i], op->began);
        }
        return;
    }
    for (unsigned b = op->first; b <= op->last; b++) {
        struct cell *cell = &top->cells[b];
        if (req->op == BLOCK_READ) {
            uint64_t value = UINT64_MAX;
            W_EXPECT(world, world_read_stamp(op->data + (b - op->first) * W_BLOCK, b, &value));
            W_EXPECT(world, value == cell->v[cell->n - 1].value);
            continue;
        }
        cell->v[cell->n - 1].done = now;
        if (req->flags & BLOCK_FUA) {
            cell_settle(cell, now);
        }
    }
}

static inline bool world_busy(struct world *world, unsigned first, unsigned last)
{
    for (unsigned i = 0; i < W_INFLIGHT; i++) {
        const struct world_op *op = &world->ops[i];
        if (op->used && op->io.req.op != BLOCK_FLUSH && op->first <= last && first <= op->last) {
            return true;
        }
    }
    return false;
}

static inline void world_submit(struct world *world, struct world_op *op, enum block_op kind,
                                unsigned flags)
{
    uint64_t len = kind == BLOCK_FLUSH ? 0 : (uint64_t)(op->last - op->first + 1) * W_BLOCK;
    len = op->last == world_blocks(world->size) - 1 && op->first == 0 ? world->size : len;
    op->used = true;
    op->world = world;
    op->began = world->clock;
    op->io = (struct io){0};
    op->io.slice = (struct slice){.data = op->data, .len = (size_t)len};
    op->io.req = (struct block_req){.op = kind,
                                    .flags = flags,
                                    .offset = kind == BLOCK_FLUSH ? 0 : world_offset(op->first),
                                    .len = len,
                                    .slices = &op->io.slice,
                                    .n_slices = kind == BLOCK_READ || kind == BLOCK_WRITE,
                                    .done = world_op_done};
    blockdev_submit(world->dev, &op->io.req);
}

/* The whole volume, as SANITIZE and a whole UNMAP do. */
static inline void world_erase(struct world *world)
{
    struct world_op *op = &world->ops[0];
    struct view *top = world->views[world->n_layers - 1];
    op->first = 0;
    op->last = world_blocks(world->size) - 1;
    for (unsigned b = 0; b <= op->last; b++) {
        struct cell *cell = &top->cells[b];
        if (cell->n == W_VALUES) {
            return;
        }
    }
    for (unsigned b = 0; b <= op->last; b++) {
        struct cell *cell = &top->cells[b];
        cell->v[cell->n].value = 0;
        cell->v[cell->n++].done = UINT64_MAX;
    }
    bool zero = random_chance(&world->random, 1, 2);
    world_submit(world, op, zero ? BLOCK_ZERO : BLOCK_DISCARD, zero ? BLOCK_FUA : 0);
}

/* One random request, if there is room for it. */
static inline void world_request(struct world *world)
{
    struct world_op *op = NULL;
    for (unsigned i = 0; i < W_INFLIGHT && !op; i++) {
        op = world->ops[i].used ? NULL : &world->ops[i];
    }
    if (!op) {
        return;
    }
    uint64_t dice = random_below(&world->random, 20);
    if (dice < 3) {
        world_submit(world, op, BLOCK_FLUSH, 0);
        return;
    }
    unsigned per = W_WINDOW / W_BLOCK;
    unsigned window =
        (unsigned)random_below(&world->random, world_blocks(world->size) * W_BLOCK / W_WINDOW);
    unsigned begin = (unsigned)random_below(&world->random, per);
    unsigned count = 1 + (unsigned)random_below(&world->random, W_MOST / W_BLOCK);
    if (random_chance(&world->random, 1, 2)) {
        begin = begin / 8 * 8;
        count = (count + 7) / 8 * 8;
    }
    count = count < per - begin ? count : per - begin;
    count = count < W_MOST / W_BLOCK ? count : W_MOST / W_BLOCK;
    op->first = window * per + begin;
    op->last = op->first + count - 1;
    if (world_busy(world, op->first, op->last)) {
        return;
    }
    enum block_op kind = dice < 6    ? BLOCK_READ
                         : dice < 8  ? BLOCK_ZERO
                         : dice < 10 ? BLOCK_DISCARD
                                     : BLOCK_WRITE;
    struct view *top = world->views[world->n_layers - 1];
    if (kind != BLOCK_READ) {
        for (unsigned b = op->first; b <= op->last; b++) {
            if (top->cells[b].n == W_VALUES) {
                world_submit(world, op, BLOCK_FLUSH, 0);
                return;
            }
        }
        /* Writes of zeros, too, some with a block of data among them. */
        uint64_t value = kind == BLOCK_WRITE ? ++world->stamp : 0;
        bool zeros = kind == BLOCK_WRITE && random_chance(&world->random, 1, 4);
        unsigned but =
            zeros ? op->first + (unsigned)random_below(&world->random, 2 * count) : op->first;
        for (unsigned b = op->first; b <= op->last; b++) {
            struct cell *cell = &top->cells[b];
            uint64_t stamp = zeros && b != but ? 0 : value;
            cell->v[cell->n].value = stamp;
            cell->v[cell->n++].done = UINT64_MAX;
            world_stamp(op->data + (b - op->first) * W_BLOCK, b, stamp);
        }
    }
    bool fua = kind != BLOCK_READ && kind != BLOCK_DISCARD && random_chance(&world->random, 1, 4);
    world_submit(world, op, kind, fua ? BLOCK_FUA : 0);
}

static inline bool world_is_idle(void *arg)
{
    const struct world *world = arg;
    for (unsigned i = 0; i < W_INFLIGHT; i++) {
        if (world->ops[i].used) {
            return false;
        }
    }
    return true;
}

static inline void world_drain(struct world *world)
{
    W_EXPECT(world, loop_sim_run_until(world->sim, world_is_idle, world, 100 * SEC_NS));
}

/* Reads a view and compares; after a cut it also learns which of the values it is. */
static inline void world_check_view(struct world *world, unsigned index, bool after_cut)
{
    static uint8_t data[W_WINDOW];
    struct view *view = world->views[index];
    if (view->lost) {
        return;
    }
    struct blockdev *dev = world_stack(world, index + 1);
    for (unsigned w = 0; w < world_blocks(dev->info.size_bytes) * W_BLOCK / W_WINDOW; w++) {
        unsigned first = w * (W_WINDOW / W_BLOCK);
        memset(data, 0xee, sizeof(data));
        struct io io;
        io_start(&io, dev, BLOCK_READ, world_offset(first), data, W_WINDOW, 0);
        W_EXPECT(world, loop_sim_run_until(world->sim, io_is_done, &io, 100 * SEC_NS));
        W_EXPECT(world, io.req.status == 0);
        for (unsigned b = 0; b < W_WINDOW / W_BLOCK; b++) {
            struct cell *cell = &view->cells[first + b];
            uint64_t value = UINT64_MAX;
            bool whole = world_read_stamp(data + b * W_BLOCK, first + b, &value);
            bool found = false;
            for (unsigned i = after_cut ? 0 : cell->n - 1; i < cell->n && whole && !found; i++) {
                found = cell->v[i].value == value;
            }
            if (!found) {
                print_error("seed %" PRIu64 ": view %u of %u, block %u is %" PRIu64 "%s; allowed:",
                            world->seed, index, world->n_layers, first + b, value,
                            whole ? "" : " (torn)");
                for (unsigned i = 0; i < cell->n; i++) {
                    print_error(" %" PRIu64, cell->v[i].value);
                }
                print_error("\n");
                fail();
            }
            if (after_cut) {
                cell->n = 1;
                cell->v[0].value = value;
                cell->v[0].done = 0;
            }
        }
    }
    struct world_wait wait = {0};
    blockdev_close(dev, world_closed, &wait);
    world_await(world, &wait);
}

static inline void world_check(struct world *world, bool after_cut)
{
    world_drain(world);
    for (unsigned i = 0; i < world->n_layers; i++) {
        world_check_view(world, i, after_cut);
    }
}

/* Snapshot; false if the power went. */
static inline bool world_snapshot(struct world *world)
{
    struct world_wait wait;
    unsigned n = world->n_layers;
    world_drain(world);
    snprintf(world->names[n], sizeof(world->names[n]), "layer%u", world->serial++);
    struct layer *layer = world_layer(world, world->names[n], true, &wait);
    if (!layer) {
        W_EXPECT(world, layer_disk_is_cut(world->disk));
        return false;
    }
    /* Recorded, then pushed. */
    world->layers[n] = layer;
    world->views[n] = malloc(sizeof(struct view));
    memcpy(world->views[n], world->views[n - 1], sizeof(struct view));
    world->n_layers++;
    wait = (struct world_wait){0};
    assert_int_equal(stack_snapshot(world->dev, layer, world_snapped, &wait), 0);
    world_await(world, &wait);
    if (wait.status) {
        W_EXPECT(world, layer_disk_is_cut(world->disk));
        return false;
    }
    view_settle(world->views[n - 1], world->clock);
    view_settle(world->views[n], world->clock);
    return true;
}

static inline void world_forget(struct world *world, unsigned layer, unsigned view)
{
    free(world->views[view]);
    for (unsigned i = layer; i + 1 < world->n_layers; i++) {
        world->layers[i] = world->layers[i + 1];
        memcpy(world->names[i], world->names[i + 1], sizeof(world->names[i]));
    }
    for (unsigned i = view; i + 1 < world->n_layers; i++) {
        world->views[i] = world->views[i + 1];
    }
    world->n_layers--;
}

/* Runs a job while requests go on, sometimes stopping it and beginning again. */
static inline int world_job(struct world *world, enum stack_job_kind kind, unsigned index)
{
    struct world_wait wait = {.status = -ECANCELED};
    for (unsigned life = 0; wait.status == -ECANCELED; life++) {
        struct stack_job *job;
        struct stack_job_spec spec = {
            .kind = kind, .index = index, .max_inflight = 3, .done = world_done, .arg = &wait};
        bool stop = life < 3 && random_chance(&world->random, 1, 4);
        wait = (struct world_wait){0};
        assert_int_equal(stack_job_start(world->dev, &spec, &job), 0);
        while (!wait.done) {
            if (random_chance(&world->random, 1, 4) && !layer_disk_is_cut(world->disk)) {
                world_request(world);
            }
            if (!loop_sim_step(world->sim)) {
                loop_sim_advance(world->sim, 20000);
            }
            if (stop && !wait.done && random_chance(&world->random, 1, 8)) {
                stack_job_stop(job);
                stop = false;
            }
        }
    }
    W_EXPECT(world, wait.status == 0 || layer_disk_is_cut(world->disk));
    return wait.status;
}

/* Runs a merge while requests go on; false if the power went. */
static inline bool world_merge(struct world *world, enum stack_job_kind kind, unsigned index)
{
    struct world_wait wait = {0};
    unsigned gone = kind == STACK_MERGE_UP ? index : index - 1;
    world->views[gone]->lost = true;
    world->merged = true;
    world->merge_kind = kind;
    world->merge_index = index;
    if (world_job(world, kind, index)) {
        return false;
    }
    world->merged = false;
    struct layer *layer = world->layers[index];
    /* Recorded, then removed. */
    world_forget(world, index, gone);
    wait = (struct world_wait){0};
    assert_int_equal(stack_remove(world->dev, index, NULL, NULL), 0);
    layer_unref(layer, world_done, &wait);
    world_await(world, &wait);
    return true;
}

static inline void world_close_bottom(struct world *world)
{
    struct world_wait wait = {0};
    blockdev_close(world->bottom, world_closed, &wait);
    world_await(world, &wait);
    world->bottom = NULL;
}

enum { W_PIECES = 3, W_PIECE = 32 << 10 };

struct world_piece {
    struct io io;
    bool used;
    uint8_t data[W_PIECE];
};

/* The window that offset is in, or the next one, within the bottom. */
static inline uint64_t world_window(uint64_t offset, uint64_t *ret_end)
{
    for (unsigned w = 0; w < W_WINDOWS; w++) {
        uint64_t begin = world_offset(w * (W_WINDOW / W_BLOCK));
        if (offset < begin + W_WINDOW && begin < W_BOTTOM) {
            *ret_end = begin + W_WINDOW < W_BOTTOM ? begin + W_WINDOW : W_BOTTOM;
            return begin;
        }
    }
    *ret_end = W_BOTTOM;
    return W_BOTTOM;
}

/* The next piece at *pos: read from the bottom, or zeros where it has none. Sometimes what is there
 * already is skipped. */
static inline void world_piece_start(struct world *world, struct blockdev *fill,
                                     struct world_piece *piece, uint64_t *pos)
{
    uint64_t end;
    uint64_t begin = world_window(*pos, &end);
    piece->used = true;
    if (*pos < begin) {
        io_start(&piece->io, fill, BLOCK_ZERO, *pos, NULL, begin - *pos, 0);
        *pos = begin;
        return;
    }
    uint64_t len = (1 + random_below(&world->random, W_PIECE / LAYER_GRANULE)) * LAYER_GRANULE;
    len = len < end - *pos ? len : end - *pos;
    if (random_chance(&world->random, 1, 4)) {
        struct io map;
        io_start(&map, fill, BLOCK_MAP, *pos, NULL, len, 0);
        W_EXPECT(world, loop_sim_run_until(world->sim, io_is_done, &map, 100 * SEC_NS));
        if (!map.req.status && map.extents[0].kind == BLOCK_EXTENT_KEPT) {
            *pos += map.extents[0].len;
            piece->used = false;
            return;
        }
    }
    io_start(&piece->io, world->bottom, BLOCK_READ, *pos, piece->data, len, 0);
    *pos += len;
}

/* It was read: now it is written. */
static inline int world_piece_go_on(struct blockdev *fill, struct world_piece *piece)
{
    const struct block_req *req = &piece->io.req;
    if (req->status || req->op != BLOCK_READ) {
        piece->used = false;
        return req->status;
    }
    bool zero = mem_is_zero(piece->data, req->len);
    io_start(&piece->io, fill, zero ? BLOCK_ZERO : BLOCK_WRITE, req->offset,
             zero ? NULL : piece->data, req->len, req->offset / LAYER_GRANULE % 5 ? 0 : BLOCK_FUA);
    return 0;
}

/* One walk from the bottom to the fill device while requests go on; it may stop anywhere. */
static inline int world_fill(struct world *world, bool may_stop)
{
    static struct world_piece pieces[W_PIECES];
    struct blockdev *fill;
    uint64_t pos = 0;
    int status = 0;
    bool busy = true;
    assert_int_equal(stack_fill_open(world->dev, W_BOTTOM, &fill), 0);
    memset(pieces, 0, sizeof(pieces));
    while (busy) {
        busy = false;
        for (unsigned i = 0; i < W_PIECES; i++) {
            struct world_piece *piece = &pieces[i];
            if (piece->used && piece->io.done) {
                int err = world_piece_go_on(fill, piece);
                status = status ? status : err;
            }
            if (!piece->used && pos < W_BOTTOM && !status) {
                world_piece_start(world, fill, piece, &pos);
            }
            busy = busy || piece->used || (pos < W_BOTTOM && !status);
        }
        if (may_stop && random_chance(&world->random, 1, 60)) {
            status = status ? status : -ECANCELED;
        }
        if (random_chance(&world->random, 1, 4) && !layer_disk_is_cut(world->disk)) {
            world_request(world);
        }
        if (!loop_sim_step(world->sim)) {
            loop_sim_advance(world->sim, 20000);
        }
    }
    struct io io;
    io_start(&io, fill, BLOCK_FLUSH, 0, NULL, 0, 0);
    W_EXPECT(world, loop_sim_run_until(world->sim, io_is_done, &io, 100 * SEC_NS));
    struct world_wait wait = {0};
    blockdev_close(fill, world_closed, &wait);
    world_await(world, &wait);
    return status ? status : io.req.status;
}

/* Fills the oldest layer from the bottom, and then does without; false if the power went. */
static inline bool world_hydrate(struct world *world)
{
    struct world_wait wait = {0};
    int status = -ECANCELED;
    for (unsigned life = 0; status == -ECANCELED; life++) {
        status = world_fill(world, life < 3);
    }
    W_EXPECT(world, status == 0 || layer_disk_is_cut(world->disk));
    if (status) {
        return false;
    }
    assert_int_equal(stack_drop_bottom(world->dev, world_done, &wait), 0);
    world_await(world, &wait);
    world_close_bottom(world);
    return true;
}

/* Makes the volume larger while requests go on; false if the power went. */
static inline bool world_grow(struct world *world)
{
    static const uint64_t sizes[] = {W_SIZE + 3 * LAYER_GRANULE + 512, 119 << 20,
                                     (128 << 20) + 512};
    struct world_wait wait = {0};
    for (unsigned i = 0; i < ARRAY_LEN(sizes) && world->grow_to == world->size; i++) {
        world->grow_to = sizes[i] > world->size ? sizes[i] : world->size;
    }
    if (world->grow_to == world->size) {
        return true;
    }
    assert_int_equal(stack_grow(world->dev, world->grow_to, world_done, &wait), 0);
    while (!wait.done) {
        if (!layer_disk_is_cut(world->disk)) {
            world_request(world);
        }
        if (!loop_sim_step(world->sim)) {
            loop_sim_advance(world->sim, 20000);
        }
    }
    W_EXPECT(world, wait.status == 0 || layer_disk_is_cut(world->disk));
    if (!wait.status) {
        world->size = world->grow_to;
    }
    return wait.status == 0;
}

/* Scrubs every layer while requests go on; false if the power went. Then no layer has space that
 * its map does not know of. */
static inline bool world_scrub(struct world *world)
{
    for (unsigned l = 0; l < world->n_layers; l++) {
        if (world_job(world, STACK_SCRUB, l)) {
            return false;
        }
    }
    world_drain(world);
    for (unsigned l = 0; l < world->n_layers && !layer_disk_is_cut(world->disk); l++) {
        struct layer *layer = world->layers[l];
        uint64_t n = layer_granules(layer);
        for (unsigned b = 0; b < W_BLOCKS; b += LAYER_GRANULE / W_BLOCK) {
            uint64_t g = world_offset(b) / LAYER_GRANULE;
            struct world_wait wait = {0};
            struct layer_wait want = {.fn = world_done, .arg = &wait};
            uint64_t count;
            if (g >= n) {
                continue;
            }
            if (!layer_want(layer, g, g, &want)) {
                world_await(world, &wait);
            }
            bool data = layer_map_run(layer_map_of(layer), g, g, &count) == GRANULE_DATA;
            W_EXPECT(world, data || !layer_disk_has(world->disk, world->names[l],
                                                    LAYER_DATA_OFFSET + g * LAYER_GRANULE));
        }
    }
    return true;
}

static inline void world_close(struct world *world)
{
    struct world_wait wait = {0};
    world_drain(world);
    blockdev_close(world->dev, world_closed, &wait);
    world_await(world, &wait);
    for (unsigned i = 0; i < world->n_layers; i++) {
        wait = (struct world_wait){0};
        layer_unref(world->layers[i], world_done, &wait);
        world_await(world, &wait);
        W_EXPECT(world, wait.status == 0 || layer_disk_is_cut(world->disk));
    }
    loop_sim_run_until_idle(world->sim);
    W_EXPECT(world, layer_cache_bytes(world->cache) == 0);
    W_EXPECT(world, space_used(&world->space) == 0);
}

/* What the layers count is what the files occupy; not after a power cut, which leaks. */
static inline void world_check_space(struct world *world)
{
    uint64_t sum = 0;
    world_drain(world);
    loop_sim_run_until_idle(world->sim);
    for (unsigned i = 0; i < world->n_layers; i++) {
        uint64_t used = layer_used_bytes(world->layers[i]);
        sum += used;
        W_EXPECT(world, used == layer_disk_used(world->disk, world->names[i]));
    }
    W_EXPECT(world, space_used(&world->space) == sum);
}

static inline void world_free(struct world *world)
{
    world_close(world);
    if (world->bottom) {
        world_close_bottom(world);
    }
    for (unsigned i = 0; i < world->n_layers; i++) {
        free(world->views[i]);
    }
    layer_cache_free(world->cache);
    layer_disk_free(world->disk);
    loop_free(world->loop);
    loop_sim_free(world->sim);
    free(world);
}

/* count requests and nothing else. */
static inline void world_requests(struct world *world, unsigned count)
{
    for (unsigned i = 0; i < count && !layer_disk_is_cut(world->disk); i++) {
        world_request(world);
        for (uint64_t n = random_below(&world->random, 6); n > 0; n--) {
            if (!loop_sim_step(world->sim)) {
                loop_sim_advance(world->sim, 20000);
            }
        }
    }
}

/* count random steps, or until the power goes. */
static inline void world_run(struct world *world, unsigned count)
{
    for (unsigned i = 0; i < count && !layer_disk_is_cut(world->disk); i++) {
        uint64_t dice = random_below(&world->random, 200);
        if (dice < 4 && world->n_layers < W_LAYERS) {
            world_snapshot(world);
        } else if (dice < 7 && world->n_layers > 1) {
            world_merge(world, STACK_MERGE_UP,
                        (unsigned)random_below(&world->random, world->n_layers - 1));
        } else if (dice < 10 && world->n_layers > 2) {
            world_merge(world, STACK_MERGE_DOWN,
                        1 + (unsigned)random_below(&world->random, world->n_layers - 2));
        } else if (dice == 10) {
            world_scrub(world);
        } else if (dice == 11) {
            world_grow(world);
        } else if (dice == 12 && world->bottom) {
            world_hydrate(world);
        } else if (dice == 13) {
            world_drain(world);
            if (!layer_disk_is_cut(world->disk)) {
                world_erase(world);
            }
        } else if (dice < 16) {
            world_close(world);
            if (!layer_disk_is_cut(world->disk)) {
                world_open(world);
            } else {
                world->dev = NULL;
            }
        } else {
            world_requests(world, 1);
        }
    }
}

#endif
