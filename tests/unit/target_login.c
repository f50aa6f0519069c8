// SPDX-License-Identifier: Apache-2.0
/* The target on a simulated loop, and an initiator that writes its PDUs by hand. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/loop_sim.h"
#include "block/mem_dev.h"
#include "target/chap.h"
#include "target/connection.h"
#include "target/server.h"

#define NAME "iqn.2026-11.io.smirror:unit"

struct rig {
    struct loop_sim *sim;
    struct loop *loop;
    struct blockdev *dev;
    struct target_server *server;
    struct target *target;
    int fd;
    bool digests;
    uint32_t cmd_sn;
    uint8_t in[1 << 16];
    size_t in_len;
    bool ended;
};

static void nothing(void *arg)
{
    (void)arg;
}

static void closed(void *arg, int status)
{
    assert_int_equal(status, 0);
    *(bool *)arg = true;
}

static struct rig *rig_new(const struct target_initiator *row)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    log_set_level(LOG_ERROR);
    assert_int_equal(loop_sim_new(0, &rig->sim), 0);
    assert_int_equal(loop_sim_add(rig->sim, "one", &rig->loop), 0);
    struct mem_dev_spec disk = {.size_bytes = 1 << 20};
    assert_int_equal(mem_dev_new(rig->loop, &disk, &rig->dev), 0);
    struct target_server_spec spec = {.owner = rig->loop, .loops = &rig->loop, .n_loops = 1};
    spec.limits.queue_depth = 4;
    spec.limits.connection_bytes = 4096;
    assert_int_equal(target_server_new(&spec, &rig->server), 0);
    struct target_lun_spec lun = {.dev = rig->dev, .naa = 0x3000000000000001ull, .thin = true};
    struct target_spec t = {.name = NAME, .loop = rig->loop, .luns = &lun, .n_luns = 1};
    t.access = (struct target_access){.initiators = row, .n_initiators = 1};
    assert_int_equal(target_new(rig->server, &t, &rig->target, NULL), 0);
    loop_sim_run_until_idle(rig->sim);
    return rig;
}

static void rig_connect(struct rig *rig)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    rig->fd = fds[1];
    rig->digests = false;
    rig->in_len = 0;
    rig->ended = false;
    rig->cmd_sn = 1;
    atomic_fetch_add(&rig->server->connections, 1);
    connection_new(rig->server, &rig->server->shards[0], rig->target, fds[0], (const uint8_t *)"",
                   0);
}

static void rig_free(struct rig *rig)
{
    bool done = false;
    target_server_close(rig->server, 0, closed, &done);
    loop_sim_advance(rig->sim, 5 * SEC_NS);
    assert_true(done);
    target_server_free(rig->server);
    blockdev_close(rig->dev, nothing, NULL);
    loop_sim_run_until_idle(rig->sim);
    loop_free(rig->loop);
    loop_sim_free(rig->sim);
    close(rig->fd);
    free(rig);
}

static void put(struct rig *rig, uint8_t *bhs, const void *data, uint32_t len, bool damage)
{
    uint8_t out[1 << 16] = {0};
    size_t at = PDU_BHS;
    put_be24(bhs + PDU_F_DATA_LEN, len);
    memcpy(out, bhs, PDU_BHS);
    if (rig->digests) {
        memcpy(out + at, &(uint32_t){crc32c(0, bhs, PDU_BHS)}, 4);
        at += 4;
    }
    if (len > 0) {
        memcpy(out + at, data, len);
        uint32_t all = len + pdu_pad(len);
        if (rig->digests) {
            memcpy(out + at + all, &(uint32_t){crc32c(0, out + at, all) ^ damage}, 4);
            at += 4;
        }
        at += all;
    }
    assert_int_equal(send(rig->fd, out, at, MSG_NOSIGNAL), at);
    loop_sim_run_until_idle(rig->sim);
}

/* The next PDU's header; its data goes to data. False: the connection ended. */
static bool get(struct rig *rig, uint8_t *bhs, uint8_t *data, uint32_t *ret_len)
{
    ssize_t n = recv(rig->fd, rig->in + rig->in_len, sizeof(rig->in) - rig->in_len, MSG_DONTWAIT);
    rig->ended |= n == 0;
    rig->in_len += n > 0 ? (size_t)n : 0;
    if (rig->in_len == 0) {
        assert_true(rig->ended);
        return false;
    }
    uint32_t len = pdu_data_len(rig->in);
    size_t head = PDU_BHS + (rig->digests ? 4 : 0);
    size_t all = head + len + pdu_pad(len) + (rig->digests && len ? 4 : 0);
    assert_true(rig->in_len >= all);
    memcpy(bhs, rig->in, PDU_BHS);
    if (data) {
        memcpy(data, rig->in + head, len);
    }
    *ret_len = len;
    if (rig->digests) {
        uint32_t crc;
        memcpy(&crc, rig->in + PDU_BHS, 4);
        assert_int_equal(crc, crc32c(0, bhs, PDU_BHS));
        if (len > 0) {
            memcpy(&crc, rig->in + all - 4, 4);
            assert_int_equal(crc, crc32c(0, rig->in + head, len + pdu_pad(len)));
        }
    }
    memmove(rig->in, rig->in + all, rig->in_len - all);
    rig->in_len -= all;
    return true;
}

