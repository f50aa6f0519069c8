// SPDX-License-Identifier: Apache-2.0
/*
 * ScsiScan, AddReplicationEntity, and what becomes of the records.
 *
 *     first half: check, make a scan ─▶ scan on a data loop ─▶ second half: record, answer
 *
 * A LUN is known by system, target name and number. What it was when it was registered is what
 * copies insist on, so the record of a LUN that is another one now, or smaller, is not simply
 * overwritten: while a relationship or a pool counts on it, the difference becomes its problem, and
 * the record stays. A larger LUN is the same LUN.
 *
 * Another identity is never taken over by a scan, used or not: who has chosen the volume as a target
 * has chosen the LUN that it was. Only who names the LUN again (AddReplicationEntity, or DELETE and a
 * scan) says that the new one is meant.
 *
 *     found, the same or larger            refreshed, problem cleared
 *     found, different, used               problem
 *     found, another identity, not used    problem; AddReplicationEntity: record replaced
 *     found, smaller or other blocks, not used   record replaced
 *     not found                    problem "not there", if its own portal was asked and answered
 *     could not be asked           nothing: the next scan or the copy itself will see
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "base/log.h"
#include "base/map.h"
#include "service/enums.h"
#include "service/handlers.h"
#include "service/hosted.h"
#include "service/network.h"
#include "service/paths.h"
#include "service/portals.h"
#include "service/scan.h"
#include "service/volumes.h"

#define INITIATOR_PATH "/endpoints/initiator"

enum { CONNECTION_ISCSI = 7, ENTITY_URI = 8, KEY_SIZE = ID_SIZE + NAME_SIZE + 24 };

/* What a call carries from its first half to its second. */
struct question {
    struct scan *scan;
    method_fn second_half;
    /* AddReplicationEntity */
    struct lun_url url;
    bool persistent;
    char element_name[NAME_SIZE];
};

/* ---- between the halves ---- */

static void scan_back(struct scan *scan, void *arg)
{
    struct call *call = arg;

    if (scan->cancelled) {
        scan_free(scan); /* the service stops; control has answered the call */
        return;
    }
    call_resume(call, ((struct question *)call->step_state)->second_half);
}

static void scan_effect(struct control *control, void *arg)
{
    struct call *call = *(struct call **)arg;

    network_scan(control_network(control), ((struct question *)call->step_state)->scan, scan_back,
                 call);
}

static int question_ask(struct call *call, struct question *question)
{
    call->step_state = question;
    control_effect(call->control, scan_effect, &call, sizeof(call));
    return CALL_PENDING;
}

/* ---- one LUN ---- */

static int volume_find(struct db *db, const char *system_id, const char *iqn, uint64_t lun,
                       struct volume_row *ret_row)
{
    struct condition where[] = {WHERE_NUM("kind", VOLUME_REMOTE), WHERE_TEXT("iqn", iqn),
                                WHERE_NUM("lun", lun), WHERE_TEXT("system_id", system_id),
                                WHERE_END};

    return table_find(db, &volume_table, where, ret_row);
}

struct same_lun {
    const char *identity;
    struct volume_row row;
};

static int same_identity(void *arg, const void *row)
{
    const struct volume_row *volume = row;
    struct same_lun *same = arg;

    if (strcmp(volume->identity, same->identity) != 0) {
        return 0;
    }
    same->row = *volume;
    return 1;
}

/* The LUN under the same name and number behind a portal that was taken for another system. */
static int volume_find_elsewhere(struct db *db, const char *iqn, uint64_t lun, const char *identity,
                                 struct volume_row *ret_row)
{
    struct condition where[] = {WHERE_NUM("kind", VOLUME_REMOTE), WHERE_TEXT("iqn", iqn),
                                WHERE_NUM("lun", lun), WHERE_END};
    struct same_lun same = {.identity = identity};

    if (!identity_is_worldwide(identity)) {
        return -ENOENT;
    }
    int r = table_each(db, &volume_table, where, 0, 0, same_identity, &same);

    if (r == 1) {
        *ret_row = same.row;
        return 0;
    }
    return r < 0 ? r : -ENOENT;
}

