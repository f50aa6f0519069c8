// SPDX-License-Identifier: Apache-2.0
/*
 * What TCP on this machine gives without anything behind it: the ceiling of every target.
 *
 *     bench_target_wire REQUEST ANSWER DEPTH SECONDS
 *
 * A client sends requests of REQUEST bytes and keeps DEPTH of them under way; a server in a process
 * of its own answers each with ANSWER bytes. Both read and write as much as there is in one call.
 * Prints a line of JSON: answers a second, and the bytes a second of the larger direction.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../api/histogram.h"

enum { ROOM = 1 << 20 };

static uint8_t in[ROOM];
static uint8_t out[ROOM];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static bool send_all(int fd, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, out, len < ROOM ? len : ROOM, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        len -= (size_t)n;
    }
    return true;
}

static void serve(int fd, size_t request, size_t answer)
{
    size_t have = 0;
    for (;;) {
        ssize_t n = recv(fd, in, ROOM, 0);
        if (n <= 0) {
            return;
        }
        have += (size_t)n;
        size_t requests = have / request;
        have -= requests * request;
        if (!send_all(fd, requests * answer)) {
            return;
        }
    }
}

static uint64_t drive(int fd, size_t request, size_t answer, unsigned depth, uint64_t end_ns)
{
    uint64_t answers = 0;
    size_t have = 0;
    if (!send_all(fd, request * depth)) {
        fail("send");
    }
    while (clock_ns() < end_ns) {
        ssize_t n = recv(fd, in, ROOM, 0);
        if (n <= 0) {
            fail("recv");
        }
        have += (size_t)n;
        size_t whole = have / answer;
        have -= whole * answer;
        answers += whole;
        if (whole > 0 && !send_all(fd, request * whole)) {
            fail("send");
        }
    }
    return answers;
}

/* Both ends of a connection over the loopback interface. */
static void connect_pair(int fds[2])
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || fds[0] < 0 || bind(listener, (struct sockaddr *)&addr, len) < 0 ||
        getsockname(listener, (struct sockaddr *)&addr, &len) < 0 || listen(listener, 1) < 0 ||
        connect(fds[0], (struct sockaddr *)&addr, len) < 0 ||
        (fds[1] = accept(listener, NULL, NULL)) < 0) {
        fail("loopback");
    }
    close(listener);
    for (int i = 0; i < 2; i++) {
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    }
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: bench_target_wire REQUEST ANSWER DEPTH SECONDS\n");
        return 2;
    }
    size_t request = strtoul(argv[1], NULL, 10);
    size_t answer = strtoul(argv[2], NULL, 10);
    unsigned depth = (unsigned)atoi(argv[3]);
    double seconds = atof(argv[4]);
    if (request == 0 || answer == 0 || depth == 0 || seconds <= 0) {
        return 2;
    }
    int fds[2];
    memset(out, 0x5a, sizeof(out));
    connect_pair(fds);
    pid_t parent = getpid();
    pid_t server = fork();
    if (server < 0) {
        fail("fork");
    }
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(1);
        }
        close(fds[0]);
        serve(fds[1], request, answer);
        _exit(0);
    }
    close(fds[1]);
    uint64_t began = clock_ns();
    uint64_t answers = drive(fds[0], request, answer, depth, began + (uint64_t)(seconds * 1e9));
    double took = (double)(clock_ns() - began) / 1e9;
    shutdown(fds[0], SHUT_RDWR);
    waitpid(server, NULL, 0);
    size_t larger = request > answer ? request : answer;
    printf("{\"answers\":%.0f,\"bytes\":%.0f}\n", (double)answers / took,
           (double)answers * (double)larger / took);
    return 0;
}
