// SPDX-License-Identifier: Apache-2.0
/*
 * A wire against a target that keeps to RFC 7143 and does everything that it allows: seeded terms, commands, windows, requests for data,
 * pieces, and cuts of the stream at any byte. What arrives at either end must be what was sent, and in the order that was agreed on.
 */
#include "tests/unit/iscsi_wire_target.h"

#include "base/check.h"
#include "base/random.h"

enum {
    SEEDS = 2000,
    MAX_ORDERS = 24,
    MAX_BYTES = 96 << 10,
    MAX_STEPS = 200000,
    MAX_PINGS = 8,
    TARGET_TAG = 0x7000,
};

/* What the target may receive now: data that nobody asks for, or that it has asked for. */
struct asked {
    bool open;
    uint32_t at, end, tag, data_sn;
};

struct order {
    struct iscsi_cmd cmd;
    struct iovec iov[ISCSI_CMD_MAX_IOV];
    uint8_t *data;
    unsigned given_back;
    /* The target's. */
    bool known, answered;
    uint32_t tag;
    uint32_t sent, end; /* of a read: gone, and where it ends */
    uint32_t may_come;  /* of a write: end of what was announced or asked for */
    struct asked asked[2];
    enum iscsi_cmd_result result;
    uint32_t missing;
};

struct model {
    struct random random;
    struct end end;
    struct order orders[MAX_ORDERS];
    unsigned n_orders, n_sent, n_over;
    unsigned window;
    unsigned next_target_tag;
    uint32_t pings[MAX_PINGS];
    unsigned n_pings;
    uint32_t last_exp_stat_sn;
    bool logged_out;
};

static struct model model;
static uint8_t contents[MAX_BYTES + 4096];
static uint64_t seed_now; /* 0: none runs */

static uint64_t below(uint64_t bound)
{
    return random_below(&model.random, bound);
}

