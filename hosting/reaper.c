// SPDX-License-Identifier: Apache-2.0
/*
 * A file without a name lives as long as somebody has it open: the thread gets the last descriptor and closes it. One that ends before that
 * leaves it to the kernel.
 */
#include "hosting/reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <unistd.h>

enum { MOST = 64 }; /* descriptors; more are closed by who has them */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool started;
    int fds[MOST];
    unsigned first;
    unsigned n;
} reaper = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void *reap(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&reaper.lock);
    for (;;) {
        while (reaper.n == 0) {
            pthread_cond_wait(&reaper.wake, &reaper.lock);
        }
        int fd = reaper.fds[reaper.first];
        reaper.first = (reaper.first + 1) % MOST;
        reaper.n--;
        pthread_mutex_unlock(&reaper.lock);
        close(fd);
        pthread_mutex_lock(&reaper.lock);
    }
    return NULL;
}

static bool start(void)
{
    pthread_t thread;
    sigset_t all;
    sigset_t before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&thread, NULL, reap, NULL);

    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err == 0) {
        pthread_setname_np(thread, "reaper");
        pthread_detach(thread);
    }
    return err == 0;
}

static void hand_over(int fd)
{
    bool taken = false;

    pthread_mutex_lock(&reaper.lock);
    reaper.started = reaper.started || start();
    if (reaper.started && reaper.n < MOST) {
        reaper.fds[(reaper.first + reaper.n++) % MOST] = fd;
        taken = true;
        pthread_cond_signal(&reaper.wake);
    }
    pthread_mutex_unlock(&reaper.lock);
    if (!taken) {
        close(fd);
    }
}

int reaper_unlink(const char *path)
{
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int r = unlink(path) == 0 ? 0 : -errno;

    if (fd >= 0) {
        hand_over(fd);
    }
    return r;
}
