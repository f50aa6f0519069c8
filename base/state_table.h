// SPDX-License-Identifier: Apache-2.0
/*
 * The states of a long-lived thing: one matrix of allowed moves, one function that moves.
 *
 * Thread:    tables are constant; a state belongs to the owner of its object.
 * Ownership: none.
 * Errors:    a move that the table does not allow is our own bug and CHECKed: ask state_may_move()
 *            where the outside world decides.
 *
 *     static const struct state_table link_states = {
 *         .name = "link",
 *         .count = LINK_STATE_COUNT,
 *         .names = {[LINK_DOWN] = "down", [LINK_UP] = "up"},
 *         .moves = {[LINK_DOWN] = STATE_TO(LINK_UP), [LINK_UP] = STATE_TO(LINK_DOWN)},
 *     };
 *     state_move(&link_states, &link->state, LINK_UP, link->name);
 */
#ifndef BASE_STATE_TABLE_H
#define BASE_STATE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

enum { STATE_TABLE_MAX = 32 };

struct state_table {
    const char *name; /* the kind of thing, for the log: "copy" */
    unsigned count;
    const char *names[STATE_TABLE_MAX];
    uint32_t moves[STATE_TABLE_MAX]; /* from → set of STATE_TO(to) */
};

#define STATE_TO(state) (UINT32_C(1) << (state))

/* A pointer to any enum without negative enumerators is a pointer to unsigned. */
void state_move(const struct state_table *table, unsigned *state, unsigned to, const char *owner);
bool state_may_move(const struct state_table *table, unsigned from, unsigned to);
const char *state_name(const struct state_table *table, unsigned state);
/* The state of that name, or -1. */
int state_by_name(const struct state_table *table, const char *name);

#endif
