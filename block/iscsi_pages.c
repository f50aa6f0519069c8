// SPDX-License-Identifier: Apache-2.0
/* SPC-4, SBC-3 and RFC 7143 layouts; every access is bounded by the length that arrived. */
#include "block/iscsi_pages.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"

/* Printable ASCII without the padding at both ends. */
static void copy_text(char *to, size_t to_size, const uint8_t *from, size_t len)
{
    while (len > 0 && (from[len - 1] == ' ' || from[len - 1] == 0)) {
        len--;
    }
    while (len > 0 && *from == ' ') {
        from++;
        len--;
    }
    if (len > to_size - 1) {
        len = to_size - 1;
    }
    for (size_t i = 0; i < len; i++) {
        to[i] = from[i] > ' ' && from[i] < 0x7f ? (char)from[i] : (from[i] == ' ' ? ' ' : '?');
    }
    to[len] = 0;
}

static void copy_hex(char *to, size_t to_size, const uint8_t *from, size_t len)
{
    size_t used = 0;

    for (size_t i = 0; i < len && used + 2 < to_size; i++) {
        used += (size_t)snprintf(to + used, to_size - used, "%02x", from[i]);
    }
    to[used] = 0;
}

/* --- sense
 * ----------------------------------------------------------------------------------------------------
 */

void iscsi_sense_parse(const uint8_t *data, size_t len, struct iscsi_sense *ret_sense)
{
    memset(ret_sense, 0, sizeof(*ret_sense));
    if (len < 4) {
        return;
    }
    switch (data[0] & 0x7f) {
    case 0x70:
    case 0x71:
        ret_sense->valid = true;
        ret_sense->key = data[2] & 0x0f;
        if (len >= 14) {
            ret_sense->asc = data[12];
            ret_sense->ascq = data[13];
        }
        break;
    case 0x72:
    case 0x73:
        ret_sense->valid = true;
        ret_sense->key = data[1] & 0x0f;
        ret_sense->asc = data[2];
        ret_sense->ascq = data[3];
        break;
    default:
        break;
    }
}

static const char *const sense_key_text[16] = {
    "NO SENSE",        "RECOVERED ERROR", "NOT READY",      "MEDIUM ERROR",
    "HARDWARE ERROR",  "ILLEGAL REQUEST", "UNIT ATTENTION", "DATA PROTECT",
    "BLANK CHECK",     "VENDOR SPECIFIC", "COPY ABORTED",   "ABORTED COMMAND",
    "reserved key 0C", "VOLUME OVERFLOW", "MISCOMPARE",     "COMPLETED",
};

static const struct {
    uint8_t asc, ascq;
    const char *text;
} sense_texts[] = {
    {0x04, 0x00, "not ready"},
    {0x04, 0x01, "becoming ready"},
    {0x04, 0x02, "needs a start command"},
    {0x04, 0x0b, "the port is in standby"},
    {0x04, 0x0c, "the port is unavailable"},
    {0x0c, 0x02, "write error"},
    {0x11, 0x00, "unrecovered read error"},
    {0x1a, 0x00, "parameter list length error"},
    {0x20, 0x00, "the command is not supported"},
    {0x21, 0x00, "beyond the end of the LUN"},
    {0x24, 0x00, "invalid field in the command"},
    {0x25, 0x00, "no such LUN"},
    {0x26, 0x00, "invalid field in the parameters"},
    {0x27, 0x00, "write protected"},
    {0x27, 0x07, "no space left in the pool"},
    {0x29, 0x00, "power on or reset"},
    {0x29, 0x07, "I_T nexus loss"},
    {0x2a, 0x09, "the capacity has changed"},
    {0x38, 0x07, "the pool is nearly full"},
    {0x3a, 0x00, "no medium"},
    {0x3f, 0x03, "the INQUIRY data have changed"},
    {0x3f, 0x0e, "the list of LUNs has changed"},
    {0x44, 0x00, "internal failure of the target"},
};

