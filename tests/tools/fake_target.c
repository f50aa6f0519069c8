// SPDX-License-Identifier: Apache-2.0
#include "tests/tools/fake_target.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"

enum { HEADER = 48, BLOCK = 512, MAX_LOGIN = 8, MAX_DATA = 1 << 18 };

struct fake_target {
    int listener;
    int connection; /* -1: none */
    struct sockaddr_storage address;
    pthread_t thread;
    pthread_mutex_t lock;
    bool stopping;
    struct fake_login login[MAX_LOGIN];
    unsigned n_login;
    struct fake_fault fault;
    _Atomic unsigned window;
    _Atomic uint8_t identity;
    _Atomic uint64_t blocks;
    uint8_t async;
    bool has_async;
    int reset_response;
    unsigned resets;
    bool attention; /* the next command but INQUIRY finds it */
    unsigned counts[256];
    unsigned logins;
    uint8_t data[FAKE_BYTES];

    /* Of the connection; the thread's own. */
    uint32_t stat_sn;
    uint32_t exp_cmd_sn;
    uint8_t header[HEADER];
    uint8_t body[MAX_DATA + 4];
    size_t body_len;
    bool writing; /* a write whose data are still coming */
    uint8_t write_header[HEADER];
    uint8_t write_data[MAX_DATA];
    size_t write_got;
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "fake_target: %s: %s\n", what, strerror(errno));
    abort();
}

static bool read_all(struct fake_target *fake, uint8_t *to, size_t len)
{
    while (len > 0) {
        ssize_t n = recv(fake->connection, to, len, 0);

        if (n <= 0) {
            return false;
        }
        to += n;
        len -= (size_t)n;
    }
    return true;
}

static bool write_all(struct fake_target *fake, const uint8_t *from, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fake->connection, from, len, MSG_NOSIGNAL);

        if (n <= 0) {
            return false;
        }
        from += n;
        len -= (size_t)n;
    }
    return true;
}

static bool pdu_send(struct fake_target *fake, uint8_t *header, const void *data, size_t len)
{
    static const uint8_t padding[4];

    header[5] = (uint8_t)(len >> 16);
    header[6] = (uint8_t)(len >> 8);
    header[7] = (uint8_t)len;
    put_be32(header + 24, fake->stat_sn);
    put_be32(header + 28, fake->exp_cmd_sn);
    put_be32(header + 32, fake->exp_cmd_sn + fake->window - 1);
    return write_all(fake, header, HEADER) && write_all(fake, data, len) &&
           write_all(fake, padding, (4 - len % 4) % 4);
}

static bool pdu_receive(struct fake_target *fake)
{
    if (!read_all(fake, fake->header, HEADER)) {
        return false;
    }
    fake->body_len = get_be32(fake->header + 4) & 0xffffff;
    if (fake->body_len > MAX_DATA) {
        return false;
    }
    return read_all(fake, fake->body, (fake->body_len + 3) & ~(size_t)3);
}

/* --- login ---------------------------------------------------------------------------------------------------- */

/* What is written between yes and no leaves in one packet. */
static void together(struct fake_target *fake, int yes)
{
    setsockopt(fake->connection, IPPROTO_TCP, TCP_CORK, &yes, sizeof(yes));
}

static bool login_answer(struct fake_target *fake, const struct fake_login *login)
{
    uint8_t header[HEADER] = {0x23, login->flags};
    char text[2048];
    size_t len = 0;

    if (login->raw != NULL) {
        return write_all(fake, login->raw, login->raw_len) && !login->close;
    }
    memcpy(header + 8, fake->header + 8, 6);
    header[15] = 1;
    memcpy(header + 16, fake->header + 16, 4);
    header[36] = (uint8_t)(login->status >> 8);
    header[37] = (uint8_t)login->status;
    if (login->text != NULL) {
        len = strlen(login->text) + 1;
        memcpy(text, login->text, len);
        for (size_t i = 0; i < len; i++) {
            text[i] = text[i] == '\n' ? 0 : text[i];
        }
    }
    together(fake, true);
    if (!pdu_send(fake, header, text, len) || !write_all(fake, login->behind, login->behind_len)) {
        return false;
    }
    together(fake, false);
    fake->stat_sn++;
    return !login->close;
}

