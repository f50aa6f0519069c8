// SPDX-License-Identifier: Apache-2.0
/*
 * What the PDUs of the full feature phase do: commands with their data, pings, logout.
 *
 * Data of a write comes in up to three ways: with the command (ImmediateData), unasked after it
 * (InitialR2T=No, up to FirstBurstLength), and asked for by R2T, at most MaxOutstandingR2T at once.
 * All of it arrives in order (DataPDUInOrder, DataSequenceInOrder), so that one offset says what has
 * to come next. What a task has asked for counts against a limit of its connection, and memory that
 * is promised is never more than that.
 */
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "target/connection.h"
#include "target/server.h"

enum { COPY_FROM = SLICES_TABLE - 64 };

static void collect_go_on(struct task *task);

/* ---- numbering ---- */

enum numbering { NUMBER_NOW, NUMBER_LATER, NUMBER_DROP };

static enum numbering number(struct connection *conn)
{
    struct session *session = conn->session;
    if (pdu_immediate(conn->rx_bhs)) {
        return NUMBER_NOW;
    }
    uint32_t sn = get_be32(conn->rx_bhs + PDU_F_CMD_SN);
    if (!session) {
        conn->login.cmd_sn = sn + 1;
        return NUMBER_NOW;
    }
    if (sn == session->exp_cmd_sn && session->n_open < session->window) {
        session->exp_cmd_sn++;
        return NUMBER_NOW;
    }
    if (sn_diff(sn, session->exp_cmd_sn) < 0 || sn_diff(sn, session_max_cmd_sn(session)) > 0) {
        return NUMBER_DROP; /* RFC 7143, 4.2.2.1: silently */
    }
    return NUMBER_LATER;
}

/* ---- the payload of a command ---- */

static uint32_t slices_len(const struct slices *slices)
{
    size_t len = 0;
    for (unsigned i = 0; i < slices->count; i++) {
        len += slices->items[i].len;
    }
    return (uint32_t)len;
}

/* Appends to a task whose data comes in too many pieces. */
static bool append_copy(struct shard *shard, struct task *task, const uint8_t *data, size_t len)
{
    struct slices *out = &task->cmd.out;
    while (len > 0) {
        struct slice *last = &out->items[out->count - 1];
        size_t room = 0;
        if (task->copying) {
            room = last->buffer->size - (size_t)(last->data - last->buffer->data) - last->len;
        }
        if (room == 0) {
            if (!shard_data_get(shard, out, SHARD_LARGE)) {
                return false;
            }
            task->copying = true;
            out->items[out->count - 1].len = 0;
            continue;
        }
        size_t part = len < room ? len : room;
        memcpy(last->data + last->len, data, part);
        last->len += part;
        data += part;
        len -= part;
    }
    return true;
}

/* Takes what arrived, as far as it is wanted. */
static bool take_data(struct connection *conn, struct task *task)
{
    struct slices *out = &task->cmd.out;
    uint32_t left = task->out_next < task->out_want ? task->out_want - task->out_next : 0;
    for (unsigned i = 0; i < conn->rx_data.count; i++) {
        struct slice *slice = &conn->rx_data.items[i];
        size_t part = slice->len < left ? slice->len : left;
        left -= (uint32_t)part;
        task->out_next += (uint32_t)slice->len;
        conn->collected += slice->len;
        if (part == 0) {
            continue;
        }
        if (task->copying || out->count >= COPY_FROM) {
            if (!append_copy(conn->shard, task, slice->data, part)) {
                return false;
            }
            continue;
        }
        if (!slices_reserve(conn->shard, out)) {
            return false;
        }
        out->items[out->count++] = *slice; /* the reference too */
        out->items[out->count - 1].len = part;
        slice->buffer = NULL;
    }
    return true;
}

static void truncate_out(struct task *task, uint32_t want)
{
    struct slices *out = &task->cmd.out;
    uint32_t len = slices_len(out);
    while (len > want) {
        struct slice *last = &out->items[out->count - 1];
        if (len - last->len >= want) {
            len -= (uint32_t)last->len;
            slice_unref(last);
            out->count--;
        } else {
            last->len -= len - want;
            len = want;
        }
    }
}

