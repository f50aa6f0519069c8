// SPDX-License-Identifier: Apache-2.0
/*
 *     queued ─▶ staged ─▶ with the kernel ─┬─▶ given back
 *                              answered ───┘
 *
 * Tags count up. The table finds a command by the tag's low bits and compares the whole tag, so an answer to a command of long ago meets
 * nobody.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "block/iscsi_wire_private.h"

int wire_broken(struct iscsi_wire *wire, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(wire->why, sizeof(wire->why), fmt, args);
    va_end(args);
    return -EPROTO;
}

static struct iscsi_cmd **wire_place(struct iscsi_wire *wire, uint32_t tag)
{
    return &wire->table[tag % TABLE];
}

struct iscsi_cmd *wire_cmd(struct iscsi_wire *wire, uint32_t tag)
{
    struct iscsi_cmd *cmd = *wire_place(wire, tag);

    return cmd != NULL && cmd->tag == tag && !cmd->answered ? cmd : NULL;
}

void wire_tag_take(struct iscsi_wire *wire, struct iscsi_cmd *cmd)
{
    do {
        wire->next_tag = wire->next_tag < LAST_TAG ? wire->next_tag + 1 : 1;
    } while (*wire_place(wire, wire->next_tag) != NULL);
    cmd->tag = wire->next_tag;
    *wire_place(wire, cmd->tag) = cmd;
}

int iscsi_wire_send(struct iscsi_wire *wire, struct iscsi_cmd *cmd)
{
    if (wire->n_commands >= MAX_COMMANDS) {
        return -ENOMEM;
    }
    CHECK(cmd->n_iov <= ISCSI_CMD_MAX_IOV && cmd->cdb_len <= sizeof(cmd->cdb));
    cmd->moved = 0;
    cmd->pending = 1;
    cmd->answered = false;
    cmd->collected = NULL;
    cmd->data = NULL;
    cmd->data_len = 0;
    cmd->missing = 0;
    memset(&cmd->sense, 0, sizeof(cmd->sense));
    for (unsigned i = 0; i < ISCSI_CMD_MAX_BURSTS; i++) {
        cmd->bursts[i].pending = false;
    }
    wire->n_commands++;
    wire->n_queued++;
    list_push_back(&wire->commands, &cmd->entry);
    return 0;
}

void wire_cmd_settle(struct iscsi_wire *wire, struct iscsi_cmd *cmd)
{
    if (cmd->answered && cmd->pending == 0) {
        *wire_place(wire, cmd->tag) = NULL;
        wire->n_commands--;
        list_push_back(&wire->answered, &cmd->entry);
    }
}

void wire_cmd_end(struct iscsi_wire *wire, struct iscsi_cmd *cmd, enum iscsi_cmd_result result)
{
    cmd->answered = true;
    cmd->result = result;
    if (cmd->collected != NULL && result == ISCSI_CMD_GOOD) {
        cmd->data = cmd->collected;
        cmd->data_len = cmd->moved;
    }
    wire_cmd_settle(wire, cmd);
}

int wire_burst_add(struct iscsi_wire *wire, struct iscsi_cmd *cmd, uint32_t at, uint32_t end,
                   uint32_t transfer_tag)
{
    for (unsigned i = 0; i < ISCSI_CMD_MAX_BURSTS; i++) {
        struct iscsi_burst *burst = &cmd->bursts[i];

        if (!burst->pending) {
            *burst = (struct iscsi_burst){
                .cmd = cmd, .at = at, .end = end, .transfer_tag = transfer_tag, .pending = true};
            cmd->pending++;
            cmd->moved = cmd->moved > end ? cmd->moved : end;
            list_push_back(&wire->bursts, &burst->entry);
            return 0;
        }
    }
    return -ENOSPC;
}

bool iscsi_wire_is_pushed(const struct iscsi_wire *wire)
{
    return wire->batch.n_iov == 0;
}

void iscsi_wire_ping(struct iscsi_wire *wire)
{
    CHECK(!wire->pinging);
    wire->ping_wanted = true;
    wire->pinging = true;
}

void iscsi_wire_reset_lun(struct iscsi_wire *wire)
{
    CHECK(!wire->resetting);
    wire->reset_wanted = true;
    wire->resetting = true;
}

void iscsi_wire_logout(struct iscsi_wire *wire)
{
    wire->logout_wanted = true;
}

struct iscsi_cmd *iscsi_wire_answered(struct iscsi_wire *wire)
{
    struct list *entry = list_pop_front(&wire->answered);

    return entry != NULL ? list_entry(entry, struct iscsi_cmd, entry) : NULL;
}

bool iscsi_wire_pinging(const struct iscsi_wire *wire)
{
    return wire->pinging;
}

bool iscsi_wire_reset_answer(struct iscsi_wire *wire, int *ret_response)
{
    bool done = wire->reset_done;

    wire->reset_done = false;
    *ret_response = wire->reset_response;
    return done;
}

bool wire_window_is_open(const struct iscsi_wire *wire)
{
    return !wire_serial_after(wire->terms.cmd_sn, wire->terms.max_cmd_sn);
}

unsigned iscsi_wire_room(const struct iscsi_wire *wire)
{
    unsigned room = wire_window_is_open(wire) ? wire->terms.max_cmd_sn - wire->terms.cmd_sn + 1 : 0;

    room = room > wire->n_queued ? room - wire->n_queued : 0;
    return room < MAX_COMMANDS - wire->n_commands ? room : MAX_COMMANDS - wire->n_commands;
}

bool iscsi_wire_is_closed(const struct iscsi_wire *wire)
{
    return wire->closed;
}

const char *iscsi_wire_why(const struct iscsi_wire *wire)
{
    return wire->why;
}

struct iscsi_wire *iscsi_wire_new(int fd, uint16_t lun, const struct iscsi_terms *terms)
{
    struct iscsi_wire *wire = calloc(1, sizeof(*wire));

    if (wire == NULL) {
        return NULL;
    }
    wire->fd = fd;
    wire->lun = lun;
    wire->terms = *terms;
    list_init(&wire->commands);
    list_init(&wire->bursts);
    list_init(&wire->answered);
    return wire;
}

void iscsi_wire_free(struct iscsi_wire *wire)
{
    struct iscsi_cmd *cmd;

    if (wire == NULL) {
        return;
    }
    close(wire->fd);
    while ((cmd = iscsi_wire_answered(wire)) != NULL) {
        free(cmd->collected);
    }
    for (unsigned i = 0; i < TABLE; i++) {
        if (wire->table[i] != NULL) {
            free(wire->table[i]->collected);
        }
    }
    free(wire);
}
