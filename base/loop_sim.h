// SPDX-License-Identifier: Apache-2.0
/*
 * Simulated loops: base/loop.h in virtual time, several loops in one thread, in an order that a
 * seed decides.
 *
 * Thread:    one thread for the simulation and all its loops. While a loop's function runs only
 *            that loop is current, so that code which touches another loop's objects fails its
 *            assertions; between functions all are.
 * Ownership: loops are freed with loop_free(), then the simulation.
 * Errors:    creation returns negative errno. A simulation that cannot come to rest, or that waits
 *            for something that cannot happen, CHECKs.
 *
 * Time moves only in loop_sim_advance(), loop_sim_run_until() and loop_run(), and only when nothing
 * is ready. Seed 0 takes the loops in turn and runs what a loop has in a fixed order. Any other
 * seed chooses among all that is ready, within the promises of base/loop.h: posted and deferred
 * tasks each keep their order, timers that of their due time. The same seed gives the same run.
 *
 * loop_work runs when its turn comes, in this thread. Polls watch real descriptors (a socketpair,
 * say), without waiting. loop_thread_start() is accepted and starts nothing.
 */
#ifndef BASE_LOOP_SIM_H
#define BASE_LOOP_SIM_H

#include "base/loop.h"
#include "base/random.h"

struct loop_sim;

int loop_sim_new(uint64_t seed, struct loop_sim **ret_sim);
void loop_sim_free(struct loop_sim *sim);
int loop_sim_add(struct loop_sim *sim, const char *name, struct loop **ret_loop);

uint64_t loop_sim_now_ns(const struct loop_sim *sim);
/* When the next timer is due; UINT64_MAX if none is pending. */
uint64_t loop_sim_next_due_ns(const struct loop_sim *sim);
/* The simulation's own numbers, for tests whose choices should follow the seed too. */
struct random *loop_sim_random(struct loop_sim *sim);

/* From now on a loop may stand still after each function that it has run, as a thread that lost its processor, for up to most_ns, while the
 * others go on; 0: no more. Seed 0 leaves it alone. */
void loop_sim_stall(struct loop_sim *sim, uint64_t most_ns);

/* Runs one thing that is ready; false if nothing is. */
bool loop_sim_step(struct loop_sim *sim);
/* Until nothing is ready; time stands still. */
void loop_sim_run_until_idle(struct loop_sim *sim);
/* Runs until idle, and so on through every timer that becomes due within ns; then it is ns later.
 */
void loop_sim_advance(struct loop_sim *sim, uint64_t ns);
/* Lets time pass until done(arg) is true, asking after every step. False: limit_ns went by, or
 * nothing is left that could happen. */
bool loop_sim_run_until(struct loop_sim *sim, bool (*done)(void *arg), void *arg,
                        uint64_t limit_ns);

#endif
