// SPDX-License-Identifier: Apache-2.0
#include "target/connection.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "base/sockaddr.h"
#include "target/server.h"

enum {
    RX_ROUNDS = 4,
    RX_HEADER_ROOM = 4096,
    NEAR_RTT_US = 50,
    NEAR_SEND_BYTES = 256 << 10,
};

static void connection_parse(struct connection *conn);
static void tx_run(void *arg);

static void set_events(struct connection *conn)
{
    int events = 0;
    if (conn->state == CONN_CLOSED) {
        return;
    }
    if (!conn->rx_waiting && !conn->rx_blocked && conn->state != CONN_ATTACHING && !conn->ending) {
        events |= LOOP_READ;
    }
    if (conn->tx_blocked) {
        events |= LOOP_WRITE;
    }
    if (events != conn->events) {
        conn->events = events;
        loop_poll_set(conn->poll, events);
    }
}

/* ---- the end ---- */

static void connection_free(void *arg)
{
    struct connection *conn = arg;
    if (conn->tx_posted || conn->rx_resume_posted || conn->rx_waiting) {
        loop_post(conn->shard->loop, &conn->free_task); /* they run first */
        return;
    }
    strbuf_fini(&conn->text_in);
    strbuf_fini(&conn->text_out);
    login_fini(&conn->login);
    free(conn);
}

static void message_free(struct connection *conn, struct message *message)
{
    free(message->text);
    message->text = NULL;
    slices_clear(conn->shard, &message->slices);
    list_push_back(&conn->free_messages, &message->item.link);
    conn->n_free_messages++;
}

static void item_release(struct connection *conn, struct send_item *item)
{
    list_remove(&item->link);
    if (item->is_task) {
        struct task *task = container_of(item, struct task, item);
        task->queued = false;
        task_free(task);
    } else {
        message_free(conn, container_of(item, struct message, item));
    }
}

static void release_all(struct connection *conn, struct list *items)
{
    struct list *link;
    while ((link = list_first(items))) {
        struct send_item *item = list_entry(link, struct send_item, link);
        if (item->is_task) {
            /* The session ends its tasks itself. */
            list_remove(link);
            container_of(item, struct task, item)->queued = false;
        } else {
            item_release(conn, item);
        }
    }
}

void connection_close(struct connection *conn, const char *why)
{
    if (conn->state == CONN_CLOSED) {
        return;
    }
    if (conn->state == CONN_FULL || !conn->logged_out) {
        log_debug("conn[%s] closed: %s", conn->name, why);
    }
    conn->state = CONN_CLOSED;
    loop_timer_stop(&conn->tick);
    loop_poll_free(conn->poll);
    close(conn->fd);
    if (conn->rx_waiting && buffer_pool_wait_cancel(conn->shard->recv_pool, &conn->rx_task)) {
        conn->rx_waiting = false;
    }
    release_all(conn, &conn->tx_queue);
    release_all(conn, &conn->tx_sent);
    slices_clear(conn->shard, &conn->rx_data);
    if (conn->rx_buffer) {
        buffer_unref(conn->rx_buffer);
        conn->rx_buffer = NULL;
    }
    list_remove(&conn->login_link);
    list_remove(&conn->link);
    atomic_fetch_sub(&conn->server->connections, 1);
    struct session *session = conn->session;
    conn->session = NULL;
    if (session) {
        session->conn = NULL;
        session_close(session);
    }
    if (conn->target) {
        target_check_idle(conn->target);
    }
    /* Callers up the stack still look at the state; tasks of ours that are posted run before. */
    conn->free_task = (struct loop_task){.fn = connection_free, .arg = conn};
    loop_post(conn->shard->loop, &conn->free_task);
}

/* ---- sending ---- */

static void tx_schedule(struct connection *conn)
{
    if (!conn->tx_posted && !conn->tx_blocked && conn->state != CONN_CLOSED) {
        conn->tx_posted = true;
        loop_defer(conn->shard->loop, &conn->tx_task);
    }
}

void connection_send(struct connection *conn, struct send_item *item)
{
    list_push_back(&conn->tx_queue, &item->link);
    tx_schedule(conn);
}

void connection_unsend(struct connection *conn, struct send_item *item)
{
    (void)conn;
    list_remove(&item->link);
}

struct message *connection_message(struct connection *conn, enum pdu_opcode opcode, uint8_t flags)
{
    struct list *link = list_pop_front(&conn->free_messages);
    if (!link) {
        return NULL;
    }
    conn->n_free_messages--;
    struct message *message = container_of(link, struct message, item.link);
    pdu_init(message->bhs, opcode, flags, 0);
    message->numbered = true;
    message->close_after = false;
    message->len = 0;
    return message;
}

