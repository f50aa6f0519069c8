// SPDX-License-Identifier: Apache-2.0
/*
 * Mirrors under all faults at once: hosts that write, links and disks that fail, orders of all kinds, power cuts, from a seed.
 *
 *     sim_mirror [FIRST [COUNT]]   (tests/sim/seeds.h)
 *
 * With SMIRROR_SIM_SECTOR=NUMBER the story of that sector is told. What is checked:
 *
 *   - every read gives what was written last, as far as that is known (a failed write: the old or the new; after a crash:
 *     anything since the last flush), also while a restore runs;
 *   - whenever nothing moves: where the two sides differ, and nobody has the range locked, it is marked;
 *   - after a flush that went to both: what is not marked is equal on stable storage;
 *   - after a crash: where what is left on the two sides differs, the file says so;
 *   - in the end, without faults: EQUAL, and both sides are equal on stable storage, and the content is right.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "replication/mirror_private.h"
#include "tests/sim/seeds.h"
#include "tests/unit/mirror_testing.h"

enum { SECTOR = 512, GRANULE = 4096, VALUES = 6, OPS = 24, OP_BYTES = 64 << 10 };

/* What a sector may be: values[n - 1] is the last one acknowledged, unless it is unsure, then it may be any of them. After a crash it
 * may be any of them in any case. */
struct sector {
    uint64_t values[VALUES];
    unsigned n;
    bool unsure;
};

struct host_op {
    struct block_req req;
    struct slice slices[2];
    uint8_t *data;
    bool busy;
    uint64_t value;
    struct world *world;
};

struct world {
    struct mirror_bench bench;
    struct sector *sectors;
    uint64_t n_sectors;
    struct host_op ops[OPS];
    unsigned n_busy, n_writes;
    uint64_t next_value;
    bool overlaps; /* writes over each other: what is read is not looked at */
    bool crash_soon;
    bool restoring; /* as recorded */
    unsigned disconnecting;
    unsigned crashes, restores, splits, losses;
};

static struct mirror_core *core_of(struct world *world)
{
    return mirror_core_of(world->bench.mirror);
}

/* ---- the model ---- */

static void fill(uint8_t *data, uint64_t value)
{
    for (unsigned i = 0; i < SECTOR; i += sizeof(value)) {
        memcpy(data + i, &value, sizeof(value));
    }
}

/* UINT64_MAX: no whole value. */
static uint64_t value_of(const uint8_t *data)
{
    uint64_t value;
    memcpy(&value, data, sizeof(value));
    for (unsigned i = 0; i < SECTOR; i += sizeof(value)) {
        if (memcmp(data + i, &value, sizeof(value)) != 0) {
            return UINT64_MAX;
        }
    }
    return value;
}

static void sector_is(struct sector *sector, uint64_t value)
{
    sector->values[0] = value;
    sector->n = 1;
    sector->unsure = false;
}

static void sector_push(struct sector *sector, uint64_t value, bool sure)
{
    CHECK(sector->n < VALUES);
    sector->values[sector->n++] = value;
    sector->unsure = !sure;
}

static bool sector_may_be(const struct sector *sector, uint64_t value)
{
    if (!sector->unsure) {
        return value == sector->values[sector->n - 1];
    }
    for (unsigned i = 0; i < sector->n; i++) {
        if (sector->values[i] == value) {
            return true;
        }
    }
    return false;
}

/* What was not flushed may be gone. */
static void model_lose(struct world *world)
{
    for (uint64_t i = 0; i < world->n_sectors; i++) {
        world->sectors[i].unsure |= world->sectors[i].n > 1;
    }
}

/* Granules that are marked are from now on what the disk has. */
static void model_take(struct world *world, const struct test_disk *disk)
{
    struct change_map *map = core_of(world)->map;
    struct change_run run = {0};
    while (change_map_next(map, run.offset + run.len, UINT64_MAX, false, &run)) {
        for (uint64_t at = run.offset; at < run.offset + run.len; at += SECTOR) {
            struct sector *sector = &world->sectors[at / SECTOR];
            sector_is(sector, value_of(disk->stable + at));
            if (value_of(disk->data + at) != sector->values[0]) {
                sector_push(sector, value_of(disk->data + at), true);
            }
        }
        if (run.offset + run.len == world->bench.size) {
            break;
        }
    }
}

