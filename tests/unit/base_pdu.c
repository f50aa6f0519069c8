// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/pdu.h"

static void what_was_put_is_got(void **state)
{
    (void)state;
    uint8_t bhs[PDU_BHS];
    pdu_init(bhs, PDU_DATA_IN, PDU_FINAL, 0x123456);
    assert_int_equal(pdu_opcode(bhs), PDU_DATA_IN);
    assert_true(pdu_final(bhs));
    assert_int_equal(pdu_data_len(bhs), 0x123456);
    put_be64(bhs + 8, 0x0102030405060708ull);
    assert_int_equal(get_be64(bhs + 8), 0x0102030405060708ull);
    assert_int_equal(bhs[8], 1);
    assert_int_equal(get_be24(bhs + 9), 0x020304);
    assert_int_equal(get_be16(bhs + 14), 0x0708);
    assert_int_equal(pdu_pad(0), 0);
    assert_int_equal(pdu_pad(1), 3);
    assert_int_equal(pdu_pad(4), 0);
}

static void only_plain_luns_are_numbers(void **state)
{
    (void)state;
    uint8_t lun[8] = {0};
    assert_int_equal(pdu_lun_decode(lun), 0);
    for (unsigned i = 0; i < 256; i++) {
        pdu_lun_encode(i, lun);
        assert_int_equal(pdu_lun_decode(lun), i);
    }
    assert_int_equal(pdu_lun_decode((uint8_t[8]){0x40, 5}), 5);
    assert_int_equal(pdu_lun_decode((uint8_t[8]){0x41, 5}), 261);
    assert_int_equal(pdu_lun_decode((uint8_t[8]){0x01, 5}), -1);
    assert_int_equal(pdu_lun_decode((uint8_t[8]){0x80, 5}), -1);
    assert_int_equal(pdu_lun_decode((uint8_t[8]){0xc1, 1}), -1);
    assert_int_equal(pdu_lun_decode((uint8_t[8]){0, 1, 0, 1}), -1);
}

static void foreign_opcodes_are_refused(void **state)
{
    (void)state;
    for (unsigned opcode = 0; opcode < 64; opcode++) {
        uint8_t bhs[PDU_BHS] = {(uint8_t)opcode};
        enum pdu_reject expected = opcode <= PDU_LOGOUT_REQUEST ? PDU_REJECT_NONE
                                   : opcode == PDU_SNACK        ? PDU_REJECT_SNACK
                                                                : PDU_REJECT_NOT_SUPPORTED;
        assert_int_equal(pdu_check(bhs), expected);
        bhs[PDU_F_AHS_LEN] = 1;
        if (expected == PDU_REJECT_NONE && opcode != PDU_SCSI_COMMAND) {
            assert_int_equal(pdu_check(bhs), PDU_REJECT_PROTOCOL);
        }
    }
}

static void sequence_numbers_wrap(void **state)
{
    (void)state;
    assert_true(sn_diff(0, 0xffffffff) > 0);
    assert_true(sn_diff(0xffffffff, 0) < 0);
    assert_int_equal(sn_diff(5, 5), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_is_got),
        cmocka_unit_test(only_plain_luns_are_numbers),
        cmocka_unit_test(foreign_opcodes_are_refused),
        cmocka_unit_test(sequence_numbers_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