static void volume_describe(struct volume_row *row, const struct iscsi_lun_info *info,
                            uint64_t now_ms)
{
    row->size_bytes = info->size_bytes;
    row->block_bytes = info->block_bytes;
    row->physical_bytes = info->physical_bytes;
    text_cut(info->identity, row->identity, sizeof(row->identity));
    text_cut(info->vendor, row->vendor, sizeof(row->vendor));
    text_cut(info->product, row->product, sizeof(row->product));
    text_cut(info->revision, row->revision, sizeof(row->revision));
    text_cut(info->serial, row->serial, sizeof(row->serial));
    row->thin = info->thin;
    row->write_protected = info->write_protected;
    row->problem[0] = '\0';
    row->last_seen_ms = now_ms;
}

static bool volume_is_another(const struct volume_row *row, const struct iscsi_lun_info *info)
{
    return row->identity[0] != '\0' && strcmp(row->identity, info->identity) != 0;
}

/* False: it is what it was, or a larger one. */
static bool volume_differs(const struct volume_row *row, const struct iscsi_lun_info *info,
                           char *ret_problem, size_t size)
{
    char text[512];

    if (volume_is_another(row, info)) {
        snprintf(text, sizeof(text), "It is another LUN now (%s); registered was %s",
                 info->identity[0] == '\0' ? "without identity" : info->identity, row->identity);
    } else if (info->block_bytes != row->block_bytes) {
        snprintf(text, sizeof(text), "Its blocks have %u bytes now; registered were %u",
                 info->block_bytes, row->block_bytes);
    } else if (info->size_bytes < row->size_bytes) {
        snprintf(text, sizeof(text), "It has shrunk to %" PRIu64 " bytes; registered were %" PRIu64,
                 info->size_bytes, row->size_bytes);
    } else {
        return false;
    }
    text_cut(text, ret_problem, size);
    return true;
}

/* 1: a relationship or a pool counts on it. */
static int volume_is_used(struct call *call, const struct volume_row *row)
{
    struct sync_row sync;

    if (row->pool_id[0] != '\0') {
        return 1;
    }
    int r = volume_relationship(call->db, row->head.id, &sync);

    return r == -ENOENT ? 0 : r < 0 ? call_fail_store(call, r) : 1;
}

static int volume_store(struct call *call, const struct volume_row *row)
{
    int r = table_update(call->db, &volume_table, row);

    return r < 0 ? call_fail_store(call, r) : 0;
}

struct found {
    const struct access_point_row *portal;
    const char *iqn;
    uint64_t lun;
    const struct iscsi_lun_info *info;
    bool persistent;
    bool meant;               /* whatever LUN it is now: the caller has named it */
    const char *element_name; /* NULL: ours, or what it has */
};

/* A known LUN was found. 1: it is not what it was, and the row (already stored) says so. */
static int volume_refresh(struct call *call, struct volume_row *row, const struct found *found)
{
    const struct iscsi_lun_info *info = found->info;
    char problem[sizeof(row->problem)];
    int kept = 0;

    if (volume_differs(row, info, problem, sizeof(problem))) {
        kept = volume_is_used(call, row);
        if (kept < 0) {
            return kept;
        }
        kept = kept || (volume_is_another(row, info) && !found->meant);
        if (!kept) {
            log_warning("volume[%s] %s; the record is replaced", row->head.id, problem);
        }
    }
    if (kept) {
        memcpy(row->problem, problem, sizeof(problem));
    } else {
        volume_describe(row, info, control_now_ms(call->control));
        if (found->element_name != NULL) {
            text_cut(found->element_name, row->element_name, sizeof(row->element_name));
        }
    }
    int r = volume_store(call, row);

    return r < 0 ? r : kept;
}

