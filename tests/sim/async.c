// SPDX-License-Identifier: Apache-2.0
/*
 * Asynchronous mirrors under a whole service on simulated loops: control, records, group cuts, cycles, copies, layers. Their hosts write, their
 * disks are slow, the power goes at any moment, and now and then the targets are taken: each time they must hold a cut of the sources.
 *
 *     sim_async [FIRST [COUNT]]   (tests/sim/seeds.h)
 *
 * One mirror, or the pairs of a consistent relationship of groups, whose targets must be one cut together. Writes have a place in one
 * order (tests/sim/order.h), so a cut is known by what it holds: if it lacks a write it lacks all that began after its end. It is not
 * older than the point that the records spoke of before. After a crash the records are what was committed, the volumes what was flushed.
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "block/blockdev.h"
#include "service/enums.h"
#include "service/hosted.h"
#include "store/cycle.h"
#include "tests/sim/machine.h"
#include "tests/sim/order.h"
#include "tests/sim/seeds.h"
#include "tests/unit/service_fixture.h"
#include "tests/unit/testing.h"

enum {
    MEMBERS = 3, /* at most */
    WRITERS = 3,
    BLOCK = ORDER_BLOCK,
    WINDOWS = 5,
    WINDOW = 8, /* blocks, of a granule */
    APART = 64 << 10,
    BLOCKS = WINDOWS * WINDOW,
    SIZE = WINDOWS * APART,
    MOST = 5, /* blocks of a write */
    BUSY = 60,
    LIVES = 4,
    PATIENCE_S = 600,
};

struct member {
    char source[PATH_SIZE];
    char target[PATH_SIZE];
    char pair[PATH_SIZE];
    struct block blocks[BLOCKS];
    uint64_t point_ms; /* the newest that was seen in the records */
};

static struct service_fixture fixture;
static char saved_dir[] = "/dev/shm/smirror-saved-XXXXXX";
static struct member members[MEMBERS];
static unsigned n_members;
static bool in_group;
static char relation[PATH_SIZE];
static struct loop *hosts;
static bool crashed;
static struct test_call *unanswered;
static uint64_t tick;
static uint64_t last_stamp;

static struct {
    uint64_t writes, crashes, lands;
} totals;

static uint64_t now_ns(void)
{
    return loop_sim_now_ns(machine_sim());
}

static bool flag_is_set(void *arg)
{
    return *(bool *)arg;
}

static void flag(void *arg)
{
    *(bool *)arg = true;
}

static void settle(bool (*done)(void *arg), void *arg)
{
    CHECK(machine_run_until(done, arg, PATIENCE_S * SEC_NS));
}

/* ---- the service, and its end without power ---- */

static void file_copy(const char *from_dir, const char *to_dir, const char *name)
{
    char path[512];
    static char bytes[1 << 16];
    size_t n;

    snprintf(path, sizeof(path), "%s/%s", from_dir, name);
    FILE *from = fopen(path, "rb");

    snprintf(path, sizeof(path), "%s/%s", to_dir, name);
    unlink(path);
    if (from == NULL) {
        return;
    }
    FILE *to = fopen(path, "wb");

    CHECK(to != NULL);
    while ((n = fread(bytes, 1, sizeof(bytes), from)) > 0) {
        CHECK(fwrite(bytes, 1, n, to) == n);
    }
    fclose(from);
    CHECK(fclose(to) == 0);
}

/* SQLite makes the third file, of its shared memory, anew. */
static void records_copy(const char *from_dir, const char *to_dir)
{
    char path[512];

    file_copy(from_dir, to_dir, "smirror.db");
    file_copy(from_dir, to_dir, "smirror.db-wal");
    snprintf(path, sizeof(path), "%s/smirror.db-shm", to_dir);
    unlink(path);
}

static void power_cut(void)
{
    records_copy(fixture.dir, saved_dir);
    crashed = true;
}

static void service_start(void)
{
    fixture.options.data_loops = 1 + (unsigned)below(3);
    machine_on_power_cut(power_cut);
    fixture_start(&fixture);
}

