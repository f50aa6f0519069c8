// SPDX-License-Identifier: Apache-2.0
/* The options, and what is printed of them. */
#include "daemon/option_table.h"

#include <ctype.h>
#include <string.h>

#include "base/check.h"
#include "base/strbuf.h"

#define AT(member) offsetof(struct options, member)
const struct option_row option_rows[OPTION_ROWS] = {
    {"config", TYPE_PATH, "FILE", "", "none", AT(config), 0, 0,
     "Configuration file: lines of `name = value`, with the names of these options; # begins a "
     "comment."},
    {"data", TYPE_PATH, "DIR", "", "$XDG_STATE_HOME/smirror, or ~/.local/state/smirror", AT(data),
     0, 0,
     "Directory of everything that lasts: records, token, identity. Made with mode 0700; one "
     "process at a time."},
    {"http", TYPE_ADDRESS, "ADDR:PORT", "127.0.0.1:8080", NULL, AT(http), 0, 0,
     "Where the HTTP API listens. Port 0: a free one. Another address than loopback needs "
     "--tls-cert and --tls-key."},
    {"iscsi", TYPE_ADDRESS, "ADDR:PORT", "127.0.0.1:3260", NULL, AT(iscsi), 0, 0,
     "Where volumes are served to initiators. Port 0: a free one. At another address than loopback "
     "a volume is served only once its target has initiators or CHAP."},
    {"iscsi-advertise", TYPE_ADDRESS, "ADDR:PORT", "",
     "the listening address; of every address (0.0.0.0, ::) the first of the host that others can "
     "dial",
     AT(iscsi_advertise), 0, 0,
     "The address of --iscsi that clients are told in the Url of volumes, when it is another one: "
     "behind "
     "NAT, a name of several addresses, a container. Port 0: that of --iscsi."},
    {"iscsi-connections", TYPE_COUNT, "N", "1024", NULL, AT(iscsi_connections), 1, 65536,
     "iSCSI connections at a time."},
    {"iscsi-chap", TYPE_CHAP, "NAMES", "sha3-256,sha256,sha1,md5", NULL, AT(iscsi_chap), 0, 0,
     "Algorithms that initiators may use for CHAP, separated by commas; of those that both sides "
     "know, the strongest. Many initiators know md5 only."},
    {"ready-file", TYPE_PATH, "FILE", "", "none", AT(ready_file), 0, 0,
     "File that is written when the service answers, with its addresses as JSON; it is removed at "
     "the end."},
    {"log-level", TYPE_LEVEL, "LEVEL", "info", NULL, AT(log_level), 0, 0,
     "error, warning, info or debug. The log goes to standard error."},
    {"system-name", TYPE_TEXT, "NAME", "", "the name of the host", AT(system_name), 0, 0,
     "ElementName of /systems/local."},
    {"initiator-name", TYPE_IQN, "IQN", "",
     "iqn.2026-11.io.smirror:initiator. and an id that is kept in the data directory",
     AT(initiator_name), 0, 0, "The iSCSI name with which smirror logs in to targets."},
    {"tls-cert", TYPE_PATH, "FILE", "", "none: plain HTTP", AT(tls_cert), 0, 0,
     "Certificate (chain) of the HTTP API, PEM."},
    {"tls-key", TYPE_PATH, "FILE", "", "none", AT(tls_key), 0, 0,
     "Private key of the certificate, PEM."},
    {"tls-client-ca", TYPE_PATH, "FILE", "", "none: clients need no certificate", AT(tls_client_ca),
     0, 0,
     "Clients have to show a certificate of an authority in this PEM file, besides the token."},
    {"http-hosts", TYPE_NAMES, "NAMES", "", "none", AT(http_hosts), 0, 0,
     "Further host names under which the API may be called, separated by commas. The listening "
     "address, loopback addresses and localhost are always allowed."},
    {"http-connections", TYPE_COUNT, "N", "2048", NULL, AT(http_connections), 16, 65536,
     "HTTP connections at a time."},
    {"portal-allow", TYPE_RANGES, "RANGES",
     "127.0.0.0/8, ::1/128, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, fc00::/7", NULL,
     AT(portal_allow), 0, 0,
     "Address ranges of the iSCSI portals that may be dialled, separated by commas. Link-local and "
     "metadata addresses and our own ports are always refused."},
    {"initiator-addresses", TYPE_TEXT, "ADDRESSES", "", "the system chooses", AT(initiator_addresses), 0, 0,
     "Addresses of this machine, separated by commas, that sessions of replication pipes may be dialled "
     "from: each becomes an endpoint."},
    {"data-loops", TYPE_COUNT, "N", "0", "0: one per core, at most 4", AT(data_loops), 0, 64,
     "Threads that move data."},
    {"data-linger", TYPE_COUNT, "MICROSECONDS", "300", "300; 0: never", AT(data_linger_us), 0, 10000,
     "While requests usually come within so long, a data loop looks for the next one instead of sleeping; waking takes longer. "
     "It yields to whoever wants the processor."},
    {"pool-directories", TYPE_TEXT, "PATHS", "", "the data directory only", AT(pool_directories), 0,
     0,
     "Directories, separated by colons, below which pools of files may be made besides the data "
     "directory."},
    {"copies-at-once", TYPE_COUNT, "N", "4", NULL, AT(copies_at_once), 1, 1024,
     "Copies that run at a time; others wait in their order."},
    {"copy-bandwidth-limit", TYPE_RATE, "BYTES", "0", "0: none", AT(copy_bandwidth_limit), 0, 0,
     "Limit of all copies together, in bytes a second; with the suffixes k, M, G, T: powers of "
     "1024."},
    {"copy-give-up", TYPE_DURATION, "TIME", "0", "0: never", AT(copy_give_up_ms), 0, UINT64_MAX,
     "How long a copy tries to reach a lost LUN again before it is Broken."},
    {"probe-timeout", TYPE_DURATION, "TIME", "10s", NULL, AT(probe_timeout_ms), 100, 600000,
     "How long a call waits for a portal that it asks."},
    {"reach-interval", TYPE_DURATION, "TIME", "10s", NULL, AT(reach_interval_ms), 1000, 86400000,
     "How often peers are asked whether they are there."},
    {"idempotency-keep", TYPE_DURATION, "TIME", "24h", NULL, AT(idempotency_keep_ms), 60000,
     31536000000, "How long the answer to a request with an Idempotency-Key is kept."},
    {"job-keep", TYPE_DURATION, "TIME", "5m", NULL, AT(job_keep_ms), 0, 31536000000,
     "TimeBeforeRemoval of new jobs: an ended job is there at least so long, and at least a week "
     "unless a client deletes it."},
};