/* One login request and its response; the status. */
static unsigned login_step(struct rig *rig, uint8_t flags, uint8_t isid, const void *text,
                           size_t len, char *ret_text)
{
    uint8_t bhs[PDU_BHS] = {PDU_LOGIN_REQUEST | PDU_IMMEDIATE, flags};
    bhs[8] = 0x80;
    bhs[13] = isid;
    put_be32(bhs + PDU_F_CMD_SN, 1);
    put(rig, bhs, text, (uint32_t)len, false);
    uint32_t got;
    uint8_t data[16384];
    assert_true(get(rig, bhs, data, &got));
    assert_int_equal(pdu_opcode(bhs), PDU_LOGIN_RESPONSE);
    if (ret_text) {
        memcpy(ret_text, data, got);
        ret_text[got] = '\0';
        ret_text[got + 1] = '\0';
    }
    return get_be16(bhs + 36);
}

#define PAIRS "InitiatorName=iqn.a:i\0TargetName=" NAME "\0SessionType=Normal\0"

static void login(struct rig *rig, uint8_t isid, bool digests)
{
    static const char plain[] = PAIRS "InitialR2T=Yes\0MaxRecvDataSegmentLength=1024";
    static const char with[] = PAIRS "InitialR2T=Yes\0MaxRecvDataSegmentLength=1024\0"
                                     "HeaderDigest=CRC32C\0DataDigest=CRC32C";
    rig_connect(rig);
    assert_int_equal(login_step(rig, 0x87, isid, digests ? with : plain,
                                digests ? sizeof(with) : sizeof(plain), NULL),
                     0);
    rig->digests = digests;
}

static void command(struct rig *rig, uint32_t itt, uint8_t flags, uint32_t edtl, const uint8_t *cdb,
                    const void *data, uint32_t len, bool damage)
{
    uint8_t bhs[PDU_BHS] = {PDU_SCSI_COMMAND, (uint8_t)(PDU_FINAL | flags | SCSI_SIMPLE)};
    put_be32(bhs + PDU_F_ITT, itt);
    put_be32(bhs + 20, edtl);
    put_be32(bhs + PDU_F_CMD_SN, rig->cmd_sn++);
    memcpy(bhs + 32, cdb, 10);
    put(rig, bhs, data, len, damage);
}

static unsigned ready(struct rig *rig, uint32_t itt)
{
    uint8_t bhs[PDU_BHS];
    uint32_t len;
    uint8_t cdb[10] = {0};
    command(rig, itt, 0, 0, cdb, NULL, 0, false);
    assert_true(get(rig, bhs, NULL, &len));
    assert_int_equal(pdu_opcode(bhs), PDU_SCSI_RESPONSE);
    return bhs[3];
}

static const struct target_initiator everyone;

