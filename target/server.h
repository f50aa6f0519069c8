// SPDX-License-Identifier: Apache-2.0
/*
 * The server and its targets from inside: who owns which field.
 *
 * Thread:    fields are grouped by the loop that owns them.
 * Ownership: the server owns shards, portals and targets.
 * Errors:    none.
 */
#ifndef TARGET_SERVER_H
#define TARGET_SERVER_H

#include <stdatomic.h>

#include "base/list.h"
#include "base/map.h"
#include "target/access.h"
#include "target/scsi/scsi.h"
#include "target/shard.h"
#include "target/target.h"

/* Written by one loop, read by any thread. */
struct counter {
    _Atomic uint64_t value;
};
static inline void count_add(struct counter *counter, uint64_t n)
{
    uint64_t value = atomic_load_explicit(&counter->value, memory_order_relaxed);
    atomic_store_explicit(&counter->value, value + n, memory_order_relaxed);
}
static inline uint64_t count_get(const struct counter *counter)
{
    return atomic_load_explicit(&((struct counter *)counter)->value, memory_order_relaxed);
}

struct target_counters {
    struct counter logins, login_failures, commands, reads, read_bytes, writes, write_bytes,
        check_conditions, reservation_conflicts, task_management, aborted_tasks, digest_errors,
        protocol_errors, sessions;
};

struct target_server;

struct target {
    /* Constant. */
    struct target_server *server;
    struct shard *shard;
    char name[TARGET_MAX_NAME + 1];
    char *alias;

    /* Owner. */
    struct list owner_link;
    bool owner_closing;
    bool lun_used[TARGET_MAX_LUNS];

    /* First loop. */
    struct access *portal_access; /* for discovery */

    /* The target's loop. */
    struct scsi_target scsi;
    struct access *access;
    struct list connections;
    struct list sessions;
    unsigned n_sessions;
    uint16_t next_tsih;
    bool closing;
    unsigned luns_leaving;
    bool removing;
    unsigned saves; /* messages to the owner that have not come back */
    struct target_message *close_message;
    struct loop_timer close_timer;

    struct target_counters counters;
};

struct portal;
struct server_close;

struct target_server {
    /* Constant. */
    struct loop *owner;
    struct target_limits limits;
    uint32_t accept_transfer;
    unsigned chap_algorithms;
    struct target_events events;
    void *events_arg;
    unsigned n_shards;
    struct shard *shards;

    /* Owner. */
    struct list targets;
    struct map names; /* lower case → struct target */
    struct list listening; /* struct portal.owner_link */
    bool holding;          /* those are the owner's still */
    struct server_close *closing;

    /* First loop. */
    struct access *discovery;
    struct map directory; /* name (lower case) → struct target */
    struct list portals;
    struct list visitors;
    struct list discoveries; /* connections */
    unsigned n_visitors;

    /* Any. */
    atomic_uint connections;
    struct counter accepted, refused, login_timeouts, login_failures;
};

/* portal.c, first loop. */
void portal_open(struct target_server *server, struct portal *portal);
void portals_close(struct target_server *server);
struct portal *portal_new(const struct sockaddr_storage *addr, struct sockaddr_storage *ret_addr,
                          struct error *error);
void portal_free(struct portal *portal);
const struct sockaddr_storage *portal_addr(const struct portal *portal);
struct list *portal_owner_link(struct portal *portal);
struct portal *portal_of_owner_link(struct list *link);
void portal_close(struct portal *portal);

/* node.c, the target's loop. */
void target_sessions_changed(struct target *target);
/* Frees nothing: tells whether nothing is left that touches devices. */
void target_check_idle(struct target *target);

#endif
