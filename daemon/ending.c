// SPDX-License-Identifier: Apache-2.0
#include "daemon/ending.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

static sem_t asked;

/* The last resort: a signal handler waits for nobody, not even for a log that nobody reads. */
static void hard_end(int signal)
{
    (void)signal;
    _exit(EXIT_HARD);
}

static void arm_last_resort(void)
{
    struct sigaction action = {.sa_handler = hard_end};
    struct itimerval due = {
        .it_value = {.tv_sec = ENDING_LAST_MS / 1000, .tv_usec = ENDING_LAST_MS % 1000 * 1000}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &due, NULL);
}

static void watch(const sigset_t *signals)
{
    struct timespec now;
    struct timespec due;
    clock_gettime(CLOCK_MONOTONIC, &due);
    due.tv_sec += ENDING_MS / 1000;
    due.tv_nsec += ENDING_MS % 1000 * 1000000L;
    for (;;) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        long long left_ns = (due.tv_sec - now.tv_sec) * 1000000000LL + (due.tv_nsec - now.tv_nsec);
        if (left_ns <= 0) {
            break;
        }
        struct timespec left = {.tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000};
        sigtimedwait(signals, NULL, &left);
    }
    log_error("smirrord the orderly end takes too long; ending now, copies go on from their "
              "checkpoints at the "
              "next start");
    _exit(EXIT_HARD);
}

static void *take_signals(void *arg)
{
    const sigset_t *signals = arg;
    for (;;) {
        int signal = sigwaitinfo(signals, NULL);
        if (signal == SIGHUP) {
            log_info("smirrord SIGHUP is ignored; a new configuration needs a restart");
        } else if (signal == SIGTERM || signal == SIGINT) {
            arm_last_resort();
            sem_post(&asked);
            log_info("smirrord %s: ending", signal == SIGTERM ? "SIGTERM" : "SIGINT");
            watch(signals);
        }
    }
    return NULL;
}

int ending_begin(void)
{
    static sigset_t signals;
    pthread_t thread;
    sem_init(&asked, 0, 0);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    int err = pthread_create(&thread, NULL, take_signals, &signals);
    if (err == 0) {
        pthread_detach(thread);
    }
    return -err;
}

void ending_wait(void)
{
    while (sem_wait(&asked) != 0 && errno == EINTR) {
    }
}
