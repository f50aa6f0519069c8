// SPDX-License-Identifier: Apache-2.0
/*
 * bench_load: HTTP load on kept-alive connections, one thread, JSON out.
 *
 * Open loop (--rate N): request i is due at start + i/N, whatever the server does. It goes out on
 * the next free connection, and its latency counts from the moment at which it was due, so a
 * stall shows in every request that was due while it lasted, and not only in those under way.
 *
 * Closed loop (no --rate): every connection sends its next request as soon as it has an answer.
 * That finds the ceiling; its latencies say little more than connections / rate.
 *
 * Requests come from a file (load_http.h). In open loop they are taken in turn; in closed loop
 * connection c of n takes c, c + n, c + 2n, …, so that no two connections ever share one.
 *
 * "lag" is how late this program itself was: the time from the moment at which a request was due to
 * the moment at which the loop saw that it was. Where it is large the machine was too busy for
 * the generator, and the figures say nothing about the server.
 *
 * Exit code: 0 it ran (wrong answers are counted in "failed"), 1 it could not, 2 wrong usage.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "bench/api/histogram.h"
#include "bench/api/load_http.h"

enum { STATUSES = 600, EVENTS = 64, PIECE = 65536, LAST_ANSWERS_S = 10 };

struct connection {
    int fd;
    size_t request;   /* in the list */
    size_t next_unit; /* closed loop */
    bool busy;        /* a request is under way */
    bool timed;
    uint64_t began_ns; /* when it was due (open) or sent (closed) */
    const char *out;   /* what is still to be sent */
    size_t out_left;
    char *made; /* the text of a request that was made for this connection */
    struct answer answer;
};

struct load {
    const char *host;
    const char *port;
    const char *header_file;
    const char *request_file;
    double rate; /* 0: closed loop */
    double seconds;
    double warm_up;
    size_t n_connections;
    bool once;

    struct request_list list;
    struct addrinfo *address;
    struct connection *connections;
    size_t *free; /* a ring of the connections that are idle */
    size_t free_first;
    size_t n_free;
    int epoll;
    int timer;

    uint64_t start_ns;
    uint64_t warm_ns; /* what begins before it is not counted */
    uint64_t end_ns;  /* nothing begins after it */
    uint64_t due;     /* requests of the open loop whose time has come */
    uint64_t issued;
    uint64_t total;
    size_t n_running; /* closed loop: connections that have not ended */
    uint64_t first_ns;
    uint64_t last_ns;

    struct histogram latency;
    struct histogram lag;
    uint64_t by_status[STATUSES];
    uint64_t dropped; /* the connection went away, or what came was not HTTP */
    uint64_t unanswered;
    uint64_t untimed; /* good answers that were not timed: before warm_ns, or that followed */
    uint64_t bytes;
    bool complained;
};

static void __attribute__((noreturn)) give_up(const char *what)
{
    fprintf(stderr, "bench_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- connections ---- */

static void watch(struct load *load, struct connection *connection, int op, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(load->epoll, op, connection->fd, &event) != 0) {
        give_up("epoll_ctl");
    }
}

static void connect_one(struct load *load, struct connection *connection)
{
    int one = 1;
    const struct addrinfo *address = load->address;
    connection->fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 || connect(connection->fd, address->ai_addr, address->ai_addrlen) != 0) {
        give_up("connect");
    }
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    watch(load, connection, EPOLL_CTL_ADD, EPOLLIN);
}

static void connect_again(struct load *load, struct connection *connection)
{
    close(connection->fd);
    connect_one(load, connection);
}

