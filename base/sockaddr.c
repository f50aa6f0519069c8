// SPDX-License-Identifier: Apache-2.0
#include "base/sockaddr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static int port_parse(const char *text, uint16_t *ret_port)
{
    unsigned value = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits] != '\0') {
        return -EINVAL;
    }
    for (size_t i = 0; i < digits; i++) {
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    if (value > UINT16_MAX) {
        return -EINVAL;
    }
    *ret_port = (uint16_t)value;
    return 0;
}

int sockaddr_split(const char *text, int default_port, char ret_host[SOCKADDR_HOST_LEN],
                   uint16_t *ret_port)
{
    const char *host = text;
    size_t host_len;
    const char *port; /* after the colon, or NULL */
    if (text[0] == '[') {
        const char *end = strchr(text, ']');
        if (!end || (end[1] != '\0' && end[1] != ':')) {
            return -EINVAL;
        }
        host = text + 1;
        host_len = (size_t)(end - host);
        port = end[1] == ':' ? end + 2 : NULL;
        if (!memchr(host, ':', host_len)) {
            return -EINVAL;
        }
    } else {
        const char *first = strchr(text, ':');
        if (first && strchr(first + 1, ':')) {
            host_len = strlen(text);
            port = NULL;
        } else {
            host_len = first ? (size_t)(first - text) : strlen(text);
            port = first ? first + 1 : NULL;
        }
    }
    if (host_len == 0 || host_len >= SOCKADDR_HOST_LEN) {
        return -EINVAL;
    }
    for (size_t i = 0; i < host_len; i++) {
        if ((unsigned char)host[i] <= ' ' || strchr("[]/@?#\x7f", host[i])) {
            return -EINVAL;
        }
    }
    uint16_t number;
    if (port) {
        int err = port_parse(port, &number);
        if (err) {
            return err;
        }
    } else if (default_port < 0) {
        return -EINVAL;
    } else {
        number = (uint16_t)default_port;
    }
    memcpy(ret_host, host, host_len);
    ret_host[host_len] = '\0';
    *ret_port = number;
    return 0;
}

int sockaddr_parse_host(const char *host, uint16_t port, struct sockaddr_storage *ret_addr)
{
    struct sockaddr_storage addr;
    memset(&addr, 0, sizeof(addr));
    struct sockaddr_in *v4 = (struct sockaddr_in *)&addr;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&addr;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        *ret_addr = addr;
        return 0;
    }
    const char *zone = strchr(host, '%');
    size_t len = zone ? (size_t)(zone - host) : strlen(host);
    char text[INET6_ADDRSTRLEN];
    if (len >= sizeof(text)) {
        return -EINVAL;
    }
    memcpy(text, host, len);
    text[len] = '\0';
    if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1) {
        return -EINVAL;
    }
    if (zone) {
        v6->sin6_scope_id = if_nametoindex(zone + 1);
        if (v6->sin6_scope_id == 0) {
            return -EINVAL;
        }
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    *ret_addr = addr;
    return 0;
}

int sockaddr_parse(const char *text, int default_port, struct sockaddr_storage *ret_addr)
{
    char host[SOCKADDR_HOST_LEN];
    uint16_t port;
    int err = sockaddr_split(text, default_port, host, &port);
    if (err) {
        return err;
    }
    return sockaddr_parse_host(strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, port, ret_addr);
}

int sockaddr_resolve(const char *host, uint16_t port, struct sockaddr_storage *ret_addrs,
                     size_t max, size_t *ret_count)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    int rc = getaddrinfo(host, NULL, &hints, &found);
    if (rc != 0) {
        return rc == EAI_AGAIN ? -EAGAIN : rc == EAI_NONAME || rc == EAI_NODATA ? -ENOENT : -EIO;
    }
    size_t count = 0;
    for (struct addrinfo *at = found; at && count < max; at = at->ai_next) {
        if (at->ai_family != AF_INET && at->ai_family != AF_INET6) {
            continue;
        }
        struct sockaddr_storage *addr = &ret_addrs[count++];
        memset(addr, 0, sizeof(*addr));
        memcpy(addr, at->ai_addr, at->ai_addrlen);
        /* The port is at the same place in both families. */
        ((struct sockaddr_in *)addr)->sin_port = htons(port);
    }
    freeaddrinfo(found);
    if (count == 0) {
        return -ENOENT;
    }
    *ret_count = count;
    return 0;
}

