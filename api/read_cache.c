// SPDX-License-Identifier: Apache-2.0
#include "api/read_cache.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* Answers */

struct rendered *rendered_new(struct strbuf *body, const char *link)
{
    size_t link_size = strlen(link) + 1;
    size_t len = body->len;
    struct rendered *rendered = malloc(sizeof(*rendered) + link_size);
    char *text = rendered != NULL && strbuf_error(body) == 0 ? strbuf_steal(body) : NULL;
    if (text == NULL) {
        free(rendered);
        return NULL;
    }
    char *fitting = realloc(text, len + 1);
    rendered->body = fitting != NULL ? fitting : text;
    rendered->len = len;
    atomic_init(&rendered->users, 1);
    memcpy(rendered->link, link, link_size);
    return rendered;
}

struct rendered *rendered_ref(struct rendered *rendered)
{
    atomic_fetch_add_explicit(&rendered->users, 1, memory_order_relaxed);
    return rendered;
}

void rendered_unref(void *arg)
{
    struct rendered *rendered = arg;
    if (rendered != NULL &&
        atomic_fetch_sub_explicit(&rendered->users, 1, memory_order_acq_rel) == 1) {
        free(rendered->body);
        free(rendered);
    }
}

/* The cache */

struct kept {
    struct list recent;
    struct rendered *rendered;
    size_t bytes;
    char key[];
};

void read_cache_init(struct read_cache *cache, size_t bytes_max)
{
    *cache = (struct read_cache){.bytes_max = bytes_max};
    map_init(&cache->answers);
    list_init(&cache->recent);
}

/* Out of the list; the caller sees to the map. */
static void kept_free(struct read_cache *cache, struct kept *kept)
{
    list_remove(&kept->recent);
    cache->bytes -= kept->bytes;
    rendered_unref(kept->rendered);
    free(kept);
}

static void empty(struct read_cache *cache)
{
    list_for_each_safe(link, following, &cache->recent)
    {
        kept_free(cache, list_entry(link, struct kept, recent));
    }
    map_fini(&cache->answers);
    CHECK(cache->bytes == 0);
}

void read_cache_fini(struct read_cache *cache)
{
    empty(cache);
}

static void drop(struct read_cache *cache, struct kept *kept)
{
    map_remove(&cache->answers, kept->key);
    kept_free(cache, kept);
}

static void be_at(struct read_cache *cache, uint64_t version)
{
    if (cache->version != version) {
        empty(cache);
        cache->version = version;
    }
}

struct rendered *read_cache_get(struct read_cache *cache, uint64_t version, const char *key)
{
    be_at(cache, version);
    struct kept *kept = map_get(&cache->answers, key);
    if (kept == NULL) {
        return NULL;
    }
    list_remove(&kept->recent);
    list_push_back(&cache->recent, &kept->recent);
    return rendered_ref(kept->rendered);
}

/* Both copies of the key and what the map needs for it are counted as well. */
static size_t cost(const char *key, const struct rendered *rendered)
{
    return rendered->len + strlen(rendered->link) + sizeof(*rendered) + sizeof(struct kept) +
           2 * (strlen(key) + 1) + sizeof(struct map_entry) + 2 * sizeof(void *);
}

void read_cache_put(struct read_cache *cache, uint64_t version, const char *key,
                    struct rendered *rendered)
{
    size_t bytes = cost(key, rendered);
    size_t key_size = strlen(key) + 1;
    be_at(cache, version);
    struct kept *old = map_get(&cache->answers, key);
    if (old != NULL) {
        drop(cache, old);
    }
    if (bytes > cache->bytes_max / 4) {
        return;
    }
    while (cache->bytes + bytes > cache->bytes_max) {
        drop(cache, list_entry(list_first(&cache->recent), struct kept, recent));
    }
    struct kept *kept = malloc(sizeof(*kept) + key_size);
    if (kept == NULL) {
        return;
    }
    memcpy(kept->key, key, key_size);
    if (map_put(&cache->answers, kept->key, kept) < 0) {
        free(kept);
        return;
    }
    kept->rendered = rendered_ref(rendered);
    kept->bytes = bytes;
    cache->bytes += bytes;
    list_push_back(&cache->recent, &kept->recent);
}
