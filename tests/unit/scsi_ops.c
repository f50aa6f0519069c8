// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/loop_sim.h"
#include "block/mem_dev.h"
#include "target/scsi/scsi.h"

struct rig {
    struct loop_sim *sim;
    struct loop *loop;
    struct blockdev *dev;
    struct shard shard;
    struct scsi_target target;
    struct scsi_lun *lun;
    struct scsi_nexus nexus[2];
    bool done;
};

static void command_done(struct scsi_cmd *cmd)
{
    (void)cmd;
}

static void nothing(void *arg)
{
    (void)arg;
}

static struct rig *rig_new(bool read_only)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    assert_int_equal(loop_sim_new(0, &rig->sim), 0);
    assert_int_equal(loop_sim_add(rig->sim, "one", &rig->loop), 0);
    struct mem_dev_spec disk = {.size_bytes = 1 << 20};
    assert_int_equal(mem_dev_new(rig->loop, &disk, &rig->dev), 0);
    struct target_limits limits = {.receive_bytes = 4 << 20, .data_bytes = 8 << 20};
    assert_int_equal(shard_init(&rig->shard, NULL, rig->loop, &limits), 0);
    rig->target.shard = &rig->shard;
    rig->target.max_transfer = rig->target.accept_transfer = 512 << 10;
    list_init(&rig->target.nexuses);
    struct target_lun_spec spec = {.dev = rig->dev, .naa = 0x3000000000000001ull, .thin = true};
    spec.read_only = read_only;
    assert_int_equal(scsi_lun_new(&rig->target, &spec, &rig->lun), 0);
    for (unsigned i = 0; i < 2; i++) {
        strcpy(rig->nexus[i].port, i ? "iqn.a:b,i,0x1" : "iqn.a:a,i,0x1");
        scsi_nexus_add(&rig->target, &rig->nexus[i]);
        rig->nexus[i].attentions[0] = 0;
    }
    return rig;
}

static void rig_free(struct rig *rig)
{
    scsi_nexus_remove(&rig->nexus[0]);
    scsi_nexus_remove(&rig->nexus[1]);
    scsi_lun_remove(rig->lun, nothing, NULL);
    blockdev_close(rig->dev, nothing, NULL);
    loop_sim_run_until_idle(rig->sim);
    shard_fini(&rig->shard);
    loop_free(rig->loop);
    loop_sim_free(rig->sim);
    free(rig);
}

/* Runs a command with data of zeros as long as it wants; the status, and the sense in *cmd. */
static void run(struct rig *rig, struct scsi_cmd *cmd, unsigned nexus, const void *cdb, size_t len)
{
    memset(cmd, 0, sizeof(*cmd));
    scsi_cmd_init(cmd, &rig->target);
    memcpy(cmd->cdb, cdb, len);
    cmd->nexus = &rig->nexus[nexus];
    cmd->done = command_done;
    cmd->expected_out = cmd->expected_in = 512;
    static uint8_t zeros[1 << 20];
    scsi_start(cmd);
    if (!cmd->ended) {
        if (cmd->out_len > 0) {
            cmd->out.items[cmd->out.count++] = (struct slice){.data = zeros, .len = cmd->out_len};
        }
        scsi_execute(cmd);
        loop_sim_run_until_idle(rig->sim);
    }
    assert_true(cmd->ended);
    scsi_cmd_release(cmd);
    loop_sim_run_until_idle(rig->sim);
}

static void rows_are_what_their_opcode_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < scsi_ops_len; i++) {
        const struct scsi_op *op = &scsi_ops[i];
        assert_int_equal(op->usage[0], op->opcode);
        assert_int_equal(op->cdb_len, scsi_cdb_len(op->opcode));
        assert_non_null(op->execute);
        assert_ptr_equal(scsi_op_find(op->opcode, op->action), op);
        for (unsigned j = op->cdb_len; j < 16; j++) {
            assert_int_equal(op->usage[j], 0);
        }
    }
}

/* Every bit that no field uses, set alone, is named by the sense data of its command. */
static void each_reserved_bit_is_refused_where_it_is(void **state)
{
    (void)state;
    struct rig *rig = rig_new(false);
    unsigned tried = 0;
    for (size_t i = 0; i < scsi_ops_len; i++) {
        const struct scsi_op *op = &scsi_ops[i];
        for (unsigned bit = 8; bit < op->cdb_len * 8u; bit++) {
            unsigned byte = bit / 8;
            uint8_t mask = (uint8_t)(1u << bit % 8);
            if ((op->usage[byte] & mask) ||
                (byte == 1 && (op->flags & OP_HAS_ACTION) && (mask & 0x1f))) {
                continue;
            }
            uint8_t cdb[16] = {op->opcode};
            cdb[1] = op->flags & OP_HAS_ACTION ? op->action : 0;
            cdb[byte] |= mask;
            struct scsi_cmd cmd;
            run(rig, &cmd, 0, cdb, sizeof(cdb));
            assert_int_equal(cmd.status, SCSI_CHECK_CONDITION);
            assert_int_equal(cmd.sense.key, SCSI_ILLEGAL_REQUEST);
            assert_int_equal(cmd.sense.asc, ASC_INVALID_FIELD_IN_CDB);
            assert_int_equal(cmd.sense.field_byte, byte);
            assert_int_equal(cmd.sense.field_bit, bit % 8);
            tried++;
        }
    }
    assert_true(tried > 1000);
    rig_free(rig);
}

