// SPDX-License-Identifier: Apache-2.0
/* A wire against a target that lies, breaks the rules, or goes away: each by itself. See also iscsi_wire_model.c. */
#include "tests/unit/iscsi_wire_target.h"

#include "base/check.h"
/* The first tags and the last ones are billions of commands apart: one test writes the number itself. */
#include "block/iscsi_wire_private.h"

enum { READ_BYTES = 8192, WRITE_BYTES = 100000, NOBODY = 0x123456 };

static struct end end;
static uint8_t read_data[READ_BYTES], write_data[WRITE_BYTES];
static struct iovec read_iov[2] = {{read_data, 5000}, {read_data + 5000, READ_BYTES - 5000}};
static struct iovec write_iov[2] = {{write_data, 1}, {write_data + 1, WRITE_BYTES - 1}};
/* One of each, at the target. */
static struct iscsi_cmd reading, writing, collecting, plain;

static struct iscsi_terms terms_of(bool immediate)
{
    struct iscsi_terms terms;

    iscsi_terms_preset(&terms);
    terms.cmd_sn = 10;
    terms.max_cmd_sn = 41;
    terms.exp_stat_sn = 100;
    terms.max_burst = 65536;
    terms.immediate_data = immediate;
    return terms;
}

static void orders_set(void)
{
    memset(&reading, 0, sizeof(reading));
    memset(&writing, 0, sizeof(writing));
    memset(&collecting, 0, sizeof(collecting));
    memset(&plain, 0, sizeof(plain));
    reading.direction = ISCSI_CMD_READ;
    reading.len = READ_BYTES;
    reading.iov = read_iov;
    reading.n_iov = ARRAY_LEN(read_iov);
    writing.direction = ISCSI_CMD_WRITE;
    writing.len = WRITE_BYTES;
    writing.iov = write_iov;
    writing.n_iov = ARRAY_LEN(write_iov);
    collecting.direction = ISCSI_CMD_READ;
    collecting.len = 4096;
}

static unsigned pdus_take(void)
{
    const uint8_t *data;
    unsigned n = 0;

    end_receive(&end, END_BYTES);
    while (end_next(&end, &data) != NULL) {
        n++;
    }
    return n;
}

static void up_with(const struct iscsi_terms *terms)
{
    end_open(&end, terms);
    orders_set();
    assert_int_equal(iscsi_wire_send(end.wire, &reading), 0);
    assert_int_equal(iscsi_wire_send(end.wire, &writing), 0);
    assert_int_equal(iscsi_wire_send(end.wire, &collecting), 0);
    assert_int_equal(iscsi_wire_send(end.wire, &plain), 0);
    assert_int_equal(iscsi_wire_push(end.wire), 0);
    assert_int_equal(pdus_take(), 4);
    end.exp_cmd_sn += 4;
}

static void up(void)
{
    struct iscsi_terms terms = terms_of(false);

    up_with(&terms);
}

/* What was put comes, whatever it is. */
static int heard(void)
{
    while (end.out_end > 0) {
        int err;

        end_flush(&end, END_BYTES);
        err = iscsi_wire_pull(end.wire);
        if (err != 0) {
            return err;
        }
    }
    return 0;
}

/* Pushes and pulls until nothing moves any more. */
static void all_moved(void)
{
    do {
        assert_int_equal(iscsi_wire_push(end.wire), 0);
        assert_int_equal(heard(), 0);
    } while (pdus_take() > 0);
}

static struct iscsi_cmd *over(void)
{
    return iscsi_wire_answered(end.wire);
}

/* --- what a target says --------------------------------------------------------------------------------------- */

static void tell_answer(const struct iscsi_cmd *cmd, uint8_t response, uint8_t status)
{
    uint8_t bhs[PDU_BHS];

    end_header(&end, bhs, PDU_SCSI_RESPONSE, PDU_FINAL, cmd->tag, true);
    bhs[2] = response;
    bhs[3] = status;
    end_put(&end, bhs, 0, NULL, 0);
}

static void tell_residual(const struct iscsi_cmd *cmd, uint8_t flag, uint32_t residual)
{
    uint8_t bhs[PDU_BHS];

    end_header(&end, bhs, PDU_SCSI_RESPONSE, PDU_FINAL | flag, cmd->tag, true);
    put_be32(bhs + PDU_F_RESIDUAL, residual);
    end_put(&end, bhs, 0, NULL, 0);
}

