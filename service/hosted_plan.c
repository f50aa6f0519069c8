// SPDX-License-Identifier: Apache-2.0
/*
 * A call that needs new files runs twice: the first time it says which, the second time it has them.
 *
 * Between the two the records may change, so the second run decides anew. What it needs besides sends it round once more. What
 * the call has not taken when it is through, or all when it is not committed, is removed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/hosted_private.h"

struct need {
    struct list link;
    struct array_layer layer;
    char family[ID_SIZE]; /* of a new one: the layer's id */
    bool new_family;
    bool made;
    bool taken; /* in this run */
};

struct hosted_plan {
    struct list link; /* of those under way */
    struct call *call;
    method_fn body;
    struct list needs;
    unsigned pending;
    struct error error;
    bool missing; /* in this run */
};

static struct hosted_plan *plan_new(struct call *call, method_fn body)
{
    struct hosted_plan *plan = calloc(1, sizeof(*plan));

    CHECK(plan != NULL);
    plan->call = call;
    plan->body = body;
    list_init(&plan->needs);
    list_push_back(&control_hosted(call->control)->plans, &plan->link);
    hosted_busy(control_hosted(call->control), +1);
    return plan;
}

/* Files are being made there, or were made for calls that are not through. */
bool hosted_pool_is_pinned(struct control *control, const char *pool_id)
{
    list_for_each(link, &control_hosted(control)->plans)
    {
        const struct hosted_plan *plan = list_entry(link, struct hosted_plan, link);

        list_for_each(at, &plan->needs)
        {
            if (strcmp(list_entry(at, struct need, link)->layer.pool_id, pool_id) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* Until now the end of the service waits: effects of the call have begun. */
void hosted_call_end(struct call *call, bool committed)
{
    struct hosted_plan *plan = call->plan;
    struct hosted *hosted = control_hosted(call->control);

    if (call->made_pool_id[0] != '\0' && !committed) {
        array_pool_remove(hosted->array, call->made_pool_id, NULL, NULL);
    }
    call->made_pool_id[0] = '\0';
    if (plan == NULL) {
        return;
    }
    call->plan = NULL;
    list_remove(&plan->link);
    list_for_each_safe(link, next, &plan->needs)
    {
        struct need *need = list_entry(link, struct need, link);

        if (need->made && !(committed && need->taken)) {
            array_layers_remove(hosted->array, need->family, &need->layer, 1, NULL, NULL);
        } else if (!need->made) {
            array_layer_name_back(hosted->array, need->layer.id);
        }
        free(need);
    }
    free(plan);
    hosted_busy(hosted, -1);
}

static int plan_step(struct call *call);

static void layer_made(void *arg, const struct error *error)
{
    struct hosted_plan *plan = arg;

    if (error != NULL && plan->error.code == ERR_NONE) {
        plan->error = *error;
    }
    if (--plan->pending == 0) {
        call_resume(plan->call, plan_step);
    }
}

/* What one operation makes: the files of a family that are still missing. */
static void family_make(struct hosted_plan *plan, const struct need *first)
{
    struct hosted *hosted = control_hosted(plan->call->control);
    struct arena *arena = &plan->call->arena;
    size_t room = 0;
    size_t n = 0;

    list_for_each(link, &plan->needs)
    {
        room++;
    }
    struct array_layer *layers = arena_alloc(arena, room * sizeof(*layers));

    list_for_each(link, &plan->needs)
    {
        struct need *need = list_entry(link, struct need, link);

        if (!need->made && strcmp(need->family, first->family) == 0) {
            need->made = true; /* should it fail, removing it does no harm */
            layers[n++] = need->layer;
        }
    }
    plan->pending++;
    array_layers_create(hosted->array, first->family, layers, n, layer_made, plan);
}

/* All files are made at once. */
static void plan_make(struct hosted_plan *plan)
{
    plan->pending = 1;
    list_for_each(link, &plan->needs)
    {
        const struct need *need = list_entry(link, struct need, link);

        if (!need->made) {
            family_make(plan, need);
        }
    }
    CHECK(--plan->pending > 0);
}

static int plan_step(struct call *call)
{
    struct hosted_plan *plan = call->plan;
    int r;

    if (plan->error.code != ERR_NONE) {
        call->error = plan->error;
        return error_info(call->error.code)->err;
    }
    plan->missing = false;
    list_for_each(link, &plan->needs)
    {
        list_entry(link, struct need, link)->taken = false;
    }
    r = plan->body(call);
    if (r == CALL_PENDING) {
        /* It waits for something else and changes nothing before that. */
        hosted_call_end(call, false);
        return r;
    }
    if (r == 0 && plan->missing) {
        call->undo = true;
        plan_make(plan);
        return CALL_PENDING;
    }
    return r;
}

int hosted_run(struct call *call, method_fn body)
{
    if (control_hosted(call->control)->stopping) {
        return call_fail(call, ERR_SHUTTING_DOWN,
                         "The service is stopping; try again when it is back.");
    }
    call->plan = plan_new(call, body);
    return plan_step(call);
}

int hosted_layer_new(struct call *call, const char *pool_id, const char *family,
                     const char *parent_id, uint64_t size_bytes, struct layer_row *ret_layer)
{
    struct hosted_plan *plan = call->plan;
    struct need *need = NULL;

    CHECK(plan != NULL);
    list_for_each(link, &plan->needs)
    {
        struct need *other = list_entry(link, struct need, link);

        if (!other->taken && strcmp(other->layer.pool_id, pool_id) == 0 &&
            other->layer.size_bytes == size_bytes &&
            (family[0] == '\0' ? other->new_family : strcmp(other->family, family) == 0)) {
            need = other;
            break;
        }
    }
    if (need == NULL) {
        need = calloc(1, sizeof(*need));
        CHECK(need != NULL);
        char id[ARRAY_ID_LEN + 1];

        array_layer_name(control_hosted(call->control)->array, family, pool_id, size_bytes, id);
        strcpy(need->layer.id, id);
        strcpy(need->layer.pool_id, pool_id);
        need->layer.size_bytes = size_bytes;
        need->new_family = family[0] == '\0';
        strcpy(need->family, need->new_family ? id : family);
        list_push_back(&plan->needs, &need->link);
    }
    need->taken = true;
    plan->missing = plan->missing || !need->made;

    struct layer_row layer = {.size_bytes = size_bytes};

    strcpy(layer.head.id, need->layer.id);
    strcpy(layer.pool_id, pool_id);
    strcpy(layer.family, need->family);
    strcpy(layer.parent_id, parent_id);
    int r = table_insert(call->db, &layer_table, &layer);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    *ret_layer = layer;
    return 0;
}
