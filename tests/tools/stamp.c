// SPDX-License-Identifier: Apache-2.0
/*
 * Stamped random I/O on LUNs, and what they may hold: a host that knows for every block which contents are allowed, also
 * after its array was killed.
 *
 *     stamp [--seed N]                    commands on standard input, one answer line each
 *
 *     volume NAME URL SESSIONS DEPTH      a LUN that reads as zeros
 *     clone NAME MARK URL SESSIONS DEPTH  a LUN whose content is that of a mark: read, compared, and from then on a volume
 *     run NAME | pause NAME               I/O goes on by itself; pause answers when nothing is under way any more
 *     mark NAME MARK | marked NAME MARK   around a request that makes a snapshot: what the snapshot may hold
 *     copy MARK NEW | forget MARK
 *     check MARK URL                      the LUN at URL holds what the mark allows, block by block; the next time, the same
 *     verify NAME URL                     a paused volume holds what it has to
 *     restored NAME MARK URL              a paused volume has got the content of a mark
 *     reconnect NAME URL [all]            after the array was away: every block that was flushed is there, others are old or
 *                                         new; all: every block whose write was answered
 *     drop NAME | stats NAME | quit
 *
 * An answer is "ok ...", "lost ..." (the array is away) or "bad ..." (the data is wrong, which ends the program with 1).
 *
 * Each write of a block has a number, one more than the last; what is written follows from volume, block and number, some
 * numbers are discards. Three numbers a block are kept: the last issued, the last completed, the last that a flush
 * covers. What may be read is then a range of numbers, and below it the block's content when that was last read in peace.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

enum {
    BLOCK = 4096,
    LBAS = BLOCK / 512,
    MAX_RUN = 16,
    MAX_SESSIONS = 16,
    MAX_DEPTH = 128,
    PIECE = 256, /* blocks of a read that compares */
    WORDS = BLOCK / 8,
};

#define MAGIC UINT64_C(0x31706d6174736273)

/* What a block held when it was read in peace. Writer 0: zeros. */
struct base {
    uint32_t writer;
    uint32_t number;
};

/* What a block may hold: numbers from low to high of the writer, and its base while low is below from. */
struct bounds {
    uint32_t low;
    uint32_t high;
    uint32_t from;
    struct base base;
};

struct mark {
    struct mark *next;
    char name[64];
    uint32_t writer;
    uint64_t n_blocks;
    struct bounds *blocks;
};

enum kind { OP_WRITE, OP_READ, OP_FLUSH, OP_DISCARD };

struct volume;

struct op {
    struct volume *volume;
    struct session *session;
    enum kind kind;
    bool busy, fua;
    uint64_t block;
    unsigned n;
    uint32_t numbers[MAX_RUN]; /* of a write its own, of a read the lowest that may be seen */
    uint32_t *completed;       /* of a flush: what it covers */
    unsigned char *data;
    struct unmap_list unmap;
};

struct session {
    struct iscsi_context *iscsi;
    int lun;
    unsigned under_way;
    unsigned since_flush;
    struct op ops[MAX_DEPTH];
};

struct volume {
    struct volume *next;
    char name[64];
    uint32_t writer;
    uint64_t n_blocks;
    unsigned n_sessions, depth;
    bool running, lost;
    unsigned under_way;
    uint32_t *issued, *completed, *durable, *from;
    struct base *base;
    bool *writing;
    uint64_t writes, reads, flushes, discards;
    struct session sessions[MAX_SESSIONS];
};

static struct volume *volumes;
static struct mark *marks;
static uint32_t next_writer = 1;
static uint64_t random_state;

