// SPDX-License-Identifier: Apache-2.0
/*
 * What the parts of the change map share: the sets in memory (change_map.c), the file (change_map_file.c).
 *
 * Thread:    the map's loop.
 * Ownership: see change_map.h.
 * Errors:    see change_map.h.
 */
#ifndef REPLICATION_CHANGE_MAP_PRIVATE_H
#define REPLICATION_CHANGE_MAP_PRIVATE_H

#include <sys/uio.h>

#include "base/bitmap.h"
#include "replication/change_map.h"

enum {
    REGION_GRANULES = CHANGE_REGION_BYTES / CHANGE_GRANULE_BYTES,
    REGION_WORDS = REGION_GRANULES / 64,
    SECTOR_BYTES = 512,
    SECTOR_WORDS = 63,
    SECTOR_REGIONS = SECTOR_WORDS * 64,
    BLOCK_BYTES = 4096,
    BLOCK_SECTORS = BLOCK_BYTES / SECTOR_BYTES,
    BLOCK_REGIONS = BLOCK_SECTORS * SECTOR_REGIONS,
    ID_BYTES = 16,
    LOG_ENTRY_BYTES = 16,
    LOG_ENTRIES = BLOCK_BYTES / LOG_ENTRY_BYTES - 1, /* of a block, after its head */
    LOG_COMMIT_BLOCKS = 16,
    LOG_BLOCKS_MIN = 16,
    LOG_BLOCKS_MAX = 4096,
};

struct granules {
    uint64_t words[REGION_WORDS];
};

/* Of a region that is marked on the disk, or has granules in one of the sets. */
struct region {
    uint64_t index;
    struct list idle;    /* marked, and nobody writes: oldest first */
    struct list marking; /* until its mark is durable */
    struct list fresh_link;
    struct list settling_link;
    unsigned users;
    uint64_t commit;          /* that makes its mark durable; 0 none */
    uint64_t used_ns;         /* the last write; 0: none, it was only copied */
    struct granules dirty;    /* differ: the source is right */
    struct granules stale;    /* differ: the leg is right */
    struct granules fresh;    /* written on both since the last flush began */
    struct granules settling; /* written before the flush that is under way */
    struct list unlogged_link;
    uint64_t log_generation; /* of the next two */
    struct granules logging; /* on their way into the log */
    struct granules logged;  /* there, for sure */
};

struct change_map {
    struct loop *loop;
    const struct layer_backend *files;
    char *path;
    uint64_t size_bytes;
    uint64_t n_granules, n_regions;

    /* The sets. */
    struct region **regions;
    struct bitmap want;    /* marks as they shall be on the disk */
    struct bitmap durable; /* marks that are */
    struct bitmap marked;  /* regions with dirty or stale granules */
    struct bitmap whole;   /* of those: all granules, and no struct region yet */
    bool whole_stale;
    uint64_t n_dirty, n_stale; /* granules, whole regions included */
    struct list idle, marking, fresh, settling;
    uint64_t n_idle;
    struct list unlogged; /* regions with marked granules that are not in the log */
    bool settling_busy;   /* a flush that counts is under way */

    /* The file. */
    struct layer_file *file;
    uint8_t id[ID_BYTES];
    uint64_t n_blocks;
    uint8_t *image; /* of the blocks, as they are being written */
    struct bitmap block_dirty, block_writing;
    struct list marks; /* that wait */
    uint64_t commits;  /* begun */
    bool committing;
    bool urgent; /* a mark waits for the next commit */
    bool lazy;   /* marks were taken back */
    uint64_t next_block;
    struct layer_io io;
    struct iovec iov;
    void (*io_next)(struct change_map *map, int status);

    /* The log of granules (change_log.c). */
    uint64_t log_blocks;     /* of the file */
    uint64_t log_generation; /* 0: none was begun */
    uint8_t *log_image;      /* LOG_COMMIT_BLOCKS, from log_at on */
    uint64_t log_at;
    unsigned log_n;   /* entries in the image */
    bool log_wanted;  /* append what is not logged */
    bool log_dirty;   /* the image is to be written */
    bool log_writing; /* this commit does */
    bool log_is_full;
    bool log_forget;      /* when it has been written */
    struct list logging;  /* regions whose granules this commit appends */
    uint64_t log_read_at; /* while opening */
    uint8_t log_read[BLOCK_BYTES];

    /* Opening and closing. */
    bool all_differs, create, must_exist;
    struct change_mark open_mark;
    struct error error;
    change_map_open_fn open_fn;
    void *open_arg;
    bool closing, remove, close_tidied;
    loop_fn close_fn;
    void *close_arg;
    struct loop_work remove_work;
};

/* Begins a commit if one is due. */
void change_map_commit(struct change_map *map);
void change_map_want(struct change_map *map, uint64_t region, bool set);
/* From the file to the sets: the commit has ended. */
void change_map_committed(struct change_map *map, uint64_t commit, int status);
int change_map_init_sets(struct change_map *map);
/* Regions whose want is set have all granules marked. */
void change_map_load_regions(struct change_map *map, bool stale);
void change_map_free(struct change_map *map);

/* ---- regions, for the log ---- */

struct region *change_map_region(struct change_map *map, uint64_t index);
/* Marked granules that the log does not have. */
struct granules change_map_unlogged(const struct change_map *map, const struct region *region);
void change_map_place(struct change_map *map, struct region *region);
void change_map_add_granules(struct change_map *map, uint64_t index, const struct granules *set,
                             bool stale);

/* ---- change_log.c ---- */

uint64_t change_log_offset(const struct change_map *map);
/* Forgets everything: an empty log, with the next commit. */
void change_log_begin(struct change_map *map);
/* At the begin of a commit: what is to be appended goes into the image. */
void change_log_prepare(struct change_map *map);
/* Its blocks, to be written: false if there are none. */
bool change_log_blocks(const struct change_map *map, uint64_t *ret_first, uint64_t *ret_n);
void change_log_committed(struct change_map *map, int status);
/* A block of the file, in order; false: nothing follows. */
bool change_log_load(struct change_map *map, uint64_t index, const uint8_t *block, bool stale);

#endif
