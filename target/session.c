// SPDX-License-Identifier: Apache-2.0
#include "target/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "target/connection.h"
#include "target/server.h"

enum tmf_function {
    TMF_ABORT_TASK = 1,
    TMF_ABORT_TASK_SET = 2,
    TMF_CLEAR_ACA = 3,
    TMF_CLEAR_TASK_SET = 4,
    TMF_LUN_RESET = 5,
    TMF_WARM_RESET = 6,
    TMF_COLD_RESET = 7,
    TMF_REASSIGN = 8,
};
enum tmf_response {
    TMF_COMPLETE = 0,
    TMF_NO_TASK = 1,
    TMF_NO_LUN = 2,
    TMF_STILL_ALLEGIANT = 3,
    TMF_NO_REASSIGN = 4,
    TMF_NOT_SUPPORTED = 5,
    TMF_REJECTED = 255,
};

static uint16_t next_tsih(struct target *target)
{
    for (;;) {
        uint16_t tsih = ++target->next_tsih;
        bool used = tsih == 0;
        list_for_each(link, &target->sessions)
        {
            used |= list_entry(link, struct session, link)->tsih == tsih;
        }
        if (!used) {
            return tsih;
        }
    }
}

static void session_end(void *arg);

int session_new(struct target *target, unsigned window, struct session **ret_session)
{
    struct session *session = calloc(1, sizeof(*session));
    /* Twice the window: a task whose answer is on the way no longer counts, but still exists. */
    unsigned n_tasks = 2 * window + SESSION_IMMEDIATE;
    struct task *tasks = calloc(n_tasks, sizeof(*tasks));
    if (!session || !tasks) {
        free(session);
        free(tasks);
        return -ENOMEM;
    }
    session->target = target;
    session->tsih = next_tsih(target);
    session->window = window;
    session->tasks = tasks;
    session->n_tasks = n_tasks;
    list_init(&session->free);
    list_init(&session->held);
    list_init(&session->collecting);
    list_init(&session->executing);
    list_init(&session->sending);
    list_init(&session->free_tmfs);
    list_init(&session->waiting_tmfs);
    list_init(&session->waiting_logins);
    for (unsigned i = 0; i < n_tasks; i++) {
        tasks[i].session = session;
        tasks[i].index = (uint16_t)i;
        tasks[i].item.is_task = true;
        list_init(&tasks[i].item.link);
        list_init(&tasks[i].promise_link);
        list_push_back(&session->free, &tasks[i].link);
    }
    for (unsigned i = 0; i < SESSION_TMFS; i++) {
        session->tmfs[i].session = session;
        list_push_back(&session->free_tmfs, &session->tmfs[i].link);
    }
    session->end_task = (struct loop_task){.fn = session_end, .arg = session};
    list_push_back(&target->sessions, &session->link);
    target->n_sessions++;
    *ret_session = session;
    return 0;
}

static void session_end(void *arg)
{
    struct session *session = arg;
    struct target *target = session->target;
    CHECK(session->n_used == 0);
    scsi_nexus_remove(&session->nexus);
    list_remove(&session->link);
    target->n_sessions--;
    struct list waiting;
    list_init(&waiting);
    list_move_all(&waiting, &session->waiting_logins);
    free(session->tasks);
    free(session);
    target_sessions_changed(target);
    struct list *link;
    while ((link = list_pop_front(&waiting))) {
        connection_attach(list_entry(link, struct connection, login_link));
    }
    target_check_idle(target);
}

static void check_end(struct session *session)
{
    if (session->closing && session->n_used == 0 && !session->end_posted) {
        session->end_posted = true;
        loop_defer(session->target->shard->loop, &session->end_task);
    }
}

static void abort_list(struct list *list)
{
    list_for_each_safe(link, next, list)
    {
        task_abort(list_entry(link, struct task, link));
    }
}

void session_close(struct session *session)
{
    if (session->closing) {
        return;
    }
    session->closing = true;
    CHECK(session->conn == NULL);
    abort_list(&session->held);
    abort_list(&session->collecting);
    list_for_each_safe(link, next, &session->sending)
    {
        task_free(list_entry(link, struct task, link));
    }
    abort_list(&session->executing);
    while (!list_empty(&session->waiting_tmfs)) {
        list_push_back(&session->free_tmfs, list_pop_front(&session->waiting_tmfs));
    }
    check_end(session);
}

/* ---- tasks ---- */

static struct task **bucket(const struct session *session, uint32_t itt)
{
    uint32_t hash = itt * 2654435761u;
    return (struct task **)&session->by_itt[hash >> 26];
}
_Static_assert(SESSION_BUCKETS == 64, "the hash has six bits");

struct task *session_find(const struct session *session, uint32_t itt)
{
    struct task *task = *bucket(session, itt);
    while (task && task->itt != itt) {
        task = task->itt_next;
    }
    return task;
}

