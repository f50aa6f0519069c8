// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/layer_disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/map.h"
#include "block/layer_format.h"

enum { PAGE = 4096, SECTOR = 512, BUCKETS = 512, VERSIONS = 24 };

struct version {
    uint8_t *data; /* NULL: zeros */
    uint64_t done; /* UINT64_MAX: not complete */
};

struct page {
    struct page *next;      /* in the bucket */
    struct page *following; /* of all */
    uint64_t number;
    unsigned n;
    struct version versions[VERSIONS]; /* [0] is what survives for sure */
};

struct disk_file {
    struct page *buckets[BUCKETS];
    struct page *pages;
    uint64_t size;
    uint64_t durable_size;
    uint64_t extended_at;
    uint64_t slow_ns;
    bool open;
};

struct layer_disk {
    struct layer_backend backend;
    struct map files;
    struct random random;
    unsigned delay_percent;
    uint64_t clock;
    uint64_t operations;
    uint64_t cut_at;
    bool cut;
    unsigned fail_count[LAYER_IO_COUNT + 1];
    int fail_status[LAYER_IO_COUNT + 1];
};

struct handle {
    struct layer_file base;
    struct layer_disk *disk;
    struct disk_file *file;
    loop_fn close_fn;
    void *close_arg;
    struct loop_task task;
};

struct delayed {
    struct loop_timer timer;
    struct layer_io *io;
    struct handle *handle;
    uint64_t began;
};

static struct page *page_find(struct disk_file *file, uint64_t number, bool make)
{
    struct page **at = &file->buckets[(number * UINT64_C(0x9e3779b97f4a7c15)) >> 55];
    for (struct page *page = *at; page; page = page->next) {
        if (page->number == number) {
            return page;
        }
    }
    if (!make) {
        return NULL;
    }
    struct page *page = calloc(1, sizeof(*page));
    CHECK(page != NULL);
    page->number = number;
    page->n = 1;
    page->next = *at;
    *at = page;
    page->following = file->pages;
    file->pages = page;
    return page;
}

static const uint8_t zeros[PAGE];

static const uint8_t *bytes_of(const struct version *version)
{
    return version->data ? version->data : zeros;
}

static struct version *newest(struct page *page)
{
    return &page->versions[page->n - 1];
}

static struct version *version_add(struct page *page)
{
    if (page->n == VERSIONS) {
        /* One possibility less. */
        free(page->versions[1].data);
        memmove(&page->versions[1], &page->versions[2], (VERSIONS - 2) * sizeof(struct version));
        page->n--;
    }
    struct version *version = &page->versions[page->n++];
    *version = (struct version){.done = UINT64_MAX};
    return version;
}

static void change(struct disk_file *file, uint64_t offset, const void *data, size_t len)
{
    const uint8_t *from = data;
    while (len > 0) {
        size_t begin = offset % PAGE;
        size_t n = PAGE - begin < len ? PAGE - begin : len;
        struct page *page = page_find(file, offset / PAGE, true);
        struct version *version = version_add(page);
        const struct version *before = version - 1;
        if (from || n < PAGE) {
            version->data = malloc(PAGE);
            CHECK(version->data != NULL);
            memcpy(version->data, bytes_of(before), PAGE);
            memcpy(version->data + begin, from ? from : zeros, n);
        }
        from = from ? from + n : NULL;
        offset += n;
        len -= n;
    }
}

/* Holes only where something is. */
static void punch(struct disk_file *file, uint64_t offset, uint64_t len)
{
    for (struct page *page = file->pages; page; page = page->following) {
        if (page->number >= offset / PAGE && page->number < (offset + len) / PAGE) {
            version_add(page);
        }
    }
}

static void mark_done(struct layer_disk *disk, struct disk_file *file, uint64_t offset,
                      uint64_t len)
{
    uint64_t now = ++disk->clock;
    for (struct page *page = file->pages; page; page = page->following) {
        if (page->number * PAGE < offset + len && offset < (page->number + 1) * PAGE) {
            for (unsigned i = 1; i < page->n; i++) {
                if (page->versions[i].done == UINT64_MAX) {
                    page->versions[i].done = now;
                }
            }
        }
    }
}

