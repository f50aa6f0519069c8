// SPDX-License-Identifier: Apache-2.0
/*
 * How a mirror gets at its target: each open asks control for the records as they are then. A volume of our own is opened beside the
 * write protection of its hosts; a LUN of another system through its portals, in a session that ends what one before left behind.
 *
 *     data loop                            control
 *     open ─────────── asked ────────────▶ the volume, its queue, an opener for it
 *     login, identity      ◀── opener ────
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/hosted.h"
#include "service/mirrors.h"
#include "service/network.h"
#include "service/volumes.h"

/* One open at a time. */
struct leg_opener {
    struct block_opener base;
    struct control *control;
    char sync_id[ID_SIZE];
    char volume_id[ID_SIZE];
    struct loop *loop;
    block_opened_fn done;
    void *arg;
    struct block_opener *inner; /* of the last open */
    bool inner_opens;
    bool cancelled;
    bool awaited; /* the queue of the volume was waited for */
    struct error error;
    struct loop_task task;
};

static void leg_end(struct leg_opener *opener, struct blockdev *dev, const struct error *error)
{
    block_opened_fn done = opener->done;

    opener->done = NULL;
    done(opener->arg, dev, error);
}

static void leg_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct leg_opener *opener = arg;

    opener->inner_opens = false;
    leg_end(opener, dev, error);
}

/* On the data loop again. */
static void leg_go_on(void *arg)
{
    struct leg_opener *opener = arg;

    if (opener->cancelled) {
        error_set(&opener->error, ERR_TERMINATED, "Opening /volumes/%s was given up.",
                  opener->volume_id);
    }
    if (opener->error.code != ERR_NONE) {
        leg_end(opener, NULL, &opener->error);
        return;
    }
    opener->inner_opens = true;
    opener->inner->ops->open(opener->inner, opener->loop, leg_opened, opener);
}

static void leg_found(struct leg_opener *opener)
{
    opener->task = (struct loop_task){.fn = leg_go_on, .arg = opener};
    loop_post(opener->loop, &opener->task);
}

/* 40 bits that are the same for this leg at each start, and for no other. */
static uint64_t leg_isid(const char *sync_id)
{
    uint64_t hash = 0xcbf29ce484222325ull;

    for (const char *c = sync_id; *c != '\0'; c++) {
        hash = (hash ^ (unsigned char)*c) * 0x100000001b3ull;
    }
    hash = (hash ^ 'm') * 0x100000001b3ull;
    hash = (hash ^ (hash >> 40)) & 0xffffffffffull;
    return hash == 0 ? 1 : hash;
}

static void leg_look_up(void *arg);

static void leg_awaited(void *arg, struct array_barrier *barrier)
{
    array_barrier_end(barrier);
    leg_look_up(arg);
}

/* false: it is waited for. */
static bool leg_hosted(struct leg_opener *opener, const struct volume_row *volume)
{
    struct array *array = hosted_array(control_hosted(opener->control));

    if (array_volume_device(array, opener->volume_id, NULL) != NULL) {
        opener->inner = array_leg_opener(array, opener->volume_id);
        return true;
    }
    if (array_volume_is_there(array, opener->volume_id) && !opener->awaited) {
        opener->awaited = true;
        array_barrier(array, volume->family, leg_awaited, opener);
        return false;
    }
    error_set(&opener->error, ERR_REMOTE_UNREACHABLE, "/volumes/%s cannot be used: %.200s.",
              opener->volume_id, volume->problem[0] != '\0' ? volume->problem : "it is not open");
    return true;
}

/* The LUN that the source is still filled from: what is overwritten there is kept for all that need it. */
static int leg_keeps(struct leg_opener *opener, struct db *db, const struct volume_row *volume)
{
    struct sync_row sync;
    struct volume_row source;
    struct volume_row bottom;
    struct layer_row oldest;
    int r = table_get(db, &sync_table, opener->sync_id, &sync);

    if (r == 0) {
        r = table_get(db, &volume_table, sync.source_id, &source);
    }
    if (r == 0 && source.kind == VOLUME_HOSTED) {
        r = hosted_filling(db, &source, &oldest);
        if (r == 1) {
            r = table_get(db, &volume_table, oldest.bottom_volume_id, &bottom);
            if (r == 0 && volume_same_lun(volume, &bottom)) {
                opener->inner = array_keep_opener(hosted_array(control_hosted(opener->control)),
                                                  source.head.id, opener->inner);
            }
        }
    }
    return r;
}

/* On control. */
static void leg_look_up(void *arg)
{
    struct leg_opener *opener = arg;
    struct db *db = control_db(opener->control);
    struct network_session session = {
        .isid = leg_isid(opener->sync_id), .fence = true, .fence_open = true};
    struct volume_row volume;
    struct sync_row sync;
    int r = table_get(db, &sync_table, opener->sync_id, &sync);

    if (r == 0) {
        memcpy(session.pipe_id, sync.pipe_id, sizeof(session.pipe_id));
        r = table_get(db, &volume_table, opener->volume_id, &volume);
    }
    if (r < 0) {
        error_set(&opener->error, ERR_STORE_FAILED,
                  "The record of /volumes/%s cannot be read (%s).", opener->volume_id,
                  strerror(-r));
    } else if (volume.kind == VOLUME_HOSTED) {
        if (!leg_hosted(opener, &volume)) {
            return;
        }
    } else if (network_opener(control_network(opener->control), db, &volume, &session,
                              &opener->inner, &opener->error) == 0 &&
               leg_keeps(opener, db, &volume) < 0) {
        error_set(&opener->error, ERR_STORE_FAILED,
                  "The records of /synchronizations/%s cannot be read.", opener->sync_id);
    }
    leg_found(opener);
}

static void inner_free(struct leg_opener *opener)
{
    if (opener->inner != NULL) {
        opener->inner->ops->free(opener->inner);
        opener->inner = NULL;
    }
}

static void leg_open(struct block_opener *base, struct loop *loop, block_opened_fn done, void *arg)
{
    struct leg_opener *opener = container_of(base, struct leg_opener, base);

    CHECK(opener->done == NULL);
    inner_free(opener);
    opener->loop = loop;
    opener->done = done;
    opener->arg = arg;
    opener->cancelled = false;
    opener->awaited = false;
    opener->error = (struct error){0};
    opener->task = (struct loop_task){.fn = leg_look_up, .arg = opener};
    loop_post(control_loop(opener->control), &opener->task);
}

static void leg_cancel(struct block_opener *base)
{
    struct leg_opener *opener = container_of(base, struct leg_opener, base);

    opener->cancelled = true;
    if (opener->inner_opens) {
        opener->inner->ops->cancel(opener->inner);
    }
}

static void leg_free(struct block_opener *base)
{
    struct leg_opener *opener = container_of(base, struct leg_opener, base);

    inner_free(opener);
    free(opener);
}

struct block_opener *mirror_leg_opener(struct control *control, const char *sync_id,
                                       const char *volume_id)
{
    static const struct block_opener_ops ops = {
        .open = leg_open, .cancel = leg_cancel, .free = leg_free};
    struct leg_opener *opener = calloc(1, sizeof(*opener));

    CHECK(opener != NULL);
    opener->base.ops = &ops;
    opener->control = control;
    strcpy(opener->sync_id, sync_id);
    strcpy(opener->volume_id, volume_id);
    return &opener->base;
}
