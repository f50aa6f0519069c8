// SPDX-License-Identifier: Apache-2.0
#include "block/mem_dev.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { PAGE_BYTES = 4096, CHUNK_PAGES = 512 };

/* data is what reads see, NULL for zeros. While unflushed, stable is what a power failure may bring
 * back, NULL for zeros. */
struct page {
    uint8_t *data;
    uint8_t *stable;
    bool unflushed;
};

struct chunk {
    struct page pages[CHUNK_PAGES];
};

struct mem_disk {
    uint64_t size_bytes;
    uint64_t capacity_pages;
    uint64_t allocated_pages;
    uint64_t n_pages;
    struct chunk **chunks;
    size_t n_chunks;
    unsigned devices;
    unsigned unflushed_pages;
};

struct mem_dev {
    struct blockdev base;
    struct mem_disk *disk;
    bool own_disk;
    bool volatile_cache;
    struct mem_dev_stats stats;
    block_close_fn close_done;
    void *close_arg;
};

static struct mem_dev *of_dev(struct blockdev *dev)
{
    return container_of(dev, struct mem_dev, base);
}

/* The pages that [offset, offset + len) touches, one after the other. */
struct page_walk {
    uint64_t page;
    size_t begin; /* within the page */
    size_t len;
};

static bool page_walk_next(struct page_walk *walk, uint64_t *offset, uint64_t *len)
{
    if (*len == 0) {
        return false;
    }
    walk->page = *offset / PAGE_BYTES;
    walk->begin = *offset % PAGE_BYTES;
    uint64_t room = PAGE_BYTES - walk->begin;
    walk->len = *len < room ? *len : room;
    *offset += walk->len;
    *len -= walk->len;
    return true;
}

int mem_disk_new(uint64_t size_bytes, uint64_t capacity_bytes, struct mem_disk **ret_disk)
{
    if (size_bytes == 0 || size_bytes > INT64_MAX) {
        return -EINVAL;
    }
    struct mem_disk *disk = calloc(1, sizeof(*disk));
    if (!disk) {
        return -ENOMEM;
    }
    disk->size_bytes = size_bytes;
    disk->capacity_pages = capacity_bytes ? capacity_bytes / PAGE_BYTES : UINT64_MAX;
    disk->n_pages = (size_bytes + PAGE_BYTES - 1) / PAGE_BYTES;
    disk->n_chunks = (disk->n_pages + CHUNK_PAGES - 1) / CHUNK_PAGES;
    disk->chunks = calloc(disk->n_chunks, sizeof(struct chunk *));
    if (!disk->chunks) {
        free(disk);
        return -ENOMEM;
    }
    *ret_disk = disk;
    return 0;
}

void mem_disk_free(struct mem_disk *disk)
{
    if (!disk) {
        return;
    }
    CHECK(disk->devices == 0);
    for (size_t i = 0; i < disk->n_chunks; i++) {
        for (size_t j = 0; disk->chunks[i] && j < CHUNK_PAGES; j++) {
            free(disk->chunks[i]->pages[j].data);
            free(disk->chunks[i]->pages[j].stable);
        }
        free(disk->chunks[i]);
    }
    free(disk->chunks);
    free(disk);
}

uint64_t mem_disk_allocated_bytes(const struct mem_disk *disk)
{
    return disk->allocated_pages * PAGE_BYTES;
}

/* NULL: a page in a chunk that was never touched. */
static struct page *page_find(const struct mem_disk *disk, uint64_t index)
{
    struct chunk *chunk = disk->chunks[index / CHUNK_PAGES];
    return chunk ? &chunk->pages[index % CHUNK_PAGES] : NULL;
}

static struct page *page_touch(struct mem_disk *disk, uint64_t index)
{
    struct chunk **chunk = &disk->chunks[index / CHUNK_PAGES];
    if (!*chunk) {
        *chunk = calloc(1, sizeof(**chunk));
        CHECK(*chunk != NULL);
    }
    return &(*chunk)->pages[index % CHUNK_PAGES];
}

