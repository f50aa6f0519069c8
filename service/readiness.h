// SPDX-License-Identifier: Apache-2.0
/*
 * Whether the records can take a commit now: for whoever asks whether the service is ready.
 *
 * Thread:    readiness_ask() from any thread, before control is told to stop; the rest on control.
 * Ownership: both structs are the caller's; an ask until its fn has been called.
 * Errors:    none; what keeps the records from taking a commit is in the ask.
 *
 * A commit is tried, of what is in the records already, so that nothing else has to be known of
 * disks, quotas and limits. At most once a second: in between the last result is the answer.
 */
#ifndef SERVICE_READINESS_H
#define SERVICE_READINESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "service/control.h"

/* What was found last. Begins as zeros. */
struct readiness {
    bool known;
    uint64_t tried_ns;
    int err;
};

struct readiness_ask {
    void (*fn)(struct readiness_ask *ask); /* on control */
    void *arg;
    int err; /* 0: ready; -ENOSPC, -EROFS, … */
    /* readiness' own */
    struct readiness *readiness;
    struct control *control;
    struct loop_task task;
};

void readiness_ask(struct readiness *readiness, struct control *control, struct readiness_ask *ask);
/* In words, for err of an ask. */
const char *readiness_text(int err);

#endif
