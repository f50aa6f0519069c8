// SPDX-License-Identifier: Apache-2.0
/*
 * The bytes of iSCSI PDUs: basic header segments, decoded and encoded (RFC 7143, 11).
 *
 * Thread:    any.
 * Ownership: plain values.
 * Errors:    pdu_check() answers a reject reason for a header that cannot be one.
 */
#ifndef BASE_PDU_H
#define BASE_PDU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum {
    PDU_BHS = 48,
    PDU_DIGEST = 4,
    PDU_MAX_AHS = 255 * 4,
    PDU_NO_TAG = 0xffffffffu,
    PDU_LOGIN_SEGMENT = 8192, /* MaxRecvDataSegmentLength during login */
};

enum pdu_opcode {
    PDU_NOP_OUT = 0x00,
    PDU_SCSI_COMMAND = 0x01,
    PDU_TASK_REQUEST = 0x02,
    PDU_LOGIN_REQUEST = 0x03,
    PDU_TEXT_REQUEST = 0x04,
    PDU_DATA_OUT = 0x05,
    PDU_LOGOUT_REQUEST = 0x06,
    PDU_SNACK = 0x10,
    PDU_NOP_IN = 0x20,
    PDU_SCSI_RESPONSE = 0x21,
    PDU_TASK_RESPONSE = 0x22,
    PDU_LOGIN_RESPONSE = 0x23,
    PDU_TEXT_RESPONSE = 0x24,
    PDU_DATA_IN = 0x25,
    PDU_LOGOUT_RESPONSE = 0x26,
    PDU_R2T = 0x31,
    PDU_ASYNC = 0x32,
    PDU_REJECT = 0x3f,
};
const char *pdu_opcode_name(unsigned opcode);

enum pdu_reject {
    PDU_REJECT_NONE = 0,
    PDU_REJECT_DIGEST = 0x02,
    PDU_REJECT_SNACK = 0x03,
    PDU_REJECT_PROTOCOL = 0x04,
    PDU_REJECT_NOT_SUPPORTED = 0x05,
    PDU_REJECT_IMMEDIATE = 0x06,
    PDU_REJECT_TASK_IN_PROGRESS = 0x07,
    PDU_REJECT_INVALID_FIELD = 0x09,
    PDU_REJECT_RESOURCES = 0x0a,
    PDU_REJECT_NEGOTIATION = 0x0b,
    PDU_REJECT_LOGOUT = 0x0c,
};

/* Offsets of fields that several PDUs share. */
enum {
    PDU_F_OPCODE = 0,
    PDU_F_FLAGS = 1,
    PDU_F_AHS_LEN = 4,
    PDU_F_DATA_LEN = 5,
    PDU_F_LUN = 8,
    PDU_F_ITT = 16,
    PDU_F_TTT = 20,
    PDU_F_CMD_SN = 24,
    PDU_F_EXP_STAT_SN = 28,
    PDU_F_STAT_SN = 24,
    PDU_F_EXP_CMD_SN = 28,
    PDU_F_MAX_CMD_SN = 32,
    PDU_F_DATA_SN = 36,
    PDU_F_OFFSET = 40,
    PDU_F_RESIDUAL = 44,
};

enum {
    PDU_IMMEDIATE = 0x40, /* in the opcode's byte */
    PDU_FINAL = 0x80,     /* in the flags' byte, of all */
    PDU_CONTINUE = 0x40,  /* text and login */
    PDU_CMD_READ = 0x40,
    PDU_CMD_WRITE = 0x20,
    PDU_RSP_OVERFLOW = 0x04,
    PDU_RSP_UNDERFLOW = 0x02,
    PDU_DATA_IN_STATUS = 0x01,
};

static inline unsigned pdu_opcode(const uint8_t *bhs)
{
    return bhs[PDU_F_OPCODE] & 0x3f;
}

static inline bool pdu_immediate(const uint8_t *bhs)
{
    return (bhs[PDU_F_OPCODE] & PDU_IMMEDIATE) != 0;
}

static inline bool pdu_final(const uint8_t *bhs)
{
    return (bhs[PDU_F_FLAGS] & PDU_FINAL) != 0;
}

static inline size_t pdu_ahs_len(const uint8_t *bhs)
{
    return (size_t)bhs[PDU_F_AHS_LEN] * 4;
}

static inline uint32_t pdu_data_len(const uint8_t *bhs)
{
    return get_be24(bhs + PDU_F_DATA_LEN);
}

static inline uint32_t pdu_itt(const uint8_t *bhs)
{
    return get_be32(bhs + PDU_F_ITT);
}

static inline uint32_t pdu_pad(uint32_t len)
{
    return -len & 3;
}

/* A zeroed header with opcode, flags and length. */
void pdu_init(uint8_t bhs[PDU_BHS], enum pdu_opcode opcode, uint8_t flags, uint32_t data_len);

/* One level of LUN addressing: peripheral or flat, both below 256 here. -1: another form. */
int pdu_lun_decode(const uint8_t lun[8]);
void pdu_lun_encode(unsigned number, uint8_t lun[8]);

/* What an initiator may send, by its fixed parts alone. */
enum pdu_reject pdu_check(const uint8_t bhs[PDU_BHS]);

#endif
