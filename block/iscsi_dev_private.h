// SPDX-License-Identifier: Apache-2.0
/*
 * Between the files of the iSCSI device: iscsi_op.c opens it, iscsi_dev.c is its life (states,
 * link, redial), iscsi_io.c is its work (requests, commands, answers).
 *
 * Thread:    the device's loop.
 * Ownership: iscsi_dev_adopt() takes the dialer's link on success.
 * Errors:    struct error.
 */
#ifndef BLOCK_ISCSI_DEV_PRIVATE_H
#define BLOCK_ISCSI_DEV_PRIVATE_H

#include <sys/uio.h>

#include "base/list.h"
#include "base/random.h"
#include "block/iscsi_dial.h"

enum { IO_MAX_IOV = 64, IO_MAX_PARTS = 32, IO_MAX_SLOTS = 1024 };

enum iscsi_dev_state {
    ISCSI_DEV_UP,
    ISCSI_DEV_VERIFYING, /* the session is up, the LUN is asked again what it is */
    ISCSI_DEV_WAITING,   /* for the next attempt to dial */
    ISCSI_DEV_DIALING,
    ISCSI_DEV_CHANGED,
    ISCSI_DEV_CLOSED,
    ISCSI_DEV_STATE_COUNT,
};

enum io_kind { IO_READ, IO_WRITE, IO_UNMAP, IO_SAME, IO_SAME_UNMAP, IO_SYNC, IO_MAP };

struct io_part {
    struct block_req *req;
    uint64_t lba;
    uint32_t blocks;
};

/* A command slot. */
struct io_cmd {
    struct iscsi_cmd cmd;
    struct iscsi_dev *dev;
    struct list entry; /* free, retry, delayed, or none: at the target */
    enum io_kind kind;
    struct io_part parts[IO_MAX_PARTS]; /* several only for UNMAP */
    unsigned n_parts;
    unsigned tries;
    uint64_t due_ns;
    struct iovec iov[IO_MAX_IOV];
    unsigned n_iov;
    uint8_t parameters[8 + 16 * IO_MAX_PARTS];
};

struct req_list {
    struct block_req *first, *last;
};

struct iscsi_dev {
    struct blockdev base;
    struct iscsi_spec spec;
    char name[ISCSI_NAME_SIZE + 16]; /* for the log */
    unsigned state;
    struct iscsi_lun_info lun; /* as first seen, which is what it must be */
    struct iscsi_mode mode;
    char last_error[512];
    struct iscsi_dev_stats stats;

    /* The link. */
    struct iscsi_link *link;
    struct iscsi_dialer dialer;
    struct iscsi_ask ask;
    struct loop_timer redial;       /* WAITING */
    struct loop_timer verify_limit; /* VERIFYING */
    unsigned attempts;
    unsigned fruitless; /* sessions one behind the other that were lost at once and did nothing */
    bool fruitful;      /* this one: a command was done */
    uint64_t up_ns;
    unsigned portal;
    bool verify_again;
    bool fence_wanted; /* as soon as nothing is asked */
    bool was_reset;
    struct random random;

    /* The work. */
    struct io_cmd *slots;
    unsigned n_slots;
    struct list free;
    struct list retry;   /* to be sent before anything new */
    struct list delayed; /* to be sent when they are due */
    struct loop_timer delay;
    unsigned n_sent; /* at the target */
    unsigned limit;  /* learned from TASK SET FULL */
    unsigned good_since_full;
    struct req_list ready;   /* more commands to come */
    struct req_list waiting; /* all commands sent */
    uint32_t max_blocks;     /* per READ or WRITE */
    bool refuses_unmap;
    bool refuses_same_unmap;
    bool refuses_same;
    bool refuses_rw16;
    bool refuses_sync16;
    bool refuses_sync;

    block_close_fn close_done;
    void *close_arg;
};

/* A device on the dialer's link, which is up and whose LUN was asked. portal: which of the spec's
 * led there. */
int iscsi_dev_adopt(struct iscsi_dialer *dialer, unsigned portal, struct blockdev **ret_dev,
                    struct error *error);
/* Zero, or what contradicts itself in spec. */
int iscsi_spec_check(const struct iscsi_spec *spec, bool discovery, struct error *error);

/* What io asks of the life: look again at the LUN; give the session up. */
void iscsi_dev_verify(struct iscsi_dev *dev);
void iscsi_dev_drop_link(struct iscsi_dev *dev, const struct error *error);
void iscsi_dev_note_error(struct iscsi_dev *dev, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* What the life asks of io. */
int iscsi_io_init(struct iscsi_dev *dev);
void iscsi_io_fini(struct iscsi_dev *dev);
void iscsi_io_submit(struct iscsi_dev *dev, struct block_req *req);
/* Sends what can be sent; in state UP only. */
void iscsi_io_pump(struct iscsi_dev *dev);
/* The link is gone or closed: every request completes (later, through loop_defer) with status. */
void iscsi_io_fail_all(struct iscsi_dev *dev, int status);
/* A new session: what the target refused before is tried again. */
void iscsi_io_reset(struct iscsi_dev *dev);

#endif
