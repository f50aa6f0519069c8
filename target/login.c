// SPDX-License-Identifier: Apache-2.0
#include "target/login.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

enum { LOGIN_TRANSIT = 0x80, LOGIN_MAX_TEXT = 16384 };

void login_init(struct login *login, struct access *access, unsigned chap_policy)
{
    memset(login, 0, sizeof(*login));
    keys_init(&login->keys);
    login->access = access ? access_ref(access) : NULL;
    login->chap_policy = chap_policy;
    strbuf_init(&login->in);
}

void login_fini(struct login *login)
{
    strbuf_fini(&login->in);
    access_unref(login->access);
    login->access = NULL;
}

static bool chap_demanded(const struct login *login)
{
    return login->row && login->row->chap_user;
}

static void response_head(const struct login *login, uint8_t flags, uint32_t len,
                          enum login_status status, uint8_t bhs[PDU_BHS])
{
    pdu_init(bhs, PDU_LOGIN_RESPONSE, flags, len);
    memcpy(bhs + 8, login->isid, sizeof(login->isid));
    put_be16(bhs + 14, login->tsih);
    put_be32(bhs + PDU_F_ITT, login->itt);
    put_be16(bhs + 36, status);
}

void login_refuse(const struct login *login, enum login_status status, uint8_t ret_bhs[PDU_BHS])
{
    response_head(login, (uint8_t)(login->stage << 2), 0, status, ret_bhs);
}

/* Keys that the table leaves to us; 0, or the status to fail with. */

static int take_name(char *to, const char *value)
{
    if (!access_name_is_valid(value)) {
        return LOGIN_INITIATOR_ERROR;
    }
    strcpy(to, value);
    return 0;
}

static bool list_has_word(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = list;;) {
        size_t item = strcspn(at, ",");
        if (item == len && strncmp(at, word, len) == 0) {
            return true;
        }
        if (at[item] == '\0') {
            return false;
        }
        at += item + 1;
    }
}

static int take_auth_method(struct login *login, const char *value, struct strbuf *answer)
{
    if (login->auth_negotiated) {
        return LOGIN_INITIATOR_ERROR;
    }
    login->auth_negotiated = true;
    if (chap_demanded(login)) {
        if (!list_has_word(value, "CHAP")) {
            return LOGIN_AUTH_FAILED;
        }
        login->chap = LOGIN_CHAP_CHOSEN;
        keys_add(answer, "AuthMethod", "CHAP");
        return 0;
    }
    if (!list_has_word(value, "None")) {
        return LOGIN_AUTH_FAILED;
    }
    login->authenticated = true;
    keys_add(answer, "AuthMethod", "None");
    return 0;
}

static int take_chap_algorithm(struct login *login, const char *value, struct strbuf *answer)
{
    if (login->chap != LOGIN_CHAP_CHOSEN) {
        return LOGIN_INITIATOR_ERROR;
    }
    login->chap_algorithm = chap_choose(value, login->chap_policy);
    if (login->chap_algorithm == 0) {
        return LOGIN_AUTH_FAILED;
    }
    random_bytes(&login->chap_id, 1);
    random_bytes(login->chap_challenge, sizeof(login->chap_challenge));
    char text[2 * CHAP_CHALLENGE + 3];
    snprintf(text, sizeof(text), "%u", login->chap_algorithm);
    keys_add(answer, "CHAP_A", text);
    snprintf(text, sizeof(text), "%u", login->chap_id);
    keys_add(answer, "CHAP_I", text);
    chap_encode(login->chap_challenge, sizeof(login->chap_challenge), text);
    keys_add(answer, "CHAP_C", text);
    login->chap = LOGIN_CHAP_SENT;
    return 0;
}

