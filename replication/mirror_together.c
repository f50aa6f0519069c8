// SPDX-License-Identifier: Apache-2.0
/*
 * A member's timer runs from its beginning: until it is equal (and all the others are), until it is held, until its leg is flushed.
 *
 * References: the owner's; one for each verdict (which comes to every member, once); one for each order to hold.
 */
#include "replication/mirror_together.h"

#include <stdlib.h>

#include "base/atomic_range.h"
#include "base/check.h"
#include "replication/mirror_private.h"

enum verdict { VERDICT_NONE, VERDICT_PARTED, VERDICT_VOID };

struct mirror_together {
    size_t n;
    uint64_t timeout_ms;
    unsigned deadline_ms;

    _Atomic int verdict;
    _Atomic size_t to_come, to_hold, references;
    _Atomic uint64_t held_ns, released_ns;
    /* of VOID: written before the verdict goes out */
    struct error error;
    size_t culprit;

    /* the owner's */
    size_t pending;
    bool failed;
    mirror_together_fn done;
    void *arg;

    struct mirror_member members[];
};

static void unreference(struct mirror_together *together)
{
    if (atomic_fetch_sub(&together->references, 1) == 1) {
        free(together);
    }
}

static size_t index_of(const struct mirror_member *member)
{
    return (size_t)(member - member->together->members);
}

/* ---- the verdict ---- */

static void verdict_arrived(void *arg)
{
    struct mirror_member *member = arg;
    struct mirror_together *together = member->together;
    struct mirror_core *core = member->core;
    member->decided = true;
    if (core) {
        loop_timer_stop(&member->timer);
        if (atomic_load(&together->verdict) == VERDICT_PARTED) {
            member->state = MEMBER_PARTED;
            loop_timer_start(&member->timer, together->timeout_ms * MS_NS);
            mirror_core_part(core, NULL);
            atomic_raise(&together->released_ns, loop_now_ns(member->loop));
        } else {
            mirror_core_part(core, &together->error);
        }
    }
    unreference(together);
}

/* error: of VOID. */
static void decide(struct mirror_member *member, enum verdict verdict, const struct error *error)
{
    struct mirror_together *together = member->together;
    int none = VERDICT_NONE;
    if (!atomic_compare_exchange_strong(&together->verdict, &none, verdict)) {
        return;
    }
    if (error) {
        together->error = *error;
        together->culprit = index_of(member);
    }
    for (size_t i = 0; i < together->n; i++) {
        struct mirror_member *each = &together->members[i];
        each->verdict_task = (struct loop_task){.fn = verdict_arrived, .arg = each};
        loop_post(each->loop, &each->verdict_task);
    }
}

/* ---- holding ---- */

static void hold_arrived(void *arg)
{
    struct mirror_member *member = arg;
    struct mirror_together *together = member->together;
    if (member->core && !member->decided) {
        atomic_lower(&together->held_ns, loop_now_ns(member->loop));
        loop_timer_start(&member->timer, together->deadline_ms * MS_NS);
        member->state = MEMBER_HOLDS;
        mirror_core_hold(member->core);
        mirror_member_step(member);
    }
    unreference(together);
}

static void all_hold(struct mirror_together *together)
{
    atomic_fetch_add(&together->references, together->n);
    for (size_t i = 0; i < together->n; i++) {
        struct mirror_member *member = &together->members[i];
        member->hold_task = (struct loop_task){.fn = hold_arrived, .arg = member};
        loop_post(member->loop, &member->hold_task);
    }
}

void mirror_member_step(struct mirror_member *member)
{
    struct mirror_together *together = member->together;
    struct mirror_core *core = member->core;
    struct error error;
    if (member->decided || member->state == MEMBER_PARTED) {
        return;
    }
    if (member->state == MEMBER_EQUALS) {
        if (mirror_core_is_flushed(core)) {
            member->state = MEMBER_READY;
            if (atomic_fetch_sub(&together->to_come, 1) == 1) {
                all_hold(together);
            }
        }
        return;
    }
    if (!mirror_core_is_equal(core)) {
        error_set(&error, ERR_ILLEGAL_STATE, "the two sides are not equal any more: %.400s",
                  core->last_error);
        decide(member, VERDICT_VOID, &error);
    } else if (member->state == MEMBER_HOLDS && core->n_writes == 0) {
        member->state = MEMBER_HELD;
        if (atomic_fetch_sub(&together->to_hold, 1) == 1) {
            decide(member, VERDICT_PARTED, NULL);
        }
    }
}

