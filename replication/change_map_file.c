// SPDX-License-Identifier: Apache-2.0
/*
 * The file of a change map, version 1. Numbers are little-endian.
 *
 *     block 0, 1   header, twice: of 4 KiB each, the first 512 bytes are used
 *     block 2...   marks: a bit for each region of 1 MiB
 *     then         the log of granules (change_log.c)
 *
 *     header   0 "smirmap\n"   8 version   12 CRC32C of the 512 bytes with zeros here
 *              16 id, 16 random bytes      32 size of the volume     40 bytes of a region
 *              44 bytes of a granule       48 offset of the marks    56 their blocks
 *              64 offset of the log        72 its blocks
 *     sector   0 CRC32C of the rest, begun with that of the id       4 its number   8 4032 bits
 *
 * Each sector of 512 bytes stands for itself, so a disk that tears a block leaves sectors that are old or new. One
 * that is neither counts as all marks set: more is copied than need be, nothing is forgotten.
 *
 * The header is written last, and is never written again. A file with two empty headers is one whose making did not
 * come to its end: it is made again, with everything marked.
 *
 * A commit: the dirty blocks and those of the log are put together, written, synced; then the marks that waited for it are told. Meanwhile
 * marks gather for the next one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "base/random.h"
#include "base/slice.h"
#include "replication/change_map_private.h"

enum { VERSION = 1, HEADER_BLOCKS = 2, HEADER_BYTES = 512 };
static const char magic[8] = "smirmap\n";

/* ---- one operation on the file at a time ---- */

static void io_done(struct layer_io *io)
{
    struct change_map *map = io->arg;
    map->io_next(map, io->status);
}

static void file_io(struct change_map *map, enum layer_io_op op, uint64_t offset, uint8_t *data,
                    uint64_t len, void (*next)(struct change_map *map, int status))
{
    map->iov = (struct iovec){.iov_base = data, .iov_len = len};
    map->io = (struct layer_io){.op = op,
                                .offset = offset,
                                .len = len,
                                .iov = &map->iov,
                                .n_iov = data != NULL,
                                .done = io_done,
                                .arg = map};
    map->io_next = next;
    int status = layer_file_submit(map->file, &map->io);
    if (status != -EINPROGRESS) {
        next(map, status);
    }
}

/* ---- sectors ---- */

static uint32_t sector_crc(const struct change_map *map, const uint8_t *sector)
{
    return crc32c(crc32c(0, map->id, ID_BYTES), sector + 4, SECTOR_BYTES - 4);
}

static uint64_t n_sectors(const struct change_map *map)
{
    return (map->n_regions + SECTOR_REGIONS - 1) / SECTOR_REGIONS;
}

/* Words of want that belong to the sector. */
static unsigned sector_words(const struct change_map *map, uint64_t number)
{
    uint64_t n_words = (map->n_regions + 63) / 64;
    uint64_t first = number * SECTOR_WORDS;
    uint64_t left = first < n_words ? n_words - first : 0;
    return left < SECTOR_WORDS ? (unsigned)left : SECTOR_WORDS;
}

static void sector_encode(const struct change_map *map, uint64_t number, uint8_t *sector)
{
    memset(sector, 0, SECTOR_BYTES);
    put_le32(sector + 4, (uint32_t)number);
    unsigned n = sector_words(map, number);
    for (unsigned i = 0; i < n; i++) {
        put_le64(sector + 8 + i * 8, map->want.words[number * SECTOR_WORDS + i]);
    }
    put_le32(sector, sector_crc(map, sector));
}

/* False: it is damaged. */
static bool sector_decode(struct change_map *map, uint64_t number, const uint8_t *sector)
{
    if (get_le32(sector) != sector_crc(map, sector) || get_le32(sector + 4) != (uint32_t)number) {
        return false;
    }
    uint64_t base = number * SECTOR_REGIONS;
    for (unsigned i = 0; i < sector_words(map, number); i++) {
        uint64_t word = get_le64(sector + 8 + i * 8);
        for (; word != 0; word &= word - 1) {
            uint64_t bit = base + i * 64 + (unsigned)__builtin_ctzll(word);
            if (bit < map->n_regions) {
                bitmap_set(&map->want, bit);
            }
        }
    }
    return true;
}

