// SPDX-License-Identifier: Apache-2.0
/*
 * Are the peers there? Each access point is asked every reach_interval_ms, and what changed is
 * recorded.
 *
 * Thread:    control.
 * Ownership: part of struct network.
 * Errors:    none; a portal that does not answer is what this is for.
 */
#ifndef SERVICE_REACHABILITY_H
#define SERVICE_REACHABILITY_H

#include "service/control.h"

struct reachability;

struct reachability *reachability_new(struct control *control);
/* No new questions; those under way end with their scans. */
void reachability_stop(struct reachability *reachability);
void reachability_free(struct reachability *reachability); /* NULL is fine */

#endif
