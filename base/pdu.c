// SPDX-License-Identifier: Apache-2.0
#include "base/pdu.h"

#include <string.h>

const char *pdu_opcode_name(unsigned opcode)
{
    switch (opcode) {
    case PDU_NOP_OUT:
        return "NOP-Out";
    case PDU_SCSI_COMMAND:
        return "SCSI Command";
    case PDU_TASK_REQUEST:
        return "Task Management Request";
    case PDU_LOGIN_REQUEST:
        return "Login Request";
    case PDU_TEXT_REQUEST:
        return "Text Request";
    case PDU_DATA_OUT:
        return "Data-Out";
    case PDU_LOGOUT_REQUEST:
        return "Logout Request";
    case PDU_SNACK:
        return "SNACK";
    case PDU_NOP_IN:
        return "NOP-In";
    case PDU_SCSI_RESPONSE:
        return "SCSI Response";
    case PDU_TASK_RESPONSE:
        return "Task Management Response";
    case PDU_LOGIN_RESPONSE:
        return "Login Response";
    case PDU_TEXT_RESPONSE:
        return "Text Response";
    case PDU_DATA_IN:
        return "Data-In";
    case PDU_LOGOUT_RESPONSE:
        return "Logout Response";
    case PDU_R2T:
        return "R2T";
    case PDU_ASYNC:
        return "Asynchronous Message";
    case PDU_REJECT:
        return "Reject";
    default:
        return "unknown";
    }
}

void pdu_init(uint8_t bhs[PDU_BHS], enum pdu_opcode opcode, uint8_t flags, uint32_t data_len)
{
    memset(bhs, 0, PDU_BHS);
    bhs[PDU_F_OPCODE] = (uint8_t)opcode;
    bhs[PDU_F_FLAGS] = flags;
    put_be24(bhs + PDU_F_DATA_LEN, data_len);
}

int pdu_lun_decode(const uint8_t lun[8])
{
    for (unsigned i = 2; i < 8; i++) {
        if (lun[i] != 0) {
            return -1;
        }
    }
    unsigned method = lun[0] >> 6;
    unsigned number = method == 0 ? lun[1] : (unsigned)(lun[0] & 0x3f) << 8 | lun[1];
    if ((method == 0 && (lun[0] & 0x3f) != 0) || method > 1) {
        return -1;
    }
    return (int)number;
}

void pdu_lun_encode(unsigned number, uint8_t lun[8])
{
    memset(lun, 0, 8);
    lun[1] = (uint8_t)number;
}

enum pdu_reject pdu_check(const uint8_t bhs[PDU_BHS])
{
    switch (pdu_opcode(bhs)) {
    case PDU_NOP_OUT:
    case PDU_SCSI_COMMAND:
    case PDU_TASK_REQUEST:
    case PDU_LOGIN_REQUEST:
    case PDU_TEXT_REQUEST:
    case PDU_DATA_OUT:
    case PDU_LOGOUT_REQUEST:
        break;
    case PDU_SNACK:
        return PDU_REJECT_SNACK; /* only from ErrorRecoveryLevel 1 on */
    default:
        return PDU_REJECT_NOT_SUPPORTED;
    }
    /* Additional headers carry long CDBs and bidirectional lengths; only commands have them. */
    if (pdu_ahs_len(bhs) > 0 && pdu_opcode(bhs) != PDU_SCSI_COMMAND) {
        return PDU_REJECT_PROTOCOL;
    }
    return PDU_REJECT_NONE;
}