static void check_read(struct world *world, uint64_t offset, const uint8_t *data, uint64_t len)
{
    for (uint64_t at = 0; at < len && !world->overlaps; at += SECTOR) {
        struct sector *sector = &world->sectors[(offset + at) / SECTOR];
        uint64_t value = value_of(data + at);
        if (!sector_may_be(sector, value)) {
            fprintf(stderr, "sector %llu reads %llu; %s of",
                    (unsigned long long)((offset + at) / SECTOR), (unsigned long long)value,
                    sector->unsure ? "any" : "the last");
            for (unsigned i = 0; i < sector->n; i++) {
                fprintf(stderr, " %llu", (unsigned long long)sector->values[i]);
            }
            fprintf(stderr, "\n");
            CHECK(!"what was written is read");
        }
    }
}

static void trace(struct world *world, const char *what)
{
    struct mirror_bench *bench = &world->bench;
    static const char *text;
    text = text ? text : getenv("SMIRROR_SIM_SECTOR");
    if (!text) {
        return;
    }
    uint64_t at = strtoull(text, NULL, 0) * SECTOR;
    struct sector *sector = &world->sectors[at / SECTOR];
    fprintf(stderr, "-- %s%s: source %llu/%llu leg %llu/%llu, model %llu of %u%s\n", what,
            world->restoring ? " (restoring)" : "",
            (unsigned long long)value_of(bench->source->data + at),
            (unsigned long long)value_of(bench->source->stable + at),
            (unsigned long long)value_of(bench->target->data + at),
            (unsigned long long)value_of(bench->target->stable + at),
            (unsigned long long)sector->values[sector->n - 1], sector->n,
            sector->unsure ? "?" : "");
}

/* ---- the sides ---- */

static void check_marks(struct world *world)
{
    struct mirror_bench *bench = &world->bench;
    struct mirror_core *core = core_of(world);
    if (!core->map) {
        return;
    }
    for (uint64_t at = 0; at < bench->size; at += GRANULE) {
        uint64_t len = bench->size - at < GRANULE ? bench->size - at : GRANULE;
        struct change_run run;
        if (memcmp(bench->source->data + at, bench->target->data + at, len) == 0 ||
            mirror_lock_find(core, at, at + len)) {
            continue;
        }
        if (!change_map_next(core->map, at, GRANULE, false, &run) || run.offset != at) {
            uint64_t s = at;
            while (memcmp(bench->source->data + s, bench->target->data + s, SECTOR) == 0) {
                s += SECTOR;
            }
            fprintf(stderr, "sector %llu is %llu and %llu in phase %s, its granule is not marked\n",
                    (unsigned long long)(s / SECTOR),
                    (unsigned long long)value_of(bench->source->data + s),
                    (unsigned long long)value_of(bench->target->data + s),
                    mirror_phase_name(core->phase));
            CHECK(!"what differs is marked");
        }
    }
}

/* Right after a flush of both, with nothing under way. */
static void check_stable(struct world *world)
{
    struct mirror_bench *bench = &world->bench;
    struct mirror_core *core = core_of(world);
    for (uint64_t at = 0; at < bench->size; at += GRANULE) {
        uint64_t len = bench->size - at < GRANULE ? bench->size - at : GRANULE;
        struct change_run run;
        if (memcmp(bench->source->stable + at, bench->target->stable + at, len) != 0 &&
            (!change_map_next(core->map, at, GRANULE, false, &run) || run.offset != at)) {
            fprintf(stderr, "granule %llu was flushed and differs\n",
                    (unsigned long long)(at / GRANULE));
            CHECK(!"what was flushed is on both sides");
        }
    }
}

struct file_look {
    struct world *world;
    bool done;
    struct change_map *map;
};

static void file_opened(void *arg, struct change_map *map, const struct error *error)
{
    struct file_look *look = arg;
    if (error) {
        fprintf(stderr, "%s\n", error->detail);
        CHECK(!"the file can be read");
    }
    look->done = true;
    look->map = map;
}

