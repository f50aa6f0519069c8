// SPDX-License-Identifier: Apache-2.0
/*
 * A hosted volume: layers, newest on top, as one block device; snapshots, clones, and background
 * merging.
 *
 * Thread:    the loop of its layers.
 * Ownership: a stack holds a reference to each of its layers until they are removed or it is
 *            closed. A bottom device is lent until stack_drop_bottom() or close.
 * Errors:    requests as block/blockdev.h says, -ENOSPC also when the capacity callback refuses.
 *            Control functions: 0 or negative errno.
 *
 * Snapshot:  layer_create(), record the new list of layers, stack_snapshot(). Recording first
 *            means that no acknowledged write can be in a layer that a restart does not know; a
 *            crash in between leaves an empty layer on top, which does no harm.
 * Clone:     layer_create(), then stack_open() with the frozen layers and the new one on top.
 * Delete:    stack_job_start() (merge), record the shorter list, stack_remove(), unlink the file.
 * Space:     layers that were opened with a struct space (block/space.h) count in it what they
 *            occupy and get -ENOSPC for data beyond its capacity, on whatever loop they live.
 * Changes:   stack_open() with new_from over frozen layers: what is new since a cut, to be copied from.
 * Group:     several stacks at one moment: block/stack_gate.h.
 * Sharing:   a layer that some stack has without the layer that is merged down into it would
 *            change under that stack. Open stacks are counted, and such a merge is refused; so is
 *            opening such a stack while the merge runs. What is not open only the caller knows
 *            (target_shared). A layer under two different layers may be merged up (copied).
 */
#ifndef BLOCK_STACK_H
#define BLOCK_STACK_H

#include "block/blockdev.h"
#include "block/layer.h"

enum { STACK_MAX_LAYERS = 254 };

/* reserve: bytes more are about to be occupied; 0, or -ENOSPC. release: bytes were given back.
 * Called on the loop. Either may be NULL. */
struct stack_capacity {
    int (*reserve)(void *arg, uint64_t bytes);
    void (*release)(void *arg, uint64_t bytes);
    void *arg;
};

struct stack_spec {
    struct layer *const *layers; /* oldest first, at least one; the last is written to */
    unsigned n_layers;
    struct blockdev *bottom; /* below the oldest layer, not larger than the top; or NULL: zeros */
    struct stack_capacity capacity;
    uint32_t max_inflight; /* 0: 64 */
    bool read_only;
    /* Not 0 (read_only only): layers[new_from] and those above are what is new. A map calls
     * BLOCK_EXTENT_KEPT what none of them has, and info.changes is set. Layers that are removed below
     * move the border; the one right below it may not be merged up meanwhile. */
    unsigned new_from;
    bool old_content; /* reads give what was before: that of the layers below new_from */
};

/* The size is that of the top layer. -EINVAL for layers that do not fit together; -EBUSY while one
 * is being overwritten by a layer that is not above it here. */
int stack_open(struct loop *loop, const struct stack_spec *spec, struct blockdev **ret_dev);

/* The barrier. hold: writes that come from now on wait; fn is called when those under way are
 * done. push (only while held, or in a gate that is cut): layer becomes the top. release: the waiting writes go on; returns
 * how long they were held. A second hold while held fails with -EBUSY. */
typedef void (*stack_held_fn)(void *arg);
int stack_hold(struct blockdev *dev, stack_held_fn fn, void *arg);
int stack_push(struct blockdev *dev, struct layer *layer);
uint64_t stack_release(struct blockdev *dev);

/* The whole: flush, hold, push, release, and flush of what is now frozen; then fn. The layer must
 * be new and of the volume's size. Writes go on during both flushes. */
typedef void (*stack_snapshot_fn)(void *arg, int status, uint64_t pause_ns);
int stack_snapshot(struct blockdev *dev, struct layer *layer, stack_snapshot_fn fn, void *arg);

/* The top layer and the device become larger; what is new reads as zeros. */
int stack_grow(struct blockdev *dev, uint64_t size_bytes, layer_done_fn fn, void *arg);

