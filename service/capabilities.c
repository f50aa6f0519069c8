// SPDX-License-Identifier: Apache-2.0
/*
 * ReplicationServiceCapabilities: what a kind of replication can do.
 *
 * States and operations are asked from service/replica_states.h, the table that decides when an
 * operation is called, so that what is told and what is done cannot differ. A kind that is not made
 * is 1 Not Supported for every question about it.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "service/capabilities_parts.h"
#include "service/group_states.h"
#include "service/groups.h"
#include "service/handlers.h"
#include "service/replica.h"

enum { GROUP_PERSISTENT = 2 };
enum { LOCAL = 2, REMOTE = 3, REPLICATION_TYPE_FIRST = 2, REPLICATION_TYPE_LAST = 13 };
enum { CONTROLLING_SOURCE_OR_TARGET = 4 };
enum {
    METHOD_CREATE_ELEMENT = 2,
    METHOD_CREATE_GROUP = 3,
    METHOD_MODIFY = 4,
    METHOD_MODIFY_LIST = 5,
    METHOD_CREATE_LIST = 7,
    METHOD_CREATE_GROUP_FROM_ELEMENTS = 8,
    METHOD_ADD_ELEMENTS = 11,
};

/* The reverse of replication_type(). */
void replication_kind_of(uint32_t number, struct replication_kind *ret_kind)
{
    uint32_t n = number - REPLICATION_TYPE_FIRST;

    *ret_kind = (struct replication_kind){.number = number,
                                          .sync_type = SYNC_MIRROR + n / 4,
                                          .remote = (n / 2) % 2 != 0,
                                          .mode = MODE_SYNCHRONOUS + n % 2};
}

bool replication_kind_supported(const struct replication_kind *kind)
{
    return replica_type_supported(kind->sync_type, kind->mode, kind->remote);
}

/* "12 Synchronous Clone Remote, 13 …" for refusals. */
static void supported_text(char *text, size_t size)
{
    size_t len = 0;

    text[0] = '\0';
    for (uint32_t i = REPLICATION_TYPE_FIRST; i <= REPLICATION_TYPE_LAST; i++) {
        struct replication_kind kind;
        replication_kind_of(i, &kind);
        if (replication_kind_supported(&kind) && len < size) {
            len += (size_t)snprintf(text + len, size - len, "%s%u %s", len == 0 ? "" : ", ", i,
                                    enum_text(&map_replication_type, i));
        }
    }
}

int capability_number(struct call *call, const char *name, uint32_t *ret_number)
{
    if (!args_present(call->args, name)) {
        return call_fail_param(call, ERR_MISSING_PARAMETER, name, "%s is required.", name);
    }
    *ret_number = (uint32_t)args_number(call->args, name, 0);
    return 0;
}

int capability_kind(struct call *call, struct replication_kind *ret_kind)
{
    uint32_t number;
    int r = capability_number(call, "ReplicationType", &number);

    if (r < 0) {
        return r;
    }
    replication_kind_of(number, ret_kind);
    if (replication_kind_supported(ret_kind)) {
        return 0;
    }
    char supported[280];
    supported_text(supported, sizeof(supported));
    return call_fail_param(call, ERR_NOT_SUPPORTED, "ReplicationType",
                           "%s is not made by this version; what is: %s.",
                           enum_text(&map_replication_type, number), supported);
}

void capability_add(struct call *call, const char *name, const uint32_t *numbers, size_t n)
{
    outs_array(call->outs, name);
    for (size_t i = 0; i < n; i++) {
        outs_add_number(call->outs, name, numbers[i]);
    }
}

/* SyncType and Mode, and back. Numbers for numbers: that a kind has one does not say that it is
 * made. */

int method_convert_sync_type(struct call *call)
{
    uint32_t sync_type;
    uint32_t place;
    int r = capability_number(call, "SyncType", &sync_type);

    if (r == 0) {
        r = capability_number(call, "LocalOrRemote", &place);
    }
    if (r < 0) {
        return r;
    }
    /* NULL leaves it to us; a create takes 2 as well. */
    uint32_t mode = (uint32_t)args_number(call->args, "Mode", MODE_SYNCHRONOUS);
    outs_number(call->outs, "SupportedReplicationTypes",
                replication_type(sync_type, mode, place == REMOTE));
    return 0;
}

