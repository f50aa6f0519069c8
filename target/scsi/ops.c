// SPDX-License-Identifier: Apache-2.0
/*
 * The commands: one row each. The usage bytes are both the check of reserved bits and what REPORT
 * SUPPORTED OPERATION CODES tells.
 */
#include "base/check.h"
#include "target/scsi/scsi.h"

#define ALWAYS   SCSI_CLASS_ALWAYS
#define READ     SCSI_CLASS_READ
#define WRITE    SCSI_CLASS_WRITE
#define RELEASE6 SCSI_CLASS_RELEASE6
#define PR       SCSI_CLASS_PR
enum {
    QUIET = OP_NO_ATTENTION | OP_ANY_UNIT | OP_NOT_READY_TOO,
    CHANGE = OP_CHANGES_MEDIUM,
    DATA = OP_TAKES_DATA,
    ACTION = OP_HAS_ACTION,
};
#define LBA32 0xff, 0xff, 0xff, 0xff
#define LBA64 LBA32, LBA32
#define LEN32 0xff, 0xff, 0xff, 0xff
#define GROUP 0x1f /* taken and not used */

/* clang-format off */
const struct scsi_op scsi_ops[] = {
    {"TEST UNIT READY", 0x00, 0, 6, ALWAYS, SCSI_NO_MEDIUM, 0,
     {0x00, 0, 0, 0, 0, 0}, NULL, scsi_test_unit_ready},
    {"REQUEST SENSE", 0x03, 0, 6, ALWAYS, SCSI_NO_MEDIUM, QUIET,
     {0x03, 0x01, 0, 0, 0xff, 0}, NULL, scsi_request_sense},
    {"READ(6)", 0x08, 0, 6, READ, SCSI_READS, 0,
     {0x08, 0x1f, 0xff, 0xff, 0xff, 0}, scsi_rw_parse, scsi_read},
    {"WRITE(6)", 0x0a, 0, 6, WRITE, SCSI_WRITES, CHANGE | DATA,
     {0x0a, 0x1f, 0xff, 0xff, 0xff, 0}, scsi_rw_parse, scsi_write},
    {"INQUIRY", 0x12, 0, 6, ALWAYS, SCSI_NO_MEDIUM, QUIET,
     {0x12, 0x01, 0xff, 0xff, 0xff, 0}, scsi_inquiry_parse, scsi_inquiry},
    {"MODE SELECT(6)", 0x15, 0, 6, WRITE, SCSI_NO_MEDIUM, DATA,
     {0x15, 0x11, 0, 0, 0xff, 0}, scsi_mode_select_parse, scsi_mode_select},
    {"RESERVE(6)", 0x16, 0, 6, RELEASE6, SCSI_NO_MEDIUM, 0,
     {0x16, 0, 0, 0, 0, 0}, NULL, scsi_reserve6},
    {"RELEASE(6)", 0x17, 0, 6, RELEASE6, SCSI_NO_MEDIUM, 0,
     {0x17, 0, 0, 0, 0, 0}, NULL, scsi_release6},
    {"MODE SENSE(6)", 0x1a, 0, 6, READ, SCSI_NO_MEDIUM, 0,
     {0x1a, 0x08, 0xff, 0xff, 0xff, 0}, NULL, scsi_mode_sense},
    {"START STOP UNIT", 0x1b, 0, 6, WRITE, SCSI_NO_MEDIUM, OP_NOT_READY_TOO | OP_MOVES_STATE,
     {0x1b, 0x01, 0, 0x0f, 0xf7, 0}, scsi_start_stop_parse, scsi_start_stop},
    {"PREVENT ALLOW MEDIUM REMOVAL", 0x1e, 0, 6, ALWAYS, SCSI_NO_MEDIUM, OP_NOT_READY_TOO,
     {0x1e, 0, 0, 0, 0x03, 0}, NULL, scsi_prevent},
    {"READ CAPACITY(10)", 0x25, 0, 10, ALWAYS, SCSI_NO_MEDIUM, 0,
     {0x25, 0x01, LBA32, 0, 0, 0x01, 0}, NULL, scsi_read_capacity10},
    {"READ(10)", 0x28, 0, 10, READ, SCSI_READS, 0,
     {0x28, 0x18, LBA32, GROUP, 0xff, 0xff, 0}, scsi_rw_parse, scsi_read},
    {"WRITE(10)", 0x2a, 0, 10, WRITE, SCSI_WRITES, CHANGE | DATA,
     {0x2a, 0x18, LBA32, GROUP, 0xff, 0xff, 0}, scsi_rw_parse, scsi_write},
    {"WRITE AND VERIFY(10)", 0x2e, 0, 10, WRITE, SCSI_WRITES, CHANGE | DATA,
     {0x2e, 0x16, LBA32, GROUP, 0xff, 0xff, 0}, scsi_write_verify_parse, scsi_write_verify},
    {"VERIFY(10)", 0x2f, 0, 10, READ, SCSI_READS, DATA,
     {0x2f, 0x16, LBA32, GROUP, 0xff, 0xff, 0}, scsi_verify_parse, scsi_verify},
    {"PRE-FETCH(10)", 0x34, 0, 10, READ, SCSI_READS, 0,
     {0x34, 0x02, LBA32, GROUP, 0xff, 0xff, 0}, scsi_sync_parse, scsi_prefetch},
    {"SYNCHRONIZE CACHE(10)", 0x35, 0, 10, WRITE, SCSI_READS, 0,
     {0x35, 0x06, LBA32, GROUP, 0xff, 0xff, 0}, scsi_sync_parse, scsi_sync},
    {"READ DEFECT DATA(10)", 0x37, 0, 10, READ, SCSI_NO_MEDIUM, 0,
     {0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0}, NULL, scsi_read_defects},
    {"WRITE SAME(10)", 0x41, 0, 10, WRITE, SCSI_WRITES, CHANGE | DATA | OP_EXACT,
     {0x41, 0x18, LBA32, GROUP, 0xff, 0xff, 0}, scsi_write_same_parse, scsi_write_same},
    {"UNMAP", 0x42, 0, 10, WRITE, SCSI_WRITES, CHANGE | DATA | OP_THIN,
     {0x42, 0x01, 0, 0, 0, 0, GROUP, 0xff, 0xff, 0}, scsi_unmap_parse, scsi_unmap},
    {"SANITIZE OVERWRITE", 0x48, 0x01, 10, WRITE, SCSI_NO_MEDIUM, CHANGE | DATA | ACTION,
     {0x48, 0xbf, 0, 0, 0, 0, 0, 0xff, 0xff, 0}, scsi_sanitize_parse, scsi_sanitize},
    {"SANITIZE BLOCK ERASE", 0x48, 0x02, 10, WRITE, SCSI_NO_MEDIUM, CHANGE | ACTION,
     {0x48, 0xbf, 0, 0, 0, 0, 0, 0xff, 0xff, 0}, scsi_sanitize_parse, scsi_sanitize},
    {"SANITIZE EXIT FAILURE MODE", 0x48, 0x1f, 10, WRITE, SCSI_NO_MEDIUM, ACTION | OP_NOT_READY_TOO,
     {0x48, 0xbf, 0, 0, 0, 0, 0, 0xff, 0xff, 0}, scsi_sanitize_parse, scsi_sanitize},
    {"MODE SELECT(10)", 0x55, 0, 10, WRITE, SCSI_NO_MEDIUM, DATA,
     {0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0}, scsi_mode_select_parse, scsi_mode_select},
    {"RESERVE(10)", 0x56, 0, 10, RELEASE6, SCSI_NO_MEDIUM, 0,
     {0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0}, NULL, scsi_reserve6},
    {"RELEASE(10)", 0x57, 0, 10, RELEASE6, SCSI_NO_MEDIUM, 0,
     {0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0}, NULL, scsi_release6},
    {"MODE SENSE(10)", 0x5a, 0, 10, READ, SCSI_NO_MEDIUM, 0,
     {0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0}, NULL, scsi_mode_sense},
    {"PERSISTENT RESERVE IN: READ KEYS", 0x5e, 0x00, 10, PR, SCSI_NO_MEDIUM, ACTION,
     {0x5e, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff, 0}, NULL, scsi_pr_in},
    {"PERSISTENT RESERVE IN: READ RESERVATION", 0x5e, 0x01, 10, PR, SCSI_NO_MEDIUM, ACTION,
     {0x5e, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff, 0}, NULL, scsi_pr_in},
    {"PERSISTENT RESERVE IN: REPORT CAPABILITIES", 0x5e, 0x02, 10, PR, SCSI_NO_MEDIUM, ACTION,
     {0x5e, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff, 0}, NULL, scsi_pr_in},
    {"PERSISTENT RESERVE IN: READ FULL STATUS", 0x5e, 0x03, 10, PR, SCSI_NO_MEDIUM, ACTION,
     {0x5e, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff, 0}, NULL, scsi_pr_in},
#define PR_OUT(name, action)                                                                       \
    {"PERSISTENT RESERVE OUT: " name, 0x5f, action, 10, PR, SCSI_NO_MEDIUM, ACTION | DATA,         \
     {0x5f, 0x1f, 0xff, 0, 0, LEN32, 0}, scsi_pr_out_parse, scsi_pr_out}
    PR_OUT("REGISTER", 0x00),
    PR_OUT("RESERVE", 0x01),
    PR_OUT("RELEASE", 0x02),
    PR_OUT("CLEAR", 0x03),
    PR_OUT("PREEMPT", 0x04),
    PR_OUT("PREEMPT AND ABORT", 0x05),
    PR_OUT("REGISTER AND IGNORE EXISTING KEY", 0x06),
    {"EXTENDED COPY(LID1)", 0x83, 0x00, 16, WRITE, SCSI_NO_MEDIUM, ACTION | DATA,
     {0x83, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, LEN32, 0, 0}, scsi_extended_copy_parse, scsi_extended_copy},
    {"EXTENDED COPY(LID4)", 0x83, 0x01, 16, WRITE, SCSI_NO_MEDIUM, ACTION | DATA,
     {0x83, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, LEN32, 0, 0}, scsi_extended_copy_parse, scsi_extended_copy},
    {"RECEIVE COPY STATUS(LID1)", 0x84, 0x00, 16, READ, SCSI_NO_MEDIUM, ACTION,
     {0x84, 0x1f, 0xff, 0, 0, 0, 0, 0, 0, 0, LEN32, 0, 0}, NULL, scsi_copy_results},
    {"RECEIVE COPY OPERATING PARAMETERS", 0x84, 0x03, 16, READ, SCSI_NO_MEDIUM, ACTION,
     {0x84, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, LEN32, 0, 0}, NULL, scsi_copy_results},
    {"RECEIVE COPY FAILURE DETAILS(LID1)", 0x84, 0x04, 16, READ, SCSI_NO_MEDIUM, ACTION,
     {0x84, 0x1f, 0xff, 0, 0, 0, 0, 0, 0, 0, LEN32, 0, 0}, NULL, scsi_copy_results},
    {"RECEIVE COPY STATUS(LID4)", 0x84, 0x05, 16, READ, SCSI_NO_MEDIUM, ACTION,
     {0x84, 0x1f, LEN32, 0, 0, 0, 0, LEN32, 0, 0}, NULL, scsi_copy_results},
    {"READ(16)", 0x88, 0, 16, READ, SCSI_READS, 0,
     {0x88, 0x18, LBA64, LEN32, GROUP, 0}, scsi_rw_parse, scsi_read},
    {"COMPARE AND WRITE", 0x89, 0, 16, WRITE, SCSI_EXCLUSIVE, CHANGE | DATA | OP_EXACT,
     {0x89, 0x18, LBA64, 0, 0, 0, 0xff, GROUP, 0}, scsi_compare_write_parse, scsi_compare_write},
    {"WRITE(16)", 0x8a, 0, 16, WRITE, SCSI_WRITES, CHANGE | DATA,
     {0x8a, 0x18, LBA64, LEN32, GROUP, 0}, scsi_rw_parse, scsi_write},
    {"ORWRITE", 0x8b, 0, 16, WRITE, SCSI_EXCLUSIVE, CHANGE | DATA,
     {0x8b, 0x18, LBA64, LEN32, GROUP, 0}, scsi_orwrite_parse, scsi_orwrite},
    {"WRITE AND VERIFY(16)", 0x8e, 0, 16, WRITE, SCSI_WRITES, CHANGE | DATA,
     {0x8e, 0x16, LBA64, LEN32, GROUP, 0}, scsi_write_verify_parse, scsi_write_verify},
    {"VERIFY(16)", 0x8f, 0, 16, READ, SCSI_READS, DATA,
     {0x8f, 0x16, LBA64, LEN32, GROUP, 0}, scsi_verify_parse, scsi_verify},
    {"PRE-FETCH(16)", 0x90, 0, 16, READ, SCSI_READS, 0,
     {0x90, 0x02, LBA64, LEN32, GROUP, 0}, scsi_sync_parse, scsi_prefetch},
    {"SYNCHRONIZE CACHE(16)", 0x91, 0, 16, WRITE, SCSI_READS, 0,
     {0x91, 0x06, LBA64, LEN32, GROUP, 0}, scsi_sync_parse, scsi_sync},
    {"WRITE SAME(16)", 0x93, 0, 16, WRITE, SCSI_WRITES, CHANGE | DATA | OP_EXACT,
     {0x93, 0x19, LBA64, LEN32, GROUP, 0}, scsi_write_same_parse, scsi_write_same},
    {"READ CAPACITY(16)", 0x9e, 0x10, 16, ALWAYS, SCSI_NO_MEDIUM, ACTION,
     {0x9e, 0x1f, LBA64, LEN32, 0x01, 0}, NULL, scsi_read_capacity16},
    {"GET LBA STATUS", 0x9e, 0x12, 16, READ, SCSI_READS, ACTION,
     {0x9e, 0x1f, LBA64, LEN32, 0, 0}, scsi_lba_status_parse, scsi_lba_status},
    {"REPORT LUNS", 0xa0, 0, 12, ALWAYS, SCSI_NO_MEDIUM, QUIET,
     {0xa0, 0, 0xff, 0, 0, 0, LEN32, 0, 0}, NULL, scsi_report_luns},
    {"REPORT TARGET PORT GROUPS", 0xa3, 0x0a, 12, ALWAYS, SCSI_NO_MEDIUM, ACTION | OP_NOT_READY_TOO,
     {0xa3, 0xff, 0, 0, 0, 0, LEN32, 0, 0}, NULL, scsi_report_tpg},
    {"REPORT SUPPORTED OPERATION CODES", 0xa3, 0x0c, 12, READ, SCSI_NO_MEDIUM,
     ACTION | OP_NOT_READY_TOO,
     {0xa3, 0x1f, 0x87, 0xff, 0xff, 0xff, LEN32, 0, 0}, scsi_report_opcodes_parse,
     scsi_report_opcodes},
    {"REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", 0xa3, 0x0d, 12, READ, SCSI_NO_MEDIUM,
     ACTION | OP_NOT_READY_TOO,
     {0xa3, 0x1f, 0x80, 0, 0, 0, LEN32, 0, 0}, NULL, scsi_report_tmfs},
    {"READ(12)", 0xa8, 0, 12, READ, SCSI_READS, 0,
     {0xa8, 0x18, LBA32, LEN32, GROUP, 0}, scsi_rw_parse, scsi_read},
    {"WRITE(12)", 0xaa, 0, 12, WRITE, SCSI_WRITES, CHANGE | DATA,
     {0xaa, 0x18, LBA32, LEN32, GROUP, 0}, scsi_rw_parse, scsi_write},
    {"WRITE AND VERIFY(12)", 0xae, 0, 12, WRITE, SCSI_WRITES, CHANGE | DATA,
     {0xae, 0x16, LBA32, LEN32, GROUP, 0}, scsi_write_verify_parse, scsi_write_verify},
    {"VERIFY(12)", 0xaf, 0, 12, READ, SCSI_READS, DATA,
     {0xaf, 0x16, LBA32, LEN32, GROUP, 0}, scsi_verify_parse, scsi_verify},
    {"READ DEFECT DATA(12)", 0xb7, 0, 12, READ, SCSI_NO_MEDIUM, 0,
     {0xb7, 0x1f, LEN32, LEN32, 0, 0}, NULL, scsi_read_defects},
};
/* clang-format on */
const size_t scsi_ops_len = ARRAY_LEN(scsi_ops);

/* For speed: the first row of each opcode, by opcode, plus one. */
static uint8_t first_row[256];
static bool indexed;

__attribute__((constructor)) static void index_rows(void)
{
    _Static_assert(ARRAY_LEN(scsi_ops) < 255, "rows are counted in a byte");
    for (size_t i = ARRAY_LEN(scsi_ops); i-- > 0;) {
        first_row[scsi_ops[i].opcode] = (uint8_t)(i + 1);
    }
    indexed = true;
}

const struct scsi_op *scsi_op_find(uint8_t opcode, unsigned action)
{
    if (!indexed || first_row[opcode] == 0) {
        return NULL;
    }
    size_t i = first_row[opcode] - 1u;
    /* Rows of one opcode stand together. */
    for (; i < scsi_ops_len && scsi_ops[i].opcode == opcode; i++) {
        if (!(scsi_ops[i].flags & OP_HAS_ACTION) || scsi_ops[i].action == action ||
            action == 0x100) {
            return &scsi_ops[i];
        }
    }
    return NULL;
}

unsigned scsi_cdb_len(uint8_t opcode)
{
    static const uint8_t by_group[8] = {6, 10, 10, 0, 16, 12, 0, 0};
    return by_group[opcode >> 5];
}
