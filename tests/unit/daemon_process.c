// SPDX-License-Identifier: Apache-2.0
/* The real program: how it starts, what it leaves in its directory, and how it ends. */
#include "testing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "daemon/ending.h"

struct fixture {
    char dir[64];
    char data[96];
    char ready[96];
    char log[96];
    pid_t pid;
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void pause_ms(long ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static char *slurp(const char *path)
{
    char *text = calloc(1, 65536);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        size_t n = fread(text, 1, 65535, file);
        text[n] = '\0';
        fclose(file);
    }
    return text;
}

/* Starts the program with the usual options and those given. */
static pid_t start(const struct fixture *fixture, const char *const *more)
{
    const char *args[24] = {SMIRRORD, "--data", fixture->data, "--ready-file", fixture->ready};
    int n = 5;
    for (; *more != NULL; more++) {
        args[n++] = *more;
    }
    pid_t pid = fork();
    if (pid == 0) {
        int log = open(fixture->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        dup2(log, STDERR_FILENO);
        signal(SIGPIPE, SIG_DFL);
        execv(SMIRRORD, (char **)args);
        _exit(126);
    }
    return pid;
}

#define ARGS(...)                                                                                  \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__ __VA_OPT__(, ) NULL                                                            \
    }
#define LOCAL "--http", "127.0.0.1:0", "--iscsi", "127.0.0.1:0"

static bool wait_ready(const struct fixture *fixture)
{
    for (int i = 0; i < 2000; i++) {
        if (access(fixture->ready, F_OK) == 0) {
            return true;
        }
        pause_ms(10);
    }
    return false;
}

static int wait_end(pid_t pid)
{
    int status;
    uint64_t begun = now_ms();
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (now_ms() - begun > 20000) {
            kill(pid, SIGKILL);
        }
        pause_ms(5);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void start_ready(struct fixture *fixture)
{
    fixture->pid = start(fixture, ARGS(LOCAL));
    if (!wait_ready(fixture)) {
        fail_msg("not ready: %s", slurp(fixture->log));
    }
}

static void end(struct fixture *fixture)
{
    uint64_t begun = now_ms();
    kill(fixture->pid, SIGTERM);
    int status = wait_end(fixture->pid);
    fixture->pid = 0;
    assert_int_equal(status, 0);
    assert_true(now_ms() - begun < 5000);
    assert_int_equal(access(fixture->ready, F_OK), -1);
}

static int setup(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){.dir = "/tmp/smirrord-XXXXXX"};
    if (mkdtemp(fixture.dir) == NULL) {
        return -1;
    }
    snprintf(fixture.data, sizeof(fixture.data), "%s/a/data", fixture.dir);
    snprintf(fixture.ready, sizeof(fixture.ready), "%s/ready", fixture.dir);
    snprintf(fixture.log, sizeof(fixture.log), "%s/log", fixture.dir);
    *state = &fixture;
    return 0;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    if (fixture->pid > 0) {
        kill(fixture->pid, SIGKILL);
        waitpid(fixture->pid, NULL, 0);
    }
    nftw(fixture->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    return 0;
}

/* The value of a member of the ready file. */
static void ready_value(const struct fixture *fixture, const char *name, char *out, size_t size)
{
    char pattern[64];
    char *text = slurp(fixture->ready);
    snprintf(pattern, sizeof(pattern), "\"%s\":\"", name);
    char *at = strstr(text, pattern);
    assert_non_null(at);
    at += strlen(pattern);
    snprintf(out, size, "%.*s", (int)strcspn(at, "\""), at);
    free(text);
}

static int dial(const struct fixture *fixture)
{
    char http[64];
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 20};
    ready_value(fixture, "http", http, sizeof(http));
    addr.sin_port = htons((uint16_t)atoi(strchr(http, ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

/* The status of a GET, with the header that the ready file names. */
static int get(const struct fixture *fixture, const char *path, bool with_token)
{
    char file[160];
    char request[512];
    char answer[64] = "";
    int status = 0;
    ready_value(fixture, "auth_header_file", file, sizeof(file));
    char *auth = slurp(file);
    auth[strcspn(auth, "\n")] = '\0';
    int fd = dial(fixture);
    int len = snprintf(request, sizeof(request),
                       "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s%s\r\n", path,
                       with_token ? auth : "", with_token ? "\r\n" : "");
    assert_int_equal(send(fd, request, (size_t)len, MSG_NOSIGNAL), len);
    assert_true(recv(fd, answer, sizeof(answer) - 1, 0) > 0);
    assert_int_equal(sscanf(answer, "HTTP/1.1 %d", &status), 1);
    close(fd);
    free(auth);
    return status;
}

static void check_mode(const char *dir, const char *name, mode_t mode)
{
    char path[200];
    struct stat info;
    snprintf(path, sizeof(path), "%s%s", dir, name);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, mode);
}

static void it_answers_when_the_ready_file_is_there(void **state)
{
    struct fixture *fixture = *state;
    char iscsi[64];
    start_ready(fixture);
    assert_int_equal(get(fixture, "/readyz", false), 200);
    assert_int_equal(get(fixture, "/systems/local", false), 401);
    assert_int_equal(get(fixture, "/systems/local", true), 200);
    ready_value(fixture, "iscsi", iscsi, sizeof(iscsi));
    assert_int_not_equal(atoi(strchr(iscsi, ':') + 1), 0);
    check_mode(fixture->data, "", 0700);
    check_mode(fixture->data, "/token", 0600);
    check_mode(fixture->data, "/auth-header", 0600);
    check_mode(fixture->data, "/smirror.db", 0600);
    check_mode(fixture->ready, "", 0600);
    end(fixture);
}

static void token_and_identity_stay(void **state)
{
    struct fixture *fixture = *state;
    char path[2][160];
    char *before[2];
    snprintf(path[0], sizeof(path[0]), "%s/token", fixture->data);
    snprintf(path[1], sizeof(path[1]), "%s/initiator-id", fixture->data);
    start_ready(fixture);
    for (int i = 0; i < 2; i++) {
        before[i] = slurp(path[i]);
    }
    assert_int_equal(strlen(before[0]), 65);
    /* Also when it was killed; the ready file of the dead process does not mislead. */
    kill(fixture->pid, SIGKILL);
    wait_end(fixture->pid);
    char *stale = slurp(fixture->ready);
    assert_true(stale[0] != '\0');
    fixture->pid = start(fixture, ARGS(LOCAL));
    for (int i = 0; i < 2000; i++) {
        char *now = slurp(fixture->ready);
        bool again = now[0] != '\0' && strcmp(now, stale) != 0;
        free(now);
        if (again) {
            break;
        }
        pause_ms(5);
    }
    free(stale);
    assert_int_equal(get(fixture, "/readyz", false), 200);
    for (int i = 0; i < 2; i++) {
        char *after = slurp(path[i]);
        assert_string_equal(before[i], after);
        free(after);
        free(before[i]);
    }
    end(fixture);
}

static void a_second_one_is_refused_and_told_who_is_there(void **state)
{
    struct fixture *fixture = *state;
    char said[64];
    start_ready(fixture);
    assert_int_equal(wait_end(start(fixture, ARGS(LOCAL))), 1);
    char *log = slurp(fixture->log);
    snprintf(said, sizeof(said), "(process %d) uses the data directory", (int)fixture->pid);
    assert_non_null(strstr(log, said));
    free(log);
    /* The first is unharmed, its ready file too. */
    assert_int_equal(get(fixture, "/readyz", false), 200);
    end(fixture);
}

static void wrong_usage_is_2(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(wait_end(start(fixture, ARGS("--nonsense"))), 2);
    assert_int_equal(wait_end(start(fixture, ARGS("--http", "0.0.0.0:0"))), 2);
    assert_int_equal(access(fixture->data, F_OK), -1);
}

static void what_cannot_start_is_1(void **state)
{
    struct fixture *fixture = *state;
    /* An address of nobody here (TEST-NET), with files that are no certificates. */
    assert_int_equal(wait_end(start(fixture, ARGS("--http", "127.0.0.1:0", "--tls-cert",
                                                  "/dev/null", "--tls-key", "/dev/null"))),
                     1);
    assert_int_equal(
        wait_end(start(fixture, ARGS(LOCAL, "--tls-cert", "/nowhere", "--tls-key", "/nowhere"))),
        1);
    start_ready(fixture);
    char http[64];
    char other[120];
    ready_value(fixture, "http", http, sizeof(http));
    snprintf(other, sizeof(other), "%s/other", fixture->dir);
    assert_int_equal(
        wait_end(start(fixture, ARGS("--data", other, "--http", http, "--ready-file", ""))), 1);
    char *log = slurp(fixture->log);
    assert_non_null(strstr(log, "Another program uses it"));
    free(log);
    end(fixture);
}

static void a_bad_token_file_is_not_replaced(void **state)
{
    struct fixture *fixture = *state;
    char path[160];
    start_ready(fixture);
    end(fixture);
    snprintf(path, sizeof(path), "%s/token", fixture->data);
    FILE *file = fopen(path, "w");
    fputs("short\n", file);
    fclose(file);
    assert_int_equal(wait_end(start(fixture, ARGS(LOCAL))), 1);
    char *text = slurp(path);
    assert_string_equal(text, "short\n");
    free(text);
}

static void a_file_of_others_gets_its_mode_back(void **state)
{
    struct fixture *fixture = *state;
    char path[160];
    start_ready(fixture);
    end(fixture);
    snprintf(path, sizeof(path), "%s/token", fixture->data);
    chmod(path, 0644);
    chmod(fixture->data, 0755);
    start_ready(fixture);
    check_mode(fixture->data, "", 0700);
    check_mode(fixture->data, "/token", 0600);
    end(fixture);
}

static void hangup_and_broken_pipes_are_survived(void **state)
{
    struct fixture *fixture = *state;
    start_ready(fixture);
    kill(fixture->pid, SIGHUP);
    kill(fixture->pid, SIGPIPE);
    pause_ms(100);
    assert_int_equal(get(fixture, "/readyz", false), 200);
    kill(fixture->pid, SIGINT);
    assert_int_equal(wait_end(fixture->pid), 0);
    fixture->pid = 0;
}

static void the_end_does_not_wait_for_idle_and_slow_clients(void **state)
{
    struct fixture *fixture = *state;
    int fds[20];
    start_ready(fixture);
    for (int i = 0; i < 20; i++) {
        static const char half[] = "POST /services/ReplicationService/GetPeerSystems HTTP/1.1\r\n"
                                   "Host: localhost\r\nContent-Length: 100\r\n\r\n{";
        fds[i] = dial(fixture);
        if (i % 2 == 0) {
            send(fds[i], half, strlen(half), MSG_NOSIGNAL);
        }
    }
    pause_ms(50);
    end(fixture);
    for (int i = 0; i < 20; i++) {
        close(fds[i]);
    }
}

static void the_end_can_come_at_any_time_of_the_start(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < 30; i++) {
        pid_t pid = start(fixture, ARGS(LOCAL));
        pause_ms(i);
        kill(pid, SIGTERM);
        int status = wait_end(pid);
        /* Before it looks at signals, a signal just ends it. */
        assert_true(status == 0 || status == -SIGTERM);
        if (status == 0) {
            assert_int_equal(access(fixture->ready, F_OK), -1);
        }
    }
    start_ready(fixture);
    end(fixture);
}

static void what_hangs_is_ended_the_hard_way(void **state)
{
    (void)state;
    uint64_t begun = now_ms();
    pid_t pid = fork();
    if (pid == 0) {
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        signal(SIGPIPE, SIG_DFL);
        if (ending_begin() == 0) {
            kill(getpid(), SIGTERM);
            ending_wait();
            for (;;) {
                pause_ms(1000);
            }
        }
        _exit(99);
    }
    assert_int_equal(wait_end(pid), EXIT_HARD);
    assert_in_range(now_ms() - begun, ENDING_MS, 5000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(it_answers_when_the_ready_file_is_there),
        TEST(token_and_identity_stay),
        TEST(a_second_one_is_refused_and_told_who_is_there),
        TEST(wrong_usage_is_2),
        TEST(what_cannot_start_is_1),
        TEST(a_bad_token_file_is_not_replaced),
        TEST(a_file_of_others_gets_its_mode_back),
        TEST(hangup_and_broken_pipes_are_survived),
        TEST(the_end_does_not_wait_for_idle_and_slow_clients),
        TEST(the_end_can_come_at_any_time_of_the_start),
        TEST(what_hangs_is_ended_the_hard_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