static void member_late(void *arg)
{
    struct mirror_member *member = arg;
    struct mirror_core *core = member->core;
    const struct mirror_together *together = member->together;
    struct error error;
    switch (member->state) {
    case MEMBER_EQUALS:
        error_set(&error, ERR_TIMEOUT,
                  "the two sides were not equal and flushed within %llu ms; %llu bytes differ",
                  (unsigned long long)together->timeout_ms,
                  (unsigned long long)(core->map ? change_map_marked_bytes(core->map) : 0));
        decide(member, VERDICT_VOID, &error);
        break;
    case MEMBER_HOLDS:
        error_set(&error, ERR_TIMEOUT, "what is being written to it does not end within %u ms",
                  together->deadline_ms);
        decide(member, VERDICT_VOID, &error);
        break;
    case MEMBER_READY: /* another one is late, and says so */
    case MEMBER_HELD:
        break;
    case MEMBER_PARTED:
        error_set(&error, ERR_TIMEOUT, "the target was not flushed within %llu ms",
                  (unsigned long long)together->timeout_ms);
        mirror_core_part(core, &error);
        break;
    }
}

bool mirror_member_begin(struct mirror_member *member, struct mirror_core *core,
                         struct error *ret_error)
{
    if (member->decided) {
        *ret_error = member->together->error;
        return false;
    }
    member->core = core;
    member->state = MEMBER_EQUALS;
    loop_timer_init(&member->timer, member->loop, member_late, member);
    loop_timer_start(&member->timer, member->together->timeout_ms * MS_NS);
    return true;
}

void mirror_member_end(struct mirror_member *member, const struct error *error)
{
    loop_timer_stop(&member->timer);
    member->core = NULL;
    if (error) {
        decide(member, VERDICT_VOID, error);
    }
}

void mirror_member_absent(struct mirror_member *member, const struct error *error)
{
    decide(member, VERDICT_VOID, error);
}

/* ---- the owner ---- */

static void member_done(void *arg, const struct error *error)
{
    struct mirror_member *member = arg;
    struct mirror_together *together = member->together;
    bool parted = atomic_load(&together->verdict) == VERDICT_PARTED;
    if (error && parted && !together->failed) {
        together->error = *error; /* nobody else writes it after that verdict */
        together->culprit = index_of(member);
    }
    together->failed = together->failed || error != NULL;
    if (--together->pending > 0) {
        return;
    }
    struct mirror_parting parting = {
        .error = together->failed ? &together->error : NULL,
        .culprit = together->culprit,
        .parted = parted,
        .pause_ns =
            parted ? atomic_load(&together->released_ns) - atomic_load(&together->held_ns) : 0,
    };
    together->done(together->arg, &parting);
    unreference(together);
}

void mirror_part_together(struct mirror *const *mirrors, size_t n, uint64_t timeout_ms,
                          unsigned deadline_ms, mirror_together_fn done, void *arg)
{
    struct mirror_together *together =
        calloc(1, sizeof(*together) + n * sizeof(together->members[0]));
    CHECK(together && n > 0);
    together->n = n;
    together->timeout_ms = timeout_ms;
    together->deadline_ms = deadline_ms;
    together->pending = n;
    together->done = done;
    together->arg = arg;
    atomic_store(&together->to_come, n);
    atomic_store(&together->to_hold, n);
    atomic_store(&together->references, n + 1);
    atomic_store(&together->held_ns, UINT64_MAX);
    for (size_t i = 0; i < n; i++) {
        together->members[i].together = together;
        together->members[i].loop = mirror_data_loop(mirrors[i]);
    }
    for (size_t i = 0; i < n; i++) {
        mirror_begin_member(mirrors[i], &together->members[i], timeout_ms, member_done);
    }
}
