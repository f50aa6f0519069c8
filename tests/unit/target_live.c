// SPDX-License-Identifier: Apache-2.0
/*
 * target_serve as a process, and libiscsi in front of it: what needs a real restart, a real client
 * or several data loops.
 */
#include "tests/unit/testing.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#define NAME "iqn.2026-11.io.smirror:test"
enum { MAX_ARGS = 8, PATIENCE_S = 60, KEY = 0x5eed };

struct server {
    pid_t pid;
    FILE *out;
    char portal[64];
};

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* A child that reads from in (-1: nothing) and writes to a pipe. */
static pid_t spawn(char *const argv[], int in, FILE **ret_out)
{
    int pipes[2];
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    pid_t parent = getpid();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || dup2(pipes[1], 1) < 0 || (in >= 0 && dup2(in, 0) < 0)) {
            _exit(126);
        }
        alarm(PATIENCE_S);
        execv(argv[0], argv);
        _exit(127);
    }
    close(pipes[1]);
    *ret_out = fdopen(pipes[0], "r");
    assert_non_null(*ret_out);
    return pid;
}

static struct server serve(const char *const args[])
{
    struct server server = {0};
    char *argv[MAX_ARGS + 2] = {TARGET_SERVE};
    for (unsigned i = 0; args[i]; i++) {
        assert_true(i < MAX_ARGS);
        argv[i + 1] = (char *)(uintptr_t)args[i];
    }
    server.pid = spawn(argv, -1, &server.out);
    char line[256];
    assert_non_null(fgets(line, sizeof(line), server.out));
    assert_int_equal(sscanf(line, "portal %63s", server.portal), 1);
    return server;
}

static int ended(struct server *server, int signal)
{
    int status;
    assert_int_equal(kill(server->pid, signal), 0);
    assert_int_equal(waitpid(server->pid, &status, 0), server->pid);
    fclose(server->out);
    return status;
}

/* The same name and ISID are the same initiator port, also after a restart. */
static struct iscsi_context *login_to(const char *portal, const char *target, unsigned initiator)
{
    char name[64];
    snprintf(name, sizeof(name), "iqn.2026-11.test.live:%u", initiator);
    struct iscsi_context *iscsi = iscsi_create_context(name);
    assert_non_null(iscsi);
    iscsi_set_targetname(iscsi, target);
    iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_header_digest(iscsi, ISCSI_HEADER_DIGEST_NONE);
    iscsi_set_isid_random(iscsi, initiator, 1);
    iscsi_set_noautoreconnect(iscsi, 1);
    iscsi_set_timeout(iscsi, PATIENCE_S / 2);
    if (iscsi_full_connect_sync(iscsi, portal, 0) != 0) {
        print_message("login: %s\n", iscsi_get_error(iscsi));
        iscsi_destroy_context(iscsi);
        return NULL;
    }
    return iscsi;
}

static struct iscsi_context *login(const struct server *server, unsigned initiator)
{
    struct iscsi_context *iscsi = login_to(server->portal, NAME, initiator);
    assert_non_null(iscsi);
    return iscsi;
}

/* The SCSI status. The first command of a session may tell what happened before it. */
static int status_of(struct scsi_task *task)
{
    assert_non_null(task);
    int status = task->status;
    scsi_free_scsi_task(task);
    return status;
}

static int write_block(struct iscsi_context *iscsi)
{
    unsigned char block[512] = "live";
    return status_of(
        iscsi_write10_sync(iscsi, 0, 0, block, sizeof(block), sizeof(block), 0, 0, 0, 0, 0));
}

static int reserve_out(struct iscsi_context *iscsi, int action, uint64_t key, uint64_t new_key)
{
    struct scsi_persistent_reserve_out_basic basic = {
        .reservation_key = key, .service_action_reservation_key = new_key, .aptpl = 1};
    return status_of(
        iscsi_persistent_reserve_out_sync(iscsi, 0, action, SCSI_PERSISTENT_RESERVE_SCOPE_LU,
                                          SCSI_PERSISTENT_RESERVE_TYPE_EXCLUSIVE_ACCESS, &basic));
}

/* ---- reservations ---- */

