// SPDX-License-Identifier: Apache-2.0
#include "api/request.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "api/answer.h"
#include "api/client.h"
#include "api/event_query.h"
#include "api/headers.h"
#include "api/json_args.h"
#include "api/reads.h"
#include "base/check.h"
#include "base/log.h"
#include "base/sockaddr.h"

enum { WAIT_SLICE_MS = 1000 };

enum phase {
    PHASE_HEADERS,
    PHASE_BODY,
    PHASE_CALLING,   /* suspended: control has the call */
    PHASE_JOB_WAIT,  /* suspended: control has the waiter */
    PHASE_READINESS, /* suspended: control has the ask */
    PHASE_ANSWERED,
};

struct request {
    struct edge *edge;
    struct MHD_Connection *connection;
    enum phase phase;
    uint64_t begun_ns;
    char *raw_uri;
    struct arena arena;
    struct uri uri;
    struct route route;
    enum verb verb;
    char idempotency_key[IDEMPOTENCY_KEY_MAX + 1];
    struct error error; /* what the checks found */
    bool last;          /* nothing that follows on the connection can be understood */
    struct strbuf body;
    uint64_t received;
    struct call *call;
    struct job_waiter waiter;
    uint64_t wait_until_ns;
    struct readiness_ask ask;
    char last_event_id[EVENT_ID_MAX + 1];
    struct event_stream stream;
    int status;
};

struct reply {
    int status;
    const char *content_type;
    struct strbuf body;
    struct rendered *rendered; /* instead of body: shared with the cache */
    const char *static_body;   /* instead of body: a text that stays */
    size_t static_len;
    char location[PATH_SIZE];
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct request *request_new(struct edge *edge, const char *raw_uri)
{
    struct request *request = calloc(1, sizeof(*request));
    char *uri = strdup(raw_uri != NULL ? raw_uri : "");
    if (request == NULL || uri == NULL) {
        free(request);
        free(uri);
        return NULL;
    }
    request->edge = edge;
    request->raw_uri = uri;
    request->begun_ns = now_ns();
    arena_init(&request->arena);
    strbuf_init(&request->body);
    atomic_fetch_add_explicit(&edge->metrics.in_flight, 1, memory_order_relaxed);
    return request;
}

void request_done(struct request *request)
{
    struct edge *edge = request->edge;
    if (request->status != 0) {
        uint64_t ns = now_ns() - request->begun_ns;
        metrics_count(&edge->metrics, route_template(&request->route), request->status, ns);
        log_debug("http[%s %.*s] %d in %" PRIu64 " us", verb_name(request->verb),
                  (int)strcspn(request->raw_uri, "?"), request->raw_uri, request->status,
                  ns / 1000);
    }
    if (request->phase == PHASE_JOB_WAIT) {
        atomic_fetch_sub_explicit(&edge->job_waits, 1, memory_order_relaxed);
    }
    if (request->phase == PHASE_CALLING || request->phase == PHASE_JOB_WAIT ||
        request->phase == PHASE_READINESS) {
        /* Resumed, but the client had gone. */
        atomic_fetch_sub_explicit(&edge->metrics.waiting, 1, memory_order_relaxed);
    }
    event_hub_leave(&request->stream);
    call_free(request->call);
    strbuf_fini(&request->body);
    arena_fini(&request->arena);
    free(request->raw_uri);
    free(request);
    atomic_fetch_sub_explicit(&edge->metrics.in_flight, 1, memory_order_release);
}

/* ---- the answer */

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    MHD_add_response_header(response, name, value);
}