struct task *task_new(struct session *session, uint32_t itt)
{
    struct list *link = list_pop_front(&session->free);
    if (!link) {
        return NULL;
    }
    struct task *task = list_entry(link, struct task, link);
    session->n_used++;
    struct task **head = bucket(session, itt);
    task->itt = itt;
    task->itt_next = *head;
    *head = task;
    task->counted = task->aborted = task->discard = task->copying = task->queued = false;
    task->unsolicited = false;
    task->out_want = task->out_next = task->burst_end = task->data_sn = 0;
    task->r2t_offset = task->r2t_sn = task->r2t_arriving = task->r2t_credit = 0;
    task->in_total = task->in_sent = task->burst_sent = task->in_sn = 0;
    scsi_cmd_init(&task->cmd, &session->target->scsi);
    task->cmd.nexus = &session->nexus;
    task->cmd.done = command_ready;
    task->state = TASK_HELD;
    return task;
}

void task_move(struct task *task, enum task_state state)
{
    struct session *session = task->session;
    struct list *queues[] = {
        [TASK_FREE] = &session->free,          [TASK_HELD] = &session->held,
        [TASK_COLLECT] = &session->collecting, [TASK_EXECUTE] = &session->executing,
        [TASK_SEND] = &session->sending,
    };
    list_remove(&task->link);
    if (state == TASK_FREE) { /* the one used last is warm */
        list_push_front(&session->free, &task->link);
    } else {
        list_push_back(queues[state], &task->link);
    }
    task->state = state;
}

void task_settle(struct task *task)
{
    if (task->counted) {
        task->counted = false;
        task->session->n_open--;
    }
}

void task_unpromise(struct task *task)
{
    list_remove(&task->promise_link);
    if (task->promised > 0) {
        struct shard *shard = task->session->target->shard;
        shard->promised -= task->promised;
        if (task->session->conn) {
            task->session->conn->promised -= task->promised;
        }
        task->promised = 0;
        command_promise_wake(shard);
    }
}

void task_free(struct task *task)
{
    struct session *session = task->session;
    struct connection *conn = session->conn;
    CHECK(task->state != TASK_FREE);
    task_settle(task);
    task_unpromise(task);
    struct task **at = bucket(session, task->itt);
    while (*at != task) {
        at = &(*at)->itt_next;
    }
    *at = task->itt_next;
    if (conn) {
        conn->collected -= task->state == TASK_COLLECT ? task->out_next : 0;
        if (task->queued) {
            task->queued = false;
            connection_unsend(conn, &task->item);
        }
    }
    scsi_cmd_release(&task->cmd);
    bool aborted = task->aborted;
    task_move(task, TASK_FREE);
    session->n_used--;
    if (conn) {
        connection_resume(conn);
    }
    check_end(session);
    if (aborted) {
        session_tmf_check(session->target);
    }
}

void task_abort(struct task *task)
{
    if (task->aborted || task->state == TASK_SEND) {
        return; /* its answer is on the way */
    }
    task->aborted = true;
    count_add(&task->session->target->counters.aborted_tasks, 1);
    task_settle(task);
    if (task->state == TASK_EXECUTE) {
        scsi_abort(&task->cmd); /* command_ready() comes, perhaps from within */
        return;
    }
    task_free(task);
}

/* ---- task management ---- */

static bool affects(const struct tmf *tmf, const struct task *task)
{
    if (!tmf->any_session && task->session != tmf->session) {
        return false;
    }
    if (tmf->function == TMF_ABORT_TASK) {
        return task->itt == tmf->task_itt;
    }
    return tmf->whole_target || task->cmd.lun_number == tmf->lun;
}

static void abort_affected_in(const struct tmf *tmf, struct list *list)
{
    list_for_each_safe(link, next, list)
    {
        struct task *task = list_entry(link, struct task, link);
        if (affects(tmf, task)) {
            task_abort(task);
        }
    }
}

static bool any_left(const struct tmf *tmf)
{
    list_for_each(slink, &tmf->session->target->sessions)
    {
        struct session *session = list_entry(slink, struct session, link);
        list_for_each(link, &session->executing)
        {
            struct task *task = list_entry(link, struct task, link);
            if (task->aborted && affects(tmf, task)) {
                return true;
            }
        }
    }
    return false;
}

static void tmf_answer(struct tmf *tmf)
{
    struct connection *conn = tmf->session->conn;
    list_remove(&tmf->link);
    list_push_back(&tmf->session->free_tmfs, &tmf->link);
    if (!conn) {
        return;
    }
    struct message *message = connection_message(conn, PDU_TASK_RESPONSE, PDU_FINAL);
    if (!message) {
        connection_close(conn, "out of messages");
        return;
    }
    message->bhs[2] = tmf->response;
    put_be32(message->bhs + PDU_F_ITT, tmf->itt);
    message->close_after = tmf->function == TMF_COLD_RESET && tmf->response == TMF_COMPLETE;
    connection_post(conn, message);
}

