// SPDX-License-Identifier: Apache-2.0
/*
 * One operation on all pairs of a relationship of groups, or on a list of relationships (ModifyListSynchronization).
 *
 *     check    legal for each, or nothing is done
 *     part     synchronous mirrors of a consistent relationship, at one moment, before anything is written (mirror_split_at_once())
 *     quiet    copies that have to rest first are stopped or suspended, one after the other: the call is pending, and what it has
 *              written is undone each time
 *     do       the operation on each, as if it were alone (replica_modify.c), in one transaction and with one job
 *
 * ?dryRun checks all and does none; what each would move is summed up. What only groups have is in group_pairs.c.
 */
#include "service/group_modify.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "service/classes.h"
#include "service/group_pairs.h"
#include "service/group_states.h"
#include "service/groups.h"
#include "service/handlers.h"
#include "service/hosted.h"
#include "service/mirror_records.h"
#include "service/paths.h"
#include "service/replica_operations.h"

struct run {
    uint32_t operation;
    bool force;
    struct modification *mods;
    bool *rested; /* by us: its copy was stopped or suspended */
    size_t n;
    struct group_sync_row *groups; /* of the pairs */
    size_t n_groups;
    bool cut;     /* all at one moment */
    bool *parted; /* synchronous mirrors that were, at that one */
    bool parting; /* that was asked */
    struct mirror_moment moment;
};

/* ---- check ---- */

static int refuse(struct call *call, const struct run *run, const struct sync_row *sync,
                  enum operation_verdict verdict)
{
    char legal[320];

    if (verdict == VERDICT_NOT_SUPPORTED) {
        return call_fail_param(call, ERR_NOT_SUPPORTED, "Operation",
                               "%s (%u) is not supported for a %s with CopyType %u, such as %s.",
                               enum_text(&map_operation, run->operation), run->operation,
                               enum_text(&map_sync_type, sync->sync_type), sync->copy_type,
                               path_of_sync(call, sync));
    }
    replica_legal_text(sync, legal, sizeof(legal));
    call_fail_param(call, ERR_ILLEGAL_STATE, "Operation",
                    "%s (%u) is not possible for all: CopyState of %s is %s (%u)%s. Legal for it "
                    "now: %s.",
                    enum_text(&map_operation, run->operation), run->operation,
                    path_of_sync(call, sync), enum_text(&map_copy_state, sync->copy_state),
                    sync->copy_state,
                    verdict == VERDICT_NEEDS_FORCE ? ", unless Force is true" : "", legal);
    snprintf(call->error.blocked_on, sizeof(call->error.blocked_on), "/synchronizations/%s",
             sync->head.id);
    return error_info(ERR_ILLEGAL_STATE)->err;
}

/* A group that is reserved for the role that it has does not take the other one. */
static int check_reserved(struct call *call, const char *group_id, uint32_t reserved_as)
{
    char path[PATH_SIZE];
    struct group_row group;
    int r = table_get(call->db, &group_table, group_id, &group);

    if (r < 0 || group.reserved_as != reserved_as) {
        return r < 0 ? call_fail_store(call, r) : 0;
    }
    snprintf(path, sizeof(path), "/groups/%s", group_id);
    return call_fail_blocked(call, ERR_ILLEGAL_STATE, path,
                             "%s is reserved: %s (ReservedAs); its role cannot be reversed.", path,
                             enum_text(&map_reserved_as, reserved_as));
}

static int check(struct call *call, const struct run *run)
{
    for (size_t i = 0; i < run->n_groups && run->operation == OPERATION_REVERSE_ROLES; i++) {
        if (run->groups[i].source_group_id[0] == '\0') {
            return call_fail_param(
                call, ERR_NOT_SUPPORTED, "Operation",
                "The source of /groupsynchronizations/%s is one volume, %s; it cannot "
                "become the target of a group.",
                run->groups[i].head.id, run->groups[i].system_element);
        }
        int r = check_reserved(call, run->groups[i].source_group_id, GROUP_SOURCE_ONLY);

        if (r == 0) {
            r = check_reserved(call, run->groups[i].target_group_id, GROUP_TARGET_ONLY);
        }
        if (r < 0) {
            return r;
        }
    }
    for (size_t i = 0; i < run->n; i++) {
        const struct sync_row *sync = &run->mods[i].sync;
        enum operation_verdict verdict = replica_verdict_of(sync, run->operation);

        if (verdict != VERDICT_LEGAL && !(verdict == VERDICT_NEEDS_FORCE && run->force)) {
            return refuse(call, run, sync, verdict);
        }
    }
    return 0;
}

