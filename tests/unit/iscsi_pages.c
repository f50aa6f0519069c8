// SPDX-License-Identifier: Apache-2.0
#include "block/iscsi_pages.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"

/* Bytes in memory of exactly their size, so that the sanitizer sees any look beyond. */
struct exact {
    uint8_t *data;
    size_t len;
};

static struct exact exact(const void *data, size_t len)
{
    struct exact copy = {.data = malloc(len > 0 ? len : 1), .len = len};

    memcpy(copy.data, data, len);
    return copy;
}

static void identity_of(const void *page, size_t len, struct iscsi_lun_info *info)
{
    struct exact copy = exact(page, len);

    memset(info, 0, sizeof(*info));
    iscsi_vpd_identity_parse(copy.data, copy.len, info);
    free(copy.data);
}

#define T10                                                                                        \
    "\x02\x01\x00\x0e"                                                                             \
    "VENDOR  model1"
#define EUI                                                                                        \
    "\x01\x02\x00\x08"                                                                             \
    "\x00\x11\x22\x33\x44\x55\x66\x77"
#define NAA5                                                                                       \
    "\x01\x03\x00\x08"                                                                             \
    "\x50\x11\x22\x33\x44\x55\x66\x77"
#define NAA6                                                                                       \
    "\x01\x03\x00\x10"                                                                             \
    "\x60\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"
#define NAA3                                                                                       \
    "\x01\x03\x00\x08"                                                                             \
    "\x30\x00\x00\x00\x00\x00\x00\x01"
#define PORT                                                                                       \
    "\x01\x13\x00\x08"                                                                             \
    "\x51\x11\x22\x33\x44\x55\x66\x77" /* association: target port */

#define PAGE(designators) (designators), sizeof(designators) - 1
static void page_identity(const char *designators, size_t len, struct iscsi_lun_info *info)
{
    uint8_t page[256] = {0, 0x83, 0, (uint8_t)len};

    memcpy(page + 4, designators, len);
    identity_of(page, 4 + len, info);
    /* Cut anywhere: no crash, and never another name than a whole designator's. */
    for (size_t cut = 0; cut < 4 + len; cut++) {
        struct iscsi_lun_info partly;

        identity_of(page, cut, &partly);
    }
}