static int take_chap(struct login *login, const char *name, const char *value,
                     struct strbuf *answer)
{
    if (strcmp(name, "CHAP_A") == 0) {
        return take_chap_algorithm(login, value, answer);
    }
    if (login->chap != LOGIN_CHAP_SENT) {
        return LOGIN_INITIATOR_ERROR;
    }
    if (strcmp(name, "CHAP_N") == 0) {
        if (strlen(value) > TARGET_MAX_SECRET || login->chap_has_name) {
            return LOGIN_AUTH_FAILED;
        }
        strcpy(login->chap_name, value);
        login->chap_has_name = true;
    } else if (strcmp(name, "CHAP_R") == 0) {
        if (login->chap_has_response ||
            chap_decode(value, login->chap_response, sizeof(login->chap_response),
                        &login->chap_response_len)) {
            return LOGIN_AUTH_FAILED;
        }
        login->chap_has_response = true;
    } else if (strcmp(name, "CHAP_I") == 0) {
        char *end;
        unsigned long id = strtoul(value, &end, 0);
        if (end == value || *end || id > 255) {
            return LOGIN_AUTH_FAILED;
        }
        login->mutual_id = (uint8_t)id;
        login->mutual_has_id = true;
    } else if (strcmp(name, "CHAP_C") == 0) {
        if (chap_decode(value, login->mutual_challenge, sizeof(login->mutual_challenge),
                        &login->mutual_challenge_len)) {
            return LOGIN_AUTH_FAILED;
        }
        login->mutual_has_challenge = true;
    }
    return 0;
}

/* For people to read, whatever it says: what is too long is cut, control characters become '?'. */
static void take_alias(char to[TARGET_MAX_ALIAS + 1], const char *value)
{
    snprintf(to, TARGET_MAX_ALIAS + 1, "%s", value);
    for (char *c = to; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = '?';
        }
    }
}

static int take_other(struct login *login, const char *name, const char *value,
                      struct strbuf *answer)
{
    if (strcmp(name, "AuthMethod") == 0) {
        return take_auth_method(login, value, answer);
    }
    if (strncmp(name, "CHAP_", 5) == 0) {
        return take_chap(login, name, value, answer);
    }
    /* Names and the session's kind were read from the first request, before all else; later ones
     * may only repeat them. */
    if (strcmp(name, "InitiatorName") == 0) {
        return strcasecmp(value, login->initiator) == 0 ? 0 : LOGIN_INITIATOR_ERROR;
    }
    if (strcmp(name, "TargetName") == 0) {
        return strcasecmp(value, login->asked_target) == 0 ? 0 : LOGIN_INITIATOR_ERROR;
    }
    if (strcmp(name, "SessionType") == 0) {
        return strcmp(value, login->discovery ? "Discovery" : "Normal") == 0
                   ? 0
                   : LOGIN_INITIATOR_ERROR;
    }
    take_alias(login->initiator_alias, value); /* InitiatorAlias */
    return 0;
}

/* Once name, response and, perhaps, their challenge are there. */
static int chap_verify(struct login *login, struct strbuf *answer)
{
    const struct target_initiator *row = login->row;
    uint8_t expected[CHAP_MAX_RESPONSE];
    size_t len = chap_response_len(login->chap_algorithm);
    if (chap_response(login->chap_algorithm, login->chap_id, row->chap_secret,
                      login->chap_challenge, sizeof(login->chap_challenge), expected)) {
        return LOGIN_TARGET_ERROR;
    }
    if (!login->chap_has_name || strcmp(login->chap_name, row->chap_user) != 0 ||
        login->chap_response_len != len || !chap_equal(expected, login->chap_response, len)) {
        return LOGIN_AUTH_FAILED;
    }
    if (login->mutual_has_id != login->mutual_has_challenge) {
        return LOGIN_AUTH_FAILED;
    }
    if (login->mutual_has_id) {
        bool reflected = login->mutual_challenge_len == sizeof(login->chap_challenge) &&
                         memcmp(login->mutual_challenge, login->chap_challenge,
                                sizeof(login->chap_challenge)) == 0;
        if (!row->mutual_user || reflected) {
            return LOGIN_AUTH_FAILED;
        }
        uint8_t response[CHAP_MAX_RESPONSE];
        char text[2 * CHAP_MAX_RESPONSE + 3];
        if (chap_response(login->chap_algorithm, login->mutual_id, row->mutual_secret,
                          login->mutual_challenge, login->mutual_challenge_len, response)) {
            return LOGIN_TARGET_ERROR;
        }
        keys_add(answer, "CHAP_N", row->mutual_user);
        chap_encode(response, len, text);
        keys_add(answer, "CHAP_R", text);
    }
    login->chap = LOGIN_CHAP_DONE;
    login->authenticated = true;
    return 0;
}

