// SPDX-License-Identifier: Apache-2.0
/*
 * The owner's side: messages that go out to the loops and come back.
 *
 *     owner ──▶ first loop ──▶ target's loop ──▶ owner        target_new, target_close
 *     owner ──────────────────▶ target's loop ──▶ owner       everything else about a target
 *
 * A message to a target's loop that does not pass the first loop could overtake target_new(): all of
 * them pass it.
 */
#include "target/server.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/sockaddr.h"
#include "target/connection.h"
#include "target/messages.h"

static uint64_t or_default(uint64_t value, uint64_t preset)
{
    return value ? value : preset;
}

/* What one command may move must fit into what there is: half of the read buffers, three quarters of
 * the receive buffers, and the pieces of a table. */
static uint32_t accept_limit(const struct target_limits *limits)
{
    size_t most = (SLICES_TABLE - 64) / 2 * (size_t)SHARD_LARGE;
    most = most < limits->data_bytes / 2 ? most : limits->data_bytes / 2;
    most = most < limits->receive_bytes / 4 * 3 ? most : limits->receive_bytes / 4 * 3;
    return (uint32_t)most;
}

static struct target_limits limits_with_defaults(const struct target_limits *given)
{
    struct target_limits limits = *given;
    limits.max_connections = (unsigned)or_default(given->max_connections, 1024);
    limits.max_logins = (unsigned)or_default(given->max_logins, 128);
    limits.max_sessions = (unsigned)or_default(given->max_sessions, 128);
    limits.queue_depth = (unsigned)or_default(given->queue_depth, 128);
    if (limits.queue_depth > 1024) {
        limits.queue_depth = 1024;
    }
    limits.login_timeout_ns = or_default(given->login_timeout_ns, 15 * SEC_NS);
    limits.nop_interval_ns = or_default(given->nop_interval_ns, 15 * SEC_NS);
    limits.nop_timeout_ns = or_default(given->nop_timeout_ns, 15 * SEC_NS);
    limits.send_timeout_ns = or_default(given->send_timeout_ns, 30 * SEC_NS);
    limits.data_out_timeout_ns = or_default(given->data_out_timeout_ns, 60 * SEC_NS);
    limits.max_recv_segment = (uint32_t)or_default(given->max_recv_segment, 262144);
    limits.max_burst = (uint32_t)or_default(given->max_burst, 1 << 20);
    limits.first_burst = (uint32_t)or_default(given->first_burst, 262144);
    limits.max_outstanding_r2t = (unsigned)or_default(given->max_outstanding_r2t, 8);
    limits.max_transfer = (uint32_t)or_default(given->max_transfer, 8 << 20);
    limits.receive_bytes = or_default(given->receive_bytes, 64 << 20);
    limits.data_bytes = or_default(given->data_bytes, 96 << 20);
    limits.connection_bytes = or_default(given->connection_bytes, 16 << 20);
    uint32_t most = accept_limit(&limits);
    if (limits.max_transfer > most) {
        limits.max_transfer = most;
    }
    return limits;
}

int target_server_new(const struct target_server_spec *spec, struct target_server **ret_server)
{
    if (spec->n_loops == 0 || spec->n_loops > 16) {
        return -EINVAL;
    }
    struct target_server *server = calloc(1, sizeof(*server));
    if (!server) {
        return -ENOMEM;
    }
    server->owner = spec->owner;
    server->limits = limits_with_defaults(&spec->limits);
    server->accept_transfer = accept_limit(&server->limits);
    server->chap_algorithms =
        spec->chap_algorithms ? spec->chap_algorithms : TARGET_CHAP_ALL & ~TARGET_CHAP_MD5;
    server->events = spec->events;
    server->events_arg = spec->events_arg;
    server->holding = spec->hold;
    list_init(&server->targets);
    list_init(&server->listening);
    list_init(&server->portals);
    list_init(&server->visitors);
    list_init(&server->discoveries);
    map_init(&server->directory);
    map_init(&server->names);
    int err = access_new(&spec->discovery, &server->discovery, NULL);
    server->shards = calloc(spec->n_loops, sizeof(*server->shards));
    if (!err && !server->shards) {
        err = -ENOMEM;
    }
    for (unsigned i = 0; !err && i < spec->n_loops; i++) {
        err = shard_init(&server->shards[i], server, spec->loops[i], &server->limits);
        server->n_shards += !err;
    }
    if (err) {
        target_server_free(server);
        return err;
    }
    *ret_server = server;
    return 0;
}

