// SPDX-License-Identifier: Apache-2.0
/*
 * CreateOrModifyReplicationPipe and DELETE /pipes/{id}: rules P1 to P19.
 *
 *     systems ─▶ the pipe, when one is to be changed ─▶ pairs, given or chosen ─▶ Goal ─▶ limits ─▶ records
 *
 * One pair is one pipe; several are a parent with a child for each. A pair that stays keeps its child, and with it its counters. All is
 * done when it is answered: there is no job, and calls follow one another, so that a pipe is never found locked (4096 Busy).
 */
#include "service/pipes.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "service/enums.h"
#include "service/handlers.h"
#include "service/paths.h"
#include "service/pipe_paths.h"
#include "service/view_maps.h"
#include "service/volumes.h"

struct pair_ends {
    struct endpoint_row source;
    struct endpoint_row target;
};

struct wanted {
    struct system_row source;
    struct system_row target;
    struct pipe_row pipe;
    bool modify;
    struct pair_ends pairs[PIPE_PAIRS_MAX];
    unsigned n_pairs; /* 0: as they are */
};

/* ---- systems and the pipe ---- */

static int take_systems(struct call *call, struct wanted *wanted)
{
    int r =
        path_system(call, "SourceSystem", args_text(call->args, "SourceSystem"), &wanted->source);

    if (r == 0) {
        r = path_system(call, "TargetSystem", args_text(call->args, "TargetSystem"),
                        &wanted->target);
    }
    if (r == 0 && strcmp(wanted->source.head.id, wanted->target.head.id) == 0) {
        return call_fail_param(call, ERR_BAD_VALUE, "TargetSystem",
                               "A pipe connects two systems; both are /systems/%s.",
                               wanted->source.head.id);
    }
    return r;
}

static int refuse_part(struct call *call, const char *parameter, const struct pipe_row *pipe)
{
    if (pipe->parent_id[0] == '\0') {
        return 0;
    }
    return call_fail_param(call, ERR_BAD_VALUE, parameter,
                           "/pipes/%s is one pair of /pipes/%s; name that one.", pipe->head.id,
                           pipe->parent_id);
}

static int take_pipe(struct call *call, struct wanted *wanted)
{
    const char *path = args_text(call->args, "ReplicationPipe");

    wanted->modify = path != NULL;
    if (path == NULL) {
        wanted->pipe = (struct pipe_row){.bidirectional = true,
                                         .sessions_per_pair = 1,
                                         .header_digest = PIPE_DIGEST_NONE,
                                         .data_digest = PIPE_DIGEST_NONE,
                                         .created_ms = control_now_ms(call->control)};
        strcpy(wanted->pipe.source_system_id, wanted->source.head.id);
        strcpy(wanted->pipe.target_system_id, wanted->target.head.id);
        return 0;
    }
    int r = path_pipe(call, "ReplicationPipe", path, &wanted->pipe);

    if (r == 0) {
        r = refuse_part(call, "ReplicationPipe", &wanted->pipe);
    }
    if (r == 0 && strcmp(wanted->pipe.source_system_id, wanted->source.head.id) != 0) {
        r = call_fail_param(call, ERR_BAD_VALUE, "SourceSystem",
                            "The SourceSystem of %.60s is /systems/%s; it cannot be changed.", path,
                            wanted->pipe.source_system_id);
    }
    if (r == 0 && strcmp(wanted->pipe.target_system_id, wanted->target.head.id) != 0) {
        r = call_fail_param(call, ERR_BAD_VALUE, "TargetSystem",
                            "The TargetSystem of %.60s is /systems/%s; it cannot be changed.", path,
                            wanted->pipe.target_system_id);
    }
    return r;
}

/* ---- endpoints ---- */

static int take_endpoint(struct call *call, const char *list, size_t i, const struct value *value,
                         const struct system_row *system, struct endpoint_row *ret_row)
{
    char parameter[48];

    snprintf(parameter, sizeof(parameter), "%s[%zu]", list, i);
    if (!value->items[i].present) {
        return call_fail_param(call, ERR_MISSING_PARAMETER, parameter,
                               "%s is null; each entry must name an endpoint.", parameter);
    }
    for (size_t k = 0; k < i; k++) {
        if (strcmp(value->items[k].text, value->items[i].text) == 0) {
            return call_fail_param(call, ERR_BAD_VALUE, parameter,
                                   "%.60s is named twice. Each pair has endpoints of its own; "
                                   "GET /endpoints lists what there is.",
                                   value->items[i].text);
        }
    }
    int r = path_endpoint(call, parameter, value->items[i].text, ret_row);

    if (r == 0 && strcmp(ret_row->system_id, system->head.id) != 0) {
        r = call_fail_param(call, ERR_BAD_VALUE, parameter,
                            "%.60s belongs to /systems/%s, not to /systems/%s.",
                            value->items[i].text, ret_row->system_id, system->head.id);
    }
    return r;
}

