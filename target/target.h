// SPDX-License-Identifier: Apache-2.0
/*
 * The iSCSI target: block devices of ours, served to initiators over TCP (RFC 7143).
 *
 * Thread:    everything is called on the owner's loop (control) and works by messages; callbacks
 *            come back there. The data loops and the owner's loop run on; target_stats() and
 *            target_server_stats() may be called from any thread.
 * Ownership: specs are copied. Devices are lent from target_new() or target_lun_add() until the
 *            done() of target_close() or target_lun_remove(); they live on the target's loop.
 * Errors:    struct error where the owner can be told at once; negative errno in done callbacks.
 *
 * The first data loop also owns the portals: it accepts, reads the first login request and serves
 * discovery. A connection moves to the loop of the target it asks for before its login goes on;
 * there it meets the target's sessions, tasks and devices, so that nothing is shared and no lock is
 * taken. Messages run owner → first loop → target's loop → owner: that order is what makes closing
 * safe (a connection that was handed over before is there before the close).
 */
#ifndef TARGET_TARGET_H
#define TARGET_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/loop.h"
#include "block/blockdev.h"

enum {
    TARGET_MAX_LUNS = 256,
    TARGET_MAX_NAME = 223, /* RFC 7143, 4.2.7.1 */
    TARGET_MAX_ALIAS = 255,
    TARGET_MAX_SECRET = 255,
    TARGET_SERIAL_LEN = 32,
};

/* Algorithms of CHAP that may be used, strongest first where both sides can. */
enum {
    TARGET_CHAP_MD5 = 1,
    TARGET_CHAP_SHA1 = 2,
    TARGET_CHAP_SHA256 = 4,
    TARGET_CHAP_SHA3_256 = 8,
    TARGET_CHAP_ALL = 15,
};

/* Who may log in. A row without chap_user lets the initiator in without proof. */
struct target_initiator {
    const char *name; /* NULL: every initiator */
    const char *chap_user;
    const char *chap_secret;
    const char *mutual_user; /* with mutual_secret: we prove ourselves when asked to */
    const char *mutual_secret;
};

struct target_access {
    const struct target_initiator *initiators; /* the first row that fits the name decides */
    size_t n_initiators;
};

struct target_lun_spec {
    unsigned number; /* below TARGET_MAX_LUNS */
    struct blockdev *dev;
    uint64_t naa;                       /* NAA 3 or 5, VPD 83h */
    uint8_t naa_extension[8];           /* NAA 6: the second half; all zero: an 8-byte NAA */
    char serial[TARGET_SERIAL_LEN + 1]; /* VPD 80h */
    char vendor[9];                     /* "": SMIRROR */
    char product[17];                   /* "": VOLUME */
    char revision[5];                   /* "": the program's */
    bool read_only;
    bool thin;          /* unmap, thin-provisioning pages and sense codes */
    bool writeback_off; /* report and keep WCE=0: every write is FUA */
    /* Kept persistent reservations (APTPL), as reservations_changed() handed them out. */
    const void *reservations;
    size_t reservations_len;
};

struct target_spec {
    const char *name;  /* iqn., eui. or naa. */
    const char *alias; /* or NULL */
    struct loop *loop; /* one of the server's; the devices' */
    struct target_access access;
    const struct target_lun_spec *luns;
    size_t n_luns;
};

struct target_limits {
    unsigned max_connections;     /* 0: 1024 */
    unsigned max_logins;          /* connections that have not logged in; 0: 128 */
    unsigned max_sessions;        /* per target; 0: 128 */
    unsigned queue_depth;         /* tasks per session; 0: 128, at most 1024 */
    uint64_t login_timeout_ns;    /* 0: 15 s */
    uint64_t nop_interval_ns;     /* silence before a ping; 0: 15 s */
    uint64_t nop_timeout_ns;      /* silence before the end; 0: 15 s more */
    uint64_t send_timeout_ns;     /* an initiator that does not read; 0: 30 s */
    uint64_t data_out_timeout_ns; /* an initiator that owes data; 0: 60 s */
    uint32_t max_recv_segment;    /* MaxRecvDataSegmentLength; 0: 262144 */
    uint32_t max_burst;           /* 0: 1 MiB */
    uint32_t first_burst;         /* 0: 262144 */
    unsigned max_outstanding_r2t; /* 0: 8 */
    uint32_t max_transfer;        /* of one command; 0: 8 MiB */
    size_t receive_bytes;         /* per loop; 0: 64 MiB */
    size_t data_bytes;            /* per loop, read data; 0: 96 MiB */
    size_t connection_bytes;      /* of one connection, each of both; 0: 16 MiB */
    bool initial_r2t;             /* our side of the negotiation; default No */
    bool no_immediate_data;
};

struct target;
struct target_server;
struct target_save;

