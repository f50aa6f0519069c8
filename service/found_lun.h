// SPDX-License-Identifier: Apache-2.0
/*
 * What becomes of the record of a LUN that was found, or was not.
 *
 * Thread:    control, inside a batch.
 * Ownership: plain values.
 * Errors:    call->error, as handlers do; found_lun_known() and found_lun_elsewhere(): -ENOENT, or the store's.
 */
#ifndef SERVICE_FOUND_LUN_H
#define SERVICE_FOUND_LUN_H

#include "service/portals.h"
#include "store/volume.h"

struct found_lun {
    const struct access_point_row *portal;
    const char *iqn;
    uint64_t lun;
    const struct iscsi_lun_info *info;
    bool persistent;
    bool meant;               /* whatever LUN it is now: the caller has named it */
    const char *element_name; /* NULL: ours, or what it has */
};

/* 1: it is not what it was, and the row (already stored) says so. */
int found_lun_record(struct call *call, const struct found_lun *found, struct volume_row *ret_row);

int found_lun_known(struct db *db, const char *system_id, const char *iqn, uint64_t lun,
                    struct volume_row *ret_row);
/* The LUN under the same name and number behind a portal that was taken for another system. */
int found_lun_elsewhere(struct db *db, const char *iqn, uint64_t lun, const char *identity,
                        struct volume_row *ret_row);

int found_lun_problem(struct call *call, struct volume_row *row, const char *problem);
/* For a call that fails: what was noticed, row->problem, is kept all the same. */
void found_lun_problem_later(struct call *call, const struct volume_row *row);

#endif
