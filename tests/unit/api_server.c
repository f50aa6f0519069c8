// SPDX-License-Identifier: Apache-2.0
/* The server over real sockets, with a control that waits when it is told to. */
#include "testing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#include "api/json_scan.h"
#include "api/request.h"
#include "api/server.h"
#include "api_fake.h"

#define TOKEN      "00112233445566778899aabbccddeeff"
#define AUTH       "Authorization: Bearer " TOKEN "\r\n"
#define JSON       AUTH "Content-Type: application/json\r\n"
#define EVERYTHING "/services/ReplicationService/Everything"

struct fixture {
    struct control *control;
    struct server *server;
    uint16_t port;
};

static void start_with(struct fixture *fixture, unsigned max_connections)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    struct error error = {0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    fixture->port = ntohs(addr.sin_port);
    fixture->control = fake_control_start();
    struct server_options options = {
        .control = fixture->control,
        .data_dir = "fake",
        .listen_fd = fd,
        .token = TOKEN,
        .connections = max_connections,
    };
    assert_int_equal(server_start(&options, &fixture->server, &error), 0);
}

static int setup(void **state)
{
    static struct fixture fixture;
    start_with(&fixture, 0);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    if (fixture->server != NULL) {
        server_quiesce(fixture->server);
        assert_int_equal(control_stop(fixture->control), 0);
        server_stop(fixture->server);
        fixture->server = NULL;
    }
    return 0;
}

static void pause_ms(long ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- a client */

struct http_answer {
    int status;
    char head[4096];
    char *body;
    size_t body_len;
};

static int dial(const struct fixture *fixture)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons(fixture->port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 20};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void send_all(int fd, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return; /* the server has had enough; its answer tells why */
        }
        at += n;
        len -= (size_t)n;
    }
}

static const char *header(const struct http_answer *answer, const char *name)
{
    static _Thread_local char value[1024];
    size_t len = strlen(name);
    for (const char *line = answer->head; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            line += len + 1;
            line += strspn(line, " ");
            snprintf(value, sizeof(value), "%.*s", (int)strcspn(line, "\r\n"), line);
            return value;
        }
    }
    return NULL;
}

/* Reads one answer; false when the connection ends before. */
static bool receive(int fd, bool head_only, struct http_answer *answer)
{
    size_t len = 0;
    *answer = (struct http_answer){0};
    while (len + 1 < sizeof(answer->head)) {
        ssize_t n = recv(fd, answer->head + len, 1, 0);
        if (n <= 0) {
            return false;
        }
        len++;
        if (len >= 4 && memcmp(answer->head + len - 4, "\r\n\r\n", 4) == 0) {
            break;
        }
    }
    assert_int_equal(sscanf(answer->head, "HTTP/1.1 %d", &answer->status), 1);
    if (answer->status == 100) {
        return receive(fd, head_only, answer);
    }
    const char *length = header(answer, "Content-Length");
    answer->body_len = length != NULL && !head_only ? strtoul(length, NULL, 10) : 0;
    answer->body = calloc(1, answer->body_len + 1);
    for (size_t got = 0; got < answer->body_len;) {
        ssize_t n = recv(fd, answer->body + got, answer->body_len - got, 0);
        if (n <= 0) {
            free(answer->body);
            answer->body = NULL;
            return false;
        }
        got += (size_t)n;
    }
    return true;
}

static void begin(int fd, const char *verb, const char *path, const char *headers, const char *body)
{
    struct strbuf text = STRBUF_INIT;
    strbuf_printf(&text, "%s %s HTTP/1.1\r\n%s%s", verb, path,
                  strstr(headers, "Host:") != NULL ? "" : "Host: localhost\r\n", headers);
    if (body != NULL) {
        strbuf_printf(&text, "Content-Length: %zu\r\n", strlen(body));
    }
    strbuf_printf(&text, "\r\n%s", body != NULL ? body : "");
    send_all(fd, text.data, text.len);
    strbuf_fini(&text);
}

static void call(const struct fixture *fixture, const char *verb, const char *path,
                 const char *headers, const char *body, struct http_answer *answer)
{
    int fd = dial(fixture);
    assert_true(fd >= 0);
    begin(fd, verb, path, headers, body);
    if (!receive(fd, strcmp(verb, "HEAD") == 0, answer)) {
        fail_msg("no answer to %s %s", verb, path);
    }
    close(fd);
}

/* What is common to all answers; the body of a problem is a problem. */
static void check_common(const struct http_answer *answer)
{
    assert_string_equal(header(answer, "Cache-Control"), "no-store");
    assert_string_equal(header(answer, "X-Content-Type-Options"), "nosniff");
    assert_null(header(answer, "Server"));
    if (answer->status >= 400 && answer->body_len > 0) {
        struct json_doc doc;
        struct error error = {0};
        assert_string_equal(header(answer, "Content-Type"), "application/problem+json");
        assert_int_equal(json_doc_parse(&doc, answer->body, answer->body_len, &error), 0);
        json_doc_free(&doc);
    }
}

