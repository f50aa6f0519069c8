// SPDX-License-Identifier: Apache-2.0
/*
 * Frozen layers with one user left are merged into it, or it into them, in the background: deleting a volume costs its records,
 * and chains do not grow for ever.
 *
 * Nothing is recorded about a merge under way. When its copying is done, the shorter chain is committed if the rows still are
 * what they were, then the superfluous layer leaves the stacks, then its file goes. Whatever comes in between, the next start finds the pair
 * again. One merge at a time in a family.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "service/hosted_private.h"

enum { MERGE_AGAIN_MS = 2000, MERGES_AT_ONCE = 4 };

struct merge {
    struct list link;
    struct hosted *hosted;
    char lower_id[ID_SIZE];
    char upper_id[ID_SIZE]; /* known once it runs */
    char family[ID_SIZE];
    bool running;
};

static void merges_start(struct hosted *hosted);

static void merge_free(struct merge *merge)
{
    list_remove(&merge->link);
    free(merge);
}

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

void hosted_merge_candidate(struct hosted *hosted, const char *layer_id)
{
    if (hosted->stopping) {
        return;
    }
    list_for_each(link, &hosted->merges)
    {
        const struct merge *other = list_entry(link, struct merge, link);

        if (!other->running && strcmp(other->lower_id, layer_id) == 0) {
            return;
        }
    }
    struct merge *merge = calloc(1, sizeof(*merge));

    CHECK(merge != NULL);
    merge->hosted = hosted;
    strcpy(merge->lower_id, layer_id);
    list_push_back(&hosted->merges, &merge->link);
    merges_start(hosted);
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

/* 0: lower is used by upper and nobody else. */
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
        r = top_of(db, lower_id, &volume);
        r = r == 0 ? -ENOENT : r == -ENOENT ? 0 : r;
    }
    return r == 0 ? child_of(db, lower_id, ret_upper) : r;
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

static void finished(void *arg, const struct error *error)
{
    struct hosted *hosted = arg;

    if (error != NULL) {
        log_warning("layers: %s", error->detail);
    }
    hosted_busy(hosted, -1);
    merges_start(hosted);
}

static struct merge *merge_of(struct hosted *hosted, const char *lower_id)
{
    list_for_each(link, &hosted->merges)
    {
        struct merge *merge = list_entry(link, struct merge, link);

        if (merge->running && strcmp(merge->lower_id, lower_id) == 0) {
            return merge;
        }
    }
    return NULL;
}

static void finish_effect(struct control *control, void *arg)
{
    struct hosted *hosted = control_hosted(control);
    const struct layer_row *superfluous = arg;
    struct array_layer layer = {.size_bytes = superfluous->size_bytes};

    strcpy(layer.id, superfluous->head.id);
    strcpy(layer.pool_id, superfluous->pool_id);
    hosted_busy(hosted, +1);
    array_merge_finish(hosted->array, superfluous->family, &layer, finished, hosted);
}

static void merge_gone_effect(struct control *control, void *arg)
{
    struct hosted *hosted = control_hosted(control);
    struct merge *merge = merge_of(hosted, arg);

    if (merge != NULL) {
        hosted->merges_running--;
        merge_free(merge);
    }
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
    control_effect(call->control, merge_gone_effect, merged->lower_id,
                   strlen(merged->lower_id) + 1);
    if (!same) {
        return 0;
    }
    if (strcmp(merged->superfluous_id, lower.head.id) == 0) {
        strcpy(upper.parent_id, lower.parent_id);
        r = table_update(call->db, &layer_table, &upper);
        if (r == 0) {
            r = table_delete(call->db, &layer_table, lower.head.id);
        }
        control_effect(call->control, finish_effect, &lower, sizeof(lower));
    } else {
        r = children_to(call, upper.head.id, lower.head.id);
        if (r == 0) {
            r = table_delete(call->db, &layer_table, upper.head.id);
        }
        if (r == 0) {
            hosted_effect_merge(call, lower.head.id);
        }
        control_effect(call->control, finish_effect, &upper, sizeof(upper));
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

static void merge_done(void *arg, const struct error *error, const char *superfluous_id)
{
    struct merge *merge = arg;
    struct hosted *hosted = merge->hosted;

    if (hosted->stopping) {
        merge_free(merge); /* the next start finds the pair again */
        return;
    }
    if (error != NULL) {
        /* The volume was closed or got other content, or is busy: another one may have the pair. */
        log_debug("layers %s and %s were not merged: %s", merge->lower_id, merge->upper_id,
                  error->detail);
        merge->running = false;
        hosted->merges_running--;
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
    list_for_each(link, &hosted->merges)
    {
        const struct merge *merge = list_entry(link, struct merge, link);

        if (merge->running && strcmp(merge->family, family) == 0) {
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

    if (r == 0 && family_is_busy(hosted, lower.family)) {
        return;
    }
    if (r == 0) {
        r = volume_above(db, &upper, &volume);
    }
    if (r == -ENOENT) {
        merge_free(merge);
        return;
    }
    if (r < 0) {
        merges_start_later(hosted);
        return;
    }
    merge->running = true;
    hosted->merges_running++;
    strcpy(merge->family, lower.family);
    strcpy(merge->upper_id, upper.head.id);
    array_merge(hosted->array, volume.head.id, lower.head.id, upper.head.id, merge_done, merge);
}

static void merges_start(struct hosted *hosted)
{
    if (hosted->stopping) {
        return;
    }
    list_for_each_safe(link, next, &hosted->merges)
    {
        struct merge *merge = list_entry(link, struct merge, link);

        if (hosted->merges_running >= MERGES_AT_ONCE) {
            break;
        }
        if (!merge->running) {
            merge_try(hosted, merge);
        }
    }
}

static int scan_row(void *arg, const void *row)
{
    const struct layer_row *layer = row;

    if (layer->parent_id[0] != '\0') {
        hosted_merge_candidate(arg, layer->parent_id);
    }
    return 0;
}

void hosted_merge_scan(struct hosted *hosted)
{
    loop_timer_init(&hosted->merge_timer, control_loop(hosted->control), merge_timer, hosted);
    int r = table_each(control_db(hosted->control), &layer_table, NULL, 0, 0, scan_row, hosted);

    if (r < 0) {
        log_warning("layers: what can be merged is not known: %s", strerror(-r));
    }
}

void hosted_merge_fini(struct hosted *hosted)
{
    list_for_each_safe(link, next, &hosted->merges)
    {
        merge_free(list_entry(link, struct merge, link));
    }
}
