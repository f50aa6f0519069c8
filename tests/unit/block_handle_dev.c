// SPDX-License-Identifier: Apache-2.0
/*
 * Handles on the own loop and on another one, in virtual time, and on real loops in threads of
 * their own (for TSan).
 */
#include "tests/unit/block_io.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/random.h"
#include "block/fault_dev.h"
#include "block/front_dev.h"
#include "block/handle_dev.h"
#include "block/mem_dev.h"

enum { SIZE = 1 << 20, N = 16, BLOCK = 4096 };

/* ---- in virtual time ---- */

static struct loop_sim *sim;
static struct loop *near_loop;
static struct loop *far_loop;
static struct blockdev *mem;
static struct blockdev *fault;
static struct blockdev *handle;
static uint8_t data[BLOCK];
static struct io ios[N];

static void opened(void *arg, struct blockdev *dev, const struct error *error)
{
    assert_null(error);
    assert_null(*(struct blockdev **)arg);
    *(struct blockdev **)arg = dev;
}

static void setup_at(bool same)
{
    assert_int_equal(loop_sim_new(7, &sim), 0);
    assert_int_equal(loop_sim_add(sim, "near", &near_loop), 0);
    assert_int_equal(loop_sim_add(sim, "far", &far_loop), 0);
    struct loop *there = same ? near_loop : far_loop;
    assert_int_equal(mem_dev_new(there, &(struct mem_dev_spec){.size_bytes = SIZE}, &mem), 0);
    assert_int_equal(fault_dev_new(mem, 1, &fault), 0);
    handle = NULL;
    handle_dev_open(near_loop, fault, opened, &handle);
    assert_null(handle);
    loop_sim_run_until_idle(sim);
    assert_non_null(handle);
    memset(data, 1, sizeof(data));
}

static void teardown_all(void)
{
    bool closed = false;
    if (handle) {
        blockdev_close(handle, io_flag, &closed);
        loop_sim_run_until_idle(sim);
        assert_true(closed);
    }
    closed = false;
    blockdev_close(fault, io_flag, &closed);
    loop_sim_run_until_idle(sim);
    assert_true(closed);
    loop_free(near_loop);
    loop_free(far_loop);
    loop_sim_free(sim);
}

static void start_n(enum block_op op)
{
    bool payload = op == BLOCK_READ || op == BLOCK_WRITE;
    for (unsigned i = 0; i < N; i++) {
        io_start(&ios[i], handle, op, (uint64_t)i * BLOCK, payload ? data : NULL, BLOCK, 0);
    }
}

static void expect_all(bool done, int status)
{
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(ios[i].done, done);
        if (done) {
            assert_int_equal(ios[i].req.status, status);
        }
    }
}

static void each_operation_at(bool same)
{
    setup_at(same);
    assert_int_equal(handle->info.size_bytes, SIZE);
    start_n(BLOCK_WRITE);
    loop_sim_run_until_idle(sim);
    expect_all(true, 0);
    memset(data, 0, BLOCK);
    io_start(&ios[0], handle, BLOCK_READ, BLOCK, data, BLOCK, 0);
    loop_sim_run_until_idle(sim);
    assert_int_equal(data[BLOCK - 1], 1);
    io_start(&ios[0], handle, BLOCK_MAP, 0, NULL, SIZE, 0);
    io_start(&ios[1], handle, BLOCK_FLUSH, 0, NULL, 0, 0);
    io_start(&ios[2], handle, BLOCK_READ, SIZE, data, BLOCK, 0);
    loop_sim_run_until_idle(sim);
    assert_int_equal(ios[0].req.n_extents, 2);
    assert_int_equal(ios[0].extents[0].len, N * BLOCK);
    assert_int_equal(ios[1].req.status, 0);
    assert_int_equal(ios[2].req.status, -EINVAL);
    fault_dev_add(fault, &(struct fault_rule){.action = FAULT_FAIL, .status = -ENOSPC});
    start_n(BLOCK_ZERO);
    loop_sim_run_until_idle(sim);
    expect_all(true, -ENOSPC);
    assert_int_equal(mem_dev_stats(mem)->requests[BLOCK_WRITE], N);
    teardown_all();
}

static void each_operation_passes_on_one_loop(void **state)
{
    (void)state;
    each_operation_at(true);
}

static void each_operation_passes_between_loops(void **state)
{
    (void)state;
    each_operation_at(false);
}

