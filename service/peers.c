// SPDX-License-Identifier: Apache-2.0
/*
 * Peers by hand: access points, the systems that they make, and secrets for them (docs/decisions.md
 * 7, 8, 10). Nothing here dials; reachability.c and discovery.c do.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "service/control.h"
#include "service/enums.h"
#include "service/exports.h"
#include "service/handlers.h"
#include "service/network.h"
#include "service/paths.h"
#include "service/pipes.h"
#include "service/portals.h"
#include "service/volumes.h"

#define INITIATOR_PATH "/endpoints/initiator"

enum { PEERS_REACHABLE = 2, PEERS_ACCESS_POINTS = 3 };

static int refuse_namespace(struct call *call)
{
    if (!args_present(call->args, "InstanceNamespace")) {
        return 0;
    }
    return call_fail_param(call, ERR_INVALID_PARAMETER, "InstanceNamespace",
                           "There is one namespace only; leave InstanceNamespace out.");
}

/* ---- AddServiceAccessPoint ---- */

static int check_info_format(struct call *call, const struct portal *portal, uint32_t given)
{
    /* A name with dots is a host name, too. */
    bool fits = given == portal->info_format ||
                (given == PORTAL_INFO_HOST_NAME && portal->info_format == PORTAL_INFO_FQDN);

    if (fits) {
        return 0;
    }
    return call_fail_param(
        call, ERR_INVALID_PARAMETER, "ServiceAccessPoint.InfoFormat",
        "InfoFormat is %u (%s), but AccessInfo is %u (%s). Leave InfoFormat out, "
        "or say what AccessInfo is.",
        given, enum_text(&map_info_format, given), portal->info_format,
        enum_text(&map_info_format, portal->info_format));
}

/* The id of the system that SystemName names, "" when it names none. */
static int system_of(struct call *call, const struct values *instance, char ret_id[ID_SIZE])
{
    static const char parameter[] = "ServiceAccessPoint.SystemName";
    const char *path = args_text(instance, "SystemName");
    struct system_row system;

    ret_id[0] = '\0';
    if (path == NULL) {
        return 0;
    }
    int r = path_system(call, parameter, path, &system);

    if (r < 0) {
        return r;
    }
    if (system.local) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, parameter,
                               "/systems/%s is smirror itself; an access point belongs to a peer. "
                               "Leave SystemName out to make a new one.",
                               system.head.id);
    }
    memcpy(ret_id, system.head.id, ID_SIZE);
    return 0;
}

static int known_access_point(struct call *call, const char *system_id,
                              struct access_point_row *row)
{
    if (system_id[0] != '\0' && strcmp(system_id, row->system_id) != 0) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, "ServiceAccessPoint.SystemName",
                               "%s is known as /accesspoints/%s and belongs to /systems/%s. Delete "
                               "that access point first to give it to another system.",
                               row->address, row->head.id, row->system_id);
    }
    if (!row->registered) {
        row->registered = true;
        int r = table_update(call->db, &access_point_table, row);

        if (r < 0) {
            return call_fail_store(call, r);
        }
    }
    return 0;
}

