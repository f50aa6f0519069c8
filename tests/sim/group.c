// SPDX-License-Identifier: Apache-2.0
/*
 * Volumes that are cut together, on several simulated loops over a disk that is slow, reorders, fails and loses its power: every cut is
 * a prefix of what was written.
 *
 *     sim_group [FIRST [COUNT]]   (tests/sim/seeds.h)
 *
 * Writers, each on a loop of its own choice, write over all members; every write has a place in the one order in which writes begin and end. A
 * cut holds or lacks each of them: if it lacks one that had ended before another began, it must lack that, too. What a round may besides: be
 * void (a member does not come to rest within the deadline), and then no layer is in use and no host has waited longer. After a power cut the
 * records name the new layers of all members or of none, a cut that was called done is what it was, and every block is at least what was flushed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "hosting/array.h"
#include "tests/sim/machine.h"
#include "tests/sim/order.h"
#include "tests/sim/seeds.h"

enum {
    LOOPS = 4, /* at most, as all of these */
    MEMBERS = 6,
    WRITERS = 6,
    ROUNDS = 10,
    LIVES = 3,
    CHAIN = 2 + ROUNDS,
    BLOCK = ORDER_BLOCK,
    BLOCKS = 40,
    SIZE = BLOCKS * BLOCK,
    MOST = ORDER_MOST, /* blocks of a write */
    NAME = ARRAY_ID_LEN + 1,
    STEPS = 70,
    STEPS_BESIDES = 40,
    BUSY = 120, /* writes */
};

static char dir[64];

static struct loop *control;
static struct loop *loops[LOOPS];
static unsigned n_loops;
static struct array *array;
static unsigned deadline_ms;
static uint64_t stall_ns; /* loops may stand still for that long between two steps */
static bool trouble;      /* the disk has failed: not everything that is asked for is done */

static uint64_t tick; /* of writes that begin and end */
static uint64_t last_stamp;
static unsigned serial;

static struct {
    uint64_t cuts, voids, crashes, crashed_cuts, writes, failed;
} totals;

static bool power_is_cut(void)
{
    return layer_disk_is_cut(machine_disk());
}

static void settle(bool (*done)(void *arg), void *arg)
{
    CHECK(loop_sim_run_until(machine_sim(), done, arg, 1000 * SEC_NS));
}

/* ---- what was written ---- */

struct member {
    char id[NAME];
    char family[NAME];
    char chain[CHAIN][NAME]; /* as the records say, oldest first */
    unsigned n_chain;
    struct block blocks[BLOCKS];
};

static struct member members[MEMBERS];
static unsigned n_members;

static void member_is_durable(struct member *member, uint64_t then)
{
    for (unsigned b = 0; b < BLOCKS; b++) {
        block_is_durable(&member->blocks[b], then);
    }
}

/* ---- asking the array ---- */

struct result {
    bool done;
    struct error error;
};

static bool is_done(void *arg)
{
    return ((struct result *)arg)->done;
}

static void on_done(void *arg, const struct error *error)
{
    struct result *result = arg;

    CHECK(!result->done);
    result->done = true;
    if (error != NULL) {
        result->error = *error;
    }
}

static bool went_well(struct result *result)
{
    settle(is_done, result);
    if (result->error.code != ERR_NONE && !trouble && !power_is_cut()) {
        fprintf(stderr, "%s\n", result->error.detail);
        CHECK(!"it is done, for nothing is in its way");
    }
    return result->error.code == ERR_NONE;
}

static struct array_layer layer_named(const char *name)
{
    struct array_layer layer = {.pool_id = "pool", .size_bytes = SIZE};

    strcpy(layer.id, name);
    return layer;
}

static bool layer_make(const char *family, const char *name)
{
    struct array_layer layer = layer_named(name);
    struct result result = {0};

    array_layers_create(array, family, &layer, 1, on_done, &result);
    return went_well(&result);
}

