// SPDX-License-Identifier: Apache-2.0
/*
 * Sockets at the addresses that we serve.
 *
 * Thread:    the main thread.
 * Ownership: the caller closes.
 * Errors:    struct error; the detail names the address.
 */
#ifndef DAEMON_LISTEN_H
#define DAEMON_LISTEN_H

#include <stdbool.h>

#include "base/error.h"
#include "base/sockaddr.h"

/* Takes the address, but does not listen yet. text becomes the real one, with the port that 0 has
 * got. Connections of an earlier process that are still being closed do not matter; nobody is kept
 * from taking the address as well until listen_begin(). */
int listen_reserve(const char *address, int *ret_fd, char text[SOCKADDR_TEXT_LEN],
                   struct error *error);
int listen_begin(int fd, const char *text, struct error *error);

#endif
