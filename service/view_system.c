// SPDX-License-Identifier: Apache-2.0
/* Systems, their portals, and our own end of iSCSI sessions. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/timefmt.h"
#include "service/portals.h"
#include "service/view_maps.h"
#include "service/view_parts.h"
#include "store/job.h"
#include "store/pipe.h"
#include "store/system.h"

enum { DEDICATED_BLOCK_SERVER = 15, ROLE_INITIATOR = 2, ROLE_TARGET = 3, PROTOCOL_OTHER = 1 };

/* Systems */

/* What the portals of a system say together. */
struct reach {
    struct id_list access_points;
    unsigned probed;
    unsigned reachable;
    uint64_t last_seen_ms;
    char last_error[NAME_SIZE];
};

static int reach_row(void *arg, const void *row)
{
    const struct access_point_row *access_point = row;
    struct reach *reach = arg;

    reach->probed += access_point->probed;
    reach->reachable += access_point->probed && access_point->reachable;
    if (access_point->last_seen_ms > reach->last_seen_ms) {
        reach->last_seen_ms = access_point->last_seen_ms;
    }
    if (access_point->last_error[0] != '\0' && !access_point->reachable) {
        memcpy(reach->last_error, access_point->last_error, sizeof(reach->last_error));
    }
    return id_list_add(&reach->access_points, access_point->head.id);
}

/* The text that goes with Reachable, for a system or one portal. */
static void reachability(struct out *out, const char *answer, uint64_t last_seen_ms,
                         const char *last_error)
{
    char seen[TIMEFMT_SIZE] = "never";
    char text[NAME_SIZE + 160];

    if (last_seen_ms != 0) {
        timefmt_rfc3339(last_seen_ms, seen);
    }
    snprintf(text, sizeof(text), "%s; last seen: %s%s%s", answer, seen,
             last_error[0] == '\0' ? "" : "; ", last_error);
    out_text(out, "Reachability", text);
}

static void system_reach(struct out *out, const struct reach *reach)
{
    char answer[96];
    unsigned n = (unsigned)reach->access_points.n;

    if (reach->probed == 0) {
        view_status(out, STATUS_UNKNOWN, 0, HEALTH_UNKNOWN);
        out_null(out, "Reachable");
        snprintf(answer, sizeof(answer), "not tried yet");
    } else {
        uint32_t status = reach->reachable == 0              ? STATUS_NO_CONTACT
                          : reach->reachable < reach->probed ? STATUS_DEGRADED
                                                             : STATUS_OK;
        view_status(out, status, 0,
                    status == STATUS_OK         ? HEALTH_OK
                    : status == STATUS_DEGRADED ? HEALTH_DEGRADED
                                                : HEALTH_MAJOR_FAILURE);
        out_bool(out, "Reachable", reach->reachable > 0);
        snprintf(answer, sizeof(answer), "%u of %u access points answer", reach->reachable, n);
    }
    reachability(out, answer, reach->last_seen_ms, reach->last_error);
    out_time(out, "LastSeen", reach->last_seen_ms);
}

/* What tells us from other arrays: the identity that was made with the records, and our iSCSI name.
 */
static int system_local_names(struct view *view, struct out *out)
{
    char array_id[NAME_SIZE];
    const char *initiator = control_options(view->control)->initiator_name;
    int r = meta_get(view->db, "array_id", array_id, sizeof(array_id));

    if (r < 0 && r != -ENOENT) {
        return r;
    }
    out_begin_array(out, "OtherIdentifyingInfo");
    if (r == 0) {
        out_text(out, NULL, array_id);
    }
    out_text(out, NULL, initiator);
    out_end_array(out);
    out_begin_array(out, "IdentifyingDescriptions");
    if (r == 0) {
        out_text(out, NULL, "Identity of the array");
    }
    out_text(out, NULL, "iSCSI name of the initiator");
    out_end_array(out);
    return 0;
}

