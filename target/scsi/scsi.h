// SPDX-License-Identifier: Apache-2.0
/*
 * The SCSI device server: commands on logical units, whatever transport brings them.
 *
 * Thread:    the data loop of the target.
 * Ownership: a struct scsi_cmd is embedded in the transport's task and lent from scsi_start() until
 *            its done(). Its slices belong to it until scsi_cmd_release().
 * Errors:    a command that fails has a status and sense data; nothing that an initiator sends may
 *            reach a CHECK().
 *
 *     scsi_start()    looks at the CDB: unit, attention, reservation, fields. Either the command
 *                     has ended (status known), or out_len says how much data it takes.
 *     transport       collects that data into cmd->out.
 *     scsi_execute()  does it; cmd->done() is called once, perhaps before it returns.
 */
#ifndef TARGET_SCSI_SCSI_H
#define TARGET_SCSI_SCSI_H

#include "block/blockdev.h"
#include "base/bytes.h"
#include "target/shard.h"
#include "target/target.h"

enum scsi_status {
    SCSI_GOOD = 0x00,
    SCSI_CHECK_CONDITION = 0x02,
    SCSI_CONDITION_MET = 0x04,
    SCSI_BUSY = 0x08,
    SCSI_RESERVATION_CONFLICT = 0x18,
    SCSI_TASK_SET_FULL = 0x28,
    SCSI_TASK_ABORTED = 0x40,
};

enum scsi_key {
    SCSI_NO_SENSE = 0x0,
    SCSI_NOT_READY = 0x2,
    SCSI_MEDIUM_ERROR = 0x3,
    SCSI_HARDWARE_ERROR = 0x4,
    SCSI_ILLEGAL_REQUEST = 0x5,
    SCSI_UNIT_ATTENTION = 0x6,
    SCSI_DATA_PROTECT = 0x7,
    SCSI_COPY_ABORTED = 0xa,
    SCSI_ABORTED_COMMAND = 0xb,
    SCSI_MISCOMPARE = 0xe,
};

/* Additional sense code << 8 | qualifier. */
enum scsi_asc {
    ASC_NONE = 0x0000,
    ASC_OPERATION_IN_PROGRESS = 0x0016,
    ASC_NOT_READY_MANUAL = 0x0402, /* initializing command required */
    ASC_NOT_READY_SANITIZE = 0x041b,
    ASC_UNIT_NOT_ACCESSIBLE = 0x0400,
    ASC_PROTOCOL_CRC = 0x4705,
    ASC_UNEXPECTED_DATA = 0x0c0c,
    ASC_INCORRECT_DATA = 0x0c0d,
    ASC_WRITE_ERROR = 0x0c00,
    ASC_THIRD_PARTY_FAILURE = 0x0d01,
    ASC_COPY_TARGET_UNREACHABLE = 0x0d02,
    ASC_READ_ERROR = 0x1100,
    ASC_PARAMETER_LIST_LENGTH = 0x1a00,
    ASC_MISCOMPARE = 0x1d00,
    ASC_INVALID_OPCODE = 0x2000,
    ASC_LBA_OUT_OF_RANGE = 0x2100,
    ASC_INVALID_FIELD_IN_CDB = 0x2400,
    ASC_NO_SUCH_UNIT = 0x2500,
    ASC_INVALID_FIELD_IN_PARAMETERS = 0x2600,
    ASC_TOO_MANY_TARGETS = 0x2606,
    ASC_UNSUPPORTED_TARGET_DESCRIPTOR = 0x2607,
    ASC_TOO_MANY_SEGMENTS = 0x2608,
    ASC_UNSUPPORTED_SEGMENT_DESCRIPTOR = 0x2609,
    ASC_INVALID_RELEASE = 0x2604,
    ASC_WRITE_PROTECTED = 0x2700,
    ASC_SPACE_ALLOCATION_FAILED = 0x2707,
    ASC_COMMAND_SEQUENCE = 0x2c00,
    ASC_SAVING_UNSUPPORTED = 0x3900,
    ASC_INTERNAL_FAILURE = 0x4400,
    ASC_DATA_PHASE = 0x4b00,
    ASC_REGISTRATION_RESOURCES = 0x5504,
    ASC_MEDIUM_REMOVAL_PREVENTED = 0x5302,
};

