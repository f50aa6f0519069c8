// SPDX-License-Identifier: Apache-2.0
#include "testing.h"

#include <stdio.h>
#include <string.h>

#include "daemon/options.h"

static const char *const *environment; /* name, value, …, NULL */

static char *fake_env(const char *name)
{
    for (const char *const *at = environment; at != NULL && *at != NULL; at += 2) {
        if (strcmp(at[0], name) == 0) {
            return (char *)at[1];
        }
    }
    return NULL;
}

static const char *const home[] = {"HOME", "/home/someone", NULL};

static enum options_verdict parse(struct options *options, char message[OPTIONS_MESSAGE_SIZE],
                                  const char *const *env, const char *const *args)
{
    char *argv[16] = {(char *)"smirrord"};
    int argc = 1;
    while (args[argc - 1] != NULL) {
        argv[argc] = (char *)args[argc - 1];
        argc++;
    }
    environment = env;
    return options_parse(options, argc, argv, fake_env, message);
}

#define ARGS(...)                                                                                  \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__ __VA_OPT__(, ) NULL                                                            \
    }

static void expect_wrong(const char *const *args, const char *part)
{
    struct options options;
    char message[OPTIONS_MESSAGE_SIZE];
    enum options_verdict verdict = parse(&options, message, home, args);
    if (verdict != OPTIONS_WRONG || strstr(message, part) == NULL) {
        fail_msg("%s %s: verdict %d, '%s' without '%s'", args[0], args[0] != NULL ? args[1] : "",
                 verdict, message, part);
    }
}

static char file_path[] = "/tmp/smirror-options-XXXXXX";