int method_convert_replication_type(struct call *call)
{
    struct replication_kind kind;
    uint32_t number;
    int r = capability_number(call, "ReplicationType", &number);

    if (r < 0) {
        return r;
    }
    replication_kind_of(number, &kind);
    outs_number(call->outs, "SyncType", kind.sync_type);
    outs_number(call->outs, "Mode", kind.mode);
    outs_number(call->outs, "LocalOrRemote", kind.remote ? REMOTE : LOCAL);
    return 0;
}

/* States and operations */

int capability_query(struct call *call, const struct replication_kind *kind,
                     struct replication_query *ret_query)
{
    const struct values *setting = args_instance(call->args, "ReplicationSettingData");
    uint64_t methodology = setting != NULL
                               ? args_number(setting, "DesiredCopyMethodology", METHODOLOGY_ANY)
                               : METHODOLOGY_ANY;
    int r = replica_check_setting_data(call, "ReplicationSettingData", kind->sync_type, kind->mode,
                                       kind->remote);

    *ret_query = (struct replication_query){.sync_type = kind->sync_type, .remote = kind->remote};
    for (uint32_t engine = ENGINE_COPY; engine < ENGINES; engine++) {
        bool wanted = methodology == METHODOLOGY_ANY || methodology == replica_methodology(engine);

        if (wanted && replica_engine_possible(kind->sync_type, kind->mode, kind->remote, engine)) {
            ret_query->engines[ret_query->n_engines++] = engine;
        }
    }
    return r;
}

/* The best that any of them gets. */
static enum operation_verdict verdict(const struct replication_query *query, uint32_t copy_state,
                                      uint32_t operation)
{
    static const uint32_t copy_types[] = {COPY_ASYNC, COPY_SYNC, COPY_UNSYNC_ASSOC,
                                          COPY_UNSYNC_UNASSOC};
    enum operation_verdict best = VERDICT_NOT_SUPPORTED;

    if (query->remote && replica_operation_local(operation)) {
        return best;
    }
    for (size_t i = 0; i < query->n_engines; i++) {
        for (size_t k = 0; k < ARRAY_LEN(copy_types); k++) {
            enum operation_verdict v = replica_verdict(query->sync_type, query->engines[i],
                                                       copy_state, operation, copy_types[k]);

            if ((query->copy_type == 0 || query->copy_type == copy_types[k]) && v < best) {
                best = v;
            }
        }
    }
    return best;
}

static bool has_state(const uint32_t *states, uint32_t copy_state)
{
    for (; *states != 0; states++) {
        if (*states == copy_state) {
            return true;
        }
    }
    return false;
}

/* Any of them can be in that state. */
bool capability_state_possible(const struct replication_query *query, uint32_t copy_state)
{
    for (size_t i = 0; i < query->n_engines; i++) {
        if (has_state(replica_states(query->sync_type, query->engines[i]), copy_state)) {
            return true;
        }
    }
    return false;
}

static bool host_accessible(const struct replication_query *query, uint32_t copy_state)
{
    for (size_t i = 0; i < query->n_engines; i++) {
        if (has_state(replica_states(query->sync_type, query->engines[i]), copy_state) &&
            !replica_host_accessible(query->engines[i], copy_state)) {
            return false;
        }
    }
    return true;
}

static bool operation_possible(const struct replication_query *query, uint32_t operation)
{
    if (query->remote && replica_operation_local(operation)) {
        return false;
    }
    for (size_t i = 0; i < query->n_engines; i++) {
        if (replica_operation_supported(query->sync_type, query->engines[i], operation)) {
            return true;
        }
    }
    return false;
}

