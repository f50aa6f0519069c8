// SPDX-License-Identifier: Apache-2.0
/*
 * The changes that streams of events can still be sent, numbered, the oldest of them forgotten first.
 *
 * Thread:    its owner's.
 * Ownership: keeps a reference of each text.
 * Errors:    without memory changes are not merged; nothing else can fail after event_log_init().
 *
 *     first ………… rendered ………… end
 *        texts there  │  still to be rendered
 *
 * A change waits until its text has been made, in order. Meanwhile further changes of the same object need no place of their own,
 * unless somebody was told that what comes after this one is new (event_log_seal()).
 */
#ifndef API_EVENT_LOG_H
#define API_EVENT_LOG_H

#include "api/read_cache.h"
#include "service/changes.h"

struct event {
    struct object_change change;
    bool progress;         /* of live counters: told only when they look different */
    struct rendered *text; /* NULL: nothing to tell */
};

struct event_log {
    struct event *slots;
    size_t n_slots;
    size_t bytes_max;
    size_t bytes;
    uint64_t first; /* kept */
    uint64_t rendered;
    uint64_t end;
    uint64_t sealed;
    struct map pending; /* object -> number of its last change that is not rendered */
};

int event_log_init(struct event_log *log, size_t n_slots, size_t bytes_max); /* -ENOMEM */
void event_log_fini(struct event_log *log);

void event_log_add(struct event_log *log, const struct object_change *change, bool progress);
/* All that is kept is forgotten, and one number is passed over: whoever was at the end has missed something. */
void event_log_lose(struct event_log *log);
/* The last number; changes from now on have higher ones. */
uint64_t event_log_seal(struct event_log *log);
/* NULL when it is not kept. */
const struct event *event_log_at(const struct event_log *log, uint64_t number);
/* The next text in order; takes it (NULL: nothing to tell). A number that has been forgotten meanwhile is passed over. */
void event_log_render(struct event_log *log, uint64_t number, struct rendered *text);

/* Which changes a stream wants: of any of the classes and any of the paths. */
enum { EVENT_PATHS_MAX = 16 };
struct event_filter {
    uint32_t collections; /* one bit each; 0: all */
    struct {
        enum collection collection;
        char id[ID_SIZE]; /* "": all of the collection */
    } paths[EVENT_PATHS_MAX];
    unsigned n_paths; /* 0: all */
};
bool event_filter_wants(const struct event_filter *filter, const struct object_change *change);

#endif
