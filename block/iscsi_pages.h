// SPDX-License-Identifier: Apache-2.0
/*
 * What a target's bytes mean: sense data, INQUIRY pages, capacities, LBA status, LUN lists, login
 * responses.
 *
 * Thread:    any; pure functions.
 * Ownership: nothing is kept.
 * Errors:    -EPROTO for bytes that make no sense; nothing is read beyond len, and no value is
 * taken over that would harm later (block size 0, a size beyond 2^63).
 *
 * Knows nothing of libiscsi: these are the functions that read foreign bytes, so the fuzzer calls
 * them directly.
 */
#ifndef BLOCK_ISCSI_PAGES_H
#define BLOCK_ISCSI_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/blockdev.h"
#include "block/iscsi_dev.h"

/* SPC: sense keys that are told apart here. */
enum {
    SENSE_NONE = 0x0,
    SENSE_RECOVERED = 0x1,
    SENSE_NOT_READY = 0x2,
    SENSE_MEDIUM_ERROR = 0x3,
    SENSE_HARDWARE_ERROR = 0x4,
    SENSE_ILLEGAL_REQUEST = 0x5,
    SENSE_UNIT_ATTENTION = 0x6,
    SENSE_DATA_PROTECT = 0x7,
    SENSE_ABORTED_COMMAND = 0xb,
};

struct iscsi_sense {
    bool valid; /* false: the target sent none */
    uint8_t key;
    uint8_t asc;
    uint8_t ascq;
};

void iscsi_sense_parse(const uint8_t *data, size_t len, struct iscsi_sense *ret_sense);
/* "MEDIUM ERROR, unrecovered read error (03/11/00)" */
void iscsi_sense_format(const struct iscsi_sense *sense, char *text, size_t size);

/* Each fills its part of *info. */
int iscsi_inquiry_parse(const uint8_t *data, size_t len, struct iscsi_lun_info *info,
                        uint8_t *ret_qualifier);
bool iscsi_vpd_has_page(const uint8_t *data, size_t len, uint8_t page);
void iscsi_vpd_serial_parse(const uint8_t *data, size_t len, struct iscsi_lun_info *info);
void iscsi_vpd_identity_parse(const uint8_t *data, size_t len, struct iscsi_lun_info *info);
void iscsi_vpd_limits_parse(const uint8_t *data, size_t len, struct iscsi_lun_info *info);
void iscsi_vpd_provisioning_parse(const uint8_t *data, size_t len, struct iscsi_lun_info *info);
int iscsi_capacity10_parse(const uint8_t *data, size_t len, struct iscsi_lun_info *info);
int iscsi_capacity16_parse(const uint8_t *data, size_t len, struct iscsi_lun_info *info);

/* MODE SENSE (6). */
struct iscsi_mode {
    bool write_protected;
    bool dpofua;
    bool has_caching; /* wce is told */
    bool wce;
};
int iscsi_mode_parse(const uint8_t *data, size_t len, struct iscsi_mode *ret_mode);

/* GET LBA STATUS for a question at block first: the extents that follow each other from there, at
 * most max_extents, none of it beyond limit_blocks. Returns how many (at least 1), or -EPROTO. */
int iscsi_lba_status_parse(const uint8_t *data, size_t len, uint64_t first, uint64_t limit_blocks,
                           uint32_t block_bytes, bool unmapped_is_zero,
                           struct block_extent *extents, unsigned max_extents);

/* Number of LUNs put into luns (at most max), or -EPROTO. LUNs with a second level are left out. */
int iscsi_lun_list_parse(const uint8_t *data, size_t len, uint16_t *luns, unsigned max);

/*
 * Login responses are read here before libiscsi sees them (it looks at their bytes in the socket):
 * libiscsi 1.19 believes what a target says about the stage of the login and about the lengths that
 * it wants.
 *
 *   - A target that must prove itself (mutual CHAP) may leave the security stage only by the
 * response that carries CHAP_N and CHAP_R, and that one must come after a challenge was answered.
 * libiscsi compares the value with one that is all zeros before its own challenge was made, and
 * asks for it only where the target says that this is the security stage.
 *   - A MaxRecvDataSegmentLength of 0 would make it send empty PDUs for ever.
 *
 * What was agreed on is read here too: libiscsi has done its work when the login has ended (iscsi_wire.h).
 */
enum { ISCSI_LOGIN_HEADER_BYTES = 48, ISCSI_LOGIN_MAX_BYTES = 16384 };
struct iscsi_terms {
    uint32_t cmd_sn; /* of the next command */
    uint32_t max_cmd_sn;
    uint32_t exp_stat_sn;
    uint32_t max_send_segment;
    uint32_t max_burst;
    uint32_t first_burst;
    bool immediate_data;
    bool initial_r2t;
    bool header_digest;
};
struct iscsi_login_guard {
    bool mutual; /* the target must prove itself */
    bool require_header_digest;
    bool discovery; /* lengths of bursts are irrelevant, and may be called so (RFC 7143 13) */
    bool
        challenged; /* we have seen its challenge, so our answer and our challenge are on the way */
    bool proven;    /* the security stage ended as it should */
    uint16_t status; /* class and detail of the last response */
    bool complete;   /* the full feature phase begins: terms are known */
    struct iscsi_terms terms;
};
/* What RFC 7143 has where nothing is said. */
void iscsi_terms_preset(struct iscsi_terms *terms);
/* Length of the response that begins with these 48 bytes, or -EPROTO if they are not one. */
int iscsi_login_length(const uint8_t *header);
/* pdu: a whole response. 0: libiscsi may have it. -EACCES: the target did not prove itself;
 * -EPROTO; why says more. */
int iscsi_login_check(struct iscsi_login_guard *guard, const uint8_t *pdu, size_t len,
                      const char **ret_why);
/* What a login status means, in words. */
const char *iscsi_login_status_text(uint16_t status);

#endif
