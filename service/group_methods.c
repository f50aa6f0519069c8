// SPDX-License-Identifier: Apache-2.0
/*
 * CreateGroup, DeleteGroup, AddMembers, RemoveMembers. A group only names volumes; what replicates them is in
 * group_replica.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "service/groups.h"
#include "service/handlers.h"
#include "service/paths.h"
#include "service/volumes.h"

/* Members, which must be volumes; *ret_n may be 0. */
static int members_of(struct call *call, struct volume_row **ret_volumes, size_t *ret_n)
{
    const struct value *members = values_get(call->args, "Members");
    struct volume_row *volumes =
        arena_alloc(&call->arena, (members->n_items + 1) * sizeof(*volumes));

    for (size_t i = 0; i < members->n_items; i++) {
        char parameter[48];

        snprintf(parameter, sizeof(parameter), "Members[%zu]", i);
        if (!members->items[i].present) {
            return call_fail_param(call, ERR_MISSING_PARAMETER, parameter,
                                   "%s is null; each entry must name a volume.", parameter);
        }
        int r = path_volume(call, parameter, members->items[i].text, &volumes[i]);

        if (r < 0) {
            return r;
        }
    }
    *ret_volumes = volumes;
    *ret_n = members->n_items;
    return 0;
}

/* Groups are kept here: no access point leads to them. */
static int check_access_point(struct call *call)
{
    const char *path = args_text(call->args, "ServiceAccessPoint");
    struct access_point_row access_point;

    if (path == NULL) {
        return 0;
    }
    int r = path_access_point(call, "ServiceAccessPoint", path, &access_point);

    return r < 0 ? r
                 : call_fail_param(call, ERR_NOT_SUPPORTED, "ServiceAccessPoint",
                                   "Groups are kept by this service; other systems have none that "
                                   "could be reached. Leave ServiceAccessPoint out.");
}

static int add_all(struct call *call, const char *group_id, const struct volume_row *volumes,
                   size_t n)
{
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i++) {
        r = group_add(call, "Members", group_id, volumes[i].head.id);
    }
    return r;
}

int method_create_group(struct call *call)
{
    const char *name = args_text(call->args, "GroupName");
    struct volume_row *volumes;
    size_t n;
    struct group_row group = {
        .persistent = args_bool(call->args, "Persistent", true),
        .delete_on_empty = args_bool(call->args, "DeleteOnEmptyElement", false),
        .delete_on_unassociated = args_bool(call->args, "DeleteOnUnassociated", false),
        .reserved_as = (uint32_t)args_number(call->args, "ReservedAs", GROUP_ANY_ROLE),
    };
    int r = group_check_name(call, "GroupName", name);

    if (r == 0) {
        r = members_of(call, &volumes, &n);
    }
    if (r == 0) {
        r = check_access_point(call);
    }
    if (r == 0) {
        r = group_insert(call, name, &group);
    }
    if (r == 0) {
        r = add_all(call, group.head.id, volumes, n);
    }
    if (r == 0) {
        outs_path(call->outs, "ReplicationGroup", "/groups/%s", group.head.id);
    }
    return r;
}

/* AddMembers and RemoveMembers have a value of their own for a group that is not there. */
static int existing_group(struct call *call, struct group_row *ret_group)
{
    const char *path = args_text(call->args, "ReplicationGroup");
    char collection[32];
    char id[ID_SIZE];
    int r = path_group(call, "ReplicationGroup", path, ret_group);

    if (r < 0 && call->error.code == ERR_NO_SUCH_OBJECT &&
        path_split(path, collection, sizeof(collection), id) == 0 &&
        strcmp(collection, "groups") == 0) {
        return call_fail_param(call, ERR_NO_SUCH_GROUP, "ReplicationGroup",
                               "There is no group %s. GET /groups lists what there is.", path);
    }
    return r;
}

int method_add_members(struct call *call)
{
    struct group_row group;
    struct volume_row *volumes;
    size_t n;
    int r = existing_group(call, &group);

    if (r == 0) {
        r = members_of(call, &volumes, &n);
    }
    if (r == 0) {
        r = check_access_point(call);
    }
    return r < 0 ? r : add_all(call, group.head.id, volumes, n);
}

/* Rule of CIM: what is replicated stays in its groups. *ret_sync: in what; -ENOENT: in nothing. */
static int member_relationship(struct call *call, const char *volume_id, struct sync_row *ret_sync)
{
    int r = volume_relationship(call->db, volume_id, ret_sync);

    return r < 0 && r != -ENOENT ? call_fail_store(call, r) : r;
}

