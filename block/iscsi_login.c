// SPDX-License-Identifier: Apache-2.0
/*
 * A login on libiscsi.
 *
 *     CONNECTING ─▶ LOGIN ─▶ DONE ─▶ ENDED
 *          │  ▲       │                ▲
 *          │  └───────┘ redirect       │ taken, or asked for targets and failed
 *          └──────────┴────────────────┘ any failure
 *
 * What libiscsi 1.19 does, and what follows from it here:
 *
 * - It may not be destroyed inside its own callbacks. So callbacks only note the answer; the owner hears of it when iscsi_service() has
 *   returned.
 * - It believes login responses: they are read first (iscsi_login_check()). SO_RCVLOWAT makes the loop wait until a whole response is
 *   there, and libiscsi reads one response per call while it is not logged in, and none after the last.
 * - It cannot dial from an address of ours: see dial_from().
 * - The connection outlives it: a second descriptor of the socket, and what the responses said, are all that a session needs from
 *   there on (iscsi_wire.h).
 */
#include "block/iscsi_login.h"

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
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/random.h"

enum { MAX_REDIRECTS = 4, MAX_FOUND_TARGETS = 4096 };

enum login_state { LOGIN_CONNECTING, LOGIN_ASKING, LOGIN_DONE, LOGIN_ENDED };

struct iscsi_login {
    struct loop *loop;
    const struct iscsi_spec *spec;
    struct sockaddr_storage address;
    bool discovery;
    const struct iscsi_login_events *events;
    void *arg;
    enum login_state state;
    bool freed;
    unsigned depth; /* callbacks of the owner, and functions of ours, that still need it */

    struct iscsi_context *context;
    struct loop_poll *poll;
    int poll_events;
    int fd;
    unsigned redirects;
    struct iscsi_login_guard guard;

    /* Noted by callbacks of libiscsi. */
    bool connected;
    bool cut; /* the connection is gone */
    bool login_done;
    int login_status;
    bool found_done;

    struct iscsi_found_target *found;
    unsigned n_found;

    struct loop_task failing; /* the dial has failed at once */
    bool failing_posted;
    struct error dial_error;
};

/* Set while a context is destroyed: its callbacks then mean nothing. */
static _Thread_local bool dropping;

static void login_ready(void *arg, int events);
static int login_start(struct iscsi_login *login, struct error *error);

/* --- the end ------------------------------------------------------------------------------------------------- */

/* Takes the context away. Never inside iscsi_service(). */
static void context_drop(struct iscsi_login *login)
{
    if (login->poll != NULL) {
        loop_poll_free(login->poll);
        login->poll = NULL;
    }
    if (login->context != NULL) {
        dropping = true;
        iscsi_destroy_context(login->context);
        dropping = false;
        login->context = NULL;
    }
    login->fd = -1;
}

static void login_release(struct iscsi_login *login)
{
    if (login->freed && login->depth == 0 && !login->failing_posted) {
        free(login->found);
        free(login);
    }
}

static void login_end(struct iscsi_login *login, const struct error *error)
{
    struct error copy = *error;
    bool asked = login->state == LOGIN_DONE;

    if (login->state == LOGIN_ENDED) {
        return;
    }
    login->state = LOGIN_ENDED;
    context_drop(login);
    login->depth++;
    if (asked) {
        login->events->found(login->arg, NULL, 0, &copy);
    } else {
        login->events->done(login->arg, &copy);
    }
    login->depth--;
    login_release(login);
}

void iscsi_login_free(struct iscsi_login *login)
{
    CHECK(!login->freed);
    login->freed = true;
    login->state = LOGIN_ENDED;
    context_drop(login);
    login_release(login);
}

/* --- what libiscsi calls ------------------------------------------------------------------------------------- */

static void connect_done(struct iscsi_context *context, int status, void *command_data,
                         void *private_data)
{
    struct iscsi_login *login = private_data;

    (void)context;
    (void)command_data;
    if (dropping) {
        return;
    }
    if (status == SCSI_STATUS_GOOD) {
        login->connected = true;
    } else {
        login->cut = true;
    }
}

