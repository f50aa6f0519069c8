// SPDX-License-Identifier: Apache-2.0
/*
 * Steps wait in a queue, SCAN_AT_ONCE of them are under way, each in a slot with its lookup or its
 * iscsi_op. A step that ends may add more steps. When no slot is busy and the queue is empty, or
 * the time is over, the scan goes back to control.
 *
 * Everything in struct scan_run is the data loop's, except holders: control's cancel is a message,
 * and may arrive after the scan has gone home. So the run is freed by whoever comes last.
 */
#include "service/scan.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "base/map.h"
#include "service/network.h"

enum step_kind { STEP_PORTAL, STEP_TARGET, STEP_LUN };

struct step {
    enum step_kind kind;
    unsigned index; /* of portals, targets or luns */
};

struct slot {
    struct scan_run *run;
    bool busy;
    struct step step;
    struct portal_lookup *lookup;
    struct iscsi_op *op;
};

struct scan_run {
    struct scan *scan; /* NULL once it has gone home */
    struct network *network;
    struct loop *control_loop;
    struct loop *loop; /* the data loop */
    bool ended;
    char initiator[ISCSI_NAME_SIZE];
    uint32_t timeout_ms;
    scan_done_fn done;
    void *arg;
    struct loop_task start_task;
    struct loop_task cancel_task;
    struct loop_task done_task;
    struct loop_timer deadline;
    struct step *queue;
    unsigned queue_first;
    unsigned queue_end;
    unsigned queue_room;
    struct slot slots[SCAN_AT_ONCE];
    struct map known; /* "system target": told already */
    atomic_uint holders;
};

/* ---- a scan as a value ---- */

static void *grown(void *array, size_t n, size_t item_size)
{
    if (n > 0 && (n & (n - 1)) != 0) {
        return array;
    }
    void *larger = realloc(array, (n == 0 ? 1 : n * 2) * item_size);

    CHECK(larger != NULL);
    return larger;
}

struct scan *scan_new(enum scan_depth depth)
{
    struct scan *scan = calloc(1, sizeof(*scan));

    CHECK(scan != NULL);
    scan->depth = depth;
    return scan;
}

void scan_free(struct scan *scan)
{
    if (scan == NULL) {
        return;
    }
    for (unsigned i = 0; i < scan->n_targets; i++) {
        free(scan->targets[i].luns);
    }
    if (scan->portals != NULL) {
        explicit_bzero(scan->portals, scan->n_portals * sizeof(*scan->portals));
    }
    free(scan->portals);
    free(scan->names);
    free(scan->numbers);
    free(scan->targets);
    free(scan->luns);
    free(scan);
}

struct scan_portal *scan_add_portal(struct scan *scan, const struct access_point_row *row)
{
    scan->portals = grown(scan->portals, scan->n_portals, sizeof(*scan->portals));
    struct scan_portal *portal = &scan->portals[scan->n_portals++];

    memset(portal, 0, sizeof(*portal));
    portal->row = *row;
    return portal;
}

void scan_add_name(struct scan *scan, const char *name)
{
    scan->names = grown(scan->names, scan->n_names, sizeof(*scan->names));
    snprintf(scan->names[scan->n_names++], sizeof(*scan->names), "%s", name);
}

void scan_add_number(struct scan *scan, uint64_t lun)
{
    scan->numbers = grown(scan->numbers, scan->n_numbers, sizeof(*scan->numbers));
    scan->numbers[scan->n_numbers++] = lun;
}

bool scan_wants_number(const struct scan *scan, uint64_t lun)
{
    for (unsigned i = 0; i < scan->n_numbers; i++) {
        if (scan->numbers[i] == lun) {
            return true;
        }
    }
    return scan->n_numbers == 0;
}

bool scan_wants_name(const struct scan *scan, const char *name)
{
    for (unsigned i = 0; i < scan->n_names; i++) {
        if (strcasecmp(scan->names[i], name) == 0) {
            return true;
        }
    }
    return scan->n_names == 0;
}

static struct scan_target *target_add(struct scan *scan, unsigned portal, const char *name)
{
    scan->targets = grown(scan->targets, scan->n_targets, sizeof(*scan->targets));
    struct scan_target *target = &scan->targets[scan->n_targets++];

    memset(target, 0, sizeof(*target));
    target->portal = portal;
    snprintf(target->name, sizeof(target->name), "%s", name);
    return target;
}

static struct scan_lun *lun_add(struct scan *scan, unsigned target, uint64_t lun)
{
    scan->luns = grown(scan->luns, scan->n_luns, sizeof(*scan->luns));
    struct scan_lun *entry = &scan->luns[scan->n_luns++];

