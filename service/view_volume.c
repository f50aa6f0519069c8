// SPDX-License-Identifier: Apache-2.0
/* Volumes, and the pools that they are in. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/exports.h"
#include "service/hosted.h"
#include "service/view_parts.h"
#include "store/replica.h"
#include "store/system.h"
#include "store/volume.h"

enum {
    USAGE_UNRESTRICTED = 2,
    USAGE_LOCAL_SOURCE = 6,
    USAGE_REMOTE_SOURCE = 7,
    USAGE_LOCAL_TARGET = 8,
    USAGE_REMOTE_TARGET = 9,
    USAGE_LOCAL_SOURCE_OR_TARGET = 10,
    USAGE_REMOTE_SOURCE_OR_TARGET = 11,
    USAGE_RESERVED_FOR_POOL = 21,
    USAGE_IN_USE_BY_POOL = 24,
    POOL_USAGE_REMOTE_REPLICATION = 7,
    EXTENT_BROKEN = 3,
    EXTENT_EXPORTED = 17,
};

/* The address of a portal, "" when it is gone. Looked up once for a list: its volumes share few of
 * them. */
static int portal_address(struct view *view, const char *access_point_id, const char **ret_address)
{
    struct access_point_row access_point;
    char *address = map_get(&view->portals, access_point_id);

    if (address == NULL) {
        int r = table_get(view->db, &access_point_table, access_point_id, &access_point);
        if (r < 0 && r != -ENOENT) {
            return r;
        }
        address = strdup(r == 0 ? access_point.address : "");
        if (address == NULL || map_put(&view->portals, access_point_id, address) < 0) {
            free(address);
            return -ENOMEM;
        }
    }
    *ret_address = address;
    return 0;
}

/* By our own portal. */
static void hosted_url(struct view *view, const struct volume_row *volume, struct out *out)
{
    char url[3 * NAME_SIZE];
    const char *address = exports_advertised(view->control);

    if (volume->offline || address[0] == '\0') {
        out_null(out, "Url");
    } else {
        snprintf(url, sizeof(url), "iscsi://%s/%s/0", address, volume->iqn);
        out_text(out, "Url", url);
    }
}

static int volume_url(struct view *view, const struct volume_row *volume, const char *lun,
                      struct out *out)
{
    char url[3 * NAME_SIZE]; /* an address and a target's name are shorter than NAME_SIZE */
    const char *address;
    int r = portal_address(view, volume->access_point_id, &address);

    if (r == 0) {
        char *at = stpcpy(url, "iscsi://");
        at = stpcpy(at, address);
        at = stpcpy(at, "/");
        at = stpcpy(at, volume->iqn);
        at = stpcpy(at, "/");
        stpcpy(at, lun);
        out_text(out, "Url", url);
    }
    return r;
}

/* NAA and EUI-64 are binary designators of page 83, T10 is a text; without the page there is the
 * serial number. */
static void volume_name(const struct volume_row *volume, struct out *out)
{
    static const struct {
        const char *prefix;
        uint32_t format;
        uint32_t name_space;
    } kinds[] = {{"naa.", 9, 2}, {"eui.", 10, 2}, {"t10.", 11, 2}, {"serial.", 1, 5}};
    const char *name = volume->identity;
    uint32_t format = 0;
    uint32_t name_space = 0;

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        size_t len = strlen(kinds[i].prefix);
        if (strncmp(volume->identity, kinds[i].prefix, len) == 0) {
            name = volume->identity + len;
            format = kinds[i].format;
            name_space = kinds[i].name_space;
        }
    }
    out_text(out, "Name", name);
    out_enum(out, "NameFormat", &map_name_format, format);
    out_enum(out, "NameNamespace", &map_name_namespace, name_space);
}

