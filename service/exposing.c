// SPDX-License-Identifier: Apache-2.0
/*
 * ExposePaths and HidePaths: the LUNs of targets, and who may log in to them.
 *
 * A target (export) is found by ProtocolControllers, by TargetPortIDs (its name), or it is the own
 * one of the volume when there is one volume only; otherwise ExposePaths makes a new one.
 * Initiators and CHAP secrets are a target's, for all of its LUNs.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/control.h"
#include "service/enums.h"
#include "service/exports.h"
#include "service/handlers.h"
#include "service/paths.h"
#include "service/volumes.h"
#include "target/access.h"

enum { INITIATORS_MAX = 1024, PARAMETER_SIZE = 40, ACCESS_READ_ONLY = 3, ACCESS_READ_WRITE = 2 };

/* What a call names. */
struct paths {
    struct call *call;
    struct volume_row *volumes;
    size_t n_volumes;
    char (*initiators)[NAME_SIZE]; /* small letters; "" every initiator */
    size_t n_initiators;
    const char *iqn; /* of TargetPortIDs, or NULL */
    struct export_row export;
    bool found;   /* the export is there */
    bool changed; /* something is not as it was */
};

static void item_name(char ret_name[PARAMETER_SIZE], const char *parameter, size_t index)
{
    snprintf(ret_name, PARAMETER_SIZE, "%s[%zu]", parameter, index);
}

static const char *item_text(const struct value *array, size_t index)
{
    return array->items[index].present ? array->items[index].text : "";
}

/* ---- what is named ---- */

static int volume_by_name(struct call *call, const char *parameter, const char *text,
                          struct volume_row *ret_row)
{
    struct condition where[] = {WHERE_TEXT("identity", text), WHERE_END};
    char collection[16];
    char id[ID_SIZE];
    int r;

