// SPDX-License-Identifier: Apache-2.0
#include "service/groups.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "service/control.h"
#include "service/group_states.h"
#include "service/hosted.h"
#include "service/replica_states.h"
#include "service/volumes.h"

/* ---- groups ---- */

int group_check_name(struct call *call, const char *parameter, const char *name)
{
    if (name != NULL && (name[0] == '\0' || strlen(name) > GROUP_NAME_MAX)) {
        return call_fail_param(call, ERR_BAD_VALUE, parameter,
                               "%s must have 1 to %d bytes, or be left out for a name of ours.",
                               parameter, GROUP_NAME_MAX);
    }
    return 0;
}

int group_insert(struct call *call, const char *name, struct group_row *row)
{
    store_new_id(row->head.id);
    if (name != NULL) {
        text_cut(name, row->element_name, sizeof(row->element_name));
    } else {
        snprintf(row->element_name, sizeof(row->element_name), "group-%s", row->head.id);
    }
    if (row->reserved_as == 0) {
        row->reserved_as = GROUP_ANY_ROLE;
    }
    row->created_ms = control_now_ms(call->control);
    int r = table_insert(call->db, &group_table, row);

    return r < 0 ? call_fail_store(call, r) : 0;
}

int group_in_relationship(struct call *call, const char *group_id, bool *ret_is)
{
    static const char *const columns[] = {"source_group_id", "target_group_id"};

    *ret_is = false;
    for (size_t i = 0; i < 2 && !*ret_is; i++) {
        struct condition where[] = {WHERE_TEXT(columns[i], group_id), WHERE_END};
        uint64_t n = 0;
        int r = table_count(call->db, &group_sync_table, where, &n);

        if (r < 0) {
            return call_fail_store(call, r);
        }
        *ret_is = n > 0;
    }
    return 0;
}

/* Gone already is gone. */
static int group_delete_row(struct call *call, const char *group_id)
{
    int r = table_delete(call->db, &group_table, group_id);

    return r < 0 && r != -ENOENT ? call_fail_store(call, r) : 0;
}

/* A relationship of it has ended. */
static int group_unassociated(struct call *call, const char *id)
{
    struct group_row group;
    bool related;
    int r = table_get(call->db, &group_table, id, &group);

    if (r < 0) {
        return r == -ENOENT ? 0 : call_fail_store(call, r);
    }
    if (group.persistent && !group.delete_on_unassociated) {
        return 0;
    }
    r = group_in_relationship(call, group.head.id, &related);
    return r < 0 || related ? r : group_delete_row(call, group.head.id);
}

/* ---- members ---- */

int group_members(struct call *call, const char *group_id, struct volume_row **ret_volumes,
                  size_t *ret_n)
{
    struct condition where[] = {WHERE_TEXT("group_id", group_id), WHERE_END};
    struct group_member_row *members = NULL;
    size_t n = 0;
    int r = table_load(call->db, &group_member_table, where, (void **)&members, &n);

    *ret_volumes = arena_alloc(&call->arena, (n + 1) * sizeof(**ret_volumes));
    *ret_n = n;
    for (size_t i = 0; i < n && r == 0; i++) {
        r = table_get(call->db, &volume_table, members[i].volume_id, &(*ret_volumes)[i]);
    }
    free(members);
    return r < 0 ? call_fail_store(call, r) : 0;
}