static void wrong_fields_give_their_sense(void **state)
{
    (void)state;
    struct rig *rig = rig_new(false);
    static const struct {
        const char *what;
        uint8_t cdb[16];
        uint8_t status;
        uint8_t key;
        uint16_t asc;
    } cases[] = {
        {"no such opcode", {0xff}, 2, 5, ASC_INVALID_OPCODE},
        {"vendor opcode", {0xc0}, 2, 5, ASC_INVALID_OPCODE},
        {"no such action", {0x9e, 0x1f}, 2, 5, ASC_INVALID_FIELD_IN_CDB},
        {"READ(10) of the last block", {0x28, 0, 0, 0, 0x07, 0xff, 0, 0, 1}, 0, 0, 0},
        {"READ(10) beyond the end", {0x28, 0, 0, 0, 0x08, 0, 0, 0, 1}, 2, 5, ASC_LBA_OUT_OF_RANGE},
        {"READ(10) across the end",
         {0x28, 0, 0, 0, 0x07, 0xff, 0, 0, 2},
         2,
         5,
         ASC_LBA_OUT_OF_RANGE},
        {"READ(10) of none at the end", {0x28, 0, 0, 0, 0x08, 0, 0, 0, 0}, 0, 0, 0},
        {"READ(10) of none beyond", {0x28, 0, 0, 0, 0x08, 1, 0, 0, 0}, 2, 5, ASC_LBA_OUT_OF_RANGE},
        {"READ(16) at the end of time",
         {0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1},
         2,
         5,
         ASC_LBA_OUT_OF_RANGE},
        {"READ(10) of too much", {0x28, 0, 0, 0, 0, 0, 0, 4, 1}, 2, 5, ASC_INVALID_FIELD_IN_CDB},
        {"READ(10) with protection",
         {0x28, 0x20, 0, 0, 0, 0, 0, 0, 1},
         2,
         5,
         ASC_INVALID_FIELD_IN_CDB},
        {"VERIFY(10) BYTCHK 2", {0x2f, 0x04, 0, 0, 0, 0, 0, 0, 1}, 2, 5, ASC_INVALID_FIELD_IN_CDB},
        {"WRITE SAME of none", {0x93}, 2, 5, ASC_INVALID_FIELD_IN_CDB},
        {"WRITE SAME ANCHOR", {0x93, 0x10, [13] = 1}, 2, 5, ASC_INVALID_FIELD_IN_CDB},
        {"UNMAP ANCHOR", {0x42, 1}, 2, 5, ASC_INVALID_FIELD_IN_CDB},
        {"UNMAP of a short list", {0x42, [8] = 7}, 2, 5, ASC_PARAMETER_LIST_LENGTH},
        {"COMPARE AND WRITE, data of another size",
         {0x89, [13] = 1},
         2,
         5,
         ASC_INVALID_FIELD_IN_CDB},
        {"INQUIRY of a page without EVPD", {0x12, 0, 0x80, 0, 255}, 2, 5, ASC_INVALID_FIELD_IN_CDB},
        {"INQUIRY of no such page", {0x12, 1, 0x77, 0, 255}, 2, 5, ASC_INVALID_FIELD_IN_CDB},
        {"REPORT LUNS into too little", {0xa0, [9] = 15}, 2, 5, ASC_INVALID_FIELD_IN_CDB},
        {"REPORT LUNS, no such report", {0xa0, 0, 3, [9] = 16}, 2, 5, ASC_INVALID_FIELD_IN_CDB},
        {"MODE SENSE of saved values", {0x1a, 0, 0xca, 0, 255}, 2, 5, ASC_SAVING_UNSUPPORTED},
        {"MODE SENSE of no such page", {0x1a, 0, 0x3e, 0, 255}, 2, 5, ASC_INVALID_FIELD_IN_CDB},
        {"MODE SELECT to save", {0x15, 0x11}, 2, 5, ASC_INVALID_FIELD_IN_CDB},
        {"PERSISTENT RESERVE OUT, no such type",
         {0x5f, 1, 2, [8] = 24},
         2,
         5,
         ASC_INVALID_FIELD_IN_CDB},
        {"PERSISTENT RESERVE OUT, short list",
         {0x5f, 0, 0, [8] = 23},
         2,
         5,
         ASC_PARAMETER_LIST_LENGTH},
        {"PERSISTENT RESERVE OUT by a stranger",
         {0x5f, 1, 1, [8] = 24},
         SCSI_RESERVATION_CONFLICT,
         0,
         0},
        {"GET LBA STATUS beyond the end",
         {0x9e, 0x12, [8] = 8, [13] = 24},
         2,
         5,
         ASC_LBA_OUT_OF_RANGE},
        {"SANITIZE OVERWRITE without a pattern", {0x48, 1}, 2, 5, ASC_INVALID_FIELD_IN_CDB},
        {"EJECT", {0x1b, 0, 0, 0, 2}, 2, 5, ASC_INVALID_FIELD_IN_CDB},
        {"RECEIVE COPY STATUS of no copy", {0x84, 0, 9}, 2, 5, ASC_INVALID_FIELD_IN_CDB},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct scsi_cmd cmd;
        run(rig, &cmd, 0, cases[i].cdb, 16);
        if (cmd.status != cases[i].status ||
            (cmd.status == 2 && (cmd.sense.key != cases[i].key || cmd.sense.asc != cases[i].asc))) {
            fail_msg("%s: status %02x key %x asc %04x", cases[i].what, cmd.status, cmd.sense.key,
                     cmd.sense.asc);
        }
    }
    rig_free(rig);
}

