// SPDX-License-Identifier: Apache-2.0
/*
 *     LOGIN ─▶ UP ─▶ DEAD
 *       │             ▲
 *       └─────────────┘ any failure: down(), once
 *
 * Commands that are given in one round of the loop leave together at its end, or together with what was answered in it. The
 * first one of an idle session leaves at once, and of many a group at a time: the target works on them while the loop is busy with what
 * comes behind, or with the other half of a mirrored write.
 *
 * The session counts as lost when nothing came for stall_timeout_ms although something is outstanding; an idle session is asked with a
 * NOP.
 */
#include "block/iscsi_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/check.h"
#include "block/iscsi_login.h"

enum {
    DEFAULT_STALL_MS = 15000,
    COMMAND_TIMEOUT_MS = 60000,
    GROUP = 8,
};

enum link_state { LINK_LOGIN, LINK_UP, LINK_DEAD };

struct iscsi_link {
    struct loop *loop;
    const struct iscsi_spec *spec;
    struct sockaddr_storage address;
    bool discovery;
    const struct iscsi_link_events *events;
    void *arg;
    enum link_state state;
    bool closed;
    unsigned depth; /* callbacks of the owner, and functions of ours, that still need it */

    struct iscsi_login *login; /* until it is up; in a discovery session to the end */
    struct iscsi_wire *wire;
    int fd; /* of the wire */
    struct loop_poll *poll;
    int poll_events;

    struct list outstanding; /* oldest first */
    unsigned n_outstanding;
    unsigned window;

    struct loop_task round_end;
    bool round_end_pending;
    bool unsent;
    unsigned n_fresh; /* commands that were given and not pushed */

    struct loop_timer tick;
    uint64_t heard_ns;   /* when the target last said something */
    uint64_t waiting_ns; /* since when something is outstanding */
};

static void link_round_end(void *arg);
static void link_ready(void *arg, int events);
static void link_tick(void *arg);

/* --- the end ------------------------------------------------------------------------------------------------- */

static void link_release(struct iscsi_link *link)
{
    if (link->closed && !link->round_end_pending && link->depth == 0) {
        free(link);
    }
}

