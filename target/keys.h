// SPDX-License-Identifier: Apache-2.0
/*
 * Text negotiation: every key of RFC 7143 in one table, and what comes of an offer.
 *
 * Thread:    any; a struct keys belongs to its connection.
 * Ownership: plain values; answers go into the caller's strbuf.
 * Errors:    keys_receive() returns -EPROTO for text that breaks the rules of the format or of the
 *            phase, -EMSGSIZE for more than is bearable.
 */
#ifndef TARGET_KEYS_H
#define TARGET_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"

enum {
    KEYS_MAX_TEXT = 65536, /* all requests of one negotiation step together */
    KEYS_MAX_NAME = 63,
    KEYS_MAX_VALUE = 255,
};

/* What was agreed on. The defaults are the RFC's. */
struct keys_values {
    uint32_t header_digest; /* 1: CRC32C */
    uint32_t data_digest;
    uint32_t max_connections;
    uint32_t initial_r2t;
    uint32_t immediate_data;
    uint32_t max_recv_segment; /* declared by the initiator: what we may send */
    uint32_t max_burst;
    uint32_t first_burst;
    uint32_t time_to_wait;
    uint32_t time_to_retain;
    uint32_t max_outstanding_r2t;
    uint32_t data_pdu_in_order;
    uint32_t data_sequence_in_order;
    uint32_t error_recovery_level;
    uint32_t protocol_level;
    uint32_t task_reporting;
};

enum keys_phase {
    KEYS_SECURITY = 1,
    KEYS_OPERATIONAL = 2,
    KEYS_FULL_FEATURE = 4,
};

struct keys {
    struct keys_values values;
    /* Our side. */
    uint32_t our_max_recv_segment;
    uint32_t our_max_burst;
    uint32_t our_first_burst;
    uint32_t our_max_outstanding_r2t;
    uint32_t our_initial_r2t;
    uint32_t our_immediate_data;
    bool discovery;
    bool declared; /* our MaxRecvDataSegmentLength was told */
    uint64_t seen; /* rows that were negotiated: once only, except in full feature phase */
};

void keys_init(struct keys *keys);

/* Calls fn for every pair of the text. -EPROTO: not text of pairs. fn's non-zero result ends it. */
typedef int (*keys_pair_fn)(void *arg, const char *name, const char *value);
int keys_walk(const uint8_t *text, size_t len, keys_pair_fn fn, void *arg);
/* The value of a key, in a buffer of KEYS_MAX_VALUE + 1 bytes. False: not there, or too long. */
bool keys_find(const uint8_t *text, size_t len, const char *name, char *ret_value);

/* One pair of a phase: adds the answer, if one is due. *ret_other is set for keys that are not
 * operational ones and that the caller must look at itself (names, CHAP, SendTargets). */
int keys_receive(struct keys *keys, enum keys_phase phase, const char *name, const char *value,
                 struct strbuf *answer, bool *ret_other);
/* Adds our declarations, once. */
void keys_declare(struct keys *keys, struct strbuf *answer);
/* Relations between values, once all are known. */
void keys_settle(struct keys *keys);

void keys_add(struct strbuf *text, const char *name, const char *value);

/* The table, for tests. */
enum keys_kind {
    KEYS_BOOL_AND,
    KEYS_BOOL_OR,
    KEYS_NUMBER_MIN,
    KEYS_NUMBER_MAX,
    KEYS_NUMBER_DECLARED,
    KEYS_LIST,
    KEYS_OTHER,         /* names, security, requests: the caller's */
    KEYS_OBSOLETE_BOOL, /* markers: No */
    KEYS_OBSOLETE_NUMBER,
};
struct keys_row {
    const char *name;
    enum keys_kind kind;
    unsigned phases;
    uint32_t min, max;
    size_t value_offset; /* in struct keys_values */
    uint32_t preset;     /* the RFC's default */
    bool normal_only;    /* Irrelevant in discovery sessions */
    uint32_t ours;       /* our limit or choice; 0 with ours_offset: from struct keys */
    size_t ours_offset;
    const char *const *choices; /* KEYS_LIST: our list in the order of the values 0, 1, … */
};
extern const struct keys_row keys_table[];
extern const size_t keys_table_len;

#endif
