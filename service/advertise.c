// SPDX-License-Identifier: Apache-2.0
#include "service/advertise.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

enum { ADDRESSES_MAX = 64 };

static void set_port(struct sockaddr_storage *addr, uint16_t port)
{
    if (addr->ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)addr)->sin6_port = htons(port);
    } else {
        ((struct sockaddr_in *)addr)->sin_port = htons(port);
    }
}

const struct sockaddr_storage *advertise_choose(const struct sockaddr_storage *bound,
                                                const struct sockaddr_storage *addrs, size_t n)
{
    const struct sockaddr_storage *best = NULL;

    for (size_t i = 0; i < n; i++) {
        bool reachable = bound->ss_family == AF_INET6 || addrs[i].ss_family == AF_INET;

        if (!reachable || sockaddr_is_loopback(&addrs[i]) || sockaddr_is_any(&addrs[i]) ||
            sockaddr_is_link_local(&addrs[i])) {
            continue;
        }
        if (best == NULL || (best->ss_family == AF_INET6 && addrs[i].ss_family == AF_INET)) {
            best = &addrs[i];
        }
    }
    return best;
}

/* Of the interfaces that are up, in the order of the system. */
static size_t own_addresses(struct sockaddr_storage *ret_addrs)
{
    struct ifaddrs *list;
    size_t n = 0;

    if (getifaddrs(&list) != 0) {
        return 0;
    }
    for (const struct ifaddrs *at = list; at != NULL && n < ADDRESSES_MAX; at = at->ifa_next) {
        int family = at->ifa_addr != NULL ? at->ifa_addr->sa_family : AF_UNSPEC;

        if ((at->ifa_flags & IFF_UP) == 0 || (family != AF_INET && family != AF_INET6)) {
            continue;
        }
        ret_addrs[n] = (struct sockaddr_storage){0};
        memcpy(&ret_addrs[n], at->ifa_addr,
               family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        n++;
    }
    freeifaddrs(list);
    return n;
}

void advertise_address(const struct sockaddr_storage *bound, const char *wanted,
                       char ret_text[SOCKADDR_TEXT_LEN])
{
    struct sockaddr_storage addrs[ADDRESSES_MAX];
    struct sockaddr_storage shown = *bound;

    if (wanted != NULL && wanted[0] != '\0' && sockaddr_parse(wanted, 0, &shown) == 0) {
        if (sockaddr_port(&shown) == 0) {
            set_port(&shown, sockaddr_port(bound));
        }
    } else if (sockaddr_is_any(bound)) {
        const struct sockaddr_storage *best = advertise_choose(bound, addrs, own_addresses(addrs));

        if (best != NULL) {
            shown = *best;
        } else {
            sockaddr_parse("127.0.0.1", 0, &shown);
        }
        set_port(&shown, sockaddr_port(bound));
    }
    sockaddr_format(&shown, ret_text);
}