unsigned stack_layers(const struct blockdev *dev);
struct layer *stack_layer(const struct blockdev *dev, unsigned index); /* 0: the oldest */

/* Background work. Each may be stopped or cut short by a crash at any point and started again:
 * what the volume and every snapshot of it reads never changes. */
enum stack_job_kind {
    STACK_MERGE_UP,   /* layers[index] into layers[index + 1], where that is absent */
    STACK_MERGE_DOWN, /* layers[index] over layers[index - 1], which nobody may read without it */
    /* Gives the space back that a crash has left in the file of layers[index] without a meaning.
     * Worth it after an unclean end, for tops and for targets of jobs; costs a look per extent of
     * the file, and next to nothing for an empty one. */
    STACK_SCRUB,
};
const char *stack_job_kind_name(enum stack_job_kind kind);

struct stack_job_spec {
    enum stack_job_kind kind;
    unsigned index;
    uint32_t max_inflight; /* pieces of 64 KiB at a time; 0: 4 */
    /* STACK_MERGE_DOWN: a volume or snapshot that is not open has layers[index - 1] without
     * layers[index]. Refused with -EPERM, as is one that is open. */
    bool target_shared;
    /* When all is copied and flushed, or the job was stopped (-ECANCELED) or failed. The job is
     * gone then. */
    layer_done_fn done;
    void *arg;
};
struct stack_job;
/* One job per stack, and one that changes a layer; -EBUSY otherwise. -EINVAL for layers that cannot be. */
int stack_job_start(struct blockdev *dev, const struct stack_job_spec *spec,
                    struct stack_job **ret_job);
void stack_job_stop(struct stack_job *job);
/* copied: what a scrub has given back. */
void stack_job_progress(const struct stack_job *job, uint64_t *ret_done_bytes,
                        uint64_t *ret_total_bytes, uint64_t *ret_copied_bytes);

/* After its merge; the stack's reference goes. Not the top, except that the oldest may not be
 * removed while it is the only one. fn as in layer_unref(). */
int stack_remove(struct blockdev *dev, unsigned index, layer_done_fn fn, void *arg);

/*
 * The fill device: through it the oldest layer gets what is below it. A write or zeroing changes
 * only granules that are still absent in that layer (under the same locks as all changes of the
 * stack), a flush flushes that layer, a map calls what is there BLOCK_EXTENT_KEPT; reads are refused.
 * So whatever is copied from the bottom to it, in whatever order and however often, leaves every
 * read of every stack with that layer as it was.
 *
 * Requests begin at a granule and end at one or at size_bytes (that of the bottom, in blocks of 512).
 * The caller closes it. When the stack is closed before, requests end with -ESTALE. Jobs on other
 * layers may run meanwhile. -EBUSY when one has the oldest layer, or another stack has a fill device for it (one stack may have
 * several); -EINVAL without a bottom.
 *
 * Who fills a granule before he overwrites it in the bottom (block/keep_dev.h) changes no read either: what was filled while it was read
 * below is read again.
 */
int stack_fill_open(struct blockdev *dev, uint64_t size_bytes, struct blockdev **ret_dev);
/* When all of it was filled and flushed. fn is called when no read is in the bottom any more. Fill devices that are open say from then
 * on that all is kept, and the oldest layer is one like others. */
int stack_drop_bottom(struct blockdev *dev, layer_done_fn fn, void *arg);

struct stack_stats {
    uint64_t resolve_hits; /* reads whose layer was known, and those that had to look */
    uint64_t resolve_misses;
    uint64_t fills; /* partial granules completed from below */
    uint64_t lock_waits;
    uint64_t copied_bytes;    /* by jobs, and filled */
    uint64_t reclaimed_bytes; /* by scrubs */
};
const struct stack_stats *stack_stats(const struct blockdev *dev);
/* The memory that finds layers fast. */
uint64_t stack_memory_bytes(const struct blockdev *dev);

#endif
