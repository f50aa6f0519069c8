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
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/sockaddr.h"
#include "base/strbuf.h"
#include "daemon/option_table.h"

/* What was found for each row: the text, and where it came from. */
struct found {
    char *text;
    bool given; /* not the default */
    char source[128];
};

struct parse {
    struct found found[OPTION_ROWS];
    char *message;
};

static int row_find(const char *name, size_t len)
{
    for (int i = 0; i < OPTION_ROWS; i++) {
        if (strlen(option_rows[i].name) == len && memcmp(option_rows[i].name, name, len) == 0) {
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
    found->given = text != option_rows[row].fallback;
    free(found->text);
    found->text = strdup(text);
    CHECK(found->text != NULL);
    va_start(args, fmt);
    vsnprintf(found->source, sizeof(found->source), fmt, args);
    va_end(args);
}

/* ---- sources */

static void read_environment(struct parse *parse, char *(*env)(const char *name))
{
    for (int i = 0; i < OPTION_ROWS; i++) {
        char name[64] = "SMIRROR_";
        size_t len = strlen(name);
        for (const char *p = option_rows[i].name; *p != '\0'; p++) {
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
                     bool seen[OPTION_ROWS])
{
    line[strcspn(line, "\r\n")] = '\0';
    char *name = line + strspn(line, " \t");
    if (*name == '\0' || *name == '#') {
        return 0;
    }
    char *equals = strchr(name, '=');
    if (equals == NULL) {
        return option_wrong(parse->message, "%s:%u: `name = value` is wanted.", path, number);
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
    if (row < 0 || strcmp(option_rows[row].name, "config") == 0) {
        return option_wrong(parse->message,
                            "%s:%u: there is no option '%.*s' for a configuration file.", path,
                            number, (int)name_len, name);
    }
    if (seen[row]) {
        return option_wrong(parse->message, "%s:%u: '%s' is there twice.", path, number,
                            option_rows[row].name);
    }
    seen[row] = true;
    found_set(parse, row, value, "%.60s:%u: %s", path, number, option_rows[row].name);
    return 0;
}

static int read_file(struct parse *parse, const char *path)
{
    bool seen[OPTION_ROWS] = {false};
    char *line = NULL;
    size_t size = 0;
    unsigned number = 0;
    int err = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return option_wrong(parse->message, "The configuration file %s cannot be read: %s.", path,
                            strerror(errno));
    }
    while (err == 0 && getline(&line, &size, file) >= 0) {
        err = read_line(parse, path, ++number, line, seen);
    }
    if (err == 0 && ferror(file)) {
        err = option_wrong(parse->message, "The configuration file %s cannot be read: %s.", path,
                           strerror(errno));
    }
    free(line);
    fclose(file);
    return err;
}

/* Texts of the command line, one for each row; NULL: not given. */
struct command_line {
    const char *texts[OPTION_ROWS];
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
                return option_wrong(parse->message, "--%s wants a value: %s.",
                                    option_rows[row].name, option_rows[row].metavar);
            }
        }
        if (!is_word) {
            return option_wrong(parse->message, "There is no option '%.100s'; --help lists them.",
                                argv[i]);
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
    const struct found *found = &parse->found[row_find("data", strlen("data"))];
    if (found->given) {
        return option_wrong(parse->message,
                            "%s: the name of the data directory is empty; name one, or leave the "
                            "option out for $XDG_STATE_HOME/smirror or ~/.local/state/smirror.",
                            found->source);
    }
    const char *state = env("XDG_STATE_HOME");
    const char *home = env("HOME");
    if (state != NULL && state[0] == '/') {
        strbuf_printf(&path, "%s/smirror", state);
    } else if (home != NULL && home[0] == '/') {
        strbuf_printf(&path, "%s/.local/state/smirror", home);
    } else {
        return option_wrong(parse->message,
                            "There is no home directory; name the data directory with --data.");
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
    options->system_name = strdup(name);
    CHECK(options->system_name != NULL);
}

static int check_together(struct parse *parse, const struct options *options)
{
    struct sockaddr_storage http;
    bool cert = options->tls_cert[0] != '\0';
    if (cert != (options->tls_key[0] != '\0')) {
        return option_wrong(parse->message,
                            "--tls-cert and --tls-key belong together; --tls-%s is missing.",
                            cert ? "key" : "cert");
    }
    if (options->tls_client_ca[0] != '\0' && !cert) {
        return option_wrong(parse->message, "--tls-client-ca needs --tls-cert and --tls-key.");
    }
    sockaddr_parse(options->http, -1, &http);
    if (!cert && !sockaddr_is_loopback(&http)) {
        return option_wrong(
            parse->message,
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
    for (int i = 0; i < OPTION_ROWS; i++) {
        found_set(parse, i, option_rows[i].fallback, "the default of --%s", option_rows[i].name);
    }
    const char *path = line->texts[config] != NULL ? line->texts[config] : env("SMIRROR_CONFIG");
    if (path != NULL && path[0] != '\0') {
        err = read_file(parse, path);
    }
    read_environment(parse, env);
    for (int i = 0; i < OPTION_ROWS; i++) {
        if (line->texts[i] != NULL) {
            found_set(parse, i, line->texts[i], "--%s", option_rows[i].name);
        }
    }
    for (int i = 0; err == 0 && i < OPTION_ROWS; i++) {
        const struct found *found = &parse->found[i];
        err = option_set(&option_rows[i], found->text, found->source, options, parse->message);
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
    for (int i = 0; i < OPTION_ROWS; i++) {
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
    for (int i = 0; i < OPTION_ROWS; i++) {
        if (option_is_text(option_rows[i].type)) {
            char **member = (char **)((char *)options + option_rows[i].offset);
            free(*member);
            *member = NULL;
        }
    }
}
