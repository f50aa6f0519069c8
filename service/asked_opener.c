// SPDX-License-Identifier: Apache-2.0
#include "service/asked_opener.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static void opener_end(struct asked_opener *opener, struct blockdev *dev, const struct error *error)
{
    block_opened_fn done = opener->done;

    opener->done = NULL;
    done(opener->arg, dev, error);
}

static void inner_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct asked_opener *opener = arg;

    opener->inner_opens = false;
    opener_end(opener, dev, error);
}

/* On the data loop again. */
static void opener_answered(void *arg)
{
    struct asked_opener *opener = arg;

    if (opener->cancelled) {
        error_set(&opener->error, ERR_TERMINATED, "Opening /volumes/%s was given up.",
                  opener->volume_id);
    }
    if (opener->error.code != ERR_NONE) {
        opener_end(opener, NULL, &opener->error);
        return;
    }
    opener->inner_opens = true;
    opener->inner->ops->open(opener->inner, opener->loop, inner_opened, opener);
}

void asked_opener_go_on(struct asked_opener *opener)
{
    opener->task = (struct loop_task){.fn = opener_answered, .arg = opener};
    loop_post(opener->loop, &opener->task);
}

void asked_opener_no_record(struct asked_opener *opener, int err)
{
    error_set(&opener->error, ERR_STORE_FAILED, "The record of /volumes/%s cannot be read (%s).",
              opener->volume_id, strerror(-err));
}

/* On control. */
static void opener_asked(void *arg)
{
    struct asked_opener *opener = arg;

    opener->look_up(opener);
}

static void inner_free(struct asked_opener *opener)
{
    if (opener->inner != NULL) {
        opener->inner->ops->free(opener->inner);
        opener->inner = NULL;
    }
}

static void opener_open(struct block_opener *base, struct loop *loop, block_opened_fn done,
                        void *arg)
{
    struct asked_opener *opener = container_of(base, struct asked_opener, base);

    CHECK(opener->done == NULL);
    inner_free(opener);
    opener->loop = loop;
    opener->done = done;
    opener->arg = arg;
    opener->cancelled = false;
    opener->error = (struct error){0};
    opener->task = (struct loop_task){.fn = opener_asked, .arg = opener};
    loop_post(control_loop(opener->control), &opener->task);
}

static void opener_cancel(struct block_opener *base)
{
    struct asked_opener *opener = container_of(base, struct asked_opener, base);

    opener->cancelled = true;
    if (opener->inner_opens) {
        opener->inner->ops->cancel(opener->inner);
    }
}

static void opener_free(struct block_opener *base)
{
    struct asked_opener *opener = container_of(base, struct asked_opener, base);

    inner_free(opener);
    free(opener);
}

struct asked_opener *asked_opener_new(size_t size, struct control *control, const char *volume_id,
                                      asked_look_up_fn look_up)
{
    static const struct block_opener_ops ops = {
        .open = opener_open, .cancel = opener_cancel, .free = opener_free};

    CHECK(size >= sizeof(struct asked_opener));
    struct asked_opener *opener = calloc(1, size);

    CHECK(opener != NULL);
    opener->base.ops = &ops;
    opener->control = control;
    opener->look_up = look_up;
    strcpy(opener->volume_id, volume_id);
    return opener;
}