/* ---- quiet ---- */

static int run_step(struct call *call);

static bool wants_rest(const struct run *run, const struct sync_row *sync)
{
    if (replica_is_mirror(sync)) {
        return false;
    }
    switch (run->operation) {
    case OPERATION_ABORT:
    case OPERATION_SUSPEND:
        return true;
    case OPERATION_DETACH:
        return sync->copy_state == STATE_UNSYNCHRONIZED;
    default:
        return false;
    }
}

static bool in_consistent(const struct run *run, const struct sync_row *sync)
{
    for (size_t i = 0; i < run->n_groups; i++) {
        if (run->groups[i].consistency &&
            strcmp(run->groups[i].head.id, sync->group_sync_id) == 0) {
            return true;
        }
    }
    return false;
}

/* Both sides of a mirror are brought to one moment first: the call comes back for each that has to. */
static bool parts_first(const struct run *run, const struct modification *mod)
{
    return replica_is_mirror(&mod->sync) && mod->sync.copy_state == STATE_SYNCHRONIZED &&
           !mod->mirror.parted &&
           (run->operation == OPERATION_FAILOVER || run->operation == OPERATION_SPLIT ||
            run->operation == OPERATION_REVERSE_ROLES);
}

/* Who does not flow holds the cycles of the others, and so their last one. */
static bool rounds_are_held(const struct run *run)
{
    for (size_t i = 0; i < run->n; i++) {
        const struct sync_row *sync = &run->mods[i].sync;

        if (replica_engine_of(sync) == ENGINE_ASYNC && in_consistent(run, sync) &&
            sync->copy_state != STATE_SYNCHRONIZED) {
            return true;
        }
    }
    return false;
}

/* Those that have their cycles together have the last one together, too. With Force all land on the point that they have in common where there can be
 * none. */
static int part_together(struct call *call, struct run *run)
{
    struct mirror_part *parts = arena_alloc(&call->arena, (run->n + 1) * sizeof(*parts));
    bool guard = run->operation != OPERATION_SPLIT;
    bool at_once = run->force && run->operation == OPERATION_FAILOVER && rounds_are_held(run);
    size_t n = 0;

    for (size_t i = 0; i < run->n; i++) {
        struct modification *mod = &run->mods[i];

        if (!parts_first(run, mod) || replica_engine_of(&mod->sync) != ENGINE_ASYNC ||
            !in_consistent(run, &mod->sync)) {
            continue;
        }
        if (at_once) {
            mod->mirror.parted = true;
            continue;
        }
        parts[n++] = (struct mirror_part){&mod->sync, &mod->mirror.parted_error};
    }
    if (n == 0) {
        return 0;
    }
    int r = mirror_split_together(call, parts, n, guard, MIRROR_SPLIT_TIMEOUT_MS, run_step);

    for (size_t i = 0; i < run->n && r == CALL_PENDING; i++) {
        for (size_t k = 0; k < n; k++) {
            run->mods[i].mirror.parted =
                run->mods[i].mirror.parted || parts[k].sync == &run->mods[i].sync;
        }
    }
    return r;
}

/* ---- synchronous mirrors, parted at one moment ---- */

/* What the target has is what the source was when they were parted. */
static bool leaves_moment(uint32_t operation)
{
    switch (operation) {
    case OPERATION_DEACTIVATE:
    case OPERATION_DETACH:
    case OPERATION_DISSOLVE:
    case OPERATION_FAILOVER:
    case OPERATION_FRACTURE:
    case OPERATION_REVERSE_ROLES:
    case OPERATION_SPLIT:
    case OPERATION_SUSPEND:
        return true;
    default:
        return false;
    }
}

