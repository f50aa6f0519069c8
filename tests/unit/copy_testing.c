// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/copy_testing.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/list.h"
#include "base/log.h"

enum { SECTOR = 512 };

/* ---- disks ---- */

struct test_disk *test_disk_new(uint64_t size)
{
    struct test_disk *disk = calloc(1, sizeof(*disk));
    CHECK(disk);
    disk->size = size;
    disk->data = calloc(1, size + 1);
    disk->stable = calloc(1, size + 1);
    disk->mapped = calloc(1, size / TEST_PAGE + 1);
    disk->stable_mapped = calloc(1, size / TEST_PAGE + 1);
    disk->dirty = calloc(size / SECTOR + 1, sizeof(uint64_t));
    CHECK(disk->data && disk->stable && disk->mapped && disk->stable_mapped && disk->dirty);
    return disk;
}

void test_disk_free(struct test_disk *disk)
{
    free(disk->data);
    free(disk->stable);
    free(disk->mapped);
    free(disk->stable_mapped);
    free(disk->dirty);
    free(disk);
}

void test_disk_fill(struct test_disk *disk, uint64_t offset, uint64_t len, uint64_t seed)
{
    CHECK(offset <= disk->size && len <= disk->size - offset);
    if (len == 0) {
        return;
    }
    struct random random;
    random_seed(&random, seed);
    random_fill(&random, disk->data + offset, len);
    memcpy(disk->stable + offset, disk->data + offset, len);
    for (uint64_t page = offset / TEST_PAGE; page <= (offset + len - 1) / TEST_PAGE; page++) {
        disk->mapped[page] = disk->stable_mapped[page] = 1;
    }
}

void test_disk_clear(struct test_disk *disk)
{
    memset(disk->data, 0, disk->size);
    memset(disk->stable, 0, disk->size);
    memset(disk->mapped, 0, disk->size / TEST_PAGE + 1);
    memset(disk->stable_mapped, 0, disk->size / TEST_PAGE + 1);
}

static void clean(struct test_disk *disk, uint64_t sector, bool keep)
{
    uint64_t at = sector * SECTOR;
    uint64_t page = at / TEST_PAGE;
    uint64_t len = disk->size - at < SECTOR ? disk->size - at : SECTOR;
    disk->dirty[sector] = 0;
    if (keep) {
        memcpy(disk->stable + at, disk->data + at, len);
        disk->stable_mapped[page] |= disk->mapped[page];
    } else {
        memcpy(disk->data + at, disk->stable + at, len);
        disk->mapped[page] |= disk->stable_mapped[page];
    }
}

/* A page whose sectors are all clean and that is not mapped in the one view is not in the other. */
static void settle_map(struct test_disk *disk)
{
    for (uint64_t page = 0; page <= (disk->size - 1) / TEST_PAGE; page++) {
        uint64_t start = page * TEST_PAGE;
        uint64_t end = start + TEST_PAGE < disk->size ? start + TEST_PAGE : disk->size;
        bool zero = mem_is_zero(disk->stable + start, end - start);
        bool dirty = false;
        for (uint64_t at = start; at < end; at += SECTOR) {
            dirty = dirty || disk->dirty[at / SECTOR] != 0;
        }
        if (!dirty) {
            if (!zero) {
                disk->mapped[page] = 1;
            }
            disk->stable_mapped[page] = disk->mapped[page];
        }
    }
}

void test_disk_lose(struct test_disk *disk, struct random *random)
{
    for (uint64_t sector = 0; sector < (disk->size + SECTOR - 1) / SECTOR; sector++) {
        if (disk->dirty[sector]) {
            clean(disk, sector, random && random_chance(random, 1, 2));
        }
    }
    settle_map(disk);
}

static void disk_flush(struct test_disk *disk, uint64_t sequence)
{
    for (uint64_t sector = 0; sector < (disk->size + SECTOR - 1) / SECTOR; sector++) {
        if (disk->dirty[sector] && disk->dirty[sector] <= sequence) {
            clean(disk, sector, true);
        }
    }
}

