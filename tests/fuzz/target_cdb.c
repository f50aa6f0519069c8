// SPDX-License-Identifier: Apache-2.0
/* Commands straight into the device server: sixteen bytes of CDB, a length, and data. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/loop_sim.h"
#include "block/mem_dev.h"
#include "target/scsi/scsi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void gone(void *arg)
{
    (void)arg;
}

static void saved(struct scsi_target *target, struct scsi_lun *lun, const void *bytes, size_t len,
                  void (*done)(void *arg, int status), void *arg)
{
    (void)target;
    (void)lun;
    (void)bytes;
    (void)len;
    done(arg, 0);
}

static void abort_none(struct scsi_target *target, struct scsi_lun *lun,
                       const struct scsi_nexus *nexus, const struct scsi_cmd *except)
{
    (void)target;
    (void)lun;
    (void)nexus;
    (void)except;
}

static unsigned n_done;

static void command_done(struct scsi_cmd *cmd)
{
    (void)cmd;
    n_done++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_set_level(LOG_ERROR);
    struct loop_sim *sim;
    struct loop *loop;
    CHECK(loop_sim_new(0, &sim) == 0 && loop_sim_add(sim, "one", &loop) == 0);
    struct mem_dev_spec disk = {.size_bytes = 1 << 20};
    struct blockdev *dev;
    CHECK(mem_dev_new(loop, &disk, &dev) == 0);
    struct target_limits limits = {.receive_bytes = 4 << 20, .data_bytes = 8 << 20};
    struct shard shard;
    CHECK(shard_init(&shard, NULL, loop, &limits) == 0);
    struct scsi_target target = {.shard = &shard, .name = "iqn.a:t", .save = saved};
    target.abort_others = abort_none;
    target.max_transfer = target.accept_transfer = 1 << 20;
    list_init(&target.nexuses);
    struct target_lun_spec spec = {.dev = dev, .naa = 0x3000000000000001ull, .thin = true};
    struct scsi_lun *lun;
    CHECK(scsi_lun_new(&target, &spec, &lun) == 0);
    struct scsi_nexus *nexus = calloc(2, sizeof(*nexus));
    for (unsigned i = 0; i < 2; i++) {
        strcpy(nexus[i].port, i ? "iqn.a:j,i,0x1" : "iqn.a:i,i,0x1");
        scsi_nexus_add(&target, &nexus[i]);
        nexus[i].attentions[0] = 0;
    }
    while (size >= 18) {
        struct scsi_cmd cmd = {0};
        scsi_cmd_init(&cmd, &target);
        memcpy(cmd.cdb, data, 16);
        cmd.nexus = &nexus[data[16] & 1];
        cmd.lun_number = data[16] & 2 ? 1 : 0;
        cmd.attribute = (enum scsi_attribute)(data[16] >> 2 & 7);
        size_t len = data[17];
        data += 18;
        size -= 18;
        len = len < size ? len : size;
        uint8_t *out = calloc(1, 1 << 20);
        cmd.expected_out = 1 << 20;
        cmd.expected_in = 1 << 20;
        cmd.done = command_done;
        memcpy(out, data, len);
        data += len;
        size -= len;
        if ((cmd.cdb[0] & 0x1f) == 0x09 || (cmd.cdb[0] & 0x1f) == 0x13) {
            cmd.expected_out = 2 * cmd.cdb[13] * 512u; /* so that exact ones get further */
        }
        scsi_start(&cmd);
        if (!cmd.ended) {
            CHECK(cmd.out_len <= 2 << 20);
            size_t have = cmd.out_len < cmd.expected_out ? cmd.out_len : cmd.expected_out;
            have = have < 1 << 20 ? have : 1 << 20;
            size_t half = have / 2;
            if (half) {
                cmd.out.items[cmd.out.count++] = (struct slice){.data = out, .len = half};
            }
            if (have - half) {
                cmd.out.items[cmd.out.count++] =
                    (struct slice){.data = out + half, .len = have - half};
            }
            unsigned before = n_done;
            scsi_execute(&cmd);
            loop_sim_run_until_idle(sim);
            CHECK(n_done == before + 1);
        }
        if (cmd.status == SCSI_CHECK_CONDITION) {
            uint8_t sense[SCSI_SENSE_MAX];
            scsi_sense_encode(&cmd, sense);
        }
        scsi_cmd_release(&cmd);
        free(out);
        loop_sim_run_until_idle(sim);
    }
    for (unsigned i = 0; i < 2; i++) {
        scsi_nexus_remove(&nexus[i]);
    }
    scsi_lun_remove(lun, gone, NULL);
    free(nexus);
    loop_sim_run_until_idle(sim);
    blockdev_close(dev, gone, NULL);
    loop_sim_run_until_idle(sim);
    shard_fini(&shard);
    loop_free(loop);
    loop_sim_free(sim);
    return 0;
}
