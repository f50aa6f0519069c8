// SPDX-License-Identifier: Apache-2.0
/*
 * Sessions and their tasks: command numbering, flow control, the queues a task goes through.
 *
 * Thread:    the data loop of the target.
 * Ownership: a session owns its tasks, all made with it; it outlives its connection until the last
 *            task has left its device.
 * Errors:    session_new(): negative errno. Protocol errors of the initiator are the connection's.
 *
 *                        ┌──▶ COLLECT (data-out) ──┐
 *     FREE ─▶ HELD ──────┤                         ├─▶ EXECUTE ─▶ SEND ─▶ FREE
 *       (CmdSN is early) └─────────────────────────┘      │
 *                                          aborted: ──────┴─▶ FREE, without a response
 */
#ifndef TARGET_SESSION_H
#define TARGET_SESSION_H

#include "target/keys.h"
#include "base/pdu.h"
#include "target/scsi/scsi.h"

struct connection;
struct session;
struct target;

enum { SESSION_BUCKETS = 64, SESSION_IMMEDIATE = 16 };

enum task_state {
    TASK_FREE,
    TASK_HELD,
    TASK_COLLECT,
    TASK_EXECUTE,
    TASK_SEND,
};

/* Something that the connection is to send. */
struct send_item {
    struct list link;
    bool is_task;
};

struct task {
    struct scsi_cmd cmd;
    struct send_item item;
    struct list link; /* session.free or one of its queues */
    struct task *itt_next;
    struct session *session;
    enum task_state state;
    uint16_t index;
    bool immediate;
    bool counted; /* in session.n_open */
    bool aborted;
    bool discard;  /* collects only to be rid of what was announced */
    bool copying;  /* data-out became so many pieces that they are copied together */
    bool queued;   /* item is in the send queue */
    uint8_t flags; /* of the command PDU */
    uint8_t lun[8];
    uint32_t itt;
    uint32_t cmd_sn;
    uint32_t edtl;

    /* Data-out. Offsets count from the beginning of the command's data. */
    uint32_t out_want;     /* to be collected */
    uint32_t out_next;     /* offset that the next PDU must have */
    uint32_t burst_end;    /* of the sequence that is arriving */
    uint32_t data_sn;      /* that the next PDU must have */
    bool unsolicited;      /* the arriving sequence was not asked for */
    uint32_t r2t_offset;   /* where the next R2T begins */
    uint32_t r2t_sn;       /* of the next R2T */
    uint32_t r2t_arriving; /* R2TSN of the sequence that arrives (next) */
    uint32_t r2t_credit;   /* bytes asked for, not yet there */
    uint32_t promised;     /* receive memory set aside for it */
    struct list promise_link;
    uint64_t waiting_since; /* for data, ns */

    /* Data-in. */
    uint32_t in_total; /* bytes to send */
    uint32_t in_sent;
    uint32_t burst_sent;
    uint32_t in_sn;
};

/* A task management request that waits for the tasks it ended. */
struct tmf {
    struct list link;
    struct session *session;
    uint8_t function;
    int lun; /* -1: all */
    bool whole_target;
    bool any_session;
    uint32_t itt;
    uint32_t task_itt; /* ABORT TASK */
    uint8_t response;
};
enum { SESSION_TMFS = 16 };

struct session {
    struct list link; /* target.sessions */
    struct target *target;
    struct connection *conn; /* NULL: gone, tasks are ending */
    struct scsi_nexus nexus;
    struct keys_values values;
    char alias[TARGET_MAX_ALIAS + 1];
    uint16_t tsih;
    bool closing;
    bool logged_out; /* its end was asked for: nobody counts it any more */

    uint32_t exp_cmd_sn;
    unsigned window;
    unsigned n_open; /* numbered commands without a response */
    unsigned n_tasks;
    unsigned n_used;
    struct task *tasks;
    struct list free;
    struct list held; /* by CmdSN */
    struct list collecting;
    struct list executing;
    struct list sending;
    struct task *by_itt[SESSION_BUCKETS];

    struct tmf tmfs[SESSION_TMFS];
    struct list free_tmfs;
    struct list waiting_tmfs;

    struct list waiting_logins; /* connections that replace this session */
    struct loop_task end_task;
    bool end_posted;
};

int session_new(struct target *target, unsigned window, struct session **ret_session);
/* Ends every task; frees the session when the last has left. */
void session_close(struct session *session);
static inline uint32_t session_max_cmd_sn(const struct session *session)
{
    return session->exp_cmd_sn + (session->window - session->n_open) - 1;
}

struct task *session_find(const struct session *session, uint32_t itt);
struct task *task_new(struct session *session, uint32_t itt); /* NULL: none free */
void task_move(struct task *task, enum task_state state);
void task_free(struct task *task);
/* It will not be answered; ends now or when its device lets it go. */
void task_abort(struct task *task);
/* Gives back what was set aside for its data; others may go on. */
void task_unpromise(struct task *task);
/* Takes it out of the flow control: its answer is on the way, or there will be none. */
void task_settle(struct task *task);

/* Answers the task management requests whose tasks are all gone. */
void session_tmf_check(struct target *target);
void session_tmf_receive(struct session *session, const uint8_t bhs[PDU_BHS]);

#endif
