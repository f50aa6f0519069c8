// SPDX-License-Identifier: Apache-2.0
/*
 * A session on libiscsi.
 *
 *     CONNECTING ─▶ LOGIN ─▶ UP ─▶ DEAD
 *          │  ▲       │              ▲
 *          │  └───────┘ redirect     │
 *          └──────────┴──────────────┘ any failure: down(), once
 *
 * What libiscsi 1.19 does, and what follows from it here:
 *
 * - It may not be destroyed, nor given new commands, inside its own callbacks, and it goes on
 * reading into the buffers of other commands after one. So callbacks only note the answer; the
 * owner hears of it when iscsi_service() has returned.
 * - A lost connection with automatic reconnection switched off: iscsi_service() returns 0, the
 * callbacks come with "cancelled", is_logged_in() stays true; with no command outstanding nothing
 * shows until the next call, which fails.
 * - Tasks are looked up again for every Data-Out that still waits to be sent. A target may answer a
 * write before it has all data (CHECK CONDITION, BUSY): then the task, its iovecs and the payload
 * must live until nothing waits to be sent
 *   ("lingering"). After GOOD, no sane target needs more data: the owner has its buffers back at
 * once, only the task stays until then, without iovecs, so that a stale Data-Out becomes an error
 * of the link ("zombies").
 * - Its timeouts run on the wall clock and on calls of iscsi_service(): not used. Here the session
 * counts as lost when nothing came for stall_timeout_ms although something is outstanding; an idle
 * session is asked with a NOP.
 * - It believes login responses: they are read first (iscsi_login_check()). SO_RCVLOWAT makes the
 * loop wait until a whole response is there, and libiscsi reads one response per call while it is
 * not logged in.
 * - Its CmdSN window is not visible, but a queue that does not want to be polled for writing is one
 * that the window holds back.
 */
#include "block/iscsi_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/random.h"

enum {
    MAX_REDIRECTS = 4,
    MAX_ZOMBIES = 1024,
    MAX_FOUND_TARGETS = 4096,
    DEFAULT_STALL_MS = 15000,
    COMMAND_TIMEOUT_MS = 60000,
};

enum link_state { LINK_CONNECTING, LINK_LOGIN, LINK_UP, LINK_DEAD };

struct iscsi_link {
    struct loop *loop;
    const struct iscsi_spec *spec;
    struct sockaddr_storage address;
    bool discovery;
    const struct iscsi_link_events *events;
    void *arg;
    enum link_state state;
    bool closed;

    struct iscsi_context *context;
    struct loop_poll *poll;
    int poll_events;
    int fd;
    unsigned redirects;
    struct iscsi_login_guard guard;

    /* Noted by callbacks of libiscsi. */
    bool connected;
    bool cut;    /* commands were cancelled: the connection is gone */
    bool ending; /* down() is about to be called */
    bool login_done;
    int login_status;
    bool found_done;
    bool reset_done;
    int reset_response;

    struct list outstanding; /* oldest first */
    unsigned n_outstanding;
    struct list lingering;
    struct list completed;
    struct scsi_task **zombies;
    unsigned n_zombies;
    unsigned window;

    struct iscsi_found_target *found;
    unsigned n_found;

    struct loop_task round_end;
    bool round_end_pending;
    bool unsent;
    bool unsent_writes;
    unsigned depth; /* callbacks of the owner that are running */
    struct error *dial_error;

    struct loop_timer tick;
    uint64_t heard_ns;   /* when the target last said something */
    uint64_t waiting_ns; /* since when something is outstanding */
    bool nop_outstanding;
};

/* Set while a context is destroyed: its callbacks then find commands that are no longer ours. */
static _Thread_local bool dropping;

static void link_round_end(void *arg);
static void link_ready(void *arg, int events);
static void link_tick(void *arg);
static int link_start(struct iscsi_link *link, struct error *error);

/* --- the end
 * --------------------------------------------------------------------------------------------------
 */

static void tasks_free(struct list *commands)
{
    struct list *entry;

    while ((entry = list_pop_front(commands)) != NULL) {
        struct iscsi_cmd *cmd = list_entry(entry, struct iscsi_cmd, link_entry);

        if (cmd->task != NULL) {
            scsi_free_scsi_task(cmd->task);
            cmd->task = NULL;
        }
    }
}

static void zombies_free(struct iscsi_link *link)
{
    for (unsigned i = 0; i < link->n_zombies; i++) {
        scsi_free_scsi_task(link->zombies[i]);
    }
    link->n_zombies = 0;
}

/* Takes the context away, and with it every task that it still holds. Never inside iscsi_service().
 */
static void context_drop(struct iscsi_link *link)
{
    struct list *entry;

    if (link->poll != NULL) {
        loop_poll_free(link->poll);
        link->poll = NULL;
    }
    if (link->context != NULL) {
        dropping = true;
        iscsi_destroy_context(link->context);
        dropping = false;
        link->context = NULL;
    }
    link->fd = -1;
    while ((entry = list_pop_front(&link->outstanding)) != NULL) {
        list_entry(entry, struct iscsi_cmd, link_entry)->task = NULL;
    }
    link->n_outstanding = 0;
    tasks_free(&link->lingering);
    tasks_free(&link->completed);
    zombies_free(link);
}

