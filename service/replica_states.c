// SPDX-License-Identifier: Apache-2.0
#include "service/replica_states.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

#define BIT(state) (1u << (state))

/* Whether there is something that moves the data of mirrors of each kind. */
enum { SYNC_MIRRORS = 1, ASYNC_MIRRORS = 1 };

/* One row for each operation: the states it is legal from, those that need Force, and what may be waited for. */
struct operation_row {
    uint32_t operation;
    uint32_t legal;
    uint32_t with_force;
    uint32_t only_copy_type; /* 0: any */
    uint32_t wait[6];
};

static const struct operation_row clone_operations[] = {
    {OPERATION_ABORT, BIT(STATE_INITIALIZED) | BIT(STATE_UNSYNCHRONIZED), 0, 0, {STATE_ABORTED}},
    {OPERATION_ACTIVATE,
     BIT(STATE_INITIALIZED) | BIT(STATE_INACTIVE),
     0,
     0,
     {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_DETACH,
     BIT(STATE_SYNCHRONIZED) | BIT(STATE_BROKEN) | BIT(STATE_INACTIVE) | BIT(STATE_ABORTED),
     BIT(STATE_UNSYNCHRONIZED),
     0,
     {STATE_NOT_APPLICABLE}},
    {OPERATION_DISSOLVE,
     BIT(STATE_SYNCHRONIZED) | BIT(STATE_INACTIVE),
     0,
     0,
     {STATE_NOT_APPLICABLE}},
    {OPERATION_RESYNC,
     BIT(STATE_SYNCHRONIZED) | BIT(STATE_BROKEN) | BIT(STATE_INACTIVE) | BIT(STATE_ABORTED),
     0,
     0,
     {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_RESTORE, BIT(STATE_SYNCHRONIZED), 0, 0, {STATE_SYNCHRONIZED, STATE_INACTIVE}},
    {OPERATION_RESUME, BIT(STATE_SUSPENDED), 0, 0, {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_RETURN_TO_POOL,
     BIT(STATE_SYNCHRONIZED) | BIT(STATE_BROKEN) | BIT(STATE_INACTIVE) | BIT(STATE_ABORTED),
     0,
     COPY_UNSYNC_ASSOC,
     {STATE_NOT_APPLICABLE}},
    {OPERATION_SUSPEND, BIT(STATE_UNSYNCHRONIZED), 0, 0, {STATE_SUSPENDED}},
};

static const uint32_t clone_states[] = {
    STATE_INITIALIZED, STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED, STATE_BROKEN,
    STATE_INACTIVE,    STATE_SUSPENDED,      STATE_ABORTED,      0};
static const uint32_t clone_create_wait[] = {STATE_INITIALIZED, STATE_UNSYNCHRONIZED,
                                             STATE_SYNCHRONIZED, STATE_INACTIVE, 0};
static const uint32_t no_states[] = {0};

/* Until it is Synchronized it has what is not there yet from its source. */
static const struct operation_row filled_clone_operations[] = {
    {OPERATION_ABORT, BIT(STATE_INITIALIZED) | BIT(STATE_UNSYNCHRONIZED), 0, 0, {STATE_ABORTED}},
    {OPERATION_ACTIVATE,
     BIT(STATE_INITIALIZED) | BIT(STATE_INACTIVE),
     0,
     0,
     {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_DETACH, BIT(STATE_SYNCHRONIZED) | BIT(STATE_INACTIVE), 0, 0, {STATE_NOT_APPLICABLE}},
    {OPERATION_DISSOLVE,
     BIT(STATE_SYNCHRONIZED) | BIT(STATE_INACTIVE),
     0,
     0,
     {STATE_NOT_APPLICABLE}},
    {OPERATION_RESYNC,
     BIT(STATE_SYNCHRONIZED) | BIT(STATE_BROKEN) | BIT(STATE_INACTIVE) | BIT(STATE_ABORTED),
     0,
     0,
     {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_RESTORE, BIT(STATE_SYNCHRONIZED), 0, 0, {STATE_SYNCHRONIZED, STATE_INACTIVE}},
    {OPERATION_RESUME, BIT(STATE_SUSPENDED), 0, 0, {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_RETURN_TO_POOL,
     BIT(STATE_INITIALIZED) | BIT(STATE_UNSYNCHRONIZED) | BIT(STATE_SYNCHRONIZED) |
         BIT(STATE_BROKEN) | BIT(STATE_INACTIVE) | BIT(STATE_SUSPENDED) | BIT(STATE_ABORTED),
     0,
     0,
     {STATE_NOT_APPLICABLE}},
    {OPERATION_SUSPEND, BIT(STATE_UNSYNCHRONIZED), 0, 0, {STATE_SUSPENDED}},
};

/* What rests, and is there. */
#define SNAPSHOT_WHOLE                                                                             \
    (BIT(STATE_SYNCHRONIZED) | BIT(STATE_FRACTURED) | BIT(STATE_SPLIT) | BIT(STATE_SKEWED))

static const struct operation_row snapshot_operations[] = {
    {OPERATION_ABORT, BIT(STATE_INITIALIZED) | BIT(STATE_UNSYNCHRONIZED), 0, 0, {STATE_ABORTED}},
    {OPERATION_ACTIVATE,
     BIT(STATE_INITIALIZED) | BIT(STATE_INACTIVE) | BIT(STATE_PREPARED),
     0,
     0,
     {STATE_SYNCHRONIZED}},
    {OPERATION_DEACTIVATE, BIT(STATE_SYNCHRONIZED) | BIT(STATE_SKEWED), 0, 0, {STATE_INACTIVE}},
    {OPERATION_DETACH,
     BIT(STATE_SYNCHRONIZED) | BIT(STATE_INACTIVE) | BIT(STATE_ABORTED) | BIT(STATE_SKEWED),
     0,
     0,
     {STATE_NOT_APPLICABLE}},
    {OPERATION_DISSOLVE,
     BIT(STATE_SYNCHRONIZED) | BIT(STATE_INACTIVE) | BIT(STATE_ABORTED) | BIT(STATE_SKEWED),
     0,
     0,
     {STATE_NOT_APPLICABLE}},
    {OPERATION_RESYNC,
     SNAPSHOT_WHOLE | BIT(STATE_BROKEN) | BIT(STATE_ABORTED),
     0,
     0,
     {STATE_SYNCHRONIZED}},
    {OPERATION_RESTORE, SNAPSHOT_WHOLE, 0, 0, {STATE_SYNCHRONIZED, STATE_INACTIVE}},
    {OPERATION_RETURN_TO_POOL,
     SNAPSHOT_WHOLE | BIT(STATE_INITIALIZED) | BIT(STATE_BROKEN) | BIT(STATE_INACTIVE) |
         BIT(STATE_PREPARED) | BIT(STATE_ABORTED),
     0,
     0,
     {STATE_NOT_APPLICABLE}},
};
static const uint32_t snapshot_states[] = {STATE_INITIALIZED, STATE_SYNCHRONIZED, STATE_INACTIVE,
                                           STATE_ABORTED,     STATE_SKEWED,       0};
static const uint32_t snapshot_create_wait[] = {STATE_INITIALIZED, STATE_SYNCHRONIZED,
                                                STATE_INACTIVE, 0};

static const struct operation_row layered_clone_operations[] = {
    {OPERATION_ABORT, BIT(STATE_INITIALIZED) | BIT(STATE_UNSYNCHRONIZED), 0, 0, {STATE_ABORTED}},
    {OPERATION_ACTIVATE,
     BIT(STATE_INITIALIZED) | BIT(STATE_INACTIVE) | BIT(STATE_PREPARED),
     0,
     0,
     {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_DETACH,
     BIT(STATE_SYNCHRONIZED) | BIT(STATE_BROKEN) | BIT(STATE_INACTIVE) | BIT(STATE_ABORTED) |
         BIT(STATE_SKEWED),
     BIT(STATE_UNSYNCHRONIZED),
     0,
     {STATE_NOT_APPLICABLE}},
    {OPERATION_DISSOLVE,
     BIT(STATE_SYNCHRONIZED) | BIT(STATE_INACTIVE),
     0,
     0,
     {STATE_NOT_APPLICABLE}},
    {OPERATION_RESYNC,
     SNAPSHOT_WHOLE | BIT(STATE_BROKEN) | BIT(STATE_INACTIVE) | BIT(STATE_ABORTED),
     0,
     0,
     {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_RESTORE, SNAPSHOT_WHOLE, 0, 0, {STATE_SYNCHRONIZED, STATE_INACTIVE}},
};
static const uint32_t layered_clone_states[] = {STATE_INITIALIZED, STATE_SYNCHRONIZED,
                                                STATE_INACTIVE, STATE_ABORTED, 0};

/* Those of mirrors (smis.md 4.1). 16 besides: a target that does not come back can be given up. */
static const struct operation_row mirror_operations[] = {
    {OPERATION_ABORT,
     BIT(STATE_INITIALIZED) | BIT(STATE_UNSYNCHRONIZED) | BIT(STATE_PREPARED),
     0,
     0,
     {STATE_ABORTED}},
    {OPERATION_ACTIVATE,
     BIT(STATE_INITIALIZED) | BIT(STATE_INACTIVE) | BIT(STATE_PREPARED),
     0,
     0,
     {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_DEACTIVATE,
     BIT(STATE_UNSYNCHRONIZED) | BIT(STATE_SYNCHRONIZED),
     0,
     0,
     {STATE_INACTIVE}},
    {OPERATION_DETACH,
     BIT(STATE_SYNCHRONIZED) | BIT(STATE_BROKEN) | BIT(STATE_FRACTURED) | BIT(STATE_SPLIT) |
         BIT(STATE_INACTIVE) | BIT(STATE_SUSPENDED) | BIT(STATE_FAILEDOVER) | BIT(STATE_ABORTED) |
         BIT(STATE_SKEWED),
     BIT(STATE_UNSYNCHRONIZED) | BIT(STATE_PARTITIONED),
     0,
     {STATE_NOT_APPLICABLE}},
    {OPERATION_DISSOLVE,
     BIT(STATE_SYNCHRONIZED) | BIT(STATE_FRACTURED) | BIT(STATE_SPLIT) | BIT(STATE_INACTIVE) |
         BIT(STATE_SKEWED),
     0,
     0,
     {STATE_NOT_APPLICABLE}},
    {OPERATION_FAILOVER,
     BIT(STATE_SYNCHRONIZED) | BIT(STATE_FRACTURED) | BIT(STATE_SPLIT),
     BIT(STATE_UNSYNCHRONIZED) | BIT(STATE_BROKEN) | BIT(STATE_SUSPENDED) | BIT(STATE_PARTITIONED),
     0,
     {STATE_FAILEDOVER}},
    {OPERATION_FAILBACK, BIT(STATE_FAILEDOVER), 0, 0, {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_FRACTURE, BIT(STATE_SYNCHRONIZED), BIT(STATE_UNSYNCHRONIZED), 0, {STATE_FRACTURED}},
    {OPERATION_RESYNC,
     BIT(STATE_BROKEN) | BIT(STATE_FRACTURED) | BIT(STATE_SPLIT) | BIT(STATE_ABORTED) |
         BIT(STATE_SKEWED),
     0,
     0,
     {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_RESTORE,
     BIT(STATE_FRACTURED) | BIT(STATE_SPLIT) | BIT(STATE_SKEWED),
     0,
     0,
     {STATE_SYNCHRONIZED, STATE_INACTIVE}},
    {OPERATION_RESUME, BIT(STATE_SUSPENDED), 0, 0, {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_RESET_TO_SYNC,
     BIT(STATE_UNSYNCHRONIZED) | BIT(STATE_SYNCHRONIZED) | BIT(STATE_SUSPENDED),
     0,
     0,
     {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_RESET_TO_ASYNC,
     BIT(STATE_UNSYNCHRONIZED) | BIT(STATE_SYNCHRONIZED) | BIT(STATE_SUSPENDED),
     0,
     0,
     {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_REVERSE_ROLES,
     BIT(STATE_SYNCHRONIZED),
     0,
     0,
     {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_SPLIT, BIT(STATE_UNSYNCHRONIZED) | BIT(STATE_SYNCHRONIZED), 0, 0, {STATE_SPLIT}},
    {OPERATION_SUSPEND,
     BIT(STATE_UNSYNCHRONIZED) | BIT(STATE_SYNCHRONIZED),
     0,
     0,
     {STATE_SUSPENDED}},
    {OPERATION_UNPREPARE,
     BIT(STATE_INITIALIZED) | BIT(STATE_FRACTURED) | BIT(STATE_INACTIVE),
     0,
     0,
     {STATE_PREPARED}},
    {OPERATION_PREPARE,
     BIT(STATE_INITIALIZED) | BIT(STATE_FRACTURED) | BIT(STATE_INACTIVE),
     0,
     0,
     {STATE_PREPARED}},
};
static const uint32_t mirror_states[] = {STATE_INITIALIZED,
                                         STATE_UNSYNCHRONIZED,
                                         STATE_SYNCHRONIZED,
                                         STATE_BROKEN,
                                         STATE_FRACTURED,
                                         STATE_SPLIT,
                                         STATE_INACTIVE,
                                         STATE_SUSPENDED,
                                         STATE_FAILEDOVER,
                                         STATE_PREPARED,
                                         STATE_ABORTED,
                                         STATE_PARTITIONED,
                                         0};

/* A kind of relationship. */
struct machine {
    uint32_t sync_type;
    enum replica_engine engine;
    bool local;
    bool remote;
    const struct operation_row *operations;
    size_t n_operations;
    const uint32_t *states;
    const uint32_t *create_wait;
};

static const struct machine machines[] = {
    {SYNC_SNAPSHOT, ENGINE_LAYERS, true, false, snapshot_operations, ARRAY_LEN(snapshot_operations),
     snapshot_states, snapshot_create_wait},
    {SYNC_CLONE, ENGINE_LAYERS, true, false, layered_clone_operations,
     ARRAY_LEN(layered_clone_operations), layered_clone_states, clone_create_wait},
    {SYNC_CLONE, ENGINE_COPY, true, true, clone_operations, ARRAY_LEN(clone_operations),
     clone_states, clone_create_wait},
    {SYNC_CLONE, ENGINE_FILL, false, true, filled_clone_operations,
     ARRAY_LEN(filled_clone_operations), clone_states, clone_create_wait},
    {SYNC_MIRROR, ENGINE_MIRROR, SYNC_MIRRORS, SYNC_MIRRORS, mirror_operations,
     ARRAY_LEN(mirror_operations), mirror_states, clone_create_wait},
    {SYNC_MIRROR, ENGINE_ASYNC, ASYNC_MIRRORS, ASYNC_MIRRORS, mirror_operations,
     ARRAY_LEN(mirror_operations), mirror_states, clone_create_wait},
};

static const struct machine *machine_of(uint32_t sync_type, enum replica_engine engine)
{
    for (size_t i = 0; i < ARRAY_LEN(machines); i++) {
        if (machines[i].sync_type == sync_type && machines[i].engine == engine) {
            return &machines[i];
        }
    }
    return NULL;
}

const char *replica_engine_name(enum replica_engine engine)
{
    switch (engine) {
    case ENGINE_COPY:
        return "copy";
    case ENGINE_LAYERS:
        return "layers";
    case ENGINE_FILL:
        return "fill";
    case ENGINE_MIRROR:
        return "mirror";
    case ENGINE_ASYNC:
        return "async";
    }
    return "?";
}

enum replica_engine replica_engine_of(const struct sync_row *sync)
{
    switch (sync->copy_methodology) {
    case METHODOLOGY_COPY_ON_WRITE:
        return ENGINE_LAYERS;
    case METHODOLOGY_COPY_ON_ACCESS:
        return ENGINE_FILL;
    case METHODOLOGY_INCREMENTAL_COPY:
        return ENGINE_MIRROR;
    case METHODOLOGY_DELTA_UPDATE:
        return ENGINE_ASYNC;
    default:
        return ENGINE_COPY;
    }
}

uint32_t replica_methodology(enum replica_engine engine)
{
    switch (engine) {
    case ENGINE_LAYERS:
        return METHODOLOGY_COPY_ON_WRITE;
    case ENGINE_FILL:
        return METHODOLOGY_COPY_ON_ACCESS;
    case ENGINE_MIRROR:
        return METHODOLOGY_INCREMENTAL_COPY;
    case ENGINE_ASYNC:
        return METHODOLOGY_DELTA_UPDATE;
    default:
        return METHODOLOGY_FULL_COPY;
    }
}

bool replica_engine_mirrors(enum replica_engine engine)
{
    return engine == ENGINE_MIRROR || engine == ENGINE_ASYNC;
}

bool replica_is_mirror(const struct sync_row *sync)
{
    return sync->sync_type == SYNC_MIRROR;
}

bool replica_mirror_connected(const struct sync_row *sync)
{
    bool needs_target = sync->source_incomplete && replica_engine_of(sync) == ENGINE_MIRROR &&
                        (sync->copy_state == STATE_BROKEN || sync->copy_state == STATE_SUSPENDED);

    return replica_is_mirror(sync) &&
           (needs_target || sync->copy_state == STATE_UNSYNCHRONIZED ||
            sync->copy_state == STATE_SYNCHRONIZED || sync->copy_state == STATE_PARTITIONED);
}

bool replica_mirror_target_free(uint32_t copy_state)
{
    return copy_state == STATE_FRACTURED || copy_state == STATE_SPLIT ||
           copy_state == STATE_FAILEDOVER;
}

bool replica_engine_possible(uint32_t sync_type, uint32_t mode, bool remote,
                             enum replica_engine engine)
{
    const struct machine *machine = machine_of(sync_type, engine);
    bool of_mode = sync_type != SYNC_MIRROR ||
                   engine == (mode == MODE_ASYNCHRONOUS ? ENGINE_ASYNC : ENGINE_MIRROR);

    return machine != NULL && of_mode && (remote ? machine->remote : machine->local);
}

static const struct operation_row *operation_row(uint32_t sync_type, enum replica_engine engine,
                                                 uint32_t operation)
{
    const struct machine *machine = machine_of(sync_type, engine);

    if (operation == OPERATION_RESET_TO_ASYNC && !ASYNC_MIRRORS) {
        return NULL;
    }
    for (size_t i = 0; machine != NULL && i < machine->n_operations; i++) {
        if (machine->operations[i].operation == operation) {
            return &machine->operations[i];
        }
    }
    return NULL;
}

enum operation_verdict replica_verdict(uint32_t sync_type, enum replica_engine engine,
                                       uint32_t copy_state, uint32_t operation, uint32_t copy_type)
{
    const struct operation_row *row = operation_row(sync_type, engine, operation);

    if (row == NULL || (row->only_copy_type != 0 && row->only_copy_type != copy_type)) {
        return VERDICT_NOT_SUPPORTED;
    }
    if (row->legal & BIT(copy_state)) {
        return VERDICT_LEGAL;
    }
    return row->with_force & BIT(copy_state) ? VERDICT_NEEDS_FORCE : VERDICT_ILLEGAL;
}

enum operation_verdict replica_verdict_of(const struct sync_row *sync, uint32_t operation)
{
    enum operation_verdict verdict = replica_verdict(sync->sync_type, replica_engine_of(sync),
                                                     sync->copy_state, operation, sync->copy_type);
    bool stopped = sync->copy_state == STATE_BROKEN || sync->copy_state == STATE_ABORTED;

    if (sync->remote && replica_operation_local(operation)) {
        return VERDICT_NOT_SUPPORTED;
    }

    if (sync->source_incomplete && replica_is_mirror(sync)) {
        /* Only with the target is the source whole: it is not parted from it but by Abort or with Force. */
        switch (operation) {
        case OPERATION_DEACTIVATE:
        case OPERATION_FRACTURE:
        case OPERATION_SPLIT:
        case OPERATION_SUSPEND:
        case OPERATION_RESET_TO_SYNC:
        case OPERATION_RESET_TO_ASYNC:
        case OPERATION_REVERSE_ROLES:
            return verdict == VERDICT_NOT_SUPPORTED ? verdict : VERDICT_ILLEGAL;
        case OPERATION_DETACH:
        case OPERATION_DISSOLVE:
            return verdict == VERDICT_LEGAL ? VERDICT_NEEDS_FORCE : verdict;
        default:
            break;
        }
    }
    if (sync->source_incomplete && stopped) {
        if (operation == OPERATION_RESTORE) {
            return VERDICT_LEGAL;
        }
        /* One that was filled is whole, whatever became of the way back. */
        if (operation == OPERATION_DETACH && replica_engine_of(sync) == ENGINE_FILL) {
            return VERDICT_LEGAL;
        }
        if (operation == OPERATION_RESYNC && verdict == VERDICT_LEGAL) {
            return VERDICT_NEEDS_FORCE;
        }
    }
    return verdict;
}

bool replica_operation_supported(uint32_t sync_type, enum replica_engine engine, uint32_t operation)
{
    return operation_row(sync_type, engine, operation) != NULL;
}

bool replica_operation_local(uint32_t operation)
{
    return operation == OPERATION_REVERSE_ROLES;
}

bool replica_operation_removes(uint32_t operation)
{
    return operation == OPERATION_DETACH || operation == OPERATION_DISSOLVE ||
           operation == OPERATION_RETURN_TO_POOL;
}

const uint32_t *replica_states(uint32_t sync_type, enum replica_engine engine)
{
    const struct machine *machine = machine_of(sync_type, engine);

    return machine != NULL ? machine->states : no_states;
}

bool replica_host_accessible(enum replica_engine engine, uint32_t copy_state)
{
    /* Copies are made onto LUNs that we hide from nobody; the others have nothing to show before their first moment. */
    switch (engine) {
    case ENGINE_LAYERS:
        return copy_state == STATE_SYNCHRONIZED || copy_state == STATE_SKEWED;
    case ENGINE_FILL:
        return copy_state != STATE_INITIALIZED && copy_state != STATE_INACTIVE;
    default:
        return true;
    }
}

const uint32_t *replica_wait_states(uint32_t sync_type, enum replica_engine engine,
                                    uint32_t operation)
{
    const struct machine *machine = machine_of(sync_type, engine);

    if (operation == 0) {
        return machine != NULL ? machine->create_wait : no_states;
    }
    const struct operation_row *row = operation_row(sync_type, engine, operation);

    return row == NULL ? no_states : row->wait;
}

bool replica_wait_state_allowed(uint32_t sync_type, enum replica_engine engine, uint32_t operation,
                                uint32_t copy_state)
{
    for (const uint32_t *state = replica_wait_states(sync_type, engine, operation); *state != 0;
         state++) {
        if (*state == copy_state) {
            return true;
        }
    }
    return false;
}

bool replica_wait_reached(uint32_t wanted, uint32_t copy_state)
{
    switch (wanted) {
    case STATE_UNSYNCHRONIZED:
        return copy_state == STATE_UNSYNCHRONIZED || copy_state == STATE_SYNCHRONIZED;
    case STATE_INACTIVE: /* of Restore: clients of Fujitsu's arrays wait for 8, where ours rests in 4 */
        return copy_state == STATE_INACTIVE || copy_state == STATE_SYNCHRONIZED;
    default:
        return copy_state == wanted;
    }
}

uint32_t replica_sync_state(uint32_t copy_state, uint32_t progress_status)
{
    switch (copy_state) {
    case STATE_INITIALIZED:
        return 2;
    case STATE_UNSYNCHRONIZED:
        if (progress_status == PROGRESS_RESTORING) {
            return 10;
        }
        return progress_status == PROGRESS_RESYNCING ? 5 : 15;
    case STATE_SYNCHRONIZED:
        return progress_status == PROGRESS_RESTORING ? 10 : 6;
    case STATE_BROKEN:
    case STATE_ABORTED:
        return 12;
    case STATE_INACTIVE:
    case STATE_SKEWED: /* it is a moment of its own now, not that of the source */
        return 11;
    case STATE_SUSPENDED:
        return 9;
    case STATE_FRACTURED:
    case STATE_SPLIT:
    case STATE_FAILEDOVER:
        return 13;
    case STATE_PREPARED:
        return 4;
    default:
        return 0;
    }
}

bool replica_sync_maintained(const struct sync_row *sync)
{
    return sync->sync_type == SYNC_MIRROR && sync->copy_state == STATE_SYNCHRONIZED;
}

bool replica_type_supported(uint32_t sync_type, uint32_t mode, bool remote)
{
    bool mode_known = mode == MODE_SYNCHRONOUS || mode == MODE_ASYNCHRONOUS;

    for (uint32_t engine = 0; mode_known && engine < ENGINES; engine++) {
        if (replica_engine_possible(sync_type, mode, remote, engine)) {
            return true;
        }
    }
    return false;
}

uint32_t replica_legacy_operation(uint32_t number)
{
    static const uint32_t operations[] = {
        [2] = OPERATION_DETACH,          [3] = OPERATION_FRACTURE,  [4] = OPERATION_RESYNC,
        [5] = OPERATION_RESTORE,         [6] = OPERATION_PREPARE,   [7] = OPERATION_UNPREPARE,
        [8] = OPERATION_SUSPEND,         [9] = OPERATION_RESUME,    [10] = OPERATION_RESET_TO_SYNC,
        [11] = OPERATION_RESET_TO_ASYNC, [12] = OPERATION_ACTIVATE, [13] = OPERATION_ABORT,
    };

    return number < ARRAY_LEN(operations) ? operations[number] : 0;
}

void replica_legal_text(const struct sync_row *sync, char *out, size_t size)
{
    size_t len = 0;

    CHECK(size > 0);
    out[0] = '\0';
    for (uint32_t operation = 2; operation < OPERATION_COUNT; operation++) {
        if (replica_verdict_of(sync, operation) == VERDICT_LEGAL) {
            int n = snprintf(out + len, size - len, "%s%s (%u)", len == 0 ? "" : ", ",
                             enum_text(&map_operation, operation), operation);
            if (n < 0 || (size_t)n >= size - len) {
                return;
            }
            len += (size_t)n;
        }
    }
    if (len == 0) {
        snprintf(out, size, "none");
    }
}
