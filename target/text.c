// SPDX-License-Identifier: Apache-2.0
/*
 * Text requests of the full feature phase: SendTargets, and keys that may still change (RFC 7143,
 * 11.10). An answer longer than a segment goes out in parts, each asked for by an empty request that
 * carries the Target Transfer Tag of the part before.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sockaddr.h"
#include "target/connection.h"
#include "target/server.h"

enum { TEXT_TAG = 1 };

static void add_target(struct connection *conn, const struct target *target)
{
    struct strbuf *out = &conn->text_out;
    char address[SOCKADDR_TEXT_LEN];
    struct sockaddr_storage local = conn->local;
    if (local.ss_family == AF_INET6) { /* an IPv4 client of a socket for both */
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&conn->local;
        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
            struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = in6->sin6_port};
            memcpy(&in4.sin_addr, in6->sin6_addr.s6_addr + 12, 4);
            memset(&local, 0, sizeof(local));
            memcpy(&local, &in4, sizeof(in4));
        }
    }
    sockaddr_format(&local, address);
    /* No TargetAlias (RFC 7143, appendix C has only these two): libiscsi gives up on it. */
    keys_add(out, "TargetName", target->name);
    strbuf_printf(out, "TargetAddress=%s,1", address);
    strbuf_putc(out, '\0');
}

static void send_targets(struct connection *conn, const char *value)
{
    struct target_server *server = conn->server;
    if (conn->target) {
        /* Within a session to a target: only itself (RFC 7143, appendix C). */
        if (value[0] == '\0' || strcasecmp(value, conn->target->name) == 0) {
            add_target(conn, conn->target);
        }
        return;
    }
    for (struct map_entry *e = map_first(&server->directory); e;
         e = map_next(&server->directory, e)) {
        const struct target *target = e->value;
        if (strcmp(value, "All") != 0 && strcasecmp(value, target->name) != 0) {
            continue;
        }
        if (access_find(target->portal_access, conn->login.initiator)) {
            add_target(conn, target);
        }
    }
}

static int take_pair(void *arg, const char *name, const char *value)
{
    struct connection *conn = arg;
    bool other;
    int err = keys_receive(&conn->keys, KEYS_FULL_FEATURE, name, value, &conn->text_out, &other);
    if (err) {
        return err;
    }
    if (other && strcmp(name, "SendTargets") == 0) {
        send_targets(conn, value);
    }
    return 0;
}

static void answer_part(struct connection *conn)
{
    const uint8_t *bhs = conn->rx_bhs;
    size_t left = conn->text_out.len - conn->text_sent;
    uint32_t limit = conn->keys.values.max_recv_segment;
    size_t part = left < limit ? left : limit;
    bool last = part == left;
    struct message *message =
        connection_message(conn, PDU_TEXT_RESPONSE, last ? PDU_FINAL : PDU_CONTINUE);
    uint8_t *text = part ? malloc(part) : NULL;
    if (!message || (part && !text)) {
        free(text);
        connection_close(conn, "out of memory for text");
        return;
    }
    if (part) {
        memcpy(text, conn->text_out.data + conn->text_sent, part);
    }
    message->text = text;
    message->len = part;
    memcpy(message->bhs + PDU_F_LUN, bhs + PDU_F_LUN, 8);
    put_be32(message->bhs + PDU_F_ITT, pdu_itt(bhs));
    put_be32(message->bhs + PDU_F_TTT, last ? PDU_NO_TAG : TEXT_TAG);
    conn->text_sent += part;
    conn->text_ttt = last ? 0 : TEXT_TAG;
    if (last) {
        strbuf_fini(&conn->text_out);
        strbuf_init(&conn->text_out);
        conn->text_sent = 0;
    }
    connection_post(conn, message);
}

static void ask_for_more(struct connection *conn)
{
    struct message *message = connection_message(conn, PDU_TEXT_RESPONSE, 0);
    if (!message) {
        connection_close(conn, "out of messages");
        return;
    }
    put_be32(message->bhs + PDU_F_ITT, pdu_itt(conn->rx_bhs));
    put_be32(message->bhs + PDU_F_TTT, TEXT_TAG);
    connection_post(conn, message);
}

void text_receive(struct connection *conn)
{
    const uint8_t *bhs = conn->rx_bhs;
    uint32_t ttt = get_be32(bhs + PDU_F_TTT);
    if (ttt != PDU_NO_TAG && ttt != TEXT_TAG) {
        connection_reject(conn, PDU_REJECT_PROTOCOL);
        return;
    }
    if (ttt == TEXT_TAG && conn->text_ttt == TEXT_TAG) {
        answer_part(conn); /* more of an answer */
        return;
    }
    if (ttt == PDU_NO_TAG) { /* a new negotiation forgets an old one */
        strbuf_reset(&conn->text_in);
        strbuf_reset(&conn->text_out);
        conn->text_sent = 0;
        conn->text_ttt = 0;
    }
    for (unsigned i = 0; i < conn->rx_data.count; i++) {
        strbuf_add(&conn->text_in, conn->rx_data.items[i].data, conn->rx_data.items[i].len);
    }
    if (conn->text_in.len > KEYS_MAX_TEXT) {
        strbuf_reset(&conn->text_in);
        connection_reject(conn, PDU_REJECT_RESOURCES);
        return;
    }
    if (bhs[PDU_F_FLAGS] & PDU_CONTINUE) {
        ask_for_more(conn);
        return;
    }
    int err =
        keys_walk((const uint8_t *)strbuf_str(&conn->text_in), conn->text_in.len, take_pair, conn);
    strbuf_reset(&conn->text_in);
    if (conn->session) {
        conn->session->values.max_recv_segment = conn->keys.values.max_recv_segment;
    }
    if (err || strbuf_error(&conn->text_out)) {
        strbuf_reset(&conn->text_out);
        connection_reject(conn, PDU_REJECT_NEGOTIATION);
        return;
    }
    answer_part(conn);
}
