// SPDX-License-Identifier: Apache-2.0
/*
 * Frozen layers with one user left are merged into it, or it into them, in the background: deleting a volume costs its records,
 * and chains do not grow for ever.
 *
 * Nothing is recorded about a merge under way. When its copying is done, the shorter chain is committed if the rows still are
 * what they were, then the superfluous layer leaves the stacks, then its file goes. Whatever comes in between, the next start finds the pair
 * again. One merge at a time in a family.
 *
 * What an asynchronous mirror counts on (store/cycle.h) is not merged with what is above it; merged downwards it goes on under the name of the
 * layer that has taken it. What a cycle is copying now keeps its name.
 *
 * A large layer is not copied into a small one that is written to: the next cut freezes that one, and then it goes down instead.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "service/hosted_private.h"
#include "store/cycle.h"

enum { MERGE_AGAIN_MS = 2000, MERGE_LATER_S = 60, MERGES_AT_ONCE = 4 };

struct merge {
    struct list link; /* of those under way */
    struct hosted *hosted;
    char lower_id[ID_SIZE];
    char upper_id[ID_SIZE]; /* known once it runs */
    char family[ID_SIZE];
    uint64_t not_before_ns;
};

static void merges_start(struct hosted *hosted);

static void merge_timer(void *arg)
{
    merges_start(arg);
}

static void merges_start_later(struct hosted *hosted)
{
    if (!hosted->stopping && !loop_timer_pending(&hosted->merge_timer)) {
        loop_timer_start(&hosted->merge_timer, MERGE_AGAIN_MS * MS_NS);
    }
}

static void merge_wanted(struct hosted *hosted, struct merge *merge)
{
    struct merge *other = map_get(&hosted->merges, merge->lower_id);

    if (other != NULL) {
        if (other->not_before_ns > merge->not_before_ns) {
            other->not_before_ns = merge->not_before_ns;
        }
        free(merge);
    } else {
        CHECK(map_put(&hosted->merges, merge->lower_id, merge) == 0);
    }
}

static void candidate_add(struct hosted *hosted, const char *layer_id, const char *family)
{
    struct merge *merge = calloc(1, sizeof(*merge));

    CHECK(merge != NULL);
    list_init(&merge->link);
    merge->hosted = hosted;
    strcpy(merge->lower_id, layer_id);
    strcpy(merge->family, family);
    merge_wanted(hosted, merge);
}

void hosted_merge_candidate(struct hosted *hosted, const char *layer_id, const char *family)
{
    if (!hosted->stopping) {
        candidate_add(hosted, layer_id, family);
        merges_start(hosted);
    }
}

int hosted_merge_below(struct call *call, const char *layer_id)
{
    struct layer_row layer;
    int r = table_get(call->db, &layer_table, layer_id, &layer);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    if (layer.parent_id[0] != '\0') {
        hosted_effect_merge(call, layer.parent_id, layer.family);
    }
    return 0;
}

/* ---- which pair, in which volume ---- */

static int top_of(struct db *db, const char *layer_id, struct volume_row *ret_volume)
{
    struct condition where[] = {WHERE_TEXT("top_layer_id", layer_id), WHERE_END};

    return table_find(db, &volume_table, where, ret_volume);
}

static int child_of(struct db *db, const char *layer_id, struct layer_row *ret_layer)
{
    struct condition where[] = {WHERE_TEXT("parent_id", layer_id), WHERE_END};

    return table_find(db, &layer_table, where, ret_layer);
}

static int copied_now(struct db *db, const char *layer_id)
{
    struct condition where[] = {WHERE_TEXT("cut_id", layer_id), WHERE_END};
    uint64_t n = 0;
    int r = table_count(db, &cycle_table, where, &n);

    return r < 0 ? r : n > 0;
}

/* 0: lower is used by upper and nobody else, and upper may change. What a watched volume has in its top is what was written to
 * it (a start asks the file), so that this waits until it is not watched any more. */
static int pair_find(struct db *db, const char *lower_id, struct layer_row *ret_lower,
                     struct layer_row *ret_upper)
{
    struct volume_row volume;
    uint64_t n;
    int r = table_get(db, &layer_table, lower_id, ret_lower);

    if (r == 0) {
        r = layer_children(db, lower_id, &n);
    }
    if (r == 0 && (n != 1 || ret_lower->bottom_volume_id[0] != '\0')) {
        r = -ENOENT;
    }
    if (r == 0) {
        r = cycle_pins(db, lower_id);
        r = r > 0 ? -ENOENT : r;
    }
    if (r == 0) {
        r = top_of(db, lower_id, &volume);
        r = r == 0 ? -ENOENT : r == -ENOENT ? 0 : r;
    }
    if (r == 0) {
        r = child_of(db, lower_id, ret_upper);
    }
    if (r == 0) {
        r = copied_now(db, ret_upper->head.id);
        r = r > 0 ? -ENOENT : r;
    }
    if (r == 0) {
        r = top_of(db, ret_upper->head.id, &volume);
        r = r == 0 && volume.watched ? -ENOENT : r == -ENOENT ? 0 : r;
    }
    return r;
}

