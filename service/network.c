// SPDX-License-Identifier: Apache-2.0
/*
 * The address policy, the list of scans under way, and openers made from records.
 *
 * Policy, in this order: no other families than IPv4 and IPv6; never: unspecified, multicast,
 * link-local, metadata, our own listeners (a listener on all addresses: that port of any address of
 * this machine); the rest as the allow list says. An IPv4 address written as IPv6 counts as what it
 * is.
 */
#include "service/network.h"

#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "service/groups.h"
#include "service/lun_opener.h"
#include "service/pipe_paths.h"
#include "service/pipes.h"
#include "service/portals.h"
#include "service/reachability.h"
#include "service/volumes.h"
#include "store/system.h"

/* Hosts give a command up after 30 s: a leg that holds them is lost sooner. */
enum { HOSTS_STALL_MS = 8000, HOSTS_COMMAND_MS = 20000 };
enum { OWN_ADDRESSES_MAX = 16, PROBE_TIMEOUT_DEFAULT_MS = 10000 };

struct running_scan {
    struct running_scan *next;
    struct network *network;
    struct scan *scan;
    scan_done_fn done;
    void *arg;
};

struct network {
    struct control *control;
    struct cidr_list allow; /* constant */

    pthread_mutex_t lock; /* own addresses */
    struct sockaddr_storage own[OWN_ADDRESSES_MAX];
    unsigned n_own;

    /* control's */
    struct loop_timer begin_timer;
    struct reachability *reachability;
    struct pipe_paths *pipe_paths;
    struct running_scan *scans;
    unsigned next_loop;
    bool stopping;
    loop_fn stopped;
    void *stopped_arg;
    struct loop_task stopped_task;
};

/* ---- the address policy ---- */

