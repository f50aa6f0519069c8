// SPDX-License-Identifier: Apache-2.0
#include "api/edge.h"

#include <time.h>

#include "base/check.h"

int edge_init(struct edge *edge, struct control *control, const char *data_dir, unsigned readers,
              struct error *error)
{
    CHECK(readers >= 1 && readers <= EDGE_READERS_MAX);
    edge->control = control;
    pthread_mutex_init(&edge->lock, NULL);
    for (unsigned i = 0; i < readers; i++) {
        struct reader *reader = &edge->readers[i];
        int err = store_reader_open(data_dir, &reader->db, error);
        if (err != 0) {
            edge_fini(edge);
            return err;
        }
        read_cache_init(&reader->cache, READ_CACHE_BYTES);
        edge->n_readers++;
        edge->free[edge->n_free++] = reader;
    }
    return 0;
}

void edge_fini(struct edge *edge)
{
    for (unsigned i = 0; i < edge->n_readers; i++) {
        read_cache_fini(&edge->readers[i].cache);
        db_close(edge->readers[i].db);
    }
    edge->n_readers = 0;
    edge->n_free = 0;
    access_fini(&edge->access);
    pthread_mutex_destroy(&edge->lock);
}

bool edge_enter(struct edge *edge)
{
    /* Count first, look then: edge_close() does it the other way round, so one of the two sees the
     * other. */
    atomic_fetch_add(&edge->inside, 1);
    if (atomic_load(&edge->closed)) {
        atomic_fetch_sub(&edge->inside, 1);
        return false;
    }
    return true;
}

void edge_leave(struct edge *edge)
{
    atomic_fetch_sub(&edge->inside, 1);
}

void edge_close(struct edge *edge)
{
    static const struct timespec pause = {.tv_nsec = 500000};
    atomic_store(&edge->closed, true);
    while (atomic_load(&edge->inside) > 0) {
        nanosleep(&pause, NULL);
    }
}

struct reader *edge_reader_take(struct edge *edge)
{
    pthread_mutex_lock(&edge->lock);
    CHECK(edge->n_free > 0);
    struct reader *reader = edge->free[--edge->n_free];
    pthread_mutex_unlock(&edge->lock);
    return reader;
}

void edge_reader_give(struct edge *edge, struct reader *reader)
{
    pthread_mutex_lock(&edge->lock);
    edge->free[edge->n_free++] = reader;
    pthread_mutex_unlock(&edge->lock);
}
