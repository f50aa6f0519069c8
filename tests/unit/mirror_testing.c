// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/mirror_testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static void init_on_loops(struct mirror_bench *bench, uint64_t seed, uint64_t size)
{
    random_seed(&bench->random, seed + 1);
    bench->size = size;
    bench->source = test_disk_new(size);
    bench->target = test_disk_new(size);
    test_disk_fill(bench->source, 0, size, seed + 2);
    test_disk_fill(bench->target, 0, size, seed + 3);
    bench->map_disk = layer_disk_new(seed, 50);
    struct test_dev_spec spec = {
        .block_bytes = 512,
        .max_bytes = 4 * MIB,
        .max_inflight = 256,
        .can_map = true,
        .volatile_cache = true,
        .lose_all = true,
    };
    test_opener_init(&bench->source_opener, bench->loop, bench->source, &spec, &bench->random);
    test_opener_init(&bench->target_opener, bench->loop, bench->target, &spec, &bench->random);
    bench->spec = (struct mirror_spec){.name = "test",
                                       .leg = &bench->target_opener.base,
                                       .size_bytes = size,
                                       .map_path = MIRROR_MAP,
                                       .connect = true,
                                       .all_differs = true,
                                       .map_files = layer_disk_backend(bench->map_disk)};
}

void mirror_bench_init(struct mirror_bench *bench, uint64_t seed, uint64_t size)
{
    memset(bench, 0, sizeof(*bench));
    CHECK(loop_sim_new(seed, &bench->sim) == 0);
    CHECK(loop_sim_add(bench->sim, "control", &bench->owner) == 0);
    CHECK(loop_sim_add(bench->sim, "data", &bench->loop) == 0);
    init_on_loops(bench, seed, size);
}

void mirror_bench_init_beside(struct mirror_bench *bench, const struct mirror_bench *host,
                              uint64_t seed, uint64_t size)
{
    memset(bench, 0, sizeof(*bench));
    bench->is_guest = true;
    bench->sim = host->sim;
    bench->owner = host->owner;
    CHECK(loop_sim_add(bench->sim, "beside", &bench->loop) == 0);
    init_on_loops(bench, seed, size);
}

void mirror_bench_make_equal(struct mirror_bench *bench)
{
    memcpy(bench->target->data, bench->source->data, bench->size);
    memcpy(bench->target->stable, bench->source->stable, bench->size);
    bench->spec.all_differs = false;
}

static void on_progress(void *arg, const struct mirror_progress *progress,
                        const struct error *error)
{
    struct mirror_bench *bench = arg;
    CHECK(!bench->ended);
    CHECK((error != NULL) == (progress->phase == MIRROR_BROKEN) || progress->phase == MIRROR_ENDED);
    if (bench->n_phases == 0 || bench->phases[bench->n_phases - 1] != progress->phase) {
        CHECK(bench->n_phases < ARRAY_LEN(bench->phases));
        bench->phases[bench->n_phases++] = progress->phase;
    }
    /* As the service records it: before this returns. */
    if (progress->phase == MIRROR_EQUAL && bench->spec.direction == MIRROR_FROM_LEG) {
        CHECK(progress->direction == MIRROR_TO_LEG);
        bench->spec.direction = MIRROR_TO_LEG;
        bench->restored = true;
    }
    bench->progress = *progress;
    bench->has_error = error != NULL;
    if (error) {
        bench->error = *error;
    }
}

static void on_ended(void *arg, const struct error *error)
{
    struct mirror_bench *bench = arg;
    CHECK(!bench->ended);
    bench->ended = true;
    bench->ended_with_error = error != NULL;
}

static void below_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct mirror_bench *bench = arg;
    CHECK(!error);
    bench->below = dev;
}

static bool has_below(void *arg)
{
    return ((struct mirror_bench *)arg)->below != NULL;
}

