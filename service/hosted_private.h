// SPDX-License-Identifier: Apache-2.0
/*
 * Inside hosted*.c only: what the rows, the plan, the effects and the merging share.
 *
 * Thread:    control.
 * Ownership: see each.
 * Errors:    call->error.
 */
#ifndef SERVICE_HOSTED_PRIVATE_H
#define SERVICE_HOSTED_PRIVATE_H

#include "base/list.h"
#include "base/map.h"
#include "service/control.h"
#include "service/hosted.h"

struct hosted {
    struct control *control;
    struct array *array;
    bool stopping;
    unsigned busy; /* plans and effects under way */
    loop_fn idle;  /* called once nothing is */
    void *idle_arg;
    struct list plans;
    struct map merges;          /* wanted: by the lower layer's id */
    struct list merges_running; /* from their start until the layer's file is gone */
    unsigned n_merges_running;
    struct loop_timer merge_timer;
};

void hosted_busy(struct hosted *hosted, int delta);

/* ---- the plan of a call: new layers and their files (hosted_plan.c) ---- */

/* A row for a new, empty layer above parent ("" none). family "": a new one. In a body of hosted_run() only. */
int hosted_layer_new(struct call *call, const char *pool_id, const char *family,
                     const char *parent_id, uint64_t size_bytes, struct layer_row *ret_layer);

/* ---- effects (hosted_effects.c); each takes what it needs from the transaction it is asked in ---- */

/* Opens the volume as its row says, and serves it unless it is offline. */
int hosted_effect_open(struct call *call, const struct volume_row *volume);
/* The same for one that is open: onto the layers that its row names now, perhaps in another family. */
int hosted_effect_replace(struct call *call, const struct volume_row *volume,
                          const char *old_family, bool was_offline);
/* One that is open is served now. */
void hosted_effect_serve(struct call *call, const struct volume_row *volume);
void hosted_effect_cut(struct call *call, const char *volume_id, const struct layer_row *layer);
/* One of the cuts that are to be of one moment (hosted_group.c). */
void hosted_group_add(struct call *call, const char *volume_id, const struct layer_row *layer);
void hosted_effect_grow(struct call *call, const char *volume_id, uint64_t size_bytes);
/* As its row says. */
void hosted_effect_read_only(struct call *call, const struct volume_row *volume);
void hosted_effect_watch(struct call *call, const char *volume_id, bool watch);
/* volume_id "": only the files go. */
void hosted_effect_remove(struct call *call, const char *volume_id, const char *family,
                          const struct array_layer *layers, size_t n);
/* The layer may have one user left: its content can go there. */
void hosted_effect_merge(struct call *call, const char *layer_id, const char *family);
/* At start, outside of calls. */
void hosted_open_now(struct hosted *hosted, const struct volume_row *volume,
                     const struct array_layer *layers, size_t n, const struct layer_row *oldest);
/* What is wrong with the volume, or NULL: nothing any more. */
void hosted_trouble(struct control *control, const char *volume_id, const struct error *error);

/* ---- merging (hosted_merge.c) ---- */

void hosted_merge_candidate(struct hosted *hosted, const char *layer_id, const char *family);
/* The layer may take what is below it now, or go there: it was frozen, or is not watched any more. */
int hosted_merge_below(struct call *call, const char *layer_id);
/* Looks through all layers. */
void hosted_merge_scan(struct hosted *hosted);
void hosted_merge_fini(struct hosted *hosted);

/* ---- after a crash (hosted_scrub.c) ---- */

void hosted_scrub_begin(struct hosted *hosted);
/* All is closed: the next start need not look. */
void hosted_scrub_clean(struct hosted *hosted);

/* ---- filling (hosted_fill.c) ---- */

/* How to get at a LUN of another system that is below volumes: asks the records at each open. */
struct block_opener *hosted_bottom_opener(struct hosted *hosted, const char *volume_id);

/* ---- helpers ---- */

/* The chain of a layer as the array wants it, in the call's arena, and the oldest one's row. */
int hosted_chain(struct call *call, const char *top_layer_id, struct array_layer **ret_layers,
                 size_t *ret_n, struct layer_row *ret_oldest);
/* How many layers have it as their parent. */
int layer_children(struct db *db, const char *layer_id, uint64_t *ret_n);

#endif
