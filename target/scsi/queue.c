// SPDX-License-Identifier: Apache-2.0
/*
 * Which commands of a unit may run beside each other.
 *
 * Simple commands run at once. An exclusive one (COMPARE AND WRITE, ORWRITE) waits for the writes
 * that touch its blocks, and later writes there wait for it; an ordered one waits for all before it,
 * and all after it wait. Only while such a command runs or waits is anything compared at all.
 */
#include "base/check.h"
#include "target/scsi/scsi.h"

static bool overlap(const struct scsi_cmd *a, const struct scsi_cmd *b)
{
    return a->lba < b->lba + b->n_blocks && b->lba < a->lba + a->n_blocks;
}

static bool is_strict(const struct scsi_cmd *cmd)
{
    return cmd->effect == SCSI_EXCLUSIVE || cmd->attribute == SCSI_ORDERED;
}

static bool conflict(const struct scsi_cmd *a, const struct scsi_cmd *b)
{
    if (a->attribute == SCSI_ORDERED || b->attribute == SCSI_ORDERED) {
        return true;
    }
    bool exclusive = a->effect == SCSI_EXCLUSIVE || b->effect == SCSI_EXCLUSIVE;
    bool write = a->effect >= SCSI_WRITES && b->effect >= SCSI_WRITES;
    return exclusive && write && overlap(a, b);
}

static bool may_run(const struct scsi_lun *lun, const struct scsi_cmd *cmd)
{
    if (lun->n_strict == 0 && !is_strict(cmd)) {
        return true;
    }
    list_for_each(link, &lun->active)
    {
        if (conflict(cmd, list_entry(link, struct scsi_cmd, link))) {
            return false;
        }
    }
    return true;
}

static void run(struct scsi_lun *lun, struct scsi_cmd *cmd)
{
    list_push_back(&lun->active, &cmd->link);
    cmd->entered = true;
    lun->n_active++;
    lun->n_strict += is_strict(cmd);
    cmd->op->execute(cmd);
}

void scsi_enter(struct scsi_cmd *cmd)
{
    struct scsi_lun *lun = cmd->lun;
    bool head = cmd->attribute == SCSI_HEAD_OF_QUEUE;
    if ((head || list_empty(&lun->queue)) && may_run(lun, cmd)) {
        run(lun, cmd);
    } else if (head) {
        list_push_front(&lun->queue, &cmd->link);
    } else {
        list_push_back(&lun->queue, &cmd->link);
    }
}

static void restart(void *arg)
{
    struct scsi_lun *lun = arg;
    lun->restart_posted = false;
    while (!list_empty(&lun->queue)) {
        struct scsi_cmd *cmd = list_entry(list_first(&lun->queue), struct scsi_cmd, link);
        if (!may_run(lun, cmd)) {
            break;
        }
        list_remove(&cmd->link);
        run(lun, cmd);
    }
    scsi_lun_unuse(lun);
}

/* Later, from the loop: who aborts commands walks over lists that must not move meanwhile. */
static void restart_later(struct scsi_lun *lun)
{
    if (!list_empty(&lun->queue) && !lun->restart_posted) {
        lun->restart_posted = true;
        lun->users++;
        lun->restart_task = (struct loop_task){.fn = restart, .arg = lun};
        loop_defer(lun->target->shard->loop, &lun->restart_task);
    }
}

void scsi_leave(struct scsi_cmd *cmd)
{
    struct scsi_lun *lun = cmd->lun;
    CHECK(cmd->entered);
    cmd->entered = false;
    list_remove(&cmd->link);
    lun->n_active--;
    lun->n_strict -= is_strict(cmd);
    restart_later(lun);
}

bool scsi_queue_cancel(struct scsi_cmd *cmd)
{
    if (cmd->entered || list_empty(&cmd->link)) {
        return false;
    }
    list_remove(&cmd->link);
    if (cmd->lun) {
        restart_later(cmd->lun);
    }
    return true;
}
