// SPDX-License-Identifier: Apache-2.0
/*
 * Portals as text and as records. Lookups are in portal_lookup.c.
 */
#include "service/portals.h"

#include "store/pipe.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "service/control.h"
#include "service/volumes.h"
#include "store/volume.h"

enum { SEEN_STALE_MS = 60000, LUN_MAX = 0xffff, LUN_SINGLE_LEVEL = 0x100, LUN_FLAT = 0x4000 };

static const char url_scheme[] = "iscsi://";

/* ---- text ---- */

static bool name_valid(const char *host)
{
    size_t label = 0;

    for (const char *at = host; *at != '\0'; at++) {
        if (*at == '.') {
            if (label == 0) {
                return false;
            }
            label = 0;
        } else if (isalnum((unsigned char)*at) || *at == '-' || *at == '_') {
            label++;
        } else {
            return false;
        }
    }
    return label > 0;
}

/* ::ffff:a.b.c.d leads where a.b.c.d leads: one portal, one text. */
static void unmap_v4(struct sockaddr_storage *addr)
{
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)addr;

    if (addr->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
        struct sockaddr_storage v4 = {.ss_family = AF_INET};

        ((struct sockaddr_in *)&v4)->sin_port = v6->sin6_port;
        memcpy(&((struct sockaddr_in *)&v4)->sin_addr, &v6->sin6_addr.s6_addr[12], 4);
        *addr = v4;
    }
}

/* The part of an address before and with the port; text has no scheme any more. */
static int host_port_parse(const char *text, struct portal *ret_portal, const char **ret_why)
{
    char host[SOCKADDR_HOST_LEN];
    uint16_t port;

    if (strchr(text, '@') != NULL) {
        *ret_why = "user names and passwords do not belong there (AddSharedSecret takes them)";
        return -EINVAL;
    }
    if (sockaddr_split(text, PORTAL_PORT, host, &port) < 0) {
        *ret_why = "it must be a name or number, and optionally a colon and a port from 1 to 65535 "
                   "([…] around an IPv6 address)";
        return -EINVAL;
    }
    if (port == 0) {
        *ret_why = "the port must be from 1 to 65535";
        return -EINVAL;
    }
    size_t len = strlen(host);

    if (len > 1 && host[len - 1] == '.') {
        host[len - 1] = '\0';
    }
    for (char *at = host; *at != '\0'; at++) {
        *at = (char)tolower((unsigned char)*at);
    }
    bool localhost = strcmp(host, "localhost") == 0;
    struct portal portal = {0};

    if (sockaddr_parse_host(localhost ? "127.0.0.1" : host, port, &portal.sockaddr) == 0) {
        char address[SOCKADDR_TEXT_LEN];

        unmap_v4(&portal.sockaddr);
        portal.numeric = true;
        portal.info_format = localhost                              ? PORTAL_INFO_HOST_NAME
                             : portal.sockaddr.ss_family == AF_INET ? PORTAL_INFO_IPV4
                                                                    : PORTAL_INFO_IPV6;
        sockaddr_format(&portal.sockaddr, address);
        memcpy(portal.address, address, sizeof(address));
    } else if (name_valid(host)) {
        int n = snprintf(portal.address, sizeof(portal.address), "%s:%u", host, port);

        if (n < 0 || (size_t)n >= sizeof(portal.address)) {
            *ret_why = "the name is longer than 253 bytes";
            return -EINVAL;
        }
        portal.info_format = strchr(host, '.') != NULL ? PORTAL_INFO_FQDN : PORTAL_INFO_HOST_NAME;
    } else {
        *ret_why = "the host is neither an address nor a name of letters, digits, '-' and '.'";
        return -EINVAL;
    }
    *ret_portal = portal;
    return 0;
}

static bool has_scheme(const char *text)
{
    return strncasecmp(text, url_scheme, strlen(url_scheme)) == 0;
}

int portal_parse(const char *text, struct portal *ret_portal, const char **ret_why)
{
    if (!has_scheme(text)) {
        return host_port_parse(text, ret_portal, ret_why);
    }
    text += strlen(url_scheme);
    if (strchr(text, '/') != NULL && strchr(text, '@') == NULL) {
        *ret_why = "nothing may follow the port: a target name and a LUN belong to "
                   "AddReplicationEntity";
        return -EINVAL;
    }
    int r = host_port_parse(text, ret_portal, ret_why);

    if (r == 0) {
        ret_portal->info_format = PORTAL_INFO_URL;
    }
    return r;
}

