// SPDX-License-Identifier: Apache-2.0
/*
 * Copies under all faults at once: random disks, devices, verbs and failures, from a seed.
 *
 *     sim_copy [FIRST [COUNT]]   (tests/sim/seeds.h)
 *
 * In each run the copy is interrupted, suspended, killed and started again from its checkpoint
 * until no more faults are left. Then it must be DONE and equal on stable storage, or BROKEN for a
 * reason that the run has given it. Every checkpoint on the way is compared with what the target
 * has on stable storage.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "tests/sim/seeds.h"
#include "tests/unit/copy_testing.h"

static void random_content(struct test_disk *disk)
{
    uint64_t size = disk->size;
    switch (below(5)) {
    case 0: /* empty */
        break;
    case 1: /* full */
        test_disk_fill(disk, 0, size, below(1000));
        break;
    default:
        for (uint64_t n = below(20); n > 0; n--) {
            uint64_t at = below(size / 512) * 512;
            uint64_t len = (1 + below(PICK(8, 64, 1024, 4096))) * 512;
            len = len < size - at ? len : size - at;
            test_disk_fill(disk, at, len, below(1000));
            if (chance(1, 4)) { /* zeros that occupy space */
                memset(disk->data + at, 0, len);
                memset(disk->stable + at, 0, len);
            }
        }
        break;
    }
}

static void random_device(struct test_dev_spec *spec)
{
    spec->block_bytes = (uint32_t)PICK(512, 512, 4096);
    spec->max_bytes = (uint32_t)PICK(4096, 16 * KIB, 64 * KIB, 256 * KIB, 1 * MIB, 50000);
    spec->optimal_bytes = (uint32_t)PICK(0, 0, 64 * KIB, 512 * KIB);
    spec->max_inflight = (uint32_t)PICK(1, 2, 3, 8, 32, 64);
    spec->can_map = chance(2, 3);
    spec->map_extents = (unsigned)PICK(0, 0, 1, 2, 5, 100);
    spec->map_unknown = chance(1, 8);
    spec->delay_ns = PICK(0, MS_NS / 10, MS_NS, 20 * MS_NS);
    spec->delay_spread_ns = PICK(0, MS_NS, 50 * MS_NS);
    spec->map_delay_ns = PICK(0, 0, 0, 100 * MS_NS, 400 * MS_NS);
    spec->bytes_per_second = PICK(0, 0, 10 * MIB, 100 * MIB);
    spec->lose_all = chance(1, 2);
    spec->volatile_cache = chance(7, 8);
}

struct story {
    struct copy_bench bench;
    bool fatal[ERR_COUNT]; /* the run has given a reason for that */
};

