// SPDX-License-Identifier: Apache-2.0
/*
 * An opener that asks control at each open what to open: portals, secrets and queues may be other ones by then.
 *
 * Thread:    look_up and asked_opener_go_on() on control; the rest as openers do.
 * Ownership: inner is the opener's; it goes at the next open, or with the opener.
 * Errors:    look_up fills error.
 *
 *     data loop                            control
 *     open ─────────── asked ────────────▶ look_up: inner, or an error, at once or later
 *     inner's open     ◀── go on ─────────
 */
#ifndef SERVICE_ASKED_OPENER_H
#define SERVICE_ASKED_OPENER_H

#include "block/opener.h"
#include "service/control.h"

struct asked_opener;
/* Ends with asked_opener_go_on(). */
typedef void (*asked_look_up_fn)(struct asked_opener *opener);

/* One open at a time. */
struct asked_opener {
    struct block_opener base;
    struct control *control;
    char volume_id[ID_SIZE];
    asked_look_up_fn look_up;
    struct block_opener *inner; /* of the last open */
    struct error error;         /* of this open */

    /* its own */
    struct loop *loop;
    block_opened_fn done;
    void *arg;
    bool inner_opens;
    bool cancelled;
    struct loop_task task;
};

/* size: of a struct that begins with it and that goes with it; zeroed. */
struct asked_opener *asked_opener_new(size_t size, struct control *control, const char *volume_id,
                                      asked_look_up_fn look_up);
void asked_opener_go_on(struct asked_opener *opener);
/* For look_up: what table_get() said of the volume. */
void asked_opener_no_record(struct asked_opener *opener, int err);

#endif
