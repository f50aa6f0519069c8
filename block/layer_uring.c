// SPDX-License-Identifier: Apache-2.0
/*
 * Requests of one round of the loop go to the kernel together, at its end; an eventfd tells of
 * completions. The environment SMIRROR_NO_URING=1 turns it off, so that both ways can be tested.
 */
#include "block/layer_uring.h"

#include <stdlib.h>

#ifdef SMIRROR_URING

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"

enum { ENTRIES = 256 };

struct layer_uring {
    struct layer_uring *next;
    struct loop *loop;
    unsigned refs;
    struct io_uring ring;
    int event_fd;
    struct loop_poll *poll;
    struct loop_task task;
    bool posted;
    unsigned inflight;
    layer_uring_fn fn;
};

/* Of all loops; the lock is taken when files are opened and closed, never for I/O. */
static pthread_mutex_t rings_lock = PTHREAD_MUTEX_INITIALIZER;
static struct layer_uring *rings;

static void submit_all(void *arg)
{
    struct layer_uring *uring = arg;
    uring->posted = false;
    int rc = io_uring_submit(&uring->ring);
    if (rc < 0 && io_uring_sq_ready(&uring->ring) > 0) {
        /* EAGAIN, EBUSY, EINTR: again after what is under way has made room. */
        uring->posted = true;
        loop_defer(uring->loop, &uring->task);
    }
}

static void completed(void *arg, int events)
{
    struct layer_uring *uring = arg;
    struct io_uring_cqe *cqe;
    uint64_t count;
    (void)events;
    if (read(uring->event_fd, &count, sizeof(count)) < 0 && errno != EAGAIN) {
        CHECK(errno == EINTR);
    }
    /* A completion's function may close the last file of the ring. */
    uring->refs++;
    while (io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
        struct layer_io *io = io_uring_cqe_get_data(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(&uring->ring, cqe);
        uring->inflight--;
        uring->fn(io, result);
    }
    layer_uring_put(uring);
}

static struct layer_uring *uring_new(struct loop *loop)
{
    const char *off = getenv("SMIRROR_NO_URING");
    struct layer_uring *uring = off && *off == '1' ? NULL : calloc(1, sizeof(*uring));
    if (!uring) {
        return NULL;
    }
    uring->loop = loop;
    uring->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (uring->event_fd < 0) {
        goto no_eventfd;
    }
    if (io_uring_queue_init(ENTRIES, &uring->ring, 0) < 0) {
        goto no_ring;
    }
    if (io_uring_register_eventfd(&uring->ring, uring->event_fd) < 0 ||
        loop_poll_new(loop, uring->event_fd, completed, uring, &uring->poll) < 0) {
        goto no_poll;
    }
    loop_poll_set(uring->poll, LOOP_READ);
    uring->task = (struct loop_task){.fn = submit_all, .arg = uring};
    return uring;

no_poll:
    io_uring_queue_exit(&uring->ring);
no_ring:
    close(uring->event_fd);
no_eventfd:
    free(uring);
    return NULL;
}

struct layer_uring *layer_uring_get(struct loop *loop)
{
    pthread_mutex_lock(&rings_lock);
    struct layer_uring *uring = rings;
    while (uring && uring->loop != loop) {
        uring = uring->next;
    }
    if (!uring) {
        uring = uring_new(loop);
        if (uring) {
            uring->next = rings;
            rings = uring;
        }
    }
    if (uring) {
        uring->refs++;
    }
    pthread_mutex_unlock(&rings_lock);
    return uring;
}

void layer_uring_put(struct layer_uring *uring)
{
    if (!uring || --uring->refs > 0) {
        return;
    }
    CHECK(uring->inflight == 0 && !uring->posted);
    pthread_mutex_lock(&rings_lock);
    struct layer_uring **at = &rings;
    while (*at != uring) {
        at = &(*at)->next;
    }
    *at = uring->next;
    pthread_mutex_unlock(&rings_lock);
    loop_poll_free(uring->poll);
    io_uring_queue_exit(&uring->ring);
    close(uring->event_fd);
    free(uring);
}

bool layer_uring_submit(struct layer_uring *uring, int fd, struct layer_io *io, layer_uring_fn fn)
{
    /* No more than the completion queue holds. */
    struct io_uring_sqe *sqe = uring->inflight < ENTRIES ? io_uring_get_sqe(&uring->ring) : NULL;
    if (!sqe) {
        return false;
    }
    if (io->op == LAYER_IO_READ) {
        io_uring_prep_readv(sqe, fd, io->iov, (unsigned)io->n_iov, io->offset);
    } else {
        io_uring_prep_writev(sqe, fd, io->iov, (unsigned)io->n_iov, io->offset);
    }
    io_uring_sqe_set_data(sqe, io);
    uring->fn = fn;
    uring->inflight++;
    if (!uring->posted) {
        uring->posted = true;
        loop_defer(uring->loop, &uring->task);
    }
    return true;
}

#else

struct layer_uring *layer_uring_get(struct loop *loop)
{
    (void)loop;
    return NULL;
}

void layer_uring_put(struct layer_uring *uring)
{
    (void)uring;
}

bool layer_uring_submit(struct layer_uring *uring, int fd, struct layer_io *io, layer_uring_fn fn)
{
    (void)uring, (void)fd, (void)io, (void)fn;
    return false;
}

#endif