static void expect(const struct fixture *fixture, const char *verb, const char *path,
                   const char *headers, const char *body, int status, const char *part)
{
    struct http_answer answer;
    call(fixture, verb, path, headers, body, &answer);
    if (answer.status != status || (part != NULL && strstr(answer.body, part) == NULL)) {
        fail_msg("%s %s: %d %s, not %d %s", verb, path, answer.status, answer.body, status,
                 part != NULL ? part : "");
    }
    check_common(&answer);
    free(answer.body);
}

static void wait_until_held(unsigned n)
{
    for (int i = 0; i < 5000 && fake_held() != n; i++) {
        pause_ms(1);
    }
    assert_int_equal(fake_held(), n);
}

/* ---- calls */

static void a_call_answers_its_result(void **state)
{
    struct fixture *fixture = *state;
    struct http_answer answer;
    call(fixture, "POST", EVERYTHING, JSON,
         "{\"Element\":\"/volumes/v1\",\"Large\":18446744073709551615}", &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body,
                        "{\"ReturnValue\":0,\"Size\":18446744073709551615,\"Job\":null}");
    assert_string_equal(header(&answer, "Content-Type"), "application/json");
    assert_null(header(&answer, "Location"));
    check_common(&answer);
    free(answer.body);

    call(fixture, "POST", EVERYTHING, JSON, "{\"Element\":\"/volumes/v1\",\"Flag\":true}", &answer);
    assert_int_equal(answer.status, 202);
    assert_string_equal(header(&answer, "Location"), "/jobs/j1");
    free(answer.body);

    expect(fixture, "POST", "/services/ReplicationService/InUse", JSON, "{}", 409,
           "\"detail\":\"The volume \\\"v\\\" is\\nin use.\",\"ReturnValue\":6,\"Code\":\"in_use\","
           "\"BlockedOn\":\"/jobs/j1\"");
    expect(fixture, "POST", "/services/ReplicationService/NotThere", JSON, "{\"Any\":[1]}", 501,
           "\"ReturnValue\":1,");
    assert_int_equal(fake_calls(), 2);
}

static void a_method_without_parameters_needs_no_body(void **state)
{
    struct fixture *fixture = *state;
    static const char path[] = "/services/ReplicationService/Nothing";
    expect(fixture, "POST", path, AUTH, NULL, 200, "{\"ReturnValue\":0,\"Job\":null}");
    expect(fixture, "POST", path, AUTH, "", 200, "{\"ReturnValue\":0,\"Job\":null}");
    expect(fixture, "POST", path, JSON, " {} ", 200, "{\"ReturnValue\":0,\"Job\":null}");
    expect(fixture, "POST", path, JSON, "{\"X\":1}", 400, "unknown_member");
    expect(fixture, "POST", "/jobs/j1/GetErrors", AUTH, NULL, 200,
           "{\"ReturnValue\":0,\"Job\":null}");
}

static void an_object_is_deleted(void **state)
{
    struct fixture *fixture = *state;
    struct http_answer answer;
    call(fixture, "DELETE", "/jobs/j1", AUTH, NULL, &answer);
    assert_int_equal(answer.status, 204);
    assert_null(header(&answer, "Content-Type"));
    check_common(&answer);
    free(answer.body);
    expect(fixture, "DELETE", "/jobs/j2", AUTH, NULL, 404, "\"Code\":\"not_found\"");
    expect(fixture, "DELETE", "/volumes/v1", AUTH, NULL, 405, NULL);
}

static void bad_bodies_are_refused_before_the_method(void **state)
{
    struct fixture *fixture = *state;
    expect(fixture, "POST", EVERYTHING, JSON, "{", 400, "\"Code\":\"bad_json\"");
    expect(fixture, "POST", EVERYTHING, JSON, "[]", 400, "\"Code\":\"bad_json\"");
    expect(fixture, "POST", EVERYTHING, JSON, "{\"Element\":\"/v\",\"X\":1}", 400,
           "\"Code\":\"unknown_member\",\"Parameter\":\"X\"");
    expect(fixture, "POST", EVERYTHING, JSON, "{\"Element\":\"/v\",\"Job\":\"/jobs/1\"}", 400,
           "\"Code\":\"out_parameter\",\"Parameter\":\"Job\"");
    expect(fixture, "POST", EVERYTHING, JSON, "{\"Element\":5}", 400,
           "\"ReturnValue\":5,\"Code\":\"wrong_type\",\"Parameter\":\"Element\"");
    expect(fixture, "POST", EVERYTHING, JSON, "{}", 400,
           "\"ReturnValue\":5,\"Code\":\"missing_parameter\",\"Parameter\":\"Element\"");
    assert_int_equal(fake_calls(), 0);
}

/* ---- checks in their order */