struct pairs {
    struct login *login;
    struct strbuf *answer;
    int status;
};

static int take_pair(void *arg, const char *name, const char *value)
{
    struct pairs *pairs = arg;
    struct login *login = pairs->login;
    enum keys_phase phase = login->stage == LOGIN_SECURITY ? KEYS_SECURITY : KEYS_OPERATIONAL;
    bool other;
    int err = keys_receive(&login->keys, phase, name, value, pairs->answer, &other);
    if (err) {
        pairs->status = LOGIN_INITIATOR_ERROR;
        return err;
    }
    if (other) {
        pairs->status = take_other(login, name, value, pairs->answer);
    }
    return pairs->status;
}

/* The leading request says who and what. */
static int start(struct login *login, const uint8_t *text, size_t len)
{
    char value[KEYS_MAX_VALUE + 1];
    if (keys_find(text, len, "SessionType", value)) {
        if (strcmp(value, "Discovery") == 0) {
            login->discovery = true;
        } else if (strcmp(value, "Normal") != 0) {
            return LOGIN_BAD_SESSION_TYPE;
        }
    }
    login->keys.discovery = login->discovery;
    if (!keys_find(text, len, "InitiatorName", value)) {
        return LOGIN_MISSING_PARAMETER;
    }
    if (take_name(login->initiator, value)) {
        return LOGIN_INITIATOR_ERROR;
    }
    if (keys_find(text, len, "TargetName", value)) {
        if (take_name(login->asked_target, value)) {
            return LOGIN_NOT_FOUND;
        }
    } else if (!login->discovery) {
        return LOGIN_MISSING_PARAMETER;
    }
    if (!login->discovery &&
        (!login->target_name || strcasecmp(login->target_name, login->asked_target) != 0)) {
        return LOGIN_NOT_FOUND;
    }
    if (login->access) {
        login->row = access_find(login->access, login->initiator);
    }
    if (!login->row && !(login->discovery && login->open_discovery)) {
        return LOGIN_FORBIDDEN;
    }
    return 0;
}

static bool stage_is_valid(unsigned stage)
{
    return stage == LOGIN_SECURITY || stage == LOGIN_OPERATIONAL;
}

static int check_header(struct login *login, const uint8_t *request)
{
    uint8_t flags = request[PDU_F_FLAGS];
    unsigned current = flags >> 2 & 3;
    unsigned next = flags & 3;
    bool transit = flags & LOGIN_TRANSIT;
    if (request[3] > 0) { /* version-min */
        return LOGIN_BAD_VERSION;
    }
    if (!stage_is_valid(current) || (transit && (flags & PDU_CONTINUE)) ||
        (transit && (next <= current || next == 2))) {
        return LOGIN_INITIATOR_ERROR;
    }
    if (!login->started) {
        login->started = true;
        memcpy(login->isid, request + 8, sizeof(login->isid));
        login->tsih = get_be16(request + 14);
        login->cid = get_be16(request + 20);
        login->cmd_sn = get_be32(request + PDU_F_CMD_SN);
        login->itt = pdu_itt(request);
        login->stage = current;
        return 0;
    }
    if (memcmp(login->isid, request + 8, sizeof(login->isid)) != 0 ||
        login->tsih != get_be16(request + 14) || login->cid != get_be16(request + 20) ||
        login->itt != pdu_itt(request) || current != (unsigned)login->stage) {
        return LOGIN_INVALID_IN_PHASE;
    }
    return 0;
}

