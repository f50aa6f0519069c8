// SPDX-License-Identifier: Apache-2.0
/*
 * A copy on its data loop: opens both sides, drives the pipeline, makes checkpoints, survives
 * losses.
 *
 * Thread:    the data loop, and so are the events.
 * Ownership: copies the spec but for the openers, which stay the caller's. copier_free() after
 *            ended().
 * Errors:    as replication/copy.h, whose half on the data loop this is.
 */
#ifndef REPLICATION_COPIER_H
#define REPLICATION_COPIER_H

#include "replication/copy.h"

/* What the owner wants. Only CANCEL is final; SHUTDOWN may become CANCEL. */
enum copier_goal { COPIER_RUN, COPIER_SUSPEND, COPIER_SHUTDOWN, COPIER_CANCEL };

struct copier;

struct copier *copier_new(struct loop *loop, const struct copy_spec *spec,
                          const struct copy_events *events, void *arg);
void copier_free(struct copier *copier);
void copier_set_goal(struct copier *copier, enum copier_goal goal);
void copier_set_limits(struct copier *copier, unsigned priority, uint64_t bandwidth_limit);

/* For tests: the table of allowed moves. */
bool copier_may_move(enum copy_phase from, enum copy_phase to);

#endif