void session_tmf_check(struct target *target)
{
    list_for_each_safe(slink, snext, &target->sessions)
    {
        struct session *session = list_entry(slink, struct session, link);
        list_for_each_safe(link, next, &session->waiting_tmfs)
        {
            struct tmf *tmf = list_entry(link, struct tmf, link);
            if (!any_left(tmf)) {
                tmf_answer(tmf);
            }
        }
    }
}

static void reset_units(struct tmf *tmf)
{
    struct scsi_target *scsi = &tmf->session->target->scsi;
    for (unsigned i = 0; i < TARGET_MAX_LUNS; i++) {
        if (scsi->luns[i] && (tmf->whole_target || (int)i == tmf->lun)) {
            scsi_unit_reset(scsi->luns[i]);
        }
    }
}

static void tell_others_cleared(struct tmf *tmf)
{
    struct target *target = tmf->session->target;
    list_for_each(slink, &target->sessions)
    {
        struct session *session = list_entry(slink, struct session, link);
        if (session == tmf->session) {
            continue;
        }
        struct list *lists[] = {&session->executing, &session->collecting, &session->held};
        for (unsigned i = 0; i < ARRAY_LEN(lists); i++) {
            list_for_each(link, lists[i])
            {
                if (affects(tmf, list_entry(link, struct task, link))) {
                    scsi_attend_one(&session->nexus, (unsigned)tmf->lun, UA_COMMANDS_CLEARED);
                    break;
                }
            }
        }
    }
}

static void tmf_start(struct tmf *tmf, uint32_t ref_cmd_sn)
{
    struct session *session = tmf->session;
    struct target *target = session->target;
    bool lun_is_there =
        tmf->lun >= 0 && tmf->lun < TARGET_MAX_LUNS && target->scsi.luns[tmf->lun] != NULL;
    switch (tmf->function) {
    case TMF_ABORT_TASK: {
        struct task *task = session_find(session, tmf->task_itt);
        if (task && task->cmd.lun_number != tmf->lun) {
            task = NULL;
        }
        if (!task) {
            /* Not here and not to come (RFC 7143, 11.6.1): then there was no such task. One that
             * has not arrived would be ahead in the window; over one connection it cannot be. */
            bool ahead = sn_diff(ref_cmd_sn, session->exp_cmd_sn) >= 0 &&
                         sn_diff(ref_cmd_sn, session_max_cmd_sn(session)) <= 0;
            tmf->response = ahead ? TMF_COMPLETE : TMF_NO_TASK;
        }
        break;
    }
    case TMF_ABORT_TASK_SET:
        break;
    case TMF_CLEAR_TASK_SET:
        tmf->any_session = true;
        if (lun_is_there) {
            tell_others_cleared(tmf);
        }
        break;
    case TMF_LUN_RESET:
        tmf->any_session = true;
        break;
    case TMF_WARM_RESET:
    case TMF_COLD_RESET:
        tmf->any_session = true;
        tmf->whole_target = true;
        lun_is_there = true;
        break;
    case TMF_REASSIGN:
        tmf->response = TMF_NO_REASSIGN;
        return;
    default:
        tmf->response = TMF_NOT_SUPPORTED;
        return; /* CLEAR ACA: there is no ACA */
    }
    if (!lun_is_there && tmf->function != TMF_ABORT_TASK) {
        tmf->response = TMF_NO_LUN;
        return;
    }
    list_for_each_safe(slink, next, &target->sessions)
    {
        struct session *other = list_entry(slink, struct session, link);
        abort_affected_in(tmf, &other->held);
        abort_affected_in(tmf, &other->collecting);
        abort_affected_in(tmf, &other->executing);
    }
    if (tmf->function >= TMF_LUN_RESET) {
        reset_units(tmf);
    }
}

void session_tmf_receive(struct session *session, const uint8_t bhs[PDU_BHS])
{
    struct target *target = session->target;
    struct list *link = list_pop_front(&session->free_tmfs);
    if (!link) {
        connection_reject(session->conn, PDU_REJECT_IMMEDIATE);
        return;
    }
    count_add(&target->counters.task_management, 1);
    struct tmf *tmf = list_entry(link, struct tmf, link);
    tmf->function = bhs[PDU_F_FLAGS] & 0x7f;
    tmf->lun = pdu_lun_decode(bhs + PDU_F_LUN);
    tmf->whole_target = tmf->any_session = false;
    tmf->itt = pdu_itt(bhs);
    tmf->task_itt = get_be32(bhs + 20);
    tmf->response = TMF_COMPLETE;
    log_debug("conn[%s] task management function %u", session->conn->name, tmf->function);
    tmf_start(tmf, get_be32(bhs + 32));
    list_push_back(&session->waiting_tmfs, &tmf->link);
    if (tmf->function == TMF_COLD_RESET && tmf->response == TMF_COMPLETE) {
        /* All connections of the target end (RFC 7143, 11.5.1), the requester's after the answer. */
        list_for_each_safe(clink, next, &target->connections)
        {
            struct connection *other = list_entry(clink, struct connection, link);
            if (other != session->conn) {
                connection_close(other, "target cold reset");
            }
        }
    }
    session_tmf_check(target);
}