bool target_name_valid(const char *name)
{
    if (strncasecmp(name, "iqn.", 4) != 0 && strncasecmp(name, "eui.", 4) != 0 &&
        strncasecmp(name, "naa.", 4) != 0) {
        return false;
    }
    size_t len = strlen(name);

    if (len == 4 || len >= ISCSI_NAME_SIZE) {
        return false;
    }
    for (const char *at = name; *at != '\0'; at++) {
        unsigned char c = (unsigned char)*at;

        if (c < 0x80 && !isalnum(c) && strchr("-.:_", c) == NULL) {
            return false;
        }
    }
    return true;
}

int lun_number_parse(const char *text, uint64_t *ret_lun)
{
    size_t digits = strspn(text, "0123456789");

    if (digits == 0 || digits > 5 || text[digits] != '\0' || (digits > 1 && text[0] == '0')) {
        return -EINVAL;
    }
    unsigned long lun = strtoul(text, NULL, 10);

    /* Two numbers for one field: the smaller one is its name. */
    if (lun > LUN_MAX || (lun >= LUN_FLAT + LUN_SINGLE_LEVEL && lun < 2 * LUN_FLAT)) {
        return -EINVAL;
    }
    *ret_lun = lun;
    return 0;
}

uint16_t lun_field(uint64_t lun)
{
    return (uint16_t)(lun >= LUN_SINGLE_LEVEL && lun < LUN_FLAT ? LUN_FLAT | lun : lun);
}

int lun_number(uint16_t field, uint64_t *ret_lun)
{
    if (field >= LUN_SINGLE_LEVEL && field < LUN_FLAT) {
        return -ERANGE; /* a bus number in it */
    }
    /* A flat field below 256 keeps its own number, so that what is dialled is what was reported. */
    *ret_lun =
        field >= LUN_FLAT + LUN_SINGLE_LEVEL && field < 2 * LUN_FLAT ? field - LUN_FLAT : field;
    return 0;
}

int lun_url_parse(const char *text, struct lun_url *ret_url, const char **ret_why)
{
    struct lun_url url;
    char authority[PORTAL_ADDRESS_SIZE];

    if (!has_scheme(text)) {
        *ret_why = "it must begin with iscsi://";
        return -EINVAL;
    }
    text += strlen(url_scheme);
    if (strchr(text, '@') != NULL) {
        *ret_why = "user names and passwords do not belong there (AddSharedSecret takes them)";
        return -EINVAL;
    }
    if (strpbrk(text, "?#") != NULL) {
        *ret_why = "it has no part that begins with '?' or '#'";
        return -EINVAL;
    }
    const char *name = strchr(text, '/');
    const char *lun = name == NULL ? NULL : strchr(name + 1, '/');

    if (lun == NULL || strchr(lun + 1, '/') != NULL) {
        *ret_why = "it must be iscsi://HOST[:PORT]/TARGET-NAME/LUN";
        return -EINVAL;
    }
    size_t authority_len = (size_t)(name - text);
    size_t name_len = (size_t)(lun - name - 1);

    if (authority_len >= sizeof(authority)) {
        *ret_why = "the host is too long";
        return -EINVAL;
    }
    memcpy(authority, text, authority_len);
    authority[authority_len] = '\0';
    if (host_port_parse(authority, &url.portal, ret_why) < 0) {
        return -EINVAL;
    }
    if (name_len >= sizeof(url.target)) {
        *ret_why = "the target name is longer than 223 bytes";
        return -EINVAL;
    }
    memcpy(url.target, name + 1, name_len);
    url.target[name_len] = '\0';
    if (!target_name_valid(url.target)) {
        *ret_why = "the target name must begin with iqn., eui. or naa. and have no blanks or "
                   "escapes";
        return -EINVAL;
    }
    if (lun_number_parse(lun + 1, &url.lun) < 0) {
        *ret_why = "the LUN must be a decimal number from 0 to 16383";
        return -EINVAL;
    }
    *ret_url = url;
    return 0;
}

