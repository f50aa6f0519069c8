// SPDX-License-Identifier: Apache-2.0
/* Mirrors that are parted together: the targets show a prefix of what was written one after the other, over all of them; or nothing is parted. */
#include "tests/unit/testing.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "tests/unit/mirror_testing.h"

enum { MEMBERS = 5, WRITERS = 4, SEEDS = 20, ROUNDS = 4, SIZE = MIB, DEADLINE_MS = 500 };

/* Counts: number n goes to member n modulo their number, once n - 1 has ended. Each has its page. */
struct writer {
    struct world *world;
    unsigned number;
    uint64_t count; /* under way */
    uint64_t ended;
    uint64_t before; /* ended when the round began */
    uint64_t page[TEST_PAGE / sizeof(uint64_t)];
    struct slice slice;
    struct block_req req;
    struct loop_task task;
};

struct world {
    struct mirror_bench benches[MEMBERS];
    struct writer writers[WRITERS];
    bool stop;
    unsigned n_idle;

    bool told;
    bool failed, parted;
    struct error error;
    size_t culprit;
    uint64_t pause_ns;
};

static void writer_send(void *arg)
{
    struct writer *writer = arg;
    blockdev_submit(writer->world->benches[writer->count % MEMBERS].dev, &writer->req);
}

static void writer_done(struct block_req *req);

static void writer_next(struct writer *writer)
{
    writer->count++;
    for (size_t i = 0; i < ARRAY_LEN(writer->page); i++) {
        writer->page[i] = writer->count;
    }
    writer->slice = (struct slice){.data = (void *)writer->page, .len = TEST_PAGE};
    writer->req = (struct block_req){.op = BLOCK_WRITE,
                                     .offset = (uint64_t)writer->number * TEST_PAGE,
                                     .len = TEST_PAGE,
                                     .slices = &writer->slice,
                                     .n_slices = 1,
                                     .done = writer_done,
                                     .arg = writer};
    writer->task = (struct loop_task){.fn = writer_send, .arg = writer};
    loop_post(writer->world->benches[writer->count % MEMBERS].loop, &writer->task);
}

static void writer_done(struct block_req *req)
{
    struct writer *writer = req->arg;
    assert_int_equal(req->status, 0);
    writer->ended = writer->count;
    if (writer->world->stop) {
        writer->world->n_idle++;
    } else {
        writer_next(writer);
    }
}

static struct loop_sim *sim_of(struct world *world)
{
    return world->benches[0].sim;
}

static void world_init(struct world *world, uint64_t seed)
{
    memset(world, 0, sizeof(*world));
    for (size_t i = 0; i < MEMBERS; i++) {
        struct mirror_bench *bench = &world->benches[i];
        if (i == 0) {
            mirror_bench_init(bench, seed * 100, SIZE);
        } else {
            mirror_bench_init_beside(bench, &world->benches[0], seed * 100 + i, SIZE);
        }
        memset(bench->source->data, 0, SIZE);
        memset(bench->source->stable, 0, SIZE);
        mirror_bench_make_equal(bench);
        for (unsigned side = 0; side < 2; side++) {
            struct test_dev_spec *spec =
                side == 0 ? &bench->source_opener.spec : &bench->target_opener.spec;
            spec->delay_ns = 20000;
            spec->delay_spread_ns = 2 * MS_NS;
        }
        mirror_bench_start(bench);
    }
    for (size_t i = 0; i < MEMBERS; i++) {
        mirror_bench_until_equal(&world->benches[i]);
    }
}

static void writers_start(struct world *world)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        world->writers[i] = (struct writer){.world = world, .number = i};
        writer_next(&world->writers[i]);
    }
}

struct more {
    struct world *world;
    uint64_t ended[WRITERS];
};

static bool have_written(void *arg)
{
    struct more *more = arg;
    for (unsigned i = 0; i < WRITERS; i++) {
        if (more->world->writers[i].ended < more->ended[i]) {
            return false;
        }
    }
    return true;
}