static void the_first_check_that_fails_answers(void **state)
{
    struct fixture *fixture = *state;
    static const char text[] = "Content-Type: text/plain\r\n";
    static const struct {
        const char *verb;
        const char *path;
        const char *headers;
        const char *body;
        int status;
        const char *code;
    } cases[] = {
        {"GET", "/nothing", "Host: evil.example\r\n", NULL, 403, "forbidden_host"},
        {"GET", "/healthz", "Host: evil.example\r\n", NULL, 403, "forbidden_host"},
        {"GET", "/healthz", "Origin: http://evil.example\r\n", NULL, 403, "forbidden_host"},
        {"GET", "/volumes", AUTH "Origin: null\r\n", NULL, 403, "forbidden_host"},
        {"GET", "/nothing", "", NULL, 401, "unauthorized"},
        {"GET", "/volumes/%zz", "", NULL, 401, "unauthorized"},
        {"PUT", "/volumes", "", NULL, 401, "unauthorized"},
        {"POST", EVERYTHING, "Authorization: Bearer wrong\r\n", "{}", 401, "unauthorized"},
        {"GET", "/metrics", "", NULL, 401, "unauthorized"},
        {"GET", "/nothing", AUTH, NULL, 404, "not_found"},
        {"PUT", "/nothing", AUTH, "x", 404, "not_found"},
        {"GET", "/volumes/%zz", AUTH, NULL, 400, "bad_request"},
        {"GET", EVERYTHING, AUTH, NULL, 405, "method_not_allowed"},
        {"POST", "/volumes", AUTH, "x", 405, "method_not_allowed"},
        {"OPTIONS", "/volumes", AUTH, NULL, 405, "method_not_allowed"},
        {"POST", EVERYTHING, AUTH, "{", 415, "unsupported_media_type"},
        {"POST", EVERYTHING, AUTH "Content-Type: text/plain\r\nIdempotency-Key: a b\r\n", "{", 415,
         "unsupported_media_type"},
        {"POST", EVERYTHING, JSON "Idempotency-Key: a b\r\n", "{", 400, "bad_request"},
        {"POST", EVERYTHING, JSON "Idempotency-Key:\r\n", "{}", 400, "bad_request"},
        {"POST", EVERYTHING, JSON AUTH, "{}", 400, "bad_request"},
        {"GET", "/volumes", AUTH "Host: localhost\r\nHost: localhost\r\n", NULL, 400, NULL},
    };
    (void)text;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char code[100];
        snprintf(code, sizeof(code), "\"Code\":\"%s\"", cases[i].code != NULL ? cases[i].code : "");
        struct http_answer answer;
        call(fixture, cases[i].verb, cases[i].path, cases[i].headers, cases[i].body, &answer);
        if (answer.status != cases[i].status ||
            (cases[i].code != NULL && strstr(answer.body, code) == NULL)) {
            fail_msg("case %zu, %s %s: %d %s", i, cases[i].verb, cases[i].path, answer.status,
                     answer.body);
        }
        if (answer.status == 401) {
            assert_string_equal(header(&answer, "WWW-Authenticate"), "Bearer");
        }
        if (answer.status == 405) {
            assert_non_null(header(&answer, "Allow"));
        }
        free(answer.body);
    }
    assert_int_equal(fake_calls(), 0);
}

static void allow_names_the_verbs(void **state)
{
    struct fixture *fixture = *state;
    struct http_answer answer;
    call(fixture, "PATCH", "/jobs/j1", AUTH, NULL, &answer);
    assert_int_equal(answer.status, 405);
    assert_string_equal(header(&answer, "Allow"), "GET, HEAD, DELETE");
    free(answer.body);
}

static void a_long_target_is_414(void **state)
{
    struct fixture *fixture = *state;
    char path[URI_LEN_MAX + 100];
    memset(path, 'x', sizeof(path));
    memcpy(path, "/volumes/", 9);
    path[sizeof(path) - 1] = '\0';
    expect(fixture, "GET", path, AUTH, NULL, 414, "uri_too_long");
}

/* Sends a body of that size, announced or in chunks, and reads the answer afterwards. */
static void send_size(const struct fixture *fixture, size_t size, bool chunked, const char *headers,
                      int status)
{
    static char block[65536];
    struct strbuf head = STRBUF_INIT;
    struct http_answer answer;
    int fd = dial(fixture);
    memset(block, ' ', sizeof(block));
    strbuf_printf(&head, "POST %s HTTP/1.1\r\nHost: localhost\r\n%s", EVERYTHING, headers);
    if (chunked) {
        strbuf_puts(&head, "Transfer-Encoding: chunked\r\n\r\n");
    } else {
        strbuf_printf(&head, "Content-Length: %zu\r\n\r\n", size);
    }
    send_all(fd, head.data, head.len);
    strbuf_fini(&head);
    for (size_t sent = 0; sent < size;) {
        size_t n = size - sent < sizeof(block) ? size - sent : sizeof(block);
        char line[32];
        if (chunked) {
            snprintf(line, sizeof(line), "%zx\r\n", n);
            send_all(fd, line, strlen(line));
        }
        send_all(fd, block, n);
        if (chunked) {
            send_all(fd, "\r\n", 2);
        }
        sent += n;
    }
    if (chunked) {
        send_all(fd, "0\r\n\r\n", 5);
    }
    if (!receive(fd, false, &answer)) {
        fail_msg("no answer to a body of %zu", size);
    }
    assert_int_equal(answer.status, status);
    check_common(&answer);
    free(answer.body);
    close(fd);
}