static void random_fault(struct story *story, bool on_target)
{
    struct copy_bench *bench = &story->bench;
    struct test_opener *opener = on_target ? &bench->target_opener : &bench->source_opener;
    struct test_fault fault = {
        .ops = chance(1, 2) ? TEST_ALL_OPS : TEST_OP(below(6)),
        .first = 1 + (unsigned)below(PICK(3, 20, 100, 1000)),
        .count = 1 + (unsigned)below(3),
    };
    switch (below(12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        fault.action = TEST_LINK_DOWN;
        fault.down_ns = PICK(1, MS_NS, 70 * MS_NS, 3 * SEC_NS);
        break;
    case 4:
    case 5:
        fault.action = TEST_SILENT;
        break;
    case 6:
    case 7:
    case 8:
        fault.status = -EIO;
        fault.count = 1 + (unsigned)below(8);
        story->fatal[ERR_COPY_FAILED] = true; /* five in a row are one too many */
        break;
    case 9:
        fault.status = -EOPNOTSUPP;
        fault.ops = chance(1, 2) ? TEST_OP(BLOCK_ZERO) : TEST_OP(BLOCK_MAP);
        fault.count = UINT32_MAX;
        break;
    case 10:
        if (!chance(1, 4)) {
            return;
        }
        fault.status = -ENOSPC;
        fault.ops = TEST_OP(BLOCK_WRITE) | TEST_OP(BLOCK_FLUSH);
        story->fatal[ERR_NO_SPACE] = true;
        break;
    default:
        if (!chance(1, 4)) {
            return;
        }
        fault.status = -ESTALE;
        story->fatal[ERR_LUN_CHANGED] = true;
        break;
    }
    if (opener->n_faults < TEST_FAULTS) {
        test_opener_fault(opener, fault);
    }
}

static void begin(struct story *story, uint64_t seed)
{
    struct copy_bench *bench = &story->bench;
    uint64_t size = (1 + below(PICK(4, 64, 2048, 8192))) * 512;
    struct test_dev_spec source = {0}, target = {0};
    random_device(&source);
    random_device(&target);
    size = (size + source.block_bytes - 1) / source.block_bytes * source.block_bytes;
    uint64_t target_size =
        (size + target.block_bytes - 1) / target.block_bytes * target.block_bytes +
        below(3) * target.block_bytes;
    copy_bench_init(bench, seed, size, target_size);
    bench->source_opener.spec = source;
    bench->target_opener.spec = target;
    random_content(bench->source);
    if (chance(1, 2)) { /* a target that is not full of rubbish */
        test_disk_clear(bench->target);
        random_content(bench->target);
    }
    bench->spec.verify = chance(1, 2);
    bench->spec.compare = chance(1, 4);
    bench->spec.priority = (unsigned)below(5);
    bench->spec.bandwidth_limit = PICK(0, 0, 0, 1 * MIB, 20 * MIB);
    bench->spec.checkpoint_ns = PICK(0, 0, 50 * MS_NS);
    bench->spec.start_suspended = chance(1, 10);
    for (uint64_t n = below(5); n > 0; n--) {
        random_fault(story, chance(1, 2));
    }
    struct test_opener *openers[] = {&bench->source_opener, &bench->target_opener};
    for (unsigned i = 0; i < 2; i++) {
        openers[i]->open_delay_ns = PICK(0, MS_NS, SEC_NS);
        openers[i]->fail_opens = chance(1, 4) ? (unsigned)below(4) : 0;
    }
}

static void random_verb(struct story *story)
{
    struct copy_bench *bench = &story->bench;
    switch (below(8)) {
    case 0:
        copy_suspend(bench->copy);
        break;
    case 1:
    case 2:
        copy_resume(bench->copy);
        break;
    case 3:
        copy_set_limits(bench->copy, (unsigned)below(5), PICK(0, 0, 1 * MIB, 50 * MIB));
        break;
    case 4:
        test_opener_link_down(&bench->source_opener, PICK(1, 50 * MS_NS, SEC_NS));
        break;
    case 5:
        test_opener_link_down(&bench->target_opener, PICK(1, 50 * MS_NS, SEC_NS));
        break;
    case 6:
        if (chance(1, 4)) {
            copy_shutdown(bench->copy);
        }
        break;
    case 7:
        if (chance(1, 4)) {
            copy_cancel(bench->copy);
        }
        break;
    }
}

/* One life of the copy: ends as it ends. */
static void live(struct story *story, bool quiet)
{
    struct copy_bench *bench = &story->bench;
    copy_bench_start(bench);
    for (uint64_t n = quiet ? 0 : below(6); n > 0 && !bench->ended; n--) {
        copy_bench_finish(bench, below(PICK(10 * MS_NS, 200 * MS_NS, 5 * SEC_NS)));
        if (!bench->ended) {
            random_verb(story);
        }
    }
    if (!bench->ended) {
        copy_resume(bench->copy);
        if (!copy_bench_finish(bench, 3 * 3600 * SEC_NS)) {
            fprintf(stderr, "stuck in phase %s at %llu of %llu: %s\n",
                    copy_phase_name(bench->progress.phase),
                    (unsigned long long)bench->progress.bytes_done,
                    (unsigned long long)bench->progress.bytes_total, bench->progress.last_error);
            CHECK(!"a copy comes to an end");
        }
    }
    if (bench->progress.phase == COPY_BROKEN && !story->fatal[bench->error.code]) {
        fprintf(stderr, "broken without a reason: %s\n", bench->error.detail);
        CHECK(!"a reason");
    }
}

static void run(uint64_t seed)
{
    static struct story story;
    struct copy_bench *bench = &story.bench;
    memset(&story, 0, sizeof(story));
    begin(&story, seed);
    for (unsigned lives = 0;; lives++) {
        bool quiet = lives >= 5;
        if (quiet) { /* no more trouble: now it has to succeed */
            bench->source_opener.n_faults = 0;
            bench->target_opener.n_faults = 0;
            bench->spec.start_suspended = false;
            memset(story.fatal, 0, sizeof(story.fatal));
        }
        live(&story, quiet);
        bool done = bench->progress.phase == COPY_DONE;
        CHECK(!quiet || done);
        bench->spec.checkpoint_bytes = bench->progress.checkpoint_bytes;
        bench->spec.verifying = bench->progress.verifying;
        copy_bench_end(bench);
        if (done) {
            break;
        }
        /* The machine of the target may have been switched off, too. */
        test_disk_lose(bench->target, chance(1, 2) ? &bench->random : NULL);
    }
    copy_bench_fini(bench);
}

int main(int argc, char **argv)
{
    return sim_main(argc, argv,
                    &(struct sim){.name = "copy", .seeds = SIM_SEEDS(500, 500, 80), .run = run});
}