static bool volume_open(const char *id, const struct member *member, unsigned n_chain, bool frozen)
{
    struct array_layer layers[CHAIN];
    struct array_volume volume = {
        .size_bytes = SIZE, .layers = layers, .n_layers = n_chain, .frozen = frozen};
    struct result result = {0};

    strcpy(volume.id, id);
    strcpy(volume.family, member->family);
    for (unsigned i = 0; i < n_chain; i++) {
        layers[i] = layer_named(member->chain[i]);
    }
    array_volume_open(array, &volume, on_done, &result);
    return went_well(&result);
}

static void volume_close(const char *id)
{
    struct result result = {0};

    array_volume_close(array, id, on_done, &result);
    went_well(&result);
}

struct opened {
    struct blockdev *dev;
    bool done;
};

static void handle_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct opened *opened = arg;

    CHECK(error == NULL);
    *opened = (struct opened){dev, true};
}

static bool is_open(void *arg)
{
    return ((struct opened *)arg)->done;
}

static struct blockdev *handle_of(const char *id, struct loop *loop)
{
    struct block_opener *opener = array_volume_opener(array, id);
    struct opened opened = {0};

    opener->ops->open(opener, loop, handle_opened, &opened);
    settle(is_open, &opened);
    opener->ops->free(opener);
    return opened.dev;
}

static void flag(void *arg)
{
    *(bool *)arg = true;
}

static bool flag_is_set(void *arg)
{
    return *(bool *)arg;
}

static void handle_close(struct blockdev *dev)
{
    bool closed = false;

    blockdev_close(dev, flag, &closed);
    settle(flag_is_set, &closed);
}

/* ---- writers ---- */

struct writer {
    struct loop *loop;
    struct blockdev *devs[MEMBERS];
    struct ordered_write write;
    struct loop_timer timer;
    unsigned member;
    unsigned first;
    uint64_t think_ns; /* between two writes, at most */
    unsigned n_done;
    bool stopped;
};

static struct writer writers[WRITERS];
static unsigned n_writers;
static bool stop;

static void writer_next(void *arg);

static void write_ended(struct writer *writer, int status)
{
    struct member *member = &members[writer->member];

    totals.writes += status == 0;
    totals.failed += status != 0;
    tick++;
    ordered_write_ended(&writer->write, status == 0, tick);
    if (writer->write.n == 0 && status == 0) {
        member_is_durable(member, writer->write.began);
    }
}

static void writer_done(struct block_req *req)
{
    struct writer *writer = req->arg;

    CHECK(req->status == 0 || trouble || power_is_cut());
    write_ended(writer, req->status);
    /* Busy at first, then often enough for every round to find it at work. */
    loop_timer_start(&writer->timer, 2000 + below(++writer->n_done < BUSY ? writer->think_ns
                                                                          : deadline_ms * MS_NS));
}

/* A place where nobody writes now: what a block is of is known then. */
static void place_find(struct writer *writer)
{
    const struct member *member;
    unsigned n;

    writer->member = (unsigned)below(n_members);
    writer->first = (unsigned)below(BLOCKS);
    member = &members[writer->member];
    n = 1 + (unsigned)below(MOST);
    writer->write.n = 0;
    while (writer->write.n < n && writer->first + writer->write.n < BLOCKS &&
           !member->blocks[writer->first + writer->write.n].busy) {
        writer->write.n++;
    }
    writer->write.n = chance(1, 20) ? 0 : writer->write.n;
}

static void writer_next(void *arg)
{
    struct writer *writer = arg;

    if (stop || power_is_cut()) {
        writer->stopped = true;
        return;
    }
    place_find(writer);
    writer->write.began = ++tick;
    writer->write.blocks = &members[writer->member].blocks[writer->first];
    ordered_write_submit(&writer->write, writer->devs[writer->member],
                         (uint64_t)writer->first * BLOCK, ++last_stamp, writer_done, writer);
}

