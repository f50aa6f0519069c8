// SPDX-License-Identifier: Apache-2.0
/*
 * smirrord: puts the parts together, and takes them apart again in the right order.
 *
 * Start: options, signals, data directory (locked), sockets (reserved), control, HTTP, ready file.
 * End:   ready file, HTTP takes nothing new, control stops (copies write their checkpoints, what
 * waits is answered), HTTP sends the last answers, data directory (unlocked).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/json_out.h"
#include "api/server.h"
#include "base/log.h"
#include "base/sockaddr.h"
#include "base/strbuf.h"
#include "daemon/datadir.h"
#include "daemon/ending.h"
#include "daemon/listen.h"
#include "daemon/options.h"
#include "service/control.h"
#include "service/exports.h"

struct daemon {
    struct options options;
    struct datadir dir;
    int http_fd; /* until the server has it */
    char http[SOCKADDR_TEXT_LEN];
    char iscsi[SOCKADDR_TEXT_LEN]; /* bound by control */
    char own_addresses[2 * SOCKADDR_TEXT_LEN];
    char *tls_cert;
    char *tls_key;
    char *tls_client_ca;
    char initiator_name[256];
    struct control *control;
    struct server *server;
};

enum { FILES_AT_ONCE = 65536 };

/* The kernel's table of them grows by doubling. With several threads each growth waits for an RCU grace period, and all who open
 * something wait with it: seconds, on a machine that is busy. Now there is one thread. */
static void raise_open_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    rlim_t n = limit.rlim_cur < FILES_AT_ONCE ? limit.rlim_cur : FILES_AT_ONCE;
    int last = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, (int)n - 1);
    if (last >= 0) {
        close(last);
    }
}

/* As many connections as asked for, as long as half of the open files remain for targets and
 * records. */
static unsigned connections(const struct options *options)
{
    struct rlimit limit;
    uint64_t wanted = options->http_connections;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && wanted > limit.rlim_cur / 2) {
        wanted = limit.rlim_cur / 2;
        log_warning(
            "smirrord only %llu HTTP connections at a time: the limit of open files is %llu",
            (unsigned long long)wanted, (unsigned long long)limit.rlim_cur);
    }
    return (unsigned)wanted;
}

static int read_tls(struct daemon *daemon, struct error *error)
{
    const struct options *options = &daemon->options;
    int err = 0;
    if (options->tls_cert[0] != '\0') {
        err = file_read(options->tls_cert, &daemon->tls_cert, error);
        if (err == 0) {
            err = file_read(options->tls_key, &daemon->tls_key, error);
        }
    }
    if (err == 0 && options->tls_client_ca[0] != '\0') {
        err = file_read(options->tls_client_ca, &daemon->tls_client_ca, error);
    }
    return err;
}

static int start_control(struct daemon *daemon, struct error *error)
{
    const struct options *options = &daemon->options;
    char *own = daemon->own_addresses;
    if (options->initiator_name[0] != '\0') {
        snprintf(daemon->initiator_name, sizeof(daemon->initiator_name), "%s",
                 options->initiator_name);
    } else {
        snprintf(daemon->initiator_name, sizeof(daemon->initiator_name),
                 "iqn.2026-11.io.smirror:initiator.%s", daemon->dir.initiator_id);
    }
    snprintf(own, sizeof(daemon->own_addresses), "%s", daemon->http);
    struct control_options control = {
        .data_dir = daemon->dir.path,
        .system_name = options->system_name,
        .initiator_name = daemon->initiator_name,
        .data_loops = (unsigned)options->data_loops,
        .data_linger_us = options->data_linger_us,
        .pool_directories = options->pool_directories,
        .copies_at_once = (unsigned)options->copies_at_once,
        .copy_bandwidth_limit = options->copy_bandwidth_limit,
        .copy_give_up_ms = options->copy_give_up_ms,
        .probe_timeout_ms = options->probe_timeout_ms,
        .reach_interval_ms = options->reach_interval_ms,
        .portal_allow = options->portal_allow,
        .initiator_addresses = options->initiator_addresses,
        .iscsi = options->iscsi,
        .iscsi_advertise = options->iscsi_advertise,
        .iscsi_connections = (unsigned)options->iscsi_connections,
        .iscsi_chap_algorithms = (unsigned)options->iscsi_chap,
        .own_addresses = own,
        .idempotency_keep_ms = options->idempotency_keep_ms,
        .job_keep_ms = options->job_keep_ms,
    };
    int err = control_start(&control, &daemon->control, error);
    if (err == 0) {
        snprintf(daemon->iscsi, sizeof(daemon->iscsi), "%s", exports_portal(daemon->control));
        snprintf(own, sizeof(daemon->own_addresses), "%s,%s", daemon->http, daemon->iscsi);
        control_set_own_addresses(daemon->control, own);
    }
    return err;
}

