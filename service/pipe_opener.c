// SPDX-License-Identifier: Apache-2.0
/*
 * A LUN through a pipe: for each pair, and each session of it, an opener that dials one portal only; block/multi_dev makes one device of
 * them.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "block/multi_dev.h"
#include "service/lun_opener.h"
#include "service/pipe_paths.h"
#include "service/pipes.h"
#include "service/portals.h"

_Static_assert(PIPE_PAIRS_MAX *PIPE_SESSIONS_MAX <= MULTI_MAX_PATHS, "a path for each session");

static const struct multi_ops lun_ops = {
    .lun = iscsi_dev_name,
    .fence = iscsi_dev_fence,
    .fenced = iscsi_dev_fenced,
    .was_reset = iscsi_dev_was_reset,
};

struct building {
    struct network *network;
    struct db *db;
    const struct volume_row *volume;
    const struct network_session *session;
    const struct pipe_row *pipe;
    struct multi_spec spec;
    struct error *error;
};

static enum iscsi_digest digest_of(uint32_t number)
{
    return number == PIPE_DIGEST_CRC32C      ? ISCSI_DIGEST_REQUIRE
           : number == PIPE_DIGEST_PREFERRED ? ISCSI_DIGEST_PREFER
                                             : ISCSI_DIGEST_NONE;
}

/* Sessions that exist at a time need numbers of their own, the same each time. */
static uint64_t path_isid(uint64_t isid, unsigned path)
{
    uint64_t number = (isid + (uint64_t)(path + 1) * 0x9e3779b97full) & 0xffffffffffull;

    return isid == 0 ? 0 : number == 0 ? 1 : number;
}

static int store_error(struct error *error, int err)
{
    return error_set(error, ERR_STORE_FAILED, "The records could not be read (%s).",
                     strerror(-err));
}

/* 0, or what the error says. near and far: as seen from the LUN's system. */
static int add_path(struct building *building, const struct pipe_row *leaf,
                    const struct endpoint_row *near, const struct endpoint_row *far)
{
    struct access_point_row portal;
    struct access_point_row secret;
    struct lun_opener_spec spec = {.n_portals = 0};
    int r = table_get(building->db, &access_point_table, near->head.id, &portal);

    if (r == 0) {
        secret = portal;
        if (leaf->secret_access_point_id[0] != '\0') {
            r = table_get(building->db, &access_point_table, leaf->secret_access_point_id, &secret);
        }
    }
    if (r < 0) {
        return store_error(building->error, r);
    }
    memcpy(spec.portals[spec.n_portals++], portal.address, sizeof(portal.address));
    r = network_lun_spec(building->network, building->db, building->volume, &secret,
                         building->session, &spec, building->error);
    if (r == 0 && far->kind == ENDPOINT_ADDRESS &&
        sockaddr_parse_host(far->address, 0, &spec.iscsi.source) < 0) {
        r = error_set(building->error, ERR_INTERNAL, "/endpoints/%s has no address.", far->head.id);
    }
    spec.iscsi.header_digest = digest_of(leaf->header_digest);
    spec.iscsi.data_digest = digest_of(leaf->data_digest);
    for (uint32_t i = 0; r == 0 && i < leaf->sessions_per_pair; i++) {
        struct multi_path_spec *path = &building->spec.paths[building->spec.n_paths];

        CHECK(building->spec.n_paths < MULTI_MAX_PATHS);
        spec.iscsi.isid = path_isid(building->session->isid, building->spec.n_paths);
        path->opener = lun_opener_new(building->network, &spec);
        path->meter = pipe_paths_meter(network_pipe_paths(building->network), leaf->head.id);
        building->spec.n_paths++;
    }
    explicit_bzero(&spec, sizeof(spec));
    return r;
}

static int add_leaf(void *arg, const void *row)
{
    const struct pipe_row *leaf = row;
    struct building *building = arg;
    struct endpoint_row source;
    struct endpoint_row target;
    bool at_source = strcmp(leaf->source_system_id, building->volume->system_id) == 0;
    int r = table_get(building->db, &endpoint_table, leaf->source_endpoint_id, &source);

    if (r == 0) {
        r = table_get(building->db, &endpoint_table, leaf->target_endpoint_id, &target);
    }
    if (r < 0) {
        return store_error(building->error, r);
    }
    return at_source ? add_path(building, leaf, &source, &target)
                     : add_path(building, leaf, &target, &source);
}

static int add_leaves(struct building *building)
{
    struct condition where[] = {WHERE_TEXT("parent_id", building->pipe->head.id), WHERE_END};

    if (building->pipe->source_endpoint_id[0] != '\0') {
        return add_leaf(building, building->pipe);
    }
    int r = table_each(building->db, &pipe_table, where, 0, 0, add_leaf, building);

    if (r < 0 && building->error->code == ERR_NONE) {
        return store_error(building->error, r);
    }
    return r;
}

int pipe_opener(struct network *network, struct db *db, const struct volume_row *volume,
                const struct network_session *session, struct block_opener **ret_opener,
                struct error *error)
{
    struct pipe_row pipe;
    struct building building = {
        .network = network,
        .db = db,
        .volume = volume,
        .session = session,
        .pipe = &pipe,
        .spec = {.ops = &lun_ops, .fence = session->fence, .fence_open = session->fence_open},
        .error = error,
    };
    int r = table_get(db, &pipe_table, session->pipe_id, &pipe);

    error->code = ERR_NONE;
    if (r < 0) {
        return r == -ENOENT
                   ? error_set(error, ERR_COPY_FAILED, "/pipes/%s is gone.", session->pipe_id)
                   : store_error(error, r);
    }
    if (strcmp(pipe.source_system_id, volume->system_id) != 0 &&
        strcmp(pipe.target_system_id, volume->system_id) != 0) {
        return error_set(error, ERR_INCOMPATIBLE,
                         "/pipes/%s does not lead to the system of /volumes/%s.", pipe.head.id,
                         volume->head.id);
    }
    snprintf(building.spec.name, sizeof(building.spec.name), "%s %s", pipe.head.id,
             volume->head.id);
    r = add_leaves(&building);
    if (r == 0) {
        building.spec.limit =
            pipe_paths_limit(network_pipe_paths(network), pipe.head.id, pipe.bandwidth_limit);
        *ret_opener = multi_opener_new(&building.spec);
        CHECK(*ret_opener != NULL);
        path_limit_unref(building.spec.limit);
    }
    for (unsigned i = 0; i < building.spec.n_paths; i++) {
        path_meter_unref(building.spec.paths[i].meter);
        if (r < 0) {
            building.spec.paths[i].opener->ops->free(building.spec.paths[i].opener);
        }
    }
    return r;
}
