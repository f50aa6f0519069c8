// SPDX-License-Identifier: Apache-2.0
/*
 * One moment for stacks on several loops: what is cut is a prefix of what writers did, one write after the other over all stacks, in whatever
 * order the loops get to run; and nobody waits for a loop that has nothing under way.
 */
#include "block/stack_gate.h"

#include <stdio.h>
#include <stdlib.h>

#include "block/layer.h"
#include "block/stack.h"
#include "tests/unit/block_io.h"
#include "tests/unit/layer_disk.h"

/* The thread sanitizer is slow, and there is one thread. */
#ifdef __SANITIZE_THREAD__
enum { SEEDS = 10 };
#else
enum { SEEDS = 60 };
#endif

enum { N_LOOPS = 3, N_STACKS = 5, N_WRITERS = 4, N_ROUNDS = 6, PAGE = 4096, SIZE = 1 << 20 };

struct member {
    struct loop *loop;
    struct layer_disk *disk;
    struct layer_cache *cache;
    struct layer *layers[N_ROUNDS + 1];
    unsigned n_layers; /* those that are pushed */
    struct blockdev *dev;
};

struct writer {
    struct io io;
    struct loop_task task;
    uint32_t page[PAGE / 4];
    unsigned number; /* its page of each stack */
    uint32_t count;  /* of the write under way: it goes to member count % N_STACKS */
    bool stop;
    bool idle;
};

/* What a loop has in the gate. */
struct part {
    struct loop_task enter_task;
    struct loop_task told_task;
    bool left;
    bool told;
};

static struct loop_sim *sim;
static struct loop *loops[N_LOOPS];
static struct member members[N_STACKS];
static struct writer writers[N_WRITERS];
static unsigned n_written;
static struct part parts[N_LOOPS];
static struct stack_gate gate;
static unsigned n_entered;
static unsigned n_waited;

/* ---- the stacks ---- */

struct opening {
    struct layer *layer;
};

static void opened(void *arg, struct layer *layer, const struct error *error)
{
    assert_null(error);
    ((struct opening *)arg)->layer = layer;
}

static bool is_open(void *arg)
{
    return ((struct opening *)arg)->layer != NULL;
}

static bool is_true(void *arg)
{
    return *(bool *)arg;
}

static void set_true(void *arg)
{
    *(bool *)arg = true;
}

static struct layer *layer_make(struct member *member, unsigned number)
{
    char name[24];
    struct opening opening = {0};

    snprintf(name, sizeof(name), "layer%u", number);
    struct layer_spec spec = {.path = name,
                              .cache = member->cache,
                              .backend = layer_disk_backend(member->disk),
                              .size_bytes = SIZE,
                              .log_half_bytes = 8192,
                              .id = {1}};

    assert_int_equal(layer_create(member->loop, &spec, opened, &opening), 0);
    assert_true(loop_sim_run_until(sim, is_open, &opening, 100 * SEC_NS));
    return opening.layer;
}

static struct blockdev *stack_make(struct member *member, unsigned n_layers, bool read_only)
{
    struct stack_spec spec = {
        .layers = member->layers, .n_layers = n_layers, .read_only = read_only};
    struct blockdev *dev;

    assert_int_equal(stack_open(member->loop, &spec, &dev), 0);
    return dev;
}

static void stack_end(struct blockdev *dev)
{
    bool closed = false;

    blockdev_close(dev, set_true, &closed);
    assert_true(loop_sim_run_until(sim, is_true, &closed, 100 * SEC_NS));
}

/* Every layer that there will be is made before, so that nothing runs between a cut and what it is looked at by. */
static void world_begin(uint64_t seed, unsigned delay_percent)
{
    assert_int_equal(loop_sim_new(seed, &sim), 0);
    for (unsigned i = 0; i < N_LOOPS; i++) {
        assert_int_equal(loop_sim_add(sim, "data", &loops[i]), 0);
    }
    for (unsigned i = 0; i < N_STACKS; i++) {
        struct member *member = &members[i];

        *member = (struct member){.loop = loops[i % N_LOOPS], .n_layers = 1};
        member->disk = layer_disk_new(seed * N_STACKS + i + 1, delay_percent);
        assert_int_equal(layer_cache_new(0, &member->cache), 0);
        for (unsigned k = 0; k <= N_ROUNDS; k++) {
            member->layers[k] = layer_make(member, k);
        }
        member->dev = stack_make(member, 1, false);
    }
    n_written = n_waited = 0;
}

