// SPDX-License-Identifier: Apache-2.0
/*
 * A mirror on real loops in threads of their own, between two volumes of an array as the service places it: what sim/mirror.c shows in virtual
 * time, here for what goes between the threads (and for TSan).
 *
 *     host 0, 1 (threads of their own) ─┐
 *     host 2 (the source's loop)        ├─▶ volume s ─▶ mirror ─▶ stack           the source's loop
 *     host 3 (the target's loop)       ─┘                 └─▶ trouble ─▶ handle ─▶ volume t, on the target's loop
 *
 * Hosts know what they wrote and look at it. Meanwhile the leg is lost and comes back, orders are given, layers are cut; then all has to come to
 * rest, and both volumes are what the hosts know. All of it again in a restore, from where the hosts stood before.
 *
 * SMIRROR_SEED=N runs that seed alone: the same orders and losses, though not at the same moments.
 */
#include "tests/unit/hosting_fixture.h"

#include "base/log.h"
#include "base/random.h"
#include "block/fault_dev.h"
#include "replication/mirror.h"

enum {
    N_HOSTS = 4,
    OPS = 4,
    SECTOR = 512,
    N_SECTORS = SIZE / SECTOR,
    MOST = 48, /* sectors of a request */
    WAIT_S = 60,
    SEEDS = 2,
    /* Of each part, so that something has happened. */
    LOSSES = 4,
    VERBS = 30,
    REQUESTS = 100, /* of each host */
    CUTS = 2,
};

static struct random dice; /* control's */

/* ---- waiting ---- */

struct waiting {
    struct loop_timer timer;
    uint64_t deadline_ns;
    bool (*done)(void);
};

static void waiting_look(void *arg)
{
    struct waiting *waiting = arg;

    if (waiting->done() || loop_now_ns(control) > waiting->deadline_ns) {
        loop_stop(control);
    } else {
        loop_timer_start(&waiting->timer, MS_NS);
    }
}

static void wait_until(bool (*done)(void))
{
    struct waiting waiting = {.done = done, .deadline_ns = loop_now_ns(control) + WAIT_S * SEC_NS};

    loop_timer_init(&waiting.timer, control, waiting_look, &waiting);
    loop_timer_start(&waiting.timer, 0);
    loop_run(control);
    assert_true(done());
}

/* Runs fn on a loop, and waits until it has said that it is done. */
struct errand {
    struct loop_task there, back;
    bool is_back;
};

static struct errand *the_errand;

static bool errand_is_back(void)
{
    return the_errand->is_back;
}

static void errand_back(void *arg)
{
    ((struct errand *)arg)->is_back = true;
}

static void errand_done(struct errand *errand)
{
    loop_post(control, &errand->back);
}

static void errand_run(struct errand *errand, struct loop *loop, loop_fn fn, void *arg)
{
    errand->is_back = false;
    errand->there = (struct loop_task){.fn = fn, .arg = arg};
    errand->back = (struct loop_task){.fn = errand_back, .arg = errand};
    loop_post(loop, &errand->there);
    the_errand = errand;
    wait_until(errand_is_back);
}

/* ---- hosts: each writes to sectors of its own, which share granules with those of others ---- */

struct host_op {
    struct host *host;
    struct block_req req;
    struct slice slice;
    struct loop_timer again;
    bool busy;
    unsigned first, n; /* sectors */
    uint32_t stamp;
    uint64_t data[MOST * SECTOR / 8];
};

struct host {
    unsigned number;
    struct loop *loop;
    struct block_opener *opener;
    struct blockdev *dev;
    struct random random;
    struct errand errand;
    unsigned first, end;
    uint32_t stamp;
    struct host_op ops[OPS];
    unsigned under_way;
    bool stop;
    bool is_asked; /* to say when nothing is under way */
    atomic_uint n_done;
};

static struct host hosts[N_HOSTS];
static uint32_t model[N_SECTORS]; /* as was acknowledged last; a host's part is that host's */
static uint32_t model_of_leg[N_SECTORS];

static uint64_t word_of(unsigned sector, uint32_t stamp)
{
    return stamp == 0 ? 0 : (uint64_t)sector << 32 | stamp;
}

