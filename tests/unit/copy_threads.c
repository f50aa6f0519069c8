// SPDX-License-Identifier: Apache-2.0
/*
 * Copies on real loops, each in a thread of its own, over the devices of block/: what sim and unit
 * tests show in virtual time, here for the messages between the threads (and for TSan).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/random.h"
#include "block/delay_dev.h"
#include "block/fault_dev.h"
#include "block/mem_dev.h"
#include "replication/copy.h"

enum { COPIES = 8, MIB_EACH = 8 };
#define SIZE ((uint64_t)MIB_EACH << 20)

/* Opens a memory disk, far away and unreliable. */
struct opener {
    struct block_opener base;
    struct mem_disk *disk;
    uint64_t seed;
    bool faulty;
    struct loop *loop;
    struct loop_task task;
    block_opened_fn done;
    void *arg;
    unsigned opens;
};

static void open_later(void *arg)
{
    struct opener *opener = arg;
    struct mem_dev_spec spec = {.disk = opener->disk, .max_bytes = 128 << 10};
    struct delay_spec delay = {.latency_ns = MS_NS, .jitter_ns = 2 * MS_NS};
    struct blockdev *mem, *fault, *dev;
    CHECK(mem_dev_new(opener->loop, &spec, &mem) == 0);
    CHECK(fault_dev_new(mem, opener->seed, &fault) == 0);
    if (opener->faulty) {
        struct fault_rule rule = {
            .action = FAULT_FAIL, .chance_numerator = 1, .chance_denominator = 40};
        fault_dev_add(fault, &rule);
    }
    CHECK(delay_dev_new(fault, &delay, opener->seed, &dev) == 0);
    opener->opens++;
    opener->done(opener->arg, dev, NULL);
}

static void opener_open(struct block_opener *base, struct loop *loop, block_opened_fn done,
                        void *arg)
{
    struct opener *opener = container_of(base, struct opener, base);
    opener->loop = loop;
    opener->done = done;
    opener->arg = arg;
    opener->task = (struct loop_task){.fn = open_later, .arg = opener};
    loop_defer(loop, &opener->task);
}

static void opener_cancel(struct block_opener *base)
{
    (void)base; /* soon done anyway */
}

static void opener_free(struct block_opener *base)
{
    (void)base; /* the test's own */
}

static const struct block_opener_ops opener_ops = {
    .open = opener_open,
    .cancel = opener_cancel,
    .free = opener_free,
};

struct one {
    struct all *all;
    struct opener source, target;
    struct copy_spec spec;
    struct copy *copy;
    struct copy_progress progress;
};

struct all {
    struct loop *control;
    struct loop *data[2];
    struct one copies[COPIES];
    unsigned running;
    struct random random;
    struct loop_timer verbs;
    unsigned n_verbs;
    bool quiet;
};

static void on_progress(void *arg, const struct copy_progress *progress)
{
    struct one *one = arg;
    CHECK(loop_is_current(one->all->control));
    CHECK(progress->checkpoint_bytes <= progress->bytes_done);
    one->progress = *progress;
}

static void on_ended(void *arg, const struct copy_progress *progress, const struct error *error)
{
    struct one *one = arg;
    struct all *all = one->all;
    one->progress = *progress;
    if (error) {
        print_error("%s\n", error->detail);
    }
    copy_free(one->copy);
    one->copy = NULL;
    all->running--;
    if (all->running == 0) {
        loop_timer_stop(&all->verbs);
        loop_stop(all->control);
    }
}

static void random_verb(void *arg)
{
    struct all *all = arg;
    struct one *one = &all->copies[random_below(&all->random, COPIES)];
    all->n_verbs++;
    if (all->n_verbs == 200) { /* enough: now they may come to an end */
        for (unsigned i = 0; i < COPIES; i++) {
            if (all->copies[i].copy) {
                copy_set_limits(all->copies[i].copy, 0, 0);
                copy_resume(all->copies[i].copy);
            }
        }
        return;
    }
    loop_timer_start(&all->verbs, MS_NS);
    if (!one->copy) {
        return;
    }
    switch (random_below(&all->random, 4)) {
    case 0:
        copy_suspend(one->copy);
        break;
    case 1:
        copy_resume(one->copy);
        break;
    case 2:
        copy_set_limits(one->copy, 4, 4 << 20);
        break;
    case 3:
        if (all->quiet) {
            copy_shutdown(one->copy);
        }
        break;
    }
}

