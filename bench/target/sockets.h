// SPDX-License-Identifier: Apache-2.0
/*
 * The socket calls of libiscsi, gathered: it makes three to four for each request, which would cost
 * more than what is to be measured.
 *
 * Thread:    one.
 * Ownership: the descriptor stays the caller's.
 * Errors:    as the calls they stand for.
 *
 * This program's send(), writev(), recv() and readv() take the place of the C library's. For a
 * gathered descriptor, small pieces that are sent wait until sockets_flush(), and what was received
 * is read from a buffer; large pieces go past both. Other descriptors see no difference.
 */
#ifndef BENCH_TARGET_SOCKETS_H
#define BENCH_TARGET_SOCKETS_H

#include <stdbool.h>

void sockets_gather(int fd);
/* Nothing may wait to be sent or to be read. */
void sockets_release(int fd);
/* False: the socket is full; once it can be written to, again. */
bool sockets_flush(int fd);
/* Received already, so that the descriptor need not be ready. */
bool sockets_has_input(int fd);

#endif
