// SPDX-License-Identifier: Apache-2.0
#include "block/layer_fds.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/check.h"
#include "block/layer.h"

enum {
    LOOP_MIN = 32, /* places that a loop gets whatever the others have */
    DEFAULT_MIN = 64,
};

struct layer_fds {
    struct layer_fds *next;
    struct loop *loop;
    unsigned refs;
    unsigned n_taken;
    unsigned n_waiting;
    unsigned n_leaving; /* evicted, and not given back yet */
    struct list waiting;
    struct list idle; /* longest unused first */
};

/* The lock is for the list of loops: taken when files are opened and closed, never for I/O. */
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static struct layer_fds *all;
static atomic_uint taken;
static atomic_uint limit;

/* Half of what the process may open is for connections; of the rest a quarter for everything
 * else. */
static unsigned limit_now(void)
{
    unsigned now = atomic_load(&limit);
    if (now == 0) {
        struct rlimit files = {.rlim_cur = 1024};
        getrlimit(RLIMIT_NOFILE, &files);
        uint64_t share = files.rlim_cur < (1 << 30) ? files.rlim_cur / 8 * 3 : 1 << 28;
        now = share > DEFAULT_MIN ? (unsigned)share : DEFAULT_MIN;
        atomic_store(&limit, now);
    }
    return now;
}

void layer_files_limit(unsigned max_open)
{
    atomic_store(&limit, max_open);
}

unsigned layer_files_open(void)
{
    return atomic_load(&taken);
}

struct layer_fds *layer_fds_get(struct loop *loop)
{
    pthread_mutex_lock(&all_lock);
    struct layer_fds *fds = all;
    while (fds && fds->loop != loop) {
        fds = fds->next;
    }
    if (!fds) {
        fds = calloc(1, sizeof(*fds));
        CHECK(fds != NULL);
        fds->loop = loop;
        list_init(&fds->waiting);
        list_init(&fds->idle);
        fds->next = all;
        all = fds;
    }
    fds->refs++;
    pthread_mutex_unlock(&all_lock);
    return fds;
}

void layer_fds_put(struct layer_fds *fds)
{
    pthread_mutex_lock(&all_lock);
    if (--fds->refs == 0) {
        CHECK(fds->n_taken == 0 && fds->n_waiting == 0 && list_empty(&fds->idle));
        struct layer_fds **at = &all;
        while (*at != fds) {
            at = &(*at)->next;
        }
        *at = fds->next;
        free(fds);
    }
    pthread_mutex_unlock(&all_lock);
}

static bool place(struct layer_fds *fds)
{
    unsigned max = limit_now();
    if (atomic_fetch_add(&taken, 1) < max || fds->n_taken < LOOP_MIN) {
        fds->n_taken++;
        return true;
    }
    atomic_fetch_sub(&taken, 1);
    return false;
}

static void pump(struct layer_fds *fds)
{
    while (fds->n_waiting > 0) {
        if (place(fds)) {
            struct list *link = list_pop_front(&fds->waiting);
            struct layer_fds_wait *wait = list_entry(link, struct layer_fds_wait, link);
            fds->n_waiting--;
            wait->fn(wait->arg);
        } else if (fds->n_leaving < fds->n_waiting && !list_empty(&fds->idle)) {
            struct list *link = list_pop_front(&fds->idle);
            fds->n_leaving++;
            struct layer_fds_idle *idle = list_entry(link, struct layer_fds_idle, link);
            idle->evict(idle);
        } else {
            return;
        }
    }
}

void layer_fds_take(struct layer_fds *fds, struct layer_fds_wait *wait)
{
    fds->n_waiting++;
    list_push_back(&fds->waiting, &wait->link);
    pump(fds);
}

void layer_fds_give(struct layer_fds *fds)
{
    CHECK(fds->n_taken > 0);
    fds->n_taken--;
    fds->n_leaving -= fds->n_leaving > 0;
    atomic_fetch_sub(&taken, 1);
    pump(fds);
}

void layer_fds_rest(struct layer_fds *fds, struct layer_fds_idle *idle)
{
    list_remove(&idle->link);
    list_push_back(&fds->idle, &idle->link);
    if (fds->n_waiting > 0) {
        pump(fds);
    }
}

void layer_fds_work(struct layer_fds_idle *idle)
{
    list_remove(&idle->link);
}