/* Conditions that wait for an initiator, most important first. */
enum scsi_attention {
    UA_POWER_ON,
    UA_RESET,
    UA_NEXUS_LOST,
    UA_COMMANDS_CLEARED,
    UA_MODE_CHANGED,
    UA_RESERVATIONS_PREEMPTED,
    UA_RESERVATIONS_RELEASED,
    UA_REGISTRATIONS_PREEMPTED,
    UA_CAPACITY_CHANGED,
    UA_INQUIRY_CHANGED,
    UA_LUNS_CHANGED,
    UA_LOW_SPACE,
    UA_COUNT
};

struct scsi_lun;
struct scsi_cmd;

/* One initiator port at one target: a session as SCSI sees it. */
struct scsi_nexus {
    struct list link; /* scsi_target.nexuses */
    struct scsi_target *target;
    char port[TARGET_MAX_NAME + 20]; /* "iqn…,i,0x0123456789ab" */
    char initiator[TARGET_MAX_NAME + 1];
    uint8_t isid[6];
    uint16_t attentions[TARGET_MAX_LUNS]; /* sets of 1 << enum scsi_attention */
};

struct scsi_target {
    struct shard *shard;
    char name[TARGET_MAX_NAME + 1];
    struct scsi_lun *luns[TARGET_MAX_LUNS];
    struct list nexuses;
    uint32_t max_transfer;    /* bytes of one command, as VPD B0h tells */
    uint32_t accept_transfer; /* what is taken nevertheless */
    /* Makes the bytes of persistent reservations durable, then calls done(cmd, status). NULL if
     * nobody keeps them. */
    void (*save)(struct scsi_target *target, struct scsi_lun *lun, const void *bytes, size_t len,
                 void (*done)(void *arg, int status), void *arg);
    /* Ends the other commands of the unit, except one: for PREEMPT AND ABORT. nexus NULL: all. */
    void (*abort_others)(struct scsi_target *target, struct scsi_lun *lun,
                         const struct scsi_nexus *nexus, const struct scsi_cmd *except);
};

/* How commands hinder each other on a unit. */
enum scsi_effect { SCSI_NO_MEDIUM, SCSI_READS, SCSI_WRITES, SCSI_EXCLUSIVE };

enum scsi_attribute { SCSI_UNTAGGED, SCSI_SIMPLE, SCSI_ORDERED, SCSI_HEAD_OF_QUEUE, SCSI_ACA };

struct scsi_sense {
    uint8_t key;
    uint16_t asc;
    bool has_information;
    bool has_field; /* sense-key specific: field pointer */
    bool field_in_cdb;
    uint8_t field_bit; /* 8: no bit */
    uint16_t field_byte;
    uint64_t information;
};

enum { SCSI_SENSE_MAX = 64 };

struct scsi_cmd {
    /* The transport's, before scsi_start(). */
    uint8_t cdb[16];
    struct scsi_nexus *nexus;
    int lun_number; /* -1: no unit can have the address that was given */
    enum scsi_attribute attribute;
    uint32_t expected_out; /* how much the initiator means to send */
    uint32_t expected_in;  /* and to take */
    void (*done)(struct scsi_cmd *cmd);

    /* The device server's. */
    struct scsi_target *target;
    struct scsi_lun *lun;
    const struct scsi_op *op;
    uint32_t out_len; /* data-out that the command takes */
    uint32_t in_len;  /* data-in that it has, in slices in */
    struct slices out;
    struct slices in;
    uint8_t status;
    struct scsi_sense sense;
    bool ended;   /* status is final */
    bool running; /* scsi_execute() was called, done() was not */
    bool aborted; /* done() wanted soon, result unimportant */
    bool entered; /* counted among the unit's active ones */
    uint64_t lba;
    uint64_t n_blocks;
    enum scsi_effect effect;
    struct list link;           /* lun.active or lun.queue */
    struct shard_waiter waiter; /* for buffers */
    size_t wait_len;
    void (*wait_then)(struct scsi_cmd *cmd);
    struct block_req req;
    struct slice part[8]; /* of requests that are a piece of the whole */
    uint64_t position;    /* of multi-step commands */
    uint64_t end;
    void *sibling; /* a record on its way from one step to the next */
    void *more;    /* a multi-step command's own record; freed with it */
};