    if (path_split(text, collection, sizeof(collection), id) == 0 &&
        strcmp(collection, "volumes") == 0) {
        r = table_get(call->db, &volume_table, id, ret_row);
    } else {
        r = table_find(call->db, &volume_table, where, ret_row);
    }
    if (r == -ENOENT) {
        return call_fail_param(
            call, ERR_EXPOSE_LUN, parameter,
            "%s: %.100s is no volume. A path (/volumes/{id}) or a name (naa.…) of "
            "VPD page 83h is wanted; GET /volumes lists what there is.",
            parameter, text);
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    if (ret_row->kind != VOLUME_HOSTED) {
        return call_fail_param(
            call, ERR_EXPOSE_LUN, parameter,
            "%s: /volumes/%s is a LUN of another system, which serves it itself. "
            "Only volumes of file pools can be exposed here.",
            parameter, ret_row->head.id);
    }
    return 0;
}

static int take_volumes(struct paths *paths)
{
    struct call *call = paths->call;
    const struct value *given = values_get(call->args, "LogicalUnits");
    char parameter[PARAMETER_SIZE];
    size_t n = given->present ? given->n_items : 0;
    int r = 0;

    if (n > TARGET_MAX_LUNS) {
        return call_fail_param(call, ERR_EXPOSE_MAXIMUM, "LogicalUnits",
                               "A target has at most %d LUNs.", TARGET_MAX_LUNS);
    }
    paths->volumes = arena_alloc(&call->arena, (n + 1) * sizeof(*paths->volumes));
    for (size_t i = 0; r == 0 && i < n; i++) {
        item_name(parameter, "LogicalUnits", i);
        r = volume_by_name(call, parameter, item_text(given, i), &paths->volumes[i]);
        for (size_t k = 0; r == 0 && k < i; k++) {
            if (strcmp(paths->volumes[k].head.id, paths->volumes[i].head.id) == 0) {
                r = call_fail_param(call, ERR_EXPOSE_LUN, parameter,
                                    "%s: /volumes/%s is named twice.", parameter,
                                    paths->volumes[i].head.id);
            }
        }
    }
    paths->n_volumes = n;
    return r;
}

/* Names of nodes are the same in large and small letters (RFC 7143, 4.2.7.2). */
static int take_initiators(struct paths *paths)
{
    struct call *call = paths->call;
    const struct value *given = values_get(call->args, "InitiatorPortIDs");
    size_t n = given->present ? given->n_items : 0;
    char parameter[PARAMETER_SIZE];

    if (n > INITIATORS_MAX) {
        return call_fail_param(call, ERR_EXPOSE_MAXIMUM, "InitiatorPortIDs",
                               "A target has at most %d initiators.", INITIATORS_MAX);
    }
    paths->initiators = arena_alloc(&call->arena, (n + 1) * sizeof(*paths->initiators));
    for (size_t i = 0; i < n; i++) {
        const char *text = item_text(given, i);

        if (text[0] != '\0' && !access_name_is_valid(text)) {
            item_name(parameter, "InitiatorPortIDs", i);
            return call_fail_param(
                call, ERR_EXPOSE_INITIATOR, parameter,
                "%s: '%.100s' is no name of an iSCSI node (iqn.…, eui.…, naa.…). "
                "An empty text stands for every initiator.",
                parameter, text);
        }
        for (size_t k = 0; text[k] != '\0'; k++) {
            paths->initiators[i][k] = (char)tolower((unsigned char)text[k]);
        }
    }
    paths->n_initiators = n;
    return 0;
}

static int take_target_port(struct paths *paths)
{
    struct call *call = paths->call;
    const struct value *given = values_get(call->args, "TargetPortIDs");

    if (!given->present || given->n_items == 0) {
        return 0;
    }
    if (given->n_items > 1) {
        return call_fail_param(call, ERR_EXPOSE_TARGET, "TargetPortIDs",
                               "TargetPortIDs is the name of one target.");
    }
    const char *text = item_text(given, 0);

    if (!access_name_is_valid(text)) {
        return call_fail_param(call, ERR_EXPOSE_TARGET, "TargetPortIDs[0]",
                               "TargetPortIDs[0]: '%.100s' is no name of an iSCSI target "
                               "(iqn.YYYY-MM.DOMAIN:NAME).",
                               text);
    }
    char *iqn = arena_strdup(&call->arena, text);

    for (char *c = iqn; *c != '\0'; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    paths->iqn = iqn;
    return 0;
}

/* ---- the target ---- */

static int find_by_iqn(struct paths *paths)
{
    struct condition where[] = {WHERE_TEXT("iqn", paths->iqn), WHERE_END};
    int r = table_find(paths->call->db, &export_table, where, &paths->export);

    paths->found = r == 0;
    return r < 0 && r != -ENOENT ? call_fail_store(paths->call, r) : 0;
}

static int find_own(struct paths *paths, const struct volume_row *volume)
{
    int r = table_get(paths->call->db, &export_table, volume->head.id, &paths->export);

    paths->found = r == 0;
    return r < 0 && r != -ENOENT ? call_fail_store(paths->call, r) : 0;
}

static int find_export(struct paths *paths)
{
    struct call *call = paths->call;
    const struct value *given = values_get(call->args, "ProtocolControllers");

    if (given->present && given->n_items > 1) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, "ProtocolControllers",
                               "One target at a time: ProtocolControllers has %zu.",
                               given->n_items);
    }
    if (given->present && given->n_items == 1) {
        int r = path_export(call, "ProtocolControllers[0]", item_text(given, 0), &paths->export);

        paths->found = r == 0;
        if (r == 0 && paths->iqn != NULL && strcmp(paths->iqn, paths->export.iqn) != 0) {
            r = call_fail_param(call, ERR_EXPOSE_TARGET, "TargetPortIDs[0]",
                                "/exports/%s is %.230s; a target keeps its name.",
                                paths->export.head.id, paths->export.iqn);
        }
        return r;
    }
    if (paths->iqn != NULL) {
        return find_by_iqn(paths);
    }
    return paths->n_volumes == 1 ? find_own(paths, &paths->volumes[0]) : 0;
}

static int take_paths(struct paths *paths, struct call *call)
{
    *paths = (struct paths){.call = call};
    int r = take_volumes(paths);

    if (r == 0) {
        r = take_initiators(paths);
    }
    if (r == 0) {
        r = take_target_port(paths);
    }
    return r == 0 ? find_export(paths) : r;
}

