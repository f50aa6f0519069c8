// SPDX-License-Identifier: Apache-2.0
/*
 * What all requests share: the rules of access, the counters, the readers of the records, and the
 * gate to control.
 *
 * Thread:    any. Everything but the gate, the counters and the list of free readers is constant
 * after edge_init(). Ownership: embedded in the server; control is borrowed. Errors:    edge_init()
 * fills error.
 *
 * The gate: whoever uses control or the records stands between edge_enter() and edge_leave().
 * edge_close() lets nobody in any more and waits until all are out; then control may be freed. What
 * is suspended at that time has left the gate and is answered by control.
 */
#ifndef API_EDGE_H
#define API_EDGE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "api/access.h"
#include "api/event_hub.h"
#include "api/metrics.h"
#include "api/read_cache.h"
#include "service/call.h"
#include "service/control.h"
#include "service/readiness.h"

enum { EDGE_READERS_MAX = 16 };

/* A connection to the records, and what was rendered from it. */
struct reader {
    struct db *db;
    struct read_cache cache;
};

struct edge {
    struct access access;
    bool client_certificates; /* have to be there and to be good */
    unsigned waiting_max;     /* suspended calls, and as many waits for jobs */
    atomic_uint job_waits;    /* of the waiting: GET ?wait= */
    struct control *control;
    struct readiness readiness; /* control's */
    struct metrics metrics;
    struct event_hub *events;

    _Atomic bool closed;
    _Atomic unsigned inside;

    struct reader readers[EDGE_READERS_MAX];
    unsigned n_readers;
    pthread_mutex_t lock;                  /* protects what follows */
    struct reader *free[EDGE_READERS_MAX]; /* the one that was used last is taken first */
    unsigned n_free;
};

/* As many readers as there are threads that ask for one at a time. */
int edge_init(struct edge *edge, struct control *control, const char *data_dir, unsigned readers,
              struct error *error);
void edge_fini(struct edge *edge);

bool edge_enter(struct edge *edge);
void edge_leave(struct edge *edge);
void edge_close(struct edge *edge);

/* A reader for the time inside the gate. */
struct reader *edge_reader_take(struct edge *edge);
void edge_reader_give(struct edge *edge, struct reader *reader);

#endif
