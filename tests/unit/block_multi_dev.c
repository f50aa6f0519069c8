// SPDX-License-Identifier: Apache-2.0
/*
 * A LUN over several paths: rules one by one, then a simulation with seeds.
 *
 * The target here is one that does what real ones may do: a write whose session is lost is done at any later time, or never, unless
 * LOGICAL UNIT RESET came first; what was not flushed may be gone after a reset of its own.
 */
#include "tests/unit/block_io.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/log.h"
#include "base/random.h"
#include "block/multi_dev.h"

enum { BLOCK = 512, BLOCKS = 48, PATHS = 3, WORKERS = 12, FENCE_MS = 500 };

static struct loop_sim *sim;
static struct loop *loop;

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

static struct {
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
} target;

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

/* All tasks of lost sessions end. */
static void logical_unit_reset(void)
{
    target.n_fences++;
    list_for_each_safe(link, following, &target.ghosts)
    {
        if (target.fences) {
            task_free(list_entry(link, struct task, link));
        }
    }
}

static void nexus_lose(struct nexus *nexus, bool reset, const char *why)
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

static void nexus_back(struct nexus *nexus)
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

static struct nexus *nexuses[PATHS];

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

static struct opener {
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
} openers[PATHS];

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

static struct multi_spec spec;
static struct block_opener *opener;
static struct blockdev *multi;
static struct error open_error;
static bool open_told;
static unsigned events[BLOCK_EVENT_CHANGED + 1];
static struct path_meter *meters[PATHS];

static void event(void *arg, struct blockdev *dev, enum block_event what, unsigned attempts,
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

static void world_begin(uint64_t seed)
{
    log_set_level(LOG_ERROR);
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
    opener = NULL;
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

static void pass_ms(uint64_t ms)
{
    loop_sim_advance(sim, ms * MS_NS);
    loop_sim_run_until_idle(sim);
}

static void world_open(void)
{
    opener = multi_opener_new(&spec);
    assert_non_null(opener);
    opener->ops->open(opener, loop, opened, NULL);
    assert_false(open_told);
    pass_ms(3);
}

static void world_end(void)
{
    list_for_each_safe(link, following, &target.ghosts)
    {
        task_free(list_entry(link, struct task, link));
    }
    if (multi != NULL) {
        io_close(multi);
    }
    opener->ops->free(opener);
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

static int setup(void **state)
{
    (void)state;
    world_begin(7);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_end();
    return 0;
}

static uint8_t data[16][BLOCKS * BLOCK];
static struct io ios[16];

static void start_write(unsigned i, uint64_t block, uint64_t n, uint64_t stamp)
{
    for (uint64_t k = 0; k < n; k++) {
        memcpy(data[i] + k * BLOCK, &stamp, 8);
    }
    io_start(&ios[i], multi, BLOCK_WRITE, block * BLOCK, data[i], n * BLOCK, 0);
}

static void start_read(unsigned i, uint64_t block, uint64_t n)
{
    io_start(&ios[i], multi, BLOCK_READ, block * BLOCK, data[i], n * BLOCK, 0);
}

/* ---- rules ---- */

static void requests_go_over_all_paths_and_prefer_the_least_loaded(void **state)
{
    (void)state;
    world_open();
    assert_int_equal(multi->info.size_bytes, BLOCKS * BLOCK);
    assert_false(multi->info.can_map); /* one of the paths cannot */
    nexuses[1]->hold = true;
    for (unsigned i = 0; i < 12; i++) {
        start_write(i, i * 4, i == 0 ? 4 : 1, 100 + i);
        pass_ms(0);
    }
    assert_int_equal(multi->info.max_inflight, 12);
    pass_ms(10);
    unsigned done = 0;
    for (unsigned i = 0; i < 12; i++) {
        done += ios[i].done;
    }
    /* Path 1 keeps what it was given first; the others did the rest. */
    assert_true(done >= 8 && done < 12);
    assert_true(nexuses[0]->n_requests > 0 && nexuses[2]->n_requests > 0);
    assert_true(nexuses[1]->n_requests <= 4);
    nexuses[1]->hold = false;
    pass_ms(10);
    for (unsigned i = 0; i < 12; i++) {
        assert_true(ios[i].done);
        assert_int_equal(ios[i].req.status, 0);
        assert_int_equal(target.now[i * 4], 100 + i);
    }
    struct path_stats stats;
    uint64_t written = 0;
    for (unsigned i = 0; i < PATHS; i++) {
        path_meter_read(meters[i], loop_now_ns(loop), &stats);
        assert_int_equal(stats.sessions, 1);
        assert_int_equal(stats.bytes_inflight, 0);
        written += stats.bytes_written;
    }
    assert_int_equal(written, 15 * BLOCK);
}

static void reads_of_a_lost_path_go_over_another_at_once(void **state)
{
    (void)state;
    target.latency_ns = 5 * MS_NS;
    world_open();
    for (unsigned i = 0; i < 6; i++) {
        start_read(i, i, 1);
    }
    pass_ms(0);
    nexus_lose(nexuses[0], false, "cut");
    nexus_lose(nexuses[1], false, "cut");
    pass_ms(20);
    for (unsigned i = 0; i < 6; i++) {
        assert_true(ios[i].done);
        assert_int_equal(ios[i].req.status, 0);
    }
    assert_int_equal(target.n_fences, 0);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 0);
}

static void a_write_of_a_lost_path_is_sent_again_after_the_fence_and_not_before(void **state)
{
    (void)state;
    target.ghostly = true;
    target.latency_ns = MS_NS;
    world_open();
    for (unsigned i = 0; i < PATHS; i++) {
        nexuses[i]->hold = true;
        start_write(i, i, 1, 10 + i);
        pass_ms(0);
    }
    nexus_lose(nexuses[1], false, "cut");
    pass_ms(100);
    assert_false(ios[1].done);
    assert_int_equal(target.n_fences, 0); /* what flies over the others is waited for */
    start_read(3, 8, 1);
    nexuses[0]->hold = nexuses[2]->hold = false;
    pass_ms(FENCE_MS - 10);
    assert_true(ios[0].done && ios[2].done);
    assert_false(ios[1].done);
    assert_false(ios[3].done); /* nothing else is at the LUN when it is reset */
    pass_ms(100);
    assert_int_equal(target.n_fences, 1);
    assert_true(ios[1].done && ios[3].done);
    assert_int_equal(ios[1].req.status, 0);
    assert_int_equal(target.now[1], 11);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 0);
}

static void without_a_fence_the_fate_of_a_write_is_told(void **state)
{
    (void)state;
    spec.fence = false;
    world_open();
    for (unsigned i = 0; i < PATHS; i++) {
        nexuses[i]->hold = true;
        start_write(i, i, 1, 10 + i);
        pass_ms(0);
    }
    nexus_lose(nexuses[0], false, "cut");
    nexuses[1]->hold = nexuses[2]->hold = false;
    pass_ms(10);
    assert_int_equal(ios[0].req.status, -ENOTCONN);
    assert_int_equal(ios[1].req.status, 0);
    assert_int_equal(target.n_fences, 0);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 0);
}

