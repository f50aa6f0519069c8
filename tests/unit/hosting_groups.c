// SPDX-License-Identifier: Apache-2.0
/* Volumes that are cut together: every cut shows a prefix of what was written one after the other, over all of them. */
#include "tests/unit/hosting_fixture.h"

enum { N_MEMBERS = 6, N_WRITERS = 4, N_ROUNDS = 12, HELD_MS = 100 };

static unsigned deadline_ms;

/* Members "v0" … of families "f0" …, two of them in one family. */
static const char *family_of(unsigned i)
{
    static const char *const families[N_MEMBERS] = {"f0", "f1", "f2", "f3", "f4", "f4"};

    return families[i];
}

static const char *name(const char *kind, unsigned i, int round)
{
    static char names[8][24];
    static unsigned at;
    char *text = names[at++ % 8];

    snprintf(text, sizeof(names[0]), round < 0 ? "%s%u" : "%s%u.%d", kind, i, round);
    return text;
}

static void members_open(void)
{
    for (unsigned i = 0; i < N_MEMBERS; i++) {
        layers_make(family_of(i), name("a", i, -1));
        volume_open(name("v", i, -1), family_of(i), name("a", i, -1));
    }
}

/* ---- a cut ---- */

struct group_result {
    struct result decided;
    struct result done;
};

static void member_set(struct array_group_member *member, const char *volume, const char *layer)
{
    *member = (struct array_group_member){0};
    strcpy(member->volume_id, volume);
    strcpy(member->layer_id, layer);
}

static void on_decided(void *arg, const struct error *error, uint64_t pause_ns)
{
    on_cut(&((struct group_result *)arg)->decided, error, pause_ns);
}

static void on_group_done(void *arg, const struct error *error)
{
    assert_true(((struct group_result *)arg)->decided.done);
    on_done(&((struct group_result *)arg)->done, error);
}

static void group_ask(const struct array_group_member *members, size_t n,
                      struct group_result *result)
{
    array_group_cut(array, members, n, deadline_ms, on_decided, on_group_done, result);
}

static void members_ask(int round, struct group_result *result)
{
    struct array_group_member members[N_MEMBERS];

    for (unsigned i = 0; i < N_MEMBERS; i++) {
        layers_make(family_of(i), name("t", i, round));
        member_set(&members[i], name("v", i, -1), name("t", i, round));
    }
    group_ask(members, N_MEMBERS, result);
}

/* ---- writers: each one after the other, over all members in turn ---- */

struct writer {
    struct io io;
    uint32_t page[PAGE / 4];
    unsigned number; /* its page on each member */
    uint32_t count;  /* of the write under way */
    bool stop;
    bool idle;
};

static struct blockdev *devs[N_MEMBERS];
static struct writer writers[N_WRITERS];
static unsigned n_written;

static void writer_next(struct writer *writer);

static void writer_done(struct block_req *req)
{
    struct writer *writer = req->arg;

    assert_int_equal(req->status, 0);
    n_written++;
    if (writer->stop) {
        writer->idle = true;
    } else {
        writer_next(writer);
    }
}

static void writer_next(struct writer *writer)
{
    writer->count++;
    page_fill(writer->page, writer->number, writer->count);
    writer->io.slice = (struct slice){.data = (void *)writer->page, .len = PAGE};
    writer->io.req = (struct block_req){.op = BLOCK_WRITE,
                                        .offset = (uint64_t)writer->number * PAGE,
                                        .len = PAGE,
                                        .slices = &writer->io.slice,
                                        .n_slices = 1,
                                        .done = writer_done,
                                        .arg = writer};
    blockdev_submit(devs[writer->count % N_MEMBERS], &writer->io.req);
}

static bool writers_have_written(void *arg)
{
    return n_written >= *(unsigned *)arg;
}

static void writers_await(unsigned n)
{
    n_written = 0;
    io_wait(control, writers_have_written, &n);
}

static void writers_start(void)
{
    for (unsigned i = 0; i < N_MEMBERS; i++) {
        devs[i] = handle_of(name("v", i, -1));
    }
    for (unsigned i = 0; i < N_WRITERS; i++) {
        writers[i] = (struct writer){.number = i};
        writer_next(&writers[i]);
    }
    writers_await(N_WRITERS * N_MEMBERS);
}

