// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/paths_world.h"

#include <stdio.h>
#include <stdlib.h>

static struct loop_sim *sim;
struct loop *loop;

/* ---- the target ---- */

struct lun target;

static void task_run(struct task *task)
{
    for (uint64_t i = 0; i < task->n && (task->op == BLOCK_WRITE || task->op == BLOCK_ZERO); i++) {
        target.now[task->block + i] = task->stamps[i];
    }
    for (uint64_t i = 0; i < task->n && task->op == BLOCK_READ; i++) {
        memcpy(task->req->slices[0].data + i * BLOCK, &target.now[task->block + i], 8);
    }
    if (task->op == BLOCK_FLUSH) {
        memcpy(target.stable, target.now, sizeof(target.now));
    }
}

static void task_free(struct task *task)
{
    list_remove(&task->link);
    loop_timer_stop(&task->timer);
    free(task);
}

static void task_due(void *arg)
{
    struct task *task = arg;
    struct block_req *req = task->req;

    if (req == NULL) {
        target.n_ghosts_done++;
    } else if (task->nexus->hold || task->nexus->dead) {
        loop_timer_start(&task->timer, MS_NS);
        return;
    }
    task_run(task);
    task_free(task);
    if (req != NULL) {
        blockdev_complete(req, 0);
    }
}

static struct nexus *of_nexus(struct blockdev *dev)
{
    return container_of(dev, struct nexus, base);
}

static uint64_t some_time(uint64_t most_ns)
{
    return most_ns == 0 ? 0 : random_below(&target.random, most_ns);
}

static void nexus_submit(struct blockdev *dev, struct block_req *req)
{
    struct nexus *nexus = of_nexus(dev);

    nexus->n_requests++;
    assert_false(nexus->fencing);
    if (!nexus->up) {
        blockdev_complete(req, -ENOTCONN);
        return;
    }
    struct task *task = calloc(1, sizeof(*task));
    assert_non_null(task);
    task->nexus = nexus;
    task->req = req;
    task->op = req->op;
    task->block = req->offset / BLOCK;
    task->n = req->len / BLOCK;
    for (uint64_t i = 0; i < task->n && req->op == BLOCK_WRITE; i++) {
        memcpy(&task->stamps[i], req->slices[0].data + i * BLOCK, 8);
    }
    list_push_back(&nexus->tasks, &task->link);
    loop_timer_init(&task->timer, loop, task_due, task);
    loop_timer_start(&task->timer, some_time(target.latency_ns));
}

void ghosts_forget(void)
{
    list_for_each_safe(link, following, &target.ghosts)
    {
        task_free(list_entry(link, struct task, link));
    }
}

/* All tasks of lost sessions end. */
static void logical_unit_reset(void)
{
    target.n_fences++;
    if (target.fences) {
        ghosts_forget();
    }
}

void nexus_lose(struct nexus *nexus, bool reset, const char *why)
{
    if (!nexus->up && !nexus->fencing) {
        return;
    }
    bool was_up = nexus->up;
    bool was_dead = nexus->dead;
    nexus->up = false;
    nexus->dead = false;
    nexus->fencing = false;
    nexus->reset = reset;
    loop_timer_stop(&nexus->fence);
    if (target.redial_ns != 0) {
        loop_timer_start(&nexus->redial, MS_NS + some_time(target.redial_ns));
    }
    blockdev_emit(&nexus->base, was_up ? BLOCK_EVENT_DOWN : BLOCK_EVENT_RETRY, 0, why);
    list_for_each_safe(link, following, &nexus->tasks)
    {
        struct task *task = list_entry(link, struct task, link);
        struct block_req *req = task->req;
        bool writes = task->op == BLOCK_WRITE || task->op == BLOCK_ZERO;

        if (writes && target.ghostly && !reset && !was_dead &&
            random_below(&target.random, 3) != 0) {
            task->req = NULL;
            list_remove(&task->link);
            list_push_back(&target.ghosts, &task->link);
            target.n_ghosts++;
            loop_timer_start(&task->timer, some_time(400 * MS_NS));
        } else {
            task_free(task);
        }
        blockdev_complete(req, -ENOTCONN);
    }
}