static void one_less(void *arg, int status)
{
    assert_int_equal(status, 0);
    --*(unsigned *)arg;
}

static bool is_zero(void *arg)
{
    return *(unsigned *)arg == 0;
}

static void world_end(void)
{
    for (unsigned i = 0; i < N_STACKS; i++) {
        struct member *member = &members[i];
        unsigned n_layers = N_ROUNDS + 1;

        stack_end(member->dev);
        for (unsigned k = 0; k <= N_ROUNDS; k++) {
            layer_unref(member->layers[k], one_less, &n_layers);
        }
        assert_true(loop_sim_run_until(sim, is_zero, &n_layers, 100 * SEC_NS));
        layer_cache_free(member->cache);
        layer_disk_free(member->disk);
    }
    for (unsigned i = 0; i < N_LOOPS; i++) {
        loop_free(loops[i]);
    }
    loop_sim_free(sim);
}

/* ---- writers ---- */

static void writer_turn(void *arg);

static void writer_next(struct writer *writer)
{
    writer->count++;
    for (unsigned i = 0; i < PAGE / 4; i++) {
        writer->page[i] = writer->count;
    }
    writer->task = (struct loop_task){.fn = writer_turn, .arg = writer};
    loop_post(members[writer->count % N_STACKS].loop, &writer->task);
}

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

static void writer_turn(void *arg)
{
    struct writer *writer = arg;

    writer->io.slice = (struct slice){.data = (void *)writer->page, .len = PAGE};
    writer->io.req = (struct block_req){.op = BLOCK_WRITE,
                                        .offset = (uint64_t)writer->number * PAGE,
                                        .len = PAGE,
                                        .slices = &writer->io.slice,
                                        .n_slices = 1,
                                        .done = writer_done,
                                        .arg = writer};
    blockdev_submit(members[writer->count % N_STACKS].dev, &writer->io.req);
}

static bool many_written(void *arg)
{
    return n_written >= *(unsigned *)arg;
}

static void writers_await(unsigned n)
{
    n += n_written;
    assert_true(loop_sim_run_until(sim, many_written, &n, 100 * SEC_NS));
}

static void writers_begin(void)
{
    for (unsigned i = 0; i < N_WRITERS; i++) {
        writers[i] = (struct writer){.number = i};
        writer_next(&writers[i]);
    }
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
    assert_true(loop_sim_run_until(sim, writers_are_idle, NULL, 100 * SEC_NS));
}

/* ---- a round ---- */

static void part_go_on(void *arg)
{
    struct part *part = arg;
    bool cut = stack_gate_state(&gate) == STACK_GATE_CUT;

    if (part->left) {
        return;
    }
    part->left = true;
    for (unsigned i = (unsigned)(part - parts); i < N_STACKS; i += N_LOOPS) {
        if (cut) {
            assert_int_equal(stack_push(members[i].dev, members[i].layers[members[i].n_layers++]),
                             0);
        }
        n_waited += stack_gate_leave(members[i].dev);
    }
    for (unsigned i = (unsigned)(part - parts); i < N_STACKS; i += N_LOOPS) {
        stack_gate_resume(members[i].dev);
    }
}

static void part_told(void *arg)
{
    struct part *part = arg;

    part_go_on(part);
    part->told = true;
}

static void all_tell(void)
{
    for (unsigned i = 0; i < N_LOOPS; i++) {
        parts[i].told_task = (struct loop_task){.fn = part_told, .arg = &parts[i]};
        loop_post(loops[i], &parts[i].told_task);
    }
}

static void gate_cut(struct stack_gate *cut)
{
    assert_ptr_equal(cut, &gate);
    assert_true(stack_gate_is_quiet(cut));
    all_tell();
}