/* CALL_PENDING: they are being parted, and nothing has been written. */
static int part_at_once(struct call *call, struct run *run)
{
    const struct sync_row **syncs = arena_alloc(&call->arena, (run->n + 1) * sizeof(*syncs));
    bool guard = run->operation == OPERATION_FAILOVER || run->operation == OPERATION_REVERSE_ROLES;
    size_t n = 0;

    for (size_t i = 0; i < run->n && !run->parting && leaves_moment(run->operation); i++) {
        const struct sync_row *sync = &run->mods[i].sync;

        run->parted[i] = replica_engine_of(sync) == ENGINE_MIRROR &&
                         sync->copy_state == STATE_SYNCHRONIZED && in_consistent(run, sync);
        if (run->parted[i]) {
            syncs[n++] = sync;
        }
    }
    if (n == 0) {
        return 0;
    }
    int r = mirror_split_at_once(call, syncs, n, guard, &run->moment, run_step);

    run->parting = r == CALL_PENDING;
    return r;
}

/* They were, and are still. */
static int check_parted(struct call *call, struct run *run)
{
    const struct error *error = &run->moment.error;
    const char *culprit = run->moment.culprit_id;
    const char *why = error->detail;
    enum error_code code = error->code == ERR_TIMEOUT ? ERR_TIMEOUT : ERR_ILLEGAL_STATE;

    for (size_t i = 0; i < run->n && run->parting && error->code == ERR_NONE; i++) {
        struct modification *mod = &run->mods[i];

        if (!run->parted[i]) {
            continue;
        }
        if (!mirror_is_parted(call->control, mod->sync.head.id) ||
            mod->sync.copy_state != STATE_SYNCHRONIZED) {
            culprit = mod->sync.head.id;
            why = "another operation on it came in between, or the records took too long";
            break;
        }
        mod->mirror.parted = true;
    }
    if (!run->parting || culprit[0] == '\0') {
        return 0;
    }
    return call_fail_blocked(call, code,
                             arena_printf(&call->arena, "/synchronizations/%s", culprit),
                             "Not all mirrors could be parted at one moment: /synchronizations/%s: "
                             "%.300s. Nothing was changed; try again.",
                             culprit, why);
}