void sockaddr_format(const struct sockaddr_storage *addr, char out[SOCKADDR_TEXT_LEN])
{
    char text[INET6_ADDRSTRLEN];
    if (addr->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)addr;
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
        snprintf(out, SOCKADDR_TEXT_LEN, "%s:%u", text, ntohs(v4->sin_port));
    } else if (addr->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)addr;
        inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
        char zone[IF_NAMESIZE + 1] = "";
        if (v6->sin6_scope_id && if_indextoname(v6->sin6_scope_id, zone + 1)) {
            zone[0] = '%';
        }
        snprintf(out, SOCKADDR_TEXT_LEN, "[%s%s]:%u", text, zone, ntohs(v6->sin6_port));
    } else {
        snprintf(out, SOCKADDR_TEXT_LEN, "unknown");
    }
}

socklen_t sockaddr_len(const struct sockaddr_storage *addr)
{
    return addr->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

uint16_t sockaddr_port(const struct sockaddr_storage *addr)
{
    return ntohs(((const struct sockaddr_in *)addr)->sin_port);
}

static const uint8_t v4_prefix[12] = {[10] = 0xff, [11] = 0xff};

static bool is_v4(const uint8_t bytes[16])
{
    return memcmp(bytes, v4_prefix, sizeof(v4_prefix)) == 0;
}

/* The place of an address in one space for both families; false for other families. */
static bool address_bytes(const struct sockaddr_storage *addr, uint8_t bytes[16])
{
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    memset(bytes, 0, 16);
    if (addr->ss_family == AF_INET) {
        memcpy(bytes, v4_prefix, sizeof(v4_prefix));
        memcpy(bytes + 12, &((const struct sockaddr_in *)addr)->sin_addr, 4);
        return true;
    }
    if (addr->ss_family == AF_INET6) {
        memcpy(bytes, &((const struct sockaddr_in6 *)addr)->sin6_addr, 16);
        if (memcmp(bytes, nat64, sizeof(nat64)) == 0) {
            memcpy(bytes, v4_prefix, sizeof(v4_prefix));
        }
        return true;
    }
    return false;
}

bool sockaddr_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    uint8_t bytes_a[16];
    uint8_t bytes_b[16];
    return address_bytes(a, bytes_a) && address_bytes(b, bytes_b) &&
           memcmp(bytes_a, bytes_b, 16) == 0 && sockaddr_port(a) == sockaddr_port(b);
}

static bool in_any(const struct sockaddr_storage *addr, const struct cidr *cidrs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (cidr_match(&cidrs[i], addr)) {
            return true;
        }
    }
    return false;
}

#define V4(a, b, c, d, prefix)                                                                     \
    {                                                                                              \
        .bytes = {[10] = 0xff, [11] = 0xff, [12] = (a), [13] = (b), [14] = (c), [15] = (d)},       \
        .bits = 96 + (prefix)                                                                      \
    }

bool sockaddr_is_loopback(const struct sockaddr_storage *addr)
{
    static const struct cidr loopback[] = {V4(127, 0, 0, 0, 8), {.bytes = {[15] = 1}, .bits = 128}};
    return in_any(addr, loopback, ARRAY_LEN(loopback));
}

bool sockaddr_is_any(const struct sockaddr_storage *addr)
{
    static const struct cidr any[] = {V4(0, 0, 0, 0, 8), {.bits = 128}};
    return in_any(addr, any, ARRAY_LEN(any));
}

bool sockaddr_is_multicast(const struct sockaddr_storage *addr)
{
    static const struct cidr multicast[] = {
        V4(224, 0, 0, 0, 4), V4(255, 255, 255, 255, 32), {.bytes = {0xff}, .bits = 8}};
    return in_any(addr, multicast, ARRAY_LEN(multicast));
}

