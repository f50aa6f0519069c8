// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/loop_sim.h"
#include "replication/change_map.h"
#include "tests/unit/layer_disk.h"

#define MIB  (UINT64_C(1) << 20)
#define PATH "pool/m.changes"

struct bench {
    struct loop_sim *sim;
    struct loop *loop;
    struct layer_disk *disk;
    struct change_map *map;
    struct error error;
    bool opened;
};

static void bench_init(struct bench *bench, uint64_t seed)
{
    memset(bench, 0, sizeof(*bench));
    assert_int_equal(loop_sim_new(seed, &bench->sim), 0);
    assert_int_equal(loop_sim_add(bench->sim, "data", &bench->loop), 0);
    bench->disk = layer_disk_new(seed, 50);
}

static void on_open(void *arg, struct change_map *map, const struct error *error)
{
    struct bench *bench = arg;
    assert_true((map == NULL) == (error != NULL));
    bench->opened = true;
    bench->map = map;
    if (error) {
        bench->error = *error;
    }
}

static bool is_true(void *arg)
{
    return *(bool *)arg;
}

static void set_true(void *arg)
{
    *(bool *)arg = true;
}

static bool bench_open(struct bench *bench, uint64_t size, bool all)
{
    struct change_map_spec spec = {.files = layer_disk_backend(bench->disk),
                                   .path = PATH,
                                   .size_bytes = size,
                                   .all_differs = all};
    bench->opened = false;
    assert_int_equal(change_map_open(bench->loop, &spec, on_open, bench), 0);
    assert_true(loop_sim_run_until(bench->sim, is_true, &bench->opened, SEC_NS));
    return bench->map != NULL;
}

static void bench_close(struct bench *bench, bool remove)
{
    bool closed = false;
    change_map_close(bench->map, remove, set_true, &closed);
    bench->map = NULL;
    assert_true(loop_sim_run_until(bench->sim, is_true, &closed, SEC_NS));
}

static void bench_fini(struct bench *bench)
{
    if (bench->map) {
        bench_close(bench, false);
    }
    loop_free(bench->loop);
    loop_sim_free(bench->sim);
    layer_disk_free(bench->disk);
}

struct wait {
    struct change_mark mark;
    bool done;
    int status;
};

static void on_mark(struct change_mark *mark, int status)
{
    struct wait *wait = (struct wait *)mark;
    assert_false(wait->done);
    wait->done = true;
    wait->status = status;
}

/* 1 when it may be written. */
static int begin(struct bench *bench, uint64_t offset, uint64_t len)
{
    struct wait wait = {.mark = {.done = on_mark}};
    int rc = change_map_begin(bench->map, &wait.mark, offset, len);
    if (rc == 0) {
        assert_true(loop_sim_run_until(bench->sim, is_true, &wait.done, SEC_NS));
        rc = wait.status ? wait.status : 1;
    }
    return rc;
}

static void change(struct bench *bench, uint64_t offset, uint64_t len, enum change_end how)
{
    assert_int_equal(begin(bench, offset, len), 1);
    change_map_end(bench->map, offset, len, how);
}

static void flush(struct bench *bench)
{
    assert_true(change_map_flush_begin(bench->map));
    change_map_flush_end(bench->map, true);
}

static uint64_t marked_runs(struct bench *bench, struct change_run *runs, unsigned max)
{
    unsigned n = 0;
    uint64_t from = 0;
    while (n < max && change_map_next(bench->map, from, UINT64_MAX, false, &runs[n])) {
        from = runs[n].offset + runs[n].len;
        n++;
        if (from % CHANGE_GRANULE_BYTES != 0) {
            break;
        }
    }
    return n;
}

static void a_new_map_knows_nothing(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 1);
    assert_true(bench_open(&bench, 10 * MIB + 512, false));
    assert_int_equal(change_map_marked_bytes(bench.map), 0);
    bench_close(&bench, false);
    assert_true(bench_open(&bench, 10 * MIB + 512, false));
    assert_int_equal(change_map_marked_bytes(bench.map), 0);
    bench_close(&bench, true);
    assert_true(bench_open(&bench, 10 * MIB + 512, true)); /* a new one: it was removed */
    assert_int_equal(change_map_marked_bytes(bench.map), 10 * MIB + 512);
    bench_close(&bench, false);
    assert_true(bench_open(&bench, 10 * MIB + 512, false));
    assert_int_equal(change_map_marked_bytes(bench.map), 10 * MIB + 512);
    struct change_run run;
    assert_true(change_map_next(bench.map, 0, UINT64_MAX, false, &run));
    assert_int_equal(run.offset, 0);
    assert_int_equal(run.len, 10 * MIB + 512);
    assert_false(run.stale);
    bench_fini(&bench);
}

