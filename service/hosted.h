// SPDX-License-Identifier: Apache-2.0
/*
 * Hosted volumes as records: their layers, cuts, content and end; and the effects that make them
 * real (docs/design/hosted.md).
 *
 * Thread:    control, inside a call.
 * Ownership: rows are values.
 * Errors:    call->error, as handlers do.
 *
 * A function here changes rows in the call's transaction and asks for effects; the answer of the call waits for these
 * (call_gate()). Whatever needs new layers must be called from a body that hosted_run() runs.
 */
#ifndef SERVICE_HOSTED_H
#define SERVICE_HOSTED_H

#include "hosting/array.h"
#include "service/call.h"
#include "store/replica.h"
#include "store/volume.h"

enum {
    HOSTED_BLOCK_BYTES = 512,
    HOSTED_PHYSICAL_BYTES = 4096,
    HOSTED_MAX_LAYERS = 252, /* in a chain: as many snapshots of a volume as that */
};

/*
 * For handlers: runs body. If body wanted layers whose files are not there, they are made while the call is pending, and body
 * runs again from its beginning, on the records as they are then. A handler is
 *
 *     int method_x(struct call *call) { return hosted_run(call, x_body); }
 *
 * body may be run more than once, must not keep anything from one run to the next, and may return
 * CALL_PENDING itself (its next step then is called through hosted_run() too).
 */
int hosted_run(struct call *call, method_fn body);

/*
 * In a body of hosted_run(), before it writes anything: all cuts that this call makes (hosted_derive(), hosted_refresh(), hosted_restore()) are of
 * one moment: no write is in one of them that was issued after the end of a write which is not in another one. Should one of the volumes not be
 * held in time, all that the call wrote is taken back, and it fails (timeout). Not for calls that begin copies. The out parameter
 * BarrierMicroseconds, when the method has it, tells how long writes waited.
 */
void hosted_cuts_together(struct call *call);
/* In its effects: how long writes were held. */
uint64_t hosted_cuts_pause_us(const struct call *call);

/* For control: the call is through, and its effects have begun. Files and pools that were made for it and that no record has are
 * removed. */
void hosted_call_end(struct call *call, bool committed);

/* ---- pools of files ---- */

/* Where a new volume goes: pool, or the pool of source if that is hosted, or /pools/default. invalid_parameter (of parameter)
 * when pool is no pool of files. */
int hosted_pool(struct call *call, const char *parameter, const struct pool_row *pool,
                const struct volume_row *source, struct pool_row *ret_pool);

/* ---- volumes ---- */

/* A new volume that reads as zeros; element_name NULL: a name of ours, made of base ("volume" when NULL). */
int hosted_create(struct call *call, const struct pool_row *pool, uint64_t size_bytes,
                  const char *element_name, const char *base, struct volume_row *ret_volume);

/*
 * The same, but what it does not have yet reads as source has it (a LUN of another system): to be filled by a copy onto
 * hosted_fill_opener(), and hosted_filled() at its end. offline: nothing of it yet, it is not served until hosted_take().
 */
int hosted_create_filled(struct call *call, const struct pool_row *pool,
                         const struct volume_row *source, const char *element_name, bool offline,
                         struct volume_row *ret_volume);
/* target (hosted, not smaller) becomes that: what it had is gone. It is served if it was offline. */
int hosted_take(struct call *call, const struct volume_row *source, struct volume_row *target);
/* 1: the volume still needs a LUN below it, 0: not, or an error of the store. */
int hosted_filling(struct db *db, const struct volume_row *volume, struct layer_row *ret_oldest);
/* All that was below the volume is in it. Nothing happens when nothing is below it. */
int hosted_filled(struct call *call, const char *volume_id);
/* Is there another volume that gets its data with this one's filling? 1, 0 or an error. */
int hosted_fill_others(struct call *call, const struct volume_row *volume,
                       char ret_other_id[ID_SIZE]);

/* Can source be cut for a volume of that pool (its layers be shared)? */
bool hosted_can_share(const struct volume_row *source, const struct pool_row *pool);

/* A cut of source now, and a new volume that begins with what source reads at that moment: a snapshot, or a clone.
 * watched: its own first change is to be told (see hosted_changed_fn()). offline: no cut yet, the volume is there but
 * not served, until hosted_refresh(). */
int hosted_derive(struct call *call, const struct volume_row *source, const char *element_name,
                  bool watched, bool offline, struct volume_row *ret_volume);

/* target (hosted, of the same pool) takes what source reads now: what target had is gone. Its size stays (not smaller than
 * the source's), it is served if it was offline. */
