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

#endif
