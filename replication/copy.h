// SPDX-License-Identifier: Apache-2.0
/*
 * A copy: one device's content onto another, to the end, through link losses and restarts.
 *
 * Thread:    copy_* are called on the owner's loop (control); the work happens on the data loop
 *            given; the callbacks come back on the owner's loop. Nothing is shared but messages.
 * Ownership: copy_start() takes the openers and copies the rest of the spec. The owner calls
 *            copy_free() once ended() was called.
 * Errors:    copy_start() cannot fail; what goes wrong comes as ended() with a struct error, or,
 *            while it can still heal, as progress with attempts and last_error.
 *
 *     QUEUED -> OPENING -> COPYING -> FLUSHING -> (VERIFYING) -> DONE
 *                  ^         |  ^
 *                  +- RETRY <+  +-> SUSPENDED        any -> CANCELLED | BROKEN
 *
 * checkpoint_bytes: every byte of the target below it equals the source's byte (as it was read) and
 * is on the target's stable storage: the target was flushed after the writes and before the
 * checkpoint was reported. Whatever ends a session to the target sets the copy back to its
 * checkpoint.
 */
#ifndef REPLICATION_COPY_H
#define REPLICATION_COPY_H

#include "base/error.h"
#include "base/loop.h"
#include "block/blockdev.h"
#include "block/opener.h"

enum copy_phase {
    COPY_QUEUED,
    COPY_OPENING,
    COPY_COPYING,
    COPY_RETRY, /* a side is away; going on when it is back */
    COPY_FLUSHING,
    COPY_VERIFYING,
    COPY_SUSPENDED,
    COPY_DONE,
    COPY_CANCELLED,
    COPY_BROKEN,
};
const char *copy_phase_name(enum copy_phase phase);

struct copy_spec {
    char name[80]; /* for log lines: "v1>v2" */
    struct block_opener *source;
    struct block_opener *target;
    uint64_t bytes_total;      /* the source's size */
    uint64_t checkpoint_bytes; /* where to go on, 0 at first */
    bool verifying;            /* the checkpoint counts the verification pass */
    bool verify;               /* read both sides again and compare, after the copy */
    bool compare;              /* reads the target too, and writes only what differs */
    bool start_suspended;
    unsigned priority;        /* CopyPriority: 0 not managed, 1 low, 2 same, 3 high, 4 urgent */
    uint64_t bandwidth_limit; /* bytes per second of data moved, 0 none */
    uint64_t give_up_ns;      /* a side away for that long ends it; 0: never */
    uint64_t checkpoint_ns;   /* at least so often */
};

struct copy_progress {
    enum copy_phase phase;
    uint64_t bytes_total;
    uint64_t
        bytes_done; /* low watermark of the pass: goes back only to the checkpoint, after a loss */
    uint64_t checkpoint_bytes;
    bool verifying;
    uint64_t bytes_read;       /* from the source, in this run of the process */
    uint64_t bytes_written;    /* data sent to the target */
    uint64_t bytes_zeroed;     /* by zero or unmap commands */
    uint64_t bytes_skipped;    /* nothing had to be done */
    uint64_t bytes_per_second; /* of bytes_done, smoothed */
    uint64_t bandwidth_limit;  /* in force now, of bytes read; 0 none */
    uint64_t attempts;         /* tries to reach a side that failed, over the life of this run */
    char last_error[480];
    uint64_t last_error_ms; /* wall clock */
};

/* While the owner is busy news are gathered: it gets the latest, not all. */
struct copy_events {
    /* A new snapshot: at most every 200 ms, and at each change of phase. */
    void (*progress)(void *arg, const struct copy_progress *progress);
    /* checkpoint_bytes (or verifying) moved: to be made durable by the owner. */
    void (*checkpoint)(void *arg, const struct copy_progress *progress);
    /* Last call: phase is DONE, CANCELLED or BROKEN (then error is set). All devices are closed. */
    void (*ended)(void *arg, const struct copy_progress *progress, const struct error *error);
};

struct copy;

struct copy *copy_start(struct loop *owner, struct loop *data_loop, const struct copy_spec *spec,
                        const struct copy_events *events, void *arg);
/* SUSPENDED is reported once nothing is in flight, a checkpoint was made (if the target is there) and
 * both devices are closed; copy_resume() opens them again. Idempotent, as all of these, and without
 * effect once the copy has ended. */
void copy_suspend(struct copy *copy);
void copy_resume(struct copy *copy);
void copy_cancel(struct copy *copy);
/* Ends it as CANCELLED after a last checkpoint, within a second or two: for an orderly stop of the
 * service. */
void copy_shutdown(struct copy *copy);
void copy_set_limits(struct copy *copy, unsigned priority, uint64_t bandwidth_limit);
void copy_free(struct copy *copy);

#endif
