// SPDX-License-Identifier: Apache-2.0
/*
 * Serves LUNs in memory, in files or in layers on a portal, for initiators that tests and
 * benchmarks run.
 *
 *     target_serve [options] LUN...       LUN: mem:SIZE, layer:PATH or a path (of a file or a
 *                                         layer that is made, with ,create=SIZE)
 *
 * Prints "portal ADDRESS:PORT" when it serves. Ends on SIGTERM and SIGINT, draining.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/sockaddr.h"
#include "block/delay_dev.h"
#include "block/file_dev.h"
#include "block/mem_dev.h"
#include "block/stack.h"
#include "target/target.h"

enum { MAX_LUNS = 16 };

static struct {
    struct loop *owner;
    struct loop *data;
    struct target_server *server;
    struct target *target;
    struct blockdev *devs[MAX_LUNS];
    struct layer_cache *cache; /* of all layers */
    struct layer *layers[MAX_LUNS];
    const char *specs[MAX_LUNS];
    unsigned n_luns, n_open;
    const char *name;
    const char *listen;
    struct target_access access;
    struct target_initiator row;
    uint32_t block_bytes, physical_bytes;
    struct delay_spec delay;
    bool read_only, thick, reservations;
    struct target_limits limits;
    unsigned chap;
    int signal_fd;
    struct loop_poll *signals;
    struct loop_task open_task, opened_task, close_task, closed_task;
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

static void reservations_changed(void *arg, struct target *target, unsigned lun, const void *bytes,
                                 size_t len, struct target_save *save)
{
    (void)arg;
    (void)target;
    (void)lun;
    (void)bytes;
    (void)len;
    target_save_done(save, 0);
}

/* ---- start: data loop opens the devices, then the owner makes the target ---- */

static void start_target(void *arg)
{
    (void)arg;
    struct target_lun_spec luns[MAX_LUNS] = {0};
    for (unsigned i = 0; i < serve.n_luns; i++) {
        luns[i] = (struct target_lun_spec){
            .number = i,
            .dev = serve.devs[i],
            .naa = 0x3000000000000000ull | (uint64_t)getpid() << 8 | i,
            .read_only = serve.read_only,
            .thin = !serve.thick,
        };
        snprintf(luns[i].serial, sizeof(luns[i].serial), "serve-%d-%u", (int)getpid(), i);
    }
    struct target_spec spec = {
        .name = serve.name,
        .loop = serve.data,
        .access = serve.access,
        .luns = luns,
        .n_luns = serve.n_luns,
    };
    struct error error = {0};
    struct sockaddr_storage addr;
    if (target_new(serve.server, &spec, &serve.target, &error) ||
        sockaddr_parse(serve.listen, 0, &addr) ||
        target_listen(serve.server, &addr, &addr, &error)) {
        fprintf(stderr, "target_serve: %s\n", error.detail);
        exit(1);
    }
    char text[SOCKADDR_TEXT_LEN];
    sockaddr_format(&addr, text);
    printf("portal %s\n", text);
    fflush(stdout);
}

static void one_open(void)
{
    if (++serve.n_open == serve.n_luns) {
        serve.opened_task = (struct loop_task){.fn = start_target};
        loop_post(serve.owner, &serve.opened_task);
    }
}

static void file_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    if (!dev) {
        fprintf(stderr, "target_serve: %s\n", error->detail);
        exit(1);
    }
    *(struct blockdev **)arg = dev;
    one_open();
}

static void open_memory(unsigned i, const char *text)
{
    struct mem_dev_spec spec = {.size_bytes = parse_size(text),
                                .block_bytes = serve.block_bytes,
                                .physical_bytes = serve.physical_bytes};
    const char *capacity = strchr(text, ':');
    spec.capacity_bytes = capacity ? parse_size(capacity + 1) : 0;
    CHECK(mem_dev_new(serve.data, &spec, &serve.devs[i]) == 0);
    if (serve.delay.bytes_per_second || serve.delay.latency_ns) {
        CHECK(delay_dev_new(serve.devs[i], &serve.delay, 1, &serve.devs[i]) == 0);
    }
    one_open();
}

/* A volume of one layer. */
static void layer_opened(void *arg, struct layer *layer, const struct error *error)
{
    unsigned i = (unsigned)((struct layer **)arg - serve.layers);
    if (!layer) {
        fprintf(stderr, "target_serve: %s\n", error->detail);
        exit(1);
    }
    serve.layers[i] = layer;
    struct stack_spec spec = {.layers = &serve.layers[i], .n_layers = 1};
    CHECK(stack_open(serve.data, &spec, &serve.devs[i]) == 0);
    one_open();
}