static int system_local(struct view *view, struct out *out)
{
    size_t n;
    const struct service *const *services = service_all(&n);
    int r = system_local_names(view, out);

    if (r < 0) {
        return r;
    }
    view_status(out, STATUS_OK, 0, HEALTH_OK);
    out_bool(out, "Reachable", true);
    out_text(out, "Reachability", "this service");
    out_null(out, "LastSeen");
    out_begin_array(out, "AccessPoints");
    out_ref(out, NULL, view_collections[COLLECTION_ENDPOINTS].path, ENDPOINT_INITIATOR);
    out_end_array(out);
    out_begin_array(out, "Services");
    for (size_t i = 0; i < n; i++) {
        out_ref(out, NULL, view_collections[COLLECTION_SERVICES].path, services[i]->name);
    }
    out_end_array(out);
    return 0;
}

static int system_peer(struct view *view, const struct system_row *system, struct out *out)
{
    struct reach reach = {0};
    const struct condition where[] = {WHERE_TEXT("system_id", system->head.id), WHERE_END};
    int r = table_each(view->db, &access_point_table, where, 0, 0, reach_row, &reach);

    if (r == 0) {
        out_begin_array(out, "OtherIdentifyingInfo");
        out_end_array(out);
        out_begin_array(out, "IdentifyingDescriptions");
        out_end_array(out);
        system_reach(out, &reach);
        out_begin_array(out, "AccessPoints");
        view_paths(out, view_collections[COLLECTION_ACCESS_POINTS].path, &reach.access_points);
        out_end_array(out);
        out_begin_array(out, "Services");
        out_end_array(out);
    }
    id_list_fini(&reach.access_points);
    return r;
}

static int system_object(struct view *view, const void *row, struct out *out)
{
    static const uint32_t dedicated[] = {DEDICATED_BLOCK_SERVER};
    const struct system_row *system = row;

    out_begin_object(out, NULL);
    view_head(out, COLLECTION_SYSTEMS, system->head.id);
    out_text(out, "Name", system->head.id);
    out_text(out, "ElementName", system->element_name);
    out_text(out, "Kind", system->local ? "local" : "peer");
    view_enums(out, "Dedicated", &map_dedicated, dedicated, ARRAY_LEN(dedicated));
    int r = system->local ? system_local(view, out) : system_peer(view, system, out);
    out_end_object(out);
    return r;
}

static const struct enum_value system_words[] = {{0, "peer"}, {1, "local"}};
static const struct view_filter system_filters[] = {
    {.name = "ElementName", .column = "element_name", .kind = FILTER_TEXT},
    {.name = "Kind",
     .column = "local",
     .kind = FILTER_WORD,
     .words = system_words,
     .n_words = ARRAY_LEN(system_words)},
};
const struct view_kind view_systems = {
    .table = &system_table,
    .row = system_object,
    .filters = system_filters,
    .n_filters = ARRAY_LEN(system_filters),
};

/* Access points */

static int secret_each(void *arg, const void *row)
{
    const struct secret_row *secret = row;
    bool *kinds = arg;

    kinds[strcmp(secret->protocol, PORTAL_CHAP_MUTUAL) == 0] = true;
    return 0;
}

/* Which secrets there are, never what they say. */
static int authentication(struct view *view, const char *access_point_id, const char **ret_word)
{
    bool kinds[2] = {false, false}; /* CHAP, CHAP-Mutual */
    const struct condition where[] = {WHERE_TEXT("access_point_id", access_point_id), WHERE_END};
    int r = table_each(view->db, &secret_table, where, 0, 0, secret_each, kinds);

    *ret_word = kinds[1] ? "CHAP-Mutual" : kinds[0] ? "CHAP" : "None";
    return r;
}

static void access_point_reach(struct out *out, const struct access_point_row *access_point)
{
    if (!access_point->probed) {
        view_status(out, STATUS_UNKNOWN, 0, HEALTH_UNKNOWN);
        out_null(out, "Reachable");
        reachability(out, "not tried yet", access_point->last_seen_ms, "");
    } else if (access_point->reachable) {
        view_status(out, STATUS_OK, 0, HEALTH_OK);
        out_bool(out, "Reachable", true);
        reachability(out, "answers", access_point->last_seen_ms, "");
    } else {
        view_status(out, STATUS_NO_CONTACT, 0, HEALTH_MAJOR_FAILURE);
        out_bool(out, "Reachable", false);
        reachability(out, "does not answer", access_point->last_seen_ms, access_point->last_error);
    }
}

