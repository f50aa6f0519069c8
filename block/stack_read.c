// SPDX-License-Identifier: Apache-2.0
/*
 * Which layer has a granule, and reading it.
 *
 * Few layers are asked in turn, newest first, run by run. With more, the answer for a chunk of
 * 1024 granules is worked out once, word by word over the layers' bits, and kept: a byte per
 * granule, the number of the layer. Numbers do not change when a layer is pushed, and an empty one
 * changes no answer, so a snapshot costs nothing; a write to the top corrects what is kept.
 * Removing a layer forgets everything. What a job copies between layers needs no correction: the
 * old place stays right until it is removed. What was filled from below the oldest layer is asked
 * of that one, for the device below may be away.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "block/stack_object.h"

bool stack_known(struct stack *stack, uint64_t first, uint64_t last, struct layer_wait *wait)
{
    struct layer_wait *use = wait;
    for (unsigned i = stack->n_read; i-- > 0;) {
        struct layer *layer = stack->layers[i];
        uint64_t n = layer_granules(layer);
        /* A layer from before the volume grew may end in the chunk that is going to be resolved. */
        if (first / LAYER_CHUNK_GRANULES * LAYER_CHUNK_GRANULES >= n) {
            continue;
        }
        if (!layer_want(layer, first < n ? first : n - 1, last < n ? last : n - 1, use)) {
            return false;
        }
    }
    return true;
}

static struct stack_resolved *resolved_find(struct stack *stack, uint64_t chunk)
{
    struct stack_resolved *found =
        stack->resolved ? stack->resolved[chunk % STACK_RESOLVE_SLOTS] : NULL;
    return found && found->chunk == chunk ? found : NULL;
}

/* Who has which granule was found out before, and is kept up to date: no map of a layer is needed. */
static bool resolved_all(struct stack *stack, uint64_t first, uint64_t last)
{
    if (stack->n_read < STACK_RESOLVE_FROM || stack->bottom) {
        return false;
    }
    for (uint64_t c = first / LAYER_CHUNK_GRANULES; c <= last / LAYER_CHUNK_GRANULES; c++) {
        if (!resolved_find(stack, c)) {
            return false;
        }
    }
    return true;
}

static struct layer_cache *cache_of(struct stack *stack)
{
    return layer_map_of(stack_top(stack))->cache;
}

static struct stack_resolved *resolved_room(struct stack *stack, uint64_t chunk)
{
    struct layer_cache *cache = cache_of(stack);
    if (!stack->resolved) {
        stack->resolved = calloc(STACK_RESOLVE_SLOTS, sizeof(struct stack_resolved *));
        CHECK(stack->resolved != NULL);
        cache->bytes += STACK_RESOLVE_SLOTS * sizeof(struct stack_resolved *);
    }
    struct stack_resolved **slot = &stack->resolved[chunk % STACK_RESOLVE_SLOTS];
    if (*slot) {
        return *slot;
    }
    if (cache->bytes > cache->limit_bytes && stack->n_resolved >= 64) {
        /* The memory of another one. */
        while (!stack->resolved[stack->resolved_hand]) {
            stack->resolved_hand = (stack->resolved_hand + 1) % STACK_RESOLVE_SLOTS;
        }
        *slot = stack->resolved[stack->resolved_hand];
        stack->resolved[stack->resolved_hand] = NULL;
        return *slot;
    }
    *slot = malloc(sizeof(**slot));
    CHECK(*slot != NULL);
    cache->bytes += sizeof(**slot);
    stack->n_resolved++;
    return *slot;
}

void stack_resolved_forget(struct stack *stack)
{
    struct layer_cache *cache = cache_of(stack);
    if (!stack->resolved) {
        return;
    }
    for (unsigned i = 0; i < STACK_RESOLVE_SLOTS; i++) {
        free(stack->resolved[i]);
    }
    free(stack->resolved);
    stack->resolved = NULL;
    cache->bytes -= stack->n_resolved * sizeof(struct stack_resolved) +
                    STACK_RESOLVE_SLOTS * sizeof(struct stack_resolved *);
    stack->n_resolved = 0;
    stack->resolved_hand = 0;
}

uint64_t stack_memory_bytes(const struct blockdev *dev)
{
    const struct stack *stack = stack_of(dev);
    return stack->n_resolved * sizeof(struct stack_resolved) +
           (stack->resolved ? STACK_RESOLVE_SLOTS * sizeof(struct stack_resolved *) : 0);
}