int hosted_refresh(struct call *call, const struct volume_row *source, struct volume_row *target,
                   bool watched);

/* source takes what replica reads now, its own changes included. What source had until now is kept
 * as a new volume, element_name NULL: "{name}-before-restore-{n}". Its size stays. */
int hosted_restore(struct call *call, struct volume_row *source, struct volume_row *replica,
                   const char *kept_name, struct volume_row *ret_kept);

/*
 * With layers that are there before the transaction (array_layers_create() was called for them), for what happens without a call of a client.
 * Those that no record takes in the end are the caller's to remove.
 */
struct hosted_fresh {
    struct array_layer layer; /* of the volume's pool and size */
    char family[ID_SIZE];     /* the volume's */
};
/* A cut of the volume now; what it had is in the frozen layer. */
int hosted_cut(struct call *call, const struct volume_row *volume, const struct hosted_fresh *fresh,
               char ret_frozen_id[ID_SIZE]);
/* The volume reads what layer_id, of its family, and those below it have. What it had is gone. */
int hosted_go_back(struct call *call, struct volume_row *volume, const struct hosted_fresh *fresh,
                   const char *layer_id);
/* A frozen layer that was counted on (store/cycle.h) and is not any more: it goes, or what is above it takes it. After the
 * row that named it was stored. "" does nothing. */
int hosted_let_go(struct call *call, const char *layer_id);

/* limit_reached when the volume has as many layers below it as one may have. */
int hosted_check_depth(struct call *call, const struct volume_row *volume);
/* Is the layer in the chain of top_layer_id? 1, 0 or an error. */
int hosted_chain_has(struct db *db, const char *top_layer_id, const char *layer_id);
/* A look at frozen layers, for copies: at what layer_id and those below it read, or (base_id not NULL) at what of that is new since base_id,
 * with the content from before if old_content. look_id is free; array_volume_close() ends it. -ENOENT, and done is not called, when the layers are
 * not there, or base_id is not below layer_id. */
int hosted_look_open(struct control *control, const char *look_id, const char *layer_id,
                     const char *base_id, bool old_content, array_done_fn done, void *arg);

/* Loses its content and is not served until hosted_refresh(): Deactivate. */
int hosted_blank(struct call *call, struct volume_row *volume);

/* Served again, with what it has: one that was offline and is not to be a replica any more. */
int hosted_show(struct call *call, struct volume_row *volume);

/* Its next change by a host is to be told: it is not watched any more then. */
int hosted_watch(struct call *call, struct volume_row *volume);
/* Not a replica any more: its changes are not to be told. */
int hosted_unwatch(struct call *call, struct volume_row *volume);
int hosted_set_read_only(struct call *call, struct volume_row *volume, bool read_only);

/* Larger, to be served at once. */
int hosted_grow(struct call *call, struct volume_row *volume, uint64_t size_bytes);

/* The volume goes, and what only it used. in_use when somebody is logged in to it. Its relationships are the caller's to end. */
int hosted_delete(struct call *call, const struct volume_row *volume);

/* ---- at run time ---- */

struct hosted;

/* Before the loops run. */
int hosted_new(struct control *control, struct hosted **ret_hosted);
/* Before the records are opened: files that no record knows are removed at the start, so without records there is none. */
int hosted_check_records(const char *data_dir, struct error *error);
void hosted_free(struct hosted *hosted);
/* On control, while it runs: opens and serves all hosted volumes, then done. Volumes that cannot be opened get their
 * problem. */
void hosted_start(struct hosted *hosted, loop_fn done, void *arg);
/* After copies have ended: what calls wait for is done, then everything is flushed and closed. Initiators have been logged
 * out, or are by withdraw(), which is called in between. */
void hosted_stop(struct hosted *hosted,
                 void (*withdraw)(struct control *control, loop_fn done, void *arg), loop_fn done,
                 void *arg);
struct array *hosted_array(struct hosted *hosted);

/* The directory of a pool of files, absolute; -ENAMETOOLONG. */
int hosted_pool_dir(struct control *control, const struct pool_row *pool, char *ret_dir,
                    size_t size);
/* Files are being made in the pool now. */
bool hosted_pool_is_pinned(struct control *control, const char *pool_id);

/* For copies: how to get at the volume, and the loop it lives on. NULL when it is not open. */
struct block_opener *hosted_opener(struct control *control, const char *volume_id,
                                   struct loop **ret_loop);

/* The same for a copy that fills it. */
struct block_opener *hosted_fill_opener(struct control *control, const char *volume_id,
                                        uint64_t size_bytes, struct loop **ret_loop);

#endif
