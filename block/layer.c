// SPDX-License-Identifier: Apache-2.0
/*
 * Create, open, first use, map pages, changes, close. Group commit and checkpoint are in
 * layer_commit.c.
 *
 *     open ──header──▶ UNUSED ──first use: log──▶ LOADING ──pages of the log──▶ READY
 *                                                    └──damaged──▶ FAILED
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/slice.h"
#include "block/layer_object.h"

const char *layer_path(const struct layer *layer)
{
    return layer->path;
}

const uint8_t *layer_id(const struct layer *layer)
{
    return layer->header.id;
}

uint64_t layer_number(const struct layer *layer)
{
    return layer->number;
}

uint64_t layer_size_bytes(const struct layer *layer)
{
    return layer->header.size_bytes;
}

uint64_t layer_used_bytes(const struct layer *layer)
{
    return layer->used_bytes;
}

/* taken: what the space has counted for it already. */
static void account(struct layer *layer, int64_t bytes, uint64_t taken)
{
    uint64_t before = layer->used_bytes;
    layer->n_changes++;
    if (bytes >= 0) {
        layer->used_bytes += (uint64_t)bytes;
    } else {
        /* What was punched may never have been counted, after a crash. */
        uint64_t less = (uint64_t)-bytes;
        layer->used_bytes -= less < before ? less : before;
    }
    uint64_t counted = before + taken;
    if (!layer->space) {
        return;
    }
    if (layer->used_bytes > counted) {
        space_add(layer->space, layer->used_bytes - counted);
    } else {
        space_give(layer->space, counted - layer->used_bytes);
    }
}

void layer_adopt(struct layer *layer, const char *path, struct space *space)
{
    CHECK(layer->space == NULL && strlen(path) == strlen(layer->path));
    memcpy(layer->path, path, strlen(path));
    layer_file_renamed(layer->file, path);
    layer->space = space;
    if (space) {
        space_add(space, layer->used_bytes);
    }
}

void layer_account(struct layer *layer, int64_t bytes)
{
    account(layer, bytes, 0);
}

const struct layer_stats *layer_stats(const struct layer *layer)
{
    return &layer->stats;
}

struct layer_map *layer_map_of(struct layer *layer)
{
    return &layer->map;
}

static uint64_t granules_of(uint64_t size_bytes)
{
    return (size_bytes + LAYER_GRANULE - 1) / LAYER_GRANULE;
}

uint64_t layer_granules(const struct layer *layer)
{
    return layer->map.n_granules;
}

struct layer_sharing *layer_sharing(struct layer *layer)
{
    return &layer->sharing;
}

unsigned layer_stacks(const struct layer *layer)
{
    return layer->sharing.stacks;
}

/* A new file has its header only; whatever was changed durably is in the log, or in pages. */
bool layer_is_blank(const struct layer *layer)
{
    return layer->used_bytes <= 2 * LAYER_BLOCK;
}

_Static_assert(LAYER_DATA_OFFSET + LAYER_MAX_BYTES <= (UINT64_C(16) << 40) - 4096,
               "the largest layer fits into a file of ext4");

static uint64_t file_bytes(uint64_t size_bytes)
{
    return LAYER_DATA_OFFSET + granules_of(size_bytes) * LAYER_GRANULE;
}

/* ---- create and open ---- */

struct layer_opening {
    struct layer *layer;
    bool create;
    struct layer_spec spec;
    layer_open_fn fn;
    void *arg;
    struct layer_io io;
    struct iovec iov;
    unsigned step;
    struct error error;
    uint8_t headers[2 * LAYER_BLOCK];
};

static void opening_end(struct layer_opening *opening)
{
    struct layer *layer = opening->layer;
    layer_open_fn fn = opening->fn;
    bool failed = opening->error.code != ERR_NONE;
    fn(opening->arg, failed ? NULL : layer, failed ? &opening->error : NULL);
    if (failed) {
        layer_account(layer, -(int64_t)layer->used_bytes);
        layer_map_fini(&layer->map);
        free(layer->path);
        free(layer);
    }
    free(opening);
}

static void opening_closed(void *arg)
{
    opening_end(arg);
}