/* What still ran when the power went comes to its end on a disk of its own; then the records and the disk are those of that moment. */
static void service_again(void)
{
    machine_on_power_cut(NULL);
    fixture_stop(&fixture);
    if (unanswered != NULL) {
        CHECK(unanswered->answered);
        test_call_free(unanswered);
        unanswered = NULL;
    }
    if (crashed) {
        records_copy(saved_dir, fixture.dir);
        machine_power_on();
        totals.crashes++;
    }
    crashed = false;
    service_start();
}

/* ---- calls ---- */

static struct test_call *call_to(const struct service *service, const char *method)
{
    return test_call_new(&fixture, service, method);
}

static bool is_answered(void *arg)
{
    return crashed || ((struct test_call *)arg)->answered;
}

/* False: refused, or the power went. What is not answered then, the end of the service answers. */
static bool call_end(struct test_call *call, const char *out, char *ret_path)
{
    test_call_submit(call);
    settle(is_answered, call);
    if (!call->answered) {
        CHECK(unanswered == NULL);
        unanswered = call;
        return false;
    }
    bool well = !crashed && call->call->result >= 0;

    if (!well && !crashed) {
        log_debug("refused: %s", call->call->error.detail);
    }
    if (well && out != NULL) {
        snprintf(ret_path, PATH_SIZE, "%s", out_of(call, out));
    }
    test_call_free(call);
    return well;
}

static bool operate(unsigned operation)
{
    struct test_call *call = call_to(&replication_service, "ModifyReplicaSynchronization");

    arg_number(call, "Operation", operation);
    arg_text(call, "Synchronization", relation);
    return call_end(call, NULL, NULL);
}

static void pair_row(const struct member *member, struct sync_row *ret_row)
{
    CHECK(table_get(fixture.reader, &sync_table, id_of(member->pair), ret_row) == 0);
}

/* Of all members; 0: they differ. */
static unsigned state_now(void)
{
    unsigned state = 0;

    for (unsigned m = 0; m < n_members; m++) {
        struct sync_row row;

        pair_row(&members[m], &row);
        if (m > 0 && row.copy_state != state) {
            return 0;
        }
        state = row.copy_state;
    }
    return state;
}

static bool state_becomes(unsigned state)
{
    for (uint64_t end_ns = now_ns() + PATIENCE_S * SEC_NS; now_ns() < end_ns && !crashed;) {
        if (state_now() == state) {
            return true;
        }
        machine_pass(20 * MS_NS);
    }
    CHECK(crashed); /* it comes in time */
    return false;
}

static void points_look(void)
{
    for (unsigned m = 0; m < n_members; m++) {
        struct cycle_row cycle;
        uint64_t before_ms = members[m].point_ms;

        if (cycle_find(fixture.reader, id_of(members[m].pair), &cycle) == 0) {
            CHECK(cycle.point_ms >= before_ms);
            members[m].point_ms = cycle.point_ms;
            CHECK(!in_group || cycle.point_ms == members[0].point_ms);
        }
    }
}

/* ---- volumes ---- */

struct opened {
    struct blockdev *dev;
    bool done;
};

static void handle_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    CHECK(error == NULL);
    *(struct opened *)arg = (struct opened){dev, true};
}

static bool is_open(void *arg)
{
    return ((struct opened *)arg)->done;
}

static struct array *the_array(void)
{
    return hosted_array(control_hosted(fixture.control));
}

static struct blockdev *handle_of(const char *path)
{
    struct block_opener *opener = array_volume_opener(the_array(), id_of(path));
    struct opened opened = {0};

    opener->ops->open(opener, hosts, handle_opened, &opened);
    settle(is_open, &opened);
    opener->ops->free(opener);
    return opened.dev;
}

static void handle_close(struct blockdev *dev)
{
    bool closed = false;

    blockdev_close(dev, flag, &closed);
    settle(flag_is_set, &closed);
}

static bool is_writable(const char *path)
{
    const struct blockdev *dev = array_volume_device(the_array(), id_of(path), NULL);

    return dev != NULL && !dev->info.read_only;
}

static bool becomes_writable(const char *path)
{
    for (uint64_t end_ns = now_ns() + PATIENCE_S * SEC_NS; now_ns() < end_ns && !crashed;) {
        if (is_writable(path)) {
            return true;
        }
        machine_pass(20 * MS_NS);
    }
    CHECK(crashed);
    return false;
}