static int take_pairs(struct call *call, struct wanted *wanted)
{
    const struct value *source = values_get(call->args, "SourceEndpoint");
    const struct value *target = values_get(call->args, "TargetEndpoint");
    int r = 0;

    if (!source->present && !target->present) {
        return 0;
    }
    if (!source->present || !target->present) {
        return call_fail_param(call, ERR_MISSING_PARAMETER,
                               source->present ? "TargetEndpoint" : "SourceEndpoint",
                               "SourceEndpoint and TargetEndpoint are given both or not at all.");
    }
    if (source->n_items == 0 || target->n_items == 0) {
        return call_fail_param(
            call, ERR_BAD_VALUE, source->n_items == 0 ? "SourceEndpoint" : "TargetEndpoint",
            "An empty list is no pair; leave both lists out to have one chosen.");
    }
    if (source->n_items != target->n_items) {
        return call_fail_param(call, ERR_BAD_VALUE, "TargetEndpoint",
                               "Endpoints are paired by their place: there are %zu and %zu.",
                               source->n_items, target->n_items);
    }
    for (size_t i = 0; i < source->n_items && r == 0; i++) {
        struct pair_ends ends;

        r = take_endpoint(call, "SourceEndpoint", i, source, &wanted->source, &ends.source);
        if (r == 0) {
            r = take_endpoint(call, "TargetEndpoint", i, target, &wanted->target, &ends.target);
        }
        if (r == 0 && i < PIPE_PAIRS_MAX) {
            wanted->pairs[i] = ends;
        }
    }
    if (r == 0 && source->n_items > PIPE_PAIRS_MAX) {
        return call_fail_param(call, ERR_LIMIT_REACHED, "SourceEndpoint",
                               "A pipe has at most %d pairs (MaximumPortsPerConnection), not %zu.",
                               PIPE_PAIRS_MAX, source->n_items);
    }
    wanted->n_pairs = (unsigned)source->n_items;
    return r;
}

struct choice {
    struct call *call;
    struct endpoint_row *best;
    bool found;
    bool reachable;
};

/* A portal that answers, else the first. */
static int choose_row(void *arg, const void *row)
{
    const struct endpoint_row *endpoint = row;
    struct choice *choice = arg;
    struct access_point_row portal = {0};
    int r = endpoint->kind == ENDPOINT_PORTAL
                ? table_get(choice->call->db, &access_point_table, endpoint->head.id, &portal)
                : 0;
    bool reachable = endpoint->kind != ENDPOINT_PORTAL || (portal.probed && portal.reachable);

    if (r == 0 && (!choice->found || (reachable && !choice->reachable))) {
        *choice->best = *endpoint;
        choice->found = true;
        choice->reachable = reachable;
    }
    return r == -ENOENT ? 0 : r;
}

static int choose_endpoint(struct call *call, const char *parameter,
                           const struct system_row *system, struct endpoint_row *ret_row)
{
    struct condition where[] = {WHERE_TEXT("system_id", system->head.id), WHERE_END};
    struct choice choice = {.call = call, .best = ret_row};
    int r = table_each(call->db, &endpoint_table, where, 0, 0, choose_row, &choice);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    if (!choice.found) {
        return call_fail_param(call, ERR_INCOMPATIBLE, parameter,
                               "/systems/%s has no endpoint: AddServiceAccessPoint makes one.",
                               system->head.id);
    }
    return 0;
}

/* P12. */
static int choose_pair(struct call *call, struct wanted *wanted)
{
    int r = choose_endpoint(call, "SourceSystem", &wanted->source, &wanted->pairs[0].source);

    if (r == 0) {
        r = choose_endpoint(call, "TargetSystem", &wanted->target, &wanted->pairs[0].target);
    }
    wanted->n_pairs = 1;
    return r;
}