void iscsi_sense_format(const struct iscsi_sense *sense, char *text, size_t size)
{
    const char *what = NULL;

    if (!sense->valid) {
        snprintf(text, size, "CHECK CONDITION without sense data");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(sense_texts); i++) {
        if (sense_texts[i].asc == sense->asc && sense_texts[i].ascq == sense->ascq) {
            what = sense_texts[i].text;
        }
    }
    snprintf(text, size, "%s%s%s (%02x/%02x/%02x)", sense_key_text[sense->key & 0x0f],
             what != NULL ? ", " : "", what != NULL ? what : "", sense->key, sense->asc,
             sense->ascq);
}

/* --- INQUIRY
 * --------------------------------------------------------------------------------------------------
 */

int iscsi_inquiry_parse(const uint8_t *data, size_t len, struct iscsi_lun_info *info,
                        uint8_t *ret_qualifier)
{
    if (len < 5) {
        return -EPROTO;
    }
    *ret_qualifier = data[0] >> 5;
    info->peripheral_type = data[0] & 0x1f;
    if (len >= 16) {
        copy_text(info->vendor, sizeof(info->vendor), data + 8, 8);
    }
    if (len >= 32) {
        copy_text(info->product, sizeof(info->product), data + 16, 16);
    }
    if (len >= 36) {
        copy_text(info->revision, sizeof(info->revision), data + 32, 4);
    }
    return 0;
}

/* The bytes of a VPD page behind its header, as far as they arrived. False: not this page. */
static bool vpd_body(const uint8_t *data, size_t len, uint8_t page, const uint8_t **ret_body,
                     size_t *ret_len)
{
    size_t body_len;

    if (len < 4 || data[1] != page) {
        return false;
    }
    body_len = get_be16(data + 2);
    *ret_body = data + 4;
    *ret_len = body_len < len - 4 ? body_len : len - 4;
    return true;
}

bool iscsi_vpd_has_page(const uint8_t *data, size_t len, uint8_t page)
{
    const uint8_t *body;
    size_t body_len;

    return vpd_body(data, len, 0x00, &body, &body_len) && memchr(body, page, body_len) != NULL;
}

/* What is left for a LUN without designators; a better identity that is already there stays. */
void iscsi_vpd_serial_parse(const uint8_t *data, size_t len, struct iscsi_lun_info *info)
{
    const uint8_t *body;
    size_t body_len;

    if (!vpd_body(data, len, 0x80, &body, &body_len)) {
        return;
    }
    copy_text(info->serial, sizeof(info->serial), body, body_len);
    if (info->identity_kind == ISCSI_IDENTITY_NONE && info->serial[0] != 0) {
        info->identity_kind = ISCSI_IDENTITY_SERIAL;
        snprintf(info->identity, sizeof(info->identity), "serial.%s", info->serial);
    }
}

static bool all_zero(const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] != 0) {
            return false;
        }
    }
    return true;
}

/* How much a designator is worth: NAA names of the world, EUI-64, T10 vendor id, NAA names that
 * somebody assigned locally (NAA 3: two targets may well use the same). 0: not a name of the
 * logical unit. */
static int designator_rank(uint8_t type, const uint8_t *id, size_t id_len)
{
    switch (type) {
    case 3:
        if (id_len != 8 && id_len != 16) {
            return 0;
        }
        if ((id[0] & 0x0f) == 0 && all_zero(id + 1, id_len - 1)) {
            return 0;
        }
        switch (id[0] >> 4) {
        case 6:
            return id_len == 16 ? 9 : 0;
        case 5:
            return 8;
        case 2:
            return 7;
        case 3:
            return 2;
        default:
            return 1;
        }
    case 2:
        return id_len == 8 || id_len == 12 || id_len == 16 ? 5 : 0;
    case 1:
        return id_len > 8 ? 4 : 0;
    default:
        return 0;
    }
}