/* All members are written to, by all writers. */
static void writers_await(struct world *world)
{
    struct more more = {.world = world};
    for (unsigned i = 0; i < WRITERS; i++) {
        more.ended[i] = world->writers[i].ended + MEMBERS + 1;
    }
    assert_true(loop_sim_run_until(sim_of(world), have_written, &more, 60 * SEC_NS));
}

static void round_begin(struct world *world)
{
    writers_await(world);
    for (unsigned i = 0; i < WRITERS; i++) {
        world->writers[i].before = world->writers[i].ended;
    }
}

static bool writers_are_idle(void *arg)
{
    return ((struct world *)arg)->n_idle == WRITERS;
}

static void world_fini(struct world *world)
{
    if (world->writers[0].world) {
        world->stop = true;
        assert_true(loop_sim_run_until(sim_of(world), writers_are_idle, world, 60 * SEC_NS));
    }
    for (size_t i = MEMBERS; i > 0; i--) {
        mirror_bench_fini(&world->benches[i - 1]);
    }
}

static void on_parting(void *arg, const struct mirror_parting *parting)
{
    struct world *world = arg;
    assert_false(world->told);
    world->told = true;
    world->failed = parting->error != NULL;
    if (parting->error) {
        world->error = *parting->error;
    }
    world->culprit = parting->culprit;
    world->parted = parting->parted;
    world->pause_ns = parting->pause_ns;
}

static bool is_told(void *arg)
{
    return ((struct world *)arg)->told;
}

static void ask(struct world *world, uint64_t timeout_ms)
{
    struct mirror *mirrors[MEMBERS];
    for (size_t i = 0; i < MEMBERS; i++) {
        mirrors[i] = world->benches[i].mirror;
    }
    world->told = false;
    mirror_part_together(mirrors, MEMBERS, timeout_ms, DEADLINE_MS, on_parting, world);
}

static void until_told(struct world *world)
{
    assert_true(loop_sim_run_until(sim_of(world), is_told, world, 60 * SEC_NS));
}

/* What the writer has on the targets: up to some number all, and nothing behind it. */
static void check_prefix(struct world *world, unsigned number, uint64_t least, uint64_t most)
{
    uint64_t found[MEMBERS];
    uint64_t last = 0;
    for (size_t i = 0; i < MEMBERS; i++) {
        const struct test_disk *target = world->benches[i].target;
        uint64_t at = (uint64_t)number * TEST_PAGE;
        uint64_t page[TEST_PAGE / sizeof(uint64_t)];
        memcpy(page, target->data + at, TEST_PAGE);
        assert_memory_equal(page, target->stable + at, TEST_PAGE);
        for (size_t k = 1; k < ARRAY_LEN(page); k++) {
            assert_int_equal(page[k], page[0]);
        }
        found[i] = page[0];
        last = found[i] > last ? found[i] : last;
    }
    for (size_t i = 0; i < MEMBERS; i++) {
        uint64_t behind = (last + MEMBERS - i) % MEMBERS;
        assert_int_equal(found[i], last >= behind ? last - behind : 0);
    }
    assert_in_range(last, least, most);
}

/* The targets have what was written before the round, and a part of what was written in it; hosts have gone on since. */
static void check_moment(struct world *world)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        const struct writer *writer = &world->writers[i];
        check_prefix(world, i, writer->before, writer->ended - MEMBERS);
    }
}

static void check_all_in(struct world *world, enum mirror_phase phase)
{
    for (size_t i = 0; i < MEMBERS; i++) {
        assert_int_equal(world->benches[i].progress.phase, phase);
    }
}

/* All sides are the same in the end, whatever was in between. */
static void finish(struct world *world)
{
    writers_await(world);
    world->stop = true;
    assert_true(loop_sim_run_until(sim_of(world), writers_are_idle, world, 60 * SEC_NS));
    for (size_t i = 0; i < MEMBERS; i++) {
        struct mirror_bench *bench = &world->benches[i];
        mirror_connect(bench->mirror, MIRROR_TO_LEG);
        mirror_bench_until_equal(bench);
        assert_int_equal(mirror_bench_flush(bench), 0);
        mirror_bench_check_equal(bench);
    }
    world_fini(world);
}