static void bad(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
static void bad(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    printf("bad ");
    vprintf(fmt, args);
    printf("\n");
    va_end(args);
    fflush(stdout);
    exit(1);
}

static void *zalloc(size_t n, size_t size)
{
    void *p = calloc(n, size);

    if (p == NULL) {
        bad("no memory");
    }
    return p;
}

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t random_next(void)
{
    return mix(random_state++);
}

/* ---- contents ---- */

static bool is_discard(uint64_t block, uint32_t number)
{
    return mix(block * 1000003 + number) % 16 == 0;
}

static void content(uint64_t *words, uint32_t writer, uint64_t block, uint32_t number)
{
    uint64_t x = mix(mix(block) ^ ((uint64_t)writer << 32 | number));

    words[0] = MAGIC;
    words[1] = block;
    words[2] = (uint64_t)writer << 32 | number;
    for (unsigned i = 3; i < WORDS; i++) {
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        words[i] = x;
    }
}

/* Which write a block is of, writer 0 for zeros; false: of none. */
static bool content_read(const unsigned char *data, uint64_t block, struct base *ret)
{
    uint64_t words[WORDS];
    uint64_t right[WORDS];

    memcpy(words, data, BLOCK);
    if (words[0] != MAGIC) {
        static const unsigned char zeros[BLOCK];

        *ret = (struct base){0, 0};
        return memcmp(data, zeros, BLOCK) == 0;
    }
    *ret = (struct base){(uint32_t)(words[2] >> 32), (uint32_t)words[2]};
    content(right, ret->writer, block, ret->number);
    return memcmp(words, right, BLOCK) == 0;
}

static bool is_allowed(const struct bounds *bounds, uint32_t writer, uint64_t block,
                       const struct base *found)
{
    uint32_t first = bounds->low > bounds->from ? bounds->low : bounds->from;

    if (bounds->low < bounds->from && found->writer == bounds->base.writer &&
        found->number == bounds->base.number) {
        return true;
    }
    if (found->writer == 0) {
        for (uint32_t number = first; number <= bounds->high; number++) {
            if (is_discard(block, number)) {
                return true;
            }
        }
        return false;
    }
    return found->writer == writer && found->number >= first && found->number <= bounds->high &&
           !is_discard(block, found->number);
}

static struct base block_check(const char *what, const unsigned char *data, uint64_t block,
                               uint32_t writer, const struct bounds *bounds)
{
    struct base found;

    if (!content_read(data, block, &found)) {
        bad("%s: block %" PRIu64 " is neither stamped nor zeros (it says block %" PRIu64
            ", writer %u, number %u)",
            what, block, ((const uint64_t *)(const void *)data)[1], found.writer, found.number);
    }
    if (!is_allowed(bounds, writer, block, &found)) {
        bad("%s: block %" PRIu64 " has writer %u number %u; allowed: writer %u from %u (since %u) "
            "to %u, before that %u/%u",
            what, block, found.writer, found.number, writer, bounds->low, bounds->from,
            bounds->high, bounds->base.writer, bounds->base.number);
    }
    return found;
}

static struct bounds bounds_of(const struct volume *volume, uint64_t block, const uint32_t *low)
{
    return (struct bounds){low[block], volume->issued[block], volume->from[block],
                           volume->base[block]};
}

/* ---- sessions ---- */

static bool url_parse(const char *url, char *portal, char *target, int *lun)
{
    return sscanf(url, "iscsi://%127[^/]/%255[^/]/%d", portal, target, lun) == 3;
}

static struct iscsi_context *session_open(const char *url, int *ret_lun)
{
    char portal[128];
    char target[256];
    char name[64];
    static unsigned n;

    if (!url_parse(url, portal, target, ret_lun)) {
        bad("%s is no address", url);
    }
    snprintf(name, sizeof(name), "iqn.2026-11.test:stamp.%d.%u", (int)getpid(), n++);
    struct iscsi_context *iscsi = iscsi_create_context(name);

    if (iscsi == NULL) {
        bad("no context");
    }
    iscsi_set_targetname(iscsi, target);
    iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_timeout(iscsi, 20);
    iscsi_set_noautoreconnect(iscsi, 1);
    if (iscsi_full_connect_sync(iscsi, portal, *ret_lun) != 0) {
        iscsi_destroy_context(iscsi);
        return NULL;
    }
    return iscsi;
}

static void session_end(struct iscsi_context *iscsi)
{
    iscsi_logout_sync(iscsi);
    iscsi_destroy_context(iscsi);
}

static uint64_t size_of(struct iscsi_context *iscsi, int lun)
{
    for (unsigned i = 0; i < 8; i++) {
        struct scsi_task *task = iscsi_readcapacity16_sync(iscsi, lun);
        struct scsi_readcapacity16 *capacity =
            task != NULL && task->status == SCSI_STATUS_GOOD ? scsi_datain_unmarshall(task) : NULL;
        uint64_t size =
            capacity != NULL ? (capacity->returned_lba + 1) * capacity->block_length : 0;

        if (task != NULL) {
            scsi_free_scsi_task(task);
        }
        if (size != 0) {
            return size;
        }
    }
    return 0;
}

/* Blocks of a LUN, in peace. False: the array is away. */
static bool blocks_read(struct iscsi_context *iscsi, int lun, uint64_t block, unsigned n,
                        unsigned char *data)
{
    for (unsigned i = 0; i < 8; i++) {
        struct scsi_task *task =
            iscsi_read16_sync(iscsi, lun, block * LBAS, n * BLOCK, 512, 0, 0, 0, 0, 0);

        if (task == NULL) {
            return false;
        }
        bool good = task->status == SCSI_STATUS_GOOD;
        bool attention = task->status == SCSI_STATUS_CHECK_CONDITION &&
                         task->sense.key == SCSI_SENSE_UNIT_ATTENTION;

        if (good && task->datain.size != (int)(n * BLOCK)) {
            bad("a read of %u blocks has given %d bytes", n, task->datain.size);
        }
        if (good) {
            memcpy(data, task->datain.data, n * BLOCK);
        } else if (!attention && task->status == SCSI_STATUS_CHECK_CONDITION) {
            bad("a read at block %" PRIu64 " fails: sense %x/%04x", block, task->sense.key,
                task->sense.ascq);
        }
        scsi_free_scsi_task(task);
        if (good || !attention) {
            return good;
        }
    }
    bad("unit attentions without end");
}

/* ---- operations ---- */

static void op_done(struct iscsi_context *iscsi, int status, void *command, void *arg);

static int op_send(struct op *op)
{
    struct iscsi_context *iscsi = op->session->iscsi;
    int lun = op->session->lun;
    struct scsi_task *task = NULL;

    switch (op->kind) {
    case OP_WRITE:
        task = iscsi_write16_task(iscsi, lun, op->block * LBAS, op->data, op->n * BLOCK, 512, 0, 0,
                                  op->fua, 0, 0, op_done, op);
        break;
    case OP_READ:
        task = iscsi_read16_task(iscsi, lun, op->block * LBAS, op->n * BLOCK, 512, 0, 0, 0, 0, 0,
                                 op_done, op);
        break;
    case OP_FLUSH:
        task = iscsi_synchronizecache16_task(iscsi, lun, 0, 0, 0, 0, op_done, op);
        break;
    case OP_DISCARD:
        op->unmap = (struct unmap_list){op->block * LBAS, LBAS};
        task = iscsi_unmap_task(iscsi, lun, 0, 0, &op->unmap, 1, op_done, op);
        break;
    }
    return task != NULL ? 0 : -1;
}

static void write_completed(struct op *op)
{
    struct volume *volume = op->volume;

    for (unsigned i = 0; i < op->n; i++) {
        volume->completed[op->block + i] = op->numbers[i];
        if (op->fua) {
            volume->durable[op->block + i] = op->numbers[i];
        }
    }
}

static void read_completed(struct op *op, struct scsi_task *task)
{
    struct volume *volume = op->volume;

    if (task->datain.size != (int)(op->n * BLOCK)) {
        bad("%s: a read of %u blocks has given %d bytes", volume->name, op->n, task->datain.size);
    }
    for (unsigned i = 0; i < op->n; i++) {
        uint64_t block = op->block + i;
        struct bounds bounds = bounds_of(volume, block, volume->completed);

        bounds.low = op->numbers[i];
        block_check(volume->name, task->datain.data + (size_t)i * BLOCK, block, volume->writer,
                    &bounds);
    }
}

static void flush_completed(struct op *op)
{
    struct volume *volume = op->volume;

    for (uint64_t i = 0; i < volume->n_blocks; i++) {
        if (volume->durable[i] < op->completed[i]) {
            volume->durable[i] = op->completed[i];
        }
    }
}

static void op_end(struct op *op)
{
    if (op->kind == OP_WRITE || op->kind == OP_DISCARD) {
        memset(op->volume->writing + op->block, 0, op->n * sizeof(bool));
    }
    op->busy = false;
    op->session->under_way--;
    op->volume->under_way--;
}

static void op_done(struct iscsi_context *iscsi, int status, void *command, void *arg)
{
    struct op *op = arg;
    struct scsi_task *task = command;
    struct volume *volume = op->volume;

    (void)iscsi;
    if (status == SCSI_STATUS_CHECK_CONDITION && task->sense.key == SCSI_SENSE_UNIT_ATTENTION) {
        /* It was not done. */
        if (op_send(op) != 0) {
            volume->lost = true;
            op_end(op);
        }
        scsi_free_scsi_task(task);
        return;
    }
    if (status == SCSI_STATUS_GOOD) {
        switch (op->kind) {
        case OP_WRITE:
        case OP_DISCARD:
            write_completed(op);
            break;
        case OP_READ:
            read_completed(op, task);
            break;
        case OP_FLUSH:
            flush_completed(op);
            break;
        }
    } else if (status == SCSI_STATUS_CHECK_CONDITION) {
        bad("%s: %s of %u blocks at %" PRIu64 " fails: sense %x/%04x", volume->name,
            op->kind == OP_READ    ? "a read"
            : op->kind == OP_FLUSH ? "a flush"
                                   : "a write",
            op->n, op->block, task->sense.key, task->sense.ascq);
    } else {
        volume->lost = true;
    }
    op_end(op);
    if (task != NULL) {
        scsi_free_scsi_task(task);
    }
}

static void prepare_write(struct op *op)
{
    struct volume *volume = op->volume;
    unsigned wanted = 1 + (unsigned)(random_next() % (random_next() % 4 == 0 ? MAX_RUN : 2));

    op->n = 0;
    op->fua = random_next() % 32 == 0;
    op->kind = is_discard(op->block, volume->issued[op->block] + 1) ? OP_DISCARD : OP_WRITE;
    if (op->kind == OP_DISCARD) {
        op->fua = false;
        wanted = 1;
    }
    while (op->n < wanted && op->block + op->n < volume->n_blocks) {
        uint64_t block = op->block + op->n;
        uint32_t number = volume->issued[block] + 1;

        if (volume->writing[block] || (op->n > 0 && is_discard(block, number))) {
            break;
        }
        volume->issued[block] = number;
        volume->writing[block] = true;
        op->numbers[op->n] = number;
        if (op->kind == OP_WRITE) {
            content((uint64_t *)(void *)(op->data + (size_t)op->n * BLOCK), volume->writer, block,
                    number);
        }
        op->n++;
    }
    *(op->kind == OP_WRITE ? &volume->writes : &volume->discards) += 1;
}

static void prepare_read(struct op *op)
{
    struct volume *volume = op->volume;

    op->kind = OP_READ;
    op->n = 1 + (unsigned)(random_next() % 8);
    if (op->block + op->n > volume->n_blocks) {
        op->n = (unsigned)(volume->n_blocks - op->block);
    }
    memcpy(op->numbers, volume->completed + op->block, op->n * sizeof(uint32_t));
    volume->reads++;
}

static void prepare_flush(struct op *op)
{
    struct volume *volume = op->volume;

    op->kind = OP_FLUSH;
    op->n = 0;
    memcpy(op->completed, volume->completed, volume->n_blocks * sizeof(uint32_t));
    op->session->since_flush = 0;
    volume->flushes++;
}

static void op_begin(struct volume *volume, struct session *session, struct op *op)
{
    op->volume = volume;
    op->session = session;
    op->block = random_next() % volume->n_blocks;
    if (op->completed == NULL) {
        op->completed = zalloc(volume->n_blocks, sizeof(uint32_t));
        op->data = zalloc(MAX_RUN, BLOCK);
    }
    if (++session->since_flush > 100 + random_next() % 200) {
        prepare_flush(op);
    } else if (random_next() % 10 < 3 || volume->writing[op->block]) {
        prepare_read(op);
    } else {
        prepare_write(op);
    }
    op->busy = true;
    session->under_way++;
    volume->under_way++;
    if (op_send(op) != 0) {
        volume->lost = true;
        op_end(op);
    }
}

static void volume_fill(struct volume *volume)
{
    for (unsigned s = 0; s < volume->n_sessions; s++) {
        struct session *session = &volume->sessions[s];

        for (unsigned i = 0; i < volume->depth && volume->running && !volume->lost; i++) {
            if (!session->ops[i].busy) {
                op_begin(volume, session, &session->ops[i]);
            }
        }
    }
}

/* Everything that was under way is answered with "cancelled". */
static void volume_disconnect(struct volume *volume, bool logout)
{
    for (unsigned s = 0; s < volume->n_sessions; s++) {
        struct session *session = &volume->sessions[s];

        if (session->iscsi != NULL) {
            if (logout) {
                iscsi_logout_sync(session->iscsi);
            }
            iscsi_destroy_context(session->iscsi);
            session->iscsi = NULL;
        }
        for (unsigned i = 0; i < volume->depth; i++) {
            if (session->ops[i].busy) {
                op_end(&session->ops[i]);
            }
        }
    }
}

static bool volume_connect(struct volume *volume, const char *url)
{
    for (unsigned s = 0; s < volume->n_sessions; s++) {
        struct session *session = &volume->sessions[s];

        session->iscsi = session_open(url, &session->lun);
        if (session->iscsi == NULL) {
            volume_disconnect(volume, false);
            return false;
        }
    }
    volume->lost = false;
    return true;
}

/* Waits for standard input or any session; serves the sessions. Returns whether there is input. */
static bool serve(int timeout_ms)
{
    struct pollfd fds[1 + 16 * MAX_SESSIONS];
    struct session *sessions[1 + 16 * MAX_SESSIONS];
    struct volume *owners[1 + 16 * MAX_SESSIONS];
    nfds_t n = 1;

    fds[0] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    for (struct volume *volume = volumes; volume != NULL; volume = volume->next) {
        volume_fill(volume);
        for (unsigned s = 0; s < volume->n_sessions && !volume->lost; s++) {
            struct session *session = &volume->sessions[s];

            if (n < sizeof(fds) / sizeof(fds[0])) {
                fds[n] = (struct pollfd){.fd = iscsi_get_fd(session->iscsi),
                                         .events = (short)iscsi_which_events(session->iscsi)};
                sessions[n] = session;
                owners[n++] = volume;
            }
        }
    }
    if (poll(fds, n, timeout_ms) < 0 && errno != EINTR) {
        bad("poll: %s", strerror(errno));
    }
    for (nfds_t i = 1; i < n; i++) {
        if (!owners[i]->lost && fds[i].revents != 0 &&
            iscsi_service(sessions[i]->iscsi, fds[i].revents) < 0) {
            owners[i]->lost = true;
        }
    }
    for (struct volume *volume = volumes; volume != NULL; volume = volume->next) {
        if (volume->lost && volume->sessions[0].iscsi != NULL) {
            volume_disconnect(volume, false);
        }
    }
    return fds[0].revents != 0;
}

/* ---- whole LUNs ---- */

typedef void (*piece_fn)(void *arg, uint64_t block, const unsigned char *data);

static bool each_block(const char *url, uint64_t n_blocks, piece_fn fn, void *arg)
{
    unsigned char *data = zalloc(PIECE, BLOCK);
    int lun = 0;
    struct iscsi_context *iscsi = session_open(url, &lun);
    bool good = iscsi != NULL;

    if (good && size_of(iscsi, lun) < n_blocks * BLOCK) {
        bad("%s has %" PRIu64 " bytes, not %" PRIu64, url, size_of(iscsi, lun), n_blocks * BLOCK);
    }
    for (uint64_t block = 0; good && block < n_blocks; block += PIECE) {
        unsigned n = n_blocks - block < PIECE ? (unsigned)(n_blocks - block) : PIECE;

        good = blocks_read(iscsi, lun, block, n, data);
        for (unsigned i = 0; good && i < n; i++) {
            fn(arg, block + i, data + (size_t)i * BLOCK);
        }
    }
    if (good) {
        session_end(iscsi);
    } else if (iscsi != NULL) {
        iscsi_destroy_context(iscsi);
    }
    free(data);
    return good;
}

static struct mark *mark_find(const char *name)
{
    for (struct mark *mark = marks; mark != NULL; mark = mark->next) {
        if (strcmp(mark->name, name) == 0) {
            return mark;
        }
    }
    bad("there is no mark %s", name);
}

static void mark_free(struct mark *mark)
{
    struct mark **at = &marks;

    while (*at != mark) {
        at = &(*at)->next;
    }
    *at = mark->next;
    free(mark->blocks);
    free(mark);
}

static struct mark *mark_new(const char *name, uint32_t writer, uint64_t n_blocks)
{
    for (struct mark *old = marks; old != NULL; old = old->next) {
        if (strcmp(old->name, name) == 0) {
            mark_free(old);
            break;
        }
    }
    struct mark *mark = zalloc(1, sizeof(*mark));

    snprintf(mark->name, sizeof(mark->name), "%s", name);
    mark->writer = writer;
    mark->n_blocks = n_blocks;
    mark->blocks = zalloc(n_blocks, sizeof(*mark->blocks));
    mark->next = marks;
    marks = mark;
    return mark;
}

/* And from now on it is that, whatever happens. */
static void mark_check_block(void *arg, uint64_t block, const unsigned char *data)
{
    struct mark *mark = arg;
    struct bounds *bounds = &mark->blocks[block];

    bounds->base = block_check(mark->name, data, block, mark->writer, bounds);
    bounds->low = bounds->high = 0;
    bounds->from = 1;
}

struct reading {
    struct volume *volume;
    const struct mark *mark;
    const uint32_t *low;
    uint64_t older; /* blocks that are not what was written last */
};

/* What is read is what the block holds from now on. */
static void volume_take_block(void *arg, uint64_t block, const unsigned char *data)
{
    struct reading *reading = arg;
    struct volume *volume = reading->volume;
    struct bounds bounds = reading->mark != NULL ? reading->mark->blocks[block]
                                                 : bounds_of(volume, block, reading->low);
    uint32_t writer = reading->mark != NULL ? reading->mark->writer : volume->writer;
    struct base found = block_check(volume->name, data, block, writer, &bounds);

    reading->older += found.writer == volume->writer && found.number < volume->issued[block];
    volume->base[block] = found;
    volume->from[block] = volume->issued[block] + 1;
    volume->completed[block] = volume->durable[block] = volume->issued[block];
}

/* ---- commands ---- */

static struct volume *volume_find(const char *name)
{
    for (struct volume *volume = volumes; volume != NULL; volume = volume->next) {
        if (strcmp(volume->name, name) == 0) {
            return volume;
        }
    }
    bad("there is no volume %s", name);
}

static void answer(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void answer(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
}

static void volume_free(struct volume *volume)
{
    struct volume **at = &volumes;

    while (*at != volume) {
        at = &(*at)->next;
    }
    *at = volume->next;
    volume->running = false;
    volume_disconnect(volume, !volume->lost && volume->under_way == 0);
    for (unsigned s = 0; s < volume->n_sessions; s++) {
        for (unsigned i = 0; i < volume->depth; i++) {
            free(volume->sessions[s].ops[i].completed);
            free(volume->sessions[s].ops[i].data);
        }
    }
    free(volume->issued);
    free(volume->completed);
    free(volume->durable);
    free(volume->from);
    free(volume->base);
    free(volume->writing);
    free(volume);
}

static void do_volume(const char *name, const char *mark_name, const char *url, unsigned n_sessions,
                      unsigned depth)
{
    struct volume *volume = zalloc(1, sizeof(*volume));

    if (n_sessions == 0 || n_sessions > MAX_SESSIONS || depth == 0 || depth > MAX_DEPTH) {
        bad("1 to %d sessions of 1 to %d", MAX_SESSIONS, MAX_DEPTH);
    }
    snprintf(volume->name, sizeof(volume->name), "%s", name);
    volume->writer = next_writer++;
    volume->n_sessions = n_sessions;
    volume->depth = depth;
    volume->next = volumes;
    volumes = volume;
    bool good = volume_connect(volume, url);

    volume->n_blocks =
        good ? size_of(volume->sessions[0].iscsi, volume->sessions[0].lun) / BLOCK : 0;
    volume->issued = zalloc(volume->n_blocks + 1, sizeof(uint32_t));
    volume->completed = zalloc(volume->n_blocks + 1, sizeof(uint32_t));
    volume->durable = zalloc(volume->n_blocks + 1, sizeof(uint32_t));
    volume->from = zalloc(volume->n_blocks + 1, sizeof(uint32_t));
    volume->base = zalloc(volume->n_blocks + 1, sizeof(struct base));
    volume->writing = zalloc(volume->n_blocks + 1, sizeof(bool));
    if (good && mark_name != NULL) {
        struct reading reading = {.volume = volume, .mark = mark_find(mark_name)};

        volume->n_blocks = reading.mark->n_blocks;
        good = each_block(url, volume->n_blocks, volume_take_block, &reading);
    }
    for (uint64_t i = 0; i < volume->n_blocks && mark_name == NULL; i++) {
        volume->from[i] = 1;
    }
    if (!good || volume->n_blocks == 0) {
        volume->lost = true;
        volume_free(volume);
        answer("lost %s", name);
    } else {
        answer("ok %" PRIu64 " blocks", volume->n_blocks);
    }
}

static void do_pause(struct volume *volume)
{
    volume->running = false;
    while (volume->under_way > 0 && !volume->lost) {
        serve(1000);
    }
    answer(volume->lost ? "lost %s" : "ok %s", volume->name);
}

static void do_mark(struct volume *volume, const char *name)
{
    struct mark *mark = mark_new(name, volume->writer, volume->n_blocks);

    for (uint64_t i = 0; i < volume->n_blocks; i++) {
        mark->blocks[i] = bounds_of(volume, i, volume->completed);
    }
    answer("ok %s", name);
}

static void do_marked(struct volume *volume, struct mark *mark)
{
    for (uint64_t i = 0; i < volume->n_blocks; i++) {
        mark->blocks[i].high = volume->issued[i];
    }
    answer("ok %s", mark->name);
}

static void do_copy(const struct mark *from, const char *name)
{
    struct mark *mark = mark_new(name, from->writer, from->n_blocks);

    memcpy(mark->blocks, from->blocks, from->n_blocks * sizeof(*mark->blocks));
    answer("ok %s", name);
}

static void do_check(struct mark *mark, const char *url)
{
    if (each_block(url, mark->n_blocks, mark_check_block, mark)) {
        answer("ok %" PRIu64 " blocks", mark->n_blocks);
    } else {
        answer("lost %s", mark->name);
    }
}

/* low: completed (nothing happened to the array), or what was flushed. */
static void do_take(struct volume *volume, const struct mark *mark, const char *url,
                    const uint32_t *low)
{
    struct reading reading = {.volume = volume, .mark = mark, .low = low};

    if (volume->under_way > 0) {
        bad("%s is not paused", volume->name);
    }
    if (each_block(url, volume->n_blocks, volume_take_block, &reading)) {
        answer("ok %" PRIu64 " older", reading.older);
    } else {
        answer("lost %s", volume->name);
    }
}

static void do_reconnect(struct volume *volume, const char *url, bool all)
{
    bool was_running = volume->running;

    volume->running = false;
    volume_disconnect(volume, false);
    volume->lost = true;
    if (!volume_connect(volume, url)) {
        answer("lost %s", volume->name);
        return;
    }
    volume->running = was_running;
    do_take(volume, NULL, url, all ? volume->completed : volume->durable);
}

static bool command(char *line)
{
    char word[5][320];
    int n =
        sscanf(line, "%319s %319s %319s %319s %319s", word[0], word[1], word[2], word[3], word[4]);
    const char *verb = n > 0 ? word[0] : "";
    unsigned depth = 0;

    if (strcmp(verb, "volume") == 0 && n == 5) {
        do_volume(word[1], NULL, word[2], (unsigned)atoi(word[3]), (unsigned)atoi(word[4]));
    } else if (strcmp(verb, "clone") == 0 && n == 5 &&
               sscanf(line, "%*s %*s %*s %*s %*s %u", &depth) == 1) {
        do_volume(word[1], word[2], word[3], (unsigned)atoi(word[4]), depth);
    } else if (strcmp(verb, "run") == 0 && n == 2) {
        volume_find(word[1])->running = true;
        answer("ok %s", word[1]);
    } else if (strcmp(verb, "pause") == 0 && n == 2) {
        do_pause(volume_find(word[1]));
    } else if (strcmp(verb, "mark") == 0 && n == 3) {
        do_mark(volume_find(word[1]), word[2]);
    } else if (strcmp(verb, "marked") == 0 && n == 3) {
        do_marked(volume_find(word[1]), mark_find(word[2]));
    } else if (strcmp(verb, "copy") == 0 && n == 3) {
        do_copy(mark_find(word[1]), word[2]);
    } else if (strcmp(verb, "forget") == 0 && n == 2) {
        mark_free(mark_find(word[1]));
        answer("ok %s", word[1]);
    } else if (strcmp(verb, "check") == 0 && n == 3) {
        do_check(mark_find(word[1]), word[2]);
    } else if (strcmp(verb, "verify") == 0 && n == 3) {
        struct volume *volume = volume_find(word[1]);

        do_take(volume, NULL, word[2], volume->completed);
    } else if (strcmp(verb, "restored") == 0 && n == 4) {
        do_take(volume_find(word[1]), mark_find(word[2]), word[3], NULL);
    } else if (strcmp(verb, "reconnect") == 0 && n >= 3) {
        do_reconnect(volume_find(word[1]), word[2], n == 4 && strcmp(word[3], "all") == 0);
    } else if (strcmp(verb, "drop") == 0 && n == 2) {
        volume_free(volume_find(word[1]));
        answer("ok %s", word[1]);
    } else if (strcmp(verb, "stats") == 0 && n == 2) {
        const struct volume *volume = volume_find(word[1]);

        answer("ok %" PRIu64 " writes %" PRIu64 " reads %" PRIu64 " flushes %" PRIu64 " discards",
               volume->writes, volume->reads, volume->flushes, volume->discards);
    } else if (strcmp(verb, "quit") == 0) {
        return false;
    } else {
        bad("not understood: %s", line);
    }
    return true;
}

/* Lines of standard input, as far as they have come. */
static bool commands(void)
{
    static char buffer[4096];
    static size_t filled;
    ssize_t got = read(STDIN_FILENO, buffer + filled, sizeof(buffer) - 1 - filled);
    char *end;

    if (got <= 0) {
        return false;
    }
    filled += (size_t)got;
    buffer[filled] = '\0';
    while ((end = strchr(buffer, '\n')) != NULL) {
        *end = '\0';
        if (!command(buffer)) {
            return false;
        }
        size_t used = (size_t)(end + 1 - buffer);

        memmove(buffer, end + 1, filled - used + 1);
        filled -= used;
    }
    return true;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN); /* libiscsi writes to sockets that the array has left */
    random_state = argc == 3 && strcmp(argv[1], "--seed") == 0 ? strtoull(argv[2], NULL, 0) : 1;
    random_state = mix(random_state);
    while (!serve(1000) || commands()) {
    }
    while (volumes != NULL) {
        volume_free(volumes);
    }
    while (marks != NULL) {
        mark_free(marks);
    }
    return 0;
}
