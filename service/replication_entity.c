// SPDX-License-Identifier: Apache-2.0
/* AddReplicationEntity: one LUN by its URL, looked at and recorded; its portal becomes known with it. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "service/discovery.h"
#include "service/enums.h"
#include "service/found_lun.h"
#include "service/handlers.h"
#include "service/network.h"
#include "service/volumes.h"

enum { ENTITY_URI = 8 };

struct question {
    struct discovery discovery; /* first */
    struct lun_url url;
    bool persistent;
    char element_name[NAME_SIZE];
};

static int entity_failed(struct call *call, const struct lun_url *url, const struct error *error)
{
    static const char parameter[] = "ReplicationEntity.EntityID";

    if (error->code == ERR_SCAN_NO_TARGET || error->code == ERR_SCAN_NO_LU) {
        return call_fail_param(call, ERR_NO_SUCH_OBJECT, parameter,
                               "There is no LUN %" PRIu64 " of %.200s at %.80s: %.150s", url->lun,
                               url->target, url->portal.address, error->detail);
    }
    return call_fail_param(call, error->code, parameter, "%s", error->detail);
}

static int entity_record(struct call *call, const struct question *question)
{
    const struct scan *scan = question->discovery.scan;
    struct access_point_row portal;
    struct volume_row volume;
    struct found_lun found = {
        .portal = &portal,
        .iqn = question->url.target,
        .lun = question->url.lun,
        .info = &scan->luns[0].info,
        .persistent = question->persistent,
        .meant = true,
        .element_name = question->element_name[0] == '\0' ? NULL : question->element_name,
    };
    int r = portal_find(call->db, question->url.portal.address, &portal);

    if (r == -ENOENT) {
        /* The same LUN behind a portal of another name needs no second system. */
        r = found_lun_elsewhere(call->db, found.iqn, found.lun, found.info->identity, &volume);
        if (r == 0) {
            r = table_get(call->db, &access_point_table, volume.access_point_id, &portal);
            r = r < 0 ? call_fail_store(call, r) : 0;
        } else if (r == -ENOENT) {
            const char *address = question->url.portal.address;

            r = portal_add(call, &question->url.portal, address, address, "", false, &portal);
            if (r == 0) {
                r = portal_seen(call, portal.head.id, NULL, control_now_ms(call->control));
            }
        } else {
            r = call_fail_store(call, r);
        }
    } else if (r == 0) {
        r = portal_seen(call, portal.head.id, NULL, control_now_ms(call->control));
    } else {
        r = call_fail_store(call, r);
    }
    if (r == 0) {
        r = found_lun_record(call, &found, &volume);
    }
    if (r == 1) {
        found_lun_problem_later(call, &volume);
        return call_fail_param(call, ERR_LUN_CHANGED, "ReplicationEntity.EntityID",
                               "/volumes/%s was registered as another LUN and is in use: %s. End "
                               "what uses it, or put the LUN right, and try again.",
                               volume.head.id, volume.problem);
    }
    if (r == 0) {
        outs_path(call->outs, "ReplicationEntityPath", "/volumes/%s", volume.head.id);
    }
    return r;
}

static int entity_second_half(struct call *call)
{
    struct question *question = call->step_state;
    struct scan *scan = question->discovery.scan;
    const struct scan_portal *portal = &scan->portals[0];
    int r;

    if (portal->error.code != ERR_NONE) {
        portal_seen_later(call->control, &portal->row, &portal->error);
        r = entity_failed(call, &question->url, &portal->error);
    } else if (scan->luns[0].error.code != ERR_NONE) {
        if (scan->luns[0].error.code == ERR_REMOTE_UNREACHABLE) {
            portal_seen_later(call->control, &portal->row, &scan->luns[0].error);
        }
        r = entity_failed(call, &question->url, &scan->luns[0].error);
    } else {
        r = entity_record(call, question);
    }
    scan_free(scan);
    return r;
}

static int entity_parameters(struct call *call, struct question *question)
{
    const struct values *instance = args_instance(call->args, "ReplicationEntity");
    const char *text = args_text(instance, "EntityID");
    const char *name = args_text(instance, "ElementName");
    const char *why;

    if (args_present(call->args, "InstanceNamespace")) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, "InstanceNamespace",
                               "There is one namespace only; leave InstanceNamespace out.");
    }
    if (!args_present(instance, "Type")) {
        return call_fail_param(call, ERR_MISSING_PARAMETER, "ReplicationEntity.Type",
                               "Type is missing: 8 (URI), with a URL as EntityID.");
    }
    uint32_t type = (uint32_t)args_number(instance, "Type", 0);

    if (type != ENTITY_URI) {
        return call_fail_param(call, ERR_NOT_SUPPORTED, "ReplicationEntity.Type",
                               "Type %u (%s) is not supported; give 8 (URI) and the URL of the LUN "
                               "as EntityID.",
                               type, enum_text(&map_entity_type, type));
    }
    if (text == NULL) {
        return call_fail_param(call, ERR_MISSING_PARAMETER, "ReplicationEntity.EntityID",
                               "EntityID is missing: iscsi://HOST[:PORT]/TARGET-NAME/LUN.");
    }
    if (lun_url_parse(text, &question->url, &why) < 0) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, "ReplicationEntity.EntityID",
                               "EntityID is not the URL of a LUN: %s. Example: "
                               "iscsi://192.0.2.10:3260/iqn.2001-04.com.example:orders/1.",
                               why);
    }
    if (name != NULL) {
        int r = text_take(call, "ReplicationEntity.ElementName", name, question->element_name,
                          ELEMENT_NAME_MAX + 1);

        if (r < 0) {
            return r;
        }
    }
    question->persistent = args_bool(call->args, "Persistent", true);
    return 0;
}

int method_add_replication_entity(struct call *call)
{
    struct question *question = arena_alloc(&call->arena, sizeof(*question));
    const struct portal *portal = &question->url.portal;
    struct access_point_row row = {0};
    struct error error;
    int r = entity_parameters(call, question);

    if (r < 0) {
        return r;
    }
    if (portal->numeric &&
        network_address_allowed(control_network(call->control),
                                (const struct sockaddr *)&portal->sockaddr, &error) < 0) {
        return entity_failed(call, &question->url, &error);
    }
    r = portal_find(call->db, portal->address, &row);
    if (r < 0 && r != -ENOENT) {
        return call_fail_store(call, r);
    }
    memcpy(row.address, portal->address, sizeof(row.address));
    question->discovery.scan = scan_new(SCAN_ONE);
    question->discovery.second_half = entity_second_half;
    scan_add_name(question->discovery.scan, question->url.target);
    scan_add_number(question->discovery.scan, question->url.lun);
    if (r == -ENOENT) {
        scan_add_portal(question->discovery.scan, &row);
        r = 0;
    } else {
        r = discovery_add_portal(call, question->discovery.scan, &row, true);
    }
    if (r == 0 && question->discovery.scan->portals[0].error.code != ERR_NONE) {
        r = entity_failed(call, &question->url, &question->discovery.scan->portals[0].error);
    }
    if (r < 0) {
        scan_free(question->discovery.scan);
        return r;
    }
    return discovery_ask(call, &question->discovery);
}
