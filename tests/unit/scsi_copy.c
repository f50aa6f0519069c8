// SPDX-License-Identifier: Apache-2.0
/* EXTENDED COPY between volumes that share layers, and what it moves. */
#include "tests/unit/layer_world.h"

#include "target/scsi/scsi.h"

enum { KIB = 1024, BLOCK = 512 };

struct rig {
    struct world *world;
    struct blockdev *clone; /* of what the world's first layer has */
    struct layer *clone_top;
    struct blockdev *plain;
    struct shard shard;
    struct scsi_target target;
    struct scsi_lun *luns[3]; /* the world's volume, its clone, memory */
    struct scsi_nexus nexus;
};

enum { VOLUME, CLONE, PLAIN };

static void command_done(struct scsi_cmd *cmd)
{
    (void)cmd;
}

static void nothing(void *arg)
{
    (void)arg;
}

static uint8_t buffer[512 * KIB];

static void put(struct rig *rig, unsigned unit, uint64_t offset, uint8_t byte, uint64_t len)
{
    struct io io;
    memset(buffer, byte, len);
    io_start(&io, rig->luns[unit]->dev, BLOCK_WRITE, offset, buffer, len, 0);
    assert_true(loop_sim_run_until(rig->world->sim, io_is_done, &io, 100 * SEC_NS));
    assert_int_equal(io.req.status, 0);
}

static void is(struct rig *rig, unsigned unit, uint64_t offset, uint8_t byte, uint64_t len)
{
    struct io io;
    memset(buffer, 0xee, len);
    io_start(&io, rig->luns[unit]->dev, BLOCK_READ, offset, buffer, len, 0);
    assert_true(loop_sim_run_until(rig->world->sim, io_is_done, &io, 100 * SEC_NS));
    assert_int_equal(io.req.status, 0);
    for (uint64_t i = 0; i < len; i++) {
        assert_int_equal(buffer[i], byte);
    }
}

/* A volume with data in [0, 64K) and [128K, 256K), and a clone of it. */
static struct rig *rig_new(uint64_t seed)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    struct world_wait wait;
    assert_non_null(rig);
    rig->world = world_new(seed, 20);
    struct world *world = rig->world;
    struct io io;
    memset(buffer, 1, sizeof(buffer));
    io_start(&io, world->dev, BLOCK_WRITE, 0, buffer, 64 * KIB, 0);
    assert_true(loop_sim_run_until(world->sim, io_is_done, &io, 100 * SEC_NS));
    io_start(&io, world->dev, BLOCK_WRITE, 128 * KIB, buffer, 128 * KIB, 0);
    assert_true(loop_sim_run_until(world->sim, io_is_done, &io, 100 * SEC_NS));
    assert_true(world_snapshot(world));
    rig->clone_top = world_layer(world, "clone", true, &wait);
    assert_non_null(rig->clone_top);
    struct layer *layers[] = {world->layers[0], rig->clone_top};
    struct stack_spec spec = {.layers = layers, .n_layers = 2};
    assert_int_equal(stack_open(world->loop, &spec, &rig->clone), 0);
    struct mem_dev_spec plain = {.size_bytes = W_SIZE};
    assert_int_equal(mem_dev_new(world->loop, &plain, &rig->plain), 0);

    struct target_limits limits = {.receive_bytes = 4 << 20, .data_bytes = 8 << 20};
    assert_int_equal(shard_init(&rig->shard, NULL, world->loop, &limits), 0);
    rig->target.shard = &rig->shard;
    rig->target.max_transfer = rig->target.accept_transfer = 512 * KIB;
    list_init(&rig->target.nexuses);
    struct blockdev *devs[] = {world->dev, rig->clone, rig->plain};
    for (unsigned i = 0; i < 3; i++) {
        struct target_lun_spec lun = {
            .number = i, .dev = devs[i], .naa = 0x3000000000000001ull + i, .thin = true};
        assert_int_equal(scsi_lun_new(&rig->target, &lun, &rig->luns[i]), 0);
    }
    strcpy(rig->nexus.port, "iqn.a:a,i,0x1");
    scsi_nexus_add(&rig->target, &rig->nexus);
    memset(rig->nexus.attentions, 0, sizeof(rig->nexus.attentions));
    return rig;
}

static void close_dev(struct world *world, struct blockdev *dev)
{
    struct world_wait wait = {0};
    blockdev_close(dev, world_closed, &wait);
    world_await(world, &wait);
}

static void rig_free(struct rig *rig)
{
    scsi_nexus_remove(&rig->nexus);
    for (unsigned i = 0; i < 3; i++) {
        scsi_lun_remove(rig->luns[i], nothing, NULL);
    }
    struct world_wait wait = {0};
    close_dev(rig->world, rig->clone);
    layer_unref(rig->clone_top, world_done, &wait);
    world_await(rig->world, &wait);
    close_dev(rig->world, rig->plain);
    shard_fini(&rig->shard);
    world_free(rig->world);
    free(rig);
}