static void slices_in_parts_arrive_in_order_and_without_their_buffers(void **state)
{
    (void)state;
    setup_at(false);
    struct buffer_pool *pool;
    assert_int_equal(buffer_pool_new(BLOCK, 1, &pool), 0);
    struct buffer *buffer = buffer_pool_get(pool);
    for (unsigned i = 0; i < BLOCK; i++) {
        buffer->data[i] = (uint8_t)(i / 512);
    }
    struct slice parts[8];
    for (unsigned i = 0; i < 8; i++) {
        parts[i] = slice_of(buffer, (7 - i) * (size_t)512, 512);
    }
    unsigned refs = buffer->refs;
    struct io io = {.req = {.op = BLOCK_WRITE,
                            .len = BLOCK,
                            .slices = parts,
                            .n_slices = 8,
                            .done = io_done,
                            .arg = &io}};
    blockdev_submit(handle, &io.req);
    loop_sim_run_until_idle(sim);
    assert_true(io.done && io.req.status == 0);
    assert_int_equal(buffer->refs, refs);
    mem_disk_peek(mem_dev_disk(mem), 0, data, BLOCK);
    for (unsigned i = 0; i < BLOCK; i++) {
        assert_int_equal(data[i], 7 - i / 512);
    }
    for (unsigned i = 0; i < 8; i++) {
        slice_unref(&parts[i]);
    }
    buffer_unref(buffer);
    buffer_pool_free(pool);
    teardown_all();
}

