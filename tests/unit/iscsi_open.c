// SPDX-License-Identifier: Apache-2.0
/*
 * Finding a LUN and logging in to it: probes, discovery, lists, CHAP, redirects, addresses.
 */
#include "tests/unit/iscsi_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

static void a_probe_tells_what_the_lun_is(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 3);
    struct answer answer = probe_answer(&spec);

    (void)state;
    assert_int_equal(answer.error.code, ERR_NONE);
    assert_int_equal(answer.calls, 1);
    assert_int_equal(answer.info.size_bytes, 16 * MIB);
    assert_int_equal(answer.info.block_bytes, 512);
    assert_int_equal(answer.info.peripheral_type, 0);
    assert_true(answer.info.thin && answer.info.lbpme && answer.info.lbprz && answer.info.lbpu);
    assert_false(answer.info.write_protected);
    assert_string_equal(answer.info.vendor, "IET");
    assert_string_equal(answer.info.product, "VIRTUAL-DISK");
    assert_string_equal(answer.info.revision, "0001");
    assert_string_equal(answer.info.serial, "sn-3");
    assert_int_equal(answer.info.identity_kind, ISCSI_IDENTITY_NAA);
    /* tgtd makes the NAA name of the hexadecimal digits of the id. */
    assert_non_null(strstr(answer.info.identity, "naa.6"));
    assert_non_null(strstr(answer.info.identity, "0abc"));

    spec.lun = 2;
    answer = probe_answer(&spec);
    assert_int_equal(answer.info.block_bytes, 4096);
    assert_int_equal(answer.info.size_bytes, 32 * MIB);
    assert_false(answer.info.thin);

    spec.lun = 4;
    answer = probe_answer(&spec);
    assert_true(answer.info.write_protected);
}

static void discovery_finds_targets_and_addresses(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 0);
    struct answer answer = {.done = false};
    struct sockaddr_storage address;

    (void)state;
    tgtd_target(tgtd, 2, TARGET "-2");
    spec.target[0] = 0;
    assert_non_null(iscsi_discover_start(loop, &spec, discovered, &answer));
    wait_for(is_true, &answer.done);
    assert_int_equal(answer.error.code, ERR_NONE);
    assert_int_equal(answer.n, 2);
    assert_string_equal(answer.targets[1].name, TARGET "-2");
    assert_string_equal(answer.targets[0].name, TARGET);
    assert_true(answer.targets[0].n_addresses >= 1);
    assert_int_equal(iscsi_address_parse(answer.targets[0].addresses[0], &address), 0);
    assert_true(sockaddr_equal(&address, &spec.portals[0]));
}

static void the_list_of_luns_is_complete(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 7);
    struct answer answer = {.done = false};

    (void)state;
    assert_non_null(iscsi_report_luns_start(loop, &spec, listed, &answer));
    wait_for(is_true, &answer.done);
    assert_int_equal(answer.error.code, ERR_NONE);
    assert_int_equal(answer.n, 5);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(answer.luns[i], i);
    }
}

static void what_is_wrong_is_said(void **state)
{
    struct iscsi_spec spec = spec_of("iqn.2026-01.test:nobody", 1);
    struct answer answer = probe_answer(&spec);
    struct sockaddr_in *in = (struct sockaddr_in *)&spec.portals[0];

    (void)state;
    assert_int_equal(answer.error.code, ERR_SCAN_NO_TARGET);
    assert_non_null(strstr(answer.error.detail, "nobody"));

    spec = spec_of(TARGET, 9);
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_SCAN_NO_LU);

    spec.lun = 0; /* tgtd's controller */
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_INCOMPATIBLE);
    assert_non_null(strstr(answer.error.detail, "not a disk"));

    in->sin_port = htons(1);
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_REMOTE_UNREACHABLE);
    assert_non_null(strstr(answer.error.detail, "refused"));
    assert_non_null(strstr(answer.error.detail, "127.0.0.1:1"));

    in->sin_addr.s_addr = htonl(0xffffffff);
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_REMOTE_UNREACHABLE);

    spec = spec_of(TARGET, 1);
    spec.data_digest = ISCSI_DIGEST_REQUIRE;
    assert_int_equal(probe_answer(&spec).error.code, ERR_NOT_SUPPORTED);

    spec = spec_of(TARGET, 1);
    spec.n_portals = 0;
    assert_int_equal(probe_answer(&spec).error.code, ERR_INVALID_PARAMETER);
}

static void a_dead_portal_does_not_hide_a_good_one(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct answer answer;

    (void)state;
    spec.portals[1] = spec.portals[0];
    ((struct sockaddr_in *)&spec.portals[0])->sin_port = htons(1);
    spec.n_portals = 2;
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_NONE);
    assert_int_equal(answer.info.size_bytes, 64 * MIB);
}