static void opening_fail(struct layer_opening *opening)
{
    struct layer *layer = opening->layer;
    if (layer->file) {
        if (opening->create) {
            layer->backend->remove(layer->backend, layer->path);
        }
        layer_file_close(layer->file, opening_closed, opening);
    } else {
        opening_end(opening);
    }
}

static void opening_check(struct layer_opening *opening)
{
    static const uint8_t no_id[LAYER_ID_BYTES];
    struct layer *layer = opening->layer;
    const struct layer_spec *spec = &opening->spec;
    struct layer_header headers[2];
    const char *why[2] = {"", ""};
    int err[2];
    for (int i = 0; i < 2; i++) {
        err[i] = layer_header_decode(opening->headers + i * LAYER_BLOCK, &headers[i], &why[i]);
    }
    if (err[0] && err[1]) {
        error_set(&opening->error, ERR_INVALID_PARAMETER, "%s: %s", layer->path, why[0]);
        return;
    }
    int use = err[0] || (!err[1] && headers[1].generation > headers[0].generation) ? 1 : 0;
    const struct layer_header *header = &headers[use];
    if (!err[0] && !err[1] && memcmp(headers[0].id, headers[1].id, LAYER_ID_BYTES) != 0) {
        error_set(&opening->error, ERR_INVALID_PARAMETER, "%s: its two headers contradict",
                  layer->path);
    } else if (layer->file->size_bytes < file_bytes(header->size_bytes)) {
        error_set(&opening->error, ERR_INVALID_PARAMETER, "%s: it was cut short", layer->path);
    } else if (spec->size_bytes && spec->size_bytes != header->size_bytes) {
        error_set(&opening->error, ERR_INVALID_PARAMETER,
                  "%s: it is for a volume of %llu bytes, not %llu", layer->path,
                  (unsigned long long)header->size_bytes, (unsigned long long)spec->size_bytes);
    } else if (memcmp(spec->id, no_id, sizeof(no_id)) != 0 &&
               memcmp(spec->id, header->id, sizeof(no_id)) != 0) {
        error_set(&opening->error, ERR_INVALID_PARAMETER, "%s: it is another layer", layer->path);
    } else {
        layer->header = *header;
        layer->header_slot = (unsigned)use;
        layer_map_init(&layer->map, layer->map.cache, granules_of(header->size_bytes), false);
    }
}

static void opening_step(struct layer_opening *opening, int status);

static void opening_io_done(struct layer_io *io)
{
    opening_step(io->arg, io->status);
}

static int opening_io(struct layer_opening *opening, enum layer_io_op op, uint64_t len)
{
    opening->iov = (struct iovec){.iov_base = opening->headers, .iov_len = (size_t)len};
    opening->io = (struct layer_io){.op = op,
                                    .len = len,
                                    .iov = &opening->iov,
                                    .n_iov = 1,
                                    .done = opening_io_done,
                                    .arg = opening};
    return layer_file_submit(opening->layer->file, &opening->io);
}

static void opening_step(struct layer_opening *opening, int status)
{
    struct layer *layer = opening->layer;
    while (status != -EINPROGRESS) {
        if (status) {
            error_set(&opening->error, status == -ENOSPC ? ERR_NO_SPACE : ERR_INTERNAL, "%s: %s",
                      layer->path,
                      opening->create ? "the header cannot be written" : "it cannot be read");
            opening_fail(opening);
            return;
        }
        opening->step++;
        if (opening->create && opening->step == 1) {
            layer_header_encode(&layer->header, opening->headers);
            layer_header_encode(&layer->header, opening->headers + LAYER_BLOCK);
            status = opening_io(opening, LAYER_IO_WRITE, sizeof(opening->headers));
        } else if (opening->create && opening->step == 2) {
            status = opening_io(opening, LAYER_IO_SYNC, 0);
        } else if (opening->create) {
            layer->state = LAYER_READY;
            layer->log.epoch = 1;
            layer->log.checkpoint_done = true;
            layer_account(layer, sizeof(opening->headers));
            opening_end(opening);
            return;
        } else if (opening->step == 1) {
            status = opening_io(opening, LAYER_IO_READ, sizeof(opening->headers));
        } else {
            opening_check(opening);
            if (opening->error.code != ERR_NONE) {
                opening_fail(opening);
            } else {
                opening_end(opening);
            }
            return;
        }
    }
}

