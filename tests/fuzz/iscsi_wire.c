// SPDX-License-Identifier: Apache-2.0
/*
 * What a target sends after the login, with commands of each direction outstanding. The first byte chooses the terms, the next two where the
 * bytes are cut; of a PDU's numbers and its digest, which no random byte gets right, the digest is put right here.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/pdu.h"
#include "block/iscsi_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { DIGESTS = 1, UNASKED = 2, IMMEDIATE = 4, DEAF = 8, AGAIN = 16 };
enum { N_ORDERS = 6, MAX_BYTES = 100000, MAX_ROUNDS = 64 };

struct order {
    struct iscsi_cmd cmd;
    struct iovec iov[3];
    uint8_t *data; /* of its length: who goes beyond is seen */
    bool out;
};

static void order_send(struct iscsi_wire *wire, struct order *order, unsigned number)
{
    static const uint32_t lens[N_ORDERS] = {8192, 100000, 4096, 0, 513, 700};
    static const enum iscsi_cmd_direction directions[N_ORDERS] = {ISCSI_CMD_READ,  ISCSI_CMD_WRITE,
                                                                  ISCSI_CMD_READ,  ISCSI_CMD_NONE,
                                                                  ISCSI_CMD_WRITE, ISCSI_CMD_READ};
    uint32_t len = lens[number];

    memset(order, 0, sizeof(*order));
    order->cmd.direction = directions[number];
    order->cmd.len = len;
    if (len > 0 && number != 2) {
        order->data = malloc(len);
        CHECK(order->data != NULL);
        memset(order->data, 1, len);
        order->iov[0] = (struct iovec){order->data, 1};
        order->iov[1] = (struct iovec){order->data + 1, len / 2};
        order->iov[2] = (struct iovec){order->data + 1 + len / 2, len - 1 - len / 2};
        order->cmd.iov = order->iov;
        order->cmd.n_iov = 3;
    }
    order->out = iscsi_wire_send(wire, &order->cmd) == 0;
    CHECK(order->out);
}

static void order_free(struct order *order)
{
    free(order->data);
    order->data = NULL;
}

static unsigned orders_take(struct iscsi_wire *wire, struct order *orders, bool again)
{
    struct iscsi_cmd *cmd;
    unsigned n = 0;

    while ((cmd = iscsi_wire_answered(wire)) != NULL) {
        struct order *order = container_of(cmd, struct order, cmd);

        CHECK(order->out && cmd->moved <= cmd->len);
        CHECK(cmd->data_len <= cmd->len && (cmd->data_len == 0 || cmd->data != NULL));
        if (cmd->result == ISCSI_CMD_GOOD && cmd->iov != NULL && cmd->missing == 0) {
            CHECK(cmd->moved == cmd->len);
        }
        order->out = false;
        free(cmd->collected);
        order_free(order); /* nothing of it may be looked at from now on */
        if (again) {
            order_send(wire, order, (unsigned)(order - orders));
        }
        n++;
    }
    return n;
}

/* The bytes as a target sends them: with digests that are right, whatever the headers say. */
static uint8_t *stream_make(const uint8_t *data, size_t len, bool digests, size_t *ret_len)
{
    uint8_t *stream = malloc(len + len / PDU_BHS * PDU_DIGEST + 1);
    size_t at = 0;

    CHECK(stream != NULL);
    while (digests && len >= PDU_BHS) {
        size_t header = PDU_BHS + pdu_ahs_len(data);
        size_t rest = pdu_data_len(data) + pdu_pad(pdu_data_len(data));

        if (header > len) {
            break;
        }
        memcpy(stream + at, data, header);
        put_le32(stream + at + header, crc32c(0, data, header));
        at += header + PDU_DIGEST;
        data += header;
        len -= header;
        rest = rest < len ? rest : len;
        memcpy(stream + at, data, rest);
        at += rest;
        data += rest;
        len -= rest;
    }
    memcpy(stream + at, data, len);
    *ret_len = at + len;
    return stream;
}

static void drain(int fd)
{
    static uint8_t sink[65536];

    while (recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0) {
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct order orders[N_ORDERS];
    struct iscsi_terms terms;
    struct iscsi_wire *wire;
    uint8_t *stream;
    size_t cuts[3];
    size_t at = 0;
    unsigned how;
    unsigned rounds = 0;
    int response;
    int err = 0;
    int fds[2];

    if (len < 3 || len > MAX_BYTES) {
        return 0;
    }
    how = data[0];
    iscsi_terms_preset(&terms);
    terms.cmd_sn = 1;
    terms.max_cmd_sn = 32;
    terms.exp_stat_sn = 1;
    terms.max_send_segment = how & 0x80 ? 512 : 8192;
    terms.header_digest = how & DIGESTS;
    terms.initial_r2t = !(how & UNASKED);
    terms.immediate_data = how & IMMEDIATE;
    stream = stream_make(data + 3, len - 3, how & DIGESTS, &len);
    cuts[0] = len * data[1] / 256;
    cuts[1] = cuts[0] + (len - cuts[0]) * data[2] / 256;
    cuts[2] = len;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    wire = iscsi_wire_new(fds[0], 1, &terms);
    CHECK(wire != NULL);
    for (unsigned i = 0; i < N_ORDERS; i++) {
        order_send(wire, &orders[i], i);
    }
    iscsi_wire_ping(wire);
    iscsi_wire_reset_lun(wire);
    for (unsigned i = 0; i < 3 && err == 0;) {
        ssize_t n = send(fds[1], stream + at, cuts[i] - at, MSG_NOSIGNAL | MSG_DONTWAIT);

        at += n > 0 ? (size_t)n : 0;
        i += at == cuts[i];
        err = iscsi_wire_push(wire);
        orders_take(wire, orders, false);
        err = err == 0 ? iscsi_wire_pull(wire) : err;
        orders_take(wire, orders, (how & AGAIN) && rounds++ < MAX_ROUNDS);
        if (!(how & DEAF)) {
            drain(fds[1]);
        }
    }
    /* It has nothing more to say: all that may be sent is sent. */
    while (err == 0 && !(how & DEAF)) {
        err = iscsi_wire_push(wire);
        drain(fds[1]);
        if (orders_take(wire, orders, false) == 0 && iscsi_wire_is_pushed(wire)) {
            break;
        }
    }
    CHECK(err == 0 || err == -ESHUTDOWN || err == -EPROTO);
    CHECK((err == -EPROTO) == (iscsi_wire_why(wire)[0] != 0));
    iscsi_wire_reset_answer(wire, &response);
    iscsi_wire_free(wire);
    for (unsigned i = 0; i < N_ORDERS; i++) {
        order_free(&orders[i]);
    }
    close(fds[1]);
    free(stream);
    return 0;
}
