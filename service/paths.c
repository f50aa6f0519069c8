// SPDX-License-Identifier: Apache-2.0
#include "service/paths.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

int path_split(const char *path, char *ret_collection, size_t collection_size, char ret_id[ID_SIZE])
{
    const char *slash;

    if (path[0] != '/' || (slash = strchr(path + 1, '/')) == NULL) {
        return -EINVAL;
    }
    size_t collection_len = (size_t)(slash - path - 1);
    size_t id_len = strlen(slash + 1);

    if (collection_len == 0 || collection_len >= collection_size || id_len == 0 ||
        id_len >= ID_SIZE || strchr(slash + 1, '/') != NULL) {
        return -EINVAL;
    }
    memcpy(ret_collection, path + 1, collection_len);
    ret_collection[collection_len] = '\0';
    memcpy(ret_id, slash + 1, id_len + 1);
    return 0;
}

/* Objects that exist but are of another class are told apart from paths that lead nowhere. */
static int path_other(struct call *call, const char *collection, const char *id)
{
    static const struct {
        const char *collection;
        const struct table *table;
    } tables[] = {
        {"volumes", &volume_table},          {"pools", &pool_table},
        {"systems", &system_table},          {"accesspoints", &access_point_table},
        {"synchronizations", &sync_table},   {"settings", &setting_table},
        {"jobs", &job_table},                {"exports", &export_table},
        {"pipes", &pipe_table},              {"endpoints", &endpoint_table},
        {"groups", &group_table},            {"groupsynchronizations", &group_sync_table},
    };

    for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
        if (strcmp(tables[i].collection, collection) == 0) {
            uint64_t n = 0;
            struct condition where[] = {WHERE_TEXT("id", id), WHERE_END};
            int r = table_count(call->db, tables[i].table, where, &n);

            if (r < 0) {
                return r;
            }
            return n > 0 ? 0 : -ENOENT;
        }
    }
    return -ENOENT;
}

static int path_row(struct call *call, const char *parameter, const char *path,
                    const char *collection, const char *what, const struct table *table,
                    void *ret_row)
{
    char given[32];
    char id[ID_SIZE];
    int r;

    if (path_split(path, given, sizeof(given), id) < 0) {
        return call_fail_param(call, ERR_NO_SUCH_OBJECT, parameter,
                               "%s is no path of an object; what is wanted looks like /%s/{id}.",
                               parameter, collection);
    }
    if (strcmp(given, collection) != 0) {
        r = path_other(call, given, id);
        if (r == 0) {
            return call_fail_param(call, ERR_WRONG_CLASS, parameter,
                                   "%s must be a %s (/%s/{id}), not an object of /%s.", parameter,
                                   what, collection, given);
        }
        if (r != -ENOENT) {
            return call_fail_store(call, r);
        }
    } else {
        r = table_get(call->db, table, id, ret_row);
        if (r != -ENOENT) {
            return r < 0 ? call_fail_store(call, r) : 0;
        }
    }
    return call_fail_param(call, ERR_NO_SUCH_OBJECT, parameter,
                           "%s: there is no %.100s. GET /%s lists what there is.", parameter, path,
                           collection);
}

int path_volume(struct call *call, const char *parameter, const char *path, struct volume_row *ret_row)
{
    return path_row(call, parameter, path, "volumes", "StorageVolume", &volume_table, ret_row);
}

int path_pool(struct call *call, const char *parameter, const char *path, struct pool_row *ret_row)
{
    return path_row(call, parameter, path, "pools", "StoragePool", &pool_table, ret_row);
}

int path_system(struct call *call, const char *parameter, const char *path, struct system_row *ret_row)
{
    return path_row(call, parameter, path, "systems", "ComputerSystem", &system_table, ret_row);
}

int path_access_point(struct call *call, const char *parameter, const char *path,
                      struct access_point_row *ret_row)
{
    return path_row(call, parameter, path, "accesspoints", "ServiceAccessPoint", &access_point_table,
                    ret_row);
}

int path_synchronization(struct call *call, const char *parameter, const char *path,
                         struct sync_row *ret_row)
{
    return path_row(call, parameter, path, "synchronizations", "StorageSynchronized", &sync_table,
                    ret_row);
}

const char *path_of_sync(struct call *call, const struct sync_row *sync)
{
    return arena_printf(&call->arena, "/synchronizations/%s", sync->head.id);
}

int path_group(struct call *call, const char *parameter, const char *path, struct group_row *ret_row)
{
    return path_row(call, parameter, path, "groups", "ReplicationGroup", &group_table, ret_row);
}

int path_group_sync(struct call *call, const char *parameter, const char *path,
                    struct group_sync_row *ret_row)
{
    return path_row(call, parameter, path, "groupsynchronizations", "GroupSynchronized",
                    &group_sync_table, ret_row);
}

bool path_is_group_sync(const char *path)
{
    static const char prefix[] = "/groupsynchronizations/";

    return strncmp(path, prefix, sizeof(prefix) - 1) == 0;
}

int path_setting(struct call *call, const char *parameter, const char *path, struct setting_row *ret_row)
{
    return path_row(call, parameter, path, "settings", "StorageSetting", &setting_table, ret_row);
}

int path_export(struct call *call, const char *parameter, const char *path, struct export_row *ret_row)
{
    return path_row(call, parameter, path, "exports", "SCSIProtocolController", &export_table, ret_row);
}

int path_pipe(struct call *call, const char *parameter, const char *path, struct pipe_row *ret_row)
{
    return path_row(call, parameter, path, "pipes", "NetworkPipe", &pipe_table, ret_row);
}

int path_endpoint(struct call *call, const char *parameter, const char *path,
                  struct endpoint_row *ret_row)
{
    return path_row(call, parameter, path, "endpoints", "ProtocolEndpoint", &endpoint_table, ret_row);
}