static void volume_other_names(const struct volume_row *volume, const char *lun, struct out *out)
{
    out_begin_array(out, "OtherIdentifyingInfo");
    out_text(out, NULL, volume->iqn);
    out_text(out, NULL, lun);
    if (volume->serial[0] != '\0') {
        out_text(out, NULL, volume->serial);
    }
    out_end_array(out);
    out_begin_array(out, "IdentifyingDescriptions");
    out_text(out, NULL, "iSCSI name of the target");
    out_text(out, NULL, "LUN");
    if (volume->serial[0] != '\0') {
        out_text(out, NULL, "VPD80 serial number");
    }
    out_end_array(out);
}

/* The relationships of a volume, those in which it is the source first. */
static int volume_relations(struct view *view, const struct volume_row *volume,
                            struct id_list *ret_syncs, size_t *ret_n_source)
{
    static const struct table_relation source = {&sync_table, "source_id"};
    static const struct table_relation target = {&sync_table, "target_id"};
    int64_t seq = volume->head.seq;
    int r = view_related(view, &view->as_source, &volume_table, &source, seq, ret_syncs);

    *ret_n_source = ret_syncs->n;
    return r < 0 ? r : view_related(view, &view->as_target, &volume_table, &target, seq, ret_syncs);
}

/* Every relationship of a LUN of another system is a remote one. */
static uint32_t volume_usage(const struct volume_row *volume, size_t n_source, size_t n_target)
{
    if (volume->kind == VOLUME_HOSTED) {
        if (n_source > 0) {
            return n_target > 0 ? USAGE_LOCAL_SOURCE_OR_TARGET : USAGE_LOCAL_SOURCE;
        }
        return n_target > 0 ? USAGE_LOCAL_TARGET : USAGE_UNRESTRICTED;
    }
    if (n_source > 0) {
        return n_target > 0 ? USAGE_REMOTE_SOURCE_OR_TARGET : USAGE_REMOTE_SOURCE;
    }
    if (n_target > 0) {
        return USAGE_REMOTE_TARGET;
    }
    if (volume->pool_id[0] != '\0') {
        return volume->allocated ? USAGE_IN_USE_BY_POOL : USAGE_RESERVED_FOR_POOL;
    }
    return USAGE_UNRESTRICTED;
}

/* What it occupies: by itself, and together with others. */
static void hosted_space(struct view *view, const struct volume_row *volume, struct out *out)
{
    struct array_volume_usage usage = {0};

    array_volume_usage(hosted_array(control_hosted(view->control)), volume->head.id, &usage);
    view->moving = true;
    out_number(out, "SpaceConsumed", usage.used_bytes);
    out_number(out, "SpaceShared", usage.shared_bytes);
    out_number(out, "Layers", usage.n_layers);
    out_bool(out, "WriteProtected", volume->write_protected || volume->guarded);
    out_bool(out, "Online", !volume->offline && volume->problem[0] == '\0');
}

static void remote_listed(void *arg, const struct target_session *session,
                          const struct remote_alias *remote)
{
    struct out *out = arg;
    char path[sizeof("/synchronizations/") + ID_SIZE];

    out_begin_object(out, NULL);
    out_text(out, "Initiator", session->initiator);
    out_text(out, "Alias", session->alias);
    snprintf(path, sizeof(path), "/synchronizations/%s", remote->sync_id);
    out_text(out, "Synchronization", path);
    out_text(out, "Role", remote->is_target ? "Target" : "Source");
    snprintf(path, sizeof(path), "/volumes/%s", remote->other_id);
    out_text(out, "OtherElement", path);
    out_end_object(out);
}

static void volume_size(const struct volume_row *volume, struct out *out)
{
    uint64_t blocks = volume->block_bytes == 0 ? 0 : volume->size_bytes / volume->block_bytes;

    out_number(out, "BlockSize", volume->block_bytes);
    out_number(out, "NumberOfBlocks", blocks);
    out_number(out, "ConsumableBlocks", blocks);
    out_number(out, "Size", volume->size_bytes);
    out_bool(out, "ThinlyProvisioned", volume->thin);
}