static uint64_t offset_of(unsigned block)
{
    return (uint64_t)(block / WINDOW) * APART + (block % WINDOW) * BLOCK;
}

static void request_done(struct block_req *req)
{
    *(bool *)req->arg = true;
}

static int request(struct blockdev *dev, enum block_op op, uint64_t offset, void *data,
                   uint64_t len)
{
    struct slice slice = {.data = data, .len = (size_t)len};
    bool done = false;
    struct block_req req = {.op = op,
                            .offset = offset,
                            .len = len,
                            .slices = data != NULL ? &slice : NULL,
                            .n_slices = data != NULL,
                            .done = request_done,
                            .arg = &done};

    blockdev_submit(dev, &req);
    settle(flag_is_set, &done);
    return req.status;
}

/* False: the power went meanwhile. */
static bool content_read(const char *path, uint64_t stamps[BLOCKS])
{
    static uint64_t words[WINDOW * BLOCK / 8];
    struct blockdev *dev = handle_of(path);
    int status = 0;

    for (unsigned w = 0; w < WINDOWS && status == 0; w++) {
        status = request(dev, BLOCK_READ, (uint64_t)w * APART, words, sizeof(words));
        for (unsigned b = 0; b < WINDOW && status == 0; b++) {
            const uint64_t *block = words + b * BLOCK / 8;

            stamps[w * WINDOW + b] = block[0];
            for (unsigned i = 1; i < BLOCK / 8; i++) {
                CHECK(block[i] == block[0]);
            }
        }
    }
    handle_close(dev);
    CHECK(status == 0 || crashed);
    return status == 0;
}

/* ---- hosts ---- */

struct writer {
    struct blockdev *devs[MEMBERS];
    struct ordered_write write;
    struct loop_timer timer;
    unsigned member;
    unsigned first;
    unsigned n_done;
    bool stopped;
};

static struct writer writers[WRITERS];
static unsigned n_writers;
static bool stop;

static void writer_next(void *arg);

static void writer_done(struct block_req *req)
{
    struct writer *writer = req->arg;
    struct member *member = &members[writer->member];

    bool well = req->status == 0 && !crashed; /* nobody hears of what comes after the power cut */

    tick++;
    CHECK(req->status == 0 || crashed || layer_disk_is_cut(machine_disk()) || stop);
    totals.writes += well;
    ordered_write_ended(&writer->write, well, tick);
    for (unsigned b = 0; b < BLOCKS && writer->write.n == 0 && well; b++) {
        block_is_durable(&member->blocks[b], writer->write.began);
    }
    /* Busy at first, then often enough for every cycle to have something. */
    loop_timer_start(&writer->timer, ++writer->n_done % BUSY != 0
                                         ? 2000 + below(PICK(1, 100000, MS_NS))
                                         : below(400 * MS_NS));
}

static void place_find(struct writer *writer)
{
    const struct member *member = &members[writer->member = (unsigned)below(n_members)];
    unsigned n = 1 + (unsigned)below(MOST);

    writer->first = (unsigned)below(BLOCKS);
    writer->write.n = 0;
    while (writer->write.n < n && writer->first % WINDOW + writer->write.n < WINDOW &&
           !member->blocks[writer->first + writer->write.n].busy) {
        writer->write.n++;
    }
    writer->write.n = chance(1, 20) ? 0 : writer->write.n;
}

static void writer_next(void *arg)
{
    struct writer *writer = arg;

    if (stop || crashed || layer_disk_is_cut(machine_disk())) {
        writer->stopped = true;
        return;
    }
    place_find(writer);
    writer->write.began = ++tick;
    writer->write.blocks = &members[writer->member].blocks[writer->first];
    ordered_write_submit(&writer->write, writer->devs[writer->member],
                         writer->write.n == 0 ? 0 : offset_of(writer->first), ++last_stamp,
                         writer_done, writer);
}

/* On the sources, or on the targets that are theirs now. */
static void writers_start(bool on_targets)
{
    stop = false;
    for (unsigned i = 0; i < n_writers; i++) {
        struct writer *writer = &writers[i];

        *writer = (struct writer){0};
        for (unsigned m = 0; m < n_members; m++) {
            writer->devs[m] = handle_of(on_targets ? members[m].target : members[m].source);
        }
        loop_timer_init(&writer->timer, hosts, writer_next, writer);
        loop_timer_start(&writer->timer, below(100000));
    }
}

