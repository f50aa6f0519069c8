// SPDX-License-Identifier: Apache-2.0
/*
 * What follows the commit of a change of hosted volumes: operations of the array, and who is served, in the order of the
 * commits. What concerns initiators goes through the family's queue too (barriers), so that a volume is withdrawn before it is
 * closed, and served after it was opened, whatever other calls do meanwhile.
 *
 * Each effect carries what it needs (rows may have changed by the time it runs), and opens a gate of its call at its end.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "service/exports.h"
#include "service/hosted_private.h"
#include "service/jobs.h"
#include "service/mirrors.h"

/* A change of one volume, as it goes from the handler to the effect and on. */
struct change {
    struct hosted *hosted;
    struct call *call; /* NULL: nobody waits */
    struct volume_row volume;
    char old_family[ID_SIZE];
    bool moved;
    bool was_offline;
    uint64_t size_bytes;
    bool flag;
    bool failed;
    struct array_barrier *barrier;
    bool closed; /* of a volume that moves: it has left its old family */
    struct layer_row oldest;
    size_t n_layers;
    size_t n_dropped;
    struct array_layer layers[]; /* the chain, then what was dropped */
};

static size_t change_size(size_t n)
{
    return sizeof(struct change) + n * sizeof(struct array_layer);
}

static struct change *change_of(struct call *call, size_t n_layers, size_t n_dropped)
{
    struct change *change = arena_alloc(&call->arena, change_size(n_layers + n_dropped));

    memset(change, 0, sizeof(*change));
    change->hosted = control_hosted(call->control);
    change->n_layers = n_layers;
    change->n_dropped = n_dropped;
    return change;
}

static void change_ask(struct call *call, effect_fn fn, const struct change *change)
{
    control_effect(call->control, fn, change, change_size(change->n_layers + change->n_dropped));
}

/* In the effect: a copy that lives until change_end(). */
static struct change *change_begin(void *arg)
{
    const struct change *wanted = arg;
    size_t size = change_size(wanted->n_layers + wanted->n_dropped);
    struct change *change = malloc(size);

    CHECK(change != NULL);
    memcpy(change, wanted, size);
    hosted_busy(change->hosted, +1);
    return change;
}

struct trouble {
    char volume_id[ID_SIZE];
    char text[NAME_SIZE];
};

/* The volume is what the records say, but it cannot be used. */
static int trouble_event(struct call *call)
{
    const struct trouble *trouble = call->step_state;
    struct volume_row volume;
    int r = table_get(call->db, &volume_table, trouble->volume_id, &volume);

    if (r == 0 && strcmp(volume.problem, trouble->text) != 0) {
        memcpy(volume.problem, trouble->text, sizeof(volume.problem));
        r = table_update(call->db, &volume_table, &volume);
        jobs_kick(control_jobs(call->control)); /* a copy that waited for it gives up */
    }
    return r < 0 && r != -ENOENT ? call_fail_store(call, r) : 0;
}

void hosted_trouble(struct control *control, const char *volume_id, const struct error *error)
{
    struct trouble trouble = {0};

    if (error != NULL) {
        log_error("volume[%s] %s", volume_id, error->detail);
        memcpy(trouble.text, error->detail, strnlen(error->detail, sizeof(trouble.text) - 1));
    }
    strcpy(trouble.volume_id, volume_id);
    control_event(control, trouble_event, &trouble, sizeof(trouble));
}

static void change_end(struct change *change, const struct error *error)
{
    struct hosted *hosted = change->hosted;

    if (error != NULL) {
        hosted_trouble(hosted->control, change->volume.head.id, error);
    }
    if (change->call != NULL) {
        call_gate_open(change->call, error);
    }
    free(change);
    hosted_busy(hosted, -1);
}

/* ---- serving ---- */

static void served(void *arg, const struct error *error)
{
    struct change *change = arg;

    array_barrier_end(change->barrier);
    change_end(change, error);
}

static void serve_now(void *arg, struct array_barrier *barrier)
{
    struct change *change = arg;

    change->barrier = barrier;
    if (change->failed) {
        array_barrier_end(barrier);
        free(change);
    } else {
        exports_serve_volume(change->hosted->control, &change->volume, served, change);
    }
}

/* ---- opening ---- */