/* True: the full feature phase has begun. */
static bool login(struct fake_target *fake)
{
    for (unsigned i = 0;; i++) {
        struct fake_login answer = {.text = "TargetPortalGroupTag=1\n"
                                            "MaxRecvDataSegmentLength=8192\n"
                                            "InitialR2T=No\nImmediateData=Yes\n"
                                            "FirstBurstLength=262144\nMaxBurstLength=262144\n"
                                            "HeaderDigest=None\nDataDigest=None"};

        if (!pdu_receive(fake) || (fake->header[0] & 0x3f) != 0x03) {
            return false;
        }
        fake->exp_cmd_sn = get_be32(fake->header + 24);
        pthread_mutex_lock(&fake->lock);
        if (i < fake->n_login) {
            answer = fake->login[i];
        } else {
            answer.flags = fake->header[1] & 0x8f;
            if ((answer.flags & 0x0c) == 0) {
                answer.text = "AuthMethod=None";
            }
        }
        pthread_mutex_unlock(&fake->lock);
        if (!login_answer(fake, &answer)) {
            return false;
        }
        if ((answer.flags & 0x83) == 0x83) {
            return true;
        }
    }
}

/* --- SCSI ----------------------------------------------------------------------------------------------------- */

static bool respond(struct fake_target *fake, const uint8_t *request, uint8_t status, uint8_t key,
                    uint8_t asc, uint8_t ascq)
{
    uint8_t header[HEADER] = {0x21, 0x80, 0, status};
    uint8_t sense[20] = {0, 18, 0x70, 0, key, 0, 0, 0, 0, 10};
    bool ok;

    memcpy(header + 16, request + 16, 4);
    sense[14] = asc;
    sense[15] = ascq;
    ok = pdu_send(fake, header, sense, status == 2 ? sizeof(sense) : 0);
    fake->stat_sn++;
    return ok;
}

static bool respond_data(struct fake_target *fake, const uint8_t *request, const uint8_t *data,
                         size_t len)
{
    size_t expected = get_be32(request + 20);
    size_t sent = len < expected ? len : expected;
    uint8_t header[HEADER] = {0x25, 0x81};
    bool ok;

    if (sent < expected) {
        header[1] |= 0x02;
        put_be32(header + 44, (uint32_t)(expected - sent));
    }
    memcpy(header + 16, request + 16, 4);
    put_be32(header + 20, 0xffffffff);
    ok = pdu_send(fake, header, data, sent);
    fake->stat_sn++;
    return ok;
}

static bool inquiry(struct fake_target *fake, const uint8_t *request)
{
    const uint8_t *cdb = request + 32;
    uint8_t data[96] = {0, 0, 5, 2, 91};
    size_t len = 96;

    memcpy(data + 8, "SMIRROR FAKE            0001", 28);
    if (cdb[1] & 1) {
        memset(data, 0, sizeof(data));
        data[1] = cdb[2];
        switch (cdb[2]) {
        case 0x00:
            memcpy(data + 4, "\x00\x80\x83\xb0\xb2", 5);
            data[3] = 5;
            len = 9;
            break;
        case 0x80:
            memcpy(data + 4, "FAKE1", 5);
            data[3] = 5;
            len = 9;
            break;
        case 0x83:
            data[3] = 20;
            data[4] = 1;
            data[5] = 3;
            data[7] = 16;
            data[8] = 0x60;
            data[9] = 0x11;
            data[23] = fake->identity;
            len = 24;
            break;
        case 0xb0:
            data[3] = 60;
            put_be32(data + 20, 2000); /* blocks an UNMAP */
            put_be32(data + 24, 4);    /* descriptors */
            put_be32(data + 28, 8);    /* granularity */
            put_be64(data + 36, 1024);
            len = 64;
            break;
        case 0xb2:
            data[3] = 4;
            data[5] = 0x80; /* UNMAP only */
            data[6] = 2;
            len = 8;
            break;
        default:
            return respond(fake, request, 2, 5, 0x24, 0);
        }
    }
    return respond_data(fake, request, data, len);
}