static void run_copies(struct all *all, bool ending_early)
{
    static const struct copy_events events = {
        .progress = on_progress,
        .checkpoint = on_progress,
        .ended = on_ended,
    };
    all->quiet = ending_early;
    all->n_verbs = 0;
    all->running = COPIES;
    loop_timer_init(&all->verbs, all->control, random_verb, all);
    loop_timer_start(&all->verbs, MS_NS);
    for (unsigned i = 0; i < COPIES; i++) {
        struct one *one = &all->copies[i];
        one->spec.source = &one->source.base;
        one->spec.target = &one->target.base;
        one->copy = copy_start(all->control, all->data[i % 2], &one->spec, &events, one);
    }
    loop_run(all->control);
}

static void copies_in_threads_survive_verbs_and_faults(void **state)
{
    (void)state;
    static struct all all;
    static uint8_t expected[1 << 20], found[1 << 20];
    memset(&all, 0, sizeof(all));
    random_seed(&all.random, 1);
    assert_int_equal(loop_new("control", &all.control), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(loop_new("data", &all.data[i]), 0);
    }
    for (unsigned i = 0; i < COPIES; i++) {
        struct one *one = &all.copies[i];
        one->all = &all;
        one->source = (struct opener){.base = {.ops = &opener_ops}, .seed = i, .faulty = true};
        one->target = (struct opener){.base = {.ops = &opener_ops}, .seed = 99 + i, .faulty = true};
        assert_int_equal(mem_disk_new(SIZE, 0, &one->source.disk), 0);
        assert_int_equal(mem_disk_new(SIZE, 0, &one->target.disk), 0);
        for (unsigned m = 0; m < MIB_EACH; m++) {
            random_fill(&all.random, expected, sizeof(expected));
            mem_disk_poke(one->target.disk, (uint64_t)m << 20, expected, sizeof(expected));
            if (m % 3 != 1) {
                random_fill(&all.random, expected, sizeof(expected));
                mem_disk_poke(one->source.disk, (uint64_t)m << 20, expected, sizeof(expected));
            }
        }
        snprintf(one->spec.name, sizeof(one->spec.name), "%u", i);
        one->spec.bytes_total = SIZE;
        one->spec.verify = true;
        one->spec.checkpoint_ns = 50 * MS_NS;
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(loop_thread_start(all.data[i]), 0);
    }
    run_copies(&all, true); /* some are shut down, */
    for (unsigned i = 0; i < COPIES; i++) {
        struct one *one = &all.copies[i];
        assert_true(one->progress.phase == COPY_CANCELLED || one->progress.phase == COPY_DONE);
        one->spec.checkpoint_bytes = one->progress.checkpoint_bytes;
        one->spec.verifying = one->progress.verifying;
    }
    run_copies(&all, false); /* and go on from there */
    for (unsigned i = 0; i < 2; i++) {
        loop_thread_join(all.data[i]);
        loop_free(all.data[i]);
    }
    for (unsigned i = 0; i < COPIES; i++) {
        struct one *one = &all.copies[i];
        assert_int_equal(one->progress.phase, COPY_DONE);
        for (unsigned m = 0; m < MIB_EACH; m++) {
            mem_disk_peek(one->source.disk, (uint64_t)m << 20, expected, sizeof(expected));
            mem_disk_peek(one->target.disk, (uint64_t)m << 20, found, sizeof(found));
            assert_memory_equal(expected, found, sizeof(found));
        }
        mem_disk_free(one->source.disk);
        mem_disk_free(one->target.disk);
    }
    loop_free(all.control);
}

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_in_threads_survive_verbs_and_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
