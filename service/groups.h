// SPDX-License-Identifier: Apache-2.0
/*
 * Replication groups as records: making them, who is in them, and when they go by themselves.
 *
 * Thread:    control, inside a call.
 * Ownership: rows are values; arrays live in the call's arena.
 * Errors:    call->error, as handlers do.
 *
 * A group goes when it is deleted; with its last member (DeleteOnEmptyElement); or with its last relationship
 * (DeleteOnUnassociated, or Persistent false). A relationship of groups goes with its last pair.
 */
#ifndef SERVICE_GROUPS_H
#define SERVICE_GROUPS_H

#include "service/call.h"
#include "store/group.h"
#include "store/replica.h"
#include "store/volume.h"

enum { GROUP_MEMBERS_MAX = 1024, GROUP_NAME_MAX = 250 };
enum group_role { GROUP_SOURCE_ONLY = 2, GROUP_TARGET_ONLY = 3, GROUP_ANY_ROLE = 4 };

/* A new, empty group. name NULL: of ours. The flags of row are the caller's, the rest is filled in. */
int group_insert(struct call *call, const char *name, struct group_row *row);
/* 1 to GROUP_NAME_MAX bytes, or NULL. */
int group_check_name(struct call *call, const char *parameter, const char *name);

/* Its volumes in order. */
int group_members(struct call *call, const char *group_id, struct volume_row **ret_volumes,
                  size_t *ret_n);
/* At the end; a volume that is a member stays where it is. */
int group_add(struct call *call, const char *parameter, const char *group_id,
              const char *volume_id);
/* The membership goes, and with the last one a group that does not want to be empty. */
int group_remove(struct call *call, const struct group_member_row *member, bool delete_on_empty);

/* The relationships between groups in which the group is an end. */
int group_in_relationship(struct call *call, const char *group_id, bool *ret_is);

/* The pairs of a relationship of groups, in order. */
int group_sync_pairs(struct call *call, const char *group_sync_id, struct sync_row **ret_pairs,
                     size_t *ret_n);
/* Of one moment are cuts, and only hosted volumes are cut: are all sources of asynchronous mirrors? */
bool group_sources_hosted(struct db *db, const struct sync_row *pairs, size_t n);
/* Pairs were added: a consistent relationship can still be of one moment. */
int group_check_moment(struct call *call, const char *parameter,
                       const struct group_sync_row *group_sync);
/* To be called when a row of synchronizations was deleted: its relationship of groups goes with the last pair. */
int group_pair_gone(struct call *call, const struct sync_row *sync);
/* Before the row of a volume is deleted: it leaves its groups. */
int group_volume_leaves(struct call *call, const char *volume_id);
/* In a call whose cuts are together: once it is known how long writes were held, the relationships show it. */
void group_note_barrier(struct call *call, const struct group_sync_row *group_syncs, size_t n);
/* At start: groups with Persistent false that are in no relationship. */
int groups_forget_unused(struct call *call);

#endif