static void identity_set(struct iscsi_lun_info *info, uint8_t type, const uint8_t *id,
                         size_t id_len)
{
    char text[ISCSI_IDENTITY_SIZE - 4];

    switch (type) {
    case 3:
        info->identity_kind = ISCSI_IDENTITY_NAA;
        copy_hex(text, sizeof(text), id, id_len);
        snprintf(info->identity, sizeof(info->identity), "naa.%s", text);
        break;
    case 2:
        info->identity_kind = ISCSI_IDENTITY_EUI64;
        copy_hex(text, sizeof(text), id, id_len);
        snprintf(info->identity, sizeof(info->identity), "eui.%s", text);
        break;
    default:
        info->identity_kind = ISCSI_IDENTITY_T10;
        copy_text(text, sizeof(text), id, id_len);
        snprintf(info->identity, sizeof(info->identity), "t10.%s", text);
        break;
    }
}

/* FNV-1a */
static uint64_t hash(const uint8_t *data, size_t len)
{
    uint64_t value = 0xcbf29ce484222325ull;

    for (size_t i = 0; i < len; i++) {
        value = (value ^ data[i]) * 0x100000001b3ull;
    }
    return value;
}

void iscsi_vpd_identity_parse(const uint8_t *data, size_t len, struct iscsi_lun_info *info)
{
    const uint8_t *body;
    size_t body_len;
    int best = 0;

    if (!vpd_body(data, len, 0x83, &body, &body_len)) {
        return;
    }
    while (body_len >= 4) {
        size_t id_len = body[3];
        uint8_t association = (body[1] >> 4) & 3;
        uint8_t type = body[1] & 0x0f;
        int rank;

        if (id_len > body_len - 4) {
            break;
        }
        if (association == 0 && type == 1) {
            info->t10_hash ^= hash(body + 4, id_len);
        }
        rank = association == 0 ? designator_rank(type, body + 4, id_len) : 0;
        if (rank > best && !all_zero(body + 4, id_len)) {
            best = rank;
            identity_set(info, type, body + 4, id_len);
        }
        body += 4 + id_len;
        body_len -= 4 + id_len;
    }
}

void iscsi_vpd_limits_parse(const uint8_t *data, size_t len, struct iscsi_lun_info *info)
{
    const uint8_t *body;
    size_t body_len;

    /* Older targets send a short page: SBC-2 ends before the UNMAP limits. */
    if (!vpd_body(data, len, 0xb0, &body, &body_len) || body_len < 12) {
        return;
    }
    info->has_limits = true;
    info->wsnz = body[0] & 1;
    info->max_transfer_blocks = get_be32(body + 4);
    info->optimal_transfer_blocks = get_be32(body + 8);
    if (body_len >= 32) {
        info->max_unmap_blocks = get_be32(body + 16);
        info->max_unmap_descriptors = get_be32(body + 20);
        info->unmap_granularity_blocks = get_be32(body + 24);
        if (body[28] & 0x80) {
            info->unmap_alignment_blocks = get_be32(body + 28) & 0x7fffffff;
        }
    }
    if (body_len >= 40) {
        info->max_write_same_blocks = get_be64(body + 32);
    }
}

void iscsi_vpd_provisioning_parse(const uint8_t *data, size_t len, struct iscsi_lun_info *info)
{
    const uint8_t *body;
    size_t body_len;

    if (!vpd_body(data, len, 0xb2, &body, &body_len) || body_len < 2) {
        return;
    }
    info->has_provisioning = true;
    info->lbpu = body[1] & 0x80;
    info->lbpws = body[1] & 0x40;
    info->lbpws10 = body[1] & 0x20;
    /* The byte with the provisioning type came later; without it LBPME decides. 1 is resource, 2
     * thin provisioned. */
    if (body_len >= 3) {
        info->thin = (body[2] & 7) == 2 || ((body[2] & 7) == 0 && info->thin);
    }
}

/* --- capacity
 * -------------------------------------------------------------------------------------------------
 */

static int capacity_set(struct iscsi_lun_info *info, uint64_t last, uint32_t block_bytes)
{
    if (block_bytes < 512 || block_bytes > 65536 || (block_bytes & (block_bytes - 1)) != 0 ||
        last >= (uint64_t)INT64_MAX / block_bytes) {
        return -EPROTO;
    }
    info->block_bytes = block_bytes;
    info->physical_bytes = block_bytes;
    info->size_bytes = (last + 1) * block_bytes;
    return 0;
}

