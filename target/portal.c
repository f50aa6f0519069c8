// SPDX-License-Identifier: Apache-2.0
/*
 * Portals: listening sockets, and visitors, which are connections that have not yet said what they
 * want. The first login request names a target or discovery; then socket and bytes go to the loop
 * that can serve them.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/sockaddr.h"
#include "target/connection.h"
#include "target/server.h"

enum { ACCEPT_ROUNDS = 16, VISITOR_BYTES = PDU_BHS + PDU_LOGIN_SEGMENT };

struct portal {
    struct list link;       /* server.portals: first loop */
    struct list owner_link; /* owner */
    struct target_server *server;
    struct sockaddr_storage addr;
    int fd;
    struct loop_poll *poll;
};

struct visitor {
    struct list link;
    struct target_server *server;
    int fd;
    struct loop_poll *poll;
    struct loop_timer timer;
    size_t len;
    uint8_t bytes[VISITOR_BYTES];
};

/* A connection on its way to another loop. */
struct handover {
    struct loop_task task;
    struct target_server *server;
    struct target *target;
    int fd;
    size_t len;
    uint8_t bytes[];
};

static void visitor_leave(struct visitor *visitor)
{
    loop_timer_stop(&visitor->timer);
    loop_poll_free(visitor->poll);
    list_remove(&visitor->link);
    visitor->server->n_visitors--;
    free(visitor);
}

static void visitor_drop(struct visitor *visitor)
{
    close(visitor->fd);
    atomic_fetch_sub(&visitor->server->connections, 1);
    visitor_leave(visitor);
}

static void visitor_timeout(void *arg)
{
    struct visitor *visitor = arg;
    count_add(&visitor->server->login_timeouts, 1);
    visitor_drop(visitor);
}

static void handover_arrives(void *arg)
{
    struct handover *handover = arg;
    connection_new(handover->server, handover->target->shard, handover->target, handover->fd,
                   handover->bytes, handover->len);
    free(handover);
}

static struct target *directory_find(struct target_server *server, const char *name)
{
    char key[KEYS_MAX_VALUE + 1];
    size_t i = 0;
    for (; name[i] && i < KEYS_MAX_VALUE; i++) {
        key[i] = (char)tolower((unsigned char)name[i]);
    }
    key[i] = '\0';
    return map_get(&server->directory, key);
}

static void visitor_goes(struct visitor *visitor, size_t text_len)
{
    struct target_server *server = visitor->server;
    const uint8_t *text = visitor->bytes + PDU_BHS;
    char value[KEYS_MAX_VALUE + 1];
    bool discovery =
        keys_find(text, text_len, "SessionType", value) && strcmp(value, "Discovery") == 0;
    struct target *target = NULL;
    if (!discovery && keys_find(text, text_len, "TargetName", value)) {
        target = directory_find(server, value);
    }
    int fd = visitor->fd;
    if (!target) {
        /* Discovery, or a refusal, which has its own words there. */
        uint8_t bytes[VISITOR_BYTES];
        size_t len = visitor->len;
        memcpy(bytes, visitor->bytes, len);
        visitor_leave(visitor);
        connection_new(server, &server->shards[0], NULL, fd, bytes, len);
        return;
    }
    struct handover *handover = malloc(sizeof(*handover) + visitor->len);
    if (!handover) {
        visitor_drop(visitor);
        return;
    }
    handover->task = (struct loop_task){.fn = handover_arrives, .arg = handover};
    handover->server = server;
    handover->target = target;
    handover->fd = fd;
    handover->len = visitor->len;
    memcpy(handover->bytes, visitor->bytes, visitor->len);
    visitor_leave(visitor);
    loop_post(target->shard->loop, &handover->task);
}

static void visitor_ready(void *arg, int events)
{
    struct visitor *visitor = arg;
    (void)events;
    ssize_t n = recv(visitor->fd, visitor->bytes + visitor->len, VISITOR_BYTES - visitor->len,
                     MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        visitor_drop(visitor);
        return;
    }
    visitor->len += (size_t)n;
    if (visitor->len >= 1 && pdu_opcode(visitor->bytes) != PDU_LOGIN_REQUEST) {
        visitor_drop(visitor); /* not an initiator */
        return;
    }
    if (visitor->len < PDU_BHS) {
        return;
    }
    uint32_t text_len = pdu_data_len(visitor->bytes);
    if (pdu_ahs_len(visitor->bytes) > 0 || text_len > PDU_LOGIN_SEGMENT) {
        visitor_drop(visitor);
        return;
    }
    if (visitor->len >= PDU_BHS + text_len) {
        visitor_goes(visitor, text_len);
    } else if (visitor->len == VISITOR_BYTES) {
        visitor_drop(visitor);
    }
}

