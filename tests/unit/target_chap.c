// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "target/chap.h"
#include "target/target.h"

static void responses_are_those_of_the_hash_of_id_secret_challenge(void **state)
{
    (void)state;
    /* Computed with another implementation: HASH(01 || "secret-of-12" || 000102…0f). */
    static const struct {
        unsigned algorithm;
        const char *hex;
    } vectors[] = {
        {CHAP_MD5, "d07ae8624e1cdbf395f1f5a0747d156b"},
        {CHAP_SHA1, "6ac87c16aaeb2b33a994cfc7301a0da44f2e202b"},
        {CHAP_SHA256, "a57d201ac61dc0df7c67881c42f3de18a3083864a12e0425a0e97db301f24f4a"},
        {CHAP_SHA3_256, "e87edeaece52bcf709a573644fb4e493d32efee136c2d9c0363ce068ee03e5fa"},
    };
    uint8_t challenge[16];
    for (unsigned i = 0; i < sizeof(challenge); i++) {
        challenge[i] = (uint8_t)i;
    }
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        uint8_t response[CHAP_MAX_RESPONSE];
        char text[2 * CHAP_MAX_RESPONSE + 3];
        assert_int_equal(chap_response(vectors[i].algorithm, 1, "secret-of-12", challenge,
                                       sizeof(challenge), response),
                         0);
        chap_encode(response, chap_response_len(vectors[i].algorithm), text);
        assert_string_equal(text + 2, vectors[i].hex);
    }
    uint8_t response[CHAP_MAX_RESPONSE];
    assert_true(chap_response(4, 1, "x", challenge, 16, response) < 0);
}

static void the_strongest_allowed_algorithm_is_chosen(void **state)
{
    (void)state;
    assert_int_equal(chap_choose("5,6,7,8", TARGET_CHAP_ALL), CHAP_SHA3_256);
    assert_int_equal(chap_choose("5,7", TARGET_CHAP_ALL), CHAP_SHA256);
    assert_int_equal(chap_choose("5", TARGET_CHAP_ALL & ~TARGET_CHAP_MD5), 0);
    assert_int_equal(chap_choose("", TARGET_CHAP_ALL), 0);
    assert_int_equal(chap_choose("55,x,6", TARGET_CHAP_ALL), CHAP_SHA1);
}

static void binary_values_are_decoded_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int err;
        size_t len;
        uint8_t bytes[4];
    } cases[] = {
        {"0x0102ff", 0, 3, {1, 2, 0xff}},
        {"0X1", 0, 1, {1}},
        {"0x123", 0, 2, {0x01, 0x23}},
        {"0bAQL/", 0, 3, {1, 2, 0xff}},
        {"0bAQ==", 0, 1, {1}},
        {"0x", -1, 0, {0}},
        {"0b", -1, 0, {0}},
        {"0xzz", -1, 0, {0}},
        {"0b*", -1, 0, {0}},
        {"12", -1, 0, {0}},
        {"", -1, 0, {0}},
        {"0x0102030405", -1, 0, {0}},
        {"0bAQIDBAU=", -1, 0, {0}},
        {"0bAQ=x", -1, 0, {0}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t out[4];
        size_t len = 0;
        int err = chap_decode(cases[i].text, out, sizeof(out), &len);
        assert_int_equal(err < 0, cases[i].err < 0);
        if (!err) {
            assert_int_equal(len, cases[i].len);
            assert_memory_equal(out, cases[i].bytes, len);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(responses_are_those_of_the_hash_of_id_secret_challenge),
        cmocka_unit_test(the_strongest_allowed_algorithm_is_chosen),
        cmocka_unit_test(binary_values_are_decoded_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
