// SPDX-License-Identifier: Apache-2.0
#include "api/access.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/sockaddr.h"

static int add_name(struct access *access, const char *name, size_t len)
{
    char **names = realloc(access->names, (access->n_names + 1) * sizeof(*names));
    if (names == NULL) {
        return -ENOMEM;
    }
    access->names = names;
    names[access->n_names] = strndup(name, len);
    if (names[access->n_names] == NULL) {
        return -ENOMEM;
    }
    access->n_names++;
    return 0;
}

int access_init(struct access *access, const struct sockaddr_storage *listen, const char *token,
                const char *names)
{
    *access = (struct access){.listen = *listen, .token = strdup(token)};
    int err = access->token != NULL ? 0 : -ENOMEM;
    const char *at = names != NULL ? names : "";
    while (err == 0 && *at != '\0') {
        size_t len = strcspn(at, ", \t");
        if (len > 0) {
            err = add_name(access, at, len);
        }
        at += len;
        at += strspn(at, ", \t");
    }
    if (err != 0) {
        access_fini(access);
    }
    return err;
}

void access_fini(struct access *access)
{
    for (size_t i = 0; i < access->n_names; i++) {
        free(access->names[i]);
    }
    free(access->names);
    if (access->token != NULL) {
        gnutls_memset(access->token, 0, strlen(access->token));
    }
    free(access->token);
    *access = (struct access){0};
}

static bool same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    char text_a[SOCKADDR_TEXT_LEN];
    char text_b[SOCKADDR_TEXT_LEN];
    sockaddr_format(a, text_a);
    sockaddr_format(b, text_b);
    char *colon_a = strrchr(text_a, ':');
    char *colon_b = strrchr(text_b, ':');
    if (colon_a == NULL || colon_b == NULL) {
        return false;
    }
    *colon_a = '\0';
    *colon_b = '\0';
    return strcmp(text_a, text_b) == 0;
}

bool access_host_allowed(const struct access *access, const char *host,
                         const struct sockaddr_storage *local)
{
    char name[SOCKADDR_HOST_LEN];
    uint16_t port;
    if (sockaddr_split(host, 0, name, &port) != 0) {
        return false;
    }
    struct sockaddr_storage literal;
    if (sockaddr_parse_host(name, 0, &literal) == 0) {
        return sockaddr_is_loopback(&literal) || same_host(&literal, &access->listen) ||
               (local != NULL && same_host(&literal, local));
    }
    size_t len = strlen(name);
    if (len > 0 && name[len - 1] == '.') {
        name[len - 1] = '\0';
    }
    if (strcasecmp(name, "localhost") == 0) {
        return true;
    }
    for (size_t i = 0; i < access->n_names; i++) {
        if (strcasecmp(name, access->names[i]) == 0) {
            return true;
        }
    }
    return false;
}

bool access_origin_allowed(const struct access *access, const char *origin,
                           const struct sockaddr_storage *local)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t len = strlen(schemes[i]);
        if (strncasecmp(origin, schemes[i], len) == 0) {
            return access_host_allowed(access, origin + len, local);
        }
    }
    return false;
}

bool access_token_matches(const struct access *access, const char *authorization)
{
    static const char scheme[] = "Bearer ";
    if (authorization == NULL || strncasecmp(authorization, scheme, sizeof(scheme) - 1) != 0) {
        return false;
    }
    const char *given = authorization + sizeof(scheme) - 1;
    given += strspn(given, " ");
    size_t len = strlen(access->token);
    return len > 0 && strlen(given) == len && gnutls_memcmp(given, access->token, len) == 0;
}

static bool charset_known(const char *charset, size_t len)
{
    static const char *const known[] = {"utf-8", "utf8", "us-ascii"};
    if (len >= 2 && charset[0] == '"' && charset[len - 1] == '"') {
        charset++;
        len -= 2;
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strlen(known[i]) == len && strncasecmp(charset, known[i], len) == 0) {
            return true;
        }
    }
    return false;
}

bool content_type_is_json(const char *content_type)
{
    static const char json[] = "application/json";
    static const char charset[] = "charset=";
    const char *at = content_type + strspn(content_type, " \t");
    if (strncasecmp(at, json, sizeof(json) - 1) != 0) {
        return false;
    }
    at += sizeof(json) - 1;
    at += strspn(at, " \t");
    while (*at == ';') {
        at++;
        at += strspn(at, " \t");
        size_t len = strcspn(at, "; \t");
        if (len >= sizeof(charset) - 1 && strncasecmp(at, charset, sizeof(charset) - 1) == 0 &&
            !charset_known(at + sizeof(charset) - 1, len - (sizeof(charset) - 1))) {
            return false;
        }
        at += len;
        at += strspn(at, " \t");
    }
    return *at == '\0';
}

bool idempotency_key_valid(const char *key)
{
    size_t len = 0;
    while (key[len] > ' ' && key[len] < 0x7f) {
        len++;
    }
    return key[len] == '\0' && len >= 1 && len <= IDEMPOTENCY_KEY_MAX;
}