static void volume_spec(const struct change *change, struct array_volume *ret_spec)
{
    *ret_spec = (struct array_volume){
        .size_bytes = change->volume.size_bytes,
        .layers = change->layers,
        .n_layers = change->n_layers,
        .read_only = change->volume.write_protected || change->volume.guarded,
        .watch = change->volume.watched,
    };
    strcpy(ret_spec->id, change->volume.head.id);
    strcpy(ret_spec->family, change->volume.family);
    if (change->oldest.bottom_volume_id[0] != '\0') {
        ret_spec->bottom = hosted_bottom_opener(change->hosted, change->oldest.bottom_volume_id);
        ret_spec->bottom_bytes = change->oldest.bottom_bytes;
    }
}

static void opened(void *arg, const struct error *error)
{
    struct change *change = arg;

    jobs_kick(control_jobs(change->hosted->control)); /* copies wait for it */
    if (error != NULL) {
        /* serve_now() comes after this and frees it. */
        change->failed = true;
        struct hosted *hosted = change->hosted;

        hosted_trouble(hosted->control, change->volume.head.id, error);
        if (change->call != NULL) {
            call_gate_open(change->call, error);
        }
        hosted_busy(hosted, -1);
        if (change->volume.offline) {
            free(change);
        }
    } else if (change->volume.offline) {
        change_end(change, NULL);
    }
}

static void volume_open(struct change *change)
{
    struct array_volume spec;
    struct array_volume_filter *filters = NULL;
    bool serve = !change->volume.offline;

    volume_spec(change, &spec);
    spec.n_filters = mirrors_filters(change->hosted->control, &change->volume, &filters);
    spec.filters = filters;
    array_volume_open(change->hosted->array, &spec, opened, change);
    free(filters);
    if (serve) {
        array_barrier(change->hosted->array, change->volume.family, serve_now, change);
    }
}

static void open_effect(struct control *control, void *arg)
{
    (void)control;
    volume_open(change_begin(arg));
}

static int change_of_volume(struct call *call, const struct volume_row *volume,
                            struct change **ret_change)
{
    struct array_layer *layers;
    struct layer_row oldest;
    size_t n;
    int r = hosted_chain(call, volume->top_layer_id, &layers, &n, &oldest);

    if (r < 0) {
        return r;
    }
    struct change *change = change_of(call, n, 0);

    change->volume = *volume;
    change->oldest = oldest;
    memcpy(change->layers, layers, n * sizeof(*layers));
    *ret_change = change;
    return 0;
}

static void change_gate(struct call *call, struct change *change)
{
    if (!call->internal) {
        change->call = call;
        call_gate(call);
    }
}

int hosted_effect_open(struct call *call, const struct volume_row *volume)
{
    struct change *change;
    int r = change_of_volume(call, volume, &change);

    if (r == 0) {
        change_gate(call, change);
        change_ask(call, open_effect, change);
    }
    return r;
}

void hosted_open_now(struct hosted *hosted, const struct volume_row *volume,
                     const struct array_layer *layers, size_t n, const struct layer_row *oldest)
{
    struct change *change = calloc(1, change_size(n));

    CHECK(change != NULL);
    change->hosted = hosted;
    change->volume = *volume;
    change->oldest = *oldest;
    change->n_layers = n;
    memcpy(change->layers, layers, n * sizeof(*layers));
    hosted_busy(hosted, +1);
    volume_open(change);
}

static void serve_effect(struct control *control, void *arg)
{
    struct change *change = change_begin(arg);

    (void)control;
    array_barrier(change->hosted->array, change->volume.family, serve_now, change);
}

void hosted_effect_serve(struct call *call, const struct volume_row *volume)
{
    struct change *change = change_of(call, 0, 0);

    change->volume = *volume;
    change_gate(call, change);
    change_ask(call, serve_effect, change);
}

/* ---- withdrawing ---- */

static void withdrawn(void *arg, const struct error *error)
{
    struct change *change = arg;

    if (error != NULL) {
        log_warning("volume[%s] %s", change->volume.head.id, error->detail);
    }
    if (change->call != NULL) { /* nobody can log in any more: that is what the answer says */
        call_gate_open(change->call, NULL);
        change->call = NULL;
    }
    array_barrier_end(change->barrier);
}