static void the_best_designator_is_the_identity(void **state)
{
    struct iscsi_lun_info info;

    (void)state;
    page_identity(PAGE(T10 EUI NAA5 NAA6 PORT), &info);
    assert_string_equal(info.identity, "naa.60112233445566778899aabbccddeeff");
    assert_int_equal(info.identity_kind, ISCSI_IDENTITY_NAA);
    page_identity(PAGE(NAA6 NAA5), &info);
    assert_string_equal(info.identity, "naa.60112233445566778899aabbccddeeff");
    page_identity(PAGE(PORT T10 EUI), &info);
    assert_string_equal(info.identity, "eui.0011223344556677");
    assert_int_equal(info.identity_kind, ISCSI_IDENTITY_EUI64);
    page_identity(PAGE(NAA3 T10), &info); /* assigned by somebody, somewhere */
    assert_string_equal(info.identity, "t10.VENDOR  model1");
    assert_true(info.t10_hash != 0);
    page_identity(PAGE(NAA3), &info);
    assert_string_equal(info.identity, "naa.3000000000000001");
    assert_true(info.t10_hash == 0);
    page_identity(PAGE(PORT), &info);
    assert_int_equal(info.identity_kind, ISCSI_IDENTITY_NONE);
    /* Names of nothing. */
    page_identity("\x01\x03\x00\x10"
                  "\x60\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                  20, &info);
    assert_int_equal(info.identity_kind, ISCSI_IDENTITY_NONE);
    page_identity("\x01\x03\x00\x10"
                  "\x60",
                  5, &info);
    assert_int_equal(info.identity_kind, ISCSI_IDENTITY_NONE);
}

static void the_serial_number_is_the_last_resort(void **state)
{
    struct iscsi_lun_info info = {0};
    static const uint8_t page[] = "\x00\x80\x00\x0a"
                                  "   AB 12\x01 ";

    (void)state;
    iscsi_vpd_serial_parse(page, sizeof(page) - 1, &info);
    assert_string_equal(info.serial, "AB 12?");
    assert_string_equal(info.identity, "serial.AB 12?");
    assert_int_equal(info.identity_kind, ISCSI_IDENTITY_SERIAL);
    snprintf(info.identity, sizeof(info.identity), "naa.5");
    info.identity_kind = ISCSI_IDENTITY_NAA;
    iscsi_vpd_serial_parse(page, sizeof(page) - 1, &info);
    assert_string_equal(info.identity, "naa.5");
}

static void capacities_that_cannot_be_are_refused(void **state)
{
    struct iscsi_lun_info info = {0};
    uint8_t data[32] = {0, 0, 0, 0, 0, 0, 0x0f, 0xff, 0, 0, 2, 0, 0, 3, 0xc0};

    (void)state;
    assert_int_equal(iscsi_capacity16_parse(data, sizeof(data), &info), 0);
    assert_int_equal(info.size_bytes, 4096 * 512);
    assert_int_equal(info.physical_bytes, 4096);
    assert_true(info.lbpme && info.lbprz);
    assert_int_equal(iscsi_capacity16_parse(data, 11, &info), -EPROTO);
    data[10] = 0; /* block size 0 */
    assert_int_equal(iscsi_capacity16_parse(data, sizeof(data), &info), -EPROTO);
    data[10] = 3; /* no power of two */
    assert_int_equal(iscsi_capacity16_parse(data, sizeof(data), &info), -EPROTO);
    data[10] = 2;
    memset(data, 0xff, 8); /* 2^64 blocks */
    assert_int_equal(iscsi_capacity16_parse(data, sizeof(data), &info), -EPROTO);
    assert_int_equal(iscsi_capacity10_parse((const uint8_t *)"\0\0\0\7\0\0\2\0", 8, &info), 0);
    assert_int_equal(info.size_bytes, 4096);
}

static void sense_is_read_in_both_formats(void **state)
{
    struct iscsi_sense sense;
    char text[128];
    static const uint8_t fixed[18] = {0x70, 0, 7, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x27, 0x07};
    static const uint8_t descriptors[8] = {0x72, 3, 0x11, 0};

    (void)state;
    iscsi_sense_parse(fixed, sizeof(fixed), &sense);
    iscsi_sense_format(&sense, text, sizeof(text));
    assert_string_equal(text, "DATA PROTECT, no space left in the pool (07/27/07)");
    iscsi_sense_parse(descriptors, sizeof(descriptors), &sense);
    iscsi_sense_format(&sense, text, sizeof(text));
    assert_string_equal(text, "MEDIUM ERROR, unrecovered read error (03/11/00)");
    iscsi_sense_parse(fixed, 3, &sense);
    assert_false(sense.valid);
    iscsi_sense_parse(fixed, 0, &sense);
    iscsi_sense_format(&sense, text, sizeof(text));
    assert_string_equal(text, "CHECK CONDITION without sense data");
}

static void put(uint8_t *descriptor, uint64_t lba, uint32_t blocks, uint8_t status)
{
    memset(descriptor, 0, 16);
    for (int i = 0; i < 8; i++) {
        descriptor[i] = (uint8_t)(lba >> (56 - 8 * i));
    }
    for (int i = 0; i < 4; i++) {
        descriptor[8 + i] = (uint8_t)(blocks >> (24 - 8 * i));
    }
    descriptor[12] = status;
}

static void the_map_is_believed_as_far_as_it_hangs_together(void **state)
{
    uint8_t data[8 + 16 * 4] = {0, 0, 0, 4 + 16 * 4};
    struct block_extent extents[4];

    (void)state;
    put(data + 8, 90, 20, 0);   /* begins before the question */
    put(data + 24, 110, 10, 0); /* goes on */
    put(data + 40, 120, 80, 1);
    put(data + 56, 200, 1000, 2); /* anchored, and beyond the end of the question */
    assert_int_equal(iscsi_lba_status_parse(data, sizeof(data), 100, 300, 512, true, extents, 4),
                     3);
    assert_int_equal(extents[0].offset, 100 * 512);
    assert_int_equal(extents[0].len, 20 * 512);
    assert_int_equal(extents[0].kind, BLOCK_EXTENT_DATA);
    assert_int_equal(extents[1].len, 80 * 512);
    assert_int_equal(extents[1].kind, BLOCK_EXTENT_ZERO);
    assert_int_equal(extents[2].len, 100 * 512);
    assert_int_equal(extents[2].kind, BLOCK_EXTENT_UNKNOWN);
    /* Room for fewer; and unmapped blocks that say nothing. */
    assert_int_equal(iscsi_lba_status_parse(data, sizeof(data), 100, 300, 512, false, extents, 1),
                     1);
    assert_int_equal(iscsi_lba_status_parse(data, sizeof(data), 120, 300, 512, false, extents, 4),
                     1);
    assert_int_equal(extents[0].kind, BLOCK_EXTENT_UNKNOWN);
    /* A gap ends it, half a descriptor too, and no progress is an error. */
    put(data + 40, 121, 80, 1);
    assert_int_equal(iscsi_lba_status_parse(data, sizeof(data), 100, 300, 512, true, extents, 4),
                     1);
    assert_int_equal(iscsi_lba_status_parse(data, 8 + 15, 100, 300, 512, true, extents, 4),
                     -EPROTO);
    put(data + 8, 101, 20, 0);
    assert_int_equal(iscsi_lba_status_parse(data, sizeof(data), 100, 300, 512, true, extents, 4),
                     -EPROTO);
    put(data + 8, 100, 0, 0);
    assert_int_equal(iscsi_lba_status_parse(data, sizeof(data), 100, 300, 512, true, extents, 4),
                     -EPROTO);
    put(data + 8, UINT64_MAX, UINT32_MAX, 0);
    assert_int_equal(
        iscsi_lba_status_parse(data, sizeof(data), UINT64_MAX, UINT64_MAX, 512, true, extents, 4),
        -EPROTO);
}

static void luns_of_one_level_are_listed(void **state)
{
    uint8_t data[8 + 32] = {0, 0, 0, 32};
    uint16_t luns[4];

    (void)state;
    data[8 + 8 + 1] = 7;
    data[8 + 16] = 0x41; /* flat space, 256 */
    data[8 + 24 + 1] = 1;
    data[8 + 24 + 3] = 1; /* second level */
    assert_int_equal(iscsi_lun_list_parse(data, sizeof(data), luns, 4), 3);
    assert_int_equal(luns[0], 0);
    assert_int_equal(luns[1], 7);
    assert_int_equal(luns[2], 0x4100);
    assert_int_equal(iscsi_lun_list_parse(data, sizeof(data), luns, 1), 1);
    data[0] = 0xff; /* more than came */
    assert_int_equal(iscsi_lun_list_parse(data, sizeof(data), luns, 4), 3);
    assert_int_equal(iscsi_lun_list_parse(data, 7, luns, 4), -EPROTO);
}

static void the_caching_page_is_found_behind_others(void **state)
{
    static const uint8_t data[] = {16, 0, 0x90, 0, 0x02, 2, 0,    0, 0x5c,
                                   1,  0, 1,    9, 0x08, 3, 0x04, 0};
    struct iscsi_mode mode;

    (void)state;
    assert_int_equal(iscsi_mode_parse(data, sizeof(data), &mode), 0);
    assert_true(mode.write_protected && mode.dpofua && mode.has_caching && mode.wce);
    for (size_t len = 0; len < sizeof(data); len++) {
        struct exact copy = exact(data, len);

        iscsi_mode_parse(copy.data, copy.len, &mode);
        free(copy.data);
    }
}

static int login_step(struct iscsi_login_guard *guard, uint8_t flags, const char *text)
{
    uint8_t pdu[512] = {0x23, flags};
    size_t len = strlen(text) + 1;
    const char *why;

    memcpy(pdu + 48, text, len);
    for (size_t i = 48; i < 48 + len; i++) {
        pdu[i] = pdu[i] == '\n' ? 0 : pdu[i];
    }
    pdu[7] = (uint8_t)len;
    assert_int_equal(iscsi_login_length(pdu), 48 + (int)((len + 3) & ~(size_t)3));
    return iscsi_login_check(guard, pdu, 48 + len, &why);
}

static void mutual_chap_has_an_order(void **state)
{
    struct iscsi_login_guard guard = {.mutual = true};

    (void)state;
    assert_int_equal(login_step(&guard, 0x00, "AuthMethod=CHAP"), 0);
    assert_int_equal(login_step(&guard, 0x00, "CHAP_A=5\nCHAP_I=7\nCHAP_C=0xabcd"), 0);
    assert_int_equal(login_step(&guard, 0x81, "CHAP_N=t\nCHAP_R=0x00"), 0);
    assert_int_equal(login_step(&guard, 0x87, "InitialR2T=No"), 0);
    assert_true(guard.proven);

    guard = (struct iscsi_login_guard){.mutual = true};
    assert_int_equal(login_step(&guard, 0x81, "CHAP_C=0xabcd\nCHAP_N=t\nCHAP_R=0x00"), -EACCES);
    assert_int_equal(login_step(&guard, 0x04, ""), -EACCES);
    assert_int_equal(login_step(&guard, 0x00, "CHAP_R=0x00"), -EACCES);
    assert_int_equal(login_step(&guard, 0x00, "CHAP_C=0xabc"), -EPROTO);
    guard = (struct iscsi_login_guard){.mutual = false};
    assert_int_equal(login_step(&guard, 0x87, "MaxRecvDataSegmentLength=511"), -EPROTO);
    assert_int_equal(login_step(&guard, 0x87, "MaxRecvDataSegmentLength=16777216"), -EPROTO);
    assert_int_equal(login_step(&guard, 0x87, "MaxRecvDataSegmentLength= 8192"), -EPROTO);
    assert_int_equal(login_step(&guard, 0x87, "MaxRecvDataSegmentLength=8192"), 0);
    assert_int_equal(login_step(&guard, 0x87, "MaxBurstLength=Irrelevant"), -EPROTO);
    guard.discovery = true;
    assert_int_equal(login_step(&guard, 0x87, "MaxBurstLength=Irrelevant"), 0);
}

static struct iscsi_terms terms_of(const char *first, const char *last)
{
    struct iscsi_login_guard guard = {0};

    iscsi_terms_preset(&guard.terms);
    assert_int_equal(login_step(&guard, 0x04, first), 0);
    assert_false(guard.complete);
    assert_int_equal(login_step(&guard, 0x87, last), 0);
    assert_true(guard.complete);
    return guard.terms;
}

static void what_is_not_said_is_as_the_standard_has_it(void **state)
{
    struct iscsi_terms terms = terms_of("TargetAlias=x", "MaxConnections=1");

    (void)state;
    assert_int_equal(terms.max_send_segment, 8192);
    assert_int_equal(terms.max_burst, 262144);
    assert_int_equal(terms.first_burst, 65536);
    assert_true(terms.immediate_data && terms.initial_r2t && !terms.header_digest);
    terms = terms_of("InitialR2T=Maybe\nImmediateData=Irrelevant", "HeaderDigest=Reject");
    assert_true(terms.immediate_data && terms.initial_r2t && !terms.header_digest);
}

static void terms_are_taken_from_every_response(void **state)
{
    struct iscsi_terms terms =
        terms_of("InitialR2T=No\nImmediateData=No\nMaxRecvDataSegmentLength=512",
                 "HeaderDigest=CRC32C\nMaxBurstLength=16777215\nFirstBurstLength=70000");

    (void)state;
    assert_int_equal(terms.max_send_segment, 512);
    assert_int_equal(terms.max_burst, 16777215);
    assert_int_equal(terms.first_burst, 70000);
    assert_true(!terms.immediate_data && !terms.initial_r2t && terms.header_digest);
    /* What comes last counts, and a first burst is no longer than a burst. */
    terms = terms_of("HeaderDigest=CRC32C\nFirstBurstLength=4096\nInitialR2T=No",
                     "MaxBurstLength=1024\nHeaderDigest=None\nInitialR2T=Yes");
    assert_int_equal(terms.first_burst, 1024);
    assert_true(terms.initial_r2t && !terms.header_digest);
}

static void numbers_are_those_of_the_last_response(void **state)
{
    struct iscsi_login_guard guard = {0};
    uint8_t pdu[48] = {0x23, 0x87};
    const char *why;

    (void)state;
    iscsi_terms_preset(&guard.terms);
    memset(pdu + 24, 0xff, 4); /* StatSN: the next one is 0 */
    pdu[31] = 7;
    pdu[35] = 70;
    assert_int_equal(iscsi_login_check(&guard, pdu, sizeof(pdu), &why), 0);
    assert_true(guard.complete);
    assert_int_equal(guard.terms.exp_stat_sn, 0);
    assert_int_equal(guard.terms.cmd_sn, 7);
    assert_int_equal(guard.terms.max_cmd_sn, 70);
    pdu[36] = 2; /* a refusal says nothing of terms */
    guard = (struct iscsi_login_guard){0};
    assert_int_equal(iscsi_login_check(&guard, pdu, sizeof(pdu), &why), 0);
    assert_false(guard.complete);
    assert_int_equal(guard.status, 0x0200);
    for (unsigned flags = 0; flags < 256; flags++) { /* transit to full feature, and nothing else */
        guard = (struct iscsi_login_guard){0};
        assert_int_equal(login_step(&guard, (uint8_t)flags, ""), 0);
        assert_int_equal(guard.complete, (flags & 0x83) == 0x83);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_designator_is_the_identity),
        cmocka_unit_test(the_serial_number_is_the_last_resort),
        cmocka_unit_test(capacities_that_cannot_be_are_refused),
        cmocka_unit_test(sense_is_read_in_both_formats),
        cmocka_unit_test(the_map_is_believed_as_far_as_it_hangs_together),
        cmocka_unit_test(luns_of_one_level_are_listed),
        cmocka_unit_test(the_caching_page_is_found_behind_others),
        cmocka_unit_test(mutual_chap_has_an_order),
        cmocka_unit_test(what_is_not_said_is_as_the_standard_has_it),
        cmocka_unit_test(terms_are_taken_from_every_response),
        cmocka_unit_test(numbers_are_those_of_the_last_response),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