static void attentions_come_once_and_not_to_questions(void **state)
{
    (void)state;
    struct rig *rig = rig_new(false);
    struct scsi_cmd cmd;
    scsi_attend(rig->lun, NULL, UA_RESET);
    scsi_attend(rig->lun, NULL, UA_CAPACITY_CHANGED);
    run(rig, &cmd, 0, (uint8_t[6]){0x12, 0, 0, 0, 36}, 6);
    assert_int_equal(cmd.status, SCSI_GOOD);
    run(rig, &cmd, 0, (uint8_t[6]){0}, 6);
    assert_int_equal(cmd.sense.asc, 0x2903);
    run(rig, &cmd, 0, (uint8_t[6]){0}, 6);
    assert_int_equal(cmd.sense.asc, 0x2a09);
    run(rig, &cmd, 0, (uint8_t[6]){0}, 6);
    assert_int_equal(cmd.status, SCSI_GOOD);
    run(rig, &cmd, 1, (uint8_t[6]){0}, 6);
    assert_int_equal(cmd.sense.asc, 0x2903);
    rig_free(rig);
}

static void a_protected_unit_refuses_every_change(void **state)
{
    (void)state;
    struct rig *rig = rig_new(true);
    for (size_t i = 0; i < scsi_ops_len; i++) {
        const struct scsi_op *op = &scsi_ops[i];
        if (!(op->flags & OP_CHANGES_MEDIUM)) {
            continue;
        }
        uint8_t cdb[16] = {op->opcode};
        cdb[1] = op->flags & OP_HAS_ACTION ? op->action : 0;
        struct scsi_cmd cmd;
        run(rig, &cmd, 0, cdb, sizeof(cdb));
        assert_int_equal(cmd.status, SCSI_CHECK_CONDITION);
        assert_int_equal(cmd.sense.key, SCSI_DATA_PROTECT);
        assert_int_equal(cmd.sense.asc, ASC_WRITE_PROTECTED);
    }
    rig_free(rig);
}

static void sense_has_both_formats(void **state)
{
    (void)state;
    struct scsi_lun lun = {0};
    struct scsi_cmd cmd = {.lun = &lun};
    cmd.sense = (struct scsi_sense){.key = SCSI_MISCOMPARE,
                                    .asc = ASC_MISCOMPARE,
                                    .has_information = true,
                                    .information = 0x1234};
    uint8_t out[SCSI_SENSE_MAX];
    assert_int_equal(scsi_sense_encode(&cmd, out), 18);
    assert_int_equal(out[0], 0xf0);
    assert_int_equal(out[2], SCSI_MISCOMPARE);
    assert_int_equal(get_be32(out + 3), 0x1234);
    assert_int_equal(get_be16(out + 12), ASC_MISCOMPARE);
    lun.d_sense = true;
    assert_int_equal(scsi_sense_encode(&cmd, out), 20);
    assert_int_equal(out[0], 0x72);
    assert_int_equal(get_be64(out + 12), 0x1234);
}

static void kept_reservations_are_read_or_refused(void **state)
{
    (void)state;
    struct rig *rig = rig_new(false);
    assert_int_equal(scsi_pr_load(rig->lun, "rubbish that is long enough", 27), -EINVAL);
    assert_int_equal(rig->lun->pr.n_registrations, 0);
    rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_what_their_opcode_says),
        cmocka_unit_test(each_reserved_bit_is_refused_where_it_is),
        cmocka_unit_test(wrong_fields_give_their_sense),
        cmocka_unit_test(attentions_come_once_and_not_to_questions),
        cmocka_unit_test(a_protected_unit_refuses_every_change),
        cmocka_unit_test(sense_has_both_formats),
        cmocka_unit_test(kept_reservations_are_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
