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

/* Of asynchronous mirrors, by the id of their relationship. */
struct live_lag {
    bool known;         /* lag_bytes */
    uint64_t lag_bytes; /* what the source has beyond the target's point */
    uint64_t interval_ms;
    bool cycling;
    uint64_t bytes_read; /* of the cycle under way, or of the last one */
    uint64_t bytes_moved;
};
void live_lag_put(struct live *live, const char *sync_id, const struct live_lag *lag);
void live_lag_remove(struct live *live, const char *sync_id);
bool live_lag_get(struct live *live, const char *sync_id, struct live_lag *ret_lag);

#endif