static void block_encode(struct change_map *map, uint64_t block)
{
    for (unsigned i = 0; i < BLOCK_SECTORS; i++) {
        sector_encode(map, block * BLOCK_SECTORS + i,
                      map->image + block * BLOCK_BYTES + i * SECTOR_BYTES);
    }
}

/* What was written is on the disk: of that, marks that are still wanted are durable. */
static void block_is_durable(struct change_map *map, uint64_t block)
{
    for (unsigned i = 0; i < BLOCK_SECTORS; i++) {
        uint64_t number = block * BLOCK_SECTORS + i;
        const uint8_t *sector = map->image + block * BLOCK_BYTES + i * SECTOR_BYTES;
        for (unsigned w = 0; w < sector_words(map, number); w++) {
            uint64_t at = number * SECTOR_WORDS + w;
            uint64_t word =
                get_le64(sector + 8 + w * 8) & map->want.words[at] & ~map->durable.words[at];
            for (; word != 0; word &= word - 1) {
                bitmap_set(&map->durable, at * 64 + (unsigned)__builtin_ctzll(word));
            }
        }
    }
}

static uint64_t file_bytes_of(const struct change_map *map)
{
    return change_log_offset(map) + map->log_blocks * BLOCK_BYTES;
}

/* ---- commits ---- */

void change_map_want(struct change_map *map, uint64_t region, bool set)
{
    bool changed = set ? bitmap_set(&map->want, region) : bitmap_clear(&map->want, region);
    if (changed || (set && !bitmap_test(&map->durable, region))) {
        bitmap_set(&map->block_dirty, region / BLOCK_REGIONS);
    }
}

static void close_step(struct change_map *map, int status);

static void commit_end(struct change_map *map, int status)
{
    for (uint64_t block = bitmap_next_set(&map->block_writing, 0); block < map->n_blocks;
         block = bitmap_next_set(&map->block_writing, block + 1)) {
        if (status) {
            bitmap_set(&map->block_dirty, block);
        } else {
            block_is_durable(map, block);
        }
    }
    bitmap_clear_range(&map->block_writing, 0, map->n_blocks);
    map->committing = false;
    if (status) {
        log_error("changes[%s]: marks cannot be written: %s", map->path, strerrorname_np(-status));
    }
    change_log_committed(map, status);
    if (map->log_forget && !change_map_has_recent(map)) {
        change_map_forget_log(map);
    }
    change_map_committed(map, map->commits, status);
    change_map_commit(map);
    if (map->closing && !map->committing) {
        close_step(map, status);
    }
}

static void commit_sync(struct change_map *map, int status)
{
    if (status) {
        commit_end(map, status);
    } else {
        file_io(map, LAYER_IO_SYNC, 0, NULL, 0, commit_end);
    }
}

static void commit_log(struct change_map *map)
{
    uint64_t first, n;
    if (change_log_blocks(map, &first, &n)) {
        file_io(map, LAYER_IO_WRITE, change_log_offset(map) + first * BLOCK_BYTES, map->log_image,
                n * BLOCK_BYTES, commit_sync);
    } else {
        commit_sync(map, 0);
    }
}

static void commit_write(struct change_map *map, int status)
{
    uint64_t first = status ? map->n_blocks : bitmap_next_set(&map->block_writing, map->next_block);
    if (status) {
        commit_end(map, status);
    } else if (first >= map->n_blocks) {
        commit_log(map);
    } else {
        uint64_t end = bitmap_next_clear(&map->block_writing, first);
        map->next_block = end;
        file_io(map, LAYER_IO_WRITE, (HEADER_BLOCKS + first) * BLOCK_BYTES,
                map->image + first * BLOCK_BYTES, (end - first) * BLOCK_BYTES, commit_write);
    }
}