static void check_still_reserved(struct iscsi_context *owner)
{
    struct scsi_task *task =
        iscsi_persistent_reserve_in_sync(owner, 0, SCSI_PERSISTENT_RESERVE_READ_KEYS, 256);
    assert_non_null(task);
    assert_int_equal(task->status, SCSI_STATUS_GOOD);
    const struct scsi_persistent_reserve_in_read_keys *keys = scsi_datain_unmarshall(task);
    assert_int_equal(keys->num_keys, 1);
    assert_int_equal(keys->keys[0], KEY);
    scsi_free_scsi_task(task);
    task =
        iscsi_persistent_reserve_in_sync(owner, 0, SCSI_PERSISTENT_RESERVE_READ_RESERVATION, 256);
    assert_non_null(task);
    const struct scsi_persistent_reserve_in_read_reservation *held = scsi_datain_unmarshall(task);
    assert_true(held->reserved);
    assert_int_equal(held->reservation_key, KEY);
    assert_int_equal(held->pr_type, SCSI_PERSISTENT_RESERVE_TYPE_EXCLUSIVE_ACCESS);
    scsi_free_scsi_task(task);
}

static void reservations_outlive_a_killed_target_until_they_are_given_up(void **state)
{
    (void)state;
    char folder[] = "/tmp/target_live.XXXXXX";
    assert_non_null(mkdtemp(folder));
    const char *const args[] = {"--keep", folder, "mem:4M", NULL};

    struct server server = serve(args);
    struct iscsi_context *owner = login(&server, 1);
    struct iscsi_context *other = login(&server, 2);
    assert_int_equal(write_block(other), SCSI_STATUS_GOOD);
    assert_int_equal(reserve_out(owner, SCSI_PERSISTENT_RESERVE_REGISTER, 0, KEY),
                     SCSI_STATUS_GOOD);
    assert_int_equal(reserve_out(owner, SCSI_PERSISTENT_RESERVE_RESERVE, KEY, 0), SCSI_STATUS_GOOD);
    assert_int_equal(write_block(other), SCSI_STATUS_RESERVATION_CONFLICT);
    assert_true(WIFSIGNALED(ended(&server, SIGKILL)));
    iscsi_destroy_context(owner);
    iscsi_destroy_context(other);

    server = serve(args);
    other = login(&server, 2);
    assert_int_equal(write_block(other), SCSI_STATUS_RESERVATION_CONFLICT);
    owner = login(&server, 1);
    check_still_reserved(owner);
    assert_int_equal(write_block(owner), SCSI_STATUS_GOOD);
    assert_int_equal(reserve_out(owner, SCSI_PERSISTENT_RESERVE_CLEAR, KEY, 0), SCSI_STATUS_GOOD);
    assert_true(WIFSIGNALED(ended(&server, SIGKILL)));
    iscsi_destroy_context(owner);
    iscsi_destroy_context(other);

    server = serve(args);
    other = login(&server, 2);
    assert_int_equal(write_block(other), SCSI_STATUS_GOOD);
    iscsi_destroy_context(other);
    assert_int_equal(ended(&server, SIGTERM), 0);

    char path[64];
    snprintf(path, sizeof(path), "%s/0.0", folder);
    unlink(path);
    assert_int_equal(rmdir(folder), 0); /* nothing else was left there */
}

/* ---- an export that goes ---- */

static void a_client_logs_out_when_asked_to_and_the_target_is_gone(void **state)
{
    (void)state;
    struct server server = serve((const char *const[]){"mem:4M", NULL});
    struct iscsi_context *iscsi = login(&server, 1);
    assert_int_equal(write_block(iscsi), SCSI_STATUS_GOOD);
    double began = now_s();
    assert_int_equal(kill(server.pid, SIGUSR2), 0);

    /* libiscsi answers the asynchronous message with a logout. */
    bool open = true;
    while (open) {
        struct pollfd fd = {.fd = iscsi_get_fd(iscsi), .events = (short)iscsi_which_events(iscsi)};
        int n = poll(&fd, 1, 1000);
        assert_true(n >= 0 && now_s() - began < PATIENCE_S);
        open = iscsi_service(iscsi, fd.revents) == 0 && iscsi_is_logged_in(iscsi);
    }
    char line[512];
    char name[256];
    unsigned ms;
    int status;
    assert_non_null(fgets(line, sizeof(line), server.out));
    assert_int_equal(sscanf(line, "closed %255s after %u ms: %d", name, &ms, &status), 3);
    assert_string_equal(name, NAME);
    assert_int_equal(status, 0);
    /* It was the logout that ended the session, not the end of the grace (20 s). */
    assert_true(ms < 15000);
    iscsi_destroy_context(iscsi);
    assert_null(login_to(server.portal, NAME, 1));
    assert_int_equal(ended(&server, SIGTERM), 0);
}