/* What an initiator says of itself when it logs in. alias: its InitiatorAlias, "" when it has none; any bytes but control
 * characters. */
struct target_session {
    const char *initiator;
    const char *alias;
};

/* Called on the owner's loop. */
struct target_events {
    /* Persistent reservations with APTPL changed: make the bytes durable (len 0: forget them), then
     * call target_save_done() once, from the owner's loop. The command waits for it. NULL: APTPL is
     * refused. The bytes live until then. */
    void (*reservations_changed)(void *arg, struct target *target, unsigned lun, const void *bytes,
                                 size_t len, struct target_save *save);
    /* Sessions came or went; may be NULL. What they are called lives during the call. */
    void (*sessions_changed)(void *arg, struct target *target,
                             const struct target_session *sessions, unsigned n_sessions);
};

struct target_server_spec {
    struct loop *owner;
    struct loop *const *loops;
    unsigned n_loops; /* at most 16 */
    struct target_limits limits;
    struct target_access discovery; /* no rows: discovery is open to all */
    unsigned chap_algorithms;       /* set of TARGET_CHAP_…; 0: SHA3-256, SHA-256, SHA-1 */
    bool hold;                      /* portals are bound, but accept only after target_accept() */
    struct target_events events;
    void *events_arg;
};

typedef void (*target_done_fn)(void *arg, int status);

/* Before any loop runs, or while all of them run. */
int target_server_new(const struct target_server_spec *spec, struct target_server **ret_server);
/* Closes the portals, logs all sessions out (at most grace_ns), then calls done(); then
 * target_server_free() may follow. The targets end with it: no target_close() for them. */
void target_server_close(struct target_server *server, uint64_t grace_ns, target_done_fn done,
                         void *arg);
void target_server_free(struct target_server *server);

/* Binds now; *ret_addr tells the port if it was 0. Accepts once the first loop has got the message.
 * Errors: in_use, address_not_allowed, internal. */
int target_listen(struct target_server *server, const struct sockaddr_storage *addr,
                  struct sockaddr_storage *ret_addr, struct error *error);
/* For a server that holds: the targets are there, initiators may come. Those that tried wait. */
void target_accept(struct target_server *server);
/* Connections that are up stay. -ENOENT: no such portal. */
int target_unlisten(struct target_server *server, const struct sockaddr_storage *addr);

/* Errors: invalid_parameter (name, LUN numbers), in_use (name). */
int target_new(struct target_server *server, const struct target_spec *spec,
               struct target **ret_target, struct error *error);
/* For sessions to come; sessions whose initiator is no longer let in are logged out. */
int target_set_access(struct target *target, const struct target_access *access,
                      struct error *error);
/* No new logins; sessions get an asynchronous message (logout request) and, after grace_ns, lose
 * their connections. done() when no task touches a device any more: target is then gone. */
void target_close(struct target *target, uint64_t grace_ns, target_done_fn done, void *arg);

/* REPORTED LUNS DATA HAS CHANGED for all sessions. */
int target_lun_add(struct target *target, const struct target_lun_spec *spec, struct error *error);
/* New commands are refused at once; done() when the last one has ended. */
void target_lun_remove(struct target *target, unsigned number, target_done_fn done, void *arg);

enum target_lun_event {
    TARGET_LUN_RESIZED,   /* info.size_bytes moved: CAPACITY DATA HAS CHANGED */
    TARGET_LUN_REPLACED,  /* other content, as after a restore: INQUIRY DATA HAS CHANGED */
    TARGET_LUN_LOW_SPACE, /* THIN PROVISIONING SOFT THRESHOLD REACHED */
    TARGET_LUN_READ_ONLY, /* from now on */
    TARGET_LUN_WRITABLE,
};
void target_lun_notify(struct target *target, unsigned number, enum target_lun_event event);

/* The owner's answer to reservations_changed(): 0, or why they could not be kept. */
void target_save_done(struct target_save *save, int status);

const char *target_name(const struct target *target);

struct target_stats {
    uint64_t sessions;
    uint64_t logins;
    uint64_t login_failures;
    uint64_t commands;
    uint64_t reads;
    uint64_t read_bytes;
    uint64_t writes;
    uint64_t write_bytes;
    uint64_t check_conditions;
    uint64_t reservation_conflicts;
    uint64_t task_management;
    uint64_t aborted_tasks;
    uint64_t digest_errors;
    uint64_t protocol_errors;
};
void target_stats(const struct target *target, struct target_stats *ret_stats);

struct target_server_stats {
    uint64_t connections;
    uint64_t accepted;
    uint64_t refused; /* over a limit */
    uint64_t login_timeouts;
    uint64_t login_failures; /* before a target was known */
};
void target_server_stats(const struct target_server *server, struct target_server_stats *ret_stats);

#endif
