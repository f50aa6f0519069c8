// SPDX-License-Identifier: Apache-2.0
/*
 * What initiators see of our own volumes: targets, their LUNs, who may log in, and the persistent
 * reservations that are kept over a restart.
 *
 * Thread, Ownership, Errors: as in store/table.h.
 *
 * The CHAP secrets of an export are rows of secret_table (store/system.h) with its id as
 * access_point_id. LUNs, initiators and reservations go with their export.
 */
#ifndef STORE_EXPORT_H
#define STORE_EXPORT_H

#include "base/strbuf.h"
#include "store/table.h"

struct export_row {
    struct row_head head; /* of a volume's own target: the id of the volume */
    char element_name[NAME_SIZE];
    char iqn[NAME_SIZE];         /* unique */
    char own_volume_id[ID_SIZE]; /* the volume whose own target it is, or "" */
    bool all_initiators;         /* else those of export_initiator_table */
    uint64_t created_ms;
};
extern const struct table export_table;

struct export_lun_row {
    struct row_head head;
    char export_id[ID_SIZE];
    uint32_t number; /* unique in its export */
    char volume_id[ID_SIZE];
    bool read_only;
};
extern const struct table export_lun_table;

struct export_initiator_row {
    struct row_head head;
    char export_id[ID_SIZE];
    char initiator[NAME_SIZE]; /* unique in its export */
};
extern const struct table export_initiator_table;

/* Replaces what was kept for the LUN; len 0 forgets it. -ENOENT: there is no such export. */
int reservation_put(struct db *db, const char *export_id, uint32_t number, const void *bytes,
                    size_t len);
/* Appends what is kept to ret_bytes; -ENOENT: nothing. */
int reservation_get(struct db *db, const char *export_id, uint32_t number,
                    struct strbuf *ret_bytes);

#endif
