// SPDX-License-Identifier: Apache-2.0
/*
 * Volumes and the pools they come from.
 *
 * Thread, Ownership, Errors: as in store/table.h.
 */
#ifndef STORE_VOLUME_H
#define STORE_VOLUME_H

#include "store/table.h"

enum volume_kind { VOLUME_REMOTE = 1, VOLUME_HOSTED = 2 };
enum pool_kind { POOL_REMOTE = 1, POOL_FILE = 2 };

struct volume_row {
    struct row_head head;
    uint32_t kind; /* enum volume_kind */
    char element_name[NAME_SIZE];
    char system_id[ID_SIZE];
    char pool_id[ID_SIZE];         /* "" none */
    bool allocated;                /* taken from its pool */
    char access_point_id[ID_SIZE]; /* remote: the portal it was found at */
    char iqn[NAME_SIZE];
    uint64_t lun;
    uint64_t size_bytes;
    uint32_t block_bytes;
    uint32_t physical_bytes;
    char identity[NAME_SIZE]; /* "naa.…", "eui.…", "t10.…", "serial.…" */
    char vendor[32];
    char product[32];
    char revision[16];
    char serial[NAME_SIZE];
    bool thin;
    bool write_protected;
    bool persistent;
    char setting_id[ID_SIZE]; /* "" none: the setting that a Goal has given it */
    char problem[NAME_SIZE]; /* "" or why it cannot be used now */
    /* hosted only */
    char family[ID_SIZE];       /* those that may share layers */
    char top_layer_id[ID_SIZE]; /* what it writes to */
    bool watched;               /* its first change is to be told: a snapshot becomes Skewed */
    bool offline;               /* has no content to show: a replica that is not active */
    bool guarded;               /* hosts may only read: a mirror writes to it, or it was failed over from */
    uint64_t created_ms;
    uint64_t last_seen_ms;
};
extern const struct table volume_table;

struct pool_row {
    struct row_head head;
    uint32_t kind; /* enum pool_kind */
    char element_name[NAME_SIZE];
    char system_id[ID_SIZE];
    char path[NAME_SIZE];    /* POOL_FILE: its directory, absolute or below the data directory */
    uint64_t capacity_bytes; /* POOL_FILE; 0: what its file system has */
    uint64_t created_ms;
};
extern const struct table pool_table;

/* A file of a hosted volume (docs/design/hosted.md). */
struct layer_row {
    struct row_head head;
    char pool_id[ID_SIZE];
    char parent_id[ID_SIZE]; /* the layer below, "" under the oldest */
    char family[ID_SIZE];
    uint64_t size_bytes;
    char bottom_volume_id[ID_SIZE]; /* of the oldest, until it is filled: what is below it, or "" */
    uint64_t bottom_bytes;          /* so much of that */
};
extern const struct table layer_table;

/* A layer and those below it, the oldest first, into a malloc()ed array that the caller frees. */
int layer_chain(struct db *db, const char *top_layer_id, struct layer_row **ret_rows,
                size_t *ret_n);

/* The volume that a copy of size_bytes may take as its target when the client names none: the
 * smallest that fits, the oldest of equals, -ENOENT when there is none. It fits when it
 * - belongs to the pool (pool_id "": to any), the pool is one of remote LUNs, and it is not
 * allocated;
 * - has size_bytes or more, and the block size of the source (hosts could not use the copy with
 * another one);
 * - can be written and used (write_protected, problem);
 * - is not not_volume_id (the source), and is an element of no synchronization. */
int volume_find_free(struct db *db, const char *pool_id, uint64_t size_bytes, uint32_t block_bytes,
                     const char *not_volume_id, struct volume_row *ret_row);
/* The sum of the sizes of all members, and of those that are not allocated; 0 and 0 for a pool
 * without members. */
int pool_capacity(struct db *db, const char *pool_id, uint64_t *ret_total, uint64_t *ret_free);

#endif