static bool writers_have_stopped(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < n_writers; i++) {
        if (!writers[i].stopped) {
            return false;
        }
    }
    return true;
}

static void writers_end(void)
{
    stop = true;
    settle(writers_have_stopped, NULL);
    for (unsigned i = 0; i < n_writers; i++) {
        for (unsigned m = 0; m < n_members; m++) {
            handle_close(writers[i].devs[m]);
        }
    }
}

/* ---- what must be ---- */

/* The targets are their hosts': together one cut of the sources. */
static bool targets_check(void)
{
    struct prefix prefix = PREFIX_INIT;

    for (unsigned m = 0; m < n_members; m++) {
        uint64_t stamps[BLOCKS];

        if (!content_read(members[m].target, stamps)) {
            return false;
        }
        for (unsigned b = 0; b < BLOCKS; b++) {
            prefix_add(&prefix, &members[m].blocks[b], stamps[b]);
        }
    }
    prefix_check(&prefix);
    totals.lands++;
    return true;
}

/* What is there is what there is from now on. */
static bool members_settle(bool on_targets)
{
    for (unsigned m = 0; m < n_members; m++) {
        struct member *member = &members[m];
        uint64_t stamps[BLOCKS];

        if (!content_read(on_targets ? member->target : member->source, stamps)) {
            return false;
        }
        for (unsigned b = 0; b < BLOCKS; b++) {
            if (on_targets) {
                member->blocks[b].durable = 0; /* hosts have been told that they lose that */
            }
            block_settle(&member->blocks[b], stamps[b], ++tick);
        }
    }
    return true;
}

/* ---- a run ---- */

static void volume_make(char ret_path[PATH_SIZE])
{
    struct test_call *call =
        call_to(&storage_configuration_service, "CreateOrModifyElementFromStoragePool");

    arg_number(call, "Size", SIZE);
    CHECK(call_end(call, "TheElement", ret_path));
}

static void goal_set(struct test_call *call)
{
    arg_number(call, "SyncType", SYNC_MIRROR);
    arg_number(call, "Mode", MODE_ASYNCHRONOUS);
    arg_text(call, "ReplicationSettingData.DeltaUpdateInterval", "PT1S");
    if (chance(2, 3)) {
        arg_number(call, "ReplicationSettingData.BandwidthLimit", PICK(16, 64, 512) << 10);
    }
}

static void group_mirror(void)
{
    struct test_call *call = call_to(&replication_service, "CreateGroup");
    char group[PATH_SIZE];

    for (unsigned m = 0; m < n_members; m++) {
        arg_item(call, "Members", members[m].source);
    }
    CHECK(call_end(call, "ReplicationGroup", group));
    call = call_to(&replication_service, "CreateGroupReplica");
    goal_set(call);
    arg_number(call, "Consistency", 3);
    arg_text(call, "SourceGroup", group);
    CHECK(call_end(call, "Synchronization", relation));
}

static void mirror_alone(void)
{
    struct test_call *call = call_to(&replication_service, "CreateElementReplica");

    goal_set(call);
    arg_text(call, "SourceElement", members[0].source);
    CHECK(call_end(call, "Synchronization", relation));
}

static void pairs_find(void)
{
    for (unsigned m = 0; m < n_members; m++) {
        struct member *member = &members[m];
        struct condition where[] = {WHERE_TEXT("source_id", id_of(member->source)), WHERE_END};
        struct sync_row row;

        CHECK(table_find(fixture.reader, &sync_table, where, &row) == 0);
        snprintf(member->pair, PATH_SIZE, "/synchronizations/%s", row.head.id);
        snprintf(member->target, PATH_SIZE, "/volumes/%s", row.target_id);
    }
}