static void disk_change(struct test_disk *disk, uint64_t offset, uint64_t len, const uint8_t *data,
                        bool volatile_cache)
{
    uint64_t sequence = ++disk->sequence;
    if (data) {
        memcpy(disk->data + offset, data, len);
    } else {
        memset(disk->data + offset, 0, len);
    }
    for (uint64_t at = offset; at < offset + len; at += SECTOR) {
        if (!disk->dirty[at / SECTOR]) {
            disk->dirty[at / SECTOR] = sequence;
        }
        uint64_t page = at / TEST_PAGE;
        if (data) {
            disk->mapped[page] = 1;
        } else if (page * TEST_PAGE >= offset && (page + 1) * TEST_PAGE <= offset + len) {
            disk->mapped[page] = 0;
        }
    }
    if (!volatile_cache) {
        disk_flush(disk, sequence);
    }
}

void test_disk_forget_counts(struct test_disk *disk)
{
    memset(disk->requests, 0, sizeof(disk->requests));
    memset(disk->bytes, 0, sizeof(disk->bytes));
    disk->most_outstanding = 0;
}

/* ---- devices ---- */

/* One request at the device; its memory is the device's. */
struct test_op {
    struct list link;
    struct test_dev *dev;
    struct block_req *req;
    struct loop_timer timer;
    uint64_t sequence; /* flush: covers what was done up to here */
    int status;        /* as faults decided */
};

struct test_dev {
    struct blockdev base;
    struct test_opener *opener;
    struct test_disk *disk;
    struct list ops; /* outstanding */
    struct list free;
    bool down, changed;
    uint64_t free_at_ns; /* bytes_per_second */
    struct loop_timer up_timer;
    unsigned redials;
    block_close_fn closed;
    void *closed_arg;
    struct loop_task closed_task;
};

static struct test_dev *of_dev(struct blockdev *dev)
{
    return container_of(dev, struct test_dev, base);
}

static uint64_t spread(struct test_dev *dev, uint64_t ns)
{
    return ns == 0 ? 0 : random_below(dev->opener->random, ns + 1);
}

static void answer_map(struct test_dev *dev, struct block_req *req)
{
    const struct test_dev_spec *spec = &dev->opener->spec;
    struct test_disk *disk = dev->disk;
    uint64_t at = req->offset;
    unsigned room = req->max_extents;
    if (spec->map_extents && spec->map_extents < room) {
        room = spec->map_extents;
    }
    while (at < req->offset + req->len && req->n_extents < room) {
        uint64_t end = at;
        bool mapped = disk->mapped[at / TEST_PAGE];
        while (end < dev->base.info.size_bytes && disk->mapped[end / TEST_PAGE] == mapped) {
            end = (end / TEST_PAGE + 1) * TEST_PAGE;
        }
        end = end < dev->base.info.size_bytes ? end : dev->base.info.size_bytes;
        enum block_extent_kind kind = spec->keeps
                                          ? mapped ? BLOCK_EXTENT_KEPT : BLOCK_EXTENT_UNKNOWN
                                      : !mapped           ? BLOCK_EXTENT_ZERO
                                      : spec->map_unknown ? BLOCK_EXTENT_UNKNOWN
                                                          : BLOCK_EXTENT_DATA;
        struct random *random = dev->opener->random;
        if (spec->map_doubts && random_chance(random, 1, spec->map_doubts)) {
            kind = random_chance(random, 1, 2) ? BLOCK_EXTENT_DATA : BLOCK_EXTENT_UNKNOWN;
        }
        req->extents[req->n_extents++] =
            (struct block_extent){.offset = at, .len = end - at, .kind = kind};
        at = end;
    }
}

/* One page after the other, where there is none yet; data NULL: zeros. */
static void fill_change(struct test_disk *disk, uint64_t at, uint64_t len, const uint8_t *data,
                        bool cache)
{
    CHECK(at % TEST_PAGE == 0);
    for (uint64_t done = 0; done < len; done += TEST_PAGE) {
        static const uint8_t zeros[TEST_PAGE];
        uint64_t part = len - done < TEST_PAGE ? len - done : TEST_PAGE;
        if (!disk->mapped[(at + done) / TEST_PAGE]) {
            disk_change(disk, at + done, part, data ? data + done : zeros, cache);
        }
    }
}