static bool writers_are_idle(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < N_WRITERS; i++) {
        if (!writers[i].idle) {
            return false;
        }
    }
    return true;
}

static void writers_end(void)
{
    for (unsigned i = 0; i < N_WRITERS; i++) {
        writers[i].stop = true;
    }
    io_wait(control, writers_are_idle, NULL);
    for (unsigned i = 0; i < N_MEMBERS; i++) {
        io_close(devs[i]);
    }
}

/* Member i has the last of the counts up to some k that were its own; each writer has a k of its own. */
static void prefix_check(struct blockdev *const cuts[N_MEMBERS], uint32_t last[N_WRITERS])
{
    for (unsigned w = 0; w < N_WRITERS; w++) {
        uint32_t counts[N_MEMBERS];
        uint32_t k = 0;

        for (unsigned i = 0; i < N_MEMBERS; i++) {
            counts[i] = page_read(cuts[i], w);
            k = counts[i] > k ? counts[i] : k;
        }
        for (unsigned i = 0; i < N_MEMBERS; i++) {
            assert_int_equal(counts[i] % N_MEMBERS, i);
            assert_in_range(counts[i], k - N_MEMBERS + 1, k);
        }
        assert_in_range(k, last[w], writers[w].count);
        last[w] = k;
    }
}

/* ---- tests ---- */

static void test_every_cut_is_a_prefix(void **state)
{
    (void)state;
    char chains[N_MEMBERS][128];
    uint32_t last[N_WRITERS] = {0};

    members_open();
    writers_start();
    for (unsigned i = 0; i < N_MEMBERS; i++) {
        strcpy(chains[i], name("a", i, -1));
    }
    for (int round = 0; round < N_ROUNDS; round++) {
        struct group_result result = {0};
        struct blockdev *cuts[N_MEMBERS];

        writers_await(N_MEMBERS);
        members_ask(round, &result);
        await_ok(&result.done);
        assert_in_range(result.decided.pause_ns, 1, SEC_NS);
        for (unsigned i = 0; i < N_MEMBERS; i++) {
            char chain[160];

            layers_make(family_of(i), name("s", i, round));
            snprintf(chain, sizeof(chain), "%s %s", chains[i], name("s", i, round));
            volume_open(name("c", i, round), family_of(i), chain);
            cuts[i] = handle_of(name("c", i, round));
            snprintf(chain, sizeof(chain), "%s %s", chains[i], name("t", i, round));
            strcpy(chains[i], chain);
        }
        prefix_check(cuts, last);
        prefix_check(cuts, last); /* for good */
        for (unsigned i = 0; i < N_MEMBERS; i++) {
            io_close(cuts[i]);
            volume_close(name("c", i, round));
        }
    }
    writers_end();
}

/* A write to v0 waits for what is below it, which is away. */
static struct io stuck;
static uint8_t stuck_bytes[512];

static void stuck_open(void)
{
    struct array_layer layers[CHAIN_MAX];
    struct array_volume volume = volume_spec("v0", "f0", "a0", layers);
    struct result result = {0};

    assert_int_equal(mem_disk_new(SIZE, 0, &below_disk), 0);
    atomic_store(&below_is_away, true);
    layers_make("f0", "a0");
    volume.bottom = below_opener();
    volume.bottom_bytes = SIZE;
    array_volume_open(array, &volume, on_done, &result);
    await_ok(&result);
}

static bool n_layers_are(const char *volume, unsigned n)
{
    struct array_volume_usage usage;

    assert_true(array_volume_usage(array, volume, &usage));
    return usage.n_layers == n;
}

static bool layers_are_two(void *arg)
{
    return n_layers_are(arg, 2);
}