/* One segment from one unit to another; the status of the command. */
static int copy(struct rig *rig, unsigned from, unsigned to, uint64_t from_offset,
                uint64_t to_offset, uint64_t len)
{
    uint8_t list[16 + 2 * 32 + 28] = {1};
    unsigned units[] = {from, to};
    put_be16(list + 2, 64);
    put_be32(list + 8, 28);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *d = list + 16 + 32 * i;
        d[0] = 0xe4;
        d[4] = 1;
        d[5] = 3;
        d[7] = (uint8_t)scsi_lun_naa(rig->luns[units[i]], d + 8);
    }
    uint8_t *segment = list + 16 + 64;
    segment[0] = 2;
    put_be16(segment + 2, 24);
    put_be16(segment + 6, 1);
    put_be16(segment + 10, (uint16_t)(len / BLOCK));
    put_be64(segment + 12, from_offset / BLOCK);
    put_be64(segment + 20, to_offset / BLOCK);

    static struct scsi_cmd cmd;
    memset(&cmd, 0, sizeof(cmd));
    scsi_cmd_init(&cmd, &rig->target);
    cmd.cdb[0] = 0x83;
    put_be32(cmd.cdb + 10, sizeof(list));
    cmd.nexus = &rig->nexus;
    cmd.done = command_done;
    cmd.expected_out = sizeof(list);
    scsi_start(&cmd);
    assert_false(cmd.ended);
    cmd.out.items[cmd.out.count++] = (struct slice){.data = list, .len = cmd.out_len};
    scsi_execute(&cmd);
    for (unsigned i = 0; i < 100000 && !cmd.ended; i++) {
        if (!loop_sim_step(rig->world->sim)) {
            loop_sim_advance(rig->world->sim, 20000);
        }
    }
    assert_true(cmd.ended);
    int status = cmd.status;
    scsi_cmd_release(&cmd);
    return status;
}

static void what_is_shared_stays_shared(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct rig *rig = rig_new(seed);
        uint64_t empty = layer_used_bytes(rig->clone_top);

        rig->luns[CLONE]->wce = seed % 2;
        assert_int_equal(copy(rig, VOLUME, CLONE, 0, 0, 512 * KIB), SCSI_GOOD);
        /* Entries of zeros at most, no data. */
        assert_in_range(layer_used_bytes(rig->clone_top), empty, empty + 4 * LAYER_BLOCK);
        is(rig, CLONE, 0, 1, 64 * KIB);
        is(rig, CLONE, 64 * KIB, 0, 64 * KIB);

        /* What only one of them has since is moved: a granule in the source; in the target one of its own, and one
         * where the source has nothing. */
        put(rig, VOLUME, 132 * KIB, 2, 4 * KIB);
        put(rig, CLONE, 8 * KIB, 3, 4 * KIB);
        put(rig, CLONE, 64 * KIB, 3, 64 * KIB);
        uint64_t own = layer_used_bytes(rig->clone_top);
        assert_int_equal(copy(rig, VOLUME, CLONE, 0, 0, 512 * KIB), SCSI_GOOD);
        assert_in_range(layer_used_bytes(rig->clone_top), own + 4 * KIB - 64 * KIB,
                        own + 4 * KIB - 64 * KIB + 4 * LAYER_BLOCK);
        is(rig, CLONE, 0, 1, 64 * KIB);
        is(rig, CLONE, 64 * KIB, 0, 64 * KIB);
        is(rig, CLONE, 128 * KIB, 1, 4 * KIB);
        is(rig, CLONE, 132 * KIB, 2, 4 * KIB);
        is(rig, CLONE, 136 * KIB, 1, 120 * KIB);
        /* And not back. */
        is(rig, VOLUME, 8 * KIB, 1, 4 * KIB);
        rig_free(rig);
    }
}

static void another_place_or_another_device_is_a_copy(void **state)
{
    (void)state;
    struct rig *rig = rig_new(3);
    const struct mem_dev_stats *stats = mem_dev_stats(rig->plain);

    assert_int_equal(copy(rig, VOLUME, CLONE, 2 * BLOCK, 1 << 20, 256 * KIB), SCSI_GOOD);
    is(rig, CLONE, 1 << 20, 1, 63 * KIB);
    is(rig, CLONE, (1 << 20) + 63 * KIB, 0, 64 * KIB);
    is(rig, CLONE, (1 << 20) + 127 * KIB, 1, 128 * KIB);

    put(rig, PLAIN, 0, 9, 512 * KIB);
    uint64_t written = stats->bytes[BLOCK_WRITE];
    assert_int_equal(copy(rig, VOLUME, PLAIN, 0, 0, 512 * KIB), SCSI_GOOD);
    assert_int_equal(stats->bytes[BLOCK_WRITE] - written, 192 * KIB);
    assert_int_equal(stats->bytes[BLOCK_ZERO], 320 * KIB);
    is(rig, PLAIN, 0, 1, 64 * KIB);
    is(rig, PLAIN, 64 * KIB, 0, 64 * KIB);
    is(rig, PLAIN, 256 * KIB, 0, 256 * KIB);

    /* Back, to a place of its own; and zeros are not read. */
    put(rig, PLAIN, 300 * KIB, 7, 8 * KIB);
    uint64_t read = stats->bytes[BLOCK_READ];
    assert_int_equal(copy(rig, PLAIN, VOLUME, 256 * KIB, 2 << 20, 256 * KIB), SCSI_GOOD);
    assert_in_range(stats->bytes[BLOCK_READ] - read, 8 * KIB, 16 * KIB); /* whole pages of memory */
    is(rig, VOLUME, (2 << 20) + 44 * KIB, 7, 8 * KIB);
    is(rig, VOLUME, (2 << 20) + 52 * KIB, 0, 200 * KIB);
    rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_shared_stays_shared),
        cmocka_unit_test(another_place_or_another_device_is_a_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