static void file_closed(void *arg)
{
    ((struct file_look *)arg)->done = true;
}

static bool file_done(void *arg)
{
    return ((struct file_look *)arg)->done;
}

/* Nothing has the file open. */
static void check_file(struct world *world)
{
    struct mirror_bench *bench = &world->bench;
    struct file_look look = {.world = world};
    struct change_map_spec spec = {.files = bench->spec.map_files,
                                   .path = bench->spec.map_path,
                                   .size_bytes = bench->size,
                                   .must_exist = true};
    CHECK(change_map_open(bench->loop, &spec, file_opened, &look) == 0);
    CHECK(loop_sim_run_until(bench->sim, file_done, &look, 60 * SEC_NS));
    for (uint64_t at = 0; at < bench->size; at += GRANULE) {
        uint64_t len = bench->size - at < GRANULE ? bench->size - at : GRANULE;
        struct change_run run;
        if (memcmp(bench->source->stable + at, bench->target->stable + at, len) != 0 &&
            (!change_map_next(look.map, at, GRANULE, false, &run) || run.offset != at)) {
            fprintf(stderr, "granule %llu differs after the crash and is not marked\n",
                    (unsigned long long)(at / GRANULE));
            CHECK(!"a crash forgets nothing");
        }
    }
    look.done = false;
    change_map_close(look.map, false, file_closed, &look);
    CHECK(loop_sim_run_until(bench->sim, file_done, &look, 60 * SEC_NS));
}

/* ---- hosts ---- */

static bool is_write(const struct block_req *req)
{
    return req->op == BLOCK_WRITE || req->op == BLOCK_ZERO || req->op == BLOCK_DISCARD;
}

static void op_done(struct block_req *req)
{
    struct host_op *op = req->arg;
    struct world *world = op->world;
    op->busy = false;
    world->n_busy--;
    if (req->op == BLOCK_READ && req->status == 0) {
        check_read(world, req->offset, op->data, req->len);
    }
    if (req->op == BLOCK_FLUSH && req->status == 0) {
        for (uint64_t i = 0; i < world->n_sectors; i++) {
            struct sector *sector = &world->sectors[i];
            if (!sector->unsure) {
                sector_is(sector, sector->values[sector->n - 1]);
            }
        }
    }
    if (!is_write(req)) {
        return;
    }
    world->n_writes--;
    for (uint64_t at = 0; at < req->len && !world->overlaps; at += SECTOR) {
        struct sector *sector = &world->sectors[(req->offset + at) / SECTOR];
        if (req->status == 0 && req->flags & BLOCK_FUA && req->op != BLOCK_DISCARD) {
            sector_is(sector, op->value);
        } else {
            sector_push(sector, op->value, req->status == 0);
        }
    }
}

static bool range_is_free(const struct world *world, uint64_t offset, uint64_t len, bool write)
{
    for (unsigned i = 0; i < OPS; i++) {
        const struct block_req *req = &world->ops[i].req;
        if (world->ops[i].busy && req->op != BLOCK_FLUSH && req->offset < offset + len &&
            offset < req->offset + req->len && (write || is_write(req))) {
            return false;
        }
    }
    return true;
}

static bool values_have_room(const struct world *world, uint64_t offset, uint64_t len)
{
    for (uint64_t at = offset; at < offset + len; at += SECTOR) {
        if (world->sectors[at / SECTOR].n >= VALUES - 1) {
            return false;
        }
    }
    return true;
}

static struct host_op *op_free(struct world *world)
{
    for (unsigned i = 0; i < OPS; i++) {
        if (!world->ops[i].busy) {
            return &world->ops[i];
        }
    }
    return NULL;
}