void connection_post(struct connection *conn, struct message *message)
{
    put_be24(message->bhs + PDU_F_DATA_LEN, (uint32_t)message->len);
    if (message->close_after) {
        conn->ending = true; /* nothing that comes in counts any more */
    }
    connection_send(conn, &message->item);
}

void connection_reject(struct connection *conn, enum pdu_reject reason)
{
    if (conn->target) {
        count_add(&conn->target->counters.protocol_errors, 1);
    }
    log_debug("conn[%s] rejects %s: reason %u", conn->name,
              pdu_opcode_name(pdu_opcode(conn->rx_bhs)), reason);
    struct message *message = connection_message(conn, PDU_REJECT, PDU_FINAL);
    uint8_t *copy = message ? malloc(PDU_BHS) : NULL;
    if (!copy) {
        connection_close(conn, "out of messages");
        return;
    }
    message->bhs[2] = (uint8_t)reason;
    put_be32(message->bhs + PDU_F_ITT, PDU_NO_TAG);
    memcpy(copy, conn->rx_bhs, PDU_BHS);
    message->text = copy;
    message->len = PDU_BHS;
    connection_post(conn, message);
}

static void tx_add(struct connection *conn, const void *data, size_t len)
{
    if (len > 0) {
        conn->tx_iov[conn->tx_iov_count++] =
            (struct iovec){.iov_base = (void *)data, .iov_len = len};
        conn->tx_bytes += len;
    }
}

static void stamp(struct connection *conn, uint8_t *bhs, bool numbered)
{
    unsigned opcode = pdu_opcode(bhs);
    if (opcode == PDU_DATA_IN && !(bhs[PDU_F_FLAGS] & PDU_DATA_IN_STATUS)) {
        put_be32(bhs + PDU_F_STAT_SN, 0); /* reserved without status */
    } else {
        put_be32(bhs + PDU_F_STAT_SN, conn->stat_sn);
        conn->stat_sn += numbered;
    }
    uint32_t expected;
    uint32_t max;
    if (conn->session) {
        expected = conn->session->exp_cmd_sn;
        max = session_max_cmd_sn(conn->session);
    } else {
        expected = conn->login.cmd_sn;
        max = expected + 1;
    }
    put_be32(bhs + PDU_F_EXP_CMD_SN, expected);
    put_be32(bhs + PDU_F_MAX_CMD_SN, max);
}

/* Puts one PDU into the window. */
static void tx_put(struct connection *conn, const struct tx_pdu *pdu, bool numbered)
{
    unsigned slot = conn->tx_header_count++;
    uint8_t *bhs = conn->tx_headers[slot];
    uint8_t *tail = conn->tx_tails[slot];
    size_t tail_len = pdu_pad(pdu->data_len);
    stamp(conn, bhs, numbered);
    size_t head = PDU_BHS;
    bool digests = conn->state == CONN_FULL;
    if (digests && conn->header_digest) {
        uint32_t crc = crc32c(0, bhs, PDU_BHS);
        memcpy(bhs + PDU_BHS, &(uint32_t){htole32(crc)}, PDU_DIGEST);
        head += PDU_DIGEST;
    }
    tx_add(conn, bhs, head);
    bool digest = digests && conn->data_digest;
    if (conn->state == CONN_FULL && pdu_opcode(bhs) == PDU_LOGIN_RESPONSE) {
        /* Digests begin with the PDU after the last login response. */
        conn->header_digest = conn->keys.values.header_digest != 0;
        conn->data_digest = conn->keys.values.data_digest != 0;
    }
    if (pdu->data_len == 0) {
        return;
    }
    uint32_t crc = 0;
    if (pdu->bytes) {
        tx_add(conn, pdu->bytes, pdu->data_len);
        crc = digest ? crc32c(0, pdu->bytes, pdu->data_len) : 0;
    } else {
        size_t offset = pdu->data_offset;
        size_t left = pdu->data_len;
        for (unsigned i = 0; left > 0; i++) {
            CHECK(i < pdu->slices->count);
            const struct slice *slice = &pdu->slices->items[i];
            if (offset >= slice->len) {
                offset -= slice->len;
                continue;
            }
            size_t part = slice->len - offset < left ? slice->len - offset : left;
            tx_add(conn, slice->data + offset, part);
            crc = digest ? crc32c(crc, slice->data + offset, part) : 0;
            left -= part;
            offset = 0;
        }
    }
    memset(tail, 0, 8);
    if (digest) {
        crc = crc32c(crc, tail, tail_len);
        memcpy(tail + tail_len, &(uint32_t){htole32(crc)}, PDU_DIGEST);
        tail_len += PDU_DIGEST;
    }
    tx_add(conn, tail, tail_len);
}