int method_add_service_access_point(struct call *call)
{
    const struct values *instance = args_instance(call->args, "ServiceAccessPoint");
    const char *text = args_text(instance, "AccessInfo");
    const char *name = args_text(instance, "ElementName");
    char access_info[NAME_SIZE];
    char element_name[NAME_SIZE];
    char system_id[ID_SIZE];
    struct portal portal;
    struct access_point_row row;
    const char *why;
    int r = refuse_namespace(call);

    if (r < 0) {
        return r;
    }
    if (text == NULL) {
        return call_fail_param(call, ERR_MISSING_PARAMETER, "ServiceAccessPoint.AccessInfo",
                               "AccessInfo is missing: HOST[:PORT] or iscsi://HOST[:PORT] of the "
                               "portal.");
    }
    if (portal_parse(text, &portal, &why) < 0) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, "ServiceAccessPoint.AccessInfo",
                               "AccessInfo is no iSCSI portal: %s. Examples: 192.0.2.10, "
                               "192.0.2.10:3260, [2001:db8::1]:3260, iscsi://array.example.",
                               why);
    }
    r = text_take(call, "ServiceAccessPoint.AccessInfo", text, access_info, sizeof(access_info));
    if (r == 0) {
        r = name != NULL ? text_take(call, "ServiceAccessPoint.ElementName", name, element_name,
                                       ELEMENT_NAME_MAX + 1)
                         : text_take(call, "ServiceAccessPoint.AccessInfo", text, element_name,
                                     sizeof(element_name));
    }
    if (r == 0 && args_present(instance, "InfoFormat")) {
        r = check_info_format(call, &portal, (uint32_t)args_number(instance, "InfoFormat", 0));
    }
    if (r == 0) {
        r = system_of(call, instance, system_id);
    }
    if (r < 0) {
        return r;
    }
    if (portal.numeric) {
        struct error error;

        if (network_address_allowed(control_network(call->control),
                                    (const struct sockaddr *)&portal.sockaddr, &error) < 0) {
            return call_fail_param(call, error.code, "ServiceAccessPoint.AccessInfo", "%s",
                                   error.detail);
        }
    }
    r = portal_find(call->db, portal.address, &row);
    if (r == 0) {
        r = known_access_point(call, system_id, &row);
    } else if (r == -ENOENT) {
        r = portal_add(call, &portal, access_info, element_name, system_id, true, &row);
    } else {
        r = call_fail_store(call, r);
    }
    if (r == 0) {
        outs_path(call->outs, "ServiceAccessPointPath", "/accesspoints/%s", row.head.id);
    }
    return r;
}

/* ---- AddSharedSecret ---- */

static int take_secret_text(struct call *call, const struct values *instance, const char *name,
                            char *ret_text, size_t size)
{
    char parameter[48];
    const char *text = args_text(instance, name);

    snprintf(parameter, sizeof(parameter), "SharedSecret.%s", name);
    if (text == NULL) {
        return call_fail_param(call, ERR_MISSING_PARAMETER, parameter,
                               "%s is missing: RemoteID is the user name, Secret the secret.",
                               parameter);
    }
    return text_take(call, parameter, text, ret_text, size);
}

/* For a target of ours: RFC 7143, 12.1.3, wants 96 bits. The algorithm is agreed upon in the login. */
enum { SECRET_MIN = 12 };

static int check_own_secret(struct call *call, const struct values *instance,
                            const struct secret_row *row)
{
    if (args_present(instance, "Algorithm")) {
        return call_fail_param(call, ERR_BAD_VALUE, "SharedSecret.Algorithm",
                               "For a target of ours the login agrees on the algorithm (option "
                               "--iscsi-chap says which may be used); leave Algorithm out.");
    }
    if (strlen(row->secret) < SECRET_MIN) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, "SharedSecret.Secret",
                               "The secret of a target has at least %d bytes.", SECRET_MIN);
    }
    return 0;
}

static int take_algorithm(struct call *call, const struct values *instance, struct secret_row *row)
{
    const char *text = args_text(instance, "Algorithm");

    if (text != NULL && strcasecmp(text, "MD5") != 0) {
        return call_fail_param(call, ERR_BAD_VALUE, "SharedSecret.Algorithm",
                               "Algorithm %.40s is not supported; this build speaks MD5. Leave "
                               "Algorithm out to let the login choose.",
                               text);
    }
    snprintf(row->algorithm, sizeof(row->algorithm), "%s", text == NULL ? "" : "MD5");
    return 0;
}

static int take_protocol(struct call *call, const struct values *instance, struct secret_row *row)
{
    const char *text = args_text(instance, "Protocol");

    if (text == NULL || strcasecmp(text, PORTAL_CHAP) == 0) {
        snprintf(row->protocol, sizeof(row->protocol), PORTAL_CHAP);
    } else if (strcasecmp(text, PORTAL_CHAP_MUTUAL) == 0) {
        snprintf(row->protocol, sizeof(row->protocol), PORTAL_CHAP_MUTUAL);
    } else {
        return call_fail_param(call, ERR_BAD_VALUE, "SharedSecret.Protocol",
                               "Protocol is CHAP (what we answer with; null is the same) or "
                               "CHAP-Mutual (what the target must answer with), not %.40s.",
                               text);
    }
    return 0;
}

