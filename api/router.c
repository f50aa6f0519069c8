// SPDX-License-Identifier: Apache-2.0
#include "api/router.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

static const char *const verb_names[] = {
    [VERB_GET] = "GET",       [VERB_HEAD] = "HEAD",   [VERB_POST] = "POST",
    [VERB_DELETE] = "DELETE", [VERB_OTHER] = "OTHER",
};

enum verb verb_parse(const char *text)
{
    for (enum verb verb = VERB_GET; verb < VERB_OTHER; verb++) {
        if (strcmp(verb_names[verb], text) == 0) {
            return verb;
        }
    }
    return VERB_OTHER;
}

const char *verb_name(enum verb verb)
{
    return verb_names[verb];
}

static const char allow_read[] = "GET, HEAD";
static const char allow_call[] = "POST";
static const char allow_read_delete[] = "GET, HEAD, DELETE";

/* The paths that have one fixed segment. */
static const struct {
    const char *path;
    enum route_kind kind;
    bool open;
} fixed_routes[] = {
    {"healthz", ROUTE_HEALTHZ, true},    {"readyz", ROUTE_READYZ, true},
    {"metrics", ROUTE_METRICS, false},   {"openapi.yaml", ROUTE_OPENAPI, false},
    {"events", ROUTE_EVENTS, false},     {"services", ROUTE_SERVICES, false},
};

static int match_service(const struct uri *uri, struct route *route, struct error *error)
{
    const char *name = uri->segments[1];
    route->service = service_find(name);
    if (route->service == NULL) {
        return error_set(error, ERR_NOT_FOUND,
                         "There is no service %.64s; GET /services lists them.", name);
    }
    route->kind = ROUTE_SERVICE;
    route->allow = allow_read;
    if (uri->n_segments == 3) {
        route->kind = ROUTE_SERVICE_METHOD;
        route->allow = allow_call;
        route->method = service_method(route->service, uri->segments[2]);
        if (route->method == NULL) {
            return error_set(error, ERR_NOT_FOUND,
                             "%s has no method %.64s; GET /services/%s lists them.",
                             route->service->name, uri->segments[2], route->service->name);
        }
    }
    return 0;
}

static int match_collection(const struct uri *uri, struct route *route, struct error *error)
{
    if (view_collection_find(uri->segments[0], &route->collection) != 0) {
        return error_set(error, ERR_NOT_FOUND, "There is nothing at /%.64s.", uri->segments[0]);
    }
    const struct view_collection *collection = &view_collections[route->collection];
    route->kind = ROUTE_LIST;
    route->allow = allow_read;
    if (uri->n_segments == 1) {
        return 0;
    }
    route->kind = ROUTE_OBJECT;
    route->id = uri->segments[1];
    /* No id of ours is longer; what is longer need not be asked for. */
    if (strlen(route->id) >= ID_SIZE) {
        return error_set(error, ERR_NOT_FOUND, "There is no /%s/%.64s.", collection->path,
                         route->id);
    }
    if (uri->n_segments == 2) {
        if (collection->can_delete && collection->object_methods != NULL) {
            route->service = collection->object_methods;
            route->method = service_method(route->service, "DeleteInstance");
            CHECK(route->method != NULL);
            route->allow = allow_read_delete;
        }
        return 0;
    }
    route->kind = ROUTE_OBJECT_METHOD;
    route->allow = allow_call;
    route->service = collection->object_methods;
    if (route->service != NULL && strcmp(uri->segments[2], "DeleteInstance") != 0) {
        route->method = service_method(route->service, uri->segments[2]);
    }
    if (route->method == NULL) {
        return error_set(error, ERR_NOT_FOUND, "Objects of /%s have no method %.64s.",
                         collection->path, uri->segments[2]);
    }
    return 0;
}

static int match(const struct uri *uri, struct route *route, struct error *error)
{
    if (uri->n_segments == 0) {
        return error_set(error, ERR_NOT_FOUND,
                         "There is nothing at /; /openapi.yaml says what there is.");
    }
    if (uri->n_segments == 1) {
        for (size_t i = 0; i < ARRAY_LEN(fixed_routes); i++) {
            if (strcmp(uri->segments[0], fixed_routes[i].path) == 0) {
                route->kind = fixed_routes[i].kind;
                route->allow = allow_read;
                return 0;
            }
        }
    } else if (strcmp(uri->segments[0], "services") == 0) {
        return match_service(uri, route, error);
    }
    return match_collection(uri, route, error);
}

int route_match(const struct uri *uri, struct route *ret_route, struct error *error)
{
    struct route route = {0};
    int err = match(uri, &route, error);
    if (err == 0) {
        *ret_route = route;
    }
    return err;
}