static void make_durable(struct disk_file *file, uint64_t began)
{
    if (file->extended_at <= began) {
        file->durable_size = file->size;
    }
    for (struct page *page = file->pages; page; page = page->following) {
        unsigned keep = 0;
        for (unsigned i = 1; i < page->n; i++) {
            if (page->versions[i].done <= began) {
                keep = i;
            }
        }
        for (unsigned i = 0; i < keep; i++) {
            free(page->versions[i].data);
        }
        memmove(page->versions, page->versions + keep, (page->n - keep) * sizeof(struct version));
        page->n -= keep;
        page->versions[0].done = 0;
    }
}

static void read_bytes(struct disk_file *file, uint64_t offset, uint8_t *to, size_t len)
{
    while (len > 0) {
        size_t begin = offset % PAGE;
        size_t n = PAGE - begin < len ? PAGE - begin : len;
        struct page *page = page_find(file, offset / PAGE, false);
        memcpy(to, (page ? bytes_of(newest(page)) : zeros) + begin, n);
        to += n;
        offset += n;
        len -= n;
    }
}

static uint64_t used_of(const struct disk_file *file)
{
    uint64_t used = 0;
    for (struct page *page = file->pages; page; page = page->following) {
        used += newest(page)->data ? PAGE : 0;
    }
    return used;
}

static void layer_disk_find(struct disk_file *file, struct layer_io *io)
{
    uint64_t end = io->offset + io->len;
    uint64_t at = end;
    for (struct page *page = file->pages; page; page = page->following) {
        uint64_t offset = page->number * PAGE;
        if (newest(page)->data && offset >= io->offset && offset < at) {
            at = offset;
        }
    }
    io->found_offset = at;
    while (at < end) {
        struct page *page = page_find(file, at / PAGE, false);
        if (!page || !newest(page)->data) {
            break;
        }
        at += PAGE;
    }
    io->found_len = at - io->found_offset;
}

static int begin(struct handle *handle, struct layer_io *io)
{
    struct layer_disk *disk = handle->disk;
    uint64_t at = io->offset;
    if (io->op != LAYER_IO_READ && io->op < LAYER_IO_FIND) {
        disk->operations++;
        if (disk->cut_at && disk->operations == disk->cut_at) {
            disk->cut = true;
        }
    }
    if (disk->fail_count[io->op] > 0) {
        disk->fail_count[io->op]--;
        return disk->fail_status[io->op];
    }
    if (disk->cut) {
        return -EIO;
    }
    switch (io->op) {
    case LAYER_IO_READ:
    case LAYER_IO_SYNC:
    case LAYER_IO_FIND:
    case LAYER_IO_COUNT:
        break;
    case LAYER_IO_WRITE:
        for (int i = 0; i < io->n_iov; i++) {
            size_t n = io->iov[i].iov_len;
            n = n < io->offset + io->len - at ? n : (size_t)(io->offset + io->len - at);
            change(handle->file, at, io->iov[i].iov_base, n);
            at += n;
        }
        break;
    case LAYER_IO_PUNCH:
        punch(handle->file, io->offset, io->len);
        break;
    case LAYER_IO_EXTEND:
        if (handle->file->size < io->offset + io->len) {
            handle->file->size = io->offset + io->len;
            handle->file->extended_at = UINT64_MAX;
        }
        break;
    }
    return 0;
}

