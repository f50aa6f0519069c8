// SPDX-License-Identifier: Apache-2.0
/*
 * Serves LUNs in memory, in files or in layers on a portal, for initiators that tests and
 * benchmarks run.
 *
 *     target_serve [options] LUN...       LUN: mem:SIZE, layer:PATH or a path (of a file or a
 *                                         layer that is made, with ,create=SIZE)
 *
 * Prints "portal ADDRESS:PORT" when it serves. Ends on SIGTERM and SIGINT, draining. SIGUSR1
 * prints counters; SIGUSR2 closes the targets, as when exports are taken away, and prints "closed
 * NAME after N ms: STATUS" for each.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/sockaddr.h"
#include "block/delay_dev.h"
#include "block/file_dev.h"
#include "block/mem_dev.h"
#include "block/stack.h"
#include "target/target.h"

enum { MAX_LUNS = 16, MAX_LOOPS = 4, NAME_LEN = 224 };
#define CLOSE_GRACE_NS (20 * SEC_NS)

/* A target and its devices, on a data loop of their own. */
struct served {
    char name[NAME_LEN];
    struct loop *loop;
    struct target *target;
    struct layer_cache *cache; /* of all layers */
    struct loop_task open_task, close_task;
};

struct lun {
    struct served *served;
    unsigned number;
    const char *spec;
    struct blockdev *dev;
    struct layer *layer; /* or NULL */
    struct loop_task told;
    void *reservations;
    size_t reservations_len;
};

static struct {
    struct loop *owner;
    struct served all[MAX_LOOPS];
    unsigned n_loops;
    struct target_server *server;
    struct lun luns[MAX_LUNS]; /* the first is in the first target, the second in the second, … */
    unsigned n_luns, n_open;
    const char *name;
    const char *listen;
    const char *keep; /* directory for reservations, or NULL */
    struct target_access access;
    struct target_initiator row;
    uint32_t block_bytes, physical_bytes;
    struct delay_spec delay;
    bool read_only, thick, reservations;
    struct target_limits limits;
    unsigned chap;
    uint64_t closing_since_ns;
    int signal_fd;
    struct loop_poll *signals;
} serve;

static uint64_t parse_size(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 0);
    switch (*end) {
    case 'K':
        return value << 10;
    case 'M':
        return value << 20;
    case 'G':
        return value << 30;
    case 'T':
        return value << 40;
    default:
        return value;
    }
}

/* ---- reservations that outlive the program ---- */

static void keep_path(const struct lun *lun, const char *end, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/%u.%u%s", serve.keep, (unsigned)(lun->served - serve.all),
             lun->number, end);
}

