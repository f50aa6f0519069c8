// SPDX-License-Identifier: Apache-2.0
/*
 * Who may call: checks of the headers that decide whether a request is looked at.
 *
 * Thread:    a struct access is constant after access_init(); the checks may be called from any
 * thread. Ownership: access_init() copies; access_fini() frees. Errors:    -ENOMEM from
 * access_init(); the checks say yes or no.
 *
 * Host protects against DNS rebinding: a web page can make a browser send requests to an address of
 * the page's choice, but not with another Host than the page's own name. So names have to be known;
 * literal addresses have to be the ones that the connection really leads to. Origin, which only
 * browsers send, must pass the same test.
 */
#ifndef API_ACCESS_H
#define API_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct access {
    struct sockaddr_storage listen;
    char *token;
    char **names;
    size_t n_names;
};

/* names: host names without port, separated by commas and blanks. */
int access_init(struct access *access, const struct sockaddr_storage *listen, const char *token,
                const char *names);
void access_fini(struct access *access);

/* local: the near end of the connection, or NULL. */
bool access_host_allowed(const struct access *access, const char *host,
                         const struct sockaddr_storage *local);
bool access_origin_allowed(const struct access *access, const char *origin,
                           const struct sockaddr_storage *local);
/* The value of an Authorization header; NULL: there was none. Takes as long for a wrong token as
 * for the right one. */
bool access_token_matches(const struct access *access, const char *authorization);

/* "application/json", with any parameters; charset, when given, must be UTF-8 or US-ASCII. */
bool content_type_is_json(const char *content_type);

enum { IDEMPOTENCY_KEY_MAX = 255 };
/* 1 to 255 visible ASCII characters. */
bool idempotency_key_valid(const char *key);

#endif