static int start_server(struct daemon *daemon, struct error *error)
{
    struct server_options server = {
        .control = daemon->control,
        .data_dir = daemon->dir.path,
        .listen_fd = daemon->http_fd,
        .token = daemon->dir.token,
        .host_names = daemon->options.http_hosts,
        .tls_certificate = daemon->tls_cert,
        .tls_key = daemon->tls_key,
        .tls_client_ca = daemon->tls_client_ca,
        .connections = connections(&daemon->options),
    };
    int err = listen_begin(daemon->http_fd, daemon->http, error);
    if (err == 0) {
        err = server_start(&server, &daemon->server, error);
    }
    if (err == 0) {
        daemon->http_fd = -1;
    }
    return err;
}

static int write_ready_file(const struct daemon *daemon, struct error *error)
{
    struct strbuf text = STRBUF_INIT;
    struct json_out json;
    if (daemon->options.ready_file[0] == '\0') {
        return 0;
    }
    json_out_init(&json, &text);
    out_begin_object(&json.out, NULL);
    out_text(&json.out, "http", daemon->http);
    out_text(&json.out, "iscsi", daemon->iscsi);
    out_text(&json.out, "auth_header_file", daemon->dir.auth_header_file);
    out_end_object(&json.out);
    strbuf_putc(&text, '\n');
    int err = strbuf_error(&text) == 0
                  ? file_replace(daemon->options.ready_file, strbuf_str(&text), text.len, error)
                  : error_set(error, ERR_NO_MEMORY, "There is not enough memory.");
    strbuf_fini(&text);
    return err;
}

static void remove_ready_file(const struct daemon *daemon)
{
    const char *path = daemon->options.ready_file;
    if (path[0] != '\0' && unlink(path) != 0 && errno != ENOENT) {
        log_warning("smirrord cannot remove %s: %s", path, strerror(errno));
    }
}

static int start(struct daemon *daemon, struct error *error)
{
    int err = datadir_open(daemon->options.data, &daemon->dir, error);
    if (err == 0) {
        /* One that a killed process has left tells of addresses that are no more. */
        remove_ready_file(daemon);
        err = listen_reserve(daemon->options.http, &daemon->http_fd, daemon->http, error);
    }
    if (err == 0) {
        err = read_tls(daemon, error);
    }
    if (err == 0) {
        err = start_control(daemon, error);
    }
    if (err == 0) {
        err = start_server(daemon, error);
    }
    if (err == 0) {
        log_info("smirrord %s: %s://%s, data in %s, token for curl -H @%s", SMIRROR_VERSION,
                 daemon->tls_cert != NULL ? "https" : "http", daemon->http, daemon->dir.path,
                 daemon->dir.auth_header_file);
        log_info("smirrord iSCSI: volumes served at %s, initiator %s", daemon->iscsi,
                 daemon->initiator_name);
        err = write_ready_file(daemon, error);
    }
    return err;
}

/* Also after a start that did not succeed: then some parts are not there. code: of the process. */
static void stop(struct daemon *daemon, int code)
{
    if (daemon->server != NULL) {
        remove_ready_file(daemon);
        server_quiesce(daemon->server);
    }
    bool hangs = daemon->control != NULL && control_stop(daemon->control) < 0;
    if (daemon->server != NULL) {
        server_stop(daemon->server);
    }
    if (hangs) {
        /* Records and answers are in order, and copies go on from their checkpoints; only their devices
         * do not let go of what control has, so it cannot be freed. The kernel unlocks the directory. */
        log_warning("smirrord ended in order, without waiting for LUNs that do not answer");
        _exit(code);
    }
    if (daemon->http_fd >= 0) {
        close(daemon->http_fd);
    }
    if (daemon->tls_key != NULL) {
        explicit_bzero(daemon->tls_key, strlen(daemon->tls_key));
    }
    free(daemon->tls_cert);
    free(daemon->tls_key);
    free(daemon->tls_client_ca);
    datadir_close(&daemon->dir);
}

int main(int argc, char **argv)
{
    struct daemon daemon = {.dir = {.lock_fd = -1}, .http_fd = -1};
    char message[OPTIONS_MESSAGE_SIZE];
    struct error error = {0};
    /* A file-size limit is answered like a full disk. */
    signal(SIGXFSZ, SIG_IGN);
    switch (options_parse(&daemon.options, argc, argv, getenv, message)) {
    case OPTIONS_HELP:
        options_print_help(stdout);
        return EXIT_ORDERLY;
    case OPTIONS_VERSION:
        puts("smirrord " SMIRROR_VERSION);
        return EXIT_ORDERLY;
    case OPTIONS_MARKDOWN:
        options_print_markdown(stdout);
        return EXIT_ORDERLY;
    case OPTIONS_WRONG:
        fprintf(stderr, "smirrord: %s\n", message);
        return EXIT_USAGE;
    case OPTIONS_RUN:
        break;
    }
    log_set_level(daemon.options.log_level);
    umask(077);
    raise_open_files();
    if (ending_begin() != 0) {
        log_error("smirrord cannot start a thread");
        return EXIT_NO_START;
    }
    int err = start(&daemon, &error);
    if (err != 0) {
        log_error("smirrord cannot start: %s", error.detail);
    } else {
        ending_wait();
    }
    int code = err == 0 ? EXIT_ORDERLY : EXIT_NO_START;
    stop(&daemon, code);
    if (err == 0) {
        log_info("smirrord ended in order");
    }
    options_fini(&daemon.options);
    return code;
}