static void a_lun_that_is_not_expected_is_not_opened(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct answer answer;
    struct watch watch;

    (void)state;
    snprintf(spec.identity, sizeof(spec.identity), "naa.6123");
    answer = open_answer(&spec);
    assert_null(answer.dev);
    assert_int_equal(answer.error.code, ERR_LUN_CHANGED);

    spec.identity[0] = 0;
    spec.size_bytes = 65 * MIB;
    assert_int_equal(open_answer(&spec).error.code, ERR_LUN_CHANGED);
    spec.size_bytes = 0;
    spec.block_bytes = 4096;
    assert_int_equal(open_answer(&spec).error.code, ERR_LUN_CHANGED);
    /* A larger one is the same, and seems as large as expected. */
    spec.block_bytes = 512;
    spec.size_bytes = 60 * MIB;
    watch_open(&watch, &spec);
    assert_int_equal(watch.dev->info.size_bytes, 60 * MIB);
    watch_close(&watch);
}

static void an_operation_can_be_cancelled_at_any_time(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct answer answer = {.done = false};

    (void)state;
    /* Before it began, and then a little later each time. */
    for (unsigned us = 0; us < 6000; us += 150) {
        struct iscsi_op *ops[4] = {
            iscsi_dev_open(loop, &spec, opened, &answer),
            iscsi_probe_start(loop, &spec, probed, &answer),
            iscsi_discover_start(loop, &spec, discovered, &answer),
            iscsi_report_luns_start(loop, &spec, listed, &answer),
        };
        unsigned calls = answer.calls;

        if (us > 0) {
            idle_us(us);
        }
        if (answer.calls != calls) {
            break; /* so late that one was through: it may not be cancelled any more */
        }
        for (unsigned i = 0; i < 4; i++) {
            iscsi_op_cancel(ops[i]);
        }
    }
    {
        unsigned calls = answer.calls;

        idle_ms(50);
        if (answer.calls == calls) {
            assert_true(answer.calls == 0);
        } else {
            /* The late round ends by itself. */
            idle_ms(1000);
        }
    }
    if (answer.dev != NULL) {
        struct watch watch = {.dev = answer.dev};

        watch_close(&watch);
    }
}

/* ---- CHAP ---- */

#define SECRET "a-secret-of-us"
#define MUTUAL "a-secret-of-it"

static void set_chap(struct iscsi_chap *chap, const char *user, const char *secret)
{
    snprintf(chap->user, sizeof(chap->user), "%s", user);
    snprintf(chap->secret, sizeof(chap->secret), "%s", secret);
}

/* A target that wants a secret. */
static struct iscsi_spec chap_target(void)
{
    tgtd_target(tgtd, 2, "iqn.2026-01.test:chap");
    tgtd_lun(tgtd, 2, &(struct tgtd_lun){.lun = 1, .file = "chap", .size_bytes = MIB});
    tgtd_account(tgtd, 2, "ini", SECRET, false);
    return spec_of("iqn.2026-01.test:chap", 1);
}

static void chap_opens_with_the_right_secret_only(void **state)
{
    struct iscsi_spec spec = chap_target();
    struct answer answer;

    (void)state;
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_REMOTE_REFUSED);
    set_chap(&spec.chap, "ini", SECRET);
    assert_int_equal(probe_answer(&spec).error.code, ERR_NONE);
    set_chap(&spec.chap, "ini", "something-else");
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_REMOTE_REFUSED);
    assert_non_null(strstr(answer.error.detail, "authentication"));
    assert_null(strstr(answer.error.detail, "something-else"));
    set_chap(&spec.chap, "nobody", SECRET);
    assert_int_equal(probe_answer(&spec).error.code, ERR_REMOTE_REFUSED);
}

static void mutual_chap_refuses_a_target_that_does_not_prove_itself(void **state)
{
    struct iscsi_spec spec = chap_target();
    struct answer answer;

    (void)state;
    set_chap(&spec.chap, "ini", SECRET);
    set_chap(&spec.mutual_chap, "tgt", MUTUAL);
    /* It knows no secret of its own yet. */
    answer = probe_answer(&spec);
    assert_int_not_equal(answer.error.code, ERR_NONE);

    tgtd_account(tgtd, 2, "tgt", MUTUAL, true);
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_NONE);
    set_chap(&spec.mutual_chap, "tgt", "not-its-secret");
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_REMOTE_REFUSED);
    set_chap(&spec.mutual_chap, "somebody", MUTUAL);
    assert_int_equal(probe_answer(&spec).error.code, ERR_REMOTE_REFUSED);
    /* The same secret both ways is no proof. */
    set_chap(&spec.mutual_chap, "tgt", SECRET);
    assert_int_equal(probe_answer(&spec).error.code, ERR_INVALID_PARAMETER);
}

