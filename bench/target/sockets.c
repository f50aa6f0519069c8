// SPDX-License-Identifier: Apache-2.0
#include "sockets.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { ROOM = 256 << 10, LARGE = 16 << 10, MAX_FD = 1024 };

struct gathered {
    size_t in_at, in_end;
    size_t out_len;
    uint8_t in[ROOM];
    uint8_t out[ROOM];
};

static struct gathered *table[MAX_FD];

static struct gathered *gathered_of(int fd)
{
    return fd >= 0 && fd < MAX_FD ? table[fd] : NULL;
}

void sockets_gather(int fd)
{
    if (fd < 0 || fd >= MAX_FD || !(table[fd] = calloc(1, sizeof(struct gathered)))) {
        fprintf(stderr, "sockets_gather: descriptor %d, or no memory\n", fd);
        exit(1);
    }
}

void sockets_release(int fd)
{
    struct gathered *g = gathered_of(fd);
    if (g && (g->out_len > 0 || g->in_at < g->in_end)) {
        fprintf(stderr, "sockets_release: descriptor %d is in use\n", fd);
        exit(1);
    }
    table[fd] = NULL;
    free(g);
}

bool sockets_has_input(int fd)
{
    const struct gathered *g = gathered_of(fd);
    return g && g->in_at < g->in_end;
}

static ssize_t real_send(int fd, const void *data, size_t len, int flags)
{
    return syscall(SYS_sendto, fd, data, len, flags | MSG_NOSIGNAL, NULL, 0);
}

static ssize_t real_recv(int fd, void *data, size_t len, int flags)
{
    return syscall(SYS_recvfrom, fd, data, len, flags, NULL, NULL);
}

static bool flush(int fd, struct gathered *g, int flags)
{
    size_t at = 0;
    while (at < g->out_len) {
        ssize_t n = real_send(fd, g->out + at, g->out_len - at, flags | MSG_DONTWAIT);
        if (n < 0 && errno != EINTR) {
            break; /* an error comes again with the next call of libiscsi */
        }
        at += n > 0 ? (size_t)n : 0;
    }
    memmove(g->out, g->out + at, g->out_len - at);
    g->out_len -= at;
    return g->out_len == 0;
}

bool sockets_flush(int fd)
{
    struct gathered *g = gathered_of(fd);
    return !g || flush(fd, g, 0);
}

static size_t iov_bytes(const struct iovec *iov, int n)
{
    size_t len = 0;
    for (int i = 0; i < n; i++) {
        len += iov[i].iov_len;
    }
    return len;
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
    struct gathered *g = gathered_of(fd);
    size_t len = iov_bytes(iov, n);
    if (!g) {
        return syscall(SYS_writev, fd, iov, n);
    }
    if (len >= LARGE || g->out_len + len > ROOM) {
        if (!flush(fd, g, len >= LARGE ? MSG_MORE : 0)) {
            errno = EAGAIN;
            return -1;
        }
        if (len >= LARGE) {
            return syscall(SYS_writev, fd, iov, n);
        }
    }
    for (int i = 0; i < n; i++) {
        memcpy(g->out + g->out_len, iov[i].iov_base, iov[i].iov_len);
        g->out_len += iov[i].iov_len;
    }
    return (ssize_t)len;
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
    struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
    return gathered_of(fd) ? writev(fd, &iov, 1) : real_send(fd, data, len, flags);
}

ssize_t readv(int fd, const struct iovec *iov, int n)
{
    struct gathered *g = gathered_of(fd);
    if (!g) {
        return syscall(SYS_readv, fd, iov, n);
    }
    if (g->in_at == g->in_end) {
        if (iov_bytes(iov, n) >= LARGE) {
            return syscall(SYS_readv, fd, iov, n);
        }
        ssize_t got = real_recv(fd, g->in, ROOM, MSG_DONTWAIT);
        if (got <= 0) {
            return got;
        }
        g->in_at = 0;
        g->in_end = (size_t)got;
    }
    ssize_t done = 0;
    for (int i = 0; i < n && g->in_at < g->in_end; i++) {
        size_t have = g->in_end - g->in_at;
        size_t part = iov[i].iov_len < have ? iov[i].iov_len : have;
        memcpy(iov[i].iov_base, g->in + g->in_at, part);
        g->in_at += part;
        done += (ssize_t)part;
    }
    return done;
}

ssize_t recv(int fd, void *data, size_t len, int flags)
{
    struct iovec iov = {.iov_base = data, .iov_len = len};
    return gathered_of(fd) ? readv(fd, &iov, 1) : real_recv(fd, data, len, flags);
}
