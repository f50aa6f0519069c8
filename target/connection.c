// SPDX-License-Identifier: Apache-2.0
/*
 * How a connection begins and ends, and its time limits. Its bytes go through receive.c and
 * transmit.c, its login through attach.c, its commands through command.c.
 */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/sockaddr.h"
#include "target/connection_private.h"
#include "target/server.h"

void connection_set_events(struct connection *conn)
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

static void connection_ready(void *arg, int events)
{
    struct connection *conn = arg;
    if (events & LOOP_WRITE && conn->tx_blocked) {
        transmit_run(conn);
    }
    if (events & LOOP_READ && conn->state != CONN_CLOSED) {
        receive_read(conn);
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
    transmit_release(conn, &conn->tx_queue);
    transmit_release(conn, &conn->tx_sent);
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
    conn->rx_task = (struct loop_task){.fn = receive_buffer_there, .arg = conn};
    conn->rx_resume = (struct loop_task){.fn = receive_resume, .arg = conn};
    conn->tx_task = (struct loop_task){.fn = transmit_run, .arg = conn};
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
    receive_parse(conn);
    connection_set_events(conn);
}