static int finish(struct handle *handle, struct layer_io *io, uint64_t began)
{
    struct layer_disk *disk = handle->disk;
    uint64_t at = io->offset;
    if (disk->cut) {
        return -EIO;
    }
    switch (io->op) {
    case LAYER_IO_READ:
        for (int i = 0; i < io->n_iov; i++) {
            if (at + io->iov[i].iov_len > handle->file->size) {
                return -EIO;
            }
            read_bytes(handle->file, at, io->iov[i].iov_base, io->iov[i].iov_len);
            at += io->iov[i].iov_len;
        }
        break;
    case LAYER_IO_WRITE:
    case LAYER_IO_PUNCH:
        mark_done(disk, handle->file, io->offset, io->len);
        break;
    case LAYER_IO_SYNC:
        make_durable(handle->file, began);
        break;
    case LAYER_IO_EXTEND:
        handle->file->extended_at = ++disk->clock;
        break;
    case LAYER_IO_FIND:
        layer_disk_find(handle->file, io);
        break;
    case LAYER_IO_COUNT:
        io->found_len = used_of(handle->file);
        break;
    }
    return 0;
}

static void delayed_fired(void *arg)
{
    struct delayed *delayed = arg;
    struct layer_io *io = delayed->io;
    io->status = io->status ? io->status : finish(delayed->handle, io, delayed->began);
    free(delayed);
    io->done(io);
}

static int disk_submit(struct layer_file *base, struct layer_io *io)
{
    struct handle *handle = (struct handle *)base;
    struct layer_disk *disk = handle->disk;
    uint64_t began = disk->clock;
    int status = begin(handle, io);
    uint64_t slow_ns = handle->file->slow_ns;
    if (random_below(&disk->random, 100) >= disk->delay_percent && slow_ns == 0) {
        return status ? status : finish(handle, io, began);
    }
    struct delayed *delayed = calloc(1, sizeof(*delayed));
    CHECK(delayed != NULL);
    delayed->io = io;
    delayed->handle = handle;
    delayed->began = began;
    io->status = status;
    loop_timer_init(&delayed->timer, base->loop, delayed_fired, delayed);
    uint64_t delay_ns = random_below(&disk->random, 100) * 1000;
    loop_timer_start(&delayed->timer,
                     delay_ns + (slow_ns ? slow_ns / 2 + random_below(&disk->random, slow_ns) : 0));
    return -EINPROGRESS;
}

static void closed(void *arg)
{
    struct handle *handle = arg;
    loop_fn fn = handle->close_fn;
    void *fn_arg = handle->close_arg;
    handle->file->open = false;
    free(handle);
    fn(fn_arg);
}

static void disk_close(struct layer_file *base, loop_fn fn, void *arg)
{
    struct handle *handle = (struct handle *)base;
    handle->close_fn = fn;
    handle->close_arg = arg;
    handle->task = (struct loop_task){.fn = closed, .arg = handle};
    loop_defer(base->loop, &handle->task);
}

static const struct layer_file_ops disk_ops = {.submit = disk_submit, .close = disk_close};

struct opening {
    struct loop_task task;
    struct layer_disk *disk;
    struct loop *loop;
    char path[128];
    bool create;
    uint64_t size_bytes;
    layer_file_open_fn fn;
    void *arg;
};

static void opened(void *arg)
{
    struct opening *opening = arg;
    struct layer_disk *disk = opening->disk;
    struct disk_file *file = map_get(&disk->files, opening->path);
    struct error error = {0};
    if (disk->cut) {
        error_set(&error, ERR_INTERNAL, "%s: no power", opening->path);
    } else if (opening->create ? file != NULL : file == NULL) {
        error_set(&error, opening->create ? ERR_IN_USE : ERR_NO_SUCH_OBJECT, "%s", opening->path);
    } else if (file && file->open) {
        error_set(&error, ERR_IN_USE, "%s is open", opening->path);
    }
    if (error.code != ERR_NONE) {
        opening->fn(opening->arg, NULL, &error);
        free(opening);
        return;
    }
    if (!file) {
        file = calloc(1, sizeof(*file));
        CHECK(file != NULL && map_put(&disk->files, opening->path, file) == 0);
        file->size = file->durable_size = opening->size_bytes;
    }
    file->open = true;
    struct handle *handle = calloc(1, sizeof(*handle));
    CHECK(handle != NULL);
    handle->base = (struct layer_file){.ops = &disk_ops,
                                       .loop = opening->loop,
                                       .size_bytes = file->size,
                                       .used_bytes = used_of(file)};
    handle->disk = disk;
    handle->file = file;
    opening->fn(opening->arg, &handle->base, NULL);
    free(opening);
}