static void tell_r2t(uint32_t tag, uint32_t at, uint32_t len)
{
    uint8_t bhs[PDU_BHS];

    end_header(&end, bhs, PDU_R2T, PDU_FINAL, tag, false);
    put_be32(bhs + PDU_F_TTT, 77);
    put_be32(bhs + PDU_F_OFFSET, at);
    put_be32(bhs + PDU_F_RESIDUAL, len);
    end_put(&end, bhs, 0, NULL, 0);
}

static void tell_data(uint32_t tag, uint32_t at, uint32_t len, uint8_t flags)
{
    static const uint8_t bytes[2 * READ_BYTES];
    uint8_t bhs[PDU_BHS];

    end_header(&end, bhs, PDU_DATA_IN, flags, tag, (flags & PDU_DATA_IN_STATUS) != 0);
    put_be32(bhs + PDU_F_OFFSET, at);
    end_put(&end, bhs, 0, bytes, len);
}

/* That a PDU with such a header was rejected. */
static void tell_reject(enum pdu_opcode opcode, uint32_t tag, uint32_t len)
{
    uint8_t bhs[PDU_BHS];
    uint8_t bad[PDU_BHS];

    pdu_init(bad, opcode, PDU_FINAL, 0);
    put_be32(bad + PDU_F_ITT, tag);
    end_header(&end, bhs, PDU_REJECT, PDU_FINAL, PDU_NO_TAG, true);
    bhs[2] = PDU_REJECT_PROTOCOL;
    end_put(&end, bhs, 0, bad, len);
}

static void tell_async(uint8_t event)
{
    uint8_t bhs[PDU_BHS];

    end_header(&end, bhs, PDU_ASYNC, PDU_FINAL, PDU_NO_TAG, true);
    bhs[36] = event;
    end_put(&end, bhs, 0, NULL, 0);
}

static void tell_opcode(unsigned opcode, uint32_t len)
{
    static const uint8_t bytes[MAX_SEGMENT + 1];
    uint8_t bhs[PDU_BHS];

    end_header(&end, bhs, (enum pdu_opcode)opcode, PDU_FINAL, reading.tag, true);
    end_put(&end, bhs, 0, bytes, len);
}

static void tell_ping(uint32_t tag)
{
    uint8_t bhs[PDU_BHS];

    end_header(&end, bhs, PDU_NOP_IN, PDU_FINAL, PDU_NO_TAG, false);
    put_be32(bhs + PDU_F_TTT, tag);
    end_put(&end, bhs, 0, NULL, 0);
}

static void tell_task_response(uint8_t response)
{
    uint8_t bhs[PDU_BHS];

    end_header(&end, bhs, PDU_TASK_RESPONSE, PDU_FINAL, RESET_TAG, true);
    bhs[2] = response;
    end_put(&end, bhs, 0, NULL, 0);
}

/* --- what ends the session ------------------------------------------------------------------------------------ */

static void r2t_beyond(void)
{
    tell_r2t(writing.tag, 0, 65536);
    tell_r2t(writing.tag, 65536, WRITE_BYTES - 65536 + 1);
}

static void r2t_far_beyond(void)
{
    tell_r2t(writing.tag, 0xffffff00, 0x200);
}

static void r2t_of_nothing(void)
{
    tell_r2t(writing.tag, 0, 0);
}

static void r2t_longer_than_a_burst(void)
{
    tell_r2t(writing.tag, 0, 65537);
}

static void r2t_that_leaves_out(void)
{
    tell_r2t(writing.tag, 512, 512);
}

static void r2t_of_a_read(void)
{
    tell_r2t(reading.tag, 0, 512);
}

static void r2t_for_nothing(void)
{
    tell_r2t(plain.tag, 0, 512);
}

static void third_r2t(void)
{
    for (unsigned i = 0; i < 3; i++) {
        tell_r2t(writing.tag, i * 512, 512);
    }
}

static void data_too_early(void)
{
    tell_data(reading.tag, 512, 512, 0);
}

static void data_again(void)
{
    tell_data(reading.tag, 0, 512, 0);
    tell_data(reading.tag, 0, 512, 0);
}

static void data_too_long(void)
{
    tell_data(reading.tag, 0, READ_BYTES + 1, PDU_FINAL);
}

