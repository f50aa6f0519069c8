// SPDX-License-Identifier: Apache-2.0
/*
 * Files for layers in memory, on a disk whose power can be cut.
 *
 * Thread:    one loop (a simulated one).
 * Ownership: the disk outlives its files.
 * Errors:    after the cut every operation fails with -EIO.
 *
 * A write or hole is volatile until a sync that began after its completion has ended. A power cut
 * takes, for each sector of 512 bytes, any version since the last such sync; outside the data area
 * it may also tear between two versions at any byte.
 */
#ifndef TESTS_UNIT_LAYER_DISK_H
#define TESTS_UNIT_LAYER_DISK_H

#include "base/random.h"
#include "block/layer_io.h"

struct layer_disk;

/* delay_percent: how many operations complete later instead of at once. */
struct layer_disk *layer_disk_new(uint64_t seed, unsigned delay_percent);
void layer_disk_free(struct layer_disk *disk);
const struct layer_backend *layer_disk_backend(struct layer_disk *disk);
/* Cuts at the n-th write, hole or sync from now on, before it does anything; 0: never. */
void layer_disk_cut_at(struct layer_disk *disk, uint64_t n);
bool layer_disk_is_cut(const struct layer_disk *disk);
uint64_t layer_disk_operations(const struct layer_disk *disk);
/* What is left after the cut; the disk works again. */
void layer_disk_power_on(struct layer_disk *disk);
/* What is left after the cut, as a disk of its own. The old one works again, for those who are to end as if nothing had been: what they do
 * is not on the new one. */
struct layer_disk *layer_disk_survivor(struct layer_disk *disk);
/* Bytes written and not punched, in pages of 4 KiB. */
uint64_t layer_disk_used(const struct layer_disk *disk, const char *path);
/* Whether the page occupies space. */
bool layer_disk_has(const struct layer_disk *disk, const char *path, uint64_t offset);
/* Damages or looks at what is there. */
void layer_disk_peek(struct layer_disk *disk, const char *path, uint64_t offset, void *data,
                     size_t len);
void layer_disk_poke(struct layer_disk *disk, const char *path, uint64_t offset, const void *data,
                     size_t len);
void layer_disk_set_size(struct layer_disk *disk, const char *path, uint64_t size_bytes);
/* Everything that is done to the file from now on takes about so long; 0: as all others. Nothing when there is no such file. */
void layer_disk_slow(struct layer_disk *disk, const char *path, uint64_t ns);
/* 0 or negative errno; the new name is durable at once. */
int layer_disk_rename(struct layer_disk *disk, const char *from, const char *to);
bool layer_disk_exists(const struct layer_disk *disk, const char *path);
/* The next operations of that kind fail. */
void layer_disk_fail(struct layer_disk *disk, enum layer_io_op op, unsigned count, int status);

#endif
