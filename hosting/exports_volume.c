// SPDX-License-Identifier: Apache-2.0
/* What a volume's end or change means for the exports that have it, or will have: an operation on each. */
#include <string.h>

#include "base/check.h"
#include "hosting/exports_private.h"
#include "hosting/gather.h"

static void volume_start(struct export_op *op)
{
    struct export *export = op->export;
    bool others = false;
    export_op_begin_step(op, export_op_end);
    list_for_each(link, &export->units)
    {
        others |= strcmp(list_entry(link, struct export_unit, link)->volume_id, op->volume_id) != 0;
    }
    if (!others) {
        export_unserve(op);
    } else {
        list_for_each_safe(link, next, &export->units)
        {
            struct export_unit *unit = list_entry(link, struct export_unit, link);
            if (strcmp(unit->volume_id, op->volume_id) == 0) {
                export_unit_unserve(unit, op);
            }
        }
    }
    export_op_back(op);
}

/* Queues an operation on each export that has the volume, or will have. */
static void volume_ops(struct exports *exports, const char *volume_id, struct gather *gather,
                       void (*first)(struct export_op *op), uint64_t grace_ns,
                       enum target_lun_event event)
{
    struct export_users *users = map_get(&exports->volumes, volume_id);
    if (!users || exports->server_closing) {
        return;
    }
    list_for_each(link, &users->units)
    {
        struct export *export = list_entry(link, struct export_unit, user_link)->export;
        if (export->marked) {
            continue;
        }
        export->marked = true;
        struct export_op *op = export_op_new(exports, export, first, gather_back, gather);
        gather_add(gather);
        strcpy(op->volume_id, volume_id);
        op->grace_ns = grace_ns;
        op->event = event;
        export_op_queue(op);
    }
    list_for_each(link, &users->units)
    {
        list_entry(link, struct export_unit, user_link)->export->marked = false;
    }
}

/* The same, and done when all of them are. */
static void volume_gather(struct exports *exports, const char *volume_id,
                          void (*first)(struct export_op *op), uint64_t grace_ns,
                          enum target_lun_event event, array_done_fn done, void *arg)
{
    struct gather *gather = gather_new(done, arg);
    CHECK(strlen(volume_id) <= ARRAY_ID_LEN);
    volume_ops(exports, volume_id, gather, first, grace_ns, event);
    gather_ready(gather, exports->spec.owner);
}

void exports_volume_remove(struct exports *exports, const char *volume_id, uint64_t grace_ns,
                           array_done_fn done, void *arg)
{
    volume_gather(exports, volume_id, volume_start, grace_ns, 0, done, arg);
}

static void notify_end(struct export_op *op)
{
    if (op->export->target) {
        export_op_end_after_barrier(op);
    } else {
        export_op_end(op);
    }
}

static void notify_start(struct export_op *op)
{
    bool protection = op->event == TARGET_LUN_READ_ONLY || op->event == TARGET_LUN_WRITABLE;
    export_op_begin_step(op, notify_end);
    list_for_each(link, &op->export->units)
    {
        struct export_unit *unit = list_entry(link, struct export_unit, link);
        if (strcmp(unit->volume_id, op->volume_id) != 0 || (protection && unit->read_only)) {
            continue;
        }
        export_unit_notify(unit, op);
    }
    export_op_back(op);
}

void exports_volume_notify(struct exports *exports, const char *volume_id,
                           enum target_lun_event event, array_done_fn done, void *arg)
{
    volume_gather(exports, volume_id, notify_start, 0, event, done, arg);
}