static void link_release(struct iscsi_link *link)
{
    if (link->closed && !link->round_end_pending && link->depth == 0) {
        free(link->zombies);
        free(link->found);
        free(link->dial_error);
        free(link);
    }
}

static void link_die(struct iscsi_link *link)
{
    link->state = LINK_DEAD;
    loop_timer_stop(&link->tick);
    context_drop(link);
}

/* The session is over: tells the owner. */
static void link_fail(struct iscsi_link *link, const struct error *error)
{
    struct error copy = *error;

    if (link->state == LINK_DEAD) {
        return;
    }
    link_die(link);
    link->depth++;
    link->events->down(link->arg, &copy);
    link->depth--;
    link_release(link);
}

static void logout_done(struct iscsi_context *context, int status, void *command_data,
                        void *private_data)
{
    (void)context;
    (void)status;
    (void)command_data;
    (void)private_data;
}

void iscsi_link_close(struct iscsi_link *link)
{
    CHECK(!link->closed);
    link->closed = true;
    if (link->state == LINK_UP && link->n_outstanding == 0 && !link->cut &&
        iscsi_logout_async(link->context, logout_done, NULL) == 0) {
        /* As far as the socket takes it; the answer does not matter. */
        iscsi_service(link->context, POLLOUT);
    }
    link_die(link);
    link_release(link);
}

/* --- what libiscsi calls
 * -------------------------------------------------------------------------------------- */

static void connect_done(struct iscsi_context *context, int status, void *command_data,
                         void *private_data)
{
    struct iscsi_link *link = private_data;

    (void)context;
    (void)command_data;
    if (dropping) {
        return;
    }
    if (status == SCSI_STATUS_GOOD) {
        link->connected = true;
    } else {
        link->cut = true;
    }
}

static void login_done(struct iscsi_context *context, int status, void *command_data,
                       void *private_data)
{
    struct iscsi_link *link = private_data;

    (void)context;
    (void)command_data;
    if (dropping) {
        return;
    }
    link->login_done = true;
    link->login_status = status;
}

static void nop_done(struct iscsi_context *context, int status, void *command_data,
                     void *private_data)
{
    struct iscsi_link *link = private_data;

    (void)context;
    (void)command_data;
    if (dropping) {
        return;
    }
    link->nop_outstanding = false;
    if (status != SCSI_STATUS_GOOD) {
        link->cut = true;
    }
}

static void scsi_done(struct iscsi_context *context, int status, void *command_data,
                      void *private_data)
{
    struct iscsi_cmd *cmd = private_data;
    struct scsi_task *task = command_data;
    struct iscsi_link *link;

    (void)context;
    if (dropping) {
        scsi_free_scsi_task(task);
        return;
    }
    link = cmd->link;
    if (status == SCSI_STATUS_CANCELLED || task == NULL) {
        link->cut = true; /* the command stays on the outstanding list, for context_drop() */
        cmd->task = NULL;
        if (task != NULL) {
            scsi_free_scsi_task(task);
        }
        return;
    }
    list_remove(&cmd->link_entry);
    link->n_outstanding--;
    cmd->task = task;
    cmd->missing =
        task->residual_status != SCSI_RESIDUAL_NO_RESIDUAL ? (uint32_t)task->residual : 0;
    memset(&cmd->sense, 0, sizeof(cmd->sense));
    cmd->data = NULL;
    cmd->data_len = 0;
    switch (status) {
    case SCSI_STATUS_GOOD:
    case SCSI_STATUS_CONDITION_MET:
        cmd->result = ISCSI_CMD_GOOD;
        if (task->datain.data != NULL && task->datain.size > 0) {
            cmd->data = task->datain.data;
            cmd->data_len = (size_t)task->datain.size;
        }
        break;
    case SCSI_STATUS_CHECK_CONDITION:
        cmd->result = ISCSI_CMD_CHECK;
        /* The data segment of a SCSI response begins with the length of the sense data. libiscsi's
         * own reading of it is not bounded. */
        if (task->datain.data != NULL && task->datain.size > 2) {
            iscsi_sense_parse(task->datain.data + 2, (size_t)task->datain.size - 2, &cmd->sense);
        }
        break;
    case SCSI_STATUS_BUSY:
        cmd->result = ISCSI_CMD_BUSY;
        break;
    case SCSI_STATUS_TASK_SET_FULL:
        cmd->result = ISCSI_CMD_FULL;
        break;
    case SCSI_STATUS_RESERVATION_CONFLICT:
        cmd->result = ISCSI_CMD_CONFLICT;
        break;
    case SCSI_STATUS_TASK_ABORTED:
    case SCSI_STATUS_ACA_ACTIVE:
        cmd->result = ISCSI_CMD_ABORTED;
        break;
    default:
        cmd->result = ISCSI_CMD_REJECTED;
        break;
    }
    if (cmd->result == ISCSI_CMD_GOOD ||
        (cmd->direction != ISCSI_CMD_WRITE && cmd->result != ISCSI_CMD_REJECTED)) {
        list_push_back(&link->completed, &cmd->link_entry);
    } else {
        list_push_back(&link->lingering, &cmd->link_entry);
    }
}