static void tx_fill(struct connection *conn)
{
    conn->tx_iov_count = 0;
    conn->tx_iov_at = 0;
    conn->tx_header_count = 0;
    conn->tx_bytes = 0;
    while (!list_empty(&conn->tx_queue) && conn->tx_header_count < TX_HEADERS &&
           conn->tx_iov_count + TX_IOV_SPARE <= TX_IOV && conn->tx_bytes < TX_BYTES &&
           !conn->tx_close_after) {
        struct send_item *item = list_entry(list_first(&conn->tx_queue), struct send_item, link);
        struct tx_pdu pdu = {.bhs = conn->tx_headers[conn->tx_header_count], .made = true};
        bool last = true;
        bool numbered = true;
        if (item->is_task) {
            struct task *task = container_of(item, struct task, item);
            last = command_next_pdu(task, &pdu, conn->tx_sense[conn->tx_header_count]);
            numbered = pdu_opcode(pdu.bhs) != PDU_R2T;
        } else {
            struct message *message = container_of(item, struct message, item);
            memcpy(pdu.bhs, message->bhs, PDU_BHS);
            pdu.data_len = (uint32_t)message->len;
            pdu.bytes = message->text;
            pdu.slices = &message->slices;
            numbered = message->numbered;
            conn->tx_close_after = message->close_after;
        }
        if (pdu.made) {
            tx_put(conn, &pdu, numbered);
        }
        if (last) {
            list_remove(&item->link);
            bool collecting =
                item->is_task && container_of(item, struct task, item)->state == TASK_COLLECT;
            if (collecting) { /* its R2Ts are in the window; it comes back later */
                container_of(item, struct task, item)->queued = false;
            } else {
                list_push_back(&conn->tx_sent, &item->link);
            }
        }
    }
}

static void tx_window_done(struct connection *conn)
{
    struct list *link;
    while ((link = list_first(&conn->tx_sent))) {
        item_release(conn, list_entry(link, struct send_item, link));
    }
    shard_data_returned(conn->shard);
    connection_resume(conn);
}

/* False: the socket is full, or the connection closed. */
static bool tx_write(struct connection *conn)
{
    while (conn->tx_iov_at < conn->tx_iov_count) {
        struct msghdr msg = {
            .msg_iov = conn->tx_iov + conn->tx_iov_at,
            .msg_iovlen = conn->tx_iov_count - conn->tx_iov_at,
        };
        ssize_t n = sendmsg(conn->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno == EAGAIN || errno == EWOULDBLOCK) {
                if (!conn->tx_blocked) {
                    conn->tx_blocked = true;
                    conn->tx_blocked_since = loop_now_ns(conn->shard->loop);
                }
                set_events(conn);
                return false;
            }
            connection_close(conn, strerror(errno));
            return false;
        }
        conn->tx_blocked_since = conn->tx_blocked ? loop_now_ns(conn->shard->loop) : 0;
        size_t left = (size_t)n;
        while (left > 0) {
            struct iovec *iov = &conn->tx_iov[conn->tx_iov_at];
            size_t part = left < iov->iov_len ? left : iov->iov_len;
            iov->iov_base = (char *)iov->iov_base + part;
            iov->iov_len -= part;
            left -= part;
            if (iov->iov_len == 0) {
                conn->tx_iov_at++;
            }
        }
    }
    return true;
}

static void tx_run(void *arg)
{
    struct connection *conn = arg;
    conn->tx_posted = false;
    if (conn->state == CONN_CLOSED) {
        return;
    }
    /* A few windows; then others have their turn. */
    for (unsigned round = 0; round < 4; round++) {
        if (conn->tx_iov_at == conn->tx_iov_count) {
            if (list_empty(&conn->tx_queue)) {
                break;
            }
            tx_fill(conn);
        }
        if (!tx_write(conn)) {
            return;
        }
        tx_window_done(conn);
        if (conn->tx_close_after) {
            shutdown(conn->fd, SHUT_WR);
            connection_close(conn, conn->logged_out ? "logged out" : "refused");
            return;
        }
    }
    if (conn->tx_blocked) {
        conn->tx_blocked = false;
        set_events(conn);
    }
    if (!list_empty(&conn->tx_queue)) {
        tx_schedule(conn);
    }
}

/* ---- login ---- */

static void login_answer(struct connection *conn, const uint8_t *bhs, struct strbuf *text,
                         bool last)
{
    struct message *message = connection_message(conn, PDU_LOGIN_RESPONSE, 0);
    if (!message) {
        connection_close(conn, "out of messages");
        return;
    }
    memcpy(message->bhs, bhs, PDU_BHS);
    message->len = text ? text->len : 0;
    message->text = message->len ? (uint8_t *)strbuf_steal(text) : NULL;
    message->close_after = last;
    connection_post(conn, message);
    set_events(conn);
}