static void part_enter(void *arg)
{
    struct part *part = arg;

    for (unsigned i = (unsigned)(part - parts); i < N_STACKS; i += N_LOOPS) {
        assert_int_equal(stack_gate_enter(members[i].dev, &gate, part_go_on, part), 0);
        assert_int_equal(stack_gate_enter(members[i].dev, &gate, part_go_on, part), -EBUSY);
        assert_int_equal(stack_hold(members[i].dev, set_true, NULL), -EBUSY);
    }
    if (++n_entered == N_LOOPS) {
        stack_gate_hold(&gate, loop_now_ns(loops[part - parts]));
    }
}

static void round_begin(void)
{
    gate = (struct stack_gate){.cut = gate_cut};
    n_entered = 0;
    memset(parts, 0, sizeof(parts));
    for (unsigned i = 0; i < N_LOOPS; i++) {
        parts[i].enter_task = (struct loop_task){.fn = part_enter, .arg = &parts[i]};
        loop_post(loops[i], &parts[i].enter_task);
    }
}

static bool all_entered(void *arg)
{
    (void)arg;
    return n_entered == N_LOOPS;
}

static bool all_told(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < N_LOOPS; i++) {
        if (!parts[i].told) {
            return false;
        }
    }
    return true;
}

static void round_await(void)
{
    assert_true(loop_sim_run_until(sim, all_told, NULL, 100 * SEC_NS));
}

static uint32_t page_read(struct blockdev *dev, unsigned number)
{
    uint32_t page[PAGE / 4];
    struct io io;

    io_start(&io, dev, BLOCK_READ, (uint64_t)number * PAGE, page, PAGE, 0);
    assert_true(loop_sim_run_until(sim, io_is_done, &io, 100 * SEC_NS));
    assert_int_equal(io.req.status, 0);
    assert_int_equal(page[0], page[PAGE / 4 - 1]);
    return page[0];
}

/* What the layers below the top have: the last of the counts up to some k that were a stack's own. */
static void prefix_check(uint64_t seed, uint32_t last[N_WRITERS])
{
    struct blockdev *cuts[N_STACKS];

    for (unsigned i = 0; i < N_STACKS; i++) {
        cuts[i] = stack_make(&members[i], members[i].n_layers - 1, true);
    }
    for (unsigned w = 0; w < N_WRITERS; w++) {
        uint32_t counts[N_STACKS];
        uint32_t k = 0;

        for (unsigned i = 0; i < N_STACKS; i++) {
            counts[i] = page_read(cuts[i], w);
            k = counts[i] > k ? counts[i] : k;
        }
        for (unsigned i = 0; i < N_STACKS; i++) {
            uint32_t own = k - (k - i) % N_STACKS;

            if (counts[i] != (k >= i && own <= k ? own : 0) || k < last[w]) {
                print_error("seed %llu: writer %u, stack %u: %u, of %u, before %u\n",
                            (unsigned long long)seed, w, i, counts[i], k, last[w]);
                fail();
            }
        }
        last[w] = k;
    }
    for (unsigned i = 0; i < N_STACKS; i++) {
        stack_end(cuts[i]);
    }
}

/* ---- tests ---- */

static void every_cut_is_a_prefix(void **state)
{
    (void)state;
    unsigned waited = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint32_t last[N_WRITERS] = {0};

        world_begin(seed, (unsigned)(seed % 4) * 25);
        loop_sim_stall(sim, seed % 3 * 100000);
        writers_begin();
        writers_await(N_WRITERS * N_STACKS);
        for (unsigned k = 0; k < N_ROUNDS; k++) {
            writers_await((unsigned)random_below(loop_sim_random(sim), 20));
            round_begin();
            round_await();
            prefix_check(seed, last);
        }
        writers_end();
        waited += n_waited;
        world_end();
    }
    assert_true(waited > 0);
}

