// SPDX-License-Identifier: Apache-2.0
/*
 * Connection and login of one iSCSI session, and SendTargets. The only place that knows libiscsi.
 *
 * Thread:    one loop; callbacks come there, none inside a call of this header.
 * Ownership: the spec is the caller's, until the login has ended. iscsi_login_take() gives the connection away.
 * Errors:    done() is called once, with the reason or NULL.
 */
#ifndef BLOCK_ISCSI_LOGIN_H
#define BLOCK_ISCSI_LOGIN_H

#include <stdbool.h>

#include "base/error.h"
#include "base/loop.h"
#include "block/iscsi_dev.h"
#include "block/iscsi_pages.h"

struct iscsi_login;

struct iscsi_login_events {
    void (*done)(void *arg, const struct error *error);
    /* The answer to iscsi_login_discover(); the targets are the login's, until it is freed. error: no answer will come. */
    void (*found)(void *arg, const struct iscsi_found_target *targets, unsigned n_targets,
                  const struct error *error);
};

/* Begins to dial. NULL: out of memory. discovery: a session that can only be asked for targets. */
struct iscsi_login *iscsi_login_new(struct loop *loop, const struct iscsi_spec *spec,
                                    const struct sockaddr_storage *address, bool discovery,
                                    const struct iscsi_login_events *events, void *arg);
/* In any state, also from a callback. */
void iscsi_login_free(struct iscsi_login *login);

/* Once done: the connection, on which the full feature phase has just begun. Its descriptor, or -errno. */
int iscsi_login_take(struct iscsi_login *login, struct iscsi_terms *ret_terms);
/* Once done, with discovery. -ENOMEM. */
int iscsi_login_discover(struct iscsi_login *login);
/* Where it leads, after redirects. */
const struct sockaddr_storage *iscsi_login_address(const struct iscsi_login *login);

#endif