void nexus_back(struct nexus *nexus)
{
    loop_timer_stop(&nexus->redial);
    if (!nexus->up && !nexus->fencing) {
        nexus->up = true;
        blockdev_emit(&nexus->base, BLOCK_EVENT_UP, 1, "back");
    }
}

static void nexus_redialled(void *arg)
{
    nexus_back(arg);
}

static void nexus_fence_over(void *arg)
{
    struct nexus *nexus = arg;

    if (nexus->dead) {
        nexus_lose(nexus, false, "gone");
        return;
    }
    nexus->fencing = false;
    logical_unit_reset();
    nexus_back(nexus);
}

static void nexus_fence(struct blockdev *dev)
{
    struct nexus *nexus = of_nexus(dev);

    assert_true(nexus->up && list_empty(&nexus->tasks));
    nexus->up = false;
    nexus->fencing = true;
    loop_timer_start(&nexus->fence, target.fence_ms * MS_NS);
}

static bool nexus_was_reset(const struct blockdev *dev)
{
    return container_of(dev, const struct nexus, base)->reset;
}

struct nexus *nexuses[PATHS];

static void nexus_idle(void *arg)
{
    struct nexus *nexus = arg;
    block_close_fn done = nexus->close_done;
    void *done_arg = nexus->close_arg;

    if (nexuses[nexus->number] == nexus) {
        nexuses[nexus->number] = NULL;
    }
    free(nexus);
    done(done_arg);
}

static void nexus_close(struct blockdev *dev, block_close_fn done, void *arg)
{
    struct nexus *nexus = of_nexus(dev);

    nexus->close_done = done;
    nexus->close_arg = arg;
    loop_timer_stop(&nexus->redial);
    loop_timer_stop(&nexus->fence);
    list_for_each_safe(link, following, &nexus->tasks)
    {
        struct block_req *req = list_entry(link, struct task, link)->req;

        task_free(list_entry(link, struct task, link));
        blockdev_complete(req, -ECANCELED);
    }
    blockdev_when_idle(dev, nexus_idle, nexus);
}

static const struct blockdev_ops nexus_ops = {
    .kind = "nexus", .submit = nexus_submit, .close = nexus_close};

/* ---- openers ---- */

struct opener openers[PATHS];

static void opener_answer(void *arg)
{
    struct opener *opener = arg;
    block_opened_fn done = opener->done;

    opener->done = NULL;
    if (opener->fails != ERR_NONE) {
        struct error error;
        error_set(&error, opener->fails, "path %u does not open", opener->number);
        done(opener->arg, NULL, &error);
        return;
    }
    struct nexus *nexus = calloc(1, sizeof(*nexus));
    assert_non_null(nexus);
    nexus->base.ops = &nexus_ops;
    nexus->base.loop = loop;
    nexus->base.info = (struct block_info){.size_bytes = BLOCKS * BLOCK,
                                           .block_bytes = BLOCK,
                                           .physical_bytes = BLOCK,
                                           .max_bytes = 1 << 20,
                                           .max_inflight = 4,
                                           .can_map = opener->number != 1};
    nexus->number = opener->number;
    nexus->up = true;
    list_init(&nexus->tasks);
    loop_timer_init(&nexus->redial, loop, nexus_redialled, nexus);
    loop_timer_init(&nexus->fence, loop, nexus_fence_over, nexus);
    nexuses[opener->number] = nexus;
    done(opener->arg, &nexus->base, NULL);
}

static void opener_open(struct block_opener *base, struct loop *on, block_opened_fn done, void *arg)
{
    struct opener *opener = container_of(base, struct opener, base);

    assert_ptr_equal(on, loop);
    assert_null(opener->done);
    opener->done = done;
    opener->arg = arg;
    opener->opens++;
    if (!opener->silent) {
        loop_timer_start(&opener->timer, some_time(2 * MS_NS));
    }
}