static void opening_opened(void *arg, struct layer_file *file, const struct error *error)
{
    struct layer_opening *opening = arg;
    struct layer *layer = opening->layer;
    if (!file) {
        opening->error = *error;
        opening_fail(opening);
        return;
    }
    layer->file = file;
    layer_account(layer, (int64_t)file->used_bytes);
    if (!opening->create && file->size_bytes < LAYER_DATA_OFFSET) {
        error_set(&opening->error, ERR_INVALID_PARAMETER, "%s: it is not a layer file",
                  layer->path);
        opening_fail(opening);
        return;
    }
    opening_step(opening, 0);
}

static int opening_start(struct loop *loop, const struct layer_spec *spec, bool create,
                         layer_open_fn fn, void *arg)
{
    struct layer_opening *opening = calloc(1, sizeof(*opening));
    struct layer *layer = calloc(1, sizeof(*layer));
    char *path = strdup(spec->path);
    if (!opening || !layer || !path) {
        goto no_memory;
    }
    CHECK(spec->cache != NULL);
    static atomic_uint_fast64_t numbers;
    layer->loop = loop;
    layer->number = atomic_fetch_add(&numbers, 1) + 1;
    layer->refs = 1;
    layer->path = path;
    layer->backend = spec->backend ? spec->backend : &layer_backend_files;
    list_init(&layer->loads);
    list_init(&layer->load_waits);
    list_init(&layer->flush_waits);
    list_init(&layer->commit.waits);
    layer->header.size_bytes = spec->size_bytes;
    layer->header.generation = 1;
    layer->header.log_half_bytes = spec->log_half_bytes ? spec->log_half_bytes : 1 << 20;
    memcpy(layer->header.id, spec->id, LAYER_ID_BYTES);
    layer->map.cache = spec->cache;
    layer->space = spec->space;
    if (create) {
        layer_map_init(&layer->map, spec->cache, granules_of(spec->size_bytes), true);
    }
    opening->layer = layer;
    opening->create = create;
    opening->spec = *spec;
    opening->fn = fn;
    opening->arg = arg;
    int err =
        layer->backend->open(layer->backend, loop, path, create,
                             create ? file_bytes(spec->size_bytes) : 0, opening_opened, opening);
    if (!err) {
        return 0;
    }
    layer_map_fini(&layer->map);
no_memory:
    free(path);
    free(layer);
    free(opening);
    return -ENOMEM;
}

int layer_create(struct loop *loop, const struct layer_spec *spec, layer_open_fn fn, void *arg)
{
    uint32_t half = spec->log_half_bytes ? spec->log_half_bytes : LAYER_LOG_HALF_MIN;
    if (spec->size_bytes == 0 || spec->size_bytes > LAYER_MAX_BYTES ||
        spec->size_bytes % 512 != 0 || half < LAYER_LOG_HALF_MIN || half > LAYER_LOG_HALF_MAX ||
        half % LAYER_BLOCK != 0) {
        return -EINVAL;
    }
    return opening_start(loop, spec, true, fn, arg);
}

int layer_open(struct loop *loop, const struct layer_spec *spec, layer_open_fn fn, void *arg)
{
    return opening_start(loop, spec, false, fn, arg);
}

/* ---- waiting ---- */

void layer_waits_call(struct list *waits, int status)
{
    struct list taken = LIST_INIT(taken);
    list_move_all(&taken, waits);
    struct list *link;
    while ((link = list_pop_front(&taken)) != NULL) {
        struct layer_wait *wait = list_entry(link, struct layer_wait, link);
        wait->fn(wait->arg, status);
    }
}

/* ---- map pages from the file ---- */

struct page_load {
    struct list link;
    struct layer *layer;
    uint32_t page;
    bool replay; /* the log has entries for it */
    bool torn;   /* one of the slots */
    unsigned torn_slot;
    struct list waits;
    struct layer_io io;
    struct iovec iov;
    uint8_t slots[2 * LAYER_BLOCK];
};

static void damaged(struct layer *layer, const char *what, uint64_t number)
{
    if (!layer->damage_told) {
        layer->damage_told = true;
        log_error("layer[%s]: %s %llu is damaged", layer->path, what, (unsigned long long)number);
    }
}

/* A slot that is neither valid nor empty can only be one that was being written when the power
 * went: then the log that led to it is still there. */