void change_map_commit(struct change_map *map)
{
    bool log =
        map->log_dirty || (map->log_wanted && !map->log_is_full && !list_empty(&map->unlogged));
    if (map->committing || (!map->urgent && !map->lazy) ||
        (bitmap_count(&map->block_dirty) == 0 && !log)) {
        return;
    }
    change_log_prepare(map);
    map->committing = true;
    map->urgent = map->lazy = false;
    map->commits++;
    for (uint64_t block = bitmap_next_set(&map->block_dirty, 0); block < map->n_blocks;
         block = bitmap_next_set(&map->block_dirty, block + 1)) {
        block_encode(map, block);
        bitmap_set(&map->block_writing, block);
    }
    bitmap_clear_range(&map->block_dirty, 0, map->n_blocks);
    map->next_block = 0;
    commit_write(map, 0);
}

/* ---- the header ---- */

static uint32_t header_crc(const uint8_t *header)
{
    uint8_t copy[HEADER_BYTES];
    memcpy(copy, header, sizeof(copy));
    put_le32(copy + 12, 0);
    return crc32c(0, copy, sizeof(copy));
}

static void header_encode(const struct change_map *map, uint8_t *block)
{
    memset(block, 0, BLOCK_BYTES);
    memcpy(block, magic, sizeof(magic));
    put_le32(block + 8, VERSION);
    memcpy(block + 16, map->id, ID_BYTES);
    put_le64(block + 32, map->size_bytes);
    put_le32(block + 40, CHANGE_REGION_BYTES);
    put_le32(block + 44, CHANGE_GRANULE_BYTES);
    put_le64(block + 48, HEADER_BLOCKS * BLOCK_BYTES);
    put_le64(block + 56, map->n_blocks);
    put_le64(block + 64, change_log_offset(map));
    put_le64(block + 72, map->log_blocks);
    put_le32(block + 12, header_crc(block));
}

static bool header_is_whole(const uint8_t *block)
{
    return memcmp(block, magic, sizeof(magic)) == 0 && get_le32(block + 12) == header_crc(block);
}

static int header_decode(struct change_map *map, const uint8_t *block, uint64_t file_bytes)
{
    if (get_le32(block + 8) != VERSION) {
        return error_set(&map->error, ERR_NOT_SUPPORTED,
                         "%s: a change map of version %u, this program knows %u", map->path,
                         get_le32(block + 8), VERSION);
    }
    memcpy(map->id, block + 16, ID_BYTES);
    if (get_le64(block + 32) != map->size_bytes || get_le32(block + 40) != CHANGE_REGION_BYTES ||
        get_le32(block + 44) != CHANGE_GRANULE_BYTES ||
        get_le64(block + 48) != HEADER_BLOCKS * BLOCK_BYTES ||
        get_le64(block + 56) != map->n_blocks || get_le64(block + 64) != change_log_offset(map) ||
        get_le64(block + 72) != map->log_blocks) {
        return error_set(&map->error, ERR_INCOMPATIBLE,
                         "%s: a change map for a volume of %llu bytes, this one has %llu",
                         map->path, (unsigned long long)get_le64(block + 32),
                         (unsigned long long)map->size_bytes);
    }
    if (file_bytes < file_bytes_of(map)) {
        return error_set(&map->error, ERR_INTERNAL, "%s: the change map is cut short", map->path);
    }
    return 0;
}

/* ---- opening ---- */

static void open_failed_closed(void *arg)
{
    struct change_map *map = arg;
    map->open_fn(map->open_arg, NULL, &map->error);
    change_map_free(map);
}

static void open_failed(struct change_map *map)
{
    if (map->file) {
        layer_file_close(map->file, open_failed_closed, map);
    } else {
        open_failed_closed(map);
    }
}

static void open_status(struct change_map *map, int status, const char *what)
{
    error_set(&map->error, status == -ENOSPC ? ERR_NO_SPACE : ERR_INTERNAL, "%s: %s: %s", map->path,
              what, strerrorname_np(-status));
    open_failed(map);
}

static void opened(struct change_map *map)
{
    map->open_fn(map->open_arg, map, NULL);
}

static void make_second_synced(struct change_map *map, int status)
{
    if (status) {
        open_status(map, status, "the change map cannot be made");
        return;
    }
    for (uint64_t block = 0; block < map->n_blocks; block++) {
        block_encode(map, block);
        block_is_durable(map, block);
    }
    opened(map);
}