static void mutual_chap_is_not_fooled_by_the_stage_of_the_login(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    static const char zero_proof[] = "CHAP_N=tgt\nCHAP_R=0x00000000000000000000000000000000";
    const struct fake_login attacks[] = {
        /* Straight into the full feature phase: "this is the operational stage". */
        {.flags = 0x87, .text = "TargetPortalGroupTag=1"},
        /* No authentication. */
        {.flags = 0x81, .text = "AuthMethod=None"},
        /* A proof of zeros, before there was a challenge; at once to the end. */
        {.flags = 0x83, .text = zero_proof},
        {.flags = 0x81, .text = zero_proof},
        {.flags = 0x00, .text = zero_proof},
    };
    const struct fake_login replay[] = {
        {.flags = 0x00, .text = "AuthMethod=CHAP"},
        {.flags = 0x00, .text = "CHAP_A=5\nCHAP_I=1\nCHAP_C=0x0123456789abcdef"},
        {.flags = 0x83, .text = zero_proof},
    };
    const struct fake_login leave[] = {
        {.flags = 0x00, .text = "AuthMethod=CHAP"},
        {.flags = 0x00, .text = "CHAP_A=5\nCHAP_I=1\nCHAP_C=0x0123456789abcdef"},
        {.flags = 0x87, .text = "TargetPortalGroupTag=1"},
    };

    (void)state;
    set_chap(&spec.chap, "ini", SECRET);
    set_chap(&spec.mutual_chap, "tgt", MUTUAL);
    for (unsigned i = 0; i < ARRAY_LEN(attacks); i++) {
        fake_target_login(fake, &attacks[i], 1);
        assert_int_equal(probe_answer(&spec).error.code, ERR_REMOTE_REFUSED);
    }
    fake_target_login(fake, replay, 3);
    assert_int_equal(probe_answer(&spec).error.code, ERR_REMOTE_REFUSED);
    fake_target_login(fake, leave, 3);
    assert_int_equal(probe_answer(&spec).error.code, ERR_REMOTE_REFUSED);
    assert_int_equal(fake_target_count(fake, 0x12), 0); /* nothing was asked of it */
}

static void a_login_that_makes_no_sense_ends_with_an_error(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    static const uint8_t http[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n        ";
    static const uint8_t half[] = {0x23, 0x87, 0, 0, 0, 0, 0, 8};
    const struct fake_login answers[] = {
        {.raw = http, .raw_len = sizeof(http)},
        {.raw = half, .raw_len = sizeof(half), .close = true},
        {.raw = half, .raw_len = 0, .close = true},
        {.flags = 0x87, .text = "MaxRecvDataSegmentLength=0"},
        {.flags = 0x87, .text = "FirstBurstLength=-1"},
        {.flags = 0x87, .status = 0x0302},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(answers); i++) {
        struct answer answer;

        fake_target_login(fake, &answers[i], 1);
        answer = probe_answer(&spec);
        assert_true(answer.error.code == ERR_REMOTE_ERROR ||
                    answer.error.code == ERR_REMOTE_UNREACHABLE);
        assert_int_equal(answer.calls, 1);
    }
    /* Half a response and then nothing. */
    spec.connect_timeout_ms = 200;
    fake_target_login(fake, &(struct fake_login){.raw = half, .raw_len = sizeof(half)}, 1);
    assert_int_equal(probe_answer(&spec).error.code, ERR_TIMEOUT);
}

/* The session is handed over in the middle of the stream: the login takes its response, and not a byte more. */
static void what_follows_the_login_at_once_is_heard(void **state)
{
    static const uint8_t goodbye[48] = {
        [0] = 0x32, [1] = 0x80, [16] = 0xff, [17] = 0xff, [18] = 0xff, [19] = 0xff, [36] = 1};
    static const struct fake_login responses[] = {
        {.flags = 0x81, .text = "AuthMethod=None"},
        {.flags = 0x87, .text = "InitialR2T=No", .behind = goodbye, .behind_len = sizeof(goodbye)},
    };
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct answer answer;

    (void)state;
    fake_target_login(fake, responses, ARRAY_LEN(responses));
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_REMOTE_UNREACHABLE);
    assert_non_null(strstr(answer.error.detail, "asked for the end of the session"));
}

/* ---- redirects ---- */

static int filter_calls;