static bool sector_is(const uint64_t *data, unsigned sector, uint32_t stamp)
{
    for (unsigned i = 0; i < SECTOR / 8; i++) {
        if (data[i] != word_of(sector, stamp)) {
            return false;
        }
    }
    return true;
}

static void op_next(struct host_op *op);

static void op_submit(void *arg)
{
    struct host_op *op = arg;

    blockdev_submit(op->host->dev, &op->req);
}

static bool op_changes(const struct host_op *op)
{
    return op->req.op == BLOCK_WRITE || op->req.op == BLOCK_ZERO;
}

static void op_done(struct block_req *req)
{
    struct host_op *op = req->arg;
    struct host *host = op->host;

    CHECK(loop_is_current(host->loop));
    if (req->status != 0 && op_changes(op)) { /* then it is unknown what is there, until this is */
        loop_timer_start(&op->again, MS_NS);
        return;
    }
    for (unsigned i = 0; i < op->n && req->status == 0; i++) {
        if (op_changes(op)) {
            model[op->first + i] = op->stamp;
        } else if (req->op == BLOCK_READ) {
            CHECK(sector_is(op->data + (size_t)i * (SECTOR / 8), op->first + i,
                            model[op->first + i]));
        }
    }
    op->busy = false;
    host->under_way--;
    atomic_fetch_add(&host->n_done, 1);
    if (!host->stop) {
        op_next(op);
    } else if (host->under_way == 0 && host->is_asked) {
        host->is_asked = false;
        errand_done(&host->errand);
    }
}

static bool is_free(const struct host *host, unsigned first, unsigned n)
{
    for (unsigned i = 0; i < OPS; i++) {
        const struct host_op *op = &host->ops[i];

        if (op->busy && first < op->first + op->n && op->first < first + n) {
            return false;
        }
    }
    return true;
}

static void op_next(struct host_op *op)
{
    static const enum block_op kinds[] = {BLOCK_WRITE, BLOCK_WRITE, BLOCK_WRITE, BLOCK_WRITE,
                                          BLOCK_READ,  BLOCK_READ,  BLOCK_ZERO,  BLOCK_FLUSH};
    struct host *host = op->host;
    enum block_op kind = kinds[random_below(&host->random, ARRAY_LEN(kinds))];
    bool has_data = kind == BLOCK_READ || kind == BLOCK_WRITE;
    unsigned flags = kind == BLOCK_WRITE && random_chance(&host->random, 1, 8) ? BLOCK_FUA : 0;

    do {
        op->n = 1 + (unsigned)random_below(&host->random, MOST);
        op->first =
            host->first + (unsigned)random_below(&host->random, host->end - host->first - op->n);
    } while (!is_free(host, op->first, op->n));
    op->n = kind == BLOCK_FLUSH ? 0 : op->n;
    op->stamp = kind == BLOCK_WRITE ? ++host->stamp : 0;
    for (unsigned i = 0; i < op->n * (SECTOR / 8); i++) {
        op->data[i] = word_of(op->first + i / (SECTOR / 8), op->stamp);
    }
    op->slice = (struct slice){.data = (uint8_t *)op->data, .len = (size_t)op->n * SECTOR};
    op->req = (struct block_req){.op = kind,
                                 .flags = flags,
                                 .offset = kind == BLOCK_FLUSH ? 0 : (uint64_t)op->first * SECTOR,
                                 .len = (uint64_t)op->n * SECTOR,
                                 .slices = has_data ? &op->slice : NULL,
                                 .n_slices = has_data,
                                 .done = op_done,
                                 .arg = op};
    op->busy = true;
    host->under_way++;
    op_submit(op);
}

static void host_go(void *arg)
{
    struct host *host = arg;

    host->stop = false;
    for (unsigned i = 0; i < OPS; i++) {
        op_next(&host->ops[i]);
    }
    errand_done(&host->errand);
}

static void host_rest(void *arg)
{
    struct host *host = arg;

    host->stop = true;
    host->is_asked = host->under_way > 0;
    if (host->under_way == 0) {
        errand_done(&host->errand);
    }
}

static void host_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct host *host = arg;

    CHECK(error == NULL);
    host->dev = dev;
    errand_done(&host->errand);
}

static void host_open(void *arg)
{
    struct host *host = arg;

    for (unsigned i = 0; i < OPS; i++) {
        host->ops[i].host = host;
        loop_timer_init(&host->ops[i].again, host->loop, op_submit, &host->ops[i]);
    }
    host->opener->ops->open(host->opener, host->loop, host_opened, host);
}

