// SPDX-License-Identifier: Apache-2.0
/*
 * The hosted volumes that are open: their layers, stacks and fronts, on the loops where they live.
 *
 * Thread:    the owner's loop (control); done() comes back there. array_pool_usage() and
 *            array_volume_usage() from any thread.
 * Ownership: specs are copied.
 * Errors:    done() gets a struct error, or NULL when all went well.
 *
 * All volumes of a family (they may share layers) live on one loop; a family gets the loop with the fewest volumes when its
 * first layer is made or opened. Operations on a family are done one after the other, in the order
 * in which they were asked for. Ids are texts of at most ARRAY_ID_LEN.
 */
#ifndef HOSTING_ARRAY_H
#define HOSTING_ARRAY_H

#include "base/error.h"
#include "base/loop.h"
#include "block/blockdev.h"
#include "block/opener.h"
#include "block/stack.h"

enum { ARRAY_ID_LEN = 23 };

struct array;

struct array_events {
    /* The first change by anybody since the volume was opened, replaced, or watched again. */
    void (*volume_changed)(void *arg, const char *volume_id);
    /* The pool crossed its low-space threshold, downwards or back. */
    void (*pool_low_space)(void *arg, const char *pool_id, bool low);
};

struct array_spec {
    struct loop *owner;
    struct loop *const *loops;
    unsigned n_loops;
    uint64_t map_bytes; /* memory for maps, of each loop; 0: 48 MiB */
    /* Ids for layers made ahead (array_layer_name()); NULL: none are. */
    void (*new_layer_id)(char ret_id[ARRAY_ID_LEN + 1]);
    struct array_events events;
    void *events_arg;
};

int array_new(const struct array_spec *spec, struct array **ret_array);
/* When all that was asked for is done: flushes and closes everything, then calls done; array_free() may follow. Nothing may be
 * using the volumes. */
void array_close(struct array *array, loop_fn done, void *arg);
void array_free(struct array *array);

typedef void (*array_done_fn)(void *arg, const struct error *error);

/* ---- pools: directories with layer files ---- */

/* capacity_bytes 0: that of the file system. The directory is made when it is not there. */
int array_pool_add(struct array *array, const char *pool_id, const char *dir,
                   uint64_t capacity_bytes, struct error *error);
bool array_pool_is_there(struct array *array, const char *pool_id);
void array_pool_set_capacity(struct array *array, const char *pool_id, uint64_t capacity_bytes);
/* No layer of it may be in use. The directory is removed if it is empty; gone (or NULL) is called when that is done: perhaps at once, or when
 * the last operation on layers of it has ended. */
void array_pool_remove(struct array *array, const char *pool_id, loop_fn gone, void *arg);

struct array_usage {
    uint64_t file_system_bytes; /* used, and what the file system has left */
    uint64_t capacity_bytes;    /* of the pool, or that of the file system */
    uint64_t used_bytes;
    uint64_t available_bytes;
    uint64_t
        reclaimable_bytes; /* of what was there a moment ago: will be free when merging is done */
};
/* Any thread. False: no such pool. */
bool array_pool_usage(struct array *array, const char *pool_id, struct array_usage *ret_usage);
/* Removes files of layers that known() does not know, and gives those that were made ahead and are known their name, should a crash have
 * taken it; before any is open. Returns how many were removed. */
unsigned array_pool_sweep(struct array *array, const char *pool_id,
                          bool (*known)(void *arg, const char *layer_id), void *arg);

/* Any thread. Are there files of layers in the directory? */
bool array_dir_has_layers(const char *dir);

/*
 * Something of the owner's in the queue of a family: fn is called once all that was asked for before is done, and what comes
 * after waits for array_barrier_end(), which may be called at once or later, on the owner's loop.
 */
struct array_barrier;
typedef void (*array_barrier_fn)(void *arg, struct array_barrier *barrier);
void array_barrier(struct array *array, const char *family, array_barrier_fn fn, void *arg);
void array_barrier_end(struct array_barrier *barrier);

/* ---- layers ---- */

struct array_layer {
    char id[ARRAY_ID_LEN + 1];
    char pool_id[ARRAY_ID_LEN + 1];
    uint64_t size_bytes;
};

/*
 * The id that a new layer of the family should have ("": of a family of its own, which will have that id). Where several layers
 * of a size were made before, some are made ahead: their files are on the disk already, as {id}.spare, and the id is that of one of
 * them; array_layers_create() then has only to rename it. Whoever does not create it gives it back.
 */