static void queue_task(struct task *task)
{
    if (!task->queued) {
        task->queued = true;
        connection_send(task->session->conn, &task->item);
    }
}

/* Memory for the rest of a command's data, all of it, before the first R2T. */
static bool promise(struct task *task)
{
    struct connection *conn = task->session->conn;
    struct shard *shard = conn->shard;
    if (task->promised > 0) {
        return true;
    }
    uint32_t need = task->out_want - task->out_next;
    bool fits_conn =
        conn->promised == 0 || conn->promised + need <= conn->server->limits.connection_bytes;
    bool fits_shard = shard->promised == 0 || shard->promised + need <= shard->promise_limit;
    if (!fits_conn || !fits_shard) {
        if (list_empty(&task->promise_link)) {
            list_push_back(&shard->promise_waiting, &task->promise_link);
        }
        return false;
    }
    list_remove(&task->promise_link);
    task->promised = need;
    conn->promised += need;
    shard->promised += need;
    return true;
}

/* What is left of a session whose connection is gone, and waits to be aborted, wants nothing. */
static bool wants_r2t(struct task *task)
{
    return task->session->conn != NULL && !task->unsolicited && !task->discard &&
           task->r2t_offset < task->out_want &&
           task->r2t_sn - task->r2t_arriving < task->session->values.max_outstanding_r2t &&
           promise(task);
}

void command_promise_wake(struct shard *shard)
{
    list_for_each_safe(link, next, &shard->promise_waiting)
    {
        struct task *task = list_entry(link, struct task, promise_link);
        if (wants_r2t(task)) {
            queue_task(task);
        }
    }
}

/* The command as far as the device server is concerned is complete, or not wanted. */
static void collected(struct task *task)
{
    struct connection *conn = task->session->conn;
    conn->collected -= task->out_next;
    task_move(task, TASK_EXECUTE);
    if (task->cmd.ended) {
        command_ready(&task->cmd);
    } else {
        scsi_execute(&task->cmd);
    }
}

static void collect_go_on(struct task *task)
{
    bool asked = task->r2t_arriving < task->r2t_sn;
    if (!task->unsolicited && !asked && (task->discard || task->out_next >= task->out_want)) {
        collected(task);
        return;
    }
    if (wants_r2t(task)) {
        queue_task(task);
    }
}

/* Data that is not what it should be: the command fails once everything announced has come. */
static void data_error(struct task *task, enum scsi_asc asc)
{
    struct connection *conn = task->session->conn;
    count_add(&conn->target->counters.protocol_errors, 1);
    log_debug("conn[%s] data-out of task %08x is wrong: %04x", conn->name, task->itt, asc);
    task->discard = true;
    if (!task->cmd.ended) {
        scsi_fail(&task->cmd, SCSI_ABORTED_COMMAND, asc);
    }
}

void command_start(struct task *task)
{
    struct session *session = task->session;
    uint32_t want = 0;
    if (!task->cmd.ended) {
        scsi_start(&task->cmd);
    }
    if (!task->cmd.ended) {
        want =
            task->cmd.out_len < task->cmd.expected_out ? task->cmd.out_len : task->cmd.expected_out;
    } else {
        task->discard = true;
    }
    task->out_want = want;
    truncate_out(task, want);
    task->r2t_offset = task->out_next;
    if (!task->unsolicited && task->out_next >= want) {
        session->conn->collected -= task->out_next;
        task_move(task, TASK_EXECUTE);
        if (task->cmd.ended) {
            command_ready(&task->cmd);
        } else {
            scsi_execute(&task->cmd);
        }
        return;
    }
    task->waiting_since = loop_now_ns(session->conn->shard->loop);
    task_move(task, TASK_COLLECT);
    collect_go_on(task);
}