    memset(entry, 0, sizeof(*entry));
    entry->target = target;
    entry->lun = lun;
    return entry;
}

/* ---- the way home ---- */

static void run_let_go(struct scan_run *run)
{
    if (atomic_fetch_sub(&run->holders, 1) == 1) {
        free(run->queue);
        free(run);
    }
}

static void run_home(void *arg)
{
    struct scan_run *run = arg;
    struct scan *scan = run->scan;
    scan_done_fn done = run->done;
    void *done_arg = run->arg;

    scan->run = NULL;
    run_let_go(run);
    done(scan, done_arg);
}

static struct error *step_error(struct scan_run *run, const struct step *step)
{
    struct scan *scan = run->scan;

    switch (step->kind) {
    case STEP_PORTAL:
        return &scan->portals[step->index].error;
    case STEP_TARGET:
        return &scan->targets[step->index].error;
    case STEP_LUN:
        return &scan->luns[step->index].error;
    }
    CHECK(!"a step has a kind");
    return NULL;
}

static void run_end(struct scan_run *run)
{
    loop_timer_stop(&run->deadline);
    run->ended = true;
    map_fini(&run->known);
    run->done_task = (struct loop_task){.fn = run_home, .arg = run};
    loop_post(run->control_loop, &run->done_task);
}

/* Whatever has not ended will not. */
static void run_give_up(struct scan_run *run, enum error_code code, const char *why)
{
    for (unsigned i = 0; i < SCAN_AT_ONCE; i++) {
        struct slot *slot = &run->slots[i];

        if (slot->busy) {
            if (slot->lookup != NULL) {
                portal_lookup_cancel(slot->lookup);
            }
            if (slot->op != NULL) {
                iscsi_op_cancel(slot->op);
            }
            slot->busy = false;
            error_set(step_error(run, &slot->step), code, "%s", why);
        }
    }
    while (run->queue_first < run->queue_end) {
        error_set(step_error(run, &run->queue[run->queue_first++]), code, "%s", why);
    }
    run_end(run);
}

static void run_deadline(void *arg)
{
    run_give_up(arg, ERR_TIMEOUT, "The scan took too long and did not get there.");
}

static void run_cancelled(void *arg)
{
    struct scan_run *run = arg;

    if (!run->ended) {
        run->scan->cancelled = true;
        run_give_up(run, ERR_TERMINATED, "The scan was given up.");
    }
    run_let_go(run);
}

/* ---- steps ---- */

static void run_add(struct scan_run *run, enum step_kind kind, unsigned index)
{
    if (run->queue_end == run->queue_room) {
        run->queue_room = run->queue_room == 0 ? 64 : run->queue_room * 2;
        run->queue = realloc(run->queue, run->queue_room * sizeof(*run->queue));
        CHECK(run->queue != NULL);
    }
    run->queue[run->queue_end++] = (struct step){.kind = kind, .index = index};
}

static void run_pump(struct scan_run *run);

static void slot_done(struct slot *slot, const struct error *error)
{
    struct scan_run *run = slot->run;

    slot->lookup = NULL;
    slot->op = NULL;
    slot->busy = false;
    if (error != NULL) {
        *step_error(run, &slot->step) = *error;
    }
    run_pump(run);
}

static void slot_op(struct slot *slot, struct iscsi_op *op)
{
    struct error error;

    slot->op = op;
    if (op == NULL) {
        error_set(&error, ERR_NO_MEMORY, "No memory for a session.");
        *step_error(slot->run, &slot->step) = error;
        slot->busy = false; /* the caller pumps */
    }
}

static void spec_init(const struct scan_run *run, const struct scan_portal *portal,
                      struct iscsi_spec *spec)
{
    memset(spec, 0, sizeof(*spec));
    snprintf(spec->initiator, sizeof(spec->initiator), "%s", run->initiator);
    spec->chap = portal->chap;
    spec->open_timeout_ms = run->timeout_ms;
    spec->connect_timeout_ms = run->timeout_ms;
    spec->address_filter = network_redirect_allowed;
    spec->address_filter_arg = run->network;
    spec->n_portals = portal->n_addresses;
    memcpy(spec->portals, portal->addresses, portal->n_addresses * sizeof(spec->portals[0]));
}

static bool has_address(const struct sockaddr_storage *addresses, unsigned n,
                        const struct sockaddr_storage *address)
{
    for (unsigned i = 0; i < n; i++) {
        if (sockaddr_equal(&addresses[i], address)) {
            return true;
        }
    }
    return false;
}

/* A session to a target: the portal that was asked, for it has just answered, then the others that
 * it told. */