static void make_second_written(struct change_map *map, int status)
{
    if (status) {
        open_status(map, status, "the change map cannot be made");
    } else {
        file_io(map, LAYER_IO_SYNC, 0, NULL, 0, make_second_synced);
    }
}

static void make_first_synced(struct change_map *map, int status)
{
    if (status) {
        open_status(map, status, "the change map cannot be made");
    } else {
        file_io(map, LAYER_IO_WRITE, BLOCK_BYTES, map->image, BLOCK_BYTES, make_second_written);
    }
}

static void make_first_written(struct change_map *map, int status)
{
    if (status) {
        open_status(map, status, "the change map cannot be made");
    } else {
        file_io(map, LAYER_IO_SYNC, 0, NULL, 0, make_first_synced);
    }
}

static void make_marks_synced(struct change_map *map, int status)
{
    if (status) {
        open_status(map, status, "the change map cannot be made");
        return;
    }
    header_encode(map, map->image);
    file_io(map, LAYER_IO_WRITE, 0, map->image, BLOCK_BYTES, make_first_written);
}

static void make_marks_written(struct change_map *map, int status)
{
    if (status) {
        open_status(map, status, "the change map cannot be made");
    } else {
        file_io(map, LAYER_IO_SYNC, 0, NULL, 0, make_marks_synced);
    }
}

static void make_extended(struct change_map *map, int status)
{
    if (status) {
        open_status(map, status, "the change map cannot be made");
        return;
    }
    random_bytes(map->id, ID_BYTES);
    if (map->all_differs) {
        bitmap_set_range(&map->want, 0, map->n_regions);
    }
    change_map_load_regions(map, map->whole_stale);
    for (uint64_t block = 0; block < map->n_blocks; block++) {
        block_encode(map, block);
    }
    file_io(map, LAYER_IO_WRITE, HEADER_BLOCKS * BLOCK_BYTES, map->image,
            map->n_blocks * BLOCK_BYTES, make_marks_written);
}

static void make(struct change_map *map)
{
    file_io(map, LAYER_IO_EXTEND, 0, NULL, file_bytes_of(map), make_extended);
}

static void read_marked(struct change_mark *mark, int status)
{
    struct change_map *map = container_of(mark, struct change_map, open_mark);
    if (status) {
        open_status(map, status, "everything differs, but cannot be marked");
    } else {
        opened(map);
    }
}

static void read_done(struct change_map *map)
{
    if (!map->all_differs) {
        opened(map);
        return;
    }
    map->open_mark.done = read_marked;
    int rc = change_map_mark_all(map, &map->open_mark);
    if (rc != 0) {
        read_marked(&map->open_mark, rc < 0 ? rc : 0);
    }
}

static void read_log_done(struct change_map *map, int status)
{
    if (status) {
        open_status(map, status, "the change map cannot be read");
        return;
    }
    if (change_log_load(map, map->log_read_at, map->log_read, map->whole_stale) &&
        ++map->log_read_at < map->log_blocks) {
        file_io(map, LAYER_IO_READ, change_log_offset(map) + map->log_read_at * BLOCK_BYTES,
                map->log_read, BLOCK_BYTES, read_log_done);
    } else {
        read_done(map);
    }
}

static void read_marks_done(struct change_map *map, int status)
{
    if (status) {
        open_status(map, status, "the change map cannot be read");
        return;
    }
    for (uint64_t i = 0; i < n_sectors(map); i++) {
        if (!sector_decode(map, i, map->image + i * SECTOR_BYTES)) {
            uint64_t first = i * SECTOR_REGIONS;
            uint64_t left = map->n_regions - first;
            uint64_t n = left < SECTOR_REGIONS ? left : SECTOR_REGIONS;
            log_warning("changes[%s]: sector %llu is damaged: %llu MiB count as changed", map->path,
                        (unsigned long long)i, (unsigned long long)n);
            bitmap_set_range(&map->want, first, n);
            bitmap_set(&map->block_dirty, i / BLOCK_SECTORS);
        }
    }
    for (uint64_t i = bitmap_next_set(&map->want, 0); i < map->n_regions;
         i = bitmap_next_set(&map->want, i + 1)) {
        if (!bitmap_test(&map->block_dirty, i / BLOCK_REGIONS)) {
            bitmap_set(&map->durable, i);
        }
    }
    change_map_load_regions(map, map->whole_stale);
    file_io(map, LAYER_IO_READ, change_log_offset(map), map->log_read, BLOCK_BYTES, read_log_done);
}

