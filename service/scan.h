// SPDX-License-Identifier: Apache-2.0
/*
 * A question to the network: what do these portals have? Portals, then targets, then LUNs, several
 * at a time.
 *
 * Thread:    made, filled, started and read on control; in between it belongs to a data loop.
 * Ownership: scan_start() hands it to the network, done() hands it back, then scan_free().
 * Errors:    one for each portal, target and LUN that did not answer; those of block/iscsi_dev.h.
 *
 *     portal: look the name up, log in, SendTargets ─▶ target: REPORT LUNS ─▶ LUN: probe
 *
 * At most SCAN_AT_ONCE steps are under way; each has probe_timeout_ms, the whole has SCAN_STEPS
 * times as much. What did not come in time is answered timeout.
 */
#ifndef SERVICE_SCAN_H
#define SERVICE_SCAN_H

#include "service/portals.h"

enum scan_depth {
    SCAN_PORTALS, /* does it answer? */
    SCAN_LUNS,    /* all targets and LUNs that pass the filters */
    SCAN_ONE,     /* one LUN of one target: the portal is not asked for its targets */
};

enum {
    SCAN_AT_ONCE = 8,
    SCAN_STEPS = 10,
    SCAN_TARGETS_MAX = 4096,
    SCAN_LUNS_MAX = 16384,
};

struct scan_portal {
    struct access_point_row row; /* as it was; head.id "" when there is none */
    struct iscsi_chap chap;
    struct iscsi_chap mutual_chap;
    bool all_targets;   /* whatever the filter of names says */
    struct error error; /* ERR_NONE: it answered; set before the start: it is not asked */
    unsigned n_addresses;
    struct sockaddr_storage addresses[ISCSI_MAX_PORTALS];
};

struct scan_target {
    unsigned portal;
    char name[ISCSI_NAME_SIZE];
    unsigned
        n_addresses; /* where else it is, as the portal says; what may not be dialled is left out */
    struct sockaddr_storage addresses[ISCSI_MAX_PORTALS];
    bool at_portal;  /* the portal that was asked is among them, or none was told */
    unsigned n_luns; /* that it reported */
    uint64_t *luns;
    struct error error;
};

struct scan_lun {
    unsigned target;
    uint64_t lun;
    struct iscsi_lun_info info;
    struct error error;
};

struct scan {
    enum scan_depth depth;
    struct scan_portal *portals;
    unsigned n_portals;
    /* Filters; none: everything. */
    char (*names)[ISCSI_NAME_SIZE];
    unsigned n_names;
    uint64_t *numbers;
    unsigned n_numbers;
    bool cut_short; /* more targets or LUNs than SCAN_…_MAX */
    bool cancelled; /* no result: the service is stopping */
    struct scan_target *targets;
    unsigned n_targets;
    struct scan_lun *luns;
    unsigned n_luns;
    struct scan_run *run; /* private */
};

struct network;
typedef void (*scan_done_fn)(struct scan *scan, void *arg);

struct scan *scan_new(enum scan_depth depth);
void scan_free(struct scan *scan); /* not between start and done */
/* A portal, with what sessions to it prove themselves with. */
struct scan_portal *scan_add_portal(struct scan *scan, const struct access_point_row *row);
void scan_add_name(struct scan *scan, const char *name);
void scan_add_number(struct scan *scan, uint64_t lun);
bool scan_wants_number(const struct scan *scan, uint64_t lun);
bool scan_wants_name(const struct scan *scan, const char *name);

struct scan_options {
    struct network *network; /* for its address policy */
    struct loop *control_loop;
    struct loop *data_loop;
    const char *initiator;
    uint32_t timeout_ms; /* of a step */
};
/* done comes on control, never inside the start. For network.c; others use network_scan(). */
void scan_start(struct scan *scan, const struct scan_options *options, scan_done_fn done,
                void *arg);
/* Control; between start and done, which comes soon then, with cancelled set. */
void scan_cancel(struct scan *scan);

#endif