static void reset_done(struct iscsi_context *context, int status, void *command_data,
                       void *private_data)
{
    struct iscsi_link *link = private_data;

    (void)context;
    if (dropping) {
        return;
    }
    if (status == SCSI_STATUS_CANCELLED) {
        link->cut = true;
        return;
    }
    link->reset_done = true;
    link->reset_response =
        status == SCSI_STATUS_GOOD && command_data != NULL ? (int)*(uint32_t *)command_data : -1;
}

/* libiscsi has both lists in reverse. */
static void found_take(struct iscsi_found_target *target,
                       const struct iscsi_discovery_address *from)
{
    unsigned total = 0;

    snprintf(target->name, sizeof(target->name), "%s", from->target_name);
    for (const struct iscsi_target_portal *p = from->portals; p != NULL; p = p->next) {
        total++;
    }
    target->n_addresses = total < ISCSI_MAX_PORTALS ? total : ISCSI_MAX_PORTALS;
    for (const struct iscsi_target_portal *p = from->portals; p != NULL; p = p->next) {
        total--;
        if (total < ISCSI_MAX_PORTALS && strlen(p->portal) < ISCSI_ADDRESS_SIZE) {
            snprintf(target->addresses[total], ISCSI_ADDRESS_SIZE, "%s", p->portal);
        }
    }
}

static void discovery_done(struct iscsi_context *context, int status, void *command_data,
                           void *private_data)
{
    struct iscsi_link *link = private_data;
    const struct iscsi_discovery_address *first = command_data;
    unsigned count = 0;

    (void)context;
    if (dropping) {
        return;
    }
    if (status != SCSI_STATUS_GOOD) {
        link->cut = true;
        return;
    }
    for (const struct iscsi_discovery_address *a = first; a != NULL; a = a->next) {
        count++;
    }
    link->n_found = count < MAX_FOUND_TARGETS ? count : MAX_FOUND_TARGETS;
    link->found = calloc(link->n_found + 1, sizeof(*link->found));
    if (link->found == NULL) {
        link->cut = true;
        return;
    }
    for (const struct iscsi_discovery_address *a = first; a != NULL; a = a->next) {
        count--;
        /* What RFC 7143 does not allow as a name is left out. */
        if (count < link->n_found && strlen(a->target_name) < ISCSI_NAME_SIZE &&
            a->target_name[0] != 0) {
            found_take(&link->found[count], a);
        }
    }
    for (unsigned i = 0; i < link->n_found; i++) {
        if (link->found[i].name[0] != 0) {
            link->found[count++] = link->found[i];
        }
    }
    link->n_found = count;
    link->found_done = true;
}

/* --- servicing
 * ------------------------------------------------------------------------------------------------
 */

static void poll_update(struct iscsi_link *link)
{
    int wanted = iscsi_which_events(link->context);
    int events = ((wanted & POLLIN) ? LOOP_READ : 0) | ((wanted & POLLOUT) ? LOOP_WRITE : 0);

    if (link->state == LINK_CONNECTING) {
        events = LOOP_WRITE;
    }
    if (events != link->poll_events) {
        link->poll_events = events;
        loop_poll_set(link->poll, events);
    }
}

/* A foreign text that ends in an error or a log line. */
static void text_clean(char *text)
{
    for (; *text != 0; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f) {
            *text = ' ';
        }
    }
}

/* Why the session ended. libiscsi's text may be that of an old command, so the socket is asked
 * first. */
static void link_lost_error(struct iscsi_link *link, struct error *error)
{
    char address[SOCKADDR_TEXT_LEN];
    char byte;
    int socket_error = 0;
    socklen_t len = sizeof(socket_error);
    ssize_t n;

    sockaddr_format(&link->address, address);
    if (!iscsi_is_logged_in(link->context)) {
        error_set(error, ERR_REMOTE_UNREACHABLE, "%s asked for the end of the session", address);
        return;
    }
    getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &socket_error, &len);
    n = recv(link->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && socket_error == 0 && errno != EAGAIN && errno != EINTR) {
        socket_error = errno;
    }
    if (socket_error != 0) {
        error_set(error, ERR_REMOTE_UNREACHABLE, "the connection to %s was lost: %s", address,
                  strerror(socket_error));
    } else if (n == 0) {
        error_set(error, ERR_REMOTE_UNREACHABLE, "%s closed the connection", address);
    } else {
        error_set(error, ERR_REMOTE_ERROR, "the session with %s broke down: %s", address,
                  iscsi_get_error(link->context));
        text_clean(error->detail);
    }
}

