// SPDX-License-Identifier: Apache-2.0
/*
 * How a mirror gets at its target: each open asks control for the records as they are then. A volume of our own is opened beside the
 * write protection of its hosts; a LUN of another system through its portals, in a session that ends what one before left behind.
 *
 *     data loop                            control
 *     open ─────────── asked ────────────▶ the volume, its queue, an opener for it
 *     login, identity      ◀── opener ────
 */
#include <stddef.h>
#include <string.h>

#include "service/asked_opener.h"
#include "service/hosted.h"
#include "service/mirrors.h"
#include "service/network.h"
#include "service/volumes.h"

struct leg_opener {
    struct asked_opener asked;
    char sync_id[ID_SIZE];
    bool awaited; /* the queue of the volume was waited for */
};
_Static_assert(offsetof(struct leg_opener, asked) == 0, "freed with it");

static void leg_find(struct leg_opener *opener);

static void leg_awaited(void *arg, struct array_barrier *barrier)
{
    array_barrier_end(barrier);
    leg_find(arg);
}

/* false: it is waited for. */
static bool leg_hosted(struct leg_opener *opener, const struct volume_row *volume)
{
    struct array *array = hosted_array(control_hosted(opener->asked.control));

    if (array_volume_device(array, opener->asked.volume_id, NULL) != NULL) {
        opener->asked.inner = array_leg_opener(array, opener->asked.volume_id);
        return true;
    }
    if (array_volume_is_there(array, opener->asked.volume_id) && !opener->awaited) {
        opener->awaited = true;
        array_barrier(array, volume->family, leg_awaited, opener);
        return false;
    }
    error_set(&opener->asked.error, ERR_REMOTE_UNREACHABLE, "/volumes/%s cannot be used: %.200s.",
              opener->asked.volume_id,
              volume->problem[0] != '\0' ? volume->problem : "it is not open");
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
                opener->asked.inner =
                    array_keep_opener(hosted_array(control_hosted(opener->asked.control)),
                                      source.head.id, opener->asked.inner);
            }
        }
    }
    return r;
}

static void leg_find(struct leg_opener *opener)
{
    struct asked_opener *asked = &opener->asked;
    struct db *db = control_db(asked->control);
    struct network_session session = {
        .isid = network_isid(opener->sync_id, 'm'),
        .fence = true,
        .fence_open = true,
        .holds_hosts = true,
    };
    struct volume_row volume;
    struct sync_row sync;
    int r = table_get(db, &sync_table, opener->sync_id, &sync);

    if (r == 0) {
        memcpy(session.pipe_id, sync.pipe_id, sizeof(session.pipe_id));
        r = table_get(db, &volume_table, asked->volume_id, &volume);
    }
    if (r == 0) {
        remote_alias_format(session.alias, &sync, &volume);
    }
    if (r < 0) {
        asked_opener_no_record(asked, r);
    } else if (volume.kind == VOLUME_HOSTED) {
        if (!leg_hosted(opener, &volume)) {
            return;
        }
    } else if (network_opener(control_network(asked->control), db, &volume, &session, &asked->inner,
                              &asked->error) == 0 &&
               leg_keeps(opener, db, &volume) < 0) {
        error_set(&asked->error, ERR_STORE_FAILED,
                  "The records of /synchronizations/%s cannot be read.", opener->sync_id);
    }
    asked_opener_go_on(asked);
}

/* On control. */
static void leg_look_up(struct asked_opener *asked)
{
    struct leg_opener *opener = container_of(asked, struct leg_opener, asked);

    opener->awaited = false;
    leg_find(opener);
}

struct block_opener *mirror_leg_opener(struct control *control, const char *sync_id,
                                       const char *volume_id)
{
    struct asked_opener *asked =
        asked_opener_new(sizeof(struct leg_opener), control, volume_id, leg_look_up);

    strcpy(container_of(asked, struct leg_opener, asked)->sync_id, sync_id);
    return &asked->base;
}