static void a_body_has_a_limit(void **state)
{
    struct fixture *fixture = *state;
    for (int chunked = 0; chunked < 2; chunked++) {
        /* Blanks only are no JSON, but they are looked at up to the limit. */
        send_size(fixture, REQUEST_BODY_MAX, chunked == 1, JSON, 400);
        send_size(fixture, REQUEST_BODY_MAX + 1, chunked == 1, JSON, 413);
        send_size(fixture, 8 << 20, chunked == 1, JSON, 413);
        /* Who fails earlier gets the earlier answer, after sending all of it. */
        send_size(fixture, 8 << 20, chunked == 1, "", 401);
    }
}

static void a_client_that_asks_first_is_told_at_once(void **state)
{
    struct fixture *fixture = *state;
    struct http_answer answer;
    int fd = dial(fixture);
    static const char text[] = "POST " EVERYTHING " HTTP/1.1\r\nHost: localhost\r\n" JSON
                               "Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n";
    send_all(fd, text, strlen(text));
    assert_true(receive(fd, false, &answer));
    assert_int_equal(answer.status, 413);
    free(answer.body);
    close(fd);

    fd = dial(fixture);
    static const char good[] = "POST " EVERYTHING " HTTP/1.1\r\nHost: localhost\r\n" JSON
                               "Expect: 100-continue\r\nContent-Length: 16\r\n\r\n";
    send_all(fd, good, strlen(good));
    send_all(fd, "{\"Element\":\"/v\"}", 16);
    assert_true(receive(fd, false, &answer));
    assert_int_equal(answer.status, 200);
    free(answer.body);
    close(fd);
}

static void a_connection_serves_many_requests(void **state)
{
    struct fixture *fixture = *state;
    int fd = dial(fixture);
    for (int i = 0; i < 50; i++) {
        struct http_answer answer;
        if (i % 3 == 0) {
            begin(fd, "POST", EVERYTHING, JSON, "{\"Element\":\"/v\"}");
        } else if (i % 3 == 1) {
            begin(fd, "GET", "/volumes/v1", AUTH, NULL);
        } else {
            begin(fd, "POST", EVERYTHING, JSON, "{\"Element\":");
        }
        assert_true(receive(fd, false, &answer));
        assert_int_equal(answer.status, i % 3 == 2 ? 400 : 200);
        free(answer.body);
    }
    close(fd);
}

/* ---- reads */

static void objects_and_lists_are_read(void **state)
{
    struct fixture *fixture = *state;
    expect(fixture, "GET", "/volumes/v1", AUTH, NULL, 200,
           "{\"self\":\"/volumes/v1\",\"ElementName\":\"a \\\"name\\\" with \\\\ and \xc3\xbc\"}");
    expect(fixture, "GET", "/volumes/v9", AUTH, NULL, 404, "not_found");
    expect(fixture, "GET", "/volumes/v1?x=1", AUTH, NULL, 400, "\"Parameter\":\"x\"");
    expect(fixture, "GET", "/volumes?limit=1", AUTH, NULL, 200, "\"Total\":250}");
    expect(fixture, "GET", "/volumes?Colour=1", AUTH, NULL, 400, "\"Parameter\":\"Colour\"");
    expect(fixture, "GET", "/groups", AUTH, NULL, 200, "{\"Members\":[],\"Total\":0}");
    expect(fixture, "GET", "/services/ReplicationService", AUTH, NULL, 200,
           "\"self\":\"/services/ReplicationService\"");
    static const char *const bad[] = {"limit=0",     "limit=1001", "limit=x",
                                      "limit=-1",    "limit=",     "limit=1e2",
                                      "cursor=x",    "cursor=",    "cursor=c",
                                      "cursor=cxyz", "cursor=cC8", "cursor=cffffffffffffffff"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char path[100];
        snprintf(path, sizeof(path), "/volumes?%s", bad[i]);
        expect(fixture, "GET", path, AUTH, NULL, 400, "\"Code\":\"bad_query\"");
    }
}

