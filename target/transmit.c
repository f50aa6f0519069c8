// SPDX-License-Identifier: Apache-2.0
/*
 * Items to PDUs to one sendmsg (target/connection.h): the window of headers and its vector.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "target/connection_private.h"
#include "target/server.h"

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

void transmit_release(struct connection *conn, struct list *items)
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
                connection_set_events(conn);
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

void transmit_run(void *arg)
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
        connection_set_events(conn);
    }
    if (!list_empty(&conn->tx_queue)) {
        tx_schedule(conn);
    }
}