static void send_more(struct load *load, struct connection *connection)
{
    while (connection->out_left > 0) {
        ssize_t sent = send(connection->fd, connection->out, connection->out_left,
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            if (errno == EAGAIN) {
                watch(load, connection, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            }
            return; /* another failure shows when it is read from */
        }
        connection->out += sent;
        connection->out_left -= (size_t)sent;
    }
}

static void finished(struct load *load, struct connection *connection);

static void send_request(struct load *load, struct connection *connection, size_t index, bool timed,
                         uint64_t began_ns)
{
    const struct request *request = &load->list.requests[index];
    size_t len = request->len;
    char *made = NULL;
    if (request->text == NULL) {
        made = request_make(&load->list, request, connection->answer.body, &len);
    }
    free(connection->made);
    connection->made = made;
    connection->request = index;
    connection->timed = timed;
    connection->began_ns = began_ns;
    if (request->text == NULL && made == NULL) {
        /* The answer before it had no such member, which was counted as wrong by its status. */
        finished(load, connection);
        return;
    }
    connection->busy = true;
    connection->out = made != NULL ? made : request->text;
    connection->out_left = len;
    answer_begin(&connection->answer);
    send_more(load, connection);
}

/* ---- what comes next ---- */

static void put_free(struct load *load, struct connection *connection)
{
    size_t at = (load->free_first + load->n_free) % load->n_connections;
    load->free[at] = (size_t)(connection - load->connections);
    load->n_free++;
}

static uint64_t due_ns(const struct load *load, uint64_t number)
{
    return load->start_ns + (uint64_t)((double)number * 1e9 / load->rate);
}

static void issue_due(struct load *load)
{
    while (load->issued < load->due && load->n_free > 0) {
        struct connection *connection = &load->connections[load->free[load->free_first]];
        uint64_t number = load->issued++;
        load->free_first = (load->free_first + 1) % load->n_connections;
        load->n_free--;
        uint64_t began_ns = due_ns(load, number);
        send_request(load, connection, load->list.units[number % load->list.n_units],
                     began_ns >= load->warm_ns, began_ns);
    }
}

static void see_what_is_due(struct load *load)
{
    uint64_t now = clock_ns();
    while (load->due < load->total && due_ns(load, load->due) <= now) {
        uint64_t at = due_ns(load, load->due++);
        if (at >= load->warm_ns) {
            histogram_add(&load->lag, now - at);
        }
    }
    issue_due(load);
}

static void set_timer(struct load *load)
{
    if (load->due < load->total) {
        uint64_t at = due_ns(load, load->due);
        struct itimerspec when = {
            .it_value = {.tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u)},
        };
        timerfd_settime(load->timer, TFD_TIMER_ABSTIME, &when, NULL);
    }
}

/* The closed loop: the next unit of this connection. */
static void next_of_own(struct load *load, struct connection *connection)
{
    uint64_t now = clock_ns();
    if (now >= load->end_ns || (load->once && connection->next_unit >= load->list.n_units)) {
        load->n_running--;
        return;
    }
    size_t unit = connection->next_unit % load->list.n_units;
    connection->next_unit += load->n_connections;
    send_request(load, connection, load->list.units[unit], now >= load->warm_ns, now);
}

/* A request has its answer, or never will: what follows it, or the next one. */
static void finished(struct load *load, struct connection *connection)
{
    size_t following = connection->request + 1;
    connection->busy = false;
    if (following < load->list.n_requests && load->list.requests[following].follows) {
        send_request(load, connection, following, false, clock_ns());
    } else if (load->rate > 0) {
        put_free(load, connection);
        issue_due(load);
    } else {
        next_of_own(load, connection);
    }
}

/* ---- answers ---- */

static void complain(struct load *load, const struct connection *connection, const char *what)
{
    if (!load->complained) {
        load->complained = true;
        fprintf(stderr, "bench_load: %s: %s\n", load->list.requests[connection->request].line,
                what);
    }
}

static void answered(struct load *load, struct connection *connection)
{
    const struct answer *answer = &connection->answer;
    bool good = answer->status >= 200 && answer->status < 300;
    uint64_t now = clock_ns();
    if (!good) {
        complain(load, connection, answer->body);
    }
    if (connection->timed || !good) {
        load->by_status[answer->status < STATUSES ? answer->status : STATUSES - 1]++;
    }
    if (connection->timed) {
        histogram_add(&load->latency, now - connection->began_ns);
        load->first_ns = load->first_ns == 0 ? connection->began_ns : load->first_ns;
        load->last_ns = now;
    } else if (good) {
        load->untimed++;
    }
    if (answer->closes) {
        connect_again(load, connection);
    }
    finished(load, connection);
}