void stack_resolved_set(struct stack *stack, uint64_t first, uint64_t last, unsigned code)
{
    if (stack->n_resolved == 0) {
        return;
    }
    while (first <= last) {
        uint64_t chunk = first / LAYER_CHUNK_GRANULES;
        uint64_t end = (chunk + 1) * LAYER_CHUNK_GRANULES;
        end = end < last + 1 ? end : last + 1;
        struct stack_resolved *found = resolved_find(stack, chunk);
        if (found) {
            memset(found->code + first % LAYER_CHUNK_GRANULES, (int)code, end - first);
        }
        first = end;
    }
}

enum { WORDS = LAYER_CHUNK_BYTES / 8, WORD_GRANULES = 32 };
#define ODD UINT64_C(0x5555555555555555)

static struct stack_resolved *resolved_build(struct stack *stack, uint64_t chunk)
{
    struct stack_resolved *out = resolved_room(stack, chunk);
    uint64_t open[WORDS]; /* two bits per granule, the lower set: not answered yet */
    uint64_t any = ODD;
    out->chunk = chunk;
    memset(out->code, STACK_ABSENT, sizeof(out->code));
    memset(open, 0x55, sizeof(open));
    for (unsigned i = stack->n_read; i-- > 0 && any;) {
        enum granule_state uniform = GRANULE_ABSENT;
        const uint8_t *bits = NULL;
        uint64_t n = layer_granules(stack->layers[i]);
        if (chunk * LAYER_CHUNK_GRANULES < n) {
            bits = layer_map_chunk(layer_map_of(stack->layers[i]), chunk, &uniform);
        }
        if (!bits && uniform == GRANULE_ABSENT) {
            continue;
        }
        uint8_t data = (uint8_t)(STACK_LAYER + stack->numbers[i]);
        any = 0;
        for (unsigned w = 0; w < WORDS; w++) {
            uint64_t word = ODD * uniform;
            if (bits) {
                /* Granule 4i is in the low bits of byte i: little-endian words keep the order. */
                const uint8_t *b = bits + w * sizeof(word);
                word = (uint64_t)b[0] | (uint64_t)b[1] << 8 | (uint64_t)b[2] << 16 |
                       (uint64_t)b[3] << 24 | (uint64_t)b[4] << 32 | (uint64_t)b[5] << 40 |
                       (uint64_t)b[6] << 48 | (uint64_t)b[7] << 56;
            }
            uint64_t hit = (word | word >> 1) & open[w];
            open[w] &= ~hit;
            any |= open[w];
            while (hit) {
                unsigned bit = (unsigned)__builtin_ctzll(hit);
                out->code[w * WORD_GRANULES + bit / 2] = word >> bit & 1 ? data : STACK_ZERO;
                hit &= hit - 1;
            }
        }
    }
    return out;
}

/* What no layer had may have been filled since, through this stack or another one. */
static unsigned resolve_oldest(struct stack *stack, uint64_t first, uint64_t *ret_count)
{
    struct layer *oldest = stack->layers[0];
    uint64_t last = first + *ret_count - 1;
    uint64_t n = layer_granules(oldest);
    if (first >= n) {
        return STACK_ABSENT;
    }
    enum granule_state state =
        layer_map_run(layer_map_of(oldest), first, last < n ? last : n - 1, ret_count);
    return state == GRANULE_DATA   ? STACK_LAYER + stack->numbers[0]
           : state == GRANULE_ZERO ? STACK_ZERO
                                   : STACK_ABSENT;
}

/* For known granules. */
unsigned stack_resolve(struct stack *stack, uint64_t first, uint64_t last, uint64_t *ret_count)
{
    if (stack->n_read >= STACK_RESOLVE_FROM) {
        uint64_t chunk = first / LAYER_CHUNK_GRANULES;
        struct stack_resolved *found = resolved_find(stack, chunk);
        if (found) {
            stack->stats.resolve_hits++;
        } else {
            stack->stats.resolve_misses++;
            found = resolved_build(stack, chunk);
        }
        uint64_t end = (chunk + 1) * LAYER_CHUNK_GRANULES;
        end = end < last + 1 ? end : last + 1;
        unsigned from = (unsigned)(first % LAYER_CHUNK_GRANULES);
        unsigned n = 1;
        while (n < end - first && found->code[from + n] == found->code[from]) {
            n++;
        }
        *ret_count = n;
        if (found->code[from] == STACK_ABSENT && stack->bottom) {
            return resolve_oldest(stack, first, ret_count);
        }
        return found->code[from];
    }
    for (unsigned i = stack->n_read; i-- > 0;) {
        struct layer *layer = stack->layers[i];
        uint64_t n = layer_granules(layer);
        uint64_t count;
        if (first >= n) {
            continue;
        }
        enum granule_state state =
            layer_map_run(layer_map_of(layer), first, last < n ? last : n - 1, &count);
        if (state != GRANULE_ABSENT) {
            *ret_count = count;
            return state == GRANULE_ZERO ? STACK_ZERO : STACK_LAYER + stack->numbers[i];
        }
        if (first + count < n || last < n) {
            last = first + count - 1;
        }
    }
    *ret_count = last - first + 1;
    return STACK_ABSENT;
}

