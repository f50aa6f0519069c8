// SPDX-License-Identifier: Apache-2.0
/*
 * The options: one table for command line, environment, configuration file, --help and the
 * documentation.
 *
 * Thread:    before threads start; constant afterwards.
 * Ownership: a struct options owns its texts; options_fini().
 * Errors:    one sentence that says where the value came from, what was wrong and what is allowed.
 *
 * What counts, from strong to weak: command line, environment (SMIRROR_…), configuration file,
 * default.
 */
#ifndef DAEMON_OPTIONS_H
#define DAEMON_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/log.h"

struct options {
    char *config;
    char *data;
    char *http;
    char *iscsi;
    char *iscsi_advertise; /* "": found out */
    uint64_t iscsi_connections;
    uint64_t iscsi_chap; /* set of TARGET_CHAP_… */
    char *ready_file;
    enum log_level log_level;
    char *system_name;
    char *initiator_name; /* "": made from the id in the data directory */
    char *tls_cert;
    char *tls_key;
    char *tls_client_ca;
    char *http_hosts;
    uint64_t http_connections;
    char *portal_allow;
    char *initiator_addresses;
    uint64_t data_loops; /* 0: one per core, at most 4 */
    uint64_t data_linger_us;
    char *pool_directories;
    uint64_t copies_at_once;
    uint64_t copy_bandwidth_limit; /* bytes a second; 0: none */
    uint64_t copy_give_up_ms;      /* 0: never */
    uint64_t probe_timeout_ms;
    uint64_t reach_interval_ms;
    uint64_t idempotency_keep_ms;
    uint64_t job_keep_ms;
};

enum options_verdict {
    OPTIONS_RUN,
    OPTIONS_HELP,
    OPTIONS_VERSION,
    OPTIONS_MARKDOWN,
    OPTIONS_WRONG, /* message says why */
};

enum { OPTIONS_MESSAGE_SIZE = 512 };

/* getenv() for the environment, or another function for tests. options is valid after OPTIONS_RUN
 * only. */
enum options_verdict options_parse(struct options *options, int argc, char **argv,
                                   char *(*env)(const char *name),
                                   char message[OPTIONS_MESSAGE_SIZE]);
void options_fini(struct options *options);

void options_print_help(FILE *out);
/* The table of docs/options.md. */
void options_print_markdown(FILE *out);

#endif