static void data_beyond(void)
{
    tell_data(reading.tag, 0, READ_BYTES, 0);
    tell_data(reading.tag, READ_BYTES, 1, PDU_FINAL);
}

static void data_collected_too_long(void)
{
    tell_data(collecting.tag, 0, 4000, 0);
    tell_data(collecting.tag, 4000, 97, PDU_FINAL);
}

static void data_for_a_write(void)
{
    tell_data(writing.tag, 0, 512, 0);
}

static void data_for_none(void)
{
    tell_data(plain.tag, 0, 0, PDU_FINAL);
}

static void data_for_nobody(void)
{
    tell_data(NOBODY, 0, 512, 0);
}

static void data_after_the_end(void)
{
    tell_answer(&reading, 0, 0);
    tell_data(reading.tag, 0, 512, 0);
}

static void segment_too_large(void)
{
    tell_opcode(PDU_SCSI_RESPONSE, MAX_SEGMENT + 1);
}

static void reject_of_what(void)
{
    tell_reject(PDU_SCSI_COMMAND, reading.tag, PDU_BHS - 1);
}

static void reject_of_nobody(void)
{
    tell_reject(PDU_SCSI_COMMAND, NOBODY, PDU_BHS);
}

static void reject_of_a_logout(void)
{
    tell_reject(PDU_LOGOUT_REQUEST, LOGOUT_TAG, PDU_BHS);
}

static void task_response_to_nothing(void)
{
    tell_task_response(0);
}

static void pings_without_end(void)
{
    for (uint32_t i = 0; i <= MAX_ECHOES; i++) {
        tell_ping(i);
    }
}

static void text(void)
{
    tell_opcode(PDU_TEXT_RESPONSE, 0);
}

static void another_login(void)
{
    tell_opcode(PDU_LOGIN_RESPONSE, 0);
}

static void a_request(void)
{
    tell_opcode(PDU_NOP_OUT, 0);
}

static void nonsense(void)
{
    tell_opcode(0x3e, 0);
}

static const struct {
    void (*tell)(void);
    const char *why;
} lies[] = {
    {r2t_beyond, "a request for 34465 bytes from 65536 on of 100000"},
    {r2t_far_beyond, "bytes from 4294967040 on of 100000"},
    {r2t_of_nothing, "a request for 0 bytes"},
    {r2t_longer_than_a_burst, "a request for 65537 bytes"},
    {r2t_that_leaves_out, "a request for data at 512, where 0 were asked for"},
    {r2t_of_a_read, "a command that has none"},
    {r2t_for_nothing, "a command that has none"},
    {third_r2t, "more requests for data at a time"},
    {data_too_early, "512 bytes of data at 512, where 0 of 8192 have come"},
    {data_again, "512 bytes of data at 0, where 512 of 8192 have come"},
    {data_too_long, "8193 bytes of data at 0"},
    {data_beyond, "1 bytes of data at 8192"},
    {data_collected_too_long, "97 bytes of data at 4000"},
    {data_for_a_write, "data of no command"},
    {data_for_none, "data of no command"},
    {data_for_nobody, "data of no command"},
    {data_after_the_end, "data of no command"},
    {segment_too_large, "65537 bytes with"},
    {reject_of_what, "does not say what"},
    {reject_of_nobody, "a command that is none"},
    {reject_of_a_logout, "it rejects"},
    {task_response_to_nothing, "an answer to no reset"},
    {pings_without_end, "pings without end"},
    {text, "a PDU that no target sends here (24h)"},
    {another_login, "(23h)"},
    {a_request, "(00h)"},
    {nonsense, "(3eh)"},
};

static void who_breaks_the_rules_is_left(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(lies); i++) {
        int err;

        up();
        lies[i].tell();
        err = heard();
        if (err != -EPROTO || strstr(iscsi_wire_why(end.wire), lies[i].why) == NULL) {
            fail_msg("%d \"%s\", not \"%s\"", err, iscsi_wire_why(end.wire), lies[i].why);
        }
        end_close(&end);
    }
}

static void a_wrong_digest_ends_the_session(void **state)
{
    struct iscsi_terms terms = terms_of(false);

    (void)state;
    terms.header_digest = true;
    for (unsigned i = 0; i < 2; i++) {
        up_with(&terms);
        if (i == 0) {
            tell_answer(&reading, 0, 0);
        } else {
            tell_data(reading.tag, 0, 512, 0);
        }
        end.out[PDU_BHS] ^= 1;
        assert_int_equal(heard(), -EPROTO);
        assert_non_null(strstr(iscsi_wire_why(end.wire), "digest"));
        assert_null(over());
        end_close(&end);
    }
}