static void login_failed(struct connection *conn, enum login_status status, const uint8_t *bhs)
{
    log_info("conn[%s] login refused: status %04x, initiator %s", conn->name, status,
             conn->login.initiator[0] ? conn->login.initiator : "unknown");
    count_add(conn->target ? &conn->target->counters.login_failures : &conn->server->login_failures,
              1);
    login_answer(conn, bhs, NULL, true);
}

static void login_refused(struct connection *conn, enum login_status status)
{
    uint8_t bhs[PDU_BHS];
    login_refuse(&conn->login, status, bhs);
    login_failed(conn, status, bhs);
}

/* With an initiator so near, what more the socket held would only be pushed out of the caches
 * before it is read; that costs large reads a third and more. As a limit it is far away:
 * NEAR_SEND_BYTES every NEAR_RTT_US are 5 GB/s. */
static void fit_send_buffer(struct connection *conn)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    if (getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
        len >= offsetof(struct tcp_info, tcpi_min_rtt) + sizeof(info.tcpi_min_rtt) &&
        info.tcpi_min_rtt <= NEAR_RTT_US) {
        setsockopt(conn->fd, SOL_SOCKET, SO_SNDBUF, &(int){NEAR_SEND_BYTES}, sizeof(int));
    }
}

static bool same_port(const struct session *session, const struct login *login)
{
    return strcasecmp(session->nexus.initiator, login->initiator) == 0 &&
           memcmp(session->nexus.isid, login->isid, sizeof(login->isid)) == 0;
}

static void attach_now(struct connection *conn)
{
    struct login *login = &conn->login;
    struct target *target = conn->target;
    struct session *session = NULL;
    if (target->closing) {
        login_refused(conn, LOGIN_REMOVED);
        return;
    }
    if (target->n_sessions >= conn->server->limits.max_sessions ||
        session_new(target, conn->server->limits.queue_depth, &session)) {
        login_refused(conn, LOGIN_OUT_OF_RESOURCES);
        return;
    }
    session->conn = conn;
    session->values = login->keys.values;
    session->exp_cmd_sn = login->cmd_sn;
    memcpy(session->nexus.isid, login->isid, sizeof(login->isid));
    snprintf(session->nexus.initiator, sizeof(session->nexus.initiator), "%s", login->initiator);
    snprintf(session->nexus.port, sizeof(session->nexus.port), "%s,i,0x%02x%02x%02x%02x%02x%02x",
             login->initiator, login->isid[0], login->isid[1], login->isid[2], login->isid[3],
             login->isid[4], login->isid[5]);
    scsi_nexus_add(&target->scsi, &session->nexus);
    conn->session = session;
    login->tsih = session->tsih;
    count_add(&target->counters.logins, 1);
    log_info("conn[%s] session %u of %s", conn->name, session->tsih, session->nexus.port);
    size_t used = strlen(conn->name);
    snprintf(conn->name + used, sizeof(conn->name) - used, " %s", login->initiator);
    target_sessions_changed(target);
}

static void full_feature(struct connection *conn)
{
    struct login *login = &conn->login;
    conn->keys = login->keys;
    conn->max_data = login->keys.our_max_recv_segment;
    uint8_t bhs[PDU_BHS];
    pdu_init(bhs, PDU_LOGIN_RESPONSE, 0, 0);
    struct strbuf text = conn->text_out;
    strbuf_init(&conn->text_out);
    bhs[PDU_F_FLAGS] = conn->login_flags;
    memcpy(bhs + 8, login->isid, 6);
    put_be16(bhs + 14, login->tsih);
    put_be32(bhs + PDU_F_ITT, login->itt);
    conn->state = CONN_FULL;
    fit_send_buffer(conn);
    login_answer(conn, bhs, &text, false);
    strbuf_fini(&text);
}