/* Hands the answers that have come to the owner. False: the link was closed or died meanwhile. */
static bool link_dispatch(struct iscsi_link *link)
{
    struct list *entry;
    bool alive = true;

    link->depth++;
    while (alive && (entry = list_pop_front(&link->completed)) != NULL) {
        struct iscsi_cmd *cmd = list_entry(entry, struct iscsi_cmd, link_entry);
        struct scsi_task *task = cmd->task;

        cmd->task = NULL;
        if (cmd->direction == ISCSI_CMD_WRITE && cmd->result == ISCSI_CMD_GOOD &&
            (iscsi_which_events(link->context) & POLLOUT) && link->n_zombies < MAX_ZOMBIES) {
            scsi_task_set_iov_out(task, NULL, 0);
            link->zombies[link->n_zombies++] = task;
            cmd->fn(cmd);
        } else {
            cmd->fn(cmd);
            scsi_free_scsi_task(task);
        }
        alive = !link->closed && link->state == LINK_UP;
    }
    if (alive && link->found_done) {
        link->found_done = false;
        link->events->found(link->arg, link->found, link->n_found);
        alive = !link->closed && link->state == LINK_UP;
    }
    if (alive && link->reset_done) {
        link->reset_done = false;
        if (link->events->reset != NULL) {
            link->events->reset(link->arg, link->reset_response);
        }
        alive = !link->closed && link->state == LINK_UP;
    }
    link->depth--;
    return alive;
}

static void window_learn(struct iscsi_link *link)
{
    unsigned queued = (unsigned)iscsi_out_queue_length(link->context);

    if (queued > 0 && link->n_outstanding > 0) {
        /* One place stays free for a NOP. */
        unsigned sent = link->n_outstanding > queued ? link->n_outstanding - queued : 0;

        link->window = sent > 2 ? sent - 1 : 1;
    } else if (link->n_outstanding >= link->window) {
        link->window++;
    }
}

/* libiscsi gives the kernel a header, then its data, PDU by PDU: held back, they leave as full segments. */
static void cork_set(struct iscsi_link *link, int on)
{
    setsockopt(link->fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
}

/* One call into libiscsi, and what follows from it. False: the link is gone. */
static bool link_service(struct iscsi_link *link, int events)
{
    bool corked = (events & POLLOUT) && link->unsent_writes;
    bool lost;

    link->unsent = false;
    link->unsent_writes = false;
    if (corked) {
        cork_set(link, 1);
    }
    lost = iscsi_service(link->context, events) != 0 || link->cut ||
           !iscsi_is_logged_in(link->context);
    if (corked) {
        cork_set(link, 0);
    }
    if (events & POLLIN) {
        link->heard_ns = loop_now_ns(link->loop);
    }
    if (!lost && !(iscsi_which_events(link->context) & POLLOUT)) {
        list_move_all(&link->completed, &link->lingering);
        zombies_free(link);
        window_learn(link);
    }
    link->ending = lost;
    link->depth++;
    if (!link_dispatch(link)) {
        link->depth--;
        link_release(link);
        return false;
    }
    link->depth--;
    if (lost) {
        struct error error;

        link_lost_error(link, &error);
        link_fail(link, &error);
        return false;
    }
    return true;
}

static void link_service_all(struct iscsi_link *link, int events)
{
    if (!link_service(link, events)) {
        return;
    }
    if (link->unsent && !link_service(link, POLLOUT)) {
        return;
    }
    poll_update(link);
}

/* --- dial and login
 * ------------------------------------------------------------------------------------------- */

static void lowat_set(struct iscsi_link *link, int bytes)
{
    setsockopt(link->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes));
}

static void link_up(struct iscsi_link *link)
{
    uint32_t stall_ms =
        link->spec->stall_timeout_ms != 0 ? link->spec->stall_timeout_ms : DEFAULT_STALL_MS;

    link->state = LINK_UP;
    lowat_set(link, 1);
    link->heard_ns = loop_now_ns(link->loop);
    loop_timer_start(&link->tick, stall_ms * MS_NS / 8 + MS_NS);
    link->depth++;
    link->events->up(link->arg);
    link->depth--;
    if (link->closed || link->state != LINK_UP) {
        link_release(link);
        return;
    }
    if (link->unsent && !link_service(link, POLLOUT)) {
        return;
    }
    poll_update(link);
}

static void login_failed(struct iscsi_link *link)
{
    char address[SOCKADDR_TEXT_LEN];
    struct error error;
    uint16_t status = link->guard.status;
    enum error_code code = ERR_REMOTE_ERROR;

    sockaddr_format(&link->address, address);
    if (status == 0) {
        const char *text = iscsi_get_error(link->context);

        error_set(&error, strstr(text, "CHAP") != NULL ? ERR_REMOTE_REFUSED : ERR_REMOTE_ERROR,
                  "the login at %s failed: %s", address, text);
        text_clean(error.detail);
    } else {
        if (status == 0x0203 || status == 0x0204) {
            code = ERR_SCAN_NO_TARGET;
        } else if ((status >> 8) == 2) {
            code = ERR_REMOTE_REFUSED;
        }
        error_set(&error, code, "%s: %s%s%s (login status %04x)", address,
                  iscsi_login_status_text(status), link->discovery ? "" : ", target ",
                  link->discovery ? "" : link->spec->target, status);
    }
    link_fail(link, &error);
}

