// SPDX-License-Identifier: Apache-2.0
/*
 * A LUN is known by system, target name and number. What it was when it was registered is what
 * copies insist on, so the record of a LUN that is another one now, or smaller, is not simply
 * overwritten: while a relationship or a pool counts on it, the difference becomes its problem, and
 * the record stays. A larger LUN is the same LUN.
 *
 * Another identity is never taken over by a scan, used or not: who has chosen the volume as a target
 * has chosen the LUN that it was. Only who names the LUN again (AddReplicationEntity, or DELETE and a
 * scan) says that the new one is meant.
 *
 *     found, the same or larger            refreshed, problem cleared
 *     found, different, used               problem
 *     found, another identity, not used    problem; AddReplicationEntity: record replaced
 *     found, smaller or other blocks, not used   record replaced
 */
#include "service/found_lun.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "service/control.h"
#include "service/volumes.h"

int found_lun_known(struct db *db, const char *system_id, const char *iqn, uint64_t lun,
                    struct volume_row *ret_row)
{
    struct condition where[] = {WHERE_NUM("kind", VOLUME_REMOTE), WHERE_TEXT("iqn", iqn),
                                WHERE_NUM("lun", lun), WHERE_TEXT("system_id", system_id),
                                WHERE_END};

    return table_find(db, &volume_table, where, ret_row);
}

struct same_lun {
    const char *identity;
    struct volume_row row;
};

static int same_identity(void *arg, const void *row)
{
    const struct volume_row *volume = row;
    struct same_lun *same = arg;

    if (strcmp(volume->identity, same->identity) != 0) {
        return 0;
    }
    same->row = *volume;
    return 1;
}

int found_lun_elsewhere(struct db *db, const char *iqn, uint64_t lun, const char *identity,
                        struct volume_row *ret_row)
{
    struct condition where[] = {WHERE_NUM("kind", VOLUME_REMOTE), WHERE_TEXT("iqn", iqn),
                                WHERE_NUM("lun", lun), WHERE_END};
    struct same_lun same = {.identity = identity};

    if (!identity_is_worldwide(identity)) {
        return -ENOENT;
    }
    int r = table_each(db, &volume_table, where, 0, 0, same_identity, &same);

    if (r == 1) {
        *ret_row = same.row;
        return 0;
    }
    return r < 0 ? r : -ENOENT;
}

static void describe(struct volume_row *row, const struct iscsi_lun_info *info, uint64_t now_ms)
{
    row->size_bytes = info->size_bytes;
    row->block_bytes = info->block_bytes;
    row->physical_bytes = info->physical_bytes;
    text_cut(info->identity, row->identity, sizeof(row->identity));
    text_cut(info->vendor, row->vendor, sizeof(row->vendor));
    text_cut(info->product, row->product, sizeof(row->product));
    text_cut(info->revision, row->revision, sizeof(row->revision));
    text_cut(info->serial, row->serial, sizeof(row->serial));
    row->thin = info->thin;
    row->write_protected = info->write_protected;
    row->problem[0] = '\0';
    row->last_seen_ms = now_ms;
}

static bool is_another(const struct volume_row *row, const struct iscsi_lun_info *info)
{
    return row->identity[0] != '\0' && strcmp(row->identity, info->identity) != 0;
}

/* False: it is what it was, or a larger one. */
static bool differs(const struct volume_row *row, const struct iscsi_lun_info *info,
                    char *ret_problem, size_t size)
{
    char text[512];

    if (is_another(row, info)) {
        snprintf(text, sizeof(text), "It is another LUN now (%s); registered was %s",
                 info->identity[0] == '\0' ? "without identity" : info->identity, row->identity);
    } else if (info->block_bytes != row->block_bytes) {
        snprintf(text, sizeof(text), "Its blocks have %u bytes now; registered were %u",
                 info->block_bytes, row->block_bytes);
    } else if (info->size_bytes < row->size_bytes) {
        snprintf(text, sizeof(text), "It has shrunk to %" PRIu64 " bytes; registered were %" PRIu64,
                 info->size_bytes, row->size_bytes);
    } else {
        return false;
    }
    text_cut(text, ret_problem, size);
    return true;
}