/* 1: as volume_refresh(). */
static int volume_found(struct call *call, const struct found *found, struct volume_row *ret_row)
{
    int r = volume_find(call->db, found->portal->system_id, found->iqn, found->lun, ret_row);

    if (r == -ENOENT) {
        r = volume_find_elsewhere(call->db, found->iqn, found->lun, found->info->identity, ret_row);
    }
    if (r == 0) {
        ret_row->persistent = ret_row->persistent || found->persistent;
        return volume_refresh(call, ret_row, found);
    }
    if (r != -ENOENT) {
        return call_fail_store(call, r);
    }
    struct volume_row row = {
        .kind = VOLUME_REMOTE,
        .lun = found->lun,
        .persistent = found->persistent,
        .created_ms = control_now_ms(call->control),
    };

    memcpy(row.system_id, found->portal->system_id, sizeof(row.system_id));
    memcpy(row.access_point_id, found->portal->head.id, sizeof(row.access_point_id));
    text_cut(found->iqn, row.iqn, sizeof(row.iqn));
    volume_describe(&row, found->info, row.created_ms);
    if (found->element_name != NULL) {
        text_cut(found->element_name, row.element_name, sizeof(row.element_name));
    } else {
        r = volume_system_name(call, row.iqn, row.lun, row.element_name);
        if (r < 0) {
            return r;
        }
    }
    r = table_insert(call->db, &volume_table, &row);
    if (r < 0) {
        return call_fail_store(call, r);
    }
    *ret_row = row;
    return 0;
}

static int volume_problem(struct call *call, struct volume_row *row, const char *problem)
{
    if (strcmp(row->problem, problem) == 0) {
        return 0;
    }
    text_cut(problem, row->problem, sizeof(row->problem));
    log_warning("volume[%s] %s", row->head.id, row->problem);
    return volume_store(call, row);
}

struct problem_event {
    char volume_id[ID_SIZE];
    char problem[NAME_SIZE];
};

static int problem_event(struct call *call)
{
    const struct problem_event *event = call->step_state;
    struct volume_row row;
    int r = table_get(call->db, &volume_table, event->volume_id, &row);

    if (r == -ENOENT) {
        return 0;
    }
    return r < 0 ? call_fail_store(call, r) : volume_problem(call, &row, event->problem);
}

/* For a call that fails: what was noticed is kept all the same. */
static void volume_problem_later(struct call *call, const struct volume_row *row)
{
    struct problem_event event;

    memcpy(event.volume_id, row->head.id, sizeof(event.volume_id));
    memcpy(event.problem, row->problem, sizeof(event.problem));
    control_event(call->control, problem_event, &event, sizeof(event));
}

/* ---- ScsiScan: the parameters ---- */

static int check_connection(struct call *call)
{
    const char *job = args_text(call->args, "Job");

    if (job != NULL) {
        return call_fail_param(
            call, strncmp(job, "/jobs/", 6) == 0 ? ERR_INVALID_PARAMETER : ERR_WRONG_CLASS, "Job",
            "A scan answers without a job; leave Job out.");
    }
    if (args_number(call->args, "ConnectionType", CONNECTION_ISCSI) != CONNECTION_ISCSI) {
        return call_fail_param(call, ERR_SCAN_CONNECTION_TYPE, "ConnectionType",
                               "ConnectionType must be 7 (iSCSI), or be left out: smirror reaches "
                               "LUNs by iSCSI only.");
    }
    if (args_present(call->args, "OtherConnectionType")) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, "OtherConnectionType",
                               "OtherConnectionType goes with ConnectionType 1 only; leave it "
                               "out.");
    }
    if (args_present(call->args, "Initiators")) {
        const struct value *initiators = values_get(call->args, "Initiators");

        for (size_t i = 0; i < initiators->n_items || i == 0; i++) {
            if (i >= initiators->n_items || !initiators->items[i].present ||
                strcmp(initiators->items[i].text, INITIATOR_PATH) != 0) {
                return call_fail_param(call, ERR_SCAN_INITIATOR, "Initiators",
                                       "The only initiator is %s; name it, or leave Initiators "
                                       "out.",
                                       INITIATOR_PATH);
            }
        }
    }
    return 0;
}

/* The item of an array of strings, which must not be empty. */
static int array_item(struct call *call, const char *name, size_t i, const char *what,
                      char *parameter, size_t parameter_size, const char **ret_text)
{
    const struct value *array = values_get(call->args, name);

    if (array->n_items == 0) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, name,
                               "%s is empty; name %s, or leave it out for all.", name, what);
    }
    snprintf(parameter, parameter_size, "%s[%zu]", name, i);
    if (!array->items[i].present) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, parameter, "%s is null; it must be %s.",
                               parameter, what);
    }
    *ret_text = array->items[i].text;
    return 0;
}