struct stack_part *stack_part_get(struct stack *stack)
{
    struct stack_part *part = stack->spare_parts;
    if (part) {
        stack->spare_parts = part->next_spare;
    } else {
        part = calloc(1, sizeof(*part));
        CHECK(part != NULL);
    }
    return part;
}

void stack_part_put(struct stack *stack, struct stack_part *part)
{
    part->next_spare = stack->spare_parts;
    stack->spare_parts = part;
}

static void read_step(struct stack_read *read);

static void read_part_end(struct stack_read *read, int status)
{
    read->status = read->status ? read->status : status;
    if (--read->parts > 0) {
        return;
    }
    if (read->status || read->at == read->offset + read->len) {
        read->done(read);
    } else {
        read_step(read);
    }
}

static void layer_part_done(struct layer_io *io)
{
    struct stack_part *part = io->arg;
    struct stack_read *read = part->read;
    struct layer *layer = part->layer;
    stack_part_put(read->stack, part);
    read_part_end(read, io->status);
    layer_unref(layer, NULL, NULL);
}

/* Where in the slices the next bytes go. */
struct cursor {
    const struct slice *slice;
    size_t begin;
};

static size_t cursor_take(struct cursor *cursor, uint64_t want, uint8_t **ret_data)
{
    while (cursor->slice->len == cursor->begin) {
        cursor->slice++;
        cursor->begin = 0;
    }
    size_t len = cursor->slice->len - cursor->begin;
    len = len < want ? len : (size_t)want;
    *ret_data = cursor->slice->data + cursor->begin;
    cursor->begin += len;
    return len;
}

static void read_zeros(struct cursor *cursor, uint64_t len)
{
    while (len > 0) {
        uint8_t *data;
        size_t n = cursor_take(cursor, len, &data);
        memset(data, 0, n);
        len -= n;
    }
}

static void cursor_pass(struct cursor *cursor, uint64_t len)
{
    while (len > 0) {
        uint8_t *data;
        len -= cursor_take(cursor, len, &data);
    }
}

static void read_layer(struct stack_read *read, struct layer *layer, uint64_t offset, uint64_t len,
                       struct cursor *cursor)
{
    while (len > 0) {
        struct stack_part *part = stack_part_get(read->stack);
        uint64_t bytes = 0;
        int n = 0;
        for (; n < STACK_IOV && len > 0; n++) {
            uint8_t *data;
            part->iov[n].iov_len = cursor_take(cursor, len, &data);
            part->iov[n].iov_base = data;
            bytes += part->iov[n].iov_len;
            len -= part->iov[n].iov_len;
        }
        part->read = read;
        part->layer = layer;
        part->io = (struct layer_io){.op = LAYER_IO_READ,
                                     .offset = offset,
                                     .len = bytes,
                                     .iov = part->iov,
                                     .n_iov = n,
                                     .done = layer_part_done,
                                     .arg = part};
        read->parts++;
        int status = layer_read(layer, &part->io);
        if (status == -EINPROGRESS) {
            layer_ref(layer);
        } else {
            stack_part_put(read->stack, part);
            read_part_end(read, status);
        }
        offset += bytes;
    }
}

static void part_over(struct stack_part *part, int status)
{
    struct stack_read *read = part->read;
    struct stack *stack = read->stack;
    stack_part_put(stack, part);
    read_part_end(read, status);
    stack_bottom_read_done(stack);
}

/*
 * What was filled while it was read below may have been overwritten there since (block/keep_dev.h): it is read again, from the oldest
 * layer. What still is not there was not overwritten before the read had ended.
 */
