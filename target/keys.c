// SPDX-License-Identifier: Apache-2.0
#include "target/keys.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static const char *const digest_choices[] = {"None", "CRC32C", NULL};
static const char *const reporting_choices[] = {"RFC3720", "ResponseFence", NULL};

#define VALUE(member) offsetof(struct keys_values, member)
#define OURS(member)  offsetof(struct keys, member)
enum { ANY = KEYS_SECURITY | KEYS_OPERATIONAL, OPER = KEYS_OPERATIONAL, MAX24 = 16777215 };

/* clang-format off */
const struct keys_row keys_table[] = {
    /* name, kind, phases, min, max, value, preset, normal only, ours, ours from, choices */
    {"HeaderDigest", KEYS_LIST, OPER, 0, 1, VALUE(header_digest), 0, false, 1, 0, digest_choices},
    {"DataDigest", KEYS_LIST, OPER, 0, 1, VALUE(data_digest), 0, false, 1, 0, digest_choices},
    {"MaxConnections", KEYS_NUMBER_MIN, OPER, 1, 65535, VALUE(max_connections), 1, true, 1, 0, NULL},
    {"InitialR2T", KEYS_BOOL_OR, OPER, 0, 1, VALUE(initial_r2t), 1, true, 0, OURS(our_initial_r2t), NULL},
    {"ImmediateData", KEYS_BOOL_AND, OPER, 0, 1, VALUE(immediate_data), 1, true, 0, OURS(our_immediate_data), NULL},
    {"MaxRecvDataSegmentLength", KEYS_NUMBER_DECLARED, ANY | KEYS_FULL_FEATURE, 512, MAX24, VALUE(max_recv_segment), 8192, false, 0, 0, NULL},
    {"MaxBurstLength", KEYS_NUMBER_MIN, OPER, 512, MAX24, VALUE(max_burst), 262144, true, 0, OURS(our_max_burst), NULL},
    {"FirstBurstLength", KEYS_NUMBER_MIN, OPER, 512, MAX24, VALUE(first_burst), 65536, true, 0, OURS(our_first_burst), NULL},
    {"DefaultTime2Wait", KEYS_NUMBER_MAX, OPER, 0, 3600, VALUE(time_to_wait), 2, false, 2, 0, NULL},
    {"DefaultTime2Retain", KEYS_NUMBER_MIN, OPER, 0, 3600, VALUE(time_to_retain), 20, false, 20, 0, NULL},
    {"MaxOutstandingR2T", KEYS_NUMBER_MIN, OPER, 1, 65535, VALUE(max_outstanding_r2t), 1, true, 0, OURS(our_max_outstanding_r2t), NULL},
    {"DataPDUInOrder", KEYS_BOOL_OR, OPER, 0, 1, VALUE(data_pdu_in_order), 1, true, 1, 0, NULL},
    {"DataSequenceInOrder", KEYS_BOOL_OR, OPER, 0, 1, VALUE(data_sequence_in_order), 1, true, 1, 0, NULL},
    {"ErrorRecoveryLevel", KEYS_NUMBER_MIN, OPER, 0, 2, VALUE(error_recovery_level), 0, false, 0, 0, NULL},
    {"iSCSIProtocolLevel", KEYS_NUMBER_MIN, ANY, 0, 31, VALUE(protocol_level), 1, false, 1, 0, NULL},
    {"TaskReporting", KEYS_LIST, OPER, 0, 1, VALUE(task_reporting), 0, true, 1, 0, reporting_choices},
    {"AuthMethod", KEYS_OTHER, KEYS_SECURITY, .value_offset = 0},
    {"CHAP_A", KEYS_OTHER, KEYS_SECURITY, .value_offset = 0},
    {"CHAP_I", KEYS_OTHER, KEYS_SECURITY, .value_offset = 0},
    {"CHAP_C", KEYS_OTHER, KEYS_SECURITY, .value_offset = 0},
    {"CHAP_N", KEYS_OTHER, KEYS_SECURITY, .value_offset = 0},
    {"CHAP_R", KEYS_OTHER, KEYS_SECURITY, .value_offset = 0},
    {"InitiatorName", KEYS_OTHER, ANY, .value_offset = 0},
    {"InitiatorAlias", KEYS_OTHER, ANY | KEYS_FULL_FEATURE, .value_offset = 0},
    {"TargetName", KEYS_OTHER, ANY, .value_offset = 0},
    {"SessionType", KEYS_OTHER, ANY, .value_offset = 0},
    {"SendTargets", KEYS_OTHER, KEYS_FULL_FEATURE, .value_offset = 0},
    {"OFMarker", KEYS_OBSOLETE_BOOL, OPER, .value_offset = 0},
    {"IFMarker", KEYS_OBSOLETE_BOOL, OPER, .value_offset = 0},
    {"OFMarkInt", KEYS_OBSOLETE_NUMBER, OPER, .value_offset = 0},
    {"IFMarkInt", KEYS_OBSOLETE_NUMBER, OPER, .value_offset = 0},
};
/* clang-format on */
const size_t keys_table_len = ARRAY_LEN(keys_table);

