// SPDX-License-Identifier: Apache-2.0
/*
 * One thread per lookup. Both sides hold the struct: the loop until the callback or the cancel, the
 * thread until getaddrinfo() has returned. Under the lock, `wanted` says whether the loop still
 * waits; only then may the thread post, so a thread that comes back late never touches a loop that
 * has ended.
 *
 *     start ─▶ thread looks up ─▶ post ─▶ callback
 *                     │             └─ cancelled meanwhile: the task only frees
 *                     └─ given up (cancel, timeout): the thread frees
 */
#include "service/resolver.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/sockaddr.h"

struct resolve {
    struct loop *loop;
    struct loop_timer timer;
    resolve_fn fn;
    void *arg;
    bool ended; /* the loop's: fn was called or will not be */

    pthread_mutex_t lock;
    bool wanted;
    bool posted;
    unsigned holders;

    /* The thread's until it has posted. */
    struct loop_task task;
    char host[SOCKADDR_HOST_LEN];
    uint16_t port;
    int err;
    size_t n_addresses;
    struct sockaddr_storage addresses[RESOLVE_MAX];
};

static void resolve_let_go(struct resolve *resolve)
{
    pthread_mutex_lock(&resolve->lock);
    unsigned left = --resolve->holders;

    pthread_mutex_unlock(&resolve->lock);
    if (left == 0) {
        pthread_mutex_destroy(&resolve->lock);
        free(resolve);
    }
}

static void resolve_report(struct resolve *resolve)
{
    struct error error;

    resolve->ended = true;
    loop_timer_stop(&resolve->timer);
    switch (resolve->err) {
    case 0:
        resolve->fn(resolve->arg, resolve->addresses, (unsigned)resolve->n_addresses, NULL);
        return;
    case -ENOENT:
        error_set(&error, ERR_REMOTE_UNREACHABLE, "The name %.200s leads to no address.",
                  resolve->host);
        break;
    case -ENOMEM:
        error_set(&error, ERR_NO_MEMORY, "No thread to look the name %.200s up.", resolve->host);
        break;
    default:
        error_set(&error, ERR_REMOTE_UNREACHABLE,
                  "The name %.200s could not be looked up: the name service does not answer.",
                  resolve->host);
        break;
    }
    resolve->fn(resolve->arg, NULL, 0, &error);
}

static void resolve_arrived(void *arg)
{
    struct resolve *resolve = arg;

    if (!resolve->ended) {
        resolve_report(resolve);
    }
    resolve_let_go(resolve);
}

static void *resolve_thread(void *arg)
{
    struct resolve *resolve = arg;

    resolve->err = sockaddr_resolve(resolve->host, resolve->port, resolve->addresses, RESOLVE_MAX,
                                    &resolve->n_addresses);
    pthread_mutex_lock(&resolve->lock);
    if (resolve->wanted) {
        resolve->posted = true;
        loop_post(resolve->loop, &resolve->task);
    }
    pthread_mutex_unlock(&resolve->lock);
    resolve_let_go(resolve);
    return NULL;
}

/* The loop waits no longer. What was posted comes yet, and lets go then. */
static void resolve_give_up(struct resolve *resolve)
{
    resolve->ended = true;
    loop_timer_stop(&resolve->timer);
    pthread_mutex_lock(&resolve->lock);
    bool posted = resolve->posted;

    resolve->wanted = false;
    pthread_mutex_unlock(&resolve->lock);
    if (!posted) {
        resolve_let_go(resolve);
    }
}

static void resolve_expired(void *arg)
{
    struct resolve *resolve = arg;
    struct error error;

    error_set(&error, ERR_TIMEOUT, "Looking the name %.200s up took too long.", resolve->host);
    resolve_fn fn = resolve->fn;
    void *fn_arg = resolve->arg;

    resolve_give_up(resolve);
    fn(fn_arg, NULL, 0, &error);
}

static int thread_start(struct resolve *resolve)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all;
    sigset_t before;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&thread, &attr, resolve_thread, resolve);

    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return -r;
}

struct resolve *resolve_start(struct loop *loop, const char *host, uint16_t port,
                              uint32_t timeout_ms, resolve_fn fn, void *arg)
{
    struct resolve *resolve = calloc(1, sizeof(*resolve));

    CHECK(resolve != NULL && strlen(host) < sizeof(resolve->host));
    resolve->loop = loop;
    resolve->fn = fn;
    resolve->arg = arg;
    resolve->port = port;
    memcpy(resolve->host, host, strlen(host) + 1);
    resolve->wanted = true;
    resolve->holders = 2;
    resolve->task = (struct loop_task){.fn = resolve_arrived, .arg = resolve};
    pthread_mutex_init(&resolve->lock, NULL);
    loop_timer_init(&resolve->timer, loop, resolve_expired, resolve);
    loop_timer_start(&resolve->timer, timeout_ms * MS_NS);
    if (thread_start(resolve) < 0) {
        resolve->err = -ENOMEM;
        resolve->holders = 1;
        resolve->posted = true;
        loop_post(loop, &resolve->task);
    }
    return resolve;
}

void resolve_cancel(struct resolve *resolve)
{
    resolve_give_up(resolve);
}