static bool chance(uint64_t numerator, uint64_t denominator)
{
    return random_chance(&model.random, numerator, denominator);
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* What an order writes, or what it is to read. */
static const uint8_t *contents_of(const struct order *order)
{
    return contents + (order - model.orders) * 61 % 4096;
}

/* --- the owner ------------------------------------------------------------------------------------------------ */

static void iov_split(struct order *order)
{
    unsigned n = 1 + (unsigned)below(ISCSI_CMD_MAX_IOV);
    uint32_t at = 0;

    order->cmd.iov = order->iov;
    for (unsigned i = 0; i < n; i++) {
        uint32_t left = order->cmd.len - at;
        uint32_t piece = i + 1 == n ? left : (uint32_t)below(2 * (uint64_t)left / (n - i) + 1);

        piece = least(piece, left);
        order->iov[i] = (struct iovec){order->data + at, piece};
        at += piece;
    }
    order->cmd.n_iov = n;
}

static void order_send(struct order *order)
{
    struct iscsi_cmd *cmd = &order->cmd;

    memset(order, 0, sizeof(*order));
    cmd->cdb_len = chance(1, 2) ? 10 : 16;
    put_be32(cmd->cdb + 2, (uint32_t)(order - model.orders));
    cmd->direction = (enum iscsi_cmd_direction)below(3);
    if (cmd->direction != ISCSI_CMD_NONE) {
        cmd->len = chance(1, 20) ? 0 : 1 + (uint32_t)below(chance(1, 3) ? MAX_BYTES : 6000);
        order->data = malloc(cmd->len + 1);
        assert_non_null(order->data);
        if (cmd->direction == ISCSI_CMD_WRITE) {
            memcpy(order->data, contents_of(order), cmd->len);
        } else {
            memset(order->data, 0xa5, cmd->len);
        }
        if (cmd->direction == ISCSI_CMD_WRITE || chance(2, 3)) {
            iov_split(order);
        }
    }
    assert_int_equal(iscsi_wire_send(model.end.wire, cmd), 0);
    model.n_sent++;
}

static void order_check(struct order *order)
{
    const struct iscsi_cmd *cmd = &order->cmd;

    assert_int_equal(order->given_back, 0);
    order->given_back++;
    model.n_over++;
    assert_true(order->answered);
    assert_int_equal(cmd->result, order->result);
    assert_int_equal(cmd->missing, order->missing);
    if (cmd->result == ISCSI_CMD_CHECK) {
        assert_true(cmd->sense.valid);
        assert_int_equal(cmd->sense.key, SENSE_MEDIUM_ERROR);
        assert_int_equal(cmd->sense.asc, 0x11);
    }
    if (cmd->direction == ISCSI_CMD_READ) {
        const uint8_t *got = cmd->iov != NULL ? order->data : cmd->collected;

        assert_true(order->sent == 0 || memcmp(got, contents_of(order), order->sent) == 0);
        if (cmd->iov == NULL && cmd->result == ISCSI_CMD_GOOD) {
            assert_int_equal(cmd->data_len, order->sent);
        }
        for (uint32_t i = order->sent; cmd->iov != NULL && i < cmd->len; i++) {
            assert_int_equal(order->data[i], 0xa5);
        }
    }
    free(cmd->collected);
    /* What is still to be sent from here would not be what it was. */
    memset(order->data != NULL ? order->data : (uint8_t *)order->iov, 0xee,
           order->data != NULL ? cmd->len : sizeof(order->iov));
    free(order->data);
    order->data = NULL;
}

static void owner_take(void)
{
    struct iscsi_cmd *cmd;

    while ((cmd = iscsi_wire_answered(model.end.wire)) != NULL) {
        order_check(container_of(cmd, struct order, cmd));
    }
}

/* --- the target takes ----------------------------------------------------------------------------------------- */

static void command_come(const uint8_t *bhs, const uint8_t *data)
{
    const struct iscsi_terms *terms = &model.end.terms;
    uint32_t number = get_be32(bhs + 32 + 2);
    struct order *order = &model.orders[number];
    const struct iscsi_cmd *cmd = &order->cmd;
    bool write = cmd->direction == ISCSI_CMD_WRITE && cmd->len > 0;
    uint32_t unasked = write ? least(cmd->len, terms->first_burst) : 0;
    uint32_t immediate = terms->immediate_data ? least(unasked, terms->max_send_segment) : 0;

    assert_true(number < model.n_sent && !order->known);
    assert_false(pdu_immediate(bhs));
    assert_int_equal(get_be32(bhs + PDU_F_CMD_SN), model.end.exp_cmd_sn);
    assert_true(sn_diff(model.end.exp_cmd_sn, model.end.max_cmd_sn) <= 0);
    model.end.exp_cmd_sn++;
    for (unsigned i = 0; i < model.n_sent; i++) {
        assert_true(model.orders[i].tag != pdu_itt(bhs));
        assert_false(model.orders[i].asked[0].open && model.orders[i].asked[0].tag == PDU_NO_TAG);
    }
    assert_int_equal(pdu_lun_decode(bhs + PDU_F_LUN), END_LUN);
    assert_int_equal(get_be32(bhs + PDU_F_TTT), cmd->len); /* expected data transfer length */
    assert_memory_equal(bhs + 32, cmd->cdb, cmd->cdb_len);
    assert_int_equal(bhs[PDU_F_FLAGS] & (PDU_CMD_READ | PDU_CMD_WRITE),
                     write                              ? PDU_CMD_WRITE
                     : cmd->direction == ISCSI_CMD_READ ? PDU_CMD_READ
                                                        : 0);
    assert_int_equal(pdu_data_len(bhs), immediate);
    assert_true(memcmp(data, contents_of(order), immediate) == 0);
    unasked = terms->initial_r2t ? immediate : unasked;
    assert_int_equal(pdu_final(bhs), unasked == immediate);
    order->known = true;
    order->tag = pdu_itt(bhs);
    order->may_come = unasked;
    order->asked[0] = (struct asked){
        .open = unasked > immediate, .at = immediate, .end = unasked, .tag = PDU_NO_TAG};
    order->end = cmd->direction == ISCSI_CMD_READ ? cmd->len : 0;
    if (order->end > 0 && chance(1, 6)) {
        order->end = (uint32_t)below(order->end);
    }
}

static void data_come(const uint8_t *bhs, const uint8_t *data)
{
    uint32_t len = pdu_data_len(bhs);
    struct order *order = NULL;
    struct asked *asked = NULL;

    for (unsigned i = 0; i < model.n_sent; i++) {
        if (model.orders[i].known && model.orders[i].tag == pdu_itt(bhs)) {
            order = &model.orders[i];
        }
    }
    assert_non_null(order);
    for (unsigned i = 0; i < ARRAY_LEN(order->asked); i++) {
        if (order->asked[i].open && order->asked[i].tag == get_be32(bhs + PDU_F_TTT)) {
            asked = &order->asked[i];
        }
    }
    assert_non_null(asked);
    assert_int_equal(get_be32(bhs + PDU_F_DATA_SN), asked->data_sn++);
    assert_int_equal(get_be32(bhs + PDU_F_OFFSET), asked->at);
    assert_int_equal(pdu_lun_decode(bhs + PDU_F_LUN), END_LUN);
    assert_int_equal(len, least(asked->end - asked->at, model.end.terms.max_send_segment));
    assert_true(memcmp(data, contents_of(order) + asked->at, len) == 0);
    asked->at += len;
    assert_int_equal(pdu_final(bhs), asked->at == asked->end);
    asked->open = asked->at < asked->end;
}

static void nop_come(const uint8_t *bhs)
{
    uint8_t answer[PDU_BHS];

    assert_true(pdu_immediate(bhs));
    assert_int_equal(get_be32(bhs + PDU_F_CMD_SN), model.end.exp_cmd_sn);
    if (pdu_itt(bhs) != PDU_NO_TAG) {
        assert_int_equal(get_be32(bhs + PDU_F_TTT), PDU_NO_TAG);
        end_header(&model.end, answer, PDU_NOP_IN, PDU_FINAL, pdu_itt(bhs), true);
        end_put(&model.end, answer, 0, NULL, 0);
        return;
    }
    for (unsigned i = 0; i < model.n_pings; i++) {
        if (model.pings[i] == get_be32(bhs + PDU_F_TTT)) {
            model.pings[i] = model.pings[--model.n_pings];
            return;
        }
    }
    fail_msg("an answer to no ping");
}

static void pdu_come(const uint8_t *bhs, const uint8_t *data)
{
    uint32_t acknowledged = get_be32(bhs + PDU_F_EXP_STAT_SN);

    assert_true(sn_diff(acknowledged, model.end.stat_sn) <= 0);
    assert_true(sn_diff(acknowledged, model.last_exp_stat_sn) >= 0);
    model.last_exp_stat_sn = acknowledged;
    assert_false(model.logged_out);
    switch (pdu_opcode(bhs)) {
    case PDU_SCSI_COMMAND:
        command_come(bhs, data);
        break;
    case PDU_DATA_OUT:
        data_come(bhs, data);
        break;
    case PDU_NOP_OUT:
        nop_come(bhs);
        break;
    case PDU_LOGOUT_REQUEST:
        assert_true(pdu_immediate(bhs));
        model.logged_out = true;
        break;
    default:
        fail_msg("opcode %02x", pdu_opcode(bhs));
    }
}

static void target_take(void)
{
    const uint8_t *bhs;
    const uint8_t *data;

    end_receive(&model.end, 1 + below(chance(1, 2) ? 200 : 40000));
    while ((bhs = end_next(&model.end, &data)) != NULL) {
        pdu_come(bhs, data);
    }
}

/* --- the target answers --------------------------------------------------------------------------------------- */

static void window_move(void)
{
    uint32_t max = model.end.exp_cmd_sn + (uint32_t)below(model.window + 1) - 1;

    if (sn_diff(max, model.end.max_cmd_sn) > 0) {
        model.end.max_cmd_sn = max;
    }
}

static void ping_send(void)
{
    uint8_t bhs[PDU_BHS];

    window_move();
    end_header(&model.end, bhs, PDU_NOP_IN, PDU_FINAL, PDU_NO_TAG, false);
    if (model.n_pings < MAX_PINGS && chance(1, 2)) {
        model.pings[model.n_pings++] = TARGET_TAG + model.next_target_tag;
        put_be32(bhs + PDU_F_TTT, TARGET_TAG + model.next_target_tag++);
    }
    end_put(&model.end, bhs, (unsigned)below(chance(1, 4) ? 9 : 1), NULL, 0);
}

/* The outcome, with what it is to look like at the other end. */
static uint8_t outcome_set(struct order *order, uint8_t bhs[PDU_BHS], uint8_t status)
{
    const struct iscsi_cmd *cmd = &order->cmd;
    bool moves = cmd->direction != ISCSI_CMD_NONE;
    uint32_t done = cmd->direction == ISCSI_CMD_READ ? order->sent : order->may_come;
    uint32_t left = moves ? cmd->len - done : 0;
    bool lies = chance(1, 4);
    uint32_t told = lies ? (uint32_t)below(cmd->len + 1) : left;

    order->answered = true;
    order->result = status == 0      ? ISCSI_CMD_GOOD
                    : status == 0x02 ? ISCSI_CMD_CHECK
                    : status == 0x08 ? ISCSI_CMD_BUSY
                    : status == 0x18 ? ISCSI_CMD_CONFLICT
                    : status == 0x28 ? ISCSI_CMD_FULL
                                     : ISCSI_CMD_ABORTED;
    order->missing = told;
    if (cmd->iov != NULL && left > told) {
        order->missing = left;
    }
    bhs[3] = status;
    put_be32(bhs + PDU_F_RESIDUAL, told);
    if (told > 0) {
        bhs[PDU_F_FLAGS] |= chance(1, 8) ? PDU_RSP_OVERFLOW : PDU_RSP_UNDERFLOW;
    }
    return status;
}

static void answer_send(struct order *order, uint8_t status)
{
    static const uint8_t sense[2 + 18] = {0, 18, 0x70, 0, 3, [2 + 7] = 10, [2 + 12] = 0x11};
    uint8_t bhs[PDU_BHS];

    window_move();
    end_header(&model.end, bhs, PDU_SCSI_RESPONSE, PDU_FINAL, order->tag, true);
    outcome_set(order, bhs, status);
    end_put(&model.end, bhs, 0, sense, status == 0x02 ? sizeof(sense) : 0);
    if (chance(1, 10)) { /* once more: it concerns nobody */
        end_header(&model.end, bhs, PDU_SCSI_RESPONSE, PDU_FINAL, order->tag, true);
        bhs[3] = 0x02;
        end_put(&model.end, bhs, 0, NULL, 0);
    }
}

static void data_send(struct order *order)
{
    uint32_t left = order->end - order->sent;
    uint32_t len = chance(1, 3) ? left : least(left, (uint32_t)below(20000));
    bool last = len == left && chance(1, 2);
    uint8_t bhs[PDU_BHS];

    window_move();
    end_header(&model.end, bhs, PDU_DATA_IN, last || chance(1, 2) ? PDU_FINAL : 0, order->tag,
               last);
    put_be32(bhs + PDU_F_OFFSET, order->sent);
    order->sent += len;
    if (last) {
        bhs[PDU_F_FLAGS] |= PDU_DATA_IN_STATUS;
        outcome_set(order, bhs, 0);
    }
    put_be32(bhs + PDU_F_OFFSET, order->sent - len);
    end_put(&model.end, bhs, 0, contents_of(order) + order->sent - len, len);
}

static void r2t_send(struct order *order, struct asked *asked)
{
    uint32_t len = least(order->cmd.len - order->may_come, model.end.terms.max_burst);
    uint8_t bhs[PDU_BHS];

    len = chance(1, 2) ? len : 1 + (uint32_t)below(len);
    *asked = (struct asked){.open = true,
                            .at = order->may_come,
                            .end = order->may_come + len,
                            .tag = TARGET_TAG + model.next_target_tag++};
    order->may_come += len;
    window_move();
    end_header(&model.end, bhs, PDU_R2T, PDU_FINAL, order->tag, false);
    pdu_lun_encode(END_LUN, bhs + PDU_F_LUN);
    put_be32(bhs + PDU_F_TTT, asked->tag);
    put_be32(bhs + PDU_F_OFFSET, asked->at);
    put_be32(bhs + PDU_F_RESIDUAL, len);
    end_put(&model.end, bhs, 0, NULL, 0);
}

static void order_advance(struct order *order)
{
    static const uint8_t statuses[] = {0x02, 0x08, 0x18, 0x28, 0x40};
    bool data_open = order->asked[0].open || order->asked[1].open;
    bool wants = order->cmd.direction == ISCSI_CMD_WRITE && order->may_come < order->cmd.len;
    struct asked *free_one = !order->asked[0].open   ? &order->asked[0]
                             : !order->asked[1].open ? &order->asked[1]
                                                     : NULL;

    if (chance(1, 12)) { /* before its time */
        answer_send(order, statuses[below(sizeof(statuses))]);
    } else if (order->sent < order->end) {
        data_send(order);
    } else if (wants && free_one != NULL && (!data_open || chance(1, 2))) {
        r2t_send(order, free_one);
    } else if ((!data_open && !wants) || chance(1, 12)) {
        answer_send(order, 0);
    }
}

static void target_act(void)
{
    struct order *order;

    if (model.end.out_end > END_BYTES / 4) {
        return;
    }
    if (model.n_sent == 0 || chance(1, 10)) {
        ping_send();
        return;
    }
    order = &model.orders[below(model.n_sent)];
    if (order->known && !order->answered) {
        order_advance(order);
    }
}

/* --- all together --------------------------------------------------------------------------------------------- */

static uint32_t length_of(uint32_t from, uint32_t to)
{
    return chance(1, 2) ? from + (uint32_t)below(to - from + 1)
                        : from << below(1 + (to > 4 * from ? 3 : 1));
}

static void terms_choose(struct iscsi_terms *terms)
{
    bool wraps = chance(1, 2);

    iscsi_terms_preset(terms);
    model.window = 1 + (unsigned)below(chance(1, 2) ? 4 : 40);
    terms->cmd_sn = wraps ? (uint32_t)-below(MAX_ORDERS) : (uint32_t)random_u64(&model.random);
    terms->exp_stat_sn = wraps ? (uint32_t)-below(MAX_ORDERS) : (uint32_t)random_u64(&model.random);
    terms->max_cmd_sn = terms->cmd_sn + (uint32_t)below(model.window + 1) - 1;
    terms->max_send_segment = length_of(512, 65536);
    terms->max_burst = length_of(512, 65536);
    terms->first_burst = least(length_of(512, 65536), terms->max_burst);
    terms->immediate_data = chance(1, 2);
    terms->initial_r2t = chance(1, 2);
    terms->header_digest = chance(1, 3);
}

static void owner_act(void)
{
    if (model.n_sent < model.n_orders && (iscsi_wire_room(model.end.wire) > 0 || chance(1, 8))) {
        order_send(&model.orders[model.n_sent]);
    }
}

static void wire_push(void)
{
    assert_int_equal(iscsi_wire_push(model.end.wire), 0);
    owner_take();
}

static void wire_pull(void)
{
    assert_int_equal(iscsi_wire_pull(model.end.wire), 0);
    owner_take();
}

static void step(void)
{
    switch (below(7)) {
    case 0:
        owner_act();
        break;
    case 1:
        wire_push();
        break;
    case 2:
        wire_pull();
        break;
    case 3:
        target_take();
        break;
    case 4:
        end_flush(&model.end, 1 + below(chance(1, 2) ? 100 : 60000));
        break;
    default:
        target_act();
        break;
    }
}

static bool data_open(void)
{
    for (unsigned i = 0; i < model.n_sent; i++) {
        if (model.orders[i].asked[0].open || model.orders[i].asked[1].open) {
            return true;
        }
    }
    return false;
}

static void seed_run(uint64_t seed)
{
    struct iscsi_terms terms;
    unsigned steps = 0;

    memset(&model, 0, offsetof(struct model, end));
    random_seed(&model.random, seed);
    memset(model.orders, 0, sizeof(model.orders));
    model.n_orders = 1 + (unsigned)below(MAX_ORDERS);
    model.n_sent = model.n_over = model.next_target_tag = model.n_pings = 0;
    model.logged_out = false;
    terms_choose(&terms);
    model.last_exp_stat_sn = terms.exp_stat_sn;
    end_open(&model.end, &terms);
    while (model.n_over < model.n_orders || model.n_pings > 0 || data_open()) {
        step();
        assert_true(steps++ < MAX_STEPS);
    }
    /* All is quiet: what was answered is acknowledged. */
    iscsi_wire_ping(model.end.wire);
    while (iscsi_wire_pinging(model.end.wire) || model.end.out_end > 0) {
        wire_push();
        target_take();
        end_flush(&model.end, END_BYTES);
        wire_pull();
        assert_true(steps++ < MAX_STEPS);
    }
    assert_int_equal(model.n_over, model.n_orders);
    iscsi_wire_logout(model.end.wire);
    while (!model.logged_out) {
        wire_push();
        target_take();
        assert_true(steps++ < MAX_STEPS);
    }
    assert_int_equal(model.last_exp_stat_sn, model.end.stat_sn);
    assert_true(iscsi_wire_is_pushed(model.end.wire));
    end_close(&model.end);
}

static void what_is_sent_arrives_however_it_is_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        seed_now = seed;
        seed_run(seed);
    }
    seed_now = 0;
}

static int seed_tell(void **state)
{
    (void)state;
    if (seed_now != 0) {
        print_message("seed %llu; its number as the argument replays it\n",
                      (unsigned long long)seed_now);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(what_is_sent_arrives_however_it_is_cut, seed_tell),
    };
    struct random random;

    random_seed(&random, 1);
    random_fill(&random, contents, sizeof(contents));
    if (argc > 1) {
        seed_run(strtoull(argv[1], NULL, 10));
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
