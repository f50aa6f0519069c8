// SPDX-License-Identifier: Apache-2.0
/*
 * What initiators see: iSCSI targets and the volumes that are their LUNs.
 *
 * Thread:    the owner's loop (control); exports_each_session(), exports_each_alias() and exports_stats() any.
 * Ownership: specs are copied. The array is lent until exports_free().
 * Errors:    struct error, to done().
 *
 * A target lives on the loop of its first LUN's volume; LUNs whose volumes live elsewhere are
 * reached through handles (block/handle_dev.h). What is asked for about one export happens in the
 * order in which it was asked for. An export without LUNs has no target. Reservations belong to a
 * LUN of a target: those of two targets that have one volume do not know of each other.
 */
#ifndef HOSTING_EXPORTS_H
#define HOSTING_EXPORTS_H

#include "hosting/array.h"
#include "target/target.h"

struct exports;

struct exports_events {
    /* APTPL: make the bytes durable (len 0: forget them), then call target_save_done(). */
    void (*reservations_changed)(void *arg, const char *export_id, unsigned lun,
                                 const char *volume_id, const void *bytes, size_t len,
                                 struct target_save *save);
    /* May be NULL. before: those that were there, now: those that are there. */
    void (*sessions_changed)(void *arg, const char *export_id, const struct target_session *before,
                             unsigned n_before, const struct target_session *now, unsigned n_now);
};

struct exports_spec {
    struct loop *owner;
    struct array *array;
    struct loop *const *loops;
    unsigned n_loops;
    struct target_limits limits;
    unsigned chap_algorithms;
    bool hold; /* portals accept only after exports_accept() */
    struct exports_events events;
    void *events_arg;
};

int exports_new(const struct exports_spec *spec, struct exports **ret_exports);
/* As target_listen(). */
int exports_listen(struct exports *exports, const struct sockaddr_storage *addr,
                   struct sockaddr_storage *ret_addr, struct error *error);
void exports_accept(struct exports *exports);
/* What is under way ends, new specs are refused (shutting_down); logs everybody out (at most
 * grace_ns), then done; exports_free() may follow. */
void exports_close(struct exports *exports, uint64_t grace_ns, loop_fn done, void *arg);
void exports_free(struct exports *exports);

struct export_lun {
    unsigned number;
    char volume_id[ARRAY_ID_LEN + 1];
    bool read_only;
    uint64_t naa;
    char serial[TARGET_SERIAL_LEN + 1];
    const void *reservations; /* kept ones (APTPL), or NULL */
    size_t reservations_len;
};

struct export_spec {
    char id[ARRAY_ID_LEN + 1];
    char iqn[TARGET_MAX_NAME + 1];
    char alias[256];
    struct target_access access;
    const struct export_lun *luns; /* their volumes are open */
    size_t n_luns;
};

/* Makes the target, or makes the one there is what the spec says: initiators and LUNs come and go; the name stays. done: in
 * effect, who logs in now sees it. A LUN whose volume is not open is left out, and done hears of it. */
void export_put(struct exports *exports, const struct export_spec *spec, array_done_fn done,
                void *arg);
/* Sessions get an asynchronous logout request, and lose their connections after grace_ns. done may be NULL. */
void export_remove(struct exports *exports, const char *export_id, uint64_t grace_ns,
                   array_done_fn done, void *arg);

/* Before a volume is closed: its LUNs go, targets that have no other go too. done: nobody has the device any more. */
void exports_volume_remove(struct exports *exports, const char *volume_id, uint64_t grace_ns,
                           array_done_fn done, void *arg);
/* Its size, content or write protection has changed. done (or NULL): with their next command sessions
 * hear of it. */
void exports_volume_notify(struct exports *exports, const char *volume_id,
                           enum target_lun_event event, array_done_fn done, void *arg);
/* Sessions logged in to targets that have the volume; ret_initiator (may be NULL) is that of one of
 * them, ret_export_id its target's export. */
unsigned exports_volume_sessions(struct exports *exports, const char *volume_id,
                                 char ret_export_id[ARRAY_ID_LEN + 1],
                                 char ret_initiator[TARGET_MAX_NAME + 1]);
unsigned export_sessions(struct exports *exports, const char *export_id);

/* Any thread: calls fn for each session, as of a moment ago. fn may not call back. */
typedef void (*export_session_fn)(void *arg, const struct target_session *session);
void exports_each_session(struct exports *exports, const char *export_id, export_session_fn fn,
                          void *arg);
/* Any thread: calls fn for each session with an alias of each target that has the volume, and the LUN that the volume is there.
 * fn may not call back. */
typedef void (*export_alias_fn)(void *arg, unsigned lun, const struct target_session *session);
void exports_each_alias(struct exports *exports, const char *volume_id, export_alias_fn fn,
                        void *arg);
/* Any thread: sums over all targets, those that are gone included (but for sessions). */
struct exports_stats {
    uint64_t targets;
    struct target_stats sum;
    struct target_server_stats server;
};
void exports_stats(struct exports *exports, struct exports_stats *ret_stats);

#endif