void array_layer_name(struct array *array, const char *family, const char *pool_id,
                      uint64_t size_bytes, char ret_id[ARRAY_ID_LEN + 1]);
void array_layer_name_back(struct array *array, const char *layer_id);

/* Makes the files of new, empty layers and keeps them open. All or none. */
void array_layers_create(struct array *array, const char *family, const struct array_layer *layers,
                         size_t n, array_done_fn done, void *arg);
/* Closes and removes layers. Those that are not there are passed over, those that an open volume uses stay (conflict). done may
 * be NULL. */
void array_layers_remove(struct array *array, const char *family, const struct array_layer *layers,
                         size_t n, array_done_fn done, void *arg);

/* ---- volumes ---- */

/*
 * A device of the owner's between a volume and its content, through which all I/O of hosts and copies goes: a mirror, for example. What is below
 * it is lent, and stays the same device while layers are cut, merged, replaced or made larger.
 */
struct array_filter {
    /* On the volume's loop, once. 0, or negative errno: the volume is not opened, or stays as it was. */
    int (*make)(void *arg, struct loop *loop, struct blockdev *below, struct blockdev **ret_dev);
    /* On that loop, after below->info has changed (size): takes it over. NULL: such a volume does not grow. */
    void (*refresh)(void *arg, struct blockdev *dev);
    void *arg; /* the owner's until the device is closed */
};

struct array_volume_filter {
    char id[ARRAY_ID_LEN + 1];
    struct array_filter filter;
};

struct array_volume {
    char id[ARRAY_ID_LEN + 1];
    char family[ARRAY_ID_LEN + 1];
    uint64_t size_bytes; /* a top layer that is smaller is made larger */
    const struct array_layer
        *layers; /* oldest first; the last is written to. Those that are not open are opened */
    size_t n_layers;
    /* What is below the oldest, or NULL; taken over. It may be away: the volume opens all the same. */
    struct block_opener *bottom;
    uint64_t bottom_bytes; /* its size, in blocks of 512 */
    bool read_only;
    bool watch; /* volume_changed() wanted */
    /* For an open: no volume of hosts but a look at frozen layers, for copies. new_from not 0: at what is new in layers[new_from]
     * and above, with the content from before if old_content (block/stack.h). What is merged meanwhile it follows; its newest layer and
     * layers[new_from - 1] must stay. */
    bool frozen;
    size_t new_from;
    bool old_content;
    /* For an open: between the volume and its layers, the first the lowest. No request goes by them. (A replace leaves those that are
     * there, and does not tell them: their owner knows what else they have to do then.) */
    const struct array_volume_filter *filters;
    size_t n_filters;
};

/* volume_changed() is called at once when the top layer has anything in it and watch is set. */
void array_volume_open(struct array *array, const struct array_volume *volume, array_done_fn done,
                       void *arg);
/* Nobody may have the device any more (exports, copies). Its layers stay open while others use them. */
void array_volume_close(struct array *array, const char *volume_id, array_done_fn done, void *arg);
/* Onto other layers (array_volume.id names it); what is under way ends on the old ones. */
void array_volume_replace(struct array *array, const struct array_volume *volume,
                          array_done_fn done, void *arg);
void array_volume_grow(struct array *array, const char *volume_id, uint64_t size_bytes,
                       array_done_fn done, void *arg);
void array_volume_set_read_only(struct array *array, const char *volume_id, bool read_only);
/* volume_changed() at the next change, or not any more. */
void array_volume_watch(struct array *array, const char *volume_id, bool watch);

/* It is open, or will be (and nobody has asked for its end). */
bool array_volume_is_there(struct array *array, const char *volume_id);

/* The device that stays the same as long as the volume is open, and its loop; NULL when it is not
 * open. To be used on that loop only. */
struct blockdev *array_volume_device(struct array *array, const char *volume_id,
                                     struct loop **ret_loop);
/* The loop on which volumes of the family are, or will be when they are opened. */
struct loop *array_family_loop(struct array *array, const char *family);
/* For copies: opens a handle. The volume must stay open until the copy has ended. */
struct block_opener *array_volume_opener(struct array *array, const char *volume_id);

/*
 * For a mirror that writes to the volume: a handle beside the write protection of hosts and not watched. It goes through the volume's own
 * filters, so that mirrors may follow one another. The volume must stay open until it is closed.
 */
struct block_opener *array_leg_opener(struct array *array, const char *volume_id);