static int disk_open(const struct layer_backend *backend, struct loop *loop, const char *path,
                     bool create, uint64_t size_bytes, layer_file_open_fn fn, void *arg)
{
    struct opening *opening = calloc(1, sizeof(*opening));
    CHECK(opening != NULL);
    opening->disk =
        container_of((struct layer_backend *)(uintptr_t)backend, struct layer_disk, backend);
    opening->loop = loop;
    snprintf(opening->path, sizeof(opening->path), "%s", path);
    opening->create = create;
    opening->size_bytes = size_bytes;
    opening->fn = fn;
    opening->arg = arg;
    opening->task = (struct loop_task){.fn = opened, .arg = opening};
    loop_defer(loop, &opening->task);
    return 0;
}

static void file_free(struct disk_file *file)
{
    while (file && file->pages) {
        struct page *page = file->pages;
        file->pages = page->following;
        for (unsigned i = 0; i < page->n; i++) {
            free(page->versions[i].data);
        }
        free(page);
    }
    free(file);
}

static void disk_remove(const struct layer_backend *backend, const char *path)
{
    struct layer_disk *disk =
        container_of((struct layer_backend *)(uintptr_t)backend, struct layer_disk, backend);
    /* An open one stays until power_on(): files removed by name are not used again in tests. */
    struct disk_file *file = map_get(&disk->files, path);
    if (file && !file->open) {
        map_remove(&disk->files, path);
        file_free(file);
    }
}

struct layer_disk *layer_disk_new(uint64_t seed, unsigned delay_percent)
{
    struct layer_disk *disk = calloc(1, sizeof(*disk));
    CHECK(disk != NULL);
    disk->backend = (struct layer_backend){.open = disk_open, .remove = disk_remove};
    map_init(&disk->files);
    random_seed(&disk->random, seed);
    disk->delay_percent = delay_percent;
    return disk;
}

void layer_disk_free(struct layer_disk *disk)
{
    for (struct map_entry *e = map_first(&disk->files); e; e = map_next(&disk->files, e)) {
        file_free(e->value);
    }
    map_fini(&disk->files);
    free(disk);
}

const struct layer_backend *layer_disk_backend(struct layer_disk *disk)
{
    return &disk->backend;
}

void layer_disk_cut_at(struct layer_disk *disk, uint64_t n)
{
    disk->cut_at = n ? disk->operations + n : 0;
}

bool layer_disk_is_cut(const struct layer_disk *disk)
{
    return disk->cut;
}

uint64_t layer_disk_operations(const struct layer_disk *disk)
{
    return disk->operations;
}

/* How much of the unsynced survives differs from cut to cut. */
static void page_settle(struct layer_disk *disk, struct page *page, unsigned mood)
{
    uint8_t *out = malloc(PAGE);
    CHECK(out != NULL);
    bool data_area = page->number * PAGE >= LAYER_DATA_OFFSET;
    for (unsigned s = 0; s < PAGE; s += SECTOR) {
        unsigned pick = (unsigned)random_below(&disk->random, page->n);
        pick = mood == 0 ? 0 : mood == 1 ? page->n - 1 : pick;
        memcpy(out + s, bytes_of(&page->versions[pick]) + s, SECTOR);
        if (mood >= 2 && !data_area && page->n > 1 && random_chance(&disk->random, 1, 4)) {
            size_t cut = (size_t)random_below(&disk->random, SECTOR);
            unsigned other = (unsigned)random_below(&disk->random, page->n);
            memcpy(out + s, bytes_of(&page->versions[other]) + s, cut);
        }
    }
    for (unsigned i = 0; i < page->n; i++) {
        free(page->versions[i].data);
    }
    bool zero = memcmp(out, zeros, PAGE) == 0;
    if (zero) {
        free(out);
    }
    page->n = 1;
    page->versions[0] = (struct version){.data = zero ? NULL : out};
}