static void target_spec(const struct scan_run *run, const struct scan_target *target,
                        struct iscsi_spec *spec)
{
    const struct scan_portal *portal = &run->scan->portals[target->portal];

    spec_init(run, portal, spec);
    snprintf(spec->target, sizeof(spec->target), "%s", target->name);
    spec->mutual_chap = portal->mutual_chap;
    for (unsigned i = 0; i < target->n_addresses && spec->n_portals < ISCSI_MAX_PORTALS; i++) {
        spec->portals[spec->n_portals++] = target->addresses[i];
    }
    if (spec->n_portals > 1) {
        spec->connect_timeout_ms = run->timeout_ms / 2;
    }
}

static void lun_probed(void *arg, const struct iscsi_lun_info *info, const struct error *error)
{
    struct slot *slot = arg;

    if (info != NULL) {
        slot->run->scan->luns[slot->step.index].info = *info;
    }
    slot_done(slot, error);
}

static void lun_start(struct slot *slot)
{
    struct scan_run *run = slot->run;
    const struct scan_lun *lun = &run->scan->luns[slot->step.index];
    struct iscsi_spec spec;

    target_spec(run, &run->scan->targets[lun->target], &spec);
    spec.lun = lun_field(lun->lun);
    slot_op(slot, iscsi_probe_start(run->loop, &spec, lun_probed, slot));
    explicit_bzero(&spec, sizeof(spec));
}

static void target_reported(void *arg, const uint16_t *luns, unsigned n_luns,
                            const struct error *error)
{
    struct slot *slot = arg;
    struct scan_run *run = slot->run;
    struct scan *scan = run->scan;
    struct scan_target *target = &scan->targets[slot->step.index];

    if (error == NULL) {
        target->luns = calloc(n_luns == 0 ? 1 : n_luns, sizeof(*target->luns));
        CHECK(target->luns != NULL);
    }
    for (unsigned i = 0; error == NULL && i < n_luns; i++) {
        uint64_t number;

        if (lun_number(luns[i], &number) < 0) {
            continue;
        }
        target->luns[target->n_luns++] = number;
        if (!scan_wants_number(scan, number)) {
            continue;
        }
        if (scan->n_luns == SCAN_LUNS_MAX) {
            scan->cut_short = true;
            break;
        }
        lun_add(scan, slot->step.index, number);
        run_add(run, STEP_LUN, scan->n_luns - 1);
    }
    slot_done(slot, error);
}

static void target_start(struct slot *slot)
{
    struct scan_run *run = slot->run;
    struct iscsi_spec spec;

    target_spec(run, &run->scan->targets[slot->step.index], &spec);
    slot_op(slot, iscsi_report_luns_start(run->loop, &spec, target_reported, slot));
    explicit_bzero(&spec, sizeof(spec));
}

/* The same target of the same array, told by another of its portals, or twice. */
static bool target_is_new(struct scan_run *run, unsigned portal, const char *name)
{
    char key[ID_SIZE + ISCSI_NAME_SIZE];

    snprintf(key, sizeof(key), "%s %s", run->scan->portals[portal].row.system_id, name);
    if (map_get(&run->known, key) != NULL) {
        return false;
    }
    CHECK(map_put(&run->known, key, run) == 0);
    return true;
}

/* Which of the addresses that a portal tells may be dialled. */
static void target_addresses(const struct scan_run *run, const struct iscsi_found_target *found,
                             struct scan_target *target)
{
    const struct scan_portal *portal = &run->scan->portals[target->portal];

    target->at_portal = found->n_addresses == 0;
    for (unsigned i = 0; i < found->n_addresses; i++) {
        struct sockaddr_storage address;

        if (iscsi_address_parse(found->addresses[i], &address) < 0) {
            target->at_portal = true; /* a name: most likely that of the portal itself */
            continue;
        }
        if (has_address(portal->addresses, portal->n_addresses, &address)) {
            target->at_portal = true;
        } else if (target->n_addresses < ISCSI_MAX_PORTALS &&
                   network_address_allowed(run->network, (struct sockaddr *)&address, NULL) == 0) {
            target->addresses[target->n_addresses++] = address;
        }
    }
}

static void portal_discovered(void *arg, const struct iscsi_found_target *targets,
                              unsigned n_targets, const struct error *error)
{
    struct slot *slot = arg;
    struct scan_run *run = slot->run;
    struct scan *scan = run->scan;
    unsigned portal = slot->step.index;

    for (unsigned i = 0; scan->depth == SCAN_LUNS && error == NULL && i < n_targets; i++) {
        if ((!scan->portals[portal].all_targets && !scan_wants_name(scan, targets[i].name)) ||
            !target_is_new(run, portal, targets[i].name)) {
            continue;
        }
        if (scan->n_targets == SCAN_TARGETS_MAX) {
            scan->cut_short = true;
            break;
        }
        target_addresses(run, &targets[i], target_add(scan, portal, targets[i].name));
        run_add(run, STEP_TARGET, scan->n_targets - 1);
    }
    slot_done(slot, error);
}