static int page_choose(struct page_load *load)
{
    struct layer *layer = load->layer;
    uint64_t generation[2] = {0, 0};
    enum layer_slot slot[2];
    bool torn_allowed = load->replay && !layer->log.checkpoint_done;
    for (unsigned i = 0; i < 2; i++) {
        slot[i] = layer_page_check(load->slots + i * LAYER_BLOCK, layer->header.id, load->page,
                                   &generation[i]);
        if (slot[i] == LAYER_SLOT_VALID && generation[i] % 2 != i) {
            slot[i] = LAYER_SLOT_BAD;
        }
        if (slot[i] == LAYER_SLOT_BAD) {
            generation[i] = 0;
            if (!torn_allowed) {
                return -EIO;
            }
            load->torn = true;
            load->torn_slot = i;
        }
    }
    if (slot[0] == LAYER_SLOT_VALID && slot[1] == LAYER_SLOT_VALID) {
        if (generation[0] + 1 != generation[1] && generation[1] + 1 != generation[0]) {
            return -EIO;
        }
    } else if (slot[0] == LAYER_SLOT_VALID) {
        /* Slot 1 was written before slot 0 ever was. */
        if (slot[1] == LAYER_SLOT_EMPTY) {
            return -EIO;
        }
    } else if (slot[1] == LAYER_SLOT_VALID) {
        if (slot[0] == LAYER_SLOT_EMPTY && generation[1] != 1) {
            return -EIO;
        }
    } else if (slot[0] == LAYER_SLOT_BAD) {
        return -EIO; /* slot 1 is written first, and not again before slot 0 is whole */
    }
    unsigned use = generation[1] > generation[0];
    layer_map_loaded(&layer->map, load->page,
                     generation[use] ? load->slots + use * LAYER_BLOCK + LAYER_PAGE_HEAD : NULL,
                     generation[use]);
    return 0;
}

static int page_load_end(struct page_load *load, int status)
{
    struct layer *layer = load->layer;
    list_remove(&load->link);
    layer->stats.page_loads++;
    struct list waits = LIST_INIT(waits);
    list_move_all(&waits, &load->waits);
    free(load);
    layer->busy--;
    layer_waits_call(&waits, status);
    layer_try_close(layer);
    return status;
}

static void page_voided(struct layer_io *io)
{
    page_load_end(io->arg, io->status);
}

/*
 * A torn slot is made one that no part of a new image can complete. Else another power cut, in the next write of the slot,
 * may leave just those sectors of the new image that the old one lacks, where both are the same: a valid page, with changes
 * that the last start did not find. The checkpoint syncs before it writes the slot.
 */
static int page_void(struct page_load *load)
{
    struct layer *layer = load->layer;
    memset(load->slots, 0xff, LAYER_BLOCK);
    load->iov.iov_len = LAYER_BLOCK;
    load->io = (struct layer_io){.op = LAYER_IO_WRITE,
                                 .offset = layer_slot_offset(load->page, load->torn_slot),
                                 .len = LAYER_BLOCK,
                                 .iov = &load->iov,
                                 .n_iov = 1,
                                 .done = page_voided,
                                 .arg = load};
    return layer_file_submit(layer->file, &load->io);
}

/* The end, or -EINPROGRESS. */
static int page_load_read(struct page_load *load, int status)
{
    if (!status) {
        status = page_choose(load);
        if (status) {
            damaged(load->layer, "map page", load->page);
        }
    }
    if (!status && load->torn) {
        status = page_void(load);
        if (status == -EINPROGRESS) {
            return status;
        }
    }
    return page_load_end(load, status);
}

static void page_load_done(struct layer_io *io)
{
    page_load_read(io->arg, io->status);
}

