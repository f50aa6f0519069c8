// SPDX-License-Identifier: Apache-2.0
/*
 * A LUN over several paths that get lost, stall and come back while workers write, read and flush: no block may hold less than was
 * acknowledged, or what was begun later. Some seeds run again with a target whose LOGICAL UNIT RESET does nothing, to see that
 * the simulation would notice.
 */
#include "tests/sim/seeds.h"

#include <stdio.h>

#include "base/check.h"
#include "tests/unit/paths_world.h"

enum { WORKERS = 12 };

/* Each worker has some blocks of its own, so that no two requests overlap, and writes them with rising stamps. */
struct worker {
    struct io io;
    unsigned number;
    uint64_t first, n;
    bool busy;
    bool writing;
    uint64_t stamp;        /* of the last write that was begun */
    uint64_t acknowledged; /* of the last one that was done */
    uint64_t flushed;      /* and covered by a flush */
    uint64_t at_flush;     /* acknowledged when the flush under way was begun */
    uint64_t generation;   /* of the device, when it was begun */
    uint8_t bytes[BLOCKS * BLOCK];
};

static struct worker workers[WORKERS];
static struct io flush;
static bool flushing;
static uint64_t flush_generation;
static uint64_t generation; /* counts DOWN */
static uint64_t mismatches;
static uint64_t moved;

static void sim_event(void *arg, struct blockdev *dev, enum block_event what, unsigned attempts,
                      const char *detail)
{
    event(arg, dev, what, attempts, detail);
    if (what == BLOCK_EVENT_DOWN) {
        generation++;
        for (unsigned i = 0; i < WORKERS; i++) {
            workers[i].acknowledged = workers[i].flushed; /* the rest is to be done again */
        }
    }
}

/* What a block may hold: at least what was acknowledged, at most what was begun. */
static void check_block(const struct worker *worker, uint64_t stamp)
{
    mismatches += stamp < worker->acknowledged || stamp > worker->stamp;
}

static void worker_finish(struct worker *worker)
{
    worker->busy = false;
    if (worker->io.req.status != 0) {
        assert_int_equal(worker->io.req.status, -ENOTCONN);
    } else if (!worker->writing) {
        for (uint64_t i = 0; i < worker->n; i++) {
            uint64_t stamp;
            memcpy(&stamp, worker->bytes + i * BLOCK, 8);
            check_block(worker, stamp);
        }
    } else if (worker->generation == generation) {
        worker->acknowledged = worker->stamp;
        moved++;
    }
}

static void worker_begin(struct worker *worker)
{
    worker->busy = true;
    worker->generation = generation;
    worker->writing = random_below(&target.random, 3) != 0;
    if (worker->writing) {
        worker->stamp++;
        for (uint64_t i = 0; i < worker->n; i++) {
            memcpy(worker->bytes + i * BLOCK, &worker->stamp, 8);
        }
    }
    io_start(&worker->io, multi, worker->writing ? BLOCK_WRITE : BLOCK_READ, worker->first * BLOCK,
             worker->bytes, worker->n * BLOCK, 0);
}

static void flush_step(bool begin)
{
    if (flushing && flush.done) {
        flushing = false;
        for (unsigned i = 0; i < WORKERS && flush.req.status == 0; i++) {
            if (flush_generation == generation) {
                workers[i].flushed = workers[i].at_flush;
            }
        }
    } else if (!flushing && begin && random_below(&target.random, 20) == 0) {
        flushing = true;
        flush_generation = generation;
        for (unsigned i = 0; i < WORKERS; i++) {
            workers[i].at_flush = workers[i].acknowledged;
        }
        io_start(&flush, multi, BLOCK_FLUSH, 0, NULL, 0, 0);
    }
}

static void workers_step(bool begin)
{
    flush_step(begin);
    for (unsigned i = 0; i < WORKERS; i++) {
        if (workers[i].busy && workers[i].io.done) {
            worker_finish(&workers[i]);
        }
        if (!workers[i].busy && begin && random_below(&target.random, 2) == 0) {
            worker_begin(&workers[i]);
        }
    }
}

/* The LUN loses power for a moment: unflushed blocks are old or new, sessions say so. */
static void target_resets(void)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        if (random_below(&target.random, 2) == 0) {
            target.now[i] = target.stable[i];
        }
    }
    memcpy(target.stable, target.now, sizeof(target.now));
    ghosts_forget();
    /* Some say so, some are only gone, and some are gone without anybody noticing it soon. */
    bool says = random_below(&target.random, 3) == 0;
    for (unsigned i = 0; i < PATHS; i++) {
        struct nexus *nexus = nexuses[i];
        if (nexus == NULL) {
            continue;
        }
        if (says) {
            nexus_lose(nexus, true, "power on");
            continue;
        }
        list_for_each_safe(link, following, &nexus->tasks)
        {
            list_entry(link, struct task, link)->op =
                BLOCK_MAP; /* whatever it was, it is not done */
        }
        nexus->dead = nexus->up || nexus->fencing;
        if (nexus->dead && random_below(&target.random, 2) == 0) {
            nexus_lose(nexus, false, "gone");
            loop_timer_start(&nexus->redial, MS_NS);
        }
    }
}