static void host_closed(void *arg)
{
    errand_done(&((struct host *)arg)->errand);
}

static void host_close(void *arg)
{
    struct host *host = arg;

    blockdev_close(host->dev, host_closed, host);
}

static void hosts_do(loop_fn what)
{
    for (unsigned i = 0; i < N_HOSTS; i++) {
        errand_run(&hosts[i].errand, hosts[i].loop, what, &hosts[i]);
    }
}

/* ---- the leg, which is lost and comes back: on the source's loop ---- */

struct leg {
    struct block_opener base;
    struct block_opener *inner;
    struct loop *loop;
    struct random random;
    struct blockdev *handle;
    struct blockdev below; /* passes to the handle; its end is known here */
    struct blockdev *dev;  /* what goes wrong, over that; NULL: not open */
    struct loop_timer timer;
    bool down;
    struct loop_task refuse;
    block_opened_fn done;
    void *arg;
    struct errand errand;
};

static struct leg leg;
static atomic_bool trouble;
static atomic_uint n_losses;

static void leg_link(bool down)
{
    leg.down = down;
    fault_dev_link(leg.dev, down ? BLOCK_EVENT_DOWN : BLOCK_EVENT_UP, 1, "told to");
}

static void leg_calm(void)
{
    if (leg.dev != NULL && !leg.dev->closing) {
        fault_dev_clear(leg.dev);
        fault_dev_release(leg.dev, UINT32_MAX);
        if (leg.down) {
            leg_link(false);
        }
    }
}

static void leg_trouble(void *arg)
{
    static const struct fault_rule rules[] = {
        {.action = FAULT_FAIL, .count = 1, .status = -ENOTCONN},
        {.action = FAULT_FAIL_AFTER,
         .ops = FAULT_OP(BLOCK_WRITE) | FAULT_OP(BLOCK_FLUSH),
         .count = 1,
         .status = -ENOTCONN},
        {.action = FAULT_FAIL, .ops = FAULT_OP(BLOCK_WRITE), .count = 1, .status = -EIO},
        {.action = FAULT_DELAY, .count = 20, .delay_ns = 5 * MS_NS},
        {.action = FAULT_HOLD, .count = 10},
    };

    (void)arg;
    loop_timer_start(&leg.timer, (1 + random_below(&leg.random, 20)) * MS_NS);
    if (leg.dev->closing) {
        return;
    }
    if (!atomic_load(&trouble)) {
        leg_calm();
    } else if (leg.down) {
        leg_link(false);
    } else if (fault_dev_held(leg.dev) > 0 || random_chance(&leg.random, 1, 2)) {
        leg_link(true); /* also what is held ends */
        atomic_fetch_add(&n_losses, 1);
    } else {
        fault_dev_clear(leg.dev);
        fault_dev_add(leg.dev, &rules[random_below(&leg.random, ARRAY_LEN(rules))]);
    }
}

struct passage {
    struct block_req *req;
    struct block_req child;
};

static void passed(struct block_req *child)
{
    struct passage *passage = child->arg;
    struct block_req *req = passage->req;
    int status = child->status;

    req->n_extents = child->n_extents;
    free(passage);
    blockdev_complete_now(req, status);
}

static void below_submit(struct blockdev *dev, struct block_req *req)
{
    struct passage *passage = calloc(1, sizeof(*passage));

    (void)dev;
    CHECK(passage != NULL);
    passage->req = req;
    blockdev_pass(&passage->child, req, passed, passage);
    blockdev_submit(leg.handle, &passage->child);
}

static void below_close(struct blockdev *dev, block_close_fn done, void *arg)
{
    (void)dev;
    loop_timer_stop(&leg.timer);
    leg.dev = NULL;
    leg.down = false;
    blockdev_close(leg.handle, done, arg);
}

static void leg_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    static const struct blockdev_ops below_ops = {
        .kind = "below", .submit = below_submit, .close = below_close};

    (void)arg;
    CHECK(error == NULL);
    leg.handle = dev;
    leg.below = (struct blockdev){.ops = &below_ops, .loop = leg.loop, .info = dev->info};
    CHECK(fault_dev_new(&leg.below, random_u64(&leg.random), &leg.dev) == 0);
    loop_timer_start(&leg.timer, MS_NS);
    leg.done(leg.arg, leg.dev, NULL);
}