static int page_allocate(struct mem_disk *disk, struct page *page)
{
    if (page->data) {
        return 0;
    }
    if (disk->allocated_pages >= disk->capacity_pages) {
        return -ENOSPC;
    }
    page->data = calloc(1, PAGE_BYTES);
    if (!page->data) {
        return -ENOSPC;
    }
    disk->allocated_pages++;
    return 0;
}

static void page_release(struct mem_disk *disk, struct page *page)
{
    if (page->data) {
        free(page->data);
        page->data = NULL;
        disk->allocated_pages--;
    }
}

/* Before the first change that a power failure could undo. */
static void page_remember(struct mem_disk *disk, struct page *page)
{
    if (page->unflushed) {
        return;
    }
    page->unflushed = true;
    disk->unflushed_pages++;
    if (page->data) {
        page->stable = malloc(PAGE_BYTES);
        CHECK(page->stable != NULL);
        memcpy(page->stable, page->data, PAGE_BYTES);
    }
}

static void page_forget(struct mem_disk *disk, struct page *page)
{
    if (page->unflushed) {
        page->unflushed = false;
        disk->unflushed_pages--;
        free(page->stable);
        page->stable = NULL;
    }
}

/* What was just written to this part of the page is stable, the rest of it stays as it was. */
static void page_harden(struct page *page, size_t begin, size_t len)
{
    if (!page->unflushed) {
        return;
    }
    if (!page->stable) {
        page->stable = calloc(1, PAGE_BYTES);
        CHECK(page->stable != NULL);
    }
    if (page->data) {
        memcpy(page->stable + begin, page->data + begin, len);
    } else {
        memset(page->stable + begin, 0, len);
    }
}

/* Calls fn for every page that may hold something. */
static void for_each_page(struct mem_disk *disk,
                          void (*fn)(struct mem_disk *, struct page *, void *), void *arg)
{
    for (size_t i = 0; i < disk->n_chunks; i++) {
        for (size_t j = 0; disk->chunks[i] && j < CHUNK_PAGES; j++) {
            fn(disk, &disk->chunks[i]->pages[j], arg);
        }
    }
}

void mem_disk_peek(const struct mem_disk *disk, uint64_t offset, void *data, size_t len)
{
    CHECK(offset <= disk->size_bytes && len <= disk->size_bytes - offset);
    uint8_t *out = data;
    uint64_t left = len;
    struct page_walk at;
    while (page_walk_next(&at, &offset, &left)) {
        const struct page *page = page_find(disk, at.page);
        if (page && page->data) {
            memcpy(out, page->data + at.begin, at.len);
        } else {
            memset(out, 0, at.len);
        }
        out += at.len;
    }
}

void mem_disk_poke(struct mem_disk *disk, uint64_t offset, const void *data, size_t len)
{
    CHECK(offset <= disk->size_bytes && len <= disk->size_bytes - offset);
    const uint8_t *in = data;
    uint64_t left = len;
    struct page_walk at;
    while (page_walk_next(&at, &offset, &left)) {
        struct page *page = page_touch(disk, at.page);
        CHECK(page_allocate(disk, page) == 0);
        memcpy(page->data + at.begin, in, at.len);
        page_harden(page, at.begin, at.len);
        in += at.len;
    }
}

struct power_cut {
    struct random *random;
    uint32_t block_bytes;
};

static void page_power_cut(struct mem_disk *disk, struct page *page, void *arg)
{
    const struct power_cut *cut = arg;
    if (!page->unflushed) {
        return;
    }
    /* Whole pages fall together where the block is larger than a page. */
    size_t step = cut->block_bytes < PAGE_BYTES ? cut->block_bytes : PAGE_BYTES;
    for (size_t begin = 0; begin < PAGE_BYTES; begin += step) {
        if (random_chance(cut->random, 1, 2)) {
            continue;
        }
        if (page->stable) {
            CHECK(page_allocate(disk, page) == 0);
            memcpy(page->data + begin, page->stable + begin, step);
        } else if (page->data) {
            memset(page->data + begin, 0, step);
        }
    }
    page_forget(disk, page);
}