/* Does what the request asks. */
static void perform(struct test_dev *dev, struct test_op *op)
{
    struct block_req *req = op->req;
    struct test_disk *disk = dev->disk;
    bool cache = dev->opener->spec.volatile_cache;
    uint64_t at = req->offset;
    if (dev->opener->spec.keeps && (req->op == BLOCK_WRITE || req->op == BLOCK_ZERO)) {
        CHECK(req->op == BLOCK_ZERO || req->n_slices == 1);
        fill_change(disk, at, req->len, req->op == BLOCK_ZERO ? NULL : req->slices[0].data, cache);
        return;
    }
    switch (req->op) {
    case BLOCK_READ:
        for (unsigned i = 0; i < req->n_slices; i++) {
            memcpy(req->slices[i].data, disk->data + at, req->slices[i].len);
            at += req->slices[i].len;
        }
        break;
    case BLOCK_WRITE:
        for (unsigned i = 0; i < req->n_slices; i++) {
            disk_change(disk, at, req->slices[i].len, req->slices[i].data, cache);
            at += req->slices[i].len;
        }
        break;
    case BLOCK_ZERO:
    case BLOCK_DISCARD:
        disk_change(disk, at, req->len, NULL, cache);
        break;
    case BLOCK_FLUSH:
        disk_flush(disk, op->sequence);
        break;
    case BLOCK_MAP:
        if (req->n_extents == 0) {
            answer_map(dev, req);
        }
        break;
    default:
        CHECK(!"an operation");
    }
    if (req->flags & BLOCK_FUA) {
        for (uint64_t s = req->offset / SECTOR; s < (req->offset + req->len) / SECTOR; s++) {
            clean(disk, s, true);
        }
    }
}

static struct block_req *op_end(struct test_op *op)
{
    struct test_dev *dev = op->dev;
    struct block_req *req = op->req;
    loop_timer_stop(&op->timer);
    list_remove(&op->link);
    list_push_back(&dev->free, &op->link);
    dev->disk->outstanding--;
    return req;
}

static void op_due(void *arg)
{
    struct test_op *op = arg;
    struct test_dev *dev = op->dev;
    int status = op->status;
    if (status == 0) {
        perform(dev, op);
        dev->disk->requests[op->req->op]++;
        dev->disk->bytes[op->req->op] += op->req->len;
    }
    blockdev_complete_now(op_end(op), status);
}

/* A lost session: what is outstanding may have happened or not, and the cache may be gone. */
static void lose_session(struct test_dev *dev, int status)
{
    struct random *random = dev->opener->random;
    while (!list_empty(&dev->ops)) {
        struct test_op *op = list_entry(list_first(&dev->ops), struct test_op, link);
        enum block_op kind = op->req->op;
        if ((kind == BLOCK_WRITE || kind == BLOCK_ZERO) && random_chance(random, 1, 2)) {
            perform(dev, op);
        }
        blockdev_complete(op_end(op), status);
    }
    test_disk_lose(dev->disk, dev->opener->spec.lose_all ? NULL : random);
}

static void link_up(void *arg)
{
    struct test_dev *dev = arg;
    if (dev->redials > 0) {
        dev->redials--;
        loop_timer_start(&dev->up_timer, 20 * MS_NS);
        blockdev_emit(&dev->base, BLOCK_EVENT_RETRY, 1, "connection refused");
        return;
    }
    dev->down = false;
    blockdev_emit(&dev->base, BLOCK_EVENT_UP, 1, "connected");
}

static void link_down(struct test_dev *dev, uint64_t down_ns)
{
    if (dev->down) {
        return;
    }
    dev->down = true;
    dev->redials = down_ns > 50 * MS_NS ? 2 : 0;
    loop_timer_start(&dev->up_timer, down_ns);
    /* Which of the two comes first is nobody's promise. */
    bool event_first = random_chance(dev->opener->random, 1, 2);
    if (event_first) {
        blockdev_emit(&dev->base, BLOCK_EVENT_DOWN, 0, "connection lost");
    }
    lose_session(dev, -ENOTCONN);
    if (!event_first) {
        blockdev_emit(&dev->base, BLOCK_EVENT_DOWN, 0, "connection lost");
    }
}