/* ---- Goal and name ---- */

static int take_digest(struct call *call, const struct values *goal, const char *name,
                       uint32_t *ret_digest)
{
    *ret_digest = (uint32_t)args_number(goal, name, PIPE_DIGEST_NONE);
    if (*ret_digest == PIPE_DIGEST_CRC32C && strcmp(name, "DataDigest") == 0) {
        return call_fail_param(call, ERR_NOT_SUPPORTED, "Goal.DataDigest",
                               "This initiator has no data digests; 2 (No Digest) or 4 (CRC32C "
                               "preferred) can be had.");
    }
    return 0;
}

static int take_goal(struct call *call, struct pipe_row *pipe)
{
    const struct values *goal = args_instance(call->args, "Goal");

    if (goal == NULL) {
        return 0;
    }
    uint64_t sessions = args_number(goal, "SessionsPerPair", 1);
    const char *secret = args_text(goal, "SecretAccessPoint");
    struct access_point_row access_point = {0};
    int r = take_digest(call, goal, "HeaderDigest", &pipe->header_digest);

    if (r == 0) {
        r = take_digest(call, goal, "DataDigest", &pipe->data_digest);
    }
    if (r == 0 && (sessions == 0 || sessions > PIPE_SESSIONS_MAX)) {
        r = call_fail_param(call, ERR_BAD_VALUE, "Goal.SessionsPerPair",
                            "SessionsPerPair is 1 to %d, not %llu.", PIPE_SESSIONS_MAX,
                            (unsigned long long)sessions);
    }
    if (r == 0 && args_number(goal, "BandwidthLimit", 0) > INT64_MAX) {
        r = call_fail_param(call, ERR_BAD_VALUE, "Goal.BandwidthLimit",
                            "BandwidthLimit is at most 9223372036854775807 bytes per second.");
    }
    if (r == 0 && secret != NULL) {
        r = path_access_point(call, "Goal.SecretAccessPoint", secret, &access_point);
    }
    if (r == 0) {
        pipe->bandwidth_limit = args_number(goal, "BandwidthLimit", 0);
        pipe->sessions_per_pair = (uint32_t)sessions;
        pipe->bidirectional =
            args_number(goal, "Directionality", PIPE_BIDIRECTIONAL) == PIPE_BIDIRECTIONAL;
        memcpy(pipe->secret_access_point_id, access_point.head.id, ID_SIZE);
    }
    return r;
}

static int take_name(struct call *call, struct wanted *wanted)
{
    const char *name = args_text(call->args, "PipeElementName");
    struct pipe_row *pipe = &wanted->pipe;

    if (name != NULL) {
        return text_take(call, "PipeElementName", name, pipe->element_name, ELEMENT_NAME_MAX + 1);
    }
    if (!wanted->modify) {
        store_new_id(pipe->head.id);
        snprintf(pipe->element_name, sizeof(pipe->element_name), "pipe-%s", pipe->head.id);
    }
    return 0;
}

/* ---- who uses it ---- */

struct users {
    struct call *call;
    const struct pipe_row *pipe;
    struct sync_row first;
    uint64_t n;
    bool against; /* one whose data goes from the target's side */
};

static const char *volume_system(const struct volume_row *volume)
{
    return volume->kind == VOLUME_HOSTED ? SYSTEM_LOCAL : volume->system_id;
}

static int user_row(void *arg, const void *row)
{
    const struct sync_row *sync = row;
    struct users *users = arg;
    struct volume_row source;
    int r = table_get(users->call->db, &volume_table, sync->source_id, &source);

    if (r < 0) {
        return r;
    }
    if (users->n++ == 0) {
        users->first = *sync;
    }
    if (strcmp(volume_system(&source), users->pipe->source_system_id) != 0) {
        users->against = true;
        users->first = *sync;
    }
    return 0;
}

static int users_of(struct call *call, const struct pipe_row *pipe, struct users *ret_users)
{
    struct condition where[] = {WHERE_TEXT("pipe_id", pipe->head.id), WHERE_END};

    *ret_users = (struct users){.call = call, .pipe = pipe};
    int r = table_each(call->db, &sync_table, where, 0, 0, user_row, ret_users);

    return r < 0 ? call_fail_store(call, r) : 0;
}