static void withdraw_now(void *arg, struct array_barrier *barrier)
{
    struct change *change = arg;

    change->barrier = barrier;
    exports_withdraw_volume(change->hosted->control, change->volume.head.id, withdrawn, change);
}

/* ---- deleting ---- */

static void removed(void *arg, const struct error *error)
{
    struct change *change = arg;

    if (error != NULL) {
        log_warning("volume[%s] %s", change->volume.head.id, error->detail);
    }
    change_end(change, NULL);
}

static void remove_effect(struct control *control, void *arg)
{
    struct change *change = change_begin(arg);
    struct array *array = change->hosted->array;

    (void)control;
    if (change->volume.head.id[0] != '\0') {
        array_barrier(array, change->old_family, withdraw_now, change);
        array_volume_close(array, change->volume.head.id, NULL, NULL);
    }
    array_layers_remove(array, change->old_family, change->layers, change->n_dropped, removed,
                        change);
}

void hosted_effect_remove(struct call *call, const char *volume_id, const char *family,
                          const struct array_layer *layers, size_t n)
{
    struct change *change = change_of(call, 0, n);

    strcpy(change->volume.head.id, volume_id);
    strcpy(change->old_family, family);
    memcpy(change->layers, layers, n * sizeof(*layers));
    if (volume_id[0] != '\0') {
        change_gate(call, change);
    }
    change_ask(call, remove_effect, change);
}

/* ---- other content ---- */

/* Initiators know. */
static void told(void *arg, const struct error *error)
{
    (void)error;
    change_end(arg, NULL);
}

static void replaced(void *arg, const struct error *error)
{
    struct change *change = arg;

    if (error == NULL && !change->was_offline && !change->volume.offline) {
        exports_notify_volume(change->hosted->control, change->volume.head.id, TARGET_LUN_REPLACED,
                              told, change);
    } else if (change->was_offline && !change->volume.offline) {
        opened(change, error); /* serve_now() follows */
    } else {
        change_end(change, error);
    }
}

static void moved_closed(void *arg, const struct error *error)
{
    struct change *change = arg;

    (void)error;
    change->closed = true;
    if (change->barrier != NULL) {
        array_barrier_end(change->barrier);
    }
}

/* In the new family's queue: until it has left the old one. */
static void moved_wait(void *arg, struct array_barrier *barrier)
{
    struct change *change = arg;

    if (change->closed) {
        array_barrier_end(barrier);
    } else {
        change->barrier = barrier;
    }
}

/* Only to withdraw it; on its own, for the barrier of a change is one. */
static void withdraw_only_done(void *arg, const struct error *error)
{
    struct change *change = arg;

    (void)error;
    array_barrier_end(change->barrier);
    free(change);
}

static void withdraw_only(void *arg, struct array_barrier *barrier)
{
    struct change *change = arg;

    change->barrier = barrier;
    exports_withdraw_volume(change->hosted->control, change->volume.head.id, withdraw_only_done,
                            change);
}

static void withdraw_in_queue(const struct change *change, const char *family)
{
    struct change *copy = malloc(sizeof(*copy));

    CHECK(copy != NULL);
    memcpy(copy, change, sizeof(*copy));
    array_barrier(change->hosted->array, family, withdraw_only, copy);
}

static void replace_effect(struct control *control, void *arg)
{
    struct change *change = change_begin(arg);
    struct array *array = change->hosted->array;
    struct array_volume spec;

    (void)control;
    if (!change->moved && !array_volume_is_there(array, change->volume.head.id)) {
        volume_open(change); /* what it had could not be opened */
        return;
    }
    if (change->moved) {
        withdraw_in_queue(change, change->old_family);
        array_volume_close(array, change->volume.head.id, moved_closed, change);
        array_barrier(array, change->volume.family, moved_wait, change);
        volume_open(change);
        return;
    }
    if (change->volume.offline) {
        withdraw_in_queue(change, change->volume.family);
    }
    bool serve = change->was_offline && !change->volume.offline;

    volume_spec(change, &spec);
    array_volume_replace(array, &spec, replaced, change);
    if (serve) {
        array_barrier(array, spec.family, serve_now, change);
    }
}

