// SPDX-License-Identifier: Apache-2.0
/*
 * The contract of block/blockdev.h, with a device that does nothing by itself.
 */
#include "tests/unit/block_io.h"

#include "base/check.h"

enum { MAX_SEEN = 16 };

struct puppet {
    struct blockdev base;
    struct block_req *seen[MAX_SEEN];
    unsigned n_seen;
    bool at_once; /* completes within submit */
    bool now;     /* wrongly */
    block_close_fn close_done;
    void *close_arg;
    int idle;
};

static struct loop_sim *sim;
static struct loop *loop;
static struct puppet puppet;

static void puppet_submit(struct blockdev *dev, struct block_req *req)
{
    struct puppet *p = container_of(dev, struct puppet, base);
    p->seen[p->n_seen++] = req;
    if (p->at_once) {
        req->n_extents = 1;
        blockdev_complete(req, 0);
    }
    if (p->now) {
        blockdev_complete_now(req, 0);
    }
}

static void puppet_idle(void *arg)
{
    struct puppet *p = arg;
    p->idle++;
    p->close_done(p->close_arg);
}

static void puppet_close(struct blockdev *dev, block_close_fn done, void *arg)
{
    struct puppet *p = container_of(dev, struct puppet, base);
    p->close_done = done;
    p->close_arg = arg;
    blockdev_when_idle(dev, puppet_idle, p);
}

static const struct blockdev_ops puppet_ops = {
    .kind = "puppet", .submit = puppet_submit, .close = puppet_close};

static int setup(void **state)
{
    (void)state;
    assert_int_equal(loop_sim_new(0, &sim), 0);
    assert_int_equal(loop_sim_add(sim, "test", &loop), 0);
    puppet = (struct puppet){.base = {.ops = &puppet_ops,
                                      .loop = loop,
                                      .info = {.size_bytes = 1 << 20,
                                               .block_bytes = 512,
                                               .physical_bytes = 4096,
                                               .can_map = true,
                                               .can_discard = true}}};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    loop_free(loop);
    loop_sim_free(sim);
    return 0;
}

/* The status of a request that the device must not have seen. */
static int refused(enum block_op op, uint64_t offset, uint64_t len)
{
    static uint8_t data[1]; /* nobody looks at it */
    unsigned before = puppet.n_seen;
    struct io io;
    bool payload = op == BLOCK_READ || op == BLOCK_WRITE;
    io_start(&io, &puppet.base, op, offset, payload ? data : NULL, len, 0);
    loop_sim_run_until_idle(sim);
    assert_true(io.done);
    assert_int_equal(puppet.n_seen, before);
    assert_int_equal(puppet.base.inflight, 0);
    return io.req.status;
}

static void ranges_outside_or_between_blocks_never_reach_the_device(void **state)
{
    (void)state;
    for (enum block_op op = BLOCK_READ; op < BLOCK_OP_COUNT; op++) {
        if (op == BLOCK_FLUSH) {
            continue;
        }
        assert_int_equal(refused(op, 1 << 20, 512), -EINVAL);
        assert_int_equal(refused(op, (1 << 20) - 512, 1024), -EINVAL);
        assert_int_equal(refused(op, 100, 512), -EINVAL);
        assert_int_equal(refused(op, 512, 100), -EINVAL);
        assert_int_equal(refused(op, UINT64_MAX - 511, 512), -EINVAL);
        assert_int_equal(refused(op, 512, UINT64_MAX - 511), -EINVAL);
    }
}

static void what_info_denies_never_reaches_the_device(void **state)
{
    (void)state;
    puppet.base.info.can_map = false;
    puppet.base.info.can_discard = false;
    assert_int_equal(refused(BLOCK_MAP, 0, 512), -EOPNOTSUPP);
    assert_int_equal(refused(BLOCK_DISCARD, 0, 512), -EOPNOTSUPP);
    puppet.base.info.can_discard = true;
    puppet.base.info.read_only = true;
    assert_int_equal(refused(BLOCK_WRITE, 0, 512), -EROFS);
    assert_int_equal(refused(BLOCK_ZERO, 0, 512), -EROFS);
    assert_int_equal(refused(BLOCK_DISCARD, 0, 512), -EROFS);
}

static void length_zero_completes_without_the_device(void **state)
{
    (void)state;
    assert_int_equal(refused(BLOCK_READ, 0, 0), 0);
    assert_int_equal(refused(BLOCK_WRITE, 1 << 20, 0), 0);
    assert_int_equal(refused(BLOCK_ZERO, 512, 0), 0);
    assert_int_equal(refused(BLOCK_DISCARD, 512, 0), 0);
    assert_int_equal(refused(BLOCK_MAP, 512, 0), -EINVAL);
}

static void done_comes_after_submit_even_if_the_device_is_at_once(void **state)
{
    (void)state;
    puppet.at_once = true;
    struct io ios[BLOCK_OP_COUNT];
    uint8_t data[512];
    for (enum block_op op = BLOCK_READ; op < BLOCK_OP_COUNT; op++) {
        bool payload = op == BLOCK_READ || op == BLOCK_WRITE;
        io_start(&ios[op], &puppet.base, op, 0, payload ? data : NULL, 512, 0);
    }
    assert_int_equal(puppet.base.inflight, BLOCK_OP_COUNT);
    loop_sim_run_until_idle(sim);
    assert_int_equal(puppet.base.inflight, 0);
    for (enum block_op op = BLOCK_READ; op < BLOCK_OP_COUNT; op++) {
        assert_true(ios[op].done);
        assert_int_equal(ios[op].req.status, 0);
    }
}

static int resubmits;

static void submit_again(struct block_req *req)
{
    if (++resubmits < 5) {
        blockdev_submit(&puppet.base, req);
    }
}