static int fail_used(struct call *call, const struct sync_row *sync, const char *parameter,
                     const char *what)
{
    char path[PATH_SIZE];

    snprintf(path, sizeof(path), "/synchronizations/%s", sync->head.id);
    call_fail_blocked(call, ERR_ILLEGAL_STATE, path, "%s uses this pipe; %s", path, what);
    snprintf(call->error.parameter, sizeof(call->error.parameter), "%s", parameter);
    return error_info(ERR_ILLEGAL_STATE)->err;
}

/* ---- records ---- */

/* The pairs of a pipe as they are: itself, or its children. */
struct leaves {
    struct pipe_row rows[PIPE_PAIRS_MAX];
    unsigned n;
};

static int leaf_row(void *arg, const void *row)
{
    struct leaves *leaves = arg;

    CHECK(leaves->n < PIPE_PAIRS_MAX);
    leaves->rows[leaves->n++] = *(const struct pipe_row *)row;
    return 0;
}

static int leaves_of(struct db *db, const struct pipe_row *pipe, struct leaves *ret_leaves)
{
    struct condition where[] = {WHERE_TEXT("parent_id", pipe->head.id), WHERE_END};

    ret_leaves->n = 0;
    if (pipe->source_endpoint_id[0] != '\0') {
        ret_leaves->rows[ret_leaves->n++] = *pipe;
        return 0;
    }
    return table_each(db, &pipe_table, where, 0, 0, leaf_row, ret_leaves);
}

static bool is_pair(const struct pipe_row *leaf, const struct pair_ends *pair)
{
    return strcmp(leaf->source_endpoint_id, pair->source.head.id) == 0 &&
           strcmp(leaf->target_endpoint_id, pair->target.head.id) == 0;
}

/* P16. */
static int check_removed(struct call *call, const struct wanted *wanted,
                         const struct leaves *leaves, const struct users *users)
{
    for (unsigned i = 0; i < leaves->n && users->n > 0; i++) {
        bool stays = false;

        for (unsigned k = 0; k < wanted->n_pairs; k++) {
            stays = stays || is_pair(&leaves->rows[i], &wanted->pairs[k]);
        }
        if (!stays) {
            return fail_used(call, &users->first, "SourceEndpoint",
                             "pairs can be added, and none taken away, until that has ended.");
        }
    }
    return 0;
}

static int count_port(struct call *call, const struct endpoint_row *endpoint, const char *pipe_id,
                      uint64_t *ret_n)
{
    static const char *const columns[] = {"source_endpoint_id", "target_endpoint_id"};
    uint64_t sum = 0;

    for (unsigned i = 0; i < ARRAY_LEN(columns); i++) {
        struct condition all[] = {WHERE_TEXT(columns[i], endpoint->head.id), WHERE_END};
        struct condition own[] = {WHERE_TEXT(columns[i], endpoint->head.id),
                                  WHERE_TEXT("parent_id", pipe_id), WHERE_END};
        struct condition itself[] = {WHERE_TEXT(columns[i], endpoint->head.id),
                                     WHERE_TEXT("id", pipe_id), WHERE_END};
        uint64_t n = 0;
        uint64_t n_own = 0;
        uint64_t n_itself = 0;
        int r = table_count(call->db, &pipe_table, all, &n);

        if (r == 0 && pipe_id[0] != '\0') {
            r = table_count(call->db, &pipe_table, own, &n_own);
        }
        if (r == 0 && pipe_id[0] != '\0') {
            r = table_count(call->db, &pipe_table, itself, &n_itself);
        }
        if (r < 0) {
            return call_fail_store(call, r);
        }
        sum += n - n_own - n_itself;
    }
    *ret_n = sum;
    return 0;
}

static int check_port(struct call *call, const char *list, unsigned i,
                      const struct endpoint_row *endpoint, const char *pipe_id)
{
    char parameter[48];
    uint64_t n = 0;
    int r = count_port(call, endpoint, pipe_id, &n);

    if (r == 0 && n >= PIPES_PER_PORT_MAX) {
        snprintf(parameter, sizeof(parameter), "%s[%u]", list, i);
        r = call_fail_param(call, ERR_LIMIT_REACHED, parameter,
                            "/endpoints/%s is in %d pipes already (MaximumConnectionsPerPort).",
                            endpoint->head.id, PIPES_PER_PORT_MAX);
    }
    return r;
}