/* Portals that never accepted. */
static void held_portals_free(struct target_server *server)
{
    struct list *link;
    while (server->holding && (link = list_first(&server->listening))) {
        list_remove(link);
        portal_free(portal_of_owner_link(link));
    }
}

void target_server_free(struct target_server *server)
{
    if (!server) {
        return;
    }
    CHECK(list_empty(&server->targets) && list_empty(&server->portals));
    held_portals_free(server);
    for (unsigned i = 0; i < server->n_shards; i++) {
        shard_fini(&server->shards[i]);
    }
    free(server->shards);
    map_fini(&server->directory);
    map_fini(&server->names);
    access_unref(server->discovery);
    free(server);
}

/* ---- messages ---- */

static struct target_message *message_new(struct target_server *server, enum message_kind kind,
                                          struct target *target)
{
    struct target_message *message = calloc(1, sizeof(*message));
    CHECK(message != NULL); /* a few bytes, per call of the owner */
    message->server = server;
    message->kind = kind;
    message->target = target;
    return message;
}

static void directory_key(const char *name, char key[TARGET_MAX_NAME + 1])
{
    size_t i = 0;
    for (; name[i]; i++) {
        key[i] = (char)tolower((unsigned char)name[i]);
    }
    key[i] = '\0';
}

static void back_at_owner(void *arg)
{
    struct target_message *message = arg;
    struct target_server *server = message->server;
    switch (message->kind) {
    case MESSAGE_CLOSE: {
        struct target *target = message->target;
        char key[TARGET_MAX_NAME + 1];
        directory_key(target->name, key);
        map_remove(&server->names, key);
        list_remove(&target->owner_link);
        target_done_fn done = message->done;
        void *done_arg = message->done_arg;
        access_unref(target->access);
        access_unref(target->portal_access);
        free(target->alias);
        free(target);
        free(message);
        if (done) {
            done(done_arg, 0);
        }
        server_close_step(server);
        return;
    }
    case MESSAGE_LUN_REMOVE:
        message->target->lun_used[message->lun.number] = false;
        break;
    case MESSAGE_PORTALS_CLOSED:
        server->closing->portals_closed = true;
        break;
    case MESSAGE_SESSIONS:
        if (server->events.sessions_changed) {
            server->events.sessions_changed(server->events_arg, message->target,
                                            message->sessions, message->count);
        }
        free(message->sessions);
        break;
    default:
        break;
    }
    if (message->done) {
        message->done(message->done_arg, message->status);
    }
    bool portals = message->kind == MESSAGE_PORTALS_CLOSED;
    free(message);
    if (portals) {
        server_close_step(server);
    }
}

void message_return(struct target_message *message)
{
    message->task = (struct loop_task){.fn = back_at_owner, .arg = message};
    loop_post(message->server->owner, &message->task);
}

static void at_target(void *arg)
{
    target_message_receive(arg);
}

static void at_first_loop(void *arg)
{
    struct target_message *message = arg;
    struct target_server *server = message->server;
    struct target *target = message->target;
    char key[TARGET_MAX_NAME + 1];
    switch (message->kind) {
    case MESSAGE_LISTEN:
        portal_open(server, message->portal);
        free(message);
        return;
    case MESSAGE_UNLISTEN:
        portal_close(message->portal);
        free(message);
        return;
    case MESSAGE_CLOSE_PORTALS:
        portals_close(server);
        message->kind = MESSAGE_PORTALS_CLOSED;
        message_return(message);
        return;
    case MESSAGE_NEW:
        directory_key(target->name, key);
        CHECK(map_put(&server->directory, key, target) == 0);
        break;
    case MESSAGE_CLOSE:
        directory_key(target->name, key);
        map_remove(&server->directory, key);
        break;
    case MESSAGE_ACCESS:
        access_unref(target->portal_access);
        target->portal_access = access_ref(message->access);
        break;
    default:
        break;
    }
    message->task = (struct loop_task){.fn = at_target, .arg = message};
    loop_post(target->shard->loop, &message->task);
}

static void message_send(struct target_message *message)
{
    CHECK(loop_is_current(message->server->owner));
    message->task = (struct loop_task){.fn = at_first_loop, .arg = message};
    loop_post(message->server->shards[0].loop, &message->task);
}

/* ---- portals ---- */

static void portal_begin(struct target_server *server, struct portal *portal)
{
    struct target_message *message = message_new(server, MESSAGE_LISTEN, NULL);
    message->portal = portal;
    message_send(message);
}

