// SPDX-License-Identifier: Apache-2.0
/* Streams of events: the log by itself, then over real sockets with changes that come as fast as a test likes. */
#include "testing.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "api/event_log.h"
#include "api/server.h"
#include "api_fake.h"

#define TOKEN "00112233445566778899aabbccddeeff"

/* ---- the log */

static struct object_change change_of(const char *id, enum change_kind kind)
{
    struct object_change change = {.collection = COLLECTION_VOLUMES, .kind = kind};
    snprintf(change.id, sizeof(change.id), "%s", id);
    return change;
}

static void add(struct event_log *log, const char *id, enum change_kind kind)
{
    struct object_change change = change_of(id, kind);
    event_log_add(log, &change, false);
}

static void render(struct event_log *log, uint64_t number, size_t size)
{
    struct strbuf text = STRBUF_INIT;
    for (size_t i = 0; i < size; i++) {
        strbuf_putc(&text, 'x');
    }
    event_log_render(log, number, size > 0 ? rendered_new(&text, "") : NULL);
    strbuf_fini(&text);
}

static void test_changes_that_nobody_was_told_of_are_one(void **state)
{
    struct event_log log;
    (void)state;
    assert_int_equal(event_log_init(&log, 16, 1000), 0);
    add(&log, "a", CHANGE_CREATED);
    add(&log, "a", CHANGE_CHANGED);
    add(&log, "b", CHANGE_CHANGED);
    add(&log, "a", CHANGE_CHANGED);
    assert_int_equal(log.end, 2);
    add(&log, "a", CHANGE_DELETED);
    add(&log, "a", CHANGE_DELETED);
    assert_int_equal(log.end, 4);
    /* Somebody stands at the end: what comes is behind it. */
    assert_int_equal(event_log_seal(&log), 4);
    add(&log, "b", CHANGE_CHANGED);
    assert_int_equal(log.end, 5);
    add(&log, "b", CHANGE_CHANGED);
    assert_int_equal(log.end, 5);
    for (uint64_t number = 1; number <= 5; number++) {
        render(&log, number, 10);
    }
    add(&log, "b", CHANGE_CHANGED);
    assert_int_equal(log.end, 6);
    event_log_fini(&log);
}

static void test_the_log_keeps_no_more_than_it_may(void **state)
{
    struct event_log log;
    char id[16];
    (void)state;
    assert_int_equal(event_log_init(&log, 16, 1000), 0);
    for (unsigned i = 1; i <= 40; i++) {
        snprintf(id, sizeof(id), "%u", i);
        add(&log, id, CHANGE_CREATED);
    }
    assert_int_equal(log.first, 25);
    assert_int_equal(log.rendered, 24);
    assert_int_equal(map_count(&log.pending), 16);
    assert_null(event_log_at(&log, 24));
    assert_string_equal(event_log_at(&log, 25)->change.id, "25");
    render(&log, 7, 10); /* forgotten while it was made */
    for (uint64_t number = 25; number <= 40; number++) {
        render(&log, number, 300);
    }
    assert_int_equal(log.first, 38);
    assert_int_equal(log.bytes, 900);
    add(&log, "41", CHANGE_CREATED);
    render(&log, 41, 5000); /* too large for all of it */
    assert_int_equal(log.first, 42);
    assert_int_equal(log.bytes, 0);
    add(&log, "42", CHANGE_CREATED);
    event_log_lose(&log);
    assert_int_equal(log.first, 44);
    assert_int_equal(log.rendered, 43);
    assert_int_equal(map_count(&log.pending), 0);
    event_log_fini(&log);
}

static void test_filters(void **state)
{
    struct object_change a = change_of("a", CHANGE_CHANGED);
    struct event_filter filter = {0};
    (void)state;
    assert_true(event_filter_wants(&filter, &a));
    filter.collections = 1u << COLLECTION_JOBS;
    assert_false(event_filter_wants(&filter, &a));
    filter.collections |= 1u << COLLECTION_VOLUMES;
    assert_true(event_filter_wants(&filter, &a));
    filter.paths[0].collection = COLLECTION_JOBS;
    filter.n_paths = 1;
    assert_false(event_filter_wants(&filter, &a));
    filter.paths[1].collection = COLLECTION_VOLUMES;
    strcpy(filter.paths[1].id, "b");
    filter.n_paths = 2;
    assert_false(event_filter_wants(&filter, &a));
    strcpy(filter.paths[1].id, "a");
    assert_true(event_filter_wants(&filter, &a));
}