static void a_list_is_walked_page_by_page(void **state)
{
    struct fixture *fixture = *state;
    char path[300] = "/volumes?limit=60&ElementName=%C3%BC%20%26%20x";
    unsigned members = 0;
    unsigned pages = 0;
    for (;;) {
        struct http_answer answer;
        call(fixture, "GET", path, AUTH, NULL, &answer);
        assert_int_equal(answer.status, 200);
        pages++;
        for (const char *p = answer.body; (p = strstr(p, "\"self\"")) != NULL; p++) {
            members++;
        }
        free(answer.body);
        const char *link = header(&answer, "Link");
        if (link == NULL) {
            break;
        }
        assert_int_equal(sscanf(link, "<%299[^>]>; rel=\"next\"", path), 1);
        assert_non_null(strstr(path, "limit=60&cursor="));
        assert_non_null(strstr(path, "ElementName=%C3%BC%20%26%20x"));
    }
    assert_int_equal(members, FAKE_VOLUMES);
    assert_int_equal(pages, 5);
}

/* Two http threads with a cache each: a target is rendered twice at most. */
static void what_was_read_is_rendered_again_only_after_a_change(void **state)
{
    enum { THREADS = 2, TIMES = 12 };
    static const char *const targets[] = {"/volumes?limit=20", "/volumes/v1"};
    struct fixture *fixture = *state;
    for (size_t t = 0; t < 2; t++) {
        struct http_answer first;
        unsigned before = fake_views();
        call(fixture, "GET", targets[t], AUTH, NULL, &first);
        char *link = t == 0 ? strdup(header(&first, "Link")) : NULL;
        for (int i = 0; i < TIMES; i++) {
            struct http_answer again;
            call(fixture, "GET", targets[t], AUTH, NULL, &again);
            assert_string_equal(again.body, first.body);
            assert_string_equal(header(&again, "Content-Type"), "application/json");
            assert_true(link == NULL || strcmp(header(&again, "Link"), link) == 0);
            free(again.body);
        }
        assert_in_range(fake_views(), before + 1, before + THREADS);
        free(first.body);
        free(link);
    }
    for (int i = 0; i < TIMES; i++) {
        unsigned before = fake_views();
        fake_store_changes();
        expect(fixture, "GET", targets[0], AUTH, NULL, 200, "v20");
        assert_int_equal(fake_views(), before + 1);
    }
    /* Another page, another filter, another way to write the same. */
    unsigned before = fake_views();
    expect(fixture, "GET", "/volumes?limit=21", AUTH, NULL, 200, "v21");
    expect(fixture, "GET", "/volumes?limit=20&cursor=c14", AUTH, NULL, 200, "v40");
    expect(fixture, "GET", "/volumes?limit=20&ElementName=a%26b", AUTH, NULL, 200, "v20");
    expect(fixture, "GET", "/volumes?limit=20&ElementName=a", AUTH, NULL, 200, "v20");
    assert_int_equal(fake_views(), before + 4);
    expect(fixture, "GET", "/volumes?limit=20&ElementNam%65=a%26b", AUTH, NULL, 200, "v20");
    assert_in_range(fake_views(), before + 4, before + 5);
}

static void what_moves_is_rendered_each_time(void **state)
{
    struct fixture *fixture = *state;
    for (unsigned i = 0; i < 5; i++) {
        expect(fixture, "GET", "/jobs/j1", AUTH, NULL, 200, "\"JobState\":4");
        assert_int_equal(fake_views(), i + 1);
    }
    fake_job_end();
    expect(fixture, "GET", "/jobs/j1", AUTH, NULL, 200, "\"JobState\":7");
}

static void failures_are_not_kept(void **state)
{
    struct fixture *fixture = *state;
    fake_store_fails(true);
    expect(fixture, "GET", "/volumes?limit=20", AUTH, NULL, 500, "store_failed");
    fake_store_fails(false);
    expect(fixture, "GET", "/volumes?limit=20", AUTH, NULL, 200, "v20");
    expect(fixture, "GET", "/volumes/v9", AUTH, NULL, 404, "not_found");
    expect(fixture, "GET", "/volumes/v9", AUTH, NULL, 404, "not_found");
    fake_store_fails(true);
    expect(fixture, "GET", "/volumes?limit=20", AUTH, NULL, 500, "store_failed");
    expect(fixture, "GET", "/readyz", AUTH, NULL, 503, NULL);
}

static void head_is_like_get_without_the_body(void **state)
{
    struct fixture *fixture = *state;
    static const char *const paths[] = {"/volumes/v1", "/volumes", "/healthz", "/openapi.yaml"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct http_answer get;
        struct http_answer head;
        char length[40];
        call(fixture, "GET", paths[i], AUTH, NULL, &get);
        call(fixture, "HEAD", paths[i], AUTH, NULL, &head);
        assert_int_equal(head.status, 200);
        snprintf(length, sizeof(length), "%zu", get.body_len);
        assert_string_equal(header(&head, "Content-Length"), length);
        free(get.body);
        free(head.body);
    }
}