static struct test_fault *hit(struct test_dev *dev, const struct block_req *req)
{
    struct test_opener *opener = dev->opener;
    struct test_fault *found = NULL;
    for (unsigned i = 0; i < opener->n_faults; i++) {
        struct test_fault *fault = &opener->faults[i];
        if (!(fault->ops & TEST_OP(req->op))) {
            continue;
        }
        fault->seen++;
        if (!found && fault->seen >= fault->first && fault->count > 0) {
            fault->count -= fault->count != UINT32_MAX;
            found = fault;
        }
    }
    return found;
}

static void op_link_down(void *arg)
{
    struct test_op *op = arg;
    struct test_dev *dev = op->dev;
    uint64_t down_ns = op->sequence;
    bool silent = op->status == -ESHUTDOWN;
    if (silent) {
        lose_session(dev, -ENOTCONN);
    } else {
        link_down(dev, down_ns);
    }
}

static void dev_submit(struct blockdev *base, struct block_req *req)
{
    struct test_dev *dev = of_dev(base);
    const struct test_dev_spec *spec = &dev->opener->spec;
    /* The copier never has more in flight than the device asked for. */
    CHECK(base->inflight <= base->info.max_inflight);
    if (dev->changed) {
        blockdev_complete(req, -ESTALE);
        return;
    }
    if (dev->down) {
        blockdev_complete(req, -ENOTCONN);
        return;
    }
    struct test_fault *fault = hit(dev, req);
    CHECK(!list_empty(&dev->free));
    struct test_op *op = list_entry(list_pop_front(&dev->free), struct test_op, link);
    op->req = req;
    op->status = 0;
    op->sequence = dev->disk->sequence;
    list_push_back(&dev->ops, &op->link);
    dev->disk->outstanding++;
    dev->disk->numbered++;
    if (dev->disk->outstanding > dev->disk->most_outstanding) {
        dev->disk->most_outstanding = dev->disk->outstanding;
    }
    uint64_t delay_ns = spec->delay_ns + spread(dev, spec->delay_spread_ns);
    if (req->op == BLOCK_MAP && spec->map_delay_ns) {
        delay_ns = spec->map_delay_ns;
    }
    if (spec->bytes_per_second && (req->op == BLOCK_READ || req->op == BLOCK_WRITE)) {
        uint64_t now_ns = loop_now_ns(base->loop);
        uint64_t *free_at_ns = spec->line_free_at_ns ? spec->line_free_at_ns : &dev->free_at_ns;
        uint64_t start_ns = *free_at_ns > now_ns ? *free_at_ns : now_ns;
        *free_at_ns = start_ns + req->len * SEC_NS / spec->bytes_per_second;
        delay_ns += *free_at_ns - now_ns;
    }
    loop_timer_init(&op->timer, base->loop, op_due, op);
    if (req->op == BLOCK_MAP && spec->map_early && random_chance(dev->opener->random, 1, 2)) {
        answer_map(dev, req);
    }
    if (fault) {
        if (fault->action == TEST_FAIL) {
            op->status = fault->status;
        } else {
            op->status = fault->action == TEST_SILENT ? -ESHUTDOWN : -ENOTCONN;
            op->sequence = fault->down_ns;
            loop_timer_init(&op->timer, base->loop, op_link_down, op);
        }
    }
    loop_timer_start(&op->timer, delay_ns);
}

static void dev_closed(void *arg)
{
    struct test_dev *dev = arg;
    if (dev->base.inflight > 0) {
        loop_defer(dev->base.loop, &dev->closed_task); /* completions first */
        return;
    }
    block_close_fn closed = dev->closed;
    void *closed_arg = dev->closed_arg;
    dev->opener->live--;
    if (dev->opener->dev == dev) {
        dev->opener->dev = NULL;
    }
    while (!list_empty(&dev->free)) {
        free(list_entry(list_pop_front(&dev->free), struct test_op, link));
    }
    free(dev);
    closed(closed_arg);
}

static void dev_close(struct blockdev *base, block_close_fn done, void *arg)
{
    struct test_dev *dev = of_dev(base);
    loop_timer_stop(&dev->up_timer);
    lose_session(dev, -ECANCELED);
    dev->closed = done;
    dev->closed_arg = arg;
    dev->closed_task = (struct loop_task){.fn = dev_closed, .arg = dev};
    loop_defer(base->loop, &dev->closed_task);
}