static void test_one_that_cannot_be_held_voids_the_round(void **state)
{
    (void)state;
    struct array_group_member members[3];
    struct group_result voided = {0};
    struct group_result cut = {0};
    struct blockdev *dev;

    deadline_ms = 20;
    stuck_open();
    for (unsigned i = 1; i < 3; i++) {
        layers_make(family_of(i), name("a", i, -1));
        volume_open(name("v", i, -1), family_of(i), name("a", i, -1));
    }
    for (unsigned i = 0; i < 3; i++) {
        layers_make(family_of(i), name("t", i, -1));
        member_set(&members[i], name("v", i, -1), name("t", i, -1));
    }
    dev = handle_of("v0");
    io_start(&stuck, dev, BLOCK_WRITE, 512, stuck_bytes, 512, 0);
    group_ask(members, 3, &voided);
    await_failed(&voided.decided, ERR_TIMEOUT);
    assert_non_null(strstr(voided.decided.error.detail, "volume v0"));
    assert_false(voided.done.done);
    assert_false(stuck.done);
    /* Hosts go on, on all of them, and operations too. */
    page_write(dev, 7, 5);
    pages_write("v1", 0, 2, 5);
    pages_write("v2", 0, 2, 5);
    pages_are("v0", 7, 1, 5);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(n_layers_are(name("v", i, -1), 1));
    }
    atomic_store(&below_is_away, false);
    io_wait(control, io_is_done, &stuck);
    assert_int_equal(stuck.req.status, 0);
    deadline_ms = ARRAY_GROUP_DEADLINE_MS;
    group_ask(members, 3, &cut);
    await_ok(&cut.done);
    for (unsigned i = 0; i < 3; i++) {
        io_wait(control, layers_are_two, (void *)name("v", i, -1));
    }
    io_close(dev);
    volume_close("v0");
    mem_disk_free(below_disk);
}

/* ---- the pause ---- */

static bool held_for_long(void *arg)
{
    const struct io *io = arg;
    static uint64_t since_ns;
    static const struct io *known;

    if (known != io) {
        known = io;
        since_ns = loop_now_ns(control);
    }
    return io->done || loop_now_ns(control) - since_ns > HELD_MS * MS_NS;
}

static void arrived(void *arg)
{
    atomic_store((atomic_bool *)arg, true);
}

static bool has_arrived(void *arg)
{
    return atomic_load((atomic_bool *)arg);
}

/* A write to v1 waits, for one to v0 does not end: the pause that is told is not shorter than that one waits. */
static void test_the_pause_is_what_writes_wait(void **state)
{
    (void)state;
    static uint32_t page[PAGE / 4];
    struct array_group_member members[2];
    struct group_result cut = {0};
    struct io writes[2] = {0};
    struct io *held = NULL;
    struct loop *loop;
    uint64_t asked_ns;
    uint64_t arrived_ns = 0;
    uint64_t waited_ns;

    deadline_ms = 60000;
    stuck_open();
    layers_make("f0", "t0");
    layers_make("f1", "a1 t1");
    volume_open("v1", "f1", "a1");
    member_set(&members[0], "v0", "t0");
    member_set(&members[1], "v1", "t1");
    devs[0] = handle_of("v0");
    devs[1] = handle_of("v1");
    assert_non_null(array_volume_device(array, "v1", &loop));
    io_start(&stuck, devs[0], BLOCK_WRITE, 512, stuck_bytes, 512, 0);
    asked_ns = loop_now_ns(control);
    group_ask(members, 2, &cut);
    for (unsigned n = 0; held == NULL; n++) {
        struct io *io = &writes[n % 2];
        atomic_bool there = false;
        struct loop_task task = {.fn = arrived, .arg = &there};

        page_fill(page, 3, n);
        io_start(io, devs[1], BLOCK_WRITE, 3 * PAGE, page, PAGE, 0);
        loop_post(loop, &task);
        io_wait(control, has_arrived, &there);
        arrived_ns = loop_now_ns(control);
        io_wait(control, held_for_long, io);
        held = io->done ? NULL : io;
    }
    waited_ns = loop_now_ns(control) - arrived_ns;
    assert_false(cut.decided.done);
    atomic_store(&below_is_away, false);
    await_ok(&cut.done);
    io_wait(control, io_is_done, held);
    io_wait(control, io_is_done, &stuck);
    assert_in_range(cut.decided.pause_ns, waited_ns, loop_now_ns(control) - asked_ns);
    io_close(devs[0]);
    io_close(devs[1]);
    volume_close("v0");
    mem_disk_free(below_disk);
}