/* ---- streams */

struct fixture {
    struct control *control;
    struct server *server;
    uint16_t port;
};

static int setup(void **state)
{
    static struct fixture fixture;
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    struct error error = {0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    fixture.port = ntohs(addr.sin_port);
    fixture.control = fake_control_start();
    fake_job_copies(0);
    struct server_options options = {
        .control = fixture.control,
        .data_dir = "fake",
        .listen_fd = fd,
        .token = TOKEN,
        .event_beat_ms = 1,
    };
    assert_int_equal(server_start(&options, &fixture.server, &error), 0);
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

struct reader {
    int fd;
    size_t len;
    char text[1 << 20];
};

static void reader_open(struct reader *reader, const struct fixture *fixture, const char *query,
                        const char *last, int buffer)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons(fixture->port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 20};
    char request[512];
    reader->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    reader->len = 0;
    reader->text[0] = '\0';
    setsockopt(reader->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (buffer > 0) {
        setsockopt(reader->fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
    }
    assert_int_equal(connect(reader->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    /* HTTP/1.0: no chunks, so the text of the stream is what is read. */
    int n = snprintf(request, sizeof(request),
                     "GET /events%s HTTP/1.0\r\nAuthorization: Bearer " TOKEN
                     "\r\nLast-Event-ID: %s\r\n\r\n",
                     query, last);
    assert_int_equal(send(reader->fd, request, (size_t)n, MSG_NOSIGNAL), n);
}

/* Reads until the text has come; false at the end of the stream. What was read before stays. */
static bool reader_until(struct reader *reader, const char *text)
{
    time_t end = time(NULL) + 30;
    while (strstr(reader->text, text) == NULL) {
        if (time(NULL) > end) {
            print_error("'%s' has not come in 30 s\n", text);
            return false;
        }
        if (reader->len > sizeof(reader->text) / 2) { /* the last of it is enough */
            memmove(reader->text, reader->text + reader->len - 4096, 4096);
            reader->len = 4096;
        }
        ssize_t n = recv(reader->fd, reader->text + reader->len, sizeof(reader->text) / 4, 0);
        if (n <= 0) {
            return false;
        }
        reader->len += (size_t)n;
        reader->text[reader->len] = '\0';
    }
    return true;
}

static unsigned count(const char *text, const char *word)
{
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++) {
        n++;
    }
    return n;
}

static struct reader reader; /* large */

static void begin(const struct fixture *fixture, const char *query)
{
    reader_open(&reader, fixture, query, "", 0);
    assert_true(reader_until(&reader, "retry: 1000\nid: "));
}

static void test_created_changed_deleted(void **state)
{
    begin(*state, "?path=/volumes");
    fake_change(COLLECTION_VOLUMES, "v1", CHANGE_CREATED, false);
    fake_change(COLLECTION_VOLUMES, "gone", CHANGE_CREATED, false);
    fake_change(COLLECTION_VOLUMES, "nothing", CHANGE_CHANGED, false);
    fake_change(COLLECTION_JOBS, "j1", CHANGE_CHANGED, false);
    fake_change(COLLECTION_VOLUMES, "v2", CHANGE_DELETED, false);
    assert_true(reader_until(&reader, "\nevent: deleted\ndata: {\"Path\":\"/volumes/v2\","
                                      "\"Class\":\"StorageVolume\",\"Object\":null}\n\n"));
    assert_non_null(strstr(reader.text, "\nevent: created\ndata: {\"Path\":\"/volumes/v1\","
                                        "\"Class\":\"StorageVolume\",\"Object\":{\"self\":"));
    assert_non_null(strstr(reader.text, "\nevent: created\ndata: {\"Path\":\"/volumes/gone\","
                                        "\"Class\":\"StorageVolume\",\"Object\":null}\n\n"));
    assert_null(strstr(reader.text, "nothing"));
    assert_null(strstr(reader.text, "/jobs/"));
    close(reader.fd);
}

static void test_heartbeats_carry_the_id_on(void **state)
{
    begin(*state, "?path=/settings");
    fake_change(COLLECTION_VOLUMES, "v1", CHANGE_CREATED, false);
    do {
        reader.len = 0;
        reader.text[0] = '\0';
        assert_true(reader_until(&reader, ": here\nid: "));
        assert_true(reader_until(&reader, "\n\n"));
        assert_null(strstr(reader.text, "event:"));
    } while (strstr(reader.text, "-0\n") != NULL);
    close(reader.fd);
}

static void test_what_is_large_is_to_be_asked_for(void **state)
{
    begin(*state, "");
    fake_change(COLLECTION_POOLS, "large", CHANGE_CHANGED, true);
    assert_true(reader_until(&reader, "event: changed\ndata: {\"Path\":\"/pools/large\",\"Class\":"
                                      "\"StoragePool\",\"Object\":null,\"Omitted\":true}\n\n"));
    close(reader.fd);
}

/* The job that runs is looked at once a second; that it looks the same is not told. */
static void test_live_counters_are_told_when_they_move(void **state)
{
    begin(*state, "?path=/jobs/j1");
    fake_job_copies(1);
    assert_true(reader_until(&reader, "\"BytesDone\":1}"));
    unsigned before = count(reader.text, "event: changed");
    assert_true(before <= 2);
    reader_until(&reader, ": here");
    fake_job_copies(2);
    assert_true(reader_until(&reader, "\"BytesDone\":2}"));
    assert_int_equal(count(reader.text, "event: changed"), before + 1);
    close(reader.fd);
}

/* 28 MB of changes: the log keeps 8 of them, and the sockets some; whoever does not read meanwhile is told so. */
static void test_who_is_too_slow_is_told_so(void **state)
{
    struct reader *slow = calloc(1, sizeof(*slow));
    reader_open(slow, *state, "", "", 2048);
    assert_true(reader_until(slow, "retry: 1000\nid: "));
    begin(*state, "");
    for (unsigned i = 0; i < 80; i++) {
        char last[64];
        char id[ID_SIZE];
        snprintf(id, sizeof(id), "n%u", i);
        snprintf(last, sizeof(last), "/volumes/n%u\"", i);
        for (unsigned j = 0; j < 50; j++) {
            fake_change(COLLECTION_POOLS, "middle", CHANGE_CREATED, false);
        }
        fake_change(COLLECTION_VOLUMES, id, CHANGE_DELETED, false);
        assert_true(reader_until(&reader, last)); /* this one reads */
        assert_null(strstr(reader.text, "event: reset"));
    }
    assert_true(reader_until(slow, "event: reset\ndata: {}\n\n"));
    fake_change(COLLECTION_VOLUMES, "v1", CHANGE_CREATED, false);
    assert_true(reader_until(slow, "/volumes/v1"));
    close(slow->fd);
    close(reader.fd);

    /* So is a client that comes back too late. */
    reader_open(slow, *state, "", "000000000001-5", 0);
    assert_true(reader_until(slow, "event: reset\ndata: {}\n\n"));
    close(slow->fd);
    free(slow);
}

static void test_records_that_do_not_answer_are_a_reset(void **state)
{
    begin(*state, "");
    fake_store_fails(true); /* the thread of events has nothing to read */
    fake_change(COLLECTION_VOLUMES, "v1", CHANGE_CREATED, false);
    assert_true(reader_until(&reader, "event: reset\ndata: {}\n\n"));
    fake_store_fails(false);
    fake_change(COLLECTION_VOLUMES, "v2", CHANGE_CREATED, false);
    assert_true(reader_until(&reader, "/volumes/v2"));
    close(reader.fd);
}

static void test_the_end_ends_streams(void **state)
{
    struct fixture *fixture = *state;
    begin(fixture, "");
    fake_change(COLLECTION_VOLUMES, "v1", CHANGE_CREATED, false);
    assert_true(reader_until(&reader, "/volumes/v1"));
    assert_int_equal(teardown(state), 0);
    assert_false(reader_until(&reader, "no such text"));
    assert_string_equal(reader.text + reader.len - 2, "\n\n");
    close(reader.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes_that_nobody_was_told_of_are_one),
        cmocka_unit_test(test_the_log_keeps_no_more_than_it_may),
        cmocka_unit_test(test_filters),
        cmocka_unit_test_setup_teardown(test_created_changed_deleted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_heartbeats_carry_the_id_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_large_is_to_be_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(test_live_counters_are_told_when_they_move, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_who_is_too_slow_is_told_so, setup, teardown),
        cmocka_unit_test_setup_teardown(test_records_that_do_not_answer_are_a_reset, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_the_end_ends_streams, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