/* Reservation classes: what others may still do (SPC-4, table 66; SBC-3, table 12). */
enum scsi_class {
    SCSI_CLASS_ALWAYS,   /* never in conflict */
    SCSI_CLASS_READ,     /* in conflict with exclusive access */
    SCSI_CLASS_WRITE,    /* in conflict with any reservation */
    SCSI_CLASS_RELEASE6, /* RESERVE and RELEASE: with persistent ones only */
    SCSI_CLASS_PR,       /* PERSISTENT RESERVE: with the old kind only */
};

enum {
    OP_HAS_ACTION = 1,      /* service action in byte 1, bits 0 to 4 */
    OP_NO_ATTENTION = 4,    /* works with a unit attention pending, and leaves it */
    OP_ANY_UNIT = 8,        /* also where there is no unit */
    OP_NOT_READY_TOO = 16,  /* also stopped or while sanitizing */
    OP_CHANGES_MEDIUM = 32, /* refused when write-protected */
    OP_THIN = 64,           /* only of thin units */
    OP_TAKES_DATA = 128,
    OP_MOVES_STATE = 512, /* not while sanitizing, though it works when stopped */
    OP_EXACT = 256,       /* the initiator must mean to send what the CDB says */
};

struct scsi_op {
    const char *name;
    uint8_t opcode;
    uint8_t action;
    uint8_t cdb_len;
    enum scsi_class class;
    enum scsi_effect effect;
    unsigned flags;
    uint8_t usage[16]; /* bits that may be set, as REPORT SUPPORTED OPERATION CODES tells them */
    /* Looks at the fields; ends the command (scsi_fail) or sets out_len, lba, n_blocks. */
    void (*parse)(struct scsi_cmd *cmd);
    void (*execute)(struct scsi_cmd *cmd);
};
extern const struct scsi_op scsi_ops[];
extern const size_t scsi_ops_len;
const struct scsi_op *scsi_op_find(uint8_t opcode, unsigned action);
/* Length of a CDB by its group; 0: reserved or vendor-specific. */
unsigned scsi_cdb_len(uint8_t opcode);

/* The transport's calls. */
void scsi_cmd_init(struct scsi_cmd *cmd, struct scsi_target *target);
void scsi_start(struct scsi_cmd *cmd);
void scsi_execute(struct scsi_cmd *cmd);
/* done() comes soon, or the result is thrown away when it comes. */
void scsi_abort(struct scsi_cmd *cmd);
void scsi_cmd_release(struct scsi_cmd *cmd);
/* The sense data of a command that ended with CHECK CONDITION. */
size_t scsi_sense_encode(const struct scsi_cmd *cmd, uint8_t out[SCSI_SENSE_MAX]);

void scsi_nexus_add(struct scsi_target *target, struct scsi_nexus *nexus);
/* Old reservations end; persistent ones stay. */
void scsi_nexus_remove(struct scsi_nexus *nexus);
void scsi_attend(struct scsi_lun *lun, const struct scsi_nexus *except, enum scsi_attention ua);
void scsi_attend_one(struct scsi_nexus *nexus, unsigned lun, enum scsi_attention ua);
void scsi_attend_all_units(struct scsi_target *target, enum scsi_attention ua);
void scsi_unit_reset(struct scsi_lun *lun);