int group_add(struct call *call, const char *parameter, const char *group_id, const char *volume_id)
{
    struct condition where[] = {WHERE_TEXT("group_id", group_id), WHERE_END};
    struct group_member_row member = {0};
    uint64_t n = 0;
    int r = group_member_find(call->db, group_id, volume_id, &member);

    if (r == 0) {
        return 0;
    }
    if (r == -ENOENT) {
        r = table_count(call->db, &group_member_table, where, &n);
    }
    if (r == 0 && n >= GROUP_MEMBERS_MAX) {
        return call_fail_param(call, ERR_LIMIT_REACHED, parameter,
                               "A group has at most %d members.", GROUP_MEMBERS_MAX);
    }
    if (r == 0) {
        member = (struct group_member_row){0};
        memcpy(member.group_id, group_id, strlen(group_id) + 1);
        memcpy(member.volume_id, volume_id, strlen(volume_id) + 1);
        r = table_insert(call->db, &group_member_table, &member);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

int group_remove(struct call *call, const struct group_member_row *member, bool delete_on_empty)
{
    struct condition where[] = {WHERE_TEXT("group_id", member->group_id), WHERE_END};
    uint64_t n = 0;
    int r = table_delete(call->db, &group_member_table, member->head.id);

    if (r == 0) {
        r = table_count(call->db, &group_member_table, where, &n);
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    return n == 0 && delete_on_empty ? group_delete_row(call, member->group_id) : 0;
}

int group_volume_leaves(struct call *call, const char *volume_id)
{
    struct condition where[] = {WHERE_TEXT("volume_id", volume_id), WHERE_END};
    struct group_member_row member;
    struct group_row group;
    int r;

    while ((r = table_find(call->db, &group_member_table, where, &member)) == 0) {
        r = table_get(call->db, &group_table, member.group_id, &group);
        if (r < 0) {
            break;
        }
        r = group_remove(call, &member, group.delete_on_empty);
        if (r < 0) {
            return r;
        }
    }
    return r == -ENOENT ? 0 : call_fail_store(call, r);
}

/* ---- relationships of groups ---- */

int group_sync_pairs(struct call *call, const char *group_sync_id, struct sync_row **ret_pairs,
                     size_t *ret_n)
{
    struct condition where[] = {WHERE_TEXT("group_sync_id", group_sync_id), WHERE_END};
    struct sync_row *rows = NULL;
    size_t n = 0;
    int r = table_load(call->db, &sync_table, where, (void **)&rows, &n);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    *ret_pairs = arena_alloc(&call->arena, (n + 1) * sizeof(**ret_pairs));
    if (n > 0) {
        memcpy(*ret_pairs, rows, n * sizeof(*rows));
    }
    *ret_n = n;
    free(rows);
    return 0;
}

bool group_sources_hosted(struct db *db, const struct sync_row *pairs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct volume_row source;

        if (replica_engine_of(&pairs[i]) == ENGINE_ASYNC &&
            (table_get(db, &volume_table, pairs[i].source_id, &source) < 0 ||
             source.kind != VOLUME_HOSTED)) {
            return false;
        }
    }
    return true;
}

int group_check_moment(struct call *call, const char *parameter,
                       const struct group_sync_row *group_sync)
{
    struct sync_row *pairs;
    size_t n;
    bool mirrors = group_sync->consistency && group_sync->sync_type == SYNC_MIRROR &&
                   group_sync->mode == MODE_SYNCHRONOUS;
    int r = mirrors ? group_sync_pairs(call, group_sync->head.id, &pairs, &n) : 0;

    if (r < 0 || !mirrors || group_consistency_possible(pairs, n)) {
        return r;
    }
    return call_fail_param(call, ERR_BAD_VALUE, parameter,
                           "The relationship is consistent (ConsistencyEnabled): its synchronous "
                           "mirrors each need a source of their own that is no other one's "
                           "target.");
}

int group_pair_gone(struct call *call, const struct sync_row *sync)
{
    struct condition where[] = {WHERE_TEXT("group_sync_id", sync->group_sync_id), WHERE_END};
    struct group_sync_row group_sync;
    uint64_t n = 0;

    if (sync->group_sync_id[0] == '\0') {
        return 0;
    }
    int r = table_count(call->db, &sync_table, where, &n);

    if (r < 0 || n > 0) {
        return r < 0 ? call_fail_store(call, r) : 0;
    }
    r = table_get(call->db, &group_sync_table, sync->group_sync_id, &group_sync);
    if (r == 0) {
        r = table_delete(call->db, &group_sync_table, group_sync.head.id);
    }
    if (r < 0) {
        return r == -ENOENT ? 0 : call_fail_store(call, r);
    }
    r = group_unassociated(call, group_sync.source_group_id);
    return r < 0 ? r : group_unassociated(call, group_sync.target_group_id);
}

int groups_forget_unused(struct call *call)
{
    struct condition where[] = {WHERE_NUM("persistent", false), WHERE_END};
    struct group_row *groups = NULL;
    size_t n = 0;
    int r = table_load(call->db, &group_table, where, (void **)&groups, &n);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        r = group_unassociated(call, groups[i].head.id);
    }
    free(groups);
    return r;
}

/* ---- how long writes were held ---- */

struct barrier {
    char group_sync_id[ID_SIZE];
    uint64_t microseconds;
};

static int barrier_event(struct call *call)
{
    const struct barrier *barrier = call->step_state;
    struct group_sync_row group_sync;
    int r = table_get(call->db, &group_sync_table, barrier->group_sync_id, &group_sync);

    if (r == 0) {
        group_sync.barrier_microseconds = barrier->microseconds;
        r = table_update(call->db, &group_sync_table, &group_sync);
    }
    return r < 0 && r != -ENOENT ? call_fail_store(call, r) : 0;
}

struct barrier_wanted {
    struct call *call; /* it lives until its gates are open, and they open after this */
    char group_sync_id[ID_SIZE];
};

/* After the cut: its answer has the number. */
static void barrier_effect(struct control *control, void *arg)
{
    const struct barrier_wanted *wanted = arg;
    struct barrier barrier = {.microseconds = hosted_cuts_pause_us(wanted->call)};

    memcpy(barrier.group_sync_id, wanted->group_sync_id, ID_SIZE);
    control_event(control, barrier_event, &barrier, sizeof(barrier));
}

void group_note_barrier(struct call *call, const struct group_sync_row *group_syncs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct barrier_wanted wanted = {.call = call};

        memcpy(wanted.group_sync_id, group_syncs[i].head.id, ID_SIZE);
        control_effect(call->control, barrier_effect, &wanted, sizeof(wanted));
    }
}
