// SPDX-License-Identifier: Apache-2.0
/*
 * A mirror: what is written to a device is kept equal on another one, its leg; what may differ is remembered.
 *
 * Thread:    mirror_* are called on the owner's loop (control), except mirror_make_dev(), which is
 *            called on the data loop; the callbacks come on the owner's loop.
 * Ownership: mirror_new() takes the opener and copies the rest of the spec. The owner calls
 *            mirror_free() after ended() was called.
 * Errors:    what goes wrong with the leg is a state, with a struct error; what goes wrong with the
 *            map fails the write that needed it (rule 1).
 *
 * The two rules: (1) a write whose mark could not be made durable is not submitted; (2) whatever may
 * differ between the two sides is marked, always, through any crash.
 *
 *              connect                        nothing marked, both flushed
 *   TRACKING ──────────▶ OPENING ──▶ COPYING ─────────────────────────────▶ EQUAL
 *      ▲                   ▲  │         │ ▲                                   │
 *      │ disconnect        │  │ away    │ │ back (by itself)      leg lost    │
 *      └── from any        │  ▼         ▼ │                                   │
 *                          │ AWAY ◀───────┴───────────────────────────────────┘
 *                          │   │ back, but by hand
 *                          │   ▼
 *                  connect └─ HELD        BROKEN: the leg refused (medium, space, identity); connect tries again
 */
#ifndef REPLICATION_MIRROR_H
#define REPLICATION_MIRROR_H

#include "base/error.h"
#include "base/loop.h"
#include "block/blockdev.h"
#include "block/layer_io.h"
#include "block/opener.h"

enum mirror_phase {
    MIRROR_TRACKING, /* not connected, by order: changes are marked */
    MIRROR_OPENING,
    MIRROR_COPYING, /* connected: writes go to both, and what is marked is copied */
    MIRROR_EQUAL,   /* connected, nothing differs but what is on its way */
    MIRROR_AWAY,    /* the leg cannot be reached; tried again with doubling delays */
    MIRROR_HELD,    /* it can be reached again, and waits for mirror_connect() */
    MIRROR_BROKEN,
    MIRROR_ENDED,
};
const char *mirror_phase_name(enum mirror_phase phase);

enum mirror_direction {
    MIRROR_TO_LEG,
    /* Restore: marked granules are copied from the leg. Hosts see the leg's content at once: reads of what is still marked go
     * there, writes go to both. When nothing is marked any more the direction is TO_LEG again, with both equal. */
    MIRROR_FROM_LEG,
};

struct mirror_spec {
    char name[80];                   /* for log lines: "v1>v2" */
    struct block_opener *leg;        /* opened when connected; NULL: changes are only tracked */
    uint64_t size_bytes;             /* of the source; the leg is not smaller */
    char map_path[512];              /* of the change map; made when it is not there */
    enum mirror_direction direction; /* to go on with, after a restart */
    bool connect;                    /* at once; else TRACKING */
    bool
        all_differs; /* mark everything first (initial copy); else what the map says (a new one: nothing) */
    bool recover_by_hand; /* CopyRecoveryMode 3 */
    bool stop_host_io;    /* FailedCopyStopsHostIO: a write that the leg did not get fails (-EIO) */
    unsigned
        priority; /* CopyPriority of the copying: 0 not managed, 1 low, 2 same, 3 high, 4 urgent */
    uint64_t bandwidth_limit;              /* of the copying, bytes per second; 0 none */
    const struct layer_backend *map_files; /* where the map is; NULL: the file system */
};

struct mirror_progress {
    enum mirror_phase phase;
    enum mirror_direction direction;
    uint64_t
        marked_bytes; /* what may differ now: granules that are known, whole regions that are not */
    uint64_t total_bytes;   /* marked when this copying began */
    uint64_t copied_bytes;  /* sent by copying, over this run of the process */
    uint64_t zeroed_bytes;  /* found to be zeros on both sides, or zeroed by copying */
    uint64_t written_bytes; /* host writes that went to the leg */
    uint64_t bytes_per_second;
    uint64_t attempts; /* to reach the leg, since it was lost */
    char last_error[480];
    uint64_t last_error_ms; /* wall clock */
};

