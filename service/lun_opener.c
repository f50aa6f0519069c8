// SPDX-License-Identifier: Apache-2.0
/*
 *     open ─▶ lookup of the portals (names, check) ─▶ iscsi_dev_open ─▶ done
 *               └────────────── cancel ────────────────┴─▶ done(terminated)
 *
 * One open at a time; each looks the names up again. The answer to a cancel comes in a task of its
 * own.
 */
#include "service/lun_opener.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/network.h"

struct lun_opener {
    struct block_opener base;
    struct network *network;
    struct lun_opener_spec spec;

    /* While an open is under way. */
    struct loop *loop;
    block_opened_fn done;
    void *arg;
    struct portal_lookup *lookup;
    struct iscsi_op *op;
    struct loop_task cancelled_task;
};

static void opener_done(struct lun_opener *opener, struct blockdev *dev, const struct error *error)
{
    block_opened_fn done = opener->done;

    opener->done = NULL;
    done(opener->arg, dev, error);
}

static void opener_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct lun_opener *opener = arg;

    opener->op = NULL;
    if (dev != NULL && opener->spec.iscsi.fence) {
        opener->spec.iscsi.fence_open = true; /* from now on there is a session before */
    }
    opener_done(opener, dev, error);
}

static void opener_found(void *arg, const struct sockaddr_storage *addresses, unsigned n_addresses,
                         const struct error *error)
{
    struct lun_opener *opener = arg;
    struct iscsi_spec *iscsi = &opener->spec.iscsi;

    opener->lookup = NULL;
    if (error != NULL) {
        opener_done(opener, NULL, error);
        return;
    }
    memcpy(iscsi->portals, addresses, n_addresses * sizeof(*addresses));
    iscsi->n_portals = n_addresses;
    opener->op = iscsi_dev_open(opener->loop, iscsi, opener_opened, opener);
    if (opener->op == NULL) {
        struct error no_memory;

        error_set(&no_memory, ERR_NO_MEMORY, "No memory for a session to %s.", iscsi->target);
        opener_done(opener, NULL, &no_memory);
    }
}

static void opener_open(struct block_opener *base, struct loop *loop, block_opened_fn done,
                        void *arg)
{
    struct lun_opener *opener = container_of(base, struct lun_opener, base);

    CHECK(opener->done == NULL);
    opener->loop = loop;
    opener->done = done;
    opener->arg = arg;
    opener->lookup = portal_lookup_start(
        loop, opener->network, (const char(*)[PORTAL_ADDRESS_SIZE])opener->spec.portals,
        opener->spec.n_portals, opener->spec.lookup_timeout_ms, opener_found, opener);
}

static void opener_cancelled(void *arg)
{
    struct lun_opener *opener = arg;
    struct error error;

    error_set(&error, ERR_TERMINATED, "Opening %s was given up.", opener->spec.iscsi.target);
    opener_done(opener, NULL, &error);
}

static void opener_cancel(struct block_opener *base)
{
    struct lun_opener *opener = container_of(base, struct lun_opener, base);

    if (opener->lookup != NULL) {
        portal_lookup_cancel(opener->lookup);
        opener->lookup = NULL;
    } else if (opener->op != NULL) {
        iscsi_op_cancel(opener->op);
        opener->op = NULL;
    } else {
        return; /* nothing is under way, or it was cancelled already */
    }
    opener->cancelled_task = (struct loop_task){.fn = opener_cancelled, .arg = opener};
    loop_defer(opener->loop, &opener->cancelled_task);
}

static void opener_free(struct block_opener *base)
{
    struct lun_opener *opener = container_of(base, struct lun_opener, base);

    explicit_bzero(&opener->spec, sizeof(opener->spec));
    free(opener);
}

static const struct block_opener_ops opener_ops = {
    .open = opener_open,
    .cancel = opener_cancel,
    .free = opener_free,
};

struct block_opener *lun_opener_new(struct network *network, const struct lun_opener_spec *spec)
{
    struct lun_opener *opener = calloc(1, sizeof(*opener));

    CHECK(opener != NULL && spec->n_portals > 0);
    opener->base.ops = &opener_ops;
    opener->network = network;
    opener->spec = *spec;
    opener->spec.iscsi.address_filter = network_redirect_allowed;
    opener->spec.iscsi.address_filter_arg = network;
    return &opener->base;
}