static void visitor_come(struct target_server *server, int fd)
{
    struct visitor *visitor = malloc(sizeof(*visitor));
    if (!visitor) {
        goto fail;
    }
    visitor->server = server;
    visitor->fd = fd;
    visitor->len = 0;
    if (loop_poll_new(server->shards[0].loop, fd, visitor_ready, visitor, &visitor->poll)) {
        goto fail;
    }
    loop_timer_init(&visitor->timer, server->shards[0].loop, visitor_timeout, visitor);
    loop_timer_start(&visitor->timer, server->limits.login_timeout_ns);
    list_push_back(&server->visitors, &visitor->link);
    server->n_visitors++;
    loop_poll_set(visitor->poll, LOOP_READ);
    return;
fail:
    free(visitor);
    close(fd);
    atomic_fetch_sub(&server->connections, 1);
}

static void portal_ready(void *arg, int events)
{
    struct portal *portal = arg;
    struct target_server *server = portal->server;
    (void)events;
    for (unsigned i = 0; i < ACCEPT_ROUNDS; i++) {
        int fd = accept4(portal->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        count_add(&server->accepted, 1);
        if (atomic_load(&server->connections) >= server->limits.max_connections ||
            server->n_visitors >= server->limits.max_logins) {
            count_add(&server->refused, 1);
            close(fd);
            continue;
        }
        atomic_fetch_add(&server->connections, 1);
        visitor_come(server, fd);
    }
}

struct portal *portal_new(const struct sockaddr_storage *addr, struct sockaddr_storage *ret_addr,
                          struct error *error)
{
    char text[SOCKADDR_TEXT_LEN];
    sockaddr_format(addr, text);
    struct portal *portal = calloc(1, sizeof(*portal));
    if (!portal) {
        error_set(error, ERR_NO_MEMORY, "no memory for a portal");
        return NULL;
    }
    list_init(&portal->link);
    list_init(&portal->owner_link);
    portal->fd = socket(addr->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (portal->fd < 0) {
        error_set(error, ERR_INTERNAL, "socket for %s: %s", text, strerror(errno));
        free(portal);
        return NULL;
    }
    /* Two that ask for any port could be given the same one with it, until the first listens; but
     * the next start can have the port only if this one had it, so it is set in the end. */
    bool any_port = sockaddr_port(addr) == 0;
    if (!any_port) {
        setsockopt(portal->fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    }
    if (bind(portal->fd, (const struct sockaddr *)addr, sockaddr_len(addr)) ||
        (any_port &&
         setsockopt(portal->fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) != 0) ||
        listen(portal->fd, 128)) {
        enum error_code code = errno == EADDRINUSE                         ? ERR_IN_USE
                               : errno == EADDRNOTAVAIL || errno == EACCES ? ERR_ADDRESS_NOT_ALLOWED
                                                                           : ERR_INTERNAL;
        error_set(error, code, "cannot listen on %s: %s", text, strerror(errno));
        portal_free(portal);
        return NULL;
    }
    socklen_t len = sizeof(portal->addr);
    if (getsockname(portal->fd, (struct sockaddr *)&portal->addr, &len)) {
        error_set(error, ERR_INTERNAL, "address of %s: %s", text, strerror(errno));
        portal_free(portal);
        return NULL;
    }
    if (ret_addr) {
        *ret_addr = portal->addr;
    }
    return portal;
}

void portal_free(struct portal *portal)
{
    close(portal->fd);
    free(portal);
}

const struct sockaddr_storage *portal_addr(const struct portal *portal)
{
    return &portal->addr;
}

struct list *portal_owner_link(struct portal *portal)
{
    return &portal->owner_link;
}

struct portal *portal_of_owner_link(struct list *link)
{
    return list_entry(link, struct portal, owner_link);
}

void portal_open(struct target_server *server, struct portal *portal)
{
    portal->server = server;
    if (loop_poll_new(server->shards[0].loop, portal->fd, portal_ready, portal, &portal->poll)) {
        log_error("portal: no memory to listen");
        return;
    }
    loop_poll_set(portal->poll, LOOP_READ);
    list_push_back(&server->portals, &portal->link);
}

void portal_close(struct portal *portal)
{
    if (portal->poll) {
        loop_poll_free(portal->poll);
    }
    list_remove(&portal->link);
    portal_free(portal);
}

void portals_close(struct target_server *server)
{
    struct list *link;
    while ((link = list_first(&server->portals))) {
        portal_close(list_entry(link, struct portal, link));
    }
    while ((link = list_first(&server->visitors))) {
        visitor_drop(list_entry(link, struct visitor, link));
    }
    list_for_each_safe(at, next, &server->discoveries)
    {
        connection_close(list_entry(at, struct connection, link), "the service stops");
    }
}