static int load_luns(struct call *call, const char *export_id, struct export_lun_row **ret_rows,
                     size_t *ret_n)
{
    struct condition where[] = {WHERE_TEXT("export_id", export_id), WHERE_END};
    void *rows;
    int r = table_load(call->db, &export_lun_table, where, &rows, ret_n);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    *ret_rows = arena_alloc(&call->arena, (*ret_n + 1) * sizeof(**ret_rows));
    if (*ret_n > 0) {
        memcpy(*ret_rows, rows, *ret_n * sizeof(**ret_rows));
    }
    free(rows);
    return 0;
}

static struct export_lun_row *lun_of(struct export_lun_row *luns, size_t n, const char *volume_id)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(luns[i].volume_id, volume_id) == 0) {
            return &luns[i];
        }
    }
    return NULL;
}

/* ---- ExposePaths ---- */

static int export_make(struct paths *paths)
{
    struct call *call = paths->call;
    struct export_row *row = &paths->export;

    *row = (struct export_row){.all_initiators = true, .created_ms = control_now_ms(call->control)};
    store_new_id(row->head.id);
    if (paths->iqn != NULL) {
        strcpy(row->iqn, paths->iqn);
    } else {
        snprintf(row->iqn, sizeof(row->iqn), EXPORTS_IQN_PREFIX "%s", row->head.id);
    }
    text_cut(row->iqn, row->element_name, sizeof(row->element_name));
    int r = table_insert(call->db, &export_table, row);

    paths->found = r == 0;
    paths->changed = true;
    return r < 0 ? call_fail_store(call, r) : 0;
}

/* Hexadecimal with 0x in front, else decimal. */
static int take_number(struct call *call, size_t index, uint32_t *ret_number)
{
    const char *text = item_text(values_get(call->args, "DeviceNumbers"), index);
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    char parameter[PARAMETER_SIZE];
    char *end;

    errno = 0;
    unsigned long number = strtoul(text, &end, hex ? 16 : 10);

    if (!isxdigit((unsigned char)text[0]) || *end != '\0' || errno != 0 ||
        number >= TARGET_MAX_LUNS) {
        item_name(parameter, "DeviceNumbers", index);
        return call_fail_param(
            call, ERR_INVALID_PARAMETER, parameter,
            "%s: '%.40s' is no number of a LUN: 0 to %d, decimal, or hexadecimal "
            "with 0x in front.",
            parameter, text, TARGET_MAX_LUNS - 1);
    }
    *ret_number = (uint32_t)number;
    return 0;
}

static int next_number(struct call *call, const bool used[TARGET_MAX_LUNS], uint32_t *ret_number)
{
    for (uint32_t i = 0; i < TARGET_MAX_LUNS; i++) {
        if (!used[i]) {
            *ret_number = i;
            return 0;
        }
    }
    return call_fail_param(call, ERR_EXPOSE_MAXIMUM, "LogicalUnits",
                           "The target has all the %d LUNs that it can have.", TARGET_MAX_LUNS);
}

static int lun_add(struct paths *paths, size_t index, bool used[TARGET_MAX_LUNS])
{
    struct call *call = paths->call;
    const struct value *accesses = values_get(call->args, "DeviceAccesses");
    struct export_lun_row lun = {0};
    char parameter[PARAMETER_SIZE];
    int r;

    if (args_present(call->args, "DeviceNumbers")) {
        r = take_number(call, index, &lun.number);
        if (r == 0 && used[lun.number]) {
            item_name(parameter, "DeviceNumbers", index);
            return call_fail_param(call, ERR_EXPOSE_NUMBER_IN_USE, parameter,
                                   "LUN %u of /exports/%s is another volume. Leave DeviceNumbers "
                                   "out for the next free one.",
                                   lun.number, paths->export.head.id);
        }
    } else {
        r = next_number(call, used, &lun.number);
    }
    if (r < 0) {
        return r;
    }
    used[lun.number] = true;
    lun.read_only = accesses->present && accesses->items[index].number == ACCESS_READ_ONLY;
    strcpy(lun.export_id, paths->export.head.id);
    strcpy(lun.volume_id, paths->volumes[index].head.id);
    paths->changed = true;
    r = table_insert(call->db, &export_lun_table, &lun);
    return r < 0 ? call_fail_store(call, r) : 0;
}