/* Taken from some state, and *ret_force: only with Force from every state that takes it. */
bool capability_operation_taken(const struct replication_query *query, uint32_t copy_state,
                                uint32_t operation, bool *ret_force)
{
    bool taken = false;

    *ret_force = true;
    for (uint32_t state = STATE_INITIALIZED; state <= STATE_INVALID; state++) {
        if ((copy_state != 0 && copy_state != state) || !capability_state_possible(query, state)) {
            continue;
        }
        enum operation_verdict v = verdict(query, state, operation);
        taken = taken || v == VERDICT_LEGAL || v == VERDICT_NEEDS_FORCE;
        *ret_force = *ret_force && v != VERDICT_LEGAL;
    }
    return taken;
}

void capability_operations_begin(struct values *outs, const char *name)
{
    outs_array(outs, name);
    outs_array(outs, "ServiceControlling");
    outs_array(outs, "RequiresForce");
    outs_array(outs, "UpdatesSynchronizedPath");
}

void capability_operations_add(struct values *outs, const char *name, uint32_t operation,
                               bool force)
{
    outs_add_number(outs, name, operation);
    outs_add_number(outs, "ServiceControlling", CONTROLLING_SOURCE_OR_TARGET);
    outs_add_number(outs, "RequiresForce", force);
    /* The elements of the relationship change places; its path stays. */
    outs_add_number(outs, "UpdatesSynchronizedPath", false);
}

void capability_operations(struct call *call, const char *name,
                           const struct replication_query *query, uint32_t copy_state,
                           capability_taken_fn taken)
{
    capability_operations_begin(call->outs, name);
    for (uint32_t operation = 2; operation < OPERATION_COUNT; operation++) {
        bool force;

        if (taken(query, copy_state, operation, &force)) {
            capability_operations_add(call->outs, name, operation, force);
        }
    }
}

/* The kind that is asked about, and what of it. */
int capability_kind_and_query(struct call *call, struct replication_kind *ret_kind,
                              struct replication_query *ret_query)
{
    int r = capability_kind(call, ret_kind);

    return r < 0 ? r : capability_query(call, ret_kind, ret_query);
}

int method_get_supported_operations(struct call *call)
{
    struct replication_kind kind;
    struct replication_query query;
    int r = capability_kind_and_query(call, &kind, &query);

    if (r == 0) {
        capability_operations(call, "SupportedOperations", &query,
                              (uint32_t)args_number(call->args, "CopyState", 0),
                              capability_operation_taken);
    }
    return r;
}

static int operation_supported(struct call *call, const struct replication_query *query,
                               uint32_t operation)
{
    if (operation_possible(query, operation)) {
        return 0;
    }
    return call_fail_param(call, ERR_NOT_SUPPORTED, "Operation",
                           "%s is no operation of this kind of replication; "
                           "GetSupportedOperations lists those.",
                           enum_text(&map_operation, operation));
}

int method_get_supported_copy_states(struct call *call)
{
    struct replication_kind kind;
    struct replication_query query;
    uint32_t operation = (uint32_t)args_number(call->args, "Operation", 0);
    int r = capability_kind_and_query(call, &kind, &query);

    if (r == 0 && operation != 0) {
        r = operation_supported(call, &query, operation);
    }
    if (r < 0) {
        return r;
    }
    outs_array(call->outs, "SupportedCopyStates");
    outs_array(call->outs, "HostAccessible");
    for (uint32_t state = STATE_INITIALIZED; state <= STATE_INVALID; state++) {
        bool force;
        if (!capability_state_possible(&query, state) ||
            (operation != 0 && !capability_operation_taken(&query, state, operation, &force))) {
            continue;
        }
        outs_add_number(call->outs, "SupportedCopyStates", state);
        outs_add_number(call->outs, "HostAccessible", host_accessible(&query, state));
    }
    return 0;
}

static void add_wait_state(struct call *call, uint64_t *seen, uint32_t state)
{
    if (!(*seen & 1ull << state)) {
        *seen |= 1ull << state;
        outs_add_number(call->outs, "SupportedCopyStates", state);
    }
}