static void lost(struct load *load, struct connection *connection, const char *why)
{
    if (connection->busy) {
        complain(load, connection, why);
        load->dropped++;
    }
    connect_again(load, connection);
    if (connection->busy) {
        finished(load, connection);
    }
}

static void receive(struct load *load, struct connection *connection)
{
    static char piece[PIECE];
    ssize_t len = recv(connection->fd, piece, sizeof(piece), MSG_DONTWAIT);
    if (len < 0 && errno == EAGAIN) {
        return;
    }
    if (len <= 0) {
        lost(load, connection, len < 0 ? strerror(errno) : "the connection was closed");
        return;
    }
    load->bytes += connection->timed ? (uint64_t)len : 0;
    int taken = connection->busy ? answer_take(&connection->answer, piece, (size_t)len) : -1;
    if (taken < 0) {
        lost(load, connection, "the answer is not HTTP as it is expected here");
    } else if (taken > 0) {
        answered(load, connection);
    }
}

static void handle(struct load *load, const struct epoll_event *event)
{
    struct connection *connection = event->data.ptr;
    if (connection == NULL) {
        uint64_t expirations;
        if (read(load->timer, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN) {
            give_up("timer");
        }
        return;
    }
    if (event->events & EPOLLOUT) {
        send_more(load, connection);
        if (connection->out_left == 0) {
            watch(load, connection, EPOLL_CTL_MOD, EPOLLIN);
        }
    }
    if (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        receive(load, connection);
    }
}

/* ---- the run ---- */

static void prepare(struct load *load)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_socktype = SOCK_STREAM};
    int r = getaddrinfo(load->host, load->port, &hints, &load->address);
    if (r != 0) {
        fprintf(stderr, "bench_load: %s port %s: %s\n", load->host, load->port, gai_strerror(r));
        exit(2);
    }
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    load->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    load->connections = calloc(load->n_connections, sizeof(*load->connections));
    load->free = calloc(load->n_connections, sizeof(*load->free));
    if (load->epoll < 0 || load->timer < 0 || load->connections == NULL || load->free == NULL) {
        give_up("start");
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, load->timer, &event) != 0) {
        give_up("epoll_ctl");
    }
    for (size_t i = 0; i < load->n_connections; i++) {
        connect_one(load, &load->connections[i]);
    }
    /* The kernel would otherwise bundle our timers to 50 us. */
    prctl(PR_SET_TIMERSLACK, 1);
}

static void begin(struct load *load)
{
    load->start_ns = clock_ns();
    load->warm_ns = load->start_ns + (uint64_t)(load->warm_up * 1e9);
    load->end_ns = load->warm_ns + (uint64_t)(load->seconds * 1e9);
    load->total = (uint64_t)((load->warm_up + load->seconds) * load->rate);
    if (load->rate > 0 && load->once && load->total > load->list.n_units) {
        load->total = load->list.n_units;
    }
    load->n_running = load->n_connections;
    for (size_t i = 0; i < load->n_connections; i++) {
        load->connections[i].next_unit = i;
        if (load->rate > 0) {
            put_free(load, &load->connections[i]);
        } else {
            next_of_own(load, &load->connections[i]);
        }
    }
}

static bool all_done(const struct load *load)
{
    if (load->rate > 0) {
        return load->issued == load->total && load->n_free == load->n_connections;
    }
    return load->n_running == 0;
}

static void run(struct load *load)
{
    struct epoll_event events[EVENTS];
    uint64_t last_ns = load->end_ns + (uint64_t)LAST_ANSWERS_S * 1000000000u;
    while (!all_done(load) && clock_ns() < last_ns) {
        if (load->rate > 0) {
            see_what_is_due(load);
            set_timer(load);
        }
        int n = epoll_wait(load->epoll, events, EVENTS, 100);
        if (n < 0 && errno != EINTR) {
            give_up("epoll_wait");
        }
        for (int i = 0; i < n; i++) {
            handle(load, &events[i]);
        }
    }
    /* What has no answer by now counts with the time that it has waited. */
    uint64_t now = clock_ns();
    for (size_t i = 0; i < load->n_connections; i++) {
        struct connection *connection = &load->connections[i];
        if (connection->busy && connection->timed) {
            load->unanswered++;
            histogram_add(&load->latency, now - connection->began_ns);
        }
    }
    for (uint64_t number = load->issued; number < load->total; number++) {
        load->unanswered++;
        histogram_add(&load->latency, now - due_ns(load, number));
    }
}