/* What cannot be pushed is found before anything is: all or none. */
static void test_rounds_that_cannot_be(void **state)
{
    (void)state;
    struct array_group_member members[2];
    struct group_result no_layer = {0};
    struct group_result no_volume = {0};
    struct group_result small = {0};
    struct array_layer layer = {.id = "half", .pool_id = "pool", .size_bytes = SIZE / 2};
    struct result made = {0};

    layers_make("f0", "a0 t0");
    layers_make("f1", "a1");
    volume_open("v0", "f0", "a0");
    volume_open("v1", "f1", "a1");
    member_set(&members[0], "v0", "t0");
    member_set(&members[1], "v1", "nothing");
    group_ask(members, 2, &no_layer);
    await_failed(&no_layer.decided, ERR_INTERNAL);
    member_set(&members[1], "v9", "t1");
    group_ask(members, 2, &no_volume);
    await_failed(&no_volume.decided, ERR_INTERNAL);
    array_layers_create(array, "f1", &layer, 1, on_done, &made);
    await_ok(&made);
    member_set(&members[1], "v1", "half");
    group_ask(members, 2, &small);
    await_failed(&small.decided, ERR_INTERNAL);
    pages_write("v0", 0, 1, 7);
    pages_write("v1", 0, 1, 7);
    assert_true(n_layers_are("v0", 1) && n_layers_are("v1", 1));
}

static struct array_barrier *the_barrier;

static void barrier_reached(void *arg, struct array_barrier *barrier)
{
    (void)arg;
    the_barrier = barrier;
}

/* It comes after what was asked of its members before, but does not wait for ever; what waits behind it is not lost. */
static void test_the_queues(void **state)
{
    (void)state;
    struct array_group_member members[2];
    struct group_result late = {0};
    struct group_result cut = {0};
    struct group_result other = {0};
    struct result after = {0};

    layers_make("f0", "a0 t0 u0");
    layers_make("f1", "a1 t1 u1");
    volume_open("v0", "f0", "a0");
    volume_open("v1", "f1", "a1");
    member_set(&members[0], "v0", "t0");
    member_set(&members[1], "v1", "t1");
    array_barrier(array, "f1", barrier_reached, NULL);
    deadline_ms = 20;
    group_ask(members, 2, &late);
    deadline_ms = ARRAY_GROUP_DEADLINE_MS;
    layers_ask("f0", "b0", &after);
    await_failed(&late.decided, ERR_CONFLICT);
    assert_non_null(strstr(late.decided.error.detail, "v1"));
    await_ok(&after); /* that of f0 has ended */
    /* Two that wait for the same, asked in both orders. */
    group_ask(members, 2, &cut);
    member_set(&members[1], "v0", "u0");
    member_set(&members[0], "v1", "u1");
    group_ask(members, 2, &other);
    array_barrier_end(the_barrier);
    await_ok(&cut.done);
    await_ok(&other.done);
    assert_true(cut.decided.order < other.decided.order);
    volume_close("v0");
    volume_open("v0", "f0", "a0 t0 u0");
}

/* The same volume twice: two points in time that are one. */
static void test_one_volume_twice(void **state)
{
    (void)state;
    struct array_group_member members[2];
    struct group_result cut = {0};

    layers_make("f0", "a t u s1 s2");
    volume_open("v", "f0", "a");
    pages_write("v", 0, 4, 7);
    member_set(&members[0], "v", "t");
    member_set(&members[1], "v", "u");
    group_ask(members, 2, &cut);
    await_ok(&cut.done);
    pages_write("v", 0, 4, 8);
    volume_open("one", "f0", "a s1");
    volume_open("two", "f0", "a t s2");
    pages_are("one", 0, 4, 7);
    pages_are("two", 0, 4, 7);
    pages_are("v", 0, 4, 8);
}

/* The array is closed while a round is under way: it is done, or void, and nothing hangs. */
static void test_end_in_the_middle(void **state)
{
    (void)state;
    struct group_result result = {0};

    members_open();
    members_ask(0, &result);
    array_restart();
    assert_true(result.decided.done);
    assert_true(result.done.done || result.decided.failed);
}

static int groups_setup(void **state)
{
    deadline_ms = ARRAY_GROUP_DEADLINE_MS;
    return setup(state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, groups_setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_cut_is_a_prefix),
        TEST(test_one_that_cannot_be_held_voids_the_round),
        TEST(test_the_pause_is_what_writes_wait),
        TEST(test_rounds_that_cannot_be),
        TEST(test_the_queues),
        TEST(test_one_volume_twice),
        TEST(test_end_in_the_middle),
    };

    base_dir = "/dev/shm";
    return cmocka_run_group_tests_name("groups", tests, NULL, NULL);
}