/* 1: a relationship or a pool counts on it. */
static int is_used(struct call *call, const struct volume_row *row)
{
    struct sync_row sync;

    if (row->pool_id[0] != '\0') {
        return 1;
    }
    int r = volume_relationship(call->db, row->head.id, &sync);

    return r == -ENOENT ? 0 : r < 0 ? call_fail_store(call, r) : 1;
}

static int store(struct call *call, const struct volume_row *row)
{
    int r = table_update(call->db, &volume_table, row);

    return r < 0 ? call_fail_store(call, r) : 0;
}

/* A known LUN was found. 1: it is not what it was, and the row (already stored) says so. */
static int refresh(struct call *call, struct volume_row *row, const struct found_lun *found)
{
    const struct iscsi_lun_info *info = found->info;
    char problem[sizeof(row->problem)];
    int kept = 0;

    if (differs(row, info, problem, sizeof(problem))) {
        kept = is_used(call, row);
        if (kept < 0) {
            return kept;
        }
        kept = kept || (is_another(row, info) && !found->meant);
        if (!kept) {
            log_warning("volume[%s] %s; the record is replaced", row->head.id, problem);
        }
    }
    if (kept) {
        memcpy(row->problem, problem, sizeof(problem));
    } else {
        describe(row, info, control_now_ms(call->control));
        if (found->element_name != NULL) {
            text_cut(found->element_name, row->element_name, sizeof(row->element_name));
        }
    }
    int r = store(call, row);

    return r < 0 ? r : kept;
}

int found_lun_record(struct call *call, const struct found_lun *found, struct volume_row *ret_row)
{
    int r = found_lun_known(call->db, found->portal->system_id, found->iqn, found->lun, ret_row);

    if (r == -ENOENT) {
        r = found_lun_elsewhere(call->db, found->iqn, found->lun, found->info->identity, ret_row);
    }
    if (r == 0) {
        ret_row->persistent = ret_row->persistent || found->persistent;
        return refresh(call, ret_row, found);
    }
    if (r != -ENOENT) {
        return call_fail_store(call, r);
    }
    struct volume_row row = {
        .kind = VOLUME_REMOTE,
        .lun = found->lun,
        .persistent = found->persistent,
        .created_ms = control_now_ms(call->control),
    };

    memcpy(row.system_id, found->portal->system_id, sizeof(row.system_id));
    memcpy(row.access_point_id, found->portal->head.id, sizeof(row.access_point_id));
    text_cut(found->iqn, row.iqn, sizeof(row.iqn));
    describe(&row, found->info, row.created_ms);
    if (found->element_name != NULL) {
        text_cut(found->element_name, row.element_name, sizeof(row.element_name));
    } else {
        r = volume_system_name(call, row.iqn, row.lun, row.element_name);
        if (r < 0) {
            return r;
        }
    }
    r = table_insert(call->db, &volume_table, &row);
    if (r < 0) {
        return call_fail_store(call, r);
    }
    *ret_row = row;
    return 0;
}

int found_lun_problem(struct call *call, struct volume_row *row, const char *problem)
{
    if (strcmp(row->problem, problem) == 0) {
        return 0;
    }
    text_cut(problem, row->problem, sizeof(row->problem));
    log_warning("volume[%s] %s", row->head.id, row->problem);
    return store(call, row);
}

struct problem_event {
    char volume_id[ID_SIZE];
    char problem[NAME_SIZE];
};

static int problem_event(struct call *call)
{
    const struct problem_event *event = call->step_state;
    struct volume_row row;
    int r = table_get(call->db, &volume_table, event->volume_id, &row);

    if (r == -ENOENT) {
        return 0;
    }
    return r < 0 ? call_fail_store(call, r) : found_lun_problem(call, &row, event->problem);
}

void found_lun_problem_later(struct call *call, const struct volume_row *row)
{
    struct problem_event event;

    memcpy(event.volume_id, row->head.id, sizeof(event.volume_id));
    memcpy(event.problem, row->problem, sizeof(event.problem));
    control_event(call->control, problem_event, &event, sizeof(event));
}