/* True: it is known now. */
static bool page_load_start(struct layer *layer, uint32_t page, bool replay,
                            struct layer_wait *wait, int *ret_status)
{
    struct page_load *load = NULL;
    *ret_status = 0;
    list_for_each(link, &layer->loads)
    {
        struct page_load *other = list_entry(link, struct page_load, link);
        if (other->page == page) {
            load = other;
            break;
        }
    }
    if (!load) {
        load = calloc(1, sizeof(*load));
        CHECK(load != NULL);
        load->layer = layer;
        load->page = page;
        load->replay = replay;
        list_init(&load->waits);
        list_push_back(&layer->loads, &load->link);
        load->iov = (struct iovec){.iov_base = load->slots, .iov_len = sizeof(load->slots)};
        load->io = (struct layer_io){.op = LAYER_IO_READ,
                                     .offset = layer_slot_offset(page, 0),
                                     .len = sizeof(load->slots),
                                     .iov = &load->iov,
                                     .n_iov = 1,
                                     .done = page_load_done,
                                     .arg = load};
        layer->busy++;
        int status = layer_file_submit(layer->file, &load->io);
        if (status != -EINPROGRESS) {
            status = page_load_read(load, status);
        }
        if (status != -EINPROGRESS) {
            *ret_status = status;
            return true;
        }
    }
    if (wait) {
        list_push_back(&load->waits, &wait->link);
    }
    return false;
}

/* ---- first use: the log ---- */

struct log_load {
    struct layer *layer;
    struct layer_io io;
    struct iovec iov;
    unsigned half; /* next to replay */
    size_t at;
    uint32_t entry;
    struct layer_wait wait;
    uint8_t halves[];
};

static void load_end(struct log_load *load, int status)
{
    struct layer *layer = load->layer;
    layer->state = status ? LAYER_FAILED : LAYER_READY;
    layer->replayed_dirty = layer->map.n_dirty;
    layer->log.order[0] = layer->log.order[1] = NULL;
    free(load);
    layer->busy--;
    layer_waits_call(&layer->load_waits, status);
    layer_try_close(layer);
}

static void ignore_change(void *arg, uint64_t first, uint64_t count, enum granule_state before)
{
    (void)arg, (void)first, (void)count, (void)before;
}

static void load_replay(void *arg, int status);

/* False: a page is being read, or it failed and load is gone. */
static bool replay_entry(struct log_load *load, const struct layer_entry *entry)
{
    struct layer *layer = load->layer;
    uint64_t last = entry->first + entry->count - 1;
    for (uint64_t p = entry->first / LAYER_PAGE_GRANULES; p <= last / LAYER_PAGE_GRANULES; p++) {
        int err = 0;
        if (!layer_map_known(&layer->map, (uint32_t)p) &&
            !page_load_start(layer, (uint32_t)p, true, &load->wait, &err)) {
            return false;
        }
        if (err) {
            load_end(load, err);
            return false;
        }
        /* Page by page: dirty ones stay, however many there are. */
        uint64_t begin = p * LAYER_PAGE_GRANULES;
        uint64_t end = begin + LAYER_PAGE_GRANULES - 1;
        begin = begin > entry->first ? begin : entry->first;
        end = end < last ? end : last;
        layer_map_pin(&layer->map, begin, end);
        layer_map_set(&layer->map, begin, end, (enum granule_state)entry->state, ignore_change,
                      NULL);
        layer_map_unpin(&layer->map, begin, end);
    }
    layer->stats.replayed++;
    return true;
}

static void load_replay(void *arg, int status)
{
    struct log_load *load = arg;
    struct layer *layer = load->layer;
    if (status) {
        load_end(load, status);
        return;
    }
    for (; load->half < 2; load->half++, load->at = 0) {
        const uint8_t *half = layer->log.order[load->half];
        while (half && load->at < layer->log.len[load->half]) {
            struct layer_record record;
            const uint8_t *data = half + load->at;
            CHECK(layer_record_decode(data, layer->log.len[load->half] - load->at, layer->header.id,
                                      layer->map.n_granules, &record) == 0);
            for (; load->entry < record.n_entries; load->entry++) {
                struct layer_entry entry = layer_record_entry(data, load->entry);
                if (!replay_entry(load, &entry)) {
                    return;
                }
            }
            load->entry = 0;
            load->at += layer_record_bytes(record.n_entries);
        }
    }
    load_end(load, 0);
}

/* Records have no block of zeros, and a half is written from its beginning. */
static uint64_t log_written(const uint8_t *half, uint64_t bytes)
{
    while (bytes > 0 && mem_is_zero(half + bytes - LAYER_BLOCK, LAYER_BLOCK)) {
        bytes -= LAYER_BLOCK;
    }
    return bytes;
}

