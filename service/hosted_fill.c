// SPDX-License-Identifier: Apache-2.0
/*
 * Volumes that begin as what a LUN of another system is: their oldest layer has that LUN below it, and is filled from there by a
 * copy like others (docs/design/hosted.md, "Filling from a LUN of another system").
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "service/asked_opener.h"
#include "service/hosted_private.h"
#include "service/network.h"

/* ---- the LUN below ---- */

/* Portals and secrets may change before the volume is filled. */
static void bottom_look_up(struct asked_opener *opener)
{
    struct db *db = control_db(opener->control);
    struct network_session session = {.isid = 0};
    struct volume_row volume;
    int r = table_get(db, &volume_table, opener->volume_id, &volume);

    if (r < 0) {
        asked_opener_no_record(opener, r);
    } else {
        network_opener(control_network(opener->control), db, &volume, &session, &opener->inner,
                       &opener->error);
    }
    asked_opener_go_on(opener);
}

struct block_opener *hosted_bottom_opener(struct hosted *hosted, const char *volume_id)
{
    struct asked_opener *opener =
        asked_opener_new(sizeof(*opener), hosted->control, volume_id, bottom_look_up);

    return &opener->base;
}

/* ---- what the records say ---- */

int hosted_filling(struct db *db, const struct volume_row *volume, struct layer_row *ret_oldest)
{
    struct layer_row *rows;
    size_t n;

    if (volume->kind != VOLUME_HOSTED) {
        return 0;
    }
    int r = layer_chain(db, volume->top_layer_id, &rows, &n);

    if (r < 0) {
        return r;
    }
    bool filling = n > 0 && rows[0].bottom_volume_id[0] != '\0';

    if (filling) {
        *ret_oldest = rows[0];
    }
    free(rows);
    return filling;
}

struct other_user {
    const struct volume_row *volume;
    struct layer_row *chain;
    size_t n;
    struct db *db;
    struct volume_row found;
};

/* A volume of the family whose chain begins with the same layer. */
static int other_row(void *arg, const void *row)
{
    struct other_user *other = arg;
    const struct volume_row *volume = row;
    struct layer_row oldest;

    if (volume->kind != VOLUME_HOSTED || strcmp(volume->family, other->volume->family) != 0 ||
        strcmp(volume->head.id, other->volume->head.id) == 0) {
        return 0;
    }
    int r = hosted_filling(other->db, volume, &oldest);

    if (r == 1 && strcmp(oldest.head.id, other->chain[0].head.id) == 0) {
        other->found = *volume;
        return 1;
    }
    return r < 0 ? r : 0;
}

int hosted_fill_others(struct call *call, const struct volume_row *volume,
                       char ret_other_id[ID_SIZE])
{
    struct layer_row oldest;
    struct other_user other = {.volume = volume, .chain = &oldest, .db = call->db};
    int r = hosted_filling(call->db, volume, &oldest);

    if (r == 1) {
        struct condition where[] = {WHERE_TEXT("pool_id", volume->pool_id), WHERE_END};

        r = table_each(call->db, &volume_table, where, 0, 0, other_row, &other);
    }
    if (r == 1) {
        strcpy(ret_other_id, other.found.head.id);
    }
    return r < 0 ? call_fail_store(call, r) : r;
}

/* ---- its end ---- */

struct filled {
    char layer_id[ID_SIZE];
    char family[ID_SIZE];
};

static void bottom_dropped(void *arg, const struct error *error)
{
    struct hosted *hosted = arg;

    if (error != NULL) {
        log_warning("volumes that were filled: %s", error->detail);
    }
    hosted_busy(hosted, -1);
}

static void filled_effect(struct control *control, void *arg)
{
    const struct filled *filled = arg;
    struct hosted *hosted = control_hosted(control);

    hosted_busy(hosted, +1);
    array_bottom_drop(hosted->array, filled->family, filled->layer_id, bottom_dropped, hosted);
}

int hosted_filled(struct call *call, const char *volume_id)
{
    struct filled filled = {0};
    struct volume_row volume;
    struct layer_row oldest;
    int r = table_get(call->db, &volume_table, volume_id, &volume);

    if (r == 0) {
        r = hosted_filling(call->db, &volume, &oldest);
    }
    if (r <= 0) {
        return r < 0 && r != -ENOENT ? call_fail_store(call, r) : 0;
    }
    oldest.bottom_volume_id[0] = '\0';
    oldest.bottom_bytes = 0;
    r = table_update(call->db, &layer_table, &oldest);
    if (r < 0) {
        return call_fail_store(call, r);
    }
    strcpy(filled.layer_id, oldest.head.id);
    strcpy(filled.family, oldest.family);
    control_effect(call->control, filled_effect, &filled, sizeof(filled));
    hosted_effect_merge(call, oldest.head.id, oldest.family);
    return 0;
}

/* ---- for copies ---- */

struct block_opener *hosted_fill_opener(struct control *control, const char *volume_id,
                                        uint64_t size_bytes, struct loop **ret_loop)
{
    struct array *array = control_hosted(control)->array;

    return array_volume_device(array, volume_id, ret_loop) == NULL
               ? NULL
               : array_fill_opener(array, volume_id, size_bytes);
}
