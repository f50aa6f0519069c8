// SPDX-License-Identifier: Apache-2.0
#include "tests/tools/tgtd.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ARGS = 24, MAX_COMMANDS = 128, WAIT_MS = 20000 };

struct command {
    char *args[MAX_ARGS + 1];
    unsigned n;
};

struct tgtd {
    char dir[128];
    pid_t pid;
    uint16_t port;
    struct command commands[MAX_COMMANDS];
    unsigned n_commands;
};

static const char *const control_port = "1";

static _Noreturn void fail(const struct tgtd *tgtd, const char *fmt, ...)
{
    char path[192];
    char line[512];
    va_list args;
    FILE *log;

    fprintf(stderr, "tgtd: ");
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\n");
    if (tgtd != NULL) {
        snprintf(path, sizeof(path), "%s/log", tgtd->dir);
        log = fopen(path, "r");
        while (log != NULL && fgets(line, sizeof(line), log) != NULL) {
            fprintf(stderr, "tgtd: | %s", line);
        }
        if (log != NULL) {
            fclose(log);
        }
        if (tgtd->pid > 0) {
            kill(tgtd->pid, SIGKILL);
        }
    }
    exit(1);
}

static const char *program(const char *name)
{
    static char path[64];

    snprintf(path, sizeof(path), "/usr/sbin/%s", name);
    if (access(path, X_OK) != 0) {
        fail(NULL, "%s is missing: install the Debian package tgt, which the tests need", path);
    }
    return path;
}

static void pause_ms(unsigned ms)
{
    struct timespec pause = {.tv_nsec = (long)ms * 1000000};

    nanosleep(&pause, NULL);
}

static void child_setup(const struct tgtd *tgtd)
{
    char path[192];
    int fd;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(path, sizeof(path), "%s/ipc", tgtd->dir);
    setenv("TGT_IPC_SOCKET", path, 1);
    snprintf(path, sizeof(path), "%s/log", tgtd->dir);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    fd = open("/dev/null", O_RDONLY);
    dup2(fd, 0);
}

/* tgtadm with these arguments; its exit status. */
static int adm(const struct tgtd *tgtd, char *const *args, unsigned n)
{
    const char *path = program("tgtadm");
    char *argv[MAX_ARGS + 6] = {(char *)"tgtadm", (char *)"-C", (char *)control_port};
    int status;
    pid_t pid;

    for (unsigned i = 0; i < n; i++) {
        argv[3 + i] = args[i];
    }
    pid = fork();
    if (pid == 0) {
        child_setup(tgtd);
        execv(path, argv);
        _exit(127);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        ;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

/* Words for tgtadm, ended by NULL; said again at a restart. */
static void configure(struct tgtd *tgtd, ...)
{
    struct command command = {.n = 0};
    va_list args;
    char *word;

    va_start(args, tgtd);
    while ((word = va_arg(args, char *)) != NULL && command.n < MAX_ARGS) {
        command.args[command.n++] = strdup(word);
    }
    va_end(args);
    if (adm(tgtd, command.args, command.n) != 0) {
        for (unsigned i = 0; i < command.n; i++) {
            fprintf(stderr, "%s ", command.args[i]);
        }
        fail(tgtd, "tgtadm refused");
    }
    if (tgtd->n_commands == MAX_COMMANDS) {
        fail(tgtd, "more than %d commands", MAX_COMMANDS);
    }
    tgtd->commands[tgtd->n_commands++] = command;
}

static void forget(struct tgtd *tgtd)
{
    for (unsigned c = 0; c < tgtd->n_commands; c++) {
        for (unsigned i = 0; i < tgtd->commands[c].n; i++) {
            free(tgtd->commands[c].args[i]);
        }
    }
    tgtd->n_commands = 0;
}

static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        fail(NULL, "no free port: %s", strerror(errno));
    }
    close(fd);
    return ntohs(address.sin_port);
}

static bool gone(struct tgtd *tgtd)
{
    int status;

    if (tgtd->pid > 0 && waitpid(tgtd->pid, &status, WNOHANG) == tgtd->pid) {
        tgtd->pid = 0;
    }
    return tgtd->pid == 0;
}