static void the_end_of_the_stream_is_told_after_what_came_whole(void **state)
{
    (void)state;
    for (size_t cut = 1; cut < PDU_BHS + 512; cut += 47) {
        up();
        tell_answer(&plain, 0, 0);
        tell_data(reading.tag, 0, 512, 0);
        end_flush(&end, PDU_BHS + cut);
        close(end.fd);
        assert_int_equal(iscsi_wire_pull(end.wire), 0);
        assert_ptr_equal(over(), &plain);
        assert_null(over());
        assert_int_equal(iscsi_wire_pull(end.wire), -ECONNRESET);
        assert_true(iscsi_wire_is_closed(end.wire));
        assert_int_equal(iscsi_wire_send(end.wire, &plain), 0);
        assert_int_equal(iscsi_wire_push(end.wire), -EPIPE);
        iscsi_wire_free(end.wire);
    }
}

static void asynchronous_messages_end_the_session_when_they_ask_for_it(void **state)
{
    static const uint8_t events[] = {0, 1, 2, 3, 4, 255};

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(events); i++) {
        bool ends = events[i] == 1 || events[i] == 4;

        up();
        tell_async(events[i]);
        tell_answer(&plain, 0, 0);
        assert_int_equal(heard(), ends ? -ESHUTDOWN : 0);
        assert_ptr_equal(over(), ends ? NULL : &plain);
        end_close(&end);
    }
}

/* --- what is borne -------------------------------------------------------------------------------------------- */

static void statuses_have_their_meanings(void **state)
{
    static const struct {
        uint8_t response, status;
        enum iscsi_cmd_result result;
    } answers[] = {
        {0, 0x00, ISCSI_CMD_GOOD},     {0, 0x04, ISCSI_CMD_GOOD},
        {0, 0x02, ISCSI_CMD_CHECK},    {0, 0x08, ISCSI_CMD_BUSY},
        {0, 0x18, ISCSI_CMD_CONFLICT}, {0, 0x28, ISCSI_CMD_FULL},
        {0, 0x30, ISCSI_CMD_ABORTED},  {0, 0x40, ISCSI_CMD_ABORTED},
        {0, 0x22, ISCSI_CMD_REJECTED}, {0, 0xff, ISCSI_CMD_REJECTED},
        {1, 0x00, ISCSI_CMD_REJECTED}, {0x80, 0x00, ISCSI_CMD_REJECTED},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(answers); i++) {
        up();
        tell_answer(&plain, answers[i].response, answers[i].status);
        assert_int_equal(heard(), 0);
        assert_ptr_equal(over(), &plain);
        assert_int_equal(plain.result, answers[i].result);
        assert_false(plain.sense.valid);
        end_close(&end);
    }
}

static void sense_data_are_as_long_as_they_say(void **state)
{
    static const struct {
        uint8_t len, told;
        bool valid;
        uint8_t asc;
    } senses[] = {{20, 18, true, 0x27}, {20, 200, true, 0x27}, {20, 8, true, 0},
                  {20, 0, false, 0},    {2, 18, false, 0},     {1, 18, false, 0}};
    uint8_t bhs[PDU_BHS];

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(senses); i++) {
        uint8_t sense[20] = {0, senses[i].told, 0x70, [4] = SENSE_DATA_PROTECT, [14] = 0x27};

        up();
        end_header(&end, bhs, PDU_SCSI_RESPONSE, PDU_FINAL, plain.tag, true);
        bhs[3] = 0x02;
        end_put(&end, bhs, 0, sense, senses[i].len);
        assert_int_equal(heard(), 0);
        assert_ptr_equal(over(), &plain);
        assert_int_equal(plain.sense.valid, senses[i].valid);
        assert_int_equal(plain.sense.asc, senses[i].asc);
        end_close(&end);
    }
}

