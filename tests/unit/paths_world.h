// SPDX-License-Identifier: Apache-2.0
/*
 * A LUN over several paths, its target, and the openers of the paths, on a simulated loop.
 *
 * The target is one that does what real ones may do: a write whose session is lost is done at any later time, or never, unless
 * LOGICAL UNIT RESET came first; what was not flushed may be gone after a reset of its own.
 *
 * Thread:    the loop's.
 * Ownership: one world at a time; world_end() ends it, and looks that nothing of it is left.
 * Errors:    assertions of cmocka.
 */
#ifndef TESTS_UNIT_PATHS_WORLD_H
#define TESTS_UNIT_PATHS_WORLD_H

#include "tests/unit/block_io.h"

#include "base/list.h"
#include "base/random.h"
#include "block/multi_dev.h"

enum { BLOCK = 512, BLOCKS = 48, PATHS = 3, FENCE_MS = 500 };

extern struct loop *loop;

/* ---- the target ---- */

struct nexus;

struct task {
    struct list link; /* in nexus->tasks, or ghosts */
    struct nexus *nexus;
    struct block_req *req; /* NULL: a ghost */
    enum block_op op;
    uint64_t block;
    uint64_t n;
    uint64_t stamps[BLOCKS];
    struct loop_timer timer;
};

struct nexus {
    struct blockdev base;
    unsigned number;
    bool up;
    bool hold; /* takes requests and says nothing */
    bool dead; /* its session is gone, and nobody has noticed */
    bool reset;
    struct list tasks;
    struct loop_timer redial;
    struct loop_timer fence;
    bool fencing;
    unsigned n_requests;
    block_close_fn close_done;
    void *close_arg;
};

/* Of a block the first 8 bytes are kept, its stamp. */
struct lun {
    uint64_t now[BLOCKS];
    uint64_t stable[BLOCKS];
    struct list ghosts;
    struct random random;
    bool fences; /* false: LOGICAL UNIT RESET does nothing */
    bool ghostly;
    unsigned n_ghosts;
    unsigned n_ghosts_done;
    unsigned n_fences;
    uint64_t latency_ns;
    uint64_t fence_ms;
    uint64_t redial_ns; /* 0: does not come back by itself */
};
extern struct lun target;
extern struct nexus *nexuses[PATHS]; /* NULL: not open */

/* reset: the target has lost what was not flushed, and says so. */
void nexus_lose(struct nexus *nexus, bool reset, const char *why);
void nexus_back(struct nexus *nexus);
/* Writes of lost sessions that might still be done never are. */
void ghosts_forget(void);

/* ---- openers ---- */

struct opener {
    struct block_opener base;
    unsigned number;
    enum error_code fails; /* ERR_NONE: it opens */
    char lun[32];
    bool silent;
    block_opened_fn done;
    void *arg;
    struct loop_timer timer;
    unsigned opens;
    unsigned frees;
};
extern struct opener openers[PATHS];

/* ---- the device ---- */

extern struct multi_spec spec; /* for world_open() */
extern struct block_opener *multi_opener;
extern struct blockdev *multi; /* NULL: not open */
extern struct error open_error;
extern bool open_told;
extern unsigned events[BLOCK_EVENT_CHANGED + 1];
extern struct path_meter *meters[PATHS];

/* The device's on_event. */
void event(void *arg, struct blockdev *dev, enum block_event what, unsigned attempts,
           const char *detail);
void world_begin(uint64_t seed);
/* The first time, or again with the same opener. It takes the openers of the paths up to 2 ms each. */
void world_open(void);
void world_end(void);
void pass_ms(uint64_t ms);

#endif
