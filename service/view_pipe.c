// SPDX-License-Identifier: Apache-2.0
/*
 * Pipes: what was recorded, and what goes through them now. A pipe with several pairs shows the sum of its children.
 */
#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "service/network.h"
#include "service/pipe_paths.h"
#include "service/pipes.h"
#include "service/view_maps.h"
#include "service/view_parts.h"
#include "store/pipe.h"
#include "store/replica.h"
#include "store/system.h"

enum { ALONE = 2, PARALLEL = 3 };          /* AggregationBehavior */
enum { SOURCE = 2, SINK = 3, EITHER = 4 }; /* SourceOrSink */

/* What the pairs of a pipe say together. */
struct traffic {
    struct view *view;
    struct id_list children;
    struct path_stats sum;
    unsigned
        n_up; /* pairs with a session, or, when nobody uses the pipe, with a portal that answers */
    unsigned n_known; /* pairs of which something is known */
    unsigned n;
};

static int portal_state(struct view *view, const char *endpoint_id, bool *known, bool *reachable)
{
    struct access_point_row portal;
    int r = table_get(view->db, &access_point_table, endpoint_id, &portal);

    if (r == -ENOENT) {
        return 0; /* an end of ours */
    }
    if (r == 0) {
        *known = *known && portal.probed;
        *reachable = *reachable && portal.reachable;
    }
    return r;
}

static int add_leaf(struct traffic *traffic, const struct pipe_row *leaf)
{
    struct pipe_paths *paths = network_pipe_paths(control_network(traffic->view->control));
    struct path_stats *sum = &traffic->sum;
    struct path_stats stats;
    bool known = true;
    bool up = true;
    int r = 0;

    pipe_paths_read(paths, leaf->head.id, &stats);
    if (stats.users > 0) {
        up = stats.sessions > 0;
    } else {
        r = portal_state(traffic->view, leaf->source_endpoint_id, &known, &up);
        if (r == 0) {
            r = portal_state(traffic->view, leaf->target_endpoint_id, &known, &up);
        }
    }
    traffic->n++;
    traffic->n_known += known;
    traffic->n_up += known && up;
    sum->users += stats.users;
    sum->sessions += stats.sessions;
    sum->bytes_inflight += stats.bytes_inflight;
    sum->bytes_read += stats.bytes_read;
    sum->bytes_written += stats.bytes_written;
    sum->bytes_per_second += stats.bytes_per_second;
    sum->losses += stats.losses;
    if (stats.last_error_ms > sum->last_error_ms) {
        sum->last_error_ms = stats.last_error_ms;
        memcpy(sum->last_error, stats.last_error, sizeof(sum->last_error));
    }
    return r;
}

static int child_row(void *arg, const void *row)
{
    const struct pipe_row *child = row;
    struct traffic *traffic = arg;
    int r = id_list_add(&traffic->children, child->head.id);

    return r < 0 ? r : add_leaf(traffic, child);
}

static int traffic_of(struct view *view, const struct pipe_row *pipe, struct traffic *ret_traffic)
{
    struct condition where[] = {WHERE_TEXT("parent_id", pipe->head.id), WHERE_END};

    *ret_traffic = (struct traffic){.view = view};
    view->moving = true;
    return pipe->source_endpoint_id[0] != '\0'
               ? add_leaf(ret_traffic, pipe)
               : table_each(view->db, &pipe_table, where, 0, 0, child_row, ret_traffic);
}

static void pipe_status(struct out *out, const struct traffic *traffic)
{
    uint32_t status = traffic->n_known == 0        ? STATUS_UNKNOWN
                      : traffic->n_up == 0         ? STATUS_NO_CONTACT
                      : traffic->n_up < traffic->n ? STATUS_DEGRADED
                                                   : STATUS_OK;

    view_status(out, status, 0,
                status == STATUS_OK         ? HEALTH_OK
                : status == STATUS_DEGRADED ? HEALTH_DEGRADED
                : status == STATUS_UNKNOWN  ? HEALTH_UNKNOWN
                                            : HEALTH_MAJOR_FAILURE);
}

static void pipe_endpoint(struct out *out, const char *endpoint_id, uint32_t role)
{
    out_begin_object(out, NULL);
    out_ref(out, "Antecedent", "endpoints", endpoint_id);
    out_enum(out, "SourceOrSink", &map_source_or_sink, role);
    out_end_object(out);
}