static void opener_cancel(struct block_opener *base)
{
    struct opener *opener = container_of(base, struct opener, base);

    opener->fails = ERR_TERMINATED;
    loop_timer_start(&opener->timer, 0);
}

static void opener_free(struct block_opener *base)
{
    container_of(base, struct opener, base)->frees++;
}

static const struct block_opener_ops opener_ops = {
    .open = opener_open, .cancel = opener_cancel, .free = opener_free};

static void nexus_lun(const struct blockdev *dev, char *text, size_t size)
{
    snprintf(text, size, "%s", openers[container_of(dev, const struct nexus, base)->number].lun);
}

static const struct multi_ops ops = {
    .lun = nexus_lun, .fence = nexus_fence, .was_reset = nexus_was_reset};

/* ---- the device ---- */

struct multi_spec spec;
struct block_opener *multi_opener;
struct blockdev *multi;
struct error open_error;
bool open_told;
unsigned events[BLOCK_EVENT_CHANGED + 1];
struct path_meter *meters[PATHS];

void event(void *arg, struct blockdev *dev, enum block_event what, unsigned attempts,
           const char *detail)
{
    (void)arg;
    (void)attempts;
    assert_ptr_equal(dev, multi);
    assert_non_null(detail);
    events[what]++;
}

static void opened(void *arg, struct blockdev *dev, const struct error *error)
{
    (void)arg;
    assert_false(open_told);
    open_told = true;
    multi = dev;
    if (dev != NULL) {
        dev->on_event = event;
    } else {
        open_error = *error;
    }
}

void world_begin(uint64_t seed)
{
    assert_int_equal(loop_sim_new(seed, &sim), 0);
    assert_int_equal(loop_sim_add(sim, "test", &loop), 0);
    memset(&target, 0, sizeof(target));
    list_init(&target.ghosts);
    random_seed(&target.random, seed);
    target.fences = true;
    target.fence_ms = FENCE_MS;
    memset(nexuses, 0, sizeof(nexuses));
    memset(openers, 0, sizeof(openers));
    memset(events, 0, sizeof(events));
    memset(&spec, 0, sizeof(spec));
    multi = NULL;
    multi_opener = NULL;
    open_told = false;
    spec.ops = &ops;
    spec.n_paths = PATHS;
    spec.fence = true;
    snprintf(spec.name, sizeof(spec.name), "test");
    for (unsigned i = 0; i < PATHS; i++) {
        openers[i].base.ops = &opener_ops;
        openers[i].number = i;
        snprintf(openers[i].lun, sizeof(openers[i].lun), "naa.1");
        loop_timer_init(&openers[i].timer, loop, opener_answer, &openers[i]);
        spec.paths[i].opener = &openers[i].base;
        assert_int_equal(path_meter_new(&meters[i]), 0);
        spec.paths[i].meter = meters[i];
    }
}

void pass_ms(uint64_t ms)
{
    loop_sim_advance(sim, ms * MS_NS);
    loop_sim_run_until_idle(sim);
}

void world_open(void)
{
    if (multi_opener == NULL) {
        multi_opener = multi_opener_new(&spec);
        assert_non_null(multi_opener);
    }
    open_told = false;
    multi_opener->ops->open(multi_opener, loop, opened, NULL);
    assert_false(open_told);
    pass_ms(3);
}

void world_end(void)
{
    ghosts_forget();
    if (multi != NULL) {
        io_close(multi);
    }
    multi_opener->ops->free(multi_opener);
    for (unsigned i = 0; i < PATHS; i++) {
        struct path_stats stats;

        assert_int_equal(openers[i].frees, i < spec.n_paths);
        path_meter_read(meters[i], loop_now_ns(loop), &stats);
        assert_int_equal(stats.users, 0);
        assert_int_equal(stats.sessions, 0);
        assert_int_equal(stats.bytes_inflight, 0);
        path_meter_unref(meters[i]);
    }
    loop_free(loop);
    loop_sim_free(sim);
}