bool sockaddr_is_link_local(const struct sockaddr_storage *addr)
{
    static const struct cidr link_local[] = {V4(169, 254, 0, 0, 16),
                                             {.bytes = {0xfe, 0x80}, .bits = 10}};
    return in_any(addr, link_local, ARRAY_LEN(link_local));
}

bool sockaddr_is_metadata(const struct sockaddr_storage *addr)
{
    static const struct cidr metadata[] = {
        V4(169, 254, 169, 254, 32),
        V4(100, 100, 100, 200, 32),
        {.bytes = {0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54}, .bits = 128},
        {.bytes = {0xfd, 0x20, 0x00, 0xce, [14] = 0x02, [15] = 0x54}, .bits = 128},
    };
    return in_any(addr, metadata, ARRAY_LEN(metadata));
}

static bool prefix_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8;
    if (memcmp(a, b, whole) != 0) {
        return false;
    }
    unsigned rest = bits % 8;
    return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

int cidr_parse(const char *text, struct cidr *ret_cidr)
{
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    char host[INET6_ADDRSTRLEN];
    if (len >= sizeof(host)) {
        return -EINVAL;
    }
    memcpy(host, text, len);
    host[len] = '\0';

    struct sockaddr_storage addr;
    struct cidr cidr = {.bits = 128};
    int err = sockaddr_parse_host(host, 0, &addr);
    if (err) {
        return err;
    }
    /* Not address_bytes(): 64:ff9b::/96 must not become a name for all of IPv4. */
    if (addr.ss_family == AF_INET6) {
        memcpy(cidr.bytes, &((struct sockaddr_in6 *)&addr)->sin6_addr, 16);
    } else {
        address_bytes(&addr, cidr.bytes);
    }
    if (slash) {
        uint16_t bits;
        unsigned most = addr.ss_family == AF_INET ? 32 : 128;
        if (strlen(slash + 1) > 3 || port_parse(slash + 1, &bits) || bits > most) {
            return -EINVAL;
        }
        cidr.bits = 128 - most + bits;
    }
    for (unsigned bit = cidr.bits; bit < 128; bit++) {
        if (cidr.bytes[bit / 8] & (0x80 >> bit % 8)) {
            return -EINVAL;
        }
    }
    *ret_cidr = cidr;
    return 0;
}

bool cidr_match(const struct cidr *cidr, const struct sockaddr_storage *addr)
{
    uint8_t bytes[16];
    if (!address_bytes(addr, bytes)) {
        return false;
    }
    /* "::/0" means every IPv6 address; that IPv4 lies inside it is an accident of the notation. */
    return (!is_v4(bytes) || cidr->bits >= 96) && prefix_equal(cidr->bytes, bytes, cidr->bits);
}

int cidr_list_parse(const char *text, struct cidr_list *ret_list)
{
    static const char separators[] = ", \t";
    struct cidr_list list = {0};
    for (;;) {
        text += strspn(text, separators);
        size_t len = strcspn(text, separators);
        if (len == 0) {
            *ret_list = list;
            return 0;
        }
        char item[INET6_ADDRSTRLEN + 8];
        struct cidr cidr;
        if (len >= sizeof(item)) {
            cidr_list_fini(&list);
            return -EINVAL;
        }
        memcpy(item, text, len);
        item[len] = '\0';
        text += len;
        int err = cidr_parse(item, &cidr);
        struct cidr *items =
            err ? NULL : realloc(list.items, (list.count + 1) * sizeof(*list.items));
        if (!items) {
            cidr_list_fini(&list);
            return err ? err : -ENOMEM;
        }
        list.items = items;
        list.items[list.count++] = cidr;
    }
}

bool cidr_list_match(const struct cidr_list *list, const struct sockaddr_storage *addr)
{
    return in_any(addr, list->items, list->count);
}

void cidr_list_fini(struct cidr_list *list)
{
    free(list->items);
    *list = (struct cidr_list){0};
}