static void load_log_read(struct log_load *load, int status)
{
    struct layer *layer = load->layer;
    const char *why = "it cannot be read";
    if (!status) {
        status = layer_log_scan(load->halves, layer->header.log_half_bytes, layer->header.id,
                                layer->map.n_granules, &layer->log, &why);
    }
    if (status) {
        log_error("layer[%s]: %s", layer->path, why);
        layer->damage_told = true;
        load_end(load, -EIO);
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        layer->log_written[i] = log_written(load->halves + i * (size_t)layer->header.log_half_bytes,
                                            layer->header.log_half_bytes);
    }
    load_replay(load, 0);
}

static void load_log_done(struct layer_io *io)
{
    load_log_read(io->arg, io->status);
}

static void load_start(struct layer *layer)
{
    size_t len = 2 * (size_t)layer->header.log_half_bytes;
    struct log_load *load = calloc(1, sizeof(*load) + len);
    CHECK(load != NULL);
    load->layer = layer;
    load->wait = (struct layer_wait){.fn = load_replay, .arg = load};
    load->iov = (struct iovec){.iov_base = load->halves, .iov_len = len};
    load->io = (struct layer_io){.op = LAYER_IO_READ,
                                 .offset = LAYER_LOG_OFFSET,
                                 .len = len,
                                 .iov = &load->iov,
                                 .n_iov = 1,
                                 .done = load_log_done,
                                 .arg = load};
    layer->state = LAYER_LOADING;
    layer->busy++;
    int status = layer_file_submit(layer->file, &load->io);
    if (status != -EINPROGRESS) {
        load_log_read(load, status);
    }
}

static void want_failed(void *arg)
{
    struct layer *layer = arg;
    layer->failed_posted = false;
    layer->busy--;
    layer_waits_call(&layer->load_waits, -EIO);
    layer_try_close(layer);
}

static void want_fail(struct layer *layer, struct layer_wait *wait)
{
    list_push_back(&layer->load_waits, &wait->link);
    if (!layer->failed_posted) {
        layer->failed_posted = true;
        layer->busy++;
        layer->failed_task = (struct loop_task){.fn = want_failed, .arg = layer};
        loop_defer(layer->loop, &layer->failed_task);
    }
}

bool layer_want(struct layer *layer, uint64_t first, uint64_t last, struct layer_wait *wait)
{
    if (layer->state == LAYER_UNUSED) {
        load_start(layer);
    }
    if (layer->state != LAYER_READY) {
        if (layer->state == LAYER_FAILED) {
            want_fail(layer, wait);
        } else {
            list_push_back(&layer->load_waits, &wait->link);
        }
        return false;
    }
    bool known = true;
    for (uint64_t p = first / LAYER_PAGE_GRANULES; p <= last / LAYER_PAGE_GRANULES; p++) {
        int err = 0;
        if (layer_map_known(&layer->map, (uint32_t)p)) {
            continue;
        }
        if (!page_load_start(layer, (uint32_t)p, false, known ? wait : NULL, &err)) {
            known = false;
        } else if (err && known) {
            want_fail(layer, wait);
            return false;
        }
    }
    return known;
}

/* ---- data ---- */

int layer_read(struct layer *layer, struct layer_io *io)
{
    io->offset += LAYER_DATA_OFFSET;
    return layer_file_submit(layer->file, io);
}

int layer_find(struct layer *layer, struct layer_io *io, uint64_t first, uint64_t last)
{
    io->op = LAYER_IO_FIND;
    io->offset = LAYER_DATA_OFFSET + first * LAYER_GRANULE;
    io->len = (last - first + 1) * LAYER_GRANULE;
    return layer_file_submit(layer->file, io);
}

bool layer_found(const struct layer_io *io, uint64_t *ret_first, uint64_t *ret_last)
{
    if (io->found_len == 0) {
        return false;
    }
    *ret_first = (io->found_offset - LAYER_DATA_OFFSET) / LAYER_GRANULE;
    *ret_last = (io->found_offset + io->found_len - 1 - LAYER_DATA_OFFSET) / LAYER_GRANULE;
    return true;
}

int layer_count(struct layer *layer, struct layer_io *io, uint64_t *ret_n_changes)
{
    *ret_n_changes = layer->n_changes;
    io->op = LAYER_IO_COUNT;
    return layer_file_submit(layer->file, io);
}

