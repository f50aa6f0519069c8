// SPDX-License-Identifier: Apache-2.0
/*
 * One layer of a hosted volume: a sparse file of 4 KiB granules, each absent (look below), data or
 * zero (docs/layer-format.md has its bytes, docs/design/layers.md its reasons).
 *
 * Thread:    one loop. Stacks that share a layer live on that loop: a file is open once.
 * Ownership: references are counted; layer_new() and layer_open() give the first. The cache must
 *            outlive its layers.
 * Errors:    struct error for create and open (no_such_object, in_use, no_space,
 *            invalid_parameter for a damaged or foreign file, internal). Later: 0 or -EIO, -ENOSPC.
 *            After a failed sync a layer reports -EIO to every later flush: what is on the disk is
 *            not known any more, and a second sync would not tell.
 *
 * Crash rule: a map entry reaches the disk after the data it points to.
 */
#ifndef BLOCK_LAYER_H
#define BLOCK_LAYER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "block/space.h"

enum { LAYER_GRANULE = 4096, LAYER_ID_BYTES = 16 };

struct layer;

/* Memory for maps, shared by the layers of one loop. limit_bytes bounds what is kept of maps that
 * could be read again from their files; maps not yet written there stay. 0: 48 MiB. */
struct layer_cache;
int layer_cache_new(uint64_t limit_bytes, struct layer_cache **ret_cache);
void layer_cache_free(struct layer_cache *cache);
uint64_t layer_cache_bytes(const struct layer_cache *cache);

/* Files of layers are open while they are used; idle ones are closed, the longest unused first, when
 * there would be more than this in the process, and opened again by themselves. Their lock goes
 * meanwhile: who owns the directory keeps others out of it. 0: three eighths of RLIMIT_NOFILE as it
 * is at the first use. Before the first layer. */
void layer_files_limit(unsigned max_open);
unsigned layer_files_open(void);

struct layer_backend; /* where files come from (block/layer_io.h); NULL: the file system */

struct layer_spec {
    const char *path;
    struct layer_cache *cache;
    const struct layer_backend *backend;
    struct space *space; /* of the pool that the file is in, or NULL: not counted, not limited */
    /* For layer_create(); layer_open() checks them if they are not zero. */
    uint64_t size_bytes; /* multiple of 512, at most LAYER_MAX_BYTES */
    uint8_t id[LAYER_ID_BYTES];
    uint32_t log_half_bytes; /* 0: 1 MiB; multiple of 4 KiB, 8 KiB to 4 MiB */
};
/* 16 TiB - 16 GiB - 4 KiB: then the file is the largest that ext4 takes. */
#define LAYER_MAX_BYTES ((UINT64_C(16) << 40) - (UINT64_C(16) << 30) - LAYER_GRANULE)

/* layer is NULL and *error tells why, or error is NULL. */
typedef void (*layer_open_fn)(void *arg, struct layer *layer, const struct error *error);
typedef void (*layer_done_fn)(void *arg, int status);

/* fn is called from the loop later. -ENOMEM, or -EINVAL from layer_create() for sizes that cannot
 * be: it will not be. A created file is on the disk, with
 * its name, when fn is called. An opened one reads its header; its map comes with the first use. */
int layer_create(struct loop *loop, const struct layer_spec *spec, layer_open_fn fn, void *arg);
int layer_open(struct loop *loop, const struct layer_spec *spec, layer_open_fn fn, void *arg);

void layer_ref(struct layer *layer);
/* Gives a reference back. fn (or NULL) is called later: for the last reference, when everything
 * has been flushed and the file is closed; status is that of the flush. */
void layer_unref(struct layer *layer, layer_done_fn fn, void *arg);

const char *layer_path(const struct layer *layer);
const uint8_t *layer_id(const struct layer *layer);
uint64_t layer_size_bytes(const struct layer *layer);
/* What the file occupies, metadata too: told by the file system at open, counted since. Cheap. */
uint64_t layer_used_bytes(const struct layer *layer);
/* Nothing was ever written to it, as far as its file tells: a new one, or one that a restart found
 * as it was made. */
bool layer_is_blank(const struct layer *layer);
/* For files that were made ahead: renamed to path, which is as long as the old one, and counted from now on in space. No I/O is
 * under way, and nobody opens it by the old name any more. */
void layer_adopt(struct layer *layer, const char *path, struct space *space);
/* Of this layer only, as long as the process lives; never 0. */
uint64_t layer_number(const struct layer *layer);
/* How many open stacks have it. */
unsigned layer_stacks(const struct layer *layer);

struct layer_stats {
    uint64_t commits;     /* group commits that wrote map entries */
    uint64_t syncs;       /* of the file */
    uint64_t checkpoints; /* maps written in place, so that the log could be used again */
    uint64_t page_loads;
    uint64_t replayed; /* log entries found at the first use */
};
const struct layer_stats *layer_stats(const struct layer *layer);

/* Everything completed before is on stable storage when fn is called. Flushes that come while one
 * is under way share the next one. */
void layer_flush(struct layer *layer, layer_done_fn fn, void *arg);

#endif
