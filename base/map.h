// SPDX-License-Identifier: Apache-2.0
/*
 * A hash table from text to pointer.
 *
 * Thread:    the owner of the map.
 * Ownership: keys are copied; values are the user's.
 * Errors:    map_put() returns -ENOMEM; the rest cannot fail.
 *
 * Walking a map gives the entries in the order in which their keys were first put: simulations
 * repeat, lists are stable. Keys may come from clients, so the hash is keyed with a random number
 * of the process.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

struct map_entry {
    struct list order;
    struct map_entry *chain;
    uint64_t hash;
    void *value;
    char key[];
};

struct map {
    struct list order;
    struct map_entry **buckets;
    size_t n_buckets; /* power of two, or 0 */
    size_t count;
};

void map_init(struct map *map);
/* Forgets the entries; the values are not touched. */
void map_fini(struct map *map);

/* A value of the same key is replaced, keeping its place in the order. */
int map_put(struct map *map, const char *key, void *value);
void *map_get(const struct map *map, const char *key); /* NULL if there is none */
void *map_remove(struct map *map, const char *key);    /* its value, or NULL */
size_t map_count(const struct map *map);

/* for (struct map_entry *e = map_first(m); e; e = map_next(m, e)): removing an entry other than e
 * is allowed; to remove e itself, take map_next() before. */
struct map_entry *map_first(const struct map *map);
struct map_entry *map_next(const struct map *map, const struct map_entry *entry);

#endif