/* Handlers' helpers (scsi/cmd.c). */
void scsi_good(struct scsi_cmd *cmd);
void scsi_end(struct scsi_cmd *cmd, enum scsi_status status);
void scsi_fail(struct scsi_cmd *cmd, enum scsi_key key, enum scsi_asc asc);
void scsi_fail_field(struct scsi_cmd *cmd, unsigned byte, unsigned bit); /* of the CDB; bit 8: no */
void scsi_fail_parameter(struct scsi_cmd *cmd, unsigned byte);
/* Sense for a block device's errno. */
void scsi_fail_errno(struct scsi_cmd *cmd, int err, bool write);
/* Answers with at most alloc_len of the bytes. */
void scsi_reply(struct scsi_cmd *cmd, const void *data, size_t len, size_t alloc_len);
/* The whole data-out in one piece: a pointer into it, or a copy in cmd->more. NULL: ended. */
const uint8_t *scsi_parameters(struct scsi_cmd *cmd);
/* Buffers for data-in, then fn(cmd); waits where there are none. */
void scsi_get_in(struct scsi_cmd *cmd, size_t len, void (*fn)(struct scsi_cmd *cmd));
/* Range of blocks: false and ended if it is not on the unit. */
bool scsi_check_range(struct scsi_cmd *cmd);
bool scsi_check_transfer(struct scsi_cmd *cmd, uint64_t bytes, unsigned field);

/* One logical unit. */
struct scsi_registration {
    struct list link;
    char port[TARGET_MAX_NAME + 20];
    uint64_t key;
};

struct scsi_reservation {
    struct list registrations;
    unsigned n_registrations;
    struct scsi_registration *holder; /* NULL: none; of all-registrants types: any */
    uint8_t type;                     /* 0: none */
    uint32_t generation;
    bool aptpl;
    bool saved; /* something is kept that would have to be forgotten */
};

struct scsi_lun {
    struct scsi_target *target;
    unsigned number;
    struct blockdev *dev;
    struct list shard_link;
    uint64_t n_blocks;
    uint32_t block_bytes;
    unsigned block_shift;
    struct target_lun_spec id; /* dev and reservations not used */

    bool read_only; /* by the owner */
    bool swp;       /* software write protect (control mode page) */
    bool d_sense;
    bool wce;
    bool stopped;
    bool removed;

    struct list active; /* entered commands */
    struct list queue;  /* waiting to enter */
    unsigned n_active;
    unsigned n_strict;             /* active ones that are exclusive or ordered */
    struct loop_task restart_task; /* looks at the queue */
    bool restart_posted;

    struct scsi_nexus *reserved_by; /* RESERVE(6), RESERVE(10) */
    struct scsi_reservation pr;

    bool sanitizing;
    bool sanitize_failed;
    uint64_t sanitize_done;
    struct scsi_sanitize *sanitize;
    struct list copies; /* records for RECEIVE COPY RESULTS */
    unsigned n_copies;

    void (*gone)(void *arg); /* called once nothing is active any more, after removal */
    void *gone_arg;
    unsigned users; /* commands that were started and not released, and the sanitize job */
};

int scsi_lun_new(struct scsi_target *target, const struct target_lun_spec *spec,
                 struct scsi_lun **ret_lun);
/* Takes it out of the target; gone() is called from the loop when no command uses it any more. */
void scsi_lun_remove(struct scsi_lun *lun, void (*gone)(void *arg), void *arg);
void scsi_lun_free(struct scsi_lun *lun);
void scsi_lun_unuse(struct scsi_lun *lun);
bool scsi_lun_write_protected(const struct scsi_lun *lun);
/* Length of the NAA identifier (8 or 16) and its bytes. */
size_t scsi_lun_naa(const struct scsi_lun *lun, uint8_t out[16]);

/* Queue of a unit (scsi/queue.c). */
void scsi_enter(struct scsi_cmd *cmd);
void scsi_leave(struct scsi_cmd *cmd);
bool scsi_queue_cancel(struct scsi_cmd *cmd);

/* Persistent reservations (scsi/reserve.c). */
bool scsi_reserved_against(const struct scsi_cmd *cmd);
/* Whether a port may read or write as far as reservations go. */
bool scsi_reserve_allows(const struct scsi_lun *lun, const struct scsi_nexus *nexus, bool write);
void scsi_reserve_nexus_gone(struct scsi_nexus *nexus);
int scsi_pr_load(struct scsi_lun *lun, const void *bytes, size_t len);
void scsi_pr_clear(struct scsi_lun *lun);

