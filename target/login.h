// SPDX-License-Identifier: Apache-2.0
/*
 * The login phase: from the first login request to the last response (RFC 7143, 6.3).
 *
 * Thread:    the loop of the connection; knows neither sockets nor loops.
 * Ownership: embedded in its connection; holds a reference to the access list.
 * Errors:    what an initiator does wrong becomes a login response with its status class.
 *
 *     START ─▶ SECURITY ─▶ OPERATIONAL ─▶ COMPLETE       the initiator may skip one of the two;
 *        └─────────┴───────────┴──▶ FAILED               without CHAP demanded also both
 */
#ifndef TARGET_LOGIN_H
#define TARGET_LOGIN_H

#include "target/access.h"
#include "target/chap.h"
#include "target/keys.h"
#include "base/pdu.h"

enum login_status { /* class << 8 | detail */
                    LOGIN_SUCCESS = 0x0000,
                    LOGIN_INITIATOR_ERROR = 0x0200,
                    LOGIN_AUTH_FAILED = 0x0201,
                    LOGIN_FORBIDDEN = 0x0202,
                    LOGIN_NOT_FOUND = 0x0203,
                    LOGIN_REMOVED = 0x0204,
                    LOGIN_BAD_VERSION = 0x0205,
                    LOGIN_TOO_MANY_CONNECTIONS = 0x0206,
                    LOGIN_MISSING_PARAMETER = 0x0207,
                    LOGIN_BAD_SESSION_TYPE = 0x0209,
                    LOGIN_NO_SUCH_SESSION = 0x020a,
                    LOGIN_INVALID_IN_PHASE = 0x020b,
                    LOGIN_TARGET_ERROR = 0x0300,
                    LOGIN_UNAVAILABLE = 0x0301,
                    LOGIN_OUT_OF_RESOURCES = 0x0302,
};

enum login_stage { LOGIN_SECURITY = 0, LOGIN_OPERATIONAL = 1, LOGIN_FULL_FEATURE = 3 };

enum login_verdict {
    LOGIN_GOES_ON,  /* the response is to be sent */
    LOGIN_COMPLETE, /* it is the last one, once the session was found or made */
    LOGIN_FAILED,   /* it says why; then the connection ends */
};

enum login_chap { LOGIN_CHAP_NONE, LOGIN_CHAP_CHOSEN, LOGIN_CHAP_SENT, LOGIN_CHAP_DONE };

struct login {
    struct keys keys;
    struct access *access;
    const struct target_initiator *row;
    unsigned chap_policy;
    const char *target_name; /* NULL: only discovery */
    const char *alias;
    bool open_discovery; /* no rows: everybody may ask */

    bool started;
    bool authenticated;
    bool auth_negotiated;
    enum login_stage stage;
    uint8_t isid[6];
    uint16_t tsih;
    uint16_t cid;
    uint32_t itt;
    uint32_t cmd_sn;
    bool discovery;
    char initiator[TARGET_MAX_NAME + 1];
    char initiator_alias[TARGET_MAX_ALIAS + 1]; /* printable, perhaps no UTF-8 */
    char asked_target[TARGET_MAX_NAME + 1];

    enum login_chap chap;
    unsigned chap_algorithm;
    uint8_t chap_id;
    uint8_t chap_challenge[CHAP_CHALLENGE];
    uint8_t chap_response[CHAP_MAX_RESPONSE];
    size_t chap_response_len;
    char chap_name[TARGET_MAX_SECRET + 1];
    bool chap_has_name, chap_has_response, mutual_has_id, mutual_has_challenge;
    uint8_t mutual_id;
    uint8_t mutual_challenge[CHAP_MAX_CHALLENGE];
    size_t mutual_challenge_len;

    struct strbuf in; /* of requests with the C bit */
    enum login_status status;
};

/* Takes a reference to access, which may be NULL for discovery open to all. */
void login_init(struct login *login, struct access *access, unsigned chap_policy);
void login_fini(struct login *login);

/* Text is appended to answer; bhs is complete but for the numbers (StatSN and the like) and, when
 * complete, the TSIH. */
enum login_verdict login_receive(struct login *login, const uint8_t request[PDU_BHS],
                                 const uint8_t *text, size_t len, uint8_t ret_bhs[PDU_BHS],
                                 struct strbuf *answer);
/* A response that refuses. */
void login_refuse(const struct login *login, enum login_status status, uint8_t ret_bhs[PDU_BHS]);

#endif