static void world_begin(uint64_t seed)
{
    machine_begin(seed, (unsigned)PICK(0, 20, 60));
    CHECK(loop_sim_add(machine_sim(), "hosts", &hosts) == 0);
    loop_sim_stall(machine_sim(), PICK(0, 0, 20000, 300000));
    fixture_init(&fixture);
    rmdir(fixture.dir);
    strcpy(fixture.dir, "/dev/shm/smirror-sim-XXXXXX");
    CHECK(mkdtemp(fixture.dir) != NULL);
    tick = last_stamp = 0;
    crashed = false;
    in_group = chance(1, 2);
    n_members = in_group ? 2 + (unsigned)below(MEMBERS - 1) : 1;
    n_writers = 1 + (unsigned)below(WRITERS);
    service_start();
    for (unsigned m = 0; m < n_members; m++) {
        members[m] = (struct member){0};
        for (unsigned b = 0; b < BLOCKS; b++) {
            version_add(&members[m].blocks[b], 0, 0, 0);
        }
        volume_make(members[m].source);
    }
    if (in_group) {
        group_mirror();
    } else {
        mirror_alone();
    }
    pairs_find();
    state_becomes(STATE_SYNCHRONIZED);
}

static void world_end(void)
{
    machine_on_power_cut(NULL);
    fixture_destroy(&fixture);
    for (unsigned m = 0; m < n_members; m++) {
        for (unsigned b = 0; b < BLOCKS; b++) {
            block_free(&members[m].blocks[b]);
        }
    }
    loop_free(hosts);
    machine_end();
}

static void recover(bool on_targets)
{
    while (crashed) {
        service_again();
        members_settle(on_targets);
    }
}

static void write_for_a_while(bool on_targets)
{
    writers_start(on_targets);
    for (uint64_t n = 1 + below(6); n > 0 && !crashed; n--) {
        machine_pass(below(PICK(10, 200, 2000) * MS_NS));
        if (!crashed) {
            points_look();
        }
    }
}

static bool is_landed(unsigned state)
{
    return state == STATE_FRACTURED || state == STATE_SPLIT || state == STATE_FAILEDOVER;
}

/* In the middle of whatever goes on; again after a crash, until it is done. */
static unsigned land(void)
{
    unsigned operation = (unsigned)PICK(OPERATION_FRACTURE, OPERATION_FRACTURE, OPERATION_SPLIT);

    for (unsigned tries = 0;; tries++) {
        CHECK(tries < 200);
        unsigned state = state_now();

        if (is_landed(state)) {
            return state;
        }
        if (!operate(operation) && !crashed) {
            machine_pass(100 * MS_NS);
        }
        if (crashed) {
            writers_end();
            recover(false);
        }
    }
}

static void one_life(void)
{
    layer_disk_cut_at(machine_disk(), chance(2, 3) ? 1 + below(PICK(50, 400, 2000)) : 0);
    write_for_a_while(false);
    if (crashed) {
        writers_end();
        recover(false);
        return;
    }
    land();
    if (!stop) {
        writers_end();
    }
    for (unsigned m = 0; m < n_members; m++) {
        becomes_writable(members[m].target);
    }
    if (!crashed) {
        targets_check();
    }
    recover(false);
    while (state_now() != STATE_SYNCHRONIZED) {
        if (is_landed(state_now())) {
            operate(OPERATION_RESYNC);
        }
        if (!crashed) {
            machine_pass(100 * MS_NS);
        }
        recover(false);
    }
}

static void run(uint64_t seed)
{
    world_begin(seed);
    for (uint64_t n = 1 + below(LIVES); n > 0; n--) {
        one_life();
    }
    world_end();
}

static void passed(uint64_t count)
{
    printf("%llu writes, %llu crashes, %llu times taken\n", (unsigned long long)totals.writes,
           (unsigned long long)totals.crashes, (unsigned long long)totals.lands);
    CHECK(count < 20 || (totals.crashes > count / 2 && totals.lands > count / 2));
}

int main(int argc, char **argv)
{
    CHECK(mkdtemp(saved_dir) != NULL);
    sim_main(argc, argv,
             &(struct sim){
                 .name = "async", .seeds = SIM_SEEDS(120, 25, 5), .run = run, .passed = passed});
    file_copy("", saved_dir, "smirror.db");
    file_copy("", saved_dir, "smirror.db-wal");
    return rmdir(saved_dir) == 0 ? 0 : 1;
}