static void bytes_that_did_not_come_are_missing_whatever_is_said(void **state)
{
    static const struct {
        uint32_t come;
        uint8_t flag;
        uint32_t told, missing;
    } answers[] = {
        {READ_BYTES, 0, 0, 0},
        {READ_BYTES, 0, 7, 0}, /* without a flag the number says nothing */
        {READ_BYTES, PDU_RSP_UNDERFLOW, 7, 7},
        {READ_BYTES, PDU_RSP_OVERFLOW, 7, 7},
        {8000, PDU_RSP_UNDERFLOW, 192, 192},
        {8000, PDU_RSP_UNDERFLOW, 191, 192},
        {8000, 0, 0, 192},
        {0, 0, 0, READ_BYTES},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(answers); i++) {
        up();
        if (answers[i].come > 0) {
            tell_data(reading.tag, 0, answers[i].come, PDU_FINAL);
        }
        tell_residual(&reading, answers[i].flag, answers[i].told);
        assert_int_equal(heard(), 0);
        assert_ptr_equal(over(), &reading);
        assert_int_equal(reading.result, ISCSI_CMD_GOOD);
        assert_int_equal(reading.missing, answers[i].missing);
        end_close(&end);
    }
    /* A write whose data were asked for in part, and one whose data never were. */
    up();
    tell_r2t(writing.tag, 0, 60000);
    tell_answer(&writing, 0, 0);
    assert_int_equal(heard(), 0);
    assert_null(over());
    all_moved();
    assert_ptr_equal(over(), &writing);
    assert_int_equal(writing.missing, 40000);
    end_close(&end);
    up();
    tell_answer(&writing, 0, 0);
    assert_int_equal(heard(), 0);
    assert_ptr_equal(over(), &writing);
    assert_int_equal(writing.missing, WRITE_BYTES);
    end_close(&end);
}

static void collected_data_are_what_came(void **state)
{
    (void)state;
    up();
    tell_data(collecting.tag, 0, 1000, 0);
    tell_data(collecting.tag, 1000, 33, PDU_FINAL | PDU_DATA_IN_STATUS);
    assert_int_equal(heard(), 0);
    assert_ptr_equal(over(), &collecting);
    assert_int_equal(collecting.data_len, 1033);
    assert_int_equal(collecting.missing, 0);
    free(collecting.collected);
    end_close(&end);

    up(); /* a failure has no data */
    tell_data(collecting.tag, 0, 1000, PDU_FINAL);
    tell_answer(&collecting, 0, 0x08);
    assert_int_equal(heard(), 0);
    assert_ptr_equal(over(), &collecting);
    assert_int_equal(collecting.data_len, 0);
    free(collecting.collected);
    end_close(&end);

    up(); /* forgotten with all that it has */
    tell_data(collecting.tag, 0, 1000, 0);
    assert_int_equal(heard(), 0);
    end_close(&end);
    up();
    tell_data(collecting.tag, 0, 1000, PDU_FINAL | PDU_DATA_IN_STATUS);
    assert_int_equal(heard(), 0);
    end_close(&end);
}

static void more_than_anybody_collects_is_not_collected(void **state)
{
    struct iscsi_terms terms = terms_of(false);

    (void)state;
    end_open(&end, &terms);
    orders_set();
    collecting.len = MAX_COLLECTED + 1;
    assert_int_equal(iscsi_wire_send(end.wire, &collecting), 0);
    all_moved();
    tell_data(collecting.tag, 0, 512, 0);
    assert_int_equal(heard(), -ENOMEM);
    end_close(&end);
}

static void a_second_answer_meets_nobody(void **state)
{
    (void)state;
    up();
    tell_answer(&plain, 0, 0);
    tell_answer(&plain, 0, 0x02);
    tell_r2t(plain.tag, 0, 512);
    tell_answer(&(struct iscsi_cmd){.tag = NOBODY}, 0, 0);
    tell_answer(&(struct iscsi_cmd){.tag = reading.tag + TABLE}, 0, 0); /* of long ago */
    tell_answer(&(struct iscsi_cmd){.tag = PDU_NO_TAG}, 0, 0);
    assert_int_equal(heard(), 0);
    assert_ptr_equal(over(), &plain);
    assert_int_equal(plain.result, ISCSI_CMD_GOOD);
    assert_null(over());
    end_close(&end);
}