static void a_client_that_does_not_answer_loses_its_connection_at_the_end(void **state)
{
    (void)state;
    struct server server = serve((const char *const[]){"mem:4M", NULL});
    struct iscsi_context *iscsi = login(&server, 1);
    assert_int_equal(kill(server.pid, SIGTERM), 0); /* a grace of 2 s */
    double began = now_s();
    struct pollfd fd = {.fd = iscsi_get_fd(iscsi), .events = POLLRDHUP};
    assert_int_equal(poll(&fd, 1, PATIENCE_S * 1000), 1);
    double took = now_s() - began;
    assert_true(took > 1.5 && took < PATIENCE_S / 2);
    int status;
    assert_int_equal(waitpid(server.pid, &status, 0), server.pid);
    assert_int_equal(status, 0);
    fclose(server.out);
    iscsi_destroy_context(iscsi);
}

/* ---- data loops ---- */

struct load {
    pid_t pid;
    int in;
    FILE *out;
};

static struct load load_start(const struct server *server, const char *target)
{
    char url[256];
    int in[2];
    snprintf(url, sizeof(url), "iscsi://%s/%s/0", server->portal, target);
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    char *argv[] = {LOAD, url, NULL};
    struct load load = {.in = in[1]};
    load.pid = spawn(argv, in[0], &load.out);
    close(in[0]);
    return load;
}

static void tell(const struct load *load, const char *words)
{
    assert_int_equal(write(load->in, words, strlen(words)), strlen(words));
}

static unsigned long load_answer(const struct load *load)
{
    char line[1024];
    unsigned long ops;
    assert_non_null(fgets(line, sizeof(line), load->out));
    assert_int_equal(sscanf(line, "{\"ops\":%lu", &ops), 1);
    return ops;
}

static void load_end(const struct load *load)
{
    int status;
    close(load->in);
    assert_int_equal(waitpid(load->pid, &status, 0), load->pid);
    assert_int_equal(status, 0);
    fclose(load->out);
}

/* Discovery is served by the first loop; the sessions of the second target move to the second. */
static void two_loops_serve_at_once_while_sessions_come_and_go(void **state)
{
    (void)state;
    static const char *const names[] = {NAME, NAME "-1"};
    struct server server = serve((const char *const[]){"--loops", "2", "mem:8M", "mem:8M", NULL});
    struct load loads[2];
    for (unsigned i = 0; i < 2; i++) {
        loads[i] = load_start(&server, names[i]);
        tell(&loads[i], "fill\nrun random 4096 16 4 2 40\nverify\n");
    }
    double end = now_s() + 1.5;
    for (unsigned turn = 0; now_s() < end; turn++) {
        struct iscsi_context *iscsi = login_to(server.portal, names[turn % 2], 9);
        assert_non_null(iscsi);
        struct scsi_task *task = iscsi_testunitready_sync(iscsi, 0);
        assert_int_equal(status_of(task), SCSI_STATUS_GOOD);
        if (turn % 3 == 0) {
            iscsi_logout_sync(iscsi);
        }
        iscsi_destroy_context(iscsi);
    }
    for (unsigned i = 0; i < 2; i++) {
        load_answer(&loads[i]);
        assert_true(load_answer(&loads[i]) > 0);
        load_answer(&loads[i]);
        load_end(&loads[i]);
    }
    assert_int_equal(ended(&server, SIGTERM), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reservations_outlive_a_killed_target_until_they_are_given_up),
        cmocka_unit_test(a_client_logs_out_when_asked_to_and_the_target_is_gone),
        cmocka_unit_test(a_client_that_does_not_answer_loses_its_connection_at_the_end),
        cmocka_unit_test(two_loops_serve_at_once_while_sessions_come_and_go),
    };
    alarm(2 * PATIENCE_S);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
