// SPDX-License-Identifier: Apache-2.0
/*
 * A target on its own loop: units come and go, sessions are told, and in the end it drains.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "target/connection.h"
#include "target/messages.h"
#include "target/server.h"

/* ---- keeping persistent reservations ---- */

struct target_save {
    struct loop_task task;
    struct target *target;
    unsigned lun;
    void *bytes;
    size_t len;
    int status;
    void (*done)(void *arg, int status);
    void *arg;
};

static void save_back(void *arg)
{
    struct target_save *save = arg;
    struct target *target = save->target;
    save->done(save->arg, save->status);
    free(save->bytes);
    free(save);
    target->saves--;
    target_check_idle(target);
}

void target_save_done(struct target_save *save, int status)
{
    save->status = status;
    save->task = (struct loop_task){.fn = save_back, .arg = save};
    loop_post(save->target->shard->loop, &save->task);
}

static void save_at_owner(void *arg)
{
    struct target_save *save = arg;
    struct target_server *server = save->target->server;
    server->events.reservations_changed(server->events_arg, save->target, save->lun, save->bytes,
                                        save->len, save);
}

static void save_reservations(struct scsi_target *scsi, struct scsi_lun *lun, const void *bytes,
                              size_t len, void (*done)(void *arg, int status), void *arg)
{
    struct target *target = container_of(scsi, struct target, scsi);
    struct target_save *save = calloc(1, sizeof(*save));
    void *copy = malloc(len + 1);
    if (!save || !copy) {
        free(save);
        free(copy);
        done(arg, -ENOMEM);
        return;
    }
    memcpy(copy, bytes, len);
    save->target = target;
    save->lun = lun->number;
    save->bytes = copy;
    save->len = len;
    save->done = done;
    save->arg = arg;
    target->saves++;
    save->task = (struct loop_task){.fn = save_at_owner, .arg = save};
    loop_post(target->server->owner, &save->task);
}

/* ---- tasks of others ---- */

static void abort_others(struct scsi_target *scsi, struct scsi_lun *lun,
                         const struct scsi_nexus *nexus, const struct scsi_cmd *except)
{
    struct target *target = container_of(scsi, struct target, scsi);
    list_for_each_safe(slink, snext, &target->sessions)
    {
        struct session *session = list_entry(slink, struct session, link);
        if (nexus && &session->nexus != nexus) {
            continue;
        }
        struct list *lists[] = {&session->held, &session->collecting, &session->executing};
        for (unsigned i = 0; i < ARRAY_LEN(lists); i++) {
            list_for_each_safe(link, next, lists[i])
            {
                struct task *task = list_entry(link, struct task, link);
                if (&task->cmd != except && task->cmd.lun_number == (int)lun->number) {
                    task_abort(task);
                }
            }
        }
    }
}

/* ---- units ---- */

static void add_lun(struct target *target, struct target_lun_spec *spec)
{
    struct scsi_lun *lun;
    int err = scsi_lun_new(&target->scsi, spec, &lun);
    if (err) {
        log_error("target[%s] LUN %u: %s", target->name, spec->number, strerror(-err));
    }
    free((void *)spec->reservations);
    spec->reservations = NULL;
}

static void lun_gone(void *arg)
{
    struct target_message *message = arg;
    struct target *target = message->target;
    target->luns_leaving--;
    message_return(message);
    target_check_idle(target);
}

static void lun_gone_with_target(void *arg)
{
    struct target *target = arg;
    target->luns_leaving--;
    target_check_idle(target);
}

static void remove_lun(struct target_message *message)
{
    struct target *target = message->target;
    struct scsi_lun *lun = target->scsi.luns[message->lun.number];
    if (!lun) {
        message->status = -ENOENT;
        message_return(message);
        return;
    }
    target->luns_leaving++;
    scsi_lun_remove(lun, lun_gone, message);
    scsi_attend_all_units(&target->scsi, UA_LUNS_CHANGED);
}

static void lun_event(struct target_message *message)
{
    struct target *target = message->target;
    struct scsi_lun *lun = target->scsi.luns[message->lun.number];
    if (!lun) {
        return;
    }
    switch (message->event) {
    case TARGET_LUN_RESIZED:
        lun->n_blocks = lun->dev->info.size_bytes / lun->block_bytes;
        scsi_attend(lun, NULL, UA_CAPACITY_CHANGED);
        break;
    case TARGET_LUN_REPLACED:
        lun->n_blocks = lun->dev->info.size_bytes / lun->block_bytes;
        scsi_attend(lun, NULL, UA_INQUIRY_CHANGED);
        break;
    case TARGET_LUN_LOW_SPACE:
        scsi_attend(lun, NULL, UA_LOW_SPACE);
        break;
    case TARGET_LUN_READ_ONLY:
    case TARGET_LUN_WRITABLE:
        lun->read_only = message->event == TARGET_LUN_READ_ONLY;
        scsi_attend(lun, NULL, UA_MODE_CHANGED);
        break;
    }
}

