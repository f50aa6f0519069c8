// SPDX-License-Identifier: Apache-2.0
/*
 * A block_opener (replication/copy.h) for a LUN of another target: names are looked up, addresses
 * are checked, and what was checked is dialled.
 *
 * Thread:    lun_opener_new() and free anywhere; open and cancel on the data loop.
 * Ownership: the spec is copied. The network must live as long as a device that was opened.
 * Errors:    those of portal_lookup_start() and block/iscsi_dev.h, handed to the callback.
 */
#ifndef SERVICE_LUN_OPENER_H
#define SERVICE_LUN_OPENER_H

#include "block/iscsi_dev.h"
#include "replication/copy.h"
#include "service/portals.h"

struct lun_opener_spec {
    char portals[ISCSI_MAX_PORTALS][PORTAL_ADDRESS_SIZE]; /* HOST:PORT, tried in this order */
    unsigned n_portals;
    uint32_t lookup_timeout_ms;
    struct iscsi_spec iscsi; /* all but portals and address filter, which the opener fills in */
};

struct block_opener *lun_opener_new(struct network *network, const struct lun_opener_spec *spec);

#endif