/* A volume whose chain has the layer: upwards there is one at the end of every way. */
static int volume_above(struct db *db, const struct layer_row *layer, struct volume_row *ret_volume)
{
    struct layer_row at = *layer;
    int r = top_of(db, at.head.id, ret_volume);

    while (r == -ENOENT) {
        struct layer_row child;

        r = child_of(db, at.head.id, &child);
        if (r < 0) {
            return r;
        }
        at = child;
        r = top_of(db, at.head.id, ret_volume);
    }
    return r;
}

/* ---- its end ---- */

struct merged {
    char lower_id[ID_SIZE];
    char upper_id[ID_SIZE];
    char superfluous_id[ID_SIZE];
};

static struct merge *merge_of(struct hosted *hosted, const char *lower_id)
{
    list_for_each(link, &hosted->merges_running)
    {
        struct merge *merge = list_entry(link, struct merge, link);

        if (strcmp(merge->lower_id, lower_id) == 0) {
            return merge;
        }
    }
    CHECK(!"the merge is under way");
    return NULL;
}

/* It runs no more; the caller frees it, or has it wait again. */
static void merge_leave(struct merge *merge)
{
    list_remove(&merge->link);
    merge->hosted->n_merges_running--;
}

static void finished(void *arg, const struct error *error)
{
    struct merge *merge = arg;
    struct hosted *hosted = merge->hosted;

    if (error != NULL) {
        log_warning("layers: %s", error->detail);
    }
    merge_leave(merge);
    free(merge);
    hosted_busy(hosted, -1);
    merges_start(hosted);
}

struct finish {
    char lower_id[ID_SIZE];
    char family[ID_SIZE];
    struct array_layer superfluous;
};

/* The next merge of the family waits until the layer has left all stacks. */
static void finish_effect(struct control *control, void *arg)
{
    struct hosted *hosted = control_hosted(control);
    const struct finish *finish = arg;
    struct merge *merge = merge_of(hosted, finish->lower_id);

    if (hosted->stopping) {
        merge_leave(merge); /* the next start removes the file */
        free(merge);
        return;
    }
    hosted_busy(hosted, +1);
    array_merge_finish(hosted->array, finish->family, &finish->superfluous, finished, merge);
}

static void finish_ask(struct call *call, const char *lower_id, const struct layer_row *superfluous)
{
    struct finish finish = {.superfluous = {.size_bytes = superfluous->size_bytes}};

    strcpy(finish.lower_id, lower_id);
    strcpy(finish.family, superfluous->family);
    strcpy(finish.superfluous.id, superfluous->head.id);
    strcpy(finish.superfluous.pool_id, superfluous->pool_id);
    control_effect(call->control, finish_effect, &finish, sizeof(finish));
}

static void merge_gone_effect(struct control *control, void *arg)
{
    struct hosted *hosted = control_hosted(control);
    struct merge *merge = merge_of(hosted, arg);

    merge_leave(merge);
    free(merge);
    merges_start(hosted);
}

static int children_to(struct call *call, const char *from_id, const char *to_id)
{
    struct condition where[] = {WHERE_TEXT("parent_id", from_id), WHERE_END};
    void *rows = NULL;
    size_t n = 0;
    int r = table_load(call->db, &layer_table, where, &rows, &n);

    for (size_t i = 0; i < n && r == 0; i++) {
        struct layer_row *row = (struct layer_row *)rows + i;

        strcpy(row->parent_id, to_id);
        r = table_update(call->db, &layer_table, row);
    }
    free(rows);
    return r;
}