static void login_redirected(struct iscsi_link *link)
{
    char text[ISCSI_ADDRESS_SIZE];
    struct sockaddr_storage address;
    struct error error;

    snprintf(text, sizeof(text), "%s", iscsi_get_target_address(link->context));
    text_clean(text);
    if (iscsi_address_parse(text, &address) != 0) {
        error_set(&error, ERR_ADDRESS_NOT_ALLOWED,
                  "the target redirects to \"%s\", which is not a numeric address", text);
        link_fail(link, &error);
        return;
    }
    if (link->spec->address_filter == NULL) {
        error_set(&error, ERR_ADDRESS_NOT_ALLOWED,
                  "the target redirects to %s, and redirects are not followed", text);
        link_fail(link, &error);
        return;
    }
    memset(&error, 0, sizeof(error));
    if (link->spec->address_filter(link->spec->address_filter_arg, &address, &error) != 0) {
        if (error.code != ERR_ADDRESS_NOT_ALLOWED) {
            error_set(&error, ERR_ADDRESS_NOT_ALLOWED,
                      "the target redirects to %s, which may not be dialled", text);
        }
        link_fail(link, &error);
        return;
    }
    if (++link->redirects > MAX_REDIRECTS) {
        error_set(&error, ERR_REMOTE_ERROR, "the target redirects without end, last to %s", text);
        link_fail(link, &error);
        return;
    }
    context_drop(link);
    link->address = address;
    if (link_start(link, &error) != 0) {
        link_fail(link, &error);
    }
}

static void link_connected(struct iscsi_link *link)
{
    struct error error;
    char address[SOCKADDR_TEXT_LEN];
    int socket_error = 0;
    socklen_t len = sizeof(socket_error);

    sockaddr_format(&link->address, address);
    if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &socket_error, &len) != 0) {
        socket_error = errno;
    }
    if (socket_error != 0) {
        error_set(&error, ERR_REMOTE_UNREACHABLE, "%s: %s", address, strerror(socket_error));
        link_fail(link, &error);
        return;
    }
    if (iscsi_service(link->context, POLLOUT) != 0 || !link->connected ||
        iscsi_login_async(link->context, login_done, link) != 0 ||
        iscsi_service(link->context, POLLOUT) != 0) {
        error_set(&error, ERR_REMOTE_UNREACHABLE, "%s: %s", address,
                  iscsi_get_error(link->context));
        text_clean(error.detail);
        link_fail(link, &error);
        return;
    }
    link->state = LINK_LOGIN;
    lowat_set(link, ISCSI_LOGIN_HEADER_BYTES);
    poll_update(link);
}

static bool peer_has_closed(int fd)
{
    struct pollfd pfd = {.fd = fd, .events = POLLRDHUP};

    return poll(&pfd, 1, 0) > 0 && (pfd.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* Reads a login response ahead of libiscsi. True: a whole one is there and may be handed over. */
static bool login_response_ready(struct iscsi_link *link)
{
    uint8_t pdu[ISCSI_LOGIN_MAX_BYTES];
    char address[SOCKADDR_TEXT_LEN];
    struct error error;
    const char *why;
    ssize_t n = recv(link->fd, pdu, sizeof(pdu), MSG_PEEK | MSG_DONTWAIT);
    int need = ISCSI_LOGIN_HEADER_BYTES;
    int err;

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    sockaddr_format(&link->address, address);
    if (n < 0) {
        error_set(&error, ERR_REMOTE_UNREACHABLE, "%s: %s", address, strerror(errno));
        link_fail(link, &error);
        return false;
    }
    if (n >= need) {
        need = iscsi_login_length(pdu);
        if (need < 0) {
            error_set(&error, ERR_REMOTE_ERROR, "%s does not speak iSCSI", address);
            link_fail(link, &error);
            return false;
        }
    }
    if (n < need) {
        if (n == 0 || peer_has_closed(link->fd)) {
            error_set(&error, ERR_REMOTE_UNREACHABLE, "%s closed the connection during the login",
                      address);
            link_fail(link, &error);
            return false;
        }
        lowat_set(link, need);
        return false;
    }
    err = iscsi_login_check(&link->guard, pdu, (size_t)need, &why);
    if (err != 0) {
        error_set(&error, err == -EACCES ? ERR_REMOTE_REFUSED : ERR_REMOTE_ERROR, "%s: %s", address,
                  why);
        link_fail(link, &error);
        return false;
    }
    lowat_set(link, ISCSI_LOGIN_HEADER_BYTES);
    return true;
}

static void link_login(struct iscsi_link *link, int events)
{
    struct error error;
    int service = 0;

    if (events & LOOP_READ) {
        if (login_response_ready(link)) {
            service |= POLLIN;
        } else if (link->closed || link->state != LINK_LOGIN) {
            return;
        }
    }
    if (events & LOOP_WRITE) {
        service |= POLLOUT;
    }
    if (service == 0) {
        return;
    }
    if (iscsi_service(link->context, service) != 0 || link->cut) {
        if (link->login_done) {
            login_failed(link);
        } else {
            error_set(&error, ERR_REMOTE_UNREACHABLE, "the login failed: %s",
                      iscsi_get_error(link->context));
            text_clean(error.detail);
            link_fail(link, &error);
        }
        return;
    }
    if (!link->login_done) {
        poll_update(link);
        return;
    }
    link->login_done = false;
    if (link->login_status == SCSI_STATUS_GOOD) {
        link_up(link);
    } else if (link->login_status == SCSI_STATUS_REDIRECT) {
        login_redirected(link);
    } else {
        login_failed(link);
    }
}

static void link_ready(void *arg, int events)
{
    struct iscsi_link *link = arg;

    link->depth++; /* keeps it alive to the end of this function */
    switch (link->state) {
    case LINK_CONNECTING:
        link_connected(link);
        break;
    case LINK_LOGIN:
        link_login(link, events);
        break;
    case LINK_UP:
        link_service_all(link, ((events & LOOP_READ) ? POLLIN : 0) |
                                   ((events & LOOP_WRITE) ? POLLOUT : 0));
        break;
    case LINK_DEAD:
        break;
    }
    link->depth--;
    link_release(link);
}

static int source_socket(const struct sockaddr_storage *source, const struct sockaddr_storage *to)
{
    socklen_t len = source->ss_family == AF_INET ? sizeof(struct sockaddr_in)
                                                 : sizeof(struct sockaddr_in6);
    struct sockaddr_storage from = *source;
    int one = 1;
    int fd = socket(source->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -errno;
    }
    /* The port is at the same place in both families. */
    ((struct sockaddr_in *)&from)->sin_port = 0;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
        bind(fd, (const struct sockaddr *)&from, len) != 0 ||
        (connect(fd, (const struct sockaddr *)to, len) != 0 && errno != EINPROGRESS)) {
        int err = -errno;

        close(fd);
        return err;
    }
    return fd;
}

/* A listener of ours that nobody else knows. */
static int decoy_listen(char address[SOCKADDR_TEXT_LEN])
{
    struct sockaddr_storage own = {0};
    struct sockaddr_in *in = (struct sockaddr_in *)&own;
    socklen_t len = sizeof(*in);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -errno;
    }
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)in, len) != 0 || listen(fd, 1) != 0 ||
        getsockname(fd, (struct sockaddr *)in, &len) != 0) {
        int err = -errno;

        close(fd);
        return err;
    }
    sockaddr_format(&own, address);
    return fd;
}