static void add_headers(struct request *request, const struct reply *reply,
                        struct MHD_Response *response)
{
    add_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    add_header(response, "X-Content-Type-Options", "nosniff");
    if (reply->content_type != NULL) {
        add_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->content_type);
    }
    if (reply->location[0] != '\0') {
        add_header(response, MHD_HTTP_HEADER_LOCATION, reply->location);
    }
    if (reply->rendered != NULL && reply->rendered->link[0] != '\0') {
        add_header(response, MHD_HTTP_HEADER_LINK, reply->rendered->link);
    }
    if (reply->status == MHD_HTTP_UNAUTHORIZED) {
        add_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    } else if (reply->status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        add_header(response, MHD_HTTP_HEADER_ALLOW, request->route.allow);
    } else if (reply->status == MHD_HTTP_UNSUPPORTED_MEDIA_TYPE) {
        add_header(response, MHD_HTTP_HEADER_ACCEPT_ENCODING, "identity");
    } else if (reply->status == MHD_HTTP_SERVICE_UNAVAILABLE) {
        add_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
    }
    if (request->last) {
        add_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    }
}

/* Sends the reply and takes its buffers. */
static enum MHD_Result send_reply(struct request *request, struct reply *reply)
{
    struct MHD_Response *response = NULL;
    strbuf_fini(&request->body);
    if (reply->static_body != NULL) {
        response = MHD_create_response_from_buffer(reply->static_len, (void *)reply->static_body,
                                                   MHD_RESPMEM_PERSISTENT);
    } else if (reply->rendered != NULL) {
        response = MHD_create_response_from_buffer_with_free_callback_cls(
            reply->rendered->len, reply->rendered->body, rendered_unref,
            rendered_ref(reply->rendered));
        if (response == NULL) {
            rendered_unref(reply->rendered);
        }
    } else if (reply->body.len > 0) {
        size_t len = reply->body.len;
        char *text = strbuf_steal(&reply->body);
        if (text != NULL) {
            response = MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE);
            if (response == NULL) {
                free(text);
            }
        }
    } else {
        response = MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT);
    }
    enum MHD_Result result = MHD_NO;
    if (response != NULL) {
        add_headers(request, reply, response);
        request->status = reply->status;
        request->phase = PHASE_ANSWERED;
        result = MHD_queue_response(request->connection, (unsigned)reply->status, response);
        MHD_destroy_response(response);
    }
    strbuf_fini(&reply->body);
    rendered_unref(reply->rendered);
    return result;
}

static enum MHD_Result send_problem(struct request *request, const struct error *error)
{
    struct reply reply = {.content_type = ANSWER_PROBLEM};
    bool of_method =
        request->route.kind == ROUTE_SERVICE_METHOD || request->route.kind == ROUTE_OBJECT_METHOD;
    reply.status = answer_problem(error, of_method, &reply.body);
    return send_reply(request, &reply);
}

/* ---- checks of the headers */

static bool near_end(struct MHD_Connection *connection, struct sockaddr_storage *ret_addr)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    socklen_t len = sizeof(*ret_addr);
    return info != NULL && getsockname(info->connect_fd, (struct sockaddr *)ret_addr, &len) == 0;
}

static bool client_certificate_good(struct MHD_Connection *connection)
{
    unsigned status;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    return info != NULL && info->tls_session != NULL &&
           gnutls_certificate_verify_peers2(info->tls_session, &status) == 0 && status == 0;
}

/* HTTP/1.0 knows no Host. No browser speaks it, so no page can make one do so: on a loopback address
 * it needs none. */
static int check_no_host(struct request *request, const struct headers *headers,
                         const char *version)
{
    if (strcmp(version, MHD_HTTP_VERSION_1_0) != 0) {
        return error_set(&request->error, ERR_BAD_REQUEST, "The Host header is missing.");
    }
    if (headers->origin != NULL || !sockaddr_is_loopback(&request->edge->access.listen)) {
        return error_set(&request->error, ERR_BAD_REQUEST,
                         "The Host header is missing; without it HTTP/1.0 is only taken on a "
                         "loopback address, and without an Origin.");
    }
    return 0;
}