bool layer_counted(struct layer *layer, const struct layer_io *io, uint64_t n_changes)
{
    /* A change that was under way at the beginning and is not any more has counted itself. */
    if (layer->n_changing > 0 || layer->commit.running || layer->checkpoint ||
        layer->n_changes != n_changes) {
        return false;
    }
    layer_account(layer, (int64_t)(io->found_len - layer->used_bytes));
    return true;
}

int layer_reclaim(struct layer *layer, struct layer_io *io, uint64_t first, uint64_t last)
{
    io->op = LAYER_IO_PUNCH;
    io->offset = LAYER_DATA_OFFSET + first * LAYER_GRANULE;
    io->len = (last - first + 1) * LAYER_GRANULE;
    return layer_file_submit(layer->file, io);
}

static void op_changed(void *arg, uint64_t first, uint64_t count, enum granule_state before)
{
    struct layer_op *op = arg;
    if (before == GRANULE_DATA) {
        op->allocated_bytes -= (int64_t)(count * LAYER_GRANULE);
    }
    if (op->state == GRANULE_DATA) {
        op->allocated_bytes += (int64_t)(count * LAYER_GRANULE);
    }
    layer_log_add(op->layer, first, count, op->state);
}

static int change_end(struct layer_op *op, int status)
{
    struct layer *layer = op->layer;
    if (!status) {
        layer->unsynced = true;
        layer_map_set(&layer->map, op->first, op->last, op->state, op_changed, op);
    }
    account(layer, op->allocated_bytes, op->taken_bytes);
    layer_map_unpin(&layer->map, op->first, op->last);
    op->status = status;
    layer->n_changing--;
    layer->busy--;
    layer_commit_if_much(layer);
    return status;
}

static void change_done(struct layer_io *io)
{
    struct layer_op *op = io->arg;
    change_end(op, io->status);
    op->done(op);
}

uint64_t layer_missing_bytes(struct layer *layer, uint64_t first, uint64_t last)
{
    uint64_t bytes = 0;
    uint64_t count;
    for (uint64_t g = first; g <= last; g += count) {
        if (layer_map_run(&layer->map, g, last, &count) != GRANULE_DATA) {
            bytes += count * LAYER_GRANULE;
        }
    }
    return bytes;
}

int layer_change(struct layer *layer, struct layer_op *op)
{
    op->layer = layer;
    op->allocated_bytes = 0;
    op->taken_bytes = 0;
    if (op->state == GRANULE_DATA && layer->space) {
        uint64_t bytes = layer_missing_bytes(layer, op->first, op->last);
        int err = bytes > 0 ? space_take(layer->space, bytes) : 0;
        if (err) {
            return err;
        }
        op->taken_bytes = bytes;
    }
    layer_map_pin(&layer->map, op->first, op->last);
    layer->n_changing++;
    layer->busy++;
    op->io.done = change_done;
    op->io.arg = op;
    if (op->state == GRANULE_DATA) {
        op->io.op = LAYER_IO_WRITE;
        op->io.offset = LAYER_DATA_OFFSET + op->offset;
    } else {
        bool any = false;
        uint64_t count;
        for (uint64_t g = op->first; g <= op->last && !any; g += count) {
            any = layer_map_run(&layer->map, g, op->last, &count) == GRANULE_DATA;
        }
        if (!any) {
            return change_end(op, 0);
        }
        op->io.op = LAYER_IO_PUNCH;
        op->io.offset = LAYER_DATA_OFFSET + op->first * LAYER_GRANULE;
        op->io.len = (op->last - op->first + 1) * LAYER_GRANULE;
    }
    int status = layer_file_submit(layer->file, &op->io);
    return status == -EINPROGRESS ? status : change_end(op, status);
}

/* ---- growing ---- */

struct layer_growth {
    struct layer *layer;
    struct layer_header header;
    layer_done_fn fn;
    void *arg;
    unsigned step;
    struct layer_io io;
    struct iovec iov;
    struct loop_task task;
    uint8_t block[LAYER_BLOCK];
};

static void growth_step(struct layer_growth *growth, int status);

static void growth_io_done(struct layer_io *io)
{
    growth_step(io->arg, io->status);
}