static void write_file(const char *text)
{
    FILE *file = fopen(file_path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int make_file(void **state)
{
    (void)state;
    strcpy(file_path + strlen(file_path) - 6, "XXXXXX");
    int fd = mkstemp(file_path);
    close(fd);
    return fd < 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(file_path);
}

static void defaults_need_nothing(void **state)
{
    struct options options;
    char message[OPTIONS_MESSAGE_SIZE];
    (void)state;
    assert_int_equal(parse(&options, message, home, ARGS()), OPTIONS_RUN);
    assert_string_equal(options.data, "/home/someone/.local/state/smirror");
    assert_string_equal(options.http, "127.0.0.1:8080");
    assert_string_equal(options.iscsi, "127.0.0.1:3260");
    assert_string_equal(options.ready_file, "");
    assert_true(options.system_name[0] != '\0');
    assert_int_equal(options.log_level, LOG_INFO);
    assert_int_equal(options.copies_at_once, 4);
    assert_int_equal(options.copy_give_up_ms, 0);
    assert_int_equal(options.probe_timeout_ms, 10000);
    assert_int_equal(options.idempotency_keep_ms, 24 * 3600 * 1000);
    assert_int_equal(options.job_keep_ms, 300000);
    assert_non_null(strstr(options.portal_allow, "192.168.0.0/16"));
    options_fini(&options);
}

static void state_directories_are_respected(void **state)
{
    static const char *const xdg[] = {"XDG_STATE_HOME", "/var/state", "HOME", "/home/x", NULL};
    static const char *const relative[] = {"XDG_STATE_HOME", "state", "HOME", "/home/x", NULL};
    static const char *const none[] = {NULL};
    struct options options;
    char message[OPTIONS_MESSAGE_SIZE];
    (void)state;
    assert_int_equal(parse(&options, message, xdg, ARGS()), OPTIONS_RUN);
    assert_string_equal(options.data, "/var/state/smirror");
    options_fini(&options);
    assert_int_equal(parse(&options, message, relative, ARGS()), OPTIONS_RUN);
    assert_string_equal(options.data, "/home/x/.local/state/smirror");
    options_fini(&options);
    assert_int_equal(parse(&options, message, none, ARGS()), OPTIONS_WRONG);
    assert_non_null(strstr(message, "--data"));
    assert_int_equal(parse(&options, message, none, ARGS("--data", "d")), OPTIONS_RUN);
    options_fini(&options);
}

static void the_stronger_source_counts(void **state)
{
    static const char *const env[] = {"HOME",
                                      "/h",
                                      "SMIRROR_CONFIG",
                                      file_path,
                                      "SMIRROR_HTTP",
                                      "127.0.0.1:2",
                                      "SMIRROR_LOG_LEVEL",
                                      "error",
                                      NULL};
    struct options options;
    char message[OPTIONS_MESSAGE_SIZE];
    (void)state;
    write_file("http = 127.0.0.1:1\nlog-level = debug\nsystem-name = from file\n");
    assert_int_equal(parse(&options, message, env, ARGS("--http", "127.0.0.1:3")), OPTIONS_RUN);
    assert_string_equal(options.http, "127.0.0.1:3");
    assert_int_equal(options.log_level, LOG_ERROR);
    assert_string_equal(options.system_name, "from file");
    assert_string_equal(options.iscsi, "127.0.0.1:3260");
    options_fini(&options);
    /* The last on the command line counts; a wrong value that is replaced does no harm. */
    assert_int_equal(parse(&options, message, env, ARGS("--http=nonsense", "--http=127.0.0.1:4")),
                     OPTIONS_RUN);
    assert_string_equal(options.http, "127.0.0.1:4");
    options_fini(&options);
}

static void a_configuration_file_is_read(void **state)
{
    struct options options;
    char message[OPTIONS_MESSAGE_SIZE];
    (void)state;
    write_file("# a comment\n\n  http=127.0.0.1:0  # another\n\tsystem-name =  a b#c  \r\n"
               "copy-bandwidth-limit = 50M\nready-file =\ncopy-give-up = 1h");
    assert_int_equal(parse(&options, message, home, ARGS("--config", file_path)), OPTIONS_RUN);
    assert_string_equal(options.http, "127.0.0.1:0");
    assert_string_equal(options.system_name, "a b#c");
    assert_int_equal(options.copy_bandwidth_limit, 50 << 20);
    assert_string_equal(options.ready_file, "");
    assert_int_equal(options.copy_give_up_ms, 3600000);
    options_fini(&options);

    static const struct {
        const char *text;
        const char *part;
    } wrong[] = {
        {"http", ":1: `name = value` is wanted"},
        {"\n\nhttpx = 1\n", ":3: there is no option 'httpx'"},
        {"config = x\n", "'config'"},
        {"http = 127.0.0.1:1\nhttp = 127.0.0.1:2\n", ":2: 'http' is there twice"},
        {"http = here\n", ":1: http: 'here' is not an address"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        write_file(wrong[i].text);
        expect_wrong(ARGS("--config", file_path), wrong[i].part);
    }
    expect_wrong(ARGS("--config", "/nowhere/at/all"), "/nowhere/at/all cannot be read");
}

static void wrong_values_are_told(void **state)
{
    static const struct {
        const char *name;
        const char *value;
        const char *part;
    } cases[] = {
        {"--http", "8080", "ADDR:PORT"},
        {"--http", "127.0.0.1", "ADDR:PORT"},
        {"--http", "host.example:80", "ADDR:PORT"},
        {"--http", "127.0.0.1:65536", "ADDR:PORT"},
        {"--iscsi", "", "ADDR:PORT"},
        {"--iscsi-advertise", "portal.example", "ADDR:PORT"},
        {"--iscsi-connections", "0", "from 1 to 65536"},
        {"--iscsi-chap", "", "at least one"},
        {"--iscsi-chap", "md4", "sha3-256, sha256, sha1, md5"},
        {"--iscsi-chap", "md5,,sha1", "sha3-256, sha256, sha1, md5"},
        {"--http", "0.0.0.0:8080", "--tls-cert"},
        {"--http", "192.0.2.1:8080", "--tls-cert"},
        {"--http", "[::]:8080", "--tls-cert"},
        {"--tls-cert", "cert.pem", "--tls-key is missing"},
        {"--tls-key", "key.pem", "--tls-cert is missing"},
        {"--tls-client-ca", "ca.pem", "needs --tls-cert"},
        {"--log-level", "loud", "error, warning, info, debug"},
        {"--portal-allow", "10.0.0.0/33", "10.0.0.0/8"},
        {"--portal-allow", "everything", "10.0.0.0/8"},
        {"--initiator-name", "initiator", "iqn."},
        {"--initiator-name", "iqn.2026-11.Example:x", "iqn."},
        {"--http-hosts", "http://x", "host names"},
        {"--copies-at-once", "0", "from 1 to 1024"},
        {"--copies-at-once", "many", "from 1 to 1024"},
        {"--copies-at-once", "4x", "from 1 to 1024"},
        {"--copies-at-once", "-1", "from 1 to 1024"},
        {"--copies-at-once", "99999999999999999999", "from 1 to 1024"},
        {"--copy-bandwidth-limit", "fast", "50M"},
        {"--copy-bandwidth-limit", "1X", "50M"},
        {"--copy-bandwidth-limit", "1MB", "50M"},
        {"--copy-bandwidth-limit", "99999999999T", "50M"},
        {"--probe-timeout", "10", "30s"},
        {"--probe-timeout", "1ms", "from PT0.1S"},
        {"--probe-timeout", "0", "from PT0.1S"},
        {"--job-keep", "forever", "30s"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        expect_wrong(ARGS(cases[i].name, cases[i].value), cases[i].part);
    }
    expect_wrong(ARGS("--nonsense", "x"), "no option '--nonsense'");
    expect_wrong(ARGS("--httpx=1"), "no option");
    expect_wrong(ARGS("http"), "no option 'http'");
    expect_wrong(ARGS("--"), "no option");
    expect_wrong(ARGS("--http"), "wants a value: ADDR:PORT");
}

static void good_values_are_taken(void **state)
{
    static const char *const cases[][2] = {
        {"--http", "[::1]:0"},
        {"--http", "localhost:8080"},
        {"--portal-allow", ""},
        {"--portal-allow", "10.1.2.3, fd00::/8"},
        {"--initiator-name", "iqn.2026-11.example:a.b-c:1"},
        {"--http-hosts", "storage.example, san"},
        {"--copy-bandwidth-limit", "1g"},
        {"--copy-give-up", "P1D"},
        {"--job-keep", "0"},
        {"--reach-interval", "PT1M"},
        {"--data-loops", "64"},
        {"--data-linger", "0"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct options options;
        char message[OPTIONS_MESSAGE_SIZE];
        if (parse(&options, message, home, ARGS(cases[i][0], cases[i][1])) != OPTIONS_RUN) {
            fail_msg("%s %s: %s", cases[i][0], cases[i][1], message);
        }
        options_fini(&options);
    }
    struct options options;
    char message[OPTIONS_MESSAGE_SIZE];
    assert_int_equal(parse(&options, message, home,
                           ARGS("--http", "0.0.0.0:1", "--tls-cert", "c", "--tls-key", "k")),
                     OPTIONS_RUN);
    options_fini(&options);
}

static void words_end_the_parsing(void **state)
{
    struct options options;
    char message[OPTIONS_MESSAGE_SIZE];
    (void)state;
    assert_int_equal(parse(&options, message, home, ARGS("--help")), OPTIONS_HELP);
    assert_int_equal(parse(&options, message, home, ARGS("--http", "x", "-h")), OPTIONS_HELP);
    assert_int_equal(parse(&options, message, home, ARGS("--version")), OPTIONS_VERSION);
    assert_int_equal(parse(&options, message, home, ARGS("--dump-options-markdown")),
                     OPTIONS_MARKDOWN);
}

/* Help and documentation name every option that the parser knows. */
static void the_table_is_printed_whole(void **state)
{
    static const char *const names[] = {"config",         "data",
                                        "http",           "iscsi",
                                        "ready-file",     "log-level",
                                        "system-name",    "initiator-name",
                                        "tls-cert",       "tls-key",
                                        "tls-client-ca",  "http-hosts",
                                        "portal-allow",   "data-loops",
                                        "copies-at-once", "copy-bandwidth-limit",
                                        "copy-give-up",   "probe-timeout",
                                        "reach-interval", "idempotency-keep",
                                        "job-keep",       "http-connections",
                                        "iscsi-advertise", "data-linger"};
    char *text[2];
    size_t len[2];
    (void)state;
    for (int i = 0; i < 2; i++) {
        FILE *out = open_memstream(&text[i], &len[i]);
        (i == 0 ? options_print_help : options_print_markdown)(out);
        fclose(out);
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char line[100];
        snprintf(line, sizeof(line), "\n  --%s ", names[i]);
        assert_non_null(strstr(text[0], line));
        snprintf(line, sizeof(line), "\n| `--%s ", names[i]);
        assert_non_null(strstr(text[1], line));
    }
    for (char *line = strtok(text[0], "\n"); line != NULL; line = strtok(NULL, "\n")) {
        assert_true(strlen(line) <= 80);
    }
    free(text[0]);
    free(text[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_need_nothing),
        cmocka_unit_test(state_directories_are_respected),
        cmocka_unit_test_setup_teardown(the_stronger_source_counts, make_file, remove_file),
        cmocka_unit_test_setup_teardown(a_configuration_file_is_read, make_file, remove_file),
        cmocka_unit_test(wrong_values_are_told),
        cmocka_unit_test(good_values_are_taken),
        cmocka_unit_test(words_end_the_parsing),
        cmocka_unit_test(the_table_is_printed_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