static int part(struct call *call, struct run *run)
{
    int together = part_at_once(call, run);

    if (together == 0) {
        together = part_together(call, run);
    }
    if (together != 0) {
        return together;
    }
    for (size_t i = 0; i < run->n; i++) {
        struct modification *mod = &run->mods[i];

        if (!parts_first(run, mod)) {
            continue;
        }
        mod->again = run_step;
        int r = modification_prepare(call, mod);

        if (r == 0) {
            r = modification_do(call, mod);
        }
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

/* The next copy that moves. CALL_PENDING: it is being brought to rest. */
static int quiet(struct call *call, struct run *run)
{
    for (size_t i = 0; i < run->n; i++) {
        struct modification *mod = &run->mods[i];
        struct copy_row copy;

        if (run->rested[i] || !wants_rest(run, &mod->sync)) {
            continue;
        }
        int r = sync_running_copy(call->db, mod->sync.head.id, &copy);

        if (r < 0 || copy.state != COPY_ROW_RUNNING) {
            if (r < 0 && r != -ENOENT) {
                return call_fail_store(call, r);
            }
            continue;
        }
        run->rested[i] = true;
        r = run->operation == OPERATION_SUSPEND ? sync_copy_suspend(call, &copy, run_step)
                                                : sync_copy_stop(call, mod->sync.head.id, run_step);
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

/* ---- do ---- */

/* It is what the operation makes of it: its copy came to rest by us. */
static bool done_already(const struct run *run, size_t i)
{
    uint32_t state = run->mods[i].sync.copy_state;

    return run->rested[i] && ((run->operation == OPERATION_ABORT && state == STATE_ABORTED) ||
                              (run->operation == OPERATION_SUSPEND && state == STATE_SUSPENDED));
}

static int do_each(struct call *call, struct run *run)
{
    int r = 0;

    for (size_t i = 0; i < run->n && r == 0; i++) {
        struct modification *mod = &run->mods[i];

        /* An operation on another pair may have taken this one with it. */
        r = table_get(call->db, &sync_table, mod->sync.head.id, &mod->sync);
        if (r < 0) {
            r = r == -ENOENT ? 0 : call_fail_store(call, r);
            continue;
        }
        if (done_already(run, i)) {
            continue;
        }
        r = modification_prepare(call, mod);
        if (r == 0) {
            r = modification_do(call, mod);
        }
    }
    return r;
}

/* ---- one moment ---- */

static bool takes_moment(uint32_t operation)
{
    return operation == OPERATION_ACTIVATE || operation == OPERATION_RESYNC ||
           operation == OPERATION_RESTORE;
}

/* Are all of them to be made at one moment: because the relationship is consistent, or the call says so? */
static int cut_together(struct call *call, struct run *run)
{
    const struct values *setting = args_instance(call->args, "ReplicationSettingData");
    bool wanted = setting != NULL && args_bool(setting, "ConsistentPointInTime", false);

    for (size_t i = 0; i < run->n_groups; i++) {
        wanted = wanted || (run->groups[i].consistency && run->groups[i].sync_type != SYNC_MIRROR);
    }
    run->cut = wanted && takes_moment(run->operation);
    for (size_t i = 0; i < run->n && run->cut; i++) {
        if (replica_engine_of(&run->mods[i].sync) != ENGINE_LAYERS) {
            return call_fail_param(
                call, ERR_NOT_SUPPORTED, "ReplicationSettingData.ConsistentPointInTime",
                "%s does not share the data of its source, so it is of no moment "
                "with others.",
                path_of_sync(call, &run->mods[i].sync));
        }
    }
    if (run->cut) {
        hosted_cuts_together(call);
    }
    return 0;
}

/* Those pairs of it that were cut have a new moment in common. */
static int note_moment(struct call *call, const struct run *run, struct group_sync_row *group_sync,
                       struct sync_row *pairs, size_t n)
{
    uint64_t now = control_now_ms(call->control);
    int r = 0;

    group_sync->moments++;
    for (size_t i = 0; i < n && r == 0; i++) {
        uint64_t activated_ms = pairs[i].when_activated_ms;

        replica_made_now(&pairs[i], now);
        if (run->operation == OPERATION_RESTORE) {
            pairs[i].when_activated_ms = activated_ms;
        }
        pairs[i].moment = group_sync->moments;
        r = table_update(call->db, &sync_table, &pairs[i]);
    }
    if (r == 0) {
        r = table_update(call->db, &group_sync_table, group_sync);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

/* The targets of those pairs that were parted are of one moment. */
static int note_parting(struct call *call, const struct run *run, struct group_sync_row *group_sync,
                        struct sync_row *pairs, size_t n)
{
    bool any = false;
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i++) {
        for (size_t k = 0; k < run->n && r == 0; k++) {
            if (!run->parted[k] || strcmp(run->mods[k].sync.head.id, pairs[i].head.id) != 0 ||
                replica_mirror_connected(&pairs[i])) {
                continue; /* of reversed roles nothing is parted any more */
            }
            group_sync->moments += !any;
            any = true;
            pairs[i].moment = group_sync->moments;
            r = table_update(call->db, &sync_table, &pairs[i]);
        }
    }
    group_sync->barrier_microseconds = run->moment.pause_us;
    if (r == 0 && any) {
        r = table_update(call->db, &group_sync_table, group_sync);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

static void swap_ends(struct call *call, struct group_sync_row *group_sync)
{
    struct group_sync_row before = *group_sync;

    memcpy(group_sync->system_element, before.synced_element, PATH_SIZE);
    memcpy(group_sync->synced_element, before.system_element, PATH_SIZE);
    memcpy(group_sync->source_group_id, before.target_group_id, ID_SIZE);
    memcpy(group_sync->target_group_id, before.source_group_id, ID_SIZE);
    if (values_param(call->outs, "UpdatedSynchronization") != NULL) {
        outs_path(call->outs, "UpdatedSynchronization", "/groupsynchronizations/%s",
                  group_sync->head.id);
    }
}

/* A relationship of groups follows its pairs. */
static int follow(struct call *call, const struct run *run)
{
    for (size_t i = 0; i < run->n_groups; i++) {
        struct group_sync_row group_sync;
        struct sync_row *pairs;
        size_t n;
        int r = table_get(call->db, &group_sync_table, run->groups[i].head.id, &group_sync);

        if (r == -ENOENT) {
            continue;
        }
        r = r < 0 ? call_fail_store(call, r)
                  : group_sync_pairs(call, group_sync.head.id, &pairs, &n);
        if (r < 0) {
            return r;
        }
        if (run->cut) {
            r = note_moment(call, run, &group_sync, pairs, n);
            if (r < 0) {
                return r;
            }
        }
        if (run->parting) {
            r = note_parting(call, run, &group_sync, pairs, n);
            if (r < 0) {
                return r;
            }
        }
        bool reversed = run->operation == OPERATION_REVERSE_ROLES;

        if (reversed) {
            swap_ends(call, &group_sync);
        }
        if (n > 0 && (reversed || pairs[0].mode != group_sync.mode)) {
            group_sync.mode = pairs[0].mode;
            group_sync.consistency = group_sync.consistency && group_consistency_possible(pairs, n);
            r = table_update(call->db, &group_sync_table, &group_sync);
            if (r < 0) {
                return call_fail_store(call, r);
            }
        }
    }
    return 0;
}

/* Those of lists are there even when they are empty. */
static void array_outs(struct call *call)
{
    static const char *const names[] = {"SettingsState", "UpdatedSynchronizations"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const struct param *param = values_param(call->outs, names[i]);

        if (param != NULL && param->array) {
            outs_array(call->outs, names[i]);
        }
    }
}

static int run_on(struct call *call, struct run *run)
{
    int r;

    array_outs(call);
    job_batch_begin(call);
    r = quiet(call, run);

    if (r == 0) {
        r = part(call, run);
    }
    if (r == 0) {
        r = cut_together(call, run);
    }
    if (r == 0) {
        r = do_each(call, run);
    }
    if (r == 0) {
        r = follow(call, run);
    }
    if (r == 0 && run->cut) {
        group_note_barrier(call, run->groups, run->n_groups);
    }
    if (r == 0 && run->parting) {
        outs_number(call->outs, "BarrierMicroseconds", run->moment.pause_us);
    }
    return r != 0 ? r : job_batch_end(call);
}

static int reload(struct call *call, struct run *run)
{
    for (size_t i = 0; i < run->n; i++) {
        struct modification *mod = &run->mods[i];
        int r = table_get(call->db, &sync_table, mod->sync.head.id, &mod->sync);

        if (r < 0) {
            return r == -ENOENT ? call_fail_param(call, ERR_ILLEGAL_STATE, "Operation",
                                                  "%s ended before the operation could be done.",
                                                  path_of_sync(call, &mod->sync))
                                : call_fail_store(call, r);
        }
    }
    return 0;
}

/* A copy rests now. */
static int run_step(struct call *call)
{
    struct run *run = call->step_state;
    int r = reload(call, run);

    if (r == 0) {
        r = check_parted(call, run);
    }
    return r < 0 ? r : run_on(call, run);
}

/* ---- ?dryRun ---- */

enum { SIDE_BOTH = 4 }; /* of map_read_only */

/* The one that says least of what differs is that of all. */
static unsigned reason_rank(const char *reason)
{
    static const char *const reasons[] = {"Map", "Compare", "Full"};
    unsigned rank = 0;

    for (unsigned i = 0; i < ARRAY_LEN(reasons) && reason != NULL; i++) {
        rank = strcmp(reason, reasons[i]) == 0 ? i + 1 : rank;
    }
    return rank;
}

static void sum_add(struct values *sum, const struct values *one)
{
    uint64_t side = args_number(one, "Overwritten", 0);
    uint64_t sides = args_number(sum, "Overwritten", side);
    const char *reason = args_text(one, "Reason");

    outs_number(sum, "BytesToCopy",
                args_number(sum, "BytesToCopy", 0) + args_number(one, "BytesToCopy", 0));
    outs_number(sum, "BytesDiscarded",
                args_number(sum, "BytesDiscarded", 0) + args_number(one, "BytesDiscarded", 0));
    if (side != 0) {
        outs_number(sum, "Overwritten", side == sides ? side : SIDE_BOTH);
    }
    if (reason_rank(reason) > reason_rank(args_text(sum, "Reason"))) {
        outs_text(sum, "Reason", reason);
    }
}

/* What the pairs come to together. */
static struct values *sum_of(struct call *call, const struct run *run)
{
    struct values *sum = values_new(&call->arena, class_DryRun.params, class_DryRun.n_params);
    uint64_t state = 0;
    bool unknown = false;

    for (size_t i = 0; i < run->n; i++) {
        const struct values *one = run->mods[i].mirror.told;
        uint64_t own = args_number(one, "CopyState", 0);

        sum_add(sum, one);
        unknown = unknown || !args_present(one, "BytesDiscarded");
        state = i == 0 || state == own ? own : STATE_MIXED;
    }
    outs_number(sum, "CopyState", state);
    if (unknown) {
        values_get(sum, "BytesDiscarded")->present = false;
    }
    if (run->n_groups == 1) {
        outs_path(sum, "Synchronization", "/groupsynchronizations/%s", run->groups[0].head.id);
    }
    return sum;
}

static int dry_step(struct call *call);

/* CALL_PENDING: it is looked at one after the other. */
static int dry_on(struct call *call, struct run *run)
{
    int r = cut_together(call, run);

    for (size_t i = 0; i < run->n && r == 0; i++) {
        struct modification *mod = &run->mods[i];

        mod->again = dry_step;
        r = replica_is_mirror(&mod->sync) ? modification_prepare(call, mod)
                                          : modification_refuse_dry_run(call);
        if (r == 0) {
            r = modification_do(call, mod);
        }
    }
    if (r != 0) {
        return r;
    }
    for (size_t i = 0; i < run->n; i++) {
        outs_add_instance(call->outs, "DryRuns", run->mods[i].mirror.told);
    }
    outs_instance(call->outs, "DryRun", sum_of(call, run));
    array_outs(call);
    return 0;
}

static int dry_step(struct call *call)
{
    struct run *run = call->step_state;
    int r = reload(call, run);

    return r < 0 ? r : dry_on(call, run);
}

static struct run *run_new(struct call *call, size_t n, size_t n_groups)
{
    struct run *run = arena_alloc(&call->arena, sizeof(*run));

    run->operation = (uint32_t)args_number(call->args, "Operation", 0);
    run->force = args_bool(call->args, "Force", false);
    run->mods = arena_alloc(&call->arena, (n + 1) * sizeof(*run->mods));
    run->rested = arena_alloc(&call->arena, (n + 1) * sizeof(*run->rested));
    run->parted = arena_alloc(&call->arena, (n + 1) * sizeof(*run->parted));
    run->groups = arena_alloc(&call->arena, (n_groups + 1) * sizeof(*run->groups));
    call->step_state = run;
    return run;
}

static void run_add(struct run *run, const struct sync_row *sync)
{
    struct modification *mod = &run->mods[run->n++];

    mod->operation = run->operation;
    mod->force = run->force;
    mod->sync = *sync;
}

static int run_begin(struct call *call, struct run *run)
{
    int r = check(call, run);

    if (r < 0) {
        return r;
    }
    return call->dry_run ? dry_on(call, run) : run_on(call, run);
}

/* ---- the methods ---- */

int group_modify(struct call *call)
{
    uint32_t operation = (uint32_t)args_number(call->args, "Operation", 0);
    bool pairs_named =
        operation == OPERATION_ADD_SYNC_PAIR || operation == OPERATION_REMOVE_SYNC_PAIR;
    struct group_sync_row group_sync;
    struct sync_row *pairs;
    size_t n;
    int r = path_group_sync(call, "Synchronization", args_text(call->args, "Synchronization"),
                            &group_sync);

    if (r == 0) {
        r = group_sync_pairs(call, group_sync.head.id, &pairs, &n);
    }
    if (r < 0) {
        return r;
    }
    if (args_present(call->args, "SyncPair") && !pairs_named) {
        return call_fail_param(call, ERR_BAD_VALUE, "SyncPair",
                               "SyncPair goes with AddSyncPair and RemoveSyncPair only.");
    }
    if (group_operation_own(operation)) {
        if (call->dry_run) {
            return modification_refuse_dry_run(call);
        }
        return group_pairs_modify(call, &group_sync, pairs, n, operation);
    }
    struct run *run = run_new(call, n, 1);

    run->groups[run->n_groups++] = group_sync;
    for (size_t i = 0; i < n; i++) {
        run_add(run, &pairs[i]);
    }
    return run_begin(call, run);
}

/* The i-th entry: one relationship, or the pairs of one of groups. */
static int list_entry_of(struct call *call, size_t i, bool of_groups,
                         struct group_sync_row *ret_group, struct sync_row **ret_pairs,
                         size_t *ret_n)
{
    const struct value *item = &values_get(call->args, "Synchronization")->items[i];
    const char *parameter = arena_printf(&call->arena, "Synchronization[%zu]", i);

    if (!item->present) {
        return call_fail_param(call, ERR_MISSING_PARAMETER, parameter,
                               "%s is null; each entry must name a relationship.", parameter);
    }
    if (of_groups) {
        int r = path_group_sync(call, parameter, item->text, ret_group);

        return r < 0 ? r : group_sync_pairs(call, ret_group->head.id, ret_pairs, ret_n);
    }
    *ret_pairs = arena_alloc(&call->arena, sizeof(**ret_pairs));
    *ret_n = 1;
    return path_synchronization(call, parameter, item->text, *ret_pairs);
}

static int check_entry(struct call *call, size_t i, const struct sync_row *first,
                       const struct sync_row *pair)
{
    if (pair->sync_type == first->sync_type && pair->mode == first->mode) {
        return 0;
    }
    return call_fail_param(
        call, ERR_BAD_VALUE, arena_printf(&call->arena, "Synchronization[%zu]", i),
        "All relationships of a list have the same SyncType and Mode; that of %s "
        "differs from the first.",
        path_of_sync(call, pair));
}

static int modify_list_synchronization(struct call *call)
{
    const struct value *list = values_get(call->args, "Synchronization");
    bool of_groups =
        list->n_items > 0 && list->items[0].present && path_is_group_sync(list->items[0].text);
    struct group_sync_row *groups =
        arena_alloc(&call->arena, (list->n_items + 1) * sizeof(*groups));
    struct sync_row **pairs = arena_alloc(&call->arena, (list->n_items + 1) * sizeof(*pairs));
    size_t *n_pairs = arena_alloc(&call->arena, (list->n_items + 1) * sizeof(*n_pairs));
    size_t n = 0;

    if (list->n_items == 0 || list->n_items > GROUP_MEMBERS_MAX) {
        return call_fail_param(call, ERR_BAD_VALUE, "Synchronization",
                               "Synchronization names 1 to %d relationships.", GROUP_MEMBERS_MAX);
    }
    for (size_t i = 0; i < list->n_items; i++) {
        int r = list_entry_of(call, i, of_groups, &groups[i], &pairs[i], &n_pairs[i]);

        for (size_t k = 0; k < i && r == 0; k++) {
            if (strcmp(list->items[k].text, list->items[i].text) == 0) {
                r = call_fail_param(call, ERR_BAD_VALUE,
                                    arena_printf(&call->arena, "Synchronization[%zu]", i),
                                    "%s is named twice.", list->items[i].text);
            }
        }
        for (size_t k = 0; k < n_pairs[i] && r == 0; k++) {
            r = check_entry(call, i, pairs[0], &pairs[i][k]);
        }
        if (r < 0) {
            return r;
        }
        n += n_pairs[i];
    }
    struct run *run = run_new(call, n, list->n_items);

    for (size_t i = 0; i < list->n_items; i++) {
        if (of_groups) {
            run->groups[run->n_groups++] = groups[i];
        }
        for (size_t k = 0; k < n_pairs[i]; k++) {
            run_add(run, &pairs[i][k]);
        }
    }
    return run_begin(call, run);
}

int method_modify_list_synchronization(struct call *call)
{
    return hosted_run(call, modify_list_synchronization);
}