/* libiscsi 1.19 cannot dial from an address of ours. It makes a connection to a listener of ours, and that is replaced, before anybody
 * has looked at it, by one that was dialled as it has to be. */
static int link_dial_from(struct iscsi_link *link, struct error *error)
{
    const struct sockaddr_storage *source = &link->spec->source;
    char decoy[SOCKADDR_TEXT_LEN];
    char address[SOCKADDR_TEXT_LEN];
    char from[SOCKADDR_TEXT_LEN];
    int listener = -1;
    int err = -EAFNOSUPPORT;
    int fd = source->ss_family == link->address.ss_family ? source_socket(source, &link->address)
                                                          : -EAFNOSUPPORT;

    if (fd >= 0) {
        listener = decoy_listen(decoy);
        err = listener < 0 ? listener : 0;
    } else {
        err = fd;
    }
    if (err == 0 && (iscsi_connect_async(link->context, decoy, connect_done, link) != 0 ||
                     dup3(fd, iscsi_get_fd(link->context), O_CLOEXEC) < 0)) {
        err = -EIO;
    }
    if (listener >= 0) {
        close(listener);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (err != 0) {
        sockaddr_format(&link->address, address);
        sockaddr_format(source, from);
        return error_set(error, ERR_REMOTE_UNREACHABLE, "%s cannot be dialled from %s: %s", address,
                         from, strerror(-err));
    }
    return 0;
}

static int link_start(struct iscsi_link *link, struct error *error)
{
    const struct iscsi_spec *spec = link->spec;
    char address[SOCKADDR_TEXT_LEN];
    uint64_t isid = spec->isid != 0 ? spec->isid : random_unpredictable_u64();
    struct iscsi_context *context = iscsi_create_context(spec->initiator);
    int err;

    if (context == NULL) {
        return error_set(error, ERR_NO_MEMORY, "no memory for an iSCSI session");
    }
    link->context = context;
    link->state = LINK_CONNECTING;
    link->connected = false;
    link->cut = false;
    link->login_done = false;
    link->guard = (struct iscsi_login_guard){
        .mutual = spec->mutual_chap.user[0] != 0,
        .discovery = link->discovery,
        .require_header_digest = spec->header_digest == ISCSI_DIGEST_REQUIRE,
    };
    iscsi_set_noautoreconnect(context, 1);
    iscsi_set_isid_random(context, (uint32_t)(isid >> 16) & 0xffffff, (uint32_t)isid & 0xffff);
    iscsi_set_session_type(context,
                           link->discovery ? ISCSI_SESSION_DISCOVERY : ISCSI_SESSION_NORMAL);
    if (!link->discovery) {
        iscsi_set_targetname(context, spec->target);
        if (spec->alias[0] != '\0') {
            iscsi_set_alias(context, spec->alias);
        }
    }
    switch (spec->header_digest) {
    case ISCSI_DIGEST_NONE:
        iscsi_set_header_digest(context, ISCSI_HEADER_DIGEST_NONE);
        break;
    case ISCSI_DIGEST_PREFER:
        iscsi_set_header_digest(context, ISCSI_HEADER_DIGEST_CRC32C_NONE);
        break;
    case ISCSI_DIGEST_REQUIRE:
        iscsi_set_header_digest(context, ISCSI_HEADER_DIGEST_CRC32C);
        break;
    }
    if (spec->chap.user[0] != 0) {
        iscsi_set_initiator_username_pwd(context, spec->chap.user, spec->chap.secret);
    }
    if (spec->mutual_chap.user[0] != 0) {
        iscsi_set_target_username_pwd(context, spec->mutual_chap.user, spec->mutual_chap.secret);
    }
    sockaddr_format(&link->address, address);
    if (spec->source.ss_family != 0) {
        err = link_dial_from(link, error);
        if (err != 0) {
            return err;
        }
    } else if (iscsi_connect_async(context, address, connect_done, link) != 0) {
        error_set(error, ERR_REMOTE_UNREACHABLE, "%s: %s", address, iscsi_get_error(context));
        text_clean(error->detail);
        return error_info(error->code)->err;
    }
    link->fd = iscsi_get_fd(context);
    err = loop_poll_new(link->loop, link->fd, link_ready, link, &link->poll);
    if (err != 0) {
        return error_set(error, ERR_NO_MEMORY, "%s: %s", address, strerror(-err));
    }
    link->poll_events = LOOP_WRITE;
    loop_poll_set(link->poll, LOOP_WRITE);
    return 0;
}

static void round_end_want(struct iscsi_link *link)
{
    if (!link->round_end_pending) {
        link->round_end_pending = true;
        loop_defer(link->loop, &link->round_end);
    }
}

struct iscsi_link *iscsi_link_dial(struct loop *loop, const struct iscsi_spec *spec,
                                   const struct sockaddr_storage *address, bool discovery,
                                   const struct iscsi_link_events *events, void *arg)
{
    struct iscsi_link *link = calloc(1, sizeof(*link));
    struct error error;

    if (link == NULL) {
        return NULL;
    }
    link->zombies = calloc(MAX_ZOMBIES, sizeof(*link->zombies));
    if (link->zombies == NULL) {
        free(link);
        return NULL;
    }
    link->loop = loop;
    link->spec = spec;
    link->address = *address;
    link->discovery = discovery;
    link->events = events;
    link->arg = arg;
    link->fd = -1;
    link->window = 1024;
    list_init(&link->outstanding);
    list_init(&link->lingering);
    list_init(&link->completed);
    link->round_end.fn = link_round_end;
    link->round_end.arg = link;
    loop_timer_init(&link->tick, loop, link_tick, link);
    if (link_start(link, &error) != 0) {
        /* Never calls back from here. */
        link->dial_error = malloc(sizeof(*link->dial_error));
        if (link->dial_error != NULL) {
            *link->dial_error = error;
        }
        round_end_want(link);
    }
    return link;
}

static void link_round_end(void *arg)
{
    struct iscsi_link *link = arg;

    link->round_end_pending = false;
    link->depth++;
    if (link->closed || link->state == LINK_DEAD) {
        ;
    } else if (link->state != LINK_UP) {
        struct error error;

        if (link->dial_error != NULL) {
            error = *link->dial_error;
        } else {
            error_set(&error, ERR_NO_MEMORY, "no memory");
        }
        link_fail(link, &error);
    } else if (link->unsent && link_service(link, POLLOUT)) {
        poll_update(link);
    }
    link->depth--;
    link_release(link);
}

/* --- an open session
 * ------------------------------------------------------------------------------------------ */

int iscsi_link_send(struct iscsi_link *link, struct iscsi_cmd *cmd)
{
    static const int directions[] = {
        [ISCSI_CMD_NONE] = SCSI_XFER_NONE,
        [ISCSI_CMD_READ] = SCSI_XFER_READ,
        [ISCSI_CMD_WRITE] = SCSI_XFER_WRITE,
    };
    struct scsi_task *task;

    CHECK(link->state == LINK_UP && !link->closed);
    _Static_assert(sizeof(struct scsi_iovec) == sizeof(struct iovec) &&
                       offsetof(struct scsi_iovec, iov_len) == offsetof(struct iovec, iov_len),
                   "libiscsi promises that its iovec is that of POSIX");
    cmd->link = link;
    cmd->task = NULL;
    if (link->ending) {
        link->n_outstanding++;
        list_push_back(&link->outstanding, &cmd->link_entry);
        return 0;
    }
    task = scsi_create_task(cmd->cdb_len, cmd->cdb, directions[cmd->direction], (int)cmd->len);
    if (task == NULL) {
        return -ENOMEM;
    }
    if (cmd->iov != NULL && cmd->direction == ISCSI_CMD_READ) {
        scsi_task_set_iov_in(task, (struct scsi_iovec *)cmd->iov, (int)cmd->n_iov);
    } else if (cmd->iov != NULL) {
        scsi_task_set_iov_out(task, (struct scsi_iovec *)cmd->iov, (int)cmd->n_iov);
    }
    cmd->task = task;
    if (iscsi_scsi_command_async(link->context, link->spec->lun, task, scsi_done, NULL, cmd) != 0) {
        scsi_free_scsi_task(task);
        cmd->task = NULL;
        return -ENOMEM;
    }
    cmd->sent_ns = loop_now_ns(link->loop);
    if (link->n_outstanding++ == 0 && !link->nop_outstanding) {
        link->waiting_ns = cmd->sent_ns;
    }
    list_push_back(&link->outstanding, &cmd->link_entry);
    link->unsent = true;
    link->unsent_writes |= cmd->direction == ISCSI_CMD_WRITE;
    if (link->depth == 0) {
        round_end_want(link);
    }
    return 0;
}

int iscsi_link_discover(struct iscsi_link *link)
{
    CHECK(link->state == LINK_UP && !link->closed);
    if (iscsi_discovery_async(link->context, discovery_done, link) != 0) {
        return -ENOMEM;
    }
    link->unsent = true;
    if (link->depth == 0) {
        round_end_want(link);
    }
    return 0;
}

int iscsi_link_reset_lun(struct iscsi_link *link)
{
    CHECK(link->state == LINK_UP && !link->closed && link->n_outstanding == 0);
    if (iscsi_task_mgmt_lun_reset_async(link->context, link->spec->lun, reset_done, link) != 0) {
        return -ENOMEM;
    }
    link->unsent = true;
    if (link->depth == 0) {
        round_end_want(link);
    }
    return 0;
}

unsigned iscsi_link_room(const struct iscsi_link *link)
{
    /* Lingering writes, too many zombies: the queue must run dry once. With nothing outstanding it will. */
    if (link->n_outstanding >= link->window || !list_empty(&link->lingering) ||
        (link->n_zombies >= MAX_ZOMBIES && link->n_outstanding > 0)) {
        return 0;
    }
    return link->window - link->n_outstanding;
}

unsigned iscsi_link_window(const struct iscsi_link *link)
{
    return link->window;
}

void iscsi_link_own(struct iscsi_link *link, const struct iscsi_spec *spec,
                    const struct iscsi_link_events *events, void *arg)
{
    link->spec = spec;
    link->events = events;
    link->arg = arg;
}

const struct sockaddr_storage *iscsi_link_address(const struct iscsi_link *link)
{
    return &link->address;
}

static uint32_t command_timeout_ms(const struct iscsi_spec *spec, uint32_t stall_ms)
{
    if (spec->command_timeout_ms != 0) {
        return spec->command_timeout_ms;
    }
    return stall_ms * 4 > COMMAND_TIMEOUT_MS ? stall_ms * 4 : COMMAND_TIMEOUT_MS;
}

/* Looks after a session in which nothing happens. */
static void link_tick(void *arg)
{
    struct iscsi_link *link = arg;
    uint32_t stall_ms =
        link->spec->stall_timeout_ms != 0 ? link->spec->stall_timeout_ms : DEFAULT_STALL_MS;
    uint32_t command_ms = command_timeout_ms(link->spec, stall_ms);
    uint64_t now = loop_now_ns(link->loop);
    uint64_t since = link->heard_ns > link->waiting_ns ? link->heard_ns : link->waiting_ns;
    char address[SOCKADDR_TEXT_LEN];
    struct error error;
    int readable = 0;

    loop_timer_start(&link->tick, stall_ms * MS_NS / 8 + MS_NS);
    if (ioctl(link->fd, FIONREAD, &readable) == 0 && readable > 0) {
        link->heard_ns = now; /* it is we who are late */
        return;
    }
    sockaddr_format(&link->address, address);
    if ((link->n_outstanding > 0 || link->nop_outstanding) && now - since >= stall_ms * MS_NS) {
        error_set(&error, ERR_TIMEOUT, "%s has not answered for %llu ms", address,
                  (unsigned long long)((now - since) / MS_NS));
        link_fail(link, &error);
        return;
    }
    if (link->n_outstanding > 0) {
        struct iscsi_cmd *oldest =
            list_entry(list_first(&link->outstanding), struct iscsi_cmd, link_entry);

        if (now - oldest->sent_ns >= command_ms * MS_NS) {
            error_set(&error, ERR_TIMEOUT, "%s has not answered a command (%02x) for %u ms",
                      address, oldest->cdb[0], command_ms);
            link_fail(link, &error);
            return;
        }
    }
    if (!link->nop_outstanding && now - link->heard_ns >= stall_ms * MS_NS / 3) {
        if (iscsi_nop_out_async(link->context, nop_done, NULL, 0, link) == 0) {
            if (link->n_outstanding == 0) {
                link->waiting_ns = now;
            }
            link->nop_outstanding = true;
            link->unsent = true;
            round_end_want(link);
        }
    }
}