static int access_point_object(struct view *view, const void *row, struct out *out)
{
    const struct access_point_row *access_point = row;
    const char *secrets;
    int r = authentication(view, access_point->head.id, &secrets);

    if (r < 0) {
        return r;
    }
    out_begin_object(out, NULL);
    view_head(out, COLLECTION_ACCESS_POINTS, access_point->head.id);
    out_text(out, "Name", access_point->head.id);
    out_text(out, "ElementName", access_point->element_name);
    out_text(out, "AccessInfo", access_point->access_info);
    out_enum(out, "InfoFormat", &map_info_format, access_point->info_format);
    out_text(out, "Portal", access_point->address);
    out_ref(out, "System", view_collections[COLLECTION_SYSTEMS].path, access_point->system_id);
    access_point_reach(out, access_point);
    out_time(out, "LastSeen", access_point->last_seen_ms);
    out_time(out, "LastTried", access_point->last_tried_ms);
    out_text_or_null(out, "LastError", access_point->last_error);
    out_text(out, "Authentication", secrets);
    out_end_object(out);
    return 0;
}

static const struct view_filter access_point_filters[] = {
    {.name = "System", .column = "system_id", .kind = FILTER_PATH, .collection = "systems"},
    {.name = "ElementName", .column = "element_name", .kind = FILTER_TEXT},
    {.name = "AccessInfo", .column = "access_info", .kind = FILTER_TEXT},
};
const struct view_kind view_access_points = {
    .table = &access_point_table,
    .row = access_point_object,
    .filters = access_point_filters,
    .n_filters = ARRAY_LEN(access_point_filters),
};

/* Endpoints: our initiator ports, and the portals of peers as ends of pipes. */

static int endpoint_object(struct view *view, const void *row, struct out *out)
{
    const struct endpoint_row *endpoint = row;
    bool portal = endpoint->kind == ENDPOINT_PORTAL;
    struct access_point_row access_point = {.probed = false};
    int r = portal ? table_get(view->db, &access_point_table, endpoint->head.id, &access_point) : 0;

    if (r < 0) {
        return r;
    }
    out_begin_object(out, NULL);
    view_head(out, COLLECTION_ENDPOINTS, endpoint->head.id);
    out_text(out, "Name", endpoint->head.id);
    out_text(out, "ElementName", endpoint->element_name);
    out_enum(out, "Role", &map_endpoint_role, portal ? ROLE_TARGET : ROLE_INITIATOR);
    if (portal) {
        out_null(out, "Identifier"); /* a portal has no name, its targets have */
    } else {
        out_text(out, "Identifier", control_options(view->control)->initiator_name);
    }
    out_text_or_null(out, "Address", endpoint->address);
    /* iSCSI has no number of its own there. */
    out_enum(out, "ProtocolIFType", &map_protocol_if_type, PROTOCOL_OTHER);
    out_ref(out, "System", view_collections[COLLECTION_SYSTEMS].path, endpoint->system_id);
    if (portal && !access_point.probed) {
        view_status(out, STATUS_UNKNOWN, 0, HEALTH_UNKNOWN);
    } else if (portal && !access_point.reachable) {
        view_status(out, STATUS_NO_CONTACT, 0, HEALTH_MAJOR_FAILURE);
    } else {
        view_status(out, STATUS_OK, 0, HEALTH_OK);
    }
    out_end_object(out);
    return 0;
}

static const struct view_filter endpoint_filters[] = {
    {.name = "System", .column = "system_id", .kind = FILTER_PATH, .collection = "systems"},
};
const struct view_kind view_endpoints = {
    .table = &endpoint_table,
    .row = endpoint_object,
    .filters = endpoint_filters,
    .n_filters = ARRAY_LEN(endpoint_filters),
};