static void print(const struct load *load)
{
    uint64_t failed = load->dropped + load->unanswered;
    uint64_t answers = 0;
    double seconds = (double)(load->last_ns - load->first_ns) / 1e9;
    printf("{\"mode\":\"%s\",\"connections\":%zu,\"rate_wanted\":%.1f,\"statuses\":{",
           load->rate > 0 ? "open" : "closed", load->n_connections, load->rate);
    for (int status = 0; status < STATUSES; status++) {
        if (load->by_status[status] > 0) {
            printf("%s\"%d\":%" PRIu64, answers > 0 ? "," : "", status, load->by_status[status]);
            answers += load->by_status[status];
            failed += status < 200 || status >= 300 ? load->by_status[status] : 0;
        }
    }
    printf("},\"requests\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"unanswered\":%" PRIu64
           ",\"untimed\":%" PRIu64 ",\"seconds\":%.3f,\"rate\":%.1f,\"bytes\":%" PRIu64 ",",
           load->latency.count, failed, load->unanswered, load->untimed, seconds,
           seconds > 0 ? (double)load->latency.count / seconds : 0.0, load->bytes);
    histogram_print_json(&load->latency, "latency_us", stdout);
    printf(",");
    histogram_print_json(&load->lag, "lag_us", stdout);
    printf("}\n");
}

static void fini(struct load *load)
{
    for (size_t i = 0; i < load->n_connections; i++) {
        close(load->connections[i].fd);
        free(load->connections[i].made);
    }
    close(load->timer);
    close(load->epoll);
    free(load->connections);
    free(load->free);
    freeaddrinfo(load->address);
    request_list_free(&load->list);
}

static void __attribute__((noreturn)) usage(void)
{
    fprintf(stderr, "usage: bench_load --connect ADDR:PORT --requests FILE [--header-file FILE]\n"
                    "    [--rate N] [--connections N] [--seconds S] [--warm-up S] [--once]\n");
    exit(2);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"connect", required_argument, NULL, 'c'},
        {"requests", required_argument, NULL, 'r'},
        {"header-file", required_argument, NULL, 'h'},
        {"rate", required_argument, NULL, 'R'},
        {"connections", required_argument, NULL, 'n'},
        {"seconds", required_argument, NULL, 's'},
        {"warm-up", required_argument, NULL, 'w'},
        {"once", no_argument, NULL, 'o'},
        {NULL, 0, NULL, 0},
    };
    static struct load load = {.seconds = 5, .warm_up = 1, .n_connections = 16};
    char *connect_to = NULL;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        switch (option) {
        case 'c':
            connect_to = optarg;
            break;
        case 'r':
            load.request_file = optarg;
            break;
        case 'h':
            load.header_file = optarg;
            break;
        case 'R':
            load.rate = strtod(optarg, NULL);
            break;
        case 'n':
            load.n_connections = strtoul(optarg, NULL, 10);
            break;
        case 's':
            load.seconds = strtod(optarg, NULL);
            break;
        case 'w':
            load.warm_up = strtod(optarg, NULL);
            break;
        case 'o':
            load.once = true;
            break;
        default:
            usage();
        }
    }
    char *colon = connect_to != NULL ? strrchr(connect_to, ':') : NULL;
    if (colon == NULL || load.request_file == NULL || load.n_connections == 0 || load.rate < 0 ||
        load.seconds <= 0 || load.warm_up < 0 || optind < argc) {
        usage();
    }
    request_list_read(&load.list, load.request_file, connect_to, load.header_file);
    if (load.rate > 0 && load.list.n_requests > load.list.n_units) {
        fprintf(stderr, "bench_load: requests that follow another need the closed loop\n");
        return 2;
    }
    *colon = '\0';
    load.host = connect_to;
    load.port = colon + 1;
    prepare(&load);
    begin(&load);
    run(&load);
    print(&load);
    fini(&load);
    return 0;
}