static void login_done(struct iscsi_context *context, int status, void *command_data,
                       void *private_data)
{
    struct iscsi_login *login = private_data;

    (void)context;
    (void)command_data;
    if (dropping) {
        return;
    }
    login->login_done = true;
    login->login_status = status;
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
    struct iscsi_login *login = private_data;
    const struct iscsi_discovery_address *first = command_data;
    unsigned count = 0;

    (void)context;
    if (dropping) {
        return;
    }
    if (status != SCSI_STATUS_GOOD) {
        login->cut = true;
        return;
    }
    for (const struct iscsi_discovery_address *a = first; a != NULL; a = a->next) {
        count++;
    }
    login->n_found = count < MAX_FOUND_TARGETS ? count : MAX_FOUND_TARGETS;
    login->found = calloc(login->n_found + 1, sizeof(*login->found));
    if (login->found == NULL) {
        login->cut = true;
        return;
    }
    for (const struct iscsi_discovery_address *a = first; a != NULL; a = a->next) {
        count--;
        /* What RFC 7143 does not allow as a name is left out. */
        if (count < login->n_found && strlen(a->target_name) < ISCSI_NAME_SIZE &&
            a->target_name[0] != 0) {
            found_take(&login->found[count], a);
        }
    }
    for (unsigned i = 0; i < login->n_found; i++) {
        if (login->found[i].name[0] != 0) {
            login->found[count++] = login->found[i];
        }
    }
    login->n_found = count;
    login->found_done = true;
}

/* --- servicing ------------------------------------------------------------------------------------------------ */

static void poll_update(struct iscsi_login *login)
{
    int wanted = iscsi_which_events(login->context);
    int events = ((wanted & POLLIN) ? LOOP_READ : 0) | ((wanted & POLLOUT) ? LOOP_WRITE : 0);

    if (login->state == LOGIN_CONNECTING) {
        events = LOOP_WRITE;
    }
    if (events != login->poll_events) {
        login->poll_events = events;
        loop_poll_set(login->poll, events);
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
static void lost_error(struct iscsi_login *login, struct error *error)
{
    char address[SOCKADDR_TEXT_LEN];
    char byte;
    int socket_error = 0;
    socklen_t len = sizeof(socket_error);
    ssize_t n;

    sockaddr_format(&login->address, address);
    if (!iscsi_is_logged_in(login->context)) {
        error_set(error, ERR_REMOTE_UNREACHABLE, "%s asked for the end of the session", address);
        return;
    }
    getsockopt(login->fd, SOL_SOCKET, SO_ERROR, &socket_error, &len);
    n = recv(login->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
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
                  iscsi_get_error(login->context));
        text_clean(error->detail);
    }
}

/* --- dial and login ------------------------------------------------------------------------------------------- */

static void lowat_set(struct iscsi_login *login, int bytes)
{
    setsockopt(login->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes));
}

static void login_up(struct iscsi_login *login)
{
    struct error error;

    if (!login->guard.complete) {
        error_set(&error, ERR_REMOTE_ERROR, "the login has ended before its last response");
        login_end(login, &error);
        return;
    }
    login->state = LOGIN_DONE;
    lowat_set(login, 1);
    poll_update(login);
    login->events->done(login->arg, NULL);
}

static void login_failed(struct iscsi_login *login)
{
    char address[SOCKADDR_TEXT_LEN];
    struct error error;
    uint16_t status = login->guard.status;
    enum error_code code = ERR_REMOTE_ERROR;

    sockaddr_format(&login->address, address);
    if (status == 0) {
        const char *text = iscsi_get_error(login->context);

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
                  iscsi_login_status_text(status), login->discovery ? "" : ", target ",
                  login->discovery ? "" : login->spec->target, status);
    }
    login_end(login, &error);
}