static bool serve(struct fake_target *fake, const uint8_t *request, const uint8_t *out,
                  size_t out_len)
{
    const uint8_t *cdb = request + 32;
    uint8_t data[64] = {0};
    uint64_t lba = cdb[0] >= 0x80 ? get_be64(cdb + 2) : get_be32(cdb + 2);
    uint64_t blocks = cdb[0] >= 0x80 ? get_be32(cdb + 10) : (uint64_t)(cdb[7] << 8 | cdb[8]);
    bool in_range = lba <= fake->blocks && blocks <= fake->blocks - lba;

    switch (cdb[0]) {
    case 0x00:
    case 0x35:
    case 0x91:
        return respond(fake, request, 0, 0, 0, 0);
    case 0x12:
        return inquiry(fake, request);
    case 0x1a:
        data[0] = 3;
        return respond_data(fake, request, data, 4);
    case 0x25:
        put_be32(data, (uint32_t)fake->blocks - 1);
        put_be32(data + 4, BLOCK);
        return respond_data(fake, request, data, 8);
    case 0x28:
    case 0x88:
        if (!in_range) {
            return respond(fake, request, 2, 5, 0x21, 0);
        }
        return respond_data(fake, request, fake->data + lba * BLOCK, blocks * BLOCK);
    case 0x2a:
    case 0x8a:
        if (!in_range || out_len != blocks * BLOCK) {
            return respond(fake, request, 2, 5, 0x21, 0);
        }
        memcpy(fake->data + lba * BLOCK, out, out_len);
        return respond(fake, request, 0, 0, 0, 0);
    case 0x42:
        for (size_t at = 8; at + 16 <= out_len; at += 16) {
            memset(fake->data + get_be64(out + at) * BLOCK, 0, (size_t)get_be32(out + at + 8) * BLOCK);
        }
        return respond(fake, request, 0, 0, 0, 0);
    case 0x93:
        for (uint64_t i = 0; i < blocks && in_range; i++) {
            memcpy(fake->data + (lba + i) * BLOCK, out, BLOCK);
        }
        return respond(fake, request, 0, 0, 0, 0);
    case 0x9e:
        if ((cdb[1] & 0x1f) == 0x10) {
            put_be64(data, fake->blocks - 1);
            put_be32(data + 8, BLOCK);
            data[14] = 0xc0; /* LBPME, LBPRZ */
            return respond_data(fake, request, data, 32);
        }
        put_be32(data, 4 + 32);
        put_be64(data + 8, lba);
        put_be32(data + 16, 8);
        put_be64(data + 24, lba + 8);
        put_be32(data + 32, (uint32_t)(fake->blocks - lba - 8));
        data[36] = 1;
        return respond_data(fake, request, data, 40);
    case 0xa0:
        put_be32(data, 16);
        data[8 + 9] = 1;
        return respond_data(fake, request, data, 24);
    default:
        return respond(fake, request, 2, 5, 0x20, 0);
    }
}

static bool is_io(uint8_t opcode)
{
    return opcode != 0x00 && opcode != 0x12 && opcode != 0x1a && opcode != 0x25 && opcode != 0x9e;
}

/* True: the command met its fault; *ret_ok tells whether the connection lives. */
static bool meets_fault(struct fake_target *fake, const uint8_t *request, bool *ret_ok)
{
    const uint8_t *cdb = request + 32;
    unsigned opcode = cdb[0] == 0x9e ? 0x9e00u | (cdb[1] & 0x1f) : cdb[0];
    struct fake_fault fault;
    bool hit = false;

    pthread_mutex_lock(&fake->lock);
    fake->counts[cdb[0]]++;
    if (fake->fault.count > 0 &&
        (fake->fault.opcode == opcode || (fake->fault.opcode == 0x100 && is_io(cdb[0])))) {
        if (fake->fault.skip > 0) {
            fake->fault.skip--;
        } else {
            fake->fault.count--;
            hit = true;
        }
    }
    fault = fake->fault;
    pthread_mutex_unlock(&fake->lock);
    if (hit) {
        uint8_t copy[HEADER];

        memcpy(copy, request, HEADER);
        *ret_ok = true;
        for (unsigned i = 0; i <= fault.ahead && !fault.silent && *ret_ok; i++) {
            *ret_ok = respond(fake, copy, fault.status, fault.key, fault.asc, fault.ascq);
            put_be32(copy + 16, get_be32(copy + 16) + 1);
        }
    }
    return hit;
}

static bool command(struct fake_target *fake)
{
    const uint8_t *request = fake->header;
    size_t expected = get_be32(request + 20);
    bool ok;

    if (!(request[0] & 0x40)) {
        fake->exp_cmd_sn = get_be32(request + 24) + 1;
    }
    if (fake->attention && request[32] != 0x12 && request[32] != 0xa0) {
        fake->attention = false;
        return respond(fake, request, 2, 6, 0x29, 3);
    }
    if (meets_fault(fake, request, &ok)) {
        return ok; /* data that are still coming find no write */
    }
    if ((request[1] & 0x20) && fake->body_len < expected) {
        fake->writing = true;
        memcpy(fake->write_header, request, HEADER);
        memcpy(fake->write_data, fake->body, fake->body_len);
        fake->write_got = fake->body_len;
        return true;
    }
    return serve(fake, request, fake->body, fake->body_len);
}