/* EndpointOfNetworkPipe, NetworkPipeComposition. */
static void pipe_structure(struct out *out, const struct pipe_row *pipe,
                           const struct traffic *traffic)
{
    bool alone = pipe->source_endpoint_id[0] != '\0';

    out_enum(out, "AggregationBehavior", &map_aggregation_behavior, alone ? ALONE : PARALLEL);
    out_ref(out, "Parent", "pipes", pipe->parent_id);
    out_number(out, "AggregationSequence", 0);
    out_begin_array(out, "Children");
    view_paths(out, "pipes", &traffic->children);
    out_end_array(out);
    out_begin_array(out, "Endpoints");
    if (alone) {
        pipe_endpoint(out, pipe->source_endpoint_id, pipe->bidirectional ? EITHER : SOURCE);
        pipe_endpoint(out, pipe->target_endpoint_id, pipe->bidirectional ? EITHER : SINK);
    }
    out_end_array(out);
}

static void pipe_goal(struct out *out, const struct pipe_row *pipe)
{
    out_number(out, "BandwidthLimit", pipe->bandwidth_limit);
    out_number(out, "SessionsPerPair", pipe->sessions_per_pair);
    out_enum(out, "HeaderDigest", &map_pipe_digest, pipe->header_digest);
    out_enum(out, "DataDigest", &map_pipe_digest, pipe->data_digest);
    out_ref(out, "SecretAccessPoint", "accesspoints", pipe->secret_access_point_id);
}

static void pipe_traffic(struct out *out, const struct path_stats *stats)
{
    out_number(out, "SessionsWanted", stats->users);
    out_number(out, "Sessions", stats->sessions);
    out_number(out, "SessionLosses", stats->losses);
    out_number(out, "BytesInFlight", stats->bytes_inflight);
    out_number(out, "BytesRead", stats->bytes_read);
    out_number(out, "BytesWritten", stats->bytes_written);
    out_number(out, "BytesPerSecond", stats->bytes_per_second);
    out_text_or_null(out, "LastError", stats->last_error);
    out_time(out, "LastErrorTime", stats->last_error_ms);
}

static int sync_row_of(void *arg, const void *row)
{
    return id_list_add(arg, ((const struct sync_row *)row)->head.id);
}

static int pipe_users(struct view *view, const struct pipe_row *pipe, struct out *out)
{
    const char *id = pipe->parent_id[0] != '\0' ? pipe->parent_id : pipe->head.id;
    struct condition where[] = {WHERE_TEXT("pipe_id", id), WHERE_END};
    struct id_list users = {0};
    int r = table_each(view->db, &sync_table, where, 0, 0, sync_row_of, &users);

    out_begin_array(out, "Synchronizations");
    view_paths(out, "synchronizations", &users);
    out_end_array(out);
    id_list_fini(&users);
    return r;
}

static int pipe_object(struct view *view, const void *row, struct out *out)
{
    const struct pipe_row *pipe = row;
    struct traffic traffic;
    int r = traffic_of(view, pipe, &traffic);

    if (r == 0) {
        out_begin_object(out, NULL);
        view_head(out, COLLECTION_PIPES, pipe->head.id);
        view_instance_id(out, "InstanceID", pipe->head.id);
        out_text(out, "ElementName", pipe->element_name);
        out_ref(out, "SourceSystem", "systems", pipe->source_system_id);
        out_ref(out, "TargetSystem", "systems", pipe->target_system_id);
        out_enum(out, "Directionality", &map_directionality,
                 pipe->bidirectional ? PIPE_BIDIRECTIONAL : PIPE_UNIDIRECTIONAL);
        pipe_structure(out, pipe, &traffic);
        pipe_status(out, &traffic);
        pipe_goal(out, pipe);
        pipe_traffic(out, &traffic.sum);
        r = pipe_users(view, pipe, out);
        out_end_object(out);
    }
    id_list_fini(&traffic.children);
    return r;
}

static const struct view_filter pipe_filters[] = {
    {.name = "ElementName", .column = "element_name", .kind = FILTER_TEXT},
    {.name = "SourceSystem",
     .column = "source_system_id",
     .kind = FILTER_PATH,
     .collection = "systems"},
    {.name = "TargetSystem",
     .column = "target_system_id",
     .kind = FILTER_PATH,
     .collection = "systems"},
    {.name = "Parent", .column = "parent_id", .kind = FILTER_PATH, .collection = "pipes"},
};
const struct view_kind view_pipes = {
    .table = &pipe_table,
    .row = pipe_object,
    .filters = pipe_filters,
    .n_filters = ARRAY_LEN(pipe_filters),
};