int iscsi_capacity10_parse(const uint8_t *data, size_t len, struct iscsi_lun_info *info)
{
    if (len < 8) {
        return -EPROTO;
    }
    return capacity_set(info, get_be32(data), get_be32(data + 4));
}

int iscsi_capacity16_parse(const uint8_t *data, size_t len, struct iscsi_lun_info *info)
{
    int err;
    unsigned exponent;

    if (len < 12) {
        return -EPROTO;
    }
    err = capacity_set(info, get_be64(data), get_be32(data + 8));
    if (err != 0) {
        return err;
    }
    if (len >= 16) {
        exponent = data[13] & 0x0f;
        if (((uint64_t)info->block_bytes << exponent) <= 1u << 20) {
            info->physical_bytes = info->block_bytes << exponent;
        }
        info->lbpme = data[14] & 0x80;
        info->lbprz = data[14] & 0x40;
        info->thin = info->lbpme;
    }
    return 0;
}

int iscsi_mode_parse(const uint8_t *data, size_t len, struct iscsi_mode *ret_mode)
{
    size_t at;
    size_t end;

    memset(ret_mode, 0, sizeof(*ret_mode));
    if (len < 4) {
        return -EPROTO;
    }
    ret_mode->write_protected = data[2] & 0x80;
    ret_mode->dpofua = data[2] & 0x10;
    end = (size_t)data[0] + 1;
    if (end > len) {
        end = len;
    }
    at = 4 + (size_t)data[3];
    while (at + 3 <= end) {
        /* The caching page (08h), without subpages. */
        if ((data[at] & 0x7f) == 0x08) {
            ret_mode->has_caching = true;
            ret_mode->wce = data[at + 2] & 0x04;
            break;
        }
        at += (data[at] & 0x40) && at + 4 <= end ? 4 + (size_t)get_be16(data + at + 2)
                                                 : 2 + (size_t)data[at + 1];
    }
    return 0;
}

/* --- maps and lists
 * ------------------------------------------------------------------------------------------- */

int iscsi_lba_status_parse(const uint8_t *data, size_t len, uint64_t first, uint64_t limit_blocks,
                           uint32_t block_bytes, bool unmapped_is_zero,
                           struct block_extent *extents, unsigned max_extents)
{
    uint64_t at = first;
    size_t descriptors;
    unsigned n = 0;

    if (len < 8 + 16 || max_extents == 0) {
        return -EPROTO;
    }
    /* The parameter data length counts from byte 4. */
    descriptors = get_be32(data) >= 4 ? ((size_t)get_be32(data) - 4) / 16 : 0;
    if (descriptors > (len - 8) / 16) {
        descriptors = (len - 8) / 16;
    }
    for (size_t i = 0; i < descriptors && at < limit_blocks; i++) {
        const uint8_t *d = data + 8 + 16 * i;
        uint64_t start = get_be64(d);
        uint64_t blocks = get_be32(d + 8);
        enum block_extent_kind kind;

        /* The first one may begin before the question; a gap ends what can be believed. */
        if (start > at || blocks == 0 || start + blocks < start) {
            break;
        }
        if (start + blocks <= at) {
            continue;
        }
        blocks -= at - start;
        if (blocks > limit_blocks - at) {
            blocks = limit_blocks - at;
        }
        switch (d[12] & 0x0f) {
        case 0:
            kind = BLOCK_EXTENT_DATA;
            break;
        case 1: /* deallocated; anchored (2) has space of its own and reads the same */
            kind = unmapped_is_zero ? BLOCK_EXTENT_ZERO : BLOCK_EXTENT_UNKNOWN;
            break;
        default:
            kind = BLOCK_EXTENT_UNKNOWN;
            break;
        }
        if (n > 0 && extents[n - 1].kind == kind) {
            extents[n - 1].len += blocks * block_bytes;
        } else if (n < max_extents) {
            extents[n++] = (struct block_extent){
                .offset = at * block_bytes, .len = blocks * block_bytes, .kind = kind};
        } else {
            break;
        }
        at += blocks;
    }
    return n > 0 ? (int)n : -EPROTO;
}

