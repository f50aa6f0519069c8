// SPDX-License-Identifier: Apache-2.0
#include "api/server.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <microhttpd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "api/edge.h"
#include "api/request.h"
#include "base/log.h"

enum {
    THREADS_DEFAULT = 2,
    CONNECTIONS_DEFAULT = 2048,
    IDLE_TIMEOUT_S = 60,
    CONNECTION_MEMORY = 32768,
    LAST_ANSWERS_MS = 1000,
    EVENT_STREAMS_PART = 8, /* of the connections may be streams of events */
};

struct server {
    struct edge edge;
    struct MHD_Daemon *daemon;
    atomic_bool closed; /* nobody is let in any more */
};

/* Not MHD_quiesce_daemon(): it and a thread at its limit of connections may both take the socket out of
 * their set, and libmicrohttpd then ends the process. */
static enum MHD_Result let_in(void *cls, const struct sockaddr *address, socklen_t len)
{
    struct server *server = cls;
    (void)address;
    (void)len;
    return atomic_load(&server->closed) ? MHD_NO : MHD_YES;
}

/* We take the query apart ourselves, so the library's copy of it is cut off: it would keep each of its parameters
 * in the memory of the connection, and when that is too small for them there is no answer, and nobody is told of the
 * end of the request. */
static void hide_query(char *uri)
{
    char *query = strchr(uri, '?');

    if (query != NULL) {
        query[1] = '\0'; /* writes to the end of the text at most */
    }
}

static void *begin_request(void *cls, const char *uri, struct MHD_Connection *connection)
{
    struct server *server = cls;
    struct request *request = request_new(&server->edge, uri);

    (void)connection;
    hide_query(
        (char *)
            uri); /* it is in the buffer of the connection, which is ours to write to as long as this runs */
    return request;
}

static enum MHD_Result step_request(void *cls, struct MHD_Connection *connection, const char *url,
                                    const char *verb, const char *version, const char *upload,
                                    size_t *upload_size, void **con_cls)
{
    (void)cls;
    (void)url;
    return *con_cls != NULL ? request_step(*con_cls, connection, verb, version, upload, upload_size)
                            : MHD_NO;
}

static void end_request(void *cls, struct MHD_Connection *connection, void **con_cls,
                        enum MHD_RequestTerminationCode code)
{
    (void)cls;
    (void)connection;
    (void)code;
    if (*con_cls != NULL) {
        request_done(*con_cls);
        *con_cls = NULL;
    }
}

static void __attribute__((format(printf, 2, 0)))
log_library(void *cls, const char *fmt, va_list args)
{
    char line[256];
    (void)cls;
    vsnprintf(line, sizeof(line), fmt, args);
    line[strcspn(line, "\n")] = '\0';
    log_debug("http[] %s", line);
}

static void __attribute__((noreturn))
panic(void *cls, const char *file, unsigned line, const char *reason)
{
    (void)cls;
    log_error("http[] libmicrohttpd gave up at %s:%u: %s", file, line,
              reason != NULL ? reason : "no reason given");
    abort();
}

/* What libmicrohttpd would only say with a failed start. */
static int check_certificate(const struct server_options *options, struct error *error)
{
    gnutls_certificate_credentials_t credentials;
    gnutls_datum_t certificate = {(unsigned char *)options->tls_certificate,
                                  (unsigned)strlen(options->tls_certificate)};
    gnutls_datum_t key = {(unsigned char *)options->tls_key, (unsigned)strlen(options->tls_key)};
    int r = gnutls_certificate_allocate_credentials(&credentials);
    if (r < 0) {
        return error_set(error, ERR_NO_MEMORY, "TLS: %s.", gnutls_strerror(r));
    }
    int err = 0;
    r = gnutls_certificate_set_x509_key_mem(credentials, &certificate, &key, GNUTLS_X509_FMT_PEM);
    if (r < 0) {
        err = error_set(error, ERR_INVALID_PARAMETER,
                        "The certificate and its key cannot be used: %s", gnutls_strerror(r));
    } else if (options->tls_client_ca != NULL) {
        gnutls_datum_t ca = {(unsigned char *)options->tls_client_ca,
                             (unsigned)strlen(options->tls_client_ca)};
        r = gnutls_certificate_set_x509_trust_mem(credentials, &ca, GNUTLS_X509_FMT_PEM);
        if (r <= 0) {
            err = error_set(error, ERR_INVALID_PARAMETER,
                            "The certificates of the client authority cannot be used: %s",
                            r < 0 ? gnutls_strerror(r) : "there is none.");
        }
    }
    gnutls_certificate_free_credentials(credentials);
    return err;
}