static void health_and_contract_need_no_token(void **state)
{
    struct fixture *fixture = *state;
    struct http_answer answer;
    expect(fixture, "GET", "/healthz", "", NULL, 200, "{\"Status\":\"ok\"}");
    expect(fixture, "GET", "/readyz", "", NULL, 200, "{\"Status\":\"ready\"}");
    expect(fixture, "GET", "/healthz?x", "", NULL, 400, "bad_query");
    call(fixture, "GET", "/openapi.yaml", AUTH, NULL, &answer);
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.body, "\nopenapi: 3.1.0\n"));
    assert_string_equal(header(&answer, "Content-Type"), "application/yaml; charset=utf-8");
    free(answer.body);
}

static void a_store_that_fails_is_told(void **state)
{
    struct fixture *fixture = *state;
    fake_store_fails(true);
    expect(fixture, "GET", "/healthz", "", NULL, 200, NULL);
    expect(fixture, "GET", "/readyz", "", NULL, 503, NULL);
    expect(fixture, "GET", "/volumes/v1", AUTH, NULL, 500, "\"Code\":\"store_failed\"");
    expect(fixture, "GET", "/volumes", AUTH, NULL, 500, "\"Code\":\"store_failed\"");
    fake_store_fails(false);
    expect(fixture, "GET", "/readyz", "", NULL, 200, NULL);
}

static void metrics_count_requests(void **state)
{
    struct fixture *fixture = *state;
    struct http_answer answer;
    expect(fixture, "GET", "/volumes/v1", AUTH, NULL, 200, NULL);
    expect(fixture, "GET", "/volumes/v9", AUTH, NULL, 404, NULL);
    expect(fixture, "GET", "/nothing", AUTH, NULL, 404, NULL);
    expect(fixture, "POST", "/services/ReplicationService/InUse", JSON, "{}", 409, NULL);
    pause_ms(50); /* a request is counted after its answer has left */
    call(fixture, "GET", "/metrics", AUTH, NULL, &answer);
    assert_int_equal(answer.status, 200);
    static const char *const lines[] = {
        "smirror_http_requests_total{route=\"/volumes/{id}\",status=\"200\"} 1\n",
        "smirror_http_requests_total{route=\"/volumes/{id}\",status=\"404\"} 1\n",
        "smirror_http_requests_total{route=\"none\",status=\"404\"} 1\n",
        "smirror_http_requests_total{route=\"/services/{service}/{Method}\",status=\"409\"} 1\n",
        "smirror_http_request_duration_seconds_bucket{route=\"/volumes/{id}\",le=\"+Inf\"} 2\n",
        "smirror_http_request_duration_seconds_count{route=\"/volumes/{id}\"} 2\n",
        "smirror_control_calls_total 7\n",
        "smirror_store_commit_seconds_total 1.5\n",
        "smirror_jobs{state=\"Running\"} 0\n",
        "smirror_http_requests_in_flight 1\n",
        "smirror_http_requests_waiting 0\n",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        if (strstr(answer.body, lines[i]) == NULL) {
            fail_msg("missing: %s in\n%s", lines[i], answer.body);
        }
    }
    free(answer.body);
}

/* ---- waiting */

static void a_wait_ends_with_the_job(void **state)
{
    struct fixture *fixture = *state;
    struct http_answer answer;
    int fd = dial(fixture);
    begin(fd, "GET", "/jobs/j1?wait=30s", AUTH, NULL);
    wait_until_held(1);
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&readable, 1, 50), 0);
    fake_job_end();
    assert_true(receive(fd, false, &answer));
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.body, "\"JobState\":7"));
    free(answer.body);
    close(fd);
    /* A job that has ended is not waited for. */
    expect(fixture, "GET", "/jobs/j1?wait=30s", AUTH, NULL, 200, "\"JobState\":7");
}

static void a_wait_ends_with_its_time(void **state)
{
    struct fixture *fixture = *state;
    static const char *const forms[] = {"200ms", "PT0.2S"};
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        char path[60];
        uint64_t begun = now_ms();
        snprintf(path, sizeof(path), "/jobs/j1?wait=%s", forms[i]);
        expect(fixture, "GET", path, AUTH, NULL, 200, "\"JobState\":4");
        assert_in_range(now_ms() - begun, 190, 5000);
    }
    expect(fixture, "GET", "/jobs/j1?wait=0s", AUTH, NULL, 200, "\"JobState\":4");
    expect(fixture, "GET", "/jobs/j9?wait=30s", AUTH, NULL, 404, NULL);
    expect(fixture, "GET", "/jobs/j1?wait=soon", AUTH, NULL, 400, "bad_query");
    expect(fixture, "GET", "/jobs?wait=1s", AUTH, NULL, 400, "bad_query");
    expect(fixture, "GET", "/volumes/v1?wait=1s", AUTH, NULL, 400, "bad_query");
}

