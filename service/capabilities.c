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
#include "service/handlers.h"
#include "service/replica_states.h"

enum { LOCAL = 2, REMOTE = 3, REPLICATION_TYPE_FIRST = 2, REPLICATION_TYPE_LAST = 13 };
enum { CONTROLLING_SOURCE_OR_TARGET = 4 };
enum { METHOD_CREATE_ELEMENT = 2, METHOD_MODIFY = 4, METHOD_CREATE_LIST = 7 };

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
    char supported[160];
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

/* The best that any copy type of a sync type gets: a question about a kind does not name one. */
static enum operation_verdict verdict(uint32_t sync_type, uint32_t copy_state, uint32_t operation,
                                      uint32_t copy_type)
{
    if (copy_type != 0) {
        return replica_verdict(sync_type, copy_state, operation, copy_type);
    }
    enum operation_verdict associated =
        replica_verdict(sync_type, copy_state, operation, COPY_UNSYNC_ASSOC);
    enum operation_verdict unassociated =
        replica_verdict(sync_type, copy_state, operation, COPY_UNSYNC_UNASSOC);
    return associated < unassociated ? associated : unassociated;
}

/* Taken from some state, and *ret_force: only with Force from every state that takes it. */
static bool operation_taken(uint32_t sync_type, uint32_t copy_type, uint32_t copy_state,
                            uint32_t operation, bool *ret_force)
{
    const uint32_t one[] = {copy_state, 0};
    const uint32_t *state = copy_state != 0 ? one : replica_states(sync_type);
    bool taken = false;

    *ret_force = true;
    for (; *state != 0; state++) {
        enum operation_verdict v = verdict(sync_type, *state, operation, copy_type);
        taken = taken || v == VERDICT_LEGAL || v == VERDICT_NEEDS_FORCE;
        *ret_force = *ret_force && v != VERDICT_LEGAL;
    }
    return taken;
}

void capability_operations(struct call *call, uint32_t sync_type, uint32_t copy_type,
                           uint32_t copy_state)
{
    struct values *outs = call->outs;

    outs_array(outs, "SupportedOperations");
    outs_array(outs, "ServiceControlling");
    outs_array(outs, "RequiresForce");
    outs_array(outs, "UpdatesSynchronizedPath");
    for (uint32_t operation = 2; operation < OPERATION_COUNT; operation++) {
        bool force;
        if (!operation_taken(sync_type, copy_type, copy_state, operation, &force)) {
            continue;
        }
        outs_add_number(outs, "SupportedOperations", operation);
        outs_add_number(outs, "ServiceControlling", CONTROLLING_SOURCE_OR_TARGET);
        outs_add_number(outs, "RequiresForce", force);
        /* Only Reverse Roles and its kin would; a clone has none. */
        outs_add_number(outs, "UpdatesSynchronizedPath", false);
    }
}

int method_get_supported_operations(struct call *call)
{
    struct replication_kind kind;
    int r = capability_kind(call, &kind);

    if (r == 0) {
        capability_operations(call, kind.sync_type, 0,
                              (uint32_t)args_number(call->args, "CopyState", 0));
    }
    return r;
}