int target_listen(struct target_server *server, const struct sockaddr_storage *addr,
                  struct sockaddr_storage *ret_addr, struct error *error)
{
    struct portal *portal = portal_new(addr, ret_addr, error);
    if (!portal) {
        return error ? error_info(error->code)->err : -EIO;
    }
    list_push_back(&server->listening, portal_owner_link(portal));
    if (!server->holding) {
        portal_begin(server, portal);
    }
    return 0;
}

void target_accept(struct target_server *server)
{
    CHECK(server->holding);
    server->holding = false;
    list_for_each(link, &server->listening)
    {
        portal_begin(server, portal_of_owner_link(link));
    }
}

int target_unlisten(struct target_server *server, const struct sockaddr_storage *addr)
{
    list_for_each_safe(link, next, &server->listening)
    {
        struct portal *portal = portal_of_owner_link(link);
        if (sockaddr_equal(portal_addr(portal), addr)) {
            list_remove(link);
            if (server->holding) {
                portal_free(portal);
                return 0;
            }
            struct target_message *message = message_new(server, MESSAGE_UNLISTEN, NULL);
            message->portal = portal;
            message_send(message);
            return 0;
        }
    }
    return -ENOENT;
}

/* ---- targets ---- */

static int check_luns(const struct target_spec *spec, struct error *error)
{
    bool used[TARGET_MAX_LUNS] = {false};
    for (size_t i = 0; i < spec->n_luns; i++) {
        unsigned number = spec->luns[i].number;
        if (number >= TARGET_MAX_LUNS || used[number]) {
            return error_param(error, ERR_INVALID_PARAMETER, "luns",
                               "LUN numbers are different and below %d", TARGET_MAX_LUNS);
        }
        used[number] = true;
    }
    return 0;
}

int target_new(struct target_server *server, const struct target_spec *spec,
               struct target **ret_target, struct error *error)
{
    if (!access_name_is_valid(spec->name)) {
        return error_param(error, ERR_INVALID_PARAMETER, "name",
                           "%.80s is not the name of an iSCSI node", spec->name);
    }
    char key[TARGET_MAX_NAME + 1];
    directory_key(spec->name, key);
    if (map_get(&server->names, key)) {
        return error_set(error, ERR_IN_USE, "target %s exists", spec->name);
    }
    struct shard *shard = NULL;
    for (unsigned i = 0; i < server->n_shards; i++) {
        if (server->shards[i].loop == spec->loop) {
            shard = &server->shards[i];
        }
    }
    CHECK(shard != NULL);
    int err = check_luns(spec, error);
    if (err) {
        return err;
    }
    struct access *access;
    err = access_new(&spec->access, &access, error);
    if (err) {
        return err;
    }
    struct target *target = calloc(1, sizeof(*target));
    struct target_lun_spec *luns = calloc(spec->n_luns + 1, sizeof(*luns));
    char *alias = spec->alias ? strdup(spec->alias) : NULL;
    if (!target || !luns || (spec->alias && !alias)) {
        free(target);
        free(luns);
        free(alias);
        access_unref(access);
        return error_set(error, ERR_NO_MEMORY, "no memory for target %s", spec->name);
    }
    target->server = server;
    target->shard = shard;
    snprintf(target->name, sizeof(target->name), "%s", spec->name);
    target->alias = alias;
    target->access = access;
    target->portal_access = access_ref(access);
    list_init(&target->connections);
    list_init(&target->sessions);
    list_push_back(&server->targets, &target->owner_link);
    CHECK(map_put(&server->names, key, target) == 0);
    struct target_message *message = message_new(server, MESSAGE_NEW, target);
    message->luns = luns;
    message->n_luns = spec->n_luns;
    for (size_t i = 0; i < spec->n_luns; i++) {
        lun_spec_copy(&luns[i], &spec->luns[i]);
        target->lun_used[luns[i].number] = true;
    }
    message_send(message);
    *ret_target = target;
    return 0;
}

const char *target_name(const struct target *target)
{
    return target->name;
}

void lun_spec_copy(struct target_lun_spec *to, const struct target_lun_spec *from)
{
    *to = *from;
    to->reservations = NULL;
    to->reservations_len = 0;
    if (from->reservations_len > 0) {
        void *copy = malloc(from->reservations_len);
        CHECK(copy != NULL);
        memcpy(copy, from->reservations, from->reservations_len);
        to->reservations = copy;
        to->reservations_len = from->reservations_len;
    }
}