int iscsi_lun_list_parse(const uint8_t *data, size_t len, uint16_t *luns, unsigned max)
{
    size_t count;
    unsigned n = 0;

    if (len < 8) {
        return -EPROTO;
    }
    count = get_be32(data) / 8;
    if (count > (len - 8) / 8) {
        count = (len - 8) / 8;
    }
    for (size_t i = 0; i < count && n < max; i++) {
        const uint8_t *entry = data + 8 + 8 * i;

        if (all_zero(entry + 2, 6) && (entry[0] >> 6) <= 1) {
            luns[n++] = get_be16(entry);
        }
    }
    return (int)n;
}

/* --- login
 * ----------------------------------------------------------------------------------------------------
 */

int iscsi_login_length(const uint8_t *header)
{
    uint32_t data_len = get_be32(header + 4) & 0x00ffffff;
    uint32_t total = ISCSI_LOGIN_HEADER_BYTES + ((data_len + 3) & ~3u);

    /* A login response (23h) without additional header segments; an asynchronous or reject message
     * has no place here. */
    if ((header[0] & 0x3f) != 0x23 || header[4] != 0 || total > ISCSI_LOGIN_MAX_BYTES) {
        return -EPROTO;
    }
    return (int)total;
}

static bool key_is(const char *pair, const char *key, const char **ret_value)
{
    size_t len = strlen(key);

    if (strncmp(pair, key, len) != 0 || pair[len] != '=') {
        return false;
    }
    *ret_value = pair + len + 1;
    return true;
}

static bool length_is_good(const char *value)
{
    char *end;
    unsigned long number = strtoul(value, &end, 10);

    /* RFC 7143 13.12 to 13.14: 512 to 2^24 - 1. */
    return *value >= '0' && *value <= '9' && *end == 0 && number >= 512 && number <= 0xffffff;
}

static bool hex_is_good(const char *value)
{
    size_t len;

    if (strncmp(value, "0x", 2) != 0 && strncmp(value, "0X", 2) != 0) {
        return true; /* base64: libiscsi will say that it has no challenge */
    }
    len = strspn(value + 2, "0123456789abcdefABCDEF");
    return value[2 + len] == 0 && len > 0 && len % 2 == 0 && len < 255;
}

void iscsi_terms_preset(struct iscsi_terms *terms)
{
    *terms = (struct iscsi_terms){
        .max_send_segment = 8192,
        .max_burst = 262144,
        .first_burst = 65536,
        .immediate_data = true,
        .initial_r2t = true,
    };
}

static void length_note(const char *value, uint32_t *ret_length)
{
    if (length_is_good(value)) {
        *ret_length = (uint32_t)strtoul(value, NULL, 10);
    }
}

static void flag_note(const char *value, bool *ret_flag)
{
    if (strcmp(value, "Yes") == 0 || strcmp(value, "No") == 0) {
        *ret_flag = *value == 'Y';
    }
}

static void term_note(struct iscsi_terms *terms, const char *pair)
{
    const char *value;

    if (key_is(pair, "MaxRecvDataSegmentLength", &value)) {
        length_note(value, &terms->max_send_segment);
    } else if (key_is(pair, "MaxBurstLength", &value)) {
        length_note(value, &terms->max_burst);
    } else if (key_is(pair, "FirstBurstLength", &value)) {
        length_note(value, &terms->first_burst);
    } else if (key_is(pair, "ImmediateData", &value)) {
        flag_note(value, &terms->immediate_data);
    } else if (key_is(pair, "InitialR2T", &value)) {
        flag_note(value, &terms->initial_r2t);
    } else if (key_is(pair, "HeaderDigest", &value)) {
        terms->header_digest = strcmp(value, "CRC32C") == 0;
    }
}

