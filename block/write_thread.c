// SPDX-License-Identifier: Apache-2.0
/*
 *     submit ─▶ gathered ──end of the round──▶ todo ─▶ thread ─▶ done ──message──▶ done()
 *
 * The thread tells the loop when it has nothing left, or when something is done for BATCH_NS.
 */
#include "block/write_thread.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"

enum { BATCH_NS = 100000 };

struct work_list {
    struct loop_work *first;
    struct loop_work *last; /* linked by private_data */
};

struct write_thread {
    /* Of all loops, under threads_lock. */
    struct write_thread *next;

    /* The loop's. */
    struct loop *loop;
    dev_t device;
    unsigned refs;
    pthread_t thread;
    struct work_list gathered;
    struct loop_task hand_over;
    bool hand_over_posted;
    struct loop_task take_back;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct work_list todo;
    struct work_list done;
    bool sleeping;
    bool ending;
    bool take_back_posted;
};

/* Taken when files are opened and closed, never for I/O. */
static pthread_mutex_t threads_lock = PTHREAD_MUTEX_INITIALIZER;
static struct write_thread *threads;

static void list_append(struct work_list *list, struct work_list *more)
{
    if (!more->first) {
        return;
    }
    if (list->first) {
        list->last->private_data = more->first;
    } else {
        list->first = more->first;
    }
    list->last = more->last;
    *more = (struct work_list){0};
}

static struct work_list list_take(struct work_list *list)
{
    struct work_list all = *list;
    *list = (struct work_list){0};
    return all;
}

static void list_add(struct work_list *list, struct loop_work *work)
{
    struct work_list one = {.first = work, .last = work};
    work->private_data = NULL;
    list_append(list, &one);
}

static struct loop_work *list_pop(struct work_list *list)
{
    struct loop_work *work = list->first;
    list->first = work->private_data;
    return work;
}

/* ---- the thread ---- */

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * SEC_NS + (uint64_t)ts.tv_nsec;
}

static void give_back(struct write_thread *thread, struct work_list *done)
{
    pthread_mutex_lock(&thread->lock);
    list_append(&thread->done, done);
    bool post = !thread->take_back_posted;
    thread->take_back_posted = true;
    pthread_mutex_unlock(&thread->lock);
    if (post) {
        loop_post(thread->loop, &thread->take_back);
    }
}

static void run_all(struct write_thread *thread, struct work_list todo)
{
    struct work_list done = {0};
    uint64_t since = now_ns();
    while (todo.first) {
        struct loop_work *work = list_pop(&todo);
        work->run(work->arg);
        list_add(&done, work);
        uint64_t now = now_ns();
        if (!todo.first || now - since >= BATCH_NS) {
            give_back(thread, &done);
            since = now;
        }
    }
}

static void *thread_main(void *arg)
{
    struct write_thread *thread = arg;
    pthread_mutex_lock(&thread->lock);
    for (;;) {
        while (!thread->todo.first && !thread->ending) {
            thread->sleeping = true;
            pthread_cond_wait(&thread->wake, &thread->lock);
            thread->sleeping = false;
        }
        if (!thread->todo.first) {
            break;
        }
        struct work_list todo = list_take(&thread->todo);
        pthread_mutex_unlock(&thread->lock);
        run_all(thread, todo);
        pthread_mutex_lock(&thread->lock);
    }
    pthread_mutex_unlock(&thread->lock);
    return NULL;
}

/* ---- the loop ---- */

static void hand_over(void *arg)
{
    struct write_thread *thread = arg;
    thread->hand_over_posted = false;
    pthread_mutex_lock(&thread->lock);
    list_append(&thread->todo, &thread->gathered);
    bool wake = thread->sleeping;
    pthread_mutex_unlock(&thread->lock);
    if (wake) {
        pthread_cond_signal(&thread->wake);
    }
}

static void take_back(void *arg)
{
    struct write_thread *thread = arg;
    pthread_mutex_lock(&thread->lock);
    struct work_list done = list_take(&thread->done);
    thread->take_back_posted = false;
    pthread_mutex_unlock(&thread->lock);
    thread->refs++; /* a done() may close the last file */
    while (done.first) {
        struct loop_work *work = list_pop(&done);
        work->done(work->arg);
    }
    write_thread_put(thread);
}

void write_thread_submit(struct write_thread *thread, struct loop_work *work)
{
    CHECK(loop_is_current(thread->loop));
    list_add(&thread->gathered, work);
    if (!thread->hand_over_posted) {
        thread->hand_over_posted = true;
        loop_defer(thread->loop, &thread->hand_over);
    }
}

static bool thread_start(struct write_thread *thread)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&thread->thread, NULL, thread_main, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err == 0) {
        pthread_setname_np(thread->thread, "writes");
    }
    return err == 0;
}

static struct write_thread *thread_new(struct loop *loop, dev_t device)
{
    struct write_thread *thread = calloc(1, sizeof(*thread));
    if (!thread) {
        return NULL;
    }
    thread->loop = loop;
    thread->device = device;
    thread->hand_over = (struct loop_task){.fn = hand_over, .arg = thread};
    thread->take_back = (struct loop_task){.fn = take_back, .arg = thread};
    pthread_mutex_init(&thread->lock, NULL);
    pthread_cond_init(&thread->wake, NULL);
    if (!thread_start(thread)) {
        pthread_cond_destroy(&thread->wake);
        pthread_mutex_destroy(&thread->lock);
        free(thread);
        return NULL;
    }
    return thread;
}

struct write_thread *write_thread_get(struct loop *loop, dev_t device)
{
    pthread_mutex_lock(&threads_lock);
    struct write_thread *thread = threads;
    while (thread && (thread->loop != loop || thread->device != device)) {
        thread = thread->next;
    }
    if (!thread) {
        thread = thread_new(loop, device);
        if (thread) {
            thread->next = threads;
            threads = thread;
        }
    }
    if (thread) {
        thread->refs++;
    }
    pthread_mutex_unlock(&threads_lock);
    return thread;
}

void write_thread_put(struct write_thread *thread)
{
    if (!thread || --thread->refs > 0) {
        return;
    }
    pthread_mutex_lock(&threads_lock);
    struct write_thread **at = &threads;
    while (*at != thread) {
        at = &(*at)->next;
    }
    *at = thread->next;
    pthread_mutex_unlock(&threads_lock);

    CHECK(!thread->hand_over_posted);
    pthread_mutex_lock(&thread->lock);
    CHECK(!thread->todo.first && !thread->done.first && !thread->take_back_posted);
    thread->ending = true;
    pthread_mutex_unlock(&thread->lock);
    pthread_cond_signal(&thread->wake);
    CHECK(pthread_join(thread->thread, NULL) == 0);
    pthread_cond_destroy(&thread->wake);
    pthread_mutex_destroy(&thread->lock);
    free(thread);
}