/* Above the filters that are there: requests under way end before it is, later ones go through it. A failed one was not made. */
void array_volume_filter_add(struct array *array, const char *volume_id, const char *filter_id,
                             const struct array_filter *filter, array_done_fn done, void *arg);
/* done: its device is closed, and requests go by. Waits for those under way in it, so it must not hold them for long. */
void array_volume_filter_remove(struct array *array, const char *volume_id, const char *filter_id,
                                array_done_fn done, void *arg);

struct array_volume_usage {
    uint64_t size_bytes;
    uint64_t used_bytes; /* of the layers that are its own: no other volume uses them */
    uint64_t shared_bytes;
    unsigned n_layers;
};
/* Any thread; as of a moment ago. False: not open. */
bool array_volume_usage(struct array *array, const char *volume_id,
                        struct array_volume_usage *ret_usage);

/* The new layer (made before) becomes the top; what was the top is frozen and flushed. done: with
 * how long writes waited. */
typedef void (*array_cut_fn)(void *arg, const struct error *error, uint64_t pause_ns);
void array_volume_cut(struct array *array, const char *volume_id, const struct array_layer *layer,
                      array_cut_fn done, void *arg);

/*
 * Several volumes, of any families, at one moment: no write is in one of the cuts that was issued after the end of a write which is not in
 * another one. A volume may be named more than once; its layers become tops one after the other.
 *
 * All are held at once, then all are pushed. decided: they are, and pause_ns after they were held the last write that waited went on; or error: one could not be held
 * within deadline_ms (timeout, which one), or had other trouble, and nothing was pushed, then done is not called. done: what is frozen is on
 * stable storage, or error. The families' operations go on after it.
 */
enum { ARRAY_GROUP_DEADLINE_MS = 500 };
struct array_group_member {
    char volume_id[ARRAY_ID_LEN + 1];
    char layer_id[ARRAY_ID_LEN + 1]; /* made before */
};
void array_group_cut(struct array *array, const struct array_group_member *members, size_t n,
                     unsigned deadline_ms, array_cut_fn decided, array_done_fn done, void *arg);

/* How much the volume has above that layer of its chain: what those layers occupy beyond their headers, 0: nothing was written. Zeros
 * without data show once they were flushed. Fails with no_such_object when the layer is not below it. */
typedef void (*array_changes_fn)(void *arg, const struct error *error, uint64_t bytes);
void array_volume_changes(struct array *array, const char *volume_id, const char *layer_id,
                          array_changes_fn done, void *arg);

/* ---- merging ---- */

/* Copies the smaller of the two neighbours into the other, in the background. The volume's stack must have lower right below upper.
 * done: which of the two is now superfluous (its content is in the other); in_use: upper is written to, so that only lower can be copied,
 * and lower is much larger: it is better to wait until upper is frozen. Stopped by the close of the volume or the array
 * (shutting_down); nothing is lost then. */
typedef void (*array_merge_fn)(void *arg, const struct error *error, const char *superfluous_id);
void array_merge(struct array *array, const char *volume_id, const char *lower_id,
                 const char *upper_id, array_merge_fn done, void *arg);
/* Gives back space in the files of the volume's layers (from the one at index upwards) that nothing points to, after a crash.
 * How it ends, or that the volume was busy (conflict), is no one's trouble: the space is found the next time. */
void array_scrub(struct array *array, const char *volume_id, array_done_fn done, void *arg);

/* After the shorter chain was committed: the layer leaves all stacks, then its file goes. */
void array_merge_finish(struct array *array, const char *family,
                        const struct array_layer *superfluous, array_done_fn done, void *arg);

/* ---- filling from what is below ---- */

/*
 * For a copy of what is below the volume's oldest layer: opens the fill device of its stack (block/stack.h), of size_bytes. On the
 * volume's loop only. The volume must keep its oldest layer until the copy has ended.
 */
struct block_opener *array_fill_opener(struct array *array, const char *volume_id,
                                       uint64_t size_bytes);
/*
 * For who writes to the LUN below the volume (a mirror onto it), on the volume's loop: opens inner, and what is overwritten through it is first kept
 * in the volume's oldest layer (block/keep_dev.h), so that all that begin with it go on reading what was there. Plain inner when nothing is below
 * the volume any more. Takes inner.
 */
struct block_opener *array_keep_opener(struct array *array, const char *volume_id,
                                       struct block_opener *inner);
/* Once all of it is there, and that was committed: no volume that begins with the layer has anything below any more. */
void array_bottom_drop(struct array *array, const char *family, const char *layer_id,
                       array_done_fn done, void *arg);

#endif