static void bottom_part_check(void *arg, int status)
{
    struct stack_part *part = arg;
    struct stack_read *read = part->read;
    struct stack *stack = read->stack;
    struct layer *oldest = stack->layers[0];
    uint64_t at = part->req.offset;
    uint64_t end = at + part->req.len;
    uint64_t n = layer_granules(oldest) * LAYER_GRANULE;
    struct cursor cursor = {.slice = part->slices};
    end = end < n ? end : n;
    part->wait = (struct layer_wait){.fn = bottom_part_check, .arg = part};
    if (status || at >= end) {
        part_over(part, status);
        return;
    }
    uint64_t last = (end - 1) / LAYER_GRANULE;
    if (!layer_want(oldest, at / LAYER_GRANULE, last, &part->wait)) {
        return;
    }
    while (at < end) {
        uint64_t count;
        enum granule_state state =
            layer_map_run(layer_map_of(oldest), at / LAYER_GRANULE, last, &count);
        uint64_t run_end = (at / LAYER_GRANULE + count) * LAYER_GRANULE;
        run_end = run_end < end ? run_end : end;
        if (state == GRANULE_DATA) {
            read_layer(read, oldest, at, run_end - at, &cursor);
        } else if (state == GRANULE_ZERO) {
            read_zeros(&cursor, run_end - at);
        } else {
            cursor_pass(&cursor, run_end - at);
        }
        at = run_end;
    }
    part_over(part, 0);
}

static void bottom_part_done(struct block_req *req)
{
    struct stack_part *part = req->arg;
    if (req->status) {
        part_over(part, req->status);
    } else {
        bottom_part_check(part, 0);
    }
}

static void read_bottom(struct stack_read *read, uint64_t offset, uint64_t len,
                        struct cursor *cursor)
{
    struct stack *stack = read->stack;
    uint64_t size = stack->bottom ? stack->bottom->info.size_bytes : 0;
    uint64_t below = offset >= size ? 0 : size - offset;
    below = below < len ? below : len;
    uint64_t zeros = len - below;
    while (below > 0) {
        struct stack_part *part = stack_part_get(stack);
        uint64_t bytes = 0;
        unsigned n = 0;
        for (; n < STACK_IOV && below > 0; n++) {
            uint8_t *data;
            size_t got = cursor_take(cursor, below, &data);
            part->slices[n] = (struct slice){.data = data, .len = got};
            bytes += got;
            below -= got;
        }
        part->read = read;
        part->req = (struct block_req){.op = BLOCK_READ,
                                       .offset = offset,
                                       .len = bytes,
                                       .slices = part->slices,
                                       .n_slices = n,
                                       .done = bottom_part_done,
                                       .arg = part};
        read->parts++;
        stack->bottom_reads++;
        blockdev_submit(stack->bottom, &part->req);
        offset += bytes;
    }
    read_zeros(cursor, zeros);
}

static void read_retry(void *arg, int status)
{
    struct stack_read *read = arg;
    if (status) {
        read->status = status;
        read->done(read);
        return;
    }
    read_step(read);
}

static void read_step(struct stack_read *read)
{
    struct stack *stack = read->stack;
    uint64_t at = read->at;
    uint64_t end = read->offset + read->len;
    end = end - at < STACK_READ_BYTES ? end : at + STACK_READ_BYTES;
    uint64_t last = (end - 1) / LAYER_GRANULE;
    read->wait = (struct layer_wait){.fn = read_retry, .arg = read};
    if (!resolved_all(stack, at / LAYER_GRANULE, last) &&
        !stack_known(stack, at / LAYER_GRANULE, last, &read->wait)) {
        return;
    }
    struct cursor cursor = {.slice = read->slice, .begin = read->slice_begin};
    read->parts = 1;
    while (at < end) {
        uint64_t count;
        unsigned code = stack_resolve(stack, at / LAYER_GRANULE, last, &count);
        uint64_t run_end = (at / LAYER_GRANULE + count) * LAYER_GRANULE;
        run_end = run_end < end ? run_end : end;
        if (code >= STACK_LAYER) {
            read_layer(read, stack->by_number[code - STACK_LAYER], at, run_end - at, &cursor);
        } else if (code == STACK_ABSENT) {
            read_bottom(read, at, run_end - at, &cursor);
        } else {
            read_zeros(&cursor, run_end - at);
        }
        at = run_end;
    }
    read->at = end;
    read->slice = cursor.slice;
    read->slice_begin = cursor.begin;
    read_part_end(read, 0);
}

void stack_read_start(struct stack_read *read)
{
    read->status = 0;
    read->at = read->offset;
    read->slice = read->slices;
    read->slice_begin = 0;
    read_step(read);
}