static int add_portal(struct call *call, struct scan *scan, const struct access_point_row *row,
                      bool all_targets)
{
    struct scan_portal *portal = scan_add_portal(scan, row);
    struct error error = {0};

    portal->all_targets = all_targets;
    if (portal_credentials(call->db, row, &portal->chap, &portal->mutual_chap, &error) < 0) {
        if (error.code == ERR_STORE_FAILED) {
            call->error = error;
            return error_info(error.code)->err;
        }
        portal->error = error;
    }
    return 0;
}

static struct scan_portal *portal_of(struct scan *scan, const char *access_point_id)
{
    for (unsigned i = 0; i < scan->n_portals; i++) {
        if (strcmp(scan->portals[i].row.head.id, access_point_id) == 0) {
            return &scan->portals[i];
        }
    }
    return NULL;
}

static int add_target(struct call *call, struct scan *scan, size_t i)
{
    static const char what[] =
        "target names (iqn.…) or paths of access points (/accesspoints/{id})";
    struct access_point_row row;
    char parameter[48];
    const char *text;
    int r = array_item(call, "Targets", i, what, parameter, sizeof(parameter), &text);

    if (r < 0) {
        return r;
    }
    if (text[0] == '/') {
        r = path_access_point(call, parameter, text, &row);
        return r < 0 || portal_of(scan, row.head.id) != NULL ? r
                                                             : add_portal(call, scan, &row, true);
    }
    if (!target_name_valid(text)) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, parameter,
                               "%s is neither an iSCSI name (iqn.…, eui.…, naa.…) nor the path of "
                               "an access point (/accesspoints/{id}).",
                               parameter);
    }
    scan_add_name(scan, text);
    return 0;
}

static int add_logical_unit(struct call *call, struct scan *scan, size_t i)
{
    char parameter[48];
    const char *text;
    uint64_t lun;
    int r = array_item(call, "LogicalUnits", i, "LUN numbers", parameter, sizeof(parameter), &text);

    if (r < 0) {
        return r;
    }
    if (lun_number_parse(text, &lun) < 0) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, parameter,
                               "%s must be a LUN's number, decimal, from 0 to 16383.", parameter);
    }
    scan_add_number(scan, lun);
    return 0;
}

static int add_all_portals(struct call *call, struct scan *scan, bool all_targets)
{
    void *rows = NULL;
    size_t n = 0;
    int r = table_load(call->db, &access_point_table, NULL, &rows, &n);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    for (size_t i = 0; i < n && r == 0; i++) {
        const struct access_point_row *row = (const struct access_point_row *)rows + i;

        if (portal_of(scan, row->head.id) == NULL) {
            r = add_portal(call, scan, row, all_targets);
        }
    }
    free(rows);
    return r;
}

static int scan_of_parameters(struct call *call, struct scan *scan)
{
    int r = check_connection(call);

    if (args_present(call->args, "Targets")) {
        size_t n = values_get(call->args, "Targets")->n_items;

        for (size_t i = 0; r == 0 && (i < n || i == 0); i++) {
            r = add_target(call, scan, i);
        }
    }
    if (args_present(call->args, "LogicalUnits")) {
        size_t n = values_get(call->args, "LogicalUnits")->n_items;

        for (size_t i = 0; r == 0 && (i < n || i == 0); i++) {
            r = add_logical_unit(call, scan, i);
        }
    }
    /* Paths alone: these portals. Names: any portal may have them. */
    if (r == 0 && (scan->n_names > 0 || scan->n_portals == 0)) {
        r = add_all_portals(call, scan, scan->n_names == 0);
    }
    if (r == 0 && scan->n_portals == 0) {
        r = call_fail(call, ERR_SCAN_NO_TARGET,
                      "No portal is known that could be asked. Make one known first "
                      "(AddServiceAccessPoint), or add a LUN by its URL (AddReplicationEntity).");
    }
    return r;
}

/* ---- ScsiScan: the results ---- */

struct outcome {
    unsigned n_answered;
    unsigned n_found;
    const struct error *error; /* of a target or LUN, the first */
    struct map
        present; /* "system iqn lun" of what was reported, "system iqn" of what could be asked */
    struct map targets; /* "system iqn" of what was told */
};

static const char *target_key(const struct scan *scan, const struct scan_target *target, char *key)
{
    snprintf(key, KEY_SIZE, "%s %s", scan->portals[target->portal].row.system_id, target->name);
    return key;
}