void connection_attach(struct connection *conn)
{
    struct login *login = &conn->login;
    struct target *target = conn->target;
    if (conn->state != CONN_ATTACHING) {
        return;
    }
    list_remove(&conn->login_link);
    if (!login->discovery) {
        struct session *old = NULL;
        list_for_each(link, &target->sessions)
        {
            struct session *session = list_entry(link, struct session, link);
            if (same_port(session, login)) {
                old = session;
            }
        }
        if (login->tsih != 0) {
            /* MaxConnections is 1: the same connection again (RFC 7143, 6.3.4) is, at
             * ErrorRecoveryLevel 0, the end of its session; another one is one too many. */
            login_refused(conn, old && old->tsih == login->tsih && !old->closing
                                    ? LOGIN_TOO_MANY_CONNECTIONS
                                    : LOGIN_NO_SUCH_SESSION);
            return;
        }
        if (old) {
            /* Session reinstatement (6.3.5): the new one begins when the last task of the old one
             * has left its device, so that no write of the past comes after one of the future. */
            list_push_back(&old->waiting_logins, &conn->login_link);
            if (old->conn) {
                connection_close(old->conn, "session reinstated");
            }
            return;
        }
        attach_now(conn);
        if (!conn->session) {
            return;
        }
    }
    if (login->discovery) {
        login->tsih = 1;
    }
    full_feature(conn);
    connection_resume(conn);
    set_events(conn);
}

static void login_pdu(struct connection *conn)
{
    uint8_t *text = NULL;
    size_t len = 0;
    for (unsigned i = 0; i < conn->rx_data.count; i++) {
        len += conn->rx_data.items[i].len;
    }
    if (len > 0) {
        text = malloc(len);
        if (!text) {
            connection_close(conn, "out of memory");
            return;
        }
        slices_read(&conn->rx_data, 0, text, len);
    }
    struct strbuf answer = STRBUF_INIT;
    uint8_t bhs[PDU_BHS];
    enum login_verdict verdict = login_receive(&conn->login, conn->rx_bhs, text, len, bhs, &answer);
    free(text);
    switch (verdict) {
    case LOGIN_GOES_ON:
        login_answer(conn, bhs, &answer, false);
        break;
    case LOGIN_FAILED:
        login_failed(conn, conn->login.status, bhs);
        break;
    case LOGIN_COMPLETE:
        conn->state = CONN_ATTACHING;
        conn->login_flags = bhs[PDU_F_FLAGS];
        conn->text_out = answer;
        strbuf_init(&answer);
        connection_attach(conn);
        set_events(conn);
        break;
    }
    strbuf_fini(&answer);
}

/* ---- receiving ---- */

static bool blocked(const struct connection *conn)
{
    return conn->n_free_messages <= CONN_MESSAGES_SPARE ||
           (conn->session && list_empty(&conn->session->free));
}

static void resume(void *arg)
{
    struct connection *conn = arg;
    conn->rx_resume_posted = false;
    if (conn->state == CONN_CLOSED) {
        return;
    }
    if (conn->rx_blocked && !blocked(conn)) {
        conn->rx_blocked = false;
    }
    if (!conn->rx_blocked) {
        connection_parse(conn);
        set_events(conn);
    }
}

void connection_resume(struct connection *conn)
{
    if ((conn->rx_blocked || conn->rx_begin < conn->rx_end) && !conn->rx_resume_posted &&
        conn->state != CONN_CLOSED) {
        conn->rx_resume_posted = true;
        loop_defer(conn->shard->loop, &conn->rx_resume);
    }
}

static void dispatch(struct connection *conn)
{
    conn->heard_ns = loop_now_ns(conn->shard->loop);
    conn->pinged = false;
    if (conn->state == CONN_LOGIN) {
        if (pdu_opcode(conn->rx_bhs) != PDU_LOGIN_REQUEST) {
            login_refused(conn, LOGIN_INVALID_IN_PHASE);
        } else {
            login_pdu(conn);
        }
    } else {
        command_receive(conn);
    }
    slices_clear(conn->shard, &conn->rx_data);
}

/* False: not all of it is there, or the connection was closed. */
static bool parse_header(struct connection *conn)
{
    const uint8_t *at = conn->rx_buffer->data + conn->rx_begin;
    size_t have = conn->rx_end - conn->rx_begin;
    if (have < PDU_BHS) {
        return false;
    }
    bool digest = conn->state == CONN_FULL && conn->keys.values.header_digest;
    size_t len = PDU_BHS + pdu_ahs_len(at);
    size_t all = len + (digest ? PDU_DIGEST : 0);
    if (conn->state != CONN_FULL && len > PDU_BHS) {
        connection_close(conn, "additional header in login");
        return false;
    }
    if (have < all) {
        return false;
    }
    if (digest) {
        uint32_t crc;
        memcpy(&crc, at + len, PDU_DIGEST);
        if (le32toh(crc) != crc32c(0, at, len)) {
            count_add(&conn->target->counters.digest_errors, 1);
            connection_close(conn, "header digest error");
            return false;
        }
    }
    memcpy(conn->rx_bhs, at, PDU_BHS);
    conn->rx_begin += all;
    conn->rx_left = pdu_data_len(conn->rx_bhs);
    if (conn->rx_left > conn->max_data) {
        connection_close(conn, "data segment too long");
        return false;
    }
    conn->rx_crc = 0;
    conn->rx_tail_len = 0;
    conn->rx_tail_want = pdu_pad(conn->rx_left);
    if (conn->state == CONN_FULL && conn->keys.values.data_digest && conn->rx_left > 0) {
        conn->rx_tail_want += PDU_DIGEST;
    }
    conn->rx_state = RX_DATA;
    return true;
}

