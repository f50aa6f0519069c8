// SPDX-License-Identifier: Apache-2.0
/*
 * Rendered answers of GETs, kept as long as the records stay as they are.
 *
 * Thread:    a cache belongs to one reader of the records, and so to one thread at a time. What it
 *            holds may be sent by any thread: struct rendered is constant and counts its users.
 * Ownership: read_cache_get() and rendered_new() give a reference, read_cache_put() takes its own.
 * Errors:    NULL: not there, or no memory; a cache that has no memory keeps nothing.
 *
 * An answer belongs to a version of the records (db_version()) that its reader has seen in the same
 * transaction in which it was read. Another version empties the cache, so nothing stale is found.
 * The least recently used answers go first when there is no room.
 */
#ifndef API_READ_CACHE_H
#define API_READ_CACHE_H

#include <stdint.h>

#include "base/map.h"
#include "base/strbuf.h"

enum { READ_CACHE_BYTES = 8 << 20 };

struct rendered {
    _Atomic unsigned users;
    size_t len;
    char *body;
    char link[]; /* of the Link header, or "" */
};

/* Takes the memory of body; NULL, also when body has failed, leaves it to the caller. */
struct rendered *rendered_new(struct strbuf *body, const char *link);
struct rendered *rendered_ref(struct rendered *rendered);
void rendered_unref(void *rendered); /* may be NULL */

struct read_cache {
    size_t bytes_max;
    size_t bytes;
    uint64_t version;
    struct map answers;
    struct list recent; /* the least recently used first */
};

void read_cache_init(struct read_cache *cache, size_t bytes_max);
void read_cache_fini(struct read_cache *cache);

struct rendered *read_cache_get(struct read_cache *cache, uint64_t version, const char *key);
/* An answer that would take more than a quarter of the room is not kept. */
void read_cache_put(struct read_cache *cache, uint64_t version, const char *key,
                    struct rendered *rendered);

#endif
