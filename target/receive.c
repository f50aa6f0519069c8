// SPDX-License-Identifier: Apache-2.0
/*
 * Bytes to PDUs (target/connection.h):
 *
 *     HEADER ─▶ DATA ─▶ TAIL (padding, digest) ─▶ dispatched ─▶ HEADER
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "target/connection_private.h"
#include "target/server.h"

enum { RX_ROUNDS = 4, RX_HEADER_ROOM = 4096 };

static bool blocked(const struct connection *conn)
{
    return conn->n_free_messages <= CONN_MESSAGES_SPARE ||
           (conn->session && list_empty(&conn->session->free));
}

void receive_resume(void *arg)
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
        receive_parse(conn);
        connection_set_events(conn);
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
            attach_refuse(conn, LOGIN_INVALID_IN_PHASE);
        } else {
            attach_receive(conn);
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

void receive_parse(struct connection *conn)
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
        connection_set_events(conn);
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

void receive_read(struct connection *conn)
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
            receive_parse(conn); /* gives an empty buffer back */
            break;
        }
        if (n <= 0) {
            connection_close(conn, n == 0 ? "closed by the initiator" : strerror(errno));
            return;
        }
        conn->rx_end += (size_t)n;
        receive_parse(conn);
        if ((size_t)n < room) {
            break;
        }
    }
    connection_set_events(conn);
}

void receive_buffer_there(void *arg)
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
    receive_read(conn);
}