static void with_all_paths_lost_it_is_down_and_the_first_that_is_back_fences(void **state)
{
    (void)state;
    world_open();
    nexuses[0]->hold = true;
    start_write(0, 0, 1, 1);
    for (unsigned i = 0; i < PATHS; i++) {
        nexus_lose(nexuses[i], false, "cut");
    }
    pass_ms(1);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 1);
    assert_int_equal(ios[0].req.status, -ENOTCONN);
    start_read(1, 0, 1);
    pass_ms(0);
    assert_int_equal(ios[1].req.status, -ENOTCONN);
    nexus_back(nexuses[2]);
    pass_ms(FENCE_MS - 10);
    assert_int_equal(events[BLOCK_EVENT_UP], 0);
    pass_ms(20);
    assert_int_equal(events[BLOCK_EVENT_UP], 1);
    assert_int_equal(target.n_fences, 1);
    start_read(1, 0, 1);
    pass_ms(1);
    assert_int_equal(ios[1].req.status, 0);
    /* The others take part again without another fence. */
    nexus_back(nexuses[0]);
    unsigned before = nexuses[0]->n_requests;
    for (unsigned i = 0; i < 8; i++) {
        start_read(i, i, 1);
    }
    pass_ms(5);
    assert_true(nexuses[0]->n_requests > before);
    assert_int_equal(target.n_fences, 1);
}

static void a_reset_that_we_did_not_ask_for_is_a_lost_link(void **state)
{
    (void)state;
    world_open();
    nexus_lose(nexuses[1], true, "power on, reset");
    pass_ms(1);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 1);
    pass_ms(FENCE_MS + 10);
    assert_int_equal(events[BLOCK_EVENT_UP], 1);
}