static void volume_state(const struct volume_row *volume, struct out *out)
{
    static const uint32_t extent[] = {EXTENT_BROKEN, EXTENT_EXPORTED};
    bool problem = volume->problem[0] != '\0';

    view_status(out, problem ? STATUS_ERROR : STATUS_OK, 0,
                problem ? HEALTH_MAJOR_FAILURE : HEALTH_OK);
    view_enums(out, "ExtentStatus", &map_extent_status, problem ? extent : extent + 1,
               problem ? 2 : 1);
}

static int volume_properties(struct view *view, const struct volume_row *volume, size_t n_source,
                             const struct id_list *syncs, struct out *out)
{
    char lun[24];

    snprintf(lun, sizeof(lun), "%llu", (unsigned long long)volume->lun);
    view_head(out, COLLECTION_VOLUMES, volume->head.id);
    out_text(out, "DeviceID", volume->head.id);
    out_text(out, "ElementName", volume->element_name);
    volume_name(volume, out);
    volume_other_names(volume, lun, out);
    out_text_or_null(out, "VendorIdentification", volume->vendor);
    out_text_or_null(out, "ProductIdentification", volume->product);
    bool hosted = volume->kind == VOLUME_HOSTED;
    int r = 0;

    out_text(out, "Kind", hosted ? "hosted" : "remote");
    if (hosted) {
        hosted_url(view, volume, out);
    } else {
        r = volume_url(view, volume, lun, out);
    }
    out_ref(out, "System", "systems", volume->system_id);
    out_ref(out, "AccessPoint", "accesspoints", volume->access_point_id);
    out_ref(out, "Pool", "pools", volume->pool_id);
    out_bool(out, "Allocated", volume->allocated);
    out_ref(out, "Setting", "settings", volume->setting_id);
    volume_size(volume, out);
    if (hosted) {
        hosted_space(view, volume, out);
    }
    out_enum(out, "Usage", &map_usage, volume_usage(volume, n_source, syncs->n - n_source));
    volume_state(volume, out);
    out_begin_array(out, "Relationships");
    view_paths(out, "synchronizations", syncs);
    out_end_array(out);
    if (hosted) {
        out_begin_array(out, "RemoteRelationships");
        exports_remotes(view->control, volume->head.id, remote_listed, out);
        out_end_array(out);
    }
    out_bool(out, "Persistent", volume->persistent);
    out_time(out, "LastSeen", volume->last_seen_ms);
    out_text_or_null(out, "Problem", volume->problem);
    return r;
}

static int volume_object(struct view *view, const void *row, struct out *out)
{
    const struct volume_row *volume = row;
    struct id_list syncs = {0};
    size_t n_source = 0;
    int r = volume_relations(view, volume, &syncs, &n_source);

    if (r == 0) {
        out_begin_object(out, NULL);
        r = volume_properties(view, volume, n_source, &syncs, out);
        out_end_object(out);
    }
    id_list_fini(&syncs);
    return r;
}

static const struct enum_value volume_words[] = {{VOLUME_REMOTE, "remote"},
                                                 {VOLUME_HOSTED, "hosted"}};
static const struct view_filter volume_filters[] = {
    {.name = "System", .column = "system_id", .kind = FILTER_PATH, .collection = "systems"},
    {.name = "Pool", .column = "pool_id", .kind = FILTER_PATH, .collection = "pools"},
    {.name = "AccessPoint",
     .column = "access_point_id",
     .kind = FILTER_PATH,
     .collection = "accesspoints"},
    {.name = "ElementName", .column = "element_name", .kind = FILTER_TEXT},
    {.name = "Name", .column = "identity", .kind = FILTER_IDENTITY},
    {.name = "Kind",
     .column = "kind",
     .kind = FILTER_WORD,
     .words = volume_words,
     .n_words = ARRAY_LEN(volume_words)},
    {.name = "Allocated", .column = "allocated", .kind = FILTER_BOOL},
};
const struct view_kind view_volumes = {
    .table = &volume_table,
    .row = volume_object,
    .filters = volume_filters,
    .n_filters = ARRAY_LEN(volume_filters),
};

/* Pools */

struct members {
    struct id_list volumes;
    unsigned problems;
    uint64_t size_bytes;
};

