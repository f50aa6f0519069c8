// SPDX-License-Identifier: Apache-2.0
/*
 * A call whose cuts are of one moment. Its rows are committed first, as with a single cut; then all volumes are held, and either all are cut or
 * none. Until that is known the commit may be taken back (call_decide()), so a group is there as a whole or not at all. What a crash in between
 * leaves is whole, too, and of one moment: that of the crash, with what was flushed by then.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "service/hosted_private.h"

struct hosted_cuts {
    struct array_group_member *members;
    size_t n;
    size_t room;
    uint64_t pause_us;
};

static void barrier_out(struct call *call, uint64_t pause_ns)
{
    call->cuts->pause_us = (pause_ns + 999) / 1000;
    for (size_t i = 0; !call->internal && i < call->method->n_params; i++) {
        if (strcmp(call->method->params[i].name, "BarrierMicroseconds") == 0) {
            outs_number(call->outs, "BarrierMicroseconds", call->cuts->pause_us);
        }
    }
}

static void group_decided(void *arg, const struct error *error, uint64_t pause_ns)
{
    struct call *call = arg;
    struct hosted *hosted = control_hosted(call->control);
    struct error refused;

    if (error == NULL) {
        log_debug("%zu volumes cut together, writes waited %llu us", call->cuts->n,
                  (unsigned long long)(pause_ns / 1000));
        barrier_out(call, pause_ns);
        call_decided(call, NULL);
        return;
    }
    log_warning("volumes could not be cut together: %s", error->detail);
    refused = *error;
    snprintf(refused.detail, sizeof(refused.detail), "%.400s Nothing was made; try again.",
             error->detail);
    call_decided(call, &refused);
    hosted_busy(hosted, -1);
}

static void group_done(void *arg, const struct error *error)
{
    struct call *call = arg;
    struct hosted *hosted = control_hosted(call->control);

    call_gate_open(call, error);
    hosted_busy(hosted, -1);
}

static void group_begin(struct call *call)
{
    struct hosted *hosted = control_hosted(call->control);
    const struct hosted_cuts *cuts = call->cuts;

    if (cuts->n == 0) {
        call_gate_open(call, NULL);
        call_decided(call, NULL);
        return;
    }
    hosted_busy(hosted, +1);
    array_group_cut(hosted->array, cuts->members, cuts->n, ARRAY_GROUP_DEADLINE_MS, group_decided,
                    group_done, call);
}

void hosted_cuts_together(struct call *call)
{
    struct hosted_cuts *cuts = arena_alloc(&call->arena, sizeof(*cuts));

    CHECK(call->plan != NULL && call->cuts == NULL);
    *cuts = (struct hosted_cuts){0};
    call->cuts = cuts;
    call_decide(call, group_begin);
    call_gate(call);
}

uint64_t hosted_cuts_pause_us(const struct call *call)
{
    return call->cuts->pause_us;
}

void hosted_group_add(struct call *call, const char *volume_id, const struct layer_row *layer)
{
    struct hosted_cuts *cuts = call->cuts;

    if (cuts->n == cuts->room) {
        size_t room = 2 * cuts->room + 16;
        struct array_group_member *members = arena_alloc(&call->arena, room * sizeof(*members));

        if (cuts->n > 0) {
            memcpy(members, cuts->members, cuts->n * sizeof(*members));
        }
        cuts->members = members;
        cuts->room = room;
    }
    struct array_group_member *member = &cuts->members[cuts->n++];

    memset(member, 0, sizeof(*member));
    strcpy(member->volume_id, volume_id);
    strcpy(member->layer_id, layer->head.id);
}