static void writers_start(void)
{
    stop = false;
    for (unsigned i = 0; i < n_writers; i++) {
        struct writer *writer = &writers[i];
        unsigned at = (unsigned)below(n_loops + 1);

        *writer = (struct writer){.loop = at < n_loops ? loops[at] : control,
                                  .think_ns = PICK(1, 1, 20000, 500000)};
        for (unsigned m = 0; m < n_members; m++) {
            writer->devs[m] = handle_of(members[m].id, writer->loop);
        }
        loop_timer_init(&writer->timer, writer->loop, writer_next, writer);
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

/* ---- rounds ---- */

struct round {
    bool in[MEMBERS];
    char layers[MEMBERS][NAME];
    unsigned below[MEMBERS]; /* how many layers of the chain it froze */
    struct result decided;
    struct result done;
    uint64_t asked; /* ticks */
    uint64_t told;
    uint64_t asked_ns;
    bool alone; /* nothing else was asked of the array meanwhile */
    bool known; /* it has been read: */
    uint64_t read[MEMBERS][BLOCKS];
    bool is_cut; /* of one moment: decided before the power went, or done */
};

static struct round rounds[ROUNDS];
static unsigned n_rounds;
static unsigned n_removing; /* layers of void rounds */

static bool round_is_over(const struct round *round)
{
    return round->done.done || (round->decided.done && round->decided.error.code != ERR_NONE);
}

static bool rounds_are_over(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < n_rounds; i++) {
        if (!round_is_over(&rounds[i])) {
            return false;
        }
    }
    return n_removing == 0;
}

static unsigned chain_index(const struct member *member, const char *layer)
{
    unsigned i = 0;

    while (i < member->n_chain && strcmp(member->chain[i], layer) != 0) {
        i++;
    }
    CHECK(i < member->n_chain);
    return i;
}

/* Those that are in use do not go. */
static void layer_removed(void *arg, const struct error *error)
{
    (void)arg;
    CHECK(error == NULL);
    n_removing--;
}

static void round_take_back(const struct round *round)
{
    for (unsigned m = 0; m < n_members; m++) {
        struct member *member = &members[m];

        if (round->in[m]) {
            unsigned at = chain_index(member, round->layers[m]);
            struct array_layer layer = layer_named(round->layers[m]);

            member->n_chain--;
            memmove(member->chain[at], member->chain[at + 1],
                    (member->n_chain - at) * sizeof(member->chain[0]));
            n_removing++;
            array_layers_remove(array, member->family, &layer, 1, layer_removed, NULL);
        }
    }
}

/* The loops need a few steps besides. */
static uint64_t longest_ns(void)
{
    return deadline_ms * MS_NS + STEPS_BESIDES * stall_ns;
}

static void round_decided(void *arg, const struct error *error, uint64_t pause_ns)
{
    struct round *round = arg;
    uint64_t took_ns = loop_sim_now_ns(machine_sim()) - round->asked_ns;

    on_done(&round->decided, error);
    round->told = tick;
    CHECK(!round->alone || took_ns <= longest_ns());
    if (error != NULL) {
        CHECK(error->code == ERR_TIMEOUT || (!round->alone && error->code == ERR_CONFLICT));
        totals.voids++;
        round_take_back(round);
        return;
    }
    CHECK(pause_ns <= longest_ns());
    totals.cuts++;
    round->is_cut = true;
    for (unsigned m = 0; m < n_members; m++) {
        round->below[m] = round->in[m] ? chain_index(&members[m], round->layers[m]) : 0;
    }
}

static void round_done(void *arg, const struct error *error)
{
    struct round *round = arg;

    CHECK(round->decided.done && round->is_cut);
    CHECK(error == NULL || trouble || power_is_cut());
    on_done(&round->done, error);
    for (unsigned m = 0; m < n_members && error == NULL; m++) {
        if (round->in[m]) {
            member_is_durable(&members[m], round->asked);
        }
    }
}

/* Layers first, then the records of all, then the cut. */
static void round_begin(void)
{
    struct round *round = &rounds[n_rounds];
    struct array_group_member parts[MEMBERS];
    unsigned n = 0;
    bool made = true;

    memset(round, 0, sizeof(*round));
    for (unsigned m = 0; m < n_members && made; m++) {
        round->in[m] = chance(7, 8) || (n == 0 && m == n_members - 1);
        if (round->in[m]) {
            snprintf(round->layers[m], NAME, "t%u", serial++);
            made = layer_make(members[m].family, round->layers[m]);
            strcpy(parts[n].volume_id, members[m].id);
            strcpy(parts[n++].layer_id, round->layers[m]);
        }
    }
    if (!made) {
        return; /* files that no record names */
    }
    for (unsigned m = 0; m < n_members; m++) {
        struct member *member = &members[m];

        if (round->in[m]) {
            CHECK(member->n_chain < CHAIN);
            strcpy(member->chain[member->n_chain++], round->layers[m]);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        unsigned other = (unsigned)below(n);
        struct array_group_member part = parts[i];

        parts[i] = parts[other];
        parts[other] = part;
    }
    round->alone = rounds_are_over(NULL);
    n_rounds++;
    round->asked = tick;
    round->asked_ns = loop_sim_now_ns(machine_sim());
    array_group_cut(array, parts, n, deadline_ms, round_decided, round_done, round);
    for (unsigned i = 0; i + 1 < n_rounds; i++) {
        rounds[i].alone = rounds[i].alone && round_is_over(&rounds[i]);
    }
}

/* ---- what a volume or a cut has ---- */

static void read_done(struct block_req *req)
{
    *(bool *)req->arg = true;
}

/* False: the power went meanwhile. */
static bool content_read(const char *id, uint64_t stamps[BLOCKS])
{
    static uint64_t words[SIZE / 8];
    struct blockdev *dev = handle_of(id, control);
    struct slice slice = {.data = (void *)words, .len = SIZE};
    bool done = false;
    struct block_req req = {.op = BLOCK_READ,
                            .len = SIZE,
                            .slices = &slice,
                            .n_slices = 1,
                            .done = read_done,
                            .arg = &done};

    blockdev_submit(dev, &req);
    settle(flag_is_set, &done);
    handle_close(dev);
    CHECK(req.status == 0 || trouble || power_is_cut());
    for (unsigned b = 0; b < BLOCKS && req.status == 0; b++) {
        stamps[b] = words[b * BLOCK / 8];
        for (unsigned w = 1; w < BLOCK / 8; w++) {
            CHECK(words[b * BLOCK / 8 + w] == stamps[b]);
        }
    }
    return req.status == 0;
}

/* What had ended before it was asked for is in it, what began after it was told is not, and in between it is a prefix. */
static void round_check(const struct round *round)
{
    struct prefix prefix = PREFIX_INIT;

    for (unsigned m = 0; m < n_members; m++) {
        for (unsigned b = 0; b < BLOCKS && round->in[m]; b++) {
            prefix_add(&prefix, &members[m].blocks[b], round->read[m][b]);
        }
    }
    prefix_check(&prefix);
    CHECK(prefix.oldest_ended > round->asked);
    CHECK(prefix.newest_began <= round->told);
}

static void round_look(struct round *round)
{
    static uint64_t read[MEMBERS][BLOCKS];

    memset(read, 0, sizeof(read));
    for (unsigned m = 0; m < n_members; m++) {
        char id[NAME];

        if (!round->in[m]) {
            continue;
        }
        snprintf(id, sizeof(id), "look%u", serial++);
        if (!volume_open(id, &members[m], round->below[m], true)) {
            return;
        }
        bool well = content_read(id, read[m]);

        volume_close(id);
        if (!well) {
            return;
        }
    }
    if (round->known) {
        for (unsigned m = 0; m < n_members; m++) {
            for (unsigned b = 0; b < BLOCKS; b++) {
                if (round->read[m][b] != read[m][b]) {
                    fprintf(stderr, "round %u member %u block %u: %llu, was %llu\n",
                            (unsigned)(round - rounds), m, b, (unsigned long long)read[m][b],
                            (unsigned long long)round->read[m][b]);
                    CHECK(!"a cut is what it was");
                }
            }
        }
        return;
    }
    memcpy(round->read, read, sizeof(read));
    round->known = true;
    round_check(round);
}

static void random_look(void)
{
    struct round *round = n_rounds == 0 ? NULL : &rounds[below(n_rounds)];

    if (round != NULL && round->is_cut) {
        round_look(round);
    }
}

/* ---- lives ---- */

static void array_start(void)
{
    struct array_spec spec = {.owner = control, .loops = loops, .n_loops = n_loops};
    struct error error;

    CHECK(array_new(&spec, &array) == 0);
    CHECK(array_pool_add(array, "pool", dir, 0, &error) == 0);
}

static void array_end(void)
{
    bool closed = false;

    array_close(array, flag, &closed);
    settle(flag_is_set, &closed);
    array_free(array);
    array = NULL;
}

static void disk_slow(const struct member *member, uint64_t ns)
{
    for (unsigned i = 0; i < member->n_chain; i++) {
        char path[128];

        snprintf(path, sizeof(path), "%s/%s.layer", dir, member->chain[i]);
        layer_disk_slow(machine_disk(), path, ns);
    }
}

static void step(void)
{
    switch (below(14)) {
    case 0:
    case 1:
        if (n_rounds < ROUNDS) {
            round_begin();
        }
        break;
    case 2:
        disk_slow(&members[below(n_members)], PICK(MS_NS / 10, MS_NS, 20 * MS_NS, 900 * MS_NS));
        break;
    case 3:
        for (unsigned m = 0; m < n_members; m++) {
            disk_slow(&members[m], 0);
        }
        break;
    case 4:
        random_look();
        break;
    case 5:
        if (chance(1, 12) && !trouble) {
            trouble = true;
            layer_disk_fail(machine_disk(), chance(1, 2) ? LAYER_IO_WRITE : LAYER_IO_SYNC,
                            1 + (unsigned)below(3), chance(1, 2) ? -EIO : -ENOSPC);
        }
        break;
    default:
        break;
    }
    loop_sim_advance(machine_sim(), below(PICK(1, 100000, 1000000, deadline_ms * MS_NS)));
}

/* The power went: what is there now is what was flushed, or newer, and for good. */
static void members_settle(void)
{
    for (unsigned m = 0; m < n_members; m++) {
        struct member *member = &members[m];
        uint64_t stamps[BLOCKS];

        CHECK(content_read(member->id, stamps));
        for (unsigned b = 0; b < BLOCKS; b++) {
            block_settle(&member->blocks[b], stamps[b], ++tick);
        }
    }
}

static void members_are_newest(void)
{
    for (unsigned m = 0; m < n_members; m++) {
        uint64_t stamps[BLOCKS];

        if (!content_read(members[m].id, stamps)) {
            return;
        }
        for (unsigned b = 0; b < BLOCKS; b++) {
            block_is_newest(&members[m].blocks[b], stamps[b]);
        }
    }
}

static void after_the_crash(void)
{
    totals.crashes++;
    /* All that are in the records are there: those of a round that was not decided either. */
    for (unsigned i = 0; i < n_rounds; i++) {
        struct round *round = &rounds[i];
        bool whole = round->done.done && round->done.error.code == ERR_NONE;

        if (round->is_cut && !whole) {
            round->is_cut = false; /* it is where the power went, as the volumes are */
            totals.crashed_cuts++;
        }
        if (round->is_cut) {
            round_look(round);
        }
    }
    members_settle();
}

static void life(bool last)
{
    bool crash = !last && chance(3, 4);

    trouble = false;
    layer_disk_fail(machine_disk(), LAYER_IO_WRITE, 0, 0);
    layer_disk_fail(machine_disk(), LAYER_IO_SYNC, 0, 0);
    writers_start();
    layer_disk_cut_at(machine_disk(), crash ? 1 + below(600) : 0);
    for (unsigned i = 0; i < STEPS && !power_is_cut(); i++) {
        step();
    }
    for (unsigned m = 0; m < n_members; m++) {
        disk_slow(&members[m], 0);
    }
    writers_end();
    settle(rounds_are_over, NULL);
    for (unsigned i = 0; i < n_rounds && !power_is_cut(); i++) {
        if (rounds[i].is_cut) {
            round_look(&rounds[i]);
        }
    }
    if (!power_is_cut()) {
        members_are_newest();
    }
    array_end();
    bool lost = power_is_cut() || trouble;

    layer_disk_fail(machine_disk(), LAYER_IO_WRITE, 0, 0);
    layer_disk_fail(machine_disk(), LAYER_IO_SYNC, 0, 0);
    if (lost || chance(1, 2)) {
        layer_disk_power_on(machine_disk());
    }
    trouble = false;
    array_start();
    for (unsigned m = 0; m < n_members; m++) {
        CHECK(volume_open(members[m].id, &members[m], members[m].n_chain, false));
    }
    if (lost) {
        after_the_crash();
    }
}

static void world_begin(uint64_t seed)
{
    n_loops = 1 + (unsigned)below(LOOPS);
    n_members = 2 + (unsigned)below(MEMBERS - 1);
    n_writers = 1 + (unsigned)below(WRITERS);
    deadline_ms = (unsigned)PICK(2, 10, 50, 500);
    tick = last_stamp = serial = n_rounds = n_removing = 0;
    trouble = false;
    stall_ns = PICK(0, 20000, 300000);
    machine_begin(seed, (unsigned)PICK(0, 20, 60, 100));
    loop_sim_stall(machine_sim(), stall_ns);
    CHECK(loop_sim_add(machine_sim(), "control", &control) == 0);
    for (unsigned i = 0; i < n_loops; i++) {
        CHECK(loop_sim_add(machine_sim(), "data", &loops[i]) == 0);
    }
    array_start();
    for (unsigned m = 0; m < n_members; m++) {
        struct member *member = &members[m];

        snprintf(member->id, NAME, "v%u", m);
        snprintf(member->family, NAME, "f%u", (unsigned)below(n_members));
        snprintf(member->chain[0], NAME, "a%u", m);
        member->n_chain = 1;
        CHECK(layer_make(member->family, member->chain[0]));
        CHECK(volume_open(member->id, member, 1, false));
        for (unsigned b = 0; b < BLOCKS; b++) {
            member->blocks[b] = (struct block){0};
            version_add(&member->blocks[b], 0, 0, 0);
        }
    }
}

static void world_end(void)
{
    array_end();
    for (unsigned m = 0; m < n_members; m++) {
        for (unsigned b = 0; b < BLOCKS; b++) {
            block_free(&members[m].blocks[b]);
        }
    }
    for (unsigned i = 0; i < n_loops; i++) {
        loop_free(loops[i]);
    }
    loop_free(control);
    machine_end();
}

static void run(uint64_t seed)
{
    unsigned n_lives = 1;

    world_begin(seed);
    n_lives += (unsigned)below(LIVES);
    for (unsigned i = 0; i < n_lives; i++) {
        life(i + 1 == n_lives);
    }
    world_end();
}

static void passed(uint64_t count)
{
    printf("%llu writes, %llu failed; %llu cuts, %llu void; %llu crashes, %llu cuts lost in them\n",
           (unsigned long long)totals.writes, (unsigned long long)totals.failed,
           (unsigned long long)totals.cuts, (unsigned long long)totals.voids,
           (unsigned long long)totals.crashes, (unsigned long long)totals.crashed_cuts);
    CHECK(count < 50 || (totals.cuts > count && totals.voids > count / 2 &&
                         totals.crashes > count / 2 && totals.crashed_cuts > 0));
}

int main(int argc, char **argv)
{
    strcpy(dir, "/dev/shm/smirror-sim-XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
    sim_main(argc, argv,
             &(struct sim){
                 .name = "group", .seeds = SIM_SEEDS(300, 100, 20), .run = run, .passed = passed});
    return rmdir(dir) == 0 ? 0 : 1;
}
