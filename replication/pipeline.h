// SPDX-License-Identifier: Apache-2.0
/*
 * The moving part of a copy: from one open device to another, many requests at a time.
 *
 * Thread:    the devices' loop; callbacks come there, from inside completions.
 * Ownership: borrows the devices. pipeline_free() when pipeline_outstanding() is 0.
 * Errors:    every failed request goes to failed(), which decides whether it is tried again.
 *
 * The pipeline knows nothing of sessions and checkpoints: its owner opens and closes the gates of
 * the two sides, asks for a flush, and sets it back.
 */
#ifndef REPLICATION_PIPELINE_H
#define REPLICATION_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "block/blockdev.h"
#include "replication/throttle.h"

enum copy_side { COPY_SOURCE, COPY_TARGET };

enum pipeline_mode {
    PIPELINE_RUN,
    PIPELINE_DRAIN, /* what has been read is written, nothing new begins */
    PIPELINE_DROP,  /* nothing is submitted; what completes is forgotten */
};

struct pipeline_failure {
    enum copy_side side;
    enum block_op op;
    uint64_t offset;
    uint64_t len;
    int status;
    unsigned tries; /* how often this range has failed now */
};

struct pipeline_counters {
    uint64_t bytes_read;
    uint64_t bytes_written;
    uint64_t bytes_zeroed;
    uint64_t bytes_skipped;
};

struct pipeline_cb {
    /* True: try again after *ret_delay_ns, once the side's gate is open. False: give the range up;
     * the owner will set the pipeline back or end it. */
    bool (*failed)(void *arg, const struct pipeline_failure *failure, uint64_t *ret_delay_ns);
    /* The target has on stable storage what lay below watermark when the flush was submitted. */
    void (*flushed)(void *arg, uint64_t watermark, int status);
    void (*mismatch)(void *arg, uint64_t offset);
    /* Nothing is in flight, or the end has been reached. */
    void (*settled)(void *arg);
};

struct pipeline_spec {
    struct blockdev *source;
    struct blockdev *target;
    uint64_t bytes_total;
    bool compare; /* reads the target too, writes what differs */
    unsigned priority;
    struct throttle *throttle;          /* outlives the pipeline */
    struct pipeline_counters *counters; /* likewise */
};

struct pipeline;

/* Begins in PIPELINE_DROP, with closed gates. */
int pipeline_new(const struct pipeline_spec *spec, const struct pipeline_cb *cb, void *arg,
                 struct pipeline **ret_pipeline);
void pipeline_free(struct pipeline *pipeline);

/* Begins (again) at offset, to copy or to compare. Nothing may be in flight. */
void pipeline_restart(struct pipeline *pipeline, uint64_t offset, bool verify);
void pipeline_set_mode(struct pipeline *pipeline, enum pipeline_mode mode);
void pipeline_gate(struct pipeline *pipeline, enum copy_side side, bool open);
void pipeline_set_priority(struct pipeline *pipeline, unsigned priority);
/* Submits what may be submitted. To be called after any of the above, and now and then for retries.
 * */
void pipeline_pump(struct pipeline *pipeline);
/* Flushes the target at the next opportunity; not while one is under way. */
void pipeline_flush(struct pipeline *pipeline);
bool pipeline_flushing(const struct pipeline *pipeline);

/* Everything below is done. */
uint64_t pipeline_watermark(const struct pipeline *pipeline);
bool pipeline_complete(const struct pipeline *pipeline);
/* Requests that move data, and the flush. */
unsigned pipeline_inflight(const struct pipeline *pipeline);
/* The same, with map questions that nobody waits for. */
unsigned pipeline_outstanding(const struct pipeline *pipeline);
/* Requests to that side that succeeded, ever. */
uint64_t pipeline_successes(const struct pipeline *pipeline, enum copy_side side);

#endif