static void data_goes_both_ways_under_digests(void **state)
{
    (void)state;
    struct rig *rig = rig_new(&everyone);
    login(rig, 1, true);
    assert_int_equal(ready(rig, 1), SCSI_CHECK_CONDITION); /* power on */
    assert_int_equal(ready(rig, 2), SCSI_GOOD);
    uint8_t sent[4096];
    for (size_t i = 0; i < sizeof(sent); i++) {
        sent[i] = (uint8_t)(i * 7 >> 3);
    }
    uint8_t bhs[PDU_BHS];
    uint32_t len;
    uint8_t write[10] = {0x2a, [8] = 8};
    command(rig, 3, PDU_CMD_WRITE, 4096, write, sent, 1024, false);
    assert_true(get(rig, bhs, NULL, &len));
    assert_int_equal(pdu_opcode(bhs), PDU_R2T);
    assert_int_equal(get_be32(bhs + 40), 1024);
    assert_int_equal(get_be32(bhs + 44), 3072);
    uint8_t out[PDU_BHS] = {PDU_DATA_OUT, PDU_FINAL};
    put_be32(out + PDU_F_ITT, 3);
    memcpy(out + PDU_F_TTT, bhs + PDU_F_TTT, 4);
    put_be32(out + PDU_F_OFFSET, 1024);
    put(rig, out, sent + 1024, 3072, false);
    assert_true(get(rig, bhs, NULL, &len));
    assert_int_equal(pdu_opcode(bhs), PDU_SCSI_RESPONSE);
    assert_int_equal(bhs[3], SCSI_GOOD);

    uint8_t read[10] = {0x28, [8] = 8};
    uint8_t got[4096];
    command(rig, 4, PDU_CMD_READ, 4096, read, NULL, 0, false);
    for (uint32_t i = 0; i < 4; i++) { /* MaxRecvDataSegmentLength of 1024 */
        assert_true(get(rig, bhs, got + 1024 * i, &len));
        assert_int_equal(pdu_opcode(bhs), PDU_DATA_IN);
        assert_int_equal(len, 1024);
        assert_int_equal(get_be32(bhs + PDU_F_DATA_SN), i);
        assert_int_equal(pdu_final(bhs), i == 3);
    }
    assert_memory_equal(sent, got, sizeof(sent));

    /* A damaged segment: a Reject, and the end. */
    command(rig, 5, PDU_CMD_WRITE, 512, (uint8_t[10]){0x2a, [8] = 1}, sent, 512, true);
    assert_true(get(rig, bhs, NULL, &len));
    assert_int_equal(pdu_opcode(bhs), PDU_REJECT);
    assert_int_equal(bhs[2], PDU_REJECT_DIGEST);
    assert_false(get(rig, bhs, NULL, &len));
    rig_free(rig);
}

static void commands_outside_the_window_are_dropped_and_early_ones_wait(void **state)
{
    (void)state;
    struct rig *rig = rig_new(&everyone);
    login(rig, 1, false);
    ready(rig, 1);
    uint8_t bhs[PDU_BHS];
    uint32_t len;
    uint8_t cdb[10] = {0};
    uint32_t next = rig->cmd_sn;
    rig->cmd_sn = next + 1; /* early */
    command(rig, 2, 0, 0, cdb, NULL, 0, false);
    rig->cmd_sn = next + 4; /* beyond the window of four */
    command(rig, 3, 0, 0, cdb, NULL, 0, false);
    rig->cmd_sn = next - 1; /* of the past */
    command(rig, 4, 0, 0, cdb, NULL, 0, false);
    assert_int_equal(recv(rig->fd, bhs, 1, MSG_DONTWAIT), -1);
    rig->cmd_sn = next;
    command(rig, 5, 0, 0, cdb, NULL, 0, false);
    assert_true(get(rig, bhs, NULL, &len));
    assert_int_equal(pdu_itt(bhs), 5);
    assert_true(get(rig, bhs, NULL, &len));
    assert_int_equal(pdu_itt(bhs), 2);
    assert_int_equal(get_be32(bhs + PDU_F_EXP_CMD_SN), next + 2);
    assert_int_equal(get_be32(bhs + PDU_F_MAX_CMD_SN), next + 5);
    rig_free(rig);
}

static void writes_that_wait_for_memory_end_with_their_connection(void **state)
{
    (void)state;
    struct rig *rig = rig_new(&everyone);
    uint8_t write[10] = {0x2a, [8] = 8};
    uint8_t bhs[PDU_BHS];
    uint32_t len;
    login(rig, 1, false);
    ready(rig, 1);
    for (uint32_t itt = 2; itt <= 4; itt++) { /* there is memory for one of them */
        command(rig, itt, PDU_CMD_WRITE, 4096, write, NULL, 0, false);
    }
    assert_true(get(rig, bhs, NULL, &len));
    assert_int_equal(pdu_opcode(bhs), PDU_R2T);
    assert_int_equal(rig->in_len, 0);
    close(rig->fd);
    loop_sim_run_until_idle(rig->sim);
    assert_int_equal(rig->server->shards[0].promised, 0);
    assert_true(list_empty(&rig->server->shards[0].promise_waiting));
    login(rig, 2, false);
    ready(rig, 1);
    command(rig, 2, PDU_CMD_WRITE, 4096, write, NULL, 0, false);
    assert_true(get(rig, bhs, NULL, &len));
    assert_int_equal(pdu_opcode(bhs), PDU_R2T);
    rig_free(rig);
}