static int operation_supported(struct call *call, uint32_t sync_type, uint32_t operation)
{
    if (replica_operation_supported(sync_type, operation)) {
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
    uint32_t operation = (uint32_t)args_number(call->args, "Operation", 0);
    int r = capability_kind(call, &kind);

    if (r == 0 && operation != 0) {
        r = operation_supported(call, kind.sync_type, operation);
    }
    if (r < 0) {
        return r;
    }
    outs_array(call->outs, "SupportedCopyStates");
    outs_array(call->outs, "HostAccessible");
    for (const uint32_t *state = replica_states(kind.sync_type); *state != 0; state++) {
        bool force;
        if (operation != 0 && !operation_taken(kind.sync_type, 0, *state, operation, &force)) {
            continue;
        }
        outs_add_number(call->outs, "SupportedCopyStates", *state);
        /* The target is a LUN of another array: we do not hide it from its hosts in any state. */
        outs_add_number(call->outs, "HostAccessible", true);
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

/* operation 0: the union over all operations. */
static int wait_states_of_modify(struct call *call, uint32_t sync_type, uint32_t operation)
{
    uint64_t seen = 0;

    if (operation != 0) {
        int r = operation_supported(call, sync_type, operation);
        if (r < 0) {
            return r;
        }
    }
    for (uint32_t i = 2; i < OPERATION_COUNT; i++) {
        if ((operation != 0 && operation != i) || !replica_operation_supported(sync_type, i)) {
            continue;
        }
        for (const uint32_t *state = replica_wait_states(sync_type, i); *state != 0; state++) {
            add_wait_state(call, &seen, *state);
        }
    }
    return 0;
}

int method_get_supported_wait_states(struct call *call)
{
    struct replication_kind kind;
    uint32_t operation = (uint32_t)args_number(call->args, "Operation", 0);
    uint32_t method;
    uint64_t seen = 0;
    int r = capability_kind(call, &kind);

    if (r == 0) {
        r = capability_number(call, "MethodName", &method);
    }
    if (r < 0) {
        return r;
    }
    outs_array(call->outs, "SupportedCopyStates");
    if (method == METHOD_MODIFY) {
        return wait_states_of_modify(call, kind.sync_type, operation);
    }
    if (method != METHOD_CREATE_ELEMENT && method != METHOD_CREATE_LIST) {
        return call_fail_param(call, ERR_NOT_SUPPORTED, "MethodName",
                               "%s is not there in this version.",
                               enum_text(&map_wait_method, method));
    }
    if (operation != 0) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, "Operation",
                               "Only ModifyReplicaSynchronization has operations; leave Operation "
                               "out.");
    }
    for (const uint32_t *state = replica_wait_states(kind.sync_type, 0); *state != 0; state++) {
        add_wait_state(call, &seen, *state);
    }
    return 0;
}

/* Features */

int method_get_supported_features(struct call *call)
{
    static const uint32_t features[] = {
        8,  /* without a TargetPool a free LUN of any pool is taken */
        24, /* AttachOrModifyReplica with a Goal changes the priority, of a running copy too */
        34, /* a source and */
        35, /* a target are LUNs of other arrays that we drive over iSCSI */
        36, /* AddReplicationEntity with Persistent false */
        37, /* and with true */
        42, /* a replica can be taken from a pool of remote LUNs */
        50, /* GetPeerSystems with Options 3 */
        51, /* ElementName of a create names the target that it takes */
    };
    /* Not among them: 26, elements must be known before they are copied; 38, an entity is given by
     * its URI only; 43, TargetPool may be left out; 15, Broken needs a Resync; 18, only Detach ends
     * a clone's association. */
    struct replication_kind kind;
    int r = capability_kind(call, &kind);

    if (r == 0) {
        capability_add(call, "Features", features, ARRAY_LEN(features));
    }
    return r;
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

/* Volumes cannot be cut together yet: nothing is consistent with anything else. */
int method_get_supported_consistency(struct call *call)
{
    struct replication_kind kind;
    int r = capability_kind(call, &kind);

    if (r == 0) {
        outs_array(call->outs, "SupportedConsistency");
    }
    return r;
}

int method_get_default_consistency(struct call *call)
{
    struct replication_kind kind;
    int r = capability_kind(call, &kind);

    if (r == 0) {
        outs_number(call->outs, "DefaultConsistency", 0);
    }
    return r;
}

int method_get_default_group_persistency(struct call *call)
{
    outs_number(call->outs, "DefaultGroupPersistency", 0);
    return 0;
}

int method_get_supported_list_features(struct call *call)
{
    static const uint32_t features[] = {
        2, /* CreateListReplica is there, */
        4, /* without consistency among the entries */
    };
    struct replication_kind kind;
    int r = capability_kind(call, &kind);

    if (r == 0) {
        capability_add(call, "GroupFeatures", features, ARRAY_LEN(features));
    }
    return r;
}

/* There is no ModifyListSynchronization yet, so it has no operations. */
int method_get_supported_list_operations(struct call *call)
{
    struct replication_kind kind;
    int r = capability_kind(call, &kind);

    if (r == 0) {
        outs_array(call->outs, "SupportedListOperations");
        outs_array(call->outs, "ServiceControlling");
        outs_array(call->outs, "RequiresForce");
        outs_array(call->outs, "UpdatesSynchronizedPath");
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
    case 5: /* targets of a source: 0 is no limit, and so on */
    case 6: /* sources */
    case 7: /* targets */
    case 8: /* peers */
        outs_number(call->outs, "MaxValue", 0);
        return 0;
    case 9: /* hops: a relationship is one; a target that is also a source is a relationship of its
               own */
        outs_number(call->outs, "MaxValue", 1);
        return 0;
    default: /* groups and tokens: 0 would say that there may be any number */
        return call_fail_param(call, ERR_NO_INFORMATION, "Component",
                               "%s: there is none of that in this version.",
                               enum_text(&map_maximum_component, component));
    }
}