static void op_submit(struct world *world, struct host_op *op, enum block_op kind, uint64_t offset,
                      uint64_t len, unsigned flags)
{
    bool has_data = kind == BLOCK_READ || kind == BLOCK_WRITE;
    uint64_t cut = has_data && len > SECTOR ? below(len / SECTOR) * SECTOR : 0;
    op->world = world;
    op->busy = true;
    op->slices[0] = (struct slice){.data = op->data, .len = cut};
    op->slices[1] = (struct slice){.data = op->data + cut, .len = len - cut};
    op->req = (struct block_req){.op = kind,
                                 .flags = flags,
                                 .offset = offset,
                                 .len = len,
                                 .slices = has_data ? &op->slices[cut == 0] : NULL,
                                 .n_slices = has_data ? 1 + (cut > 0) : 0,
                                 .done = op_done,
                                 .arg = op};
    world->n_busy++;
    world->n_writes += is_write(&op->req);
    blockdev_submit(world->bench.dev, &op->req);
}

static void host_request(struct world *world)
{
    struct host_op *op = op_free(world);
    uint64_t size = world->bench.size;
    if (!op) {
        return;
    }
    /* Some places are written often. */
    uint64_t offset = chance(1, 2) ? below(size / SECTOR) * SECTOR
                                   : below(4) * (size / 4 / GRANULE * GRANULE) + below(16) * SECTOR;
    uint64_t len = (1 + below(PICK(1, 8, 16, OP_BYTES / SECTOR))) * SECTOR;
    bool long_zero = chance(1, 24);
    offset = offset < size ? offset : 0;
    len = long_zero ? (1 + below(1024)) * SECTOR : len;
    len = len < size - offset ? len : size - offset;
    if (chance(1, 3)) {
        offset -= offset % GRANULE;
    }
    enum block_op kind = (enum block_op)PICK(BLOCK_READ, BLOCK_READ, BLOCK_WRITE, BLOCK_WRITE,
                                             BLOCK_WRITE, BLOCK_WRITE, BLOCK_ZERO, BLOCK_DISCARD);
    kind = long_zero ? (chance(1, 2) ? BLOCK_ZERO : BLOCK_DISCARD) : kind;
    bool write = kind != BLOCK_READ;
    bool free = range_is_free(world, offset, len, write);
    if ((!world->overlaps && !free) || (write && !values_have_room(world, offset, len))) {
        return;
    }
    op->value = kind == BLOCK_WRITE ? world->next_value++ : 0;
    for (uint64_t at = 0; at < len && !long_zero; at += SECTOR) {
        fill(op->data + at, kind == BLOCK_WRITE ? op->value : 0x5a5a5a5a5a5a5a5a);
    }
    op_submit(world, op, kind, offset, len, write && chance(1, 8) ? BLOCK_FUA : 0);
}

static bool host_is_quiet(void *arg)
{
    return ((struct world *)arg)->n_busy == 0;
}

static void host_wait(struct world *world)
{
    if (!loop_sim_run_until(world->bench.sim, host_is_quiet, world, 3600 * SEC_NS)) {
        fprintf(stderr, "%u requests do not end in phase %s\n", world->n_busy,
                mirror_phase_name(core_of(world)->phase));
        CHECK(!"requests end");
    }
}

static void host_flush(struct world *world)
{
    if (world->n_writes > 0) {
        if (!chance(1, 3)) {
            return;
        }
        host_wait(world);
    }
    struct host_op *op = op_free(world);
    if (!op) {
        return;
    }
    op_submit(world, op, BLOCK_FLUSH, 0, 0, 0);
    if (chance(1, 2)) {
        host_wait(world);
        struct mirror_core *core = core_of(world);
        if (op->req.status == 0 && core->connected && core->n_chunks == 0 && !core->flush &&
            !change_map_has_recent(core->map)) {
            check_stable(world);
        }
    } else {
        while (op->busy && chance(9, 10) && loop_sim_step(world->bench.sim)) {
        }
        if (op->busy) {
            host_wait(world); /* no write is submitted meanwhile: what it covers is known */
        }
    }
}

static void read_all(struct world *world)
{
    uint64_t size = world->bench.size;
    host_wait(world);
    for (uint64_t at = 0; at < size; at += OP_BYTES) {
        struct host_op *op = &world->ops[0];
        uint64_t len = size - at < OP_BYTES ? size - at : OP_BYTES;
        op_submit(world, op, BLOCK_READ, at, len, 0);
        host_wait(world);
        CHECK(op->req.status == 0);
    }
}

