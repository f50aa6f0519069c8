// SPDX-License-Identifier: Apache-2.0
/*
 * After a fence no write of an older session lands.
 */
#include "tests/unit/iscsi_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

/* The target says that it was reset: for the device that is a lost link. */
static void lose_link(struct watch *watch)
{
    uint8_t block[512] = {0};

    watch->downs = watch->ups = 0;
    fake_target_fault(
        fake, &(struct fake_fault){.opcode = 0x8a, .count = 1, .status = 2, .key = 6, .asc = 0x29});
    assert_int_equal(io_run(watch->dev, BLOCK_WRITE, 0, sizeof(block), block, 0), -ENOTCONN);
    wait_for(saw_down, watch);
}

static void a_fenced_lun_is_reset_before_it_is_written_again(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    uint8_t block[512] = {1};

    (void)state;
    /* Nobody has asked for it. */
    watch_open(&watch, &spec);
    lose_link(&watch);
    wait_for(saw_up, &watch);
    watch_close(&watch);
    assert_int_equal(fake_target_resets(fake), 0);

    /* At each redial. */
    spec.fence = true;
    watch_open(&watch, &spec);
    assert_int_equal(fake_target_resets(fake), 0);
    for (unsigned i = 1; i <= 2; i++) {
        lose_link(&watch);
        wait_for(saw_up, &watch);
        assert_int_equal(fake_target_resets(fake), i);
        assert_int_equal(watch.downs, 1);
        assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, sizeof(block), block, 0), 0);
    }
    watch_close(&watch);

    /* At the open. */
    fake_target_answer_resets(fake, 0);
    spec.fence_open = true;
    watch_open(&watch, &spec);
    assert_int_equal(fake_target_resets(fake), 1);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, sizeof(block), block, 0), 0);
    assert_int_equal(watch.downs, 0);
    watch_close(&watch);
}

/* Two sessions, as block/multi_dev.c uses them. */
static void a_session_fences_and_others_can_be_told(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch first, second;
    uint8_t block[4096] = {1};
    char names[2][512];

    (void)state;
    watch_open(&first, &spec);
    spec.isid++;
    watch_open(&second, &spec);
    iscsi_dev_name(first.dev, names[0], sizeof(names[0]));
    iscsi_dev_name(second.dev, names[1], sizeof(names[1]));
    assert_string_equal(names[0], names[1]);
    assert_true(strlen(names[0]) > 8);

    iscsi_dev_fence(first.dev);
    wait_for(saw_up, &first);
    assert_int_equal(first.downs + first.retries, 0);
    iscsi_dev_fenced(second.dev);
    assert_int_equal(io_run(second.dev, BLOCK_WRITE, 0, sizeof(block), block, 0), 0);
    assert_int_equal(io_run(first.dev, BLOCK_WRITE, 0, sizeof(block), block, 0), 0);
    assert_int_equal(first.downs + second.downs, 0);
    assert_false(iscsi_dev_was_reset(second.dev));

    /* One that was not told takes it for what it may be. */
    first.ups = 0;
    iscsi_dev_fence(first.dev);
    wait_for(saw_up, &first);
    assert_int_equal(io_run(second.dev, BLOCK_WRITE, 0, sizeof(block), block, 0), -ENOTCONN);
    assert_int_equal(second.downs, 1);
    assert_true(iscsi_dev_was_reset(second.dev));
    wait_for(saw_up, &second);
    assert_false(iscsi_dev_was_reset(second.dev));
    watch_close(&first);
    watch_close(&second);
}

static bool has_connection(void *arg)
{
    struct pollfd pfd = {.fd = *(int *)arg, .events = POLLIN};

    return poll(&pfd, 1, 0) > 0;
}

static void a_session_comes_from_the_address_that_was_wanted(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct sockaddr_in *source = (struct sockaddr_in *)&spec.source;
    struct sockaddr_in *portal = (struct sockaddr_in *)&spec.portals[0];
    struct sockaddr_in peer;
    socklen_t len = sizeof(*portal);
    struct answer answer = {.done = false};
    uint8_t block[512] = {1};
    struct watch watch;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    (void)state;
    source->sin_family = AF_INET;
    assert_int_equal(inet_pton(AF_INET, "127.0.0.7", &source->sin_addr), 1);
    watch_open(&watch, &spec);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, sizeof(block), block, 0), 0);
    watch_close(&watch);

    portal->sin_port = 0;
    assert_int_equal(bind(listener, (struct sockaddr *)portal, len), 0);
    assert_int_equal(listen(listener, 4), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)portal, &len), 0);
    struct iscsi_op *op = iscsi_dev_open(loop, &spec, opened, &answer);
    wait_for(has_connection, &listener);
    int fd = accept(listener, (struct sockaddr *)&peer, &len);
    assert_true(fd >= 0);
    assert_int_equal(ntohl(peer.sin_addr.s_addr), 0x7f000007);
    idle_ms(20);
    assert_int_equal(accept(listener, NULL, NULL), -1); /* and only from there */
    iscsi_op_cancel(op);
    close(fd);
    close(listener);

    /* An address that is not ours, one of another family. */
    assert_int_equal(inet_pton(AF_INET, "192.0.2.7", &source->sin_addr), 1);
    answer = open_answer(&spec);
    assert_null(answer.dev);
    assert_int_equal(answer.error.code, ERR_REMOTE_UNREACHABLE);
    assert_non_null(strstr(answer.error.detail, "192.0.2.7"));
    spec.source.ss_family = AF_INET6;
    answer = open_answer(&spec);
    assert_int_equal(answer.error.code, ERR_REMOTE_UNREACHABLE);
}