static void leg_refuse(void *arg)
{
    struct error error;

    (void)arg;
    error_set(&error, ERR_REMOTE_UNREACHABLE, "It is away.");
    leg.done(leg.arg, NULL, &error);
}

static void leg_open(struct block_opener *base, struct loop *loop, block_opened_fn done, void *arg)
{
    (void)base;
    CHECK(loop == leg.loop && leg.dev == NULL);
    leg.done = done;
    leg.arg = arg;
    if (atomic_load(&trouble) && random_chance(&leg.random, 1, 6)) {
        leg.refuse = (struct loop_task){.fn = leg_refuse};
        loop_defer(loop, &leg.refuse);
    } else {
        leg.inner->ops->open(leg.inner, loop, leg_opened, NULL);
    }
}

static void leg_cancel(struct block_opener *base)
{
    (void)base; /* soon done anyway */
}

static void leg_free(struct block_opener *base)
{
    (void)base;
    leg.inner->ops->free(leg.inner);
    leg.inner = NULL;
}

static struct block_opener *leg_new(struct loop *loop, uint64_t seed)
{
    static const struct block_opener_ops ops = {
        .open = leg_open, .cancel = leg_cancel, .free = leg_free};

    memset(&leg, 0, sizeof(leg));
    leg.base.ops = &ops;
    leg.inner = array_leg_opener(array, "t");
    leg.loop = loop;
    random_seed(&leg.random, seed);
    loop_timer_init(&leg.timer, loop, leg_trouble, NULL);
    return &leg.base;
}

static void leg_rest(void *arg)
{
    (void)arg;
    leg_calm();
    errand_done(&leg.errand);
}

/* ---- the mirror, as its owner on control sees it ---- */

static struct mirror *mirror;
static struct mirror_progress progress;
static enum mirror_direction direction; /* as it would be recorded */
static bool has_ended;
static unsigned n_asked; /* that are not answered */
static unsigned n_verbs, n_cuts;
static struct loop_timer verbs;
static struct result layer_cut;

static void on_progress(void *arg, const struct mirror_progress *told, const struct error *error)
{
    (void)arg;
    (void)error;
    CHECK(loop_is_current(control));
    progress = *told;
    if (told->phase == MIRROR_EQUAL) {
        CHECK(told->direction == MIRROR_TO_LEG);
        direction = MIRROR_TO_LEG;
    }
}

static void on_ended(void *arg, const struct error *error)
{
    (void)arg;
    CHECK(error == NULL);
    has_ended = true;
}

static bool mirror_has_ended(void)
{
    return has_ended;
}

static void answered(void *arg, const struct error *error)
{
    (void)arg;
    (void)error; /* a split that was in vain, say */
    n_asked--;
}

static bool all_answered(void)
{
    return n_asked == 0;
}

static void connect_if_not(void)
{
    if (progress.phase == MIRROR_TRACKING || progress.phase == MIRROR_HELD ||
        progress.phase == MIRROR_BROKEN) {
        mirror_connect(mirror, direction);
    }
}

static bool is_cut(void)
{
    return n_cuts == 0 || layer_cut.done;
}

static void cut_a_layer(void)
{
    static const char *const names[] = {"b", "c", "d", "e"}; /* above "a" */

    if (is_cut() && n_cuts < ARRAY_LEN(names)) {
        memset(&layer_cut, 0, sizeof(layer_cut));
        cut_ask("s", names[n_cuts++], &layer_cut);
    }
}

/* An order that would give hosts another content is not given while a restore is under way. */
static void give_order(void)
{
    uint64_t at = random_below(&dice, N_SECTORS) * SECTOR;
    bool restoring = direction == MIRROR_FROM_LEG;

    switch (random_below(&dice, 8)) {
    case 0:
        if (!restoring) {
            n_asked++;
            mirror_disconnect(mirror, answered, NULL);
        }
        break;
    case 1:
        n_asked++;
        mirror_split(mirror, random_below(&dice, 200), answered, NULL);
        break;
    case 2:
        if (!restoring) {
            n_asked++;
            mirror_mark(mirror, at, SIZE - at, answered, NULL);
        }
        break;
    case 3:
        mirror_set_limits(mirror, (unsigned)random_below(&dice, 5),
                          random_chance(&dice, 1, 2) ? 0 : 4 * MIB);
        break;
    case 4:
        mirror_set_recovery(mirror, random_chance(&dice, 1, 3), false);
        break;
    case 5:
        n_asked++;
        mirror_look(mirror, answered, NULL);
        break;
    case 6:
        cut_a_layer();
        break;
    default:
        break;
    }
}