void mem_disk_power_cut(struct mem_disk *disk, struct random *random, uint32_t block_bytes)
{
    CHECK(block_bytes > 0 && (block_bytes & (block_bytes - 1)) == 0);
    struct power_cut cut = {.random = random, .block_bytes = block_bytes};
    for_each_page(disk, page_power_cut, &cut);
}

static void page_flush(struct mem_disk *disk, struct page *page, void *arg)
{
    (void)arg;
    page_forget(disk, page);
}

static int do_read(struct mem_dev *mem, struct block_req *req)
{
    uint64_t offset = req->offset;
    for (unsigned i = 0; i < req->n_slices; i++) {
        mem_disk_peek(mem->disk, offset, req->slices[i].data, req->slices[i].len);
        offset += req->slices[i].len;
    }
    return 0;
}

static int write_bytes(struct mem_dev *mem, uint64_t offset, const uint8_t *data, uint64_t len,
                       bool fua)
{
    struct page_walk at;
    while (page_walk_next(&at, &offset, &len)) {
        struct page *page = page_touch(mem->disk, at.page);
        if (mem->volatile_cache) {
            page_remember(mem->disk, page);
        }
        int err = page_allocate(mem->disk, page);
        if (err) {
            return err;
        }
        memcpy(page->data + at.begin, data, at.len);
        if (fua) {
            page_harden(page, at.begin, at.len);
        }
        data += at.len;
    }
    return 0;
}

static int do_write(struct mem_dev *mem, struct block_req *req)
{
    uint64_t offset = req->offset;
    for (unsigned i = 0; i < req->n_slices; i++) {
        int err = write_bytes(mem, offset, req->slices[i].data, req->slices[i].len,
                              req->flags & BLOCK_FUA);
        if (err) {
            return err;
        }
        offset += req->slices[i].len;
    }
    return 0;
}

/* Without BLOCK_MAY_UNMAP a page keeps its space, as a device that preallocates would. */
static int do_zero(struct mem_dev *mem, struct block_req *req)
{
    uint64_t offset = req->offset;
    uint64_t len = req->len;
    struct page_walk at;
    while (page_walk_next(&at, &offset, &len)) {
        struct page *page = page_find(mem->disk, at.page);
        if (!page || (!page->data && !page->unflushed)) {
            continue;
        }
        if (mem->volatile_cache) {
            page_remember(mem->disk, page);
        }
        if (at.len == PAGE_BYTES && (req->flags & BLOCK_MAY_UNMAP)) {
            page_release(mem->disk, page);
        } else if (page->data) {
            memset(page->data + at.begin, 0, at.len);
        }
        if (req->flags & BLOCK_FUA) {
            page_harden(page, at.begin, at.len);
        }
    }
    return 0;
}

static int do_discard(struct mem_dev *mem, struct block_req *req)
{
    if (mem->base.info.discard_zeroes) {
        struct block_req zero = {
            .offset = req->offset, .len = req->len, .flags = req->flags | BLOCK_MAY_UNMAP};
        return do_zero(mem, &zero);
    }
    uint64_t offset = req->offset;
    uint64_t len = req->len;
    struct page_walk at;
    while (page_walk_next(&at, &offset, &len)) {
        struct page *page = page_find(mem->disk, at.page);
        if (page && page->data) {
            if (mem->volatile_cache) {
                page_remember(mem->disk, page);
            }
            memset(page->data + at.begin, 0xdb, at.len);
        }
    }
    return 0;
}

static int do_map(struct mem_dev *mem, struct block_req *req)
{
    uint64_t offset = req->offset;
    uint64_t len = req->len;
    struct page_walk at;
    struct block_extent *last = NULL;
    while (page_walk_next(&at, &offset, &len)) {
        const struct page *page = page_find(mem->disk, at.page);
        enum block_extent_kind kind = page && page->data ? BLOCK_EXTENT_DATA : BLOCK_EXTENT_ZERO;
        if (last && last->kind == kind) {
            last->len += at.len;
            continue;
        }
        if (req->n_extents == req->max_extents) {
            break;
        }
        last = &req->extents[req->n_extents++];
        *last = (struct block_extent){
            .offset = at.page * PAGE_BYTES + at.begin, .len = at.len, .kind = kind};
    }
    return 0;
}