struct mirror_events {
    /* A new snapshot: at most every 200 ms while copying, and at each change of phase (each of those is told, in order). */
    void (*progress)(void *arg, const struct mirror_progress *progress, const struct error *error);
    /* Last call. The device is closed, the map is clean on the disk (or removed). */
    void (*ended)(void *arg, const struct error *error);
};

struct mirror;

/* Reads or makes the map and opens the leg; becomes a device with mirror_make_dev(). */
struct mirror *mirror_new(struct loop *owner, struct loop *data_loop,
                          const struct mirror_spec *spec, const struct mirror_events *events,
                          void *arg);

/* On the data loop, once: the device that goes between a volume's front and what is below (lent until the device is closed).
 * Requests wait until the map is read; those after a map that could not be read fail with -EIO. */
int mirror_make_dev(struct mirror *mirror, struct blockdev *below, struct blockdev **ret_dev);

typedef void (*mirror_done_fn)(void *arg, const struct error *error);

/* TRACKING, HELD, BROKEN: goes on. Nothing in the other phases. */
void mirror_connect(struct mirror *mirror, enum mirror_direction direction);
/* No request is on its way to the leg any more, and the leg was flushed if it is there; from then on changes are only marked. */
void mirror_disconnect(struct mirror *mirror, mirror_done_fn done, void *arg);
/* The same at a point where both are equal: waits for the end of copying, holds writes (bounded in time), flushes both. Fails with
 * timeout when that was not reached within timeout_ms, and is connected still. */
void mirror_split(struct mirror *mirror, uint64_t timeout_ms, mirror_done_fn done, void *arg);
/*
 * The same for several, at one moment, or for none: once all are equal and flushed (within timeout_ms) the writes to all of them are held
 * (within deadline_ms); when none is under way anywhere they are parted, and writes go on, only marked. done comes when all legs were flushed
 * and closed. No mirror may write to the source of another one of them, nor have the same source: they would wait for each other.
 */
struct mirror_parting {
    const struct error *error; /* NULL: all went well */
    size_t culprit;            /* whose error it is */
    bool
        parted; /* with an error: some are, and have to be connected again; else all are connected still */
    uint64_t pause_ns; /* how long writes waited */
};
typedef void (*mirror_together_fn)(void *arg, const struct mirror_parting *parting);
void mirror_part_together(struct mirror *const *mirrors, size_t n, uint64_t timeout_ms,
                          unsigned deadline_ms, mirror_together_fn done, void *arg);
/* Durable when done: everything (len 0), or a range, may differ. Ranges of what changed elsewhere (the leg, while it was used). */
void mirror_mark(struct mirror *mirror, uint64_t offset, uint64_t len, mirror_done_fn done,
                 void *arg);
/* Another leg, while TRACKING (another path to it, other secrets). Takes the opener. */
void mirror_set_leg(struct mirror *mirror, struct block_opener *leg);
/* progress() is told as of now, and then done: of a mirror that tracks, too, which tells nothing by itself. */
void mirror_look(struct mirror *mirror, mirror_done_fn done, void *arg);
void mirror_set_limits(struct mirror *mirror, unsigned priority, uint64_t bandwidth_limit);
void mirror_set_recovery(struct mirror *mirror, bool recover_by_hand, bool stop_host_io);

/* Closes the leg and ends; the device was closed before (array_volume_filter_remove()), or is closed with its volume. remove_map: the relationship
 * is gone. Otherwise the map is written out, so that the next start copies nothing that it need not. */
void mirror_end(struct mirror *mirror, bool remove_map);
void mirror_free(struct mirror *mirror);

#endif
