// SPDX-License-Identifier: Apache-2.0
/*
 * The layer's own structure, for layer.c and layer_commit.c only.
 *
 * Thread:    the layer's loop.
 * Ownership: freed when the last reference has gone and nothing is under way (busy is 0).
 * Errors:    none.
 */
#ifndef BLOCK_LAYER_OBJECT_H
#define BLOCK_LAYER_OBJECT_H

#include "block/layer_private.h"

enum layer_state { LAYER_UNUSED, LAYER_LOADING, LAYER_READY, LAYER_FAILED };

struct layer_commit {
    bool running;
    bool stalled; /* until the checkpoint has ended */
    int step;
    struct list waits; /* who gets its result */
    struct layer_entry *entries;
    size_t n_entries;
    size_t room;
    size_t written; /* entries already in records */
    size_t taking;
    struct layer_io io;
    struct iovec iov;
    uint8_t *record;
};

struct layer {
    struct loop *loop;
    uint64_t number;
    unsigned refs;
    unsigned busy; /* what must end before the file is closed */
    enum layer_state state;
    char *path;
    const struct layer_backend *backend;
    struct layer_file *file;
    struct layer_header header;
    unsigned header_slot; /* that was used at open; growing writes the other one first */
    struct layer_map map;
    struct layer_sharing sharing;
    struct layer_log log;
    struct space *space;
    uint64_t used_bytes;     /* our part of the space, besides what changes under way have taken */
    unsigned n_changing;     /* changes of data under way */
    uint64_t n_changes;      /* what may make another number of used_bytes */
    uint64_t log_written[2]; /* of each half: what occupies space */
    struct layer_stats stats;
    bool damage_told;
    struct loop_task failed_task;
    bool failed_posted;

    struct list loads;
    struct list load_waits;

    /* Changes that are not in the log yet. */
    bool unsynced; /* data or holes */
    struct layer_entry *pending;
    size_t n_pending;
    size_t pending_room;
    struct list flush_waits;
    struct loop_task commit_task;
    bool commit_posted;
    struct layer_commit commit;
    uint32_t commit_dirty;   /* dirty pages when the commit began: all in the log when it ends */
    uint32_t replayed_dirty; /* the same after the first use */
    struct layer_checkpoint *checkpoint;
    int failed;

    bool closing;
    bool close_flushed;
    int close_status;
    layer_done_fn close_fn;
    void *close_arg;
    struct layer_wait close_wait;
};

void layer_waits_call(struct list *waits, int status);
void layer_try_close(struct layer *layer);
void layer_log_add(struct layer *layer, uint64_t first, uint64_t count, enum granule_state state);
void layer_commit_if_much(struct layer *layer);

#endif