static void granules(void **state)
{
    (void)state;
    struct bench bench;
    struct change_run runs[8];
    bench_init(&bench, 2);
    assert_true(bench_open(&bench, 10 * MIB + 512, false));
    change(&bench, 4095, 2, CHANGE_DIFFERS);
    change(&bench, 2 * MIB - 4096, 8192, CHANGE_DIFFERS);
    change(&bench, 10 * MIB, 512, CHANGE_DIFFERS);
    assert_int_equal(marked_runs(&bench, runs, 8), 3);
    assert_int_equal(runs[0].offset, 0);
    assert_int_equal(runs[0].len, 8192);
    assert_int_equal(runs[1].offset, 2 * MIB - 4096);
    assert_int_equal(runs[1].len, 8192);
    assert_int_equal(runs[2].offset, 10 * MIB);
    assert_int_equal(runs[2].len, 512);
    assert_int_equal(change_map_marked_bytes(bench.map), 5 * 4096);
    /* What was written on both is the same in whole granules only. */
    change(&bench, 512, 4096, CHANGE_SAME);
    assert_int_equal(change_map_marked_bytes(bench.map), 5 * 4096);
    change(&bench, 0, 4608, CHANGE_SAME);
    change(&bench, 10 * MIB, 512, CHANGE_DURABLE);
    assert_int_equal(marked_runs(&bench, runs, 8), 2);
    assert_int_equal(runs[0].offset, 4096);
    assert_int_equal(runs[0].len, 4096);
    change_map_turn(bench.map, true);
    assert_int_equal(change_map_stale_bytes(bench.map), 3 * 4096);
    assert_int_equal(change_map_dirty_bytes(bench.map), 0);
    assert_true(change_map_any_stale(bench.map, 0, 5000));
    assert_false(change_map_any_stale(bench.map, 0, 4096));
    assert_false(change_map_next(bench.map, 0, UINT64_MAX, true, runs));
    change(&bench, 4096, 4096, CHANGE_FAILED);
    assert_int_equal(change_map_stale_bytes(bench.map), 3 * 4096);
    change(&bench, 4096, 4096, CHANGE_DIFFERS);
    assert_true(change_map_next(bench.map, 0, UINT64_MAX, true, runs));
    assert_int_equal(runs[0].offset, 4096);
    bench_fini(&bench);
}

/* What the leg may have lost: written since the last flush of both began. */
static void recent_until_flushed(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 3);
    assert_true(bench_open(&bench, 10 * MIB, false));
    change(&bench, 0, 4096, CHANGE_SAME);
    change(&bench, 1 * MIB, 4096, CHANGE_DURABLE);
    assert_true(change_map_has_recent(bench.map));
    flush(&bench);
    assert_false(change_map_has_recent(bench.map));
    change_map_lost(bench.map, false);
    assert_int_equal(change_map_marked_bytes(bench.map), 0);
    change(&bench, 4096, 4096, CHANGE_SAME);
    assert_true(change_map_flush_begin(bench.map));
    assert_false(change_map_flush_begin(bench.map));
    change(&bench, 8192, 4096, CHANGE_SAME);
    change_map_flush_end(bench.map, true);
    change_map_lost(bench.map, false);
    assert_int_equal(change_map_marked_bytes(bench.map), 4096);
    change(&bench, 8192, 4096, CHANGE_DURABLE);
    change(&bench, 4096, 4096, CHANGE_SAME);
    assert_true(change_map_flush_begin(bench.map));
    change_map_flush_end(bench.map, false);
    assert_true(change_map_flush_begin(bench.map));
    change_map_lost(bench.map, false);
    change_map_flush_end(bench.map, true);
    assert_int_equal(change_map_marked_bytes(bench.map), 4096);
    bench_fini(&bench);
}

