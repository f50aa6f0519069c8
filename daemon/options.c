// SPDX-License-Identifier: Apache-2.0
/*
 * Each row of the table names an option once: its type says how a text becomes a value and what is
 * refused, and the row says where the value goes. Sources are read from weak to strong, each into
 * an array of texts; what is there last is parsed. So a wrong value that a stronger source replaces
 * does no harm.
 */
#include "daemon/options.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/check.h"
#include "base/sockaddr.h"
#include "base/strbuf.h"
#include "base/timefmt.h"

enum option_type {
    TYPE_TEXT,
    TYPE_PATH,
    TYPE_ADDRESS,
    TYPE_NAMES,
    TYPE_RANGES,
    TYPE_IQN,
    TYPE_LEVEL,
    TYPE_COUNT,
    TYPE_RATE,
    TYPE_DURATION,
};

struct option_row {
    const char *name;
    enum option_type type;
    const char *metavar;
    const char *fallback;      /* the default, as text */
    const char *fallback_said; /* instead, for people */
    size_t offset;
    uint64_t min, max; /* COUNT; DURATION in ms */
    const char *help;
};

#define AT(member) offsetof(struct options, member)
static const struct option_row rows[] = {
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
     "Where the iSCSI target will listen. Port 0: a free one. The address is reserved, but not "
     "served yet."},
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
    {"data-loops", TYPE_COUNT, "N", "0", "0: one per core, at most 4", AT(data_loops), 0, 64,
     "Threads that move data."},
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
     "TimeBeforeRemoval of new jobs: an ended job is there at least so long, and at least a week unless a client deletes it."},
};
enum { N_ROWS = ARRAY_LEN(rows) };

/* What was found for each row: the text, and where it came from. */
struct found {
    char *text;
    char source[128];
};

struct parse {
    struct found found[N_ROWS];
    char *message;
};

static int __attribute__((format(printf, 2, 3))) wrong(struct parse *parse, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(parse->message, OPTIONS_MESSAGE_SIZE, fmt, args);
    va_end(args);
    return -EINVAL;
}

static char *copy_text(const char *text, size_t len)
{
    char *copy = strndup(text, len);
    CHECK(copy != NULL);
    return copy;
}

static int row_find(const char *name, size_t len)
{
    for (int i = 0; i < N_ROWS; i++) {
        if (strlen(rows[i].name) == len && memcmp(rows[i].name, name, len) == 0) {
            return i;
        }
    }
    return -1;
}

static void __attribute__((format(printf, 4, 5)))
found_set(struct parse *parse, int row, const char *text, const char *fmt, ...)
{
    struct found *found = &parse->found[row];
    va_list args;
    free(found->text);
    found->text = copy_text(text, strlen(text));
    va_start(args, fmt);
    vsnprintf(found->source, sizeof(found->source), fmt, args);
    va_end(args);
}

/* ---- values */

static bool is_iqn(const char *text)
{
    size_t len = strlen(text);
    if (len > 223 || (strncmp(text, "iqn.", 4) != 0 && strncmp(text, "eui.", 4) != 0 &&
                      strncmp(text, "naa.", 4) != 0)) {
        return false;
    }
    for (const char *p = text; *p != '\0'; p++) {
        if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) &&
            strchr(".:-", *p) == NULL) {
            return false;
        }
    }
    return len > 4;
}

static bool is_names(const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && strchr(".-_, \t", *p) == NULL) {
            return false;
        }
    }
    return true;
}

static bool parse_count(const char *text, uint64_t *ret_number, const char **ret_rest)
{
    char *rest;
    if (!isdigit((unsigned char)*text)) {
        return false;
    }
    errno = 0;
    unsigned long long number = strtoull(text, &rest, 10);
    *ret_number = number;
    *ret_rest = rest;
    return errno == 0;
}

static bool parse_rate(const char *text, uint64_t *ret_rate)
{
    static const char suffixes[] = "kmgt";
    const char *rest;
    if (!parse_count(text, ret_rate, &rest)) {
        return false;
    }
    if (*rest == '\0') {
        return true;
    }
    const char *suffix = strchr(suffixes, tolower((unsigned char)*rest));
    if (suffix == NULL || rest[1] != '\0') {
        return false;
    }
    unsigned shift = 10 * (unsigned)(suffix - suffixes + 1);
    if (*ret_rate > UINT64_MAX >> shift) {
        return false;
    }
    *ret_rate <<= shift;
    return true;
}