static const struct blockdev_ops dev_ops = {
    .kind = "test",
    .submit = dev_submit,
    .close = dev_close,
};

static struct blockdev *dev_new(struct test_opener *opener)
{
    const struct test_dev_spec *spec = &opener->spec;
    struct test_dev *dev = calloc(1, sizeof(*dev));
    CHECK(dev);
    dev->opener = opener;
    dev->disk = opener->disk;
    list_init(&dev->ops);
    list_init(&dev->free);
    for (unsigned i = 0; i < spec->max_inflight; i++) {
        struct test_op *op = calloc(1, sizeof(*op));
        CHECK(op);
        op->dev = dev;
        list_push_back(&dev->free, &op->link);
    }
    loop_timer_init(&dev->up_timer, opener->loop, link_up, dev);
    dev->base = (struct blockdev){
        .ops = &dev_ops,
        .loop = opener->loop,
        .info =
            {
                .size_bytes = spec->size ? spec->size : opener->disk->size,
                .block_bytes = spec->block_bytes,
                .physical_bytes = 4096,
                .optimal_bytes = spec->optimal_bytes,
                .max_bytes = spec->max_bytes,
                .max_inflight = spec->max_inflight,
                .read_only = spec->read_only,
                .can_map = spec->can_map,
                .keeps = spec->keeps,
                .can_discard = true,
                .discard_zeroes = true,
                .thin = spec->can_map,
            },
    };
    opener->dev = dev;
    opener->live++;
    return &dev->base;
}

/* ---- openers ---- */

static struct test_opener *of_opener(struct block_opener *opener)
{
    return container_of(opener, struct test_opener, base);
}

static void open_due(void *arg)
{
    struct test_opener *opener = arg;
    opener->opening = false;
    opener->opens++;
    struct error error;
    if (opener->cancelled) {
        error_set(&error, ERR_TERMINATED, "cancelled");
        opener->done(opener->arg, NULL, &error);
    } else if (opener->fail_opens > 0) {
        opener->fail_opens -= opener->fail_opens != UINT32_MAX;
        error_set(&error, opener->open_error, "told to fail");
        opener->done(opener->arg, NULL, &error);
    } else {
        opener->done(opener->arg, dev_new(opener), NULL);
    }
}

static void opener_open(struct block_opener *base, struct loop *loop, block_opened_fn done,
                        void *arg)
{
    struct test_opener *opener = of_opener(base);
    CHECK(!opener->opening && opener->live == 0 && !opener->freed);
    opener->loop = loop;
    opener->done = done;
    opener->arg = arg;
    opener->opening = true;
    opener->cancelled = false;
    loop_timer_init(&opener->timer, loop, open_due, opener);
    loop_timer_start(&opener->timer, opener->open_delay_ns);
}

static void opener_cancel(struct block_opener *base)
{
    struct test_opener *opener = of_opener(base);
    CHECK(opener->opening);
    opener->cancelled = true;
    loop_timer_start(&opener->timer, 0);
}

static void opener_free(struct block_opener *base)
{
    struct test_opener *opener = of_opener(base);
    CHECK(!opener->opening && opener->live == 0 && !opener->freed);
    opener->freed = true;
}

static const struct block_opener_ops opener_ops = {
    .open = opener_open,
    .cancel = opener_cancel,
    .free = opener_free,
};

void test_opener_init(struct test_opener *opener, struct loop *loop, struct test_disk *disk,
                      const struct test_dev_spec *spec, struct random *random)
{
    *opener = (struct test_opener){
        .base = {.ops = &opener_ops},
        .loop = loop,
        .disk = disk,
        .spec = *spec,
        .random = random,
        .open_error = ERR_REMOTE_UNREACHABLE,
        .open_delay_ns = MS_NS,
    };
}

void test_opener_fault(struct test_opener *opener, struct test_fault fault)
{
    CHECK(opener->n_faults < TEST_FAULTS);
    opener->faults[opener->n_faults++] = fault;
}

void test_opener_link_down(struct test_opener *opener, uint64_t down_ns)
{
    if (opener->dev && !opener->dev->base.closing) {
        link_down(opener->dev, down_ns);
    }
}

