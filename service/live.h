// SPDX-License-Identifier: Apache-2.0
/*
 * Live counters of running copies: written by control, overlaid on the records by the read path.
 *
 * Thread:    any.
 * Ownership: plain values under one short lock.
 * Errors:    live_get() answers false for a copy that does not run.
 */
#ifndef SERVICE_LIVE_H
#define SERVICE_LIVE_H

#include "replication/copy.h"
#include "store/store.h"

struct live;

struct live *live_new(void);
void live_free(struct live *live);
void live_put(struct live *live, const char *copy_id, const struct copy_progress *progress);
void live_remove(struct live *live, const char *copy_id);
bool live_get(struct live *live, const char *copy_id, struct copy_progress *ret_progress);

#endif