static int check_host(struct request *request, const struct headers *headers, const char *version)
{
    const struct access *access = &request->edge->access;
    struct sockaddr_storage near;
    const struct sockaddr_storage *local = NULL;
    if (headers->host == NULL) {
        int err = check_no_host(request, headers, version);
        if (err != 0) {
            return err;
        }
    }
    /* RFC 9112 3.2.2: the host of the absolute form counts, not the header. */
    const char *name = uri_authority(&request->arena, request->raw_uri);
    if (name == NULL) {
        name = headers->host;
    }
    bool host = name == NULL || access_host_allowed(access, name, NULL);
    if (!host && near_end(request->connection, &near)) {
        local = &near;
        host = access_host_allowed(access, name, local);
    }
    if (!host) {
        return error_set(&request->error, ERR_FORBIDDEN_HOST,
                         "The service is not known under this Host. Call it by its address, or "
                         "name the host with "
                         "--http-hosts.");
    }
    if (headers->origin != NULL && !access_origin_allowed(access, headers->origin, local)) {
        return error_set(&request->error, ERR_FORBIDDEN_HOST,
                         "Pages of this Origin may not call the service.");
    }
    return 0;
}

static int check_body_headers(struct request *request, const struct headers *headers, bool has_body,
                              uint64_t announced)
{
    if (!has_body) {
        return 0;
    }
    if (headers->content_encoding != NULL &&
        strcasecmp(headers->content_encoding, "identity") != 0) {
        return error_set(
            &request->error, ERR_UNSUPPORTED_MEDIA,
            "The body has the Content-Encoding '%.40s'; send it as it is, without one.",
            headers->content_encoding);
    }
    if (headers->content_type == NULL || !content_type_is_json(headers->content_type)) {
        return error_set(
            &request->error, ERR_UNSUPPORTED_MEDIA,
            "The body has to be application/json, and the Content-Type header has to say so.");
    }
    if (announced != UINT64_MAX && announced > REQUEST_BODY_MAX) {
        return error_set(&request->error, ERR_TOO_LARGE, "A body has at most %d bytes.",
                         REQUEST_BODY_MAX);
    }
    return 0;
}

static int check_idempotency_key(struct request *request, const struct headers *headers)
{
    if (headers->idempotency_key == NULL) {
        return 0;
    }
    if (!idempotency_key_valid(headers->idempotency_key)) {
        return error_set(&request->error, ERR_BAD_REQUEST,
                         "An Idempotency-Key is 1 to %d visible ASCII characters.",
                         IDEMPOTENCY_KEY_MAX);
    }
    snprintf(request->idempotency_key, sizeof(request->idempotency_key), "%s",
             headers->idempotency_key);
    return 0;
}

static int check_headers(struct request *request, const struct headers *headers,
                         const char *version, bool has_body, uint64_t announced)
{
    struct edge *edge = request->edge;
    struct error path_error = {0};
    struct error *error = &request->error;
    if (edge->client_certificates && !client_certificate_good(request->connection)) {
        return error_set(error, ERR_UNAUTHORIZED,
                         "A client certificate of the configured authority is needed.");
    }
    int err = check_host(request, headers, version);
    if (err != 0) {
        return err;
    }
    int path_err = uri_parse(&request->arena, request->raw_uri, &request->uri, &path_error);
    if (path_err == 0) {
        path_err = route_match(&request->uri, &request->route, &path_error);
    }
    if ((path_err != 0 || !route_is_open(&request->route)) &&
        !access_token_matches(&edge->access, headers->authorization)) {
        return error_set(error, ERR_UNAUTHORIZED,
                         "This needs the header 'Authorization: Bearer TOKEN'; the token is in the "
                         "data directory, "
                         "ready for curl -H @DATA/auth-header.");
    }
    if (path_err != 0) {
        *error = path_error;
        return path_err;
    }
    err = route_check_verb(&request->route, request->verb, error);
    if (err == 0 && request->verb == VERB_POST) {
        err = check_body_headers(request, headers, has_body, announced);
    }
    if (err == 0 && (request->verb == VERB_POST || request->verb == VERB_DELETE)) {
        err = check_idempotency_key(request, headers);
    }
    if (err == 0 && headers->last_event_id != NULL) {
        /* What is cut is none of ours, and is taken for that. */
        snprintf(request->last_event_id, sizeof(request->last_event_id), "%s",
                 headers->last_event_id);
    }
    return err;
}

