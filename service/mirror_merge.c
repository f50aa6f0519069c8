// SPDX-License-Identifier: Apache-2.0
/*
 * The map is read on its data loop, into ranges that are marked on control, one after the other. When there are too many of them,
 * neighbours within a region become one: more is copied, nothing is left out.
 */
#include "service/mirror_merge.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "replication/change_map.h"

enum { RANGES_MAX = 65536 };

struct range {
    uint64_t offset;
    uint64_t len;
};

struct merge {
    struct mirror_merge_spec spec;
    struct range *ranges;
    size_t n;
    size_t room;
    size_t at;
    struct error error;
    struct loop_task task;
    array_done_fn done;
    void *arg;
};

static void range_marked(void *arg, const struct error *error);

static void merge_end(struct merge *merge)
{
    bool failed = merge->error.code != ERR_NONE;

    if (!failed) {
        unlink(merge->spec.path);
    }
    merge->done(merge->arg, failed ? &merge->error : NULL);
    free(merge->ranges);
    free(merge);
}

/* On control: one after the other. */
static void merge_next(struct merge *merge)
{
    if (merge->error.code != ERR_NONE || merge->at == merge->n) {
        merge_end(merge);
        return;
    }
    struct range *range = &merge->ranges[merge->at++];

    mirror_mark(merge->spec.mirror, range->offset, range->len, range_marked, merge);
}

static void range_marked(void *arg, const struct error *error)
{
    struct merge *merge = arg;

    if (error != NULL) {
        merge->error = *error;
    }
    merge_next(merge);
}

static void merge_read(void *arg)
{
    struct merge *merge = arg;

    if (merge->error.code != ERR_NONE) {
        /* Then anything may have changed there. */
        log_error("mirror[%s] what hosts changed on the target is not known (%s); everything is "
                  "copied",
                  merge->spec.name, merge->error.detail);
        merge->error = (struct error){0};
        merge->ranges = realloc(merge->ranges, sizeof(*merge->ranges));
        CHECK(merge->ranges != NULL);
        merge->ranges[0] = (struct range){0, 0};
        merge->n = 1;
    }
    merge_next(merge);
}

/* On the data loop. */
static void range_add(void *arg, uint64_t offset, uint64_t len)
{
    struct merge *merge = arg;
    uint64_t gap = merge->n < RANGES_MAX / 2 ? 0 : CHANGE_REGION_BYTES;
    struct range *last = merge->n > 0 ? &merge->ranges[merge->n - 1] : NULL;

    if (last != NULL && offset <= last->offset + last->len + gap) {
        last->len = offset + len - last->offset;
        return;
    }
    if (merge->n == merge->room) {
        merge->room = merge->room * 2 + 64;
        merge->ranges = realloc(merge->ranges, merge->room * sizeof(*merge->ranges));
        CHECK(merge->ranges != NULL);
    }
    merge->ranges[merge->n++] = (struct range){offset, len};
}

static void merge_walked(void *arg, const struct error *error)
{
    struct merge *merge = arg;

    if (error != NULL) {
        merge->error = *error;
    }
    merge->task = (struct loop_task){.fn = merge_read, .arg = merge};
    loop_post(merge->spec.owner, &merge->task);
}

static void merge_open(void *arg)
{
    struct merge *merge = arg;

    change_map_walk(merge->spec.loop, merge->spec.path, merge->spec.size_bytes, range_add,
                    merge_walked, merge);
}

void mirror_merge(const struct mirror_merge_spec *spec, array_done_fn done, void *arg)
{
    struct merge *merge = calloc(1, sizeof(*merge));

    CHECK(merge != NULL);
    merge->spec = *spec;
    merge->done = done;
    merge->arg = arg;
    if (access(spec->path, F_OK) < 0) {
        error_set(&merge->error, ERR_INTERNAL, "there is no map of it");
        merge_read(merge);
        return;
    }
    merge->task = (struct loop_task){.fn = merge_open, .arg = merge};
    loop_post(spec->loop, &merge->task);
}