static bool parse_data(struct connection *conn)
{
    size_t have = conn->rx_end - conn->rx_begin;
    size_t part = have < conn->rx_left ? have : conn->rx_left;
    if (part > 0) {
        const uint8_t *at = conn->rx_buffer->data + conn->rx_begin;
        struct slices *data = &conn->rx_data;
        struct slice *last = data->count ? &data->items[data->count - 1] : NULL;
        if (conn->rx_tail_want >= PDU_DIGEST) {
            conn->rx_crc = crc32c(conn->rx_crc, at, part);
        }
        if (last && last->buffer == conn->rx_buffer && last->data + last->len == at) {
            last->len += part;
        } else if (slices_reserve(conn->shard, data)) {
            data->items[data->count++] = slice_of(conn->rx_buffer, conn->rx_begin, part);
        } else {
            connection_close(conn, "data segment in too many pieces");
            return false;
        }
        conn->rx_begin += part;
        conn->rx_left -= (uint32_t)part;
    }
    if (conn->rx_left > 0) {
        return false;
    }
    conn->rx_state = RX_TAIL;
    return true;
}

static bool parse_tail(struct connection *conn)
{
    while (conn->rx_tail_len < conn->rx_tail_want) {
        if (conn->rx_begin == conn->rx_end) {
            return false;
        }
        conn->rx_tail[conn->rx_tail_len++] = conn->rx_buffer->data[conn->rx_begin++];
    }
    conn->rx_state = RX_HEADER;
    if (conn->rx_tail_want >= PDU_DIGEST) {
        unsigned pad = conn->rx_tail_want - PDU_DIGEST;
        uint32_t crc;
        memcpy(&crc, conn->rx_tail + pad, PDU_DIGEST);
        if (le32toh(crc) != crc32c(conn->rx_crc, conn->rx_tail, pad)) {
            /* At ErrorRecoveryLevel 0 the initiator could not make use of a Reject: it has to
             * begin anew (RFC 7143, 7.8). */
            count_add(&conn->target->counters.digest_errors, 1);
            connection_reject(conn, PDU_REJECT_DIGEST);
            if (conn->state != CONN_CLOSED) {
                struct list *link = conn->tx_queue.prev;
                container_of(list_entry(link, struct send_item, link), struct message, item)
                    ->close_after = true;
                conn->ending = true;
            }
            return false;
        }
    }
    dispatch(conn);
    return true;
}

static void connection_parse(struct connection *conn)
{
    if (conn->rx_parsing) {
        return;
    }
    conn->rx_parsing = true;
    bool on = true;
    while (on && conn->state != CONN_CLOSED && conn->state != CONN_ATTACHING && conn->rx_buffer &&
           !conn->ending) {
        switch (conn->rx_state) {
        case RX_HEADER:
            if (blocked(conn)) {
                conn->rx_blocked = true;
                on = false;
            } else {
                on = parse_header(conn);
            }
            break;
        case RX_DATA:
            on = parse_data(conn);
            break;
        case RX_TAIL:
            on = parse_tail(conn);
            break;
        }
    }
    conn->rx_parsing = false;
    if (conn->rx_buffer && conn->rx_begin == conn->rx_end) {
        buffer_unref(conn->rx_buffer);
        conn->rx_buffer = NULL;
    }
}

/* A buffer with room to read into; false: none now. */
static bool rx_room(struct connection *conn)
{
    struct buffer *old = conn->rx_buffer;
    if (old) {
        size_t room = old->size - conn->rx_end;
        if (room >= RX_HEADER_ROOM || (conn->rx_state == RX_DATA && room > 0)) {
            return true;
        }
        if (old->refs == 1) { /* all slices of it are gone: begin at the front again */
            memmove(old->data, old->data + conn->rx_begin, conn->rx_end - conn->rx_begin);
            conn->rx_end -= conn->rx_begin;
            conn->rx_begin = 0;
            return true;
        }
    }
    struct buffer *buffer = buffer_pool_get(conn->shard->recv_pool);
    if (!buffer) {
        conn->rx_waiting = true;
        conn->rx_wait_since = loop_now_ns(conn->shard->loop);
        buffer_pool_wait(conn->shard->recv_pool, conn->shard->loop, &conn->rx_task);
        set_events(conn);
        return false;
    }
    size_t left = 0;
    if (old) { /* part of a header, not of data: small */
        left = conn->rx_end - conn->rx_begin;
        memcpy(buffer->data, old->data + conn->rx_begin, left);
        buffer_unref(old);
    }
    conn->rx_buffer = buffer;
    conn->rx_begin = 0;
    conn->rx_end = left;
    return true;
}