static enum MHD_Result step_headers(struct request *request, const char *verb, const char *version)
{
    struct headers headers;
    uint64_t announced = 0;
    request->verb = verb_parse(verb);
    if (headers_read(request->connection, &request->arena, &headers, &request->error) != 0) {
        request->last = true;
        return send_problem(request, &request->error);
    }
    bool has_body = headers_body(&headers, &announced);
    int err = check_headers(request, &headers, version, has_body, announced);
    request->phase = PHASE_BODY;
    if (err != 0 && has_body &&
        (headers.expect != NULL || (announced != UINT64_MAX && announced > REQUEST_DRAIN_MAX))) {
        /* The client waits for our word, or it would take too long to hear it out. */
        return send_problem(request, &request->error);
    }
    return MHD_YES;
}

/* ---- the body */

static enum MHD_Result step_upload(struct request *request, const char *upload, size_t *upload_size)
{
    request->received += *upload_size;
    if (request->error.code == ERR_NONE && request->verb == VERB_POST) {
        if (request->received > REQUEST_BODY_MAX) {
            error_set(&request->error, ERR_TOO_LARGE, "A body has at most %d bytes.",
                      REQUEST_BODY_MAX);
            strbuf_fini(&request->body);
            strbuf_init(&request->body);
        } else {
            strbuf_add(&request->body, upload, *upload_size);
        }
    }
    *upload_size = 0;
    return request->received <= REQUEST_DRAIN_MAX ? MHD_YES : MHD_NO;
}

/* ---- calls */

static void call_answered(struct call *call)
{
    struct request *request = call->maker;
    MHD_resume_connection(request->connection);
}

/* Same verb, same path, same content: SHA-256. Blanks between the values of the body do not count.
 */
static int hash_request(const struct request *request, const struct strbuf *canonical,
                        uint8_t ret_hash[32])
{
    gnutls_hash_hd_t hash;
    if (gnutls_hash_init(&hash, GNUTLS_DIG_SHA256) != 0) {
        return -ENOMEM;
    }
    int err = gnutls_hash(hash, verb_name(request->verb), strlen(verb_name(request->verb)));
    for (unsigned i = 0; i < request->uri.n_segments; i++) {
        err |= gnutls_hash(hash, "\n", 1);
        err |= gnutls_hash(hash, request->uri.segments[i], strlen(request->uri.segments[i]));
    }
    err |= gnutls_hash(hash, "\n\n", 2);
    err |= gnutls_hash(hash, strbuf_str(canonical), canonical->len);
    gnutls_hash_deinit(hash, ret_hash);
    return err == 0 ? 0 : -EIO;
}

static int make_call(struct request *request, const struct json_doc *doc, struct call *call)
{
    const struct route *route = &request->route;
    const struct method *method = route->method;
    if (method->handler == NULL) {
        return error_set(&request->error, ERR_NOT_SUPPORTED, "%s.%s is not supported yet.",
                         route->service->class_name, method->name);
    }
    int err = json_args(doc, &call->arena, method->params, method->n_params, &call->args,
                        &request->error);
    if (err != 0) {
        return err;
    }
    if (method->n_params == 0) {
        call->args = NULL;
    }
    if (hash_request(request, &doc->canonical, call->request_hash) != 0) {
        return error_set(&request->error, ERR_INTERNAL, "The request could not be hashed.");
    }
    call->service = route->service;
    call->method = method;
    if (route->id != NULL) {
        snprintf(call->object_id, sizeof(call->object_id), "%s", route->id);
    }
    snprintf(call->idempotency_key, sizeof(call->idempotency_key), "%s", request->idempotency_key);
    call->render = answer_render_call;
    call->render_outs = answer_render_outs;
    call->answered = call_answered;
    call->maker = request;
    return 0;
}

