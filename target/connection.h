// SPDX-License-Identifier: Apache-2.0
/*
 * One TCP connection: PDUs in, PDUs out, and what they mean.
 *
 * Thread:    the data loop of the target; the first data loop for discovery.
 * Ownership: owns the socket. Frees itself, from the loop, once it was closed.
 * Errors:    what breaks the protocol beyond a Reject closes the connection (ErrorRecoveryLevel 0).
 *
 * Receiving: one read fills a buffer of 256 KiB from the shard's pool; headers are parsed where they
 * lie, data segments become slices of the buffer, which a write hands to its device. A connection
 * that is silent holds no buffer.
 *
 * Sending: items wait in a queue; at the end of the loop's round a window of headers and an iovec
 * over them and the data is made from as many items as fit, and goes out with one writev. Headers
 * are made at that moment, so StatSN, ExpCmdSN and MaxCmdSN are in order and up to date. Only when
 * all of the window was sent are its items let go and the next window made.
 */
#ifndef TARGET_CONNECTION_H
#define TARGET_CONNECTION_H

#include <sys/uio.h>

#include "target/login.h"
#include "target/session.h"

enum {
    TX_IOV = 320,
    TX_IOV_SPARE = 80, /* what one PDU may take */
    TX_HEADERS = 64,
    TX_BYTES = 1 << 20,
    CONN_MESSAGES = 64,
    CONN_MESSAGES_SPARE = 8, /* kept for what we send on our own account */
};

enum connection_state { CONN_LOGIN, CONN_ATTACHING, CONN_FULL, CONN_CLOSED };

struct message {
    struct send_item item; /* first */
    uint8_t bhs[PDU_BHS];
    bool numbered; /* takes a StatSN */
    bool close_after;
    uint8_t *text; /* malloc()ed, or NULL: then slices */
    size_t len;
    struct slices slices;
};

struct connection {
    struct list link;       /* target.connections or server.discoveries */
    struct list login_link; /* session.waiting_logins */
    struct target_server *server;
    struct shard *shard;
    struct target *target;   /* NULL: discovery */
    struct session *session; /* once in full feature phase, normal sessions */
    enum connection_state state;
    int fd;
    struct loop_poll *poll;
    int events;
    char name[TARGET_MAX_NAME + 100];
    struct sockaddr_storage local;
    struct login login;
    struct keys keys; /* after login */
    bool header_digest;
    bool data_digest;
    uint32_t stat_sn;
    uint8_t login_flags; /* of the last response, which waits for the session */
    bool ending;         /* what is queued goes out, then it closes */
    uint32_t max_data;   /* of a PDU that comes in */

    /* Receiving. */
    enum { RX_HEADER, RX_DATA, RX_TAIL } rx_state;
    struct buffer *rx_buffer;
    size_t rx_begin, rx_end;
    uint8_t rx_bhs[PDU_BHS];
    uint32_t rx_left;
    uint32_t rx_crc;
    uint8_t rx_tail[8];
    unsigned rx_tail_len, rx_tail_want;
    struct slices rx_data;
    bool rx_parsing;
    bool rx_waiting;            /* for a buffer */
    bool rx_blocked;            /* for a message or a task of ours to be free */
    struct loop_task rx_task;   /* a buffer is there */
    struct loop_task rx_resume; /* no longer blocked */
    bool rx_resume_posted;
    uint64_t rx_wait_since;

    /* Sending. */
    struct list tx_queue;
    struct list tx_sent; /* items all of whose PDUs are in the window */
    struct iovec tx_iov[TX_IOV];
    unsigned tx_iov_count, tx_iov_at;
    uint8_t tx_headers[TX_HEADERS][PDU_BHS + PDU_DIGEST];
    uint8_t tx_tails[TX_HEADERS][8];                  /* padding and digest */
    uint8_t tx_sense[TX_HEADERS][SCSI_SENSE_MAX + 4]; /* sense data with its length */
    unsigned tx_header_count;
    size_t tx_bytes;
    bool tx_close_after;
    bool tx_blocked; /* the socket is full */
    uint64_t tx_blocked_since;
    struct loop_task tx_task;
    bool tx_posted;

    struct message messages[CONN_MESSAGES];
    struct list free_messages;
    unsigned n_free_messages;

    /* Text requests of several PDUs, and answers of several. */
    struct strbuf text_in;
    struct strbuf text_out;
    size_t text_sent;
    uint32_t text_ttt;

    struct loop_timer tick;
    uint64_t opened_ns;
    uint64_t heard_ns; /* a PDU came */
    bool pinged;
    uint64_t pinged_ns;
    bool logout_asked;
    uint64_t logout_deadline_ns; /* 0: none */
    bool logged_out;
    uint64_t collected; /* bytes of unfinished data-out */
    uint64_t promised;  /* receive memory set aside for writes */
    struct loop_task free_task;
};

/* Takes the socket, whether it succeeds or not. first: bytes that were read already. */
void connection_new(struct target_server *server, struct shard *shard, struct target *target,
                    int fd, const uint8_t *first, size_t len);
void connection_close(struct connection *conn, const char *why);
/* Asynchronous message: asks the initiator to log out within some time; then closes. */
void connection_ask_logout(struct connection *conn, uint64_t grace_ns);
void connection_async_event(struct connection *conn, uint8_t event);
/* The session that was in the way of a login is gone. */
void connection_attach(struct connection *conn);

/* Queues an item; it goes out at the end of this round. */
void connection_send(struct connection *conn, struct send_item *item);
struct message *connection_message(struct connection *conn, enum pdu_opcode opcode, uint8_t flags);
void connection_post(struct connection *conn, struct message *message);
/* Tasks or messages have become free. */
void connection_resume(struct connection *conn);
/* Takes an item out that was not begun. */
void connection_unsend(struct connection *conn, struct send_item *item);

/* command.c: what the PDUs of the full feature phase do. */
void command_receive(struct connection *conn);
void command_data_out(struct connection *conn);
void command_start(struct task *task);
void command_ready(struct scsi_cmd *cmd);
/* Next PDU of a task for the window; true: it was the last. */
struct tx_pdu {
    uint8_t *bhs;
    uint32_t data_offset; /* into slices */
    uint32_t data_len;
    const struct slices *slices;
    const uint8_t *bytes; /* instead of slices */
    bool made;            /* false: nothing to be sent */
};
/* Asks for data where a task waited for memory. */
void command_promise_wake(struct shard *shard);
bool command_next_pdu(struct task *task, struct tx_pdu *pdu, uint8_t *sense_space);

/* text.c */
void text_receive(struct connection *conn);

/* A Reject with the header that it is about. */
void connection_reject(struct connection *conn, enum pdu_reject reason);

#endif