/* GOOD for a write that waits for its place in the window would pass for written. */
static void what_was_not_sent_is_not_answered(void **state)
{
    struct iscsi_terms terms = terms_of(false);

    (void)state;
    terms.max_cmd_sn = terms.cmd_sn + 3;
    up_with(&terms);
    tell_answer(&plain, 0, 0);
    assert_int_equal(heard(), 0);
    assert_ptr_equal(over(), &plain);
    assert_int_equal(iscsi_wire_room(end.wire), 0);
    assert_int_equal(iscsi_wire_send(end.wire, &plain), 0);
    assert_int_equal(iscsi_wire_push(end.wire), 0);
    assert_true(iscsi_wire_is_pushed(end.wire));
    assert_int_equal(pdus_take(), 0);
    for (uint32_t tag = 0; tag < 16; tag++) {
        if (tag != reading.tag && tag != writing.tag && tag != collecting.tag) {
            tell_answer(&(struct iscsi_cmd){.tag = tag}, 0, 0);
        }
    }
    assert_int_equal(heard(), 0);
    assert_int_equal(iscsi_wire_push(end.wire), 0);
    assert_null(over());
    end.max_cmd_sn++;
    tell_ping(PDU_NO_TAG);
    assert_int_equal(heard(), 0);
    assert_int_equal(iscsi_wire_push(end.wire), 0);
    assert_int_equal(pdus_take(), 1);
    tell_answer(&plain, 0, 0);
    assert_int_equal(heard(), 0);
    assert_ptr_equal(over(), &plain);
    end_close(&end);
}

static void an_early_answer_waits_for_the_data(void **state)
{
    static const uint8_t statuses[] = {0x00, 0x02};

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(statuses); i++) {
        up();
        tell_r2t(writing.tag, 0, 65536);
        assert_int_equal(heard(), 0);
        assert_int_equal(iscsi_wire_push(end.wire), 0); /* as far as the socket takes it */
        assert_false(iscsi_wire_is_pushed(end.wire));
        tell_answer(&writing, 0, statuses[i]);
        assert_int_equal(heard(), 0);
        assert_null(over());
        all_moved();
        assert_ptr_equal(over(), &writing);
        assert_null(over());
        end_close(&end);
    }
}

static void rejects_meet_what_they_name(void **state)
{
    int response = 0;

    (void)state;
    up();
    tell_reject(PDU_SCSI_COMMAND, plain.tag, PDU_BHS);
    tell_reject(PDU_DATA_OUT, writing.tag, PDU_BHS); /* its status comes yet */
    tell_reject(PDU_NOP_OUT, PDU_NO_TAG, PDU_BHS);
    tell_reject(PDU_TASK_REQUEST, RESET_TAG, PDU_BHS);
    assert_int_equal(heard(), 0);
    assert_ptr_equal(over(), &plain);
    assert_int_equal(plain.result, ISCSI_CMD_REJECTED);
    assert_null(over());
    assert_false(iscsi_wire_reset_answer(end.wire, &response));

    iscsi_wire_ping(end.wire);
    iscsi_wire_reset_lun(end.wire);
    assert_int_equal(iscsi_wire_push(end.wire), 0);
    assert_int_equal(pdus_take(), 2);
    tell_reject(PDU_NOP_OUT, PING_TAG, PDU_BHS);
    tell_reject(PDU_TASK_REQUEST, RESET_TAG, PDU_BHS);
    assert_int_equal(heard(), 0);
    assert_false(iscsi_wire_pinging(end.wire));
    assert_true(iscsi_wire_reset_answer(end.wire, &response));
    assert_int_equal(response, -1);
    end_close(&end);
}

static void a_reset_is_answered_once(void **state)
{
    const uint8_t *bhs;
    const uint8_t *data;
    int response;

    (void)state;
    for (uint8_t said = 0; said < 6; said += 5) {
        up();
        iscsi_wire_reset_lun(end.wire);
        assert_int_equal(iscsi_wire_push(end.wire), 0);
        end_receive(&end, END_BYTES);
        bhs = end_next(&end, &data);
        assert_non_null(bhs);
        assert_int_equal(bhs[PDU_F_OPCODE], PDU_TASK_REQUEST | PDU_IMMEDIATE);
        assert_int_equal(bhs[PDU_F_FLAGS], PDU_FINAL | 5);
        assert_int_equal(pdu_lun_decode(bhs + PDU_F_LUN), END_LUN);
        assert_int_equal(get_be32(bhs + PDU_F_TTT), PDU_NO_TAG); /* no task is referred to */
        assert_int_equal(get_be32(bhs + PDU_F_CMD_SN), end.exp_cmd_sn);
        tell_task_response(said);
        assert_int_equal(heard(), 0);
        assert_true(iscsi_wire_reset_answer(end.wire, &response));
        assert_int_equal(response, said);
        assert_false(iscsi_wire_reset_answer(end.wire, &response));
        end_close(&end);
    }
}