static void next_verb(void *arg)
{
    (void)arg;
    loop_timer_start(&verbs, (1 + random_below(&dice, 3)) * MS_NS);
    connect_if_not();
    if (atomic_load(&trouble)) {
        n_verbs++;
        give_order();
    }
}

static bool enough(void)
{
    for (unsigned i = 0; i < N_HOSTS; i++) {
        if (atomic_load(&hosts[i].n_done) < REQUESTS) {
            return false;
        }
    }
    return atomic_load(&n_losses) >= LOSSES && n_verbs >= VERBS && n_cuts >= CUTS;
}

static bool is_equal(void)
{
    return progress.phase == MIRROR_EQUAL;
}

static void have_trouble(void)
{
    n_verbs = 0;
    atomic_store(&n_losses, 0);
    for (unsigned i = 0; i < N_HOSTS; i++) {
        atomic_store(&hosts[i].n_done, 0);
    }
    atomic_store(&trouble, true);
    wait_until(enough);
    atomic_store(&trouble, false);
}

/* Nothing goes wrong any more and nobody writes: both are equal, and this is not what was told before. */
static void come_to_rest(void)
{
    errand_run(&leg.errand, leg.loop, leg_rest, NULL);
    mirror_set_limits(mirror, 0, 0);
    mirror_set_recovery(mirror, false, false);
    wait_until(all_answered);
    wait_until(is_cut);
    assert_false(n_cuts > 0 && layer_cut.failed);
    hosts_do(host_rest);
    n_asked++;
    mirror_look(mirror, answered, NULL);
    wait_until(all_answered);
    wait_until(is_equal);
}

static void ask_and_wait(void (*ask)(struct mirror *, mirror_done_fn, void *))
{
    n_asked++;
    ask(mirror, answered, NULL);
    wait_until(all_answered);
}

/* ---- what is on the volumes ---- */

static void volume_is(const char *id, const uint32_t *expected)
{
    static uint64_t data[MIB / 8];
    struct blockdev *dev = handle_of(id);

    for (unsigned sector = 0; sector < N_SECTORS; sector++) {
        unsigned in_data = sector % (MIB / SECTOR);

        if (in_data == 0) {
            assert_int_equal(
                io_do(dev, BLOCK_READ, (uint64_t)sector * SECTOR, data, sizeof(data), 0), 0);
        }
        if (!sector_is(&data[in_data * (SECTOR / 8)], sector, expected[sector])) {
            fail_msg("sector %u of %s is not %u", sector, id, expected[sector]);
        }
    }
    io_close(dev);
}

static void both_are_right(void)
{
    volume_is("s", model);
    volume_is("t", model);
}

/* ---- the whole ---- */

static struct loop *source_loop, *target_loop;

static int make_mirror(void *arg, struct loop *loop, struct blockdev *below,
                       struct blockdev **ret_dev)
{
    (void)arg;
    CHECK(loop == source_loop);
    return mirror_make_dev(mirror, below, ret_dev);
}

static void mirror_place(uint64_t seed, bool anew)
{
    static const struct mirror_events events = {.progress = on_progress, .ended = on_ended};
    static const struct array_filter filter = {.make = make_mirror};
    struct mirror_spec spec = {.name = "s>t",
                               .leg = leg_new(source_loop, seed),
                               .size_bytes = SIZE,
                               .direction = MIRROR_TO_LEG,
                               .all_differs = anew};
    struct result placed = {0};

    snprintf(spec.map_path, sizeof(spec.map_path), "%s/m.changes", dir);
    memset(&progress, 0, sizeof(progress));
    direction = MIRROR_TO_LEG;
    has_ended = false;
    mirror = mirror_new(control, source_loop, &spec, &events, NULL);
    array_volume_filter_add(array, "s", "m", &filter, on_done, &placed);
    await_ok(&placed);
    loop_timer_init(&verbs, control, next_verb, NULL);
    loop_timer_start(&verbs, 0);
}

