// SPDX-License-Identifier: Apache-2.0
/* Ranges that somebody else knows to differ: marked once the map is open, durable before it is told. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "replication/mirror_private.h"

struct marking {
    struct list link; /* until the map is open */
    struct change_mark mark;
    struct mirror_core *core;
    uint64_t offset, len;
    mirror_done_fn done;
    void *arg;
    bool all;
};

static void mark_done(struct change_mark *mark, int status)
{
    struct marking *marking = container_of(mark, struct marking, mark);
    struct mirror_core *core = marking->core;
    struct error error;
    if (status) {
        error_set(&error, ERR_INTERNAL, "the change map cannot be written: %s",
                  strerrorname_np(-status));
    } else if (!marking->all) {
        change_map_end(core->map, mark->offset, mark->len, CHANGE_MARK);
    }
    mirror_tell_done(core->mirror, marking->done, marking->arg, status ? &error : NULL);
    free(marking);
    core->markings--;
    core->need_gen++;
    mirror_kick(core);
}

static void mark_begin(struct marking *marking)
{
    struct change_map *map = marking->core->map;
    int rc = marking->all ? change_map_mark_all(map, &marking->mark)
                          : change_map_begin(map, &marking->mark, marking->offset, marking->len);
    if (rc != 0) {
        mark_done(&marking->mark, rc < 0 ? rc : 0);
    }
}

void mirror_core_mark(struct mirror_core *core, uint64_t offset, uint64_t len, mirror_done_fn done,
                      void *arg)
{
    struct error error;
    if (core->map_failed || core->ending) {
        error_set(&error, ERR_NOT_READY, "the change map is not open");
        mirror_tell_done(core->mirror, done, arg, &error);
        return;
    }
    if (len > 0 && (offset > core->spec.size_bytes || len > core->spec.size_bytes - offset)) {
        error_set(&error, ERR_INVALID_PARAMETER, "outside of the volume");
        mirror_tell_done(core->mirror, done, arg, &error);
        return;
    }
    struct marking *marking = calloc(1, sizeof(*marking));
    CHECK(marking != NULL);
    *marking = (struct marking){
        .core = core, .offset = offset, .len = len, .done = done, .arg = arg, .all = len == 0};
    marking->mark.done = mark_done;
    core->markings++;
    if (core->map) {
        mark_begin(marking);
    } else {
        list_push_back(&core->marks_waiting, &marking->link);
    }
}

void mirror_marks_begin(struct mirror_core *core)
{
    struct list *link;
    while ((link = list_pop_front(&core->marks_waiting)) != NULL) {
        mark_begin(list_entry(link, struct marking, link));
    }
}

void mirror_marks_fail(struct mirror_core *core, const struct error *error)
{
    struct list *link;
    while ((link = list_pop_front(&core->marks_waiting)) != NULL) {
        struct marking *marking = list_entry(link, struct marking, link);
        mirror_tell_done(core->mirror, marking->done, marking->arg, error);
        free(marking);
        core->markings--;
    }
}