static int keep_write(const struct lun *lun, const void *bytes, size_t len)
{
    char path[PATH_MAX];
    char made[PATH_MAX];
    keep_path(lun, "", path);
    keep_path(lun, ".new", made);
    if (len == 0) {
        return unlink(path) == 0 || errno == ENOENT ? 0 : -EIO;
    }
    int fd = open(made, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool written = fd >= 0 && write(fd, bytes, len) == (ssize_t)len && fsync(fd) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return written && rename(made, path) == 0 ? 0 : -EIO;
}

static void keep_read(struct lun *lun)
{
    char path[PATH_MAX];
    struct stat st;
    keep_path(lun, "", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    CHECK(fstat(fd, &st) == 0);
    lun->reservations = malloc((size_t)st.st_size);
    lun->reservations_len = (size_t)st.st_size;
    CHECK(lun->reservations && read(fd, lun->reservations, lun->reservations_len) == st.st_size);
    close(fd);
}

static void reservations_changed(void *arg, struct target *target, unsigned number,
                                 const void *bytes, size_t len, struct target_save *save)
{
    (void)arg;
    int status = 0;
    for (unsigned i = 0; serve.keep && i < serve.n_luns; i++) {
        if (serve.luns[i].served->target == target && serve.luns[i].number == number) {
            status = keep_write(&serve.luns[i], bytes, len);
        }
    }
    target_save_done(save, status);
}

/* ---- start: the data loops open the devices, then the owner makes the targets ---- */

static void fail(const struct error *error)
{
    fprintf(stderr, "target_serve: %s\n", error->detail);
    exit(1);
}

static void start_target(struct served *served)
{
    struct target_lun_spec luns[MAX_LUNS] = {0};
    unsigned n = 0;
    for (unsigned i = 0; i < serve.n_luns; i++) {
        struct lun *lun = &serve.luns[i];
        if (lun->served != served) {
            continue;
        }
        if (serve.keep) {
            keep_read(lun);
        }
        luns[n] = (struct target_lun_spec){
            .number = lun->number,
            .dev = lun->dev,
            .naa = 0x3000000000000000ull | (uint64_t)getpid() << 8 | i,
            .read_only = serve.read_only,
            .thin = !serve.thick,
            .reservations = lun->reservations,
            .reservations_len = lun->reservations_len,
        };
        snprintf(luns[n].serial, sizeof(luns[n].serial), "serve-%d-%u", (int)getpid(), i);
        n++;
    }
    struct target_spec spec = {
        .name = served->name,
        .loop = served->loop,
        .access = serve.access,
        .luns = luns,
        .n_luns = n,
    };
    struct error error = {0};
    if (target_new(serve.server, &spec, &served->target, &error)) {
        fail(&error);
    }
}

static void start_targets(void)
{
    struct error error = {0};
    struct sockaddr_storage addr;
    for (unsigned i = 0; i < serve.n_loops; i++) {
        start_target(&serve.all[i]);
    }
    if (sockaddr_parse(serve.listen, 0, &addr) ||
        target_listen(serve.server, &addr, &addr, &error)) {
        fail(&error);
    }
    char text[SOCKADDR_TEXT_LEN];
    sockaddr_format(&addr, text);
    printf("portal %s\n", text);
    fflush(stdout);
}

static void lun_opened(void *arg)
{
    (void)arg;
    if (++serve.n_open == serve.n_luns) {
        start_targets();
    }
}

/* Tells the owner. */
static void tell(struct lun *lun, loop_fn fn)
{
    lun->told = (struct loop_task){.fn = fn, .arg = lun};
    loop_post(serve.owner, &lun->told);
}

static void file_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct lun *lun = arg;
    if (!dev) {
        fail(error);
    }
    lun->dev = dev;
    tell(lun, lun_opened);
}

static void open_memory(struct lun *lun, const char *text)
{
    struct mem_dev_spec spec = {.size_bytes = parse_size(text),
                                .block_bytes = serve.block_bytes,
                                .physical_bytes = serve.physical_bytes};
    const char *capacity = strchr(text, ':');
    spec.capacity_bytes = capacity ? parse_size(capacity + 1) : 0;
    CHECK(mem_dev_new(lun->served->loop, &spec, &lun->dev) == 0);
    if (serve.delay.bytes_per_second || serve.delay.latency_ns) {
        CHECK(delay_dev_new(lun->dev, &serve.delay, 1, &lun->dev) == 0);
    }
    tell(lun, lun_opened);
}

/* A volume of one layer. */
static void layer_opened(void *arg, struct layer *layer, const struct error *error)
{
    struct lun *lun = arg;
    if (!layer) {
        fail(error);
    }
    lun->layer = layer;
    struct stack_spec spec = {.layers = &lun->layer, .n_layers = 1};
    CHECK(stack_open(lun->served->loop, &spec, &lun->dev) == 0);
    tell(lun, lun_opened);
}

static void open_layer(struct lun *lun, const char *path, bool create, uint64_t size)
{
    struct served *served = lun->served;
    CHECK(served->cache || layer_cache_new(0, &served->cache) == 0);
    struct layer_spec spec = {
        .path = path, .size_bytes = size, .id = "target_serve", .cache = served->cache};
    CHECK((create ? layer_create : layer_open)(served->loop, &spec, layer_opened, lun) == 0);
}

static void open_lun(struct lun *lun)
{
    bool layer = strncmp(lun->spec, "layer:", 6) == 0;
    if (strncmp(lun->spec, "mem:", 4) == 0) {
        open_memory(lun, lun->spec + 4);
        return;
    }
    char *path = strdup(layer ? lun->spec + 6 : lun->spec);
    char *create = strstr(path, ",create=");
    uint64_t size = 0;
    if (create) {
        *create = '\0';
        size = parse_size(create + 8);
    }
    if (layer) {
        open_layer(lun, path, create != NULL, size);
    } else {
        struct file_dev_spec spec = {.path = path,
                                     .block_bytes = serve.block_bytes,
                                     .create = create != NULL,
                                     .size_bytes = size};
        CHECK(file_dev_open(lun->served->loop, &spec, file_opened, lun) == 0);
    }
    free(path);
}

static void open_devices(void *arg)
{
    for (unsigned i = 0; i < serve.n_luns; i++) {
        if (serve.luns[i].served == arg) {
            open_lun(&serve.luns[i]);
        }
    }
}

/* ---- end ---- */

static void lun_closed(void *arg)
{
    (void)arg;
    if (--serve.n_open == 0) {
        loop_stop(serve.owner);
    }
}

static void layer_closed(void *arg, int status)
{
    if (status) {
        fprintf(stderr, "target_serve: a layer was not flushed: %s\n", strerror(-status));
    }
    tell(arg, lun_closed);
}

static void device_closed(void *arg)
{
    struct lun *lun = arg;
    if (lun->layer) {
        layer_unref(lun->layer, layer_closed, lun);
    } else {
        tell(lun, lun_closed);
    }
}

static void close_devices(void *arg)
{
    for (unsigned i = 0; i < serve.n_luns; i++) {
        if (serve.luns[i].served == arg) {
            blockdev_close(serve.luns[i].dev, device_closed, &serve.luns[i]);
        }
    }
}

static void server_closed(void *arg, int status)
{
    (void)arg;
    (void)status;
    for (unsigned i = 0; i < serve.n_loops; i++) {
        struct served *served = &serve.all[i];
        served->close_task = (struct loop_task){.fn = close_devices, .arg = served};
        loop_post(served->loop, &served->close_task);
    }
}

static void target_closed(void *arg, int status)
{
    struct served *served = arg;
    uint64_t ms = (loop_now_ns(serve.owner) - serve.closing_since_ns) / MS_NS;
    printf("closed %s after %llu ms: %d\n", served->name, (unsigned long long)ms, status);
    fflush(stdout);
    served->target = NULL;
}

/* As when an export is taken away; the devices and the portal stay. */
static void close_targets(void)
{
    serve.closing_since_ns = loop_now_ns(serve.owner);
    for (unsigned i = 0; i < serve.n_loops; i++) {
        if (serve.all[i].target) {
            target_close(serve.all[i].target, CLOSE_GRACE_NS, target_closed, &serve.all[i]);
        }
    }
}

static void print_stats(const struct served *served)
{
    struct target_stats s;
    struct target_server_stats t;
    target_stats(served->target, &s);
    target_server_stats(serve.server, &t);
    fprintf(stderr,
            "commands %llu reads %llu writes %llu check_conditions %llu conflicts %llu "
            "tmf %llu aborted %llu digest_errors %llu protocol_errors %llu logins %llu "
            "failed_logins %llu sessions %llu connections %llu\n",
            (unsigned long long)s.commands, (unsigned long long)s.reads,
            (unsigned long long)s.writes, (unsigned long long)s.check_conditions,
            (unsigned long long)s.reservation_conflicts, (unsigned long long)s.task_management,
            (unsigned long long)s.aborted_tasks, (unsigned long long)s.digest_errors,
            (unsigned long long)s.protocol_errors, (unsigned long long)s.logins,
            (unsigned long long)s.login_failures, (unsigned long long)s.sessions,
            (unsigned long long)t.connections);
}

static void signal_came(void *arg, int events)
{
    (void)arg;
    (void)events;
    struct signalfd_siginfo info;
    if (read(serve.signal_fd, &info, sizeof(info)) != sizeof(info)) {
        return;
    }
    for (unsigned i = 0; i < serve.n_loops; i++) {
        if (serve.all[i].target) {
            print_stats(&serve.all[i]);
        }
    }
    if (info.ssi_signo == SIGUSR2) {
        close_targets();
    } else if (info.ssi_signo != SIGUSR1) {
        loop_poll_free(serve.signals);
        target_server_close(serve.server, 2 * SEC_NS, server_closed, NULL);
    }
}

static void usage(void)
{
    fprintf(stderr,
            "target_serve [options] LUN...     LUN: mem:SIZE[:CAPACITY], PATH, "
            "layer:PATH,\n"
            "                                  and with ,create=SIZE after a PATH\n"
            "  --listen ADDRESS:PORT   127.0.0.1:0\n"
            "  --name IQN              iqn.2026-11.io.smirror:test\n"
            "  --loops N               so many targets (IQN, IQN-1, …), each on a loop of its own; "
            "the\n"
            "                          LUNs go to them in turn\n"
            "  --keep DIRECTORY        persistent reservations (APTPL) outlive the program\n"
            "  --block BYTES           512\n"
            "  --chap USER%%SECRET      demand CHAP\n"
            "  --mutual USER%%SECRET    and prove ourselves\n"
            "  --chap-md5              allow MD5\n"
            "  --initiator IQN         only this one\n"
            "  --read-only, --thick, --no-aptpl, --initial-r2t, --no-immediate\n"
            "  --first-burst, --max-burst, --max-segment BYTES, --depth TASKS, --max-r2t N\n"
            "  --physical BYTES, --bandwidth BYTES/S, --latency MS   of LUNs in memory\n"
            "  --nop-interval MS, --data-timeout MS, --login-timeout MS\n");
    exit(2);
}

static void split_secret(char *text, const char **user, const char **secret)
{
    char *percent = strchr(text, '%');
    if (!percent) {
        usage();
    }
    *percent = '\0';
    *user = text;
    *secret = percent + 1;
}

static void parse(int argc, char **argv)
{
    static const struct option options[] = {
        {"listen", 1, NULL, 'l'},
        {"name", 1, NULL, 'n'},
        {"block", 1, NULL, 'b'},
        {"chap", 1, NULL, 'c'},
        {"mutual", 1, NULL, 'm'},
        {"initiator", 1, NULL, 'i'},
        {"read-only", 0, NULL, 'r'},
        {"thick", 0, NULL, 't'},
        {"no-aptpl", 0, NULL, 'a'},
        {"loops", 1, NULL, 'o'},
        {"keep", 1, NULL, 'k'},
        {"initial-r2t", 0, NULL, '2'},
        {"no-immediate", 0, NULL, 'I'},
        {"first-burst", 1, NULL, 'F'},
        {"max-burst", 1, NULL, 'B'},
        {"max-segment", 1, NULL, 'S'},
        {"depth", 1, NULL, 'd'},
        {"max-r2t", 1, NULL, 'R'},
        {"chap-md5", 0, NULL, '5'},
        {"nop-interval", 1, NULL, 'p'},
        {"data-timeout", 1, NULL, 'D'},
        {"login-timeout", 1, NULL, 'L'},
        {"debug", 0, NULL, 'v'},
        {"physical", 1, NULL, 'P'},
        {"bandwidth", 1, NULL, 'w'},
        {"latency", 1, NULL, 'y'},
        {NULL, 0, NULL, 0},
    };
    serve.listen = "127.0.0.1:0";
    serve.name = "iqn.2026-11.io.smirror:test";
    serve.reservations = true;
    serve.access = (struct target_access){.initiators = &serve.row, .n_initiators = 1};
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'l':
            serve.listen = optarg;
            break;
        case 'n':
            serve.name = optarg;
            break;
        case 'b':
            serve.block_bytes = (uint32_t)parse_size(optarg);
            break;
        case 'c':
            split_secret(optarg, &serve.row.chap_user, &serve.row.chap_secret);
            break;
        case 'm':
            split_secret(optarg, &serve.row.mutual_user, &serve.row.mutual_secret);
            break;
        case 'i':
            serve.row.name = optarg;
            break;
        case 'r':
            serve.read_only = true;
            break;
        case 't':
            serve.thick = true;
            break;
        case 'a':
            serve.reservations = false;
            break;
        case 'o':
            serve.n_loops = (unsigned)parse_size(optarg);
            break;
        case 'k':
            serve.keep = optarg;
            break;
        case '2':
            serve.limits.initial_r2t = true;
            break;
        case 'I':
            serve.limits.no_immediate_data = true;
            break;
        case 'F':
            serve.limits.first_burst = (uint32_t)parse_size(optarg);
            break;
        case 'B':
            serve.limits.max_burst = (uint32_t)parse_size(optarg);
            break;
        case 'S':
            serve.limits.max_recv_segment = (uint32_t)parse_size(optarg);
            break;
        case 'd':
            serve.limits.queue_depth = (unsigned)parse_size(optarg);
            break;
        case 'R':
            serve.limits.max_outstanding_r2t = (unsigned)parse_size(optarg);
            break;
        case '5':
            serve.chap = TARGET_CHAP_ALL;
            break;
        case 'p':
            serve.limits.nop_interval_ns = parse_size(optarg) * MS_NS;
            serve.limits.nop_timeout_ns = serve.limits.nop_interval_ns;
            break;
        case 'D':
            serve.limits.data_out_timeout_ns = parse_size(optarg) * MS_NS;
            break;
        case 'L':
            serve.limits.login_timeout_ns = parse_size(optarg) * MS_NS;
            break;
        case 'P':
            serve.physical_bytes = (uint32_t)parse_size(optarg);
            break;
        case 'w':
            serve.delay.bytes_per_second = parse_size(optarg);
            break;
        case 'y':
            serve.delay.latency_ns = parse_size(optarg) * MS_NS;
            break;
        case 'v':
            log_set_level(LOG_DEBUG);
            break;
        default:
            usage();
        }
    }
    if (serve.n_loops < 1 || serve.n_loops > MAX_LOOPS) {
        usage();
    }
    for (; optind < argc && serve.n_luns < MAX_LUNS; optind++) {
        unsigned i = serve.n_luns++;
        serve.luns[i] = (struct lun){.served = &serve.all[i % serve.n_loops],
                                     .number = i / serve.n_loops,
                                     .spec = argv[optind]};
    }
    if (serve.n_luns == 0) {
        usage();
    }
}