void test_opener_changed(struct test_opener *opener)
{
    if (opener->dev && !opener->dev->base.closing) {
        opener->dev->changed = true;
        lose_session(opener->dev, -ENOTCONN);
        blockdev_emit(&opener->dev->base, BLOCK_EVENT_CHANGED, 1, "another LUN answered");
    }
}

bool test_opener_faults_left(const struct test_opener *opener)
{
    for (unsigned i = 0; i < opener->n_faults; i++) {
        if (opener->faults[i].count > 0 && opener->faults[i].count != UINT32_MAX) {
            return true;
        }
    }
    return false;
}

/* ---- one copy ---- */

static void first_difference(const char *what, const uint8_t *a, const uint8_t *b, uint64_t len)
{
    for (uint64_t at = 0; at < len; at++) {
        if (a[at] != b[at]) {
            fprintf(stderr, "%s: byte %llu is 0x%02x, expected 0x%02x\n", what,
                    (unsigned long long)at, a[at], b[at]);
            return;
        }
    }
}

static void check_stable(struct copy_bench *bench, uint64_t len, const char *what)
{
    if (memcmp(bench->target->stable, bench->source->data, len) != 0) {
        first_difference(what, bench->target->stable, bench->source->data, len);
        CHECK(!"the target's stable bytes are the source's");
    }
}

static void note(struct copy_bench *bench, const struct copy_progress *progress)
{
    bench->progress = *progress;
    bench->phases_seen[progress->phase] = true;
    CHECK(progress->bytes_done <= progress->bytes_total);
    CHECK(progress->checkpoint_bytes <= progress->bytes_done);
}

static void on_progress(void *arg, const struct copy_progress *progress)
{
    struct copy_bench *bench = arg;
    CHECK(!bench->ended);
    bench->n_progress++;
    note(bench, progress);
}

static void on_checkpoint(void *arg, const struct copy_progress *progress)
{
    struct copy_bench *bench = arg;
    CHECK(!bench->ended);
    note(bench, progress);
    if (bench->n_checkpoints < ARRAY_LEN(bench->checkpoints)) {
        bench->checkpoints[bench->n_checkpoints] = progress->checkpoint_bytes;
    }
    bench->n_checkpoints++;
    if (bench->check_stable) {
        check_stable(bench,
                     progress->verifying ? progress->bytes_total : progress->checkpoint_bytes,
                     "at a checkpoint");
    }
}

static void on_ended(void *arg, const struct copy_progress *progress, const struct error *error)
{
    struct copy_bench *bench = arg;
    CHECK(!bench->ended);
    note(bench, progress);
    bench->ended = true;
    bench->has_error = error != NULL;
    CHECK(bench->has_error == (progress->phase == COPY_BROKEN));
    CHECK(bench->source_opener.live == 0 && bench->target_opener.live == 0);
    if (error) {
        bench->error = *error;
    }
    if (progress->phase == COPY_DONE && bench->check_stable) {
        copy_bench_check_equal(bench);
    }
}

void copy_bench_check_equal(struct copy_bench *bench)
{
    uint64_t total = bench->spec.bytes_total;
    check_stable(bench, total, "at the end");
    if (memcmp(bench->target->data + total, bench->beyond, bench->target->size - total) != 0) {
        first_difference("behind the end", bench->target->data + total, bench->beyond,
                         bench->target->size - total);
        CHECK(!"bytes behind the source's end were left alone");
    }
}

static void bench_init(struct copy_bench *bench, uint64_t seed, uint64_t source_bytes,
                       uint64_t target_bytes)
{
    random_seed(&bench->random, seed + 1);
    bench->source = test_disk_new(source_bytes);
    bench->target = test_disk_new(target_bytes);
    test_disk_fill(bench->target, 0, target_bytes, seed + 2);
    struct test_dev_spec spec = {
        .block_bytes = 512,
        .max_bytes = 1 * MIB,
        .max_inflight = 16,
        .can_map = true,
        .volatile_cache = true,
        .lose_all = true,
    };
    test_opener_init(&bench->source_opener, bench->loop, bench->source, &spec, &bench->random);
    test_opener_init(&bench->target_opener, bench->loop, bench->target, &spec, &bench->random);
    snprintf(bench->spec.name, sizeof(bench->spec.name), "test");
    bench->spec.bytes_total = source_bytes;
    bench->check_stable = true;
}