/* P17. */
static int check_limits(struct call *call, const struct wanted *wanted)
{
    const char *ends[2] = {wanted->pipe.source_system_id, wanted->pipe.target_system_id};
    uint64_t sum = 0;
    int r = 0;

    for (unsigned i = 0; i < 2 && !wanted->modify; i++) {
        struct condition where[] = {WHERE_TEXT("source_system_id", ends[i]),
                                    WHERE_TEXT("target_system_id", ends[1 - i]),
                                    WHERE_TEXT("parent_id", ""), WHERE_END};
        uint64_t n = 0;

        r = table_count(call->db, &pipe_table, where, &n);
        if (r < 0) {
            return call_fail_store(call, r);
        }
        sum += n;
    }
    if (sum >= PIPES_PER_PEER_MAX) {
        return call_fail_param(call, ERR_LIMIT_REACHED, "TargetSystem",
                               "There are %d pipes between these systems already "
                               "(MaximumPeerConnections).",
                               PIPES_PER_PEER_MAX);
    }
    for (unsigned i = 0; i < wanted->n_pairs && r == 0; i++) {
        const char *pipe_id = wanted->modify ? wanted->pipe.head.id : "";

        r = check_port(call, "SourceEndpoint", i, &wanted->pairs[i].source, pipe_id);
        if (r == 0) {
            r = check_port(call, "TargetEndpoint", i, &wanted->pairs[i].target, pipe_id);
        }
    }
    return r;
}

/* What a child has from its parent. */
static void child_fill(struct pipe_row *child, const struct pipe_row *parent, unsigned position,
                       const struct pair_ends *pair)
{
    struct row_head head = child->head;
    uint64_t created_ms = child->created_ms != 0 ? child->created_ms : parent->created_ms;

    *child = *parent;
    child->head = head;
    child->created_ms = created_ms;
    child->position = position;
    strcpy(child->parent_id, parent->head.id);
    snprintf(child->element_name, sizeof(child->element_name), "%.240s #%u", parent->element_name,
             position + 1);
    if (pair != NULL) {
        strcpy(child->source_endpoint_id, pair->source.head.id);
        strcpy(child->target_endpoint_id, pair->target.head.id);
    }
}

static void forget_effect(struct control *control, void *arg)
{
    pipe_paths_forget(network_pipe_paths(control_network(control)), arg);
}

static int delete_row(struct call *call, const char *pipe_id)
{
    char id[ID_SIZE];
    int r = table_delete(call->db, &pipe_table, pipe_id);

    snprintf(id, sizeof(id), "%s", pipe_id);
    control_effect(call->control, forget_effect, id, sizeof(id));
    return r;
}

static int store_children(struct call *call, const struct wanted *wanted,
                          const struct leaves *leaves)
{
    bool kept[PIPE_PAIRS_MAX] = {false};
    int r = 0;

    for (unsigned i = 0; i < wanted->n_pairs && r == 0; i++) {
        struct pipe_row child = {.head.id = ""};

        for (unsigned k = 0; k < leaves->n; k++) {
            if (leaves->rows[k].parent_id[0] != '\0' &&
                is_pair(&leaves->rows[k], &wanted->pairs[i])) {
                child = leaves->rows[k];
                kept[k] = true;
            }
        }
        child_fill(&child, &wanted->pipe, i, &wanted->pairs[i]);
        r = child.head.id[0] != '\0' ? table_update(call->db, &pipe_table, &child)
                                     : table_insert(call->db, &pipe_table, &child);
    }
    for (unsigned k = 0; k < leaves->n && r == 0; k++) {
        if (!kept[k] && leaves->rows[k].parent_id[0] != '\0') {
            r = delete_row(call, leaves->rows[k].head.id);
        }
    }
    return r;
}

