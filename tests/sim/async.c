// SPDX-License-Identifier: Apache-2.0
/*
 * Asynchronous mirrors under a whole service on simulated loops: control, records, group cuts, cycles, copies, layers. Their hosts write, their
 * disks are slow, links to their targets are lost, the power goes at any moment, and now and then the targets are taken (Fracture, Split,
 * Failover) and given back (Resync, Restore, Failback), or the roles are reversed.
 *
 *     sim_async [FIRST [COUNT]]   (tests/sim/seeds.h)
 *
 * One mirror, or the pairs of a consistent relationship of groups; each target hosted, or a LUN of another system (tests/sim/peer.h). Writes have a
 * place in one order (tests/sim/order.h), so a cut is known by what it holds: if it lacks a write it lacks all that began after its end.
 *
 *     taken         the targets are one cut of the sources, no older than the point that the records tell; a LUN that was away then may be none,
 *                   and the records tell that
 *     given back    all that was written to the targets is on the sources
 *     at rest       the sides are equal, on stable storage: whatever differed was known to differ
 *     a crash       the records are what was committed, hosted volumes what was flushed
 */
#include <dirent.h>
#include <errno.h>
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
#include "tests/sim/peer.h"
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
    struct peer_lun *lun; /* the target; NULL: it is hosted */
    bool fails;           /* since the life began its requests may */
    struct block blocks[BLOCKS];
    uint64_t point_ms; /* the newest that was seen in the records */
    unsigned state;    /* that was seen last, since the last operation; 0 none */
};

static struct service_fixture fixture;
static char saved_dir[] = "/dev/shm/smirror-saved-XXXXXX";
static struct member members[MEMBERS];
static unsigned n_members;
static bool in_group;
static bool by_hand;    /* CopyRecoveryMode 3 */
static bool on_targets; /* what counts is there, since they were taken over */
static char relation[PATH_SIZE];
static struct loop *hosts;
static bool crashed;
static struct test_call *unanswered;
static uint64_t last_stamp;

static struct {
    uint64_t writes, crashes, lands, torn, backs, reversals, losses, equals;
} totals;

/* The time of each tick, to tell by points what has to be there. */
static uint64_t *tick_ms;
static uint64_t tick;

static uint64_t next_tick(void)
{
    if (tick % 4096 == 0) {
        tick_ms = realloc(tick_ms, (tick + 4097) * sizeof(*tick_ms));
        CHECK(tick_ms != NULL);
    }
    tick_ms[++tick] = loop_wall_ms(hosts);
    return tick;
}

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
    peer_power_cut();
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
        peer_power_on();
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

static bool operate_on(const char *path, unsigned operation, bool force)
{
    struct test_call *call = call_to(&replication_service, "ModifyReplicaSynchronization");

    arg_number(call, "Operation", operation);
    arg_text(call, "Synchronization", path);
    if (force) {
        arg_number(call, "Force", true);
    }
    for (unsigned m = 0; m < n_members; m++) {
        members[m].state = 0;
    }
    return call_end(call, NULL, NULL);
}