static void pings_are_given_back(void **state)
{
    const uint8_t *bhs;
    const uint8_t *data;
    uint32_t seen = 0;

    (void)state;
    up();
    for (unsigned round = 0; round < 3; round++) { /* each as many as there may be at a time */
        for (uint32_t i = 0; i < MAX_ECHOES; i++) {
            uint8_t header[PDU_BHS];

            end_header(&end, header, PDU_NOP_IN, PDU_FINAL, PDU_NO_TAG, false);
            put_be64(header + PDU_F_LUN, i);
            put_be32(header + PDU_F_TTT, 1000 + i);
            end_put(&end, header, 0, NULL, 0);
        }
        assert_int_equal(heard(), 0);
        assert_int_equal(iscsi_wire_push(end.wire), 0);
        end_receive(&end, END_BYTES);
        while ((bhs = end_next(&end, &data)) != NULL) {
            assert_int_equal(bhs[PDU_F_OPCODE], PDU_NOP_OUT | PDU_IMMEDIATE);
            assert_int_equal(pdu_itt(bhs), PDU_NO_TAG);
            assert_int_equal(get_be32(bhs + PDU_F_TTT), 1000 + get_be64(bhs + PDU_F_LUN));
            seen++;
        }
    }
    assert_int_equal(seen, 3 * MAX_ECHOES);
    end_close(&end);
}

static void nothing_is_sent_after_a_logout(void **state)
{
    struct iscsi_cmd late = {.direction = ISCSI_CMD_NONE};
    const uint8_t *bhs;
    const uint8_t *data;

    (void)state;
    up();
    assert_int_equal(iscsi_wire_send(end.wire, &late), 0);
    iscsi_wire_logout(end.wire);
    assert_int_equal(iscsi_wire_push(end.wire), 0);
    end_receive(&end, END_BYTES);
    bhs = end_next(&end, &data);
    assert_non_null(bhs);
    assert_int_equal(bhs[PDU_F_OPCODE], PDU_LOGOUT_REQUEST | PDU_IMMEDIATE);
    assert_int_equal(bhs[PDU_F_FLAGS], PDU_FINAL); /* of the session */
    assert_null(end_next(&end, &data));
    tell_r2t(writing.tag, 0, 512);
    tell_ping(5);
    tell_opcode(PDU_LOGOUT_RESPONSE, 0);
    assert_int_equal(heard(), 0);
    assert_int_equal(iscsi_wire_push(end.wire), 0);
    assert_true(iscsi_wire_is_pushed(end.wire));
    assert_int_equal(pdus_take(), 0);
    end_close(&end);
}

/* --- windows, tags, and a target that does not read -------------------------------------------------------------- */

static void the_window_is_believed_as_far_as_it_can_be(void **state)
{
    static const struct {
        uint32_t exp, max; /* after the four commands that the target has */
        unsigned room;
    } windows[] = {
        {14, 13, 28}, /* it has said 41 before: none goes back */
        {14, 42, 29},
        {14, 14 + 0x7fffffffu, 2044}, /* as far as RFC 1982 tells before from after */
        {14, 15 + 0x7fffffffu, 28},
        {60, 50, 28}, /* contradicts itself */
        {51, 50, 37},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(windows); i++) {
        up();
        end.exp_cmd_sn = windows[i].exp;
        end.max_cmd_sn = windows[i].max;
        tell_ping(PDU_NO_TAG);
        assert_int_equal(heard(), 0);
        assert_int_equal(iscsi_wire_room(end.wire), windows[i].room);
        end_close(&end);
    }
}

static void no_more_commands_than_there_are_places(void **state)
{
    static struct iscsi_cmd many[MAX_COMMANDS];
    struct iscsi_terms terms = terms_of(false);
    unsigned n = 0;

    (void)state;
    terms.max_cmd_sn = terms.cmd_sn + 100000;
    end_open(&end, &terms);
    assert_int_equal(iscsi_wire_room(end.wire), MAX_COMMANDS);
    for (unsigned i = 0; i < MAX_COMMANDS; i++) {
        memset(&many[i], 0, sizeof(many[i]));
        assert_int_equal(iscsi_wire_send(end.wire, &many[i]), 0);
    }
    assert_int_equal(iscsi_wire_send(end.wire, &plain), -ENOMEM);
    assert_int_equal(iscsi_wire_room(end.wire), 0);
    while (n < MAX_COMMANDS) {
        assert_int_equal(iscsi_wire_push(end.wire), 0);
        n += pdus_take();
    }
    tell_answer(&many[1000], 0, 0);
    assert_int_equal(heard(), 0);
    assert_ptr_equal(over(), &many[1000]);
    assert_int_equal(iscsi_wire_send(end.wire, &many[1000]), 0);
    end_close(&end);
}

