// SPDX-License-Identifier: Apache-2.0
/*
 * What initiators see: iSCSI targets and the volumes that are their LUNs.
 *
 * Thread:    the owner's loop (control).
 * Ownership: specs are copied. The target server and the array are lent until exports_free().
 * Errors:    struct error.
 *
 * A target lives on the loop of its first LUN's volume; LUNs whose volumes live elsewhere are reached through handles
 * (block/handle_dev.h).
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
    void (*sessions_changed)(void *arg, const char *export_id, unsigned n_sessions);
};

struct exports_spec {
    struct loop *owner;
    struct array *array;
    struct loop *const *loops;
    unsigned n_loops;
    struct target_limits limits;
    unsigned chap_algorithms;
    struct exports_events events;
    void *events_arg;
};

int exports_new(const struct exports_spec *spec, struct exports **ret_exports);
/* As target_listen(). */
int exports_listen(struct exports *exports, const struct sockaddr_storage *addr,
                   struct sockaddr_storage *ret_addr, struct error *error);
/* Logs everybody out (at most grace_ns), then done; exports_free() may follow. */
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

/* Makes the target, or makes the one there is what the spec says: initiators and LUNs come and go. done: in effect. */
void export_put(struct exports *exports, const struct export_spec *spec, array_done_fn done,
                void *arg);
/* Sessions get an asynchronous logout request, and lose their connections after grace_ns. done may be NULL. */
void export_remove(struct exports *exports, const char *export_id, uint64_t grace_ns,
                   array_done_fn done, void *arg);

/* Before a volume is closed: its LUNs go, targets that have no other go too. done: nobody has the device any more. */
void exports_volume_remove(struct exports *exports, const char *volume_id, uint64_t grace_ns,
                           array_done_fn done, void *arg);
/* Its size, content or write protection has changed. */
void exports_volume_notify(struct exports *exports, const char *volume_id,
                           enum target_lun_event event);
/* Sessions logged in to targets that have the volume; the initiator of one of them in ret_name (may be NULL). */
unsigned exports_volume_sessions(struct exports *exports, const char *volume_id);
unsigned export_sessions(struct exports *exports, const char *export_id);

struct export_session_visit; /* additions as needed: who is logged in, statistics */

#endif
