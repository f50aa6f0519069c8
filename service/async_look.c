// SPDX-License-Identifier: Apache-2.0
/*
 * What an asynchronous mirror would move as it is now (?dryRun): the layers of both sides above its point say so, and where there are none everything is
 * to be compared, or copied.
 *
 *     to the target   what the source has above the base; the target is put back onto its point first
 *     to the source   what the target has above its point; the source is put back onto the base first
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/async_private.h"

struct look {
    struct control *control;
    char sync_id[ID_SIZE];
    struct async_changes changes;
    unsigned pending;
    loop_fn done;
    void *arg;
};

static void look_over(struct look *look)
{
    if (--look->pending > 0) {
        return;
    }
    struct mirror_run *run = mirror_run_find(look->control, look->sync_id);

    if (run != NULL && run->driver == &mirror_async_driver && run->state != NULL) {
        ((struct async_mirror *)run->state)->changes = look->changes;
    }
    look->done(look->arg);
    free(look);
}

static void answered(struct look *look, unsigned side, const struct error *error, uint64_t bytes)
{
    look->changes.known[side] = error == NULL;
    look->changes.bytes[side] = bytes;
    look_over(look);
}

static void source_answered(void *arg, const struct error *error, uint64_t bytes)
{
    answered(arg, ASYNC_SOURCE, error, bytes);
}

static void target_answered(void *arg, const struct error *error, uint64_t bytes)
{
    answered(arg, ASYNC_TARGET, error, bytes);
}

void async_look(struct mirror_run *run, loop_fn done, void *arg)
{
    struct look *look = calloc(1, sizeof(*look));
    struct array *array = hosted_array(control_hosted(run->control));

    CHECK(look != NULL);
    *look = (struct look){.control = run->control, .pending = 1, .done = done, .arg = arg};
    memcpy(look->sync_id, run->want.head.id, ID_SIZE);
    if (run->state != NULL) {
        struct async_mirror now = *(struct async_mirror *)run->state; /* it may be in a step */

        now.row = run->want;
        if (async_rows_read(&now) == 0) {
            look->changes.base = now.valid_base;
            look->changes.point = now.valid_point;
            look->changes.first = async_is_first(&now);
        }
        if (look->changes.base) {
            look->pending++;
            array_volume_changes(array, now.row.source_id, now.cycle.base_id, source_answered,
                                 look);
        }
        if (look->changes.point) {
            look->pending++;
            array_volume_changes(array, now.row.target_id, now.cycle.point_id, target_answered,
                                 look);
        }
    }
    look_over(look);
}

bool async_would_move(const struct mirror_run *run, bool back, struct mirror_would *ret_would)
{
    const struct async_mirror *am = run->state;

    if (am == NULL) {
        return false;
    }
    const struct async_changes *changes = &am->changes;
    unsigned from = back ? ASYNC_TARGET : ASYNC_SOURCE;
    unsigned to = back ? ASYNC_SOURCE : ASYNC_TARGET;
    bool by_layers = changes->base && (changes->point || !back);

    /* Nobody but the mirror changes the target until it is its hosts', and what the mirror has begun is no loss. */
    bool untouched = !back && !replica_mirror_target_free(run->want.copy_state);

    *ret_would = (struct mirror_would){
        .bytes = by_layers && changes->known[from] ? changes->bytes[from] : UINT64_MAX,
        .discarded = untouched            ? 0
                     : changes->known[to] ? changes->bytes[to]
                                          : UINT64_MAX,
        .reason = by_layers                 ? "Map"
                  : changes->first && !back ? "Full"
                                            : "Compare",
    };
    return true;
}