static void a_session_that_is_younger_than_a_write_cannot_answer_for_it(void **state)
{
    (void)state;
    world_open();
    start_write(0, 0, 1, 1);
    pass_ms(1);
    assert_true(ios[0].done);
    /* What flushes over the witness takes its time: meanwhile the young ones are not used. */
    nexuses[2]->hold = true;
    for (unsigned i = 0; i < 2; i++) {
        nexus_lose(nexuses[i], false, "cut");
        nexus_back(nexuses[i]);
        nexuses[i]->n_requests = 0;
    }
    unsigned before = nexuses[2]->n_requests;
    start_read(1, 0, 1);
    pass_ms(10);
    assert_int_equal(nexuses[2]->n_requests, before + 2);
    assert_int_equal(nexuses[0]->n_requests + nexuses[1]->n_requests, 0);
    nexuses[2]->hold = false;
    pass_ms(10);
    for (unsigned i = 2; i < 8; i++) {
        start_read(i, i, 1);
    }
    pass_ms(10);
    assert_true(nexuses[0]->n_requests > 0 && nexuses[1]->n_requests > 0);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 0);
    /* The same again, and the witness is lost before it could say anything. */
    start_write(0, 0, 1, 2);
    pass_ms(1);
    nexuses[2]->hold = true;
    for (unsigned i = 0; i < 2; i++) {
        nexus_lose(nexuses[i], false, "cut");
        nexus_back(nexuses[i]);
    }
    pass_ms(10);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 0);
    nexus_lose(nexuses[2], false, "no answer");
    pass_ms(1);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 1);
    pass_ms(FENCE_MS + 10);
    assert_int_equal(events[BLOCK_EVENT_UP], 1);
}

static void a_path_to_another_lun_is_refused_and_looked_at_again(void **state)
{
    struct path_stats stats;
    (void)state;
    snprintf(openers[0].lun, sizeof(openers[0].lun), "naa.2");
    openers[0].fails = ERR_REMOTE_UNREACHABLE;
    world_open();
    assert_non_null(multi);
    openers[0].fails = ERR_NONE;
    pass_ms(500);
    path_meter_read(meters[0], 0, &stats);
    assert_int_equal(stats.sessions, 0);
    assert_non_null(strstr(stats.last_error, "another LUN"));
    unsigned opens = openers[0].opens;
    snprintf(openers[0].lun, sizeof(openers[0].lun), "naa.1");
    pass_ms(9000);
    assert_int_equal(openers[0].opens, opens);
    pass_ms(2000);
    path_meter_read(meters[0], 0, &stats);
    assert_int_equal(stats.sessions, 1);
}

static void a_lun_without_a_name_has_one_path(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PATHS; i++) {
        openers[i].lun[0] = '\0';
    }
    world_open();
    pass_ms(100);
    unsigned up = 0;
    for (unsigned i = 0; i < PATHS; i++) {
        struct path_stats stats;
        path_meter_read(meters[i], 0, &stats);
        up += stats.sessions;
    }
    assert_int_equal(up, 1);
}

static void when_every_path_leads_elsewhere_it_has_changed(void **state)
{
    (void)state;
    world_open();
    nexuses[0]->hold = true;
    start_read(0, 0, 1);
    pass_ms(0);
    for (unsigned i = 0; i < PATHS; i++) {
        nexuses[i]->up = false;
        openers[i].fails = ERR_LUN_CHANGED;
        blockdev_emit(&nexuses[i]->base, BLOCK_EVENT_CHANGED, 1, "another LUN");
    }
    pass_ms(10);
    assert_int_equal(events[BLOCK_EVENT_CHANGED], 1);
    assert_true(ios[0].done);
    start_read(1, 0, 1);
    pass_ms(0);
    assert_int_equal(ios[1].req.status, -ESTALE);
}

static void an_open_without_any_path_fails_with_what_may_heal(void **state)
{
    (void)state;
    openers[0].fails = ERR_LUN_CHANGED;
    openers[1].fails = ERR_REMOTE_REFUSED;
    openers[2].fails = ERR_LUN_CHANGED;
    world_open();
    pass_ms(10);
    assert_true(open_told);
    assert_null(multi);
    assert_int_equal(open_error.code, ERR_REMOTE_REFUSED);
    /* It can be tried again. */
    open_told = false;
    openers[1].fails = ERR_NONE;
    opener->ops->open(opener, loop, opened, NULL);
    pass_ms(10);
    assert_non_null(multi);
}