/* Calls that wait for control. Those that wait for jobs have their own limit: they must not keep calls out. */
static bool too_many_waiting(struct edge *edge)
{
    uint64_t waiting = (uint64_t)atomic_load_explicit(&edge->metrics.waiting, memory_order_relaxed);
    uint64_t job_waits = atomic_load_explicit(&edge->job_waits, memory_order_relaxed);
    return waiting >= job_waits + edge->waiting_max;
}

/* From here on nothing of ours is touched until libmicrohttpd calls again. */
static void suspend(struct request *request, enum phase phase)
{
    request->phase = phase;
    atomic_fetch_add_explicit(&request->edge->metrics.waiting, 1, memory_order_relaxed);
    MHD_suspend_connection(request->connection);
}

static enum MHD_Result begin_call(struct request *request)
{
    struct edge *edge = request->edge;
    struct json_doc doc;
    if (strbuf_error(&request->body) != 0) {
        error_set(&request->error, ERR_NO_MEMORY, "There is not enough memory for the body.");
        return send_problem(request, &request->error);
    }
    if (json_doc_parse(&doc, strbuf_str(&request->body), request->body.len, &request->error) != 0) {
        return send_problem(request, &request->error);
    }
    const char *method = request->route.method->name;
    bool takes_dry_run = strcmp(method, "ModifyReplicaSynchronization") == 0 ||
                         strcmp(method, "ModifyListSynchronization") == 0;
    bool dry_run;
    if (read_check_call_query(&request->uri, takes_dry_run, &dry_run, &request->error) != 0) {
        json_doc_free(&doc);
        return send_problem(request, &request->error);
    }
    request->call = call_new();
    int err = make_call(request, &doc, request->call);
    request->call->dry_run = dry_run;
    if (dry_run) {
        request->call->idempotency_key[0] = '\0'; /* nothing was done that could be done twice */
    }
    json_doc_free(&doc);
    strbuf_fini(&request->body);
    strbuf_init(&request->body);
    if (err == 0 && too_many_waiting(edge)) {
        err = error_set(&request->error, ERR_OVERLOADED,
                        "More than %u requests are waiting; try again.", edge->waiting_max);
    }
    if (err == 0 && !edge_enter(edge)) {
        err = error_set(&request->error, ERR_SHUTTING_DOWN, "The service is stopping.");
    }
    if (err != 0) {
        return send_problem(request, &request->error);
    }
    suspend(request, PHASE_CALLING);
    control_submit(edge->control, request->call);
    edge_leave(edge);
    return MHD_YES;
}

static enum MHD_Result end_call(struct request *request)
{
    struct call_answer *answer = &request->call->answer;
    struct reply reply = {.status = answer->status};
    if (strbuf_error(&answer->body) != 0 ||
        (answer->body.len == 0 && answer->status != MHD_HTTP_NO_CONTENT)) {
        struct error error = {0};
        error_set(&error, ERR_NO_MEMORY, "There is not enough memory for the answer.");
        return send_problem(request, &error);
    }
    if (answer->body.len > 0) {
        reply.content_type = answer->status >= 400 ? ANSWER_PROBLEM : ANSWER_JSON;
    }
    snprintf(reply.location, sizeof(reply.location), "%s", answer->location);
    reply.body = answer->body;
    strbuf_init(&answer->body);
    return send_reply(request, &reply);
}

/* ---- reads */