/* Many marks, few commits. */
static void marks_share_commits(void **state)
{
    (void)state;
    struct bench bench;
    static struct wait waits[1000];
    bench_init(&bench, 4);
    assert_true(bench_open(&bench, 3000 * MIB, false));
    memset(waits, 0, sizeof(waits));
    for (unsigned i = 0; i < 1000; i++) {
        waits[i].mark.done = on_mark;
        if (change_map_begin(bench.map, &waits[i].mark, i * 3 * MIB, 4096) == 1) {
            waits[i].done = true;
        }
    }
    for (unsigned i = 0; i < 1000; i++) {
        assert_true(loop_sim_run_until(bench.sim, is_true, &waits[i].done, SEC_NS));
        assert_int_equal(waits[i].status, 0);
        assert_true(change_map_is_marked(bench.map, i * 3 * MIB));
        change_map_end(bench.map, i * 3 * MIB, 4096, CHANGE_SAME);
    }
    /* As many as were at once at most, where a commit took no time. */
    uint64_t commits = change_map_commits(bench.map);
    assert_true(commits < 1000);
    uint64_t operations = layer_disk_operations(bench.disk);
    for (unsigned i = 0; i < 1000; i++) {
        change(&bench, i * 3 * MIB + 8192, 4096, CHANGE_SAME);
    }
    assert_int_equal(layer_disk_operations(bench.disk), operations);
    /* Who goes on to the next region finds it marked. */
    commits = change_map_commits(bench.map);
    for (unsigned i = 0; i < 800; i++) {
        change(&bench, 2100 * MIB + i * MIB, 4096, CHANGE_SAME);
    }
    assert_in_range(change_map_commits(bench.map) - commits, 1, 800);
    bench_fini(&bench);
}

/* Marks that are not needed go, the oldest first, and only after a flush. */
static void not_too_many_marks(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 5);
    assert_true(bench_open(&bench, 20000 * MIB, false));
    for (unsigned i = 0; i < CHANGE_ACTIVE_MAX + 100; i++) {
        change(&bench, i * 2 * MIB, 512, i % 2 ? CHANGE_SAME : CHANGE_DURABLE);
        change_map_tidy(bench.map, UINT64_MAX);
        assert_in_range(change_map_regions(bench.map), 0, CHANGE_ACTIVE_MAX + 1);
    }
    assert_true(change_map_is_marked(bench.map, 2 * MIB)); /* not flushed */
    assert_false(change_map_is_marked(bench.map, 0));
    assert_true(change_map_is_marked(bench.map, (CHANGE_ACTIVE_MAX + 98) * 2 * MIB));
    assert_true(change_map_tidy(bench.map, 0));
    flush(&bench);
    while (change_map_tidy(bench.map, 0)) {
    }
    loop_sim_run_until_idle(bench.sim);
    assert_int_equal(change_map_regions(bench.map), 0);
    change(&bench, 2 * MIB, 512, CHANGE_DIFFERS);
    flush(&bench);
    assert_false(change_map_tidy(bench.map, 0));
    assert_true(change_map_is_marked(bench.map, 2 * MIB)); /* differs */
    bench_fini(&bench);
}

static void a_mark_that_fails(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 6);
    assert_true(bench_open(&bench, 100 * MIB, false));
    for (unsigned i = 0; i < 8; i++) {
        layer_disk_fail(bench.disk, i % 2 ? LAYER_IO_SYNC : LAYER_IO_WRITE, 1, -EIO);
        assert_int_equal(begin(&bench, i * 10 * MIB, 2 * MIB), -EIO);
        assert_false(change_map_is_marked(bench.map, i * 10 * MIB));
        change(&bench, i * 10 * MIB, 2 * MIB, CHANGE_DIFFERS);
        assert_true(change_map_is_marked(bench.map, i * 10 * MIB));
    }
    bench_fini(&bench);
}