static void start_held(struct session *session)
{
    for (;;) {
        struct task *next = NULL;
        list_for_each(link, &session->held)
        {
            struct task *task = list_entry(link, struct task, link);
            if (task->cmd_sn == session->exp_cmd_sn) {
                next = task;
            }
        }
        if (!next || !session->conn) {
            return;
        }
        session->exp_cmd_sn++;
        session->n_open++;
        next->counted = true;
        command_start(next);
    }
}

static void scsi_command(struct connection *conn)
{
    struct session *session = conn->session;
    const uint8_t *bhs = conn->rx_bhs;
    uint32_t itt = pdu_itt(bhs);
    if (!session || itt == PDU_NO_TAG) {
        connection_reject(conn, session ? PDU_REJECT_INVALID_FIELD : PDU_REJECT_PROTOCOL);
        return;
    }
    enum numbering numbering = number(conn);
    if (numbering == NUMBER_DROP) {
        return;
    }
    if (session_find(session, itt)) {
        connection_reject(conn, PDU_REJECT_TASK_IN_PROGRESS);
        return;
    }
    struct task *task = task_new(session, itt);
    CHECK(task != NULL); /* nothing is parsed while none is free */
    task->flags = bhs[PDU_F_FLAGS];
    task->immediate = pdu_immediate(bhs);
    task->edtl = get_be32(bhs + 20);
    task->cmd_sn = get_be32(bhs + PDU_F_CMD_SN);
    memcpy(task->lun, bhs + PDU_F_LUN, 8);
    struct scsi_cmd *cmd = &task->cmd;
    memcpy(cmd->cdb, bhs + 32, sizeof(cmd->cdb));
    cmd->lun_number = pdu_lun_decode(task->lun);
    cmd->attribute = (enum scsi_attribute)(task->flags & 7);
    cmd->expected_out = task->flags & PDU_CMD_WRITE ? task->edtl : 0;
    cmd->expected_in =
        (task->flags & (PDU_CMD_READ | PDU_CMD_WRITE)) == PDU_CMD_READ ? task->edtl : 0;
    count_add(&conn->target->counters.commands, 1);

    uint32_t first = session->values.first_burst;
    if (first > cmd->expected_out) {
        first = cmd->expected_out;
    }
    uint32_t len = slices_len(&conn->rx_data);
    task->out_want = cmd->expected_out;
    if (pdu_ahs_len(bhs) > 0) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_INVALID_OPCODE); /* no long CDBs */
    }
    if (len > 0 && (!session->values.immediate_data || len > first)) {
        if (!cmd->ended) {
            scsi_fail(cmd, SCSI_ABORTED_COMMAND, ASC_UNEXPECTED_DATA);
        }
        task->out_want = 0;
    }
    if (!take_data(conn, task)) {
        connection_close(conn, "out of memory for data");
        return;
    }
    if (!(task->flags & PDU_FINAL) && !session->values.initial_r2t && len < first) {
        task->unsolicited = true;
        task->burst_end = first;
    }
    if (numbering == NUMBER_LATER) {
        task_move(task, TASK_HELD);
        return;
    }
    if (!task->immediate) {
        session->n_open++;
        task->counted = true;
    }
    command_start(task);
}

static bool data_out_is_right(const struct connection *conn, const struct task *task,
                              enum scsi_asc *ret_asc)
{
    const uint8_t *bhs = conn->rx_bhs;
    uint32_t ttt = get_be32(bhs + PDU_F_TTT);
    uint32_t len = pdu_data_len(bhs);
    if (task->unsolicited != (ttt == PDU_NO_TAG)) {
        *ret_asc = ASC_UNEXPECTED_DATA;
        return false;
    }
    if (get_be32(bhs + PDU_F_DATA_SN) != task->data_sn) {
        *ret_asc = ASC_PROTOCOL_CRC;
        return false;
    }
    if (get_be32(bhs + PDU_F_OFFSET) != task->out_next || len > task->burst_end - task->out_next ||
        (!task->unsolicited && pdu_final(bhs) && len < task->burst_end - task->out_next)) {
        *ret_asc = ASC_INCORRECT_DATA;
        return false;
    }
    return true;
}