/* One that is a LUN already: its access may change, its number not. */
static int lun_change(struct paths *paths, size_t index, struct export_lun_row *lun)
{
    struct call *call = paths->call;
    const struct value *accesses = values_get(call->args, "DeviceAccesses");
    bool read_only =
        accesses->present ? accesses->items[index].number == ACCESS_READ_ONLY : lun->read_only;
    uint32_t number = lun->number;
    char parameter[PARAMETER_SIZE];
    int r = args_present(call->args, "DeviceNumbers") ? take_number(call, index, &number) : 0;

    if (r < 0) {
        return r;
    }
    if (number != lun->number) {
        item_name(parameter, "DeviceNumbers", index);
        return call_fail_param(call, ERR_EXPOSE_ALREADY, parameter,
                               "/volumes/%s is LUN %u of /exports/%s already. Take it away with "
                               "HidePaths to give it another number.",
                               lun->volume_id, lun->number, lun->export_id);
    }
    if (read_only == lun->read_only) {
        return 0;
    }
    lun->read_only = read_only;
    paths->changed = true;
    r = table_update(call->db, &export_lun_table, lun);
    return r < 0 ? call_fail_store(call, r) : 0;
}

static int add_volumes(struct paths *paths)
{
    bool used[TARGET_MAX_LUNS] = {false};
    struct export_lun_row *luns;
    size_t n;
    int r = load_luns(paths->call, paths->export.head.id, &luns, &n);

    for (size_t i = 0; r == 0 && i < n; i++) {
        used[luns[i].number] = true;
    }
    for (size_t i = 0; r == 0 && i < paths->n_volumes; i++) {
        struct export_lun_row *lun = lun_of(luns, n, paths->volumes[i].head.id);

        r = lun != NULL ? lun_change(paths, i, lun) : lun_add(paths, i, used);
    }
    return r;
}

