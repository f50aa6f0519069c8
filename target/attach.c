// SPDX-License-Identifier: Apache-2.0
/*
 * From the first login request to a session: what a connection does in the login phase, and how it
 * takes the place of a session before it.
 */
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/log.h"
#include "target/connection_private.h"
#include "target/server.h"

enum { NEAR_RTT_US = 50, NEAR_SEND_BYTES = 256 << 10 };

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
    connection_set_events(conn);
}

static void login_failed(struct connection *conn, enum login_status status, const uint8_t *bhs)
{
    log_info("conn[%s] login refused: status %04x, initiator %s", conn->name, status,
             conn->login.initiator[0] ? conn->login.initiator : "unknown");
    count_add(conn->target ? &conn->target->counters.login_failures : &conn->server->login_failures,
              1);
    login_answer(conn, bhs, NULL, true);
}

void attach_refuse(struct connection *conn, enum login_status status)
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
        attach_refuse(conn, LOGIN_REMOVED);
        return;
    }
    if (target->n_sessions >= conn->server->limits.max_sessions ||
        session_new(target, conn->server->limits.queue_depth, &session)) {
        attach_refuse(conn, LOGIN_OUT_OF_RESOURCES);
        return;
    }
    session->conn = conn;
    session->values = login->keys.values;
    strcpy(session->alias, login->initiator_alias);
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
            attach_refuse(conn, old && old->tsih == login->tsih && !old->closing
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
    connection_set_events(conn);
}

void attach_receive(struct connection *conn)
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
        connection_set_events(conn);
        break;
    }
    strbuf_fini(&answer);
}