void command_data_out(struct connection *conn)
{
    struct session *session = conn->session;
    const uint8_t *bhs = conn->rx_bhs;
    struct task *task = session ? session_find(session, pdu_itt(bhs)) : NULL;
    if (!task ||
        (task->state != TASK_COLLECT && !(task->state == TASK_HELD && task->unsolicited))) {
        return; /* of a command that was aborted, say */
    }
    uint32_t ttt = get_be32(bhs + PDU_F_TTT);
    if (ttt != PDU_NO_TAG &&
        (task->r2t_arriving == task->r2t_sn || ttt != (task->r2t_arriving << 16 | task->index))) {
        connection_reject(conn, PDU_REJECT_PROTOCOL);
        return;
    }
    if (!task->unsolicited && task->data_sn == 0) {
        uint32_t left = task->out_want > task->out_next ? task->out_want - task->out_next : 0;
        uint32_t burst = session->values.max_burst;
        task->burst_end = task->out_next + (left < burst ? left : burst);
    }
    enum scsi_asc asc;
    if (!task->discard && !data_out_is_right(conn, task, &asc)) {
        data_error(task, asc);
    }
    task->waiting_since = loop_now_ns(conn->shard->loop);
    task->data_sn++;
    bool complete = pdu_final(bhs);
    if (!task->cmd.ended || task->unsolicited) {
        if (!take_data(conn, task)) {
            connection_close(conn, "out of memory for data");
            return;
        }
        uint32_t len = slices_len(&conn->rx_data);
        if (ttt != PDU_NO_TAG) {
            uint32_t got = len < task->r2t_credit ? len : task->r2t_credit;
            task->r2t_credit -= got;
        }
        complete |= task->out_next >= task->burst_end;
    }
    if (!complete) {
        return;
    }
    task->data_sn = 0;
    if (task->unsolicited) {
        task->unsolicited = false;
        task->r2t_offset = task->out_next;
    } else {
        task->r2t_arriving++;
    }
    if (task->state == TASK_COLLECT) {
        collect_go_on(task);
    }
}

/* ---- answers ---- */

void command_ready(struct scsi_cmd *cmd)
{
    struct task *task = container_of(cmd, struct task, cmd);
    struct session *session = task->session;
    struct target_counters *counters = &session->target->counters;
    if (task->aborted || !session->conn) {
        task->aborted |= !session->conn;
        task_free(task);
        return;
    }
    slices_clear(session->conn->shard, &cmd->out);
    task_unpromise(task);
    if (cmd->status == SCSI_CHECK_CONDITION) {
        count_add(&counters->check_conditions, 1);
    } else if (cmd->status == SCSI_RESERVATION_CONFLICT) {
        count_add(&counters->reservation_conflicts, 1);
    } else if (cmd->effect == SCSI_READS) {
        count_add(&counters->reads, 1);
        count_add(&counters->read_bytes, cmd->in_len);
    } else if (cmd->effect == SCSI_WRITES) {
        count_add(&counters->writes, 1);
        count_add(&counters->write_bytes, cmd->out_len);
    }
    if (cmd->status != SCSI_GOOD) {
        cmd->in_len = 0;
    }
    task->in_total = cmd->in_len < cmd->expected_in ? cmd->in_len : cmd->expected_in;
    task_move(task, TASK_SEND);
    queue_task(task);
}

static uint8_t residual(const struct task *task, uint32_t *ret_residual)
{
    const struct scsi_cmd *cmd = &task->cmd;
    uint32_t moved;
    if (task->flags & PDU_CMD_WRITE) {
        moved = cmd->out_len;
    } else if (task->flags & PDU_CMD_READ) {
        moved = cmd->in_len;
    } else {
        moved = cmd->out_len ? cmd->out_len : cmd->in_len;
    }
    *ret_residual = 0;
    if (moved > task->edtl) {
        *ret_residual = moved - task->edtl;
        return PDU_RSP_OVERFLOW;
    }
    if (moved < task->edtl) {
        *ret_residual = task->edtl - moved;
        return PDU_RSP_UNDERFLOW;
    }
    return 0;
}

