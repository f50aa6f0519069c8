// SPDX-License-Identifier: Apache-2.0
#include "service/readiness.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "store/store.h"

enum { TRY_INTERVAL_S = 1 };

const char *readiness_text(int err)
{
    switch (err) {
    case -ENOSPC:
        return "the disk is full, or a quota or a limit on the size of files is reached";
    case -EROFS:
        return "the file system is read-only";
    default:
        return strerror(-err);
    }
}

static void try_commit(struct readiness *readiness, struct control *control)
{
    bool was_ready = !readiness->known || readiness->err == 0;
    readiness->err = db_try_commit(control_db(control));
    readiness->known = true;
    if (was_ready && readiness->err != 0) {
        log_warning("smirrord is not ready, its records take no commit: %s",
                    readiness_text(readiness->err));
    } else if (!was_ready && readiness->err == 0) {
        log_info("smirrord is ready again, its records take commits");
    }
}

static void arrived(void *arg)
{
    struct readiness_ask *ask = arg;
    struct readiness *readiness = ask->readiness;
    uint64_t now_ns = loop_now_ns(control_loop(ask->control));
    if (!readiness->known || now_ns - readiness->tried_ns >= TRY_INTERVAL_S * SEC_NS) {
        readiness->tried_ns = now_ns;
        try_commit(readiness, ask->control);
    }
    ask->err = readiness->err;
    ask->fn(ask);
}

void readiness_ask(struct readiness *readiness, struct control *control, struct readiness_ask *ask)
{
    ask->readiness = readiness;
    ask->control = control;
    ask->task = (struct loop_task){.fn = arrived, .arg = ask};
    loop_post(control_loop(control), &ask->task);
}