/* ---- orders ---- */

static void settle(struct world *world)
{
    loop_sim_run_until_idle(world->bench.sim);
}

static void connect(struct world *world, bool from_leg)
{
    trace(world, from_leg ? "connect from leg" : "connect");
    struct mirror_bench *bench = &world->bench;
    settle(world);
    struct mirror_core *core = core_of(world);
    bool ready = core->map && !core->leaving &&
                 (core->phase == MIRROR_TRACKING || core->phase == MIRROR_HELD ||
                  core->phase == MIRROR_BROKEN);
    if (!ready) {
        return;
    }
    if (world->restoring || from_leg) {
        /* A restore that was interrupted goes on; what hosts had under way ends before. */
        host_wait(world);
        if (core->phase != MIRROR_TRACKING && core->phase != MIRROR_HELD &&
            core->phase != MIRROR_BROKEN) {
            return;
        }
        if (!world->restoring) {
            model_take(world, bench->target);
            world->restores++;
        }
        world->restoring = true;
        bench->restored = false;
        bench->spec.direction = MIRROR_FROM_LEG;
        mirror_connect(bench->mirror, MIRROR_FROM_LEG);
    } else {
        mirror_connect(bench->mirror, MIRROR_TO_LEG);
    }
    settle(world);
}

static void disconnected(void *arg, const struct error *error)
{
    CHECK(!error || error->code == ERR_TERMINATED);
    ((struct world *)arg)->disconnecting--;
}

static bool is_disconnected(void *arg)
{
    return ((struct world *)arg)->disconnecting == 0;
}

static void disconnect(struct world *world)
{
    struct mirror_bench *bench = &world->bench;
    trace(world, "disconnect");
    if (world->restoring) {
        host_wait(world);
    }
    world->disconnecting++;
    mirror_disconnect(bench->mirror, disconnected, world);
    if (world->restoring || chance(1, 2)) {
        CHECK(loop_sim_run_until(bench->sim, is_disconnected, world, 600 * SEC_NS));
    }
    if (world->restoring) {
        host_wait(world);
        model_take(world, bench->source);
        world->restoring = false;
        bench->spec.direction = MIRROR_TO_LEG;
    }
}

static void order(struct world *world)
{
    struct mirror_bench *bench = &world->bench;
    uint64_t at = below(bench->size / SECTOR) * SECTOR;
    switch (below(12)) {
    case 0:
    case 1:
        disconnect(world);
        break;
    case 2:
    case 3:
    case 4:
        connect(world, false);
        break;
    case 5:
    case 6:
        connect(world, true);
        break;
    case 7:
        world->splits++;
        mirror_split(bench->mirror, PICK(0, 10, 1000, 20000), mirror_bench_done, bench);
        break;
    case 8:
        if (!world->restoring) { /* in a restore it would take the leg's content */
            mirror_mark(bench->mirror, at, bench->size - at, mirror_bench_done, bench);
        }
        break;
    case 9:
        mirror_set_limits(bench->mirror, (unsigned)below(5), PICK(0, 0, 100 * KIB, 10 * MIB));
        break;
    case 10:
        bench->spec.recover_by_hand = chance(1, 3);
        bench->spec.stop_host_io = chance(1, 4);
        mirror_set_recovery(bench->mirror, bench->spec.recover_by_hand, bench->spec.stop_host_io);
        break;
    default:
        loop_sim_advance(bench->sim, PICK(SEC_NS, 5 * SEC_NS, 30 * SEC_NS));
        break;
    }
}