static bool next_r2t(struct task *task, struct tx_pdu *pdu)
{
    struct session *session = task->session;
    if (!wants_r2t(task)) {
        pdu->made = false;
        return true;
    }
    uint32_t left = task->out_want - task->r2t_offset;
    uint32_t len = left < session->values.max_burst ? left : session->values.max_burst;
    uint8_t *bhs = pdu->bhs;
    pdu_init(bhs, PDU_R2T, PDU_FINAL, 0);
    memcpy(bhs + PDU_F_LUN, task->lun, 8);
    put_be32(bhs + PDU_F_ITT, task->itt);
    put_be32(bhs + PDU_F_TTT, task->r2t_sn << 16 | task->index);
    put_be32(bhs + 36, task->r2t_sn);
    put_be32(bhs + 40, task->r2t_offset);
    put_be32(bhs + 44, len);
    task->r2t_sn++;
    task->r2t_offset += len;
    task->r2t_credit += len;
    return !wants_r2t(task);
}

static bool next_data_in(struct task *task, struct tx_pdu *pdu)
{
    const struct keys_values *values = &task->session->values;
    struct scsi_cmd *cmd = &task->cmd;
    uint32_t left = task->in_total - task->in_sent;
    uint32_t burst = values->max_burst - task->burst_sent;
    uint32_t len = left < values->max_recv_segment ? left : values->max_recv_segment;
    len = len < burst ? len : burst;
    bool last = len == left;
    bool end = last || len == burst;
    uint8_t *bhs = pdu->bhs;
    pdu_init(bhs, PDU_DATA_IN, end ? PDU_FINAL : 0, len);
    put_be32(bhs + PDU_F_ITT, task->itt);
    put_be32(bhs + PDU_F_TTT, PDU_NO_TAG);
    put_be32(bhs + PDU_F_DATA_SN, task->in_sn++);
    put_be32(bhs + PDU_F_OFFSET, task->in_sent);
    pdu->slices = &cmd->in;
    pdu->data_offset = task->in_sent;
    pdu->data_len = len;
    task->in_sent += len;
    task->burst_sent = end ? 0 : task->burst_sent + len;
    if (last) {
        uint32_t rest;
        bhs[PDU_F_FLAGS] |= PDU_DATA_IN_STATUS | residual(task, &rest);
        bhs[3] = cmd->status;
        put_be32(bhs + PDU_F_RESIDUAL, rest);
        task_settle(task);
    }
    return last;
}

bool command_next_pdu(struct task *task, struct tx_pdu *pdu, uint8_t *sense_space)
{
    if (task->state == TASK_COLLECT) {
        return next_r2t(task, pdu);
    }
    struct scsi_cmd *cmd = &task->cmd;
    if (task->in_total > task->in_sent) {
        return next_data_in(task, pdu);
    }
    uint8_t *bhs = pdu->bhs;
    uint32_t rest;
    uint8_t flags = PDU_FINAL | residual(task, &rest);
    size_t len = 0;
    if (cmd->status == SCSI_CHECK_CONDITION) {
        len = scsi_sense_encode(cmd, sense_space + 2);
        put_be16(sense_space, (uint32_t)len);
        len += 2;
        pdu->bytes = sense_space;
        pdu->data_len = (uint32_t)len;
    }
    pdu_init(bhs, PDU_SCSI_RESPONSE, flags, (uint32_t)len);
    bhs[3] = cmd->status;
    put_be32(bhs + PDU_F_ITT, task->itt);
    put_be32(bhs + 36, task->in_sn); /* ExpDataSN */
    put_be32(bhs + PDU_F_RESIDUAL, rest);
    task_settle(task);
    return true;
}

/* ---- other PDUs ---- */

