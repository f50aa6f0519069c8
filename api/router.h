// SPDX-License-Identifier: Apache-2.0
/*
 * Which resource a path names, which verbs it takes, and under which name its requests are counted.
 *
 * Thread:    any; constant tables (those of service/method.h and service/view.h).
 * Ownership: a route points into the uri that it was made from.
 * Errors:    not_found, method_not_allowed.
 */
#ifndef API_ROUTER_H
#define API_ROUTER_H

#include <stdbool.h>
#include <stddef.h>

#include "api/uri.h"
#include "service/method.h"
#include "service/view.h"

enum verb { VERB_GET, VERB_HEAD, VERB_POST, VERB_DELETE, VERB_OTHER };
enum verb verb_parse(const char *text);
const char *verb_name(enum verb verb);

enum route_kind {
    ROUTE_NONE, /* no such path */
    ROUTE_HEALTHZ,
    ROUTE_READYZ,
    ROUTE_METRICS,
    ROUTE_OPENAPI,
    ROUTE_EVENTS,
    ROUTE_SERVICES,
    ROUTE_SERVICE,
    ROUTE_SERVICE_METHOD,
    ROUTE_LIST,
    ROUTE_OBJECT,
    ROUTE_OBJECT_METHOD,
};

struct route {
    enum route_kind kind;
    enum collection collection; /* LIST, OBJECT, OBJECT_METHOD */
    const char *id;             /* OBJECT, OBJECT_METHOD */
    const struct service
        *service; /* SERVICE, SERVICE_METHOD, OBJECT_METHOD; OBJECT that can be deleted */
    const struct method
        *method; /* SERVICE_METHOD, OBJECT_METHOD; OBJECT that can be deleted: DeleteInstance */
    const char *allow; /* for the Allow header */
};

int route_match(const struct uri *uri, struct route *ret_route, struct error *error);
/* 0 when the resource takes that verb, method_not_allowed otherwise. */
int route_check_verb(const struct route *route, enum verb verb, struct error *error);
/* Health, readiness and the contract are there for everybody. */
bool route_is_open(const struct route *route);

/* Templates as small numbers, for counters. */
enum { ROUTE_TEMPLATES = ROUTE_LIST + 3 * COLLECTION_COUNT };
unsigned route_template(const struct route *route);
/* "/volumes/{id}"; "" for a number that stands for no resource. Out has room for size bytes. */
void route_template_text(unsigned template, char *out, size_t size);

#endif