static bool operate(unsigned operation)
{
    return operate_on(relation, operation, false);
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

/* Who asked to be asked is: what was away does not go on by itself. */
static void state_look(struct member *member)
{
    struct sync_row row;

    pair_row(member, &row);
    CHECK(!by_hand || member->state != STATE_PARTITIONED ||
          (row.copy_state != STATE_UNSYNCHRONIZED && row.copy_state != STATE_SYNCHRONIZED));
    member->state = row.copy_state;
}

static void points_look(void)
{
    struct cycle_row cycles[MEMBERS] = {0};

    for (unsigned m = 0; m < n_members; m++) {
        struct member *member = &members[m];
        struct cycle_row *cycle = &cycles[m];

        state_look(member);
        if (cycle_find(fixture.reader, id_of(member->pair), cycle) == 0) {
            CHECK(cycle->point_ms >= member->point_ms ||
                  (cycle->point_ms == 0 && member->lun != NULL));
            member->point_ms = cycle->point_ms;
        }
        /* The last round is over for all of them at once. */
        if (cycle->round_id[0] != '\0' && cycle->way == CYCLE_RESTS && cycle->point_ms != 0 &&
            member->state == STATE_SYNCHRONIZED && cycles[0].way == CYCLE_RESTS &&
            members[0].state == STATE_SYNCHRONIZED && cycles[0].point_ms != 0 &&
            strcmp(cycle->round_id, cycles[0].round_id) == 0) {
            CHECK(cycle->point_ms == cycles[0].point_ms);
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

static void window_stamps(const uint64_t *words, uint64_t stamps[WINDOW])
{
    for (unsigned b = 0; b < WINDOW; b++) {
        const uint64_t *block = words + b * BLOCK / 8;

        stamps[b] = block[0];
        for (unsigned i = 1; i < BLOCK / 8; i++) {
            CHECK(block[i] == block[0]);
        }
    }
}

/* False: the power went meanwhile. */
static bool content_read(const char *path, uint64_t stamps[BLOCKS])
{
    static uint64_t words[WINDOW * BLOCK / 8];
    struct blockdev *dev = handle_of(path);
    int status = 0;

    for (unsigned w = 0; w < WINDOWS && status == 0; w++) {
        status = request(dev, BLOCK_READ, (uint64_t)w * APART, words, sizeof(words));
        if (status == 0) {
            window_stamps(words, stamps + w * WINDOW);
        }
    }
    handle_close(dev);
    CHECK(status == 0 || crashed);
    return status == 0;
}

/* A LUN of another system: what it has on stable storage. */
static bool side_read(const struct member *member, bool target, uint64_t stamps[BLOCKS])
{
    static uint64_t words[WINDOW * BLOCK / 8];

    if (!target || member->lun == NULL) {
        return content_read(target ? member->target : member->source, stamps);
    }
    for (unsigned w = 0; w < WINDOWS; w++) {
        memcpy(words, peer_lun_disk(member->lun)->stable + w * APART, sizeof(words));
        window_stamps(words, stamps + w * WINDOW);
    }
    return true;
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
static bool stopped_by_us; /* hosts may find that they can only read */

static void writer_next(void *arg);

static void writer_done(struct block_req *req)
{
    struct writer *writer = req->arg;
    struct member *member = &members[writer->member];

    bool well = req->status == 0 && !crashed; /* nobody hears of what comes after the power cut */

    CHECK(req->status == 0 || crashed || layer_disk_is_cut(machine_disk()) || stop ||
          (stopped_by_us && req->status == -EROFS));
    totals.writes += well;
    ordered_write_ended(&writer->write, well, next_tick());
    for (unsigned b = 0; b < BLOCKS && writer->write.n == 0 && well; b++) {
        block_is_durable(&member->blocks[b], writer->write.began);
    }
    /* Busy at first, then often enough for every cycle to have something. */
    loop_timer_start(&writer->timer, ++writer->n_done % BUSY != 0
                                         ? 2000 + below(PICK(1, 100000, MS_NS))
                                         : below(400 * MS_NS));
}

/* Not of one whose hosts do not come by us: a flush of another one. */
static void place_find(struct writer *writer)
{
    unsigned n = chance(1, 20) ? 0 : 1 + (unsigned)below(MOST);

    writer->write.n = 0;
    writer->first = (unsigned)below(BLOCKS);
    writer->member = (unsigned)below(n_members);
    while (writer->devs[writer->member] == NULL) {
        writer->member = (writer->member + 1) % n_members;
        n = 0;
    }
    while (writer->write.n < n && writer->first % WINDOW + writer->write.n < WINDOW &&
           !members[writer->member].blocks[writer->first + writer->write.n].busy) {
        writer->write.n++;
    }
}

static void writer_next(void *arg)
{
    struct writer *writer = arg;

    if (stop || crashed || layer_disk_is_cut(machine_disk())) {
        writer->stopped = true;
        return;
    }
    place_find(writer);
    writer->write.began = next_tick();
    writer->write.blocks = &members[writer->member].blocks[writer->first];
    ordered_write_submit(&writer->write, writer->devs[writer->member],
                         writer->write.n == 0 ? 0 : offset_of(writer->first), ++last_stamp,
                         writer_done, writer);
}

/* Hosts of a LUN of another system do not come by us. */
static void lun_is_written(struct member *member)
{
    uint64_t words[BLOCK / 8];
    unsigned b = (unsigned)below(BLOCKS);

    last_stamp++;
    for (unsigned i = 0; i < BLOCK / 8; i++) {
        words[i] = last_stamp;
    }
    uint64_t began = next_tick();

    peer_lun_write(member->lun, offset_of(b), words, sizeof(words));
    version_add(&member->blocks[b], last_stamp, began, next_tick());
    block_is_durable(&member->blocks[b], tick);
}

/* On the sources, or on the targets that are theirs now. */
static void writers_start(void)
{
    stop = stopped_by_us = false;
    for (unsigned i = 0; i < n_writers; i++) {
        struct writer *writer = &writers[i];

        *writer = (struct writer){.stopped = true};
        for (unsigned m = 0; m < n_members; m++) {
            bool hosted = !on_targets || members[m].lun == NULL;

            writer->devs[m] =
                hosted ? handle_of(on_targets ? members[m].target : members[m].source) : NULL;
            writer->stopped = writer->stopped && !hosted;
        }
        loop_timer_init(&writer->timer, hosts, writer_next, writer);
        if (!writer->stopped) {
            loop_timer_start(&writer->timer, below(100000));
        }
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
            if (writers[i].devs[m] != NULL) {
                handle_close(writers[i].devs[m]);
            }
        }
    }
}

/* ---- what must be ---- */

/* It is no moment, which only one that was away can be: then the records say so. */
static bool is_torn(struct member *member, uint64_t asked_ns)
{
    struct sync_row row;

    pair_row(member, &row);
    if (row.problem[0] == '\0') {
        return false;
    }
    CHECK(member->lun != NULL &&
          (member->fails || peer_lun_lost_until_ns(member->lun) + 2 * SEC_NS > asked_ns));
    totals.torn++;
    member->point_ms = 0;
    return true;
}

/* The targets are their hosts': together one cut of the sources, and each has what had ended before its point. */
static bool targets_check(uint64_t asked_ns)
{
    struct prefix prefix = PREFIX_INIT;

    points_look();
    for (unsigned m = 0; m < n_members; m++) {
        uint64_t stamps[BLOCKS];
        struct prefix own = PREFIX_INIT;
        bool torn = is_torn(&members[m], asked_ns);

        if (!side_read(&members[m], true, stamps)) {
            return false;
        }
        for (unsigned b = 0; b < BLOCKS; b++) {
            CHECK(version_of(&members[m].blocks[b], stamps[b]) < members[m].blocks[b].n);
            prefix_add(torn ? &own : &prefix, &members[m].blocks[b], stamps[b]);
            prefix_add(&own, &members[m].blocks[b], stamps[b]);
        }
        CHECK(torn || members[m].point_ms != 0);
        CHECK(torn || own.oldest_ended == UINT64_MAX ||
              tick_ms[own.oldest_ended] >= members[m].point_ms);
    }
    prefix_check(&prefix);
    totals.lands++;
    return true;
}

/* What is there is what there is from now on; false: the power went. */
static bool members_settle(void)
{
    for (unsigned m = 0; m < n_members; m++) {
        struct member *member = &members[m];
        uint64_t stamps[BLOCKS];

        if (!side_read(member, on_targets, stamps)) {
            return false;
        }
        for (unsigned b = 0; b < BLOCKS; b++) {
            block_settle(&member->blocks[b], stamps[b], next_tick());
        }
    }
    return true;
}

/* All that hosts have been told of is there. */
static bool sources_are_newest(void)
{
    for (unsigned m = 0; m < n_members; m++) {
        uint64_t stamps[BLOCKS];

        if (!side_read(&members[m], false, stamps)) {
            return false;
        }
        for (unsigned b = 0; b < BLOCKS; b++) {
            block_is_newest(&members[m].blocks[b], stamps[b]);
        }
    }
    return true;
}

static bool points_are_after(uint64_t ms)
{
    for (unsigned m = 0; m < n_members; m++) {
        if (members[m].point_ms <= ms) {
            return false;
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

static void lun_make(unsigned m)
{
    struct access_point_row portal = {.info_format = 3};
    struct system_row system = {.element_name = "peer"};
    struct volume_row volume = {.kind = VOLUME_REMOTE,
                                .size_bytes = SIZE,
                                .block_bytes = 512,
                                .physical_bytes = 4096,
                                .persistent = true};

    snprintf(volume.iqn, sizeof(volume.iqn), "iqn.2026-11.peer:%u", m);
    snprintf(volume.identity, sizeof(volume.identity), "naa.600000000000000%u", m);
    snprintf(volume.element_name, sizeof(volume.element_name), "lun %u", m);
    snprintf(portal.address, sizeof(portal.address), "127.0.0.1:%u", 3261 + m);
    strcpy(portal.access_info, portal.address);
    row_insert(&fixture, &system_table, &system);
    strcpy(portal.system_id, system.head.id);
    row_insert(&fixture, &access_point_table, &portal);
    strcpy(volume.system_id, system.head.id);
    strcpy(volume.access_point_id, portal.head.id);
    row_insert(&fixture, &volume_table, &volume);
    members[m].lun = peer_lun_new(volume.iqn, SIZE);
    snprintf(members[m].target, PATH_SIZE, "/volumes/%s", volume.head.id);
}

static void goal_set(struct test_call *call)
{
    arg_number(call, "SyncType", SYNC_MIRROR);
    arg_number(call, "Mode", MODE_ASYNCHRONOUS);
    arg_text(call, "ReplicationSettingData.DeltaUpdateInterval", "PT1S");
    if (chance(2, 3)) {
        arg_number(call, "ReplicationSettingData.BandwidthLimit", PICK(16, 64, 512) << 10);
    }
    if (by_hand) {
        arg_number(call, "ReplicationSettingData.CopyRecoveryMode", 3);
    }
}

static void group_make(bool of_targets, char ret_group[PATH_SIZE])
{
    struct test_call *call = call_to(&replication_service, "CreateGroup");

    for (unsigned m = 0; m < n_members; m++) {
        arg_item(call, "Members", of_targets ? members[m].target : members[m].source);
    }
    CHECK(call_end(call, "ReplicationGroup", ret_group));
}

static void group_mirror(bool targets_given)
{
    char source[PATH_SIZE];
    char target[PATH_SIZE];

    group_make(false, source);
    if (targets_given) {
        group_make(true, target);
    }
    struct test_call *call = call_to(&replication_service, "CreateGroupReplica");

    goal_set(call);
    arg_number(call, "Consistency", 3);
    arg_text(call, "SourceGroup", source);
    if (targets_given) {
        arg_text(call, "TargetGroup", target);
    }
    CHECK(call_end(call, "Synchronization", relation));
}

static void mirror_alone(void)
{
    struct test_call *call = call_to(&replication_service, "CreateElementReplica");

    goal_set(call);
    arg_text(call, "SourceElement", members[0].source);
    if (members[0].lun != NULL) {
        arg_text(call, "TargetElement", members[0].target);
    }
    CHECK(call_end(call, "Synchronization", relation));
}

/* Roles may have been reversed. */
static void sides_find(void)
{
    for (unsigned m = 0; m < n_members; m++) {
        struct member *member = &members[m];
        struct sync_row row;

        pair_row(member, &row);
        snprintf(member->source, PATH_SIZE, "/volumes/%s", row.source_id);
        snprintf(member->target, PATH_SIZE, "/volumes/%s", row.target_id);
    }
}

static void pairs_find(void)
{
    for (unsigned m = 0; m < n_members; m++) {
        struct member *member = &members[m];
        struct condition where[] = {WHERE_TEXT("source_id", id_of(member->source)), WHERE_END};
        struct sync_row row;

        CHECK(table_find(fixture.reader, &sync_table, where, &row) == 0);
        snprintf(member->pair, PATH_SIZE, "/synchronizations/%s", row.head.id);
    }
    sides_find();
}

/* Targets that are made with the mirror, or are there: of any kind. */
static void members_make(void)
{
    bool targets_given = chance(2, 3);

    for (unsigned m = 0; m < n_members; m++) {
        members[m] = (struct member){0};
        for (unsigned b = 0; b < BLOCKS; b++) {
            version_add(&members[m].blocks[b], 0, 0, 0);
        }
        volume_make(members[m].source);
        if (targets_given && chance(3, 4)) {
            lun_make(m);
        } else if (targets_given) {
            volume_make(members[m].target);
        }
    }
    if (in_group) {
        group_mirror(targets_given);
    } else {
        mirror_alone();
    }
    pairs_find();
}

static void world_begin(uint64_t seed)
{
    machine_begin(seed, (unsigned)PICK(0, 20, 60));
    peer_begin(seed);
    CHECK(loop_sim_add(machine_sim(), "hosts", &hosts) == 0);
    loop_sim_stall(machine_sim(), PICK(0, 0, 20000, 300000));
    fixture_init(&fixture);
    rmdir(fixture.dir);
    strcpy(fixture.dir, "/dev/shm/smirror-sim-XXXXXX");
    CHECK(mkdtemp(fixture.dir) != NULL);
    tick = last_stamp = 0;
    crashed = on_targets = false;
    in_group = chance(1, 2);
    by_hand = chance(1, 4);
    n_members = in_group ? 2 + (unsigned)below(MEMBERS - 1) : 1;
    n_writers = 1 + (unsigned)below(WRITERS);
    service_start();
    members_make();
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
    peer_end();
    machine_end();
}

static void recover(void)
{
    while (crashed) {
        service_again();
        sides_find();
        members_settle();
    }
}

/* Links are lost and come back, LUNs are slow, requests fail. */
static void trouble(void)
{
    for (unsigned m = 0; m < n_members; m++) {
        struct peer_lun *lun = members[m].lun;

        if (lun == NULL || chance(1, 3)) {
            continue;
        }
        switch (below(5)) {
        case 0:
        case 1:
            peer_lun_lost(lun, below(PICK(100, 3000, 30000) * MS_NS));
            totals.losses++;
            break;
        case 2:
            peer_lun_slow(lun, PICK(0, 1, 20, 200) * MS_NS);
            break;
        case 3:
            members[m].fails = true;
            peer_lun_fails(lun, TEST_OP(BLOCK_READ) | TEST_OP(BLOCK_WRITE) | TEST_OP(BLOCK_FLUSH),
                           1 + (unsigned)below(3), (int)-PICK(EIO, ENOTCONN));
            break;
        default:
            break;
        }
    }
}

/* False: the power went. */
static bool pass(uint64_t ns)
{
    machine_pass(ns);
    if (!crashed) {
        points_look();
    }
    return !crashed;
}

static void write_for_a_while(void)
{
    writers_start();
    for (uint64_t n = 1 + below(6); n > 0 && !crashed; n--) {
        for (unsigned m = 0; m < n_members && on_targets; m++) {
            if (members[m].lun != NULL) {
                lun_is_written(&members[m]);
            }
        }
        if (pass(below(PICK(10, 200, 2000) * MS_NS)) && chance(2, 3)) {
            trouble();
        }
    }
}

/* The records tell a point only when it is what the target has: what an interrupted cycle has overwritten is written back first. */
static void members_are_whole(void)
{
    for (unsigned m = 0; m < n_members && !crashed; m++) {
        struct cycle_row cycle;

        for (uint64_t end_ns = now_ns() + PATIENCE_S * SEC_NS;
             cycle_find(fixture.reader, id_of(members[m].pair), &cycle) == 0 &&
             cycle.way != CYCLE_RESTS && pass(20 * MS_NS);) {
            CHECK(now_ns() < end_ns);
        }
        if (members[m].lun == NULL) {
            becomes_writable(members[m].target);
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
    unsigned operation =
        (unsigned)PICK(OPERATION_FRACTURE, OPERATION_SPLIT, OPERATION_FAILOVER, OPERATION_FAILOVER);

    stopped_by_us = operation == OPERATION_FAILOVER;
    for (unsigned tries = 0;; tries++) {
        CHECK(tries < 400);
        unsigned state = state_now();

        if (is_landed(state)) {
            return state;
        }
        if (tries == 3) {
            operation = OPERATION_FRACTURE; /* a last cycle takes longer than anybody waits */
        }
        if (tries > 3 && state != STATE_SYNCHRONIZED) {
            stopped_by_us = true; /* whatever it is in the middle of, and whoever is away */
            operate_on(relation, OPERATION_FAILOVER, true);
        } else {
            operate(operation);
        }
        if (!crashed) {
            pass(100 * MS_NS);
        }
        if (crashed) {
            writers_end();
            recover();
        }
    }
}

/* What each one needs, in what state it is, to be Synchronized. */
static void member_goes_on(struct member *member)
{
    struct sync_row row;

    pair_row(member, &row);
    if (row.copy_state == STATE_SUSPENDED) {
        operate_on(member->pair, OPERATION_RESUME, false);
    } else if (row.copy_state == STATE_BROKEN) {
        operate_on(member->pair, row.source_incomplete ? OPERATION_RESTORE : OPERATION_RESYNC,
                   false);
    }
}

/* Until all are Synchronized, with what brings them there from where the targets are their hosts'; the crashes on the way included. */
static void flow_again(unsigned (*operation_from)(unsigned state))
{
    for (unsigned tries = 0; state_now() != STATE_SYNCHRONIZED; tries++) {
        unsigned state = state_now();

        CHECK(tries < 6000);
        if (is_landed(state)) {
            operate(operation_from(state));
        } else if (state == STATE_UNSYNCHRONIZED && on_targets && tries < 20 && chance(1, 6)) {
            operate_on(relation, OPERATION_FAILOVER, true); /* what was on its way is left */
        }
        for (unsigned m = 0; m < n_members && !crashed; m++) {
            member_goes_on(&members[m]);
        }
        if (!crashed && pass(100 * MS_NS) && tries < 40 && chance(1, 8)) {
            trouble();
        }
        if (crashed) {
            if (!stop) {
                writers_end();
            }
            recover();
        }
    }
}

static unsigned resync_from(unsigned state)
{
    (void)state;
    return OPERATION_RESYNC;
}

static unsigned back_from(unsigned state)
{
    return state == STATE_FAILEDOVER ? OPERATION_FAILBACK : OPERATION_RESTORE;
}

/* The targets' hosts change something that is given up again. */
static void scribble(void)
{
    static uint64_t words[BLOCK / 8];

    words[0] = 0;
    for (unsigned i = 0; i < BLOCK / 8; i++) {
        words[i] = UINT64_MAX;
    }
    for (unsigned m = 0; m < n_members && !crashed; m++) {
        struct blockdev *dev = members[m].lun == NULL ? handle_of(members[m].target) : NULL;

        for (uint64_t n = below(8); n > 0; n--) {
            uint64_t offset = offset_of((unsigned)below(BLOCKS));

            if (dev == NULL) {
                peer_lun_write(members[m].lun, offset, words, sizeof(words));
            } else {
                CHECK(request(dev, BLOCK_WRITE, offset, words, sizeof(words)) == 0 || crashed);
            }
        }
        if (dev != NULL) {
            handle_close(dev);
        }
    }
}

/* The targets are used in place of the sources, and what was written there comes back. */
static void give_back(void)
{
    on_targets = true;
    for (unsigned m = 0; m < n_members; m++) {
        for (unsigned b = 0; b < BLOCKS; b++) {
            members[m].blocks[b].durable = 0; /* hosts have been told that they lose that */
        }
    }
    while (!members_settle()) {
        recover();
    }
    write_for_a_while();
    if (crashed) {
        writers_end();
        recover();
    }
    stopped_by_us = true;
    flow_again(back_from);
    if (!stop) {
        writers_end();
    }
    while (!sources_are_newest()) {
        recover();
    }
    on_targets = false;
    totals.backs++;
    while (!members_settle()) {
        recover();
    }
}

static void reverse(void)
{
    stopped_by_us = true;
    bool well = operate(OPERATION_REVERSE_ROLES);

    writers_end();
    sides_find();
    if (crashed) {
        recover();
    } else if (sources_are_newest() && members_settle()) {
        totals.reversals += well;
    }
    recover();
    for (unsigned m = 0; m < n_members; m++) {
        becomes_writable(members[m].source);
    }
    recover();
}

/* Nobody writes: once a cycle has begun after that, what is on one side is on the other. */
static void sides_become_equal(void)
{
    uint64_t since_ms = loop_wall_ms(hosts);

    for (uint64_t end_ns = now_ns() + PATIENCE_S * SEC_NS; !points_are_after(since_ms);) {
        CHECK(now_ns() < end_ns);
        if (!pass(100 * MS_NS)) {
            return;
        }
        for (unsigned m = 0; m < n_members && !crashed; m++) {
            member_goes_on(&members[m]);
        }
    }
    for (unsigned m = 0; m < n_members; m++) {
        uint64_t sides[2][BLOCKS];

        if (!side_read(&members[m], false, sides[0]) || !side_read(&members[m], true, sides[1])) {
            return;
        }
        CHECK(memcmp(sides[0], sides[1], sizeof(sides[0])) == 0);
    }
    totals.equals++;
}

static bool no_lun(void)
{
    for (unsigned m = 0; m < n_members; m++) {
        if (members[m].lun != NULL) {
            return false;
        }
    }
    return true;
}

/* The targets are their hosts' for a while. */
static void take(void)
{
    uint64_t asked_ns = now_ns();

    land();
    if (!stop) {
        writers_end();
    }
    members_are_whole();
    if (!crashed) {
        targets_check(asked_ns);
    }
    recover();
    if (!is_landed(state_now())) {
        return;
    }
    if (state_now() == STATE_FAILEDOVER || chance(1, 2)) {
        give_back();
        return;
    }
    scribble();
    recover();
    flow_again(resync_from);
}

static void one_life(void)
{
    layer_disk_cut_at(machine_disk(), chance(2, 3) ? 1 + below(PICK(50, 400, 2000)) : 0);
    for (unsigned m = 0; m < n_members; m++) {
        members[m].fails = false;
    }
    write_for_a_while();
    if (crashed) {
        writers_end();
        recover();
        return;
    }
    if (chance(1, 8)) {
        writers_end();
        layer_disk_cut_at(machine_disk(), 0);
        service_again(); /* in an orderly way */
    } else if (no_lun() && chance(1, 4)) {
        reverse();
    } else {
        take();
    }
    flow_again(resync_from);
    if (chance(1, 2)) {
        sides_become_equal();
        recover();
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
    printf("%llu writes, %llu crashes, %llu links lost; %llu times taken (%llu torn), given back "
           "%llu, reversed "
           "%llu, found equal %llu\n",
           (unsigned long long)totals.writes, (unsigned long long)totals.crashes,
           (unsigned long long)totals.losses, (unsigned long long)totals.lands,
           (unsigned long long)totals.torn, (unsigned long long)totals.backs,
           (unsigned long long)totals.reversals, (unsigned long long)totals.equals);
    CHECK(count < 20 || (totals.crashes > count / 2 && totals.lands > count / 2 &&
                         totals.losses > count / 5 && totals.backs > count / 4));
}

int main(int argc, char **argv)
{
    CHECK(mkdtemp(saved_dir) != NULL);
    sim_main(argc, argv,
             &(struct sim){
                 .name = "async", .seeds = SIM_SEEDS(120, 25, 5), .run = run, .passed = passed});
    file_copy("", saved_dir, "smirror.db");
    file_copy("", saved_dir, "smirror.db-wal");
    free(tick_ms);
    return rmdir(saved_dir) == 0 ? 0 : 1;
}