static void nop_out(struct connection *conn)
{
    const uint8_t *bhs = conn->rx_bhs;
    if (pdu_itt(bhs) == PDU_NO_TAG) {
        return; /* the answer to a ping of ours, or no answer wanted */
    }
    if (number(conn) != NUMBER_NOW) {
        return;
    }
    struct message *message = connection_message(conn, PDU_NOP_IN, PDU_FINAL);
    if (!message) {
        connection_close(conn, "out of messages");
        return;
    }
    memcpy(message->bhs + PDU_F_LUN, bhs + PDU_F_LUN, 8);
    put_be32(message->bhs + PDU_F_ITT, pdu_itt(bhs));
    put_be32(message->bhs + PDU_F_TTT, PDU_NO_TAG);
    /* The ping's data goes back as it came, as much as the initiator takes. */
    uint32_t left = conn->keys.values.max_recv_segment;
    for (unsigned i = 0; i < conn->rx_data.count && left > 0; i++) {
        struct slice *slice = &conn->rx_data.items[i];
        if (!slices_reserve(conn->shard, &message->slices)) {
            break;
        }
        size_t part = slice->len < left ? slice->len : left;
        left -= (uint32_t)part;
        message->slices.items[message->slices.count++] =
            (struct slice){.buffer = slice->buffer, .data = slice->data, .len = part};
        slice->buffer = NULL;
        message->len += part;
    }
    connection_post(conn, message);
}

static void logout(struct connection *conn)
{
    const uint8_t *bhs = conn->rx_bhs;
    if (number(conn) != NUMBER_NOW) {
        return;
    }
    unsigned reason = bhs[PDU_F_FLAGS] & 0x7f;
    uint8_t response = 0;
    if (reason == 2) {
        response = 2; /* recovery is not supported */
    } else if (reason > 2) {
        connection_reject(conn, PDU_REJECT_INVALID_FIELD);
        return;
    } else if (reason == 1 && get_be16(bhs + 20) != conn->login.cid) {
        response = 1; /* no such connection */
    }
    struct message *message = connection_message(conn, PDU_LOGOUT_RESPONSE, PDU_FINAL);
    if (!message) {
        connection_close(conn, "out of messages");
        return;
    }
    message->bhs[2] = response;
    put_be32(message->bhs + PDU_F_ITT, pdu_itt(bhs));
    put_be16(message->bhs + 40, conn->keys.values.time_to_wait);
    put_be16(message->bhs + 42, conn->keys.values.time_to_retain);
    message->close_after = response == 0;
    conn->logged_out = response == 0;
    if (conn->logged_out && conn->session) {
        /* Told before the answer: who has it may have the volume deleted at once. */
        conn->session->logged_out = true;
        target_sessions_changed(conn->session->target);
    }
    connection_post(conn, message);
}

void command_receive(struct connection *conn)
{
    const uint8_t *bhs = conn->rx_bhs;
    enum pdu_reject reason = pdu_check(bhs);
    if (reason) {
        connection_reject(conn, reason);
        return;
    }
    switch (pdu_opcode(bhs)) {
    case PDU_SCSI_COMMAND:
        scsi_command(conn);
        break;
    case PDU_DATA_OUT:
        command_data_out(conn);
        break;
    case PDU_NOP_OUT:
        nop_out(conn);
        break;
    case PDU_LOGOUT_REQUEST:
        logout(conn);
        break;
    case PDU_TEXT_REQUEST:
        if (number(conn) == NUMBER_NOW) {
            text_receive(conn);
        }
        break;
    case PDU_TASK_REQUEST:
        if (!conn->session) {
            connection_reject(conn, PDU_REJECT_PROTOCOL);
        } else if (number(conn) == NUMBER_NOW) {
            session_tmf_receive(conn->session, bhs);
        }
        break;
    default:
        connection_reject(conn, PDU_REJECT_PROTOCOL);
        break;
    }
    if (conn->session && !list_empty(&conn->session->held)) {
        start_held(conn->session);
    }
}
