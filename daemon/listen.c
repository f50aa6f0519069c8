// SPDX-License-Identifier: Apache-2.0
#include "daemon/listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 1024 };

static int failed(struct error *error, const char *text, int err)
{
    const char *hint = err == EADDRINUSE      ? " Another program uses it."
                       : err == EADDRNOTAVAIL ? " It is not an address of this host."
                       : err == EACCES        ? " Ports below 1024 need privileges."
                                              : "";
    return error_set(error, ERR_INTERNAL, "Cannot listen at %s: %s.%s", text, strerror(err), hint);
}

int listen_reserve(const char *address, int *ret_fd, char text[SOCKADDR_TEXT_LEN],
                   struct error *error)
{
    struct sockaddr_storage addr;
    int on = 1;
    if (sockaddr_parse(address, -1, &addr) != 0) {
        return error_set(error, ERR_INVALID_PARAMETER, "%s is not an address.", address);
    }
    int fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return failed(error, address, errno);
    }
    /* Two that ask for any port could be given the same one with it, until the first listens; but
     * the next start can have the port only if this one had it, so it is set later then. */
    bool any_port = sockaddr_port(&addr) == 0;
    if (!any_port) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    }
    if (addr.ss_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    }
    socklen_t len = sizeof(addr);
    if (bind(fd, (struct sockaddr *)&addr, sockaddr_len(&addr)) != 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) != 0) {
        int err = errno;
        close(fd);
        return failed(error, address, err);
    }
    if (any_port) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    }
    sockaddr_format(&addr, text);
    *ret_fd = fd;
    return 0;
}

int listen_begin(int fd, const char *text, struct error *error)
{
    return listen(fd, BACKLOG) == 0 ? 0 : failed(error, text, errno);
}