/* Of a creation (operation 0) or an operation. */
static void add_wait_states(struct call *call, const struct replication_query *query,
                            uint32_t operation, uint64_t *seen)
{
    for (size_t i = 0; i < query->n_engines; i++) {
        for (const uint32_t *state =
                 replica_wait_states(query->sync_type, query->engines[i], operation);
             *state != 0; state++) {
            add_wait_state(call, seen, *state);
        }
    }
}

/* operation 0: the union over all operations. */
static int wait_states_of_modify(struct call *call, const struct replication_query *query,
                                 uint32_t operation)
{
    uint64_t seen = 0;

    if (operation != 0) {
        int r = operation_supported(call, query, operation);
        if (r < 0) {
            return r;
        }
    }
    for (uint32_t i = 2; i < OPERATION_COUNT; i++) {
        if (operation == 0 || operation == i) {
            add_wait_states(call, query, i, &seen);
        }
    }
    return 0;
}

int method_get_supported_wait_states(struct call *call)
{
    struct replication_kind kind;
    struct replication_query query;
    uint32_t operation = (uint32_t)args_number(call->args, "Operation", 0);
    uint32_t method;
    uint64_t seen = 0;
    int r = capability_kind_and_query(call, &kind, &query);

    if (r == 0) {
        r = capability_number(call, "MethodName", &method);
    }
    if (r < 0) {
        return r;
    }
    outs_array(call->outs, "SupportedCopyStates");
    if (method == METHOD_MODIFY || method == METHOD_MODIFY_LIST) {
        return wait_states_of_modify(call, &query, operation);
    }
    if (method != METHOD_CREATE_ELEMENT && method != METHOD_CREATE_LIST &&
        method != METHOD_CREATE_GROUP && method != METHOD_CREATE_GROUP_FROM_ELEMENTS &&
        method != METHOD_ADD_ELEMENTS) {
        return call_fail_param(call, ERR_NOT_SUPPORTED, "MethodName",
                               "%s is not there in this version.",
                               enum_text(&map_wait_method, method));
    }
    if (operation != 0) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, "Operation",
                               "Only methods that modify have operations; leave Operation out.");
    }
    add_wait_states(call, &query, 0, &seen);
    return 0;
}

/* Features */

int method_get_supported_features(struct call *call)
{
    static const uint32_t of_snapshots[] = {
        2,  /* groups */
        7,  /* writes of hosts wait a moment while the source is cut */
        44, /* beside the source, in its pool */
        51, /* ElementName of a create names the target that it makes */
    };
    static const uint32_t of_local_clones[] = {
        2,  7, 8, /* in any pool of files; without a TargetPool in that of the source */
        24, /* AttachOrModifyReplica with a Goal changes the priority, of a running copy too */
        51,
    };
    static const uint32_t of_local_mirrors[] = {
        7,  /* while both sides are brought to one moment (Split, Failover, Reverse Roles) */
        8,  /* in any pool of files; without a TargetPool in that of the source */
        24, /* with ReplicationSettingData or a Goal, also while data flows */
        29, /* Reverse Roles: from Synchronized */
        51,
    };
    static const uint32_t of_remote_mirrors[] = {7, 8, 24, 35, 36, 37, 42, 50, 51};
    static const uint32_t of_remote_clones[] = {
        2,  8,  /* without a TargetPool a free LUN of any pool is taken */
        24, 34, /* a source and */
        35,     /* a target are LUNs of other arrays that we drive over iSCSI */
        36,     /* AddReplicationEntity with Persistent false */
        37,     /* and with true */
        42,     /* a replica can be taken from a pool of remote LUNs */
        50,     /* GetPeerSystems with Options 3 */
        51,     /* ElementName of a create names the target that it takes */
    };
    /* Not among them: 26, elements must be known before they are copied; 38, an entity is given by
     * its URI only; 43, TargetPool may be left out; 15, Broken needs a Resync; 16, a snapshot is a volume of
     * its own after Detach; 18, only Detach ends a clone's association. */
    struct replication_kind kind;
    int r = capability_kind(call, &kind);

    if (r < 0) {
        return r;
    }
    if (kind.sync_type == SYNC_MIRROR && kind.remote) {
        capability_add(call, "Features", of_remote_mirrors, ARRAY_LEN(of_remote_mirrors));
    } else if (kind.sync_type == SYNC_MIRROR) {
        capability_add(call, "Features", of_local_mirrors, ARRAY_LEN(of_local_mirrors));
    } else if (kind.sync_type == SYNC_SNAPSHOT) {
        capability_add(call, "Features", of_snapshots, ARRAY_LEN(of_snapshots));
    } else if (kind.remote) {
        capability_add(call, "Features", of_remote_clones, ARRAY_LEN(of_remote_clones));
    } else {
        capability_add(call, "Features", of_local_clones, ARRAY_LEN(of_local_clones));
    }
    return 0;
}