/* A gate that is made void at any time: nothing is pushed, nothing waits for ever, and the next one is as any other. */
static void a_void_gate_lets_all_go_on(void **state)
{
    (void)state;

    for (uint64_t seed = 1; seed <= SEEDS / 2; seed++) {
        uint32_t last[N_WRITERS] = {0};
        unsigned n_void = 0;

        world_begin(seed, 50);
        writers_begin();
        for (unsigned k = 0; k < N_ROUNDS; k++) {
            writers_await((unsigned)random_below(loop_sim_random(sim), 20));
            round_begin();
            assert_true(loop_sim_run_until(sim, all_entered, NULL, 100 * SEC_NS));
            if (stack_gate_void(&gate)) {
                n_void++;
                assert_false(stack_gate_void(&gate));
                all_tell();
            }
            round_await();
            for (unsigned i = 0; i < N_STACKS; i++) {
                assert_int_equal(stack_layers(members[i].dev), k + 2 - n_void);
            }
            writers_await(2 * N_STACKS);
            if (k + 1 > n_void) {
                prefix_check(seed, last);
            }
        }
        writers_end();
        world_end();
    }
}

/* Loops that have nothing under way do not run: the moment is at once, and each finds out by itself. */
static void nobody_waits_for_a_loop_without_changes(void **state)
{
    (void)state;
    uint8_t data[PAGE] = {5};
    struct io io[2];

    world_begin(0, 0);
    round_begin();
    assert_true(loop_sim_run_until(sim, all_entered, NULL, SEC_NS));
    assert_int_equal(stack_gate_state(&gate), STACK_GATE_CUT);
    assert_false(parts[0].told || parts[1].told || parts[2].told);
    io_start(&io[0], members[1].dev, BLOCK_WRITE, 0, data, PAGE, 0);
    assert_true(parts[1].left && !parts[1].told && !parts[0].left);
    assert_int_equal(stack_layers(members[1].dev), 2);
    assert_int_equal(stack_layers(members[4].dev), 2);
    assert_int_equal(stack_layers(members[0].dev), 1);
    round_await();
    assert_true(loop_sim_run_until(sim, io_is_done, &io[0], SEC_NS));
    assert_int_equal(n_waited, 0);
    world_end();
}

/* What is under way on one stack holds all; its end is the moment, without any message. */
static void the_last_change_is_the_moment(void **state)
{
    (void)state;
    uint8_t data[PAGE] = {5};
    struct io before;
    struct io during[2];

    world_begin(0, 0);
    layer_disk_slow(members[2].disk, "layer0", SEC_NS);
    io_start(&before, members[2].dev, BLOCK_WRITE, 0, data, PAGE, 0);
    round_begin();
    assert_true(loop_sim_run_until(sim, all_entered, NULL, SEC_NS));
    assert_int_equal(stack_gate_state(&gate), STACK_GATE_HELD);
    assert_true(stack_gate_is_busy(members[2].dev) && !stack_gate_is_busy(members[0].dev));
    io_start(&during[0], members[0].dev, BLOCK_WRITE, 0, data, PAGE, 0);
    io_start(&during[1], members[2].dev, BLOCK_WRITE, 0, data, PAGE, 0);
    loop_sim_advance(sim, SEC_NS / 2);
    assert_int_equal(stack_gate_state(&gate), STACK_GATE_HELD);
    assert_false(before.done || during[0].done || during[1].done);
    assert_int_equal(page_read(members[0].dev, 0), 0); /* reads do not wait */
    round_await();
    assert_true(before.done);
    assert_int_equal(stack_gate_state(&gate), STACK_GATE_CUT);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(loop_sim_run_until(sim, io_is_done, &during[i], 3 * SEC_NS));
        assert_int_equal(during[i].req.status, 0);
    }
    assert_int_equal(n_waited, 2);
    assert_true(layer_used_bytes(members[0].layers[1]) > layer_used_bytes(members[1].layers[1]));
    world_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_is_a_prefix),
        cmocka_unit_test(a_void_gate_lets_all_go_on),
        cmocka_unit_test(nobody_waits_for_a_loop_without_changes),
        cmocka_unit_test(the_last_change_is_the_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