static void targets_are_of_one_moment(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world world;
        world_init(&world, seed);
        writers_start(&world);
        for (unsigned round = 0; round < ROUNDS; round++) {
            round_begin(&world);
            ask(&world, 10000);
            until_told(&world);
            assert_false(world.failed);
            assert_true(world.parted);
            assert_in_range(world.pause_ns, 1, 20 * MS_NS);
            writers_await(&world); /* hosts go on */
            check_moment(&world);
            for (size_t i = 0; i < MEMBERS; i++) {
                assert_int_equal(world.benches[i].target_opener.live, 0);
                assert_true(mirror_bench_until(&world.benches[i], MIRROR_TRACKING, SEC_NS));
                mirror_connect(world.benches[i].mirror, MIRROR_TO_LEG);
            }
            for (size_t i = 0; i < MEMBERS; i++) {
                mirror_bench_until_equal(&world.benches[i]);
            }
        }
        finish(&world);
    }
}

static void void_for(struct world *world, enum error_code code, size_t culprit)
{
    until_told(world);
    assert_true(world->failed);
    assert_false(world->parted);
    assert_int_equal(world->error.code, code);
    assert_int_equal(world->culprit, culprit);
}

static void on_stuck_done(struct block_req *req)
{
    *(bool *)req->arg = true;
}

static bool is_set(void *arg)
{
    return *(bool *)arg;
}

/* A write that does not end: nobody is parted, and the hosts of all wait no longer than the deadline. */
static void a_write_that_does_not_end_voids_it(void **state)
{
    (void)state;
    for (unsigned side = 0; side < 2; side++) {
        struct world world;
        world_init(&world, 50 + side);
        writers_start(&world);
        writers_await(&world);
        struct mirror_bench *stuck = &world.benches[2];
        struct test_dev_spec *spec =
            side == 0 ? &stuck->source_opener.spec : &stuck->target_opener.spec;
        static uint8_t data[TEST_PAGE];
        bool ended = false;
        struct slice slice = {.data = data, .len = sizeof(data)};
        struct block_req req = {.op = BLOCK_WRITE,
                                .offset = SIZE - TEST_PAGE,
                                .len = TEST_PAGE,
                                .slices = &slice,
                                .n_slices = 1,
                                .done = on_stuck_done,
                                .arg = &ended};
        spec->delay_ns = 5 * SEC_NS;
        blockdev_submit(stuck->dev, &req);
        spec->delay_ns = 20000;
        uint64_t asked_ns = loop_sim_now_ns(sim_of(&world));
        ask(&world, 10000);
        void_for(&world, ERR_TIMEOUT, 2);
        assert_in_range(loop_sim_now_ns(sim_of(&world)) - asked_ns, DEADLINE_MS * MS_NS,
                        (DEADLINE_MS + 50) * MS_NS);
        check_all_in(&world, MIRROR_EQUAL);
        writers_await(&world);
        assert_true(loop_sim_now_ns(sim_of(&world)) - asked_ns < (DEADLINE_MS + 200) * MS_NS);
        /* The next one, when it has ended. */
        assert_false(ended);
        assert_true(loop_sim_run_until(sim_of(&world), is_set, &ended, 60 * SEC_NS));
        ask(&world, 10000);
        until_told(&world);
        assert_false(world.failed);
        finish(&world);
    }
}