static void fault(struct world *world)
{
    struct mirror_bench *bench = &world->bench;
    bool on_target = !chance(1, 5);
    struct test_opener *opener = on_target ? &bench->target_opener : &bench->source_opener;
    struct test_fault fault = {
        .ops = chance(1, 2) ? TEST_ALL_OPS : TEST_OP(below(6)),
        .first = 1 + (unsigned)below(PICK(3, 20, 60)),
        .count = 1 + (unsigned)below(2),
    };
    switch (below(8)) {
    case 0:
        world->losses++;
        test_opener_link_down(opener, PICK(1, MS_NS, 70 * MS_NS, 3 * SEC_NS, 30 * SEC_NS));
        settle(world);
        if (!on_target) {
            model_lose(world);
        }
        return;
    case 1:
    case 2:
        if (!on_target) {
            return; /* when the source forgets something has to be known here */
        }
        fault.action = TEST_LINK_DOWN;
        fault.down_ns = PICK(1, MS_NS, 70 * MS_NS, 3 * SEC_NS);
        break;
    case 3:
        if (!on_target) {
            return;
        }
        fault.action = TEST_SILENT;
        break;
    case 4:
        if (chance(1, 2)) {
            layer_disk_fail(bench->map_disk, chance(1, 2) ? LAYER_IO_WRITE : LAYER_IO_SYNC, 1,
                            chance(1, 2) ? -EIO : -ENOSPC);
        }
        return;
    case 5:
        if (on_target && chance(1, 4)) {
            test_opener_changed(opener);
            settle(world);
        }
        return;
    default:
        fault.status = (int)-PICK(EIO, EIO, ENOSPC, ESTALE);
        fault.status = on_target ? fault.status : -EIO;
        if (!on_target) {
            fault.ops &= ~TEST_OP(BLOCK_FLUSH); /* a source whose flush failed has lost what? */
        }
        break;
    }
    /* The old ones have been. */
    if (opener->n_faults == TEST_FAULTS) {
        opener->n_faults = 0;
    }
    test_opener_fault(opener, fault);
}

static void no_more_faults(struct world *world)
{
    struct mirror_bench *bench = &world->bench;
    struct test_opener *openers[] = {&bench->source_opener, &bench->target_opener};
    for (unsigned i = 0; i < 2; i++) {
        openers[i]->n_faults = 0;
        openers[i]->fail_opens = 0;
        openers[i]->spec.lose_all = chance(1, 2);
    }
    layer_disk_fail(bench->map_disk, LAYER_IO_WRITE, 0, 0);
    layer_disk_fail(bench->map_disk, LAYER_IO_SYNC, 0, 0);
}

/* A restore that is recorded, or one whose end has been. */
static void record(struct world *world)
{
    struct mirror_bench *bench = &world->bench;
    if (world->restoring && bench->restored) {
        world->restoring = false;
        bench->spec.direction = MIRROR_TO_LEG;
    }
}

static void crash(struct world *world)
{
    struct mirror_bench *bench = &world->bench;
    trace(world, "crash");
    world->crashes++;
    world->crash_soon = false;
    record(world);
    bool leg_too = world->restoring || chance(1, 2);
    /* What is under way ends somehow while all is taken down: nobody has seen it. */
    for (unsigned i = 0; i < OPS; i++) {
        struct host_op *op = &world->ops[i];
        if (op->busy && is_write(&op->req) && !world->overlaps) {
            for (uint64_t at = 0; at < op->req.len; at += SECTOR) {
                sector_push(&world->sectors[(op->req.offset + at) / SECTOR], op->value, false);
            }
        }
    }
    model_lose(world);
    struct sector *kept = malloc(world->n_sectors * sizeof(*kept));
    CHECK(kept);
    memcpy(kept, world->sectors, world->n_sectors * sizeof(*kept));
    bool overlaps = world->overlaps;
    world->overlaps = true;
    mirror_bench_crash(bench, leg_too);
    world->overlaps = overlaps;
    memcpy(world->sectors, kept, world->n_sectors * sizeof(*kept));
    free(kept);
    CHECK(world->n_busy == 0);
    no_more_faults(world);
    check_file(world);
    bench->spec.all_differs = false;
    bench->spec.connect = world->restoring || chance(3, 4);
    bench->restored = false;
    bench->spec.direction = world->restoring ? MIRROR_FROM_LEG : MIRROR_TO_LEG;
    mirror_bench_start(bench);
    read_all(world);
    /* What is there now is on stable storage. */
    for (unsigned i = 0; i < 1 && !world->overlaps && !world->restoring; i++) {
        for (uint64_t s = 0; s < world->n_sectors; s++) {
            sector_is(&world->sectors[s], value_of(bench->source->data + s * SECTOR));
        }
    }
}