static bool parse_duration(const char *text, uint64_t *ret_ms)
{
    if (strcmp(text, "0") == 0) {
        *ret_ms = 0;
        return true;
    }
    return timefmt_parse_duration(text, ret_ms) == 0;
}

static int set_text(struct parse *parse, const struct option_row *row, const struct found *found,
                    char **member)
{
    struct sockaddr_storage addr;
    struct cidr_list ranges;
    const char *text = found->text;
    /* An empty text is the default of most: nothing. */
    bool given = text[0] != '\0';
    switch (row->type) {
    case TYPE_ADDRESS:
        if (sockaddr_parse(text, -1, &addr) != 0) {
            return wrong(parse,
                         "%s: '%s' is not an address; ADDR:PORT is wanted, like 127.0.0.1:8080 or "
                         "[::1]:8080.",
                         found->source, text);
        }
        break;
    case TYPE_NAMES:
        if (!is_names(text)) {
            return wrong(parse, "%s: host names separated by commas are wanted, without ports.",
                         found->source);
        }
        break;
    case TYPE_RANGES:
        if (cidr_list_parse(text, &ranges) != 0) {
            return wrong(parse,
                         "%s: address ranges separated by commas are wanted, like 10.0.0.0/8.",
                         found->source);
        }
        cidr_list_fini(&ranges);
        break;
    case TYPE_IQN:
        if (given && !is_iqn(text)) {
            return wrong(parse,
                         "%s: '%.100s' is not an iSCSI name; iqn.YYYY-MM.DOMAIN:NAME is wanted, in "
                         "small letters.",
                         found->source, text);
        }
        break;
    default:
        break;
    }
    *member = copy_text(text, strlen(text));
    return 0;
}

static int set_number(struct parse *parse, const struct option_row *row, const struct found *found,
                      uint64_t *member)
{
    const char *rest = "";
    uint64_t number = 0;
    if (row->type == TYPE_RATE) {
        if (!parse_rate(found->text, &number)) {
            return wrong(parse,
                         "%s: '%.60s' is not a number of bytes; like 52428800 or 50M is wanted.",
                         found->source, found->text);
        }
    } else if (row->type == TYPE_DURATION) {
        if (!parse_duration(found->text, &number)) {
            return wrong(parse, "%s: '%.60s' is not a duration; like 500ms, 30s, 5m, 2h is wanted.",
                         found->source, found->text);
        }
        if (number < row->min || number > row->max) {
            char low[TIMEFMT_SIZE];
            char high[TIMEFMT_SIZE];
            timefmt_duration(row->min, low);
            timefmt_duration(row->max, high);
            return wrong(parse, "%s: the duration has to be from %s to %s.", found->source, low,
                         high);
        }
    } else if (!parse_count(found->text, &number, &rest) || *rest != '\0' || number < row->min ||
               number > row->max) {
        return wrong(parse, "%s: '%.60s' is not a number from %" PRIu64 " to %" PRIu64 ".",
                     found->source, found->text, row->min, row->max);
    }
    *member = number;
    return 0;
}

static int set_value(struct parse *parse, const struct option_row *row, const struct found *found,
                     struct options *options)
{
    void *member = (char *)options + row->offset;
    switch (row->type) {
    case TYPE_COUNT:
    case TYPE_RATE:
    case TYPE_DURATION:
        return set_number(parse, row, found, member);
    case TYPE_LEVEL:
        if (log_level_parse(found->text, member) != 0) {
            return wrong(parse, "%s: '%.60s' is not one of error, warning, info, debug.",
                         found->source, found->text);
        }
        return 0;
    default:
        return set_text(parse, row, found, member);
    }
}

/* ---- sources */

static void read_environment(struct parse *parse, char *(*env)(const char *name))
{
    for (int i = 0; i < N_ROWS; i++) {
        char name[64] = "SMIRROR_";
        size_t len = strlen(name);
        for (const char *p = rows[i].name; *p != '\0'; p++) {
            name[len++] = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
        }
        name[len] = '\0';
        const char *value = env(name);
        if (value != NULL) {
            found_set(parse, i, value, "%s in the environment", name);
        }
    }
}