static int start_daemon(struct server *server, const struct server_options *options,
                        unsigned threads, struct error *error)
{
    unsigned flags = MHD_USE_EPOLL | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_SUSPEND_RESUME |
                     MHD_USE_ERROR_LOG;
    unsigned connections = options->connections != 0 ? options->connections : CONNECTIONS_DEFAULT;
    struct MHD_OptionItem tls[5] = {{MHD_OPTION_END, 0, NULL}};
    if (options->tls_certificate != NULL) {
        unsigned n = 0;
        flags |= MHD_USE_TLS;
        tls[n++] =
            (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)options->tls_certificate};
        tls[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)options->tls_key};
        tls[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0,
                                           (void *)"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"};
        if (options->tls_client_ca != NULL) {
            tls[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0,
                                               (void *)options->tls_client_ca};
        }
        tls[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    }
    server->daemon = MHD_start_daemon(
        flags, 0, let_in, server, step_request, server,
        /* first, so that it speaks of everything after it */
        MHD_OPTION_EXTERNAL_LOGGER, log_library, NULL, MHD_OPTION_LISTEN_SOCKET, options->listen_fd,
        MHD_OPTION_URI_LOG_CALLBACK, begin_request, server, MHD_OPTION_NOTIFY_COMPLETED,
        end_request, server, MHD_OPTION_THREAD_POOL_SIZE, threads, MHD_OPTION_CONNECTION_LIMIT,
        connections, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_TIMEOUT_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
        /* What it would check then we check ourselves: its own answer to a missing Host is broken. */
        MHD_OPTION_STRICT_FOR_CLIENT, 0, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_ARRAY,
        tls, MHD_OPTION_END);
    if (server->daemon == NULL) {
        return error_set(error, ERR_INTERNAL, "The HTTP server cannot be started (%s).",
                         strerror(errno));
    }
    return 0;
}

int server_start(const struct server_options *options, struct server **ret_server,
                 struct error *error)
{
    unsigned threads = options->threads != 0 ? options->threads : THREADS_DEFAULT;
    struct sockaddr_storage listen = {0};
    socklen_t len = sizeof(listen);
    if (getsockname(options->listen_fd, (struct sockaddr *)&listen, &len) != 0) {
        return error_set(error, ERR_INTERNAL, "The HTTP socket has no address (%s).",
                         strerror(errno));
    }
    if (options->tls_certificate != NULL) {
        int err = check_certificate(options, error);
        if (err != 0) {
            return err;
        }
    }
    struct server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return error_set(error, ERR_NO_MEMORY, "There is not enough memory.");
    }
    server->edge.client_certificates = options->tls_client_ca != NULL;
    unsigned connections = options->connections != 0 ? options->connections : CONNECTIONS_DEFAULT;
    server->edge.waiting_max = connections * 3 / 4;
    int err = edge_init(&server->edge, options->control, options->data_dir, threads, error);
    if (err != 0) {
        free(server);
        return err;
    }
    err = access_init(&server->edge.access, &listen, options->token, options->host_names);
    if (err != 0) {
        error_set(error, ERR_NO_MEMORY, "There is not enough memory.");
    } else {
        MHD_set_panic_func(panic, NULL);
        struct event_options events = {
            .control = options->control,
            .data_dir = options->data_dir,
            .streams_max = connections / EVENT_STREAMS_PART,
            .beat_ms = options->event_beat_ms,
        };
        err = event_hub_start(&events, &server->edge.events, error);
    }
    if (err == 0) {
        err = start_daemon(server, options, threads, error);
    }
    if (err != 0) {
        if (server->edge.events != NULL) {
            event_hub_stop(
                server->edge.events); /* not freed: control may still tell it something */
        }
        edge_fini(&server->edge);
        free(server);
        return err;
    }
    *ret_server = server;
    return 0;
}

void server_quiesce(struct server *server)
{
    edge_close(&server->edge);
    atomic_store(&server->closed, true);
    event_hub_stop(server->edge.events);
}

void server_stop(struct server *server)
{
    static const struct timespec pause = {.tv_nsec = 2000000};
    struct metrics *metrics = &server->edge.metrics;
    for (int ms = 0; ms < LAST_ANSWERS_MS && atomic_load(&metrics->in_flight) > 0; ms += 2) {
        nanosleep(&pause, NULL);
    }
    if (atomic_load(&metrics->waiting) > 0) {
        /* libmicrohttpd cannot be stopped while a connection is suspended; the process ends anyway.
         */
        log_error("http[] control has left requests unanswered");
        return;
    }
    MHD_stop_daemon(server->daemon);
    event_hub_free(server->edge.events);
    edge_fini(&server->edge);
    free(server);
}
