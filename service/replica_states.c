// SPDX-License-Identifier: Apache-2.0
#include "service/replica_states.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

#define BIT(state) (1u << (state))

/* One row for each operation on a clone: the states it is legal from, those that need Force, and what may be waited for. */
struct operation_row {
    uint32_t operation;
    uint32_t legal;
    uint32_t with_force;
    bool removes;
    uint32_t only_copy_type; /* 0: any */
    uint32_t wait[6];
};

static const struct operation_row clone_operations[] = {
    {OPERATION_ABORT,
     BIT(STATE_INITIALIZED) | BIT(STATE_UNSYNCHRONIZED),
     0,
     false,
     0,
     {STATE_ABORTED}},
    {OPERATION_ACTIVATE,
     BIT(STATE_INITIALIZED) | BIT(STATE_INACTIVE),
     0,
     false,
     0,
     {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_DETACH,
     BIT(STATE_SYNCHRONIZED) | BIT(STATE_BROKEN) | BIT(STATE_INACTIVE) | BIT(STATE_ABORTED),
     BIT(STATE_UNSYNCHRONIZED),
     true,
     0,
     {STATE_NOT_APPLICABLE}},
    {OPERATION_DISSOLVE,
     BIT(STATE_SYNCHRONIZED) | BIT(STATE_INACTIVE),
     0,
     true,
     0,
     {STATE_NOT_APPLICABLE}},
    {OPERATION_RESYNC,
     BIT(STATE_SYNCHRONIZED) | BIT(STATE_BROKEN) | BIT(STATE_INACTIVE) | BIT(STATE_ABORTED),
     0,
     false,
     0,
     {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_RESTORE,
     BIT(STATE_SYNCHRONIZED),
     0,
     false,
     0,
     {STATE_SYNCHRONIZED, STATE_INACTIVE}},
    {OPERATION_RESUME,
     BIT(STATE_SUSPENDED),
     0,
     false,
     0,
     {STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED}},
    {OPERATION_RETURN_TO_POOL,
     BIT(STATE_SYNCHRONIZED) | BIT(STATE_BROKEN) | BIT(STATE_INACTIVE) | BIT(STATE_ABORTED),
     0,
     true,
     COPY_UNSYNC_ASSOC,
     {STATE_NOT_APPLICABLE}},
    {OPERATION_SUSPEND, BIT(STATE_UNSYNCHRONIZED), 0, false, 0, {STATE_SUSPENDED}},
};

static const uint32_t clone_states[] = {
    STATE_INITIALIZED, STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED, STATE_BROKEN,
    STATE_INACTIVE,    STATE_SUSPENDED,      STATE_ABORTED,      0};
static const uint32_t clone_create_wait[] = {STATE_INITIALIZED, STATE_UNSYNCHRONIZED,
                                             STATE_SYNCHRONIZED, STATE_INACTIVE, 0};
static const uint32_t no_states[] = {0};

static const struct operation_row *operation_row(uint32_t sync_type, uint32_t operation)
{
    if (sync_type != SYNC_CLONE) {
        return NULL;
    }
    for (size_t i = 0; i < ARRAY_LEN(clone_operations); i++) {
        if (clone_operations[i].operation == operation) {
            return &clone_operations[i];
        }
    }
    return NULL;
}

enum operation_verdict replica_verdict(uint32_t sync_type, uint32_t copy_state, uint32_t operation,
                                       uint32_t copy_type)
{
    const struct operation_row *row = operation_row(sync_type, operation);

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
    enum operation_verdict verdict =
        replica_verdict(sync->sync_type, sync->copy_state, operation, sync->copy_type);
    bool stopped = sync->copy_state == STATE_BROKEN || sync->copy_state == STATE_ABORTED;

    if (sync->source_incomplete && stopped) {
        if (operation == OPERATION_RESTORE) {
            return VERDICT_LEGAL;
        }
        if (operation == OPERATION_RESYNC && verdict == VERDICT_LEGAL) {
            return VERDICT_NEEDS_FORCE;
        }
    }
    return verdict;
}

bool replica_operation_supported(uint32_t sync_type, uint32_t operation)
{
    return operation_row(sync_type, operation) != NULL;
}

bool replica_operation_removes(uint32_t operation)
{
    const struct operation_row *row = operation_row(SYNC_CLONE, operation);

    return row != NULL && row->removes;
}

const uint32_t *replica_states(uint32_t sync_type)
{
    return sync_type == SYNC_CLONE ? clone_states : no_states;
}

const uint32_t *replica_wait_states(uint32_t sync_type, uint32_t operation)
{
    if (operation == 0) {
        return sync_type == SYNC_CLONE ? clone_create_wait : no_states;
    }
    const struct operation_row *row = operation_row(sync_type, operation);

    return row == NULL ? no_states : row->wait;
}

bool replica_wait_state_allowed(uint32_t sync_type, uint32_t operation, uint32_t copy_state)
{
    for (const uint32_t *state = replica_wait_states(sync_type, operation); *state != 0; state++) {
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
        return 11;
    case STATE_SUSPENDED:
        return 9;
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
    return sync_type == SYNC_CLONE && (mode == MODE_SYNCHRONOUS || mode == MODE_ASYNCHRONOUS) &&
           remote;
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
