// SPDX-License-Identifier: Apache-2.0
/*
 * Inside the exports only: what an export consists of, and the operations on it.
 *
 * Thread:    the owner's loop (control); what is said to be under the lock is read by any.
 * Ownership: an operation is freed when it ends; an export with its last operation, if it is not served.
 * Errors:    op->error.
 */
#ifndef HOSTING_EXPORTS_PRIVATE_H
#define HOSTING_EXPORTS_PRIVATE_H

#include <pthread.h>

#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "hosting/exports.h"

struct export_users { /* of a volume */
    struct list units;
};

struct export_unit {
    struct list link; /* export.units, or op.units until it is served */
    struct list user_link;
    struct export_users *users;
    struct export *export;
    unsigned number;
    char volume_id[ARRAY_ID_LEN + 1];
    bool read_only;
    uint64_t naa;
    char serial[TARGET_SERIAL_LEN + 1];
    void *reservations; /* until it is served */
    size_t reservations_len;
    struct blockdev *dev;
    bool handle; /* dev is a handle of ours */
};

struct export
{
    struct exports *exports;
    char id[ARRAY_ID_LEN + 1];
    struct list ops; /* the first is under way */
    struct list units;
    struct target *target; /* NULL: not served. Changed under exports->lock */
    struct loop *loop;     /* of the target */
    bool marked;           /* while exports are gathered */

    /* Under exports->lock. */
    struct target_session *sessions; /* one allocation */
    unsigned n_sessions;
    unsigned n_aliases;
};

struct export_op {
    struct list link;
    struct exports *exports;
    struct export *export; /* NULL: refused */
    struct loop_task task;
    void (*next)(struct export_op *op);
    unsigned pending;
    struct arena arena;
    const char *iqn;
    const char *alias;
    struct target_access access;
    struct list units;
    uint64_t grace_ns;
    char volume_id[ARRAY_ID_LEN + 1];
    enum target_lun_event event;
    struct error error;
    array_done_fn done;
    void *arg;
};

struct exports {
    struct exports_spec spec;
    struct loop *loops[16];
    struct target_server *server;
    struct map by_id;
    struct map by_name; /* those with a target */
    struct map volumes; /* volume id → struct export_users */
    unsigned under_way; /* operations */
    bool closing;
    bool server_closing;
    unsigned handles_closing;
    uint64_t grace_ns;
    loop_fn close_done;
    void *close_arg;

    pthread_mutex_t lock;
    struct target_stats gone; /* of targets that are no more */
    unsigned n_aliases;       /* sessions that have one */
};

/* ---- operations (exports.c) ---- */

/* export NULL: it is refused. */
struct export_op *export_op_new(struct exports *exports, struct export *export,
                                void (*first)(struct export_op *op), array_done_fn done, void *arg);
void export_op_queue(struct export_op *op);
void export_op_end(struct export_op *op);
/* Behind all messages that were sent to the target. */
void export_op_end_after_barrier(struct export_op *op);
/* A step: starts with one pending, so that what comes back at once does not end it. */
void export_op_begin_step(struct export_op *op, void (*next)(struct export_op *op));
/* One of the things that the step waits for is back. */
void export_op_back(struct export_op *op);

/* Count in op->pending. The units go too. */
void export_unserve(struct export_op *op);
void export_unit_unserve(struct export_unit *unit, struct export_op *op);
/* The next step of the end, if there is one to be done. */
void exports_settle(struct exports *exports);

/* ---- units (exports_unit.c) ---- */

struct export_unit *export_unit_new(struct export *export, const struct export_lun *lun);
void export_unit_free(struct export_unit *unit);
struct export_unit *export_unit_find(const struct list *units, unsigned number);
struct target_lun_spec export_unit_spec(const struct export_unit *unit);
/* It is served: what was kept is the target's now. */
void export_unit_forget_reservations(struct export_unit *unit);
/* A handle of the device, which lives on another loop than the target. Counts in op->pending; without one op->error says why. */
void export_unit_open(struct export_unit *unit, struct export_op *op, struct blockdev *dev);
/* op->event is told to the target, a handle is refreshed before. Counts in op->pending. */
void export_unit_notify(struct export_unit *unit, struct export_op *op);
/* The target has let go of its device: it is freed, its handle closed before. Counts in op->pending, or without
 * one in exports->handles_closing. */
void export_unit_release(struct export_unit *unit, struct export_op *op);

/* ---- sessions and numbers (exports_sessions.c) ---- */

/* From now on nobody else meets the target; what it has counted stays. */
struct target *export_target_take(struct export *export);
/* An event of the target server. */
void exports_sessions_changed(void *arg, struct target *target,
                              const struct target_session *sessions, unsigned n_sessions);

#endif