static bool data_out(struct fake_target *fake)
{
    size_t offset = get_be32(fake->header + 40);

    if (!fake->writing || memcmp(fake->header + 16, fake->write_header + 16, 4) != 0 ||
        offset + fake->body_len > MAX_DATA) {
        return true;
    }
    memcpy(fake->write_data + offset, fake->body, fake->body_len);
    fake->write_got += fake->body_len;
    if (fake->write_got < get_be32(fake->write_header + 20)) {
        return true;
    }
    fake->writing = false;
    return serve(fake, fake->write_header, fake->write_data, fake->write_got);
}

static bool async_send(struct fake_target *fake)
{
    uint8_t header[HEADER] = {0x32, 0x80};
    bool wanted;

    pthread_mutex_lock(&fake->lock);
    wanted = fake->has_async;
    fake->has_async = false;
    header[36] = fake->async;
    pthread_mutex_unlock(&fake->lock);
    if (!wanted) {
        return true;
    }
    put_be32(header + 16, 0xffffffff);
    header[43] = 1; /* within a second */
    return pdu_send(fake, header, NULL, 0);
}

static bool other(struct fake_target *fake, uint8_t opcode)
{
    uint8_t header[HEADER] = {opcode, 0x80};
    char text[256];
    bool ok;
    size_t len = 0;
    const struct sockaddr_in *in = (const struct sockaddr_in *)&fake->address;

    if (opcode == 0x24) {
        len = (size_t)snprintf(text, sizeof(text),
                               "TargetName=iqn.2026-01.test:fake%cTargetAddress=127.0.0.2:%u,1", 0,
                               ntohs(in->sin_port)) +
              1;
    }
    memcpy(header + 16, fake->header + 16, 4);
    put_be32(header + 20, 0xffffffff);
    if (!(fake->header[0] & 0x40)) {
        fake->exp_cmd_sn = get_be32(fake->header + 24) + 1;
    }
    ok = pdu_send(fake, header, text, len);
    fake->stat_sn++;
    return ok;
}

static bool task_management(struct fake_target *fake)
{
    uint8_t header[HEADER] = {0x22, 0x80};
    int response;
    bool ok;

    pthread_mutex_lock(&fake->lock);
    response = fake->reset_response;
    if ((fake->header[1] & 0x7f) == 5 && fake->header[9] == 1) {
        fake->resets++;
    }
    pthread_mutex_unlock(&fake->lock);
    if (response == -1) {
        return true;
    }
    if (response == -2) {
        uint8_t refused[HEADER];

        memcpy(refused, fake->header, HEADER);
        header[0] = 0x3f;
        header[2] = 0x05; /* command not supported */
        put_be32(header + 16, 0xffffffff);
        ok = pdu_send(fake, header, refused, HEADER);
    } else {
        header[2] = (uint8_t)response;
        memcpy(header + 16, fake->header + 16, 4);
        fake->attention = response == 0;
        ok = pdu_send(fake, header, NULL, 0);
    }
    fake->stat_sn++;
    return ok;
}

static void converse(struct fake_target *fake)
{
    fake->stat_sn = 1;
    fake->writing = false;
    fake->attention = false;
    if (!login(fake)) {
        return;
    }
    pthread_mutex_lock(&fake->lock);
    fake->logins++;
    pthread_mutex_unlock(&fake->lock);
    while (pdu_receive(fake)) {
        bool ok = async_send(fake);

        switch (fake->header[0] & 0x3f) {
        case 0x00:
            ok = ok && (get_be32(fake->header + 16) == 0xffffffff || other(fake, 0x20));
            break;
        case 0x01:
            ok = ok && command(fake);
            break;
        case 0x02:
            ok = ok && task_management(fake);
            break;
        case 0x04:
            ok = ok && other(fake, 0x24);
            break;
        case 0x05:
            ok = ok && data_out(fake);
            break;
        case 0x06:
            other(fake, 0x26);
            return;
        default:
            return;
        }
        if (!ok) {
            return;
        }
    }
}