static int allow_none(void *arg, const struct sockaddr_storage *address, struct error *error)
{
    char text[SOCKADDR_TEXT_LEN];

    (void)arg;
    filter_calls++;
    sockaddr_format(address, text);
    return error_set(error, ERR_ADDRESS_NOT_ALLOWED, "%s may not be dialled", text);
}

static int allow_all(void *arg, const struct sockaddr_storage *address, struct error *error)
{
    (void)arg;
    (void)address;
    (void)error;
    filter_calls++;
    return 0;
}

static void a_redirect_goes_through_the_filter(void **state)
{
    struct iscsi_spec spec = spec_of("iqn.2026-01.test:moved", 1);
    struct answer answer;
    char port[16];

    (void)state;
    /* tgtd sends whoever wants this target to the fake one. */
    snprintf(port, sizeof(port), "%u",
             ntohs(((struct sockaddr_in *)&spec_of(FAKE, 1).portals[0])->sin_port));
    tgtd_target(tgtd, 3, "iqn.2026-01.test:moved");
    tgtd_option(tgtd, 3, "RedirectAddress", "127.0.0.2");
    tgtd_option(tgtd, 3, "RedirectPort", port);
    tgtd_option(tgtd, 3, "RedirectReason", "Temporary");

    answer = probe_answer(&spec); /* no filter: not followed */
    assert_int_equal(answer.error.code, ERR_ADDRESS_NOT_ALLOWED);
    filter_calls = 0;
    spec.address_filter = allow_none;
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_ADDRESS_NOT_ALLOWED);
    assert_int_equal(filter_calls, 1);
    assert_int_equal(fake_target_logins(fake), 0);
    spec.address_filter = allow_all;
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_NONE);
    assert_int_equal(fake_target_logins(fake), 1);
    assert_non_null(strstr(answer.info.portal, port));
    assert_string_equal(answer.info.vendor, "SMIRROR");
}

static void redirects_to_names_and_in_circles_end(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    char circle[64];
    struct answer answer;

    (void)state;
    spec.address_filter = allow_all;
    fake_target_login(
        fake, &(struct fake_login){.status = 0x0101, .text = "TargetAddress=example.org:3260,1"},
        1);
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_ADDRESS_NOT_ALLOWED);
    snprintf(circle, sizeof(circle), "TargetAddress=127.0.0.2:%u,1",
             ntohs(((struct sockaddr_in *)&spec.portals[0])->sin_port));
    filter_calls = 0;
    fake_target_login(fake, &(struct fake_login){.status = 0x0101, .text = circle}, 1);
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_REMOTE_ERROR);
    assert_int_equal(filter_calls, 5);
}

static void addresses_are_numbers(void **state)
{
    struct sockaddr_storage address;

    (void)state;
    assert_int_equal(iscsi_address_parse("192.0.2.1:3261,1", &address), 0);
    assert_int_equal(sockaddr_port(&address), 3261);
    assert_int_equal(iscsi_address_parse("192.0.2.1", &address), 0);
    assert_int_equal(sockaddr_port(&address), 3260);
    assert_int_equal(iscsi_address_parse("[2001:db8::1]:3260,1", &address), 0);
    assert_int_equal(address.ss_family, AF_INET6);
    assert_int_equal(iscsi_address_parse("example.org:3260,1", &address), -EINVAL);
    assert_int_equal(iscsi_address_parse("localhost:3260,1", &address), -EINVAL);
    assert_int_equal(iscsi_address_parse("192.0.2.1:3260,", &address), -EINVAL);
    assert_int_equal(iscsi_address_parse("", &address), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_numbers),
        cmocka_unit_test(a_probe_tells_what_the_lun_is),
        TEST_FRESH(discovery_finds_targets_and_addresses),
        cmocka_unit_test(the_list_of_luns_is_complete),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(a_dead_portal_does_not_hide_a_good_one),
        cmocka_unit_test(a_lun_that_is_not_expected_is_not_opened),
        cmocka_unit_test(an_operation_can_be_cancelled_at_any_time),
        TEST_FRESH(chap_opens_with_the_right_secret_only),
        TEST_FRESH(mutual_chap_refuses_a_target_that_does_not_prove_itself),
        TEST_FAKE(mutual_chap_is_not_fooled_by_the_stage_of_the_login),
        TEST_FAKE(a_login_that_makes_no_sense_ends_with_an_error),
        TEST_FAKE(what_follows_the_login_at_once_is_heard),
        TEST_FAKE(a_redirect_goes_through_the_filter),
        TEST_FAKE(redirects_to_names_and_in_circles_end),
    };

    return cmocka_run_group_tests(tests, iscsi_setup, iscsi_teardown);
}
