// SPDX-License-Identifier: Apache-2.0
/*
 * The client at the other end of a connection that is suspended: libmicrohttpd does not look at it.
 *
 * Thread:    any, while the connection is suspended.
 * Ownership: none.
 * Errors:    what cannot be told is there.
 */
#ifndef API_CLIENT_H
#define API_CLIENT_H

#include <microhttpd.h>
#include <stdbool.h>

bool client_gone(struct MHD_Connection *connection);

#endif
