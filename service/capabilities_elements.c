// SPDX-License-Identifier: Apache-2.0
/* ReplicationServiceCapabilities: questions about systems, portals, volumes and relationships that
 * there are. */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "service/capabilities_parts.h"
#include "service/handlers.h"
#include "service/paths.h"
#include "service/replica.h"
#include "service/replica_states.h"

enum { ROLE_SYSTEM_ELEMENT = 2, ROLE_SYNCED_ELEMENT = 3, SUPPORTED_METHOD_CREATE_ELEMENT = 2 };

static int required_text(struct call *call, const char *name, const char **ret_text)
{
    *ret_text = args_text(call->args, name);
    if (*ret_text == NULL) {
        return call_fail_param(call, ERR_MISSING_PARAMETER, name, "%s is required.", name);
    }
    return 0;
}

int method_get_operations_for_synchronization(struct call *call)
{
    struct sync_row sync;
    const char *path;
    int r = required_text(call, "Synchronization", &path);

    if (r == 0 && path_is_group_sync(path)) {
        return capability_operations_of_group(call, path);
    }
    if (r == 0) {
        r = path_synchronization(call, "Synchronization", path, &sync);
    }
    if (r == 0) {
        struct replication_query query = {
            .sync_type = sync.sync_type,
            .engines = {replica_engine_of(&sync)},
            .n_engines = 1,
            .copy_type = sync.copy_type,
        };

        capability_operations(call, "SupportedOperations", &query, sync.copy_state,
                              capability_operation_taken);
    }
    return r;
}

/* A system takes part with its volumes: what is local has both ends here. */
int method_get_types_for_system(struct call *call)
{
    struct system_row system;
    const char *path;
    int r = required_text(call, "System", &path);

    if (r == 0) {
        r = path_system(call, "System", path, &system);
    }
    if (r < 0) {
        return r;
    }
    outs_array(call->outs, "SupportedReplicationTypes");
    for (size_t i = 0; i < map_replication_type.n_values; i++) {
        struct replication_kind kind;
        replication_kind_of(map_replication_type.values[i].number, &kind);
        if (replication_kind_supported(&kind) && (system.local || kind.remote)) {
            outs_add_number(call->outs, "SupportedReplicationTypes", kind.number);
        }
    }
    return 0;
}

int method_get_supported_connection_features(struct call *call)
{
    /* We read from portals and write to them. */
    static const uint32_t features[] = {2, 3};
    struct access_point_row access_point;
    const char *path;
    int r = required_text(call, "connection", &path);

    if (r == 0) {
        r = path_access_point(call, "connection", path, &access_point);
    }
    if (r == 0) {
        capability_add(call, "SupportedConnectionFeatures", features, ARRAY_LEN(features));
    }
    return r;
}

/* Would a create take the pair now? It is asked itself; its refusal is the answer, not an error. */
static int pair_suits(struct call *call, const char *source_parameter,
                      const struct volume_row *source, const char *target_parameter,
                      const struct volume_row *target, bool *ret_suits)
{
    int r = replica_check_pair(call, source_parameter, source, target_parameter, target, NULL);

    if (r < 0 && call->error.code == ERR_STORE_FAILED) {
        return r;
    }
    *ret_suits = r == 0;
    call->error = (struct error){.code = ERR_NONE};
    return 0;
}

/* Of the pairs that suit: a snapshot has what its source has, in the same pool; every write of the hosts of a
 * synchronous mirror's source comes through us. */
static bool type_suits(uint32_t sync_type, uint32_t mode, const struct volume_row *source,
                       const struct volume_row *target)
{
    if (sync_type == SYNC_MIRROR) {
        return source->kind == VOLUME_HOSTED || mode == MODE_ASYNCHRONOUS;
    }
    return sync_type != SYNC_SNAPSHOT ||
           (target->kind == VOLUME_HOSTED && replica_can_share(source, target->pool_id));
}

static void add_supported(struct call *call, const struct volume_row *source,
                          const struct volume_row *target, uint32_t role)
{
    bool remote = source->kind == VOLUME_REMOTE || target->kind == VOLUME_REMOTE;

    for (uint32_t sync_type = SYNC_MIRROR; sync_type <= SYNC_CLONE; sync_type++) {
        for (uint32_t mode = MODE_SYNCHRONOUS; mode <= MODE_ASYNCHRONOUS; mode++) {
            if (replica_type_supported(sync_type, mode, remote) &&
                type_suits(sync_type, mode, source, target)) {
                outs_add_number(call->outs, "SyncTypes", sync_type);
                outs_add_number(call->outs, "Modes", mode);
                outs_add_number(call->outs, "LocalElementRole", role);
            }
        }
    }
}

/* Both ways round: local onto other, other onto local. */
static int add_both_roles(struct call *call, const struct volume_row *local,
                          const struct volume_row *other)
{
    bool suits;

    outs_array(call->outs, "SyncTypes");
    outs_array(call->outs, "Modes");
    outs_array(call->outs, "LocalElementRole");
    int r = pair_suits(call, "LocalElement", local, "OtherElement", other, &suits);
    if (r == 0 && suits) {
        add_supported(call, local, other, ROLE_SYSTEM_ELEMENT);
    }
    if (r == 0) {
        r = pair_suits(call, "OtherElement", other, "LocalElement", local, &suits);
    }
    if (r == 0 && suits) {
        add_supported(call, other, local, ROLE_SYNCED_ELEMENT);
    }
    return r;
}

static int other_access_point(struct call *call, const struct volume_row *other)
{
    struct access_point_row access_point;
    const char *path = args_text(call->args, "OtherElementAccessPoint");

    if (path == NULL) {
        return 0;
    }
    int r = path_access_point(call, "OtherElementAccessPoint", path, &access_point);
    if (r == 0 && strcmp(access_point.system_id, other->system_id) != 0) {
        r = call_fail_param(call, ERR_INVALID_PARAMETER, "OtherElementAccessPoint",
                            "%.60s leads to another system than that of OtherElement, which is "
                            "/systems/%s.",
                            path, other->system_id);
    }
    return r;
}

int method_get_synchronization_supported(struct call *call)
{
    struct volume_row local;
    struct volume_row other;
    const char *local_path;
    const char *other_path;
    uint32_t method =
        (uint32_t)args_number(call->args, "MethodName", SUPPORTED_METHOD_CREATE_ELEMENT);
    int r = required_text(call, "LocalElement", &local_path);

    r = r < 0 ? r : required_text(call, "OtherElement", &other_path);
    r = r < 0 ? r : path_volume(call, "LocalElement", local_path, &local);
    r = r < 0 ? r : path_volume(call, "OtherElement", other_path, &other);
    r = r < 0 ? r : other_access_point(call, &other);
    if (r < 0) {
        return r;
    }
    if (method != SUPPORTED_METHOD_CREATE_ELEMENT) {
        return call_fail_param(call, ERR_NOT_SUPPORTED, "MethodName",
                               "%s is not there in this version.",
                               enum_text(&map_supported_method, method));
    }
    if (strcmp(local.head.id, other.head.id) == 0) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, "OtherElement",
                               "A volume cannot be a replica of itself.");
    }
    return add_both_roles(call, &local, &other);
}