static void mem_submit(struct blockdev *dev, struct block_req *req)
{
    struct mem_dev *mem = of_dev(dev);
    int status = 0;
    mem->stats.requests[req->op]++;
    mem->stats.bytes[req->op] += req->op == BLOCK_FLUSH ? 0 : req->len;
    switch (req->op) {
    case BLOCK_READ:
        status = do_read(mem, req);
        break;
    case BLOCK_WRITE:
        status = do_write(mem, req);
        break;
    case BLOCK_ZERO:
        status = do_zero(mem, req);
        break;
    case BLOCK_DISCARD:
        status = do_discard(mem, req);
        break;
    case BLOCK_FLUSH:
        if (mem->disk->unflushed_pages > 0) {
            for_each_page(mem->disk, page_flush, NULL);
        }
        break;
    case BLOCK_MAP:
        status = do_map(mem, req);
        break;
    }
    blockdev_complete(req, status);
}

static void mem_idle(void *arg)
{
    struct mem_dev *mem = arg;
    block_close_fn done = mem->close_done;
    void *done_arg = mem->close_arg;
    mem->disk->devices--;
    if (mem->own_disk) {
        mem_disk_free(mem->disk);
    }
    free(mem);
    done(done_arg);
}

static void mem_close(struct blockdev *dev, block_close_fn done, void *arg)
{
    struct mem_dev *mem = of_dev(dev);
    mem->close_done = done;
    mem->close_arg = arg;
    blockdev_when_idle(dev, mem_idle, mem);
}

static const struct blockdev_ops mem_ops = {
    .kind = "mem",
    .submit = mem_submit,
    .close = mem_close,
};

int mem_dev_new(struct loop *loop, const struct mem_dev_spec *spec, struct blockdev **ret_dev)
{
    uint32_t block_bytes = spec->block_bytes ? spec->block_bytes : 512;
    uint32_t physical_bytes = spec->physical_bytes ? spec->physical_bytes : 4096;
    uint64_t size_bytes = spec->disk ? spec->disk->size_bytes : spec->size_bytes;
    if ((block_bytes & (block_bytes - 1)) != 0 || physical_bytes % block_bytes != 0 ||
        size_bytes % block_bytes != 0) {
        return -EINVAL;
    }
    struct mem_disk *disk = spec->disk;
    if (!disk) {
        int err = mem_disk_new(spec->size_bytes, spec->capacity_bytes, &disk);
        if (err) {
            return err;
        }
    }
    struct mem_dev *mem = calloc(1, sizeof(*mem));
    if (!mem) {
        if (!spec->disk) {
            mem_disk_free(disk);
        }
        return -ENOMEM;
    }
    mem->base.ops = &mem_ops;
    mem->base.loop = loop;
    mem->base.info = (struct block_info){
        .size_bytes = size_bytes,
        .block_bytes = block_bytes,
        .physical_bytes = physical_bytes,
        .max_bytes = spec->max_bytes ? spec->max_bytes : UINT32_MAX,
        .max_inflight = spec->max_inflight ? spec->max_inflight : 64,
        .read_only = spec->read_only,
        .can_map = !spec->no_map,
        .can_discard = !spec->no_discard,
        .discard_zeroes = !spec->no_discard && !spec->discard_garbage,
        .thin = true,
    };
    mem->disk = disk;
    mem->own_disk = spec->disk == NULL;
    mem->volatile_cache = spec->volatile_cache;
    disk->devices++;
    *ret_dev = &mem->base;
    return 0;
}

struct mem_disk *mem_dev_disk(struct blockdev *dev)
{
    CHECK(dev->ops == &mem_ops);
    return of_dev(dev)->disk;
}

const struct mem_dev_stats *mem_dev_stats(const struct blockdev *dev)
{
    CHECK(dev->ops == &mem_ops);
    return &container_of(dev, const struct mem_dev, base)->stats;
}
