// SPDX-License-Identifier: Apache-2.0
#include "hosting/gather.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/loop.h"

struct gather {
    unsigned pending; /* one more until it is ready */
    array_done_fn done;
    void *arg;
    struct error error;
    struct loop_task task;
};

struct gather *gather_new(array_done_fn done, void *arg)
{
    struct gather *gather = calloc(1, sizeof(*gather));
    CHECK(gather != NULL);
    gather->pending = 1;
    gather->done = done;
    gather->arg = arg;
    return gather;
}

void gather_add(struct gather *gather)
{
    gather->pending++;
}

static void gather_end(void *arg)
{
    struct gather *gather = arg;
    if (gather->done) {
        gather->done(gather->arg, gather->error.code == ERR_NONE ? NULL : &gather->error);
    }
    free(gather);
}

void gather_back(void *arg, const struct error *error)
{
    struct gather *gather = arg;
    CHECK(gather->pending > 0);
    if (error) {
        gather->error = *error;
    }
    if (--gather->pending == 0) {
        gather_end(gather);
    }
}

void gather_fail(struct gather *gather, enum error_code code, const char *text)
{
    error_set(&gather->error, code, "%s", text);
}

void gather_ready(struct gather *gather, struct loop *loop)
{
    if (--gather->pending == 0) {
        gather->task = (struct loop_task){.fn = gather_end, .arg = gather};
        loop_defer(loop, &gather->task);
    }
}