static void outcome_collect(const struct scan *scan, struct outcome *outcome)
{
    char key[KEY_SIZE];

    map_init(&outcome->present);
    map_init(&outcome->targets);
    for (unsigned i = 0; i < scan->n_portals; i++) {
        outcome->n_answered += scan->portals[i].error.code == ERR_NONE;
    }
    for (unsigned i = 0; i < scan->n_targets; i++) {
        struct scan_target *target = &scan->targets[i];

        target_key(scan, target, key);
        CHECK(map_put(&outcome->targets, key, target) == 0);
        if (target->error.code != ERR_NONE && outcome->error == NULL) {
            outcome->error = &target->error;
        }
        size_t len = strlen(key);

        for (unsigned j = 0; j < target->n_luns; j++) {
            snprintf(key + len, sizeof(key) - len, " %" PRIu64, target->luns[j]);
            CHECK(map_put(&outcome->present, key, target) == 0);
        }
    }
}

/* The access point that leads to the LUN: the one that was asked, unless it told that the target is
 * elsewhere only. */
static int portal_of_lun(struct call *call, const struct scan *scan, const struct scan_lun *lun,
                         struct access_point_row *ret_row)
{
    const struct scan_target *target = &scan->targets[lun->target];
    const struct access_point_row *asked = &scan->portals[target->portal].row;
    struct sockaddr_storage address;
    struct portal portal;
    const char *why;

    *ret_row = *asked;
    if (target->at_portal || portal_parse(lun->info.portal, &portal, &why) < 0 || !portal.numeric) {
        return 0;
    }
    address = portal.sockaddr;
    for (unsigned i = 0; i < target->n_addresses; i++) {
        if (sockaddr_equal(&target->addresses[i], &address)) {
            int r = portal_find(call->db, portal.address, ret_row);

            if (r == -ENOENT) {
                return portal_add(call, &portal, portal.address, portal.address, asked->system_id,
                                  false, ret_row);
            }
            if (r == 0 && strcmp(ret_row->system_id, asked->system_id) != 0) {
                *ret_row = *asked;
            }
            return r < 0 ? call_fail_store(call, r) : 0;
        }
    }
    return 0;
}

static int record_failed_lun(struct call *call, const struct scan *scan, const struct scan_lun *lun)
{
    const struct scan_target *target = &scan->targets[lun->target];
    struct volume_row row;

    if (lun->error.code != ERR_INCOMPATIBLE && lun->error.code != ERR_SCAN_NO_LU) {
        log_warning("scan: LUN %" PRIu64 " of %s was not looked at: %s", lun->lun, target->name,
                    lun->error.detail);
        return 0;
    }
    int r = volume_find(call->db, scan->portals[target->portal].row.system_id, target->name,
                        lun->lun, &row);

    if (r == -ENOENT) {
        return 0;
    }
    return r < 0 ? call_fail_store(call, r) : volume_problem(call, &row, lun->error.detail);
}

static int record_luns(struct call *call, const struct scan *scan, struct outcome *outcome)
{
    int r = 0;

    for (unsigned i = 0; i < scan->n_luns && r >= 0; i++) {
        const struct scan_lun *lun = &scan->luns[i];
        struct access_point_row portal;
        struct volume_row row;

        if (lun->error.code != ERR_NONE) {
            if (lun->error.code != ERR_INCOMPATIBLE && outcome->error == NULL) {
                outcome->error = &lun->error;
            }
            r = record_failed_lun(call, scan, lun);
            continue;
        }
        outcome->n_found++;
        r = portal_of_lun(call, scan, lun, &portal);
        if (r == 0) {
            struct found found = {
                .portal = &portal,
                .iqn = scan->targets[lun->target].name,
                .lun = lun->lun,
                .info = &lun->info,
                .persistent = true,
            };

            r = volume_found(call, &found, &row);
            if (r == 1) {
                log_warning("volume[%s] %s", row.head.id, row.problem);
            }
        }
    }
    return r < 0 ? r : 0;
}

struct missing {
    struct call *call;
    const struct scan *scan;
    const struct outcome *outcome;
    const struct scan_portal *portal;
};

