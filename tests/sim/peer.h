// SPDX-License-Identifier: Apache-2.0
/*
 * LUNs of another system for a service on simulated loops: what it opens by service/lun_opener.h is a disk here (the linker's --wrap), reached by
 * sessions that can be lost, that are slow, and whose requests fail.
 *
 * Thread:    the simulation's.
 * Ownership: peer_begin() to peer_end(); all sessions are closed before.
 * Errors:    a session that was lost takes some of what was not flushed with it, as if the LUN's cache had lost its power.
 *
 * Our own power goes: peer_power_cut(). Sessions of the process that was there write to what nobody sees any more; peer_power_on() when all of them are closed.
 */
#ifndef TESTS_SIM_PEER_H
#define TESTS_SIM_PEER_H

#include "tests/unit/copy_testing.h"

struct peer_lun;

void peer_begin(uint64_t seed);
void peer_end(void);
/* Its target name; what it is like comes from the seed. */
struct peer_lun *peer_lun_new(const char *target, uint64_t size);
/* The link is lost, and comes back after so long. */
void peer_lun_lost(struct peer_lun *lun, uint64_t ns);
/* Of each request, and up to twice that. */
void peer_lun_slow(struct peer_lun *lun, uint64_t delay_ns);
/* The next count requests of those kinds (TEST_OP()) fail in the sessions that are there. */
void peer_lun_fails(struct peer_lun *lun, unsigned ops, unsigned count, int status);
/* When a link was lost last, or is back; 0 never. */
uint64_t peer_lun_lost_until_ns(const struct peer_lun *lun);
/* Its own hosts. */
struct test_disk *peer_lun_disk(struct peer_lun *lun);
void peer_lun_write(struct peer_lun *lun, uint64_t offset, const void *data, uint64_t len);

void peer_power_cut(void);
void peer_power_on(void);

#endif