/* On control: the job has ended, or a slice of the wait is over. A client that has gone does not keep its place. */
static void job_waited(struct job_waiter *waiter)
{
    struct request *request = waiter->arg;
    uint64_t now = now_ns();
    if (waiter->timed_out && now < request->wait_until_ns && !client_gone(request->connection)) {
        uint64_t left_ms = (request->wait_until_ns - now + 999999) / 1000000;
        waiter->timeout_ms = left_ms < WAIT_SLICE_MS ? left_ms : WAIT_SLICE_MS;
        control_wait_job(request->edge->control, waiter);
        return;
    }
    MHD_resume_connection(request->connection);
}

static int read_into(struct request *request, struct reply *reply)
{
    struct edge *edge = request->edge;
    const struct route *route = &request->route;
    struct error *error = &request->error;
    switch (route->kind) {
    case ROUTE_READYZ:
        if (request->ask.err != 0) {
            return error_set(error, ERR_NOT_READY,
                             "The records cannot be written: %s. Calls that change something fail "
                             "until they can.",
                             readiness_text(request->ask.err));
        }
        strbuf_puts(&reply->body, "{\"Status\":\"ready\"}");
        return read_ready(edge, error);
    case ROUTE_METRICS:
        reply->content_type = "text/plain; version=0.0.4; charset=utf-8";
        return read_metrics(edge, &reply->body, error);
    case ROUTE_SERVICES:
    case ROUTE_LIST:
        return read_list(edge, route, &request->uri, &reply->rendered, error);
    default:
        return read_object(edge, route, &reply->rendered, error);
    }
}

/* Inside the gate. True: the request has been suspended until the job ends. */
static bool wait_for_job(struct request *request, uint64_t wait_ms)
{
    struct edge *edge = request->edge;
    bool running = false;
    if (wait_ms == 0 ||
        atomic_load_explicit(&edge->job_waits, memory_order_relaxed) >= edge->waiting_max) {
        return false;
    }
    if (read_job_running(edge, request->route.id, &running, &request->error) != 0 || !running) {
        return false;
    }
    request->waiter = (struct job_waiter){
        .timeout_ms = wait_ms < WAIT_SLICE_MS ? wait_ms : WAIT_SLICE_MS,
        .fn = job_waited,
        .arg = request,
    };
    snprintf(request->waiter.job_id, sizeof(request->waiter.job_id), "%s", request->route.id);
    request->wait_until_ns = now_ns() + wait_ms * 1000000;
    atomic_fetch_add_explicit(&edge->job_waits, 1, memory_order_relaxed);
    suspend(request, PHASE_JOB_WAIT);
    control_wait_job(edge->control, &request->waiter);
    return true;
}

static void readiness_known(struct readiness_ask *ask)
{
    struct request *request = ask->arg;
    MHD_resume_connection(request->connection);
}

/* Inside the gate. */
static int ask_readiness(struct request *request)
{
    struct edge *edge = request->edge;
    if (too_many_waiting(edge)) {
        return error_set(&request->error, ERR_OVERLOADED,
                         "More than %u requests are waiting; try again.", edge->waiting_max);
    }
    request->ask = (struct readiness_ask){.fn = readiness_known, .arg = request};
    suspend(request, PHASE_READINESS);
    readiness_ask(&edge->readiness, edge->control, &request->ask);
    return 0;
}

/* ---- events */

enum { EVENT_BLOCK = 16384 };