static void reads_go_on_while_calls_wait(void **state)
{
    struct fixture *fixture = *state;
    enum { N = 100 };
    int fds[N];
    fake_control_hold(true);
    for (int i = 0; i < N; i++) {
        fds[i] = dial(fixture);
        begin(fds[i], "POST", EVERYTHING, JSON, "{\"Element\":\"/v\"}");
    }
    wait_until_held(N);
    expect(fixture, "GET", "/volumes/v1", AUTH, NULL, 200, NULL);
    fake_control_hold(false);
    for (int i = 0; i < N; i++) {
        struct http_answer answer;
        assert_true(receive(fds[i], false, &answer));
        assert_int_equal(answer.status, 200);
        free(answer.body);
        close(fds[i]);
    }
}

static void a_client_that_leaves_while_its_call_waits_does_no_harm(void **state)
{
    struct fixture *fixture = *state;
    fake_control_hold(true);
    for (int i = 0; i < 20; i++) {
        int fd = dial(fixture);
        begin(fd, "POST", EVERYTHING, JSON, "{\"Element\":\"/v\"}");
        wait_until_held((unsigned)i + 1);
        struct linger reset = {.l_onoff = 1};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        close(fd);
    }
    fake_control_hold(false);
    wait_until_held(0);
    expect(fixture, "GET", "/volumes/v1", AUTH, NULL, 200, NULL);
    pause_ms(50);
    expect(fixture, "GET", "/metrics", AUTH, NULL, 200, "smirror_http_requests_waiting 0\n");
    assert_int_equal(fake_calls(), 20);
}

static void too_many_waiting_calls_are_turned_away(void **state)
{
    struct fixture *fixture = *state;
    enum { WAITING = 16 * 3 / 4 };
    int fds[WAITING];
    struct http_answer answer;
    teardown(state);
    start_with(fixture, 16);
    fake_control_hold(true);
    for (int i = 0; i < WAITING; i++) {
        /* Each in its turn: a thread of the pool has room for 8 connections. */
        fds[i] = dial(fixture);
        begin(fds[i], "POST", EVERYTHING, JSON, "{\"Element\":\"/v\"}");
        for (int ms = 0; ms < 2000 && fake_held() < (unsigned)i + 1; ms++) {
            pause_ms(1);
        }
    }
    wait_until_held(WAITING);
    call(fixture, "POST", EVERYTHING, JSON, "{\"Element\":\"/v\"}", &answer);
    assert_int_equal(answer.status, 503);
    assert_non_null(strstr(answer.body, "\"Code\":\"overloaded\""));
    assert_string_equal(header(&answer, "Retry-After"), "1");
    free(answer.body);
    expect(fixture, "GET", "/volumes/v1", AUTH, NULL, 200, NULL);
    fake_control_hold(false);
    for (int i = 0; i < WAITING; i++) {
        assert_true(receive(fds[i], false, &answer));
        assert_int_equal(answer.status, 200);
        free(answer.body);
        close(fds[i]);
    }
}

/* ---- the end */

static void the_end_answers_what_waits(void **state)
{
    struct fixture *fixture = *state;
    enum { N = 40 };
    int fds[N];
    int idle = dial(fixture);
    int half = dial(fixture);
    send_all(half, "POST / HTTP/1.1\r\nHost", 21);
    begin(idle, "GET", "/volumes/v1", AUTH, NULL);
    struct http_answer answer;
    assert_true(receive(idle, false, &answer));
    free(answer.body);

    fake_control_hold(true);
    for (int i = 0; i < N; i++) {
        fds[i] = dial(fixture);
        if (i % 2 == 0) {
            begin(fds[i], "POST", EVERYTHING, JSON, "{\"Element\":\"/v\"}");
        } else {
            begin(fds[i], "GET", "/jobs/j1?wait=5m", AUTH, NULL);
        }
    }
    wait_until_held(N);
    uint64_t begun = now_ms();
    server_quiesce(fixture->server);
    /* Who comes now finds nobody. */
    int late = dial(fixture);
    if (late >= 0) {
        begin(late, "GET", "/healthz", "", NULL);
        assert_false(receive(late, false, &answer));
        close(late);
    }

    /* A connection that is there gets its answer, and nothing reaches control. */
    begin(idle, "GET", "/volumes/v1", AUTH, NULL);
    assert_true(receive(idle, false, &answer));
    assert_int_equal(answer.status, 503);
    assert_non_null(strstr(answer.body, "\"Code\":\"shutting_down\""));
    free(answer.body);
    begin(idle, "GET", "/readyz", "", NULL);
    assert_true(receive(idle, false, &answer));
    assert_int_equal(answer.status, 503);
    free(answer.body);
    begin(idle, "POST", EVERYTHING, JSON, "{\"Element\":\"/v\"}");
    assert_true(receive(idle, false, &answer));
    assert_int_equal(answer.status, 503);
    free(answer.body);
    begin(idle, "GET", "/healthz", "", NULL);
    assert_true(receive(idle, false, &answer));
    assert_int_equal(answer.status, 200);
    free(answer.body);

    assert_int_equal(control_stop(fixture->control), 0);
    server_stop(fixture->server);
    fixture->server = NULL;
    assert_true(now_ms() - begun < 3000);
    for (int i = 0; i < N; i++) {
        assert_true(receive(fds[i], false, &answer));
        assert_int_equal(answer.status, 503);
        assert_non_null(strstr(answer.body, "\"Code\":\"shutting_down\""));
        free(answer.body);
        close(fds[i]);
    }
    close(idle);
    close(half);
    assert_int_equal(fake_calls(), 0);
}