/* ---- records ---- */

int portal_find(struct db *db, const char *address, struct access_point_row *ret_row)
{
    struct condition where[] = {WHERE_TEXT("address", address), WHERE_END};

    return table_find(db, &access_point_table, where, ret_row);
}

int portal_add(struct call *call, const struct portal *portal, const char *access_info,
               const char *element_name, const char *system_id, bool registered,
               struct access_point_row *ret_row)
{
    struct access_point_row row = {
        .info_format = portal->info_format,
        .registered = registered,
        .created_ms = control_now_ms(call->control),
    };
    int r;

    text_cut(access_info, row.access_info, sizeof(row.access_info));
    text_cut(element_name, row.element_name, sizeof(row.element_name));
    memcpy(row.address, portal->address, sizeof(row.address));
    if (system_id[0] == '\0') {
        struct system_row system = {.created_ms = row.created_ms};

        text_cut(element_name, system.element_name, sizeof(system.element_name));
        r = table_insert(call->db, &system_table, &system);
        if (r < 0) {
            return call_fail_store(call, r);
        }
        memcpy(row.system_id, system.head.id, sizeof(row.system_id));
    } else {
        snprintf(row.system_id, sizeof(row.system_id), "%s", system_id);
    }
    r = table_insert(call->db, &access_point_table, &row);
    if (r < 0) {
        return call_fail_store(call, r);
    }
    struct endpoint_row endpoint = {.kind = ENDPOINT_PORTAL, .created_ms = row.created_ms};

    memcpy(endpoint.head.id, row.head.id, sizeof(endpoint.head.id));
    memcpy(endpoint.system_id, row.system_id, sizeof(endpoint.system_id));
    memcpy(endpoint.element_name, row.element_name, sizeof(endpoint.element_name));
    memcpy(endpoint.address, row.address, sizeof(endpoint.address));
    r = table_insert(call->db, &endpoint_table, &endpoint);
    if (r < 0) {
        return call_fail_store(call, r);
    }
    *ret_row = row;
    return 0;
}

static int secrets_delete(struct call *call, const char *access_point_id)
{
    struct condition where[] = {WHERE_TEXT("access_point_id", access_point_id), WHERE_END};
    struct secret_row row;
    int r;

    while ((r = table_find(call->db, &secret_table, where, &row)) == 0) {
        r = table_delete(call->db, &secret_table, row.head.id);
        if (r < 0) {
            break;
        }
    }
    explicit_bzero(&row, sizeof(row));
    return r == -ENOENT ? 0 : call_fail_store(call, r);
}

