// SPDX-License-Identifier: Apache-2.0
/*
 * Several operations that are asked for together, and whose end is told once.
 *
 * Thread:    the owner's loop (control).
 * Ownership: frees itself when done() has been called.
 * Errors:    the last one that came, to done().
 */
#ifndef HOSTING_GATHER_H
#define HOSTING_GATHER_H

#include "hosting/array.h"

struct gather;

/* done may be NULL. */
struct gather *gather_new(array_done_fn done, void *arg);
/* One more is asked for; its end is gather_back(gather, error). */
void gather_add(struct gather *gather);
void gather_back(void *gather, const struct error *error);
/* Something went wrong before it could be asked for. */
void gather_fail(struct gather *gather, enum error_code code, const char *text);
/* All have been asked for: done() comes with the end of the last, at the earliest in the loop's next turn. */
void gather_ready(struct gather *gather, struct loop *loop);

#endif
