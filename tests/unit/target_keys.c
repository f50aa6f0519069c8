// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "target/keys.h"

#define VALUE(member) offsetof(struct keys_values, member)

static void each_offer_gets_the_answer_of_its_kind(void **state)
{
    (void)state;
    static const struct {
        const char *name, *offer, *answer; /* NULL: none */
        size_t value;
        uint32_t agreed;
    } cases[] = {
        {"HeaderDigest", "CRC32C,None", "CRC32C", VALUE(header_digest), 1},
        {"HeaderDigest", "None", "None", VALUE(header_digest), 0},
        {"HeaderDigest", "MD5,None", "None", VALUE(header_digest), 0},
        {"DataDigest", "MD5", "Reject", VALUE(data_digest), 0},
        {"MaxConnections", "8", "1", VALUE(max_connections), 1},
        {"InitialR2T", "No", "No", VALUE(initial_r2t), 0},
        {"InitialR2T", "Yes", "Yes", VALUE(initial_r2t), 1},
        {"InitialR2T", "maybe", "Reject", VALUE(initial_r2t), 1},
        {"ImmediateData", "No", "No", VALUE(immediate_data), 0},
        {"ImmediateData", "Yes", "Yes", VALUE(immediate_data), 1},
        {"MaxRecvDataSegmentLength", "4096", NULL, VALUE(max_recv_segment), 4096},
        {"MaxBurstLength", "16776192", "1048576", VALUE(max_burst), 1 << 20},
        {"MaxBurstLength", "0x1000", "4096", VALUE(max_burst), 4096},
        {"MaxBurstLength", "511", "Reject", VALUE(max_burst), 262144},
        {"FirstBurstLength", "512", "512", VALUE(first_burst), 512},
        {"DefaultTime2Wait", "0", "2", VALUE(time_to_wait), 2},
        {"DefaultTime2Retain", "0", "0", VALUE(time_to_retain), 0},
        {"DefaultTime2Retain", "3601", "Reject", VALUE(time_to_retain), 20},
        {"MaxOutstandingR2T", "16", "8", VALUE(max_outstanding_r2t), 8},
        {"DataPDUInOrder", "No", "Yes", VALUE(data_pdu_in_order), 1},
        {"DataSequenceInOrder", "No", "Yes", VALUE(data_sequence_in_order), 1},
        {"ErrorRecoveryLevel", "2", "0", VALUE(error_recovery_level), 0},
        {"iSCSIProtocolLevel", "2", "1", VALUE(protocol_level), 1},
        {"TaskReporting", "FastAbort,ResponseFence", "ResponseFence", VALUE(task_reporting), 1},
        {"OFMarker", "Yes", "No", VALUE(header_digest), 0},
        {"IFMarkInt", "1~2", "Irrelevant", VALUE(header_digest), 0},
        {"X-com.example.key", "1", "NotUnderstood", VALUE(header_digest), 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct keys keys;
        struct strbuf answer = STRBUF_INIT;
        bool other;
        keys_init(&keys);
        assert_int_equal(
            keys_receive(&keys, KEYS_OPERATIONAL, cases[i].name, cases[i].offer, &answer, &other),
            0);
        char value[KEYS_MAX_VALUE + 1];
        bool found =
            keys_find((const uint8_t *)strbuf_str(&answer), answer.len, cases[i].name, value);
        assert_int_equal(found, cases[i].answer != NULL);
        if (found) {
            assert_string_equal(value, cases[i].answer);
        }
        uint32_t agreed;
        memcpy(&agreed, (char *)&keys.values + cases[i].value, sizeof(agreed));
        assert_int_equal(agreed, cases[i].agreed);
        strbuf_fini(&answer);
    }
}

static void all_four_combinations_of_r2t_and_immediate_data(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 16; bits++) {
        struct keys keys;
        struct strbuf answer = STRBUF_INIT;
        bool other;
        keys_init(&keys);
        keys.our_initial_r2t = bits & 1;
        keys.our_immediate_data = bits >> 1 & 1;
        keys_receive(&keys, KEYS_OPERATIONAL, "InitialR2T", bits & 4 ? "Yes" : "No", &answer,
                     &other);
        keys_receive(&keys, KEYS_OPERATIONAL, "ImmediateData", bits & 8 ? "Yes" : "No", &answer,
                     &other);
        assert_int_equal(keys.values.initial_r2t, (bits & 1) || (bits & 4));
        assert_int_equal(keys.values.immediate_data, (bits & 2) && (bits & 8));
        strbuf_fini(&answer);
    }
}

static void keys_are_negotiated_once_and_in_their_phase(void **state)
{
    (void)state;
    struct keys keys;
    struct strbuf answer = STRBUF_INIT;
    bool other;
    keys_init(&keys);
    assert_int_equal(keys_receive(&keys, KEYS_SECURITY, "HeaderDigest", "None", &answer, &other),
                     -EPROTO);
    assert_int_equal(keys_receive(&keys, KEYS_OPERATIONAL, "HeaderDigest", "None", &answer, &other),
                     0);
    assert_int_equal(keys_receive(&keys, KEYS_OPERATIONAL, "HeaderDigest", "None", &answer, &other),
                     -EPROTO);
    assert_int_equal(keys_receive(&keys, KEYS_OPERATIONAL, "AuthMethod", "None", &answer, &other),
                     -EPROTO);
    assert_int_equal(keys_receive(&keys, KEYS_SECURITY, "AuthMethod", "None", &answer, &other), 0);
    assert_true(other);
    strbuf_fini(&answer);
}

static int count_pair(void *arg, const char *name, const char *value)
{
    (void)name;
    (void)value;
    ++*(unsigned *)arg;
    return 0;
}

static void text_that_is_not_pairs_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        int err;
        unsigned pairs;
    } cases[] = {
        {"A=b\0", 4, 0, 1},    {"A=b\0C=d\0", 8, 0, 2}, {"A=\0", 3, 0, 1},  {"", 0, 0, 0},
        {"A=b", 3, -1, 0},     {"Ab\0", 3, -1, 0},      {"=b\0", 3, -1, 0}, {"1=b\0", 4, -1, 0},
        {"A b=c\0", 6, -1, 0}, {"\0\0A=b\0", 6, 0, 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned pairs = 0;
        int err = keys_walk((const uint8_t *)cases[i].text, cases[i].len, count_pair, &pairs);
        assert_int_equal(err < 0, cases[i].err < 0);
        if (!err) {
            assert_int_equal(pairs, cases[i].pairs);
        }
    }
}

static void first_burst_never_exceeds_the_burst(void **state)
{
    (void)state;
    struct keys keys;
    keys_init(&keys);
    keys.values.max_burst = 4096;
    keys.values.first_burst = 65536;
    keys_settle(&keys);
    assert_int_equal(keys.values.first_burst, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_offer_gets_the_answer_of_its_kind),
        cmocka_unit_test(all_four_combinations_of_r2t_and_immediate_data),
        cmocka_unit_test(keys_are_negotiated_once_and_in_their_phase),
        cmocka_unit_test(text_that_is_not_pairs_is_refused),
        cmocka_unit_test(first_burst_never_exceeds_the_burst),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