/* The shorter chain, if the rows are still what they were. */
static int merged_event(struct call *call)
{
    const struct merged *merged = call->step_state;
    struct layer_row lower;
    struct layer_row upper;
    int r = pair_find(call->db, merged->lower_id, &lower, &upper);
    bool same = r == 0 && strcmp(upper.head.id, merged->upper_id) == 0;

    if (r < 0 && r != -ENOENT) {
        return call_fail_store(call, r);
    }
    if (!same) {
        control_effect(call->control, merge_gone_effect, merged->lower_id,
                       strlen(merged->lower_id) + 1);
        return 0;
    }
    if (strcmp(merged->superfluous_id, lower.head.id) == 0) {
        strcpy(upper.parent_id, lower.parent_id);
        r = table_update(call->db, &layer_table, &upper);
        if (r == 0) {
            r = table_delete(call->db, &layer_table, lower.head.id);
        }
        finish_ask(call, lower.head.id, &lower);
    } else {
        r = children_to(call, upper.head.id, lower.head.id);
        if (r == 0) {
            r = cycle_layer_renamed(call->db, upper.head.id, lower.head.id);
        }
        if (r == 0) {
            r = table_delete(call->db, &layer_table, upper.head.id);
        }
        if (r == 0) {
            hosted_effect_merge(call, lower.head.id, lower.family);
        }
        finish_ask(call, lower.head.id, &upper);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

static void merge_done(void *arg, const struct error *error, const char *superfluous_id)
{
    struct merge *merge = arg;
    struct hosted *hosted = merge->hosted;

    if (hosted->stopping) {
        merge_leave(merge); /* the next start finds the pair again */
        free(merge);
        return;
    }
    if (error != NULL) {
        /* The volume was closed or got other content, or is busy: another one may have the pair. */
        log_debug("layers %s and %s were not merged: %s", merge->lower_id, merge->upper_id,
                  error->detail);
        merge_leave(merge);
        merge->not_before_ns =
            error->code == ERR_IN_USE
                ? loop_now_ns(control_loop(hosted->control)) + MERGE_LATER_S * SEC_NS
                : 0;
        merge_wanted(hosted, merge); /* behind the others */
        merges_start_later(hosted);
    } else {
        struct merged merged = {0};

        strcpy(merged.lower_id, merge->lower_id);
        strcpy(merged.upper_id, merge->upper_id);
        strcpy(merged.superfluous_id, superfluous_id);
        control_event(hosted->control, merged_event, &merged, sizeof(merged));
    }
}

/* ---- starting ---- */

static bool family_is_busy(struct hosted *hosted, const char *family)
{
    list_for_each(link, &hosted->merges_running)
    {
        if (strcmp(list_entry(link, struct merge, link)->family, family) == 0) {
            return true;
        }
    }
    return false;
}

static void merge_try(struct hosted *hosted, struct merge *merge)
{
    struct db *db = control_db(hosted->control);
    struct volume_row volume;
    struct layer_row lower;
    struct layer_row upper;
    int r = pair_find(db, merge->lower_id, &lower, &upper);

    if (r == 0) {
        r = volume_above(db, &upper, &volume);
    }
    if (r < 0 && r != -ENOENT) {
        merges_start_later(hosted);
        return;
    }
    map_remove(&hosted->merges, merge->lower_id);
    if (r < 0) {
        free(merge);
        return;
    }
    list_push_back(&hosted->merges_running, &merge->link);
    hosted->n_merges_running++;
    strcpy(merge->upper_id, upper.head.id);
    array_merge(hosted->array, volume.head.id, lower.head.id, upper.head.id, merge_done, merge);
}

static void merges_start(struct hosted *hosted)
{
    uint64_t now_ns = loop_now_ns(control_loop(hosted->control));
    size_t n = map_count(&hosted->merges); /* one that fails at once waits behind them */
    struct map_entry *next;

    for (struct map_entry *e = map_first(&hosted->merges); e != NULL && n > 0; e = next, n--) {
        struct merge *merge = e->value;

        if (hosted->stopping || hosted->n_merges_running >= MERGES_AT_ONCE) {
            break;
        }
        next = map_next(&hosted->merges, e);
        if (merge->not_before_ns > now_ns) {
            merges_start_later(hosted);
        } else if (!family_is_busy(hosted, merge->family)) {
            merge_try(hosted, merge);
        }
    }
}

/* Layers that others stand on: how many, and of which family. */
struct parent {
    unsigned n_children;
    char family[ID_SIZE];
};

static int scan_row(void *arg, const void *row)
{
    struct map *parents = arg;
    const struct layer_row *layer = row;
    struct parent *parent;

    if (layer->parent_id[0] == '\0') {
        return 0;
    }
    parent = map_get(parents, layer->parent_id);
    if (parent == NULL) {
        parent = calloc(1, sizeof(*parent));
        CHECK(parent != NULL && map_put(parents, layer->parent_id, parent) == 0);
        strcpy(parent->family, layer->family);
    }
    parent->n_children++;
    return 0;
}

void hosted_merge_scan(struct hosted *hosted)
{
    struct map parents;

    map_init(&parents);
    loop_timer_init(&hosted->merge_timer, control_loop(hosted->control), merge_timer, hosted);
    int r = table_each(control_db(hosted->control), &layer_table, NULL, 0, 0, scan_row, &parents);

    if (r < 0) {
        log_warning("layers: what can be merged is not known: %s", strerror(-r));
    }
    for (struct map_entry *e = map_first(&parents); e != NULL; e = map_next(&parents, e)) {
        struct parent *parent = e->value;

        if (parent->n_children == 1) {
            candidate_add(hosted, e->key, parent->family);
        }
        free(parent);
    }
    map_fini(&parents);
    merges_start(hosted);
}

void hosted_merge_fini(struct hosted *hosted)
{
    for (struct map_entry *e = map_first(&hosted->merges); e != NULL;
         e = map_next(&hosted->merges, e)) {
        free(e->value);
    }
    map_fini(&hosted->merges);
    list_for_each_safe(link, next, &hosted->merges_running)
    {
        free(list_entry(link, struct merge, link));
    }
}