static int initiator_add(struct paths *paths, const char *name)
{
    struct call *call = paths->call;
    struct condition where[] = {WHERE_TEXT("export_id", paths->export.head.id),
                                WHERE_TEXT("initiator", name), WHERE_END};
    struct export_initiator_row row;
    int r = table_find(call->db, &export_initiator_table, where, &row);

    if (r == -ENOENT) {
        row = (struct export_initiator_row){0};
        strcpy(row.export_id, paths->export.head.id);
        strcpy(row.initiator, name);
        paths->changed = true;
        r = table_insert(call->db, &export_initiator_table, &row);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

static int set_all_initiators(struct paths *paths, bool all)
{
    if (paths->export.all_initiators == all) {
        return 0;
    }
    paths->export.all_initiators = all;
    paths->changed = true;
    int r = table_update(paths->call->db, &export_table, &paths->export);

    return r < 0 ? call_fail_store(paths->call, r) : 0;
}

/* None given: who may log in stays as it is (a new target: everybody). */
static int add_initiators(struct paths *paths)
{
    struct condition where[] = {WHERE_TEXT("export_id", paths->export.head.id), WHERE_END};
    bool all = paths->n_initiators == 0 && paths->export.all_initiators;
    uint64_t n = 0;
    int r = 0;

    for (size_t i = 0; r == 0 && i < paths->n_initiators; i++) {
        if (paths->initiators[i][0] == '\0') {
            all = true;
        } else {
            r = initiator_add(paths, paths->initiators[i]);
        }
    }
    if (r == 0 && paths->n_initiators > 0) {
        r = set_all_initiators(paths, all);
    }
    if (r == 0) {
        r = table_count(paths->call->db, &export_initiator_table, where, &n);
        r = r < 0 ? call_fail_store(paths->call, r) : 0;
    }
    if (r == 0 && n > INITIATORS_MAX) {
        r = call_fail_param(paths->call, ERR_EXPOSE_MAXIMUM, "InitiatorPortIDs",
                            "A target has at most %d initiators.", INITIATORS_MAX);
    }
    return r;
}

/* DeviceNumbers and DeviceAccesses go with LogicalUnits, one for one. */
static int check_arrays(struct paths *paths)
{
    static const char *const names[] = {"DeviceNumbers", "DeviceAccesses"};
    struct call *call = paths->call;
    const struct value *accesses = values_get(call->args, "DeviceAccesses");
    char parameter[PARAMETER_SIZE];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const struct value *array = values_get(call->args, names[i]);

        if (array->present && array->n_items != paths->n_volumes) {
            return call_fail_param(call, ERR_INVALID_PARAMETER, names[i],
                                   "%s has %zu entries for %zu LogicalUnits; one for each is "
                                   "wanted, or null.",
                                   names[i], array->n_items, paths->n_volumes);
        }
    }
    for (size_t i = 0; accesses->present && i < accesses->n_items; i++) {
        if (accesses->items[i].number != ACCESS_READ_WRITE &&
            accesses->items[i].number != ACCESS_READ_ONLY) {
            item_name(parameter, "DeviceAccesses", i);
            return call_fail_param(
                call, ERR_EXPOSE_PERMISSION, parameter,
                "%s: 2 Read Write or 3 Read-Only. HidePaths takes a volume away.", parameter);
        }
    }
    return 0;
}

static int answer(struct paths *paths)
{
    char path[PATH_SIZE];

    snprintf(path, sizeof(path), "/exports/%s", paths->export.head.id);
    outs_add_text(paths->call->outs, "ProtocolControllers", path);
    export_changed(paths->call, paths->export.head.id);
    return 0;
}

int method_expose_paths(struct call *call)
{
    struct paths paths;
    int r = take_paths(&paths, call);

    if (r == 0) {
        r = check_arrays(&paths);
    }
    if (r == 0 && paths.n_volumes == 0 && (!paths.found || paths.n_initiators == 0)) {
        r = call_fail_param(call, ERR_MISSING_PARAMETER, "LogicalUnits",
                            "LogicalUnits is missing: the volumes to be exposed. Only initiators "
                            "may be added without, to a target that is there.");
    }
    if (r == 0 && !paths.found) {
        r = export_make(&paths);
    }
    if (r == 0) {
        r = add_volumes(&paths);
    }
    if (r == 0) {
        r = add_initiators(&paths);
    }
    if (r == 0 && !paths.changed) {
        r = call_fail(call, ERR_EXPOSE_ALREADY,
                      "/exports/%s has all of that already. GET it to see who may log in.",
                      paths.export.head.id);
    }
    return r < 0 ? r : answer(&paths);
}

/* ---- HidePaths ---- */

static int lun_hide(struct paths *paths, const struct export_lun_row *lun)
{
    struct call *call = paths->call;
    int r = reservation_put(call->db, lun->export_id, lun->number, NULL, 0);

    if (r == 0) {
        r = table_delete(call->db, &export_lun_table, lun->head.id);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

static int hide_volumes(struct paths *paths)
{
    struct call *call = paths->call;
    struct export_lun_row *luns;
    char parameter[PARAMETER_SIZE];
    size_t n;
    int r = load_luns(call, paths->export.head.id, &luns, &n);

    for (size_t i = 0; r == 0 && i < paths->n_volumes; i++) {
        const struct export_lun_row *lun = lun_of(luns, n, paths->volumes[i].head.id);

        if (lun == NULL) {
            item_name(parameter, "LogicalUnits", i);
            return call_fail_param(call, ERR_NOT_EXPOSED, parameter,
                                   "/volumes/%s is no LUN of /exports/%s.",
                                   paths->volumes[i].head.id, paths->export.head.id);
        }
        r = lun_hide(paths, lun);
    }
    return r;
}

/* Initiators are of the whole target: with LogicalUnits, these have to be all of its LUNs. */
static int check_whole(struct paths *paths)
{
    struct export_lun_row *luns;
    size_t n;
    int r = load_luns(paths->call, paths->export.head.id, &luns, &n);

    for (size_t i = 0; r == 0 && i < paths->n_volumes; i++) {
        if (lun_of(luns, n, paths->volumes[i].head.id) == NULL) {
            return call_fail_param(paths->call, ERR_NOT_EXPOSED, "LogicalUnits",
                                   "/volumes/%s is no LUN of /exports/%s.",
                                   paths->volumes[i].head.id, paths->export.head.id);
        }
    }
    if (r == 0 && paths->n_volumes > 0 && paths->n_volumes < n) {
        r = call_fail_param(
            paths->call, ERR_INVALID_PARAMETER, "LogicalUnits",
            "Initiators are let in to all LUNs of a target, and /exports/%s has %zu. "
            "Name all of them or none, or give some a target of their own.",
            paths->export.head.id, n);
    }
    return r;
}

static int initiator_hide(struct paths *paths, size_t index)
{
    struct call *call = paths->call;
    const char *name = paths->initiators[index];
    struct condition where[] = {WHERE_TEXT("export_id", paths->export.head.id),
                                WHERE_TEXT("initiator", name), WHERE_END};
    struct export_initiator_row row;
    char parameter[PARAMETER_SIZE];
    int r;

    if (name[0] == '\0' && paths->export.all_initiators) {
        return set_all_initiators(paths, false);
    }
    r = table_find(call->db, &export_initiator_table, where, &row);
    if (r == 0) {
        r = table_delete(call->db, &export_initiator_table, row.head.id);
    }
    if (r == -ENOENT) {
        item_name(parameter, "InitiatorPortIDs", index);
        return call_fail_param(call, ERR_EXPOSE_INITIATOR, parameter,
                               "%s: '%.100s' is not in the list of /exports/%s%s.", parameter, name,
                               paths->export.head.id,
                               paths->export.all_initiators
                                   ? ", which lets every initiator in; ExposePaths with names "
                                     "restricts it, and an empty text here closes it"
                                   : "");
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

static int hide_initiators(struct paths *paths)
{
    int r = check_whole(paths);

    for (size_t i = 0; r == 0 && i < paths->n_initiators; i++) {
        r = initiator_hide(paths, i);
    }
    return r;
}

/* The own target of a volume stays, without LUNs; another one goes with its secrets. */
static int hide_target(struct paths *paths)
{
    struct call *call = paths->call;
    struct condition secrets[] = {WHERE_TEXT("access_point_id", paths->export.head.id), WHERE_END};
    struct export_lun_row *luns;
    struct secret_row secret;
    size_t n;
    int r;

    if (paths->export.own_volume_id[0] != '\0') {
        r = load_luns(call, paths->export.head.id, &luns, &n);
        for (size_t i = 0; r == 0 && i < n; i++) {
            r = lun_hide(paths, &luns[i]);
        }
        return r;
    }
    while ((r = table_find(call->db, &secret_table, secrets, &secret)) == 0) {
        r = table_delete(call->db, &secret_table, secret.head.id);
        if (r < 0) {
            break;
        }
    }
    explicit_bzero(&secret, sizeof(secret));
    if (r == -ENOENT) {
        r = table_delete(call->db, &export_table, paths->export.head.id);
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    outs_array(call->outs, "ProtocolControllers");
    export_changed(call, paths->export.head.id);
    return 1;
}

int method_hide_paths(struct call *call)
{
    struct paths paths;
    int r = take_paths(&paths, call);

    if (r < 0) {
        return r;
    }
    if (!paths.found && paths.iqn != NULL) {
        return call_fail_param(call, ERR_EXPOSE_TARGET, "TargetPortIDs[0]",
                               "There is no target %.200s. GET /exports lists what there is.",
                               paths.iqn);
    }
    if (!paths.found) {
        return call_fail_param(call, ERR_MISSING_PARAMETER, "ProtocolControllers",
                               "Which target? ProtocolControllers or TargetPortIDs names it; only "
                               "for one volume it is the volume's own.");
    }
    if (paths.n_initiators > 0) {
        r = hide_initiators(&paths);
    } else if (paths.n_volumes > 0) {
        r = hide_volumes(&paths);
    } else {
        r = hide_target(&paths);
    }
    return r < 0 ? r : r > 0 ? 0 : answer(&paths);
}