/* The response that ends the login. */
static void terms_complete(struct iscsi_terms *terms, const uint8_t *pdu)
{
    terms->exp_stat_sn = get_be32(pdu + 24) + 1;
    terms->cmd_sn = get_be32(pdu + 28);
    terms->max_cmd_sn = get_be32(pdu + 32);
    if (terms->first_burst > terms->max_burst) {
        terms->first_burst = terms->max_burst;
    }
}

int iscsi_login_check(struct iscsi_login_guard *guard, const uint8_t *pdu, size_t len,
                      const char **ret_why)
{
    bool transit = pdu[1] & 0x80;
    unsigned stage = (pdu[1] >> 2) & 3;
    bool has_challenge = false;
    bool has_name = false;
    bool has_response = false;
    size_t data_len = get_be32(pdu + 4) & 0x00ffffff;
    const char *at = (const char *)pdu + ISCSI_LOGIN_HEADER_BYTES;
    const char *end = at + data_len;

    *ret_why = "the login response is malformed";
    if (len < ISCSI_LOGIN_HEADER_BYTES || data_len > len - ISCSI_LOGIN_HEADER_BYTES) {
        return -EPROTO;
    }
    guard->status = get_be16(pdu + 36);
    if (guard->status != 0) {
        return 0; /* a refusal or a redirect; its meaning is in guard->status */
    }
    while (at < end && *at != 0) {
        const char *stop = memchr(at, 0, (size_t)(end - at));
        const char *value;

        if (stop == NULL) {
            return -EPROTO;
        }
        if ((key_is(at, "MaxRecvDataSegmentLength", &value) ||
             key_is(at, "FirstBurstLength", &value) || key_is(at, "MaxBurstLength", &value)) &&
            !length_is_good(value) && !(guard->discovery && strcmp(value, "Irrelevant") == 0)) {
            *ret_why = "the target asks for a length that RFC 7143 does not allow";
            return -EPROTO;
        }
        if (key_is(at, "HeaderDigest", &value) && guard->require_header_digest &&
            strcmp(value, "CRC32C") != 0) {
            *ret_why = "the target does not do header digests, and they are required";
            return -EPROTO;
        }
        if (key_is(at, "DataDigest", &value) && strcmp(value, "CRC32C") == 0) {
            *ret_why = "the target wants data digests, which were not offered";
            return -EPROTO;
        }
        term_note(&guard->terms, at);
        if (key_is(at, "CHAP_C", &value)) {
            if (!hex_is_good(value)) {
                return -EPROTO;
            }
            has_challenge = true;
        }
        has_name = has_name || key_is(at, "CHAP_N", &value);
        has_response = has_response || key_is(at, "CHAP_R", &value);
        at = stop + 1;
    }
    guard->complete = transit && (pdu[1] & 3) == 3;
    if (guard->complete) {
        terms_complete(&guard->terms, pdu);
    }
    if (!guard->mutual) {
        return 0;
    }
    *ret_why = "the target did not prove itself (mutual CHAP)";
    if (!guard->proven) {
        if (stage != 0) {
            return -EACCES;
        }
        if (has_response || transit) {
            if (!guard->challenged || !has_name || !has_response || !transit || has_challenge) {
                return -EACCES;
            }
            guard->proven = true; /* if the value is right, and libiscsi checks that */
        }
        guard->challenged = guard->challenged || has_challenge;
    }
    return 0;
}

const char *iscsi_login_status_text(uint16_t status)
{
    switch (status) {
    case 0x0101:
    case 0x0102:
        return "the target has moved";
    case 0x0201:
        return "authentication failed: check the CHAP user and secret";
    case 0x0202:
        return "this initiator is not allowed to use the target";
    case 0x0203:
        return "the portal does not know this target name";
    case 0x0204:
        return "the target has been removed";
    case 0x0206:
        return "too many connections";
    case 0x0207:
        return "the target misses a parameter";
    case 0x0300:
        return "the target failed";
    case 0x0301:
        return "the target is not in service now";
    case 0x0302:
        return "the target is out of resources";
    default:
        return (status >> 8) == 2 ? "the target refused the login" : "the target failed the login";
    }
}