static void connection_read(struct connection *conn)
{
    for (unsigned round = 0; round < RX_ROUNDS; round++) {
        if (conn->state == CONN_CLOSED || conn->state == CONN_ATTACHING || conn->rx_blocked ||
            conn->rx_waiting || conn->ending || !rx_room(conn)) {
            break;
        }
        size_t room = conn->rx_buffer->size - conn->rx_end;
        ssize_t n = recv(conn->fd, conn->rx_buffer->data + conn->rx_end, room, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            connection_parse(conn); /* gives an empty buffer back */
            break;
        }
        if (n <= 0) {
            connection_close(conn, n == 0 ? "closed by the initiator" : strerror(errno));
            return;
        }
        conn->rx_end += (size_t)n;
        connection_parse(conn);
        if ((size_t)n < room) {
            break;
        }
    }
    set_events(conn);
}

static void rx_buffer_there(void *arg)
{
    struct connection *conn = arg;
    conn->rx_waiting = false;
    if (conn->state == CONN_CLOSED) {
        /* The next one who waits is woken by a buffer that comes back. */
        struct buffer *buffer = buffer_pool_get(conn->shard->recv_pool);
        if (buffer) {
            buffer_unref(buffer);
        }
        return;
    }
    connection_read(conn);
}

static void connection_ready(void *arg, int events)
{
    struct connection *conn = arg;
    if (events & LOOP_WRITE && conn->tx_blocked) {
        tx_run(conn);
    }
    if (events & LOOP_READ && conn->state != CONN_CLOSED) {
        connection_read(conn);
    }
}

/* ---- time ---- */

/* Someone of this loop starves for receive buffers: who holds most unfinished data goes. */
static void relieve_starvation(struct connection *conn)
{
    struct connection *worst = NULL;
    if (!conn->target) {
        return;
    }
    list_for_each(link, &conn->target->connections)
    {
        struct connection *other = list_entry(link, struct connection, link);
        if (!worst || other->collected > worst->collected) {
            worst = other;
        }
    }
    if (worst && worst->collected > 0) {
        log_warning("conn[%s] holds %llu bytes of unfinished writes while others wait", worst->name,
                    (unsigned long long)worst->collected);
        connection_close(worst, "memory for writes is exhausted");
    }
}

static bool data_out_overdue(const struct connection *conn, uint64_t now)
{
    if (!conn->session) {
        return false;
    }
    list_for_each(link, &conn->session->collecting)
    {
        const struct task *task = list_entry(link, struct task, link);
        if ((task->r2t_credit > 0 || task->unsolicited) &&
            now - task->waiting_since > conn->server->limits.data_out_timeout_ns) {
            return true;
        }
    }
    return false;
}

static void ping(struct connection *conn, uint64_t now)
{
    struct message *message = connection_message(conn, PDU_NOP_IN, PDU_FINAL);
    if (!message) {
        return;
    }
    message->numbered = false;
    put_be32(message->bhs + PDU_F_ITT, PDU_NO_TAG);
    put_be32(message->bhs + PDU_F_TTT, 1);
    connection_post(conn, message);
    conn->pinged = true;
    conn->pinged_ns = now;
}

static void tick(void *arg)
{
    struct connection *conn = arg;
    const struct target_limits *limits = &conn->server->limits;
    uint64_t now = loop_now_ns(conn->shard->loop);
    if (conn->state == CONN_LOGIN && now - conn->opened_ns > limits->login_timeout_ns) {
        count_add(&conn->server->login_timeouts, 1);
        connection_close(conn, "login took too long");
        return;
    }
    if (conn->tx_blocked && now - conn->tx_blocked_since > limits->send_timeout_ns) {
        connection_close(conn, "the initiator does not read");
        return;
    }
    if (conn->logout_deadline_ns && now >= conn->logout_deadline_ns) {
        connection_close(conn, "logout was not answered");
        return;
    }
    if (data_out_overdue(conn, now)) {
        connection_close(conn, "data of a write did not come");
        return;
    }
    if (conn->rx_waiting && now - conn->rx_wait_since > 5 * SEC_NS) {
        conn->rx_wait_since = now;
        relieve_starvation(conn);
        if (conn->state == CONN_CLOSED) {
            return;
        }
    }
    if (conn->state == CONN_FULL && !conn->rx_blocked && !conn->rx_waiting) {
        if (!conn->pinged && now - conn->heard_ns > limits->nop_interval_ns) {
            ping(conn, now);
        } else if (conn->pinged && now - conn->pinged_ns > limits->nop_timeout_ns) {
            connection_close(conn, "no answer to a NOP-In");
            return;
        }
    }
    loop_timer_start(&conn->tick, SEC_NS / 2);
}