static void link_die(struct iscsi_link *link)
{
    link->state = LINK_DEAD;
    loop_timer_stop(&link->tick);
    if (link->poll != NULL) {
        loop_poll_free(link->poll);
        link->poll = NULL;
    }
    iscsi_wire_free(link->wire);
    link->wire = NULL;
    if (link->login != NULL) {
        iscsi_login_free(link->login);
        link->login = NULL;
    }
    while (list_pop_front(&link->outstanding) != NULL) {
        link->n_outstanding--;
    }
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

/* What push or pull has said. */
static void link_lost(struct iscsi_link *link, int err)
{
    char address[SOCKADDR_TEXT_LEN];
    struct error error;

    sockaddr_format(&link->address, address);
    if (err == -EPROTO) {
        error_set(&error, ERR_REMOTE_ERROR, "the session with %s broke down: %s", address,
                  iscsi_wire_why(link->wire));
    } else if (err == -ECONNRESET && iscsi_wire_is_closed(link->wire)) {
        error_set(&error, ERR_REMOTE_UNREACHABLE, "%s closed the connection", address);
    } else if (err == -ESHUTDOWN) {
        error_set(&error, ERR_REMOTE_UNREACHABLE, "%s asked for the end of the session", address);
    } else {
        error_set(&error, ERR_REMOTE_UNREACHABLE, "the connection to %s was lost: %s", address,
                  strerror(-err));
    }
    link_fail(link, &error);
}

void iscsi_link_close(struct iscsi_link *link)
{
    CHECK(!link->closed);
    link->closed = true;
    if (link->wire != NULL && link->n_outstanding == 0) {
        /* As far as the socket takes it; the answer does not matter. */
        iscsi_wire_logout(link->wire);
        iscsi_wire_push(link->wire);
    }
    link_die(link);
    link_release(link);
}

/* --- an open session ----------------------------------------------------------------------------------------- */

static void poll_update(struct iscsi_link *link)
{
    int events = LOOP_READ | (iscsi_wire_is_pushed(link->wire) ? 0 : LOOP_WRITE);

    if (events != link->poll_events) {
        link->poll_events = events;
        loop_poll_set(link->poll, events);
    }
}

static void window_note(struct iscsi_link *link)
{
    unsigned window = link->n_outstanding + iscsi_wire_room(link->wire);

    link->window = window > link->window ? window : link->window;
}

/* Hands the answers that have come to the owner. False: the link was closed or died meanwhile. */
static bool link_dispatch(struct iscsi_link *link)
{
    struct iscsi_cmd *cmd;
    int response;

    while ((cmd = iscsi_wire_answered(link->wire)) != NULL) {
        uint8_t *collected = cmd->collected;

        list_remove(&cmd->link_entry);
        link->n_outstanding--;
        cmd->fn(cmd);
        free(collected);
        if (link->closed || link->state != LINK_UP) {
            return false;
        }
    }
    if (iscsi_wire_reset_answer(link->wire, &response) && link->events->reset != NULL) {
        link->events->reset(link->arg, response);
        return !link->closed && link->state == LINK_UP;
    }
    return true;
}

static void link_pull(struct iscsi_link *link)
{
    int err = iscsi_wire_pull(link->wire);

    link->heard_ns = loop_now_ns(link->loop);
    window_note(link);
    /* What came whole before the end counts. */
    if (link_dispatch(link) && err != 0) {
        link_lost(link, err);
    }
}

/* Gives the kernel what is there to be sent. Commands that were answered before all their data had gone end here too. */
static void link_push(struct iscsi_link *link)
{
    do {
        int err;

        link->unsent = false;
        link->n_fresh = 0;
        err = iscsi_wire_push(link->wire);
        if (err != 0) {
            link_pull(link); /* may tell more of the end */
            if (!link->closed && link->state == LINK_UP) {
                link_lost(link, err);
            }
            return;
        }
        if (!link_dispatch(link)) {
            return;
        }
    } while (link->unsent);
    poll_update(link);
}

static void link_ready(void *arg, int events)
{
    struct iscsi_link *link = arg;

    link->depth++; /* keeps it alive to the end of this function */
    if (events & LOOP_READ) {
        link_pull(link);
    }
    if (!link->closed && link->state == LINK_UP) {
        link_push(link);
    }
    link->depth--;
    link_release(link);
}

static void round_end_want(struct iscsi_link *link)
{
    link->unsent = true;
    if (link->depth == 0 && !link->round_end_pending) {
        link->round_end_pending = true;
        loop_defer(link->loop, &link->round_end);
    }
}

static void link_round_end(void *arg)
{
    struct iscsi_link *link = arg;

    link->round_end_pending = false;
    link->depth++;
    if (!link->closed && link->state == LINK_UP && link->wire != NULL) {
        link_push(link);
    }
    link->depth--;
    link_release(link);
}

int iscsi_link_send(struct iscsi_link *link, struct iscsi_cmd *cmd)
{
    bool idle = link->n_outstanding == 0;
    int err;

    CHECK(link->wire != NULL && !link->closed);
    err = iscsi_wire_send(link->wire, cmd);
    if (err != 0) {
        return err;
    }
    cmd->sent_ns = loop_now_ns(link->loop);
    if (idle && !iscsi_wire_pinging(link->wire)) {
        link->waiting_ns = cmd->sent_ns;
    }
    link->n_outstanding++;
    list_push_back(&link->outstanding, &cmd->link_entry);
    round_end_want(link);
    if (idle || ++link->n_fresh >= GROUP) {
        link->n_fresh = 0;
        iscsi_wire_push(link->wire); /* the round's own push tells of a failure */
    }
    return 0;
}

int iscsi_link_discover(struct iscsi_link *link)
{
    CHECK(link->state == LINK_UP && link->discovery && !link->closed);
    return iscsi_login_discover(link->login);
}

int iscsi_link_reset_lun(struct iscsi_link *link)
{
    CHECK(link->wire != NULL && !link->closed && link->n_outstanding == 0);
    iscsi_wire_reset_lun(link->wire);
    round_end_want(link);
    return 0;
}

unsigned iscsi_link_room(const struct iscsi_link *link)
{
    return iscsi_wire_room(link->wire);
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

/* --- the beginning ------------------------------------------------------------------------------------------- */

static uint32_t stall_ms_of(const struct iscsi_spec *spec)
{
    return spec->stall_timeout_ms != 0 ? spec->stall_timeout_ms : DEFAULT_STALL_MS;
}

/* The login's connection becomes the wire's. */
static int link_take(struct iscsi_link *link)
{
    struct iscsi_terms terms;
    int fd = iscsi_login_take(link->login, &terms);
    int err;

    if (fd < 0) {
        return fd;
    }
    iscsi_login_free(link->login);
    link->login = NULL;
    link->wire = iscsi_wire_new(fd, link->spec->lun, &terms);
    if (link->wire == NULL) {
        close(fd);
        return -ENOMEM;
    }
    link->fd = fd;
    err = loop_poll_new(link->loop, fd, link_ready, link, &link->poll);
    if (err != 0) {
        return err;
    }
    link->poll_events = LOOP_READ;
    loop_poll_set(link->poll, LOOP_READ);
    link->heard_ns = loop_now_ns(link->loop);
    loop_timer_start(&link->tick, stall_ms_of(link->spec) * MS_NS / 8 + MS_NS);
    window_note(link);
    return 0;
}

static void login_done(void *arg, const struct error *error)
{
    struct iscsi_link *link = arg;
    int err;

    link->depth++;
    link->address = *iscsi_login_address(link->login);
    if (error != NULL) {
        link_fail(link, error);
    } else if (!link->discovery && (err = link_take(link)) != 0) {
        struct error no;

        error_set(&no, ERR_NO_MEMORY, "no room for an iSCSI session: %s", strerror(-err));
        link_fail(link, &no);
    } else {
        link->state = LINK_UP;
        link->events->up(link->arg);
        if (!link->closed && link->wire != NULL && link->unsent) {
            link_push(link);
        }
    }
    link->depth--;
    link_release(link);
}

static void login_found(void *arg, const struct iscsi_found_target *targets, unsigned n_targets,
                        const struct error *error)
{
    struct iscsi_link *link = arg;

    if (error != NULL) {
        link_fail(link, error);
    } else {
        link->events->found(link->arg, targets, n_targets);
    }
}

static const struct iscsi_login_events login_events = {.done = login_done, .found = login_found};

struct iscsi_link *iscsi_link_dial(struct loop *loop, const struct iscsi_spec *spec,
                                   const struct sockaddr_storage *address, bool discovery,
                                   const struct iscsi_link_events *events, void *arg)
{
    struct iscsi_link *link = calloc(1, sizeof(*link));

    if (link == NULL) {
        return NULL;
    }
    link->loop = loop;
    link->spec = spec;
    link->address = *address;
    link->discovery = discovery;
    link->events = events;
    link->arg = arg;
    link->fd = -1;
    list_init(&link->outstanding);
    link->round_end.fn = link_round_end;
    link->round_end.arg = link;
    loop_timer_init(&link->tick, loop, link_tick, link);
    link->login = iscsi_login_new(loop, spec, address, discovery, &login_events, link);
    if (link->login == NULL) {
        free(link);
        return NULL;
    }
    return link;
}

/* --- a session in which nothing happens ----------------------------------------------------------------------- */

static uint32_t command_timeout_ms(const struct iscsi_spec *spec, uint32_t stall_ms)
{
    if (spec->command_timeout_ms != 0) {
        return spec->command_timeout_ms;
    }
    return stall_ms * 4 > COMMAND_TIMEOUT_MS ? stall_ms * 4 : COMMAND_TIMEOUT_MS;
}

static void link_tick(void *arg)
{
    struct iscsi_link *link = arg;
    uint32_t stall_ms = stall_ms_of(link->spec);
    uint32_t command_ms = command_timeout_ms(link->spec, stall_ms);
    uint64_t now = loop_now_ns(link->loop);
    uint64_t since = link->heard_ns > link->waiting_ns ? link->heard_ns : link->waiting_ns;
    bool pinging = iscsi_wire_pinging(link->wire);
    char address[SOCKADDR_TEXT_LEN];
    struct error error;
    int readable = 0;

    loop_timer_start(&link->tick, stall_ms * MS_NS / 8 + MS_NS);
    if (ioctl(link->fd, FIONREAD, &readable) == 0 && readable > 0) {
        link->heard_ns = now; /* it is we who are late */
        return;
    }
    sockaddr_format(&link->address, address);
    if ((link->n_outstanding > 0 || pinging) && now - since >= stall_ms * MS_NS) {
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
    if (!pinging && now - link->heard_ns >= stall_ms * MS_NS / 3) {
        iscsi_wire_ping(link->wire);
        if (link->n_outstanding == 0) {
            link->waiting_ns = now;
        }
        round_end_want(link);
    }
}