static const char *said_default(const struct option_row *row)
{
    return row->fallback_said != NULL ? row->fallback_said : row->fallback;
}

/* Breaks text into lines that end before column 80. */
static void print_wrapped(FILE *out, const char *text)
{
    enum { INDENT = 6, WIDTH = 80 };
    int column = 0;
    while (*text != '\0') {
        int len = (int)strcspn(text, " ");
        if (column > 0 && column + 1 + len > WIDTH) {
            fputc('\n', out);
            column = 0;
        }
        column += fprintf(out, "%*s%.*s", column == 0 ? INDENT : 1, "", len, text);
        text += len;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

void options_print_help(FILE *out)
{
    fprintf(out, "smirrord: SMI-S storage configuration and replication of iSCSI LUNs over HTTP\n\n"
                 "usage: smirrord [--name VALUE | --name=VALUE]...\n\n"
                 "Every option can also be given in the environment (SMIRROR_ and its name in\n"
                 "capitals, _ for -) and in a configuration file. What counts, from strong to\n"
                 "weak: command line, environment, file, default.\n\n");
    for (int i = 0; i < OPTION_ROWS; i++) {
        struct strbuf text = STRBUF_INIT;
        fprintf(out, "  --%s %s\n", option_rows[i].name, option_rows[i].metavar);
        strbuf_printf(&text, "%s Default: %s.", option_rows[i].help, said_default(&option_rows[i]));
        print_wrapped(out, strbuf_str(&text));
        strbuf_fini(&text);
    }
    fprintf(out, "  --help, --version\n  --dump-options-markdown\n");
    fprintf(out, "\nexit codes:\n");
    print_wrapped(out, "0 ended in order, 1 could not start, 2 wrong usage, 3 ended the hard way "
                       "because the orderly end took more than 4.5 s.");
}

void options_print_markdown(FILE *out)
{
    fprintf(out, "| option | environment | default | meaning |\n|---|---|---|---|\n");
    for (int i = 0; i < OPTION_ROWS; i++) {
        fprintf(out, "| `--%s %s` | `SMIRROR_", option_rows[i].name, option_rows[i].metavar);
        for (const char *p = option_rows[i].name; *p != '\0'; p++) {
            fputc(*p == '-' ? '_' : toupper((unsigned char)*p), out);
        }
        fprintf(out, "` | %s | %s |\n", said_default(&option_rows[i]), option_rows[i].help);
    }
}
