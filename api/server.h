// SPDX-License-Identifier: Apache-2.0
/*
 * The HTTP server: libmicrohttpd with a small pool of threads.
 *
 * Thread:    start, quiesce and stop from one thread, in this order.
 * Ownership: options are copied; the listening socket becomes the server's; control is borrowed
 * until server_quiesce() returns. Errors:    server_start() fills error.
 *
 * The end, in order: server_quiesce() lets no request to control any more (503 from then on) and
 * closes the listening socket; control_stop() answers what is suspended; server_stop() gives the
 * last answers a moment to leave and frees.
 */
#ifndef API_SERVER_H
#define API_SERVER_H

#include "base/error.h"
#include "service/control.h"

struct server_options {
    struct control *control;
    const char *data_dir;
    int listen_fd; /* bound and listening */
    const char *token;
    const char *host_names; /* further names that Host may have; separated by commas */
    /* PEM texts; NULL: plain HTTP. */
    const char *tls_certificate;
    const char *tls_key;
    const char *tls_client_ca; /* clients have to show a certificate of this authority */
    unsigned threads;          /* 0: 2 */
    unsigned connections;      /* at a time; 0: 2048 */
    unsigned event_beat_ms;    /* heartbeat of streams of events; 0: 15 s */
};

struct server;
int server_start(const struct server_options *options, struct server **ret_server,
                 struct error *error);
void server_quiesce(struct server *server);
void server_stop(struct server *server);

#endif