static int record_if_missing(struct missing *missing, struct volume_row *row)
{
    const struct scan *scan = missing->scan;
    char key[KEY_SIZE];
    char problem[sizeof(row->problem)];

    if (!scan_wants_number(scan, row->lun) ||
        (!missing->portal->all_targets && !scan_wants_name(scan, row->iqn))) {
        return 0;
    }
    snprintf(key, sizeof(key), "%s %s", row->system_id, row->iqn);
    const struct scan_target *target = map_get(&missing->outcome->targets, key);

    if (target == NULL) {
        snprintf(problem, sizeof(problem), "Its target is not told by its portal any more");
        return volume_problem(missing->call, row, problem);
    }
    if (target->error.code == ERR_SCAN_NO_TARGET) {
        snprintf(problem, sizeof(problem), "Its target is not there any more");
        return volume_problem(missing->call, row, problem);
    }
    size_t len = strlen(key);

    snprintf(key + len, sizeof(key) - len, " %" PRIu64, row->lun);
    if (target->error.code == ERR_NONE && map_get(&missing->outcome->present, key) == NULL) {
        snprintf(problem, sizeof(problem), "Its target has no LUN %" PRIu64 " any more", row->lun);
        return volume_problem(missing->call, row, problem);
    }
    return 0;
}

/* Volumes that should have been found at the portals that answered. */
static int record_missing(struct call *call, const struct scan *scan, const struct outcome *outcome)
{
    int r = 0;

    if (scan->cut_short) {
        log_warning("scan: more than %d targets or %d LUNs; the rest was not looked at",
                    SCAN_TARGETS_MAX, SCAN_LUNS_MAX);
        return 0;
    }
    for (unsigned i = 0; i < scan->n_portals && r == 0; i++) {
        struct missing missing = {
            .call = call, .scan = scan, .outcome = outcome, .portal = &scan->portals[i]};
        struct condition where[] = {WHERE_TEXT("access_point_id", missing.portal->row.head.id),
                                    WHERE_END};
        void *rows = NULL;
        size_t n = 0;

        if (missing.portal->error.code != ERR_NONE) {
            continue;
        }
        r = table_load(call->db, &volume_table, where, &rows, &n);
        if (r < 0) {
            return call_fail_store(call, r);
        }
        for (size_t j = 0; j < n && r == 0; j++) {
            r = record_if_missing(&missing, (struct volume_row *)rows + j);
        }
        free(rows);
    }
    return r;
}

static const struct error *portal_error(const struct scan_portal *portal)
{
    return portal->error.code == ERR_NONE ? NULL : &portal->error;
}

/* No portal answered: which, and why. */
static int fail_unreachable(struct call *call, const struct scan *scan)
{
    enum error_code code = scan->portals[0].error.code;
    struct strbuf text = STRBUF_INIT;

    for (unsigned i = 0; i < scan->n_portals; i++) {
        const struct scan_portal *portal = &scan->portals[i];

        if (portal->error.code != code) {
            code = ERR_REMOTE_UNREACHABLE;
        }
        strbuf_printf(&text, "%s%s: %s", i == 0 ? "" : " ", portal->row.address,
                      portal->error.detail);
    }
    if (code != ERR_ADDRESS_NOT_ALLOWED && code != ERR_REMOTE_REFUSED) {
        code = ERR_REMOTE_UNREACHABLE;
    }
    int r = call_fail(call, code, "No portal can be asked. %.420s", strbuf_str(&text));

    strbuf_fini(&text);
    return r;
}

static int scan_answer(struct call *call, const struct scan *scan, const struct outcome *outcome)
{
    if (outcome->n_found > 0) {
        return 0;
    }
    if (scan->n_targets == 0) {
        return call_fail(
            call, ERR_SCAN_NO_TARGET,
            "%u of %u portals answered, and told no target%s. Check Targets, and which "
            "targets the portals show to %s.",
            outcome->n_answered, scan->n_portals, scan->n_names > 0 ? " of these names" : "",
            control_options(call->control)->initiator_name);
    }
    if (outcome->error != NULL) {
        call->error = *outcome->error;
        if (call->error.code == ERR_SCAN_NO_LU || call->error.code == ERR_SCAN_NO_TARGET ||
            error_info(call->error.code)->return_value == ERROR_NO_RETURN_VALUE) {
            call->error.code = ERR_REMOTE_ERROR;
        }
        return error_info(call->error.code)->err;
    }
    return call_fail(
        call, ERR_SCAN_NO_LU,
        "%u targets were asked, and have no disk%s. Check LogicalUnits, and which LUNs "
        "the targets show to %s.",
        scan->n_targets, scan->n_numbers > 0 ? " of these numbers" : "",
        control_options(call->control)->initiator_name);
}