void mirror_bench_open_below(struct mirror_bench *bench)
{
    struct test_opener *source = &bench->source_opener;
    source->base.ops->open(&source->base, bench->loop, below_opened, bench);
    CHECK(loop_sim_run_until(bench->sim, has_below, bench, 60 * SEC_NS));
}

void mirror_bench_start(struct mirror_bench *bench)
{
    static const struct mirror_events events = {.progress = on_progress, .ended = on_ended};
    CHECK(!bench->mirror);
    bench->ended = false;
    bench->n_phases = 0;
    bench->n_done = 0;
    bench->has_error = false;
    memset(&bench->progress, 0, sizeof(bench->progress));
    bench->target_opener.freed = false;
    if (!bench->below) {
        mirror_bench_open_below(bench);
    }
    bench->mirror = mirror_new(bench->owner, bench->loop, &bench->spec, &events, bench);
    CHECK(mirror_make_dev(bench->mirror, bench->below, &bench->dev) == 0);
}

static void set_flag(void *arg)
{
    *(bool *)arg = true;
}

static bool is_set(void *arg)
{
    return *(bool *)arg;
}

static void close_dev(struct mirror_bench *bench, struct blockdev **dev)
{
    bool closed = false;
    if (*dev) {
        blockdev_close(*dev, set_flag, &closed);
        *dev = NULL;
        CHECK(loop_sim_run_until(bench->sim, is_set, &closed, 600 * SEC_NS));
    }
}

static bool has_ended(void *arg)
{
    return ((struct mirror_bench *)arg)->ended;
}

void mirror_bench_stop(struct mirror_bench *bench, bool remove_map)
{
    close_dev(bench, &bench->dev);
    mirror_end(bench->mirror, remove_map);
    CHECK(loop_sim_run_until(bench->sim, has_ended, bench, 600 * SEC_NS));
    mirror_free(bench->mirror);
    bench->mirror = NULL;
    close_dev(bench, &bench->below);
    loop_sim_run_until_idle(bench->sim);
    CHECK(bench->target_opener.freed);
}

struct disk_copy {
    uint8_t *data, *mapped;
};

static struct disk_copy disk_copy_take(const struct test_disk *disk)
{
    struct disk_copy copy = {malloc(disk->size), malloc(disk->size / TEST_PAGE + 1)};
    CHECK(copy.data && copy.mapped);
    memcpy(copy.data, disk->data, disk->size);
    memcpy(copy.mapped, disk->mapped, disk->size / TEST_PAGE + 1);
    return copy;
}

static void disk_copy_put(struct test_disk *disk, struct disk_copy copy)
{
    memcpy(disk->data, copy.data, disk->size);
    memcpy(disk->stable, copy.data, disk->size);
    memcpy(disk->mapped, copy.mapped, disk->size / TEST_PAGE + 1);
    memcpy(disk->stable_mapped, copy.mapped, disk->size / TEST_PAGE + 1);
    memset(disk->dirty, 0, (disk->size / 512 + 1) * sizeof(*disk->dirty));
    free(copy.data);
    free(copy.mapped);
}

void mirror_bench_crash(struct mirror_bench *bench, bool leg_too)
{
    if (!layer_disk_is_cut(bench->map_disk)) {
        layer_disk_cut_at(bench->map_disk, 1);
    }
    test_disk_lose(bench->source, random_chance(&bench->random, 1, 2) ? &bench->random : NULL);
    if (leg_too) {
        test_disk_lose(bench->target, random_chance(&bench->random, 1, 2) ? &bench->random : NULL);
    }
    /* What happens while all is taken down has not happened. */
    struct disk_copy source = disk_copy_take(bench->source);
    struct disk_copy target = disk_copy_take(bench->target);
    mirror_bench_stop(bench, false);
    disk_copy_put(bench->source, source);
    disk_copy_put(bench->target, target);
    if (!layer_disk_is_cut(bench->map_disk)) {
        layer_disk_cut_at(bench->map_disk, 0);
    }
    layer_disk_power_on(bench->map_disk);
}

