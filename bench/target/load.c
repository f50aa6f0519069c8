// SPDX-License-Identifier: Apache-2.0
/*
 * Load for one LUN, by libiscsi, and whether the data is right.
 *
 *     bench_target_load URL [PID [plain]]
 *
 * Reads commands from standard input, a line each, and answers each with a line of JSON:
 *
 *     fill                                                     writes the whole LUN
 *     run PATTERN BYTES DEPTH SESSIONS SECONDS WRITES [blind]  PATTERN: random or sequential,
 *                                                              WRITES: percent of the requests
 *     verify                                                   reads the whole LUN, compares all
 *
 * What every 4 KiB block must hold is kept from command to command. Reads of a run compare the
 * stamps of each sector; verify compares every byte. blind: the LUN keeps nothing (null backing).
 * A run of S seconds is not counted for its first tenth. With PID, the processor time of that
 * process is told, too. Anything that goes wrong ends the program with a message.
 *
 * plain: libiscsi makes its socket calls itself (see sockets.h).
 *
 * A block that is under way is not asked for again meanwhile, so that it is always known what a
 * read must find.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include "../api/histogram.h"
#include "sockets.h"
#include "stamp.h"

enum { MAX_SESSIONS = 16, MAX_DEPTH = 256, SILENCE_MS = 20000, TOO_LONG = 1000 };

struct session;

struct slot {
    struct session *session;
    struct scsi_iovec iov;
    uint8_t *data;
    uint64_t first; /* STAMP_BLOCK of the LUN */
    uint64_t n_blocks;
    bool write;
    uint64_t began_ns;
};

struct session {
    struct iscsi_context *iscsi;
    struct slot slots[MAX_DEPTH];
};

/* One command of standard input. */
struct run {
    bool random;
    bool blind;
    bool whole; /* ends when every block was met once */
    bool thorough;
    size_t bytes;
    unsigned depth;
    unsigned sessions;
    unsigned writes_percent;
    uint64_t count_from_ns;
    uint64_t end_ns; /* no new requests */
    uint64_t next;   /* sequential */
    unsigned inflight;

    enum { STAGE_WARMING, STAGE_COUNTING, STAGE_OVER } stage;
    uint64_t ops, done_bytes;
    uint64_t counted_ns; /* when it began, then how long it was; so the other two */
    uint64_t target_cpu_ns, own_cpu_ns;
    struct histogram latency;
};

static struct {
    const char *url_text;
    struct iscsi_url *url;
    pid_t pid;
    bool plain;
    uint64_t n_blocks;
    uint32_t block_bytes;
    uint32_t *sequence; /* what a block holds, 0: nothing was written */
    uint8_t *busy;
    uint64_t chance;
    uint32_t writes;
    struct session sessions[MAX_SESSIONS];
} load;

