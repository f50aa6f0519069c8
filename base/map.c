// SPDX-License-Identifier: Apache-2.0
#include "base/map.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

enum { MAP_FIRST_BUCKETS = 16 };

static uint64_t hash_key[2];
static pthread_once_t hash_key_once = PTHREAD_ONCE_INIT;

static void hash_key_make(void)
{
    random_bytes(hash_key, sizeof(hash_key));
}

static uint64_t rotate_left(uint64_t x, unsigned bits)
{
    return (x << bits) | (x >> (64 - bits));
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate_left(v[1], 13) ^ v[0];
    v[0] = rotate_left(v[0], 32);
    v[2] += v[3];
    v[3] = rotate_left(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate_left(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate_left(v[1], 17) ^ v[2];
    v[2] = rotate_left(v[2], 32);
}

/* SipHash-1-3: a client that does not know the key cannot choose colliding texts. */
static uint64_t hash_text(const char *text)
{
    pthread_once(&hash_key_once, hash_key_make);
    size_t len = strlen(text);
    uint64_t v[4] = {
        hash_key[0] ^ 0x736f6d6570736575u,
        hash_key[1] ^ 0x646f72616e646f6du,
        hash_key[0] ^ 0x6c7967656e657261u,
        hash_key[1] ^ 0x7465646279746573u,
    };
    size_t left = len;
    for (; left >= 8; text += 8, left -= 8) {
        uint64_t word;
        memcpy(&word, text, sizeof(word));
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    uint64_t last = 0;
    memcpy(&last, text, left);
    last |= (uint64_t)len << 56;
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void map_init(struct map *map)
{
    *map = (struct map){0};
    list_init(&map->order);
}

void map_fini(struct map *map)
{
    list_for_each_safe(link, following, &map->order)
    {
        free(list_entry(link, struct map_entry, order));
    }
    free(map->buckets);
    map_init(map);
}

static struct map_entry **bucket_of(const struct map *map, uint64_t hash)
{
    return &map->buckets[hash & (map->n_buckets - 1)];
}

/* The place of the entry in its chain, or of the NULL at the end of it. */
static struct map_entry **find(const struct map *map, const char *key, uint64_t hash)
{
    struct map_entry **at = bucket_of(map, hash);
    while (*at && ((*at)->hash != hash || strcmp((*at)->key, key) != 0)) {
        at = &(*at)->chain;
    }
    return at;
}

static int grow(struct map *map)
{
    size_t n_buckets = map->n_buckets ? map->n_buckets * 2 : MAP_FIRST_BUCKETS;
    struct map_entry **buckets = calloc(n_buckets, sizeof(struct map_entry *));
    if (!buckets) {
        return -ENOMEM;
    }
    free(map->buckets);
    map->buckets = buckets;
    map->n_buckets = n_buckets;
    list_for_each(link, &map->order)
    {
        struct map_entry *entry = list_entry(link, struct map_entry, order);
        struct map_entry **bucket = bucket_of(map, entry->hash);
        entry->chain = *bucket;
        *bucket = entry;
    }
    return 0;
}

int map_put(struct map *map, const char *key, void *value)
{
    uint64_t hash = hash_text(key);
    if (map->n_buckets > 0) {
        struct map_entry *old = *find(map, key, hash);
        if (old) {
            old->value = value;
            return 0;
        }
    }
    size_t key_bytes = strlen(key) + 1;
    struct map_entry *entry = malloc(sizeof(*entry) + key_bytes);
    if (!entry) {
        return -ENOMEM;
    }
    if (map->count == map->n_buckets) {
        int err = grow(map);
        if (err) {
            free(entry);
            return err;
        }
    }
    memcpy(entry->key, key, key_bytes);
    entry->hash = hash;
    entry->value = value;
    struct map_entry **bucket = bucket_of(map, hash);
    entry->chain = *bucket;
    *bucket = entry;
    list_push_back(&map->order, &entry->order);
    map->count++;
    return 0;
}

void *map_get(const struct map *map, const char *key)
{
    if (map->count == 0) {
        return NULL;
    }
    struct map_entry *entry = *find(map, key, hash_text(key));
    return entry ? entry->value : NULL;
}

void *map_remove(struct map *map, const char *key)
{
    if (map->count == 0) {
        return NULL;
    }
    struct map_entry **at = find(map, key, hash_text(key));
    struct map_entry *entry = *at;
    if (!entry) {
        return NULL;
    }
    void *value = entry->value;
    *at = entry->chain;
    list_remove(&entry->order);
    map->count--;
    free(entry);
    return value;
}

size_t map_count(const struct map *map)
{
    return map->count;
}

static struct map_entry *entry_at(const struct map *map, const struct list *link)
{
    return link == &map->order ? NULL : list_entry(link, struct map_entry, order);
}

struct map_entry *map_first(const struct map *map)
{
    return entry_at(map, map->order.next);
}

struct map_entry *map_next(const struct map *map, const struct map_entry *entry)
{
    return entry_at(map, entry->order.next);
}
