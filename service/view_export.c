// SPDX-License-Identifier: Apache-2.0
/* Exports: targets of ours, their LUNs, who may log in and who is. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "service/exports.h"
#include "service/portals.h"
#include "service/view_maps.h"
#include "service/view_parts.h"
#include "store/export.h"
#include "store/system.h"

enum { ACCESS_READ_WRITE = 2, ACCESS_READ_ONLY = 3 };

struct lun_list {
    const struct export_row *export;
    const char *portal;
    struct out *out;
};

static int lun_listed(void *arg, const void *found)
{
    const struct export_lun_row *lun = found;
    const struct lun_list *list = arg;
    struct out *out = list->out;
    char number[16];
    char url[3 * NAME_SIZE];

    snprintf(number, sizeof(number), "%u", lun->number);
    out_begin_object(out, NULL);
    out_ref(out, "LogicalUnit", view_collections[COLLECTION_VOLUMES].path, lun->volume_id);
    out_text(out, "DeviceNumber", number);
    out_enum(out, "DeviceAccess", &map_device_access,
             lun->read_only ? ACCESS_READ_ONLY : ACCESS_READ_WRITE);
    if (list->portal[0] == '\0') {
        out_null(out, "Url");
    } else {
        snprintf(url, sizeof(url), "iscsi://%s/%s/%s", list->portal, list->export->iqn, number);
        out_text(out, "Url", url);
    }
    out_end_object(out);
    return 0;
}

struct initiator_list {
    struct out *out;
    uint64_t n;
};

static int initiator_listed(void *arg, const void *found)
{
    const struct export_initiator_row *row = found;
    struct initiator_list *list = arg;

    out_text(list->out, NULL, row->initiator);
    list->n++;
    return 0;
}

struct chap {
    bool one_way;
    bool mutual;
};

static int secret_seen(void *arg, const void *found)
{
    const struct secret_row *secret = found;
    struct chap *chap = arg;

    if (strcmp(secret->protocol, PORTAL_CHAP) == 0) {
        chap->one_way = true;
    } else {
        chap->mutual = true;
    }
    return 0;
}

static void session_listed(void *arg, const struct target_session *session)
{
    out_text(arg, NULL, session->initiator);
}

static void alias_listed(void *arg, const struct target_session *session)
{
    out_text_or_null(arg, NULL, session->alias);
}

static int export_properties(struct view *view, const struct export_row *row, struct out *out)
{
    const struct condition of_export[] = {WHERE_TEXT("export_id", row->head.id), WHERE_END};
    const struct condition secrets[] = {WHERE_TEXT("access_point_id", row->head.id), WHERE_END};
    struct lun_list luns = {row, exports_advertised(view->control), out};
    struct initiator_list initiators = {.out = out};
    struct chap chap = {0};

    view_head(out, COLLECTION_EXPORTS, row->head.id);
    out_text(out, "DeviceID", row->head.id);
    out_text(out, "ElementName", row->element_name);
    out_text(out, "Name", row->iqn);
    out_ref(out, "System", view_collections[COLLECTION_SYSTEMS].path, SYSTEM_LOCAL);
    out_ref(out, "OwnedBy", view_collections[COLLECTION_VOLUMES].path, row->own_volume_id);
    out_text_or_null(out, "Portal", luns.portal);
    out_begin_array(out, "LogicalUnits");
    int r = table_each(view->db, &export_lun_table, of_export, 0, 0, lun_listed, &luns);
    out_end_array(out);
    out_bool(out, "AllInitiators", row->all_initiators);
    out_begin_array(out, "Initiators");
    if (r == 0) {
        r = table_each(view->db, &export_initiator_table, of_export, 0, 0, initiator_listed,
                       &initiators);
    }
    out_end_array(out);
    if (r == 0) {
        r = table_each(view->db, &secret_table, secrets, 0, 0, secret_seen, &chap);
    }
    out_text(out, "Authentication", !chap.one_way ? "None" : chap.mutual ? "CHAP-Mutual" : "CHAP");
    out_bool(out, "Served",
             luns.portal[0] != '\0' &&
                 export_may_be_served(view->control, row, initiators.n, chap.one_way));
    out_begin_array(out, "Sessions");
    exports_sessions(view->control, row->head.id, session_listed, out);
    out_end_array(out);
    out_begin_array(out, "SessionAliases");
    exports_sessions(view->control, row->head.id, alias_listed, out);
    out_end_array(out);
    view_status(out, STATUS_OK, 0, HEALTH_OK);
    view->moving = true; /* sessions are in no record */
    return r;
}

static int export_object(struct view *view, const void *row, struct out *out)
{
    out_begin_object(out, NULL);
    int r = export_properties(view, row, out);
    out_end_object(out);
    return r;
}

static const struct view_filter export_filters[] = {
    {.name = "ElementName", .column = "element_name", .kind = FILTER_TEXT},
    {.name = "Name", .column = "iqn", .kind = FILTER_TEXT},
    {.name = "OwnedBy", .column = "own_volume_id", .kind = FILTER_PATH, .collection = "volumes"},
};
const struct view_kind view_exports = {
    .table = &export_table,
    .row = export_object,
    .filters = export_filters,
    .n_filters = ARRAY_LEN(export_filters),
};