static int member_row(void *arg, const void *row)
{
    const struct volume_row *volume = row;
    struct members *members = arg;

    members->problems += volume->problem[0] != '\0';
    members->size_bytes += volume->size_bytes;
    return id_list_add(&members->volumes, volume->head.id);
}

static void pool_state(const struct members *members, struct out *out)
{
    if (members->problems == 0) {
        view_status(out, STATUS_OK, 0, HEALTH_OK);
    } else if (members->problems < members->volumes.n) {
        view_status(out, STATUS_DEGRADED, 0, HEALTH_DEGRADED);
    } else {
        view_status(out, STATUS_ERROR, 0, HEALTH_MAJOR_FAILURE);
    }
}

/* Thin: what was promised is more than what is there. */
static void pool_space(const struct pool_row *pool, const struct array_usage *usage,
                       const struct members *members, struct out *out)
{
    out_bool(out, "ThinlyProvisioned", true);
    out_number(out, "ProvisionedSpace", members->size_bytes);
    out_number(out, "UsedSpace", usage->used_bytes);
    out_number(out, "ReclaimableSpace", usage->reclaimable_bytes);
    out_number(out, "Capacity", pool->capacity_bytes);
    out_text(out, "Directory", pool->path);
}

static int pool_properties(struct view *view, const struct pool_row *pool,
                           const struct members *members, struct out *out)
{
    uint64_t total_bytes = 0;
    uint64_t free_bytes = 0;
    bool file = pool->kind == POOL_FILE;
    struct array_usage usage = {0};
    int r = 0;

    if (file) {
        array_pool_usage(hosted_array(control_hosted(view->control)), pool->head.id, &usage);
        view->moving = true;
        total_bytes = usage.capacity_bytes;
        free_bytes = usage.available_bytes;
    } else {
        r = pool_capacity(view->db, pool->head.id, &total_bytes, &free_bytes);
    }

    view_head(out, COLLECTION_POOLS, pool->head.id);
    view_instance_id(out, "InstanceID", pool->head.id);
    out_text(out, "PoolID", pool->head.id);
    out_text(out, "ElementName", pool->element_name);
    out_text(out, "Kind", file ? "file" : "remote");
    out_bool(out, "Primordial", false);
    out_enum(out, "Usage", &map_pool_usage,
             file ? USAGE_UNRESTRICTED : POOL_USAGE_REMOTE_REPLICATION);
    out_number(out, "TotalManagedSpace", total_bytes);
    out_number(out, "RemainingManagedSpace", free_bytes);
    if (file) {
        pool_space(pool, &usage, members, out);
    }
    pool_state(members, out);
    out_ref(out, "System", "systems", pool->system_id);
    out_begin_array(out, "Elements");
    view_paths(out, "volumes", &members->volumes);
    out_end_array(out);
    return r;
}

static int pool_object(struct view *view, const void *row, struct out *out)
{
    const struct pool_row *pool = row;
    const struct condition where[] = {WHERE_TEXT("pool_id", pool->head.id), WHERE_END};
    struct members members = {0};
    int r = table_each(view->db, &volume_table, where, 0, 0, member_row, &members);

    if (r == 0) {
        out_begin_object(out, NULL);
        r = pool_properties(view, pool, &members, out);
        out_end_object(out);
    }
    id_list_fini(&members.volumes);
    return r;
}

static const struct enum_value pool_words[] = {{POOL_REMOTE, "remote"}, {POOL_FILE, "file"}};
static const struct view_filter pool_filters[] = {
    {.name = "System", .column = "system_id", .kind = FILTER_PATH, .collection = "systems"},
    {.name = "ElementName", .column = "element_name", .kind = FILTER_TEXT},
    {.name = "Kind",
     .column = "kind",
     .kind = FILTER_WORD,
     .words = pool_words,
     .n_words = ARRAY_LEN(pool_words)},
};
const struct view_kind view_pools = {
    .table = &pool_table,
    .row = pool_object,
    .filters = pool_filters,
    .n_filters = ARRAY_LEN(pool_filters),
};