/* False: it did not come up, perhaps because somebody else took the port. */
static bool launch(struct tgtd *tgtd)
{
    const char *path = program("tgtd");
    char portal[64];
    char *argv[] = {(char *)"tgtd",    (char *)"-f", (char *)"-C", (char *)control_port,
                    (char *)"--iscsi", portal,       NULL};
    char *show[] = {(char *)"--mode", (char *)"sys", (char *)"--op", (char *)"show"};

    snprintf(portal, sizeof(portal), "portal=127.0.0.1:%u", tgtd->port);
    tgtd->pid = fork();
    if (tgtd->pid == 0) {
        child_setup(tgtd);
        execv(path, argv);
        _exit(127);
    }
    for (unsigned waited = 0; waited < WAIT_MS && !gone(tgtd); waited += 10) {
        struct sockaddr_storage address;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int err;

        tgtd_address(tgtd, &address);
        err = connect(fd, (struct sockaddr *)&address, sizeof(struct sockaddr_in));
        close(fd);
        if (err == 0 && adm(tgtd, show, 4) == 0) {
            return true;
        }
        pause_ms(10);
    }
    if (tgtd->pid > 0) {
        tgtd_kill(tgtd);
    }
    return false;
}

struct tgtd *tgtd_start(void)
{
    struct tgtd *tgtd = calloc(1, sizeof(*tgtd));
    const char *tmp = getenv("TMPDIR");

    snprintf(tgtd->dir, sizeof(tgtd->dir), "%s/smirror-tgtd-XXXXXX",
             tmp != NULL && strlen(tmp) < 48 ? tmp : "/tmp");
    if (mkdtemp(tgtd->dir) == NULL) {
        fail(NULL, "%s: %s", tgtd->dir, strerror(errno));
    }
    for (unsigned i = 0; i < 5; i++) {
        tgtd->port = free_port();
        if (launch(tgtd)) {
            return tgtd;
        }
    }
    fail(tgtd, "it does not start");
}

void tgtd_kill(struct tgtd *tgtd)
{
    int status;

    if (tgtd->pid <= 0) {
        return;
    }
    kill(tgtd->pid, SIGKILL);
    while (waitpid(tgtd->pid, &status, 0) < 0 && errno == EINTR) {
        ;
    }
    tgtd->pid = 0;
}

void tgtd_restart(struct tgtd *tgtd, bool forget_all)
{
    tgtd_kill(tgtd);
    if (!launch(tgtd)) {
        fail(tgtd, "it does not start again");
    }
    if (forget_all) {
        forget(tgtd);
    }
    for (unsigned i = 0; i < tgtd->n_commands; i++) {
        if (adm(tgtd, tgtd->commands[i].args, tgtd->commands[i].n) != 0) {
            fail(tgtd, "tgtadm refused at a restart");
        }
    }
}

void tgtd_freeze(struct tgtd *tgtd)
{
    int status;

    kill(tgtd->pid, SIGSTOP);
    waitpid(tgtd->pid, &status, WUNTRACED);
}

void tgtd_thaw(struct tgtd *tgtd)
{
    kill(tgtd->pid, SIGCONT);
}

void tgtd_stop(struct tgtd *tgtd)
{
    DIR *dir;
    struct dirent *entry;

    tgtd_kill(tgtd);
    dir = opendir(tgtd->dir);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        unlinkat(dirfd(dir), entry->d_name, 0);
    }
    if (dir != NULL) {
        closedir(dir);
    }
    if (rmdir(tgtd->dir) != 0) {
        fprintf(stderr, "tgtd: %s stays: %s\n", tgtd->dir, strerror(errno));
    }
    forget(tgtd);
    free(tgtd);
}

uint16_t tgtd_port(const struct tgtd *tgtd)
{
    return tgtd->port;
}

void tgtd_address(const struct tgtd *tgtd, struct sockaddr_storage *ret_address)
{
    struct sockaddr_in *in = (struct sockaddr_in *)ret_address;

    memset(ret_address, 0, sizeof(*ret_address));
    in->sin_family = AF_INET;
    in->sin_port = htons(tgtd->port);
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

const char *tgtd_path(const struct tgtd *tgtd, const char *file)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", tgtd->dir, file);
    return path;
}