static int take_text(struct login *login, struct strbuf *answer)
{
    if (strbuf_error(&login->in)) {
        return LOGIN_OUT_OF_RESOURCES;
    }
    const uint8_t *text = (const uint8_t *)strbuf_str(&login->in);
    size_t len = login->in.len;
    if (!login->initiator[0]) {
        int status = start(login, text, len);
        if (status) {
            return status;
        }
        if (login->alias) {
            keys_add(answer, "TargetAlias", login->alias);
        }
        if (!login->discovery) {
            keys_add(answer, "TargetPortalGroupTag", "1");
        }
    }
    struct pairs pairs = {.login = login, .answer = answer};
    if (keys_walk(text, len, take_pair, &pairs)) {
        return pairs.status ? pairs.status : LOGIN_INITIATOR_ERROR;
    }
    if (login->chap == LOGIN_CHAP_SENT && (login->chap_has_name || login->chap_has_response)) {
        int status = chap_verify(login, answer);
        if (status) {
            return status;
        }
    }
    if (login->stage == LOGIN_SECURITY && !chap_demanded(login) && !login->auth_negotiated) {
        /* No AuthMethod offered: None by default. */
        login->authenticated = true;
    }
    if (login->stage == LOGIN_OPERATIONAL && chap_demanded(login) && !login->authenticated) {
        return LOGIN_AUTH_FAILED;
    }
    return 0;
}

enum login_verdict login_receive(struct login *login, const uint8_t request[PDU_BHS],
                                 const uint8_t *text, size_t len, uint8_t ret_bhs[PDU_BHS],
                                 struct strbuf *answer)
{
    uint8_t flags = request[PDU_F_FLAGS];
    unsigned next = flags & 3;
    int status = check_header(login, request);
    if (status == 0 && login->in.len + len > LOGIN_MAX_TEXT) {
        status = LOGIN_INITIATOR_ERROR;
    }
    if (status == 0) {
        strbuf_add(&login->in, text, len);
        if (flags & PDU_CONTINUE) { /* more to come: an empty response asks for it */
            response_head(login, (uint8_t)(login->stage << 2), 0, LOGIN_SUCCESS, ret_bhs);
            return LOGIN_GOES_ON;
        }
        status = take_text(login, answer);
        strbuf_reset(&login->in);
    }
    bool transit = flags & LOGIN_TRANSIT;
    if (status == 0 && login->stage == LOGIN_SECURITY && !login->authenticated) {
        transit = false; /* CHAP is under way */
    }
    if (status == 0 &&
        (login->stage == LOGIN_OPERATIONAL || (transit && next == LOGIN_FULL_FEATURE))) {
        keys_declare(&login->keys, answer);
    }
    if (status == 0 && (strbuf_error(answer) || answer->len > PDU_LOGIN_SEGMENT)) {
        status = LOGIN_OUT_OF_RESOURCES;
    }
    if (status) {
        strbuf_reset(answer);
        login->status = (enum login_status)status;
        login_refuse(login, login->status, ret_bhs);
        return LOGIN_FAILED;
    }
    uint8_t out = (uint8_t)(login->stage << 2);
    if (transit) {
        out = (uint8_t)(out | LOGIN_TRANSIT | next);
    }
    response_head(login, out, (uint32_t)answer->len, LOGIN_SUCCESS, ret_bhs);
    if (!transit) {
        return LOGIN_GOES_ON;
    }
    login->stage = (enum login_stage)next;
    if (next != LOGIN_FULL_FEATURE) {
        return LOGIN_GOES_ON;
    }
    keys_settle(&login->keys);
    return LOGIN_COMPLETE;
}