static void the_same_port_again_takes_over_its_session(void **state)
{
    (void)state;
    struct rig *rig = rig_new(&everyone);
    login(rig, 1, false);
    int old = rig->fd;
    login(rig, 1, false);
    uint8_t byte;
    assert_int_equal(recv(old, &byte, 1, MSG_DONTWAIT), 0);
    close(old);
    struct target_stats stats;
    target_stats(rig->target, &stats);
    assert_int_equal(stats.sessions, 1);
    int first = rig->fd;
    login(rig, 2, false);
    target_stats(rig->target, &stats);
    assert_int_equal(stats.sessions, 2);
    close(first);
    rig_free(rig);
}

static void refusals_say_why(void **state)
{
    (void)state;
    static const struct target_initiator one = {.name = "iqn.a:i"};
    static const struct {
        uint8_t flags;
        const char *text;
        size_t len;
        unsigned status;
    } cases[] = {
#define TEXT(text) text, sizeof(text)
        {0x87, TEXT("InitiatorName=iqn.a:x\0TargetName=" NAME), LOGIN_FORBIDDEN},
        {0x87, TEXT("InitiatorName=iqn.a:i\0TargetName=iqn.other"), LOGIN_NOT_FOUND},
        {0x87, TEXT("TargetName=" NAME), LOGIN_MISSING_PARAMETER},
        {0x87, TEXT("InitiatorName=iqn.a:i"), LOGIN_MISSING_PARAMETER},
        {0x87, TEXT(PAIRS "SessionType=Other"), LOGIN_INITIATOR_ERROR},
        {0x87, TEXT("SessionType=Other\0InitiatorName=iqn.a:i"), LOGIN_BAD_SESSION_TYPE},
        {0x87, TEXT(PAIRS "MaxBurstLength=4096\0MaxBurstLength=4096"), LOGIN_INITIATOR_ERROR},
        {0x87, TEXT(PAIRS "AuthMethod=None"), LOGIN_INITIATOR_ERROR},
        {0x81, TEXT(PAIRS "AuthMethod=KRB5"), LOGIN_AUTH_FAILED},
        {0x86, TEXT(PAIRS), LOGIN_INITIATOR_ERROR},
        {0xc7, TEXT(PAIRS), LOGIN_INITIATOR_ERROR},
        {0x87, "rubbish", 7, LOGIN_MISSING_PARAMETER},
    };
    struct rig *rig = rig_new(&one);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        rig_connect(rig);
        assert_int_equal(login_step(rig, cases[i].flags, 1, cases[i].text, cases[i].len, NULL),
                         cases[i].status);
        uint8_t bhs[PDU_BHS];
        uint32_t len;
        assert_false(get(rig, bhs, NULL, &len));
        close(rig->fd);
        rig->fd = -1;
    }
    rig_free(rig);
}

static const char *alias_of_first(struct rig *rig)
{
    assert_false(list_empty(&rig->target->sessions));
    return list_entry(rig->target->sessions.next, struct session, link)->alias;
}

static void an_alias_is_kept_as_far_as_it_goes(void **state)
{
    (void)state;
    char text[sizeof(PAIRS) + 8000];
    static const size_t lens[] = {0, 1, 255, 256, 7900};
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        struct rig *rig = rig_new(&(struct target_initiator){.name = NULL});
        memcpy(text, PAIRS, sizeof(PAIRS) - 1);
        char *at = stpcpy(text + sizeof(PAIRS) - 1, "InitiatorAlias=");
        memset(at, '\n', lens[i]);
        at[lens[i]] = '\0';
        rig_connect(rig);
        assert_int_equal(login_step(rig, 0x87, 1, text, (size_t)(at + lens[i] + 1 - text), NULL),
                         0);
        const char *alias = alias_of_first(rig);
        assert_int_equal(strlen(alias), lens[i] < 255 ? lens[i] : 255);
        assert_int_equal(strspn(alias, "?"), strlen(alias));
        rig_free(rig);
    }
}