void mirror_bench_fini(struct mirror_bench *bench)
{
    if (bench->mirror) {
        mirror_bench_stop(bench, false);
    }
    loop_free(bench->loop);
    if (!bench->is_guest) {
        loop_free(bench->owner);
        loop_sim_free(bench->sim);
    }
    test_disk_free(bench->source);
    test_disk_free(bench->target);
    layer_disk_free(bench->map_disk);
}

struct phase_wait {
    struct mirror_bench *bench;
    enum mirror_phase phase;
};

static bool is_in_phase(void *arg)
{
    struct phase_wait *wait = arg;
    return wait->bench->n_phases > 0 && wait->bench->progress.phase == wait->phase;
}

bool mirror_bench_until(struct mirror_bench *bench, enum mirror_phase phase, uint64_t limit_ns)
{
    struct phase_wait wait = {.bench = bench, .phase = phase};
    return loop_sim_run_until(bench->sim, is_in_phase, &wait, limit_ns);
}

void mirror_bench_until_equal(struct mirror_bench *bench)
{
    if (!mirror_bench_until(bench, MIRROR_EQUAL, 600 * SEC_NS)) {
        fprintf(stderr, "phase %s, %llu bytes marked: %s\n",
                mirror_phase_name(bench->progress.phase),
                (unsigned long long)bench->progress.marked_bytes, bench->progress.last_error);
        CHECK(!"the sides become equal");
    }
}

void mirror_bench_done(void *arg, const struct error *error)
{
    struct mirror_bench *bench = arg;
    bench->n_done++;
    bench->done_failed = error != NULL;
    if (error) {
        bench->done_error = *error;
    }
}

struct done_wait {
    struct mirror_bench *bench;
    unsigned n;
};

static bool is_done(void *arg)
{
    struct done_wait *wait = arg;
    return wait->bench->n_done >= wait->n;
}

bool mirror_bench_until_done(struct mirror_bench *bench, unsigned n, uint64_t limit_ns)
{
    struct done_wait wait = {.bench = bench, .n = n};
    return loop_sim_run_until(bench->sim, is_done, &wait, limit_ns);
}

struct request {
    struct block_req req;
    struct slice slice;
    bool done;
};

static void request_done(struct block_req *req)
{
    struct request *request = req->arg;
    request->done = true;
}

static bool request_is_done(void *arg)
{
    return ((struct request *)arg)->done;
}

int mirror_bench_do(struct mirror_bench *bench, enum block_op op, uint64_t offset, void *data,
                    uint64_t len, unsigned flags)
{
    struct request request = {.slice = {.data = data, .len = len}};
    request.req = (struct block_req){.op = op,
                                     .flags = flags,
                                     .offset = offset,
                                     .len = len,
                                     .slices = data ? &request.slice : NULL,
                                     .n_slices = data != NULL,
                                     .done = request_done,
                                     .arg = &request};
    blockdev_submit(bench->dev, &request.req);
    CHECK(loop_sim_run_until(bench->sim, request_is_done, &request, 600 * SEC_NS));
    return request.req.status;
}

int mirror_bench_write(struct mirror_bench *bench, uint64_t offset, uint64_t len, unsigned flags)
{
    uint8_t *data = malloc(len);
    CHECK(data);
    random_fill(&bench->random, data, len);
    int status = mirror_bench_do(bench, BLOCK_WRITE, offset, data, len, flags);
    free(data);
    return status;
}

int mirror_bench_flush(struct mirror_bench *bench)
{
    return mirror_bench_do(bench, BLOCK_FLUSH, 0, NULL, 0, 0);
}

void mirror_bench_check_equal(struct mirror_bench *bench)
{
    for (uint64_t at = 0; at < bench->size; at += 512) {
        if (memcmp(bench->source->data + at, bench->target->data + at, 512) != 0 ||
            memcmp(bench->source->stable + at, bench->target->stable + at, 512) != 0) {
            fprintf(stderr, "the sides differ at %llu\n", (unsigned long long)at);
            CHECK(!"both sides are equal");
        }
    }
}