static int read_line(struct parse *parse, const char *path, unsigned number, char *line,
                     bool seen[N_ROWS])
{
    line[strcspn(line, "\r\n")] = '\0';
    char *name = line + strspn(line, " \t");
    if (*name == '\0' || *name == '#') {
        return 0;
    }
    char *equals = strchr(name, '=');
    if (equals == NULL) {
        return wrong(parse, "%s:%u: `name = value` is wanted.", path, number);
    }
    size_t name_len = (size_t)(equals - name);
    while (name_len > 0 && (name[name_len - 1] == ' ' || name[name_len - 1] == '\t')) {
        name_len--;
    }
    char *value = equals + 1 + strspn(equals + 1, " \t");
    /* A comment begins after a blank: '#' may be part of a value. */
    for (char *p = value; *p != '\0'; p++) {
        if (*p == '#' && (p == value || p[-1] == ' ' || p[-1] == '\t')) {
            *p = '\0';
            break;
        }
    }
    size_t len = strlen(value);
    while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t')) {
        value[--len] = '\0';
    }
    int row = row_find(name, name_len);
    if (row < 0 || strcmp(rows[row].name, "config") == 0) {
        return wrong(parse, "%s:%u: there is no option '%.*s' for a configuration file.", path,
                     number, (int)name_len, name);
    }
    if (seen[row]) {
        return wrong(parse, "%s:%u: '%s' is there twice.", path, number, rows[row].name);
    }
    seen[row] = true;
    found_set(parse, row, value, "%.60s:%u: %s", path, number, rows[row].name);
    return 0;
}

static int read_file(struct parse *parse, const char *path)
{
    bool seen[N_ROWS] = {false};
    char *line = NULL;
    size_t size = 0;
    unsigned number = 0;
    int err = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return wrong(parse, "The configuration file %s cannot be read: %s.", path, strerror(errno));
    }
    while (err == 0 && getline(&line, &size, file) >= 0) {
        err = read_line(parse, path, ++number, line, seen);
    }
    if (err == 0 && ferror(file)) {
        err = wrong(parse, "The configuration file %s cannot be read: %s.", path, strerror(errno));
    }
    free(line);
    fclose(file);
    return err;
}

/* Texts of the command line, one for each row; NULL: not given. */
struct command_line {
    const char *texts[N_ROWS];
    enum options_verdict verdict;
};

static int read_command_line(struct parse *parse, int argc, char **argv,
                             struct command_line *ret_line)
{
    static const struct {
        const char *name;
        enum options_verdict verdict;
    } words[] = {{"--help", OPTIONS_HELP},
                 {"-h", OPTIONS_HELP},
                 {"--version", OPTIONS_VERSION},
                 {"-V", OPTIONS_VERSION},
                 {"--dump-options-markdown", OPTIONS_MARKDOWN}};
    for (int i = 1; i < argc; i++) {
        bool is_word = false;
        for (size_t j = 0; j < ARRAY_LEN(words); j++) {
            if (strcmp(argv[i], words[j].name) == 0) {
                ret_line->verdict = words[j].verdict;
                return 0;
            }
        }
        if (strncmp(argv[i], "--", 2) == 0) {
            const char *name = argv[i] + 2;
            size_t len = strcspn(name, "=");
            int row = row_find(name, len);
            is_word = row >= 0;
            if (is_word && name[len] == '=') {
                ret_line->texts[row] = name + len + 1;
            } else if (is_word && i + 1 < argc) {
                ret_line->texts[row] = argv[++i];
            } else if (is_word) {
                return wrong(parse, "--%s wants a value: %s.", rows[row].name, rows[row].metavar);
            }
        }
        if (!is_word) {
            return wrong(parse, "There is no option '%.100s'; --help lists them.", argv[i]);
        }
    }
    ret_line->verdict = OPTIONS_RUN;
    return 0;
}

/* ---- defaults that depend on the host */

static int default_data(struct parse *parse, struct options *options,
                        char *(*env)(const char *name))
{
    struct strbuf path = STRBUF_INIT;
    const char *state = env("XDG_STATE_HOME");
    const char *home = env("HOME");
    if (state != NULL && state[0] == '/') {
        strbuf_printf(&path, "%s/smirror", state);
    } else if (home != NULL && home[0] == '/') {
        strbuf_printf(&path, "%s/.local/state/smirror", home);
    } else {
        return wrong(parse, "There is no home directory; name the data directory with --data.");
    }
    free(options->data);
    options->data = strbuf_steal(&path);
    CHECK(options->data != NULL);
    return 0;
}