static void mirror_take_away(bool remove_map)
{
    struct result removed = {0};

    loop_timer_stop(&verbs);
    ask_and_wait(mirror_disconnect);
    array_volume_filter_remove(array, "s", "m", on_done, &removed);
    await_ok(&removed);
    mirror_end(mirror, remove_map);
    wait_until(mirror_has_ended);
    mirror_free(mirror);
    assert_null(leg.inner);
}

static void volumes_and_hosts(uint64_t seed)
{
    layers_make("f", "a b c d e");
    layers_make("g", "x");
    volume_open("s", "f", "a");
    volume_open("t", "g", "x");
    pages_write("t", 0, N_PAGES / 2, 77); /* is not to stay */
    array_volume_device(array, "s", &source_loop);
    array_volume_device(array, "t", &target_loop);
    assert_ptr_not_equal(source_loop, target_loop);
    memset(model, 0, sizeof(model));
    memset(hosts, 0, sizeof(hosts));
    n_cuts = 0;
    for (unsigned i = 0; i < N_HOSTS; i++) {
        struct host *host = &hosts[i];

        host->loop = i == 2 ? source_loop : target_loop;
        if (i < 2) {
            assert_int_equal(loop_new("host", &host->loop), 0);
            assert_int_equal(loop_thread_start(host->loop), 0);
        }
        host->first = i == 0 ? 0 : hosts[i - 1].end;
        host->end = i == N_HOSTS - 1 ? N_SECTORS : N_SECTORS / N_HOSTS * (i + 1) + 3;
        host->opener = array_volume_opener(array, "s");
        random_seed(&host->random, seed * N_HOSTS + i);
    }
    hosts_do(host_open);
}

static void hosts_end(void)
{
    hosts_do(host_close);
    for (unsigned i = 0; i < N_HOSTS; i++) {
        hosts[i].opener->ops->free(hosts[i].opener);
        if (i < 2) {
            loop_thread_join(hosts[i].loop);
            loop_free(hosts[i].loop);
        }
    }
}

static void one_seed(uint64_t seed)
{
    random_seed(&dice, seed);
    volumes_and_hosts(seed);
    hosts_do(host_go);
    mirror_place(seed, true); /* while they write */
    have_trouble();
    come_to_rest();
    both_are_right();

    /* Hosts go on without the leg, and then everything is to be as it was. */
    memcpy(model_of_leg, model, sizeof(model));
    loop_timer_stop(&verbs);
    ask_and_wait(mirror_disconnect);
    hosts_do(host_go);
    for (unsigned i = 0; i < N_HOSTS; i++) {
        atomic_store(&hosts[i].n_done, 0);
    }
    wait_until(enough);
    hosts_do(host_rest);
    volume_is("s", model);
    volume_is("t", model_of_leg);
    memcpy(model, model_of_leg, sizeof(model));
    direction = MIRROR_FROM_LEG;
    mirror_connect(mirror, MIRROR_FROM_LEG);
    ask_and_wait(mirror_look); /* so that hosts see it */
    hosts_do(host_go);
    loop_timer_start(&verbs, 0);
    have_trouble();
    come_to_rest();
    assert_int_equal(direction, MIRROR_TO_LEG);
    both_are_right();

    /* It ends in order, and is there again: nothing is to be copied. */
    mirror_take_away(false);
    mirror_place(seed, false);
    wait_until(is_equal);
    assert_int_equal(progress.copied_bytes + progress.zeroed_bytes, 0);
    mirror_take_away(true);
    both_are_right();
    hosts_end();
}

static void what_hosts_wrote_is_on_both_sides(void **state)
{
    const char *text = getenv("SMIRROR_SEED");
    uint64_t first = text != NULL ? strtoull(text, NULL, 0) : 1;

    for (uint64_t seed = first; seed < first + (text != NULL ? 1 : SEEDS); seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        assert_int_equal(setup(state), 0);
        one_seed(seed);
        assert_int_equal(teardown(state), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_hosts_wrote_is_on_both_sides)};

    log_set_level(getenv("SMIRROR_TEST_LOG") != NULL ? LOG_DEBUG : LOG_ERROR);
    base_dir = "/dev/shm";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