struct secret_siblings {
    const struct secret_row *row;
    char replaced_id[ID_SIZE];
    bool same_as_other;
};

static int secret_sibling(void *arg, const void *found)
{
    const struct secret_row *other = found;
    struct secret_siblings *siblings = arg;

    if (strcmp(other->protocol, siblings->row->protocol) == 0) {
        memcpy(siblings->replaced_id, other->head.id, ID_SIZE);
    } else if (strcmp(other->secret, siblings->row->secret) == 0) {
        siblings->same_as_other = true;
    }
    return 0;
}

static int store_secret(struct call *call, struct secret_row *row)
{
    struct secret_siblings siblings = {.row = row};
    struct condition where[] = {WHERE_TEXT("access_point_id", row->access_point_id), WHERE_END};
    int r = table_each(call->db, &secret_table, where, 0, 0, secret_sibling, &siblings);

    if (r == 0 && siblings.same_as_other && row->access_point_id[0] != '\0') {
        return call_fail_param(call, ERR_INVALID_PARAMETER, "SharedSecret.Secret",
                               "The secrets of the two directions must differ (RFC 7143, 9.2.1), "
                               "or a false target could send our own answer back to us.");
    }
    if (r == 0 && siblings.replaced_id[0] != '\0') {
        r = table_delete(call->db, &secret_table, siblings.replaced_id);
    }
    if (r == 0) {
        r = table_insert(call->db, &secret_table, row);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

int method_add_shared_secret(struct call *call)
{
    const struct values *instance = args_instance(call->args, "SharedSecret");
    const char *path = args_text(call->args, "ServiceAccessPoint");
    struct secret_row row = {.created_ms = control_now_ms(call->control)};
    struct access_point_row access_point = {0};
    struct export_row export = {0};
    bool own = path != NULL && strncmp(path, "/exports/", 9) == 0;
    int r = refuse_namespace(call);

    if (r == 0) {
        r = take_secret_text(call, instance, "RemoteID", row.remote_id, ISCSI_CHAP_SIZE);
    }
    if (r == 0) {
        r = take_secret_text(call, instance, "Secret", row.secret, ISCSI_CHAP_SIZE);
    }
    if (r == 0) {
        r = take_protocol(call, instance, &row);
    }
    if (own) {
        if (r == 0) {
            r = check_own_secret(call, instance, &row);
        }
        if (r == 0) {
            r = path_export(call, "ServiceAccessPoint", path, &export);
            memcpy(row.access_point_id, export.head.id, sizeof(row.access_point_id));
        }
    } else {
        if (r == 0) {
            r = take_algorithm(call, instance, &row);
        }
        if (r == 0 && path != NULL) {
            r = path_access_point(call, "ServiceAccessPoint", path, &access_point);
            memcpy(row.access_point_id, access_point.head.id, sizeof(row.access_point_id));
        }
    }
    if (r == 0) {
        r = store_secret(call, &row);
    }
    if (r == 0 && own) {
        export_changed(call, row.access_point_id);
    }
    explicit_bzero(&row, sizeof(row));
    return r;
}

/* ---- GetPeerSystems, GetServiceAccessPoints ---- */

struct peer_list {
    struct call *call;
    uint32_t options;
    const struct system_row *system;
    bool reachable;
};

static int peer_portal_reachable(void *arg, const void *row)
{
    const struct access_point_row *portal = row;
    struct peer_list *list = arg;

    list->reachable = list->reachable || (portal->probed && portal->reachable);
    return 0;
}

static int peer_portal_listed(void *arg, const void *row)
{
    const struct access_point_row *portal = row;
    struct peer_list *list = arg;
    struct values *outs = list->call->outs;
    char path[PATH_SIZE];

    snprintf(path, sizeof(path), "/systems/%s", portal->system_id);
    outs_add_text(outs, "Systems", path);
    outs_add_text(outs, "LocalAccessPoints", INITIATOR_PATH);
    snprintf(path, sizeof(path), "/accesspoints/%s", portal->head.id);
    outs_add_text(outs, "RemoteAccessPoints", path);
    return 0;
}

static int peer_listed(void *arg, const void *row)
{
    const struct system_row *system = row;
    struct peer_list *list = arg;
    struct call *call = list->call;
    struct condition where[] = {WHERE_TEXT("system_id", system->head.id), WHERE_END};
    char path[PATH_SIZE];

    if (system->local) {
        return 0;
    }
    if (list->options != 0) {
        list->reachable = false;
        int r = table_each(call->db, &access_point_table, where, 0, 0, peer_portal_reachable, list);

        if (r < 0 || !list->reachable) {
            return r;
        }
    }
    if (list->options == PEERS_ACCESS_POINTS) {
        return table_each(call->db, &access_point_table, where, 0, 0, peer_portal_listed, list);
    }
    snprintf(path, sizeof(path), "/systems/%s", system->head.id);
    outs_add_text(call->outs, "Systems", path);
    return 0;
}

int method_get_peer_systems(struct call *call)
{
    struct peer_list list = {
        .call = call,
        .options = (uint32_t)args_number(call->args, "Options", 0),
    };

    outs_array(call->outs, "Systems");
    if (list.options == PEERS_ACCESS_POINTS) {
        outs_array(call->outs, "LocalAccessPoints");
        outs_array(call->outs, "RemoteAccessPoints");
    }
    int r = table_each(call->db, &system_table, NULL, 0, 0, peer_listed, &list);

    return r < 0 ? call_fail_store(call, r) : 0;
}

static int access_point_listed(void *arg, const void *row)
{
    const struct access_point_row *portal = row;
    struct call *call = arg;
    char path[PATH_SIZE];

    snprintf(path, sizeof(path), "/accesspoints/%s", portal->head.id);
    outs_add_text(call->outs, "ServiceAccessPoints", path);
    return 0;
}

int method_get_service_access_points(struct call *call)
{
    struct system_row system;
    int r = path_system(call, "System", args_text(call->args, "System"), &system);

    if (r < 0) {
        return r;
    }
    outs_array(call->outs, "ServiceAccessPoints");
    if (system.local) {
        outs_add_text(call->outs, "ServiceAccessPoints", INITIATOR_PATH);
        return 0;
    }
    struct condition where[] = {WHERE_TEXT("system_id", system.head.id), WHERE_END};

    r = table_each(call->db, &access_point_table, where, 0, 0, access_point_listed, call);
    return r < 0 ? call_fail_store(call, r) : 0;
}

/* ---- DELETE /accesspoints/{id} ---- */

int method_delete_access_point(struct call *call)
{
    struct access_point_row row;
    struct volume_row volume;
    int r = table_get(call->db, &access_point_table, call->object_id, &row);

    if (r == -ENOENT) {
        return call_fail(call, ERR_NOT_FOUND,
                         "There is no /accesspoints/%s. GET /accesspoints lists what there is.",
                         call->object_id);
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    struct condition where[] = {WHERE_TEXT("access_point_id", row.head.id), WHERE_END};

    r = pipe_check_access_point(call, row.head.id);
    if (r < 0) {
        return r;
    }
    r = table_find(call->db, &volume_table, where, &volume);
    if (r == 0) {
        char blocked_on[PATH_SIZE];

        snprintf(blocked_on, sizeof(blocked_on), "/volumes/%s", volume.head.id);
        return call_fail_blocked(call, ERR_CONFLICT, blocked_on,
                                 "%s and perhaps others are reached by this portal. Forget them "
                                 "first (DELETE %s).",
                                 blocked_on, blocked_on);
    }
    return r == -ENOENT ? portal_forget(call, &row) : call_fail_store(call, r);
}