static struct run run;

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "bench_target_load: %s: ", load.url_text);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static uint64_t cpu_ns(pid_t pid)
{
    struct timespec ts = {0};
    clockid_t id = CLOCK_PROCESS_CPUTIME_ID;
    if (pid) {
        id = (clockid_t)((~(unsigned)pid << 3) | 2); /* the kernel's CPUCLOCK_SCHED of it */
    }
    if (clock_gettime(id, &ts) < 0) {
        fail("process %d has no clock", (int)pid);
    }
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t chance(uint64_t below)
{
    load.chance ^= load.chance << 13;
    load.chance ^= load.chance >> 7;
    load.chance ^= load.chance << 17;
    return (uint64_t)(((unsigned __int128)load.chance * below) >> 64);
}

/* ---- sessions ---- */

static void session_open(struct session *session, size_t bytes, unsigned depth)
{
    struct iscsi_context *iscsi = iscsi_create_context("iqn.2026-11.test.bench:load");
    if (!iscsi) {
        fail("out of memory");
    }
    iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_header_digest(iscsi, ISCSI_HEADER_DIGEST_NONE);
    iscsi_set_targetname(iscsi, load.url->target);
    iscsi_set_noautoreconnect(iscsi, 1);
    if (iscsi_full_connect_sync(iscsi, load.url->portal, load.url->lun) != 0) {
        fail("login: %s", iscsi_get_error(iscsi));
    }
    session->iscsi = iscsi;
    if (!load.plain) {
        sockets_gather(iscsi_get_fd(iscsi));
    }
    for (unsigned i = 0; i < depth; i++) {
        struct slot *slot = &session->slots[i];
        slot->session = session;
        slot->data = aligned_alloc(STAMP_BLOCK, bytes);
        if (!slot->data) {
            fail("out of memory");
        }
        stamp_prepare(slot->data, bytes);
        slot->iov = (struct scsi_iovec){.iov_base = slot->data, .iov_len = bytes};
    }
}

static void session_close(struct session *session, unsigned depth)
{
    sockets_release(iscsi_get_fd(session->iscsi));
    iscsi_logout_sync(session->iscsi);
    iscsi_destroy_context(session->iscsi);
    for (unsigned i = 0; i < depth; i++) {
        free(session->slots[i].data);
    }
    memset(session, 0, sizeof(*session));
}

static void read_capacity(void)
{
    session_open(&load.sessions[0], STAMP_BLOCK, 1);
    sockets_release(iscsi_get_fd(load.sessions[0].iscsi));
    struct scsi_task *task = iscsi_readcapacity16_sync(load.sessions[0].iscsi, load.url->lun);
    struct scsi_readcapacity16 *answer =
        task && task->status == SCSI_STATUS_GOOD ? scsi_datain_unmarshall(task) : NULL;
    if (!answer) {
        fail("READ CAPACITY: %s", iscsi_get_error(load.sessions[0].iscsi));
    }
    load.block_bytes = answer->block_length;
    load.n_blocks = (answer->returned_lba + 1) * answer->block_length / STAMP_BLOCK;
    scsi_free_scsi_task(task);
    session_close(&load.sessions[0], 1);
    load.sequence = calloc(load.n_blocks, sizeof(*load.sequence));
    load.busy = calloc(load.n_blocks, 1);
    if (!load.sequence || !load.busy) {
        fail("out of memory");
    }
}

/* ---- requests ---- */

static void slot_start(struct slot *slot);

static bool is_busy(uint64_t first, uint64_t n)
{
    for (uint64_t i = first; i < first + n; i++) {
        if (load.busy[i]) {
            return true;
        }
    }
    return false;
}

/* False: there is nothing left to do. */
static bool choose(struct slot *slot)
{
    uint64_t n = run.bytes / STAMP_BLOCK;
    uint64_t places = load.n_blocks / n;
    if (run.whole ? run.next == places : clock_ns() >= run.end_ns) {
        return false;
    }
    do {
        slot->first = (run.random ? chance(places) : run.next++ % places) * n;
    } while (is_busy(slot->first, n));
    slot->n_blocks = n;
    slot->write = chance(100) < run.writes_percent;
    memset(load.busy + slot->first, 1, n);
    return true;
}

static void look(const struct slot *slot)
{
    for (uint64_t i = 0; i < slot->n_blocks; i++) {
        const uint8_t *data = slot->data + i * STAMP_BLOCK;
        uint64_t block = slot->first + i;
        bool right = run.thorough ? stamp_compare(data, block, load.sequence[block])
                                  : stamp_check(data, block, load.sequence[block]);
        if (!right) {
            fail("block %" PRIu64 " does not hold what was written (sequence %" PRIu32 ")", block,
                 load.sequence[block]);
        }
    }
}

static void stage_end(uint64_t now)
{
    run.stage = STAGE_OVER;
    run.counted_ns = now - run.counted_ns;
    run.target_cpu_ns = (load.pid ? cpu_ns(load.pid) : 0) - run.target_cpu_ns;
    run.own_cpu_ns = cpu_ns(0) - run.own_cpu_ns;
}

static void count(const struct slot *slot, uint64_t now)
{
    if (run.stage == STAGE_WARMING && now >= run.count_from_ns) {
        run.stage = STAGE_COUNTING;
        run.counted_ns = now;
        run.target_cpu_ns = load.pid ? cpu_ns(load.pid) : 0;
        run.own_cpu_ns = cpu_ns(0);
    } else if (run.stage == STAGE_COUNTING) {
        run.ops++;
        run.done_bytes += slot->iov.iov_len;
        histogram_add(&run.latency, now - slot->began_ns);
        if (now >= run.end_ns) {
            stage_end(now);
        }
    }
}

static void slot_done(struct iscsi_context *iscsi, int status, void *command_data, void *arg)
{
    struct scsi_task *task = command_data;
    struct slot *slot = arg;
    if (status != SCSI_STATUS_GOOD) {
        fail("%s of block %" PRIu64 " gave %d: %s", slot->write ? "write" : "read", slot->first,
             status, iscsi_get_error(iscsi));
    }
    if (task->residual_status != SCSI_RESIDUAL_NO_RESIDUAL) {
        fail("a residual of %zu bytes", task->residual);
    }
    scsi_free_scsi_task(task);
    count(slot, clock_ns());
    if (!slot->write && !run.blind) {
        look(slot);
    }
    memset(load.busy + slot->first, 0, slot->n_blocks);
    run.inflight--;
    slot_start(slot);
}

static void slot_start(struct slot *slot)
{
    struct iscsi_context *iscsi = slot->session->iscsi;
    if (!choose(slot)) {
        return;
    }
    uint64_t lba = slot->first * STAMP_BLOCK / load.block_bytes;
    uint32_t len = (uint32_t)slot->iov.iov_len;
    struct scsi_task *task;
    if (slot->write) {
        load.writes++;
        for (uint64_t i = 0; i < slot->n_blocks; i++) {
            load.sequence[slot->first + i] = load.writes;
            stamp_put(slot->data + i * STAMP_BLOCK, slot->first + i, load.writes);
        }
        slot->began_ns = clock_ns();
        task = iscsi_write16_iov_task(iscsi, load.url->lun, lba, NULL, len, (int)load.block_bytes,
                                      0, 0, 0, 0, 0, slot_done, slot, &slot->iov, 1);
    } else {
        slot->began_ns = clock_ns();
        task = iscsi_read16_iov_task(iscsi, load.url->lun, lba, len, (int)load.block_bytes, 0, 0, 0,
                                     0, 0, slot_done, slot, &slot->iov, 1);
    }
    if (!task) {
        fail("%s", iscsi_get_error(iscsi));
    }
    run.inflight++;
}

static void serve(struct iscsi_context *iscsi, int events)
{
    if (iscsi_service(iscsi, events) < 0) {
        fail("%s", iscsi_get_error(iscsi));
    }
}

/* Sends what the answers before have brought, waits for answers, takes them. */
static void serve_sessions(void)
{
    struct pollfd fds[MAX_SESSIONS];
    bool wait = true;
    for (unsigned i = 0; i < run.sessions; i++) {
        struct iscsi_context *iscsi = load.sessions[i].iscsi;
        fds[i].fd = iscsi_get_fd(iscsi);
        if (iscsi_which_events(iscsi) & POLLOUT) {
            serve(iscsi, POLLOUT);
        }
        bool sent = sockets_flush(fds[i].fd) && !(iscsi_which_events(iscsi) & POLLOUT);
        fds[i].events = sent ? POLLIN : POLLIN | POLLOUT;
        wait &= !sockets_has_input(fds[i].fd);
    }
    int n = poll(fds, run.sessions, wait ? SILENCE_MS : 0);
    if (n < 0 || (n == 0 && wait)) {
        fail("no answer for %d s", SILENCE_MS / 1000);
    }
    for (unsigned i = 0; i < run.sessions; i++) {
        if (fds[i].revents & ~POLLOUT || sockets_has_input(fds[i].fd)) {
            serve(load.sessions[i].iscsi, POLLIN);
        }
    }
}

static void perform(void)
{
    for (unsigned i = 0; i < run.sessions; i++) {
        session_open(&load.sessions[i], run.bytes, run.depth);
    }
    for (unsigned i = 0; i < run.sessions; i++) {
        for (unsigned j = 0; j < run.depth; j++) {
            slot_start(&load.sessions[i].slots[j]);
        }
    }
    while (run.inflight > 0) {
        serve_sessions();
    }
    if (run.stage == STAGE_COUNTING) {
        stage_end(clock_ns());
    }
    for (unsigned i = 0; i < run.sessions; i++) {
        session_close(&load.sessions[i], run.depth);
    }
    printf("{\"ops\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"seconds\":%.6f,\"target_cpu\":%.6f,"
           "\"own_cpu\":%.6f,",
           run.ops, run.done_bytes, (double)run.counted_ns / 1e9, (double)run.target_cpu_ns / 1e9,
           (double)run.own_cpu_ns / 1e9);
    histogram_print_json(&run.latency, "latency", stdout);
    printf("}\n");
    fflush(stdout);
}

/* ---- commands ---- */

static void run_whole(bool write)
{
    run = (struct run){
        .whole = true,
        .thorough = !write,
        .bytes = 1 << 20,
        .depth = 4,
        .sessions = 1,
        .writes_percent = write ? 100 : 0,
        .end_ns = UINT64_MAX,
    };
    perform();
}

static bool run_timed(char *words)
{
    char pattern[16];
    char blind[8] = "";
    double seconds;
    run = (struct run){0};
    int n = sscanf(words, "%15s %zu %u %u %lf %u %7s", pattern, &run.bytes, &run.depth,
                   &run.sessions, &seconds, &run.writes_percent, blind);
    if (n < 6 || run.bytes == 0 || run.bytes % STAMP_BLOCK != 0 ||
        run.bytes > load.n_blocks * STAMP_BLOCK || run.depth == 0 || run.depth > MAX_DEPTH ||
        run.sessions == 0 || run.sessions > MAX_SESSIONS || seconds <= 0 || seconds > TOO_LONG) {
        return false;
    }
    run.random = strcmp(pattern, "random") == 0;
    run.blind = strcmp(blind, "blind") == 0;
    uint64_t now = clock_ns();
    run.count_from_ns = now + (uint64_t)(seconds * 1e8);
    run.end_ns = now + (uint64_t)(seconds * 1e9);
    perform();
    return true;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 4 || (argc == 4 && strcmp(argv[3], "plain") != 0)) {
        fprintf(stderr, "usage: bench_target_load URL [PID [plain]]\n");
        return 2;
    }
    load.url_text = argv[1];
    load.pid = argc > 2 ? atoi(argv[2]) : 0;
    load.plain = argc > 3;
    load.chance = 0x853c49e6748fea9bu;
    struct iscsi_context *any = iscsi_create_context("iqn.2026-11.test.bench:url");
    load.url = any ? iscsi_parse_full_url(any, argv[1]) : NULL;
    if (!load.url) {
        fail("not a URL: %s", any ? iscsi_get_error(any) : "out of memory");
    }
    read_capacity();
    char line[256];
    while (fgets(line, sizeof(line), stdin)) {
        if (strncmp(line, "fill", 4) == 0) {
            run_whole(true);
        } else if (strncmp(line, "verify", 6) == 0) {
            run_whole(false);
        } else if (strncmp(line, "run ", 4) != 0 || !run_timed(line + 4)) {
            fail("not a command: %s", line);
        }
    }
    iscsi_destroy_url(load.url);
    iscsi_destroy_context(any);
    free(load.sequence);
    free(load.busy);
    return 0;
}