static void login_redirected(struct iscsi_login *login)
{
    char text[ISCSI_ADDRESS_SIZE];
    struct sockaddr_storage address;
    struct error error;

    snprintf(text, sizeof(text), "%s", iscsi_get_target_address(login->context));
    text_clean(text);
    if (iscsi_address_parse(text, &address) != 0) {
        error_set(&error, ERR_ADDRESS_NOT_ALLOWED,
                  "the target redirects to \"%s\", which is not a numeric address", text);
        login_end(login, &error);
        return;
    }
    if (login->spec->address_filter == NULL) {
        error_set(&error, ERR_ADDRESS_NOT_ALLOWED,
                  "the target redirects to %s, and redirects are not followed", text);
        login_end(login, &error);
        return;
    }
    memset(&error, 0, sizeof(error));
    if (login->spec->address_filter(login->spec->address_filter_arg, &address, &error) != 0) {
        if (error.code != ERR_ADDRESS_NOT_ALLOWED) {
            error_set(&error, ERR_ADDRESS_NOT_ALLOWED,
                      "the target redirects to %s, which may not be dialled", text);
        }
        login_end(login, &error);
        return;
    }
    if (++login->redirects > MAX_REDIRECTS) {
        error_set(&error, ERR_REMOTE_ERROR, "the target redirects without end, last to %s", text);
        login_end(login, &error);
        return;
    }
    context_drop(login);
    login->address = address;
    if (login_start(login, &error) != 0) {
        login_end(login, &error);
    }
}

static void login_connected(struct iscsi_login *login)
{
    struct error error;
    char address[SOCKADDR_TEXT_LEN];
    int socket_error = 0;
    socklen_t len = sizeof(socket_error);

    sockaddr_format(&login->address, address);
    if (getsockopt(login->fd, SOL_SOCKET, SO_ERROR, &socket_error, &len) != 0) {
        socket_error = errno;
    }
    if (socket_error != 0) {
        error_set(&error, ERR_REMOTE_UNREACHABLE, "%s: %s", address, strerror(socket_error));
        login_end(login, &error);
        return;
    }
    if (iscsi_service(login->context, POLLOUT) != 0 || !login->connected ||
        iscsi_login_async(login->context, login_done, login) != 0 ||
        iscsi_service(login->context, POLLOUT) != 0) {
        error_set(&error, ERR_REMOTE_UNREACHABLE, "%s: %s", address,
                  iscsi_get_error(login->context));
        text_clean(error.detail);
        login_end(login, &error);
        return;
    }
    login->state = LOGIN_ASKING;
    lowat_set(login, ISCSI_LOGIN_HEADER_BYTES);
    poll_update(login);
}