static void a_lun_that_is_not_the_right_one_is_not_reset(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    struct answer answer;

    (void)state;
    spec.fence = true;
    watch_open(&watch, &spec);
    fake_target_identity(fake, 9);
    lose_link(&watch);
    wait_for(saw_change, &watch);
    watch_close(&watch);
    spec.fence_open = true;
    snprintf(spec.identity, sizeof(spec.identity), "naa.600100000000000000000000000000ff");
    answer = open_answer(&spec);
    assert_null(answer.dev);
    assert_int_equal(answer.error.code, ERR_LUN_CHANGED);
    assert_int_equal(fake_target_resets(fake), 0);
}

/* Function not supported, rejected by the session layer, no answer: it comes up all the same, but later. */
static void a_target_that_refuses_the_reset_is_given_time(void **state)
{
    static const int responses[] = {5, -2, -1};
    struct iscsi_spec spec = spec_of(FAKE, 1);
    uint8_t block[512] = {1};

    (void)state;
    spec.fence_open = true;
    for (unsigned i = 0; i < ARRAY_LEN(responses); i++) {
        uint64_t began_ns = loop_now_ns(loop);
        struct watch watch;

        fake_target_answer_resets(fake, responses[i]);
        watch_open(&watch, &spec);
        assert_int_equal(fake_target_resets(fake), 1);
        assert_true(loop_now_ns(loop) - began_ns >= 2 * SEC_NS);
        assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, sizeof(block), block, 0), 0);
        watch_close(&watch);
    }
}

static bool has_logged_in(void *arg)
{
    return fake_target_logins(fake) == *(const unsigned *)arg;
}

static void a_session_that_is_lost_while_fencing_is_dialled_again(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;

    (void)state;
    spec.fence = true;
    watch_open(&watch, &spec);
    lose_link(&watch);
    /* Login, questions, the quiet time: then the target ends the session. */
    unsigned logins = fake_target_logins(fake) + 1;
    wait_for(has_logged_in, &logins);
    idle_ms(100);
    fake_target_hang_up(fake);
    wait_for(saw_retry, &watch);
    wait_for(saw_up, &watch);
    assert_int_equal(fake_target_resets(fake), 1);
    watch_close(&watch);

    /* Closed in the middle of it. */
    watch_open(&watch, &spec);
    lose_link(&watch);
    idle_ms(300);
    watch_close(&watch);
}

/* tgtd keeps the old session and its tasks when the same initiator comes again. */
static void no_write_of_an_older_session_lands_after_the_fence(void **state)
{
    enum { COUNT = 64, LEN = 128 * 1024 };
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct iscsi_spec other = spec;
    struct watch old, new, bystander;
    struct io *ios = calloc(COUNT, sizeof(*ios));
    uint8_t *data = malloc((size_t)COUNT * LEN);
    uint8_t *found = malloc((size_t)COUNT * LEN);

    (void)state;
    snprintf(other.initiator, sizeof(other.initiator), "iqn.2026-01.test:bystander");
    watch_open(&bystander, &other);
    watch_open(&old, &spec);
    fill(data, (size_t)COUNT * LEN, 77);
    tgtd_freeze(tgtd);
    for (unsigned i = 0; i < COUNT; i++) {
        io_prepare(&ios[i], BLOCK_WRITE, (uint64_t)i * LEN, LEN, data + (size_t)i * LEN);
        blockdev_submit(old.dev, &ios[i].req);
    }
    idle_ms(50);
    watch_close(&old);
    tgtd_thaw(tgtd);

    spec.fence = spec.fence_open = true;
    watch_open(&new, &spec);
    fill(data, (size_t)COUNT * LEN, 78);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(
            io_run(new.dev, BLOCK_WRITE, (uint64_t)i * LEN, LEN, data + (size_t)i * LEN, 0), 0);
    }
    idle_ms(200);
    file_read("thin", 0, found, (size_t)COUNT * LEN);
    assert_memory_equal(found, data, (size_t)COUNT * LEN);
    watch_close(&new);

    /* The reset was a real one: who else has a session hears of it. */
    assert_int_equal(io_run(bystander.dev, BLOCK_READ, 0, LEN, data, 0), -ENOTCONN);
    assert_int_equal(bystander.downs, 1);
    watch_close(&bystander);
    free(found);
    free(data);
    free(ios);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_FAKE(a_fenced_lun_is_reset_before_it_is_written_again),
        TEST_FRESH(a_session_fences_and_others_can_be_told),
        TEST_FRESH(a_session_comes_from_the_address_that_was_wanted),
        TEST_FAKE(a_lun_that_is_not_the_right_one_is_not_reset),
        TEST_FAKE(a_target_that_refuses_the_reset_is_given_time),
        TEST_FAKE(a_session_that_is_lost_while_fencing_is_dialled_again),
        cmocka_unit_test_setup(no_write_of_an_older_session_lands_after_the_fence, fresh),
    };

    return cmocka_run_group_tests(tests, iscsi_setup, iscsi_teardown);
}