static void read_header_done(struct change_map *map, int status)
{
    const uint8_t *first = map->image;
    const uint8_t *second = map->image + BLOCK_BYTES;
    if (status) {
        open_status(map, status, "the change map cannot be read");
        return;
    }
    bool torn = mem_is_zero(second, BLOCK_BYTES) &&
                (mem_is_zero(first, BLOCK_BYTES) ||
                 (!header_is_whole(first) && memcmp(first, magic, sizeof(magic)) == 0));
    if (torn) {
        log_warning("changes[%s]: its making did not come to its end: everything is marked",
                    map->path);
        map->all_differs = true;
        make(map);
        return;
    }
    const uint8_t *header = header_is_whole(first)    ? first
                            : header_is_whole(second) ? second
                                                      : NULL;
    if (!header) {
        error_set(&map->error, ERR_INTERNAL, "%s is damaged, or no change map", map->path);
        open_failed(map);
    } else if (header_decode(map, header, map->file->size_bytes)) {
        open_failed(map);
    } else {
        file_io(map, LAYER_IO_READ, HEADER_BLOCKS * BLOCK_BYTES, map->image,
                map->n_blocks * BLOCK_BYTES, read_marks_done);
    }
}

static void file_opened(void *arg, struct layer_file *file, const struct error *error)
{
    struct change_map *map = arg;
    if (file) {
        map->file = file;
        if (map->create || file->size_bytes < HEADER_BLOCKS * BLOCK_BYTES) {
            map->all_differs |= !map->create;
            make(map);
        } else {
            file_io(map, LAYER_IO_READ, 0, map->image, HEADER_BLOCKS * BLOCK_BYTES,
                    read_header_done);
        }
        return;
    }
    if (!map->create && !map->must_exist && error->code == ERR_NO_SUCH_OBJECT) {
        map->create = true;
        if (map->files->open(map->files, map->loop, map->path, true, file_bytes_of(map),
                             file_opened, map) == 0) {
            return;
        }
        error_set(&map->error, ERR_NO_MEMORY, "%s", map->path);
    } else {
        map->error = *error;
    }
    open_failed(map);
}

int change_map_open(struct loop *loop, const struct change_map_spec *spec, change_map_open_fn fn,
                    void *arg)
{
    CHECK(loop_is_current(loop) && spec->size_bytes > 0);
    struct change_map *map = calloc(1, sizeof(*map));
    if (!map) {
        return -ENOMEM;
    }
    map->loop = loop;
    map->files = spec->files ? spec->files : &layer_backend_files;
    map->size_bytes = spec->size_bytes;
    map->n_granules = (spec->size_bytes + CHANGE_GRANULE_BYTES - 1) / CHANGE_GRANULE_BYTES;
    map->n_regions = (spec->size_bytes + CHANGE_REGION_BYTES - 1) / CHANGE_REGION_BYTES;
    map->n_blocks = (map->n_regions + BLOCK_REGIONS - 1) / BLOCK_REGIONS;
    map->log_blocks = map->n_regions / 4;
    map->log_blocks = map->log_blocks < LOG_BLOCKS_MIN ? LOG_BLOCKS_MIN : map->log_blocks;
    map->log_blocks = map->log_blocks > LOG_BLOCKS_MAX ? LOG_BLOCKS_MAX : map->log_blocks;
    map->log_image = calloc(LOG_COMMIT_BLOCKS, BLOCK_BYTES);
    map->all_differs = spec->all_differs;
    map->must_exist = spec->must_exist;
    map->whole_stale = spec->stale;
    map->open_fn = fn;
    map->open_arg = arg;
    list_init(&map->idle);
    list_init(&map->marking);
    list_init(&map->fresh);
    list_init(&map->settling);
    list_init(&map->marks);
    list_init(&map->unlogged);
    list_init(&map->logging);
    map->path = strdup(spec->path);
    uint64_t image_blocks = map->n_blocks > HEADER_BLOCKS ? map->n_blocks : HEADER_BLOCKS;
    map->image = calloc(image_blocks, BLOCK_BYTES);
    if (!map->path || !map->image || !map->log_image || change_map_init_sets(map) < 0 ||
        bitmap_init(&map->block_dirty, map->n_blocks) < 0 ||
        bitmap_init(&map->block_writing, map->n_blocks) < 0 ||
        map->files->open(map->files, loop, map->path, false, 0, file_opened, map) < 0) {
        change_map_free(map);
        return -ENOMEM;
    }
    return 0;
}