static unsigned chap_login(struct rig *rig, const char *secret, bool mutual, char *text)
{
    static const char first[] = PAIRS "AuthMethod=CHAP,None";
    static const char algorithms[] = "CHAP_A=7,5";
    rig_connect(rig);
    assert_int_equal(login_step(rig, 0x01, 1, first, sizeof(first), NULL), 0);
    assert_int_equal(login_step(rig, 0x01, 1, algorithms, sizeof(algorithms), text), 0);
    size_t text_len = sizeof("CHAP_A=7");
    assert_string_equal(text, "CHAP_A=7");
    uint8_t id = (uint8_t)atoi(text + text_len + strlen("CHAP_I="));
    const char *value = text + text_len + strlen(text + text_len) + 1 + strlen("CHAP_C=");
    uint8_t challenge[64];
    uint8_t response[CHAP_MAX_RESPONSE];
    size_t len;
    assert_int_equal(chap_decode(value, challenge, sizeof(challenge), &len), 0);
    assert_int_equal(chap_response(CHAP_SHA256, id, secret, challenge, len, response), 0);
    char hex[2 * CHAP_MAX_RESPONSE + 3];
    chap_encode(response, 32, hex);
    struct strbuf out = STRBUF_INIT;
    keys_add(&out, "CHAP_N", "user");
    keys_add(&out, "CHAP_R", hex);
    if (mutual) {
        keys_add(&out, "CHAP_I", "9");
        keys_add(&out, "CHAP_C", "0x0001020304050607");
    }
    unsigned status = login_step(rig, 0x83, 1, out.data, out.len, text);
    strbuf_fini(&out);
    return status;
}

static void chap_lets_in_who_knows_the_secret_and_proves_itself(void **state)
{
    (void)state;
    static const struct target_initiator row = {.chap_user = "user",
                                                .chap_secret = "secret-one-way",
                                                .mutual_user = "target",
                                                .mutual_secret = "secret-back"};
    struct rig *rig = rig_new(&row);
    static char text[20000];
    rig_connect(rig);
    static const char skips[] = PAIRS;
    assert_int_equal(login_step(rig, 0x87, 1, skips, sizeof(skips), NULL), LOGIN_AUTH_FAILED);
    close(rig->fd);
    assert_int_equal(chap_login(rig, "wrong", false, text), LOGIN_AUTH_FAILED);
    close(rig->fd);
    assert_int_equal(chap_login(rig, "secret-one-way", true, text), 0);
    assert_string_equal(text, "CHAP_N=target");
    uint8_t expected[CHAP_MAX_RESPONSE];
    uint8_t challenge[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    char hex[2 * CHAP_MAX_RESPONSE + 3];
    chap_response(CHAP_SHA256, 9, "secret-back", challenge, 8, expected);
    chap_encode(expected, 32, hex);
    assert_string_equal(text + sizeof("CHAP_N=target") + strlen("CHAP_R="), hex);
    assert_int_equal(ready(rig, 1), SCSI_CHECK_CONDITION);
    rig_free(rig);
}

static void a_silent_initiator_is_asked_and_then_left(void **state)
{
    (void)state;
    struct rig *rig = rig_new(&everyone);
    login(rig, 1, false);
    uint8_t bhs[PDU_BHS];
    uint32_t len;
    loop_sim_advance(rig->sim, 17 * SEC_NS);
    assert_true(get(rig, bhs, NULL, &len));
    assert_int_equal(pdu_opcode(bhs), PDU_NOP_IN);
    assert_int_equal(pdu_itt(bhs), PDU_NO_TAG);
    loop_sim_advance(rig->sim, 17 * SEC_NS);
    assert_false(get(rig, bhs, NULL, &len));
    rig_connect(rig); /* and one that never logs in */
    loop_sim_advance(rig->sim, 17 * SEC_NS);
    assert_false(get(rig, bhs, NULL, &len));
    rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_goes_both_ways_under_digests),
        cmocka_unit_test(commands_outside_the_window_are_dropped_and_early_ones_wait),
        cmocka_unit_test(writes_that_wait_for_memory_end_with_their_connection),
        cmocka_unit_test(the_same_port_again_takes_over_its_session),
        cmocka_unit_test(refusals_say_why),
        cmocka_unit_test(an_alias_is_kept_as_far_as_it_goes),
        cmocka_unit_test(chap_lets_in_who_knows_the_secret_and_proves_itself),
        cmocka_unit_test(a_silent_initiator_is_asked_and_then_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
