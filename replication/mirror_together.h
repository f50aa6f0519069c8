// SPDX-License-Identifier: Apache-2.0
/*
 * Several mirrors parted at one moment: what their data loops share (mirror_part_together() of mirror.h).
 *
 * Thread:    mirror_together_* on the owner's loop, the rest on the member's data loop.
 * Ownership: it goes when the owner has been told and no task of it is on its way.
 * Errors:    whoever cannot be parted voids it for all; the first one's error counts.
 *
 *     each, when equal and flushed ─▶ ready ── the last one ──▶ all hold their writes
 *     each, when none is under way ─▶ held ─── the last one ──▶ PARTED   all part, and let go
 *     whoever is late, not equal any more, or gone ───────────▶ VOID     all let go
 *
 * One of the two is decided, once, by one atomic exchange. Nobody lets go before that, so a write that was issued after the end of another one is
 * on no leg that lacks the other.
 */
#ifndef REPLICATION_MIRROR_TOGETHER_H
#define REPLICATION_MIRROR_TOGETHER_H

#include <stdatomic.h>

#include "replication/mirror.h"

struct mirror_core;
struct mirror_together;

enum member_state {
    MEMBER_EQUALS, /* becomes equal, and is flushed */
    MEMBER_READY,
    MEMBER_HOLDS, /* what is under way comes to its end */
    MEMBER_HELD,
    MEMBER_PARTED, /* its leg is flushed and closed */
};

struct mirror_member {
    struct mirror_together *together;
    struct loop *loop;
    struct mirror_core *core; /* NULL: not there yet, or not any more */
    enum member_state state;
    bool decided; /* it knows what */
    struct loop_timer timer;
    struct loop_task hold_task, verdict_task;
};

/* The mirror begins to be a member. False: it is over already, with *ret_error. */
bool mirror_member_begin(struct mirror_member *member, struct mirror_core *core,
                         struct error *ret_error);
/* Looks whether it is a step further. */
void mirror_member_step(struct mirror_member *member);
/* The mirror is none any more, and (undecided) why not. */
void mirror_member_end(struct mirror_member *member, const struct error *error);
/* There is no mirror (any more) to begin with. */
void mirror_member_absent(struct mirror_member *member, const struct error *error);

#endif