static uint32_t *value_of(struct keys *keys, const struct keys_row *row)
{
    return (uint32_t *)((char *)&keys->values + row->value_offset);
}

static uint32_t ours_of(const struct keys *keys, const struct keys_row *row)
{
    if (row->ours_offset == 0) {
        return row->ours;
    }
    uint32_t value;
    memcpy(&value, (const char *)keys + row->ours_offset, sizeof(value));
    return value;
}

static bool has_value(const struct keys_row *row)
{
    return row->kind < KEYS_OTHER;
}

void keys_init(struct keys *keys)
{
    memset(keys, 0, sizeof(*keys));
    for (size_t i = 0; i < keys_table_len; i++) {
        if (has_value(&keys_table[i])) {
            *value_of(keys, &keys_table[i]) = keys_table[i].preset;
        }
    }
    keys->our_max_recv_segment = 262144;
    keys->our_max_burst = 1u << 20;
    keys->our_first_burst = 262144;
    keys->our_max_outstanding_r2t = 8;
    keys->our_initial_r2t = 0;
    keys->our_immediate_data = 1;
}

/* RFC 7143, 6.1: a key begins with a letter and has letters, digits and a few signs. */
static bool name_is_valid(const char *name, size_t len)
{
    if (len == 0 || len > KEYS_MAX_NAME || !isalpha((unsigned char)name[0])) {
        return false;
    }
    for (size_t i = 1; i < len; i++) {
        if (!isalnum((unsigned char)name[i]) && !strchr(".-+@_#", name[i])) {
            return false;
        }
    }
    return true;
}

int keys_walk(const uint8_t *text, size_t len, keys_pair_fn fn, void *arg)
{
    size_t at = 0;
    while (at < len) {
        if (text[at] == 0) { /* padding that an initiator counted in */
            at++;
            continue;
        }
        const char *pair = (const char *)text + at;
        size_t pair_len = strnlen(pair, len - at);
        if (pair_len == len - at) {
            return -EPROTO; /* no end */
        }
        const char *equals = memchr(pair, '=', pair_len);
        size_t value_len = equals ? pair_len - (size_t)(equals - pair) - 1 : 0;
        if (!equals || !name_is_valid(pair, (size_t)(equals - pair))) {
            return -EPROTO;
        }
        char name[KEYS_MAX_NAME + 1];
        memcpy(name, pair, (size_t)(equals - pair));
        name[equals - pair] = '\0';
        /* Lists and binary values of CHAP may be longer than names; nothing that we take is longer
         * than 8 KiB. */
        if (value_len > 8192) {
            return -EPROTO;
        }
        int err = fn(arg, name, equals + 1);
        if (err) {
            return err;
        }
        at += pair_len + 1;
    }
    return 0;
}

struct find {
    const char *name;
    char *value;
    bool found;
};

static int find_pair(void *arg, const char *name, const char *value)
{
    struct find *find = arg;
    if (strcmp(name, find->name) == 0 && strlen(value) <= KEYS_MAX_VALUE) {
        strcpy(find->value, value);
        find->found = true;
        return 1;
    }
    return 0;
}

bool keys_find(const uint8_t *text, size_t len, const char *name, char *ret_value)
{
    struct find find = {.name = name, .value = ret_value};
    keys_walk(text, len, find_pair, &find);
    return find.found;
}

void keys_add(struct strbuf *text, const char *name, const char *value)
{
    strbuf_printf(text, "%s=%s", name, value);
    strbuf_putc(text, '\0');
}

static void add_number(struct strbuf *text, const char *name, uint32_t value)
{
    char digits[16];
    snprintf(digits, sizeof(digits), "%u", value);
    keys_add(text, name, digits);
}

/* Decimal, or hexadecimal with 0x (RFC 7143, 6.1). */
static int parse_number(const char *text, uint32_t *ret_value)
{
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    const char *digits = hex ? text + 2 : text;
    if (*digits == '\0' || strlen(digits) > 10) {
        return -EPROTO;
    }
    for (const char *c = digits; *c; c++) {
        if (hex ? !isxdigit((unsigned char)*c) : !isdigit((unsigned char)*c)) {
            return -EPROTO;
        }
    }
    unsigned long long value = strtoull(digits, NULL, hex ? 16 : 10);
    if (value > UINT32_MAX) {
        return -EPROTO;
    }
    *ret_value = (uint32_t)value;
    return 0;
}