static void an_open_can_be_given_up(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PATHS; i++) {
        openers[i].silent = true;
    }
    world_open();
    pass_ms(1000);
    assert_false(open_told);
    opener->ops->cancel(opener);
    pass_ms(1);
    assert_true(open_told);
    assert_int_equal(open_error.code, ERR_TERMINATED);
}

static void an_open_after_an_unclean_end_fences_first(void **state)
{
    (void)state;
    spec.fence_open = true;
    world_open();
    assert_false(open_told);
    pass_ms(FENCE_MS + 10);
    assert_non_null(multi);
    assert_int_equal(target.n_fences, 1);
}

static void a_path_that_was_away_is_dialled_until_it_is_there(void **state)
{
    (void)state;
    openers[2].fails = ERR_REMOTE_UNREACHABLE;
    world_open();
    assert_non_null(multi);
    pass_ms(2000);
    assert_true(openers[2].opens >= 4 && openers[2].opens < 8);
    openers[2].fails = ERR_NONE;
    pass_ms(3000);
    assert_non_null(nexuses[2]);
    assert_int_equal(events[BLOCK_EVENT_DOWN], 0);
}

static void the_limit_is_shared_and_kept(void **state)
{
    (void)state;
    struct path_limit *limit;
    uint64_t bytes = 0;

    assert_int_equal(path_limit_new(100 * BLOCK, &limit), 0);
    spec.limit = limit;
    spec.n_paths = 2;
    world_open();
    uint64_t began_ns = loop_now_ns(loop);
    ios[0].done = true;
    while (loop_now_ns(loop) - began_ns < 4 * SEC_NS) {
        for (unsigned i = 0; i < 4; i++) {
            if (i == 0 || ios[i].done || bytes == 0) {
                if (i > 0 || ios[0].done) {
                    start_read(i, i * 4, 4);
                    bytes += 4 * BLOCK;
                }
            }
        }
        pass_ms(1);
    }
    pass_ms(1000);
    /* 4 seconds of 100 blocks, the burst, and what waited at the end. */
    assert_in_range(bytes / BLOCK, 380, 440);
    /* However little is under way, all paths have their share. */
    for (unsigned i = 0; i < 2; i++) {
        assert_true(nexuses[i]->n_requests > bytes / (4 * BLOCK) / 4);
    }
    path_limit_unref(limit);
}

/* ---- simulation ---- */

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
    list_for_each_safe(link, following, &target.ghosts)
    {
        task_free(list_entry(link, struct task, link));
    }
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
    mismatches = 0;
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

static void nothing_is_lost_or_done_late(void **state)
{
    const char *text = getenv("SMIRROR_SEEDS");
    uint64_t n = text != NULL ? strtoull(text, NULL, 10) : 100;
    unsigned ghosts = 0;
    unsigned losses = 0;
    (void)state;
    moved = 0;
    for (uint64_t seed = 1; seed <= n; seed++) {
        if (simulate(seed, true, seed % 3 == 0) != 0) {
            fail_msg("seed %llu", (unsigned long long)seed);
        }
        ghosts += target.n_ghosts;
        losses += target.n_fences;
    }
    assert_true(ghosts > n && losses > n && moved > 500 * n);
}

/* That the simulation would see it. */
static void without_the_reset_old_writes_would_come_through(void **state)
{
    uint64_t found = 0;
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        found += simulate(seed, false, false);
    }
    assert_true(found > 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(requests_go_over_all_paths_and_prefer_the_least_loaded),
        TEST(reads_of_a_lost_path_go_over_another_at_once),
        TEST(a_write_of_a_lost_path_is_sent_again_after_the_fence_and_not_before),
        TEST(without_a_fence_the_fate_of_a_write_is_told),
        TEST(with_all_paths_lost_it_is_down_and_the_first_that_is_back_fences),
        TEST(a_reset_that_we_did_not_ask_for_is_a_lost_link),
        TEST(a_session_that_is_younger_than_a_write_cannot_answer_for_it),
        TEST(a_path_to_another_lun_is_refused_and_looked_at_again),
        TEST(a_lun_without_a_name_has_one_path),
        TEST(when_every_path_leads_elsewhere_it_has_changed),
        TEST(an_open_without_any_path_fails_with_what_may_heal),
        TEST(an_open_can_be_given_up),
        TEST(an_open_after_an_unclean_end_fences_first),
        TEST(a_path_that_was_away_is_dialled_until_it_is_there),
        TEST(the_limit_is_shared_and_kept),
        cmocka_unit_test(nothing_is_lost_or_done_late),
        cmocka_unit_test(without_the_reset_old_writes_would_come_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
