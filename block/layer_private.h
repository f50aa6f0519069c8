// SPDX-License-Identifier: Apache-2.0
/*
 * What a stack and the parts of a layer need of a layer beyond layer.h.
 *
 * Thread:    the layer's loop.
 * Ownership: waits and operations are the caller's and lent until their function is called.
 * Errors:    0, -EIO, -ENOSPC.
 */
#ifndef BLOCK_LAYER_PRIVATE_H
#define BLOCK_LAYER_PRIVATE_H

#include "base/list.h"
#include "block/layer.h"
#include "block/layer_io.h"
#include "block/layer_map.h"

struct layer_wait {
    struct list link;
    layer_done_fn fn;
    void *arg;
};

/* True: all map pages of the granules are known. False: they are being read; wait->fn is called
 * later, and then one asks again. */
bool layer_want(struct layer *layer, uint64_t first, uint64_t last, struct layer_wait *wait);
uint64_t layer_granules(const struct layer *layer);
struct layer_map *layer_map_of(struct layer *layer);

/* Who has the layer, for stack*.c. */
struct layer_sharing {
    unsigned stacks;
    bool has_job; /* that changes it: the locks of two stacks know nothing of each other */
    const struct layer *overwritten_by; /* a merge down of that layer into this one is running */
};
struct layer_sharing *layer_sharing(struct layer *layer);

/* Raw, at offset of the volume: io->op, iov and done are the caller's. As layer_file_submit(). */
int layer_read(struct layer *layer, struct layer_io *io);

/* Space without a meaning: what a crash has left of writes whose entries were not in the log yet.
 * layer_find() looks for granules from first to last that occupy space, and layer_found() tells the
 * run that io has come back with; layer_reclaim() gives the space of granules back that are not
 * data and that nobody changes, and layer_account() counts it. As layer_file_submit(). */
int layer_find(struct layer *layer, struct layer_io *io, uint64_t first, uint64_t last);
bool layer_found(const struct layer_io *io, uint64_t *ret_first, uint64_t *ret_last);
int layer_reclaim(struct layer *layer, struct layer_io *io, uint64_t first, uint64_t last);
/* Asks the file what it occupies. layer_counted() believes it if nothing has changed since, and
 * tells whether. */
int layer_count(struct layer *layer, struct layer_io *io, uint64_t *ret_n_changes);
bool layer_counted(struct layer *layer, const struct layer_io *io, uint64_t n_changes);
/* The file occupies so much more or less now. */
void layer_account(struct layer *layer, int64_t bytes);

/* Changes granules first to last, which are known: writes whole granules or parts of those that
 * are data (state GRANULE_DATA; offset and io.iov, io.n_iov, io.len are set), or gives their space
 * back. Ranges under way may not overlap. */
struct layer_op {
    struct layer *layer;
    uint64_t first;
    uint64_t last;
    enum granule_state state;
    uint64_t offset;
    struct layer_io io;
    void (*done)(struct layer_op *op);
    void *arg;
    int status;
    int64_t allocated_bytes; /* afterwards: more than before */
    uint64_t taken_bytes;    /* of the pool's space, while under way */
};
/* Of granules that are known: what they would occupy if all were data, and do not yet. */
uint64_t layer_missing_bytes(struct layer *layer, uint64_t first, uint64_t last);
/* The status, done is not called; or -EINPROGRESS. -ENOSPC: also if the pool has no more space. */
int layer_change(struct layer *layer, struct layer_op *op);

void layer_flush_wait(struct layer *layer, struct layer_wait *wait);
/* Whether a flush would have anything to do. */
bool layer_is_dirty(const struct layer *layer);
int layer_grow(struct layer *layer, uint64_t size_bytes, layer_done_fn fn, void *arg);

#endif
