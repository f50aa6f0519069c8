// SPDX-License-Identifier: Apache-2.0
/*
 * A device's map, asked ahead of the reader: which ranges are zeros without reading them, and which
 * are there already.
 *
 * Thread:    the device's loop.
 * Ownership: borrows the device; may be freed when nothing of it is outstanding.
 * Errors:    a lost link or a changed device is handed to the user's failed(); every other failure
 *            only means that the range counts as data.
 */
#ifndef REPLICATION_COPY_MAP_H
#define REPLICATION_COPY_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "block/blockdev.h"

enum copy_map_answer {
    COPY_MAP_DATA, /* or not known, and not worth asking */
    COPY_MAP_ZERO,
    COPY_MAP_KEPT, /* need not be written: the target has it */
    COPY_MAP_WAIT, /* the answer is on its way */
};

struct copy_map_cb {
    void (*wake)(void *arg);               /* more is known */
    void (*failed)(void *arg, int status); /* -ENOTCONN or -ESTALE; the question is kept */
};

struct copy_map;

/* Answers for [0, limit) of dev. Runs of zeros shorter than gap bytes are not counted as a gain. */
int copy_map_new(struct blockdev *dev, uint64_t limit, uint64_t gap, const struct copy_map_cb *cb,
                 void *arg, struct copy_map **ret_map);
void copy_map_free(struct copy_map *map);
unsigned copy_map_outstanding(const struct copy_map *map);

/* What offset is, and up to where. Offsets are asked in about ascending order, never below the last
 * copy_map_advance(). */
enum copy_map_answer copy_map_peek(struct copy_map *map, uint64_t offset, uint64_t *ret_end);
/* Nothing below offset will be asked any more. */
void copy_map_advance(struct copy_map *map, uint64_t offset);
/* Forgets everything and begins anew at offset. */
void copy_map_restart(struct copy_map *map, uint64_t offset);
/* Closed: asks nothing (the device is away). */
void copy_map_gate(struct copy_map *map, bool open);
/* Submits what is worth asking and within bounds. */
void copy_map_pump(struct copy_map *map);
/* What it costs to do without the map, in picoseconds a byte. */
void copy_map_set_price(struct copy_map *map, uint64_t ps_per_byte);

#endif