static void open_devices(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < serve.n_luns; i++) {
        const char *text = serve.specs[i];
        if (strncmp(text, "mem:", 4) == 0) {
            open_memory(i, text + 4);
            continue;
        }
        bool layer = strncmp(text, "layer:", 6) == 0;
        char *path = strdup(layer ? text + 6 : text);
        char *create = strstr(path, ",create=");
        uint64_t size = 0;
        if (create) {
            *create = '\0';
            size = parse_size(create + 8);
        }
        if (layer) {
            struct layer_spec spec = {.path = path, .size_bytes = size, .id = "target_serve"};
            CHECK(serve.cache || layer_cache_new(0, &serve.cache) == 0);
            spec.cache = serve.cache;
            CHECK((create ? layer_create : layer_open)(serve.data, &spec, layer_opened,
                                                       &serve.layers[i]) == 0);
        } else {
            struct file_dev_spec spec = {.path = path,
                                         .block_bytes = serve.block_bytes,
                                         .create = create != NULL,
                                         .size_bytes = size};
            CHECK(file_dev_open(serve.data, &spec, file_opened, &serve.devs[i]) == 0);
        }
        free(path);
    }
}

/* ---- end ---- */

static void stop_owner(void *arg)
{
    (void)arg;
    loop_stop(serve.owner);
}

static void device_closed(void *arg);

static void layer_closed(void *arg, int status)
{
    if (status) {
        fprintf(stderr, "target_serve: a layer was not flushed: %s\n", strerror(-status));
    }
    device_closed(arg);
}

static void device_closed(void *arg)
{
    struct layer **layer = arg;
    if (*layer) {
        struct layer *last = *layer;
        *layer = NULL;
        layer_unref(last, layer_closed, layer);
        return;
    }
    if (--serve.n_open == 0) {
        serve.closed_task = (struct loop_task){.fn = stop_owner};
        loop_post(serve.owner, &serve.closed_task);
    }
}

static void close_devices(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < serve.n_luns; i++) {
        blockdev_close(serve.devs[i], device_closed, &serve.layers[i]);
    }
}

static void server_closed(void *arg, int status)
{
    (void)arg;
    (void)status;
    serve.close_task = (struct loop_task){.fn = close_devices};
    loop_post(serve.data, &serve.close_task);
}

static void print_stats(void)
{
    struct target_stats s;
    struct target_server_stats t;
    target_stats(serve.target, &s);
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
    if (info.ssi_signo == SIGUSR1) {
        print_stats();
        return;
    }
    print_stats();
    loop_poll_free(serve.signals);
    target_server_close(serve.server, 2 * SEC_NS, server_closed, NULL);
}

static void usage(void)
{
    fprintf(stderr,
            "target_serve [options] LUN...     LUN: mem:SIZE[:CAPACITY], PATH, "
            "layer:PATH,\n"
            "                                  and with ,create=SIZE after a PATH\n"
            "  --listen ADDRESS:PORT   127.0.0.1:0\n"
            "  --name IQN              iqn.2026-11.io.smirror:test\n"
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
    for (; optind < argc && serve.n_luns < MAX_LUNS; optind++) {
        serve.specs[serve.n_luns++] = argv[optind];
    }
    if (serve.n_luns == 0) {
        usage();
    }
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    serve.signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    CHECK(loop_new("owner", &serve.owner) == 0);
    CHECK(loop_new("data", &serve.data) == 0);
    CHECK(loop_poll_new(serve.owner, serve.signal_fd, signal_came, NULL, &serve.signals) == 0);
    loop_poll_set(serve.signals, LOOP_READ);
    struct target_server_spec spec = {
        .owner = serve.owner,
        .loops = &serve.data,
        .n_loops = 1,
        .limits = serve.limits,
        .chap_algorithms = serve.chap,
        .events = {.reservations_changed = serve.reservations ? reservations_changed : NULL},
    };
    CHECK(target_server_new(&spec, &serve.server) == 0);
    CHECK(loop_thread_start(serve.data) == 0);
    serve.open_task = (struct loop_task){.fn = open_devices};
    loop_post(serve.data, &serve.open_task);
    loop_run(serve.owner);
    loop_thread_join(serve.data);
    layer_cache_free(serve.cache);
    target_server_free(serve.server);
    loop_free(serve.data);
    loop_free(serve.owner);
    close(serve.signal_fd);
    return 0;
}