/* Handlers, by file. */
/* primary.c */
void scsi_test_unit_ready(struct scsi_cmd *cmd);
void scsi_inquiry_parse(struct scsi_cmd *cmd);
void scsi_inquiry(struct scsi_cmd *cmd);
void scsi_request_sense(struct scsi_cmd *cmd);
void scsi_report_luns(struct scsi_cmd *cmd);
void scsi_read_capacity10(struct scsi_cmd *cmd);
void scsi_read_capacity16(struct scsi_cmd *cmd);
void scsi_start_stop_parse(struct scsi_cmd *cmd);
void scsi_start_stop(struct scsi_cmd *cmd);
void scsi_prevent(struct scsi_cmd *cmd);
void scsi_report_tpg(struct scsi_cmd *cmd);
void scsi_report_opcodes_parse(struct scsi_cmd *cmd);
void scsi_report_opcodes(struct scsi_cmd *cmd);
void scsi_report_tmfs(struct scsi_cmd *cmd);
void scsi_read_defects(struct scsi_cmd *cmd);
/* mode.c */
void scsi_mode_sense(struct scsi_cmd *cmd);
void scsi_mode_select_parse(struct scsi_cmd *cmd);
void scsi_mode_select(struct scsi_cmd *cmd);
/* rw.c */
void scsi_rw_parse(struct scsi_cmd *cmd);
void scsi_read(struct scsi_cmd *cmd);
void scsi_write(struct scsi_cmd *cmd);
void scsi_write_verify_parse(struct scsi_cmd *cmd);
void scsi_write_verify(struct scsi_cmd *cmd);
void scsi_verify_parse(struct scsi_cmd *cmd);
void scsi_verify(struct scsi_cmd *cmd);
void scsi_prefetch(struct scsi_cmd *cmd);
void scsi_sync_parse(struct scsi_cmd *cmd);
void scsi_sync(struct scsi_cmd *cmd);
void scsi_compare_write_parse(struct scsi_cmd *cmd);
void scsi_compare_write(struct scsi_cmd *cmd);
void scsi_orwrite_parse(struct scsi_cmd *cmd);
void scsi_orwrite(struct scsi_cmd *cmd);
/* Fields of READ, WRITE and their like by opcode. */
void scsi_range_decode(struct scsi_cmd *cmd);
/* provision.c */
void scsi_unmap_parse(struct scsi_cmd *cmd);
void scsi_unmap(struct scsi_cmd *cmd);
void scsi_write_same_parse(struct scsi_cmd *cmd);
void scsi_write_same(struct scsi_cmd *cmd);
void scsi_lba_status_parse(struct scsi_cmd *cmd);
void scsi_lba_status(struct scsi_cmd *cmd);
enum { SCSI_MAX_UNMAP_DESCRIPTORS = 256, SCSI_MAX_WRITE_SAME_BYTES = 256 << 20 };
/* sanitize.c */
void scsi_sanitize_parse(struct scsi_cmd *cmd);
void scsi_sanitize(struct scsi_cmd *cmd);
/* The command is aborted, the sanitize goes on (SBC-3, 4.11). */
bool scsi_sanitize_detach(struct scsi_cmd *cmd);
void scsi_sanitize_fini(struct scsi_lun *lun);
/* reserve.c */
void scsi_reserve6(struct scsi_cmd *cmd);
void scsi_release6(struct scsi_cmd *cmd);
void scsi_pr_in(struct scsi_cmd *cmd);
void scsi_pr_out_parse(struct scsi_cmd *cmd);
void scsi_pr_out(struct scsi_cmd *cmd);
/* copy.c */
void scsi_extended_copy_parse(struct scsi_cmd *cmd);
void scsi_extended_copy(struct scsi_cmd *cmd);
void scsi_copy_results(struct scsi_cmd *cmd);
void scsi_copies_free(struct scsi_lun *lun);

#endif
