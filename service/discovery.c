// SPDX-License-Identifier: Apache-2.0
/*
 * ScsiScan, and what it has in common with AddReplicationEntity (replication_entity.c).
 *
 *     first half: check, make a scan ─▶ scan on a data loop ─▶ second half: record, answer
 *
 * What was found becomes records (found_lun.c). What was not:
 *
 *     not found            problem "not there", if its own portal was asked and answered
 *     could not be asked   nothing: the next scan or the copy itself will see
 */
#include "service/discovery.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/map.h"
#include "service/found_lun.h"
#include "service/handlers.h"
#include "service/network.h"
#include "service/paths.h"
#include "service/portals.h"

#define INITIATOR_PATH "/endpoints/initiator"

enum { CONNECTION_ISCSI = 7, KEY_SIZE = ID_SIZE + NAME_SIZE + 24 };

/* ---- between the halves ---- */

static void scan_back(struct scan *scan, void *arg)
{
    struct call *call = arg;

    if (scan->cancelled) {
        scan_free(scan); /* the service stops; control has answered the call */
        return;
    }
    call_resume(call, ((struct discovery *)call->step_state)->second_half);
}

static void scan_effect(struct control *control, void *arg)
{
    struct call *call = *(struct call **)arg;

    network_scan(control_network(control), ((struct discovery *)call->step_state)->scan, scan_back,
                 call);
}

int discovery_ask(struct call *call, struct discovery *discovery)
{
    call->step_state = discovery;
    control_effect(call->control, scan_effect, &call, sizeof(call));
    return CALL_PENDING;
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

int discovery_add_portal(struct call *call, struct scan *scan, const struct access_point_row *row,
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
        return r < 0 || portal_of(scan, row.head.id) != NULL
                   ? r
                   : discovery_add_portal(call, scan, &row, true);
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
            r = discovery_add_portal(call, scan, row, all_targets);
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
    int r = found_lun_known(call->db, scan->portals[target->portal].row.system_id, target->name,
                            lun->lun, &row);

    if (r == -ENOENT) {
        return 0;
    }
    return r < 0 ? call_fail_store(call, r) : found_lun_problem(call, &row, lun->error.detail);
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
            struct found_lun found = {
                .portal = &portal,
                .iqn = scan->targets[lun->target].name,
                .lun = lun->lun,
                .info = &lun->info,
                .persistent = true,
            };

            r = found_lun_record(call, &found, &row);
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
        return found_lun_problem(missing->call, row, problem);
    }
    if (target->error.code == ERR_SCAN_NO_TARGET) {
        snprintf(problem, sizeof(problem), "Its target is not there any more");
        return found_lun_problem(missing->call, row, problem);
    }
    size_t len = strlen(key);

    snprintf(key + len, sizeof(key) - len, " %" PRIu64, row->lun);
    if (target->error.code == ERR_NONE && map_get(&missing->outcome->present, key) == NULL) {
        snprintf(problem, sizeof(problem), "Its target has no LUN %" PRIu64 " any more", row->lun);
        return found_lun_problem(missing->call, row, problem);
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
    struct discovery *discovery = call->step_state;
    struct scan *scan = discovery->scan;
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
    struct discovery *discovery = arena_alloc(&call->arena, sizeof(*discovery));

    discovery->scan = scan_new(SCAN_LUNS);
    discovery->second_half = scan_second_half;
    int r = scan_of_parameters(call, discovery->scan);

    if (r < 0) {
        scan_free(discovery->scan);
        return r;
    }
    return discovery_ask(call, discovery);
}