int target_set_access(struct target *target, const struct target_access *spec, struct error *error)
{
    struct access *access;
    int err = access_new(spec, &access, error);
    if (err) {
        return err;
    }
    struct target_message *message = message_new(target->server, MESSAGE_ACCESS, target);
    message->access = access;
    message_send(message);
    return 0;
}

void target_close(struct target *target, uint64_t grace_ns, target_done_fn done, void *arg)
{
    CHECK(!target->owner_closing);
    target->owner_closing = true;
    struct target_message *message = message_new(target->server, MESSAGE_CLOSE, target);
    message->grace_ns = grace_ns;
    message->done = done;
    message->done_arg = arg;
    message_send(message);
}

int target_lun_add(struct target *target, const struct target_lun_spec *spec, struct error *error)
{
    if (spec->number >= TARGET_MAX_LUNS || target->lun_used[spec->number]) {
        return error_param(error, ERR_IN_USE, "luns", "LUN %u is taken or beyond the limit",
                           spec->number);
    }
    target->lun_used[spec->number] = true;
    struct target_message *message = message_new(target->server, MESSAGE_LUN_ADD, target);
    lun_spec_copy(&message->lun, spec);
    message_send(message);
    return 0;
}

void target_lun_remove(struct target *target, unsigned number, target_done_fn done, void *arg)
{
    CHECK(number < TARGET_MAX_LUNS && target->lun_used[number]);
    struct target_message *message = message_new(target->server, MESSAGE_LUN_REMOVE, target);
    message->lun.number = number;
    message->done = done;
    message->done_arg = arg;
    message_send(message);
}

void target_lun_notify(struct target *target, unsigned number, enum target_lun_event event)
{
    CHECK(number < TARGET_MAX_LUNS);
    struct target_message *message = message_new(target->server, MESSAGE_LUN_EVENT, target);
    message->lun.number = number;
    message->event = event;
    message_send(message);
}

/* ---- the end ---- */

void server_close_step(struct target_server *server)
{
    struct server_close *closing = server->closing;
    if (!closing || !closing->portals_closed || !list_empty(&server->targets)) {
        return;
    }
    server->closing = NULL;
    target_done_fn done = closing->done;
    void *arg = closing->arg;
    free(closing);
    done(arg, 0);
}

void target_server_close(struct target_server *server, uint64_t grace_ns, target_done_fn done,
                         void *arg)
{
    CHECK(!server->closing);
    struct server_close *closing = calloc(1, sizeof(*closing));
    CHECK(closing != NULL);
    closing->done = done;
    closing->arg = arg;
    server->closing = closing;
    held_portals_free(server);
    while (!list_empty(&server->listening)) {
        list_remove(list_first(&server->listening));
    }
    message_send(message_new(server, MESSAGE_CLOSE_PORTALS, NULL));
    list_for_each(link, &server->targets)
    {
        struct target *target = list_entry(link, struct target, owner_link);
        if (!target->owner_closing) {
            target_close(target, grace_ns, NULL, NULL);
        }
    }
}

/* ---- numbers ---- */

void target_stats(const struct target *target, struct target_stats *ret_stats)
{
    const struct target_counters *c = &target->counters;
    *ret_stats = (struct target_stats){
        .sessions = count_get(&c->sessions),
        .logins = count_get(&c->logins),
        .login_failures = count_get(&c->login_failures),
        .commands = count_get(&c->commands),
        .reads = count_get(&c->reads),
        .read_bytes = count_get(&c->read_bytes),
        .writes = count_get(&c->writes),
        .write_bytes = count_get(&c->write_bytes),
        .check_conditions = count_get(&c->check_conditions),
        .reservation_conflicts = count_get(&c->reservation_conflicts),
        .task_management = count_get(&c->task_management),
        .aborted_tasks = count_get(&c->aborted_tasks),
        .digest_errors = count_get(&c->digest_errors),
        .protocol_errors = count_get(&c->protocol_errors),
    };
}

void target_server_stats(const struct target_server *server, struct target_server_stats *ret_stats)
{
    *ret_stats = (struct target_server_stats){
        .connections = atomic_load(&((struct target_server *)server)->connections),
        .accepted = count_get(&server->accepted),
        .refused = count_get(&server->refused),
        .login_timeouts = count_get(&server->login_timeouts),
        .login_failures = count_get(&server->login_failures),
    };
}
