// SPDX-License-Identifier: Apache-2.0
/*
 * Network addresses as text, and what kind of place they lead to.
 *
 * Thread:    any.
 * Ownership: plain values.
 * Errors:    parsing returns -EINVAL for text that is not an address. Names are not looked up here,
 *            except in sockaddr_resolve().
 *
 * The kind of an address is that of where a connection would really go: an IPv4 address inside IPv6
 * (::ffff:a.b.c.d, 64:ff9b::a.b.c.d) counts as that IPv4 address.
 */
#ifndef BASE_SOCKADDR_H
#define BASE_SOCKADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
    SOCKADDR_HOST_LEN = 256, /* a name or address with its '\0' */
    SOCKADDR_TEXT_LEN = 80,  /* "[address%zone]:port" with its '\0' */
};

/* "HOST:PORT", "[V6]:PORT", and without ":PORT" if default_port is not negative; a bare V6 without
 * brackets then too. */
int sockaddr_split(const char *text, int default_port, char ret_host[SOCKADDR_HOST_LEN],
                   uint16_t *ret_port);
/* The same for numeric hosts, and "localhost" for 127.0.0.1. */
int sockaddr_parse(const char *text, int default_port, struct sockaddr_storage *ret_addr);
/* One numeric host without brackets. */
int sockaddr_parse_host(const char *host, uint16_t port, struct sockaddr_storage *ret_addr);
/* Looks host up: at most max addresses, in the system's order of preference. Blocks: for a worker
 * thread. -ENOENT, -EAGAIN or -EIO. */
int sockaddr_resolve(const char *host, uint16_t port, struct sockaddr_storage *ret_addrs,
                     size_t max, size_t *ret_count);

/* "127.0.0.1:3260", "[::1]:3260". */
void sockaddr_format(const struct sockaddr_storage *addr, char out[SOCKADDR_TEXT_LEN]);
socklen_t sockaddr_len(const struct sockaddr_storage *addr);
uint16_t sockaddr_port(const struct sockaddr_storage *addr);
bool sockaddr_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b);

bool sockaddr_is_loopback(const struct sockaddr_storage *addr); /* 127/8, ::1 */
bool sockaddr_is_any(const struct sockaddr_storage *addr);      /* 0/8, ::: connects to this host */
bool sockaddr_is_multicast(
    const struct sockaddr_storage *addr); /* 224/4, ff00::/8, and broadcast */
bool sockaddr_is_link_local(const struct sockaddr_storage *addr); /* 169.254/16, fe80::/10 */
/* Where clouds answer with credentials: 169.254.169.254, 100.100.100.200, fd00:ec2::254,
 * fd20:ce::254. */
bool sockaddr_is_metadata(const struct sockaddr_storage *addr);

struct cidr {
    uint8_t bytes[16]; /* IPv4 as ::ffff:a.b.c.d */
    unsigned bits;     /* 0 to 128 */
};

struct cidr_list {
    struct cidr *items;
    size_t count;
};

/* "10.0.0.0/8": bits beyond the prefix must be zero; without "/n" a single address. */
int cidr_parse(const char *text, struct cidr *ret_cidr);
/* IPv4 addresses match IPv4 ranges only, in whichever family they are written. */
bool cidr_match(const struct cidr *cidr, const struct sockaddr_storage *addr);
/* Separated by commas and blanks; "" is an empty list, which matches nothing. */
int cidr_list_parse(const char *text, struct cidr_list *ret_list);
bool cidr_list_match(const struct cidr_list *list, const struct sockaddr_storage *addr);
void cidr_list_fini(struct cidr_list *list);

#endif