int hosted_effect_replace(struct call *call, const struct volume_row *volume,
                          const char *old_family, bool was_offline)
{
    struct change *change;
    int r = change_of_volume(call, volume, &change);

    if (r < 0) {
        return r;
    }
    strcpy(change->old_family, old_family);
    change->moved = strcmp(old_family, volume->family) != 0;
    change->was_offline = was_offline;
    change_gate(call, change);
    change_ask(call, replace_effect, change);
    return 0;
}

/* ---- cut ---- */

static void cut(void *arg, const struct error *error, uint64_t pause_ns)
{
    struct change *change = arg;

    log_debug("volume[%s] cut, writes waited %llu us", change->volume.head.id,
              (unsigned long long)(pause_ns / 1000));
    change_end(change, error);
}

static void cut_effect(struct control *control, void *arg)
{
    struct change *change = change_begin(arg);

    (void)control;
    array_volume_cut(change->hosted->array, change->volume.head.id, &change->layers[0], cut,
                     change);
}

void hosted_effect_cut(struct call *call, const char *volume_id, const struct layer_row *layer)
{
    if (call->cuts != NULL) {
        hosted_group_add(call, volume_id, layer);
        return;
    }
    struct change *change = change_of(call, 1, 0);

    strcpy(change->volume.head.id, volume_id);
    memset(&change->layers[0], 0, sizeof(change->layers[0]));
    strcpy(change->layers[0].id, layer->head.id);
    strcpy(change->layers[0].pool_id, layer->pool_id);
    change->layers[0].size_bytes = layer->size_bytes;
    change_gate(call, change);
    change_ask(call, cut_effect, change);
}

/* ---- size, write protection, watching ---- */

static void grown(void *arg, const struct error *error)
{
    struct change *change = arg;

    if (error == NULL) {
        exports_notify_volume(change->hosted->control, change->volume.head.id, TARGET_LUN_RESIZED,
                              told, change);
    } else {
        change_end(change, error);
    }
}

static void grow_effect(struct control *control, void *arg)
{
    struct change *change = change_begin(arg);

    (void)control;
    array_volume_grow(change->hosted->array, change->volume.head.id, change->size_bytes, grown,
                      change);
}

void hosted_effect_grow(struct call *call, const char *volume_id, uint64_t size_bytes)
{
    struct change *change = change_of(call, 0, 0);

    strcpy(change->volume.head.id, volume_id);
    change->size_bytes = size_bytes;
    change_gate(call, change);
    change_ask(call, grow_effect, change);
}

/* What was asked of the array before is done. */
static void read_only_done(void *arg, struct array_barrier *barrier)
{
    struct change *change = arg;

    exports_notify_volume(change->hosted->control, change->volume.head.id,
                          change->flag ? TARGET_LUN_READ_ONLY : TARGET_LUN_WRITABLE, told, change);
    array_barrier_end(barrier);
}

static void read_only_effect(struct control *control, void *arg)
{
    struct change *change = change_begin(arg);
    struct array *array = change->hosted->array;

    (void)control;
    array_volume_set_read_only(array, change->volume.head.id, change->flag);
    array_barrier(array, change->volume.family, read_only_done, change);
}

void hosted_effect_read_only(struct call *call, const struct volume_row *volume)
{
    struct change *change = change_of(call, 0, 0);

    change->volume = *volume;
    change->flag = volume->write_protected || volume->guarded;
    change_gate(call, change);
    change_ask(call, read_only_effect, change);
}

static void watch_effect(struct control *control, void *arg)
{
    const struct change *change = arg;

    (void)control;
    array_volume_watch(change->hosted->array, change->volume.head.id, change->flag);
}

void hosted_effect_watch(struct call *call, const char *volume_id, bool watch)
{
    struct change *change = change_of(call, 0, 0);

    strcpy(change->volume.head.id, volume_id);
    change->flag = watch;
    change_ask(call, watch_effect, change);
}

struct mergeable {
    char layer_id[ID_SIZE];
    char family[ID_SIZE];
};

static void merge_effect(struct control *control, void *arg)
{
    const struct mergeable *mergeable = arg;

    hosted_merge_candidate(control_hosted(control), mergeable->layer_id, mergeable->family);
}

void hosted_effect_merge(struct call *call, const char *layer_id, const char *family)
{
    struct mergeable mergeable = {0};

    strcpy(mergeable.layer_id, layer_id);
    strcpy(mergeable.family, family);
    control_effect(call->control, merge_effect, &mergeable, sizeof(mergeable));
}