/* ---- the target ---- */

static void close_deadline(void *arg)
{
    struct target *target = arg;
    list_for_each_safe(link, next, &target->connections)
    {
        connection_close(list_entry(link, struct connection, link), "the target is going away");
    }
    target_check_idle(target);
}

static void open_target(struct target_message *message)
{
    struct target *target = message->target;
    struct scsi_target *scsi = &target->scsi;
    scsi->shard = target->shard;
    strcpy(scsi->name, target->name);
    list_init(&scsi->nexuses);
    scsi->max_transfer = target->server->limits.max_transfer;
    scsi->accept_transfer = target->server->accept_transfer;
    scsi->save = target->server->events.reservations_changed ? save_reservations : NULL;
    scsi->abort_others = abort_others;
    loop_timer_init(&target->close_timer, target->shard->loop, close_deadline, target);
    for (size_t i = 0; i < message->n_luns; i++) {
        add_lun(target, &message->luns[i]);
    }
    free(message->luns);
}

static void set_access(struct target_message *message)
{
    struct target *target = message->target;
    access_unref(target->access);
    target->access = message->access;
    list_for_each_safe(link, next, &target->connections)
    {
        struct connection *conn = list_entry(link, struct connection, link);
        if (conn->login.initiator[0] && !access_find(target->access, conn->login.initiator)) {
            connection_ask_logout(conn, 3 * SEC_NS);
        }
    }
}

static void close_target(struct target_message *message)
{
    struct target *target = message->target;
    target->closing = true;
    target->close_message = message;
    list_for_each_safe(link, next, &target->connections)
    {
        connection_ask_logout(list_entry(link, struct connection, link), message->grace_ns);
    }
    if (message->grace_ns > 0) {
        loop_timer_start(&target->close_timer, message->grace_ns);
    }
    target_check_idle(target);
}

void target_check_idle(struct target *target)
{
    if (!target->closing || !target->close_message || target->saves > 0 || target->removing ||
        !list_empty(&target->connections) || !list_empty(&target->sessions)) {
        return;
    }
    target->removing = true; /* units may be gone at once, and ask here again */
    for (unsigned i = 0; i < TARGET_MAX_LUNS; i++) {
        if (target->scsi.luns[i]) {
            target->luns_leaving++;
            scsi_lun_remove(target->scsi.luns[i], lun_gone_with_target, target);
        }
    }
    target->removing = false;
    if (target->luns_leaving > 0) {
        return;
    }
    struct target_message *message = target->close_message;
    target->close_message = NULL;
    loop_timer_stop(&target->close_timer);
    message_return(message);
}

void target_sessions_changed(struct target *target)
{
    struct target_counters *counters = &target->counters;
    atomic_store_explicit(&counters->sessions.value, target->n_sessions, memory_order_relaxed);
    if (!target->server->events.sessions_changed || target->closing) {
        return;
    }
    struct target_message *message = calloc(1, sizeof(*message));
    size_t each = sizeof(struct target_session) + TARGET_MAX_NAME + TARGET_MAX_ALIAS + 2;
    struct target_session *sessions = malloc(target->n_sessions * each + 1);
    if (!message || !sessions) {
        free(message);
        free(sessions);
        return;
    }
    char *text = (char *)(sessions + target->n_sessions);
    unsigned n = 0;
    list_for_each(link, &target->sessions)
    {
        const struct session *session = list_entry(link, struct session, link);

        if (!session->logged_out) {
            sessions[n].initiator = text;
            text = stpcpy(text, session->nexus.initiator) + 1;
            sessions[n].alias = text;
            text = stpcpy(text, session->alias) + 1;
            n++;
        }
    }
    message->server = target->server;
    message->kind = MESSAGE_SESSIONS;
    message->target = target;
    message->count = n;
    message->sessions = sessions;
    message_return(message);
}

void target_message_receive(struct target_message *message)
{
    struct target *target = message->target;
    switch (message->kind) {
    case MESSAGE_NEW:
        open_target(message);
        break;
    case MESSAGE_ACCESS:
        set_access(message);
        break;
    case MESSAGE_CLOSE:
        close_target(message);
        return;
    case MESSAGE_LUN_ADD:
        add_lun(target, &message->lun);
        scsi_attend_all_units(&target->scsi, UA_LUNS_CHANGED);
        break;
    case MESSAGE_LUN_REMOVE:
        remove_lun(message);
        return;
    case MESSAGE_LUN_EVENT:
        lun_event(message);
        break;
    default:
        CHECK(!"a message for a target");
    }
    free(message);
}