static enum MHD_Result begin_stream(struct request *request)
{
    struct event_stream *stream = &request->stream;
    struct reply head = {.status = MHD_HTTP_OK, .content_type = "text/event-stream"};
    if (event_query_parse(&request->uri, &stream->filter, &request->error) != 0) {
        return send_problem(request, &request->error);
    }
    if (request->verb == VERB_HEAD) {
        return send_reply(request, &head);
    }
    stream->connection = request->connection;
    if (event_hub_join(request->edge->events, stream,
                       request->last_event_id[0] != '\0' ? request->last_event_id : NULL,
                       &request->error) != 0) {
        return send_problem(request, &request->error);
    }
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, EVENT_BLOCK, event_stream_read, stream, NULL);
    if (response == NULL) {
        return MHD_NO;
    }
    add_headers(request, &head, response);
    add_header(response, "X-Accel-Buffering", "no"); /* proxies that gather answers */
    request->status = MHD_HTTP_OK;
    request->phase = PHASE_ANSWERED;
    enum MHD_Result result = MHD_queue_response(request->connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

/* resumed: what was to be waited for is over. */
static enum MHD_Result answer_read(struct request *request, bool resumed)
{
    struct reply reply = {.status = MHD_HTTP_OK, .content_type = ANSWER_JSON};
    struct edge *edge = request->edge;
    const struct route *route = &request->route;
    bool is_list = route->kind == ROUTE_LIST || route->kind == ROUTE_SERVICES;
    bool is_job = route->kind == ROUTE_OBJECT && route->collection == COLLECTION_JOBS;
    uint64_t wait_ms = 0;
    if (route->kind == ROUTE_EVENTS) {
        return begin_stream(request);
    }
    if (!is_list && read_check_query(&request->uri, is_job, &wait_ms, &request->error) != 0) {
        return send_problem(request, &request->error);
    }
    if (route->kind == ROUTE_HEALTHZ) {
        strbuf_puts(&reply.body, "{\"Status\":\"ok\"}");
        return send_reply(request, &reply);
    }
    if (route->kind == ROUTE_OPENAPI) {
        reply.content_type = "application/yaml; charset=utf-8";
        reply.static_body = read_openapi(&reply.static_len);
        return send_reply(request, &reply);
    }
    int err;
    if (!edge_enter(edge)) {
        err = error_set(&request->error, ERR_SHUTTING_DOWN, "The service is stopping.");
    } else {
        if (is_job && !resumed && wait_for_job(request, wait_ms)) {
            edge_leave(edge);
            return MHD_YES;
        }
        if (route->kind == ROUTE_READYZ && !resumed && ask_readiness(request) == 0) {
            edge_leave(edge);
            return MHD_YES;
        }
        err = request->error.code != ERR_NONE ? -EIO : read_into(request, &reply);
        edge_leave(edge);
    }
    if (err != 0) {
        strbuf_fini(&reply.body);
        if (route->kind == ROUTE_READYZ && request->error.code == ERR_STORE_FAILED) {
            error_set(&request->error, ERR_NOT_READY, "The records do not answer now.");
        }
        return send_problem(request, &request->error);
    }
    return send_reply(request, &reply);
}

/* ---- the steps */

enum MHD_Result request_step(struct request *request, struct MHD_Connection *connection,
                             const char *verb, const char *version, const char *upload,
                             size_t *upload_size)
{
    request->connection = connection;
    switch (request->phase) {
    case PHASE_HEADERS:
        return step_headers(request, verb, version);
    case PHASE_BODY:
        if (*upload_size > 0) {
            return step_upload(request, upload, upload_size);
        }
        if (request->error.code != ERR_NONE) {
            return send_problem(request, &request->error);
        }
        return request->verb == VERB_POST || request->verb == VERB_DELETE
                   ? begin_call(request)
                   : answer_read(request, false);
    case PHASE_CALLING:
        atomic_fetch_sub_explicit(&request->edge->metrics.waiting, 1, memory_order_relaxed);
        return end_call(request);
    case PHASE_JOB_WAIT:
        atomic_fetch_sub_explicit(&request->edge->job_waits, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&request->edge->metrics.waiting, 1, memory_order_relaxed);
        return answer_read(request, true);
    case PHASE_READINESS:
        atomic_fetch_sub_explicit(&request->edge->metrics.waiting, 1, memory_order_relaxed);
        return answer_read(request, true);
    case PHASE_ANSWERED:
        break;
    }
    return MHD_YES;
}
