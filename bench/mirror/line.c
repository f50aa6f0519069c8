// SPDX-License-Identifier: Apache-2.0
/*
 * bench_line PORT: a long line to a local port. Listens on a port of its own, which it prints; what comes from one side goes on to the
 * other as it is, but later: by as many microseconds as the last number on standard input says (0 at first). Any amount may be on its
 * way. Ends with standard input.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WAYS = 64, ROOM = 4 << 20, MAX_PIECES = 4096, ACCEPT = 0, INPUT = 1, FIRST_WAY = 2 };

struct piece {
    uint64_t due_ns;
    size_t end; /* bytes of the way up to its end, since the beginning */
};

/* One direction of a connection. */
struct way {
    int from, to; /* -1: there is none */
    int other;    /* the way back */
    bool ended;   /* nothing comes any more */
    size_t in, out;
    unsigned first, n;
    struct piece pieces[MAX_PIECES];
    uint8_t *bytes; /* a ring */
};

static struct way ways[MAX_WAYS];
static uint64_t delay_ns;
static int target_port;

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int socket_of(struct sockaddr_in *address, int port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    *address = (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_port = htons((uint16_t)port),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0) {
        die("socket");
    }
    return fd;
}

static int listen_somewhere(void)
{
    struct sockaddr_in address;
    socklen_t len = sizeof(address);
    int fd = socket_of(&address, 0);

    if (bind(fd, (struct sockaddr *)&address, len) != 0 || listen(fd, 16) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        die("listen");
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static int way_take(int from, int to)
{
    for (int i = 0; i < MAX_WAYS; i++) {
        struct way *way = &ways[i];

        if (way->from >= 0) {
            continue;
        }
        if (!way->bytes && !(way->bytes = malloc(ROOM))) {
            die("malloc");
        }
        way->from = from;
        way->to = to;
        way->ended = false;
        way->in = way->out = 0;
        way->first = way->n = 0;
        return i;
    }
    fprintf(stderr, "too many connections\n");
    exit(1);
}

static void line_accept(int listener)
{
    struct sockaddr_in address;
    int client = accept(listener, NULL, NULL);
    int server = socket_of(&address, target_port);
    int one = 1;

    if (client < 0 || connect(server, (struct sockaddr *)&address, sizeof(address)) != 0) {
        close(server);
        if (client >= 0) {
            close(client);
        }
        return;
    }
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    int there = way_take(client, server);
    int back = way_take(server, client);
    ways[there].other = back;
    ways[back].other = there;
}

static void line_close(struct way *way)
{
    struct way *back = &ways[way->other];

    close(way->from);
    close(way->to);
    way->from = way->to = back->from = back->to = -1;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void way_read(struct way *way)
{
    size_t at = way->in % ROOM;
    size_t room = least(ROOM - at, ROOM - (way->in - way->out));
    ssize_t n = recv(way->from, way->bytes + at, room, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        way->ended = true;
        return;
    }
    way->in += (size_t)n;
    way->pieces[(way->first + way->n++) % MAX_PIECES] =
        (struct piece){now_ns() + delay_ns, way->in};
}

/* Sends what is due. False: the other side is gone. */
static bool way_send(struct way *way, uint64_t now)
{
    size_t due = way->out;

    for (unsigned i = 0; i < way->n; i++) {
        const struct piece *piece = &way->pieces[(way->first + i) % MAX_PIECES];

        if (piece->due_ns > now) {
            break;
        }
        due = piece->end;
    }
    while (way->out < due) {
        size_t at = way->out % ROOM;
        ssize_t n = send(way->to, way->bytes + at, least(due - way->out, ROOM - at),
                         MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0) {
            if (errno == EAGAIN || errno == EINTR) {
                break;
            }
            return false;
        }
        way->out += (size_t)n;
    }
    while (way->n > 0 && way->pieces[way->first].end <= way->out) {
        way->first = (way->first + 1) % MAX_PIECES;
        way->n--;
    }
    return true;
}

static void command_read(void)
{
    static char text[64];
    static size_t len;
    ssize_t n = read(STDIN_FILENO, text + len, sizeof(text) - 1 - len);

    if (n <= 0) {
        exit(0);
    }
    len += (size_t)n;
    text[len] = 0;
    if (strchr(text, '\n')) {
        delay_ns = strtoull(text, NULL, 10) * 1000;
        len = 0;
        printf("%llu\n", (unsigned long long)delay_ns / 1000);
        fflush(stdout);
    }
}

static void round_do(int listener)
{
    struct pollfd fds[FIRST_WAY + MAX_WAYS];
    uint64_t now = now_ns();
    uint64_t next = UINT64_MAX;

    fds[ACCEPT] = (struct pollfd){.fd = listener, .events = POLLIN};
    fds[INPUT] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    for (int i = 0; i < MAX_WAYS; i++) {
        const struct way *way = &ways[i];
        struct pollfd *fd = &fds[FIRST_WAY + i];
        bool room = way->in - way->out < ROOM && way->n < MAX_PIECES && !way->ended;

        *fd = (struct pollfd){.fd = way->from >= 0 && room ? way->from : -1, .events = POLLIN};
        if (way->from >= 0 && way->n > 0) {
            uint64_t due = way->pieces[way->first].due_ns;

            /* What is due and still here waits for the other side; looked at again soon. */
            due = due > now ? due : now + 50000;
            next = due < next ? due : next;
        }
    }
    struct timespec wait = {0};
    if (next != UINT64_MAX) {
        wait.tv_sec = (time_t)((next - now) / 1000000000u);
        wait.tv_nsec = (long)((next - now) % 1000000000u);
    }
    ppoll(fds, FIRST_WAY + MAX_WAYS, next != UINT64_MAX ? &wait : NULL, NULL);
    if (fds[INPUT].revents) {
        command_read();
    }
    for (int i = 0; i < MAX_WAYS; i++) {
        if (fds[FIRST_WAY + i].revents && ways[i].from >= 0) {
            way_read(&ways[i]);
        }
    }
    now = now_ns();
    for (int i = 0; i < MAX_WAYS; i++) {
        struct way *way = &ways[i];

        if (way->from >= 0 && (!way_send(way, now) || (way->ended && way->n == 0))) {
            line_close(way);
        }
    }
    if (fds[ACCEPT].revents) {
        line_accept(listener);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2 || (target_port = atoi(argv[1])) <= 0) {
        fprintf(stderr, "usage: bench_line PORT\n");
        return 2;
    }
    for (int i = 0; i < MAX_WAYS; i++) {
        ways[i].from = ways[i].to = -1;
    }
    int listener = listen_somewhere();
    for (;;) {
        round_do(listener);
    }
}