void tgtd_option(struct tgtd *tgtd, unsigned tid, const char *name, const char *value)
{
    char id[16];

    snprintf(id, sizeof(id), "%u", tid);
    configure(tgtd, "--lld", "iscsi", "--mode", "target", "--op", "update", "--tid", id, "--name",
              name, "--value", value, NULL);
}

void tgtd_target(struct tgtd *tgtd, unsigned tid, const char *name)
{
    static const char *const options[][2] = {
        {"MaxRecvDataSegmentLength", "262144"},
        {"MaxXmitDataSegmentLength", "262144"},
        {"FirstBurstLength", "262144"},
        {"MaxBurstLength", "1048576"},
        {"InitialR2T", "No"},
        {"ImmediateData", "Yes"},
        {"MaxOutstandingR2T", "8"},
    };
    char id[16];

    snprintf(id, sizeof(id), "%u", tid);
    configure(tgtd, "--lld", "iscsi", "--mode", "target", "--op", "new", "--tid", id, "-T", name,
              NULL);
    for (unsigned i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        tgtd_option(tgtd, tid, options[i][0], options[i][1]);
    }
    configure(tgtd, "--lld", "iscsi", "--mode", "target", "--op", "bind", "--tid", id, "-I", "ALL",
              NULL);
}

void tgtd_target_remove(struct tgtd *tgtd, unsigned tid)
{
    char id[16];

    snprintf(id, sizeof(id), "%u", tid);
    configure(tgtd, "--lld", "iscsi", "--mode", "target", "--op", "delete", "--force", "--tid", id,
              NULL);
}

void tgtd_lun(struct tgtd *tgtd, unsigned tid, const struct tgtd_lun *lun)
{
    char id[16];
    char number[16];
    char block[16];
    char params[256];
    int used = 0;
    int fd = open(tgtd_path(tgtd, lun->file), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0 || ftruncate(fd, (off_t)lun->size_bytes) != 0) {
        fail(tgtd, "%s: %s", lun->file, strerror(errno));
    }
    close(fd);
    snprintf(id, sizeof(id), "%u", tid);
    snprintf(number, sizeof(number), "%u", lun->lun);
    snprintf(block, sizeof(block), "%u", lun->block_bytes != 0 ? lun->block_bytes : 512);
    configure(tgtd, "--lld", "iscsi", "--mode", "logicalunit", "--op", "new", "--tid", id, "--lun",
              number, "-b", tgtd_path(tgtd, lun->file), "--bstype",
              lun->bstype != NULL ? lun->bstype : "rdwr", "--blocksize", block, NULL);
    used += snprintf(params + used, sizeof(params) - (size_t)used,
                     "thin_provisioning=%d,readonly=%d", lun->thin, lun->read_only);
    if (lun->scsi_id != NULL) {
        used += snprintf(params + used, sizeof(params) - (size_t)used, ",scsi_id=%s", lun->scsi_id);
    }
    if (lun->serial != NULL) {
        used += snprintf(params + used, sizeof(params) - (size_t)used, ",scsi_sn=%s", lun->serial);
    }
    configure(tgtd, "--lld", "iscsi", "--mode", "logicalunit", "--op", "update", "--tid", id,
              "--lun", number, "--params", params, NULL);
}

void tgtd_lun_remove(struct tgtd *tgtd, unsigned tid, unsigned lun)
{
    char id[16];
    char number[16];

    snprintf(id, sizeof(id), "%u", tid);
    snprintf(number, sizeof(number), "%u", lun);
    configure(tgtd, "--lld", "iscsi", "--mode", "logicalunit", "--op", "delete", "--tid", id,
              "--lun", number, NULL);
}

void tgtd_account(struct tgtd *tgtd, unsigned tid, const char *user, const char *secret,
                  bool outgoing)
{
    char id[16];

    snprintf(id, sizeof(id), "%u", tid);
    configure(tgtd, "--lld", "iscsi", "--mode", "account", "--op", "new", "--user", user,
              "--password", secret, NULL);
    configure(tgtd, "--lld", "iscsi", "--mode", "account", "--op", "bind", "--tid", id, "--user",
              user, outgoing ? "--outgoing" : NULL, NULL);
}