/* The slot in use last: one of them is whole at any time, and tells a size that the file has. */
static void growth_step(struct layer_growth *growth, int status)
{
    static const enum layer_io_op ops[] = {LAYER_IO_EXTEND, LAYER_IO_SYNC,  LAYER_IO_WRITE,
                                           LAYER_IO_SYNC,   LAYER_IO_WRITE, LAYER_IO_SYNC};
    struct layer *layer = growth->layer;
    while (status == 0 && growth->step < ARRAY_LEN(ops)) {
        unsigned step = growth->step++;
        growth->io = (struct layer_io){.op = ops[step],
                                       .iov = &growth->iov,
                                       .n_iov = 1,
                                       .done = growth_io_done,
                                       .arg = growth};
        if (ops[step] == LAYER_IO_EXTEND) {
            growth->io.len = file_bytes(growth->header.size_bytes);
        } else if (ops[step] == LAYER_IO_WRITE) {
            unsigned slot = step == 2 ? !layer->header_slot : layer->header_slot;
            growth->io.offset = slot * LAYER_BLOCK;
            growth->io.len = LAYER_BLOCK;
        }
        status = layer_file_submit(layer->file, &growth->io);
        if (status == -EINPROGRESS) {
            return;
        }
    }
    if (!status) {
        layer->header = growth->header;
        layer_map_grow(&layer->map, granules_of(layer->header.size_bytes));
    }
    growth->fn(growth->arg, status);
    free(growth);
    layer->busy--;
    layer_try_close(layer);
}

static void growth_begin(void *arg)
{
    growth_step(arg, 0);
}

int layer_grow(struct layer *layer, uint64_t size_bytes, layer_done_fn fn, void *arg)
{
    if (size_bytes < layer->header.size_bytes || size_bytes > LAYER_MAX_BYTES ||
        size_bytes % 512 != 0) {
        return -EINVAL;
    }
    struct layer_growth *growth = calloc(1, sizeof(*growth));
    if (!growth) {
        return -ENOMEM;
    }
    growth->layer = layer;
    growth->header = layer->header;
    growth->header.generation++;
    growth->header.size_bytes = size_bytes;
    growth->fn = fn;
    growth->arg = arg;
    layer_header_encode(&growth->header, growth->block);
    growth->iov = (struct iovec){.iov_base = growth->block, .iov_len = LAYER_BLOCK};
    growth->task = (struct loop_task){.fn = growth_begin, .arg = growth};
    layer->busy++;
    loop_defer(layer->loop, &growth->task);
    return 0;
}

/* ---- the end ---- */

void layer_ref(struct layer *layer)
{
    CHECK(layer->refs > 0);
    layer->refs++;
}

struct layer_unref_task {
    struct loop_task task;
    layer_done_fn fn;
    void *arg;
};

static void unref_told(void *arg)
{
    struct layer_unref_task *told = arg;
    told->fn(told->arg, 0);
    free(told);
}

static void close_done(void *arg)
{
    struct layer *layer = arg;
    layer_done_fn fn = layer->close_fn;
    void *fn_arg = layer->close_arg;
    int status = layer->close_status;
    layer_account(layer, -(int64_t)layer->used_bytes);
    layer_map_fini(&layer->map);
    free(layer->pending);
    free(layer->commit.entries);
    free(layer->path);
    free(layer);
    if (fn) {
        fn(fn_arg, status);
    }
}

void layer_try_close(struct layer *layer)
{
    if (layer->closing && layer->close_flushed && layer->busy == 0) {
        layer->close_flushed = false;
        layer_file_close(layer->file, close_done, layer);
    }
}

static void close_flushed(void *arg, int status)
{
    struct layer *layer = arg;
    layer->close_status = status;
    layer->close_flushed = true;
    layer->busy--;
    layer_try_close(layer);
}

void layer_unref(struct layer *layer, layer_done_fn fn, void *arg)
{
    CHECK(layer->refs > 0);
    if (--layer->refs > 0) {
        if (fn) {
            struct layer_unref_task *told = calloc(1, sizeof(*told));
            CHECK(told != NULL);
            told->task = (struct loop_task){.fn = unref_told, .arg = told};
            told->fn = fn;
            told->arg = arg;
            loop_defer(layer->loop, &told->task);
        }
        return;
    }
    layer->closing = true;
    layer->close_fn = fn;
    layer->close_arg = arg;
    layer->close_wait = (struct layer_wait){.fn = close_flushed, .arg = layer};
    layer->busy++;
    layer_flush_wait(layer, &layer->close_wait);
}
