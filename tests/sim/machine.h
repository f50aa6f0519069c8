// SPDX-License-Identifier: Apache-2.0
/*
 * A machine for code that makes its own loops, files and numbers: linked with simulated_machine, loop_new() gives a loop of the
 * simulation, files of layers are on a disk whose power can be cut, ids come from the seed, and who waits for another thread lets
 * the simulation go on. The code itself is what is shipped.
 *
 * Thread:    one.
 * Ownership: machine_begin() to machine_end(); all loops are freed before.
 * Errors:    a wait that does not end within an hour of the machine aborts.
 */
#ifndef TESTS_SIM_MACHINE_H
#define TESTS_SIM_MACHINE_H

#include "base/loop_sim.h"
#include "tests/unit/layer_disk.h"

void machine_begin(uint64_t seed, unsigned delay_percent);
void machine_end(void);
struct loop_sim *machine_sim(void);
struct layer_disk *machine_disk(void);

/* fn is called once, right after the function in which the disk lost its power, when time passes by what follows, or somebody waits. From then
 * on what runs has a disk of its own, so that it can be brought to an end; machine_power_on() gives the machine what was left when the power went. */
void machine_on_power_cut(void (*fn)(void));
void machine_power_on(void);
void machine_pass(uint64_t ns);
/* False: not within limit_ns. */
bool machine_run_until(bool (*done)(void *arg), void *arg, uint64_t limit_ns);

#endif
