// SPDX-License-Identifier: Apache-2.0
/*
 * Messages between the owner, the first loop and the loops of the targets.
 *
 * Thread:    a message belongs to the loop that it is on.
 * Ownership: heap objects; who receives the last one frees it.
 * Errors:    status, for done().
 */
#ifndef TARGET_MESSAGES_H
#define TARGET_MESSAGES_H

#include "target/server.h"

enum message_kind {
    MESSAGE_LISTEN,
    MESSAGE_UNLISTEN,
    MESSAGE_CLOSE_PORTALS,
    MESSAGE_PORTALS_CLOSED,
    MESSAGE_NEW,
    MESSAGE_CLOSE,
    MESSAGE_ACCESS,
    MESSAGE_LUN_ADD,
    MESSAGE_LUN_REMOVE,
    MESSAGE_LUN_EVENT,
    MESSAGE_SESSIONS,
};

struct target_message {
    struct loop_task task;
    struct target_server *server;
    enum message_kind kind;
    struct target *target;
    struct portal *portal;
    struct access *access;
    struct target_lun_spec *luns;
    size_t n_luns;
    struct target_lun_spec lun;
    enum target_lun_event event;
    uint64_t grace_ns;
    unsigned count;
    struct target_session *sessions; /* count of them, in one allocation with their names */
    int status;
    target_done_fn done; /* on the owner's loop */
    void *done_arg;
};

struct server_close {
    bool portals_closed;
    target_done_fn done;
    void *arg;
};

void lun_spec_copy(struct target_lun_spec *to, const struct target_lun_spec *from);
/* On the target's loop (node.c). */
void target_message_receive(struct target_message *message);
/* Sends it to the owner. */
void message_return(struct target_message *message);
void server_close_step(struct target_server *server);

#endif