int portal_forget(struct call *call, const struct access_point_row *row)
{
    struct condition siblings[] = {WHERE_TEXT("system_id", row->system_id), WHERE_END};
    uint64_t n_portals = 0;
    uint64_t n_volumes = 0;
    uint64_t n_pools = 0;
    int r = secrets_delete(call, row->head.id);

    if (r < 0) {
        return r;
    }
    r = table_delete(call->db, &endpoint_table, row->head.id);
    if (r == 0 || r == -ENOENT) {
        r = table_delete(call->db, &access_point_table, row->head.id);
    }
    if (r == 0) {
        r = table_count(call->db, &access_point_table, siblings, &n_portals);
    }
    if (r == 0) {
        r = table_count(call->db, &volume_table, siblings, &n_volumes);
    }
    if (r == 0) {
        r = table_count(call->db, &pool_table, siblings, &n_pools);
    }
    if (r == 0 && n_portals == 0 && n_volumes == 0 && n_pools == 0) {
        r = table_delete(call->db, &system_table, row->system_id);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

/* ---- credentials ---- */

struct credentials {
    struct iscsi_chap *chap;
    struct iscsi_chap *mutual;
};

static int credentials_row(void *arg, const void *row)
{
    const struct secret_row *secret = row;
    struct credentials *credentials = arg;
    struct iscsi_chap *chap =
        strcmp(secret->protocol, PORTAL_CHAP_MUTUAL) == 0 ? credentials->mutual : credentials->chap;

    text_cut(secret->remote_id, chap->user, sizeof(chap->user));
    text_cut(secret->secret, chap->secret, sizeof(chap->secret));
    return 0;
}

static int credentials_load(struct db *db, const char *access_point_id, struct credentials *to)
{
    struct condition where[] = {WHERE_TEXT("access_point_id", access_point_id), WHERE_END};

    return table_each(db, &secret_table, where, 0, 0, credentials_row, to);
}

struct sibling_credentials {
    struct db *db;
    const char *own_id;
    struct credentials *to;
};

/* 1: found. */
static int sibling_credentials_row(void *arg, const void *row)
{
    const struct access_point_row *sibling = row;
    struct sibling_credentials *search = arg;

    if (strcmp(sibling->head.id, search->own_id) == 0) {
        return 0;
    }
    int r = credentials_load(search->db, sibling->head.id, search->to);

    if (r == 0 && (search->to->chap->user[0] != '\0' || search->to->mutual->user[0] != '\0')) {
        return 1;
    }
    return r;
}

int portal_credentials(struct db *db, const struct access_point_row *row,
                       struct iscsi_chap *ret_chap, struct iscsi_chap *ret_mutual,
                       struct error *error)
{
    struct credentials credentials = {.chap = ret_chap, .mutual = ret_mutual};
    struct sibling_credentials search = {.db = db, .own_id = row->head.id, .to = &credentials};
    struct condition siblings[] = {WHERE_TEXT("system_id", row->system_id), WHERE_END};

    memset(ret_chap, 0, sizeof(*ret_chap));
    memset(ret_mutual, 0, sizeof(*ret_mutual));
    int r = credentials_load(db, row->head.id, &credentials);

    if (r == 0 && ret_chap->user[0] == '\0' && ret_mutual->user[0] == '\0') {
        r = table_each(db, &access_point_table, siblings, 0, 0, sibling_credentials_row, &search);
    }
    if (r < 0) {
        return error_set(error, ERR_STORE_FAILED, "The records could not be read (%s).",
                         strerror(-r));
    }
    if (ret_mutual->user[0] != '\0' && ret_chap->user[0] == '\0') {
        return error_set(error, ERR_REMOTE_REFUSED,
                         "%.200s has a CHAP-Mutual secret and no CHAP secret, but a target proves "
                         "itself only to those who do so too: AddSharedSecret with Protocol CHAP.",
                         row->address);
    }
    return 0;
}

/* ---- what was seen ---- */

bool portal_news(const struct access_point_row *row, const struct error *error, uint64_t when_ms)
{
    char last_error[sizeof(row->last_error)];

    text_cut(error == NULL ? "" : error->detail, last_error, sizeof(last_error));
    return !row->probed || row->reachable != (error == NULL) ||
           strcmp(row->last_error, last_error) != 0 ||
           when_ms >= row->last_tried_ms + SEEN_STALE_MS;
}

int portal_seen(struct call *call, const char *access_point_id, const struct error *error,
                uint64_t when_ms)
{
    struct access_point_row row;
    int r = table_get(call->db, &access_point_table, access_point_id, &row);

    if (r == -ENOENT) {
        return 0; /* it was deleted meanwhile */
    }
    if (r == 0 && portal_news(&row, error, when_ms)) {
        row.probed = true;
        row.reachable = error == NULL;
        row.last_tried_ms = when_ms;
        if (row.reachable) {
            row.last_seen_ms = when_ms;
        }
        text_cut(error == NULL ? "" : error->detail, row.last_error, sizeof(row.last_error));
        r = table_update(call->db, &access_point_table, &row);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

struct seen {
    char access_point_id[ID_SIZE];
    bool answered;
    struct error error;
    uint64_t when_ms;
};

static int seen_event(struct call *call)
{
    const struct seen *seen = call->step_state;

    return portal_seen(call, seen->access_point_id, seen->answered ? NULL : &seen->error,
                       seen->when_ms);
}

void portal_seen_later(struct control *control, const struct access_point_row *row,
                       const struct error *error)
{
    struct seen seen = {.answered = error == NULL, .when_ms = control_now_ms(control)};

    if (row->head.id[0] == '\0' || !portal_news(row, error, seen.when_ms)) {
        return;
    }
    if (error != NULL) {
        seen.error = *error;
    }
    memcpy(seen.access_point_id, row->head.id, sizeof(seen.access_point_id));
    control_event(control, seen_event, &seen, sizeof(seen));
}