static void portal_found(void *arg, const struct sockaddr_storage *addresses, unsigned n_addresses,
                         const struct error *error)
{
    struct slot *slot = arg;
    struct scan_run *run = slot->run;
    struct scan *scan = run->scan;
    struct scan_portal *portal = &scan->portals[slot->step.index];
    struct iscsi_spec spec;

    slot->lookup = NULL;
    if (error != NULL) {
        slot_done(slot, error);
        return;
    }
    portal->n_addresses = n_addresses;
    memcpy(portal->addresses, addresses, n_addresses * sizeof(*addresses));
    if (scan->depth == SCAN_ONE) {
        struct scan_target *target = target_add(scan, slot->step.index, scan->names[0]);

        target->at_portal = true;
        lun_add(scan, scan->n_targets - 1, scan->numbers[0]);
        run_add(run, STEP_LUN, scan->n_luns - 1);
        slot_done(slot, NULL);
        return;
    }
    /* Without mutual CHAP: many targets have none for discovery. What a false portal tells is a
     * name and an address, and the session to them insists on the proof. */
    spec_init(run, portal, &spec);
    slot_op(slot, iscsi_discover_start(run->loop, &spec, portal_discovered, slot));
    explicit_bzero(&spec, sizeof(spec));
    if (!slot->busy) {
        run_pump(run);
    }
}

static void portal_start(struct slot *slot)
{
    struct scan_run *run = slot->run;
    const struct scan_portal *portal = &run->scan->portals[slot->step.index];

    slot->lookup = portal_lookup_start(run->loop, run->network, &portal->row.address, 1,
                                       run->timeout_ms, portal_found, slot);
}

static void slot_start(struct slot *slot, const struct step *step)
{
    slot->step = *step;
    slot->busy = true;
    switch (step->kind) {
    case STEP_PORTAL:
        portal_start(slot);
        break;
    case STEP_TARGET:
        target_start(slot);
        break;
    case STEP_LUN:
        lun_start(slot);
        break;
    }
}

static void run_pump(struct scan_run *run)
{
    bool busy = false;

    for (unsigned i = 0; i < SCAN_AT_ONCE; i++) {
        struct slot *slot = &run->slots[i];

        while (!slot->busy && run->queue_first < run->queue_end) {
            slot_start(slot, &run->queue[run->queue_first++]);
        }
        busy = busy || slot->busy;
    }
    if (!busy) {
        run_end(run);
    }
}

static void run_begin(void *arg)
{
    struct scan_run *run = arg;

    loop_timer_init(&run->deadline, run->loop, run_deadline, run);
    loop_timer_start(&run->deadline, SCAN_STEPS * (uint64_t)run->timeout_ms * MS_NS);
    for (unsigned i = 0; i < run->scan->n_portals; i++) {
        if (run->scan->portals[i].error.code == ERR_NONE) {
            run_add(run, STEP_PORTAL, i);
        }
    }
    run_pump(run);
}

void scan_start(struct scan *scan, const struct scan_options *options, scan_done_fn done, void *arg)
{
    struct scan_run *run = calloc(1, sizeof(*run));

    CHECK(run != NULL && scan->run == NULL && scan->n_portals > 0);
    CHECK(scan->depth != SCAN_ONE || (scan->n_names == 1 && scan->n_numbers == 1));
    scan->run = run;
    run->scan = scan;
    run->network = options->network;
    run->control_loop = options->control_loop;
    run->loop = options->data_loop;
    run->timeout_ms = options->timeout_ms;
    run->done = done;
    run->arg = arg;
    snprintf(run->initiator, sizeof(run->initiator), "%s", options->initiator);
    for (unsigned i = 0; i < SCAN_AT_ONCE; i++) {
        run->slots[i].run = run;
    }
    map_init(&run->known);
    atomic_init(&run->holders, 1);
    run->start_task = (struct loop_task){.fn = run_begin, .arg = run};
    loop_post(run->loop, &run->start_task);
}

void scan_cancel(struct scan *scan)
{
    struct scan_run *run = scan->run;

    atomic_fetch_add(&run->holders, 1);
    run->cancel_task = (struct loop_task){.fn = run_cancelled, .arg = run};
    loop_post(run->loop, &run->cancel_task);
}
