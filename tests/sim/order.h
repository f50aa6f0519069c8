// SPDX-License-Identifier: Apache-2.0
/*
 * Writes in one order, over any number of volumes: what each block has been, when each write began and ended, and whether what is found
 * in a copy is a prefix.
 *
 * Thread:    one.
 * Ownership: block_free() for each block.
 * Errors:    what was never written fails a CHECK.
 *
 * Times are ticks, one for each beginning or end. A block is not written to twice at a time.
 */
#ifndef TESTS_SIM_ORDER_H
#define TESTS_SIM_ORDER_H

#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "block/blockdev.h"

enum { ORDER_BLOCK = 512, ORDER_MOST = 7 /* blocks of a write */ };

struct version {
    uint64_t stamp;
    uint64_t began;
    uint64_t ended; /* UINT64_MAX: not yet, or not well: it may be there or not */
};

struct block {
    struct version *versions;
    unsigned n;
    unsigned durable; /* that one, or a later one */
    bool busy;
};

static inline void version_add(struct block *block, uint64_t stamp, uint64_t began, uint64_t ended)
{
    block->versions = realloc(block->versions, (block->n + 1) * sizeof(*block->versions));
    CHECK(block->versions != NULL);
    block->versions[block->n++] = (struct version){stamp, began, ended};
}

static inline unsigned version_of(const struct block *block, uint64_t stamp)
{
    unsigned i = block->n;

    while (i > 0 && block->versions[i - 1].stamp != stamp) {
        i--;
    }
    CHECK(i > 0); /* it was never written there, or taken back */
    return i - 1;
}

/* All that had ended then is on stable storage. */
static inline void block_is_durable(struct block *block, uint64_t then)
{
    for (unsigned i = block->durable; i < block->n; i++) {
        if (block->versions[i].ended <= then) {
            block->durable = i;
        }
    }
}

/* A write of n blocks, or a flush when n is 0; each block is full of its stamp. */
struct ordered_write {
    struct block *blocks; /* the first of them */
    unsigned n;
    uint64_t began;
    struct block_req req;
    struct slice slice;
    uint64_t words[ORDER_MOST * ORDER_BLOCK / 8];
};

static inline void ordered_write_submit(struct ordered_write *write, struct blockdev *dev,
                                        uint64_t offset, uint64_t stamp, block_done_fn done,
                                        void *arg)
{
    for (unsigned i = 0; i < write->n; i++) {
        write->blocks[i].busy = true;
        version_add(&write->blocks[i], stamp, write->began, UINT64_MAX);
    }
    for (unsigned w = 0; w < write->n * ORDER_BLOCK / 8; w++) {
        write->words[w] = stamp;
    }
    write->slice = (struct slice){.data = (void *)write->words, .len = write->n * ORDER_BLOCK};
    write->req = (struct block_req){.op = write->n == 0 ? BLOCK_FLUSH : BLOCK_WRITE,
                                    .offset = write->n == 0 ? 0 : offset,
                                    .len = (uint64_t)write->n * ORDER_BLOCK,
                                    .slices = &write->slice,
                                    .n_slices = write->n > 0,
                                    .done = done,
                                    .arg = arg};
    blockdev_submit(dev, &write->req);
}

static inline void ordered_write_ended(const struct ordered_write *write, bool well, uint64_t now)
{
    for (unsigned i = 0; i < write->n; i++) {
        struct block *block = &write->blocks[i];

        block->busy = false;
        if (well) {
            block->versions[block->n - 1].ended = now;
        }
    }
}

/* It is what was found, for good: what came after is taken back. */
static inline void block_settle(struct block *block, uint64_t stamp, uint64_t now)
{
    unsigned at = version_of(block, stamp);

    CHECK(at >= block->durable);
    block->n = at + 1;
    block->durable = at;
    block->busy = false;
    if (block->versions[at].ended == UINT64_MAX) {
        block->versions[at].ended = now;
    }
}

/* The newest, or one that came after it and did not end well. */
static inline void block_is_newest(const struct block *block, uint64_t stamp)
{
    for (unsigned i = version_of(block, stamp) + 1; i < block->n; i++) {
        CHECK(block->versions[i].ended == UINT64_MAX);
    }
}

static inline void block_free(struct block *block)
{
    free(block->versions);
    *block = (struct block){0};
}

/* What is in a copy of some blocks, and what is not. */
struct prefix {
    uint64_t newest_began; /* of what is there */
    uint64_t oldest_ended; /* of what is not */
};

#define PREFIX_INIT                                                                                \
    (struct prefix)                                                                                \
    {                                                                                              \
        0, UINT64_MAX                                                                              \
    }

static inline void prefix_add(struct prefix *prefix, const struct block *block, uint64_t stamp)
{
    unsigned at = version_of(block, stamp);

    if (block->versions[at].began > prefix->newest_began) {
        prefix->newest_began = block->versions[at].began;
    }
    for (unsigned i = at + 1; i < block->n; i++) {
        if (block->versions[i].ended < prefix->oldest_ended) {
            prefix->oldest_ended = block->versions[i].ended;
        }
    }
}

/* Nothing is missing that had ended before something that is there began. */
static inline void prefix_check(const struct prefix *prefix)
{
    CHECK(prefix->oldest_ended > prefix->newest_began);
}

#endif