static void *run(void *arg)
{
    struct fake_target *fake = arg;

    for (;;) {
        int fd = accept(fake->listener, NULL, NULL);

        pthread_mutex_lock(&fake->lock);
        if (fd < 0 || fake->stopping) {
            pthread_mutex_unlock(&fake->lock);
            if (fd >= 0) {
                close(fd);
            }
            return NULL;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        fake->connection = fd;
        pthread_mutex_unlock(&fake->lock);
        converse(fake);
        pthread_mutex_lock(&fake->lock);
        fake->connection = -1;
        close(fd);
        pthread_mutex_unlock(&fake->lock);
    }
}

struct fake_target *fake_target_start(void)
{
    struct fake_target *fake = calloc(1, sizeof(*fake));
    struct sockaddr_in *in = (struct sockaddr_in *)&fake->address;
    socklen_t len = sizeof(*in);

    fake->connection = -1;
    fake->window = 64;
    fake->identity = 1;
    fake->blocks = FAKE_BYTES / BLOCK;
    pthread_mutex_init(&fake->lock, NULL);
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1); /* tgtd redirects to another address only */
    fake->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* A short queue: initiators must wait with what they want to send. */
    setsockopt(fake->listener, SOL_SOCKET, SO_RCVBUF, &(int){16384}, sizeof(int));
    if (fake->listener < 0 || bind(fake->listener, (struct sockaddr *)in, len) != 0 ||
        getsockname(fake->listener, (struct sockaddr *)in, &len) != 0 ||
        listen(fake->listener, 16) != 0 || pthread_create(&fake->thread, NULL, run, fake) != 0) {
        die("start");
    }
    return fake;
}

void fake_target_stop(struct fake_target *fake)
{
    pthread_mutex_lock(&fake->lock);
    fake->stopping = true;
    shutdown(fake->listener, SHUT_RDWR);
    if (fake->connection >= 0) {
        shutdown(fake->connection, SHUT_RDWR);
    }
    pthread_mutex_unlock(&fake->lock);
    pthread_join(fake->thread, NULL);
    close(fake->listener);
    pthread_mutex_destroy(&fake->lock);
    free(fake);
}

void fake_target_address(const struct fake_target *fake, struct sockaddr_storage *ret_address)
{
    *ret_address = fake->address;
}

void fake_target_login(struct fake_target *fake, const struct fake_login *responses, unsigned n)
{
    pthread_mutex_lock(&fake->lock);
    fake->n_login = n;
    if (n > 0) {
        memcpy(fake->login, responses, n * sizeof(*responses));
    }
    pthread_mutex_unlock(&fake->lock);
}

void fake_target_fault(struct fake_target *fake, const struct fake_fault *fault)
{
    pthread_mutex_lock(&fake->lock);
    fake->fault = *fault;
    pthread_mutex_unlock(&fake->lock);
}

void fake_target_answer_resets(struct fake_target *fake, int response)
{
    pthread_mutex_lock(&fake->lock);
    fake->reset_response = response;
    fake->resets = 0;
    pthread_mutex_unlock(&fake->lock);
}

void fake_target_hang_up(struct fake_target *fake)
{
    pthread_mutex_lock(&fake->lock);
    if (fake->connection >= 0) {
        shutdown(fake->connection, SHUT_RDWR);
    }
    pthread_mutex_unlock(&fake->lock);
}

unsigned fake_target_resets(struct fake_target *fake)
{
    pthread_mutex_lock(&fake->lock);
    unsigned n = fake->resets;
    pthread_mutex_unlock(&fake->lock);
    return n;
}

void fake_target_window(struct fake_target *fake, unsigned window)
{
    pthread_mutex_lock(&fake->lock);
    fake->window = window;
    pthread_mutex_unlock(&fake->lock);
}

void fake_target_identity(struct fake_target *fake, uint8_t last_byte)
{
    pthread_mutex_lock(&fake->lock);
    fake->identity = last_byte;
    pthread_mutex_unlock(&fake->lock);
}

void fake_target_blocks(struct fake_target *fake, uint64_t blocks)
{
    pthread_mutex_lock(&fake->lock);
    fake->blocks = blocks;
    pthread_mutex_unlock(&fake->lock);
}

void fake_target_async(struct fake_target *fake, uint8_t event)
{
    pthread_mutex_lock(&fake->lock);
    fake->has_async = true;
    fake->async = event;
    pthread_mutex_unlock(&fake->lock);
}

unsigned fake_target_count(struct fake_target *fake, uint8_t opcode)
{
    unsigned count;

    pthread_mutex_lock(&fake->lock);
    count = fake->counts[opcode];
    pthread_mutex_unlock(&fake->lock);
    return count;
}

unsigned fake_target_logins(struct fake_target *fake)
{
    unsigned count;

    pthread_mutex_lock(&fake->lock);
    count = fake->logins;
    pthread_mutex_unlock(&fake->lock);
    return count;
}

uint8_t *fake_target_data(struct fake_target *fake)
{
    return fake->data;
}
