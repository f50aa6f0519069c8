// SPDX-License-Identifier: Apache-2.0
/* Every function that reads what a target sent. The first byte chooses. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "block/iscsi_pages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void terms_check(const struct iscsi_terms *terms)
{
    CHECK(terms->max_send_segment >= 512 && terms->max_send_segment <= 0xffffff);
    CHECK(terms->max_burst >= 512 && terms->max_burst <= 0xffffff);
    CHECK(terms->first_burst >= 512 && terms->first_burst <= terms->max_burst);
}

static void login(const uint8_t *data, size_t len)
{
    struct iscsi_login_guard guard = {
        .mutual = data[0] & 1, .require_header_digest = data[0] & 2, .discovery = data[0] & 4};
    const char *why;

    iscsi_terms_preset(&guard.terms);
    data++;
    len--;
    while (len >= ISCSI_LOGIN_HEADER_BYTES) {
        int need = iscsi_login_length(data);
        uint8_t *copy;

        if (need < 0 || (size_t)need > len) {
            return;
        }
        copy = malloc((size_t)need);
        memcpy(copy, data, (size_t)need);
        if (iscsi_login_check(&guard, copy, (size_t)need, &why) != 0) {
            len = 0;
        } else {
            data += need;
            len -= (size_t)need;
            if (guard.complete && guard.status == 0) {
                terms_check(&guard.terms);
            }
        }
        free(copy);
        iscsi_login_status_text(guard.status);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct iscsi_lun_info info = {0};
    struct iscsi_sense sense;
    struct iscsi_mode mode;
    struct block_extent extents[8];
    uint16_t luns[8];
    uint8_t qualifier;
    char text[64];

    if (len < 2) {
        return 0;
    }
    switch (data[0] % 12) {
    case 0:
        iscsi_sense_parse(data + 1, len - 1, &sense);
        iscsi_sense_format(&sense, text, sizeof(text));
        break;
    case 1:
        iscsi_inquiry_parse(data + 1, len - 1, &info, &qualifier);
        break;
    case 2:
        iscsi_vpd_has_page(data + 1, len - 1, 0x83);
        break;
    case 3:
        iscsi_vpd_serial_parse(data + 1, len - 1, &info);
        break;
    case 4:
        iscsi_vpd_identity_parse(data + 1, len - 1, &info);
        break;
    case 5:
        iscsi_vpd_limits_parse(data + 1, len - 1, &info);
        break;
    case 6:
        iscsi_vpd_provisioning_parse(data + 1, len - 1, &info);
        break;
    case 7:
        if (iscsi_capacity10_parse(data + 1, len - 1, &info) == 0 ||
            iscsi_capacity16_parse(data + 1, len - 1, &info) == 0) {
            CHECK(info.size_bytes > 0 && info.size_bytes <= INT64_MAX && info.block_bytes >= 512);
        }
        break;
    case 8:
        iscsi_mode_parse(data + 1, len - 1, &mode);
        break;
    case 9: {
        uint64_t first = data[1];
        uint64_t at = first * 512;
        int n = iscsi_lba_status_parse(data + 2, len - 2, first, 1u << 20, 512, data[1] & 1,
                                       extents, 1 + data[1] % 8);

        for (int i = 0; i < n; i++) {
            CHECK(extents[i].offset == at && extents[i].len > 0);
            at += extents[i].len;
        }
        CHECK(at <= (uint64_t)512 << 20);
        break;
    }
    case 10:
        CHECK(iscsi_lun_list_parse(data + 1, len - 1, luns, 8) <= 8);
        break;
    case 11:
        login(data + 1, len - 1);
        break;
    }
    return 0;
}