static int scan_record(struct call *call, const struct scan *scan)
{
    struct outcome outcome = {0};
    int r = 0;

    outcome_collect(scan, &outcome);
    if (outcome.n_answered == 0) {
        r = fail_unreachable(call, scan);
    }
    for (unsigned i = 0; i < scan->n_portals && r == 0; i++) {
        r = portal_seen(call, scan->portals[i].row.head.id, portal_error(&scan->portals[i]),
                        control_now_ms(call->control));
    }
    if (r == 0) {
        r = record_luns(call, scan, &outcome);
    }
    if (r == 0) {
        r = record_missing(call, scan, &outcome);
    }
    if (r == 0) {
        r = scan_answer(call, scan, &outcome);
    }
    map_fini(&outcome.present);
    map_fini(&outcome.targets);
    return r;
}

static int scan_second_half(struct call *call)
{
    struct question *question = call->step_state;
    struct scan *scan = question->scan;
    int r = scan_record(call, scan);

    /* The call changes nothing; what was seen is true all the same. */
    for (unsigned i = 0; i < scan->n_portals && r < 0; i++) {
        portal_seen_later(call->control, &scan->portals[i].row, portal_error(&scan->portals[i]));
    }
    scan_free(scan);
    return r;
}

int method_scsi_scan(struct call *call)
{
    struct question *question = arena_alloc(&call->arena, sizeof(*question));

    question->scan = scan_new(SCAN_LUNS);
    question->second_half = scan_second_half;
    int r = scan_of_parameters(call, question->scan);

    if (r < 0) {
        scan_free(question->scan);
        return r;
    }
    return question_ask(call, question);
}

/* ---- AddReplicationEntity ---- */

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
    const struct scan *scan = question->scan;
    struct access_point_row portal;
    struct volume_row volume;
    struct found found = {
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
        r = volume_find_elsewhere(call->db, found.iqn, found.lun, found.info->identity, &volume);
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
        r = volume_found(call, &found, &volume);
    }
    if (r == 1) {
        volume_problem_later(call, &volume);
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
    struct scan *scan = question->scan;
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
    question->scan = scan_new(SCAN_ONE);
    question->second_half = entity_second_half;
    scan_add_name(question->scan, question->url.target);
    scan_add_number(question->scan, question->url.lun);
    if (r == -ENOENT) {
        scan_add_portal(question->scan, &row);
        r = 0;
    } else {
        r = add_portal(call, question->scan, &row, true);
    }
    if (r == 0 && question->scan->portals[0].error.code != ERR_NONE) {
        r = entity_failed(call, &question->url, &question->scan->portals[0].error);
    }
    if (r < 0) {
        scan_free(question->scan);
        return r;
    }
    return question_ask(call, question);
}

/* ---- DELETE /volumes/{id} ---- */

int method_delete_volume(struct call *call)
{
    struct volume_row volume;
    int r = table_get(call->db, &volume_table, call->object_id, &volume);

    if (r == -ENOENT) {
        return call_fail(call, ERR_NOT_FOUND,
                         "There is no /volumes/%s. GET /volumes lists what there is.",
                         call->object_id);
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    if (volume.kind == VOLUME_HOSTED) {
        r = volume_filling_stop(call, volume.head.id, ERR_CONFLICT, method_delete_volume);
        if (r != 0) {
            return r;
        }
        r = volume_end_relationships(call, volume.head.id, ERR_CONFLICT);
        return r < 0 ? r : hosted_delete(call, &volume);
    }
    if (volume.pool_id[0] != '\0') {
        char blocked_on[PATH_SIZE];

        snprintf(blocked_on, sizeof(blocked_on), "/pools/%s", volume.pool_id);
        return call_fail_blocked(call, ERR_CONFLICT, blocked_on,
                                 "/volumes/%s is in %s. Take it out of the pool first "
                                 "(CreateOrModifyStoragePool with the other LUNs as InExtents, or "
                                 "DeleteStoragePool).",
                                 volume.head.id, blocked_on);
    }
    r = volume_end_relationships(call, volume.head.id, ERR_CONFLICT);
    return r < 0 ? r : volume_forget(call, &volume);
}