static void a_request_may_be_submitted_again_from_done(void **state)
{
    (void)state;
    puppet.at_once = true;
    resubmits = 0;
    struct block_req req = {.op = BLOCK_FLUSH, .done = submit_again};
    blockdev_submit(&puppet.base, &req);
    loop_sim_run_until_idle(sim);
    assert_int_equal(resubmits, 5);
    assert_int_equal(puppet.n_seen, 5);
}

static void close_waits_for_what_is_outstanding(void **state)
{
    (void)state;
    struct io io;
    bool closed = false;
    io_start(&io, &puppet.base, BLOCK_FLUSH, 0, NULL, 0, 0);
    blockdev_close(&puppet.base, io_flag, &closed);
    loop_sim_run_until_idle(sim);
    assert_false(closed);
    blockdev_complete(puppet.seen[0], -ECANCELED);
    assert_false(closed);
    loop_sim_run_until_idle(sim);
    assert_true(io.done);
    assert_int_equal(io.req.status, -ECANCELED);
    assert_true(closed);
    assert_int_equal(puppet.idle, 1);
}

static void complete_twice(void *arg)
{
    (void)arg;
    struct io io;
    io_start(&io, &puppet.base, BLOCK_FLUSH, 0, NULL, 0, 0);
    blockdev_complete(puppet.seen[0], 0);
    blockdev_complete(puppet.seen[0], 0);
}

static void complete_after_done(void *arg)
{
    (void)arg;
    struct io io;
    io_start(&io, &puppet.base, BLOCK_FLUSH, 0, NULL, 0, 0);
    blockdev_complete_now(puppet.seen[0], 0);
    blockdev_complete_now(puppet.seen[0], 0);
}

static void submit_twice(void *arg)
{
    (void)arg;
    struct io io;
    io_start(&io, &puppet.base, BLOCK_FLUSH, 0, NULL, 0, 0);
    blockdev_submit(&puppet.base, &io.req);
}

static void complete_now_in_submit(void *arg)
{
    (void)arg;
    struct io io;
    puppet.now = true;
    io_start(&io, &puppet.base, BLOCK_FLUSH, 0, NULL, 0, 0);
}

static void submit_after_close(void *arg)
{
    bool closed = false;
    struct io io;
    (void)arg;
    blockdev_close(&puppet.base, io_flag, &closed);
    io_start(&io, &puppet.base, BLOCK_FLUSH, 0, NULL, 0, 0);
}

static void slices_too_short(void *arg)
{
    (void)arg;
    struct slice slice = {.len = 512};
    struct block_req req = {
        .op = BLOCK_READ, .len = 1024, .slices = &slice, .n_slices = 1, .done = io_done};
    blockdev_submit(&puppet.base, &req);
}

static void map_without_answer(void *arg)
{
    (void)arg;
    struct io io;
    io_start(&io, &puppet.base, BLOCK_MAP, 0, NULL, 512, 0);
    blockdev_complete(puppet.seen[0], 0);
}

static void breaking_the_contract_is_a_failed_check(void **state)
{
    (void)state;
    assert_true(dies(complete_twice, NULL));
    assert_true(dies(complete_after_done, NULL));
    assert_true(dies(submit_twice, NULL));
    assert_true(dies(complete_now_in_submit, NULL));
    assert_true(dies(submit_after_close, NULL));
    assert_true(dies(slices_too_short, NULL));
    assert_true(dies(map_without_answer, NULL));
}

struct heard {
    enum block_event event;
    unsigned attempts;
    const char *detail;
    int times;
};

static void hear(void *arg, struct blockdev *dev, enum block_event event, unsigned attempts,
                 const char *detail)
{
    struct heard *heard = arg;
    assert_ptr_equal(dev, &puppet.base);
    heard->event = event;
    heard->attempts = attempts;
    heard->detail = detail;
    heard->times++;
}

static void events_reach_the_owner_until_it_closes(void **state)
{
    (void)state;
    struct heard heard = {0};
    bool closed = false;
    blockdev_emit(&puppet.base, BLOCK_EVENT_DOWN, 0, "nobody listens");
    puppet.base.on_event = hear;
    puppet.base.event_arg = &heard;
    blockdev_emit(&puppet.base, BLOCK_EVENT_RETRY, 3, "refused");
    assert_int_equal(heard.event, BLOCK_EVENT_RETRY);
    assert_int_equal(heard.attempts, 3);
    assert_string_equal(heard.detail, "refused");
    blockdev_close(&puppet.base, io_flag, &closed);
    blockdev_emit(&puppet.base, BLOCK_EVENT_UP, 0, "");
    assert_int_equal(heard.times, 1);
    loop_sim_run_until_idle(sim);
    assert_true(closed);
}

static void every_enumerator_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(block_op_name(BLOCK_MAP), "map");
    assert_string_equal(block_op_name(BLOCK_READ), "read");
    assert_string_equal(block_event_name(BLOCK_EVENT_CHANGED), "changed");
    assert_string_equal(block_extent_kind_name(BLOCK_EXTENT_UNKNOWN), "unknown");
}

#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(ranges_outside_or_between_blocks_never_reach_the_device),
        CLAIM(what_info_denies_never_reaches_the_device),
        CLAIM(length_zero_completes_without_the_device),
        CLAIM(done_comes_after_submit_even_if_the_device_is_at_once),
        CLAIM(a_request_may_be_submitted_again_from_done),
        CLAIM(close_waits_for_what_is_outstanding),
        CLAIM(breaking_the_contract_is_a_failed_check),
        CLAIM(events_reach_the_owner_until_it_closes),
        CLAIM(every_enumerator_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