struct hammer {
    struct fixture *fixture;
    atomic_bool stop;
    atomic_uint answers;
};

static void *hammer_run(void *arg)
{
    struct hammer *hammer = arg;
    while (!hammer->stop) {
        int fd = dial(hammer->fixture);
        if (fd < 0) {
            break;
        }
        for (int i = 0; i < 5; i++) {
            struct http_answer answer;
            begin(fd, i % 2 == 0 ? "POST" : "GET", i % 2 == 0 ? EVERYTHING : "/jobs/j1?wait=10ms",
                  JSON, i % 2 == 0 ? "{\"Element\":\"/v\"}" : NULL);
            if (!receive(fd, false, &answer)) {
                break;
            }
            free(answer.body);
            hammer->answers++;
        }
        close(fd);
    }
    return NULL;
}

static void the_end_comes_in_the_middle_of_many_requests(void **state)
{
    struct fixture *fixture = *state;
    for (int round = 0; round < 10; round++) {
        struct hammer hammer = {.fixture = fixture};
        pthread_t threads[8];
        if (round > 0) {
            start_with(fixture, 0);
        }
        for (size_t i = 0; i < 8; i++) {
            pthread_create(&threads[i], NULL, hammer_run, &hammer);
        }
        pause_ms(20 + 7 * round);
        server_quiesce(fixture->server);
        assert_int_equal(control_stop(fixture->control), 0);
        server_stop(fixture->server);
        hammer.stop = true;
        for (size_t i = 0; i < 8; i++) {
            pthread_join(threads[i], NULL);
        }
        assert_true(hammer.answers > 0);
    }
    fixture->server = NULL;
}

/* ---- bad clients */

static void noise_on_the_wire_does_no_harm(void **state)
{
    struct fixture *fixture = *state;
    static const char *const noise[] = {
        "\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02",
        "GET  HTTP/1.1\r\n\r\n",
        "POST /volumes HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        "POST /volumes HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /volumes HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET /volumes HTTP/1.1\r\n\r\n",
        "GET /volumes HTTP/1.0\r\n\r\n",
        "GET /volumes HTTP/1.1\r\nHost: localhost\r\n:x\r\n\r\n",
        "GET http://evil.example/volumes HTTP/1.1\r\nHost: localhost\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof(noise) / sizeof(noise[0]); i++) {
        char buffer[512];
        struct timeval limit = {.tv_usec = 300000}; /* for an answer that need not come */
        int fd = dial(fixture);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        send_all(fd, noise[i], strlen(noise[i]));
        shutdown(fd, SHUT_WR);
        while (recv(fd, buffer, sizeof(buffer), 0) > 0) {
        }
        close(fd);
    }
    expect(fixture, "GET", "/volumes/v1", AUTH, NULL, 200, NULL);
    pause_ms(50);
    expect(fixture, "GET", "/metrics", AUTH, NULL, 200, "smirror_http_requests_in_flight 1\n");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_call_answers_its_result),
        TEST(a_method_without_parameters_needs_no_body),
        TEST(an_object_is_deleted),
        TEST(bad_bodies_are_refused_before_the_method),
        TEST(the_first_check_that_fails_answers),
        TEST(allow_names_the_verbs),
        TEST(a_long_target_is_414),
        TEST(a_body_has_a_limit),
        TEST(a_client_that_asks_first_is_told_at_once),
        TEST(a_connection_serves_many_requests),
        TEST(objects_and_lists_are_read),
        TEST(a_list_is_walked_page_by_page),
        TEST(what_was_read_is_rendered_again_only_after_a_change),
        TEST(what_moves_is_rendered_each_time),
        TEST(failures_are_not_kept),
        TEST(head_is_like_get_without_the_body),
        TEST(health_and_contract_need_no_token),
        TEST(a_store_that_fails_is_told),
        TEST(metrics_count_requests),
        TEST(a_wait_ends_with_the_job),
        TEST(a_wait_ends_with_its_time),
        TEST(reads_go_on_while_calls_wait),
        TEST(a_client_that_leaves_while_its_call_waits_does_no_harm),
        TEST(too_many_waiting_calls_are_turned_away),
        TEST(the_end_answers_what_waits),
        TEST(the_end_comes_in_the_middle_of_many_requests),
        TEST(noise_on_the_wire_does_no_harm),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
