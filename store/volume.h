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
    uint64_t created_ms;
    uint64_t last_seen_ms;
};
extern const struct table volume_table;

struct pool_row {
    struct row_head head;
    uint32_t kind; /* enum pool_kind */
    char element_name[NAME_SIZE];
    char system_id[ID_SIZE];
    uint64_t created_ms;
};
extern const struct table pool_table;

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
