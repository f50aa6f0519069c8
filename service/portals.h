// SPDX-License-Identifier: Apache-2.0
/*
 * Portals: addresses as clients write them, as records, and as what is dialled.
 *
 * Thread:    text: any. Records: control. Lookups: a data loop, start to callback.
 * Ownership: plain values; a lookup ends with its callback or its cancel.
 * Errors:    struct error.
 */
#ifndef SERVICE_PORTALS_H
#define SERVICE_PORTALS_H

#include <netinet/in.h>

#include "base/loop.h"
#include "base/sockaddr.h"
#include "block/iscsi_dev.h"
#include "service/call.h"
#include "store/system.h"

enum {
    PORTAL_PORT = 3260,
    PORTAL_ADDRESS_SIZE = NAME_SIZE,
    PORTAL_INFO_HOST_NAME = 2, /* InfoFormat */
    PORTAL_INFO_IPV4 = 3,
    PORTAL_INFO_IPV6 = 4,
    PORTAL_INFO_URL = 200,
    PORTAL_INFO_FQDN = 201,
};

/* secret_row.protocol */
#define PORTAL_CHAP        "CHAP"
#define PORTAL_CHAP_MUTUAL "CHAP-Mutual"

struct portal {
    char address[PORTAL_ADDRESS_SIZE]; /* normalised: "192.0.2.1:3260", "[2001:db8::1]:3260",
                                          "array.example:3260" */
    uint32_t info_format;              /* what the text is */
    bool numeric;                      /* then: */
    struct sockaddr_storage sockaddr;
};

/* "HOST", "HOST:PORT", "[V6]:PORT", "iscsi://HOST:PORT". -EINVAL with one clause ("the port is not
 * a number from 1 to 65535") in *ret_why, which never repeats the text. */
int portal_parse(const char *text, struct portal *ret_portal, const char **ret_why);

/* "iscsi://HOST[:PORT]/NAME/LUN", of which nothing may be missing. */
struct lun_url {
    struct portal portal;
    char target[ISCSI_NAME_SIZE];
    uint64_t lun;
};
int lun_url_parse(const char *text, struct lun_url *ret_url, const char **ret_why);
/* "iqn.", "eui." or "naa.", then letters, digits, '-', '.', ':', '_' or UTF-8. */
bool target_name_valid(const char *name);

/* A LUN's number, as people count, and the first two bytes of its LUN field, both ways. -ERANGE for
 * fields of other addressing methods. */
uint16_t lun_field(uint64_t lun);
int lun_number(uint16_t field, uint64_t *ret_lun);
/* Decimal, without sign and blanks. */
int lun_number_parse(const char *text, uint64_t *ret_lun);

/* -ENOENT */
int portal_find(struct db *db, const char *address, struct access_point_row *ret_row);
/* A new access point, and a new system for it when system_id is "". */
int portal_add(struct call *call, const struct portal *portal, const char *access_info,
               const char *element_name, const char *system_id, bool registered,
               struct access_point_row *ret_row);
/* The access point goes, with its secrets, and its system when that has nothing else. */
int portal_forget(struct call *call, const struct access_point_row *row);
/* What sessions to it prove themselves with: its own secrets, or those of another portal of its
 * system when it has none. */
int portal_credentials(struct db *db, const struct access_point_row *row,
                       struct iscsi_chap *ret_chap, struct iscsi_chap *ret_mutual,
                       struct error *error);
/* Does an answer (error NULL) or a failure say anything that the row does not, or is what it says a
 * minute old? */
bool portal_news(const struct access_point_row *row, const struct error *error, uint64_t when_ms);
/* Records it, if so. */
int portal_seen(struct call *call, const char *access_point_id, const struct error *error,
                uint64_t when_ms);

/* The same outside of a call, or in one that fails, in an event of its own; nothing when there is
 * no news. */
void portal_seen_later(struct control *control, const struct access_point_row *row,
                       const struct error *error);

/* From HOST:PORT texts to addresses that may be dialled: numbers at once, names by the system's
 * resolver, each checked by network_address_allowed(). fn is called once, never inside the start,
 * with at least one address or an error: address_not_allowed when that is why there is none, else
 * remote_unreachable or timeout. */
struct portal_lookup;
struct network;
typedef void (*portal_lookup_fn)(void *arg, const struct sockaddr_storage *addresses,
                                 unsigned n_addresses, const struct error *error);
struct portal_lookup *portal_lookup_start(struct loop *loop, struct network *network,
                                          const char (*addresses)[PORTAL_ADDRESS_SIZE],
                                          unsigned n_addresses, uint32_t timeout_ms,
                                          portal_lookup_fn fn, void *arg);
void portal_lookup_cancel(struct portal_lookup *lookup);

#endif
