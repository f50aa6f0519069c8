// SPDX-License-Identifier: Apache-2.0
/*
 * All names of a list are looked up at once; the result keeps the order of the list. It is reported
 * in a task of its own, so that the callback never comes from inside the start.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/network.h"
#include "service/portals.h"
#include "service/resolver.h"

struct lookup_portal {
    struct portal_lookup *lookup;
    struct resolve *resolve; /* under way */
    unsigned n_addresses;
    struct sockaddr_storage addresses[RESOLVE_MAX];
};

struct portal_lookup {
    struct loop *loop;
    struct network *network;
    portal_lookup_fn fn;
    void *arg;
    struct loop_timer report_timer; /* a task could not be taken back */
    unsigned n_open;
    unsigned n_portals;
    struct error error; /* the one that says most */
    struct lookup_portal portals[ISCSI_MAX_PORTALS];
};

static void lookup_failed(struct portal_lookup *lookup, const struct error *error)
{
    if (lookup->error.code == ERR_NONE ||
        (error->code == ERR_ADDRESS_NOT_ALLOWED && lookup->error.code != ERR_ADDRESS_NOT_ALLOWED)) {
        lookup->error = *error;
    }
}

static void lookup_take(struct lookup_portal *portal, const struct sockaddr_storage *addresses,
                        unsigned n_addresses)
{
    struct error error;

    for (unsigned i = 0; i < n_addresses && portal->n_addresses < RESOLVE_MAX; i++) {
        if (network_address_allowed(portal->lookup->network, (const struct sockaddr *)&addresses[i],
                                    &error) == 0) {
            portal->addresses[portal->n_addresses++] = addresses[i];
        } else {
            lookup_failed(portal->lookup, &error);
        }
    }
}

static void lookup_report(void *arg)
{
    struct portal_lookup *lookup = arg;
    struct sockaddr_storage addresses[ISCSI_MAX_PORTALS];
    unsigned n = 0;

    /* First one address of each portal, then the others: with many portals none is left out. */
    for (unsigned round = 0; round < RESOLVE_MAX; round++) {
        for (unsigned i = 0; i < lookup->n_portals && n < ISCSI_MAX_PORTALS; i++) {
            if (round < lookup->portals[i].n_addresses) {
                addresses[n++] = lookup->portals[i].addresses[round];
            }
        }
    }
    portal_lookup_fn fn = lookup->fn;
    void *fn_arg = lookup->arg;
    struct error error = lookup->error;

    free(lookup);
    if (n == 0) {
        fn(fn_arg, NULL, 0, &error);
    } else {
        fn(fn_arg, addresses, n, NULL);
    }
}

static void lookup_resolved(void *arg, const struct sockaddr_storage *addresses,
                            unsigned n_addresses, const struct error *error)
{
    struct lookup_portal *portal = arg;
    struct portal_lookup *lookup = portal->lookup;

    portal->resolve = NULL;
    if (error != NULL) {
        lookup_failed(lookup, error);
    } else {
        lookup_take(portal, addresses, n_addresses);
    }
    if (--lookup->n_open == 0) {
        lookup_report(lookup);
    }
}

struct portal_lookup *portal_lookup_start(struct loop *loop, struct network *network,
                                          const char (*addresses)[PORTAL_ADDRESS_SIZE],
                                          unsigned n_addresses, uint32_t timeout_ms,
                                          portal_lookup_fn fn, void *arg)
{
    struct portal_lookup *lookup = calloc(1, sizeof(*lookup));

    CHECK(lookup != NULL && n_addresses > 0 && n_addresses <= ISCSI_MAX_PORTALS);
    lookup->loop = loop;
    lookup->network = network;
    lookup->fn = fn;
    lookup->arg = arg;
    lookup->n_portals = n_addresses;
    loop_timer_init(&lookup->report_timer, loop, lookup_report, lookup);
    for (unsigned i = 0; i < n_addresses; i++) {
        struct lookup_portal *portal = &lookup->portals[i];
        char host[SOCKADDR_HOST_LEN];
        uint16_t port;
        struct sockaddr_storage address;

        portal->lookup = lookup;
        /* Our own records: their form was checked when they were made. */
        CHECK(sockaddr_split(addresses[i], PORTAL_PORT, host, &port) == 0);
        if (sockaddr_parse_host(host, port, &address) == 0) {
            lookup_take(portal, &address, 1);
        } else {
            portal->resolve = resolve_start(loop, host, port, timeout_ms, lookup_resolved, portal);
            lookup->n_open++;
        }
    }
    if (lookup->n_open == 0) {
        loop_timer_start(&lookup->report_timer, 0);
    }
    return lookup;
}

void portal_lookup_cancel(struct portal_lookup *lookup)
{
    loop_timer_stop(&lookup->report_timer);
    for (unsigned i = 0; i < lookup->n_portals; i++) {
        if (lookup->portals[i].resolve != NULL) {
            resolve_cancel(lookup->portals[i].resolve);
        }
    }
    free(lookup);
}