static int store_pipe(struct call *call, struct wanted *wanted, const struct leaves *leaves)
{
    struct pipe_row *pipe = &wanted->pipe;
    bool one = wanted->n_pairs == 1;
    int r;

    if (wanted->n_pairs > 0) {
        strcpy(pipe->source_endpoint_id, one ? wanted->pairs[0].source.head.id : "");
        strcpy(pipe->target_endpoint_id, one ? wanted->pairs[0].target.head.id : "");
    }
    r = wanted->modify ? table_update(call->db, &pipe_table, pipe)
                       : table_insert(call->db, &pipe_table, pipe);
    if (r == 0 && wanted->n_pairs > 0) {
        struct wanted children = *wanted;

        children.n_pairs = one ? 0 : wanted->n_pairs;
        return store_children(call, &children, leaves);
    }
    for (unsigned i = 0; i < leaves->n && r == 0; i++) {
        struct pipe_row child = leaves->rows[i];

        if (child.parent_id[0] != '\0') { /* the Goal or the name may be new */
            struct pipe_row filled = child;

            child_fill(&filled, pipe, child.position, NULL);
            strcpy(filled.source_endpoint_id, child.source_endpoint_id);
            strcpy(filled.target_endpoint_id, child.target_endpoint_id);
            r = table_update(call->db, &pipe_table, &filled);
        }
    }
    return r;
}

struct limit_effect {
    char pipe_id[ID_SIZE];
    uint64_t bandwidth_limit;
};

static void limit_effect(struct control *control, void *arg)
{
    const struct limit_effect *limit = arg;

    pipe_paths_set_limit(network_pipe_paths(control_network(control)), limit->pipe_id,
                         limit->bandwidth_limit);
}

static int check_change(struct call *call, const struct wanted *wanted, const struct leaves *leaves)
{
    struct users users;
    int r = users_of(call, &wanted->pipe, &users);

    if (r == 0 && wanted->n_pairs > 0) {
        r = check_removed(call, wanted, leaves, &users);
    }
    if (r == 0 && users.against && !wanted->pipe.bidirectional) {
        r = fail_used(call, &users.first, "Goal.Directionality",
                      "its data goes from the TargetSystem to the SourceSystem.");
    }
    return r;
}

int method_create_or_modify_replication_pipe(struct call *call)
{
    struct wanted *wanted = arena_alloc(&call->arena, sizeof(*wanted));
    struct leaves *leaves = arena_alloc(&call->arena, sizeof(*leaves));
    int r = take_systems(call, wanted);

    if (r == 0) {
        r = take_pipe(call, wanted);
    }
    if (r == 0) {
        r = take_pairs(call, wanted);
    }
    if (r == 0) {
        r = take_goal(call, &wanted->pipe);
    }
    if (r == 0) {
        r = take_name(call, wanted);
    }
    if (r == 0 && wanted->n_pairs == 0 && !wanted->modify) {
        r = choose_pair(call, wanted);
    }
    if (r == 0 && wanted->modify) {
        r = leaves_of(call->db, &wanted->pipe, leaves);
        r = r < 0 ? call_fail_store(call, r) : check_change(call, wanted, leaves);
    }
    if (r == 0) {
        r = check_limits(call, wanted);
    }
    if (r == 0) {
        r = store_pipe(call, wanted, leaves);
        r = r < 0 ? call_fail_store(call, r) : 0;
    }
    if (r == 0) {
        struct limit_effect limit = {.bandwidth_limit = wanted->pipe.bandwidth_limit};

        memcpy(limit.pipe_id, wanted->pipe.head.id, ID_SIZE);
        control_effect(call->control, limit_effect, &limit, sizeof(limit));
        outs_path(call->outs, "ReplicationPipe", "/pipes/%s", wanted->pipe.head.id);
    }
    return r;
}

/* ---- DELETE /pipes/{id} ---- */