static bool peer_has_closed(int fd)
{
    struct pollfd pfd = {.fd = fd, .events = POLLRDHUP};

    return poll(&pfd, 1, 0) > 0 && (pfd.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* Reads a login response ahead of libiscsi. True: a whole one is there and may be handed over. */
static bool login_response_ready(struct iscsi_login *login)
{
    uint8_t pdu[ISCSI_LOGIN_MAX_BYTES];
    char address[SOCKADDR_TEXT_LEN];
    struct error error;
    const char *why;
    ssize_t n = recv(login->fd, pdu, sizeof(pdu), MSG_PEEK | MSG_DONTWAIT);
    int need = ISCSI_LOGIN_HEADER_BYTES;
    int err;

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    sockaddr_format(&login->address, address);
    if (n < 0) {
        error_set(&error, ERR_REMOTE_UNREACHABLE, "%s: %s", address, strerror(errno));
        login_end(login, &error);
        return false;
    }
    if (n >= need) {
        need = iscsi_login_length(pdu);
        if (need < 0) {
            error_set(&error, ERR_REMOTE_ERROR, "%s does not speak iSCSI", address);
            login_end(login, &error);
            return false;
        }
    }
    if (n < need) {
        if (n == 0 || peer_has_closed(login->fd)) {
            error_set(&error, ERR_REMOTE_UNREACHABLE, "%s closed the connection during the login",
                      address);
            login_end(login, &error);
            return false;
        }
        lowat_set(login, need);
        return false;
    }
    err = iscsi_login_check(&login->guard, pdu, (size_t)need, &why);
    if (err != 0) {
        error_set(&error, err == -EACCES ? ERR_REMOTE_REFUSED : ERR_REMOTE_ERROR, "%s: %s", address,
                  why);
        login_end(login, &error);
        return false;
    }
    lowat_set(login, ISCSI_LOGIN_HEADER_BYTES);
    return true;
}

static void login_service(struct iscsi_login *login, int events)
{
    struct error error;
    int service = 0;

    if (events & LOOP_READ) {
        if (login_response_ready(login)) {
            service |= POLLIN;
        } else if (login->freed || login->state != LOGIN_ASKING) {
            return;
        }
    }
    if (events & LOOP_WRITE) {
        service |= POLLOUT;
    }
    if (service == 0) {
        return;
    }
    if (iscsi_service(login->context, service) != 0 || login->cut) {
        if (login->login_done) {
            login_failed(login);
        } else {
            error_set(&error, ERR_REMOTE_UNREACHABLE, "the login failed: %s",
                      iscsi_get_error(login->context));
            text_clean(error.detail);
            login_end(login, &error);
        }
        return;
    }
    if (!login->login_done) {
        poll_update(login);
        return;
    }
    login->login_done = false;
    if (login->login_status == SCSI_STATUS_GOOD) {
        login_up(login);
    } else if (login->login_status == SCSI_STATUS_REDIRECT) {
        login_redirected(login);
    } else {
        login_failed(login);
    }
}

/* After the login, in a discovery session. */
static void discovery_service(struct iscsi_login *login, int events)
{
    int service = ((events & LOOP_READ) ? POLLIN : 0) | ((events & LOOP_WRITE) ? POLLOUT : 0);
    struct error error;

    if (iscsi_service(login->context, service) != 0 || login->cut ||
        !iscsi_is_logged_in(login->context)) {
        lost_error(login, &error);
        login_end(login, &error);
        return;
    }
    poll_update(login);
    if (login->found_done) {
        login->found_done = false;
        login->events->found(login->arg, login->found, login->n_found, NULL);
    }
}

static void login_ready(void *arg, int events)
{
    struct iscsi_login *login = arg;

    login->depth++; /* keeps it alive to the end of this function */
    switch (login->state) {
    case LOGIN_CONNECTING:
        login_connected(login);
        break;
    case LOGIN_ASKING:
        login_service(login, events);
        break;
    case LOGIN_DONE:
        discovery_service(login, events);
        break;
    case LOGIN_ENDED:
        break;
    }
    login->depth--;
    login_release(login);
}

static int source_socket(const struct sockaddr_storage *source, const struct sockaddr_storage *to)
{
    socklen_t len =
        source->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
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
static int dial_from(struct iscsi_login *login, struct error *error)
{
    const struct sockaddr_storage *source = &login->spec->source;
    char decoy[SOCKADDR_TEXT_LEN];
    char address[SOCKADDR_TEXT_LEN];
    char from[SOCKADDR_TEXT_LEN];
    int listener = -1;
    int err = -EAFNOSUPPORT;
    int fd = source->ss_family == login->address.ss_family ? source_socket(source, &login->address)
                                                           : -EAFNOSUPPORT;

    if (fd >= 0) {
        listener = decoy_listen(decoy);
        err = listener < 0 ? listener : 0;
    } else {
        err = fd;
    }
    if (err == 0 && (iscsi_connect_async(login->context, decoy, connect_done, login) != 0 ||
                     dup3(fd, iscsi_get_fd(login->context), O_CLOEXEC) < 0)) {
        err = -EIO;
    }
    if (listener >= 0) {
        close(listener);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (err != 0) {
        sockaddr_format(&login->address, address);
        sockaddr_format(source, from);
        return error_set(error, ERR_REMOTE_UNREACHABLE, "%s cannot be dialled from %s: %s", address,
                         from, strerror(-err));
    }
    return 0;
}

static int login_start(struct iscsi_login *login, struct error *error)
{
    const struct iscsi_spec *spec = login->spec;
    char address[SOCKADDR_TEXT_LEN];
    uint64_t isid = spec->isid != 0 ? spec->isid : random_unpredictable_u64();
    struct iscsi_context *context = iscsi_create_context(spec->initiator);
    int err;

    if (context == NULL) {
        return error_set(error, ERR_NO_MEMORY, "no memory for an iSCSI session");
    }
    login->context = context;
    login->state = LOGIN_CONNECTING;
    login->connected = false;
    login->cut = false;
    login->login_done = false;
    login->guard = (struct iscsi_login_guard){
        .mutual = spec->mutual_chap.user[0] != 0,
        .discovery = login->discovery,
        .require_header_digest = spec->header_digest == ISCSI_DIGEST_REQUIRE,
    };
    iscsi_terms_preset(&login->guard.terms);
    iscsi_set_noautoreconnect(context, 1);
    iscsi_set_isid_random(context, (uint32_t)(isid >> 16) & 0xffffff, (uint32_t)isid & 0xffff);
    iscsi_set_session_type(context,
                           login->discovery ? ISCSI_SESSION_DISCOVERY : ISCSI_SESSION_NORMAL);
    if (!login->discovery) {
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
    sockaddr_format(&login->address, address);
    if (spec->source.ss_family != 0) {
        err = dial_from(login, error);
        if (err != 0) {
            return err;
        }
    } else if (iscsi_connect_async(context, address, connect_done, login) != 0) {
        error_set(error, ERR_REMOTE_UNREACHABLE, "%s: %s", address, iscsi_get_error(context));
        text_clean(error->detail);
        return error_info(error->code)->err;
    }
    login->fd = iscsi_get_fd(context);
    err = loop_poll_new(login->loop, login->fd, login_ready, login, &login->poll);
    if (err != 0) {
        return error_set(error, ERR_NO_MEMORY, "%s: %s", address, strerror(-err));
    }
    login->poll_events = LOOP_WRITE;
    loop_poll_set(login->poll, LOOP_WRITE);
    return 0;
}

static void failing_told(void *arg)
{
    struct iscsi_login *login = arg;

    login->failing_posted = false;
    if (!login->freed) {
        login_end(login, &login->dial_error);
    } else {
        login_release(login);
    }
}

struct iscsi_login *iscsi_login_new(struct loop *loop, const struct iscsi_spec *spec,
                                    const struct sockaddr_storage *address, bool discovery,
                                    const struct iscsi_login_events *events, void *arg)
{
    struct iscsi_login *login = calloc(1, sizeof(*login));

    if (login == NULL) {
        return NULL;
    }
    login->loop = loop;
    login->spec = spec;
    login->address = *address;
    login->discovery = discovery;
    login->events = events;
    login->arg = arg;
    login->fd = -1;
    login->failing.fn = failing_told;
    login->failing.arg = login;
    if (login_start(login, &login->dial_error) != 0) {
        login->failing_posted = true; /* never calls back from here */
        loop_defer(loop, &login->failing);
    }
    return login;
}

int iscsi_login_take(struct iscsi_login *login, struct iscsi_terms *ret_terms)
{
    int fd;

    CHECK(login->state == LOGIN_DONE && !login->discovery);
    fd = dup(login->fd); /* not by fcntl(): the thread sanitizer would not know that it is a socket */
    if (fd < 0) {
        return -errno;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    *ret_terms = login->guard.terms;
    login->state = LOGIN_ENDED;
    context_drop(login); /* the socket stays open: the second descriptor is of the same */
    return fd;
}

int iscsi_login_discover(struct iscsi_login *login)
{
    CHECK(login->state == LOGIN_DONE && login->discovery);
    if (iscsi_discovery_async(login->context, discovery_done, login) != 0) {
        return -ENOMEM;
    }
    poll_update(login);
    return 0;
}

const struct sockaddr_storage *iscsi_login_address(const struct iscsi_login *login)
{
    return &login->address;
}