static int parse_bool(const char *text, uint32_t *ret_value)
{
    if (strcmp(text, "Yes") == 0) {
        *ret_value = 1;
    } else if (strcmp(text, "No") == 0) {
        *ret_value = 0;
    } else {
        return -EPROTO;
    }
    return 0;
}

/* The first of the initiator's values that we know (RFC 7143, 6.2.1). */
static bool list_choose(const char *const *choices, uint32_t limit, const char *value,
                        uint32_t *ret_choice)
{
    const char *at = value;
    for (;;) {
        size_t len = strcspn(at, ",");
        for (uint32_t i = 0; choices[i] && i <= limit; i++) {
            if (strlen(choices[i]) == len && strncmp(choices[i], at, len) == 0) {
                *ret_choice = i;
                return true;
            }
        }
        if (at[len] == '\0') {
            return false;
        }
        at += len + 1;
    }
}

static const char *yes_no(uint32_t value)
{
    return value ? "Yes" : "No";
}

static int receive_value(struct keys *keys, const struct keys_row *row, const char *value,
                         struct strbuf *answer)
{
    uint32_t *agreed = value_of(keys, row);
    uint32_t ours = ours_of(keys, row);
    uint32_t theirs = 0;
    switch (row->kind) {
    case KEYS_BOOL_AND:
    case KEYS_BOOL_OR:
        if (parse_bool(value, &theirs)) {
            keys_add(answer, row->name, "Reject");
            return 0;
        }
        *agreed = row->kind == KEYS_BOOL_AND ? (theirs && ours) : (theirs || ours);
        keys_add(answer, row->name, yes_no(*agreed));
        return 0;
    case KEYS_NUMBER_MIN:
    case KEYS_NUMBER_MAX:
        if (parse_number(value, &theirs) || theirs < row->min || theirs > row->max) {
            keys_add(answer, row->name, "Reject");
            return 0;
        }
        if (row->kind == KEYS_NUMBER_MIN) {
            *agreed = theirs < ours ? theirs : ours;
        } else {
            *agreed = theirs > ours ? theirs : ours;
        }
        add_number(answer, row->name, *agreed);
        return 0;
    case KEYS_NUMBER_DECLARED:
        if (parse_number(value, &theirs) || theirs < row->min || theirs > row->max) {
            return -EPROTO;
        }
        *agreed = theirs;
        return 0;
    case KEYS_LIST:
        if (!list_choose(row->choices, ours, value, &theirs)) {
            keys_add(answer, row->name, "Reject");
            return 0;
        }
        *agreed = theirs;
        keys_add(answer, row->name, row->choices[theirs]);
        return 0;
    default:
        CHECK(!"a key with a value");
        return 0;
    }
}

int keys_receive(struct keys *keys, enum keys_phase phase, const char *name, const char *value,
                 struct strbuf *answer, bool *ret_other)
{
    *ret_other = false;
    if (answer->len > KEYS_MAX_TEXT) {
        return -EMSGSIZE;
    }
    size_t index = 0;
    while (index < keys_table_len && strcmp(keys_table[index].name, name) != 0) {
        index++;
    }
    if (index == keys_table_len) {
        keys_add(answer, name, "NotUnderstood");
        return 0;
    }
    const struct keys_row *row = &keys_table[index];
    if (!(row->phases & phase)) {
        if (phase == KEYS_FULL_FEATURE) {
            keys_add(answer, name, "Reject");
            return 0;
        }
        return -EPROTO;
    }
    if (row->kind == KEYS_OTHER) {
        *ret_other = true;
        return 0;
    }
    /* Answers to declarations of ours are no offers; there are none that ask for an answer. */
    uint64_t bit = UINT64_C(1) << index;
    if (phase != KEYS_FULL_FEATURE && (keys->seen & bit)) {
        return -EPROTO; /* RFC 7143, 6.2: no renegotiation during login */
    }
    keys->seen |= bit;
    if (row->kind == KEYS_OBSOLETE_BOOL) {
        keys_add(answer, name, "No");
        return 0;
    }
    if (row->kind == KEYS_OBSOLETE_NUMBER) {
        keys_add(answer, name, "Irrelevant");
        return 0;
    }
    if (row->normal_only && keys->discovery) {
        keys_add(answer, name, "Irrelevant");
        return 0;
    }
    return receive_value(keys, row, value, answer);
}

void keys_declare(struct keys *keys, struct strbuf *answer)
{
    if (!keys->declared) {
        keys->declared = true;
        add_number(answer, "MaxRecvDataSegmentLength", keys->our_max_recv_segment);
    }
}

void keys_settle(struct keys *keys)
{
    if (keys->values.first_burst > keys->values.max_burst) {
        keys->values.first_burst = keys->values.max_burst;
    }
}