/* What is done to the objects of a collection is done by methods: where they are. */
static const char *const where_to_act[COLLECTION_COUNT] = {
    [COLLECTION_SYSTEMS] =
        "A system comes with POST /services/ReplicationService/AddServiceAccessPoint.",
    [COLLECTION_POOLS] =
        "Use POST /services/StorageConfigurationService/CreateOrModifyStoragePool, and "
        "POST /services/StorageConfigurationService/DeleteStoragePool.",
    [COLLECTION_VOLUMES] =
        "A LUN is added with POST /services/ReplicationService/AddReplicationEntity or "
        "POST /services/StorageConfigurationService/ScsiScan, and forgotten with DELETE "
        "/volumes/{id}.",
    [COLLECTION_SYNCHRONIZATIONS] =
        "Use POST /services/ReplicationService/CreateElementReplica to make one, and "
        "POST /services/ReplicationService/ModifyReplicaSynchronization for all that is done to "
        "it.",
    [COLLECTION_GROUPS] =
        "Use POST /services/ReplicationService/CreateGroup, AddMembers, RemoveMembers and "
        "DeleteGroup.",
    [COLLECTION_GROUP_SYNCHRONIZATIONS] =
        "Use POST /services/ReplicationService/CreateGroupReplica to make one, and "
        "POST /services/ReplicationService/ModifyReplicaSynchronization for all that is done to "
        "it.",
    [COLLECTION_ACCESS_POINTS] =
        "A portal is added with POST /services/ReplicationService/AddServiceAccessPoint, and "
        "forgotten with DELETE /accesspoints/{id}.",
    [COLLECTION_JOBS] = "Use POST /jobs/{id}/RequestStateChange, and DELETE /jobs/{id} when it has "
                        "ended.",
    [COLLECTION_SERVICES] = "A method is called with POST /services/{service}/{Method}.",
};

static const char *hint(const struct route *route)
{
    const char *text = NULL;
    switch (route->kind) {
    case ROUTE_SERVICES:
    case ROUTE_SERVICE:
        text = where_to_act[COLLECTION_SERVICES];
        break;
    case ROUTE_LIST:
    case ROUTE_OBJECT:
        text = where_to_act[route->collection];
        break;
    case ROUTE_SERVICE_METHOD:
    case ROUTE_OBJECT_METHOD:
        text = "A method is called with POST; GET /services lists them with their parameters.";
        break;
    default:
        break;
    }
    return text != NULL ? text : "";
}

int route_check_verb(const struct route *route, enum verb verb, struct error *error)
{
    bool taken = false;
    switch (verb) {
    case VERB_GET:
    case VERB_HEAD:
        taken = route->allow != allow_call;
        break;
    case VERB_POST:
        taken = route->allow == allow_call;
        break;
    case VERB_DELETE:
        taken = route->allow == allow_read_delete;
        break;
    case VERB_OTHER:
        break;
    }
    const char *more = hint(route);
    return taken ? 0
                 : error_set(error, ERR_METHOD_NOT_ALLOWED, "This resource takes %s.%s%s",
                             route->allow, more[0] != '\0' ? " " : "", more);
}

bool route_is_open(const struct route *route)
{
    for (size_t i = 0; i < ARRAY_LEN(fixed_routes); i++) {
        if (fixed_routes[i].kind == route->kind) {
            return fixed_routes[i].open;
        }
    }
    return false;
}

unsigned route_template(const struct route *route)
{
    switch (route->kind) {
    case ROUTE_LIST:
    case ROUTE_OBJECT:
    case ROUTE_OBJECT_METHOD:
        return ROUTE_LIST + 3 * (unsigned)route->collection + (route->kind - ROUTE_LIST);
    default:
        return route->kind;
    }
}

void route_template_text(unsigned template, char *out, size_t size)
{
    static const char *const fixed[ROUTE_LIST] = {
        [ROUTE_NONE] = "none",
        [ROUTE_HEALTHZ] = "/healthz",
        [ROUTE_READYZ] = "/readyz",
        [ROUTE_METRICS] = "/metrics",
        [ROUTE_OPENAPI] = "/openapi.yaml",
        [ROUTE_EVENTS] = "/events",
        [ROUTE_SERVICES] = "/services",
        [ROUTE_SERVICE] = "/services/{service}",
        [ROUTE_SERVICE_METHOD] = "/services/{service}/{Method}",
    };
    static const char *const parts[3] = {"", "/{id}", "/{id}/{Method}"};
    CHECK(template <ROUTE_TEMPLATES);
    if (template <ROUTE_LIST) {
        snprintf(out, size, "%s", fixed[template]);
        return;
    }
    const char *path = view_collections[(template - ROUTE_LIST) / 3].path;
    if (path == NULL) {
        out[0] = '\0';
        return;
    }
    snprintf(out, size, "/%s%s", path, parts[(template - ROUTE_LIST) % 3]);
}