int method_get_supported_thin_features(struct call *call)
{
    /* What the source does not use reads as zeros from the target afterwards. */
    static const uint32_t features[] = {2};
    struct replication_kind kind;
    int r = capability_kind(call, &kind);

    if (r == 0) {
        capability_add(call, "SupportedThinProvisioningFeatures", features, ARRAY_LEN(features));
    }
    return r;
}

/* What shares the data of hosted volumes can be cut together. */
static bool is_cut(const struct replication_kind *kind)
{
    return !kind->remote && (kind->sync_type == SYNC_SNAPSHOT || kind->sync_type == SYNC_CLONE);
}

int method_get_supported_consistency(struct call *call)
{
    static const uint32_t sequential = CONSISTENCY_TYPE_SEQUENTIAL;
    struct replication_kind kind;
    int r = capability_kind(call, &kind);

    if (r == 0) {
        capability_add(call, "SupportedConsistency", &sequential,
                       /* Asynchronous mirrors begin their cycles together, synchronous ones are
                        * parted together. */
                       is_cut(&kind) || kind.sync_type == SYNC_MIRROR);
    }
    return r;
}

int method_get_default_consistency(struct call *call)
{
    struct replication_kind kind;
    int r = capability_kind(call, &kind);

    if (r == 0) {
        /* A group of replicas by copies has none, whatever the kind. */
        outs_number(call->outs, "DefaultConsistency",
                    is_cut(&kind) ? CONSISTENCY_TYPE_SEQUENTIAL : 0);
    }
    return r;
}

int method_get_default_group_persistency(struct call *call)
{
    outs_number(call->outs, "DefaultGroupPersistency", GROUP_PERSISTENT);
    return 0;
}

int method_get_supported_list_features(struct call *call)
{
    struct replication_kind kind;
    int r = capability_kind(call, &kind);

    if (r == 0) {
        const uint32_t features[] = {
            2,                     /* CreateListReplica is there, */
            is_cut(&kind) ? 3 : 4, /* with consistency among the entries, or without */
        };

        capability_add(call, "GroupFeatures", features, ARRAY_LEN(features));
    }
    return r;
}

int method_get_supported_maximum(struct call *call)
{
    struct replication_kind kind;
    uint32_t component;
    int r = capability_kind(call, &kind);

    if (r == 0) {
        r = capability_number(call, "Component", &component);
    }
    if (r < 0) {
        return r;
    }
    switch (component) {
    case 5: /* targets of a source: 0 is no limit, and so on; local ones may share its layers */
        outs_number(call->outs, "MaxValue",
                    kind.remote || kind.sync_type == SYNC_MIRROR ? 0 : REPLICA_MAX_SHARING);
        return 0;
    case 3: /* elements of a source group */
    case 4: /* of a target group */
        outs_number(call->outs, "MaxValue", GROUP_MEMBERS_MAX);
        return 0;
    case 2: /* groups */
    case 6: /* sources */
    case 7: /* targets */
    case 8: /* peers */
        outs_number(call->outs, "MaxValue", 0);
        return 0;
    case 9: /* hops: a relationship is one; a target that is also a source is a relationship of its
               own */
        outs_number(call->outs, "MaxValue", 1);
        return 0;
    default: /* tokens: 0 would say that there may be any number */
        return call_fail_param(call, ERR_NO_INFORMATION, "Component",
                               "%s: there is none of that in this version.",
                               enum_text(&map_maximum_component, component));
    }
}