static int check_removable(struct call *call, size_t i, const struct group_row *group,
                           const struct volume_row *volume, struct group_member_row *ret_member)
{
    char parameter[48];
    char path[PATH_SIZE];
    struct sync_row sync;
    int r = group_member_find(call->db, group->head.id, volume->head.id, ret_member);

    snprintf(parameter, sizeof(parameter), "Members[%zu]", i);
    if (r == -ENOENT) {
        return call_fail_param(call, ERR_NOT_A_MEMBER, parameter,
                               "/volumes/%s is no member of /groups/%s.", volume->head.id,
                               group->head.id);
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    r = member_relationship(call, volume->head.id, &sync);
    if (r == 0) {
        snprintf(path, sizeof(path), "/synchronizations/%s", sync.head.id);
        return call_fail_blocked(call, ERR_IN_USE, path,
                                 "/volumes/%s is in %s; what is in a relationship stays in its "
                                 "groups. End that first.",
                                 volume->head.id, path);
    }
    return r == -ENOENT ? 0 : r;
}

int method_remove_members(struct call *call)
{
    struct group_row group;
    struct volume_row *volumes;
    size_t n = 0;
    int r = existing_group(call, &group);

    if (r == 0) {
        r = members_of(call, &volumes, &n);
    }
    if (r == 0) {
        r = check_access_point(call);
    }
    if (r < 0) {
        return r;
    }
    bool delete_on_empty = args_bool(call->args, "DeleteOnEmptyElement", group.delete_on_empty);
    struct group_member_row *members = arena_alloc(&call->arena, (n + 1) * sizeof(*members));

    for (size_t i = 0; i < n && r == 0; i++) {
        r = check_removable(call, i, &group, &volumes[i], &members[i]);
        for (size_t k = 0; k < i && r == 0; k++) {
            if (strcmp(members[k].head.id, members[i].head.id) == 0) {
                char parameter[48];

                snprintf(parameter, sizeof(parameter), "Members[%zu]", i);
                r = call_fail_param(call, ERR_BAD_VALUE, parameter, "/volumes/%s is named twice.",
                                    volumes[i].head.id);
            }
        }
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        r = group_remove(call, &members[i], delete_on_empty);
    }
    return r;
}

static int check_deletable(struct call *call, const struct group_row *group)
{
    struct volume_row *members;
    struct sync_row sync;
    size_t n;
    int r = group_members(call, group->head.id, &members, &n);

    for (size_t i = 0; i < n && r == 0; i++) {
        r = member_relationship(call, members[i].head.id, &sync);
        if (r == 0) {
            call_fail_param(call, ERR_GROUP_REPLICATED, "ReplicationGroup",
                            "/volumes/%s is in /synchronizations/%s. End the relationships of the "
                            "members first.",
                            members[i].head.id, sync.head.id);
            snprintf(call->error.blocked_on, sizeof(call->error.blocked_on), "/synchronizations/%s",
                     sync.head.id);
            return error_info(ERR_GROUP_REPLICATED)->err;
        }
        r = r == -ENOENT ? 0 : r;
    }
    if (r == 0 && n > 0 && !args_bool(call->args, "RemoveElements", false)) {
        return call_fail_param(call, ERR_GROUP_NOT_EMPTY, "ReplicationGroup",
                               "/groups/%s has %zu members. RemoveElements true deletes it all the "
                               "same; the volumes stay.",
                               group->head.id, n);
    }
    return r;
}

int method_delete_group(struct call *call)
{
    struct group_row group;
    bool related = false;
    int r = path_group(call, "ReplicationGroup", args_text(call->args, "ReplicationGroup"), &group);

    if (r == 0) {
        r = check_access_point(call);
    }
    if (r == 0) {
        r = check_deletable(call, &group);
    }
    if (r == 0) {
        r = group_in_relationship(call, group.head.id, &related);
    }
    if (r == 0 && related) {
        return call_fail_param(call, ERR_GROUP_REPLICATED, "ReplicationGroup",
                               "/groups/%s is in a relationship. End it first.", group.head.id);
    }
    if (r == 0) {
        r = table_delete(call->db, &group_table, group.head.id);
        r = r < 0 ? call_fail_store(call, r) : 0;
    }
    return r;
}
