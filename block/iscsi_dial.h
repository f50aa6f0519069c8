// SPDX-License-Identifier: Apache-2.0
/*
 * From an address to a session whose LUN is known: what probing, opening and redialling have in
 * common.
 *
 * Thread:    one loop; callbacks never come from inside a call of this header.
 * Ownership: both structs are embedded in their user's object. A dialer owns its link until
 * iscsi_dialer_take(). Errors:    handed to the callback, which is called once per start, and not
 * after a stop.
 */
#ifndef BLOCK_ISCSI_DIAL_H
#define BLOCK_ISCSI_DIAL_H

#include <stdbool.h>

#include "base/error.h"
#include "base/loop.h"
#include "block/iscsi_dev.h"
#include "block/iscsi_link.h"
#include "block/iscsi_pages.h"

/* Asks a LUN what it is, one question after the other. */
struct iscsi_ask {
    struct iscsi_lun_info info; /* the answer */
    struct iscsi_mode mode;
    struct loop *loop;
    struct iscsi_link *link;
    const struct iscsi_spec *spec;
    void (*fn)(void *arg, const struct error *error);
    void *arg;
    unsigned step;
    unsigned tries;
    uint8_t pages[256];
    size_t pages_len;
    struct iscsi_cmd cmd;
    struct loop_timer timer;
};
void iscsi_ask_init(struct iscsi_ask *ask, struct loop *loop);
void iscsi_ask_start(struct iscsi_ask *ask, const struct iscsi_spec *spec, struct iscsi_link *link,
                     void (*fn)(void *arg, const struct error *error), void *arg);
/* The link must be closed or down. */
void iscsi_ask_stop(struct iscsi_ask *ask);

enum iscsi_dial_aim {
    ISCSI_DIAL_LUN,       /* a session, and the LUN asked */
    ISCSI_DIAL_SESSION,   /* a session */
    ISCSI_DIAL_DISCOVERY, /* a discovery session, and the targets asked */
};

struct iscsi_dialer {
    struct loop *loop;
    const struct iscsi_spec *spec;
    enum iscsi_dial_aim aim;
    struct iscsi_link *link;
    struct iscsi_ask ask;
    const struct iscsi_found_target *targets; /* until the dialer is stopped */
    unsigned n_targets;
    void (*fn)(void *arg, const struct error *error);
    void *arg;
    struct loop_timer timer;
    struct sockaddr_storage address;
    bool fenced; /* since the start */
    unsigned fence;
    struct loop_timer fence_timer;
};
void iscsi_dialer_init(struct iscsi_dialer *dialer, struct loop *loop);
/* One attempt, within the spec's connect_timeout_ms. fn: error is NULL on success, and then
 * dialer->link is up. */
void iscsi_dialer_start(struct iscsi_dialer *dialer, const struct iscsi_spec *spec,
                        const struct sockaddr_storage *address, enum iscsi_dial_aim aim,
                        void (*fn)(void *arg, const struct error *error), void *arg);
/* After a dial for a LUN that was successful, and only if the LUN is the right one: ends what older
 * sessions may have under way there, and asks the LUN again. Then fn of the start is called once more,
 * with dialer->fenced set. */
void iscsi_dialer_fence(struct iscsi_dialer *dialer);
void iscsi_dialer_stop(struct iscsi_dialer *dialer);
/* The same for a link that is up already, has nothing outstanding, and is the dialer's from now on: fn is called once. */
void iscsi_dialer_fence_link(struct iscsi_dialer *dialer, const struct iscsi_spec *spec,
                             struct iscsi_link *link,
                             void (*fn)(void *arg, const struct error *error), void *arg);
/* The link leaves the dialer; the caller makes itself its owner. */
struct iscsi_link *iscsi_dialer_take(struct iscsi_dialer *dialer);

/* Zero if info is the LUN that identity, size_bytes and block_bytes describe ("" and 0: anything),
 * otherwise ERR_LUN_CHANGED in *error. first: what a login of this device has seen before, or NULL.
 */
int iscsi_lun_compare(const struct iscsi_lun_info *info, const char *identity, uint64_t size_bytes,
                      uint32_t block_bytes, const struct iscsi_lun_info *first,
                      struct error *error);

#endif
