// SPDX-License-Identifier: Apache-2.0
/*
 * Where asynchronous mirrors are: which frozen layers of both sides they count on, and the cycle under way.
 *
 * Thread, Ownership, Errors: as in store/table.h.
 */
#ifndef STORE_CYCLE_H
#define STORE_CYCLE_H

#include "store/table.h"

enum cycle_way {
    CYCLE_RESTS = 0,
    CYCLE_FORWARD = 1, /* the target becomes what source was at the cut */
    CYCLE_UNDO = 2,    /* the target, a LUN of another system, becomes its last point again */
    CYCLE_BACK = 3,    /* the source becomes what the target was at the cut */
};

enum { CYCLE_HISTORY_SIZE = 768 };

struct cycle_row {
    struct row_head head;
    char sync_id
        [ID_SIZE]; /* unique; the row goes after its relationship, when nothing runs any more */
    /* Layers, frozen, which may not be merged with what is above them. "" none. */
    char base_id
        [ID_SIZE]; /* of the source: what the target's point is. Without it everything may differ */
    char cut_id[ID_SIZE]; /* of the side that is copied from: what the cycle under way copies */
    char point_id
        [ID_SIZE]; /* of a hosted target: its point, below what a cycle or hosts have changed since */
    uint32_t way; /* enum cycle_way */
    uint64_t checkpoint_bytes;
    uint64_t cut_ms;      /* when the cut was made */
    uint64_t point_ms;    /* of what moment the point is, 0 none */
    uint64_t cycles;      /* that have ended well */
    uint64_t took_ms;     /* the last of them */
    uint64_t moved_bytes; /* of all of them: written or zeroed */
    char
        history[CYCLE_HISTORY_SIZE]; /* how old the point was when the next came, ms, newest last */
    char round_id[ID_SIZE]; /* the cycle under way: the same for all that were cut with it; "" alone */
};
extern const struct table cycle_table;

int cycle_find(struct db *db, const char *sync_id, struct cycle_row *ret_row);
/* Does one of them count on the layer? 1, 0 or an error. */
int cycle_pins(struct db *db, const char *layer_id);
/* What was in layer from_id is in to_id from now on. */
int cycle_layer_renamed(struct db *db, const char *from_id, const char *to_id);

void cycle_history_add(char history[CYCLE_HISTORY_SIZE], uint64_t ms);
/* Of the samples that are there (the last 64); 0 without any. */
uint64_t cycle_history_percentile(const char *history, unsigned percent);

#endif