static void refused(void **state)
{
    (void)state;
    struct bench bench;
    uint8_t rubbish[8192];
    memset(rubbish, 0x77, sizeof(rubbish));
    bench_init(&bench, 7);
    assert_true(bench_open(&bench, 100 * MIB, false));
    change(&bench, 50 * MIB, 512, CHANGE_DIFFERS);
    bench_close(&bench, false);
    assert_false(bench_open(&bench, 101 * MIB, false));
    assert_int_equal(bench.error.code, ERR_INCOMPATIBLE);
    /* One of the two headers is enough. */
    layer_disk_poke(bench.disk, PATH, 0, rubbish, 4096);
    assert_true(bench_open(&bench, 100 * MIB, false));
    assert_int_equal(change_map_marked_bytes(bench.map), 4096);
    bench_close(&bench, false);
    /* Marks that are damaged count as set. */
    layer_disk_poke(bench.disk, PATH, 8192 + 100, rubbish, 1);
    assert_true(bench_open(&bench, 100 * MIB, false));
    assert_int_equal(change_map_marked_bytes(bench.map), 100 * MIB);
    change(&bench, 0, 512, CHANGE_DIFFERS);
    bench_close(&bench, false);
    layer_disk_poke(bench.disk, PATH, 4096, rubbish, 4096);
    assert_false(bench_open(&bench, 100 * MIB, false));
    bench_fini(&bench);
}

/* A file whose making was cut off says that everything differs, or nothing was there yet. */
static void made_with_a_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 30; seed++) {
        for (unsigned n = 1; n < 8; n++) {
            struct bench bench;
            bench_init(&bench, seed);
            layer_disk_cut_at(bench.disk, n);
            bool opened = bench_open(&bench, 100 * MIB, true);
            if (opened) {
                bench_close(&bench, false);
            }
            if (!layer_disk_is_cut(bench.disk)) {
                layer_disk_cut_at(bench.disk, 0);
            }
            layer_disk_power_on(bench.disk);
            assert_true(bench_open(&bench, 100 * MIB, false));
            assert_int_equal(change_map_marked_bytes(bench.map), 100 * MIB);
            bench_fini(&bench);
        }
    }
}

/* What was logged costs its granules after a crash, what was not costs its region. */
static void granules_in_the_log(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 8);
    assert_true(bench_open(&bench, 100 * MIB, false));
    for (unsigned i = 0; i < 80; i++) {
        change(&bench, i * MIB + i * 4096, 8192, CHANGE_DIFFERS);
    }
    assert_in_range(change_map_regions(bench.map), 80, 88); /* and some ahead */
    change_map_log(bench.map);
    loop_sim_run_until_idle(bench.sim);
    loop_sim_advance(bench.sim, MS_NS);
    change_map_tidy(bench.map, 0);
    loop_sim_advance(bench.sim, MS_NS);
    assert_int_equal(change_map_regions(bench.map), 0);
    assert_int_equal(change_map_marked_bytes(bench.map), 80 * 8192);
    change(&bench, 90 * MIB, 512, CHANGE_DIFFERS);
    layer_disk_cut_at(bench.disk, 1);
    bench_close(&bench, false);
    layer_disk_power_on(bench.disk);
    assert_true(bench_open(&bench, 100 * MIB, false));
    assert_int_equal(change_map_marked_bytes(bench.map), 80 * 8192 + MIB);
    /* An orderly end costs granules only: of this region all are marked now. */
    change(&bench, 95 * MIB, 512, CHANGE_DIFFERS);
    bench_close(&bench, false);
    assert_true(bench_open(&bench, 100 * MIB, false));
    assert_int_equal(change_map_marked_bytes(bench.map), 80 * 8192 + MIB + 4096);
    /* When nothing differs any more it is empty again. */
    for (unsigned i = 0; i < 100; i++) {
        change_map_copied(bench.map, i * MIB, MIB);
    }
    flush(&bench);
    change_map_forget_log(bench.map);
    bench_close(&bench, false);
    assert_true(bench_open(&bench, 100 * MIB, false));
    assert_int_equal(change_map_marked_bytes(bench.map), 0);
    bench_fini(&bench);
}