/* A leg that is away, or a mirror that is not connected: it is not waited for with writes held. */
static void a_member_that_is_not_equal_voids_it(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, 60);
    writers_start(&world);
    writers_await(&world);
    test_opener_link_down(&world.benches[3].target_opener, 5 * SEC_NS);
    ask(&world, 1000);
    writers_await(&world);
    assert_false(world.told);
    void_for(&world, ERR_TIMEOUT, 3);
    for (size_t i = 0; i < MEMBERS; i++) {
        assert_int_equal(world.benches[i].progress.phase, i == 3 ? MIRROR_AWAY : MIRROR_EQUAL);
    }
    mirror_bench_until_equal(&world.benches[3]);

    ask(&world, 1000);
    mirror_disconnect(world.benches[1].mirror, mirror_bench_done, &world.benches[1]);
    void_for(&world, ERR_TERMINATED, 1);
    assert_true(mirror_bench_until_done(&world.benches[1], 1, 10 * SEC_NS));
    ask(&world, 1000);
    void_for(&world, ERR_ILLEGAL_STATE, 1);
    mirror_connect(world.benches[1].mirror, MIRROR_TO_LEG);
    mirror_bench_until_equal(&world.benches[1]);
    check_all_in(&world, MIRROR_EQUAL);

    /* Asked twice: the second one gets nothing. */
    ask(&world, 10000);
    struct world other = {0};
    struct mirror *mirrors[] = {world.benches[4].mirror};
    mirror_part_together(mirrors, 1, 1000, DEADLINE_MS, on_parting, &other);
    until_told(&world);
    assert_true(loop_sim_run_until(sim_of(&world), is_told, &other, SEC_NS));
    assert_false(world.failed);
    assert_true(other.failed && !other.parted);
    assert_int_equal(other.error.code, ERR_ILLEGAL_STATE);
    finish(&world);
}

/* Parted, but what a target has is not on its stable storage: it is told, and whose it is. */
static void a_target_that_cannot_be_flushed_is_told(void **state)
{
    (void)state;
    for (unsigned way = 0; way < 2; way++) {
        struct world world;
        world_init(&world, 70 + way);
        writers_start(&world);
        writers_await(&world);
        /* The first flush is before the writes are held. */
        test_opener_fault(&world.benches[1].target_opener,
                          (struct test_fault){.ops = TEST_OP(BLOCK_FLUSH),
                                              .first = 2,
                                              .count = 1,
                                              .action = way == 0 ? TEST_LINK_DOWN : TEST_FAIL,
                                              .status = -EIO,
                                              .down_ns = SEC_NS});
        ask(&world, 10000);
        until_told(&world);
        assert_true(world.failed && world.parted);
        assert_int_equal(world.culprit, 1);
        assert_int_equal(world.error.code, ERR_ILLEGAL_STATE);
        finish(&world);
    }
}

/* Links go down and disks are slow at any time: it is a prefix, or an error, and hosts go on. */
static void whatever_happens_it_is_one_moment_or_an_error(void **state)
{
    (void)state;
    unsigned n_parted = 0;
    unsigned n_void = 0;
    for (uint64_t seed = 100; seed < 160; seed++) {
        struct world world;
        world_init(&world, seed);
        struct random random;
        random_seed(&random, seed);
        writers_start(&world);
        for (unsigned round = 0; round < ROUNDS; round++) {
            round_begin(&world);
            struct mirror_bench *bench = &world.benches[random_below(&random, MEMBERS)];
            unsigned ops =
                random_chance(&random, 1, 2) ? TEST_OP(BLOCK_FLUSH) : TEST_OP(BLOCK_WRITE);
            test_opener_fault(&bench->target_opener,
                              (struct test_fault){.ops = ops,
                                                  .first = 1 + (unsigned)random_below(&random, 4),
                                                  .count = 1,
                                                  .action = TEST_LINK_DOWN,
                                                  .down_ns = random_below(&random, SEC_NS)});
            ask(&world, 1 + random_below(&random, 2000));
            until_told(&world);
            writers_await(&world);
            if (!world.failed) {
                n_parted++;
                check_moment(&world);
            }
            n_void += world.failed && !world.parted;
            for (size_t i = 0; i < MEMBERS; i++) {
                mirror_connect(world.benches[i].mirror, MIRROR_TO_LEG);
            }
            for (size_t i = 0; i < MEMBERS; i++) {
                world.benches[i].target_opener.n_faults = 0;
                mirror_bench_until_equal(&world.benches[i]);
            }
        }
        finish(&world);
    }
    assert_true(n_parted > 20 && n_void > 20);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets_are_of_one_moment),
        cmocka_unit_test(a_write_that_does_not_end_voids_it),
        cmocka_unit_test(a_member_that_is_not_equal_voids_it),
        cmocka_unit_test(a_target_that_cannot_be_flushed_is_told),
        cmocka_unit_test(whatever_happens_it_is_one_moment_or_an_error),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