/* ---- a life ---- */

static bool is_zero(const uint8_t *data, uint64_t len)
{
    return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

static void hole(struct world *world, struct test_disk *disk, uint64_t at, uint64_t len)
{
    memset(disk->data + at, 0, len);
    memset(disk->stable + at, 0, len);
    for (uint64_t s = at / SECTOR; disk == world->bench.source && s < (at + len) / SECTOR; s++) {
        sector_is(&world->sectors[s], 0);
    }
}

/* Some long holes, on one side or on both; what is not zero is mapped, and some of what is. */
static void map_sides(struct world *world)
{
    struct mirror_bench *bench = &world->bench;
    struct test_disk *disks[] = {bench->source, bench->target};
    for (uint64_t n = below(8); n > 0; n--) {
        uint64_t at = below(bench->size / GRANULE) * GRANULE;
        uint64_t len = (1 + below(PICK(16, 64, 256))) * GRANULE;
        len = len < bench->size - at ? len : bench->size - at;
        uint64_t where = bench->spec.all_differs ? 1 + below(3) : 3;
        for (unsigned i = 0; i < 2; i++) {
            if (where & (1u << i)) {
                hole(world, disks[i], at, len);
            }
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        for (uint64_t at = 0; at < bench->size; at += GRANULE) {
            uint64_t len = bench->size - at < GRANULE ? bench->size - at : GRANULE;
            bool mapped = !is_zero(disks[i]->data + at, len) || chance(1, 500);
            disks[i]->mapped[at / GRANULE] = disks[i]->stable_mapped[at / GRANULE] = mapped;
        }
    }
}

static void begin(struct world *world, uint64_t seed)
{
    struct mirror_bench *bench = &world->bench;
    uint64_t size = (uint64_t)PICK(1, 2, 2, 3, 4) * MIB + PICK(0, 0, 512, 5120);
    mirror_bench_init(bench, seed, size);
    world->n_sectors = size / SECTOR;
    world->sectors = calloc(world->n_sectors, sizeof(*world->sectors));
    CHECK(world->sectors);
    world->next_value = 1;
    world->overlaps = chance(1, 5);
    bool equal = chance(1, 2);
    for (uint64_t i = 0; i < world->n_sectors; i++) {
        uint64_t value = chance(1, 8) ? 0 : world->next_value++;
        sector_is(&world->sectors[i], value);
        fill(bench->source->data + i * SECTOR, value);
        fill(bench->source->stable + i * SECTOR, value);
        value = equal ? value : world->next_value++;
        fill(bench->target->data + i * SECTOR, value);
        fill(bench->target->stable + i * SECTOR, value);
    }
    for (unsigned i = 0; i < OPS; i++) {
        world->ops[i].data = malloc(OP_BYTES);
        CHECK(world->ops[i].data);
    }
    struct test_opener *openers[] = {&bench->source_opener, &bench->target_opener};
    for (unsigned i = 0; i < 2; i++) {
        struct test_dev_spec *spec = &openers[i]->spec;
        spec->delay_ns = PICK(0, 0, MS_NS / 10, MS_NS, 20 * MS_NS);
        spec->delay_spread_ns = PICK(0, MS_NS, 20 * MS_NS);
        spec->bytes_per_second = PICK(0, 0, 10 * MIB, 100 * MIB);
        spec->lose_all = chance(1, 2);
        spec->can_map = chance(7, 8);
        spec->map_extents = (unsigned)PICK(0, 0, 1, 5);
        spec->map_doubts = (unsigned)PICK(0, 0, 4, 30);
        spec->map_early = chance(1, 2);
        spec->map_delay_ns = PICK(0, 0, 5 * MS_NS, 300 * MS_NS);
        openers[i]->open_delay_ns = PICK(0, MS_NS, SEC_NS);
    }
    bench->target_opener.fail_opens = chance(1, 4) ? (unsigned)below(4) : 0;
    bench->spec.all_differs = !equal;
    map_sides(world);
    bench->spec.connect = chance(7, 8);
    bench->spec.recover_by_hand = chance(1, 4);
    bench->spec.stop_host_io = chance(1, 8);
    bench->spec.priority = (unsigned)below(5);
    bench->spec.bandwidth_limit = PICK(0, 0, 0, MIB);
    mirror_bench_start(bench);
}

static void step(struct world *world)
{
    struct mirror_bench *bench = &world->bench;
    uint64_t what = below(100);
    trace(world, "step");
    if (what >= 90 && !core_of(world)->map) {
        settle(world); /* a map that cannot be made is another story */
        loop_sim_advance(bench->sim, SEC_NS);
    }
    if (what < 60) {
        host_request(world);
    } else if (what < 68) {
        host_flush(world);
    } else if (what < 80) {
        loop_sim_advance(bench->sim, below(PICK(MS_NS, 10 * MS_NS, 200 * MS_NS, 3 * SEC_NS)));
    } else if (what < 90) {
        order(world);
    } else if (what < 96) {
        fault(world);
    } else if (what < 98) {
        if (chance(1, 2) && !world->crash_soon) {
            world->crash_soon = true;
            layer_disk_cut_at(bench->map_disk, 1 + below(6));
        } else {
            crash(world);
        }
    }
    if (world->crash_soon && chance(1, 6)) {
        crash(world);
    }
    record(world);
    for (uint64_t n = below(20); n > 0 && loop_sim_step(bench->sim); n--) {
    }
    if (chance(1, 4)) {
        settle(world);
        check_marks(world);
    }
}

static void finish(struct world *world)
{
    struct mirror_bench *bench = &world->bench;
    if (world->crash_soon) {
        crash(world);
    }
    no_more_faults(world);
    host_wait(world);
    mirror_set_limits(bench->mirror, 0, 0);
    mirror_set_recovery(bench->mirror, false, false);
    for (unsigned n = 0; n < 10; n++) {
        loop_sim_advance(bench->sim, 60 * SEC_NS);
        record(world);
        if (core_of(world)->phase == MIRROR_EQUAL) {
            break;
        }
        connect(world, false);
    }
    host_wait(world);
    record(world);
    mirror_bench_until_equal(bench);
    CHECK(!world->restoring);
    struct host_op *op = op_free(world);
    op_submit(world, op, BLOCK_FLUSH, 0, 0, 0);
    host_wait(world);
    CHECK(op->req.status == 0);
    mirror_bench_check_equal(bench);
    read_all(world);
    /* In order: the next life has nothing to do. */
    mirror_bench_stop(bench, false);
    bench->spec.all_differs = false;
    bench->spec.connect = true;
    mirror_bench_start(bench);
    mirror_bench_until_equal(bench);
    CHECK(bench->progress.copied_bytes + bench->progress.zeroed_bytes == 0);
    mirror_bench_check_equal(bench);
    mirror_bench_stop(bench, true);
}

static struct {
    uint64_t crashes, restores, losses, splits;
} totals;

static void run(uint64_t seed)
{
    static struct world world;
    memset(&world, 0, sizeof(world));
    begin(&world, seed);
    for (uint64_t n = PICK(50, 100, 200); n > 0; n--) {
        step(&world);
    }
    finish(&world);
    mirror_bench_fini(&world.bench);
    for (unsigned i = 0; i < OPS; i++) {
        free(world.ops[i].data);
    }
    free(world.sectors);
    totals.crashes += world.crashes;
    totals.restores += world.restores;
    totals.losses += world.losses;
    totals.splits += world.splits;
}

static void passed(uint64_t count)
{
    (void)count;
    printf("%llu crashes, %llu lost links, %llu restores, %llu splits\n",
           (unsigned long long)totals.crashes, (unsigned long long)totals.losses,
           (unsigned long long)totals.restores, (unsigned long long)totals.splits);
}

int main(int argc, char **argv)
{
    return sim_main(
        argc, argv,
        &(struct sim){
            .name = "mirror", .seeds = SIM_SEEDS(150, 50, 20), .run = run, .passed = passed});
}