void copy_bench_init(struct copy_bench *bench, uint64_t seed, uint64_t source_bytes,
                     uint64_t target_bytes)
{
    memset(bench, 0, sizeof(*bench));
    CHECK(loop_sim_new(seed, &bench->sim) == 0);
    CHECK(loop_sim_add(bench->sim, "control", &bench->owner) == 0);
    CHECK(loop_sim_add(bench->sim, "data", &bench->loop) == 0);
    bench_init(bench, seed, source_bytes, target_bytes);
}

void copy_bench_init_beside(struct copy_bench *bench, struct copy_bench *host, uint64_t seed,
                            uint64_t source_bytes, uint64_t target_bytes)
{
    memset(bench, 0, sizeof(*bench));
    bench->sim = host->sim;
    bench->owner = host->owner;
    bench->loop = host->loop;
    bench->is_guest = true;
    bench_init(bench, seed, source_bytes, target_bytes);
}

void copy_bench_start(struct copy_bench *bench)
{
    static const struct copy_events events = {
        .progress = on_progress,
        .checkpoint = on_checkpoint,
        .ended = on_ended,
    };
    CHECK(!bench->copy);
    uint64_t total = bench->spec.bytes_total;
    free(bench->beyond);
    bench->beyond = malloc(bench->target->size - total + 1);
    CHECK(bench->beyond);
    memcpy(bench->beyond, bench->target->data + total, bench->target->size - total);
    bench->ended = false;
    bench->has_error = false;
    bench->n_checkpoints = 0;
    bench->n_progress = 0;
    memset(bench->phases_seen, 0, sizeof(bench->phases_seen));
    bench->source_opener.freed = false;
    bench->target_opener.freed = false;
    bench->spec.source = &bench->source_opener.base;
    bench->spec.target = &bench->target_opener.base;
    bench->copy = copy_start(bench->owner, bench->loop, &bench->spec, &events, bench);
}

static bool has_ended(void *arg)
{
    return ((struct copy_bench *)arg)->ended;
}

bool copy_bench_finish(struct copy_bench *bench, uint64_t limit_ns)
{
    return loop_sim_run_until(bench->sim, has_ended, bench, limit_ns);
}

struct phase_wait {
    struct copy_bench *bench;
    enum copy_phase phase;
};

static bool is_in_phase(void *arg)
{
    struct phase_wait *wait = arg;
    return wait->bench->progress.phase == wait->phase || wait->bench->ended;
}

bool copy_bench_until_phase(struct copy_bench *bench, enum copy_phase phase, uint64_t limit_ns)
{
    struct phase_wait wait = {.bench = bench, .phase = phase};
    return loop_sim_run_until(bench->sim, is_in_phase, &wait, limit_ns) &&
           bench->progress.phase == phase;
}

void copy_bench_end(struct copy_bench *bench)
{
    CHECK(bench->ended);
    copy_free(bench->copy);
    bench->copy = NULL;
    loop_sim_run_until_idle(bench->sim);
    CHECK(bench->source_opener.freed && bench->target_opener.freed);
}

void copy_bench_fini(struct copy_bench *bench)
{
    if (bench->copy) {
        if (!bench->ended) {
            copy_cancel(bench->copy);
            CHECK(copy_bench_finish(bench, 60 * SEC_NS));
        }
        copy_bench_end(bench);
    }
    if (!bench->is_guest) {
        loop_free(bench->owner);
        loop_free(bench->loop);
        loop_sim_free(bench->sim);
    }
    test_disk_free(bench->source);
    test_disk_free(bench->target);
    free(bench->beyond);
}

uint64_t copy_bench_run_done(struct copy_bench *bench)
{
    uint64_t start_ns = loop_sim_now_ns(bench->sim);
    copy_bench_start(bench);
    bool ended = copy_bench_finish(bench, 3600 * SEC_NS);
    if (!ended || bench->progress.phase != COPY_DONE) {
        fprintf(stderr, "ended %d in phase %s: %s\n", ended, copy_phase_name(bench->progress.phase),
                bench->has_error ? bench->error.detail : bench->progress.last_error);
        CHECK(!"the copy was done");
    }
    copy_bench_end(bench);
    return loop_sim_now_ns(bench->sim) - start_ns;
}
