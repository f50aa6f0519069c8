// SPDX-License-Identifier: Apache-2.0
/*
 * What may differ between the two sides of a mirror, in memory and in a file that survives crashes.
 *
 * Thread:    one loop. The file is written off it (block/layer_io.h).
 * Ownership: change_map_open() gives the map to fn; change_map_close() frees it. A struct change_mark is lent
 *            while it waits.
 * Errors:    a file that is damaged, foreign or of another size is refused. A mark that could not be made
 *            durable fails, and nothing else does.
 *
 * Two rules: (1) nobody writes before change_map_begin() has said that the regions are marked on the disk;
 * (2) whatever may differ is marked, always, through any crash.
 *
 * A granule (4 KiB) of which it is known that it differs is DIRTY: the source is right, or STALE: the leg is
 * right (restore). A granule that was written on both sides, but not flushed on both, is recent: it becomes
 * dirty when either side may have lost it. On the disk are regions (1 MiB).
 */
#ifndef REPLICATION_CHANGE_MAP_H
#define REPLICATION_CHANGE_MAP_H

#include "base/error.h"
#include "base/list.h"
#include "base/loop.h"
#include "block/layer_io.h"

enum { CHANGE_GRANULE_BYTES = 4096, CHANGE_REGION_BYTES = 1 << 20, CHANGE_ACTIVE_MAX = 4096 };

struct change_map_spec {
    const struct layer_backend *files; /* NULL: the file system's */
    const char *path;
    uint64_t size_bytes; /* of both sides */
    bool all_differs;    /* mark everything; else what the file says (a new one: nothing) */
    bool stale;          /* what is marked is STALE, else DIRTY */
    bool must_exist;     /* it is not made */
};

struct change_map;
/* error is NULL, or map is and error says why. */
typedef void (*change_map_open_fn)(void *arg, struct change_map *map, const struct error *error);
/* fn comes later, never inside. -ENOMEM: it will not. */
int change_map_open(struct loop *loop, const struct change_map_spec *spec, change_map_open_fn fn,
                    void *arg);
/* Writes out what is pending, clearing all that may be cleared; no mark may be waiting and no range begun. remove: the file
 * goes. fn comes later. */
void change_map_close(struct change_map *map, bool remove, loop_fn fn, void *arg);

/* What a file has marked, in runs, while nobody has it open; the file stays as it is. ended is called later, on the loop: error is NULL,
 * or says why not all was told. */
typedef void (*change_map_run_fn)(void *arg, uint64_t offset, uint64_t len);
void change_map_walk(struct loop *loop, const char *path, uint64_t size_bytes,
                     change_map_run_fn each, void (*ended)(void *arg, const struct error *error),
                     void *arg);

/* ---- writes ---- */

struct change_mark {
    void (*done)(struct change_mark *mark, int status); /* the caller's */
    uint64_t offset, len;
    uint64_t commit;
    bool counted;
    struct list link;
};

/* 1: the range is marked durably, write. 0: done() will say so, later; in both cases the range has begun, unless status is not 0.
 * Negative: it cannot be marked. */
int change_map_begin(struct change_map *map, struct change_mark *mark, uint64_t offset,
                     uint64_t len);

enum change_end {
    CHANGE_SAME,    /* both sides have it, not flushed */
    CHANGE_DURABLE, /* both have it on stable storage */
    CHANGE_DIFFERS, /* one side has it, or may have: dirty */
    CHANGE_FAILED,  /* the source may have it or not: dirty, or stale as before */
    CHANGE_MARK,    /* may differ for another reason: dirty, or stale after change_map_turn(true) */
    CHANGE_NOTHING, /* neither was asked to write */
};
/* The range that was begun. SAME and DURABLE: granules that lie in it wholly are no longer dirty or stale. */
void change_map_end(struct change_map *map, uint64_t offset, uint64_t len, enum change_end how);

/* Marks everything as change_map_end(DIFFERS) does. As begin, but nothing has begun. */
int change_map_mark_all(struct change_map *map, struct change_mark *mark);

/* ---- flushes, losses ---- */

/* A flush of both sides begins: false if one is under way that counts (then this one does not). */
bool change_map_flush_begin(struct change_map *map);
/* What was completed on both sides before it began is on stable storage on both, or is not. */
void change_map_flush_end(struct change_map *map, bool flushed);
/* One side may have lost what was not flushed: that is dirty. After change_map_turn(true) what the source may have lost is stale,
 * what was dirty until now as well. */
void change_map_lost(struct change_map *map, bool of_source);
bool change_map_flush_busy(const struct change_map *map);
/* Something was written and not flushed on both. */
bool change_map_has_recent(const struct change_map *map);

/* ---- copying ---- */

struct change_run {
    uint64_t offset, len;
    bool stale;
};
/* The first marked granule at from or later, and those of its kind that follow, at most max bytes; false: none. */
bool change_map_next(const struct change_map *map, uint64_t from, uint64_t max, bool dirty_only,
                     struct change_run *ret_run);
/* What was copied is the same on both, not flushed. */
void change_map_copied(struct change_map *map, uint64_t offset, uint64_t len);
bool change_map_any_stale(const struct change_map *map, uint64_t offset, uint64_t len);
/* True if the granule at offset is stale; how far that is so. */
bool change_map_stale_run(const struct change_map *map, uint64_t offset, uint64_t limit,
                          uint64_t *ret_end);
/* What is marked becomes stale, or dirty. */
void change_map_turn(struct change_map *map, bool stale);

uint64_t change_map_marked_bytes(const struct change_map *map); /* dirty and stale */
uint64_t change_map_dirty_bytes(const struct change_map *map);
uint64_t change_map_stale_bytes(const struct change_map *map);

/* ---- housekeeping ---- */

/* Takes marks from the disk that are no longer needed: beyond CHANGE_ACTIVE_MAX, and of regions that nobody
 * has written to for idle_ns (UINT64_MAX: the former only). True: more could go after a flush of both sides. */
bool change_map_tidy(struct change_map *map, uint64_t idle_ns);
/* Writes marked granules behind, so that a crash costs them and not their regions (whose marks then go when they are
 * idle). Until both sides are equal: change_map_forget_log(). */
void change_map_log(struct change_map *map);
/* Nothing is marked, and both sides were flushed. */
void change_map_forget_log(struct change_map *map);
/* There is something for tidy or log to do, sooner or later. */
bool change_map_is_busy(const struct change_map *map);
/* Regions marked on the disk. */
uint64_t change_map_regions(const struct change_map *map);
/* Commits so far, for tests. */
uint64_t change_map_commits(const struct change_map *map);
/* For tests: what a crash now would leave marked of this byte, as far as the map knows. */
bool change_map_is_marked(const struct change_map *map, uint64_t offset);

#endif
