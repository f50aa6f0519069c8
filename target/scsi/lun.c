// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "target/scsi/scsi.h"

int scsi_lun_new(struct scsi_target *target, const struct target_lun_spec *spec,
                 struct scsi_lun **ret_lun)
{
    struct blockdev *dev = spec->dev;
    uint32_t block_bytes = dev->info.block_bytes;
    if (target->luns[spec->number]) {
        return -EEXIST;
    }
    if (block_bytes < 512 || (block_bytes & (block_bytes - 1)) != 0) {
        return -EINVAL;
    }
    struct scsi_lun *lun = calloc(1, sizeof(*lun));
    if (!lun) {
        return -ENOMEM;
    }
    lun->target = target;
    lun->number = spec->number;
    lun->dev = dev;
    lun->block_bytes = block_bytes;
    lun->block_shift = (unsigned)__builtin_ctz(block_bytes);
    lun->n_blocks = dev->info.size_bytes / block_bytes;
    lun->id = *spec;
    lun->id.dev = NULL;
    lun->id.reservations = NULL;
    lun->read_only = spec->read_only || dev->info.read_only;
    lun->wce = !spec->writeback_off;
    list_init(&lun->active);
    list_init(&lun->queue);
    list_init(&lun->copies);
    list_init(&lun->pr.registrations);
    if (spec->reservations_len > 0) {
        int err = scsi_pr_load(lun, spec->reservations, spec->reservations_len);
        if (err) {
            log_warning("target[%s] LUN %u: kept reservations cannot be read: %s", target->name,
                        spec->number, strerror(-err));
        }
    }
    target->luns[lun->number] = lun;
    list_push_back(&target->shard->luns, &lun->shard_link);
    *ret_lun = lun;
    return 0;
}

void scsi_lun_free(struct scsi_lun *lun)
{
    CHECK(lun->users == 0 && lun->n_active == 0);
    scsi_pr_clear(lun);
    scsi_copies_free(lun);
    scsi_sanitize_fini(lun);
    free(lun);
}

void scsi_lun_unuse(struct scsi_lun *lun)
{
    CHECK(lun->users > 0);
    if (--lun->users == 0 && lun->removed) {
        void (*gone)(void *) = lun->gone;
        void *arg = lun->gone_arg;
        scsi_lun_free(lun);
        gone(arg);
    }
}

void scsi_lun_remove(struct scsi_lun *lun, void (*gone)(void *arg), void *arg)
{
    CHECK(!lun->removed);
    lun->target->luns[lun->number] = NULL;
    list_for_each(link, &lun->target->nexuses)
    {
        list_entry(link, struct scsi_nexus, link)->attentions[lun->number] = 0;
    }
    list_remove(&lun->shard_link);
    lun->removed = true;
    lun->gone = gone;
    lun->gone_arg = arg;
    lun->users++;
    scsi_lun_unuse(lun);
}

bool scsi_lun_write_protected(const struct scsi_lun *lun)
{
    return lun->read_only || lun->swp;
}

size_t scsi_lun_naa(const struct scsi_lun *lun, uint8_t out[16])
{
    static const uint8_t none[8];
    put_be64(out, lun->id.naa);
    if (memcmp(lun->id.naa_extension, none, sizeof(none)) == 0) {
        return 8;
    }
    memcpy(out + 8, lun->id.naa_extension, 8);
    return 16;
}

void scsi_nexus_add(struct scsi_target *target, struct scsi_nexus *nexus)
{
    nexus->target = target;
    list_push_back(&target->nexuses, &nexus->link);
    for (unsigned i = 0; i < TARGET_MAX_LUNS; i++) {
        nexus->attentions[i] = target->luns[i] ? 1u << UA_POWER_ON : 0;
    }
}

void scsi_nexus_remove(struct scsi_nexus *nexus)
{
    if (nexus->target) {
        scsi_reserve_nexus_gone(nexus);
        list_remove(&nexus->link);
    }
}

void scsi_attend_one(struct scsi_nexus *nexus, unsigned lun, enum scsi_attention ua)
{
    nexus->attentions[lun] = (uint16_t)(nexus->attentions[lun] | 1u << ua);
}

void scsi_attend(struct scsi_lun *lun, const struct scsi_nexus *except, enum scsi_attention ua)
{
    list_for_each(link, &lun->target->nexuses)
    {
        struct scsi_nexus *nexus = list_entry(link, struct scsi_nexus, link);
        if (nexus != except) {
            scsi_attend_one(nexus, lun->number, ua);
        }
    }
}

void scsi_attend_all_units(struct scsi_target *target, enum scsi_attention ua)
{
    for (unsigned i = 0; i < TARGET_MAX_LUNS; i++) {
        if (target->luns[i]) {
            scsi_attend(target->luns[i], NULL, ua);
        }
    }
}

void scsi_unit_reset(struct scsi_lun *lun)
{
    lun->reserved_by = NULL;
    lun->swp = false;
    lun->d_sense = false;
    lun->wce = !lun->id.writeback_off;
    scsi_attend(lun, NULL, UA_RESET);
}