/* Beyond its room regions stay what they are: marked. */
static void a_full_log(void **state)
{
    (void)state;
    struct bench bench;
    enum { SIZE = 64 };
    bench_init(&bench, 9);
    assert_true(bench_open(&bench, SIZE * MIB, false));
    for (unsigned i = 0; i < SIZE * 128; i++) {
        change(&bench, i * UINT64_C(8192), 512, CHANGE_DIFFERS);
        if (i % 1000 == 0) {
            change_map_log(bench.map);
        }
    }
    change_map_log(bench.map);
    loop_sim_advance(bench.sim, SEC_NS);
    change_map_tidy(bench.map, 0);
    loop_sim_advance(bench.sim, SEC_NS);
    assert_false(change_map_is_busy(bench.map));
    uint64_t left = change_map_regions(bench.map);
    assert_in_range(left, SIZE / 4, SIZE * 3 / 4);
    uint64_t marked = change_map_marked_bytes(bench.map);
    assert_int_equal(marked, SIZE * 128 * 4096);
    bench_close(&bench, false);
    assert_true(bench_open(&bench, SIZE * MIB, false));
    assert_int_equal(change_map_marked_bytes(bench.map), marked + left * MIB / 2);
    bench_fini(&bench);
}

/* ---- the power is cut at every write ---- */

enum { REGIONS = 60, SIZE_MIB = REGIONS };

/* Of the first granule of each region. */
struct model {
    bool may_differ[REGIONS]; /* a write was let through, and no flush of both has been since */
    bool differs[REGIONS];    /* known to differ */
};

static bool cut_here(uint64_t seed, uint64_t n)
{
    struct bench bench;
    struct model model = {0};
    struct random random;
    bench_init(&bench, seed);
    random_seed(&random, seed);
    assert_true(bench_open(&bench, SIZE_MIB * MIB, false));
    layer_disk_cut_at(bench.disk, n);
    for (unsigned i = 0; i < 60; i++) {
        unsigned region = (unsigned)random_below(&random, REGIONS);
        unsigned last = region + (unsigned)random_below(&random, 2);
        last = last < REGIONS ? last : region;
        uint64_t len = (last - region) * MIB + 4096;
        switch (random_below(&random, 6)) {
        case 0:
            flush(&bench);
            memset(model.may_differ, 0, sizeof(model.may_differ));
            break;
        case 1:
            change_map_tidy(bench.map, 0);
            change_map_log(bench.map);
            break;
        case 2: /* copied */
            change_map_copied(bench.map, region * MIB, MIB);
            model.may_differ[region] |= model.differs[region];
            model.differs[region] = false;
            break;
        default:
            if (begin(&bench, region * MIB, len) == 1) {
                bool differs = random_below(&random, 4) == 0;
                change_map_end(bench.map, region * MIB, len,
                               differs ? CHANGE_DIFFERS : CHANGE_SAME);
                for (unsigned r = region; r <= last; r++) {
                    model.differs[r] = differs;
                    model.may_differ[r] |= !differs;
                }
            }
            break;
        }
        if (random_below(&random, 3) == 0) {
            loop_sim_run_until_idle(bench.sim);
        }
    }
    bool was_cut = layer_disk_is_cut(bench.disk);
    if (!was_cut) {
        layer_disk_cut_at(bench.disk, 1); /* the end is no orderly one either */
    }
    bench_close(&bench, false);
    layer_disk_cut_at(bench.disk, 0);
    layer_disk_power_on(bench.disk);
    assert_true(bench_open(&bench, SIZE_MIB * MIB, false));
    for (unsigned r = 0; r < REGIONS; r++) {
        struct change_run run;
        if (model.differs[r] || model.may_differ[r]) {
            assert_true(change_map_next(bench.map, r * MIB, 4096, false, &run));
            assert_int_equal(run.offset, r * MIB);
        }
    }
    bench_fini(&bench);
    return was_cut;
}

static void cut_at_every_write(void **state)
{
    (void)state;
    uint64_t cuts = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        uint64_t n = 1;
        while (cut_here(seed, n)) {
            n++;
            cuts++;
        }
        assert_true(n > 5);
    }
    print_message("%" PRIu64 " power cuts\n", cuts);
}

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_map_knows_nothing),
        cmocka_unit_test(granules),
        cmocka_unit_test(recent_until_flushed),
        cmocka_unit_test(marks_share_commits),
        cmocka_unit_test(not_too_many_marks),
        cmocka_unit_test(a_mark_that_fails),
        cmocka_unit_test(refused),
        cmocka_unit_test(made_with_a_cut),
        cmocka_unit_test(granules_in_the_log),
        cmocka_unit_test(a_full_log),
        cmocka_unit_test(cut_at_every_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
