// SPDX-License-Identifier: Apache-2.0
/* The LUNs of exports, and the handles of those whose volumes live on another loop than the target (messages there and back). */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "block/handle_dev.h"
#include "hosting/exports_private.h"

/* ---- units ---- */

struct export_unit *export_unit_new(struct export *export, const struct export_lun *lun)
{
    struct exports *exports = export->exports;
    struct export_unit *unit = calloc(1, sizeof(*unit));
    CHECK(unit != NULL);
    unit->export = export;
    unit->number = lun->number;
    strcpy(unit->volume_id, lun->volume_id);
    strcpy(unit->serial, lun->serial);
    unit->read_only = lun->read_only;
    unit->naa = lun->naa;
    if (lun->reservations_len > 0) {
        unit->reservations = malloc(lun->reservations_len);
        CHECK(unit->reservations != NULL);
        memcpy(unit->reservations, lun->reservations, lun->reservations_len);
        unit->reservations_len = lun->reservations_len;
    }
    unit->users = map_get(&exports->volumes, unit->volume_id);
    if (!unit->users) {
        unit->users = calloc(1, sizeof(*unit->users));
        CHECK(unit->users != NULL);
        list_init(&unit->users->units);
        pthread_mutex_lock(&exports->lock);
        CHECK(map_put(&exports->volumes, unit->volume_id, unit->users) == 0);
        pthread_mutex_unlock(&exports->lock);
    }
    pthread_mutex_lock(&exports->lock);
    list_push_back(&unit->users->units, &unit->user_link);
    pthread_mutex_unlock(&exports->lock);
    list_init(&unit->link);
    return unit;
}

void export_unit_free(struct export_unit *unit)
{
    struct exports *exports = unit->export->exports;
    list_remove(&unit->link);
    pthread_mutex_lock(&exports->lock);
    list_remove(&unit->user_link);
    if (list_empty(&unit->users->units)) {
        map_remove(&exports->volumes, unit->volume_id);
        free(unit->users);
    }
    pthread_mutex_unlock(&exports->lock);
    free(unit->reservations);
    free(unit);
}

struct export_unit *export_unit_find(const struct list *units, unsigned number)
{
    list_for_each(link, units)
    {
        struct export_unit *unit = list_entry(link, struct export_unit, link);
        if (unit->number == number) {
            return unit;
        }
    }
    return NULL;
}

struct target_lun_spec export_unit_spec(const struct export_unit *unit)
{
    struct target_lun_spec spec = {
        .number = unit->number,
        .dev = unit->dev,
        .naa = unit->naa,
        .read_only = unit->read_only,
        .thin = true,
        .reservations = unit->reservations,
        .reservations_len = unit->reservations_len,
    };
    strcpy(spec.serial, unit->serial);
    return spec;
}

void export_unit_forget_reservations(struct export_unit *unit)
{
    free(unit->reservations);
    unit->reservations = NULL;
    unit->reservations_len = 0;
}

/* ---- handles ---- */

/* To the loop of the target and back. */
struct errand {
    struct loop_task task;
    struct loop *owner;
    struct loop *loop;
    struct export_unit *unit;
    struct export_op *op; /* NULL: the exports are closing */
    struct exports *exports;
    struct blockdev *dev;
    void (*back)(struct errand *errand);
    struct error error;
};

static void errand_arrived(void *arg)
{
    struct errand *errand = arg;
    errand->back(errand);
    free(errand);
}

static void errand_return(struct errand *errand)
{
    errand->task = (struct loop_task){.fn = errand_arrived, .arg = errand};
    loop_post(errand->owner, &errand->task);
}

static void errand_send(struct export_unit *unit, struct export_op *op, struct blockdev *dev,
                        loop_fn there, void (*back)(struct errand *errand))
{
    struct export *export = unit->export;
    struct errand *errand = calloc(1, sizeof(*errand));
    CHECK(errand != NULL);
    errand->owner = export->exports->spec.owner;
    errand->loop = export->loop;
    errand->unit = unit;
    errand->op = op;
    errand->exports = export->exports;
    errand->dev = dev;
    errand->back = back;
    errand->task = (struct loop_task){.fn = there, .arg = errand};
    if (op) {
        op->pending++;
    }
    loop_post(errand->loop, &errand->task);
}

static void handle_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct errand *errand = arg;
    errand->dev = dev;
    if (error) {
        errand->error = *error;
    }
    errand_return(errand);
}

static void handle_open_there(void *arg)
{
    struct errand *errand = arg;
    handle_dev_open(errand->loop, errand->dev, handle_opened, errand);
}

static void handle_open_back(struct errand *errand)
{
    struct export_op *op = errand->op;
    errand->unit->dev = errand->dev;
    errand->unit->handle = errand->dev != NULL;
    if (!errand->dev && op->error.code == ERR_NONE) {
        op->error = errand->error;
    }
    export_op_back(op);
}

void export_unit_open(struct export_unit *unit, struct export_op *op, struct blockdev *dev)
{
    errand_send(unit, op, dev, handle_open_there, handle_open_back);
}

static void errand_there_done(void *arg)
{
    errand_return(arg);
}

static void handle_refresh_there(void *arg)
{
    struct errand *errand = arg;
    handle_dev_refresh(errand->dev, errand_there_done, errand);
}

static void handle_refresh_back(struct errand *errand)
{
    struct export_unit *unit = errand->unit;
    target_lun_notify(unit->export->target, unit->number, errand->op->event);
    export_op_back(errand->op);
}

void export_unit_notify(struct export_unit *unit, struct export_op *op)
{
    if (unit->handle) {
        errand_send(unit, op, unit->dev, handle_refresh_there, handle_refresh_back);
    } else {
        target_lun_notify(op->export->target, unit->number, op->event);
    }
}

static void handle_close_there(void *arg)
{
    struct errand *errand = arg;
    blockdev_close(errand->dev, errand_there_done, errand);
}

static void handle_close_back(struct errand *errand)
{
    export_unit_free(errand->unit);
    if (errand->op) {
        export_op_back(errand->op);
    } else {
        errand->exports->handles_closing--;
        exports_settle(errand->exports);
    }
}

void export_unit_release(struct export_unit *unit, struct export_op *op)
{
    list_remove(&unit->link);
    if (unit->handle) {
        errand_send(unit, op, unit->dev, handle_close_there, handle_close_back);
    } else {
        export_unit_free(unit);
    }
}