void layer_disk_power_on(struct layer_disk *disk)
{
    unsigned mood = (unsigned)random_below(&disk->random, 6);
    for (struct map_entry *e = map_first(&disk->files); e; e = map_next(&disk->files, e)) {
        struct disk_file *file = e->value;
        CHECK(!file->open);
        if (random_chance(&disk->random, 1, 2)) {
            file->size = file->durable_size;
        }
        file->durable_size = file->size;
        for (struct page *page = file->pages; page; page = page->following) {
            page_settle(disk, page, mood);
        }
    }
    disk->cut = false;
    disk->cut_at = 0;
}

static struct disk_file *file_copy(const struct disk_file *from)
{
    struct disk_file *file = calloc(1, sizeof(*file));
    CHECK(file != NULL);
    file->size = from->size;
    file->durable_size = from->durable_size;
    for (const struct page *page = from->pages; page; page = page->following) {
        struct page *copy = page_find(file, page->number, true);
        copy->n = page->n;
        for (unsigned i = 0; i < page->n; i++) {
            copy->versions[i] = page->versions[i];
            if (page->versions[i].data) {
                copy->versions[i].data = malloc(PAGE);
                CHECK(copy->versions[i].data != NULL);
                memcpy(copy->versions[i].data, page->versions[i].data, PAGE);
            }
        }
    }
    return file;
}

struct layer_disk *layer_disk_survivor(struct layer_disk *disk)
{
    struct layer_disk *survivor = layer_disk_new(random_u64(&disk->random), disk->delay_percent);
    CHECK(disk->cut);
    for (struct map_entry *e = map_first(&disk->files); e; e = map_next(&disk->files, e)) {
        CHECK(map_put(&survivor->files, e->key, file_copy(e->value)) == 0);
    }
    layer_disk_power_on(survivor);
    disk->cut = false;
    disk->cut_at = 0;
    return survivor;
}

static struct disk_file *file_of(const struct layer_disk *disk, const char *path)
{
    struct disk_file *file = map_get(&disk->files, path);
    CHECK(file != NULL);
    return file;
}

uint64_t layer_disk_used(const struct layer_disk *disk, const char *path)
{
    return used_of(file_of(disk, path));
}

bool layer_disk_has(const struct layer_disk *disk, const char *path, uint64_t offset)
{
    struct page *page = page_find(file_of(disk, path), offset / PAGE, false);
    return page && newest(page)->data;
}

void layer_disk_peek(struct layer_disk *disk, const char *path, uint64_t offset, void *data,
                     size_t len)
{
    read_bytes(file_of(disk, path), offset, data, len);
}

void layer_disk_poke(struct layer_disk *disk, const char *path, uint64_t offset, const void *data,
                     size_t len)
{
    change(file_of(disk, path), offset, data, len);
    mark_done(disk, file_of(disk, path), offset, len);
    make_durable(file_of(disk, path), disk->clock);
}

void layer_disk_set_size(struct layer_disk *disk, const char *path, uint64_t size_bytes)
{
    file_of(disk, path)->size = file_of(disk, path)->durable_size = size_bytes;
}

void layer_disk_slow(struct layer_disk *disk, const char *path, uint64_t ns)
{
    struct disk_file *file = map_get(&disk->files, path);
    if (file) {
        file->slow_ns = ns;
    }
}

bool layer_disk_exists(const struct layer_disk *disk, const char *path)
{
    return map_get(&disk->files, path) != NULL;
}

int layer_disk_rename(struct layer_disk *disk, const char *from, const char *to)
{
    if (disk->cut) {
        return -EIO;
    }
    struct disk_file *file = map_remove(&disk->files, from);
    if (!file) {
        return -ENOENT;
    }
    CHECK(map_get(&disk->files, to) == NULL && map_put(&disk->files, to, file) == 0);
    return 0;
}

void layer_disk_fail(struct layer_disk *disk, enum layer_io_op op, unsigned count, int status)
{
    disk->fail_count[op] = count;
    disk->fail_status[op] = status;
}