static void default_system_name(struct options *options)
{
    char name[HOST_NAME_MAX + 1] = "";
    if (gethostname(name, sizeof(name)) != 0 || name[0] == '\0') {
        snprintf(name, sizeof(name), "smirror");
    }
    name[sizeof(name) - 1] = '\0';
    free(options->system_name);
    options->system_name = copy_text(name, strlen(name));
}

static int check_together(struct parse *parse, const struct options *options)
{
    struct sockaddr_storage http;
    bool cert = options->tls_cert[0] != '\0';
    if (cert != (options->tls_key[0] != '\0')) {
        return wrong(parse, "--tls-cert and --tls-key belong together; --tls-%s is missing.",
                     cert ? "key" : "cert");
    }
    if (options->tls_client_ca[0] != '\0' && !cert) {
        return wrong(parse, "--tls-client-ca needs --tls-cert and --tls-key.");
    }
    sockaddr_parse(options->http, -1, &http);
    if (!cert && !sockaddr_is_loopback(&http)) {
        return wrong(
            parse,
            "--http %s is not a loopback address: the token would cross the network in clear. Give "
            "--tls-cert and --tls-key, or listen on 127.0.0.1.",
            options->http);
    }
    return 0;
}

/* ---- all of it */

static int parse_all(struct parse *parse, const struct command_line *line,
                     char *(*env)(const char *name), struct options *options)
{
    int config = row_find("config", strlen("config"));
    int err = 0;
    for (int i = 0; i < N_ROWS; i++) {
        found_set(parse, i, rows[i].fallback, "the default of --%s", rows[i].name);
    }
    const char *path = line->texts[config] != NULL ? line->texts[config] : env("SMIRROR_CONFIG");
    if (path != NULL && path[0] != '\0') {
        err = read_file(parse, path);
    }
    read_environment(parse, env);
    for (int i = 0; i < N_ROWS; i++) {
        if (line->texts[i] != NULL) {
            found_set(parse, i, line->texts[i], "--%s", rows[i].name);
        }
    }
    for (int i = 0; err == 0 && i < N_ROWS; i++) {
        err = set_value(parse, &rows[i], &parse->found[i], options);
    }
    if (err == 0 && options->data[0] == '\0') {
        err = default_data(parse, options, env);
    }
    if (err == 0 && options->system_name[0] == '\0') {
        default_system_name(options);
    }
    return err != 0 ? err : check_together(parse, options);
}

enum options_verdict options_parse(struct options *options, int argc, char **argv,
                                   char *(*env)(const char *name),
                                   char message[OPTIONS_MESSAGE_SIZE])
{
    struct parse parse = {.message = message};
    struct command_line line = {.verdict = OPTIONS_WRONG};
    *options = (struct options){0};
    message[0] = '\0';
    int err = read_command_line(&parse, argc, argv, &line);
    if (err != 0 || line.verdict != OPTIONS_RUN) {
        return line.verdict;
    }
    err = parse_all(&parse, &line, env, options);
    for (int i = 0; i < N_ROWS; i++) {
        free(parse.found[i].text);
    }
    if (err != 0) {
        options_fini(options);
        return OPTIONS_WRONG;
    }
    return OPTIONS_RUN;
}

void options_fini(struct options *options)
{
    for (int i = 0; i < N_ROWS; i++) {
        switch (rows[i].type) {
        case TYPE_LEVEL:
        case TYPE_COUNT:
        case TYPE_RATE:
        case TYPE_DURATION:
            break;
        default: {
            char **member = (char **)((char *)options + rows[i].offset);
            free(*member);
            *member = NULL;
        }
        }
    }
}

/* ---- for people */

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
    for (int i = 0; i < N_ROWS; i++) {
        struct strbuf text = STRBUF_INIT;
        fprintf(out, "  --%s %s\n", rows[i].name, rows[i].metavar);
        strbuf_printf(&text, "%s Default: %s.", rows[i].help, said_default(&rows[i]));
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
    for (int i = 0; i < N_ROWS; i++) {
        fprintf(out, "| `--%s %s` | `SMIRROR_", rows[i].name, rows[i].metavar);
        for (const char *p = rows[i].name; *p != '\0'; p++) {
            fputc(*p == '-' ? '_' : toupper((unsigned char)*p), out);
        }
        fprintf(out, "` | %s | %s |\n", said_default(&rows[i]), rows[i].help);
    }
}