int method_delete_pipe(struct call *call)
{
    struct pipe_row pipe;
    struct users users;
    struct leaves leaves;
    char path[PATH_SIZE];
    int r = table_get(call->db, &pipe_table, call->object_id, &pipe);

    if (r == -ENOENT) {
        return call_fail(call, ERR_NOT_FOUND,
                         "There is no /pipes/%s. GET /pipes lists what there is.", call->object_id);
    }
    if (r == 0 && pipe.parent_id[0] != '\0') {
        snprintf(path, sizeof(path), "/pipes/%s", pipe.parent_id);
        return call_fail_blocked(
            call, ERR_CONFLICT, path,
            "This is one pair of %s. CreateOrModifyReplicationPipe with the other "
            "pairs takes it away.",
            path);
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    r = users_of(call, &pipe, &users);
    if (r == 0 && users.n > 0) {
        snprintf(path, sizeof(path), "/synchronizations/%s", users.first.head.id);
        return call_fail_blocked(call, ERR_CONFLICT, path, "%s uses this pipe. Detach it first.",
                                 path);
    }
    if (r < 0) {
        return r;
    }
    r = leaves_of(call->db, &pipe, &leaves);
    for (unsigned i = 0; i < leaves.n && r == 0; i++) {
        if (leaves.rows[i].parent_id[0] != '\0') {
            r = delete_row(call, leaves.rows[i].head.id);
        }
    }
    if (r == 0) {
        r = delete_row(call, pipe.head.id);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

/* ---- for others ---- */

int pipe_take(struct call *call, const char *parameter, const char *path, char ret_id[ID_SIZE])
{
    struct pipe_row pipe;
    int r = path_pipe(call, parameter, path, &pipe);

    if (r == 0) {
        r = refuse_part(call, parameter, &pipe);
    }
    if (r == 0) {
        memcpy(ret_id, pipe.head.id, ID_SIZE);
    }
    return r;
}

int pipe_check_use(struct call *call, const char *parameter, const char *pipe_id,
                   const struct volume_row *source, const struct volume_row *target)
{
    struct pipe_row pipe;
    int r = table_get(call->db, &pipe_table, pipe_id, &pipe);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    bool along = strcmp(volume_system(source), pipe.source_system_id) == 0 &&
                 strcmp(volume_system(target), pipe.target_system_id) == 0;
    bool back = strcmp(volume_system(source), pipe.target_system_id) == 0 &&
                strcmp(volume_system(target), pipe.source_system_id) == 0;

    if (!along && !back) {
        return call_fail_param(call, ERR_BAD_VALUE, parameter,
                               "/pipes/%s connects /systems/%s and /systems/%s; the source is on "
                               "/systems/%s, the target on /systems/%s.",
                               pipe_id, pipe.source_system_id, pipe.target_system_id,
                               volume_system(source), volume_system(target));
    }
    if (!along && !pipe.bidirectional) {
        return call_fail_param(call, ERR_BAD_VALUE, parameter,
                               "/pipes/%s is unidirectional, from /systems/%s to /systems/%s; the "
                               "source is on its target side.",
                               pipe_id, pipe.source_system_id, pipe.target_system_id);
    }
    return 0;
}

int pipe_check_back(struct call *call, const struct sync_row *sync)
{
    struct pipe_row pipe;
    char path[PATH_SIZE];

    if (sync->pipe_id[0] == '\0') {
        return 0;
    }
    int r = table_get(call->db, &pipe_table, sync->pipe_id, &pipe);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    if (pipe.bidirectional) {
        return 0;
    }
    snprintf(path, sizeof(path), "/pipes/%s", pipe.head.id);
    return call_fail_blocked(call, ERR_ILLEGAL_STATE, path,
                             "%s is unidirectional, and this would go against it. A Goal with "
                             "Directionality 2 makes it bidirectional.",
                             path);
}

static const char *const access_point_columns[] = {"source_endpoint_id", "target_endpoint_id",
                                                   "secret_access_point_id"};

int pipe_count_users(struct db *db, const char *access_point_id, uint64_t *ret_n)
{
    uint64_t sum = 0;
    int r = 0;

    for (unsigned i = 0; i < ARRAY_LEN(access_point_columns) && r == 0; i++) {
        struct condition where[] = {WHERE_TEXT(access_point_columns[i], access_point_id),
                                    WHERE_END};
        uint64_t n = 0;

        r = table_count(db, &pipe_table, where, &n);
        sum += n;
    }
    *ret_n = sum;
    return r;
}

int pipe_check_access_point(struct call *call, const char *access_point_id)
{
    for (unsigned i = 0; i < ARRAY_LEN(access_point_columns); i++) {
        struct condition where[] = {WHERE_TEXT(access_point_columns[i], access_point_id),
                                    WHERE_END};
        struct pipe_row pipe;
        char path[PATH_SIZE];
        int r = table_find(call->db, &pipe_table, where, &pipe);

        if (r == -ENOENT) {
            continue;
        }
        if (r < 0) {
            return call_fail_store(call, r);
        }
        snprintf(path, sizeof(path), "/pipes/%s",
                 pipe.parent_id[0] != '\0' ? pipe.parent_id : pipe.head.id);
        return call_fail_blocked(call, ERR_CONFLICT, path,
                                 "%s needs this access point. Change or delete it first.", path);
    }
    return 0;
}