static void close_waits_at(bool same)
{
    setup_at(same);
    fault_dev_add(fault, &(struct fault_rule){.action = FAULT_HOLD, .count = N});
    start_n(BLOCK_WRITE);
    loop_sim_run_until_idle(sim);
    assert_int_equal(fault_dev_held(fault), N);
    bool closed = false;
    blockdev_close(handle, io_flag, &closed);
    handle = NULL;
    fault_dev_release(fault, N - 1);
    loop_sim_run_until_idle(sim);
    assert_false(closed);
    assert_int_equal(fault_dev_release(fault, 1), 1);
    loop_sim_run_until_idle(sim);
    assert_true(closed);
    expect_all(true, 0);
    /* The device is not closed by it. */
    assert_int_equal(io_do(fault, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
    teardown_all();
}

static void a_close_waits_for_what_is_under_way(void **state)
{
    (void)state;
    close_waits_at(true);
    close_waits_at(false);
}

static void refresh_at(bool same)
{
    setup_at(same);
    bool refreshed = false;
    mem->info.size_bytes = SIZE / 2;
    mem->info.read_only = true;
    blockdev_emit(mem, BLOCK_EVENT_UP, 0, "");
    assert_int_equal(handle->info.size_bytes, SIZE);
    handle_dev_refresh(handle, io_flag, &refreshed);
    assert_false(refreshed);
    loop_sim_run_until_idle(sim);
    assert_true(refreshed);
    assert_int_equal(handle->info.size_bytes, SIZE / 2);
    assert_true(handle->info.read_only);
    /* A close with one on its way comes after it. */
    bool closed = false;
    refreshed = false;
    handle_dev_refresh(handle, NULL, NULL);
    handle_dev_refresh(handle, io_flag, &refreshed);
    blockdev_close(handle, io_flag, &closed);
    handle = NULL;
    loop_sim_run_until_idle(sim);
    assert_true(refreshed && closed);
    teardown_all();
}

static void a_refresh_brings_the_info_of_the_device(void **state)
{
    (void)state;
    refresh_at(true);
    refresh_at(false);
}

static void a_change_that_the_handle_has_not_seen_is_refused_by_the_device(void **state)
{
    (void)state;
    setup_at(false);
    fault->info.size_bytes = SIZE / 2;
    io_start(&ios[0], handle, BLOCK_WRITE, SIZE / 2, data, BLOCK, 0);
    loop_sim_run_until_idle(sim);
    assert_int_equal(ios[0].req.status, -EINVAL);
    teardown_all();
}

/* ---- in threads ---- */

enum { WORKERS = 3, SLOTS = 32, ROUNDS = 60, AREA = SLOTS * BLOCK };

struct worker {
    struct loop *loop;
    struct blockdev *handle;
    struct loop_task start;
    uint64_t area; /* ours alone, at this offset */
    struct random random;
    struct worker_slot {
        struct worker *worker;
        struct io io;
        uint8_t data[BLOCK];
        uint64_t offset;
        uint32_t expected; /* what the block has, 0 nothing yet */
        unsigned rounds;
    } slots[SLOTS];
    unsigned ended;
    _Atomic bool done;
};

static struct blockdev *shared_front;

static void slot_next(struct worker_slot *slot);

static void worker_closed(void *arg)
{
    struct worker *worker = arg;
    atomic_store(&worker->done, true);
}

static void slot_done(struct block_req *req)
{
    struct worker_slot *slot = req->arg;
    struct worker *worker = slot->worker;
    assert_true(loop_is_current(worker->loop));
    assert_int_equal(req->status, 0);
    if (req->op == BLOCK_READ) {
        for (unsigned i = 0; i < BLOCK; i += 512) {
            assert_memory_equal(slot->data + i, &slot->expected, sizeof(slot->expected));
        }
    }
    if (++slot->rounds < ROUNDS) {
        slot_next(slot);
    } else if (++worker->ended == SLOTS) {
        blockdev_close(worker->handle, worker_closed, worker);
    }
}

static void slot_next(struct worker_slot *slot)
{
    struct worker *worker = slot->worker;
    enum block_op op = slot->rounds % 2 ? BLOCK_READ : BLOCK_WRITE;
    if (op == BLOCK_WRITE) {
        slot->expected = (uint32_t)random_u64(&worker->random) | 1;
        for (unsigned i = 0; i < BLOCK; i += 512) {
            memcpy(slot->data + i, &slot->expected, sizeof(slot->expected));
        }
    } else {
        memset(slot->data, 0, BLOCK);
    }
    slot->io.slice = (struct slice){.data = slot->data, .len = BLOCK};
    slot->io.req = (struct block_req){.op = op,
                                      .offset = slot->offset,
                                      .len = BLOCK,
                                      .slices = &slot->io.slice,
                                      .n_slices = 1,
                                      .done = slot_done,
                                      .arg = slot};
    blockdev_submit(worker->handle, &slot->io.req);
}

static void worker_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct worker *worker = arg;
    assert_null(error);
    worker->handle = dev;
    for (unsigned i = 0; i < SLOTS; i++) {
        worker->slots[i].worker = worker;
        worker->slots[i].offset = worker->area + (uint64_t)i * BLOCK;
        slot_next(&worker->slots[i]);
    }
}

static void worker_start(void *arg)
{
    struct worker *worker = arg;
    handle_dev_open(worker->loop, shared_front, worker_opened, worker);
}

/* Barriers all the time, at the device's loop, while the workers go on. */
static struct loop_task barrier_task;
static _Atomic bool barriers_end;
static _Atomic unsigned barriers;

static void barrier_over(void *arg)
{
    (void)arg;
    atomic_fetch_add(&barriers, 1);
    /* As a message, so that the others have their turns. */
    loop_post(shared_front->loop, &barrier_task);
}

static void barrier_next(void *arg)
{
    struct blockdev *front = arg;
    if (atomic_load(&barriers_end)) {
        atomic_store(&barriers_end, false);
    } else {
        assert_int_equal(front_dev_replace(front, front_dev_below(front), barrier_over, NULL), 0);
    }
}

static void workers_of_three_loops_read_what_they_wrote(void **state)
{
    (void)state;
    struct loop *loops[2];
    struct blockdev *disk;
    assert_int_equal(loop_new("device", &loops[0]), 0);
    assert_int_equal(loop_new("other", &loops[1]), 0);
    struct mem_dev_spec spec = {.size_bytes = (uint64_t)WORKERS * AREA};
    assert_int_equal(mem_dev_new(loops[0], &spec, &disk), 0);
    assert_int_equal(front_dev_new(disk, &shared_front), 0);
    struct worker *workers = calloc(WORKERS, sizeof(*workers));
    assert_non_null(workers);
    /* One on the loop of the device, two on another one. */
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].loop = loops[i > 0];
        workers[i].area = (uint64_t)i * AREA;
        random_seed(&workers[i].random, i + 1);
        workers[i].start = (struct loop_task){.fn = worker_start, .arg = &workers[i]};
    }
    barrier_task = (struct loop_task){.fn = barrier_next, .arg = shared_front};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(loop_thread_start(loops[i]), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        loop_post(workers[i].loop, &workers[i].start);
    }
    loop_post(loops[0], &barrier_task);
    for (unsigned i = 0; i < WORKERS; i++) {
        while (!atomic_load(&workers[i].done)) {
            sched_yield();
        }
    }
    atomic_store(&barriers_end, true);
    while (atomic_load(&barriers_end)) {
        sched_yield();
    }
    assert_true(atomic_load(&barriers) > 2);
    for (unsigned i = 0; i < 2; i++) {
        loop_thread_join(loops[i]);
    }
    io_close(shared_front);
    assert_int_equal(mem_dev_stats(disk)->requests[BLOCK_READ], WORKERS * SLOTS * ROUNDS / 2);
    io_close(disk);
    free(workers);
    loop_free(loops[0]);
    loop_free(loops[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_operation_passes_on_one_loop),
        cmocka_unit_test(each_operation_passes_between_loops),
        cmocka_unit_test(slices_in_parts_arrive_in_order_and_without_their_buffers),
        cmocka_unit_test(a_close_waits_for_what_is_under_way),
        cmocka_unit_test(a_refresh_brings_the_info_of_the_device),
        cmocka_unit_test(a_change_that_the_handle_has_not_seen_is_refused_by_the_device),
        cmocka_unit_test(workers_of_three_loops_read_what_they_wrote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
