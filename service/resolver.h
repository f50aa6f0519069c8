// SPDX-License-Identifier: Apache-2.0
/*
 * Names to addresses, on a thread that may hang as long as it likes.
 *
 * Thread:    the loop given, from start to callback.
 * Ownership: a lookup ends with its callback or with resolve_cancel().
 * Errors:    remote_unreachable (no such name, no answer), timeout, no_memory.
 *
 * Not loop_work: a loop may not end before its work has, the pool is small, and the resolver of a
 * broken network takes its time. A lookup that was given up leaves its thread behind, which frees
 * it.
 */
#ifndef SERVICE_RESOLVER_H
#define SERVICE_RESOLVER_H

#include <sys/socket.h>

#include "base/error.h"
#include "base/loop.h"

enum { RESOLVE_MAX = 8 };

struct resolve;
/* addresses is NULL after an error. */
typedef void (*resolve_fn)(void *arg, const struct sockaddr_storage *addresses,
                           unsigned n_addresses, const struct error *error);
/* fn is called once, never inside the start. */
struct resolve *resolve_start(struct loop *loop, const char *host, uint16_t port,
                              uint32_t timeout_ms, resolve_fn fn, void *arg);
void resolve_cancel(struct resolve *resolve);

#endif