static bool same_host(const struct sockaddr_storage *a, const struct sockaddr *b)
{
    struct sockaddr_storage x = *a;
    struct sockaddr_storage y = {0};

    if (b == NULL || (b->sa_family != AF_INET && b->sa_family != AF_INET6)) {
        return false;
    }
    memcpy(&y, b,
           b->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
    /* The port is at the same place in both families. */
    ((struct sockaddr_in *)&x)->sin_port = 0;
    ((struct sockaddr_in *)&y)->sin_port = 0;
    return sockaddr_equal(&x, &y);
}

static bool is_this_machine(const struct sockaddr_storage *address)
{
    struct ifaddrs *interfaces;
    bool found = false;

    if (sockaddr_is_loopback(address)) {
        return true;
    }
    if (getifaddrs(&interfaces) != 0) {
        return true; /* not known: better refused */
    }
    for (struct ifaddrs *at = interfaces; at != NULL && !found; at = at->ifa_next) {
        found = same_host(address, at->ifa_addr);
    }
    freeifaddrs(interfaces);
    return found;
}

static bool is_own_listener(struct network *network, const struct sockaddr_storage *address)
{
    bool wildcard = false;
    bool own = false;

    pthread_mutex_lock(&network->lock);
    for (unsigned i = 0; i < network->n_own; i++) {
        if (sockaddr_is_any(&network->own[i])) {
            wildcard = wildcard || sockaddr_port(&network->own[i]) == sockaddr_port(address);
        } else {
            own = own || sockaddr_equal(&network->own[i], address);
        }
    }
    pthread_mutex_unlock(&network->lock);
    return own || (wildcard && is_this_machine(address));
}

/* NULL: it may be dialled as far as its kind is concerned. */
static const char *never_reason(struct network *network, const struct sockaddr_storage *address)
{
    if (sockaddr_is_any(address)) {
        return "it is no address of a machine";
    }
    if (sockaddr_is_multicast(address)) {
        return "it is a multicast address";
    }
    if (sockaddr_is_metadata(address)) {
        return "it is an address of a cloud's metadata service";
    }
    if (sockaddr_is_link_local(address)) {
        return "it is a link-local address";
    }
    if (sockaddr_port(address) == 0) {
        return "it has no port";
    }
    if (is_own_listener(network, address)) {
        return "smirror itself listens there";
    }
    return NULL;
}

int network_address_allowed(struct network *network, const struct sockaddr *address,
                            struct error *error)
{
    struct sockaddr_storage copy = {0};
    char text[SOCKADDR_TEXT_LEN];

    if (address->sa_family == AF_INET) {
        memcpy(&copy, address, sizeof(struct sockaddr_in));
    } else if (address->sa_family == AF_INET6) {
        memcpy(&copy, address, sizeof(struct sockaddr_in6));
    } else {
        return error_set(error, ERR_ADDRESS_NOT_ALLOWED,
                         "Only IPv4 and IPv6 addresses can be dialled.");
    }
    sockaddr_format(&copy, text);
    const char *reason = never_reason(network, &copy);

    if (reason != NULL) {
        return error_set(error, ERR_ADDRESS_NOT_ALLOWED,
                         "%s is never dialled: %s. Give the address of another machine's iSCSI "
                         "portal.",
                         text, reason);
    }
    if (!cidr_list_match(&network->allow, &copy)) {
        return error_set(error, ERR_ADDRESS_NOT_ALLOWED,
                         "%s may not be dialled: it is in none of the ranges that the option "
                         "portal-allow lists. Add its range there to allow it.",
                         text);
    }
    return 0;
}

int network_redirect_allowed(void *arg, const struct sockaddr_storage *address, struct error *error)
{
    return network_address_allowed(arg, (const struct sockaddr *)address, error);
}

void network_set_own_addresses(struct network *network, const char *addresses)
{
    static const char separators[] = ", ";
    struct sockaddr_storage own[OWN_ADDRESSES_MAX];
    unsigned n_own = 0;

    for (const char *at = addresses; *(at += strspn(at, separators)) != '\0';) {
        size_t len = strcspn(at, separators);
        char text[SOCKADDR_HOST_LEN];

        if (len < sizeof(text) && n_own < OWN_ADDRESSES_MAX) {
            memcpy(text, at, len);
            text[len] = '\0';
            if (sockaddr_parse(text, -1, &own[n_own]) == 0) {
                n_own++;
            } else {
                log_warning("network: %s is no address of ours", text);
            }
        }
        at += len;
    }
    pthread_mutex_lock(&network->lock);
    memcpy(network->own, own, n_own * sizeof(own[0]));
    network->n_own = n_own;
    pthread_mutex_unlock(&network->lock);
}

struct pipe_paths *network_pipe_paths(struct network *network)
{
    return network->pipe_paths;
}

/* ---- scans ---- */

static uint32_t probe_timeout_ms(struct control *control)
{
    uint64_t wanted = control_options(control)->probe_timeout_ms;

    return wanted == 0 || wanted > UINT32_MAX / SCAN_STEPS ? PROBE_TIMEOUT_DEFAULT_MS
                                                           : (uint32_t)wanted;
}

static void network_check_stopped(struct network *network)
{
    if (network->stopping && network->scans == NULL && network->stopped != NULL) {
        network->stopped_task =
            (struct loop_task){.fn = network->stopped, .arg = network->stopped_arg};
        network->stopped = NULL;
        loop_defer(control_loop(network->control), &network->stopped_task);
    }
}

static void network_scanned(struct scan *scan, void *arg)
{
    struct running_scan *running = arg;
    struct network *network = running->network;
    struct running_scan **at = &network->scans;

    while (*at != running) {
        at = &(*at)->next;
    }
    *at = running->next;
    scan->cancelled = scan->cancelled || network->stopping;
    running->done(scan, running->arg);
    free(running);
    network_check_stopped(network);
}

void network_scan(struct network *network, struct scan *scan, scan_done_fn done, void *arg)
{
    struct control *control = network->control;
    struct running_scan *running = calloc(1, sizeof(*running));
    struct scan_options options = {
        .network = network,
        .control_loop = control_loop(control),
        .data_loop = control_data_loop(control, network->next_loop++),
        .initiator = control_options(control)->initiator_name,
        .timeout_ms = probe_timeout_ms(control),
    };

    CHECK(running != NULL && loop_is_current(options.control_loop));
    *running = (struct running_scan){
        .next = network->scans, .network = network, .scan = scan, .done = done, .arg = arg};
    network->scans = running;
    scan_start(scan, &options, network_scanned, running);
    if (network->stopping) {
        scan_cancel(scan);
    }
}

void network_stop(struct network *network, loop_fn done, void *arg)
{
    network->stopping = true;
    network->stopped = done;
    network->stopped_arg = arg;
    loop_timer_stop(&network->begin_timer);
    reachability_stop(network->reachability);
    for (struct running_scan *at = network->scans; at != NULL; at = at->next) {
        scan_cancel(at->scan);
    }
    network_check_stopped(network);
}

/* ---- openers ---- */

struct opener_portals {
    const struct volume_row *volume;
    struct lun_opener_spec *spec;
};

static int opener_sibling(void *arg, const void *row)
{
    const struct access_point_row *portal = row;
    struct opener_portals *portals = arg;
    struct lun_opener_spec *spec = portals->spec;

    if (strcmp(portal->head.id, portals->volume->access_point_id) == 0) {
        return 0;
    }
    memcpy(spec->portals[spec->n_portals++], portal->address, sizeof(portal->address));
    return spec->n_portals == ISCSI_MAX_PORTALS ? 1 : 0;
}

static int store_error(struct error *error, int err)
{
    return error_set(error, ERR_STORE_FAILED, "The records could not be read (%s).",
                     strerror(-err));
}

int network_lun_spec(struct network *network, struct db *db, const struct volume_row *volume,
                     const struct access_point_row *secrets, const struct network_session *session,
                     struct lun_opener_spec *spec, struct error *error)
{
    const char *initiator = control_options(network->control)->initiator_name;
    struct iscsi_spec *iscsi = &spec->iscsi;
    int r = portal_credentials(db, secrets, &iscsi->chap, &iscsi->mutual_chap, error);

    if (r < 0) {
        return r;
    }
    if (strlen(volume->iqn) >= sizeof(iscsi->target) ||
        strlen(volume->identity) >= sizeof(iscsi->identity)) {
        return error_set(error, ERR_INTERNAL, "/volumes/%s has names that no LUN has.",
                         volume->head.id);
    }
    memcpy(iscsi->alias, session->alias, sizeof(session->alias));
    if (session->holds_hosts) {
        iscsi->stall_timeout_ms = HOSTS_STALL_MS;
        iscsi->command_timeout_ms = HOSTS_COMMAND_MS;
    }
    spec->lookup_timeout_ms = probe_timeout_ms(network->control);
    strncpy(iscsi->initiator, initiator, sizeof(iscsi->initiator) - 1);
    memcpy(iscsi->target, volume->iqn, strlen(volume->iqn) + 1);
    memcpy(iscsi->identity, volume->identity, strlen(volume->identity) + 1);
    iscsi->lun = lun_field(volume->lun);
    iscsi->size_bytes = volume->size_bytes;
    iscsi->block_bytes = volume->block_bytes;
    return 0;
}

uint64_t network_isid(const char *id, char side)
{
    uint64_t hash = 0xcbf29ce484222325ull;

    for (const char *c = id; *c != '\0'; c++) {
        hash = (hash ^ (unsigned char)*c) * 0x100000001b3ull;
    }
    hash = (hash ^ (unsigned char)side) * 0x100000001b3ull;
    hash = (hash ^ (hash >> 40)) & 0xffffffffffull;
    return hash == 0 ? 1 : hash;
}

int network_opener(struct network *network, struct db *db, const struct volume_row *volume,
                   const struct network_session *session, struct block_opener **ret_opener,
                   struct error *error)
{
    struct lun_opener_spec spec = {.n_portals = 0};
    struct opener_portals portals = {.volume = volume, .spec = &spec};
    struct condition siblings[] = {WHERE_TEXT("system_id", volume->system_id), WHERE_END};
    struct access_point_row own;

    if (volume->kind != VOLUME_REMOTE) {
        return error_set(error, ERR_NOT_SUPPORTED, "/volumes/%s is not a LUN of another system.",
                         volume->head.id);
    }
    if (session->pipe_id[0] != '\0') {
        return pipe_opener(network, db, volume, session, ret_opener, error);
    }
    int r = table_get(db, &access_point_table, volume->access_point_id, &own);

    if (r == -ENOENT) {
        return error_set(error, ERR_REMOTE_UNREACHABLE,
                         "The portal of /volumes/%s is not known any more.", volume->head.id);
    }
    if (r < 0) {
        return store_error(error, r);
    }
    memcpy(spec.portals[spec.n_portals++], own.address, sizeof(own.address));
    r = table_each(db, &access_point_table, siblings, 0, 0, opener_sibling, &portals);
    if (r < 0) {
        return store_error(error, r);
    }
    r = network_lun_spec(network, db, volume, &own, session, &spec, error);
    if (r == 0) {
        spec.iscsi.isid = session->isid;
        spec.iscsi.fence = session->fence;
        spec.iscsi.fence_open = session->fence_open;
        *ret_opener = lun_opener_new(network, &spec);
    }
    explicit_bzero(&spec, sizeof(spec));
    return r;
}

/* ---- endpoints of ours ---- */

enum { INITIATOR_ADDRESSES_MAX = 32 };

struct own_endpoints {
    char addresses[INITIATOR_ADDRESSES_MAX][SOCKADDR_HOST_LEN];
    unsigned n;
};

static int own_endpoints_parse(const char *text, struct own_endpoints *ret_own, struct error *error)
{
    static const char separators[] = ", ";

    ret_own->n = 0;
    for (const char *at = text == NULL ? "" : text; *(at += strspn(at, separators)) != '\0';) {
        size_t len = strcspn(at, separators);
        char host[SOCKADDR_HOST_LEN];
        struct sockaddr_storage address;

        snprintf(host, sizeof(host), "%.*s", (int)(len < sizeof(host) ? len : sizeof(host) - 1), at);
        if (len >= sizeof(host) || ret_own->n == INITIATOR_ADDRESSES_MAX ||
            sockaddr_parse_host(host, 0, &address) < 0 || sockaddr_is_any(&address) ||
            sockaddr_is_multicast(&address)) {
            return error_set(error, ERR_INVALID_PARAMETER,
                             "initiator-addresses is a list of at most %d addresses of this "
                             "machine, separated by commas, such as 192.0.2.1,2001:db8::1. Not: "
                             "%.200s",
                             INITIATOR_ADDRESSES_MAX, text);
        }
        memcpy(ret_own->addresses[ret_own->n++], host, sizeof(host));
        at += len;
    }
    return 0;
}

/* An address that is not given any more goes, unless a pipe needs it. */
static int endpoint_remove(struct call *call, const struct endpoint_row *row)
{
    uint64_t n_pipes = 0;
    int r = pipe_count_users(call->db, row->head.id, &n_pipes);

    return r < 0 || n_pipes > 0 ? r : table_delete(call->db, &endpoint_table, row->head.id);
}

static int endpoint_add(struct call *call, const char *address)
{
    struct endpoint_row row = {.kind = ENDPOINT_ADDRESS,
                               .created_ms = control_now_ms(call->control)};

    strcpy(row.system_id, SYSTEM_LOCAL);
    snprintf(row.element_name, sizeof(row.element_name), "Initiator at %s", address);
    snprintf(row.address, sizeof(row.address), "%s", address);
    return table_insert(call->db, &endpoint_table, &row);
}

static int endpoints_event(struct call *call)
{
    struct condition where[] = {WHERE_NUM("kind", ENDPOINT_ADDRESS), WHERE_END};
    struct own_endpoints own;
    bool known[INITIATOR_ADDRESSES_MAX] = {false};
    struct endpoint_row *rows;
    void *loaded;
    size_t n;
    int r = own_endpoints_parse(control_options(call->control)->initiator_addresses, &own, NULL);

    if (r == 0) {
        r = table_load(call->db, &endpoint_table, where, &loaded, &n);
    }
    if (r < 0) {
        return call_fail_store(call, r);
    }
    rows = loaded;
    for (size_t i = 0; i < n && r == 0; i++) {
        bool wanted = false;

        for (unsigned k = 0; k < own.n; k++) {
            bool same = strcmp(own.addresses[k], rows[i].address) == 0;

            known[k] = known[k] || same;
            wanted = wanted || same;
        }
        r = wanted ? 0 : endpoint_remove(call, &rows[i]);
    }
    free(rows);
    for (unsigned k = 0; k < own.n && r == 0; k++) {
        r = known[k] ? 0 : endpoint_add(call, own.addresses[k]);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

/* ---- beginning and end ---- */

static void network_begin(void *arg)
{
    struct network *network = arg;

    control_event(network->control, groups_forget_unused, NULL, 0);
    control_event(network->control, volumes_forget_unused, NULL, 0);
    control_event(network->control, endpoints_event, NULL, 0);
}

int network_new(struct control *control, struct network **ret_network, struct error *error)
{
    const struct control_options *options = control_options(control);
    struct network *network = calloc(1, sizeof(*network));

    CHECK(network != NULL);
    network->control = control;
    if (cidr_list_parse(options->portal_allow == NULL ? "" : options->portal_allow,
                        &network->allow) < 0) {
        free(network);
        return error_set(error, ERR_INVALID_PARAMETER,
                         "portal-allow is a list of address ranges, separated by commas, such as "
                         "192.0.2.0/24,2001:db8::/32; bits beyond a prefix are zero. Not: %.200s",
                         options->portal_allow);
    }
    struct own_endpoints own;
    int r = own_endpoints_parse(options->initiator_addresses, &own, error);

    if (r < 0) {
        cidr_list_fini(&network->allow);
        free(network);
        return r;
    }
    pthread_mutex_init(&network->lock, NULL);
    network_set_own_addresses(network,
                              options->own_addresses == NULL ? "" : options->own_addresses);
    network->reachability = reachability_new(control);
    network->pipe_paths = pipe_paths_new();
    loop_timer_init(&network->begin_timer, control_loop(control), network_begin, network);
    loop_timer_start(&network->begin_timer, 0);
    *ret_network = network;
    return 0;
}

void network_free(struct network *network)
{
    if (network == NULL) {
        return;
    }
    CHECK(network->scans == NULL);
    loop_timer_stop(&network->begin_timer);
    reachability_free(network->reachability);
    pipe_paths_free(network->pipe_paths);
    cidr_list_fini(&network->allow);
    pthread_mutex_destroy(&network->lock);
    free(network);
}