void connection_async_event(struct connection *conn, uint8_t event)
{
    struct message *message = connection_message(conn, PDU_ASYNC, PDU_FINAL);
    if (!message) {
        return;
    }
    put_be32(message->bhs + PDU_F_ITT, PDU_NO_TAG);
    message->bhs[36] = event;
    if (event == 1) { /* target asks for logout, within Parameter3 seconds */
        put_be16(message->bhs + 42, 3);
    }
    connection_post(conn, message);
}

void connection_ask_logout(struct connection *conn, uint64_t grace_ns)
{
    if (conn->state != CONN_FULL || grace_ns == 0) {
        connection_close(conn, "the target is going away");
        return;
    }
    if (!conn->logout_asked) {
        conn->logout_asked = true;
        connection_async_event(conn, 1);
    }
    conn->logout_deadline_ns = loop_now_ns(conn->shard->loop) + grace_ns;
}

/* ---- the beginning ---- */

void connection_new(struct target_server *server, struct shard *shard, struct target *target,
                    int fd, const uint8_t *first, size_t len)
{
    struct connection *conn = calloc(1, sizeof(*conn));
    struct buffer *buffer = conn ? buffer_pool_get(shard->recv_pool) : NULL;
    if (!buffer || (target && target->closing) ||
        loop_poll_new(shard->loop, fd, connection_ready, conn, &conn->poll)) {
        if (buffer) {
            buffer_unref(buffer);
        }
        free(conn);
        close(fd);
        atomic_fetch_sub(&server->connections, 1);
        return;
    }
    conn->server = server;
    conn->shard = shard;
    conn->target = target;
    conn->fd = fd;
    conn->state = CONN_LOGIN;
    conn->max_data = PDU_LOGIN_SEGMENT;
    conn->stat_sn = 1;
    list_init(&conn->login_link);
    list_init(&conn->tx_queue);
    list_init(&conn->tx_sent);
    list_init(&conn->free_messages);
    for (unsigned i = 0; i < CONN_MESSAGES; i++) {
        slices_init(&conn->messages[i].slices);
        list_push_back(&conn->free_messages, &conn->messages[i].item.link);
    }
    conn->n_free_messages = CONN_MESSAGES;
    slices_init(&conn->rx_data);
    conn->rx_task = (struct loop_task){.fn = rx_buffer_there, .arg = conn};
    conn->rx_resume = (struct loop_task){.fn = resume, .arg = conn};
    conn->tx_task = (struct loop_task){.fn = tx_run, .arg = conn};
    loop_timer_init(&conn->tick, shard->loop, tick, conn);

    socklen_t addr_len = sizeof(conn->local);
    struct sockaddr_storage peer = {0};
    char text[SOCKADDR_TEXT_LEN] = "?";
    if (getsockname(fd, (struct sockaddr *)&conn->local, &addr_len) == 0) {
        addr_len = sizeof(peer);
        if (getpeername(fd, (struct sockaddr *)&peer, &addr_len) == 0) {
            sockaddr_format(&peer, text);
        }
    }
    snprintf(conn->name, sizeof(conn->name), "%s", text);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));

    if (target) {
        login_init(&conn->login, target->access, server->chap_algorithms);
        conn->login.target_name = target->name;
        conn->login.alias = target->alias;
        list_push_back(&target->connections, &conn->link);
    } else {
        login_init(&conn->login, server->discovery, server->chap_algorithms);
        conn->login.open_discovery = server->discovery->n_initiators == 0;
        list_push_back(&server->discoveries, &conn->link);
    }
    struct keys *keys = &conn->login.keys;
    const struct target_limits *limits = &server->limits;
    keys->our_max_recv_segment = limits->max_recv_segment;
    keys->our_max_burst = limits->max_burst;
    keys->our_first_burst = limits->first_burst;
    keys->our_max_outstanding_r2t = limits->max_outstanding_r2t;
    keys->our_initial_r2t = limits->initial_r2t;
    keys->our_immediate_data = !limits->no_immediate_data;

    conn->opened_ns = loop_now_ns(shard->loop);
    conn->heard_ns = conn->opened_ns;
    loop_timer_start(&conn->tick, SEC_NS / 2);
    CHECK(len <= buffer->size);
    memcpy(buffer->data, first, len);
    conn->rx_buffer = buffer;
    conn->rx_end = len;
    connection_parse(conn);
    set_events(conn);
}