static void make_loops(struct loop *loops[MAX_LOOPS])
{
    CHECK(loop_new("owner", &serve.owner) == 0);
    for (unsigned i = 0; i < serve.n_loops; i++) {
        struct served *served = &serve.all[i];
        snprintf(served->name, sizeof(served->name), i ? "%s-%u" : "%s", serve.name, i);
        CHECK(loop_new("data", &served->loop) == 0);
        loops[i] = served->loop;
    }
}

static void free_loops(void)
{
    for (unsigned i = 0; i < serve.n_loops; i++) {
        loop_thread_join(serve.all[i].loop);
        layer_cache_free(serve.all[i].cache);
    }
    target_server_free(serve.server);
    for (unsigned i = 0; i < serve.n_loops; i++) {
        loop_free(serve.all[i].loop);
    }
    loop_free(serve.owner);
    for (unsigned i = 0; i < serve.n_luns; i++) {
        free(serve.luns[i].reservations);
    }
}

int main(int argc, char **argv)
{
    serve.n_loops = 1;
    parse(argc, argv);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    serve.signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    struct loop *loops[MAX_LOOPS];
    make_loops(loops);
    CHECK(loop_poll_new(serve.owner, serve.signal_fd, signal_came, NULL, &serve.signals) == 0);
    loop_poll_set(serve.signals, LOOP_READ);
    struct target_server_spec spec = {
        .owner = serve.owner,
        .loops = loops,
        .n_loops = serve.n_loops,
        .limits = serve.limits,
        .chap_algorithms = serve.chap,
        .events = {.reservations_changed = serve.reservations ? reservations_changed : NULL},
    };
    CHECK(target_server_new(&spec, &serve.server) == 0);
    for (unsigned i = 0; i < serve.n_loops; i++) {
        struct served *served = &serve.all[i];
        CHECK(loop_thread_start(served->loop) == 0);
        served->open_task = (struct loop_task){.fn = open_devices, .arg = served};
        loop_post(served->loop, &served->open_task);
    }
    loop_run(serve.owner);
    free_loops();
    close(serve.signal_fd);
    return 0;
}