static void tags_begin_again_and_pass_by_who_is_still_there(void **state)
{
    static struct iscsi_cmd many[300];
    struct iscsi_terms terms = terms_of(false);
    uint32_t old;

    (void)state;
    terms.max_cmd_sn = terms.cmd_sn + 1000;
    up_with(&terms); /* four have the tags 1 to 4 */
    old = reading.tag;
    end.wire->next_tag = LAST_TAG - 100;
    for (unsigned i = 0; i < ARRAY_LEN(many); i++) {
        memset(&many[i], 0, sizeof(many[i]));
        assert_int_equal(iscsi_wire_send(end.wire, &many[i]), 0);
    }
    all_moved();
    for (unsigned i = 0; i < ARRAY_LEN(many); i++) {
        assert_true(many[i].tag > 0 && many[i].tag <= LAST_TAG);
        for (unsigned j = 0; j < i; j++) {
            assert_int_not_equal(many[i].tag % TABLE, many[j].tag % TABLE);
        }
        assert_int_not_equal(many[i].tag % TABLE, old % TABLE);
        tell_answer(&many[i], 0, 0);
    }
    assert_int_equal(heard(), 0);
    for (unsigned i = 0; i < ARRAY_LEN(many); i++) {
        assert_ptr_equal(over(), &many[i]);
    }
    assert_null(over());
    tell_answer(&reading, 0, 0);
    assert_int_equal(heard(), 0);
    assert_ptr_equal(over(), &reading);
    end_close(&end);
}

/* It is answered all the same, and nothing is kept for it but what its owner has. */
static void a_target_that_does_not_read_is_waited_for(void **state)
{
    struct iscsi_terms terms = terms_of(true);

    (void)state;
    terms.initial_r2t = false;
    end_open(&end, &terms);
    orders_set();
    assert_int_equal(iscsi_wire_send(end.wire, &plain), 0);
    assert_int_equal(iscsi_wire_send(end.wire, &writing), 0);
    assert_int_equal(iscsi_wire_send(end.wire, &reading), 0);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(iscsi_wire_push(end.wire), 0);
        assert_false(iscsi_wire_is_pushed(end.wire));
        tell_ping(PDU_NO_TAG);
        assert_int_equal(heard(), 0);
    }
    assert_null(over());
    iscsi_wire_logout(end.wire);
    assert_int_equal(iscsi_wire_push(end.wire), 0);
    end_close(&end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_breaks_the_rules_is_left),
        cmocka_unit_test(a_wrong_digest_ends_the_session),
        cmocka_unit_test(the_end_of_the_stream_is_told_after_what_came_whole),
        cmocka_unit_test(asynchronous_messages_end_the_session_when_they_ask_for_it),
        cmocka_unit_test(statuses_have_their_meanings),
        cmocka_unit_test(sense_data_are_as_long_as_they_say),
        cmocka_unit_test(bytes_that_did_not_come_are_missing_whatever_is_said),
        cmocka_unit_test(collected_data_are_what_came),
        cmocka_unit_test(more_than_anybody_collects_is_not_collected),
        cmocka_unit_test(a_second_answer_meets_nobody),
        cmocka_unit_test(what_was_not_sent_is_not_answered),
        cmocka_unit_test(an_early_answer_waits_for_the_data),
        cmocka_unit_test(rejects_meet_what_they_name),
        cmocka_unit_test(a_reset_is_answered_once),
        cmocka_unit_test(pings_are_given_back),
        cmocka_unit_test(nothing_is_sent_after_a_logout),
        cmocka_unit_test(the_window_is_believed_as_far_as_it_can_be),
        cmocka_unit_test(no_more_commands_than_there_are_places),
        cmocka_unit_test(tags_begin_again_and_pass_by_who_is_still_there),
        cmocka_unit_test(a_target_that_does_not_read_is_waited_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