/* ---- closing ---- */

static void removed(void *arg)
{
    struct change_map *map = arg;
    loop_fn fn = map->close_fn;
    void *fn_arg = map->close_arg;
    change_map_free(map);
    fn(fn_arg);
}

static void remove_run(void *arg)
{
    struct change_map *map = arg;
    map->files->remove(map->files, map->path);
}

static void file_closed(void *arg)
{
    struct change_map *map = arg;
    if (map->remove) {
        map->remove_work = (struct loop_work){.run = remove_run, .done = removed, .arg = map};
        loop_work_submit(map->loop, &map->remove_work);
    } else {
        removed(map);
    }
}

/* Granules into the log; then marks that this makes needless, and all others that are, away; then the file. */
static void close_step(struct change_map *map, int status)
{
    if (!status && !map->remove && !map->close_tidied) {
        if (!change_map_has_recent(map)) {
            change_map_forget_log(map);
            if (map->committing || !map->closing || map->close_tidied) {
                return;
            }
        }
        /* A commit that ends at once has called this function already. */
        change_map_log(map);
        if (map->committing || !map->closing || map->close_tidied) {
            return;
        }
        map->close_tidied = true;
        change_map_tidy(map, 0);
        if (map->committing || !map->closing) {
            return;
        }
        map->lazy = true;
        change_map_commit(map);
        if (map->committing || !map->closing) {
            return;
        }
    }
    map->closing = false; /* once */
    layer_file_close(map->file, file_closed, map);
}

void change_map_close(struct change_map *map, bool remove, loop_fn fn, void *arg)
{
    CHECK(list_empty(&map->marks) && !map->closing);
    map->remove = remove;
    map->close_fn = fn;
    map->close_arg = arg;
    map->closing = true;
    if (!map->committing) {
        close_step(map, 0);
    }
}

/* ---- walking ---- */

enum { WALK_RUN = 1 << 30 };

struct walk {
    change_map_run_fn each;
    void (*ended)(void *arg, const struct error *error);
    void *arg;
    struct error error;
    bool failed;
    struct loop_task task;
};

static void walk_end(void *arg)
{
    struct walk *walk = arg;
    walk->ended(walk->arg, walk->failed ? &walk->error : NULL);
    free(walk);
}

static void walk_opened(void *arg, struct change_map *map, const struct error *error)
{
    struct walk *walk = arg;
    struct change_run run = {0};
    if (!map) {
        walk->error = *error;
        walk->failed = true;
        walk_end(walk);
        return;
    }
    while (change_map_next(map, run.offset + run.len, WALK_RUN, false, &run)) {
        walk->each(walk->arg, run.offset, run.len);
        if (run.offset + run.len == map->size_bytes) {
            break;
        }
    }
    layer_file_close(map->file, file_closed, map);
    map->close_fn = walk_end;
    map->close_arg = walk;
}

void change_map_walk(struct loop *loop, const char *path, uint64_t size_bytes,
                     change_map_run_fn each, void (*ended)(void *arg, const struct error *error),
                     void *arg)
{
    struct change_map_spec spec = {.path = path, .size_bytes = size_bytes, .must_exist = true};
    struct walk *walk = calloc(1, sizeof(*walk));
    CHECK(walk != NULL);
    *walk = (struct walk){.each = each, .ended = ended, .arg = arg};
    if (change_map_open(loop, &spec, walk_opened, walk) < 0) {
        error_set(&walk->error, ERR_NO_MEMORY, "%s", path);
        walk->failed = true;
        walk->task = (struct loop_task){.fn = walk_end, .arg = walk};
        loop_defer(loop, &walk->task);
    }
}