static void trouble(bool resets)
{
    unsigned which = (unsigned)random_below(&target.random, PATHS);
    struct nexus *nexus = nexuses[which];

    switch (random_below(&target.random, 1200)) {
    case 0:
    case 1:
    case 2:
        if (nexus != NULL) {
            nexus_lose(nexus, false, "cut");
        }
        break;
    case 3:
        if (nexus != NULL && !nexus->hold) {
            nexus->hold = true;
        }
        break;
    case 4:
    case 5:
        for (unsigned i = 0; i < PATHS; i++) {
            if (nexuses[i] != NULL && (nexuses[i]->hold || nexuses[i]->dead)) {
                nexuses[i]->hold = false;
                nexus_lose(nexuses[i], false, "no answer");
            }
        }
        break;
    case 6:
        if (resets) {
            target_resets();
        }
        break;
    default:
        break;
    }
}

static bool all_idle(void)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        if (workers[i].busy) {
            return false;
        }
    }
    return !flushing;
}

/* How many things were not as they must be. */
static uint64_t simulate(uint64_t seed, bool fences, bool resets)
{
    world_begin(seed);
    target.fences = fences;
    target.fence_ms = 10;
    target.ghostly = true;
    target.latency_ns = 8 * MS_NS;
    target.redial_ns = 300 * MS_NS;
    memset(workers, 0, sizeof(workers));
    flushing = false;
    mismatches = moved = 0;
    generation = 0;
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].number = i;
        workers[i].first = i * (BLOCKS / WORKERS);
        workers[i].n = BLOCKS / WORKERS;
    }
    world_open();
    assert_non_null(multi);
    multi->on_event = sim_event;
    for (unsigned i = 0; i < 3000; i++) {
        trouble(resets);
        workers_step(true);
        pass_ms(1);
    }
    /* Peace: everything comes to its end, and every path takes part again. */
    for (unsigned i = 0; i < 3000; i++) {
        for (unsigned k = 0; k < PATHS; k++) {
            if (nexuses[k] != NULL) {
                nexuses[k]->hold = false;
                if (nexuses[k]->dead) {
                    nexus_lose(nexuses[k], false, "gone");
                }
            }
        }
        workers_step(false);
        pass_ms(1);
    }
    assert_true(all_idle());
    unsigned before[PATHS];
    for (unsigned i = 0; i < PATHS; i++) {
        assert_non_null(nexuses[i]);
        assert_true(nexuses[i]->up);
        before[i] = nexuses[i]->n_requests;
    }
    for (unsigned i = 0; i < 100; i++) {
        workers_step(i < 60);
        pass_ms(1);
    }
    assert_true(all_idle());
    for (unsigned i = 0; i < PATHS; i++) {
        assert_true(nexuses[i]->n_requests > before[i]);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        for (uint64_t k = 0; k < workers[i].n; k++) {
            check_block(&workers[i], target.now[workers[i].first + k]);
        }
    }
    uint64_t found = mismatches;
    world_end();
    return found;
}

static struct {
    uint64_t ghosts, fences, writes;
    uint64_t wrong; /* without fences */
} totals;

static void run(uint64_t seed)
{
    CHECK(simulate(seed, true, seed % 3 == 0) == 0);
    totals.ghosts += target.n_ghosts;
    totals.fences += target.n_fences;
    totals.writes += moved;
    if (seed % 5 == 0) {
        totals.wrong += simulate(seed, false, false);
    }
}

static void passed(uint64_t count)
{
    printf("%llu late writes, %llu fences, %llu writes; without fences %llu blocks were wrong\n",
           (unsigned long long)totals.ghosts, (unsigned long long)totals.fences,
           (unsigned long long)totals.writes, (unsigned long long)totals.wrong);
    CHECK(count < 50 ||
          (totals.ghosts > count && totals.fences > count && totals.writes > 500 * count));
    CHECK(count < 50 || totals.wrong > 0);
}

int main(int argc, char **argv)
{
    return sim_main(
        argc, argv,
        &(struct sim){
            .name = "paths", .seeds = SIM_SEEDS(100, 100, 50), .run = run, .passed = passed});
}
