// SPDX-License-Identifier: Apache-2.0
/*
 * The other end of a wire: a socket pair, PDUs that are made by hand, and PDUs that are read.
 *
 * Thread:    the test's own.
 * Ownership: end_open() opens both ends; the wire is given up by end_close().
 * Errors:    a failed assertion ends the test.
 */
#ifndef TESTS_UNIT_ISCSI_WIRE_TARGET_H
#define TESTS_UNIT_ISCSI_WIRE_TARGET_H

#include "tests/unit/testing.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/crc32c.h"
#include "base/pdu.h"
#include "block/iscsi_wire.h"

enum { END_BYTES = 1 << 20, END_LUN = 3, END_BUFFER = 16 << 10 };

struct end {
    struct iscsi_wire *wire;
    struct iscsi_terms terms;
    int fd;
    uint32_t exp_cmd_sn, max_cmd_sn, stat_sn;
    /* What has come and is not a whole PDU yet; what waits to be sent. */
    size_t in_at, in_end;
    size_t out_at, out_end;
    uint8_t in[END_BYTES];
    uint8_t out[END_BYTES];
};

static inline void end_open(struct end *end, const struct iscsi_terms *terms)
{
    int fds[2];
    int size = END_BUFFER;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    for (unsigned i = 0; i < 2; i++) {
        setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    }
    end->fd = fds[1];
    end->terms = *terms;
    end->exp_cmd_sn = terms->cmd_sn;
    end->max_cmd_sn = terms->max_cmd_sn;
    end->stat_sn = terms->exp_stat_sn;
    end->in_at = end->in_end = end->out_at = end->out_end = 0;
    end->wire = iscsi_wire_new(fds[0], END_LUN, terms);
    assert_non_null(end->wire);
}

static inline void end_close(struct end *end)
{
    iscsi_wire_free(end->wire);
    close(end->fd);
}

/* --- out ------------------------------------------------------------------------------------------------------ */

/* A header with the numbers as they are. with_status: it takes a StatSN. */
static inline void end_header(struct end *end, uint8_t bhs[PDU_BHS], enum pdu_opcode opcode,
                              uint8_t flags, uint32_t tag, bool with_status)
{
    pdu_init(bhs, opcode, flags, 0);
    put_be32(bhs + PDU_F_ITT, tag);
    put_be32(bhs + PDU_F_TTT, PDU_NO_TAG);
    put_be32(bhs + PDU_F_STAT_SN, with_status ? end->stat_sn++ : end->stat_sn);
    put_be32(bhs + PDU_F_EXP_CMD_SN, end->exp_cmd_sn);
    put_be32(bhs + PDU_F_MAX_CMD_SN, end->max_cmd_sn);
}

static inline void end_bytes(struct end *end, const void *data, size_t len)
{
    assert_true(end->out_end + len <= END_BYTES);
    if (len > 0) {
        memcpy(end->out + end->out_end, data, len);
    }
    end->out_end += len;
}

/* To be sent; ahs: that many words between header and data. */
static inline void end_put(struct end *end, uint8_t bhs[PDU_BHS], unsigned ahs, const void *data,
                           uint32_t len)
{
    static const uint8_t nothing[256];
    size_t at = end->out_end;
    uint8_t digest[PDU_DIGEST];

    bhs[PDU_F_AHS_LEN] = (uint8_t)ahs;
    put_be24(bhs + PDU_F_DATA_LEN, len);
    end_bytes(end, bhs, PDU_BHS);
    end_bytes(end, nothing, ahs * 4);
    if (end->terms.header_digest) {
        put_le32(digest, crc32c(0, end->out + at, PDU_BHS + ahs * 4));
        end_bytes(end, digest, sizeof(digest));
    }
    end_bytes(end, data, len);
    end_bytes(end, nothing, pdu_pad(len));
}

/* At most max bytes leave. */
static inline void end_flush(struct end *end, size_t max)
{
    size_t left = end->out_end - end->out_at;
    ssize_t n = left == 0 ? 0
                          : send(end->fd, end->out + end->out_at, left < max ? left : max,
                                 MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n < 0) {
        assert_int_equal(errno, EAGAIN);
        return;
    }
    end->out_at += (size_t)n;
    if (end->out_at == end->out_end) {
        end->out_at = end->out_end = 0;
    }
}

/* --- in ------------------------------------------------------------------------------------------------------- */

static inline void end_receive(struct end *end, size_t max)
{
    size_t room = END_BYTES - end->in_end;
    ssize_t n = recv(end->fd, end->in + end->in_end, room < max ? room : max, MSG_DONTWAIT);

    if (n < 0) {
        assert_int_equal(errno, EAGAIN);
        return;
    }
    end->in_end += (size_t)n;
}

/* The next whole PDU, or NULL. It is there until the next call. */
static inline const uint8_t *end_next(struct end *end, const uint8_t **ret_data)
{
    const uint8_t *bhs = end->in + end->in_at;
    size_t have = end->in_end - end->in_at;
    size_t header_len = PDU_BHS + (end->terms.header_digest ? PDU_DIGEST : 0);
    size_t whole;

    if (have == 0) {
        end->in_at = end->in_end = 0;
        return NULL;
    }
    if (have < header_len) {
        return NULL;
    }
    assert_int_equal(pdu_check(bhs), PDU_REJECT_NONE);
    assert_int_equal(pdu_ahs_len(bhs), 0);
    if (end->terms.header_digest) {
        assert_int_equal(get_le32(bhs + PDU_BHS), crc32c(0, bhs, PDU_BHS));
    }
    whole = header_len + pdu_data_len(bhs) + pdu_pad(pdu_data_len(bhs));
    if (have < whole) {
        if (end->in_at > END_BYTES / 2) {
            memmove(end->in, bhs, have);
            end->in_at = 0;
            end->in_end = have;
        }
        return NULL;
    }
    end->in_at += whole;
    *ret_data = bhs + header_len;
    return bhs;
}

#endif
